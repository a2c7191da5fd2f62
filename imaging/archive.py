"""DICOM objects into an archive and the question what it holds: DICOMweb (PS3.18), STOW-RS and QIDO-RS.

Files are sent as they are, one a request, so that an archive gets the bytes that were written. An address names the
service's root (``http://host:8042/dicom-web``).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from hashlib import sha256
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from ..core.errors import ConfigurationRejected, StorageFault
from ..core.quantity import Parameter

PATIENCE = Parameter(
    60.0,
    "s",
    "longest wait for an archive's answer",
    "project specification, imaging §13",
    range=(1, 600),
    assumed=True,
)
FAILED, STORED, INSTANCE, REASON = "00081198", "00081199", "00081155", "00081197"
"""Failed SOP, Referenced SOP, Referenced SOP Instance UID, Failure Reason (DICOM PS3.18 table I.2-1)."""
SOP_INSTANCE = "00080018"
_JSON = "application/dicom+json"


def send(files: Iterable[Path | str], url: str) -> tuple[str, ...]:
    """Store DICOM files in an archive (STOW-RS); returns the SOP Instance UIDs that it says it stored.

    Raises ConfigurationRejected where no archive answers there, StorageFault for an object that it refuses; those
    sent before it are stored.
    """
    stored: list[str] = []
    for number, file in enumerate(files, start=1):
        body, boundary = _multipart(Path(file).read_bytes())
        kind = f'multipart/related; type="application/dicom"; boundary={boundary}'
        answer = _ask(Request(f"{_root(url)}/studies", body, {"Content-Type": kind, "Accept": _JSON}), f"file {number}")
        refused = answer.get(FAILED, {}).get("Value", []) if isinstance(answer, dict) else [{}]
        if refused:
            reason = refused[0].get(REASON, {}).get("Value", ["not told"])[0]
            raise StorageFault(
                f"the archive refused file {number} (reason {reason})",
                "an object that the archive accepts",
                "ask its administrator which kinds of object it stores",
            )
        stored += [one[INSTANCE]["Value"][0] for one in answer.get(STORED, {}).get("Value", [])]
    return tuple(stored)


def held(url: str, study_uid: str) -> frozenset[str]:
    """SOP Instance UIDs of a study that an archive holds (QIDO-RS); empty for a study that it does not know."""
    answer = _ask(Request(f"{_root(url)}/studies/{study_uid}/instances", headers={"Accept": _JSON}), "the question")
    return frozenset(str(one[SOP_INSTANCE]["Value"][0]) for one in answer or [])


def _root(url: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise ConfigurationRejected(
            "an address that is none of a DICOMweb service", "http://… or https://…", "correct the address"
        )
    return url.rstrip("/")


def _multipart(content: bytes) -> tuple[bytes, str]:
    """(body, boundary) of a request with one part; the boundary occurs nowhere in the content."""
    boundary = f"oncoscale-{sha256(content).hexdigest()}"
    head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    return b"".join([head, content, f"\r\n--{boundary}--\r\n".encode()]), boundary


def _ask(request: Request, what: str) -> Any:
    """The archive's answer, decoded. Raises ConfigurationRejected, StorageFault."""
    try:
        with urlopen(request, timeout=PATIENCE.value) as reply:
            content = reply.read()
    except HTTPError as error:
        if error.code == 404:
            raise ConfigurationRejected(
                "the address answers, and is not that of a DICOMweb service (404)",
                "the root of the service, such as http://host:8042/dicom-web",
                "correct the address",
            ) from None
        raise StorageFault(
            f"the archive refused {what} (HTTP {error.code})",
            "an object that the archive accepts",
            "ask its administrator which kinds of object it stores",
        ) from None
    except (OSError, HTTPException) as error:
        raise ConfigurationRejected(
            f"no archive answers at the address ({type(error).__name__})",
            "a DICOMweb service",
            "check the address, and that the archive runs",
        ) from None
    try:
        return json.loads(content) if content else {}
    except ValueError:
        raise ConfigurationRejected(
            "the address answers in another language than DICOM JSON", "a DICOMweb service", "correct the address"
        ) from None
