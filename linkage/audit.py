"""The audit: every action on the store as one chain of hashes, so that an edit, a deletion or a swap shows.

Entry hash = SHA-256 of the previous hash and the canonical JSON of the entry. A tail that was cut off cannot be
seen from inside; compare ``head`` with a copy kept elsewhere for that. Whoever owns the database can rebuild
the whole chain: this is a control, not a proof.
"""

from __future__ import annotations

import hmac
import json
import os
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from sqlalchemy import Connection, insert, select

from ..core.files import canonical_json
from . import tables
from .store import Store, now

GENESIS = "0" * 64


def record_action(
    store: Store,
    connection: Connection,
    action: str,
    about: str,
    detail: Mapping[str, Any] | None = None,
    *,
    role: str = "curator",
) -> None:
    """Add one entry, inside the transaction of the action that it describes.

    action  ingest, consent, decision, run, show, reidentify, …
    about   a subject key or another identifier; only its HMAC is written
    detail  what was done; only its hash is written
    """
    last = connection.execute(
        select(tables.audit.c.seq, tables.audit.c.hash).order_by(tables.audit.c.seq.desc()).limit(1)
    ).first()
    seq, previous = (last.seq + 1, last.hash) if last else (1, GENESIS)
    entry = {
        "seq": seq,
        "at": now(),
        "who": f"uid {os.getuid()}",
        "role": role,
        "action": action,
        "object": hmac.new(store.audit_key, about.encode(), sha256).hexdigest(),
        "detail_sha256": sha256(canonical_json(dict(detail or {})).encode()).hexdigest(),
        "prev": previous,
    }
    connection.execute(insert(tables.audit).values(**entry, hash=_entry_hash(entry)))


def verify(store: Store) -> int | None:
    """The first entry that does not follow from the one before it; None if the chain is whole."""
    previous = GENESIS
    with store.reading() as connection:
        rows = connection.execute(select(tables.audit).order_by(tables.audit.c.seq)).mappings().all()
    for expected, row in enumerate(rows, start=1):
        entry = {key: value for key, value in row.items() if key != "hash"}
        if row["seq"] != expected or row["prev"] != previous or row["hash"] != _entry_hash(entry):
            return expected
        previous = row["hash"]
    return None


def head(store: Store) -> tuple[int, str]:
    """(number of entries, hash of the last): keep it elsewhere, and a cut tail will show."""
    with store.reading() as connection:
        last = connection.execute(
            select(tables.audit.c.seq, tables.audit.c.hash).order_by(tables.audit.c.seq.desc()).limit(1)
        ).first()
    return (last.seq, last.hash) if last else (0, GENESIS)


def _entry_hash(entry: Mapping[str, Any]) -> str:
    content = json.loads(canonical_json(dict(entry)))
    previous = content.pop("prev")
    return sha256((previous + canonical_json(content)).encode()).hexdigest()
