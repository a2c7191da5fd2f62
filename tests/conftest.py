"""What all tests share: the reference data beside the checkout, if it is there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference data, or a skip that says why."""
    folder = Path(os.environ.get("ONCOSCALE_SHARED", Path(__file__).parents[2] / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip(f"reference data not found at {folder} (set ONCOSCALE_SHARED to its folder)")
    return folder / "data"
