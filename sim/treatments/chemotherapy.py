"""Chemotherapy as windows of time in which each of six targets of the cells is switched off with some chance.

The cell model knows a drug by its effects e on CHK1, JAB1, HIF, MYCN, TEP1 and p53 [PRIMAGE neuroblastoma model
13.9.4, github.com/primagesheffield/flamegpu2-neuroblastoma]; no mapping from a drug's dose to e is published. How
much reaches a place is read from the images: ``relative_delivery``. With ``transport = true`` the drugs that the file
names are carried through the tissue instead, from their doses on (``exposure``).
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from ...agents.colony import TARGETS, DrugWindow, Target
from ...core.quantity import Parameter, convert
from .. import drug, exposure, interstitial, pharmacokinetics
from ..exposure import Drug, Response
from ..pharmacokinetics import DISPOSITIONS, MINUTES_PER_DAY, Disposition, Dose, Plasma
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
TRANSPORT = (
    *drug.PARAMETERS,
    *exposure.PARAMETERS,
    *pharmacokinetics.PARAMETERS,
    *interstitial.PARAMETERS,
)
"""What a treatment rests on beyond that when its drugs are carried through the tissue."""

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

RAPID_COJEC_CARRIED = (
    RAPID_COJEC.replace("source =", "transport = true\nsource =", 1)
    + """
[[drug]]
name = "vincristine"
dose = [{ day = 0, mg_m2 = 1.5 }, { day = 10, mg_m2 = 1.5 }]

[[drug]]
name = "carboplatin"
dose = [{ day = 0, mg_m2 = 750, hours = 1 }]

[[drug]]
name = "etoposide"
dose = [{ day = 0, mg_m2 = 175, hours = 4 }, { day = 1, mg_m2 = 175, hours = 4 }]

[[drug]]
name = "cisplatin"
dose = [{ day = 10, mg_m2 = 80, hours = 24 }]
"""
)
"""The same with its drugs carried through the tissue. ASSUMED: courses A and B of rapid COJEC [Pearson et al. 2008, doi
10.1016/S1470-2045(08)70069-X] with the doses commonly given; the paper was not read."""

HOURS_PER_DAY = 24.0


class _Dose(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    day: float = Field(ge=0, description="days after the images of time 0")
    mg_m2: float = Field(gt=0, description="mg per m² of body surface")
    hours: float = Field(0.0, ge=0, description="of infusion; 0: at once")


class _Response(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    emax: float = Field(1.0, gt=0, le=1, description="largest chance per hour that the target is switched off")
    ec50: float | None = Field(
        None, gt=0, description="mg/L of half the largest; absent: the median element feels the window's effect"
    )
    hill: float = Field(1.0, gt=0, le=10, description="exponent")


class _Drug(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    name: str = Field(min_length=1, max_length=80)
    dose: list[_Dose] = Field(min_length=1, max_length=200)
    clearance: float | None = Field(None, gt=0, description="L/(min m²); absent: that of a drug that is known")
    half_lives: list[float] = Field(default_factory=list, max_length=2, description="min, one or two")
    volume: float = Field(0.0, ge=0, description="L/m² at steady state; read with two half-lives")
    unbound: float = Field(1.0, gt=0, le=1, description="share in plasma that may leave the vessels")
    loss: float = Field(LOSS.value, ge=0, description="1/min in the interstitial space")
    binding: float = Field(0.0, ge=0, description="mg/L per hour, largest uptake of tissue that is all cells")
    half_binding: float = Field(1.0, gt=0, description="mg/L at which uptake is half its largest")
    diffusivity: float = Field(
        convert(drug.DRUG_DIFFUSIVITY.value, "mm^2/day", "mm^2/s"), ge=0, le=3e-3, description="mm²/s"
    )
    response: dict[Target, _Response] = Field(default_factory=dict, description="of each target")

    @model_validator(mode="after")
    def _is_known(self) -> _Drug:
        stated = self.clearance is not None and bool(self.half_lives)
        if not stated and (self.clearance is not None or self.half_lives):
            raise ValueError(f"{self.name!r}: give clearance and half_lives together")
        if not stated and self.name not in DISPOSITIONS:
            raise ValueError(f"{self.name!r} is none of {', '.join(DISPOSITIONS)}: give its clearance and half_lives")
        return self

    def carried(self) -> Drug:
        """The drug as the tissue meets it."""
        if self.clearance is None:
            disposition = DISPOSITIONS[self.name]
        else:
            disposition = Disposition(self.clearance, tuple(self.half_lives), self.volume, self.unbound)
        doses = tuple(Dose(one.day, one.mg_m2, one.hours / HOURS_PER_DAY) for one in self.dose)
        return Drug(
            self.name,
            Plasma(disposition, doses),
            self.loss * MINUTES_PER_DAY,
            self.binding * HOURS_PER_DAY,
            self.half_binding,
            convert(self.diffusivity, "mm^2/s", "mm^2/day"),
            {target: Response(one.emax, one.ec50, one.hill) for target, one in self.response.items()},
        )


class _Window(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
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

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    kind: Literal["chemotherapy"]
    name: str = "chemotherapy"
    source: str = ""
    window: list[_Window] = Field(min_length=1, max_length=200)
    transport: bool = Field(False, description="carry the drugs through the tissue")
    drug: list[_Drug] = Field(default_factory=list, max_length=20, description="what is carried")

    @model_validator(mode="after")
    def _windows_do_not_overlap(self) -> ChemotherapyFile:
        ordered = sorted(self.window, key=lambda window: window.start_day)
        for earlier, later in pairwise(ordered):
            if later.start_day < earlier.end_day:
                raise ValueError(f"the windows from day {earlier.start_day} and day {later.start_day} overlap")
        return self

    @model_validator(mode="after")
    def _drugs_are_given(self) -> ChemotherapyFile:
        if self.transport != bool(self.drug):
            raise ValueError("give transport = true together with every [[drug]] that is carried, or neither")
        first = min((dose.day for one in self.drug for dose in one.dose), default=0.0)
        early = [window.start_day for window in self.window if window.end_day <= first]
        if early:
            raise ValueError(f"the window from day {early[0]:g} ends before any drug is given")
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
    return Treatment("chemotherapy", file.name, windows, file.source, drugs=tuple(one.carried() for one in file.drug))


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
