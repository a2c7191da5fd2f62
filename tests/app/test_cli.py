"""The command line keeps its contract: fast help with examples, exit codes, one JSON object, one clear message."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from oncoscale import __version__
from oncoscale.app.cli import app
from oncoscale.app.console import Session, explained
from oncoscale.core import errors

HEAVY = (
    "numpy",
    "scipy",
    "numba",
    "pydicom",
    "highdicom",
    "SimpleITK",
    "matplotlib",
    "sqlalchemy",
    "pydantic",
    "h5py",
    "pint",
    "skimage",
)
CONTRACT = {
    "doctor": (),
    "demo": ("--out", "--quick"),
    "phantom": ("--out", "--tumour"),
    "ingest": ("--store", "--subject", "--consent", "--deface"),
    "quantify": ("--out", "--dce-model", "--aif", "--t1", "--relaxivity", "--haematocrit", "--mask"),
    "inspect": ("--out",),
    "mesh": ("--out", "--size", "--host", "--mesher"),
    "forecast": ("--store", "--tumour", "--days", "--treatment", "--elements", "--engine", "--config", "--out"),
    "curves": ("--model", "--aif", "--out"),
    "cells": ("--out", "--mode", "--version", "--engine", "--observe"),
    "trace": ("--element", "--store"),
    "report": ("--store",),
    "explain": ("--differences",),
    "show": ("--store",),
    "schema": (),
    "consent": (),
    "export": ("--as", "--out", "--validate", "--predictions"),
    "import": ("--from", "--store"),
    "query": ("--sql",),
    "check": ("--rules", "--repair"),
}
SEED_AND_THREADS = ("phantom", "ingest", "quantify", "curves", "mesh", "cells", "forecast", "demo")
STORE_CHANGING_OR_LONG = ("demo", "phantom", "ingest", "quantify", "mesh", "forecast")


def commands() -> dict[str, object]:
    """Every command of the application, those of groups as ``group command``."""
    top = typer.main.get_command(app).commands
    found = {}
    for name, command in top.items():
        below = getattr(command, "commands", None)
        found |= {f"{name} {inner}": one for inner, one in below.items()} if below else {name: command}
    return found


def oncoscale(*arguments: str):
    """Run a command in this process."""
    return CliRunner().invoke(app, list(arguments))


def test_help_needs_nothing_heavy():
    """The module behind ``oncoscale --help`` imports none of the libraries that compute."""
    code = f"import sys, oncoscale.app.cli; print([name for name in {HEAVY!r} if name in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


@pytest.mark.parametrize(("name", "command"), commands().items())
def test_every_command_has_help_with_an_example(name, command):
    """A sentence of help, and an example that begins with the command itself."""
    assert command.help, f"{name} has no help"
    assert f"Example: oncoscale {name}" in (command.epilog or ""), f"{name} has no example"
    assert oncoscale(*name.split(), "--help").exit_code == 0


@pytest.mark.parametrize(("name", "options"), CONTRACT.items())
def test_commands_and_options_are_those_others_build_on(name, options):
    """Names and options of the command line's contract."""
    command = typer.main.get_command(app).commands[name]
    there = {option for parameter in command.params for option in parameter.opts}
    assert set(options) <= there
    if name != "consent":
        assert {"--json", "--quiet"} <= there
    if name in STORE_CHANGING_OR_LONG:
        assert "--dry-run" in there
    if name in SEED_AND_THREADS:
        assert {"--seed", "--threads"} <= there


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.FileRejected("x"), 2),
        (errors.ConsentDenied("x"), 2),
        (errors.StoreRejected("x"), 2),
        (errors.StorageFault("x"), 4),
        (errors.SolverFault("x"), 4),
        (OSError(errno.ENOSPC, "full"), 4),
        (OSError(errno.EROFS, "read-only"), 2),
        (FileNotFoundError(errno.ENOENT, "no"), 2),
        (MemoryError(), 4),
        (ZeroDivisionError("x"), 4),
        (KeyboardInterrupt(), 130),
    ],
)
def test_errors_become_exit_codes(error, code, monkeypatch, tmp_path):
    """0 done, 2 bad input, 3 partly done, 4 a fault of ours, 130 interrupted; never a traceback."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(typer.Exit) as stopped, Session(quiet=True):
        raise error
    assert stopped.value.exit_code == code


def test_a_message_says_what_was_found_expected_and_to_do(capsys):
    """The three parts of a typed error reach standard error; standard output stays empty."""
    with pytest.raises(typer.Exit), Session():
        raise errors.UnitMissing("the map has no unit", "1/min", "state it with --unit")
    streams = capsys.readouterr()
    assert streams.out == ""
    assert streams.err == "oncoscale: the map has no unit. Expected: 1/min. To do: state it with --unit.\n"


def test_with_json_an_error_is_one_object(capsys):
    """Kind, found, expected and remedy on standard output, nothing else there."""
    with pytest.raises(typer.Exit), Session(as_json=True):
        raise errors.UnitMissing("the map has no unit", "1/min", "state it")
    content = json.loads(capsys.readouterr().out)
    assert content == {
        "error": {"kind": "UnitMissing", "found": "the map has no unit", "expected": "1/min", "remedy": "state it"}
    }


def test_a_fault_of_ours_leaves_its_trace_but_no_data(monkeypatch, tmp_path, capsys):
    """The trace goes to a file; neither it nor the message quotes the exception, which could name a patient."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(typer.Exit) as stopped, Session():
        raise ValueError("Doe^Jane")
    message = capsys.readouterr().err
    (trace,) = tmp_path.rglob("*.log")
    assert stopped.value.exit_code == 4
    assert "Traceback" not in message
    assert "Doe" not in message + trace.read_text()
    assert "test_cli.py" in trace.read_text()


def test_system_errors_do_not_quote_paths():
    """A path can be a name: the message of a system error does not repeat it."""
    assert "Doe" not in str(explained(FileNotFoundError(errno.ENOENT, "no", "/images/Doe^Jane")))


@pytest.mark.parametrize(
    "arguments", [("explain",), ("explain", "neuroblastoma", "--differences"), ("schema", "forecast"), ("schema",)]
)
def test_json_is_one_object_and_nothing_else(arguments):
    """Standard output of --json parses as one object."""
    answer = oncoscale(*arguments, "--json")
    assert answer.exit_code == 0
    assert isinstance(json.loads(answer.stdout), dict)


@pytest.mark.parametrize(
    "arguments",
    [
        ("explain", "unheard-of"),
        ("schema", "unheard-of"),
        ("mesh", "absent.nii.gz", "--out", "mesh.vtu"),
        ("mesh", "absent.nii.gz", "--out", "mesh.doc"),
        ("inspect", "absent"),
        ("show", "--store", "absent"),
        ("trace", "absent", "--element", "1"),
        ("report", "absent"),
        ("quantify", "absent", "--out", "maps"),
        ("curves", "absent.csv", "--model", "tofts", "--aif", "parker", "--out", "fits.csv"),
        ("cells", "absent.json", "--out", "out.json"),
        ("quantify", "T-ABSENT", "--out", "maps"),
        ("ingest", "absent", "--store", "store", "--subject", "1", "--unit", "ktrans"),
        ("ingest", "absent", "--store", "store", "--subject", "1", "--times", "one,two"),
        ("forecast", "T-ABSENT", "--store", "absent", "--tumour", "neuroblastoma", "--days", "28", "--out", "run"),
        (
            "forecast",
            "T-A",
            "--store",
            "s",
            "--tumour",
            "neuroblastoma",
            "--days",
            "28",
            "--out",
            "r",
            "--elements",
            "few",
        ),
        ("consent", "show", "P-ABSENT", "--store", "absent"),
    ],
    ids=lambda arguments: " ".join(arguments[:2]),
)
def test_bad_input_is_two_and_leaves_nothing(arguments, tmp_path, monkeypatch):
    """Exit code 2, one object that says what to do, no traceback, and no output left behind."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ONCOSCALE_VAULT", str(tmp_path / "vault"))
    answer = oncoscale(*arguments, "--json", "--quiet")
    assert answer.exit_code == 2, answer.stdout
    error = json.loads(answer.stdout)["error"]
    assert error["found"]
    assert error["remedy"]
    assert list(tmp_path.iterdir()) == []


def test_wrong_options_are_json_too():
    """A usage error under --json is one object and exit code 2."""
    line = [sys.executable, "-c", "from oncoscale.app.cli import main; main()", "doctor", "--jsn", "--json"]
    answer = subprocess.run(line, capture_output=True, text=True, check=False)
    assert answer.returncode == 2
    assert json.loads(answer.stdout)["error"]["kind"] == "ConfigurationRejected"


@pytest.mark.parametrize("arguments", [("phantom", "--out", "new"), ("demo", "--out", "new")])
def test_a_dry_run_does_nothing(arguments, tmp_path, monkeypatch):
    """It says what would be done and writes nothing."""
    monkeypatch.chdir(tmp_path)
    answer = oncoscale(*arguments, "--dry-run", "--json")
    assert json.loads(answer.stdout)["dry_run"] is True
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_use_is_not_overwritten(tmp_path):
    """Outputs go to new folders only."""
    (tmp_path / "precious.txt").write_text("x")
    assert oncoscale("demo", "--out", str(tmp_path), "--quiet").exit_code == 2
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]


def test_settings_name_the_nearest_key(tmp_path):
    """All faults of a configuration at once, with the key that was probably meant."""
    file = tmp_path / "settings.toml"
    file.write_text("elemnts = 3\ncells = 1\n")
    arguments = (
        "--store",
        "s",
        "--tumour",
        "neuroblastoma",
        "--days",
        "28",
        "--out",
        str(tmp_path / "r"),
        "--config",
        str(file),
    )
    found = json.loads(oncoscale("forecast", "T-A", *arguments, "--json").stdout)["error"]["found"]
    assert "did you mean 'elements'" in found
    assert "cells" in found


def test_doctor_names_the_line_that_installs_gmsh_libraries(monkeypatch):
    """Where gmsh does not load, the table holds Debian's one line; the chain works without, so nothing is broken."""
    from oncoscale.app import doctor
    from oncoscale.meshing.tetrahedra import SYSTEM_LIBRARIES

    class Failed:
        returncode, stdout, stderr = 1, "", "OSError: libGLU.so.1: cannot open shared object file"

    monkeypatch.setattr(doctor.subprocess, "run", lambda *arguments, **options: Failed())
    check = doctor.check_gmsh()
    assert check.state == "missing"
    assert check.cure == SYSTEM_LIBRARIES
    assert "apt-get install -y --no-install-recommends libglu1-mesa libgl1 libgomp1" in doctor.table([check])


def test_doctor_finds_a_folder_that_may_not_be_written(tmp_path):
    """Without a place to write nothing works: the check is broken and says what to do."""
    from oncoscale.app.doctor import check_file_system

    (check,) = check_file_system(tmp_path / "absent")
    assert check.state == "broken"
    assert "--store" in check.cure


def test_doctor_tries_the_file_system(tmp_path):
    """Rename, flush, lock, exclusive creation and links are tried, and nothing is left."""
    from oncoscale.app.doctor import check_file_system

    checks = check_file_system(Path(tmp_path))
    assert [check.state for check in checks] == ["ok"] * 6
    assert list(tmp_path.iterdir()) == []


def test_the_environment_may_name_the_store(tmp_path, monkeypatch):
    """A command that needs a store takes the one of ONCOSCALE_STORE, and an option beats it."""
    monkeypatch.setenv("ONCOSCALE_STORE", str(tmp_path / "named"))
    answer = oncoscale("show", "--json")
    assert (answer.exit_code, "named" in answer.stdout + answer.stderr) == (2, True)
    answer = oncoscale("show", "--store", str(tmp_path / "other"), "--json")
    assert (answer.exit_code, "other" in answer.stdout + answer.stderr) == (2, True)


def test_the_package_can_be_run_as_a_module():
    """``python -m oncoscale`` is the command of that interpreter: its answers and its exit codes."""
    module = (sys.executable, "-m", "oncoscale")
    answer = subprocess.run([*module, "--version"], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == f"oncoscale {__version__}"
    refused = subprocess.run([*module, "mesh", "--json"], capture_output=True, text=True, check=False)
    assert (refused.returncode, json.loads(refused.stdout)["error"]["kind"]) == (2, "ConfigurationRejected")
