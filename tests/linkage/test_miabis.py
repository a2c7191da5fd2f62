"""MIABIS Core 3.0 with Sample, Donor, Event 1.1: what it says of a cohort, and what it refuses."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oncoscale.core.errors import FileRejected
from oncoscale.linkage.core import Code, Holdings
from oncoscale.linkage.importing import import_file
from oncoscale.linkage.reference import reference_cohort
from oncoscale.linkage.standards import miabis
from oncoscale.linkage.standards._miabis import entities
from oncoscale.linkage.store import Store
from oncoscale.linkage.vault import Vault

COHORT = reference_cohort(11, 8)
Content = dict[str, Any]


@pytest.fixture
def written(tmp_path: Path) -> Path:
    miabis.render(COHORT, tmp_path / "out")
    return tmp_path / "out"


def content(folder: Path) -> Content:
    return json.loads((folder / "miabis.json").read_text(encoding="utf-8"))


def changed(folder: Path, change: Callable[[Content], object]) -> Path:
    """The JSON alone, after a change."""
    held = content(folder)
    change(held)
    path = folder.with_name("changed.json")
    path.write_text(json.dumps(held), encoding="utf-8")
    return path


def test_csv_alone_reads_as_json_does(written: Path):
    """Both files say the same, also to a reader who has only one of them."""
    before = miabis.read(written)
    (written / "miabis.json").unlink()
    assert miabis.read(written) == before


def test_ages_leave_and_dates_stay(written: Path):
    """Every event whose age can be known comes back at that age in days; nothing that looks like a date is written."""
    ages = {one.key: one.age_day0_d for one in COHORT.subject}
    back = {one.id: one.age_d for one in miabis.read(written).holdings.event}
    known = [one for one in COHORT.event if ages[one.subject] is not None]
    assert len(known) > 10
    assert all(back[one.id] == ages[one.subject] + one.day for one in known)
    text = b"".join(path.read_bytes() for path in written.iterdir())
    assert b'MIABIS-EVENT-02":' not in text
    assert not any(word in text for word in (b"2024", b"2034", b"9999"))


def test_a_sample_and_its_collection_name_their_types_from_different_lists(written: Path):
    """Fixed tissue is "Tissue (fixed)" of a Sample, "Tissue (FFPE)" of a Collection [SAMPLE-02, COLLECTION-14]."""
    fixed = next(one for one in COHORT.sample if one.type.code == "441652008")
    one = replace(COHORT, sample=(replace(fixed, collection="col-1"),))
    miabis.render(one, written.with_name("one"))
    held = content(written.with_name("one"))
    assert held["sample"][0]["MIABIS-SAMPLE-02"] == "Tissue (fixed)"
    assert held["collection"][0]["MIABIS-COLLECTION-14"] == "Tissue (FFPE)"


MUTATIONS: dict[str, tuple[str, Callable[[Content], object]]] = {
    "sex outside the list": ("list", lambda c: c["donor"][0].update({"MIABIS-SAMPLEDONOR-02": "male"})),
    "no sex": ("required", lambda c: c["donor"][0].pop("MIABIS-SAMPLEDONOR-02")),
    "no contact": ("required", lambda c: [c["collection"][0].pop(f"MIABIS-COLLECTION-05-0{n}") for n in (8, 9)]),
    "no dataset type": ("required", lambda c: c["collection"][0].pop("MIABIS-COLLECTION-13")),
    "a sample's type in a collection": (
        "list", lambda c: c["collection"][0].update({"MIABIS-COLLECTION-14": "Tissue (fixed)"})),
    "both age and date": ("either age or date", lambda c: timed(c).update({"MIABIS-EVENT-02": "2021-03"})),
    "a date without birth date": ("birth date", lambda c: dated(c)),
    "age without unit": ("unit", lambda c: timed(c).pop("MIABIS-EVENT-04")),
    "age in other words": ("decimal", lambda c: timed(c).update({"MIABIS-EVENT-03": "two"})),
    "a blank in an ID": ("id", lambda c: c["donor"][0].update({"MIABIS-SAMPLEDONOR-01": "P A"})),
    "an ID twice": ("once", lambda c: c["donor"].append(c["donor"][0])),
    "a sample of nobody": ("references", lambda c: c["sample"][0].update({"MIABIS-SAMPLEDONOR-01": "P-OTHER"})),
    "a site of no ontology": ("ontology", lambda c: sited(c).pop("MIABIS-SAMPLE-05-01")),
    "a diagnosis in words": ("diagnosis", lambda c: c["sample"][0].update({"MIABIS-SAMPLE-10": ["tumour"]})),
    "a country in words": ("country", lambda c: c["biobank"][0].update({"MIABIS-BIOBANK-06": "Spain"})),
    "an attribute that is none": ("codes", lambda c: c["donor"][0].update({"MIABIS-SAMPLEDONOR-99": "x"})),
    "two storage temperatures": (
        "at most one", lambda c: c["sample"][0].update({"MIABIS-SAMPLE-03": ["Other", "Other"]})),
    "a table that is none": ("entities", lambda c: c.update(prediction=[{"id": "1"}])),
}  # fmt: skip


def timed(held: Content) -> Content:
    return next(one for one in held["event-imaging"] if "MIABIS-EVENT-03" in one)


def dated(held: Content) -> None:
    event = timed(held)
    del event["MIABIS-EVENT-03"], event["MIABIS-EVENT-04"]
    event["MIABIS-EVENT-02"] = "2021-03-01"


def sited(held: Content) -> Content:
    return next(one for one in held["sample"] if "MIABIS-SAMPLE-05-01" in one)


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_broken_rendering_is_rejected(name: str, written: Path):
    """Each deliberate fault is found by the rule that forbids it; the same file without it breaks none."""
    rule, change = MUTATIONS[name]
    assert miabis.check(changed(written, lambda c: None)) == ()
    found = miabis.check(changed(written, change))
    assert any(rule in one.rule for one in found), found


def test_csv_that_says_something_else_is_rejected(written: Path):
    """CSV and JSON of one folder must agree."""
    table = written / "donor.csv"
    table.write_text(table.read_text(encoding="utf-8").replace("Female", "Male"), encoding="utf-8")
    assert [one.where for one in miabis.check(written)] == ["donor"]


def test_names_and_misprinted_codes_find_their_attribute(tmp_path: Path):
    """Names, COLLECTION-9 without its zero, Disease's parts printed under 17 are understood; the rest is counted."""
    given_ = {"biobank": [{"ID": "b1"}],
              "collection": [{"ID": "c1", "MIABIS-BIOBANK-01": "b1", "MIABIS-COLLECTION-9": 2,
                              "MIABIS-COLLECTION-17-03": "C74.9", "Nonsense": "x",
                              "MIABIS-COLLECTION-18": ["Disease specific cohort", "No such design"]}]}  # fmt: skip
    (tmp_path / "in.json").write_text(json.dumps(given_), encoding="utf-8")
    back = miabis.read(tmp_path / "in.json")
    assert dict(back.holdings.collection[0].attributes) == {
        "MIABIS-COLLECTION-09": "2", "MIABIS-COLLECTION-16-03": ["C74.9"],
        "MIABIS-COLLECTION-18": ["Disease-specific cohort"],
    }  # fmt: skip
    assert {gap.path: gap.n for gap in back.gaps} == {"collection.Nonsense": 1, "collection.MIABIS-COLLECTION-18": 1}


def test_core_2_is_read_as_core_3(tmp_path: Path):
    """Biobank, sample collection and study by the shared codes of 2.0; what has no counterpart is counted, not kept."""
    given_ = {
        "biobank": [{"MIABIS-2.0-01": "ES_BB", "MIABIS-2.0-03": "A biobank", "MIABIS-2.0-05": "A university",
                     "MIABIS-2.0-06": "ES"}],
        "sample_collection": [{"MIABIS-BIOBANK-01": "ES_BB", "MIABIS-2.0-01": "c1", "MIABIS-2.0-03": "Neuroblastoma",
                               "MIABIS-2.0-08": "Tumours", "MIABIS-2.0-13": "Imaging data", "MIABIS-2.0-12": "years",
                               "MIABIS-2.0-14": "Tissue, paraffin preserved", "MIABIS-2.0-16": "Disease specific",
                               "MIABIS-2.0-17C": "C74.9"}],
        "study": [{"MIABIS-2.0-01": "s1", "MIABIS-2.0-02": "A study", "MIABIS-2.0-18": "Dr Somebody"}],
    }  # fmt: skip
    (tmp_path / "in.json").write_text(json.dumps(given_), encoding="utf-8")
    back = miabis.read(tmp_path / "in.json")
    collection = back.holdings.collection[0]
    assert (back.holdings.biobank[0].country, collection.biobank, collection.kind) == ("ES", "ES_BB", "mixed")
    assert collection.attributes["MIABIS-COLLECTION-14"] == "Tissue (FFPE)"
    assert collection.attributes["MIABIS-COLLECTION-16-03"] == ["C74.9"]
    assert collection.attributes["MIABIS-COLLECTION-18"] == ["Disease-specific cohort"]
    assert back.holdings.study[0].title == "A study"
    assert {gap.path for gap in back.gaps} == {"research-resource.MIABIS-2.0-18"}


def test_attributes_by_code_survive_and_outrank_what_is_derived(tmp_path: Path):
    """A collection's own contact, several diseases and a stated type are written as they are and come back."""
    own = {"MIABIS-COLLECTION-05-04": "desk@example.org", "MIABIS-COLLECTION-14": "DNA",
           "MIABIS-COLLECTION-16-03": ["C74.9", "C71.7"], "MIABIS-COLLECTION-21": "12"}  # fmt: skip
    held = replace(COHORT, collection=(replace(COHORT.collection[0], attributes=own),))
    miabis.render(held, tmp_path / "out")
    assert miabis.check(tmp_path / "out") == ()
    assert miabis.read(tmp_path / "out").holdings.collection[0].attributes == own


@given(
    text=st.text(st.characters(codec="utf-8"), min_size=1, max_size=12), more=st.text(max_size=4, alphabet='|,"[]\r\n')
)
@settings(max_examples=25, deadline=None)
def test_any_text_survives_both_files(text: str, more: str, tmp_path_factory):
    """Separators, quotes and ends of lines inside a value change nothing, in JSON and in CSV."""
    publications = {"MIABIS-COLLECTION-23": [text, text + more], "MIABIS-COLLECTION-02": text + more}
    held = replace(COHORT, collection=(replace(COHORT.collection[0], description=text, attributes=publications),),
                   subject=COHORT.subject[:1], enrolment=(), sample=(), event=(), image_series=())  # fmt: skip
    out = tmp_path_factory.mktemp("text") / "out"
    miabis.render(held, out)
    assert miabis.check(out) == ()
    both = [miabis.read(out).holdings.collection]
    (out / "miabis.json").unlink()
    both.append(miabis.read(out).holdings.collection)
    assert [(one[0].description, one[0].attributes) for one in both] == [(text, publications)] * 2


def test_what_has_no_place_by_its_value_is_counted():
    """A type that no list knows and a diagnosis of another system are told, with how many."""
    strange = replace(COHORT.sample[0], type=Code("urn:x", "1"), diagnosis=Code("urn:x", "2"), storage="a shelf")
    owner = next(one for one in COHORT.subject if one.key == strange.subject)
    alone = Holdings(subject=(replace(owner, sex="male"),), sample=(replace(strange, collection=None),))
    told = {gap.path: gap.n for gap in miabis.unsaid(alone)}
    assert told == {"sample.type": 1, "sample.storage": 1, "sample.diagnosis": 1}


def test_an_export_is_imported_with_what_it_can_say(written: Path, store: Store, vault: Vault):
    """Biobank, donors, samples and the events whose age is known enter a store; events without a time are counted."""
    done = import_file(store, written, standard_name="miabis", vault=vault)
    assert done.entered["subject"] == len(COHORT.subject)
    assert done.entered["sample"] == len(COHORT.sample)
    untimed = {gap.path: gap.n for gap in miabis.unsaid(COHORT)}["event.age_d"]
    assert done.entered["event"] == len(COHORT.event) - untimed
    assert ("event.*", untimed) in {(gap.path, gap.n) for gap in done.gaps}


@pytest.mark.parametrize(
    "record",
    [
        {"sample": [{"Sample ID": "S", "Sample type": "Urine", "MIABIS-SAMPLEDONOR-01": "X"}]},
        {"collection": [{"ID": "c1"}]},
        {"biobank": [{"ID": "b1", "Country": "Spain"}]},
        {"donor": [{"Sex": "Female"}]},
    ],
)
def test_records_that_belong_to_nothing_are_refused(record: Content, tmp_path: Path):
    """A sample of no donor, a collection of no biobank, a country in words and a donor without ID enter nowhere."""
    (tmp_path / "in.json").write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(FileRejected):
        miabis.read(tmp_path / "in.json")


LISTS = {
    "MIABIS-SAMPLEDONOR-02": "sex-cs", "MIABIS-SAMPLEDONOR-03": "collection-dataset-typeCS",
    "MIABIS-COLLECTION-07": "sample-source-cs", "MIABIS-COLLECTION-17": "sample-collection-setting-cs",
    "MIABIS-COLLECTION-18": "collection-design-cs", "MIABIS-COLLECTION-19": "use-and-access-conditions-cs",
    "MIABIS-COLLECTION-22": "inclusion-criteria-cs", "MIABIS-BIOBANK-09": "infrastructural-capabilities-cs",
    "MIABIS-BIOBANK-10": "organisational-capabilities-cs",
    "MIABIS-BIOBANK-11": "bioprocessing-and-analytical-capabilities-cs",
    "MIABIS-COLLECTION-14": "collection-sample-type-cs", "MIABIS-SAMPLE-02": "detailed-samply-type-cs",
}  # fmt: skip
WORDED_OTHERWISE = {"MIABIS-COLLECTION-14": (3, 2), "MIABIS-SAMPLE-02": (9, 10)}
"""How many values stand in one list alone: types worded otherwise (fibroblast, fibroblasts), Digital sample here,
Liquid biopsy there."""


@pytest.mark.parametrize("code", LISTS)
def test_value_lists_agree_with_an_independent_source(code: str, shared: Path):
    """The lists are those of the code systems of MIABIS on FHIR, but for types of samples that it words otherwise."""
    path = shared / "standards/miabis-on-fhir" / f"CodeSystem-miabis-{LISTS[code]}.json"
    theirs = {_folded(one["display"]) for one in json.loads(path.read_text(encoding="utf-8"))["concept"]}
    owner = next(one for one in entities().values() if code in one.attributes)
    ours = {_folded(value) for value in owner.attributes[code].values}
    assert (len(ours - theirs), len(theirs - ours)) == WORDED_OTHERWISE.get(code, (0, 0))


def _folded(text: str) -> str:
    return re.sub(r"[\s\-_]+", "", text).casefold()


WHOLE: dict[str, bytes] = {}


def pristine(tmp_path_factory) -> dict[str, bytes]:
    """The bytes of one small export, made once."""
    if not WHOLE:
        folder = tmp_path_factory.mktemp("whole") / "out"
        miabis.render(reference_cohort(2, 2), folder)
        WHOLE.update({path.name: path.read_bytes() for path in folder.iterdir()})
    return WHOLE


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_mangled_file_is_read_or_refused_in_words(data: st.DataObject, tmp_path_factory):
    """Any cut, flip or insertion of bytes gives holdings or FileRejected, never another error; so does its check."""
    whole = pristine(tmp_path_factory)
    name = data.draw(st.sampled_from(sorted(set(whole) - {"NOTICE.txt"})))
    at = data.draw(st.integers(0, len(whole[name])))
    put = data.draw(st.binary(max_size=6) | st.sampled_from((b"null", b"[]", b"{}", b"\n", b'"', b",", b"1e999", b"-")))
    folder = tmp_path_factory.mktemp("mangled")
    for other, held in whole.items():
        if name.endswith(".json") or other != "miabis.json":
            (folder / other).write_bytes(held)
    cut = data.draw(st.integers(0, 40))
    (folder / name).write_bytes(whole[name][:at] + put + whole[name][at + cut :])
    outcomes = []
    for use in (miabis.read, miabis.check):
        try:
            outcomes.append(type(use(folder)).__name__)
        except FileRejected as refused:
            outcomes.append("refused" if refused.expected and refused.remedy else "refused without words")
    assert set(outcomes) <= {"Read", "tuple", "refused"}
