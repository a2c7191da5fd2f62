"""The compiled engine: the same rules through numba, neighbour lists, one colony to a thread.

Kernels hold no lock, so colonies run side by side on a pool of threads: whoever is free takes the next colony. Nothing
is shared between colonies and nothing is summed across threads, so any number of threads gives the same bits.
Compiled once, kept on disk, compiled anew when any source of this package changes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ...core import chance
from ..cell import Cells
from ..colony import Colony, ColonyOutcome
from ..mechanics import Rows, moved, push_on, settled, strength_of
from ..modes import Mode, Switches
from ..neighbours import needs_rebuild, neighbour_lists
from ..neuroblastoma import NEUROBLAST_HOUR, SCHWANN_HOUR
from ..parameters import ParameterSet
from ..rule import compiled, in_order
from ..voxels import Grid, count_cells, histograms, look_around
from . import Checkpoints, Progress, Watch
from ._advance import advance_all, available_threads
from ._living import Census, LivingColony, empty_census, lost_cell

neuroblast_hour = in_order(NEUROBLAST_HOUR)
schwann_hour = in_order(SCHWANN_HOUR)

NOT_FINITE = -1


@cache
def _sources() -> str:
    """A digest of this package's sources and of the draws' one."""
    package = Path(__file__).parents[1]
    digest = blake2b(digest_size=8)
    for path in sorted([*package.rglob("*.py"), Path(chance.__file__)]):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _kernel(function: Callable[..., Any]) -> Any:
    """Compile strictly: no reordering of sums, no lock, division by zero gives infinity."""
    return njit(cache=True, nogil=True, error_model="numpy", fastmath=False)(function)


@compiled
def rows_of(cells: Cells, radii: NDArray[np.float64]) -> Rows:
    """Places and radii, in the order of identity."""
    rows = np.empty((len(cells), 4))
    for i in range(len(cells)):
        rows[i, 0], rows[i, 1], rows[i, 2] = cells[i].x, cells[i].y, cells[i].z
        rows[i, 3] = radii[cells[i].cycle]
    return rows


@compiled
def step_all(
    cells: Cells,
    order: NDArray[np.int32],
    first: NDArray[np.int64],
    others: NDArray[np.int32],
    here: Rows,
    there: Rows,
    neighbours: NDArray[np.int32],
    overlaps: NDArray[np.float64],
    matrix: Grid,
    elsewhere: float,
    wall: float,
    p: Any,
) -> None:
    """One Jacobi step of all slots, from ``here`` to ``there``."""
    contact, search, least, displace = p.R_neighbours, p.R_search, p.min_overlap, p.displace
    for slot in range(len(order)):
        x, y, z, overlaps[slot], neighbours[slot] = push_on(
            slot, here, others, first[slot], first[slot + 1], contact, search, least
        )
        strength = strength_of(neighbours[slot], cells[order[slot]].mobile, p)
        x, y, z = moved(slot, here, (x, y, z), strength, matrix, elsewhere, wall, displace)
        there[slot, 0], there[slot, 1], there[slot, 2] = x, y, z


@compiled
def farthest_move(rows: Rows, listed: Rows) -> float:
    """Square of the farthest that a cell is from where it was listed; infinite if a place is no number."""
    farthest = 0.0
    for slot in range(len(rows)):
        dx, dy, dz = rows[slot, 0] - listed[slot, 0], rows[slot, 1] - listed[slot, 1], rows[slot, 2] - listed[slot, 2]
        squared = dx * dx + dy * dy + dz * dz
        if not np.isfinite(squared):
            return np.inf
        farthest = max(farthest, squared)
    return farthest


@compiled
def put_back(
    cells: Cells, order: NDArray[np.int32], rows: Rows, neighbours: NDArray[np.int32], overlaps: NDArray[np.float64]
) -> None:
    """Write places, neighbours and overlaps of the slots to their cells."""
    for slot in range(len(order)):
        cell = cells[order[slot]]
        cell.x, cell.y, cell.z = rows[slot, 0], rows[slot, 1], rows[slot, 2]
        cell.neighbours, cell.overlap = neighbours[slot], overlaps[slot]


def _kernels(sources: str) -> tuple[Any, Any, Any]:
    """The three loops over cells. ``sources`` is their closure, hence part of the key of the stored code."""

    @_kernel
    def relax(
        cells: Cells, radii: NDArray[np.float64], matrix: Grid, elsewhere: float, wall: float, numbers: Any, skin: float
    ) -> int:
        made_from = sources  # noqa: F841
        p = numbers[0]
        rows = rows_of(cells, radii)
        order, first, others = neighbour_lists(rows, p.R_neighbours, p.R_search, skin)
        here, there, listed = rows[order], rows[order], rows[order]
        neighbours, overlaps = np.zeros(len(cells), np.int32), np.zeros(len(cells))
        farthest, iteration = 0.0, 0
        while True:
            if needs_rebuild(farthest, skin):
                rows[order] = here
                order, first, others = neighbour_lists(rows, p.R_neighbours, p.R_search, skin)
                here, there, listed = rows[order], rows[order], rows[order]
            step_all(cells, order, first, others, here, there, neighbours, overlaps, matrix, elsewhere, wall, p)
            farthest = farthest_move(there, listed)
            if not np.isfinite(farthest):
                return NOT_FINITE
            here, there = there, here
            if settled(iteration, len(cells), neighbours.max(), overlaps.max(), p):
                break
            iteration += 1
        put_back(cells, order, here, neighbours, overlaps)
        return iteration + 1

    @_kernel
    def count(cells: Cells, by_voxel: Any, uncrowded: Any, total: Any, by_class: Any) -> int:
        made_from = sources  # noqa: F841
        vegf = count_cells(cells, by_voxel, uncrowded)
        histograms(by_voxel, total, by_class)
        return vegf

    @_kernel
    def act(
        cells: Cells,
        by_voxel: Any,
        oxygen: Grid,
        shared: Any,
        numbers: Any,
        k0: np.uint64,
        k1: np.uint64,
        time: np.uint64,
    ) -> None:
        made_from = sources  # noqa: F841
        p, hour = numbers[0], shared[0]
        for i in range(len(cells)):
            cell = cells[i]
            luck = (k0, k1, np.uint64(cell.identity), time)
            near = look_around(cell, by_voxel, oxygen)
            if cell.kind == 0:
                neuroblast_hour(cell, luck, near, hour, p)
            else:
                schwann_hour(cell, luck, near, hour, p)

    return relax, count, act


class CpuEngine:
    """Compiled for this processor.

    skin  µm, of the neighbour lists; results do not depend on it
    """

    name = "cpu"

    def __init__(self, skin: float = 3.0) -> None:
        self.skin = skin
        self._relax, self._count, self._act = _compiled()

    def advance(
        self,
        colonies: Sequence[Colony],
        *,
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
        return advance_all(self, colonies, hours=hours, seed=seed, mode=mode, parameters=parameters,
                           progress=progress, threads=threads or available_threads(),
                           watch=watch, checkpoints=checkpoints)  # fmt: skip

    def relax(self, colony: LivingColony) -> int:
        """Jacobi steps until the colony has settled."""
        if len(colony.cells) == 0:
            return 0
        if not all(np.isfinite(colony.cells[axis]).all() for axis in ("x", "y", "z")):
            raise lost_cell(colony)
        iterations = int(
            self._relax(
                colony.cells, colony.radii, colony.matrix, colony.elsewhere, colony.wall, colony.numbers, self.skin
            )
        )
        if iterations == NOT_FINITE:
            raise lost_cell(colony)
        return iterations

    def count(self, colony: LivingColony) -> Census:
        """Cells into voxels."""
        census = empty_census(colony.matrix.shape)
        vegf = self._count(colony.cells, census.by_voxel, census.uncrowded, census.total, census.by_class)
        return Census(census.by_voxel, census.uncrowded, census.total, census.by_class, int(vegf))

    def act(self, colony: LivingColony, shared: NDArray[Any], census: Census, oxygen: Grid) -> None:
        """Every cell lives its hour."""
        k0, k1 = colony.key
        self._act(colony.cells, census.by_voxel, oxygen, shared, colony.numbers, k0, k1, np.uint64(colony.time))


@cache
def _compiled() -> tuple[Any, Any, Any]:
    return _kernels(_sources())


def make() -> CpuEngine:
    """The engine."""
    return CpuEngine()
