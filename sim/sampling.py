"""How much of a tumour is simulated: elements that have a colony, and the cells that stand for all of its cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .oxygen import CELL_DENSITY
from .selection import candidates_of
from .state import TissueState


@dataclass(frozen=True)
class Sampling:
    """What of a tumour has simulated cells in one macro step.

    colonies      elements whose cells are simulated
    elements      that hold enough cells for a colony
    cells         of all colonies together at the start of the step
    tumour_cells  that the tumour holds then
    """

    colonies: int
    elements: int
    cells: int
    tumour_cells: float

    @property
    def fraction(self) -> float:
        """Cells simulated over cells that the tumour holds; 1 where it holds none."""
        return self.cells / self.tumour_cells if self.tumour_cells else 1.0

    @property
    def is_whole(self) -> bool:
        """True if every element has a colony; its cells are a sample even then."""
        return self.colonies == self.elements

    def content(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "colonies": self.colonies,
            "elements": self.elements,
            "cells": self.cells,
            "tumour_cells": self.tumour_cells,
            "sampled_fraction": self.fraction,
        }

    def words(self) -> str:
        """One sentence that never says "all" without the share of the cells."""
        who = (
            f"All {self.elements:,} elements of the tumour have a colony of their own"
            if self.is_whole
            else f"{self.colonies:,} of {self.elements:,} elements of the tumour have a colony"
        )
        return (
            f"{who}; their {self.cells:,} cells stand for the {self.tumour_cells:.2g} that the tumour holds "
            f"(sampled fraction {self.fraction:.1e})."
        )


def sampling_of(state: TissueState, first_cells: list[int]) -> Sampling:
    """Of the macro step that starts with this tissue, with so many cells in each colony."""
    return Sampling(len(first_cells), len(candidates_of(state).members), sum(first_cells), cells_of_tumour(state))


def cells_of_tumour(state: TissueState) -> float:
    """Cells of all classes that the tumour holds, by its volume and composition."""
    volumes = state.mesh.volumes[state.tumour]
    return float((state.composition[state.tumour].sum(axis=1) * volumes).sum() * CELL_DENSITY.value)
