"""Meshes of anything: 200 random label volumes and real tumours, each through the gate or refused with the reason.

    python benchmarks/validation/meshes.py [--out FOLDER] [--data FOLDER] [--kept FILE.jsonl] [--seeds 0:200]

Every volume is meshed by the lattice mesher, and by gmsh too where a tumour lies in a host and nothing else is there.
The marks of the project specification, tissue §1.6, are measured on the answer by formulas of this script: no inverted
element, no face of three elements, smallest dihedral angle 8 degrees, smallest scaled Jacobian 0.05, each region within
1 % of its voxels, and 95 % of each surface closer to its voxels than their longest edge. A typed refusal is an answer;
a crash, an untyped error or a mesh beyond a mark is a failure. Counted are the meshes that were tried again with finer
elements, and those for which crumbs went to the label around them first: volumes and distances are those of the voxels
without the crumbs. With --kept, volumes already measured there are not measured again.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from itertools import chain, combinations, product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from _label_volumes import lobed, volume
from numpy.typing import NDArray

from oncoscale.app.bench import hand_over
from oncoscale.core.errors import MeshFault, SegmentationRejected
from oncoscale.imaging.dicom_read import read_study
from oncoscale.imaging.phantom import write_phantom
from oncoscale.imaging.segmentation import check_tumour, read_region
from oncoscale.imaging.study import LabelImage
from oncoscale.meshing.crumbs import without_crumbs
from oncoscale.meshing.lattice import ELEMENT_VOLUME
from oncoscale.meshing.mesh import TumourMesh
from oncoscale.meshing.quality import (
    MAX_DISTANCE,
    MAX_VOLUME_ERROR,
    MIN_DIHEDRAL,
    MIN_SCALED_JACOBIAN,
    surface_distance,
)
from oncoscale.meshing.surface import host_around, labelled_part
from oncoscale.meshing.tetrahedra import Mesher, mesh_tumour

DATA = Path(__file__).parents[2].parent / "shared" / "data"
TUMOUR_ELEMENTS = (200, 400, 800)
"""Elements that a random tumour is asked to get: the default's shape at a tenth to two fifths of its cost."""
HOST_COARSENING = 3.0
LARGE_SIZE: Mapping[str, float] = {"bcc": 2.6, "gmsh": 2.6}
"""mm, of all elements of the large mesh."""
MESHERS: tuple[Mesher, ...] = ("bcc", "gmsh")

UCSF, SARCOMA = "ucsf-breast-06/UCSF-BR-06/mask/1-1.dcm", "sts-001-rtstruct/STS_001/MR_T1/mask/1-1.dcm"
REAL: tuple[tuple[str, str, str | None, str, float | None], ...] = (
    ("UCSF breast, all pieces", UCSF, None, "all", None),
    ("UCSF breast, largest piece", UCSF, None, "largest", None),
    ("UCSF breast, largest piece at 4 mm", UCSF, None, "largest", 4.0),
    ("sarcoma, mass", SARCOMA, "GTV_Mass", "all", None),
    ("sarcoma, oedema", SARCOMA, "GTV_Edema", "all", None),
    ("liver lesion", "dcmqi-examples/data/sr-example/seg.dcm", None, "all", None),
    ("liver, five slices", "pydicom-data/liver.dcm", None, "all", None),
)
"""Name, file below the data folder, region, kept pieces and size (mm, None: the default) of the drawn tumours."""

MEASURES = ("elements", "min_dihedral_degree", "min_scaled_jacobian", "volume_error", "h95_voxels", "h95_elements")
PANELS: Mapping[str, tuple[str, float | None]] = {
    "min_dihedral_degree": ("smallest dihedral angle, degrees", MIN_DIHEDRAL.value),
    "min_scaled_jacobian": ("smallest scaled Jacobian", MIN_SCALED_JACOBIAN.value),
    "volume_error": ("largest error of a region's volume", MAX_VOLUME_ERROR.value),
    "h95_voxels": ("95 % surface distance, voxel edges", MAX_DISTANCE.value),
    "ms_per_element": ("processor time of an element, ms", None),
}
REASONS: Mapping[str, str] = {
    "cavities or pieces": "cavities or several pieces, which gmsh does not get",
    "far boundary": "tumour at the far boundary, which gmsh does not get",
    "a tumour in a host only": "further labels, which gmsh does not get",
    "thinner than the elements": "thinner than the elements",
    "no smooth surface": "thinner than the smoothing",
    "gmsh did not end": "gmsh took too long",
    "gmsh failed": "gmsh failed",
    "gmsh cannot be loaded": "gmsh cannot be loaded",
    "border": "touches the border of the image",
    "dihedral": "gate: dihedral angle",
    "scaled Jacobian": "gate: scaled Jacobian",
    "join more than two": "gate: surfaces that touch themselves",
    "volume of": "gate: volume of a region",
    "surface of": "gate: distance from the voxels",
}
"""Words of a refusal and what they are counted as, the first that fits."""

Row = dict[str, Any]


def measure(seeds: range, data: Path, kept: Path | None) -> Row:
    """Every volume and every real tumour, and the record of both."""
    rows = [json.loads(line) for line in kept.read_text().splitlines()] if kept and kept.is_file() else []
    done = {(row["name"], row["mesher"]) for row in rows}
    for name, facts, labels, size, mesher in chain(
        _random(seeds, "bcc"), _real(data), _large(), _random(seeds, "gmsh")
    ):
        if (name, mesher) in done:
            continue
        coarsening = 1.0 if facts["kind"] == "large" else HOST_COARSENING
        row = {"name": name, **facts, **answer(labels, size, mesher, coarsening)}
        rows.append(row)
        if kept is not None:
            with kept.open("a") as handle:
                handle.write(json.dumps(row) + "\n")
    return record(rows, seeds)


_Task = tuple[str, Row, Callable[[], LabelImage], float | None, Mesher]


def _random(seeds: range, mesher: Mesher) -> Iterator[_Task]:
    """The random volumes that a mesher is asked for: all of them, or those of a tumour in a host alone."""
    for seed in seeds:
        made = volume(seed)
        if mesher == "gmsh" and not made.is_nested:
            continue
        wanted = TUMOUR_ELEMENTS[seed % len(TUMOUR_ELEMENTS)]
        size = float(np.cbrt(made.labels.volume("tumour") * 1000.0 / (ELEMENT_VOLUME * wanted)))
        facts = {"kind": made.kind, "labels": len(made.labels.names), "host": made.with_host}
        yield f"seed {seed}", facts, partial(_same, made.labels), size, mesher


def _same(labels: LabelImage) -> LabelImage:
    return labels


def _real(data: Path) -> Iterator[_Task]:
    """The reference patient and drawn tumours, at default sizes; data not there are left out."""
    if not any((data / path).is_file() for _, path, *_ in REAL):
        return
    for mesher in MESHERS:
        yield "reference patient", {"kind": "real"}, _reference_patient, None, mesher
    for (name, path, roi, pieces, size), mesher in product(REAL, MESHERS):
        if (data / path).is_file():
            yield name, {"kind": "real"}, partial(_drawn, data / path, roi, pieces), size, mesher


def _reference_patient() -> LabelImage:
    with TemporaryDirectory() as folder:
        write_phantom(Path(folder, "patient"), quick=True)
        return host_around(read_study(Path(folder, "patient", "visit-1")).labels[0])


def _drawn(path: Path, roi: str | None, pieces: str) -> LabelImage:
    """The tumour of a segmentation in its host."""
    labels, _ = read_region(path, roi, names=None if roi else {1: "tumour"})
    return host_around(check_tumour(labels, pieces=pieces)[0])  # type: ignore[arg-type]


def _large() -> Iterator[_Task]:
    """A lobed tumour of 55 mL in its host in some 200,000 elements of one size, for the time that it takes."""
    for mesher in MESHERS:
        yield "lobed, 200,000", {"kind": "large"}, partial(host_around, lobed()), LARGE_SIZE[mesher], mesher


def answer(made: Callable[[], LabelImage], size: float | None, mesher: Mesher, coarsening: float) -> Row:
    """What became of a volume: meshed with its measures, refused with its reason, or failed with the error."""
    facts: Row = {"mesher": mesher}
    try:
        labels = made()
        facts |= {"voxels": list(labels.grid.shape), "spacing_mm": np.round(labels.grid.spacing, 4).tolist()}
        started = _cpu_seconds()
        mesh = mesh_tumour(labels, size=size, host_size=size and coarsening * size, mesher=mesher)
        facts["cpu_s"] = _cpu_seconds() - started
    except (MeshFault, SegmentationRejected) as refusal:
        return {**facts, "outcome": "refused", "reason": refusal.found}
    except Exception as error:
        return {**facts, "outcome": "failed", "reason": f"{type(error).__name__}: {error}"}
    found = measures(mesh, _kept(labels, mesh))
    beyond = beyond_marks(found)
    return {**facts, "outcome": "failed" if beyond else "meshed", "reason": "; ".join(beyond), **found}


def _kept(labels: LabelImage, mesh: TumourMesh) -> LabelImage:
    """The labels that were meshed: without the crumbs that the report tells of."""
    return without_crumbs(labelled_part(labels), mesh.report["size_mm"])[0] if mesh.report.get("crumbs") else labels


def _cpu_seconds() -> float:
    """Seconds of this process and of its children that have ended."""
    return sum(os.times()[:4])


def measures(mesh: TumourMesh, labels: LabelImage) -> Row:
    """The marks of a mesh, by formulas written out apart from the mesher's: determinants, and angles at the edges."""
    corners = mesh.points[mesh.tetrahedra]
    six = np.linalg.det(corners[:, 1:] - corners[:, :1])
    faces = np.sort(mesh.tetrahedra[:, list(combinations(range(4), 3))].reshape(-1, 3), axis=1)
    voxel = {
        name: float((labels.values == value).sum() * labels.grid.voxel_volume) for value, name in labels.names.items()
    }
    found = {name: float(six[mesh.elements_of(name)].sum() / 6.0) for name in voxel}
    edge = float(labels.grid.spacing.max())
    distances = {
        name: surface_distance(mesh, labels, name, edge)["h95"] for name in voxel if len(mesh.elements_of(name))
    }
    tumour = mesh.report["regions"]["tumour"]
    return {
        "elements": len(six),
        "inverted": int((six <= 0.0).sum()),
        "faces_of_three": int((np.unique(faces, axis=0, return_counts=True)[1] > 2).sum()),
        "min_dihedral_degree": float(_least_angles(corners).min()),
        "min_scaled_jacobian": float((np.sqrt(2.0) * six / _largest_corner(corners)).min()),
        "volume_error": max(abs(found[name] / voxel[name] - 1.0) for name in voxel),
        "h95_voxels": max(distances.values()) / edge,
        "h95_elements": max(distances.values()) / mesh.report["size_mm"],
        "tumour_pieces": [tumour["pieces"], tumour["pieces_in_image"]],
        "size_mm": mesh.report["size_mm"],
        "tries": 1 + len(mesh.report.get("attempts", ())),
        "crumbs": max((one["share"] for one in mesh.report.get("crumbs", ())), default=0.0),
    }


def _least_angles(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """(elements,) degrees, the smallest angle at an edge between what the other two corners see of it."""
    angles = []
    for i, j in combinations(range(4), 2):
        k, m = (c for c in range(4) if c not in (i, j))
        along = corners[:, j] - corners[:, i]
        along /= np.linalg.norm(along, axis=1, keepdims=True)
        one, two = (
            side - (side * along).sum(axis=1, keepdims=True) * along
            for side in (corners[:, k] - corners[:, i], corners[:, m] - corners[:, i])
        )
        angles.append(np.arctan2(np.linalg.norm(np.cross(one, two), axis=1), (one * two).sum(axis=1)))
    return np.asarray(np.degrees(np.min(angles, axis=0)))


def _largest_corner(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """(elements,) the largest product of the three edges that meet in a corner."""
    lengths = np.linalg.norm(corners[:, :, None] - corners[:, None], axis=3) + np.eye(4)
    return np.asarray(lengths.prod(axis=2).max(axis=1))


def beyond_marks(found: Row) -> list[str]:
    """The marks that a mesh misses."""
    held = {
        "inverted": found["inverted"] == 0,
        "faces_of_three": found["faces_of_three"] == 0,
        "min_dihedral_degree": found["min_dihedral_degree"] >= MIN_DIHEDRAL.value,
        "min_scaled_jacobian": found["min_scaled_jacobian"] >= MIN_SCALED_JACOBIAN.value,
        "volume_error": found["volume_error"] <= MAX_VOLUME_ERROR.value,
        "h95_voxels": found["h95_voxels"] < MAX_DISTANCE.value,
    }
    return [f"{name} {found[name]:.4g}" for name, passed in held.items() if not passed]


def record(rows: Sequence[Row], seeds: range) -> Row:
    """Outcomes by mesher and kind, extremes and quantiles of the measures, and every row."""
    random = [row for row in rows if row["kind"] not in ("real", "large")]
    seen = {row["name"] for row in random}
    return {
        "benchmark": "meshes",
        "volumes": len(seen),
        "asked": len(seeds),
        "not_measured": {mesher: _left(random, mesher) for mesher in MESHERS},
        "random": {mesher: outcomes([row for row in random if row["mesher"] == mesher]) for mesher in ("bcc", "gmsh")},
        "kinds": {
            kind: dict(Counter(row["outcome"] for row in random if row["kind"] == kind and row["mesher"] == "bcc"))
            for kind in dict.fromkeys(row["kind"] for row in random)
        },
        "real": [row for row in rows if row["kind"] == "real"],
        "large": [row for row in rows if row["kind"] == "large"],
        "accepted": {
            "inverted": 0,
            "faces_of_three": 0,
            "min_dihedral_degree": MIN_DIHEDRAL.value,
            "min_scaled_jacobian": MIN_SCALED_JACOBIAN.value,
            "volume_error": MAX_VOLUME_ERROR.value,
            "h95_voxels": MAX_DISTANCE.value,
        },
        "passed": len(seen) == len(seeds) and all(row["outcome"] != "failed" for row in rows),
        "versions": {name: version(name) for name in ("oncoscale", "numpy", "numba")},
        "rows": random,
    }


def _left(random: Sequence[Row], mesher: Mesher) -> int:
    """Volumes that the lattice mesher was asked for and another, which takes a tumour in a host alone, was not."""
    fit_for = {row["name"] for row in random if mesher == "bcc" or (row["labels"] == 2 and row["host"])}
    return len(fit_for - {row["name"] for row in random if row["mesher"] == mesher})


def outcomes(rows: Sequence[Row]) -> Row:
    """How many were meshed, refused and failed, why they were refused, and what the meshes measure."""
    meshed = [row for row in rows if row["outcome"] == "meshed"]
    refused = [row for row in rows if row["outcome"] == "refused"]
    return {
        "meshed": len(meshed),
        "refused": len(refused),
        "failed": [row["name"] for row in rows if row["outcome"] == "failed"],
        "reasons": dict(Counter(_kind_of_reason(row["reason"]) for row in refused).most_common()),
        "tried_again": sum(row["tries"] > 1 for row in meshed),
        "without_crumbs": sum(row["crumbs"] > 0.0 for row in meshed),
        "fewer_pieces": sum(row["tumour_pieces"][0] < row["tumour_pieces"][1] for row in meshed),
        **{name: _spread([row[name] for row in meshed]) for name in MEASURES if meshed},
        "ms_per_element": _spread([1000.0 * row["cpu_s"] / row["elements"] for row in meshed]) if meshed else None,
    }


def _spread(values: Sequence[float]) -> dict[str, float]:
    least, median, most = np.quantile(values, [0.0, 0.5, 1.0])
    return {"least": float(least), "median": float(median), "most": float(most)}


def _kind_of_reason(reason: str) -> str:
    """The reason without its numbers and names."""
    for words, kind in REASONS.items():
        if words in reason:
            return kind
    return reason


def draw(rows: Sequence[Row], picture: Path) -> None:
    """Outcomes by kind, and distributions of the measures against their marks."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 3, figsize=(13, 7), constrained_layout=True)
    _draw_outcomes(axes[0, 0], [row for row in rows if row["mesher"] == "bcc"])
    for axis, (name, (words, mark)) in zip(axes.ravel()[1:], PANELS.items()):
        values = {
            mesher: [_value(row, name) for row in rows if row["mesher"] == mesher and row["outcome"] == "meshed"]
            for mesher in ("bcc", "gmsh")
        }
        every = np.concatenate([np.asarray(one, dtype=float) for one in values.values()])
        logarithmic = name in ("volume_error", "ms_per_element")
        low, high = max(float(every.min()), 1e-6 if logarithmic else 0.0), float(every.max())
        bins = np.geomspace(low, high, 30) if logarithmic else np.linspace(min(low, mark or low), high, 30)
        for mesher, colour in (("bcc", "#2563eb"), ("gmsh", "#d97706")):
            axis.hist(np.maximum(values[mesher], low), bins=bins, color=colour, alpha=0.6, label=mesher)
        if logarithmic:
            axis.set_xscale("log")
        if mark is not None:
            axis.axvline(mark, color="#b91c1c", linewidth=1.2, label="mark")
        axis.set(xlabel=words, ylabel="meshes")
        axis.legend(fontsize="small")
    figure.suptitle("Random label volumes: every mesh that was handed out")
    figure.savefig(picture, dpi=110)
    plt.close(figure)


def _value(row: Row, name: str) -> float:
    return float(1000.0 * row["cpu_s"] / row["elements"] if name == "ms_per_element" else row[name])


def _draw_outcomes(axis: Any, rows: Sequence[Row]) -> None:
    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    left = np.zeros(len(kinds))
    for outcome, colour in (("meshed", "#15803d"), ("refused", "#cbd5e1"), ("failed", "#b91c1c")):
        count = np.array([sum(row["kind"] == kind and row["outcome"] == outcome for row in rows) for kind in kinds])
        axis.barh(kinds, count, left=left, color=colour, label=outcome)
        left += count
    axis.invert_yaxis()
    axis.set(xlabel="volumes, lattice mesher")
    axis.legend(fontsize="small", loc="lower right")


def main() -> int:
    """Measure and print the record; exit 1 if an answer is neither a sound mesh nor a refusal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--out", type=Path, help="write meshes.json and meshes.png")
    parser.add_argument("--kept", type=Path, help="go on from these rows, and add to them")
    parser.add_argument("--seeds", default="0:200", metavar="FIRST:END")
    chosen = parser.parse_args()
    first, end = map(int, chosen.seeds.split(":"))
    made = measure(range(first, end), chosen.data, chosen.kept)
    return hand_over(made, chosen.out, lambda picture: draw(made["rows"], picture))


if __name__ == "__main__":
    sys.exit(main())
