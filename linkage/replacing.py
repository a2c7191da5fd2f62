"""A visit's files that take the place of others: those of before stay beside until the database speaks of the new ones.

A command that is killed in between leaves both. Which of them holds is what the database says: the account of a visit
(``study.json``) names the ingest that it came by, and so does the visit's row.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from . import tables
from .store import Store
from .visit import imaging_events


def folder_of_before(store: Store, study: str) -> Path:
    """Where the files of before are while others take their place."""
    return store.path / "studies" / f".{study}.before"


def is_interrupted(store: Store) -> bool:
    """Whether some files of before are still there."""
    return any((store.path / "studies").glob(".T-*.before"))


def put_right(store: Store, connection: Connection) -> int:
    """Finish what killed commands left: keep the files that the database speaks of; returns of how many visits.

    Call it inside a transaction that holds the store's lock, so that no other command is in the middle of it.
    """
    done = 0
    for before in sorted((store.path / "studies").glob(".T-*.before")):
        study = before.name[1 : -len(".before")]
        row = connection.execute(imaging_events().where(tables.event.c.id == study)).first()
        if row is None:
            continue  # an orphan, as what lies in its place is
        final = store.study_folder(study)
        if _ingest_of(final) != json.loads(row.attributes)["source"]:
            shutil.rmtree(final, ignore_errors=True)
            os.replace(before, final)
        else:
            shutil.rmtree(before)
        done += 1
    return done


def _ingest_of(folder: Path) -> Any:
    """Which ingest the files of a visit came by; None if the account does not say."""
    try:
        return json.loads((folder / "study.json").read_text(encoding="utf-8")).get("source")
    except (OSError, ValueError, AttributeError):
        return None
