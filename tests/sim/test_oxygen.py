"""Oxygen against closed forms: balance on coarse meshes, profiles on fine ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from oncoscale.core.errors import SolverFault
from oncoscale.meshing.mesh import TumourMesh
from oncoscale.sim.oxygen import (
    BLOOD_OXYGEN,
    HALF_OXYGEN,
    demand_of,
    exchange_rate,
    local_balance,
    solve_oxygen,
    supply_for,
)
from oncoscale.sim.shapes import ball_octant, cube

# Zero-order uptake in a spheroid of HCT116 cells [Grimes et al. 2014, doi 10.1098/rsif.2013.1124].
SPHEROID_DIFFUSIVITY = 2e-9 * 1e6 * 86400.0
SPHEROID_UPTAKE = 22.10 * 86400.0
SPHEROID_SURFACE = 100.0


def every(mesh: TumourMesh, value: float) -> np.ndarray:
    """The same value in every element."""
    return np.full(len(mesh.tetrahedra), value)


def radius(mesh: TumourMesh) -> np.ndarray:
    """(nodes,) distance from the centre."""
    return np.linalg.norm(mesh.points, axis=1)


def on_surface(mesh: TumourMesh, value: float) -> np.ndarray:
    """Nodes of the outermost sphere held at a value."""
    return np.where(radius(mesh) > radius(mesh).max() * (1 - 1e-9), value, np.nan)


def l2(mesh: TumourMesh, nodes: np.ndarray) -> float:
    """Root mean square over the volume."""
    weight = np.bincount(mesh.tetrahedra.ravel(), np.repeat(mesh.volumes / 4.0, 4))
    return float(np.sqrt(np.average(nodes**2, weights=weight)))


def spheroid(outer: float, layers: int, half: float):
    """A spheroid without vessels whose surface is held at 100 mmHg, and its mesh."""
    mesh = ball_octant((outer,), (layers,))
    return mesh, solve_oxygen(
        mesh,
        every(mesh, 0.0),
        every(mesh, SPHEROID_UPTAKE),
        half=half,
        diffusivity=SPHEROID_DIFFUSIVITY,
        held=on_surface(mesh, SPHEROID_SURFACE),
    )


def test_uniform_supply_equal_to_uptake_gives_uniform_oxygen():
    """Where every element balances at 20 mmHg diffusion has nothing to do, however the demand varies."""
    mesh = cube(4, side=12.0, shake=0.2)
    demand = demand_of(0.2 + 0.6 * np.random.default_rng(1).random(len(mesh.tetrahedra)))
    found = solve_oxygen(mesh, supply_for(20.0, demand), demand)
    assert found.nodes == pytest.approx(20.0, rel=1e-10)
    assert found.elements == pytest.approx(20.0, rel=1e-10)


def test_coarse_elements_balance_their_own_supply_and_uptake():
    """In 3 mm elements, many diffusion lengths wide, each rests close to its own balance; books close to 1e-9."""
    mesh = cube(6, side=18.0, shake=0.2)
    random = np.random.default_rng(2)
    demand = demand_of(0.3 + 0.5 * random.random(len(mesh.tetrahedra)))
    target = np.exp(random.uniform(np.log(2.0), np.log(40.0), len(demand)))
    found = solve_oxygen(mesh, supply_for(target, demand), demand)
    assert np.median(np.abs(np.log(found.elements / target))) < 0.05
    assert np.abs(np.log(found.elements / target)).max() < 0.25
    assert found.balance.error < 1e-9
    assert found.balance.inflow == 0.0
    assert found.balance.uptake > 0.0


def test_region_without_vessels_is_anoxic_and_never_negative():
    """A core of 20 mm without supply has next to no oxygen inside; nothing is negative; the host keeps its own."""
    mesh = ball_octant((20.0, 40.0), (4, 4))
    demand = demand_of(np.where(mesh.region == 2, 0.7, 0.2))
    supply = np.where(mesh.region == 2, 0.0, supply_for(40.0, demand))
    found = solve_oxygen(mesh, supply, demand)
    assert found.nodes.min() >= 0.0
    assert found.elements.min() >= 0.0
    assert found.elements[mesh.region == 2].max() < 0.5
    assert np.median(found.elements[mesh.region == 1]) == pytest.approx(40.0, abs=1.0)
    assert found.balance.error < 1e-9


@pytest.mark.parametrize("half", [0.0, 1.2])
def test_obtuse_elements_do_not_make_oxygen_negative(half):
    """In sheared elements diffusion alone would push oxygen uphill: it stays positive, books closed, on record."""
    mesh = cube(5)
    held = np.where(mesh.points[:, 0] < 1e-9, 70.0, np.nan)
    mesh = replace(mesh, points=mesh.points + mesh.points[:, 2:] * np.array([1.0, 1.0, 0.0]))
    found = solve_oxygen(mesh, every(mesh, 0.0), every(mesh, 1e5), half=half, held=held)
    assert found.limited > 0
    assert found.nodes.min() >= 0.0
    assert found.elements.min() >= 0.0
    assert found.balance.error < 1e-9


def test_spheroid_with_zero_order_uptake_converges_with_second_order():
    """Radius 200 um: p = p0 - a (r_o² - r²)/(6 D) to order 1.9, centre within 0.5 mmHg, inflow = uptake to 1e-9."""
    errors = []
    for layers in (4, 8, 16):
        mesh, found = spheroid(0.2, layers, half=0.0)
        exact = SPHEROID_SURFACE - SPHEROID_UPTAKE * (0.2**2 - radius(mesh) ** 2) / (6.0 * SPHEROID_DIFFUSIVITY)
        errors.append(l2(mesh, found.nodes - exact))
        assert found.balance.error < 1e-9
        assert found.balance.uptake == pytest.approx(SPHEROID_UPTAKE * mesh.volumes.sum(), rel=1e-12)
    assert np.log2(np.array(errors[:-1]) / errors[1:]).min() > 1.9
    assert found.nodes[0] == pytest.approx(26.333, abs=0.5)


def test_elements_of_a_fine_mesh_hold_their_mean():
    """On a fine mesh the element values are the means of the quadratic profile, as the exchange rate promises."""
    mesh, found = spheroid(0.2, 8, half=0.0)
    nodes = mesh.points[mesh.tetrahedra]
    centred = nodes - nodes.mean(axis=1, keepdims=True)
    below = SPHEROID_UPTAKE / exchange_rate(mesh.points, mesh.tetrahedra, SPHEROID_DIFFUSIVITY)
    quadratic = SPHEROID_UPTAKE / (6.0 * SPHEROID_DIFFUSIVITY) * np.einsum("eai,eai->e", centred, centred) / 5.0
    assert below == pytest.approx(quadratic, rel=1e-12)
    assert found.elements == pytest.approx(found.nodes[mesh.tetrahedra].mean(axis=1) - below, rel=1e-9)


def test_anoxic_core_has_the_radius_of_the_free_boundary():
    """Radius 300 um: oxygen ends at 129.2 um, found where sqrt(p) extrapolates to zero, within 1.5 % of the radius."""
    mesh, found = spheroid(0.3, 20, half=0.0)
    shells = np.round(radius(mesh) / 0.015).astype(int)
    profile = np.bincount(shells, found.nodes) / np.bincount(shells)
    first = int(np.argmax(profile > 1e-3 * SPHEROID_SURFACE))
    r, root = 0.015 * np.arange(first, first + 3), np.sqrt(profile[first : first + 3])
    slope, offset = np.polyfit(r, root, 1)
    assert -offset / slope == pytest.approx(0.129203, abs=0.015 * 0.3)


@pytest.mark.parametrize(
    ("half", "centre", "middle", "outer"),
    [(2.5, 30.086, 47.269, 74.539), (1.0, 27.946, 45.819, 73.924), (0.1, 26.503, 44.861, 73.526)],
)
def test_michaelis_menten_spheroid(half, centre, middle, outer):
    """Saturating uptake, radius 200 um: oxygen at 0, 0.5 and 0.8 of the radius."""
    mesh, found = spheroid(0.2, 20, half=half)
    for share, value in ((0.0, centre), (0.5, middle), (0.8, outer)):
        at = np.abs(radius(mesh) - share * 0.2) < 1e-9
        assert found.nodes[at].mean() == pytest.approx(value, abs=0.2)


def test_less_half_saturation_means_less_oxygen():
    """As the half-saturation falls to zero uptake rises everywhere, so oxygen falls to that of zero order."""
    centres = [spheroid(0.2, 8, half=half)[1].nodes[0] for half in (1.0, 0.1, 0.01, 0.0)]
    assert centres == sorted(centres, reverse=True)
    assert centres[2] == pytest.approx(centres[3], abs=0.1)


@pytest.mark.parametrize(("thiele", "centre", "effectiveness"), [(2.0, 0.551441, 0.805972), (5.0, 0.067383, 0.480054)])
def test_first_order_uptake_in_a_sphere(thiele, centre, effectiveness):
    """p/p0 = sinh(phi r)/(r sinh phi), effectiveness 3/phi² (phi coth phi - 1): order 1.9."""
    errors, linear = [], 1e8  # so far below half-saturation uptake is proportional to oxygen
    for layers in (8, 16):
        mesh = ball_octant((1.0,), (layers,))
        found = solve_oxygen(
            mesh,
            every(mesh, 0.0),
            every(mesh, thiele**2 * linear),
            blood=1.0,
            half=linear,
            diffusivity=1.0,
            held=on_surface(mesh, 1.0),
        )
        r = np.maximum(radius(mesh), 1e-9)
        errors.append(l2(mesh, found.nodes - np.sinh(thiele * r) / (r * np.sinh(thiele))))
        assert found.balance.error < 1e-9
    assert np.log2(errors[0] / errors[1]) > 1.9
    assert found.nodes[0] == pytest.approx(centre, abs=0.005)
    assert np.average(found.elements, weights=mesh.volumes) == pytest.approx(effectiveness, rel=0.01)


def test_manufactured_field_on_an_irregular_mesh():
    """P = 30 + 10 cos cos cos on a cube with insulated walls, made by its supply: order 1.9 in nodes and elements."""
    demand, errors = 1000.0, []
    for divisions in (12, 24):
        mesh = cube(divisions, shake=0.1)

        def exact(points):
            return 30.0 + 10.0 * np.cos(np.pi * points).prod(axis=-1)

        centre = exact(mesh.centroids)
        source = demand * centre / (centre + HALF_OXYGEN.value) + 3.0 * np.pi**2 * (centre - 30.0)
        found = solve_oxygen(mesh, source / (BLOOD_OXYGEN.value - centre), every(mesh, demand), diffusivity=1.0)
        elements = np.sqrt(np.average((found.elements - centre) ** 2, weights=mesh.volumes))
        errors.append((l2(mesh, found.nodes - exact(mesh.points)), elements))
    assert np.log2(np.array(errors[0]) / errors[1]).min() > 1.9


def test_renumbering_elements_changes_nothing():
    """The order of the elements has no meaning."""
    mesh = cube(3, side=9.0, shake=0.2)
    random = np.random.default_rng(3)
    demand = demand_of(random.random(len(mesh.tetrahedra)))
    supply = supply_for(15.0, demand[::-1])
    order = random.permutation(len(demand))
    shuffled = replace(mesh, tetrahedra=mesh.tetrahedra[order], region=mesh.region[order])
    one, other = solve_oxygen(mesh, supply, demand), solve_oxygen(shuffled, supply[order], demand[order])
    assert other.elements == pytest.approx(one.elements[order], rel=1e-9)


def test_demand_is_that_of_the_cell_scale():
    """4.7e13 cells/m³ use 1.78 mmHg/s, full density 3.56 mmHg/s: the closure of the cells."""
    assert demand_of(4.7e4 / 9.39e4) / 86400.0 == pytest.approx(1.784, abs=1e-3)
    assert demand_of(1.0) / 86400.0 == pytest.approx(3.565, abs=1e-3)


def test_supply_and_local_balance_are_inverse():
    """The supply for a target oxygen gives that oxygen back, by the same quadratic that the cells use."""
    demand, target = demand_of(0.6), np.array([0.5, 3.0, 20.0, 65.0])
    supply = supply_for(target, demand)
    assert local_balance(supply, demand) == pytest.approx(target, rel=1e-12)
    o50, k = HALF_OXYGEN.value / BLOOD_OXYGEN.value, supply / demand * BLOOD_OXYGEN.value
    b = 1.0 - k * (1.0 - o50)
    assert (-b + np.sqrt(b * b + 4.0 * k * k * o50)) / (2.0 * k) * 72.0 == pytest.approx(target, rel=1e-10)
    assert local_balance(0.0, demand) == 0.0


def test_impossible_numbers_are_refused_with_the_elements_named():
    """Negative or missing supply and demand are refused by element; a tissue that nothing determines is refused."""
    mesh = cube(1)
    wrong = every(mesh, 1.0)
    wrong[4] = -1.0
    with pytest.raises(SolverFault, match=r"supply.*: 4"):
        solve_oxygen(mesh, wrong, every(mesh, 1.0))
    wrong[4] = np.nan
    with pytest.raises(SolverFault, match=r"demand.*: 4"):
        solve_oxygen(mesh, every(mesh, 1.0), wrong)
    with pytest.raises(SolverFault, match="no supply"):
        solve_oxygen(mesh, every(mesh, 0.0), every(mesh, 0.0))
    with pytest.raises(SolverFault, match="below 72 mmHg"):
        supply_for(80.0, 1.0)
