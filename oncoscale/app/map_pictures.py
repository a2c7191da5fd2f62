"""The pictures beside a folder of maps: the maps over the anatomy, fits of some voxels, and the input function.

Maps are shown on the slices that the scanner made, voxel by voxel, never interpolated; a voxel of the tumour without
a value is hatched, as it is no zero. The radiological convention holds where the slices are axial.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from ..core.files import write_json, written_whole
from ..imaging.aif import parker
from ..imaging.map_files import Quantified
from ..imaging.nifti import write_labels
from ..imaging.study import Grid, ImagingStudy, LabelImage, ParametricMap
from .background import Background, background
from .pictures import ACCENT, FAINT, INK, MAP_STYLES, STYLE, WARM, MapStyle

Values = NDArray[np.float64]

QUARTERS = (0.2, 0.5, 0.8)
"""Shares of the tumour's volume below the slices that a map is shown on."""
_EXTRA = {
    "kep": MapStyle("kep", "1/min", "inferno"),
    "b1": MapStyle("B1", "true over nominal angle", "viridis"),
}
_FINE = 6
"""Pixels of a picture along one voxel, for outlines, hatching and the anatomy."""
_STRIPES = ((0.80, 0.82, 0.85), (0.45, 0.49, 0.54))
_NEAR_BLACK = "#0b0f14"


def write_pictures(made: Quantified, images: ImagingStudy, folder: Path) -> list[str]:
    """Draw what can be drawn into the folder of maps, name it in ``maps.json``, and return the file names.

    ``maps.png`` always; ``fits.png`` and ``aif.png`` where a kinetic model was fitted; ``aif.nii.gz`` (1 = artery)
    where the input function was found in the images.
    """
    curves: Mapping[str, Any] = made.summary.get("curves", {})
    pictures = {"maps.png": draw_maps(made, images)}
    if curves.get("voxels"):
        pictures["fits.png"] = draw_fits(curves)
    if curves:
        pictures["aif.png"] = draw_input(made.summary, images)
    written = []
    for name, figure in pictures.items():
        if figure is not None:
            with written_whole(folder / name) as beside:
                figure.savefig(beside, format="png", dpi=150, metadata={"Software": None})
            written.append(name)
    artery = artery_voxels(made.summary, images)
    if artery is not None:
        write_labels(folder / "aif.nii.gz", artery)
    _listed(folder, written, artery is not None)
    return written


def _listed(folder: Path, pictures: Sequence[str], artery: bool) -> None:
    """Name the pictures and the artery in ``maps.json``."""
    import json

    listed = json.loads((folder / "maps.json").read_text(encoding="utf-8"))
    listed["pictures"] = list(pictures)
    if artery:
        listed["aif"] = {"file": "aif.nii.gz", "names": {"1": "artery"}}
    write_json(folder / "maps.json", listed)


def artery_voxels(summary: Mapping[str, Any], images: ImagingStudy) -> LabelImage | None:
    """The voxels of an artery that was found, as a label image on the grid of the dynamic series."""
    voxels, grid = summary.get("aif_voxels"), _dynamic_grid(images)
    if not isinstance(voxels, list) or grid is None:
        return None
    values = np.zeros(grid.shape, dtype=np.uint8)
    values[tuple(np.array(voxels).T)] = 1
    return LabelImage(grid, values, {1: "artery"})


def _dynamic_grid(images: ImagingStudy) -> Grid | None:
    series = [one for one in images.of_role("dynamic") if one.times_s is not None and len(one.times_s) >= 3]
    return max(series, key=lambda one: len(one.values)).grid if series else None


# ------------------------------------------------------------------------------------------------------------ maps


@dataclass(frozen=True, eq=False)
class Window:
    """A part of one slice of a grid, as pictures show it.

    columns, rows  first and past-the-last voxel
    """

    grid: Grid
    columns: tuple[int, int]
    rows: tuple[int, int]
    slice: int

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """left, right, bottom, top in mm of the slice; rows run downwards."""
        width, height, _ = self.grid.spacing
        return (
            (self.columns[0] - 0.5) * width,
            (self.columns[1] - 0.5) * width,
            (self.rows[1] - 0.5) * height,
            (self.rows[0] - 0.5) * height,
        )

    def fine(self, values: NDArray[Any], grid: Grid, *, order: int) -> Values:
        """(pixels down, pixels across) of a volume of any grid on this window; NaN outside the volume."""
        across = self.columns[0] - 0.5 + (np.arange((self.columns[1] - self.columns[0]) * _FINE) + 0.5) / _FINE
        down = self.rows[0] - 0.5 + (np.arange((self.rows[1] - self.rows[0]) * _FINE) + 0.5) / _FINE
        i, j = np.meshgrid(across, down)
        world = self.grid.world(np.stack([i, j, np.full(i.shape, float(self.slice))], axis=-1))
        index = np.moveaxis(grid.index(world), -1, 0)
        return np.asarray(
            map_coordinates(np.asarray(values, dtype=np.float64), index, order=order, mode="grid-constant", cval=np.nan)
        )

    def letters(self) -> tuple[str, str, str, str]:
        """Patient directions at the left, right, bottom and top of the picture."""
        ends = []
        for axis in (0, 1):
            direction = self.grid.affine[:3, axis]
            place = int(np.argmax(np.abs(direction)))
            pair = ("RL", "AP", "FH")[place]
            ends.append(pair if direction[place] > 0 else pair[::-1])
        return ends[0][0], ends[0][1], ends[1][1], ends[1][0]


def draw_maps(made: Quantified, images: ImagingStudy) -> Figure | None:
    """Each map on slices through the tumour, over the anatomy, with its colour bar and unit; None without a map."""
    styles = MAP_STYLES | _EXTRA
    shown = [name for name in styles if name in made.maps]
    if not shown:
        return None
    windows = _windows(made, made.maps[shown[0]])
    behind = None if made.tumour is None else background(images, made.tumour, tuple(made.maps.values()))
    behind = behind or _whole(images)
    groups = len(shown) + 1
    columns = 1 if groups <= 2 else 2
    rows = -(-groups // columns)
    left, right, bottom, top = windows[0].extent
    tall = min(1.6, max(0.55, (bottom - top) / (right - left)))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.9 * columns, rows * (1.70 * tall + 0.36) + 0.35), layout="constrained")
        figure.set_layout_engine("constrained", w_pad=0.02, h_pad=0.03, wspace=0.02, hspace=0.05)
        parts = np.asarray(figure.subfigures(rows, columns, squeeze=False)).ravel()
        _draw_anatomy(parts[0], windows, behind, made.tumour)
        for part, name in zip(parts[1:], shown):
            _draw_group(part, windows, made.maps[name], styles[name], made, behind)
        figure.legend(handles=_keys(made.tumour is not None), loc="outside lower right", ncols=2, fontsize=8)
        return figure


def _keys(tumour: bool) -> list[Any]:
    """What hatching and outline mean."""
    edge = [withStroke(linewidth=3, foreground=INK)]
    outline = Line2D([], [], color="white", lw=1.2, label="tumour", path_effects=edge)
    hatched = Patch(facecolor=_STRIPES[0], edgecolor=_STRIPES[1], hatch="////", label="no valid value")
    return [hatched, outline] if tumour else []


def _windows(made: Quantified, first: ParametricMap) -> list[Window]:
    """Slices at QUARTERS of the tumour's volume, cropped around it."""
    grid = made.tumour.grid if made.tumour is not None else first.grid
    there = made.tumour.mask("tumour") if made.tumour is not None else np.isfinite(first.values)
    if not there.any():
        there = np.ones(grid.shape, dtype=bool)
    share = np.cumsum(there.sum(axis=(0, 1))) / there.sum()
    slices = sorted({int(np.searchsorted(share, part)) for part in QUARTERS})
    spans = []
    for axis, other in ((0, 1), (1, 0)):
        hit = np.flatnonzero(there.any(axis=(other, 2)))
        margin = max(4, round(0.35 * (hit[-1] - hit[0] + 1))) if made.tumour is not None else 1
        spans.append((max(0, int(hit[0]) - margin), min(grid.shape[axis], int(hit[-1]) + 1 + margin)))
    return [Window(grid, spans[0], spans[1], k) for k in slices]


def _whole(images: ImagingStudy) -> Background | None:
    """Any image of the study, where no tumour says which part of it to keep."""
    for role in ("anatomy", "dynamic", "vfa", "diffusion"):
        for series in images.of_role(role):
            values = series.values if series.values.ndim == 3 else series.values[-1 if role == "dynamic" else 0]
            return Background(series.grid, np.asarray(values, dtype=np.float32), f"{series.modality} {role}")
    return None


def _draw_anatomy(part: Any, windows: Sequence[Window], behind: Background | None, tumour: LabelImage | None) -> None:
    panels = np.atleast_1d(part.subplots(1, len(windows)))
    for axes, window in zip(panels, windows):
        _draw_behind(axes, window, behind, dim=1.0)
        _outline(axes, window, tumour)
        _dress(axes, window, letters=True)
    words = "no image of this region" if behind is None else behind.caption
    if tumour is not None:
        words += f"; tumour of {tumour.volume('tumour'):.3g} mL"
    part.suptitle(words[:1].upper() + words[1:], fontsize=9, x=0.01, ha="left")


def _draw_group(
    part: Any,
    windows: Sequence[Window],
    one: ParametricMap,
    style: MapStyle,
    made: Quantified,
    behind: Background | None,
) -> None:
    """One map on every window with one scale, its median in words."""
    tumour = made.tumour
    painted = [_painted(window, one, style.scale, tumour) for window in windows]
    numbers = np.concatenate([values[np.isfinite(values)] for values, _ in painted])
    low, high = np.percentile(numbers, (2.0, 98.0)) if numbers.size else (0.0, 1.0)
    norm = Normalize(low, high if high > low else low + max(1e-9, 1e-3 * abs(low)))
    panels = np.atleast_1d(part.subplots(1, len(windows)))
    for axes, window, (values, missing) in zip(panels, windows, painted):
        _draw_behind(axes, window, behind, dim=0.75)
        axes.imshow(values, extent=window.extent, cmap=style.colours, norm=norm, interpolation="nearest")
        axes.imshow(_striped(missing), extent=window.extent, interpolation="nearest")
        _outline(axes, window, tumour)
        _dress(axes, window, letters=False)
    bar = part.colorbar(ScalarMappable(norm, style.colours), ax=list(panels), fraction=0.035, pad=0.015, extend="both")
    bar.locator = MaxNLocator(4)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=7, length=2)
    bar.set_label(style.unit, fontsize=7.5)
    part.suptitle(_caption(one.name, style, made.summary), fontsize=9, x=0.01, ha="left")


def _caption(name: str, style: MapStyle, summary: Mapping[str, Any]) -> str:
    """Name, median with quartiles, and the share of voxels that have a value."""
    row = summary.get("maps", {}).get(name, {})
    if row.get("median") is None:
        return style.words
    low, high = row["quartiles"]
    numbers = f"median {style.scale * row['median']:.3g} ({style.scale * low:.3g} to {style.scale * high:.3g})"
    return f"{style.words}: {numbers}, {row['valid_fraction']:.0%} of voxels valid"


def _painted(
    window: Window, one: ParametricMap, scale: float, tumour: LabelImage | None
) -> tuple[Values, NDArray[np.bool_]]:
    """Values to paint (NaN elsewhere) and where the tumour has none."""
    values = scale * window.fine(one.values, one.grid, order=0)
    if tumour is None:
        return values, np.zeros(values.shape, dtype=bool)
    inside = window.fine(tumour.mask("tumour"), tumour.grid, order=0) > 0.5
    return np.where(inside, values, np.nan), inside & ~np.isfinite(values)


def _striped(missing: NDArray[np.bool_]) -> Values:
    """(rows, columns, 4): diagonal stripes of two greys where a value is missing, clear elsewhere."""
    rows, columns = np.indices(missing.shape)
    dark = ((rows + columns) // 4) % 2 == 1
    picture = np.zeros((*missing.shape, 4))
    picture[..., :3] = np.where(dark[..., None], _STRIPES[1], _STRIPES[0])
    picture[..., 3] = missing
    return picture


def _draw_behind(axes: Any, window: Window, behind: Background | None, *, dim: float) -> None:
    axes.set_facecolor(_NEAR_BLACK)
    if behind is None:
        return
    grey = window.fine(behind.values, behind.grid, order=1)
    if np.isfinite(grey).any():
        low, high = np.nanpercentile(grey, (1.0, 99.5))
        top = low + (high - low) / dim if high > low else low + 1.0
        axes.imshow(grey, extent=window.extent, cmap="gray", norm=Normalize(low, top), interpolation="bilinear")


def _outline(axes: Any, window: Window, tumour: LabelImage | None) -> None:
    if tumour is None:
        return
    inside = np.nan_to_num(window.fine(tumour.mask("tumour"), tumour.grid, order=0))
    if 0 < inside.mean() < 1:
        axes.contour(inside, levels=[0.5], colors="white", linewidths=0.8, extent=window.extent, origin="upper")


def _dress(axes: Any, window: Window, *, letters: bool) -> None:
    left, right, bottom, top = window.extent
    axes.set(xlim=(left, right), ylim=(bottom, top), aspect="equal", xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_visible(False)
    if letters:
        for text, x, y in zip(window.letters(), (0.05, 0.95, 0.5, 0.5), (0.5, 0.5, 0.05, 0.95)):
            _write(axes, text, x, y, size=7.5)
        _write(axes, f"slice {window.slice + 1}", 0.86, 0.05, size=6.5)
        _scale_bar(axes, window)


def _write(axes: Any, text: str, x: float, y: float, *, size: float) -> None:
    """White words with a dark rim, at shares of the panel."""
    axes.text(
        x,
        y,
        text,
        transform=axes.transAxes,
        color="white",
        fontsize=size,
        ha="center",
        va="center",
        path_effects=[withStroke(linewidth=1.8, foreground=_NEAR_BLACK)],
    )


def _scale_bar(axes: Any, window: Window) -> None:
    left, right, *_ = window.extent
    length = max((step for step in (0.5, 1, 2, 5, 10, 20, 50, 100) if step <= 0.34 * (right - left)), default=0.1)
    share = length / (right - left)
    rim = [withStroke(linewidth=3.4, foreground=_NEAR_BLACK)]
    axes.plot(
        [0.06, 0.06 + share], [0.06, 0.06], transform=axes.transAxes, color="white", lw=1.8, solid_capstyle="butt",
        path_effects=rim,
    )  # fmt: skip
    _write(axes, f"{length:g} mm", 0.06 + share / 2, 0.105, size=6.5)


# ------------------------------------------------------------------------------------------------------------ fits


def draw_fits(curves: Mapping[str, Any]) -> Figure:
    """Data, fit, residuals and flags of some voxels, from the lowest to the highest exchange, doubted ones last."""
    voxels = curves["voxels"]
    columns = min(4, len(voxels))
    rows = -(-len(voxels) // columns)
    minutes = np.array(curves["times_s"]) / 60.0
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(2.9 * columns + 0.3, 3.0 * rows + 0.5), layout="constrained")
        figure.set_layout_engine("constrained", h_pad=0.04, w_pad=0.04)
        grid = figure.add_gridspec(2 * rows, columns, height_ratios=[3.2, 1.0] * rows)
        reach = _reach(voxels)
        for place, voxel in enumerate(voxels):
            row, column = divmod(place, columns)
            above = figure.add_subplot(grid[2 * row, column])
            below = figure.add_subplot(grid[2 * row + 1, column], sharex=above)
            _draw_fit(above, below, minutes, voxel, reach)
            if column == 0:
                above.set_ylabel("agent, mmol/L")
                below.set_ylabel("residual")
            if place + columns >= len(voxels):
                below.set_xlabel("minutes")
        figure.suptitle(
            f"Fits of {curves['model']}: voxels from the lowest to the highest exchange, then doubted ones",
            fontsize=10,
            x=0.01,
            ha="left",
        )
        return figure


def _reach(voxels: Sequence[Mapping[str, Any]]) -> float:
    """The residual axis of every panel, mmol/L, so that panels compare."""
    residuals = [np.array(one["concentration"]) - np.array(one["fitted"]) for one in voxels]
    finite = np.concatenate([np.abs(one[np.isfinite(one)]) for one in residuals])
    return float(1.1 * np.percentile(finite, 99)) if finite.size else 1.0


def _draw_fit(above: Any, below: Any, minutes: Values, voxel: Mapping[str, Any], reach: float) -> None:
    data, fitted = np.array(voxel["concentration"], dtype=float), np.array(voxel["fitted"], dtype=float)
    above.plot(minutes, data, ".", color=INK, ms=3.2, alpha=0.75, label="measured")
    above.plot(minutes, fitted, color=ACCENT, lw=1.7, label="fit")
    above.tick_params(labelbottom=False)
    below.axhline(0.0, color=FAINT, lw=0.7)
    below.vlines(minutes, 0.0, data - fitted, color=WARM, lw=1.0)
    below.set_ylim(-reach, reach)
    for axes in (above, below):
        axes.tick_params(labelsize=7, length=2)
        axes.grid(axis="y", color="#e4e8ec", lw=0.6)
        axes.set_axisbelow(True)
    above.yaxis.set_major_locator(MaxNLocator(4))
    below.yaxis.set_major_locator(MaxNLocator(3))
    flags = [flag for flag in voxel["flags"] if flag != "supplied"]
    above.set_title(_numbers(voxel), fontsize=7.8, loc="left", pad=13 if flags else 4)
    if flags:
        words = ", ".join(flags[:2]) + (f" and {len(flags) - 2} more" if len(flags) > 2 else "")
        above.text(0.0, 1.02, words, transform=above.transAxes, color=WARM, fontsize=7, va="bottom")


def _numbers(voxel: Mapping[str, Any]) -> str:
    """Parameters with their standard errors, two to a line."""
    words = {"ktrans": "Ktrans", "ve": "ve", "vp": "vp", "ps": "PS", "fp": "Fp"}
    told = []
    for name, label in words.items():
        value = voxel["parameters"].get(name)
        if value is None or not np.isfinite(value):
            continue
        error = voxel["errors"].get(name)
        told.append(
            f"{label} {value:.3g}"
            + (f" ± {float(f'{error:.2g}'):g}" if error is not None and np.isfinite(error) else "")
        )
    place = "voxel " + ", ".join(str(index + 1) for index in voxel["voxel"])
    lines = [", ".join(told[start : start + 2]) for start in range(0, len(told), 2)]
    return "\n".join([place, *lines])


# -------------------------------------------------------------------------------------------------- input function


def draw_input(summary: Mapping[str, Any], images: ImagingStudy) -> Figure:
    """The plasma curve that was used against Parker's, the first two minutes enlarged, and where it was measured."""
    curves = summary["curves"]
    times, plasma = np.array(curves["plasma"]["times_s"]), np.array(curves["plasma"]["mmol_per_litre"])
    population = _parker_beside(times, plasma, float(summary.get("haematocrit") or 0.42))
    artery = artery_voxels(summary, images)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(10.8 if artery is None else 13.2, 3.9), layout="constrained")
        panels = figure.subplots(1, 2 if artery is None else 3, width_ratios=(3, 3) if artery is None else (3, 3, 2.4))
        start = float(times[max(0, int(np.argmax(plasma > 0.02 * plasma.max())) - 2)])
        for axes, (low, high), title in zip(
            panels, ((start, min(start + 120.0, times[-1])), (0.0, times[-1])), ("first two minutes", "whole series")
        ):
            _draw_plasma(axes, times, plasma, population, summary)
            axes.set_xlim(low / 60.0, high / 60.0)
            axes.set_title(title, fontsize=9.5)
        panels[0].legend(fontsize=8, loc="upper right")
        if artery is not None:
            _draw_artery(panels[2], artery, images)
        figure.suptitle(_input_words(summary), fontsize=9, x=0.01, ha="left")
        return figure


def _parker_beside(times: Values, plasma: Values, haematocrit: float) -> tuple[Values, Values]:
    """Times (s) and values of Parker's curve in plasma, moved so that both rise through half their peak together."""
    minutes = np.linspace(-0.5, 20.0, 8201)
    values = parker(minutes) / (1 - haematocrit)
    ours = float(np.interp(0.5 * plasma.max(), plasma[: plasma.argmax() + 1], times[: plasma.argmax() + 1]))
    theirs = float(minutes[np.argmax(values >= 0.5 * values.max())]) * 60.0
    return minutes * 60.0 + ours - theirs, values


def _draw_plasma(
    axes: Any, times: Values, plasma: Values, population: tuple[Values, Values], summary: Mapping[str, Any]
) -> None:
    used_parker = str(summary.get("settings", {}).get("aif", "")) == "parker"
    axes.plot(population[0] / 60.0, population[1], color=WARM, lw=1.6, ls="-" if used_parker else "--",
              label="Parker's function" + (", used here" if used_parker else ""))  # fmt: skip
    style = "o" if used_parker else "o-" if len(times) < 120 else "-"
    axes.plot(times / 60.0, plasma, style, color=ACCENT, ms=3.6, lw=1.7,
              label="at the frames" if used_parker else "used here")  # fmt: skip
    axes.set(
        xlabel="minutes", ylabel="agent in plasma, mmol/L", ylim=(0.0, 1.08 * max(plasma.max(), population[1].max()))
    )
    axes.grid(color="#e4e8ec", lw=0.7)
    axes.set_axisbelow(True)


def _input_words(summary: Mapping[str, Any]) -> str:
    """Source, shift, haematocrit and measures of quality in two lines."""
    words = f"{summary.get('aif', 'input function')}; shifted by {summary.get('delay_s', 0.0):.2f} s"
    if summary.get("haematocrit") is not None:
        words += f"; haematocrit {summary['haematocrit']:g}"
    told = summary.get("aif_quality")
    if told is None:
        return words
    words += f"\npeak {told['peak_over_parker']:.2f} and tail {told['tail_over_parker']:.2f} times Parker's"
    quality = told.get("quality")
    if quality is not None:
        words += (
            f"; {quality['voxels']:.0f} voxels, roughness {quality['roughness']:.1%}, spread {quality['spread']:.1%}"
        )
    return words + "".join(f"; {problem.split(':')[0]}" for problem in told.get("problems", ()))


def _draw_artery(axes: Any, artery: LabelImage, images: ImagingStudy) -> None:
    """The slice that holds most voxels of the artery, with those of all slices marked, faint where from others."""
    series = max(images.of_role("dynamic"), key=lambda one: len(one.values))
    places = np.argwhere(artery.values > 0)
    k = int(np.bincount(places[:, 2]).argmax())
    window = Window(artery.grid, (0, artery.grid.shape[0]), (0, artery.grid.shape[1]), k)
    peak = series.values.max(axis=0)[:, :, k].T
    axes.set_facecolor(_NEAR_BLACK)
    axes.imshow(
        peak, extent=window.extent, cmap="gray", vmin=0, vmax=np.percentile(peak, 99.7), interpolation="nearest"
    )
    width, height, _ = artery.grid.spacing
    mark: dict[str, Any] = {"mfc": "none", "mec": "#facc15", "ms": 4, "mew": 0.9}
    for here, alpha in ((places[:, 2] != k, 0.45), (places[:, 2] == k, 1.0)):
        axes.plot(places[here, 0] * width, places[here, 1] * height, "s", alpha=alpha, **mark)
    _dress(axes, window, letters=True)
    axes.set_title(f"artery: {len(places)} voxels in {len(np.unique(places[:, 2]))} slices", fontsize=9.5)
