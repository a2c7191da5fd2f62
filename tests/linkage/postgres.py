"""A PostgreSQL of the tests' own: made in a temporary folder, spoken to through a socket there, thrown away.

Import the fixture ``postgres`` where it is used: ``from .postgres import temporary_postgres  # noqa: F401``.
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

psycopg = pytest.importorskip("psycopg", reason="not run: psycopg is not installed")

OWNER = "oncoscale"
QUICK = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "listen_addresses=")
"""Nothing in it outlives the tests, and nobody else can reach it."""


@dataclass(frozen=True)
class Cluster:
    """A running server, by the folder of its socket."""

    socket: Path

    def conninfo(self, database: str = "postgres") -> str:
        """For psycopg.connect."""
        return f"host={self.socket} user={OWNER} dbname={database}"

    def url(self, database: str = "postgres") -> str:
        """For SQLAlchemy."""
        return f"postgresql+psycopg://{OWNER}@/{database}?host={self.socket}"

    def database(self) -> str:
        """The name of a new, empty database."""
        name = f"d{uuid4().hex[:12]}"
        with psycopg.connect(self.conninfo(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return name


@pytest.fixture(scope="session", name="postgres")
def temporary_postgres() -> Iterator[Cluster]:
    """A running server, or a skip that says why. As root it runs as another user, since PostgreSQL refuses root."""
    programs = _programs()
    if programs is None:
        pytest.skip("not run: no PostgreSQL here (Debian: apt-get install postgresql)")
    run_as = _another_user()
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    try:
        if run_as:
            os.chown(folder, run_as.pw_uid, run_as.pw_gid)
        data = folder / "data"
        settings = " ".join(f"-c {one}" for one in (*QUICK, f"unix_socket_directories={folder}"))
        _run(
            run_as, programs / "initdb", "-D", data, "-U", OWNER, "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C"
        )
        _run(run_as, programs / "pg_ctl", "-D", data, "-w", "-l", folder / "log", "-o", settings, "start")
        try:
            yield Cluster(folder)
        finally:
            _run(run_as, programs / "pg_ctl", "-D", data, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _programs() -> Path | None:
    """The folder of initdb and pg_ctl: of the path, or where Debian puts them."""
    found = [Path(path).resolve() for name in ("pg_ctl",) if (path := shutil.which(name))]
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"), reverse=True)
    return next((one.parent for one in found if (one.parent / "initdb").exists()), None)


def _another_user() -> pwd.struct_passwd | None:
    """An account without privileges, if this one is root."""
    if os.geteuid() != 0:
        return None
    known = {one.pw_name: one for one in pwd.getpwall()}
    return next((known[name] for name in ("postgres", "nobody") if name in known), None)


def _run(account: pwd.struct_passwd | None, *command: str | Path) -> None:
    change = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []} if account else {}
    done = subprocess.run(
        [str(one) for one in command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd="/", **change
    )  # type: ignore[call-overload]
    if done.returncode:
        pytest.skip(f"not run: {Path(command[0]).name} failed: {done.stderr.decode(errors='replace').strip()[-200:]}")
