"""Importing what is new about subjects that the store knows: their days from its day 0, and what it has stays.

A form counts days from the diagnosis; a subject that came by its images counts from the first of them. Days are added
up over the dates, which only the site knows: the date of day 0 in the file, and the visits' dates as the store keeps
them, both moved by the subject's own shift. No date is kept.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from datetime import date, timedelta
from typing import Any

from sqlalchemy import Connection, select

from ..core.errors import ConfigurationRejected
from . import core, tables
from .core import Holdings, Subject
from .standards import Gap, Read
from .subject import SubjectKey
from .vault import Vault
from .visit import imaging_events

DAYS = ("day", "end_day", "taken_day", "horizon_day")
NOT_STATED: Mapping[str, tuple[Any, ...]] = {"sex": ("unknown",), "age_day0_d": (None,)}


def days_to_add(connection: Connection, vault: Vault, found: Read, names: Mapping[str, str]) -> dict[str, int]:
    """By the file's name of a subject, what to add to its days so that they count from the store's day 0.

    Raises ConfigurationRejected if the store counts a subject's days from something else than the file, and dates on
    either side to add them up are missing.
    """
    kinds = _column(connection, "day0_kind", names.values())
    dated = {one for one, row in _rows(found.holdings) if any(getattr(row, name, None) is not None for name in DAYS)}
    added, unknown = {}, 0
    for subject in found.holdings.subject:
        known = kinds.get(names[subject.key])
        if known in (None, subject.day0_kind) or subject.key not in dated:
            continue
        ours, theirs = _day0_of(connection, names[subject.key]), found.day0.get(subject.key)
        if ours is None or theirs is None:
            unknown += 1
            continue
        moved = date.fromisoformat(theirs) - timedelta(days=vault.date_shift(SubjectKey(names[subject.key])))
        added[subject.key] = (moved - ours).days
    if unknown:
        raise ConfigurationRejected(
            f"the days of {unknown} subjects count from another day 0 than in the store",
            "in the file the date of day 0, and in the store images with a date; or days from the store's day 0",
            "give the date of day 0 of each subject, or state the same day 0 as the store",
        )
    return added


def counted_anew(holdings: Holdings, added: Mapping[str, int]) -> Holdings:
    """The holdings with days added, by the file's name of each subject."""
    moved = {}
    for table, held in core.rows(holdings):
        moved[table] = tuple(_moved(row, added.get(getattr(row, "subject", ""), 0)) for row in held)
    return Holdings(**moved)


def kept_as_they_are(
    connection: Connection, subjects: Iterable[Subject], names: Mapping[str, str], added: Mapping[str, int]
) -> tuple[Gap, ...]:
    """What a file says of known subjects and the store has otherwise: it keeps what it has, and a gap says so."""
    counts: Counter[str] = Counter()
    for name, nothing in NOT_STATED.items():
        known = _column(connection, name, names.values())
        for subject in subjects:
            said, key = getattr(subject, name), names[subject.key]
            if name == "age_day0_d" and said is not None:
                said -= added.get(subject.key, 0)
            counts[name] += key in known and said not in nothing and said != known[key]
    reason = "the store knows the subject already and keeps what it has"
    return tuple(Gap(f"subject.{name}", reason, n) for name, n in counts.items() if n)


def _rows(holdings: Holdings) -> Iterable[tuple[str, Any]]:
    return ((getattr(row, "subject", ""), row) for _, held in core.rows(holdings) for row in held)


def _moved(row: Any, days: int) -> Any:
    if not days:
        return row
    names = {field.name for field in fields(row)} & set(DAYS)
    return replace(row, **{name: value + days for name in names if (value := getattr(row, name)) is not None})


def _column(connection: Connection, name: str, keys: Iterable[str]) -> dict[str, Any]:
    columns, wanted = tables.subject.c, set(keys)
    query = select(columns.key, columns[name]).where(columns.key.in_(sorted(wanted)))
    return {row[0]: row[1] for row in connection.execute(query).all()}


def _day0_of(connection: Connection, subject: str) -> date | None:
    """The date of a subject's day 0 as the store knows it, moved by the subject's shift; None without a dated visit."""
    for row in connection.execute(imaging_events().where(tables.event.c.subject == subject)).all():
        if when := json.loads(row.attributes).get("shifted_date"):
            return date.fromisoformat(when) - timedelta(days=row.day)
    return None
