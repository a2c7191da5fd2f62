"""The verbs of ``consent`` as Python calls."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from .console import Result


def consent_template() -> Result:
    """A consent file to fill in."""
    from ..linkage.consent import TEMPLATE

    return Result({"template": TEMPLATE}, TEMPLATE)


def consent_record(store: Path, subject: str, file: Path, *, dry_run: bool = False) -> Result:
    """Record a consent of a subject."""
    from ..linkage.consent import read_consent, record_consent
    from ..linkage.store import Store
    from ..linkage.subject import SubjectKey

    consent = read_consent(file)
    if dry_run:
        return Result(
            {"dry_run": True, "subject": subject, "consent": asdict(consent)},
            f"Would record for {subject}: {consent.status}, purposes {', '.join(consent.purposes)}.",
        )
    row = record_consent(Store.open(store), SubjectKey(subject), consent)
    return Result(
        {"subject": subject, "consent": row, "status": consent.status}, f"{subject}: {consent.status} ({row})"
    )


def consent_withdraw(store: Path, subject: str, *, dry_run: bool = False) -> Result:
    """Withdraw a subject's consent."""
    from ..linkage.consent import withdraw
    from ..linkage.store import Store
    from ..linkage.subject import SubjectKey

    if dry_run:
        return Result(
            {"dry_run": True, "subject": subject}, f"Would withdraw the consent of {subject}: no further run."
        )
    row = withdraw(Store.open(store), SubjectKey(subject))
    return Result({"subject": subject, "consent": row, "status": "withdrawn"}, f"{subject}: withdrawn ({row})")


def consent_show(store: Path, subject: str) -> Result:
    """Every consent of a subject."""
    from ..linkage.consent import consents
    from ..linkage.store import Store
    from ..linkage.subject import SubjectKey

    rows = consents(Store.open(store, read_only=True), SubjectKey(subject))
    words = [
        f"{row['recorded_at']}  {row['status']:<9}  {', '.join(row['purposes'])}; {', '.join(row['categories'])}"
        for row in rows
    ]
    return Result(
        {"subject": subject, "consents": [dict(row) for row in rows]}, "\n".join(words) or "No consent is on record."
    )
