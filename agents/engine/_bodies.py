"""What one thread does for one cell, or for one colony: the bodies of kernels, written once for every array library.

Cells of all colonies lie one after another, each colony in the order of identity. Every body is told the colony ``k``
and the cell's place ``i`` in it, gathers what it needs and writes only what is its own; what many threads write to one
place are integer sums and maxima, which are the same in any order. The laws are those of the other engines: rules,
contacts, walls, voxels and the criterion of the lists are called, not repeated.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..cell import DIVIDES, REMOVED, STAYS, class_of
from ..cell_type import CellType
from ..mechanics import moved, settled, strength_of
from ..neighbours import ROUNDING, bin_along, bins_over, needs_rebuild, next_skin, slots_beside, within
from ..rule import compiled
from ..voxels import is_uncrowded, look_around, voxel_of

Body = Callable[..., None]

LIST_FULL, NOT_FINITE = 1, 2
"""Flags of a colony, one bit each: a list was too narrow; a place is no number."""

GOES_ON, LISTS_ANEW, HAS_SETTLED, IS_LOST = 0, 1, 2, 3
"""Verdicts on a colony after a step of mechanics."""

COLONY = np.dtype(
    [(name, np.int64) for name in (
        "first", "cells", "voxels", "nx", "ny", "nz", "lists", "width", "padded", "sorted", "bins", "bins_x", "bins_y",
        "bins_z", "lasted", "lasted_before", "iteration", "verdict", "next_identity", "kept", "born", "renewed")]
    + [(name, np.float64) for name in ("wall", "elsewhere", "skin", "slack", "edge", "low_x", "low_y", "low_z")]
    + [(name, np.uint64) for name in ("key_0", "key_1", "time")],
    align=True,
)  # fmt: skip
"""What the threads of one colony share.

first, cells     its first cell among all, and how many it has
voxels, nx…      its first voxel among all; voxels on each axis
lists, width, padded   its first list entry; entries a cell has room for; cells from an entry of a cell to its next one
sorted, bins     its first key among those sorted; its first bin among all
bins_x…, edge, low_x…  its bins, their edge (µm) and least corner
skin, slack      µm, of its lists
lasted, lasted_before  steps that its lists have lasted, and those before them
iteration, verdict     steps of this hour, and what follows the last
kept, born, renewed    cells that stay, cells that are born, its first cell among all that are left
key_0, key_1, time     of its draws
"""

BOUNDS = 7
"""Of a colony: largest x, y, z, -x, -y, -z and radius."""

MARKS = 3
"""Of a step: most neighbours, largest overlap, square of the farthest move since the lists were made."""

TALLY = 14
"""Of a renewal: births of each kind (2), cleared of each class (6), cells that are there now of each class (6)."""

BORN, CLEARED, PRESENT = 0, 2, 8
"""Their first places in a tally."""

LOW, HALF = np.uint64(0xFFFFFFFF), np.uint64(32)
"""The lower half of a word of 64 bits, and its length."""


@dataclass(frozen=True)
class Bodies:
    """The bodies for cells of one type; ``measure``, ``judge`` and ``total`` are done once for a colony.

    place     place and radius into rows, in the order of identity
    measure   bins of a colony
    key       bin and identity of a row, as one word to sort by
    slot      a row into its slot
    lists     the neighbours of a slot, in the order of their identity
    step      one Jacobi step of a slot
    judge     whether a colony has settled, or needs new lists
    home      a slot's row back into the order of identity
    put_back  a slot's place, neighbours and overlap to its cell
    count     a cell into its voxel
    act       the hour of a cell
    fate      whether a cell stays, and whether it divides
    total     how many cells of a colony stay and are born
    renew     a cell that stays, and the daughter of one that divides, into the cells of the next hour
    """

    place: Body
    measure: Body
    key: Body
    slot: Body
    lists: Body
    step: Body
    judge: Body
    home: Body
    put_back: Body
    count: Body
    act: Body
    fate: Body
    total: Body
    renew: Body


COLONY_BODIES = ("measure", "judge", "total")


def bodies_of(
    cell_type: CellType, add_to: Callable[..., Any], raise_to: Callable[..., Any], set_flag: Callable[..., Any]
) -> Bodies:
    """The bodies for cells of a type, over three operations that many threads may do to one place.

    add_to(array, place, amount)   add an integer
    raise_to(array, place, value)  keep the larger number
    set_flag(flags, k, flag)       set a bit of a colony's word
    """
    live, push_on, signals = cell_type.live, cell_type.push_on, cell_type.signals

    @compiled
    def place(
        k: int, i: int, colonies: Any, cells: Any, radii: Any, rows: Any, bounds: Any, flags: Any
    ) -> None:  # fmt: skip
        row = colonies[k].first + i
        cell = cells[row]
        rows[row, 0], rows[row, 1], rows[row, 2] = cell.x, cell.y, cell.z
        rows[row, 3] = radii[k, cell.cycle]
        bound(k, row, rows, bounds, flags)

    @compiled
    def bound(k: int, row: int, rows: Any, bounds: Any, flags: Any) -> None:
        for axis in range(3):
            x = rows[row, axis]
            if not math.isfinite(x):
                set_flag(flags, k, NOT_FINITE)
            raise_to(bounds, (k, axis), x)
            raise_to(bounds, (k, axis + 3), -x)
        if not math.isfinite(rows[row, 3]):
            set_flag(flags, k, NOT_FINITE)
        raise_to(bounds, (k, 6), rows[row, 3])

    @compiled
    def measure(k: int, colonies: Any, numbers: Any, bounds: Any, flags: Any) -> None:
        colony, p = colonies[k], numbers[k]
        if flags[k] != 0:
            return
        largest = bounds[k, 6]
        edge = within(largest, largest, p.R_neighbours, p.R_search, colony.skin)
        low_x, low_y, low_z = -bounds[k, 3], -bounds[k, 4], -bounds[k, 5]
        edge, bins_x, bins_y, bins_z = bins_over(
            bounds[k, 0] - low_x, bounds[k, 1] - low_y, bounds[k, 2] - low_z, colony.cells, edge
        )
        colony.edge, colony.low_x, colony.low_y, colony.low_z = edge, low_x, low_y, low_z
        colony.bins_x, colony.bins_y, colony.bins_z = bins_x, bins_y, bins_z
        farthest = bounds[k, 0]
        for side in range(6):
            farthest = max(farthest, bounds[k, side])
        colony.slack = ROUNDING * farthest
        for side in range(BOUNDS):
            bounds[k, side] = -math.inf

    @compiled
    def bin_of(colony: Any, row: int, rows: Any) -> tuple[int, int, int]:
        return (
            bin_along(rows[row, 0], colony.low_x, colony.edge, colony.bins_x),
            bin_along(rows[row, 1], colony.low_y, colony.edge, colony.bins_y),
            bin_along(rows[row, 2], colony.low_z, colony.edge, colony.bins_z),
        )

    @compiled
    def key(k: int, i: int, colonies: Any, rows: Any, keys: Any) -> None:
        colony = colonies[k]
        a, b, c = bin_of(colony, colony.first + i, rows)
        number = colony.bins + a + colony.bins_x * (b + colony.bins_y * c)
        keys[colony.sorted + i] = (np.uint64(number) << HALF) | np.uint64(i)

    @compiled
    def slot(
        k: int, i: int, colonies: Any, keys: Any, rows: Any, cells: Any, slots: Any, order: Any, slot_of: Any,
        places: Any, mobile: Any, starts: Any,
    ) -> None:  # fmt: skip
        colony = colonies[k]
        here, word = colony.first + i, keys[colony.sorted + i]
        place = np.int64(word & LOW)
        order[here], slot_of[colony.first + place] = place, here
        for column in range(4):
            slots[here, column] = rows[colony.first + place, column]
        for axis in range(3):
            places[here, axis] = slots[here, axis]
        mobile[here] = cells[colony.first + place].mobile
        number, before = np.int64(word >> HALF), colony.bins - 1
        if i > 0:
            before = np.int64(keys[colony.sorted + i - 1] >> HALF)
        for one in range(before + 1, number + 1):
            starts[one] = i
        if i == colony.cells - 1:
            for one in range(number + 1, colony.bins + colony.bins_x * colony.bins_y * colony.bins_z + 1):
                starts[one] = colony.cells

    @compiled
    def lists(
        k: int, i: int, colonies: Any, numbers: Any, slots: Any, order: Any, slot_of: Any, starts: Any, others: Any,
        found: Any, needed: Any, flags: Any,
    ) -> None:  # fmt: skip
        colony, p = colonies[k], numbers[k]
        first, width, padded, base, skin = colony.first, colony.width, colony.padded, colony.lists + i, colony.skin
        here = first + i
        x, y, z, radius = slots[here, 0], slots[here, 1], slots[here, 2], slots[here, 3]
        a, b, c = bin_of(colony, here, slots)
        count = 0
        for side in range(9):
            left, right = slots_beside(side, a, b, c, starts, colony.bins, colony.bins_x, colony.bins_y, colony.bins_z)
            for other in range(first + left, first + right):
                dx, dy, dz = x - slots[other, 0], y - slots[other, 1], z - slots[other, 2]
                reach = within(radius, slots[other, 3], p.R_neighbours, p.R_search, skin)
                if dx * dx + dy * dy + dz * dz < reach * reach and other != here:
                    if count < width:
                        insert(others, base, padded, count, order[other])
                    count += 1
        if count > width:
            set_flag(flags, k, LIST_FULL)
            raise_to(needed, k, count)
            count = 0
        for entry in range(count):
            others[base + entry * padded] = slot_of[first + np.int64(others[base + entry * padded])]
        found[here] = count

    @compiled
    def insert(others: Any, base: int, padded: int, count: int, place: Any) -> None:
        entry = count
        while entry > 0 and others[base + (entry - 1) * padded] > place:
            others[base + entry * padded] = others[base + (entry - 1) * padded]
            entry -= 1
        others[base + entry * padded] = place

    @compiled
    def step(
        k: int, i: int, colonies: Any, numbers: Any, here: Any, there: Any, others: Any, found: Any, mobile: Any,
        places: Any, matrix: Any, neighbours: Any, overlaps: Any, marks: Any,
    ) -> None:  # fmt: skip
        colony, p = colonies[k], numbers[k]
        slot, base, padded = colony.first + i, colony.lists + i, colony.padded
        count = np.int64(found[slot])
        mine = others[base : base + count * padded : padded]
        x, y, z, overlap, near = push_on(slot, here, mine, 0, count, p)
        strength = strength_of(near, mobile[slot], p)
        shape = (colony.nx, colony.ny, colony.nz)
        own = matrix[colony.voxels : colony.voxels + shape[0] * shape[1] * shape[2]]
        x, y, z = moved(slot, here, (x, y, z), strength, own, shape, colony.elsewhere, colony.wall, p.displace)
        there[slot, 0], there[slot, 1], there[slot, 2], there[slot, 3] = x, y, z, here[slot, 3]
        neighbours[slot], overlaps[slot] = near, overlap
        dx, dy, dz = x - places[slot, 0], y - places[slot, 1], z - places[slot, 2]
        squared = dx * dx + dy * dy + dz * dz
        raise_to(marks, (k, 0), float(near))
        raise_to(marks, (k, 1), overlap)
        raise_to(marks, (k, 2), squared if math.isfinite(squared) else math.inf)

    @compiled
    def judge(k: int, colonies: Any, numbers: Any, marks: Any) -> None:
        colony = colonies[k]
        farthest = marks[k, 2]
        if not math.isfinite(farthest):
            colony.verdict = IS_LOST
        elif settled(colony.iteration, colony.cells, marks[k, 0], marks[k, 1], numbers[k]):
            colony.verdict = HAS_SETTLED
        else:
            colony.iteration += 1
            colony.lasted += 1
            colony.verdict = GOES_ON
            if needs_rebuild(farthest, colony.slack, colony.skin):
                colony.verdict = LISTS_ANEW
                colony.skin = next_skin(colony.skin, colony.lasted, colony.lasted_before)
                colony.lasted_before = colony.lasted
                colony.lasted = 0
        for mark in range(MARKS):
            marks[k, mark] = 0.0

    @compiled
    def home(k: int, i: int, colonies: Any, order: Any, slots: Any, rows: Any, bounds: Any, flags: Any) -> None:
        first = colonies[k].first
        row = first + np.int64(order[first + i])
        for column in range(4):
            rows[row, column] = slots[first + i, column]
        bound(k, row, rows, bounds, flags)

    @compiled
    def put_back(
        k: int, i: int, colonies: Any, cells: Any, order: Any, slots: Any, neighbours: Any, overlaps: Any
    ) -> None:  # fmt: skip
        slot = colonies[k].first + i
        cell = cells[colonies[k].first + np.int64(order[slot])]
        cell.x, cell.y, cell.z = slots[slot, 0], slots[slot, 1], slots[slot, 2]
        cell.neighbours, cell.overlap = neighbours[slot], overlaps[slot]

    @compiled
    def count(k: int, i: int, colonies: Any, cells: Any, counts: Any, uncrowded: Any, signalling: Any) -> None:
        colony = colonies[k]
        cell = cells[colony.first + i]
        voxel = colony.voxels + voxel_of(cell.x, cell.y, cell.z, (colony.nx, colony.ny, colony.nz))
        add_to(counts, (class_of(cell), voxel), 1)
        if is_uncrowded(cell):
            add_to(uncrowded, voxel, 1)
        if signals(cell):
            add_to(signalling, k, 1)

    @compiled
    def act(
        k: int, i: int, colonies: Any, numbers: Any, shared: Any, cells: Any, counts: Any, oxygen: Any
    ) -> None:  # fmt: skip
        colony = colonies[k]
        cell, shape = cells[colony.first + i], (colony.nx, colony.ny, colony.nz)
        begin, end = colony.voxels, colony.voxels + shape[0] * shape[1] * shape[2]
        luck = (colony.key_0, colony.key_1, np.uint64(cell.identity), colony.time)
        live(cell, luck, look_around(cell, counts[:, begin:end], oxygen[begin:end], shape), shared[k], numbers[k])

    @compiled
    def fate(k: int, i: int, colonies: Any, cells: Any, fates: Any, tally: Any) -> None:
        row = colonies[k].first + i
        cell = cells[row]
        word = np.uint64(0)
        if cell.fate == REMOVED:
            add_to(tally, (k, CLEARED + class_of(cell)), 1)
        else:
            word |= np.uint64(1) << HALF
        if cell.fate == DIVIDES:
            add_to(tally, (k, BORN + cell.kind), 1)
            word |= np.uint64(1)
        fates[row] = word

    @compiled
    def total(k: int, colonies: Any, before: Any) -> None:
        colony = colonies[k]
        word = before[colony.first + colony.cells] - before[colony.first]
        colony.kept, colony.born = np.int64(word >> HALF), np.int64(word & LOW)

    @compiled
    def renew(
        k: int, i: int, colonies: Any, numbers: Any, before: Any, cells: Any, words: Any, after: Any,
        words_after: Any, inherited: Any, newborn: Any, tally: Any,
    ) -> None:  # fmt: skip
        colony = colonies[k]
        row = colony.first + i
        cell, word = cells[row], before[row] - before[colony.first]
        if cell.fate != REMOVED:
            there = colony.renewed + np.int64(word >> HALF)
            for part in range(len(newborn)):
                words_after[there, part] = words[row, part]
            after[there].fate = STAYS
            add_to(tally, (k, PRESENT + class_of(after[there])), 1)
        if cell.fate == DIVIDES:
            rank = np.int64(word & LOW)
            there = colony.renewed + colony.kept + rank
            for part in range(len(newborn)):
                words_after[there, part] = (words[row, part] & inherited[part]) | (newborn[part] & ~inherited[part])
            daughter, distance = after[there], numbers[k].daughter_distance
            daughter.identity = colony.next_identity + rank
            daughter.x = cell.x + distance * cell.axis_x
            daughter.y = cell.y + distance * cell.axis_y
            daughter.z = cell.z + distance * cell.axis_z
            add_to(tally, (k, PRESENT + class_of(daughter)), 1)

    return Bodies(place, measure, key, slot, lists, step, judge, home, put_back, count, act, fate, total, renew)
