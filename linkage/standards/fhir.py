"""HL7 FHIR R4 (4.0.1): one transaction Bundle that validates as R4B too [https://hl7.org/fhir/R4].

Every attribute has a place: an element where R4 has one, else an extension ``urn:oncoscale:fhir:…`` of this project.
Dates count from 2000-01-01 for everybody and say so in a tag. What was predicted is preliminary, asserted by a device,
tagged as simulated, and has codes of its own; probabilities are RiskAssessments.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from ...core.errors import FileRejected, reason_of
from ...core.files import write_json
from ..core import Holdings
from . import Gap, Read, Violation
from ._fhir_check import violations
from ._fhir_foreign import value_at
from ._fhir_paths import Resource
from ._fhir_read import Reader
from ._fhir_write import ANCHORED, PSEUDED, resources

NAME, VERSION = "fhir", "4.0.1"
FORM, SUFFIX = "file", ".json"
PREDICTIONS = True

Found = TypeVar("Found")

READABLE = ("transaction", "collection", "batch", "searchset")
"""Types of Bundles whose entries are resources as they are."""


def render(holdings: Holdings, out: Path) -> None:
    """One transaction Bundle; each entry creates or replaces its resource, so that sending it twice changes nothing."""
    write_json(out, bundle(resources(holdings)))


def read(path: Path) -> Read:
    """The rows that a Bundle states, one's own or another's. Raises FileRejected for anything else."""
    return guarded(path, _rows)


def _rows(found: Resource) -> Read:
    return Reader([(str(one.get("fullUrl")), one["resource"]) for one in found["entry"]]).all()


def check(out: Path) -> tuple[Violation, ...]:
    """What breaks the rules of R4 or of this project in a Bundle. Raises FileRejected for what is none."""
    return guarded(out, violations)


def gaps() -> tuple[Gap, ...]:
    """None: R4 lets any attribute travel, in an extension where it has no element."""
    return ()


def bundle(entries: Iterable[tuple[str, Resource]]) -> Resource:
    """A transaction Bundle of (full URL, resource)."""
    listed = [
        {
            "fullUrl": full_url,
            "resource": resource,
            "request": {"method": "PUT", "url": f"{resource['resourceType']}/{resource['id']}"},
        }
        for full_url, resource in entries
    ]
    meta = {"security": [PSEUDED], "tag": [ANCHORED]}
    return {"resourceType": "Bundle", "type": "transaction", "meta": meta, "entry": listed}


def guarded(path: Path, use: Callable[[Resource], Found]) -> Found:
    """What ``use`` makes of the Bundle in a file. Raises FileRejected for something that is none."""
    found = _bundle(path)
    try:
        return use(found)
    except RecursionError as error:
        raise _rejected(path, "it is nested too deeply") from error


def _bundle(path: Path) -> Resource:
    """A Bundle whose entries hold resources. Raises FileRejected for anything else."""
    try:
        bundle = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise _rejected(path, f"not readable ({reason_of(error)})") from error
    if not isinstance(bundle, dict) or bundle.get("resourceType") != "Bundle":
        raise _rejected(path, "it has no resourceType Bundle")
    if bundle.get("type") not in READABLE:
        raise _rejected(path, "its type is another")
    entries = bundle.setdefault("entry", [])
    if not isinstance(entries, list) or not all(isinstance(value_at(one, "resource"), dict) for one in entries):
        raise _rejected(path, "its entries are no list of resources")
    return bundle


def _rejected(path: Path, why: str) -> FileRejected:
    return FileRejected(
        f"{Path(path).name!r} is no FHIR Bundle: {why}",
        f"JSON of a Bundle of FHIR R4, of type {', '.join(READABLE)}",
        "export it as such from the system that holds it",
    )
