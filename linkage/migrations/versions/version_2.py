"""Biobanks, collections, samples, observations, exports, gaps and tombstones; links to samples.

Tables are rebuilt where a check or a column changes, as SQLite cannot change them: made anew, filled, put in place.
"""

from pathlib import Path

from alembic import op

from oncoscale.linkage.migrations.rebuilding import carry_out

revision = "2"
down_revision = "1"


def upgrade() -> None:
    """By the statements beside this file."""
    carry_out(op, Path(__file__).with_suffix(".toml"))
