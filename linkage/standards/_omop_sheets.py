"""Rows as they are written: of one table each, pointing to one another, not yet numbered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from ..core import Code
from ._omop_cdm import LOCAL, field_name, pieces

EHR = 32817
"""OHDSI's type concept EHR, which HL7/fhir-omop-ig gives to conditions, drugs and procedures."""


@dataclass(frozen=True)
class Standard:
    """The standard concept of a code: that of the user's vocabulary, or 0; none where there is no code."""

    code: Code | None


@dataclass
class Line:
    """A row of a table. Values are texts, numbers, dates, coded values, or other rows; numbered when all are known."""

    table: str
    values: dict[str, Any]
    simulated: bool = False
    number: int = 0


@dataclass
class Sheets:
    """The rows of one rendering, and the rows of the core by their table and identifier."""

    lines: list[Line] = field(default_factory=list)
    of: dict[tuple[str, str], Line] = field(default_factory=dict)

    def add(self, table: str, values: Mapping[str, Any], *, simulated: bool = False) -> Line:
        """A new row."""
        line = Line(table, dict(values), simulated)
        self.lines.append(line)
        return line

    def state(self, line: Line, said: Mapping[str, Any], day: date) -> None:
        """What a person's row has no field for, as OBSERVATIONs that point to it; None is not said."""
        person = line if line.table == "person" else line.values["person_id"]
        for name, value in sorted(said.items()):
            for piece in pieces(value, 60) if value is not None else ():
                self.add(
                    "observation",
                    {
                        "person_id": person,
                        "observation_concept_id": LOCAL["attribute"],
                        "observation_date": day,
                        "observation_type_concept_id": LOCAL["simulated"] if line.simulated else EHR,
                        "observation_source_value": name,
                        "qualifier_source_value": piece.form,
                        "value_as_number": piece.number,
                        "value_as_string": piece.text,
                        "value_as_concept_id": piece.code,
                        "observation_event_id": line,
                        "obs_event_field_concept_id": LOCAL[field_name(line.table)],
                    },
                    simulated=line.simulated,
                )

    def feature(self, line: Line, image: Line, concept: Any, computed_by: str) -> None:
        """IMAGE_FEATURE: which images a measurement or a file was computed from, and by what."""
        simulated = line.simulated or image.simulated
        self.add(
            "image_feature",
            {
                "person_id": image.values["person_id"],
                "image_occurrence_id": image,
                "image_feature_event_field_concept_id": LOCAL[field_name(line.table)],
                "image_feature_event_id": line,
                "image_feature_concept_id": concept,
                "image_feature_type_concept_id": LOCAL["simulated"] if simulated else LOCAL["observed"],
                "anatomic_site_concept_id": image.values["anatomic_site_concept_id"],
                "alg_system": computed_by,
            },
            simulated=simulated,
        )


def parents_first(found: tuple[Any, ...]) -> Iterator[Any]:
    """Rows after the one that they name as parent, if it is among them."""
    waiting, done = list(found), set[str]()
    here = {one.id for one in found}
    while waiting:
        ready = [one for one in waiting if one.parent not in here or one.parent in done] or waiting
        yield from ready
        done |= {one.id for one in ready}
        waiting = [one for one in waiting if one.id not in done]


def system(software: str | None, run: str | None) -> str:
    """IMAGE_FEATURE.alg_system: software and run (B.12)."""
    return " ".join(f"{name}={value}" for name, value in (("software", software), ("run", run)) if value)
