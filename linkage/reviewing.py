"""Looking at the results of a run: consent is asked again (specification, linkage C.2 (3): no review without a permit).

By its identity a run is looked up in a store, which is asked. A folder of results is asked about in the store that is
named, else the one in which it lies, else the one from which it was made, whose place relative to the folder stands in
the folder's ``store.json`` and nowhere else. Where none of these can be reached, or the run is on nobody, nobody can
be asked. What a person may see of themselves (``show``, ``access``) is not asked here: that is their right.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

from sqlalchemy import select

from ..core.errors import ConsentDenied, StoreRejected
from ..core.files import write_json
from . import tables
from .audit import veiled
from .consent import decide, denied, why_denied
from .record import FoundRun, find_run
from .store import Store, store_around
from .subject import SubjectKey

NAMED_IN = "store.json"
CATEGORIES = ("imaging", "simulation")


def name_store(folder: Path, store: Store, place: Path) -> None:
    """Write into a folder of results from which store they were made.

    place  where the folder will stand, if it is not there yet

    A store on PostgreSQL is not named: its address would tell a user's name.
    """
    if store.engine.dialect.name == "sqlite":
        write_json(folder / NAMED_IN, {"store": os.path.relpath(store.path.resolve(), place.resolve())})


def reviewed(name: str, store: Path | None) -> FoundRun:
    """A run to be looked at, by the folder of its results or by its identity in a store.

    That consent was asked goes on record where the store can be written. Raises ConsentDenied where it does not cover
    this any more or the subject was erased, StoreRejected for a run that is not found.
    """
    folder = Path(name)
    place = store or (store_around(folder) or _named_in(folder) if folder.is_dir() else None)
    found = find_run(None if place is None else Store.open(place, read_only=True), name)
    if place is not None and found.record.subject is not None:
        _ask(place, found.record.subject)
    return found


def _named_in(folder: Path) -> Path | None:
    """The store from which a folder was made, where it can be reached."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        place = folder / json.loads((folder / NAMED_IN).read_text(encoding="utf-8"))["store"]
        return place if os.access(place / "oncoscale.sqlite", os.R_OK) else None
    return None


def _ask(place: Path, subject: SubjectKey) -> None:
    """Raise ConsentDenied unless this may be looked at; a subject that the store never held is not its to ask about."""
    store = Store.open(place, read_only=True)
    with store.reading() as connection:
        if connection.execute(select(tables.subject.c.key).where(tables.subject.c.key == subject)).first() is None:
            if connection.execute(select(tables.tombstone).filter_by(mac=veiled(store, subject))).first():
                raise ConsentDenied("the subject was erased", "a subject that the store holds", "remove the results")
            return
        reason = why_denied(connection, subject, "HRESCH", CATEGORIES)
    try:
        decide(Store.open(place), subject, "review", categories=CATEGORIES)
    except StoreRejected as refused:
        if "read-only" not in refused.found:
            raise
    if reason:
        raise denied(reason, "review")
