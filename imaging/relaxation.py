"""T1 by variable flip angle (VFA).

The spoiled gradient echo gives S = S0 sin(a) (1 - E) / (1 - E cos a) with E = exp(-TR R1). A straight line
through y = S/sin(a) against x = S/tan(a) starts the fit [Gupta 1977, doi 10.1016/0022-2364(77)90138-X]; the
answer is the unweighted nonlinear least-squares optimum, because the line alone errs by up to 15 % at the
noise of a clinical examination. TE and T2* are ignored: they scale all angles alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from ..core.errors import ModelRefused
from ..core.quantity import Parameter
from .quality import bit
from .voxels import Progress, in_chunks

Values = NDArray[np.float64]

T1_LOW = Parameter(
    0.2, "s", "shortest plausible T1 of tissue", "project specification, imaging §2", range=(0.1, 0.3), assumed=True
)
T1_HIGH = Parameter(
    4.0, "s", "longest plausible T1 of tissue", "project specification, imaging §2", range=(3.0, 5.0), assumed=True
)

_STEPS = 60
_TOLERANCE = 1e-12


@dataclass(frozen=True, eq=False)
class T1Fit:
    """The result of a VFA fit, one entry a voxel.

    t1     s, NaN where flagged invalid
    s0     signal of fully relaxed magnetisation, scanner units
    flags  quality words
    """

    t1: Values
    s0: Values
    flags: NDArray[np.uint32]


def spoiled_signal(r1: ArrayLike, s0: ArrayLike, fa_deg: ArrayLike, tr_s: ArrayLike) -> Values:
    """Signal of a spoiled gradient echo in its steady state (R1 in 1/s); the arguments broadcast."""
    angle = np.deg2rad(np.asarray(fa_deg, dtype=float))
    decay = np.exp(-np.asarray(tr_s, dtype=float) * np.asarray(r1, dtype=float))
    return np.asarray(s0 * np.sin(angle) * (1 - decay) / (1 - decay * np.cos(angle)))


@njit(cache=True, nogil=True)
def _line(signal: Values, angles: Values, tr: Values) -> float:
    """R1 from the straight line, or NaN where its slope lies outside (0, 1)."""
    n = len(angles)
    sx = sy = sxx = sxy = 0.0
    for i in range(n):
        x, y = signal[i] / np.tan(angles[i]), signal[i] / np.sin(angles[i])
        sx += x
        sy += y
        sxx += x * x
        sxy += x * y
    spread = n * sxx - sx * sx
    if spread <= 0.0:
        return np.nan
    slope = (n * sxy - sx * sy) / spread
    if not 0.0 < slope < 1.0:
        return np.nan
    return float(-np.log(slope) / tr[0])


@njit(cache=True, nogil=True)
def _project(signal: Values, angles: Values, tr: Values, r1: float) -> tuple[float, float, float]:
    """S0, explained sum of squares and its derivative by ln R1, with S0 projected out."""
    ff = fs = fd = ds = 0.0
    for i in range(len(angles)):
        decay = np.exp(-tr[i] * r1)
        sine, cosine = np.sin(angles[i]), np.cos(angles[i])
        bottom = 1.0 - decay * cosine
        shape = sine * (1.0 - decay) / bottom
        by_log = sine * (1.0 - cosine) / (bottom * bottom) * tr[i] * decay * r1
        ff += shape * shape
        fs += shape * signal[i]
        fd += shape * by_log
        ds += by_log * signal[i]
    s0 = fs / ff
    return s0, s0 * fs, 2.0 * s0 * (ds - s0 * fd)


@njit(cache=True, nogil=True)
def _scan(signal: Values, angles: Values, tr: Values) -> float:
    """The best R1 of a logarithmic grid from 0.1 to 30 1/s."""
    best, best_gain = 1.0, -1.0
    for i in range(48):
        r1 = 0.1 * 300.0 ** (i / 47.0)
        gain = _project(signal, angles, tr, r1)[1]
        if gain > best_gain:
            best, best_gain = r1, gain
    return best


@njit(cache=True, nogil=True)
def _bracket(signal: Values, angles: Values, tr: Values, start: float) -> tuple[float, float]:
    """Two values of ln R1 around the optimum next to the start; equal if none lies within a factor e^7."""
    u, step = np.log(start), 0.1
    rising = _project(signal, angles, tr, start)[2] > 0.0
    if not rising:
        step = -step
    for _ in range(8):
        following = u + step
        if (_project(signal, angles, tr, np.exp(following))[2] > 0.0) != rising:
            return min(u, following), max(u, following)
        u, step = following, step * 1.8
    return u, u


@njit(cache=True, nogil=True)
def _optimum(signal: Values, angles: Values, tr: Values, start: float) -> float:
    """ln R1 where the derivative of the projected sum of squares vanishes (Illinois steps in a bracket)."""
    low, high = _bracket(signal, angles, tr, start)
    if low == high:
        return np.nan
    f_low = _project(signal, angles, tr, np.exp(low))[2]
    f_high = _project(signal, angles, tr, np.exp(high))[2]
    for _ in range(_STEPS):
        middle = (low * f_high - high * f_low) / (f_high - f_low) if f_high != f_low else 0.5 * (low + high)
        if not low < middle < high:
            middle = 0.5 * (low + high)
        f_middle = _project(signal, angles, tr, np.exp(middle))[2]
        if f_middle > 0.0:
            if f_low > 0.0 and middle - low < 0.5 * (high - low):
                f_high *= 0.5
            low, f_low = middle, f_middle
        else:
            if f_high <= 0.0 and high - middle < 0.5 * (high - low):
                f_low *= 0.5
            high, f_high = middle, f_middle
        if high - low < _TOLERANCE or f_middle == 0.0:
            return middle
    return 0.5 * (low + high)


@njit(cache=True, nogil=True)
def _fit_rows(
    signals: Values,
    angles: Values,
    tr: Values,
    b1: Values,
    t1: Values,
    s0: Values,
    linear_failed: NDArray[np.bool_],
    start: int,
    stop: int,
) -> None:
    """Fit the rows start..stop; T1 stays NaN where no optimum exists."""
    own = np.empty_like(angles)
    for row in range(start, stop):
        for i in range(len(angles)):
            own[i] = angles[i] * b1[row]
        guess = _line(signals[row], own, tr)
        if np.isnan(guess):
            linear_failed[row] = True
            guess = _scan(signals[row], own, tr)
        u = _optimum(signals[row], own, tr, guess)
        if not np.isnan(u):
            t1[row] = np.exp(-u)
            s0[row] = _project(signals[row], own, tr, np.exp(u))[0]


def linear_t1(signals: ArrayLike, fa_deg: ArrayLike, tr_s: float) -> Values:
    """T1 (s) of each row of signals by the straight line alone: a start value and a preview, not a result.

    signals (voxels, angles); NaN where the slope lies outside (0, 1).
    """
    rows = np.atleast_2d(np.asarray(signals, dtype=float))
    angles = np.deg2rad(np.asarray(fa_deg, dtype=float))
    return np.array([1.0 / _line(row, angles, np.full(len(angles), tr_s)) for row in rows])


def fit_t1(
    signals: ArrayLike,
    fa_deg: ArrayLike,
    tr_s: ArrayLike,
    *,
    b1: ArrayLike = 1.0,
    plausible_s: tuple[float, float] = (T1_LOW.value, T1_HIGH.value),
    threads: int | None = None,
    progress: Progress | None = None,
) -> T1Fit:
    """T1 of every voxel by nonlinear least squares over flip angles, S0 projected out.

    signals      (voxels, angles) on one scale
    fa_deg       (angles,) nominal degrees; tr_s one or (angles,) s
    b1           one or (voxels,): true over nominal flip angle
    plausible_s  (shortest, longest) T1 that is kept
    returns      T1Fit; a T1 outside the plausible range is NaN and flagged, never clipped

    Raises ModelRefused for fewer than two different flip angles, or angles and repetition times that are not positive.
    """
    rows = np.ascontiguousarray(np.atleast_2d(np.asarray(signals, dtype=np.float64)))
    angles = np.deg2rad(np.asarray(fa_deg, dtype=np.float64))
    tr = np.broadcast_to(np.asarray(tr_s, dtype=np.float64), angles.shape).copy()
    if len(np.unique(angles)) < 2 or angles.min() <= 0 or tr.min() <= 0 or rows.shape[1] != len(angles):
        raise ModelRefused(
            f"T1 by variable flip angle with angles {np.rad2deg(angles).round(3).tolist()} degrees and "
            f"repetition times {tr.tolist()} s for {rows.shape[1]} images",
            "two or more different angles above 0, positive repetition times, one image an angle",
            "give T1 in seconds or as a map, or correct the angles and times",
        )
    b1_rows = np.broadcast_to(np.asarray(b1, dtype=np.float64), (len(rows),)).copy()
    usable = np.isfinite(rows).all(axis=1) & (rows > 0).all(axis=1) & np.isfinite(b1_rows) & (b1_rows > 0)
    flags = np.where(usable, np.uint32(0), bit("not-finite")).astype(np.uint32)
    work, own_b1 = np.ascontiguousarray(rows[usable]), b1_rows[usable]
    t1, s0, failed = np.full(len(work), np.nan), np.full(len(work), np.nan), np.zeros(len(work), dtype=bool)
    in_chunks(
        lambda start, stop: _fit_rows(work, angles, tr, own_b1, t1, s0, failed, start, stop),
        len(work),
        threads=threads,
        progress=progress,
        what="T1",
    )
    plausible = (t1 >= plausible_s[0]) & (t1 <= plausible_s[1])
    words = np.where(failed, bit("t1-linear-start"), 0) | np.where(plausible, 0, bit("t10-range"))
    exact = bit("two-angles") if len(np.unique(angles)) == 2 else np.uint32(0)
    flags[usable] = flags[usable] | words.astype(np.uint32) | exact
    return T1Fit(
        _spread(usable, np.where(plausible, t1, np.nan)), _spread(usable, np.where(plausible, s0, np.nan)), flags
    )


def _spread(usable: NDArray[np.bool_], values: Values) -> Values:
    """The values of the usable voxels among all voxels, NaN elsewhere."""
    full = np.full(usable.shape, np.nan)
    full[usable] = values
    return full
