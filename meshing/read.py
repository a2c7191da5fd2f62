"""A mesh from its file: what ``write`` wrote, or tetrahedra of any other program in a format that meshio knows.

Programs number regions under different names and number corners in either sense; both are understood here. What is not
a conforming mesh of linear tetrahedra is refused, with the numbers of the elements at fault.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import meshio
import numpy as np
from numpy.typing import NDArray

from ..core.errors import ConfigurationRejected, FileRejected, MeshFault
from .mesh import TumourMesh, signed_volumes
from .quality import face_pairs, gate_failures, quality
from .surface import region_values
from .write import read_step

REGION = "region"
READERS: Mapping[str, str] = {
    ".vtu": "vtu",
    ".vtk": "vtk",
    ".msh": "gmsh",
    ".inp": "abaqus",
    ".mesh": "medit",
    ".meshb": "medit",
    ".xdmf": "xdmf",
    ".xmf": "xdmf",
    ".h5m": "h5m",
    ".med": "med",
}
"""meshio's reader of each ending; .vtkhdf is read by ``write.read_step``."""

ENDINGS = (".vtkhdf", *READERS)

REGION_FIELDS = (REGION, "gmsh:physical", "medit:ref", "cell_tags", "MaterialIds", "MaterialID", "gmsh:geometrical")
"""Fields on elements that number regions, the first that is there: the project's own, Gmsh, Medit, MED, VTK tools."""

SURFACE_CELLS = ("vertex", "line", "line3", "triangle", "triangle6", "quad", "quad8", "quad9")
"""Cells of surfaces, edges and points that may lie beside the tetrahedra and are left out."""

NAMED_AT_MOST = 5
"""Elements at fault that a message names."""


def read_mesh(path: Path | str, regions: Mapping[int, str] | None = None) -> TumourMesh:
    """Tetrahedra in mm, LPS, with the region of every element.

    regions  region values of the file to names, for example ``{7: "tumour"}``; others keep the name that the file has
             for them (physical groups of Gmsh, element sets of Abaqus), else "region VALUE"

    Elements numbered in the other sense are turned and counted in the report. Nodes that no element uses are left out.
    Raises ConfigurationRejected for an unknown ending and for regions that the file does not have, FileRejected when
    the file cannot be read, holds no tetrahedra or solids of another kind, or holds flat or folded ones.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in ENDINGS:
        raise ConfigurationRejected(
            f"mesh {path.name!r}", "a name ending in " + ", ".join(ENDINGS), "write it in one of these formats"
        )
    points, tetrahedra, region, names = _of_vtkhdf(path) if suffix == ".vtkhdf" else _of_meshio(path, READERS[suffix])
    _check_corners(points, tetrahedra, path.name)
    used, numbers = np.unique(tetrahedra, return_inverse=True)
    points, tetrahedra = points[used], numbers.reshape(-1, 4).astype(np.int64)
    tetrahedra, turned = _turned(points, tetrahedra, path.name)
    _refuse_folds(points, tetrahedra, path.name)
    found = {int(value): names.get(int(value), f"region {value}") for value in np.unique(region)}
    return TumourMesh(
        points,
        tetrahedra,
        region,
        {**found, **_known(regions or {}, found)},
        mesher="file",
        report={"turned": turned},
    )


def checked(mesh: TumourMesh) -> TumourMesh:
    """The mesh of another program with the project's region values (``surface.region_values``) and its measures.

    Raises ConfigurationRejected when no region is the tumour, MeshFault when it fails the gates of a new mesh.
    """
    names = tuple(dict.fromkeys(mesh.region_names.values()))
    if "tumour" not in names:
        held = ", ".join(
            f"{value} ({name}, {mesh.volume_of(name):.3g} mL)" for value, name in mesh.region_names.items()
        )
        raise ConfigurationRejected(
            f"no region is named 'tumour'; there are {held}", "the region of the tumour", "add --region VALUE=tumour"
        )
    values = region_values(names)
    region = np.array([values[mesh.region_names[int(value)]] for value in mesh.region], dtype=np.int64)
    named = replace(mesh, region=region, region_names={value: name for name, value in values.items()})
    measured = quality(named)
    failures = gate_failures(measured)
    if failures:
        raise MeshFault(
            f"the mesh fails its gates: {'; '.join(failures)}",
            "a mesh that passes",
            "improve it with the program that made it, or mesh the segmentation",
        )
    return replace(named, report={**mesh.report, "mesher": mesh.mesher, "quality": measured, "failures": failures})


_Read = tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64], dict[int, str]]


def _of_meshio(path: Path, reader: str) -> _Read:
    """Points, tetrahedra, region values and the file's own names of them."""
    if reader == "xdmf":
        _refuse_far_data(path)
    try:
        content = meshio.read(path, reader)
    except (Exception, SystemExit) as error:  # meshio raises whatever its parser meets, and leaves for want of a reader
        raise _unreadable(path.name, type(error).__name__) from error
    others = [
        f"{len(block.data)} of kind {block.type}"
        for block in content.cells
        if block.type != "tetra" and block.type not in SURFACE_CELLS
    ]
    if others:
        raise _unreadable(path.name, f"beside linear tetrahedra it holds {', '.join(others)}")
    blocks = [place for place, block in enumerate(content.cells) if block.type == "tetra" and len(block.data)]
    if not blocks:
        raise _unreadable(path.name, "it holds no tetrahedra")
    tetrahedra = np.concatenate([content.cells[place].data for place in blocks]).astype(np.int64)
    return np.asarray(content.points, dtype=np.float64), tetrahedra, *_regions(content, blocks)


def _regions(content: Any, blocks: list[int]) -> tuple[NDArray[np.int64], dict[int, str]]:
    """(elements,) region values of the blocks, and names of the values: a field, else sets of elements, else all 1."""
    for name in REGION_FIELDS:
        if name in content.cell_data:
            values = np.concatenate([np.ravel(content.cell_data[name][place]) for place in blocks]).astype(np.int64)
            solid = {label: tag for label, (tag, dimension) in _groups(content).items() if dimension == 3}
            return values, {tag: label.lower() for label, tag in solid.items()} if name == "gmsh:physical" else {}
    lengths = [len(content.cells[place].data) for place in blocks]
    values, names = np.zeros(sum(lengths), np.int64), {}
    for number, (name, members) in enumerate(content.cell_sets.items(), 1):
        values[np.concatenate([_in_set(members[place], length) for place, length in zip(blocks, lengths)])] = number
        names[number] = name.lower()
    if not values.any():
        return np.ones_like(values), {}
    return values, names


def _groups(content: Any) -> dict[str, tuple[int, int]]:
    """Gmsh's physical groups: name to tag and dimension."""
    return {name: (int(pair[0]), int(pair[1])) for name, pair in content.field_data.items() if len(pair) == 2}


def _in_set(members: Any, length: int) -> NDArray[np.bool_]:
    inside = np.zeros(length, bool)
    if members is not None:
        inside[np.asarray(members, dtype=np.int64)] = True
    return inside


def _refuse_far_data(path: Path) -> None:
    """XDMF keeps its numbers in a second file; only one that lies beside it, named without a folder, is read."""
    try:
        items = ElementTree.parse(path).getroot().iter("DataItem")
        places = [(item.text or "").strip().split(":")[0] for item in items if item.get("Format") in ("HDF", "Binary")]
    except (ElementTree.ParseError, OSError) as error:
        raise _unreadable(path.name, type(error).__name__) from error
    if any(Path(place).name != place for place in places):
        raise _unreadable(path.name, "its numbers lie in another folder")


def _of_vtkhdf(path: Path) -> _Read:
    step = read_step(path, 0)
    if step.tetrahedra is None:
        raise _unreadable(path.name, "it holds points without tetrahedra")
    region = step.cell_data.get(REGION, np.ones(len(step.tetrahedra)))
    return (
        np.asarray(step.points, dtype=np.float64),
        np.asarray(step.tetrahedra, dtype=np.int64),
        np.asarray(region, dtype=np.int64),
        {},
    )


def _known(regions: Mapping[int, str], found: Mapping[int, str]) -> Mapping[int, str]:
    """The names asked for. Raises ConfigurationRejected for values that no element has."""
    absent = sorted(set(regions) - set(found))
    if absent:
        raise ConfigurationRejected(
            f"no element lies in region {', '.join(map(str, absent))}",
            "one of the regions " + ", ".join(map(str, found)),
            "name the regions that the mesh has",
        )
    return regions


def _check_corners(points: NDArray[np.float64], tetrahedra: NDArray[np.int64], name: str) -> None:
    if (
        points.shape[1:] != (3,)
        or not np.isfinite(points).all()
        or tetrahedra.size == 0
        or not 0 <= tetrahedra.min() <= tetrahedra.max() < len(points)
    ):
        raise _unreadable(name, "corners that are not there, or points that are not finite")


def _turned(points: NDArray[np.float64], tetrahedra: NDArray[np.int64], name: str) -> tuple[NDArray[np.int64], int]:
    """The tetrahedra, all positively oriented, and how many were turned."""
    volumes = signed_volumes(points, tetrahedra)
    if not np.all(np.abs(volumes) > 0.0):
        flat = np.flatnonzero(volumes == 0.0)
        raise _unreadable(name, f"{len(flat)} flat tetrahedra, {_listed(flat)}")
    negative = volumes < 0.0
    turned: Any = np.where(negative[:, None], tetrahedra[:, [0, 1, 3, 2]], tetrahedra)
    return np.asarray(turned, dtype=np.int64), int(negative.sum())


def _refuse_folds(points: NDArray[np.float64], tetrahedra: NDArray[np.int64], name: str) -> None:
    """Elements inside out overlap their neighbours: seen from a shared face, both then lie on the same side.

    The sense in which corners are numbered says nothing of this, so it is looked for in the places of the corners.
    Raises FileRejected with the numbers of the elements, also where more than two share a face.
    """
    faces, sides = face_pairs(tetrahedra)
    if len(faces) * 2 - int((sides[:, 1] < 0).sum()) != 4 * len(tetrahedra):
        raise _unreadable(name, "more than two tetrahedra share a face")
    faces, sides = faces[sides[:, 1] >= 0], sides[sides[:, 1] >= 0]
    corner, one, two = np.moveaxis(points[faces], 1, 0)
    normals = np.cross(one - corner, two - corner)
    heights = np.einsum("fi,fsi->fs", normals, points[tetrahedra[sides]].mean(axis=2) - corner[:, None])
    folded = np.unique(sides[heights[:, 0] * heights[:, 1] > 0.0])
    if len(folded):
        raise _unreadable(
            name, f"{len(folded)} tetrahedra overlap a neighbour: one of each two is inverted, {_listed(folded)}"
        )


def _listed(elements: NDArray[np.int64]) -> str:
    """The first elements by number, counted from 0 among the tetrahedra of the file."""
    more = ", …" if len(elements) > NAMED_AT_MOST else ""
    return f"numbers {', '.join(map(str, elements[:NAMED_AT_MOST].tolist()))}{more} from 0"


def _unreadable(name: str, reason: str) -> FileRejected:
    return FileRejected(
        f"{name!r} cannot be read as a mesh: {reason}",
        "linear tetrahedra of positive volume in mm, LPS",
        "write it with oncoscale mesh, or repair it with the program that made it",
    )
