"""The ``bench`` command: it runs scripts it knows nothing about, believes their records and compares ratios."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from oncoscale.app import bench as module
from oncoscale.app.cli import app

SCRIPTS = {
    "speed/sorting.py": "import json, sys\n"
    "print(json.dumps({'name': 'sorting', 'ratio': 4.0, 'ratio_small': 2.0, 'ratios': [1.0], 'args': sys.argv[1:]}))",
    "verification/good_theory.py": 'print(\'{"name": "good", "passed": true, "checks": '
    '[{"id": "a", "passed": true}, {"id": "b", "passed": "not run"}]}\')',
    "verification/bad_theory.py": "import json, sys\nfor n in (1, 2):\n"
    "    print(json.dumps({'name': f'bad {n}', 'checks': [{'id': 'mass', 'passed': n == 1}]}, indent=1))\nsys.exit(1)",
    "validation/absent.py": "import sys\nsys.exit('the reference data are not there')",
    "validation/broken.py": "print('{')\nraise ZeroDivisionError",
    "validation/_shared.py": "raise SystemExit('not a benchmark')",
}


@pytest.fixture(autouse=True)
def tree(tmp_path, monkeypatch):
    """A source tree with five benchmarks."""
    for name, text in SCRIPTS.items():
        (tmp_path / "benchmarks" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "benchmarks" / name).write_text(text)
    monkeypatch.setattr(module, "FOLDER", tmp_path / "benchmarks")
    return tmp_path


def bench(*arguments, code=0):
    done = CliRunner().invoke(app, ["bench", "--json", "--quiet", *map(str, arguments)])
    assert done.exit_code == code, done.output
    return json.loads(done.stdout)


def statuses(answer):
    return {(one["name"], one["record"].get("name")): one["status"] for one in answer["records"]}


def test_list_names_them_and_runs_none():
    listed = bench("--list")["benchmarks"]
    assert listed == [
        {"suite": "speed", "name": "sorting"},
        {"suite": "verification", "name": "bad-theory"},
        {"suite": "verification", "name": "good-theory"},
        {"suite": "validation", "name": "absent"},
        {"suite": "validation", "name": "broken"},
    ]
    assert bench("--suite", "speed", "--list")["benchmarks"] == listed[:1]


def test_all_of_them(tree):
    """Passed, measured, failed, not run and broken are told apart; a failure makes the code 3."""
    answer = bench("--out", tree / "results", code=3)
    assert statuses(answer) == {
        ("sorting", "sorting"): "measured",
        ("bad-theory", "bad 1"): "passed",
        ("bad-theory", "bad 2"): "failed",
        ("good-theory", "good"): "passed",
        ("absent", None): "not run",
        ("broken", None): "broken",
    }
    reasons = {one["name"]: one["reason"] for one in answer["records"] if "reason" in one}
    assert reasons == {"absent": "the reference data are not there", "broken": "ZeroDivisionError"}
    assert {file.name for file in (tree / "results").iterdir()} == {
        "sorting.json", "bad_theory.json", "good_theory.json",
    }  # fmt: skip


def test_one_by_its_name_and_further_options():
    assert statuses(bench("--only", "good-theory")) == {("good-theory", "good"): "passed"}
    answer = bench("--suite", "speed", "--only", "sorting", "--", "--pairs", "3")
    assert answer["records"][0]["record"]["args"] == ["--pairs", "3"]


def test_a_group_runs_what_its_patterns_name(tree):
    """A name in the suite's groups.toml stands for benchmarks; an unknown one is refused."""
    (tree / "benchmarks" / "verification" / "groups.toml").write_text('theory = ["*-theory"]\n')
    listed = bench("--only", "theory", "--list")["benchmarks"]
    assert [one["name"] for one in listed] == ["bad-theory", "good-theory"]
    refused = CliRunner().invoke(app, ["bench", "--only", "practice"])
    assert refused.exit_code == 2


def test_nothing_run_is_not_done():
    assert bench("--only", "absent", code=3)["records"][0]["status"] == "not run"


@pytest.mark.parametrize(
    ("before", "code", "fallen"),
    [
        ({"ratio": 4.5, "ratio_small": 2.0}, 0, []),
        ({"ratio": 5.5, "ratio_small": 2.0}, 3, ["ratio"]),
        ({"ratio": 1.0, "ratio_small": 9.0, "ratio_gone": 1.0}, 3, ["ratio_small"]),
    ],
)
def test_against_an_earlier_record(before, code, fallen, tree):
    """A ratio more than a quarter below its old value has fallen."""
    (tree / "old.json").write_text(json.dumps({"name": "sorting"} | before))
    answer = bench("--only", "sorting", "--against", tree / "old.json", code=code)
    assert [row["ratio"] for row in answer["comparisons"] if row["fallen"]] == fallen
    assert {row["ratio"] for row in answer["comparisons"]} == {"ratio", "ratio_small"}
    if code:
        bench("--only", "sorting", "--against", tree / "old.json", "--factor", 10)


def test_against_what_bench_itself_wrote(tree):
    """A folder of records, or the answer of --json."""
    answer = bench("--only", "sorting", "--out", tree / "results")
    (tree / "answer.json").write_text(json.dumps(answer))
    for earlier in ("results", "answer.json"):
        compared = bench("--only", "sorting", "--against", tree / earlier)["comparisons"]
        assert [(row["before"], row["now"]) for row in compared] == [(4.0, 4.0), (2.0, 2.0)]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--suite", "sped"), "sped"),
        (("--only", "nothing"), "nothing"),
        (("--suite", "gpu"), "gpu"),
        (("--only", "sorting", "--against", "absent.json"), "absent.json"),
    ],
)
def test_refusals(options, words):
    error = bench(*options, code=2)["error"]
    assert words in error["found"]
    assert error["remedy"]


def test_without_a_source_tree(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "FOLDER", tmp_path / "nowhere")
    assert "source tree" in bench("--list", code=2)["error"]["expected"]


def test_a_table_for_people():
    words = CliRunner().invoke(app, ["bench", "--quiet"]).stdout
    assert "ratio 4, ratio_small 2" in words
    assert "failed: mass" in words
    assert "1 of 2 checks passed" in words
    assert "records are absent: what was not run is not measured" in words


@pytest.mark.parametrize(("passed", "code"), [(True, 0), (False, 1)])
def test_a_script_hands_its_record_over(passed, code, tmp_path, capsys):
    """The record is printed and written beside its figure; a failed check shows in the exit code."""
    record = {"name": "two-words", "checks": [{"id": "a", "passed": True}, {"id": "b", "passed": passed}]}
    drawn = []
    assert module.hand_over(record, tmp_path / "out", drawn.append) == code
    assert json.loads(capsys.readouterr().out) == record
    assert json.loads((tmp_path / "out" / "two_words.json").read_text()) == record
    assert drawn == [tmp_path / "out" / "two_words.png"]
