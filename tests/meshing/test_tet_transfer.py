"""Between two meshes: shared volumes against an independent construction, and a plan that loses nothing."""

from __future__ import annotations

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
from oncoscale.meshing.tet_transfer import carry, shared_volumes
from oncoscale.meshing.tetrahedra import mesh_tumour

TURN = np.array([[0.36, 0.48, -0.8], [-0.8, 0.6, 0.0], [0.48, 0.64, 0.6]])


def of_one(points: np.ndarray) -> TumourMesh:
    """A mesh of one tetrahedron, turned the right way round."""
    mesh = TumourMesh(points, np.array([[0, 1, 2, 3]]), np.array([2]), {2: "tumour"})
    return mesh if mesh.volumes[0] > 0 else replace(mesh, tetrahedra=np.array([[0, 2, 1, 3]]))


def volume_of_both(one: np.ndarray, other: np.ndarray) -> float:
    """Volume that two tetrahedra share, by intersecting their half-spaces."""
    planes = np.vstack([ConvexHull(one).equations, ConvexHull(other).equations])
    inner = linprog(
        [0, 0, 0, -1],
        A_ub=np.hstack([planes[:, :3], np.ones((8, 1))]),
        b_ub=-planes[:, 3],
        bounds=[(None, None)] * 3 + [(0, None)],
    )
    if inner.status != 0 or inner.x[3] < 1e-9:
        return 0.0
    return float(ConvexHull(HalfspaceIntersection(planes, inner.x[:3]).intersections).volume)


@pytest.mark.parametrize("seed", range(12))
def test_shared_volumes_are_those_of_half_space_intersection(seed: int) -> None:
    """Clipping in barycentric coordinates agrees with an independent construction of the shared polyhedron."""
    one, other = np.random.default_rng(seed).uniform(-1.0, 1.0, (2, 4, 3)) * np.array([[[1.0]], [[1.5]]])
    found = shared_volumes(of_one(one), of_one(other)).toarray()[0, 0]
    assert found == pytest.approx(volume_of_both(one, other), abs=1e-9)


@pytest.fixture(scope="module")
def body() -> TumourMesh:
    """A coarse ball in its host."""
    place = np.stack(np.meshgrid(*[np.arange(12.0) - 5.5] * 3, indexing="ij"), axis=-1) * 2.0
    inside = (place**2).sum(axis=-1) < 64.0
    labels = LabelImage(Grid((12, 12, 12), np.diag([2.0, 2.0, 2.0, 1.0])), inside.astype(np.uint8), {1: "tumour"})
    return mesh_tumour(host_around(labels), size=4.0, host_size=7.0, mesher="bcc")


def turned(mesh: TumourMesh, angle: float) -> TumourMesh:
    """The same mesh turned about its middle: other elements, the same body but for its facets, the same volumes."""
    turn = np.array([[np.cos(angle), -np.sin(angle), 0.0], [np.sin(angle), np.cos(angle), 0.0], [0.0, 0.0, 1.0]])
    middle = mesh.points.mean(axis=0)
    return replace(mesh, points=(mesh.points - middle) @ (turn @ TURN if angle else turn).T + middle)


def test_a_mesh_shares_with_itself_its_own_elements(body: TumourMesh) -> None:
    """Every element is itself and nothing else, and the plan moves nothing across a surface."""
    shared = shared_volumes(body, body)
    np.testing.assert_allclose(shared.diagonal(), body.volumes, rtol=1e-12)
    assert shared.sum() == pytest.approx(body.volumes.sum(), rel=1e-12)
    assert carry(body, body).moved < 1e-12


@settings(max_examples=5, deadline=None)
@given(angle=st.floats(0.1, 1.5), seed=st.integers(0, 99))
def test_totals_constants_and_bounds_are_kept(body: TumourMesh, angle: float, seed: int) -> None:
    """Over meshes whose regions have the same volumes: integrals of each region to 1e-12, constants exact, no new
    extremum, and nothing crosses from one region to another."""
    new = turned(body, angle)
    plan = carry(new, body)
    values = np.random.default_rng(seed).random((len(body.region), 2)) + 10.0 * (body.region == 2)[:, None]
    carried = plan(values)
    for region in (1, 2):
        before, after = body.region == region, new.region == region
        total = body.volumes[before] @ values[before]
        np.testing.assert_allclose(new.volumes[after] @ carried[after], total, rtol=1e-12)
        assert (carried[after] >= values[before].min(axis=0)).all()
        assert (carried[after] <= values[before].max(axis=0)).all()
    np.testing.assert_array_equal(plan(np.full(len(body.region), 0.7)), 0.7)
    assert 0.0 < plan.moved < 0.1


def test_a_linear_field_converges(body: TumourMesh) -> None:
    """What an element takes of a linear field is the field at its middle, up to a part of the old elements' size."""
    new = turned(body, 0.3)
    slope = np.array([1.0, -2.0, 0.5])
    error = carry(new, body)(body.centroids @ slope) - new.centroids @ slope
    assert np.sqrt(np.average(error**2, weights=new.volumes)) < 0.1 * np.ptp(body.centroids @ slope)


def test_tensors_are_carried_entry_by_entry(body: TumourMesh) -> None:
    """Values of any shape keep it, and each entry is carried as it would be alone."""
    plan = carry(turned(body, 0.3), body)
    tensors = np.random.default_rng(1).random((len(body.region), 3, 3))
    np.testing.assert_array_equal(plan(tensors)[:, 1, 2], plan(tensors[:, 1, 2]))


def test_where_volumes_differ_means_stay_means(body: TumourMesh) -> None:
    """In a body a tenth larger, whose rim lies outside the old one, values stay within bounds and constants exact."""
    larger = replace(body, points=1.1 ** (1 / 3) * (body.points - body.points.mean(axis=0)) + body.points.mean(axis=0))
    plan = carry(larger, body)
    np.testing.assert_array_equal(plan(np.ones(len(body.region))), 1.0)
    carried = plan(body.centroids[:, 0])
    assert body.centroids[:, 0].min() <= carried.min() < carried.max() <= body.centroids[:, 0].max()
