"""Flags, roles and indexes; keys that are pseudonyms to the letter; rules in the words that both databases share.

The table of subjects is rebuilt, as SQLite cannot change its check.
"""

import tomllib
from pathlib import Path

from alembic import op

from oncoscale.linkage.migrations.rebuilding import rebuild, without_triggers

revision = "3"
down_revision = "2"


def upgrade() -> None:
    """Rules first go and last come back, because they speak of tables that are rebuilt."""
    statements = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
    without_triggers(op)
    for statement in statements["new"]:
        op.execute(statement)
    for one in statements["changed"]:
        rebuild(op, one["table"], one["kept"], one["made"])
    for statement in (*statements["indexes"], *statements["triggers"]):
        op.execute(statement)
