"""The mesh of a body that has deformed: its regions as an image, that image meshed anew, and every volume as it was."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.errors import MeshFault
from ..core.quantity import Parameter
from ..imaging.study import Grid, LabelImage
from .mesh import TumourMesh
from .quality import edge_lengths, gate_failures, quality
from .tetrahedra import Mesher, mesh_tumour
from .transfer import overlaps

Real = NDArray[np.float64]

MAX_DISTANCE = Parameter(
    1.5,
    "1",
    "95 % surface distance of a new mesh from the deformed body, in edges of the tumour's elements",
    "ASSUMED: the voxels of a deformed body are ours, a quarter of an element, and no measure of what was seen; its "
    "surface is known as finely as its elements",
    (0.25, 2.0),
    assumed=True,
)

VOXELS_ACROSS = 4.0
"""Voxels along an edge of the tumour's elements, in the image from which the new mesh is made."""

MATCHINGS = 6
"""Newton steps in which the surfaces of a new mesh are moved until each region has its volume."""


def renewed_mesh(
    body: TumourMesh, *, size: float | None = None, host_size: float | None = None, mesher: Mesher = "auto"
) -> TumourMesh:
    """A new mesh of a deformed body, whose regions keep their numbers and volumes; options as in ``mesh_tumour``.

    Raises MeshFault or SegmentationRejected when no mesh passes the gates.
    """
    labels = labels_of(body, size)
    limit = MAX_DISTANCE.value * VOXELS_ACROSS * float(labels.grid.spacing.max())
    mesh = mesh_tumour(labels, size=size, host_size=host_size, mesher=mesher, limit=limit)
    mesh = matched(mesh, body)
    return replace(mesh, frame_uid=body.frame_uid)


def labels_of(mesh: TumourMesh, size: float | None = None) -> LabelImage:
    """The regions of a mesh as a label image, each with its volume: of every region the fullest voxels.

    size  mm, edge of the elements that shall be made from it; by default as those of the mesh's tumour
    """
    size = size or float(edge_lengths(mesh.points, mesh.tetrahedra)[mesh.elements_of("tumour")].mean())
    side = size / VOXELS_ACROSS
    low, high = mesh.points.min(axis=0) - 2.0 * side, mesh.points.max(axis=0) + 2.0 * side
    shape = np.ceil((high - low) / side).astype(int) + 1
    affine = np.diag([side, side, side, 1.0])
    affine[:3, 3] = low
    grid = Grid((int(shape[0]), int(shape[1]), int(shape[2])), affine)
    shared = overlaps(mesh, grid)
    filled = {value: (mesh.region == value).astype(float) @ shared for value in mesh.region_names}
    inside = _fullest(sum(filled.values()), np.ones(int(np.prod(shape)), bool), grid.voxel_volume)
    values = np.zeros(int(np.prod(shape)), np.uint8)
    first, *others = sorted(filled, key=lambda value: (mesh.region_names[value] != "host", value))
    values[inside] = first
    free = inside.copy()
    for value in others:
        own = _fullest(filled[value], free, grid.voxel_volume)
        values[own] = value
        free &= ~own
    return LabelImage(grid, values.reshape(grid.shape), dict(mesh.region_names))


def _fullest(filled: Any, free: NDArray[np.bool_], voxel: float) -> NDArray[np.bool_]:
    """The free voxels that hold most of a region, as many as hold its volume."""
    order = np.argsort(-np.where(free, filled, -1.0), kind="stable")
    chosen = np.zeros(len(free), bool)
    chosen[order[: round(float(np.sum(filled)) / voxel)]] = True
    return chosen & free


def matched(mesh: TumourMesh, body: TumourMesh) -> TumourMesh:
    """The mesh with the surfaces of its regions moved along their normals until each has the volume it has in ``body``.

    Regions keep their names and take the numbers of ``body``. A mesh made from voxels misses its volumes by less than a
    hundredth, the move is far below an element. Raises MeshFault if the gates refuse the mesh afterwards.
    """
    numbers = {name: value for value, name in body.region_names.items()}
    region = np.zeros_like(mesh.region)
    for value, name in mesh.region_names.items():
        region[mesh.region == value] = numbers[name]
    mesh = replace(mesh, region=region, region_names=dict(body.region_names))
    names = present_regions(mesh)
    for _ in range(MATCHINGS):
        outward = [_outward(mesh, name) for name in names]
        normals = [area / np.maximum(np.linalg.norm(area, axis=1, keepdims=True), 1e-300) for area in outward]
        missing = [1000.0 * (body.volume_of(name) - mesh.volume_of(name)) for name in names]
        gained = np.array([[float((area * normal).sum()) for normal in normals] for area in outward])
        step = np.linalg.lstsq(gained, np.array(missing), rcond=None)[0]
        mesh = mesh.moved(sum(one * normal for one, normal in zip(step, normals)))
    failures = gate_failures(quality(mesh), deformed=True)
    if failures:
        raise MeshFault("; ".join(failures), "a mesh whose regions have their volumes", "choose another size")
    return mesh


def _outward(mesh: TumourMesh, name: str) -> Real:
    """(nodes, 3) mm²: a third of the outward area of a region's surface around each node."""
    faces = mesh.surface_of(name)
    a, b, c = np.moveaxis(mesh.points[faces], 1, 0)
    area = np.zeros_like(mesh.points)
    np.add.at(area, faces.ravel(), np.repeat(np.cross(b - a, c - a) / 6.0, 3, axis=0))
    return np.asarray(area)


def present_regions(mesh: TumourMesh) -> tuple[str, ...]:
    """Names of the regions that have elements."""
    return tuple(name for name in mesh.region_names.values() if len(mesh.elements_of(name)))
