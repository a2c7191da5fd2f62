"""Questions to the store, in SQL and in SPARQL: read only, within limits, about those alone whose consent covers it.

Whatever is asked is worked out in a child process of limited memory and time. SQL sees a copy in memory that holds
the rows of those subjects and nothing else (visible_rows.py); the store is let go of before the question is read.
SPARQL sees the graph that the standard ``rdf`` renders of the same rows. Neither can write, attach another database or
reach a network.
Each question leaves one entry in the audit. Cells are not suppressed here: every row is of a subject whose consent
covers the purpose, and nothing leaves the store; what leaves goes through ``exporting``.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from hashlib import sha256
from math import isfinite
from typing import Any

from ..core.errors import ConfigurationRejected, FileRejected
from ..imaging.guarded import MEMORY, Guard
from .audit import record_action
from .consent import PURPOSES, why_denied
from .core import Holdings, Series
from .exporting import subjects_named
from .holding import held
from .leaving import leaving
from .store import Store
from .visible_rows import VISIBLE, copy_rows, fetched, mentioned

CATEGORIES = ("imaging",)
"""Kinds of data that a question shows."""

LONGEST_TEXT = 100_000
LARGEST_VALUE = 10_000_000
"""Of a question, and of one value in an answer, in bytes. ASSUMED: far more than a question needs."""


@dataclass(frozen=True)
class Limits:
    """What a question may cost: seconds, MiB of memory, rows of the answer."""

    seconds: float = 60.0
    memory_mib: float = MEMORY.value
    rows: int = 10_000


@dataclass(frozen=True)
class Answer:
    """The answer to a question.

    columns    names, in order
    rows       values: None, a number, or text
    is_cut     there are more rows than the limit
    subjects   how many subjects the question could see
    left_out   how many more were asked about, whose consent does not cover it
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    is_cut: bool
    subjects: int
    left_out: int


Rows = tuple[tuple[str, ...], list[tuple[Any, ...]], bool]
"""(columns, rows, whether there are more)."""


def ask_sql(
    store: Store, text: str, *, of: str = "all", purpose: str = "HRESCH", limits: Limits | None = None
) -> Answer:
    """One SELECT over the tables of the core and ``code``.

    of  a run, a subject, a collection, a file of keys, or ``all``; see ``exporting.subjects_named``

    Raises ConfigurationRejected for anything but one SELECT, for a table or a column that is not there, and for a
    question that spends its limits.
    """
    limits = limits or Limits()
    seen, left_out = _asked(store, text, of, purpose, "sql")
    rows: str | bytes = str((store.path / "oncoscale.sqlite").absolute())
    if store.engine.dialect.name == "postgresql":
        rows = fetched(store, mentioned(text), seen, limits.memory_mib)
    found = _guarded(limits, rows_of_sql, rows, text, seen, limits)
    return Answer(*_answered(found), len(seen), left_out)


def ask_sparql(
    store: Store,
    text: str,
    *,
    of: str = "all",
    purpose: str = "HRESCH",
    limits: Limits | None = None,
    images: Callable[[list[str]], tuple[Series, ...]] | None = None,
) -> Answer:
    """One SPARQL query (SELECT, ASK, CONSTRUCT or DESCRIBE) over the graph of the subjects that ``of`` names.

    images  gives the image series of subjects, from elsewhere; without it they are the store's own

    The prefixes of the rendering need not be declared. Raises as ``ask_sql``; SERVICE and FROM are refused, since
    they would reach a network.
    """
    limits = limits or Limits()
    seen, left_out = _asked(store, text, of, purpose, "sparql")
    with store.reading() as connection:
        holdings = leaving(held(connection, seen))
    if images is not None:
        holdings = replace(holdings, image_series=images(seen))
    found = _guarded(limits, rows_of_sparql, holdings, text, limits)
    return Answer(*_answered(found), len(seen), left_out)


def _answered(found: Rows) -> tuple[tuple[str, ...], tuple[tuple[Any, ...], ...], bool]:
    columns, rows, is_cut = found
    return tuple(columns), tuple(map(tuple, rows)), is_cut


def _asked(store: Store, text: str, of: str, purpose: str, language: str) -> tuple[list[str], int]:
    """(subjects that the question may see, how many it may not), after the question is on record."""
    if purpose not in PURPOSES:
        raise ConfigurationRejected(
            f"{purpose!r} is no purpose", "one of " + ", ".join(PURPOSES), "name what the question is for"
        )
    if not text.strip() or len(text) > LONGEST_TEXT:
        raise _no_question("no question, or one that is too long")
    keys, _ = subjects_named(store, of)
    detail = {"language": language, "question": sha256(text.encode()).hexdigest(), "purpose": purpose}
    with store.writing() as connection:
        seen = [str(key) for key in keys if not why_denied(connection, key, purpose, CATEGORIES)]
        record_action(store, connection, "query", of, detail | {"subjects": len(seen)})
    return seen, len(keys) - len(seen)


def _guarded(limits: Limits, work: Callable[..., Rows], *arguments: Any) -> Rows:
    """The work in a child process under the limits."""
    with Guard(limits.memory_mib, limits.seconds) as guard:
        try:
            return guard.call("the question", work, *arguments)
        except FileRejected as error:
            raise ConfigurationRejected(
                error.found, f"an answer within {limits.seconds:g} s and {limits.memory_mib:g} MiB",
                "ask for less: about fewer subjects (--of), or with a LIMIT",
            ) from None  # fmt: skip


# SQL


ALLOWED = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}


def rows_of_sql(source: str | bytes, text: str, seen: Iterable[str], limits: Limits) -> Rows:
    """The answer to one SELECT; runs in the child. ``source``: the store's SQLite file, or the bytes of ``fetched``."""
    connection = sqlite3.connect(":memory:", uri=True, isolation_level=None)
    try:
        if isinstance(source, bytes):
            connection.deserialize(source)
        else:
            copy_rows(connection, source, mentioned(text), seen)
        _confine(connection)
        found = connection.execute(text)
        if found.description is None:
            raise _no_question("a statement that is no SELECT")
        rows = found.fetchmany(limits.rows)
        return tuple(one[0] for one in found.description), _plain_rows(rows), found.fetchone() is not None
    except (sqlite3.Error, sqlite3.Warning) as error:
        raise _no_question(f"SQLite cannot answer it ({_reason(error)})") from None
    finally:
        connection.close()


def _confine(connection: sqlite3.Connection) -> None:
    """Nothing can be written, attached or loaded from now on."""
    connection.execute("PRAGMA query_only=ON")
    connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LARGEST_VALUE)
    connection.setlimit(sqlite3.SQLITE_LIMIT_SQL_LENGTH, LONGEST_TEXT)
    connection.set_authorizer(lambda action, *_: sqlite3.SQLITE_OK if action in ALLOWED else sqlite3.SQLITE_DENY)


def _plain_rows(rows: Iterable[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return [tuple(map(_plain, row)) for row in rows]


def _plain(value: Any) -> Any:
    """A value that JSON can hold: bytes in hexadecimal digits, numbers that are none in words."""
    if isinstance(value, bytes):
        return value.hex()
    return str(value) if isinstance(value, float) and not isfinite(value) else value


def _reason(error: Exception) -> str:
    """SQLite's own words about the question; they quote the question, never a row."""
    words = str(error)
    return f"{words}; tables: {', '.join(VISIBLE)}" if "no such table" in words else words


# SPARQL


def rows_of_sparql(holdings: Holdings, text: str, limits: Limits) -> Rows:
    """The answer to one query over the graph of these holdings; runs in the child."""
    from rdflib.plugins import sparql

    from .standards.rdf import graph_of

    sparql.SPARQL_LOAD_GRAPHS = False
    query = parsed(text)
    try:
        return _rows_of(graph_of(holdings).query(query), limits.rows)
    except MemoryError:
        raise
    except Exception as error:  # an evaluation fails with whatever its functions raise
        raise _no_question(f"it cannot be answered ({type(error).__name__})") from None


def parsed(text: str) -> Any:
    """A query ready to be evaluated. Raises ConfigurationRejected for an update, or one that would fetch something."""
    from rdflib.plugins.sparql.algebra import translateQuery
    from rdflib.plugins.sparql.parser import parseQuery

    from .standards._rdf_terms import PREFIXES

    try:
        parsed = parseQuery(text)
        _refuse_network(parsed)  # before the translation, which changes what was parsed
        return translateQuery(parsed, initNs=PREFIXES)
    except ConfigurationRejected:
        raise
    except Exception as error:  # the parser raises what its grammar library does
        line, column = getattr(error, "lineno", None), getattr(error, "column", None)
        where = type(error).__name__ if line is None else f"it cannot be read from line {line}, column {column}"
        raise _no_question(f"it is no SPARQL query ({where})") from None


def _rows_of(found: Any, most: int) -> Rows:
    if found.type == "ASK":
        return ("answer",), [(bool(found.askAnswer),)], False
    columns = tuple(map(str, found.vars)) if found.type == "SELECT" else ("subject", "predicate", "object")
    rows: list[tuple[Any, ...]] = []
    for row in found:
        if len(rows) == most:
            return columns, rows, True
        rows.append(tuple(_value(term) for term in row))
    return columns, rows, False


def _refuse_network(parsed: Any) -> None:
    """Raises ConfigurationRejected for a query that would fetch something."""
    from rdflib.plugins.sparql.parserutils import CompValue

    if isinstance(parsed, CompValue):
        if parsed.name in ("ServiceGraphPattern", "DatasetClause"):
            raise _no_question("SERVICE or FROM, which would reach a network")
        for part in parsed.values():
            _refuse_network(part)
    elif isinstance(parsed, Iterable) and not isinstance(parsed, str | bytes):
        for part in parsed:  # the parser's own lists are mappings too: their members count, not their names
            _refuse_network(part)


def _value(term: Any) -> Any:
    from rdflib import Literal

    if term is None:
        return None
    plain = term.toPython() if isinstance(term, Literal) else str(term)
    return _plain(plain) if isinstance(plain, int | float | bool) else str(term)


def _no_question(found: str) -> ConfigurationRejected:
    return ConfigurationRejected(
        found, "one SELECT in SQL, or one SPARQL query, that only reads", "correct the question; see docs, query"
    )
