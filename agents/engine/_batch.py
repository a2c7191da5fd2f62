"""Many colonies that live their hours together on one machine, written once for every array library.

Cells of all colonies lie in one array, in the order (colony, identity); voxels too. An hour has the same parts in the
same order as that of a colony alone. The ground (matrix, oxygen, drugs) stays on the host: it is fed by the census that
is read back, one thread a colony. Where nobody looks, the cells themselves stay on the machine from the first hour to
the last.

An hour takes all the memory it needs before it changes a cell, so that one that does not fit can be lived anew by
fewer colonies; births and removals, which come last, can be finished on the host.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...core.errors import ConfigurationRejected
from ..cell import State
from ..living import (
    Census,
    LivingColony,
    aged,
    census_of,
    give_identities,
    lost_cell,
    relaxed,
    renew,
    shape_for,
    widen,
)
from ..observe import counts_of
from ..voxels import Shape
from ._bodies import BORN, CLEARED, PRESENT, TALLY
from ._machine import Array, Machine, block_table, offsets_of
from ._relaxation import FIRST_WIDTH, LostCells, Relaxation, Shares

ForEach = Callable[[Callable[..., Any], Iterable[Any], Iterable[Any]], Iterable[Any]]
"""``map``, perhaps over threads."""

WORD = 8
"""Bytes of a word of 64 bits; a cell's record is a whole number of them."""
SHARED_BYTES = 512
"""Room for what the cells of a colony share in an hour."""


class Batch:
    """Colonies of one type on a machine; an ``Hour`` of all of them.

    skin      µm, of the neighbour lists
    for_each  how the colonies' grounds are prepared: ``map``, or that of a pool of threads

    Raises MachineFull when they do not fit; then the cells are still at hand.
    """

    def __init__(self, machine: Machine, colonies: Sequence[LivingColony], *, skin: float, for_each: ForEach = map):
        self.colonies = list(colonies)
        self._machine, self._skin, self._for_each = machine, skin, for_each
        self._kind = colonies[0].cell_type
        self._do = machine.kernels(self._kind)
        self._words = self._kind.state.record.itemsize // WORD
        self._inherited, self._newborn = (machine.put(words) for words in inheritance(self._kind.state))
        self._numbers = machine.put(np.concatenate([one.numbers for one in colonies]))
        self._radii = machine.put(_padded([one.radii for one in colonies]))
        self._shares = Shares(machine, len(colonies))
        self._room_for_shared = machine.empty(SHARED_BYTES * len(colonies), np.uint8)
        self._widths = np.full(len(colonies), FIRST_WIDTH, np.int64)
        self._relaxation: Relaxation | None = None
        self._censuses: list[Census] = []
        self._acted = False
        here = self._shares.here
        here.key_0, here.key_1 = np.array([one.key for one in colonies], np.uint64).T
        self._number([len(one.cells) for one in colonies])
        self._cells = self._room(int(here.cells.sum()))
        self._take()

    def _number(self, cells: Sequence[int]) -> None:
        """So many cells has each colony now."""
        self._shares.here.cells = cells
        self._shares.here.first = offsets_of(cells)[:-1]

    def _room(self, cells: int) -> Array:
        return self._machine.empty((cells, self._words), np.uint64)

    def _records(self, words: Array) -> Array:
        return self._machine.records(words, self._kind.state.record)

    def _own(self, place: int) -> slice:
        here = self._shares.here
        return slice(int(here.first[place]), int(here.first[place] + here.cells[place]))

    def _take(self) -> None:
        """Cells from the host to the machine; the host keeps none."""
        for place, colony in enumerate(self.colonies):
            if len(colony.cells):
                self._machine.copy(_as_words(colony.cells), self._cells[self._own(place)])
        self._forget()

    def _forget(self) -> None:
        for colony in self.colonies:
            colony.cells = colony.cells[:0].copy()

    def fetch(self, places: Iterable[int] | None = None) -> None:
        """The cells of these colonies (all) to the host, for somebody who looks at them."""
        for place in range(len(self.colonies)) if places is None else places:
            colony, own = self.colonies[place], self._own(place)
            colony.cells = self._kind.state.new(own.stop - own.start, 1, 0)
            if len(colony.cells):
                _as_words(colony.cells)[...] = self._machine.get(self._cells[own])

    def retreat(self) -> bool:
        """All cells to the host after MachineFull; returns whether the hour is over (else it must be lived anew)."""
        self._relaxation = None
        self.fetch()
        if not self._acted:
            return False
        for colony, census in zip(self.colonies, self._censuses, strict=True):
            renew(colony)
            aged(colony, census, counts_of(colony.cells))
        return True

    def relax(self) -> None:
        """All colonies together, until each has settled. Raises CellFault for a place that is no number."""
        self._acted = False
        self._lay_grid([_shape(colony) for colony in self.colonies])
        matrix = self._machine.put(np.concatenate([colony.matrix.ravel() for colony in self.colonies]))
        here = self._shares.here
        here.wall, here.elsewhere = ([getattr(one, name) for one in self.colonies] for name in ("wall", "elsewhere"))
        here.time = [one.time for one in self.colonies]
        self._relaxation = Relaxation(self._machine, self._do, self._shares, self._records(self._cells), self._numbers,
                                      self._radii, matrix, self._widths, self._skin)  # fmt: skip
        try:
            self._steps = self._relaxation.run()
        except LostCells as lost:
            self.fetch([lost.colony])
            raise lost_cell(self.colonies[lost.colony]) from None

    def relax_only(self) -> list[int]:
        """Relax, and write the new places to the cells; returns the steps of each colony."""
        self.relax()
        assert self._relaxation is not None
        self._relaxation.outermost()
        self._relaxation.put_back()
        self._relaxation = None
        return [int(steps) for steps in self._steps]

    def _lay_grid(self, shapes: Sequence[Shape]) -> None:
        """Voxels of all colonies, one after another."""
        here = self._shares.here
        here.nx, here.ny, here.nz = np.array(shapes).T
        self._voxels = offsets_of(here.nx * here.ny * here.nz)
        here.voxels = self._voxels[:-1]

    def count(self) -> None:
        """Grids wide enough for all cells, and the census of each colony. From here on cells are changed."""
        assert self._relaxation is not None
        machine = self._machine
        shapes = [
            shape_for(colony, far) if np.isfinite(far).all() else _shape(colony)
            for colony, far in zip(self.colonies, self._relaxation.outermost(), strict=True)
        ]
        self._lay_grid(shapes)
        voxels = int(self._voxels[-1])
        counts, uncrowded = machine.empty((6, voxels), np.int32), machine.empty(voxels, np.int32)
        signalling, oxygen = machine.empty(len(self.colonies), np.int32), machine.empty(voxels, np.float64)
        table = self._table()
        for colony, shape, steps, cells in zip(
            self.colonies, shapes, self._steps, self._shares.here.cells, strict=True
        ):
            widen(colony, shape)
            relaxed(colony, int(steps), int(cells))
        self._relaxation.put_back()
        self._relaxation = None
        for array in (counts, uncrowded, signalling):
            machine.fill(array, 0)
        self._shares.push()
        if len(table):
            self._do.count(table, self._shares.there, self._records(self._cells), counts, uncrowded, signalling)
        self._counts, self._oxygen, self._all = counts, oxygen, table
        self._take_census(machine.get(counts), machine.get(uncrowded), machine.get(signalling))

    def _table(self) -> Array:
        cells = self._shares.here.cells
        return self._machine.put(block_table(np.flatnonzero(cells), cells, self._machine.threads))

    def _take_census(self, counts: Any, uncrowded: Any, signalling: Any) -> None:
        self._censuses = [
            census_of(_shape(one), np.ascontiguousarray(counts[:, begin:end]), uncrowded[begin:end].copy(), int(calls))
            for one, begin, end, calls in zip(self.colonies, self._voxels[:-1], self._voxels[1:], signalling)
        ]

    def prepare(self) -> None:
        """The ground of each colony, on the host."""
        looks = self._kind.looks_at_cells
        if looks:
            self.fetch()
        grounds = list(self._for_each(self._kind.prepare, self.colonies, self._censuses))
        if looks:
            self._take()
        self._shared = self._taken_over(np.concatenate([shared for shared, _ in grounds]))
        self._machine.copy(np.concatenate([oxygen.ravel() for _, oxygen in grounds]), self._oxygen)

    def _taken_over(self, shared: NDArray[Any]) -> Array:
        """What the cells of each colony share, in the room that was made for it."""
        if shared.itemsize > SHARED_BYTES:
            raise ConfigurationRejected(f"cells of type {self._kind.name!r} share {shared.itemsize} bytes in an hour",
                                        f"at most {SHARED_BYTES}", "choose the engine cpu")  # fmt: skip
        room = self._room_for_shared[: shared.nbytes]
        self._machine.copy(shared.view(np.uint8), room)
        return self._machine.records(room, shared.dtype)

    def act(self) -> None:
        """Every cell lives by its rules."""
        if len(self._all):
            self._do.act(self._all, self._shares.there, self._numbers, self._shared, self._records(self._cells),
                         self._counts, self._oxygen)  # fmt: skip
        self._acted = True
        del self._counts, self._oxygen, self._shared

    def renew(self) -> None:
        """Removals and births into a second array, whose length is known before it is made; then the hour is over."""
        machine, here, cells = self._machine, self._shares.here, self._records(self._cells)
        count = int(here.cells.sum())
        fates, tally = machine.empty(count, np.uint64), machine.empty((len(here), TALLY), np.int32)
        machine.fill(tally, 0)
        if len(self._all):
            self._do.fate(self._all, self._shares.there, cells, fates, tally)
        before = machine.before(fates)
        del fates
        self._do.total(machine.put(np.arange(len(here))), self._shares.there, before)
        self._shares.pull()
        left = here.kept + here.born
        after = self._room(int(left.sum()))
        for place, colony in enumerate(self.colonies):
            here.next_identity[place] = colony.next_identity
            give_identities(colony, int(here.born[place]))
        here.renewed = offsets_of(left)[:-1]
        self._shares.push()
        if len(self._all):
            self._do.renew(self._all, self._shares.there, self._numbers, before, cells, self._cells,
                           self._records(after), after, self._inherited, self._newborn, tally)  # fmt: skip
        self._cells = after
        self._number(left)
        self._close(machine.get(tally).astype(np.int64))

    def _close(self, tally: NDArray[np.int64]) -> None:
        for colony, census, row in zip(self.colonies, self._censuses, tally, strict=True):
            colony.births += row[BORN:CLEARED]
            colony.cleared += row[CLEARED:PRESENT]
            aged(colony, census, row[PRESENT:])


def _shape(colony: LivingColony) -> Shape:
    x, y, z = colony.matrix.shape
    return x, y, z


def _as_words(cells: NDArray[Any]) -> NDArray[np.uint64]:
    """(cells, words) of records in one piece."""
    return np.ascontiguousarray(cells).view(np.uint64).reshape(len(cells), -1)


def _padded(tables: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Tables of different lengths as rows of one."""
    rows = np.full((len(tables), max(len(table) for table in tables)), np.nan)
    for row, table in zip(rows, tables, strict=True):
        row[: len(table)] = table
    return rows


def inheritance(state: State) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """(words,) which bits of a record a daughter has from her mother, and the record of a newborn for all others."""
    mask = np.zeros(1, state.record)
    mask.view(np.uint8)[...] = 255
    for variable in state.variables:
        if not variable.inherited:
            _, offset = state.record.fields[variable.name][:2]  # type: ignore[index]
            mask.view(np.uint8)[offset : offset + np.dtype(variable.kind).itemsize] = 0
    return _as_words(mask)[0].copy(), _as_words(state.new(1, 1, 0))[0].copy()
