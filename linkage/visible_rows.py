"""Which rows of a store a question may see, and a copy of them in memory that knows nothing else.

SQLite's rows are copied by SQLite itself, in the process that answers; PostgreSQL's are fetched first, by the user who
asks and under the policies of the database. The copy has the same tables, columns and order of rows either way.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import fields
from pathlib import Path
from typing import Any

from sqlalchemy import REAL, Table, Text, text

from ..core.errors import ConfigurationRejected
from . import core, tables
from .leaving import KEPT_AT_HOME
from .store import Store

OWNED = {"enrolment", "consent", "decision", "sample", "event", "image_series", "contains", "run_subject",
         "observation", "prediction"}  # fmt: skip
"""Tables whose rows belong to one subject, by their column ``subject``."""

CHOSEN: Mapping[str, str] = {
    "subject": "key IN temp.seen",
    "run": "id IN (SELECT run FROM store.run_subject WHERE subject IN temp.seen)",
    "attempt": "run IN (SELECT run FROM store.run_subject WHERE subject IN temp.seen)",
    "link": "run IN (SELECT run FROM store.run_subject WHERE subject IN temp.seen)"
            " AND (series IS NULL OR series IN (SELECT uid FROM store.image_series WHERE subject IN temp.seen))"
            " AND (sample IS NULL OR sample IN (SELECT id FROM store.sample WHERE subject IN temp.seen))",
    "artefact": "sha256 IN (SELECT artefact FROM store.contains WHERE subject IN temp.seen)",
    "parameter_set": "sha256 IN (SELECT parameters FROM store.run WHERE id IN"
                     " (SELECT run FROM store.run_subject WHERE subject IN temp.seen))",
} | dict.fromkeys(OWNED, "subject IN temp.seen")  # fmt: skip
"""Which rows of a table can be seen; all of those of a table that holds nobody's data."""

VISIBLE = (*core.ROWS, "code")


def mentioned(question: str) -> tuple[str, ...]:
    """The tables whose names are words of the question."""
    words = set(re.findall(r"\w+", question.lower()))
    return tuple(table for table in VISIBLE if table in words)


def copy_rows(connection: sqlite3.Connection, database: str, wanted: Iterable[str], seen: Iterable[str]) -> None:
    """The rows that can be seen, from a store's SQLite file into the empty database; the store is let go of."""
    connection.execute("ATTACH ? AS store", (f"{Path(database).as_uri()}?mode=ro",))
    connection.execute("CREATE TEMP TABLE seen (key TEXT PRIMARY KEY)")
    connection.executemany("INSERT INTO temp.seen VALUES (?)", [(key,) for key in seen])
    connection.execute("BEGIN")
    for table in wanted:
        order = ", ".join(_order(table))
        connection.execute(
            f"CREATE TABLE main.{table} AS SELECT * FROM store.{table} WHERE {_condition(table)} ORDER BY {order}"
        )
        _withhold(connection, table)
    connection.execute("COMMIT")
    connection.execute("DROP TABLE temp.seen")
    connection.execute("DETACH store")


def fetched(store: Store, wanted: Sequence[str], seen: Sequence[str], memory_mib: float) -> bytes:
    """The same copy of a store on PostgreSQL, as the bytes of a database. Raises ConfigurationRejected if too large."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as copy, store.reading() as connection:
        page = copy.execute("PRAGMA page_size").fetchone()[0]
        copy.execute(f"PRAGMA max_page_count={max(1, int(memory_mib * 2**20 / 4 / page))}")
        try:
            copy.execute("CREATE TABLE first (n)")  # a database that never had a table has no bytes
            copy.execute("DROP TABLE first")
            copy.execute("BEGIN")
            for table in wanted:
                columns = tables.metadata.tables[table].columns
                copy.execute(f"CREATE TABLE {table} ({', '.join(f'{one.name} {_kind(one.type)}' for one in columns)})")
                rows = connection.execute(_query(table).execution_options(yield_per=1000), {"seen": list(seen)})
                copy.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(columns))})", map(tuple, rows))
                _withhold(copy, table)
        except sqlite3.OperationalError as error:
            raise ConfigurationRejected(
                f"the rows that the question can see are too many for {memory_mib:g} MiB", "fewer rows",
                "ask about fewer subjects (--of)",
            ) from error  # fmt: skip
        copy.execute("COMMIT")
        return copy.serialize()


def _query(table: str) -> Any:
    """The rows of a table that can be seen, as PostgreSQL is asked for them; texts in the order of their bytes."""
    names = ", ".join(f"{column.name}" for column in tables.metadata.tables[table].columns)
    texts = {one.name for one in tables.metadata.tables[table].columns if isinstance(one.type, Text)}
    order = ", ".join(f'{name} COLLATE "C"' if name in texts else name for name in _order(table))
    condition = _condition(table).replace("store.", "").replace("IN temp.seen", "= ANY(:seen)")
    return text(f"SELECT {names} FROM {table} WHERE {condition} ORDER BY {order}")


def _condition(table: str) -> str:
    return _codes() if table == "code" else CHOSEN.get(table, "1 = 1")


def _order(table: str) -> list[str]:
    chosen: Table = tables.metadata.tables[table]
    return [column.name for column in chosen.primary_key.columns or chosen.columns]


def _kind(type_: object) -> str:
    """What SQLite calls the columns of a table that it makes of a selection."""
    return "TEXT" if isinstance(type_, Text) else "REAL" if isinstance(type_, REAL) else "INT"


def _withhold(connection: sqlite3.Connection, table: str) -> None:
    """Attributes that serve the store alone are not shown."""
    if table in ("event", "study"):
        keys = ", ".join(f"'$.{name}'" for name in sorted(KEPT_AT_HOME))
        connection.execute(f"UPDATE {table} SET attributes = json_remove(attributes, {keys})")


def _codes() -> str:
    """Which codes can be seen: those that rows point to which can be seen."""
    used = [
        f"SELECT {one.name} FROM store.{table} WHERE {CHOSEN.get(table, '1 = 1')}"
        for table, row in core.ROWS.items()
        for one in fields(row)
        if core.is_code(row, one.name)
    ]
    return f"id IN ({' UNION '.join(used)})"
