"""The page of judges' reports is that of its record, and the record that of the standards of today."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path

import pytest

from oncoscale.linkage import standards

ROOT = Path(__file__).parents[2]
RECORD = json.loads((ROOT / "benchmarks" / "results" / "judges.json").read_text(encoding="utf-8"))
PAGE = (ROOT / "docs" / "linkage" / "judges.rst").read_text(encoding="utf-8")
WRITABLE = [name for name in standards.names() if hasattr(standards.standard(name), "render")]


def test_the_page_is_that_of_the_record():
    """Who changes one alone is found out."""
    assert runpy.run_path(str(ROOT / "benchmarks" / "validation" / "_judges_page.py"))["page"](RECORD) == PAGE


@pytest.mark.parametrize("name", WRITABLE)
def test_every_standard_of_today_was_judged_on_two_subjects(name: str):
    """In the version that is written now: exported, seen by its own check, and by an independent judge or with the
    reason why by none; without violation, and broken copies rejected as the tests say."""
    exported = [one for one in RECORD["exports"] if one["standard"] == name]
    assert {one["version"] for one in exported} == {standards.standard(name).VERSION}
    assert len({one["subject"] for one in exported}) == 2
    judged = [one for one in RECORD["verdicts"] if one["standard"] == name]
    assert sum(one["judge"] == "own check" for one in judged) == 2
    assert len(judged) > 2 or [one for one in RECORD["not_run"] if one["standard"] == name]
    assert [one for one in judged if one["violations"] or one["as_the_tests_say"] is False] == []
    assert any(one["rejected"] for one in judged if one["judge"] == "own check")


def test_nothing_of_a_subject_is_in_it():
    """No pseudonym, no mapped UID, no hash of a run, no path."""
    for text in (PAGE, json.dumps(RECORD)):
        assert not re.findall(r"P-[A-Z2-7]{16}|2\.25\.\d{6}|[0-9a-f]{40}|/tmp/|/home/", text)
