"""Growth that pressure slows: the law, the iteration, and its place in the loop."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from oncoscale.core.errors import SolverFault
from oncoscale.meshing.mesh import TumourMesh
from oncoscale.sim import stress_feedback
from oncoscale.sim.equilibrium import Equilibrium
from oncoscale.sim.growth import grow
from oncoscale.sim.sensitivity import constant_rate
from oncoscale.sim.settings import ForecastSettings
from oncoscale.sim.shapes import ball_octant
from oncoscale.sim.simulation import Plan, deform
from oncoscale.sim.state import TissueState
from oncoscale.sim.stress_feedback import AGREED, SLOWING_PRESSURE, grow_under_pressure, slowed, slowing_of
from oncoscale.sim.supports import OUTSIDE, Supports
from oncoscale.sim.tissue import DEFAULT_MATERIALS, Material, Springs, springs_of
from oncoscale.sim.tumour_type import tumour_type

TUMOUR = tumour_type("neuroblastoma")
STIFF = {"tumour": Material(5.0, 0.45), "host": Material(20.0, 0.45)}


@pytest.fixture(scope="module")
def octant() -> TumourMesh:
    """A ball in a host of twice its radius."""
    return ball_octant((10.0, 20.0), (2, 2))


def under(mesh: TumourMesh, pressure: float, steps: int = 1, supports: Springs | Supports = springs_of()) -> tuple:
    """The tumour grown by 1.3 in volume in some steps, in a stiff host, under feedback."""
    solve_on = partial(
        grow, mesh, materials=STIFF, springs=supports, held=np.abs(mesh.points) < 1e-9, max_log_increment=0.1,
        tolerance=1e-10,
    )  # fmt: skip
    found, accounts = None, []
    for _ in range(steps):
        before = np.ones(len(mesh.tetrahedra)) if found is None else found.stretch
        asked = before * np.where(mesh.region == 2, 1.3 ** (1.0 / (3.0 * steps)), 1.0)
        found, account = grow_under_pressure(lambda g, start: solve_on(stretch=g, start=start), asked, found, pressure)
        accounts.append(account)
    return found, accounts


def gained(mesh: TumourMesh, found: Equilibrium) -> float:
    """Mean growth of the tumour in volume."""
    core = mesh.region == 2
    return float(np.average(found.stretch[core] ** 3, weights=mesh.volumes[core]) - 1.0)


def test_compression_slows_growth_and_tension_does_not():
    """r_eff - 1 falls e-fold for each p* of pressure, for growth and loss alike; tension leaves it as it is."""
    ratio = np.array([1.3, 1.3, 1.3, 0.8])
    found = slowed(ratio, np.array([3.0, -5.0, -10.0, -5.0]), 5.0)
    assert found == pytest.approx(1.0 + (ratio - 1.0) * np.exp([0.0, -1.0, -2.0, -1.0]))


def test_growth_and_pressure_agree_in_few_rounds(octant):
    """What is found solves r_eff(p) and p(r_eff) at once, in three rounds or so."""
    found, (account,) = under(octant, 5.0)
    core = octant.region == 2
    expected = slowed(np.where(core, 1.3, 1.0), found.mean_stress / 2.0, 5.0)
    assert np.abs(np.log(found.stretch**3) - np.log(expected)).max() <= AGREED
    assert 2 <= account["feedback_rounds"] <= 4
    assert found.increments[-1].share == 1.0
    assert account["feedback_strongest"] == pytest.approx(1.0 - (expected[core].min() - 1.0) / 0.3, abs=1e-3)
    assert not np.ptp(found.stretch[~core])


def test_more_sensitive_tissue_and_tighter_hosts_grow_less(octant):
    """The less pressure it takes, and the more there is, the less growth; without limit on pressure none is lost."""
    growth = [gained(octant, under(octant, pressure)[0]) for pressure in (2.0, 5.0, 10.0, 1e9)]
    assert growth == sorted(growth)
    assert growth[0] < 0.9 * growth[-1]
    assert growth[-1] == pytest.approx(0.3, rel=1e-6)
    tight = gained(octant, under(octant, 5.0, supports=Supports(fixed=(OUTSIDE,)))[0])
    assert tight < 0.95 * growth[1]


def test_iteration_converges_where_repetition_would_not(octant):
    """In a host that is fixed all round plain repetition throws back more than it was ahead; relaxed it agrees."""
    clamped, core = Supports(fixed=(OUTSIDE,)), octant.region == 2
    found, (account,) = under(octant, 0.2, supports=clamped)
    assert account["feedback_rounds"] <= 10
    ahead = np.where(core, 1.01, 1.0)
    nearby = grow(
        octant, found.stretch * ahead, STIFF, springs=clamped, held=np.abs(octant.points) < 1e-9, max_log_increment=0.1
    )
    ratio = np.where(core, 1.3, 1.0)
    back = np.log(slowed(ratio, found.mean_stress / 2.0, 0.2) / slowed(ratio, nearby.mean_stress / 2.0, 0.2))
    assert back[core].mean() > 3.0 * np.log(1.01)


def test_shorter_steps_converge(octant):
    """Growth in 1, 2 and 4 steps closes in at order 1 or better: the steps' differences halve at least."""
    growth = [gained(octant, under(octant, 2.0, steps)[0]) for steps in (1, 2, 4)]
    assert 0.0 < growth[1] - growth[2] < 0.55 * (growth[0] - growth[1])


def test_disagreement_is_an_error(octant, monkeypatch):
    """An iteration that runs out is a fault that says what to do, not a silent half answer."""
    monkeypatch.setattr(stress_feedback, "MOST_ROUNDS", 1)
    with pytest.raises(SolverFault, match="shorter macro steps"):
        under(octant, 2.0)


def test_a_forecasts_tumour_grows_less_under_feedback_and_tells_it(small_state):
    """Asked for, feedback slows what the cells ask for and is on the account; not asked for, neither."""
    stiff = {**TUMOUR.materials, "host": replace(TUMOUR.materials["host"], young=20.0)}
    asked = np.ones(len(small_state.stretch))
    asked[small_state.tumour] = 1.2 ** (1 / 3)

    def state_and_account(pressure: float | None) -> tuple[TissueState, dict]:
        settings = ForecastSettings(stress_feedback=pressure)
        plan = Plan(TUMOUR, settings, None, stiff, Springs(0.05), (14.0,), 1, constant_rate)
        return deform(replace(small_state, stretch=asked), plan)

    (free, account), (slower, told) = state_and_account(None), state_and_account(2.0)
    assert np.array_equal(free.stretch, asked)
    assert slower.volume < free.volume
    assert (slower.stretch < free.stretch)[slower.tumour].all()
    assert "feedback_rounds" not in account
    assert told["feedback_rounds"] >= 2
    assert 0.0 < told["feedback_strongest"] < 1.0
    assert told["supports"] == account["supports"] == "springs of 0.05 kPa/mm on the outer boundary"


def test_what_the_user_states_is_told_with_its_source():
    """The parameter on record has the value that was asked for, even outside its usual range, and stays assumed."""
    assert slowing_of(3.0).value == 3.0
    assert slowing_of(30.0).range == (2.0, 30.0)
    assert slowing_of(3.0).source == SLOWING_PRESSURE.source
    assert slowing_of(3.0).assumed
    assert DEFAULT_MATERIALS["host"].young < STIFF["host"].young
