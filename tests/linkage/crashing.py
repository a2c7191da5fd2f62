"""A writer that is killed at random, and what a store must not be afterwards.

A kill ends a process, not the machine: what the system holds in its buffers survives it. That a commit is on the disk
is SQLite's promise (``synchronous=FULL``).
"""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from random import Random
from shutil import rmtree
from time import monotonic, sleep
from typing import Any

from sqlalchemy import func, select

from oncoscale.core.files import content_hash
from oncoscale.linkage import tables
from oncoscale.linkage.audit import examine, heads_of, veiled
from oncoscale.linkage.consent import Consent, record_consent, require
from oncoscale.linkage.core import Holdings
from oncoscale.linkage.erasing import erase, finish_interrupted, remains
from oncoscale.linkage.exporting import export
from oncoscale.linkage.holding import take_in
from oncoscale.linkage.ingest import ingest
from oncoscale.linkage.quality_files import orphans, run_files, study_files
from oncoscale.linkage.record import Content, Prediction, Record, outputs_of, record_run, record_stop, this_software
from oncoscale.linkage.reference import reference_cohort
from oncoscale.linkage.replacing import put_right
from oncoscale.linkage.shards import Member, Shard, take_in_shards
from oncoscale.linkage.store import Store
from oncoscale.linkage.subject import SubjectKey
from oncoscale.linkage.vault import Vault

from .conftest import ACTIVE, write_visit

BLOCK = 25
"""Kills of one store."""

COHORT = reference_cohort(3, 1)
KEY = SubjectKey(COHORT.subject[0].key)
IMAGES = tuple(Content(f"series/{one.uid}", one.content_sha256, series=one.uid) for one in COHORT.image_series)[:1]
VOLUME = (Prediction("tumour-volume", "tumour volume", 28, 61.5, "mL", 58.0, 66.0, 0.9),)

Say = Callable[[str], None]


def write_for_ever(path: Path, scratch: Path, say: Say, start: int) -> None:
    """Runs, consents, subjects, visits, exports, erasures, stops; each is acknowledged when its call is back."""
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


def one_visit(store: Store, folder: Path, n: int) -> str:
    """A visit by its images, and at once again with a segmentation: the files take the place of others."""
    visit, vault = write_visit(folder, study=str(n)), vault_of(store)
    drawn = visit / "miller-seg.dcm"
    kept = drawn.rename(folder.with_name(f"{folder.name}-seg.dcm"))
    ingest(visit, store, f"LOCAL-{n}", consent=ACTIVE, vault=vault)
    kept.rename(drawn)
    done = ingest(visit, store, f"LOCAL-{n}", vault=vault)
    return f"visit {done.study} {done.subject}"


def one_export(store: Store, folder: Path, _: int) -> str:
    out = folder.with_suffix(".json")
    out.parent.mkdir(parents=True, exist_ok=True)
    return f"export {export(store, KEY, out, standard_name='native', vault=vault_of(store)).sha256} {out}"


def one_erasure(store: Store, _: Path, n: int) -> str:
    """Of a subject that came by images, or of one that is entered for it."""
    with store.reading() as connection:
        known = select(tables.subject.c.key).where(tables.subject.c.key != KEY, tables.subject.c.site == "site1")
        imaged = select(tables.image_series.c.subject).where(tables.image_series.c.uri.like("studies/%"))
        key = connection.execute(known.where(tables.subject.c.key.in_(imaged)).limit(1)).scalar()
    if key is None:
        enter(store, cohort := reference_cohort(10_000_000 + n, 1))
        key = cohort.subject[0].key
    erase(store, SubjectKey(key), vault=vault_of(store))
    return f"erased {key}"


STEPS = (one_run, some_shard, one_consent, one_visit, one_export, one_erasure, one_subject, one_stop, some_shard)


def vault_of(store: Store) -> Vault:
    """Beside the store."""
    return Vault.open(store.path.parent / "vault")


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
    def in_the_middle(self) -> str:
        """The step that was killed; empty if the kill hit between two."""
        if not self.lines or not self.lines[-1].startswith("begin"):
            return ""
        what, n = self.lines[-1].split()[1:]
        return what if what == "cohort" else STEPS[int(n) % len(STEPS)].__name__


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


def faults(store: Store, acknowledged: list[str], lately: tuple[str, ...] = ()) -> Iterator[str]:
    """What a store must not be after a kill; ``lately``: what was acknowledged since the kill before."""
    with store.reading() as connection:
        if connection.exec_driver_sql("PRAGMA integrity_check").scalar() != "ok":
            yield "the database is damaged"
        if connection.exec_driver_sql("PRAGMA foreign_key_check").first():
            yield "a row refers to nothing"
        yield from lost(store, connection, acknowledged)
        yield from half_visible(store, connection)
        yield from unlisted(store, connection)
        yield from half_exported(connection, acknowledged, lately)
    yield from half_erased(store, acknowledged)
    if examine(store, heads_of(vault_of(store))).fault:
        yield "the audit's chain is broken, or shorter than what was signed"


def lost(store: Store, connection: Any, acknowledged: list[str]) -> Iterator[str]:
    attempts = connection.execute(select(tables.attempt.c.run, tables.attempt.c.n, tables.attempt.c.status)).all()
    held = {f"{'run' if one.status == 'done' else 'stop'} {one.run} {one.n}" for one in attempts}
    held |= {f"consent {key}" for key in connection.execute(select(tables.consent.c.id)).scalars()}
    held |= {f"subject {key}" for key in connection.execute(select(tables.subject.c.key)).scalars()}
    images = select(tables.image_series.c.event, tables.image_series.c.subject).group_by(tables.image_series.c.event)
    whole = images.add_columns(func.count()).having(func.count() == 2)
    held |= {f"visit {one.event} {one.subject}" for one in connection.execute(whole).all()}
    erased = set(connection.execute(select(tables.tombstone.c.mac)).scalars())
    for one in acknowledged:
        what, *_, last = one.split()
        if what in ("subject", "visit") and veiled(store, last) in erased:
            continue
        if what not in ("export", "erased") and one not in held:
            yield f"lost: {one}"


def half_exported(connection: Any, acknowledged: list[str], lately: tuple[str, ...]) -> Iterator[str]:
    """Exports that are not on record, and those acknowledged lately whose file is not what was said."""
    on_record = set(connection.execute(select(tables.export.c.sha256)).scalars())
    yield from (f"lost: {one}" for one in acknowledged if one.startswith("export") and one.split()[1] not in on_record)
    said = [one.split(maxsplit=2) for one in lately if one.startswith("export")]
    yield from (f"not what was exported: {place}" for _, digest, place in said if content_hash(place) != digest)
    for folder in {Path(place).parent for *_, place in said}:
        for out in folder.glob("out-*.json"):
            if content_hash(out) not in on_record:
                yield f"an export that is not on record: {out.name}"


def half_erased(store: Store, acknowledged: list[str]) -> Iterator[str]:
    """Subjects that are gone and have left a byte."""
    gone = [one.split()[1] for one in acknowledged if one.startswith("erased")]
    if gone and (left := remains(store, gone)):
        yield f"erased, and still in {left}"


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
    event = tables.event.c
    visits = connection.execute(
        select(event.id, event.subject, event.attributes).where(event.id.startswith("T-"))
    ).all()
    ingested = {one.id: one.subject for one in visits if "source" in json.loads(one.attributes)}
    for key in connection.execute(select(tables.subject.c.key)).scalars():
        if key not in enrolled or key not in diagnosed | set(ingested.values()):
            yield f"subject {key} half entered"
    for visit in ingested:
        found = study_files(store.study_folder(visit))
        series = tables.image_series.c
        kept = connection.execute(select(series.uid, series.content_sha256).where(series.event == visit)).all()
        rows = {one.uid: one.content_sha256 for one in kept}
        if found.missing or found.changed or rows != {uid: one.sha256 for uid, one in found.series.items()}:
            yield f"visit {visit} with files that are missing or others"


def unlisted(store: Store, connection: Any) -> Iterator[str]:
    """Files that belong to no finished attempt, nor to the store itself, and that the list of orphans leaves out."""
    finished = select(tables.attempt.c.run, tables.attempt.c.n).where(tables.attempt.c.status == "done")
    known = {store.run_folder(one.run, one.n) for one in connection.execute(finished).all()}
    known |= {store.study_folder(one) for one in connection.execute(select(tables.image_series.c.event)).scalars()}
    listed = set(orphans(store, connection))
    for path in store.path.rglob("*"):
        is_ours = path.parent == store.path and (path.name.startswith("oncoscale.sqlite") or path.name == "audit.key")
        above = {path, *path.parents}
        if path.is_file() and not is_ours and not above & known and not above & listed:
            yield f"an orphan that check does not list: {path.relative_to(store.path)}"


@dataclass
class Toll:
    """What came of killing: ``killed`` by step, ``between`` of kills between two steps."""

    acknowledged: int = 0
    between: int = 0
    killed: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


def kill_again_and_again(folder: Path, kills: int, luck: Random) -> Toll:
    """One store, so many kills; after each the next commands put right what they always do, and the store is judged."""
    this_software()  # hashed once, before the processes part
    path, scratch, toll = folder / "store", folder / "scratch", Toll()
    acknowledged: list[str] = []
    for kill in range(kills):
        start = 1000 * kill if f"subject {KEY}" in acknowledged else 0
        told = killed_writer(path, scratch, start, luck)
        acknowledged += told.acknowledged
        toll.acknowledged += len(told.acknowledged)
        if told.in_the_middle:
            toll.killed[told.in_the_middle] += 1
        else:
            toll.between += 1
        if (path / "oncoscale.sqlite").is_file():
            store = Store.open(path)
            put_all_right(store)
            toll.faults += faults(store, acknowledged, told.acknowledged)
        elif acknowledged:
            toll.faults.append("the store is gone")
        rmtree(scratch, ignore_errors=True)
    return toll


def put_all_right(store: Store) -> None:
    """What the next erasure and the next ingest do before anything else."""
    finish_interrupted(store, vault=vault_of(store))
    with store.writing() as connection:
        put_right(store, connection)
