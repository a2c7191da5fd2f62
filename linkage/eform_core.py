"""Between the answers of a form and the rows of the core, both ways.

Identifiers are made from what is answered, so that the same file gives the same rows whatever the order of its lines.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from ..core.errors import FileRejected
from ..core.files import canonical_json, written_whole
from .core import Code, Event, Holdings, Observation, Sample, Subject
from .eform_answers import Answers, Entry, Message
from .eforms import NO, YES, Field, Form, Section
from .standards import Gap, Read

SHOWN = 10
"""Messages that a refusal lists; the rest is counted."""

ATTRIBUTE = "event.attributes."
DAY_PLACES = ("event.day", "observation.day", "sample.taken_day")


def read_of(form: Form, answers: Answers, name: str) -> Read:
    """The core's rows. Raises FileRejected with the messages, if any cell is wrong: nothing is taken in part."""
    if answers.messages:
        raise refusal(answers.messages, name)
    sections = {section.id: section for section in form.sections}
    by_subject: dict[str, dict[str, Any]] = {}
    samples: list[Sample] = []
    events: list[Event] = []
    measured: list[Observation] = []
    for entry in answers.entries:
        section = sections[entry.section]
        by_subject.setdefault(entry.subject, {}).update(_subject_values(section, entry))
        sample = _sample(section, entry) if section.sample else None
        event = _event(section, entry) if section.event else None
        samples += [sample] if sample else []
        events += [event] if event else []
        measured += _observations(section, entry, sample)
    subjects = [_subject(form, key, values) for key, values in by_subject.items()]
    once = {one.id: one for one in measured}
    held = Holdings(
        subject=tuple(subjects), sample=tuple(samples), event=tuple(events), observation=tuple(once.values())
    )
    return Read(held, answers.gaps, {key: when.isoformat() for key, when in answers.day0.items()})


def refusal(messages: Sequence[Message], name: str) -> FileRejected:
    """The error that lists what is wrong, by row and field."""
    listed = "; ".join(map(str, messages[:SHOWN]))
    more = f"; and {len(messages) - SHOWN} more" if len(messages) > SHOWN else ""
    return FileRejected(
        f"{name!r} has {len(messages)} wrong cells: {listed}{more}",
        "answers as the form asks for them",
        "correct the cells and import again; nothing was taken",
    )


def rows_from(form: Form, holdings: Holdings) -> tuple[list[dict[str, str]], tuple[Gap, ...]]:
    """The rows of a file that gives these holdings back, and what of them the form does not ask.

    The first row of a subject holds what is answered once; each event or sample of a section that repeats has its own.
    """
    rows: list[dict[str, str]] = []
    told: set[str] = set()
    for subject in holdings.subject:
        base: dict[str, str] = {}
        more: list[dict[str, str]] = []
        for section in form.sections:
            for at, answer in enumerate(_answers_back(section, subject, holdings, told)):
                if section.repeats or at:
                    more.append(answer)
                else:
                    base |= answer
        key = {field.id: subject.key for field in form.fields if field.core == "subject.key"}
        rows += [key | row for row in (base, *more)]
    columns = [field.id for field in form.fields if field.core != "nowhere" and field.type != "text"]
    return [{name: row.get(name, "") for name in columns} for row in rows], _untold(holdings, told)


def write_rows(form: Form, rows: Sequence[Mapping[str, str]], out: Path) -> None:
    """Rows as CSV with a header, written whole; the column ``form`` names the form."""
    names = list(rows[0]) if rows else [field.id for field in form.fields]
    with written_whole(out) as beside, open(beside, "w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, ["form", *names])
        writer.writeheader()
        writer.writerows({"form": form.id, **row} for row in rows)


def _subject(form: Form, key: str, values: Mapping[str, Any]) -> Subject:
    return Subject(
        key, "site1", form.species, values.get("subject.sex", "unknown"), values.get("subject.age_day0_d"),
        form.day0_kind,
    )  # fmt: skip


def _subject_values(section: Section, entry: Entry) -> Iterator[tuple[str, Any]]:
    for field in section.fields:
        if field.core.startswith("subject.") and field.id in entry.values:
            value = entry.values[field.id]
            yield field.core, _code(field, value).code if field.core == "subject.sex" else value


def _at(section: Section, entry: Entry, core: str) -> Any:
    field = section.field_at(core)
    return entry.values.get(field.id) if field else None


def _code_at(section: Section, entry: Entry, core: str) -> Code | None:
    field, value = section.field_at(core), _at(section, entry, core)
    return _code(field, value) if field and value is not None else None


def _code(field: Field, value: str) -> Code:
    return next(one.code for one in field.choices if one.value == value)


def _event(section: Section, entry: Entry) -> Event:
    attributes = {
        field.core.removeprefix(ATTRIBUTE): _plain(entry.values[field.id])
        for field in section.fields
        if field.core.startswith(ATTRIBUTE) and field.id in entry.values
    }
    attributes |= {
        f"{field.core.removeprefix(ATTRIBUTE)}_unit": field.unit.code
        for field in section.fields
        if field.core.startswith(ATTRIBUTE) and field.id in entry.values and field.unit and _says_no_unit(field)
    }
    code = _code_at(section, entry, "event.code") or section.code
    assert code is not None
    assert section.event is not None
    return Event(
        _identity("E", section, entry), entry.subject, section.event, code, day=_at(section, entry, "event.day"),
        end_day=_at(section, entry, "event.end_day"), attributes=attributes,
    )  # fmt: skip


def _says_no_unit(field: Field) -> bool:
    """Whether a number needs its unit beside it: it has one, and its name does not end with it (``dose_gy``)."""
    unit = field.unit.code if field.unit else "1"
    return unit != "1" and not field.core.casefold().endswith(f"_{unit.casefold()}")


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _sample(section: Section, entry: Entry) -> Sample:
    kind = _code_at(section, entry, "sample.type")
    assert kind is not None
    storage = _code_at(section, entry, "sample.storage")
    return Sample(
        _identity("S", section, entry), entry.subject, kind, _code_at(section, entry, "sample.site"),
        _code_at(section, entry, "sample.diagnosis"), storage.code if storage else None,
        _at(section, entry, "sample.taken_day"),
    )  # fmt: skip


def _observations(section: Section, entry: Entry, sample: Sample | None) -> Iterator[Observation]:
    day = next((found for core in DAY_PLACES if (found := _at(section, entry, core)) is not None), None)
    for field in section.fields:
        if field.core != "observation" or field.id not in entry.values:
            continue
        value = entry.values[field.id]
        for part in value if isinstance(value, tuple) else (value,):
            identity = _identity("O", section, entry, field.id, part)
            made = observation_of(field, part, identity, entry.subject)
            yield replace(made, sample=sample.id if sample else None, day=day)


def observation_of(field: Field, value: Any, identity: str, subject: str) -> Observation:
    """One answer as an observation: a number with the field's unit, or the code that a choice, or yes or no, means."""
    if field.type in ("number", "integer"):
        return Observation(identity, subject, field.code, float(value), unit=field.unit)
    said = (YES if value else NO) if field.type == "yesno" else _code(field, value)
    return Observation(identity, subject, field.code, value_code=said)


def _identity(letter: str, section: Section, entry: Entry, *more: Any) -> str:
    what = [entry.subject, section.id, *more, dict(entry.values) if section.repeats or not more else {}]
    return f"{letter}:{sha256(canonical_json(what).encode()).hexdigest()}"


def _answers_back(section: Section, subject: Subject, holdings: Holdings, told: set[str]) -> Iterator[dict[str, str]]:
    """The answers to one section, once for each event, sample or day."""
    own = [one for one in holdings.observation if one.subject == subject.key]
    if section.event:
        for event in holdings.event:
            if event.subject == subject.key and _belongs(section, event):
                told.add(event.id)
                of_day = [one for one in own if one.day == event.day]
                yield _of_event(section, event) | _measured(section, of_day, told)
    elif section.sample:
        for sample in holdings.sample:
            if sample.subject == subject.key:
                told.add(sample.id)
                of_sample = [one for one in own if one.sample == sample.id]
                yield _of_sample(section, sample) | _measured(section, of_sample, told)
    else:
        loose = [one for one in own if one.sample is None]
        day_field = section.field_at("observation.day")
        days = sorted({one.day for one in loose}, key=lambda day: (day is not None, day or 0))
        about = _of_subject(section, subject)
        if None not in days and about:
            yield about
        for day in days:
            answer = _measured(section, [one for one in loose if one.day == day], told)
            if answer and day_field and day is not None:
                answer[day_field.id] = str(day)
            if answer or (day is None and about):
                yield (about if day is None else {}) | answer


def _belongs(section: Section, event: Event) -> bool:
    field = section.field_at("event.code")
    known = [choice.code for choice in field.choices] if field else [section.code]
    return event.kind == section.event and any((one.system, one.code) == (event.code.system, event.code.code)
                                               for one in known if one)  # fmt: skip


def _of_subject(section: Section, subject: Subject) -> dict[str, str]:
    values = {"subject.sex": subject.sex, "subject.age_day0_d": subject.age_day0_d}
    return {
        field.id: _text_of(field, values[field.core])
        for field in section.fields
        if values.get(field.core) is not None and _sayable(field, values[field.core])
    }


def _of_event(section: Section, event: Event) -> dict[str, str]:
    values = {"event.day": event.day, "event.end_day": event.end_day, "event.code": event.code}
    values |= {ATTRIBUTE + name: value for name, value in event.attributes.items()}
    return {
        field.id: _text_of(field, values[field.core])
        for field in section.fields
        if values.get(field.core) is not None and _sayable(field, values[field.core])
    }


def _of_sample(section: Section, sample: Sample) -> dict[str, str]:
    names = ("type", "site", "diagnosis", "storage", "taken_day")
    values = {f"sample.{name}": getattr(sample, name) for name in names}
    return {
        field.id: _text_of(field, values[field.core])
        for field in section.fields
        if values.get(field.core) is not None and _sayable(field, values[field.core])
    }


def _measured(section: Section, found: Iterable[Observation], told: set[str]) -> dict[str, str]:
    answers: dict[str, list[str]] = {}
    for one in found:
        for field in section.fields:
            asked = (field.code.system, field.code.code) == (one.quantity.system, one.quantity.code)
            value = one.value if one.value is not None else one.value_code
            if field.core == "observation" and asked and _sayable(field, value):
                if field.type != "choices" and field.id in answers:
                    continue
                answers.setdefault(field.id, []).append(_text_of(field, value))
                told.add(one.id)
    return {name: ";".join(values) for name, values in answers.items()}


def _sayable(field: Field, value: Any) -> bool:
    """Whether an answer to the field can say that value."""
    if isinstance(value, Code):
        codes = [YES, NO] if field.type == "yesno" else [one.code for one in field.choices]
        return any((one.system, one.code) == (value.system, value.code) for one in codes)
    if field.type == "choice":
        return any(value in (one.value, one.code.code) for one in field.choices)
    return True


def _text_of(field: Field, value: Any) -> str:
    if isinstance(value, Code):
        if field.type == "yesno":
            return "1" if value.code == YES.code else "0"
        return next(one.value for one in field.choices if one.code.code == value.code)
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, (list, tuple)):
        return ";".join(value)
    if field.type == "choice":
        return next(one.value for one in field.choices if value in (one.value, one.code.code))
    return repr(value).removesuffix(".0") if isinstance(value, float) else str(value)


def _untold(holdings: Holdings, told: set[str]) -> tuple[Gap, ...]:
    """Rows of events, samples and observations that the form has no question for."""
    tables: Mapping[str, Sequence[Any]] = {
        "event": holdings.event,
        "sample": holdings.sample,
        "observation": holdings.observation,
    }
    left = {table: sum(one.id not in told for one in rows) for table, rows in tables.items()}
    return tuple(Gap(f"{table}.*", "the form has no question for it", n) for table, n in left.items() if n)
