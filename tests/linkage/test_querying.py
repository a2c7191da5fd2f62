"""Questions to the store: only what consent covers, nothing written, no network, within limits, and on record."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import func, select

from oncoscale.core.errors import ConfigurationRejected
from oncoscale.linkage import querying, tables
from oncoscale.linkage.audit import verify
from oncoscale.linkage.consent import withdraw
from oncoscale.linkage.core import ROWS
from oncoscale.linkage.holding import take_in
from oncoscale.linkage.querying import Limits, ask_sparql, ask_sql, rows_of_sparql, rows_of_sql
from oncoscale.linkage.reference import reference_cohort
from oncoscale.linkage.store import Store
from oncoscale.linkage.subject import SubjectKey
from oncoscale.linkage.visible_rows import CHOSEN

COHORT = reference_cohort(3, 6)
KEYS = [one.key for one in COHORT.subject]


@pytest.fixture
def stocked(store: Store) -> Store:
    """A store with six subjects."""
    with store.writing() as connection:
        take_in(connection, COHORT)
    return store


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """The work is done in this process: the limits of the child are tested elsewhere."""
    monkeypatch.setattr(querying, "_guarded", lambda limits, work, *arguments: work(*arguments))


def database(store: Store) -> str:
    return str((store.path / "oncoscale.sqlite").absolute())


def test_both_languages_give_the_same_answer(stocked: Store):
    """Predicted volumes by SQL and by SPARQL, in child processes."""
    sql = ask_sql(stocked, "SELECT p.id, p.value FROM prediction p ORDER BY p.id")
    sparql = ask_sparql(
        stocked, "SELECT ?id ?value { ?p a onco:Prediction; onco:id ?id; onco:value ?value } ORDER BY ?id"
    )
    assert sql.rows == sparql.rows == tuple(sorted((one.id, one.value) for one in COHORT.prediction))
    assert sql.columns == sparql.columns == ("id", "value")
    assert (sql.subjects, sql.left_out, sql.is_cut) == (6, 0, False)


def test_who_withdrew_is_seen_by_no_question(stocked: Store, here: None):
    """Neither in rows nor in counts, whichever language is used; others stay."""
    withdraw(stocked, SubjectKey(KEYS[0]))
    answer = ask_sql(stocked, "SELECT key FROM subject")
    assert {row[0] for row in answer.rows} == set(KEYS[1:])
    assert answer.left_out == 1
    assert ask_sparql(stocked, "SELECT (count(?s) AS ?n) { ?s a onco:Subject }").rows == ((5,),)
    assert ask_sql(stocked, "SELECT count(*) FROM subject", of=KEYS[0]).rows == ((0,),)


def test_a_question_for_another_purpose_sees_nobody(stocked: Store, here: None):
    """Consents cover healthcare research; training a model is something else."""
    assert ask_sql(stocked, "SELECT count(*) FROM subject", purpose="MLTRAINING").rows == ((0,),)
    with pytest.raises(ConfigurationRejected, match="no purpose"):
        ask_sql(stocked, "SELECT 1", purpose="FUN")


def test_no_table_shows_a_row_of_somebody_else(stocked: Store):
    """For every table of the core: what one subject's question sees is held for that subject."""
    for table in ROWS:
        columns, rows, _ = rows_of_sql(database(stocked), f"SELECT * FROM {table}", KEYS[:1], Limits())
        text = str(rows)
        assert columns
        assert not any(key in text for key in KEYS[1:]), table
    assert set(CHOSEN) < set(ROWS)


def test_a_code_that_only_others_rows_have_is_not_shown(stocked: Store):
    """The list of codes tells nothing of a diagnosis that nobody has who can be seen."""
    rows = rows_of_sql(database(stocked), "SELECT code FROM code", KEYS[:1], Limits())[1]
    own = {one.code.code for one in COHORT.event if one.subject == KEYS[0]}
    others = {one.code.code for one in COHORT.event if one.kind == "diagnosis"} - own
    shown = {row[0] for row in rows}
    assert own <= shown
    assert others
    assert not others & shown


def test_what_serves_the_store_alone_is_not_shown(store: Store):
    """Neither language shows the date or the sources that ingest keeps with a visit, nor the fingerprint of the key."""
    kept = {"head": True, "source": "abc", "shifted_date": "2019-03-01", "contents": ["def"]}
    event = tuple(replace(one, attributes=kept) if one.kind == "imaging" else one for one in COHORT.event)
    with store.writing() as connection:
        take_in(connection, replace(COHORT, event=event))
    _, rows, _ = rows_of_sql(database(store), "SELECT attributes FROM event WHERE kind = 'imaging'", KEYS, Limits())
    assert set(rows) == {('{"head":true}',)}
    asked = "SELECT ?a { ?e a onco:Event; onco:attributes ?a }"
    assert not [row for row in ask_sparql(store, asked).rows if "2019" in row[0]]


WRITES = (
    "DELETE FROM subject", "INSERT INTO code VALUES (1, 'a', 'b', 'c', 'd')", "UPDATE subject SET site = 'x'",
    "DROP TABLE subject", "CREATE TABLE t (a)", "CREATE TEMP TABLE t (a)", "PRAGMA query_only=OFF", "VACUUM",
    "VACUUM INTO '/tmp/x'", "ATTACH '{0}' AS s", "BEGIN", "SELECT 1; DELETE FROM subject", "SELECT load_extension('x')",
    "SELECT * FROM audit", "SELECT * FROM store.subject", "SELECT * FROM temp.seen", "SELECT * FROM sqlite_master.x",
    "SELECT name FROM pragma_database_list", "WITH d AS (SELECT 1) DELETE FROM subject",
    "EXPLAIN DELETE FROM subject", "",
)  # fmt: skip


def test_sql_only_reads(stocked: Store):
    """Writing, attaching, loading, settings, and tables that are not the core's are refused; the store is untouched."""
    before = (stocked.path / "oncoscale.sqlite").read_bytes()
    for text in WRITES:
        with pytest.raises(ConfigurationRejected):
            rows_of_sql(database(stocked), text.format(database(stocked)), KEYS, Limits())
    assert (stocked.path / "oncoscale.sqlite").read_bytes() == before


REACHING = (
    "SELECT * { SERVICE <http://example.org/sparql> { ?s ?p ?o } }",
    "SELECT * { ?s ?p ?o OPTIONAL { SERVICE ?s { ?s ?p ?o } } }",
    "SELECT * { { SELECT * { SERVICE SILENT <http://example.org> { ?a ?b ?c } } } }",
    "SELECT * FROM <http://example.org/data.ttl> { ?s ?p ?o }",
    "SELECT * FROM NAMED <file:///etc/passwd> { GRAPH ?g { ?s ?p ?o } }",
    "ASK { FILTER EXISTS { SERVICE <http://example.org> { ?s ?p ?o } } }",
)
UPDATES = ("INSERT DATA { <urn:a> <urn:b> <urn:c> }", "LOAD <http://example.org>", "DELETE WHERE { ?s ?p ?o }",
           "CLEAR ALL", "not a question")  # fmt: skip


def test_a_faulty_question_is_told_where_it_is_at_fault():
    """Line and column of what cannot be read, and nothing of the question itself."""
    with pytest.raises(ConfigurationRejected, match=r"from line 2, column 1\)") as refused:
        rows_of_sparql(COHORT, "SELECT ?s\nWHERRE { ?s ?p 'JANE' }", Limits())
    assert "JANE" not in str(refused.value)


@pytest.mark.parametrize("text", REACHING + UPDATES)
def test_sparql_only_reads_and_reaches_no_network(text: str, monkeypatch: pytest.MonkeyPatch):
    """SERVICE, FROM, LOAD and updates are refused before anything is evaluated."""
    for name in ("socket.socket.connect", "socket.getaddrinfo"):
        monkeypatch.setattr(name, lambda *_, **__: pytest.fail("a network was reached"))
    expected = "network" if text in REACHING else "no SPARQL query"
    with pytest.raises(ConfigurationRejected, match=expected):
        rows_of_sparql(COHORT, text, Limits())


def test_ask_construct_and_unbound_values_are_answered():
    """ASK gives one truth, CONSTRUCT triples, an unbound variable nothing."""
    assert rows_of_sparql(COHORT, "ASK { ?s a onco:Subject }", Limits())[1] == [(True,)]
    columns, rows, _ = rows_of_sparql(COHORT, "CONSTRUCT { ?s a onco:Seen } { ?s a onco:Subject }", Limits())
    assert columns == ("subject", "predicate", "object")
    assert len(rows) == len(KEYS)
    asked = "SELECT ?s ?no { ?s a onco:Subject OPTIONAL { ?s onco:nothing ?no } }"
    assert {row[1] for row in rows_of_sparql(COHORT, asked, Limits())[1]} == {None}


def test_what_json_cannot_hold_is_told_in_words(store: Store):
    """An infinite number and bytes."""
    with store.writing():
        pass
    asked = "SELECT 1e999, x'00ff', 0.5, NULL"
    assert rows_of_sql(database(store), asked, [], Limits())[1] == [("inf", "00ff", 0.5, None)]
    unbounded = 'SELECT ("INF"^^xsd:double AS ?x) {}'
    assert rows_of_sparql(COHORT, unbounded, Limits())[1] == [("inf",)]


@pytest.mark.parametrize("ask", [ask_sql, ask_sparql])
def test_a_long_answer_is_cut_and_says_so(stocked: Store, here: None, ask):
    """No more rows than the limit, and the answer tells."""
    text = "SELECT key FROM subject" if ask is ask_sql else "SELECT ?s { ?s a onco:Subject }"
    answer = ask(stocked, text, limits=Limits(rows=2))
    assert (len(answer.rows), answer.is_cut) == (2, True)


def test_a_question_that_never_ends_is_ended(stocked: Store):
    """Time runs out in a child process, with a message that says how long it may take."""
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
    with pytest.raises(ConfigurationRejected, match="longer than 1 s"):
        ask_sql(stocked, endless, limits=Limits(seconds=1))


def test_a_question_that_eats_memory_is_ended(stocked: Store):
    """A value too large is refused by SQLite, a hoard of values by the limit of the child."""
    with pytest.raises(ConfigurationRejected, match="too big"):
        rows_of_sql(database(stocked), "SELECT zeroblob(100000000)", KEYS, Limits())
    hoard = ("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 5000)"
             " SELECT i, hex(zeroblob(1000000)) FROM n")  # fmt: skip
    with pytest.raises(ConfigurationRejected, match="memory"):
        ask_sql(stocked, hoard, limits=Limits(memory_mib=1024))


def test_a_question_is_on_record(stocked: Store, here: None):
    """One entry in a chain that stays whole, also for a question that is refused; the question itself is not kept."""
    with stocked.reading() as connection:
        before = connection.execute(select(func.count()).select_from(tables.audit)).scalar_one()
    ask_sql(stocked, "SELECT 4711 AS what_was_asked")
    with pytest.raises(ConfigurationRejected):
        ask_sql(stocked, "DELETE FROM subject")
    with stocked.reading() as connection:
        rows = connection.execute(select(tables.audit.c.action).order_by(tables.audit.c.seq)).scalars().all()
    assert rows[before:] == ["query", "query"]
    assert verify(stocked) is None
    assert b"what_was_asked" not in b"".join(path.read_bytes() for path in stocked.path.glob("oncoscale.sqlite*"))


def test_a_store_that_cannot_be_opened_for_reading_is_told(tmp_path: Path):
    """The child names SQLite's reason, and makes no database where there is none."""
    with pytest.raises(ConfigurationRejected, match="SQLite cannot"):
        rows_of_sql(str(tmp_path / "none.sqlite"), "SELECT 1", [], Limits())
    assert not (tmp_path / "none.sqlite").exists()
    assert sqlite3.sqlite_version_info >= (3, 37)
