"""Common Data Elements: which attribute of the core means the same as which element, in which unit and values.

The table is data (``data/common_data_elements.toml``). Codes of DICOM, SNOMED CT and IBSI are looked up in pydicom's
concept dictionary; identifiers of caDSR have no dictionary at hand and are taken from the source that the table names.
"""

from __future__ import annotations

import tomllib
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files

from pydicom.sr.codedict import codes

from . import core
from .core import Holdings


@dataclass(frozen=True)
class Element:
    """A data element that means what an attribute of the core means.

    core     ``table.field``
    of       what the row must be: kind of an event with the attribute's name, or system and code of a quantity
    values   the core's value to the element's permitted value; empty where any value is permitted
    unit     UCUM, of the element's number
    factor   multiplies the core's number to give the element's
    """

    core: str
    system: str
    code: str
    name: str
    version: str = ""
    of: str = ""
    unit: str = ""
    factor: float = 1.0
    values: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Said:
    """A value as an element says it: whose, which element, and the value in its unit."""

    subject: str
    element: Element
    value: str | float


@cache
def elements() -> tuple[Element, ...]:
    """The table."""
    text = files(__package__).joinpath("data/common_data_elements.toml").read_text(encoding="utf-8")
    return tuple(Element(**one) for one in tomllib.loads(text)["element"])


def dictionaries() -> Mapping[str, Container[str]]:
    """The codes of every system whose dictionary is at hand."""
    return {
        system: {code.value for code in getattr(codes, system).concepts.values()} for system in ("DCM", "SCT", "IBSI")
    }


def unknown(
    table: Iterable[Element], known: Mapping[str, Container[str]]
) -> tuple[tuple[Element, ...], tuple[Element, ...]]:
    """(elements whose code is not in its dictionary, elements whose system has no dictionary here)."""
    listed = tuple(table)
    missing = tuple(one for one in listed if one.system in known and one.code not in known[one.system])
    return missing, tuple(one for one in listed if one.system not in known)


def said(holdings: Holdings) -> tuple[Said, ...]:
    """What was observed, as elements say it; a value that an element does not permit is left out."""
    seen = core.observed(holdings)
    found = []
    for element in elements():
        table, name = element.core.split(".")
        for row in getattr(seen, table):
            value = _value(row, table, name, element, seen)
            if value is not None:
                found.append(Said(row.key if table == "subject" else row.subject, element, value))
    return tuple(found)


def _value(row: object, table: str, name: str, element: Element, seen: Holdings) -> str | float | None:
    value = getattr(row, name)
    if not _is_meant(row, table, element, seen):
        return None
    if name == "attributes":
        value = value.get(element.of.split(" ")[1])
    value = getattr(value, "code", value)
    if value is None:
        return None
    if element.values:
        return element.values.get(str(value))
    return value * element.factor if isinstance(value, int | float) else str(value)


def _is_meant(row: object, table: str, element: Element, seen: Holdings) -> bool:
    """Whether a row is what the element is about. Intervals are the element's only where day 0 is the diagnosis."""
    if table == "subject":
        return not element.of or f"day0_kind {getattr(row, 'day0_kind', '')}" == element.of
    if element.unit == "d":
        kinds = {one.key: one.day0_kind for one in seen.subject}
        if kinds.get(getattr(row, "subject", "")) != "diagnosis":
            return False
    if table == "event":
        return getattr(row, "kind", "") == element.of.split(" ")[0]
    if table == "observation":
        quantity = getattr(row, "quantity", core.Code("", ""))
        return f"{quantity.system} {quantity.code}" == element.of
    return True
