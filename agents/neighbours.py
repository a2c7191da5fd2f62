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

Lists = tuple[NDArray[np.uint32], NDArray[np.uint32]]
"""first: start of each slot's list, and the end of the last; others: slots of the neighbours. Unsigned, because
compiled code asks of every signed place whether it counts from the end."""

MOST_BINS_PER_CELL = 2

SHARE_WITHIN_REACH = 0.2
"""Room for lists, of the cells in 27 bins: a ball of their edge fills 0.155 of them; more room is made if needed."""


@compiled
def reach_of(rows: Rows, contact: float, search: float, skin: float) -> Any:
    """The largest distance between two cells of a list, µm."""
    return within(rows[:, 3].max(), rows[:, 3].max(), contact, search, skin)


@compiled
def within(radius: float, other: float, contact: float, search: float, skin: float) -> Any:
    """Two cells of these radii are listed when they are closer than this: the larger of ``contact`` and the sum of
    their radii (at most ``search``), plus ``skin``.
    """
    return max(contact, min(radius + other, search)) + skin


@compiled
def bins_of(rows: Rows, edge: float) -> tuple[float, Any, Any]:
    """Bin edge (at least ``edge``), least corner and number of bins on each axis."""
    low = np.empty(3)
    size = np.empty(3)
    for axis in range(3):
        low[axis] = rows[:, axis].min()
        size[axis] = rows[:, axis].max() - low[axis]
    bins = np.empty(3, np.int64)
    edge, bins[0], bins[1], bins[2] = bins_over(size[0], size[1], size[2], len(rows), edge)
    return edge, low, bins


@compiled
def bins_over(x: float, y: float, z: float, cells: int, edge: float) -> tuple[float, int, int, int]:
    """Bin edge (at least ``edge``) and number of bins along the sides of a box; few bins for cells far apart."""
    while True:
        bins_x, bins_y, bins_z = int(min(x / edge, 1e6)) + 1, int(min(y / edge, 1e6)) + 1, int(min(z / edge, 1e6)) + 1
        if bins_x * bins_y * bins_z <= MOST_BINS_PER_CELL * cells + 27:
            return edge, bins_x, bins_y, bins_z
        edge *= 1.5


@compiled
def bin_along(x: float, low: float, edge: float, bins: int) -> int:
    """The bin of a coordinate on its axis."""
    return min(int((x - low) / edge), bins - 1)


@compiled
def sort_into_bins(rows: Rows, slots: Rows, edge: float, low: Any, bins: Any) -> tuple[Any, Any]:
    """Slots run over the cells in the order of their bins (x fastest), then of identity: neighbours lie near each
    other in memory.

    rows     of all cells, in the order of identity
    slots    receives them in the order of slots
    returns  first slot of each bin and the end of the last; place in the order of identity of the cell in each slot
    """
    n, count = len(rows), bins[0] * bins[1] * bins[2]
    bin_of = np.empty(n, np.int32)
    start = np.zeros(count + 2, np.int32)
    for i in range(n):
        a = bin_along(rows[i, 0], low[0], edge, bins[0])
        b = bin_along(rows[i, 1], low[1], edge, bins[1])
        c = bin_along(rows[i, 2], low[2], edge, bins[2])
        bin_of[i] = a + bins[0] * (b + bins[1] * c)
        start[bin_of[i] + 2] += 1
    for k in range(count):
        start[k + 2] += start[k + 1]
    order = np.empty(n, np.uint32)
    for i in range(n):
        slot = start[bin_of[i] + 1]
        start[bin_of[i] + 1] += 1
        order[slot] = i
        for column in range(4):
            slots[slot, column] = rows[i, column]
    return start[: count + 1], order


@compiled
def put_home(rows: Rows, order: Any, slots: Rows) -> None:
    """Rows back into the order of identity."""
    for slot in range(len(order)):
        for column in range(4):
            rows[order[slot], column] = slots[slot, column]


@compiled
def neighbour_lists(
    begin: int, end: int, slots: Rows, order: Any, start: Any, bins: Any, contact: float, search: float, skin: float
) -> Lists:  # fmt: skip
    """Neighbour lists of the slots ``begin`` to ``end``: two cells are listed when they are closer than ``within``."""
    ranges = np.empty((9, 2), np.uint64)
    first_bin, last_bin = bins_between(begin, end, start)
    most, total = candidates_of(begin, end, first_bin, last_bin, start, bins, ranges)
    first = np.empty(end - begin + 1, np.uint32)
    others = np.empty(int(SHARE_WITHIN_REACH * total) + most, np.uint32)
    near, keys = np.empty(most + 1, np.uint32), np.empty(most + 1, np.uint32)
    filled = np.uint64(0)
    for number in range(first_bin, last_bin):
        if start[number] < start[number + 1]:
            slots_around(number, start, bins, ranges)
        for slot in range(max(start[number], begin), min(start[number + 1], end)):
            first[slot - begin] = filled
            found = find_neighbours(slot, slots, ranges, contact, search, skin, near)
            others = with_room(others, filled, found)
            list_by_identity(near, found, order, keys, others, filled)
            filled += found
    first[end - begin] = filled
    return first, others


@compiled
def bins_between(begin: int, end: int, start: Any) -> tuple[Any, Any]:
    """The bins that hold the slots ``begin`` to ``end``."""
    return np.searchsorted(start, begin, side="right") - 1, np.searchsorted(start, end, side="left")


@compiled
def candidates_of(
    begin: int, end: int, first_bin: Any, last_bin: Any, start: Any, bins: Any, ranges: NDArray[np.uint64]
) -> tuple[int, int]:
    """Cells in the bins around a slot: the most, and the sum over the slots ``begin`` to ``end``."""
    most, total = 0, 0
    for number in range(first_bin, last_bin):
        here = min(start[number + 1], end) - max(start[number], begin)
        if here > 0:
            around = slots_around(number, start, bins, ranges)
            most, total = max(most, around), total + here * around
    return most, total


@compiled
def slots_around(number: int, start: Any, bins: Any, ranges: NDArray[np.uint64]) -> int:
    """Fill ``ranges`` with first and last slot of each of the nine rows of three bins along x around a bin.

    returns  cells in them
    """
    a = number % bins[0]
    b = (number // bins[0]) % bins[1]
    c = number // (bins[0] * bins[1])
    total = 0
    for side in range(9):
        left, right = slots_beside(side, a, b, c, start, 0, bins[0], bins[1], bins[2])
        ranges[side, 0], ranges[side, 1] = left, right
        total += right - left
    return total


@compiled
def slots_beside(
    side: int, a: int, b: int, c: int, start: Any, base: int, bins_x: int, bins_y: int, bins_z: int
) -> tuple[int, int]:
    """First slot of, and first behind, one of the nine rows of three bins along x around the bin (a, b, c).

    start  first slot of each bin and the end of the last, from ``base`` on
    """
    y, z = b + side % 3 - 1, c + side // 3 - 1
    if y < 0 or y >= bins_y or z < 0 or z >= bins_z:
        return 0, 0
    row = base + bins_x * (y + bins_y * z)
    return int(start[row + max(a - 1, 0)]), int(start[row + min(a + 1, bins_x - 1) + 1])


@compiled
def find_neighbours(
    slot: int, slots: Rows, ranges: NDArray[np.uint64], contact: float, search: float, skin: float,
    near: NDArray[np.uint32],
) -> Any:  # fmt: skip
    """Write the neighbours of one slot to ``near``; returns how many. Every candidate is written, and the next one
    over it if it is too far: that is faster than to ask.
    """
    x, y, z, radius = slots[slot, 0], slots[slot, 1], slots[slot, 2], slots[slot, 3]
    found = np.uint64(0)
    for side in range(9):
        for other in range(ranges[side, 0], ranges[side, 1]):
            dx, dy, dz = x - slots[other, 0], y - slots[other, 1], z - slots[other, 2]
            reach = within(radius, slots[other, 3], contact, search, skin)
            near[found] = other
            found += np.uint64((dx * dx + dy * dy + dz * dz < reach * reach) & (other != slot))
    return found


@compiled
def list_by_identity(
    near: NDArray[np.uint32], found: Any, order: Any, keys: NDArray[np.uint32], others: NDArray[np.uint32], filled: Any
) -> None:
    """Write neighbours to a list in the order of their identity: each at the place that counts those before it."""
    for k in range(found):
        keys[k] = order[near[k]]
    for k in range(found):
        before = 0
        for m in range(found):
            before += keys[m] < keys[k]
        others[filled + np.uint64(before)] = near[k]


@compiled
def with_room(others: NDArray[np.uint32], filled: Any, wanted: Any) -> NDArray[np.uint32]:
    """The array, larger by half if ``wanted`` more entries do not fit."""
    if filled + wanted <= len(others):
        return others
    larger = np.empty(len(others) + len(others) // 2 + int(wanted), np.uint32)
    larger[:filled] = others[:filled]
    return larger


@compiled
def needs_rebuild(farthest_squared: float, slack: float, skin: float) -> bool:
    """Whether two cells may have crossed the skin: the farthest has moved half of it since the lists were made.

    slack  µm by which places at that time are known too badly
    """
    return 2.0 * (math.sqrt(farthest_squared) + slack) >= skin


ROUNDING = 2.0**-23
"""Of a place in single precision, in its largest coordinate: half a unit in the last place on each of three axes, and
some more.
"""

WIDEST = 6.0
"""µm, of a skin."""

WHOLE_HOUR = 1000
"""More steps than an hour has."""


@compiled
def next_skin(skin: float, lasted: int, lasted_before: int) -> Any:
    """A wider skin where two lists in a row lasted for one step only (crowded cells that swing to and fro)."""
    return min(1.5 * skin, WIDEST) if max(lasted, lasted_before) < 2 and skin < WIDEST else skin
