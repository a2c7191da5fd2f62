"""The store: one folder with a database, the de-identified images and the results of runs.

::

    STORE/oncoscale.sqlite     who (pseudonyms only), consent, visits, runs, predictions, audit
    STORE/studies/T-…/         one visit: de-identified files, study.json, what de-identification did
    STORE/runs/<run>/<n>/      the results of one attempt, with its record.json

Or the database is one of PostgreSQL's (``postgresql://USER@HOST/DATABASE?files=STORE``, see postgres.py).

SQLite in WAL mode, STRICT tables, foreign keys on, deleted content overwritten, every commit flushed. WAL does
not work on network file systems. SQLite knows no users: whoever can read the folder can read it all, so the
folder's permissions are the access control. They let its owner in alone (see permissions.py).
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import random
import secrets
import shutil
import sqlite3
import stat
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from sqlalchemy import Connection, Engine, create_engine, insert, select
from sqlalchemy.exc import DatabaseError, OperationalError
from sqlalchemy.pool import NullPool, StaticPool

from ..core.errors import StorageFault, StoreRejected
from ..core.files import canonical_json
from ..core.passing import is_alive
from . import postgres, tables
from .permissions import OWNER, make_file, mode_below

SCHEMA_VERSION = 3
APPLICATION_ID = 0x4F4E434F
"""Marks the database file as a store ("ONCO")."""

CACHE = 65536
"""KiB of pages that a connection keeps, at most. ASSUMED: what some thousand rows of a large store touch."""

PATIENCE_S = 20.0
"""How long a writer waits for another."""

BEGIN_TO_READ = {"sqlite": "BEGIN", "postgresql": "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"}

PROJECT = "project"
"""The one research study that a store serves so far."""


@dataclass(frozen=True)
class Store:
    """An open store. ``path`` is its folder."""

    path: Path
    engine: Engine

    @classmethod
    def open(cls, path: Path | str, *, create: bool = False, read_only: bool = False) -> Store:
        """Open a store, or one to be made.

        create     a store that is absent is made by the first thing written into it, and reads as empty until then
        read_only  open without the right to write

        Raises StoreRejected when it is missing, read-only (unless asked for), or of another version, and
        StorageFault when the disk is full.
        """
        if postgres.is_address(path):
            return _open_database(path, create=create, read_only=read_only)
        path = Path(path)
        database = path / "oncoscale.sqlite"
        if not database.is_file():
            if not create or read_only:
                raise _missing(path)
            _refuse_unwritable(path)
            return cls(path, _engine(database, mode="rw"))
        if not read_only:
            _refuse_read_only(path)
        store = cls(path, _engine(database, mode="ro" if read_only else "rw"))
        store._check_version()
        return store

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that commits whole or not at all; one writer at a time."""
        self._make_if_absent()
        with _named_errors(self.path), self.engine.connect() as connection:
            _begin(connection)
            try:
                yield connection
            except BaseException:
                with suppress(OperationalError):  # SQLite has rolled back by itself when the disk filled
                    connection.exec_driver_sql("ROLLBACK")
                raise
            connection.exec_driver_sql("COMMIT")

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A consistent view of the store that cannot write."""
        engine = self.engine if self._exists else _empty_store()
        with _named_errors(self.path), engine.connect() as connection:
            connection.exec_driver_sql(BEGIN_TO_READ[connection.dialect.name])
            try:
                yield connection
            finally:
                connection.exec_driver_sql("ROLLBACK")

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """A folder inside the store for files on their way in; whatever is left in it vanishes.

        If the block fails, a store that was made for it vanishes too.
        """
        made = self._make_if_absent()
        self._sweep()
        folder = self.path / f".staging-{os.getpid()}-{secrets.token_hex(4)}"
        try:
            folder.mkdir(mode=mode_below(self.path))
            yield folder
        except BaseException as error:
            shutil.rmtree(folder, ignore_errors=True)
            if made:
                self._discard()
            if isinstance(error, OSError):
                raise storage_error(error, self.path) from error
            raise
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def kept_open(self) -> Iterator[None]:
        """Many transactions follow: the log of changes stays, instead of being written back when each of them ends."""
        if not self._exists:
            yield
            return
        with _named_errors(self.path), self.engine.connect() as connection:
            connection.exec_driver_sql("SELECT count(*) FROM code").scalar_one()
            yield

    def flush(self) -> None:
        """Return when every file of the store is on the disk. Call it before the commit that speaks of them."""
        folder = os.open(self.path, os.O_RDONLY)
        try:
            _flush_all(folder)
        finally:
            os.close(folder)

    def compact(self, *, wait_s: float = 10.0) -> None:
        """Leave no byte of what was deleted: rewrite the database, then empty its write-ahead log.

        In this order, because rewriting goes through the log. Raises StoreRejected while others read the store.
        """
        with _named_errors(self.path), self.engine.connect() as connection:
            if connection.dialect.name == "postgresql":
                return postgres.compact(connection)
            connection.exec_driver_sql("VACUUM")
            connection.exec_driver_sql(f"PRAGMA busy_timeout={round(1000 * wait_s)}")
            busy, *_ = connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").one()
        if not busy:
            return
        raise StoreRejected(
            f"the store {self.path.name!r} is being read by another command",
            "nobody reading, for the log of changes to be emptied",
            "wait for it to end and run the same command again",
        )

    def allow(self, connection: Connection, who: str, roles: Iterable[str]) -> None:
        """Give a user of the database what these roles need, and nothing else. SQLite knows no users."""
        if connection.dialect.name == "postgresql":
            postgres.allow(connection, who, roles)

    def study_folder(self, study: str) -> Path:
        """Where the files of one visit are."""
        return self.path / "studies" / study

    def run_folder(self, run: str, attempt: int) -> Path:
        """Where the results of one attempt are."""
        return self.path / "runs" / run / str(attempt)

    @property
    def audit_key(self) -> bytes:
        """Keys the objects of the audit, so that erasing a subject need not touch the chain."""
        try:
            return (self.path / "audit.key").read_bytes()
        except PermissionError as error:
            raise _read_only(self.path) from error

    @property
    def _exists(self) -> bool:
        return self.engine.dialect.name == "postgresql" or (self.path / "oncoscale.sqlite").is_file()

    def _make_if_absent(self) -> bool:
        """Make the store if it is not there; True if it was made."""
        if self._exists:
            return False
        _make(self.path)
        return True

    def _discard(self) -> None:
        """Remove a store that has just been made, and its folder if nothing else is in it."""
        for name in ("studies", "runs"):
            shutil.rmtree(self.path / name, ignore_errors=True)
        for left in (*self.path.glob("oncoscale.sqlite*"), self.path / "audit.key"):
            left.unlink(missing_ok=True)
        with suppress(OSError):
            self.path.rmdir()

    def _check_version(self) -> None:
        with _named_errors(self.path), self.engine.connect() as connection:
            found, ours = version_of(connection), is_ours(connection)
        if not ours:
            raise StoreRejected(
                f"{self.path.name!r} holds a database that is not a store",
                "a store of this program",
                "name another folder",
            )
        if found < SCHEMA_VERSION:
            raise StoreRejected(
                f"{self.path.name!r} has schema version {found}",
                f"schema version {SCHEMA_VERSION}",
                "bring it to this version with: oncoscale migrate STORE (add --dry-run to try it on a copy)",
            )
        if found > SCHEMA_VERSION:
            raise StoreRejected(
                f"{self.path.name!r} has schema version {found}",
                f"schema version {SCHEMA_VERSION}",
                "use the version of this program that made it",
            )

    def _sweep(self) -> None:
        """Remove what interrupted commands of this machine left behind."""
        for folder in self.path.glob(".staging-*"):
            owner = folder.name.split("-")[1]
            if owner.isdigit() and int(owner) != os.getpid() and not is_alive(int(owner)):
                shutil.rmtree(folder, ignore_errors=True)


def of_any_version(path: Path | str) -> Store:
    """A store as it is, whatever its version: for migrations alone. Raises StoreRejected for what is no store."""
    if postgres.is_address(path):
        return Store.open(path)  # there has been one version so far
    path = Path(path)
    if not (path / "oncoscale.sqlite").is_file():
        raise _missing(path)
    _refuse_read_only(path)
    store = Store(path, _engine(path / "oncoscale.sqlite", mode="rw"))
    with _named_errors(path), store.engine.connect() as connection:
        if not is_ours(connection):
            raise StoreRejected(f"{path.name!r} holds a database that is not a store", "a store of this program", "")
    return store


def version_of(connection: Connection) -> int:
    """The version of a store's schema."""
    asked = "SELECT version FROM schema_version" if _is_postgres(connection) else "PRAGMA user_version"
    return int(connection.exec_driver_sql(asked).scalar_one())


def is_ours(connection: Connection) -> bool:
    """Whether the database is a store's."""
    if _is_postgres(connection):
        return connection.exec_driver_sql("SELECT to_regclass('schema_version')").scalar_one() is not None
    return bool(connection.exec_driver_sql("PRAGMA application_id").scalar_one() == APPLICATION_ID)


def _is_postgres(connection: Connection) -> bool:
    return connection.dialect.name == "postgresql"


def _begin(connection: Connection) -> None:
    """Begin to write; there is one writer at a time."""
    if _is_postgres(connection):
        connection.exec_driver_sql("BEGIN")
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({APPLICATION_ID})")
    else:
        _begin_in_turn(connection)


def _begin_in_turn(connection: Connection) -> None:
    """Ask for SQLite's lock again and again, at short and uneven intervals.

    SQLite itself waits longer the longer it has waited: of many writers, whoever waited most asks least.
    """
    until = time.monotonic() + PATIENCE_S
    connection.exec_driver_sql("PRAGMA busy_timeout=0")
    while True:
        try:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            break
        except OperationalError as error:
            if "locked" not in str(error.orig) or time.monotonic() > until:
                raise
            time.sleep(random.uniform(0.5e-3, 4e-3))
    connection.exec_driver_sql(f"PRAGMA busy_timeout={round(1000 * PATIENCE_S)}")


def _open_database(place: Path | str, *, create: bool, read_only: bool) -> Store:
    """A store on PostgreSQL; with ``create`` an empty database becomes one at once."""
    url, folder = postgres.address(place)
    store = Store(folder, postgres.engine(url, read_only=read_only))
    with _named_errors(folder), store.engine.connect() as connection:
        there = is_ours(connection)
    if not there and not create:
        raise _missing(folder)
    if not there:
        _make_files(folder)
        with store.writing() as connection:
            connection.exec_driver_sql(postgres.JSON_VALID)
            _fill(connection)
            for statement in postgres.statements(SCHEMA_VERSION, APPLICATION_ID):
                connection.exec_driver_sql(statement)
            postgres.grant_owner(connection, now())
    store._check_version()
    return store


def store_around(place: Path | str) -> Path | None:
    """The folder of the store in which a file or folder lies, or which it is; None if it lies in none."""
    found = Path(place).resolve()
    return next((folder for folder in (found, *found.parents) if (folder / "oncoscale.sqlite").is_file()), None)


def now() -> str:
    """The present as ISO 8601, UTC, ending in Z."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def code_id(connection: Connection, system: str, code: str, display: str, version: str = "") -> int:
    """The row of a coded value, entered if it is new."""
    where = (tables.code.c.system == system, tables.code.c.version == version, tables.code.c.code == code)
    found = connection.execute(select(tables.code.c.id).where(*where)).scalar()
    if found is not None:
        return int(found)
    added = connection.execute(insert(tables.code).values(system=system, version=version, code=code, display=display))
    return int(cast(Any, added.inserted_primary_key)[0])


def user_of(connection: Connection) -> str:
    """Who writes: the user of the operating system, or of the database where that knows users."""
    if connection.dialect.name == "postgresql":
        return f"database user {connection.exec_driver_sql('SELECT current_user').scalar_one()}"
    return f"uid {os.getuid()}"


def attributes_of_project(connection: Connection) -> Mapping[str, Any]:
    """What the store knows of its project: the fingerprint of the vault's key, once a subject is in."""
    text = connection.execute(select(tables.study.c.attributes).where(tables.study.c.id == PROJECT)).scalar_one()
    attributes: Mapping[str, Any] = json.loads(text)
    return attributes


def storage_error(error: OSError, path: Path) -> StoreRejected | StorageFault:
    """The typed error for a failed write: read-only is the user's to change, a full disk is not input."""
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST):
        return _read_only(path)
    return StorageFault(
        f"writing to the store {path.name!r} failed: {os.strerror(error.errno or errno.EIO)}",
        "enough free space",
        "free space and run the same command again; nothing half written was left",
    )


def _missing(path: Path) -> StoreRejected:
    return StoreRejected(
        f"no store at {path.name!r}",
        "a folder made by `oncoscale ingest … --store STORE`",
        "check the path, or ingest a study first",
    )


def _read_only(path: Path) -> StoreRejected:
    if path.exists() and not path.is_dir():
        return StoreRejected(f"{path.name!r} is a file, not a store", "a folder", "name another store")
    return StoreRejected(
        f"the store {path.name!r} is read-only",
        "a folder that may be written",
        "change its permissions or name another store",
    )


def _refuse_read_only(path: Path) -> None:
    """Permission bits are honoured even for a superuser, whom the system would let through."""
    for place in (path, path / "oncoscale.sqlite"):
        if not place.stat().st_mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH) or not os.access(place, os.W_OK):
            raise _read_only(path)


def _refuse_unwritable(path: Path) -> None:
    """Refuse a place where no store can be made: a file, or below a folder that may not be written."""
    if path.exists() and not path.is_dir():
        raise _read_only(path)
    above = next(place for place in (path, *path.absolute().parents) if place.exists())
    if not above.is_dir() or not above.stat().st_mode & 0o222 or not os.access(above, os.W_OK):
        raise _read_only(path)


def _make(path: Path) -> None:
    """A new store, whole or absent: made beside under another name, then renamed."""
    database = path / "oncoscale.sqlite"
    beside = path / f".new-{os.getpid()}.sqlite"
    try:
        _make_files(path)
        make_file(beside, mode_below(path))  # the log of changes gets the permissions of its database
        with _named_errors(path):
            _create_schema(_engine(beside, mode="rw"))
        os.replace(beside, database)
    except OSError as error:
        raise storage_error(error, path) from error
    finally:
        for left in path.glob(f"{beside.name}*"):
            left.unlink(missing_ok=True)


def _make_files(path: Path) -> None:
    """The folder of a store, without its database."""
    path.mkdir(mode=OWNER, parents=True, exist_ok=True)
    for folder in ("studies", "runs"):
        (path / folder).mkdir(mode=mode_below(path), exist_ok=True)
    _write_secret(path / "audit.key")


def _write_secret(path: Path) -> None:
    """A new secret, whole or absent: an empty one would be a key that everybody knows."""
    if not path.exists():
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        make_file(beside, mode_below(path.parent))
        beside.write_bytes(secrets.token_bytes(32))
        try:
            os.link(beside, path)  # whoever is first keeps theirs
        except FileExistsError:
            pass
        finally:
            beside.unlink()


def _empty_store() -> Engine:
    """A store with nothing in it, in memory."""
    engine = create_engine("sqlite+pysqlite://", poolclass=StaticPool, isolation_level="AUTOCOMMIT")
    _create_schema(engine)
    return engine


def _create_schema(engine: Engine) -> None:
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA journal_mode=WAL")
        connection.exec_driver_sql(f"PRAGMA application_id={APPLICATION_ID}")
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        _fill(connection)
        for trigger in tables.TRIGGERS:
            connection.exec_driver_sql(trigger)
        connection.exec_driver_sql(f"PRAGMA user_version={SCHEMA_VERSION}")
        connection.exec_driver_sql("COMMIT")
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")


def _fill(connection: Connection) -> None:
    """The tables, and the one study."""
    tables.metadata.create_all(connection)
    research = code_id(
        connection, "http://terminology.hl7.org/CodeSystem/v3-ActReason", "HRESCH", "healthcare research"
    )
    connection.execute(
        insert(tables.study).values(
            id=PROJECT,
            title="project",
            purpose=research,
            legal_basis="consent",
            retention_until="9999-12-31",
            small_cell_k=5,
            key_epoch=1,
            attributes=canonical_json({}),
        )
    )


def _engine(database: Path, *, mode: str) -> Engine:
    """An engine whose transactions are begun by hand and whose errors show no values.

    mode  SQLite's: rw or ro
    """
    immutable = "&immutable=1" if mode == "ro" and not os.access(database.parent, os.W_OK) else ""
    address = f"{database.absolute().as_uri()}?mode={mode}{immutable}"

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(
            address, uri=True, isolation_level=None, timeout=PATIENCE_S, check_same_thread=False
        )
        for pragma in (
            "foreign_keys=ON",
            "secure_delete=ON",
            "synchronous=FULL",
            f"cache_size=-{CACHE}",
            f"query_only={int(mode == 'ro')}",
        ):
            connection.execute(f"PRAGMA {pragma}")
        if mode == "ro":
            connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)  # a question may not write another database
        return connection

    return create_engine(
        "sqlite+pysqlite://", creator=connect, poolclass=NullPool, hide_parameters=True, isolation_level="AUTOCOMMIT"
    )


@contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    """The database's failures as ours."""
    try:
        yield
    except (OperationalError, DatabaseError) as error:
        text = str(error.orig).lower()
        if (refused := postgres.refusal(text)) is not None:
            raise refused from error
        if "read-only transaction" in text or "readonly" in text or "unable to open" in text:
            raise _read_only(path) from error
        if "full" in text or "disk i/o" in text:
            raise storage_error(OSError(errno.ENOSPC, ""), path) from error
        if "locked" in text:
            raise StoreRejected(
                f"the store {path.name!r} is in use by another command",
                "one writer at a time",
                "wait for it to end and run the same command again",
            ) from error
        if "not a database" in text or "malformed" in text:
            raise StoreRejected(
                f"{path.name!r} holds a damaged database", "a store of this program", "restore the store from a copy"
            ) from error
        raise


def flush(folder: Path) -> None:
    """Return when the files of a folder, however deep, are on the disk, and their names with them."""
    for above, _, names in os.walk(folder):
        for place in (*(os.path.join(above, name) for name in names), above):
            opened = os.open(place, os.O_RDONLY)
            try:
                os.fsync(opened)
            finally:
                os.close(opened)


def _flush_all(folder: int) -> None:
    """All of a file system in one go, as one flush a file would take a thousand times as long."""
    try:
        code: int = ctypes.CDLL(None, use_errno=True).syncfs(folder)
    except AttributeError:  # no such call on this system
        os.sync()
        return
    if code:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
