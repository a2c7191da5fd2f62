"""Parquet: the core as columns, and tables ready to be plotted that agree with it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from oncoscale.core.errors import ConfigurationRejected, FileRejected
from oncoscale.linkage.consent import consent_on_record, objection, withdraw
from oncoscale.linkage.core import Parameters
from oncoscale.linkage.exporting import export
from oncoscale.linkage.holding import take_in
from oncoscale.linkage.reference import reference_cohort
from oncoscale.linkage.standards import parquet
from oncoscale.linkage.store import Store
from oncoscale.linkage.subject import SubjectKey

pq = pytest.importorskip("pyarrow.parquet", reason="not run: pyarrow is not installed")

COHORT = reference_cohort(3, 2)


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    """The cohort with a parameter set of every kind of value."""
    body = {"days": 28, "oxygen": 0.3, "tumour": "neuroblastoma", "nested": {"on": True, "none": None, "list": [1, 2]}}
    first = COHORT.parameter_set[0]
    held = replace(COHORT, parameter_set=(Parameters(first.sha256, first.schema, body), *COHORT.parameter_set[1:]))
    parquet.render(held, tmp_path / "tables")
    return tmp_path / "tables"


def test_columns_have_the_types_of_the_core(tables: Path):
    """Numbers are numbers, days whole ones; a coded value is four texts; a table without rows has its columns too."""
    schema = pq.read_schema(tables / "prediction.parquet")
    kinds = {name: str(schema.field(name).type) for name in schema.names}
    assert kinds["value"] == kinds["low"] == "double"
    assert kinds["horizon_day"] == "int64"
    assert {kinds[f"quantity{behind}"] for behind in parquet.CODE} == {"string"}
    assert b"personal data" in schema.metadata[b"notice"]
    assert pq.read_metadata(tables / "forecasts.parquet").num_columns == len(parquet.FORECASTS)


def test_a_forecast_stands_in_one_row_with_what_it_hangs_on(tables: Path):
    """Every prediction once; its run, seed and parameter set are those of the core."""
    rows = pq.read_table(tables / "forecasts.parquet").to_pylist()
    runs = {one.id: one for one in COHORT.run}
    assert rows
    assert len(rows) == len(COHORT.prediction)
    for row, one in zip(rows, COHORT.prediction):
        run = runs[one.run]
        assert (row["subject"], row["value"], row["quantity"]) == (one.subject, one.value, one.quantity.code)
        assert (row["seed"], row["parameters_sha256"], row["campaign"]) == (run.seed, run.parameters, run.campaign)


def test_parameters_are_numbers_or_text_by_their_full_names(tables: Path):
    """Nested names are joined by dots; what is neither number nor text is told as JSON."""
    rows = pq.read_table(tables / "parameters.parquet").to_pylist()
    own = {row["name"]: (row["number"], row["text"]) for row in rows
           if row["parameters_sha256"] == COHORT.parameter_set[0].sha256}  # fmt: skip
    assert own == {
        "days": (28.0, None), "oxygen": (0.3, None), "tumour": (None, "neuroblastoma"), "nested.on": (None, "true"),
        "nested.none": (None, "null"), "nested.list": (None, "[1,2]"),
    }  # fmt: skip


SHORTENED = {"a forecast gone": "forecasts", "a run gone": "run", "a prediction gone": "prediction"}
"""Files that lack their first row, by what that is."""
NAMED = {"a forecast gone": "forecasts.parquet", "a run gone": "attempt.run", "a prediction gone": "forecasts.parquet"}
"""What the check names then: references to the row end nowhere, or the table derived from it disagrees."""


def shortened(tables: Path, name: str) -> None:
    """Take the first row out of a file."""
    path = tables / f"{SHORTENED[name]}.parquet"
    pq.write_table(pq.read_table(path).slice(1), path)


@pytest.mark.parametrize("name", SHORTENED)
def test_a_row_that_is_gone_is_found(tables: Path, name: str):
    """Each in its own way; what is whole has no fault."""
    assert parquet.check(tables) == ()
    shortened(tables, name)
    assert NAMED[name] in {one.where for one in parquet.check(tables)}


def test_a_foreign_file_is_refused(tables: Path):
    """A table without the mark of a store's tables is not read."""
    path = tables / "run.parquet"
    pq.write_table(pq.read_table(path).replace_schema_metadata({}), path)
    with pytest.raises(FileRejected, match="Parquet"):
        parquet.read(tables)


def test_a_cohort_leaves_only_with_consent_and_comes_back(store: Store, tmp_path: Path):
    """An export asks consent as every other does: who withdrew is left out of every table, and the rest can be read."""
    cohort = reference_cohort(3, 7)
    with store.writing() as connection:
        take_in(connection, cohort)
    stated = {one.key: consent_on_record(store, SubjectKey(one.key)) for one in cohort.subject}
    covered = [key for key, one in stated.items() if one and not objection(one, "HRESCH", ("imaging",))]
    withdraw(store, SubjectKey(covered[0]))
    done = export(store, "all", tmp_path / "tables", standard_name="parquet", recipient="statistics")
    assert set(done.subjects) == set(covered[1:])
    assert (done.gaps, done.violations) == ((), ())
    assert {one.key for one in parquet.read(done.path).holdings.subject} == set(covered[1:])
    assert all(covered[0].encode() not in one.read_bytes() for one in done.path.iterdir())
    forecasts = pq.read_table(done.path / "forecasts.parquet").to_pylist()
    assert {row["subject"] for row in forecasts} <= set(covered[1:])


def test_without_the_library_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The base installation has no Parquet: a typed error, and no folder is left."""
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(ConfigurationRejected) as caught:
        parquet.render(COHORT, tmp_path / "tables")
    assert "oncoscale[parquet]" in str(caught.value)
    assert not (tmp_path / "tables").exists()
