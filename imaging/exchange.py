"""Two-compartment exchange (2CXM) and uptake (2CUM): blood plasma and interstitium with a finite plasma flow.

Both are sums of two exponential responses, C = B+ X(K+) + B- X(K-) with K+ > K- (and K- = 0 for uptake). Amplitudes
that are not negative are exactly the physical tissues, so a fit is a search over two rate constants with a
non-negative linear problem inside [Golub and Pereyra 1973, doi 10.1137/0710036]: a grid of all pairs, then
Gauss-Newton steps of the projected problem [Kaufman 1975, doi 10.1007/BF01932995]. No start value is needed. The
models: Brix et al. 2004, doi 10.1002/mrm.20161; Sourbron and Buckley 2012, doi 10.1088/0031-9155/57/2/R1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from ..core.quantity import Parameter
from .aif import PlasmaCurve
from .dce import Sampling, sample
from .responses import amplitudes, hermite, inverted, judge, tabulated
from .voxels import Progress, in_chunks

Values = NDArray[np.float64]

RATE_LOW = Parameter(
    0.02,
    "1/min",
    "lowest rate constant searched in the two-compartment models",
    "project specification, imaging §6",
    range=(0.005, 0.05),
    assumed=True,
)
RATE_HIGH = Parameter(
    60.0,
    "1/min",
    "highest rate constant searched in the two-compartment models",
    "project specification, imaging §6",
    range=(20.0, 120.0),
    assumed=True,
)
_SPACING = 0.04
_STRIDE = 4
_STEPS = 80


@dataclass(frozen=True, eq=False)
class ExchangeFit:
    """Two exponentials fitted to each curve.

    amplitudes  (curves, 2) of the fast and of the slow response, 1/min
    rates       (curves, 2) fast and slow, 1/min
    covariance  (curves, 4, 4) of both amplitudes and of ln of both rates; NaN where a rate is not identified
    judged      (curves, 3) residual sum of squares, total about the mean, runs-test statistic
    at_low, at_high   (curves,) True where the slow rate ended on the lower, the fast one on the upper border
    """

    amplitudes: Values
    rates: Values
    covariance: Values
    judged: Values
    at_low: NDArray[np.bool_]
    at_high: NDArray[np.bool_]


def rates_and_amplitudes(fp: float, ps: float, ve: float, vp: float) -> tuple[float, float, float, float]:
    """K+, K- (1/min) and B+, B- (1/min) of a tissue; ve infinite is uptake without return (K- = 0).

    fp, ps 1/min, above 0; ve, vp fractions
    """
    plasma, mixing = (fp + ps) / vp, ps / ve
    half = 0.5 * (plasma + mixing)
    fast = half + np.sqrt(max(half * half - mixing * fp / vp, 0.0))
    slow = mixing * fp / vp / fast
    share = (fast - fp / vp) / (fast - slow)
    return fast, slow, fp * (1.0 - share), fp * share


def exchange(times_s: ArrayLike, plasma: PlasmaCurve, fp: float, ps: float, ve: float, vp: float) -> Values:
    """Contrast agent in tissue, (frames,) mmol/L, for two-compartment exchange: B+ X(K+) + B- X(K-).

    fp, ps 1/min, above 0; ve, vp fractions, ve infinite for uptake without return
    """
    fast, slow, b_fast, b_slow = rates_and_amplitudes(fp, ps, ve, vp)
    sampling = sample(plasma, times_s)
    return b_fast * sampling.response(fast)[0] + b_slow * sampling.response(slow)[0]


def uptake(times_s: ArrayLike, plasma: PlasmaCurve, fp: float, ps: float, vp: float) -> Values:
    """Contrast agent in tissue, (frames,) mmol/L, for two-compartment uptake: nothing flows back from tissue."""
    return exchange(times_s, plasma, fp, ps, np.inf, vp)


def tissue(b_fast: Values, b_slow: Values, fast: Values, slow: Values) -> dict[str, Values]:
    """fp, ps, ktrans (1/min), ve and vp of two responses (project specification, imaging §5, in closed form).

    With S = B+ K+ + B- K-: fp = B+ + B-, vp = fp²/S, ps = fp B+ B- (K+ - K-)²/S², ve = B+ B- (K+ - K-)²/(S K+ K-)
    and ktrans = fp ps/(fp + ps). A slow rate of 0 is uptake: ve is infinite.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        fp, mixed, apart = b_fast + b_slow, b_fast * fast + b_slow * slow, (fast - slow) ** 2
        ps = fp * b_fast * b_slow * apart / mixed**2
        ve = b_fast * b_slow * apart / (mixed * fast * slow)
        return {"ktrans": fp * ps / (fp + ps), "fp": fp, "ps": ps, "ve": ve, "vp": fp**2 / mixed}


def standard_errors(fit: ExchangeFit) -> dict[str, Values]:
    """Standard errors of the tissue's parameters, by the derivatives of ``tissue`` and the fit's covariance."""
    (b, c), (k, m) = fit.amplitudes.T, fit.rates.T
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        found, mixed, apart = tissue(b, c, k, m), b * k + c * m, k - m
        fp, ps, vp = found["fp"], found["ps"], found["vp"]
        one, none = np.ones_like(b), np.zeros_like(b)
        by_fp = np.stack([one, one, none, none], axis=1)
        by_mixed = np.stack([k, m, b * k, c * m], axis=1)
        by_apart = np.stack([none, none, k, -m], axis=1)
        product = np.stack([c, b, none, none], axis=1)
        columns = {"fp": by_fp, "vp": (2 * fp / mixed)[:, None] * by_fp - (vp / mixed)[:, None] * by_mixed}
        columns["ps"] = (
            (b * c * apart**2)[:, None] * by_fp
            + (fp * apart**2)[:, None] * product
            + (2 * fp * b * c * apart)[:, None] * by_apart
        ) / (mixed**2)[:, None] - (2 * ps / mixed)[:, None] * by_mixed
        extraction = ps / (fp + ps)
        columns["ktrans"] = (extraction**2)[:, None] * by_fp + ((1 - extraction) ** 2)[:, None] * columns["ps"]
        slow = m > 0
        scale = np.where(slow, mixed * k * m, 1.0)
        by_rates = np.stack([none, none, one, one], axis=1)
        ve = np.where(slow, found["ve"], 0.0)
        columns["ve"] = ((apart**2)[:, None] * product + (2 * b * c * apart)[:, None] * by_apart) / scale[:, None] - ve[
            :, None
        ] * (by_mixed / mixed[:, None] + by_rates)
        return {
            name: np.sqrt(np.maximum(np.einsum("ni,nij,nj->n", one_column, fit.covariance, one_column), 0.0))
            for name, one_column in columns.items()
        }


@njit(cache=True, nogil=True)
def _place(u: float, nodes: int, w: Values, v: Values, places: NDArray[np.int64]) -> None:
    """Weights w, v and the places of the four end vectors at u, the position along the nodes (0 to nodes - 1)."""
    node = min(int(u), nodes - 2)
    hermite(u - node, w, v)
    places[0], places[1], places[2], places[3] = node, nodes + node, node + 1, nodes + node + 1


@njit(cache=True, nogil=True)
def _products(
    fast: float, slow: float, dots: Values, gram: Values, wv: Values, places: NDArray[np.int64], out: Values
) -> None:
    """out (5, 4): products of x+, x-, x+', x-' with one another and, in the last row, with the curve."""
    nodes = len(dots) // 2
    _place(fast, nodes, wv[0], wv[2], places[0])
    _place(slow, nodes, wv[1], wv[3], places[1])
    for i in range(4):
        total = 0.0
        for p in range(4):
            total += wv[i, p] * dots[places[i % 2, p]]
        out[4, i] = total
        for j in range(i, 4):
            total = 0.0
            for p in range(4):
                for q in range(4):
                    total += wv[i, p] * gram[places[i % 2, p], places[j % 2, q]] * wv[j, q]
            out[i, j] = out[j, i] = total


@njit(cache=True, nogil=True)
def _projected(out: Values, a: float, b: float, i: int, j: int) -> float:
    """Product of the columns x_i', x_j' (2, 3), each times its amplitude, with the fitted responses projected off."""
    si, sj = (a if i == 2 else b), (a if j == 2 else b)
    value = out[i, j]
    if a > 0.0 and b > 0.0:
        determinant = out[0, 0] * out[1, 1] - out[0, 1] * out[0, 1]
        value -= (
            out[i, 0] * (out[1, 1] * out[0, j] - out[0, 1] * out[1, j])
            + out[i, 1] * (out[0, 0] * out[1, j] - out[0, 1] * out[0, j])
        ) / determinant
    elif a > 0.0:
        value -= out[i, 0] * out[0, j] / out[0, 0]
    elif b > 0.0:
        value -= out[i, 1] * out[1, j] / out[1, 1]
    return float(si * sj * value)


@njit(cache=True, nogil=True)
def _best_pair(dots: Values, gram: Values) -> tuple[float, float]:
    """The pair of coarse nodes, fast before slow, with the largest explained sum of squares."""
    nodes = len(dots) // 2
    best_fast, best_slow, best_gain = _STRIDE, 0, -1.0
    for fast in range(_STRIDE, nodes, _STRIDE):
        for slow in range(0, fast, _STRIDE):
            a, b = amplitudes(gram[fast, fast], gram[fast, slow], gram[slow, slow], dots[fast], dots[slow])
            gain = a * dots[fast] + b * dots[slow]
            if gain > best_gain:
                best_fast, best_slow, best_gain = fast, slow, gain
    return float(best_fast), float(best_slow)


@njit(cache=True, nogil=True)
def _refined(
    fast: float, slow: float, dots: Values, gram: Values, wv: Values, places: NDArray[np.int64], out: Values
) -> tuple[float, float, float, float]:
    """Both positions at the optimum and their amplitudes: damped Gauss-Newton steps kept on the grid."""
    top, damping = float(len(dots) // 2 - 1), 1e-3
    _products(fast, slow, dots, gram, wv, places, out)
    a, b = amplitudes(out[0, 0], out[0, 1], out[1, 1], out[4, 0], out[4, 1])
    gain = a * out[4, 0] + b * out[4, 1]
    for _ in range(_STEPS):
        g0 = a * (out[4, 2] - a * out[0, 2] - b * out[1, 2])
        g1 = b * (out[4, 3] - a * out[0, 3] - b * out[1, 3])
        h00, h11 = _projected(out, a, b, 2, 2), _projected(out, a, b, 3, 3)
        h01 = _projected(out, a, b, 2, 3)
        free0 = h00 > 0.0 and not ((fast >= top and g0 > 0.0) or (fast <= 0.0 and g0 < 0.0))
        free1 = h11 > 0.0 and not ((slow <= 0.0 and g1 < 0.0) or (slow >= top and g1 > 0.0))
        if not (free0 or free1):
            break
        moved = False
        while damping < 1e12:
            d00, d11 = h00 * (1.0 + damping), h11 * (1.0 + damping)
            step0 = step1 = 0.0
            if free0 and free1:
                determinant = d00 * d11 - h01 * h01
                step0, step1 = (g0 * d11 - g1 * h01) / determinant, (g1 * d00 - g0 * h01) / determinant
            elif free0:
                step0 = g0 / d00
            else:
                step1 = g1 / d11
            new_fast = min(max(fast + min(max(step0, -8.0), 8.0), 0.0), top)
            new_slow = min(max(slow + min(max(step1, -8.0), 8.0), 0.0), top)
            _products(new_fast, new_slow, dots, gram, wv, places, out)
            new_a, new_b = amplitudes(out[0, 0], out[0, 1], out[1, 1], out[4, 0], out[4, 1])
            new_gain = new_a * out[4, 0] + new_b * out[4, 1]
            if new_gain > gain:
                moved = True
                break
            damping *= 8.0
        if not moved:
            break
        done = abs(new_fast - fast) + abs(new_slow - slow) < 1e-9
        fast, slow, a, b, gain = new_fast, new_slow, new_a, new_b, new_gain
        damping = max(damping * 0.1, 1e-12)
        if done:
            break
    _products(fast, slow, dots, gram, wv, places, out)
    return fast, slow, a, b


@njit(cache=True, nogil=True)
def _fit_rows(
    curves: Values,
    lnk: Values,
    columns: Values,
    gram: Values,
    found: Values,
    covariance: Values,
    judged: Values,
    limits: NDArray[np.bool_],
    start: int,
    stop: int,
) -> None:
    """Fit the rows start..stop: found B+, B-, K+, K-; limits slow at the lower, fast at the upper border.

    columns (frames, 2 nodes): X of every node, then X'
    """
    frames, nodes = curves.shape[1], len(lnk)
    step, top = lnk[1] - lnk[0], nodes - 1.0
    dots, wv, places = np.empty(2 * nodes), np.empty((4, 4)), np.empty((2, 4), np.int64)
    out, fitted, normal = np.empty((5, 4)), np.empty(frames), np.empty((4, 4))
    for row in range(start, stop):
        dots[:] = 0.0
        for t in range(frames):
            for node in range(2 * nodes):
                dots[node] += curves[row, t] * columns[t, node]
        fast, slow = _best_pair(dots, gram)
        fast, slow, a, b = _refined(fast, slow, dots, gram, wv, places, out)
        for t in range(frames):
            fitted[t] = 0.0
            for p in range(4):
                fitted[t] += a * wv[0, p] * columns[t, places[0, p]] + b * wv[1, p] * columns[t, places[1, p]]
        judge(curves[row], fitted, judged, row)
        sizes = (1.0, 1.0, a / step, b / step)
        for i in range(4):
            for j in range(4):
                normal[i, j] = sizes[i] * sizes[j] * out[i, j]
        inverted(normal, judged[row, 0] / max(frames - 4, 1), covariance[row])
        if fast < slow:
            fast, slow, a, b = slow, fast, b, a
            for i in range(4):
                covariance[row, i, 0], covariance[row, i, 1] = covariance[row, i, 1], covariance[row, i, 0]
                covariance[row, i, 2], covariance[row, i, 3] = covariance[row, i, 3], covariance[row, i, 2]
            for i in range(4):
                covariance[row, 0, i], covariance[row, 1, i] = covariance[row, 1, i], covariance[row, 0, i]
                covariance[row, 2, i], covariance[row, 3, i] = covariance[row, 3, i], covariance[row, 2, i]
        found[row, 0], found[row, 1] = a, b
        found[row, 2], found[row, 3] = np.exp(lnk[0] + step * fast), np.exp(lnk[0] + step * slow)
        limits[row, 0], limits[row, 1] = slow <= 1e-6, fast >= top - 1e-6


@njit(cache=True, nogil=True)
def uptake_covariance(
    found: Values, variance: Values, lnk: Values, gram: Values, products: Values, beside: float, out: Values
) -> None:
    """Covariance of B+, B- and ln K+ (out, rows, 4, 4; the slow rate is known) at found B+, K+, B-.

    gram (nodes - 1, 4, 4), products (nodes, 4): as tabulated for one response beside the integral of Cp
    beside  the sum of squares of that integral
    """
    w, v, normal, inverse = np.empty(4), np.empty(4), np.empty((3, 3)), np.empty((3, 3))
    step, last = lnk[1] - lnk[0], len(lnk) - 2
    for row in range(len(found)):
        u = (np.log(found[row, 1]) - lnk[0]) / step
        node = min(max(int(u), 0), last)
        hermite(u - node, w, v)
        xx = xd = dd = px = pd = 0.0
        for i in range(4):
            px += w[i] * products[node + i // 2, 2 + i % 2]
            pd += v[i] * products[node + i // 2, 2 + i % 2]
            for j in range(4):
                xx += w[i] * gram[node, i, j] * w[j]
                xd += w[i] * gram[node, i, j] * v[j]
                dd += v[i] * gram[node, i, j] * v[j]
        slope = found[row, 0] / step
        normal[0, 0], normal[1, 1], normal[2, 2] = xx, beside, slope * slope * dd
        normal[0, 1] = normal[1, 0] = px
        normal[0, 2] = normal[2, 0] = slope * xd
        normal[1, 2] = normal[2, 1] = slope * pd
        inverse[:] = np.nan
        inverted(normal, variance[row], inverse)
        out[row] = 0.0
        out[row, :3, :3] = inverse


def fit_exchange(
    curves: Values,
    sampling: Sampling,
    *,
    rate_range: tuple[float, float] = (RATE_LOW.value, RATE_HIGH.value),
    threads: int | None = None,
    progress: Progress | None = None,
) -> ExchangeFit:
    """Two exponential responses for every curve (curves, frames), mmol/L, all finite."""
    lnk, table = tabulated(sampling, rate_range, _SPACING, _STRIDE)
    columns = np.ascontiguousarray(np.concatenate([table[:, 0], table[:, 1]]).T)
    gram, count = columns.T @ columns, len(curves)
    found, covariance = np.zeros((count, 4)), np.full((count, 4, 4), np.nan)
    judged, limits = np.zeros((count, 3)), np.zeros((count, 2), dtype=bool)
    in_chunks(
        lambda start, stop: _fit_rows(curves, lnk, columns, gram, found, covariance, judged, limits, start, stop),
        count,
        threads=threads,
        progress=progress,
        what="2cxm fit",
    )
    return ExchangeFit(found[:, :2], found[:, 2:], covariance, judged, limits[:, 0], limits[:, 1])
