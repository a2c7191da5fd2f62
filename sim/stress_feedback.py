"""Stress feedback: tissue under pressure grows less. Off unless it is asked for.

    r_eff = 1 + (r - 1) exp(-max(0, -p)/p*)                       (project specification, tissue §3.7)

r is the ratio of volumes that the cells ask of an element in a step and p its mean stress, tension positive, halfway
between the start and the end of the step. The pressure at the end follows from the growth and the growth from the
pressure, so both are iterated until they agree, with Aitken's relaxation [Küttler and Wall 2008, doi
10.1007/s00466-008-0255-5], since plain repetition diverges where the host is stiff.

ASSUMED: what pressure holds back was not born. The composition stays what the cells answered, and they do not feel the
pressure themselves. In agarose fewer cells died under stress and as many divided, packed more densely [Helmlinger et
al. 1997, doi 10.1038/nbt0897-778, abstract]: that is not in this law.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.errors import SolverFault
from ..core.quantity import Parameter
from .equilibrium import Equilibrium, Increment
from .solvers import dot

Real = NDArray[np.float64]
Solve = Callable[[Real, Equilibrium | None], Equilibrium]

SLOWING_PRESSURE = Parameter(
    5.0,
    "kPa",
    "pressure that slows growth e-fold, if stress feedback is asked for",
    source="ASSUMED: spheroids in agarose stop at 45 to 120 mmHg, 6 to 16 kPa [Helmlinger et al. 1997, doi "
    "10.1038/nbt0897-778, abstract], and 10 kPa slow them drastically [Montel et al. 2011, doi "
    "10.1103/PhysRevLett.107.188102, abstract]: exp(-10/5) = 0.14",
    range=(2.0, 10.0),
    assumed=True,
)


def slowing_of(pressure: float) -> Parameter:
    """The parameter at the value that a user states."""
    low, high = SLOWING_PRESSURE.range or (pressure, pressure)
    return replace(SLOWING_PRESSURE, value=pressure, range=(min(low, pressure), max(high, pressure)))


AGREED = 1e-4
"""Largest difference in ln r between two rounds of growth and mechanics that agree."""

MOST_ROUNDS = 12


def slowed(ratio: Real, mean_stress: Real, pressure: float) -> Real:
    """(elements,) r_eff; compression (mean_stress < 0, kPa) slows growth e-fold for each ``pressure`` (kPa).

    >>> slowed(np.array([1.5, 1.5, 1.5]), np.array([0.0, -1e9, 2.0]), 5.0)
    array([1.5, 1. , 1.5])
    """
    return np.asarray(1.0 + (ratio - 1.0) * np.exp(-np.maximum(0.0, -mean_stress) / pressure))


def grow_under_pressure(
    solve: Solve, asked: Real, start: Equilibrium | None, pressure: float
) -> tuple[Equilibrium, dict[str, Any]]:
    """The equilibrium whose growth and pressure agree, and its account.

    solve     (stretch, equilibrium to go on from) -> equilibrium
    asked     (elements,) growth stretch at the end of the step, were there no pressure
    start     equilibrium at the start of the step; None: g = 1 without load
    pressure  p*, kPa

    Raises SolverFault when they do not agree in MOST_ROUNDS.
    """
    before = np.ones_like(asked) if start is None else start.stretch
    ratio = (asked / before) ** 3
    begin = np.zeros_like(asked) if start is None else start.mean_stress
    logs, missed, weight = np.log(slowed(ratio, begin, pressure)), np.zeros_like(asked), 1.0
    found, increments = start, list[Increment]()
    for count in range(1, MOST_ROUNDS + 1):
        found = solve(before * np.exp(logs / 3.0), found)
        increments.extend(found.increments)
        factor = slowed(ratio, (begin + found.mean_stress) / 2.0, pressure)
        last, missed = missed, np.log(factor) - logs
        if np.abs(missed).max() <= AGREED:
            account = {"feedback_rounds": count, "feedback_strongest": _strongest(ratio, factor)}
            return replace(found, increments=tuple(increments)), account
        change = missed - last
        weight = 1.0 if count == 1 else -weight * dot(last, change) / dot(change, change)
        logs = logs + weight * missed
    raise SolverFault(
        f"growth and pressure differ by {np.abs(missed).max():.1e} in ln r after {MOST_ROUNDS} rounds",
        f"at most {AGREED:g}",
        "take shorter macro steps, or a larger stress_feedback",
    )


def _strongest(ratio: Real, factor: Real) -> float:
    """The largest share of the growth asked for that pressure held back in an element."""
    changing = np.abs(ratio - 1.0) > 1e-9
    return float(np.max(1.0 - (factor - 1.0)[changing] / (ratio - 1.0)[changing], initial=0.0))
