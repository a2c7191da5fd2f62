"""The store: whole or absent, of one version, one writer at a time, with rules in the database itself."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from oncoscale.core.errors import StorageFault, StoreRejected
from oncoscale.linkage import audit, tables
from oncoscale.linkage import store as storing
from oncoscale.linkage.store import Store, code_id, storage_error


def test_what_is_no_store_is_refused(tmp_path: Path):
    """A missing folder, an empty one, a file, another program's database and garbage are told apart in words."""
    with pytest.raises(StoreRejected, match="no store"):
        Store.open(tmp_path / "absent")
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreRejected, match="is a file"):
        Store.open(tmp_path / "file", create=True)
    for name, content in (("other", None), ("garbage", b"not a database" * 100)):
        (tmp_path / name).mkdir()
        if content is None:
            sqlite3.connect(tmp_path / name / "oncoscale.sqlite").execute("CREATE TABLE t (x)").connection.close()
        else:
            (tmp_path / name / "oncoscale.sqlite").write_bytes(content)
        with pytest.raises(StoreRejected, match=r"not a store|damaged"):
            Store.open(tmp_path / name)


def test_a_store_is_made_by_the_first_thing_in_it(tmp_path: Path):
    """Until then it reads as empty and no folder is there; a block that fails takes the store it made with it."""
    store = Store.open(tmp_path / "deep" / "store", create=True)
    with store.reading() as connection:
        assert connection.execute(select(tables.subject)).all() == []
    assert not (tmp_path / "deep").exists()
    with pytest.raises(RuntimeError), store.staging() as folder:
        (folder / "half").write_text("x")
        raise RuntimeError
    assert not (tmp_path / "deep" / "store").exists()
    with store.writing() as connection:
        code_id(connection, "s", "c", "d")
    assert Store.open(tmp_path / "deep" / "store").path.is_dir()


def test_another_schema_version_is_refused(store: Store):
    """A store of tomorrow is not guessed at."""
    with sqlite3.connect(store.path / "oncoscale.sqlite") as connection:
        connection.execute("PRAGMA user_version=99")
    with pytest.raises(StoreRejected, match="schema version 99"):
        Store.open(store.path)


def test_a_read_only_store_is_refused_before_anything_is_written(store: Store):
    """Permission bits count even for a superuser; reading still works."""
    for folder in (store.path, store.path / "oncoscale.sqlite"):
        mode = folder.stat().st_mode
        os.chmod(folder, mode & ~0o222)
        with pytest.raises(StoreRejected, match="read-only"):
            Store.open(store.path)
        with Store.open(store.path, read_only=True).reading() as connection:
            assert connection.execute(select(tables.study.c.id)).scalars().all() == ["project"]
        os.chmod(folder, mode)


def test_a_folder_that_may_not_be_written_cannot_become_a_store(tmp_path: Path):
    """Refused, and left as it was."""
    (tmp_path / "closed").mkdir(mode=0o555)
    with pytest.raises(StoreRejected, match="read-only"):
        Store.open(tmp_path / "closed", create=True)
    assert not list((tmp_path / "closed").iterdir())


def test_a_reader_cannot_write(store: Store):
    """A store opened for reading refuses every change, in the database itself."""
    with pytest.raises(StoreRejected), Store.open(store.path, read_only=True).writing() as connection:
        connection.execute(insert(tables.code).values(system="s", code="c", display="d"))


def test_a_failed_transaction_leaves_nothing(store: Store):
    """All or nothing, also when the error is not the database's."""
    with pytest.raises(RuntimeError), store.writing() as connection:
        code_id(connection, "s", "lost", "d")
        raise RuntimeError
    with store.reading() as connection:
        assert not connection.execute(select(tables.code).where(tables.code.c.code == "lost")).all()


def test_a_busy_store_and_a_full_disk_have_their_own_errors(store: Store):
    """Exit code 2 for what the user can change, 4 for a disk that fills."""
    assert isinstance(storage_error(OSError(28, "No space left"), store.path), StorageFault)
    assert isinstance(storage_error(OSError(30, "Read-only file system"), store.path), StoreRejected)
    with pytest.raises(StorageFault) as full, store.writing() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count = 1")
        for n in range(2000):
            code_id(connection, "system", f"{n:0>500}", "display")
    assert full.value.exit_code == 4


def test_leftovers_of_a_killed_command_are_swept(store: Store):
    """Files on their way in vanish with the command, or with the next one if it was killed."""
    program = (
        "import os, sys; from oncoscale.linkage.store import Store\n"
        "with Store.open(sys.argv[1]).staging() as f: (f / 'half').write_text('x'); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", program, str(store.path)], check=False)
    assert list(store.path.glob(".staging-*/half"))
    with store.staging() as folder:
        assert [folder] == list(store.path.glob(".staging-*"))
    assert not list(store.path.glob(".staging-*"))


def test_the_database_itself_keeps_the_rules(store: Store):
    """Keys that are no pseudonyms, permits that are edited and predictions of an analysis are refused below Python."""
    with store.writing() as connection:
        species = code_id(connection, "s", "c", "d")
        person = {"site": "s", "species": species, "sex": "female", "day0_kind": "first-imaging"}
        with pytest.raises(IntegrityError):
            connection.execute(insert(tables.subject).values(key="Miller", **person))
        connection.execute(insert(tables.subject).values(key="P-HNU76GYAPKGZMXDN", **person))
        visit = {"id": "T-1", "kind": "imaging", "code": species, "attributes": "{}"}
        with pytest.raises(IntegrityError, match="FOREIGN KEY"):
            connection.execute(insert(tables.event).values(subject="P-AAAAAAAAAAAAAAAA", day=0, **visit))
        with pytest.raises(IntegrityError, match="CHECK"):
            connection.execute(insert(tables.event).values(subject="P-HNU76GYAPKGZMXDN", **visit))
        common = {"software": "x", "parameters": "y", "inputs_sha256": "z", "seed": "1"}
        connection.execute(insert(tables.software).values(id="x", name="n", version="1", code_sha256="h"))
        connection.execute(insert(tables.parameter_set).values(sha256="y", schema="s", body="{}"))
        connection.execute(insert(tables.run).values(id="r", kind="analysis", **common))
        with pytest.raises(IntegrityError, match="prediction needs a forecast"):
            connection.execute(
                insert(tables.prediction).values(
                    id="p",
                    run="r",
                    subject="P-HNU76GYAPKGZMXDN",
                    quantity=species,
                    horizon_day=1,
                    value=1.0,
                    unit=species,
                    status="preliminary",
                )
            )


def test_no_column_can_hold_an_identity():
    """The schema has no place for a person's name, an address, a hospital number or a date of birth."""
    forbidden = ("name", "birth", "address", "phone", "patient", "local_id", "hospital", "email")
    columns = {f"{table.name}.{column.name}" for table in tables.metadata.sorted_tables for column in table.columns}
    of_things = {"software.name", "biobank.name", "collection.name"}
    assert {column for column in columns if any(word in column for word in forbidden)} == of_things


def entries(store: Store, n: int) -> None:
    for number in range(n):
        with store.writing() as connection:
            audit.record_action(store, connection, "show", f"P-{number}")


def test_the_audit_finds_edits_deletions_and_swaps(store: Store):
    """The chain is whole, entries cannot be changed through SQL, and a change made behind its back is located."""
    entries(store, 6)
    assert audit.verify(store) is None
    assert audit.head(store)[0] == 6
    for statement in (update(tables.audit).values(who="me"), delete(tables.audit)):
        with pytest.raises(IntegrityError, match="audit is final"), store.writing() as connection:
            connection.execute(statement)
    for change in ("UPDATE audit SET action = 'export' WHERE seq = 3", "DELETE FROM audit WHERE seq = 3"):
        with sqlite3.connect(store.path / "oncoscale.sqlite", isolation_level=None) as behind:
            behind.execute("BEGIN")
            for trigger in ("audit_is_final", "audit_stays"):
                behind.execute(f"DROP TRIGGER {trigger}")
            behind.execute(change)
            behind.execute("COMMIT")
            assert audit.verify(store) == 3
            if change.startswith("UPDATE"):
                behind.execute("UPDATE audit SET action = 'show' WHERE seq = 3")
                for trigger in tables.TRIGGERS[-2:]:
                    behind.execute(trigger)


def test_the_audit_names_no_subject(store: Store):
    """Only a keyed hash of the subject is in the chain, so erasure need not touch it."""
    with store.writing() as connection:
        audit.record_action(store, connection, "show", "P-HNU76GYAPKGZMXDN", {"subject": "P-HNU76GYAPKGZMXDN"})
    with store.reading() as connection:
        row = dict(connection.execute(select(tables.audit)).mappings().one())
    assert not any("HNU76" in str(value) for value in row.values())


def test_a_writer_waits_for_another_as_long_as_it_has_patience(store: Store, monkeypatch: pytest.MonkeyPatch):
    """The lock that comes free in time is taken; one that does not is told, and nothing is written."""
    other = sqlite3.connect(store.path / "oncoscale.sqlite", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    monkeypatch.setattr(storing, "PATIENCE_S", 0.05)
    with pytest.raises(StoreRejected, match="in use"), store.writing() as connection:
        code_id(connection, "s", "late", "d")
    monkeypatch.setattr(storing, "PATIENCE_S", 60.0)
    asked = []

    def asked_again(_: float) -> None:
        asked.append(1)
        if len(asked) == 3:
            other.execute("ROLLBACK")

    monkeypatch.setattr(storing.time, "sleep", asked_again)
    with store.writing() as connection:
        code_id(connection, "s", "in time", "d")
    assert len(asked) == 3
    with store.reading() as connection:
        assert connection.execute(select(tables.code.c.code).where(tables.code.c.system == "s")).all() == [("in time",)]
    other.close()


def test_what_is_flushed_is_every_file_and_every_name(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A file on the disk whose name is not there is lost as well: folders are flushed like files."""
    (tmp_path / "out" / "maps").mkdir(parents=True)
    for name in ("forecast.json", "maps/maps.json"):
        (tmp_path / "out" / name).write_text("{}")
    flushed = []
    monkeypatch.setattr(storing.os, "fsync", lambda opened: flushed.append(os.fstat(opened).st_ino))
    storing.flush(tmp_path / "out")
    assert set(flushed) == {path.stat().st_ino for path in (tmp_path / "out", *(tmp_path / "out").rglob("*"))}


def test_a_store_that_is_kept_open_keeps_its_log(store: Store):
    """While it is, the end of a transaction does not write the log of changes back; afterwards it does."""
    log = store.path / "oncoscale.sqlite-wal"
    with store.kept_open():
        with store.writing() as connection:
            code_id(connection, "s", "c", "d")
        assert log.stat().st_size > 0
    assert not log.exists()
    with store.reading() as connection:
        assert connection.execute(select(tables.code.c.id).where(tables.code.c.system == "s")).one()
