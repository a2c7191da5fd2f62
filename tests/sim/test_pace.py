"""Macro steps of adaptive length: short where much changes, on time, the same again, and resumable."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from oncoscale.core.errors import StorageFault
from oncoscale.sim.forecast import MacroStep
from oncoscale.sim.keeping import KeptForecast
from oncoscale.sim.pace import Change, next_end, shorter
from oncoscale.sim.sensitivity import constant_rate
from oncoscale.sim.settings import ForecastSettings
from oncoscale.sim.simulation import simulate

from .test_simulation import plan_of

ADAPTIVE = ForecastSettings(elements="all", adaptive=True, fluid=False)


def made(start, end, strain):
    """A macro step that changed the tissue by so much of the limit."""
    return MacroStep(start, end, (), 0.0, 0.0, 0.0, 0, pace={"over_limit": strain})


def test_halved_where_too_much_changes():
    """A step beyond either limit is halved in whole hours, not to less than a day; one within both goes on."""
    assert shorter(0.0, 14.0, Change(0.031, 0.0)) == 7.0
    assert shorter(7.0, 8.0 + 23 / 24 + 3 / 24, Change(0.0, 0.11)) == 7.0 + 25 / 24
    assert shorter(0.0, 1.5, Change(0.5, 0.0)) is None
    assert shorter(0.0, 14.0, Change(0.03, 0.1)) is None


def test_steps_grow_again_and_land():
    """A step is as long as the last, or twice that if little changed, and none goes beyond the planned end."""
    assert next_end(0.0, 14.0, []) == 14.0
    assert next_end(3.5, 14.0, [made(0.0, 3.5, 0.9)]) == 7.0
    assert next_end(3.5, 14.0, [made(0.0, 3.5, 0.4)]) == 10.5
    assert next_end(10.5, 14.0, [made(3.5, 10.5, 0.9)]) == 14.0


def test_a_fast_tumour_is_followed_in_shorter_steps(small_state):
    """Growth of 5.4 % in ln g over 14 days is made in two steps of a week, to the same volume as two planned ones."""
    states, steps = simulate(small_state, replace(plan_of(ends=(14.0,)), settings=ADAPTIVE))
    steady = ADAPTIVE.model_copy(update={"adaptive": False})
    planned, _ = simulate(small_state, replace(plan_of(ends=(7.0, 14.0)), settings=steady))
    assert [state.day for state in states] == [0.0, 7.0, 14.0]
    assert [step.pace["tries"] for step in steps] == [2, 1]
    assert max(step.pace["over_limit"] for step in steps) <= 1.0
    assert np.array_equal(states[-1].stretch, planned[-1].stretch)


def test_stopped_between_two_halves_it_goes_on_alike(small_state, tmp_path):
    """Stopped after the first of the halved steps, the forecast is taken up there and ends in the same bits."""
    kept = KeptForecast(tmp_path / "kept", "one").run(1)
    lengths = []

    def once(colonies, hours, seed, **further):
        lengths.append(hours)
        if len(lengths) == 3:
            raise StorageFault("a disk that is full", "room", "make some")
        return constant_rate(colonies, hours, seed)

    plan = replace(plan_of(ends=(14.0,), kept=kept), settings=ADAPTIVE)
    with pytest.raises(StorageFault):
        simulate(small_state, replace(plan, advance=once))
    states, _ = simulate(small_state, replace(plan, advance=once))
    whole, _ = simulate(small_state, replace(plan, kept=None))
    assert lengths == [336, 168, 168, 168]
    assert np.array_equal(states[-1].displacement, whole[-1].displacement)
