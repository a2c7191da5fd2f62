"""What every verification script hands over: one JSON record of checks, and an exit code."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from oncoscale.core.errors import OncoscaleError

Check = dict[str, Any]

DATA = Path(__file__).parents[2].parent / "shared" / "data"
"""Where the reference data lie unless ``--data`` says otherwise."""


def check(name: str, value: float, target: float, tolerance: float, **further: Any) -> Check:
    """A number against its target: passed when they differ by no more than the tolerance."""
    passed = bool(abs(value - target) <= tolerance)
    return {"id": name, "value": float(value), "target": float(target), "tolerance": float(tolerance),
            "passed": passed, **further}  # fmt: skip


def not_run(name: str, reason: str) -> Check:
    """A check that could not be made: neither passed nor failed."""
    return {"id": name, "status": "not run", "reason": reason}


def record(name: str, unit: str, checks: Sequence[Check], **further: Any) -> dict[str, Any]:
    """The record: passed when no check failed and one passed."""
    answers = [row.get("passed") for row in checks]
    return {
        "name": name,
        "unit": unit,
        "passed": False not in answers and True in answers,
        "checks": list(checks),
        **further,
        "versions": {package: version(package) for package in ("oncoscale", "numpy", "numba")},
    }


def refusing(run: Callable[[], int]) -> int:
    """Run a script: an error raised on purpose becomes its message and its exit code."""
    try:
        return run()
    except OncoscaleError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
