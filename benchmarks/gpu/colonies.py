"""Many colonies on a GPU: whole runs of the model, together and one after another, and against this machine's CPU.

    python benchmarks/gpu/colonies.py [--large 20] [--small 2000] [--hours 336] [--compared 6] [--out FOLDER] [--quick]

Two cases [project specification, engine §1]: ``large`` colonies of 1e5 cells and ``small`` colonies of 1e4, each for 14
days. Wall time of the whole call, with founding, oxygen and outcomes; the plan of the memory is in the record.
Comparisons take the first ``compared`` hours:

ratio_together   a tenth of the small colonies one after another, over the same colonies in one call (wall time)
ratio_cpu        the engine ``cpu`` on all threads over the engine ``cuda``, the large case (wall time)
seconds          of the two cases, and what the goals are (60 s and 600 s)
same_bits        whether one after another, together and on the CPU are equal in every number
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from _device import colony_of, run

from oncoscale.agents.colony import Colony, ColonyOutcome
from oncoscale.agents.engine import engine as engine_named
from oncoscale.agents.modes import switches
from oncoscale.agents.neuroblastoma import CELLS
from oncoscale.agents.parameters import parameter_set

GOALS = {"large": 60.0, "small": 600.0}
"""Seconds."""


def measure(chosen: Any, engine: Any) -> dict[str, Any]:
    """The record."""
    large = [colony_of(f"large-{n}", chosen.cells_of_large) for n in range(chosen.large)]
    small = [colony_of(f"small-{n}", chosen.cells_of_small) for n in range(chosen.small)]
    lived(engine, small[:1], 1)
    few = small[: max(2, len(small) // 10)]
    together, one_call = timed(lambda: lived(engine, few, chosen.compared))
    apart, alone = timed(lambda: [lived(engine, [colony], chosen.compared)[0] for colony in few])
    on_gpu, ours = timed(lambda: lived(engine, large, chosen.compared))
    on_cpu, theirs = timed(lambda: lived(engine_named("cpu"), large, chosen.compared))
    cases = {name: case(engine, colonies, chosen.hours) for name, colonies in (("large", large), ("small", small))}
    return {
        "name": "gpu_colonies",
        "unit": "wall seconds, and their ratios",
        "ratio_together": apart / together,
        "ratio_cpu": on_cpu / on_gpu,
        "seconds": {name: found["seconds"] for name, found in cases.items()},
        "goals": GOALS,
        "cases": cases,
        "compared_seconds": {"together": together, "apart": apart, "cuda": on_gpu, "cpu": on_cpu},
        "checks": [
            {"id": "one after another = together", "passed": bits(alone) == bits(one_call)},
            {"id": "cuda = cpu, every number", "passed": bits(ours) == bits(theirs)},
        ],
    }


def lived(engine: Any, colonies: Sequence[Colony], hours: int) -> Sequence[ColonyOutcome]:
    outcomes: Sequence[ColonyOutcome] = engine.advance(colonies, hours=hours, seed=1)
    return outcomes


def timed(work: Any) -> tuple[float, Any]:
    """Wall seconds, and the result; outcomes are on the host, so the device is done."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def case(engine: Any, colonies: Sequence[Colony], hours: int) -> dict[str, Any]:
    """A whole run and its plan."""
    settled = [CELLS.settled(colony, seed=1, switches=switches(), parameters=parameter_set()) for colony in colonies]
    plan = engine.plan([len(one.cells) for one in settled], [one.matrix.size for one in settled])
    del settled
    seconds, outcomes = timed(lambda: lived(engine, colonies, hours))
    steps = sum(int(outcome.extra["cell_iterations"]) for outcome in outcomes)
    return {
        "seconds": seconds,
        "plan": str(plan),
        "batches": len(plan.batches),
        "cells_at_start": int(sum(outcome.counts[0].sum() for outcome in outcomes)),
        "cells_at_end": sum(outcome.cell_count for outcome in outcomes),
        "cell_steps_per_second": steps / seconds,
        "steps_of_an_hour": float(np.mean([outcome.extra["mechanics_iterations"] for outcome in outcomes])) / hours,
    }


def bits(outcomes: Sequence[ColonyOutcome]) -> list[Any]:
    return [(one.name, one.counts.tobytes(), one.state.cells["x"].tobytes(), one.extra) for one in outcomes]


OPTIONS = {
    "large": {"type": int, "default": 20, "quick": 2},
    "small": {"type": int, "default": 2000, "quick": 2},
    "cells_of_large": {"type": int, "default": 100_000, "quick": 20},
    "cells_of_small": {"type": int, "default": 10_000, "quick": 10},
    "hours": {"type": int, "default": 336, "quick": 1},
    "compared": {"type": int, "default": 6, "quick": 1},
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print the record."""
    return run(__doc__ or "", measure, OPTIONS, arguments)


if __name__ == "__main__":
    sys.exit(main())
