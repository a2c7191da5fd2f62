"""Stiffness that follows composition: the mixture's closed forms, what it does to a body, and what carries it on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oncoscale.meshing.tet_transfer import carry
from oncoscale.sim import stiffness
from oncoscale.sim.books import LIVING
from oncoscale.sim.growth import grow
from oncoscale.sim.quadratic import grow_quadratic
from oncoscale.sim.remeshing import moved_to, rebased
from oncoscale.sim.sensitivity import constant_rate
from oncoscale.sim.settings import ForecastSettings
from oncoscale.sim.shapes import ball_octant, cube
from oncoscale.sim.simulation import Plan, deform, simulate
from oncoscale.sim.stiffness import DEAD_CELLS, LIVING_CELLS, mixture, stiffening
from oncoscale.sim.tissue import DEFAULT_MATERIALS, Springs, constants_of, springs_of
from oncoscale.sim.treatment import Operation
from oncoscale.sim.treatments.surgery import CAVITY, resect
from oncoscale.sim.tumour_type import tumour_type

TUMOUR = tumour_type("neuroblastoma")
FREE = Springs(0.0)


def made_of(living: float, dead: float = 0.0) -> np.ndarray:
    """(1, 6) a composition: living cells of two kinds, and dead ones, in a matrix."""
    return np.where(LIVING, living / 2.0, dead / 4.0)[None, :]


def with_ratio(monkeypatch, ratio: float) -> None:
    monkeypatch.setattr(stiffness, "LIVING_CELLS", replace(LIVING_CELLS, value=ratio, range=None))


@pytest.mark.parametrize(("ratio", "slope"), [(1e12, 2.5), (1.0, 0.0), (0.0, -5.0 / 3.0)])
def test_few_inclusions_have_their_closed_forms(monkeypatch, ratio, slope):
    """Few rigid spheres stiffen an incompressible matrix by 5/2 of their volume [Einstein 1906, doi
    10.1002/andp.19063240204], few holes soften it by 5/3, and what is as stiff as the matrix does neither."""
    with_ratio(monkeypatch, ratio)
    assert (mixture(made_of(1e-6))[0] - 1.0) / 1e-6 == pytest.approx(slope, abs=1e-4)
    assert mixture(made_of(0.0))[0] == pytest.approx(1.0, abs=1e-15)


@given(living=st.floats(0.0, 0.95), share=st.floats(0.0, 1.0))
def test_a_mixture_is_between_equal_stress_and_equal_strain(living, share):
    """Reuss's and Voigt's means bound it, and less matrix or more dead among the cells make it softer."""
    cells, dead = living * (1.0 - share), living * share
    parts, moduli = np.array([cells, dead, 1.0 - living]), np.array([LIVING_CELLS.value, DEAD_CELLS.value, 1.0])
    m = mixture(made_of(cells, dead))[0]
    assert 1.0 / (parts / moduli).sum() - 1e-12 <= m <= parts @ moduli + 1e-12
    assert mixture(made_of(0.99 * cells + 0.01, dead))[0] < m
    assert mixture(made_of(0.99 * cells, dead + 0.01 * cells))[0] <= m


def test_every_parameter_has_a_range_and_is_assumed():
    """No number of the law was measured, and each says so."""
    for one in stiffness.PARAMETERS:
        assert one.assumed
        low, high = one.range
        assert low <= one.value <= high


@pytest.mark.parametrize("law", ["neo-hookean", "exponential", "compressible"])
@pytest.mark.parametrize("solve", [grow, grow_quadratic])
def test_a_factor_everywhere_scales_stress_and_moves_nothing(solve, law):
    """A body with a free boundary is held by itself alone: twice as stiff, it has the same shape and twice the stress,
    pressure and energy."""
    mesh = ball_octant((10.0, 20.0), (1, 1))
    made = {
        name: replace(one, law=law, hardening=2.0 * (law == "exponential")) for name, one in DEFAULT_MATERIALS.items()
    }
    stretch, held = np.where(mesh.region == 2, 1.06, 1.0), mesh.points < 1e-9
    once = solve(mesh, stretch, made, springs=FREE, held=held, tolerance=1e-11)
    double = np.full(len(stretch), 2.0)
    twice = solve(mesh, stretch, made, springs=FREE, held=held, tolerance=1e-11, stiffening=double)
    assert twice.displacement == pytest.approx(once.displacement, abs=1e-8)
    assert twice.stress == pytest.approx(2.0 * once.stress, abs=1e-8)
    assert twice.strain_energy == pytest.approx(2.0 * once.strain_energy, rel=1e-8)


@pytest.mark.parametrize("solve", [grow, grow_quadratic])
def test_free_even_growth_leaves_no_stress_however_stiff(solve):
    """Patch: elements of any stiffness that all grow alike grow freely."""
    mesh = cube(2, shake=0.2)
    uneven = np.random.default_rng(1).uniform(0.3, 3.0, len(mesh.tetrahedra))
    found = solve(
        mesh, np.full(len(uneven), 1.1), DEFAULT_MATERIALS, springs=FREE, held=mesh.points < 1e-9, stiffening=uneven
    )
    assert found.displacement == pytest.approx(0.1 * mesh.points, abs=1e-8)
    assert np.abs(found.stress).max() < 1e-7


def test_a_factor_of_one_changes_no_bit():
    """Constants times one are the constants."""
    mesh = ball_octant((10.0, 20.0), (1, 1))
    plain, same = (
        constants_of(mesh, DEFAULT_MATERIALS),
        constants_of(mesh, DEFAULT_MATERIALS, np.ones(len(mesh.tetrahedra))),
    )
    assert plain.shear.tobytes() == same.shear.tobytes()
    assert plain.bulk.tobytes() == same.bulk.tobytes()


def test_new_stiffness_acts_on_the_strain_that_is_there():
    """The balance of a body that was loaded before its stiffness changed is that of one that always had it."""
    mesh = ball_octant((10.0, 20.0), (1, 1))
    stretch = np.where(mesh.region == 2, 1.06, 1.0)
    softer = np.where(mesh.region == 2, 0.5, 1.0)
    loaded = grow(mesh, stretch, DEFAULT_MATERIALS, springs=springs_of())
    after = grow(mesh, stretch, DEFAULT_MATERIALS, springs=springs_of(), start=loaded, stiffening=softer)
    always = grow(mesh, stretch, DEFAULT_MATERIALS, springs=springs_of(), stiffening=softer)
    assert after.displacement == pytest.approx(always.displacement, abs=1e-7)
    assert np.abs(after.displacement - loaded.displacement).max() > 1e-4


def plan_of(**options) -> Plan:
    """Cells that grow at one rate, which leave a composition as it was."""
    return Plan(
        TUMOUR, ForecastSettings(elements=8, **options), None, TUMOUR.materials, springs_of(TUMOUR.materials["host"]),
        (14.0,), 1, constant_rate,
    )  # fmt: skip


def denser(state):
    """The tissue when half of its matrix has become living cells in one half, and cells have died in the other."""
    composition, tumour = state.composition.copy(), state.tumour
    half = tumour[: len(tumour) // 2]
    composition[half, 0] += 0.5 * state.matrix[half]
    composition[np.setdiff1d(tumour, half), 0] *= 0.3
    return replace(state, composition=composition)


def test_a_composition_that_stays_changes_no_bit(small_state):
    """Tissue of day 0's composition has exactly the region's stiffness, whatever that composition is."""
    assert small_state.mixture_at_start is not None
    assert np.ptp(small_state.mixture_at_start[small_state.tumour]) > 0.05
    grown = replace(small_state, stretch=np.where(small_state.reference.region == 2, 1.05, 1.0))
    follows, told = deform(grown, plan_of())
    fixed, silent = deform(replace(grown, mixture_at_start=None), plan_of())
    assert follows.displacement.tobytes() == fixed.displacement.tobytes()
    assert told["stiffening"] == {"least": 1.0, "mean": 1.0, "largest": 1.0}
    assert "stiffening" not in silent


@pytest.mark.parametrize("options", [{}, {"stress_feedback": 5.0}, {"poroelastic": True}])
def test_a_forecast_tells_its_stiffness(small_state, options):
    """With its cells a tumour becomes softer, where they are many more; fixed stiffness says nothing of it."""
    (_, end), (step,) = simulate(small_state, plan_of(**options))
    told, factor = step.mechanics["stiffening"], stiffening(end)[end.tumour]
    assert [told["least"], told["largest"]] == pytest.approx([factor.min(), factor.max()])
    assert told["least"] < told["mean"] < told["largest"] < 1.0
    (_, plain), (step,) = simulate(replace(small_state, mixture_at_start=None), plan_of(**options))
    assert "stiffening" not in step.mechanics
    assert end.von_mises[end.tumour].mean() < plain.von_mises[end.tumour].mean()


def test_only_the_tumour_follows(small_state):
    """Host and cavity keep their stiffness: nobody's cells are counted there."""
    state = denser(small_state)
    at_rest, _ = deform(state, plan_of())
    operated = resect(at_rest, Operation(1.0, residual=0.5)).state
    factor, reference = stiffening(operated), operated.reference
    for name in ("host", CAVITY):
        assert (factor[reference.elements_of(name)] == 1.0).all()
    kept = operated.tumour
    assert (factor[kept] == stiffening(state)[kept]).all()
    assert factor[kept].min() < 1.0 < factor[kept].max()


def test_a_new_mesh_keeps_the_stiffness(small_state):
    """In the same elements it is the same; in others its mean over the volume stays and nothing exceeds what was."""
    state = rebased(deform(denser(small_state), plan_of())[0])
    before = stiffening(state)
    mesh = state.reference
    same = moved_to(state, mesh, carry(mesh, mesh))
    assert stiffening(same) == pytest.approx(before, rel=1e-12)
    inner = np.ones(len(mesh.points), dtype=bool)
    for name in ("host", "tumour"):
        inner[mesh.surface_of(name)] = False
    shaken = mesh.points + 0.2 * inner[:, None] * np.random.default_rng(2).uniform(-1.0, 1.0, mesh.points.shape)
    other = replace(mesh, points=shaken)
    after = stiffening(moved_to(state, other, carry(other, mesh)))
    for name in ("host", "tumour"):
        there = mesh.elements_of(name)
        assert other.volumes[there] @ after[there] == pytest.approx(mesh.volumes[there] @ before[there], rel=1e-9)
        assert before[there].min() - 1e-12 <= after[there].min()
        assert after[there].max() <= before[there].max() + 1e-12
