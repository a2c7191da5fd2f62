"""Whose eyes a store is for: its owner's, or a group's that its owner let in; and what is there is left as it is."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from stat import S_IMODE
from tempfile import TemporaryDirectory

import pytest

from oncoscale.app.doctor import check_permissions
from oncoscale.core.files import write_json
from oncoscale.linkage.exporting import export
from oncoscale.linkage.holding import take_in
from oncoscale.linkage.permissions import open_to_others
from oncoscale.linkage.reference import reference_cohort
from oncoscale.linkage.store import Store, code_id


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    """The usual umask, by which everybody may read what is made."""
    before = os.umask(0o022)
    yield
    os.umask(before)


def modes(folder: Path) -> dict[str, int]:
    """Permissions of a store's folder and of what lies in it, with the log of changes of an open database."""
    store = Store.open(folder, create=True)
    with store.writing() as connection:
        code_id(connection, "s", "c", "d")
        found = {one.name: S_IMODE(one.stat().st_mode) for one in (folder, *folder.iterdir())}
    with store.staging() as staging:
        return {**found, "staging": S_IMODE(staging.stat().st_mode)}


FOLDERS, FILES = ("studies", "runs", "staging"), ("oncoscale.sqlite", "oncoscale.sqlite-wal", "audit.key")


def test_a_new_store_is_for_its_owner_alone(tmp_path: Path):
    """Whatever the umask allows: the folder, the database with its log, the key and what is on its way in."""
    found = modes(tmp_path / "store")
    assert {found.pop(name) for name in ("store", *FOLDERS)} == {0o700}
    assert {*FILES} <= set(found)
    assert set(found.values()) == {0o600}


@pytest.mark.parametrize(
    ("folder", "umask", "below", "files"),
    [
        (0o755, 0o022, 0o700, 0o600),
        (0o770, 0o007, 0o770, 0o660),
        (0o770, 0o027, 0o750, 0o640),
        (0o750, 0o000, 0o750, 0o640),
    ],
)
def test_a_folder_that_was_there_stays_and_says_who_may_read(tmp_path, folder, umask, below, files):
    """One open to all says nothing, so what is made in it is the owner's; one for a group is, as the umask allows."""
    (tmp_path / "own").mkdir()
    (tmp_path / "own").chmod(folder)
    os.umask(umask)
    found = modes(tmp_path / "own")
    assert found["own"] == folder
    assert {found[name] for name in FOLDERS} == {below}
    assert {found[name] for name in FILES} == {files}


def test_an_older_store_is_left_as_it_is_and_the_doctor_remarks_it():
    """Opened and written, it keeps its permissions; what anybody can read is told, with the line that shuts it."""
    with TemporaryDirectory(prefix="my store ") as above:
        place = Path(above) / "store"
        modes(place)
        for shut in (place, place.parent):
            assert (open_to_others(place), check_permissions(place).state) == ((), "ok")
            shut.chmod(0o755)
        (place / "oncoscale.sqlite").chmod(0o644)
        assert modes(place)["oncoscale.sqlite"] == 0o644
        assert open_to_others(place) == ("oncoscale.sqlite",)
        told = check_permissions(place)
        assert (told.state, told.cure) == ("missing", f"chmod -R o-rwx '{place}'")
        assert "oncoscale.sqlite" in told.found


@pytest.mark.parametrize(("standard", "mode"), [("fhir", 0o600), ("parquet", 0o700)])
def test_an_export_is_for_its_owner_until_they_give_it_away(store: Store, tmp_path, standard, mode):
    """A file or a folder, and nothing is left beside it."""
    cohort = reference_cohort(1, 1)
    with store.writing() as connection:
        take_in(connection, cohort)
    out = tmp_path / "away" / "them"
    export(store, cohort.subject[0].key, out, standard_name=standard)
    assert S_IMODE(out.stat().st_mode) == mode
    assert list(out.parent.iterdir()) == [out]


def test_a_report_about_a_person_is_for_its_owner(tmp_path: Path):
    """Also where a file of others' eyes had its name."""
    (tmp_path / "report.json").write_text("old")
    write_json(tmp_path / "report.json", {"held": []}, private=True)
    assert S_IMODE((tmp_path / "report.json").stat().st_mode) == 0o600
    write_json(tmp_path / "other.json", {})
    assert S_IMODE((tmp_path / "other.json").stat().st_mode) == 0o644


def test_sqlite_gives_its_log_the_permissions_of_the_database(tmp_path: Path):
    """The premise: of a database that was made private beforehand the log and the index of it are private too."""
    (tmp_path / "d").touch(mode=0o600)
    with sqlite3.connect(tmp_path / "d") as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE t (x)")
        assert {S_IMODE(one.stat().st_mode) for one in tmp_path.glob("d*")} == {0o600}
        assert len(list(tmp_path.glob("d*"))) == 3
    connection.close()
