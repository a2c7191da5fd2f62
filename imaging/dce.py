"""Dynamic contrast-enhanced MRI: from signal to concentration, and the tissue models.

Rate constants are per minute and volumes are fractions; frame times enter in seconds, as scanners and files
give them. Extreme relaxation, T2* loss and water exchange are not modelled. The convolution is exact for an
input curve that is linear between its samples: a plain discrete convolution on a 5 s grid would bias vp by
0.01 even without noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray
from scipy.stats import chi2

from ..core.errors import ModelRefused
from ..core.quantity import Parameter
from .aif import PlasmaCurve
from .quality import bit

Values = NDArray[np.float64]

RELAXIVITY = Parameter(
    4.5,
    "L/mmol/s",
    "longitudinal relaxivity r1 of the contrast agent",
    "QIBA digital reference object; about Gd-DTPA at 1.5 T",
    range=(3.0, 7.0),
    assumed=True,
)
ARRIVAL_SDS = Parameter(
    3.0,
    "1",
    "standard deviations above the baseline that mean arrival, two frames running",
    "project specification, imaging §3",
    range=(2.0, 5.0),
    assumed=True,
)
ARRIVAL_SHARE = Parameter(
    0.05,
    "1",
    "least rise at arrival, as a share of the whole rise: a short baseline's chance swing must not pass for the bolus",
    "chosen",
    range=(0.0, 0.1),
    assumed=True,
)


def bolus_arrival(curve: ArrayLike) -> int:
    """Index of the first frame that the bolus has reached: the number of baseline frames.

    curve (frames,) signal, the mean of a region. A frame counts when it and its successor exceed the mean of
    the frames before it (the very first left out) by 3 standard deviations and by 5 % of the whole rise.

    Raises ModelRefused when no frame does.
    """
    signal = np.asarray(curve, dtype=float)
    for frame in range(3, len(signal) - 1):
        before = signal[1:frame]
        least = max(
            ARRIVAL_SDS.value * float(before.std(ddof=1)), ARRIVAL_SHARE.value * float(signal.max() - before.mean())
        )
        if min(signal[frame], signal[frame + 1]) > before.mean() + least:
            return frame
    raise ModelRefused(
        "no bolus in the region's mean signal",
        "three or more frames before contrast, then a rise above 3 standard deviations of them",
        "state the number of baseline frames (baseline), or check the region and the series",
    )


def bolus_foot(curve: ArrayLike) -> int | None:
    """Index of the first frame of an input curve (frames,) that contrast has reached, None if it begins with the bolus.

    From the arrival back down to the noise of the first half of the frames before it: 3 standard deviations and
    0.1 % of the peak above their mean.
    """
    values = np.asarray(curve, dtype=float)
    try:
        foot = bolus_arrival(values)
    except ModelRefused:
        return None
    early = values[: max(2, foot // 2)]
    level = float(early.mean() + ARRIVAL_SDS.value * early.std(ddof=1) + 1e-3 * (values.max() - early.mean()))
    while foot > 1 and values[foot - 1] > level:
        foot -= 1
    return foot


def baseline_frames(count: int, *, all_points: bool = False) -> slice:
    """The frames that make the baseline, of ``count`` before arrival: the first is not yet in steady state.

    With a single frame before contrast that one is used.
    """
    return slice(0 if all_points or count == 1 else 1, count)


@dataclass(frozen=True, eq=False)
class Concentration:
    """Contrast agent in voxels over time.

    values  (voxels, frames) mmol/L, NaN where the signal has no solution; negative values are noise and stay
    noise   (voxels,) mmol/L, standard deviation before contrast (NaN if the baseline is too short to tell)
    flags   (voxels,) quality words
    """

    values: Values
    noise: Values
    flags: NDArray[np.uint32]


def to_concentration(
    signal: ArrayLike,
    t10: ArrayLike,
    *,
    fa_deg: ArrayLike,
    tr_s: float,
    relaxivity: float,
    baseline: int,
    all_points: bool = False,
    signal_noise: float | None = None,
    baseline_errors: float = 0.0,
) -> Concentration:
    """Concentration from the signal of a spoiled gradient echo.

    signal        (voxels, frames) scanner units
    t10           one or (voxels,) s, T1 before contrast
    fa_deg        one or (voxels,) degrees, as truly applied
    baseline      number of frames before arrival
    signal_noise  standard deviation of the signal; None: from the baselines of these voxels (``baseline_noise``)
    baseline_errors  how many standard errors the mean signal before contrast is moved up: what its noise does

    A signal at or above S0 sin(a) has no solution (saturation): NaN and flag, never a clipped value.
    """
    rows = np.atleast_2d(np.asarray(signal, dtype=np.float64))
    if not 1 <= baseline < rows.shape[1]:
        raise ModelRefused(
            f"{baseline} baseline frames of {rows.shape[1]}",
            "at least one frame before and one after arrival",
            "state the number of baseline frames (baseline)",
        )
    if not (tr_s > 0 and relaxivity > 0 and np.all(np.asarray(fa_deg) > 0)):
        raise ModelRefused(
            f"repetition time {tr_s} s, relaxivity {relaxivity} per mmol/L/s, or a flip angle of zero",
            "positive numbers",
            "state them (tr, relaxivity, flip angle)",
        )
    r10 = np.broadcast_to(1.0 / np.asarray(t10, dtype=float), (len(rows),))[:, None]
    angle = np.deg2rad(np.broadcast_to(np.asarray(fa_deg, dtype=float), (len(rows),)))[:, None]
    before = rows[:, baseline_frames(baseline, all_points=all_points)]
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        decay = np.exp(-tr_s * r10)
        own_noise = baseline_noise(before) if signal_noise is None else signal_noise
        mean = before.mean(axis=1, keepdims=True)
        if baseline_errors:
            mean = mean + baseline_errors * own_noise / np.sqrt(before.shape[1])
        top = mean * (1 - decay * np.cos(angle)) / (1 - decay)
        saturated = rows >= top
        r1 = -np.log(np.where(saturated, np.nan, (top - rows) / (top - rows * np.cos(angle)))) / tr_s
        values = (r1 - r10) / relaxivity
        noise = own_noise * _slope(before.mean(axis=1), top[:, 0], np.cos(angle[:, 0]), tr_s, relaxivity)
    flags = np.where(np.isfinite(rows).all(axis=1), 0, bit("not-finite"))
    flags |= np.where(saturated.any(axis=1), bit("saturated"), 0)
    flags |= np.where(np.isfinite(r10[:, 0]), 0, bit("t10-range"))
    flags |= np.where(before.mean(axis=1) > 0, 0, bit("background"))
    flags |= bit("no-baseline") if before.shape[1] < 2 else np.uint32(0)
    return Concentration(values, noise, flags.astype(np.uint32))


def baseline_noise(before: Values) -> float:
    """Standard deviation of the signal before contrast, common to all voxels: the median, corrected to normal noise.

    before (voxels, frames); NaN for a single frame
    """
    freedom = before.shape[1] - 1
    if freedom < 1:
        return float("nan")
    spread = before.std(axis=1, ddof=1)
    spread = spread[np.isfinite(spread)]
    return float(np.median(spread) / np.sqrt(chi2.ppf(0.5, freedom) / freedom)) if spread.size else float("nan")


def _slope(signal: Values, top: Values, cosine: Values, tr_s: float, relaxivity: float) -> Values:
    """dC/dS at the baseline signal, mmol/L per scanner unit."""
    return np.asarray((1 / (top - signal) - cosine / (top - signal * cosine)) / (tr_s * relaxivity))


@njit(cache=True, nogil=True)
def _weights(k: float, h: float) -> tuple[float, float, float, float]:
    """g0, g1 of one step and their derivatives by k; series where k h is small."""
    x = k * h
    if x < 1e-2:
        g0 = h * (1 - x / 2 + x * x / 6 - x**3 / 24 + x**4 / 120)
        g1 = h * (0.5 - x / 6 + x * x / 24 - x**3 / 120 + x**4 / 720)
        d0 = h * h * (-0.5 + x / 3 - x * x / 8 + x**3 / 30)
        d1 = h * h * (-1 / 6 + x / 12 - x * x / 40 + x**3 / 180)
        return g0, g1, d0, d1
    decay, e0 = np.exp(-x), -np.expm1(-x)
    return (
        e0 / k,
        1 / k - e0 / (h * k * k),
        (h * k * decay - e0) / (k * k),
        -(1 + decay) / (k * k) + 2 * e0 / (h * k**3),
    )


@njit(cache=True, nogil=True)
def convolve(minutes: Values, curve: Values, k: float) -> tuple[Values, Values]:
    """X(t) = integral of curve(s) exp(-k (t - s)) ds at the samples, and dX/dk; exact for a curve linear between them.

    minutes (samples,) increasing, zero before the first; k in 1/min, 0 allowed. Uneven steps are allowed.
    """
    out, slope = np.zeros(len(minutes)), np.zeros(len(minutes))
    for i in range(1, len(minutes)):
        h = minutes[i] - minutes[i - 1]
        decay = np.exp(-k * h)
        g0, g1, d0, d1 = _weights(k, h)
        rise = curve[i] - curve[i - 1]
        out[i] = decay * out[i - 1] + curve[i - 1] * g0 + rise * g1
        slope[i] = decay * (slope[i - 1] - h * out[i - 1]) + curve[i - 1] * d0 + rise * d1
    return out, slope


@dataclass(frozen=True, eq=False)
class Sampling:
    """A plasma curve made ready for frames: its samples joined with the frame times, so nothing is lost between.

    minutes  (samples,) all break points, from the first sample of the curve on
    curve    (samples,) mmol/L
    frames   (frames,) position of each frame among them; 0 for frames before the curve begins
    reached  (frames,) False for frames before the curve begins
    """

    minutes: Values
    curve: Values
    frames: NDArray[np.intp]
    reached: NDArray[np.bool_]

    @property
    def plasma(self) -> Values:
        """(frames,) mmol/L."""
        return np.where(self.reached, self.curve[self.frames], 0.0)

    def response(self, k: float) -> tuple[Values, Values]:
        """X(k) and dX/dk at the frames, mmol/L min and mmol/L min²."""
        x, slope = convolve(self.minutes, self.curve, k)
        return np.where(self.reached, x[self.frames], 0.0), np.where(self.reached, slope[self.frames], 0.0)


def sample(plasma: PlasmaCurve, times_s: ArrayLike) -> Sampling:
    """The plasma curve on its own samples and on the frame times together."""
    frames = np.asarray(times_s, dtype=float)
    reached = frames >= plasma.times_s[0]
    inside = plasma.times_s[plasma.times_s <= max(float(frames.max()), plasma.times_s[1])]
    times = np.union1d(inside, frames[reached])
    return Sampling(times / 60.0, plasma.at(times), np.where(reached, np.searchsorted(times, frames), 0), reached)


def tofts(times_s: ArrayLike, plasma: PlasmaCurve, ktrans: float, ve: float) -> Values:
    """Contrast agent in tissue, (frames,) mmol/L: Ktrans X(Ktrans/ve) [Tofts and Kermode 1991]."""
    return extended_tofts(times_s, plasma, ktrans, ve, 0.0)


def extended_tofts(times_s: ArrayLike, plasma: PlasmaCurve, ktrans: float, ve: float, vp: float) -> Values:
    """Contrast agent in tissue, (frames,) mmol/L: Ktrans X(Ktrans/ve) + vp Cp.

    Tofts 1997, doi 10.1002/jmri.1880070113. ktrans 1/min, ve and vp fractions, ve > 0.
    """
    sampling = sample(plasma, times_s)
    return ktrans * sampling.response(ktrans / ve)[0] + vp * sampling.plasma


def patlak(times_s: ArrayLike, plasma: PlasmaCurve, ps: float, vp: float) -> Values:
    """Contrast agent in tissue, (frames,) mmol/L: PS times the integral of Cp, plus vp Cp [Patlak 1983,
    doi 10.1038/jcbfm.1983.1].

    ps 1/min, vp a fraction; nothing flows back.
    """
    sampling = sample(plasma, times_s)
    return ps * sampling.response(0.0)[0] + vp * sampling.plasma
