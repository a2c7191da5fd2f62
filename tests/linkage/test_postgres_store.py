"""The store on PostgreSQL: the same rows, the same rules, and a border between users that SQLite does not have."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import delete, insert, select, update
from sqlalchemy.exc import IntegrityError
from typer.testing import CliRunner

from oncoscale.app.cli import app
from oncoscale.core.errors import ConfigurationRejected, ConsentDenied, StoreRejected
from oncoscale.linkage import audit, core, querying, tables
from oncoscale.linkage.consent import consent_on_record, decide, require, withdraw
from oncoscale.linkage.erasing import erase, remains
from oncoscale.linkage.exporting import export
from oncoscale.linkage.holding import held, take_in
from oncoscale.linkage.ingest import ingest
from oncoscale.linkage.migrations import migrate
from oncoscale.linkage.quality_check import check
from oncoscale.linkage.quality_files import sound
from oncoscale.linkage.querying import ask_sparql, ask_sql
from oncoscale.linkage.record import Content, Prediction, Record, inputs_of_study, record_run, show
from oncoscale.linkage.reference import reference_cohort
from oncoscale.linkage.roles import grant, revoke, role_for
from oncoscale.linkage.shards import Member, Shard, take_in_shards
from oncoscale.linkage.store import SCHEMA_VERSION, Store, code_id
from oncoscale.linkage.subject import SubjectKey
from oncoscale.linkage.vault import Vault
from oncoscale.linkage.visible_rows import fetched

from .conftest import ACTIVE, MakeVisit
from .postgres_store import Server, server

__all__ = ["server"]

COHORT = reference_cohort(7, 6)
KEYS = [one.key for one in COHORT.subject]
OF_TWO_SITES = replace(
    COHORT, subject=tuple(replace(one, site="site2") if one.key in KEYS[4:] else one for one in COHORT.subject)
)


@pytest.fixture(scope="module")
def made(server: Server, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Store]:
    """Two stores made by the owner of their database: a new one, and one with six subjects, two of another site."""
    stores = {}
    for name in ("new", "two_sites"):
        place = server.address(server.database(), tmp_path_factory.mktemp(name), "keeper")
        stores[name] = Store.open(place, create=True)
    with stores["two_sites"].writing() as connection:
        take_in(connection, OF_TWO_SITES)
    return stores


def copy_of(server: Server, store: Store, folder: Path) -> Store:
    """The same store in a database and a folder of its own."""
    shutil.copytree(store.path, folder)
    return Store.open(server.address(server.database(like=store.engine.url.database), folder, "keeper"))


@pytest.fixture
def opened(server: Server, made: dict[str, Store], tmp_path: Path) -> Store:
    """A new store."""
    return copy_of(server, made["new"], tmp_path / "store")


@pytest.fixture
def two_sites(server: Server, made: dict[str, Store], tmp_path: Path) -> Store:
    """Six subjects, two of them of another site."""
    return copy_of(server, made["two_sites"], tmp_path / "store")


def as_user(server: Server, store: Store, name: str, *granted: tuple[str, str]) -> Store:
    """The store as another user of the database sees it, with roles at sites."""
    if not server.run(f"SELECT 1 FROM pg_roles WHERE rolname = '{name}'"):
        server.run(f"CREATE ROLE {name} LOGIN")
    for role, site in granted:
        grant(store, name, role, site)
    return Store.open(server.address(store.engine.url.database, store.path, name))


def test_the_same_rows_come_back(opened: Store):
    """A cohort enters and comes back as from SQLite, and a second time enters nothing."""
    with opened.writing() as connection:
        take_in(connection, COHORT)
        assert take_in(connection, COHORT) == {}
    with opened.reading() as connection:
        assert core.without(held(connection, KEYS), ()) == core.without(COHORT, ())


def test_the_whole_way_from_images_to_an_erasure(
    opened: Store, vault: Vault, make_visit: MakeVisit, tmp_path: Path, server: Server
):
    """Ingest, forecast, export, withdrawal, erasure: nothing is left in the folder, nor in the database's pages."""
    done = ingest(make_visit(), opened, "HOSP-0001", consent=ACTIVE, vault=vault)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "forecast.json").write_text("{}")
    inputs = inputs_of_study(opened, done.study)
    record = Record("forecast", {"days": 14}, inputs, 1, "cpu", 1, done.subject, done.study)
    predicted = [Prediction("tumour-volume", "tumour volume", 14, 61.5, "mL", 58.0, 66.0, 0.9)]
    made = record_run(opened, record, tmp_path / "out", permit=require(opened, done.subject), predictions=predicted)
    assert show(opened, done.subject)["predictions"][0]["value"] == 61.5
    export(opened, done.subject, tmp_path / "me.json", standard_name="native", recipient="a hospital")
    withdraw(opened, done.subject)
    assert decide(opened, done.subject, "run").reason == "withdrawn"
    assert [one.recipient for one in erase(opened, done.subject, vault=vault).recipients] == ["a hospital"]
    server.run("CHECKPOINT", opened.engine.url.database)
    words = [done.subject, done.study, made.run]
    assert remains(opened, words) == ()
    assert remains(replace(opened, path=server.pages(opened.engine.url.database)), words) == ()
    assert audit.verify(opened) is None


def test_shards_are_taken_in_by_the_owner_and_by_a_curator(
    opened: Store, vault: Vault, make_visit: MakeVisit, tmp_path: Path, server: Server
):
    """Twice is once, a row is counted once, and who may not enter runs is refused with nothing entered."""
    done = ingest(make_visit(), opened, "HOSP-0001", consent=ACTIVE, vault=vault)
    permit = require(opened, done.subject)
    inputs = inputs_of_study(opened, done.study)
    made = [Record("forecast", {"days": 14}, inputs, n, "cpu", 1, done.subject, done.study) for n in range(4)]
    volume = (Prediction("tumour-volume", "tumour volume", 14, 61.5, "mL", 58.0, 66.0, 0.9),)
    nowhere = replace(made[0], inputs=(Content("series/2.25.1", "0" * 64, series="2.25.1"),))
    with Shard(tmp_path) as worker:
        worker.append(*(Member(one, permit.id, volume) for one in (*made[:2], nowhere)))
        first = take_in_shards(opened, tmp_path)
        links = 2 * len(inputs)  # and two runs with an attempt, a subject, a prediction; their program and parameters
        assert (first.members, len(first.refused), first.rows) == (2, 1, links + 2 * 4 + 2)
        assert take_in_shards(opened, tmp_path).rows == 0
        worker.append(Member(made[2], permit.id, volume))
        assert take_in_shards(as_user(server, opened, "cara", ("curator", "")), tmp_path).members == 1
        worker.append(Member(made[3], permit.id, volume))
        with pytest.raises(StoreRejected, match="does not let"):
            take_in_shards(as_user(server, opened, "vic", ("viewer", "")), tmp_path)
    assert len(show(opened, done.subject)["runs"]) == 3
    assert audit.verify(opened) is None


def test_the_rules_of_the_database_are_the_same(opened: Store):
    """No name as a key, no second history, no prediction of an analysis, no JSON that is none; the chain only grows."""
    with opened.writing() as connection:
        take_in(connection, COHORT)
    analysis = next(one.id for one in COHORT.run if one.kind == "analysis")
    person = {"site": "s", "species": 1, "sex": "female", "day0_kind": "diagnosis"}
    predicted = {
        "id": "p",
        "run": analysis,
        "subject": KEYS[0],
        "horizon_day": 1,
        "value": 1.0,
        "status": "preliminary",
    }
    for statement, words in (
        (insert(tables.subject).values(key="P-A NAME OF 18 CHR", **person), "violates check"),
        (update(tables.consent).values(status="active"), "consents are final"),
        (update(tables.decision).values(outcome="permit"), "decisions are final"),
        (insert(tables.prediction).values(**predicted, quantity=1, unit=1), "needs a forecast"),
        (insert(tables.parameter_set).values(sha256="x", schema="s", body="{no"), "violates check"),
        (delete(tables.subject), "foreign key"),
    ):  # fmt: skip
        with pytest.raises(IntegrityError, match=words), opened.writing() as connection:
            connection.execute(statement)


def test_the_audit_is_a_chain_whoever_writes(opened: Store, vault: Vault):
    """An entry that does not follow is refused by the database itself; an edit behind its back is located."""
    with opened.writing() as connection:
        take_in(connection, COHORT)
    for key in KEYS:
        withdraw(opened, SubjectKey(key))
    entry = {"at": "", "who": "", "role": "", "action": "", "object": "", "detail_sha256": "", "hash": "x"}
    for seq, previous in ((99, audit.head(opened)[1]), (7, audit.GENESIS)):
        with pytest.raises(IntegrityError, match="must follow the last"), opened.writing() as connection:
            connection.execute(insert(tables.audit).values(seq=seq, prev=previous, **entry))
    assert audit.examine(opened).entries == 6
    assert audit.entries(opened)[0]["who"] == "database user keeper"
    audit.sign(opened, vault)
    with opened.engine.connect() as connection:
        connection.exec_driver_sql("ALTER TABLE audit DISABLE TRIGGER USER")
        connection.exec_driver_sql("DELETE FROM audit WHERE seq = 6")
        assert audit.examine(opened, audit.heads_of(vault)) == audit.Examined(5, 6, "cut")
        connection.exec_driver_sql("UPDATE audit SET role = 'viewer' WHERE seq = 3")
        assert audit.examine(opened) == audit.Examined(5, 3, "edited")


def test_a_user_sees_the_subjects_of_their_site_and_no_setting_changes_that(server: Server, two_sites: Store):
    """Row by row, in every table, bound to who is logged in; SET opens nothing; an admin sees no subject at all."""
    ada = as_user(server, two_sites, "ada", ("analyst", "site2"))
    with ada.reading() as connection:
        seen = held(connection, KEYS)
        assert {one.key for one in seen.subject} == set(KEYS[4:])
        for setting in ("SET app.site = 'site1'", "SET app.role = 'admin'", "SET SESSION app.who = 'keeper'"):
            connection.exec_driver_sql(setting)
            assert set(connection.execute(select(tables.subject.c.key)).scalars()) == set(KEYS[4:])
    with pytest.raises(StoreRejected, match="does not let"), ada.reading() as connection:
        connection.exec_driver_sql("SET row_security = off")
        connection.execute(select(tables.subject.c.key)).all()
    with ada.reading() as connection:
        for table in (tables.prediction, tables.image_series, tables.consent, tables.decision, tables.event):
            owners = set(connection.execute(select(table.c.subject)).scalars())
            assert owners <= set(KEYS[4:]), table.name
        runs = set(connection.execute(select(tables.run.c.id)).scalars())
        assert runs == {one.run for one in COHORT.run_subject if one.subject in KEYS[4:]}
    with pytest.raises(StoreRejected, match="does not let"), ada.writing() as connection:
        connection.exec_driver_sql("SET ROLE keeper")
    bob = as_user(server, two_sites, "bob", ("admin", ""))
    with pytest.raises(StoreRejected, match="does not let"), bob.reading() as connection:
        connection.execute(select(tables.subject.c.key)).all()


def test_what_a_role_may_not_the_database_refuses(server: Server, two_sites: Store):
    """A viewer writes nothing but that they looked; an analyst enters no subject; nobody edits the audit."""
    vera = as_user(server, two_sites, "vera", ("viewer", ""))
    with vera.reading() as connection:
        assert len(connection.execute(select(tables.subject)).all()) == 6
    with pytest.raises(StoreRejected, match="does not let"):
        withdraw(vera, SubjectKey(KEYS[0]))
    assert consent_on_record(two_sites, SubjectKey(KEYS[0])).status == "active"
    ann = as_user(server, two_sites, "ann", ("analyst", ""))
    assert decide(ann, SubjectKey(KEYS[0]), "run").permits
    for statement in (
        insert(tables.subject).values(key="P-AAAAAAAAAAAAAAAA", site="x", species=1, sex="male", day0_kind="diagnosis"),
        delete(tables.audit),
        update(tables.audit).values(who="nobody"),
        insert(tables.granted).values(who="ann", role="admin", at=""),
    ):
        with pytest.raises((StoreRejected, IntegrityError)), ann.writing() as connection:
            connection.execute(statement)
    assert (
        role_for("forecast", ann.engine.url.update_query_dict({"files": str(ann.path)}).render_as_string()) == "analyst"
    )
    revoke(two_sites, "ann", "analyst")
    with pytest.raises(StoreRejected, match="does not let"):
        decide(ann, SubjectKey(KEYS[0]), "run")


def test_a_curator_of_a_site_enters_subjects_of_that_site_alone(server: Server, two_sites: Store):
    """Row-level security holds for what is written as well."""
    carl = as_user(server, two_sites, "carl", ("curator", "site2"))
    person = {"sex": "male", "day0_kind": "diagnosis"}
    with carl.writing() as connection:
        species = code_id(connection, "s", "c", "d")
        connection.execute(insert(tables.subject).values(key="P-" + "A" * 16, site="site2", species=species, **person))
    with pytest.raises(StoreRejected, match="does not let"), carl.writing() as connection:
        connection.execute(insert(tables.subject).values(key="P-" + "B" * 16, site="site1", species=species, **person))


def test_addresses_are_checked(server: Server, tmp_path: Path):
    """No folder, a password in the address, a server that is not there, an empty database: each is named."""
    for address, words in (
        ("postgresql://keeper@/x", "no folder"),
        (f"postgresql://keeper:secret@/x?files={tmp_path}", "password"),
        (f"postgresql://keeper@/x?host=/nowhere&files={tmp_path}", "cannot be reached"),
        (server.address(server.database(), tmp_path, "keeper"), "no store"),
    ):
        with pytest.raises(StoreRejected, match=words) as refused:
            Store.open(address)
        assert "secret" not in str(refused.value)


def test_the_commands_take_an_address(server: Server, two_sites: Store):
    """On the command line an address is a store; who reads may not write; it is of this version."""
    url = server.address(two_sites.engine.url.database, two_sites.path, "keeper")
    answer = CliRunner().invoke(app, ["show", "--store", url, "--json"])
    assert len(json.loads(answer.stdout)["subjects"]) == 6
    with pytest.raises(StoreRejected, match="read-only"), Store.open(url, read_only=True).writing() as connection:
        connection.execute(insert(tables.code).values(system="s", code="c", display="d"))
    assert migrate(url).end == SCHEMA_VERSION
    with pytest.raises(StoreRejected, match="no such user"):
        grant(two_sites, "nobody-there", "viewer")
    with pytest.raises(ConsentDenied, match="not for viewer"):
        role_for("erase", url, "viewer")


QUESTIONS = (
    "SELECT key, sex, age_day0_d FROM subject",
    "SELECT * FROM event",
    "SELECT p.*, c.code FROM prediction p JOIN code c ON c.id = p.quantity",
    "SELECT typeof(value), typeof(horizon_day), typeof(unit), value / 2, horizon_day / 2 FROM prediction",
    "SELECT count(*), max(recorded_at) FROM consent",
    "SELECT * FROM link ORDER BY run, port",
    "SELECT json_extract(attributes, '$.dose') FROM event WHERE kind = 'treatment'",
    "SELECT 1",
)


@pytest.fixture
def alike(two_sites: Store, tmp_path: Path) -> tuple[Store, Store]:
    """The same six subjects on PostgreSQL and on SQLite, of whom one withdrew."""
    other = Store.open(tmp_path / "sqlite", create=True)
    with other.writing() as connection:
        take_in(connection, OF_TWO_SITES)
    for one in (two_sites, other):
        withdraw(one, SubjectKey(KEYS[0]))
    return two_sites, other


def test_questions_have_the_same_answers_on_either_database(
    alike: tuple[Store, Store], monkeypatch: pytest.MonkeyPatch
):
    """Rows, their order, their types and their columns; who withdrew is seen on neither; nothing else can be asked."""
    postgres, other = alike
    asked = "SELECT ?id ?value { ?p a onco:Prediction; onco:id ?id; onco:value ?value } ORDER BY ?id"
    by_sql = ask_sql(postgres, "SELECT p.id, p.value FROM prediction p ORDER BY p.id")
    monkeypatch.setattr(querying, "_guarded", lambda limits, work, *arguments: work(*arguments))
    assert by_sql.rows == ask_sparql(postgres, asked).rows == ask_sparql(other, asked).rows
    assert by_sql.left_out == 1
    for question in QUESTIONS:
        assert ask_sql(postgres, question) == ask_sql(other, question), question
    with pytest.raises(ConfigurationRejected):
        ask_sql(postgres, "DELETE FROM subject")
    with pytest.raises(ConfigurationRejected, match="too many"):
        fetched(postgres, ("event",), KEYS, 0.01)


def test_a_user_of_one_site_asks_about_that_site(two_sites: Store, server: Server, monkeypatch: pytest.MonkeyPatch):
    """The policies of the database hold for questions too: those of the other site are not even left out."""
    monkeypatch.setattr(querying, "_guarded", lambda limits, work, *arguments: work(*arguments))
    ada = as_user(server, two_sites, "asks_at_site1", ("analyst", "site1"))
    answer = ask_sql(ada, "SELECT key FROM subject")
    assert {row[0] for row in answer.rows} == set(KEYS[:4])
    assert (answer.subjects, answer.left_out) == (4, 0)


def test_the_check_finds_the_same_on_either_database(alike: tuple[Store, Store]):
    """Every rule, with the same answers about the same rows; orphans are listed and removed."""
    for one in alike:
        (one.path / "runs" / "left").mkdir(parents=True)
    postgres, other = alike
    assert check(postgres).for_json() == check(other).for_json()
    assert check(postgres, repair=True).removed == 1
    assert check(postgres).orphans == ()


def test_a_reference_that_leads_nowhere_is_found(two_sites: Store, server: Server):
    """A superuser can turn the server's own rules off; the check then says that the database is not sound."""
    with two_sites.reading() as connection:
        assert sound(connection)
    run = COHORT.run[0].id
    server.run(
        f"SET session_replication_role = replica; DELETE FROM run WHERE id = '{run}'", two_sites.engine.url.database
    )
    with two_sites.reading() as connection:
        assert not sound(connection)
