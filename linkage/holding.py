"""Between the store's tables and the core's rows: what is held about some subjects, and what is taken in."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import fields
from functools import cache
from typing import Any

from sqlalchemy import BindParameter, Connection, Select, Table, bindparam, select
from sqlalchemy.dialects.sqlite import insert

from ..core.files import canonical_json
from . import tables
from .core import ROWS, Code, Holdings, is_code
from .store import code_id

JSON = {"attributes", "acquisition", "passport", "body", "failure", "purposes", "categories"}
"""Columns that hold JSON; lists become tuples."""


def held(connection: Connection, subjects: Iterable[str], *, only: Collection[str] = tuple(ROWS)) -> Holdings:
    """All that is held about these subjects: their own rows, and whatever those refer to.

    A run of several subjects comes along when one of them is asked for; rows of the others do not.

    only  the tables that are read; the others come back empty
    """
    keys = sorted(set(subjects))
    codes = _codes(connection)
    return Holdings(**{table: _read(connection, table, keys, codes) for table in ROWS if table in only})


def take_in(connection: Connection, holdings: Holdings) -> dict[str, int]:
    """Enter the rows that the store does not hold yet, in the order of their references; returns how many, by table."""
    entered = {}
    for table, row in ROWS.items():
        ordered = _parents_first(getattr(holdings, table))
        entered[table] = sum(_enter(connection, tables.metadata.tables[table], row, one) for one in ordered)
    return {table: count for table, count in entered.items() if count}


def _parents_first(found: tuple[Any, ...]) -> list[Any]:
    """Rows after the row of their own table that they name as parent, or supersede."""
    by_id = {one.id: one for one in found if hasattr(one, "id")}
    ordered: dict[int, Any] = {}

    def place(one: Any) -> None:
        above = by_id.get(getattr(one, "parent", None) or getattr(one, "supersedes", None) or "")
        if id(one) not in ordered:
            if above is not None and above is not one:
                place(above)
            ordered[id(one)] = one

    for one in found:
        place(one)
    return list(ordered.values())


def _enter(connection: Connection, table: Table, row: type, one: Any) -> int:
    values = {field.name: _stored(connection, row, field.name, getattr(one, field.name)) for field in fields(row)}
    return int(connection.execute(insert(table).values(**values).on_conflict_do_nothing()).rowcount)


def _stored(connection: Connection, row: type, name: str, value: Any) -> Any:
    if value is None:
        return None
    if is_code(row, name):
        return code_id(connection, value.system, value.code, value.display, value.version)
    return canonical_json(_plain(value)) if name in JSON else value


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else dict(value)


def _codes(connection: Connection) -> Mapping[int, Code]:
    return {
        row.id: Code(row.system, row.code, row.display, row.version)
        for row in connection.execute(select(tables.code)).all()
    }


KEYS: BindParameter[Sequence[str]] = bindparam("keys", expanding=True)
"""The subjects asked for: named when a question is asked, so that each is put together once."""


@cache
def _wanted(table: str) -> Select[Any]:
    """The rows of a table that belong to the subjects asked for."""
    chosen = tables.metadata.tables[table]
    query = select(*(chosen.c[one.name] for one in fields(ROWS[table]))).order_by(*chosen.primary_key.columns)
    runs = select(tables.run_subject.c.run).where(tables.run_subject.c.subject.in_(KEYS))
    artefacts = select(tables.contains.c.artefact).where(tables.contains.c.subject.in_(KEYS))
    own_runs = select(tables.run).where(tables.run.c.id.in_(runs)).subquery()
    match table:
        case "subject":
            return query.where(chosen.c.key.in_(KEYS))
        case "run":
            return query.where(chosen.c.id.in_(runs))
        case "attempt" | "link":
            return query.where(chosen.c.run.in_(runs))
        case "artefact":
            return query.where(chosen.c.sha256.in_(artefacts))
        case "software":
            measured = select(tables.observation.c.software).where(tables.observation.c.subject.in_(KEYS))
            return query.where(chosen.c.id.in_(select(own_runs.c.software)) | chosen.c.id.in_(measured))
        case "parameter_set":
            return query.where(chosen.c.sha256.in_(select(own_runs.c.parameters)))
        case "study":
            return query.where(
                chosen.c.id.in_(select(tables.enrolment.c.study).where(tables.enrolment.c.subject.in_(KEYS)))
            )
        case "collection":
            return query.where(chosen.c.id.in_(_collections()))
        case "biobank":
            keepers = select(tables.collection.c.biobank).where(tables.collection.c.id.in_(_collections()))
            return query.where(chosen.c.id.in_(keepers))
        case _:
            return query.where(chosen.c.subject.in_(KEYS))


def _collections() -> Select[Any]:
    joined = select(tables.enrolment.c.collection).where(tables.enrolment.c.subject.in_(KEYS))
    return joined.union(select(tables.sample.c.collection).where(tables.sample.c.subject.in_(KEYS)))  # type: ignore[return-value]


def _read(connection: Connection, table: str, keys: list[str], codes: Mapping[int, Code]) -> tuple[Any, ...]:
    row = ROWS[table]
    readers = [_reader(row, one.name, codes) for one in fields(row)]
    return tuple(
        row(*(None if value is None else read(value) for read, value in zip(readers, line)))
        for line in connection.execute(_wanted(table), {"keys": keys})
    )


def _reader(row: type, name: str, codes: Mapping[int, Code]) -> Callable[[Any], Any]:
    """From a column's value, when there is one, to a field's."""
    if is_code(row, name):
        return codes.__getitem__
    return _parsed if name in JSON else _as_it_is


def _as_it_is(value: Any) -> Any:
    return value


def _parsed(text: str) -> Any:
    parsed = json.loads(text)
    return tuple(parsed) if isinstance(parsed, list) else parsed
