"""The patient's own image that stands behind every contour of a report."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..imaging.study import Grid, ImagingStudy, LabelImage, ParametricMap, Series

MARGIN_MM = 60.0
"""How far around the tumour an image is kept with a run: enough to find one's way, no more of the body than that."""


@dataclass(frozen=True, eq=False)
class Background:
    """Grey values around a tumour.

    values   (i, j, k) as the scanner gave them
    caption  which image it is, in words
    """

    grid: Grid
    values: NDArray[np.float32]
    caption: str


def background(study: ImagingStudy, tumour: LabelImage, maps: tuple[ParametricMap, ...] = ()) -> Background | None:
    """The image that shows the tumour best, cut to its surroundings; None if the study holds no image of it.

    In this order: an anatomical series, the late frames of the dynamic series, the variable-flip-angle or diffusion
    series, a map. Of several of one kind the one with the smallest voxels that covers the whole tumour.
    """
    points = _outline_points(tumour)
    for role in ("anatomy", "dynamic", "vfa", "diffusion"):
        covering = [series for series in study.of_role(role) if _covers(series.grid, points)]
        if covering:
            series = min(covering, key=lambda one: (one.grid.voxel_volume, one.uid))
            return _cut(series.grid, _volume(series), _caption(series), points)
    for parametric in maps:
        if _covers(parametric.grid, points):
            grey = np.nan_to_num(parametric.values).astype(np.float32)
            return _cut(parametric.grid, grey, f"{parametric.name} map", points)
    return None


def _outline_points(tumour: LabelImage) -> NDArray[np.float64]:
    """(n, 3) mm: centres of the tumour's voxels."""
    return tumour.grid.world(np.argwhere(tumour.mask("tumour")).astype(np.float64))


def _covers(grid: Grid, points: NDArray[np.float64]) -> bool:
    index = grid.index(points)
    return bool((index >= -0.5).all() and (index <= np.array(grid.shape) - 0.5).all()) and min(grid.shape) > 1


def _volume(series: Series) -> NDArray[np.float32]:
    """(i, j, k): the series itself, its first b-value, or the mean of the last third of its frames."""
    if series.values.ndim == 3:
        return series.values
    if series.role == "dynamic":
        late = max(1, len(series.values) // 3)
        return np.asarray(series.values[-late:].mean(axis=0))
    return np.asarray(series.values[0])


def _caption(series: Series) -> str:
    words = {
        "anatomy": "anatomical image",
        "dynamic": "dynamic series, mean of its late frames",
        "vfa": "variable-flip-angle series, first angle",
        "diffusion": "diffusion series, lowest b-value",
    }
    return f"{series.modality} {words.get(series.role, series.role)}".strip()


def _cut(grid: Grid, values: NDArray[np.float32], caption: str, points: NDArray[np.float64]) -> Background:
    index = grid.index(points)
    margin = MARGIN_MM / grid.spacing
    low = np.maximum(np.floor(index.min(axis=0) - margin).astype(int), 0)
    high = np.minimum(np.ceil(index.max(axis=0) + margin).astype(int) + 1, grid.shape)
    affine = grid.affine.copy()
    affine[:3, 3] = grid.world(low.astype(np.float64))
    columns, rows, slices = (slice(int(a), int(b)) for a, b in zip(low, high))
    part = np.ascontiguousarray(values[columns, rows, slices], dtype=np.float32)
    return Background(Grid((part.shape[0], part.shape[1], part.shape[2]), affine, grid.frame_uid), part, caption)
