"""What SQLite cannot change is made anew: the steps that migrations share."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def carry_out(op: Any, statements: Path) -> None:
    """The statements of a version: new tables, changed ones made anew, indexes and rules.

    Rules first go and last come back, because they speak of tables that are rebuilt.
    """
    told = tomllib.loads(statements.read_text(encoding="utf-8"))
    without_triggers(op)
    for statement in told["new"]:
        op.execute(statement)
    for one in told["changed"]:
        rebuild(op, one["table"], one["kept"], one["made"])
    for statement in (*told["indexes"], *told["triggers"]):
        op.execute(statement)


def without_triggers(op: Any) -> None:
    """Drop every rule of the database: they speak of tables that are about to be rebuilt."""
    for (name,) in op.get_bind().exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'trigger'").all():
        op.execute(f"DROP TRIGGER {name}")


def rebuild(op: Any, table: str, kept: Sequence[str], made: str) -> None:
    """Make a table anew, fill it with the columns that are kept, and put it in place of the old one."""
    columns = ", ".join(f'"{column}"' for column in kept)
    op.execute(made.replace(f"CREATE TABLE {table} ", f"CREATE TABLE new_{table} ", 1))
    op.execute(f"INSERT INTO new_{table} ({columns}) SELECT {columns} FROM {table}")
    op.execute(f"DROP TABLE {table}")
    op.execute(f"ALTER TABLE new_{table} RENAME TO {table}")
