"""Judges of OMOP: each accepts what is written and rejects what it can see of the mutations."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from oncoscale.linkage.standards import omop
from oncoscale.linkage.standards._omop_cdm import LOCAL, TABLES
from oncoscale.linkage.standards._omop_check import checked, loaded

from .omop_cases import Tables, official_definition, omop_rendering, tables_of, write  # noqa: F401
from .omop_judges import Definition, in_postgres, in_sqlite, official_fields, prepared
from .postgres import Cluster, temporary_postgres  # noqa: F401


@pytest.fixture(scope="module")
def server(postgres: Cluster, defined: Definition) -> Iterator[psycopg.Connection]:
    """A PostgreSQL with the official tables and keys."""
    with psycopg.connect(postgres.conninfo(postgres.database())) as connection:
        prepared(connection, defined)
        yield connection


def test_the_field_list_is_the_official_one(defined: Definition):
    """Tables, fields, order, types, required fields, keys and references are those of the official definition."""
    assert (len(defined.tables), len(defined.keys), len(defined.references)) == (41, 30, 183)
    keys, references = set(defined.keys), {one[:3] for one in defined.references}
    for table, columns in TABLES.items():
        assert [(one.name, one.type, one.required) for one in columns.values()] == list(defined.tables[table])
        assert {(table, one.name) for one in columns.values() if one.key} == {one for one in keys if one[0] == table}
        mine = {(table, one.name, one.refers) for one in columns.values() if one.refers}
        assert mine == {one for one in references if one[0] == table}


def test_postgres_takes_it_and_then_every_key(rendering: Path, postgres: Cluster, defined: Definition):
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


def _era_of_no_ingredient(tables: Tables) -> None:
    """DRUG_ERA is not among what is written; a concept of the right domain, but of no ingredient, stands in it."""
    drug = tables["drug_exposure"][0]
    own = first(tables["concept"], vocabulary_id="oncoscale")
    tables["concept"].append(own | {"concept_id": "2000000900", "domain_id": "Drug"})
    span = {
        "drug_era_start_date": drug["drug_exposure_start_date"],
        "drug_era_end_date": drug["drug_exposure_end_date"],
    }
    tables["drug_era"] = [{"drug_era_id": "1", "person_id": drug["person_id"], "drug_concept_id": "2000000900", **span,
                           "drug_exposure_count": "", "gap_days": ""}]  # fmt: skip


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
    "an era of no ingredient": (_era_of_no_ingredient, RULES),
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


def test_an_empty_folder_and_a_file_of_noise_break_rules(tmp_path: Path):
    """The check does not pass what is not there."""
    assert {one.where for one in omop.check(tmp_path)} == {"person", "observation_period", "cdm_source"}
    (tmp_path / "PERSON.csv").write_bytes(b"\xff\xfe\x00")
    assert ("cdmField", "PERSON") in {(one.rule, one.where) for one in omop.check(tmp_path)}
