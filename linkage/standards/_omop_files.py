"""A folder of OMOP tables as text: any case of names, commas or tabs, blanks round names, as they are met."""

from __future__ import annotations

import csv
import re
from collections import Counter, defaultdict
from datetime import date
from math import isfinite
from pathlib import Path

from ...core.errors import FileRejected
from ._omop_cdm import SAID, TABLES


class Row(dict[str, str]):
    """Fields by name in small letters, and the line they stood in under ``line``; a field that is absent is empty."""

    def __missing__(self, name: str) -> str:
        return ""


Missed = Counter[tuple[str, str]]
"""(place, reason) of what was not understood, and how often."""

DATE = re.compile(r"(\d{4})-?(\d{1,2})-?(\d{1,2})(?:[ T].*)?")


def read_tables(folder: Path) -> tuple[dict[str, list[Row]], Missed]:
    """The tables of CDM 5.4 and 6.0 in a folder; files that are none are counted, not named.

    Raises FileRejected for a path that is no folder, has no PERSON, or holds what is no table.
    """
    found: dict[str, list[Row]] = defaultdict(list)
    missed: Missed = Counter()
    for path in sorted(folder.glob("*")) if folder.is_dir() else ():
        table = path.stem.lower()
        if path.suffix.lower() == ".csv" and (table in TABLES or table in SAID["elsewhere"]):
            found[table] = _rows(path, strict=table in TABLES)
        else:
            missed["a file", "its name is no table of OMOP CDM 5.4 or 6.0"] += 1
    if not found["person"] or not all(row["person_id"].strip() for row in found["person"]):
        raise FileRejected(
            "no persons were found, or one has no person_id",
            "a folder of CSV files named after the tables of OMOP CDM 5.4 or 6.0, PERSON.csv among them",
            "name the folder that holds PERSON.csv",
        )
    return found, missed


def _rows(path: Path, *, strict: bool) -> list[Row]:
    """The rows of a table; of one that is counted alone (not strict), whatever they look like."""
    at = 1
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            tabs = "\t" in file.readline()
            file.seek(0)
            lines = csv.reader(file, delimiter="\t" if tabs else ",", strict=True)
            names = [name.strip().lower() for name in next(lines, [])]
            found = []
            for line in lines:
                at = lines.line_num
                if line:
                    found.append(_named(names, line, at, strict=strict))
            return found
    except (OSError, ValueError, csv.Error) as error:
        at += isinstance(error, csv.Error)
        raise FileRejected(
            f"{path.stem.upper()}, line {at}: no row of a table",
            "CSV in UTF-8, by commas or tabs, with as many fields a line as the first line names",
            "correct the line, or export the table again",
        ) from error


def _named(names: list[str], line: list[str], at: int, *, strict: bool) -> Row:
    row = Row(zip(names, line, strict=strict))
    row["line"] = str(at)
    return row


def number_in(row: Row, name: str, table: str) -> float | None:
    """The number of a field, or None where it is empty. Raises FileRejected for anything else."""
    text = row.get(name, "").strip()
    try:
        value = float(text) if text else None
        if value is not None and not isfinite(value):
            raise ValueError(name)
        return value
    except ValueError as error:
        raise wrong(row, name, table, "a number") from error


def day_in(row: Row, name: str, table: str) -> date | None:
    """The date of a field, or of the field with the time that goes with it; None where both are empty."""
    text = (row.get(name) or row.get(f"{name}time") or "").strip()
    match = DATE.fullmatch(text)
    if not text:
        return None
    try:
        if match is None:
            raise ValueError(name)
        return date(*map(int, match.groups()))
    except ValueError as error:
        raise wrong(row, name, table, "a date as YYYY-MM-DD") from error


def wrong(row: Row, name: str, table: str, expected: str) -> FileRejected:
    """The error for a field that is not what it should be: its place, and nothing of its content."""
    return FileRejected(f"{table.upper()}, line {row['line']}: {name} is not {expected}", expected, "correct the row")
