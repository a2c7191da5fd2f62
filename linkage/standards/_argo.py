"""ICGC-ARGO's files: their fields, the rules of each field, and the folder of TSV that holds them.

A row maps field names to text; several values of a field are joined by ``|``. The rules are data (``argo.toml``).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ...core.errors import FileRejected
from . import Violation
from ._declared import content
from ._tables import read_table, write_notice, write_table

Row = Mapping[str, str]
Tables = Mapping[str, Sequence[Row]]
"""The rows of each file."""

PROGRAM, DONOR = "program_id", "submitter_donor_id"
DIAGNOSIS, TREATMENT = "submitter_primary_diagnosis_id", "submitter_treatment_id"


@dataclass(frozen=True)
class Field:
    """A field and its rules; ``of`` names the file whose id it holds, bounds are in the field's unit."""

    name: str
    required: bool = False
    kind: str = "text"
    values: tuple[str, ...] = ()
    many: bool = False
    least: float | None = None
    above: float | None = None
    most: float | None = None
    of: str = ""
    unit: str = ""


COMMON = (Field(PROGRAM, required=True), Field(DONOR, required=True, kind="id"))


@cache
def files() -> Mapping[str, Mapping[str, Field]]:
    """The fields of every file, by name."""
    return {
        name: {one.name: one for one in (*COMMON, *map(_field, about["fields"]))}
        for name, about in content("argo")["files"].items()
    }


def key_of(name: str) -> str:
    """The field that holds the id of a file's rows; empty where rows have none."""
    return str(content("argo")["files"][name].get("key", ""))


def _field(about: Mapping[str, Any]) -> Field:
    return Field(**(dict(about) | {"values": tuple(about.get("values", ()))}))


# --- rules


def problem(field: Field, text: str) -> str:
    """Which rule a value of a field breaks; empty for none."""
    for value in text.split("|") if field.many else (text,):
        if field.values and value not in field.values:
            return "values come from the list"
        if field.kind != "text" and not _pattern(field.kind).fullmatch(value):
            return f"values are of the kind {field.kind}"
        if field.kind in ("integer", "number") and not _within(field, float(value)):
            return "numbers are within their range"
        if "\t" in value or "\n" in value or "\r" in value:
            return "a value stays in its cell"
    return ""


@cache
def _pattern(kind: str) -> re.Pattern[str]:
    return re.compile(content("argo")["patterns"][kind])


def _within(field: Field, number: float) -> bool:
    return (
        (field.least is None or number >= field.least)
        and (field.above is None or number > field.above)
        and (field.most is None or number <= field.most)
    )


def is_complete(name: str, row: Row) -> bool:
    """Whether a row has every required field, and no value breaks a rule."""
    return not any(_broken_in_row(name, row, ""))


def broken_rules(tables: Tables) -> Iterator[Violation]:
    """The rules that the rows of all files break."""
    ids = {name: Counter(row.get(key_of(name), "") for row in rows) for name, rows in tables.items() if key_of(name)}
    donors = {row.get(DONOR) for name in ("sample_registration", "donor") for row in tables.get(name, ())}
    for name, rows in tables.items():
        for n, row in enumerate(rows, 1):
            where = f"{name} {n}"
            yield from _broken_in_row(name, row, where)
            if row.get(DONOR) not in donors:
                yield Violation("every row is a donor's", f"{where} {DONOR}", row.get(DONOR, "nothing")[:20])
            for field in files()[name].values():
                if field.of and field.name in row and not ids.get(field.of, Counter())[row[field.name]]:
                    yield Violation("references lead to a row", f"{where} {field.name}", row[field.name][:20])
    yield from _repeated(tables)


def _broken_in_row(name: str, row: Row, where: str) -> Iterator[Violation]:
    fields = files()[name]
    for field in fields.values():
        if field.required and field.name not in row:
            yield Violation("required fields are there", f"{where} {field.name}", "nothing")
    for given, text in row.items():
        if given not in fields:
            yield Violation("fields are the dictionary's", where, given[:40])
        elif rule := problem(fields[given], text):
            yield Violation(rule, f"{where} {given}", text[:40])
    if name == "donor" and row.get("vital_status") != "Deceased":
        for field_name in ("cause_of_death", "survival_time"):
            if field_name in row:
                yield Violation(
                    "only the deceased have a cause and a time", f"{where} {field_name}", row[field_name][:40]
                )


def _repeated(tables: Tables) -> Iterator[Violation]:
    for name, rows in tables.items():
        key = key_of(name)
        counts = Counter((row.get(PROGRAM), row[key]) for row in rows if key in row) if key else Counter()
        yield from (Violation("an id stands once", f"{name} {key}", f"{n} times") for n in counts.values() if n > 1)
    genders: dict[str, set[str]] = {}
    for row in tables.get("sample_registration", ()):
        genders.setdefault(row.get(DONOR, ""), set()).add(row.get("gender", ""))
    if any(len(found) > 1 for found in genders.values()):
        yield Violation("a donor has one gender", "sample_registration", "several")


# --- the folder


def write_files(folder: Path, tables: Tables) -> None:
    """One TSV for each file that has rows; the donors' file always."""
    folder.mkdir()
    for name, fields in files().items():
        if tables.get(name) or name == "donor":
            write_table(folder / f"{name}.tsv", tuple(fields), tables.get(name, ()), "\t")
    write_notice(folder)


def read_files(folder: Path) -> tuple[Tables, Mapping[str, int]]:
    """(rows of every file of the dictionary, how many rows or values of other files and fields).

    Raises FileRejected for a folder without such files.
    """
    if not folder.is_dir():
        raise _no_files(folder, "is no folder")
    tables: dict[str, list[dict[str, str]]] = {}
    strange: Counter[str] = Counter()
    for path in sorted(folder.glob("*.tsv")):
        _, rows = read_table(path, "\t")
        if path.stem in files():
            tables[path.stem] = list(rows)
        else:
            strange[path.stem[:40]] += len(rows)
    if not tables:
        raise _no_files(folder, "holds no file of the dictionary")
    return tables, strange


def _no_files(folder: Path, found: str) -> FileRejected:
    return FileRejected(
        f"{folder.name!r} {found}",
        "a folder of TSV files named as in ICGC-ARGO's dictionary (donor.tsv, primary_diagnosis.tsv, ...)",
        "name the files as the dictionary does",
    )
