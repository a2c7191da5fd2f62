"""The whole chain as a user runs it: command by command, each in a process of its own where that can matter."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from oncoscale.app.cli import main

Oncoscale = Callable[..., dict[str, Any]]

SMALL = ("--elements", 8, "--cells", 100, "--members", 1, "--no-effects", "--days", 14)
"""A forecast of few cells, without what it rests on."""

COMMAND = [sys.executable, "-c", "from oncoscale.app.cli import main; main()"]


@pytest.fixture(scope="session")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for stores, runs and the vault of this session."""
    return tmp_path_factory.mktemp("chain")


@pytest.fixture(scope="session")
def environment(workplace) -> dict[str, str]:
    """Of every command: vault and cache of this session."""
    return {
        **os.environ,
        "ONCOSCALE_VAULT": str(workplace / "vault"),
        "XDG_CACHE_HOME": str(workplace / "cache"),
    }


@pytest.fixture(scope="session")
def command_of(workplace, environment) -> Callable[..., subprocess.Popen[bytes]]:
    """Start a command in a process of its own, to be ended by the test."""

    def start(*arguments: object) -> subprocess.Popen[bytes]:
        line = [*COMMAND, *map(str, arguments), "--quiet"]
        return subprocess.Popen(line, env=environment, cwd=workplace, stdout=subprocess.DEVNULL)

    return start


@pytest.fixture(scope="session")
def oncoscale(workplace, environment) -> Oncoscale:
    """Run a command with --json; give back its object, with the exit code as ``code``."""

    def run(*arguments: object) -> dict[str, Any]:
        line = [*COMMAND, *map(str, arguments), "--json", "--quiet"]
        answer = subprocess.run(line, capture_output=True, text=True, check=False, env=environment, cwd=workplace)
        assert "Traceback" not in answer.stderr, answer.stderr
        return {**json.loads(answer.stdout), "code": answer.returncode, "stderr": answer.stderr}

    return run


@pytest.fixture(scope="session")
def here(workplace, environment) -> Oncoscale:
    """Like ``oncoscale``, in this process: for what is refused or looked up, where only the answer counts."""

    def run(*arguments: object) -> dict[str, Any]:
        said, aside = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(said), redirect_stderr(aside):
            patch.chdir(workplace)
            for name in ("ONCOSCALE_VAULT", "XDG_CACHE_HOME"):
                patch.setenv(name, environment[name])
            patch.setattr(sys, "argv", ["oncoscale", *map(str, arguments), "--json", "--quiet"])
            with pytest.raises(SystemExit) as ended:
                main()
        assert "Traceback" not in aside.getvalue(), aside.getvalue()
        return {**json.loads(said.getvalue()), "code": ended.value.code, "stderr": aside.getvalue()}

    return run


@pytest.fixture(scope="session")
def consent(workplace) -> Path:
    """A consent that covers simulation."""
    path = workplace / "consent.toml"
    path.write_text('status = "active"\npurposes = ["HRESCH"]\ncategories = ["imaging", "simulation"]\n')
    return path


@pytest.fixture(scope="session")
def patient(reference_patient) -> Path:
    """The folder of the digital reference patient, coarse, to be read only."""
    return Path(reference_patient().folder)


@pytest.fixture(scope="session")
def reference_visit(oncoscale, workplace, patient, consent) -> dict[str, Any]:
    """The digital reference patient's first visit in a store."""
    answer = oncoscale(
        "ingest", patient / "visit-1", "--store", workplace / "store", "--subject", "0001", "--consent", consent
    )
    assert answer["code"] == 0, answer
    return {**answer, "store": workplace / "store"}


@pytest.fixture(scope="session")
def breast_visit(oncoscale, workplace, consent, shared) -> dict[str, Any]:
    """The real three-point breast examination, in a store."""
    answer = oncoscale(
        "ingest",
        shared / "ucsf-breast-06",
        "--store",
        workplace / "store-breast",
        "--subject",
        "B6",
        "--consent",
        consent,
    )
    assert answer["code"] == 0, answer
    return {**answer, "store": workplace / "store-breast"}


@pytest.fixture(scope="session")
def cojec(workplace) -> Path:
    """Two cycles of rapid COJEC as a treatment file."""
    from oncoscale.sim.treatments.chemotherapy import RAPID_COJEC

    path = workplace / "cojec.toml"
    path.write_text(RAPID_COJEC)
    return path


@pytest.fixture(scope="session")
def forecast_of(oncoscale, workplace) -> Oncoscale:
    """Forecast a stored visit; give back the content of forecast.json, its bytes, and the run's folder."""

    def run(visit: dict[str, Any], name: str, *options: object) -> dict[str, Any]:
        out = workplace / name
        answer = oncoscale(
            "forecast", visit["study"], "--store", visit["store"], "--tumour", "neuroblastoma", "--out", out, *options
        )
        assert answer["code"] == 0, answer
        written = (out / "forecast.json").read_bytes()
        return {**json.loads(written), "bytes": written, "folder": out, "answer": answer}

    return run
