"""Killed at random while writing: nothing acknowledged is lost, nothing is half visible, every orphan is listed.

Fifty kills here; ``ONCOSCALE_CRASHES=1000`` for as many as one likes (see crashing.py).
"""

from __future__ import annotations

import os
from pathlib import Path
from random import Random

import pytest

from oncoscale.linkage import tables
from oncoscale.linkage.erasing import erase
from oncoscale.linkage.quality_files import orphans, remove_orphans
from oncoscale.linkage.store import Store
from oncoscale.linkage.subject import SubjectKey

from .crashing import (
    BLOCK,
    COHORT,
    enter,
    faults,
    kill_again_and_again,
    one_consent,
    one_export,
    one_run,
    one_visit,
    unlisted,
    vault_of,
)

KILLS = int(os.environ.get("ONCOSCALE_CRASHES", "50"))


@pytest.mark.parametrize("block", range(-(-KILLS // BLOCK)))
def test_killed_at_random_while_writing(block: int, tmp_path: Path):
    """Every kill leaves a sound store; most hit something half done; the next writer goes on as if nothing had been."""
    kills = min(BLOCK, KILLS - block * BLOCK)
    toll = kill_again_and_again(tmp_path, kills, Random(block))
    assert toll.faults == []
    assert toll.killed.total() > kills // 4
    assert toll.acknowledged > kills // 4
    assert len(toll.killed) > min(3, kills // 4)
    store = Store.open(tmp_path / "store")
    with store.writing() as connection:
        remove_orphans(orphans(store, connection))
        assert orphans(store, connection) == ()
    assert list(faults(store, [])) == []


def test_what_a_crash_must_not_leave_is_seen(tmp_path: Path):
    """The judgement of the test above finds a lost acknowledgement, a missing file, a missing row, a stray subject."""
    store = Store.open(tmp_path / "store", create=True)
    enter(store, COHORT)
    said = [one_run(store, tmp_path / "out", 1), one_consent(store, tmp_path, 2)]
    assert not list(faults(store, said))
    assert len(list(faults(store, [*said, "run abc 1", "consent C-1"]))) == 2
    run = said[0].split()[1]
    kept = (store.run_folder(run, 1) / "forecast.json").read_bytes()
    (store.run_folder(run, 1) / "forecast.json").unlink()
    assert "files that are missing" in "".join(faults(store, said))
    (store.run_folder(run, 1) / "forecast.json").write_bytes(kept)
    with store.writing() as connection:
        connection.execute(tables.prediction.delete().where(tables.prediction.c.run == run))
    assert "rows that are missing" in "".join(faults(store, said))
    with store.writing() as connection:
        connection.execute(tables.enrolment.delete())
    assert "half entered" in "".join(faults(store, said))
    with store.reading() as connection:
        assert not list(unlisted(store, connection))
    (store.path / "stray").write_text("x")
    with store.reading() as connection:
        assert list(unlisted(store, connection)) == ["an orphan that check does not list: stray"]


def test_what_a_crash_must_not_leave_of_visits_exports_and_erasures_is_seen(tmp_path: Path):
    """Nor does the judgement miss a visit whose files are others, an export off the record, or a byte of the erased."""
    store = Store.open(tmp_path / "store", create=True)
    enter(store, COHORT)
    visit, leaves = one_visit(store, tmp_path / "visit", 3), one_export(store, tmp_path / "out-4", 4)
    assert list(faults(store, [visit, leaves], (leaves,))) == []
    (image, *_) = (store.study_folder(visit.split()[1]) / "images").rglob("*.dcm")
    kept = image.read_bytes()
    image.write_bytes(kept[:-1])
    assert "files that are missing or others" in "".join(faults(store, [visit]))
    image.write_bytes(kept)
    (tmp_path / "out-5.json").write_text("{}")
    assert "not on record" in "".join(faults(store, [leaves], (leaves,)))
    (tmp_path / "out-4.json").write_text("{}")
    assert "not what was exported" in "".join(faults(store, [leaves], (leaves,)))
    subject = visit.split()[2]
    erase(store, SubjectKey(subject), vault=vault_of(store))
    assert list(faults(store, [visit, f"erased {subject}"])) == []
    (store.path / ".staging-0-left").mkdir()
    (store.path / ".staging-0-left" / "study.json").write_text(subject)
    assert "erased, and still in" in "".join(faults(store, [visit, f"erased {subject}"]))
