"""Roles: one table says who may do what (roles.toml), and one function asks it before every command.

A store in which nobody has been granted a role is open: whoever can write its folder acts in any role. From the first
grant on, only the users it names act, each in the roles granted. On SQLite this binds whoever uses the commands; who
can read or write the files of the folder can pass by them, so the folder's permissions are the true border. On
PostgreSQL the database itself binds its users: to privileges by role, and to the rows of their sites (postgres.py).
"""

from __future__ import annotations

import os
import pwd
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from ..core.errors import ConfigurationRejected, ConsentDenied, StoreRejected
from . import acting, tables
from .audit import record_action
from .store import Store, now, user_of

ROLES = ("viewer", "analyst", "curator", "data-protection-officer", "admin")


@dataclass(frozen=True)
class Grant:
    """A user may act in a role; ``site`` narrows it to the subjects of one site (PostgreSQL), empty: all."""

    who: str
    role: str
    site: str
    at: str


@cache
def matrix() -> Mapping[str, tuple[str, ...]]:
    """Roles that may run each command on a store; empty for a command that names no store."""
    content = tomllib.loads((files(__package__) / "roles.toml").read_text(encoding="utf-8"))
    free = content.pop("names_no_store")["commands"]
    granted = {command: tuple(roles) for group in content.values() for command, roles in group.items()}
    return granted | dict.fromkeys(free, ())


def role_for(command: str, store: Path | str | None, stated: str = "") -> str:
    """The role in which the user runs a command; ``acting.UNSTATED`` where no store is touched.

    stated  a role that the user chose to act in; empty: any that was granted

    Raises ConsentDenied if no role of the user may, ConfigurationRejected for a role that there is not.
    """
    if stated and stated not in ROLES:
        raise ConfigurationRejected(f"there is no role {stated!r}", "one of " + ", ".join(ROLES), "correct --role")
    may = matrix().get(command, ())
    if store is None:
        return stated or acting.UNSTATED
    own, is_open = _held(store)
    having = [role for role in (ROLES if is_open else own) if stated in ("", role)]
    if stated and not having:
        raise _not_allowed(f"the role {stated} is not granted to you in this store")
    if chosen := next((role for role in may if role in having), ""):
        return chosen
    if is_open and not stated and not may:
        return acting.UNSTATED
    raise _not_allowed(f"`{command}` is not for {', '.join(having) or 'a user without a role'}", may)


def grants(store: Store) -> tuple[Grant, ...]:
    """Every grant of a store, by user."""
    with store.reading() as connection:
        rows = connection.execute(select(tables.granted).order_by(*tables.granted.primary_key.columns)).all()
    return tuple(Grant(row.who, row.role, row.site, row.at) for row in rows)


def grant(store: Store, who: str, role: str, site: str = "") -> Grant:
    """Let a user act in a role, on record. The first grant closes the store, so it must name an admin."""
    if role not in ROLES:
        raise ConfigurationRejected(f"there is no role {role!r}", "one of " + ", ".join(ROLES), "correct the role")
    with store.writing() as connection:
        made = Grant(who, role, site, now())
        if not _admins(connection) and role != "admin":
            raise ConfigurationRejected(
                "the store has no admin yet, and its first grant closes it",
                "an admin first",
                "run: oncoscale roles grant USER admin --store STORE",
            )
        same = (tables.granted.c.who == who, tables.granted.c.role == role, tables.granted.c.site == site)
        connection.execute(delete(tables.granted).where(*same))
        connection.execute(insert(tables.granted).values(**vars(made)))
        record_action(store, connection, "role", who, {"granted": role, "site": site})
        store.allow(connection, who, {one.role for one in _of(connection, who)})
    return made


def revoke(store: Store, who: str, role: str, site: str = "") -> None:
    """Take a role back, on record. Raises ConfigurationRejected for one not granted, and for the last admin."""
    with store.writing() as connection:
        same = (tables.granted.c.who == who, tables.granted.c.role == role, tables.granted.c.site == site)
        if not connection.execute(delete(tables.granted).where(*same)).rowcount:
            raise ConfigurationRejected("that role was not granted", "a grant on record", "see: oncoscale roles show")
        if not _admins(connection):
            raise ConfigurationRejected("nobody would be admin", "at least one admin", "grant admin to another first")
        record_action(store, connection, "role", who, {"revoked": role, "site": site})
        store.allow(connection, who, {one.role for one in _of(connection, who)})


def user() -> str:
    """The name by which the operating system knows who runs this."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"


def _held(store: Path | str) -> tuple[tuple[str, ...], bool]:
    """(roles of the user, whether the store is open). A store that does not open is left to the command to refuse."""
    try:
        opened = Store.open(store, read_only=True)
    except StoreRejected:
        return (), True
    with opened.reading() as connection:
        who = user() if connection.dialect.name == "sqlite" else user_of(connection).removeprefix("database user ")
        everybody = connection.execute(select(tables.granted.c.who)).first()
        return tuple(one.role for one in _of(connection, who)), everybody is None


def _of(connection: Connection, who: str) -> list[Any]:
    return list(connection.execute(select(tables.granted).where(tables.granted.c.who == who)).all())


def _admins(connection: Connection) -> int:
    return len(connection.execute(select(tables.granted.c.who).where(tables.granted.c.role == "admin")).all())


def _not_allowed(found: str, may: tuple[str, ...] = ()) -> ConsentDenied:
    expected = f"one of the roles {', '.join(may)}" if may else "a role that was granted"
    return ConsentDenied(found, expected, "ask an admin of the store: oncoscale roles grant USER ROLE --store STORE")
