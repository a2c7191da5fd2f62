"""Machines on the host that run the bodies of kernels in plain loops: a device's threads, one after another."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np
from numba import njit

from oncoscale.agents.cell_type import CellType
from oncoscale.agents.engine._bodies import COLONY_BODIES, Bodies, bodies_of
from oncoscale.agents.engine._machine import HostMachine, Kernels, MachineFull
from oncoscale.agents.engine.cuda import AsKernelsSee
from oncoscale.agents.rule import compiled

THREADS = 64


@compiled
def add_to(array: Any, place: Any, amount: Any) -> None:
    array[place] += amount


@compiled
def raise_to(array: Any, place: Any, value: Any) -> None:
    if value > array[place]:
        array[place] = value


@compiled
def set_flag(flags: Any, k: int, flag: int) -> None:
    flags[k] |= flag


def over_cells(body: Any) -> Callable[..., None]:
    def run(table, colonies, *arrays):  # type: ignore[no-untyped-def]
        for block in range(len(table)):
            k = table[block, 0]
            for i in range(table[block, 1], min(table[block, 1] + THREADS, colonies[k].cells)):
                body(k, i, colonies, *arrays)

    return run


def over_colonies(body: Any) -> Callable[..., None]:
    def run(chosen, colonies, *arrays):  # type: ignore[no-untyped-def]
        for n in range(len(chosen)):
            body(chosen[n], colonies, *arrays)

    return run


def loops_of(cell_type: CellType) -> dict[str, Callable[..., None]]:
    """A loop for each body."""
    bodies = vars(bodies_of(cell_type, add_to, raise_to, set_flag))
    return {name: (over_colonies if name in COLONY_BODIES else over_cells)(body) for name, body in bodies.items()}


@cache
def compiled_kernels(cell_type: CellType) -> Kernels:
    """The loops, compiled for this processor as strictly as the engine ``cpu``."""
    strict = njit(error_model="numpy", nogil=True)
    return Bodies(**{name: strict(loop) for name, loop in loops_of(cell_type).items()})


def interpreted_kernels(cell_type: CellType, note: Callable[..., None]) -> Kernels:
    """The loops, interpreted; ``note`` is told the name and the arrays of each launch."""

    def run(name: str, loop: Any, *arrays: Any) -> None:
        note(name, arrays)
        with np.errstate(all="ignore"):
            loop(*(AsKernelsSee(array) for array in arrays))

    return Bodies(**{name: partial(run, name, loop) for name, loop in loops_of(cell_type).items()})


class CompiledMachine(HostMachine):
    """Bodies compiled for this processor.

    full_at  the allocation, counted from 0, at which there is no room, once
    """

    def __init__(self, limit: int = 2**40, full_at: int | None = None) -> None:
        super().__init__(compiled_kernels, limit)
        self.threads, self.full_at, self.allocations = THREADS, full_at, 0

    def empty(self, shape: int | tuple[int, ...], dtype: Any) -> Any:
        self.allocations += 1
        if self.allocations - 1 == self.full_at:
            raise MachineFull("as it was told to be")
        return super().empty(shape, dtype)


class InterpretedMachine(HostMachine):
    """Bodies interpreted; ``launches`` is told of each launch."""

    def __init__(self, note: Callable[..., None]) -> None:
        super().__init__(partial(interpreted_kernels, note=note))
        self.threads = THREADS
