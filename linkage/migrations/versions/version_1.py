"""The first version: where every migration begins."""

revision = "1"
down_revision = None


def upgrade() -> None:
    """Nothing: a store of version 1 is made by no step."""
