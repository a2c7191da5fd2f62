"""Which series of a study are used where several serve one purpose: those that the user names by number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..core.errors import ConfigurationRejected, StudyRejected
from .study import Finding, ImagingStudy, Series

FEWEST_FRAMES = 3
"""A dynamic series of fewer frames has no curve: it is no rival of one that has."""


def of_series(study: ImagingStudy, numbers: Sequence[int]) -> ImagingStudy:
    """The study without those series that share the role of one that the user names.

    numbers  places of series in the study, from 1, as ``oncoscale inspect`` lists them; () for none

    Raises ConfigurationRejected for a number that is not there; StudyRejected where dynamic series of equally many
    frames are left and nothing says which is meant.
    """
    absent = [number for number in numbers if not 1 <= number <= len(study.series)]
    if absent:
        raise ConfigurationRejected(
            f"--series {absent[0]}: the study has {len(study.series)} series",
            _listed(study.series, range(len(study.series))),
            "give a number that oncoscale inspect shows",
        )
    named = {number - 1 for number in numbers}
    roles = {study.series[place].role for place in named}
    kept = [place for place, one in enumerate(study.series) if place in named or one.role not in roles]
    _refuse_rivals(study.series, kept)
    if not named:
        return study
    words = ", ".join(str(place + 1) for place in sorted(named))
    dropped = len(study.series) - len(kept)
    finding = Finding("chosen", "series", f"{words}, as the user states; {dropped} others of their role are left out")
    return replace(study, series=tuple(study.series[place] for place in kept), findings=(*study.findings, finding))


def _refuse_rivals(series: Sequence[Series], kept: Sequence[int]) -> None:
    """Raise StudyRejected for several dynamic series of the most frames: any of them could be meant."""
    frames = {
        place: len(series[place].values)
        for place in kept
        if series[place].role == "dynamic" and len(series[place].values) >= FEWEST_FRAMES
    }
    rivals = [place for place, count in frames.items() if count == max(frames.values())]
    if len(rivals) > 1:
        raise StudyRejected(
            f"{len(rivals)} dynamic series of equally many frames: {_listed(series, rivals)}",
            "one dynamic series to quantify",
            f"say which with --series NUMBER (such as --series {rivals[0] + 1}), or take the others out of the folder",
        )


def _listed(series: Sequence[Series], places: Sequence[int]) -> str:
    """Number, role, size and frames of series; never their descriptions, which may name a patient."""
    return "; ".join(f"{place + 1}: {_words(series[place])}" for place in places) or "no series"


def _words(one: Series) -> str:
    size = " × ".join(map(str, one.grid.shape))
    if one.times_s is None or not len(one.times_s):
        return f"{one.role}, {size}"
    return f"{one.role}, {size}, {len(one.times_s)} frames over {one.times_s[-1]:.0f} s"
