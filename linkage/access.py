"""What a person may ask for: everything that is held about them, who received it, and by which right it is held.

The report answers article 15 of Regulation (EU) 2016/679 as far as the store can; ``export SUBJECT --as fhir`` and
``--as ro-crate`` give the same data in forms that others read (article 20).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import select

from ..core.files import content_hash
from . import core, tables
from .audit import entries, record_action
from .consent import require_subject
from .erasing import plan
from .holding import held
from .reasons import refuse_identity
from .retention import rules
from .store import Store
from .subject import SubjectKey
from .vault import Vault

RIGHTS = {
    "access and copy": "oncoscale access SUBJECT; oncoscale export SUBJECT (articles 15 and 20)",
    "withdrawal of consent": "oncoscale consent withdraw SUBJECT: no further run, review or export (article 7(3))",
    "rectification": "record a new consent, or ingest corrected files (article 16)",
    "erasure": "oncoscale erase SUBJECT (article 17)",
    "complaint": "to the supervisory authority of the country (article 77)",
}
AUTOMATED = "Forecasts are research results. No decision about a person is made by this program (article 22)."
NOTICE = "Pseudonymised data remain personal data (Regulation (EU) 2016/679, art. 4(5))."


def access_report(store: Store, subject: SubjectKey, *, vault: Vault) -> dict[str, Any]:
    """Everything held about a subject, ready for JSON; that it was asked for goes on record.

    Raises ConfigurationRejected if the store does not hold the subject.
    """
    would_go = plan(store, subject, vault=vault)
    with store.writing() as connection:
        require_subject(connection, subject)
        held_rows = core.for_json(held(connection, [subject]))
        elsewhere = [
            dict(row)
            for row in connection.execute(
                select(tables.mapping).where(tables.mapping.c.core_id.in_(_identifiers(held_rows) | {subject}))
            ).mappings()
        ]
        record_action(store, connection, "access", subject)
    ruling = rules(store)
    return {
        "notice": NOTICE,
        "subject": subject,
        "purpose": ruling.purpose,
        "legal_basis": ruling.legal_basis,
        "retention_until": ruling.retention_until,
        "held": held_rows,
        "files": list(_files(store, would_go.files)),
        "with_others": list(would_go.pooled),
        "recipients": [vars(one) for one in would_go.recipients],
        "called_elsewhere": elsewhere,
        "named_in_vault": would_go.in_vault,
        "actions": entries(store, last=1_000_000, about=subject),
        "rights": RIGHTS,
        "automated_decisions": AUTOMATED,
    }


def reidentify(store: Store, subject: SubjectKey, reason: str, *, vault: Vault) -> tuple[str, str]:
    """(site, local identifier) of a subject; that somebody asked, and the hash of why, goes on record first.

    Raises ConfigurationRejected for a subject that the store does not hold, or a reason that names one.
    """
    with store.writing() as connection:
        require_subject(connection, subject)
        refuse_identity(reason, connection, vault)
        record_action(store, connection, "reidentify", subject, {"reason": reason})
    return vault.reidentify(subject)


def _identifiers(held_rows: dict[str, list[dict[str, Any]]]) -> set[str]:
    return {str(row[name]) for rows in held_rows.values() for row in rows for name in ("id", "uid") if row.get(name)}


def _files(store: Store, names: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """Every file of the subject's own: place, size and hash."""
    for name in names:
        place = store.path / name
        for path in sorted(place.rglob("*")) if place.is_dir() else [place]:
            if path.is_file():
                relative = path.relative_to(store.path).as_posix()
                yield {"file": relative, "bytes": path.stat().st_size, "sha256": content_hash(path)}
