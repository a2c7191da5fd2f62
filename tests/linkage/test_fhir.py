"""HL7 FHIR R4: what comes back, what is refused, and what independent judges say."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oncoscale.core.errors import FileRejected
from oncoscale.linkage import core, tables
from oncoscale.linkage.importing import import_file
from oncoscale.linkage.standards import fhir, standard
from oncoscale.linkage.standards._fhir_sections import sections, words
from oncoscale.linkage.store import Store
from oncoscale.linkage.vault import Vault

from .fhir_cases import example_bundle, fewest, unusual, written
from .fhir_definitions import PLACES, SHIPPED, NotFetched, core_package, shipped
from .fhir_definitions import places as table_of_places


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A valid bundle that holds each type of resource, and all predictions of ``unusual``."""
    return example_bundle(tmp_path_factory.mktemp("fhir"))


def test_what_a_cohort_seldom_holds_comes_back_too(tmp_path: Path):
    """Ages instead of days, every kind of event, codes with versions, pooled files, large files, probabilities."""
    before = unusual()
    fhir.render(before, tmp_path / "a.json")
    after = fhir.read(tmp_path / "a.json")
    assert core.without(after.holdings, ()) == core.without(before, ())
    assert after.gaps == ()
    assert fhir.check(tmp_path / "a.json") == ()


def test_every_attribute_has_a_place():
    """The table names each attribute of the core, and words that the store's tables permit."""
    placed = {f"{one.table}.{name}" for one in sections() for name in one.fields} | {"event.kind"}
    nested = {one for one in core.attributes() if one.split(".")[0] in ("contains", "run_subject", "link")}
    assert placed | nested == set(core.attributes())
    for name, values in words().items():
        table, column = name.split(".")
        checks = " ".join(
            str(one.sqltext) for one in tables.metadata.tables[table].constraints if hasattr(one, "sqltext")
        )
        assert f"{column} IN ({', '.join(repr(value) for value in values)})" in checks


def test_documented_fields_find_exactly_the_predictions(example: dict[str, Any]):
    """Status, security label, tag and code system each separate what was predicted from what was observed."""
    predicted = {one.id for one in unusual().prediction}
    found: dict[str, set[str]] = {"status": set(), "label": set(), "tag": set(), "code": set()}
    for entry in example["entry"]:
        one = entry["resource"]
        if one["resourceType"] not in ("Observation", "RiskAssessment"):
            continue
        name = one["identifier"][0]["value"]
        meta = json.dumps(one["meta"])
        code = json.dumps(one.get("code") or one["prediction"][0]["outcome"])
        for how, yes in (("status", one["status"] in ("preliminary", "cancelled")), ("label", "DEVAST" in meta),
                         ("tag", "simulated" in meta), ("code", "urn:oncoscale:predicted" in code)):  # fmt: skip
            found[how] |= {name} if yes else set()
    assert set(found) == {how for how, names in found.items() if names == predicted}


FOREIGN = [
    {"resourceType": "Patient", "id": "p1", "gender": "female", "birthDate": "1990-03-01",
     "identifier": [{"system": "http://hospital.example", "value": "HOSP-77"}], "name": [{"family": "Miller"}],
     "Miller": 1, "telecom": [{"value": "555-1234"}], "extension": [{"url": "x:y", "valueCode": "secret"}]},
    {"resourceType": "Condition", "id": "c1", "subject": {"reference": "Patient/p1"}, "onsetDateTime": "2020-03-01",
     "code": {"coding": [{"system": "http://hl7.org/fhir/sid/icd-10", "code": "C50.9"}], "text": "her tumour"}},
    {"resourceType": "Condition", "id": "c2", "subject": {"reference": "Patient/p1"}, "onsetDateTime": "2020-03-02",
     "verificationStatus": {"coding": [{"code": "refuted"}]}, "code": {"coding": [{"system": "s", "code": "C1"}]}},
    {"resourceType": "MedicationAdministration", "id": "m1", "status": "completed",
     "subject": {"reference": "https://h.example/fhir/Patient/p1"}, "effectiveDateTime": "2020-03-11T10:00:00Z",
     "dosage": {"text": "slowly", "dose": {"value": 1.5, "system": "http://unitsofmeasure.org", "code": "mg/m2"}},
     "medicationCodeableConcept": {"coding": [{"system": "http://www.whocc.no/atc", "code": "L01CA02"}]}},
    {"resourceType": "MedicationAdministration", "id": "m2", "status": "not-done",
     "subject": {"reference": "Patient/p1"}, "effectiveDateTime": "2020-03-11",
     "medicationCodeableConcept": {"coding": [{"system": "http://www.whocc.no/atc", "code": "L01CA02"}]}},
    {"resourceType": "Observation", "id": "o1", "status": "final", "subject": {"reference": "Patient/p1"},
     "code": {"coding": [{"system": "s", "code": "size"}]}, "effectiveDateTime": "2020-03-01",
     "valueQuantity": {"value": 12.5, "unit": "mm", "system": "http://unitsofmeasure.org", "code": "mm"}},
    {"resourceType": "Observation", "id": "o2", "status": "final", "subject": {"reference": "Patient/p1"},
     "code": {"coding": [{"system": "s", "code": "size"}]}, "valueQuantity": {"value": 12.5, "unit": "inch"}},
    {"resourceType": "Observation", "id": "o3", "status": "final", "subject": {"reference": "Patient/p1"},
     "code": {"coding": [{"system": "s", "code": "size"}]},
     "valueQuantity": {"value": 5, "comparator": "<", "system": "http://unitsofmeasure.org", "code": "mm"}},
    {"resourceType": "Observation", "id": "o4", "status": "final", "subject": {"reference": "Patient/p1"},
     "meta": {"security": [{"system": "v3", "code": "AIAST"}]}, "code": {"coding": [{"system": "s", "code": "size"}]},
     "valueQuantity": {"value": 5, "system": "http://unitsofmeasure.org", "code": "mm"}},
    {"resourceType": "Observation", "id": "o5", "status": "entered-in-error", "subject": {"reference": "Patient/p1"},
     "code": {"coding": [{"system": "s", "code": "size"}]}, "valueCodeableConcept": {"coding": []}},
    {"resourceType": "Observation", "id": "o6", "status": "final", "subject": {"reference": "Patient/p1"},
     "modifierExtension": [{"url": "http://x.example/not", "valueBoolean": True}],
     "code": {"coding": [{"system": "s", "code": "size"}]}, "valueCodeableConcept": {"coding": [{"code": "a"}]}},
    {"resourceType": "Procedure", "id": "q1", "status": "completed", "subject": {"reference": "Patient/nobody"},
     "category": {"coding": [{"system": "http://snomed.info/sct", "code": "387713003"}]},
     "performedDateTime": "2021", "code": {"coding": [{"system": "s", "code": "x"}]}},
    {"resourceType": "Encounter", "id": "e1", "status": "finished"},
]  # fmt: skip
"""What another system might send: names, real dates, refuted and erroneous entries, a bound, a machine's opinion."""


def foreign(tmp_path: Path) -> Path:
    entries = [{"fullUrl": f"https://h.example/fhir/{one['resourceType']}/{one['id']}", "resource": one}
               for one in FOREIGN]  # fmt: skip
    return written({"resourceType": "Bundle", "type": "collection", "entry": entries}, tmp_path / "foreign.json")


def test_of_anothers_bundle_only_facts_are_taken(tmp_path: Path):
    """Dates become days since the first diagnosis; what is refuted, not done, bounded or predicted is left, counted."""
    found = fhir.read(foreign(tmp_path))
    held = found.holdings
    assert [(one.key, one.sex, one.age_day0_d, one.day0_kind) for one in held.subject] == [
        ("HOSP-77", "female", 10958, "diagnosis")
    ]
    assert [(one.kind, one.code.code, one.day) for one in held.event] == [
        ("diagnosis", "C50.9", 0),
        ("treatment", "L01CA02", 10),
    ]
    assert held.event[1].attributes == {"dose": 1.5, "dose_unit": "mg/m2"}
    assert [(one.id, one.value, one.unit.code) for one in held.observation if one.unit] == [("o1", 12.5, "mm")]
    assert len(held.observation) == 1
    said = {(gap.path, gap.reason.split(":")[0]) for gap in found.gaps}
    assert {("Patient.name.family", "not understood"), ("Patient.telecom.value", "not understood"),
            ("Patient.?", "not understood"),
            ("Condition.code.text", "not understood"),
            ("MedicationAdministration.dosage.text", "not understood"), ("Condition", "not taken"),
            ("Observation", "not taken"),
            ("Encounter", "no such thing in the core"), ("Procedure", "not taken")} <= said  # fmt: skip
    assert not any(word in str(found.gaps) for word in ("Miller", "555", "secret", "tumour", "HOSP"))


def test_anothers_bundle_enters_a_store_under_a_pseudonym(store: Store, vault: Vault, tmp_path: Path):
    """The hospital's name of the patient stands nowhere in the store, and what was left out is on record."""
    done = import_file(store, foreign(tmp_path), standard_name="fhir", vault=vault)
    assert done.entered["event"] == 2
    assert done.subjects[0].startswith("P-")
    stored = b"".join(path.read_bytes() for path in store.path.iterdir() if path.is_file())
    assert not any(word in stored for word in (b"HOSP-77", b"Miller", b"secret", b"1990-03-01"))


WRONG = [None, True, 0, -1, 1e308, 10**40, "", " ", "x", [], {}, [[]], [None], [{}], {"coding": [{}]}, "2000-13-45",
         {"reference": []}, {"reference": "x"}, {"identifier": {}}, float("nan"), "\ud800", "9999-12-31"]  # fmt: skip


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_mangled_bundle_is_read_or_refused_in_words(data: st.DataObject, example, tmp_path_factory):
    """Whatever is deleted, exchanged or repeated in a bundle, reading and checking end in rows or in FileRejected."""
    content = fewest(example)
    content["entry"] = data.draw(st.lists(st.sampled_from(content["entry"]), min_size=1, max_size=12))
    content = copy.deepcopy(content)
    for _ in range(data.draw(st.integers(1, 6))):
        here, name = data.draw(st.sampled_from([*places(content)]))
        if data.draw(st.booleans()):
            here[name] = copy.deepcopy(data.draw(st.sampled_from(WRONG)))
        else:
            del here[name]
    path = written(content, tmp_path_factory.mktemp("mangled") / "a.json")
    for name in ("fhir", "miabis-on-fhir"):
        chosen = standard(name)
        for use in (chosen.read, chosen.check):
            assert outcome(use, path) in ("used", "refused")


def test_what_is_read_of_a_mangled_bundle_can_be_entered(
    example: dict[str, Any], store: Store, vault: Vault, tmp_path: Path
):
    """Rows that a reader makes of damaged resources satisfy the store's keys and checks, whoever sent them."""
    entered = 0
    for seed in range(20):
        luck, content = Random(seed), copy.deepcopy(fewest(example))
        for entry in content["entry"] if seed % 2 else ():
            entry["resource"].pop("meta")  # as another's
        for _ in range(8):
            here, name = luck.choice(places(content["entry"]))
            here[name] = copy.deepcopy(luck.choice(WRONG))
        path = written(content, tmp_path / "a.json")
        if outcome(fhir.read, path) == "used":
            done = import_file(store, path, standard_name="fhir", vault=vault)
            entered += sum(done.entered.values())
    assert entered > 10


def outcome(use: Callable[[Path], object], path: Path) -> str:
    """Whether a file was used or refused; anything else that is raised goes on."""
    try:
        use(path)
    except FileRejected:
        return "refused"
    return "used"


def places(content: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) inside some JSON."""
    keys = list(content) if isinstance(content, dict) else range(len(content)) if isinstance(content, list) else ()
    return [found for key in keys for found in ((content, key), *places(content[key]))]


def test_too_deep_a_nesting_is_refused(tmp_path: Path):
    """A file that nests beyond what a program can follow is refused, not a crash."""
    deep = '{"a":' * 3000 + "1" + "}" * 3000
    text = f'{{"resourceType": "Bundle", "type": "batch", "entry": [{{"resource": {deep}}}]}}'
    (tmp_path / "deep.json").write_text(text, encoding="utf-8")
    for use in (fhir.read, fhir.check):
        with pytest.raises(FileRejected):
            use(tmp_path / "deep.json")


def test_the_element_table_is_that_of_r4():
    """The shipped table is what HL7's definitions say, made anew."""
    try:
        folder = core_package()
    except NotFetched as error:
        pytest.skip(f"not run: no definitions of FHIR R4 ({error})")
    assert SHIPPED.read_text(encoding="utf-8") == shipped(folder)


def test_the_documented_places_are_those_of_the_code():
    """The table of the documentation is made from fhir.toml (python tests/linkage/fhir_definitions.py)."""
    assert PLACES.read_text(encoding="utf-8") == table_of_places()
