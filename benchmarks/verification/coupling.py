"""The coupling of tissue and cells against what must hold: exact growth, books, order in the step, order of colonies.

    python benchmarks/verification/coupling.py [--out FOLDER] [--quick]

K1 to K6 of the project's specification (validation §1.6), on a made-up tumour of about 4 mL, coarse. K1: cells that
answer one ratio, in a body that nothing holds. K2: books of neuroblastoma cells over two macro steps, and of oxygen.
K3: cells whose rate of growth is linear in oxygen, in ever shorter macro steps, against the shortest two continued; and
steps of adaptive length. K5: colonies handed over backwards, and on two threads. K4 and K6 are benchmarks of their own,
in suite validation. Writes ``coupling.json`` and ``coupling.png``.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from _record import Check, check, not_run, record, refusing

from oncoscale.agents.colony import Colony, ColonyOutcome
from oncoscale.app.bench import hand_over
from oncoscale.imaging.study import Grid, LabelImage
from oncoscale.meshing.surface import host_around
from oncoscale.meshing.tetrahedra import mesh_tumour
from oncoscale.sim.cells import cells_of
from oncoscale.sim.forecast import MacroStep
from oncoscale.sim.oxygen import BLOOD_OXYGEN, demand_of, solve_oxygen
from oncoscale.sim.remeshing import RemeshingSettings
from oncoscale.sim.selection import select_elements
from oncoscale.sim.sensitivity import constant_rate
from oncoscale.sim.settings import ForecastSettings
from oncoscale.sim.simulation import Cells, Plan, breathing, macro_ends, simulate
from oncoscale.sim.start import start_from
from oncoscale.sim.state import TissueState
from oncoscale.sim.tissue import Springs, springs_of
from oncoscale.sim.tumour_type import InitialFields, tumour_type

DISEASE = tumour_type("neuroblastoma")
DAYS, LENGTHS = 28.0, (7.0, 3.5, 1.75, 0.875)
RATE, SLOPE = 0.002, 0.0002
"""1/day and 1/day/mmHg: growth of the made-up cells of K3, without oxygen and with it."""

BARELY = Springs(1e-11)
"""Keeps a free body where it is; a strain of some 1e-12 is all that it costs."""


def main() -> int:
    """Measure, print the record, draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--quick", action="store_true", help="three lengths of step instead of four")
    asked = parser.parse_args()
    tissue = made_up()
    order, shown = order_checks(tissue, LENGTHS[: 3 if asked.quick else 4])
    made_elsewhere = [
        not_run("K4 20 elements against all", "bench --suite validation --only particularisation"),
        not_run("K6 element of the original program", "bench --suite validation --only element-fixture"),
    ]
    checks = [*free_checks(), *book_checks(tissue), *order, *same_bits_checks(tissue), *made_elsewhere]
    return hand_over(record("coupling", "1, or as named", checks, **shown), asked.out, lambda path: draw(shown, path))


def made_up(size: float = 3.5, *, free: bool = False) -> TissueState:
    """About 4 mL, more cellular to one side and better supplied to another; ``free``: all of the mesh is tumour."""
    place = (np.indices((16, 16, 16)).T - 7.5).T * 2.0
    inside = (place[0] / 11) ** 2 + (place[1] / 9) ** 2 + (place[2] / 10) ** 2 < 1
    labels = LabelImage(Grid((16, 16, 16), np.diag([2.0, 2.0, 2.0, 1.0])), inside.astype(np.uint8), {1: "tumour"})
    mesh = mesh_tumour(host_around(labels), size=size, host_size=2 * size, mesher="bcc")
    if free:
        mesh = replace(mesh, region=np.full(len(mesh.region), mesh.region.max()))
    tumour = mesh.elements_of("tumour")
    x, y, _ = (mesh.centroids - mesh.centroids[tumour].mean(axis=0)).T / 10.0
    composition = np.zeros((len(x), 6))
    composition[tumour, 0] = 0.5 + 0.2 * np.clip(x[tumour], -1, 1)
    fields = InitialFields(composition, 1.0 + 0.5 * np.clip(y, -1, 1), np.ones(len(x)), ("made up",))
    return start_from(mesh, fields, ForecastSettings())


def forecast(
    start: TissueState, advance: Cells, longest: float = 14.0, springs: Springs | None = None, **settings: Any
) -> tuple[tuple[TissueState, ...], tuple[MacroStep, ...]]:
    """DAYS days in macro steps of that length, in one mesh."""
    asked = {"elements": 8, "cells": 100, "fluid": False, "remeshing": RemeshingSettings(allowed=False), **settings}
    held = springs or springs_of(DISEASE.materials["host"])
    plan = Plan(
        DISEASE, ForecastSettings(**asked), None, DISEASE.materials, held, macro_ends(DAYS, longest), 1, advance
    )
    return simulate(start, plan)


def free_checks() -> list[Check]:
    """K1: after n steps a free body has grown by r^n, and is under no stress."""
    start = made_up(7.0, free=True)
    states, _ = forecast(start, constant_rate, 7.0, BARELY, growth="occupancy")
    ratio = 2.0 ** (7.0 / 60.0)
    error = max(abs(state.volume / (start.volume * ratio**n) - 1.0) for n, state in enumerate(states))
    stress = max(float(np.abs(state.mean_stress).max()) for state in states[1:])
    return [
        check("K1 volume over V0 r^n, relative error, four steps", error, 0.0, 1e-10),
        check("K1 mean stress over Young's modulus", stress / DISEASE.materials["tumour"].young, 0.0, 1e-10),
    ]


def book_checks(start: TissueState) -> list[Check]:
    """K2: cells and oxygen are neither lost nor made, and every element has one representative."""
    states, steps = forecast(start, cells_of(ForecastSettings(engine="cpu"), 1), elements=8)
    colonies, tumour = ([step.cells[name] for step in steps] for name in ("colonies", "tumour"))
    field = solve_oxygen(states[-1].mesh, states[-1].supply, demand_of(breathing(states[-1])))
    chosen = select_elements(states[-1], 8, 1)
    matrix = [state.matrix[state.tumour] * state.stretch[state.tumour] ** 3 for state in (states[0], states[-1])]
    represented = np.bincount(chosen.nearest, minlength=8)
    return [
        check("K2 simulated cells missing", sum(abs(book["missing"]) for book in colonies), 0, 0,
              start=[book["start"] for book in colonies], born=[book["born"] for book in colonies],
              removed=[book["removed"] for book in colonies]),
        check("K2 the engine counted births and removals", float(all(step.cells["counted"] for step in steps)), 1, 0),
        check("K2 cells of the tumour missing, relative",
              max(abs(book["missing"]) / book["start"] for book in tumour), 0.0, 1e-9),
        check("K2 matrix of an element that is missing, largest share",
              float(np.abs(matrix[1] / matrix[0] - 1.0).max()), 0.0, 1e-9),
        check("K2 uptake of oxygen over its supply", field.balance.uptake / field.balance.supply, 1.0, 1e-9),
        check("K2 elements represented once, over all", represented.sum() / len(states[-1].tumour), 1.0, 0),
        check("K2 colonies that stand for nobody", float((represented == 0).sum()), 0, 0),
    ]  # fmt: skip


def breathing_cells(colonies: Sequence[Colony], hours: int, seed: int, **not_needed: Any) -> tuple[ColonyOutcome, ...]:
    """Cells whose rate of growth is linear in oxygen; the volume gained is that of the cells born."""
    answers = []
    for colony in colonies:
        around = colony.surroundings
        solid = sum(around.composition)
        ratio = 1.0 + (hours / 24.0) * (RATE + SLOPE * BLOOD_OXYGEN.value * around.oxygen)
        counts = np.zeros((2, 6), dtype=np.int64)
        counts[:, 0] = np.round(1e12 * np.array([solid, solid + ratio - 1.0]))
        answers.append(
            ColonyOutcome(
                colony.name, ratio, around.composition, 1.0 - solid, around.oxygen, int(counts[-1, 0]), counts, {},
                extra={"cube_edge_mm": np.inf},
            )
        )  # fmt: skip
    return tuple(answers)


def order_checks(start: TissueState, lengths: Sequence[float]) -> tuple[list[Check], dict[str, Any]]:
    """K3: differences between ever shorter steps fall with order one; the limit is Richardson's of the last two."""
    volumes = [forecast(start, breathing_cells, length, elements="all")[0][-1].volume for length in lengths]
    apart = np.abs(np.diff(volumes))
    orders = np.log2(apart[:-1] / apart[1:])
    limit = 2.0 * volumes[-1] - volumes[-2]
    longest = forecast(start, breathing_cells, 14.0, elements="all")[0][-1].volume
    states, steps = forecast(start, breathing_cells, 14.0, elements="all", adaptive=True)
    paced = {
        "lengths_days": np.diff([state.day for state in states]).tolist(),
        "volume_ml": states[-1].volume,
        "over_limit": max(step.pace["over_limit"] for step in steps),
    }
    rows = [
        check("K3 order in the macro step", float(orders[-1]), 1.0, 0.1, all=orders.tolist()),
        check("K3 adaptive: largest change over its limit", paced["over_limit"], 0.5, 0.5),
        check("K3 adaptive: error over that of even steps of 14 days",
              abs(states[-1].volume - limit) / abs(longest - limit), 0.0, 0.75),
        check("K3 adaptive: ends on the planned day", states[-1].day, DAYS, 0),
    ]  # fmt: skip
    return rows, {
        "volume_of_14_days_ml": longest,
        "lengths_days": list(lengths),
        "volumes_ml": volumes,
        "limit_ml": limit,
        "adaptive": paced,
    }


def same_bits_checks(start: TissueState) -> list[Check]:
    """K5: the order in which colonies are handed over, and the number of threads, change no bit."""

    def backwards(colonies: Sequence[Colony], hours: int, seed: int, **further: Any) -> tuple[ColonyOutcome, ...]:
        return advance(colonies[::-1], hours, seed, **further)[::-1]

    advance = cells_of(ForecastSettings(engine="cpu"), 1)
    two = cells_of(ForecastSettings(engine="cpu"), 2)
    ends = [forecast(start, cells, elements=4, cells=50)[0][-1] for cells in (advance, backwards, two)]
    return [
        check(f"K5 bits that differ, {what}", float(_differing(ends[0], other)), 0, 0)
        for what, other in zip(("colonies backwards", "two threads"), ends[1:], strict=True)
    ]


def _differing(one: TissueState, other: TissueState) -> int:
    names = ("displacement", "stretch", "composition", "oxygen")
    return sum(int((getattr(one, name) != getattr(other, name)).sum()) for name in names)


def draw(shown: dict[str, Any], path: Path) -> None:
    """Error of the volume over the length of a step."""
    figure, axes = plt.subplots(figsize=(4.8, 3.4), layout="constrained")
    lengths, limit = np.array(shown["lengths_days"]), shown["limit_ml"]
    errors = 100.0 * np.abs(np.array(shown["volumes_ml"]) / limit - 1.0)
    axes.loglog(lengths, errors, "o-", color="#31628a", label="even steps")
    axes.loglog(lengths, errors[0] * lengths / lengths[0], color="0.6", lw=0.8, label="first order")
    paced = shown["adaptive"]
    error = 100.0 * abs(paced["volume_ml"] / limit - 1.0)
    axes.loglog(np.mean(paced["lengths_days"]), error, "s", color="#c8553d", label="adaptive, mean length")
    axes.set(xlabel="length of a macro step, days", ylabel=f"error of volume on day {DAYS:g}, %")
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=120, metadata={"Software": ""})
    plt.close(figure)


if __name__ == "__main__":
    raise SystemExit(refusing(main))
