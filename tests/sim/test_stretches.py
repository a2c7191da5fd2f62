"""Growth as a tensor, and what a body remembers from before its mesh was made."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from scipy.linalg import expm, sqrtm
from scipy.optimize import brentq

from oncoscale.core.errors import SolverFault
from oncoscale.meshing.mesh import TumourMesh
from oncoscale.sim.assembly import Assembly
from oncoscale.sim.equilibrium import Equilibrium
from oncoscale.sim.growth import grow
from oncoscale.sim.shapes import ball_octant, cube
from oncoscale.sim.stretches import between, exponential, fibre_growth, logarithm, relaxed_volume, tensors_of
from oncoscale.sim.tissue import DEFAULT_MATERIALS, TUMOUR, Material, Springs, springs_of

FREE = Springs(0.0)
TABLE = Material(5.0, 0.45)


def symmetric_planes(mesh: TumourMesh) -> np.ndarray:
    """The planes x, y, z = 0 of an octant hold their own normal displacement."""
    return np.abs(mesh.points) < 1e-9


def along(direction: tuple[float, float, float], log: float, count: int) -> np.ndarray:
    """(count, 3, 3) growth along one direction, the same everywhere."""
    return fibre_growth(np.tile(direction, (count, 1, 1)), np.full((count, 1), log))


@pytest.fixture(scope="module")
def octant():
    """A ball in a shell whose ball has grown along a fibre and, a little, in all directions."""
    mesh = ball_octant((1.0, 3.0), (2, 3))
    fibres = along((1.0, 1.0, 0.0), 0.12, len(mesh.tetrahedra))
    return mesh, np.where((mesh.region == 2)[:, None, None], 1.03 * fibres, np.eye(3))


settle = partial(grow, materials=DEFAULT_MATERIALS, springs=FREE, max_log_increment=0.1, tolerance=1e-12)


def test_fibres_stretch_what_lies_along_them():
    """exp(sum theta n n^T): each orthogonal direction by its own stretch, the volume by exp of their sum."""
    random = np.random.default_rng(1)
    directions = np.linalg.qr(random.standard_normal((5, 3, 3)))[0]
    logs = 0.3 * random.standard_normal((5, 3))
    growth = fibre_growth(2.0 * directions, logs)
    assert np.allclose(growth @ np.swapaxes(directions, 1, 2), np.swapaxes(np.exp(logs)[..., None] * directions, 1, 2))
    assert relaxed_volume(growth) == pytest.approx(np.exp(logs.sum(axis=1)), rel=1e-13)
    slanted = fibre_growth(random.standard_normal((1, 2, 3)), logs[:1, :2])
    assert np.allclose(slanted[0], expm(logarithm(slanted)[0]))


def test_growth_goes_evenly_from_one_tensor_to_another():
    """On the way the logarithm changes at an even pace, as that of one stretch does."""
    random = np.random.default_rng(2)
    one, other = (fibre_growth(random.standard_normal((4, 2, 3)), 0.2 * random.random((4, 2))) for _ in range(2))
    assert np.allclose(exponential(logarithm(one)), one, rtol=1e-14)
    assert np.allclose(between(one, other, 0.0), one)
    assert np.allclose(between(one, other, 1.0), other)
    even = np.array([0.8, 1.0, 1.3]), np.array([1.2, 0.9, 1.3])
    assert np.allclose(between(*(tensors_of(g) for g in even), 0.3), tensors_of(between(*even, 0.3)), rtol=1e-14)


def test_a_tensor_alike_in_all_directions_is_a_stretch(octant):
    """Fg = g I as a tensor has the residual, the tangent and the equilibrium of the stretch g."""
    mesh, _ = octant
    assembly = Assembly.of(mesh, DEFAULT_MATERIALS)
    random = np.random.default_rng(3)
    state = (
        0.03 * random.standard_normal(mesh.points.shape),
        random.standard_normal(len(assembly.pattern.pressure_node)),
    )
    stretch = 1.0 + 0.2 * random.random(len(mesh.tetrahedra))
    for one, other in zip(assembly.residual(*state, stretch), assembly.residual(*state, tensors_of(stretch))):
        assert np.allclose(one, other, rtol=1e-12, atol=1e-13)
    one, other = (assembly.tangent(*state, growth).whole() for growth in (stretch, tensors_of(stretch)))
    assert abs(one - other).max() < 1e-12 * abs(one).max()
    grown = np.where(mesh.region == 2, 1.1, 1.0)
    one, other = (settle(mesh, g, held=symmetric_planes(mesh)) for g in (grown, tensors_of(grown)))
    assert np.allclose(one.displacement, other.displacement, atol=1e-12)
    assert np.allclose(one.stress, other.stress, atol=1e-11)
    assert other.strain_energy == pytest.approx(one.strain_energy, rel=1e-11)


def test_free_growth_along_fibres_leaves_no_stress():
    """A free body that grows alike everywhere, not in all directions, takes the shape Fg and carries no stress."""
    mesh = cube(3, shake=0.2)
    growth = fibre_growth(
        np.tile([[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]], (len(mesh.tetrahedra), 1, 1)),
        np.tile([0.2, -0.1], (len(mesh.tetrahedra), 1)),
    )
    held = np.zeros(mesh.points.shape, dtype=bool)
    for place, axes in zip(np.eye(4, 3, -1), ([0, 1, 2], [1, 2], [2], [])):  # three, two, one: no rigid motion
        held[int(np.argmin(np.linalg.norm(mesh.points - place, axis=1))), axes] = True
    found = settle(mesh, growth, held=held)
    shape = mesh.points + found.displacement
    stretched = np.linalg.lstsq(mesh.points, shape, rcond=None)[0].T
    assert np.allclose(stretched.T @ stretched, growth[0].T @ growth[0], atol=1e-8)
    assert found.volume_ratio == pytest.approx(np.exp(0.1), rel=1e-9)
    assert np.abs(found.stress).max() < 1e-9 * TUMOUR.shear


@pytest.mark.parametrize("log", [0.1, -0.15])
def test_growth_across_the_only_way_out(log):
    """Held along x and y, free along z, grown along x only: Fe = diag(1/g, 1, l), l where the stress along z is nil."""
    mesh = cube(2, shake=0.2)
    held = np.stack([sides(mesh, 0), sides(mesh, 1), mesh.points[:, 2] < 1e-9], axis=1)
    found = settle(mesh, along((1.0, 0.0, 0.0), log, len(mesh.tetrahedra)), materials={"tumour": TABLE}, held=held)

    def stress(length: float) -> np.ndarray:
        stretches = np.array([np.exp(-log), 1.0, length]) ** 2
        volume = length * np.exp(-log)
        return TABLE.shear * volume ** (-5 / 3) * (stretches - stretches.mean()) + TABLE.bulk * (volume - 1.0)

    length = brentq(lambda z: stress(z)[2], 0.5, 2.0, xtol=1e-14)
    assert 1.0 + found.displacement[mesh.points[:, 2] > 1 - 1e-9, 2] == pytest.approx(length, abs=1e-9)
    assert np.allclose(found.stress, np.diag(stress(length)), atol=1e-8)


def sides(mesh: TumourMesh, axis: int) -> np.ndarray:
    """(nodes,) True on the two faces of a unit cube across one axis."""
    x = mesh.points[:, axis]
    return (x < 1e-9) | (x > 1.0 - 1e-9)


def test_growth_along_the_only_way_out_leaves_no_stress():
    """Held along x and y, free along z, grown along z only: z takes all of the growth and nothing is stressed."""
    mesh = cube(2, shake=0.2)
    held = np.stack([sides(mesh, 0), sides(mesh, 1), mesh.points[:, 2] < 1e-9], axis=1)
    found = settle(mesh, along((0.0, 0.0, 1.0), 0.2, len(mesh.tetrahedra)), held=held)
    assert 1.0 + found.displacement[mesh.points[:, 2] > 1 - 1e-9, 2] == pytest.approx(np.exp(0.2), rel=1e-10)
    assert np.abs(found.stress).max() < 1e-9


def test_newton_is_quadratic_for_tensor_growth(octant):
    """Each step squares the error, as it does with the exact derivative alone."""
    mesh, growth = octant
    found = settle(mesh, growth, held=symmetric_planes(mesh), max_log_increment=1.0)
    before, after = np.array(found.increments[0].residuals[1:-1]), np.array(found.increments[0].residuals[2:])
    assert len(after) >= 2
    assert (after < 10.0 * before**2 + 1e-12).all()


def remembering(mesh: TumourMesh, found: Equilibrium, elastic: np.ndarray | None = None) -> Equilibrium:
    """The equilibrium of a mesh made of the deformed body, node by node."""
    return settle(
        mesh.moved(found.displacement),
        np.ones(len(mesh.tetrahedra)),
        held=symmetric_planes(mesh),
        remembered=found.elastic if elastic is None else elastic,
    )


def test_a_mesh_made_of_the_stressed_body_keeps_its_stress(octant):
    """Same mesh, nothing interpolated: nothing moves, stress and energy stay, also when only b_e is remembered."""
    mesh, growth = octant
    found = settle(mesh, growth, held=symmetric_planes(mesh))
    assert np.abs(found.stress).max() > 0.1
    roots = np.array([np.real(sqrtm(fe @ fe.T)) for fe in found.elastic])
    for elastic in (None, roots):
        again = remembering(mesh, found, elastic)
        assert np.abs(again.displacement).max() < 1e-10
        assert np.allclose(again.stress, found.stress, atol=1e-10)
        assert again.strain_energy == pytest.approx(found.strain_energy, rel=1e-10)
        assert np.allclose(again.pressure, found.pressure, atol=1e-10)


def test_growth_goes_on_from_a_new_mesh_as_from_the_old_one(octant):
    """Growth after the change of mesh ends where growth without it ends: the body forgot nothing."""
    mesh, growth = octant
    held = symmetric_planes(mesh)
    middle = settle(mesh, growth, held=held)
    further = np.where(mesh.region == 2, 1.08, 1.0)
    straight = settle(mesh, further[:, None, None] * growth, held=held)
    moved = mesh.moved(middle.displacement)
    onwards = settle(moved, further, held=held, remembered=middle.elastic)
    assert np.allclose(moved.points + onwards.displacement, mesh.points + straight.displacement, atol=1e-10)
    assert np.allclose(onwards.stress, straight.stress, atol=1e-9)
    assert np.allclose(middle.volume_ratio * onwards.volume_ratio, straight.volume_ratio, rtol=1e-10)


def test_springs_remember_how_they_pull():
    """A new mesh whose springs start slack gives way at once; with the pull that they had it stays as it is."""
    mesh = ball_octant((10.0, 30.0), (2, 3))
    found = grow(mesh, np.where(mesh.region == 2, 1.1, 1.0), DEFAULT_MATERIALS, springs=springs_of(), tolerance=1e-11)
    again = partial(
        grow, mesh.moved(found.displacement), np.ones(len(mesh.tetrahedra)), DEFAULT_MATERIALS,
        springs=springs_of(), remembered=found.elastic, tolerance=1e-11,
    )  # fmt: skip
    assert np.abs(again().displacement).max() > 1e-2
    kept = again(pulled=found.pull)
    assert np.abs(kept.displacement).max() < 1e-9
    assert np.allclose(kept.pull, found.pull, atol=1e-8)
    assert np.allclose(kept.stress, found.stress, atol=1e-9)


def test_impossible_tensors_and_memories_are_refused_with_their_elements():
    """A growth that is not symmetric and positive, or a memory that is inside out, is refused and its element named."""
    mesh = cube(2)
    count = len(mesh.tetrahedra)
    for wrong in (np.diag([1.0, -1.0, 1.0]), np.array([[1.0, 0.2, 0], [0, 1, 0], [0, 0, 1]]), np.full((3, 3), np.nan)):
        growth = tensors_of(np.ones(count))
        growth[11] = wrong
        with pytest.raises(SolverFault, match="11"):
            grow(mesh, growth, DEFAULT_MATERIALS, springs=springs_of())
    for wrong in (np.diag([1.0, -1.0, 1.0]), np.full((3, 3), np.inf)):
        memory = tensors_of(np.ones(count))
        memory[7] = wrong
        with pytest.raises(SolverFault, match="7"):
            grow(mesh, np.ones(count), DEFAULT_MATERIALS, springs=springs_of(), remembered=memory)
