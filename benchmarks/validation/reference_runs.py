"""The reference runs of the original program, run again: every quantity they report, at every time they report it
(162 at six times and in the output; seven of them every hour).

    python benchmarks/validation/reference_runs.py [--cases F01 L05 …] [--seeds 8] [--runs RUNS.json] [--out FOLDER]

17 elements, 336 hours, in mode ``parity``. Random streams differ from the original's, so means over seeds are compared:
ours must lie within 2 % of theirs, or within three standard errors of the difference, whichever is larger
[project specification, cells §16.3]; a Welch test is the second view. Hours follow from each other, so what is
compared every hour is counted apart. One JSON record goes to standard output. With
thousands of comparisons some lie outside by chance; what a rule done wrong would do is to put one quantity outside in
many cases, so the record counts both.

``--runs`` keeps the runs in a file (or reads them from it), so that they can be compared again without running.
"""

from __future__ import annotations

import argparse
import csv
import json
import platform
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from oncoscale.agents.ground import drug_at
from oncoscale.agents.living import LivingColony
from oncoscale.agents.neuroblast import NEUROBLAST, SCHWANN
from oncoscale.agents.observe import counts_of
from oncoscale.agents.primage import WIRE, run_elements

HOURS = (0, 1, 24, 72, 168, 336)
COUNTS = ("NBl", "NBa", "NBn", "SCl", "SCa", "SCn")
FLAGS = ("hypoxia", "nutrient", "ATP", "DNA_damage", "DNA_unreplicated", "mobile")
SPECIES = {"Bcl2_Bclxl": "Bcl2", "BAK_BAX": "BAK"} | {
    name: name
    for name in (
        "telo", "ALT", "MYCN", "MAPK_RAS", "JAB1", "CHK1", "ID2", "IAP2", "HIF", "BNIP3", "VEGF", "p53", "p73", "p21",
        "p27", "CAS", "CDS1", "CDC25C",
    )
}  # fmt: skip
UNCROWDED = 2
"""Cells within the contact radius, itself counted, up to which a cell is not inhibited."""

PLACES = ("rms_coord_over_Rt", "frac_outside_initial_cube", "mean_overlap", "max_overlap")
LEAST_ITERATIONS = 2
"""Of the original's relaxation in any hour, also without cells (ours then takes none)."""

RELATIVE, STANDARD_ERRORS = 0.02, 3.0
ALPHA = 0.01

Values = dict[str, float]
Samples = dict[tuple[str, str, str], list[float]]
"""(case, time, quantity) to one value a seed. Time is an hour, or ``output`` for the program's own output."""


def seen(colony: LivingColony, before: Mapping[str, float]) -> Values:
    """All quantities of one colony, as the reference defines them.

    before  hour in which it was last seen, iterations since then, and iterations of this hour

    What is read off cells is 0 without any, as the original's table has it.
    """
    cells, oxygen = colony.cells, colony.oxygen
    radius = colony.half_edge
    where = np.column_stack([cells["x"], cells["y"], cells["z"]])
    by_class = [volumes[1] for volumes in colony.volumes]
    found = dict(zip(COUNTS, map(float, counts_of(cells)), strict=True))
    found |= {
        "O2": oxygen.mean if oxygen else colony.given_oxygen,
        "P_O2v": oxygen.supply if oxygen else 0.0,
        "ang_signal": float(oxygen.signal) if oxygen else 0.0,
        "ecm": float(colony.matrix.mean()),
        "matrix_dummy": colony.elsewhere,
        "grid_dim_x": float(colony.matrix.shape[0]),
        "theta_sc": colony.traits.schwann_fraction,
        "histology": float(colony.traits.histology),
        "telo_class": float(colony.traits.telomere_class),
        "chemo_active": float(colony.hour > 0 and any(drug_at(colony.drugs, colony.hour - 1))),
        "total_cells": float(len(cells)),
        **dict.fromkeys(PLACES, 0.0),
    }
    if len(cells):
        found |= {
            "rms_coord_over_Rt": float(np.sqrt(np.mean(where**2)) / radius),
            "frac_outside_initial_cube": float(np.mean(np.abs(where).max(axis=1) > radius)),
            "mean_overlap": float(cells["overlap"].mean()),
            "max_overlap": float(cells["overlap"].max()),
        }
    if colony.hour:
        found |= {
            "tumour_volume": by_class[-1],
            "volume_ratio": by_class[-1] / by_class[0],
            "force_resolution_steps": before["this"] - 1.0,
            "mean_iters_since_last": before["since"] / (colony.hour - before["hour"]),
        }
    alive = ~(cells["apop"] | cells["necro"])
    for prefix, kind in (("NB", NEUROBLAST), ("SC", SCHWANN)):
        of_kind = cells[alive & (cells["kind"] == kind)]
        if len(of_kind):
            found |= {f"{prefix}_{name}": value for name, value in _of_living(of_kind, prefix)}
    if colony.hour == 0:
        found |= _species_at_start(cells[alive & (cells["kind"] == NEUROBLAST)])
    return found


def _species_at_start(cells: NDArray[Any]) -> Values:
    """How likely activities make the species that the original has drawn before the first hour, and we have not.

    ASSUMED: their expectation may stand for them. None is read before it is drawn anew.
    """
    if not len(cells):
        return {}
    return {
        f"NB_sp_{name}_mean": float(np.mean(np.prod([cells[activity] for activity in activities], axis=0)))
        for name, activities in DRAWN_AT_START.items()
    }


DRAWN_AT_START = {
    "MYCN": ("MYCN_fn",),
    "MAPK_RAS": ("MAPK_RAS_fn",),
    "JAB1": ("JAB1_fn",),
    "ID2": ("MYCN_fn", "ID2_fn"),
    "Bcl2_Bclxl": ("Bcl2_fn",),
    "CDC25C": ("CDC25C_fn",),
}
"""The six that can be on without hypoxia and damage [project specification, cells §5]."""


def _of_living(cells: NDArray[Any], prefix: str) -> Iterator[tuple[str, float]]:
    means = {"telo": "telo_count", "apop_signal": "apop_signal", "necro_signal": "necro_signal"}
    if prefix == "NB":
        means["degdiff"] = "degdiff"
        yield from ((f"sp_{name}_mean", float(cells[field].mean())) for name, field in SPECIES.items())
    for name, variable in {**means, "neighbours": "neighbours"}.items():
        yield f"{name}_mean", float(cells[variable].mean())
        yield f"{name}_sd", float(cells[variable].std())
    for name in (*FLAGS, "necro_critical", "cycle"):
        yield f"{name}_mean", float(cells[name].mean())
    yield "frac_uninhibited", float(np.mean(cells["neighbours"] <= UNCROWDED))
    for signals in range(3):
        yield f"frac_apop_signal_{signals}", float(np.mean(cells["apop_signal"] == signals))
    for hour in range(24):
        yield f"cycle_{hour}", float(np.mean(cells["cycle"] == hour))


HOURLY = (*COUNTS, "force_resolution_steps")
"""What the original also reports every hour."""


class Observer:
    """Sees one colony at HOURS, and HOURLY in between."""

    def __init__(self) -> None:
        self.values: dict[str, Values] = {}
        self._before: dict[str, float] = {"hour": 0, "since": 0, "this": 0}
        self._iterations = 0

    def __call__(self, colony: LivingColony) -> None:
        if colony.hour:
            this = max(LEAST_ITERATIONS, colony.iterations - self._iterations)
            self._before |= {"this": this, "since": self._before["since"] + this}
            self._iterations = colony.iterations
        if colony.hour in HOURS:
            self.values[str(colony.hour)] = seen(colony, self._before)
            self._before |= {"hour": colony.hour, "since": 0}
        else:
            counts = (*map(float, counts_of(colony.cells)), self._before["this"] - 1.0)
            self.values[str(colony.hour)] = dict(zip(HOURLY, counts, strict=True))


def run(document: Mapping[str, Any], seed: int) -> dict[str, Values]:
    """One run: time to quantities, the program's own output last."""
    given = {**document, "config": {**document["config"], "seed": seed}}
    observer = Observer()
    ((output, _),) = run_elements([given], mode="parity", threads=1, watch=observer)
    primage = dict(output["primage"])
    wire = zip(WIRE, primage.pop("cellularity"), strict=True)
    return {**observer.values, "output": primage | {f"cellularity_wire_{name}": value for name, value in wire}}


def seed_of(case: str, number: int) -> int:
    """A seed of its own for each run: with one seed, cases that start alike would share their first cells."""
    return 1000 * (crc32(case.encode()) % 10**6) + number


def samples_of(runs: Mapping[str, Sequence[Mapping[str, Values]]]) -> Samples:
    """Runs by case as samples by case, time and quantity."""
    samples: Samples = defaultdict(list)
    for case, seeds in runs.items():
        for one in seeds:
            for time, values in one.items():
                for quantity, value in values.items():
                    samples[case, time, quantity].append(float(value))
    return samples


def reference_samples(folder: Path) -> Samples:
    """The original's runs."""
    samples: Samples = defaultdict(list)
    for name, fixed in (("checkpoints_by_seed.csv", None), ("primage_output_by_seed.csv", "output")):
        with (folder / name).open(newline="", encoding="utf-8") as lines:
            for row in csv.DictReader(lines):
                time = fixed or str(int(float(row["t"])))
                for quantity, text in row.items():
                    if quantity not in ("case", "seed", "t") and text not in ("", "nan"):
                        samples[row["case"], time, quantity].append(float(text))
    return samples


@dataclass(frozen=True)
class Moments:
    """Of one quantity over seeds: their number, mean and standard deviation."""

    number: int
    mean: float
    sd: float


def moments_of(values: Sequence[float]) -> Moments:
    """Standard deviation with one degree of freedom less; none for a single value."""
    return Moments(len(values), float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0)


def hourly_moments(folder: Path) -> dict[tuple[str, str, str], Moments]:
    """The original's hours, those left out that ``reference_samples`` has."""
    found = {}
    with (folder / "hourly_counts_mean_sd.csv").open(newline="", encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            if int(row["t"]) not in HOURS:
                for quantity in HOURLY:
                    numbers = Moments(int(row["n"]), float(row[f"{quantity}_mean"]), float(row[f"{quantity}_sd"]))
                    found[row["case"], row["t"], quantity] = numbers
    return found


def compare(ours: Samples, theirs: Samples, cases: Sequence[str]) -> tuple[list[dict[str, Any]], list[str]]:
    """A row for each quantity that both report, and the names of those that we lack."""
    rows, lacking = [], set()
    for key, reference in theirs.items():
        case, _, quantity = key
        if case not in cases:
            continue
        if key not in ours:
            if any(name == quantity for _, _, name in ours):
                continue  # nobody left alive in our runs
            lacking.add(quantity)
            continue
        rows.append(_row(key, moments_of(ours[key]), moments_of(reference)))
    return rows, sorted(lacking)


def compare_hours(
    ours: Samples, theirs: Mapping[tuple[str, str, str], Moments], cases: Sequence[str]
) -> list[dict[str, Any]]:
    """A row for each quantity of HOURLY at each hour between HOURS."""
    return [_row(key, moments_of(ours[key]), numbers) for key, numbers in theirs.items() if key[0] in cases]


def _row(key: tuple[str, str, str], ours: Moments, theirs: Moments) -> dict[str, Any]:
    return dict(zip(("case", "time", "quantity"), key, strict=True)) | compared(ours, theirs)


def compared(a: Moments, b: Moments) -> dict[str, Any]:
    """Our moments beside theirs, and whether they agree."""
    error = float(np.sqrt(a.sd**2 / a.number + b.sd**2 / b.number))
    difference = a.mean - b.mean
    allowed = max(RELATIVE * abs(b.mean), STANDARD_ERRORS * error, ROUNDING * max(1.0, abs(b.mean)))
    numbers = (a.mean, a.sd, a.number, b.mean, b.sd, b.number)
    testable = error > 0 and min(a.number, b.number) > 1
    welch = float(stats.ttest_ind_from_stats(*numbers, equal_var=False).pvalue) if testable else None
    return {
        "ours": a.mean, "ours_sd": a.sd, "ours_n": a.number,
        "theirs": b.mean, "theirs_sd": b.sd, "theirs_n": b.number,
        "z": difference / error if error > 0 else None, "p": welch, "within": bool(abs(difference) <= allowed),
    }  # fmt: skip


ROUNDING = 1e-6
"""The reference is in single precision."""


def hours_in_short(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Of the comparisons at every hour: how many, how many outside, and by quantity the cases that are outside most."""
    outside = [row for row in rows if not row["within"]]
    by_quantity = {
        quantity: Counter(row["case"] for row in outside if row["quantity"] == quantity).most_common(3)
        for quantity in HOURLY
    }
    return {
        "comparisons": len(rows),
        "outside": len(outside),
        "outside_share": len(outside) / max(1, len(rows)),
        "expected_by_chance": float(sum(_chance(row) for row in rows)),
        "hours_outside_by_quantity_and_case": by_quantity,
    }


def record_of(
    rows: Sequence[Mapping[str, Any]], lacking: Sequence[str], seeds: int, hours: Sequence[Mapping[str, Any]] = ()
) -> dict[str, Any]:
    """The JSON record."""
    outside = [row for row in rows if not row["within"]]
    tested = [row for row in rows if row["p"] is not None]
    limit = ALPHA / max(1, len(tested))
    by_quantity = defaultdict(list)
    for row in rows:
        by_quantity[row["quantity"]].append(row)
    worst = sorted(
        (
            {
                "quantity": name,
                "comparisons": len(group),
                "outside": sum(not row["within"] for row in group),
                "mean_z": float(np.mean([row["z"] for row in group if row["z"] is not None] or [0.0])),
            }
            for name, group in by_quantity.items()
        ),
        key=lambda entry: (-entry["outside"], -abs(entry["mean_z"])),
    )
    return {
        "name": "reference-runs",
        "unit": "means over seeds within 2 % or three standard errors",
        "cases": sorted({row["case"] for row in rows}),
        "seeds": seeds,
        "quantities": len(by_quantity),
        "not_compared": {"lacking": list(lacking)},
        "by_expectation": [f"NB_sp_{name}_mean at hour 0" for name in DRAWN_AT_START],
        "comparisons": len(rows),
        "outside": len(outside),
        "outside_share": len(outside) / len(rows),
        "expected_by_chance": float(sum(_chance(row) for row in rows)),
        "welch": {"tests": len(tested), "limit_of_p": limit, "below": sum(row["p"] < limit for row in tested)},
        "hourly": hours_in_short(hours),
        "by_quantity": worst,
        "rows_outside": outside,
        "key_rows": [row for row in rows if _is_key(row)],
        "versions": {name: version(name) for name in ("oncoscale", "numpy", "scipy", "numba")},
        "python": platform.python_version(),
    }


def _chance(row: Mapping[str, Any]) -> float:
    """Probability that equal means lie outside: Student's law beyond what is allowed, degrees of freedom as Welch."""
    a, b = row["ours_sd"] ** 2 / row["ours_n"], row["theirs_sd"] ** 2 / row["theirs_n"]
    if a + b == 0 or min(row["ours_n"], row["theirs_n"]) < 2:
        return 0.0
    freedom = (a + b) ** 2 / (a**2 / (row["ours_n"] - 1) + b**2 / (row["theirs_n"] - 1))
    allowed = max(STANDARD_ERRORS, RELATIVE * abs(row["theirs"]) / np.sqrt(a + b))
    return float(2 * stats.t.sf(allowed, freedom))


def _is_key(row: Mapping[str, Any]) -> bool:
    return row["time"] == "336" and row["quantity"] in ("NBl", "SCl", "volume_ratio", "NB_telo_mean")


def draw(path: Path, ours: Samples, theirs: Samples, rows: Sequence[Mapping[str, Any]]) -> None:
    """Distributions over seeds beside the original's, and all differences in standard errors."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    cases = sorted({row["case"] for row in rows})
    panels = (("NBl", "living neuroblasts"), ("SCl", "living Schwann cells"), ("volume_ratio", "volume ratio"))
    figure, axes = plt.subplots(1, 4, figsize=(17, 6), gridspec_kw={"width_ratios": (2, 2, 2, 1.6)})
    for panel, (quantity, title) in zip(axes[:3], panels, strict=True):
        for place, case in enumerate(cases):
            for shift, samples, colour in ((0.16, theirs, "#888888"), (-0.16, ours, "#c44e52")):
                values = samples.get((case, "336", quantity), [])
                panel.plot(values, np.full(len(values), place + shift), ".", color=colour, ms=5)
        panel.set(title=f"{title}, 336 h", yticks=range(len(cases)), yticklabels=[])
        panel.invert_yaxis()
        panel.grid(axis="y", alpha=0.2)
    axes[0].set_yticklabels(cases, fontsize=8)
    axes[0].plot([], [], ".", color="#888888", label="original")
    axes[0].plot([], [], ".", color="#c44e52", label="oncoscale")
    axes[0].legend(frameon=False)
    z = np.array([row["z"] for row in rows if row["z"] is not None])
    edges = np.linspace(-5, 5, 41)
    axes[3].hist(np.clip(z, -5, 5), edges, density=True, color="#c44e52", alpha=0.6)
    axes[3].plot(edges, stats.t.pdf(edges, 14), "k-", lw=1, label="Student, 14 degrees")
    axes[3].set(title=f"all {len(z)} differences", xlabel="standard errors")
    axes[3].legend(frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _runs(arguments: argparse.Namespace, documents: Mapping[str, Any]) -> dict[str, list[dict[str, Values]]]:
    kept = arguments.runs
    runs: dict[str, list[dict[str, Values]]] = {}
    if kept is not None and kept.exists():
        runs = json.loads(kept.read_text(encoding="utf-8"))
    for case, document in documents.items():
        done = runs.setdefault(case, [])
        for number in range(len(done) + 1, arguments.seeds + 1):
            print(f"{case}, run {number}", file=sys.stderr)
            done.append(run(document, seed_of(case, number)))
            if kept is not None:
                kept.write_text(json.dumps(runs), encoding="utf-8")
    return {case: runs[case][: arguments.seeds] for case in documents}


def main() -> int:
    """Run, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = Path(__file__).parents[2].parent / "shared" / "data"
    parser.add_argument("--data", type=Path, default=data, help="folder of reference data")
    parser.add_argument("--cases", nargs="+", help="beginnings of the names of cases (default: all)")
    parser.add_argument("--seeds", type=int, default=8, help="runs of each case")
    parser.add_argument("--runs", type=Path, help="file in which runs are kept")
    parser.add_argument("--out", type=Path, help="folder for reference_runs.json and .png")
    arguments = parser.parse_args()
    folder = arguments.data / "primage-abm" / "reference"
    if not folder.is_dir():
        sys.exit(f"no reference runs at {folder}: name the folder of reference data with --data")
    documents = {
        path.stem: json.loads(path.read_text(encoding="utf-8"))
        for path in sorted((folder / "inputs").glob("*.json"))
        if not arguments.cases or path.stem.startswith(tuple(arguments.cases))
    }
    ours, theirs = samples_of(_runs(arguments, documents)), reference_samples(folder)
    rows, lacking = compare(ours, theirs, list(documents))
    hours = compare_hours(ours, hourly_moments(folder), list(documents))
    made = record_of(rows, lacking, arguments.seeds, hours)
    text = json.dumps(made, indent=1) + "\n"
    if arguments.out is not None:
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / "reference_runs.json").write_text(text, encoding="utf-8")
        draw(arguments.out / "reference_runs.png", ours, theirs, rows)
    sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
