"""The passport of the program: complete, sourced, honest about what is assumed, and without a word about a subject."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from oncoscale.linkage.core import Holdings, Program
from oncoscale.linkage.passport import document, passport_of, this_passport
from oncoscale.linkage.record import this_software
from oncoscale.linkage.reference import reference_cohort
from oncoscale.linkage.standards import ai_passport

THIS = this_software()
PROGRAM = Program(THIS.id, THIS.name, THIS.version, THIS.code_sha256)
COHORT = replace(reference_cohort(3, 6), software=(PROGRAM,))


@pytest.fixture
def written(tmp_path: Path) -> Path:
    ai_passport.render(COHORT, tmp_path / "passport")
    return tmp_path / "passport"


def test_the_passport_of_this_program_comes_from_its_code():
    """Tumours, parameters and assumptions are those that the code states; approvals there are none."""
    from oncoscale.agents.parameters import TABLE
    from oncoscale.core import registry
    from oncoscale.sim.tumour_type import TUMOURS

    content = this_passport()
    assert [one["name"] for one in content["tumours"]] == list(registry.names(TUMOURS))
    assert {one["name"] for one in content["parameters_of_cells"]} == set(TABLE)
    assert any(one["assumed"] for one in content["parameters_of_cells"])
    assert content["assumed_elsewhere"]["imaging"]
    assert content["approvals"] == []
    assert content["not_a_medical_device"] is True


def test_no_subject_is_in_it(written: Path):
    """Neither a pseudonym nor an identifier of a run, a series or a sample."""
    text = "".join(path.read_text() for path in written.iterdir())
    named = [one.key for one in COHORT.subject] + [one.id for one in (*COHORT.run, *COHORT.sample, *COHORT.event)]
    assert not [name for name in named if name in text]


def test_another_version_is_not_spoken_for():
    """Of code that is not this one's, only what was kept is told."""
    other = Program("oncoscale-0+0", "oncoscale", "0", "0" * 64)
    assert "no passport was kept" in passport_of(other)["stated"]
    assert passport_of(replace(other, passport={"intended_use": "x"}))["kept"] == {"intended_use": "x"}
    assert "tumours" not in passport_of(other)


def test_a_calibration_tells_how_many_but_no_small_number():
    """Six subjects are told with their collections, one is fewer than the smallest cell, none is none."""
    runs = tuple(replace(one, kind="calibration", software=PROGRAM.id) for one in COHORT.run)
    six = document(replace(COHORT, run=runs))["programs"][0]["calibrated_on"]
    assert six == {"subjects": 6, "collections": ["col-1"]}
    one = document(replace(COHORT, run=runs[:1]))["programs"][0]["calibrated_on"]
    assert one["subjects"] == "fewer than 5"
    assert document(Holdings())["programs"][0]["calibrated_on"] == {"subjects": 0, "collections": []}


def test_people_read_what_machines_read(written: Path):
    """Both renderings say that this is no medical device and mark what is assumed."""
    for name in ("passport.md", "passport.html"):
        text = (written / name).read_text()
        assert "Not a medical device" in text
        assert "(assumed;" in text


MUTATIONS = {
    "a section is missing": lambda one: one.pop("known_failures"),
    "the intended use is empty": lambda one: one.update(intended_use=""),
    "it claims to be a medical device": lambda one: one.update(not_a_medical_device=False),
    "a parameter without a source": lambda one: one["parameters_of_cells"][0].update(source="", assumed=False),
    "a parameter without a unit": lambda one: one["tumours"][0]["parameters"][0].update(unit=""),
}


@pytest.mark.parametrize("break_it", MUTATIONS.values(), ids=MUTATIONS)
def test_the_check_objects_to_a_broken_passport(written: Path, break_it):
    """Each fault is named by its rule."""
    assert ai_passport.check(written) == ()
    content = json.loads((written / "passport.json").read_text())
    break_it(content["programs"][0])
    faults = list(ai_passport._faults(content["programs"][0]))
    assert len(faults) == 1


def test_forms_that_disagree_are_found(written: Path):
    """Who changes the page alone is found out."""
    page = written / "passport.html"
    page.write_text(page.read_text().replace("Not a medical device", "A medical device"))
    assert [one.where for one in ai_passport.check(written)] == ["passport.html"]
