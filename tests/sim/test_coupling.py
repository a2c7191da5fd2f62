"""Between the scales: nobody is skipped or counted twice, and the error of choosing is measured."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest

from oncoscale.agents.colony import ColonyOutcome, DrugWindow
from oncoscale.sim import coupling
from oncoscale.sim.selection import select_elements
from oncoscale.sim.treatment import Treatment


def outcome(colony, ratio, composition=None, fold=4.0):
    """What a colony of a large cube would answer, whose cells became ``fold`` times as many."""
    kept = colony.surroundings.composition if composition is None else composition
    counts = np.zeros((2, 6), dtype=np.int64)
    counts[:, 0] = 1000, round(1000 * fold)
    return ColonyOutcome(
        colony.name, ratio, kept, 1 - sum(kept), colony.surroundings.oxygen, int(counts[-1, 0]), counts, {},
        extra={"cube_edge_mm": np.inf},
    )  # fmt: skip


DATA = get_args(coupling.Datum)
"""What growth may be read from."""


def colonies_of(state, selection, **options):
    """Colonies without treatment, unless asked otherwise."""
    asked = {"cells": 500, "treatment": None, "genetics": {}, "histology": 0, "gradiff": 0} | options
    return coupling.localise(state, selection, **asked)


def test_every_populated_element_has_one_representative(small_state):
    """Weights are shares of the tumour's volume and sum to one; each representative stands for itself."""
    selection = select_elements(small_state, 12, seed=1)
    assert len(selection.elements) == 12
    assert np.array_equal(selection.members, small_state.tumour)
    assert selection.weights.sum() == pytest.approx(1.0, abs=1e-12)
    assert np.array_equal(selection.nearest[selection.rows], np.arange(12))
    stands_for = selection.stratum[selection.rows][selection.nearest]
    assert np.array_equal(stands_for, selection.stratum)


def test_the_extremes_are_chosen(small_state):
    """The least and the most oxygenated, cellular and treated elements are always among the chosen."""
    chosen = set(select_elements(small_state, 12, seed=5).elements.tolist())
    tumour = small_state.tumour
    for values in (small_state.oxygen, small_state.cellularity, small_state.delivery):
        assert {int(tumour[values[tumour].argmin()]), int(tumour[values[tumour].argmax()])} <= chosen


def test_same_seed_same_choice(small_state):
    """The choice is a function of the state and the seed."""
    first, second = (select_elements(small_state, 10, seed=3) for _ in range(2))
    assert np.array_equal(first.elements, second.elements)


def test_a_colony_gets_its_elements_surroundings(small_state):
    """Oxygen over 72 mmHg, composition, and about the asked number of cells."""
    selection = select_elements(small_state, 10, seed=1)
    for element, colony in zip(selection.elements, colonies_of(small_state, selection), strict=True):
        around = colony.surroundings
        assert around.oxygen == pytest.approx(small_state.oxygen[element] / 72.0)
        assert around.composition == tuple(small_state.composition[element])
        assert around.volume * sum(around.composition) * 9.39e4 == pytest.approx(500, rel=1e-9)
        assert colony.name == f"element-{element}"


def test_drug_follows_delivery(small_state):
    """More delivery, more effect; the median element feels the nominal effect; no drug does nothing."""
    window = DrugWindow(0.0, 96.0, (0.6, 0.6, 0.0, 0.6, 0.6, 0.0))
    treatment = Treatment("chemotherapy", "test", (window,))
    effects = [treatment.windows_at(delivery)[0].effects[0] for delivery in (0.0, 0.5, 1.0, 2.0)]
    assert effects == sorted(effects)
    assert effects[0] == 0.0
    assert effects[2] == pytest.approx(0.6)


@pytest.mark.parametrize(("ratio", "fold"), [(1.1, 4.0), (0.85, 0.1)])
def test_one_ratio_everywhere_is_given_back_everywhere(small_state, ratio, fold):
    """If the cells of every colony occupy r times as much, every element gets r, and leaving one out costs nothing."""
    selection = select_elements(small_state, 10, seed=1)
    outcomes = [outcome(colony, ratio, fold=fold) for colony in colonies_of(small_state, selection)]
    answer = coupling.homogenise(small_state, selection, outcomes, datum="occupancy")
    assert answer.ratio[small_state.tumour] == pytest.approx(ratio, rel=1e-12)
    assert answer.leave_one_out == pytest.approx(0.0, abs=1e-12)
    assert answer.limited == 0
    host = small_state.reference.elements_of("host")
    assert (answer.ratio[host] == 1.0).all()
    assert answer.state.stretch[small_state.tumour] ** 3 == pytest.approx(ratio, rel=1e-12)


@pytest.mark.parametrize("fold", [1.5, 1.0, 0.4])
def test_tissue_has_the_volume_of_its_cells_and_matrix(small_state, fold):
    """One fold of cells everywhere: each element's matrix keeps its volume, its cells their size, none is left out."""
    selection = select_elements(small_state, 10, seed=1)
    outcomes = [outcome(colony, 0.9, fold=fold) for colony in colonies_of(small_state, selection)]
    answer = coupling.homogenise(small_state, selection, outcomes)
    tumour = small_state.tumour
    solid = small_state.composition[tumour].sum(axis=1)
    assert answer.ratio[tumour] == pytest.approx(1.0 + solid * (fold - 1.0), rel=1e-12)
    assert answer.leave_one_out == pytest.approx(0.0, abs=1e-12)
    assert answer.state.matrix[tumour] * answer.ratio[tumour] == pytest.approx(1.0 - solid, abs=1e-12)
    assert answer.limited == answer.cells["without_room"] == 0


def test_stored_cells_go_on_in_the_room_that_their_tissue_grew(small_state):
    """A colony that took 1.02 times its cube in tissue that grew by 1.2 has 1.2 / 1.02 of that to go on in."""
    selection = select_elements(small_state, 10, seed=1)
    solid = small_state.composition[selection.elements].sum(axis=1)
    outcomes = [
        replace(outcome(c, 1.02, fold=1.0 + 0.2 / own), state="cells", extra={"total_volume_ratio": 1.02})
        for c, own in zip(colonies_of(small_state, selection), solid, strict=True)
    ]
    state = coupling.homogenise(small_state, selection, outcomes).state
    assert set(state.rooms) == set(state.colonies)
    again = colonies_of(state, selection)
    assert [one.surroundings.confinement for one in again] == pytest.approx([1.2 / 1.02] * 10, abs=1e-3)


@pytest.mark.parametrize("datum", DATA)
def test_leave_one_out_foretells_the_error_of_choosing(small_state, datum):
    """For a smooth answer, leaving one out bounds the error, and knowing 20 beats knowing only the mean twofold."""
    selection = select_elements(small_state, 20, seed=1)
    solid = small_state.composition.sum(axis=1)
    truth = np.exp(0.3 * (small_state.oxygen / 72.0) + 0.2 * small_state.cellularity)
    folds = 1.0 + (truth - 1.0) / np.maximum(solid, 0.05) if datum == "constituents" else np.full(len(truth), 4.0)
    outcomes = [
        outcome(c, truth[e], fold=folds[e])
        for c, e in zip(colonies_of(small_state, selection), selection.elements, strict=True)
    ]
    answer = coupling.homogenise(small_state, selection, outcomes, datum=datum)
    error = np.abs(np.log(answer.ratio) - np.log(truth))[small_state.tumour]
    assert answer.ratio[selection.elements] == pytest.approx(truth[selection.elements], abs=2e-3)
    assert error.mean() <= 2.0 * answer.leave_one_out + 1e-3
    assert error.mean() < 0.5 * np.log(truth[small_state.tumour]).std()


@pytest.mark.parametrize("datum", DATA)
def test_every_element_simulated_leaves_nothing_to_extrapolate(small_state, datum):
    """With all elements chosen each keeps its own answer and the error is zero."""
    selection = select_elements(small_state, None, seed=1)
    folds = 1.0 + np.arange(len(selection.elements)) % 7 / 10.0
    solid = small_state.composition[selection.elements].sum(axis=1)
    ratios = 1.0 + solid * (folds - 1.0)
    outcomes = [
        outcome(c, r, fold=fold) for c, r, fold in zip(colonies_of(small_state, selection), ratios, folds, strict=True)
    ]
    answer = coupling.homogenise(small_state, selection, outcomes, datum=datum)
    assert answer.ratio[selection.elements] == pytest.approx(ratios, rel=1e-12)
    assert answer.leave_one_out == 0.0


@pytest.mark.parametrize("datum", DATA)
def test_dead_colonies_shrink_by_what_was_cleared(small_state, datum):
    """A colony without a cell left has no ratio: its element keeps its matrix but no cell and no vessel."""
    selection = select_elements(small_state, 10, seed=1)
    outcomes = [
        replace(outcome(c, np.nan, (0.0,) * 6, fold=0.0), cell_count=0) for c in colonies_of(small_state, selection)
    ]
    answer = coupling.homogenise(small_state, selection, outcomes, datum=datum)
    solid = small_state.composition[selection.elements].sum(axis=1)
    assert answer.ratio[selection.elements] == pytest.approx(np.maximum(1.0 - solid, 0.2))
    assert (answer.state.composition[selection.elements] == 0.0).all()
    assert (answer.state.supply[selection.elements] == 0.0).all()
    assert "10 colonies" in answer.notes[0]


@pytest.mark.parametrize("datum", DATA)
def test_growth_beyond_the_limits_is_counted(small_state, datum):
    """Nothing is clipped silently, and no element more than doubles."""
    selection = select_elements(small_state, 10, seed=1)
    outcomes = [outcome(c, 3.0, fold=9.0) for c in colonies_of(small_state, selection)]
    answer = coupling.homogenise(small_state, selection, outcomes, datum=datum)
    assert answer.ratio[small_state.tumour].max() == 2.0
    assert answer.limited >= 10


def test_no_more_volume_than_cells_born_or_cleared(small_state):
    """Matrix keeps its volume: growth is at most the volume of cells born, shrinkage at most that of cells cleared."""
    selection = select_elements(small_state, 10, seed=1)
    solid = small_state.composition[selection.elements].sum(axis=1)
    for ratio, fold in ((1.9, 1.2), (0.3, 0.5)):
        outcomes = [outcome(c, ratio, fold=fold) for c in colonies_of(small_state, selection)]
        answer = coupling.homogenise(small_state, selection, outcomes, datum="occupancy")
        assert answer.ratio[selection.elements] == pytest.approx(1.0 + solid * (fold - 1.0))


def test_fractions_stay_fractions(small_state):
    """Whatever the colonies answer, fractions lie in [0, 1] and leave room for matrix."""
    selection = select_elements(small_state, 10, seed=1)
    ends = [(0.9, 0.02, 0.01, 0.01, 0.0, 0.0), (0.01, 0.0, 0.5, 0.2, 0.0, 0.0)] * 5
    answer = coupling.homogenise(
        small_state, selection,
        [outcome(c, 1.0, end) for c, end in zip(colonies_of(small_state, selection), ends, strict=True)],
    )  # fmt: skip
    composition = answer.state.composition
    assert composition.min() >= 0.0
    assert composition.sum(axis=1).max() <= 0.95 + 1e-12


def test_a_nearly_dead_small_colony_keeps_fractions_in_order(small_state):
    """However small the cube and its answer, no fraction of cells becomes negative."""
    selection = select_elements(small_state, 10, seed=1)
    outcomes = [
        replace(outcome(c, 0.01, (0.6, 0.0, 0.0, 0.1, 0.0, 0.0), fold=0.01), extra={"cube_edge_mm": 0.2})
        for c in colonies_of(small_state, selection)
    ]
    answer = coupling.homogenise(small_state, selection, outcomes)
    assert answer.state.composition.min() >= 0.0
    assert (answer.ratio > 0.0).all()


def test_no_cell_is_lost_or_counted_twice(small_state):
    """Cells after the step are cells before it times what each colony's cells became, element by element and in all."""
    selection = select_elements(small_state, 12, seed=1)
    folds = np.round(np.linspace(0.8, 1.1, 12), 3)
    answer = coupling.homogenise(
        small_state,
        selection,
        [outcome(c, 0.99, fold=fold) for c, fold in zip(colonies_of(small_state, selection), folds, strict=True)],
    )
    volumes = small_state.mesh.volumes
    before = small_state.composition.sum(axis=1) * volumes
    after = answer.state.composition.sum(axis=1) * volumes * answer.ratio
    assert after[selection.elements] == pytest.approx(before[selection.elements] * folds, rel=1e-9)
    assert folds.min() * before.sum() <= after.sum() <= folds.max() * before.sum()
    assert answer.state.composition.sum(axis=1).max() < 0.95
