"""DICOM-MIABIS: the image side, and the way from an image to the samples of its donor and back."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oncoscale.core.errors import FileRejected
from oncoscale.linkage import core
from oncoscale.linkage.core import Artefact, Link, Parameters, Run
from oncoscale.linkage.reference import reference_cohort
from oncoscale.linkage.standards import dicom_miabis
from oncoscale.linkage.standards._tables import read_table, write_table

COHORT = core.observed(reference_cohort(4, 8))


@pytest.fixture
def written(tmp_path: Path) -> Path:
    dicom_miabis.render(COHORT, tmp_path / "out")
    return tmp_path / "out"


def asked(folder: Path, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(folder / "dicom-miabis.sqlite")) as connection:
        return connection.execute(query).fetchall()


def test_a_view_leads_from_every_image_to_the_samples_of_its_donor(written: Path):
    """For each series the view gives exactly the donor's samples, and the donor's sex as MIABIS says it."""
    found = asked(written, "SELECT series_uid, sample_id FROM images_and_samples WHERE sample_id IS NOT NULL")
    due = [(one.uid, sample.id) for one in COHORT.image_series for sample in COHORT.sample
           if sample.subject == one.subject]  # fmt: skip
    assert sorted(found) == sorted(due)
    assert due
    sexes = dict(asked(written, "SELECT donor_id, sex FROM images_and_samples"))
    assert {sexes[one.key] for one in COHORT.subject if one.sex == "male"} <= {"Male"}
    counts = {key: (images, samples) for key, _, images, samples in asked(written, "SELECT * FROM donors")}
    for one in COHORT.subject:
        assert counts[one.key] == (
            sum(series.subject == one.key for series in COHORT.image_series),
            sum(sample.subject == one.key for sample in COHORT.sample),
        )


def test_features_come_back_with_code_value_and_unit(written: Path):
    """Every number measured on a series stands in ImageAnalysis, an IBSI feature by its IBSI code."""
    back = {one.id: one for one in dicom_miabis.read(written).holdings.observation}
    measured = [one for one in COHORT.observation if one.series and one.value is not None]
    assert len(measured) > 10
    for one in measured:
        same = back[one.id]
        assert (same.quantity, same.value, same.unit, same.sd, same.series, same.day) == (
            one.quantity, one.value, one.unit, one.sd, one.series, one.day)  # fmt: skip
    rows = read_table(written / "ImageAnalysis.csv")[1]
    assert {row.get("ibsi_code") for row in rows if row["feature"] == "Mean intensity"} == {"Q4LE"}


def test_a_registration_names_both_series_and_the_transform(tmp_path: Path):
    """A run that used a fixed and a moving series and made a transform is a row of RegistrationParameters."""
    fixed, moving = (one.uid for one in COHORT.image_series[:2])
    body = Parameters("c" * 64, "registration", {"type": "rigid", "metric": "mutual information", "days": 3})
    run = Run("d" * 64, "analysis", COHORT.software[0].id, body.sha256, "e" * 64, "0")
    transform = Artefact("f" * 64, "transform", "observed", "application/json", 10, "x", frame_uid="2.25.7")
    links = (Link(run.id, 1, "used", "fixed", series=fixed), Link(run.id, 1, "used", "moving", series=moving),
             Link(run.id, 1, "generated", "transform", artefact=transform.sha256))  # fmt: skip
    held = replace(COHORT, run=(*COHORT.run, run), link=(*COHORT.link, *links),
                   parameter_set=(*COHORT.parameter_set, body), artefact=(*COHORT.artefact, transform))  # fmt: skip
    dicom_miabis.render(held, tmp_path / "out")
    assert dicom_miabis.check(tmp_path / "out") == ()
    assert read_table(tmp_path / "out" / "RegistrationParameters.csv")[1] == (
        {"fixed_uid": fixed, "moving_uid": moving, "type": "rigid", "transform_sha256": "f" * 64,
         "metric": "mutual information", "frame_of_reference": "2.25.7"},
    )  # fmt: skip


def test_images_of_donors_in_no_collection_are_not_lost(written: Path):
    """Every series is in one Image Collection; the counts of all add up to what is held."""
    rows = read_table(written / "ImageCollection.csv")[1]
    assert sum(int(row["n_series"]) for row in rows) == len(COHORT.image_series)
    assert sum(int(row["n_images"]) for row in rows) == sum(one.instances for one in COHORT.image_series)
    assert {row.get("sample_collection_id") for row in rows} == {"col-1", None}


def test_an_acquisition_beyond_the_columns_is_counted():
    """A keyword without a column is told, with how many series."""
    first = replace(COHORT.image_series[0], acquisition={"NumberOfTemporalPositions": "60", "PixelSpacing": ["1", "1"]})
    told = {gap.path: gap.n for gap in dicom_miabis.unsaid(replace(COHORT, image_series=(first,), observation=()))}
    assert told["image_series.acquisition"] == 1


Rows = list[dict[str, str]]
MUTATIONS: dict[str, tuple[str, str, Callable[[Rows], object]]] = {
    "a modality is missing": ("ModalityInformation", "described", lambda r: r.pop()),
    "a type outside the list": ("DatasetType", "list", lambda r: r[0].update(type="predicted")),
    "a series twice": ("DatasetType", "once", lambda r: r.append(r[0])),
    "a UID that is none": ("ImageSeries", "uid", lambda r: r[0].update(study_uid="1.2.03")),
    "a swapped UID": ("ImageAnalysis", "references", lambda r: r[0].update(series_uid="2.25.1")),
    "an image of nobody": ("ImageSeries", "references", lambda r: r[0].update(donor_id="P-AAAABBBBCCCCDDDD")),
    "an image of no event": ("ImageSeries", "references", lambda r: r[0].update(event_id="T-0")),
    "a laterality in words": ("BodyPartExamined", "laterality", lambda r: r[0].update(laterality="left")),
    "a code without its scheme": ("BodyPartExamined", "scheme", lambda r: next(
        one for one in r if "region_code" in one).pop("region_scheme")),
    "a value in words": ("ImageAnalysis", "number", lambda r: r[0].update(value="high")),
    "no value": ("ImageAnalysis", "required", lambda r: r[0].pop("value")),
    "an IBSI code that is none": ("ImageAnalysis", "ibsi", lambda r: r[0].update(ibsi_code="mean")),
    "a wrong count": ("ImageCollection", "counts", lambda r: r[0].update(n_images="1")),
    "SQLite says something else": ("ModalityInformation", "SQLite", lambda r: r[0].update(manufacturer="Other")),
}  # fmt: skip


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_broken_rendering_is_rejected(name: str, written: Path):
    """Each deliberate fault is found by the rule that forbids it."""
    table, rule, change = MUTATIONS[name]
    columns, rows = read_table(written / f"{table}.csv")
    held = [dict(row) for row in rows]
    change(held)
    write_table(written / f"{table}.csv", columns, held)
    found = dicom_miabis.check(written)
    assert any(rule in one.rule for one in found), found


def test_a_broken_database_is_rejected(written: Path):
    """A file that is no database, and none at all, are violations rather than errors."""
    (written / "dicom-miabis.sqlite").write_bytes(b"not a database, but long enough to be taken for one" * 9)
    assert any("SQLite" in one.rule for one in dicom_miabis.check(written))
    (written / "dicom-miabis.sqlite").unlink()
    assert any("SQLite" in one.rule for one in dicom_miabis.check(written))


WHOLE: dict[str, bytes] = {}


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_a_mangled_image_side_is_read_or_refused_in_words(data: st.DataObject, tmp_path_factory):
    """Any cut, flip or insertion of bytes gives holdings or FileRejected, never another error; so does its check."""
    if not WHOLE:
        folder = tmp_path_factory.mktemp("whole") / "out"
        dicom_miabis.render(reference_cohort(2, 2), folder)
        files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".txt")
        WHOLE.update({path.relative_to(folder).as_posix(): path.read_bytes() for path in files})
    name = data.draw(st.sampled_from(sorted(name for name in WHOLE if "/" not in name)))
    at, cut = data.draw(st.integers(0, len(WHOLE[name]))), data.draw(st.integers(0, 40))
    put = data.draw(st.binary(max_size=6) | st.sampled_from((b",", b"\n", b'"', b"0", b"-1", "\u00b2".encode())))
    folder = tmp_path_factory.mktemp("mangled")
    (folder / "samples").mkdir()
    for other, held in WHOLE.items():
        (folder / other).write_bytes(held if other != name else held[:at] + put + held[at + cut :])
    outcomes = []
    for use in (dicom_miabis.read, dicom_miabis.check):
        try:
            outcomes.append(type(use(folder)).__name__)
        except FileRejected as refused:
            outcomes.append("refused" if refused.expected and refused.remedy else "refused without words")
    assert set(outcomes) <= {"Read", "tuple", "refused"}
