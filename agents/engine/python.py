"""The readable engine: plain loops over the rules, every pair of cells looked at. The truth, for small colonies.

The functions that it interprets are those that other engines compile, so equal results say that neighbour lists,
compilation and threads changed nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..cell_type import CellType
from ..colony import Colony, ColonyOutcome
from ..living import Census, LivingColony, census_of, lost_cell
from ..mechanics import Rows, moved, settled, strength_of
from ..modes import Mode, Switches
from ..parameters import ParameterSet
from ..voxels import Grid, count_cells, look_around
from . import Checkpoints, Progress, Watch
from ._advance import ALONE, Parts, advance_all


class PythonEngine:
    """Interpreted; fit for a few hundred cell-hours a second."""

    name = "python"

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
        """See ``Engine.advance``; one thread whatever is asked for."""
        return advance_all(self, colonies, cells=cells, hours=hours, seed=seed, mode=mode, parameters=parameters,
                           progress=progress, threads=1, watch=watch,
                           checkpoints=checkpoints)  # fmt: skip

    def plan(self, counts: Sequence[int], voxels: Sequence[int], cells: CellType | str = "neuroblastoma") -> None:
        """See ``Engine.plan``: colonies live in the host's memory."""

    def relax(self, colony: LivingColony, parts: Parts = ALONE) -> int:
        """Jacobi steps until the colony has settled: all cells feel, then all move."""
        if len(colony.cells) == 0:
            return 0
        cells, p = colony.cells.view(np.recarray), colony.numbers.view(np.recarray)[0]
        rows = np.column_stack([cells.x, cells.y, cells.z, colony.radii[cells.cycle]])
        for iteration in range(int(p.iterations_enough) + 2):
            if not np.isfinite(rows).all():
                raise lost_cell(colony)
            neighbours, overlaps, rows = self._step(rows, cells.mobile, colony, p)
            if settled(iteration, len(cells), neighbours.max(initial=0), overlaps.max(initial=0.0), p):
                break
        cells.x, cells.y, cells.z = rows[:, 0], rows[:, 1], rows[:, 2]
        cells.neighbours, cells.overlap = neighbours, overlaps
        return iteration + 1

    def _step(
        self, rows: Rows, mobile: NDArray[np.bool_], colony: LivingColony, p: Any
    ) -> tuple[NDArray[np.int32], NDArray[np.float64], Rows]:
        neighbours, overlaps, after = np.zeros(len(rows), np.int32), np.zeros(len(rows)), rows.copy()
        for i in range(len(rows)):
            others = np.delete(np.arange(len(rows), dtype=np.int32), i)
            x, y, z, overlaps[i], neighbours[i] = colony.cell_type.push_on(i, rows, others, 0, len(others), p)
            strength = strength_of(neighbours[i], mobile[i], p)
            after[i, :3] = moved(i, rows, (x, y, z), strength, colony.matrix.ravel(), colony.matrix.shape,
                                 colony.elsewhere, colony.wall, p.displace)  # fmt: skip
        return neighbours, overlaps, after

    def count(self, colony: LivingColony) -> Census:
        """Cells into voxels."""
        shape, voxels, cells = colony.matrix.shape, colony.matrix.size, colony.cells.view(np.recarray)
        counts, uncrowded = np.zeros((6, voxels), np.int32), np.zeros(voxels, np.int32)
        count_cells(cells, counts, uncrowded, shape)
        return census_of(shape, counts, uncrowded, sum(bool(colony.cell_type.signals(cell)) for cell in cells))

    def act(
        self, colony: LivingColony, shared: NDArray[Any], census: Census, oxygen: Grid, parts: Parts = ALONE
    ) -> None:
        """Every cell runs its hour, rule by rule."""
        p, hour = colony.numbers.view(np.recarray)[0], shared.view(np.recarray)[0]
        counts, shape = census.by_voxel.reshape(6, -1), oxygen.shape
        for cell in colony.cells.view(np.recarray):
            luck = (*colony.key, np.uint64(cell.identity), np.uint64(colony.time))
            near = look_around(cell, counts, oxygen.ravel(), shape)
            for behaviour in colony.cell_type.each_hour[cell.kind]:
                behaviour(cell, luck, near, hour, p)


def make() -> PythonEngine:
    """The engine."""
    return PythonEngine()
