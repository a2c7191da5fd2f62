"""The T1 map before contrast: by flip angles, stated, or from a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.errors import ConfigurationRejected, ModelRefused
from .account import Account, QuantifySettings, Values, acquired, inside, map_of, with_signal
from .nifti import read_nifti
from .quality import bit
from .relaxation import fit_t1
from .resample import resample_values
from .study import Grid, ImagingStudy, LabelImage, ParametricMap, Series

_PLAUSIBLE_S = (0.05, 10.0)


def t1_map(
    study: ImagingStudy,
    grid: Grid | None,
    supplied: Mapping[str, ParametricMap],
    tumour: LabelImage | None,
    account: Account,
) -> ParametricMap | None:
    """T1 before contrast as the settings say; by flip angles if they say nothing and the study has them, else None.

    grid  where a stated constant is spread out, the grid of the dynamic series
    """
    wanted = account.settings.t1
    if wanted is None or wanted == "vfa":
        several = study.of_role("vfa")
        if several and angles_fitted(study, account.settings) is None:
            account.note(
                "doubted",
                "T1",
                "a series of several flip angles does not say its repetition time or angles: it is not used "
                "(state the repetition time: vfa-tr)",
            )
            return None
        if several:
            found = _by_angles(several[0], supplied.get("b1"), tumour, account)
            _compare(found, supplied.get("t1"), tumour, account)
            return found
        if wanted == "vfa":
            raise ModelRefused(
                "no series of several flip angles for T1", "two or more flip angles", "give T1 in seconds, or as a map"
            )
        return None
    seconds = _as_seconds(wanted)
    if seconds is None:
        return _from_file(Path(str(wanted)), account)
    return None if grid is None else _everywhere(seconds, grid, account)


def _as_seconds(wanted: str | float) -> float | None:
    """A stated T1 in s; None for text that is no number."""
    try:
        seconds = float(wanted)
    except ValueError:
        return None
    if not _PLAUSIBLE_S[0] <= seconds <= _PLAUSIBLE_S[1]:
        raise ConfigurationRejected(f"T1 of {wanted}", "seconds, 0.05 to 10", "give T1 in seconds, for example 1.2")
    return seconds


def _everywhere(seconds: float, grid: Grid, account: Account) -> ParametricMap:
    account.note("inferred", "T1", f"T1 before contrast is taken as {seconds:g} s everywhere, as stated")
    return ParametricMap(
        "t1",
        "s",
        grid,
        np.full(grid.shape, seconds),
        np.zeros(grid.shape, dtype=np.uint32),
        method="stated, the same everywhere",
    )


def _from_file(path: Path, account: Account) -> ParametricMap:
    if not path.is_file():
        raise ConfigurationRejected(
            f"T1 {path.name!r} is neither 'vfa', a number nor a file",
            "'vfa', seconds, or a NIfTI map in seconds",
            "correct the value",
        )
    grid, stored = read_nifti(path)
    t1 = np.where(np.asarray(stored) > 0, np.asarray(stored, dtype=np.float64), np.nan)
    if t1.ndim != 3 or not np.isfinite(t1).any() or not _PLAUSIBLE_S[0] <= np.nanmedian(t1) <= _PLAUSIBLE_S[1]:
        raise ConfigurationRejected(
            "a T1 map whose median is not between 0.05 and 10", "one volume in seconds", "convert the map to seconds"
        )
    account.note("chosen", "T1", "T1 before contrast is read from a file")
    return ParametricMap(
        "t1",
        "s",
        grid,
        t1,
        np.where(np.isfinite(t1), 0, bit("not-finite")).astype(np.uint32),
        method="supplied as a file",
    )


def _repetition_time(series: Series, account: Account) -> Any:
    """s, stated or from the series. Raises ModelRefused where neither tells it."""
    stated = account.settings.vfa_tr_s
    if stated is None:
        return acquired(series, "tr_s", "the repetition time")
    account.note("chosen", "T1", f"repetition time of the flip angles {1e3 * stated:.6g} ms, as stated")
    return stated


def angles_fitted(study: ImagingStudy, settings: QuantifySettings) -> Series | None:
    """The series of flip angles that T1 comes from, None if it is stated, supplied or read from a file."""
    several = study.of_role("vfa")
    if settings.t1 not in (None, "vfa") or not several:
        return None
    needed = {"fa_deg"} if settings.vfa_tr_s is not None else {"fa_deg", "tr_s"}
    return several[0] if settings.t1 == "vfa" or needed <= several[0].acquisition.keys() else None


def t1_by_angle(
    series: Series,
    grid: Grid,
    places: tuple[NDArray[np.intp], ...],
    b1: ParametricMap | None,
    account: Account,
) -> Callable[[float], Values]:
    """By what T1 is multiplied at voxels of a grid when every flip angle is truly larger by a factor.

    The fit is repeated at the nearest voxels of the series. Where it gives nothing (outside the series, no signal) the
    limit of small angles and short repetition times stands in: the signal depends on angle²/R1 there, so T1 falls with
    the square of the factor.
    """
    index = np.rint(series.grid.index(grid.world(np.stack(places, axis=1)))).astype(np.intp)
    within = np.asarray(((index >= 0) & (index < np.array(series.grid.shape))).all(axis=1))
    i, j, k = index[within].T
    signals = np.asarray(series.values[:, i, j, k].T, dtype=np.float64)
    ratio = 1.0 if b1 is None else resample_values(b1.values, b1.grid, series.grid)[i, j, k]
    angles = np.asarray(acquired(series, "fa_deg", "the flip angles"), dtype=float)
    stated = account.settings.vfa_tr_s
    repetition = stated if stated is not None else acquired(series, "tr_s", "the repetition time")

    def fitted(factor: float) -> Values:
        found = fit_t1(
            signals, angles, repetition, b1=ratio * factor, plausible_s=(0.0, np.inf), threads=account.settings.threads
        )
        return found.t1

    nominal = fitted(1.0)

    def times(factor: float) -> Values:
        out = np.full(len(within), factor**-2)
        here = fitted(factor) / nominal
        out[within] = np.where(np.isfinite(here), here, out[within])
        return out

    return times


def _compare(found: ParametricMap, theirs: ParametricMap | None, tumour: LabelImage | None, account: Account) -> None:
    """Note how far a T1 map that came with the study lies from the computed one, in the tumour if there is one."""
    if theirs is None or not theirs.grid.same_as(found.grid):
        return
    within = inside(tumour, found.grid, "tumour") if tumour is not None else np.ones(found.grid.shape, dtype=bool)
    within = within & np.isfinite(found.values) & np.isfinite(theirs.values) & (theirs.values > 0)
    if within.any():
        relative = found.values[within] / theirs.values[within] - 1.0
        account.summary["t1_over_supplied"] = float(np.median(relative)) + 1.0
        account.note(
            "found",
            "T1",
            f"the T1 map that came with the study differs by {np.median(relative):+.3%} (median) and "
            f"{np.median(np.abs(relative)):.3%} (median of the size) on {int(within.sum())} voxels",
        )


def _by_angles(series: Series, b1: ParametricMap | None, tumour: LabelImage | None, account: Account) -> ParametricMap:
    """The nonlinear variable-flip-angle fit where the series has signal."""
    angles = np.asarray(acquired(series, "fa_deg", "the flip angles"), dtype=float)
    signals = np.asarray(series.values, dtype=np.float64)
    tissue = with_signal(signals.mean(axis=0), tumour, series.grid)
    ratio: Any = 1.0
    if b1 is not None:
        ratio = resample_values(b1.values, b1.grid, series.grid)[tissue]
        account.note("found", "T1", "flip angles are corrected by the B1 map")
    fit = fit_t1(
        signals[:, tissue].T,
        angles,
        _repetition_time(series, account),
        b1=ratio,
        threads=account.settings.threads,
        progress=account.progress,
    )
    values, flags = np.full(series.grid.shape, np.nan), np.full(series.grid.shape, bit("background"))
    values[tissue], flags[tissue] = fit.t1, fit.flags
    listed = ", ".join(f"{angle:g}" for angle in angles)
    account.note(
        "chosen",
        "T1",
        f"nonlinear fit of {len(angles)} flip angles ({listed} degrees), "
        f"{np.isfinite(fit.t1).mean():.1%} of the voxels with signal within 0.2 to 4 s",
    )
    return map_of(
        series,
        "t1",
        values,
        flags,
        "variable flip angle, nonlinear least squares" + ("" if b1 is None else ", B1 corrected"),
    )
