"""Every case of OSIPI's code collection, against OSIPI's own tolerances: curves through the command, the rest through
the library.

    python benchmarks/validation/osipi.py [--data FOLDER] [--out benchmarks/results]

FOLDER holds osipi-dce (OSIPI DCE-DSC-MRI code collection, commit 40984f7c). Curves that share an input function are
written as one table each and fitted by ``oncoscale curves``, delayed ones with ``--delay``. A case passes if every
parameter satisfies |found - reference| <= a + r |reference|; the record gives, for every group, the cases within
tolerance, the worst error, and the worst share of the tolerance that was used. Beside them stand the methods that are
not used and why: the linear fit, the straight line for T1, the baseline of all points, the plain convolution.
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from typer.testing import CliRunner

from oncoscale.app.bench import hand_over
from oncoscale.app.cli import app
from oncoscale.imaging.aif import PlasmaCurve, georgiou, parker, preclinical
from oncoscale.imaging.dce import extended_tofts, sample, to_concentration
from oncoscale.imaging.kinetics import fit_curves
from oncoscale.imaging.preview import linear_preview
from oncoscale.imaging.relaxation import fit_t1, linear_t1

DATA = Path(__file__).parents[2].parent / "shared" / "data"
RESULTS = Path(__file__).parents[1] / "results"
PER_100_ML = 0.01  # mL/100 mL/min in 1/min
TOLERANCE: Mapping[str, tuple[float, float]] = {
    "ktrans": (0.005, 0.1),
    "ps": (0.005, 0.1),
    "fp": (5 * PER_100_ML, 0.1),
    "ve": (0.05, 0.0),
    "vp": (0.025, 0.0),
    "delay": (1.0, 0.0),
    "r1": (0.05, 0.05),
    "concentration": (1e-5, 1e-5),
    "blood": (1e-4, 0.01),
    "delayed parker": (0.1, 0.1),
}
UNITS = {"ktrans": "1/min", "ps": "1/min", "fp": "1/min", "delay": "s", "r1": "1/s", "concentration": "mmol/L"}


@dataclass(frozen=True)
class CurveSet:
    """One file of curves. late_s: the tissue curves are shifted by that much here, as OSIPI's own tests do."""

    name: str
    file: str
    model: str
    cases: int
    parameters: tuple[str, ...]
    late_s: float = 0.0
    delay: bool = False


CURVES = (
    CurveSet("tofts", "dce_DRO_data_tofts.csv", "tofts", 25, ("ktrans", "ve")),
    CurveSet("tofts delayed", "dce_DRO_data_tofts.csv", "tofts", 25, ("ktrans", "ve"), 5.0, True),
    CurveSet("extended-tofts", "dce_DRO_data_extended_tofts.csv", "extended-tofts", 15, ("ktrans", "ve", "vp")),
    CurveSet(
        "extended-tofts delayed",
        "dce_DRO_data_extended_tofts.csv",
        "extended-tofts",
        15,
        ("ktrans", "ve", "vp"),
        5.0,
        True,
    ),
    CurveSet("patlak", "patlak_sd_0.02_delay_0.csv", "patlak", 9, ("ps", "vp")),
    CurveSet("patlak delayed", "patlak_sd_0.02_delay_5.csv", "patlak", 9, ("ps", "vp"), delay=True),
    CurveSet("2cum", "2cum_sd_0.0025_delay_0.csv", "2cum", 27, ("fp", "ps", "vp")),
    CurveSet("2cum delayed", "2cum_sd_0.0025_delay_5.csv", "2cum", 27, ("fp", "ps", "vp"), delay=True),
    CurveSet("2cxm", "2cxm_sd_0.001_delay_0.csv", "2cxm", 24, ("fp", "ps", "ve", "vp")),
    CurveSet("2cxm delayed", "2cxm_sd_0.001_delay_5.csv", "2cxm", 24, ("fp", "ps", "ve", "vp"), delay=True),
)
FLIP_ANGLES: tuple[tuple[str, str, int, float, Callable[[Mapping[str, Any]], float]], ...] = (
    ("vfa brain", "t1_brain_data.csv", 76, 1.0, lambda row: float(row["R1"])),
    ("vfa qiba", "t1_quiba_data.csv", 45, 1.0, lambda row: 1000 * float(row["R1"])),
    ("vfa prostate", "t1_prostate_data.csv", 50, 1e-3, lambda row: 1000 / float(row[" T1 nonlinear"])),
)
POPULATIONS = (
    ("parker", "ParkerAIF_ref.csv", parker, 1.0, "blood"),
    ("parker delayed", "ParkerAIF_ref_with_delay.csv", parker, 1.0, "delayed parker"),
    ("georgiou", "GeorgiouAIF_ref.csv", georgiou, 1.0, "blood"),
    ("preclinical", "preclinicalAIF_ref.csv", preclinical, 1 / 60, "blood"),
    ("preclinical delayed", "preclinicalAIF_ref_delay.csv", preclinical, 1 / 60, "blood"),
)


@dataclass(frozen=True, eq=False)
class Table:
    """Curves that share their times (s) and their input function (s, mmol/L in plasma), with their truth."""

    times_s: np.ndarray
    labels: list[str]
    curves: np.ndarray
    aif_s: np.ndarray
    aif: np.ndarray
    truth: list[dict[str, float]]


def rows_of(path: Path) -> Iterator[dict[str, Any]]:
    """Rows of one of OSIPI's files; cells of several numbers become arrays."""
    with path.open(encoding="utf-8-sig", newline="") as handle:
        for row in csv.DictReader(handle):
            yield {key: np.array(cell.split(), float) if len(cell.split()) > 2 else cell for key, cell in row.items()
                   if key != "label"} | {"label": row["label"]}  # fmt: skip


def tables_of(folder: Path, chosen: CurveSet) -> list[Table]:
    """The curves of a set, grouped by input function."""
    groups: dict[bytes, list[dict[str, Any]]] = {}
    for row in rows_of(folder / "osipi-dce" / "DCEmodels" / chosen.file):
        aif_s, aif = row.get("ta", row["t"]), row["ca"] if "ca" in row else row["cp_aif"]
        groups.setdefault(row["t"].tobytes() + aif_s.tobytes() + aif.tobytes(), []).append(
            row | {"aif_s": aif_s, "aif": aif}
        )
    return [_table(rows, chosen) for rows in groups.values()]


def _table(rows: list[dict[str, Any]], chosen: CurveSet) -> Table:
    times = rows[0]["t"]
    late = round(chosen.late_s / (times[1] - times[0]))
    curves = np.array([row["C"] if "C" in row else row["C_t"] for row in rows])
    curves = np.concatenate([np.zeros((len(curves), late)), curves[:, : len(times) - late]], axis=1)
    truth = []
    for row in rows:
        known = {name.lower(): value for name, value in row.items()}
        true = {name: float(known[name]) * (PER_100_ML if name == "fp" else 1.0) for name in chosen.parameters}
        if chosen.delay:
            true["delay"] = chosen.late_s or float(row["arterial_delay"])
        truth.append(true)
    return Table(times, [row["label"] for row in rows], curves, rows[0]["aif_s"], rows[0]["aif"], truth)


def by_command(table: Table, chosen: CurveSet, folder: Path) -> list[dict[str, float]]:
    """Fits of ``oncoscale curves``."""
    curves, aif, fits = folder / "curves.csv", folder / "aif.csv", folder / "fits.csv"
    _write(curves, ["t", *(f"c{column}" for column in range(len(table.labels)))], [table.times_s, *table.curves])
    _write(aif, ["t", "plasma"], [table.aif_s, table.aif])
    words = ["curves", curves, "--model", chosen.model, "--aif", aif, "--out", fits, "--threads", 1, "--quiet"]
    done = CliRunner().invoke(app, [str(word) for word in words] + (["--delay"] if chosen.delay else []))
    if done.exit_code:
        raise SystemExit(f"{chosen.name}: exit code {done.exit_code}: {done.output}")
    with fits.open(encoding="utf-8") as handle:
        return [{name: float(row[name] or "nan") for name in row if name not in ("curve", "flags")}
                for row in csv.DictReader(handle)]  # fmt: skip


def _write(path: Path, header: list[str], columns: list[np.ndarray]) -> None:
    with path.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(header)
        writer.writerows(np.stack(columns, axis=1).tolist())


def compared(found: list[dict[str, float]], truth: list[dict[str, float]]) -> dict[str, Any]:
    """Cases within tolerance, worst errors and worst shares of the tolerance; a missing value counts as a miss."""
    worst: dict[str, dict[str, float]] = {}
    within = 0
    for ours, true in zip(found, truth, strict=True):
        shares = []
        for name, reference in true.items():
            absolute, relative = TOLERANCE[name]
            error = abs(ours[name] - reference)
            share = error / (absolute + relative * abs(reference))
            shares.append(share if np.isfinite(share) else np.inf)
            row = worst.setdefault(name, {"error": 0.0, "share_of_tolerance": 0.0})
            row["error"], row["share_of_tolerance"] = (
                max(row["error"], error),
                max(row["share_of_tolerance"], shares[-1]),
            )
        within += max(shares) <= 1.0
    return {"cases": len(truth), "within_tolerance": within, "worst": worst}


def curve_set(folder: Path, chosen: CurveSet) -> dict[str, Any]:
    """One set of curves through the command."""
    found: list[dict[str, float]] = []
    truth: list[dict[str, float]] = []
    for table in tables_of(folder, chosen):
        with tempfile.TemporaryDirectory() as scratch:
            found += by_command(table, chosen, Path(scratch))
        truth += table.truth
    return compared(found, truth) | {"expected_cases": chosen.cases}


def flip_angles(
    folder: Path, file: str, to_s: float, reference: Callable[[Mapping[str, Any]], float]
) -> dict[str, Any]:
    """R1 of every voxel by the nonlinear fit."""
    found, truth = [], []
    for row in rows_of(folder / "osipi-dce" / "T1_mapping" / file):
        fit = fit_t1(row["s"], row["FA"], to_s * row["TR"], plausible_s=(0.0, np.inf))
        found.append({"r1": float(1 / fit.t1[0])})
        truth.append({"r1": reference(row)})
    return compared(found, truth)


def concentrations(folder: Path, *, all_points: bool = False) -> dict[str, Any]:
    """Concentration of every curve; the error is the worst frame's."""
    within, rows, worst, share = 0, 0, 0.0, 0.0
    for row in rows_of(folder / "osipi-dce" / "SI_to_Conc" / "SI2Conc_data.csv"):
        chain = {"fa_deg": float(row["FA"]), "tr_s": float(row["TR"]), "relaxivity": float(row["r1"])}
        count = int(float(row["numbaselinepts"]))
        ours = to_concentration(row["s"], float(row["T1base"]), **chain, baseline=count, all_points=all_points).values[
            0
        ]
        errors = np.abs(ours - row["conc"])
        shares = errors / (1e-5 + 1e-5 * np.abs(row["conc"]))
        worst, share = max(worst, float(errors.max())), max(share, float(shares.max()))
        within, rows = within + bool(shares.max() <= 1.0), rows + 1
    return {"cases": rows, "within_tolerance": within,
            "worst": {"concentration": {"error": worst, "share_of_tolerance": share}}}  # fmt: skip


def population(
    folder: Path, file: str, function: Callable[[Any], np.ndarray], to_min: float, kind: str
) -> dict[str, Any]:
    """A population curve at every tabulated point; a case is one label of the table."""
    absolute, relative = TOLERANCE[kind]
    shares: dict[str, float] = {}
    worst = 0.0
    with (folder / "osipi-dce" / "PopulationAIF" / file).open(encoding="utf-8-sig", newline="") as handle:
        rows = list(csv.DictReader(handle))
    minutes = np.array([float(row["time"]) * to_min - float(row.get("delay") or 0) / 60 for row in rows])
    reference = np.array([float(row["Cb"]) for row in rows])
    errors = np.abs(function(minutes) - reference)
    for row, share in zip(rows, errors / (absolute + relative * np.abs(reference))):
        shares[row["label"]] = max(shares.get(row["label"], 0.0), float(share))
    worst = float(errors.max())
    within = sum(share <= 1.0 for share in shares.values())
    return {"cases": len(shares), "points": len(rows), "within_tolerance": within,
            "worst": {"blood": {"error": worst, "share_of_tolerance": max(shares.values())}}}  # fmt: skip


def convolution_bias() -> float:
    """Error of vp, without noise, of a fit whose model is numpy's convolution on a grid of 5 s."""
    times = np.arange(60) * 5.0
    plasma = PlasmaCurve(times, parker((times - 15.0) / 60.0) / 0.58)
    curve = extended_tofts(times, plasma, 0.2, 0.3, 0.05)
    minutes = times / 60.0
    best = (np.inf, 0.0)
    for kep in np.geomspace(0.05, 5.0, 400):
        x = np.convolve(plasma.concentration, np.exp(-kep * minutes))[: len(minutes)] * minutes[1]
        columns = np.stack([x, plasma.concentration], axis=1)
        amplitudes, *_ = np.linalg.lstsq(columns, curve, rcond=None)
        rss = float(((curve - columns @ amplitudes) ** 2).sum())
        best = min(best, (rss, float(amplitudes[1])))
    exact = fit_curves(times, curve, "extended-tofts", plasma).parameters["vp"][0]
    assert abs(exact - 0.05) < 1e-7, "the exact convolution must return the truth"
    return abs(best[1] - 0.05)


def straight_line_misses(folder: Path) -> int:
    """Prostate voxels outside OSIPI's tolerance if T1 comes from the straight line alone."""
    found, truth = [], []
    for row in rows_of(folder / "osipi-dce" / "T1_mapping" / "t1_prostate_data.csv"):
        found.append({"r1": float(1 / linear_t1(row["s"], row["FA"], 1e-3 * row["TR"][0])[0])})
        truth.append({"r1": 1000 / float(row[" T1 nonlinear"])})
    result = compared(found, truth)
    return int(result["cases"] - result["within_tolerance"])


def linear_fit_misses(folder: Path) -> int:
    """Curves of the two-compartment file whose Ktrans = E Fp the linear extended Tofts fit misses."""
    chosen = next(one for one in CURVES if one.name == "2cxm")
    misses = 0
    for table in tables_of(folder, chosen):
        plasma = PlasmaCurve(table.aif_s, table.aif)
        assert sample(plasma, table.times_s).plasma.max() > 0
        linear = linear_preview(table.times_s, table.curves, plasma)["ktrans"]
        for value, true in zip(linear, table.truth):
            reference = true["fp"] * true["ps"] / (true["fp"] + true["ps"])
            misses += abs(value - reference) > 0.005 + 0.1 * reference
    return misses


def measure(folder: Path) -> dict[str, Any]:
    """The record of everything."""
    groups = {chosen.name: curve_set(folder, chosen) for chosen in CURVES}
    for name, file, count, to_s, reference in FLIP_ANGLES:
        groups[name] = flip_angles(folder, file, to_s, reference) | {"expected_cases": count}
    groups["signal to concentration"] = concentrations(folder) | {"expected_cases": 5}
    for name, file, function, to_min, kind in POPULATIONS:
        groups[f"input function {name}"] = population(folder, file, function, to_min, kind)
    return {
        "name": "osipi",
        "unit": "cases within OSIPI's tolerance",
        "groups": groups,
        "passed": all(
            row["within_tolerance"] == row["cases"] == row.get("expected_cases", row["cases"])
            for row in groups.values()
        ),
        "cases": sum(row["cases"] for row in groups.values()),
        "within_tolerance": sum(row["within_tolerance"] for row in groups.values()),
        "tolerance": {name: {"absolute": a, "relative": r, "unit": UNITS.get(name, "1")}
                      for name, (a, r) in TOLERANCE.items()},
        "why_other_methods_are_not_used": {
            "largest_concentration_error_of_a_baseline_of_all_points": concentrations(folder, all_points=True)["worst"][
                "concentration"
            ]["error"],
            "prostate_voxels_missed_by_the_straight_line": straight_line_misses(folder),
            "error_of_vp_by_a_plain_convolution": convolution_bias(),
            "two_compartment_curves_missed_by_the_linear_fit": linear_fit_misses(folder),
        },
        "versions": {name: version(name) for name in ("oncoscale", "numpy", "numba")},
    }  # fmt: skip


def draw(record: Mapping[str, Any], path: Path) -> None:
    """Worst share of the tolerance of every group and parameter."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    bars = [
        (f"{group}: {name}", row["share_of_tolerance"])
        for group, result in record["groups"].items()
        for name, row in result["worst"].items()
    ][::-1]
    figure, axes = pyplot.subplots(figsize=(7, 0.22 * len(bars) + 1), layout="constrained")
    axes.barh([name for name, _ in bars], [max(share, 1e-13) for _, share in bars], color="#31688e")
    axes.axvline(1.0, color="#c0392b")
    axes.set_xscale("log")
    axes.set_xlim(1e-13, 3)
    axes.set_xlabel("largest error, as a share of OSIPI's tolerance (line: the tolerance)")
    axes.set_title(f"OSIPI: {record['within_tolerance']} of {record['cases']} cases within tolerance")
    axes.tick_params(labelsize=7)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def main() -> int:
    """Measure, print the record, write it and its picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder that holds osipi-dce")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the record and its picture")
    chosen = parser.parse_args()
    if not (chosen.data / "osipi-dce").is_dir():
        sys.stderr.write(f"no osipi-dce in {chosen.data}: give its folder with --data\n")
        return 2
    record = measure(chosen.data)
    return hand_over(record, chosen.out, lambda path: draw(record, path))


if __name__ == "__main__":
    sys.exit(main())
