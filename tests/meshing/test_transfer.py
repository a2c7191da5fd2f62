"""Maps between voxels, elements and nodes: integrals conserved, constants reproduced, nothing invented."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from scipy.spatial import ConvexHull, HalfspaceIntersection

from oncoscale.imaging.study import Grid, LabelImage
from oncoscale.meshing.mesh import TumourMesh
from oncoscale.meshing.surface import host_around
from oncoscale.meshing.tetrahedra import mesh_tumour
from oncoscale.meshing.transfer import (
    at_voxels,
    conservation,
    coverage,
    overlaps,
    to_elements,
    to_nodes,
    to_voxels,
)

Masks = Callable[..., LabelImage]
TURN = np.array([[0.36, 0.48, -0.8], [-0.8, 0.6, 0.0], [0.48, 0.64, 0.6]])


def one_element(points: np.ndarray) -> TumourMesh:
    """A mesh of one tetrahedron, turned the right way round."""
    mesh = TumourMesh(points, np.array([[0, 1, 2, 3]]), np.array([2]), {2: "tumour"})
    return mesh if mesh.volumes[0] > 0 else replace(mesh, tetrahedra=np.array([[0, 2, 1, 3]]))


def volume_in_box(points: np.ndarray, low: np.ndarray) -> float:
    """Volume of a tetrahedron within the unit cube at ``low``, by intersecting half-spaces."""
    hull = ConvexHull(points)
    box = np.concatenate([np.hstack([np.eye(3), -(low + 1.0)[:, None]]), np.hstack([-np.eye(3), low[:, None]])])
    planes = np.vstack([hull.equations, box])
    inner = linprog(
        [0, 0, 0, -1],
        A_ub=np.hstack([planes[:, :3], np.ones((len(planes), 1))]),
        b_ub=-planes[:, 3],
        bounds=[(None, None)] * 3 + [(0, None)],
    )
    if inner.status != 0 or inner.x[3] < 1e-9:
        return 0.0
    return float(ConvexHull(HalfspaceIntersection(planes, inner.x[:3]).intersections).volume)


@pytest.mark.parametrize("seed", range(4))
def test_shared_volumes_are_those_of_half_space_intersection(seed: int) -> None:
    """Clipping agrees with an independent construction of every intersection polyhedron."""
    points = np.random.default_rng(seed).uniform(0.2, 4.8, (4, 3))
    found = overlaps(one_element(points - 0.5), Grid((5, 5, 5), np.eye(4))).toarray().reshape(5, 5, 5)
    wanted = np.array([volume_in_box(points, np.array(cell, float)) for cell in np.ndindex(5, 5, 5)]).reshape(5, 5, 5)
    np.testing.assert_allclose(found, wanted, atol=1e-9)


def test_faces_on_voxel_planes_are_no_special_case() -> None:
    """A tetrahedron whose corners are voxel corners, and one inside a single voxel, share what they must."""
    corners = np.array([[0, 0, 0], [2, 0, 0], [0, 2, 0], [0, 0, 2.0]])
    shared = overlaps(one_element(corners - 0.5), Grid((2, 2, 2), np.eye(4))).toarray().reshape(2, 2, 2)
    assert shared[0, 0, 0] == pytest.approx(5.0 / 6.0)
    assert shared[1, 0, 0] == pytest.approx(1.0 / 6.0)
    assert shared.sum() == pytest.approx(8.0 / 6.0)
    small = overlaps(one_element(corners * 0.1 + 0.2), Grid((2, 2, 2), np.eye(4)))
    assert small.nnz == 1
    assert small.sum() == pytest.approx(0.008 / 6.0)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.lists(st.floats(-1.0, 7.0), min_size=12, max_size=12))
def test_no_tetrahedron_breaks_the_sums(numbers: list[float]) -> None:
    """For any tetrahedron, flat ones included, shares are positive and sum to its volume inside the grid."""
    points = np.array(numbers).reshape(4, 3)
    mesh = one_element(points)
    shared = overlaps(mesh, Grid((12, 12, 12), np.array([[1, 0, 0, -2], [0, 1, 0, -2], [0, 0, 1, -2], [0, 0, 0, 1.0]])))
    assert np.all(shared.data > 0.0)
    assert shared.sum() == pytest.approx(abs(mesh.volumes[0]), rel=1e-9, abs=1e-12)


@pytest.fixture(scope="module")
def oblique(lobed: Masks) -> tuple[TumourMesh, Grid]:
    """A mesh on an oblique, anisotropic grid that holds it wholly."""
    labels = host_around(lobed(turn=TURN), margin=10.0)
    return mesh_tumour(labels, size=11.0, host_size=14.0, mesher="bcc", gates=False), labels.grid


def wavy(grid: Grid) -> np.ndarray:
    """A smooth map, positive."""
    place = grid.world(np.stack(np.indices(grid.shape), axis=-1))
    return np.asarray(2.0 + np.sin(place[..., 0] / 9.0) * np.cos(place[..., 1] / 11.0) + 0.01 * place[..., 2])


def test_integral_over_the_mesh_is_the_integral_over_its_voxels(oblique: tuple[TumourMesh, Grid]) -> None:
    """On an oblique grid: rows sum to the elements, no voxel is covered twice, and integrals agree to 1e-10."""
    mesh, grid = oblique
    shared = overlaps(mesh, grid)
    np.testing.assert_allclose(shared.sum(axis=1), mesh.volumes, rtol=1e-11)
    covered = coverage(shared, grid)
    assert covered.max() <= 1.0 + 1e-11
    values = np.random.default_rng(0).normal(size=grid.shape)
    on_elements = to_elements(shared, values, mesh=mesh)
    by_hand = float((covered * values).sum() * grid.voxel_volume)
    assert on_elements.mean @ mesh.volumes == pytest.approx(by_hand, rel=1e-10)
    account = conservation(shared, values, on_elements)
    assert account["mesh_integral"] == pytest.approx(by_hand, rel=1e-10)
    assert abs(account["relative_difference"]) < 1e-10


def test_constants_stay_constant(oblique: tuple[TumourMesh, Grid]) -> None:
    """A constant map is that constant on elements, on nodes and back on voxels, with no spread."""
    mesh, grid = oblique
    shared = overlaps(mesh, grid)
    on_elements = to_elements(shared, np.full(grid.shape, 3.25), mesh=mesh)
    np.testing.assert_allclose(on_elements.mean, 3.25, rtol=1e-12)
    np.testing.assert_allclose(on_elements.sd, 0.0, atol=1e-7)
    np.testing.assert_allclose(on_elements.valid_fraction, 1.0, rtol=1e-10)
    np.testing.assert_allclose(to_nodes(mesh, on_elements.mean), 3.25, rtol=1e-12)
    np.testing.assert_allclose(to_voxels(shared, on_elements.mean, 3.25, grid), 3.25, rtol=1e-10)


def test_standard_deviation_is_that_of_the_shared_voxels(oblique: tuple[TumourMesh, Grid]) -> None:
    """For one element, mean and sd are the weighted moments of its voxels."""
    mesh, grid = oblique
    shared = overlaps(mesh, grid)
    values = np.random.default_rng(1).random(grid.shape)
    found = to_elements(shared, values)
    row = shared[[7]].toarray().ravel()
    mean = np.average(values.ravel(), weights=row)
    assert found.mean[7] == pytest.approx(mean)
    assert found.sd[7] == pytest.approx(np.sqrt(np.average((values.ravel() - mean) ** 2, weights=row)))


def test_invalid_voxels_are_left_out_not_zero(oblique: tuple[TumourMesh, Grid]) -> None:
    """NaN and masked voxels change no mean of a constant map, and integrals are those over the valid voxels."""
    mesh, grid = oblique
    shared = overlaps(mesh, grid)
    rng = np.random.default_rng(2)
    values = np.where(rng.random(grid.shape) < 0.2, np.nan, 5.0)
    valid = rng.random(grid.shape) < 0.9
    found = to_elements(shared, values, valid)
    known = found.valid_fraction > 0
    np.testing.assert_allclose(found.mean[known], 5.0, rtol=1e-12)
    assert np.isnan(found.mean[~known]).all()
    noisy = rng.normal(size=grid.shape)
    assert abs(conservation(shared, noisy, to_elements(shared, noisy, valid), valid)["relative_difference"]) < 1e-10


def test_elements_without_data_are_filled_from_their_own_region_and_marked(oblique: tuple[TumourMesh, Grid]) -> None:
    """With a map known in half of the tumour, the other half takes neighbours' values and is marked; the host, with no
    value of its own, stays unknown."""
    mesh, grid = oblique
    shared = overlaps(mesh, grid)
    tumour = mesh.elements_of("tumour")
    in_tumour = np.asarray(shared[tumour].sum(axis=0)).reshape(grid.shape) > 0.999 * grid.voxel_volume
    place = grid.world(np.stack(np.indices(grid.shape), axis=-1))
    valid = in_tumour & (place[..., 0] > mesh.centroids[tumour, 0].mean())
    found = to_elements(shared, np.full(grid.shape, 7.0), valid, mesh=mesh)
    np.testing.assert_allclose(found.mean[tumour], 7.0)
    assert 0 < found.filled[tumour].sum() < len(tumour)
    np.testing.assert_array_equal(found.filled[tumour], found.valid_fraction[tumour] < 0.5)
    host = mesh.elements_of("host")
    assert np.isnan(found.mean[host]).all()
    assert not found.filled[host].any()


def test_what_lies_outside_the_image_is_not_valid(oblique: tuple[TumourMesh, Grid]) -> None:
    """An image that ends within the mesh leaves elements with a lower valid fraction, or none."""
    mesh, grid = oblique
    half = Grid((grid.shape[0] // 2, *grid.shape[1:]), grid.affine)
    shared = overlaps(mesh, half)
    found = to_elements(shared, np.ones(half.shape), mesh=mesh)
    np.testing.assert_allclose(found.valid_fraction, shared.sum(axis=1) / mesh.volumes, rtol=1e-10)
    assert found.valid_fraction.min() == 0.0
    assert found.filled.any()


def test_renumbering_changes_nothing(oblique: tuple[TumourMesh, Grid]) -> None:
    """Elements and nodes in another order carry the same values."""
    mesh, grid = oblique
    rng = np.random.default_rng(3)
    order, places = rng.permutation(len(mesh.tetrahedra)), rng.permutation(len(mesh.points))
    number = np.argsort(places)
    other = replace(
        mesh, points=mesh.points[places], tetrahedra=number[mesh.tetrahedra[order]], region=mesh.region[order]
    )
    values = np.where(rng.random(grid.shape) < 0.3, np.nan, wavy(grid))
    first, second = (to_elements(overlaps(m, grid), values, mesh=m) for m in (mesh, other))
    np.testing.assert_allclose(second.mean, first.mean[order], rtol=1e-9)
    np.testing.assert_array_equal(second.filled, first.filled[order])
    np.testing.assert_allclose(to_nodes(other, second.mean), to_nodes(mesh, first.mean)[places], rtol=1e-9)


def test_element_to_voxel_conserves_the_integral(oblique: tuple[TumourMesh, Grid]) -> None:
    """With nothing outside, the voxels' total is that of the elements; where no element is, the map outside stays."""
    mesh, grid = oblique
    shared = overlaps(mesh, grid)
    values = np.random.default_rng(4).random(len(mesh.tetrahedra))
    total = to_voxels(shared, values, 0.0, grid).sum() * grid.voxel_volume
    assert total == pytest.approx(values @ mesh.volumes, rel=1e-11)
    outside = wavy(grid)
    both = to_voxels(shared, values, outside, grid)
    beyond = coverage(shared, grid) < 1e-12
    np.testing.assert_allclose(both[beyond], outside[beyond], rtol=1e-9)


def test_unknown_outside_stays_outside(oblique: tuple[TumourMesh, Grid]) -> None:
    """With NaN outside, voxels wholly inside the mesh are numbers and those beyond are NaN."""
    mesh, grid = oblique
    shared = overlaps(mesh, grid)
    found = to_voxels(shared, np.ones(len(mesh.tetrahedra)), np.nan, grid)
    covered = coverage(shared, grid)
    assert np.isfinite(found[covered > 1.0 - 1e-13]).all()
    assert np.isnan(found[covered < 1e-12]).all()


def test_lumped_nodes_keep_integral_and_sign(oblique: tuple[TumourMesh, Grid]) -> None:
    """The linear field of the nodal values has the elements' integral, and values stay between theirs."""
    mesh, _ = oblique
    values = np.random.default_rng(5).random(len(mesh.tetrahedra)) ** 8
    nodal = to_nodes(mesh, values)
    assert nodal[mesh.tetrahedra].mean(axis=1) @ mesh.volumes == pytest.approx(values @ mesh.volumes, rel=1e-12)
    assert values.min() <= nodal.min() <= nodal.max() <= values.max()


def test_a_smooth_map_converges_with_the_voxels() -> None:
    """Means over elements of a quadratic map approach the exact means with the square of the voxel size."""
    corners = np.random.default_rng(6).uniform(1.0, 9.0, (12, 4, 3))
    exact = ((corners.sum(axis=1) ** 2 + (corners**2).sum(axis=1)) / 20.0).sum(axis=1)
    errors = []
    for count in (10, 20, 40):
        affine = np.diag([10.0 / count] * 3 + [1.0])
        affine[:3, 3] = 5.0 / count
        grid = Grid((count, count, count), affine)
        square = (grid.world(np.stack(np.indices(grid.shape), axis=-1)) ** 2).sum(axis=-1)
        means = [to_elements(overlaps(one_element(points), grid), square).mean[0] for points in corners]
        errors.append(np.sqrt(np.mean((np.array(means) - exact) ** 2)))
    assert np.log2(errors[0] / errors[2]) / 2.0 > 1.9


def test_a_map_of_another_grid_is_an_error(oblique: tuple[TumourMesh, Grid]) -> None:
    """A map with another number of voxels cannot be meant."""
    mesh, grid = oblique
    with pytest.raises(ValueError, match="voxels"):
        to_elements(overlaps(mesh, grid), np.zeros((3, 3, 3)))


def test_node_values_at_voxel_centres_are_linear_in_every_element() -> None:
    """A linear field is found as it is at every centre in the mesh, on turned voxels; NaN at every other."""
    points = np.array([[0, 0, 0], [9, 0, 0], [0, 9, 0], [0, 0, 9], [8, 8, 8.0]])
    mesh = TumourMesh(points, np.array([[0, 1, 2, 3], [1, 2, 3, 4]]), np.array([1, 2]), {1: "host", 2: "tumour"})
    affine = np.eye(4)
    affine[:3, :3] = TURN * [0.7, 0.9, 1.1]
    affine[:3, 3] = [3.03, 3.02, 3.01] - affine[:3, :3] @ [7.0, 8.0, 6.0]
    grid = Grid((14, 16, 12), affine)
    slope = np.array([[0.3, -1.0], [2.0, 0.1], [-0.7, 0.4]])
    found = at_voxels(mesh, points @ slope + [1.0, -2.0], grid)
    centres = grid.world(np.moveaxis(np.indices(grid.shape), 0, -1))
    hulls = [ConvexHull(points[corners]).equations for corners in mesh.tetrahedra]
    inside = np.any([(centres @ hull[:, :3].T + hull[:, 3] <= 0.0).all(axis=-1) for hull in hulls], axis=0)
    assert inside.sum() > 100
    np.testing.assert_array_equal(np.isfinite(found).all(axis=-1), inside)
    np.testing.assert_allclose(found[inside], centres[inside] @ slope + [1.0, -2.0], atol=1e-9)
