"""PE and SER of a breast examination against the maps that its scanner stored.

    python benchmarks/validation/ucsf.py [--data FOLDER] [--exam ucsf-breast-06]

FOLDER/EXAM holds three time points, the scanner's PE1 and SER series and a segmentation. Everything runs as in
``quantify``, without a setting; nothing here is known of the examination. The scanner cuts PE to whole percent, which
explains an offset of half a percent; it cuts SER at 3 and stores it only where PE reaches 70 % and neighbours enhance.
"""

from __future__ import annotations

import argparse
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from oncoscale.app.bench import hand_over
from oncoscale.core.errors import ModelRefused
from oncoscale.imaging.dicom_read import read_study
from oncoscale.imaging.enhancement import scanner_percent_enhancement
from oncoscale.imaging.quantify import QuantifySettings, quantify

DATA = Path(__file__).parents[2].parent / "shared" / "data"
LEAST_R, SLOPE = 0.9999, 1e-3
LEAST_PE = 10.0  # percent: below it the cut to whole percent bends the line


def measure(folder: Path) -> dict[str, Any]:
    """Correlation, slope and offset of both maps, voxels that differ, and the volumes of the region."""
    study = read_study(folder)
    made = quantify(study, QuantifySettings())
    theirs = {one.name: np.nan_to_num(one.values) for one in study.maps}
    background = float(made.summary["enhancement"]["background"])
    before, early, _ = np.asarray(study.of_role("dynamic")[0].values, dtype=float)
    cut = scanner_percent_enhancement(before, early, background)
    lines = {
        "pe": line(made.maps["pe"].values, theirs["pe"], theirs["pe"] >= LEAST_PE),
        "ser": line(
            made.maps["ser"].values, theirs["ser"], (theirs["ser"] > 0) & (theirs["ser"] < theirs["ser"].max())
        ),
    }
    passed = all(row["r"] >= LEAST_R and abs(row["slope"] - 1) <= SLOPE for row in lines.values())
    return {
        "benchmark": "ucsf-enhancement",
        "background_found": background,
        "against_the_scanner": lines,
        "pe_cut_as_the_scanner_does": {
            "voxels": int(np.count_nonzero(theirs["pe"])),
            "differing": int(np.count_nonzero(cut != theirs["pe"])),
        },
        "ser_capped": int(np.count_nonzero(theirs["ser"] == theirs["ser"].max())),
        "region": region(study, theirs),
        "ktrans": refusal(study),
        "accepted": {"r": LEAST_R, "slope_within": SLOPE},
        "passed": passed,
        "versions": {name: version(name) for name in ("oncoscale", "numpy", "pydicom")},
    }


def line(ours: np.ndarray, theirs: np.ndarray, where: np.ndarray) -> dict[str, float]:
    """The straight line theirs = slope ours + offset over the voxels that both hold."""
    both = where & np.isfinite(ours)
    x, y = ours[both], theirs[both]
    slope, offset = np.polyfit(x, y, 1)
    return {
        "voxels": int(both.sum()),
        "missing_in_ours": int(np.count_nonzero(where & ~np.isfinite(ours))),
        "r": float(np.corrcoef(x, y)[0, 1]),
        "slope": float(slope),
        "offset": float(offset),
        "median_difference": float(np.median(y - x)),
        "largest_difference": float(np.abs(y - x).max()),
    }


def region(study: Any, theirs: dict[str, np.ndarray]) -> dict[str, float] | None:
    """Volumes (mL) of the segmentation, of PE at least 70 % and of SER above 0 in it, and its median SER."""
    if not study.labels or not study.labels[0].grid.same_as(study.maps[0].grid):
        return None
    inside = study.labels[0].values > 0
    volume = study.labels[0].grid.voxel_volume / 1000.0
    return {
        "ml": float(inside.sum() * volume),
        "pe_70_ml": float((inside & (theirs["pe"] >= 70)).sum() * volume),
        "ser_ml": float((inside & (theirs["ser"] > 0)).sum() * volume),
        "median_ser": float(np.median(theirs["ser"][inside & (theirs["ser"] > 0)])),
    }


def refusal(study: Any) -> str:
    """What is said when Ktrans is asked of three time points."""
    try:
        quantify(study, QuantifySettings(dce_model="extended-tofts", t1=1.0))
    except ModelRefused as error:
        return f"refused: {error.found}"
    return "fitted"


def main() -> int:
    """Measure and print the record; exit 1 if it misses what is accepted, 2 without the data."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--exam", default="ucsf-breast-06")
    chosen = parser.parse_args()
    if not (chosen.data / chosen.exam).is_dir():
        sys.stderr.write(f"no folder {chosen.exam} in {chosen.data.name!r}: state where it lies (--data)\n")
        return 2
    record = measure(chosen.data / chosen.exam)
    return hand_over(record)


if __name__ == "__main__":
    sys.exit(main())
