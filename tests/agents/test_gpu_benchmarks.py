"""The benchmarks of a GPU run as they stand: tried with a few cells in the simulator, and refused without a device."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from oncoscale.app.bench import checks_of, ratios_of
from oncoscale.core.gpu import driver

FOLDER = Path(__file__).parents[2] / "benchmarks" / "gpu"
SCRIPTS = ("agreement", "cell_mechanics", "circles", "colonies", "solvers")


def run(script: str, *options: str, simulated: bool) -> Any:
    environment = {name: value for name, value in os.environ.items() if name != "NUMBA_ENABLE_CUDASIM"}
    if simulated:
        environment["NUMBA_ENABLE_CUDASIM"] = "1"
    command = [sys.executable, str(FOLDER / f"{script}.py"), *options]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def test_the_suite_is_these_scripts() -> None:
    """Every script of the suite is tried here."""
    assert sorted(path.stem for path in FOLDER.glob("[!_]*.py")) == list(SCRIPTS)


@pytest.mark.parametrize("script", SCRIPTS)
def test_tried_in_the_simulator(script: str, tmp_path: Path) -> None:
    """With ``--quick`` each measures a few cells, says that its figures do not count, and hands over its record."""
    answer = run(script, "--quick", "--out", str(tmp_path), simulated=True)
    record = json.loads(answer.stdout)
    assert json.loads((tmp_path / f"gpu_{script}.json").read_text()) == record
    assert (record["name"], record["engine"]) == (f"gpu_{script}", "cuda-simulator")
    assert "no figure of this record counts" in record["device"]
    checks = dict(checks_of(record))
    assert len(checks) >= 1
    exact = {name: passed for name, passed in checks.items() if not name.startswith(("mean of", "distribution of"))}
    assert all(exact.values()), exact
    assert all(value > 0 for value in ratios_of(record).values())


def test_refused_without_a_device() -> None:
    """A benchmark of a device that is not there says so in one line and makes no record; the simulator is no device."""
    found = driver()
    if found is not None and found.devices:
        pytest.skip("a device is there")
    for simulated, words in ((False, "there is no CUDA driver"), (True, "kernels would run in the simulator")):
        answer = run("circles", simulated=simulated)
        assert (answer.returncode, answer.stdout) == (2, "")
        assert words in answer.stderr
        assert len(answer.stderr.strip().splitlines()) == 1
