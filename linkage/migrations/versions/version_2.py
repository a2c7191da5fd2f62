"""Biobanks, collections, samples, observations, exports, gaps, tombstones, flags and roles; keys that are pseudonyms to
the letter; links to samples.

Three tables are rebuilt, as SQLite cannot change their checks: made anew, filled, put in place of the old one.
"""

import tomllib
from pathlib import Path

from alembic import op

revision = "2"
down_revision = "1"


def upgrade() -> None:
    """Rules first go and last come back, because they speak of tables that are rebuilt."""
    statements = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
    for (name,) in op.get_bind().exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'trigger'").all():
        op.execute(f"DROP TRIGGER {name}")
    for statement in statements["new"]:
        op.execute(statement)
    for one in statements["changed"]:
        _rebuild(one["table"], ", ".join(f'"{column}"' for column in one["kept"]), one["made"])
    for statement in (*statements["indexes"], *statements["triggers"]):
        op.execute(statement)


def _rebuild(table: str, columns: str, made: str) -> None:
    op.execute(made.replace(f"CREATE TABLE {table} ", f"CREATE TABLE new_{table} ", 1))
    op.execute(f"INSERT INTO new_{table} ({columns}) SELECT {columns} FROM {table}")
    op.execute(f"DROP TABLE {table}")
    op.execute(f"ALTER TABLE new_{table} RENAME TO {table}")
