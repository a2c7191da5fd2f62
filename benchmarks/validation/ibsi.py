"""Radiomic features against the reference values of the Image Biomarker Standardisation Initiative.

    python benchmarks/validation/ibsi.py [--data FOLDER] [--out FOLDER]
    oncoscale bench --only ibsi -- --data FOLDER

Runs ``oncoscale radiomics`` and compares by tag every value that the initiative prints. A value is met when it lies
within the printed tolerance and half a unit of the third significant digit (references are printed to three).

FOLDER/ibsi-digital-phantom holds the initiative's data (github.com/theibsi/data_sets): ``ibsi_1_digital_phantom`` with
every aggregation, and, where it is there, ``ibsi_1_ct_radiomics_phantom`` with configurations A to E. Reference values
are ``ibsi_1_reference_values/ibsi_1_dig_phantom.csv`` and ``ibsi_1_chest_config_a.csv`` to ``_e.csv`` (reference value;
tolerance;tag). The CT phantom is licensed CC BY-NC 3.0: it is read, never kept. What is absent is named as not run.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from math import floor, isfinite, log10
from pathlib import Path
from typing import Any

from oncoscale.app.bench import hand_over
from oncoscale.imaging.ibsi_names import FAMILIES, NOT_OFFERED

FOLDER = "ibsi-digital-phantom"
DIGITAL, CHEST = "ibsi_1_digital_phantom", "ibsi_1_ct_radiomics_phantom"
ENGINE = ("img", "roi")
"""Last words of tags that describe steps of a program on its way, and are no features."""


@dataclass(frozen=True)
class Case:
    """A configuration with the image that it has reference values for."""

    config: str
    phantom: str
    reference: str

    def files(self, data: Path) -> tuple[Path, Path, Path]:
        """Image, mask and reference values."""
        folder, image = data / FOLDER, data / FOLDER / self.phantom / "nifti"
        reference = folder / "ibsi_1_reference_values" / self.reference
        return image / "image" / "phantom.nii.gz", image / "mask" / "mask.nii.gz", reference


PHANTOM = Case("ibsi-phantom", DIGITAL, "ibsi_1_dig_phantom.csv")
CASES = tuple(Case(f"ibsi-{letter}", CHEST, f"ibsi_1_chest_config_{letter.lower()}.csv") for letter in "ABCDE")


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


def measure(data: Path) -> dict[str, Any]:
    """The record: the digital phantom, and each configuration whose image and references are there."""
    phantom, chest = compared(PHANTOM, data), [compared(case, data) for case in CASES]
    return {
        "benchmark": "ibsi",
        **phantom,
        "configurations": chest,
        "checks": [
            {"id": one["configuration"], "passed": not one["outside"]} for one in (phantom, *chest) if "values" in one
        ],
        "versions": {name: version(name) for name in ("oncoscale", "mirp", "numpy", "scipy")},
    }


def compared(case: Case, data: Path) -> dict[str, Any]:
    """Every value of one configuration beside its reference; why not, where a file is absent."""
    image, mask, reference = case.files(data)
    absent = [path.name for path in (image, mask, reference) if not path.exists()]
    if absent:
        reason = f"absent: {case.phantom} with {', '.join(absent)}"
        return {"configuration": case.config, "status": "not run", "reason": reason}
    found, wanted = features(image, mask, case.config), references(reference)
    offered = {tag: pair for tag, pair in wanted.items() if tag.rsplit("_", 1)[-1] not in ENGINE}
    rows = [_compared(tag, pair, found.get(tag)) for tag, pair in offered.items() if pair is not None]
    families = {
        name: {
            "compared": sum(row["family"] == name for row in rows),
            "within": sum(row["family"] == name and row["within"] for row in rows),
        }
        for name in FAMILIES.values()
    }
    return {
        "configuration": case.config,
        "references": len(offered),
        "without_a_value": sorted(tag for tag, pair in offered.items() if pair is None),
        "not_offered": sorted(NOT_OFFERED),
        "compared": len(rows),
        "within_tolerance": sum(row["within"] for row in rows),
        "families": families,
        "outside": [row for row in rows if not row["within"]],
        "values": rows,
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
    """Deviation of every value as a share of what is allowed, by family; a row for every configuration that was run."""
    from matplotlib.figure import Figure

    run = [record, *(one for one in record["configurations"] if "values" in one)]
    figure = Figure(figsize=(9, 1.2 + 3.3 * len(run)), layout="constrained")
    for axes, one in zip(figure.subplots(len(run), 1, squeeze=False)[:, 0], run):
        _draw_one(axes, one)
    figure.savefig(path, dpi=120)


def _draw_one(axes: Any, record: dict[str, Any]) -> None:
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


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = Path(__file__).parents[2].parent / "shared" / "data"
    parser.add_argument("--data", type=Path, default=data, help="folder of reference data")
    parser.add_argument("--out", type=Path, help="folder for ibsi.json and .png")
    given = parser.parse_args()
    if not PHANTOM.files(given.data)[0].exists():
        sys.exit(f"no reference data in {given.data}: name the folder of reference data with --data")
    record = measure(given.data)
    return hand_over(record, given.out, lambda path: draw(path, record))


if __name__ == "__main__":
    sys.exit(main())
