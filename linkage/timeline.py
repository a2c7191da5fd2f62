"""The timeline of a subject: what was done, seen, computed and predicted, in days since day 0.

Images stand on the day of their visit. What was computed stands on the day of the images that it rests on: a run, its
maps and its meshes on the latest day of what it used, through as many runs as lie between. A prediction stands on the
day that it speaks of, ``horizon_day`` after the images of its run. No calendar date is in it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from .consent import require_subject
from .core import Event, Holdings, Link, Observation, Predicted
from .holding import held
from .store import Store
from .subject import SubjectKey

LANES = ("course", "treatment", "samples", "visits", "images", "maps", "meshes", "measurements", "runs", "predictions")
"""Kinds of entries, in the order in which they are shown: what happened, what was seen, what was computed."""

TOLD = ("subject", "sample", "event", "image_series", "artefact", "contains", "run", "run_subject", "attempt", "link",
        "observation", "prediction")  # fmt: skip
"""The tables that a timeline rests on."""

LANE_OF_EVENT: Mapping[str, str] = {
    "diagnosis": "course", "follow-up": "course", "progression": "course", "death": "course",
    "treatment": "treatment", "surgery": "treatment", "radiotherapy": "treatment",
    "imaging": "visits", "sampling": "samples",
}  # fmt: skip
LANE_OF_FILE: Mapping[str, str] = {"map": "maps", "mesh": "meshes"}


@dataclass(frozen=True)
class Entry:
    """One thing on the timeline.

    lane     one of LANES
    day      days since day 0; None if the record does not say
    end_day  the last day of what lasts
    name     id of the row, or the place of a file among a run's outputs
    words    what it is
    run      the run that computed it
    """

    lane: str
    day: int | None
    name: str
    words: str
    end_day: int | None = None
    run: str | None = None


def timeline(store: Store, subject: SubjectKey) -> tuple[Entry, ...]:
    """The timeline of a subject. Raises StoreRejected for one that the store does not hold."""
    with store.reading() as connection:
        require_subject(connection, subject)
        holdings = held(connection, [subject], only=TOLD)
    return entries(holdings, subject)


def entries(holdings: Holdings, subject: str) -> tuple[Entry, ...]:
    """Everything that the holdings say of a subject, by day, lane and name; what has no day comes last."""
    days = days_of_runs(holdings, subject)
    found = [
        *_events(holdings, subject),
        *_samples(holdings, subject),
        *_images(holdings, subject),
        *_measurements(one for one in holdings.observation if one.subject == subject),
        *_runs(holdings, subject, days),
        *_files(holdings, subject, days),
        *(_prediction(one, days) for one in holdings.prediction if one.subject == subject),
    ]
    return tuple(sorted(found, key=_order))


def days_of_runs(holdings: Holdings, subject: str) -> dict[str, int | None]:
    """The day that each run's results speak of: the latest day of the subject's images, samples and files it used."""
    dated: dict[str, int | None] = {one.id: day_of(one, holdings, subject) for one in holdings.event}
    stated: dict[str, int | None] = {
        one.uid: dated.get(one.event) for one in holdings.image_series if one.subject == subject
    }
    stated |= {one.id: one.taken_day for one in holdings.sample if one.subject == subject}
    used: dict[str, list[Link]] = defaultdict(list)
    made_by: dict[str, str] = {}
    for one in holdings.link:
        if one.role == "used":
            used[one.run].append(one)
        elif one.artefact is not None:
            made_by.setdefault(one.artefact, one.run)
    found: dict[str, int | None] = {}
    for run in holdings.run:
        _settle(run.id, used, made_by, stated, found)
    return found


def for_json(found: Iterable[Entry]) -> list[dict[str, Any]]:
    """Ready for JSON."""
    return [asdict(one) for one in found]


def day_of(event: Event, holdings: Holdings, subject: str) -> int | None:
    """The day of an event; of one that states an age, its distance from the age on day 0, if that is known."""
    if event.day is not None or event.age_d is None:
        return event.day
    ages = [one.age_day0_d for one in holdings.subject if one.key == subject]
    return event.age_d - ages[0] if ages and ages[0] is not None else None


def _settle(
    first: str,
    used: Mapping[str, list[Link]],
    made_by: Mapping[str, str],
    stated: Mapping[str, int | None],
    found: dict[str, int | None],
) -> None:
    """The day of a run, after those of the runs whose files it used. Without recursion: chains may be long."""
    waiting, open_runs = [first], set()
    while waiting:
        run = waiting[-1]
        if run in found:
            waiting.pop()
            continue
        open_runs.add(run)
        before = {made_by[one.artefact] for one in used[run] if one.artefact and one.artefact in made_by}
        if unknown := before - found.keys() - open_runs:
            waiting.extend(sorted(unknown))
            continue
        days = [stated.get(one.series or one.sample or "") for one in used[run]] + [found.get(one) for one in before]
        found[run] = max((day for day in days if day is not None), default=None)
        waiting.pop()


def _events(holdings: Holdings, subject: str) -> Iterable[Entry]:
    for one in holdings.event:
        if one.subject == subject:
            kind = "" if one.kind in ("imaging", "treatment") else f"{one.kind}: "
            day = day_of(one, holdings, subject)
            yield Entry(LANE_OF_EVENT[one.kind], day, one.id, kind + (one.code.display or one.code.code), one.end_day)


def _samples(holdings: Holdings, subject: str) -> Iterable[Entry]:
    return (
        Entry("samples", one.taken_day, one.id, one.type.display or one.type.code)
        for one in holdings.sample
        if one.subject == subject
    )


def _images(holdings: Holdings, subject: str) -> Iterable[Entry]:
    days = {one.id: day_of(one, holdings, subject) for one in holdings.event}
    for one in holdings.image_series:
        if one.subject == subject:
            words = f"{one.modality.code} {one.role}, {one.instances} file{'s' * (one.instances != 1)}"
            yield Entry("images", days.get(one.event), one.uid, words)


def _measurements(found: Iterable[Observation]) -> Iterable[Entry]:
    for one in found:
        value = (one.value_code.display or one.value_code.code) if one.value_code else f"{one.value:.4g}"
        unit = f" {one.unit.code}" if one.unit and one.unit.code != "1" else ""
        yield Entry("measurements", one.day, one.id, f"{one.quantity.display or one.quantity.code} {value}{unit}",
                    run=one.run)  # fmt: skip


def _runs(holdings: Holdings, subject: str, days: Mapping[str, int | None]) -> Iterable[Entry]:
    own = {one.run for one in holdings.run_subject if one.subject == subject}
    ends: dict[str, Counter[str]] = defaultdict(Counter)
    for attempt in holdings.attempt:
        ends[attempt.run][attempt.status] += 1
    for one in holdings.run:
        if one.id in own:
            told = ", ".join(f"{end} × {n}" if n > 1 else end for end, n in sorted(ends[one.id].items()))
            yield Entry("runs", days[one.id], one.id, f"{one.kind}: {told or 'not begun'}", run=one.id)


def _files(holdings: Holdings, subject: str, days: Mapping[str, int | None]) -> Iterable[Entry]:
    """Maps and meshes of finished attempts, each content once for a run."""
    own = {one.artefact for one in holdings.contains if one.subject == subject}
    kinds = {one.sha256: one.kind for one in holdings.artefact}
    done = {(one.run, one.n) for one in holdings.attempt if one.status == "done"}
    seen = set()
    for one in holdings.link:
        lane = LANE_OF_FILE.get(kinds.get(one.artefact or "", ""))
        is_made = one.role == "generated" and one.artefact in own and (one.run, one.attempt) in done
        if lane and is_made and (one.run, one.port, one.artefact) not in seen:
            seen.add((one.run, one.port, one.artefact))
            yield Entry(lane, days.get(one.run), one.port, one.port, run=one.run)


def _prediction(one: Predicted, days: Mapping[str, int | None]) -> Entry:
    start = days.get(one.run)
    interval = "" if one.low is None or one.high is None else f" ({one.low:.4g} to {one.high:.4g})"
    withdrawn = ", withdrawn" if one.status == "withdrawn" else ""
    words = f"{one.quantity.display or one.quantity.code} {one.value:.4g} {one.unit.code}{interval}{withdrawn}"
    return Entry("predictions", None if start is None else start + one.horizon_day, one.id, words, run=one.run)


def _order(one: Entry) -> tuple[Any, ...]:
    return (one.day is None, one.day or 0, LANES.index(one.lane), one.words, one.name, one.run or "")
