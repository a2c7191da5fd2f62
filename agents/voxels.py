"""The grid of voxels that carries counts, matrix and oxygen.

Cubes of 30 µm, an odd number on each axis, centred on the colony's own centre. Arrays are indexed [x, y, z]; what
compiled code reads is laid flat, z fastest, with the grid's shape beside it.
"""

from __future__ import annotations

import math
from collections import namedtuple
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .cell import Cells, class_of, living
from .rule import compiled

VOXEL = 30.0
"""Side of a voxel, µm."""

VOXEL_VOLUME = VOXEL**3
"""µm³."""

MOST_IN_HISTOGRAM = 41
"""Voxels with more cells count as this many."""

Grid = NDArray[np.float64]
"""(x, y, z) one number a voxel."""

Flat = NDArray[np.float64]
"""(voxels,) the same, laid flat."""

Shape = tuple[int, int, int]
"""Voxels on each axis."""

Near = namedtuple("Near", "oxygen neuroblasts schwann necrotic")
"""What a cell feels: oxygen of its voxel (pO2 / 72 mmHg); living neuroblasts, living Schwann cells and necrotic cells
of its voxel and the six beside it."""


@compiled
def index_of(x: float, voxels: int) -> int:
    """Place of a coordinate on an axis of ``voxels``; outside the grid it is negative or too large."""
    return int(math.floor((x + 0.5 * VOXEL * voxels) / VOXEL))  # noqa: RUF046 - floor is a float in CUDA


@compiled
def clamped(place: int, voxels: int) -> int:
    """The nearest place inside the grid (a daughter may lie outside until she is pushed back)."""
    return min(max(place, 0), voxels - 1)


@compiled
def voxel_of(x: float, y: float, z: float, shape: Shape) -> Any:
    """Place of the voxel at a point in an array laid flat; the nearest one for a point outside the grid."""
    nx, ny, nz = shape
    return (clamped(index_of(x, nx), nx) * ny + clamped(index_of(y, ny), ny)) * nz + clamped(index_of(z, nz), nz)


@compiled
def matrix_at(x: float, y: float, z: float, matrix: Flat, shape: Shape, elsewhere: float) -> Any:
    """Volume fraction of matrix at a point; ``elsewhere`` outside the grid or where none is recorded."""
    nx, ny, nz = shape
    a, b, c = index_of(x, nx), index_of(y, ny), index_of(z, nz)
    if a < 0 or b < 0 or c < 0 or a >= nx or b >= ny or c >= nz:
        return elsewhere
    recorded = matrix[(a * ny + b) * nz + c]
    if recorded == 0.0:
        return elsewhere
    return recorded


@compiled
def count_cells(cells: Cells, counts: NDArray[np.int32], uncrowded: NDArray[np.int32], shape: Shape) -> None:
    """Count each cell into its voxel.

    counts     (6, voxels) zeros on entry: cells of each class
    uncrowded  (voxels,) zeros on entry: living cells of the second kind with nobody beside them
    """
    for i in range(len(cells)):
        cell = cells[i]
        voxel = voxel_of(cell.x, cell.y, cell.z, shape)
        counts[class_of(cell), voxel] += 1
        if is_uncrowded(cell):
            uncrowded[voxel] += 1


@compiled
def is_uncrowded(cell: Any) -> Any:
    """A living cell of the second kind with nobody beside it."""
    return cell.kind == 1 and living(cell) and cell.neighbours < 2


def histograms(counts: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Number of voxels by number of cells, all cells together and summed over the classes.

    counts  (6, voxels) cells of each class
    """

    def by_number(cells: NDArray[np.int32]) -> NDArray[np.int64]:
        most = np.minimum(cells, MOST_IN_HISTOGRAM).ravel()
        return np.bincount(most, minlength=MOST_IN_HISTOGRAM + 1).astype(np.int64)

    return by_number(counts.sum(axis=0, dtype=np.int32)), by_number(counts)


@compiled
def look_around(cell: Any, counts: NDArray[np.int32], oxygen: Flat, shape: Shape) -> Any:
    """What is near a cell: its own voxel and the face neighbours that lie inside the grid.

    counts  (6, voxels) cells of each class
    """
    nx, ny, nz = shape
    a, b, c = clamped(index_of(cell.x, nx), nx), clamped(index_of(cell.y, ny), ny), clamped(index_of(cell.z, nz), nz)
    neuroblasts, schwann, necrotic = 0, 0, 0
    for side in range(7):
        i, j, k = a, b, c
        if side < 2:
            i += 2 * side - 1
        elif side < 4:
            j += 2 * side - 5
        elif side < 6:
            k += 2 * side - 9
        if 0 <= i < nx and 0 <= j < ny and 0 <= k < nz:
            voxel = (i * ny + j) * nz + k
            neuroblasts += counts[0, voxel]
            schwann += counts[3, voxel]
            necrotic += counts[2, voxel] + counts[5, voxel]
    return Near(oxygen[(a * ny + b) * nz + c], neuroblasts, schwann, necrotic)


def span_of(extent: float) -> int:
    """Half the number of voxels needed on an axis, the middle one counted, for cells up to ``extent`` µm out."""
    return math.ceil(extent / VOXEL + 0.5)


def expanded(grid: Grid, shape: tuple[int, int, int], fill: float) -> Grid:
    """The grid set in the middle of a larger one whose new voxels hold ``fill``."""
    larger = np.full(shape, fill)
    margins = [(new - old) // 2 for new, old in zip(shape, grid.shape, strict=True)]
    inner = tuple(slice(margin, margin + old) for margin, old in zip(margins, grid.shape, strict=True))
    larger[inner] = grid
    return larger
