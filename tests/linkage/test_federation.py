"""Federation: two live stores are asked over HTTP; only counts leave them, of those who consent, never small ones."""

from __future__ import annotations

import json
import socket
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from hashlib import sha256
from http.client import HTTPConnection
from itertools import product
from pathlib import Path
from threading import Thread
from time import monotonic, sleep
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest
import uvicorn
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select

from oncoscale.core.errors import ConfigurationRejected
from oncoscale.linkage import querying, tables
from oncoscale.linkage.consent import withdraw
from oncoscale.linkage.federation import Counts, Question, count, federate, read_token, service, shown, together
from oncoscale.linkage.holding import take_in
from oncoscale.linkage.reference import reference_cohort
from oncoscale.linkage.store import Store
from oncoscale.linkage.subject import SubjectKey

TOKEN = "t0ken" * 8
SEX = Question(("sex",))


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Questions are worked out in this process; the limits of the child are tested with ``query``."""
    monkeypatch.setattr(querying, "_guarded", lambda limits, work, *arguments: work(*arguments))


def filled(path: Path, seed: int, women: int, men: int) -> Store:
    """A store with so many women and men."""
    cohort = reference_cohort(seed, women + men)
    sexes = ["female"] * women + ["male"] * men
    cohort = replace(cohort, subject=tuple(replace(one, sex=sex) for one, sex in zip(cohort.subject, sexes)))
    store = Store.open(path, create=True)
    with store.writing() as connection:
        take_in(connection, cohort)
    return store


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """Two stores, each served on a port of its own."""
    folder, servers, threads, addresses = tmp_path_factory.mktemp("federation"), [], [], []
    stores = [filled(folder / "a", 1, 9, 6), filled(folder / "b", 2, 7, 8)]
    for store in stores:
        door = socket.create_server(("127.0.0.1", 0))
        app = service(store, [sha256(TOKEN.encode()).hexdigest()])
        servers.append(uvicorn.Server(uvicorn.Config(app, log_level="critical")))
        threads.append(Thread(target=servers[-1].run, args=([door],), daemon=True))
        threads[-1].start()
        addresses.append(f"http://127.0.0.1:{door.getsockname()[1]}")
    until = monotonic() + 30
    while not all(one.started for one in servers) and monotonic() < until:
        sleep(0.02)
    yield SimpleNamespace(stores=stores, addresses=addresses)
    for server, thread in zip(servers, threads):
        server.should_exit = True
        thread.join(10)


def test_two_live_stores_are_added_up(live: SimpleNamespace):
    """The sum over both is what each store counts by itself; the question is on record in each."""
    before = [entries_of(one) for one in live.stores]
    found = federate(live.addresses, SEX, TOKEN)
    assert (dict(found.counts.cells), dict(found.counts.hidden)) == ({("female",): 16, ("male",): 14}, {})
    assert (found.answered, dict(found.failed)) == (2, {})
    assert [entries_of(one) for one in live.stores] == [n + 1 for n in before]
    assert federate(live.addresses[:1], SEX, TOKEN, local=live.stores[1]).counts == found.counts
    two = Question(("sex", "treated"))
    assert federate(live.addresses, two, TOKEN).counts == together(count(one, two) for one in live.stores)


def test_who_withdrew_is_counted_nowhere(live: SimpleNamespace, tmp_path: Path):
    """At the source, at once; and so is everybody, for a purpose that no consent covers."""
    store = filled(tmp_path / "c", 3, 9, 6)
    with store.reading() as connection:
        key = connection.execute(select(tables.subject.c.key).where(tables.subject.c.sex == "female")).scalars().first()
    withdraw(store, SubjectKey(key))
    assert count(store, SEX).cells == {("female",): 8, ("male",): 6}
    assert count(store, Question(("sex",), "MLTRAINING")).cells == {}


def test_a_store_that_cannot_answer_is_told_and_the_others_count(live: SimpleNamespace):
    """Nobody there, another token, another service: by address, in words that hold no token."""
    nobody = socket.create_server(("127.0.0.1", 0))
    closed = f"http://127.0.0.1:{nobody.getsockname()[1]}"
    nobody.close()
    found = federate([*live.addresses, closed, live.addresses[0] + "/elsewhere"], SEX, TOKEN)
    assert found.answered == 2
    assert found.failed == {closed: "it cannot be reached", live.addresses[0] + "/elsewhere": "HTTP 404"}
    strangers = federate(live.addresses, SEX, "x" * 40)
    assert (strangers.answered, set(strangers.failed.values())) == (0, {"it does not know the token"})


def test_nothing_but_the_one_question_is_answered(live: SimpleNamespace):
    """Without a token 401; otherwise only POST /counts with a known question; no pages that describe the service."""
    place, good = urlsplit(live.addresses[0]).netloc, {"Authorization": f"Bearer {TOKEN}"}

    def ask(method: str, path: str, body: object, headers: Mapping[str, str]) -> tuple[int, str]:
        connection = HTTPConnection(place, timeout=20)
        connection.request(method, path, json.dumps(body), dict(headers))
        answer = connection.getresponse()
        return answer.status, answer.read().decode()

    question = {"by": ["sex"], "purpose": "HRESCH"}
    assert ask("POST", "/counts", question, good)[0] == 200
    for headers in ({}, {"Authorization": TOKEN}, {"Authorization": "Bearer "}, {"Authorization": "Basic " + TOKEN}):
        assert ask("POST", "/counts", question, headers)[0] == 401
    for bad in ({}, [], {"by": [], "purpose": "HRESCH"}, {"by": ["key"], "purpose": "HRESCH"}, {"by": "sex"},
                question | {"by": ["sex"] * 2}, question | {"purpose": "FUN"}, question | {"x": "y" * 20_000},
                {"by": ["sex; DROP TABLE subject"], "purpose": "HRESCH"}):  # fmt: skip
        status, text = ask("POST", "/counts", bad, good)
        assert (status, "P-" in text) == (400, False)
    for path in ("/", "/docs", "/openapi.json", "/counts"):
        assert ask("GET", path, {}, good)[0] in (404, 405)


TABLES = st.dictionaries(st.tuples(st.sampled_from("ab"), st.sampled_from("xyz")), st.integers(1, 30), min_size=1)


@given(TABLES, st.integers(2, 8))
@settings(max_examples=60, deadline=None)
def test_no_margin_gives_a_small_cell_away(cells, smallest):
    """In every row, every column and the whole: nothing is hidden, or two cells or more that hold enough together,
    or all that there is. What is shown is true and never small."""
    found = shown(cells, smallest)
    assert found.cells.keys() | found.hidden.keys() == cells.keys()
    assert all(n == cells[cell] >= smallest for cell, n in found.cells.items())
    lines = [set(cells), *({one for one in cells if one[place] == value} for place, value in
                           [*product((0,), "ab"), *product((1,), "xyz")])]  # fmt: skip
    for line in lines:
        inside = line & found.hidden.keys()
        assert not inside or inside == line or (len(inside) > 1 and sum(cells[one] for one in inside) >= smallest)


def test_hidden_cells_stay_hidden_in_the_sum():
    """A store that hides a cell adds nothing to it; the answer says in how many stores that is so."""
    one, other = shown({("f",): 9, ("m",): 3, ("u",): 7}, 5), shown({("f",): 6, ("m",): 8}, 5)
    assert dict(one.hidden) == {("m",): 1, ("u",): 1}
    both = together([one, other])
    assert (both.cells, both.hidden) == ({("f",): 15, ("m",): 8}, {("m",): 1, ("u",): 1})
    assert Counts.from_json(json.loads(json.dumps(both.for_json())), 1) == both


@pytest.mark.parametrize("address", ["http://example.org", "ftp://127.0.0.1", "127.0.0.1:80", "http://127.0.0.1.x.org"])
def test_a_token_crosses_no_network_unencrypted(address: str):
    """Plain HTTP reaches this machine alone."""
    with pytest.raises(ConfigurationRejected, match="no https"):
        federate([address], SEX, TOKEN)


def test_a_token_that_others_can_read_is_refused(tmp_path: Path):
    """Mode 0600 and long enough, or nothing."""
    path = tmp_path / "token"
    path.write_text(TOKEN + "\n")
    path.chmod(0o644)
    with pytest.raises(ConfigurationRejected, match="others can read"):
        read_token(path)
    path.chmod(0o600)
    assert read_token(path) == TOKEN
    path.write_text("short")
    with pytest.raises(ConfigurationRejected):
        read_token(path)


def entries_of(store: Store) -> int:
    with store.reading() as connection:
        return connection.execute(select(func.count()).select_from(tables.audit)).scalar_one()


def test_every_attribute_counts_everybody_once(live: SimpleNamespace, monkeypatch: pytest.MonkeyPatch):
    """Cells share nobody: with no cell hidden, each attribute's cells add up to the subjects."""
    from oncoscale.linkage import federation

    monkeypatch.setattr(federation, "shown", lambda cells, smallest: Counts(dict(cells), {}, smallest))
    for name in federation.ATTRIBUTES:
        found = Counter(count(live.stores[0], Question((name,))).cells)
        assert found.total() == 15, name


def test_the_command_line_asks_stores_and_serves_one(live: SimpleNamespace, tmp_path: Path):
    """``query --federate`` prints the sum; 3 if a store did not answer; what would be unsafe is refused."""
    from typer.testing import CliRunner

    from oncoscale.app.cli import app

    token = tmp_path / "token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    store, (first, second) = str(live.stores[1].path), live.addresses

    def run(*arguments: str):
        return CliRunner().invoke(app, [*arguments, "--quiet"])

    asked = ("query", store, "--by", "sex", "--token", str(token), "--federate")
    answer = run(*asked, first, "--json")
    assert answer.exit_code == 0
    assert json.loads(answer.stdout)["cells"] == [
        {"values": ["female"], "subjects": 16}, {"values": ["male"], "subjects": 14}
    ]  # fmt: skip
    partly = run(*asked, first, "--federate", second + "/elsewhere")
    assert partly.exit_code == 3
    assert "female  16" in partly.stdout
    assert "HTTP 404" in partly.stdout
    for bad in (asked[:4] + ("--federate", first), (*asked[:2], "--token", str(token), "--federate", first),
                (*asked, "http://example.org"), ("query", store, "ASK {}", *asked[2:], first),
                ("serve", store, "--token", str(token), "--host", "0.0.0.0"),
                ("serve", str(tmp_path / "absent"), "--token", str(token))):  # fmt: skip
        assert run(*bad).exit_code == 2, bad
