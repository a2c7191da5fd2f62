"""Consent: files, the newest row decides, every answer on record."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from sqlalchemy import insert, select

from oncoscale.core.errors import ConfigurationRejected, ConsentDenied
from oncoscale.linkage import audit, tables
from oncoscale.linkage.consent import (
    TEMPLATE,
    Consent,
    consent_on_record,
    consents,
    decide,
    read_consent,
    record_consent,
    require,
    still_permitted,
    withdraw,
)
from oncoscale.linkage.store import Store, code_id
from oncoscale.linkage.subject import SubjectKey

from .conftest import ACTIVE

SUBJECT = SubjectKey("P-HNU76GYAPKGZMXDN")


@pytest.fixture
def known(store: Store) -> Store:
    """A store that holds one subject."""
    with store.writing() as connection:
        species = code_id(connection, "http://snomed.info/sct", "337915000", "Homo sapiens")
        connection.execute(
            insert(tables.subject).values(
                key=SUBJECT, site="s", species=species, sex="female", day0_kind="first-imaging"
            )
        )
    return store


def written(folder: Path, text: str) -> Path:
    path = folder / "consent.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_status_is_enough(tmp_path: Path):
    """A file of one line is a consent to research on images and forecasts; its hash stands for the document."""
    path = written(tmp_path, 'status = "active"\n')
    assert read_consent(path) == Consent("active", document_sha256=sha256(path.read_bytes()).hexdigest())


def test_toml_and_json_say_the_same(tmp_path: Path):
    """Either format, dates as dates or text, single values or lists, a table named consent or none."""
    toml = read_consent(
        written(
            tmp_path,
            f'[consent]\nstatus = "Active"\npurpose = "dsrch"\nvalid-until = 2034-01-31\ndocument = "{"B" * 64}"\n',
        )
    )
    json = read_consent(
        written(
            tmp_path,
            f'{{"status": "active", "purposes": ["DSRCH"], "valid_until": "2034-01-31", "document": "{"b" * 64}"}}',
        )
    )
    assert toml == json == Consent("active", purposes=("DSRCH",), valid_until="2034-01-31", document_sha256="b" * 64)


def test_the_template_is_a_consent(tmp_path: Path):
    """What `oncoscale consent template` prints can be used as it is."""
    assert read_consent(written(tmp_path, TEMPLATE)).status == "active"


def test_the_signed_form_is_kept_as_a_hash(tmp_path: Path):
    """A document is named beside the file; only its SHA-256 goes on."""
    (tmp_path / "form.pdf").write_bytes(b"signed by hand")
    consent = read_consent(written(tmp_path, 'status = "active"\ndocument = "form.pdf"\n'))
    assert consent.document_sha256 == sha256(b"signed by hand").hexdigest()


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ('statu = "active"', "write 'status'"),
        ('status = "actve"', "write 'active'"),
        ('status = "active"\npurposes = ["HRSCH"]', "write 'HRESCH'"),
        ('status = "active"\ncategories = ["imagin"]', "write 'imaging'"),
        ('status = "active"\nvalid_until = "soon"', "not a date"),
        ('status = "active"\ndocument = "absent.pdf"', "cannot be read"),
        ('purposes = ["HRESCH"]', "does not say its status"),
        ("status = active", "neither TOML nor JSON"),
        ('{"status": "active"', "neither TOML nor JSON"),
    ],
)
def test_what_is_not_understood_is_refused_with_the_nearest(tmp_path: Path, text: str, part: str):
    """A consent is never guessed."""
    with pytest.raises(ConfigurationRejected, match=part):
        read_consent(written(tmp_path, text))


@pytest.mark.parametrize(
    ("consent", "reason"),
    [
        (None, "missing"),
        (replace(ACTIVE, status="refused"), "refused"),
        (replace(ACTIVE, status="withdrawn"), "withdrawn"),
        (replace(ACTIVE, status="expired"), "expired"),
        (replace(ACTIVE, valid_until="2001-01-01"), "expired"),
        (replace(ACTIVE, valid_from="2999-01-01"), "not yet valid"),
        (replace(ACTIVE, purposes=("MLTRAINING",)), "purpose HRESCH"),
        (replace(ACTIVE, categories=("imaging",)), "category simulation"),
        (replace(ACTIVE, legal_basis=""), "legal basis"),
    ],
)
def test_a_denial_names_its_reason_and_stays_on_record(known: Store, consent: Consent | None, reason: str):
    """Whatever does not clearly permit denies, and the denial is a row and an audit entry."""
    if consent is not None:
        record_consent(known, SUBJECT, consent)
    decision = decide(known, SUBJECT, "run")
    assert (decision.outcome, decision.reason) == ("deny", reason)
    with pytest.raises(ConsentDenied, match=reason.split()[0] if consent else "no consent") as refused:
        require(known, SUBJECT)
    assert refused.value.exit_code == 2
    with known.reading() as connection:
        assert connection.execute(select(tables.decision.c.outcome)).scalars().all() == ["deny", "deny"]
    assert audit.verify(known) is None


def test_the_newest_consent_decides_and_none_is_edited(known: Store):
    """Active, withdrawn, given anew: each is a row that supersedes the last; the permit ends with the withdrawal."""
    record_consent(known, SUBJECT, ACTIVE)
    permit = require(known, SUBJECT)
    assert still_permitted(known, permit)
    withdraw(known, SUBJECT)
    assert not still_permitted(known, permit)
    assert not decide(known, SUBJECT, "run").permits
    with pytest.raises(ConsentDenied, match="withdrawn"):
        record_consent(known, SUBJECT, ACTIVE)
    record_consent(known, SUBJECT, replace(ACTIVE, document_sha256="c" * 64))
    assert decide(known, SUBJECT, "run").permits
    rows = consents(known, SUBJECT)
    assert [row["status"] for row in rows] == ["active", "withdrawn", "active"]
    assert [row["supersedes"] for row in rows] == [None, rows[0]["id"], rows[1]["id"]]
    assert rows[1]["withdrawn_at"]
    assert rows[0]["withdrawn_at"] is None


def test_the_same_consent_twice_is_one_row(known: Store):
    """Recording is idempotent."""
    assert record_consent(known, SUBJECT, ACTIVE) == record_consent(known, SUBJECT, ACTIVE)
    assert len(consents(known, SUBJECT)) == 1


def test_an_unknown_subject_has_no_consent(store: Store):
    """A key that the store does not hold is a mistake of the user, named as such."""
    with pytest.raises(ConfigurationRejected, match="does not hold"):
        record_consent(store, SUBJECT, ACTIVE)
    with pytest.raises(ConfigurationRejected, match="does not hold"):
        require(store, SUBJECT)
    assert consent_on_record(store, SUBJECT) is None
