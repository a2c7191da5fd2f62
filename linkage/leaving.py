"""What leaves: rows without what serves the store alone, and without a calendar date.

Ages and intervals leave, dates do not (project specification, linkage B.1). Days of events, samples and images count
from the subject's day 0 anyway. Times of consents, decisions and attempts count from the first of them on record about
the subject, which is 2000-01-01 for everybody (``ANCHOR``): what lies between them stays, the calendar does not. It is
a clock of its own: the store does not know the date of day 0, since the vault alone knows by how much images were
moved. Whoever receives an export knows when that was, so the times of exports, reviews and shares are the anchor
itself: they would give the clock away. The study's own end of retention is nobody's date, and stays.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from datetime import date
from typing import Any, TypeVar

from .core import Attempt, ConsentRow, DecisionRow, Event, Holdings, Study

Row = TypeVar("Row", Event, Study)

KEPT_AT_HOME = {"source", "contents", "ingested_at", "shifted_date", "key_fingerprint"}
"""Attributes of events and studies that serve the store alone, or hold a date."""

ANCHOR = date(2000, 1, 1)
NO_TIME = f"{ANCHOR.isoformat()}T00:00:00Z"
KNOWN_TO_OTHERS = ("export", "review", "share")
"""Operations whose time somebody outside knows."""

_WRITTEN = re.compile(r"(\d{4})(?:-(\d\d)(?:-(\d\d)(?:[T ].*)?)?)?")


def leaving(holdings: Holdings) -> Holdings:
    """The holdings as they may leave."""
    first = _first_days(holdings)
    return replace(
        holdings,
        event=tuple(_for_others(one) for one in holdings.event),
        study=tuple(_for_others(one) for one in holdings.study),
        consent=tuple(_consent(one, first[one.subject]) for one in holdings.consent),
        decision=tuple(_decision(one, first[one.subject]) for one in holdings.decision),
        attempt=tuple(_attempt(one, first[one.run]) for one in holdings.attempt),
    )


def day_of(text: str | None) -> date | None:
    """The day that a written time begins with, of a month or a year its first; None for what is no time."""
    parts = _WRITTEN.fullmatch(text or "")
    try:
        return date(int(parts[1]), int(parts[2] or 1), int(parts[3] or 1)) if parts else None
    except ValueError:
        return None


def anchored(text: str | None, first: date) -> str | None:
    """A written time, moved by whole days so that ``first`` is the anchor; what is no time becomes the anchor."""
    if not text:
        return text
    day = day_of(text)
    if day is None:
        return NO_TIME
    try:
        moved = ANCHOR + (day - first)
    except OverflowError:
        moved = date.max
    return moved.isoformat()[: len(text)] + text[10:]


def _for_others(row: Row) -> Row:
    return replace(row, attributes={name: value for name, value in row.attributes.items() if name not in KEPT_AT_HOME})


def _consent(one: ConsentRow, first: date) -> ConsentRow:
    moved: dict[str, Any] = {
        name: anchored(getattr(one, name), first)
        for name in ("valid_from", "valid_until", "recorded_at", "withdrawn_at")
    }
    return replace(one, **moved)


def _decision(one: DecisionRow, first: date) -> DecisionRow:
    at = NO_TIME if one.operation in KNOWN_TO_OTHERS else anchored(one.at, first)
    return replace(one, at=at or NO_TIME)


def _attempt(one: Attempt, first: date) -> Attempt:
    return replace(one, started=anchored(one.started, first), ended=anchored(one.ended, first))


def _first_days(holdings: Holdings) -> dict[str, date]:
    """The first day on record of each subject, and of each run: its subject's, or its own if it has not just one."""
    written: dict[str, list[str | None]] = defaultdict(list)
    for consent in holdings.consent:
        written[consent.subject] += [consent.valid_from, consent.recorded_at]
    for decision in holdings.decision:
        if decision.operation not in KNOWN_TO_OTHERS:
            written[decision.subject].append(decision.at)
    of_run: dict[str, set[str]] = defaultdict(set)
    for one in holdings.run_subject:
        of_run[one.run].add(one.subject)
    owner = {run: next(iter(subjects)) for run, subjects in of_run.items() if len(subjects) == 1}
    for attempt in holdings.attempt:
        written[owner.get(attempt.run, attempt.run)] += [attempt.started, attempt.ended]
    first: dict[str, date] = defaultdict(lambda: ANCHOR, {name: _earliest(times) for name, times in written.items()})
    return first | {run: first[subject] for run, subject in owner.items()}


def _earliest(times: Iterable[str | None]) -> date:
    return min((day for one in times if (day := day_of(one)) is not None), default=ANCHOR)
