"""The comparison with peers says what it measured: small meshes, and figures made up to be judged."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks" / "speed"


@pytest.fixture
def peers(monkeypatch) -> ModuleType:
    """The script, on small meshes."""
    monkeypatch.syspath_prepend(str(FOLDER))
    script = importlib.import_module("tissue_peers")
    monkeypatch.setattr(script, "SMALL", 6)
    monkeypatch.setattr(script, "MIDDLE", 4)
    return script


def measured(exponent: float = 1.0, ngsolve: float | None = 30.0, finished: bool = True) -> dict[str, Any]:
    """Parts of a record whose cost grows by that exponent, and NGSolve's seconds to the solution."""
    there = ngsolve is not None
    parts: dict[str, Any] = {
        "agreement": {"differences": {name: {"displacement": 1e-9} for name in ("scikit-fem", "ngsolve")[: 1 + there]}},
        "assembly": {"ratios": {"scikit-fem": 60.0} | ({"ngsolve": 100.0} if there else {})},
        "ngsolve": {"unknowns": 1e5, "cpu_seconds": [1.0, ngsolve], "finished": finished} if there else None,
    }
    for divisions in (13, 20, 29, 43, 62):
        unknowns = 4.0 * divisions**3
        parts[f"solve-{divisions}"] = {
            "divisions": divisions, "unknowns": unknowns, "cpu_seconds": 5e-5 * unknowns**exponent, "peak_gib": 1.0,
            "residual": 1e-9,
        }  # fmt: skip
    return parts


def failed(record: dict[str, Any]) -> list[str]:
    """Checks that did not hold."""
    return [row["id"] for row in record["checks"] if row.get("passed") is False]


def test_peers_solve_the_same_problem(peers):
    """scikit-fem's forms factorised, and NGSolve's where it is there, give the displacement of ours to 1e-6."""
    found = peers.agreement()["differences"]
    assert "scikit-fem" in found
    assert all(differences["displacement"] < 1e-6 for differences in found.values())


def test_peers_assemble_the_same_tangent(peers):
    """At an irregular state the tangents agree to rounding, so that the times compare the same work."""
    found = peers.assembly(1, False)
    assert max(found["largest_difference_of_tangents"].values()) < 1e-12
    assert all(ratio > 0.0 for ratio in found["ratios"].values())


def test_bounds_that_are_missed_fail(peers):
    """A cost that grows too fast, or a peer that is as quick, fails its check and the record."""
    assert peers.record_of(measured())["passed"]
    steep = peers.record_of(measured(exponent=1.3))
    assert "exponent of the cost" in failed(steep)
    assert steep["scaling"]["exponent"] == pytest.approx(1.3)
    quick = peers.record_of(measured(ngsolve=2.0))
    assert failed(quick) == ["time to solution against ngsolve"]
    assert not steep["passed"]
    assert not quick["passed"]


def test_a_peer_that_is_absent_is_not_run(peers):
    """Without NGSolve its checks are neither passed nor failed, and no ratio is made up."""
    record = peers.record_of(measured(ngsolve=None))
    assert record["passed"]
    assert [row["id"] for row in record["checks"] if row.get("status") == "not run"] == [
        "agreement with ngsolve",
        "assembly against ngsolve",
        "time to solution against ngsolve",
    ]
    assert not {"ratio_ngsolve", "ratio_solution"} & set(record)
