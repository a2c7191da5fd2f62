"""The circles of FLAME GPU 2 in this engine: same law, density, radius and number of agents; agent-steps per second.

    python benchmarks/gpu/circles.py [--agents 1000000] [--steps 200] [--repeats 3] [--out FOLDER] [--quick]

Points at random in a cube, density 1, that push and pull each other within a radius of 2 by sin(-2 · 3.141 · d / r)
times a constant, averaged over those within; 200 steps [FLAMEGPU/FLAMEGPU2-circles-benchmark; Richmond et al. 2023, doi
10.1002/spe.3207]. FLAME GPU 2 on an H100 PCIe, as its repository stores it: 2.122 ms a step for 1.0e6 agents, 4.71e8
agent-steps per second (compiled at run time).

ratio_flame   agent-steps per second over 4.71e8. Two things differ beside the program [project specification, engine
              §13]: the device's memory bandwidth (print it: ``copy_bytes_per_second``), and the work: here neighbour
              lists with a skin are kept over several steps, in double precision; there all candidates are looked at,
              in single precision
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from _device import copy_bandwidth, run, seconds_of

from oncoscale.agents.cell_type import CellType
from oncoscale.agents.colony import Colony, Surroundings
from oncoscale.agents.engine._batch import Batch
from oncoscale.agents.living import LivingColony, fit_grid
from oncoscale.agents.modes import switches
from oncoscale.agents.neuroblast import STATE
from oncoscale.agents.neuroblastoma import CELLS
from oncoscale.agents.parameters import parameter_set
from oncoscale.agents.rule import compiled

FLAME = 4.71e8
"""Agent-steps per second of FLAME GPU 2, as above."""

RADIUS, SKIN = 2.0, 0.3
"""Of interaction; of the lists, in the same unit."""

STRENGTH = 0.05
"""ASSUMED: the constant of the law; it scales the motion, and with it how long lists last."""

COPIED = 2**26
"""Words of 64 bits of the copy."""


@compiled
def push_on(i: int, rows: Any, others: Any, first: int, last: int, p: Any) -> tuple[float, float, float, float, int]:
    """The mean force of the points within the radius; counts them, and says that nothing is ever at rest."""
    x, y, z, within = 0.0, 0.0, 0.0, 0
    for k in range(first, last):
        j = others[k]
        dx, dy, dz = rows[i, 0] - rows[j, 0], rows[i, 1] - rows[j, 1], rows[i, 2] - rows[j, 2]
        distance = math.sqrt(dx * dx + dy * dy + dz * dz)
        if 0.0 < distance < p.R_neighbours:
            push = STRENGTH * math.sin(2.0 * 3.141 * distance / p.R_neighbours)
            x += push * (dx / distance)
            y += push * (dy / distance)
            z += push * (dz / distance)
            within += 1
    share = 1.0 / max(within, 1)
    return x * share, y * share, z * share, 1e9, within + 1


CIRCLES: CellType = replace(CELLS, name="circles", push_on=push_on)


def circles(agents: int, steps: int) -> LivingColony:
    """Points at random in a cube of density 1, as a colony whose mechanics runs for so many steps."""
    given = Colony("circles", Surroundings(0.001, 0.3, (0.6, 0, 0, 0, 0, 0)))
    living = CIRCLES.settled(given, seed=1, switches=switches(), parameters=parameter_set())
    p = living.numbers
    p["R_neighbours"], p["R_search"], p["N_neighbours"] = RADIUS, RADIUS, -1.0
    p["dt"], p["k1"], p["mu"], p["k_locom"] = 1.0, 1.0, 1.0, 1.0
    p["overlap_enough"], p["iterations_enough"] = 0.0, steps - 2
    living.radii = np.full_like(living.radii, 0.5 * RADIUS)
    half = 0.5 * agents ** (1 / 3)
    living.cells = STATE.new(agents, 1, 0)
    places = np.random.default_rng(1).uniform(-half, half, (agents, 3))
    for column, axis in enumerate(("x", "y", "z")):
        living.cells[axis] = places[:, column]
    living.wall, living.elsewhere, living.half_edge = 1e9, 0.0, half
    living.matrix = np.zeros((1, 1, 1))
    fit_grid(living)
    return living


def measure(chosen: Any, engine: Any) -> dict[str, Any]:
    """The record."""
    times, taken, near = [], 0, 0.0
    for _ in range(chosen.repeats + 1):
        batch = Batch(engine.machine, [circles(chosen.agents, chosen.steps)], skin=SKIN)
        seconds, (taken,) = seconds_of(engine.machine, batch.relax_only)
        batch.fetch()
        near = float(batch.colonies[0].cells["neighbours"].mean()) - 1
        times.append(seconds)
    rate = chosen.agents * taken / min(times[1:])
    return {
        "name": "gpu_circles",
        "unit": "agent-steps per second, ours / FLAME GPU 2 on an H100 PCIe",
        "ratio_flame": rate / FLAME,
        "agent_steps_per_second": rate,
        "milliseconds_per_step": 1e3 * min(times[1:]) / taken,
        "steps": taken,
        "seconds": times[1:],
        "seconds_with_compiling": times[0],
        "true_neighbours_at_end": near,
        "copy_bytes_per_second": copy_bandwidth(engine.machine, 4096 if chosen.quick else COPIED),
        "checks": [{"id": "as many steps as asked for", "passed": taken == chosen.steps}],
    }


OPTIONS = {
    "agents": {"type": int, "default": 1_000_000, "quick": 60},
    "steps": {"type": int, "default": 200, "quick": 3},
    "repeats": {"type": int, "default": 3, "quick": 1},
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print the record."""
    return run(__doc__ or "", measure, OPTIONS, arguments)


if __name__ == "__main__":
    sys.exit(main())
