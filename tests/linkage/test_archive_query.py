"""SPARQL over DICOM attributes, asked of an archive: the answer of the store, and nobody's without consent."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydicom.datadict import tag_for_keyword
from typer.testing import CliRunner

from oncoscale.app.archive_login import PASSWORD, USER
from oncoscale.app.cli import app
from oncoscale.core.errors import ConfigurationRejected
from oncoscale.imaging.archive import objects_in, send
from oncoscale.imaging.dicomweb import DicomWeb
from oncoscale.linkage import archive_query, core, querying
from oncoscale.linkage.archive_query import ask_archive, asked_in, images
from oncoscale.linkage.archive_question import Asked
from oncoscale.linkage.consent import withdraw
from oncoscale.linkage.ingest import Ingested, ingest
from oncoscale.linkage.querying import Limits, ask_sparql, rows_of_sparql
from oncoscale.linkage.reference import reference_cohort
from oncoscale.linkage.standards._rdf_words import dicom_text
from oncoscale.linkage.store import Store
from oncoscale.linkage.subject import SubjectKey

from ..imaging.orthanc import LOGIN, empty, running_orthanc  # noqa: F401
from .conftest import ACTIVE, MakeVisit

COHORT = reference_cohort(3, 6)
PAIR = reference_cohort(3, 2)

QUESTIONS = (
    'SELECT ?uid { ?s dcm:Modality "MR"; dcm:SeriesInstanceUID ?uid }',
    'SELECT ?uid ?m { ?s roo:P100305 ?uid; dcm:Modality ?m FILTER(?m = "SEG") }',
    "SELECT ?key ?study (count(?s) AS ?n) { ?p dcm:PatientID ?key; roo:P100284 ?t . ?t roo:P100309 ?study;"
    " roo:P100283 ?s } GROUP BY ?key ?study ORDER BY ?key",
    'SELECT ?uid ?tr ?te { ?s dcm:RepetitionTime ?tr; dcm:EchoTime ?te; dcm:MagneticFieldStrength "3";'
    " dcm:SeriesInstanceUID ?uid }",
    "SELECT ?key { ?p roo:P100018/a ncit:C16576; roo:P100061/roo:P100042 ?key; roo:P100284/roo:P100283 ?s ."
    ' ?s dcm:Modality "MR" }',
    'SELECT DISTINCT ?a ?b { ?t roo:P100283 ?s, ?r . ?s dcm:Modality "MR"; roo:P100305 ?a .'
    ' ?r dcm:Modality "SEG"; roo:P100305 ?b }',
    'ASK { ?s dcm:Modality "CT" }',
    'SELECT ?m { ?s dcm:Manufacturer ?m FILTER regex(?m, "^A") }',
)
"""In words that the store's own graph has too."""


def rows(found: Any) -> list[tuple[Any, ...]]:
    return sorted(map(tuple, found), key=str)


# ----------------------------------------------------------------------------------------------------- an own archive


class Shelf:
    """An archive in memory, of the series of holdings: matches keys, tells what is asked for, notes what was asked."""

    def __init__(self, held: Sequence[core.Series], days: Mapping[str, str] | None = None):
        self.held, self.days = held, days or {}
        self.asked: list[tuple[str, dict[str, str]]] = []

    def search(
        self, place: str, match: Mapping[str, str], fields: Sequence[str], *, most: int = 0
    ) -> list[Mapping[str, Any]]:
        self.asked.append((place, dict(match)))
        parts = place.split("/")
        chosen = [one for one in self.held if len(parts) < 2 or one.study_uid == parts[1]]
        chosen = [one for one in chosen if len(parts) < 4 or one.uid == parts[3]]
        told = {json.dumps(row): row for row in (self.row(one, parts[-1], fields) for one in chosen)}
        return [row for row in told.values() if all(_matches(row, *key) for key in match.items())][: most or None]

    def row(self, one: core.Series, level: str, fields: Sequence[str]) -> dict[str, Any]:
        said = {"PatientID": one.subject, "StudyInstanceUID": one.study_uid}
        said |= {"StudyDate": self.days[one.study_uid]} if one.study_uid in self.days else {}
        if level != "studies":
            said |= {"SeriesInstanceUID": one.uid, "Modality": one.modality.code}
            said |= {"SeriesDescription": "SIMULATED tumour"} if one.role == "simulated" else {}
        if level == "instances":
            said |= {keyword: one.acquisition[keyword] for keyword in fields if keyword in one.acquisition}
        return {f"{tag_for_keyword(keyword):08X}": {"Value": [value]} for keyword, value in said.items()}


def _matches(row: Mapping[str, Any], keyword: str, key: str) -> bool:
    value = archive_query.said(row, keyword)
    first, dash, last = key.partition("-") if keyword == "StudyDate" else (key, "", "")
    return (first or value) <= value <= (last or value) if dash else value == key


def answer(shelf: Shelf, question: str, held: core.Holdings = COHORT) -> list[tuple[Any, ...]]:
    """The rows that the archive's images and the cohort's facts give."""
    found = images(shelf, [one.key for one in held.subject], asked_in(question))
    return rows(rows_of_sparql(replace(held, image_series=found), question, Limits())[1])


@pytest.mark.parametrize("question", QUESTIONS)
def test_an_archive_gives_the_answer_of_the_store(question: str):
    """Whatever keys were sent along, and wherever the archive tells an attribute."""
    local = rows(rows_of_sparql(COHORT, question, Limits())[1])
    assert answer(Shelf(COHORT.image_series), question) == local


@given(
    words=st.lists(
        st.sampled_from((
            '?s dcm:Modality "MR"', '?s dcm:Modality "SEG"', '?r dcm:Modality "MR"', "?s dcm:Modality ?m",
            "?t roo:P100283 ?s", "?t roo:P100283 ?r", "?t roo:P100309 ?study", "?p roo:P100284 ?t",
            "?p roo:P100284 ?u", "?u roo:P100283 ?r", "?p dcm:PatientID ?key", 'FILTER(?m = "MR")',
            'FILTER(?m != "MR")', 'FILTER(?m >= "N" && ?m < "T")', f'?p dcm:PatientID "{PAIR.subject[0].key}"',
            "?s dcm:FlipAngle ?a", "?p roo:P100018 [ a ncit:C16576 ]", "?q roo:P100284/roo:P100283 ?s",
        )), min_size=1, max_size=6, unique=True,
    )
)  # fmt: skip
@example(words=['?s dcm:Modality "SEG"', "?t roo:P100309 ?study"])  # a study is not lost with its series
@settings(max_examples=30, deadline=None)
def test_keys_spare_rows_and_never_change_the_answer(words: list[str]):
    """Over random questions: keys are sent only where every answer must meet them."""
    question = f"SELECT (count(*) AS ?n) {{ {' . '.join(words)} }}"
    shelf = Shelf(PAIR.image_series)
    assert answer(shelf, question, PAIR) == rows(rows_of_sparql(PAIR, question, Limits())[1])


def test_keys_are_matched_by_the_archive():
    """One subject, a range of days and a modality are asked for; of the other days no series."""
    days = {uid: f"202401{n + 10}" for n, uid in enumerate(sorted({one.study_uid for one in COHORT.image_series}))}
    shelf = Shelf(COHORT.image_series, days)
    question = (
        "SELECT ?day ?uid { ?p roo:P100284 ?t . ?t dcm:StudyDate ?day; roo:P100283 ?s . ?s roo:P100305 ?uid;"
        ' dcm:Modality "MR" FILTER(?day > "20240111" && "20240114" >= ?day) }'
    )
    found = answer(shelf, question)
    assert {row[0] for row in found} == {f"202401{n}" for n in (12, 13, 14)} & {
        days[one.study_uid] for one in COHORT.image_series if one.modality.code == "MR" and one.role != "simulated"
    }
    assert found
    studies = [match for place, match in shelf.asked if place == "studies"]
    assert {match["StudyDate"] for match in studies} == {"20240111-20240114"}
    assert {match["PatientID"] for match in studies} == {one.key for one in COHORT.subject}
    below = [(place.split("/")[1], match) for place, match in shelf.asked if place != "studies"]
    assert {days[uid] for uid, _ in below} <= {f"202401{n}" for n in (11, 12, 13, 14)}
    assert all(match == {"Modality": "MR"} for _, match in below)


def test_nobody_else_is_asked_for_and_a_stranger_in_an_answer_is_left_out():
    """The archive is asked by pseudonym; rows that it gives of others, or under what is no UID, are dropped."""

    class Careless(Shelf):
        def search(self, place: str, match: Mapping[str, str], *more: Any, **named: Any) -> list[Mapping[str, Any]]:
            return super().search(place, {}, *more, **named)

    key = COHORT.subject[0].key
    for shelf in (Shelf(COHORT.image_series), Careless(COHORT.image_series)):
        assert {one.subject for one in images(shelf, [key], Asked())} == {key}
    crooked = replace(COHORT.image_series[0], study_uid="../../system")
    assert images(Shelf([crooked]), [crooked.subject], Asked()) == ()


REFUSED = {
    "?s ?p ?o": "a variable in the place of an attribute",
    "?s a ?c": "a variable in the place of a class",
    "?s onco:uid ?u": "the store alone",
    "?s a prov:Entity": "the store alone",
    '?s dcm:Modality "MR" OPTIONAL { ?s dcm:FlipAngle ?a }': "OPTIONAL",
    '{ ?s dcm:Modality "MR" } UNION { ?s dcm:Modality "CT" }': "UNION",
    '?s dcm:Modality "MR" MINUS { ?s dcm:FlipAngle "15" }': "MINUS",
    "?s dcm:Modality ?m FILTER NOT EXISTS { ?s dcm:FlipAngle ?a }": "NOT EXISTS",
    "?s dcm:Modality ?m FILTER(?m = 'MR' && EXISTS { ?s dcm:FlipAngle ?a })": "EXISTS",
    'VALUES ?m { "MR" } ?s dcm:Modality ?m': "VALUES",
    "?t roo:P100283* ?s": "path",
    "?s dcm:Nonsense ?x": "no keyword of DICOM",
    "?s dcm:PatientName ?x": "no plain value",
    "?s dcm:AccessionNumber ?x": "de-identification takes out",
    "?s dcm:InstitutionName ?x": "de-identification takes out",
    "?s dcm:PixelData ?x": "no plain value",
    "GRAPH ?g { ?s a dcm:Series }": "GRAPH",
    "SERVICE <http://example.org> { ?s a dcm:Series }": "network",
}


@pytest.mark.parametrize("pattern", REFUSED)
def test_what_cannot_be_translated_is_refused_with_the_reason(pattern: str):
    """Rather than answered in part."""
    with pytest.raises(ConfigurationRejected, match=REFUSED[pattern]):
        asked_in(f"SELECT * {{ {pattern} }}")


def test_a_description_is_no_question_for_an_archive():
    """DESCRIBE and CONSTRUCT would show what nobody named."""
    for question in ("DESCRIBE ?s { ?s a dcm:Series }", "CONSTRUCT { ?s a dcm:Study } { ?s a dcm:Series }"):
        with pytest.raises(ConfigurationRejected, match=question.split()[0]):
            asked_in(question)


def test_wild_cards_and_odd_dates_are_not_sent_along():
    """They mean something else to an archive than in the question; the question itself is worked out here."""
    for value in ("M*", "M?", "A\\\\B", ""):
        assert asked_in(f'SELECT * {{ ?s dcm:Modality "{value}" }}').keys["series"] == {}
    for value in ('"2024"', '"20240101-"', '"20240101"^^xsd:date', '"20240101"@en'):
        assert asked_in(f"SELECT * {{ ?t dcm:StudyDate ?d FILTER(?d >= {value}) }}").keys["study"] == {}


@given(st.floats(-1e6, 1e6), st.integers(-(2**31), 2**31 - 1))
def test_numbers_are_said_alike_however_they_were_written(real: float, whole: int):
    """The text of a file and the number of DICOM JSON give the same words."""
    for text in (repr(real), f"{real:.17e}", str(real)):
        assert dicom_text("RepetitionTime", text) == dicom_text("RepetitionTime", str(real))
        assert float(dicom_text("RepetitionTime", text)) == real
    assert dicom_text("EchoNumbers", f" {whole} ") == str(float(whole)).removesuffix(".0")
    assert dicom_text("PixelSpacing", f"{whole}.00, {real!r}") == f"{whole}, {repr(real).removesuffix('.0')}"


# ------------------------------------------------------------------------------------------------------------ Orthanc


@pytest.fixture
def archived(store: Store, make_visit: MakeVisit, orthanc: tuple[str, int]) -> Iterator[tuple[Store, DicomWeb]]:
    """Two subjects with consent and one without in the store; the images of all, and a stranger's, in Orthanc."""
    archive = DicomWeb(f"{orthanc[0]}/dicom-web", LOGIN)
    empty(orthanc[0])
    for number, consent in enumerate((ACTIVE, ACTIVE, None)):
        visit = make_visit(f"visit-{number}", study=str(number + 1), patient=f"HOSP-{number}")
        taken: Ingested = ingest(visit, store, f"HOSP-{number}", consent=consent)
        assert send(objects_in(store.study_folder(taken.study))[0], archive).is_whole
    assert send(objects_in(make_visit("stranger", study="9", patient="HOSP-9"))[0], archive).is_whole
    yield store, archive
    empty(orthanc[0])


def test_orthanc_gives_the_answer_of_the_store(archived: tuple[Store, DicomWeb], monkeypatch: pytest.MonkeyPatch):
    """By QIDO-RS the same rows as from the store's own graph; dates from the archive alone; a withdrawal at once."""
    store, archive = archived
    asked = ["query", str(store.path), QUESTIONS[0], "--archive", archive.url, "--json"]
    done = CliRunner().invoke(app, asked, env={USER: LOGIN.user, PASSWORD: LOGIN.password})
    monkeypatch.setattr(querying, "_guarded", lambda limits, work, *arguments: work(*arguments))
    monkeypatch.setattr(archive_query, "_translated", lambda text, limits: asked_in(text))
    assert rows(json.loads(done.stdout)["rows"]) == rows(ask_sparql(store, QUESTIONS[0]).rows) != []
    assert CliRunner().invoke(app, asked).exit_code == 2
    for question in QUESTIONS:
        local, theirs = ask_sparql(store, question), ask_archive(store, archive, question)
        assert rows(theirs.rows) == rows(local.rows), question
        assert (theirs.columns, theirs.subjects, theirs.left_out) == (local.columns, 2, 1)
    dated = (
        "SELECT ?key ?day { ?p dcm:PatientID ?key; roo:P100284 ?t . ?t dcm:StudyDate ?day FILTER(?day <= '20210301') }"
    )
    days = ask_archive(store, archive, dated).rows
    assert len(days) == 2
    assert all(len(day) == 8 and day < "20210301" for _, day in days)
    assert ask_archive(store, archive, dated.replace("<=", ">=")).rows == ()
    withdraw(store, SubjectKey(days[0][0]))
    assert [key for key, _ in ask_archive(store, archive, dated).rows] == [days[1][0]]
