"""Tables as text: records by column name in CSV or TSV, refused in words when they are anything else."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from ...core.errors import FileRejected
from ...core.files import write_text

Row = TypeVar("Row")

NOTICE = (
    "Pseudonymised data remain personal data (Regulation (EU) 2016/679, art. 4(5)).\n"
    "Times are ages and intervals; no date has left the store. Nothing here was predicted by a model.\n"
)
"""Stands beside every export that is a folder of tables."""


def grouped(rows: Iterable[Row], key: Callable[[Row], str | None]) -> Mapping[str | None, list[Row]]:
    """Rows by a key, in their order; asking for a key that none has gives no row."""
    found: defaultdict[str | None, list[Row]] = defaultdict(list)
    for row in rows:
        found[key(row)].append(row)
    return found


def write_notice(folder: Path) -> None:
    """Say what the reader of a folder must know."""
    write_text(folder / "NOTICE.txt", NOTICE)


def write_table(path: Path, columns: Sequence[str], records: Iterable[Mapping[str, str]], delimiter: str = ",") -> None:
    """One line a record, in the order of the columns; what a record lacks is empty.

    CSV ends its lines with CR LF [RFC 4180], so that either of them inside a value is quoted. TSV quotes nothing: a
    value with a tab or the end of a line has no place in it and raises csv.Error.
    """
    ending = "\r\n" if delimiter == "," else "\n"
    with path.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(
            handle, list(columns), restval="", delimiter=delimiter, lineterminator=ending, **_quoting(delimiter)
        )
        writer.writeheader()
        writer.writerows(records)


def read_table(path: Path, delimiter: str = ",") -> tuple[tuple[str, ...], tuple[dict[str, str], ...]]:
    """(columns, records without their empty values).

    Raises FileRejected for text that is not UTF-8, columns of the same name, and lines of another length.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as handle:
            reader = csv.reader(handle, delimiter=delimiter, strict=True, **_quoting(delimiter))
            lines = [line for line in reader if line]
    except (OSError, ValueError, csv.Error) as error:
        raise no_table(path, "is no table") from error
    columns = tuple(name.strip() for name in lines[0]) if lines else ()
    if not columns or len(set(columns)) != len(columns) or "" in columns:
        raise no_table(path, "has no header, or columns of the same name")
    for number, line in enumerate(lines[1:], 2):
        if len(line) != len(columns):
            raise no_table(path, f"has {len(line)} values in row {number} and {len(columns)} columns")
    return columns, tuple(
        {name: value for name, value in zip(columns, line, strict=True) if value} for line in lines[1:]
    )


def _quoting(delimiter: str) -> dict[str, Any]:
    return {"quoting": csv.QUOTE_NONE, "quotechar": None} if delimiter == "\t" else {}


def no_table(path: Path, found: str) -> FileRejected:
    """That a file is not the table that it should be."""
    return FileRejected(
        f"{path.name!r} {found}",
        "UTF-8 text, one header, as many values in each row as there are columns",
        "export it again, or repair that row",
    )
