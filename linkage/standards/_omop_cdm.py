"""The vocabulary of OMOP as data: tables and fields, own concepts, code systems, and how a value becomes text."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache, cached_property
from importlib.resources import files
from typing import Any

from ...core.files import canonical_json
from ..core import Code

DAY_0 = date(2000, 1, 1)
"""Anchor of everybody's day 0: intervals leave, dates do not (linkage specification B.1)."""

DAYS_A_YEAR = 365.25

UNKNOWN_BIRTH = 1900
"""ASSUMED: year of birth of a subject whose age is not known. PERSON.year_of_birth may not be empty (CDM 5.4), and no
age of the core, at most 90 years before 2000, leads to this year."""

MARK = "oncoscale, anchored dates"
"""What CDM_SOURCE.source_description of an export begins with."""

OMOP_CONCEPT = "https://fhir-terminology.ohdsi.org"
"""Code system of concept identifiers that the file itself does not explain (HL7/fhir-omop-ig)."""

SOURCE_VALUE = "urn:oncoscale:omop:source-value"
"""Code system of source values without a concept."""


def data(name: str) -> Mapping[str, Any]:
    """A table of data beside this file."""
    return tomllib.loads(files(__package__).joinpath(name).read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Column:
    """A field of a table: its type, whether it is required or the key, what it refers to, and of which domain and class
    its concept must be."""

    name: str
    type: str
    required: bool
    key: bool
    refers: str = ""
    domain: str = ""
    concept_class: str = ""

    @cached_property
    def width(self) -> int | None:
        """Longest text that fits, or None for no limit."""
        width = self.type.removeprefix("varchar(").removesuffix(")")
        return int(width) if width.isdigit() else None


def _column(line: str) -> Column:
    """One line of the field list."""
    stated, _, domain = line.partition(" in ")
    stated, _, refers = stated.partition(" > ")
    name, kind, *marks = stated.split()
    return Column(name, kind, bool(marks), "key" in marks, refers, domain)


TABLES: Mapping[str, Mapping[str, Column]] = {
    table: {column.name: column for column in map(_column, lines)} for table, lines in data("omop_fields.toml").items()
}
"""Fields by table, in the order of the definition."""

SAID = data("omop.toml")
EVENTS: Mapping[str, Mapping[str, str]] = SAID["events"]
LOCAL: Mapping[str, int] = {name: row[0] for name, row in SAID["local"].items()}
SEXES: Mapping[str, int] = SAID["sex"]
SYSTEMS: Mapping[str, str] = SAID["systems"]
FIRST_CODE, LAST_LOCAL = 2_000_001_000, 2_099_999_999


@cache
def key_of(table: str) -> str:
    """The field that numbers a table's rows; empty for a table whose rows have no number."""
    own = f"{table}_id"
    return next(
        (column.name for column in TABLES[table].values() if column.name == own and column.type == "integer"), ""
    )


def field_name(table: str) -> str:
    """How OHDSI's vocabulary CDM calls a table's key: ``measurement.measurement_id``."""
    return f"{table}.{key_of(table)}"


def on_day(day: int) -> date:
    """The anchored date of a day."""
    return DAY_0 + timedelta(days=day)


def year_of_birth(age_day0_d: int | None) -> int:
    """2000 less the age in completed years (linkage specification B.1)."""
    return UNKNOWN_BIRTH if age_day0_d is None else DAY_0.year - int(age_day0_d // DAYS_A_YEAR)


@dataclass(frozen=True)
class Piece:
    """A value, or a part of one, as OMOP can hold it; ``form`` tells how to read it."""

    form: str
    number: str = ""
    text: str = ""
    code: Code | None = None


def pieces(value: Any, width: int) -> Iterator[Piece]:
    """A value in texts of at most ``width`` characters. ``joined`` puts them together again."""
    match value:
        case Code():
            yield Piece("code", code=value)
        case bool() | None:
            yield Piece("json", text=json.dumps(value))
        case int() | float():
            yield Piece("number", number=repr(value))
        case str() if value and len(value) <= width:
            yield Piece("text", text=value)
        case _:
            whole = canonical_json(list(value) if isinstance(value, tuple) else value)
            parts = [whole[start : start + width] for start in range(0, len(whole), width)]
            for n, part in enumerate(parts, start=1):
                yield Piece(f"json {n}/{len(parts)}" if len(parts) > 1 else "json", text=part)


def joined(found: Iterable[Piece]) -> Any:
    """The value that was taken apart. Raises ValueError when a part is missing or no value."""
    parts = sorted(found, key=lambda piece: int(piece.form.partition(" ")[2].partition("/")[0] or 1))
    first = parts[0]
    if first.form == "code":
        return first.code
    if first.form == "number":
        return float(first.number) if set(first.number) & set(".en") else int(first.number)
    if first.form == "text":
        return first.text
    if len(parts) != int(first.form.partition("/")[2] or 1):
        raise ValueError("a part of a value is missing")
    return json.loads("".join(piece.text for piece in parts))
