"""Segmentations read from every form, and the tumours that may be meshed."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
import SimpleITK

from oncoscale.core.errors import FileRejected, SegmentationRejected
from oncoscale.imaging.dicom_files import read_dicom
from oncoscale.imaging.nifti import write_labels, write_nifti
from oncoscale.imaging.segmentation import check_tumour, looks_like_labels, read_labels, read_segments, region_name
from oncoscale.imaging.study import Grid, LabelImage

GRID = Grid((12, 10, 8), np.diag([0.5, 0.5, 2.0, 1.0]))


def labels_of(*boxes, names=None):
    """A label image with boxes of label 1."""
    values = np.zeros(GRID.shape, dtype=np.uint8)
    for box in boxes:
        values[box] = 1
    return LabelImage(GRID, values, names or {1: "tumour"})


MAIN = np.s_[2:6, 2:6, 2:6]


# ------------------------------------------------------------------------------------------------------- the tumour


def test_one_piece_inside_the_image_passes_unchanged():
    """Nothing to do, nothing said."""
    labels = labels_of(MAIN)
    checked, findings = check_tumour(labels)
    assert checked is labels
    assert findings == ()


def test_an_empty_or_absent_tumour_is_refused():
    """No voxel, or no region of that name; the regions that exist are named."""
    with pytest.raises(SegmentationRejected, match="no voxel of 'tumour'"):
        check_tumour(labels_of())
    with pytest.raises(SegmentationRejected, match="named regions: Breast"):
        check_tumour(labels_of(MAIN, names={1: "Breast"}))
    with pytest.raises(SegmentationRejected, match="--roi"):
        check_tumour(labels_of(MAIN, names={1: "Breast"}))


@pytest.mark.parametrize(
    "box",
    [
        np.s_[0:3, 2:5, 2:5],
        np.s_[9:12, 2:5, 2:5],
        np.s_[2:5, 0:3, 2:5],
        np.s_[2:5, 7:10, 2:5],
        np.s_[2:5, 2:5, 0:3],
        np.s_[2:5, 2:5, 5:8],
    ],
)
def test_a_tumour_at_the_border_is_refused(box):
    """On any of the six faces it may go on outside."""
    with pytest.raises(SegmentationRejected, match="touches the border"):
        check_tumour(labels_of(box))


def test_two_pieces_are_refused_or_chosen_from():
    """The remedy names the option; the largest piece can be kept alone, or all."""
    labels = labels_of(MAIN, np.s_[8:11, 2:5, 2:5])
    with pytest.raises(SegmentationRejected, match="--pieces largest"):
        check_tumour(labels)
    largest, findings = check_tumour(labels, pieces="largest")
    assert int(largest.mask("tumour").sum()) == 64
    assert "27" not in findings[0].text
    assert "dropped" in findings[0].text
    every, none = check_tumour(labels, pieces="all")
    assert every is labels
    assert none == ()


def test_a_refusal_tells_the_pieces_and_not_the_specks():
    """As many volumes as pieces: the speck of one voxel beside two large pieces is no third."""
    labels = labels_of(MAIN, np.s_[8:11, 2:6, 2:6], np.s_[2:3, 8:9, 6:7])
    with pytest.raises(SegmentationRejected, match=r"2 separate pieces \(0.032, 0.024 mL\)"):
        check_tumour(labels)


def test_voxels_that_touch_at_edges_only_are_separate():
    """Two blocks that share an edge share no face: no tetrahedra could join them."""
    with pytest.raises(SegmentationRejected, match="2 separate pieces"):
        check_tumour(labels_of(np.s_[2:5, 2:5, 2:5], np.s_[5:8, 5:8, 2:5]))


def test_a_speck_is_dropped_and_reported():
    """Less than 1 % of the volume is a slip of the pen, not a second tumour."""
    values = np.zeros((20, 20, 20), dtype=np.uint8)
    values[2:9, 2:9, 2:9] = values[15, 15, 15] = 1
    labels = LabelImage(Grid((20, 20, 20), np.eye(4)), values, {1: "tumour"})
    checked, findings = check_tumour(labels)
    assert int(checked.mask("tumour").sum()) == 343
    assert findings[0].kind == "chosen"


def test_other_regions_survive_the_check():
    """Dropping a piece of the tumour leaves the other labels alone."""
    values = labels_of(MAIN, np.s_[8:11, 2:5, 2:5]).values.copy()
    values[2:6, 7:9, 2:6] = 2
    labels = LabelImage(GRID, values, {1: "tumour", 2: "kidney"})
    checked, _ = check_tumour(labels, pieces="largest")
    assert np.array_equal(checked.mask("kidney"), labels.mask("kidney"))


# ------------------------------------------------------------------------------------------------------------ files


def test_dicom_segmentations_equal_their_nrrd_originals(shared):
    """Binary and label-map objects hold the voxels of the label images they were made from, at the same places."""
    folder = shared / "dcmqi-examples" / "data" / "segmentations"
    for dicom, nrrd in (
        ("liver.dcm", "liver_seg.nrrd"),
        ("23x38x3/seg/label.seg", "23x38x3/nrrd/label.nrrd"),
        ("24x38x3/seg/label.seg", "24x38x3/nrrd/label.nrrd"),
        ("sparse-labelmap-noppv.dcm", "sparse_labelmap_noppv_seg.nrrd"),
    ):
        read, original = read_labels(folder / dicom), read_labels(folder / nrrd)
        inside, expected = np.argwhere(read.values > 0), np.argwhere(original.values > 0)
        where = np.sort(read.grid.world(inside).round(2).view("f8,f8,f8"), axis=0)
        there = np.sort(original.grid.world(expected).round(2).view("f8,f8,f8"), axis=0)
        assert len(inside) == len(expected)
        assert np.allclose(where.view(float), there.view(float), atol=0.02), dicom


def test_empty_slices_that_were_left_out_are_empty(shared):
    """Stored frames need not touch the end of the images: an empty slice stands at both ends."""
    read = read_labels(shared / "dcmqi-examples" / "data" / "segmentations" / "liver.dcm")
    assert read.names == {1: "Liver"}
    assert read.values.any(axis=(0, 1)).tolist() == [False, True, True, True, False]


def test_overlapping_segments_stay_apart(shared):
    """Seven frames of five segments on three slices; no voxel is lost to another segment."""
    path = shared / "dcmqi-examples" / "data" / "segmentations" / "partial_overlaps.dcm"
    grid, segments = read_segments(read_dicom(path, "file", pixels=True), "file")
    assert grid.shape == (512, 512, 3)
    assert len(segments) == 5
    assert np.sum([segment.mask for segment in segments], axis=0).max() > 1
    with pytest.raises(SegmentationRejected, match="overlapping segments"):
        read_labels(path)


def test_label_files_round_trip(tmp_path):
    """NIfTI keeps names; a nameless mask of one value is the tumour; NRRD is read in the same place."""
    labels = labels_of(MAIN, names={1: "tumour"})
    write_labels(tmp_path / "named.nii.gz", labels)
    read = read_labels(tmp_path / "named.nii.gz")
    assert read.names == {1: "tumour"}
    assert read.grid.same_as(GRID)
    assert np.array_equal(read.values, labels.values)
    image = SimpleITK.GetImageFromArray(labels.values.T)
    image.SetSpacing((0.5, 0.5, 2.0))
    SimpleITK.WriteImage(image, str(tmp_path / "mask.nrrd"))
    nrrd = read_labels(tmp_path / "mask.nrrd")
    assert nrrd.grid.same_as(GRID)
    assert nrrd.names == {1: "tumour"}
    assert np.array_equal(nrrd.values, labels.values)


def test_stated_names_replace_those_of_the_file(tmp_path):
    """The user knows best; a number that no voxel has is a mistake."""
    write_labels(tmp_path / "a.nii.gz", labels_of(MAIN, names={1: "Breast"}))
    assert read_labels(tmp_path / "a.nii.gz", names={1: "tumor"}).names == {1: "tumour"}
    with pytest.raises(SegmentationRejected, match="no voxel has label 4"):
        read_labels(tmp_path / "a.nii.gz", names={4: "tumour"})


def test_labels_without_names_are_asked_for(tmp_path):
    """Two values and no names: nobody can tell which is the tumour."""
    values = labels_of(MAIN).values.copy()
    values[8:10, 2:5, 2:5] = 2
    write_labels(tmp_path / "two.nii", LabelImage(GRID, values, {}))
    with pytest.raises(SegmentationRejected, match="--label NUMBER=tumour"):
        read_labels(tmp_path / "two.nii")


@pytest.mark.parametrize(
    "values",
    [np.full(GRID.shape, 0.5), np.full(GRID.shape, 300.0), np.full(GRID.shape, np.nan), np.full(GRID.shape, -1.0)],
)
def test_values_that_are_no_labels_are_refused(tmp_path, values):
    """Labels are whole numbers from 0 to 255."""
    write_nifti(tmp_path / "x.nii", GRID, values)
    with pytest.raises(SegmentationRejected, match="no labels"):
        read_labels(tmp_path / "x.nii")


def test_contours_and_other_files_are_refused_by_name(shared, tmp_path):
    """A structure set holds contours; a picture holds nothing; a detached NRRD points elsewhere."""
    contours = next((shared / "sts-001-rtstruct").rglob("*mask*/*.dcm"), None) or next(
        path for path in sorted((shared / "sts-001-rtstruct").rglob("*.dcm")) if b"RTSTRUCT" in path.read_bytes()[:4000]
    )
    with pytest.raises(SegmentationRejected, match="RTSTRUCT"):
        read_labels(contours)
    (tmp_path / "x.png").write_bytes(bytes(300))
    with pytest.raises(FileRejected, match="neither DICOM, NIfTI nor NRRD"):
        read_labels(tmp_path / "x.png")
    (tmp_path / "x.nrrd").write_text(
        "NRRD0004\ntype: uchar\ndimension: 3\nsizes: 2 2 2\nencoding: raw\ndata file: /etc/hostname\n\n"
    )
    with pytest.raises(FileRejected, match="another file"):
        read_labels(tmp_path / "x.nrrd")


def test_a_mask_of_the_mouse_is_its_table_s_tumour(shared):
    """465 mm³, one piece, inside the image."""
    labels = read_labels(shared / "kpc-mouse-day0" / "nifti" / "M123_DCE_Mask.nii.gz", names={3: "tumour"})
    checked, findings = check_tumour(labels)
    assert 1000 * checked.volume("tumour") == pytest.approx(465.47, abs=0.01)
    assert findings == ()


def test_words_for_a_tumour():
    """Plain words for a tumour mean one; words around a tumour do not."""
    assert {region_name(word) for word in ("Tumor", "TUMOUR", "tumor_1", "GTV_Mass", "Neoplasm, Primary")} == {"tumour"}
    assert region_name("Tumor bed") == "Tumor bed"
    assert region_name("GTV_Edema") == "GTV_Edema"
    assert region_name(" Breast ") == "Breast"


def test_label_images_are_told_from_images():
    """Few whole numbers are labels; grey values, fractions and constant images are not."""
    chance = np.random.default_rng(3)
    assert looks_like_labels(chance.integers(0, 5, (4, 4, 4)))
    assert not looks_like_labels(chance.integers(0, 200, (8, 8, 8)))
    assert not looks_like_labels(chance.random((4, 4, 4)))
    assert not looks_like_labels(np.zeros((4, 4, 4)))
    assert isinstance(nibabel.Nifti1Image(np.zeros((2, 2, 2)), np.eye(4)), nibabel.Nifti1Image)
