"""The interval of ve by its profile over kep, where the curvature at the optimum is too narrow.

Where kep is below 0.1 per minute the sum of squares is far from a parabola in ve, and an interval from the curvature
covers 88 % instead of 95 % (project specification, imaging §7). The profile keeps every kep whose best sum of squares
is at most RSS (1 + F(1, n - p; 0.95)/(n - p)) [Bates and Watts 1988, doi 10.1002/9780470316757, ch. 6]; the ve that
belong to them are the interval.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray
from scipy.stats import f as fisher
from scipy.stats import t as student

from ..core.quantity import Parameter
from .aif import PlasmaCurve
from .dce import sample
from .kinetics import KEP_HIGH, KEP_LOW, KineticFit
from .responses import amplitudes, dot, tabulated

Values = NDArray[np.float64]

PROFILE_BELOW = Parameter(
    0.1,
    "1/min",
    "kep below which the error of ve comes from the profile",
    "project specification, imaging §7",
    range=(0.05, 0.2),
    assumed=True,
)
LEVEL = 0.95
_SPACING = 0.05


@njit(cache=True, nogil=True)
def _bounds(
    curves: Values, lnk: Values, columns: Values, beside: Values, best: Values, most: Values, out: Values
) -> None:
    """out (rows, 2): least and greatest ve of the connected stretch of nodes around the best whose sum is small enough.

    columns (frames, nodes)
    """
    nodes, pp = len(lnk), dot(beside, beside)
    xx, px = np.zeros(nodes), np.zeros(nodes)
    for t in range(len(beside)):
        for m in range(nodes):
            xx[m] += columns[t, m] * columns[t, m]
            px[m] += columns[t, m] * beside[t]
    dots = np.empty(nodes)
    for row in range(len(curves)):
        curve = curves[row]
        cc, cp = dot(curve, curve), dot(curve, beside)
        dots[:] = 0.0
        for t in range(len(curve)):
            for m in range(nodes):
                dots[m] += curve[t] * columns[t, m]
        middle = min(max(int((best[row] - lnk[0]) / (lnk[1] - lnk[0]) + 0.5), 0), nodes - 1)
        for direction in (-1, 1):
            m = middle
            while 0 <= m < nodes:
                a, b = amplitudes(xx[m], px[m], pp, dots[m], cp)
                share = a / np.exp(lnk[m])
                out[row, 0], out[row, 1] = min(out[row, 0], share), max(out[row, 1], share)
                if cc - a * dots[m] - b * cp > most[row]:
                    break
                m += direction


def largest_sum(fit: KineticFit, level: float = LEVEL) -> Values:
    """(curves,) the largest sum of squares inside the profile's interval, in the units of the fit's."""
    return np.asarray(fit.rss * (1.0 + fisher.ppf(level, 1, fit.freedom) / fit.freedom))


def ve_interval(
    times_s: ArrayLike, concentrations: ArrayLike, plasma: PlasmaCurve, fit: KineticFit, level: float = LEVEL
) -> tuple[Values, Values]:
    """(curves,) least and greatest ve at a level of confidence, for Tofts and extended Tofts; outward to a node (5 %).

    An end that lies on the border of the search is open: the data allow values beyond it.
    """
    sampling, curves = sample(plasma, times_s), np.ascontiguousarray(np.atleast_2d(np.asarray(concentrations, float)))
    most = largest_sum(fit, level)
    lnk, table = tabulated(sampling, (KEP_LOW.value, KEP_HIGH.value), _SPACING, 1)
    beside = sampling.plasma if fit.model == "extended-tofts" else np.zeros(len(sampling.frames))
    out = np.repeat(fit.parameters["ve"][:, None], 2, axis=1)
    rows = np.isfinite(out[:, 0])
    found = np.ascontiguousarray(out[rows])
    _bounds(
        np.ascontiguousarray(curves[rows]),
        lnk,
        np.ascontiguousarray(table[:, 0].T),
        beside,
        np.log(fit.parameters["kep"][rows]),
        most[rows],
        found,
    )
    out[rows] = found
    return out[:, 0], out[:, 1]


def with_profile(times_s: ArrayLike, concentrations: ArrayLike, plasma: PlasmaCurve, fit: KineticFit) -> KineticFit:
    """The fit with the error of ve from the profile, where kep is low: half the 95 % interval over Student's t."""
    if fit.model not in ("tofts", "extended-tofts"):
        return fit
    with np.errstate(invalid="ignore"):
        rows = np.flatnonzero(fit.parameters["kep"] < PROFILE_BELOW.value)
    if not len(rows):
        return fit
    few = replace(
        fit,
        parameters={name: values[rows] for name, values in fit.parameters.items()},
        rss=fit.rss[rows],
    )
    curves = np.atleast_2d(np.asarray(concentrations, float))[rows]
    low, high = ve_interval(times_s, curves, plasma, few)
    width = student.ppf(0.5 + LEVEL / 2, fit.freedom)
    errors = fit.errors["ve"].copy()
    errors[rows] = (high - low) / (2 * width)
    return replace(fit, errors={**fit.errors, "ve": errors})
