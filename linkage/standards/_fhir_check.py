"""What breaks the rules in a Bundle: those of R4, from its own definitions, and those of this project.

fhir-r4.json states for each type that is written its elements, how often each may occur, its type, and the codes of its
required value set. HL7's invariants in FHIRPath and the profiles of others are left to the validators.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from . import Violation
from ._fhir_foreign import is_predicted, listed, value_at
from ._fhir_lens import KINDS
from ._fhir_paths import DICOM_UID, EXTENSION, Resource
from ._fhir_sections import sections
from ._fhir_write import DEVAST, PREDICTED, PSEUDED, SIMULATED

DATE = r"\d{4}(-(0[1-9]|1[0-2])(-(0[1-9]|[12]\d|3[01]))?)?"
CLOCK = r"T([01]\d|2[0-3]):[0-5]\d:([0-5]\d|60)(\.\d+)?(Z|[+-]((0\d|1[0-3]):[0-5]\d|14:00))"
TEXTS: Mapping[str, str] = {
    "date": DATE,
    "dateTime": rf"{DATE}|\d{{4}}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01]){CLOCK}",
    "instant": rf"\d{{4}}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01]){CLOCK}",
    "id": r"[A-Za-z0-9\-.]{1,64}",
    "code": r"[^\s]+(\s[^\s]+)*",
    "uri": r"\S+",
    "url": r"\S+",
    "canonical": r"\S+",
    "oid": r"urn:oid:[0-2](\.(0|[1-9]\d*))+",
    "uuid": r"urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}",
    "base64Binary": r"[A-Za-z0-9+/=\s]+",
    "string": r"[\s\S]*\S[\s\S]*",
    "markdown": r"[\s\S]*\S[\s\S]*",
    "time": r"([01]\d|2[0-3]):[0-5]\d:([0-5]\d|60)(\.\d+)?",
    "xhtml": r"[\s\S]+",
}
"""Regular expressions of the primitive types [R4 datatypes, https://hl7.org/fhir/R4/datatypes.html#primitive]."""

WHOLE: Mapping[str, tuple[int, int]] = {
    "integer": (-(2**31), 2**31 - 1),
    "unsignedInt": (0, 2**31 - 1),
    "positiveInt": (1, 2**31 - 1),
}
"""Ranges of the whole numbers [as above]."""

Found = Iterator[Violation]


@cache
def definitions() -> tuple[Mapping[str, Mapping[str, list[Any]]], Mapping[str, frozenset[str]]]:
    """(elements by type, codes by value set) of R4."""
    content = json.loads((Path(__file__).parent / "fhir-r4.json").read_text(encoding="utf-8"))
    return content["types"], {name: frozenset(codes) for name, codes in content["codes"].items()}


@cache
def _names() -> frozenset[str]:
    content = json.loads((Path(__file__).parent / "fhir-r4.json").read_text(encoding="utf-8"))
    return frozenset([*content["resources"], *(name for one in content["types"].values() for name in one)])


def shown(path: str) -> str:
    """A path with ``?`` for each name that R4 does not know: it may be a value."""
    return ".".join(part if part.removeprefix("_") in _names() else "?" for part in path.split("."))


def violations(bundle: Resource) -> tuple[Violation, ...]:
    """Everything that is wrong with a Bundle."""
    return (*_of_type(bundle, "Bundle", "Bundle"), *_references(bundle), *_own_rules(bundle))


def _of_type(content: Any, kind: str, where: str) -> Found:
    """Whether a value is what its type says."""
    types, _ = definitions()
    if kind == "Resource":
        kind = str(content.get("resourceType")) if isinstance(content, dict) else ""
        where = kind if kind in types else where
    if kind not in types:
        yield from _primitive(content, kind, where)
    elif not isinstance(content, dict) or not content:
        yield Violation(f"{kind} is an object with content", where, type(content).__name__)
    else:
        yield from _elements(content, types[kind], kind, where)


def _elements(content: Resource, permitted: Mapping[str, list[Any]], kind: str, where: str) -> Found:
    for name, value in content.items():
        bare = name.removeprefix("_")
        if name == "resourceType":
            continue
        if bare not in permitted:
            yield Violation("only elements of R4", f"{where}.{shown(name)}", "an unknown element")
        elif name == bare:
            yield from _element(value, permitted[name], f"{where}.{name}")
    for name, (least, *_, choice) in permitted.items():
        if least and not choice and name not in content and f"_{name}" not in content:
            yield Violation("required elements are there", f"{where}.{name}", "nothing")
    yield from _choices(content, permitted, where)
    if kind == "Extension":
        yield from _extension(content, where)


def _element(value: Any, stated: list[Any], where: str) -> Found:
    _, most, kind, bound, _ = stated
    if (most != "1") != isinstance(value, list) or value == []:
        yield Violation("lists where R4 has lists", where, type(value).__name__)
        return
    for one in value if isinstance(value, list) else [value]:
        yield from _of_type(one, kind, where)
        if bound and kind == "Reference":
            yield from _target(one, bound, where)
        elif bound:
            yield from _bound(one, bound, where)


def _choices(content: Resource, permitted: Mapping[str, list[Any]], where: str) -> Found:
    """Of the types of a choice one is there, or none if none must be."""
    choices: dict[str, list[str]] = {}
    for name, (*_, choice) in permitted.items():
        if choice:
            choices.setdefault(choice, []).append(name)
    for choice, together in choices.items():
        chosen = [name for name in together if name in content or f"_{name}" in content]
        if len(chosen) > 1 or (not chosen and permitted[together[0]][0]):
            yield Violation("one type of a choice", f"{where}.{choice}[x]", ", ".join(chosen) or "nothing")


def _primitive(value: Any, kind: str, where: str) -> Found:
    if kind == "boolean":
        good = isinstance(value, bool)
    elif kind == "decimal":
        good = isinstance(value, int | float) and not isinstance(value, bool)
    elif kind in WHOLE:
        least, most = WHOLE[kind]
        good = isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
    elif kind in TEXTS:
        good = isinstance(value, str) and re.fullmatch(TEXTS[kind], value) is not None
    else:
        yield Violation("only types that the project writes", where, shown(kind) if kind else "nothing")
        return
    if not good:
        yield Violation(f"a {kind} is one", where, type(value).__name__)


def _bound(value: Any, value_set: str, where: str) -> Found:
    """Whether a code is of its required value set."""
    codes = definitions()[1].get(value_set)
    if codes is None:
        return
    inside = value.get("coding", [value]) if isinstance(value, dict) else [{"code": value}]
    said = [str(one.get("code")) for one in inside if isinstance(one, dict)] if isinstance(inside, list) else []
    if said and not codes.intersection(said):
        yield Violation(f"codes of {value_set}", where, "another code")


def _target(value: Any, targets: list[str], where: str) -> Found:
    kind = value.get("type") if isinstance(value, dict) else None
    if isinstance(kind, str) and kind not in targets:
        yield Violation(f"a reference to {' or '.join(targets)}", where, shown(kind))


def _extension(content: Resource, where: str) -> Found:
    """An extension has one value or further extensions; those of this project have the value that the table says."""
    values = [name for name in content if name.startswith("value")]
    if len(values) + ("extension" in content) != 1:
        yield Violation("ext-1: an extension has a value or extensions", where, f"{len(values)} values")
    url = content.get("url")
    if isinstance(url, str) and url.startswith(EXTENSION):
        expected = own_extensions().get(url.removeprefix(EXTENSION))
        if expected is None or values != [expected]:
            yield Violation("extensions of this project are in fhir.toml", where, "another, or another value")


@cache
def own_extensions() -> Mapping[str, str]:
    """Every extension of this project, and how its value is called."""
    found = {"share": "valueCode", "decision": "valueReference", "port": "valueString", "display": "valueString",
             "unit-version": "valueString", "end-day": "valueInteger", "unit": "valueCodeableConcept",
             "sd": "valueDecimal", "type": "valueCodeableConcept", "size": "valueDecimal"}  # fmt: skip
    for section in sections():
        places = [*section.fields.values(), *(one for more in section.also.values() for one in more)]
        for path, kind in places:
            if "~" in path:
                value_as = KINDS[kind].value_as if kind in KINDS else "valueReference"
                found.setdefault(path.rsplit("~", 1)[1], value_as)
    return found


def _references(bundle: Resource) -> Found:
    """References inside a Bundle lead to one of its entries, of the type they say; no two entries are one."""
    entries = [one for one in listed(bundle.get("entry")) if isinstance(one, dict)]
    urls = Counter(str(one["fullUrl"]) for one in entries if "fullUrl" in one)
    kinds = {str(one.get("fullUrl")): value_at(one, "resource.resourceType") for one in entries}
    for url in (url for url, times in urls.items() if times > 1):
        yield Violation("an entry is there once", "Bundle.entry.fullUrl", f"{urls[url]} times")
    series = {
        (str(one.get("fullUrl")), f"urn:oid:{part.get('uid')}")
        for one in entries
        for part in listed(value_at(one, "resource.series"))
        if isinstance(part, dict)
    }
    for entry in entries:
        resource = entry.get("resource")
        for where, reference in _all_references(resource, str(value_at(entry, "resource.resourceType"))):
            named = reference["reference"]
            if named.startswith("urn:uuid:") and named not in kinds:
                yield Violation("references lead to an entry", where, "none has this URL")
            elif named in kinds and reference.get("type") not in (None, kinds[named]):
                yield Violation("references lead to an entry of their type", where, shown(str(kinds[named])))
            uid = str(value_at(reference, "identifier.value"))
            if value_at(reference, "identifier.system") == DICOM_UID and named in kinds and (named, uid) not in series:
                yield Violation("a series belongs to the study that is named", where, "another study")


def _all_references(content: Any, where: str) -> Iterator[tuple[str, Resource]]:
    if isinstance(content, dict):
        if isinstance(content.get("reference"), str):
            yield where, content
        for name, value in content.items():
            yield from _all_references(value, f"{where}.{name}")
    elif isinstance(content, list):
        for one in content:
            yield from _all_references(one, where)


def _own_rules(bundle: Resource) -> Found:
    """Pseudonymised throughout; UIDs are UIDs; a prediction is marked as one in every way [specification B.12]."""
    for entry in listed(bundle.get("entry")):
        resource = entry.get("resource") if isinstance(entry, dict) else None
        if not isinstance(resource, dict):
            continue
        kind = str(resource.get("resourceType"))
        if PSEUDED not in listed(value_at(resource, "meta.security")):
            yield Violation("marked as pseudonymised", f"{kind}.meta.security", "no PSEUDED")
        if kind == "ImagingStudy":
            yield from _uids(resource)
        if kind in ("Observation", "RiskAssessment"):
            yield from _predicted(resource, kind)


def _predicted(resource: Resource, kind: str) -> Found:
    """What is not final, a risk, or asserted by a device carries every mark of a prediction, or none."""
    code = value_at(resource, "code.coding[0].system") or value_at(resource, "prediction[0].outcome.coding[0].system")
    preliminary = resource.get("status") in ("preliminary", "cancelled")
    marks = (
        preliminary,
        DEVAST in listed(value_at(resource, "meta.security")),
        SIMULATED in listed(value_at(resource, "meta.tag")),
        code == PREDICTED,
        value_at(resource, "method.coding[0].code") == "forecast",
        "device" in resource or "performer" in resource,
    )
    predicted = kind == "RiskAssessment" or preliminary or is_predicted(resource) or code == PREDICTED
    if predicted and not all(marks):
        yield Violation("a prediction is marked as one in every way", kind, f"{sum(marks)} of {len(marks)} marks")


UID = re.compile(r"[0-2](\.(0|[1-9]\d*))+")


def _uids(study: Resource) -> Found:
    """The UIDs of a study and of its series are well formed, and differ."""
    study_uid = str(value_at(study, "identifier[0].value")).removeprefix("urn:oid:")
    series = [str(one.get("uid")) for one in listed(study.get("series")) if isinstance(one, dict)]
    for uid in (study_uid, *series):
        if not UID.fullmatch(uid) or len(uid) > 64:
            yield Violation("UIDs are well formed [DICOM PS3.5, 9.1]", "ImagingStudy", "another text")
    if len({study_uid, *series}) != len(series) + 1:
        yield Violation("each study and series has a UID of its own", "ImagingStudy", "one twice")
