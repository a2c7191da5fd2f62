"""Published examples run, and what exists is documented."""

from __future__ import annotations

import doctest
import pkgutil
import runpy
from importlib import import_module
from pathlib import Path

import pytest
import typer

import oncoscale
from oncoscale.app.cli import app

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "docs" / "gallery").glob("plot_*.py"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_gallery_examples_run(example):
    """Each example of the gallery runs as it stands, and draws."""
    import matplotlib.pyplot as plt

    plt.switch_backend("agg")
    runpy.run_path(str(example), run_name="__main__")
    assert plt.get_fignums()
    plt.close("all")


@pytest.mark.parametrize("command", sorted(typer.main.get_command(app).commands))
def test_every_command_is_in_the_guide_or_the_readme(command):
    """A command that nobody is told of does not exist."""
    words = (ROOT / "README.md").read_text() + (ROOT / "docs" / "guide.rst").read_text()
    assert f"oncoscale {command}" in words or f"`{command}`" in words


def test_examples_in_docstrings_are_true():
    """Every example of a docstring gives what it says."""
    every = (module.name for module in pkgutil.walk_packages(oncoscale.__path__, "oncoscale."))
    names = [name for name in every if not name.endswith("migrations.env")]  # alembic alone can run it
    results = {name: doctest.testmod(import_module(name)) for name in names}
    assert sum(result.attempted for result in results.values()) > 5
    assert {name: result for name, result in results.items() if result.failed} == {}
