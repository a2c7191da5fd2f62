"""The host around a tumour, and smooth surfaces that keep the volume of the voxels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import ndimage

from oncoscale.core.errors import SegmentationRejected
from oncoscale.imaging.study import Grid, LabelImage
from oncoscale.meshing.surface import enclosed_volume, host_around, level_sets, surface_with_volume

Masks = Callable[..., LabelImage]


def test_host_is_a_layer_of_the_asked_width(ball: Masks) -> None:
    """Exactly the voxels within the margin of the tumour are host."""
    labels = host_around(ball(8.0), margin=6.0)
    distance = ndimage.distance_transform_edt(~labels.mask("tumour"), sampling=labels.grid.spacing)
    assert np.array_equal(labels.mask("host"), (distance <= 6.0) & (distance > 0.0))
    assert dict(labels.names) == {1: "host", 2: "tumour"}


def test_padding_moves_no_voxel_and_cuts_nothing(ball: Masks) -> None:
    """Nothing is labelled on the border of the padded grid, and the tumour's voxels stay where they were in mm."""
    tumour = ball(8.0)
    labels = host_around(tumour)
    inner = np.zeros(labels.values.shape, bool)
    inner[1:-1, 1:-1, 1:-1] = True
    assert labels.values[~inner].max() == 0
    before = tumour.grid.world(np.argwhere(tumour.mask("tumour")))
    after = labels.grid.world(np.argwhere(labels.mask("tumour")))
    np.testing.assert_allclose(after, before, atol=1e-12)
    assert labels.volume("tumour") == tumour.volume("tumour")


def test_a_tumour_at_the_image_border_is_not_cut(ball: Masks) -> None:
    """A mask that touches the border keeps its voxels and gets host on every side."""
    whole = ball(8.0)
    cut = LabelImage(whole.grid, whole.values.copy(), whole.names)
    cut.values[:10] = 0
    shorter = LabelImage(
        Grid((whole.grid.shape[0] - 10, *whole.grid.shape[1:]), whole.grid.affine), cut.values[10:], whole.names
    )
    labels = host_around(shorter, margin=5.0)
    assert labels.mask("tumour").sum() == shorter.mask("tumour").sum()
    grown = ndimage.binary_dilation(labels.mask("tumour"))
    assert np.all(labels.values[grown] > 0)


def test_host_ends_with_the_body_and_is_one_piece(ball: Masks) -> None:
    """The host stays inside the body, and what the body's outline cuts off from the tumour is left out."""
    tumour = ball(6.0)
    i = np.indices(tumour.grid.shape)[0]
    labels = host_around(tumour, margin=12.0, body=i != 1)
    assert ndimage.label(labels.values > 0)[1] == 1
    reached = tumour.grid.index(labels.grid.world(np.argwhere(labels.mask("host"))))
    assert round(reached[:, 0].min()) == 2


def test_cavities_of_the_host_are_filled(ball: Masks) -> None:
    """A hole in the body mask that the host encloses becomes host: a mesh with pinholes helps nobody."""
    tumour = ball(8.0)
    body = np.ones(tumour.grid.shape, bool)
    free = np.argwhere(~tumour.mask("tumour") & ndimage.binary_dilation(tumour.mask("tumour"), iterations=2))[0]
    body[tuple(free)] = False
    labels = host_around(tumour, margin=12.0, body=body)
    inside = labels.values > 0
    assert np.array_equal(ndimage.binary_fill_holes(inside), inside)


def test_no_tumour_is_refused(masked: Masks) -> None:
    """An empty mask is a typed refusal that says so."""
    with pytest.raises(SegmentationRejected, match="no voxel is labelled 'tumour'"):
        host_around(masked(np.zeros((5, 5, 5), bool)))


@pytest.mark.parametrize("spacing", [(2.0, 2.0, 3.5), (1.5, 1.5, 7.5)])
def test_smooth_surface_holds_the_volume_of_the_voxels(lobed: Masks, spacing: tuple[float, float, float]) -> None:
    """Smoothing shrinks; the level chosen by bisection gives the closed surface the voxel volume to 0.01 %."""
    tumour = lobed((60, 60, int(70 / spacing[2])), spacing)
    levels = level_sets(tumour, size=5.0)
    surface = surface_with_volume(levels.values[1], levels.to_world, float(levels.targets[0]), reach=6.0)
    assert surface.volume == pytest.approx(tumour.volume("tumour") * 1000.0, rel=1e-4)
    edges = np.sort(surface.triangles[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
    assert np.all(np.unique(edges, axis=0, return_counts=True)[1] == 2)


def test_surface_lies_where_the_voxels_are(lobed: Masks) -> None:
    """On a rotated, left-handed grid the surface keeps the voxels' centre of mass, and its normals point outwards."""
    turn = np.array([[0.6, 0.0, 0.8], [0.0, -1.0, 0.0], [-0.8, 0.0, 0.6]])
    tumour = lobed(turn=turn)
    levels = level_sets(tumour, size=6.0)
    surface = surface_with_volume(levels.values[1], levels.to_world, float(levels.targets[0]), reach=6.0)
    centre = tumour.grid.world(np.argwhere(tumour.mask("tumour"))).mean(axis=0)
    a, b, c = np.moveaxis(surface.points[surface.triangles], 1, 0)
    weight = np.einsum("ij,ij->i", a - centre, np.cross(b - centre, c - centre)) / 6.0
    found = centre + ((a + b + c - 3 * centre) / 4.0 * weight[:, None]).sum(axis=0) / weight.sum()
    np.testing.assert_allclose(found, centre, atol=0.2)
    assert enclosed_volume(surface.points, surface.triangles) > 0.0


def test_a_region_that_no_level_can_hold_is_refused(masked: Masks) -> None:
    """When no level within reach encloses the volume, the refusal names the volume and the remedy."""
    levels = level_sets(masked(np.pad(np.ones((3, 3, 3), bool), 4)), size=2.0)
    with pytest.raises(SegmentationRejected, match="no smooth surface"):
        surface_with_volume(levels.values[1], levels.to_world, 1e6, reach=1.0)
