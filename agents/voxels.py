"""The grid of voxels that carries counts, matrix and oxygen.

Cubes of 30 µm, an odd number on each axis, centred on the colony's own centre. Arrays are indexed [x, y, z].
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

Near = namedtuple("Near", "oxygen neuroblasts schwann necrotic")
"""What a cell feels: oxygen of its voxel (pO2 / 72 mmHg); living neuroblasts, living Schwann cells and necrotic cells
of its voxel and the six beside it."""


@compiled
def index_of(x: float, voxels: int) -> int:
    """Place of a coordinate on an axis of ``voxels``; outside the grid it is negative or too large."""
    return math.floor((x + 0.5 * VOXEL * voxels) / VOXEL)


@compiled
def clamped(place: int, voxels: int) -> int:
    """The nearest place inside the grid (a daughter may lie outside until she is pushed back)."""
    return min(max(place, 0), voxels - 1)


@compiled
def matrix_at(x: float, y: float, z: float, matrix: Grid, elsewhere: float) -> Any:
    """Volume fraction of matrix at a point; ``elsewhere`` outside the grid or where none is recorded."""
    nx, ny, nz = matrix.shape
    a, b, c = index_of(x, nx), index_of(y, ny), index_of(z, nz)
    if a < 0 or b < 0 or c < 0 or a >= nx or b >= ny or c >= nz:
        return elsewhere
    if matrix[a, b, c] == 0.0:
        return elsewhere
    return matrix[a, b, c]


@compiled
def count_cells(cells: Cells, counts: NDArray[np.int32], uncrowded: NDArray[np.int32]) -> None:
    """Count each cell into its voxel.

    counts     (6, x, y, z) zeros on entry: cells of each class
    uncrowded  (x, y, z) zeros on entry: living cells of the second kind with nobody beside them
    """
    _, nx, ny, nz = counts.shape
    for i in range(len(cells)):
        cell = cells[i]
        a = clamped(index_of(cell.x, nx), nx)
        b = clamped(index_of(cell.y, ny), ny)
        c = clamped(index_of(cell.z, nz), nz)
        counts[class_of(cell), a, b, c] += 1
        if cell.kind == 1 and living(cell) and cell.neighbours < 2:
            uncrowded[a, b, c] += 1


@compiled
def histograms(counts: NDArray[np.int32], total: NDArray[np.int64], by_class: NDArray[np.int64]) -> None:
    """Number of voxels by number of cells, all cells together and summed over the classes; both zeros on entry."""
    classes, nx, ny, nz = counts.shape
    for a in range(nx):
        for b in range(ny):
            for c in range(nz):
                cells = 0
                for k in range(classes):
                    of_class = counts[k, a, b, c]
                    by_class[min(of_class, MOST_IN_HISTOGRAM)] += 1
                    cells += of_class
                total[min(cells, MOST_IN_HISTOGRAM)] += 1


@compiled
def look_around(cell: Any, counts: NDArray[np.int32], oxygen: Grid) -> Any:
    """What is near a cell: its own voxel and the face neighbours that lie inside the grid."""
    _, nx, ny, nz = counts.shape
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
            neuroblasts += counts[0, i, j, k]
            schwann += counts[3, i, j, k]
            necrotic += counts[2, i, j, k] + counts[5, i, j, k]
    return Near(oxygen[a, b, c], neuroblasts, schwann, necrotic)


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
