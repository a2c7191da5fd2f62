"""Growth against exact solutions: free, confined, and of a ball inside another."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numba
import numpy as np
import pytest

from oncoscale.core.errors import ConfigurationRejected, SolverFault
from oncoscale.meshing.mesh import TumourMesh
from oncoscale.sim.body import Body
from oncoscale.sim.growth import grow
from oncoscale.sim.shapes import ball_octant, cube
from oncoscale.sim.tissue import DEFAULT_MATERIALS, Material, Springs, springs_of

FREE = Springs(0.0)
TABLE = Material(5.0, 0.45)  # the material of the confined problems: K = 16.667 kPa, mu = 1.7241 kPa


def sides(mesh: TumourMesh, axis: int) -> np.ndarray:
    """(nodes,) True on the two faces of a unit cube across one axis."""
    x = mesh.points[:, axis]
    return (x < 1e-9) | (x > 1.0 - 1e-9)


def symmetric(mesh: TumourMesh) -> np.ndarray:
    """The planes x, y, z = 0 of an octant hold their own normal displacement."""
    return np.abs(mesh.points) < 1e-9


def in_core(mesh: TumourMesh) -> np.ndarray:
    """(elements,) True in the ball that grows."""
    return mesh.region == 2


def incompressible(shear: float = 1.0, poisson: float = 0.4999) -> dict[str, Material]:
    """Tumour and host of one nearly incompressible material."""
    return dict.fromkeys(("tumour", "host"), Material(2.0 * shear * (1.0 + poisson), poisson))


def interface_displacement(mesh: TumourMesh, displacement: np.ndarray) -> float:
    """Mean radial displacement of the nodes at radius 1."""
    on = np.abs(np.linalg.norm(mesh.points, axis=1) - 1.0) < 1e-9
    return float(np.linalg.norm((mesh.points + displacement)[on], axis=1).mean() - 1.0)


def mean_in_core(mesh: TumourMesh, values: np.ndarray) -> float:
    """Volume mean over the ball."""
    core = in_core(mesh)
    return float(np.average(values[core], weights=mesh.volumes[core]))


@pytest.mark.parametrize("stretch", [1.3, 0.8])
def test_free_even_growth_and_shrinkage_leave_no_stress(stretch):
    """A free body that grows or shrinks evenly has J = g^3 and no stress, whatever its mesh."""
    mesh = cube(3, shake=0.2)
    held = np.zeros(mesh.points.shape, dtype=bool)
    corner = [int(np.argmin(np.linalg.norm(mesh.points - x, axis=1))) for x in np.eye(4, 3, -1)]
    for node, axes in zip(corner, ([0, 1, 2], [1, 2], [2], [])):  # three, two, one component: no rigid motion
        held[node, axes] = True
    found = grow(
        mesh, np.full(len(mesh.tetrahedra), stretch), DEFAULT_MATERIALS, springs=FREE, held=held, tolerance=1e-13
    )
    assert found.volume_ratio == pytest.approx(stretch**3, rel=1e-10)
    assert np.abs(found.stress).max() < 1e-10 * DEFAULT_MATERIALS["tumour"].shear
    assert found.strain_energy == pytest.approx(0.0, abs=1e-10)


def test_growth_confined_on_all_sides():
    """With no room, stress is K (1/Jg - 1): -1.51515 kPa for 10 % of growth in volume."""
    mesh = cube(3, shake=0.2)
    held = np.repeat((sides(mesh, 0) | sides(mesh, 1) | sides(mesh, 2))[:, None], 3, axis=1)
    found = grow(
        mesh, np.full(len(mesh.tetrahedra), 1.1 ** (1 / 3)), {"tumour": TABLE}, springs=FREE, held=held, tolerance=1e-13
    )
    exact = TABLE.bulk * (1.0 / 1.1 - 1.0)
    assert exact == pytest.approx(-1.51515, abs=1e-5)
    assert found.mean_stress == pytest.approx(exact, rel=1e-10)
    assert np.abs(found.displacement).max() < 1e-12
    assert found.von_mises == pytest.approx(0.0, abs=1e-10)


def test_growth_confined_laterally():
    """With room along z only, 10 % of growth in volume stretches z by 1.0868375 and presses -0.299148 kPa sideways."""
    mesh = cube(2, shake=0.2)
    held = np.stack([sides(mesh, 0), sides(mesh, 1), mesh.points[:, 2] < 1e-9], axis=1)
    found = grow(
        mesh, np.full(len(mesh.tetrahedra), 1.1 ** (1 / 3)), {"tumour": TABLE}, springs=FREE, held=held, tolerance=1e-13
    )
    top = mesh.points[:, 2] > 1.0 - 1e-9
    assert 1.0 + found.displacement[top, 2] == pytest.approx(1.0868375, abs=1e-7)
    assert found.stress[:, 0, 0] == pytest.approx(-0.299148, abs=1e-6)
    assert np.abs(found.stress[:, 2, 2]).max() < 1e-8


def misfit(layers: int, outer: float) -> tuple[float, float]:
    """Interface displacement and core pressure per unit of strain, K = 10, mu = 1, small growth."""
    material = Material(2.0 * (1.0 + 28 / 62), 28 / 62)
    mesh, strain = ball_octant((1.0, outer), (layers, layers)), 1e-5
    found = grow(
        mesh,
        np.where(in_core(mesh), 1.0 + strain, 1.0),
        {"tumour": material, "host": material},
        springs=FREE,
        held=symmetric(mesh),
        tolerance=1e-10,
    )
    return interface_displacement(mesh, found.displacement) / strain, -mean_in_core(mesh, found.mean_stress) / strain


@pytest.mark.parametrize(("outer", "pressure", "moved"), [(2.0, 3.08824, 0.897059), (3.0, 3.39869, 0.886710)])
def test_small_misfit_of_a_ball_converges_to_the_exact_solution(outer, pressure, moved):
    """Lamé's solution of a ball with eigenstrain in a shell: order 2; at 8 layers 1 % in u and 6 % in pressure."""
    errors = []
    for layers in (4, 8):
        u, p = misfit(layers, outer)
        errors.append((abs(u / moved - 1.0), abs(p / pressure - 1.0)))
    order = np.log2(np.array(errors[0]) / np.array(errors[1]))
    assert order.min() > 1.9
    assert errors[-1][0] < 0.01
    assert errors[-1][1] < 0.06


@pytest.mark.parametrize(
    ("poisson", "stretch", "moved", "stress"),
    [
        (0.4, 1.05, 0.039413, -0.139744),
        (0.4, 1.2, 0.158991, -0.462271),
        (0.49, 1.05, 0.048786, -0.172028),
        (0.49, 1.2, 0.195576, -0.547253),
        (0.4999, 1.05, 0.049988, -0.176103),
        (0.4999, 1.2, 0.199955, -0.557023),
    ],
)
def test_large_growth_of_a_ball_in_a_shell(poisson, stretch, moved, stress):
    """Finite growth, outer radius thrice the inner, 4 + 8 layers: displacement within 2 %, core stress within 6 %."""
    mesh = ball_octant((1.0, 3.0), (4, 8))
    found = grow(
        mesh,
        np.where(in_core(mesh), stretch, 1.0),
        incompressible(poisson=poisson),
        springs=FREE,
        held=symmetric(mesh),
        max_log_increment=0.1,
    )
    assert interface_displacement(mesh, found.displacement) == pytest.approx(moved, rel=0.02)
    assert mean_in_core(mesh, found.mean_stress) == pytest.approx(stress, rel=0.06)


def test_core_pressure_does_not_depend_on_the_tumours_stiffness():
    """An incompressible ball grown by 1.3 in a host of twice its radius presses 0.610817 mu of the host."""
    mesh = ball_octant((1.0, 2.0), (4, 4))
    pressures = []
    for tumour_shear in (1.0, 5.0):
        materials = incompressible() | {"tumour": Material(2.9998 * tumour_shear, 0.4999)}
        found = grow(
            mesh,
            np.where(in_core(mesh), 1.3, 1.0),
            materials,
            springs=FREE,
            held=symmetric(mesh),
            max_log_increment=0.1,
        )
        pressures.append(-mean_in_core(mesh, found.mean_stress))
    assert pressures == pytest.approx([0.610817, 0.610817], rel=0.06)


def test_one_pressure_across_the_interface_would_be_seen():
    """Merging the pressures of tumour and host loses a tenth of the displacement; split ones do not."""
    mesh = ball_octant((1.0, 3.0), (3, 5))
    stretch = np.where(in_core(mesh), 1.01, 1.0)
    exact, errors = 0.01 * 0.974824, {}
    for split in (True, False):
        body = Body.of(mesh, incompressible(poisson=0.49), FREE, symmetric(mesh), split=split)
        state, _ = body.settle(body.at_rest(), stretch, 1e-8)
        errors[split] = interface_displacement(mesh, body.parts(state)[0]) / exact - 1.0
    assert abs(errors[True]) < 0.02
    assert errors[False] < -0.10


def uneven(mesh: TumourMesh) -> np.ndarray:
    """A growth that differs from element to element: more at the rim, less in the middle."""
    radius = np.linalg.norm(mesh.centroids, axis=1)
    return np.where(in_core(mesh), 0.97 + 0.1 * (radius / 10.0) ** 2 + 0.01 * np.sin(radius * 7.0), 1.0)


@pytest.fixture(scope="module")
def organ():
    """A ball of tumour in host tissue, in mm, large enough for the iterative solver."""
    return ball_octant((10.0, 30.0), (3, 5))


def test_growth_in_two_steps_equals_growth_in_one(organ):
    """The law has no memory: the equilibrium depends on the total growth, not on the way to it."""
    end = uneven(organ)
    large = partial(
        grow, organ, materials=DEFAULT_MATERIALS, springs=springs_of(), max_log_increment=0.1, tolerance=1e-10
    )
    there = large(end, start=large(np.sqrt(end)))
    assert np.allclose(there.displacement, large(end).displacement, atol=1e-8)
    back = large(np.ones_like(end), start=there)
    assert np.abs(back.displacement).max() < 1e-8
    assert np.abs(back.stress).max() < 1e-8


def test_equilibrium_tells_how_it_was_found(organ):
    """Increments are at most as large as asked for, end exactly at the growth asked for, and are all on record."""
    seen: list[float] = []
    end = uneven(organ)
    found = grow(organ, end, DEFAULT_MATERIALS, springs=springs_of(), max_log_increment=0.02, progress=seen.append)
    newton = [len(one.linear) for one in found.increments]
    assert len(newton) == np.ceil(np.abs(np.log(end)).max() / 0.02)
    assert found.increments[-1].share == seen[-1] == 1.0
    assert seen == sorted(seen)
    assert len(seen) == sum(newton) + len(newton), "every Newton iteration, and every end"
    assert np.array_equal(found.stretch, end)
    assert found.residual <= 1e-8
    assert max(newton) <= 6
    assert found.strain_energy > 0.0
    assert found.spring_energy > 0.0
    grown = (organ.volumes * found.volume_ratio).sum()
    assert grown == pytest.approx(organ.moved(found.displacement).volumes.sum(), rel=1e-12)


def test_shrinking_tumour_pulls_its_host_inwards(organ):
    """After shrinkage (chemotherapy) the surface of the tumour has moved in and its mean stress is tension."""
    found = grow(
        organ, np.where(in_core(organ), 0.85, 1.0), DEFAULT_MATERIALS, springs=springs_of(), max_log_increment=0.1
    )
    surface = np.unique(organ.surface_of("tumour"))
    surface = surface[np.linalg.norm(organ.points[surface], axis=1) > 9.99]
    inwards = np.einsum("ai,ai->a", found.displacement[surface], organ.points[surface])
    assert inwards.max() < 0.0
    assert mean_in_core(organ, found.mean_stress) > 0.0


def test_turning_the_body_turns_the_answer():
    """The solution does not depend on the frame: a mesh turned by 90 degrees moves the same way, turned."""
    mesh = ball_octant((10.0, 30.0), (2, 3))
    turn = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    turned = replace(mesh, points=mesh.points @ turn.T)
    one, other = (
        grow(m, uneven(mesh), DEFAULT_MATERIALS, springs=springs_of(), tolerance=1e-11) for m in (mesh, turned)
    )
    assert np.allclose(other.displacement, one.displacement @ turn.T, atol=1e-9)


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="this process may use one thread only")
def test_threads_do_not_change_a_bit(organ):
    """One and two threads give the same bytes."""
    before = numba.get_num_threads()
    found = []
    for threads in (1, 2):
        numba.set_num_threads(threads)
        found.append(grow(organ, uneven(organ), DEFAULT_MATERIALS, springs=springs_of()))
    numba.set_num_threads(before)
    assert found[0].displacement.tobytes() == found[1].displacement.tobytes()
    assert found[0].stress.tobytes() == found[1].stress.tobytes()


def test_springs_on_the_tumours_surface_hold_the_tumour():
    """Without anatomy springs may hold the tumour itself: stiffer ones leave it less room."""
    mesh = ball_octant((10.0, 30.0), (2, 3))
    stretch = np.where(in_core(mesh), 1.05, 1.0)
    soft, stiff = (grow(mesh, stretch, DEFAULT_MATERIALS, springs=Springs(k, "tumour")) for k in (0.01, 10.0))
    assert stiff.volume_ratio[in_core(mesh)].mean() < soft.volume_ratio[in_core(mesh)].mean()


def test_inside_out_elements_are_named():
    """An element without positive volume is an error that names it, before anything is solved."""
    mesh = cube(2)
    wrong = mesh.tetrahedra.copy()
    wrong[7] = wrong[7][[0, 1, 3, 2]]
    with pytest.raises(SolverFault, match="7"):
        grow(replace(mesh, tetrahedra=wrong), np.ones(len(wrong)), DEFAULT_MATERIALS, springs=springs_of())


def test_nodes_without_elements_are_refused():
    """A node that no element uses has no equation: refused before anything is solved."""
    mesh = cube(1)
    loose = replace(mesh, points=np.vstack([mesh.points, [[5.0, 5.0, 5.0]]]))
    with pytest.raises(SolverFault, match="belong to no element"):
        grow(loose, np.ones(6), DEFAULT_MATERIALS, springs=springs_of())


@pytest.mark.parametrize("stretch", [0.0, -1.0, np.nan, np.inf])
def test_impossible_growth_is_refused_with_the_elements_named(stretch):
    """A growth stretch that is no positive number is refused, and its element named."""
    mesh = cube(2)
    growth = np.ones(len(mesh.tetrahedra))
    growth[11] = stretch
    with pytest.raises(SolverFault, match="11"):
        grow(mesh, growth, DEFAULT_MATERIALS, springs=springs_of())


def test_growth_without_room_stops_with_the_elements_named():
    """Where tissue cannot be squeezed further the error says how far it came and which elements are squeezed most."""
    mesh = cube(2)
    everywhere = np.ones(mesh.points.shape, dtype=bool)
    with pytest.raises(SolverFault, match="most squeezed elements"):
        grow(mesh, np.full(len(mesh.tetrahedra), 2.0), {"tumour": TABLE}, springs=FREE, held=everywhere)


def test_equilibrium_of_another_mesh_is_refused():
    """An equilibrium can only be continued on the mesh that it belongs to."""
    small, large = cube(1), cube(2)
    start = grow(small, np.ones(6), DEFAULT_MATERIALS, springs=springs_of())
    with pytest.raises(SolverFault, match="same mesh"):
        grow(large, np.ones(48), DEFAULT_MATERIALS, springs=springs_of(), start=start)


def test_a_body_that_nothing_holds_is_refused():
    """Without springs or held nodes the body could drift: refused, with what to do."""
    mesh = cube(2)
    with pytest.raises(ConfigurationRejected, match="move as a whole"):
        grow(mesh, np.ones(48), DEFAULT_MATERIALS, springs=FREE)


def test_negative_springs_are_refused():
    """Springs that push are refused when they are written down."""
    with pytest.raises(ConfigurationRejected):
        Springs(-1.0)
