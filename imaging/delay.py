"""The delay of the input curve as one more unknown of every curve: an outer search over shifted input curves."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..core.errors import ModelRefused
from ..core.quantity import Parameter
from .aif import PlasmaCurve
from .kinetics import DELAY_RANGE, KEP_HIGH, KEP_LOW, KineticFit, Model, fit_curves

Values = NDArray[np.float64]

EXCHANGE_STEP = Parameter(
    0.5,
    "s",
    "step of the delay in the exchange model, whose optimum over a continuous delay trades PS for delay",
    "project specification, imaging §6",
    range=(0.25, 1.0),
)
STEPS = (1.0, 0.2, 0.05)
"""s; each step is searched one length of the step before to both sides of its best delay."""


def fit_delayed(
    times_s: ArrayLike,
    concentrations: ArrayLike,
    model: Model,
    plasma: PlasmaCurve,
    *,
    delays_s: tuple[float, float] = (-DELAY_RANGE.value, DELAY_RANGE.value),
    kep_range: tuple[float, float] = (KEP_LOW.value, KEP_HIGH.value),
    threads: int | None = None,
) -> tuple[KineticFit, Values]:
    """Fit every curve with its own delay of the input curve, positive where the tissue is reached later.

    concentrations  (curves, frames) mmol/L
    delays_s        earliest and latest delay tried, s: on whole seconds first, then refined to 0.05 s; for exchange
                    on a grid of 0.5 s, without refinement
    returns         the fits and the (curves,) delays, s; a delay is NaN where the curve was not finite

    Raises ModelRefused as ``fit_curves`` does, and if no delay leaves any contrast agent in the input curve.
    """
    curves = np.atleast_2d(np.asarray(concentrations, dtype=np.float64))
    first, last = delays_s
    if not (np.isfinite([first, last]).all() and first <= last):
        raise ModelRefused(f"delays from {first} to {last} s", "earliest before latest", "correct the range")

    def fitted(rows: NDArray[np.intp], delay: float) -> KineticFit | None:
        try:
            return fit_curves(times_s, curves[rows], model, plasma.delayed(delay), kep_range=kep_range, threads=threads)
        except ModelRefused:
            if np.any(plasma.delayed(delay).at(times_s) > 0):
                raise
            return None

    steps = (EXCHANGE_STEP.value,) if model == "2cxm" else STEPS
    everyone = np.arange(len(curves))
    tried = np.arange(np.ceil(first / steps[0]), np.floor(last / steps[0]) + 1) * steps[0]
    best, delays = None, np.full(len(curves), np.nan)
    for delay in tried if len(tried) else (first,):
        best, delays = _better(best, delays, fitted(everyone, delay), everyone, delay)
    if best is None:
        raise ModelRefused(
            "an input function that is zero at every frame, whatever its delay",
            "contrast agent in blood during the series",
            "check the times of the input function",
        )
    for before, step in pairwise(steps):
        around = np.arange(-round(before / step), round(before / step) + 1) * step
        wanted = np.round(np.clip(delays[:, None] + around, first, last), 6)
        for delay in np.unique(wanted[np.isfinite(wanted)]):
            rows = np.flatnonzero((wanted == delay).any(axis=1))
            best, delays = _better(best, delays, fitted(rows, float(delay)), rows, float(delay))
    assert best is not None
    return best, delays


def _better(
    best: KineticFit | None, delays: Values, other: KineticFit | None, rows: NDArray[np.intp], delay: float
) -> tuple[KineticFit | None, Values]:
    """The best fits so far, with those of some rows replaced where the other's residual is smaller."""
    if other is None:
        return best, delays
    if best is None:
        return other, np.where(np.isfinite(other.rss), delay, np.nan)
    better = other.rss < best.rss[rows]
    into = rows[better]

    def merged(old: NDArray[Any], new: NDArray[Any]) -> NDArray[Any]:
        out = old.copy()
        out[into] = new[better]
        return out

    made = replace(
        best,
        parameters={name: merged(values, other.parameters[name]) for name, values in best.parameters.items()},
        errors={name: merged(values, other.errors[name]) for name, values in best.errors.items()},
        rss=merged(best.rss, other.rss),
        flags=merged(best.flags, other.flags),
        total=None if best.total is None or other.total is None else merged(best.total, other.total),
    )
    return made, merged(delays, np.full(len(rows), delay))
