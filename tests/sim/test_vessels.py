"""Vessels that follow: the law in closed form, its bounds, and its place in the loop."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from oncoscale.sim import oxygen
from oncoscale.sim.settings import ForecastSettings
from oncoscale.sim.simulation import deliver_oxygen, grow_vessels
from oncoscale.sim.start import start_from
from oncoscale.sim.state import TissueState
from oncoscale.sim.vessels import (
    ENDOTHELIAL_DOUBLING,
    FULL_CALL,
    HALF_CALL,
    allotment_of,
    call,
    called_for,
    grown,
)

HYPOXIC = np.array([FULL_CALL.value])


def crowded(state: TissueState, fold: float) -> TissueState:
    """The tissue with so many times the cells."""
    return replace(state, composition=fold * state.composition)


@pytest.fixture(scope="module")
def following(small_mesh, small_fields) -> TissueState:
    """The tissue at time 0, its vessels ready to follow."""
    return start_from(small_mesh, small_fields, ForecastSettings(vessels="follow"))


def test_supply_follows_the_logistic_law():
    """dk/dt = r k (1 - k/k*) is met by central differences, starts at k, tends to k*, and its odds grow e-fold in
    1/r days."""
    supply, wanted, rate = np.array([2.0]), np.array([3.0]), np.log(2.0) / ENDOTHELIAL_DOUBLING.value
    for day in (0.5, 3.0, 20.0):
        before, now, after = (float(grown(supply, wanted, HYPOXIC, day + shift)[0]) for shift in (-1e-3, 0.0, 1e-3))
        assert (after - before) / 2e-3 == pytest.approx(rate * now * (1.0 - now / 3.0), rel=1e-5)
    after = float(grown(supply, wanted, HYPOXIC, 1.0 / rate)[0])
    assert after / (3.0 - after) == pytest.approx(np.e * 2.0)
    assert grown(supply, wanted, HYPOXIC, 0.0) == pytest.approx(supply)
    assert grown(supply, wanted, HYPOXIC, 1e4) == pytest.approx(wanted)


def test_one_long_stretch_is_many_short_ones():
    """With the same call throughout, growth over 14 days is that over seven times two days."""
    supply = np.array([2.0])
    for _ in range(7):
        supply = grown(supply, np.array([9.0]), HYPOXIC, 2.0)
    assert supply == pytest.approx(grown(np.array([2.0]), np.array([9.0]), HYPOXIC, 14.0), rel=1e-12)


def test_endothelium_never_divides_faster_than_it_can():
    """However much is called for, vessels at most double in the potential doubling time."""
    doubled = grown(np.array([1.0]), np.array([1e9]), np.array([0.0]), ENDOTHELIAL_DOUBLING.value)
    assert doubled == pytest.approx(2.0, rel=1e-6)
    assert doubled < 2.0


def test_hypoxia_calls_and_plenty_is_nearly_silent():
    """The call falls from 1 with oxygen, is a half where HIF-1's response is, and small at the host's oxygen."""
    found = call(np.array([0.0, FULL_CALL.value, HALF_CALL.value, oxygen.HOST_OXYGEN.value]))
    assert found[:3] == pytest.approx([1.0, 1.0, 0.5])
    assert 0.0 < found[3] < 0.1


def test_more_cells_less_oxygen_and_more_days_never_mean_fewer_vessels():
    """Supply rises with what cells demand, with hypoxia and with time, and never falls."""
    supply, allotment = np.full(20, 2.0), np.full(20, 1e-5)
    demand = np.linspace(0.0, 6e5, 20)
    wanted = called_for(supply, allotment, demand)
    after = grown(supply, wanted, np.full(20, 8.0), 7.0)
    assert (np.diff(after) >= 0.0).all()
    assert (after >= supply).all()
    assert after[-1] > supply[-1]
    assert (after <= wanted).all()
    assert (grown(supply, wanted, np.full(20, 4.0), 7.0) >= after).all()
    assert (grown(supply, wanted, np.full(20, 8.0), 9.0) >= after).all()


def test_nothing_is_called_for_above_the_hosts_oxygen():
    """Tissue supplied better than the host keeps what it has; what is called for never gives more than the host's."""
    demand = oxygen.demand_of(np.array([0.6]))
    rich = oxygen.supply_for(50.0, demand)
    assert called_for(rich, allotment_of(rich, demand), 1.5 * demand) <= 1.5 * rich
    poor = oxygen.supply_for(10.0, demand)
    wanted = called_for(poor, allotment_of(rich, demand), demand)
    assert oxygen.local_balance(wanted, demand) == pytest.approx(oxygen.HOST_OXYGEN.value)


def test_dead_tissue_grows_no_vessels():
    """Without vessels none sprout, and where nothing breathes nothing is called for."""
    none = np.array([0.0])
    assert grown(none, np.array([5.0]), none, 14.0)[0] == 0.0
    assert allotment_of(np.array([3.0]), none)[0] == 0.0
    assert grown(none, called_for(none, none, none), none, 14.0)[0] == 0.0


def test_fixed_vessels_have_the_bits_of_before(small_state, following):
    """Not asked for, the tissue is handed on as it is; asked for, time 0 is the same to the bit."""
    assert small_state.allotment is None
    assert grow_vessels(small_state, 14.0) is small_state
    assert np.array_equal(following.oxygen, small_state.oxygen)
    assert np.array_equal(following.supply, small_state.supply)


def test_a_tissue_at_rest_keeps_its_vessels(following):
    """With the cells of time 0 nothing grows, however hypoxic."""
    assert grow_vessels(following, 28.0).supply == pytest.approx(following.supply, rel=1e-12)


def test_crowded_tissue_gets_its_oxygen_back(following):
    """With 1.2 times the cells oxygen falls, and comes back as vessels follow: in weeks, not at once."""
    tight = deliver_oxygen(crowded(following, 1.2))
    soon, late = (deliver_oxygen(grow_vessels(tight, days)) for days in (7.0, 1000.0))
    there = following.tumour
    medians = [float(np.median(one.oxygen[there])) for one in (tight, soon, late, following)]
    assert medians == sorted(medians)
    assert medians[0] < 0.8 * medians[3]
    assert medians[2] == pytest.approx(medians[3], rel=0.02)
    host = following.reference.elements_of("host")
    assert late.supply[host] == pytest.approx(following.supply[host], rel=1e-12)


def test_following_is_first_order_in_the_step():
    """Cells that double in 40 days, oxygen in balance: halving the step halves the difference it makes."""

    def supply_after(steps: int) -> float:
        days, demand = 28.0 / steps, oxygen.demand_of(np.array([0.4]))
        supply = oxygen.supply_for(15.0, demand)
        allotment = allotment_of(supply, demand)
        for _ in range(steps):
            tension = oxygen.local_balance(supply, demand)
            demand = demand * 2.0 ** (days / 40.0)
            supply = grown(supply, called_for(supply, allotment, demand), tension, days)
        return float(supply[0])

    found = [supply_after(steps) for steps in (8, 16, 32)]
    assert abs(found[2] - found[1]) < 0.6 * abs(found[1] - found[0])
