"""The audit: every action on the store as one chain of hashes, so that an edit, a deletion or a swap shows.

Entry hash = SHA-256 of the previous hash and the canonical JSON of the entry. A tail that was cut off, and a chain that
was rebuilt by whoever owns the database, cannot be seen from inside: heads of the chain, signed with a key of the vault
and kept outside the store, show both. What was added after the last signed head is protected by no signature yet.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from sqlalchemy import Connection, func, insert, select

from ..core.errors import ConfigurationRejected, FileRejected
from ..core.files import canonical_json
from . import acting, tables
from .store import Store, now, user_of
from .vault import Vault

GENESIS = "0" * 64
SIGNED = ("store", "seq", "hash", "at")

Fault = Literal["", "edited", "missing", "moved", "cut", "rebuilt"]


@dataclass(frozen=True)
class SignedHead:
    """The chain as it stood once.

    store       fingerprint of the store
    seq, hash   of its last entry then
    public_key  of the vault that signed, and its signature (Ed25519): hexadecimal digits
    """

    store: str
    seq: int
    hash: str
    at: str
    public_key: str
    signature: str

    def message(self) -> bytes:
        """What the signature is over."""
        return canonical_json({name: getattr(self, name) for name in SIGNED}).encode()

    def is_signed_by(self, public_key: str) -> bool:
        """Whether the holder of this public key signed it."""
        try:
            Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key)).verify(
                bytes.fromhex(self.signature), self.message()
            )
        except (InvalidSignature, ValueError):
            return False
        return True


@dataclass(frozen=True)
class Examined:
    """What an examination of the audit found.

    entries    how many there are
    first_bad  the first entry that is not as it was written; None if the chain is whole
    fault      edited, missing or moved (found by the chain alone); cut or rebuilt (found by a signed head)
    signed     the last entry that a signed head vouches for; None without one
    """

    entries: int
    first_bad: int | None = None
    fault: Fault = ""
    signed: int | None = None


def record_action(
    store: Store,
    connection: Connection,
    action: str,
    about: str,
    detail: Mapping[str, Any] | None = None,
    *,
    role: str = "",
) -> None:
    """Add one entry, inside the transaction of the action that it describes.

    action  ingest, consent, decision, run, show, reidentify, …
    about   a subject key or another identifier; only its HMAC is written
    detail  what was done; only its hash is written
    role    in which it was done; default: the role that this process acts in
    """
    last = connection.execute(
        select(tables.audit.c.seq, tables.audit.c.hash).order_by(tables.audit.c.seq.desc()).limit(1)
    ).first()
    seq, previous = (last.seq + 1, last.hash) if last else (1, GENESIS)
    entry = {
        "seq": seq,
        "at": now(),
        "who": user_of(connection),
        "role": role or acting.role(),
        "action": action,
        "object": veiled(store, about),
        "detail_sha256": sha256(canonical_json(dict(detail or {})).encode()).hexdigest(),
        "prev": previous,
    }
    connection.execute(insert(tables.audit).values(**entry, hash=_entry_hash(entry)))


def veiled(store: Store, about: str) -> str:
    """The HMAC by which the audit and a tombstone call somebody or something."""
    return hmac.new(store.audit_key, about.encode(), sha256).hexdigest()


def verify(store: Store) -> int | None:
    """The first entry that does not follow from the one before it; None if the chain is whole."""
    return examine(store).first_bad


def examine(store: Store, heads: Iterable[SignedHead] = ()) -> Examined:
    """Follow the chain from its beginning, and hold it against heads that were signed earlier."""
    due = {one.seq: one for one in heads if one.store == fingerprint(store)}
    previous, expected, signed = GENESIS, 0, None
    with store.reading() as connection:
        for row in connection.execute(select(tables.audit).order_by(tables.audit.c.seq)).mappings():
            expected += 1
            if fault := _fault(dict(row), expected, previous):
                return Examined(_count(connection), expected, fault, signed)
            previous = row["hash"]
            if (head := due.pop(expected, None)) is not None:
                if head.hash != previous:
                    return Examined(_count(connection), (signed or 0) + 1, "rebuilt", signed)
                signed = expected
    if due:
        return Examined(expected, expected + 1, "cut", signed)
    return Examined(expected, signed=signed)


def head(store: Store) -> tuple[int, str]:
    """(number of entries, hash of the last)."""
    with store.reading() as connection:
        last = connection.execute(
            select(tables.audit.c.seq, tables.audit.c.hash).order_by(tables.audit.c.seq.desc()).limit(1)
        ).first()
    return (last.seq, last.hash) if last else (0, GENESIS)


def sign(store: Store, vault: Vault) -> SignedHead:
    """Sign the chain as it stands and keep the signed head in the vault. An empty one raises ConfigurationRejected."""
    seq, last = head(store)
    if not seq:
        raise ConfigurationRejected("the audit has no entry yet", "something done with the store", "sign it later")
    unsigned = SignedHead(fingerprint(store), seq, last, now(), vault.public_key, "")
    done = SignedHead(**asdict(unsigned) | {"signature": vault.signed(unsigned.message()).hex()})
    vault.keep_head(canonical_json(asdict(done)))
    return done


def heads_of(vault: Vault) -> tuple[SignedHead, ...]:
    """The signed heads that a vault keeps. Raises FileRejected for one that the vault's key did not sign."""
    return checked_heads(vault.heads(), vault.public_key)


def read_heads(path: Path | str, public_key: str = "") -> tuple[SignedHead, ...]:
    """Signed heads from a file, one a line. Raises FileRejected for one that its key, or this key, did not sign."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise _no_heads("cannot be read") from error
    return checked_heads(lines, public_key)


def checked_heads(lines: Iterable[str], public_key: str = "") -> tuple[SignedHead, ...]:
    """Signed heads of their lines; see ``read_heads``."""
    found = []
    for line in filter(str.strip, lines):
        try:
            one = SignedHead(**json.loads(line))
        except (ValueError, TypeError) as error:
            raise _no_heads("has a line that is no signed head") from error
        if not one.is_signed_by(public_key or one.public_key):
            raise _no_heads(f"has a head of entry {one.seq} with a wrong signature")
        found.append(one)
    return tuple(found)


def fingerprint(store: Store) -> str:
    """Says which store a head belongs to, and nothing else about it."""
    return sha256(b"audit of the store" + store.audit_key).hexdigest()[:32]


def entries(store: Store, *, last: int = 20, about: str = "") -> list[dict[str, Any]]:
    """The newest entries, oldest first; only those about one subject or object if it is named."""
    query = select(tables.audit).order_by(tables.audit.c.seq.desc()).limit(last)
    if about:
        query = query.where(tables.audit.c.object == veiled(store, about))
    with store.reading() as connection:
        return [dict(row) for row in reversed(connection.execute(query).mappings().all())]


def _fault(row: Mapping[str, Any], expected: int, previous: str) -> Fault:
    """What is wrong with the entry that stands at a place of the chain."""
    entry = {key: value for key, value in row.items() if key != "hash"}
    if row["seq"] != expected:
        return "missing"
    if row["hash"] == _entry_hash(entry):
        return "" if row["prev"] == previous else "missing"
    beside = range(max(1, expected - _SEARCHED), expected + _SEARCHED)
    was_elsewhere = any(row["hash"] == _entry_hash(entry | {"seq": place}) for place in beside)
    return "moved" if was_elsewhere else "edited"


_SEARCHED = 10_000
"""Places on either side in which an entry's own place is sought, to tell a move from an edit. ASSUMED: enough to name
the fault in words; that there is a fault, and where, does not depend on it."""


def _count(connection: Connection) -> int:
    return int(connection.execute(select(func.count()).select_from(tables.audit)).scalar_one())


def _entry_hash(entry: Mapping[str, Any]) -> str:
    content = json.loads(canonical_json(dict(entry)))
    previous = content.pop("prev")
    return sha256((previous + canonical_json(content)).encode()).hexdigest()


def _no_heads(found: str) -> FileRejected:
    return FileRejected(
        f"the file of signed heads {found}",
        "one line of JSON a head, as `oncoscale audit sign` writes it",
        "use the copy that was kept elsewhere",
    )
