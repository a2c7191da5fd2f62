"""From doses to what cells feel: each drug carried through the tissue, its exposure made an effect on each target.

``expose`` solves ``drug`` for every drug over one macro step. In each window of the treatment an element has a mean
concentration C of each drug, and a target of its cells is switched off, by one drug, with the chance

    e = largest C^hill / (half^hill + C^hill)

[Hill 1910; form of Emax models, Holford and Sheiner 1981, doi 10.2165/00003088-198106060-00002]. Drugs act
independently, 1 - e = product of (1 - e of each) [Bliss 1939, doi 10.1111/j.1744-7348.1939.tb06990.x]. No half-maximal
concentration for these targets is published that was read: where a treatment states none, it is such that the
tumour's median element feels the effect of the window, shared equally by the drugs that are there. ASSUMED: an effect
follows the mean concentration of its window, and concentrations stay in the material as it grows between macro steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..agents.colony import TARGETS, DrugWindow
from ..core.errors import ModelRefused
from ..core.quantity import Parameter
from . import drug
from .interstitial import fluid_in
from .pharmacokinetics import MINUTES_PER_DAY, Plasma
from .state import TissueState

if TYPE_CHECKING:
    from .treatment import Treatment

Real = NDArray[np.float64]

HOURS_PER_DAY = 24.0

HOST_KTRANS = Parameter(
    0.05,
    "1/min",
    meaning="Ktrans of the host tissue around the tumour, for drugs",
    range=(0.01, 0.3),
    source="ASSUMED: of the order of muscle to abdominal organs, no source read",
    assumed=True,
)
HOST_VE = Parameter(
    0.2,
    "1",
    meaning="interstitial fraction of the host tissue around the tumour, for drugs",
    range=(0.1, 0.4),
    source="ASSUMED: of the order of soft tissue, no source read",
    assumed=True,
)
LEAST_VE = Parameter(
    0.02,
    "1",
    meaning="least interstitial fraction of an element, for drugs",
    source="ASSUMED: every tissue holds some fluid between its cells; a fit may leave none",
    range=(0.005, 0.1),
    assumed=True,
)
PARAMETERS = (HOST_KTRANS, HOST_VE, LEAST_VE)


@dataclass(frozen=True)
class Response:
    """How one target answers one drug: the chance ``largest`` that it is switched off at most, half of it at ``half``
    mg/L (None: so that the tumour's median element feels the window's effect), and the exponent.
    """

    largest: float = 1.0
    half: float | None = None
    hill: float = 1.0


@dataclass(frozen=True)
class Drug:
    """One drug of a treatment.

    plasma       its curve
    loss         1/day in the interstitial space
    binding      mg/L/day, largest uptake of tissue that is all cells; half: mg/L at which it is half that
    diffusivity  mm²/day
    responses    by target; absent ones are as ``Response()``
    """

    name: str
    plasma: Plasma
    loss: float
    binding: float = 0.0
    half: float = 1.0
    diffusivity: float = drug.DRUG_DIFFUSIVITY.value
    responses: Mapping[str, Response] = field(default_factory=dict)


def expose(state: TissueState, treatment: Treatment | None, end: float) -> tuple[TissueState, Treatment | None]:
    """The tissue with the drug that it holds on day ``end`` and all exposures so far, and the treatment as each element
    feels it until then; both as they are where nothing is transported.

    Raises ModelRefused for a tissue whose exchange with plasma is not known.
    """
    if treatment is None or not treatment.drugs:
        return state, treatment
    fields = [_carried(state, number, one, treatment.windows, end) for number, one in enumerate(treatment.drugs)]
    before = np.zeros((len(fields), len(state.stretch))) if state.exposure is None else state.exposure
    held = replace(
        state,
        drug=np.array([one.corners for one, _ in fields]),
        exposure=before + np.array([one.exposure.sum(axis=0) for one, _ in fields]),
    )
    effects = local_effects(treatment.windows, treatment.drugs, np.array([mean for _, mean in fields]), state.tumour)
    return held, replace(treatment, local=effects)


def _carried(
    state: TissueState, number: int, one: Drug, windows: Sequence[DrugWindow], end: float
) -> tuple[drug.DrugField, Real]:
    """One drug until day ``end``, and its mean concentration (windows, elements) in what of each window lies before."""
    spans = [(max(w.start / HOURS_PER_DAY, state.day), min(w.end / HOURS_PER_DAY, end)) for w in windows]
    inside = [span for span in spans if span[0] < span[1]]
    days = np.unique([state.day, end, *(day for span in inside for day in span)])
    found = drug.solve_drug(
        state.mesh,
        tissue_of(state, one),
        one.plasma,
        days,
        steps=drug.instants(days, one.plasma.edges),
        start=None if state.drug is None else state.drug[number],
    )
    area = np.concatenate([np.zeros((1, len(state.stretch))), np.cumsum(found.exposure, axis=0)])
    mean = np.zeros((len(spans), len(state.stretch)))
    for row, (first, last) in enumerate(spans):
        if first < last:
            low, high = np.searchsorted(days, (first, last))
            mean[row] = (area[high] - area[low]) / (last - first)
    return found, mean


def exchange_of(state: TissueState) -> tuple[Real, Real]:
    """Ktrans (1/day) and ve of every element. Raises ModelRefused when they were not measured.

    ASSUMED: tissue without supply of blood has no vessels that a drug could leave.
    """
    if state.ktrans is None or state.ve is None:
        raise ModelRefused(
            "the treatment transports drugs, and Ktrans and ve of the tumour were not measured",
            "a dynamic examination, of which Ktrans and ve can be fitted",
            "leave out transport, or give the maps",
        )
    return np.where(state.supply > 0.0, state.ktrans * MINUTES_PER_DAY, 0.0), state.ve


def tissue_of(state: TissueState, one: Drug) -> drug.DrugTissue:
    """What a drug meets now."""
    ktrans, ve = exchange_of(state)
    return drug.DrugTissue(
        ktrans,
        ve,
        np.full(len(ve), one.loss),
        one.binding * state.cellularity,
        one.half,
        one.diffusivity,
        fluid_in(state).velocity,
    )


def local_effects(windows: Sequence[DrugWindow], drugs: Sequence[Drug], mean: Real, tumour: NDArray[np.int64]) -> Real:
    """(windows, elements, 6) chance that each target is switched off, from mean concentrations.

    mean    (drugs, windows, elements) mg/L
    tumour  numbers of its elements, whose median feels a window's own effect
    """
    effects = np.zeros((len(windows), mean.shape[2], len(TARGETS)))
    for row, window in enumerate(windows):
        for place, target in enumerate(TARGETS):
            effects[row, :, place] = _effect(window.effects[place], target, drugs, mean[:, row], tumour)
    return effects


def _effect(nominal: float, target: str, drugs: Sequence[Drug], mean: Real, tumour: NDArray[np.int64]) -> Real:
    """(elements,) of one target in one window."""
    responses = [one.responses.get(target, Response()) for one in drugs]
    medians = np.median(mean[:, tumour], axis=1)
    sharing = [r.half is None and middle > 0.0 for r, middle in zip(responses, medians, strict=True)]
    share = 1.0 - (1.0 - nominal) ** (1.0 / max(sum(sharing), 1))
    spared = np.ones(mean.shape[1])
    for response, middle, shares, concentration in zip(responses, medians, sharing, mean, strict=True):
        if response.half is not None:
            spared *= 1.0 - emax(concentration / response.half, 0.5 * response.largest, response)
        elif shares:
            spared *= 1.0 - emax(concentration / middle, share, response)
    return np.asarray(1.0 - spared)


def emax(relative: Real, effect: float, response: Response) -> Real:
    """The effect at a concentration relative to that which has ``effect``: largest C^n/(half^n + C^n), half put in.

    >>> round(float(emax(np.array(1.0), 0.3, Response(hill=2.0))), 12)
    0.3
    """
    if effect > response.largest:
        raise ModelRefused(
            f"an effect of {effect:.3g} of a drug whose largest is {response.largest:.3g}",
            "a window's effect that its drugs can reach",
            "state a larger largest effect, or a smaller effect of the window",
        )
    arrived = relative**response.hill
    felt = effect * arrived
    return np.where(felt > 0.0, response.largest * felt / np.maximum(response.largest - effect + felt, 1e-300), 0.0)
