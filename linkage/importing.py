"""Import: subjects, samples, events and observations from a metadata standard into the store.

A subject keeps the pseudonym that the file gives it if it is one of this store's; any other name is taken for the
sender's own, becomes a pseudonym by the vault's key and is entered nowhere else. Identifiers of samples and events are
renamed by the same key, so that the same file twice enters once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sqlalchemy import Connection, insert, select, update
from sqlalchemy.dialects.sqlite import insert as insert_or
from sqlalchemy.exc import IntegrityError

from ..core.errors import ConfigurationRejected, FileRejected
from ..core.files import canonical_json
from . import core, tables
from .audit import record_action
from .core import Enrolment, Holdings, Observation
from .holding import take_in
from .known_subjects import counted_anew, days_to_add, kept_as_they_are
from .standards import Gap, Read, readable
from .store import PROJECT, Store, attributes_of_project, now
from .vault import Vault

PSEUDONYM = re.compile(r"P-[A-Z2-7]{16}")
FROM_OUTSIDE = ("biobank", "collection", "subject", "enrolment", "consent", "sample", "event", "observation")
"""Tables that an import may fill. Images come by ingest, runs and predictions by being run here."""

RENAMED: Mapping[str, str] = {"sample": "S", "event": "E", "observation": "O", "consent": "C"}
"""Tables whose identifiers are renamed, and the letter that the new ones begin with."""


@dataclass(frozen=True)
class Imported:
    """What an import did.

    subjects  pseudonyms, in the order of the file
    entered   rows that are new, by table
    gaps      what was not understood or not taken, and how often
    """

    standard: str
    version: str
    subjects: tuple[str, ...]
    entered: Mapping[str, int]
    gaps: tuple[Gap, ...]


def import_file(
    store: Store, path: Path | str, *, standard_name: str, vault: Vault, site: str = "site1", dry_run: bool = False
) -> Imported:
    """Read a file or folder of a standard into the store, whole or not at all.

    dry_run  everything, the database's own checks among it, except that nothing stays

    Raises FileRejected for a file that is not of the standard, ConfigurationRejected for a standard that cannot be
    read, or a vault that is not the store's.
    """
    chosen = readable(standard_name)
    if chosen is None:
        raise ConfigurationRejected(f"{standard_name} cannot be read", "a standard that can", "see --help")
    found = chosen.read(Path(path))
    return enter(store, found, standard_name=chosen.NAME, version=chosen.VERSION, vault=vault, site=site,
                 dry_run=dry_run)  # fmt: skip


def enter(
    store: Store, found: Read, *, standard_name: str, version: str, vault: Vault, site: str, dry_run: bool = False
) -> Imported:
    """Enter what was read; see ``import_file``."""
    names = {one.key: pseudonym(vault, site, one.key) for one in found.holdings.subject}
    with store.reading() as connection:
        images = _images_held(connection, vault, found.holdings.observation)
        added = days_to_add(connection, vault, found, names)
        kept = kept_as_they_are(connection, found.holdings.subject, names, added)
    renamed, mapped = _renamed(counted_anew(taken(found.holdings), added), names, vault, images)
    gaps = (*found.gaps, *_not_taken(found.holdings), *kept)
    of = (standard_name, version)
    entering = partial(_enter_all, renamed=renamed, mapped=mapped, gaps=gaps, of=of, vault=vault, subjects=len(names))
    if dry_run:
        return Imported(standard_name, version, tuple(names.values()), _rehearsed(store, entering), gaps)
    with _refusals(), store.writing() as connection:
        entered = entering(store, connection)
    vault.remember_all({key: local for local, key in names.items() if local != key}, site)
    return Imported(standard_name, version, tuple(names.values()), entered, gaps)


class _Rehearsed(Exception):
    """Ends a transaction whose rows the database has accepted, so that none of them stays."""


def _rehearsed(store: Store, entering: Callable[[Store, Connection], dict[str, int]]) -> dict[str, int]:
    """What would be entered, by the database's own checks, in a transaction that is rolled back.

    A store that is not there yet is not made: an empty one, thrown away afterwards, stands for it.
    """
    entered: dict[str, int] = {}
    with _there_or_empty(store) as stage, suppress(_Rehearsed), _refusals(), stage.writing() as connection:
        entered = entering(stage, connection)
        raise _Rehearsed
    return entered


@contextmanager
def _there_or_empty(store: Store) -> Iterator[Store]:
    if store.engine.dialect.name == "postgresql" or (store.path / "oncoscale.sqlite").is_file():
        yield store
    else:
        with TemporaryDirectory() as folder:
            yield Store.open(Path(folder) / "store", create=True)


def _enter_all(
    store: Store,
    connection: Connection,
    renamed: Holdings,
    mapped: Mapped,
    gaps: tuple[Gap, ...],
    of: tuple[str, str],
    vault: Vault,
    subjects: int,
) -> dict[str, int]:
    """Rows, what they were called, what was lost, and the entry of the audit; returns how many rows, by table."""
    standard_name, version = of
    _require_key_of_store(connection, vault)
    entered = take_in(connection, _enrolled(renamed))
    for (entity, core_table, core_id), external in mapped.items():
        row = {"entity": entity, "core_table": core_table, "core_id": core_id, "external_id": external}
        connection.execute(
            insert_or(tables.mapping).values(standard=standard_name, version=version, **row).on_conflict_do_nothing()
        )
    for gap in gaps:
        said = {"path": gap.path, "reason": gap.reason, "n": gap.n, "at": now()}
        connection.execute(
            insert(tables.gap).values(direction="import", standard=standard_name, version=version, **said)
        )
    record_action(store, connection, "import", standard_name, {"subjects": subjects, "entered": entered})
    return entered


@contextmanager
def _refusals() -> Iterator[None]:
    """What the database refuses, as FileRejected."""
    try:
        yield
    except IntegrityError as error:
        broken = str(error.orig).splitlines()[0]  # the lines after it may hold values
        raise FileRejected(
            f"rows that the store cannot hold: {broken}",
            "references that lead to rows of the same file or of the store, and values within the core's lists",
            "mend the file; nothing of it was entered",
        ) from error


def taken(holdings: Holdings) -> Holdings:
    """The tables that an import may fill; of the events, those that have a time."""
    timed = tuple(one for one in holdings.event if one.day is not None or one.age_d is not None)
    return Holdings(**{table: getattr(holdings, table) for table in FROM_OUTSIDE} | {"event": timed})


def _not_taken(holdings: Holdings) -> tuple[Gap, ...]:
    reason = "not taken by an import: images come by ingest, runs and predictions by being run here"
    left = {table: held for table, held in core.rows(holdings) if held and table not in (*FROM_OUTSIDE, "study")}
    untimed = len(holdings.event) - len(taken(holdings).event)
    timeless = (Gap("event.*", "not taken by an import: neither a day nor an age", untimed),) if untimed else ()
    return (*(Gap(f"{table}.*", reason, len(held)) for table, held in left.items()), *timeless)


def pseudonym(vault: Vault, site: str, name: str) -> Any:
    """What a subject is called here: the pseudonym that a file gives, or that of the sender's own name."""
    return name if PSEUDONYM.fullmatch(name) else vault.subject_key(site, name)


Mapped = Mapping[tuple[str, str, str], str]
Images = Mapping[str, tuple[str, str, int | None]]
"""For the UID that a file gives a series: the series that the store holds, its subject and the day of its visit."""


def _images_held(connection: Connection, vault: Vault, observations: Iterable[Observation]) -> Images:
    """The series that observations name and the store holds, by the sender's UID or by the store's own."""
    given = {one.series: (one.series, vault.mapped_uid(one.series)) for one in observations if one.series}
    series, event = tables.image_series.c, tables.event.c
    held = {}
    for uid, either in given.items():
        query = select(series.uid, series.subject, event.day).join_from(tables.image_series, tables.event)
        row = connection.execute(query.where(series.uid.in_(either))).first()
        if row is not None:
            held[uid] = (row.uid, row.subject, row.day)
    return held


def _renamed(holdings: Holdings, names: Mapping[str, Any], vault: Vault, images: Images) -> tuple[Holdings, Mapped]:
    """The rows by the store's own identifiers, and what each was called, as keyed hashes."""
    ids = {
        table: {one.id: identifier(vault, letter, table, one) for one in getattr(holdings, table)}
        for table, letter in RENAMED.items()
    }
    parents: Mapping[str, Mapping[str, str]] = {"sample": ids["sample"], "event": ids["event"]}
    new = {
        table: tuple(_rename(one, table, names, ids, parents, images) for one in held)
        for table, held in core.rows(holdings)
    }
    mapped = {
        (table, table, given): vault.keyed_hash(f"{table} {called}")
        for table, of_table in ids.items()
        for called, given in of_table.items()
        if called != given
    }
    return Holdings(**new), mapped


def identifier(vault: Vault, letter: str, table: str, one: Any) -> str:
    """What a row is called here: the identifier of ours that it has, or a keyed hash of its subject's and its own."""
    if re.fullmatch(rf"[{letter}T]-[0-9A-Za-z]{{16,32}}", one.id):
        return str(one.id)
    return f"{letter}-{vault.keyed_hash(f'{table} {one.subject} {one.id}')[:32]}"


def _rename(
    one: Any,
    table: str,
    names: Mapping[str, Any],
    ids: Mapping[str, Mapping[str, str]],
    parents: Mapping[str, Any],
    images: Images,
) -> Any:
    change: dict[str, Any] = {}
    has = {field.name for field in fields(one)}
    if table == "subject":
        change["key"] = names[one.key]
    elif "subject" in has:
        change["subject"] = names.get(one.subject, one.subject)
    if table in ids:
        change["id"] = ids[table][one.id]
    if table in parents and one.parent is not None:
        change["parent"] = parents[table].get(one.parent)
    if table == "consent" and one.supersedes is not None:
        change["supersedes"] = ids["consent"].get(one.supersedes)
    if table == "observation":
        # What it was computed from stays with the sender, except images that the store holds of the same subject.
        change |= dict.fromkeys(("software", "run", "artefact"))
        change["sample"] = ids["sample"].get(one.sample or "")
        uid, owner, day = images.get(one.series or "", (None, None, None))
        change["series"] = uid if owner == change["subject"] else None
        change["day"] = day if one.day is None and change["series"] else one.day
    if table in ("enrolment", "consent"):
        change["study"] = PROJECT
    return replace(one, **change)


def _enrolled(holdings: Holdings) -> Holdings:
    """Every subject takes part in the store's study."""
    there = {one.subject for one in holdings.enrolment}
    more = tuple(Enrolment(one.key, PROJECT) for one in holdings.subject if one.key not in there)
    return replace(holdings, enrolment=(*holdings.enrolment, *more))


def _require_key_of_store(connection: Connection, vault: Vault) -> None:
    """The store's subjects were named with this vault's key; the first import leaves its fingerprint."""
    attributes = dict(attributes_of_project(connection))
    known = attributes.setdefault("key_fingerprint", vault.fingerprint)
    if known != vault.fingerprint:
        raise ConfigurationRejected(
            "the store's subjects were named with another key",
            "the vault that the store was made with",
            "set ONCOSCALE_VAULT to it",
        )
    where = tables.study.c.id == PROJECT
    if connection.execute(select(tables.study.c.attributes).where(where)).scalar_one() != canonical_json(attributes):
        connection.execute(update(tables.study).where(where).values(attributes=canonical_json(attributes)))
