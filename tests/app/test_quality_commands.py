"""``oncoscale check``: exit codes, one JSON object, the page."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import pytest
from typer.testing import CliRunner

from oncoscale.app.cli import app
from oncoscale.linkage.holding import take_in
from oncoscale.linkage.reference import reference_cohort
from oncoscale.linkage.store import Store

RULES = """
[[rule]]
id = "nobody-<b>here"
family = "completeness"
severity = "{severity}"
scope = "store"
expect = ["at_most", "subjects", 0]
message = "the store is meant to be empty"
source = "ASSUMED: a rule of this test"
passes = {{ subjects = 0 }}
fails = {{ subjects = 2 }}
"""


@pytest.fixture
def stocked(tmp_path: Path) -> Path:
    """A store with rows of two subjects and none of their files."""
    store = Store.open(tmp_path / "store", create=True)
    with store.writing() as connection:
        take_in(connection, reference_cohort(3, 2))
    store.engine.dispose()
    return store.path


def run(*arguments: str | Path):
    return CliRunner().invoke(app, ["check", *map(str, arguments), "--quiet"])


def test_files_that_are_not_there_are_errors_and_the_exit_code_is_3(stocked: Path):
    """Words name the rule, what to do and the count; --json is one object with the same."""
    answer = run(stocked)
    assert answer.exit_code == 3
    assert "study-files" in answer.stdout
    assert "restore them from a copy" in answer.stdout
    found = json.loads(run(stocked, "--json").stdout)
    assert (found["sound"], found["failures"]["error"] > 0) == (False, True)
    assert {rule["id"] for rule in found["rules"] if rule["failures"]} >= {"study-files", "series-hash", "run-files"}


def test_an_empty_store_is_sound(tmp_path: Path):
    """Exit code 0; rules about what is not there do not apply."""
    store = Store.open(tmp_path / "store", create=True)
    with store.writing():
        pass
    assert run(store.path).exit_code == 0


@pytest.mark.parametrize(("severity", "code"), [("warning", 0), ("error", 3)])
def test_own_rules_decide_by_their_severity(stocked: Path, tmp_path: Path, severity: str, code: int):
    """A warning leaves the exit code alone, an error makes it 3."""
    (tmp_path / "own.toml").write_text(f"only = true\n{RULES.format(severity=severity)}")
    assert run(stocked, "--rules", tmp_path / "own.toml").exit_code == code


def test_the_page_is_whole_and_stands_alone(stocked: Path, tmp_path: Path):
    """Every tag closes, nothing is loaded from elsewhere, a rule's name is never markup."""
    (tmp_path / "own.toml").write_text(RULES.format(severity="error"))
    run(stocked, "--rules", tmp_path / "own.toml", "--out", tmp_path / "quality.html")
    page = (tmp_path / "quality.html").read_text()
    checker = Tags()
    checker.feed(page)
    assert (checker.open, checker.addresses) == ([], [])
    assert "nobody-&lt;b&gt;here" in page
    assert "Rules of severity error fail" in page


def test_bad_input_is_exit_code_2(stocked: Path, tmp_path: Path):
    """No store, rules that are none, a report of an unknown kind."""
    (tmp_path / "own.toml").write_text("[[rule]]\nid = 1")
    assert run(tmp_path / "absent").exit_code == 2
    assert run(stocked, "--rules", tmp_path / "own.toml").exit_code == 2
    assert run(stocked, "--out", tmp_path / "quality.pdf").exit_code == 2
    assert not (tmp_path / "absent").exists()


class Tags(HTMLParser):
    """Which tags are open, and which addresses are named."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "br", "img"):
            self.open.append(tag)
        self.addresses += [name for name, _ in attrs if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
