"""Migrations: a store of an older version becomes one of this version, offline, in one transaction, with a copy kept.

Alembic runs the steps in ``versions``; which version a store has, it says itself (SQLite's ``user_version``), so that
no table of alembic's stays behind. The copy holds what the store held: an erasure removes it with its subject.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection
from sqlalchemy.exc import DatabaseError

from ...core.errors import StorageFault, StoreRejected
from ..audit import record_action
from ..permissions import make_file
from ..store import SCHEMA_VERSION, Store, of_any_version, version_of

BACKUP = "oncoscale.sqlite.version-"
ALEMBICS = "alembic_version"


@dataclass(frozen=True)
class Migrated:
    """What a migration did, or would do.

    start, end  versions
    steps       the steps between them, in words
    backup      name of the copy beside the database; empty without one
    """

    start: int
    end: int
    steps: tuple[str, ...]
    backup: str = ""


def migrate(path: Path | str, *, dry_run: bool = False) -> Migrated:
    """Bring the store at a path to this version; with ``dry_run`` a copy of its database, which is then thrown away.

    Raises StoreRejected for a store of a later version, one that is in use, or one whose rows do not fit: then it stays
    as it was.
    """
    store = of_any_version(path)
    with store.reading() as connection:
        start = version_of(connection)
    if start > SCHEMA_VERSION:
        raise StoreRejected(
            f"the store has schema version {start}", f"at most {SCHEMA_VERSION}", "use a later version of this program"
        )
    steps = tuple(steps_from(start))
    if start == SCHEMA_VERSION:
        return Migrated(start, start, ())
    if dry_run:
        with _copied(store) as copy:
            _bring(copy, start)
        return Migrated(start, SCHEMA_VERSION, steps)
    backup = f"{BACKUP}{start}"
    _copy(store, store.path / backup)
    _bring(store, start)
    store.compact()
    return Migrated(start, SCHEMA_VERSION, steps, backup)


def steps_from(version: int) -> Iterator[str]:
    """What each step from a version to this one does."""
    from alembic.script import ScriptDirectory

    found = ScriptDirectory.from_config(_config())
    for number in range(version + 1, SCHEMA_VERSION + 1):
        yield f"version {number}: {found.get_revision(str(number)).doc}"


def _bring(store: Store, start: int) -> None:
    with store.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA foreign_keys=OFF")  # tables are rebuilt; keys are checked before the commit
        connection.exec_driver_sql("PRAGMA busy_timeout=2000")
        try:
            connection.exec_driver_sql("BEGIN EXCLUSIVE")
            _upgrade(connection, start)
            _refuse_broken(connection)
            connection.exec_driver_sql(f"PRAGMA user_version={SCHEMA_VERSION}")
            record_action(store, connection, "migrate", "store", {"from": start, "to": SCHEMA_VERSION})
            connection.exec_driver_sql("COMMIT")
        except BaseException as error:
            if connection.connection.driver_connection.in_transaction:  # type: ignore[union-attr]
                connection.exec_driver_sql("ROLLBACK")
            if isinstance(error, DatabaseError):
                raise _refused(error) from error
            raise


def _upgrade(connection: Connection, start: int) -> None:
    config = _config()
    config.attributes["connection"] = connection
    command.stamp(config, str(start))
    command.upgrade(config, str(SCHEMA_VERSION))
    connection.exec_driver_sql(f"DROP TABLE {ALEMBICS}")


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def _refuse_broken(connection: Connection) -> None:
    broken = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
    if broken:
        raise StoreRejected(
            f"{len(broken)} rows of the store refer to rows that are not there",
            "a store whose references lead somewhere",
            "restore the store from a copy; it was left as it is",
        )


def _refused(error: DatabaseError) -> StoreRejected:
    if "locked" in str(error.orig):
        return StoreRejected(
            "the store is in use by another command", "a store that nobody uses", "wait for it to end, then migrate"
        )
    return StoreRejected(
        f"the store cannot be brought to this version: {error.orig}",
        "rows that an older version wrote",
        "please report it; the store was left as it is",
    )


def _copy(store: Store, target: Path) -> None:
    """A copy of the database, whole or absent, for the eyes of those who may read the store."""
    beside = target.with_name(f".{target.name}.part")
    try:
        beside.unlink(missing_ok=True)
        make_file(beside)
        with (
            closing(sqlite3.connect(store.path / "oncoscale.sqlite")) as source,
            closing(sqlite3.connect(beside)) as copy,
        ):
            source.backup(copy)
            copy.execute("PRAGMA journal_mode=DELETE")
        beside.chmod((store.path / "oncoscale.sqlite").stat().st_mode)
        beside.replace(target)
    except (OSError, sqlite3.Error) as error:
        raise StorageFault(
            "the copy of the database could not be written", "room for a second database", "free space and try again"
        ) from error
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def _copied(store: Store) -> Iterator[Store]:
    """A store with a copy of the database and nothing else, for as long as the block runs."""
    with TemporaryDirectory(prefix="oncoscale-migration-") as folder:
        _copy(store, Path(folder) / "oncoscale.sqlite")
        (Path(folder) / "audit.key").write_bytes(store.audit_key)
        copy = of_any_version(folder)
        yield copy
        copy.engine.dispose()
