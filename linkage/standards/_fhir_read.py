"""From FHIR resources to rows of the core. What is not understood is counted by its element, never by its value.

A resource says only what is the case: what was entered in error, refuted, not done or predicted by others becomes no
row. Dates of a foreign bundle become days since the subject's first diagnosis, else since the first date known.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import fields, replace
from datetime import date
from typing import Any

from ..core import ROWS, Code, Contains, Holdings, Link, RunSubject
from . import Gap, Read
from ._fhir_check import shown
from ._fhir_foreign import (
    MISUNDERSTOOD,
    OLDEST,
    age_on,
    first_days,
    is_own,
    names_of,
    section_for,
    subject_of,
    value_at,
    why_not,
)
from ._fhir_lens import read
from ._fhir_paths import ANCHOR, SNOMED, UCUM, Place, Resource, left_over, take, take_extension
from ._fhir_sections import NESTED, SAID_BY_GENDER, Section, words

HUMAN = Code(SNOMED, "337915000", "Homo sapiens")
"""Who a Patient is, unless it says otherwise [R4 Patient, extension patient-animal]."""

EMPTY: Mapping[str, Any] = {"text": "", "json": {}, "data": {}, "words": (), "purposes": (), "categories": ()}
"""What an attribute was that has no trace in one's own rendering, by its kind: FHIR has no empty elements."""

DECISIVE = {"unit", "value", "value_code", "day", "age_d", "horizon_day"}
"""Attributes without which, once misunderstood, the rest of a row would say something else."""

Nested = Iterator[tuple[str, Any]]


class Reader:
    """Reads the entries of one bundle, each (full URL, resource)."""

    def __init__(self, entries: list[tuple[str, Resource]]) -> None:
        self.entries = entries
        self.gaps: Counter[tuple[str, str]] = Counter()
        self.rows: dict[str, dict[Any, Any]] = {table: {} for table in ROWS}
        self.place = Place(named=names_of(entries))
        self.first = first_days(entries, self.place)

    def all(self) -> Read:
        """Every resource, in the order of the bundle."""
        for _, resource in self.entries:
            self._take(resource)
        self._drop_strays()
        gaps = tuple(Gap(path, reason, n) for (path, reason), n in sorted(self.gaps.items()))
        return Read(Holdings(**{table: tuple(found.values()) for table, found in self.rows.items()}), gaps)

    def _take(self, resource: Resource) -> None:
        section = section_for(resource)
        named = shown(str(resource.get("resourceType")))
        if section is None:
            self.gaps[named, "no such thing in the core"] += 1
        elif reason := why_not(resource, section):
            self.gaps[named, reason] += 1
        else:
            for one in _by_series(resource) if section.table == "image_series" else [deepcopy(resource)]:
                self._row(one, section)

    def _row(self, resource: Resource, section: Section) -> None:
        own, subject = is_own(resource), subject_of(resource, self.place)
        first, kind = self.first.get(subject, (None, ""))
        self.place.anchor = ANCHOR if own or first is None else first
        _prepare(resource, section)
        reason = ""
        values: dict[str, Any] = {}
        for name in section.fields:
            values[name], understood = self._attribute(resource, section, name)
            if not understood and (name in DECISIVE or name in section.required):
                reason = f"{name} is not understood"
        nested = list(self._nested(resource, section, values))
        _complete(values, resource, section, own=own)
        if section.table == "subject" and not own:
            first, kind = self.first.get(str(values["key"]), (None, ""))
            _complete_subject(values, resource, first, kind)
        self._leave(resource, section, own=own)
        if reason := reason or _fault(values, section):
            self.gaps[section.resource, f"not taken: {reason}"] += 1
            return
        optional = {one.name for one in fields(ROWS[section.table]) if "None" in str(one.type)}
        self._enter(section.table, {n: value for n, value in values.items() if value is not None or n in optional})
        for table, row in nested:
            self.rows[table].setdefault(row, row)

    def _attribute(self, resource: Resource, section: Section, name: str) -> tuple[Any, bool]:
        """(the value or None, whether whatever stood there was understood)."""
        understood = True
        for path, kind in (section.fields[name], *section.also.get(name, ())):
            try:
                found = read(resource, path, kind, self.place)
            except MISUNDERSTOOD:
                self.gaps[f"{section.resource}.{path.replace('[0]', '')}", "not understood"] += 1
                understood = False
                continue
            if found is not None:
                return found, True
        return None, understood

    def _nested(self, resource: Resource, section: Section, values: Mapping[str, Any]) -> Nested:
        """Rows that stand inside the resource of another."""
        if section.table == "artefact":
            for path in ("subject", "context.related"):
                yield from self._references(resource, path, "contains", lambda one: self._contains(one, values))
        elif section.table == "run":
            yield from self._references(resource, "target", "run_subject", lambda one: self._permit(one, values))
        elif section.table == "attempt":
            yield from self._references(resource, "target", "link", lambda one: self._link(one, values, "generated"))
            used = resource.get("entity")
            whats = [take(one, "what") for one in used] if isinstance(used, list) else []
            for what in whats:
                yield from self._references({"what": what}, "what", "link", lambda one: self._link(one, values, "used"))

    def _references(self, resource: Resource, path: str, table: str, row: Any) -> Nested:
        found = take(resource, path)
        for reference in found if isinstance(found, list) else [found]:
            if reference is None:
                continue
            try:
                made = row(reference)
            except MISUNDERSTOOD:
                self.gaps[f"{resource.get('resourceType', 'Provenance')}.{path}", "not understood"] += 1
                continue
            if made is not None:
                yield table, made

    def _contains(self, reference: Any, values: Mapping[str, Any]) -> Contains:
        share = take_extension(reference, "~share", "valueCode") or "sole"
        return Contains(values["sha256"], self.place.resolved("subject", reference), share)

    def _permit(self, reference: Any, values: Mapping[str, Any]) -> RunSubject | None:
        decision = read(reference, "~decision", "decision", self.place)
        if decision is None:
            return None  # the software stands in for a run of nobody
        return RunSubject(values["id"], self.place.resolved("subject", reference), decision)

    def _link(self, reference: Any, values: Mapping[str, Any], role: str) -> Link | None:
        port = read(reference, "~port", "text", self.place)
        if port is None:
            return None  # the run itself stands in for an attempt that made nothing
        for table, name in (("image_series", "series"), ("artefact", "artefact"), ("sample", "sample")):
            try:
                linked = self.place.resolved(table, reference)
            except MISUNDERSTOOD:
                continue
            return Link(values["run"], values["n"], role, port, **{name: linked})
        raise ValueError("a link to nothing that the core knows")

    def _leave(self, resource: Resource, section: Section, *, own: bool) -> None:
        """Count what is left of a resource once everything that is understood was taken out."""
        repeated = ("meta", "category", *section.derived) if own else ()
        for path in ("resourceType", "id", *repeated):
            take(resource, path)
        for path, value in {**section.mark, **section.fixed}.items():
            if value_at(resource, path) == value or (path == "status" and section.facts):
                take(resource, path)
        for path in ("identifier[0].system", "masterIdentifier.system"):
            take(resource, path)
        for path in left_over(resource):
            self.gaps[shown(f"{section.resource}{path}"), "not understood"] += 1

    def _enter(self, table: str, values: Mapping[str, Any]) -> None:
        row = ROWS[table](**values)
        key = {"attempt": ("run", "n"), "enrolment": ("subject", "study")}.get(table)
        names = key or [name for name in ("id", "key", "uid", "sha256") if name in values]
        identity = tuple(values[name] for name in names)
        if identity in self.rows[table]:
            self.gaps[table, "not taken: its identifier occurs twice"] += 1
        else:
            self.rows[table][identity] = row

    def _drop_strays(self) -> None:
        """Rows about subjects, and collections of biobanks, that the bundle does not hold."""
        banks = {one.id for one in self.rows["biobank"].values()}
        for identity in [name for name, one in self.rows["collection"].items() if one.biobank not in banks]:
            del self.rows["collection"][identity]
            self.gaps["collection", "not taken: its biobank is not in the bundle"] += 1
        known = {one.key for one in self.rows["subject"].values()}
        for table, row in ROWS.items():
            if table in NESTED or "subject" not in {one.name for one in fields(row)}:
                continue
            for identity in [name for name, one in self.rows[table].items() if one.subject not in known]:
                del self.rows[table][identity]
                self.gaps[table, "not taken: its subject is not in the bundle"] += 1
        self._loosen()

    def _loosen(self) -> None:
        """References that may be empty, and lead to rows that the bundle does not hold."""
        for table, names in LOOSE.items():
            for identity, one in self.rows[table].items():
                lost = {
                    name: None
                    for name, target in names.items()
                    if getattr(one, name) is not None and (getattr(one, name),) not in self.rows[target]
                }
                for name in lost:
                    self.gaps[f"{table}.{name}", "leads to nothing in the bundle"] += 1
                self.rows[table][identity] = replace(one, **lost)


LOOSE: Mapping[str, Mapping[str, str]] = {
    "enrolment": {"collection": "collection"},
    "consent": {"supersedes": "consent"},
    "sample": {"parent": "sample", "collection": "collection"},
    "event": {"parent": "event"},
}
"""References of rows that an import enters, and the tables that they lead to."""


def _by_series(resource: Resource) -> Iterator[Resource]:
    """An ImagingStudy once for each of its series."""
    series = resource.get("series")
    for one in series if isinstance(series, list) else [None]:
        alone = deepcopy({name: value for name, value in resource.items() if name != "series"})
        yield alone if one is None else {**alone, "series": [deepcopy(one)]}


def _prepare(resource: Resource, section: Section) -> None:
    """What must be settled before the attributes are taken out."""
    identifiers = resource.get("identifier")
    if isinstance(identifiers, list):
        identifiers.sort(key=lambda one: not str(isinstance(one, dict) and one.get("system")).startswith("urn:"))
    extensions = resource.get("extension")
    days = [one for one in extensions if isinstance(one, dict)] if isinstance(extensions, list) else []
    if section.kind == "diagnosis" and any(one.get("url") == "urn:oncoscale:fhir:day" for one in days):
        take(resource, "onsetAge")  # repeats the day
    if section.table == "prediction":
        for part in resource.get("component", []) if isinstance(resource.get("component"), list) else []:
            if value_at(part, "valueQuantity.system") == UCUM:
                take(part, "valueQuantity.system"), take(part, "valueQuantity.code")


def _complete(values: dict[str, Any], resource: Resource, section: Section, *, own: bool) -> None:
    """What FHIR leaves out because it is empty, and what a foreign resource says by other means."""
    if section.table == "event":
        values["kind"] = section.kind
        if values["day"] is not None:
            values["age_d"] = None
    if section.kind == "treatment" and not own and not values["attributes"]:
        values["attributes"] = _dose(resource)
    if section.key and values.get(section.key) is None and isinstance(resource.get("id"), str):
        values[section.key] = resource["id"] or None
    if section.table == "subject" and values["sex"] is None:
        gender = resource.get("gender")
        known = isinstance(gender, str) and gender in SAID_BY_GENDER
        values["sex"] = take(resource, "gender") if known else "unknown"
    for name, (_, kind) in section.fields.items() if own else ():
        if name in section.required and name != section.key and values.get(name) is None:
            values[name] = EMPTY.get(kind)


def _dose(resource: Resource) -> dict[str, Any] | None:
    """What was given, as attributes; only a number with a unit of UCUM."""
    dose = value_at(resource, "dosage.dose")
    value, unit = value_at(dose, "value"), value_at(dose, "code")
    if value_at(dose, "system") != UCUM or not isinstance(value, int | float) or not isinstance(unit, str):
        return None
    if isinstance(value, bool) or "comparator" in dose:
        return None
    for name in ("value", "unit", "system", "code"):
        take(dose, name)
    return {"dose": value, "dose_unit": unit}


def _complete_subject(values: dict[str, Any], resource: Resource, first: date | None, kind: str) -> None:
    """A foreign Patient: human unless it says otherwise, its age from its birth date, its day 0 from the bundle."""
    values["species"] = values["species"] or HUMAN
    values["site"] = values["site"] or "unknown"
    values["day0_kind"] = values["day0_kind"] or kind or "enrolment"
    if values["age_day0_d"] is None:
        values["age_day0_d"] = age_on(resource.get("birthDate"), first)
        if values["age_day0_d"] is not None:
            take(resource, "birthDate")


def _fault(values: Mapping[str, Any], section: Section) -> str:
    """Why these values make no row; empty if they do."""
    missing = [name for name in sorted(section.required) if values.get(name) is None]
    if missing:
        return f"{missing[0]} is missing"
    for name, value in values.items():
        if value not in words().get(f"{section.table}.{name}", (value,)):
            return f"{name} is no word of the core"
    if section.table == "biobank" and not re.fullmatch("[A-Z]{2}", values["country"]):
        return "country is no code of ISO 3166-1"
    if section.table == "subject" and not 0 <= (values["age_day0_d"] or 0) <= OLDEST:
        return "an age that the core does not keep"
    if section.table == "event" and values["day"] is None and values["age_d"] is None:
        return "neither a day nor an age"
    if section.table == "observation" and (values["value"] is None) == (values["value_code"] is None):
        return "neither a number nor a code"
    return ""
