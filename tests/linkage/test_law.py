"""The fourteen promises of the specification (linkage C.2), each by its number; the parts have tests of their own."""

from __future__ import annotations

import shutil
import socket
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from sqlalchemy import insert, select
from sqlalchemy.exc import DatabaseError

from oncoscale.app.cli import app
from oncoscale.app.cli_guard import GuardedCommand
from oncoscale.core.errors import ConfigurationRejected, ConsentDenied, StoreRejected
from oncoscale.core.files import content_hash
from oncoscale.linkage import audit, core, tables
from oncoscale.linkage.access import access_report
from oncoscale.linkage.consent import decide, record_consent, require, still_permitted, withdraw
from oncoscale.linkage.erasing import erase, erase_expired, remains
from oncoscale.linkage.exporting import export
from oncoscale.linkage.holding import held, take_in
from oncoscale.linkage.importing import import_file
from oncoscale.linkage.ingest import Ingested, ingest
from oncoscale.linkage.record import Prediction, Record, input_file, inputs_of_study, record_run, show
from oncoscale.linkage.reference import reference_cohort
from oncoscale.linkage.retention import change_rules, rules
from oncoscale.linkage.roles import matrix, role_for
from oncoscale.linkage.small_cells import counted
from oncoscale.linkage.standards import standard
from oncoscale.linkage.store import Store
from oncoscale.linkage.subject import SubjectKey
from oncoscale.linkage.vault import WITH_VAULT, Vault

from .conftest import ACTIVE, write_visit

COHORT = reference_cohort(6, 5)
IDENTIFIERS = ("Miller", "HOSP-0001", "miller", "General Hospital", "Dr^Who", "20180712", "20210301", "1.2.3.4.1.1")
"""What the files say about the patient: names, numbers, dates, institution, identity of the series."""


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ingested]:
    """A store with one subject from images that name a patient, and its vault."""
    folder = tmp_path_factory.mktemp("law")
    store = Store.open(folder / "store", create=True)
    visit = write_visit(folder / "visit")
    return folder, ingest(visit, store, "HOSP-0001", consent=ACTIVE, vault=Vault.open(folder / "vault"))


@pytest.fixture
def known(first: tuple[Path, Ingested], store: Store, vault_folder: Path) -> tuple[Store, Ingested]:
    """A copy of it for one test."""
    folder, done = first
    for source, copy in ((folder / "store", store.path), (folder / "vault", vault_folder)):
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(source, copy)
    return store, done


@pytest.fixture
def many(store: Store) -> Store:
    """A store of a cohort without images."""
    with store.writing() as connection:
        take_in(connection, COHORT)
    return store


def forecast(store: Store, done: Ingested, folder: Path, seed: int = 1) -> Record:
    """A forecast on the visit, with its result in a folder."""
    folder.mkdir(exist_ok=True)
    (folder / "forecast.json").write_text('{"volume_ml": 61.5}')
    parameters = {"days": 14, "tumour": "neuroblastoma"}
    inputs = inputs_of_study(store, done.study)
    return Record("forecast", parameters, inputs, seed, "cpu", 1, done.subject, done.study)


def test_promise_01_no_direct_identifier_in_any_byte_written(first, known, tmp_path: Path, vault: Vault):
    """After an ingest, a run, an export and a signature, no file and no file's name holds what names the patient."""
    store, done = known
    out = tmp_path / "out"
    assert remains(replace(store, path=first[0] / "visit"), IDENTIFIERS)
    record_run(store, forecast(store, done, out), out, permit=require(store, done.subject))
    export(store, done.subject, tmp_path / "out" / "me.json", standard_name="native")
    audit.sign(store, vault)
    assert remains(store, IDENTIFIERS) == ()
    assert remains(replace(store, path=out), IDENTIFIERS) == ()
    assert remains(replace(store, path=vault.folder), IDENTIFIERS) == ()


def test_promise_02_no_column_can_hold_an_identity(store: Store):
    """A subject's key is a pseudonym to the letter; no column is named after what identifies; a birth date has none."""
    columns = [f"{table.name}.{column.name}" for table in tables.metadata.sorted_tables for column in table.columns]
    forbidden = ("birth", "address", "phone", "patient", "local_id", "hospital", "email", "surname")
    assert not [column for column in columns if any(word in column for word in forbidden)]
    common = "'s', 1, 'female', 'diagnosis'"
    for key in ("P-Ada Miller 1983", "P-A-DA MILLER 198", "HOSP-0001-0000000", "P-HNU76GYAPKGZMX0N"):
        with sqlite3.connect(store.path / "oncoscale.sqlite") as raw, pytest.raises(sqlite3.IntegrityError):
            raw.execute(f"INSERT INTO subject (key, site, species, sex, day0_kind) VALUES ('{key}', {common})")


def test_promise_03_nothing_without_a_permit_and_a_withdrawal_acts_at_once(known, tmp_path: Path):
    """No run, export or review without a permit; a running member stops at its next boundary, on record."""
    store, done = known
    with pytest.raises(ConsentDenied, match="no permit"):
        record_run(store, forecast(store, done, tmp_path / "a"), tmp_path / "a")
    permit = require(store, done.subject)
    withdraw(store, done.subject)
    for operation in ("run", "export", "review", "share", "ingest"):
        assert decide(store, done.subject, operation).reason == "withdrawn"
    assert not still_permitted(store, permit)
    with pytest.raises(ConsentDenied, match="withdrawn"):
        record_run(store, forecast(store, done, tmp_path / "b"), tmp_path / "b", permit=permit)
    with pytest.raises(ConsentDenied, match="withdrawn"):
        export(store, done.subject, tmp_path / "me.json", standard_name="native")
    with store.reading() as connection:
        assert connection.execute(select(tables.attempt.c.status)).scalars().all() == ["stopped-consent"]


def test_promise_03_the_database_itself_refuses_an_attempt_without_a_permit(known):
    """Not by Python alone: a denied decision carries no attempt."""
    store, done = known
    withdraw(store, done.subject)
    denial = decide(store, done.subject, "run")
    with pytest.raises(DatabaseError, match="without a permit"), store.writing() as connection:
        connection.execute(insert(tables.software).values(id="s", name="s", version="1", code_sha256="0"))
        connection.execute(insert(tables.parameter_set).values(sha256="p", schema="s", body="{}"))
        run = {"id": "r", "kind": "forecast", "software": "s", "parameters": "p", "inputs_sha256": "0", "seed": "1"}
        connection.execute(insert(tables.run).values(**run))
        connection.execute(insert(tables.run_subject).values(run="r", subject=done.subject, decision=denial.id))
        connection.execute(insert(tables.attempt).values(run="r", n=1, status="running", environment_sha256="0"))


def test_promise_04_erasure_leaves_a_tombstone_and_the_audit_alone(known, vault: Vault):
    """No byte of the subject, its visit or its images is left; a running member learns that the subject is gone."""
    store, done = known
    permit = require(store, done.subject)
    words = (
        done.subject,
        done.study,
        *(row["uid"] for row in done.series),
        *(row["content_sha256"] for row in done.series),
    )
    assert remains(store, words)
    erase(store, done.subject, vault=vault)
    assert remains(store, words) == ()
    with store.reading() as connection:
        assert connection.execute(select(tables.tombstone.c.mac)).scalar() == audit.veiled(store, done.subject)
    with pytest.raises(ConsentDenied, match="erased"):
        still_permitted(store, permit)


def test_promise_05_all_that_is_held_is_told_and_can_be_taken_away(known, tmp_path: Path, vault: Vault):
    """Every row that leads to the subject is in the access report and in the export; so are the files."""
    store, done = known
    out = tmp_path / "out"
    predicted = [Prediction("tumour-volume", "tumour volume", 14, 61.5, "mL")]
    record_run(store, forecast(store, done, out), out, permit=require(store, done.subject), predictions=predicted)
    export(store, done.subject, tmp_path / "me.json", standard_name="native", recipient="the person")
    report = access_report(store, done.subject, vault=vault)
    with store.reading() as connection:
        rows = core.for_json(held(connection, [done.subject]))
    assert report["held"] == rows
    assert [len(rows[table]) for table in ("prediction", "image_series", "run", "consent")] == [1, 2, 1, 1]
    assert [one["recipient"] for one in report["recipients"]] == ["the person"]
    below = [path for name in ("studies", "runs") for path in (store.path / name).rglob("*") if path.is_file()]
    assert {one["file"] for one in report["files"]} == {path.relative_to(store.path).as_posix() for path in below}
    taken = standard("native").read(tmp_path / "me.json").holdings
    assert {one.id for one in taken.prediction} == {row["id"] for row in rows["prediction"]}
    assert show(store, done.subject)["predictions"]


def test_promise_06_the_audit_shows_edits_deletions_swaps_and_with_its_signed_head_a_cut(many: Store, vault: Vault):
    """Each is located by the number of the entry."""
    for one in COHORT.subject:
        withdraw(many, SubjectKey(one.key))
    audit.sign(many, vault)
    entries = audit.head(many)[0]
    database = many.path / "oncoscale.sqlite"
    whole = database.read_bytes()
    for script, first_bad in (
        ("UPDATE audit SET action = 'show' WHERE seq = 2", 2),
        ("DELETE FROM audit WHERE seq = 2", 2),
        ("UPDATE audit SET seq = -1 WHERE seq = 2; UPDATE audit SET seq = 2 WHERE seq = 3;"
         "UPDATE audit SET seq = 3 WHERE seq = -1", 2),
        (f"DELETE FROM audit WHERE seq = {entries}", entries),
    ):  # fmt: skip
        with sqlite3.connect(database) as raw:
            raw.executescript(f"DROP TRIGGER audit_is_final; DROP TRIGGER audit_stays; {script}")
            raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        raw.close()
        assert audit.examine(many, audit.heads_of(vault)).first_bad == first_bad
        database.write_bytes(whole)
    assert audit.examine(many, audit.heads_of(vault)) == audit.Examined(entries, signed=entries)


def test_promise_07_one_matrix_over_every_command_and_the_vault_for_two():
    """Every command of the application has its line and is guarded; those that open the vault are for two roles."""

    def leaves(group, above=""):
        for name, command in group.commands.items():
            below = getattr(command, "commands", None)
            yield from leaves(command, f"{above}{name} ") if below else [(f"{above}{name}", command)]

    commands = dict(leaves(typer.main.get_command(app)))
    assert commands.keys() <= matrix().keys()
    assert all(isinstance(command, GuardedCommand) for command in commands.values())
    assert {role for name in ("ingest", "erase", "reidentify", "audit sign") for role in matrix()[name]} <= set(
        WITH_VAULT
    )


def test_promise_08_only_what_is_listed_comes_in_and_small_groups_do_not_go_out(
    store: Store, vault: Vault, tmp_path: Path
):
    """An import takes the listed tables and counts what it leaves; a group below k, or its difference, is not shown."""
    standard("native").render(COHORT, tmp_path / "in.json")
    done = import_file(store, tmp_path / "in.json", standard_name="native", vault=vault)
    assert {gap.path: gap.n for gap in done.gaps}["prediction.*"] == len(COHORT.prediction)
    with store.reading() as connection:
        assert connection.execute(select(tables.prediction)).all() == []
    with pytest.raises(ConsentDenied, match="smallest cell"):
        change_rules(store, small_cell_k=9)
        export(store, "all", tmp_path / "all.json", standard_name="native")
    shown = counted([["f"]] * 3 + [["m"]] * 20, rules(store).small_cell_k)
    assert shown["f",] is None
    assert shown["m",] is None


def test_promise_09_what_must_go_by_a_day_goes(many: Store, vault: Vault):
    """After the last day nothing is permitted, and ``erase --expired`` takes everybody."""
    permit = require(many, SubjectKey(COHORT.subject[0].key))
    change_rules(many, retention_until="2020-01-01")
    assert not still_permitted(many, permit)
    assert decide(many, permit.subject, "export").reason == "retention"
    assert len(erase_expired(many, vault=vault)) == len(COHORT.subject)


def test_promise_10_every_decision_names_its_purpose_and_rests_on_a_legal_basis(known):
    """A decision without a purpose cannot be written; a consent without a legal basis permits nothing."""
    store, done = known
    require(store, done.subject, "run", "HRESCH")
    with store.reading() as connection:
        rows = connection.execute(
            select(tables.code.c.code, tables.consent.c.legal_basis)
            .join_from(tables.decision, tables.code, tables.decision.c.purpose == tables.code.c.id)
            .join(tables.consent, tables.decision.c.consent == tables.consent.c.id)
        ).all()
    assert {tuple(row) for row in rows} == {("HRESCH", "consent")}
    record_consent(store, done.subject, replace(ACTIVE, legal_basis="", document_sha256="b" * 64))
    assert decide(store, done.subject, "run").reason == "legal basis"
    with pytest.raises(ConfigurationRejected, match="no rule"):
        change_rules(store, legal_basis=" ")


def test_promise_11_a_key_that_others_could_read_is_refused(store: Store, tmp_path: Path, vault: Vault):
    """Mode other than 0600, in the store, under version control: the key of names, and that of the audit."""
    assert vault.public_key
    for name in ("audit.key", "project.key"):
        (vault.folder / name).chmod(0o644)
        with pytest.raises(ConfigurationRejected, match="mode 0644"):
            _ = Vault.open().public_key
        (vault.folder / name).chmod(0o600)
    (tmp_path / "project" / ".git").mkdir(parents=True)
    for place, where in ((store.path / "vault", "in the store"), (tmp_path / "project" / "v", "version control")):
        with pytest.raises(ConfigurationRejected, match=where):
            Vault.open(place, store=store.path)


def test_promise_12_a_changed_byte_shows(known):
    """``check`` recomputes every hash: whole before, not after one byte of an image was turned."""
    quality = pytest.importorskip("oncoscale.linkage.quality_check")
    store, _ = known
    assert quality.check(store).sound
    image = sorted((store.path / "studies").rglob("*.dcm"))[0]
    data = bytearray(image.read_bytes())
    data[-1] ^= 1
    image.write_bytes(data)
    assert not quality.check(store).sound


def test_promise_13_the_same_work_has_the_same_name(known, tmp_path: Path):
    """Inputs, seed and version make a run's identity; who repeats it gets another attempt of the same run."""
    store, done = known
    permit = require(store, done.subject)
    one, other = (record_run(store, forecast(store, done, tmp_path / n), tmp_path / n, permit=permit) for n in "ab")
    assert (one.run, one.attempt, other.attempt, other.differs) == (other.run, 1, 2, ())
    assert forecast(store, done, tmp_path / "c", seed=2).run != one.run
    (tmp_path / "mask").write_text("another input")
    third = forecast(store, done, tmp_path / "d")
    assert replace(third, inputs=(*third.inputs, input_file("mask", tmp_path / "mask"))).run != one.run


def test_promise_14_no_network_and_readers_cannot_write(known, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, vault):
    """The way from images to an export opens no connection; a store open for reading takes no word and no file."""
    store, _ = known

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a connection to the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    done = ingest(write_visit(tmp_path / "v", study="2", date="20210401"), store, "HOSP-0001", vault=vault)
    export(store, done.subject, tmp_path / "me.json", standard_name="native")
    before = content_hash(store.path / "oncoscale.sqlite")
    reader = Store.open(store.path, read_only=True)
    for statement in (
        "DELETE FROM consent",
        f"ATTACH '{tmp_path / 'copy.sqlite'}' AS copy",
        f"VACUUM INTO '{tmp_path / 'copy.sqlite'}'",
    ):
        with pytest.raises((StoreRejected, DatabaseError)), reader.reading() as connection:
            connection.exec_driver_sql(statement)
    assert not (tmp_path / "copy.sqlite").exists()
    assert content_hash(store.path / "oncoscale.sqlite") == before


def test_a_closed_store_refuses_before_anything_is_read(store: Store):
    """A role that may not is refused by the one function that every command asks."""
    with pytest.raises(ConsentDenied, match="not for viewer"):
        role_for("export", store.path, "viewer")
