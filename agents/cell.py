"""What every cell is, declared once for each type of cell.

The record that rules read and write, what daughters inherit, what is stored between loops and what ``oncoscale
explain`` prints all come from a declared ``State``. BODY is what the engine itself needs of any cell; a cell type adds
its own variables (``neuroblast.STATE``, ``spheroid.STATE``, ``glioma.STATE``).
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .rule import compiled

STAYS, DIVIDES, REMOVED = 0, 1, 2
"""Values of ``fate``: what happens to the cell at the end of the hour."""

Cells = NDArray[Any]
"""(cells,) array of a state's record, in the order of identity."""


@dataclass(frozen=True)
class Variable:
    """One declared number of a cell.

    start      value of a new cell unless the initial conditions say otherwise
    inherited  whether a daughter gets her mother's value (else ``start``)
    """

    name: str
    kind: Any
    unit: str
    meaning: str
    start: float = 0
    inherited: bool = True


def flags(**meanings: str) -> Iterator[Variable]:
    """Variables that are yes or no, no at the start."""
    return (Variable(name, np.bool_, "1", meaning) for name, meaning in meanings.items())


BODY: tuple[Variable, ...] = (
    Variable("identity", np.int64, "1", "persistent number of the cell, from 1; never reused", inherited=False),
    Variable("x", np.float64, "µm", "position, from the centre of the colony's cube", inherited=False),
    Variable("y", np.float64, "µm", "position", inherited=False),
    Variable("z", np.float64, "µm", "position", inherited=False),
    Variable("axis_x", np.float64, "1", "direction in which the daughter is laid", inherited=False),
    Variable("axis_y", np.float64, "1", "direction in which the daughter is laid", inherited=False),
    Variable("axis_z", np.float64, "1", "direction in which the daughter is laid", inherited=False),
    Variable("overlap", np.float64, "µm", "sum of overlaps with other cells", inherited=False),
    Variable("neighbours", np.int32, "1", "cells within the contact radius, the cell itself counted", inherited=False),
    Variable("cycle", np.int32, "h", "completed hours of the cell cycle"),
    Variable("kind", np.int8, "1", "which cells of its type: 0 the first kind, 1 the second"),
    Variable("fate", np.int8, "1", "0 stays, 1 divides, 2 is removed at the end of the hour", inherited=False),
    Variable("mobile", np.bool_, "1", "whether a crowded cell pushes harder", 1),
    *flags(apop="apoptotic", necro="necrotic"),
)
"""What relaxation, counting, births and removals need of a cell of any type."""


@dataclass(frozen=True)
class State:
    """The declared variables of a cell, and their record.

    Raises ValueError when a name is declared twice.
    """

    variables: tuple[Variable, ...]
    record: np.dtype[Any] = field(init=False)

    def __post_init__(self) -> None:
        fields = [(variable.name, variable.kind) for variable in self.variables]
        object.__setattr__(self, "record", np.dtype(fields, align=True))

    def new(self, count: int, first_identity: int, kind: int) -> Cells:
        """``count`` cells with the declared start values and ascending identities."""
        cells = np.zeros(ROOM * count, self.record)[:count]
        self._start(cells, self.variables, first_identity)
        cells["kind"] = kind
        return cells

    def daughters(self, mothers: Cells, first_identity: int) -> Cells:
        """Daughters: the mother's whole state but for what is declared as not inherited."""
        daughters = mothers.copy()
        self._start(daughters, (v for v in self.variables if not v.inherited), first_identity)
        return daughters

    @staticmethod
    def _start(cells: Cells, variables: Iterable[Variable], first_identity: int) -> None:
        for variable in variables:
            cells[variable.name] = variable.start
        cells["identity"] = np.arange(first_identity, first_identity + len(cells))


ROOM = 2
"""Cells that an array has room for, per cell. Memory that was never written takes no room itself."""

AT_ONCE = 1 << 14
"""Cells that are moved at once."""

OUR_OWN = 3
"""References to an array that only one view looks at: the view's, and two while they are counted."""


def close_up(cells: Cells, kept: NDArray[np.bool_]) -> int:
    """Move the kept cells to the front of their own array, in their order; returns how many they are."""
    whole, filled = cells.view(np.dtype((np.void, cells.dtype.itemsize))), 0
    for start in range(0, len(cells), AT_ONCE):
        chosen = whole[start : start + AT_ONCE][kept[start : start + AT_ONCE]]
        whole[filled : filled + len(chosen)] = chosen
        filled += len(chosen)
    return filled


def lengthened(cells: Cells, count: int) -> Cells:
    """The cells and room behind them, or fewer of them, ``count`` in all: in their own memory if it is large enough
    and no other view looks at it, so that there are no two copies of a large colony.
    """
    if count <= len(cells):
        return cells[:count]
    memory = cells.base
    if isinstance(memory, np.ndarray) and memory.dtype == cells.dtype:
        begins_there = memory.ctypes.data == cells.ctypes.data
        if begins_there and len(memory) >= count and sys.getrefcount(memory) <= OUR_OWN:
            return memory[:count]
    del memory
    larger = np.zeros(ROOM * count, cells.dtype)
    larger[: len(cells)] = cells
    return larger[:count]


@compiled
def living(cell: Any) -> Any:
    """Neither apoptotic nor necrotic."""
    return not (cell.apop or cell.necro)


@compiled
def class_of(cell: Any) -> Any:
    """Place of the cell in ``colony.CLASSES``."""
    if cell.apop:
        return 3 * cell.kind + 1
    if cell.necro:
        return 3 * cell.kind + 2
    return 3 * cell.kind
