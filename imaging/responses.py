"""Responses of tissue to one input curve, tabulated over the rate constant, and what fits make of them.

The response X(k) = integral of Cp(s) exp(-k (t - s)) ds is the only nonlinear part of every tissue model. It is
computed once for all voxels on a grid that is even in ln k, with its derivative; between the nodes it is cubic in
ln k (relative error below 1e-8 at the spacings used here).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .dce import Sampling

Values = NDArray[np.float64]


def tabulated(sampling: Sampling, k_range: tuple[float, float], spacing: float, stride: int) -> tuple[Values, Values]:
    """ln k (nodes,) and the table (nodes, 2, frames) of X and of its derivative by node spacing; not to be written to.

    k_range in 1/min; the nodes are at most ``spacing`` apart and a multiple of ``stride`` intervals long. Fits of many
    regions or draws ask for the same few tables again and again: the last ones are kept.
    """
    same = (sampling.minutes.tobytes(), sampling.curve.tobytes(), sampling.frames.tobytes(), sampling.reached.tobytes())
    return _tables(_Asked(same, sampling), k_range, spacing, stride)


@dataclass(frozen=True)
class _Asked:
    """A sampling that is known by its content."""

    content: tuple[bytes, ...]
    sampling: Sampling = field(compare=False)


@lru_cache(maxsize=8)
def _tables(asked: _Asked, k_range: tuple[float, float], spacing: float, stride: int) -> tuple[Values, Values]:
    sampling = asked.sampling
    low, high = np.log(k_range[0]), np.log(k_range[1])
    lnk = np.linspace(low, high, max(2, int(np.ceil((high - low) / spacing / stride))) * stride + 1)
    step = lnk[1] - lnk[0]
    table = np.empty((len(lnk), 2, len(sampling.frames)))
    for node, k in enumerate(np.exp(lnk)):
        x, slope = sampling.response(k)
        table[node] = x, step * k * slope
    return lnk, table


@njit(cache=True, nogil=True)
def dot(a: Values, b: Values) -> float:
    """Sum of products."""
    total = 0.0
    for i in range(len(a)):
        total += a[i] * b[i]
    return total


@njit(cache=True, nogil=True)
def amplitudes(xx: float, px: float, pp: float, cx: float, cp: float) -> tuple[float, float]:
    """Non-negative a, b that minimise |c - a x - b p|², by cases; pp = 0 means there is no second amplitude."""
    a, b = max(cx / xx, 0.0) if xx > 0.0 else 0.0, 0.0
    if pp > 0.0:
        alone = max(cp / pp, 0.0)
        determinant = xx * pp - px * px
        if determinant > 1e-13 * xx * pp:
            both_a, both_b = (cx * pp - cp * px) / determinant, (cp * xx - cx * px) / determinant
            if both_a >= 0.0 and both_b >= 0.0:
                return both_a, both_b
        if alone * cp > a * cx:
            a, b = 0.0, alone
    return a, b


@njit(cache=True, nogil=True)
def hermite(s: float, w: Values, v: Values) -> None:
    """Weights w of the four end vectors at s in [0, 1], and v of the derivative by s."""
    w[0], w[1] = (1 + 2 * s) * (1 - s) ** 2, s * (1 - s) ** 2
    w[2], w[3] = s * s * (3 - 2 * s), s * s * (s - 1)
    v[0], v[1] = 6 * s * (s - 1), (1 - s) * (1 - 3 * s)
    v[2], v[3] = 6 * s * (1 - s), s * (3 * s - 2)


@njit(cache=True, nogil=True)
def judge(curve: Values, fitted: Values, judged: Values, row: int) -> None:
    """judged[row] receives the residual sum of squares, the total about the mean, and the runs-test statistic."""
    n = len(curve)
    rss = mean = total = 0.0
    for t in range(n):
        mean += curve[t]
    mean /= n
    positive, runs, before = 0, 1, 0
    for t in range(n):
        r = curve[t] - fitted[t]
        rss += r * r
        total += (curve[t] - mean) ** 2
        sign = 1 if r >= 0.0 else 0
        positive += sign
        if t > 0:
            runs += sign ^ before
        before = sign
    judged[row, 0], judged[row, 1], judged[row, 2] = rss, total, 0.0
    product = 2.0 * positive * (n - positive)
    variance = product * (product - n) / (n * n * (n - 1.0))
    if variance > 0.0:
        judged[row, 2] = (runs - product / n - 1.0) / np.sqrt(variance)


@njit(cache=True, nogil=True)
def inverted(matrix: Values, scale: float, out: Values) -> None:
    """out = scale times the inverse of a symmetric positive matrix; left as it is where that does not exist."""
    n = len(matrix)
    size = np.empty(n)
    for i in range(n):
        if not matrix[i, i] > 0.0:
            return
        size[i] = np.sqrt(matrix[i, i])
    scaled = np.empty((n, n))
    for i in range(n):
        for j in range(n):
            scaled[i, j] = matrix[i, j] / (size[i] * size[j])
    if not np.linalg.det(scaled) > 1e-15:
        return
    inverse = np.linalg.inv(scaled)
    for i in range(n):
        for j in range(n):
            out[i, j] = scale * inverse[i, j] / (size[i] * size[j])
