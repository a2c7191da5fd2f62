"""From one grid to another: labels by the nearest voxel, values linearly, invalid voxels kept out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from .study import Grid, LabelImage


def _indices(grid_from: Grid, grid_to: Grid, k: int) -> NDArray[np.float64]:
    """(3, columns, rows) fractional indices in ``grid_from`` of slice ``k`` of ``grid_to``."""
    across = np.linalg.inv(grid_from.affine) @ grid_to.affine
    i, j = np.arange(grid_to.shape[0])[:, None], np.arange(grid_to.shape[1])[None, :]
    return np.stack([across[a, 0] * i + across[a, 1] * j + across[a, 2] * k + across[a, 3] for a in range(3)])


def resample_labels(labels: LabelImage, grid: Grid) -> LabelImage:
    """The label image on another grid: each voxel takes the label of the voxel that its centre lies in, 0 outside."""
    if labels.grid.same_as(grid):
        return replace(labels, grid=grid)
    values = np.zeros(grid.shape, dtype=np.uint8)
    limits = np.array(labels.grid.shape)[:, None, None]
    for k in range(grid.shape[2]):
        nearest = np.floor(_indices(labels.grid, grid, k) + 0.5 + 1e-9).astype(np.int64)
        inside = ((nearest >= 0) & (nearest < limits)).all(axis=0)
        values[:, :, k][inside] = labels.values[tuple(nearest[:, inside])]
    return replace(labels, grid=grid, values=values)


def resample_values(values: NDArray[np.floating], grid: Grid, onto: Grid) -> NDArray[np.float64]:
    """Values on another grid by trilinear interpolation among the valid voxels.

    values   (i, j, k) on ``grid``, NaN where invalid
    returns  (i, j, k) on ``onto``; NaN where less than half of the interpolation's weight is on valid voxels, as
             outside ``grid``
    """
    from scipy.ndimage import map_coordinates  # only here: who reads images does without, and starts sooner

    if grid.same_as(onto, tolerance=1e-6):
        return np.array(values, dtype=np.float64)
    valid = np.isfinite(values)
    filled, weight = np.where(valid, values, 0.0).astype(np.float64), valid.astype(np.float64)
    result = np.full(onto.shape, np.nan)
    for k in range(onto.shape[2]):
        places = _indices(grid, onto, k)
        share = map_coordinates(weight, places, order=1, mode="grid-constant")
        total = map_coordinates(filled, places, order=1, mode="grid-constant")
        trusted = share >= 0.5 - 1e-9
        result[:, :, k][trusted] = total[trusted] / share[trusted]
    return result
