"""Speed of the cell engine against naive code for the same laws: all pairs in NumPy, and the interpreted engine.

    python benchmarks/speed/cells.py [--cells 1000] [--hours 336] [--pairs 5] [--out FOLDER]

writes one JSON record to standard output (and to FOLDER/cells.json). Only ratios mean something: the sides of each
comparison run interleaved in this process, on one thread, in process CPU seconds, after compiling; their results are
compared before anything is timed. Three figures:

ratio               relaxation of a dense colony to rest: cell-iterations per CPU second of the compiled engine, lists
                    included, over those of a Jacobi loop of NumPy over all pairs
ratio_interpreted   a whole hour of a small colony: the compiled engine over the interpreted one, which runs the very
                    same rules
cell_iterations_per_second   a whole run (mechanics, biology, oxygen, births, deaths): mechanics steps of all cells over
                    all CPU seconds; ``cell_hours_per_second`` beside it. These two are bare figures of this machine.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from oncoscale.agents.colony import Colony, Surroundings
from oncoscale.agents.engine import engine
from oncoscale.agents.engine.cpu import CpuEngine
from oncoscale.agents.engine.python import PythonEngine
from oncoscale.agents.living import LivingColony, live_one_hour
from oncoscale.agents.modes import switches
from oncoscale.agents.neuroblastoma import CELLS
from oncoscale.agents.parameters import parameter_set

CELLULARITY = 0.6
DENSITY = 9.39e4
"""Cells in a mm³ of cells."""


def measure(cells: int, hours: int, pairs: int) -> dict[str, Any]:
    """The record."""
    error = largest_difference(cells)
    hour_rate(CpuEngine())
    relaxing = [(rate(cells, naive_relax), rate(cells, CpuEngine().relax)) for _ in range(pairs)]
    ratios = sorted(ours / theirs for theirs, ours in relaxing)
    hourly = [(hour_rate(PythonEngine()), hour_rate(CpuEngine())) for _ in range(pairs)]
    interpreted = sorted(ours / theirs for theirs, ours in hourly)
    runs = [whole_run(cells, hours) for _ in range(pairs)]
    return {
        "name": "cells",
        "unit": "cell-iterations per CPU second, ours / naive",
        "parameters": {"cells": cells, "cellularity": CELLULARITY, "hours": hours, "pairs": pairs},
        "ratio": float(np.median(ratios)),
        "ratios": ratios,
        "samples": relaxing,
        "ratio_interpreted": float(np.median(interpreted)),
        "ratios_interpreted": interpreted,
        "cell_iterations_per_second": float(np.median([run[0] for run in runs])),
        "cell_hours_per_second": float(np.median([run[1] for run in runs])),
        "largest_difference_of_positions_um": error,
        "threads": 1,
        "device": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("oncoscale", "numpy", "numba", "llvmlite")},
    }


def given_colony(cells: int) -> Colony:
    """About ``cells`` cells at rest oxygen."""
    volume = cells / (DENSITY * CELLULARITY)
    return Colony(f"{cells} cells", Surroundings(volume, 0.3, (CELLULARITY, 0, 0, 0, 0, 0)))


def settled_colony(cells: int) -> LivingColony:
    """The colony before its first hour: cells at random, many overlaps."""
    return CELLS.settled(
        given_colony(cells), seed=1, switches=switches("corrected", o2_model="qss"), parameters=parameter_set()
    )


def naive_relax(living: LivingColony) -> int:
    """The laws of mechanics for all pairs at once, as one would write them in NumPy."""
    p, cells = living.numbers.view(np.recarray)[0], living.cells
    place = np.column_stack([cells["x"], cells["y"], cells["z"]])
    radius = living.radii[cells["cycle"]]
    matrix = float(living.matrix[0, 0, 0])
    for iteration in range(102):
        away = place[:, None, :] - place[None, :, :]
        distance = np.sqrt((away**2).sum(axis=2))
        near = distance < p.R_neighbours
        neighbours = near.sum(axis=1)
        overlap = radius[:, None] + radius[None, :] - distance
        pushing = (distance > 0) & (distance <= p.R_search) & (overlap >= p.min_overlap)
        weight = np.where(pushing, overlap / np.where(distance > 0, distance, 1.0), 0.0)
        push = (weight[:, :, None] * away).sum(axis=1)
        strength = (
            p.dt
            * p.k1
            / p.mu
            / (1 + matrix)
            * np.where((neighbours > p.N_neighbours) & cells["mobile"], p.k_locom, 1.0)
        )
        place = place + strength[:, None] * push
        place = np.where(place < -living.wall, -2 * living.wall - place, place)
        place = np.where(place > living.wall, 2 * living.wall - place, place)
        largest = np.where(pushing, overlap, 0.0).sum(axis=1).max()
        if iteration >= 1 and (neighbours.max() <= p.N_neighbours or largest < p.overlap_enough * p.R_cell):
            break
    cells["x"], cells["y"], cells["z"] = place.T
    return iteration + 1


def largest_difference(cells: int) -> float:
    """Of positions in µm between the two after relaxation. Raises AssertionError above 1e-6 µm."""
    one, other = settled_colony(cells), settled_colony(cells)
    assert naive_relax(one) == CpuEngine().relax(other), "the two need different numbers of iterations"
    difference = max(float(np.abs(one.cells[axis] - other.cells[axis]).max()) for axis in ("x", "y", "z"))
    assert difference < 1e-6, f"positions differ by {difference} µm"
    return difference


def rate(cells: int, relax: Callable[[LivingColony], int]) -> float:
    """Cell-iterations per CPU second of relaxing a fresh colony."""
    living = settled_colony(cells)
    start = time.process_time()
    iterations = relax(living)
    return iterations * len(living.cells) / (time.process_time() - start)


def hour_rate(kernels: Any) -> float:
    """Cell-iterations per CPU second of three whole hours of forty cells."""
    living = settled_colony(40)
    start = time.process_time()
    for _ in range(3):
        live_one_hour(living, kernels)
    return living.cell_iterations / (time.process_time() - start)


def whole_run(cells: int, hours: int) -> tuple[float, float]:
    """Cell-iterations and cell-hours per CPU second of a whole run of one colony."""
    start = time.process_time()
    outcome = engine("cpu").advance(
        [given_colony(cells)], hours=hours, seed=1, mode=switches("corrected", o2_model="qss"), threads=1
    )[0]
    seconds = time.process_time() - start
    return outcome.extra["cell_iterations"] / seconds, float(outcome.counts[:-1].sum()) / seconds


def main() -> None:
    """Measure and print the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=1000)
    parser.add_argument("--hours", type=int, default=336)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    record = measure(chosen.cells, chosen.hours, chosen.pairs)
    text = json.dumps(record, indent=1) + "\n"
    sys.stdout.write(text)
    if chosen.out:
        chosen.out.mkdir(parents=True, exist_ok=True)
        (chosen.out / f"{record['name']}.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
