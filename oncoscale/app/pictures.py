"""The pictures of the report, drawn by matplotlib without a screen and inlined as data addresses."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import cycle
from typing import Any

import matplotlib

matplotlib.use("Agg")

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import Colormap, LinearSegmentedColormap, Normalize, TwoSlopeNorm, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from mpl_toolkits.mplot3d.art3d import Poly3DCollection
from numpy.typing import NDArray

from ..agents.colony import CLASSES, TARGETS, DrugWindow
from ..imaging.study import LabelImage, ParametricMap
from ..meshing.mesh import TumourMesh
from ..meshing.quality import mean_ratio
from ..sim.anatomy import regions_beside
from ..sim.forecast import Forecast, MacroStep, Representative
from ..sim.state import TissueState
from .background import Background
from .sections import AXIAL, PLANES, Frame, cut_surface, cut_tetrahedra, frame_around, largest_section, sample

INK, FAINT, ACCENT, WARM = "#1d2733", "#7b8794", "#1f5f8b", "#c4572b"
PAGE_INCHES = 11.0
BY_DAY = LinearSegmentedColormap.from_list("by day", ["#38bdf8", "#a3e635", "#facc15", "#fb7185"])
"""From the day of the images to the last day; bright enough to be seen on grey."""

REGION_COLOURS = {"#1f5f8b": "blue", "#2e7d5b": "green", "#b07aa1": "purple", "#c4572b": "red", "#1d2733": "black"}
CLASS_COLOURS = ("#1f5f8b", "#7fb2d6", "#c9a227", "#2e7d5b", "#8fcdb0", "#b07aa1")
STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "oncoscale",
    "legend.frameon": False,
    "figure.facecolor": "white",
}


@dataclass(frozen=True)
class Picture:
    """An image ready to stand in a page: its data address, what it shows in words, and its share of a page's width."""

    address: str
    words: str
    share: float = 1.0


def _picture(figure: Figure, words: str, kind: str = "png") -> Picture:
    buffer = BytesIO()
    metadata = {"Date": None} if kind == "svg" else {"Software": None}
    figure.savefig(buffer, format=kind, dpi=150, metadata=metadata)
    media = "image/svg+xml" if kind == "svg" else "image/png"
    share = min(1.0, float(figure.get_figwidth()) / PAGE_INCHES)
    return Picture(f"data:{media};base64,{b64encode(buffer.getvalue()).decode()}", words, share)


def _figure(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), layout="constrained")


def day_colours(forecast: Forecast) -> list[tuple[float, float, float, float]]:
    """One colour a day, shared by the contours and the volume curve."""
    days = forecast.days
    span = max(float(days[-1] - days[0]), 1e-9)
    return [BY_DAY(float((day - days[0]) / span)) for day in days]


def volume_curve(
    forecast: Forecast,
    windows: Sequence[DrugWindow] = (),
    fractions: Sequence[tuple[float, float]] = (),
    operations: Sequence[float] = (),
) -> Picture:
    """Volume against time with its band, every member, the measured visits as dots and the treatment beneath.

    fractions   (day, Gy) of radiation
    operations  days of surgery
    """
    with matplotlib.rc_context(STYLE):
        treated = bool(windows or fractions or operations)
        figure = _figure(7.6, 4.2 if treated else 3.6)
        if treated:
            axes, beneath = figure.subplots(2, 1, sharex=True, height_ratios=(5, 1))
            _draw_treatment(beneath, windows, fractions, operations)
            beneath.set_xlabel("days after the images")
        else:
            axes = figure.subplots()
            axes.set_xlabel("days after the images")
        _draw_volumes(axes, forecast)
        return _picture(figure, "Tumour volume against time", "svg")


def _draw_volumes(axes: Any, forecast: Forecast) -> None:
    days, volumes = forecast.days, forecast.volumes
    axes.fill_between(
        days,
        forecast.interval[:, 0],
        forecast.interval[:, 1],
        color=ACCENT,
        alpha=0.16,
        lw=0,
        label=f"{forecast.level:.0%} interval",
    )
    for member in volumes[1:]:
        axes.plot(days, member, color=ACCENT, alpha=0.35, lw=0.7)
    if len(volumes) > 1:
        axes.plot([], [], color=ACCENT, alpha=0.35, lw=0.7, label=f"other seeds ({len(volumes) - 1})")
    axes.plot(*_with_operations(forecast), color=ACCENT, lw=1.8, label="forecast", zorder=3)
    axes.scatter(days, volumes[0], c=day_colours(forecast), edgecolors=INK, linewidths=0.6, s=34, zorder=4)
    if forecast.measured:
        day, volume = np.array(forecast.measured, dtype=float).T
        axes.scatter(
            day,
            volume,
            marker="D",
            s=46,
            color=WARM,
            edgecolors="white",
            linewidths=0.8,
            zorder=5,
            label="measured visit",
        )
    low, high = axes.get_ylim()
    axes.set_ylim(max(0.0, low - 0.05 * (high - low)), high)
    axes.set_ylabel("tumour volume, mL")
    axes.grid(axis="y", color="#e4e8ec", lw=0.7)
    axes.legend(loc="best", fontsize=8)


def _with_operations(forecast: Forecast) -> tuple[list[float], list[float]]:
    """Days and volumes of the forecast, that before an operation and that after it both on its day."""
    before = {
        one["day"]: one["tumour_ml_before"] for step in forecast.steps for one in step.mechanics.get("surgery", ())
    }
    days, volumes = [], []
    for day, volume in zip(forecast.days.tolist(), forecast.volumes[0].tolist()):
        days += [day, day] if day in before else [day]
        volumes += [before[day], volume] if day in before else [volume]
    return days, volumes


def _draw_treatment(
    axes: Any, windows: Sequence[DrugWindow], fractions: Sequence[tuple[float, float]], operations: Sequence[float]
) -> None:
    for window in windows:
        strength = max(window.effects)
        axes.broken_barh(
            [(window.start / 24.0, (window.end - window.start) / 24.0)],
            (0.1, 0.8),
            color=WARM,
            alpha=0.25 + 0.6 * strength,
        )
    axes.vlines([day for day, _ in fractions], 0.1, 0.9, color=INK, lw=0.9)
    targets = [name for place, name in enumerate(TARGETS) if any(window.effects[place] > 0 for window in windows)]
    words = ["switches off " + ", ".join(targets)] if windows else []
    if fractions:
        words.append(f"{sum(gray for _, gray in fractions):g} Gy in {len(fractions)} fractions")
    axes.vlines(list(operations), 0.0, 1.0, color=WARM, lw=2.2)
    if operations:
        words.append(f"surgery on day {', '.join(f'{day:g}' for day in operations)}")
    axes.set_yticks([])
    axes.set_ylim(0, 1)
    axes.set_ylabel("treatment", rotation=0, ha="right", va="center", fontsize=8)
    axes.set_title("; ".join(words), fontsize=7.5, color=FAINT, loc="left", pad=2)


def contour_planes(forecast: Forecast, image: Background | None) -> Picture:
    """Axial, coronal and sagittal planes through the tumour on the patient's own image, contours coloured by day."""
    mesh = forecast.states[0].mesh
    outlines = [(state.mesh.points, state.reference.surface_of("tumour")) for state in forecast.states]
    everything = np.concatenate([points[np.unique(surface)] for points, surface in outlines])
    with matplotlib.rc_context(STYLE):
        figure = _figure(PAGE_INCHES, 4.5)
        for axes, plane in zip(figure.subplots(1, 3), PLANES):
            frame = frame_around(everything, largest_section(mesh, plane), plane)
            _draw_image(axes, image, frame)
            for (points, surface), colour in zip(outlines, day_colours(forecast)):
                axes.add_collection(
                    LineCollection(
                        list(cut_surface(points, surface, frame)), colors=[colour], linewidths=1.6, capstyle="round"
                    )
                )
            _dress(axes, frame)
        lines = [
            Line2D([], [], color=colour, lw=2.2, label=f"day {day:g}")
            for day, colour in zip(forecast.days, day_colours(forecast))
        ]
        figure.legend(handles=lines, loc="outside lower center", ncols=len(lines), fontsize=9)
        return _picture(figure, "Predicted contours over time in three orthogonal planes")


def _draw_image(axes: Any, image: Background | None, frame: Frame, *, dim: float = 1.0) -> None:
    """The patient's image in grey, windowed by the middle of the picture; a plain ground where there is none."""
    axes.set_facecolor("#0b0f14")
    if image is None:
        return
    grey = sample(image.values, image.grid, frame)
    rows, columns = (slice(n // 5, n - n // 5) for n in grey.shape)
    middle = grey[rows, columns]
    if np.isfinite(middle).any():
        low, high = np.nanpercentile(middle, (1.0, 99.5))
        axes.imshow(
            grey,
            extent=frame.extent,
            origin="lower",
            cmap="gray",
            interpolation="bilinear",
            norm=Normalize(low, low + (high - low) / dim if high > low else low + 1.0),
        )


def _dress(axes: Any, frame: Frame, *, title: str | None = None, letters: bool = True, ink: str = "white") -> None:
    """Equal scale, orientation letters, a scale bar in mm, no ticks."""
    left, right, bottom, top = frame.extent
    axes.set(xlim=(left, right), ylim=(bottom, top), aspect="equal", xticks=[], yticks=[])
    axes.set_title(frame.plane.name if title is None else title, fontsize=9.5)
    for spine in axes.spines.values():
        spine.set_visible(False)
    if letters:
        west, east, south, north = frame.plane.letters
        for text, x, y in ((west, 0.03, 0.5), (east, 0.97, 0.5), (south, 0.5, 0.03), (north, 0.5, 0.97)):
            edge = [withStroke(linewidth=1.8, foreground="#0b0f14")] if ink == "white" else []
            axes.text(
                x,
                y,
                text,
                transform=axes.transAxes,
                color=ink,
                fontsize=8.5,
                ha="center",
                va="center",
                path_effects=edge,
            )
    _scale_bar(axes, frame, ink)


def _scale_bar(axes: Any, frame: Frame, ink: str) -> None:
    left, right, bottom, top = frame.extent
    length = max(step for step in (0.5, 1, 2, 5, 10, 20, 50, 100) if step <= 0.34 * (right - left))
    x, y = left + 0.05 * (right - left), bottom + 0.055 * (top - bottom)
    axes.plot([x, x + length], [y, y], color=ink, lw=2.2, solid_capstyle="butt")
    axes.text(
        x + length / 2, y + 0.018 * (top - bottom), f"{length:g} mm", color=ink, fontsize=7.5, ha="center", va="bottom"
    )


@dataclass(frozen=True)
class MapStyle:
    """How a map is named, scaled and coloured for people; ``unit`` is that of the shown values."""

    words: str
    unit: str
    colours: str
    scale: float = 1.0


MAP_STYLES = {
    "ktrans": MapStyle("Ktrans", "1/min", "inferno"),
    "ve": MapStyle("ve", "volume fraction", "viridis"),
    "vp": MapStyle("vp", "volume fraction", "magma"),
    "fp": MapStyle("plasma flow", "1/min", "magma"),
    "ps": MapStyle("PS", "1/min", "inferno"),
    "pe": MapStyle("early enhancement, PE", "%", "inferno"),
    "ser": MapStyle("enhancement ratio, SER", "ratio", "viridis"),
    "t1": MapStyle("T1", "s", "cividis"),
    "adc": MapStyle("ADC", "10⁻³ mm²/s", "cividis", 1000.0),
    "cellularity": MapStyle("cellularity", "volume fraction", "YlGnBu_r"),
}


def map_sections(
    maps: Mapping[str, ParametricMap], tumour: LabelImage, day0: TissueState, image: Background | None
) -> Picture | None:
    """Each map in the axial plane of the largest section, inside the tumour only, with its colour bar and unit."""
    shown = [maps[name] for name in MAP_STYLES if name in maps]
    if not shown:
        return None
    frame = _axial([day0])
    outline = cut_surface(day0.reference.points, day0.reference.surface_of("tumour"), frame)
    columns = min(4, len(shown))
    rows = -(-len(shown) // columns)
    with matplotlib.rc_context(STYLE):
        figure = _figure(2.75 * columns, 3.15 * rows)
        panels = np.atleast_1d(figure.subplots(rows, columns)).ravel()
        for axes, parametric in zip(panels, shown):
            _draw_map(figure, axes, parametric, tumour, frame, image)
            axes.add_collection(LineCollection(list(outline), colors=["white"], linewidths=0.8))
        for axes in panels[len(shown) :]:
            axes.set_visible(False)
        return _picture(figure, "Quantitative maps inside the tumour")


def _axial(states: Sequence[TissueState], margin: float = 0.12) -> Frame:
    """The axial plane of the tumour's largest section on day 0, framed so that its sections on all days are seen."""
    reference = states[0].reference
    centre = largest_section(reference, AXIAL)
    everything = frame_around(reference.points, centre, AXIAL)
    ends = np.concatenate(
        [
            cut_surface(state.mesh.points, state.reference.surface_of("tumour"), everything).reshape(-1, 2)
            for state in states
        ]
    )
    points = np.column_stack([ends[:, 0], AXIAL.up_sign * ends[:, 1], np.full(len(ends), centre[2])])
    return frame_around(points, centre, AXIAL, margin=margin, least_mm=1.0)


def _draw_map(
    figure: Figure, axes: Any, parametric: ParametricMap, tumour: LabelImage, frame: Frame, image: Background | None
) -> None:
    _draw_image(axes, image, frame, dim=0.75)
    style = MAP_STYLES[parametric.name]
    values = style.scale * sample(parametric.values, parametric.grid, frame, order=0)
    inside = sample(tumour.mask("tumour"), tumour.grid, frame, order=0) > 0.5
    values = np.where(inside, values, np.nan)
    title = style.words
    if np.isfinite(values).any():
        low, high = np.nanpercentile(values, (2.0, 98.0))
        drawn = axes.imshow(
            values,
            extent=frame.extent,
            origin="lower",
            cmap=style.colours,
            interpolation="nearest",
            norm=Normalize(low, high if high > low else low + 1e-9),
        )
        _bar(figure, drawn, axes, style.unit)
    else:
        title += " (no valid voxel in this plane)"
    _dress(axes, frame, title=title, letters=False)


def _bar(figure: Figure, drawn: Any, axes: Any, words: str) -> None:
    bar = figure.colorbar(drawn, ax=axes, orientation="horizontal", fraction=0.05, pad=0.025, extend="both", aspect=28)
    bar.locator = MaxNLocator(5)
    bar.ax.tick_params(labelsize=7)
    bar.set_label(words, fontsize=8)


@dataclass(frozen=True)
class Shade:
    """How a field is coloured.

    words, unit   its colour bar
    centre        the value in the middle of a diverging scale, None for a sequential one
    """

    words: str
    unit: str
    colours: str
    centre: float | None = None


SHADES = {
    "oxygen": Shade("oxygen", "mmHg", "viridis"),
    "cellularity": Shade("living cells", "volume fraction", "YlGnBu_r"),
    "growth": Shade("local volume", "times that of day 0", "RdBu_r", 1.0),
    "pressure": Shade("mean stress", "kPa, tension positive", "PuOr_r", 0.0),
    "drug": Shade("exposure to drugs so far", "times the tumour's median", "magma"),
    "fluid": Shade("interstitial fluid", "mmHg", "cividis"),
}


def field_of(state: TissueState, name: str) -> NDArray[np.float64] | None:
    """(elements,) one of SHADES at one moment; None where the forecast does not hold it."""
    if name == "growth":
        return np.asarray(state.mesh.volumes / state.origin.volumes)
    if name == "pressure":
        return None if state.mean_stress is None else np.asarray(state.mean_stress)
    if name == "drug":
        return exposure_of(state)
    values = getattr(state, name)
    return None if values is None else np.asarray(values)


def exposure_of(state: TissueState) -> NDArray[np.float64] | None:
    """(elements,) exposure over the tumour's median, mean of the drugs that have come; None where none is carried."""
    if state.exposure is None:
        return None
    came = [one / np.median(one[state.tumour]) for one in state.exposure if np.median(one[state.tumour]) > 0.0]
    return np.mean(came, axis=0) if came else np.zeros(len(state.stretch))


def field_sections(forecast: Forecast) -> Picture:
    """Oxygen, living cells, local growth, stress and fluid in the axial plane, one row a day, on the deformed mesh."""
    states = _chosen(forecast.states, 4)
    names = [name for name in SHADES if _extent_of(states, name) is not None]
    frame = _axial(states)
    with matplotlib.rc_context(STYLE):
        figure = _figure(2.75 * len(names), 2.6 * len(states) + 0.6)
        panels = figure.subplots(len(states), len(names), squeeze=False)
        for column, name in zip(panels.T, names):
            colours, norm = _scale(states, name)
            for axes, state in zip(column, states):
                _draw_elements(axes, state, field_of(state, name), frame, colours, norm)
                _dress(axes, frame, title=SHADES[name].words if state is states[0] else "", letters=False, ink=INK)
                if name == names[0]:
                    axes.set_ylabel(f"day {state.day:g}", fontsize=9.5)
            _bar(figure, ScalarMappable(norm, colours), list(column), SHADES[name].unit)
        return _picture(figure, "Oxygen, living cells, growth, stress and interstitial fluid over time")


def _chosen(states: Sequence[Any], most: int) -> list[Any]:
    """At most ``most`` moments, first and last among them."""
    numbers = np.unique(np.linspace(0, len(states) - 1, min(most, len(states))).round().astype(int))
    return [states[number] for number in numbers]


def _extent_of(states: Sequence[Any], name: str) -> tuple[float, float] | None:
    values = [field[state.tumour] for state in states if (field := field_of(state, name)) is not None]
    finite = np.concatenate(values)[np.isfinite(np.concatenate(values))] if values else np.empty(0)
    return (float(np.percentile(finite, 1)), float(np.percentile(finite, 99))) if len(finite) else None


def _scale(states: Sequence[Any], name: str) -> tuple[Colormap, Normalize]:
    extent = _extent_of(states, name) or (0.0, 1.0)
    shade = SHADES[name]
    if shade.centre is None:
        return matplotlib.colormaps[shade.colours], Normalize(extent[0], max(extent[1], extent[0] + 1e-9))
    reach = max(abs(extent[0] - shade.centre), abs(extent[1] - shade.centre), 1e-3)
    return matplotlib.colormaps[shade.colours], TwoSlopeNorm(shade.centre, shade.centre - reach, shade.centre + reach)


def _draw_elements(
    axes: Any, state: Any, values: NDArray[np.float64] | None, frame: Frame, colours: Colormap, norm: Normalize
) -> None:
    axes.set_facecolor("#eef1f4")
    mesh = state.mesh
    polygons, owners = cut_tetrahedra(mesh.points, mesh.tetrahedra[state.tumour], frame)
    if values is None or not polygons:
        axes.text(
            0.5,
            0.5,
            "no tumour" if not len(state.tumour) else "free of stress" if state.day == 0 else "not computed",
            transform=axes.transAxes,
            ha="center",
            va="center",
            color=FAINT,
        )
        return
    axes.add_collection(
        PolyCollection(
            polygons, array=values[state.tumour][owners], cmap=colours, norm=norm, edgecolors="face", linewidths=0.4
        )
    )
    axes.add_collection(
        LineCollection(list(cut_surface(mesh.points, mesh.surface_of("tumour"), frame)), colors=[INK], linewidths=0.8)
    )


def tumour_views(forecast: Forecast) -> Picture:
    """The tumour's surface in space: oxygen on the day of the images, local growth on the last day."""
    first, last = forecast.states[0], forecast.states[-1]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(PAGE_INCHES, 3.7))
        for half, (state, name) in enumerate(((first, "oxygen"), (last, "growth"))):
            colours, norm = _scale([state], name)
            for place, (azimuth, words) in enumerate(((-60.0, "from the front"), (120.0, "from behind"))):
                left = 0.5 * half + 0.25 * place
                axes = figure.add_axes((left - 0.015, 0.13, 0.28, 0.8), projection="3d")
                _draw_surface(axes, state.mesh, field_of(state, name), colours, norm, azimuth)
                figure.text(left + 0.125, 0.965, f"day {state.day:g}, {words}", fontsize=9, ha="center")
            beneath = figure.add_axes((0.5 * half + 0.09, 0.125, 0.32, 0.03))
            bar = figure.colorbar(ScalarMappable(norm, colours), cax=beneath, orientation="horizontal", extend="both")
            bar.set_label(f"{SHADES[name].words}, {SHADES[name].unit}", fontsize=8)
            bar.ax.tick_params(labelsize=7)
        return _picture(figure, "The tumour's surface coloured by oxygen and by local growth")


def _draw_surface(
    axes: Any, mesh: TumourMesh, values: NDArray[np.float64] | None, colours: Colormap, norm: Normalize, azimuth: float
) -> None:
    """Painter's algorithm with a light from the upper left of the viewer; letters mark right, left, head, front."""
    triangles = mesh.surface_of("tumour")
    if not len(triangles):
        axes.set_axis_off()
        axes.text2D(0.5, 0.5, "no tumour", transform=axes.transAxes, ha="center", color=FAINT)
        return
    corners = mesh.points[triangles]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    light = _light(azimuth)
    shade = 0.5 + 0.5 * np.clip(normals @ light, 0.0, 1.0)
    nodal = _nodal(mesh, values if values is not None else np.ones(len(mesh.tetrahedra)))
    colour = colours(norm(nodal[triangles].mean(axis=1)))
    colour[:, :3] = colour[:, :3] * shade[:, None]
    axes.add_collection3d(Poly3DCollection(corners, facecolors=colour, edgecolors=colour, linewidths=0.15))
    _frame_view(axes, mesh.points[np.unique(triangles)], azimuth)


def _light(azimuth: float) -> NDArray[np.float64]:
    """(3,) unit vector towards the light: beside and above the viewer."""
    angle = np.radians(azimuth - 35.0)
    direction = np.array([np.cos(angle), np.sin(angle), 0.75])
    return np.asarray(direction / np.linalg.norm(direction))


def _nodal(mesh: TumourMesh, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(nodes,) volume-weighted mean of the tumour elements around each node; 0 away from the tumour."""
    elements = mesh.elements_of("tumour")
    nodes, weight = mesh.tetrahedra[elements].ravel(), np.repeat(mesh.volumes[elements], 4)
    total = np.bincount(nodes, weight, minlength=len(mesh.points))
    summed = np.bincount(nodes, weight * np.repeat(values[elements], 4), minlength=len(mesh.points))
    return np.asarray(np.divide(summed, total, out=np.zeros_like(summed), where=total > 0))


def _frame_view(axes: Any, points: NDArray[np.float64], azimuth: float) -> None:
    low, high = points.min(axis=0), points.max(axis=0)
    middle, half = (low + high) / 2.0, float((high - low).max()) / 2.0
    axes.set(
        xlim=(middle[0] - half, middle[0] + half),
        ylim=(middle[1] - half, middle[1] + half),
        zlim=(middle[2] - half, middle[2] + half),
    )
    axes.set_box_aspect((1, 1, 1), zoom=1.25)
    axes.view_init(elev=18.0, azim=azimuth)
    axes.set_axis_off()
    axes.patch.set_visible(False)
    for letter, offset in (("R", (-1, 0, 0)), ("L", (1, 0, 0)), ("H", (0, 0, 1)), ("F", (0, 0, -1))):
        axes.text(
            *(middle + 1.12 * half * np.array(offset)), letter, color=FAINT, fontsize=8.5, ha="center", va="center"
        )


def populations(
    steps: Sequence[MacroStep], kinds: tuple[str, str] = ("neuroblasts", "Schwann cells"), most: int = 8
) -> Picture | None:
    """Cells of each class over time in the chosen elements that stand for most, in the first and the last step."""
    shown = [
        (step, one) for step in dict.fromkeys((0, len(steps) - 1)) if steps for one in _weightiest(steps[step], most)
    ]
    if not shown:
        return None
    rows = -(-len(shown) // 4)
    present = [number for number in range(len(CLASSES)) if any(one.counts[:, number].any() for _, one in shown)]
    with matplotlib.rc_context(STYLE):
        figure = _figure(PAGE_INCHES, 1.75 * rows + 0.5)
        panels = np.atleast_1d(figure.subplots(rows, 4, sharey=True)).ravel()
        for axes, (step, one) in zip(panels, shown):
            _draw_population(axes, steps[step], one, present)
        panels[0].set_ylim(0.0, 1.05 * max(float(one.counts.max()) for _, one in shown))
        for axes in panels[len(shown) :]:
            axes.set_visible(False)
        figure.supxlabel("days after the images", fontsize=9)
        figure.supylabel("cells of the colony", fontsize=9)
        lines = [
            Line2D([], [], color=CLASS_COLOURS[number], lw=1.8, label=_class_words(number, kinds)) for number in present
        ]
        figure.legend(handles=lines, loc="outside upper center", ncols=len(lines), fontsize=8.5)
        return _picture(figure, "Cells of each class over time in the chosen elements")


def _weightiest(step: MacroStep, most: int) -> list[Representative]:
    return sorted(step.representatives, key=lambda one: (-one.weight, one.element))[:most]


def _class_words(number: int, kinds: tuple[str, str]) -> str:
    living = kinds[number // 3]
    return (f"living {living}", f"apoptotic {living}", f"necrotic {living}")[number % 3]


def _draw_population(axes: Any, step: MacroStep, one: Representative, present: Sequence[int]) -> None:
    days = np.linspace(step.start_day, step.end_day, len(one.counts))
    for number in present:
        axes.plot(days, one.counts[:, number], color=CLASS_COLOURS[number], lw=1.3)
    axes.set_title(f"element {one.element} · {one.oxygen:.0f} mmHg · {one.weight:.0%}", fontsize=7.5)
    axes.tick_params(labelsize=7)


def mesh_section(day0: TissueState, image: Background | None) -> Picture:
    """The mesh cut by the axial plane, over the patient's image, and how well shaped its elements are."""
    mesh = day0.reference
    frame = _axial([day0], margin=0.6)
    with matplotlib.rc_context(STYLE):
        figure = _figure(8.4, 4.0)
        axes, beside = figure.subplots(1, 2, width_ratios=(1.25, 1.0))
        _draw_image(axes, image, frame, dim=0.8)
        others = regions_beside(mesh)
        drawn: dict[str, tuple[str, tuple[float, ...]]] = {"host": ("#9fb3c8", (0, 0, 0, 0))}
        drawn |= {name: (shade, (*to_rgb(shade), 0.22)) for name, shade in zip(others, cycle(REGION_COLOURS))}
        drawn |= {"tumour": ("#fbbf24", (0.98, 0.75, 0.14, 0.22))}
        for name, (colour, face) in drawn.items():
            polygons, _ = cut_tetrahedra(mesh.points, mesh.tetrahedra[mesh.elements_of(name)], frame)
            axes.add_collection(PolyCollection(polygons, facecolors=[face], edgecolors=colour, linewidths=0.45))
        _dress(axes, frame, title=f"axial section: tumour (yellow) in its host{_beside(others)}")
        shape = mean_ratio(mesh.points, mesh.tetrahedra)
        bins = list(np.linspace(0.0, 1.0, 41))
        for name, colour in (("host", FAINT), ("tumour", WARM)):
            if len(elements := mesh.elements_of(name)):
                beside.hist(shape[elements], bins=bins, color=colour, alpha=0.65, label=name, density=True)
        beside.set(xlabel="mean ratio of the elements (1 = regular)", ylabel="share of elements", yticks=[])
        beside.legend()
        return _picture(figure, "The mesh and the shape of its elements")


def _beside(regions: Sequence[str]) -> str:
    """Which colour is which region, for a title; empty where there is none."""
    shades = zip(regions, cycle(REGION_COLOURS.values()))
    return "".join(f", {name} ({shade})" for name, shade in shades)


def oxygen_distribution(forecast: Forecast) -> Picture:
    """How much of the tumour lives at which oxygen, on the first and on the last day, by volume."""
    with matplotlib.rc_context(STYLE):
        figure = _figure(5.2, 2.9)
        axes = figure.subplots()
        states = [state for state in (forecast.states[0], forecast.states[-1]) if len(state.tumour)]
        top = max(float(np.nanmax(state.oxygen[state.tumour])) for state in states)
        for state, colour in zip(states, (ACCENT, WARM)):
            inside = state.tumour
            weights = state.mesh.volumes[inside] / state.mesh.volumes[inside].sum() * 100.0
            axes.hist(
                state.oxygen[inside],
                bins=list(np.linspace(0.0, top * 1.02, 36)),
                weights=weights,
                histtype="stepfilled",
                facecolor=(colour, 0.25),
                edgecolor=colour,
                linewidth=1.3,
                label=f"day {state.day:g}",
            )
        axes.axvspan(0.0, 10.0, color="#eceff2", zorder=0)
        axes.set_title("grey: hypoxia, below 10 mmHg", fontsize=7.5, color=FAINT, loc="left")
        axes.set(xlabel="oxygen, mmHg", ylabel="share of the tumour, %", xlim=(0.0, top * 1.02))
        axes.legend(fontsize=8)
        return _picture(figure, "Distribution of oxygen in the tumour", "svg")
