"""The thumbnail sheet of ``oncoscale inspect``: one row a series or map, slices as the scanner laid them out.

A dynamic series shows its middle slice at several moments, everything else slices at a quarter, the middle and three
quarters of the stack; where regions are drawn, the slices are those that hold them, and the regions are outlined.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import matplotlib

matplotlib.use("Agg")

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from ..imaging.inspection import Visit
from ..imaging.resample import resample_labels
from ..imaging.study import Grid, LabelImage, ParametricMap, Series
from .pictures import FAINT, INK, STYLE

PANELS = 5
"""Pictures in a row."""
MOST_ROWS = 24
"""Rows of a sheet; a visit of more series has its first ones drawn."""
_OUTLINES = ("#fb7185", "#38bdf8", "#facc15", "#a3e635", "#c084fc", "#fb923c")
_ROW_INCHES, _PANEL_INCHES, _WORDS_INCHES = 2.1, 1.95, 2.3


@dataclass(frozen=True, eq=False)
class Row:
    """One row of the sheet.

    words   what it is, a line each
    grid    of the volumes
    panels  (caption, volume (i, j, k), slice)
    colour  name of the colour map
    bar     unit of the colour bar, None for grey images without one
    """

    words: tuple[str, ...]
    grid: Grid
    panels: tuple[tuple[str, NDArray[Any], int], ...]
    colour: str = "gray"
    bar: str | None = None


def sheet(visit: Visit, title: str) -> tuple[bytes, int]:
    """(PNG, rows left out) of one visit; a visit that holds no image is a sheet that says so."""
    series, maps, labels = parts_of(visit)
    rows = [_series_row(one, labels) for one in series] + [_map_row(one, labels) for one in maps]
    rows += [_labels_row(one) for one in labels if not any(_is_near(one.grid, row.grid) for row in rows)]
    names = list(dict.fromkeys(name for image in labels for name in image.names.values()))
    colours = {name: _OUTLINES[place % len(_OUTLINES)] for place, name in enumerate(names)}
    with matplotlib.rc_context(STYLE):
        return _drawn(rows[:MOST_ROWS], labels, colours, title), max(0, len(rows) - MOST_ROWS)


def parts_of(visit: Visit) -> tuple[Sequence[Series], Sequence[ParametricMap], Sequence[LabelImage]]:
    """Series, maps and label images of a visit, from its study or else from what could be read."""
    if visit.study is not None:
        return visit.study.series, visit.study.maps, visit.study.labels
    supplied = [
        ParametricMap(one.name, one.declared, one.grid, one.values, derived_from=one.derived_from, method=one.method)
        for one in visit.read.maps
    ]
    return visit.read.series, supplied, visit.read.labels


def _size(grid: Grid) -> str:
    return " × ".join(map(str, grid.shape)) + "\n" + " × ".join(f"{step:.3g}" for step in grid.spacing) + " mm"


def _slices(grid: Grid, labels: Sequence[LabelImage], count: int) -> list[int]:
    """Slice numbers spread over the regions, or over the stack where none is drawn on it."""
    inside: set[int] = set()
    for image in labels:
        if image.values.any() and _is_near(image.grid, grid):
            inside |= set(np.flatnonzero(resample_labels(image, grid).values.any(axis=(0, 1))).tolist())
    low, high = (min(inside), max(inside)) if inside else (0, grid.shape[2] - 1)
    places = [(place + 0.5) / count for place in range(count)]
    return list(dict.fromkeys(low + round(share * (high - low)) for share in places))


def _is_near(a: Grid, b: Grid) -> bool:
    return not a.frame_uid or not b.frame_uid or a.frame_uid == b.frame_uid


def _series_row(series: Series, labels: Sequence[LabelImage]) -> Row:
    words = [f"{series.role} · {series.modality}".rstrip(" ·"), series.description[:34], _size(series.grid)]
    if series.values.ndim == 3:
        places = _slices(series.grid, labels, PANELS)
        panels = [(f"slice {k + 1}", series.values, k) for k in places]
        return Row(tuple(words), series.grid, tuple(panels))
    frames = len(series.values)
    shown = sorted({round(place * (frames - 1) / (PANELS - 1)) for place in range(PANELS)})
    (k,) = _slices(series.grid, labels, 1)
    words.append(f"{frames} volumes, slice {k + 1}")
    return Row(tuple(words), series.grid, tuple((_moment(series, t), series.values[t], k) for t in shown))


def _moment(series: Series, t: int) -> str:
    if series.times_s is not None:
        return f"{series.times_s[t]:.4g} s"
    if series.b_values is not None:
        return f"b {series.b_values[t]:g} s/mm²"
    angles = series.acquisition.get("fa_deg")
    return f"{angles.value[t]:g}°" if angles is not None and isinstance(angles.value, tuple) else f"volume {t + 1}"


def _map_row(one: ParametricMap, labels: Sequence[LabelImage]) -> Row:
    unit = one.unit or "no unit stated"
    panels = [(f"slice {k + 1}", one.values, k) for k in _slices(one.grid, labels, PANELS)]
    return Row((f"map {one.name}", unit, _size(one.grid)), one.grid, tuple(panels), "viridis", unit)


def _labels_row(image: LabelImage) -> Row:
    panels = [(f"slice {k + 1}", image.values, k) for k in _slices(image.grid, [image], PANELS)]
    return Row(("regions without image", image.description[:34], _size(image.grid)), image.grid, tuple(panels))


def _drawn(rows: Sequence[Row], labels: Sequence[LabelImage], colours: dict[str, str], title: str) -> bytes:
    height = _ROW_INCHES * max(1, len(rows)) + 0.7
    width = _WORDS_INCHES + _PANEL_INCHES * PANELS
    figure = Figure(figsize=(width, height))
    figure.text(0.1 / width, 1 - 0.3 / height, title, fontsize=11, color=INK, va="center")
    handles = [Line2D([], [], color=colour, lw=2, label=name[:40]) for name, colour in colours.items()]
    if handles:
        figure.legend(handles=handles[:8], loc="upper right", ncols=min(4, len(handles)), fontsize=8)
    if not rows:
        figure.text(0.5, 0.4, "nothing to show", ha="center", color=FAINT)
    for place, row in enumerate(rows):
        _draw_row(figure, row, labels, colours, 1 - (0.6 + _ROW_INCHES * (place + 1)) / height, (width, height))
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=100, metadata={"Software": None})
    return buffer.getvalue()


def _draw_row(
    figure: Figure,
    row: Row,
    labels: Sequence[LabelImage],
    colours: dict[str, str],
    bottom: float,
    size: tuple[float, float],
) -> None:
    width, height = size
    top = bottom + (_ROW_INCHES - 0.25) / height
    figure.text(0.1 / width, top, "\n".join(word for word in row.words if word), fontsize=8, va="top", color=INK)
    low, high = _window(row)
    drawn = None
    for place, (caption, volume, k) in enumerate(row.panels):
        left = (_WORDS_INCHES + _PANEL_INCHES * place) / width
        axes = figure.add_axes((left, bottom, (_PANEL_INCHES - 0.1) / width, (_ROW_INCHES - 0.3) / height))
        aspect = row.grid.spacing[1] / row.grid.spacing[0]
        values = np.asarray(volume[:, :, k], dtype=float).T
        drawn = axes.imshow(values, cmap=row.colour, vmin=low, vmax=high, aspect=aspect, interpolation="nearest")
        axes.set_title(caption, fontsize=7.5, pad=2)
        axes.set_axis_off()
        _outline(axes, row.grid, k, labels, colours)
    if row.bar is not None and drawn is not None:
        side = figure.add_axes((1.55 / width, bottom + 0.1 / height, 0.1 / width, 0.9 / height))
        figure.colorbar(drawn, cax=side).ax.tick_params(labelsize=6.5)


def _window(row: Row) -> tuple[float, float]:
    """Grey or colour limits of a whole row, so that its pictures compare: 1st to 99.5th percentile of the slices."""
    values = np.concatenate([np.asarray(volume[:, :, k], dtype=float).ravel() for _, volume, k in row.panels])
    finite = values[np.isfinite(values)]
    shown = finite[finite != 0] if row.bar is not None and (finite != 0).any() else finite
    low, high = np.percentile(shown, (1.0, 99.5)) if shown.size else (0.0, 1.0)
    return float(low), float(max(high, low + 1e-9))


def _outline(axes: Any, grid: Grid, k: int, labels: Sequence[LabelImage], colours: dict[str, str]) -> None:
    if min(grid.shape[:2]) < 2:
        return
    for image in labels:
        if not _is_near(image.grid, grid):
            continue
        affine = grid.affine.copy()
        affine[:3, 3] = grid.world(np.array([0, 0, k]))
        here = resample_labels(image, Grid((*grid.shape[:2], 1), affine, grid.frame_uid))
        for name, colour in colours.items():
            mask = here.mask(name)[:, :, 0].T if name in here.names.values() else None
            if mask is not None and mask.any() and not mask.all():
                axes.contour(mask.astype(float), levels=[0.5], colors=[colour], linewidths=0.9)
