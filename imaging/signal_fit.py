"""Fits of the signal itself, where the noise of the scanner is additive, instead of the concentration made from it.

Concentration is a bent function of signal: near saturation the same noise of the signal is a larger and skewed noise of
the concentration, and the error of the signal before contrast, common to all frames of a voxel, bends its whole curve.
A fit of S(t) = S0 sin(a) (1 - E)/(1 - E cos(a)), E = exp(-TR (R10 + r1 C(t))), weighs every frame alike, and S0 is one
more unknown. It starts from the optimum of the concentration (``kinetics``) and descends by damped Gauss-Newton steps
that stay within the bounds [Levenberg 1944, doi 10.1090/qam/10666; Marquardt 1963, doi 10.1137/0111030]. The first
frame, not yet in its steady state, is left out as it is of the baseline.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t as student

from ..core.errors import ModelRefused
from .aif import PlasmaCurve
from .dce import baseline_frames, sample, to_concentration
from .kinetics import (
    KEP_HIGH,
    KEP_LOW,
    MODELS,
    NODE_SPACING,
    TWO_COMPARTMENTS,
    KineticFit,
    Model,
    fit_curves,
    misfit,
    one_compartment,
    spread_fit,
)
from .profile import LEVEL, PROFILE_BELOW, largest_sum
from .quality import bit
from .responses import hermite, inverted, judge, tabulated
from .voxels import Progress, in_chunks

Values = NDArray[np.float64]
Held = NDArray[np.bool_]

SIGNAL_MODELS: tuple[Model, ...] = tuple(model for model in MODELS if model not in TWO_COMPARTMENTS)
"""The models that are fitted to the signal."""
_S0, _FLOW, _RATE, _BLOOD = range(4)
"""Places of S0, Ktrans (or PS), ln kep in nodes of the table, and vp among the unknowns of a voxel."""


@dataclass(frozen=True, eq=False)
class SpoiledEcho:
    """How concentration becomes signal in each voxel.

    t10         (voxels,) s, T1 before contrast
    fa_deg      (voxels,) degrees, as truly applied
    tr_s        s, repetition time
    relaxivity  per mmol/L/s
    """

    t10: Values
    fa_deg: Values
    tr_s: float
    relaxivity: float

    def of(self, rows: NDArray[np.bool_]) -> SpoiledEcho:
        """The same of some voxels."""
        return replace(self, t10=self.t10[rows], fa_deg=self.fa_deg[rows])

    def drawn(self, relaxivity: float, angle: float, t10: Values | float = 1.0) -> SpoiledEcho:
        """The same with relaxivity, flip angle and T1 multiplied by factors; t10 one or (voxels,)."""
        return replace(self, t10=self.t10 * t10, fa_deg=self.fa_deg * angle, relaxivity=self.relaxivity * relaxivity)

    def columns(self) -> Values:
        """(voxels, 3) E before contrast, sine and cosine of the flip angle."""
        angle = np.deg2rad(self.fa_deg)
        return np.stack([np.exp(-self.tr_s / self.t10), np.sin(angle), np.cos(angle)], axis=1)


@njit(cache=True, nogil=True, error_model="numpy")
def _model(unknowns: Values, echo: Values, rate: float, table: Values, blood: Values, out: Values) -> None:
    """out (5, frames): the signal, then its derivatives by the four unknowns.

    echo  E before contrast, sine, cosine; rate is TR r1, L/mmol
    """
    last = len(table) - 2
    node = min(int(unknowns[_RATE]), last)
    w, v = np.empty(4), np.empty(4)
    hermite(unknowns[_RATE] - node, w, v)
    for t in range(len(blood)):
        x0, d0, x1, d1 = table[node, 0, t], table[node, 1, t], table[node + 1, 0, t], table[node + 1, 1, t]
        x = w[0] * x0 + w[1] * d0 + w[2] * x1 + w[3] * d1
        concentration = unknowns[_FLOW] * x + unknowns[_BLOOD] * blood[t]
        decay = echo[0] * np.exp(-rate * concentration)
        bottom = 1.0 - decay * echo[2]
        shape = echo[1] * (1.0 - decay) / bottom
        slope = unknowns[_S0] * echo[1] * rate * decay * (1.0 - echo[2]) / (bottom * bottom)
        out[0, t] = unknowns[_S0] * shape
        out[1 + _S0, t] = shape
        out[1 + _FLOW, t] = slope * x
        out[1 + _RATE, t] = slope * unknowns[_FLOW] * (v[0] * x0 + v[1] * d0 + v[2] * x1 + v[3] * d1)
        out[1 + _BLOOD, t] = slope * blood[t]


@njit(cache=True, nogil=True, error_model="numpy")
def _normal(signal: Values, model: Values, normal: Values, right: Values) -> float:
    """J'J, J' times the residual, and the sum of its squares."""
    rss = 0.0
    normal[:] = 0.0
    right[:] = 0.0
    for t in range(len(signal)):
        r = signal[t] - model[0, t]
        rss += r * r
        for i in range(4):
            right[i] += model[1 + i, t] * r
            for j in range(i + 1):
                normal[i, j] += model[1 + i, t] * model[1 + j, t]
    for i in range(4):
        for j in range(i):
            normal[j, i] = normal[i, j]
    return rss


@njit(cache=True, nogil=True, error_model="numpy")
def _step(normal: Values, right: Values, free: Held, damping: float, work: Values, step: Values) -> None:
    """The damped step of the free unknowns by elimination, scaled by the diagonal; 0 for the others."""
    for i in range(4):
        step[i] = right[i] if free[i] else 0.0
        for j in range(4):
            work[i, j] = normal[i, j] if free[i] and free[j] else 0.0
        work[i, i] = work[i, i] * (1.0 + damping) if free[i] else 1.0
    for i in range(4):
        for k in range(i + 1, 4):
            share = work[k, i] / work[i, i]
            for j in range(i, 4):
                work[k, j] -= share * work[i, j]
            step[k] -= share * step[i]
    for i in range(3, -1, -1):
        for j in range(i + 1, 4):
            step[i] -= work[i, j] * step[j]
        step[i] /= work[i, i]


@njit(cache=True, nogil=True, error_model="numpy")
def _descend(
    signal: Values,
    unknowns: Values,
    held: Held,
    echo: Values,
    rate: float,
    table: Values,
    blood: Values,
    normal: Values,
) -> float:
    """Least squares from the unknowns, in place, within their bounds; normal receives J'J there; the sum is returned.

    Damped Gauss-Newton steps. An unknown on its bound whose slope leads outward waits. It ends when a step promises to
    lower the sum by less than 1e-10 of itself (a thousandth of the unknowns' errors) or than rounding leaves, or when
    no damping lowers it.
    """
    top = len(table) - 1.0
    model, trial = np.empty((5, len(signal))), np.empty((5, len(signal)))
    right, work, step, other = np.empty(4), np.empty((4, 4)), np.empty(4), np.empty(4)
    free = np.empty(4, np.bool_)
    size = 0.0
    for t in range(len(signal)):
        size += signal[t] * signal[t]
    _model(unknowns, echo, rate, table, blood, model)
    rss, damping = _normal(signal, model, normal, right), 1e-3
    for _ in range(100):
        for i in range(4):
            low = unknowns[i] <= 0.0 and right[i] < 0.0
            high = i == _RATE and unknowns[i] >= top and right[i] > 0.0
            free[i] = not (held[i] or low or high) and normal[i, i] > 0.0
        better = False
        while not better:
            _step(normal, right, free, damping, work, step)
            promised = 0.0
            for i in range(4):
                promised += step[i] * right[i]
                other[i] = max(unknowns[i] + step[i], 0.0)
            other[_RATE] = min(other[_RATE], top)
            if not promised > max(1e-22 * size, 1e-10 * rss) or damping > 1e12:
                return rss
            _model(other, echo, rate, table, blood, trial)
            lower = 0.0
            for t in range(len(signal)):
                lower += (signal[t] - trial[0, t]) ** 2
            better = lower < rss
            damping = max(0.1 * damping, 1e-12) if better else 10.0 * damping
        unknowns[:] = other
        model[:] = trial
        rss = _normal(signal, model, normal, right)
    return rss


@njit(cache=True, nogil=True, error_model="numpy")
def _fit_rows(
    signals: Values,
    echoes: Values,
    rate: float,
    held: Held,
    table: Values,
    blood: Values,
    unknowns: Values,
    covariance: Values,
    judged: Values,
    start: int,
    stop: int,
) -> None:
    """Fit the rows start..stop; unknowns come as the start and leave as the optimum."""
    frames, normal, model = signals.shape[1], np.empty((4, 4)), np.empty((5, signals.shape[1]))
    kept = np.flatnonzero(~held)
    some, its = np.empty((len(kept), len(kept))), np.empty((len(kept), len(kept)))
    for row in range(start, stop):
        _descend(signals[row], unknowns[row], held, echoes[row], rate, table, blood, normal)
        _model(unknowns[row], echoes[row], rate, table, blood, model)
        judge(signals[row], model[0], judged, row)
        for i in range(len(kept)):
            for j in range(len(kept)):
                some[i, j] = normal[kept[i], kept[j]]
        its[:] = np.nan
        inverted(some, judged[row, 0] / max(frames - len(kept), 1), its)
        for i in range(len(kept)):
            for j in range(len(kept)):
                covariance[row, kept[i], kept[j]] = its[i, j]


@njit(cache=True, nogil=True, error_model="numpy")
def _ve_rows(
    signals: Values,
    echoes: Values,
    rate: float,
    held: Held,
    lnk: Values,
    table: Values,
    blood: Values,
    best: Values,
    most: Values,
    out: Values,
    start: int,
    stop: int,
) -> None:
    """out (rows, 2): least and greatest ve of the connected stretch of nodes whose best sum is at most ``most``."""
    fixed, normal, unknowns = held.copy(), np.empty((4, 4)), np.empty(4)
    fixed[_RATE] = True
    for row in range(start, stop):
        for direction in (-1, 1):
            unknowns[:] = best[row]
            node = int(np.floor(best[row, _RATE])) if direction < 0 else int(np.ceil(best[row, _RATE]))
            while 0 <= node < len(lnk):
                unknowns[_RATE] = node
                rss = _descend(signals[row], unknowns, fixed, echoes[row], rate, table, blood, normal)
                ve = unknowns[_FLOW] / np.exp(lnk[node])
                out[row, 0], out[row, 1] = min(out[row, 0], ve), max(out[row, 1], ve)
                if rss > most[row]:
                    break
                node += direction


def fit_signals(
    times_s: ArrayLike,
    signals: ArrayLike,
    model: Model,
    plasma: PlasmaCurve,
    echo: SpoiledEcho,
    *,
    baseline: int,
    all_points: bool = False,
    profile: bool = True,
    threads: int | None = None,
    progress: Progress | None = None,
) -> KineticFit:
    """Fit one model to the signals of many voxels, with the signal before contrast as one more unknown.

    times_s     (frames,) s, increasing, in the time of the plasma curve
    signals     (voxels, frames) scanner units; a voxel without a concentration at every frame gives NaN and a flag
    model       tofts, extended-tofts or patlak
    baseline    frames before arrival; the first is fitted only with all_points, or where it is the only one
    profile     the error of ve is that of its profile where kep is low (see ``profile``)
    returns     as ``fit_curves``, rss and total in squared scanner units

    Raises ModelRefused for a two-compartment model, and what ``to_concentration`` and ``fit_curves`` raise.
    """
    refuse_signal(model)
    times, rows = np.asarray(times_s, dtype=np.float64), np.atleast_2d(np.asarray(signals, dtype=np.float64))
    begun = _started(times, rows, model, plasma, echo, baseline=baseline, all_points=all_points, threads=threads)
    usable = np.isfinite(begun.rss)
    first = baseline_frames(baseline, all_points=all_points).start
    work = np.ascontiguousarray(rows[usable, first:])
    problem = _Problem.of(times[first:], work, model, plasma, echo.of(usable))
    unknowns = _start(begun, usable, problem)
    covariance, judged = _descended(problem, unknowns, f"{model} fit of the signal", threads, progress)
    if model == "patlak":
        return spread_fit(_patlak(unknowns, covariance, judged, work.shape[1]), usable)
    duration = float(times[-1] - max(times[first], plasma.times_s[0])) / 60.0
    fit = _tofts(model, unknowns, covariance, judged, problem.lnk, work.shape[1], duration)
    return spread_fit(_profiled(fit, problem, unknowns, threads) if profile else fit, usable)


def refuse_signal(model: Model) -> None:
    """Raises ModelRefused for a model that is not fitted to the signal."""
    if model not in SIGNAL_MODELS:
        raise ModelRefused(
            f"a fit of the signal with {model}",
            "one of " + ", ".join(SIGNAL_MODELS),
            "fit the concentration (fit-domain concentration), or choose one of these models",
        )


@dataclass(frozen=True, eq=False)
class _Problem:
    """What the voxels of a fit share, and their signals.

    signals  (voxels, frames); echoes (voxels, 3) as ``SpoiledEcho.columns`` gives; rate TR r1, L/mmol
    held     (4,) True for unknowns that the model does not have
    lnk      (nodes,) ln of kep in 1/min; table (nodes, 2, frames) the responses there, blood (frames,) beside them
    """

    signals: Values
    echoes: Values
    rate: float
    held: Held
    lnk: Values
    table: Values
    blood: Values

    @classmethod
    def of(cls, times: Values, work: Values, model: Model, plasma: PlasmaCurve, echo: SpoiledEcho) -> _Problem:
        sampling, held = sample(plasma, times), np.zeros(4, dtype=bool)
        if model == "patlak":
            held[_RATE] = True
            whole = sampling.response(0.0)[0]
            lnk, table = np.zeros(2), np.stack([np.stack([whole, np.zeros_like(whole)])] * 2)
        else:
            held[_BLOOD] = model == "tofts"
            lnk, table = tabulated(sampling, (KEP_LOW.value, KEP_HIGH.value), NODE_SPACING, 1)
        blood = np.zeros(len(times)) if held[_BLOOD] else sampling.plasma
        return cls(work, echo.columns(), echo.tr_s * echo.relaxivity, held, lnk, table, blood)


def _started(
    times: Values,
    rows: Values,
    model: Model,
    plasma: PlasmaCurve,
    echo: SpoiledEcho,
    *,
    baseline: int,
    all_points: bool,
    threads: int | None,
) -> KineticFit:
    """The fit of the concentration, where the descent begins."""
    found = to_concentration(
        rows,
        echo.t10,
        fa_deg=echo.fa_deg,
        tr_s=echo.tr_s,
        relaxivity=echo.relaxivity,
        baseline=baseline,
        all_points=all_points,
    )
    return fit_curves(times, found.values, model, plasma, threads=threads)


def _start(begun: KineticFit, usable: NDArray[np.bool_], problem: _Problem) -> Values:
    """(voxels, 4) the concentration's optimum, with the S0 that is best for it."""
    found = {name: values[usable] for name, values in begun.parameters.items()}
    unknowns = np.zeros((len(problem.signals), 4))
    unknowns[:, _S0] = 1.0
    unknowns[:, _FLOW] = found["ps" if begun.model == "patlak" else "ktrans"]
    unknowns[:, _BLOOD] = found.get("vp", 0.0)
    if "kep" in found:
        lnk, kep = problem.lnk, np.where(np.isfinite(found["kep"]), found["kep"], 1.0)
        unknowns[:, _RATE] = np.clip((np.log(kep) - lnk[0]) / (lnk[1] - lnk[0]), 0.0, len(lnk) - 1.0)
    _best_s0(problem.signals, problem.echoes, problem.rate, problem.table, problem.blood, unknowns)
    return unknowns


def _descended(
    problem: _Problem, unknowns: Values, what: str, threads: int | None, progress: Progress | None
) -> tuple[Values, Values]:
    """Every voxel's descent, its unknowns in place; covariance (voxels, 4, 4) and what ``judge`` says."""
    count, p = len(unknowns), problem
    covariance, judged = np.full((count, 4, 4), np.nan), np.zeros((count, 3))
    in_chunks(
        lambda start, stop: _fit_rows(
            p.signals, p.echoes, p.rate, p.held, p.table, p.blood, unknowns, covariance, judged, start, stop
        ),
        count,
        threads=threads,
        progress=progress,
        what=what,
    )
    return covariance, judged


def _profiled(fit: KineticFit, problem: _Problem, unknowns: Values, threads: int | None) -> KineticFit:
    """The fit with the error of ve from the profile over kep, where kep is low."""
    low, p = np.flatnonzero(fit.parameters["kep"] < PROFILE_BELOW.value), problem
    if not len(low):
        return fit
    bounds = np.repeat(fit.parameters["ve"][low][:, None], 2, axis=1)
    signals, echoes, best, most = p.signals[low], p.echoes[low], unknowns[low], largest_sum(fit)[low]
    in_chunks(
        lambda start, stop: _ve_rows(
            signals, echoes, p.rate, p.held, p.lnk, p.table, p.blood, best, most, bounds, start, stop
        ),
        len(low),
        threads=threads,
    )
    errors = fit.errors["ve"].copy()
    errors[low] = (bounds[:, 1] - bounds[:, 0]) / (2.0 * student.ppf(0.5 + LEVEL / 2, fit.freedom))
    return replace(fit, errors={**fit.errors, "ve": errors})


@njit(cache=True, nogil=True, error_model="numpy")
def _best_s0(signals: Values, echoes: Values, rate: float, table: Values, blood: Values, unknowns: Values) -> None:
    """S0 of every row by linear least squares, in place."""
    model = np.empty((5, signals.shape[1]))
    for row in range(len(signals)):
        _model(unknowns[row], echoes[row], rate, table, blood, model)
        above = below = 0.0
        for t in range(signals.shape[1]):
            above += signals[row, t] * model[0, t]
            below += model[0, t] * model[0, t]
        unknowns[row, _S0] = max(above / below, 0.0)


def _tofts(
    model: Model, unknowns: Values, covariance: Values, judged: Values, lnk: Values, frames: int, duration: float
) -> KineticFit:
    """Parameters, errors and flags of Tofts and extended Tofts."""
    step = lnk[1] - lnk[0]
    flow, u = unknowns[:, _FLOW], unknowns[:, _RATE]
    kep = np.exp(lnk[0] + step * u)
    by_flow, by_rate, both = (covariance[:, i, j] for i, j in ((_FLOW, _FLOW), (_RATE, _RATE), (_FLOW, _RATE)))
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = by_flow / flow**2 + step**2 * by_rate - 2.0 * step * both / flow
        errors = np.stack(
            [
                np.sqrt(by_flow),
                flow / kep * np.sqrt(np.maximum(relative, 0.0)),
                np.sqrt(covariance[:, _BLOOD, _BLOOD]),
                kep * step * np.sqrt(by_rate),
            ],
            axis=1,
        )
    errors[flow <= 0] = np.nan
    limit = np.where(u <= 1e-6, -1, np.where(u >= len(lnk) - 1 - 1e-6, 1, 0))
    found = np.stack([flow, kep, unknowns[:, _BLOOD]], axis=1)
    return one_compartment(model, found, errors, judged, limit, frames=frames, duration=duration, also_fitted=1)


def _patlak(unknowns: Values, covariance: Values, judged: Values, frames: int) -> KineticFit:
    """Parameters, errors and flags of Patlak's model."""
    ps, vp = unknowns[:, _FLOW], unknowns[:, _BLOOD]
    flags = np.where(vp == 0, bit("vp-at-zero"), 0) | np.where(vp > 1, bit("vp-above-1"), 0)
    return KineticFit(
        "patlak",
        {"ps": ps, "vp": vp},
        {"ps": np.sqrt(covariance[:, _FLOW, _FLOW]), "vp": np.sqrt(covariance[:, _BLOOD, _BLOOD])},
        judged[:, 0],
        (flags | misfit(judged)).astype(np.uint32),
        frames,
        judged[:, 1],
        also_fitted=1,
    )
