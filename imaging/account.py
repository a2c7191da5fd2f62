"""What the user decides about maps, and what is written down while they are made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ..core.errors import ConfigurationRejected, ModelRefused
from ..core.quantity import Parameter
from .enhancement import NEIGHBOURS, PE_THRESHOLD, SER_THRESHOLD, VESSEL_RADIUS
from .resample import resample_labels
from .study import Finding, Grid, LabelImage, ParametricMap, Series
from .systematic import FEWEST_DRAWS, Widths
from .voxels import Progress

if TYPE_CHECKING:
    from .tissue_curves import TissueCurves

Values = NDArray[np.float64]
Mask = NDArray[np.bool_]
Words = NDArray[np.uint32]
Motion = Literal["off", "rigid", "deformable"]
FitDomain = Literal["concentration", "signal"]
DceModel = Literal["auto", "tofts", "extended-tofts", "patlak", "2cxm", "2cum", "semi"]

UNITS: Mapping[str, str] = {
    "ktrans": "1/min",
    "kep": "1/min",
    "ve": "1",
    "vp": "1",
    "ps": "1/min",
    "fp": "1/min",
    "t1": "s",
    "adc": "mm^2/s",
    "cellularity": "1",
    "pe": "percent",
    "ser": "1",
    "b1": "1",
    "model": "1",
}
"""The quantities that maps show, and their units."""

FOREGROUND = Parameter(
    0.1,
    "1",
    "least signal of tissue, as a share of the image's 99th percentile",
    "mask of the in-vivo example of DCEMRI.jl, doi 10.7717/peerj.909",
    range=(0.02, 0.2),
)

MOST_INVALID = Parameter(
    0.5,
    "1",
    "a map with a larger share of invalid voxels in the tumour is refused",
    "project specification, validation D8",
    range=(0.1, 0.9),
    assumed=True,
)


@dataclass(frozen=True)
class QuantifySettings:
    """What the user decides; None means: from the study, else the documented default.

    dce_model      auto, tofts, extended-tofts, patlak, 2cxm, 2cum, semi
    aif            name of a population curve, "measured", or path of a csv file
    aif_mask       path of a mask of the artery, for a measured curve; None: it is found
    accept_aif     go on with a measured curve that is implausible or late
    blood_t1       s, T1 of blood before contrast, for a measured curve
    t1             "vfa", seconds, or path of a NIfTI map in s
    vfa_tr_s       s, repetition time of the series of flip angles, in place of the files'
    relaxivity     per mmol/L/s
    haematocrit    a fraction
    baseline       frames before arrival; all_baseline keeps the first of them too
    delay_s        arrival of the input curve on the clock of the series; for a csv file: shift of its times, none if
                   nothing is stated
    background     signal before contrast below which PE is not computed
    pe_threshold (percent), ser_threshold, neighbours, vessel_radius (mm)   the enhancing tumour, see ``enhancement``
    densest_adc    mm²/s, ADC of the densest packing of cells (see diffusion.ADC_DENSEST)
    threads        None: all cores
    fit_domain     concentration, or signal: where the residual of the kinetic fit is taken
    systematic     draws for the systematic part of the errors of regions, 0: not computed
    widths         how well T1, relaxivity, … are known, for those draws
    seed           of those draws
    motion         off, rigid or deformable: correction of motion between the frames of the dynamic series
    """

    dce_model: DceModel = "auto"
    aif: str = "parker"
    aif_mask: str | None = None
    accept_aif: bool = False
    blood_t1: float | None = None
    t1: str | float | None = None
    vfa_tr_s: float | None = None
    relaxivity: float | None = None
    haematocrit: float | None = None
    baseline: int | None = None
    all_baseline: bool = False
    delay_s: float | None = None
    background: float | None = None
    pe_threshold: float = PE_THRESHOLD.value
    ser_threshold: float = SER_THRESHOLD.value
    neighbours: int = int(NEIGHBOURS.value)
    vessel_radius: float = VESSEL_RADIUS.value
    densest_adc: float | None = None
    threads: int | None = None
    motion: Motion = "off"
    fit_domain: FitDomain = "concentration"
    systematic: int = 0
    widths: Widths = field(default_factory=Widths)
    seed: int = 1

    def __post_init__(self) -> None:
        if self.fit_domain not in get_args(FitDomain):
            raise ConfigurationRejected(
                f"fit domain {self.fit_domain!r}", "concentration or signal", "choose one of them"
            )
        if self.systematic and self.systematic < FEWEST_DRAWS:
            raise ConfigurationRejected(
                f"{self.systematic} draws for the systematic part",
                f"0 (none) or at least {FEWEST_DRAWS}",
                "draw more: their spread is the answer",
            )
        if self.motion not in get_args(Motion):
            raise ConfigurationRejected(f"motion {self.motion!r}", "off, rigid or deformable", "choose one of them")
        if self.dce_model not in get_args(DceModel):
            raise ConfigurationRejected(
                f"dynamic model {self.dce_model!r}",
                "one of " + ", ".join(get_args(DceModel)),
                "choose a model from the list",
            )
        if self.relaxivity is not None and not self.relaxivity > 0:
            raise ConfigurationRejected(f"relaxivity {self.relaxivity}", "a positive number per mmol/L/s", "correct it")
        if self.haematocrit is not None and not 0 <= self.haematocrit < 1:
            raise ConfigurationRejected(f"haematocrit {self.haematocrit}", "a fraction from 0 to below 1", "correct it")
        if self.vfa_tr_s is not None and not 0 < self.vfa_tr_s < 1:
            raise ConfigurationRejected(
                f"repetition time {self.vfa_tr_s} of the flip angles", "seconds, below 1", "give it in seconds"
            )
        if self.blood_t1 is not None and not 0.2 <= self.blood_t1 <= 4.0:
            raise ConfigurationRejected(f"T1 of blood {self.blood_t1}", "seconds, 0.2 to 4", "give it in seconds")
        if self.aif_mask is not None and self.aif != "measured":
            raise ConfigurationRejected(
                f"a mask of the artery with input function {self.aif!r}",
                "a mask with the input function 'measured'",
                "choose measured, or leave the mask out",
            )
        if self.neighbours < 0 or self.vessel_radius < 0 or (self.threads is not None and self.threads < 1):
            raise ConfigurationRejected(
                "a negative number of neighbours, radius or threads", "numbers of 0 or more", "correct them"
            )


@dataclass(eq=False)
class Account:
    """Findings and summary of one quantification, gathered stage by stage, and the curves that were fitted."""

    settings: QuantifySettings
    progress: Progress | None = None
    findings: list[Finding] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    tissue: TissueCurves | None = None

    def note(self, kind: Literal["found", "chosen", "inferred", "doubted"], where: str, text: str) -> None:
        """Write down one finding."""
        self.findings.append(Finding(kind, where, text))

    def tell(self, what: str, done: float) -> None:
        """Report progress, 0 to 1."""
        if self.progress is not None:
            self.progress(what, done)


def inside(labels: LabelImage, grid: Grid, name: str | None = None) -> Mask:
    """(i, j, k) True in a region (None: in any region) of a label image, on another grid."""
    there = resample_labels(labels, grid)
    return there.mask(name) if name is not None else np.asarray(there.values > 0)


def with_signal(image: Values, tumour: LabelImage | None, grid: Grid) -> Mask:
    """(i, j, k) True where an image shows tissue rather than air; always in the tumour."""
    tissue = image >= FOREGROUND.value * np.percentile(image, 99)
    return np.asarray(tissue | inside(tumour, grid, "tumour") if tumour is not None else tissue)


def invalid_share(one: ParametricMap, region: Mask) -> float:
    """Share of the region's voxels in which a map has no value; 0 for an empty region."""
    return float(np.isnan(one.values[region]).mean()) if region.any() else 0.0


def acquired(series: Series, key: str, words: str) -> Any:
    """An acquisition parameter of a series. Raises ModelRefused when the series does not hold it."""
    if key not in series.acquisition:
        raise ModelRefused(
            f"{words} of the {series.role} series is not known",
            f"{key} among its acquisition parameters",
            f"state it ({key})",
        )
    return series.acquisition[key].value


def map_of(
    series: Series, name: str, values: Values, flags: Words, method: str, *, unit: str | None = None
) -> ParametricMap:
    """A map on the grid of the series that it was computed from."""
    sources = (series.uid,) if series.uid else series.instance_uids
    return ParametricMap(name, unit or UNITS[name], series.grid, values, flags.astype(np.uint32), sources, method)
