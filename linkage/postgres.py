"""The same store on PostgreSQL: ``postgresql://USER@HOST/DATABASE?files=FOLDER``; images and results are in the folder.

The tables are those of SQLite. Whole numbers and numbers have 64 bits; JSON is text that is checked; the rules are
functions behind triggers. One writer at a time holds an advisory lock, as SQLite has it anyway, and the audit takes the
lock and checks its chain by itself, whoever writes. Users of the database see the subjects of the sites that were
granted to them: each policy asks the table of grants for ``current_user``, never for a setting, which every user could
set. The folder of files knows no such users: its permissions are the control there.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, insert
from sqlalchemy.dialects.sqlite.dml import OnConflictDoNothing
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.pool import NullPool

from ..core.errors import StoreRejected
from . import tables

EVERY_ROLE = ("viewer", "analyst", "curator", "data-protection-officer", "admin")
MAY_SEE = (
    "EXISTS (SELECT 1 FROM granted g WHERE g.who = current_user AND g.role <> 'admin'"
    " AND (g.site = '' OR g.site = {site}))"
)
SEES_ALL = MAY_SEE.format(site="''")
BY_SUBJECT = "subject IN (SELECT key FROM subject)"
BY_RUN = f"run IN (SELECT run FROM run_subject) OR {SEES_ALL}"
SEEN: Mapping[str, str] = {
    "subject": MAY_SEE.format(site="subject.site"),
    **dict.fromkeys(
        ("enrolment", "consent", "decision", "sample", "event", "image_series", "contains", "run_subject",
         "observation", "prediction", "export_subject"),
        BY_SUBJECT,
    ),
    "run": BY_RUN.replace("run IN", "id IN", 1),
    "attempt": BY_RUN,
    "link": BY_RUN,
    "artefact": f"sha256 IN (SELECT artefact FROM contains) OR {SEES_ALL}",
    "flag": f"artefact IN (SELECT artefact FROM contains) OR {SEES_ALL}",
    "export": f"id IN (SELECT export FROM export_subject) OR {SEES_ALL}",
}  # fmt: skip
"""Which rows a user sees, by table. What is not here names no subject."""

CHECKED_ON_ENTRY = tuple(table for table, seen in SEEN.items() if seen == BY_SUBJECT or table == "subject")
"""Tables into which a user enters only rows that they would see; the others are entered before their subject is."""

JSON_VALID = """CREATE FUNCTION json_valid(written text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN PERFORM written::json; RETURN true; EXCEPTION WHEN others THEN RETURN false; END $$"""

CHAIN = """CREATE FUNCTION audit_follows() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE last_seq bigint; last_hash text;
BEGIN
  PERFORM pg_advisory_xact_lock({lock});
  SELECT seq, hash INTO last_seq, last_hash FROM audit ORDER BY seq DESC LIMIT 1;
  IF NEW.seq <> coalesce(last_seq, 0) + 1 OR NEW.prev <> coalesce(last_hash, repeat('0', 64)) THEN
    RAISE EXCEPTION 'an entry of the audit must follow the last' USING ERRCODE = 'integrity_constraint_violation';
  END IF;
  RETURN NEW;
END $$"""


@compiles(OnConflictDoNothing, "postgresql")
def _or_nothing(*_: Any, **__: Any) -> str:
    """``insert … on_conflict_do_nothing`` of SQLAlchemy's SQLite dialect means the same on either database."""
    return "ON CONFLICT DO NOTHING"


def is_address(place: Path | str) -> bool:
    """Whether a store is named by the address of a database; a path has lost one of the two slashes."""
    return re.match(r"postgres(ql)?(\+psycopg)?:/", str(place)) is not None


def address(place: Path | str) -> tuple[URL, Path]:
    """(the database, the folder of files). Raises StoreRejected for an address without a folder, or with a password."""
    text = re.sub(r"^postgres(ql)?(\+psycopg)?:/+", "postgresql+psycopg://", str(place))
    try:
        url = make_url(text)
    except ArgumentError as error:
        raise StoreRejected("the address of the database cannot be read", _EXAMPLE, "correct --store") from error
    if url.password is not None:
        raise StoreRejected(
            "the address holds a password", "an address that may be seen", "use ~/.pgpass or PGPASSWORD"
        )
    folder = url.query.get("files")
    if not isinstance(folder, str):
        raise StoreRejected("the address names no folder for images and results", _EXAMPLE, "add ?files=FOLDER")
    return url.difference_update_query(["files"]), Path(folder)


_EXAMPLE = "postgresql://USER@HOST/DATABASE?files=FOLDER"


def engine(url: URL, *, read_only: bool) -> Engine:
    """An engine whose transactions are begun by hand and whose errors show no values."""
    # Compiling each query costs a second where nested policies make it look dear, and the query itself milliseconds.
    options = "-c jit=off" + (" -c default_transaction_read_only=on" if read_only else "")
    return create_engine(
        url,
        poolclass=NullPool,
        hide_parameters=True,
        isolation_level="AUTOCOMMIT",
        execution_options={"preserve_rowcount": True},
        connect_args={"options": options, "connect_timeout": 10},
    )


def statements(version: int, lock: int) -> Iterator[str]:
    """What makes a store besides its tables, in order."""
    yield "CREATE TABLE schema_version (version integer PRIMARY KEY)"
    yield f"INSERT INTO schema_version VALUES ({version})"
    for rule in tables.RULES:
        yield _function(rule)
        yield f"CREATE TRIGGER {rule.name} BEFORE {rule.on} ON {rule.table} FOR EACH ROW EXECUTE FUNCTION {rule.name}()"
    yield CHAIN.format(lock=lock)
    yield "CREATE TRIGGER audit_follows BEFORE INSERT ON audit FOR EACH ROW EXECUTE FUNCTION audit_follows()"
    for table, seen in SEEN.items():
        yield f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY"
        yield f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY"
        yield f"CREATE POLICY seen ON {table} FOR SELECT USING ({seen})"
        yield f"CREATE POLICY changed ON {table} FOR UPDATE USING ({seen})"
        yield f"CREATE POLICY deleted ON {table} FOR DELETE USING ({seen})"
        entered = seen if table in CHECKED_ON_ENTRY else "true"
        yield f"CREATE POLICY entered ON {table} FOR INSERT WITH CHECK ({entered})"


def grant_owner(connection: Connection, at: str) -> None:
    """Who makes the store may do everything in it."""
    owner = connection.exec_driver_sql("SELECT current_user").scalar_one()
    rows = [{"who": owner, "role": role, "site": "", "at": at} for role in EVERY_ROLE]
    connection.execute(insert(tables.granted), rows)


def allow(connection: Connection, who: str, roles: Iterable[str]) -> None:
    """Give a user of the database exactly what these roles need. Only the owner of the tables can."""
    quoted = _quoted(connection, who)
    schema = _quoted(connection, connection.exec_driver_sql("SELECT current_schema()").scalar_one())
    if owner_of(connection) == who:
        return
    for what in ("TABLES", "SEQUENCES"):
        connection.exec_driver_sql(f"REVOKE ALL ON ALL {what} IN SCHEMA {schema} FROM {quoted}")
    chosen = sorted(roles)
    for role in chosen:
        for privilege, on in privileges()[role].items():
            target = f"ALL TABLES IN SCHEMA {schema}" if on == ["*"] else "TABLE " + ", ".join(on)
            connection.exec_driver_sql(f"GRANT {privilege} ON {target} TO {quoted}")
    if chosen:
        connection.exec_driver_sql(f"GRANT USAGE ON SCHEMA {schema} TO {quoted}")
        connection.exec_driver_sql(f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA {schema} TO {quoted}")


def owner_of(connection: Connection) -> str:
    """The user who made the store."""
    query = "SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = 'audit'::regclass"
    return str(connection.exec_driver_sql(query).scalar_one())


def compact(connection: Connection) -> None:
    """Rewrite every table, so that no page of the database holds what was deleted. Only the owner of the tables can."""
    if owner_of(connection) != connection.exec_driver_sql("SELECT current_user").scalar_one():
        raise StoreRejected(
            "only the owner of the database can rewrite it without what was deleted",
            "the user who made the store",
            "have them run the same command again: the rows are gone, their bytes not yet",
        )
    for table in tables.metadata.sorted_tables:
        connection.exec_driver_sql(f"VACUUM FULL {table.name}")


@cache
def privileges() -> Mapping[str, Mapping[str, list[str]]]:
    """Role to privilege to tables."""
    return tomllib.loads((files(__package__) / "postgres.toml").read_text(encoding="utf-8"))


def refusal(text: str) -> StoreRejected | None:
    """What the user can do about an error of the server, by its words in lower case; None for any other."""
    if any(words in text for words in ("permission denied", "row-level security", "must be owner")):
        return StoreRejected(
            "the database does not let its user do that",
            "a role that may, for a subject of one of the user's sites",
            "ask an admin of the store: oncoscale roles grant USER ROLE --store STORE",
        )
    if any(words in text for words in ("connection is bad", "connection failed", "refused", "could not translate")):
        return StoreRejected(
            "the database cannot be reached", "a PostgreSQL server that lets its user in", "check the address"
        )
    if text.startswith("role ") and "does not exist" in text:
        return StoreRejected(
            "the database knows no such user", "a user of the database", "have it made first: CREATE ROLE … LOGIN"
        )
    return None


def _function(rule: tables.Rule) -> str:
    """A rule as a function; it sees every row, whoever writes, because it runs as the owner."""
    return (
        f"CREATE FUNCTION {rule.name}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT"
        f" AS $$ BEGIN IF {rule.when} THEN RAISE EXCEPTION '{rule.message}'"
        " USING ERRCODE = 'integrity_constraint_violation'; END IF;"
        f" RETURN {'OLD' if rule.on == 'DELETE' else 'NEW'}; END $$"
    )


def _quoted(connection: Connection, name: str) -> str:
    return connection.dialect.identifier_preparer.quote_identifier(name)
