"""Electronic forms as data: sections, fields, types, codes, required answers, units, and where each goes in the core.

A form is one TOML file: one of ``linkage/forms``, or a user's own, or a REDCap data dictionary (see eform_dictionary).
Every field is a common data element: a code, permitted values and a unit. Free text is asked nowhere and taken from
nowhere: a field of type ``text`` may stand in a form that a hospital keeps, and its answers stay there.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from ..core.errors import ConfigurationRejected, FileRejected, reason_of
from .core import Code

UCUM, ANSWERS = "http://unitsofmeasure.org", "urn:oncoscale:form"
YES_NO = "http://terminology.hl7.org/CodeSystem/v2-0136"
HUMAN = Code("http://snomed.info/sct", "337915000", "Homo sapiens")
YES, NO = Code(YES_NO, "Y", "Yes"), Code(YES_NO, "N", "No")

TYPES = ("subject", "integer", "number", "choice", "choices", "yesno", "date", "text")
"""Of fields. A date may be answered by a whole number of days after day 0; only that number is ever kept."""

EVENTS = (
    "diagnosis", "treatment", "surgery", "radiotherapy", "follow-up", "progression", "death", "imaging", "sampling",
)  # fmt: skip
PLACES: Mapping[str, tuple[str, ...]] = {
    "subject.key": ("subject",),
    "subject.sex": ("choice",),
    "subject.age_day0_d": ("integer", "date"),
    "subject.day0": ("date",),
    "observation": ("integer", "number", "choice", "choices", "yesno"),
    "observation.day": ("date", "integer"),
    "event.day": ("date", "integer"),
    "event.end_day": ("date", "integer"),
    "event.code": ("choice",),
    "sample.type": ("choice",),
    "sample.site": ("choice",),
    "sample.diagnosis": ("choice",),
    "sample.storage": ("choice",),
    "sample.taken_day": ("date", "integer"),
    "nowhere": TYPES,
}
"""Where an answer may go in the core, and which types may go there. ``event.attributes.NAME`` takes every type but
text; ``nowhere`` is for what stays with the hospital."""

_ID = re.compile(r"[a-z][a-z0-9_]*")
_ATTRIBUTE = re.compile(r"event\.attributes\.[a-z][a-z0-9_]*")


@dataclass(frozen=True)
class Choice:
    """A permitted value: what the file says, its words, and the coded value (or the core's word) that it stands for."""

    value: str
    label: str
    code: Code


@dataclass(frozen=True)
class Field:
    """A question.

    core          where the answer goes (see PLACES)
    code          the common data element that it is: the quantity of an observation
    least, most   of a number, both permitted
    identifying   names a person: never read
    columns       other names of its column
    source        author, year and DOI, or ``ASSUMED: …``
    """

    id: str
    label: str
    type: str
    core: str
    code: Code
    choices: tuple[Choice, ...] = ()
    unit: Code | None = None
    least: float | None = None
    most: float | None = None
    required: bool = False
    identifying: bool = False
    columns: tuple[str, ...] = ()
    source: str = ""

    def choice_of(self, text: str) -> Choice | None:
        """The choice that a cell names, by value or label; the ``_arm_1`` of REDCap's events is passed over."""
        wanted = re.sub(r"_arm_\d+$", "", text.strip()).casefold()
        named = (one for one in self.choices if wanted in (one.value.casefold(), one.label.casefold()))
        return next(named, None)


@dataclass(frozen=True)
class Section:
    """Questions that belong together.

    event    kind of the event that each answer of the section is, if any
    code     of that event, where no field tells it
    sample   whether each answer of the section is a sample
    repeats  whether a subject may answer it more than once
    """

    id: str
    title: str
    fields: tuple[Field, ...]
    event: str | None = None
    code: Code | None = None
    sample: bool = False
    repeats: bool = False

    def field_at(self, core: str) -> Field | None:
        """The field whose answer goes to that place."""
        return next((one for one in self.fields if one.core == core), None)


@dataclass(frozen=True)
class Form:
    """A form. ``day0_kind`` says what day 0 is; ``species`` whose form it is."""

    id: str
    version: str
    title: str
    day0_kind: str
    sections: tuple[Section, ...]
    source: str = ""
    species: Code = HUMAN

    @property
    def fields(self) -> tuple[Field, ...]:
        """All questions, in order."""
        return tuple(field for section in self.sections for field in section.fields)

    def field_of(self, column: str) -> Field | None:
        """The question that a column of a file answers; a checkbox of REDCap is ``field___value``."""
        name = column.split("___")[0]
        return next((one for one in self.fields if name in (one.id, *one.columns)), None)


def names() -> tuple[str, ...]:
    """The forms that come with the program."""
    return tuple(sorted(one.name[:-5] for one in _folder().iterdir() if one.name.endswith(".toml")))


def form(name: str | Path) -> Form:
    """The supplied form of that name, or the one in a TOML file.

    Raises ConfigurationRejected for an unknown name, FileRejected for a file that defines no form.
    """
    if str(name) in names():
        return from_toml((_folder() / f"{name}.toml").read_text(encoding="utf-8"), f"{name}.toml")
    path = Path(name)
    if path.suffix != ".toml":
        raise ConfigurationRejected("no such form", f"one of {', '.join(names())}, or a TOML file", "choose one")
    try:
        return from_toml(path.read_text(encoding="utf-8"), path.name)
    except (OSError, UnicodeDecodeError) as error:
        raise FileRejected(f"{path.name!r} cannot be read: {reason_of(error)}", "a form as TOML", "check it") from error


def from_toml(text: str, name: str) -> Form:
    """The form that a TOML text defines. Raises FileRejected, saying which section or field is wrong."""
    try:
        return _form(tomllib.loads(text))
    except (tomllib.TOMLDecodeError, KeyError, TypeError, ValueError) as error:
        raise FileRejected(
            f"{name!r} defines no form: {error}", "a form as the guide describes", "correct it"
        ) from error


def json_schema(of: Form) -> dict[str, Any]:
    """The form as JSON Schema (2020-12): what a page needs to ask the questions and to check the answers."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:oncoscale:form:{of.id}:{of.version}",
        "title": of.title,
        "type": "object",
        "properties": {section.id: _schema_of_section(section) for section in of.sections},
        "required": [one.id for one in of.sections if not one.repeats and any(field.required for field in one.fields)],
        "additionalProperties": False,
    }


def _folder() -> Any:
    return files(__package__) / "forms"


def _form(content: Mapping[str, Any]) -> Form:
    sections = tuple(_section(one) for one in content["section"])
    kind = content.get("day0", "diagnosis")
    made = Form(content["id"], content["version"], content["title"], kind, sections, content.get("source", ""))
    return checked(made)


def _section(content: Mapping[str, Any]) -> Section:
    return Section(
        content["id"],
        content["title"],
        tuple(_field(one) for one in content["field"]),
        content.get("event"),
        coded(content["code"]) if "code" in content else None,
        content.get("sample", False),
        content.get("repeats", False),
    )


def _field(content: Mapping[str, Any]) -> Field:
    values = {key: content[key] for key in ("least", "most", "required", "identifying", "source") if key in content}
    given = coded(content.get("code", f"{ANSWERS}|{content['id'].replace('_', '-')}"))
    code = Code(given.system, given.code, content["label"])
    unit = content.get("unit")
    return Field(
        content["id"], content["label"], content["type"], content.get("core", "observation"), code,
        tuple(choice_from(one, content.get("codes", f"{ANSWERS}:{code.code}")) for one in content.get("choices", ())),
        Code(UCUM, unit, unit) if unit else None, columns=tuple(content.get("columns", ())), **values,
    )  # fmt: skip


def choice_from(content: Iterable[str], system: str) -> Choice:
    """``[value, label]``, or ``[value, label, code]``, where the code may name its system: ``system|code``."""
    value, label, *means = content
    code = coded(means[0] if means else value, system)
    return Choice(value, label, Code(code.system, code.code, label))


def coded(text: str, system: str = ANSWERS) -> Code:
    """``system|code``, ``system|code|display``, or a code of the given system."""
    parts = text.split("|")
    return Code(system, parts[0]) if len(parts) == 1 else Code(*parts[:3])


def checked(of: Form) -> Form:
    """The form, if it can be asked. Raises ValueError with what is wrong."""
    columns = [name for field in of.fields for name in (field.id, *field.columns)]
    doubled = sorted({name for name in columns if columns.count(name) > 1})
    if doubled:
        raise ValueError(f"more than one field has the column {doubled[0]!r}")
    if sum(field.core == "subject.key" for field in of.fields) != 1:
        raise ValueError("exactly one field must have the core path subject.key")
    if of.day0_kind not in ("diagnosis", "first-imaging", "enrolment"):
        raise ValueError("day0 is diagnosis, first-imaging or enrolment")
    for section in of.sections:
        _check_section(section)
    return of


def _check_section(section: Section) -> None:
    needs = {"event": section.event is not None, "sample": section.sample}
    if section.event is not None and section.event not in EVENTS:
        raise ValueError(f"section {section.id!r}: event is one of {', '.join(EVENTS)}")
    if section.event and not section.field_at("event.day"):
        raise ValueError(f"section {section.id!r} is an event and has no field with the core path event.day")
    if section.event and not section.code and not section.field_at("event.code"):
        raise ValueError(f"section {section.id!r} is an event and neither it nor a field of it has its code")
    if section.sample and not section.field_at("sample.type"):
        raise ValueError(f"section {section.id!r} is a sample and has no field with the core path sample.type")
    for field in section.fields:
        table = field.core.split(".")[0]
        if not _ID.fullmatch(field.id):
            raise ValueError(f"field {field.id!r}: small letters, digits and underscores")
        if not needs.get(table, True):
            raise ValueError(f"field {field.id!r} goes to {table}, which section {section.id!r} is not")
        _check_field(field)


def _check_field(field: Field) -> None:
    attribute = _ATTRIBUTE.fullmatch(field.core) is not None
    takes = PLACES.get(field.core, tuple(one for one in TYPES if attribute and one not in ("text", "subject")))
    if field.type not in TYPES:
        raise ValueError(f"field {field.id!r}: type is one of {', '.join(TYPES)}")
    if not attribute and field.core not in PLACES:
        raise ValueError(f"field {field.id!r}: the core has no place {field.core!r}")
    if field.type not in takes:
        raise ValueError(f"field {field.id!r}: an answer of type {field.type} cannot go to {field.core}")
    if (field.type in ("choice", "choices")) is not bool(field.choices):
        raise ValueError(f"field {field.id!r}: choices, and only they, have a list of choices")
    if len({one.value.casefold() for one in field.choices}) != len(field.choices):
        raise ValueError(f"field {field.id!r}: two choices have one value")


def _schema_of_section(section: Section) -> dict[str, Any]:
    fields = [field for field in section.fields if field.core != "nowhere"]
    one = {
        "type": "object",
        "title": section.title,
        "properties": {field.id: _schema_of_field(field) for field in fields},
        "required": [field.id for field in fields if field.required],
        "additionalProperties": False,
    }
    return {"type": "array", "title": section.title, "items": one} if section.repeats else one


def _schema_of_field(field: Field) -> dict[str, Any]:
    schema: dict[str, Any] = {"title": field.label, "x-code": {"system": field.code.system, "code": field.code.code}}
    options = [{"const": one.value, "title": one.label} for one in field.choices]
    by_type: Mapping[str, dict[str, Any]] = {
        "subject": {"type": "string", "minLength": 1},
        "integer": {"type": "integer"},
        "number": {"type": "number"},
        "choice": {"oneOf": options},
        "choices": {"type": "array", "items": {"oneOf": options}, "uniqueItems": True},
        "yesno": {"type": "boolean"},
        "date": {"oneOf": [{"type": "string", "format": "date"}, {"type": "integer"}]},
        "text": {"type": "string"},
    }
    schema |= by_type[field.type]
    limits = {"minimum": field.least, "maximum": field.most}
    schema |= {name: limit for name, limit in limits.items() if limit is not None}
    extra = {"x-unit": field.unit.code if field.unit else None, "x-source": field.source or None}
    return schema | {name: value for name, value in extra.items() if value}
