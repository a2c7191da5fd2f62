"""The audit: whatever is done to the chain behind its back is located; signed heads show what a chain cannot."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from sqlalchemy import select

from oncoscale.core.errors import ConfigurationRejected, FileRejected
from oncoscale.linkage import audit, tables
from oncoscale.linkage.acting import acting_as
from oncoscale.linkage.audit import Examined, SignedHead, examine, heads_of, read_heads, sign
from oncoscale.linkage.store import Store
from oncoscale.linkage.vault import Vault

EDIT = "UPDATE audit SET role = 'viewer' WHERE seq = 3"
DELETE = "DELETE FROM audit WHERE seq = 3"
CLOSE_THE_GAP = "DELETE FROM audit WHERE seq = 3; UPDATE audit SET seq = seq - 1 WHERE seq > 3"
SWAP = "; ".join(f"UPDATE audit SET seq = {new} WHERE seq = {old}" for old, new in ((3, -3), (4, 3), (-3, 4)))
CUT = "DELETE FROM audit WHERE seq > 4"


@pytest.fixture
def acted(store: Store) -> Store:
    """A store on which six things were done."""
    act(store, 6)
    return store


def act(store: Store, times: int) -> None:
    with store.writing() as connection:
        for number in range(times):
            audit.record_action(store, connection, "show", f"P-{number}", role="curator")


def behind_its_back(store: Store, script: str) -> None:
    """Change the chain as the owner of the database could."""
    with sqlite3.connect(store.path / "oncoscale.sqlite") as connection:
        connection.executescript(f"DROP TRIGGER IF EXISTS audit_is_final; DROP TRIGGER IF EXISTS audit_stays; {script}")


def rebuild(store: Store) -> None:
    """What a forger does: change an entry, and compute every later hash anew."""
    with sqlite3.connect(store.path / "oncoscale.sqlite") as connection:
        connection.row_factory = sqlite3.Row
        connection.executescript("DROP TRIGGER audit_is_final; DROP TRIGGER audit_stays; " + EDIT)
        previous = audit.GENESIS
        for row in connection.execute("SELECT * FROM audit ORDER BY seq").fetchall():
            entry = {**dict(row), "prev": previous}
            entry.pop("hash")
            previous = audit._entry_hash(entry)
            connection.execute(
                "UPDATE audit SET prev = ?, hash = ? WHERE seq = ?", (entry["prev"], previous, row["seq"])
            )


@pytest.mark.parametrize(
    ("script", "found"),
    [
        (EDIT, Examined(6, 3, "edited")),
        (DELETE, Examined(5, 3, "missing")),
        (CLOSE_THE_GAP, Examined(5, 3, "moved")),
        (SWAP, Examined(6, 3, "moved")),
        ("DELETE FROM audit WHERE seq = 1", Examined(5, 1, "missing")),
    ],
)
def test_edits_deletions_and_swaps_are_located(acted: Store, script: str, found: Examined):
    """The first entry that is not as it was written, and what was done to it."""
    assert examine(acted) == Examined(6)
    behind_its_back(acted, script)
    assert examine(acted) == found


def test_a_cut_tail_is_found_by_the_signed_head_alone(acted: Store, vault: Vault):
    """The rest of a cut chain is whole in itself; a head that was signed before says what is missing."""
    sign(acted, vault)
    behind_its_back(acted, CUT)
    assert examine(acted) == Examined(4)
    assert examine(acted, heads_of(vault)) == Examined(4, 5, "cut")


def test_a_rebuilt_chain_is_found_by_the_signed_head_alone(store: Store, vault: Vault):
    """A forger who owns the database makes a whole chain, but not the one that was signed."""
    act(store, 2)
    sign(store, vault)
    act(store, 4)
    sign(store, vault)
    assert examine(store, heads_of(vault)) == Examined(6, signed=6)
    rebuild(store)
    assert examine(store) == Examined(6)
    assert examine(store, heads_of(vault)) == Examined(6, 3, "rebuilt", signed=2)


def test_a_signed_head_is_kept_elsewhere_and_cannot_be_made_without_the_key(acted: Store, vault: Vault, tmp_path: Path):
    """A copy outside the vault serves as well; a changed one, or one signed by another key, is refused."""
    made = sign(acted, vault)
    copy = tmp_path / "head.json"
    copy.write_text(json.dumps(asdict(made)) + "\n")
    assert read_heads(copy, vault.public_key) == (made,)
    for forged in (replace(made, seq=5), replace(made, hash="0" * 64)):
        copy.write_text(json.dumps(asdict(forged)))
        with pytest.raises(FileRejected, match="wrong signature"):
            read_heads(copy)
    other = sign(acted, Vault.open(tmp_path / "other"))
    copy.write_text(json.dumps(asdict(other)))
    assert read_heads(copy) == (other,)
    with pytest.raises(FileRejected, match="wrong signature"):
        read_heads(copy, vault.public_key)
    copy.write_text("no head")
    with pytest.raises(FileRejected, match="no signed head"):
        read_heads(copy)


def test_a_head_of_another_store_says_nothing(acted: Store, vault: Vault, tmp_path: Path):
    """One vault signs for several stores; each is held against its own heads."""
    other = Store.open(tmp_path / "other-store", create=True)
    act(other, 9)
    sign(other, vault)
    assert examine(acted, heads_of(vault)) == Examined(6)


def test_an_empty_audit_is_not_signed(store: Store, vault: Vault):
    """There is nothing to vouch for."""
    with pytest.raises(ConfigurationRejected, match="no entry"):
        sign(store, vault)


def test_who_acts_and_in_which_role_is_written(store: Store):
    """A role that the process acts in is the role of its entries, unless an entry states its own."""
    with acting_as("analyst"):
        act(store, 1)
        with store.writing() as connection:
            audit.record_action(store, connection, "show", "x")
    with store.reading() as connection:
        rows = connection.execute(select(tables.audit.c.role, tables.audit.c.who).order_by(tables.audit.c.seq)).all()
    assert [row.role for row in rows] == ["curator", "analyst"]
    assert rows[0].who.startswith("uid ")


def test_entries_about_one_subject_are_found_by_its_keyed_hash(acted: Store):
    """The chain names nobody, and still answers who looked at a subject."""
    found = audit.entries(acted, about="P-4")
    assert [row["seq"] for row in found] == [5]
    assert "P-4" not in json.dumps(found)
    assert [row["seq"] for row in audit.entries(acted, last=2)] == [5, 6]


def test_the_signing_key_serves_nothing_else(vault: Vault, vault_folder: Path):
    """It is a file of its own, for its owner's eyes; the project key signs nothing."""
    made = SignedHead("s", 1, "h", "t", vault.public_key, "")
    assert oct((vault_folder / "audit.key").stat().st_mode & 0o777) == "0o600"
    assert (vault_folder / "audit.key").read_bytes() != (vault_folder / "project.key").read_bytes()
    assert replace(made, signature=vault.signed(made.message()).hex()).is_signed_by(vault.public_key)
    assert not made.is_signed_by("no key")
