"""Consent: what a subject allowed, asked before every run and every export.

A consent file is TOML or JSON. ``status`` alone is enough; what is left out takes the defaults of ``Consent``::

    status = "active"                       # active, withdrawn, expired or refused
    legal_basis = "consent"                 # or the law that replaces it
    purposes = ["HRESCH"]                   # HL7 ActReason: HRESCH healthcare research, DSRCH, BIORCH, MLTRAINING
    categories = ["imaging", "simulation"]  # kinds of data that may be used
    valid_from = 2024-01-31                 # default: the day it is recorded
    valid_until = 2034-01-31                # default: no end
    document = "signed-form.pdf"            # the signed form, or its SHA-256; only the hash is stored

Rows are never edited, only superseded; the newest of a subject decides. These are controls, not legal advice.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import date, datetime
from difflib import get_close_matches
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

from sqlalchemy import Connection, insert, select

from ..core.errors import ConfigurationRejected, ConsentDenied
from ..core.files import canonical_json, content_hash
from . import tables
from .audit import record_action
from .store import PROJECT, Store, code_id, now
from .subject import SubjectKey

Operation = Literal["ingest", "run", "export", "review", "share"]

ACT_REASON = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
PURPOSES: Mapping[str, str] = {
    "HRESCH": "healthcare research",
    "DSRCH": "disease specific healthcare research",
    "BIORCH": "biomedical research",
    "MLTRAINING": "model training",
}
CATEGORIES: Mapping[str, str] = {
    "imaging": "Body (Radiological) image",
    "simulation": "models and forecasts computed from the others",
    "clinical": "Clinical",
    "genomic": "Genomic",
    "genetic": "genetic data",
    "pathology": "Whole slide image",
    "physiological": "Physiological",
    "biochemical": "Biochemical",
    "lifestyle": "Lifestyle",
    "environmental": "Environmental",
    "psychological": "Psychological",
    "proteomic": "Proteomic",
    "metabolomic": "Metabolomic",
    "photo": "Photo image",
    "genealogical": "Genealogical records",
    "other": "Other",
}
"""Kinds of data: the dataset types of MIABIS Core 3.0 [Eklund 2024, doi 10.1089/bio.2023.0074] and two more."""
STATUSES = ("active", "withdrawn", "expired", "refused")
POLICY = {
    "version": 1,
    "decides": "newest consent of the subject in the project",
    "denies": [
        "missing",
        "withdrawn",
        "refused",
        "expired",
        "not yet valid",
        "purpose",
        "category",
        "legal basis",
        "retention",
    ],
}
POLICY_SHA256 = sha256(canonical_json(POLICY).encode()).hexdigest()

TEMPLATE = """\
# Consent of one subject. Only `status` is required; the other lines show the defaults or an example.
status = "active"                       # active, withdrawn, expired or refused
legal_basis = "consent"                 # or the law that replaces it
purposes = ["HRESCH"]                   # HRESCH healthcare research, DSRCH, BIORCH, MLTRAINING
categories = ["imaging", "simulation"]  # kinds of data that may be used
# valid_from = 2024-01-31               # default: the day it is recorded
# valid_until = 2034-01-31              # default: no end
# document = "signed-form.pdf"          # the signed form beside this file, or its SHA-256; only the hash is stored
"""

_OTHER_NAMES = {
    "purpose": "purposes",
    "category": "categories",
    "basis": "legal_basis",
    "from": "valid_from",
    "until": "valid_until",
    "document_sha256": "document",
    "state": "status",
}


@dataclass(frozen=True)
class Consent:
    """What one subject allowed.

    status           active, withdrawn, expired or refused
    purposes         codes of PURPOSES
    categories       keys of CATEGORIES
    valid_from       ISO date; empty: the day it is recorded
    valid_until      ISO date, the last day included; empty: no end
    document_sha256  of the signed form, else of the consent file itself
    """

    status: str
    legal_basis: str = "consent"
    purposes: tuple[str, ...] = ("HRESCH",)
    categories: tuple[str, ...] = ("imaging", "simulation")
    valid_from: str = ""
    valid_until: str = ""
    document_sha256: str = ""


@dataclass(frozen=True)
class Decision:
    """The answer to one question of consent, as it stands in the store.

    reason   why not; empty for a permit
    consent  id of the consent row it rests on, None if there is none
    """

    id: str
    subject: SubjectKey
    operation: Operation
    purpose: str
    categories: tuple[str, ...]
    consent: str | None
    outcome: Literal["permit", "deny"]
    reason: str

    @property
    def permits(self) -> bool:
        """True if the operation may go on."""
        return self.outcome == "permit"


def read_consent(path: Path | str) -> Consent:
    """A consent file as described above. Raises ConfigurationRejected for what it does not understand."""
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigurationRejected(
            f"the consent file cannot be read: {error.strerror}",
            "a TOML or JSON file",
            "write one with: oncoscale consent template",
        ) from error
    stated = _parsed(data)
    known = tuple(field for field in Consent.__dataclass_fields__ if field != "document_sha256") + ("document",)
    values: dict[str, Any] = {}
    for key, value in stated.items():
        name = key.strip().lower().replace("-", "_")
        name = _OTHER_NAMES.get(name, name)
        if name not in known:
            raise _unknown("key", key, known)
        values[name] = value
    if "status" not in values:
        raise ConfigurationRejected(
            "the consent file does not say its status",
            f"status = one of {', '.join(STATUSES)}",
            'add the line: status = "active"',
        )
    document = values.pop("document", "")
    return Consent(
        status=_one_of("status", values.pop("status"), STATUSES),
        purposes=_each_of("purpose", values.pop("purposes", Consent.purposes), PURPOSES, str.upper),
        categories=_each_of("category", values.pop("categories", Consent.categories), CATEGORIES, str.lower),
        valid_from=_day("valid_from", values.pop("valid_from", "")),
        valid_until=_day("valid_until", values.pop("valid_until", "")),
        legal_basis=str(values.pop("legal_basis", Consent.legal_basis)).strip(),
        document_sha256=_document(document, path.parent) or sha256(data).hexdigest(),
    )


def record_consent(store: Store, subject: SubjectKey, consent: Consent) -> str:
    """Write a consent that supersedes the subject's last one; the same consent twice is written once.

    Returns the id of the row. Raises ConfigurationRejected if the store does not hold the subject.
    """
    with store.writing() as connection:
        require_subject(connection, subject)
        return add_consent(store, connection, subject, consent)


def add_consent(store: Store, connection: Connection, subject: SubjectKey, consent: Consent) -> str:
    """record_consent inside a transaction that is open already."""
    last = _newest(connection, subject)
    if last is not None and _says_the_same(last, consent):
        return str(last["id"])
    if last is not None and last["status"] == "withdrawn" and _same_document(last, consent):
        raise ConsentDenied(
            "this consent was withdrawn",
            "a consent given anew, with a document of its own",
            "record the new signed form, if the subject gave one",
        )
    at = now()
    row = {
        "id": "C-" + uuid4().hex,
        "subject": subject,
        "study": PROJECT,
        "status": consent.status,
        "legal_basis": consent.legal_basis,
        "purposes": canonical_json(list(consent.purposes)),
        "categories": canonical_json(list(consent.categories)),
        "valid_from": consent.valid_from or at[:10],
        "valid_until": consent.valid_until or None,
        "document_sha256": consent.document_sha256,
        "recorded_at": at,
        "withdrawn_at": at if consent.status == "withdrawn" else None,
        "supersedes": last["id"] if last is not None else None,
    }
    connection.execute(insert(tables.consent).values(**row))
    record_action(store, connection, "consent", subject, {"consent": row["id"], "status": consent.status})
    return str(row["id"])


def withdraw(store: Store, subject: SubjectKey) -> str:
    """Withdraw the subject's consent, at once. Raises ConsentDenied if none is on record."""
    with store.writing() as connection:
        require_subject(connection, subject)
        last = _newest(connection, subject)
        if last is None:
            raise ConsentDenied(
                "no consent is on record for this subject",
                "a consent to withdraw",
                "nothing is permitted without one, so nothing needs to be done",
            )
        return add_consent(store, connection, subject, replace(_consent_of(last), status="withdrawn"))


def consents(store: Store, subject: SubjectKey) -> tuple[Mapping[str, Any], ...]:
    """Every consent of a subject, oldest first, ready for JSON."""
    with store.reading() as connection:
        require_subject(connection, subject)
        return consents_within(connection, subject)


def consents_within(connection: Connection, subject: SubjectKey) -> tuple[Mapping[str, Any], ...]:
    """consents of a subject that is there, in a transaction that is open already."""
    return tuple(
        {**row, "purposes": json.loads(row["purposes"]), "categories": json.loads(row["categories"])}
        for row in _rows(connection, subject)
    )


def decide(
    store: Store,
    subject: SubjectKey,
    operation: Operation,
    purpose: str = "HRESCH",
    categories: Iterable[str] = ("imaging", "simulation"),
) -> Decision:
    """Ask for permission; the answer, permit or deny, is written and audited. Raises nothing for a denial."""
    with store.writing() as connection:
        require_subject(connection, subject)
        return add_decision(store, connection, subject, operation, purpose, categories)


def add_decision(
    store: Store,
    connection: Connection,
    subject: SubjectKey,
    operation: Operation,
    purpose: str = "HRESCH",
    categories: Iterable[str] = ("imaging", "simulation"),
) -> Decision:
    """decide inside a transaction that is open already."""
    categories = tuple(categories)
    last = _newest(connection, subject)
    reason = _reason_to_deny(connection, last, purpose, categories)
    decision = Decision(
        "D-" + uuid4().hex,
        subject,
        operation,
        purpose,
        categories,
        str(last["id"]) if last is not None else None,
        "deny" if reason else "permit",
        reason,
    )
    row = {
        **asdict(decision),
        "purpose": code_id(connection, ACT_REASON, purpose, PURPOSES.get(purpose, purpose)),
        "categories": canonical_json(list(categories)),
        "policy_sha256": POLICY_SHA256,
        "at": now(),
    }
    connection.execute(insert(tables.decision).values(**row))
    record_action(store, connection, "decision", subject, {"decision": decision.id, "outcome": decision.outcome})
    return decision


def require(
    store: Store,
    subject: SubjectKey,
    operation: Operation = "run",
    purpose: str = "HRESCH",
    categories: Iterable[str] = ("imaging", "simulation"),
) -> Decision:
    """A permit, or ConsentDenied with the reason named. Ask before anything is computed or exported."""
    decision = decide(store, subject, operation, purpose, categories)
    if not decision.permits:
        raise denied(decision.reason, operation)
    return decision


def still_permitted(store: Store, decision: Decision) -> bool:
    """True while the consent that a permit rests on still holds: ask again between steps of a long run.

    Raises ConsentDenied if the subject was erased since: no row may name it any more, not even that of a stop.
    """
    with store.reading() as connection:
        return still_permitted_within(connection, decision)


def still_permitted_within(connection: Connection, decision: Decision) -> bool:
    """still_permitted in a transaction that is open already: what it then writes, no withdrawal can come before."""
    if not connection.execute(select(tables.subject.c.key).where(tables.subject.c.key == decision.subject)).first():
        raise ConsentDenied("the subject was erased", "a subject that the store holds", "remove what the run wrote")
    return not _reason_to_deny(connection, _newest(connection, decision.subject), decision.purpose, decision.categories)


def why_denied(connection: Connection, subject: SubjectKey, purpose: str, categories: Iterable[str]) -> str:
    """Why the subject's consent does not permit this today; empty if it does. Nothing is written."""
    return _reason_to_deny(connection, _newest(connection, subject), purpose, tuple(categories))


def denied(reason: str, operation: Operation) -> ConsentDenied:
    """The error for a denial."""
    plain = {
        "missing": "no consent is on record for this subject",
        "withdrawn": "the subject's consent is withdrawn",
        "refused": "the subject refused consent",
        "expired": "the subject's consent is expired",
        "not yet valid": "the subject's consent is not valid yet",
    }
    what = plain.get(reason, f"the subject's consent does not cover: {reason}")
    return ConsentDenied(
        what,
        f"an active consent that covers this {operation}",
        "record it with `oncoscale consent record SUBJECT FILE --store STORE`, if the subject gave it",
    )


def require_subject(connection: Connection, subject: SubjectKey) -> None:
    """Raise ConfigurationRejected unless the store holds the subject."""
    if connection.execute(select(tables.subject.c.key).where(tables.subject.c.key == subject)).first() is None:
        raise ConfigurationRejected(
            "the store does not hold that subject",
            "a key that begins with P-, as ingest prints",
            "list the subjects with: oncoscale show --store STORE",
        )


def _rows(connection: Connection, subject: SubjectKey) -> list[Mapping[str, Any]]:
    """Every consent of a subject in the project, the one that decides last."""
    own = (tables.consent.c.subject == subject, tables.consent.c.study == PROJECT)
    rows = {row["id"]: dict(row) for row in connection.execute(select(tables.consent).where(*own)).mappings()}

    def order(row: Mapping[str, Any]) -> tuple[str, int, str]:
        """When it was recorded, never before what it supersedes; then how much it supersedes."""
        latest, steps, above = row["recorded_at"], 0, row
        while (above := rows.get(above["supersedes"] or "", {})) and steps <= len(rows):
            latest, steps = max(latest, above["recorded_at"]), steps + 1
        return latest, steps, row["id"]

    return sorted(rows.values(), key=order)


def consent_on_record(store: Store, subject: SubjectKey) -> Consent | None:
    """The consent that decides about a subject; None if there is none, or no such subject."""
    with store.reading() as connection:
        row = _newest(connection, subject)
    return None if row is None else _consent_of(row)


def _newest(connection: Connection, subject: SubjectKey) -> Mapping[str, Any] | None:
    rows = _rows(connection, subject)
    return rows[-1] if rows else None


def _says_the_same(row: Mapping[str, Any], consent: Consent) -> bool:
    recorded = _consent_of(row)
    return recorded == replace(consent, valid_from=consent.valid_from or recorded.valid_from)


def _same_document(row: Mapping[str, Any], consent: Consent) -> bool:
    return consent.status == "active" and row["document_sha256"] == consent.document_sha256


def objection(consent: Consent, purpose: str, categories: Iterable[str]) -> str:
    """Why a consent does not permit this purpose and these kinds of data today; empty if it does."""
    today = now()[:10]
    if consent.status != "active":
        return consent.status
    if consent.valid_until and today > consent.valid_until:
        return "expired"
    if today < consent.valid_from:
        return "not yet valid"
    if not consent.legal_basis:
        return "legal basis"
    if purpose not in consent.purposes:
        return f"purpose {purpose}"
    uncovered = [name for name in categories if name not in consent.categories]
    return f"category {', '.join(uncovered)}" if uncovered else ""


def _reason_to_deny(
    connection: Connection, row: Mapping[str, Any] | None, purpose: str, categories: tuple[str, ...]
) -> str:
    """Why the answer is no; empty if it is yes."""
    if row is None:
        return "missing"
    if reason := objection(_consent_of(row), purpose, categories):
        return reason
    project = select(tables.study.c.retention_until).where(tables.study.c.id == PROJECT)
    return "retention" if now()[:10] > connection.execute(project).scalar_one() else ""


def _consent_of(row: Mapping[str, Any]) -> Consent:
    return Consent(
        row["status"],
        row["legal_basis"],
        tuple(json.loads(row["purposes"])),
        tuple(json.loads(row["categories"])),
        row["valid_from"],
        row["valid_until"] or "",
        row["document_sha256"],
    )


def _parsed(data: bytes) -> Mapping[str, Any]:
    """The file's table, from JSON or TOML, whichever it is."""
    text = data.decode("utf-8-sig", "replace")
    try:
        stated = json.loads(text) if text.lstrip().startswith("{") else tomllib.loads(text)
    except (json.JSONDecodeError, tomllib.TOMLDecodeError) as error:
        where = getattr(error, "lineno", None)
        raise ConfigurationRejected(
            "the consent file is neither TOML nor JSON" + (f" (line {where})" if where else ""),
            "a TOML or JSON file",
            "write one with: oncoscale consent template",
        ) from None
    if list(stated) == ["consent"] and isinstance(stated["consent"], dict):
        stated = stated["consent"]
    return dict(stated)


def _unknown(what: str, found: str, known: Iterable[str]) -> ConfigurationRejected:
    near = get_close_matches(str(found).lower(), [name.lower() for name in known], n=1, cutoff=0.5)
    hint = next((name for name in known if near and name.lower() == near[0]), "")
    return ConfigurationRejected(
        f"the consent file has an unknown {what} {found[:40]!r}",
        "one of " + ", ".join(known),
        f"write {hint!r}" if hint else "correct the file",
    )


def _one_of(what: str, found: Any, known: Iterable[str]) -> str:
    text = str(found).strip().lower()
    if text not in known:
        raise _unknown(what, str(found), known)
    return text


def _each_of(what: str, found: Any, known: Mapping[str, str], spelling: Any) -> tuple[str, ...]:
    listed = found if isinstance(found, list | tuple) else [found]
    meanings = {meaning.lower(): code for code, meaning in known.items()}
    codes = [meanings.get(str(value).strip().lower(), spelling(str(value).strip())) for value in listed]
    for code in codes:
        if code not in known:
            raise _unknown(what, code, known)
    return tuple(codes)


def _day(what: str, found: Any) -> str:
    if isinstance(found, datetime):
        return found.date().isoformat()
    if isinstance(found, date):
        return found.isoformat()
    try:
        return date.fromisoformat(str(found).strip()[:10]).isoformat() if str(found).strip() else ""
    except ValueError:
        raise ConfigurationRejected(
            f"the consent file's {what} is not a date", "a date like 2024-01-31", "correct the file"
        ) from None


def _document(stated: Any, folder: Path) -> str:
    """SHA-256 of the signed form: as stated, or of the file named."""
    text = str(stated).strip()
    if not text or re.fullmatch(r"[0-9a-fA-F]{64}", text):
        return text.lower()
    try:
        return content_hash(folder / text)
    except OSError:
        raise ConfigurationRejected(
            "the document that the consent file names cannot be read",
            "a file beside the consent file, or its SHA-256",
            "correct `document`",
        ) from None
