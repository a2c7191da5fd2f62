"""OMOP: what a rendering says, what comes back, and how it stands to the store, to Athena and to FHIR."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from oncoscale.app.cli import app
from oncoscale.core.errors import ConfigurationRejected, FileRejected
from oncoscale.linkage import core, standards
from oncoscale.linkage.core import Code, Holdings
from oncoscale.linkage.exporting import export
from oncoscale.linkage.holding import take_in
from oncoscale.linkage.reference import SNOMED, UCUM, reference_cohort
from oncoscale.linkage.standards import omop
from oncoscale.linkage.standards._omop_cdm import LOCAL, TABLES
from oncoscale.linkage.store import Store
from oncoscale.linkage.vault import Vault

from .omop_cases import COHORT, LOST, every_kind, official_definition, omop_rendering, tables_of  # noqa: F401
from .omop_judges import Definition, in_sqlite


def test_every_kind_of_event_comes_back(tmp_path: Path, defined: Definition):
    """Deaths, progressions, nested diagnoses, ages instead of days, unknown days, hard words: all come back as told."""
    before = every_kind()
    omop.render(before, tmp_path / "out")
    after = omop.read(tmp_path / "out")
    assert core.without(after.holdings, LOST) == core.without(before, LOST)
    assert after.gaps == ()
    assert omop.check(tmp_path / "out") == ()
    assert in_sqlite(tmp_path / "out", defined) is None


def test_dates_are_anchored_and_intervals_true(rendering: Path):
    """Every diagnosis of day 0 is on 2000-01-01, the drug after it as many days later, and CDM_SOURCE says so."""
    found = tables_of(rendering)
    day_0 = date(2000, 1, 1)
    assert {row["condition_start_date"] for row in found["condition_occurrence"]} == {day_0.isoformat()}
    days = Counter(str(day_0 + timedelta(one.day or 0)) for one in COHORT.event if one.kind == "treatment")
    assert Counter(row["drug_exposure_start_date"] for row in found["drug_exposure"]) == days
    assert "2000-01-01" in found["cdm_source"][0]["source_description"]
    born = {one.key: one.age_day0_d for one in COHORT.subject}
    for row in found["person"]:
        age = born[row["person_source_value"]]
        assert int(row["year_of_birth"]) == (1900 if age is None else 2000 - int(age // 365.25))


def test_numbers_of_persons_owe_nothing_to_their_keys(tmp_path: Path):
    """Persons are numbered in an order that is not that of their keys, and another cohort has another order."""
    orders = []
    for seed in range(5):
        omop.render(reference_cohort(seed, 8), tmp_path / str(seed))
        rows = tables_of(tmp_path / str(seed))["person"]
        keys = sorted(row["person_source_value"] for row in rows)
        orders.append(tuple(keys.index(row["person_source_value"]) for row in rows))
    assert tuple(range(8)) not in orders
    assert len(set(orders)) == 5


def test_taking_the_predictions_away_leaves_the_observed_bytes(rendering: Path, tmp_path: Path):
    """Files written without predictions are the beginnings of those with them, byte for byte."""
    omop.render(core.observed(COHORT), tmp_path / "observed")
    files = sorted((tmp_path / "observed").iterdir())
    assert len(files) > 20
    assert all((rendering / one.name).read_bytes().startswith(one.read_bytes()) for one in files)
    assert (rendering / "MEASUREMENT.csv").stat().st_size > (tmp_path / "observed/MEASUREMENT.csv").stat().st_size


def test_whoever_filters_on_the_type_finds_exactly_the_predictions(rendering: Path):
    """MEASUREMENT of the type for what is simulated, and of no standard concept, is what was predicted; its images say
    by which software and run."""
    found = tables_of(rendering)
    simulated = str(LOCAL["simulated"])
    rows = [row for row in found["measurement"] if row["measurement_type_concept_id"] == simulated]
    assert sorted(float(row["value_as_number"]) for row in rows) == sorted(one.value for one in COHORT.prediction)
    assert {row["measurement_concept_id"] for row in rows} == {str(LOCAL["prediction"])}
    numbers = {row["measurement_id"] for row in rows}
    computed = [row for row in found["image_feature"] if row["image_feature_type_concept_id"] == simulated]
    by = {row["alg_system"].split("run=")[1] for row in computed if row["image_feature_event_id"] in numbers}
    assert by == {one.run for one in COHORT.prediction}


def test_stages_modify_the_diagnosis(tmp_path: Path):
    """A stage points to the condition that it is the stage of (modifier, CDM 5.4); of two conditions, to its sample."""
    omop.render(replace(every_kind(), event=reference_cohort(5, 1).event, image_series=()), tmp_path / "one")
    omop.render(every_kind(), tmp_path / "two")
    of = {}
    for name in ("one", "two"):
        rows = tables_of(tmp_path / name)["measurement"]
        of[name] = next(row for row in rows if row["measurement_source_value"] == "inrg-stage")
    assert of["one"]["meas_event_field_concept_id"] == str(LOCAL["condition_occurrence.condition_occurrence_id"])
    assert of["two"]["meas_event_field_concept_id"] == str(LOCAL["specimen.specimen_id"])


def test_a_value_that_does_not_fit_is_refused_not_cut(tmp_path: Path):
    """A code longer than its field ends the export, says which field, and leaves nothing behind."""
    cohort = reference_cohort(5, 1)
    long = replace(cohort.event[0], code=Code("urn:x", "c" * 51))
    with pytest.raises(ConfigurationRejected, match="51 characters for"):
        omop.render(replace(cohort, event=(long, *cohort.event[1:])), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_every_attribute_has_a_place_that_exists(tmp_path: Path):
    """The mapping names a field of the definition for every attribute but the gaps, and what it says stands in an
    OBSERVATION or in METADATA does."""
    places = omop.mapping()
    lost = {one for one in core.attributes() if one in LOST or one.split(".")[0] + ".*" in LOST}
    assert places.keys() == set(core.attributes()) - lost
    fields = {f"{table.upper()}.{field}" for table, columns in TABLES.items() for field in columns}
    assert all(one.split(" ")[0] in fields for place in places.values() for one in place.split(", "))
    omop.render(every_kind(), tmp_path / "out")
    found = tables_of(tmp_path / "out")
    said = {row["observation_source_value"].split(".")[0] for row in found["observation"]}
    said |= {row["name"].split("/")[0] + "." + row["name"].split("/")[2] for row in found["metadata"]}
    beside = {
        name.split(".")[1] for name, place in places.items() if place.startswith("OBSERVATION.observation_source")
    }
    unused = {"supersedes", "withdrawn_at"}  # no consent of the cohort is withdrawn
    assert beside - unused - {"id"} <= said
    computed = {name for name, place in places.items() if place.startswith("METADATA")}
    empty = {"campaign", "failure", "passport", "unit", "frame_uid", "series", "sample"}
    assert {name for name in computed if name.split(".")[1] not in empty} <= said


def test_what_happened_within_a_disease_is_an_event_of_its_episode(rendering: Path):
    """Each diagnosis opens an episode; drugs given for it are events of that episode (oncology extension)."""
    found = tables_of(rendering)
    assert len(found["episode"]) == len(found["condition_occurrence"])
    field = str(LOCAL["drug_exposure.drug_exposure_id"])
    drugs = {row["event_id"]: row["episode_id"] for row in found["episode_event"]
             if row["episode_event_field_concept_id"] == field}  # fmt: skip
    whose = {row["episode_id"]: row["person_id"] for row in found["episode"]}
    assert {row["drug_exposure_id"] for row in found["drug_exposure"]} == drugs.keys()
    assert all(whose[drugs[row["drug_exposure_id"]]] == row["person_id"] for row in found["drug_exposure"])


def test_unused_code_systems_are_not_claimed(rendering: Path):
    """Codes that were not looked up stand in vocabularies of our own name, within the range for local concepts."""
    rows = [row for row in tables_of(rendering)["concept"] if int(row["concept_id"]) > 2_000_000_000]
    assert SNOMED in {row["vocabulary_reference"] for row in tables_of(rendering)["vocabulary"]}
    assert {row["vocabulary_id"].split(" ")[0] for row in rows} == {"oncoscale", "own"}
    assert all(int(row["concept_id"]) <= 2_099_999_999 for row in rows)


def test_the_page_names_every_table_and_gap(rendering: Path):
    """The documentation names every table that is written, and every gap."""
    page = (Path(__file__).parents[2] / "docs/linkage/omop.rst").read_text(encoding="utf-8")
    assert [path.stem for path in rendering.glob("*.csv") if f"``{path.stem}``" not in page] == []
    assert [path for path in LOST if f"``{path}``" not in page] == []


def test_an_export_holds_no_predictions_unless_asked(store: Store, tmp_path: Path):
    """Of a store with predictions, an export holds none unless they are asked for; nothing in it breaks a rule; what
    OMOP cannot say is on record."""
    cohort = reference_cohort(5, 6)
    with store.writing() as connection:
        take_in(connection, cohort)
    without = export(store, "all", tmp_path / "without", standard_name="omop")
    asked = export(store, "all", tmp_path / "with", standard_name="omop", predictions=True)
    assert omop.read(without.path).holdings.prediction == ()
    assert len(omop.read(asked.path).holdings.prediction) == len(cohort.prediction)
    one = export(store, cohort.subject[0].key, tmp_path / "one", standard_name="omop")
    assert [subject.key for subject in omop.read(one.path).holdings.subject] == [cohort.subject[0].key]
    assert (without.violations, asked.violations, one.violations) == ((), (), ())
    assert {gap.path for gap in without.gaps} == set(LOST)


# A user's own vocabulary


@pytest.fixture
def athena(tmp_path: Path) -> Path:
    """A vocabulary of six concepts in the form in which Athena delivers them."""
    folder = tmp_path / "athena"
    folder.mkdir()
    rows = [
        ["101", "Neoplasm of adrenal gland", "Condition", "SNOMED", "Disorder", "S", "126873007"],
        ["102", "Malignant neoplasm of adrenal gland", "Condition", "ICD10", "ICD10 code", "", "C74.9"],
        ["103", "vincristine", "Drug", "ATC", "ATC 5th", "", "L01CA02"],
        ["104", "vincristine", "Drug", "RxNorm", "Ingredient", "S", "11202"],
        ["105", "milliliter", "Unit", "UCUM", "Unit", "S", "mL"],
        ["1147330", "measurement.measurement_id", "Metadata", "CDM", "Field", "S", "CDM1"],
    ]
    lines = ["\t".join(TABLES["concept"]), *("\t".join([*row, "20200101", "20991231", ""]) for row in rows)]
    (folder / "CONCEPT.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    related = ["concept_id_1\tconcept_id_2\trelationship_id\tvalid_start_date\tvalid_end_date\tinvalid_reason"]
    related += [f"{one}\t{other}\tMaps to\t20200101\t20991231\t" for one, other in ((102, 101), (103, 104))]
    (folder / "CONCEPT_RELATIONSHIP.csv").write_text("\n".join(related) + "\n", encoding="utf-8")
    versions = ["\t".join(TABLES["vocabulary"]), "None\tOMOP\tOMOP\tv5.0 30-AUG-26\t0"]
    (folder / "VOCABULARY.csv").write_text("\n".join(versions) + "\n", encoding="utf-8")
    return folder


def test_a_users_vocabulary_takes_the_place_of_nothing(athena: Path, tmp_path: Path, defined: Definition):
    """Codes that Athena knows become its concepts, and standard ones where it maps them; the rest stays 0; what was
    written comes back, and breaks no rule."""
    before = COHORT
    omop.render(before, tmp_path / "out", vocabulary=athena)
    found = tables_of(tmp_path / "out")
    conditions = {(row["condition_source_value"], row["condition_concept_id"]) for row in found["condition_occurrence"]}
    assert ("C74.9", "101") in conditions
    assert {concept for code, concept in conditions if code != "C74.9"} <= {"0"}
    assert {row["drug_concept_id"] for row in found["drug_exposure"] if row["drug_source_value"] == "L01CA02"} == {
        "104"
    }
    pointing = {row["image_feature_event_field_concept_id"] for row in found["image_feature"]}
    assert "1147330" in pointing
    assert found["cdm_source"][0]["vocabulary_version"] == "v5.0 30-AUG-26"
    after = omop.read(tmp_path / "out").holdings
    assert {one.id: one.code.code for one in after.event} == {one.id: one.code.code for one in before.event}
    assert {one.id: one.series for one in after.observation} == {one.id: one.series for one in before.observation}
    assert omop.check(tmp_path / "out") == ()
    assert in_sqlite(tmp_path / "out", defined) is None


def test_a_users_vocabulary_explains_somebody_elses_concepts(athena: Path, tmp_path: Path):
    """Numbers that their own CONCEPT does not explain become codes; without it they stay numbers, and their fields no
    less; a table of theirs that explains a number is believed."""
    theirs = {
        "PERSON": "person_id,gender_concept_id,year_of_birth,person_source_value\n1,8507,1990,A\n",
        "CONDITION_OCCURRENCE": "condition_occurrence_id,person_id,condition_concept_id,condition_start_date\n"
        "7,1,101,2001-02-03\n8,1,100,2001-02-04\n",
        "MEASUREMENT": "measurement_id,person_id,measurement_concept_id,measurement_date,value_as_number,"
        "unit_concept_id\n9,1,300,2001-02-05,60.5,105\n",
        "CONCEPT": ",".join(TABLES["concept"]) + "\n300,Volume,Measurement,SNOMED,Observable,S,118565006,2020-01-01,"
        "2099-12-31,\n",
    }  # fmt: skip
    (tmp_path / "theirs").mkdir()
    for name, text in theirs.items():
        (tmp_path / "theirs" / f"{name}.csv").write_text(text, encoding="utf-8")
    bare, told = (omop.read(tmp_path / "theirs", vocabulary=one).holdings for one in (None, athena))
    number = "https://fhir-terminology.ohdsi.org"
    assert {(one.code.system, one.code.code) for one in bare.event} == {(number, "101"), (number, "100")}
    assert {(one.code.system, one.code.code) for one in told.event} == {(SNOMED, "126873007"), (number, "100")}
    assert bare.observation[0].quantity == told.observation[0].quantity == Code(SNOMED, "118565006", "Volume")
    assert told.observation[0].unit == Code(UCUM, "mL", "milliliter")
    assert bare.observation[0].unit == Code(number, "105")


def test_a_vocabulary_is_named_on_the_command_line(athena: Path, store: Store, vault: Vault, tmp_path: Path):
    """``export`` and ``import`` take it for OMOP, and refuse it for a standard that has no use for it."""
    with store.writing() as connection:
        take_in(connection, COHORT)
    key, out = COHORT.subject[0].key, tmp_path / "out"
    words = ["export", key, "--store", str(store.path), "--json", "--vocabulary", str(athena), "--out"]
    assert CliRunner().invoke(app, [*words, str(tmp_path / "a.json"), "--as", "fhir"]).exit_code == 2
    assert not (tmp_path / "a.json").exists()
    assert CliRunner().invoke(app, [*words, str(out), "--as", "omop"]).exit_code == 0
    assert tables_of(out)["cdm_source"][0]["vocabulary_version"] == "v5.0 30-AUG-26"
    taken = ["import", str(out), "--store", str(tmp_path / "other"), "--dry-run", "--json", "--from"]
    assert CliRunner().invoke(app, [*taken, "omop", "--vocabulary", str(athena)]).exit_code == 0
    assert CliRunner().invoke(app, [*taken, "omop", "--vocabulary", str(tmp_path)]).exit_code == 2
    assert CliRunner().invoke(app, [*taken, "fhir", "--vocabulary", str(athena)]).exit_code == 2


def test_a_folder_that_is_no_vocabulary_is_refused(tmp_path: Path):
    """An empty folder in place of Athena's download is told in words."""
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileRejected, match="vocabulary folder"):
        omop.render(reference_cohort(5, 1), tmp_path / "out", vocabulary=tmp_path / "empty")
    assert not (tmp_path / "out").exists()


# OMOP and FHIR

needs_fhir = pytest.mark.skipif("fhir" not in standards.names(), reason="not run: the standard fhir is not here")
GENDERS = {"male": "8507", "female": "8532", "other": "44814653", "unknown": "8551"}
"""HL7/fhir-omop-ig 2.0.0-ballot, map of administrative gender."""


def bundle(holdings: Holdings, folder: Path) -> list[dict[str, Any]]:
    """The resources of a FHIR rendering."""
    fhir = standards.standard("fhir")
    fhir.render(holdings, folder / "bundle.json")
    return [one["resource"] for one in json.loads((folder / "bundle.json").read_text(encoding="utf-8"))["entry"]]


def by_the_guide(resources: list[dict[str, Any]]) -> dict[str, Counter[tuple[Any, ...]]]:
    """PERSON, CONDITION, PROCEDURE and DRUG as HL7's guide derives them from FHIR (PersonMap, ConditionMap,
    ProcedureMap, MedicationStatementMap). It maps no age of onset to a date. Where it makes the display of a condition
    its source value, the code is taken instead, as CDM's own definition says."""
    patients = {one["id"]: one for one in resources if one["resourceType"] == "Patient"}
    key = {number: one["identifier"][0]["value"] for number, one in patients.items()}
    found: dict[str, list[tuple[Any, ...]]] = {"person": [], "condition": [], "procedure": [], "drug": []}
    for one in patients.values():
        found["person"].append(
            (one["identifier"][0]["value"], GENDERS[one["gender"]], one.get("birthDate", "1900")[:4])
        )
    for one in resources:
        whose = key.get(one.get("subject", {}).get("reference", "").rpartition(":")[2].rpartition("/")[2])
        match one["resourceType"]:
            case "Condition":
                found["condition"].append((whose, one["code"]["coding"][0]["code"], "32817"))
            case "Procedure":
                when = one.get("performedPeriod", {}).get("start") or one.get("performedDateTime")
                found["procedure"].append((whose, one["code"]["coding"][0]["code"], when, "32817"))
            case "MedicationAdministration" | "MedicationStatement":
                period = one.get("effectivePeriod", {"start": one.get("effectiveDateTime")})
                code = one["medicationCodeableConcept"]["coding"][0]["code"]
                found["drug"].append((whose, code, period["start"], period.get("end", period["start"]), "32817"))
    return {table: Counter(rows) for table, rows in found.items()}


@needs_fhir
def test_the_published_rules_from_fhir_agree_with_omop(tmp_path: Path):
    """Persons, conditions, procedures and drugs of OMOP are those that HL7's guide derives from FHIR of the same core.
    Imaging features differ by design: the guide wants OBSERVATION, MI-CDM wants MEASUREMENT."""
    cohort = reference_cohort(5, 6)
    derived = by_the_guide(bundle(cohort, tmp_path))
    omop.render(cohort, tmp_path / "omop")
    found = tables_of(tmp_path / "omop")
    key = {row["person_id"]: row["person_source_value"] for row in found["person"]}
    names = {
        "condition": ["condition_source_value", "condition_type_concept_id"],
        "procedure": ["procedure_source_value", "procedure_date", "procedure_type_concept_id"],
        "drug": ["drug_source_value", "drug_exposure_start_date", "drug_exposure_end_date", "drug_type_concept_id"],
    }
    tables = {"condition": "condition_occurrence", "procedure": "procedure_occurrence", "drug": "drug_exposure"}
    written = {
        name: Counter((key[row["person_id"]], *(row[one] for one in fields)) for row in found[tables[name]])
        for name, fields in names.items()
    }
    persons = Counter(
        (row["person_source_value"], row["gender_concept_id"], row["year_of_birth"]) for row in found["person"]
    )
    assert {"person": persons, **written} == derived


@needs_fhir
@pytest.mark.parametrize(("one", "other"), [("omop", "fhir"), ("fhir", "omop")])
def test_what_one_says_the_other_can_say(one: str, other: str, tmp_path: Path):
    """Read from one and rendered in the other, a cohort says the same less the gaps of both."""
    before = held = reference_cohort(7, 4)
    for name in (one, other):
        chosen = standards.readable(name)
        assert chosen is not None
        out = tmp_path / f"{name}{chosen.SUFFIX}"
        chosen.render(held, out)
        held = chosen.read(out).holdings
    lost = [gap.path for name in (one, other) for gap in standards.standard(name).gaps()]
    lost.append("run_subject.*")  # in FHIR it hangs on its decision, which is lost on the way through OMOP
    assert core.without(held, lost) == core.without(before, lost)
    assert held.event
    assert held.observation
