"""From the rows of a file to the answers of a form, with a message for every cell that is none.

A message names the row and the field, what kind of thing was found and what was expected. It never repeats what
stands in the cell: a cell may hold a name.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

from ..core.errors import FileRejected, reason_of
from .eforms import Field, Form, Section
from .standards import Gap

Row = Mapping[str, str]
OLDEST_D = 32872
"""90 years in days: whoever is older is not told apart (A.3)."""

STRUCTURE = {"redcap_repeat_instrument", "redcap_repeat_instance", "form"}
"""Columns that say which row is which, and answer nothing."""

YES_WORDS, NO_WORDS = {"1", "yes", "y", "true"}, {"0", "no", "n", "false"}


@dataclass(frozen=True)
class Message:
    """What is wrong with one cell. Rows are numbered as a spreadsheet does: the header is row 1."""

    row: int
    field: str
    found: str
    expected: str

    def __str__(self) -> str:
        return f"row {self.row}, {self.field}: {self.found}; expected {self.expected}"


@dataclass(frozen=True)
class Entry:
    """One answer to one section. ``values`` by field: a number, a choice's value, a tuple of those, days, or a bool."""

    subject: str
    section: str
    row: int
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Answers:
    """What a file answers: entries in the order of its rows, what is wrong with it, what of it is not read, and the
    dates of its subjects' day 0, where it tells them."""

    entries: tuple[Entry, ...]
    messages: tuple[Message, ...]
    gaps: tuple[Gap, ...]
    day0: Mapping[str, date] = dataclasses.field(default_factory=dict, repr=False)


class _Wrong(Exception):
    """A cell that is no answer: what kind of thing it is, and what was expected."""


def rows_of(path: Path | str) -> list[dict[str, str]]:
    """The rows of a CSV file with a header; commas, semicolons or tabs. Raises FileRejected for anything else."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise _not_csv(path.name, f"it cannot be read ({reason_of(error)})") from error
    header = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=header.count)
    found = [row for row in csv.reader(io.StringIO(text), delimiter=delimiter) if any(cell.strip() for cell in row)]
    if not found or "\0" in text:
        raise _not_csv(path.name, "it has no rows")
    columns = [name.strip() for name in found[0]]
    if ragged := [n for n, row in enumerate(found, start=1) if len(row) != len(columns)]:
        raise _not_csv(path.name, f"row {ragged[0]} has another number of cells than the header")
    if len(set(columns)) != len(columns):
        raise _not_csv(path.name, "two columns have one name")
    return [dict(zip(columns, (cell.strip() for cell in row))) for row in found[1:]]


def answers_of(form: Form, rows: Sequence[Row]) -> Answers:
    """The answers that rows give to a form, one row a record or one a visit.

    A section that does not repeat may be answered in any row of its subject; two rows may not contradict each other.
    """
    subject = next(field for field in form.fields if field.core == "subject.key")
    column = next((name for name in (rows[0] if rows else {}) if form.field_of(name) is subject), None)
    if column is None:
        return Answers((), (Message(1, subject.id, "no such column", "the column that names the subject"),), ())
    messages: list[Message] = []
    day0 = dict(_days_zero(form, rows, column))
    entries: list[Entry] = []
    columns = {one.id: [name for name in rows[0] if form.field_of(name) is one] for one in form.fields}
    for number, row in enumerate(rows, start=2):
        if not row[column]:
            messages.append(Message(number, subject.id, "an empty cell", "the subject's identifier"))
            continue
        for section in form.sections:
            values = dict(_values(section, columns, row, day0.get(row[column]), number, messages))
            if values.keys() - {subject.id} or (values and section.field_at("subject.key")):
                entries.append(Entry(row[column], section.id, number, values))
    merged = _merged(form, entries, messages)
    messages += _missing(form, merged)
    messages += _undated(form, merged)
    in_order = tuple(sorted(messages, key=lambda one: (one.row, one.field)))
    return Answers(tuple(merged), in_order, _gaps(form, rows), day0)


def _days_zero(form: Form, rows: Sequence[Row], column: str) -> Iterator[tuple[str, date]]:
    anchor = next((field for field in form.fields if field.core == "subject.day0"), None)
    own = [name for name in rows[0] if anchor is not None and form.field_of(name) is anchor]
    for row in rows:
        text = next((row[name] for name in own if row[name]), "")
        if (when := _date(text)) is not None:
            yield row[column], when


def _values(
    section: Section,
    columns: Mapping[str, Sequence[str]],
    row: Row,
    day0: date | None,
    number: int,
    messages: list[Message],
) -> Iterator[tuple[str, Any]]:
    """The answers in one row to one section."""
    for field in section.fields:
        if field.core == "nowhere" or field.identifying or field.type == "text":
            continue
        own = columns[field.id]
        try:
            value = _boxes(field, row, own) if field.type == "choices" else None
            for name in own if field.type != "choices" else ():
                value = value if not row[name] else parsed(field, row[name], day0)
        except _Wrong as wrong:
            messages.append(Message(number, field.id, *wrong.args))
            continue
        if value is not None and value != ():
            yield field.id, value


def _boxes(field: Field, row: Row, columns: Iterable[str]) -> tuple[str, ...]:
    """Ticked boxes: REDCap's columns of 0 and 1, or one cell with the values between semicolons."""
    ticked: list[str] = []
    for name in columns:
        if "___" not in name:
            ticked += [_choice(field, part) for part in row[name].split(";") if part.strip()]
        elif row[name] in YES_WORDS:
            ticked.append(_choice(field, name.split("___", 1)[1]))
        elif row[name] not in NO_WORDS | {""}:
            raise _Wrong("something else than 0 and 1", "1 for a ticked box, 0 for an empty one")
    return tuple(one.value for one in field.choices if one.value in ticked)


def parsed(field: Field, text: str, day0: date | None = None) -> Any:
    """The answer that a cell gives. Raises an error that a message is made of, without the cell's words."""
    match field.type:
        case "subject":
            return text
        case "choice":
            return _choice(field, text)
        case "yesno":
            return _yes(text)
        case "date":
            return _limited(field, _days(field, text, day0))
        case _:
            return _limited(field, _number(text, whole=field.type == "integer"))


def wrong_in(field: Field, text: str) -> tuple[str, str] | None:
    """What is wrong with a cell, and what was expected; None if it is an answer."""
    try:
        parsed(field, text)
    except _Wrong as wrong:
        found, expected = wrong.args
        return found, expected
    return None


def _choice(field: Field, text: str) -> str:
    if chosen := field.choice_of(text):
        return chosen.value
    raise _Wrong("none of the choices", "one of " + ", ".join(one.value for one in field.choices))


def _yes(text: str) -> bool:
    word = text.casefold()
    if word in YES_WORDS | NO_WORDS:
        return word in YES_WORDS
    raise _Wrong("neither yes nor no", "1 or 0")


def _number(text: str, *, whole: bool) -> float | int:
    expected = "a whole number" if whole else "a number with a decimal point"
    try:
        value = float(text)
    except ValueError:
        raise _Wrong("no number", expected) from None
    if value != value or abs(value) == float("inf"):
        raise _Wrong("no finite number", expected)
    if whole and value != int(value):
        raise _Wrong("a fraction", expected)
    return int(value) if whole else value


def _limited(field: Field, value: float | int) -> float | int:
    least = "-∞" if field.least is None else f"{field.least:g}"
    most = "∞" if field.most is None else f"{field.most:g}"
    expected = f"{least} to {most}{' ' + field.unit.code if field.unit else ''}"
    if field.least is not None and value < field.least:
        raise _Wrong("a number below the range", expected)
    if field.most is not None and value > field.most:
        raise _Wrong("a number above the range", expected)
    return value


def _days(field: Field, text: str, day0: date | None) -> int:
    """Days after day 0 (of a birth: before it) of a date, or of a number of days."""
    when = _date(text)
    if when is None and not re.fullmatch(r"-?\d{1,6}", text):
        raise _Wrong("no date", "a date as 2024-01-31, or whole days after day 0")
    if field.core == "subject.day0":
        if when is None and int(text) != 0:
            raise _Wrong("day 0 is given as another day", "its date, or 0")
        return 0
    if when is None:
        return int(text)
    if day0 is None:
        raise _Wrong("a date, and the subject's day 0 is not given as a date", "whole days after day 0, or both dates")
    if field.core == "subject.age_day0_d":
        return min((day0 - when).days, OLDEST_D)
    return (when - day0).days


def _date(text: str) -> date | None:
    try:
        return date.fromisoformat(text) if "-" in text[1:] else None
    except ValueError:
        return None


def _merged(form: Form, entries: Sequence[Entry], messages: list[Message]) -> list[Entry]:
    """One entry for each subject and section that does not repeat; entries of others once each."""
    kept: dict[tuple[Any, ...], Entry] = {}
    repeats = {section.id: section.repeats for section in form.sections}
    for entry in entries:
        said = tuple(sorted(entry.values.items()))
        key = (entry.subject, entry.section, said if repeats[entry.section] else ())
        before = kept.get(key)
        if before is None:
            kept[key] = entry
        elif repeats[entry.section]:
            messages.append(Message(entry.row, entry.section, f"the same answers as row {before.row}", "each once"))
        else:
            for name, value in entry.values.items():
                if before.values.get(name, value) != value:
                    found = f"another answer than in row {before.row}"
                    messages.append(Message(entry.row, name, found, "one answer for a subject"))
            kept[key] = replace(before, values={**entry.values, **before.values})
    return list(kept.values())


def _missing(form: Form, entries: Sequence[Entry]) -> Iterator[Message]:
    """Required answers that are not there, by the first row of the entry (or of its subject)."""
    sections = {section.id: section for section in form.sections}
    first = {entry.subject: entry.row for entry in reversed(entries)}
    answered = {(entry.subject, entry.section) for entry in entries}
    for entry in entries:
        for field in sections[entry.section].fields:
            if field.required and field.id not in entry.values:
                yield Message(entry.row, field.id, "no answer", "an answer: the field is required")
    for subject, row in first.items():
        for section in form.sections:
            if not section.repeats and (subject, section.id) not in answered:
                for field in section.fields:
                    if field.required:
                        yield Message(row, field.id, "no answer", "an answer: the field is required")


def _undated(form: Form, entries: Iterable[Entry]) -> Iterator[Message]:
    """Events without a day, and two of one day where the answers would no longer be told apart."""
    sections = {section.id: section for section in form.sections}
    seen: Counter[tuple[Any, ...]] = Counter()
    for entry in entries:
        section = sections[entry.section]
        day = section.field_at("event.day") or section.field_at("observation.day")
        if section.event and day and day.id not in entry.values:
            yield Message(entry.row, day.id, "no answer", "the day, without which there is no event")
        measured = any(field.core == "observation" and field.id in entry.values for field in section.fields)
        if section.repeats and day and measured and not section.sample:
            seen[key := (entry.subject, entry.section, entry.values.get(day.id))] += 1
            if seen[key] == 2:
                yield Message(entry.row, day.id, "a day that has these answers already", "one answer a day")


def _gaps(form: Form, rows: Sequence[Row]) -> tuple[Gap, ...]:
    """Columns that are not read, with how many cells of them hold something."""
    found = []
    for number, column in enumerate(rows[0] if rows else (), start=1):
        field = form.field_of(column)
        filled = sum(bool(row[column]) for row in rows)
        called = column if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,40}", column) else str(number)
        if field is None and column not in STRUCTURE and not column.endswith("_complete"):
            found.append(Gap(f"column {called}", f"not a question of form {form.id} {form.version}", filled))
        elif field is not None and (field.type == "text" or field.identifying or field.core == "nowhere"):
            reason = "names a person" if field.identifying else "free text" if field.type == "text" else "for the site"
            found.append(Gap(f"column {called}", f"{reason}: it stays with the hospital", filled))
    return tuple(gap for gap in found if gap.n)


def _not_csv(name: str, why: str) -> FileRejected:
    return FileRejected(f"{name!r} is no table of answers: {why}", "CSV (UTF-8) with one header row", "export it again")
