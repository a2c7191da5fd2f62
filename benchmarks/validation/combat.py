"""How well ComBat removes planted site effects from subjects it has not seen, and keeps a planted covariate.

    python benchmarks/validation/combat.py [--repeats 200] [--out FOLDER]

Cohorts are drawn: features with a slope on age, and a shift and a scale of each of three sites. Estimates come from
one cohort, the measures from another, drawn anew. In ``alike`` sites have subjects of equal ages, in ``confounded``
one site has older ones. Each is measured with age kept and, for what it costs, with age not kept. Accepted when, with
age kept, the mean effect of age is within 10 % of the truth and the share of variance between sites, beyond what age
itself explains, falls to 2 % at most. Both must hold for the 5th to 95th percentile over repeats. Nothing can remove
more than chance allows: the mean of a site is known from so many subjects only, so about
(k - 1) / k (1 / fitted + 1 / unseen) of the variance remains between k sites (``left_by_chance``).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oncoscale.app.bench import hand_over
from oncoscale.imaging.harmonise import Table, apply_combat, fit_combat, site_share

SITES = ("a", "b", "c")
SHIFTS, SCALES = (0.0, 2.0, -1.0), (1.0, 1.7, 0.6)
AGES = {"alike": ((20, 80), (20, 80), (20, 80)), "confounded": ((20, 60), (40, 80), (20, 70))}
SLOPE, FEATURES = 0.05, 30
MOST_SLOPE_ERROR, MOST_SHARE = 0.10, 0.02
NAMES = tuple(f"feature{n}" for n in range(FEATURES))


def cohort(rng: np.random.Generator, site_effects: NDArray[np.float64], ages: str, subjects: int) -> Table:
    """``subjects`` of each site; site_effects (sites, features) in standard deviations of the noise."""
    sites = np.repeat(np.arange(len(SITES)), subjects)
    age = np.concatenate([rng.uniform(*span, subjects) for span in AGES[ages]])
    noise = rng.normal(0, 1, (len(sites), FEATURES)) * np.array(SCALES)[sites, None]
    values = 10 + SLOPE * age[:, None] + site_effects[sites] + noise
    rows = [(SITES[site], repr(float(years)), *map(repr, row.tolist())) for site, years, row in zip(sites, age, values)]
    return Table(("site", "age", *NAMES), tuple(rows))


def measures(table: Table, values: NDArray[np.float64]) -> dict[str, float]:
    """What is left of the sites and of age: shares and ratios of spreads are of residuals from the true slope."""
    sites, age = np.array(table.column("site")), table.numbers(["age"])[:, 0]
    rest = values - SLOPE * age[:, None]
    spread = np.array([rest[sites == name].std(axis=0) for name in SITES])
    centred = [np.array(values[sites == name] - values[sites == name].mean(axis=0)) for name in SITES]
    years = np.concatenate([age[sites == name] - age[sites == name].mean() for name in SITES])
    slope = (years @ np.concatenate(centred)) / (years @ years)
    across = np.polyfit(age, values, 1)[0]
    return {
        "share_between_sites": float(site_share(rest, sites.tolist()).mean()),
        "largest_to_smallest_spread": float((spread.max(axis=0) / spread.min(axis=0)).mean()),
        "slope_within_sites": float(slope.mean() / SLOPE),
        "slope_across_sites": float(across.mean() / SLOPE),
    }


def measure(repeats: int, fitted: int, unseen: int) -> dict[str, Any]:
    """The record: median and 5th to 95th percentile over repeats."""
    found: dict[str, dict[str, list[float]]] = {}
    for repeat in range(repeats):
        rng = np.random.default_rng([2024, repeat])
        effects = np.array([rng.normal(shift, 0.3, FEATURES) for shift in SHIFTS])
        for ages in AGES:
            training, new = (cohort(rng, effects, ages, n) for n in (fitted, unseen))
            results = {"before": new.numbers(NAMES)}
            for name, keep in (("age kept", ["age"]), ("age not kept", [])):
                model = fit_combat(training, site="site", features=NAMES, keep=keep)
                results[f"after, {name}"] = apply_combat(model, new)
            for name, values in results.items():
                for key, value in measures(new, values).items():
                    found.setdefault(f"{ages}: {name}", {}).setdefault(key, []).append(value)
    summary = {name: {key: _quantiles(values) for key, values in row.items()} for name, row in found.items()}
    return {
        "benchmark": "combat",
        "repeats": repeats,
        "subjects_a_site": {"fitted": fitted, "unseen": unseen},
        "planted": {"slope": SLOPE, "shifts": SHIFTS, "scales": SCALES, "features": FEATURES, "ages": AGES},
        "left_by_chance": (len(SITES) - 1) / len(SITES) * (1 / fitted + 1 / unseen),
        "accepted": {"slope_error": MOST_SLOPE_ERROR, "share_between_sites": MOST_SHARE},
        "measures": summary,
        "checks": [check for ages in AGES for check in _checks(ages, summary[f"{ages}: after, age kept"])],
        "versions": {name: version(name) for name in ("oncoscale", "numpy")},
    }


def _quantiles(values: list[float]) -> dict[str, float]:
    low, median, high = np.percentile(values, (5, 50, 95))
    return {"median": float(median), "low": float(low), "high": float(high)}


def _checks(ages: str, row: Mapping[str, Mapping[str, float]]) -> list[dict[str, Any]]:
    slopes = row["slope_across_sites"]
    worst = max(abs(slopes[key] - 1) for key in ("low", "high"))
    return [
        {"id": f"{ages}: covariate kept", "passed": worst <= MOST_SLOPE_ERROR},
        {"id": f"{ages}: sites removed", "passed": row["share_between_sites"]["high"] <= MOST_SHARE},
    ]


def draw(path: Path, record: Mapping[str, Any]) -> None:
    """Median and 5th to 95th percentile of each measure, before and after."""
    from matplotlib.figure import Figure

    titles = {
        "share_between_sites": "variance between sites",
        "largest_to_smallest_spread": "largest / smallest spread of a site",
        "slope_across_sites": "effect of age / truth",
    }
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    names = list(record["measures"])
    for axes, (key, title) in zip(figure.subplots(1, 3, sharey=True), titles.items()):
        for place, name in enumerate(names):
            row = record["measures"][name][key]
            axes.plot([row["low"], row["high"]], [place, place], color="tab:blue", lw=3, alpha=0.5)
            axes.plot(row["median"], place, "o", color="tab:blue")
        axes.set_title(title, fontsize=10)
        axes.set_yticks(range(len(names)), names, fontsize=8)
        axes.invert_yaxis()
        if key == "slope_across_sites":
            axes.axvspan(1 - MOST_SLOPE_ERROR, 1 + MOST_SLOPE_ERROR, color="tab:green", alpha=0.15)
        elif key == "share_between_sites":
            axes.axvline(MOST_SHARE, color="tab:green", lw=1)
    figure.savefig(path, dpi=120)


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--fitted", type=int, default=60, help="subjects of a site that the estimates come from")
    parser.add_argument("--unseen", type=int, default=200, help="subjects of a site that the measures come from")
    parser.add_argument("--out", type=Path, help="folder for combat.json and .png")
    given = parser.parse_args()
    record = measure(given.repeats, given.fitted, given.unseen)
    return hand_over(record, given.out, lambda path: draw(path, record))


if __name__ == "__main__":
    sys.exit(main())
