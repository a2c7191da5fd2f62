"""What all tests share: the reference data beside the checkout if it is there, and a GPU or a simulator of kernels."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from oncoscale.core.gpu import driver

if (found := driver()) is None or found.devices == 0:
    os.environ.setdefault("NUMBA_ENABLE_CUDASIM", "1")  # read when numba is imported, so before any test is


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference data, or a skip that says why."""
    folder = Path(os.environ.get("ONCOSCALE_SHARED", Path(__file__).parents[2] / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip(f"reference data not found at {folder} (set ONCOSCALE_SHARED to its folder)")
    return folder / "data"
