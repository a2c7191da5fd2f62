"""Radiotherapy: dated fractions, each of which kills cells by the linear quadratic law.

    surviving share of a fraction of d gray = exp(-alpha d - beta d²),      beta = alpha / alpha_beta

[Fowler 1989, doi 10.1259/0007-1285-62-740-679]; where oxygen is short a cell feels less of d (``agents.behaviours``).
A fraction acts in its own hour, whatever the steps of the tissue are, and none is ever skipped. The dose is uniform, or
that which was planned (DICOM RTDOSE), carried to the elements by the volumes that voxels and elements share.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from ...agents.behaviours import radiation
from ...core.errors import ModelRefused
from ...core.quantity import Parameter
from ...imaging.study import ParametricMap
from ...meshing.mesh import TumourMesh
from ...meshing.transfer import overlaps, to_elements
from ..treatment import Fraction, Treatment, understood

ALPHA = Parameter(
    0.3,
    "1/Gy",
    "linear sensitivity of the tumour's cells",
    source="ASSUMED: of the order found in cell lines; state one that was calibrated",
    range=(0.05, 1.0),
    assumed=True,
)
ALPHA_BETA = Parameter(
    10.0,
    "Gy",
    "dose at which the linear and the quadratic part kill alike",
    source="generic tumour (project specification, tissue §4.6)",
    range=(2.0, 20.0),
    assumed=True,
)
PARAMETERS = (ALPHA, ALPHA_BETA, *radiation.PARAMETERS)

PONTINE = """\
kind = "radiotherapy"
name = "54 Gy in 30 fractions"
source = "standard of diffuse intrinsic pontine glioma: 30 to 33 daily fractions of 1.8 Gy (ISPN guide)"
start_day = 0
fractions = 30
gray = 1.8
"""
"""A treatment file, ready to be written."""

WEEK, HOURS_PER_DAY = 7, 24.0


class _Single(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    day: float = Field(ge=0, description="days after the images of time 0")
    gray: float = Field(gt=0, le=100, description="dose of this fraction, Gy")


class RadiotherapyFile(BaseModel):
    """What a treatment file of kind ``radiotherapy`` may say: a schedule, or every fraction."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    kind: Literal["radiotherapy"]
    name: str = "radiotherapy"
    source: str = ""
    start_day: float = Field(0.0, ge=0, description="day of the first fraction, taken as a Monday")
    fractions: int | None = Field(None, ge=1, le=200, description="how many, of a schedule")
    gray: float | None = Field(None, gt=0, le=100, description="dose of each fraction of a schedule, Gy")
    per_week: int = Field(5, ge=1, le=7, description="fractions a week, on its first days")
    hour: float = Field(12.0, ge=0, lt=24, description="hour of the day")
    pauses: list[tuple[float, float]] = Field(
        default_factory=list, description="[first day, last day] without a fraction: what is due later shifts"
    )
    fraction: list[_Single] = Field(default_factory=list, max_length=400, description="every fraction, one by one")
    alpha: float | None = Field(None, gt=0, le=5, description="1/Gy; by default the disease's own, else 0.3")
    alpha_beta: float = Field(ALPHA_BETA.value, gt=0, le=100, description="Gy; the disease's own where alpha is")
    dose: Literal["uniform", "planned"] = Field("uniform", description="planned: the study's own RTDOSE, Gy in all")

    @model_validator(mode="after")
    def _is_one_or_the_other(self) -> RadiotherapyFile:
        scheduled = self.fractions is not None and self.gray is not None
        if scheduled == bool(self.fraction) or (self.fractions is None) != (self.gray is None):
            raise ValueError("give fractions and gray of a schedule, or a list of [[fraction]], and not both")
        return self

    def days(self) -> tuple[tuple[float, float], ...]:
        """(day, gray) of every fraction."""
        if self.fraction:
            return tuple((one.day, one.gray) for one in sorted(self.fraction, key=lambda one: one.day))
        given: list[tuple[float, float]] = []
        day = 0
        while len(given) < (self.fractions or 0):
            when = self.start_day + day
            paused = any(first <= when <= last for first, last in self.pauses)
            if day % WEEK < self.per_week and not paused:
                given.append((when, self.gray or 0.0))
            day += 1
        return tuple(given)


def parse(table: Mapping[str, Any]) -> Treatment:
    """The treatment that a table describes; all errors at once in one ConfigurationRejected."""
    file = understood(RadiotherapyFile, table, "a schedule of fractions and gray, or every [[fraction]]")
    alpha, stated = file.alpha or ALPHA.value, file.alpha is not None
    beta = alpha / file.alpha_beta
    at = 0.0 if file.fraction else file.hour
    fractions = tuple(Fraction(day * HOURS_PER_DAY + at, gray, alpha, beta, stated) for day, gray in file.days())
    return Treatment("radiotherapy", file.name, (), file.source, fractions, file.dose == "planned")


def planned_share(treatment: Treatment, dose: ParametricMap | None, mesh: TumourMesh) -> NDArray[np.float64]:
    """(elements,) planned dose over the treatment's own total, conserving the integral of the dose.

    Elements without a voxel of the dose grid receive nothing. Raises ModelRefused when the study has no dose of a plan,
    or one that misses the tumour.
    """
    if dose is None:
        raise ModelRefused(
            "the treatment asks for the planned dose, and the study holds no dose of one plan",
            "one RTDOSE with the summation type PLAN in the frame of reference of the images",
            'ingest the dose with the images, or set dose = "uniform"',
        )
    seen = to_elements(overlaps(mesh, dose.grid), dose.values, np.isfinite(dose.values))
    share = np.where(seen.valid_fraction > 0, seen.mean * seen.valid_fraction, 0.0) / treatment.gray
    if not (share[mesh.elements_of("tumour")] > 0).any():
        raise ModelRefused(
            "the planned dose does not reach the tumour",
            "a dose in the frame of reference of the images",
            "check which plan and which images belong together",
        )
    return np.asarray(share)
