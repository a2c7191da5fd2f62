"""Biobanks, collections, samples, observations, exports, gaps and tombstones; links to samples.

Tables are rebuilt where a check or a column changes, as SQLite cannot change them: made anew, filled, put in place.
"""

import tomllib
from pathlib import Path

from alembic import op

from oncoscale.linkage.migrations.rebuilding import rebuild, without_triggers

revision = "2"
down_revision = "1"


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
