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

    def __str__(self) -> str:
        colonies = sum(len(batch) for batch in self.batches)
        return (
            f"{colonies} {'colony' if colonies == 1 else 'colonies'} of {self.cells:,} cells in {len(self.batches)} "
            f"{'batch' if len(self.batches) == 1 else 'batches'} of at most {_in_words(self.largest)}, "
            f"with room for {_in_words(self.free)}"
        )


def plan_of(colonies: Sequence[LivingColony], free: int) -> Plan:
    """Colonies in their order, as many at a time as there is room for; one that has too little room lives alone."""
    wanted = [bytes_of(colony) for colony in colonies]
    batches: list[list[int]] = []
    held, cells = 0, 0
    for place, colony in enumerate(colonies):
        fits = held + wanted[place] <= free and cells + GROWTH * len(colony.cells) <= MOST_CELLS
        if not batches or not fits:
            batches.append([])
            held, cells = 0, 0
        batches[-1].append(place)
        held, cells = held + wanted[place], cells + GROWTH * len(colony.cells)
    largest = max(sum(wanted[place] for place in batch) for batch in batches)
    return Plan(tuple(map(tuple, batches)), sum(len(colony.cells) for colony in colonies), largest, free)


def halves(colonies: Sequence[LivingColony]) -> tuple[Sequence[LivingColony], Sequence[LivingColony]]:
    """The first and the second half of a batch."""
    middle = len(colonies) // 2
    return colonies[:middle], colonies[middle:]


def bytes_of(colony: LivingColony) -> int:
    """Bytes that a colony takes at its most, grown as far as it is given room for.

    Its cells; and either what relaxation takes, or a second array of cells with a word for the fate of each and one for
    those before it, and what summing them up takes.
    """
    record, cells = colony.cell_type.state.record.itemsize, GROWTH * len(colony.cells)
    renewal = cells * (record + 3 * 8)
    return (
        cells * record
        + max(bytes_of_relaxation(cells, FIRST_WIDTH), renewal)
        + GROWTH * VOXEL_BYTES * colony.matrix.size
    )


def _in_words(count: int) -> str:
    return f"{count / 2**30:.2f} GiB" if count >= 2**28 else f"{count / 2**20:.1f} MiB"
