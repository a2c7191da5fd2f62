"""One run out of what is held: whole in itself, and nothing beside it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from oncoscale.linkage import core
from oncoscale.linkage.core import Contains, RunSubject
from oncoscale.linkage.narrowing import heads_not_defaced, of_run
from oncoscale.linkage.reference import reference_cohort
from oncoscale.linkage.standards import native

COHORT = reference_cohort(11, 5)


@pytest.mark.parametrize("run", [one.id for one in COHORT.run[:4]])
def test_a_run_alone_leads_to_nothing_that_is_not_there(run: str, tmp_path: Path):
    """Every reference leads to a row of the same file, and every row is one of the cohort's."""
    alone = of_run(COHORT, run)
    native.render(alone, tmp_path / "run.json")
    assert native.check(tmp_path / "run.json") == ()
    for table, rows in core.rows(alone):
        assert set(map(repr, rows)) <= set(map(repr, getattr(COHORT, table)))
    assert {one.event for one in alone.image_series} <= {one.id for one in alone.event}
    assert {one.artefact for one in alone.link} - {None} == {one.sha256 for one in alone.artefact}
    assert {one.decision for one in alone.run_subject} == {one.id for one in alone.decision}
    assert {one.consent for one in alone.decision} == {one.id for one in alone.consent}


def test_nobody_else_and_no_other_run_comes_along():
    """The run, its subject, its images; no event but the visit's, no sample, no observation of another run."""
    run = COHORT.run[0].id
    alone = of_run(COHORT, run)
    (owner,) = {one.subject for one in COHORT.run_subject if one.run == run}
    assert [one.key for one in alone.subject] == [owner]
    assert [one.id for one in alone.run] == [run]
    assert {one.run for one in alone.observation} <= {run}
    assert {one.kind for one in alone.event} == {"imaging"}
    assert alone.sample == ()


def test_a_run_on_several_subjects_keeps_them_all():
    """Whose data a pooled file holds comes along, with their enrolments."""
    run, others = COHORT.run[0].id, [one.key for one in COHORT.subject]
    artefact = next(one.artefact for one in COHORT.link if one.run == run and one.artefact)
    decision = COHORT.decision[0].id
    pooled = replace(
        COHORT,
        contains=tuple(Contains(artefact, key, "pooled") for key in others),
        run_subject=tuple(RunSubject(run, key, decision) for key in others),
    )
    alone = of_run(pooled, run)
    assert [one.key for one in alone.subject] == others
    assert len(alone.enrolment) == len(others)


def test_heads_are_those_flagged_and_not_marked_as_defaced():
    """Series of a visit that ingest flagged, until the visit is marked as defaced."""

    def flagged(**attributes: bool):
        events = (replace(one, attributes=attributes) if one.kind == "imaging" else one for one in COHORT.event)
        return replace(COHORT, event=tuple(events))

    assert len(heads_not_defaced(flagged(head=True))) == len(COHORT.image_series)
    assert heads_not_defaced(flagged(head=True, defaced=True)) == heads_not_defaced(flagged(head=False)) == ()
