"""Structured reports become observations of the series that they were drawn on, and name nobody."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pydicom
import pytest
from highdicom.sr import CodeContentItem, CodedConcept, TextContentItem
from pydicom.sr.coding import Code as Coded

from oncoscale.core.errors import FileRejected
from oncoscale.imaging.derived_object import SeriesHead
from oncoscale.imaging.dicom_write import derived_uid
from oncoscale.imaging.measurement_report import RegionMeasurements, Statistics, write_measurement_report
from oncoscale.linkage import core, importers
from oncoscale.linkage.holding import held
from oncoscale.linkage.importing import enter
from oncoscale.linkage.ingest import ingest
from oncoscale.linkage.store import Store
from oncoscale.linkage.vault import Vault

from .conftest import MakeVisit

KTRANS = Statistics("ktrans", "1/min", "extended-tofts, variable projection", 0.2, 0.15, 0.05, 90, 100)
SR = importers.importer("sr")


@pytest.fixture
def visit(make_visit: MakeVisit) -> Path:
    return make_visit()


@pytest.fixture
def report(visit: Path, tmp_path: Path) -> Path:
    """What quantify writes of that visit: a volume, and a map with mean, median and spread."""
    images = [pydicom.dcmread(one, stop_before_pixels=True) for one in sorted(visit.rglob("*dce*/*"))]
    segmentation = pydicom.dcmread(visit / "miller-seg.dcm", stop_before_pixels=True)
    head = SeriesHead(derived_uid("sr", "s"), derived_uid("sr", "i"), 9, "Measurements", ("20240115", "103000"))
    regions = [RegionMeasurements("tumour", 61.5, (KTRANS,))]
    write_measurement_report(tmp_path / "sr.dcm", regions, segmentation, images, head)
    return tmp_path / "sr.dcm"


def values(holdings: core.Holdings) -> dict[tuple[str, str | None], tuple[float | None, float | None]]:
    return {(one.quantity.code, one.method and one.method.display): (one.value, one.sd) for one in holdings.observation}


def test_measurements_that_we_write_are_read_back(report: Path):
    """Volume, mean with its spread and model, median: with units, on the series that the region was drawn on."""
    read = SR.read(report)
    assert values(read.holdings) == {
        ("118565006", None): (61.5, None),
        ("126312", "Extended Tofts Model"): (pytest.approx(0.2), pytest.approx(0.05)),
        ("126312", "Median"): (pytest.approx(0.15), None),
    }
    assert {one.unit.code for one in read.holdings.observation if one.unit} == {"ml", "/min"}
    assert {one.series for one in read.holdings.observation} == {"1.2.3.4.1.1"}
    assert {gap.path for gap in read.gaps} >= {"measurement method", "report dates"}


def test_an_observation_is_linked_to_the_stored_series(report: Path, visit: Path, store: Store, vault: Vault):
    """The sender's UID leads to the series in the store, and the visit gives the day; nothing names the patient."""
    taken = ingest(visit, store, str(pydicom.dcmread(report).PatientID), vault=vault)
    about = {"standard_name": SR.NAME, "version": SR.VERSION, "vault": vault, "site": "site1"}
    done = enter(store, SR.read(report), **about)
    assert done.subjects == (taken.subject,)
    assert enter(store, SR.read(report), **about).entered == {}
    with store.reading() as connection:
        found = held(connection, done.subjects)
    dynamic = next(one.uid for one in found.image_series if one.role == "original")
    assert [(one.series, one.day) for one in found.observation] == [(dynamic, 0)] * 3


def test_an_observation_is_never_linked_to_another_subjects_series(
    report: Path, visit: Path, store: Store, vault: Vault
):
    """A report under another identifier than its images: the number is taken, the link is not."""
    ingest(visit, store, "somebody else", vault=vault)
    done = enter(store, SR.read(report), standard_name="sr", version="1", vault=vault, site="site1")
    with store.reading() as connection:
        found = held(connection, done.subjects)
    assert [(one.series, one.day) for one in found.observation] == [(None, None)] * 3


def test_stage_and_risk_factors_are_taken_as_the_form_says_them(report: Path, tmp_path: Path):
    """Coded evaluations become codes; text and names beside them stay, and are counted."""
    dataset = pydicom.dcmread(report)
    own, risk = Coded("inrg-stage", "99ONCOSCALE", "INRG stage"), Coded("C17649", "NCIt", "Risk factor")
    items = [
        CodeContentItem(CodedConcept.from_code(own), Coded("M", "99ONCOSCALE", "M"), "CONTAINS"),
        CodeContentItem(CodedConcept.from_code(risk), Coded("C98274", "NCIt", "Amplification"), "CONTAINS"),
        TextContentItem(CodedConcept("121071", "DCM", "Finding"), "Jane Doe has a mass", "CONTAINS"),
    ]
    dataset.ContentSequence.extend(items)
    dataset.save_as(tmp_path / "stage.dcm")
    read = SR.read(tmp_path / "stage.dcm")
    coded = {(one.quantity.system, one.quantity.code): one.value_code for one in read.holdings.observation}
    stage = coded["urn:oncoscale:form", "inrg-stage"]
    assert stage is not None
    assert (stage.system, stage.code) == ("urn:oncoscale:inrg", "M")
    assert coded["http://ncicb.nci.nih.gov/xml/owl/EVS/Thesaurus.owl", "C17649"].code == "C98274"
    assert any(gap.path == "content TEXT" and gap.n >= 1 for gap in read.gaps)
    assert "Doe" not in json.dumps(core.for_json(read.holdings))


def test_another_region_is_another_quantity(report: Path, tmp_path: Path):
    """The volume of a necrosis is not taken for that of the tumour."""
    dataset = pydicom.dcmread(report)
    for item in dataset.iterall():
        if item.keyword == "CodeValue" and item.value == "108369006":
            item.value = "6574001"
        if item.keyword == "CodeMeaning" and item.value == "Neoplasm":
            item.value = "Necrosis"
    dataset.save_as(tmp_path / "necrosis.dcm")
    volume = SR.read(tmp_path / "necrosis.dcm").holdings.observation[0].quantity
    assert (volume.system, volume.code) == ("urn:oncoscale:region", "118565006@6574001")
    assert volume.display == "Volume of Necrosis"


def test_what_a_forecast_wrote_is_no_observation(report: Path, tmp_path: Path):
    """A report of a simulated series gives nothing, and a gap says why."""
    dataset = pydicom.dcmread(report)
    dataset.SeriesDescription = "SIMULATED tumour, day 28"
    dataset.save_as(tmp_path / "simulated.dcm")
    read = SR.read(tmp_path / "simulated.dcm")
    assert read.holdings.observation == ()
    assert [gap.reason for gap in read.gaps] == ["what a forecast wrote is no observation"]


@pytest.mark.parametrize("content", [b"", b"no DICOM at all" * 40])
def test_what_is_no_report_is_refused(content: bytes, tmp_path: Path, visit: Path):
    """Noise, an empty file, images, and a report of nobody."""
    (tmp_path / "x.dcm").write_bytes(content)
    with pytest.raises(FileRejected):
        SR.read(tmp_path / "x.dcm")
    with pytest.raises(FileRejected, match="no structured report"):
        SR.read(visit)
    with pytest.raises(FileRejected):
        SR.read(tmp_path / "absent")


@pytest.mark.parametrize("lost", ["ConceptNameCodeSequence", "MeasurementUnitsCodeSequence", "ValueType"])
def test_a_damaged_report_is_refused(lost: str, report: Path, tmp_path: Path):
    """An item without what the template demands ends in words, not in a traceback, and names nobody."""
    dataset = pydicom.dcmread(report)
    group = next(one for one in dataset.ContentSequence if one.ValueType == "CONTAINER" and "ContentSequence" in one)
    number = next(one for one in group.ContentSequence[0].ContentSequence if one.ValueType == "NUM")
    owner = number.MeasuredValueSequence[0] if lost == "MeasurementUnitsCodeSequence" else number
    delattr(owner, lost)
    dataset.save_as(tmp_path / "damaged.dcm")
    with pytest.raises(FileRejected, match="lacks what its template demands"):
        SR.read(tmp_path / "damaged.dcm")


def test_a_number_that_is_none_is_a_gap(report: Path, tmp_path: Path):
    """A measurement of no finite value is counted and not taken."""
    dataset = pydicom.dcmread(report)
    for item in dataset.iterall():
        if item.keyword == "FloatingPointValue":
            item.value = float("nan")
    dataset.save_as(tmp_path / "nan.dcm")
    read = SR.read(tmp_path / "nan.dcm")
    assert read.holdings.observation == ()
    assert [gap.n for gap in read.gaps if gap.path == "content NUM"] == [4]


def test_a_report_of_a_real_pet_is_read(shared: Path):
    """Twenty-one measurements of dcmqi's example, codes of SNOMED RT as those of SNOMED CT, and no name."""
    read = SR.read(shared / "dcmqi-examples" / "data" / "sr-example" / "sr.dcm")
    volume = next(one for one in read.holdings.observation if one.quantity.display == "Volume")
    assert (len(read.holdings.observation), volume.quantity.code) == (21, "118565006")
    assert volume.value == pytest.approx(33.5824)
    mean = next(one for one in read.holdings.observation if one.sd is not None)
    assert (mean.value, mean.sd) == (pytest.approx(6.01529), pytest.approx(1.62653))
    assert np.isfinite([one.value for one in read.holdings.observation]).all()
