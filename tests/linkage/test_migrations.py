"""A store of version 1 becomes one of this version: the same as a new one, with every row, or it stays as it was."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import select

from oncoscale.core.errors import StoreRejected
from oncoscale.linkage import audit, tables
from oncoscale.linkage.consent import consent_on_record
from oncoscale.linkage.erasing import erase, remains
from oncoscale.linkage.migrations import Migrated, migrate, steps_from
from oncoscale.linkage.record import show
from oncoscale.linkage.store import APPLICATION_ID, SCHEMA_VERSION, Store
from oncoscale.linkage.subject import SubjectKey
from oncoscale.linkage.vault import Vault

SUBJECT = SubjectKey("P-HNU76GYAPKGZMXDN")
DDL = (Path(__file__).parent / "version_1.sql").read_text()
ROWS = f"""
INSERT INTO code VALUES (1, 'http://terminology.hl7.org/CodeSystem/v3-ActReason', '', 'HRESCH', 'healthcare research'),
  (2, 'http://snomed.info/sct', '', '337915000', 'Homo sapiens'),
  (3, 'http://snomed.info/sct', '', '363679005', 'Imaging'),
  (4, 'http://dicom.nema.org/resources/ontology/DCM', '', 'MR', 'MR'),
  (5, 'urn:oncoscale:quantity', '', 'tumour-volume', 'tumour volume'), (6, 'http://unitsofmeasure.org', '', 'mL', 'mL');
INSERT INTO study VALUES ('project', 'project', 1, 'consent', '9999-12-31', 5, 1, '{{}}');
INSERT INTO subject VALUES ('{SUBJECT}', 'site1', 2, 'female', 730, 'first-imaging');
INSERT INTO enrolment VALUES ('{SUBJECT}', 'project');
INSERT INTO consent VALUES ('C-1', '{SUBJECT}', 'project', 'active', 'consent', '["HRESCH"]', '["imaging"]',
  '2024-01-31', NULL, '{"a" * 64}', '2024-01-31T00:00:00.000Z', NULL, NULL);
INSERT INTO decision VALUES ('D-1', '{SUBJECT}', 'run', 1, '["imaging"]', 'C-1', '0', 'permit', '',
  '2024-02-01T00:00:00Z');
INSERT INTO event VALUES ('T-1', '{SUBJECT}', 'imaging', 0, NULL, NULL, 3, NULL, '{{"source": "x"}}');
INSERT INTO image_series VALUES ('2.25.1', '2.25.2', '{SUBJECT}', 'T-1', 4, NULL, NULL, NULL, 'original', '{{}}', 9,
  'h', 'd', 'studies/T-1/images');
INSERT INTO software VALUES ('oncoscale-0', 'oncoscale', '0', 'c', NULL);
INSERT INTO parameter_set VALUES ('p', 's', '{{}}');
INSERT INTO run VALUES ('r', 'forecast', 'oncoscale-0', 'p', 'i', '1', NULL);
INSERT INTO run_subject VALUES ('r', '{SUBJECT}', 'D-1');
INSERT INTO attempt VALUES ('r', 1, 'done', NULL, '2024-02-01T00:00:00Z', 'e', 'o', NULL);
INSERT INTO artefact VALUES ('f', 'forecast', 'simulated', 'application/json', 5, 'runs/r/1/forecast.json', NULL, NULL);
INSERT INTO contains VALUES ('f', '{SUBJECT}', 'sole');
INSERT INTO link VALUES (1, 'r', 1, 'used', 'series/2.25.1', NULL, '2.25.1'),
  (2, 'r', 1, 'generated', 'forecast.json', 'f', NULL);
INSERT INTO prediction VALUES ('F-1', 'r', '{SUBJECT}', 5, 28, 61.5, 58.0, 66.0, 0.9, 6, NULL, 'preliminary');
"""


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A store as version 1 made it, with one subject, one forecast and one entry of the audit."""
    folder = tmp_path / "old"
    for name in ("studies/T-1", "runs/r/1"):
        (folder / name).mkdir(parents=True)
    (folder / "audit.key").write_bytes(bytes(32))
    with sqlite3.connect(folder / "oncoscale.sqlite") as made:
        made.execute("PRAGMA journal_mode=WAL")
        made.executescript(f"PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version=1; {DDL}; {ROWS}")
        entry = {"seq": 1, "at": "2024-01-31T00:00:00.000Z", "who": "uid 0", "role": "curator", "action": "ingest"}
        entry |= {"object": "o", "detail_sha256": "d", "prev": audit.GENESIS}
        row = (*entry.values(), audit._entry_hash(entry))
        made.execute(f"INSERT INTO audit VALUES ({', '.join('?' * len(row))})", row)
    made.close()
    return folder


def schema(database: Path) -> dict[str, str]:
    """What the database says of its own tables, indexes and rules, less blanks and quotes."""
    with sqlite3.connect(database) as opened:
        rows = opened.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    opened.close()
    return {name: re.sub(r"""[\s"]""", "", sql) for name, sql in rows}


def contents(database: Path) -> dict[str, list[tuple[object, ...]]]:
    """Every row of every table."""
    with sqlite3.connect(database) as opened:
        names = [row[0] for row in opened.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        found = {name: sorted(opened.execute(f"SELECT * FROM {name}").fetchall(), key=str) for name in names}
    opened.close()
    return found


def test_an_old_store_is_refused_with_the_command_that_helps(old: Path):
    """Nothing is guessed: the store does not open, and the error says how to bring it to this version."""
    with pytest.raises(StoreRejected, match="oncoscale migrate"):
        Store.open(old)


def test_a_migrated_store_is_what_a_new_one_is(old: Path, store: Store):
    """The same tables, checks, indexes and rules; and the store opens."""
    assert migrate(old) == Migrated(1, SCHEMA_VERSION, tuple(steps_from(1)), "oncoscale.sqlite.version-1")
    assert schema(old / "oncoscale.sqlite") == schema(store.path / "oncoscale.sqlite")
    assert migrate(old) == Migrated(SCHEMA_VERSION, SCHEMA_VERSION, ())


def test_a_store_of_version_2_is_brought_on_too(old: Path, store: Store):
    """Version 2 as it was made then, empty: the same schema in the end."""
    database = old / "oncoscale.sqlite"
    database.unlink()
    with sqlite3.connect(database) as made:
        made.execute("PRAGMA journal_mode=WAL")
        statements = (Path(__file__).parent / "version_2.sql").read_text()
        made.executescript(f"PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version=2; {statements};")
    made.close()
    assert migrate(old) == Migrated(2, SCHEMA_VERSION, tuple(steps_from(2)), "oncoscale.sqlite.version-2")
    assert schema(database) == schema(store.path / "oncoscale.sqlite")
    assert audit.examine(Store.open(old)) == audit.Examined(1)


def test_every_row_is_kept(old: Path):
    """What was held is held: rows, chain of the audit, consent, forecast; new columns are empty."""
    before = contents(old / "oncoscale.sqlite")
    migrate(old)
    after = contents(old / "oncoscale.sqlite")
    for table, rows in before.items():
        assert [row[: len(rows[0])] for row in after[table]][: len(rows)] == rows, table
    store = Store.open(old)
    assert show(store, SUBJECT)["predictions"][0]["value"] == 61.5
    assert consent_on_record(store, SUBJECT).status == "active"
    assert audit.examine(store) == audit.Examined(2)
    assert audit.entries(store)[-1]["action"] == "migrate"


def test_a_dry_run_tries_it_on_a_copy(old: Path):
    """It says what would be done, and leaves every byte."""
    before = (old / "oncoscale.sqlite").read_bytes()
    assert migrate(old, dry_run=True) == Migrated(1, SCHEMA_VERSION, tuple(steps_from(1)))
    assert (old / "oncoscale.sqlite").read_bytes() == before
    assert not list(old.glob("*version-1"))


@pytest.mark.parametrize("damage", ["DELETE FROM run", "UPDATE subject SET key = 'P-A NAME OF 18 CHR'"])
def test_a_store_that_does_not_fit_stays_as_it_was(old: Path, damage: str):
    """References that lead nowhere, or a key that is no pseudonym: refused, and not one row is changed."""
    with sqlite3.connect(old / "oncoscale.sqlite") as opened:
        opened.execute(damage)
    opened.close()
    before = contents(old / "oncoscale.sqlite"), schema(old / "oncoscale.sqlite")
    with pytest.raises(StoreRejected, match=r"refer to rows|cannot be brought"):
        migrate(old)
    assert (contents(old / "oncoscale.sqlite"), schema(old / "oncoscale.sqlite")) == before
    with pytest.raises(StoreRejected, match="version 1"):
        Store.open(old)


def test_a_store_in_use_or_of_tomorrow_is_refused(old: Path, store: Store):
    """Somebody else writes; or a later program made it."""
    with sqlite3.connect(old / "oncoscale.sqlite", isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreRejected, match="in use"):
            migrate(old)
        other.execute("ROLLBACK")
    other.close()
    with sqlite3.connect(store.path / "oncoscale.sqlite") as later:
        later.execute("PRAGMA user_version=99")
    later.close()
    with pytest.raises(StoreRejected, match="version 99"):
        migrate(store.path)


def test_the_copy_goes_with_an_erasure(old: Path, vault: Vault):
    """The copy of the older database still names the subject; an erasure removes it whole."""
    migrate(old)
    assert (old / "oncoscale.sqlite.version-1").exists()
    store = Store.open(old)
    assert "oncoscale.sqlite.version-1" in erase(store, SUBJECT, vault=vault).files
    assert remains(store, [SUBJECT, "2.25.1", "T-1"]) == ()
    with store.reading() as connection:
        assert connection.execute(select(tables.tombstone)).all()
