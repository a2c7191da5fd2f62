"""How well ComBat removes planted site effects from subjects it has not seen, and keeps a planted covariate.

    python benchmarks/validation/combat.py [--seeds 20] [--repeats 30] [--out FOLDER]

Cohorts are drawn: features with a slope on age, and a shift and a scale of each of three sites. Estimates come from
one cohort, the measures from another, drawn anew. In ``alike`` sites have subjects of equal ages, in ``confounded``
one site has older ones. Each is measured with age kept and, for what it costs, with age not kept. Accepted when, with
age kept, the mean effect of age is within 10 % of the truth and the share of variance between sites, beyond what age
itself explains, falls to 2 % at most. Both must hold for the 5th to 95th percentile over the cohorts of all seeds; what
the seeds and the worst cohorts reach is in the record, and how many cohorts lie outside.

Nothing can remove more than chance allows: the mean of a site is known from so many subjects only, so about
(k - 1) / k (1 / fitted + 1 / unseen) of the variance remains between k sites (``left_by_chance``), two thirds of the
2 % that are allowed. Whether what remains is chance and nothing of the method is measured apart: with four times the
subjects a quarter must remain (accepted: 0.3 at most, for both kinds of cohort).
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
MORE_SUBJECTS, MOST_LEFT = 4, 0.3
"""Times the subjects, and the largest part of the share that may then be left; chance leaves a quarter."""
KEPT = "after, age kept"
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


Rows = dict[str, dict[str, list[float]]]
"""Measures by cohort and stage, then by name, one a repeat."""


def gather(seed: int, repeats: int, fitted: int, unseen: int) -> Rows:
    """The measures of cohorts drawn from one seed."""
    found: Rows = {}
    for repeat in range(repeats):
        rng = np.random.default_rng([2024, seed, repeat])
        effects = np.array([rng.normal(shift, 0.3, FEATURES) for shift in SHIFTS])
        for ages in AGES:
            training, new = (cohort(rng, effects, ages, n) for n in (fitted, unseen))
            results = {"before": new.numbers(NAMES)}
            for name, keep in ((KEPT, ["age"]), ("after, age not kept", [])):
                model = fit_combat(training, site="site", features=NAMES, keep=keep)
                results[name] = apply_combat(model, new)
            for name, values in results.items():
                for key, value in measures(new, values).items():
                    found.setdefault(f"{ages}: {name}", {}).setdefault(key, []).append(value)
    return found


def measure(seeds: int, repeats: int, fitted: int, unseen: int) -> dict[str, Any]:
    """The record: over all repeats, seed by seed, and what is left with more subjects."""
    by_seed = [gather(seed, repeats, fitted, unseen) for seed in range(seeds)]
    more = gather(seeds, repeats, MORE_SUBJECTS * fitted, MORE_SUBJECTS * unseen)
    summary = {name: {key: _summary([one[name][key] for one in by_seed]) for key in row} for name, row in more.items()}
    left = {ages: _mean_share(more, ages) / summary[f"{ages}: {KEPT}"]["share_between_sites"]["mean"] for ages in AGES}
    return {
        "benchmark": "combat",
        "seeds": seeds,
        "repeats_a_seed": repeats,
        "subjects_a_site": {"fitted": fitted, "unseen": unseen},
        "planted": {"slope": SLOPE, "shifts": SHIFTS, "scales": SCALES, "features": FEATURES, "ages": AGES},
        "left_by_chance": (len(SITES) - 1) / len(SITES) * (1 / fitted + 1 / unseen),
        "accepted": {
            "slope_error": MOST_SLOPE_ERROR,
            "share_between_sites": MOST_SHARE,
            "part_of_the_share_left_with_more_subjects": MOST_LEFT,
        },
        "measures": summary,
        "cohorts_outside": {ages: _outside(by_seed, ages) for ages in AGES},
        "more_subjects": {"times": MORE_SUBJECTS, "part_of_the_share_left": left},
        "checks": [check for ages in AGES for check in _checks(ages, summary[f"{ages}: {KEPT}"], left[ages])],
        "versions": {name: version(name) for name in ("oncoscale", "numpy")},
    }


def _mean_share(rows: Rows, ages: str) -> float:
    return float(np.mean(rows[f"{ages}: {KEPT}"]["share_between_sites"]))


def _summary(by_seed: list[list[float]]) -> dict[str, float]:
    """Over all cohorts; and of the 5th and 95th percentile of each seed, the one that lies farthest out."""
    low, median, high = np.percentile(np.concatenate(by_seed), (5, 50, 95))
    ends = np.array([np.percentile(one, (5, 95)) for one in by_seed])
    return {
        "mean": float(np.mean(by_seed)),
        "median": float(median),
        "low": float(low),
        "high": float(high),
        "lowest_of_seeds": float(ends[:, 0].min()),
        "highest_of_seeds": float(ends[:, 1].max()),
        "smallest": float(np.min(by_seed)),
        "largest": float(np.max(by_seed)),
    }


def _outside(by_seed: list[Rows], ages: str) -> dict[str, float]:
    """Part of the cohorts that single-handedly would not be accepted."""
    rows = [one[f"{ages}: {KEPT}"] for one in by_seed]
    shares = np.concatenate([row["share_between_sites"] for row in rows])
    slopes = np.concatenate([row["slope_across_sites"] for row in rows])
    return {
        "share_between_sites": float((shares > MOST_SHARE).mean()),
        "slope": float((np.abs(slopes - 1) > MOST_SLOPE_ERROR).mean()),
    }


def _checks(ages: str, row: Mapping[str, Mapping[str, float]], left: float) -> list[dict[str, Any]]:
    slopes = row["slope_across_sites"]
    judged = (
        ("covariate kept", max(abs(slopes[key] - 1) for key in ("low", "high")), MOST_SLOPE_ERROR),
        ("sites removed", row["share_between_sites"]["high"], MOST_SHARE),
        ("what is left is chance", left, MOST_LEFT),
    )
    return [
        {"id": f"{ages}: {name}", "found": found, "allowed": allowed, "passed": found <= allowed}
        for name, found, allowed in judged
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
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=30, help="cohorts a seed")
    parser.add_argument("--fitted", type=int, default=60, help="subjects of a site that the estimates come from")
    parser.add_argument("--unseen", type=int, default=200, help="subjects of a site that the measures come from")
    parser.add_argument("--out", type=Path, help="folder for combat.json and .png")
    given = parser.parse_args()
    record = measure(given.seeds, given.repeats, given.fitted, given.unseen)
    return hand_over(record, given.out, lambda path: draw(path, record))


if __name__ == "__main__":
    sys.exit(main())
