"""Whether a GPU gives what the CPU gives: one step and one hour in every number, run to run, and in 200 seeds.

    python benchmarks/gpu/agreement.py [--cells 20000] [--seeds 200] [--hours 336] [--out FOLDER] [--quick]

From one state, on the engines ``cuda`` and ``cpu``: places after relaxation, and everything after one hour. Integers,
draws and decisions must be equal, real numbers within 1e-12 of their size; whether they are equal in every bit, as the
strict compiler is expected to make them, is told either way. Two runs on the device must be equal in every bit.

Then independent colonies on each engine (other domains, so other luck), for ``hours``: the distribution of each figure
by the two-sample test of Kolmogorov and Smirnov with Holm's correction at 0.01, and the means within 2 %.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from _device import colony_of, run
from numpy.typing import NDArray
from scipy.stats import ks_2samp

from oncoscale.agents.colony import ColonyOutcome
from oncoscale.agents.engine import engine as engine_named

ALPHA, EQUIVALENT, RELATIVE = 0.01, 0.02, 1e-12
"""Of Holm's correction; of means; of real numbers of one hour [project specification, engine §14]."""

CELLS_OF_A_SEED = 500


def measure(chosen: Any, engine: Any) -> dict[str, Any]:
    """The record."""
    cpu, colonies = engine_named("cpu"), [colony_of("one", chosen.cells), colony_of("two", chosen.cells // 3 + 5)]
    ours, again, theirs = (runner.advance(colonies, hours=1, seed=1) for runner in (engine, engine, cpu))
    rows = [{"id": f"one hour: {name}", **found} for name, found in compared(ours, theirs).items()]
    rows.append({"id": "run to run, every bit", "passed": all(same(one, two) for one, two in zip(ours, again))})
    return {
        "name": "gpu_agreement",
        "unit": "checks",
        "every_bit_equals_the_cpu": all(same(one, two) for one, two in zip(ours, theirs)),
        "checks": rows + in_many_seeds(engine, cpu, chosen.seeds, chosen.hours, chosen.cells_of_a_seed),
    }


def same(one: ColonyOutcome, two: ColonyOutcome) -> bool:
    """Every number of two outcomes."""
    return (
        all(np.array_equal(one.state.cells[name], two.state.cells[name]) for name in one.state.cells.dtype.names)
        and one.counts.tobytes() == two.counts.tobytes()
        and (one.volume_ratio, one.oxygen, one.extra, one.moments)
        == (two.volume_ratio, two.oxygen, two.extra, two.moments)
    )


def compared(ours: Sequence[ColonyOutcome], theirs: Sequence[ColonyOutcome]) -> dict[str, dict[str, Any]]:
    """Integers equal and real numbers close, of every field of the cells, and the counts."""
    found: dict[str, dict[str, Any]] = {}
    for one, two in zip(ours, theirs):
        equal = np.array_equal(one.counts, two.counts)
        found[f"counts of {one.name}"] = {"passed": bool(equal)}
        for name in one.state.cells.dtype.names if equal else ():
            a, b = one.state.cells[name], two.state.cells[name]
            if a.dtype.kind == "f":
                error = float(np.max(np.abs(a - b) / np.maximum(np.abs(b), 1.0), initial=0.0))
                found[f"{name} of {one.name}"] = {"value": error, "tolerance": RELATIVE, "passed": error <= RELATIVE}
            else:
                found[f"{name} of {one.name}"] = {"passed": bool(np.array_equal(a, b))}
    return found


def figures(outcomes: Sequence[ColonyOutcome]) -> dict[str, NDArray[np.float64]]:
    """What is compared between engines, by colony."""
    living = np.array([one.counts[-1][[0, 3]] for one in outcomes], float)
    return {
        "living neuroblasts": living[:, 0],
        "living Schwann cells": living[:, 1],
        "cells": np.array([float(one.cell_count) for one in outcomes]),
        "volume ratio": np.array([one.volume_ratio for one in outcomes]),
        "oxygen": np.array([one.oxygen for one in outcomes]),
        "births": np.array([float(sum(one.extra["births"].values())) for one in outcomes]),
    }


def in_many_seeds(engine: Any, cpu: Any, seeds: int, hours: int, cells: int) -> list[dict[str, Any]]:
    """Distribution and mean of each figure over independent colonies."""
    ours, theirs = (
        figures(runner.advance([colony_of(f"{name}-{n}", cells) for n in range(seeds)], hours=hours, seed=2))
        for name, runner in (("cuda", engine), ("cpu", cpu))
    )
    chances = {name: float(ks_2samp(ours[name], theirs[name]).pvalue) for name in ours}
    rows = []
    for place, name in enumerate(sorted(chances, key=lambda one: chances[one])):
        least = ALPHA / (len(chances) - place)
        a, b = float(ours[name].mean()), float(theirs[name].mean())
        difference = abs(a - b) / abs(b) if b else abs(a - b)
        rows.append({"id": f"distribution of {name}", "value": chances[name], "least": least,
                     "passed": chances[name] >= least})  # fmt: skip
        error = float(np.hypot(ours[name].std(), theirs[name].std()) / np.sqrt(seeds) / max(abs(b), 1e-300))
        rows.append({"id": f"mean of {name}", "value": difference, "tolerance": EQUIVALENT, "standard_error": error,
                     "passed": difference <= EQUIVALENT})  # fmt: skip
    return rows


OPTIONS = {
    "cells": {"type": int, "default": 20_000, "quick": 24},
    "seeds": {"type": int, "default": 200, "quick": 2},
    "hours": {"type": int, "default": 336, "quick": 1},
    "cells_of_a_seed": {"type": int, "default": CELLS_OF_A_SEED, "quick": 8},
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print the record."""
    return run(__doc__ or "", measure, OPTIONS, arguments)


if __name__ == "__main__":
    sys.exit(main())
