"""A course: treatments of several kinds after, before or during each other, each part as its own file would say it."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ...core.errors import ConfigurationRejected
from ..treatment import Treatment, treatment_of, understood
from . import chemotherapy, radiotherapy, surgery
from .chemotherapy import effect_at

__all__ = ["PARAMETERS", "CourseFile", "effect_at", "parse"]

PARAMETERS = (*chemotherapy.PARAMETERS, *radiotherapy.PARAMETERS, *surgery.PARAMETERS)


class CourseFile(BaseModel):
    """What a treatment file of kind ``course`` may say."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    kind: Literal["course"]
    name: str = "course of treatment"
    source: str = ""
    part: list[dict[str, Any]] = Field(min_length=1, max_length=50, description="a treatment of another kind each")


def parse(table: Mapping[str, Any]) -> Treatment:
    """The parts as one treatment. Raises ConfigurationRejected for a part that is not understood, or drug windows of
    two parts that overlap: what two drugs do together is not known.
    """
    file = understood(CourseFile, table, "a list of [[part]]")
    if any(part.get("kind") == "course" for part in file.part):
        raise ConfigurationRejected("treatment: a course within a course", "parts of other kinds", "list them here")
    parts = [treatment_of(part, f"part {number} of the course") for number, part in enumerate(file.part, 1)]
    windows = sorted((window for part in parts for window in part.windows), key=lambda window: window.start)
    for earlier, later in pairwise(windows):
        if later.start < earlier.end:
            raise ConfigurationRejected(
                f"treatment: drug windows of two parts overlap on day {later.start / 24:g}",
                "windows one after the other",
                "put both drugs into one window with their joint effects",
            )
    fractions = sorted((one for part in parts for one in part.fractions), key=lambda one: one.hour)
    if len({part.planned for part in parts if part.fractions}) > 1:
        raise ConfigurationRejected(
            "treatment: one part is irradiated as planned, another uniformly", "one kind of dose", "state it alike"
        )
    if len({bool(part.drugs) for part in parts if part.windows}) > 1:
        raise ConfigurationRejected(
            "treatment: one part carries its drugs through the tissue, another does not",
            "all or none",
            "state it alike",
        )
    planned = any(part.planned for part in parts)
    drugs = tuple(one for part in parts for one in part.drugs)
    operations = surgery.apart(sorted((one for part in parts for one in part.operations), key=lambda one: one.day))
    return Treatment(
        "course", file.name, tuple(windows), file.source, tuple(fractions), planned, operations, drugs=drugs
    )
