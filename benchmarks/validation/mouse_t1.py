"""T1 of a mouse from six flip angles and a B1 map, against the T1 map that its authors made from the same images.

    python benchmarks/validation/mouse_t1.py [--data FOLDER]

FOLDER holds kpc-mouse-day0 (9.4 T, repetition time 5.4627 ms). Medians of the relative difference in tumour, muscle and
the two phantoms: the nonlinear fit with B1, the same without B1, and the straight line with B1, which is a start value
and no result.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from oncoscale.app.bench import hand_over
from oncoscale.imaging.relaxation import fit_t1, linear_t1

DATA = Path(__file__).parents[2].parent / "shared" / "data"
ANGLES_DEG, TR_S = (2, 5, 8, 12, 16, 20), 5.462666667e-3
REGIONS = {"tumour": 3, "muscle": 1, "phantom_1": 4, "phantom_2": 5}
ACCEPTED = 1e-3  # median difference with B1
WITHOUT_B1 = 0.05  # without B1 the tumour must be off by more than this


def measure(folder: Path) -> dict[str, Any]:
    """Median relative differences of each region by each method."""
    nifti = folder / "kpc-mouse-day0" / "nifti"

    def image(name: str) -> np.ndarray:
        return np.asarray(nibabel.load(nifti / f"M123_{name}.nii.gz").dataobj, dtype=float)

    signals = np.stack([image(f"VFA_{angle}deg") for angle in ANGLES_DEG], axis=-1)
    b1, theirs, labels = image("B1Maps"), image("T1Maps"), image("DCE_Mask")
    regions = {
        name: differences(signals[labels == value], b1[labels == value], theirs[labels == value])
        for name, value in REGIONS.items()
    }
    with_b1 = max(row["with_b1"]["median_size"] for row in regions.values())
    return {
        "benchmark": "mouse-t1",
        "unit": "relative difference to the authors' T1",
        "regions": regions,
        "largest_median_with_b1": with_b1,
        "accepted": ACCEPTED,
        "passed": bool(with_b1 <= ACCEPTED and abs(regions["tumour"]["without_b1"]["median"]) > WITHOUT_B1),
        "versions": {name: version(name) for name in ("oncoscale", "numpy", "numba")},
    }


def differences(signals: np.ndarray, b1: np.ndarray, theirs: np.ndarray) -> dict[str, Any]:
    """Medians of one region: of the difference and of its size, and the share of voxels compared."""
    everything = (0.0, np.inf)
    found: Mapping[str, np.ndarray] = {
        "with_b1": fit_t1(signals, ANGLES_DEG, TR_S, b1=b1, plausible_s=everything).t1,
        "without_b1": fit_t1(signals, ANGLES_DEG, TR_S, plausible_s=everything).t1,
        "line_with_b1": np.array(
            [linear_t1(row, np.array(ANGLES_DEG) * ratio, TR_S)[0] for row, ratio in zip(signals, b1)]
        ),
    }
    return {"voxels": len(signals), "median_t1_s": float(np.median(theirs[theirs > 0]))} | {
        name: compared(values, theirs) for name, values in found.items()
    }


def compared(values: np.ndarray, theirs: np.ndarray) -> dict[str, float]:
    """Median difference, median and 95th percentile of its size, where both have a value."""
    both = np.isfinite(values) & (theirs > 0)
    relative = values[both] / theirs[both] - 1.0
    return {
        "median": float(np.median(relative)),
        "median_size": float(np.median(np.abs(relative))),
        "95th_percentile_of_size": float(np.percentile(np.abs(relative), 95)),
        "share_of_voxels": float(both.mean()),
    }


def main() -> int:
    """Measure and print the record; exit 1 if it misses what is accepted, 2 without the data."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    folder = parser.parse_args().data
    if not (folder / "kpc-mouse-day0").is_dir():
        sys.stderr.write(f"no folder kpc-mouse-day0 in {folder.name!r}: state where it lies (--data)\n")
        return 2
    record = measure(folder)
    return hand_over(record)


if __name__ == "__main__":
    sys.exit(main())
