"""Shape measures on tetrahedra whose measures are known, and the gates."""

from __future__ import annotations

import numpy as np
import pytest

from oncoscale.imaging.study import Grid, LabelImage
from oncoscale.meshing.mesh import TumourMesh, distinct_rows
from oncoscale.meshing.quality import (
    dihedral_angles,
    face_pairs,
    gate_failures,
    mean_ratio,
    outline_distance,
    quality,
    scaled_jacobian,
    surfaces_apart,
)

REGULAR = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1.0]])[[0, 1, 3, 2]]
ONE = np.array([[0, 1, 2, 3]])


def test_regular_tetrahedron_is_perfect() -> None:
    """Mean ratio and scaled Jacobian are 1, all dihedral angles arccos(1/3)."""
    assert mean_ratio(REGULAR, ONE) == pytest.approx(1.0)
    assert scaled_jacobian(REGULAR, ONE) == pytest.approx(1.0)
    np.testing.assert_allclose(dihedral_angles(REGULAR, ONE), np.degrees(np.arccos(1.0 / 3.0)))


def test_inverted_tetrahedron_is_negative() -> None:
    """Swapping two nodes turns both measures negative."""
    swapped = ONE[:, [1, 0, 2, 3]]
    assert mean_ratio(REGULAR, swapped) == pytest.approx(-1.0)
    assert scaled_jacobian(REGULAR, swapped) < 0.0


def test_corner_of_a_cube() -> None:
    """The right-angled corner has three angles of 90 degrees and three of arccos(1/sqrt 3); its scaled Jacobian is
    sqrt(2)/2 because the largest product of edges at a corner is 2."""
    corner = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1.0]])
    angles = np.sort(dihedral_angles(corner, ONE)[0])
    np.testing.assert_allclose(angles, [np.degrees(np.arccos(1.0 / np.sqrt(3.0)))] * 3 + [90.0] * 3)
    assert scaled_jacobian(corner, ONE) == pytest.approx(np.sqrt(2.0) / 2.0)


def test_gates_name_what_is_wrong() -> None:
    """A flat element fails by its angle, an unused node and an inverted element by their counts."""
    flat = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0.3, 0.3, 0.02], [9, 9, 9]])
    mesh = TumourMesh(flat, ONE, np.array([2]), {2: "tumour"})
    words = "; ".join(gate_failures(quality(mesh)))
    assert "dihedral" in words
    assert "1 nodes without an element" in words
    inverted = TumourMesh(flat[:4], ONE[:, [1, 0, 2, 3]], np.array([2]), {2: "tumour"})
    assert any("inverted" in failure for failure in gate_failures(quality(inverted)))


def test_a_deformed_mesh_may_be_a_little_worse() -> None:
    """An element of 6 degrees is refused in a new mesh and kept in a deformed one."""
    height = np.tan(np.radians(6.0)) / 3.0
    flat = np.array([[1, 0, 0], [-0.5, np.sqrt(0.75), 0], [-0.5, -np.sqrt(0.75), 0], [0, 0, 1.5 * height]])
    measured = quality(TumourMesh(flat, ONE, np.array([2]), {2: "tumour"}))
    assert measured["min_dihedral_degree"] == pytest.approx(6.0, abs=0.01)
    assert any("dihedral" in failure for failure in gate_failures(measured))
    assert not any("dihedral" in failure for failure in gate_failures(measured, deformed=True))


def test_a_face_of_three_elements_is_found() -> None:
    """Three elements on one face, and a surface edge of four faces, are no mesh."""
    points = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, -1], [0.5, 0.5, 2.0]])
    tetrahedra = np.array([[0, 1, 2, 3], [0, 2, 1, 4], [0, 1, 2, 5]])
    assert quality(TumourMesh(points, tetrahedra, np.array([2, 2, 2]), {2: "tumour"}))["non_manifold"] > 0


def test_face_pairs_know_both_sides() -> None:
    """Two elements that share a face: seven faces, one of them with two sides."""
    faces, sides = face_pairs(np.array([[0, 1, 2, 3], [0, 2, 1, 4]]))
    assert len(faces) == 7
    shared = sides[:, 1] >= 0
    assert shared.sum() == 1
    assert set(sides[shared][0].tolist()) == {0, 1}


def test_a_surface_that_moved_is_as_far_away_as_it_moved() -> None:
    """One mesh shifted by far less than the samples' spacing: every distance is at most the shift, none is twice it."""
    mesh = TumourMesh(REGULAR.astype(float), ONE, np.array([2]), {2: "tumour"}, "", "by hand", {})
    shifted = mesh.moved(np.full((4, 3), 0.001))
    apart = surfaces_apart(mesh, shifted, "tumour")
    assert surfaces_apart(mesh, mesh, "tumour")["largest"] == 0.0
    assert apart["largest"] == pytest.approx(0.001 * np.sqrt(3.0), rel=1e-6)
    assert apart["mean"] <= apart["h95"] <= apart["largest"]


def test_distinct_rows_are_those_of_numpy() -> None:
    """First places and numbers as ``np.unique`` tells them, also of no rows."""
    rows = np.random.default_rng(5).integers(0, 6, (300, 3))
    _, first, count = np.unique(rows, axis=0, return_index=True, return_counts=True)
    np.testing.assert_array_equal(np.stack(distinct_rows(rows)), [first, count])
    assert len(distinct_rows(rows[:0])[0]) == 0


def test_the_outline_of_voxels_is_as_far_as_a_surface_is_moved() -> None:
    """Of a slab four voxels thick between two planes the faces farthest away lie in the rim, 1.5 mm from either plane;
    when both planes are 3 mm farther out, 4.5 mm."""
    values = np.zeros((20, 20, 8), np.uint8)
    values[:, :, 2:6] = 1
    labels = LabelImage(Grid(values.shape, np.eye(4)), values, {1: "tumour"})
    square = np.array([[[-9, -9, 0], [30, -9, 0], [30, 30, 0]], [[-9, -9, 0], [30, 30, 0], [-9, 30, 0.0]]])

    def planes(outwards: float) -> np.ndarray:
        return np.concatenate([square + [0.0, 0.0, 1.5 - outwards], square + [0.0, 0.0, 5.5 + outwards]])

    assert outline_distance(planes(0.0), labels, "tumour", 0.5) == pytest.approx(1.5, abs=0.1)
    assert outline_distance(planes(3.0), labels, "tumour", 0.5) == pytest.approx(4.5, abs=0.1)
