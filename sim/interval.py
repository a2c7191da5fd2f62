"""The interval of a forecast: what chance and the choice of elements leave open of the tumour's volume."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm
from scipy.stats import t as student_t

from .forecast import MacroStep

LEVEL = 0.9
"""Level of the interval of a forecast."""

LEAST_VOLUME = 1e-3
"""mL: a tumour that images no longer show counts as this much where ln V is asked for."""


def interval(volumes: NDArray[np.float64], steps: Sequence[MacroStep]) -> NDArray[np.float64]:
    """(days, 2) mL at LEVEL: chance of the cells (over seeds) and error of the extrapolation, added in squares in ln V.

    ASSUMED: what leaving one representative out misses is independent between representatives and between steps.
    Members tell what chance does; one member alone leaves chance out. Errors of images and model are not in it.
    """
    log_volume = np.log(np.maximum(volumes, LEAST_VOLUME))
    members = len(volumes)
    chance = np.zeros(volumes.shape[1])
    if members > 1:
        quantile = student_t.ppf(0.5 + LEVEL / 2, members - 1)
        chance = quantile * log_volume.std(axis=0, ddof=1) * np.sqrt(1.0 + 1.0 / members)
    missed = np.concatenate([[0.0], np.cumsum([step.extrapolation**2 for step in steps])])
    half = np.sqrt(chance**2 + norm.ppf(0.5 + LEVEL / 2) ** 2 * missed)
    return np.column_stack([volumes[0] * np.exp(-half), volumes[0] * np.exp(half)])
