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


WHOLE = {"chain"}
"""Folders whose tests share what is costly to make."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What shares fixtures stays in one process when tests run in several: a file, or one of the folders above."""
    for item in items:
        folder = item.path.parent.name
        group = folder if folder in WHOLE else item.path.relative_to(Path(__file__).parent).as_posix()
        item.add_marker(pytest.mark.xdist_group(group))
