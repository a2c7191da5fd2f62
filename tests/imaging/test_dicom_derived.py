"""Maps, segmentations, reports and surfaces as DICOM, judged by programs that are not ours.

``dciodvfy`` and ``dcentvfy`` (dicom3tools) know the standard, dcmqi reads maps, segments and reports back. Each judge
is also shown a broken object, which it must reject: a judge that accepts everything proves nothing.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import EnhancedMRImageStorage, ExplicitVRLittleEndian

from oncoscale.app.commands import ReadOptions
from oncoscale.app.commands import ingest as ingest_command
from oncoscale.app.commands import quantify as quantify_command
from oncoscale.core.errors import ConfigurationRejected, SegmentationRejected, StudyRejected, UnitMissing
from oncoscale.imaging.derived_codes import SCHEME, input_curve_code, quantity_code
from oncoscale.imaging.derived_object import SeriesHead
from oncoscale.imaging.derived_study import write_derived
from oncoscale.imaging.dicom_read import read_study
from oncoscale.imaging.dicom_write import (
    MRSeries,
    SegmentationHead,
    Volume,
    derived_uid,
    image_headers,
    write_mr_series,
    write_segmentation,
)
from oncoscale.imaging.map_files import Quantified
from oncoscale.imaging.measurement_report import measure
from oncoscale.imaging.nifti import write_nifti
from oncoscale.imaging.parametric_map import PADDING, write_parametric_map
from oncoscale.imaging.quantify import QuantifySettings
from oncoscale.imaging.source_images import SourceImages, frames_by_slice, read_source_images, refer_to
from oncoscale.imaging.study import Grid, ImagingStudy, LabelImage, ParametricMap
from oncoscale.imaging.surface_dicom import stl_triangles, write_surface_object

from .oblique import GRADIENT_ECHO, SHAPE, oblique_grid
from .oblique import STUDY as SHARED_STUDY

PRIVATE = f"Unrecognized defined term = <{SCHEME}>"
"""The validator warns of every private coding scheme that it has not heard of: not a fault of the object."""
REPORT_ENTITY = "Element=<AccessionNumber> IE <Study> versus <Series>"
"""dcentvfy says this of every structured report beside an image (project specification, imaging §12)."""
STUDY: dict[str, Any] = {
    **SHARED_STUDY,
    "PatientAge": "004Y",
    "PatientWeight": 15.5,
    "PatientIdentityRemoved": "YES",
    "DeidentificationMethod": "invented",
    "StudyDescription": "invented",
    "StudyInstanceUID": derived_uid("derived objects", "study"),
}
GRID = oblique_grid(derived_uid("derived objects", "frame"))
SERIES = MRSeries(derived_uid("derived objects", "series"), 1, "dynamic", GRID, STUDY, GRADIENT_ECHO, (100.0, 200.0))
HEAD = SeriesHead(
    derived_uid("derived objects", "s"), derived_uid("derived objects", "i"), 9, "test", ("20240115", "103000")
)


def a_map(name: str = "ktrans", unit: str = "1/min", method: str = "extended-tofts, variable projection") -> Any:
    """Different in every voxel, with one that is invalid."""
    values = 1e-3 * (1.0 + np.arange(np.prod(SHAPE), dtype=np.float64).reshape(SHAPE))
    values[0, 0, 0] = np.nan
    return ParametricMap(name, unit, GRID, values.astype(np.float32).astype(float), None, (SERIES.uid,), method)


def three_regions() -> LabelImage:
    """A tumour and a necrosis, unlike under every flip, and a muscle that is no finding."""
    values = np.zeros(SHAPE, np.uint8)
    values[1:4, 1:3, 1] = 1
    values[4, 2:4, 2] = 2
    values[5, 4, 3] = 3
    return LabelImage(GRID, values, {1: "tumour", 2: "necrosis", 3: "muscle"})


def drawn_tumour() -> LabelImage:
    """A block of 3 x 3 x 2 voxels inside the grid."""
    return LabelImage(GRID, np.pad(np.ones((3, 3, 2), np.uint8), ((1, 2), (1, 1), (1, 1))), {1: "tumour"})


def heights() -> ParametricMap:
    """Each slice holds its own position along the normal, mm."""
    normal = GRID.affine[:3, 2] / GRID.spacing[2]
    places = GRID.world(np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), axis=-1)) @ normal
    return ParametricMap("height", "mm", GRID, places, None, (SERIES.uid,), "position")


@pytest.fixture(scope="module")
def visit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dynamic series of three frames on the oblique grid."""
    folder = tmp_path_factory.mktemp("visit") / "images"
    values = np.full(SHAPE, 100, np.uint16)
    values[1:4, 1:3, 1:3] = 150
    frames = [
        Volume(values + 60 * n * (values > 100), {"AcquisitionTime": f"1000{n}0", "ContentTime": f"1000{n}0"})
        for n in range(3)
    ]
    write_mr_series(folder, SERIES, frames)
    return folder


@pytest.fixture(scope="module")
def images(visit: Path) -> SourceImages:
    return read_source_images(visit)


@pytest.fixture(scope="module")
def study(visit: Path) -> ImagingStudy:
    return read_study(visit)


@pytest.fixture(scope="module")
def derived(study: ImagingStudy, images: SourceImages, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All kinds of derived object of that visit, in one folder."""
    folder = tmp_path_factory.mktemp("derived") / "dicom"
    maps = [a_map(), a_map("ktrans_error"), a_map("ser", "1", "(S1 - S0) / (S2 - S0)"), a_map("ktrans_raw")]
    maps += [a_map("model", "1", "1 tofts, 2 extended-tofts")]
    quantified = Quantified(
        {one.name: one for one in maps},
        tumour=three_regions(),
        summary={"aif": "Parker", "settings": {"aif": "parker"}},
    )
    written = write_derived(quantified, study, images, folder)
    assert written.files == ("ktrans.dcm", "ktrans_error.dcm", "ser.dcm", "model.dcm", "tumour.dcm", "measurements.dcm")
    corners = np.array([[0, 0, 0], [9, 0, 0], [0, 8, 0], [0, 0, 7.0]]) + GRID.affine[:3, 3]
    faces = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
    write_surface_object(folder / "surface.dcm", corners, faces, [pydicom.dcmread(folder / "tumour.dcm")], HEAD)
    return folder


# ----------------------------------------------------------------------------------------------------------- judges


def judge(name: str, *arguments: Path | str) -> subprocess.CompletedProcess[str]:
    """Run a judge that is installed beside python, or skip with the reason."""
    program = Path(sys.executable).with_name(name)
    if not program.exists():
        pytest.skip(f"{name} is not installed beside python")
    return subprocess.run([program, *arguments], capture_output=True, text=True, check=False)


def faults(path: Path) -> list[str]:
    """What dciodvfy has against an object, its ignorance of our coding scheme left out."""
    run = judge("dciodvfy", "-new", path)
    lines = (run.stdout + run.stderr).splitlines()
    return [line for line in lines if line.startswith(("Error", "Warning")) and not line.endswith(PRIVATE)]


def disagreements(*files: Path) -> list[str]:
    """What dcentvfy has against a set of objects, the one known sentence on reports left out."""
    run = judge("dcentvfy", *files)
    lines = (run.stdout + run.stderr).splitlines()
    return [line for line in lines if line.startswith(("Error", "Warning")) and REPORT_ENTITY not in line]


def by_dcmqi(program: str, path: Path, folder: Path) -> tuple[int, list[Path]]:
    """(exit code, images written) of a dcmqi converter."""
    folder.mkdir(parents=True, exist_ok=True)
    run = judge(program, "--inputDICOM", path, "--outputDirectory", folder, "-t", "nrrd")
    return run.returncode, sorted(folder.glob("*.nrrd"))


def on_grid(path: Path) -> np.ndarray:
    """(i, j, k) values of an image that dcmqi wrote, at the grid's places; NaN where it has none."""
    image = sitk.ReadImage(str(path))
    stored = sitk.GetArrayFromImage(image)
    result = np.full(SHAPE, np.nan)
    for index in np.ndindex(*SHAPE):
        place = image.TransformPhysicalPointToIndex([float(x) for x in GRID.world(np.array(index))])
        if all(0 <= place[a] < image.GetSize()[a] for a in range(3)):
            result[index] = stored[place[::-1]]
    return result


def broken(path: Path, target: Path, breaks: Callable[[Dataset], object]) -> Path:
    """A copy of an object with something wrong."""
    dataset = pydicom.dcmread(path)
    breaks(dataset)
    dataset.save_as(target)
    return target


# ------------------------------------------------------------------------------------------------- standard's judge


@pytest.mark.parametrize("name", ["ktrans", "ktrans_error", "ser", "tumour", "measurements", "surface"])
def test_derived_objects_obey_the_standard(derived: Path, name: str) -> None:
    """The validator finds neither error nor warning in any of them."""
    assert faults(derived / f"{name}.dcm") == []


@pytest.mark.parametrize("storage", ["float64", "uint16"])
def test_other_storages_obey_the_standard(tmp_path: Path, storage: Any) -> None:
    """So do double precision and integers with a slope."""
    write_parametric_map(tmp_path / "map.dcm", a_map(), image_headers(SERIES, 0, {}), HEAD, storage=storage)
    assert faults(tmp_path / "map.dcm") == []


@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP", "FRACTIONAL"])
def test_every_kind_of_segmentation_is_valid_and_read_back(tmp_path: Path, kind: Any) -> None:
    """Each passes the validator, and dcmqi finds each segment where it was drawn."""
    head = SegmentationHead(HEAD.series_uid, HEAD.instance_uid, 9, "test", HEAD.moment, ("a", "1"))
    write_segmentation(tmp_path / "seg.dcm", three_regions(), image_headers(SERIES, 0, {}), head, kind)
    assert faults(tmp_path / "seg.dcm") == []
    code, files = by_dcmqi("segimage2itkimage", tmp_path / "seg.dcm", tmp_path / "out")
    assert code == 0
    found = [np.nan_to_num(on_grid(file)) for file in files]
    labels = three_regions().values
    wanted = [labels] if kind == "LABELMAP" else [labels == value for value in (1, 2, 3)]
    for values, truth in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(values if kind == "LABELMAP" else values > 0, truth)


def test_occupancy_is_kept(tmp_path: Path) -> None:
    """A fractional segmentation holds the share of each voxel to 1/255."""
    share = np.where(three_regions().mask("tumour"), 0.3, 0.0)
    full = three_regions().mask("necrosis").astype(float)
    head = SegmentationHead(HEAD.series_uid, HEAD.instance_uid, 9, "test", HEAD.moment)
    write_segmentation(
        tmp_path / "seg.dcm",
        three_regions(),
        image_headers(SERIES, 0, {}),
        head,
        "FRACTIONAL",
        {"tumour": share, "necrosis": full, "muscle": full},
    )
    seg = pydicom.dcmread(tmp_path / "seg.dcm")
    assert seg.SegmentationFractionalType == "OCCUPANCY"
    values = set(np.unique(seg.pixel_array) / seg.MaximumFractionalValue)
    assert sorted(values) == pytest.approx([0.0, 0.3, 1.0], abs=1 / 255)


def test_objects_and_images_agree_on_patient_and_study(derived: Path, visit: Path) -> None:
    """No attribute of patient or study differs between the images and what was made from them."""
    assert disagreements(*derived.glob("*.dcm"), *visit.glob("*.dcm")) == []


def test_the_standards_judges_see_what_is_wrong(derived: Path, visit: Path, tmp_path: Path) -> None:
    """A window below 1 without LINEAR_EXACT, and an age that differs, are found."""

    def narrow(dataset: Dataset) -> None:
        del dataset.SharedFunctionalGroupsSequence[0].FrameVOILUTSequence[0].VOILUTFunction

    assert any("WindowWidth" in line for line in faults(broken(derived / "ktrans.dcm", tmp_path / "1.dcm", narrow)))
    aged = broken(derived / "surface.dcm", tmp_path / "2.dcm", lambda dataset: setattr(dataset, "PatientAge", "005Y"))
    assert any("PatientAge" in line for line in disagreements(aged, *visit.glob("*.dcm")))


# ----------------------------------------------------------------------------------------------------- dcmqi's eyes


def test_values_lie_where_they_were_made(tmp_path: Path) -> None:
    """A map whose values are slice positions comes back unmirrored; the same frames descending come back mirrored."""
    write_parametric_map(tmp_path / "height.dcm", heights(), image_headers(SERIES, 0, {}), HEAD)
    code, files = by_dcmqi("paramap2itkimage", tmp_path / "height.dcm", tmp_path / "out")
    assert code == 0
    np.testing.assert_allclose(on_grid(files[0]), heights().values, rtol=1e-6)

    def descending(dataset: Dataset) -> None:
        dataset.PerFrameFunctionalGroupsSequence = Items(reversed(dataset.PerFrameFunctionalGroupsSequence))
        frames = np.frombuffer(dataset.FloatPixelData, "<f4").reshape(SHAPE[2], -1)
        dataset.FloatPixelData = frames[::-1].tobytes()

    path = broken(tmp_path / "height.dcm", tmp_path / "descending.dcm", descending)
    _, files = by_dcmqi("paramap2itkimage", path, tmp_path / "mirrored")
    assert not np.allclose(np.nan_to_num(on_grid(files[0])), heights().values, rtol=1e-3)


def test_dcmqi_reads_quantity_unit_and_model(derived: Path, tmp_path: Path) -> None:
    """The codes of a map arrive; a map without anatomy in its frames is not read."""
    code, _ = by_dcmqi("paramap2itkimage", derived / "ktrans.dcm", tmp_path / "out")
    told = json.loads((tmp_path / "out" / "meta.json").read_text())
    read = [told[key]["CodeValue"] for key in ("QuantityValueCode", "MeasurementUnitsCode", "MeasurementMethodCode")]
    assert (code, read) == (0, ["126312", "/min", "126341"])

    def bare(dataset: Dataset) -> None:
        del dataset.SharedFunctionalGroupsSequence[0].FrameAnatomySequence

    code, files = by_dcmqi(
        "paramap2itkimage", broken(derived / "ktrans.dcm", tmp_path / "bare.dcm", bare), tmp_path / "bare"
    )
    assert code != 0
    assert files == []


def test_dcmqi_rejects_a_segmentation_without_segments(derived: Path, tmp_path: Path) -> None:
    """Frames that belong to no segment are not read."""
    path = broken(derived / "tumour.dcm", tmp_path / "seg.dcm", lambda dataset: dataset.pop("SegmentSequence"))
    code, files = by_dcmqi("segimage2itkimage", path, tmp_path / "out")
    assert code != 0 or files == []


def test_dcmqi_reads_the_report(derived: Path, tmp_path: Path) -> None:
    """Every number of every region arrives with its unit and derivation; a document of another template does not."""
    run = judge(
        "tid1500reader", "--inputDICOM", derived / "measurements.dcm", "--outputMetadata", tmp_path / "report.json"
    )
    told = json.loads((tmp_path / "report.json").read_text())
    assert run.returncode == 0
    assert [group["TrackingIdentifier"] for group in told["Measurements"]] == ["oncoscale-tumour", "oncoscale-necrosis"]
    for group, name in zip(told["Measurements"], ("tumour", "necrosis"), strict=True):
        truth = measure({"ktrans": a_map(), "ser": a_map("ser", "1", "")}, three_regions(), name)
        numbers = [truth.volume, *[x for one in truth.maps for x in (one.mean, one.median, one.deviation)]]
        items = group["measurementItems"]
        assert [float(item["value"]) for item in items] == pytest.approx(numbers)
        assert [item["units"]["CodeValue"] for item in items] == ["ml", *["/min"] * 3, *["1"] * 3]
        assert [item["derivationModifier"]["CodeMeaning"] for item in items[1:4]] == [
            "Mean",
            "Median",
            "Standard Deviation",
        ]
    path = broken(derived / "measurements.dcm", tmp_path / "sr.dcm", lambda dataset: dataset.pop("ContentSequence"))
    run = judge("tid1500reader", "--inputDICOM", path, "--outputMetadata", tmp_path / "broken.json")
    assert run.returncode != 0 or not json.loads((tmp_path / "broken.json").read_text()).get("Measurements")


# ------------------------------------------------------------------------------------------------------- what we say


def test_a_map_read_by_ourselves_is_the_same(derived: Path) -> None:
    """Name, unit, grid and every voxel come back; invalid voxels are NaN; errors are taken for no quantity of ours."""
    maps = {one.name: one for one in read_study(derived / "ktrans.dcm").maps}
    assert maps["ktrans"].unit == "1/min"
    assert maps["ktrans"].grid.same_as(GRID)
    np.testing.assert_array_equal(maps["ktrans"].values, a_map().values)
    assert [one.name for one in read_study(derived / "ktrans_error.dcm").maps] == ["other"]
    assert [one.name for one in read_study(derived / "ser.dcm").maps] == ["ser"]


def test_storages_and_fill(tmp_path: Path) -> None:
    """Doubles are exact, integers within half a step of the range; NaN is NaN, padding, or what the user puts there."""
    one, sources = a_map(), image_headers(SERIES, 0, {})
    write_parametric_map(tmp_path / "f8.dcm", one, sources, HEAD, storage="float64")
    stored = np.frombuffer(pydicom.dcmread(tmp_path / "f8.dcm").DoubleFloatPixelData, "<f8").reshape(SHAPE[::-1])
    np.testing.assert_array_equal(stored.T, one.values)
    write_parametric_map(tmp_path / "u2.dcm", one, sources, HEAD, storage="uint16")
    short = pydicom.dcmread(tmp_path / "u2.dcm")
    mapping = short.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence[0]
    values = short.pixel_array.T * mapping.RealWorldValueSlope + mapping.RealWorldValueIntercept
    valid = np.isfinite(one.values)
    assert (short.pixel_array.T[~valid] == short.PixelPaddingValue).all()
    assert mapping.RealWorldValueLastValueMapped == short.PixelPaddingValue - 1 == PADDING - 1
    np.testing.assert_allclose(values[valid], one.values[valid], atol=0.51 * mapping.RealWorldValueSlope)
    write_parametric_map(tmp_path / "fill.dcm", one, sources, HEAD, fill=-1.0)
    filled = np.frombuffer(pydicom.dcmread(tmp_path / "fill.dcm").FloatPixelData, "<f4").reshape(SHAPE[::-1])
    assert filled[0, 0, 0] == -1.0
    assert np.isfinite(filled).all()


def test_an_object_says_whose_it_is_what_it_is_for_and_what_it_was_made_from(derived: Path, visit: Path) -> None:
    """Patient and study are the source's, every frame names its three source images, and use is research."""
    source = pydicom.dcmread(visit / "image-00001.dcm", stop_before_pixels=True)
    for path in derived.glob("*.dcm"):
        dataset = pydicom.dcmread(path)
        for keyword in (key for key in STUDY if key not in ("PatientPosition", "BodyPartExamined")):
            assert dataset.get(keyword) == source.get(keyword), (path.name, keyword)
        assert dataset.Manufacturer == "oncoscale"
        assert dataset.SoftwareVersions
    one = pydicom.dcmread(derived / "ktrans.dcm")
    assert one.ContentQualification == "RESEARCH"
    assert one.FrameOfReferenceUID == GRID.frame_uid
    for k, frame in enumerate(one.PerFrameFunctionalGroupsSequence):
        named = {item.ReferencedSOPInstanceUID for item in frame.DerivationImageSequence[0].SourceImageSequence}
        assert named == {derived_uid(SERIES.uid, n * SHAPE[2] + k + 1) for n in range(3)}
    drawn = pydicom.dcmread(derived / "tumour.dcm")
    assert drawn.ReferencedSeriesSequence[0].SeriesInstanceUID == SERIES.uid
    kinds = [item.SegmentedPropertyTypeCodeSequence[0].CodeMeaning for item in drawn.SegmentSequence]
    assert kinds == ["Neoplasm", "Necrosis"]
    numbers = [pydicom.dcmread(path).SeriesInstanceUID for path in derived.glob("*.dcm")]
    assert len(set(numbers)) == len(numbers)


def test_equal_input_gives_equal_files(study: ImagingStudy, images: SourceImages, tmp_path: Path) -> None:
    """Nothing comes from the clock or from chance; other values are another object."""
    maps = {"ktrans": a_map()}
    changed = {"ktrans": a_map(method="tofts, variable projection")}
    for folder, content in (("a", maps), ("b", maps), ("c", changed)):
        write_derived(Quantified(content, tumour=three_regions()), study, images, tmp_path / folder)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name
    ids = [pydicom.dcmread(tmp_path / folder / "ktrans.dcm").SOPInstanceUID for folder in "ac"]
    assert ids[0] != ids[1]


def test_a_surface_keeps_its_triangles(derived: Path) -> None:
    """The encapsulated STL holds the corners in mm LPS to single precision, its normals point outwards."""
    dataset = pydicom.dcmread(derived / "surface.dcm")
    data = dataset.EncapsulatedDocument[: dataset.EncapsulatedDocumentLength]
    assert len(data) == 84 + 50 * 4
    triangles = stl_triangles(data)
    assert np.unique(triangles.reshape(-1, 3), axis=0).min(axis=0) == pytest.approx(GRID.affine[:3, 3], abs=1e-5)
    six = np.einsum("fi,fi->f", triangles[:, 0], np.cross(triangles[:, 1], triangles[:, 2])).sum()
    assert six / 6 == pytest.approx(9 * 8 * 7 / 6, rel=1e-4)
    assert dataset.MeasurementUnitsCodeSequence[0].CodeValue == "mm"
    with pytest.raises(SegmentationRejected):
        write_surface_object(derived / "x.dcm", np.zeros((3, 3)), np.zeros((0, 3), int), [dataset], HEAD)


def test_sources_of_another_study_are_named_apart() -> None:
    """A reference stands under the study that its instance belongs to."""
    own, other = image_headers(SERIES, 0, {})[:2]
    other.StudyInstanceUID = "1.2.3"
    dataset = Dataset()
    dataset.StudyInstanceUID = own.StudyInstanceUID
    refer_to(dataset, [own, other, own])
    here = dataset.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    there = dataset.StudiesContainingOtherReferencedInstancesSequence[0]
    assert [item.ReferencedSOPInstanceUID for item in here] == [own.SOPInstanceUID]
    assert there.StudyInstanceUID == "1.2.3"
    named = there.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    assert [item.ReferencedSOPInstanceUID for item in named] == [other.SOPInstanceUID]


def test_codes() -> None:
    """Standard codes where there are any, ours elsewhere; kinds of input curve as the user chose them."""
    assert quantity_code("adc").scheme_designator == "DCM"
    assert quantity_code("pe").scheme_designator == SCHEME
    curves = (("parker",), ("mine.csv",), ("measured", "mask.nii.gz"), ("measured",))
    assert [input_curve_code(*one).value for one in curves] == ["126361", "126362", "126362", "126363"]
    with pytest.raises(ConfigurationRejected):
        quantity_code("a name that is far too long")


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"values": np.full(SHAPE, np.nan)}, StudyRejected),
        ({"unit": "furlong"}, UnitMissing),
        ({"grid": Grid(SHAPE, np.diag([1.0, 1, -1, 1]), "1.2")}, StudyRejected),
    ],
)
def test_maps_that_cannot_be_said_are_refused(tmp_path: Path, change: dict[str, Any], error: type[Exception]) -> None:
    """No value, a unit without code, and a left-handed grid leave no file."""
    with pytest.raises(error):
        write_parametric_map(tmp_path / "x.dcm", replace(a_map(), **change), image_headers(SERIES, 0, {}), HEAD)
    with pytest.raises(StudyRejected):
        write_parametric_map(tmp_path / "x.dcm", a_map(), [], HEAD)
    assert not list(tmp_path.iterdir())


# -------------------------------------------------------------------------------------------------- enhanced sources


def enhanced_image(values: np.ndarray) -> Dataset:
    """The slices of the grid as one enhanced MR object, frames in no order."""
    classic = image_headers(SERIES, 0, {})
    order = [2, 0, 3, 1]
    image = Dataset()
    for element in classic[0]:
        if element.keyword not in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
            image.add(element)
    image.SOPClassUID, image.SOPInstanceUID = EnhancedMRImageStorage, derived_uid("derived objects", "enhanced")
    image.NumberOfFrames = len(order)
    shared, frames = Dataset(), []
    measures, orientation = Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = classic[0].PixelSpacing, classic[0].SliceThickness
    orientation.ImageOrientationPatient = classic[0].ImageOrientationPatient
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = Items([measures]), Items([orientation])
    for k in order:
        place, frame = Dataset(), Dataset()
        place.ImagePositionPatient = classic[k].ImagePositionPatient
        frame.PlanePositionSequence = Items([place])
        frames.append(frame)
    image.SharedFunctionalGroupsSequence, image.PerFrameFunctionalGroupsSequence = Items([shared]), Items(frames)
    image.PixelData = np.ascontiguousarray(values.transpose(2, 1, 0)[order], dtype="<u2").tobytes()
    image["PixelData"].VR = "OW"
    image.file_meta = pydicom.dataset.FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return image


def test_frames_of_enhanced_images_are_named(tmp_path: Path) -> None:
    """A map and a segmentation on an enhanced series refer to the frame at their place, and are valid."""
    (tmp_path / "images").mkdir()
    enhanced_image(np.arange(np.prod(SHAPE)).reshape(SHAPE)).save_as(
        tmp_path / "images" / "a.dcm", enforce_file_format=True
    )
    study, images = read_study(tmp_path / "images"), read_source_images(tmp_path / "images")
    write_derived(Quantified({"ktrans": a_map()}, tumour=three_regions()), study, images, tmp_path / "dicom")
    frame_of_slice = {0: 2, 1: 4, 2: 1, 3: 3}
    for name in ("ktrans", "tumour"):
        assert faults(tmp_path / "dicom" / f"{name}.dcm") == []
        for frame in pydicom.dcmread(tmp_path / "dicom" / f"{name}.dcm").PerFrameFunctionalGroupsSequence:
            place = np.array(frame.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
            item = frame.DerivationImageSequence[0].SourceImageSequence[0]
            assert item.ReferencedFrameNumber == frame_of_slice[round(GRID.index(place)[2])]
            assert item.ReferencedSOPClassUID == EnhancedMRImageStorage
    assert [len(one) for one in frames_by_slice(GRID, images.headers.values())] == [1, 1, 1, 1]


# ------------------------------------------------------------------------------------------------------- the command


def test_quantify_writes_dicom_beside_its_maps(visit: Path, tmp_path: Path) -> None:
    """``--dicom`` adds maps, segmentation and report of a visit; all are valid and agree with its images."""
    head = SegmentationHead(HEAD.series_uid, HEAD.instance_uid, 9, "drawn", HEAD.moment)
    mask = tmp_path / "mask.dcm"
    write_segmentation(mask, drawn_tumour(), image_headers(SERIES, 0, {}), head)
    done = quantify_command(
        str(visit),
        out=tmp_path / "maps",
        store=None,
        settings=QuantifySettings(threads=1),
        mask=mask,
        dicom=True,
        reading=ReadOptions(),
    )
    files = sorted(path.name for path in (tmp_path / "maps" / "dicom").iterdir())
    assert files == ["measurements.dcm", "pe.dcm", "ser.dcm", "tumour.dcm"] == sorted(done.content["dicom"])
    assert (tmp_path / "maps" / "maps.json").exists()
    paths = [tmp_path / "maps" / "dicom" / name for name in files]
    assert [fault for path in paths for fault in faults(path)] == []
    assert disagreements(*paths, *visit.glob("*.dcm")) == []


def test_the_study_s_own_segmentation_is_referred_to(visit: Path, tmp_path: Path) -> None:
    """A tumour used as the study's DICOM segmentation draws it is not written a second time."""
    folder = tmp_path / "images"
    folder.mkdir()
    for path in visit.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    head = SegmentationHead(HEAD.series_uid, HEAD.instance_uid, 9, "drawn", HEAD.moment)
    write_segmentation(folder / "seg.dcm", three_regions(), image_headers(SERIES, 0, {}), head)
    study = read_study(folder)
    quantified = Quantified({"ktrans": a_map()}, tumour=study.labels[0])
    written = write_derived(quantified, study, read_source_images(folder), tmp_path / "dicom")
    assert written.files == ("ktrans.dcm", "measurements.dcm")
    report = pydicom.dcmread(tmp_path / "dicom" / "measurements.dcm")
    assert HEAD.instance_uid in str(report.CurrentRequestedProcedureEvidenceSequence)


def test_a_stored_study_keeps_its_pseudonym(visit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Objects made from a stored study carry the pseudonym and the mapped identities of its images, and are valid."""
    monkeypatch.setenv("ONCOSCALE_VAULT", str(tmp_path / "vault"))
    folder, store = tmp_path / "images", tmp_path / "store"
    shutil.copytree(visit, folder)
    head = SegmentationHead(HEAD.series_uid, HEAD.instance_uid, 9, "drawn", HEAD.moment)
    write_segmentation(folder / "seg.dcm", drawn_tumour(), image_headers(SERIES, 0, {}), head)
    consent = tmp_path / "consent.toml"
    consent.write_text('status = "active"\n', encoding="utf-8")
    kept = ingest_command(folder, store=store, subject="Jane", consent=consent, site="one").content
    done = quantify_command(
        str(kept["study"]), out=tmp_path / "maps", store=store, settings=QuantifySettings(threads=1), dicom=True
    )
    image = next((store / "studies" / str(kept["study"]) / "images").rglob("*.dcm"))
    source, inherited = pydicom.dcmread(image), set(faults(image))  # a pseudonym has no family name
    assert source.PatientID != STUDY["PatientID"]
    for name in done.content["dicom"]:
        dataset = pydicom.dcmread(tmp_path / "maps" / "dicom" / name)
        for keyword in ("PatientID", "PatientName", "StudyInstanceUID", "StudyDate", "PatientIdentityRemoved"):
            assert dataset.get(keyword) == source.get(keyword), (name, keyword)
        assert set(faults(tmp_path / "maps" / "dicom" / name)) <= inherited, name


def test_images_without_dicom_are_refused(tmp_path: Path) -> None:
    """A folder of NIfTI has no patient to belong to: exit code 2, and nothing is written."""
    (tmp_path / "images").mkdir()
    write_nifti(tmp_path / "images" / "ktrans.nii.gz", GRID, a_map().values)
    with pytest.raises(StudyRejected, match="none of the images is DICOM") as caught:
        quantify_command(
            str(tmp_path / "images"),
            out=tmp_path / "maps",
            store=None,
            settings=QuantifySettings(threads=1),
            dicom=True,
            reading=ReadOptions(units=["ktrans=1/min"]),
        )
    assert caught.value.exit_code == 2
    assert not (tmp_path / "maps").exists()
