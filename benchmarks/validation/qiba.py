"""QIBA's digital reference object through the whole chain: from its DICOM files to Ktrans and ve.

    python benchmarks/validation/qiba.py [--data FOLDER] [--dicom FOLDER] [--out benchmarks/results]

FOLDER holds qiba-dro-v6 (version 6: 1321 frames, 6 Ktrans by 5 ve in blocks of 10 x 10 pixels, rows 70 to 79 blood).
The input function is the object's own: the blood rows' mean signal, with T1 of blood 1.44 s and relaxivity
4.5 L/mmol/s, written as a table of t (s) and blood (mmol/L). Then

    oncoscale quantify DICOM --out MAPS --dce-model tofts --aif aif.csv --haematocrit 0.45 --t1 1.0 --relaxivity 4.5

makes the maps. Nothing else is needed: repetition time and flip angle come from the files, frames are ordered by
TriggerTime, the baseline ends where the table's curve begins to rise, and the test pattern in the first rows is left
out; ``--baseline`` and ``--delay`` state what must not be found. An object of another version needs its own T1,
haematocrit and model (``--dce-model extended-tofts`` where it has vp), and rows of blood in another place
(``--blood-rows``). A mask of the blood rows does as well as a table: ``--aif measured --aif-mask blood.nii.gz
--blood-t1 1.44 --delay 0``. The error of a block is the worst of its pixels.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from typer.testing import CliRunner

from oncoscale.app.bench import hand_over
from oncoscale.app.cli import app
from oncoscale.imaging.aif import PlasmaCurve
from oncoscale.imaging.dce import bolus_foot, to_concentration
from oncoscale.imaging.dicom_read import read_study
from oncoscale.imaging.preview import linear_preview
from oncoscale.imaging.study import Series

DATA = Path(__file__).parents[2].parent / "shared" / "data"
RESULTS = Path(__file__).parents[1] / "results"
KTRANS, VE = (0.01, 0.02, 0.05, 0.1, 0.2, 0.35), (0.01, 0.05, 0.1, 0.2, 0.5)
BLOCK, FIRST_ROW, BLOOD_ROWS = 10, 10, (70, 80)
TISSUE_T1_S, BLOOD_T1_S, HAEMATOCRIT, RELAXIVITY = 1.0, 1.44, 0.45, 4.5
ACCEPTED = 0.005


def blood_curve(series: Series, rows: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Times (s) and whole-blood concentration (mmol/L) of the rows' mean signal."""
    signal = series.values[:, :, rows[0] : rows[1]].reshape(len(series.values), -1).mean(axis=1, dtype=float)
    foot = bolus_foot(signal)
    if foot is None or series.times_s is None:
        raise SystemExit("no bolus in the rows of blood: state them with --blood-rows")
    chain = {"fa_deg": series.acquisition["fa_deg"].value, "tr_s": series.acquisition["tr_s"].value}
    found = to_concentration(signal, BLOOD_T1_S, **chain, relaxivity=RELAXIVITY, baseline=foot)
    return series.times_s, found.values[0]


def blocks(image: np.ndarray) -> np.ndarray:
    """(6, 5, pixels) values of a map (columns, rows, 1), one block a pair of Ktrans and ve."""
    return np.array(
        [
            [image[BLOCK * e : BLOCK * (e + 1), FIRST_ROW + BLOCK * k : FIRST_ROW + BLOCK * (k + 1), 0].ravel()
             for e in range(len(VE))]
            for k in range(len(KTRANS))
        ]
    )  # fmt: skip


def errors_of(found: np.ndarray, truth: np.ndarray) -> list[list[float]]:
    """Worst relative error of every block; infinite where a pixel has no value."""
    relative = np.abs(found / truth[..., None] - 1)
    return np.where(np.isfinite(relative), relative, np.inf).max(axis=2).tolist()


def measure(dicom: Path, blood_rows: tuple[int, int] = BLOOD_ROWS) -> dict[str, Any]:
    """The record: errors of the command, and of the linear fit, which is not used."""
    series = read_study(dicom).of_role("dynamic")[0]
    times, blood = blood_curve(series, blood_rows)
    with tempfile.TemporaryDirectory() as scratch:
        aif, maps = Path(scratch) / "aif.csv", Path(scratch) / "maps"
        with aif.open("w", encoding="utf-8", newline="") as handle:
            csv.writer(handle).writerows([("t", "blood"), *zip(times.tolist(), blood.tolist())])
        words = ["quantify", dicom, "--out", maps, "--dce-model", "tofts", "--aif", aif, "--haematocrit", HAEMATOCRIT,
                 "--t1", TISSUE_T1_S, "--relaxivity", RELAXIVITY, "--quiet", "--no-pictures"]  # fmt: skip
        done = CliRunner().invoke(app, [str(word) for word in words])
        if done.exit_code:
            raise SystemExit(f"quantify: exit code {done.exit_code}: {done.output}")
        found = {name: blocks(nibabel.load(maps / f"{name}.nii.gz").get_fdata()) for name in ("ktrans", "ve")}
        summary = json.loads((maps / "maps.json").read_text(encoding="utf-8"))["summary"]
    truth = dict(zip(("ktrans", "ve"), np.meshgrid(KTRANS, VE, indexing="ij")))
    errors = {name: errors_of(found[name], truth[name]) for name in truth}
    worst = {name: float(np.max(rows)) for name, rows in errors.items()}
    return {
        "name": "qiba",
        "unit": "largest relative error of a pixel",
        "ktrans_per_minute": KTRANS,
        "ve": VE,
        "errors": errors,
        "worst": worst,
        "concordance": {name: concordance(found[name], truth[name]) for name in truth},
        "accepted": ACCEPTED,
        "passed": max(worst.values()) <= ACCEPTED,
        "baseline_frames": summary["baseline_frames"],
        "largest_ktrans_error_of_the_linear_fit": linear_error(series, times, blood, truth["ktrans"]),
        "versions": {name: version(name) for name in ("oncoscale", "numpy", "numba", "pydicom")},
    }


def concordance(found: np.ndarray, truth: np.ndarray) -> float:
    """Lin's concordance correlation of all pixels with the truth."""
    x, y = found.ravel(), np.repeat(truth.ravel(), found.shape[2])
    return float(2 * np.cov(x, y, bias=True)[0, 1] / (x.var() + y.var() + (x.mean() - y.mean()) ** 2))


def linear_error(series: Series, times: np.ndarray, blood: np.ndarray, truth: np.ndarray) -> float:
    """Largest relative error of Ktrans by the linear fit, one pixel a block: why the fit is nonlinear."""
    signal = np.array([blocks(frame)[..., 0].ravel() for frame in series.values]).T
    chain = {"fa_deg": series.acquisition["fa_deg"].value, "tr_s": series.acquisition["tr_s"].value}
    curves = to_concentration(signal, TISSUE_T1_S, **chain, relaxivity=RELAXIVITY, baseline=100).values
    linear = linear_preview(times, curves, PlasmaCurve(times, blood / (1 - HAEMATOCRIT)))["ktrans"]
    return float(np.abs(linear / truth.ravel() - 1).max())


def draw(record: Mapping[str, Any], path: Path) -> None:
    """Errors of both parameters, block by block."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 2, figsize=(9, 4), layout="constrained")
    for axes, (name, rows) in zip(panels, record["errors"].items()):
        percent = 100 * np.array(rows)
        image = axes.imshow(percent, vmin=0, vmax=100 * record["accepted"], cmap="viridis")
        for (row, column), value in np.ndenumerate(percent):
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=8,
                      color="white" if value < 35 * record["accepted"] else "black")  # fmt: skip
        axes.set_xticks(range(len(VE)), [f"{value:g}" for value in VE])
        axes.set_yticks(range(len(KTRANS)), [f"{value:g}" for value in KTRANS])
        axes.set_xlabel("true ve")
        axes.set_ylabel("true Ktrans (1/min)")
        axes.set_title(f"{name}: worst {percent.max():.2f} %")
    figure.colorbar(image, ax=panels, label="largest error of a block (%)")
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def main() -> int:
    """Measure, print the record, write it and its picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder that holds qiba-dro-v6")
    parser.add_argument("--dicom", type=Path, help="the object's DICOM files, if they lie elsewhere")
    parser.add_argument(
        "--blood-rows", type=int, nargs=2, default=BLOOD_ROWS, help="first row of blood, and the one after"
    )
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the record and its picture")
    chosen = parser.parse_args()
    dicom = chosen.dicom or chosen.data / "qiba-dro-v6" / "DICOM"
    if not dicom.is_dir():
        sys.stderr.write(f"no folder {dicom}: give it with --dicom, or its parent with --data\n")
        return 2
    record = measure(dicom, tuple(chosen.blood_rows))
    return hand_over(record, chosen.out, lambda path: draw(record, path))


if __name__ == "__main__":
    sys.exit(main())
