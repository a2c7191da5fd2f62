"""Looking at results: consent is asked of whichever store can be reached, on record where it can be."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from sqlalchemy import select

from oncoscale.core.errors import ConsentDenied, StoreRejected
from oncoscale.linkage import tables
from oncoscale.linkage.consent import require, withdraw
from oncoscale.linkage.erasing import erase
from oncoscale.linkage.exporting import export
from oncoscale.linkage.holding import take_in
from oncoscale.linkage.record import Record, record_run
from oncoscale.linkage.reference import reference_cohort
from oncoscale.linkage.reviewing import name_store, reviewed
from oncoscale.linkage.store import Store
from oncoscale.linkage.subject import SubjectKey
from oncoscale.linkage.vault import Vault

COHORT = reference_cohort(3, 1)
KEY = SubjectKey(COHORT.subject[0].key)


@pytest.fixture
def made(store: Store, tmp_path: Path) -> SimpleNamespace:
    """A run on a subject: in the store, in the folder in which it was made, and in one taken away from the store."""
    with store.writing() as connection:
        take_in(connection, COHORT)
    out, away = tmp_path / "results" / "run", tmp_path / "a" / "long" / "way" / "run"
    out.mkdir(parents=True)
    (out / "forecast.json").write_text("{}")
    done = record_run(store, Record("forecast", {}, (), 1, "cpu", 1, KEY), out, permit=require(store, KEY))
    name_store(out, store, out)
    shutil.copytree(out, away)
    return SimpleNamespace(run=done.run, kept=done.folder, out=out, away=away)


def asked(store: Store) -> list[str]:
    """Outcomes of the questions whether results may be looked at."""
    columns = tables.decision.c
    with store.reading() as connection:
        return list(connection.execute(select(columns.outcome).where(columns.operation == "review")).scalars())


def test_a_withdrawal_shuts_the_run_wherever_its_store_is_known(store: Store, made: SimpleNamespace):
    """By identity, in the store, beside it, or far away with the store named; far away alone nobody can be asked."""
    ways = ((made.run[:8], store.path), (made.kept, None), (made.out, None), (made.away, store.path))
    assert {reviewed(str(name), place).record.run for name, place in (*ways, (made.away, None))} == {made.run}
    withdraw(store, KEY)
    for name, place in ways:
        with pytest.raises(ConsentDenied, match="withdrawn"):
            reviewed(str(name), place)
    assert asked(store) == ["permit"] * 4 + ["deny"] * 4
    assert reviewed(str(made.away), None).folder == made.away
    assert len(asked(store)) == 8


def test_a_store_that_cannot_be_written_is_asked_all_the_same(store: Store, made: SimpleNamespace):
    """Then it is not on record."""
    (store.path / "oncoscale.sqlite").chmod(0o400)
    assert reviewed(str(made.out), None).record.subject == KEY
    (store.path / "oncoscale.sqlite").chmod(0o600)
    withdraw(store, KEY)
    (store.path / "oncoscale.sqlite").chmod(0o400)
    with pytest.raises(ConsentDenied, match="withdrawn"):
        reviewed(str(made.out), None)
    (store.path / "oncoscale.sqlite").chmod(0o600)
    assert asked(store) == []


def test_an_erased_subject_is_not_looked_at_again(store: Store, made: SimpleNamespace, vault: Vault):
    """The tombstone still knows; once the store itself is gone, nobody can be asked."""
    erase(store, KEY, vault=vault)
    with pytest.raises(ConsentDenied, match="erased"):
        reviewed(str(made.out), None)
    shutil.rmtree(store.path)
    assert reviewed(str(made.out), None).record.run == made.run
    with pytest.raises(StoreRejected, match="no store"):
        reviewed(str(made.out), store.path)


def test_people_of_no_store_and_nobody_at_all_need_no_permit(store: Store, made: SimpleNamespace, tmp_path: Path):
    """A folder of a subject that the store never held, and of a phantom, open also where a store is named."""
    elsewhere = Store.open(tmp_path / "elsewhere", create=True)
    with elsewhere.writing():
        pass
    assert reviewed(str(made.out), elsewhere.path).record.subject == KEY
    nobodys = tmp_path / "nobodys"
    nobodys.mkdir()
    record_run(store, Record("forecast", {}, (), 2, "cpu", 1), nobodys)
    withdraw(store, KEY)
    assert reviewed(str(nobodys), store.path).record.subject is None
    assert asked(elsewhere) == []


def test_the_place_of_the_store_leaves_the_folder_in_no_way(store: Store, made: SimpleNamespace, tmp_path: Path):
    """It is relative, in a file of its own that neither the store nor an export holds; a damaged one names none."""
    assert json.loads((made.out / "store.json").read_text()) == {"store": "../../store"}
    assert not list(store.path.rglob("store.json"))
    export(store, KEY, tmp_path / "crate", standard_name="ro-crate")
    assert not list((tmp_path / "crate").rglob("store.json"))
    withdraw(store, KEY)
    for damaged in ("", "[]", '{"store": 1}', '{"store": "../nowhere"}'):
        (made.out / "store.json").write_text(damaged)
        assert reviewed(str(made.out), None).record.run == made.run
    postgres = replace(store, engine=SimpleNamespace(dialect=SimpleNamespace(name="postgresql")))
    (made.out / "store.json").unlink()
    name_store(made.out, postgres, made.out)
    assert not (made.out / "store.json").exists()
