"""Vessels that follow: supply of oxygen that grows where hypoxic tissue calls for it. Off unless it is asked for.

    dk/dt = c(P) r k (1 - k/k*),    k* = min(a M, k of the host's oxygen)

k is supply (1/day), M the largest uptake of the cells there now (mmHg/day) and a the supply for each uptake that the
element had at time 0: vessels catch up with what cells demand, the rule of the cell model inside its cube (project
specification, neuroblastoma cells §9), here for the tissue and at a finite rate. Endothelium divides at most at its
potential rate r = ln 2 / doubling time, and as far as it is called: c is the response of HIF-1, which switches on VEGF,
to oxygen. Over a macro step c and k* stand still (oxygen of its start, cells of its end), so the logistic law is exact
there and the whole is first order in the step.

ASSUMED: supply goes with the number of endothelial cells; time 0 is a balance that vessels return to; they never
regress, so supply never falls by this law; none sprout into tissue that has lost its own; and they come and go with the
volume of their tissue, as fixed ones do. Above the host's oxygen nothing is called for.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..core.quantity import Parameter
from .oxygen import HOST_OXYGEN, supply_for

Real = NDArray[np.float64]

ENDOTHELIAL_DOUBLING = Parameter(
    5.6,
    "day",
    meaning="potential doubling time of tumour endothelium, if vessels follow",
    range=(2.4, 13.0),
    source="five mouse tumours [Hobson & Denekamp 1984, doi 10.1038/bjc.1984.66, abstract]; ASSUMED: their geometric "
    "middle, and that it holds for a child's tumour",
    assumed=True,
)
HALF_CALL = Parameter(
    12.5,
    "mmHg",
    meaning="oxygen at which HIF-1 calls half as loud as it can, if vessels follow (1.75 % of humid gas)",
    range=(10.7, 14.3),
    source="1.5 to 2 % oxygen, HeLa cells [Jiang et al. 1996, doi 10.1152/ajpcell.1996.271.4.C1172, abstract]; ASSUMED "
    "to hold for this tumour",
    assumed=True,
)
FULL_CALL = Parameter(
    3.6,
    "mmHg",
    meaning="oxygen below which HIF-1 calls as loud as it can, if vessels follow (0.5 % of humid gas)",
    range=(1.8, 7.1),
    source="0.5 % oxygen, HeLa cells [Jiang et al. 1996, doi 10.1152/ajpcell.1996.271.4.C1172, abstract]; ASSUMED: the "
    "range, and that it holds for this tumour",
    assumed=True,
)

PARAMETERS = (ENDOTHELIAL_DOUBLING, HALF_CALL, FULL_CALL)
"""Every parameter of vessels that follow."""

STATEMENT = (
    "Vessels follow the tissue where it is short of oxygen, at the rate of mouse tumours' endothelium (Hobson and "
    "Denekamp 1984) and towards the supply for each cell of time 0; they never regress. No image tells it."
)


def allotment_of(supply: Real, demand: Real) -> Real:
    """(elements,) 1/mmHg supply (1/day) for each largest uptake (mmHg/day); 0 where nothing breathes."""
    return np.divide(supply, demand, out=np.zeros_like(supply), where=demand > 0.0)


def call(oxygen: Real) -> Real:
    """(elements,) share of its largest response that HIF-1 has at this oxygen (mmHg): exponential [Jiang et al. 1996].

    >>> call(np.array([0.0, 3.6, 12.5, 21.4]))
    array([1.  , 1.  , 0.5 , 0.25])
    """
    beyond = np.maximum(oxygen - FULL_CALL.value, 0.0)
    return np.asarray(0.5 ** (beyond / (HALF_CALL.value - FULL_CALL.value)))


def called_for(supply: Real, allotment: Real, demand: Real) -> Real:
    """(elements,) 1/day supply that vessels grow towards, never less than they give now."""
    return np.asarray(np.maximum(supply, np.minimum(allotment * demand, supply_for(HOST_OXYGEN.value, demand))))


def grown(supply: Real, wanted: Real, oxygen: Real, days: float) -> Real:
    """(elements,) 1/day supply after so many days of calling with this oxygen (mmHg) for so much (>= supply)."""
    left = np.exp(-call(oxygen) * np.log(2.0) / ENDOTHELIAL_DOUBLING.value * days)
    called = wanted > supply
    share = np.divide(wanted, supply + (wanted - supply) * left, out=np.ones_like(supply), where=called)
    return np.asarray(supply * share)
