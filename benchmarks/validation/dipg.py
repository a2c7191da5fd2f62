"""Pontine glioma with 54 Gy in 30 fractions and without, for 300 days, against ``published_ranges.toml``.

    python benchmarks/validation/dipg.py [--elements 8] [--cells 300] [--members 3] [--voxel 1.5] [--out FOLDER]

A ball of 30 mL in brain, no images. Volume of the visible part with its interval is plotted; one JSON record goes to
standard output. What was tuned to these ranges: nothing; they were written down before the first run.
"""

from __future__ import annotations

import argparse
import json
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from oncoscale import __version__
from oncoscale.imaging.study import Grid, LabelImage
from oncoscale.meshing.tetrahedra import mesh_tumour
from oncoscale.sim.forecasting import cells_of, interval
from oncoscale.sim.settings import ForecastSettings
from oncoscale.sim.simulation import Plan, macro_ends, simulate
from oncoscale.sim.spread import Ground
from oncoscale.sim.start import host_for, infiltrated, start_from
from oncoscale.sim.state import TissueState
from oncoscale.sim.tissue import springs_of
from oncoscale.sim.treatment import Treatment, treatment_of
from oncoscale.sim.treatments.radiotherapy import PONTINE
from oncoscale.sim.tumour_type import InitialFields, tumour_type

RANGES = Path(__file__).with_name("published_ranges.toml")
VOLUME_ML, DAYS, SPACING = 30.0, 300.0, 2.0


def ball() -> LabelImage:
    """The outline of a round tumour."""
    radius = float(np.cbrt(3.0 * VOLUME_ML * 1000.0 / (4.0 * np.pi)))
    size = int(np.ceil(2 * radius / SPACING)) + 4
    grid = Grid((size, size, size), np.diag([SPACING, SPACING, SPACING, 1.0]))
    place = SPACING * (np.indices(grid.shape).T - 0.5 * (size - 1)).T
    return LabelImage(grid, ((place**2).sum(axis=0) < radius**2).astype(np.uint8), {1: "tumour"})


def begin(settings: ForecastSettings, voxel: float) -> tuple[TissueState, Ground]:
    """The tissue at time 0 and what its cells spread through."""
    spread = tumour_type("dipg").spread
    assert spread is not None
    labels = host_for(ball(), spread, DAYS)
    mesh = mesh_tumour(labels, size=4.5, host_size=9.0, mesher="bcc")
    ground = Ground.under(mesh, replace(spread, voxel=voxel))
    even = np.ones(len(mesh.tetrahedra))
    fields = infiltrated(InitialFields(np.zeros((len(even), 6)), even, even, ()), ground, labels)
    return start_from(mesh, fields, settings, ground), ground


def course(
    start: TissueState, ground: Ground, settings: ForecastSettings, treatment: Treatment | None
) -> dict[str, Any]:
    """Days, mL of each member and the interval."""
    disease = tumour_type("dipg")
    plan = Plan(
        disease, settings, treatment, disease.materials, springs_of(disease.materials["host"]),
        macro_ends(DAYS, settings.macro_days), settings.seed, cells_of(settings, 1, disease.cells), ground=ground,
    )  # fmt: skip
    runs = [simulate(start, replace(plan, seed=settings.seed + number)) for number in range(settings.members)]
    volumes = np.array([[state.volume for state in states] for states, _ in runs])
    states, steps = runs[0]
    return {
        "days": [state.day for state in states],
        "members_ml": volumes.tolist(),
        "interval_ml": interval(volumes, steps).tolist(),
        "living_cells": [float((state.cellularity * state.mesh.volumes).sum()) for state in states],
        "notes": sorted({note for step in steps for note in step.notes}),
    }


def scores(without: Mapping[str, Any], irradiated: Mapping[str, Any], last_fraction: float) -> list[dict[str, Any]]:
    """What the two courses say, beside what was published."""
    table = tomllib.loads(RANGES.read_text(encoding="utf-8"))["dipg"]
    days, volume = np.array(irradiated["days"]), np.array(irradiated["members_ml"][0])
    free = np.array(without["members_ml"][0])
    lowest = int(np.argmin(volume))
    after = volume[lowest:]
    beyond = np.flatnonzero(after > 1.05 * after[0])
    found = {
        ("untreated", "doubling"): 60.0 / np.log2(np.interp(60.0, without["days"], free) / free[0]),
        ("radiotherapy", "solid_volume"): float(np.interp(last_fraction + 7.0, days, volume) / volume[0]),
        ("radiotherapy", "nadir"): float(days[lowest]),
        ("radiotherapy", "progression"): float(days[lowest + beyond[0]] - last_fraction) if len(beyond) else np.inf,
    }
    return [
        {"id": f"{arm}.{name}", "value": float(value), "range": table[arm][name]["range"],
         "passed": bool(table[arm][name]["range"][0] <= value <= table[arm][name]["range"][1]),
         "source": table[arm][name]["source"]}
        for (arm, name), value in found.items()
    ]  # fmt: skip


def plotted(without: Mapping[str, Any], irradiated: Mapping[str, Any], fractions: Sequence[float]) -> Figure:
    """Both courses with their intervals, and the fractions as marks."""
    figure = Figure((7.0, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for course_, words, colour in ((without, "no treatment", "C3"), (irradiated, "54 Gy in 30 fractions", "C0")):
        low, high = np.array(course_["interval_ml"]).T
        axes.fill_between(course_["days"], low, high, color=colour, alpha=0.2, lw=0)
        axes.plot(course_["days"], course_["members_ml"][0], color=colour, marker="o", ms=3, label=words)
    axes.plot(fractions, np.zeros(len(fractions)), "|", color="0.3", ms=10)
    axes.set(xlabel="day", ylabel="visible tumour, mL", ylim=(0, None))
    axes.legend(frameon=False)
    axes.set_title("Pontine glioma, 90 % intervals of chance and extrapolation", fontsize=9)
    return figure


def main() -> int:
    """Run both courses and print the record."""
    asked = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    asked.add_argument("--elements", type=int, default=8)
    asked.add_argument("--cells", type=int, default=300)
    asked.add_argument("--members", type=int, default=3)
    asked.add_argument("--voxel", type=float, default=1.5)
    asked.add_argument("--out", type=Path)
    given = asked.parse_args()
    settings = ForecastSettings(elements=given.elements, cells=given.cells, members=given.members, effects=False)
    alpha, ratio = tumour_type("dipg").radiosensitivity or (None, None)
    assert alpha
    assert ratio
    treatment = treatment_of(tomllib.loads(PONTINE)).of_cells(alpha.value, ratio.value)
    start, ground = begin(settings, given.voxel)
    without, irradiated = (course(start, ground, settings, one) for one in (None, treatment))
    fractions = [one.hour / 24.0 for one in treatment.fractions]
    checks = scores(without, irradiated, fractions[-1])
    record = {
        "name": "dipg", "unit": "mL", "passed": all(one["passed"] for one in checks), "checks": checks,
        "settings": {**vars(given), "out": None}, "without": without, "irradiated": irradiated,
        "versions": {"oncoscale": __version__},
    }  # fmt: skip
    text = json.dumps(record, indent=1)
    if given.out:
        given.out.mkdir(parents=True, exist_ok=True)
        (given.out / "dipg.json").write_text(text + "\n", encoding="utf-8")
        plotted(without, irradiated, fractions).savefig(given.out / "dipg.png", dpi=90)
    sys.stdout.write(text + "\n")
    return 0 if record["passed"] else 3


if __name__ == "__main__":
    sys.exit(main())
