"""Killed at random while writing: nothing acknowledged is lost, nothing is half visible, every orphan is listed.

Fifty kills here; ``ONCOSCALE_CRASHES=1000`` for as many as one likes. A kill ends a process, not the machine: what the
system holds in its buffers survives it. That a commit is on the disk is SQLite's promise (``synchronous=FULL``).
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from random import Random
from shutil import rmtree
from time import monotonic, sleep
from typing import Any

import pytest
from sqlalchemy import func, select

from oncoscale.linkage import tables
from oncoscale.linkage.audit import verify
from oncoscale.linkage.consent import Consent, record_consent, require
from oncoscale.linkage.core import Holdings
from oncoscale.linkage.holding import take_in
from oncoscale.linkage.quality_files import orphans, remove_orphans, run_files
from oncoscale.linkage.record import Content, Prediction, Record, outputs_of, record_run, record_stop, this_software
from oncoscale.linkage.reference import reference_cohort
from oncoscale.linkage.shards import Member, Shard, take_in_shards
from oncoscale.linkage.store import Store
from oncoscale.linkage.subject import SubjectKey

KILLS = int(os.environ.get("ONCOSCALE_CRASHES", "50"))
BLOCK = 25
"""Kills of one store."""

COHORT = reference_cohort(3, 1)
KEY = SubjectKey(COHORT.subject[0].key)
IMAGES = tuple(Content(f"series/{one.uid}", one.content_sha256, series=one.uid) for one in COHORT.image_series)[:1]
VOLUME = (Prediction("tumour-volume", "tumour volume", 28, 61.5, "mL", 58.0, 66.0, 0.9),)

Say = Callable[[str], None]


def write_for_ever(path: Path, scratch: Path, say: Say, start: int) -> None:
    """Runs, members of shards, stops, consents, whole subjects; each is acknowledged when its call is back."""
    store = Store.open(path, create=True)
    if start == 0:
        say("begin cohort 0")
        enter(store, COHORT)
        say(f"subject {KEY}")
    for n in count(start):
        say(f"begin step {n}")
        say(STEPS[n % len(STEPS)](store, scratch / f"out-{n}", n))


def results(folder: Path, n: int) -> None:
    (folder / "maps").mkdir(parents=True)
    (folder / "forecast.json").write_text(f'{{"n": {n}}}')
    (folder / "maps" / "maps.json").write_text("{}" * 2000)


def one_run(store: Store, folder: Path, n: int) -> str:
    results(folder, n)
    done = record_run(store, record(n), folder, permit=require(store, KEY), predictions=VOLUME)
    return f"run {done.run} {done.attempt}"


def some_shard(store: Store, folder: Path, n: int) -> str:
    """A member of a campaign, by way of a shard and its ingester."""
    results(folder, n)
    run = replace(record(n), outputs=outputs_of(folder))
    with Shard(folder.parent) as shard:
        shard.append(Member(run, require(store, KEY).id, VOLUME, folder=folder.name))
    return f"run {run.run} {take_in_shards(store, folder.parent).members}"


def one_stop(store: Store, _: Path, n: int) -> str:
    run = record(n)
    return f"stop {run.run} {record_stop(store, run, require(store, KEY), 'failed', failure={'kind': 'MeshFault'})}"


def one_consent(store: Store, _: Path, n: int) -> str:
    return f"consent {record_consent(store, KEY, Consent('active', document_sha256=f'{n:064x}'))}"


def one_subject(store: Store, _: Path, n: int) -> str:
    cohort = reference_cohort(1000 + n, 1)
    enter(store, cohort)
    return f"subject {cohort.subject[0].key}"


STEPS = (one_run, some_shard, one_consent, some_shard, one_subject, one_stop)


def enter(store: Store, cohort: Holdings) -> None:
    with store.writing() as connection:
        take_in(connection, cohort)


def record(n: int) -> Record:
    return Record("forecast", {"days": 28.0}, IMAGES, n, "cpu", 1, subject=KEY, software=this_software())


@dataclass(frozen=True)
class Told:
    """What a writer said before it was killed; ``in_the_middle``: of something that it had begun."""

    lines: tuple[str, ...]

    @property
    def acknowledged(self) -> tuple[str, ...]:
        return tuple(line for line in self.lines if not line.startswith("begin"))

    @property
    def in_the_middle(self) -> bool:
        return bool(self.lines) and self.lines[-1].startswith("begin")


def killed_writer(path: Path, scratch: Path, start: int, luck: Random) -> Told:
    """A process that writes into the store, killed some words and part of a step after it began.

    Waiting is measured in the writer's own words and steps, so that a slow machine is hit in the same places.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        with suppress(BaseException):
            try:
                write_for_ever(path, scratch, lambda line: os.write(writing, f"{line}\n".encode()), start)
            except Exception as error:
                os.write(writing, f"fault {type(error).__name__}: {error}\n".encode())
        os._exit(1)
    os.close(writing)
    with os.fdopen(reading, "rb") as words:
        heard, began = [words.readline()], monotonic()
        heard += [words.readline() for _ in range(luck.randrange(4))]
        step = (monotonic() - began) / (len(heard) - 1) if len(heard) > 1 else 0.05
        sleep(luck.uniform(0.0, 2.0 * step))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        lines = (b"".join(heard) + words.read()).decode().splitlines()
    assert not [line for line in lines if line.startswith("fault")], lines
    return Told(tuple(lines))


def faults(store: Store, acknowledged: list[str]) -> Iterator[str]:
    """What a store must not be after a kill."""
    with store.reading() as connection:
        if connection.exec_driver_sql("PRAGMA integrity_check").scalar() != "ok":
            yield "the database is damaged"
        if connection.exec_driver_sql("PRAGMA foreign_key_check").first():
            yield "a row refers to nothing"
        yield from lost(connection, acknowledged)
        yield from half_visible(store, connection)
        yield from unlisted(store, connection)
    if verify(store) is not None:
        yield "the audit's chain is broken"


def lost(connection: Any, acknowledged: list[str]) -> Iterator[str]:
    attempts = connection.execute(select(tables.attempt.c.run, tables.attempt.c.n, tables.attempt.c.status)).all()
    held = {f"{'run' if one.status == 'done' else 'stop'} {one.run} {one.n}" for one in attempts}
    held |= {f"consent {key}" for key in connection.execute(select(tables.consent.c.id)).scalars()}
    held |= {f"subject {key}" for key in connection.execute(select(tables.subject.c.key)).scalars()}
    yield from (f"lost: {one}" for one in acknowledged if one not in held)


def half_visible(store: Store, connection: Any) -> Iterator[str]:
    """Runs of the writer with rows or files that are missing; subjects without what came with them."""
    link, forecasts = tables.link.c, tables.parameter_set.c.schema == "oncoscale-forecast"
    own = (
        select(tables.run.c.id).join(tables.parameter_set).where(forecasts, tables.run.c.software == this_software().id)
    )
    for run in connection.execute(own).scalars().all():
        ends = connection.execute(select(tables.attempt.c.status).where(tables.attempt.c.run == run)).scalars().all()
        if not ends:
            yield f"run {run} without an attempt"
        if "done" not in ends:
            continue
        found = run_files(store, connection, run)
        if (found.outputs, found.missing, found.changed, found.record_ok) != (2, 0, 0, True):
            yield f"run {run} with files that are missing or others: {found}"
        used = select(func.count()).where(link.run == run, link.role == "used")
        predicted = select(func.count()).where(tables.prediction.c.run == run)
        if [connection.execute(one).scalar_one() for one in (used, predicted)] != [1, 1]:
            yield f"run {run} with rows that are missing"
    enrolled = set(connection.execute(select(tables.enrolment.c.subject)).scalars())
    diagnosed = set(
        connection.execute(select(tables.event.c.subject).where(tables.event.c.kind == "diagnosis")).scalars()
    )
    for key in connection.execute(select(tables.subject.c.key)).scalars():
        if key not in enrolled & diagnosed:
            yield f"subject {key} half entered"


def unlisted(store: Store, connection: Any) -> Iterator[str]:
    """Files that belong to no finished attempt, nor to the store itself, and that the list of orphans leaves out."""
    finished = select(tables.attempt.c.run, tables.attempt.c.n).where(tables.attempt.c.status == "done")
    known = {store.run_folder(one.run, one.n) for one in connection.execute(finished).all()}
    listed = set(orphans(store, connection))
    for path in store.path.rglob("*"):
        is_ours = path.parent == store.path and (path.name.startswith("oncoscale.sqlite") or path.name == "audit.key")
        above = {path, *path.parents}
        if path.is_file() and not is_ours and not above & known and not above & listed:
            yield f"an orphan that check does not list: {path.relative_to(store.path)}"


@pytest.mark.parametrize("block", range(-(-KILLS // BLOCK)))
def test_killed_at_random_while_writing(block: int, tmp_path: Path):
    """Every kill leaves a sound store; most hit something half done; the next writer goes on as if nothing had been."""
    this_software()  # hashed once, before the processes part
    luck, path, scratch = Random(block), tmp_path / "store", tmp_path / "scratch"
    acknowledged: list[str] = []
    middle = 0
    for kill in range(min(BLOCK, KILLS - block * BLOCK)):
        start = 1000 * kill if f"subject {KEY}" in acknowledged else 0
        told = killed_writer(path, scratch, start, luck)
        acknowledged += told.acknowledged
        middle += told.in_the_middle
        if (path / "oncoscale.sqlite").is_file():
            assert not list(faults(Store.open(path), acknowledged))
        else:
            assert not acknowledged
        rmtree(scratch, ignore_errors=True)
    store = Store.open(path)
    with store.writing() as connection:
        remove_orphans(orphans(store, connection))
        assert orphans(store, connection) == ()
    assert not list(faults(store, acknowledged))
    assert middle > BLOCK // 4
    assert len(acknowledged) > BLOCK // 4


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
