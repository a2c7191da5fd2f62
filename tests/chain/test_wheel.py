"""What is installed is whole: the wheel alone, from another folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMMAND = "from oncoscale.app.cli import main; main()"


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A folder that holds the wheel's content and nothing else of the project."""
    out = tmp_path_factory.mktemp("wheel")
    line = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    built = subprocess.run(line, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout[-2000:] + built.stderr[-2000:]
    (wheel,) = out.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(out / "site")
    lend_compiled(out / "site")
    return out / "site"


def lend_compiled(site: Path) -> None:
    """Put beside the wheel's modules what numba compiled of the same sources in the tree, for minutes go into that.

    numba takes it where time and size of the source are those that it was compiled of; otherwise it compiles anew.
    """
    for source in site.rglob("*.py"):
        twin = ROOT / source.relative_to(site)
        compiled = [*(twin.parent / "__pycache__").glob(f"{twin.stem}.*.nb[ic]")]
        if compiled and source.read_bytes() == twin.read_bytes():
            shutil.copystat(twin, source)
            (source.parent / "__pycache__").mkdir(exist_ok=True)
            for file in compiled:
                shutil.copy(file, source.parent / "__pycache__")


def run(installed: Path, folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """The command, with only the wheel's modules to import."""
    environment = {**os.environ, "PYTHONPATH": str(installed), "XDG_CACHE_HOME": str(folder), "HOME": str(folder)}
    line = [sys.executable, "-c", COMMAND, *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, check=False, env=environment, cwd=folder)


def test_the_wheel_holds_what_the_tree_holds(installed):
    """Every module and data file of the packages is in the wheel, under one name."""
    packages = ("imaging", "meshing", "agents", "sim", "linkage")
    wanted = {
        Path("oncoscale") / path.relative_to(ROOT)
        for package in packages
        for path in (ROOT / package).rglob("*")
        if path.is_file() and path.suffix in (".py", ".json", ".toml", ".html")
    } | {
        path.relative_to(ROOT)
        for part in ("core", "app")
        for path in (ROOT / "oncoscale" / part).rglob("*")
        if path.is_file() and path.suffix in (".py", ".json", ".toml", ".html", ".css")
    }
    there = {path.relative_to(installed) for path in installed.rglob("*") if path.is_file()}
    assert wanted <= there
    assert {path.parts[0] for path in there if not path.parts[0].endswith(".dist-info")} == {"oncoscale"}


@pytest.mark.slow
def test_the_wheel_alone_runs_a_forecast(installed, tmp_path):
    """Doctor, phantom, ingest and one tiny forecast work from another folder with the wheel and its dependencies."""
    (tmp_path / "consent.toml").write_text('status = "active"\n')
    assert run(installed, tmp_path, "doctor", "--json").returncode in (0, 3)
    assert run(installed, tmp_path, "phantom", "--quick", "--quiet", "--out", "patient").returncode == 0
    stored = ("--store", "store", "--json", "--quiet")
    taken = run(
        installed, tmp_path, "ingest", "patient/visit-1", "--subject", "1", "--consent", "consent.toml", *stored
    )
    assert taken.returncode == 0, taken.stdout
    small = ("--elements", 4, "--cells", 60, "--members", 1, "--no-effects", "--days", 2, "--mesher", "bcc")
    study = json.loads(taken.stdout)["study"]
    done = run(installed, tmp_path, "forecast", study, "--tumour", "neuroblastoma", "--out", "run", *small, *stored)
    assert done.returncode == 0, done.stdout
    assert (tmp_path / "run" / "report.html").is_file()
