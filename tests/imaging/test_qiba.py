"""QIBA's digital reference object, version 6, from its DICOM files through the command."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

PATH = Path(__file__).parents[2] / "benchmarks" / "validation" / "qiba.py"


@pytest.fixture(scope="module")
def record(shared) -> dict:
    spec = importlib.util.spec_from_file_location("qiba_benchmark", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.measure(shared / "qiba-dro-v6" / "DICOM")


def test_every_block_is_met(record):
    """Ktrans within 0.12 % and ve within 0.25 % in all thirty blocks, accepted is 0.5 %; every pixel has a value."""
    assert record["passed"]
    assert [len(rows) for rows in record["errors"]["ktrans"]] == [5] * 6
    assert record["worst"]["ktrans"] < 0.0012
    assert record["worst"]["ve"] < 0.0026
    assert min(record["concordance"].values()) > 0.999999


def test_the_linear_fit_fails(record):
    """Why the fit is nonlinear: the linear one misses Ktrans by 38 %."""
    assert record["largest_ktrans_error_of_the_linear_fit"] == pytest.approx(0.376, abs=0.005)
