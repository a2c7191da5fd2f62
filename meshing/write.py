"""Meshes and their fields as files: .vtu by meshio, VTKHDF for fields over time.

VTKHDF is HDF5 with names that VTK and ParaView know (group ``VTKHDF``, version 2.3). One file holds a mesh whose nodes
and fields change from step to step, and which another mesh may replace on the way. Compression is gzip, which every
reader has. A file is put together in memory, written beside its name and renamed when whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import h5py
import meshio
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..core.errors import ConfigurationRejected, FileRejected
from ..core.files import written_whole
from .mesh import TumourMesh

VERSION = (2, 3)
TETRAHEDRON = 10
"""VTK's number of the linear tetrahedron."""

Fields = Mapping[str, ArrayLike]


def write_mesh(
    path: Path | str, mesh: TumourMesh, cell_data: Fields | None = None, point_data: Fields | None = None
) -> None:
    """Write a mesh with its region on every element, and any further fields, as .vtu or .vtkhdf.

    Raises ConfigurationRejected for another ending.
    """
    cells, nodes = dict(cell_data or {}), dict(point_data or {})
    suffix = Path(path).suffix.lower()
    if suffix == ".vtkhdf":
        write_steps(
            path,
            mesh,
            [0.0],
            [mesh.points],
            {name: [values] for name, values in nodes.items()},
            {name: [values] for name, values in cells.items()},
        )
    elif suffix == ".vtu":
        content = meshio.Mesh(
            mesh.points,
            [("tetra", mesh.tetrahedra)],
            point_data={name: np.asarray(values) for name, values in nodes.items()},
            cell_data={name: [np.asarray(values)] for name, values in {"region": mesh.region, **cells}.items()},
        )
        with written_whole(path) as beside:
            meshio.write(beside, content)
    else:
        raise ConfigurationRejected(
            f"mesh file with the ending {suffix!r}", ".vtu or .vtkhdf", "change the ending of the output file"
        )


class MovingMeshWriter:
    """A VTKHDF file of a mesh whose nodes move: open it with ``with``, append steps, and it is whole at the end.

    The elements of a mesh are written once, as a part that all its steps point to; ``replace`` begins another.

    >>> with MovingMeshWriter("tissue.vtkhdf", mesh) as writer:               # doctest: +SKIP
    ...     writer.append(0.0, mesh.points, point_data={"oxygen": oxygen})

    If the block fails, no file is left. Every step must carry the same fields. ``region`` is always written.
    """

    def __init__(self, path: Path | str, mesh: TumourMesh) -> None:
        self._path, self._mesh, self._steps = Path(path), mesh, 0

    def __enter__(self) -> Self:
        self._file = _in_memory()
        self._root = _root(self._file)
        self.replace(self._mesh)
        return self

    def replace(self, mesh: TumourMesh) -> None:
        """From the next step on, another mesh."""
        elements = len(mesh.tetrahedra)
        self._mesh = mesh
        _append(self._root, "NumberOfPoints", np.array([len(mesh.points)]))
        _append(self._root, "NumberOfCells", np.array([elements]))
        _append(self._root, "NumberOfConnectivityIds", np.array([4 * elements]))
        _append(self._root, "Connectivity", mesh.tetrahedra.ravel())
        _append(self._root, "Offsets", np.arange(elements + 1) * 4)
        _append(self._root, "Types", np.full(elements, TETRAHEDRON, np.uint8))

    def append(
        self,
        time: float,
        points: NDArray[np.float64] | None = None,
        point_data: Fields | None = None,
        cell_data: Fields | None = None,
    ) -> None:
        """One more step.

        time        day
        points      (nodes, 3) mm; by default where the mesh was built
        point_data  name to (nodes,) or (nodes, components)
        cell_data   name to (elements,) or (elements, components)
        """
        nodes, elements = len(self._mesh.points), len(self._mesh.tetrahedra)
        places = self._mesh.points if points is None else np.asarray(points, np.float64)
        fields = {"PointData": dict(point_data or {}), "CellData": {"region": self._mesh.region, **(cell_data or {})}}
        _check_step(self._root, self._steps, places, fields, {"PointData": nodes, "CellData": elements})
        cells_before = len(self._root["Types"]) - elements
        one_step = {
            "Values": np.array([float(time)]),
            "PartOffsets": np.array([len(self._root["NumberOfCells"]) - 1]),
            "NumberOfParts": np.ones(1, np.int64),
            "PointOffsets": np.array([len(self._root["Points"]) if self._steps else 0]),
            "CellOffsets": np.array([[cells_before]]),
            "ConnectivityIdOffsets": np.array([[4 * cells_before]]),
        }
        _append(self._root, "Points", places)
        for group, values in fields.items():
            for name, field in values.items():
                into = self._root.require_group(group)
                before = len(into[name]) if name in into else 0
                _append(into, name, np.asarray(field))
                _append(self._root.require_group(f"Steps/{group}Offsets"), name, np.array([before]))
        _finish_step(self._root, one_step, self._steps + 1)
        self._steps += 1

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        with self._file:
            if error is None:
                _to_disk(self._path, self._file)


def write_steps(
    path: Path | str,
    mesh: TumourMesh,
    times: Sequence[float],
    points_per_step: Sequence[NDArray[np.float64]] | None = None,
    point_data: Mapping[str, Sequence[ArrayLike]] | None = None,
    cell_data: Mapping[str, Sequence[ArrayLike]] | None = None,
    meshes: Sequence[TumourMesh] | None = None,
) -> None:
    """Write a moving mesh with its fields over time as one .vtkhdf; each sequence has one entry for each time.

    meshes  the mesh of each time; by default ``mesh`` at all times
    """
    with MovingMeshWriter(path, mesh) as writer:
        for step, time in enumerate(times):
            if meshes is not None and step and not same_elements(meshes[step], meshes[step - 1]):
                writer.replace(meshes[step])
            writer.append(
                time,
                None if points_per_step is None else points_per_step[step],
                {name: values[step] for name, values in (point_data or {}).items()},
                {name: values[step] for name, values in (cell_data or {}).items()},
            )


def same_elements(one: TumourMesh, other: TumourMesh) -> bool:
    """Whether two meshes have the same elements, wherever their nodes are."""
    return len(one.points) == len(other.points) and np.array_equal(one.tetrahedra, other.tetrahedra)


@dataclass(frozen=True, eq=False)
class Step:
    """One step of a .vtkhdf file.

    time        day
    points      (nodes, 3) mm
    tetrahedra  (elements, 4), None in a file of points
    point_data, cell_data  name to values
    steps       number of steps in the file
    """

    time: float
    points: NDArray[Any]
    tetrahedra: NDArray[np.int64] | None
    point_data: Mapping[str, NDArray[Any]]
    cell_data: Mapping[str, NDArray[Any]]
    steps: int


def read_step(path: Path | str, step: int = -1) -> Step:
    """Read one step (negative: from the end) of a .vtkhdf file that this module wrote.

    Raises FileRejected when the file is none, or when it links to other files.
    """
    try:
        with h5py.File(path, "r") as file:
            _refuse_links(file)
            return _read_step(file["VTKHDF"], step)
    except (OSError, KeyError) as error:
        raise FileRejected(
            f"{Path(path).name!r} is no readable VTKHDF file",
            "a .vtkhdf file",
            "check the file, or write it again",
        ) from error


def _read_step(root: Any, step: int) -> Step:
    steps = int(root["Steps"].attrs["NSteps"])
    if not -steps <= step < steps:
        raise FileRejected(f"step {step} of a file with {steps} steps", f"0 to {steps - 1}", "choose another step")
    step %= steps
    part = int(root["Steps/PartOffsets"][step])
    number = root["NumberOfPoints"][part]
    start = root["Steps/PointOffsets"][step]
    tetrahedra = None
    if "Connectivity" in root:
        first, length = int(root["Steps/ConnectivityIdOffsets"][step, 0]), int(root["NumberOfConnectivityIds"][part])
        tetrahedra = np.asarray(root["Connectivity"][first : first + length]).reshape(-1, 4)
    lengths = {"PointData": int(number), "CellData": 0 if tetrahedra is None else len(tetrahedra)}
    fields: dict[str, dict[str, NDArray[Any]]] = {"PointData": {}, "CellData": {}}
    for group, found in fields.items():
        for name in root.get(group, {}):
            first = int(root[f"Steps/{group}Offsets/{name}"][step])
            found[name] = root[f"{group}/{name}"][first : first + lengths[group]]
    return Step(
        float(root["Steps/Values"][step]),
        root["Points"][start : start + number],
        tetrahedra,
        fields["PointData"],
        fields["CellData"],
        steps,
    )


def _refuse_links(file: Any) -> None:
    """External links, external storage and virtual datasets would make h5py read other files."""

    def look(group: Any) -> None:
        for name in group:
            if isinstance(group.get(name, getlink=True), h5py.ExternalLink):
                raise FileRejected("the file links to another file", "a file that stands alone", "do not open it")
            item = group[name]
            if isinstance(item, h5py.Group):
                look(item)
            elif item.external or item.is_virtual:
                raise FileRejected(
                    "the file keeps values in another file", "a file that stands alone", "do not open it"
                )

    look(file)


def _in_memory() -> Any:
    """A new HDF5 file in memory: HDF5 itself crashes on a full disk, so its image is written by ``_to_disk``."""
    return h5py.File("memory", "w", driver="core", backing_store=False, libver=("earliest", "v108"))


def _to_disk(path: Path | str, file: Any) -> None:
    file.flush()
    with written_whole(path) as beside:
        beside.write_bytes(file.id.get_file_image())


def _root(file: Any) -> Any:
    root, kind = file.create_group("VTKHDF"), "UnstructuredGrid"
    root.attrs["Version"] = np.array(VERSION, np.int64)
    root.attrs.create("Type", kind.encode("ascii"), dtype=h5py.string_dtype("ascii", len(kind)))
    root.create_group("Steps")
    return root


def _append(group: Any, name: str, values: NDArray[Any]) -> None:
    """Add rows to a dataset that grows, creating it at the first step. Whole numbers are kept in 64 bits."""
    if values.dtype == bool:
        values = values.astype(np.uint8)
    elif values.dtype.kind in "iu" and values.dtype != np.uint8:
        values = values.astype(np.int64)
    if name not in group:
        rows = max(1, min(len(values), 65536))
        group.create_dataset(
            name,
            shape=(0, *values.shape[1:]),
            maxshape=(None, *values.shape[1:]),
            dtype=values.dtype,
            chunks=(rows, *values.shape[1:]),
            compression="gzip" if len(values) > 16 else None,
        )
    dataset = group[name]
    dataset.resize(len(dataset) + len(values), axis=0)
    dataset[len(dataset) - len(values) :] = values


def _check_step(
    root: Any, steps: int, points: NDArray[Any], fields: Mapping[str, Fields], lengths: Mapping[str, int]
) -> None:
    if points.shape != (lengths["PointData"], 3):
        raise ValueError(f"points of shape {points.shape} for {lengths['PointData']} nodes")
    for group, values in fields.items():
        if steps and set(values) != set(root.get(group, {})):
            raise ValueError(f"fields {sorted(values)} after {sorted(root.get(group, {}))}: every step has the same")
        for name, field in values.items():
            if "/" in name or len(np.asarray(field)) != lengths[group]:
                raise ValueError(f"field {name!r} of {len(np.asarray(field))} values for {lengths[group]} places")


def _finish_step(root: Any, one_step: Mapping[str, NDArray[Any]], steps: int) -> None:
    """The step's times and offsets, and last the number of steps."""
    for name, values in one_step.items():
        _append(root["Steps"], name, values)
    root["Steps"].attrs["NSteps"] = np.int64(steps)
