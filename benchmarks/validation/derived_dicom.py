"""What judges that are not ours say of the DICOM objects made from real studies.

    python benchmarks/validation/derived_dicom.py [--data FOLDER]

Each study is quantified with ``--dicom``. dciodvfy judges every object by the standard, dcentvfy the objects together
with the images that they were made from, and dcmqi reads maps, segmentation and report back, to be compared with the
NIfTI maps, the mask and the numbers. What a judge already says of the source images is inherited and counted apart;
so is its ignorance of the private coding scheme.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from oncoscale.app.bench import hand_over
from oncoscale.app.commands import ReadOptions, quantify
from oncoscale.imaging.derived_codes import SCHEME
from oncoscale.imaging.measurement_report import measure
from oncoscale.imaging.quantify import QuantifySettings, read_maps
from oncoscale.imaging.study import Grid

DATA = Path(__file__).parents[2].parent / "shared" / "data"
STUDIES: dict[str, tuple[str, ReadOptions]] = {
    "breast, three times (TCIA, UCSF)": ("ucsf-breast-06/UCSF-BR-06", ReadOptions()),
    "mouse, supplied maps": (
        "kpc-mouse-day0",
        ReadOptions(["ktrans=1/min", "t1=s", "ve=1", "adc=mm^2/s"], same_subject=True, labels=["3=tumour"]),
    ),
}
REPORT_PRECISION = 1e-6
"""Largest relative difference of a number in a report: it is written with at most 16 characters."""
PRIVATE = f"Unrecognized defined term = <{SCHEME}>"
REPORT_ENTITY = "Element=<AccessionNumber> IE <Study> versus <Series>"
PROGRAMS = ("dciodvfy", "dcentvfy", "paramap2itkimage", "segimage2itkimage", "tid1500reader")


def said(program: str, *arguments: Path | str) -> list[str]:
    """The errors and warnings of a judge, without the names of files."""
    run = subprocess.run([program_path(program), *arguments], capture_output=True, text=True, check=False)
    lines = (run.stdout + run.stderr).splitlines()
    return [re.sub(r" for file .*", "", line) for line in lines if line.startswith(("Error", "Warning"))]


def program_path(name: str) -> Path:
    return Path(sys.executable).with_name(name)


def counted(lines: list[str], inherited: set[str]) -> dict[str, Any]:
    """Errors and warnings of our own, and how many lines are known or inherited."""
    own = [line for line in lines if line not in inherited and not line.endswith(PRIVATE) and REPORT_ENTITY not in line]
    return {
        "errors": sum(line.startswith("Error") for line in own),
        "warnings": sum(line.startswith("Warning") for line in own),
        "private_scheme": sum(line.endswith(PRIVATE) for line in lines),
        "report_entity": sum(REPORT_ENTITY in line for line in lines),
        "inherited": sum(line in inherited for line in lines),
        "messages": dict(Counter(own).most_common(10)),
    }


def measure_study(folder: Path, reading: ReadOptions, out: Path) -> dict[str, Any]:
    """Write one study's derived objects and hear the judges."""
    settings = QuantifySettings(threads=1)
    done = quantify(str(folder), out=out, store=None, settings=settings, pieces="largest", reading=reading, dicom=True)
    files = [out / "dicom" / name for name in done.content["dicom"]]
    sources = [path for path in folder.rglob("*.dcm") if path.is_file()]
    of_images = {line for path in sources for line in said("dciodvfy", "-new", path)}
    together = said("dcentvfy", *files, *sources)
    return {
        "objects": {
            path.name: {
                "bytes": path.stat().st_size,
                "dciodvfy": counted(said("dciodvfy", "-new", path), of_images),
            }
            for path in files
        },
        "dcentvfy": counted(together, set(said("dcentvfy", *sources))),
        "read_back_by_dcmqi": read_back(out, files),
    }


def read_back(out: Path, files: list[Path]) -> dict[str, Any]:
    """Largest difference of each map, voxels of the segmentation that differ, largest difference in the report."""
    quantified, found = read_maps(out), {}
    for path in files:
        name = path.stem
        if name in quantified.maps:
            one = quantified.maps[name]
            values = converted("paramap2itkimage", path, out / "back" / name, one.grid)
            found[name] = None if values is None else largest(values, one.values)
        elif name == "tumour" and quantified.tumour is not None:
            values = converted("segimage2itkimage", path, out / "back" / name, quantified.tumour.grid)
            mask = quantified.tumour.mask("tumour")
            found["tumour_voxels"] = int(mask.sum())
            found["tumour_voxels_that_differ"] = None if values is None else int(((values > 0) != mask).sum())
        elif name == "measurements" and quantified.tumour is not None:
            told = out / "report.json"
            subprocess.run(
                [program_path("tid1500reader"), "--inputDICOM", path, "--outputMetadata", told],
                capture_output=True,
                check=True,
            )
            items = json.loads(told.read_text())["Measurements"][0]["measurementItems"]
            maps = {key: one for key, one in quantified.maps.items() if (out / "dicom" / f"{key}.dcm").exists()}
            region = measure(maps, quantified.tumour, "tumour")
            truth = [region.volume, *[x for one in region.maps for x in (one.mean, one.median, one.deviation)]]
            relative = [abs(float(item["value"]) / true - 1) for item, true in zip(items, truth, strict=True)]
            found["numbers_in_report"], found["largest_relative_difference_in_report"] = len(items), max(relative)
    return found


def converted(program: str, path: Path, folder: Path, grid: Grid) -> np.ndarray | None:
    """(i, j, k) what dcmqi made of an object, put on its grid (0 where it left empty slices out); None if it failed."""
    folder.mkdir(parents=True)
    command = [program_path(program), "--inputDICOM", path, "--outputDirectory", folder, "-t", "nrrd"]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        return None
    image = sitk.ReadImage(str(next(folder.glob("*.nrrd"))))
    stored = sitk.GetArrayFromImage(image).transpose(2, 1, 0)
    corners = [image.TransformIndexToPhysicalPoint(index) for index in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))]
    first, *ends = np.rint(grid.index(np.array(corners)) * 100) / 100
    if not np.array_equal(np.array(ends) - first, np.eye(3)):
        raise SystemExit(f"{path.name}: dcmqi puts it on other axes")
    begin = first.astype(int)
    values = np.zeros(grid.shape)
    values[tuple(slice(b, b + n) for b, n in zip(begin, stored.shape, strict=True))] = stored
    return values


def largest(a: np.ndarray, b: np.ndarray) -> float:
    """Largest difference; infinite where one has a value and the other none."""
    if (np.isfinite(a) != np.isfinite(b)).any():
        return float("inf")
    return float(np.nanmax(np.abs(a - b)))


def checks_of(studies: Mapping[str, Any]) -> list[dict[str, Any]]:
    """No errors, no warnings but those that the sources draw too, and nothing lost on the way back."""
    checks = []
    for title, study in studies.items():
        judged = [row["dciodvfy"] for row in study["objects"].values()]
        back = study["read_back_by_dcmqi"]
        voxels = [value for name, value in back.items() if not name.startswith(("numbers", "largest"))
                  and name != "tumour_voxels"]  # fmt: skip
        checks += [
            {"id": f"{title}: dciodvfy", "passed": not any(row["errors"] or row["warnings"] for row in judged)},
            {"id": f"{title}: dcentvfy", "passed": study["dcentvfy"]["errors"] == 0},
            {"id": f"{title}: dcmqi", "passed": not any(voxels)
             and back["largest_relative_difference_in_report"] <= REPORT_PRECISION},
        ]  # fmt: skip
    return checks


def main() -> int:
    """Measure and print the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder of reference data")
    data = parser.parse_args().data
    for name in PROGRAMS:
        if not program_path(name).exists():
            parser.error(f"{name} is not installed beside python (packages dicom3tools and dcmqi)")
    record: dict[str, Any] = {"benchmark": "derived-dicom", "studies": {}}
    for title, (place, reading) in STUDIES.items():
        if not (data / place).is_dir():
            parser.error(f"no study at {data / place}: state the folder of reference data with --data")
        with tempfile.TemporaryDirectory() as folder:
            record["studies"][title] = measure_study(data / place, reading, Path(folder) / "maps")
    record["checks"] = checks_of(record["studies"])
    names = ("oncoscale", "pydicom", "highdicom", "dicom3tools", "dcmqi")
    record["versions"] = {name: version(name) for name in names}
    return hand_over(record)


if __name__ == "__main__":
    sys.exit(main())
