"""The commands export, import and query: what goes out, what comes in, what can be asked, and what is refused."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from oncoscale.app.cli import app
from oncoscale.app.exporting_records import run_and_store
from oncoscale.core.errors import ConfigurationRejected
from oncoscale.linkage.core import Holdings
from oncoscale.linkage.holding import take_in
from oncoscale.linkage.reference import reference_cohort
from oncoscale.linkage.store import Store

COHORT = reference_cohort(3, 6)
KEY = COHORT.subject[0].key


@pytest.fixture
def stocked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store with six subjects, and a vault of its own."""
    monkeypatch.setenv("ONCOSCALE_VAULT", str(tmp_path / "vault"))
    monkeypatch.chdir(tmp_path)
    store = Store.open(tmp_path / "store", create=True)
    with store.writing() as connection:
        take_in(connection, COHORT)
    store.engine.dispose()
    return store.path


def oncoscale(*arguments: object):
    return CliRunner().invoke(app, [*map(str, arguments)])


def test_an_export_says_what_it_wrote(stocked: Path):
    """The file, whose data are in it, what could not be said, and that it is personal data still."""
    answer = oncoscale("export", KEY, "--as", "native", "--out", "me.json", "--store", stocked, "--json")
    assert answer.exit_code == 0, answer.output
    content = json.loads(answer.stdout)
    assert content["subjects"] == [KEY]
    assert content["gaps"] == content["violations"] == []
    words = oncoscale("export", KEY, "--as", "native", "--out", "again.json", "--store", stocked)
    assert "remain personal data" in words.stdout
    first, second = (json.loads(Path(name).read_text()) for name in ("me.json", "again.json"))
    asked = [one for one in second["decision"] if one not in first["decision"]]
    assert [one["operation"] for one in asked] == ["export"]
    assert second | {"decision": []} == first | {"decision": []}


def test_a_run_alone_goes_out_as_that_run(stocked: Path):
    """The export of a run holds this run, its inputs and its permit, and no other run of the subject."""
    run = next(one.id for one in COHORT.run if one.kind == "forecast")
    assert oncoscale("export", run[:12], "--as", "native", "--out", "run.json", "--store", stocked).exit_code == 0
    content = json.loads(Path("run.json").read_text())
    assert [one["id"] for one in content["run"]] == [run]
    assert {one["run"] for one in content["link"]} == {one["run"] for one in content["prediction"]} == {run}
    assert len(content["image_series"]) == len(content["decision"]) == 1


def test_predictions_stay_at_home_when_told(stocked: Path):
    """With --predictions no, nothing predicted is written."""
    arguments = ("--as", "native", "--out", "seen.json", "--store", stocked, "--predictions", "no")
    assert oncoscale("export", "all", *arguments).exit_code == 0
    assert json.loads(Path("seen.json").read_text())["prediction"] == []


def test_a_rule_that_is_broken_is_three(stocked: Path, monkeypatch: pytest.MonkeyPatch):
    """With --validate a fault by the standard's own check is code 3, without it the fault is only told."""
    from oncoscale.linkage.standards import Violation, native

    monkeypatch.setattr(native, "check", lambda out: (Violation("a rule", "a place", "a fault"),))
    arguments = ("export", KEY, "--as", "native", "--store", stocked)
    assert oncoscale(*arguments, "--out", "one.json").exit_code == 0
    answer = oncoscale(*arguments, "--out", "two.json", "--validate")
    assert answer.exit_code == 3
    assert "a rule: a place: a fault" in answer.stdout


def test_what_went_out_can_come_in(stocked: Path, tmp_path: Path):
    """Another store takes in what the first gave; a dry run before it makes neither store nor key."""
    oncoscale("export", KEY, "--as", "native", "--out", "me.json", "--store", stocked)
    arguments = ("import", "--from", "native", "me.json", "--store", tmp_path / "other", "--json")
    would = json.loads(oncoscale(*arguments, "--dry-run").stdout)
    assert would["dry_run"] is True
    assert not (tmp_path / "other").exists()
    assert not (tmp_path / "vault").exists()
    done = json.loads(oncoscale(*arguments).stdout)
    assert done["subjects"] == [KEY]
    assert done["entered"] == would["entered"]
    assert any(gap["path"] == "image_series.*" for gap in done["gaps"])


def test_a_later_module_adds_itself_to_the_importers(stocked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A module in the folder of importers is offered, is told its options, and knows which ones it has."""
    from oncoscale.linkage import importers

    (tmp_path / "plug").mkdir()
    (tmp_path / "plug" / "diary.py").write_text(
        "from oncoscale.linkage.reference import reference_cohort\n"
        "from oncoscale.linkage.standards import Read\n"
        "NAME, VERSION, OPTIONS = 'diary', '1', {'seed': 'which'}\n"
        "def read(path, seed='1'):\n    return Read(reference_cohort(int(seed), 1))\n"
    )
    monkeypatch.setattr(importers, "__path__", [*importers.__path__, str(tmp_path / "plug")])
    assert "diary" in importers.names()
    arguments = ("import", "--from", "diary", "any", "--store", stocked)
    done = oncoscale(*arguments, "--with", "seed=9", "--json")
    assert json.loads(done.stdout)["subjects"] == [reference_cohort(9, 1).subject[0].key]
    assert oncoscale(*arguments, "--with", "sead=9").exit_code == 2


def test_what_a_standard_asks_for_beside_is_passed_on(stocked: Path):
    """The address of the access body reaches the catalogue's entry."""
    arguments = ("--as", "health-dcat", "--out", "entry.ttl", "--store", stocked, "--validate")
    assert oncoscale("export", "all", *arguments, "--with", "hdab_url=https://example.org/hdab").exit_code == 0
    assert "<https://example.org/hdab>" in Path("entry.ttl").read_text()


def test_an_answer_is_a_table_or_csv(stocked: Path, monkeypatch: pytest.MonkeyPatch):
    """Columns and rows for people, for programs, and for spreadsheets."""
    from oncoscale.linkage import querying

    monkeypatch.setattr(querying, "_guarded", lambda limits, work, *arguments: work(*arguments))
    asked = ("query", stocked, "--sql", "SELECT sex, count(*) AS n FROM subject GROUP BY sex ORDER BY sex")
    content = json.loads(oncoscale(*asked, "--json").stdout)
    rows = [(sex, sum(one.sex == sex for one in COHORT.subject)) for sex in sorted({one.sex for one in COHORT.subject})]
    assert content["columns"] == ["sex", "n"]
    assert [tuple(row) for row in content["rows"]] == rows
    assert oncoscale(*asked, "--csv").stdout.split() == ["sex,n", *(f"{sex},{n}" for sex, n in rows)]
    assert "6 subject(s) seen" in oncoscale(*asked).stdout
    assert oncoscale("query", stocked, "ASK { ?s a onco:Subject }").stdout.split()[2] == "True"


def test_the_folder_of_a_run_stands_for_its_run(stocked: Path, tmp_path: Path):
    """Inside a store the store need not be named; elsewhere it must, because it holds the consents."""
    from oncoscale.linkage.record import Record

    record = Record("forecast", {"days": 3}, (), 1, "cpu", 1)
    for folder in (stocked / "runs" / record.run / "1", tmp_path / "copy"):
        folder.mkdir(parents=True)
        (folder / "record.json").write_text(json.dumps(record.for_json()))
    assert run_and_store(str(stocked / "runs" / record.run / "1"), None) == (record.run, stocked)
    assert run_and_store(str(tmp_path / "copy"), stocked) == (record.run, stocked)
    with pytest.raises(ConfigurationRejected, match="no store"):
        run_and_store(str(tmp_path / "copy"), None)


@pytest.mark.parametrize(
    "arguments",
    [
        ("export", "all", "--as", "unheard-of", "--out", "x", "--store", "store"),
        ("export", "P-ABSENT", "--as", "native", "--out", "x", "--store", "store"),
        ("export", "all", "--as", "native", "--out", "x", "--store", "absent"),
        ("export", "all", "--as", "native", "--out", "x"),
        ("export", "all", "--as", "native", "--out", "x", "--store", "store", "--predictions", "perhaps"),
        ("export", "all", "--as", "native", "--out", "x", "--store", "store", "--purpose", "FUN"),
        ("export", "all", "--as", "native", "--out", "x", "--store", "store", "--with", "colour=red"),
        ("export", "all", "--as", "health-dcat", "--out", "x", "--store", "store", "--with", "release=9"),
        ("import", "--from", "unheard-of", "x", "--store", "other"),
        ("import", "--from", "native", "absent.json", "--store", "other"),
        ("import", "--from", "native", "absent.json", "--store", "other", "--with", "seed"),
        ("query", "store"),
        ("query", "absent", "--sql", "SELECT 1"),
        ("query", "store", "ASK {}", "--sql", "SELECT 1"),
        ("query", "store", "--sql", "SELECT 1", "--purpose", "FUN"),
    ],
    ids=lambda arguments: " ".join(arguments)[:50],
)
def test_bad_input_is_two_and_leaves_nothing(stocked: Path, tmp_path: Path, arguments: tuple[str, ...]):
    """Exit code 2, one object with a remedy, and nothing new on disk."""
    before = {path.name for path in tmp_path.iterdir()}
    answer = oncoscale(*arguments, "--json")
    assert answer.exit_code == 2, answer.output
    assert json.loads(answer.stdout)["error"]["remedy"]
    assert {path.name for path in tmp_path.iterdir()} <= before | {"vault"}


def test_the_contract_of_the_three_commands():
    """Names and options that others call."""
    commands = typer.main.get_command(app).commands
    for name, options in {
        "export": ("--as", "--out", "--validate", "--predictions", "--recipient", "--purpose", "--store", "--json"),
        "import": ("--from", "--store", "--dry-run", "--json"),
        "query": ("--sql", "--json"),
    }.items():
        assert set(options) <= {option for one in commands[name].params for option in one.opts}
        assert f"Example: oncoscale {name}" in commands[name].epilog


def test_of_a_subject_without_images_no_heading_stands_alone(tmp_path: Path):
    """What came without images says so where the visits would stand, and stands in the timeline."""
    subject = COHORT.subject[0]
    known = tuple(one for one in COHORT.event if one.subject == subject.key and one.kind == "diagnosis")
    store = Store.open(tmp_path / "store", create=True)
    with store.writing() as connection:
        take_in(connection, Holdings(subject=(subject,), event=known))
    words = oncoscale("show", subject.key, "--store", store.path).stdout.splitlines()
    below = {line: after for line, after in pairwise(words) if line and line[0] != " "}
    assert all(below[heading].startswith("  ") for heading in ("Visits", "Consent", "Runs", "Predictions"))
    assert "none with images" in below["Visits"]
    assert below["Timeline, in days since day 0"].split()[2] == "course"
