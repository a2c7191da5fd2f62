"""Interstitial fluid against closed forms of Baxter and Jain 1989."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from oncoscale.core.errors import SolverFault
from oncoscale.meshing.mesh import TumourMesh
from oncoscale.sim.interstitial import FLUIDS, HOST_FLUID, TUMOUR_FLUID, Fluid, fluid_in, solve_fluid
from oncoscale.sim.settings import ForecastSettings
from oncoscale.sim.shapes import ball_octant, cube
from oncoscale.sim.start import start_from

RIM = np.sqrt(TUMOUR_FLUID.conductivity / TUMOUR_FLUID.filtration)


def ball(radii: tuple[float, ...], layers: tuple[int, ...], tumour: float) -> TumourMesh:
    """An octant whose elements within a radius are tumour, the others host."""
    mesh = ball_octant(radii, layers)
    farthest = np.linalg.norm(mesh.points, axis=1)[mesh.tetrahedra].max(axis=1)
    return replace(mesh, region=np.where(farthest <= tumour * (1 + 1e-9), 2, 1))


def at_surface(mesh: TumourMesh) -> np.ndarray:
    """0 at the nodes of the outermost sphere."""
    radius = np.linalg.norm(mesh.points, axis=1)
    return np.where(radius > radius.max() * (1 - 1e-9), 0.0, np.nan)


def isolated(x: np.ndarray, alpha: float) -> np.ndarray:
    """Pressure over the effective one in a sphere whose surface is free; x = r/R."""
    inside = np.maximum(x, 1e-9)
    return 1.0 - np.sinh(alpha * inside) / (inside * np.sinh(alpha))


@pytest.mark.parametrize(("radius", "tolerance"), [(0.5, 0.005), (10.0, 0.02)])
def test_a_free_sphere_has_the_closed_form(radius, tolerance):
    """A small sphere (1.8 rims) never reaches the effective pressure; a large one (37 rims) does but in its rim."""
    if radius < 1.0:
        mesh = ball((radius,), (8,), radius)
    else:
        mesh = ball((0.88 * radius, radius), (3, 11), radius)
    field = solve_fluid(mesh, held=at_surface(mesh))
    x, alpha = np.linalg.norm(mesh.points, axis=1) / radius, radius / RIM
    assert np.abs(field.nodes / TUMOUR_FLUID.effective - isolated(x, alpha)).max() < tolerance
    slope = alpha / np.tanh(alpha) - 1.0
    through = TUMOUR_FLUID.conductivity * TUMOUR_FLUID.effective / radius * slope * 4.0 * np.pi * radius**2 / 8.0
    assert field.balance.outflow == pytest.approx(through, rel=0.02)
    assert field.balance.error < 1e-10


def test_the_pressure_converges_at_second_order():
    """Halving the elements of a small sphere divides the error of its pressure by about four."""
    errors = []
    for layers in (4, 8, 16):
        mesh = ball((0.5,), (layers,), 0.5)
        field = solve_fluid(mesh, held=at_surface(mesh))
        truth = isolated(np.linalg.norm(mesh.points, axis=1) / 0.5, 0.5 / RIM)
        weight = np.bincount(mesh.tetrahedra.ravel(), np.repeat(mesh.volumes / 4.0, 4))
        errors.append(np.sqrt(np.average((field.nodes / TUMOUR_FLUID.effective - truth) ** 2, weights=weight)))
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert orders[-1] == pytest.approx(2.0, abs=0.3)


def test_a_host_holds_the_rim_up():
    """In a host whose vessels have their own effective pressure the tumour's surface is where both flows agree."""
    host = Fluid(HOST_FLUID.conductivity, HOST_FLUID.filtration, 6.5)
    radius, rim = 10.0, np.sqrt(host.conductivity / host.filtration)
    mesh = ball((9.0, 10.0, 12.2, 18.0), (2, 4, 5, 3), radius)
    field = solve_fluid(mesh, {"tumour": TUMOUR_FLUID, "host": host})
    a, b = radius / RIM, radius / rim
    inner, outer = TUMOUR_FLUID.conductivity * (a / np.tanh(a) - 1.0), host.conductivity * (1.0 + b)
    surface = (inner * TUMOUR_FLUID.effective + outer * host.effective) / (inner + outer)
    assert surface == pytest.approx(11.025, abs=1e-3)
    far = np.linalg.norm(mesh.points, axis=1)
    assert field.nodes[np.abs(far - radius) < 1e-9].mean() == pytest.approx(surface, rel=0.005)
    x = far[far > radius] / radius
    truth = host.effective + (surface - host.effective) * np.exp(-b * (x - 1.0)) / x
    assert np.abs(field.nodes[far > radius] - truth).max() < 0.02 * surface
    assert field.balance.error < 1e-9


def test_a_drained_host_rests_where_lymph_keeps_it():
    """Host alone, drained to its resting pressure, is everywhere at it, and lymph takes what vessels give."""
    mesh = replace(cube(3, side=12.0), region=np.ones(162, dtype=np.int64))
    field = solve_fluid(mesh, {"tumour": TUMOUR_FLUID, "host": Fluid.drained_to(-2.0, HOST_FLUID)})
    assert field.nodes == pytest.approx(-2.0, abs=1e-9)
    assert field.balance.drained == pytest.approx(field.balance.filtered)
    assert np.abs(field.velocity).max() < 1e-9


def test_elements_without_vessels_take_the_pressure_around_them():
    """Necrotic elements neither filter nor drain: inside a tumour they rest at its pressure."""
    mesh = cube(4, side=12.0)
    vessels = np.ones(len(mesh.tetrahedra))
    vessels[np.linalg.norm(mesh.centroids - 6.0, axis=1) < 3.0] = 0.0
    field = solve_fluid(mesh, vessels=vessels)
    assert field.elements == pytest.approx(TUMOUR_FLUID.effective, rel=1e-9)


def test_swelling_tissue_takes_up_fluid():
    """What a closed tissue gains in volume is what its vessels lose more; the books hold it."""
    mesh, rate = cube(3, side=9.0), 0.05
    field = solve_fluid(mesh, swelling=np.full(len(mesh.tetrahedra), rate))
    assert field.elements == pytest.approx(TUMOUR_FLUID.effective - rate / TUMOUR_FLUID.filtration, rel=1e-9)
    assert field.balance.taken == pytest.approx(rate * mesh.volumes.sum())
    assert field.balance.error < 1e-9


def test_a_forecast_holds_the_fluid_and_nothing_else_moves(small_mesh, small_fields):
    """Core at the effective pressure, host near where lymph keeps it, dead tissue no source; oxygen bit for bit."""
    with_fluid = start_from(small_mesh, small_fields, ForecastSettings())
    without = start_from(small_mesh, small_fields, ForecastSettings(fluid=False))
    assert without.fluid is None
    assert np.array_equal(with_fluid.oxygen, without.oxygen)
    tumour = with_fluid.tumour
    assert 0.5 * TUMOUR_FLUID.effective < with_fluid.fluid[tumour].max() <= 1.005 * TUMOUR_FLUID.effective
    assert with_fluid.fluid_pressure.min() >= -0.005 * TUMOUR_FLUID.effective
    dead = replace(with_fluid, supply=np.where(np.isin(np.arange(len(with_fluid.supply)), tumour), 0.0, 1.0))
    assert fluid_in(dead).elements[tumour].max() < 0.1


@pytest.mark.parametrize(
    ("fluids", "found"),
    [
        ({"host": HOST_FLUID}, "tumour"),
        ({"host": HOST_FLUID, "tumour": replace(TUMOUR_FLUID, conductivity=0.0)}, "conductivity"),
        ({"host": HOST_FLUID, "tumour": replace(TUMOUR_FLUID, filtration=float("nan"))}, "filtration"),
        (dict.fromkeys(FLUIDS, Fluid(1.0, 0.0, 0.0)), "no vessels"),
    ],
)
def test_impossible_tissue_is_refused(fluids, found):
    """A region without a fluid, numbers that cannot be, and a level that nothing determines are told."""
    with pytest.raises(SolverFault, match=found):
        solve_fluid(cube(2), fluids)
