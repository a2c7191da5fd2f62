"""The timeline of a subject as a picture: a lane a kind, days from left to right, what is predicted drawn hollow."""

from __future__ import annotations

from base64 import b64encode
from collections import Counter
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import matplotlib

matplotlib.use("Agg")

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..linkage.timeline import LANES, Entry

INK, FAINT, LINE = "#1d2733", "#66727f", "#dde3e9"
COLOURS = {
    "course": "#1d2733", "treatment": "#c4572b", "samples": "#8a6d1f", "visits": "#1f5f8b", "images": "#1f5f8b",
    "maps": "#2e7d5b", "meshes": "#2e7d5b", "measurements": "#2e7d5b", "runs": "#6b4e9b", "predictions": "#6b4e9b",
}  # fmt: skip
STYLE: Any = {"font.family": "DejaVu Sans", "font.size": 9, "text.color": INK, "svg.hashsalt": "oncoscale"}


def draw(found: Sequence[Entry]) -> str | None:
    """The picture as the data address of a PNG; None if nothing has a day."""
    figure = figure_of(found)
    if figure is None:
        return None
    buffer = BytesIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(buffer, format="png", dpi=150, metadata={"Software": None})
    return "data:image/png;base64," + b64encode(buffer.getvalue()).decode()


def figure_of(found: Sequence[Entry]) -> Figure | None:
    """Lanes that hold something, from above; a mark a day, with the number of entries if there are several."""
    dated = [one for one in found if one.day is not None]
    if not dated:
        return None
    lanes = [lane for lane in LANES if any(one.lane == lane for one in dated)]
    first, last = min(one.day or 0 for one in dated), max(_end(one) for one in dated)
    margin = max(0.04 * (last - first), 1.0)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(10.0, 0.75 + 0.34 * len(lanes)), layout="constrained")
        axes = figure.subplots()
        for row, lane in enumerate(lanes):
            axes.axhline(row, color=LINE, lw=0.8, zorder=0)
            _draw_lane(axes, row, [one for one in dated if one.lane == lane])
        axes.axvline(0, color=FAINT, lw=0.8, ls=":", zorder=0)
        axes.set_xlim(first - margin, last + margin)
        axes.set_ylim(len(lanes) - 0.4, -0.6)
        axes.set_yticks(range(len(lanes)), lanes)
        axes.tick_params(axis="y", length=0)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("days since day 0")
        for side in ("top", "right", "left"):
            axes.spines[side].set_visible(False)
        axes.spines["bottom"].set_color(FAINT)
    return figure


def _draw_lane(axes: Any, row: int, entries: Sequence[Entry]) -> None:
    colour = COLOURS[entries[0].lane]
    hollow = entries[0].lane == "predictions"
    for one in entries:
        if one.end_day is not None and one.end_day > (one.day or 0):
            axes.plot([one.day, one.end_day], [row, row], color=colour, lw=5, alpha=0.35, solid_capstyle="butt")
    counts = Counter(one.day for one in entries)
    days = sorted(day for day in counts if day is not None)
    face = "white" if hollow else colour
    axes.plot(days, [row] * len(days), "o", ms=6, mec=colour, mfc=face, mew=1.4, clip_on=False)
    for day in days:
        if counts[day] > 1:
            axes.annotate(str(counts[day]), (day, row), (5, 3), textcoords="offset points", fontsize=7.5, color=FAINT)


def _end(one: Entry) -> int:
    return max(one.day or 0, one.end_day if one.end_day is not None else one.day or 0)
