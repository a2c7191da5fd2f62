"""The rows of a campaign's members: what ``record_run`` writes one by one, made ready for a thousand at a time."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, func, select
from sqlalchemy.exc import IntegrityError

from ..core.files import canonical_json
from . import tables
from .consent import Decision, still_permitted_within
from .record import KINDS, MEDIA_TYPES, QUANTITIES, UCUM, Content, Record
from .store import code_id
from .subject import SubjectKey

if TYPE_CHECKING:
    from .shards import Member

Rows = dict[str, list[dict[str, Any]]]


@dataclass
class Surroundings:
    """What the rows of a batch depend on in the store.

    last       number of the last attempt of each run
    predicted  runs whose predictions are there: a repeat predicts what its first attempt predicted
    permits    decisions by their id
    """

    connection: Connection
    last: dict[str, int]
    predicted: set[str]
    permits: Mapping[str, Decision]
    _codes: dict[tuple[str, str], int] = field(default_factory=dict)
    _holding: dict[str, bool] = field(default_factory=dict)
    _environment: tuple[tuple[Any, ...], str] = ((), "")  # that of the last member, and its hash: most are equal

    @classmethod
    def of(cls, connection: Connection, members: Iterable[Member]) -> Surroundings:
        """Look them up, all at once."""
        members = tuple(members)
        runs = sorted({one.record.run for one in members})
        attempt, prediction = tables.attempt.c, tables.prediction.c
        last = select(attempt.run, func.max(attempt.n)).where(attempt.run.in_(runs)).group_by(attempt.run)
        known = select(prediction.run).where(prediction.run.in_(runs)).distinct()
        numbers: dict[str, int] = dict(map(tuple, connection.execute(last)))
        permits = _permits(connection, sorted({one.decision for one in members if one.decision}))
        return cls(connection, numbers, set(connection.execute(known).scalars()), permits)

    def next(self, member: Member) -> tuple[Member, int]:
        """The member and the number of its attempt; stopped and without results if its consent holds no more.

        Raises ValueError for a member whose permit is none, or is not for its subject.
        """
        record, permit = member.record, self.permits.get(member.decision or "")
        if record.subject is not None and (
            permit is None or not permit.permits or (permit.operation, permit.subject) != ("run", record.subject)
        ):
            raise ValueError("its subject has no permit for it")
        number = self.last.get(record.run, 0) + 1
        self.last[record.run] = number
        if permit is not None and not self._holds(permit):
            member = replace(member, status="stopped-consent", predictions=())
        return member, number

    @contextmanager
    def all_or_nothing(self) -> Iterator[None]:
        """If the store refuses a row of the block, it is as it was before, and so is what is known of it here."""
        predicted, codes = set(self.predicted), dict(self._codes)
        try:
            with self.connection.begin_nested():
                yield
        except IntegrityError:
            self.predicted, self._codes = predicted, codes
            raise

    def code(self, system: str, code: str, display: str) -> int:
        """The row of a coded value."""
        if (system, code) not in self._codes:
            self._codes[system, code] = code_id(self.connection, system, code, display)
        return self._codes[system, code]

    def environment(self, record: Record) -> str:
        """Hash of what a member was computed with."""
        found = (record.environment, record.engine, record.threads)
        if found != self._environment[0]:
            self._environment = found, record.environment_sha256
        return self._environment[1]

    def _holds(self, permit: Decision) -> bool:
        if permit.id not in self._holding:
            self._holding[permit.id] = still_permitted_within(self.connection, permit)
        return self._holding[permit.id]


def rows_of(member: Member, number: int, around: Surroundings) -> Rows:
    """The rows of one member, by table; its program has a row already."""
    record, done = member.record, member.status == "done"
    run, parameters = record.run, record.parameters_sha256
    environment = around.environment(record)
    rows: Rows = {
        "parameter_set": [{"sha256": parameters, "schema": f"oncoscale-{record.kind}",
                           "body": record.parameters_json}],
        "run": [{"id": run, "kind": record.kind, "software": record.software.id, "parameters": parameters,
                 "inputs_sha256": record.inputs_sha256, "seed": str(record.seed), "campaign": member.campaign}],
        "attempt": [{"run": run, "n": number, "status": member.status, "started": member.started, "ended": member.ended,
                     "environment_sha256": environment,
                     "output_sha256": record.output_sha256 if done else None,
                     "failure": canonical_json(dict(member.failure)) if member.failure else None}],
    }  # fmt: skip
    if record.subject is not None:
        rows["run_subject"] = [{"run": run, "subject": record.subject, "decision": member.decision}]
    if done:
        rows |= _contents(record, number) | _predictions(member, around)
    return rows


def _contents(record: Record, number: int) -> Rows:
    rows: Rows = {"artefact": [], "contains": [], "link": []}
    for role, contents in (("used", record.inputs), ("generated", record.outputs)):
        for one in contents:
            artefact = None if one.series else one.sha256
            rows["link"].append({"run": record.run, "attempt": number, "role": role, "port": one.port,
                                 "series": one.series or None, "artefact": artefact})  # fmt: skip
            if artefact:
                rows["artefact"].append(_artefact(record, number, one, role))
            if artefact and record.subject is not None:
                rows["contains"].append({"artefact": artefact, "subject": record.subject, "share": "sole"})
    return {table: found for table, found in rows.items() if found}


def _artefact(record: Record, number: int, one: Content, role: str) -> dict[str, Any]:
    is_made = role == "generated"
    kind = next((kind for pattern, kind in KINDS if fnmatch(one.port, pattern)), "table")
    return {
        "sha256": one.sha256,
        "kind": kind if is_made else "parameters",
        "asserted": one.asserted,
        "media_type": MEDIA_TYPES.get(Path(one.port).suffix, "application/octet-stream"),
        "bytes": one.bytes,
        "uri": f"runs/{record.run}/{number}/{one.port}" if is_made else "",
    }


def _predictions(member: Member, around: Surroundings) -> Rows:
    run, subject = member.record.run, member.record.subject
    if subject is None or not member.predictions or run in around.predicted:
        return {}
    around.predicted.add(run)
    return {
        "prediction": [
            {
                "id": "F-" + sha256(f"{run} {place}".encode()).hexdigest()[:32],
                "run": run,
                "subject": subject,
                "quantity": around.code(QUANTITIES, one.quantity, one.display),
                "unit": around.code(UCUM, one.unit, one.unit),
                "status": "preliminary",
                **{name: getattr(one, name) for name in ("horizon_day", "value", "low", "high", "level")},
            }
            for place, one in enumerate(member.predictions)
        ]
    }


def _permits(connection: Connection, asked: list[str]) -> dict[str, Decision]:
    columns = tables.decision.c
    rows = connection.execute(
        select(tables.decision, tables.code.c.code.label("purpose_code"))
        .join(tables.code, columns.purpose == tables.code.c.id)
        .where(columns.id.in_(asked))
    )
    return {
        row.id: Decision(
            row.id, SubjectKey(row.subject), row.operation, row.purpose_code, tuple(json.loads(row.categories)),
            row.consent, row.outcome, row.reason,
        )
        for row in rows
    }  # fmt: skip
