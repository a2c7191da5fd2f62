"""Paths into FHIR resources, extensions of this project, and what references mean inside one bundle.

A place is a path such as ``collection.bodySite`` or ``identifier[0].value``; ``~name`` is an extension of this project
on the element before it. Reading takes each value out of a copy of the resource, so that what is left over is
what was not understood: nothing can be dropped in silence.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import cache
from typing import Any
from uuid import NAMESPACE_URL, uuid5

Resource = dict[str, Any]

EXTENSION = "urn:oncoscale:fhir:"
"""Begins the URL of every extension of this project."""

ANCHOR = date(2000, 1, 1)
"""Day 0 of every subject, where FHIR demands a date: ages and intervals leave the site, dates do not."""

UNCERTAINTY = "http://hl7.org/fhir/StructureDefinition/iso21090-uncertainty"
"""HL7's own extension for the standard deviation of a quantity."""

DICOM_UID, SNOMED = "urn:dicom:uid", "http://snomed.info/sct"
ACT_REASON = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
UCUM = "http://unitsofmeasure.org"

DAYS_IN_YEAR = 365.25
"""Days in a year of UCUM (``a``, the Julian year) [UCUM 2.1, §38]."""


@dataclass
class Place:
    """What references and days mean in one bundle.

    written  (table, id) of the rows that have a resource of their own -> its type
    named    reference as it stands in the bundle -> (table, id)
    studies  series UID -> study UID of the written series
    anchor   date of the subject's day 0, for the resource at hand
    """

    written: Mapping[tuple[str, str], str] = field(default_factory=dict)
    studies: Mapping[str, str] = field(default_factory=dict)
    named: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    anchor: date = ANCHOR

    def reference(self, table: str, identity: str) -> Resource:
        """A reference to a row: to its resource if the bundle holds it, else by its identifier."""
        if table == "image_series":
            series = {"identifier": {"system": DICOM_UID, "value": f"urn:oid:{identity}"}}
            known = identity in self.studies
            return {"reference": url("imaging_study", self.studies[identity]), **series} if known else series
        if (table, identity) in self.written:
            return {"reference": url(table, identity), "type": self.written[table, identity]}
        return {"identifier": {"system": f"urn:oncoscale:{table}", "value": identity}}

    def resolved(self, table: str, content: Any) -> str:
        """The identifier of the row that a reference names. Raises ValueError if it leads nowhere."""
        if table == "image_series":
            return of_oid(content["identifier"]["value"])
        if "reference" in content:
            found, identity = self.named[content["reference"]]
        else:
            found, identity = (
                content["identifier"]["system"].removeprefix("urn:oncoscale:"),
                of_text(content["identifier"]["value"]),
            )
        if found != table:
            raise ValueError(f"a reference to {found}, not to {table}")
        return identity


def uuid(table: str, identity: str) -> str:
    """The id of the resource of a row: the same for the same row, and legal whatever the row is called."""
    return str(uuid5(NAMESPACE_URL, f"urn:oncoscale:{table}:{identity}"))


def url(table: str, identity: str) -> str:
    """How the resource of a row is named inside a bundle."""
    return f"urn:uuid:{uuid(table, identity)}"


@cache
def steps(path: str) -> tuple[str | int, ...]:
    """``a[0].~b`` as steps: names, places in a list, and extensions (names that begin with ``~``)."""
    found = re.findall(r"[^.\[\]]+", path)
    return tuple(int(step) if step.isdigit() else step for step in found)


def put(resource: Resource, path: str, value: Any) -> None:
    """Set the value at a path, making what lies on the way."""
    *way, last = steps(path)
    here: Any = resource
    for step, following in zip(way, [*way[1:], last]):
        here = _inside(here, step, [] if isinstance(following, int) else {})
    if isinstance(last, int):
        here.append(value)
    else:
        here[last] = value


def _inside(here: Any, step: str | int, empty: Any) -> Any:
    if isinstance(step, int):
        here.extend({} for _ in range(step + 1 - len(here)))
        return here[step]
    return here.setdefault(step, empty)


def take(resource: Any, path: str) -> Any:
    """Take the value at a path out of a resource; None if it is not there."""
    *way, last = steps(path)
    here = resource
    for step in way:
        if isinstance(here, dict) and isinstance(step, str):
            here = here.get(step)
        elif isinstance(here, list) and isinstance(step, int) and step < len(here):
            here = here[step]
        else:
            return None
    if isinstance(here, dict):
        return here.pop(last, None)
    if isinstance(here, list) and isinstance(last, int) and last < len(here):
        value, here[last] = here[last], {}
        return value
    return None


def address(name: str) -> str:
    """The URL of an extension."""
    return UNCERTAINTY if name == "uncertainty" else EXTENSION + name


def put_extension(resource: Resource, path: str, value_as: str, value: Any) -> None:
    """Add an extension of this project on the element before ``~``."""
    before, name = path.rsplit("~", 1)
    where = f"{before}extension"
    known = take(resource, where) or []
    put(resource, where, [*known, {"url": address(name), value_as: value}])


def take_extension(resource: Resource, path: str, value_as: str) -> Any:
    """Take an extension of this project out of a resource; None if it is not there."""
    before, name = path.rsplit("~", 1)
    known = take(resource, f"{before}extension")
    if not isinstance(known, list):
        return None
    wanted = [one for one in known if isinstance(one, dict) and one.get("url") == address(name) and value_as in one]
    rest = [one for one in known if one not in wanted[:1]]
    if rest:
        put(resource, f"{before}extension", rest)
    return wanted[0][value_as] if wanted else None


def left_over(content: Any, path: str = "") -> Iterator[str]:
    """The elements of what is left of a resource, as paths without places in lists and without values."""
    if isinstance(content, dict):
        for name, value in content.items():
            deeper = path.count(".") < 2
            yield from left_over(value, f"{path}.{str(name).replace('.', '?')}" if deeper else path)
    elif isinstance(content, list):
        for value in content:
            yield from left_over(value, path)
    elif content is not None:
        yield path


def of_text(value: Any) -> str:
    """A text that is one. Raises ValueError for anything else."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError("no text")
    value.encode()
    return value


def of_oid(value: Any) -> str:
    return of_text(value).removeprefix("urn:oid:")
