"""Speed, memory and scaling of mechanics in a crowd, and of the hour around it.

    python benchmarks/speed/mechanics.py [--cells 100000] [--pairs 5] [--large 1000000] [--hours 3] [--out FOLDER]

writes one JSON record to standard output (and to FOLDER/mechanics.json). The case [project specification, engine
§12]: a ball of close-packed neuroblasts four hours into G1 (radius 6.875 µm), spacing 0.90 diameters, every coordinate
off by up to 3 µm: about 14 true neighbours. Law and numbers of the released model; at most 102 steps, as in any of its
hours. Time is process CPU time of one thread, after compiling, lists and their rebuilds included; sides of a
comparison run interleaved in this process.

ratio                     cell-steps per CPU second over those of the same law with SciPy's tree and NumPy
                          (``cKDTree.query_pairs`` in every step), same cells; steps compared before
ratio_all_pairs           over all pairs in NumPy, 1,000 cells of the same case
cell_steps_per_second     a bare figure of this machine; ``swinging`` the same where crowded cells push twice as hard,
                          so that at this density they swing to and fro by more than 1 µm in every step
biology_in_steps          CPU time of counting, acting and renewing, in steps of mechanics; oxygen apart
scaling                   whole hours of the case at several sizes, and the exponent of CPU time over cells
bytes_per_cell            peak of resident memory beyond that of a small run, in a process of its own: a colony of the
                          model (founding, hours, outcome), and the crowded case
two_threads               wall time on one thread over that on two, same bits
a_million_cells_for_14_days   hours of wall time on two threads, estimated from the model's colony in its second and
                          later hours here; and on one thread if every hour were as crowded as this case
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from cells import naive_relax
from scipy.spatial import cKDTree

from oncoscale.agents.cell import DIVIDES
from oncoscale.agents.colony import Colony, Surroundings
from oncoscale.agents.engine import engine
from oncoscale.agents.engine._advance import ALONE, parts_of
from oncoscale.agents.engine.cpu import CpuEngine, Listed
from oncoscale.agents.living import LivingColony, fit_grid, live_one_hour, renew
from oncoscale.agents.modes import switches
from oncoscale.agents.neuroblast import NEUROBLAST, STATE
from oncoscale.agents.neuroblastoma import CELLS
from oncoscale.agents.parameters import parameter_set

CYCLE, SPACING, JITTER, MATRIX = 4, 0.90, 3.0, 0.4
"""Hours into the cycle, diameters, µm, volume fraction."""

DENSITY, CELLULARITY = 9.39e4, 0.6
"""Cells in a mm³ of cells; their volume fraction."""

PEER_STEPS = 3
SIZES = (10_000, 30_000, 100_000, 300_000)


def measure(cells: int, pairs: int, large: int, hours: int) -> dict[str, Any]:
    """The record."""
    live_one_hour(compressed(1000), CpuEngine())
    by_size = scaling((*SIZES, large))
    difference = largest_difference(2000)
    against_tree = interleaved(pairs, lambda: rate(compressed(cells)), lambda: peer_rate(cells))
    against_all = interleaved(pairs, lambda: rate(compressed(1000)), lambda: rate(compressed(1000), naive_relax))
    one = described(compressed(cells))
    biology = [biology_of(cells) for _ in range(pairs)]
    return {
        "name": "mechanics",
        "unit": "cell-steps per CPU second, ours / SciPy's tree and NumPy",
        "parameters": {"cells": cells, "pairs": pairs, "large": large, "hours": hours},
        "case": {"radius_um": float(compressed(8).radii[CYCLE]), "spacing_diameters": SPACING, "jitter_um": JITTER,
                 "matrix": MATRIX, "peer_steps": PEER_STEPS},
        **against_tree,
        "ratio_all_pairs": against_all["ratio"],
        "ratio_all_pairs_interval": against_all["interval"],
        "largest_difference_of_positions_um": difference,
        "cell_steps_per_second": float(np.median([ours for ours, _ in against_tree["samples"]])),
        "swinging": described(compressed(cells, mobile=True)),
        **one,
        "biology_in_steps": float(np.median([found["steps"] for found in biology])),
        "biology": biology,
        "scaling": by_size,
        "bytes_per_cell": {case: in_own_process(case, large, hours) for case in ("model", "crowded")},
        "two_threads": two_threads(cells, pairs),
        "a_million_cells_for_14_days": {
            **fortnight(large, hours),
            "hours_on_one_thread_if_always_crowded": 336e6 * by_size["hours"][-1]["microseconds_per_cell"] / 3.6e9,
        },
        "precision": "float64 strict; float32 for the places that lists remember",
        "threads": 1,
        "device": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("oncoscale", "numpy", "numba", "llvmlite", "scipy")},
    }  # fmt: skip


def compressed(cells: int, *, mobile: bool = False) -> LivingColony:
    """The crowded colony: the cells of a face-centred lattice nearest to its centre, disordered, stored at random.

    mobile  whether crowded cells push harder
    """
    given = Colony("crowd", Surroundings(0.001, 0.3, (1 - MATRIX, 0, 0, 0, 0, 0)))
    living = CELLS.settled(given, seed=1, switches=switches("corrected"), parameters=parameter_set())
    edge = SPACING * 2 * living.radii[CYCLE] * math.sqrt(2)
    span = np.arange(-math.ceil(0.65 * cells ** (1 / 3)) - 2, math.ceil(0.65 * cells ** (1 / 3)) + 2)
    corners = np.stack(np.meshgrid(span, span, span, indexing="ij"), axis=-1).reshape(-1, 1, 3)
    points = edge * (corners + [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]).reshape(-1, 3)
    points = points[np.argsort((points**2).sum(axis=1), kind="stable")[:cells]]
    chance = np.random.default_rng(1)
    points = chance.permutation(points) + chance.uniform(-JITTER, JITTER, points.shape)
    living.cells = STATE.new(cells, 1, NEUROBLAST)
    for place, axis in enumerate(("x", "y", "z")):
        living.cells[axis] = points[:, place]
    living.cells["cycle"], living.cells["mobile"], living.cells["necro_critical"] = CYCLE, mobile, 168
    living.next_identity = cells + 1
    living.half_edge = float(np.abs(points).max())
    living.wall, living.elsewhere = living.parameters["boundary_max"] * living.half_edge, MATRIX
    living.matrix = np.full((1, 1, 1), MATRIX)
    fit_grid(living)
    return living


def places_of(living: LivingColony) -> np.ndarray:
    return np.column_stack([living.cells[axis] for axis in ("x", "y", "z")])


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """CPU seconds, and the result."""
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


def rate(living: LivingColony, relax: Callable[[LivingColony], int] | None = None) -> float:
    """Cell-steps per CPU second of relaxing."""
    seconds, steps = timed(lambda: (relax or CpuEngine().relax)(living))
    return float(steps * len(living.cells) / seconds)


def peer_rate(cells: int) -> float:
    """The same of a few steps with SciPy's tree."""
    living = compressed(cells)
    return PEER_STEPS * cells / timed(lambda: peer_relax(living, PEER_STEPS))[0]


def peer_relax(living: LivingColony, steps: int) -> None:
    """The laws of mechanics for the pairs that SciPy's tree finds, as one would write them with NumPy."""
    p, cells, place = living.numbers.view(np.recarray)[0], living.cells, places_of(living)
    radius, count = living.radii[cells["cycle"]], len(living.cells)
    for _ in range(steps):
        reach = max(p.R_neighbours, min(2 * radius.max(), p.R_search))
        i, j = cKDTree(place).query_pairs(reach, output_type="ndarray").T
        away = place[i] - place[j]
        distance = np.sqrt((away**2).sum(axis=1))
        near = distance < p.R_neighbours
        neighbours = 1 + np.bincount(i[near], minlength=count) + np.bincount(j[near], minlength=count)
        overlap = radius[i] + radius[j] - distance
        pushing = (distance > 0) & (distance <= p.R_search) & (overlap >= p.min_overlap)
        i, j, push = i[pushing], j[pushing], overlap[pushing, None] * away[pushing] / distance[pushing, None]
        total = np.column_stack([
            np.bincount(i, push[:, axis], count) - np.bincount(j, push[:, axis], count) for axis in range(3)
        ])  # fmt: skip
        harder = np.where((neighbours > p.N_neighbours) & cells["mobile"], p.k_locom, 1.0)
        place = place + (p.dt * p.k1 / p.mu / (1 + MATRIX) * harder)[:, None] * total
        place = np.where(place < -living.wall, -2 * living.wall - place, place)
        place = np.where(place > living.wall, 2 * living.wall - place, place)
    for axis, name in enumerate(("x", "y", "z")):
        cells[name] = place[:, axis]


def largest_difference(cells: int) -> float:
    """Of positions in µm after a few steps of both peers and ours. Raises AssertionError above 1e-6 µm."""
    tree, pairs, ours, short = (compressed(cells) for _ in range(4))
    peer_relax(tree, PEER_STEPS)
    short.numbers["iterations_enough"] = PEER_STEPS - 2
    CpuEngine().relax(short)
    naive_relax(pairs)
    CpuEngine().relax(ours)
    error = max(float(np.abs(places_of(one) - places_of(other)).max()) for one, other in ((tree, short), (pairs, ours)))
    assert error < 1e-6, f"positions differ by {error} µm"
    return error


def interleaved(pairs: int, ours: Callable[[], float], theirs: Callable[[], float]) -> dict[str, Any]:
    """Median ratio of rates with its bootstrap interval (95 %), and the samples."""
    samples = [(ours(), theirs()) for _ in range(pairs)]
    ratios = np.array([one / other for one, other in samples])
    drawn = np.median(np.random.default_rng(1).choice(ratios, (10_000, pairs)), axis=1)
    low, high = np.quantile(drawn, (0.025, 0.975))
    return {"ratio": float(np.median(ratios)), "interval": [float(low), float(high)], "samples": samples}


class Counting(CpuEngine):
    """Counts its lists."""

    def __init__(self) -> None:
        super().__init__()
        self.lengths: list[float] = []

    def _listed(self, colony: LivingColony, *rest: Any) -> Listed:
        listed = super()._listed(colony, *rest)
        self.lengths.append(sum(int(first[-1]) for first, _ in listed.lists.values()) / len(colony.cells))
        return listed


def described(living: LivingColony) -> dict[str, Any]:
    """What one relaxation did."""
    before, runner, cells = places_of(living), Counting(), len(living.cells)
    contact = living.parameters["R_neighbours"]
    true = 2 * len(cKDTree(before).query_pairs(contact, output_type="ndarray")) / cells
    seconds, steps = timed(lambda: runner.relax(living))
    final = b"".join(np.ascontiguousarray(living.cells[name]).tobytes() for name in ("x", "y", "z", "neighbours"))
    return {
        "cells": cells,
        "steps": steps,
        "cell_steps_per_second_of_this_run": steps * cells / seconds,
        "true_neighbours_at_start": true,
        "true_neighbours_at_end": float(living.cells["neighbours"].mean()) - 1,
        "list_length": float(np.mean(runner.lengths)),
        "lists_made": len(runner.lengths),
        "largest_displacement_um": float(np.sqrt(((places_of(living) - before) ** 2).sum(axis=1)).max()),
        "sha256": sha256(final).hexdigest(),
    }


def biology_of(cells: int) -> dict[str, float]:
    """CPU seconds of the parts of one hour, and of count, act and renew in steps of mechanics."""
    living, runner = compressed(cells), CpuEngine()
    relax, steps = timed(lambda: runner.relax(living))
    fit_grid(living)
    count, census = timed(lambda: runner.count(living))
    ground, (shared, oxygen) = timed(lambda: CELLS.prepare(living, census))
    act, _ = timed(lambda: runner.act(living, shared, census, oxygen))
    living.cells["fate"][::50] = DIVIDES
    renewal, _ = timed(lambda: renew(living))
    return {"relax": relax, "count": count, "oxygen_and_matrix": ground, "act": act, "renew": renewal,
            "steps": (count + act + renewal) / (relax / steps)}  # fmt: skip


def scaling(sizes: tuple[int, ...]) -> dict[str, Any]:
    """CPU seconds of one whole hour by cells, and the slope of their logarithms."""
    rows = []
    for cells in sizes:
        living, runner = compressed(cells), CpuEngine()
        repeats = max(1, min(5, 100_000 // cells))
        best = math.inf
        for _ in range(repeats):
            living = compressed(cells)
            best = min(best, timed(lambda: live_one_hour(living, runner))[0])  # noqa: B023
        rows.append({"cells": cells, "cpu_seconds": best, "steps": living.iterations,
                     "microseconds_per_cell": 1e6 * best / cells})  # fmt: skip
    slope = np.polyfit(np.log(sizes), np.log([row["cpu_seconds"] for row in rows]), 1)[0]
    return {"hours": rows, "exponent": float(slope)}


def given_colony(cells: int) -> Colony:
    """About so many cells as the model founds them."""
    return Colony("large", Surroundings(cells / (DENSITY * CELLULARITY), 0.3, (CELLULARITY, 0, 0, 0, 0, 0)))


STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak() -> int:
    """Largest resident memory of this process since ``forget_peak``, bytes."""
    if STATUS.exists():
        line = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))
        return 1024 * int(line.split()[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def forget_peak() -> None:
    """From now on, where the system can (Linux)."""
    if CLEAR.exists():
        CLEAR.write_text("5")


def memory_of(case: str, cells: int, hours: int) -> dict[str, float]:
    """Bytes a cell at the peak, beyond a small run in the same process; the largest number of cells counts."""
    engine("cpu").advance([given_colony(2000)], hours=2, seed=1, threads=1)
    base = peak()
    if case == "model":
        outcome = engine("cpu").advance([given_colony(cells)], hours=hours, seed=1, threads=1)[0]
        most = int(outcome.counts.sum(axis=1).max())
    else:
        living = compressed(cells)
        forget_peak()
        for _ in range(hours):
            live_one_hour(living, CpuEngine())
        most = max(int(counts.sum()) for counts in living.counts[1:])
    return {"cells": most, "bytes": (peak() - base) / most}


def in_own_process(case: str, cells: int, hours: int) -> Any:
    """``memory_of`` in a fresh process, whose peak is its own."""
    words = [sys.executable, __file__, "--memory", case, "--large", str(cells), "--hours", str(hours)]
    return json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)


def two_threads(cells: int, pairs: int) -> dict[str, Any]:
    """Wall time of relaxation on one thread over that on two."""
    ratios, same = [], True
    with parts_of(2) as two:
        for _ in range(pairs):
            walls, states = [], []
            for parts in (ALONE, two):
                living = compressed(cells)
                start = time.perf_counter()
                CpuEngine().relax(living, parts)
                walls.append(time.perf_counter() - start)
                states.append(living.cells.tobytes())
            ratios.append(walls[0] / walls[1])
            same &= states[0] == states[1]
    return {"wall_ratio": float(np.median(ratios)), "ratios": ratios, "same_bits": same}


def fortnight(cells: int, hours: int) -> dict[str, float]:
    """336 hours of the model's colony at the mean wall time of its hours after the first, on two threads."""
    marks: list[float] = []
    engine("cpu").advance([given_colony(cells)], hours=hours, seed=1, threads=2,
                          watch=lambda _: marks.append(time.perf_counter()))  # fmt: skip
    each = np.diff(marks)
    return {"hours": float(336 * each[1:].mean() / 3600 * 1e6 / cells), "seconds_of_first_hour": float(each[0]),
            "seconds_of_later_hours": float(each[1:].mean()), "cells": cells}  # fmt: skip


def main() -> None:
    """Measure and print the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=100_000)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--large", type=int, default=1_000_000)
    parser.add_argument("--hours", type=int, default=3)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--memory", choices=("model", "crowded"), help="only the memory of one case")
    chosen = parser.parse_args()
    if chosen.memory:
        record: dict[str, Any] = memory_of(chosen.memory, chosen.large, chosen.hours)
    else:
        record = measure(chosen.cells, chosen.pairs, chosen.large, chosen.hours)
    text = json.dumps(record, indent=1) + "\n"
    sys.stdout.write(text)
    if chosen.out:
        chosen.out.mkdir(parents=True, exist_ok=True)
        (chosen.out / f"{record['name']}.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
