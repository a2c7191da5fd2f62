"""What a reader sees on a plane is where it is in the patient."""

from __future__ import annotations

import numpy as np
import pytest

from oncoscale.app.sections import AXIAL, CORONAL, PLANES, SAGITTAL, cut_surface, cut_tetrahedra, frame_around, sample
from oncoscale.imaging.study import Grid

CORNERS = np.array([[-20.0, -20.0, -20.0], [20.0, 20.0, 20.0]])


def oblique_grid() -> Grid:
    """A grid turned by 30 degrees about the head axis, 1 x 2 x 3 mm, around the origin."""
    turn = np.radians(30.0)
    axes = np.array([[np.cos(turn), -np.sin(turn), 0.0], [np.sin(turn), np.cos(turn), 0.0], [0.0, 0.0, 1.0]])
    affine = np.eye(4)
    affine[:3, :3] = axes * [1.0, 2.0, 3.0]
    affine[:3, 3] = -affine[:3, :3] @ [40.0, 20.0, 13.0]
    return Grid((81, 41, 27), affine)


@pytest.mark.parametrize(
    ("plane", "marker", "corner"),
    [
        (AXIAL, (-12.0, -12.0, 0.0), "upper left"),  # the patient's right, to the front
        (CORONAL, (-12.0, 0.0, 12.0), "upper left"),  # the patient's right, to the head
        (SAGITTAL, (0.0, -12.0, 12.0), "upper left"),  # the front, to the head
        (AXIAL, (12.0, 12.0, 0.0), "lower right"),  # the patient's left, to the back
    ],
)
def test_a_marker_appears_where_radiologists_expect_it(plane, marker, corner):
    """Right of the patient is on the left of the picture, front and head are at its top, on an oblique grid too."""
    grid = oblique_grid()
    where = grid.world(np.stack(np.meshgrid(*[np.arange(n) for n in grid.shape], indexing="ij"), axis=-1))
    values = np.exp(-((np.linalg.norm(where - np.array(marker), axis=-1) / 4.0) ** 2))
    frame = frame_around(CORNERS, np.array(marker), plane, margin=0.0, least_mm=0.0)
    picture = np.nan_to_num(sample(values, grid, frame, pixels=80))
    row, column = np.unravel_index(picture.argmax(), picture.shape)
    side = "left" if column < 40 else "right"
    height = "upper" if row >= 40 else "lower"  # the first row is drawn at the bottom
    assert f"{height} {side}" == corner
    spot = np.array([frame.extent[0] + (column + 0.5) * 0.5, frame.extent[2] + (row + 0.5) * 0.5])
    assert np.linalg.norm(spot - frame.flat(np.array(marker))) < 0.8


@pytest.mark.parametrize("plane", PLANES, ids=lambda plane: plane.name)
def test_a_plane_cuts_a_mesh_into_its_true_area(made, plane):
    """The polygons of cut tetrahedra tile the section: their area is that of the box that the mesh fills."""
    mesh = made.forecast.states[0].reference
    frame = frame_around(mesh.points, np.array([1.3, 2.1, 0.7]), plane)
    polygons, owners = cut_tetrahedra(mesh.points, mesh.tetrahedra, frame)
    areas = [0.5 * abs(np.sum(p[:, 0] * np.roll(p[:, 1], -1) - p[:, 1] * np.roll(p[:, 0], -1))) for p in polygons]
    assert len(owners) == len(polygons)
    assert sum(areas) == pytest.approx(96.0**2, rel=1e-9)


def test_the_outline_of_a_surface_closes(made):
    """Where a closed surface meets a plane, every end of a segment is shared by two of them."""
    mesh = made.forecast.states[0].reference
    frame = frame_around(mesh.points, np.array([1.3, 2.1, 0.7]), AXIAL)
    ends = np.round(cut_surface(mesh.points, mesh.surface_of("tumour"), frame).reshape(-1, 2), 6)
    _, count = np.unique(ends, axis=0, return_counts=True)
    assert len(ends) > 20
    assert (count % 2 == 0).all()
