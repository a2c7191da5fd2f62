"""The thumbnail sheet of ``oncoscale inspect``: one row a series, map or dose, seen as a radiologist sees it.

A dynamic series shows its middle slice at several moments, everything else slices spread over the stack; where regions
are drawn, the slices are those that hold them, and the regions are outlined. A dose is a wash over an image of its
frame of reference. The patient's left lies at the right, the front at the top of axial slices and at the left of
sagittal ones, the head at the top; letters at the first picture of a row say so.
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

from ..imaging.dicom_read import has_lost_its_place
from ..imaging.inspection import Visit
from ..imaging.resample import resample_labels, resample_values
from ..imaging.study import Grid, LabelImage, ParametricMap, Series
from .pictures import FAINT, INK, STYLE

PANELS = 5
"""Pictures in a row."""
MOST_ROWS = 24
"""Rows of a sheet; a visit of more series has its first ones drawn."""
MOST_NAMES = 8
"""Regions named in the legend."""
CT_WINDOW = (-200.0, 300.0)
"""HU shown of a CT at the most: soft tissue keeps its contrast beside air, table and padding."""
BRIGHT = 4.0
"""Grey ends at this many times the 90th percentile (both from the 1st): a test pattern in a corner blackens nothing."""
COLD = 0.1
"""A dose below this share of its largest is not washed over the image."""
_NOTHING = "#e5e7eb"
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
    limits  values that the grey or colour never goes beyond
    wash    a dose over the images
    """

    words: tuple[str, ...]
    grid: Grid
    panels: tuple[tuple[str, NDArray[Any], int], ...]
    colour: str = "gray"
    bar: str | None = None
    limits: tuple[float, float] = (-np.inf, np.inf)
    wash: ParametricMap | None = None


def sheet(visit: Visit, title: str) -> tuple[bytes, int]:
    """(PNG, rows left out) of one visit; a visit that holds no image is a sheet that says so."""
    series, maps, labels = parts_of(visit)
    doses = visit.study.doses if visit.study is not None else ()
    rows = [_series_row(number, one, labels) for number, one in enumerate(series, start=1)]
    rows += [_map_row(one, labels) for one in maps] + [_dose_row(one, series, labels) for one in doses]
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
    """True if positions on both grids may be compared: one frame of reference, or none known and no place lost."""
    if a.frame_uid and b.frame_uid:
        return a.frame_uid == b.frame_uid
    return has_lost_its_place(a) == has_lost_its_place(b)


def _series_row(number: int, series: Series, labels: Sequence[LabelImage]) -> Row:
    kind = f"{number} · {series.role} · {series.modality}".rstrip(" ·")
    words = [kind, series.description[:34], _size(series.grid)]
    limits = CT_WINDOW if series.modality == "CT" else (-np.inf, np.inf)
    if series.values.ndim == 3:
        places = _slices(series.grid, labels, PANELS)
        panels = [(f"slice {k + 1}", series.values, k) for k in places]
        return Row(tuple(words), series.grid, tuple(panels), limits=limits)
    frames = len(series.values)
    shown = sorted({round(place * (frames - 1) / (PANELS - 1)) for place in range(PANELS)})
    (k,) = _slices(series.grid, labels, 1)
    words.append(f"{frames} volumes, slice {k + 1}")
    panels = [(_moment(series, t), series.values[t], k) for t in shown]
    return Row(tuple(words), series.grid, tuple(panels), limits=limits)


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


def _dose_row(dose: ParametricMap, series: Sequence[Series], labels: Sequence[LabelImage]) -> Row:
    """A dose over the first image of its frame of reference, or alone."""
    words = [f"dose up to {np.nanmax(dose.values):.4g} Gy", _size(dose.grid)]
    under = next((one for one in series if dose.grid.frame_uid and one.grid.frame_uid == dose.grid.frame_uid), None)
    if under is None:
        panels = [(f"slice {k + 1}", dose.values, k) for k in _slices(dose.grid, labels, PANELS)]
        return Row(tuple(words), dose.grid, tuple(panels), "inferno", "Gy")
    values: NDArray[Any] = under.values if under.values.ndim == 3 else under.values[0]
    images = [(f"slice {k + 1}", values, k) for k in _dosed_slices(dose, under.grid)]
    limits = CT_WINDOW if under.modality == "CT" else (-np.inf, np.inf)
    words.insert(1, f"over {under.role} · {under.modality}")
    return Row(tuple(words), under.grid, tuple(images), limits=limits, wash=dose)


def _dosed_slices(dose: ParametricMap, grid: Grid) -> list[int]:
    """Slices of an image spread over where the dose is at least half of its largest."""
    hot = np.argwhere(dose.values >= 0.5 * np.nanmax(dose.values))
    heights = np.clip(grid.index(dose.grid.world(hot))[:, 2], 0, grid.shape[2] - 1)
    return list(dict.fromkeys(round(float(k)) for k in np.linspace(heights.min(), heights.max(), PANELS + 2)[1:-1]))


def _labels_row(image: LabelImage) -> Row:
    panels = [(f"slice {k + 1}", image.values, k) for k in _slices(image.grid, [image], PANELS)]
    return Row(("regions without image", image.description[:34], _size(image.grid)), image.grid, tuple(panels))


def _drawn(rows: Sequence[Row], labels: Sequence[LabelImage], colours: dict[str, str], title: str) -> bytes:
    height = _ROW_INCHES * max(1, len(rows)) + 0.7
    width = _WORDS_INCHES + _PANEL_INCHES * PANELS
    figure = Figure(figsize=(width, height))
    figure.text(0.1 / width, 1 - 0.3 / height, title, fontsize=11, color=INK, va="center")
    handles = [Line2D([], [], color=colour, lw=2, label=name[:40]) for name, colour in colours.items()]
    if len(handles) > MOST_NAMES:
        handles = [*handles[:MOST_NAMES], Line2D([], [], lw=0, label=f"and {len(handles) - MOST_NAMES} more")]
    if handles:
        figure.legend(handles=handles, loc="upper right", ncols=min(4, len(handles)), fontsize=8)
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
    window, washed = _window(row), None
    for place, (caption, volume, k) in enumerate(row.panels):
        left = (_WORDS_INCHES + _PANEL_INCHES * place) / width
        axes = figure.add_axes((left, bottom, (_PANEL_INCHES - 0.1) / width, (_ROW_INCHES - 0.3) / height))
        drawn = _draw_slice(axes, row, volume[:, :, k], window)
        washed = drawn if row.bar is not None else _washed(axes, row, k) if row.wash is not None else None
        axes.set_title(caption, fontsize=7.5, pad=2)
        axes.set_axis_off()
        _outline(axes, row.grid, k, labels, colours)
        _as_seen(axes, row.grid, lettered=place == 0)
    if washed is not None:
        side = figure.add_axes((1.55 / width, bottom + 0.1 / height, 0.1 / width, 0.9 / height))
        figure.colorbar(washed, cax=side).ax.tick_params(labelsize=6.5)


def _draw_slice(axes: Any, row: Row, values: NDArray[Any], window: tuple[float, float]) -> Any:
    """One slice in grey or colour; voxels without a value are pale."""
    colours = matplotlib.colormaps[row.colour].with_extremes(bad=_NOTHING)
    aspect = row.grid.spacing[1] / row.grid.spacing[0]
    low, high = window
    shown = np.asarray(values, dtype=float).T
    return axes.imshow(shown, cmap=colours, vmin=low, vmax=high, aspect=aspect, interpolation="nearest")


def _washed(axes: Any, row: Row, k: int) -> Any:
    """The dose of a row over one slice of it."""
    assert row.wash is not None
    most = float(np.nanmax(row.wash.values))
    here = resample_values(row.wash.values, row.wash.grid, _plane(row.grid, k))[:, :, 0].T
    warm = np.where(here >= COLD * most, here, np.nan)
    aspect = row.grid.spacing[1] / row.grid.spacing[0]
    return axes.imshow(warm, cmap="turbo", vmin=0.0, vmax=max(most, 1e-9), alpha=0.45, aspect=aspect)


def _as_seen(axes: Any, grid: Grid, *, lettered: bool) -> None:
    """Turn a picture the way it is looked at: the patient's left to the right, back down or to the right, feet down."""
    letters = []
    for direction, wanted, invert in (
        (grid.affine[:3, 0], (1.0, 1.0, 0.0), axes.invert_xaxis),
        (grid.affine[:3, 1], (1.0, 1.0, -1.0), axes.invert_yaxis),
    ):
        axis = int(np.argmax(np.abs(direction)))
        turned = wanted[axis] * direction[axis] < 0
        if turned:
            invert()
        letters.append(("RL", "AP", "FH")[axis][int((direction[axis] < 0) ^ turned)])
    if lettered:
        style = {"transform": axes.transAxes, "color": "#fde68a", "fontsize": 7}
        axes.text(0.02, 0.5, letters[0], va="center", **style)
        axes.text(0.5, 0.985, letters[1], ha="center", va="top", **style)


def _window(row: Row) -> tuple[float, float]:
    """Grey or colour limits of a whole row, so that its pictures compare: 1st to 99.5th percentile of the slices,
    grey no brighter than BRIGHT allows, and within the row's own limits."""
    values = np.concatenate([np.asarray(volume[:, :, k], dtype=float).ravel() for _, volume, k in row.panels])
    finite = values[np.isfinite(values)]
    shown = finite[finite != 0] if row.bar is not None and (finite != 0).any() else finite
    low, most, high = np.percentile(shown, (1.0, 90.0, 99.5)) if shown.size else (0.0, 1.0, 1.0)
    if row.bar is None and most > low:
        high = min(high, low + BRIGHT * (most - low))
    low, high = max(low, row.limits[0]), min(high, row.limits[1])
    return float(low), float(max(high, low + 1e-9))


def _plane(grid: Grid, k: int) -> Grid:
    """One slice of a grid as a grid."""
    affine = grid.affine.copy()
    affine[:3, 3] = grid.world(np.array([0, 0, k]))
    return Grid((*grid.shape[:2], 1), affine, grid.frame_uid)


def _outline(axes: Any, grid: Grid, k: int, labels: Sequence[LabelImage], colours: dict[str, str]) -> None:
    if min(grid.shape[:2]) < 2:
        return
    for image in labels:
        if not _is_near(image.grid, grid):
            continue
        here = resample_labels(image, _plane(grid, k))
        for name, colour in colours.items():
            mask = here.mask(name)[:, :, 0].T if name in here.names.values() else None
            if mask is not None and mask.any():
                _ring(axes, mask, colour)


def _ring(axes: Any, mask: NDArray[np.bool_], colour: str) -> None:
    """The outline of a region, closed where it meets the edge of the picture."""
    rows, columns = mask.shape
    around = np.pad(mask.astype(float), 1)
    limits = axes.get_xlim(), axes.get_ylim()
    axes.contour(
        np.arange(-1, columns + 1), np.arange(-1, rows + 1), around, levels=[0.5], colors=[colour], linewidths=0.9
    )
    axes.set_xlim(limits[0])
    axes.set_ylim(limits[1])
