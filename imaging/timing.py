"""Sorting in time: which key orders the images of a dynamic series, and what the clock says.

A key is usable if at every slice position it takes a different value for every image; the first usable one
orders, each other usable one that orders differently is reported as ``time-key-conflict``. Seconds come only
from keys that are clocks. Tags about contrast agent are never used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..core.errors import TimesRejected
from .planes import CLOCKS, TIME_KEYS
from .study import Finding

_HALF_DAY, _DAY = 43200.0, 86400.0
_IRREGULAR = 1.75
"""A frame distance above this many times the median is reported as a possible missing time point."""


@dataclass(frozen=True, eq=False)
class TimeOrder:
    """The order of images in time.

    ranks     (images,) time point of each, from 0
    times_s   (time points,) s from the first
    key       what ordered them
    """

    ranks: NDArray[np.int64]
    times_s: NDArray[np.float64]
    key: str
    findings: tuple[Finding, ...]


def check_times(times_s: Sequence[float] | NDArray[np.float64], frames: int, where: str) -> NDArray[np.float64]:
    """(frames,) s from the first. Raises TimesRejected unless there are ``frames`` strictly increasing times."""
    times = np.asarray(times_s, dtype=float)
    if times.shape != (frames,) or not np.isfinite(times).all():
        raise TimesRejected(
            f"{times.size} times for the {frames} frames of {where}",
            f"{frames} times in seconds",
            "give one time for every frame with --times",
        )
    steps = np.diff(times)
    if (steps <= 0).any():
        place = int(np.argmax(steps <= 0))
        kind = "equal" if steps[place] == 0 else "decreasing"
        raise TimesRejected(
            f"{where}: frames {place + 1} and {place + 2} have {kind} times "
            f"({times[place] - times[0]:g} s and {times[place + 1] - times[0]:g} s)",
            "strictly increasing times",
            "correct the times, or state them with --times",
        )
    return np.asarray(times - times[0])


def _check_complete(slices: NDArray[np.int64], where: str) -> int:
    """Images at each slice, the same everywhere. Raises TimesRejected naming the slices that lack one."""
    counts = np.bincount(slices)
    frames = int(np.argmax(np.bincount(counts)))
    if (counts != frames).any():
        lacking = [f"slice {k + 1} has {counts[k]}" for k in np.flatnonzero(counts != frames)]
        more = f" and {len(lacking) - 5} more" if len(lacking) > 5 else ""
        raise TimesRejected(
            f"{where}: a time point is incomplete: {', '.join(lacking[:5])}{more} "
            f"of {frames} images ({len(counts)} slices)",
            "every slice at every time point",
            "add the missing images, or leave that time point out",
        )
    return frames


def _values(moments: Sequence[Mapping[str, float]], key: str, missing_first: int) -> NDArray[np.float64]:
    """(images,) values of a key, NaN where absent; Trigger Time absent in just the first time point means 0."""
    values = np.array([moment.get(key, np.nan) for moment in moments])
    absent = np.isnan(values)
    if key == "TriggerTime" and absent.sum() == missing_first < len(values) and np.nanmin(values) > 0:
        values[absent] = 0.0
    return values


def _unwrapped(values: NDArray[np.float64], key: str) -> tuple[NDArray[np.float64], bool]:
    """Clock values with those after midnight moved to the next day, and whether there were any."""
    if key not in CLOCKS or key == "TriggerTime" or not np.ptp(values) > _HALF_DAY:
        return values, False
    return np.where(values < values.max() - _HALF_DAY, values + _DAY, values), True


def _ranks(values: NDArray[np.float64], slices: NDArray[np.int64], frames: int) -> NDArray[np.int64] | None:
    """(images,) rank among the images of the same slice, None unless all of them differ."""
    if np.isnan(values).any():
        return None
    ranks = np.empty(len(values), dtype=np.int64)
    for k in range(int(slices.max()) + 1):
        here = np.flatnonzero(slices == k)
        if len(np.unique(values[here])) != frames:
            return None
        ranks[here[np.argsort(values[here])]] = np.arange(frames)
    return ranks


def _medians(values: NDArray[np.float64], ranks: NDArray[np.int64], frames: int) -> NDArray[np.float64]:
    return np.array([np.median(values[ranks == rank]) for rank in range(frames)])


def _steps_missing(numbers: NDArray[np.float64], unit: float) -> int | None:
    """First step in an ascending numbering that skips whole units, None if there is none."""
    multiples = np.diff(numbers) / unit
    skips = (np.abs(multiples - np.rint(multiples)) < 1e-6) & (np.rint(multiples) >= 2)
    return int(np.argmax(skips)) if skips.any() else None


def _check_numbering(key: str, numbers: NDArray[np.float64], n_slices: int, where: str) -> None:
    """Refuse a numbering of time points that skips one: images were lost."""
    if key in ("TemporalPositionIndex", "TemporalPositionIdentifier"):
        unit = 1.0
    else:
        unit = float(n_slices) if len(numbers) == 2 else float(np.diff(numbers).min())
    place = _steps_missing(numbers, unit)
    if place is not None:
        raise TimesRejected(
            f"{where}: a time point is missing between frames {place + 1} and {place + 2} ({key} skips)",
            "all time points of the series",
            "add the missing images, or state the times of those that are there with --times",
        )


def _refuse_unusable(
    moments: Sequence[Mapping[str, float]], slices: NDArray[np.int64], frames: int, where: str
) -> TimesRejected:
    """Why no clock tells these images apart, as the error to raise."""
    first = np.flatnonzero(slices == 0)
    for key in CLOCKS:
        distinct = len({moments[int(i)].get(key) for i in first} - {None})
        if 1 < distinct < frames:
            return TimesRejected(
                f"{where}: {frames} images at each slice but {distinct} different times in {key}: "
                "frames with equal times",
                "strictly increasing times",
                "remove the duplicate frames, or state all times with --times",
            )
    if int(slices.max()) == 0 and frames > 1:
        return TimesRejected(
            f"{where}: {frames} images lie at one place (slice distance zero) and no clock tells them apart",
            "slices at different positions, or times",
            "check the positions of the slices, or state the times with --times",
        )
    return TimesRejected(
        f"{where}: {frames} images at each slice and no clock tells when they were taken",
        "a time for every image",
        "state the times with --times",
    )


def order_in_time(
    moments: Sequence[Mapping[str, float]],
    slices: NDArray[np.int64],
    where: str,
    *,
    stated_s: Sequence[float] | None = None,
    expected: int | None = None,
    alone: bool = True,
) -> TimeOrder:
    """Order the images of one series in time.

    moments    time keys of each image (see planes.TIME_KEYS)
    slices     (images,) slice number of each
    stated_s   times in seconds that the user gives; they replace the clock, not the order
    expected   number of time points that the images declare, if they do
    alone      False if the series holds other images too, so that skipped instance numbers mean nothing

    Raises TimesRejected when images are missing, times are equal or decrease, or no clock is found.
    """
    frames = _check_complete(slices, where)
    n_slices = int(slices.max()) + 1
    if expected is not None and expected > frames and stated_s is None:
        raise TimesRejected(
            f"{where}: {frames} of {expected} declared time points are there",
            f"{expected} of them",
            "add the missing images, or state the times of those that are there with --times",
        )
    values, usable, findings = {}, {}, []
    for key in TIME_KEYS:
        values[key], wrapped = _unwrapped(_values(moments, key, n_slices), key)
        ranks = _ranks(values[key], slices, frames)
        if ranks is not None:
            usable[key] = ranks
            if wrapped:
                findings.append(Finding("inferred", where, f"{key} passes midnight: later images moved by one day"))
    clock = next((key for key in usable if key in CLOCKS), None)
    if not usable or (clock is None and stated_s is None):
        raise _refuse_unusable(moments, slices, frames, where)
    chosen, ranks = next(iter(usable.items()))
    findings += [
        Finding(
            "doubted",
            where,
            f"time-key-conflict: {key} orders the images differently from {chosen}, which was followed",
        )
        for key in usable
        if (usable[key] != ranks).any()
    ]
    if stated_s is not None:
        times = check_times(stated_s, frames, where)
        findings.append(Finding("chosen", where, f"{frames} times stated by the user; order by {chosen}"))
        return TimeOrder(ranks, times, chosen, tuple(findings))
    for key in ("TemporalPositionIndex", "TemporalPositionIdentifier", "InstanceNumber"):
        if key in usable and (alone or key != "InstanceNumber") and not (usable[key] != ranks).any():
            _check_numbering(key, _medians(values[key], ranks, frames), n_slices, where)
    times = check_times(_medians(values[str(clock)], ranks, frames), frames, where)
    findings.append(
        Finding("found", where, f"{frames} time points ordered by {chosen}, seconds from {clock}: 0 to {times[-1]:g} s")
    )
    findings += _doubts_about_gaps(times, where)
    return TimeOrder(ranks, times, chosen, tuple(findings))


def _doubts_about_gaps(times: NDArray[np.float64], where: str) -> list[Finding]:
    steps = np.diff(times)
    if len(steps) < 4 or steps.max() <= _IRREGULAR * np.median(steps):
        return []
    place = int(np.argmax(steps))
    return [
        Finding(
            "doubted",
            where,
            f"frames {place + 1} and {place + 2} lie {steps[place]:g} s apart, the median is "
            f"{np.median(steps):g} s: a time point may be missing",
        )
    ]
