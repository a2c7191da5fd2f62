"""All that a visit draws is kept beside the tumour, and the tumour may be named."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from oncoscale.core.errors import ConfigurationRejected
from oncoscale.imaging.segmentation import Segment, label_images
from oncoscale.imaging.structure_set import structure_labels
from oncoscale.imaging.study import Grid, ImagingStudy, LabelImage, ParametricMap
from oncoscale.imaging.visit_regions import names_in_file, remarks, with_all_regions, with_tumour

from .test_structure_set import GRID, STACK, StructureSet, on_slice, roi, square

MINE = Grid((20, 20, 10), np.diag([1.0, 1.0, 2.0, 1.0]), "1.2.3")


def box(name: str, low: int, high: int, grid: Grid = MINE, uid: str = "", called: str = "") -> LabelImage:
    """A label image with one cube, corners in mm along every axis."""
    places = np.moveaxis(grid.world(np.moveaxis(np.indices(grid.shape), 0, -1)), -1, 0)
    values = ((places >= low) & (places < high)).all(axis=0).astype(np.uint8)
    return LabelImage(grid, values, {1: name}, uid, called={1: called} if called else {})


def halves(grid: Grid) -> Grid:
    """The same place in voxels of half the size."""
    affine = grid.affine @ np.diag([0.5, 0.5, 0.5, 1.0])
    affine[:3, 3] = grid.world(np.full(3, -0.25))
    return Grid((2 * grid.shape[0], 2 * grid.shape[1], 2 * grid.shape[2]), affine, grid.frame_uid)


TUMOUR = box("tumour", 4, 10)


def test_a_tumour_alone_is_what_it_was():
    """Where no other label image is, or it holds another drawing of the tumour, nothing changes."""
    for others in ([], [box("tumour", 2, 12)], [replace(box("liver", 2, 12), names={})]):
        image, found = with_all_regions(TUMOUR, others)
        assert image is TUMOUR
        assert found == ()


def test_a_region_of_another_grid_is_put_beside_the_tumour():
    """A region drawn in voxels of half the size keeps its volume but for what is tumour; that is said, not doubted."""
    liver = box("liver", 8, 16, halves(MINE))
    image, (finding,) = with_all_regions(TUMOUR, [liver])
    assert image.grid is TUMOUR.grid
    np.testing.assert_array_equal(image.mask("tumour"), TUMOUR.mask("tumour"))
    shared = float((box("liver", 8, 16).mask("liver") & TUMOUR.mask("tumour")).sum()) * 2.0 / 1000.0
    assert shared > 0
    assert image.volume("liver") == pytest.approx(liver.volume("liver") - shared)
    assert finding.kind == "found"
    assert f"{shared:.3g} mL are tumour" in finding.text
    assert remarks([finding]) == ()


@pytest.mark.parametrize("seed", range(5))
def test_no_voxel_changes_its_region_once_it_has_one(seed):
    """Whatever is drawn where, a voxel has the region of the first image that gives it one, the tumour's first."""
    draw = np.random.default_rng(seed)
    names = ("tumour", "liver", "spine", "eye")
    images = [
        LabelImage(MINE, (draw.random(MINE.shape) < 0.3).astype(np.uint8), {1: name}, str(place))
        for place, name in enumerate(names)
    ]
    image, found = with_all_regions(images[0], images[1:])
    first = np.argmax([one.values for one in images], axis=0)
    anywhere = np.any([one.values for one in images], axis=0)
    for place, name in enumerate(names):
        np.testing.assert_array_equal(image.mask(name), anywhere & (first == place))
    assert [one.kind for one in found] == ["found", "doubted", "doubted"]
    assert remarks(found) == tuple(one.text for one in found[1:])


def test_two_drawings_of_one_name():
    """A copy says nothing; one that overlaps gives way to the first; one that does not is another part of it."""
    image, _ = with_all_regions(TUMOUR, [box("kidney", 12, 16)])
    again, found = with_all_regions(image, [box("Kidney", 12, 16)])
    assert (again, found) == (image, ())
    again, (finding,) = with_all_regions(image, [box("kidney", 13, 18)])
    assert again is image
    assert finding.kind == "doubted"
    assert "drawn more than once" in finding.text
    both, (finding,) = with_all_regions(image, [box("KIDNEY", 0, 3)])
    assert finding.kind == "found"
    assert set(both.names.values()) == {"tumour", "kidney"}
    assert both.volume("kidney") == pytest.approx(image.volume("kidney") + box("kidney", 0, 3).volume("kidney"))


def test_voxels_that_nobody_named_do_not_take_the_name_of_a_region():
    """A label image may hold numbers without a name; the number of a region that is added means that region alone."""
    values = np.where(box("", 14, 18).values, 2, TUMOUR.values).astype(np.uint8)
    vessel = box("vessel", 10, 12)
    image, _ = with_all_regions(replace(TUMOUR, values=values), [vessel])
    np.testing.assert_array_equal(image.mask("vessel"), vessel.mask("vessel"))


def test_two_regions_of_one_name_in_one_object_are_no_tumour_by_that_name():
    """They are refused, not put together, though they lie in one label image."""
    values = np.where(box("", 14, 18).values, 2, TUMOUR.values).astype(np.uint8)
    twice = replace(TUMOUR, values=values, names={1: "lesion", 2: "lesion"}, uid="1.2.3")
    with pytest.raises(ConfigurationRejected, match="2 regions are called 'lesion'"):
        with_tumour(ImagingStudy("1.2", labels=(twice,)), "lesion")


def test_what_cannot_be_kept_is_said():
    """Another frame of reference, a part outside the tumour's images, and nothing left are remarks."""
    elsewhere = replace(MINE, frame_uid="9.9")
    wide = Grid((60, 20, 10), MINE.affine, "")
    image, found = with_all_regions(
        TUMOUR, [box("skin", 12, 16, elsewhere), box("spine", 10, 18, wide), box("core", 5, 8)]
    )
    assert set(image.names.values()) == {"tumour", "spine"}
    texts = remarks(found)
    assert "another frame of reference" in texts[0]
    assert "skin" in texts[0]
    assert len(texts) == 2
    assert "no voxel is left" in texts[1]
    outside = replace(box("bone", 0, 1), grid=replace(wide, affine=wide.affine), values=np.zeros(wide.shape, np.uint8))
    outside.values[15:40, 2:4, 2:4] = 1
    image, (finding,) = with_all_regions(TUMOUR, [outside])
    assert image.volume("bone") == pytest.approx(5 * 4 * 2 / 1000)
    assert "0.16 mL lie outside the tumour's images" in finding.text
    assert finding.kind == "doubted"


# ------------------------------------------------------------------------------------------------------- named tumour


def structures() -> tuple[LabelImage, ...]:
    """Two tumours and an oedema around the first, as a structure set on a tilted stack."""
    rois = (
        roi(*(on_slice(square(9.5, 19.5), k) for k in (2, 3)), name="GTV-1"),
        roi(*(on_slice(square(21.5, 29.5), k) for k in (2, 3)), name="GTV-2", number=2),
        roi(*(on_slice(square(4.5, 34.5), k) for k in (1, 2, 3, 4)), name="GTV_Edema", number=3),
    )
    return structure_labels(StructureSet("1.2.4", rois, frozenset({"1.2.9"})), [STACK], "a structure set")[0]


def test_a_region_is_the_tumour_by_its_name_in_the_file():
    """Two regions that both mean a tumour are told apart by what the file calls them; the other one stays beside it."""
    study = ImagingStudy("1.2", labels=structures())
    for name, volume in (("GTV-1", 200), ("gtv 2", 128)):
        named = with_tumour(study, name)
        tumour = named.labels[0]
        assert tumour.mask("tumour").sum() == volume
        image, _ = with_all_regions(tumour, named.labels[1:])
        beside = set(image.names.values()) - {"tumour", "GTV_Edema"}
        assert beside == {f"other tumour ({'GTV-2' if volume == 200 else 'GTV-1'})"}
        assert image.mask("GTV_Edema").sum() == 4 * 900 - 200 - 128
        assert named.findings[-1].text.startswith(f"The tumour is {name}")
    drawn_around = with_tumour(study, "GTV Edema")
    image, found = with_all_regions(drawn_around.labels[0], drawn_around.labels[1:])
    assert image.mask("tumour").sum() == 3600
    assert set(image.names.values()) == {"tumour"}
    assert len(remarks(found)) == 2


def test_an_unknown_name_is_answered_by_those_there_are():
    """A name that no region has, and one that two regions of an object have, are the user's to change."""
    study = ImagingStudy("1.2", labels=structures())
    with pytest.raises(ConfigurationRejected, match="one of GTV-1, GTV-2, GTV_Edema"):
        with_tumour(study, "liver")
    with pytest.raises(ConfigurationRejected, match="2 regions are called 'tumor'"):
        with_tumour(study, "tumor")
    with pytest.raises(ConfigurationRejected, match="nobody drew one"):
        with_tumour(ImagingStudy("1.2"), "tumour")


def test_of_several_objects_the_one_on_the_grid_of_the_maps_is_taken():
    """The same name in two objects is two drawings: that on the grid of Ktrans counts, the other stays out."""
    coarse, fine = box("GTV p", 4, 10, uid="1"), box("GTV p", 4, 11, halves(MINE), uid="2")
    ktrans = ParametricMap("ktrans", "1/min", fine.grid, np.ones(fine.grid.shape))
    study = ImagingStudy("1.2", labels=(coarse, box("liver", 2, 14), fine))
    assert with_tumour(study, "gtv P").labels[0].volume("tumour") == coarse.volume("GTV p")
    named = with_tumour(replace(study, maps=(ktrans,)), "gtv P")
    assert named.labels[0].volume("tumour") == fine.volume("GTV p")
    image, _ = with_all_regions(named.labels[0], named.labels[1:])
    assert set(image.names.values()) == {"tumour", "liver"}
    assert "one of 2 drawings" in named.findings[-1].text


def test_segments_keep_the_label_of_their_file():
    """What a segment is called is known beside what it means, unless its label says nothing."""
    mask = np.zeros(GRID.shape, bool)
    mask[2:4, 2:4, 2] = True
    segments = [Segment(1, "tumour", mask, "GTV-A"), Segment(2, "skull", np.roll(mask, 5, axis=0), "REMOVED")]
    (image,) = label_images(GRID, segments, uid="1.2.5")
    assert image.names == {1: "tumour", 2: "skull"}
    assert names_in_file(image) == ["GTV-A", "skull"]
    assert with_tumour(ImagingStudy("1.2", labels=(image,)), "gtv a").labels[0].mask("tumour").sum() == 4
