"""Relaxation of many colonies together: neighbour lists and steps on a machine, until each colony has settled.

A colony that has settled gets no thread any more, and only those whose lists have worn out get new ones. Nothing of
this is part of a result: lists, skins and slots are those of this hour alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..neighbours import WHOLE_HOUR
from ._bodies import BOUNDS, COLONY, HAS_SETTLED, IS_LOST, LIST_FULL, LISTS_ANEW, MARKS, NOT_FINITE
from ._machine import Array, Kernels, Machine, block_table, offsets_of

Chosen = NDArray[np.int64]
"""Places of some colonies among all."""

FIRST_WIDTH = 24
"""Entries that a cell's list has room for at first; what does not fit makes it wider by half, or by what is needed."""

LINE = 32
"""Cells whose entries lie side by side: the lists of a colony begin at a multiple of it."""


class LostCells(Exception):
    """Places or forces of a colony are no numbers. Never shown: it becomes the fault of that colony.

    colony  its place among all
    """

    def __init__(self, colony: int) -> None:
        super().__init__(colony)
        self.colony = colony


class Shares:
    """What the threads of each colony share (``COLONY``), on the host and on the machine."""

    def __init__(self, machine: Machine, colonies: int) -> None:
        self._machine = machine
        plain = np.zeros(colonies, COLONY)
        self._plain, self.here, self.there = plain, _as_attributes(plain), machine.put(plain)

    def push(self) -> None:
        """To the machine."""
        self._machine.copy(self._plain, self.there)

    def pull(self) -> None:
        """To the host."""
        self._plain[...] = self._machine.get(self.there)


def _as_attributes(records: NDArray[Any]) -> Any:
    """The same records, whose fields are attributes."""
    return records.view(np.recarray)


class Relaxation:
    """One hour's relaxation of colonies whose cells lie on a machine.

    cells    their records; places, neighbours and overlaps are written by ``put_back`` only
    numbers, radii, matrix   by colony
    widths   of the colonies' lists: kept from hour to hour, and made larger here
    """

    def __init__(
        self, machine: Machine, kernels: Kernels, shares: Shares, cells: Array, numbers: Array, radii: Array,
        matrix: Array, widths: NDArray[np.int64], skin: float,
    ) -> None:  # fmt: skip
        self._machine, self._do, self._shares = machine, kernels, shares
        self._cells, self._numbers, self._radii, self._matrix, self._widths = cells, numbers, radii, matrix, widths
        here = shares.here
        self._chosen: Chosen = np.flatnonzero(here.cells)
        here.skin, here.lasted, here.lasted_before, here.iteration = skin, 0, WHOLE_HOUR, 0
        here.padded = -(-here.cells // LINE) * LINE
        self._lay_out()
        self._allocate(int(here.cells.sum()), len(here))
        shares.push()
        self._ended: tuple[list[int], list[int]] = ([], [])
        self._ends: list[tuple[int, Array]] = []

    def _allocate(self, cells: int, colonies: int) -> None:
        empty = self._machine.empty
        self._slots = (empty((cells, 4), np.float64), empty((cells, 4), np.float64))
        self._order, self._slot_of = empty(cells, np.uint32), empty(cells, np.uint32)
        self._places, self._mobile = empty((cells, 3), np.float32), empty(cells, np.bool_)
        self._neighbours, self._overlaps = empty(cells, np.int32), empty(cells, np.float64)
        self._found = empty(cells, np.int32)
        self._bounds, self._marks = empty((colonies, BOUNDS), np.float64), empty((colonies, MARKS), np.float64)
        self._flags, self._needed = empty(colonies, np.int32), empty(colonies, np.int32)
        self._machine.fill(self._bounds, -np.inf)
        for array in (self._marks, self._flags, self._needed):
            self._machine.fill(array, 0)

    def _lay_out(self) -> None:
        """Room for lists of the colonies' widths."""
        here = self._shares.here
        here.width = self._widths
        offsets = offsets_of(here.width * here.padded)
        here.lists = offsets[:-1]
        self._others = self._machine.empty(int(offsets[-1]), np.uint32)

    def _table(self, chosen: Chosen) -> Array:
        return self._machine.put(block_table(chosen, self._shares.here.cells, self._machine.threads))

    def run(self) -> NDArray[np.int64]:
        """Steps until every colony has settled; returns how many each took. Raises LostCells and MachineFull."""
        chosen, here = self._chosen, 0
        if len(chosen) == 0:
            return np.zeros(len(self._shares.here), np.int64)
        table, moving = self._table(chosen), self._machine.put(chosen)
        self._do.place(table, self._shares.there, self._cells, self._radii, self._slots[1], self._bounds, self._flags)
        self._list_anew(chosen, 0)
        while len(chosen):
            self._step(table, here)
            here = 1 - here
            self._do.judge(moving, self._shares.there, self._numbers, self._marks)
            self._shares.pull()
            verdict = self._shares.here.verdict[chosen]
            if (verdict == IS_LOST).any():
                raise LostCells(int(chosen[verdict == IS_LOST][0]))
            if (verdict == HAS_SETTLED).any():
                self._ended[here].extend(chosen[verdict == HAS_SETTLED].tolist())
                chosen, verdict = chosen[verdict != HAS_SETTLED], verdict[verdict != HAS_SETTLED]
                table, moving = self._table(chosen), self._machine.put(chosen)
            if (verdict == LISTS_ANEW).any():
                worn = chosen[verdict == LISTS_ANEW]
                self._home(self._table(worn), here)
                self._list_anew(worn, here)
        taken: NDArray[np.int64] = np.where(self._shares.here.cells > 0, self._shares.here.iteration + 1, 0)
        return taken

    def _step(self, table: Array, here: int) -> None:
        self._do.step(table, self._shares.there, self._numbers, self._slots[here], self._slots[1 - here], self._others,
                      self._found, self._mobile, self._places, self._matrix, self._neighbours, self._overlaps,
                      self._marks)  # fmt: skip

    def _home(self, table: Array, here: int) -> None:
        """Rows of these colonies back into the order of identity, in the other array of slots."""
        self._do.home(table, self._shares.there, self._order, self._slots[here], self._slots[1 - here],
                      self._bounds, self._flags)  # fmt: skip

    def _list_anew(self, chosen: Chosen, here: int) -> None:
        """Slots and lists of these colonies, whose rows lie in the order of identity in the other array."""
        shares, machine = self._shares, self._machine
        self._do.measure(machine.put(chosen), shares.there, self._numbers, self._bounds, self._flags)
        shares.pull()
        self._refuse_lost_cells()
        colonies = shares.here
        sorted_, bins = offsets_of(colonies.cells[chosen]), offsets_of(_bins(colonies[chosen]) + 1)
        colonies.sorted[chosen], colonies.bins[chosen] = sorted_[:-1], bins[:-1]
        shares.push()
        table, starts = self._table(chosen), machine.empty(int(bins[-1]), np.int32)
        keys = machine.empty(int(sorted_[-1]), np.uint64)
        self._do.key(table, shares.there, self._slots[1 - here], keys)
        keys = machine.sort(keys)
        self._do.slot(table, shares.there, keys, self._slots[1 - here], self._cells, self._slots[here], self._order,
                      self._slot_of, self._places, self._mobile, starts)  # fmt: skip
        del keys
        while len(chosen):
            self._do.lists(self._table(chosen), shares.there, self._numbers, self._slots[here], self._order,
                           self._slot_of, starts, self._others, self._found, self._needed, self._flags)  # fmt: skip
            chosen = self._widen(chosen)

    def _refuse_lost_cells(self) -> None:
        flags = self._machine.get(self._flags)
        if (flags & NOT_FINITE).any():
            raise LostCells(int(np.flatnonzero(flags & NOT_FINITE)[0]))

    def _widen(self, chosen: Chosen) -> Chosen:
        """More room behind the lists for colonies in which a cell has more neighbours than its list has room for."""
        machine, colonies = self._machine, self._shares.here
        full: Chosen = chosen[(machine.get(self._flags)[chosen] & LIST_FULL) != 0]
        if len(full) == 0:
            return full
        needed = machine.get(self._needed)
        self._widths[full] = np.maximum(needed[full], self._widths[full] * 3 // 2)
        colonies.width[full] = self._widths[full]
        lists = offsets_of(colonies.width[full] * colonies.padded[full])
        old = len(self._others)
        longer = machine.empty(old + int(lists[-1]), np.uint32)
        machine.copy(self._others, longer[:old])
        self._others, colonies.lists[full] = longer, old + lists[:-1]
        self._shares.push()
        machine.fill(self._flags, 0)
        machine.fill(self._needed, 0)
        return full

    def outermost(self) -> NDArray[np.float64]:
        """(colonies, 3) µm from the middle of the outermost cell on each axis, after ``run``; -infinite without cells.

        The rows go back to the order of identity in the other array of slots, which is not needed any more.
        """
        self._ends = [(here, self._table(np.array(sorted(ended)))) for here, ended in enumerate(self._ended) if ended]
        self._machine.fill(self._bounds, -np.inf)
        for here, table in self._ends:
            self._home(table, here)
        bounds = self._machine.get(self._bounds)
        far: NDArray[np.float64] = np.maximum(bounds[:, :3], bounds[:, 3:6])
        return far

    def put_back(self) -> None:
        """Places, neighbours and overlaps to the cells, after ``outermost``; takes no memory."""
        for here, table in self._ends:
            self._do.put_back(table, self._shares.there, self._cells, self._order, self._slots[here],
                              self._neighbours, self._overlaps)  # fmt: skip


def _bins(colonies: Any) -> NDArray[np.int64]:
    bins: NDArray[np.int64] = colonies.bins_x * colonies.bins_y * colonies.bins_z
    return bins


def bytes_of_relaxation(cells: int, width: int) -> int:
    """Bytes of a colony's lists and rows at their most: when lists are made and every key is sorted.

    Two rows of 32, order, slot, found and neighbours of 4, three places of 4, an overlap of 8 and one flag; then the
    keys twice and what sorting takes (8 each), the starts of at most two bins a cell and the entries (4 each).
    """
    by_cell = 2 * 32 + 4 * 4 + 12 + 8 + 1 + 3 * 8 + 2 * 4 + 4 * width
    return (cells + LINE) * by_cell
