"""Erasure: everything about a subject goes, down to the bytes; what remains is a tombstone and the audit.

Order (specification A.7): the vault's row; rows in the order of their references; files; VACUUM; then the write-ahead
log is emptied, because VACUUM itself writes into it. A journal in the store says what is being erased until all of it
is done, so that an interrupted erasure is finished by the next one. Out of reach: backups, copies that recipients hold
(they are named), results outside the store, blocks of a disk that were freed but not overwritten.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select
from sqlalchemy.sql import ColumnElement, Select

from ..core.errors import StoreRejected
from ..core.files import write_json
from . import tables
from .audit import record_action, veiled
from .consent import require_subject
from .permissions import OF_FILES, mode_below
from .quality_files import remove_orphans, unfinished
from .reasons import refuse_identity
from .retention import due
from .store import Store, now
from .subject import SubjectKey
from .vault import Vault

JOURNAL = ".erasing.json"
WAIT_FOR_READERS_S = 10.0
"""How long an erasure waits for readers to let go of the write-ahead log. ASSUMED."""

Rows = dict[str, ColumnElement[bool]]


@dataclass(frozen=True)
class Recipient:
    """Who received an export that holds the subject, and must be told."""

    recipient: str
    standard: str
    at: str
    sha256: str


@dataclass(frozen=True)
class Erasure:
    """What an erasure removes, or would remove.

    rows        how many rows go, by table
    files       files and folders below the store that go
    recipients  who holds copies
    pooled      artefacts among whose subjects it was: they are flagged, not rewritten
    in_vault    whether the vault names the subject
    """

    subject: SubjectKey
    reason: str
    rows: Mapping[str, int]
    files: tuple[str, ...]
    recipients: tuple[Recipient, ...]
    pooled: tuple[str, ...]
    in_vault: bool

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Erasure:
        """What a journal holds."""
        lists = {"files": tuple(content["files"]), "pooled": tuple(content["pooled"])}
        told = tuple(Recipient(**one) for one in content["recipients"])
        return cls(**{**content, **lists, "recipients": told})


def erase(
    store: Store, subject: SubjectKey, *, vault: Vault, reason: str = "request", dry_run: bool = False
) -> Erasure:
    """Erase a subject everywhere, or with ``dry_run`` only say what would go.

    An erasure that was interrupted is finished first; asking again for its subject returns what it removed. Raises
    ConfigurationRejected for a subject that the store does not hold or a reason that names one, StoreRejected while
    others read the store.
    """
    with store.reading() as connection:
        refuse_identity(reason, connection, vault)
    if not dry_run and (again := [one for one in finish_interrupted(store, vault=vault) if one.subject == subject]):
        return again[0]
    planned = plan(store, subject, vault=vault, reason=reason)
    if not dry_run:
        _begin_and_carry_out(store, vault, (planned,))
    return planned


def erase_expired(store: Store, *, vault: Vault, dry_run: bool = False) -> tuple[Erasure, ...]:
    """Erase every subject whose retention has passed, or whose withdrawal means erasure by the study's policy."""
    resumed = () if dry_run else finish_interrupted(store, vault=vault)
    planned = tuple(plan(store, one.subject, vault=vault, reason=one.reason) for one in due(store))
    if planned and not dry_run:
        _begin_and_carry_out(store, vault, planned)
    return resumed + planned


def finish_interrupted(store: Store, *, vault: Vault) -> tuple[Erasure, ...]:
    """Finish the erasures that a killed command left; returns what they removed."""
    journal = store.path / JOURNAL
    if not journal.exists():
        return ()
    if not (written := journal.read_text(encoding="utf-8").strip()):
        journal.unlink()  # all was done but this
        return ()
    planned = tuple(Erasure.from_json(one) for one in json.loads(written)["erasing"])
    _carry_out(store, vault, planned)
    return planned


def plan(store: Store, subject: SubjectKey, *, vault: Vault, reason: str = "request") -> Erasure:
    """What an erasure would remove; nothing is touched."""
    with store.reading() as connection:
        require_subject(connection, subject)
        rows = _rows_of(subject)
        counts = {
            name: connection.execute(
                select(func.count()).select_from(tables.metadata.tables[name]).where(which)
            ).scalar_one()
            for name, which in rows.items()
        }
        return Erasure(
            subject,
            reason,
            {name: count for name, count in counts.items() if count},
            tuple(_files_of(connection, store, subject, rows)),
            tuple(_recipients_of(connection, subject)),
            tuple(_pooled_with(connection, subject)),
            vault.holds(subject),
        )


def remains(store: Store, traces: Iterable[str]) -> tuple[str, ...]:
    """Files below the store that still hold one of these words, byte for byte."""
    sought = [word.encode() for word in traces]
    found = []
    for path in sorted(store.path.rglob("*")):
        relative = path.relative_to(store.path).as_posix()
        if any(word in relative.encode() for word in sought) or (path.is_file() and _holds(path, sought)):
            found.append(relative)
    return tuple(found)


def _holds(path: Path, sought: list[bytes], block: int = 1 << 20) -> bool:
    kept, overlap = b"", max(map(len, sought), default=1) - 1
    with open(path, "rb") as handle:
        while data := handle.read(block):
            if any(word in kept + data for word in sought):
                return True
            kept = data[-overlap:] if overlap else b""
    return False


def _begin_and_carry_out(store: Store, vault: Vault, planned: tuple[Erasure, ...]) -> None:
    journal = store.path / JOURNAL
    write_json(journal, {"erasing": [asdict(one) for one in planned]}, private=True)
    journal.chmod(mode_below(store.path) & OF_FILES)  # whoever may erase in this store may finish it
    _carry_out(store, vault, planned)


def _carry_out(store: Store, vault: Vault, planned: tuple[Erasure, ...]) -> None:
    """Every step may have been done already: the journal is removed by the last."""
    for one in planned:
        vault.forget(one.subject)
        _erase_rows(store, one)
        for name in one.files:
            _remove(store.path / name)
    remove_orphans(unfinished(store))  # a killed command may have left files of the subject
    store.compact(wait_s=WAIT_FOR_READERS_S)
    journal = store.path / JOURNAL
    journal.write_bytes(b" " * journal.stat().st_size)
    journal.unlink()


def _erase_rows(store: Store, planned: Erasure) -> None:
    """Rows, tombstone, flags and the entry of the audit: all or nothing."""
    with store.writing() as connection:
        if connection.execute(select(tables.subject.c.key).where(tables.subject.c.key == planned.subject)).first():
            at = now()
            for artefact in _pooled_with(connection, planned.subject):
                connection.execute(insert(tables.flag).values(artefact=artefact, reason="a subject was erased", at=at))
            _delete_rows(connection, planned.subject)
            mac = veiled(store, planned.subject)
            connection.execute(delete(tables.tombstone).where(tables.tombstone.c.mac == mac))
            connection.execute(insert(tables.tombstone).values(mac=mac, at=at, reason=planned.reason))
            detail = {"rows": dict(planned.rows), "reason": planned.reason}
            record_action(store, connection, "erase", planned.subject, detail)


def _delete_rows(connection: Connection, subject: SubjectKey) -> None:
    """Find every row first, then delete: the queries look at each other's tables."""
    found = []
    for name, which in _rows_of(subject).items():
        table = tables.metadata.tables[name]
        above = table.c.get("parent", table.c.get("supersedes"))
        keys = list(table.primary_key.columns)
        rows = connection.execute(select(*keys, *([] if above is None else [above])).where(which)).all()
        found.append((table, keys, rows if above is None else _children_first(rows)))
    for table, keys, rows in found:
        for row in rows:
            connection.execute(delete(table).where(*(column == value for column, value in zip(keys, row))))


def _children_first(rows: Sequence[Any]) -> list[Any]:
    """Rows (id, id of the row above) of one table, each before the row that it names."""
    above = {row[0]: row[1] for row in rows}

    def depth(identity: str) -> int:
        return 0 if above.get(identity) is None else 1 + depth(above[identity])

    return sorted(rows, key=lambda row: -depth(row[0]))


def _rows_of(subject: SubjectKey) -> Rows:
    """Which rows of each table go with a subject, in the order in which they can go."""
    t = tables
    runs = _sole_runs(subject)
    series = select(t.image_series.c.uid).where(t.image_series.c.subject == subject)
    samples = select(t.sample.c.id).where(t.sample.c.subject == subject)
    artefacts = _sole_artefacts(subject)
    about = _mapped(subject)
    only = _only_of(t.export_subject.c.export, t.export_subject.c.subject, subject)
    inputs = t.link.c.series.in_(series) | t.link.c.sample.in_(samples) | t.link.c.artefact.in_(artefacts)
    return {
        "mapping": about,
        "export_subject": t.export_subject.c.subject == subject,
        "export": t.export.c.id.in_(only),
        "prediction": (t.prediction.c.subject == subject) | t.prediction.c.run.in_(runs),
        "observation": (t.observation.c.subject == subject) | t.observation.c.run.in_(runs),
        "link": t.link.c.run.in_(runs) | inputs,
        "attempt": t.attempt.c.run.in_(runs),
        "run_subject": t.run_subject.c.subject == subject,
        "run": t.run.c.id.in_(runs),
        "parameter_set": t.parameter_set.c.sha256.in_(_only_used_by(runs)),
        "flag": t.flag.c.artefact.in_(artefacts),
        "contains": (t.contains.c.subject == subject) | t.contains.c.artefact.in_(artefacts),
        "artefact": t.artefact.c.sha256.in_(artefacts),
        "image_series": t.image_series.c.subject == subject,
        "event": t.event.c.subject == subject,
        "sample": t.sample.c.subject == subject,
        "decision": t.decision.c.subject == subject,
        "consent": t.consent.c.subject == subject,
        "enrolment": t.enrolment.c.subject == subject,
        "subject": t.subject.c.key == subject,
    }


def _only_of(owned: Any, owner: Any, subject: SubjectKey) -> Select[Any]:
    """What belongs to the subject and to nobody else."""
    others = select(owned).where(owner != subject)
    return select(owned).where(owner == subject, owned.not_in(others))


def _sole_runs(subject: SubjectKey) -> Select[Any]:
    return _only_of(tables.run_subject.c.run, tables.run_subject.c.subject, subject)


def _sole_artefacts(subject: SubjectKey) -> Select[Any]:
    """Files with nobody else's data: the subject's alone, or made by the subject's runs and said to hold nobody."""
    held, link = tables.contains.c, tables.link.c
    pooled = select(held.artefact).where(held.share == "pooled")
    alone = _only_of(held.artefact, held.subject, subject).where(held.artefact.not_in(pooled))
    elsewhere = select(link.artefact).where(link.artefact.is_not(None), link.run.not_in(_sole_runs(subject)))
    unclaimed = select(link.artefact).where(
        link.run.in_(_sole_runs(subject)), link.artefact.not_in(select(held.artefact)), link.artefact.not_in(elsewhere)
    )
    chosen = tables.artefact.c.sha256
    return select(chosen).where(chosen.in_(alone) | chosen.in_(unclaimed))


def _only_used_by(runs: Select[Any]) -> Select[Any]:
    parameters, run = tables.run.c.parameters, tables.run.c.id
    return select(parameters).where(run.in_(runs), parameters.not_in(select(parameters).where(run.not_in(runs))))


def _mapped(subject: SubjectKey) -> ColumnElement[bool]:
    """Rows that say what something of the subject is called elsewhere."""
    t, where = tables, tables.mapping.c
    own: Mapping[str, Select[Any]] = {
        "consent": select(t.consent.c.id).where(t.consent.c.subject == subject),
        "sample": select(t.sample.c.id).where(t.sample.c.subject == subject),
        "event": select(t.event.c.id).where(t.event.c.subject == subject),
        "image_series": select(t.image_series.c.uid).where(t.image_series.c.subject == subject),
        "observation": select(t.observation.c.id).where(t.observation.c.subject == subject),
        "prediction": select(t.prediction.c.id).where(t.prediction.c.subject == subject),
        "artefact": _sole_artefacts(subject),
        "run": _sole_runs(subject),
    }
    which = (where.core_id == subject) | (where.external_id == subject)
    for name, ids in own.items():
        which |= (where.core_table == name) & where.core_id.in_(ids)
    return which


def _files_of(connection: Connection, store: Store, subject: SubjectKey, rows: Rows) -> Iterator[str]:
    """Files and folders that go, as paths below the store; only those that exist."""
    events = select(tables.event.c.id).where(tables.event.c.subject == subject, tables.event.c.kind == "imaging")
    studies = connection.execute(events).scalars().all()
    named = {f"studies/{name}" for one in studies for name in (one, f".{one}.before")}
    named |= {f"runs/{run}" for run in connection.execute(_sole_runs(subject)).scalars()}
    uris = select(tables.image_series.c.uri).where(rows["image_series"])
    named |= set(connection.execute(uris).scalars())
    used_by_others = select(tables.artefact.c.uri).where(~rows["artefact"])
    own = select(tables.artefact.c.uri).where(rows["artefact"], tables.artefact.c.uri.not_in(used_by_others))
    named |= set(connection.execute(own).scalars())
    named |= {path.name for path in store.path.glob("oncoscale.sqlite.version-*")}  # copies that a migration kept
    top, chosen = store.path.resolve(), set[str]()
    for name in sorted(named - {""}):
        inside = (top / name).resolve().is_relative_to(top) and (top / name).resolve() != top
        if inside and os.path.lexists(top / name) and not any(name.startswith(f"{above}/") for above in chosen):
            chosen.add(name)
    yield from sorted(chosen)


def _recipients_of(connection: Connection, subject: SubjectKey) -> Iterator[Recipient]:
    export = tables.export.c
    query = (
        select(export.recipient, export.standard, export.at, export.sha256)
        .join(tables.export_subject, tables.export_subject.c.export == export.id)
        .where(tables.export_subject.c.subject == subject)
        .order_by(export.at, export.id)
    )
    yield from (Recipient(*row) for row in connection.execute(query).all())


def _pooled_with(connection: Connection, subject: SubjectKey) -> Iterator[str]:
    """Artefacts that stay although the subject is among those in them."""
    held = tables.contains.c
    query = select(held.artefact).where(held.subject == subject, held.artefact.not_in(_sole_artefacts(subject)))
    yield from connection.execute(query.order_by(held.artefact)).scalars().all()


def _remove(path: Path) -> None:
    """Remove a file or a folder, and the folders above it that become empty (never ``studies`` and ``runs``)."""
    try:
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
    except OSError as error:
        raise StoreRejected(
            f"files of the subject cannot be removed: {os.strerror(error.errno or 0)}",
            "a store that may be written",
            "change its permissions and run the same command again; the erasure goes on where it stopped",
        ) from error
