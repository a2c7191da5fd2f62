"""An archive that speaks DICOMweb (DICOM PS3.18): STOW-RS, QIDO-RS and WADO-RS, with a login.

Files are sent as they are, one a request, so that an archive gets the bytes that were written. A login goes only
over a connection that others cannot read, and never on to another address.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from http.client import HTTPException
from ipaddress import ip_address
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from ..core.errors import ConfigurationRejected, OncoscaleError, StorageFault
from ..core.quantity import Parameter
from .archive import Instance, Outgoing, Question, StudyRow, check_uid
from .dicom_files import read_bytes

PATIENCE = Parameter(
    60.0,
    "s",
    "longest wait for an archive's answer",
    "project specification, imaging §13",
    range=(1, 600),
    assumed=True,
)
PAGE = 1000
"""Objects asked for at a time; an archive that gives fewer is asked on from there."""
FAILED, STORED, REASON = "00081198", "00081199", "00081197"
"""Failed SOP, Referenced SOP, Failure Reason (DICOM PS3.18 table I.2-1)."""
SOP_CLASS, SOP_INSTANCE, STUDY, SERIES = "00080016", "00080018", "0020000D", "0020000E"
MODALITY, MODALITIES, DATE, DESCRIPTION = "00080060", "00080061", "00080020", "00081030"
PATIENT, SERIES_COUNT, INSTANCE_COUNT = "00100020", "00201206", "00201208"
_JSON = "application/dicom+json"
_FILE = 'multipart/related; type="application/dicom"; transfer-syntax=*'
"""One object as a file, in the coding in which it is stored (DICOM PS3.18 §8.7.3)."""


@dataclass(frozen=True)
class Login:
    """Who asks: a user with a password, or a token; either is kept out of every picture of this object."""

    user: str = ""
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)

    def header(self) -> dict[str, str]:
        """The Authorization header: Basic (RFC 7617) or Bearer (RFC 6750)."""
        if self.token:
            return {"Authorization": f"Bearer {self.token}"}
        pair = b64encode(f"{self.user}:{self.password}".encode()).decode()
        return {"Authorization": f"Basic {pair}"}


class _Refused(StorageFault):
    """One object was refused; the others may be taken."""


class _NoRedirect(HTTPRedirectHandler):
    """Follows nothing: a login must not wander to another address, nor an object be sent by another verb."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


@dataclass(frozen=True)
class DicomWeb:
    """An archive at the root of its service (``https://host/dicom-web``).

    login       None: none is sent
    plain_http  a login may go over a connection that is not encrypted, to another machine too
    """

    url: str
    login: Login | None = None
    plain_http: bool = False

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
            raise ConfigurationRejected(
                "an address that is none of a DICOMweb service",
                "http://… or https://…, without a login in it",
                "correct the address",
            )
        if self.login and parts.scheme == "http" and not self.plain_http and not _is_this_machine(parts.hostname):
            raise ConfigurationRejected(
                "a login over a connection that others can read (http)",
                "https, or an archive on this machine",
                "use the archive's https address, or --plain-http where the network itself is closed",
            )

    def studies(self, question: Question) -> tuple[StudyRow, ...]:
        """The studies that it has of those sought (QIDO-RS)."""
        asked = {
            STUDY: question.study,
            PATIENT: question.patient,
            DATE: question.dates,
            MODALITIES: question.modality,
        }
        terms = {key: value for key, value in asked.items() if value}
        fields = ",".join((MODALITIES, DESCRIPTION, SERIES_COUNT, INSTANCE_COUNT))
        return tuple(_study_row(row) for row in self._rows("studies", terms | {"includefield": fields}))

    def instances(self, study: str, series: Iterable[str] = ()) -> tuple[Instance, ...]:
        """What it holds of a study, by series if they are named (QIDO-RS); nothing of a study that it does not know."""
        named = tuple(series)
        for uid in (study, *named):
            check_uid(uid)
        if not named:
            return tuple(_instance(row, study) for row in self._below(f"studies/{study}/instances"))
        return tuple(
            _instance(row, study, uid)
            for uid in named
            for row in self._below(f"studies/{study}/series/{uid}/instances")
        )

    def search(
        self, place: str, match: Mapping[str, str], fields: Sequence[str], *, most: int = 0
    ) -> list[Mapping[str, Any]]:
        """Rows of DICOM JSON (QIDO-RS): of ``studies``, or below one (``studies/UID/series``), none if it is unknown.

        match   DICOM keyword to what it must match
        fields  keywords that are asked for beside those that an archive tells of itself
        most    ask for no more rows; 0: for all
        """
        terms = dict(match) | ({"includefield": ",".join(fields)} if fields else {})
        return self._below(place, terms, most) if "/" in place else self._rows(place, terms, most)

    def store(self, objects: Sequence[Outgoing]) -> Iterator[tuple[Outgoing, str]]:
        """Send files (STOW-RS), one a request."""
        for one in objects:
            body, boundary = _multipart(read_bytes(one.path, f"file {one.number}"))
            kind = f'multipart/related; type="application/dicom"; boundary={boundary}'
            try:
                answer = _read_json(self._ask("studies", {"Content-Type": kind, "Accept": _JSON}, body))
            except _Refused as error:
                yield one, error.found
                continue
            yield one, _refusal(answer, one.instance.uid)

    def fetch(self, instances: Sequence[Instance]) -> Iterator[tuple[Instance, bytes | None]]:
        """The files of objects (WADO-RS), each in the coding in which it is stored."""
        for one in instances:
            place = f"studies/{one.study}/series/{one.series}/instances/{one.uid}"
            try:
                content, kind = self._ask(place, {"Accept": _FILE})
            except _Refused:
                yield one, None
                continue
            yield one, _single_part(content, kind)

    def _below(self, place: str, terms: Mapping[str, str] | None = None, most: int = 0) -> list[Mapping[str, Any]]:
        """The rows of a place below a study; none where the archive does not know the study or series."""
        try:
            return self._rows(place, terms or {}, most)
        except _Refused:
            self._ask("studies?limit=1", {"Accept": _JSON})
            return []

    def _rows(self, place: str, terms: Mapping[str, str], most: int = 0) -> list[Mapping[str, Any]]:
        """All answers to a question, page by page, until a page brings nothing new; with ``most`` no more than that."""
        rows: dict[str, Mapping[str, Any]] = {}
        while True:
            query = urlencode({**terms, "limit": most or PAGE, "offset": len(rows)}, safe=",")
            page = _read_json(self._ask(f"{place}?{query}", {"Accept": _JSON})) or []
            if not isinstance(page, list):
                raise _other_language()
            fresh = {json.dumps(row, sort_keys=True): row for row in page}
            new = {key: row for key, row in fresh.items() if key not in rows}
            rows |= new
            if most or not new or len(page) < PAGE:
                return list(rows.values())[: most or None]

    def _ask(self, place: str, headers: Mapping[str, str], body: bytes | None = None) -> tuple[bytes, str]:
        """(content, content type) of an answer. Raises ConfigurationRejected, _Refused, StorageFault."""
        login = self.login.header() if self.login else {}
        request = Request(f"{self.url.rstrip('/')}/{place}", body, {**headers, **login})
        try:
            with build_opener(_NoRedirect).open(request, timeout=PATIENCE.value) as reply:
                return reply.read(), reply.headers.get("Content-Type", "")
        except HTTPError as error:
            with error:
                if error.code == 409:
                    return error.read(), error.headers.get("Content-Type", "")
            raise _of_status(error.code, place) from None
        except (OSError, HTTPException, ValueError) as error:
            raise ConfigurationRejected(
                f"no archive answers at the address ({type(error).__name__})",
                "a DICOMweb service",
                "check the address, and that the archive runs",
            ) from None


def _is_this_machine(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _of_status(code: int, place: str) -> OncoscaleError:
    """What a status of HTTP means here (RFC 9110 §15)."""
    if code in (401, 403):
        return ConfigurationRejected(
            f"the archive refused the login (HTTP {code})" if code == 401 else "the login may not do this (HTTP 403)",
            "a user, or a token, that the archive knows and that may do this",
            "state it by --login FILE or in the environment (see `oncoscale archive --help`)",
        )
    if 300 <= code < 400:
        return ConfigurationRejected(
            f"the address answers that the archive is elsewhere (HTTP {code})",
            "the address of the service itself",
            "ask its administrator; nothing is sent on to another address",
        )
    if code == 404 and place.partition("?")[0] == "studies":
        return _no_service()
    if code == 404 or code in (400, 406, 410, 413, 415, 422):
        return _Refused(f"HTTP {code}", "an object that the archive accepts", "ask its administrator")
    return StorageFault(
        f"the archive failed (HTTP {code})", "an archive that works", "try again, or ask its administrator"
    )


def _no_service() -> ConfigurationRejected:
    return ConfigurationRejected(
        "the address answers, and is not that of a DICOMweb service (404)",
        "the root of the service, such as http://host:8042/dicom-web",
        "correct the address",
    )


def _other_language() -> ConfigurationRejected:
    return ConfigurationRejected(
        "the address answers in another language than DICOM JSON", "a DICOMweb service", "correct the address"
    )


def _read_json(answer: tuple[bytes, str]) -> Any:
    try:
        return json.loads(answer[0]) if answer[0] else {}
    except ValueError:
        raise _other_language() from None


def _value(row: Mapping[str, Any], tag: str) -> list[Any]:
    """The values of one element in DICOM JSON (PS3.18 annex F); none for one that is absent or malformed."""
    element = row.get(tag) if isinstance(row, Mapping) else None
    value = element.get("Value", []) if isinstance(element, Mapping) else []
    return value if isinstance(value, list) else []


def _word(row: Mapping[str, Any], tag: str) -> str:
    return str(next(iter(_value(row, tag)), ""))


def _count(row: Mapping[str, Any], tag: str) -> int:
    word = _word(row, tag)
    return int(word) if word.isdigit() else 0


def _study_row(row: Mapping[str, Any]) -> StudyRow:
    kinds = tuple(sorted(str(one) for one in _value(row, MODALITIES)))
    counts = _count(row, SERIES_COUNT), _count(row, INSTANCE_COUNT)
    return StudyRow(_word(row, STUDY), _word(row, DATE), kinds, _word(row, DESCRIPTION), *counts)


def _instance(row: Mapping[str, Any], study: str, series: str = "") -> Instance:
    return Instance(study, series or _word(row, SERIES), _word(row, SOP_INSTANCE), _word(row, SOP_CLASS))


def _refusal(answer: Any, uid: str) -> str:
    """Why an object was not stored (PS3.18 §10.5.3.1); empty if the archive says that it was."""
    refused = _value(answer, FAILED)
    if refused:
        return f"reason {_word(refused[0], REASON) or 'not told'}"
    stored = {_word(one, "00081155") for one in _value(answer, STORED)}
    return "" if uid in stored else "the archive does not say that it stored it"


def _multipart(content: bytes) -> tuple[bytes, str]:
    """(body, boundary) of a request with one part; the boundary occurs nowhere in the content."""
    boundary = f"oncoscale-{sha256(content).hexdigest()}"
    head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    return b"".join([head, content, f"\r\n--{boundary}--\r\n".encode()]), boundary


def _single_part(content: bytes, kind: str) -> bytes:
    """The one part of an answer in parts (RFC 2046 §5.1), or an answer that is a file itself."""
    if not kind.lower().startswith("multipart/"):
        return content
    head, _, rest = content.partition(b"\r\n\r\n")
    mark = head.lstrip(b"\r\n").split(b"\r\n", 1)[0]
    part, found, _ = rest.rpartition(b"\r\n" + mark)
    if not mark.startswith(b"--") or not found:
        raise StorageFault("an answer of the archive is cut off", "a whole object", "try again")
    return part
