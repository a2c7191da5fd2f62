"""Erasure leaves no byte of a subject in the store, harms nobody else, and can be interrupted anywhere."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select

from oncoscale.core.errors import ConfigurationRejected, StoreRejected
from oncoscale.linkage import audit, core, erasing, tables
from oncoscale.linkage.access import reidentify
from oncoscale.linkage.consent import require, withdraw
from oncoscale.linkage.erasing import erase, erase_expired, plan, remains
from oncoscale.linkage.exporting import export
from oncoscale.linkage.holding import held, take_in
from oncoscale.linkage.ingest import ingest
from oncoscale.linkage.record import Prediction, Record, inputs_of_study, record_run, this_software
from oncoscale.linkage.reference import reference_cohort
from oncoscale.linkage.retention import change_rules, tombstones
from oncoscale.linkage.store import Store
from oncoscale.linkage.subject import SubjectKey
from oncoscale.linkage.vault import Vault

from .conftest import ACTIVE, write_visit

COHORT = reference_cohort(5, 5)
OTHERS = [one.key for one in COHORT.subject]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SubjectKey, list[str]]:
    """A store and its vault: one of its subjects was ingested, forecast, exported and pooled; words that betray it."""
    folder = tmp_path_factory.mktemp("made")
    store, vault = Store.open(folder / "store", create=True), Vault.open(folder / "vault")
    with store.writing() as connection:
        take_in(connection, COHORT)
    done = ingest(write_visit(folder / "visit"), store, "HOSP-0001", consent=ACTIVE, vault=vault)
    run = forecast_of(store, done.subject, done.study, folder)
    export(store, done.subject, folder / "out.json", standard_name="native", recipient="Hospital of Girona")
    pool(store, done.subject)
    words = [done.subject, done.study, run, "CANARY-IN-A-RESULT", "CANARY-IN-PARAMETERS"]
    with store.reading() as connection:
        for column, owner in ((tables.image_series.c.uid, tables.image_series), (tables.consent.c.id, tables.consent)):
            words += connection.execute(select(column).where(owner.c.subject == done.subject)).scalars()
    return folder, done.subject, words


@pytest.fixture
def lived_in(made: tuple[Path, SubjectKey, list[str]], store: Store, vault_folder: Path):
    """That store and its vault, for one test."""
    folder, subject, words = made
    for source, copy in ((folder / "store", store.path), (folder / "vault", vault_folder)):
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(source, copy)
    return store, subject, words


def forecast_of(store: Store, subject: SubjectKey, study: str, folder: Path) -> str:
    """A recorded run on a visit, with a result that mentions it."""
    (folder / "run").mkdir()
    (folder / "run" / "forecast.json").write_text('{"canary": "CANARY-IN-A-RESULT"}')
    record = Record(
        "forecast", {"note": "CANARY-IN-PARAMETERS"}, inputs_of_study(store, study), 1, "cpu", 1, subject, study
    )
    predicted = [Prediction("tumour-volume", "tumour volume", 14, 12.5, "mL")]
    return record_run(store, record, folder / "run", permit=require(store, subject), predictions=predicted).run


def pool(store: Store, subject: SubjectKey) -> None:
    """A run on two subjects, whose one file holds both."""
    other, software = COHORT.run_subject[0], this_software()
    permit = require(store, subject)
    with store.writing() as connection:
        run = {"id": "c" * 64, "kind": "calibration", "software": software.id, "inputs_sha256": "0" * 64, "seed": "1"}
        parameters = connection.execute(select(tables.parameter_set.c.sha256)).scalars().first()
        connection.execute(insert(tables.run).values(parameters=parameters, **run))
        for key, decision in ((subject, permit.id), (other.subject, other.decision)):
            connection.execute(insert(tables.run_subject).values(run=run["id"], subject=key, decision=decision))
        connection.execute(insert(tables.attempt).values(run=run["id"], n=1, status="done", environment_sha256="0"))
        table = {
            "kind": "table",
            "asserted": "simulated",
            "media_type": "text/csv",
            "bytes": 1,
            "uri": "runs/pooled.csv",
        }
        connection.execute(insert(tables.artefact).values(sha256="d" * 64, **table))
        for key in (subject, other.subject):
            connection.execute(insert(tables.contains).values(artefact="d" * 64, subject=key, share="pooled"))


def test_no_byte_of_the_subject_is_left(lived_in, vault: Vault):
    """Database, its log, files, names of files: nothing but a tombstone; and the audit is whole."""
    store, subject, words = lived_in
    assert len(remains(store, words)) > 3
    done = erase(store, subject, vault=vault)
    assert remains(store, words) == ()
    assert done.in_vault
    assert not vault.holds(subject)
    assert tombstones(store) == 1
    assert audit.verify(store) is None
    assert audit.entries(store, about=subject)[-1]["action"] == "erase"


def test_the_others_stay_as_they_were(lived_in, vault: Vault):
    """Everything held about the others is the same before and after."""
    store, subject, _ = lived_in
    with store.reading() as connection:
        before = held(connection, OTHERS)
    erase(store, subject, vault=vault)
    with store.reading() as connection:
        after = held(connection, OTHERS)
        assert connection.exec_driver_sql("PRAGMA foreign_key_check").all() == []
    lost = {one for one in before.run_subject if one.subject == subject}
    assert core.without(after, ()) == core.without(before, ()), lost


def test_recipients_are_named_and_pooled_files_are_flagged(lived_in, vault: Vault):
    """Who holds copies is told; a file with others in it stays, and says that somebody was erased."""
    store, subject, _ = lived_in
    done = erase(store, subject, vault=vault)
    assert [one.recipient for one in done.recipients] == ["Hospital of Girona"]
    assert done.pooled == ("d" * 64,)
    with store.reading() as connection:
        assert connection.execute(select(tables.flag.c.artefact)).scalars().all() == ["d" * 64]
        assert connection.execute(select(tables.run.c.id).where(tables.run.c.id == "c" * 64)).scalar() == "c" * 64


def test_a_dry_run_lists_all_and_touches_nothing(lived_in, vault: Vault):
    """The list is what the erasure then removes."""
    store, subject, words = lived_in
    before = remains(store, words)
    would = erase(store, subject, vault=vault, dry_run=True)
    assert remains(store, words) == before
    assert vault.holds(subject)
    assert would.rows["image_series"] == 2
    assert [name.split("/")[0] for name in would.files] == ["runs", "studies"]
    assert erase(store, subject, vault=vault) == would


@pytest.mark.parametrize("stop", ["_erase_rows", "_remove", "compact"])
def test_an_interrupted_erasure_goes_on(lived_in, vault: Vault, monkeypatch: pytest.MonkeyPatch, stop: str):
    """Killed before the rows, the files or the log: asked again, it finishes, and tells what the first would have."""
    store, subject, words = lived_in
    planned = plan(store, subject, vault=vault)

    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Store if stop == "compact" else erasing, stop, killed)
        erase(store, subject, vault=vault)
    assert remains(store, words)
    assert erase(store, subject, vault=vault) == planned
    assert remains(store, words) == ()
    assert audit.verify(store) is None
    with pytest.raises(ConfigurationRejected, match="does not hold"):
        erase(store, subject, vault=vault)


def test_a_reader_delays_the_end_and_nothing_is_forgotten(lived_in, vault: Vault, monkeypatch: pytest.MonkeyPatch):
    """While somebody reads an older state, its bytes are in the log: the erasure says so, and is finished later."""
    store, subject, words = lived_in
    monkeypatch.setattr(erasing, "WAIT_FOR_READERS_S", 0.1)
    with store.reading() as connection:
        connection.execute(select(tables.subject)).all()
        with pytest.raises(StoreRejected, match="being read"):
            erase(store, subject, vault=vault)
    assert erase(store, subject, vault=vault).subject == subject
    assert remains(store, words) == ()


def test_expired_means_retention_or_a_withdrawal_that_erases(store: Store, vault: Vault):
    """Nobody is due at first; a withdrawal counts where the policy says so; after the last day everybody goes."""
    with store.writing() as connection:
        take_in(connection, COHORT)
    withdraw(store, SubjectKey(OTHERS[0]))
    assert erase_expired(store, vault=vault) == ()
    change_rules(store, on_withdrawal="erase")
    assert [(one.subject, one.reason) for one in erase_expired(store, vault=vault)] == [(OTHERS[0], "withdrawn")]
    change_rules(store, retention_until="2020-01-01")
    assert {one.subject for one in erase_expired(store, vault=vault, dry_run=True)} == set(OTHERS[1:])
    assert len(erase_expired(store, vault=vault)) == len(OTHERS) - 1
    with store.reading() as connection:
        assert connection.execute(select(tables.subject)).all() == []
    assert remains(store, OTHERS) == ()


def test_every_table_that_can_name_a_subject_is_emptied():
    """A table whose rows lead to a subject by keys is one that the erasure knows."""
    leads = {"subject"}
    while more := {
        table.name
        for table in tables.metadata.sorted_tables
        if {key.column.table.name for key in table.foreign_keys} & leads and table.name not in leads
    }:
        leads |= more
    assert leads <= set(erasing._rows_of(SubjectKey("P-AAAAAAAAAAAAAAAA")))


@pytest.mark.parametrize(
    ("reason", "found"),
    [
        ("asked for by hosp-0001, by telephone", "what a site calls"),
        ("was entered twice, see P-HNU76GYAPKGZMXDN", "a pseudonym"),
        ("visit t-hnu76gyapkgzmxdn was another's", "a pseudonym"),
        ("donor 77-B of the biobank withdrew", "another standard"),
    ],
)
def test_a_reason_that_names_somebody_is_refused_and_not_repeated(lived_in, vault: Vault, reason: str, found: str):
    """Neither the tombstone nor the audit's hash may rest on it; nothing is erased, nobody is named."""
    store, subject, _ = lived_in
    row = {"standard": "miabis", "version": "3", "entity": "donor", "core_table": "subject", "core_id": OTHERS[0]}
    with store.writing() as connection:
        connection.execute(insert(tables.mapping).values(**row, external_id="77-B"))
    for refused in (
        lambda: erase(store, subject, vault=vault, reason=reason),
        lambda: reidentify(store, subject, reason, vault=vault),
    ):
        with pytest.raises(ConfigurationRejected, match=found) as caught:
            refused()
        assert not any(word in str(caught.value) for word in ("0001", "HNU76", "77-B"))
    assert reidentify(store, subject, "an incidental finding", vault=vault)[1] == "HOSP-0001"
    assert tombstones(store) == 0


def test_a_reason_may_say_anything_else(lived_in, vault: Vault):
    """Also what an identifier is a part of, or the beginning of, and a number as short as some identifiers are."""
    store, subject, _ = lived_in
    vault.remember(SubjectKey("P-HNU76GYAPKGZMXDN"), "site1", "17")
    words = "art. 17(1)(b), letter HOSP-00012 of 12 May; P-HNU76 is no pseudonym"
    assert erase(store, subject, vault=vault, reason=words).reason == words
    with store.reading() as connection:
        assert connection.execute(select(tables.tombstone.c.reason)).scalars().all() == [words]
