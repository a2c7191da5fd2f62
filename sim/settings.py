"""What a user may choose about a forecast: the keys of ``--config FILE.toml``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from ..core import registry
from .coupling import Datum
from .extrapolation import Way
from .laws import LAWS
from .materials import PRESETS
from .oxygen import TUMOUR_OXYGEN
from .remeshing import RemeshingSettings
from .selection import SELECTIONS

Mutation = Literal["MYCN_amp", "TERT_rarngm", "ATRX_inact", "ALT", "ALK"]


class RegionMaterial(BaseModel):
    """What is stated of the tissue of one region; the rest is the disease's, or that of the tissue it is like."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    like: str | None = Field(None, description=f"the tissue that it is taken for: {', '.join(sorted(PRESETS))}")
    law: str | None = Field(None, description=f"how it answers to deformation: {', '.join(LAWS)}")
    young: float | None = Field(None, gt=0, description="Young's modulus, kPa")
    poisson: float | None = Field(None, ge=0, lt=0.5, description="Poisson's ratio")
    hardening: float | None = Field(None, gt=0, description="b of the exponential law")

    @field_validator("like", "law")
    @classmethod
    def _is_known(cls, name: str | None, info: ValidationInfo) -> str | None:
        known = sorted(PRESETS) if info.field_name == "like" else list(LAWS)
        if name is not None and name not in known:
            raise ValueError(f"{name!r} is not one of {', '.join(known)}")
        return name


class ForecastSettings(BaseModel):
    """Choices with their defaults. Unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    elements: Annotated[int, Field(ge=2)] | Literal["all"] = Field(
        20, description="representative elements per macro step, or all"
    )
    selection: str = Field("k-medoids", description="how they are chosen: k-medoids, random or stratified")
    extrapolation: Way = Field(
        "gaussian-process", description="how growth is given to the others: gaussian-process or inverse-distance"
    )
    growth: Datum = Field(
        "constituents",
        description="what an element's growth is read from: the volume of its cells and matrix (constituents), or the "
        "voxels that its cells occupy, as the released cell model reports (occupancy)",
    )
    cells: int = Field(600, ge=50, le=1_000_000, description="cells per colony at its start, about")
    engine: str = Field("auto", description="cell engine")
    mode: Literal["corrected", "parity"] = Field("corrected", description="rules of the cells")
    seed: int = Field(1, ge=0, description="seed of every draw")
    members: int = Field(
        3, ge=1, le=100, description="forecasts that differ by their seed only; 1 leaves chance out of the interval"
    )
    macro_days: float = Field(14.0, gt=0, le=28, description="longest macro step, days")
    adaptive: bool = Field(
        False, description="macro steps half as long where an element would grow or empty too much in one"
    )
    size: float | None = Field(None, gt=0, description="element size in the tumour, mm")
    host_size: float | None = Field(None, gt=0, description="element size in the host, mm")
    mesher: Literal["auto", "gmsh", "bcc"] = "auto"
    element: Literal["p1", "p2p1"] = Field(
        "p1", description="of the mechanics: linear, or quadratic for accurate stresses on small meshes"
    )
    remeshing: RemeshingSettings = Field(RemeshingSettings(), description="when a worn mesh is made anew")
    oxygen_target: float = Field(
        TUMOUR_OXYGEN.value, gt=0, lt=72, description="median pO2 of the tumour at time 0, mmHg"
    )
    vessels: Literal["fixed", "follow"] = Field(
        "fixed", description="supply of oxygen: as at time 0, or growing where hypoxic tissue calls for it"
    )
    tumour_young: float | None = Field(None, gt=0, description="stiffness of the tumour, kPa")
    host_young: float | None = Field(None, gt=0, description="stiffness of the host, kPa")
    materials: dict[str, RegionMaterial] = Field(
        default_factory=dict, description="tissue of each region: a table [materials.host] with law, young, poisson ..."
    )
    supports: dict[str, Annotated[float, Field(ge=0)] | Literal["fixed", "free"]] = Field(
        default_factory=dict,
        description="what holds the surface of each region, or the outside: fixed, free, or springs in kPa/mm",
    )
    stiffness: Literal["composition", "fixed"] = Field(
        "composition", description="of a tumour that has a border: follows its cells and matrix since time 0, or stays"
    )
    stress_feedback: float | None = Field(
        None, gt=0, description="pressure that slows growth e-fold, kPa (2 to 10); not given: pressure does not slow it"
    )
    genetics: dict[Mutation, int] = Field(default_factory=dict, description="0, 1 (ALK: 2), or -1 unknown")
    histology: int | None = Field(None, ge=0, le=6)
    gradiff: int | None = Field(None, ge=0, le=2)
    fluid: bool = Field(True, description="interstitial fluid pressure, of a tumour that has a border")
    poroelastic: bool = Field(False, description="let the change of that pressure since the images load the tissue")
    effects: bool = Field(True, description="repeat the forecast with each input changed: what it rests on")

    @model_validator(mode="after")
    def _fluid_is_there(self) -> ForecastSettings:
        if self.poroelastic and not self.fluid:
            raise ValueError("poroelastic = true needs fluid = true")
        if self.poroelastic and self.element != "p1":
            raise ValueError('poroelastic = true needs element = "p1"')
        if self.poroelastic and self.stress_feedback is not None:
            raise ValueError("poroelastic = true does not go with stress_feedback: leave out one")
        return self

    @field_validator("selection")
    @classmethod
    def _is_known(cls, selection: str) -> str:
        known = [name.replace("_", "-") for name in registry.names(SELECTIONS)]
        if selection not in known:
            raise ValueError(f"{selection!r} is not one of {', '.join(known)}")
        return selection
