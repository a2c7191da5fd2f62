"""The check of a whole store: every rule asked of everything held, every hash recomputed, every orphan listed.

Subjects are read some at a time, so that a store of any size can be checked.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, select

from . import audit, tables
from .audit import record_action
from .core import Attempt, Holdings, Run
from .core import rows as rows_of
from .holding import held
from .quality import SEVERITIES, Outcome, Rule, default_rules, outcomes
from .quality_facts import Facts, Found, Holding, facts_of, run_facts
from .quality_files import orphans, relative, remove_orphans, run_files, sound, study_files
from .replacing import put_right
from .store import Store

Progress = Callable[[str, float], None]
TOGETHER = 100
"""Subjects that are read in one go: asking costs more than what comes back."""


@dataclass(frozen=True)
class Quality:
    """What the check of a store found.

    outcomes  of every rule, in the order of the rules
    orphans   files and folders that no record speaks of, by their place in the store
    removed   how many of them were removed
    """

    outcomes: tuple[Outcome, ...]
    orphans: tuple[str, ...]
    removed: int = 0

    def failed(self, severity: str) -> int:
        """Failures of rules of one severity."""
        return sum(len(one.failures) for one in self.outcomes if one.rule.severity == severity)

    @property
    def sound(self) -> bool:
        """Whether no rule of severity error fails."""
        return not self.failed("error")

    def for_json(self) -> dict[str, Any]:
        """Ready for JSON: every rule with what came of it."""
        return {
            "sound": self.sound,
            "failures": {severity: self.failed(severity) for severity in SEVERITIES},
            "orphans": list(self.orphans),
            "removed": self.removed,
            "rules": [_for_json(one) for one in self.outcomes],
        }


def check(
    store: Store, rules: tuple[Rule, ...] | None = None, *, repair: bool = False, progress: Progress | None = None
) -> Quality:
    """Check a store; ``repair`` removes orphans, and touches nothing else.

    Where the database itself is not sound, rules about the store are asked and no others.

    Raises StoreRejected, and StorageFault when an orphan cannot be removed.
    """
    chosen = default_rules() if rules is None else rules
    with store.reading() as connection:
        lost = relative(store, orphans(store, connection))
        whole = {"orphans": lost, "audit_ok": audit.verify(store) is None, "database_ok": sound(connection)}
        answers = outcomes(chosen, _found(store, connection, whole, progress))
    removed = _repair(store) if repair and lost else 0
    return Quality(answers, tuple(lost), removed)


def _repair(store: Store) -> int:
    """Remove orphans while nobody else can write: what another command is about to enter is none."""
    with store.writing() as connection:
        put_right(store, connection)
        found = orphans(store, connection)
        removed = remove_orphans(found)
        record_action(store, connection, "repair", "store", {"orphans": relative(store, found)})
    return removed


def _found(store: Store, connection: Connection, whole: Facts, progress: Progress | None) -> Iterator[Found]:
    keys = connection.execute(select(tables.subject.c.key).order_by(tables.subject.c.key)).scalars().all()
    yield "store", "store", None, whole | {"subjects": len(keys)}
    if not whole["database_ok"]:
        return  # rows whose references lead nowhere cannot be read as what they should be
    for start in range(0, len(keys), TOGETHER):
        some = keys[start : start + TOGETHER]
        for rows in _by_subject(held(connection, some), some):
            events = {one.event for one in rows.image_series}
            visits = {event: study_files(store.study_folder(event)) for event in sorted(events)}
            runs = {run.id: run_files(store, connection, run.id) for run in rows.run}
            yield from facts_of(Holding(rows, visits, runs))
        if progress is not None:
            progress("check", (start + len(some)) / len(keys))
    yield from _runs_on_nobody(store, connection)


def _by_subject(found: Holdings, keys: Sequence[str]) -> list[Holdings]:
    """What was read of several subjects, as if each had been read alone; a run of several goes to each."""
    own: dict[str, dict[str, list[Any]]] = {key: defaultdict(list) for key in keys}
    runs: dict[str, set[str]] = defaultdict(set)
    for one in found.run_subject:
        runs[one.run].add(one.subject)
    for table, rows in rows_of(found):
        for row in rows:
            owner = row.key if table == "subject" else getattr(row, "subject", None)
            made_by = row.id if table == "run" else getattr(row, "run", None)
            owners = {owner} if owner else runs.get(made_by or "", set())
            for key in owners & own.keys():
                own[key][table].append(row)
    return [Holdings(**{table: tuple(rows) for table, rows in held.items()}) for held in own.values()]


def _runs_on_nobody(store: Store, connection: Connection) -> Iterator[Found]:
    """Runs without a subject: phantoms."""
    named = select(tables.run_subject.c.run)
    for row in connection.execute(select(tables.run).where(tables.run.c.id.not_in(named))).mappings().all():
        run = Run(**row)
        made = connection.execute(select(tables.attempt).where(tables.attempt.c.run == run.id)).mappings().all()
        rows = Holdings(run=(run,), attempt=tuple(Attempt(**one) for one in made))
        yield "run", run.id, None, run_facts(rows, run, run_files(store, connection, run.id))


def _for_json(one: Outcome) -> dict[str, Any]:
    rule = one.rule
    return {
        "id": rule.id,
        "family": rule.family,
        "severity": rule.severity,
        "scope": rule.scope,
        "message": rule.message,
        "source": rule.source,
        "asked": one.asked,
        "not_applicable": one.not_applicable,
        "failures": [asdict(failure) | {"found": dict(failure.found)} for failure in one.failures],
    }
