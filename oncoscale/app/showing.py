"""The verb ``show`` as a Python call: what a store holds, and a subject's timeline as words, JSON and a page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.resources import files
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import ConfigurationRejected, StoreRejected
from ..core.files import write_json, write_text
from .console import Result

if TYPE_CHECKING:
    from ..linkage.store import Store
    from ..linkage.subject import SubjectKey
    from ..linkage.timeline import Entry

GROUPED = 4
"""Entries of one lane and day that are told one by one; more are counted. All are in the JSON."""


def show(store: Path, subject: str | None, *, out: Path | None = None) -> Result:
    """What a store holds, of one subject or of all.

    out  a page (``.html``) or JSON (``.json``) about one subject

    Raises ConfigurationRejected for another ``out``, or one without a subject; StoreRejected.
    """
    from ..linkage.record import show as held
    from ..linkage.record import subjects
    from ..linkage.store import Store
    from ..linkage.subject import SubjectKey
    from ..linkage.timeline import for_json, timeline

    if out is not None and (subject is None or out.suffix not in (".html", ".json")):
        raise ConfigurationRejected(
            "--out without a subject" if subject is None else f"--out ends with {out.suffix!r}",
            "a page (.html) or JSON (.json) about one subject",
            "name the subject, and a file of one of these kinds",
        )
    if subject is None:
        rows = subjects(Store.open(store, read_only=True))
        lines = [f"{row['subject']}  consent {row['consent']:<9}  {', '.join(row['visits'])}" for row in rows]
        return Result({"subjects": list(rows)}, "\n".join(lines) or "The store holds no subject.")
    opened, unrecorded = looked_at(store, SubjectKey(subject))
    found = timeline(opened, SubjectKey(subject))
    content = held(opened, SubjectKey(subject)) | {"timeline": for_json(found), "not_on_record": unrecorded}
    if out is not None and out.suffix == ".html":
        write_text(out, page(content, found), private=True)
    elif out is not None:
        write_json(out, content, private=True)
    told = [f"Not on record that this was looked at: {unrecorded}", ""] if unrecorded else []
    return Result(content, "\n".join([*told, *_about(content), "", *timeline_lines(found)]))


def looked_at(place: Path, subject: SubjectKey) -> tuple[Store, str]:
    """(the store, why it is not on record that the subject was looked at: it cannot be written; empty if it is).

    Raises ConfigurationRejected for a subject that the store does not hold, StoreRejected.
    """
    from ..linkage.audit import record_action
    from ..linkage.consent import require_subject
    from ..linkage.store import Store

    try:
        opened = Store.open(place)
        with opened.writing() as connection:
            require_subject(connection, subject)
            record_action(opened, connection, "show", subject)
    except StoreRejected as refused:
        if "read-only" not in refused.found:
            raise
        return Store.open(place, read_only=True), refused.found
    return opened, ""


def page(held: Mapping[str, Any], found: Sequence[Entry]) -> str:
    """One self-contained page about a subject: no script, no address outside the file."""
    from jinja2 import Environment, StrictUndefined

    from .timeline_picture import draw

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    text = files(__package__).joinpath("templates/subject.html").read_text(encoding="utf-8")
    made: str = environment.from_string(text).render(
        held=held, picture=draw(found), days=by_day(found), series=sum(len(visit["series"]) for visit in held["visits"])
    )
    return made


def by_day(found: Sequence[Entry]) -> list[tuple[str, list[tuple[str, list[str]]]]]:
    """(day in words, (lane, what is told of it)), in the order of the timeline."""
    days = []
    for day, own in groupby(found, key=lambda one: one.day):
        lanes = [(lane, _told(list(entries))) for lane, entries in groupby(own, key=lambda one: one.lane)]
        days.append(("day not known" if day is None else f"day {day}", lanes))
    return days


def timeline_lines(found: Sequence[Entry]) -> list[str]:
    """The timeline for people: a line a lane, by day."""
    lines = ["Timeline, in days since day 0"]
    for day, lanes in by_day(found):
        for place, (lane, told) in enumerate(lanes):
            lines.append(f"  {day if place == 0 else '':<13}  {lane:<12}  {'; '.join(told)}")
    return lines if found else [*lines, "  nothing on record"]


def _told(entries: Sequence[Entry]) -> list[str]:
    """Entries of one lane and day in words; equal ones are counted, many are cut."""
    counted = Counter(one.words + (f", until day {one.end_day}" if one.end_day is not None else "") for one in entries)
    words = [f"{text} (× {count})" if count > 1 else text for text, count in counted.items()]
    return words if len(words) <= GROUPED else [*words[: GROUPED - 1], f"and {len(words) - GROUPED + 1} more"]


def _visit(visit: Mapping[str, Any]) -> str:
    images: Counter[str] = Counter()
    for series in visit["series"]:
        images[f"{series['modality']} {series['role']}"] += series["instances"]
    kinds = ", ".join(f"{kind} ({count} files)" for kind, count in images.items())
    return f"  {visit['study']}  day {visit['day']}: {len(visit['series'])} series: {kinds}"


def _about(held: Mapping[str, Any]) -> list[str]:
    lines = [f"{held['subject']}: {held['species']}, {held['sex']}, site {held['site']}", "", "Visits"]
    lines += [_visit(one) for one in held["visits"]] or ["  none with images; what else is known is in the timeline"]
    lines += ["", "Consent"]
    lines += [f"  {row['recorded_at']}  {row['status']}" for row in held["consents"]] or ["  none on record"]
    lines += ["", "Runs"]
    lines += [
        f"  {row['run'][:16]}  attempt {row['attempt']}: {row['status']}, {row['ended']}" for row in held["runs"]
    ] or ["  none"]
    lines += ["", "Predictions"]
    lines += [
        f"  {row['run'][:16]}  day {row['horizon_day']}: {row['quantity']} {row['value']:.2f} {row['unit']}"
        + (f" ({row['low']:.2f} to {row['high']:.2f})" if row["low"] is not None else "")
        for row in held["predictions"]
    ] or ["  none"]
    return lines
