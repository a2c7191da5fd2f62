"""Reading real studies, and what sorting must not be led astray by."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest

from oncoscale.core.errors import InputError, OncoscaleError, UnitMissing
from oncoscale.imaging.dicom_files import read_dicom, stored_pixels
from oncoscale.imaging.dicom_read import read_study
from oncoscale.imaging.planes import planes_of

MOUSE_UNITS = {"ktrans": "1/min", "ve": "1", "t1": "s", "adc": "mm^2/s"}


def texts(study, kind):
    return [finding.text for finding in study.findings if finding.kind == kind]


# ------------------------------------------------------------------------------------------------- a breast exam


@pytest.fixture(scope="module")
def breast(shared):
    return read_study(shared / "ucsf-breast-06")


def test_three_times_in_one_series_are_ordered_by_content_time(breast):
    """All phases share one series and no acquisition time exists; the content times are 0, 407 and 761 s."""
    (dynamic,) = breast.of_role("dynamic")
    assert dynamic.values.shape == (3, 256, 256, 60)
    assert dynamic.times_s.tolist() == [0, 407, 761]
    assert len(dynamic.instance_uids) == 180
    assert dynamic.values[1].sum() > dynamic.values[0].sum()  # contrast brightens


def test_slices_lie_where_their_positions_say(breast):
    """Sagittal slices 2 mm apart: columns run to the back, rows to the feet, slices to the right."""
    grid = breast.of_role("dynamic")[0].grid
    assert grid.spacing == pytest.approx([0.703125, 0.703125, 2.0], abs=1e-6)
    assert grid.affine[:3, 0] == pytest.approx([0, 0.703125, 0])
    assert grid.affine[:3, 1] == pytest.approx([0, 0, -0.703125])
    assert grid.affine[:3, 2] == pytest.approx([-2, 0, 0], abs=1e-6)


def test_field_strength_in_gauss_and_absent_contrast_are_recognised(breast):
    """The tags say 15000 and NONE of an exam at 1.5 T with contrast."""
    acquisition = breast.of_role("dynamic")[0].acquisition
    assert acquisition["field_t"].value == 1.5
    assert acquisition["tr_s"].value == pytest.approx(0.0082)
    assert "agent" not in acquisition
    assert any("contrast agent" in text for text in texts(breast, "doubted"))


def test_breast_segmentation_lies_on_the_image_grid(breast):
    """The fractional SEG stores 42 of 60 slices; its 82 527 voxels are 81.60 mL, named for what they are."""
    (labels,) = breast.labels
    assert labels.names == {1: "Breast"}
    assert labels.grid.same_as(breast.of_role("dynamic")[0].grid)
    assert int(labels.mask("Breast").sum()) == 82527
    assert labels.volume("Breast") == pytest.approx(81.60, abs=0.005)
    assert np.flatnonzero(labels.values.any(axis=(0, 1)))[[0, -1]].tolist() == [9, 50]


def test_enhancement_maps_of_the_scanner_are_maps(breast):
    """PE1 (no slope) and SER (slope 0.001) carry no unit; their kind gives it."""
    maps = {one.name: one for one in breast.maps}
    assert set(maps) == {"pe", "ser"}
    assert (maps["pe"].unit, maps["ser"].unit) == ("percent", "1")
    assert int((maps["pe"].values > 0).sum()) == 151027
    assert maps["ser"].values.max() == 3.0
    assert "supplied by the scanner" in maps["pe"].method


# -------------------------------------------------------------------------------------------------- an untidy mouse


def test_the_mouse_is_refused_with_every_reason_at_once(shared):
    """Units, subjects and names are asked for in one error, with the options that state them; nobody is named."""
    with pytest.raises(InputError) as caught:
        read_study(shared / "kpc-mouse-day0" / "dicom")
    message = str(caught.value)
    for option in (
        "--unit ktrans=1/min",
        "--unit ve=1",
        "--unit t1=s",
        "--unit adc=mm^2/s",
        "--same-subject",
        "--label NUMBER=tumour",
    ):
        assert option in message
    for identity in ("KPC", "MR123", "MR138", "M123", "rong"):
        assert identity not in message
    assert caught.value.exit_code == 2


def test_label_table_beside_the_files_names_the_regions(shared):
    """The whole folder holds labels.csv, so names are no open question; units alone are for the NIfTI files."""
    with pytest.raises(InputError) as caught:
        read_study(shared / "kpc-mouse-day0")
    assert "--label" not in str(caught.value)
    with pytest.raises(UnitMissing) as units_only:
        read_study(shared / "kpc-mouse-day0" / "nifti")
    assert "--same-subject" not in str(units_only.value)


@pytest.fixture(scope="module")
def mouse(shared):
    return read_study(shared / "kpc-mouse-day0", units=MOUSE_UNITS, same_subject=True)


def test_the_mouse_reads_once_units_and_links_are_stated(mouse):
    """DICOM maps in stated units, labels named from the table, T2 images, and the flip angles of the NIfTI series."""
    maps = {one.name: one for one in mouse.maps}
    assert {name: maps[name].unit for name in ("ktrans", "ve", "t1", "adc", "b1")} == {
        "ktrans": "1/min",
        "ve": "1",
        "t1": "s",
        "adc": "mm^2/s",
        "b1": "1",
    }
    assert np.nanmedian(maps["adc"].values) == pytest.approx(0.0021, abs=1e-4)
    assert not (maps["adc"].values <= 0).any()
    assert maps["ktrans"].method == "supplied as a parametric map"
    (angles,) = mouse.of_role("vfa")
    assert angles.acquisition["fa_deg"].value == (2, 5, 8, 12, 16, 20)
    assert angles.values.shape == (6, 128, 128, 16)
    assert [one.description for one in mouse.of_role("anatomy")] == ["T2_TurboRARE_30ms_axial"]
    assert mouse.species == "rodent"


def test_the_tumour_drawn_on_the_dynamic_series_is_chosen(mouse):
    """465 mm³ in the DCE mask, 316 mm³ in the DWI mask: Ktrans goes with the first."""
    assert [round(1000 * labels.volume("tumour")) for labels in mouse.labels] == [465, 316]
    assert any("465 mm³ is used" in text for text in texts(mouse, "chosen"))


def test_lost_places_are_found_again(mouse):
    """Maps and labels begin at (0, 0, 0), the T2 images where the scanner put them: body outlines then coincide."""
    (t2,) = mouse.of_role("anatomy")
    ktrans = next(one for one in mouse.maps if one.name == "ktrans")
    assert ktrans.grid.same_as(t2.grid)
    assert ktrans.grid.frame_uid == t2.grid.frame_uid
    body, fitted = t2.values > np.percentile(t2.values, 70), ktrans.values > 0
    assert body[fitted].mean() > 0.75
    assert body[::-1][fitted].mean() < body[fitted].mean()
    assert body[:, ::-1][fitted].mean() < body[fitted].mean()
    assert body[:, :, ::-1][fitted].mean() < body[fitted].mean()


def test_nifti_copies_equal_their_dicom_originals(shared, mouse):
    """The two deliveries hold the same maps; reading either gives the same numbers (NaN replaces 0 in ADC)."""
    alone = read_study(shared / "kpc-mouse-day0" / "nifti", units=MOUSE_UNITS)
    for name in ("ktrans", "t1", "adc"):
        first, second = (next(one for one in study.maps if one.name == name).values for study in (mouse, alone))
        assert np.allclose(first, second, rtol=1e-5, equal_nan=True)
    assert round(1000 * alone.labels[0].volume("tumour")) == 465
    assert any("repeat the DICOM ones" in text for text in texts(mouse, "chosen"))


def test_stated_label_names_win(shared):
    """Without the table the user's names hold; values without a name stay nameless."""
    study = read_study(shared / "kpc-mouse-day0" / "dicom", units=MOUSE_UNITS, same_subject=True, regions={3: "tumor"})
    assert study.labels[0].names == {3: "tumour"}
    assert round(1000 * study.labels[0].volume("tumour")) == 465


# -------------------------------------------------------------------------------------------------- enhanced objects


def test_siemens_enhanced_equals_its_reference_bit_for_bit(shared):
    """Four objects of six frames, not in order of acquisition; dcm2niix's NIfTI is the same after its row flip."""
    folder = shared / "enhanced-mr-dcm_qa"
    (series,) = read_study(folder / "In" / "Siemens").series
    reference = nibabel.load(folder / "Ref" / "Siemens_REST1_w_SMS_PF7-8_6.nii")
    expected = np.moveaxis(np.asarray(reference.dataobj), 3, 0)[:, :, ::-1]
    assert np.array_equal(series.values, expected)
    assert series.times_s == pytest.approx([0, 0.5, 1, 1.5])
    ras = np.diag([-1, -1, 1, 1]) @ reference.affine
    assert series.grid.world(np.array([3, 63 - 5, 4])) == pytest.approx((ras @ [3, 5, 4, 1])[:3], abs=2e-3)


def test_philips_kinds_of_image_are_told_apart_and_scaled(shared):
    """Magnitude and field map share one object: each has its own scale; the magnitude's is Philips's precise one."""
    folder = shared / "enhanced-mr-dcm_qa"
    study = read_study(folder / "In" / "Philips")
    (magnitude,), (field,) = study.of_role("anatomy"), study.of_role("other")
    precise, hertz = (
        np.asarray(nibabel.load(folder / "Ref" / f"Philips_WIP_B0_NS_801_{name}.nii").dataobj)[::-1, ::-1]
        for name in ("e1", "e2_fieldmaphz")
    )
    assert magnitude.values == pytest.approx(precise, rel=2e-7)
    assert np.abs(field.values - hertz).max() <= 0.006


def test_philips_magnitude_is_the_reference_times_one_number(shared):
    """Before rounding to 32 bits the precise scale differs from the NIfTI's own by one factor, constant to 1e-11."""
    folder = shared / "enhanced-mr-dcm_qa"
    (path,) = (path for path in (folder / "In" / "Philips").rglob("*") if path.is_file())
    dataset = read_dicom(path, "file", pixels=True)
    stored = stored_pixels(dataset, "file")
    planes = sorted((one for one in planes_of(dataset, 0, "file") if "M" in one.part), key=lambda one: one.position[2])
    ours = np.stack([stored[one.frame].T * one.slope + one.intercept for one in planes], axis=-1)
    image = nibabel.load(folder / "Ref" / "Philips_WIP_B0_NS_801_e1.nii").dataobj
    theirs = (image.get_unscaled() * float(image.slope) + float(image.inter))[::-1, ::-1]
    ratio = ours[theirs > 0] / theirs[theirs > 0]
    assert np.ptp(ratio) < 1e-11
    assert ratio[0] == pytest.approx(1.0, abs=1e-7)


# ----------------------------------------------------------------------------------------------------- other studies


def test_adc_of_a_scanner_gets_its_customary_unit_and_geometry(shared):
    """Integer ADC without unit: 1e-6 mm²/s is the only plausible scale, and it is recorded as inferred."""
    study = read_study(shared / "crc-adc-cmb")
    (adc,), (t2,) = study.maps, study.of_role("anatomy")
    assert (adc.name, adc.unit) == ("adc", "mm^2/s")
    assert np.nanmedian(adc.values) == pytest.approx(1.056e-3)
    assert adc.grid.shape[2] == 36
    assert adc.grid.spacing[2] == pytest.approx(7.0, abs=1e-3)
    assert adc.grid.frame_uid == t2.grid.frame_uid
    assert any("1e-6 mm^2/s" in text for text in texts(study, "inferred"))
    assert any("not physical" in text for text in texts(study, "doubted"))


def test_slice_thickness_is_not_the_slice_distance(shared):
    """Slices 4 mm thick lie 5.2 mm apart on planes tilted by two degrees: thickness would lose 23 % of a volume."""
    study = read_study(shared / "sts-001-rtstruct")
    assert [series.grid.spacing[2] for series in study.series] == pytest.approx([5.2, 5.2], abs=1e-3)
    normal = study.series[0].grid.affine[:3, 2]
    assert 0.5 < np.degrees(np.arccos(abs(normal[2]) / np.linalg.norm(normal))) < 5
    assert any("RT Structure Set" in text for text in texts(study, "found"))


def test_every_file_of_the_corpora_is_read_or_refused_in_words(shared):
    """Nothing but a typed refusal leaves the reader, whatever the coding, truncation or kind of object."""
    outcomes = {}
    for folder in ("pydicom-data", "dcmqi-examples"):
        for path in sorted((shared / folder).rglob("*")):
            if path.is_file():
                try:
                    outcomes[path.name] = read_study(path)
                except InputError as error:
                    outcomes[path.name] = str(error)
    for name in (
        "liver.dcm",
        "liver_expb.dcm",
        "liver_j2k.dcm",
        "liver_nonbyte_aligned.dcm",
        "liver_nonbyte_aligned_j2k.dcm",
    ):
        assert int((outcomes[name].labels[0].values > 0).sum()) == 107098
    for name in ("liver_rle.dcm", "liver_deflate.dcm"):
        assert "unsupported coding" in outcomes[name]
    assert "no SOP class" in outcomes["emri_small_jpeg_2k_lossless_too_short.dcm"]
    assert "without saying where each lies" in outcomes["emri_small.dcm"]
    assert len(outcomes["partial_overlaps.dcm"].labels) == 5
    assert outcomes["parametric_map_float.dcm"].maps[0].values.shape == (128, 128, 1)


def test_encodings_of_one_segmentation_hold_the_same_regions(shared):
    """Bit-packed and JPEG 2000 copies agree; those whose rows end within a byte are its crop to 510 x 510."""
    folder = shared / "pydicom-data"
    masks = {
        name: stored_pixels(read_dicom(folder / f"{name}.dcm", "file", pixels=True), "file")
        for name in ("liver", "liver_expb", "liver_j2k", "liver_nonbyte_aligned", "liver_nonbyte_aligned_j2k")
    }
    whole = masks.pop("liver")
    for name, mask in masks.items():
        expected = whole[:, :510, :510] if "nonbyte" in name else whole
        assert np.array_equal(mask, expected), name


def test_overlapping_segments_are_kept_apart(shared):
    """Seven frames show five segments on three planes of 512 x 512."""
    study = read_study(shared / "dcmqi-examples" / "data" / "segmentations" / "partial_overlaps.dcm")
    assert len(study.labels) == 5
    assert all(image.values[:, :, image.values.any(axis=(0, 1))].shape[:2] == (512, 512) for image in study.labels)


def test_encodings_of_one_image_hold_the_same_pixels(shared):
    """Native, RLE, big endian, JPEG 2000 and JPEG-LS copies of one enhanced MR object decode to equal pixels."""
    pixels = [
        stored_pixels(read_dicom(path, "file", pixels=True), "file")
        for path in sorted((shared / "pydicom-data").glob("emri_small*.dcm"))
        if "too_short" not in path.name
    ]
    assert len(pixels) == 5
    assert all(np.array_equal(one, pixels[0]) for one in pixels)


# ------------------------------------------------------------------------------------------- order in space and time


def test_slices_are_ordered_by_position_whatever_the_numbers_say(tiny, save, tmp_path):
    """Instance numbers that run backwards and file names in no order do not reverse the patient."""
    images = tiny(slices=5)
    for image in images:
        image.InstanceNumber = 6 - image.InstanceNumber
    (series,) = read_study(save(tmp_path, images)).series
    assert series.values[0, 0].tolist() == [0, 1, 2, 3, 4]
    assert series.grid.affine[:3, 3].tolist() == [-10, -20, 5]
    assert series.grid.spacing.tolist() == [1.25, 1.5, 2.0]


def test_trigger_time_is_milliseconds_and_zero_where_absent_at_first(tiny, save, tmp_path):
    """Trigger Time counts milliseconds from the start and may be left out of the first time point."""
    images = tiny(times=3, ContentTime="100000")
    for image in images:
        time_point = (image.InstanceNumber - 1) // 4
        if time_point:
            image.TriggerTime = 2500 * time_point
    (series,) = read_study(save(tmp_path, images)).series
    assert series.times_s.tolist() == [0, 2.5, 5.0]
    assert series.values[:, 0, 0, 0].tolist() == [0, 100, 200]


def test_times_after_midnight_come_later(tiny, save, tmp_path):
    """A clock that wraps at midnight under one date is unwrapped, and the repair is recorded."""
    images = tiny(times=3)
    for image in images:
        image.ContentTime = ["235950", "235958", "000006"][(image.InstanceNumber - 1) // 4]
    study = read_study(save(tmp_path, images))
    assert study.series[0].times_s.tolist() == [0, 8, 16]
    assert any("midnight" in text for text in texts(study, "inferred"))


def test_a_key_that_contradicts_is_reported(tiny, save, tmp_path):
    """Content times order; instance numbers that disagree are a named doubt, not an order."""
    images = tiny(times=2)
    for image in images:
        image.InstanceNumber = 9 - image.InstanceNumber
    study = read_study(save(tmp_path, images))
    assert study.series[0].values[:, 0, 0, 0].tolist() == [0, 100]
    assert any("time-key-conflict: InstanceNumber" in text for text in texts(study, "doubted"))


def test_stated_times_replace_a_missing_clock(tiny, save, tmp_path):
    """Instance numbers tell the order only; the user tells the seconds."""
    folder = save(tmp_path, tiny(times=3, ContentTime="100000"))
    assert read_study(folder, times_s=[0, 4, 9]).series[0].times_s.tolist() == [0, 4, 9]


def test_flip_angles_in_one_series_or_in_several_are_one_acquisition(tiny, save, tmp_path):
    """Volumes that differ in flip angle alone become one series, ascending, however they were stored."""
    angles = (20, 5, 10)
    several = [image for number, angle in enumerate(angles, start=1) for image in tiny(series=number, FlipAngle=angle)]
    one = tiny(times=3)
    for image in one:
        image.FlipAngle = angles[(image.InstanceNumber - 1) // 4]
    for name, images in (("several", several), ("one", one)):
        (series,) = read_study(save(tmp_path / name, images)).series
        assert series.role == "vfa"
        assert series.acquisition["fa_deg"].value == (5, 10, 20)
        assert series.values.shape == (3, 6, 5, 4)
    assert series.values[:, 0, 0, 0].tolist() == [100, 200, 0]


def test_b_values_make_a_diffusion_series(tiny, save, tmp_path):
    """The standard b-value element orders the volumes, ascending."""
    images = tiny(times=3)
    for image in images:
        image.DiffusionBValue = [1000.0, 0.0, 500.0][(image.InstanceNumber - 1) // 4]
    (series,) = read_study(save(tmp_path, images)).of_role("diffusion")
    assert series.b_values.tolist() == [0, 500, 1000]
    assert series.values[:, 0, 0, 0].tolist() == [100, 200, 0]


def test_rescale_is_applied_image_by_image(tiny, save, tmp_path):
    """Slope and intercept may differ from slice to slice."""
    images = tiny()
    for image in images:
        image.RescaleSlope, image.RescaleIntercept = image.InstanceNumber, -1
    (series,) = read_study(save(tmp_path, images)).series
    assert series.values[0, 0].tolist() == [-1, 1, 5, 11]


def test_exact_copies_are_used_once(tiny, save, tmp_path):
    """The same instance twice, byte for byte, is one instance."""
    images = tiny()
    save(tmp_path / "a", images)
    save(tmp_path / "b", images[:2])
    study = read_study(tmp_path)
    assert study.series[0].values.shape == (6, 5, 4)
    assert any("2 files are exact copies" in text for text in texts(study, "found"))


def test_series_that_share_an_identity_are_told_apart_by_folder(tiny, save, tmp_path):
    """Two series of different size under one identity, each in its folder, are two series and a doubt."""
    save(tmp_path / "a", tiny())
    small = tiny(Rows=3, Columns=5)
    for image in small:
        image.SOPInstanceUID += ".9"
        image.PixelData = image.PixelData[:30]
    save(tmp_path / "b", small)
    study = read_study(tmp_path)
    assert sorted(series.grid.shape for series in study.series) == [(5, 3, 4), (6, 5, 4)]
    assert any("share their identity" in text for text in texts(study, "doubted"))


def test_localizers_and_unplaced_derived_images_are_left_out(tiny, save, tmp_path):
    """Three crossing planes are no volume, a screen save no image; both are named, neither stops the reading."""
    crossing = tiny(series=2, slices=2, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    crossing[1].ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
    screen = tiny(series=3, slices=1, ImageType=["DERIVED", "SECONDARY"])
    del screen[0].ImagePositionPatient
    study = read_study(save(tmp_path, tiny() + crossing + screen))
    assert [series.uid for series in study.series] == ["1.2.3.1"]
    assert any("localizer" in text for text in texts(study, "chosen"))
    assert any("without a position" in text for text in texts(study, "doubted"))


def test_progress_ends_at_one(tiny, save, tmp_path):
    """Whoever waits is told shares that grow to 1."""
    told = []
    read_study(save(tmp_path, tiny()), progress=lambda what, done: told.append(done))
    assert told == sorted(told)
    assert told[-1] == 1.0


def test_reading_twice_gives_the_same_study(tiny, save, tmp_path):
    """Order of series, findings and values depend on the files alone."""
    folder = save(tmp_path, tiny(series=2, times=2) + tiny(series=1, slices=3))
    first, second = read_study(folder), read_study(folder)
    assert first.findings == second.findings
    assert [one.uid for one in first.series] == [one.uid for one in second.series] == ["1.2.3.1", "1.2.3.2"]
    assert all(np.array_equal(a.values, b.values) for a, b in zip(first.series, second.series))


def test_errors_of_the_reader_are_all_typed():
    """A folder that does not exist is an input error, not a traceback."""
    with pytest.raises(OncoscaleError):
        read_study("no such folder")
