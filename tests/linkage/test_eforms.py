"""Forms as data: what they ask, what is wrong with an answer, and that nothing answered is lost on the way and back."""

from __future__ import annotations

import csv
import json
from datetime import date, timedelta
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from oncoscale.core.errors import ConfigurationRejected, FileRejected, StudyRejected
from oncoscale.linkage import core, eforms, importers
from oncoscale.linkage.eform_answers import OLDEST_D, answers_of
from oncoscale.linkage.eform_core import read_of, rows_from, write_rows
from oncoscale.linkage.eforms import Field, Form
from oncoscale.linkage.holding import held
from oncoscale.linkage.importers.eform import answered
from oncoscale.linkage.importing import enter
from oncoscale.linkage.ingest import ingest
from oncoscale.linkage.quality_check import check
from oncoscale.linkage.store import Store
from oncoscale.linkage.subject import SubjectKey
from oncoscale.linkage.vault import Vault
from oncoscale.linkage.visit import visits

from .conftest import MakeVisit

NB = {
    "record_id": "HOSP-77", "sex": "F", "diagnosis_date": "2021-03-01", "birth_date": "2019-09-01",
    "primary_site": "adrenal", "diagnosis_day": "2021-03-01", "laterality": "L", "inrg_stage": "M", "idrf_count": "2",
    "metastases___bone": "1", "metastases___liver": "0", "metastases___marrow": "1", "ldh": "812.5",
}  # fmt: skip
VISIT = {"record_id": "HOSP-77", "image_modality": "MR", "image_day": "2021-03-04", "curation___annotation": "1",
         "curation___segmentation": "1", "redcap_event_name": "baseline_arm_1"}  # fmt: skip

REDCAP_DICTIONARY = """\
Variable / Field Name,Form Name,Field Type,Field Label,"Choices, Calculations, OR Slider Labels",\
Text Validation Type OR Show Slider Number,Text Validation Min,Text Validation Max,Identifier?,Required Field?,\
Field Annotation
record_id,donor,text,Record,,,,,,,
name,donor,text,Name,,,,,y,,
gender,donor,radio,Gender,"1, Female | 2, Male",,,,,y,core=subject.sex
psa,biomarker,text,PSA,,number,0,5000,,,unit=ng/mL
tumour_grading_system,diagnosis,dropdown,Grading system,"1, ISUP | 2, Gleason",,,,,,
lymph_nodes,diagnosis,checkbox,Nodes involved,"a, pelvic | b, para-aortic",,,,,,
remarks,diagnosis,notes,Remarks,,,,,,,
"""


def write(path: Path, *rows: dict[str, str]) -> Path:
    names = list(dict.fromkeys(name for row in rows for name in row))
    with open(path, "w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, names, restval="")
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.mark.parametrize("name", eforms.names())
def test_every_question_of_a_supplied_form_has_its_source(name: str):
    """Every clinical question names a paper, a standard or an assumption; every number has its unit and range."""
    form = eforms.form(name)
    assert {"neuroblastoma", "dipg"} <= set(eforms.names())
    for field in form.fields:
        assert field.source or field.type in ("subject", "date") or field.core in ("event.code", "event.day")
        if field.type in ("number", "integer"):
            assert (field.unit is not None, field.least is not None, field.most is not None) == (True, True, True)


def test_answers_become_rows_and_no_date_is_kept(tmp_path: Path):
    """Ages and days are counted from the diagnosis; codes, units and ticked boxes arrive; names of columns are read."""
    read = importers.importer("eform").read(write(tmp_path / "in.csv", NB, VISIT))
    held = read.holdings
    assert (held.subject[0].sex, held.subject[0].age_day0_d) == ("female", 547)
    diagnosis, image = held.event
    assert (diagnosis.day, diagnosis.code.code, diagnosis.attributes) == (0, "C74.9", {"laterality": "L"})
    assert (image.day, image.attributes) == (3, {"time_point": "baseline", "curation": ["annotation", "segmentation"]})
    said = {(one.quantity.code, one.value, one.value_code and one.value_code.code) for one in held.observation}
    assert said == {("inrg-stage", None, "M"), ("idrf-count", 2.0, None), ("ldh", 812.5, None),
                    ("metastases", None, "bone"), ("metastases", None, "marrow")}  # fmt: skip
    assert "2021" not in json.dumps(core.for_json(held))


@pytest.mark.parametrize(
    ("field", "cell", "found"),
    [
        ("inrg_stage", "Doe", "none of the choices"),
        ("inrg_stage", "", "no answer"),
        ("idrf_count", "21", "above the range"),
        ("idrf_count", "1.5", "a fraction"),
        ("ldh", "nan", "no finite number"),
        ("ldh", "Doe", "no number"),
        ("ldh", "-3", "below the range"),
        ("diagnosis_day", "31.12.2021", "no date"),
        ("diagnosis_day", "", "no answer"),
        ("diagnosis_date", "12", "another day"),
        ("birth_date", "2022-01-01", "below the range"),
        ("metastases___bone", "Doe", "something else than 0 and 1"),
        ("record_id", "", "an empty cell"),
    ],
)
def test_a_wrong_cell_is_told_by_row_and_field_and_never_repeated(field: str, cell: str, found: str, tmp_path: Path):
    """The refusal names row 2 and the field, not the cell's words, and nothing of the file is taken."""
    path = write(tmp_path / "in.csv", NB | {field: cell})
    with pytest.raises(FileRejected, match=found) as refused:
        importers.importer("eform").read(path)
    assert f"row 2, {field.split('___')[0]}" in str(refused.value)
    assert "Doe" not in str(refused.value)
    assert "HOSP" not in str(refused.value)


def test_rows_of_a_subject_may_not_contradict_each_other(tmp_path: Path):
    """Another stage in another row, the same image twice: both are told, with the row that said it first."""
    path = write(tmp_path / "in.csv", NB, VISIT, {"record_id": "HOSP-77", "inrg_stage": "L1"}, VISIT)
    _, answers = answered(path)
    assert [(one.row, one.field) for one in answers.messages] == [(4, "inrg_stage"), (5, "images")]
    assert all("row" in one.found for one in answers.messages)


def test_columns_that_no_question_asks_are_listed(tmp_path: Path):
    """Nothing is dropped silently; a column named after somebody is told by its number."""
    read = importers.importer("eform").read(
        write(tmp_path / "in.csv", NB | {"remark": "x", "Jane Doe": "y", "void": ""})
    )
    assert [(gap.path, gap.n) for gap in read.gaps] == [("column remark", 1), ("column 15", 1)]


def test_an_old_person_is_not_told_apart_by_age(tmp_path: Path):
    """Above 90 years all are 90 (A.3)."""
    row = NB | {"birth_date": "1900-01-01"}
    assert importers.importer("eform").read(write(tmp_path / "in.csv", row)).holdings.subject[0].age_day0_d == OLDEST_D


def test_a_redcap_dictionary_is_a_form_and_names_stay_at_the_hospital(tmp_path: Path):
    """Variables of any project are kept as observations under their own names; what identifies is never read."""
    (tmp_path / "prostate.dictionary.csv").write_text(REDCAP_DICTIONARY, encoding="utf-8")
    row = {"record_id": "17", "name": "Jane Doe", "gender": "1", "psa": "4.2", "tumour_grading_system": "2",
           "lymph_nodes___a": "0", "lymph_nodes___b": "1", "remarks": "lives in Doeville"}  # fmt: skip
    path = write(tmp_path / "prostate.csv", row)
    form, _ = answered(path)
    read = importers.importer("eform").read(path)
    assert "Doe" not in json.dumps(core.for_json(read.holdings))
    assert {(gap.path, gap.reason.split(":")[0]) for gap in read.gaps} == {
        ("column name", "names a person"), ("column remarks", "free text"),
    }  # fmt: skip
    said = {
        one.quantity.code: one.value_code.code if one.value_code else one.value for one in read.holdings.observation
    }
    assert said == {"psa": 4.2, "tumour_grading_system": "2", "lymph_nodes": "b"}
    rows, gaps = rows_from(form, read.holdings)
    assert (rows[0]["psa"], rows[0]["lymph_nodes"], gaps) == ("4.2", "b", ())


def test_visits_of_a_dictionary_are_kept_apart_by_their_day(tmp_path: Path):
    """An instrument with a day is answered at each time point; rows come back as they were, days for dates."""
    more = (
        "visit_date,visit,text,Date,,date_ymd,,,,y,core=observation.day\nlesion,visit,text,Size,,number,,,,,unit=mm\n"
    )
    (tmp_path / "p.dictionary.csv").write_text(REDCAP_DICTIONARY + more, encoding="utf-8")
    once = {"record_id": "17", "gender": "2", "psa": "4.2"}
    rows = [{"record_id": "17", "visit_date": str(day), "lesion": size} for day, size in ((0, "31"), (92, "12.5"))]
    path = write(tmp_path / "p.csv", once, *rows)
    form, _ = answered(path)
    back, gaps = rows_from(form, importers.importer("eform").read(path).holdings)
    kept = [{name: cell for name, cell in row.items() if cell} for row in back]
    assert (kept, gaps) == ([once, *rows], ())


def test_fhir_responses_say_the_same_as_a_table(tmp_path: Path):
    """A QuestionnaireResponse with a repeated group gives the rows that a CSV file gives."""
    items = [
        {"linkId": "diagnosis", "item": [
            {"linkId": "primary_site", "answer": [{"valueCoding": {"code": "adrenal"}}]},
            {"linkId": "diagnosis_day", "answer": [{"valueInteger": 0}]},
            {"linkId": "inrg_stage", "answer": [{"valueCoding": {"code": "L1"}}]},
            {"linkId": "metastases", "answer": [{"valueString": "bone"}, {"valueString": "liver"}]}]},
        *({"linkId": "images", "item": [
            {"linkId": "image_modality", "answer": [{"valueString": "MR"}]},
            {"linkId": "image_day", "answer": [{"valueInteger": day}]}]} for day in (3, 90)),
    ]  # fmt: skip
    response = {"resourceType": "QuestionnaireResponse", "questionnaire": "http://x.org/Questionnaire/neuroblastoma|1",
                "subject": {"reference": "Patient/HOSP-77"}, "status": "completed", "item": items}  # fmt: skip
    (tmp_path / "in.json").write_text(json.dumps(response), encoding="utf-8")
    table = {"record_id": "HOSP-77", "primary_site": "adrenal", "diagnosis_day": "0", "inrg_stage": "L1",
             "metastases": "bone;liver", "image_modality": "MR", "image_day": "3"}  # fmt: skip
    again = {"record_id": "HOSP-77", "image_modality": "MR", "image_day": "90"}
    from_fhir = importers.importer("eform").read(tmp_path / "in.json").holdings
    from_table = importers.importer("eform").read(write(tmp_path / "in.csv", table, again)).holdings
    assert core.without(from_fhir, ()) == core.without(from_table, ())


@pytest.mark.parametrize("content", [b"", b"\x00\xff", b"a,b\n1\n", b"a,a\n1,2\n", b"a,b\n1,2\n"])
def test_a_file_that_answers_no_form_is_refused(content: bytes, tmp_path: Path):
    """Nothing, noise, ragged rows, doubled columns, and a table of something else."""
    (tmp_path / "in.csv").write_bytes(content)
    with pytest.raises(FileRejected):
        importers.importer("eform").read(tmp_path / "in.csv")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("inrg_stage", 'type = "choice"', 'type = "number"'), "choices"),
        (("birth_date", "subject.age_day0_d", "subject.birth"), "no place"),
        (("sex", 'id = "sex"', 'id = "record_id"'), "more than one field"),
        (("image_day", 'core = "event.day"', 'core = "observation"'), "no field with the core path event.day"),
        (("ldh", 'type = "number"', 'type = "date"'), "type date cannot go"),
        (("tissue", "sample = true", "sample = false"), "which section"),
    ],
)
def test_a_form_that_cannot_be_asked_is_refused(change: tuple[str, str, str], said: str):
    """A wrong definition is told by its section or field."""
    where, old, new = change
    text = (Path(eforms.__file__).parent / "forms" / "neuroblastoma.toml").read_text(encoding="utf-8")
    at = text.index(f'id = "{where}"')
    with pytest.raises(FileRejected, match=said):
        eforms.from_toml(text[:at] + text[at:].replace(old, new, 1), "nb.toml")


def test_a_page_can_ask_the_form_by_its_schema():
    """The schema has every question in its section with its choices, range, unit and code."""
    schema = eforms.json_schema(eforms.form("neuroblastoma"))
    asked = schema["properties"]["diagnosis"]
    assert {"inrg_stage", "primary_site", "diagnosis_day"} == set(asked["required"])
    assert [one["const"] for one in asked["properties"]["inrg_stage"]["oneOf"]] == ["L1", "L2", "M", "MS"]
    assert (asked["properties"]["ldh"]["x-unit"], asked["properties"]["ldh"]["minimum"]) == ("U/L", 1)
    assert schema["properties"]["images"]["type"] == "array"


def cell(field: Field) -> st.SearchStrategy[str]:
    """Any answer that a field permits."""
    match field.type:
        case "choice":
            return st.sampled_from([one.value for one in field.choices])
        case "choices":
            return st.sets(st.sampled_from([one.value for one in field.choices]), min_size=1).map(";".join)
        case "yesno":
            return st.sampled_from(["0", "1"])
        case "date" | "integer":
            low, high = int(field.least or 0), int(field.most if field.most is not None else 4000)
            return st.just("0") if field.core == "subject.day0" else st.integers(low, high).map(str)
        case _:
            return st.floats(field.least, field.most).map(repr)


@st.composite
def filled(draw: st.DrawFn, form: Form) -> list[dict[str, str]]:
    """Rows of two subjects: what is answered once, and up to three visits."""
    rows = []
    for key in ("P-AAAAAAAAAAAAAAAA", "P-BBBBBBBBBBBBBBBB"):
        once = [field for section in form.sections if not section.repeats for field in section.fields]
        rows.append(
            {one.id: draw(cell(one)) for one in once if one.type != "subject" and (one.required or draw(st.booleans()))}
        )
        again = [section for section in form.sections if section.repeats]
        for section in draw(st.lists(st.sampled_from(again), max_size=3)):
            rows.append({one.id: draw(cell(one)) for one in section.fields if one.required or draw(st.booleans())})
        rows = [{"record_id": row.get("record_id", key), **row} for row in rows]
    return rows


@pytest.mark.parametrize("name", eforms.names())
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_what_is_answered_survives_a_round_trip(name: str, data: st.DataObject, tmp_path_factory):
    """Answers, as rows of the core and back as a table, say the same: time points and steps of curation among them."""
    form = eforms.form(name)
    rows = data.draw(filled(form))
    names = list(dict.fromkeys(["record_id", *(one.id for one in form.fields)]))
    answers = answers_of(form, [{name: row.get(name, "") for name in names} for row in rows])
    assume(not answers.messages)  # the same visit drawn twice
    before = read_of(form, answers, "x").holdings
    back, gaps = rows_from(form, before)
    path = tmp_path_factory.mktemp("trip") / "out.csv"
    write_rows(form, back, path)
    assert gaps == ()
    assert core.without(importers.importer("eform").read(path).holdings, ()) == core.without(before, ())


def test_a_form_enters_the_store_once_and_nobodys_name_with_it(store: Store, vault: Vault, tmp_path: Path):
    """Through the import: rows are there under a pseudonym, the same file again adds none."""
    path = write(tmp_path / "in.csv", NB, VISIT)
    reader = importers.importer("eform")
    about = {"standard_name": reader.NAME, "version": reader.VERSION, "vault": vault, "site": "site1"}
    first = enter(store, reader.read(path), **about)
    assert (first.entered["event"], first.entered["observation"]) == (2, 5)
    assert enter(store, reader.read(path), **about).entered == {}
    with store.reading() as connection:
        found = held(connection, first.subjects)
    assert {one.day for one in found.observation} == {0}
    stored = b"".join(one.read_bytes() for one in store.path.iterdir() if one.is_file())
    assert b"HOSP-77" not in stored
    assert b"2021-03-01" not in stored


def test_days_of_a_form_count_from_the_stores_day_0(store: Store, vault: Vault, make_visit: MakeVisit, tmp_path: Path):
    """A subject known by its images: days from the diagnosis become days from the first images, by dates of both."""
    folder = make_visit()
    taken = ingest(folder, store, "HOSP-77", vault=vault)
    imaged = date.fromisoformat("2021-03-01")  # the visit of the tests
    diagnosed = (imaged - timedelta(days=40)).isoformat()
    row = NB | {"diagnosis_date": diagnosed, "diagnosis_day": diagnosed, "sex": "F", "birth_date": ""}
    reader = importers.importer("eform")
    about = {"standard_name": reader.NAME, "version": reader.VERSION, "vault": vault, "site": "site1"}
    done = enter(store, reader.read(write(tmp_path / "in.csv", row)), **about)
    assert done.subjects == (taken.subject,)
    with store.reading() as connection:
        found = held(connection, done.subjects)
    assert {one.day for one in found.observation} == {-40}
    assert next(one.day for one in found.event if one.kind == "diagnosis") == -40
    undated = NB | {"diagnosis_date": "", "diagnosis_day": "0", "birth_date": ""}
    with pytest.raises(ConfigurationRejected, match="another day 0"):
        enter(store, reader.read(write(tmp_path / "in.csv", undated)), **about)


def test_images_of_a_subject_known_by_a_form_need_their_day(
    store: Store, vault: Vault, make_visit: MakeVisit, tmp_path: Path
):
    """Its days count from the diagnosis, whose date is kept nowhere: the user states the day, or is asked for it."""
    reader = importers.importer("eform")
    about = {"standard_name": reader.NAME, "version": reader.VERSION, "vault": vault, "site": "site1"}
    enter(store, reader.read(write(tmp_path / "in.csv", NB)), **about)
    with pytest.raises(StudyRejected, match="count from its diagnosis"):
        ingest(make_visit(), store, "HOSP-77", vault=vault)
    assert ingest(make_visit("again"), store, "HOSP-77", vault=vault, day=3).day == 3


def test_images_that_a_form_tells_of_are_no_visit(store: Store, vault: Vault, tmp_path: Path):
    """They have no files: no forecast starts from them, and check says that they are only told of."""
    reader = importers.importer("eform")
    about = {"standard_name": reader.NAME, "version": reader.VERSION, "vault": vault, "site": "site1"}
    done = enter(store, reader.read(write(tmp_path / "in.csv", NB, VISIT)), **about)
    assert visits(store, SubjectKey(done.subjects[0])) == ()
    failed = {one.rule.id for one in check(store).outcomes if one.failures}
    assert "images-stated-only" in failed


def test_what_the_store_has_of_a_subject_stays_and_a_gap_says_so(store: Store, vault: Vault, tmp_path: Path):
    """A second file with another sex and age changes nothing silently."""
    reader = importers.importer("eform")
    about = {"standard_name": reader.NAME, "version": reader.VERSION, "vault": vault, "site": "site1"}
    enter(store, reader.read(write(tmp_path / "in.csv", NB)), **about)
    again = enter(store, reader.read(write(tmp_path / "in.csv", NB | {"sex": "M", "birth_date": "100"})), **about)
    assert [(gap.path, gap.n) for gap in again.gaps] == [("subject.sex", 1), ("subject.age_day0_d", 1)]
    with store.reading() as connection:
        assert held(connection, again.subjects).subject[0].sex == "female"
