"""What the store holds and what it gives back: rows of the core, exports by permission, imports by pseudonym."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import select

from oncoscale.core.errors import ConfigurationRejected, ConsentDenied, FileRejected
from oncoscale.linkage import core, tables
from oncoscale.linkage.audit import entries, examine, heads_of
from oncoscale.linkage.exporting import export
from oncoscale.linkage.holding import held, take_in
from oncoscale.linkage.importing import import_file
from oncoscale.linkage.reference import reference_cohort
from oncoscale.linkage.standards import standard
from oncoscale.linkage.store import Store
from oncoscale.linkage.subject import SubjectKey
from oncoscale.linkage.vault import Vault


@pytest.fixture
def stocked(store: Store) -> Store:
    """A store with six subjects."""
    with store.writing() as connection:
        take_in(connection, reference_cohort(3, 6))
    return store


def test_the_store_gives_back_what_it_took(stocked: Store):
    """Every row of a cohort comes back equal, and a second taking enters nothing."""
    cohort = reference_cohort(3, 6)
    with stocked.reading() as connection:
        found = held(connection, [one.key for one in cohort.subject])
    assert core.without(found, ()) == core.without(cohort, ())
    with stocked.writing() as connection:
        assert take_in(connection, cohort) == {}


def test_one_subjects_holdings_hold_nobody_else(stocked: Store):
    """No row of another subject comes along."""
    cohort = reference_cohort(3, 6)
    one, others = cohort.subject[0].key, {subject.key for subject in cohort.subject[1:]}
    with stocked.reading() as connection:
        found = held(connection, [one])
    assert one in str(core.for_json(found))
    assert not any(other in str(core.for_json(found)) for other in others)


def test_an_export_is_permitted_recorded_and_whole(stocked: Store, tmp_path: Path):
    """An export asks for consent and stays on record with its recipient; a second one overwrites nothing."""
    key = reference_cohort(3, 6).subject[0].key
    done = export(stocked, key, tmp_path / "me.json", standard_name="native", recipient="hospital")
    assert done.subjects == (key,)
    assert done.violations == ()
    with stocked.reading() as connection:
        row = connection.execute(select(tables.export)).mappings().one()
        assert connection.execute(select(tables.export_subject.c.subject)).scalar_one() == key
    assert (row["recipient"], row["sha256"]) == ("hospital", done.sha256)
    with pytest.raises(ConfigurationRejected, match="exists"):
        export(stocked, key, tmp_path / "me.json", standard_name="native")
    assert sorted(one.name for one in tmp_path.iterdir() if one.name.startswith((".", "me"))) == ["me.json"]


def test_a_small_cohort_is_not_exported(store: Store, tmp_path: Path):
    """Fewer subjects than the smallest cell are refused as a cohort, and nothing is written."""
    with store.writing() as connection:
        take_in(connection, reference_cohort(3, 4))
    with pytest.raises(ConsentDenied, match="smallest cell"):
        export(store, "all", tmp_path / "all.json", standard_name="native")
    with store.reading() as connection:
        assert connection.execute(select(tables.export)).all() == []
    assert not (tmp_path / "all.json").exists()


def test_who_withdrew_is_left_out_of_a_cohort(stocked: Store, tmp_path: Path):
    """The others are exported, and the one is named with the reason; alone it is refused."""
    from oncoscale.linkage.consent import withdraw

    key = reference_cohort(3, 6).subject[2].key
    withdraw(stocked, SubjectKey(key))
    done = export(stocked, "all", tmp_path / "all.json", standard_name="native")
    assert done.left_out == ((key, "withdrawn"),)
    assert key.encode() not in (tmp_path / "all.json").read_bytes()
    with pytest.raises(ConsentDenied, match="withdrawn"):
        export(stocked, key, tmp_path / "one.json", standard_name="native")
    with stocked.reading() as connection:
        asked = select(tables.decision.c.outcome, tables.decision.c.reason).where(tables.decision.c.subject == key)
        answers = connection.execute(asked.where(tables.decision.c.operation == "export")).all()
    assert [tuple(row) for row in answers] == [("deny", "withdrawn")] * 2


def test_nothing_leaves_that_is_not_on_record(stocked: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A command that is killed before the file has its name leaves the record of an export, never a file without it."""
    key = reference_cohort(3, 6).subject[0].key

    rename = os.replace

    def killed(source: Path, target: Path) -> None:
        if target == tmp_path / "me.json":
            raise KeyboardInterrupt
        rename(source, target)

    monkeypatch.setattr("oncoscale.linkage.exporting.os.replace", killed)
    with pytest.raises(KeyboardInterrupt):
        export(stocked, key, tmp_path / "me.json", standard_name="native", recipient="hospital")
    with stocked.reading() as connection:
        assert connection.execute(select(tables.export.c.recipient)).scalars().all() == ["hospital"]
    assert [one.name for one in tmp_path.iterdir() if "me" in one.name] == []


def test_the_head_of_the_audit_is_signed_when_something_leaves(stocked: Store, vault: Vault, tmp_path: Path):
    """With a vault, the signed head vouches for the entry of the export itself; without one nothing is signed."""
    keys = [one.key for one in reference_cohort(3, 6).subject]
    assert export(stocked, keys[0], tmp_path / "one.json", standard_name="native").head is None
    head = export(stocked, keys[1], tmp_path / "two.json", standard_name="native", vault=vault).head
    assert head is not None
    assert head.is_signed_by(vault.public_key)
    assert heads_of(vault) == (head,)
    (exported,) = entries(stocked, last=1)
    assert (exported["action"], exported["seq"]) == ("export", head.seq)
    assert examine(stocked, heads_of(vault)).signed == head.seq


def test_an_import_names_subjects_by_the_key_and_enters_once(store: Store, vault: Vault, tmp_path: Path):
    """A hospital's own name becomes a pseudonym and stands nowhere in the store; the same file again enters nothing."""
    cohort = reference_cohort(8, 2)
    local = {cohort.subject[0].key: "HOSP-77", cohort.subject[1].key: "HOSP-78"}

    def named(row):
        owner = "key" if hasattr(row, "key") else "subject"
        return replace(row, **{owner: local[getattr(row, owner)]})

    outside = core.Holdings(
        biobank=cohort.biobank, collection=cohort.collection,
        subject=tuple(map(named, cohort.subject)), event=tuple(map(named, cohort.event)),
        sample=tuple(map(named, cohort.sample)),
    )  # fmt: skip
    standard("native").render(outside, tmp_path / "in.json")
    first = import_file(store, tmp_path / "in.json", standard_name="native", vault=vault)
    assert first.entered["subject"] == 2
    assert vault.reidentify(SubjectKey(first.subjects[0])) == ("site1", "HOSP-77")
    assert import_file(store, tmp_path / "in.json", standard_name="native", vault=vault).entered == {}
    stored = b"".join(path.read_bytes() for path in store.path.iterdir() if path.is_file())
    assert b"HOSP-7" not in stored


def test_references_that_lead_nowhere_are_told_and_enter_nothing(store: Store, vault: Vault, tmp_path: Path):
    """A sample of a collection that neither the file nor the store holds: refused in words, and no row is left."""
    lost = replace(reference_cohort(3, 2), collection=(), biobank=())
    assert any(one.collection for one in (*lost.sample, *lost.enrolment))
    standard("native").render(lost, tmp_path / "lost.json")
    for dry_run in (True, False):
        with pytest.raises(FileRejected, match="FOREIGN KEY"):
            import_file(store, tmp_path / "lost.json", standard_name="native", vault=vault, dry_run=dry_run)
    with store.reading() as connection:
        assert not connection.execute(select(tables.subject)).all()


def test_a_dry_run_of_an_import_says_what_is_new(store: Store, vault: Vault, tmp_path: Path):
    """By the database itself, and nothing of it stays: neither rows nor an entry of the audit."""
    standard("native").render(reference_cohort(3, 2), tmp_path / "in.json")
    would = import_file(store, tmp_path / "in.json", standard_name="native", vault=vault, dry_run=True)
    assert entries(store) == []
    done = import_file(store, tmp_path / "in.json", standard_name="native", vault=vault)
    assert would == done
    again = import_file(store, tmp_path / "in.json", standard_name="native", vault=vault, dry_run=True)
    assert again.entered == {}
