"""Who is near whom: cell lists to find them, neighbour lists with a skin to remember them.

Lists are full (each pair twice), and every list is sorted by the identity of the neighbours. Entries in the skin add
exactly nothing to a push, so results do not depend on skin, rebuilds or storage [the idea of Verlet 1967, doi
10.1103/PhysRev.159.98].
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .mechanics import Rows
from .rule import compiled

Lists = tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int32]]
"""order: (cells,) place in identity order of the cell in each slot; first: (cells + 1,) start of each slot's list;
others: slots of the neighbours."""

MOST_BINS_PER_CELL = 8


@compiled
def bins_of(rows: Rows, edge: float) -> tuple[float, Any, Any, Any]:
    """Bin edge (at least ``edge``), least corner and number of bins on each axis; few bins for cells far apart."""
    low = np.empty(3)
    size = np.empty(3)
    for axis in range(3):
        low[axis] = rows[:, axis].min()
        size[axis] = rows[:, axis].max() - low[axis]
    bins = np.empty(3, np.int64)
    while True:
        for axis in range(3):
            bins[axis] = int(min(size[axis] / edge, 1e6)) + 1
        if bins[0] * bins[1] * bins[2] <= MOST_BINS_PER_CELL * len(rows) + 27:
            return edge, low, size, bins
        edge *= 1.5


@compiled
def neighbour_lists(rows: Rows, contact: float, search: float, skin: float) -> Lists:
    """Neighbour lists of all cells; rows are in the order of identity.

    Slots run over the cells in the order of their bins, so that neighbours lie near each other in memory. Two cells
    are listed when they are closer than the larger of ``contact`` and the sum of their radii (at most ``search``),
    plus ``skin``.
    """
    n = len(rows)
    reach = max(contact, min(2.0 * rows[:, 3].max(), search)) + skin
    edge, low, _, bins = bins_of(rows, reach)
    start, order = sort_into_bins(rows, edge, low, bins)
    slots = rows[order]
    first = np.empty(n + 1, np.int64)
    others = np.empty(16 * n + 64, np.int32)
    ranges = np.empty((9, 2), np.int64)
    filled = 0
    for bin_number in range(len(start) - 1):
        if start[bin_number] == start[bin_number + 1]:
            continue
        candidates = slots_around(bin_number, start, bins, ranges)
        for slot in range(start[bin_number], start[bin_number + 1]):
            first[slot] = filled
            others = with_room(others, filled, candidates)
            filled = list_neighbours(slot, slots, ranges, reach, contact, search, skin, others, filled)
            sort_by_identity(others, first[slot], filled, order)
    first[n] = filled
    return order, first, others


@compiled
def sort_into_bins(rows: Rows, edge: float, low: Any, bins: Any) -> tuple[Any, Any]:
    """First slot of each bin (x fastest), and the cells in the order of bins, then identity."""
    n = len(rows)
    bin_of = np.empty(n, np.int64)
    start = np.zeros(bins[0] * bins[1] * bins[2] + 1, np.int64)
    for i in range(n):
        a = min(int((rows[i, 0] - low[0]) / edge), bins[0] - 1)
        b = min(int((rows[i, 1] - low[1]) / edge), bins[1] - 1)
        c = min(int((rows[i, 2] - low[2]) / edge), bins[2] - 1)
        bin_of[i] = a + bins[0] * (b + bins[1] * c)
        start[bin_of[i] + 1] += 1
    for k in range(len(start) - 1):
        start[k + 1] += start[k]
    order = np.empty(n, np.int32)
    filled = start[:-1].copy()
    for i in range(n):
        order[filled[bin_of[i]]] = i
        filled[bin_of[i]] += 1
    return start, order


@compiled
def slots_around(bin_number: int, start: Any, bins: Any, ranges: NDArray[np.int64]) -> int:
    """Fill ``ranges`` with first and last slot of each of the nine rows of three bins along x around a bin.

    returns  cells in them
    """
    a = bin_number % bins[0]
    b = (bin_number // bins[0]) % bins[1]
    c = bin_number // (bins[0] * bins[1])
    total = 0
    for side in range(9):
        y, z = b + side % 3 - 1, c + side // 3 - 1
        ranges[side, 0] = ranges[side, 1] = 0
        if 0 <= y < bins[1] and 0 <= z < bins[2]:
            row = bins[0] * (y + bins[1] * z)
            ranges[side, 0] = start[row + max(a - 1, 0)]
            ranges[side, 1] = start[row + min(a + 1, bins[0] - 1) + 1]
        total += ranges[side, 1] - ranges[side, 0]
    return total


@compiled
def with_room(others: NDArray[np.int32], filled: int, wanted: int) -> NDArray[np.int32]:
    """The array, larger by half if ``wanted`` more entries do not fit."""
    if filled + wanted <= len(others):
        return others
    larger = np.empty(max(len(others) + len(others) // 2, filled + wanted), np.int32)
    larger[:filled] = others[:filled]
    return larger


@compiled
def list_neighbours(
    slot: int, slots: Rows, ranges: NDArray[np.int64], reach: float, contact: float, search: float, skin: float,
    others: NDArray[np.int32], filled: int,
) -> int:  # fmt: skip
    """Append the neighbours of one slot; the caller made room."""
    x, y, z, radius = slots[slot, 0], slots[slot, 1], slots[slot, 2], slots[slot, 3]
    for side in range(9):
        for other in range(ranges[side, 0], ranges[side, 1]):
            dx, dy, dz = x - slots[other, 0], y - slots[other, 1], z - slots[other, 2]
            squared = dx * dx + dy * dy + dz * dz
            if squared < reach * reach and other != slot:
                near = max(contact, min(radius + slots[other, 3], search)) + skin
                if squared < near * near:
                    others[filled] = other
                    filled += 1
    return filled


@compiled
def sort_by_identity(others: NDArray[np.int32], first: int, last: int, order: Any) -> None:
    """Insertion sort of one list by the identity order of its cells."""
    for k in range(first + 1, last):
        other = others[k]
        place = k
        while place > first and order[others[place - 1]] > order[other]:
            others[place] = others[place - 1]
            place -= 1
        others[place] = other


@compiled
def needs_rebuild(farthest_squared: float, skin: float) -> bool:
    """Whether two cells may have crossed the skin: the farthest has moved half of it since the lists were made."""
    return 2.0 * math.sqrt(farthest_squared) >= skin
