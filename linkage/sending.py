"""Sending objects to an archive, which then holds copies as the recipient of an export does.

Whose they are is told by their DICOM study. Their consents are asked as for an export; the archive is on record before
the first object leaves, and stays there if the sending ends half way: an access report and an erasure name it.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection, select

from ..core.errors import ConsentDenied
from . import tables
from .audit import record_action
from .consent import denied, why_denied
from .exporting import CATEGORIES, keep_denials, permitted, record_recipient
from .store import Store
from .subject import SubjectKey

NAME, VERSION = "dicom", "PS3"
"""As what the objects left."""


def put_on_record(
    store: Store, studies: Iterable[str], recipient: str, *, sha256: str, purpose: str = "HRESCH"
) -> tuple[SubjectKey, ...]:
    """Ask and record that a recipient gets objects of these DICOM studies; returns the subjects whose they are.

    studies  Study Instance UIDs; those that the store does not know are nobody's here
    sha256   of what is sent

    Raises ConsentDenied where the consent of one of the subjects does not cover it: then nothing may be sent.
    """
    try:
        with store.writing() as connection:
            owners = owners_of(connection, studies)
            allowed, _ = permitted(store, connection, owners, purpose, is_cohort=False)
            if owners:
                record_recipient(connection, NAME, VERSION, sha256, recipient, purpose, allowed)
                about = {"standard": NAME, "sha256": sha256, "recipient": recipient, "subjects": len(owners)}
                for key in owners:
                    record_action(store, connection, "export", key, about)
    except ConsentDenied:
        with store.reading() as connection:
            owners = owners_of(connection, studies)
        keep_denials(store, owners, purpose)
        raise
    return owners


def would_go(store: Store, studies: Iterable[str], *, purpose: str = "HRESCH") -> tuple[SubjectKey, ...]:
    """The same question, and nothing is written."""
    with store.reading() as connection:
        owners = owners_of(connection, studies)
        for key in owners:
            if reason := why_denied(connection, key, purpose, CATEGORIES):
                raise denied(reason, "export")
    return owners


def owners_of(connection: Connection, studies: Iterable[str]) -> tuple[SubjectKey, ...]:
    """The subjects of the store whose images are in these DICOM studies."""
    series = tables.image_series.c
    found = select(series.subject).where(series.study_uid.in_(sorted(set(studies)))).distinct()
    return tuple(SubjectKey(key) for key in connection.execute(found.order_by(series.subject)).scalars())
