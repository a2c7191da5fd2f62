"""The compiled engine: the same rules through numba, and neighbour lists.

Kernels hold no lock. Colonies run side by side on a pool of threads; where there are more threads than colonies, the
cells of a colony are split among them. Every cell gathers from others and writes only itself, and nothing is summed
across threads, so any number of threads gives the same bits. Compiled once, kept on disk, compiled anew when any
source of this package changes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ...core import chance
from ...core.errors import CellFault
from ..cell import Cells
from ..cell_type import CellType
from ..colony import Colony, ColonyOutcome
from ..living import Census, LivingColony, census_of, lost_cell
from ..mechanics import Rows, moved, settled, strength_of
from ..modes import Mode, Switches
from ..neighbours import (
    ROUNDING,
    WHOLE_HOUR,
    Lists,
    bins_of,
    needs_rebuild,
    neighbour_lists,
    next_skin,
    put_home,
    reach_of,
    sort_into_bins,
)
from ..parameters import ParameterSet
from ..voxels import Grid, Shape, count_cells, look_around
from . import Checkpoints, Progress, Watch
from ._advance import ALONE, Parts, advance_all, available_threads


@dataclass(frozen=True)
class Loops:
    """The compiled loops over cells of one type.

    places    place and radius into rows, in the order of identity
    sort      cells into slots
    lists     neighbour lists of some slots
    home      rows of the slots back into the order of identity
    step      one Jacobi step of some slots
    put_back  places, neighbours and overlaps of the slots to their cells
    count     cells into voxels
    act       the hour of some cells
    """

    places: Callable[..., None]
    sort: Callable[..., Any]
    lists: Callable[..., Any]
    home: Callable[..., None]
    step: Callable[..., tuple[int, float, float]]
    put_back: Callable[..., None]
    count: Callable[..., int]
    act: Callable[..., None]


MOST_ENTRIES = 2**32 - 1
"""Of the neighbour lists of one part."""


@dataclass(frozen=True)
class Listed:
    """Neighbour lists, and where the cells were when they were made.

    order   (cells,) place in the order of identity of the cell in each slot
    lists   by the first slot of each part: start of each slot's list, and the neighbours' slots
    places  (cells, 3) µm, in single precision; ``slack`` µm is the most that this misses
    mobile  (cells,) whether a crowded cell pushes harder
    """

    order: NDArray[np.uint32]
    lists: Mapping[int, Lists]
    places: NDArray[np.float32]
    slack: float
    mobile: NDArray[np.bool_]


@cache
def _sources(modules: tuple[str, ...]) -> str:
    """A digest of this package's sources, of the draws' one, and of the modules in which rules and laws stand."""
    package = Path(__file__).parents[1]
    own = (getattr(sys.modules.get(name), "__file__", None) for name in modules)
    digest = blake2b(digest_size=8)
    for path in sorted({*package.rglob("*.py"), Path(chance.__file__), *(Path(file) for file in own if file)}):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _kernel(function: Callable[..., Any]) -> Any:
    """Compile strictly: no reordering of sums, no lock, division by zero gives infinity."""
    return njit(cache=True, nogil=True, error_model="numpy", fastmath=False)(function)


@cache
def loops_of(cell_type: CellType) -> Loops:
    """The loops for cells of a type."""
    functions = (
        cell_type.live,
        cell_type.push_on,
        cell_type.signals,
        *(rule for hour in cell_type.each_hour for rule in hour),
    )
    modules = tuple(sorted({function.__module__ for function in functions}))
    return _loops(_sources(modules), cell_type.live, cell_type.push_on, cell_type.signals)


def _loops(sources: str, live: Any, push_on: Any, signals: Any) -> Loops:
    """What is passed is the closure of the loops, hence part of the key of their stored code."""

    @_kernel
    def places(cells: Cells, radii: NDArray[np.float64], rows: Rows) -> None:
        made_from = sources  # noqa: F841
        for i in range(len(cells)):
            rows[i, 0], rows[i, 1], rows[i, 2] = cells[i].x, cells[i].y, cells[i].z
            rows[i, 3] = radii[cells[i].cycle]

    @_kernel
    def sort(rows: Rows, slots: Rows, contact: float, search: float, skin: float) -> Any:
        made_from = sources  # noqa: F841
        edge, low, bins = bins_of(rows, reach_of(rows, contact, search, skin))
        start, order = sort_into_bins(rows, slots, edge, low, bins)
        return order, start, bins

    @_kernel
    def lists(
        begin: int, end: int, slots: Rows, order: Any, start: Any, bins: Any, contact: float, search: float, skin: float
    ) -> Any:
        made_from = sources  # noqa: F841
        return neighbour_lists(begin, end, slots, order, start, bins, contact, search, skin)

    @_kernel
    def home(rows: Rows, order: Any, slots: Rows) -> None:
        made_from = sources  # noqa: F841
        put_home(rows, order, slots)

    @_kernel
    def step(
        begin: int, end: int, here: Rows, there: Rows, listed: Any, mobile: Any, first: Any, others: Any,
        neighbours: Any, overlaps: Any, matrix: Grid, elsewhere: float, wall: float, numbers: Any,
    ) -> tuple[int, float, float]:  # fmt: skip
        """Slots ``begin`` to ``end``, whose lists these are, go from ``here`` to ``there``.

        returns  most neighbours, largest overlap, square of the farthest move since the lists were made (infinite if
        a place is no number)
        """
        made_from = sources  # noqa: F841
        p, flat = numbers[0], matrix.ravel()
        most_neighbours, most_overlap, farthest = 0, 0.0, 0.0
        for slot in range(begin, end):
            x, y, z, overlap, near = push_on(slot, here, others, first[slot - begin], first[slot - begin + 1], p)
            strength = strength_of(near, mobile[slot], p)
            x, y, z = moved(slot, here, (x, y, z), strength, flat, matrix.shape, elsewhere, wall, p.displace)
            there[slot, 0], there[slot, 1], there[slot, 2], there[slot, 3] = x, y, z, here[slot, 3]
            neighbours[slot], overlaps[slot] = near, overlap
            most_neighbours, most_overlap = max(most_neighbours, near), max(most_overlap, overlap)
            dx, dy, dz = x - listed[slot, 0], y - listed[slot, 1], z - listed[slot, 2]
            squared = dx * dx + dy * dy + dz * dz
            farthest = max(farthest, squared if np.isfinite(squared) else np.inf)
        return most_neighbours, most_overlap, farthest

    @_kernel
    def put_back(cells: Cells, order: Any, rows: Rows, neighbours: Any, overlaps: Any) -> None:
        made_from = sources  # noqa: F841
        for slot in range(len(order)):
            cell = cells[order[slot]]
            cell.x, cell.y, cell.z = rows[slot, 0], rows[slot, 1], rows[slot, 2]
            cell.neighbours, cell.overlap = neighbours[slot], overlaps[slot]

    @_kernel
    def count(cells: Cells, counts: Any, uncrowded: Any, shape: Shape) -> int:
        """Cells into flat voxels; returns how many signal."""
        made_from = sources  # noqa: F841
        count_cells(cells, counts, uncrowded, shape)
        signalling = 0
        for i in range(len(cells)):
            signalling += signals(cells[i])
        return signalling

    @_kernel
    def act(
        start: int, stop: int, cells: Cells, by_voxel: Any, oxygen: Grid, shared: Any, numbers: Any, k0: np.uint64,
        k1: np.uint64, time: np.uint64,
    ) -> None:  # fmt: skip
        made_from = sources  # noqa: F841
        p, hour = numbers[0], shared[0]
        counts, by_place = by_voxel.reshape(6, oxygen.size), oxygen.ravel()
        for i in range(start, stop):
            cell = cells[i]
            luck = (k0, k1, np.uint64(cell.identity), time)
            live(cell, luck, look_around(cell, counts, by_place, oxygen.shape), hour, p)

    return Loops(places, sort, lists, home, step, put_back, count, act)


class CpuEngine:
    """Compiled for this processor.

    skin  µm, of the neighbour lists, wider where they do not last; results do not depend on it
    """

    name = "cpu"

    def __init__(self, skin: float = 3.0) -> None:
        self.skin = skin

    def advance(
        self,
        colonies: Sequence[Colony],
        *,
        cells: CellType | str = "neuroblastoma",
        hours: int = 336,
        seed: int,
        mode: Mode | Switches = "corrected",
        parameters: ParameterSet | Mapping[str, float] | None = None,
        progress: Progress | None = None,
        threads: int | None = None,
        watch: Watch | None = None,
        checkpoints: Checkpoints | None = None,
    ) -> tuple[ColonyOutcome, ...]:
        """See ``Engine.advance``."""
        return advance_all(self, colonies, cells=cells, hours=hours, seed=seed, mode=mode, parameters=parameters,
                           progress=progress, threads=threads or available_threads(),
                           watch=watch, checkpoints=checkpoints)  # fmt: skip

    def plan(self, counts: Sequence[int], voxels: Sequence[int], cells: CellType | str = "neuroblastoma") -> None:
        """See ``Engine.plan``: colonies live in the host's memory."""

    def relax(self, colony: LivingColony, parts: Parts = ALONE) -> int:
        """Jacobi steps until the colony has settled; lists are made anew when a cell may have crossed their skin."""
        cells, p = colony.cells, colony.numbers.view(np.recarray)[0]
        if len(cells) == 0:
            return 0
        loops = loops_of(colony.cell_type)
        here, there = np.empty((len(cells), 4)), np.empty((len(cells), 4))
        loops.places(cells, colony.radii, here)
        if not np.isfinite(here).all():
            raise lost_cell(colony)
        neighbours, overlaps = np.empty(len(cells), np.int32), np.empty(len(cells))
        skin, lasted, lasted_before, iteration = self.skin, 0, WHOLE_HOUR, 0
        listed = self._listed(colony, here, there, skin, parts)
        here, there = there, here
        while True:
            moves = parts.over(len(cells), lambda begin, end: loops.step(
                begin, end, here, there, listed.places, listed.mobile, *listed.lists[begin],  # noqa: B023
                neighbours, overlaps, colony.matrix, colony.elsewhere, colony.wall, colony.numbers))  # fmt: skip
            most_neighbours, most_overlap, farthest = (max(column) for column in zip(*moves, strict=True))
            if not np.isfinite(farthest):
                raise lost_cell(colony)
            here, there = there, here
            if settled(iteration, len(cells), most_neighbours, most_overlap, p):
                break
            iteration, lasted = iteration + 1, lasted + 1
            if needs_rebuild(farthest, listed.slack, skin):
                loops.home(there, listed.order, here)
                del listed
                skin, lasted, lasted_before = next_skin(skin, lasted, lasted_before), 0, lasted
                listed = self._listed(colony, there, here, skin, parts)
        loops.put_back(cells, listed.order, here, neighbours, overlaps)
        return iteration + 1

    def _listed(self, colony: LivingColony, rows: Rows, slots: Rows, skin: float, parts: Parts) -> Listed:
        """Lists of these rows, which ``slots`` receives in the order of slots."""
        loops, p = loops_of(colony.cell_type), colony.numbers.view(np.recarray)[0]
        order, start, bins = loops.sort(rows, slots, p.R_neighbours, p.R_search, skin)

        def some(begin: int, end: int) -> tuple[int, Lists]:
            return begin, loops.lists(begin, end, slots, order, start, bins, p.R_neighbours, p.R_search, skin)

        lists = dict(parts.over(len(rows), some))
        if max(len(others) for _, others in lists.values()) > MOST_ENTRIES:
            raise CellFault(f"colony {colony.name!r} has too many neighbours in hour {colony.time}",
                            f"lists of at most {MOST_ENTRIES} entries", "choose a smaller volume")  # fmt: skip
        places = slots[:, :3].astype(np.float32)
        slack = ROUNDING * float(max(places.max(), -places.min()))
        return Listed(order, lists, places, slack, colony.cells["mobile"][order])

    def count(self, colony: LivingColony) -> Census:
        """Cells into voxels."""
        shape, voxels = colony.matrix.shape, colony.matrix.size
        counts, uncrowded = np.zeros((6, voxels), np.int32), np.zeros(voxels, np.int32)
        signalling = loops_of(colony.cell_type).count(colony.cells, counts, uncrowded, shape)
        return census_of(shape, counts, uncrowded, signalling)

    def act(
        self, colony: LivingColony, shared: NDArray[Any], census: Census, oxygen: Grid, parts: Parts = ALONE
    ) -> None:
        """Every cell lives its hour."""
        act, (k0, k1) = loops_of(colony.cell_type).act, colony.key
        parts.over(len(colony.cells), lambda start, stop: act(
            start, stop, colony.cells, census.by_voxel, oxygen, shared, colony.numbers, k0, k1, np.uint64(colony.time)
        ))  # fmt: skip


def make() -> CpuEngine:
    """The engine."""
    return CpuEngine()
