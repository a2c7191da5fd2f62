"""The arterial input function measured in the images themselves: an artery found by its curve, or drawn in a mask.

An artery shows contrast earlier, higher and more steeply than tissue, and its curve is smooth after the peak. Every
bright voxel is ranked by these four; the input function is the median over the best voxels, in whole blood, on the
clock of the series, and zero before its arrival. It is compared with the curve of the population (Parker's): a
peak or tail that is far from it, or a peak later than the tissue's, stops the quantification unless the user
accepts the curve. Inflow, partial volume and T2* at the peak are not corrected.

That arteries are told by a high, early and narrow peak is from Mouridsen et al. 2006, doi 10.1002/mrm.20759; the
score is our own; the limits of the comparison are the project specification's, imaging §4 and §7.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from ..core.errors import ModelRefused
from ..core.quantity import Parameter
from .account import Account, inside
from .aif import BLOOD_T1, BloodCurve, Curve, in_plasma, parker
from .dce import Concentration, bolus_foot
from .dynamic_maps import Dynamic
from .guarded import read_guarded
from .segmentation import read_labels

Values = NDArray[np.float64]
Mask = NDArray[np.bool_]
Places = tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]

BEST_VOXELS = Parameter(
    16.0,
    "1",
    "voxels of an artery whose median is the input function",
    "chosen: the median then holds a quarter of the noise of one voxel, and a small artery has as many",
    range=(4.0, 100.0),
    assumed=True,
)
ENHANCING_SHARE = Parameter(
    0.1,
    "1",
    "share of the tissue, that of highest signal after over before contrast, in which an artery is sought",
    "chosen: arteries are less than this share of a body",
    range=(0.02, 0.5),
    assumed=True,
)
CANDIDATE_PEAK = Parameter(
    0.6,
    "1",
    "least peak of a candidate, as a share of the peak that BEST_VOXELS voxels reach",
    "chosen: voxels half filled by an artery stay out, arteries of unequal signal stay in",
    range=(0.4, 0.9),
    assumed=True,
)
MOST_SEARCHED = 50_000
"""At most so many voxels are turned into concentrations for the search."""
LEAST_CNR = Parameter(
    10.0,
    "1",
    "least peak of an artery's voxel over the noise before contrast",
    "chosen: well above the three standard deviations that tell enhancement",
    range=(5.0, 20.0),
    assumed=True,
)
PLAUSIBLE_RATIO = Parameter(
    3.0,
    "1",
    "a peak or tail more than this factor above Parker's, or below 0.3 of it, is implausible",
    "project specification, imaging §4",
    range=(2.0, 5.0),
    assumed=True,
)
IMPLAUSIBLY_LOW = Parameter(
    0.3,
    "1",
    "a peak or tail below this share of Parker's is implausible",
    "project specification, imaging §4",
    range=(0.2, 0.5),
    assumed=True,
)
PARKER_PEAK_MIN = 0.1726
"""min after arrival at which Parker's curve peaks, 6.0732 mmol/L."""
_SHARPEST = 4
"""The steepest rise is taken over at most this many frames from arrival on."""


@dataclass(frozen=True, eq=False)
class MeasuredCurve:
    """An input function measured in the images.

    curve    whole blood on the clock of the series
    voxels   which of the rows given it comes from (indices); places where they are, three index arrays
    quality  arrival_s, peak_s, peak (mmol/L), tail (mmol/L, mean of the last frames), upslope (mmol/L/s), width_s
             (of the first pass at half its peak, NaN if it never falls so low), roughness (noise after the peak as a
             share of the peak), spread (interquartile range of the voxels' peaks as a share of the median peak)
    """

    curve: BloodCurve
    voxels: NDArray[np.intp]
    quality: Mapping[str, float]
    places: tuple[NDArray[np.intp], ...] = ()


@dataclass(frozen=True, eq=False)
class _Shape:
    """What tells an artery from tissue, one entry a voxel: arrival (in frames), peak, upslope, roughness."""

    arrival: Values
    peak: Values
    upslope: Values
    roughness: Values


def measured_input(
    dynamic: Dynamic, concentration: Callable[[Places, float], Concentration], account: Account
) -> MeasuredCurve:
    """The input function that the settings ask for: from the mask of an artery, else found by its curve.

    concentration  of the voxels at three index arrays with one T1 before contrast, s

    Raises ModelRefused, and what reading a mask raises.
    """
    t1 = _blood_t1(account)
    mask = account.settings.aif_mask
    if mask is not None:
        labels = read_guarded("the mask of the artery", read_labels, mask, paths=[Path(mask)])
        there = inside(labels, dynamic.series.grid)
        places: Places = np.nonzero(there)  # type: ignore[assignment]
        found = curve_of_mask(dynamic.times_s, concentration(places, t1).values)
    else:
        places = _brightest(dynamic)
        searched = concentration(places, t1)
        found = find_artery(dynamic.times_s, searched.values, searched.noise, dynamic.baseline)
    account.note("found", "input function", f"{found.curve.source}: {measures_in_words(found.quality)}")
    chosen = np.stack([axis[found.voxels] for axis in places], axis=1)
    account.summary["aif_voxels"] = chosen.tolist() if mask is None else len(chosen)
    return replace(found, places=tuple(axis[found.voxels] for axis in places))


def before_the_artery(dynamic: Dynamic, account: Account) -> Dynamic:
    """The series with a baseline that ends where the brightest voxels begin to fill, before slow tissue does."""
    if account.settings.baseline is not None:
        return dynamic
    i, j, k = _brightest(dynamic)
    vessels = np.asarray(dynamic.series.values[:, i, j, k], dtype=np.float64).mean(axis=1)
    return before_the_foot(dynamic, vessels, "the brightest vessels fill", account)


def before_the_foot(dynamic: Dynamic, curve: Values, what: str, account: Account) -> Dynamic:
    """The series with a baseline that ends where a curve, (frames,), begins to rise, if that is sooner."""
    foot = bolus_foot(curve)
    if foot is None or foot >= dynamic.baseline:
        return dynamic
    account.note(
        "chosen",
        "dynamic series",
        f"{what} from frame {foot + 1}, before the region: {foot} frames make the baseline",
    )
    return replace(dynamic, baseline=foot)


def _blood_t1(account: Account) -> float:
    """T1 of blood before contrast: stated, or the documented one with a finding."""
    stated = account.settings.blood_t1
    if stated is not None:
        account.note("chosen", "input function", f"T1 of blood {stated:g} s, as stated")
        return stated
    account.note(
        "inferred",
        "input function",
        f"T1 of blood {BLOOD_T1.value:g} s is assumed ({BLOOD_T1.source}); state the true one if you know it "
        "(blood-t1): the measured curve scales with it",
    )
    return BLOOD_T1.value


def _brightest(dynamic: Dynamic) -> Places:
    """The tenth of the tissue whose signal rises to the largest multiple of that before contrast."""
    tissue: Places = np.nonzero(dynamic.tissue)  # type: ignore[assignment]
    top = np.asarray(dynamic.series.values[dynamic.baseline :].max(axis=0), dtype=np.float64)[tissue]
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.nan_to_num(top / dynamic.before[tissue], posinf=0.0)
    count = min(MOST_SEARCHED, max(int(ENHANCING_SHARE.value * len(ratio)), min(len(ratio), 200)))
    rows = np.sort(np.argsort(-ratio, kind="stable")[:count])
    return tissue[0][rows], tissue[1][rows], tissue[2][rows]


def find_artery(times_s: Values, curves: Values, noise: Values, baseline: int) -> MeasuredCurve:
    """The input function from the voxels that look most like an artery.

    times_s   (frames,) s
    curves    (voxels, frames) mmol/L computed with the T1 of blood; a voxel with a NaN is never chosen
    noise     (voxels,) mmol/L, standard deviation before contrast
    baseline  number of frames before contrast reaches the region of interest

    Candidates reach 60 % of the peak that sixteen voxels reach. Of these, the ones that fill first remain (half of the
    peak at most one frame after the earliest twentieth), ranked by the sum of their ranks in peak, upslope and
    smoothness.

    Raises ModelRefused when no voxel stands out of the noise as an artery would.
    """
    usable: Mask = np.asarray(np.isfinite(curves).all(axis=1))
    peaks = np.where(usable, np.where(usable[:, None], curves, 0.0).max(axis=1), -np.inf)
    enhancing = usable & (peaks > LEAST_CNR.value * np.nan_to_num(noise, nan=0.0)) & (peaks > 0)
    if not enhancing.any():
        raise ModelRefused(
            f"no voxel that enhances like an artery (peak above {LEAST_CNR.value:g} standard deviations of the noise)",
            "an artery inside the field of view",
            "give a mask of the artery (aif-mask), a csv file, or the curve of a population",
        )
    high = np.sort(peaks[enhancing])[-min(int(BEST_VOXELS.value), int(enhancing.sum()))]
    rows = np.flatnonzero(enhancing & (peaks >= CANDIDATE_PEAK.value * high))
    shape = _shape(times_s, curves[rows], baseline)
    early = shape.arrival <= np.percentile(shape.arrival, 5) + 1.0
    rows, score = rows[early], _score(shape)[early]
    best = np.sort(rows[np.argsort(-score, kind="stable")[: int(BEST_VOXELS.value)]])
    return _measured(times_s, curves, best, "measured: the median of the best voxels of an artery found by its curve")


def curve_of_mask(times_s: Values, curves: Values) -> MeasuredCurve:
    """The input function as the median over voxels that somebody drew.

    curves (voxels, frames) mmol/L of the mask's voxels, those with a NaN left out.
    Raises ModelRefused when none is left.
    """
    rows = np.flatnonzero(np.isfinite(curves).all(axis=1))
    if len(rows) == 0:
        raise ModelRefused(
            "no voxel of the mask of the artery has a concentration (outside the series, or saturated)",
            "at least one valid voxel",
            "check that the mask lies in the dynamic series, or give a csv file",
        )
    return _measured(times_s, curves, rows, "measured: the median of the voxels of a mask")


def _shape(times_s: Values, curves: Values, baseline: int) -> _Shape:
    """Arrival, peak, upslope and roughness of each curve."""
    peak = curves.max(axis=1)
    arrival = _half_peak(curves, peak)
    rise = np.diff(curves, axis=1) / np.diff(times_s)
    late = min(curves.shape[1] - 3, max(baseline, int(np.median(np.argmax(curves, axis=1)))) + _SHARPEST)
    return _Shape(arrival, peak, rise[:, : late + 1].max(axis=1), _roughness(curves[:, late:]) / peak)


def _half_peak(curves: Values, peak: Values) -> Values:
    """When each curve first reaches half of its peak, in frames, between the samples."""
    frame = np.argmax(curves >= 0.5 * peak[:, None], axis=1)
    row, before = np.arange(len(curves)), np.maximum(frame - 1, 0)
    rise = curves[row, frame] - curves[row, before]
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(rise > 0, (0.5 * peak - curves[row, before]) / rise, 1.0)
    return np.asarray(before + share)


def _roughness(tail: Values) -> Values:
    """Standard deviation of the noise of smooth curves, from their second differences."""
    if tail.shape[1] < 3:
        return np.zeros(len(tail))
    return np.asarray(np.sqrt((np.diff(tail, 2, axis=1) ** 2).mean(axis=1) / 6.0))


def _score(shape: _Shape) -> Values:
    """Sum of ranks: high peak, steep rise, smooth tail; the peak counts twice, as partial volume lowers it first."""
    return np.asarray(2 * rankdata(shape.peak) + rankdata(shape.upslope) + rankdata(-shape.roughness))


def _measured(times_s: Values, curves: Values, rows: NDArray[np.intp], source: str) -> MeasuredCurve:
    """The median curve, zero before its arrival, and its measures of quality."""
    chosen = curves[rows]
    median = np.median(chosen, axis=0)
    arrival = _arrival(median)
    curve = BloodCurve(times_s, np.where(np.arange(len(times_s)) < arrival, 0.0, median), source)
    peak = int(median.argmax())
    peaks = chosen.max(axis=1)
    low, middle, high = np.percentile(peaks, (25, 50, 75))
    quality = {
        "voxels": float(len(rows)),
        "arrival_s": float(times_s[arrival]),
        "peak_s": float(times_s[peak]),
        "peak": float(median[peak]),
        "tail": float(median[-3:].mean()),
        "upslope": float((np.diff(median) / np.diff(times_s))[: max(peak, 1)].max()),
        "width_s": _width(times_s, median, peak),
        "roughness": float(_roughness(median[None, min(peak + 3, len(median) - 3) :])[0] / median[peak]),
        "spread": float((high - low) / middle),
    }
    return MeasuredCurve(curve, rows, quality)


def _arrival(median: Values) -> int:
    """The first frame that contrast has reached; that of 10 % of the peak where the series begins with the bolus."""
    foot = bolus_foot(median)
    return int(np.argmax(median >= 0.1 * median.max())) if foot is None else foot


def _width(times_s: Values, median: Values, peak: int) -> float:
    """Full width of the first pass at half its peak, s; NaN where the curve does not fall to half."""
    half = 0.5 * median[peak]
    below = np.flatnonzero(median[peak:] < half)
    before = np.flatnonzero(median[: peak + 1] < half)
    if len(below) == 0 or len(before) == 0:
        return float("nan")
    return _crossing(times_s, median, peak + int(below[0]), half) - _crossing(
        times_s, median, int(before[-1]) + 1, half
    )


def _crossing(times_s: Values, curve: Values, frame: int, level: float) -> float:
    """When the straight line from the frame before to ``frame`` crosses a level, s."""
    before, after = curve[frame - 1], curve[frame]
    share = (level - before) / (after - before) if after != before else 1.0
    return float(times_s[frame - 1] + share * (times_s[frame] - times_s[frame - 1]))


@dataclass(frozen=True)
class Verdict:
    """How a curve compares with the population's.

    peak_ratio, tail_ratio  this curve over Parker's: the peaks, and the last value at the same time since arrival
    late_s                  s by which it peaks after the tissue (negative: before, as it should)
    problems                words that begin with the flag ``aif-implausible`` or ``aif-late``
    """

    peak_ratio: float
    tail_ratio: float
    late_s: float
    problems: tuple[str, ...]


def judge(curve: Curve, tissue_mean: Values, times_s: Values, haematocrit: float) -> Verdict:
    """Compare a measured curve with Parker's, both in plasma, and with the tissue that it feeds.

    tissue_mean (frames,) mmol/L, the region's mean curve at times_s (s, on the clock of the curve)
    """
    ours = in_plasma(curve, haematocrit)
    peak = int(ours.concentration.argmax())
    arrival = ours.times_s[int(np.argmax(ours.concentration >= 0.1 * ours.concentration[peak]))]
    minutes = (float(ours.times_s[-1]) - float(arrival)) / 60.0
    usual_peak, usual_tail = (float(parker(at)) / (1 - haematocrit) for at in (PARKER_PEAK_MIN, minutes))
    top, tail = float(ours.concentration[peak]), float(np.median(ours.concentration[-3:]))
    late = float(ours.times_s[peak] - times_s[int(tissue_mean.argmax())])
    problems = [
        f"aif-implausible: its {name} of {value:.3g} mmol/L in plasma is {value / usual:.2g} times Parker's"
        for name, value, usual in (("peak", top, usual_peak), ("tail", tail, usual_tail))
        if not IMPLAUSIBLY_LOW.value <= value / usual <= PLAUSIBLE_RATIO.value
    ]
    if late > 0:
        problems.append(f"aif-late: it peaks {late:.1f} s after the tissue")
    return Verdict(top / usual_peak, tail / usual_tail, late, tuple(problems))


def refuse_or_note(verdict: Verdict, accepted: bool, note: Callable[[str], None]) -> None:
    """Write down the problems of a curve that the user accepts; raise ModelRefused for any other."""
    if verdict.problems and not accepted:
        raise ModelRefused(
            "; ".join(verdict.problems),
            f"a peak and a tail within {IMPLAUSIBLY_LOW.value:g} to {PLAUSIBLE_RATIO.value:g} times Parker's, and a "
            "peak no later than the tissue's",
            "check the artery, T1 of blood, relaxivity and units, use the curve of a population, or accept it "
            "(accept-aif)",
        )
    for problem in verdict.problems:
        note(f"{problem}; accepted as stated")


def measures_in_words(quality: Mapping[str, float]) -> str:
    """The measures of quality as one sentence."""
    return (
        f"{quality['voxels']:.0f} voxels, arrival at {quality['arrival_s']:.1f} s, peak {quality['peak']:.3g} mmol/L "
        f"at {quality['peak_s']:.1f} s, tail {quality['tail']:.3g} mmol/L, roughness {quality['roughness']:.1%} and "
        f"spread of the voxels {quality['spread']:.1%} of the peak"
    )


def summary_of(verdict: Verdict, measured: MeasuredCurve | None) -> dict[str, Any]:
    """What maps.json says of a measured curve."""
    told: dict[str, Any] = {
        "peak_over_parker": verdict.peak_ratio,
        "tail_over_parker": verdict.tail_ratio,
        "peak_after_tissue_s": verdict.late_s,
        "problems": list(verdict.problems),
    }
    return told if measured is None else told | {"quality": dict(measured.quality)}
