"""Chemotherapy as windows of time in which each of six targets of the cells is switched off with some chance.

The cell model knows a drug by its effects e on CHK1, JAB1, HIF, MYCN, TEP1 and p53 [PRIMAGE neuroblastoma model
13.9.4, github.com/primagesheffield/flamegpu2-neuroblastoma]; no mapping from a drug's dose to e is published. How
much reaches a place is read from the images: ``relative_delivery``.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from ...agents.colony import TARGETS, DrugWindow, Target
from ...core.quantity import Parameter
from ..treatment import Treatment, understood

RAPID_COJEC_EFFECT = Parameter(
    0.6026663265,
    "1",
    "chance per hour that CHK1, JAB1, MYCN and TEP1 are switched off in a rapid COJEC window",
    source="kywertheim/Neuroblastoma, as quoted in the project specification, cells §10",
    range=(0.0, 1.0),
)

LOSS = Parameter(
    0.2,
    "1/min",
    "first-order loss of drug from the extracellular space (uptake, binding, metabolism)",
    source="ASSUMED: of the order of kep, so that delivery is limited by exchange and by loss alike",
    range=(0.02, 2.0),
    assumed=True,
)

PARAMETERS = (RAPID_COJEC_EFFECT, LOSS)

RAPID_COJEC = f"""\
kind = "chemotherapy"
name = "rapid COJEC, first two cycles (days 0 and 10)"
source = "Windows and effects of the PRIMAGE neuroblastoma model (project specification, cells 10)"

[[window]]
start_day = 0
end_day = 4
effects = {{ CHK1 = {RAPID_COJEC_EFFECT.value}, JAB1 = {RAPID_COJEC_EFFECT.value}, \
MYCN = {RAPID_COJEC_EFFECT.value}, TEP1 = {RAPID_COJEC_EFFECT.value} }}

[[window]]
start_day = 10
end_day = 14
effects = {{ CHK1 = {RAPID_COJEC_EFFECT.value}, JAB1 = {RAPID_COJEC_EFFECT.value}, \
MYCN = {RAPID_COJEC_EFFECT.value}, TEP1 = {RAPID_COJEC_EFFECT.value} }}
"""
"""A treatment file, ready to be written."""

HOURS_PER_DAY = 24.0


class _Window(BaseModel):
    model_config = ConfigDict(extra="forbid")
    start_day: float = Field(ge=0, description="days after the images of time 0")
    end_day: float = Field(gt=0, description="days after the images of time 0; the window ends before it")
    effects: dict[Target, float] = Field(
        description="chance in [0, 1] that a target is switched off; absent targets are left alone"
    )

    @model_validator(mode="after")
    def _is_possible(self) -> _Window:
        if self.end_day <= self.start_day:
            raise ValueError(f"end_day {self.end_day} is not after start_day {self.start_day}")
        if any(not 0.0 <= effect <= 1.0 for effect in self.effects.values()):
            raise ValueError(f"effects must lie in [0, 1], found {self.effects}")
        return self


class ChemotherapyFile(BaseModel):
    """What a treatment file of kind ``chemotherapy`` may say."""

    model_config = ConfigDict(extra="forbid")
    kind: Literal["chemotherapy"]
    name: str = "chemotherapy"
    source: str = ""
    window: list[_Window] = Field(min_length=1, max_length=200)

    @model_validator(mode="after")
    def _windows_do_not_overlap(self) -> ChemotherapyFile:
        ordered = sorted(self.window, key=lambda window: window.start_day)
        for earlier, later in pairwise(ordered):
            if later.start_day < earlier.end_day:
                raise ValueError(f"the windows from day {earlier.start_day} and day {later.start_day} overlap")
        return self


def parse(table: Mapping[str, Any]) -> Treatment:
    """The treatment that a table describes; all errors at once in one ConfigurationRejected."""
    file = understood(ChemotherapyFile, table, "windows with start_day, end_day and effects")
    windows = tuple(
        DrugWindow(
            w.start_day * HOURS_PER_DAY,
            w.end_day * HOURS_PER_DAY,
            tuple(w.effects.get(target, 0.0) for target in TARGETS),  # type: ignore[arg-type]
        )
        for w in sorted(file.window, key=lambda window: window.start_day)
    )
    return Treatment("chemotherapy", file.name, windows, file.source)


def effect_at(nominal: float, delivery: float) -> float:
    """The effect where ``delivery`` (relative to the median) reaches the cells.

    Emax model with Hill exponent 1 and full maximal effect: e = C / (C + EC50), with EC50 such that the median
    element (delivery 1) feels the nominal effect [Hill 1910; form of Emax models, Holford & Sheiner 1981,
    doi 10.2165/00003088-198106060-00002]. No drug, no effect.
    """
    if nominal <= 0.0 or delivery <= 0.0:
        return 0.0
    return nominal * delivery / (1.0 - nominal + nominal * delivery)


def relative_delivery(ktrans: NDArray[np.float64], ve: NDArray[np.float64]) -> NDArray[np.float64]:
    """Drug in the extracellular space relative to plasma, from Ktrans (1/min) and ve.

    Quasi-steady balance of exchange and loss, ve dC/dt = Ktrans (Cp - C) - loss ve C = 0, so
    C/Cp = kep / (kep + loss), kep = Ktrans / ve [two-compartment exchange, Tofts 1999,
    doi 10.1002/(SICI)1522-2586(199909)10:3<223::AID-JMRI2>3.0.CO;2-S]. Diffusion and convection are neglected.
    """
    kep = np.divide(ktrans, ve, out=np.zeros_like(ktrans), where=ve > 0)
    return np.asarray(kep / (kep + LOSS.value))
