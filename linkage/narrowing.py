"""One run out of what is held: the run, what it read and wrote, whose data that is, and by which permission."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from .core import Event, Holdings, Sample, Series


def of_run(holdings: Holdings, run: str) -> Holdings:
    """The holdings less everything that the run has nothing to do with; every reference still leads to a row."""
    links = tuple(one for one in holdings.link if one.run == run)
    observed = tuple(one for one in holdings.observation if one.run == run)
    predicted = tuple(one for one in holdings.prediction if one.run == run)
    touched: tuple[Any, ...] = (*links, *observed)
    artefacts = {one.artefact for one in (*touched, *predicted)}
    series = _among(holdings.image_series, "uid", {one.series for one in touched})
    samples = _with_parents(holdings.sample, {one.sample for one in touched})
    events = _with_parents(holdings.event, {one.event for one in series})
    allowed = tuple(one for one in holdings.run_subject if one.run == run)
    decisions = _among(holdings.decision, "id", {one.decision for one in allowed})
    runs = tuple(one for one in holdings.run if one.id == run)
    subjects = {one.subject for one in (*allowed, *series, *samples, *observed, *predicted)}
    subjects |= {one.subject for one in holdings.contains if one.artefact in artefacts}
    return replace(
        _of_nobody_else(holdings, subjects),
        consent=_chain(holdings, {one.consent for one in decisions}),
        decision=decisions,
        sample=samples,
        event=events,
        image_series=series,
        artefact=_among(holdings.artefact, "sha256", artefacts),
        contains=_among(holdings.contains, "artefact", artefacts),
        software=_among(
            holdings.software, "id", {*(one.software for one in runs), *(one.software for one in observed)}
        ),
        parameter_set=_among(holdings.parameter_set, "sha256", {one.parameters for one in runs}),
        run=runs,
        run_subject=allowed,
        attempt=tuple(one for one in holdings.attempt if one.run == run),
        link=links,
        observation=observed,
        prediction=predicted,
    )


def _among(rows: tuple[Any, ...], name: str, wanted: set[Any]) -> tuple[Any, ...]:
    return tuple(one for one in rows if getattr(one, name) in wanted)


def _of_nobody_else(holdings: Holdings, subjects: set[str]) -> Holdings:
    return replace(
        holdings,
        subject=_among(holdings.subject, "key", subjects),
        enrolment=_among(holdings.enrolment, "subject", subjects),
    )


def _with_parents(rows: tuple[Any, ...], wanted: set[str | None]) -> tuple[Any, ...]:
    """The rows of these ids, and those that they name as parents, to the first."""
    by_id: dict[str, Sample | Event] = {one.id: one for one in rows}
    kept: set[str] = set()
    for name in wanted:
        while name in by_id and name not in kept:
            kept.add(name)
            name = by_id[name].parent
    return tuple(one for one in rows if one.id in kept)


def _chain(holdings: Holdings, wanted: set[str | None]) -> tuple[Any, ...]:
    """The consents of these ids, and those that they supersede."""
    by_id = {one.id: one for one in holdings.consent}
    kept: set[str] = set()
    for name in wanted:
        while name in by_id and name not in kept:
            kept.add(name)
            name = by_id[name].supersedes
    return tuple(one for one in holdings.consent if one.id in kept)


def heads_not_defaced(holdings: Holdings) -> tuple[Series, ...]:
    """Series of a head in which a face may be recognised: flagged on ingest and not marked as defaced."""
    heads = {one.id for one in holdings.event if one.attributes.get("head") and not one.attributes.get("defaced")}
    return tuple(one for one in holdings.image_series if one.event in heads)
