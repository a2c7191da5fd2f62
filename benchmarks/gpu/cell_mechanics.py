"""Speed of mechanics on a GPU: cell-steps per second in the compressed, disordered case, lists and rebuilds included.

    python benchmarks/gpu/cell_mechanics.py [--cells 1000000 5000000 20000000] [--repeats 3] [--out FOLDER] [--quick]

The cells are those of ``benchmarks/speed/mechanics.py`` [project specification, engine §12]. A relaxation is run to its
end (at most 102 steps) from the same cells, once to compile and then ``repeats`` times; wall time until the device is
done. Then once more with every kernel waited for, which tells what part of the time each takes and what fraction of the
bandwidth of a copy, measured before, its compulsory bytes are.

cell_steps_per_second   by number of cells, the best of the repeats
ratio_goal              of the largest case, over 2e9 a second
bound                   cell-steps per second if a step moved its compulsory bytes at the bandwidth of the copy, and did
                        nothing else: a bound, not a forecast
kernels                 seconds, launches, bytes a cell, and fraction of the copy's bandwidth
same_bits               whether all repeats gave the same places
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import numpy as np
from _device import OPERATIONS_OF_A_PAIR, Stopwatch, bytes_by_cell, copy_bandwidth, run, seconds_of
from mechanics import compressed, places_of
from scipy.spatial import cKDTree

from oncoscale.agents.engine._batch import Batch

GOAL = 2e9
"""Cell-steps per second [project specification, engine §1]."""

COPIED = 2**26
"""Words of 64 bits of the copy: far more than caches hold."""


def measure(chosen: Any, engine: Any) -> dict[str, Any]:
    """The record."""
    bandwidth = copy_bandwidth(engine.machine, 4096 if chosen.quick else COPIED)
    rows = [one_size(engine, cells, chosen.repeats, bandwidth, chosen.quick) for cells in chosen.cells]
    largest = rows[-1]
    return {
        "name": "gpu_cell_mechanics",
        "unit": "cell-steps per second",
        "ratio_goal": largest["cell_steps_per_second"] / GOAL,
        "cell_steps_per_second": {str(row["cells"]): row["cell_steps_per_second"] for row in rows},
        "copy_bytes_per_second": bandwidth,
        "operations_of_a_pair": OPERATIONS_OF_A_PAIR,
        "sizes": rows,
        "checks": [{"id": "repeats give the same bits", "passed": all(row["same_bits"] for row in rows)}],
    }


def one_size(engine: Any, cells: int, repeats: int, bandwidth: float, quick: bool) -> dict[str, Any]:
    """Rates, kernels and the bound of one number of cells."""
    times, digests, steps = [], set(), 0
    for _ in range(repeats + 1):
        batch = Batch(engine.machine, [crowd(cells, quick)], skin=engine.skin)
        seconds, (steps,) = seconds_of(engine.machine, batch.relax_only)
        batch.fetch()
        times.append(seconds)
        digests.add(sha256(places_of(batch.colonies[0]).tobytes()).hexdigest())
    length = mean_list_length(crowd(min(cells, 100_000), quick), engine.skin)
    rate = cells * steps / min(times[1:])
    return {
        "cells": cells,
        "steps": steps,
        "cell_steps_per_second": rate,
        "seconds": times[1:],
        "seconds_with_compiling": times[0],
        "list_length": length,
        "bound": bandwidth / bytes_by_cell("step", length, 0),
        "fraction_of_bound": rate * bytes_by_cell("step", length, 0) / bandwidth,
        "kernels": by_kernel(engine, cells, steps, length, bandwidth, quick),
        "same_bits": len(digests) == 1,
        "sha256": sorted(digests),
    }


def crowd(cells: int, quick: bool) -> Any:
    """The crowded colony; for a try, one that is given up after three steps."""
    living = compressed(cells)
    if quick:
        living.numbers["iterations_enough"] = 1
    return living


def mean_list_length(living: Any, skin: float) -> float:
    """Entries of a list when it is made, counted by SciPy's tree (all radii are equal)."""
    p = living.parameters
    reach = max(p["R_neighbours"], min(2 * living.radii[living.cells["cycle"]].max(), p["R_search"])) + skin
    return float(2 * len(cKDTree(places_of(living)).query_pairs(reach, output_type="ndarray")) / len(living.cells))


def by_kernel(engine: Any, cells: int, steps: int, length: float, bandwidth: float, quick: bool) -> dict[str, Any]:
    """Seconds and bandwidth of each kernel of a relaxation of one colony, whose launches are all of its cells."""
    watch = Stopwatch(engine.machine)
    living = crowd(cells, quick)
    record = living.cells.dtype.itemsize
    Batch(watch, [living], skin=engine.skin).relax_only()
    found = {}
    for name, seconds in watch.seconds.items():
        moved = bytes_by_cell(name, length, record) * watch.launches[name]
        per_second = moved * (cells if moved and name not in ("measure", "judge") else 1) / seconds
        found[name] = {
            "seconds": seconds,
            "launches": watch.launches[name],
            "bytes_by_cell": bytes_by_cell(name, length, record),
            "fraction_of_copy": per_second / bandwidth,
        }
    assert watch.launches["step"] == steps
    assert np.isfinite(sum(watch.seconds.values()))
    return found


OPTIONS = {
    "cells": {"type": int, "nargs": "+", "default": [1_000_000, 5_000_000, 20_000_000], "quick": [60]},
    "repeats": {"type": int, "default": 3, "quick": 1},
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print the record."""
    return run(__doc__ or "", measure, OPTIONS, arguments)


if __name__ == "__main__":
    sys.exit(main())
