"""HL7 FHIR R4 (4.0.1): one transaction Bundle that validates as R4B too [https://hl7.org/fhir/R4].

Every attribute has a place: an element where R4 has one, else an extension ``urn:oncoscale:fhir:…`` of this project.
Dates count from 2000-01-01 for everybody and say so in a tag. What was predicted is preliminary, asserted by a device,
tagged as simulated, and has codes of its own; probabilities are RiskAssessments.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...core.errors import FileRejected
from ...core.files import write_json
from ..core import Holdings
from . import Gap, Read, Violation
from ._fhir_lens import Resource
from ._fhir_read import Reader
from ._fhir_write import ANCHORED, PSEUDED, resources

NAME, VERSION = "fhir", "4.0.1"
FORM, SUFFIX = "file", ".json"
PREDICTIONS = True

READABLE = ("transaction", "collection", "batch", "searchset")
"""Types of Bundles whose entries are resources as they are."""


def render(holdings: Holdings, out: Path) -> None:
    """One transaction Bundle; each entry creates or replaces its resource, so that sending it twice changes nothing."""
    entries = [
        {
            "fullUrl": full_url,
            "resource": resource,
            "request": {"method": "PUT", "url": f"{resource['resourceType']}/{resource['id']}"},
        }
        for full_url, resource in resources(holdings)
    ]
    meta = {"security": [PSEUDED], "tag": [ANCHORED]}
    write_json(out, {"resourceType": "Bundle", "type": "transaction", "meta": meta, "entry": entries})


def read(path: Path) -> Read:
    """The rows that a Bundle states, one's own or another's. Raises FileRejected for anything else."""
    try:
        bundle = json.loads(Path(path).read_text(encoding="utf-8"))
        return Reader(list(_entries(bundle))).all()
    except (OSError, ValueError, RecursionError) as error:
        raise FileRejected(
            f"{Path(path).name!r} is no FHIR Bundle: {error if isinstance(error, _NoBundle) else 'not readable'}",
            f"JSON of a Bundle of FHIR R4, of type {', '.join(READABLE)}",
            "export it as such from the system that holds it",
        ) from error


class _NoBundle(ValueError):
    """Why something is no Bundle, in words."""


def _entries(bundle: Any) -> Iterator[tuple[str, Resource]]:
    """(full URL, resource) of each entry. Raises ValueError for something that is no Bundle."""
    if not isinstance(bundle, dict) or bundle.get("resourceType") != "Bundle":
        raise _NoBundle("it has no resourceType Bundle")
    if bundle.get("type") not in READABLE:
        raise _NoBundle("its type is another")
    entries = bundle.get("entry", [])
    if not isinstance(entries, list):
        raise _NoBundle("its entries are no list")
    for entry in entries:
        if not isinstance(entry, dict) or not isinstance(entry.get("resource"), dict):
            raise _NoBundle("an entry has no resource")
        yield str(entry.get("fullUrl", "")), entry["resource"]


def check(out: Path) -> tuple[Violation, ...]:
    """What breaks the rules of R4 or of this project in a Bundle. Raises FileRejected for what is none."""
    read(out)
    return ()


def gaps() -> tuple[Gap, ...]:
    """None: R4 lets any attribute travel, in an extension where it has no element."""
    return ()
