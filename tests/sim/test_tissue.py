"""The tissue law, and the project's own assembly of it against scikit-fem's."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from oncoscale.core.errors import ConfigurationRejected
from oncoscale.sim.assembly import Assembly
from oncoscale.sim.shapes import ball_octant, cube
from oncoscale.sim.tissue import (
    DEFAULT_MATERIALS,
    HOST,
    TUMOUR,
    Deformation,
    Material,
    cauchy,
    energy,
    moduli,
    piola,
    piola_change,
    springs_of,
)
from oncoscale.sim.yardstick import Yardstick


@pytest.fixture(scope="module")
def deformed():
    """A body of two regions, irregularly deformed, grown and under pressure."""
    mesh = ball_octant((1.0, 2.0), (2, 2))
    assembly = Assembly.of(mesh, {"tumour": Material(5.0, 0.49), "host": Material(1.5, 0.45)})
    random = np.random.default_rng(3)
    displacement = 0.03 * random.standard_normal(mesh.points.shape)
    pressure = random.standard_normal(len(assembly.pattern.pressure_node))
    stretch = 1.0 + 0.2 * random.random(len(mesh.tetrahedra))
    return mesh, assembly, displacement, pressure, stretch


def relative(found, expected):
    """Largest difference over largest value."""
    return np.abs(found - expected).max() / np.abs(expected).max()


def test_assembly_agrees_with_scikit_fem(deformed):
    """Our numba assembly and scikit-fem's forms of the same law give the same residual and tangent to 1e-12."""
    mesh, assembly, *state = deformed
    yardstick = Yardstick.of(mesh, assembly)
    for own, theirs in zip(assembly.residual(*state), yardstick.residual(*state)):
        assert relative(own, theirs) < 1e-12
    own, theirs = assembly.tangent(*state), yardstick.tangent(*state)
    for block in ("uu", "pu", "pp"):
        assert relative(getattr(own, block).toarray(), getattr(theirs, block).toarray()) < 1e-12


def test_tangent_is_the_derivative_of_the_residual(deformed):
    """Central differences of the residual along a direction equal the tangent times that direction."""
    _, assembly, displacement, pressure, stretch = deformed
    random = np.random.default_rng(4)
    du, dp = random.standard_normal(displacement.shape), random.standard_normal(pressure.shape)
    h = 1e-6
    ahead = assembly.residual(displacement + h * du, pressure + h * dp, stretch)
    behind = assembly.residual(displacement - h * du, pressure - h * dp, stretch)
    difference = np.concatenate([(a - b).ravel() / (2 * h) for a, b in zip(ahead, behind)])
    matrix = assembly.tangent(displacement, pressure, stretch)
    product = matrix.operator()(np.concatenate([du.ravel(), dp]))
    assert relative(product, difference) < 1e-8


def test_tangent_is_symmetric(deformed):
    """A stored energy stands behind the law, so its tangent is symmetric."""
    whole = deformed[1].tangent(*deformed[2:]).whole().toarray()
    assert relative(whole, whole.T) < 1e-14


def test_free_growth_is_free_of_stress():
    """A body that grows evenly, then turns, carries no stress: the residual vanishes."""
    mesh = cube(3, shake=0.2)
    assembly = Assembly.of(mesh, DEFAULT_MATERIALS)
    stretch = np.full(len(mesh.tetrahedra), 1.3)
    turn = Rotation.from_rotvec([0.3, -0.5, 0.4]).as_matrix()
    for rotation in (np.eye(3), turn):
        displacement = mesh.points @ (1.3 * rotation).T - mesh.points
        forces, volumes = assembly.residual(displacement, np.zeros(len(assembly.pattern.pressure_node)), stretch)
        assert np.abs(forces).max() < 1e-14 * TUMOUR.shear
        assert np.abs(volumes).max() < 1e-14


def test_turning_a_stressed_body_turns_its_forces(deformed):
    """Rigid rotation changes no stress: forces turn with the body, volumes stay."""
    mesh, assembly, displacement, pressure, stretch = deformed
    turn = Rotation.from_rotvec([0.3, -0.5, 0.4]).as_matrix()
    turned = (mesh.points + displacement) @ turn.T - mesh.points
    forces, volumes = assembly.residual(displacement, pressure, stretch)
    turned_forces, turned_volumes = assembly.residual(turned, pressure, stretch)
    assert relative(turned_forces, forces @ turn.T) < 1e-12
    assert relative(turned_volumes, volumes) < 1e-12


def test_constant_strain_is_in_balance_inside():
    """Patch test: a homogeneous finite strain with its own pressure leaves the inner nodes of any mesh in balance."""
    mesh = cube(3, shake=0.2)
    assembly = Assembly.of(mesh, DEFAULT_MATERIALS)
    f = np.array([[1.1, 0.2, -0.1], [0.05, 0.9, 0.1], [0.0, -0.1, 1.05]])
    pressure = np.full(len(assembly.pattern.pressure_node), TUMOUR.bulk * (np.linalg.det(f) - 1.0))
    forces, volumes = assembly.residual(mesh.points @ f.T - mesh.points, pressure, np.ones(len(mesh.tetrahedra)))
    inside = np.all((mesh.points > 1e-9) & (mesh.points < 1 - 1e-9), axis=1)
    assert np.abs(forces[~inside]).max() > 0.01
    assert np.abs(forces[inside]).max() < 1e-14
    assert np.abs(volumes).max() < 1e-15


def test_stress_is_the_derivative_of_energy_and_push_forward_of_piola():
    """P = dPsi/dFe at fixed pressure variable p = K (Je - 1), and sigma = P Fe^T / Je."""
    random = np.random.default_rng(5)
    fe = (np.eye(3) + 0.1 * random.standard_normal((3, 3)))[..., None, None]
    shear, bulk = np.array([[1.7]]), np.array([[16.0]])

    def pressure(f):
        return bulk * (np.linalg.det(f[..., 0, 0]) - 1.0)

    change, h = random.standard_normal((3, 3, 1, 1)), 1e-6
    slope = (
        energy(Deformation.of(fe + h * change), pressure(fe + h * change), shear, bulk)
        - energy(Deformation.of(fe - h * change), pressure(fe - h * change), shear, bulk)
    ) / (2 * h)
    stress = piola(Deformation.of(fe), pressure(fe), shear)
    assert slope == pytest.approx((stress * change).sum(axis=(0, 1)), rel=1e-8)
    p = pressure(fe)
    ahead, behind = (piola(Deformation.of(f), p, shear) for f in (fe + h * change, fe - h * change))
    slope = (ahead - behind) / (2 * h)
    assert np.allclose(piola_change(Deformation.of(fe), p, shear, change), slope, rtol=1e-7, atol=1e-8)
    forward = stress[..., 0, 0] @ fe[..., 0, 0].T / np.linalg.det(fe[..., 0, 0])
    assert np.allclose(cauchy(Deformation.of(fe), p, shear)[..., 0, 0], forward, rtol=1e-13)


def test_moduli_follow_regions_and_missing_materials_are_named():
    """Every element takes the moduli of its region; a region without a material is an error that names it."""
    mesh = ball_octant((1.0, 2.0), (1, 1))
    shear, bulk = moduli(mesh, DEFAULT_MATERIALS)
    assert set(shear[mesh.region == 1]) == {HOST.shear}
    assert set(bulk[mesh.region == 2]) == {TUMOUR.bulk}
    with pytest.raises(ConfigurationRejected, match="host"):
        moduli(mesh, {"tumour": TUMOUR})


@pytest.mark.parametrize(("young", "poisson"), [(0.0, 0.3), (-1.0, 0.3), (5.0, 0.5), (5.0, -0.1), (np.nan, 0.3)])
def test_impossible_materials_are_refused(young, poisson):
    """Elastic constants outside their bounds are refused when they are written down."""
    with pytest.raises(ConfigurationRejected):
        Material(young, poisson)


def test_springs_stand_for_a_layer_of_host():
    """A spring of stiffness E/d resists like a column of modulus E and length d."""
    assert springs_of(Material(2.0, 0.3), 10.0).stiffness == pytest.approx(0.2)
