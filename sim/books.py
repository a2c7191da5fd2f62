"""Books of cells: those at the start and those born are those that live, those dead and still there, and those removed.

A macro step has them twice: of the colonies, in whole cells as the engine counted them, and of the tumour, where every
element has the fates per cell that the extrapolation gives it (weights are positive and sum to 1, so that what closes
in each colony closes in each element, to rounding).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..agents.colony import CLASSES, ColonyOutcome
from .oxygen import CELL_DENSITY
from .state import TissueState

LIVING = np.isin(CLASSES, ("NBl", "SCl"))
"""Which of CLASSES live; the others are dead and still there."""


@dataclass(frozen=True)
class Books:
    """Cells of one macro step.

    start    at its start
    born     during it
    living, dead   at its end
    removed  cleared during it
    """

    start: float
    born: float
    living: float
    dead: float
    removed: float

    @property
    def missing(self) -> float:
        """Cells that came and are nowhere; negative where some came from nowhere."""
        return self.start + self.born - self.living - self.dead - self.removed

    def content(self) -> dict[str, float]:
        """Plain values."""
        return {**vars(self), "missing": self.missing}


def tallied(outcomes: Sequence[ColonyOutcome]) -> tuple[NDArray[np.float64], bool]:
    """(colonies, 9) cells at the start, of CLASSES at the end, born and removed; and whether those two were counted.

    Where an engine counts neither births nor removals, the net change stands for them, and the books close of
    themselves: False.
    """
    counted = all({"births", "cleared"} <= set(outcome.extra) for outcome in outcomes)
    return np.array([_tally(outcome, counted) for outcome in outcomes], dtype=np.float64).reshape(-1, 9), counted


def _tally(outcome: ColonyOutcome, counted: bool) -> list[float]:
    first, last = int(outcome.counts[0].sum()), outcome.counts[-1]
    change = int(last.sum()) - first
    born, removed = max(change, 0), max(-change, 0)
    if counted:
        born, removed = _sum(outcome.extra["births"]), _sum(outcome.extra["cleared"])
    return [first, *(int(cells) for cells in last), born, removed]


def _sum(counted: Mapping[str, int] | int) -> int:
    """Cells, by kind or in all."""
    return sum(counted.values()) if isinstance(counted, Mapping) else int(counted)


def offspring(fates: NDArray[np.float64]) -> NDArray[np.float64]:
    """(rows,) cells at the end for one at the start, living or dead; fates (rows, 8)."""
    return np.asarray(fates[:, :6].sum(axis=1))


def with_offspring(fates: NDArray[np.float64], wanted: NDArray[np.float64]) -> NDArray[np.float64]:
    """Fates (rows, 8) that end with so many cells for one (rows,), in the same shares of CLASSES.

    What that takes more or less is counted as born or as removed, so that the books close as before. Rows without a
    cell at the end stay without.
    """
    before = offspring(fates)
    scale = np.divide(wanted, before, out=np.zeros_like(wanted), where=before > 0.0)
    more = before * (scale - 1.0)
    born, removed = fates[:, 6] + np.maximum(more, 0.0), fates[:, 7] + np.maximum(-more, 0.0)
    return np.column_stack([fates[:, :6] * scale[:, None], born, removed])


def of_colonies(tally: NDArray[np.float64]) -> Books:
    """Whole cells of all colonies together."""
    return _books(tally.sum(axis=0))


def of_tumour(cells: NDArray[np.float64], fates: NDArray[np.float64]) -> Books:
    """Of the tumour, from the cells (elements,) that its elements held and their fates (elements, 8) per cell."""
    return _books(np.concatenate([[cells.sum()], (cells[:, None] * fates).sum(axis=0)]))


def _books(row: NDArray[np.float64]) -> Books:
    ends = row[1:7]
    return Books(float(row[0]), float(row[7]), float(ends[LIVING].sum()), float(ends[~LIVING].sum()), float(row[8]))


def account(
    tally: NDArray[np.float64],
    counted: bool,
    cells: NDArray[np.float64],
    fates: NDArray[np.float64],
    *,
    no_room: float,
    alone: float,
) -> dict[str, Any]:
    """What a macro step tells of its cells.

    cells    (elements,) mm³ of cells that the elements held at the start
    fates    (elements, 8) per cell: CLASSES at the end, born, removed
    no_room  mm³ of cells that are left out because their elements are full
    alone    mm³ of cells in elements that hold too few for a colony: they stay as they are
    """
    return {
        "colonies": of_colonies(tally).content(),
        "tumour": of_tumour(CELL_DENSITY.value * cells, fates).content(),
        "without_room": CELL_DENSITY.value * no_room,
        "without_colony": CELL_DENSITY.value * alone,
        "counted": counted,
    }


def deformed(cells: Mapping[str, Any], state: TissueState) -> dict[str, Any]:
    """The account with what deforming the elements does to cells: a fraction is of the volume that an element has then.

    The growth stretch says what volume the cells fill; mechanics presses it together or draws it apart, and the cells
    that the state holds change with it by ``by_deformation``.
    """
    if not cells:
        return {}
    whole = cells["tumour"]
    tumour = state.tumour
    held = CELL_DENSITY.value * float((state.composition[tumour].sum(axis=1) * state.mesh.volumes[tumour]).sum())
    handed = whole["living"] + whole["dead"] - cells["without_room"] + cells["without_colony"]
    return {**cells, "by_deformation": held - handed}


def words_of(cells: Mapping[str, Any]) -> str:
    """The books of one macro step in one line."""
    whole, some = cells["tumour"], cells["colonies"]
    how = "" if cells["counted"] else " (net: these cells do not count births and removals)"
    return (
        f"{whole['start']:.4g} cells and {whole['born']:.4g} born{how} are {whole['living']:.4g} living, "
        f"{whole['dead']:.4g} dead and {whole['removed']:.4g} removed; missing {some['missing']:.0f} of "
        f"{some['start'] + some['born']:,.0f} simulated, {abs(whole['missing']) / max(whole['start'], 1.0):.0e} of all"
    )
