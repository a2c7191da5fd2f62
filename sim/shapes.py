"""Meshes of known shape, for verification problems with an exact solution and for benchmarks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from ..meshing.mesh import TumourMesh, signed_volumes
from .elements import edges_of

Points = NDArray[np.float64]

CHILDREN = np.array(
    [[0, 4, 5, 6], [1, 4, 7, 8], [2, 5, 7, 9], [3, 6, 8, 9], [4, 5, 6, 8], [4, 5, 7, 8], [5, 6, 8, 9], [5, 7, 8, 9]]
)
"""Corners of the eight children: 0 to 3 the corners, 4 to 9 the middles of ``elements.EDGES``."""


def cube(divisions: int, *, side: float = 1.0, shake: float = 0.0) -> TumourMesh:
    """The cube [0, side]³ in 6 divisions³ tetrahedra (Kuhn's subdivision), all one region "tumour".

    shake   moves each inner node by up to this share of the spacing, by a fixed irregular rule
    """
    points, tetrahedra = _kuhn(divisions)
    if shake:
        inside = np.all((points > 1e-9) & (points < 1.0 - 1e-9), axis=1)
        number = np.arange(len(points))[:, None] * np.array([1.0, 2.0, 3.0])
        points[inside] += shake / divisions * np.sin(12.9898 * number + 78.233)[inside]
    return _mesh(points * side, tetrahedra, np.full(len(tetrahedra), 2))


def slab(divisions: tuple[int, int, int]) -> TumourMesh:
    """The unit cube in 6 i j k tetrahedra, i, j, k divisions along its axes, all one region "tumour"."""
    points, tetrahedra = _kuhn(*divisions)
    return _mesh(points, tetrahedra, np.full(len(tetrahedra), 2))


def ball_octant(radii: Sequence[float], layers: Sequence[int]) -> TumourMesh:
    """The octant x, y, z >= 0 of nested balls: "tumour" inside the first radius, "host" beyond it.

    radii    mm, increasing
    layers   layers of elements between one radius and the next; their sum is the divisions of a side
    """
    points, tetrahedra = _kuhn(sum(layers))
    depth = points.max(axis=1)
    levels = np.concatenate([[0.0], np.cumsum(layers) / sum(layers)])
    radius = np.interp(depth, levels, np.concatenate([[0.0], np.asarray(radii, dtype=float)]))
    length = np.linalg.norm(points, axis=1)
    points = points * np.divide(radius, length, out=np.zeros_like(length), where=length > 0)[:, None]
    inside = depth[tetrahedra].mean(axis=1) < levels[1]
    return _mesh(points, tetrahedra, np.where(inside, 2, 1))


def refined(mesh: TumourMesh) -> TumourMesh:
    """Every tetrahedron in eight: four at its corners, four in the octahedron between them.

    The children of element e are the elements 8 e to 8 e + 7.
    """
    ends, place = edges_of(mesh.tetrahedra)
    points = np.concatenate([mesh.points, mesh.points[ends].mean(axis=1)])
    known = np.concatenate([mesh.tetrahedra, len(mesh.points) + place], axis=1)
    children = known[:, CHILDREN].reshape(-1, 4)
    return replace(_mesh(points, children, np.repeat(mesh.region, 8)), region_names=mesh.region_names)


def _kuhn(*divisions: int) -> tuple[Points, NDArray[np.int64]]:
    """Nodes of the unit cube's lattice and six tetrahedra a cell, one per order of the three axes."""
    i, j, k = divisions if len(divisions) == 3 else 3 * divisions
    axes = (np.linspace(0.0, 1.0, number + 1) for number in (i, j, k))
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    cells = np.stack(np.meshgrid(*(np.arange(number) for number in (i, j, k)), indexing="ij"), axis=-1).reshape(-1, 3)
    strides = np.array([(j + 1) * (k + 1), k + 1, 1])
    paths = [np.cumsum([0, *strides[list(order)]]) for order in permutations(range(3))]
    tetrahedra = ((cells @ strides)[:, None, None] + np.array(paths)[None]).reshape(-1, 4)
    return points, tetrahedra


def _mesh(points: Points, tetrahedra: NDArray[np.int64], region: NDArray[np.int64]) -> TumourMesh:
    inside_out = signed_volumes(points, tetrahedra) < 0.0
    tetrahedra[inside_out] = tetrahedra[inside_out][:, [0, 1, 3, 2]]
    return TumourMesh(points, tetrahedra.astype(np.int64), region.astype(np.int64), {1: "host", 2: "tumour"})
