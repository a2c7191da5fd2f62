"""Shards: many workers write without a lock, one ingester takes in, twice is once, and half lines are left."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import func, select

from oncoscale.core.errors import FileRejected, StorageFault
from oncoscale.core.files import content_hash
from oncoscale.linkage import shards as sharding
from oncoscale.linkage import tables
from oncoscale.linkage.audit import head, verify
from oncoscale.linkage.consent import require, withdraw
from oncoscale.linkage.core import ROWS
from oncoscale.linkage.holding import take_in
from oncoscale.linkage.passport import passport_to_keep
from oncoscale.linkage.quality_files import orphans, run_files
from oncoscale.linkage.record import Content, Prediction, Record, find_run, outputs_of, record_run, show, this_software
from oncoscale.linkage.reference import reference_cohort
from oncoscale.linkage.shards import Member, Shard, TakenIn, take_in_shards
from oncoscale.linkage.store import Store
from oncoscale.linkage.subject import SubjectKey

COHORT = reference_cohort(3, 1)
KEY = SubjectKey(COHORT.subject[0].key)
IMAGES = tuple(Content(f"series/{one.uid}", one.content_sha256, series=one.uid) for one in COHORT.image_series)[:1]
VOLUME = (Prediction("tumour-volume", "tumour volume", 28, 61.5, "mL", 58.0, 66.0, 0.9),)


@pytest.fixture
def stocked(store: Store) -> Store:
    """A store with one subject and nothing that was run on it by this program."""
    with store.writing() as connection:
        take_in(connection, COHORT)
    return store


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    folder = tmp_path / "shards"
    folder.mkdir()
    return folder


def member(store: Store, seed: int = 1, **more) -> Member:
    """A forecast on the subject, with its permit."""
    record = Record("forecast", {"days": 28.0}, IMAGES, seed, "cpu", 1, subject=KEY)
    return Member(record, require(store, KEY).id, VOLUME, campaign="sweep", **more)


def rows_in(store: Store) -> dict[str, int]:
    with store.reading() as connection:
        return {
            name: connection.execute(select(func.count()).select_from(tables.metadata.tables[name])).scalar_one()
            for name in ROWS
        }


def test_members_of_all_workers_are_taken_in_as_if_recorded(stocked: Store, shards: Path, tmp_path: Path):
    """Rows, files, record and prediction are those that ``record_run`` writes of the same run."""
    outputs = shards / "members" / "7"
    (outputs / "maps").mkdir(parents=True)
    (outputs / "forecast.json").write_text("{}")
    (outputs / "maps" / "maps.json").write_text("[]")
    one = member(stocked)
    one = replace(one, record=replace(one.record, outputs=outputs_of(outputs)), folder="members/7")
    with Shard(shards) as worker, Shard(shards) as other:
        worker.append(one)
        other.append(member(stocked, 2), member(stocked, 3, status="failed", failure={"kind": "MeshFault"}))
    before = rows_in(stocked)
    taken = take_in_shards(stocked, shards)
    assert (taken.members, taken.stopped, taken.refused, dict(taken.tails)) == (3, 0, (), {})
    assert taken.rows == sum(rows_in(stocked).values()) - sum(before.values())
    found = find_run(stocked, one.record.run)
    assert (found.record.run, found.attempt, found.record.decision) == (one.record.run, 1, one.decision)
    with stocked.reading() as connection:
        kept = run_files(stocked, connection, one.record.run)
        assert (kept.outputs, kept.missing, kept.changed, kept.record_ok) == (2, 0, 0, True)
        assert not [path for path in orphans(stocked, connection) if path.name in (one.record.run, "members")]
    by_shard = show(stocked, KEY)
    elsewhere = Store.open(tmp_path / "elsewhere", create=True)
    with elsewhere.writing() as connection:
        take_in(connection, COHORT)
    record_run(elsewhere, one.record, outputs, permit=require(elsewhere, KEY), predictions=VOLUME)
    (straight,) = [row for row in show(elsewhere, KEY)["runs"] if row["run"] == one.record.run]
    (sharded,) = [row for row in by_shard["runs"] if row["run"] == one.record.run]
    assert sharded | {"ended": ""} == straight | {"ended": ""}
    failed = member(stocked, 3).record.run
    assert [row["status"] for row in by_shard["runs"] if row["run"] == failed] == ["failed"]
    assert [row for row in by_shard["predictions"] if row["run"] == one.record.run] == [
        row for row in show(elsewhere, KEY)["predictions"] if row["run"] == one.record.run
    ]
    assert verify(stocked) is None


def test_a_program_first_met_in_a_shard_has_its_passport(stocked: Store, shards: Path):
    """This program's is kept with its row, as ``record_run`` keeps it; of another version nothing is known here."""
    other = replace(this_software(), version="0.0.1")
    one = member(stocked)
    with Shard(shards) as worker:
        worker.append(one, replace(one, record=replace(one.record, software=other)), member(stocked, 2))
    before = rows_in(stocked)
    taken = take_in_shards(stocked, shards)
    assert (taken.members, taken.rows) == (3, sum(rows_in(stocked).values()) - sum(before.values()))
    with stocked.reading() as connection:
        columns = tables.software.c
        kept = dict(map(tuple, connection.execute(select(columns.id, columns.passport))))
    assert json.loads(kept[this_software().id]) == json.loads(json.dumps(passport_to_keep()))
    assert kept[other.id] is None


def test_taking_in_again_changes_nothing_and_goes_on_where_it_ended(stocked: Store, shards: Path):
    """Twice is once, in few or many transactions; a repeat by another worker is another attempt."""
    with Shard(shards) as worker:
        worker.append(*(member(stocked, n) for n in range(20)))
        first = take_in_shards(stocked, shards, rows=30)
        assert (first.members, first.transactions > 3) == (20, True)
        held = rows_in(stocked)
        assert take_in_shards(stocked, shards) == TakenIn()
        assert rows_in(stocked) == held
        worker.append(member(stocked, 20))
        assert take_in_shards(stocked, shards).members == 1
    with Shard(shards) as other:
        other.append(member(stocked, 0))
    assert take_in_shards(stocked, shards).members == 1
    assert find_run(stocked, member(stocked, 0).record.run).attempt == 2


def test_a_half_written_line_is_told_left_and_taken_once_it_is_whole(stocked: Store, shards: Path):
    """What a killed or slow worker wrote in part stays in its file as it is; whole lines before it count."""
    with Shard(shards) as worker:
        worker.append(member(stocked, 1))
        whole = worker.path.read_bytes()
        worker.append(member(stocked, 2))
    all_of_it = worker.path.read_bytes()
    for cut in (len(whole) + 1, len(whole) + 200, len(all_of_it) - 1):
        worker.path.write_bytes(all_of_it[:cut])
        taken = take_in_shards(stocked, shards)
        assert dict(taken.tails) == {worker.path.name: cut - len(whole)}
        assert worker.path.read_bytes() == all_of_it[:cut]
    worker.path.write_bytes(all_of_it)
    assert (taken := take_in_shards(stocked, shards)).members == 1
    assert not taken.tails
    heading = shards / "begun.jsonl"
    heading.write_bytes(all_of_it[:10])
    assert dict(take_in_shards(stocked, shards).tails) == {heading.name: 10}


@pytest.mark.parametrize("byte", [15, 60, 400])
def test_a_changed_line_is_refused_and_the_next_is_taken(stocked: Store, shards: Path, byte: int):
    """One bit elsewhere in a line: the line is no record any more, told once; what follows is good."""
    with Shard(shards) as worker:
        start = worker.path.stat().st_size
        worker.append(member(stocked, 1), member(stocked, 2))
    content = bytearray(worker.path.read_bytes())
    content[start + byte] ^= 1
    worker.path.write_bytes(bytes(content))
    taken = take_in_shards(stocked, shards)
    assert (taken.members, [why for _, why in taken.refused]) == (1, ["a damaged line"])
    assert take_in_shards(stocked, shards) == TakenIn()


def test_what_the_store_cannot_take_is_refused_alone(stocked: Store, shards: Path, tmp_path: Path):
    """No permit, a permit for something else, images that are not there, other files than stated: the rest is taken."""
    good, other = member(stocked, 1), require(stocked, KEY, "export")
    secret = tmp_path / "secret.json"
    secret.write_text("{}")
    stolen = Content("../secret.json", content_hash(secret), bytes=2)
    (shards / "out").mkdir()
    (shards / "out" / "forecast.json").write_text("{}")
    changed = Content("forecast.json", "0" * 64, bytes=2)
    nowhere = (Content("series/2.25.1", "0" * 64, series="2.25.1"),)
    bad = (
        replace(member(stocked, 2), decision=None),
        replace(member(stocked, 3), decision=other.id),
        replace(good, record=replace(good.record, inputs=nowhere)),
        replace(good, record=replace(good.record, outputs=(changed,), seed=4), folder="out"),
        replace(good, record=replace(good.record, outputs=(stolen,), seed=5), folder="out"),
        replace(good, record=replace(good.record, seed=6), folder="../.."),
    )
    with Shard(shards) as worker:
        worker.append(*bad, good)
    taken = take_in_shards(stocked, shards)
    assert (taken.members, len(taken.refused)) == (1, 6)
    assert find_run(stocked, good.record.run).attempt == 1
    with stocked.reading() as connection:
        assert not {one.record.run for one in bad} & {path.name for path in (stocked.path / "runs").iterdir()}
        assert not [path for path in orphans(stocked, connection) if path.name.startswith(".")]


def test_what_one_refused_member_left_behind_harms_no_other(stocked: Store, shards: Path, tmp_path: Path):
    """Neither the word that it was the first to use, nor what was predicted before: a repeat predicts nothing anew."""
    new = (replace(VOLUME[0], quantity="tumour-roundness", display="roundness of the tumour"),)
    bad = replace(member(stocked, 1), predictions=new)
    bad = replace(bad, record=replace(bad.record, inputs=(Content("series/2.25.1", "0" * 64, series="2.25.1"),)))
    repeated = member(stocked, 2)
    (tmp_path / "out").mkdir()
    record_run(stocked, repeated.record, tmp_path / "out", permit=require(stocked, KEY), predictions=VOLUME)
    with Shard(shards) as worker:
        worker.append(bad, replace(member(stocked, 3), predictions=new), repeated)
    taken = take_in_shards(stocked, shards)
    assert (taken.members, len(taken.refused)) == (2, 1)
    ours = {member(stocked, seed).record.run for seed in (1, 2, 3)}
    told = [row["quantity"] for row in show(stocked, KEY)["predictions"] if row["run"] in ours]
    assert sorted(told) == ["roundness of the tumour", "tumour volume"]
    assert find_run(stocked, repeated.record.run).attempt == 2


def test_a_withdrawal_on_the_way_stops_what_was_made(stocked: Store, shards: Path):
    """The attempt is on record as stopped; its prediction and its files never are."""
    one = member(stocked)
    with Shard(shards) as worker:
        worker.append(one)
    withdraw(stocked, KEY)
    taken = take_in_shards(stocked, shards)
    assert (taken.members, taken.stopped) == (1, 1)
    held = show(stocked, KEY)
    assert [row["status"] for row in held["runs"] if row["run"] == one.record.run] == ["stopped-consent"]
    assert not [row for row in held["predictions"] if row["run"] == one.record.run]
    assert not stocked.run_folder(one.record.run, 1).exists()


def test_eight_workers_write_at_once(stocked: Store, shards: Path):
    """Each process its own file, no lock, no line mixed with another's; an ingester reads meanwhile."""
    made = [member(stocked, n) for n in range(40)]
    children = []
    for worker in range(8):
        child = os.fork()
        if child == 0:
            with Shard(shards) as shard:
                for one in made[worker::8]:
                    shard.append(one)
            os._exit(0)
        children.append(child)
    taken = TakenIn()
    for child in children:
        assert os.waitpid(child, 0)[1] == 0
        taken += replace(take_in_shards(stocked, shards), tails={})
    assert (taken.members, taken.refused) == (40, ())
    with stocked.reading() as connection:
        assert connection.execute(select(func.count()).where(tables.run.c.campaign == "sweep")).scalar_one() == 40


def test_a_folder_without_shards_is_refused(stocked: Store, shards: Path):
    """Told, rather than nothing taken in; a file of something else is left whole."""
    with pytest.raises(FileRejected, match="no shards"):
        take_in_shards(stocked, shards)
    (shards / "notes.jsonl").write_text(json.dumps({"a": 1}) + "\n")
    assert dict(take_in_shards(stocked, shards).tails) == {"notes.jsonl": 9}


def test_another_ingester_that_was_faster_in_part_doubles_nothing(
    stocked: Store, shards: Path, monkeypatch: pytest.MonkeyPatch
):
    """It took half of what this one had read: this one leaves its part, and the rest is taken in next time."""
    with Shard(shards) as worker:
        worker.append(*(member(stocked, n) for n in range(4)))
        half = worker.path.stat().st_size
        worker.append(*(member(stocked, n) for n in range(4, 8)))
    whole, enter = worker.path.read_bytes(), sharding._enter

    def overtaken(*given) -> TakenIn:
        monkeypatch.setattr(sharding, "_enter", enter)
        worker.path.write_bytes(whole[:half])
        assert take_in_shards(stocked, shards).members == 4
        worker.path.write_bytes(whole)
        return enter(*given)

    monkeypatch.setattr(sharding, "_enter", overtaken)
    assert take_in_shards(stocked, shards).members == 0
    assert take_in_shards(stocked, shards).members == 4
    with stocked.reading() as connection:
        of_sweep = select(tables.attempt.c.n).join(tables.run).where(tables.run.c.campaign == "sweep")
        assert connection.execute(of_sweep).scalars().all() == [1] * 8


def test_files_that_do_not_reach_the_disk_leave_no_run(stocked: Store, shards: Path, monkeypatch: pytest.MonkeyPatch):
    """The transaction waits for them: a disk that fills then takes the rows back, and all is taken in later."""
    with Shard(shards) as worker:
        worker.append(member(stocked, 1), member(stocked, 2))
    before = rows_in(stocked)

    def full(_: Store) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Store, "flush", full)
        with pytest.raises(StorageFault):
            take_in_shards(stocked, shards)
    assert rows_in(stocked) == before
    assert take_in_shards(stocked, shards).members == 2
    assert verify(stocked) is None


def test_many_shards_share_a_transaction(stocked: Store, shards: Path):
    """What some hold is entered together; each is remembered for itself, and has its own entry in the audit."""
    workers = [Shard(shards) for _ in range(3)]
    for n, worker in enumerate(workers):
        worker.append(member(stocked, 2 * n), member(stocked, 2 * n + 1))
    seen = head(stocked)[0]
    taken = take_in_shards(stocked, shards)
    assert (taken.members, taken.transactions, head(stocked)[0] - seen) == (6, 1, 3)
    workers[1].append(member(stocked, 9))
    assert take_in_shards(stocked, shards).members == 1
    for worker in workers:
        worker.close()


def test_keys_that_are_no_text_and_texts_of_any_language_come_back(stocked: Store, shards: Path):
    """What is stated in a failure is kept as JSON has it, whatever its keys; a line is not taken for damaged."""
    one = member(stocked, 1, status="failed", failure={"kind": "Käse – µ", "1": [0.1, 1e300]})
    odd = replace(one, record=replace(one.record, seed=2, parameters={"b": 1, 2: {"a": None}}))
    with Shard(shards) as worker:
        worker.append(one, odd)
    assert take_in_shards(stocked, shards).members == 2
    with stocked.reading() as connection:
        kept = connection.execute(
            select(tables.attempt.c.failure).where(tables.attempt.c.run == one.record.run)
        ).scalar_one()
        runs = set(connection.execute(select(tables.run.c.id)).scalars())
    assert json.loads(kept) == one.failure
    assert odd.record.run in runs
