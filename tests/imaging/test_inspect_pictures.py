"""Sheets of thumbnails: outlines closed, doses washed over their image, patients the right way round."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from oncoscale.app import inspect_pictures
from oncoscale.app.inspect_pictures import BRIGHT, CT_WINDOW, PANELS, sheet
from oncoscale.imaging.dicom_series import Read
from oncoscale.imaging.inspection import Visit
from oncoscale.imaging.study import Grid, ImagingStudy, LabelImage, ParametricMap, Series

SHAPE = (24, 20, 10)
PLACED = np.array([[2.0, 0, 0, -30], [0, 2, 0, -40], [0, 0, 3, 5], [0, 0, 0, 1]])


def image(affine=PLACED, frame="1.9", values=None, modality="MR"):
    """A series of one volume, brighter towards the patient's left and back."""
    grid = Grid(SHAPE, affine, frame)
    places = grid.world(np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), axis=-1))
    ramp = places[..., 0] + 3 * places[..., 1] + 500
    return Series("1", "anatomy", "", modality, grid, (ramp if values is None else values).astype(np.float32))


def block(affine=PLACED, frame="1.9", corner=(2, 2, 1), size=(8, 6, 8)):
    """A region that is a block of voxels."""
    values = np.zeros(SHAPE, dtype=np.uint8)
    values[tuple(slice(start, start + n) for start, n in zip(corner, size))] = 1
    return LabelImage(Grid(SHAPE, affine, frame), values, {1: "tumour"})


def dose(frame="1.9", most=60.0):
    """A dose in the upper half of the stack, on a coarser grid."""
    values = np.zeros((12, 10, 10))
    values[4:8, 3:7, 6:9] = most
    return ParametricMap("dose", "Gy", Grid((12, 10, 10), PLACED @ np.diag([2.0, 2, 1, 1]), frame), values)


def visit(series=(), labels=(), doses=()):
    """A visit that forms a study."""
    study = ImagingStudy("1", tuple(series), tuple(labels), doses=tuple(doses))
    return Visit("visit 1", 1, 0, ".", (), Read(), study, None, ())


@pytest.fixture
def drawn(monkeypatch):
    """A function from a visit to the axes of its slices, in the order of drawing."""

    def make(one):
        kept = []
        monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: kept.append(figure))
        sheet(one, "a visit")
        return [axes for axes in kept[-1].axes if axes.images]

    return make


def outlines(axes):
    """The outlines drawn in one picture, each as its corner points."""
    return [path.vertices for collection in axes.collections for path in collection.get_paths() if len(path.vertices)]


def seen(axes):
    """The picture as it meets the eye: rows from the top, columns from the left."""
    values = np.asarray(axes.images[0].get_array())
    across = slice(None, None, -1 if axes.get_xlim()[0] > axes.get_xlim()[1] else 1)
    down = slice(None, None, -1 if axes.get_ylim()[0] < axes.get_ylim()[1] else 1)
    return values[down, across]


@pytest.mark.parametrize("corner", [(0, 0, 0), (16, 14, 2), (0, 14, 1), (5, 5, 1)])
def test_an_outline_is_closed_where_the_region_meets_the_edge(drawn, corner):
    """It begins where it ends, and the picture stays as large as its image."""
    axes = drawn(visit([image()], [block(corner=corner)]))[2]
    (ring,) = outlines(axes)
    assert np.allclose(ring[0], ring[-1])
    assert sorted(axes.get_xlim()) == [-0.5, SHAPE[0] - 0.5]


@pytest.mark.parametrize("flips", [(1, 1), (-1, 1), (1, -1), (-1, -1)])
def test_the_patient_is_seen_the_same_way_however_voxels_are_stored(drawn, flips):
    """Left to the right and back down, for every order of columns and rows; outlines turn with the image."""
    turn = np.diag([*flips, 1, 1]).astype(float)
    turn[:2, 3] = [0 if flip > 0 else n - 1 for flip, n in zip(flips, SHAPE)]
    affine = PLACED @ turn
    stored = tuple(slice(None, None, flip) for flip in flips)
    region = replace(block(), grid=Grid(SHAPE, affine, "1.9"), values=block().values[stored])
    axes = drawn(visit([image(affine)], [region]))[0]
    picture = seen(axes)
    assert (np.diff(picture, axis=0) > 0).all()
    assert (np.diff(picture, axis=1) > 0).all()
    (ring,) = outlines(axes)
    within = axes.images[0].get_array()[int(ring[:, 1].mean()), int(ring[:, 0].mean())]
    plain = drawn(visit([image()], [block()]))[0].images[0].get_array()[4, 5]
    assert within == pytest.approx(plain, abs=9)
    assert [text.get_text() for text in axes.texts] == ["R", "A"]


def test_a_sagittal_picture_has_the_head_up_and_the_face_left(drawn):
    """Columns stored from back to front and rows from feet to head are turned."""
    affine = np.array([[0, 0, 3.0, -30], [-2.0, 0, 0, 20], [0, 2.0, 0, 5], [0, 0, 0, 1]])
    grid = Grid(SHAPE, affine, "1.9")
    height = grid.world(np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), axis=-1))
    axes = drawn(visit([image(affine, values=height[..., 2] * 100 + height[..., 1])]))[0]
    assert (np.diff(seen(axes), axis=0) < 0).all()
    assert (np.diff(seen(axes), axis=1) > 0).all()
    assert [text.get_text() for text in axes.texts] == ["A", "H"]


def test_a_region_that_lost_its_place_is_not_drawn_where_it_does_not_belong(drawn):
    """It begins at (0, 0, 0) and so do its images; an image that knows its place is another matter."""
    lost = np.diag([2.0, 2, 3, 1])
    axes = drawn(visit([image(), image(lost, "")], [block(lost, "")]))
    assert not any(outlines(one) for one in axes[:PANELS])
    assert all(outlines(one) for one in axes[PANELS:])


def test_a_dose_is_a_wash_over_the_image_of_its_frame(drawn):
    """On the slices that get it, nowhere below a tenth of it; an image of another frame carries none."""
    axes = drawn(visit([image(frame="1.8"), image()], doses=[dose()]))
    over = [one for one in axes if len(one.images) == 2]
    assert over
    for one in over:
        wash = np.ma.masked_invalid(one.images[1].get_array())
        assert wash.max() == pytest.approx(60.0)
        assert wash.min() >= 6.0
        assert 0 < wash.mask.mean() < 1
    levels = {int(one.get_title().removeprefix("slice ")) - 1 for one in over}
    assert levels <= {6, 7, 8}


def test_a_dose_without_its_image_is_drawn_alone(drawn):
    """In colour, with its unit; nothing is washed over a foreign image."""
    axes = drawn(visit([image(frame="1.8")], doses=[dose()]))
    assert all(len(one.images) == 1 for one in axes)
    assert {one.images[0].get_cmap().name for one in axes} == {"gray", "inferno"}


def test_grey_shows_soft_tissue_beside_air_and_patterns(drawn):
    """A CT's padding and a bright corner take no contrast from the rest."""
    values = np.linspace(-60, 120, np.prod(SHAPE)).reshape(SHAPE)
    values[:6], values[-1, :4] = -3024, 3000
    low, high = drawn(visit([image(values=values, modality="CT")]))[0].images[0].get_clim()
    assert CT_WINDOW[0] <= low < -60 < 110 < high <= CT_WINDOW[1]
    pattern = np.tile(np.linspace(0, 100, SHAPE[0])[:, None, None], (1, *SHAPE[1:]))
    pattern[:3, :10] = 12345
    low, high = drawn(visit([image(values=pattern)]))[0].images[0].get_clim()
    assert high <= low + BRIGHT * 100


def test_a_legend_that_is_too_long_says_how_much_is_missing(drawn, monkeypatch):
    """Eight names and the number of the others."""
    said = []
    monkeypatch.setattr(Figure, "legend", lambda figure, handles, **_: said.extend(one.get_label() for one in handles))
    names = [replace(block(), names={1: f"region {n}"}) for n in range(11)]
    drawn(visit([image()], names))
    assert said == [*(f"region {n}" for n in range(8)), "and 3 more"]


def test_rows_carry_the_numbers_that_the_option_takes():
    """The sheet's rows are numbered as the table is."""
    rows = [inspect_pictures._series_row(n, image(), []) for n in (1, 2)]
    assert [row.words[0] for row in rows] == ["1 · anatomy · MR", "2 · anatomy · MR"]
    png, left_out = sheet(visit([image()], [block()], [dose()]), "a visit")
    assert imread(BytesIO(png)).shape[2] == 4
    assert left_out == 0
