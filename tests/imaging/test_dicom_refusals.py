"""Bad input: each kind is refused with a typed error of exit code 2 that says what to do and names nobody."""

from __future__ import annotations

import time
import tracemalloc
import zlib
from copy import deepcopy

import numpy as np
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian

from oncoscale.core.errors import (
    ConfigurationRejected,
    FileRejected,
    InputError,
    OncoscaleError,
    StudyRejected,
    TimesRejected,
    UnitMissing,
)
from oncoscale.imaging.dicom_read import read_study
from oncoscale.imaging.nifti import write_labels, write_nifti
from oncoscale.imaging.study import Grid, LabelImage

GRID = Grid((6, 5, 4), np.diag([1.0, 1.0, 2.0, 1.0]))


def refusal(kind, folder, **options):
    """The message of the refusal, after checking what every refusal must be."""
    with pytest.raises(InputError) as caught:
        read_study(folder, **options)
    message = str(caught.value)
    assert type(caught.value) is kind
    assert caught.value.exit_code == 2
    assert caught.value.remedy
    assert "SECRET" not in message
    assert "Doe" not in message
    assert str(folder) not in message
    return message


def time_point(image):
    return (image.InstanceNumber - 1) // 4


# ---------------------------------------------------------------------------------------------------------- folders


def test_an_empty_folder_is_refused(tmp_path):
    """Nothing is nothing, and is said to be."""
    assert "empty" in refusal(StudyRejected, tmp_path)


def test_a_folder_without_images_is_refused(tmp_path):
    """Text and pictures are no DICOM."""
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG" + bytes(500))
    assert "none of the 2 files is DICOM or NIfTI" in refusal(StudyRejected, tmp_path)


@pytest.mark.parametrize("content", [b"", b"text", bytes(4000)])
def test_a_file_named_dcm_that_is_none_is_refused(tiny, save, tmp_path, content):
    """A broken file among good ones is not passed over."""
    save(tmp_path, tiny())
    (tmp_path / "z.dcm").write_bytes(content)
    assert "file 5 of 5 is named like a DICOM file" in refusal(FileRejected, tmp_path)


# --------------------------------------------------------------------------------------------------------- mixtures


def test_two_patients_are_refused_unless_the_user_links_them(tiny, save, tmp_path):
    """Two identifiers may be two people; the user may know better."""
    folder = save(tmp_path, tiny(series=1) + tiny(series=2, PatientID="SECRET-2", FrameOfReferenceUID="1.2.8"))
    assert "--same-subject" in refusal(StudyRejected, folder)
    study = read_study(folder, same_subject=True)
    assert len(study.series) == 2
    assert any("2 different patient identifiers" in finding.text for finding in study.findings)


def test_two_visits_are_refused(tiny, save, tmp_path):
    """Original images of two days are two visits; without a frame of reference nothing tells them apart, and they
    are two studies.
    """
    for same, said in (
        ({}, "2 visits of 2 days"),
        ({"FrameOfReferenceUID": None, "RescaleSlope": 2}, "2 studies of 2 days"),
    ):
        later = tiny(series=2, StudyInstanceUID="1.2.4", StudyDate="20200301", **same)
        assert said in refusal(StudyRejected, save(tmp_path / said, tiny(series=1, **same) + later))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"Columns": 5, "Rows": 6}, "image sizes"),
        ({"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}, "orientations"),
        ({"PixelSpacing": [2, 2]}, "pixel spacings"),
        ({"FrameOfReferenceUID": "1.2.7"}, "frames of reference"),
        ({"StudyInstanceUID": "1.2.7"}, "studies"),
    ],
)
def test_a_spliced_series_is_refused(tiny, save, tmp_path, change, said):
    """One slice of another size, orientation, spacing, place or study does not belong in a series."""
    images = tiny()
    for keyword, value in change.items():
        setattr(images[2], keyword, value)
    assert f"mixes {said}" in refusal(StudyRejected, save(tmp_path, images))


def test_one_instance_with_two_contents_is_refused(tiny, save, tmp_path):
    """An identity names one content."""
    save(tmp_path / "a", tiny())
    changed = tiny()[:1]
    changed[0].PixelData = bytes(range(60))
    save(tmp_path / "b", changed)
    assert "same SOP Instance UID" in refusal(StudyRejected, tmp_path)


# --------------------------------------------------------------------------------------------------------- geometry


def test_spacing_of_zero_is_refused(tiny, save, tmp_path):
    """Neither pixels nor slices may lie on top of each other."""
    assert "spacing of zero" in refusal(StudyRejected, save(tmp_path / "pixels", tiny(PixelSpacing=[0, 0])))
    same_place = tiny(ImagePositionPatient=[0, 0, 0])
    assert "slice distance zero" in refusal(TimesRejected, save(tmp_path / "slices", same_place))
    lone = tiny(slices=1, SliceThickness=None)
    assert "unknown thickness" in refusal(StudyRejected, save(tmp_path / "lone", lone))


def test_a_gap_between_slices_is_refused(tiny, save, tmp_path):
    """A missing slice leaves a gap; the message says where."""
    images = tiny(slices=6)
    del images[2]
    assert "slices 2 and 3 of 5 lie 4.000 mm apart" in refusal(StudyRejected, save(tmp_path, images))


def test_a_tilted_gantry_is_refused(tiny, save, tmp_path):
    """Slices stacked askew are no rectangular grid."""
    images = tiny()
    for k, image in enumerate(images):
        image.ImagePositionPatient = [-10, -20 + 0.1 * k, 5 + 2 * k]
    assert "shifted sideways" in refusal(StudyRejected, save(tmp_path, images))


def test_images_without_a_place_are_refused(tiny, save, tmp_path):
    """An original image must know where it lies."""
    images = tiny()
    del images[1].ImagePositionPatient
    assert "Image Position" in refusal(FileRejected, save(tmp_path, images))


# ------------------------------------------------------------------------------------------------------------- time


def test_a_missing_cell_is_refused(tiny, save, tmp_path):
    """One image gone is a time point incomplete; the slice is named."""
    images = tiny(times=3)
    del images[6]
    assert "slice 3 has 2 of 3 images" in refusal(TimesRejected, save(tmp_path, images))


def test_a_missing_time_point_is_refused(tiny, save, tmp_path):
    """Instance numbers, temporal positions and their declared number each betray a time point that is gone."""
    numbered = [image for image in tiny(times=5) if time_point(image) != 2]
    assert "a time point is missing between frames 2 and 3" in refusal(TimesRejected, save(tmp_path / "a", numbered))
    indexed = deepcopy(numbered)
    for image in indexed:
        image.TemporalPositionIdentifier = time_point(image) + 1
        image.InstanceNumber = 1
    assert "TemporalPositionIdentifier skips" in refusal(TimesRejected, save(tmp_path / "b", indexed))
    declared = tiny(times=2, NumberOfTemporalPositions=3)
    assert "2 of 3 declared time points" in refusal(TimesRejected, save(tmp_path / "c", declared))
    assert read_study(tmp_path / "a", times_s=[0, 10, 30, 40]).series[0].values.shape[0] == 4


def test_equal_times_are_refused(tiny, save, tmp_path):
    """Two frames of one moment are no series."""
    images = tiny(times=3)
    for image in images:
        image.ContentTime = ["100000", "100010", "100010"][time_point(image)]
    assert "frames with equal times" in refusal(TimesRejected, save(tmp_path, images))


def test_decreasing_times_are_refused(tiny, save, tmp_path):
    """A declared order against which the clock runs backwards cannot be believed."""
    images = tiny(times=3)
    for image in images:
        image.TemporalPositionIdentifier = time_point(image) + 1
        image.ContentTime = ["100000", "100020", "100010"][time_point(image)]
    assert "frames 2 and 3 have decreasing times" in refusal(TimesRejected, save(tmp_path, images))


def test_times_without_a_clock_are_asked_for(tiny, save, tmp_path):
    """Order alone gives no seconds; wrong answers are refused too."""
    folder = save(tmp_path, tiny(times=3, ContentTime="100000"))
    assert "--times" in refusal(TimesRejected, folder)
    assert "2 times for the 3 frames" in refusal(TimesRejected, folder, times_s=[0, 1])
    assert "equal" in refusal(TimesRejected, folder, times_s=[0, 1, 1])


def test_times_for_a_study_without_dynamic_series_are_refused(tiny, save, tmp_path):
    """A statement that fits nothing is a mistake."""
    assert "no series is dynamic" in refusal(TimesRejected, save(tmp_path, tiny()), times_s=[0, 1])


# ------------------------------------------------------------------------------------------------------------ values


def test_a_map_of_nothing_but_nan_is_refused(tmp_path):
    """A map must hold values."""
    write_nifti(tmp_path / "ktrans.nii.gz", GRID, np.full(GRID.shape, np.nan))
    assert "no usable values" in refusal(StudyRejected, tmp_path, units={"ktrans": "1/min"})


def test_a_map_without_values_in_the_tumour_is_refused(tmp_path):
    """A map may be empty outside, not where it matters; up to half of the tumour may be."""
    tumour = np.zeros(GRID.shape, dtype=np.uint8)
    tumour[1:5, 1:4, 1:3] = 1
    write_labels(tmp_path / "mask.nii.gz", LabelImage(GRID, tumour, {1: "tumour"}))
    values = np.where(np.indices(GRID.shape)[0] < 2, 0.2, np.nan)
    write_nifti(tmp_path / "ktrans.nii.gz", GRID, values)
    assert "75 % of the tumour" in refusal(StudyRejected, tmp_path, units={"ktrans": "1/min"})
    write_nifti(tmp_path / "ktrans.nii.gz", GRID, np.where(np.indices(GRID.shape)[0] < 3, 0.2, np.nan))
    assert read_study(tmp_path, units={"ktrans": "1/min"}).maps[0].name == "ktrans"


def test_units_are_asked_for_and_checked(tmp_path):
    """No unit, an impossible one, and one for a map that is not there."""
    write_nifti(tmp_path / "adc.nii.gz", GRID, np.full(GRID.shape, 1.1e-3))
    assert "--unit adc=mm^2/s" in refusal(UnitMissing, tmp_path)
    assert "no unit of adc" in refusal(UnitMissing, tmp_path, units={"adc": "1/min"})
    assert "no map is of it" in refusal(ConfigurationRejected, tmp_path, units={"adc": "mm^2/s", "ve": "1"})
    doubted = read_study(tmp_path, units={"ADC": "um^2/s"})
    assert doubted.maps[0].values[0, 0, 0] == pytest.approx(1.1e-9)
    assert any("implausible" in finding.text for finding in doubted.findings)


def test_a_rescale_slope_of_zero_is_refused(tiny, save, tmp_path):
    """All values equal is no image."""
    assert "rescale slope of 0" in refusal(FileRejected, save(tmp_path, tiny(RescaleSlope=0, RescaleIntercept=1)))


def test_an_unknown_label_number_is_refused(tmp_path):
    """A name for a number that no voxel has is a mistake."""
    labels = np.zeros(GRID.shape, dtype=np.uint8)
    labels[2, 2, 2] = 3
    write_labels(tmp_path / "mask.nii.gz", LabelImage(GRID, labels, {}))
    assert "no label image has the value 4" in refusal(ConfigurationRejected, tmp_path, regions={4: "tumour"})


def test_an_outline_far_from_the_images_is_refused(tiny, save, tmp_path):
    """A segmentation that shares no point with any image belongs to another study."""
    save(tmp_path, tiny())
    far = Grid(GRID.shape, np.array([[1.0, 0, 0, 500], [0, 1, 0, 500], [0, 0, 2, 500], [0, 0, 0, 1]]))
    write_labels(
        tmp_path / "mask.nii.gz", LabelImage(far, np.eye(6, 5, dtype=np.uint8)[:, :, None].repeat(4, 2), {1: "tumour"})
    )
    assert "outside all images" in refusal(StudyRejected, tmp_path)


# ---------------------------------------------------------------------------------------------------- hostile files


def test_a_truncated_image_is_refused(tiny, save, tmp_path):
    """Cut in the pixels, in the header, or to nothing but a header."""
    path = next(save(tmp_path, tiny(slices=1)).iterdir())
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    assert "truncated: 50 of 60 bytes" in refusal(FileRejected, tmp_path)
    path.write_bytes(whole[: whole.index(b"\xe0\x7f")])
    assert "no pixels" in refusal(FileRejected, tmp_path)
    path.write_bytes(whole[:300])
    refusal(FileRejected, tmp_path)


def test_a_deflate_bomb_is_refused_before_it_grows(tiny, save, tmp_path):
    """A small file that inflates to a gibibyte stops at the limit; an honest deflated file is read."""
    path = next(save(tmp_path, tiny(slices=1)).iterdir())
    whole = path.read_bytes()
    start = whole.index(b"\x08\x00")
    meta = whole[:start].replace(
        b"\x14\x001.2.840.10008.1.2.1\0", b"\x16\x00" + DeflatedExplicitVRLittleEndian.encode()
    )

    def deflated(body):
        machine = zlib.compressobj(9, zlib.DEFLATED, -15)
        return meta + b"".join(machine.compress(part) for part in body) + machine.flush()

    path.write_bytes(deflated([whole[start:]]))
    assert read_study(tmp_path).series[0].values.shape == (6, 5, 1)
    path.write_bytes(deflated([whole[start:], *[bytes(1 << 20)] * 256]))
    began = time.process_time()
    tracemalloc.start()
    message = refusal(FileRejected, tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "inflates to more than" in message
    assert peak < 120 << 20
    assert time.process_time() - began < 10


@pytest.mark.parametrize(
    "change", [{"Rows": 65535, "Columns": 65535}, {"NumberOfFrames": 2**31 - 1}, {"Rows": 0}, {"BitsAllocated": 64}]
)
def test_sizes_that_lie_are_refused_before_allocation(tiny, save, tmp_path, change):
    """What a header declares is compared with the file and the limit before anything is allocated."""
    save(tmp_path, tiny(slices=1, **change))
    tracemalloc.start()
    refusal(FileRejected, tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 << 20


def test_pixels_on_a_server_are_refused(tiny, save, tmp_path):
    """A JPIP reference holds no pixels."""
    path = next(save(tmp_path, tiny(slices=1)).iterdir())
    path.write_bytes(path.read_bytes().replace(b"\x14\x001.2.840.10008.1.2.1\0", b"\x16\x001.2.840.10008.1.2.4.94"))
    assert "JPIP" in refusal(FileRejected, tmp_path)


def test_damaged_files_never_raise_anything_untyped(tiny, save, tmp_path, caplog):
    """Truncation at many places and random bytes: the study is read or refused, and no other exception escapes."""
    path = next(save(tmp_path, tiny(slices=1)).iterdir())
    whole, chance = path.read_bytes(), np.random.default_rng(7)
    mutants = [whole[:n] for n in range(0, len(whole), 23)]
    for _ in range(150):
        bytes_of = bytearray(whole)
        for place in chance.integers(132, len(whole), size=chance.choice([1, 4, 16])):
            bytes_of[place] = chance.integers(256)
        mutants.append(bytes(bytes_of))
    refused = []
    for mutant in mutants:
        path.write_bytes(mutant)
        try:
            read_study(tmp_path)
        except OncoscaleError as error:
            refused.append(str(error))
    assert len(refused) > len(mutants) // 4
    assert not any("Doe" in message or "SECRET" in message for message in refused)
    assert not caplog.records


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:200],
        lambda data: data[: len(data) // 2],
        lambda data: b"\x1f\x8b" + bytes(100),
        lambda data: b"",
    ],
)
def test_a_damaged_nifti_file_is_refused(tmp_path, damage):
    """A cut or foreign file is refused as such."""
    path = tmp_path / "image.nii.gz"
    write_nifti(path, GRID, np.random.default_rng(1).random(GRID.shape))
    path.write_bytes(damage(path.read_bytes()))
    assert "cannot be read" in refusal(FileRejected, tmp_path)
