"""The verb ``query`` as a Python call: a question to the store, and its answer as a table."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import ConfigurationRejected
from .console import Result

if TYPE_CHECKING:
    from ..imaging.dicomweb import DicomWeb
    from ..linkage.querying import Answer


@dataclass(frozen=True)
class QueryRequest:
    """A question as typed: in SPARQL or in SQL, about whom, and what it may cost.

    archive  address of a DICOMweb service that is asked for the images; login and plain_http: see ``archiving.Address``
    """

    sparql: str | None
    sql: str | None
    of: str = "all"
    purpose: str = "HRESCH"
    seconds: float = 60.0
    rows: int = 10_000
    archive: str | None = None
    login: Path | None = None
    plain_http: bool = False


def query(store: Path, request: QueryRequest, *, as_csv: bool = False) -> Result:
    """Ask the store."""
    from ..linkage.archive_query import ask_archive
    from ..linkage.querying import Limits, ask_sparql, ask_sql
    from ..linkage.store import Store

    if (request.sparql is None) == (request.sql is None):
        raise ConfigurationRejected(
            "no question, or two", "a SPARQL query, or --sql with a SELECT", "ask in one of the two languages"
        )
    opened, limits = Store.open(store), Limits(seconds=request.seconds, rows=request.rows)
    asked = {"of": request.of, "purpose": request.purpose, "limits": limits}
    if request.archive is not None:
        answer = ask_archive(opened, _archive(request), request.sparql or "", **asked)  # type: ignore[arg-type]
    elif request.sql is not None:
        answer = ask_sql(opened, request.sql, **asked)  # type: ignore[arg-type]
    else:
        answer = ask_sparql(opened, request.sparql or "", **asked)  # type: ignore[arg-type]
    return Result(_content(answer), comma_separated(answer) if as_csv else "\n".join(_words(answer)))


def _archive(request: QueryRequest) -> DicomWeb:
    """The archive that is to be asked. Raises ConfigurationRejected for SQL, or an address that is none."""
    from ..imaging.dicomweb import DicomWeb
    from .archive_login import archive_login

    if request.sql is not None:
        raise ConfigurationRejected("--archive with --sql", "a question in SPARQL", "ask in SPARQL, or leave --archive")
    url = request.archive or ""
    return DicomWeb(url, archive_login(url, request.login), request.plain_http)


def _content(answer: Answer) -> dict[str, Any]:
    return {
        "columns": list(answer.columns),
        "rows": [list(row) for row in answer.rows],
        "is_cut": answer.is_cut,
        "subjects": answer.subjects,
        "left_out": answer.left_out,
    }


def comma_separated(answer: Answer) -> str:
    """The answer as CSV, with a heading."""
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(answer.columns)
    writer.writerows(answer.rows)
    return text.getvalue()


def _words(answer: Answer) -> list[str]:
    shown = [["" if value is None else str(value) for value in row] for row in answer.rows]
    widths = [max([len(name), *(len(row[place]) for row in shown)]) for place, name in enumerate(answer.columns)]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths)).rstrip()
             for row in (list(answer.columns), ["-" * width for width in widths], *shown)]  # fmt: skip
    cut = ", and more (--rows)" if answer.is_cut else ""
    about = f"{len(shown)} row(s){cut}; {answer.subjects} subject(s) seen"
    return [*lines, "", f"{about}, {answer.left_out} left out: no consent covers it" if answer.left_out else about]
