"""A data dictionary as a form: REDCap's own CSV, or a plain one with a row a common data element.

The plain columns are ``field, label, type, choices, min, max, unit, required, core_path, code_system, code``. REDCap's
have nowhere to say where an answer goes; ``core=…``, ``code=…`` and ``unit=…`` may stand in its Field Annotation.
Without them an answer is an observation under the field's own name, so that any form's variables can be kept. An
instrument with a field for ``observation.day`` may be answered on more than one day, as visits are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ..core.errors import FileRejected
from .core import Code
from .eform_answers import rows_of
from .eforms import UCUM, Choice, Field, Form, Section, checked, choice_from, coded

REDCAP = {
    "Variable / Field Name": "field",
    "Form Name": "section",
    "Field Type": "type",
    "Field Label": "label",
    "Choices, Calculations, OR Slider Labels": "choices",
    "Text Validation Type OR Show Slider Number": "validation",
    "Text Validation Min": "min",
    "Text Validation Max": "max",
    "Identifier?": "identifying",
    "Required Field?": "required",
    "Field Annotation": "annotation",
}
"""REDCap's columns by ours."""

TYPE_OF = {
    "radio": "choice", "dropdown": "choice", "checkbox": "choices", "yesno": "yesno", "truefalse": "yesno",
    "calc": "number", "slider": "number", "notes": "text", "file": "text", "text": "text", "descriptive": "",
}  # fmt: skip
VALIDATED = {"integer": "integer", "number": "number"}
SEXES = {"female", "male", "undifferentiated", "unknown"}
YES = {"y", "yes", "1", "true"}


def form_from_dictionary(path: Path | str, name: str) -> Form:
    """The form that a data dictionary defines; its first field is the subject's identifier unless one says so.

    Raises FileRejected for a file that is no dictionary, with the row that is wrong.
    """
    rows = [{REDCAP.get(column, column): cell for column, cell in row.items()} for row in rows_of(path)]
    if not rows or not {"field", "type", "label"} <= rows[0].keys():
        raise _refused(path, "it has no columns for a field's name, type and label")
    identity = re.sub(r"[^a-z0-9_]", "_", name.casefold())
    sections: dict[str, list[Field]] = {}
    for number, row in enumerate(rows, start=2):
        try:
            field = _field(row, identity)
        except (ValueError, TypeError) as error:
            raise _refused(path, f"row {number}: {error}") from error
        if field:
            sections.setdefault(row.get("section") or identity, []).append(field)
    fields = [field for group in sections.values() for field in group]
    if fields and not any(field.core == "subject.key" for field in fields):
        first = next(iter(sections))
        sections[first][0] = replace(sections[first][0], type="subject", core="subject.key")
    try:
        return checked(Form(identity, "1", name, "diagnosis",
                            tuple(_section(one, tuple(group)) for one, group in sections.items())))  # fmt: skip
    except ValueError as error:
        raise _refused(path, str(error)) from error


def _section(name: str, fields: tuple[Field, ...]) -> Section:
    """An instrument; one that has a day may be answered on more than one."""
    return Section(name, name, fields, repeats=any(field.core == "observation.day" for field in fields))


def _field(row: Mapping[str, str], form: str) -> Field | None:
    """A row as a field; None for words that are only shown."""
    noted = dict(re.findall(r"@?(core|code|unit)\s*=\s*\"?([^\s\"]+)", row.get("annotation", "")))
    kind = _type(row)
    if not kind:
        return None
    core = row.get("core_path") or noted.get("core") or ("nowhere" if kind in ("text", "date") else "observation")
    system = row.get("code_system") or f"urn:oncoscale:form:{form}"
    given = coded(noted["code"]) if "code" in noted else Code(system, row.get("code") or row["field"])
    unit = row.get("unit") or noted.get("unit")
    code = Code(given.system, given.code, row["label"])
    return Field(
        row["field"], row["label"], kind, core, code,
        tuple(_choices(row, kind, core, f"{system}:{code.code}")), Code(UCUM, unit, unit) if unit else None,
        _limit(row, "min"), _limit(row, "max"), row.get("required", "").casefold() in YES,
        row.get("identifying", "").casefold() in YES and kind != "subject",
    )  # fmt: skip


def _type(row: Mapping[str, str]) -> str:
    kind, validation = row["type"].casefold(), row.get("validation", "")
    if kind == "text" and validation:
        return VALIDATED.get(validation.split("_")[0], "date" if validation.startswith("date_") else "text")
    return TYPE_OF.get(kind, kind)


def _limit(row: Mapping[str, str], name: str) -> float | None:
    """A limit of a number; those of dates are not used."""
    text = row.get(name, "")
    return float(text) if text and not row.get("validation", "").startswith("date") else None


def _choices(row: Mapping[str, str], kind: str, core: str, system: str) -> list[Choice]:
    if kind not in ("choice", "choices"):
        return []
    found = []
    for part in row.get("choices", "").split("|"):
        value, comma, label = (piece.strip() for piece in part.partition(","))
        if not comma:
            raise ValueError("choices are written as: 0, no | 1, yes")
        means = [label.casefold()] if core == "subject.sex" else []
        if means and means[0] not in SEXES:
            raise ValueError(f"the choices of a sex are labelled {', '.join(sorted(SEXES))}")
        found.append(choice_from([value, label, *means], system))
    return found


def _refused(path: Path | str, why: str) -> FileRejected:
    return FileRejected(
        f"{Path(path).name!r} is no data dictionary: {why}",
        "REDCap's data dictionary, or columns field, label, type, choices, min, max, unit, required, core_path, "
        "code_system, code",
        "export it again, or see the guide on forms",
    )
