"""What the benchmarks of a GPU share: the device (or, for a try, the simulator), clocks, copies, and the record."""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

sys.path += [str(Path(__file__).parents[1] / folder) for folder in ("verification", "speed")]

from _record import refusing

from oncoscale.agents.cell_type import CellType
from oncoscale.agents.colony import Colony, Surroundings
from oncoscale.agents.engine._bodies import BOUNDS, COLONY_BODIES, Bodies
from oncoscale.agents.engine._machine import Kernels
from oncoscale.app.bench import hand_over
from oncoscale.core.errors import ConfigurationRejected

PACKAGES = ("oncoscale", "numpy", "numba", "numba-cuda", "cupy-cuda13x", "nvidia-cuda-nvcc", "nvidia-nvvm")

DENSITY, CELLULARITY = 9.39e4, 0.6
"""Cells in a mm³ of cells (parameter ``rho``); volume fraction of cells in the colonies of these benchmarks."""

FACE_CENTRED = 12
"""Nearest neighbours of a close-packed cell: the list that the bounds are told for when none was measured."""


def run(
    script: str,
    measure: Callable[[argparse.Namespace, Any], Mapping[str, Any]],
    options: Mapping[str, Mapping[str, Any]],
    arguments: Sequence[str] | None,
) -> int:
    """Read the options, find the device, measure, and hand over the record. Refuses with a message without a device.

    options  of the script: name, and what argparse is told of it; ``quick`` is the value of a try
    """
    parser = argparse.ArgumentParser(description=script, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, told in options.items():
        parser.add_argument(f"--{name}", **{key: value for key, value in told.items() if key != "quick"})
    parser.add_argument("--quick", action="store_true", help="a try of a few cells, also in the simulator")
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args(arguments)
    if chosen.quick:
        for name, told in options.items():
            setattr(chosen, name, told["quick"])

    def measured() -> int:
        engine = device_engine(chosen.quick)
        record = {**measure(chosen, engine), "parameters": parameters_of(chosen), **machine_of(engine)}
        return hand_over(record, chosen.out)

    return refusing(measured)


def parameters_of(chosen: argparse.Namespace) -> dict[str, Any]:
    return {name: value for name, value in vars(chosen).items() if name != "out"}


def device_engine(quick: bool) -> Any:
    """The engine ``cuda``. Raises ConfigurationRejected without a device, and in the simulator unless for a try."""
    cuda: Any = import_module("oncoscale.agents.engine.cuda")
    engine = cuda.make()
    if cuda.is_simulated() and not quick:
        raise ConfigurationRejected("kernels would run in the simulator, whose times mean nothing", "a GPU",
                                    "unset NUMBA_ENABLE_CUDASIM, or try the script with --quick")  # fmt: skip
    return engine


def machine_of(engine: Any) -> dict[str, Any]:
    """Device, host and versions, for the record."""
    return {
        "engine": engine.name,
        "device": device_facts() if engine.name == "cuda" else "simulator of kernels: no figure of this record counts",
        "host": {"processor": platform.processor() or platform.machine(), "threads": len(os.sched_getaffinity(0))},
        "versions": {name: found for name in PACKAGES if (found := version_of(name))},
        "precision": "float64 strict; float32 for the places that lists remember",
    }


def version_of(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def device_facts() -> dict[str, Any]:
    """Name, memory, clocks (kHz) and driver of the device."""
    runtime = import_module("cupy").cuda.runtime
    found = runtime.getDeviceProperties(0)
    names = (
        "totalGlobalMem",
        "multiProcessorCount",
        "clockRate",
        "memoryClockRate",
        "memoryBusWidth",
        "major",
        "minor",
    )
    facts = {name: int(found[name]) for name in names if name in found}
    return {"name": found["name"].decode(), **facts, "driver": runtime.driverGetVersion(),
            "runtime": runtime.runtimeGetVersion()}  # fmt: skip


def wait(machine: Any) -> None:
    """Until all kernels are done: a copy to the host waits for them."""
    machine.get(machine.put(_NOTHING))


_NOTHING: Any = import_module("numpy").zeros(1)


def seconds_of(machine: Any, work: Callable[[], Any]) -> tuple[float, Any]:
    """Wall seconds until the machine is done, and the result."""
    wait(machine)
    start = time.perf_counter()
    result = work()
    wait(machine)
    return time.perf_counter() - start, result


def copy_bandwidth(machine: Any, words: int, repeats: int = 10) -> float:
    """Bytes per second that a copy inside the machine's memory reads and writes, the best of several."""
    source, target = machine.empty(words, "f8"), machine.empty(words, "f8")
    machine.fill(source, 1.0)
    best = min(seconds_of(machine, lambda: machine.copy(source, target))[0] for _ in range(repeats + 1))
    return 2 * 8 * words / best


class Stopwatch:
    """A machine whose kernels are timed one by one: it waits before and after each.

    seconds, launches  by kernel
    """

    def __init__(self, machine: Any) -> None:
        self._machine = machine
        self.seconds: Counter[str] = Counter()
        self.launches: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._machine, name)

    def kernels(self, cell_type: CellType) -> Kernels:
        def timed(name: str, kernel: Any, *arrays: Any) -> None:
            self.seconds[name] += seconds_of(self._machine, lambda: kernel(*arrays))[0]
            self.launches[name] += 1

        kernels = vars(self._machine.kernels(cell_type))
        return Bodies(**{name: partial(timed, name, kernel) for name, kernel in kernels.items()})


def bytes_by_cell(kernel: str, list_length: float, record: int) -> float:
    """Bytes that a kernel must move for a cell, each array once; rows of neighbours and voxels are for caches to bear.

    Read off the arrays of ``_bodies``.

    record  bytes of a cell's record; of those that touch a few of its fields only, those fields are counted
    """
    row, word, place = 4 * 8, 4, 3 * 4
    entries = list_length * word
    moved = {
        "place": 3 * 8 + 4 + row,
        "key": row + 8,
        "slot": 8 + row + 1 + row + 2 * word + place + 1 + word,
        "lists": row + word + entries + word + entries + word,
        "step": row + entries + word + 1 + place + row + word + 8,
        "home": row + word + row,
        "put_back": row + word + word + 8 + (3 * 8 + 4 + 8),
        "count": 3 * 8 + 4 + 1 + 2 + word,
        "act": 2 * record,
        "fate": 2 + 8,
        "renew": 8 + 2 * record,
    }
    return float(moved.get(kernel, BOUNDS * 8 if kernel in COLONY_BODIES else 0))


OPERATIONS_OF_A_PAIR = {"additions_and_multiplications": 21, "roots": 1, "divisions": 3, "comparisons": 6}
"""In double precision, of ``mechanics.push_on`` with ``spring``: three differences, their squares and two sums; overlap
from three numbers; three components divided, multiplied and summed; the sum of overlaps; counting."""


def colony_of(name: str, cells: int) -> Colony:
    """A colony of about so many cells, as the model founds them."""
    return Colony(name, Surroundings(cells / (DENSITY * CELLULARITY), 0.3, (CELLULARITY, 0, 0, 0, 0, 0)))
