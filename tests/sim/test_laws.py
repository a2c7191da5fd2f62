"""The tissue laws, one body of tests for all, and the project's own assembly of them against scikit-fem's."""

from __future__ import annotations

import numba
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.spatial.transform import Rotation

from oncoscale.meshing.mesh import TumourMesh
from oncoscale.sim.assembly import Assembly
from oncoscale.sim.growth import grow
from oncoscale.sim.laws import Constants, Deformation, answers, cauchy, energy, piola, piola_change
from oncoscale.sim.shapes import ball_octant, cube
from oncoscale.sim.stretches import fibre_growth
from oncoscale.sim.tissue import LAWS, Material, Springs, constants_of
from oncoscale.sim.yardstick import Yardstick

TURN = Rotation.from_rotvec([0.3, -0.5, 0.4]).as_matrix()
GROWTHS = ("even", "along fibres, with memory")


def made_of(law: str, young: float = 5.0, poisson: float = 0.45) -> Material:
    """A material of a law; the exponential one stiffens fast enough to be seen."""
    return Material(young, poisson, law, 4.0 if law == "exponential" else 0.0)


@pytest.fixture(scope="module", params=LAWS)
def law(request) -> str:
    """Every law in turn."""
    return str(request.param)


@pytest.fixture(scope="module", params=GROWTHS)
def deformed(request, law):
    """A body of two regions of a law, irregularly deformed, grown and under pressure."""
    mesh = ball_octant((1.0, 2.0), (2, 2))
    assembly = Assembly.of(mesh, {"tumour": made_of(law, 5.0, 0.49), "host": made_of(law, 1.5, 0.4)})
    random = np.random.default_rng(3)
    displacement = 0.03 * random.standard_normal(mesh.points.shape)
    pressure = random.standard_normal(len(assembly.pattern.pressure_node))
    count = len(mesh.tetrahedra)
    if request.param == "even":
        growth = 1.0 + 0.2 * random.random(count)
    else:
        fibres = fibre_growth(random.standard_normal((count, 2, 3)), 0.2 * random.random((count, 2)))
        growth = fibres @ np.linalg.inv(np.eye(3) + 0.05 * random.standard_normal((count, 3, 3)))
    return mesh, assembly, displacement, pressure, growth


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
    _, assembly, displacement, pressure, growth = deformed
    random = np.random.default_rng(4)
    du, dp = random.standard_normal(displacement.shape), random.standard_normal(pressure.shape)
    h = 1e-6
    ahead = assembly.residual(displacement + h * du, pressure + h * dp, growth)
    behind = assembly.residual(displacement - h * du, pressure - h * dp, growth)
    difference = np.concatenate([(a - b).ravel() / (2 * h) for a, b in zip(ahead, behind)])
    matrix = assembly.tangent(displacement, pressure, growth)
    product = matrix.operator()(np.concatenate([du.ravel(), dp]))
    assert relative(product, difference) < 1e-7


def test_tangent_is_symmetric(deformed):
    """A stored energy stands behind the law, so its tangent is symmetric."""
    whole = deformed[1].tangent(*deformed[2:]).whole().toarray()
    assert relative(whole, whole.T) < 1e-13


def test_turning_a_stressed_body_turns_its_forces(deformed):
    """Rigid rotation changes no stress: forces turn with the body, volumes stay."""
    mesh, assembly, displacement, pressure, growth = deformed
    turned = (mesh.points + displacement) @ TURN.T - mesh.points
    forces, volumes = assembly.residual(displacement, pressure, growth)
    turned_forces, turned_volumes = assembly.residual(turned, pressure, growth)
    assert relative(turned_forces, forces @ TURN.T) < 1e-12
    assert relative(turned_volumes, volumes) < 1e-12


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="this process may use one thread only")
def test_threads_do_not_change_a_bit(deformed):
    """One and two threads give the same bytes, for every law and kind of growth."""
    _, assembly, *state = deformed
    before, found = numba.get_num_threads(), []
    for threads in (1, 2):
        numba.set_num_threads(threads)
        matrix = assembly.tangent(*state)
        blocks = (matrix.uu.data, matrix.pu.data, matrix.pp.data)
        found.append([values.tobytes() for values in (*assembly.residual(*state), *blocks)])
    numba.set_num_threads(before)
    assert found[0] == found[1]


@pytest.mark.parametrize("along", [(0.26, 0.26, 0.26), (0.2, -0.1, 0.05)])
def test_free_growth_is_free_of_stress(law, along):
    """A body that grows, in all directions alike or not, then turns, carries no stress: the residual vanishes."""
    mesh = cube(3, shake=0.2)
    material = made_of(law)
    assembly = Assembly.of(mesh, {"tumour": material})
    count = len(mesh.tetrahedra)
    growth = fibre_growth(np.tile(np.eye(3), (count, 1, 1)), np.tile(along, (count, 1)))
    for rotation in (np.eye(3), TURN):
        displacement = mesh.points @ (rotation @ growth[0]).T - mesh.points
        forces, volumes = assembly.residual(displacement, np.zeros(len(assembly.pattern.pressure_node)), growth)
        assert np.abs(forces).max() < 1e-14 * material.shear
        assert np.abs(volumes).max() < 1e-14


def test_constant_strain_is_in_balance_inside(law):
    """Patch test: a homogeneous finite strain with its own pressure leaves the inner nodes of any mesh in balance."""
    mesh = cube(3, shake=0.2)
    material = made_of(law)
    assembly = Assembly.of(mesh, {"tumour": material})
    f = np.array([[1.1, 0.2, -0.1], [0.05, 0.9, 0.1], [0.0, -0.1, 1.05]])
    pressure = np.full(len(assembly.pattern.pressure_node), material.volumetric * (np.linalg.det(f) - 1.0))
    forces, volumes = assembly.residual(mesh.points @ f.T - mesh.points, pressure, np.ones(len(mesh.tetrahedra)))
    inside = np.all((mesh.points > 1e-9) & (mesh.points < 1 - 1e-9), axis=1)
    assert np.abs(forces[~inside]).max() > 0.01
    assert np.abs(forces[inside]).max() < 1e-14
    assert np.abs(volumes).max() < 1e-15


def test_small_strain_is_linear_elasticity(law):
    """To first order every law is sigma = 2 mu e + lambda tr(e) I, of the Young's modulus and Poisson's ratio given."""
    material = made_of(law, 3.0, 0.35)
    c, random = constants_of(cube(1), {"tumour": material}).at_points(), np.random.default_rng(6)
    gradient = 1e-6 * random.standard_normal((3, 3))
    strain = (gradient + gradient.T) / 2.0
    fe = np.repeat((np.eye(3) + gradient)[..., None, None], 6, axis=2)
    p = material.volumetric * (Deformation.of(fe).jacobian - 1.0)
    first = 3.0 * 0.35 / (1.35 * 0.3)
    linear = 2.0 * material.shear * strain + first * np.trace(strain) * np.eye(3)
    assert relative(cauchy(Deformation.of(fe), p, c)[..., 0, 0], linear) < 1e-5


def test_stress_is_the_derivative_of_energy_and_push_forward_of_piola(law):
    """P = dPsi/dFe with p = K (Je - 1), sigma = P Fe^T / Je, and ``piola_change`` is the derivative of P."""
    material, random = made_of(law), np.random.default_rng(5)
    one = constants_of(cube(1), {"tumour": material})
    c = Constants(*(x[:1, None] for x in (one.law, one.shear, one.bulk, one.hardening)))
    fe = (np.eye(3) + 0.1 * random.standard_normal((3, 3)))[..., None, None]

    def pressure(f):
        return c.bulk * (np.linalg.det(f[..., 0, 0]) - 1.0)

    change, h = random.standard_normal((3, 3, 1, 1)), 1e-6
    ahead, behind = (energy(Deformation.of(f), pressure(f), c) for f in (fe + h * change, fe - h * change))
    e = Deformation.of(fe)
    stress = piola(e, pressure(fe), answers(e, c))
    assert (ahead - behind) / (2 * h) == pytest.approx((stress * change).sum(axis=(0, 1)), rel=1e-7)
    p = pressure(fe)
    ahead, behind = (piola(e, p, answers(e, c)) for e in map(Deformation.of, (fe + h * change, fe - h * change)))
    assert np.allclose(piola_change(e, p, answers(e, c), change), (ahead - behind) / (2 * h), rtol=1e-6, atol=1e-7)
    forward = stress[..., 0, 0] @ fe[..., 0, 0].T / np.linalg.det(fe[..., 0, 0])
    assert np.allclose(cauchy(Deformation.of(fe), p, c)[..., 0, 0], forward, rtol=1e-12)


def test_newton_is_quadratic(law):
    """From one increment of 10 % in length each step squares the error, as it does with the exact derivative alone."""
    mesh = ball_octant((1.0, 2.0), (2, 2))
    materials = {"tumour": made_of(law, 5.0, 0.4), "host": made_of(law, 1.5, 0.4)}
    found = grow(
        mesh, np.where(mesh.region == 2, 1.1, 1.0), materials, springs=Springs(0.0), held=np.abs(mesh.points) < 1e-9,
        max_log_increment=1.0, tolerance=1e-13,
    )  # fmt: skip
    before, after = np.array(found.increments[0].residuals[1:-1]), np.array(found.increments[0].residuals[2:])
    assert len(after) >= 2
    assert (after < 20.0 * before**2 + 1e-13).all()


def sides(mesh: TumourMesh, axis: int) -> np.ndarray:
    """(nodes,) True on the two faces of a unit cube across one axis."""
    x = mesh.points[:, axis]
    return (x < 1e-9) | (x > 1.0 - 1e-9)


def principal_stress(material: Material, stretches: np.ndarray) -> np.ndarray:
    """Cauchy stress along the axes at elastic stretches, from the energies as functions of the stretches."""
    volume, squares = stretches.prod(), stretches**2
    if material.law == "compressible":
        return (material.shear * (squares - 1.0)) / volume + material.volumetric * (volume - 1.0)
    bar = squares * volume ** (-2 / 3)
    stiffer = np.exp(material.hardening * (bar.sum() - 3.0))
    return material.shear * stiffer * (bar - bar.mean()) / volume + material.bulk * (volume - 1.0)


@pytest.mark.parametrize("along", [(0.03, 0.03, 0.03), (0.2, 0.0, 0.1)])
def test_growth_confined_laterally(law, along):
    """Held along x and y, free along z: Fe = diag(1/g_x, 1/g_y, l) with no stress along z, exactly."""
    mesh, material = cube(2, shake=0.2), made_of(law)
    count = len(mesh.tetrahedra)
    held = np.stack([sides(mesh, 0), sides(mesh, 1), mesh.points[:, 2] < 1e-9], axis=1)
    found = grow(
        mesh, fibre_growth(np.tile(np.eye(3), (count, 1, 1)), np.tile(along, (count, 1))), {"tumour": material},
        springs=Springs(0.0), held=held, tolerance=1e-13,
    )  # fmt: skip
    squeezed = np.exp(-np.array(along))

    def stretches(z: float) -> np.ndarray:
        return np.array([1.0, 1.0, z]) * squeezed

    z = brentq(lambda z: principal_stress(material, stretches(z))[2], 0.7, 1.6, xtol=1e-14)
    top = mesh.points[:, 2] > 1.0 - 1e-9
    assert 1.0 + found.displacement[top, 2] == pytest.approx(z, abs=1e-9)
    assert np.allclose(found.stress, np.diag(principal_stress(material, stretches(z))), atol=1e-8)


def test_inflation_of_a_shell_that_stiffens():
    """A ball grown by g in an incompressible shell of the exponential law, twice its radius, free outside.

    Radial balance gives the core's pressure, int W'(l)/(l³ - 1) dl from the stretch outside to g, for any energy
    W(l) = Psi(l^-2, l, l); here W' = 2 mu (l - l^-5) exp(b (l^-4 + 2 l² - 3)).
    """
    mesh, b, g = ball_octant((1.0, 2.0), (4, 4)), 2.0, 1.15
    host = Material(2.9998, 0.4999, "exponential", b)
    found = grow(
        mesh, np.where(mesh.region == 2, g, 1.0), {"tumour": Material(2.9998, 0.4999), "host": host},
        springs=Springs(0.0), held=np.abs(mesh.points) < 1e-9, max_log_increment=0.1,
    )  # fmt: skip

    def integrand(stretch: float, hardening: float) -> float:
        slope = 2.0 * (stretch - stretch**-5) * np.exp(hardening * (stretch**-4 + 2.0 * stretch**2 - 3.0))
        return float(slope / (stretch**3 - 1.0))

    outside = (1.0 + (g**3 - 1.0) / 8.0) ** (1 / 3)
    exact, soft = (quad(integrand, outside, g, args=(hardening,))[0] for hardening in (b, 0.0))
    closed = 2.0 / outside + 0.5 / outside**4 - 2.0 / g - 0.5 / g**4
    assert soft == pytest.approx(closed, rel=1e-10)  # without stiffening the integral is that of the neo-Hookean shell
    core = mesh.region == 2
    assert -np.average(found.mean_stress[core], weights=mesh.volumes[core]) == pytest.approx(exact, rel=0.06)
    assert exact > 1.15 * soft
