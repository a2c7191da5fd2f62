"""A PostgreSQL server of the tests' own, thrown away afterwards.

Import the fixture where it is used: ``from .postgres_store import server``. As root the server runs as another user,
since PostgreSQL refuses to run as root.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest

OWNER = "owner"
QUICK = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "listen_addresses=", "max_connections=20")


@dataclass(frozen=True)
class Server:
    """A running server: the folder of its socket and of its data."""

    socket: Path
    data: Path

    def run(self, sql: str, database: str = "postgres", user: str = OWNER) -> list[tuple[object, ...]]:
        """One statement, as a user; its rows if it has any."""
        import psycopg

        where = f"host={self.socket} user={user} dbname={database}"
        with psycopg.connect(where, autocommit=True) as connection:
            answer = connection.execute(sql)
            return answer.fetchall() if answer.description else []

    def address(self, database: str, files: Path, user: str = OWNER) -> str:
        """What names a store on it."""
        return f"postgresql://{user}@/{database}?host={self.socket}&files={files}"

    def database(self, like: str = "template1") -> str:
        """The name of a new database, empty or a copy of another, whose owner is no superuser."""
        name = f"d{uuid4().hex[:12]}"
        if not self.run("SELECT 1 FROM pg_roles WHERE rolname = 'keeper'"):
            self.run("CREATE ROLE keeper LOGIN")
        self.run(f"CREATE DATABASE {name} OWNER keeper TEMPLATE {like}")
        return name

    def pages(self, database: str) -> Path:
        """The folder in which the server keeps a database."""
        ((number,),) = self.run(f"SELECT oid FROM pg_database WHERE datname = '{database}'")
        return self.data / "base" / str(number)


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A running server, or a skip that says why."""
    pytest.importorskip("psycopg", reason="not run: psycopg is not installed")
    programs = _programs()
    if programs is None:
        pytest.skip("not run: no PostgreSQL on this machine (Debian: postgresql)")
    account = _account()
    if os.geteuid() == 0 and account is None:
        pytest.skip("not run: root may not run PostgreSQL, and there is no other account")
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    try:
        if account:
            os.chown(folder, account.pw_uid, account.pw_gid)
        data, settings = folder / "data", " ".join(f"-c {one}" for one in (*QUICK, f"unix_socket_directories={folder}"))
        made = ("-U", OWNER, "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C")
        _run(account, programs / "initdb", "-D", data, *made)
        _run(account, programs / "pg_ctl", "-D", data, "-w", "-l", folder / "log", "-o", settings, "start")
        try:
            yield Server(folder, data)
        finally:
            _run(account, programs / "pg_ctl", "-D", data, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _programs() -> Path | None:
    """The folder of initdb and pg_ctl: of the path, or where Debian puts them."""
    found = [Path(path).resolve() for path in (shutil.which("pg_ctl"),) if path]
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"), reverse=True)
    return next((one.parent for one in found if (one.parent / "initdb").exists()), None)


def _account() -> pwd.struct_passwd | None:
    """An account without privileges, if this one is root."""
    known = {one.pw_name: one for one in pwd.getpwall()} if os.geteuid() == 0 else {}
    return next((known[name] for name in ("postgres", "nobody") if name in known), None)


def _run(account: pwd.struct_passwd | None, *command: str | Path) -> None:
    change = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []} if account else {}
    done = subprocess.run([*map(str, command)], cwd="/", capture_output=True, text=True, check=False, **change)
    if done.returncode:
        raise RuntimeError(f"{Path(command[0]).name} failed: {done.stderr[-2000:]}")
