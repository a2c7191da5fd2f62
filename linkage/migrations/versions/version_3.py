"""Flags, roles and indexes; keys that are pseudonyms to the letter; rules in the words that both databases share.

The table of subjects is rebuilt, as SQLite cannot change its check.
"""

from pathlib import Path

from alembic import op

from oncoscale.linkage.migrations.rebuilding import carry_out

revision = "3"
down_revision = "2"


def upgrade() -> None:
    """By the statements beside this file."""
    carry_out(op, Path(__file__).with_suffix(".toml"))
