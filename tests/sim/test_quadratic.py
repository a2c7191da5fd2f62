"""The accurate element: the same law, nearer to the truth, on small meshes only."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from oncoscale.core.errors import ConfigurationRejected, SolverFault
from oncoscale.sim import quadratic
from oncoscale.sim.elements import edges_of
from oncoscale.sim.equilibrium import Equilibrium
from oncoscale.sim.growth import grow
from oncoscale.sim.quadratic import (
    CORNERS,
    WEIGHTS,
    QuadraticAssembly,
    QuadraticBody,
    QuadraticEquilibrium,
    grow_quadratic,
    slopes,
)
from oncoscale.sim.settings import ForecastSettings
from oncoscale.sim.shapes import ball_octant, cube
from oncoscale.sim.simulation import deform
from oncoscale.sim.state import TissueState
from oncoscale.sim.tissue import DEFAULT_MATERIALS, Material, Springs, springs_of

FREE = Springs(0.0)
NEARLY = dict.fromkeys(("tumour", "host"), Material(2.9998, 0.4999))


@pytest.fixture(scope="module")
def deformed():
    """A body of two regions, irregularly deformed, grown and under pressure."""
    mesh = ball_octant((1.0, 2.0), (1, 1))
    assembly = QuadraticAssembly.of(mesh, {"tumour": Material(5.0, 0.49), "host": Material(1.5, 0.45)})
    random = np.random.default_rng(3)
    displacement = 0.02 * random.standard_normal((assembly.pattern.node_count, 3))
    pressure = random.standard_normal(len(assembly.pattern.pressure_node))
    return assembly, displacement, pressure, 1.0 + 0.2 * random.random(len(mesh.tetrahedra))


def test_quadrature_and_shapes_are_those_of_degree_four():
    """Weights sum to 1, l1 l2 l3 l4 has its exact mean 3! / 7!, and slopes of the shapes sum to 0 along every edge."""
    assert WEIGHTS.sum() == pytest.approx(1.0, rel=1e-14)
    assert WEIGHTS @ CORNERS.prod(axis=1) == pytest.approx(6.0 / 5040.0, rel=1e-12)
    local = slopes(CORNERS).sum(axis=1)
    assert np.ptp(local, axis=1) == pytest.approx(0.0, abs=1e-13)


def test_tangent_is_symmetric_and_the_derivative_of_the_residual(deformed):
    """Central differences of the residual along a direction equal the tangent times it; an energy stands behind it."""
    assembly, displacement, pressure, stretch = deformed
    random, h = np.random.default_rng(4), 1e-6
    du, dp = random.standard_normal(displacement.shape), random.standard_normal(pressure.shape)
    ahead = assembly.residual(displacement + h * du, pressure + h * dp, stretch)
    behind = assembly.residual(displacement - h * du, pressure - h * dp, stretch)
    slope = np.concatenate([(a - b).ravel() / (2 * h) for a, b in zip(ahead, behind)])
    matrix = assembly.tangent(displacement, pressure, stretch)
    product = matrix.operator()(np.concatenate([du.ravel(), dp]))
    assert np.abs(product - slope).max() < 1e-8 * np.abs(slope).max()
    whole = matrix.whole().toarray()
    assert np.abs(whole - whole.T).max() < 1e-14 * np.abs(whole).max()


def test_groups_of_elements_do_not_change_the_answer(deformed, monkeypatch):
    """Working through the elements in small groups gives the same residual and tangent, bit for bit."""
    assembly, *state = deformed
    once = (*assembly.residual(*state), assembly.tangent(*state).uu.data)
    monkeypatch.setattr(quadratic, "AT_ONCE", 5)
    again = (*assembly.residual(*state), assembly.tangent(*state).uu.data)
    assert all(np.array_equal(a, b) for a, b in zip(once, again))


def test_a_grown_ball_is_nearer_to_the_truth_than_with_the_default_element():
    """Growth by 1.2 in a free shell of thrice the radius, nu 0.4999: stress within 2 %, a tenth of the error."""
    mesh = ball_octant((1.0, 3.0), (2, 2))
    core = mesh.region == 2
    stretch = np.where(core, 1.2, 1.0)
    errors = []
    for solve in (grow, grow_quadratic):
        found = solve(mesh, stretch, NEARLY, springs=FREE, held=np.abs(mesh.points) < 1e-9, max_log_increment=0.2)
        errors.append(np.average(found.mean_stress[core], weights=mesh.volumes[core]) / -0.557023 - 1.0)
    assert abs(errors[1]) < 0.02
    assert abs(errors[1]) < 0.1 * abs(errors[0])


@pytest.mark.parametrize("stretch", [1.3, 0.8])
def test_free_growth_leaves_no_stress(stretch):
    """A free body that grows or shrinks evenly has J = g³ and no stress; middles of edges stay in the middle."""
    mesh = cube(2, shake=0.2)
    found = grow_quadratic(
        mesh,
        np.full(len(mesh.tetrahedra), stretch),
        DEFAULT_MATERIALS,
        springs=FREE,
        held=np.abs(mesh.points) < 1e-9,
        max_log_increment=0.3,
        tolerance=1e-13,
    )
    assert found.volume_ratio == pytest.approx(stretch**3, rel=1e-10)
    assert np.abs(found.stress).max() < 1e-10 * DEFAULT_MATERIALS["tumour"].shear
    assert found.strain_energy == pytest.approx(0.0, abs=1e-10)
    ends, _ = edges_of(mesh.tetrahedra)
    assert found.middles == pytest.approx(found.displacement[ends].mean(axis=1), abs=1e-12)


def test_springs_resist_as_the_default_elements_do():
    """A cube between springs that grows evenly: both elements agree on how far its walls move."""
    mesh = cube(2, side=10.0)
    moved = [
        np.abs(solve(mesh, np.full(48, 1.1), DEFAULT_MATERIALS, springs=springs_of()).displacement).max()
        for solve in (grow, grow_quadratic)
    ]
    assert moved[1] == pytest.approx(moved[0], rel=0.02)


def test_an_inner_edge_between_held_walls_is_free():
    """The middle of an edge is held where the edge lies on the surface, not where it only joins held nodes."""
    mesh = cube(1)
    body = QuadraticBody.of(mesh, DEFAULT_MATERIALS, FREE, np.ones((8, 3), dtype=bool))
    middle = np.abs(body.points - 0.5).max(axis=1) < 1e-9
    assert body.free[middle].tolist() == [[1.0, 1.0, 1.0]]
    assert body.free.sum() == 3.0


@pytest.mark.parametrize(("element", "kind"), [("p1", Equilibrium), ("p2p1", QuadraticEquilibrium)])
def test_a_forecast_takes_the_element_that_its_settings_name(element, kind):
    """The tissue of a forecast moves by the element asked for; the default is the linear one."""
    mesh = ball_octant((10.0, 20.0), (1, 1))
    nothing = np.zeros(len(mesh.tetrahedra))
    state = TissueState(
        0.0, mesh, 0.0 * mesh.points, np.where(mesh.region == 2, 1.05, 1.0), np.zeros((48, 6)), *3 * [nothing]
    )
    settings = ForecastSettings(element=element)
    plan: Any = SimpleNamespace(
        settings=settings, ground=None, materials=DEFAULT_MATERIALS, springs=springs_of(), arrays=None
    )
    moved, told = deform(state, plan)
    assert type(moved.equilibrium) is kind
    assert moved.displacement.shape == mesh.points.shape
    assert told["residual"] < 1e-8
    assert ForecastSettings().element == "p1"


def test_large_meshes_and_impossible_growth_are_refused(monkeypatch):
    """A mesh above the limit is refused with its size and what to do; a stretch that is no number names its element."""
    mesh = cube(2)
    growth = np.ones(48)
    monkeypatch.setattr(quadratic, "MOST_ELEMENTS", 47)
    with pytest.raises(ConfigurationRejected, match=r"48 elements.*at most 47.*p1"):
        grow_quadratic(mesh, growth, DEFAULT_MATERIALS, springs=springs_of())
    growth[11] = np.nan
    with pytest.raises(SolverFault, match="11"):
        grow_quadratic(mesh, growth, DEFAULT_MATERIALS, springs=springs_of())
    turned = replace(mesh, tetrahedra=mesh.tetrahedra[:, [0, 2, 1, 3]])
    monkeypatch.setattr(quadratic, "MOST_ELEMENTS", 48)
    with pytest.raises(SolverFault, match="no positive volume"):
        grow_quadratic(turned, np.ones(48), DEFAULT_MATERIALS, springs=springs_of())
