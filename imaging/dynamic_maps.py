"""Maps of a dynamic series that need no kinetic model: PE, SER, and the enhancing tumour where nobody drew one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..core.errors import ConfigurationRejected
from .account import FOREGROUND, Account, Mask, Values, inside, map_of, with_signal
from .dce import baseline_frames, bolus_arrival
from .enhancement import (
    Phases,
    background_signal,
    enhancement_ratio,
    percent_enhancement,
    phases,
    scanner_percent_enhancement,
    segment_enhancement,
)
from .kinetics import LEAST_FRAMES
from .quality import bit
from .study import ImagingStudy, LabelImage, ParametricMap, Series


@dataclass(frozen=True, eq=False)
class Dynamic:
    """A dynamic series made ready.

    times_s   (frames,) s
    baseline  number of frames before arrival
    before    (i, j, k) mean signal before contrast
    tissue    (i, j, k) True where there is signal to fit
    region    (i, j, k) True where the tumour is or may be; None if nothing says so
    """

    series: Series
    times_s: Values
    baseline: int
    before: Values
    tissue: Mask
    region: Mask | None

    @property
    def interval_s(self) -> float:
        """Median time between frames, s."""
        return float(np.median(np.diff(self.times_s)))


def dynamic_series(study: ImagingStudy, account: Account) -> Series | None:
    """The dynamic series with most frames, if one has at least three."""
    candidates = [one for one in study.of_role("dynamic") if one.times_s is not None and len(one.times_s) >= 3]
    if not candidates:
        return None
    best = max(candidates, key=lambda one: len(one.values))
    if len(candidates) > 1:
        account.note("chosen", "dynamic series", f"the one with {len(best.values)} frames, of {len(candidates)}")
    return best


def without_motion(series: Series, account: Account) -> Series:
    """The dynamic series with motion between its frames corrected as the settings ask; the account lists the frames."""
    if account.settings.motion == "off":
        return series
    from .motion import correct_motion, frames_in_words

    found = correct_motion(
        series.values,
        np.asarray(series.times_s, dtype=np.float64),
        series.grid,
        account.settings.motion,
        progress=account.progress,
    )
    length = np.linalg.norm(found.displacements, axis=1)
    account.summary["motion"] = {
        "kind": account.settings.motion,
        "displacement_mm": [round(float(one), 3) for one in length],
        "corrected_frames": [int(frame) + 1 for frame in np.flatnonzero(found.corrected)],
        "deformed_frames": [frame + 1 for frame in sorted(found.bends)],
        "frames_over_a_pixel": [frame + 1 for frame in found.moved_frames],
    }
    account.note(
        "chosen",
        "dynamic series",
        f"motion corrected ({account.settings.motion}) in {int(found.corrected.sum())} of {len(length)} frames; "
        f"displacement {np.median(length):.2f} mm in the median, {length.max():.2f} mm at most",
    )
    if account.settings.motion == "deformable":
        account.note(
            "chosen",
            "dynamic series",
            f"{len(found.bends)} frames were deformed; in the others a deformation did not bring nearer the voxels "
            "that it was not found from",
        )
    if found.moved_frames:
        account.note(
            "doubted",
            "dynamic series",
            f"frames {frames_in_words(found.moved_frames)} had moved by more than a pixel",
        )
    return replace(series, values=found.values)


def mark_motion(maps: Mapping[str, ParametricMap], account: Account) -> dict[str, ParametricMap]:
    """The maps, every voxel of them marked where a frame had moved by more than a pixel."""
    if not account.summary.get("motion", {}).get("frames_over_a_pixel"):
        return dict(maps)
    mark = bit("motion")
    return {
        name: replace(
            one, quality=np.asarray((one.quality if one.quality is not None else 0) | np.full(one.grid.shape, mark))
        )
        for name, one in maps.items()
    }


def prepare(series: Series, tumour: LabelImage | None, regions: Sequence[LabelImage], account: Account) -> Dynamic:
    """Region, arrival and baseline of a dynamic series.

    regions  label images that bound where a tumour may lie, used where none is drawn
    """
    region = _region(series, tumour, regions, account)
    baseline = _baseline(series, region, account)
    frames = baseline_frames(baseline, all_points=account.settings.all_baseline)
    before = np.asarray(series.values[frames], dtype=np.float64).mean(axis=0)
    return Dynamic(
        series,
        np.asarray(series.times_s, dtype=np.float64),
        baseline,
        before,
        with_signal(before, tumour, series.grid),
        region,
    )


def _region(series: Series, tumour: LabelImage | None, regions: Sequence[LabelImage], account: Account) -> Mask | None:
    if tumour is not None:
        region = inside(tumour, series.grid, "tumour")
    elif regions:
        region = inside(regions[0], series.grid)
        account.note(
            "found",
            "segmentation",
            "region "
            + ", ".join(sorted(set(regions[0].names.values())))
            + f" of {region.sum() * series.grid.voxel_volume / 1000:.2f} mL; it is not called a tumour",
        )
    else:
        return None
    if not region.any():
        account.note("doubted", "segmentation", "the segmentation lies outside the dynamic series")
        return None
    return region


def _baseline(series: Series, region: Mask | None, account: Account) -> int:
    """Number of frames before arrival: stated, one of a short series, else found in the mean curve."""
    count, stated = len(series.values), account.settings.baseline
    if stated is not None:
        if not 1 <= stated < count:
            raise ConfigurationRejected(
                f"{stated} baseline frames of {count}",
                "at least one before and one after arrival",
                "correct the number",
            )
        return stated
    if count < LEAST_FRAMES.value:
        account.note("inferred", "dynamic series", f"{count} frames: the first is taken as the one before contrast")
        return 1
    arrival = bolus_arrival(_mean_signal(series, region))
    account.note("found", "dynamic series", f"contrast arrives at frame {arrival + 1} of {count}")
    return arrival


def _mean_signal(series: Series, region: Mask | None) -> Values:
    """(frames,) mean signal of the region, or of the tenth of all voxels whose signal rises most."""
    if region is None:
        rise = np.asarray(series.values.max(axis=0) - series.values[0], dtype=np.float64)
        region = rise >= np.percentile(rise, 90)
    return np.asarray(np.nanmean(series.values[:, region].astype(np.float64), axis=1))


def semiquantitative(
    dynamic: Dynamic, supplied: Mapping[str, ParametricMap], account: Account
) -> dict[str, ParametricMap]:
    """PE and SER, compared with the scanner's own maps where it stored them."""
    three = phases(dynamic.series.values, dynamic.times_s, dynamic.baseline)
    background = _background(three, dynamic, supplied.get("pe"), account)
    pe, pe_flags = percent_enhancement(three.before, three.early, background)
    ser, ser_flags = enhancement_ratio(three.before, three.early, three.late, background)
    last, early, late = (float(dynamic.times_s[frame]) for frame in three.frames)
    account.summary["enhancement"] = {"background": background, "early_s": early - last, "late_s": late - last}
    account.note(
        "chosen",
        "enhancement",
        f"early image {early - last:.0f} s and late image {late - last:.0f} s after "
        f"the last one before contrast; signal before contrast at least {background:.4g}",
    )
    maps = {
        "pe": map_of(dynamic.series, "pe", pe, pe_flags, "100 (S1 - S0) / S0"),
        "ser": map_of(dynamic.series, "ser", ser, ser_flags, "(S1 - S0) / (S2 - S0)"),
    }
    _compare("pe", scanner_percent_enhancement(three.before, three.early, background), maps, supplied, account)
    _compare("ser", ser, maps, supplied, account)
    return maps


def _background(three: Phases, dynamic: Dynamic, scanner: ParametricMap | None, account: Account) -> float:
    """The least signal before contrast: stated, the scanner's own, or a share of the region's or image's brightness."""
    if account.settings.background is not None:
        return account.settings.background
    if scanner is not None and scanner.grid.same_as(dynamic.series.grid):
        computed = np.nan_to_num(scanner.values) > 0
        if computed.any():
            lowest = float(three.before[computed].min())
            account.note(
                "inferred",
                "enhancement",
                f"the scanner's PE map starts at a signal of {lowest:.4g} before contrast: the same threshold is used",
            )
            return lowest
    if dynamic.region is not None and len(dynamic.times_s) < LEAST_FRAMES.value:
        return background_signal(three.before, dynamic.region)
    return float(FOREGROUND.value * np.percentile(three.before, 99))


def _compare(
    name: str, ours: Values, maps: Mapping[str, ParametricMap], supplied: Mapping[str, ParametricMap], account: Account
) -> None:
    """Note the largest difference to the scanner's own map, on the voxels where it stored a value."""
    theirs = supplied.get(name)
    if theirs is None or not theirs.grid.same_as(maps[name].grid):
        return
    stored = np.nan_to_num(theirs.values) != 0
    if not stored.any():
        return
    top = float(np.nanmax(theirs.values))
    gap = np.abs(np.minimum(ours, top) - theirs.values)[stored]
    account.summary["enhancement"][f"largest_difference_to_scanner_{name}"] = float(np.nanmax(gap))
    account.note(
        "found",
        "enhancement",
        f"{name.upper()} computed from the images differs from the scanner's map by "
        f"at most {np.nanmax(gap):.3g} on {int(stored.sum())} voxels (its values end at {top:g})",
    )


def enhancing_tumour(maps: Mapping[str, ParametricMap], region: Mask, account: Account) -> LabelImage:
    """The tumour that nobody drew: the enhancing volume of the region, by the thresholds of the settings."""
    chosen = account.settings
    found = segment_enhancement(
        maps["pe"],
        maps["ser"],
        region,
        pe_threshold=chosen.pe_threshold,
        ser_threshold=chosen.ser_threshold,
        neighbours=chosen.neighbours,
        vessel_radius=chosen.vessel_radius,
    )
    account.findings += found.findings
    account.summary["enhancing_volume_ml"] = found.volumes
    return found.labels
