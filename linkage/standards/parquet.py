"""Tables for analysis: every row of the core in Apache Parquet, one file a table, for DuckDB, pandas, R or Spark.

A coded value is four columns (``quantity`` with its code, ``quantity_display``, ``_system``, ``_version``); attributes
that are JSON stay text. Two further files are made from the others, ready to be plotted:

forecasts.parquet   one row a prediction, with what it hangs on: run, attempt, subject, campaign, seed,
                    parameters_sha256, quantity, horizon_day, value, low, high, level, unit, how the attempt ended
parameters.parquet  one row a parameter of a set, as a number or as text; nested names are joined by dots
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import Field, fields
from pathlib import Path
from typing import Any

from ...core.errors import ConfigurationRejected, FileRejected
from ...core.files import canonical_json
from .. import core
from ..core import ROWS, Code, Holdings, is_code
from . import Gap, Read, Violation, native

NAME, VERSION = "parquet", "1"
FORM, SUFFIX = "folder", ""
PREDICTIONS = True

SCHEMA = f"oncoscale-tables-{VERSION}"
CODE = {"": "code", "_display": "display", "_system": "system", "_version": "version"}
"""What is put behind the name of a coded value, and the part of the code in that column."""

FORECASTS = {
    "run": "str", "attempt": "int", "subject": "str", "campaign": "str", "seed": "str", "parameters_sha256": "str",
    "quantity": "str", "horizon_day": "int", "value": "float", "low": "float", "high": "float", "level": "float",
    "unit": "str", "status": "str",
}  # fmt: skip
PARAMETERS = {"parameters_sha256": "str", "name": "str", "number": "float", "text": "str"}

Columns = Mapping[str, str]
"""Name of a column to what it holds: str, int or float."""


def render(holdings: Holdings, out: Path) -> None:
    """A folder of files. Raises ConfigurationRejected where pyarrow is not installed."""
    _pyarrow()
    out.mkdir(parents=True)
    for table, found in core.rows(holdings):
        _write(out / f"{table}.parquet", _columns(table), (_flat(one) for one in found))
    _write(out / "forecasts.parquet", FORECASTS, _forecasts(holdings))
    _write(out / "parameters.parquet", PARAMETERS, _parameters(holdings))


def read(path: Path) -> Read:
    """Exactly what was rendered. Raises FileRejected for anything else."""
    try:
        found = {table: tuple(_rows(table, Path(path) / f"{table}.parquet")) for table in ROWS}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FileRejected(
            f"{Path(path).name!r} does not hold the tables of a store",
            f"a folder of Parquet files of schema {SCHEMA}, as `oncoscale export --as parquet` writes",
            "export it again",
        ) from error
    return Read(Holdings(**found))


def check(out: Path) -> tuple[Violation, ...]:
    """Whether every reference leads to a row, and the files made from the others say what those say."""
    held = read(out).holdings
    made = (("forecasts", list(_forecasts(held))), ("parameters", list(_parameters(held))))
    wrong = [
        Violation("files made from the others agree with them", f"{name}.parquet", "other rows")
        for name, rows in made
        if _table(out / f"{name}.parquet").to_pylist() != rows
    ]
    return (*native.broken_references(held), *wrong)


def gaps() -> tuple[Gap, ...]:
    """None."""
    return ()


def mapping() -> Mapping[str, str]:
    """Every attribute under its own name."""
    return {path: "{}.parquet: {}".format(*path.split(".")) for path in core.attributes()}


def _forecasts(holdings: Holdings) -> Iterator[dict[str, Any]]:
    runs = {one.id: one for one in holdings.run}
    ended = {one.run: one for one in sorted(holdings.attempt, key=lambda one: (one.status == "done", one.n))}
    for one in holdings.prediction:
        run, attempt = runs.get(one.run), ended.get(one.run)
        yield {
            "run": one.run,
            "attempt": attempt.n if attempt else None,
            "subject": one.subject,
            "campaign": run.campaign if run else None,
            "seed": run.seed if run else None,
            "parameters_sha256": run.parameters if run else None,
            "quantity": one.quantity.code,
            **{name: getattr(one, name) for name in ("horizon_day", "value", "low", "high", "level")},
            "unit": one.unit.code,
            "status": attempt.status if attempt else None,
        }


def _parameters(holdings: Holdings) -> Iterator[dict[str, Any]]:
    for one in holdings.parameter_set:
        for name, value in _leaves(one.body):
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            yield {
                "parameters_sha256": one.sha256,
                "name": name,
                "number": float(value) if is_number else None,
                "text": value if isinstance(value, str) else None if is_number else canonical_json(value),
            }


def _leaves(body: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in sorted(body.items()):
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value


def _columns(table: str) -> Columns:
    found: dict[str, str] = {}
    for one in fields(ROWS[table]):
        if is_code(ROWS[table], one.name):
            found |= {one.name + behind: "str" for behind in CODE}
        else:
            kind = str(one.type).removesuffix(" | None")
            found[one.name] = kind if kind in ("int", "float") else "str"
    return found


def _flat(row: Any) -> dict[str, Any]:
    """The values of a row, by column."""
    found: dict[str, Any] = {}
    kind: type = type(row)
    for one in fields(row):
        value = getattr(row, one.name)
        if is_code(kind, one.name):
            found |= {one.name + behind: value and getattr(value, part) for behind, part in CODE.items()}
        elif isinstance(value, Mapping | tuple):
            found[one.name] = canonical_json(list(value) if isinstance(value, tuple) else dict(value))
        else:
            found[one.name] = value
    return found


def _rows(table: str, path: Path) -> Iterator[Any]:
    row = ROWS[table]
    for line in _table(path).to_pylist():
        yield row(**{one.name: _value(table, one, line) for one in fields(row)})


def _value(table: str, one: Field[Any], line: Mapping[str, Any]) -> Any:
    value, kind = line[one.name], str(one.type)
    if value is None:
        return None
    if is_code(ROWS[table], one.name):
        return Code(**{part: line[one.name + behind] for behind, part in CODE.items()})
    if "Attributes" in kind or "tuple" in kind:
        parsed = json.loads(value)
        return tuple(parsed) if isinstance(parsed, list) else parsed
    return value


def _write(path: Path, columns: Columns, rows: Iterable[Mapping[str, Any]]) -> None:
    pyarrow, parquet = _pyarrow()
    kinds = {"str": pyarrow.string(), "int": pyarrow.int64(), "float": pyarrow.float64()}
    schema = pyarrow.schema(
        [(name, kinds[kind]) for name, kind in columns.items()],
        metadata={"schema": SCHEMA, "notice": native.NOTICE},
    )
    listed: Sequence[Mapping[str, Any]] = list(rows)
    table = pyarrow.Table.from_pydict({name: [one[name] for one in listed] for name in columns}, schema=schema)
    parquet.write_table(table, path)


def _table(path: Path) -> Any:
    """Raises OSError or ValueError for a file that was not rendered here."""
    _, parquet = _pyarrow()
    found = parquet.read_table(path)
    if (found.schema.metadata or {}).get(b"schema") != SCHEMA.encode():
        raise ValueError("schema")
    return found


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ConfigurationRejected(
            "Parquet needs a library that is not installed", "pyarrow", "pip install 'oncoscale[parquet]'"
        ) from error
    return pyarrow, pyarrow.parquet
