"""Radiomic features against the reference values of the Image Biomarker Standardisation Initiative.

    python benchmarks/validation/ibsi.py [--out FOLDER]
    python benchmarks/validation/ibsi.py --image IMAGE --mask MASK --reference VALUES.csv --config ibsi-C

Runs ``oncoscale radiomics`` and compares by tag every value that the initiative prints. A value is met when it lies
within the printed tolerance and half a unit of the third significant digit (references are printed to three). Without
options: the digital phantom, every aggregation.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
import tempfile
from importlib.metadata import version
from math import floor, isfinite, log10
from pathlib import Path
from typing import Any

from oncoscale.app.bench import hand_over
from oncoscale.imaging.ibsi_names import FAMILIES, NOT_OFFERED

FOLDER = Path("ibsi-digital-phantom")
PHANTOM = {
    "image": FOLDER / "ibsi_1_digital_phantom" / "nifti" / "image" / "phantom.nii.gz",
    "mask": FOLDER / "ibsi_1_digital_phantom" / "nifti" / "mask" / "mask.nii.gz",
    "reference": FOLDER / "ibsi_1_reference_values" / "ibsi_1_dig_phantom.csv",
}


def features(image: Path, mask: Path, config: str) -> dict[str, dict[str, str]]:
    """Rows of FEATURES.csv by tag, as the command writes them."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "features.csv"
        code = "import sys; from oncoscale.app.cli import main; main()"
        command = [sys.executable, "-c", code, "radiomics", str(image), str(mask), "--out", str(out)]
        subprocess.run([*command, "--ibsi-config", config, "--quiet"], check=True, stdout=subprocess.DEVNULL)
        with open(out, newline="") as lines:
            return {row["tag"]: row for row in csv.DictReader(lines)}


def references(path: Path) -> dict[str, tuple[float, float] | None]:
    """(value, tolerance) by tag; None where the initiative gives no value."""
    with open(path, newline="") as lines:
        rows = list(csv.DictReader(lines, delimiter=";"))
    return {
        row["tag"]: (float(row["reference value"]), float(row["tolerance"] or 0.0)) if row["reference value"] else None
        for row in rows
    }


def allowed(reference: float, tolerance: float) -> float:
    """Largest deviation: the tolerance and half a unit of the third significant digit."""
    half = 0.5 * 10.0 ** (floor(log10(abs(reference))) - 2) if reference else 5e-4
    return tolerance + half * (1 + 1e-9)


def measure(image: Path, mask: Path, reference: Path, config: str) -> dict[str, Any]:
    """The record."""
    found, wanted = features(image, mask, config), references(reference)
    rows = [_compared(tag, pair, found.get(tag)) for tag, pair in wanted.items() if pair is not None]
    families = {
        name: {
            "compared": sum(row["family"] == name for row in rows),
            "within": sum(row["family"] == name and row["within"] for row in rows),
        }
        for name in FAMILIES.values()
    }
    return {
        "benchmark": "ibsi",
        "configuration": config,
        "references": len(wanted),
        "without_a_value": sorted(tag for tag, pair in wanted.items() if pair is None),
        "not_offered": sorted(NOT_OFFERED),
        "compared": len(rows),
        "within_tolerance": sum(row["within"] for row in rows),
        "families": families,
        "outside": [row for row in rows if not row["within"]],
        "values": rows,
        "checks": [{"id": f"ibsi-{config}", "passed": all(row["within"] for row in rows)}],
        "versions": {name: version(name) for name in ("oncoscale", "mirp", "numpy", "scipy")},
    }


def _compared(tag: str, pair: tuple[float, float], row: dict[str, str] | None) -> dict[str, Any]:
    value = float(row["value"]) if row is not None and row["value"] else None
    limit = allowed(*pair)
    within = value is not None and isfinite(value) and abs(value - pair[0]) <= limit
    return {
        "tag": tag,
        "code": row["ibsi_code"] if row else "",
        "family": FAMILIES.get(tag.split("_", 1)[0], ""),
        "reference": pair[0],
        "value": value,
        "share_of_allowed": None if value is None else abs(value - pair[0]) / limit,
        "within": within,
    }


def draw(path: Path, record: dict[str, Any]) -> None:
    """Deviation of every value as a share of what is allowed, by family."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.5), layout="constrained")
    axes = figure.subplots()
    names = list(FAMILIES.values())
    for place, name in enumerate(names):
        shares = [
            row["share_of_allowed"]
            for row in record["values"]
            if row["family"] == name and row["share_of_allowed"] is not None
        ]
        spots = [place + 0.6 * (n / max(len(shares) - 1, 1) - 0.5) for n in range(len(shares))]
        axes.plot(spots, shares, ".", ms=4)
    axes.axhline(1.0, color="black", lw=1)
    axes.set_xticks(range(len(names)))
    axes.set_xticklabels([f"{name}\n{record['families'][name]['within']} of {record['families'][name]['compared']}"
                          for name in names], rotation=40, ha="right", fontsize=7)  # fmt: skip
    axes.set_ylabel("deviation / allowed deviation")
    axes.set_ylim(0, None)
    axes.set_title(
        f"{record['configuration']}: {record['within_tolerance']} of {record['compared']} reference values met"
    )
    figure.savefig(path, dpi=120)


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = Path(__file__).parents[2].parent / "shared" / "data"
    parser.add_argument("--data", type=Path, default=data, help="folder of reference data")
    parser.add_argument("--image", type=Path, help="another image than the digital phantom")
    parser.add_argument("--mask", type=Path)
    parser.add_argument("--reference", type=Path, help="its reference values: reference value;tolerance;tag")
    parser.add_argument("--config", default="ibsi-phantom", help="as for --ibsi-config")
    parser.add_argument("--out", type=Path, help="folder for ibsi.json and .png")
    given = parser.parse_args()
    paths = {name: getattr(given, name) or given.data / path for name, path in PHANTOM.items()}
    absent = [path for path in paths.values() if not path.exists()]
    if absent:
        sys.exit(f"no reference data at {absent[0]}: name the folder of reference data with --data")
    record = measure(paths["image"], paths["mask"], paths["reference"], given.config)
    return hand_over(record, given.out, lambda path: draw(path, record))


if __name__ == "__main__":
    sys.exit(main())
