"""One table for both directions: how values of each kind are written into a FHIR resource and read back."""

from __future__ import annotations

import json
import math
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from ...core.files import canonical_json
from ..core import Code
from ._fhir_paths import (
    ACT_REASON,
    ANCHOR,
    DAYS_IN_YEAR,
    SNOMED,
    UCUM,
    Place,
    Resource,
    address,
    left_over,
    of_oid,
    of_text,
    put,
    put_extension,
    steps,
    take,
    take_extension,
)


@dataclass(frozen=True)
class Kind:
    """How values of one kind are written, read back, and called in an extension."""

    write: Callable[[Any, Place], Any]
    read: Callable[[Any, Place], Any]
    value_as: str


def of_integer(value: Any, most: int = 2**31) -> int:
    """A whole number that FHIR's integer can be. Raises ValueError for anything else."""
    if isinstance(value, bool) or not isinstance(value, int) or not -most <= value < most:
        raise ValueError("no whole number")
    return value


def of_number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("no number")
    return float(value)


def coding(code: Code) -> Resource:
    """A Code as Coding. A display that only repeats the code is no display of its system, so it stands apart."""
    repeats = code.display == code.code
    display = "" if repeats else code.display
    parts = {"system": code.system, "version": code.version, "code": code.code, "display": display}
    said = {name: value for name, value in parts.items() if value}
    return {**said, "extension": [{"url": address("display"), "valueString": code.display}]} if repeats else said


def of_coding(content: Any) -> Code:
    """A Coding as Code. Raises ValueError if it has no system or no code."""
    if not isinstance(content, dict):
        raise ValueError("no coding")
    repeated = take_extension(content, "~display", "valueString")
    display, version = repeated or content.get("display", ""), content.get("version", "")
    if not isinstance(display, str) or not isinstance(version, str):
        raise ValueError("no coding")
    (display + version).encode()
    return Code(of_text(content.get("system")), of_text(content.get("code")), display, version)


def concept(code: Code) -> Resource:
    """A Code as CodeableConcept."""
    return {"coding": [coding(code)]}


def of_concept(content: Any) -> Code:
    """The first coding of a concept: free text is no code. Raises ValueError without one."""
    return of_coding(content["coding"][0])


def day(value: int) -> str:
    """A day of the core as a date that counts from the anchor."""
    return (ANCHOR + timedelta(days=value)).isoformat()


def of_day(value: Any, place: Place) -> int:
    """Days between day 0 and a date or a time of FHIR that is known to the day."""
    return (date.fromisoformat(of_text(value)[:10]) - place.anchor).days


def of_json(value: Any) -> Any:
    """Attributes that travel as JSON."""
    content = json.loads(of_text(value))
    if not isinstance(content, dict):
        raise ValueError("no attributes")
    canonical_json(content).encode()
    return content


TO_SIDE = {"L": "7771000", "R": "24028007", "B": "51440002"}
"""Left, right and bilateral of DICOM as the codes of FHIR's value set bodysite-laterality."""
SIDES = {code: side for side, code in TO_SIDE.items()}


def side(value: str) -> Resource:
    """A laterality of DICOM as Coding."""
    if value in TO_SIDE:
        return {"system": SNOMED, "code": TO_SIDE[value]}
    return {"system": "urn:oncoscale:laterality", "code": value}


def of_side(content: Any) -> str:
    found = of_coding(content)
    return SIDES[found.code] if found.system == SNOMED else found.code


def age(value: int) -> Resource:
    """An age in days as years of UCUM, to four decimals: 0.0001 years are less than an hour."""
    return {"value": round(value / DAYS_IN_YEAR, 4), "unit": "a", "system": UCUM, "code": "a"}


DAYS_IN = {"a": DAYS_IN_YEAR, "mo": DAYS_IN_YEAR / 12, "wk": 7.0, "d": 1.0}


def of_age(content: Any) -> int:
    """An Age in days. Raises ValueError or KeyError for one without a unit of UCUM."""
    if content.get("system") != UCUM or "comparator" in content:
        raise ValueError("no age in a unit of UCUM")
    return round(of_number(content["value"]) * DAYS_IN[content["code"]])


def own_kind(value: str) -> Resource:
    """A word of the core as CodeableConcept of a code system of this project."""
    return {"coding": [{"system": "urn:oncoscale:kind", "code": value}]}


def of_own_kind(content: Any) -> str:
    found = of_concept(content)
    if found.system != "urn:oncoscale:kind":
        raise ValueError("no word of the core")
    return found.code


def codings(values: Any, system: str) -> list[Resource]:
    return [{"system": system, "code": value} for value in values]


def of_codings(content: Any, system: str) -> tuple[str, ...]:
    """Codes of one system. Raises ValueError for a code of another."""
    found = [of_coding(one) for one in content]
    if any(one.system != system for one in found):
        raise ValueError("a code of another system")
    return tuple(one.code for one in found)


def of_words(value: Any) -> tuple[str, ...]:
    return tuple(of_text(one) for one in json.loads(of_text(value)))


def data(value: Any) -> str:
    return b64encode(canonical_json(dict(value)).encode()).decode()


def of_data(value: Any) -> Any:
    return of_json(b64decode(of_text(value), validate=True).decode())


def of_urn(value: Any) -> str:
    return of_text(value).removeprefix("urn:sha256:")


PART = "urn:oncoscale:part"
CATEGORY = "urn:oncoscale:data-category"
KINDS: Mapping[str, Kind] = {
    "text": Kind(lambda value, _: value, lambda value, _: of_text(value), "valueString"),
    "code": Kind(lambda value, _: value, lambda value, _: of_text(value), "valueCode"),
    "integer": Kind(lambda value, _: value, lambda value, _: of_integer(value), "valueInteger"),
    "number": Kind(lambda value, _: value, lambda value, _: of_number(value), "valueDecimal"),
    "size": Kind(lambda value, _: value, lambda value, _: of_integer(value, 2**63), "valueDecimal"),
    "json": Kind(lambda value, _: canonical_json(dict(value)), lambda value, _: of_json(value), "valueString"),
    "words": Kind(lambda value, _: canonical_json(list(value)), lambda value, _: of_words(value), "valueString"),
    "concept": Kind(lambda value, _: concept(value), lambda value, _: of_concept(value), "valueCodeableConcept"),
    "coding": Kind(lambda value, _: coding(value), lambda value, _: of_coding(value), "valueCoding"),
    "kind": Kind(lambda value, _: own_kind(value), lambda value, _: of_own_kind(value), "valueCodeableConcept"),
    "day": Kind(lambda value, _: day(value), of_day, "valueDate"),
    "age": Kind(lambda value, _: age(value), lambda value, _: of_age(value), "valueAge"),
    "side": Kind(lambda value, _: side(value), lambda value, _: of_side(value), "valueCoding"),
    "urn": Kind(lambda value, _: f"urn:sha256:{value}", lambda value, _: of_urn(value), "valueUri"),
    "oid": Kind(lambda value, _: f"urn:oid:{value}", lambda value, _: of_oid(value), "valueUri"),
    "data": Kind(lambda value, _: data(value), lambda value, _: of_data(value), "valueBase64Binary"),
    "purposes": Kind(lambda value, _: codings(value, ACT_REASON), lambda value, _: of_codings(value, ACT_REASON), ""),
    "categories": Kind(lambda value, _: codings(value, CATEGORY), lambda value, _: of_codings(value, CATEGORY), ""),
}


def kind(name: str) -> Kind:
    """The kind of that name; ``sample`` and other tables are references to their rows."""
    if name in KINDS:
        return KINDS[name]
    return Kind(
        lambda value, place: place.reference(name, value),
        lambda value, place: place.resolved(name, value),
        "valueReference",
    )


def write(resource: Resource, path: str, name: str, value: Any, place: Place) -> None:
    """Write one attribute; None, empty text and empty attributes leave no trace."""
    if value in (None, "", {}, ()):
        return
    if name == "unit":
        _put_unit(resource, path, value)
        return
    if name == "part":
        element, part = path.split(".")
        _put_part(resource, element, part, value)
        return
    chosen = kind(name)
    if "~" in path:
        put_extension(resource, path, chosen.value_as, chosen.write(value, place))
    else:
        put(resource, path, chosen.write(value, place))


def read(resource: Resource, path: str, name: str, place: Place) -> Any:
    """Take one attribute out; None if it is not there.

    Raises ValueError, TypeError, KeyError, IndexError or OverflowError for something of another kind.
    """
    if name == "unit":
        return _take_unit(resource, path)
    if name == "part":
        return _take_part(resource, *path.split("."))
    chosen = kind(name)
    found = take_extension(resource, path, chosen.value_as) if "~" in path else take(resource, path)
    if found is None:
        return None
    value = chosen.read(found, place)
    if isinstance(found, dict) and "~" not in path:
        for used in USED.get(name, USED["reference"]):
            take(found, used)
        _put_back(resource, path, found)
    return value


CODED = ("system", "version", "code", "display")
USED: Mapping[str, tuple[str, ...]] = {
    "concept": tuple(f"coding[0].{part}" for part in CODED),
    "kind": ("coding[0].system", "coding[0].code"),
    "coding": CODED,
    "side": ("system", "code"),
    "age": ("value", "unit", "system", "code"),
    "reference": ("reference", "type", "identifier.system", "identifier.value"),
}
"""What of an element its reading uses: the rest stays where it was and is counted."""


def _put_back(resource: Resource, path: str, rest: Resource) -> None:
    if not any(left_over(rest)):
        return
    *way, last = steps(path)
    here: Any = resource
    for step in way:
        here = here[step]
    here[last] = rest


def _put_unit(resource: Resource, path: str, unit: Code) -> None:
    for name, value in (("system", unit.system), ("code", unit.code), ("unit", unit.display)):
        if value:
            put(resource, f"{path}.{name}", value)
    if unit.version:
        put_extension(resource, f"{path}.~unit-version", "valueString", unit.version)


def _take_unit(resource: Resource, path: str) -> Code | None:
    """The coded unit of a quantity; none if it has no unit at all.

    Raises ValueError for a unit in words only, and for a quantity that only says more than or less than.
    """
    system, code, words = (take(resource, f"{path}.{name}") for name in ("system", "code", "unit"))
    if take(resource, f"{path}.comparator") is not None:
        raise ValueError("a bound, not a number")
    if system is None and code is None and words is None:
        return None
    version = take_extension(resource, f"{path}.~unit-version", "valueString")
    shown = of_text(words) if isinstance(words, str) and words else ""
    return Code(of_text(system), of_text(code), shown, of_text(version) if version else "")


def _put_part(resource: Resource, element: str, name: str, value: float) -> None:
    """A further number of an Observation, as a component with a code of this project."""
    code = {"coding": [{"system": PART, "code": name}]}
    quantity = {"value": value, "system": UCUM, "code": "1"} if name == "level" else {"value": value}
    resource.setdefault(element, []).append({"code": code, "valueQuantity": quantity})


def _take_part(resource: Resource, element: str, name: str) -> float | None:
    parts = resource.get(element)
    if not isinstance(parts, list):
        return None
    for part in parts:
        if part and of_concept(part["code"]) == Code(PART, name):
            value = of_number(part["valueQuantity"]["value"])
            part.clear()
            return value
    return None
