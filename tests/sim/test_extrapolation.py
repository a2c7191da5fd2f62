"""Both ways to give growth to every element: within what was simulated, never across the cliff, no cell lost."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from oncoscale.sim.extrapolation import extrapolated, left_out, offspring_of
from oncoscale.sim.selection import select_elements

BOTH = pytest.mark.parametrize("way", ["gaussian-process", "inverse-distance"])


def of_two_strata(state):
    """Fourteen elements of a tumour whose half with least oxygen lies below the cliff."""
    selection = select_elements(state, 14, seed=1)
    anoxic = selection.features[:, 0] > np.median(selection.features[:, 0])
    return replace(selection, stratum=np.where(anoxic, 0, 2))


@BOTH
def test_nothing_beyond_what_was_simulated(small_state, way):
    """Predictions lie between the least and the most of their stratum, and a representative keeps its own value."""
    selection = of_two_strata(small_state)
    values = np.random.default_rng(1).normal(size=14)
    given = extrapolated(selection, values, way)
    assert np.array_equal(given[selection.rows], values)
    for level in (0, 2):
        known = values[selection.stratum[selection.rows] == level]
        inside = given[selection.stratum == level]
        assert known.min() - 1e-12 <= inside.min() <= inside.max() <= known.max() + 1e-12


@BOTH
def test_the_cliff_stays_a_cliff(small_state, way):
    """Where one stratum shrinks and the other grows, no element is given anything between, left out or not."""
    selection = of_two_strata(small_state)
    values = np.where(selection.stratum[selection.rows] == 0, -0.5, 0.2)
    assert extrapolated(selection, values, way) == pytest.approx(np.where(selection.stratum == 0, -0.5, 0.2), abs=1e-12)
    assert left_out(selection, values, way) == pytest.approx(values, abs=1e-12)


def test_the_two_ways_differ_on_a_trend(small_state):
    """A Gaussian process follows a trend that is linear in the features closer than the means."""
    selection = select_elements(small_state, 14, seed=1)
    truth = 0.1 * selection.features[:, 0]
    errors = {
        way: np.abs(extrapolated(selection, truth[selection.rows], way) - truth).mean()
        for way in ("gaussian-process", "inverse-distance")
    }
    assert 1.5 * errors["gaussian-process"] < errors["inverse-distance"]


def test_fates_are_positive_and_add_up(small_state):
    """Fates per cell are never negative, and shares that sum to 1 in every colony sum to 1 in every element."""
    selection = of_two_strata(small_state)
    shares = np.random.default_rng(2).dirichlet(np.full(8, 0.3), size=14)
    everywhere = offspring_of(selection, shares)
    assert everywhere.min() >= 0.0
    assert everywhere.sum(axis=1) == pytest.approx(1.0, abs=1e-12)
