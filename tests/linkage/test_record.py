"""The record: identity of a run, what it rests on, repeats, and what a subject's page says."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from sqlalchemy import func, insert, select
from sqlalchemy.exc import IntegrityError

from oncoscale.core.errors import ConsentDenied, StorageFault, StoreRejected
from oncoscale.core.files import write_json
from oncoscale.linkage import audit, tables
from oncoscale.linkage import record as recording
from oncoscale.linkage.consent import require, withdraw
from oncoscale.linkage.holding import held
from oncoscale.linkage.ingest import Ingested, ingest
from oncoscale.linkage.passport import passport_of
from oncoscale.linkage.record import (
    Prediction,
    Record,
    Software,
    attempts_by_status,
    find_run,
    input_file,
    inputs_of_study,
    outputs_of,
    record_run,
    record_stop,
    show,
    subjects,
    this_software,
)
from oncoscale.linkage.store import Store

from .conftest import ACTIVE, MakeVisit, bytes_below

PREDICTED = (Prediction("tumour-volume", "tumour volume", 28, 61.5, "mL", 58.0, 66.0, 0.9),)


@pytest.fixture
def taken(store: Store, make_visit: MakeVisit) -> Ingested:
    """A visit in the store, with consent."""
    return ingest(make_visit(), store, "HOSP-0001", consent=ACTIVE)


MakeRun = Callable[..., tuple[Record, Path]]


@pytest.fixture
def make_run(store: Store, taken: Ingested, tmp_path: Path) -> MakeRun:
    """A finished forecast: its record and its output folder."""

    def make(name: str = "out", volume: float = 61.5, seed: int = 1) -> tuple[Record, Path]:
        folder = tmp_path / name
        write_json(folder / "forecast.json", {"volume_ml": volume})
        write_json(folder / "maps" / "maps.json", {"ktrans": "1/min"})
        (folder / "report.html").write_text(f"<p>{name}</p>")
        return Record(
            "forecast",
            {"days": 28.0, "tumour": "neuroblastoma"},
            inputs_of_study(store, taken.study),
            seed,
            "cpu",
            1,
            subject=taken.subject,
            study=taken.study,
            recipe={"seeds": [seed]},
        ), folder

    return make


def test_identity_is_what_determines_the_result(make_run: MakeRun):
    """Threads, engine, environment and outputs leave a run's identity alone; seed, inputs, parameters, code do not."""
    one, _ = make_run()
    assert replace(one, threads=8, engine="python", environment={}, outputs=(), study=None).run == one.run
    for changed in (
        replace(one, seed=2),
        replace(one, inputs=one.inputs[1:]),
        replace(one, parameters={"days": 29.0}),
        replace(one, software=replace(one.software, code_sha256="0" * 64)),
        replace(one, kind="analysis"),
    ):
        assert changed.run != one.run
    assert replace(one, inputs=one.inputs[::-1]).run == one.run


def test_inputs_are_the_hashes_of_what_is_stored(store: Store, taken: Ingested):
    """The hash of a series follows from the bytes of its files in the store."""
    folder = store.study_folder(taken.study) / "images"
    hashes = {}
    for row in taken.series:
        files = sorted((store.study_folder(taken.study) / row["uri"]).glob("*"))
        hashes[f"series/{row['uid']}"] = sha256(
            "".join(sorted(sha256(path.read_bytes()).hexdigest() for path in files)).encode()
        ).hexdigest()
    assert folder.is_dir()
    assert {one.port: one.sha256 for one in inputs_of_study(store, taken.study)} == hashes


def test_a_run_is_found_again_with_everything_it_rests_on(store: Store, make_run: MakeRun, taken: Ingested):
    """By id, by the beginning of it, by its folder: the same record, and the results beside it in the store."""
    record, folder = make_run()
    done = record_run(store, record, folder, permit=require(store, taken.subject), predictions=PREDICTED)
    assert (done.run, done.attempt, done.differs) == (record.run, 1, ())
    found = [find_run(store, name) for name in (done.run, done.run[:8], str(folder))]
    assert {one.record.run for one in found} == {record.run}
    assert found[0].record == found[2].record
    assert found[0].folder == done.folder
    assert (done.folder / "forecast.json").read_bytes() == (folder / "forecast.json").read_bytes()
    assert {one.port for one in found[0].record.outputs} == {"forecast.json", "maps/maps.json", "report.html"}
    assert {one.port: one.asserted for one in found[0].record.outputs} == {
        "forecast.json": "simulated",
        "maps/maps.json": "observed",
        "report.html": "simulated",
    }
    with store.reading() as connection:
        used = connection.execute(select(func.count()).where(tables.link.c.role == "used")).scalar_one()
    assert used == len(record.inputs) == 2


def test_the_passport_of_this_program_is_kept_with_its_runs(store: Store, make_run: MakeRun, taken: Ingested):
    """What this version says of itself is in the store, for when there is another; of other code nothing is said."""
    record, folder = make_run()
    record_run(store, record, folder, permit=require(store, taken.subject))
    other = replace(record, software=Software("other", "1", "0" * 64))
    record_stop(store, other, require(store, taken.subject), "failed")
    with store.reading() as connection:
        kept = {one.id: one for one in held(connection, [taken.subject]).software}
    mine, theirs = kept[this_software().id], kept[other.software.id]
    assert passport_of(mine) == passport_of(replace(mine, passport=None))
    assert theirs.passport is None


def test_a_repeat_is_another_attempt_and_its_differences_are_named(store: Store, make_run: MakeRun, taken: Ingested):
    """Equal results say nothing, unlike ones are reported by name; reports for people are not compared."""
    permit = require(store, taken.subject)
    attempts = [
        record_run(store, *make_run(name, volume), permit=permit, predictions=PREDICTED)
        for name, volume in (("a", 61.5), ("b", 61.5), ("c", 60.0))
    ]
    assert [one.attempt for one in attempts] == [1, 2, 3]
    assert len({one.run for one in attempts}) == 1
    assert [one.differs for one in attempts] == [(), (), ("forecast.json",)]
    assert find_run(store, attempts[0].run).attempt == 3
    assert len(show(store, taken.subject)["predictions"]) == 1


def test_no_run_without_permission(store: Store, make_run: MakeRun, taken: Ingested):
    """Neither without a permit, nor after the consent was withdrawn: then the attempt is on record as stopped."""
    record, folder = make_run()
    with pytest.raises(ConsentDenied, match="no permit"):
        record_run(store, record, folder)
    permit = require(store, taken.subject)
    withdraw(store, taken.subject)
    with pytest.raises(ConsentDenied):
        record_run(store, record, folder, permit=permit, predictions=PREDICTED)
    about = show(store, taken.subject)
    assert [one["status"] for one in about["runs"]] == ["stopped-consent"]
    assert about["predictions"] == []
    assert not list((store.path / "runs").iterdir())
    with pytest.raises(StoreRejected, match="0 finished runs"):
        find_run(store, record.run)


def test_a_decision_for_something_else_is_no_permit(store: Store, make_run: MakeRun, taken: Ingested):
    """A permit to ingest or to export does not start a run, whatever the program does."""
    record, folder = make_run()
    other = require(store, taken.subject, "export")
    with pytest.raises(ConsentDenied, match="no permit"):
        record_run(store, record, folder, permit=other)
    with pytest.raises(IntegrityError, match="without a permit"):
        record_stop(store, record, other, "failed")


def test_a_disk_that_fills_leaves_no_run(
    store: Store, make_run: MakeRun, taken: Ingested, monkeypatch: pytest.MonkeyPatch
):
    """Neither rows nor folders of a run that could not be copied into the store."""
    record, folder = make_run()
    permit = require(store, taken.subject)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(recording.shutil, "copytree", full)
    with pytest.raises(StorageFault):
        record_run(store, record, folder, permit=permit)
    assert show(store, taken.subject)["runs"] == []
    assert not list((store.path / "runs").iterdir())
    assert not list(store.path.glob(".staging*"))


def test_a_failure_is_on_record(store: Store, make_run: MakeRun, taken: Ingested):
    """An attempt that failed keeps its number and its reason; the next one goes on from it."""
    record, folder = make_run()
    permit = require(store, taken.subject)
    assert record_stop(store, record, permit, "failed", failure={"kind": "MeshFault"}) == 1
    assert record_run(store, record, folder, permit=permit).attempt == 2
    assert [one["status"] for one in show(store, taken.subject)["runs"]] == ["failed", "done"]
    with store.reading() as connection:
        assert attempts_by_status(connection) == {"failed": 1, "done": 1}


def test_every_status_of_an_attempt_is_counted(store: Store):
    """Those counted one by one are all that the database knows, but done; an empty store has none."""
    (allowed,) = (
        str(one.sqltext) for one in tables.attempt.constraints if "status IN" in str(getattr(one, "sqltext", ""))
    )
    assert {*recording.NOT_DONE, "done"} == set(re.findall(r"'([a-z-]+)'", allowed))
    with store.reading() as connection:
        assert attempts_by_status(connection) == {}


def test_show_says_all_and_names_nobody(store: Store, make_run: MakeRun, taken: Ingested):
    """Visits, consents, runs, predictions with their intervals; no identifier of the hospital."""
    record_run(store, *make_run(), permit=require(store, taken.subject), predictions=PREDICTED)
    about = show(store, taken.subject)
    assert (about["species"], about["sex"], about["age_day0_d"]) == ("Homo sapiens", "female", 730)
    assert [(visit["study"], visit["day"], len(visit["series"])) for visit in about["visits"]] == [(taken.study, 0, 2)]
    assert about["consents"][0]["purposes"] == ["HRESCH"]
    assert {name: about["predictions"][0][name] for name in ("quantity", "horizon_day", "value", "low", "unit")} == {
        "quantity": "tumour volume",
        "horizon_day": 28,
        "value": 61.5,
        "low": 58.0,
        "unit": "mL",
    }
    assert subjects(store) == ({"subject": taken.subject, "visits": [taken.study], "consent": "active"},)
    assert "HOSP" not in repr(about)
    assert not [path for path, data in bytes_below(store.path) if b"HOSP-0001" in data]
    assert audit.verify(store) is None


def test_a_study_that_runs_rest_on_is_not_replaced(
    store: Store, make_visit: MakeVisit, make_run: MakeRun, taken: Ingested, tmp_path: Path
):
    """What a recorded run used stays as it was."""
    record_run(store, *make_run(), permit=require(store, taken.subject))
    (tmp_path / "visit" / "miller-seg.dcm").unlink()
    with pytest.raises(StoreRejected, match="recorded runs rest on it"):
        ingest(tmp_path / "visit", store, "HOSP-0001")


def test_lost_files_come_back(store: Store, make_run: MakeRun, taken: Ingested, tmp_path: Path):
    """If the store lost a visit's files, the same ingest restores them, even where runs rest on them."""
    record_run(store, *make_run(), permit=require(store, taken.subject))
    before = dict(bytes_below(store.study_folder(taken.study)))
    (store.study_folder(taken.study) / "study.json").unlink()
    assert ingest(tmp_path / "visit", store, "HOSP-0001").study == taken.study
    assert dict(bytes_below(store.study_folder(taken.study))) == before


def test_images_of_a_subject_without_a_permit_cannot_be_used(
    store: Store, make_visit: MakeVisit, make_run: MakeRun, taken: Ingested
):
    """Even below Python, a run may not link to the series of a subject that gave it no permit."""
    record, folder = make_run()
    done = record_run(store, record, folder, permit=require(store, taken.subject))
    other = ingest(make_visit("other", study="5", patient="HOSP-0002"), store, "HOSP-0002")
    with pytest.raises(IntegrityError, match="without a permit"), store.writing() as connection:
        connection.execute(
            insert(tables.link).values(run=done.run, attempt=1, role="used", port="p", series=other.series[0]["uid"])
        )


def test_files_given_by_the_user_are_inputs(tmp_path: Path, make_run: MakeRun, store: Store, taken: Ingested):
    """A mask is known by its content; another mask is another run."""
    record, folder = make_run()
    (tmp_path / "mask.nii.gz").write_bytes(b"one")
    first = replace(record, inputs=(*record.inputs, input_file("mask", tmp_path / "mask.nii.gz")))
    (tmp_path / "mask.nii.gz").write_bytes(b"two")
    second = replace(record, inputs=(*record.inputs, input_file("mask", tmp_path / "mask.nii.gz")))
    assert len({record.run, first.run, second.run}) == 3
    assert record_run(store, first, folder, permit=require(store, taken.subject)).attempt == 1


def test_a_damaged_record_is_refused(make_run: MakeRun, store: Store, taken: Ingested):
    """A record that is not one is refused with its remedy."""
    record, folder = make_run()
    record_run(store, record, folder, permit=require(store, taken.subject))
    (folder / "record.json").write_text("{}")
    with pytest.raises(StoreRejected, match="missing or damaged"):
        find_run(None, str(folder))
    with pytest.raises(StoreRejected, match="no folder"):
        find_run(None, "abcdef")


def test_the_code_is_part_of_the_software():
    """Name, version and a hash over every source file, the same whenever it is asked for."""
    assert (this_software().name, len(this_software().code_sha256)) == ("oncoscale", 64)
    assert this_software.__wrapped__() == this_software.__wrapped__()


def test_outputs_are_listed_once_each(tmp_path: Path):
    """The record of a run is not its own output."""
    write_json(tmp_path / "record.json", {})
    write_json(tmp_path / "cells" / "a.json", {"b": 1})
    assert [one.port for one in outputs_of(tmp_path)] == ["cells/a.json"]
