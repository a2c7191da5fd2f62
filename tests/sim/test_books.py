"""Books of cells: what came is somewhere, in whole cells and in the tumour."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from oncoscale.sim import books, coupling
from oncoscale.sim.selection import select_elements

from .test_coupling import colonies_of, outcome


def counted(colony, born, removed):
    """A colony of 1,000 cells of which so many were born and removed; a tenth of those left are apoptotic."""
    left = 1000 + born - removed
    made = outcome(colony, 1.0)
    counts = np.array([[1000, 0, 0, 0, 0, 0], [left - left // 10, left // 10, 0, 0, 0, 0]], dtype=np.int64)
    extra = {"cube_edge_mm": np.inf, "births": {"NB": born, "SC": 0}, "cleared": {"NBa": removed}}
    return replace(made, counts=counts, cell_count=left, extra=extra)


def answer_of(state, spoil=0):
    """Ten colonies with fates of their own; the first reports ``spoil`` births too many."""
    selection = select_elements(state, 10, seed=1)
    outcomes = [counted(one, 40 * n, 17 * (9 - n)) for n, one in enumerate(colonies_of(state, selection))]
    first = outcomes[0]
    outcomes[0] = replace(first, extra={**first.extra, "births": {"NB": spoil, "SC": 0}})
    return coupling.homogenise(state, selection, outcomes)


def test_cells_of_colonies_and_of_the_tumour_are_all_somewhere(small_state):
    """Start + born = living + dead + removed: exact in whole cells, to 1e-12 in the tumour; and no term is zero."""
    cells = answer_of(small_state).cells
    assert cells["counted"]
    assert cells["colonies"]["missing"] == 0
    assert min(value for name, value in cells["colonies"].items() if name != "missing") > 0
    assert abs(cells["tumour"]["missing"]) < 1e-12 * cells["tumour"]["start"]


def test_a_birth_too_many_is_found(small_state):
    """One cell that is reported born and is nowhere shows in both books."""
    cells = answer_of(small_state, spoil=1).cells
    assert cells["colonies"]["missing"] == 1
    assert cells["tumour"]["missing"] > 1e-6 * cells["tumour"]["start"]


def test_the_tissue_holds_the_cells_that_the_books_hand_over(small_state):
    """Cells of the new composition in the grown volumes are the books' living and dead, but for those without room."""
    answer = answer_of(small_state)
    volumes = small_state.mesh.volumes * answer.ratio
    held = books.CELL_DENSITY.value * float((answer.state.composition.sum(axis=1) * volumes).sum())
    whole = answer.cells["tumour"]
    assert held + answer.cells["without_room"] == pytest.approx(whole["living"] + whole["dead"], rel=1e-12)


def test_cells_that_count_no_births_are_told_so(small_state):
    """Where an engine tells the net change alone, the books say that they close of themselves."""
    selection = select_elements(small_state, 10, seed=1)
    cells = coupling.homogenise(
        small_state, selection, [outcome(one, 1.1) for one in colonies_of(small_state, selection)]
    ).cells
    assert not cells["counted"]
    assert "net" in books.words_of(cells)
