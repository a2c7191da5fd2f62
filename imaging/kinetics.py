"""Fits of tissue curves by variable projection: no start values, no failures to converge, the global optimum.

Only the rate constant kep enters a Tofts-type model nonlinearly. For each kep the best amplitudes (Ktrans and,
in the extended model, vp) are a non-negative linear least-squares problem of one or two unknowns, so the search
is one-dimensional. The responses X(kep) of the input curve are tabulated once for all voxels on a fine
logarithmic grid together with their derivatives; between its nodes they are cubic in ln kep (relative error
below 1e-8). A voxel costs one pass over a coarse grid, a bisection over nodes and a root of the derivative of
the projected sum of squares. Tofts 1997, doi 10.1002/jmri.1880070113; variable projection: Golub and Pereyra
1973, doi 10.1137/0710036.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from ..core.errors import ModelRefused
from ..core.quantity import Parameter
from .aif import PlasmaCurve
from .dce import Sampling, sample
from .quality import bit
from .voxels import Progress, in_chunks

Values = NDArray[np.float64]
Model = Literal["tofts", "extended-tofts", "patlak"]
MODELS: tuple[Model, ...] = ("tofts", "extended-tofts", "patlak")

KEP_LOW = Parameter(
    0.005,
    "1/min",
    "lowest rate constant searched",
    "project specification, imaging §15",
    range=(0.001, 0.02),
    assumed=True,
)
KEP_HIGH = Parameter(
    20.0,
    "1/min",
    "highest rate constant searched",
    "project specification, imaging §6",
    range=(10.0, 60.0),
    assumed=True,
)
LEAST_FRAMES = Parameter(
    8.0,
    "1",
    "fewest frames that may carry a kinetic model",
    "project specification, imaging §7",
    range=(8.0, 20.0),
    assumed=True,
)
DELAY_RANGE = Parameter(
    10.0,
    "s",
    "furthest shift of the input curve that is tried, each way",
    "bounds of the OSIPI code collection (-10 to 10 s)",
    range=(5.0, 20.0),
)
NODE_SPACING = 0.04
_COARSE = 8
_PAD = 16
_GOLDEN = 0.3819660112501051


@dataclass(frozen=True, eq=False)
class KineticFit:
    """Fitted curves, one entry a voxel.

    parameters  ktrans and kep (1/min), ve and vp (fractions), or ps (1/min) and vp for Patlak: as fitted, NaN
                only where the curve was not finite
    errors      standard errors from the curvature at the optimum, same names and units
    rss         residual sum of squares, (mmol/L)²
    flags       quality words
    """

    model: Model
    parameters: Mapping[str, Values]
    errors: Mapping[str, Values]
    rss: Values
    flags: NDArray[np.uint32]
    frames: int = 0

    @property
    def aicc(self) -> Values:
        """(voxels,) Akaike's criterion for small samples; lower is better. Needs noise: -inf for a perfect fit."""
        n, k = self.frames, {"tofts": 3, "extended-tofts": 4, "patlak": 3}[self.model]
        with np.errstate(divide="ignore"):
            return n * np.log(self.rss / n) + 2 * k + 2 * k * (k + 1) / max(n - k - 1, 1)


@dataclass(frozen=True, eq=False)
class _Basis:
    """The tabulated responses of one input curve and one set of frames, on nodes evenly spaced in ln kep.

    lnk       (nodes,) ln of kep in 1/min
    table     (nodes, 2, frames) X and its derivative by node spacing
    coarse    (frames, …) X at every eighth node, padded with zeros to whole vectors
    plasma    (frames,) mmol/L, zero for models without plasma
    products  (nodes, 4) X·X, X·X', plasma·X, plasma·X'
    gram      (nodes - 1, 4, 4) products of X, X' at both ends of an interval
    """

    lnk: Values
    table: Values
    coarse: Values
    plasma: Values
    products: Values
    gram: Values


def _basis(sampling: Sampling, kep_range: tuple[float, float], spacing: float, *, vascular: bool) -> _Basis:
    low, high = np.log(kep_range[0]), np.log(kep_range[1])
    lnk = np.linspace(low, high, max(2, int(np.ceil((high - low) / spacing / _COARSE))) * _COARSE + 1)
    step = lnk[1] - lnk[0]
    table = np.empty((len(lnk), 2, len(sampling.frames)))
    for node, k in enumerate(np.exp(lnk)):
        x, slope = sampling.response(k)
        table[node] = x, step * k * slope
    plasma = sampling.plasma if vascular else np.zeros(len(sampling.frames))
    coarse = np.zeros((len(sampling.frames), -(-(len(lnk) // _COARSE + 1) // _PAD) * _PAD))
    coarse[:, : len(lnk) // _COARSE + 1] = table[::_COARSE, 0].T
    x, d = table[:, 0], table[:, 1]
    products = np.stack(
        [
            np.einsum("nt,nt->n", x, x),
            np.einsum("nt,nt->n", x, d),
            np.einsum("nt,t->n", x, plasma),
            np.einsum("nt,t->n", d, plasma),
        ],
        axis=1,
    )
    ends = np.concatenate([table[:-1], table[1:]], axis=1)
    return _Basis(lnk, table, coarse, plasma, products, np.einsum("nat,nbt->nab", ends, ends))


@njit(cache=True, nogil=True)
def _dot(a: Values, b: Values) -> float:
    """Sum of products."""
    total = 0.0
    for i in range(len(a)):
        total += a[i] * b[i]
    return total


@njit(cache=True, nogil=True)
def _two_dots(curve: Values, table: Values, node: int) -> tuple[float, float]:
    """Products of a curve with X and X' of a node, each in four partial sums, always in the same order."""
    x0 = x1 = x2 = x3 = d0 = d1 = d2 = d3 = 0.0
    n = len(curve) - len(curve) % 4
    for i in range(0, n, 4):
        x0 += curve[i] * table[node, 0, i]
        x1 += curve[i + 1] * table[node, 0, i + 1]
        x2 += curve[i + 2] * table[node, 0, i + 2]
        x3 += curve[i + 3] * table[node, 0, i + 3]
        d0 += curve[i] * table[node, 1, i]
        d1 += curve[i + 1] * table[node, 1, i + 1]
        d2 += curve[i + 2] * table[node, 1, i + 2]
        d3 += curve[i + 3] * table[node, 1, i + 3]
    for i in range(n, len(curve)):
        x0 += curve[i] * table[node, 0, i]
        d0 += curve[i] * table[node, 1, i]
    return (x0 + x1) + (x2 + x3), (d0 + d1) + (d2 + d3)


@njit(cache=True, nogil=True)
def _amplitudes(xx: float, px: float, pp: float, cx: float, cp: float) -> tuple[float, float]:
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
def _hermite(s: float, w: Values, v: Values) -> None:
    """Weights w of the four end vectors at s in [0, 1], and v of the derivative by s."""
    w[0], w[1] = (1 + 2 * s) * (1 - s) ** 2, s * (1 - s) ** 2
    w[2], w[3] = s * s * (3 - 2 * s), s * s * (s - 1)
    v[0], v[1] = 6 * s * (s - 1), (1 - s) * (1 - 3 * s)
    v[2], v[3] = 6 * s * (1 - s), s * (3 * s - 2)


@njit(cache=True, nogil=True)
def _inside(
    s: float, gram: Values, node: int, ends: Values, pp: float, cp: float, w: Values, v: Values, out: Values
) -> float:
    """Amplitudes and the derivative of the explained sum of squares at s inside the interval after a node.

    ends (2, 4): products of the curve and of the plasma with the four end vectors.
    out receives a, b, xx, px, x·x', p·x'; the derivative is returned.
    """
    _hermite(s, w, v)
    cx = cd = px = pd = xx = xd = 0.0
    for i in range(4):
        cx += w[i] * ends[0, i]
        cd += v[i] * ends[0, i]
        px += w[i] * ends[1, i]
        pd += v[i] * ends[1, i]
        along = gram[node, i, 0] * w[0] + gram[node, i, 1] * w[1] + gram[node, i, 2] * w[2] + gram[node, i, 3] * w[3]
        xx += w[i] * along
        xd += v[i] * along
    a, b = _amplitudes(xx, px, pp, cx, cp)
    out[0], out[1], out[2], out[3], out[4], out[5] = a, b, xx, px, xd, pd
    return a * (cd - a * xd - b * pd)


@njit(cache=True, nogil=True)
def _root(gram: Values, node: int, ends: Values, pp: float, cp: float, w: Values, v: Values, out: Values) -> float:
    """s in [0, 1] where the derivative vanishes: secant steps kept inside a bracket (Illinois)."""
    low, high = 0.0, 1.0
    f_low = _inside(low, gram, node, ends, pp, cp, w, v, out)
    f_high = _inside(high, gram, node, ends, pp, cp, w, v, out)
    if f_low <= 0.0:
        return low
    if f_high >= 0.0:
        return high
    side, before = 0, -1.0
    for _ in range(80):
        middle = (low * f_high - high * f_low) / (f_high - f_low)
        if not low < middle < high:
            middle = 0.5 * (low + high)
        f_middle = _inside(middle, gram, node, ends, pp, cp, w, v, out)
        if f_middle > 0.0:
            low, f_low = middle, f_middle
            if side == 1:
                f_high *= 0.5
            side = 1
        else:
            high, f_high = middle, f_middle
            if side == -1:
                f_low *= 0.5
            side = -1
        if abs(middle - before) < 1e-11 or f_middle == 0.0:
            return middle
        before = middle
    return before


@njit(cache=True, nogil=True)
def _best_coarse(curve: Values, coarse: Values, products: Values, pp: float, cp: float, work: Values) -> int:
    """The coarse node with the largest explained sum of squares.

    coarse (frames, coarse nodes): the frame runs outside so that the nodes are summed side by side.
    """
    work[:] = 0.0
    for t in range(len(curve)):
        for m in range(len(work)):
            work[m] += curve[t] * coarse[t, m]
    best, best_gain = 0, -1.0
    for m in range(len(products) // _COARSE + 1):
        a, b = _amplitudes(products[m * _COARSE, 0], products[m * _COARSE, 2], pp, work[m], cp)
        gain = a * work[m] + b * cp
        if gain > best_gain:
            best, best_gain = m, gain
    return best


@njit(cache=True, nogil=True)
def _rising(curve: Values, table: Values, products: Values, pp: float, cp: float, node: int) -> bool:
    """True if the explained sum of squares grows with kep at a node."""
    cx, cd = _two_dots(curve, table, node)
    a, b = _amplitudes(products[node, 0], products[node, 2], pp, cx, cp)
    return bool(a * (cd - a * products[node, 1] - b * products[node, 3]) > 0.0)


@njit(cache=True, nogil=True)
def _interval(curve: Values, table: Values, products: Values, pp: float, cp: float, best: int) -> tuple[int, int]:
    """First node of the interval that holds the optimum near a coarse node; -1, 0, 1: below, inside, above the grid."""
    last = len(table) - 1
    node = best * _COARSE
    if _rising(curve, table, products, pp, cp, node):
        if node == last:
            return last - 1, 1
        low, high = node, node + _COARSE
    else:
        if node == 0:
            return 0, -1
        low, high = node - _COARSE, node
    while high - low > 1:
        middle = (low + high) // 2
        if _rising(curve, table, products, pp, cp, middle):
            low = middle
        else:
            high = middle
    return low, 0


@njit(cache=True, nogil=True)
def _standard_errors(out: Values, pp: float, step: float, kep: float, variance: float, errors: Values) -> None:
    """Square roots of the diagonal of variance (J'J)^-1 for Ktrans, ve, vp and kep.

    J has the columns x, a x' and p; its products are in out (x'·x' last), x' taken by node spacing.
    """
    a = out[0]
    m00, m11, m22 = out[2], a * a * out[6], pp
    m01, m02, m12 = a * out[4], out[3], a * out[5]
    if pp == 0.0:
        det = m00 * m11 - m01 * m01
        c00, c11, c01, c22 = m11, m00, -m01, np.nan
    else:
        c00, c11, c01 = m11 * m22 - m12 * m12, m00 * m22 - m02 * m02, m02 * m12 - m01 * m22
        c22 = m00 * m11 - m01 * m01
        det = m00 * c00 + m01 * c01 + m02 * (m01 * m12 - m11 * m02)
    if not det > 0.0:
        return
    scale = variance / det
    relative = c00 / (a * a) + c11 * step * step - 2.0 * c01 * step / a
    errors[0] = np.sqrt(scale * c00)
    errors[1] = a / kep * np.sqrt(max(scale * relative, 0.0))
    errors[2] = np.sqrt(scale * c22)
    errors[3] = kep * step * np.sqrt(scale * c11)


@njit(cache=True, nogil=True)
def _residuals(
    curve: Values, table: Values, node: int, w: Values, a: float, b: float, plasma: Values, judged: Values, row: int
) -> None:
    """judged[row] receives the residual sum of squares, the total about the mean, and the runs-test statistic."""
    n = len(curve)
    rss = mean = total = 0.0
    for t in range(n):
        mean += curve[t]
    mean /= n
    positive, runs, before = 0, 1, 0
    for t in range(n):
        x = (
            w[0] * table[node, 0, t]
            + w[1] * table[node, 1, t]
            + w[2] * table[node + 1, 0, t]
            + w[3] * table[node + 1, 1, t]
        )
        r = curve[t] - a * x - b * plasma[t]
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
def _fit_rows(
    curves: Values,
    lnk: Values,
    table: Values,
    coarse: Values,
    plasma: Values,
    products: Values,
    gram: Values,
    found: Values,
    errors: Values,
    judged: Values,
    limit: NDArray[np.int64],
    start: int,
    stop: int,
) -> None:
    """Fit the rows start..stop: found a, kep, b; errors of Ktrans, ve, vp, kep; limit -1, 0 or 1."""
    step = lnk[1] - lnk[0]
    pp = _dot(plasma, plasma)
    work, ends = np.empty(coarse.shape[1]), np.empty((2, 4))
    w, v, out = np.empty(4), np.empty(4), np.empty(7)
    parameters = 3 if pp > 0.0 else 2
    for row in range(start, stop):
        curve = curves[row]
        cp = _dot(curve, plasma) if pp > 0.0 else 0.0
        node, limit[row] = _interval(
            curve, table, products, pp, cp, _best_coarse(curve, coarse, products, pp, cp, work)
        )
        ends[0, 0], ends[0, 1] = _two_dots(curve, table, node)
        ends[0, 2], ends[0, 3] = _two_dots(curve, table, node + 1)
        ends[1, 0], ends[1, 1] = products[node, 2], products[node, 3]
        ends[1, 2], ends[1, 3] = products[node + 1, 2], products[node + 1, 3]
        s = _root(gram, node, ends, pp, cp, w, v, out) if limit[row] == 0 else 0.5 * (1.0 + limit[row])
        _inside(s, gram, node, ends, pp, cp, w, v, out)
        out[6] = 0.0
        for i in range(4):
            for j in range(4):
                out[6] += v[i] * gram[node, i, j] * v[j]
        kep = np.exp(lnk[node] + s * step)
        found[row, 0], found[row, 1], found[row, 2] = out[0], kep, out[1]
        _residuals(curve, table, node, w, out[0], out[1], plasma, judged, row)
        if out[0] > 0.0:
            _standard_errors(out, pp, step, kep, judged[row, 0] / max(len(curve) - parameters, 1), errors[row])


def fit_curves(
    times_s: ArrayLike,
    concentrations: ArrayLike,
    model: Model,
    plasma: PlasmaCurve,
    *,
    kep_range: tuple[float, float] = (KEP_LOW.value, KEP_HIGH.value),
    spacing: float = NODE_SPACING,
    threads: int | None = None,
    progress: Progress | None = None,
) -> KineticFit:
    """Fit one model to many tissue curves.

    times_s         (frames,) s, increasing, in the time of the plasma curve
    concentrations  (curves, frames) mmol/L; a curve with a value that is not finite gives NaN and a flag
    model           tofts, extended-tofts or patlak
    kep_range       1/min, the search's borders; spacing of the tabulated ln kep

    Raises ModelRefused for an unknown model, too few frames or times that do not increase.
    """
    times = np.asarray(times_s, dtype=float)
    curves = np.ascontiguousarray(np.atleast_2d(np.asarray(concentrations, dtype=np.float64)))
    _check(times, curves, model, kep_range)
    usable = np.asarray(np.isfinite(curves).all(axis=1))
    work = curves if usable.all() else np.ascontiguousarray(curves[usable])
    sampling = sample(plasma, times)
    if not np.any(sampling.plasma > 0):
        raise ModelRefused(
            "an input function that is zero at every frame",
            "contrast agent in blood during the series",
            "check the delay and the times of the input function",
        )
    if model == "patlak":
        fit = _fit_patlak(work, sampling)
    else:
        basis = _basis(sampling, kep_range, spacing, vascular=model == "extended-tofts")
        fit = _fit_tofts(
            work, basis, model, threads, progress, duration=float(times[-1] - max(times[0], plasma.times_s[0])) / 60.0
        )
    return _spread_fit(fit, usable)


def _check(times: Values, curves: Values, model: str, kep_range: tuple[float, float]) -> None:
    if model not in MODELS:
        raise ModelRefused(f"model {model!r}", "one of " + ", ".join(MODELS), "choose a model from the list")
    if len(times) < LEAST_FRAMES.value:
        raise ModelRefused(
            f"too-few-times: {len(times)} frames for {model}",
            f"at least {LEAST_FRAMES.value:.0f} frames",
            "use the semi-quantitative maps (dce-model semi): PE and SER",
        )
    if curves.shape[1] != len(times) or not np.isfinite(times).all() or np.any(np.diff(times) <= 0):
        raise ModelRefused(
            f"{len(times)} times for curves of {curves.shape[1]} frames, or times that do not increase",
            "one increasing time in seconds a frame",
            "correct the times",
        )
    if not 0 < kep_range[0] < kep_range[1]:
        raise ModelRefused(
            f"a search from kep {kep_range[0]} to {kep_range[1]} 1/min", "0 < lowest < highest", "correct the range"
        )


def _fit_tofts(
    work: Values, basis: _Basis, model: Model, threads: int | None, progress: Progress | None, *, duration: float
) -> KineticFit:
    count = len(work)
    found, errors, judged = np.zeros((count, 3)), np.full((count, 4), np.nan), np.zeros((count, 3))
    limit = np.zeros(count, dtype=np.int64)
    in_chunks(
        lambda start, stop: _fit_rows(
            work,
            basis.lnk,
            basis.table,
            basis.coarse,
            basis.plasma,
            basis.products,
            basis.gram,
            found,
            errors,
            judged,
            limit,
            start,
            stop,
        ),
        count,
        threads=threads,
        progress=progress,
        what=f"{model} fit",
    )
    ktrans, kep, vp = found.T
    flowing = ktrans > 0
    parameters = {
        "ktrans": ktrans,
        "kep": np.where(flowing, kep, np.nan),
        "ve": np.where(flowing, ktrans / kep, np.nan),
        "vp": vp,
    }
    flags = (
        np.where(flowing & (limit != 0), bit("kep-at-limit"), 0)
        | np.where(flowing & (kep * duration < 1.0), bit("short-acquisition"), 0)
        | np.where(flowing & (ktrans > kep), bit("ve-above-1"), 0)
        | np.where(vp > 1, bit("vp-above-1"), 0)
    )
    if model == "extended-tofts":
        flags |= np.where(vp == 0, bit("vp-at-zero"), 0)
    else:
        del parameters["vp"]
    named = dict(zip(("ktrans", "ve", "vp", "kep"), errors.T))
    return KineticFit(
        model,
        parameters,
        {name: named[name] for name in parameters},
        judged[:, 0],
        (flags | _misfit(judged)).astype(np.uint32),
        work.shape[1],
    )


def _misfit(judged: Values) -> NDArray[np.uint32]:
    """Flag curves with R² below 0.8, or with a residual whose signs run (1 % two-sided) and is not rounding error."""
    share = judged[:, 0] / np.maximum(judged[:, 1], np.finfo(float).tiny)
    return np.where((share > 0.2) | ((judged[:, 2] < -2.576) & (share > 1e-9)), bit("misfit"), 0).astype(np.uint32)


def _fit_patlak(work: Values, sampling: Sampling) -> KineticFit:
    """Both amplitudes of Patlak's line, non-negative, without any search."""
    x, p = sampling.response(0.0)[0], sampling.plasma
    xx, px, pp = float(x @ x), float(x @ p), float(p @ p)
    cx, cp = np.einsum("nt,t->n", work, x), np.einsum("nt,t->n", work, p)
    found = np.array([_amplitudes(xx, px, pp, a, b) for a, b in zip(cx, cp)]).reshape(-1, 2)
    residual = work - found[:, :1] * x - found[:, 1:] * p
    rss, n = np.einsum("nt,nt->n", residual, residual), work.shape[1]
    scale = rss / (n - 2) / (xx * pp - px * px)
    total = ((work - work.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)
    judged = np.stack([rss, total, np.zeros_like(rss)], axis=1)
    flags = np.where(found[:, 1] == 0, bit("vp-at-zero"), 0) | np.where(found[:, 1] > 1, bit("vp-above-1"), 0)
    return KineticFit(
        "patlak",
        {"ps": found[:, 0], "vp": found[:, 1]},
        {"ps": np.sqrt(scale * pp), "vp": np.sqrt(scale * xx)},
        rss,
        (flags | _misfit(judged)).astype(np.uint32),
        n,
    )


def _spread_fit(fit: KineticFit, usable: NDArray[np.bool_]) -> KineticFit:
    """The fit of the usable curves spread over all: NaN and a flag elsewhere."""

    def full(values: Values) -> Values:
        out = np.full(usable.shape, np.nan)
        out[usable] = values
        return out

    flags = np.full(usable.shape, bit("not-finite"))
    flags[usable] = fit.flags
    return KineticFit(
        fit.model,
        {name: full(values) for name, values in fit.parameters.items()},
        {name: full(values) for name, values in fit.errors.items()},
        full(fit.rss),
        flags,
        fit.frames,
    )


def linear_preview(times_s: ArrayLike, concentrations: ArrayLike, plasma: PlasmaCurve) -> dict[str, Values]:
    """Ktrans, ve and vp of the extended Tofts model by one linear solve a voxel: a preview while the user waits.

    Murase 2004, doi 10.1002/mrm.20022: C = (Ktrans + kep vp) int Cp - kep int C + vp Cp. Noise enters the
    regressors, so parameters are biased (Ktrans by 38 % on a noisy reference object) and may be negative.
    """
    times = np.asarray(times_s, dtype=float)
    curves = np.atleast_2d(np.asarray(concentrations, dtype=float))
    sampling = sample(plasma, times)
    steps = np.diff(times) / 60.0
    integral = np.concatenate(
        [np.zeros((len(curves), 1)), np.cumsum(0.5 * steps * (curves[:, 1:] + curves[:, :-1]), axis=1)], axis=1
    )
    shape = curves.shape
    columns = np.stack(
        [np.broadcast_to(sampling.response(0.0)[0], shape), -integral, np.broadcast_to(sampling.plasma, shape)], axis=2
    )
    normal = np.einsum("nti,ntj->nij", columns, columns)
    first, kep, vp = np.linalg.solve(normal, np.einsum("nti,nt->ni", columns, curves)[..., None])[..., 0].T
    ktrans = first - kep * vp
    with np.errstate(divide="ignore", invalid="ignore"):
        return {"ktrans": ktrans, "ve": ktrans / kep, "vp": vp}


def find_delay(
    times_s: ArrayLike,
    curve: ArrayLike,
    model: Model,
    plasma: PlasmaCurve,
    *,
    around_s: float = 0.0,
    reach_s: float = DELAY_RANGE.value,
    kep_range: tuple[float, float] = (KEP_LOW.value, KEP_HIGH.value),
) -> float:
    """Delay of the input curve (s) that fits one tissue curve best: steps of 1 s, then refined to 0.02 s.

    curve (frames,) mmol/L: the mean of a region, whose delay then serves all its voxels
    """
    row = np.asarray(curve, dtype=float)[None]

    def misfit(delay: float) -> float:
        try:
            return float(
                fit_curves(times_s, row, model, plasma.delayed(delay), kep_range=kep_range, spacing=0.1, threads=1).rss[
                    0
                ]
            )
        except ModelRefused:
            return float("inf")

    tried = around_s + np.arange(-np.floor(reach_s), np.floor(reach_s) + 1.0)
    best = float(tried[int(np.argmin([misfit(delay) for delay in tried]))])
    low, high = max(best - 1.0, float(tried[0])), min(best + 1.0, float(tried[-1]))
    inner, outer = low + _GOLDEN * (high - low), high - _GOLDEN * (high - low)
    f_inner, f_outer = misfit(inner), misfit(outer)
    while high - low > 0.02:
        if f_inner <= f_outer:
            high, outer, f_outer = outer, inner, f_inner
            inner = low + _GOLDEN * (high - low)
            f_inner = misfit(inner)
        else:
            low, inner, f_inner = inner, outer, f_outer
            outer = high - _GOLDEN * (high - low)
            f_outer = misfit(outer)
    return 0.5 * (low + high)
