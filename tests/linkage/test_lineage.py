"""Lineage: everything that a run rests on, nearest first, however its runs are tied."""

from __future__ import annotations

import pytest
from sqlalchemy import insert

from oncoscale.core.errors import StoreRejected
from oncoscale.linkage import tables
from oncoscale.linkage.lineage import rests_on
from oncoscale.linkage.store import Store


@pytest.fixture
def tied(store: Store) -> Store:
    """Runs on nobody: c uses what a and b made, d what c made, a what d made (a circle); e stands alone."""
    made = {run: [f"of-{run}"] for run in "abcde"}
    used = {"a": ["of-d"], "b": ["raw"], "c": ["of-a", "of-b"], "d": ["of-c"], "e": ["other"]}
    files = sorted({one for run in "abcde" for one in (*made[run], *used[run])})
    with store.writing() as connection:
        connection.execute(insert(tables.software), [{"id": "s", "name": "s", "version": "1", "code_sha256": "c"}])
        connection.execute(insert(tables.parameter_set), [{"sha256": "p", "schema": "s", "body": "{}"}])
        kind = {"kind": "field", "asserted": "simulated", "media_type": "text/plain", "bytes": 1, "uri": ""}
        connection.execute(insert(tables.artefact), [{"sha256": one, **kind} for one in files])
        run = {"kind": "forecast", "software": "s", "parameters": "p", "inputs_sha256": "i", "seed": "1"}
        connection.execute(insert(tables.run), [{"id": one, **run} for one in "abcde"])
        connection.execute(
            insert(tables.link),
            [
                {"run": one, "attempt": 1, "role": role, "port": f"{role}/{file}", "artefact": file}
                for role, files in (("generated", made), ("used", used))
                for one in "abcde"
                for file in files[one]
            ],
        )
    return store


def test_everything_that_a_run_rests_on_comes_once_nearest_first(tied: Store):
    """Through forks, joins and a circle; what other runs made is not in it."""
    with tied.reading() as connection:
        found = rests_on(connection, "d")
        alone = rests_on(connection, "e")
    order = list(dict.fromkeys(one.run for one in found))
    assert order == ["d", "c", "a", "b"]
    assert len(set(found)) == len(found) == 9
    assert {one.artefact for one in found if one.run == "b"} == {"of-b", "raw"}
    assert [(one.role, one.artefact) for one in alone] == [("generated", "of-e"), ("used", "other")]


def test_an_answer_has_a_bound(tied: Store):
    """A chain longer than asked for is refused, not cut; a run that is not there rests on nothing."""
    with tied.reading() as connection:
        with pytest.raises(StoreRejected, match="more than 3 runs"):
            rests_on(connection, "d", most=3)
        assert len(rests_on(connection, "d", most=4)) == 9
        assert rests_on(connection, "nowhere") == ()
