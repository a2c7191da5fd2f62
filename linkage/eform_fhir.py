"""Answers to a form as FHIR QuestionnaireResponses (R4, 4.0.1): ``linkId`` is the field, the questionnaire the form.

A group of items that is there more than once gives a row each time, as a visit does in a table.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..core.errors import FileRejected

VALUES = ("valueBoolean", "valueDecimal", "valueInteger", "valueDate", "valueString", "valueCoding", "valueQuantity")
Item = Mapping[str, Any]
SUBJECT = "(subject)"
"""The column of the response's subject; no field can have that name."""


def rows_of_responses(path: Path) -> list[dict[str, str]]:
    """Rows as a CSV file would give them. Raises FileRejected for anything but responses, alone or in a Bundle."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        bundled = content["resourceType"] == "Bundle"
        found = [one["resource"] for one in content["entry"]] if bundled else [content]
        rows = [row for one in found if one["resourceType"] == "QuestionnaireResponse" for row in _rows(one)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _refused(path) from error
    if not rows:
        raise _refused(path)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    return [{name: row.get(name, "") for name in columns} for row in rows]


def _rows(response: Item) -> Iterator[dict[str, str]]:
    """The answers given once, then a row for each group that is there again."""
    form = str(response.get("questionnaire", "")).split("|")[0].rstrip("/").split("/")[-1].split(":")[-1]
    subject = str(response["subject"]["reference"]).split("/")[-1]
    head = {"form": form, SUBJECT: subject}
    groups: dict[str, list[dict[str, str]]] = {}
    base: dict[str, str] = {}
    for item in response.get("item", ()):
        if "answer" in item:
            base |= dict(_answers([item]))
        else:
            groups.setdefault(item["linkId"], []).append(dict(_answers(item.get("item", ()))))
    again = [answers for group in groups.values() for answers in group[1:]]
    for group in groups.values():
        base |= group[0]
    yield from (head | row for row in (base, *again))


def _answers(items: Sequence[Item]) -> Iterator[tuple[str, str]]:
    for item in items:
        said = [_text(one) for one in item.get("answer", ())]
        if said:
            yield item["linkId"], ";".join(said)
        yield from _answers(item.get("item", ()))


def _text(answer: Item) -> str:
    value = next(answer[name] for name in VALUES if name in answer)
    if isinstance(value, dict):
        return str(value["code"] if "code" in value and "value" not in value else value["value"])
    return str(int(value)) if isinstance(value, bool) else str(value)


def _refused(path: Path) -> FileRejected:
    return FileRejected(
        f"{Path(path).name!r} holds no answers to a form",
        "a FHIR R4 QuestionnaireResponse with a subject, or a Bundle of them",
        "export it again",
    )
