"""Courses of a round tumour with a treatment and without: run, scored against ``published_ranges.toml``, plotted."""

from __future__ import annotations

import json
import sys
import tomllib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from oncoscale.imaging.study import Grid, LabelImage
from oncoscale.sim.interval import interval
from oncoscale.sim.simulation import Plan, simulate
from oncoscale.sim.state import TissueState

RANGES = Path(__file__).with_name("published_ranges.toml")
SPACING = 2.0
"""mm, of the outline."""

Arm = tuple[Mapping[str, Any], str, str]
"""A course, its words, its colour."""


def ball(volume_ml: float) -> LabelImage:
    """The outline of a round tumour."""
    radius = float(np.cbrt(3.0 * volume_ml * 1000.0 / (4.0 * np.pi)))
    size = int(np.ceil(2 * radius / SPACING)) + 4
    grid = Grid((size, size, size), np.diag([SPACING, SPACING, SPACING, 1.0]))
    place = SPACING * (np.indices(grid.shape).T - 0.5 * (size - 1)).T
    return LabelImage(grid, ((place**2).sum(axis=0) < radius**2).astype(np.uint8), {1: "tumour"})


def course_of(start: TissueState, plan: Plan) -> dict[str, Any]:
    """Days, mL of each member and the interval around the first."""
    seeds = [plan.seed + number for number in range(plan.settings.members)]
    runs = [simulate(start, replace(plan, seed=seed)) for seed in seeds]
    volumes = np.array([[state.volume for state in states] for states, _ in runs])
    states, steps = runs[0]
    return {
        "days": [state.day for state in states],
        "members_ml": volumes.tolist(),
        "interval_ml": interval(volumes, steps).tolist(),
        "living_cells": [float((state.cellularity * state.mesh.volumes).sum()) for state in states],
        "notes": sorted({note for step in steps for note in step.notes}),
        "oxygen_mmhg": [float(np.median(state.oxygen[state.tumour])) for state in states],
        "limited": [step.limited for step in steps],
    }


def scored(
    disease: str, found: Mapping[tuple[str, str], Sequence[float]], calibrated: Collection[tuple[str, str]] = ()
) -> list[dict[str, Any]]:
    """What the members say beside what was published: the median is held against the range.

    calibrated  what a parameter was chosen by, which is no evidence for the model
    """
    table = tomllib.loads(RANGES.read_text(encoding="utf-8"))[disease]
    checks = []
    for (arm, name), members in found.items():
        low, high = table[arm][name]["range"]
        value = float(np.median(members))
        checks.append(
            {
                "id": f"{arm}.{name}", "value": finite(value), "members": [finite(one) for one in members],
                "range": [low, high], "passed": bool(low <= value <= high), "calibrated": (arm, name) in calibrated,
                "source": table[arm][name]["source"],
            }
        )  # fmt: skip
    return checks


def finite(value: float) -> float | None:
    """The number as JSON has it: None for what never came."""
    return float(value) if np.isfinite(value) else None


def plotted(arms: Sequence[Arm], given: Sequence[tuple[float, float]], title: str, *, scale: str = "linear") -> Figure:
    """The courses with their intervals and members, and when the treatment was given: (first, last day)."""
    figure = Figure((7.0, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for course, words, colour in arms:
        low, high = np.array(course["interval_ml"]).T
        axes.fill_between(course["days"], low, high, color=colour, alpha=0.2, lw=0)
        for place, member in enumerate(course["members_ml"]):
            first = place == 0
            axes.plot(
                course["days"], member, color=colour, marker="o" if first else "", ms=3, lw=1.5 if first else 0.6,
                label=words if first else None,
            )  # fmt: skip
    for first_day, last_day in given:
        axes.axvspan(first_day, last_day, ymax=0.03, color="0.3", lw=0.5)
    axes.set(xlabel="day", ylabel="tumour, mL", yscale=scale)
    axes.set_ylim(0 if scale == "linear" else None, None)
    axes.legend(frameon=False)
    axes.set_title(title, fontsize=9)
    return figure


def summary_of(record: Mapping[str, Any], figure: Figure, out: Path | None) -> int:
    """The exit code; the record goes to standard output, and beside its picture into the folder."""
    text = json.dumps(record, indent=1)
    if out:
        out.mkdir(parents=True, exist_ok=True)
        (out / f"{record['name']}.json").write_text(text + "\n", encoding="utf-8")
        figure.savefig(out / f"{record['name']}.png", dpi=90)
    sys.stdout.write(text + "\n")
    return 0 if record["passed"] else 3
