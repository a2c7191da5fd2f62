"""The timeline of a subject: everything has its day, what was computed that of its images, and nobody else is in it."""

from __future__ import annotations

import json
from base64 import b64decode
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from oncoscale.app.cli import app
from oncoscale.app.showing import by_day
from oncoscale.app.timeline_picture import figure_of
from oncoscale.linkage.core import Artefact, Attempt, Code, Contains, Event, Holdings, Link, Run, RunSubject
from oncoscale.linkage.holding import take_in
from oncoscale.linkage.reference import reference_cohort
from oncoscale.linkage.store import Store
from oncoscale.linkage.timeline import Entry, days_of_runs, entries, for_json, timeline

COHORT = reference_cohort(3, 3)
KEY = COHORT.subject[0].key


def lane(found: tuple[Entry, ...], name: str) -> list[Entry]:
    return [one for one in found if one.lane == name]


def test_everything_held_is_on_it_once():
    """As many entries a lane as the subject has rows; none of another subject."""
    for subject in COHORT.subject:
        found = Counter(one.lane for one in entries(COHORT, subject.key))
        whose = ("event", "image_series", "sample", "observation", "prediction", "run_subject")
        own = {table: [one for one in getattr(COHORT, table) if one.subject == subject.key] for table in whose}
        kinds = Counter(one.kind for one in own["event"])
        assert found["visits"] == kinds["imaging"]
        assert found["treatment"] == kinds["treatment"] + kinds["surgery"] + kinds["radiotherapy"]
        assert found["course"] == kinds["diagnosis"] + kinds["follow-up"]
        for name, table in (("images", "image_series"), ("samples", "sample"), ("measurements", "observation"),
                            ("predictions", "prediction"), ("runs", "run_subject")):  # fmt: skip
            assert found[name] == len(own[table]), name
        assert found["maps"] == kinds["imaging"]  # one analysis a visit wrote one map


def test_a_prediction_stands_on_the_day_that_it_speaks_of():
    """The day of the visit whose images the run used, and the horizon after it."""
    days = {one.id: one.day for one in COHORT.event}
    visit_of = {one.uid: one.event for one in COHORT.image_series}
    start = {one.run: days[visit_of[one.series]] for one in COHORT.link if one.series}
    expected = {one.id: start[one.run] + one.horizon_day for one in COHORT.prediction if one.subject == KEY}
    found = entries(COHORT, KEY)
    assert {one.name: one.day for one in lane(found, "predictions")} == expected
    assert {one.name: one.day for one in lane(found, "runs")} == {
        one.run: start[one.run] for one in COHORT.run_subject if one.subject == KEY
    }


def chained(*runs: tuple[str, str, str]) -> Holdings:
    """The cohort with runs that use a file and make another: (run, used, generated)."""
    files = {name for _, used, made in runs for name in (used, made)}
    analysis = next(one for one in COHORT.run if one.kind == "analysis")
    decision = next(one.decision for one in COHORT.run_subject if one.subject == KEY)
    return replace(
        COHORT,
        artefact=COHORT.artefact + tuple(Artefact(one, "mesh", "observed", "text/plain", 1, one) for one in files),
        contains=COHORT.contains + tuple(Contains(one, KEY, "sole") for one in files),
        run=COHORT.run + tuple(replace(analysis, id=run) for run, _, _ in runs),
        run_subject=COHORT.run_subject + tuple(RunSubject(run, KEY, decision) for run, _, _ in runs),
        attempt=COHORT.attempt + tuple(Attempt(run, 1, "done", "0") for run, _, _ in runs),
        link=COHORT.link + tuple(Link(run, 1, "used", "in", artefact=used) for run, used, _ in runs)
        + tuple(Link(run, 1, "generated", "mesh.vtu", artefact=made) for run, _, made in runs),
    )  # fmt: skip


def test_what_rests_on_a_result_has_the_day_of_its_images():
    """A chain of three thousand runs over the map of the last visit: each on that visit's day, meshes too."""
    visits = [one for one in COHORT.event if one.subject == KEY and one.kind == "imaging"]
    last = max(visits, key=lambda one: one.day)
    series = {one.uid for one in COHORT.image_series if one.event == last.id}
    maker = next(one.run for one in COHORT.link if one.series in series and one.role == "used")
    first = next(one.artefact for one in COHORT.link if one.run == maker and one.role == "generated")
    names = [first, *(f"file-{n}" for n in range(3000))]
    held = chained(*((f"run-{n}", names[n], names[n + 1]) for n in reversed(range(3000))))
    days = days_of_runs(held, KEY)
    assert {days[f"run-{n}"] for n in range(3000)} == {last.day}
    assert {one.day for one in lane(entries(held, KEY), "meshes")} == {last.day}


def test_runs_that_use_each_other_do_not_hang():
    """A ring is no day, and ends."""
    held = chained(("a", "one", "two"), ("b", "two", "one"))
    assert {days_of_runs(held, KEY)[run] for run in "ab"} == {None}


def test_an_age_is_a_day_where_the_age_on_day_0_is_known():
    """Age 760 days of somebody who was 730 on day 0 is day 30; without that age it has no day and comes last."""
    known = replace(COHORT.subject[0], age_day0_d=730)
    event = Event("E-1", KEY, "progression", Code("urn:x", "1", "progression"), age_d=760)
    for subject, day in ((known, 30), (replace(known, age_day0_d=None), None)):
        found = entries(replace(COHORT, subject=(subject,), event=(*COHORT.event, event)), KEY)
        assert next(one for one in found if one.name == "E-1").day == day
        assert (found[-1].day is None) or day is not None
    run = Run("r", "analysis", "s", "p", "i", "0")
    assert days_of_runs(Holdings(run=(run,)), KEY) == {"r": None}


@pytest.fixture
def stocked(store: Store) -> Path:
    with store.writing() as connection:
        take_in(connection, COHORT)
    return store.path


def test_show_says_it_in_words_json_and_a_page_with_a_picture(stocked: Path, tmp_path: Path):
    """The same entries everywhere; the page is one file with a PNG in it, and names no other subject."""
    page, file = tmp_path / "subject.html", tmp_path / "subject.json"
    found = timeline(Store.open(stocked), KEY)
    for out in (page, file):
        told = CliRunner().invoke(app, ["show", KEY, "--store", str(stocked), "--out", str(out)])
        assert told.exit_code == 0
    assert json.loads(file.read_text())["timeline"] == for_json(found)
    text = page.read_text()
    picture = text.split("data:image/png;base64,")[1].split('"')[0]
    assert b64decode(picture).startswith(b"\x89PNG")
    for day, lanes in by_day(found):
        assert day in text
        assert day in told.stdout
        assert all(name in text and name in told.stdout for name, _ in lanes)
    assert KEY in text
    assert not any(one.key in text for one in COHORT.subject[1:])
    assert "http" not in text.replace(picture, "")


def test_the_picture_has_a_mark_a_day_and_hollow_predictions(stocked: Path):
    """Lanes from above, one mark a day in each; predictions alone are white inside."""
    found = timeline(Store.open(stocked), KEY)
    axes = figure_of(found).axes[0]
    names = [label.get_text() for label in axes.get_yticklabels()]
    for row, name in enumerate(names):
        (marks,) = [one for one in axes.lines if one.get_marker() == "o" and one.get_ydata()[0] == row]
        assert list(marks.get_xdata()) == sorted({one.day for one in lane(found, name) if one.day is not None})
        assert (marks.get_markerfacecolor() == "white") == (name == "predictions")
    assert figure_of([Entry("samples", None, "S-1", "Blood")]) is None


@pytest.mark.parametrize("more", [["--out", "x.html"], [KEY, "--out", "x.pdf"], ["P-AAAAAAAAAAAAAAAA"]])
def test_what_cannot_be_shown_is_refused(stocked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more):
    """A page about nobody, another kind of file, an unknown subject: code 2, and no file."""
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(app, ["show", *more, "--store", str(stocked)]).exit_code == 2
    assert not list(tmp_path.glob("x.*"))
