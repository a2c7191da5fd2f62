"""Pseudonyms: keyed, one-way functions from what a hospital calls things to what the store calls them.

All are HMAC-SHA256 with the project key, so the same person and the same image keep the same name within a
project, and nobody without the key can compute or reverse one, even by trying every hospital number. Another
project has another key, and its subjects cannot be matched with these. Pseudonymised data remain personal
data (Regulation (EU) 2016/679, art. 4(5)).
"""

from __future__ import annotations

import hmac
from base64 import b32encode
from hashlib import sha256
from typing import NewType
from unicodedata import normalize
from uuid import UUID

SubjectKey = NewType("SubjectKey", str)
"""``P-`` and 16 characters of base32: all that the rest of the code ever knows of a person."""

STANDARD_UID_PREFIX = "1.2.840.10008."
SEPARATOR = b"\x1f"
SHORTEST_SHIFT, SHIFT_RANGE = 28, 1826


def digest(key: bytes, *parts: str) -> bytes:
    """HMAC-SHA256 of the parts, NFC-normalised, outer blanks stripped, joined by the unit separator."""
    message = SEPARATOR.join(normalize("NFC", part).strip().encode() for part in parts)
    return hmac.new(key, message, sha256).digest()


def _short(code: bytes) -> str:
    """16 characters of base32: 80 bits; 1e6 names collide with probability 4e-13."""
    return b32encode(code).decode()[:16]


def subject_key(key: bytes, site: str, local_id: str) -> SubjectKey:
    """The pseudonym of a person known as ``local_id`` at ``site``; case and leading zeros count.

    >>> subject_key(bytes(range(32)), "site1", "0001")
    'P-HNU76GYAPKGZMXDN'
    """
    return SubjectKey("P-" + _short(digest(key, "subject", site, local_id)))


def imaging_study_id(key: bytes, identities: list[str]) -> str:
    """``T-`` and 16 characters: one visit's images, from its study UIDs (or content hashes, without DICOM)."""
    return "T-" + _short(digest(key, "imaging-study", *sorted(identities)))


def mapped_uid(key: bytes, uid: str) -> str:
    """A UUID-derived UID (``2.25.…``, at most 44 characters) in place of ``uid``; UIDs of the standard stay.

    Being a function, it keeps every reference inside and between objects (DICOM PS3.5 B.2 for the form).

    >>> mapped_uid(bytes(range(32)), "1.2.840.113619.2.1.1")
    '2.25.16328302168084797704961140942628418281'
    """
    if uid.startswith(STANDARD_UID_PREFIX):
        return uid
    return f"2.25.{UUID(bytes=digest(key, 'uid', uid)[:16], version=5).int}"


def date_shift(key: bytes, subject: SubjectKey) -> int:
    """Days by which every date of this subject moves into the past: constant, 28 to 1853.

    >>> date_shift(bytes(range(32)), SubjectKey("P-HNU76GYAPKGZMXDN"))
    404
    """
    return SHORTEST_SHIFT + int.from_bytes(digest(key, "shift", subject)[:8], "big") % SHIFT_RANGE
