"""The checks of a rendering: the field list and a table of SQL, over a database in memory."""

from __future__ import annotations

import csv
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from . import Violation
from ._omop_cdm import LOCAL, SAID, TABLES, Column, data

CHECKS = data("omop_checks.toml")
Fields = Mapping[str, Mapping[str, Column]]
Place = Mapping[str, Any]

CLINICAL = ("condition_occurrence", "drug_exposure", "procedure_occurrence", "measurement", "observation", "specimen")
POINTS: Mapping[str, tuple[str, str]] = SAID["links"]
NEEDED = ("person", "observation_period", "cdm_source")
"""Tables that may not be absent (OHDSI's table-level list; the source besides, which says that dates are anchored)."""

NOT_SIMULATED = {
    "measurement": f"AND t.measurement_type_concept_id <> {LOCAL['simulated']}",
    "observation": f"AND t.observation_type_concept_id <> {LOCAL['simulated']}",
}


def violations(folder: Path) -> tuple[Violation, ...]:
    """The rules that the tables of a folder break."""
    database, broken = loaded(folder, TABLES)
    return (*broken, *(one for one, told in checked(database, TABLES) if not told))


def loaded(folder: Path, tables: Fields) -> tuple[sqlite3.Connection, tuple[Violation, ...]]:
    """(the tables in memory, without any constraint, so that every fault is found; files that are not as defined)."""
    database = sqlite3.connect(":memory:")
    here = {path.stem.lower() for path in folder.glob("*.csv")}
    broken = [Violation("cdmTable", table, "absent") for table in NEEDED if table not in here]
    for table, columns in tables.items():
        typed = ", ".join(f'"{one.name}" {_affinity(one)}' for one in columns.values())
        database.execute(f"CREATE TABLE {table} ({typed})")
    for path in sorted(folder.glob("*.csv")):
        table, (header, *rows) = path.stem.lower(), _rows(path)
        if table not in tables or header != list(tables[table]) or any(len(row) != len(header) for row in rows):
            broken.append(Violation("cdmField", path.stem, "not the fields of the definition"))
            continue
        marks = ", ".join("?" * len(header))
        values = [[value or None for value in row] for row in rows]
        database.executemany(f"INSERT INTO {table} VALUES ({marks})", values)
    return database, tuple(broken)


def _rows(path: Path) -> list[list[str]]:
    """The lines of a file, that of the names first; of one that is no CSV, a line that fits no table."""
    try:
        with path.open(encoding="utf-8", newline="") as lines:
            return list(csv.reader(lines)) or [[]]
    except (ValueError, csv.Error):
        return [[]]


def checked(database: sqlite3.Connection, tables: Fields) -> Iterator[tuple[Violation, bool]]:
    """(what a check found, whether it only tells), for every check that found something."""
    filled = {table for table in tables if database.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone()}
    for check in CHECKS["checks"]:
        for place in _places(check["over"], tables):
            where = f"{place['table']}.{place['field']}".replace('"', "")
            nothing = place["table"] not in filled and "FROM person" not in check["sql"]
            if nothing or where in check.get("except", ()) or _blank(check["sql"], place):
                continue
            n = database.execute(check["sql"].format(**place)).fetchone()[0]
            if n:
                what = check.get("tells", "rows break the rule")
                yield Violation(check["name"], where, f"{n} {what}"), "tells" in check


def _blank(sql: str, place: Place) -> bool:
    """Whether a range has no such end."""
    return any(f"{{{end}}}" in sql and place.get(end) is None for end in ("low", "high"))


def _affinity(column: Column) -> str:
    kinds = {"integer": "INTEGER", "bigint": "INTEGER", "numeric": "NUMERIC", "float": "NUMERIC"}
    return kinds.get(column.type, "TEXT")


def _places(over: str, tables: Fields) -> Iterator[Place]:
    """Where a check runs."""
    if over in tables:
        yield {"table": over, "field": "*"}
    elif over in ("field ranges", "measured", "units", "sexes"):
        yield from _stated(over)
    elif over == "clinical":
        yield from ({"table": table, "field": "person_id"} for table in CLINICAL)
    else:
        for table, columns in tables.items():
            for column in columns.values():
                yield from _of_field(over, table, column, tables)


def _of_field(over: str, table: str, column: Column, tables: Fields) -> Iterator[Place]:
    """What the field list says about one field, if the check runs over it."""
    place = {"table": table, "field": f'"{column.name}"', "observed": NOT_SIMULATED.get(table, "")}
    clinical = "person_id" in tables[table] and column.type == "date"
    applies = {
        "required": column.required,
        "integer": column.type in ("integer", "bigint"),
        "number": column.type in ("numeric", "float"),
        "date": column.type == "date",
        "width": column.width is not None,
        "key": column.key,
        "refers": bool(column.refers) and column.refers in tables,
        "concept domain": bool(column.domain),
        "concept class": bool(column.concept_class),
        "dated": clinical and table not in ("person", "observation_period"),
        "visited": clinical and "visit_occurrence_id" in tables[table] and table != "visit_occurrence",
        "span": column.name.endswith("end_date") and _start(column.name, tables[table]) is not None,
        "points": column.name == POINTS.get(table, ("", ""))[1],
    }
    if applies[over]:
        more = {
            "width": column.width,
            "parent": column.refers,
            "parent_key": f"{column.refers}_id",
            "domains": _quoted(column.domain.split(", ")),
            "classes": _quoted(column.concept_class.split(", ")),
            "start": _start(column.name, tables[table]),
        }
        if over != "points":
            yield place | more
        for parent in tables if over == "points" else ():
            if f"{parent}_id" in tables[parent]:
                yield place | {"number": POINTS[table][0], "parent": parent, "parent_key": f"{parent}_id"}


def _start(end: str, columns: Mapping[str, Column]) -> str | None:
    """The field that a field with an end begins with."""
    stem = end.removesuffix("end_date")
    named = (f"{stem}start_date", f"{stem}date", "drug_exposure_start_date")
    return next((name for name in named if name in columns), None)


def _stated(over: str) -> Iterator[Place]:
    """Ranges, units and sexes as the table of checks states them."""
    for one in CHECKS["field_ranges"] if over == "field ranges" else ():
        table, field = one["field"].split(".")
        yield {"table": table, "field": field, "low": one.get("low"), "high": one.get("high")}
    for one in CHECKS["measured"] if over in ("measured", "units") else ():
        system, code = one["quantity"]
        place = {"table": "measurement", "field": code, "system": system, "code": code}
        if over == "units":
            yield place | {"units": _quoted(one["units"])}
        for unit, (low, high) in one["units"].items() if over == "measured" else ():
            yield place | {"unit": unit, "low": low, "high": high}
    for one in CHECKS["sexes"] if over == "sexes" else ():
        yield {"table": "condition_occurrence", "field": "condition_source_concept_id", "against": one["against"],
               "system": one["system"], "codes": _quoted(one["codes"])}  # fmt: skip


def _quoted(names: Any) -> str:
    return ", ".join(f"'{name}'" for name in names)
