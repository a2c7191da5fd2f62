"""The loop, without images and without cells: books, order, steps that land where they must."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oncoscale.sim.equilibrium import words_of
from oncoscale.sim.oxygen import demand_of, local_balance
from oncoscale.sim.sensitivity import changes, constant_rate
from oncoscale.sim.settings import ForecastSettings
from oncoscale.sim.simulation import Plan, macro_ends, simulate
from oncoscale.sim.start import scaled_supply
from oncoscale.sim.tissue import Springs
from oncoscale.sim.tumour_type import tumour_type

TUMOUR = tumour_type("neuroblastoma")

SETTINGS = ForecastSettings(elements=8, growth="occupancy")
"""Growth is what the stand-in for cells says of volume."""


def plan_of(**options):
    """A plan whose cells grow at one constant rate."""
    asked = {"springs": Springs(0.05), "ends": (14.0, 28.0), "materials": TUMOUR.materials, "advance": constant_rate}
    return Plan(tumour=TUMOUR, settings=SETTINGS, treatment=None, seed=1, **(asked | options))


def test_a_constant_ratio_compounds(small_state):
    """Every element growing by r in each of n steps grows the unloaded tumour by r^n."""
    states, _ = simulate(small_state, plan_of())
    assert [state.day for state in states] == [0.0, 14.0, 28.0]
    grown = [(state.stretch[state.tumour] ** 3).mean() for state in states]
    assert grown == pytest.approx([1.0, 2 ** (14 / 60), 2 ** (28 / 60)], rel=1e-9)


def test_the_host_pushes_back(small_state):
    """A tumour in its host grows a little less than freely, is under pressure, and a stiffer host presses harder."""
    soft, _ = simulate(small_state, plan_of(ends=(14.0,)))
    host = TUMOUR.materials["host"]
    stiff, _ = simulate(
        small_state, plan_of(ends=(14.0,), materials={**TUMOUR.materials, "host": replace(host, young=5 * host.young)})
    )
    free = small_state.volume * 2 ** (14 / 60)
    assert small_state.volume < stiff[-1].volume < soft[-1].volume < free
    pressure = [state.mean_stress[state.tumour].mean() for state in (soft[-1], stiff[-1])]
    assert pressure[1] < pressure[0] < 0.0


@pytest.mark.parametrize("poroelastic", [False, True])
def test_progress_goes_on_while_the_tissue_finds_its_balance(small_state, poroelastic):
    """The bar never goes back, and moves with every Newton iteration of the mechanics, in wet tissue and dry."""
    told: list[float] = []
    plan = plan_of(ends=(14.0,), progress=lambda what, done: told.append(done))
    _, (step,) = simulate(small_state, replace(plan, settings=SETTINGS.model_copy(update={"poroelastic": poroelastic})))
    assert told == sorted(told)
    assert told[-1] <= 1.0
    newton, increments = step.mechanics["newton_iterations"], step.mechanics["increments"]
    assert sum(share > 0.9 for share in told) >= newton + increments - 1


def test_a_step_records_how_its_balance_was_found(small_state):
    """Each increment has its share of the growth, a residual before the first and after every Newton iteration, and
    how many linear iterations those took; the last residual is below the tolerance."""
    _, (step, _) = simulate(small_state, plan_of())
    history = step.mechanics["history"]
    assert [one["share"] for one in history][-1] == 1.0
    assert all(len(one["residuals"]) == len(one["linear"]) + 1 for one in history)
    assert all(np.diff(one["residuals"]).max() < 0.0 for one in history)
    assert history[-1]["residuals"][-1] <= 1e-8
    assert step.mechanics["increments"] == len(history)
    words = words_of(history)
    assert f"{step.mechanics['newton_iterations']} Newton" in words
    assert "halved" not in words


def test_supply_puts_the_median_where_it_was_asked(small_mesh, small_fields):
    """The scale of supply makes the tumour's median oxygen the target, whatever the relative perfusion."""
    tumour = small_mesh.elements_of("tumour")
    supply = scaled_supply(small_mesh, small_fields.perfusion, small_fields.composition[:, 0], 12.0)
    tension = local_balance(supply[tumour], demand_of(small_fields.composition[tumour, 0]))
    assert np.median(tension) == pytest.approx(12.0, rel=1e-6)


@given(days=st.floats(1.0, 120.0), longest=st.floats(1.0, 28.0))
def test_macro_steps_cover_the_horizon(days, longest):
    """Steps are never longer than asked and end on the last day."""
    ends = macro_ends(days, longest)
    lengths = np.diff([0.0, *ends])
    assert (lengths > 0).all()
    assert lengths.max() <= longest + 1e-6
    assert ends[-1] == days


def test_what_varies_can_be_changed(small_fields):
    """Each field that varies is flattened and shuffled; shuffling keeps its values; cells and host are always asked."""
    asked = changes(small_fields, plan_of())
    assert [change.what for change in asked] == [
        "Supply of blood, flattened",
        "Supply of blood, shuffled over the tumour",
        "Cellularity, flattened",
        "Cellularity, shuffled over the tumour",
        "Cells replaced by one constant rate of growth",
        "Host as stiff as the tumour",
    ]
    shuffled, _ = asked[1].alter(small_fields, plan_of())
    inside = small_fields.composition[:, 0] > 0
    assert np.array_equal(np.sort(shuffled.perfusion[inside]), np.sort(small_fields.perfusion[inside]))
    assert not np.array_equal(shuffled.perfusion[inside], small_fields.perfusion[inside])
