"""Fits of tissue curves by variable projection: no start values, no failures to converge, the global optimum.

Only the rate constant kep enters a Tofts-type model nonlinearly. For each kep the best amplitudes (Ktrans and,
in the extended model, vp) are a non-negative linear least-squares problem of one or two unknowns, so the search
is one-dimensional. The responses X(kep) of the input curve are tabulated once for all voxels (see ``responses``).
A voxel costs one pass over a coarse grid, a bisection over nodes and a root of the derivative of the projected
sum of squares. Two-compartment uptake is the same search with the integral of Cp beside the response, exchange one
over two rate constants (see ``exchange``). Tofts 1997, doi 10.1002/jmri.1880070113; variable projection: Golub and
Pereyra 1973, doi 10.1137/0710036.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from ..core.errors import ModelRefused
from ..core.quantity import Parameter
from .aif import PlasmaCurve
from .dce import Sampling, sample
from .exchange import RATE_HIGH, RATE_LOW, ExchangeFit, fit_exchange, standard_errors, tissue, uptake_covariance
from .quality import bit
from .responses import amplitudes, dot, hermite, judge, tabulated
from .voxels import Progress, in_chunks

Values = NDArray[np.float64]
Model = Literal["tofts", "extended-tofts", "patlak", "2cum", "2cxm"]
MODELS: tuple[Model, ...] = ("tofts", "extended-tofts", "patlak", "2cum", "2cxm")
TWO_COMPARTMENTS: tuple[Model, ...] = ("2cum", "2cxm")
PARAMETERS: Mapping[Model, int] = {"tofts": 2, "extended-tofts": 3, "patlak": 2, "2cum": 3, "2cxm": 4}
"""Free parameters of each model, the delay not counted."""

KEP_LOW = Parameter(
    0.005,
    "1/min",
    "lowest rate constant searched",
    "project specification, imaging §15",
    range=(0.001, 0.02),
    assumed=True,
)
KEP_HIGH = Parameter(
    60.0,
    "1/min",
    "highest rate constant searched",
    "project specification, imaging §15: the QIBA reference object needs 35",
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
LEAST_EXTRACTION = Parameter(
    0.01,
    "1",
    "extraction fraction PS/(Fp + PS) below which exchange between two compartments does not count as seen",
    "chosen: small contrast agents are extracted by a few per cent even in healthy muscle",
    range=(0.001, 0.05),
    assumed=True,
)
SLOWEST_FLOW = Parameter(
    3.0,
    "s",
    "frame interval above which plasma flow and PS cannot be told apart: the two-compartment models are refused",
    "project specification, imaging §7",
    range=(2.0, 5.0),
    assumed=True,
)
NODE_SPACING = 0.04
_COARSE = 8
_PAD = 16
_GOLDEN = 0.3819660112501051


@dataclass(frozen=True, eq=False)
class KineticFit:
    """Fitted curves, one entry a voxel.

    parameters  ktrans and kep (1/min), ve and vp (fractions); ps (1/min) and vp for Patlak; ktrans, fp, ps (1/min),
                vp and, for exchange, ve in the two-compartment models: as fitted, NaN where there is none
    errors      standard errors from the curvature at the optimum, same names and units
    rss         residual sum of squares, (mmol/L)²
    flags       quality words
    frames      how many were fitted
    total       (mmol/L)², sum of squares of the curve about its mean
    also_fitted parameters beside the model's: 1 in a fit of the signal, that before contrast; rss and total are then
                in squared units of the signal
    """

    model: Model
    parameters: Mapping[str, Values]
    errors: Mapping[str, Values]
    rss: Values
    flags: NDArray[np.uint32]
    frames: int = 0
    total: Values | None = None
    also_fitted: int = 0

    @property
    def freedom(self) -> int:
        """Degrees of freedom of the residual, at least 1."""
        return max(self.frames - PARAMETERS[self.model] - self.also_fitted, 1)

    @property
    def aicc(self) -> Values:
        """(voxels,) Akaike's criterion for small samples; lower is better. Needs noise: -inf for a perfect fit."""
        n, k = self.frames, PARAMETERS[self.model] + self.also_fitted + 1
        with np.errstate(divide="ignore"):
            return n * np.log(self.rss / n) + 2 * k + 2 * k * (k + 1) / max(n - k - 1, 1)


@dataclass(frozen=True, eq=False)
class _Basis:
    """The tabulated responses of one input curve and one set of frames, on nodes evenly spaced in ln kep.

    lnk       (nodes,) ln of kep in 1/min
    table     (nodes, 2, frames) X and its derivative by node spacing
    coarse    (frames, …) X at every eighth node, padded with zeros to whole vectors
    plasma    (frames,) mmol/L, or the integral of Cp, mmol/L min; zero for models with neither
    products  (nodes, 4) X·X, X·X', plasma·X, plasma·X'
    gram      (nodes - 1, 4, 4) products of X, X' at both ends of an interval
    """

    lnk: Values
    table: Values
    coarse: Values
    plasma: Values
    products: Values
    gram: Values


def _basis(sampling: Sampling, kep_range: tuple[float, float], spacing: float, beside: Values | None = None) -> _Basis:
    """The basis with what stands beside the response: Cp, the integral of Cp, or nothing."""
    lnk, table = tabulated(sampling, kep_range, spacing, _COARSE)
    plasma = np.zeros(len(sampling.frames)) if beside is None else beside
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
def _inside(
    s: float, gram: Values, node: int, ends: Values, pp: float, cp: float, w: Values, v: Values, out: Values
) -> float:
    """Amplitudes and the derivative of the explained sum of squares at s inside the interval after a node.

    ends (2, 4): products of the curve and of the plasma with the four end vectors.
    out receives a, b, xx, px, x·x', p·x'; the derivative is returned.
    """
    hermite(s, w, v)
    cx = cd = px = pd = xx = xd = 0.0
    for i in range(4):
        cx += w[i] * ends[0, i]
        cd += v[i] * ends[0, i]
        px += w[i] * ends[1, i]
        pd += v[i] * ends[1, i]
        along = gram[node, i, 0] * w[0] + gram[node, i, 1] * w[1] + gram[node, i, 2] * w[2] + gram[node, i, 3] * w[3]
        xx += w[i] * along
        xd += v[i] * along
    a, b = amplitudes(xx, px, pp, cx, cp)
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
        a, b = amplitudes(products[m * _COARSE, 0], products[m * _COARSE, 2], pp, work[m], cp)
        gain = a * work[m] + b * cp
        if gain > best_gain:
            best, best_gain = m, gain
    return best


@njit(cache=True, nogil=True)
def _rising(curve: Values, table: Values, products: Values, pp: float, cp: float, node: int) -> bool:
    """True if the explained sum of squares grows with kep at a node."""
    cx, cd = _two_dots(curve, table, node)
    a, b = amplitudes(products[node, 0], products[node, 2], pp, cx, cp)
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
def _fitted(table: Values, node: int, w: Values, a: float, b: float, plasma: Values, fitted: Values) -> None:
    """The fitted curve between two nodes."""
    for t in range(len(fitted)):
        x = (
            w[0] * table[node, 0, t]
            + w[1] * table[node, 1, t]
            + w[2] * table[node + 1, 0, t]
            + w[3] * table[node + 1, 1, t]
        )
        fitted[t] = a * x + b * plasma[t]


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
    pp = dot(plasma, plasma)
    work, ends = np.empty(coarse.shape[1]), np.empty((2, 4))
    w, v, out, fitted = np.empty(4), np.empty(4), np.empty(7), np.empty(curves.shape[1])
    parameters = 3 if pp > 0.0 else 2
    for row in range(start, stop):
        curve = curves[row]
        cp = dot(curve, plasma) if pp > 0.0 else 0.0
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
        _fitted(table, node, w, out[0], out[1], plasma, fitted)
        judge(curve, fitted, judged, row)
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
    model           tofts, extended-tofts, patlak, 2cum or 2cxm
    kep_range       1/min, the borders of the search for kep; spacing of the tabulated ln kep

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
    duration = float(times[-1] - max(times[0], plasma.times_s[0])) / 60.0
    if model == "patlak":
        fit = _fit_patlak(work, sampling)
    elif model == "2cxm":
        fit = _two_compartments(fit_exchange(work, sampling, threads=threads, progress=progress), model, work, duration)
    elif model == "2cum":
        fit = _two_compartments(_fit_uptake(work, sampling, spacing, threads, progress), model, work, duration)
    else:
        basis = _basis(sampling, kep_range, spacing, sampling.plasma if model == "extended-tofts" else None)
        fit = _fit_tofts(work, basis, model, threads, progress, duration=duration)
    return spread_fit(fit, usable)


def refuse_slow(model: Model, times_s: ArrayLike) -> None:
    """Raises ModelRefused if frames are too far apart (their median interval) for a two-compartment model."""
    times = np.asarray(times_s, dtype=float)
    interval = float(np.median(np.diff(times))) if len(times) > 1 else 0.0
    if model in TWO_COMPARTMENTS and interval > SLOWEST_FLOW.value:
        raise ModelRefused(
            f"slow-sampling: one frame every {interval:.3g} s for {model}",
            f"at most {SLOWEST_FLOW.value:g} s between frames, so that the first pass shows the plasma flow",
            "use extended-tofts or tofts",
        )


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
    found, errors, judged, limit = _searched(work, basis, f"{model} fit", threads, progress)
    return one_compartment(model, found, errors, judged, limit, frames=work.shape[1], duration=duration)


def one_compartment(
    model: Model,
    found: Values,
    errors: Values,
    judged: Values,
    limit: NDArray[np.int64],
    *,
    frames: int,
    duration: float,
    also_fitted: int = 0,
) -> KineticFit:
    """The fit of Tofts or extended Tofts from what a search found, with the flags of what is not identified.

    found     (curves, 3) Ktrans, kep, vp; errors (curves, 4) of Ktrans, ve, vp and kep
    judged    (curves, 3) as ``judge`` gives; limit (curves,) -1, 0, 1: kep on the lower border, inside, on the upper
    duration  min, from the first frame (or the first sample of the input curve, if later) to the last
    """
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
        (flags | misfit(judged)).astype(np.uint32),
        frames,
        judged[:, 1],
        also_fitted,
    )


def _searched(
    work: Values, basis: _Basis, what: str, threads: int | None, progress: Progress | None
) -> tuple[Values, Values, Values, NDArray[np.int64]]:
    """Amplitude, rate and second amplitude (curves, 3), errors, what ``judge`` says, and -1, 0, 1 for the border."""
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
        what=what,
    )
    return found, errors, judged, limit


def _fit_uptake(
    work: Values, sampling: Sampling, spacing: float, threads: int | None, progress: Progress | None
) -> ExchangeFit:
    """The fast response beside the integral of Cp, which is the response of a rate of 0."""
    basis = _basis(sampling, (RATE_LOW.value, RATE_HIGH.value), spacing, sampling.response(0.0)[0])
    found, _, judged, limit = _searched(work, basis, "2cum fit", threads, progress)
    covariance = np.full((len(work), 4, 4), np.nan)
    variance = judged[:, 0] / max(work.shape[1] - PARAMETERS["2cum"], 1)
    uptake_covariance(
        found, variance, basis.lnk, basis.gram, basis.products, dot(basis.plasma, basis.plasma), covariance
    )
    rates = np.stack([found[:, 1], np.zeros(len(work))], axis=1)
    return ExchangeFit(found[:, ::2], rates, covariance, judged, limit < 0, limit > 0)


def _two_compartments(fit: ExchangeFit, model: Model, work: Values, duration: float) -> KineticFit:
    """Parameters, errors and flags of two responses."""
    (fast, slow), (k_fast, k_slow) = fit.amplitudes.T, fit.rates.T
    parameters, errors = tissue(fast, slow, k_fast, k_slow), standard_errors(fit)
    flowing = fast + slow > 0
    flags = (
        np.where(flowing & fit.at_high, bit("flow-at-limit"), 0)
        | np.where(flowing & np.isnan(fit.covariance[:, 0, 0]), bit("one-compartment"), 0)
        | np.where(flowing & fit.at_low, bit("kep-at-limit"), 0)
        | np.where(parameters["vp"] > 1, bit("vp-above-1"), 0)
    )
    if model == "2cxm":
        flags |= np.where(flowing & (k_slow * duration < 1.0), bit("short-acquisition"), 0)
        flags |= np.where(parameters["ve"] > 1, bit("ve-above-1"), 0)
    else:
        del parameters["ve"]
    for values in parameters.values():
        values[~flowing] = 0.0 if values is parameters["ktrans"] or values is parameters["fp"] else np.nan
    return KineticFit(
        model,
        parameters,
        {name: errors[name] for name in parameters},
        fit.judged[:, 0],
        (flags | misfit(fit.judged)).astype(np.uint32),
        work.shape[1],
        fit.judged[:, 1],
    )


def misfit(judged: Values) -> NDArray[np.uint32]:
    """Flag curves with R² below 0.8, or with a residual whose signs run (1 % two-sided) and is not rounding error."""
    share = judged[:, 0] / np.maximum(judged[:, 1], np.finfo(float).tiny)
    return np.where((share > 0.2) | ((judged[:, 2] < -2.576) & (share > 1e-9)), bit("misfit"), 0).astype(np.uint32)


@njit(cache=True, nogil=True)
def _patlak_rows(xx: float, px: float, pp: float, cx: Values, cp: Values, found: Values) -> None:
    """The amplitudes of every row."""
    for row in range(len(found)):
        found[row, 0], found[row, 1] = amplitudes(xx, px, pp, cx[row], cp[row])


def _fit_patlak(work: Values, sampling: Sampling) -> KineticFit:
    """Both amplitudes of Patlak's line, non-negative, without any search."""
    x, p = sampling.response(0.0)[0], sampling.plasma
    xx, px, pp = float(x @ x), float(x @ p), float(p @ p)
    cx, cp = np.einsum("nt,t->n", work, x), np.einsum("nt,t->n", work, p)
    found = np.empty((len(work), 2))
    _patlak_rows(xx, px, pp, cx, cp, found)
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
        (flags | misfit(judged)).astype(np.uint32),
        n,
        total,
    )


def spread_fit(fit: KineticFit, usable: NDArray[np.bool_]) -> KineticFit:
    """The fit of the usable curves spread over all: NaN and a flag elsewhere."""

    def full(values: Values) -> Values:
        out = np.full(usable.shape, np.nan)
        out[usable] = values
        return out

    flags = np.full(usable.shape, bit("not-finite"))
    flags[usable] = fit.flags
    return replace(
        fit,
        parameters={name: full(values) for name, values in fit.parameters.items()},
        errors={name: full(values) for name, values in fit.errors.items()},
        rss=full(fit.rss),
        flags=flags,
        total=None if fit.total is None else full(fit.total),
    )


def best_model(fits: Sequence[KineticFit]) -> NDArray[np.intp]:
    """(voxels,) index of the fit with the lowest AICc, fits in order of rising number of parameters.

    Residuals below a millionth of the curve's own amplitude are rounding or tabulation, not misfit: among such fits
    the first is preferred. Two compartments are eligible only where exchange is seen: PS at least three standard errors
    above 0 and an extraction of at least LEAST_EXTRACTION. Otherwise a single compartment passes for plasma without
    exchange, with a Ktrans of 0. A voxel without a fit gets 0.
    """
    scores = []
    for fit in fits:
        floor = 0.0 if fit.total is None else 1e-12 * fit.total
        score = replace(fit, rss=np.maximum(np.maximum(fit.rss, floor), np.finfo(float).tiny)).aicc
        scores.append(score if fit.model not in TWO_COMPARTMENTS else np.where(_exchange_is_seen(fit), score, np.inf))
    return np.asarray(np.argmin(np.where(np.isnan(scores), np.inf, scores), axis=0))


def _exchange_is_seen(fit: KineticFit) -> NDArray[np.bool_]:
    """True where PS and extraction are told from 0."""
    ps, flow = fit.parameters["ps"], fit.parameters["fp"]
    with np.errstate(invalid="ignore"):
        return np.asarray((ps > 3.0 * fit.errors["ps"]) & (ps >= LEAST_EXTRACTION.value * (ps + flow)))


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
