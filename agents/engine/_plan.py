"""What of a machine's memory colonies will take, told before anything is allocated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..living import LivingColony
from ._relaxation import FIRST_WIDTH, bytes_of_relaxation

GROWTH = 2
"""ASSUMED: cells that a colony is given room for, per cell at the start. One that grows further may make its batch too
large; the batch is then halved while it runs."""

VOXEL_BYTES = 6 * 4 + 4 + 8 + 8
"""Six counts and one of uncrowded cells in 32 bits; matrix and oxygen in double precision."""

MOST_CELLS = 2**31 - 1
"""Of a batch: neighbours are named by 32 bits."""


@dataclass(frozen=True)
class Size:
    """What of a colony takes memory, before it lives or while it does.

    cells, voxels  how many
    record         bytes of one cell
    """

    cells: int
    voxels: int
    record: int

    @property
    def bytes(self) -> int:
        """That it takes at its most, grown as far as it is given room for.

        Its cells; and either what relaxation takes, or a second array of cells with a word for the fate of each and one
        for those before it, and what summing them up takes.
        """
        cells = GROWTH * self.cells
        renewal = cells * (self.record + 3 * 8)
        relaxation = bytes_of_relaxation(cells, FIRST_WIDTH)
        return cells * self.record + max(relaxation, renewal) + GROWTH * VOXEL_BYTES * self.voxels


@dataclass(frozen=True)
class Plan:
    """Batches of colonies that live on the machine one batch after the other.

    batches  places of the colonies of each
    cells    of all colonies at the start
    largest  bytes that the largest batch is given room for
    free     bytes that there was room for
    """

    batches: tuple[tuple[int, ...], ...]
    cells: int
    largest: int
    free: int

    @property
    def at_once(self) -> int:
        """Colonies of the longest batch."""
        return max(len(batch) for batch in self.batches)

    def content(self) -> dict[str, int]:
        """Plain values."""
        return {"cells": self.cells, "batches": len(self.batches), "largest_bytes": self.largest,
                "free_bytes": self.free}  # fmt: skip

    def __str__(self) -> str:
        colonies = sum(len(batch) for batch in self.batches)
        return (
            f"{colonies} {'colony' if colonies == 1 else 'colonies'} of {self.cells:,} cells in {len(self.batches)} "
            f"{'batch' if len(self.batches) == 1 else 'batches'} of at most {_in_words(self.largest)}, "
            f"with room for {_in_words(self.free)}"
        )


def plan_of(sizes: Sequence[Size], free: int) -> Plan:
    """Colonies in their order, as many at a time as there is room for; one that has too little room lives alone."""
    batches: list[list[int]] = []
    held, cells, largest = 0, 0, 0
    for place, size in enumerate(sizes):
        fits = held + size.bytes <= free and cells + GROWTH * size.cells <= MOST_CELLS
        if not batches or not fits:
            batches.append([])
            held, cells = 0, 0
        batches[-1].append(place)
        held, cells = held + size.bytes, cells + GROWTH * size.cells
        largest = max(largest, held)
    return Plan(tuple(map(tuple, batches)), sum(size.cells for size in sizes), largest, free)


def size_of(colony: LivingColony) -> Size:
    """Of a colony whose cells are placed."""
    return Size(len(colony.cells), colony.matrix.size, colony.cell_type.state.record.itemsize)


def halves(colonies: Sequence[LivingColony]) -> tuple[Sequence[LivingColony], Sequence[LivingColony]]:
    """The first and the second half of a batch."""
    middle = len(colonies) // 2
    return colonies[:middle], colonies[middle:]


def _in_words(count: int) -> str:
    return f"{count / 2**30:.2f} GiB" if count >= 2**28 else f"{count / 2**20:.1f} MiB"
