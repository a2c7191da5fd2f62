"""Retention: the rules of the study that a store serves, and which subjects must go by them.

A subject is due when the retention of the study has passed, or when the consent is withdrawn and the study's policy for
that is erasure (``on_withdrawal``: keep or erase).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from sqlalchemy import func, select, update

from ..core.errors import ConfigurationRejected
from ..core.files import canonical_json
from . import tables
from .audit import record_action
from .consent import ACT_REASON, PURPOSES, consent_on_record
from .store import PROJECT, Store, attributes_of_project, code_id, now
from .subject import SubjectKey

ON_WITHDRAWAL = ("keep", "erase")


@dataclass(frozen=True)
class Rules:
    """What rules the store.

    purpose          code of consent.PURPOSES
    retention_until  ISO date, the last day on which data are kept
    small_cell_k     fewer subjects than this are not shown as a group
    on_withdrawal    keep: past results stay; erase: ``erase --expired`` takes the subject
    """

    title: str
    purpose: str
    legal_basis: str
    retention_until: str
    small_cell_k: int
    on_withdrawal: str


@dataclass(frozen=True)
class Due:
    """A subject that must go, and why: retention or withdrawn."""

    subject: SubjectKey
    reason: str


def rules(store: Store) -> Rules:
    """The rules of the store's study."""
    with store.reading() as connection:
        row = connection.execute(
            select(tables.study, tables.code.c.code.label("purpose_code"))
            .join(tables.code, tables.study.c.purpose == tables.code.c.id)
            .where(tables.study.c.id == PROJECT)
        ).mappings().one()  # fmt: skip
        policy = attributes_of_project(connection).get("on_withdrawal", "keep")
    kept = {name: row[name] for name in ("title", "legal_basis", "retention_until", "small_cell_k")}
    return Rules(purpose=row["purpose_code"], on_withdrawal=policy, **kept)


def change_rules(store: Store, **changed: Any) -> Rules:
    """Change rules by their names (see Rules), on record. Raises ConfigurationRejected for a value that is none."""
    _refuse_wrong(changed)
    with store.writing() as connection:
        values = {name: value for name, value in changed.items() if name not in ("purpose", "on_withdrawal")}
        if "purpose" in changed:
            values["purpose"] = code_id(connection, ACT_REASON, changed["purpose"], PURPOSES[changed["purpose"]])
        if "on_withdrawal" in changed:
            attributes = {**attributes_of_project(connection), "on_withdrawal": changed["on_withdrawal"]}
            values["attributes"] = canonical_json(attributes)
        if values:
            connection.execute(update(tables.study).where(tables.study.c.id == PROJECT).values(**values))
            record_action(store, connection, "rules", PROJECT, changed)
    return rules(store)


def due(store: Store) -> tuple[Due, ...]:
    """Subjects whose data must go, by key."""
    ruling = rules(store)
    with store.reading() as connection:
        keys = connection.execute(select(tables.subject.c.key).order_by(tables.subject.c.key)).scalars().all()
    if now()[:10] > ruling.retention_until:
        return tuple(Due(SubjectKey(key), "retention") for key in keys)
    if ruling.on_withdrawal == "keep":
        return ()
    newest = {key: consent_on_record(store, SubjectKey(key)) for key in keys}
    return tuple(Due(SubjectKey(key), "withdrawn") for key, one in newest.items() if one and one.status == "withdrawn")


def tombstones(store: Store) -> int:
    """How many subjects were erased."""
    with store.reading() as connection:
        return connection.execute(select(func.count()).select_from(tables.tombstone)).scalar_one()


def _refuse_wrong(changed: Mapping[str, Any]) -> None:
    def refuse(what: str, expected: str) -> ConfigurationRejected:
        return ConfigurationRejected(f"{what} {changed[what]!r} is no rule", expected, "correct it")

    if unknown := changed.keys() - Rules.__dataclass_fields__.keys():
        raise ConfigurationRejected(f"no such rule: {sorted(unknown)[0]}", ", ".join(Rules.__dataclass_fields__), "")
    if "purpose" in changed and changed["purpose"] not in PURPOSES:
        raise refuse("purpose", "one of " + ", ".join(PURPOSES))
    if "on_withdrawal" in changed and changed["on_withdrawal"] not in ON_WITHDRAWAL:
        raise refuse("on_withdrawal", "keep or erase")
    if "small_cell_k" in changed and not (isinstance(changed["small_cell_k"], int) and changed["small_cell_k"] >= 1):
        raise refuse("small_cell_k", "a whole number from 1 on")
    for name in ("title", "legal_basis"):
        if name in changed and not str(changed[name]).strip():
            raise refuse(name, "words")
    if "retention_until" in changed:
        try:
            date.fromisoformat(str(changed["retention_until"]))
        except ValueError:
            raise refuse("retention_until", "a date like 2034-01-31") from None
