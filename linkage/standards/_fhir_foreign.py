"""What a resource is taken for: the section that reads it, whether it states a fact, and which day its dates mean."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from datetime import date
from typing import Any

from ._fhir_lens import of_coding
from ._fhir_paths import EXTENSION, SNOMED, Place, Resource, left_over, of_text, steps
from ._fhir_sections import Section, sections
from ._fhir_write import ANCHORED, ASSERTION

MISUNDERSTOOD = (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError)
"""What reading an element of another shape than R4 says can raise."""

REFUTED = ("refuted", "entered-in-error", "unconfirmed", "provisional", "differential")
"""Verification statuses of a condition that is not known to be the case [R4 condition-ver-status]."""

ASSERTED_BY_DEVICES = ("DEVAST", "AIAST", "AIRPT")
"""Security labels of what a machine asserted or reported [v3-ObservationValue]."""

CATEGORIES = {"387713003": "surgery", "108290001": "radiotherapy", "363679005": "imaging"}
"""Kinds of procedure by SNOMED CT category, where a sender states one."""

DIAGNOSED = ("onsetDateTime", "onsetPeriod.start", "recordedDate")
HAPPENED = ("started", "effectiveDateTime", "effectivePeriod.start", "performedDateTime", "performedPeriod.start",
            "collection.collectedDateTime", "collection.collectedPeriod.start")  # fmt: skip


def section_for(resource: Resource) -> Section | None:
    """The section that reads a resource; None if the core has no place for it."""
    for one in sections():
        if one.resource == resource.get("resourceType") and all(
            value_at(resource, path) == value for path, value in one.mark.items()
        ):
            return one
    kind = _kind_of_procedure(resource)
    return next((one for one in sections() if one.table == "event" and one.kind == kind), None)


def _kind_of_procedure(resource: Resource) -> str | None:
    if resource.get("resourceType") != "Procedure":
        return None
    try:
        category = of_coding(deepcopy(value_at(resource, "category.coding[0]")))
    except MISUNDERSTOOD:
        return None
    return CATEGORIES.get(category.code) if category.system == SNOMED else None


def why_not(resource: Resource, section: Section) -> str:
    """Why a resource states no fact that can be taken; empty if it does."""
    status = resource.get("status")
    if section.facts and status not in section.facts:
        return "not taken: its status does not make it a fact"
    if value_at(resource, "verificationStatus.coding[0].code") in REFUTED:
        return "not taken: it is not verified"
    if section.table == "observation" and is_predicted(resource):
        return "not taken: a prediction is no observation"
    if any("modifierExtension" in path for path in left_over(resource)) or "implicitRules" in resource:
        return "not taken: a modifier that is not understood changes its meaning"
    return ""


def is_predicted(resource: Resource) -> bool:
    """Whether a machine asserted what a resource says."""
    labels, tags = value_at(resource, "meta.security"), value_at(resource, "meta.tag")
    return any(
        isinstance(one, dict)
        and (one.get("code") in ASSERTED_BY_DEVICES or (one.get("system"), one.get("code")) == (ASSERTION, "simulated"))
        for one in [*listed(labels), *listed(tags)]
    )


def is_own(resource: Resource) -> bool:
    """Whether its dates count from the anchor of this project."""
    return ANCHORED in listed(value_at(resource, "meta.tag"))


def listed(content: Any) -> list[Any]:
    """A list, or an empty one instead of anything else."""
    return content if isinstance(content, list) else []


def value_at(resource: Any, path: str) -> Any:
    """The value at a path, left where it is; None if it is not there."""
    here = resource
    for step in steps(path):
        if isinstance(here, dict) and isinstance(step, str):
            here = here.get(step)
        elif isinstance(here, list) and isinstance(step, int) and step < len(here):
            here = here[step]
        else:
            return None
    return here


def names_of(entries: list[tuple[str, Resource]]) -> Mapping[str, tuple[str, str]]:
    """What each reference of a bundle leads to: (table, identifier of the row)."""
    found = {}
    for full_url, resource in entries:
        section = section_for(resource)
        identity = _identity(resource, section) if section else None
        if section is not None and identity is not None:
            for name in (full_url, f"{resource.get('resourceType')}/{resource.get('id')}"):
                found[name] = (section.table, identity)
    return found


def _identity(resource: Resource, section: Section) -> str | None:
    """What a row will be called: its identifier, else the id of its resource."""
    if not section.key:
        return None
    path, _ = section.fields[section.key]
    if path == "~identifier":
        stated = [one for one in listed(resource.get("extension")) if isinstance(one, dict)]
        found = next((one.get("valueString") for one in stated if one.get("url") == EXTENSION + "identifier"), None)
    else:
        found = value_at(resource, path)
    chosen = found if isinstance(found, str) and found.strip() else resource.get("id")
    return chosen.removeprefix("urn:sha256:") if isinstance(chosen, str) and chosen.strip() else None


def subject_of(resource: Resource, place: Place) -> str:
    """The subject that a resource is about; empty if it names none of the bundle's."""
    for name in ("subject", "patient", "individual"):
        try:
            return place.resolved("subject", resource[name])
        except MISUNDERSTOOD:
            continue
    return ""


def first_days(entries: list[tuple[str, Resource]], place: Place) -> Mapping[str, tuple[date, str]]:
    """Day 0 of each subject of a foreign bundle, and its kind: the first diagnosis, else the first date known."""
    found: dict[str, tuple[date, str]] = {}
    for paths, kind in ((DIAGNOSED, "diagnosis"), (HAPPENED, "enrolment")):
        dates: dict[str, date] = {}
        for _, resource in entries:
            if is_own(resource) or (kind == "diagnosis" and resource.get("resourceType") != "Condition"):
                continue
            subject = subject_of(resource, place)
            for when in _dates(resource, paths):
                dates[subject] = min(when, dates.get(subject, when))
        for subject, when in dates.items():
            found.setdefault(subject, (when, kind))
    return found


def _dates(resource: Resource, paths: tuple[str, ...]) -> Iterator[date]:
    for path in paths:
        try:
            yield date.fromisoformat(of_text(value_at(resource, path))[:10])
        except MISUNDERSTOOD:
            continue


def age_on(birth: Any, first: date | None) -> int | None:
    """Age in days on day 0, from a birth date that is known to the day; None if it cannot be told."""
    try:
        days = (first - date.fromisoformat(of_text(birth))).days if first else None
    except MISUNDERSTOOD:
        return None
    return days if days is not None and 0 <= days <= OLDEST else None


OLDEST = 32872
"""Days of 90 years: the greatest age that the core keeps."""
