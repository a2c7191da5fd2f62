"""The commands that the law asks for, as a user meets them: answers, exit codes, dry runs, roles."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from oncoscale.app.cli import app
from oncoscale.linkage.holding import take_in
from oncoscale.linkage.reference import reference_cohort
from oncoscale.linkage.roles import user
from oncoscale.linkage.store import Store
from oncoscale.linkage.vault import Vault

KEYS = [one.key for one in reference_cohort(4, 3).subject]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store of three subjects, and a vault of its own."""
    monkeypatch.setenv("ONCOSCALE_VAULT", str(tmp_path / "vault"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    opened = Store.open(tmp_path / "store", create=True)
    with opened.writing() as connection:
        take_in(connection, reference_cohort(4, 3))
    return tmp_path / "store"


def oncoscale(*arguments: object, code: int = 0) -> Any:
    """What a command answers with --json."""
    answer = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    assert answer.exit_code == code, answer.output
    return json.loads(answer.stdout)


def test_erase_lists_then_removes_and_is_refused_the_second_time(store: Path):
    """A dry run says what would go; the erasure says the same; afterwards nobody of that name is there."""
    would = oncoscale("erase", KEYS[0], "--store", store, "--dry-run")["erased"]
    assert oncoscale("show", KEYS[0], "--store", store)["subject"] == KEYS[0]
    assert oncoscale("erase", KEYS[0], "--store", store)["erased"] == would
    assert "does not hold" in oncoscale("erase", KEYS[0], "--store", store, code=2)["error"]["found"]
    assert oncoscale("rules", "show", "--store", store)["erased"] == 1


def test_erase_wants_a_subject_or_expired(store: Path):
    """Neither and both are refused; expired erases nobody before their time."""
    oncoscale("erase", "--store", store, code=2)
    oncoscale("erase", KEYS[0], "--expired", "--store", store, code=2)
    assert oncoscale("erase", "--expired", "--store", store)["erased"] == []
    oncoscale("rules", "set", "--retention-until", "2020-01-01", "--store", store)
    assert len(oncoscale("erase", "--expired", "--store", store, "--dry-run")["erased"]) == 3


def test_rules_are_changed_on_record_and_wrong_ones_refused(store: Path):
    """A dry run changes nothing; values that are no rules are named."""
    oncoscale("rules", "set", "--small-cell-k", "9", "--store", store, "--dry-run")
    assert oncoscale("rules", "show", "--store", store)["rules"]["small_cell_k"] == 5
    oncoscale("rules", "set", "--small-cell-k", "9", "--on-withdrawal", "erase", "--store", store)
    changed = oncoscale("rules", "show", "--store", store)["rules"]
    assert (changed["small_cell_k"], changed["on_withdrawal"]) == (9, "erase")
    for option, value in (("--retention-until", "soon"), ("--purpose", "FUN"), ("--on-withdrawal", "x")):
        assert "no rule" in oncoscale("rules", "set", option, value, "--store", store, code=2)["error"]["found"]
    oncoscale("rules", "set", "--store", store, code=2)


def test_the_audit_is_signed_verified_and_shown(store: Path, tmp_path: Path):
    """Whole, exit 0; damaged, exit 3; with a head kept elsewhere a cut tail shows."""
    for key in KEYS:
        oncoscale("access", key, "--store", store)
    assert oncoscale("audit", "verify", store)["signed"] is None
    head = oncoscale("audit", "sign", store, "--out", tmp_path / "heads.jsonl")
    assert oncoscale("audit", "verify", store)["signed"] == head["seq"] == 3
    shown = oncoscale("audit", "show", store, "--subject", KEYS[1])["entries"]
    assert [(row["action"], row["role"]) for row in shown] == [("access", "data-protection-officer")]
    with Store.open(store).engine.connect() as connection:
        connection.exec_driver_sql("DROP TRIGGER audit_stays")
        connection.exec_driver_sql("DELETE FROM audit WHERE seq = 3")
    key = ("--head", tmp_path / "heads.jsonl", "--key", head["public_key"])
    found = oncoscale("audit", "verify", store, *key, code=3)
    assert (found["fault"], found["first_bad"]) == ("cut", 3)


def test_an_export_signs_the_head_where_a_vault_is_at_hand(store: Path, tmp_path: Path):
    """Without a vault the answer says so and none is made; with one, what was cut since then shows."""
    out = ("--as", "native", "--out")
    unsigned = oncoscale("export", KEYS[0], *out, tmp_path / "one.json", "--store", store)
    assert (unsigned["signed_head"], unsigned["not_signed"]) == (None, "no vault is at hand")
    assert not (tmp_path / "vault").exists()
    Vault.open(tmp_path / "vault")
    head = oncoscale("export", KEYS[1], *out, tmp_path / "two.json", "--store", store)["signed_head"]
    assert oncoscale("audit", "verify", store)["signed"] == head["seq"]
    with Store.open(store).engine.connect() as connection:
        connection.exec_driver_sql("DROP TRIGGER audit_stays")
        connection.exec_driver_sql(f"DELETE FROM audit WHERE seq = {head['seq']}")
    assert oncoscale("audit", "verify", store, code=3)["fault"] == "cut"
    analyst = ("--role", "analyst", "export", KEYS[2], *out, tmp_path / "three.json", "--store", store)
    assert "role analyst" in oncoscale(*analyst)["not_signed"]


def test_a_look_at_a_subject_is_on_record(store: Path):
    """An entry about the subject, in the role of who looked; where the store is read-only the answer says it is not."""
    assert oncoscale("show", KEYS[0], "--store", store)["not_on_record"] == ""
    shown = oncoscale("audit", "show", store, "--subject", KEYS[0])["entries"]
    assert [(row["action"], row["role"]) for row in shown] == [("show", "viewer")]
    assert "does not hold" in oncoscale("show", "P-" + "A" * 16, "--store", store, code=2)["error"]["found"]
    database = store / "oncoscale.sqlite"
    Store.open(store).compact()
    database.chmod(0o444)
    assert "read-only" in oncoscale("show", KEYS[0], "--store", store)["not_on_record"]
    words = CliRunner().invoke(app, ["show", KEYS[0], "--store", str(store)]).stdout
    assert words.startswith("Not on record that this was looked at")
    database.chmod(0o644)
    assert len(oncoscale("audit", "show", store)["entries"]) == 1


def test_access_tells_all_and_is_itself_on_record(store: Path, tmp_path: Path):
    """The report holds every row about the subject, and the file says what the screen says."""
    report = oncoscale("access", KEYS[0], "--store", store, "--out", tmp_path / "report.json")
    assert report["held"]["subject"][0]["key"] == KEYS[0]
    assert [row["action"] for row in report["actions"]] == ["access"]
    assert json.loads((tmp_path / "report.json").read_text()) == report


def test_roles_close_a_store_command_by_command(store: Path, monkeypatch: pytest.MonkeyPatch):
    """After the first grant a viewer shows and does not erase; the environment may narrow, never widen."""
    oncoscale("roles", "grant", user(), "admin", "--store", store)
    oncoscale("roles", "grant", user(), "viewer", "--store", store)
    assert oncoscale("show", "--store", store)["subjects"]
    assert "not for" in oncoscale("erase", KEYS[0], "--store", store, code=2)["error"]["found"]
    monkeypatch.setenv("ONCOSCALE_ROLE", "data-protection-officer")
    assert "not granted" in oncoscale("erase", KEYS[0], "--store", store, code=2)["error"]["found"]
    monkeypatch.delenv("ONCOSCALE_ROLE")
    assert len(oncoscale("roles", "show", "--store", store)["grants"]) == 2
    oncoscale("roles", "revoke", user(), "viewer", "--store", store)
    assert "not for admin" in oncoscale("show", "--store", store, code=2)["error"]["found"]


def test_reidentify_asks_for_a_reason_and_puts_it_on_record(store: Path):
    """A subject that the vault does not name stays unnamed, and the question is on record all the same."""
    error = oncoscale("reidentify", KEYS[0], "--store", store, "--reason", "incidental finding", code=2)["error"]
    assert "vault does not hold" in error["found"]
    assert oncoscale("audit", "show", store)["entries"][-1]["action"] == "reidentify"
