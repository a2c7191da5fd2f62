"""Pace: how far the tissue changes in one macro step, and steps that are made again at half length where it is too far.

Whatever the pace, the planned ends are met: the days of treatment, of operations and of the horizon. The loop is
explicit, so its error is of first order in the length of a step; the change of one step says how large that is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core.quantity import Parameter
from .coupling import Homogenised
from .forecast import MacroStep
from .state import TissueState

LARGEST_GROWTH = Parameter(
    0.03, "1", "largest |change of ln g| of an element in one macro step",
    source="project specification, tissue §7.1: 0.02 to 0.03", range=(0.02, 0.03),
)  # fmt: skip
LARGEST_CHANGE = Parameter(
    0.1, "1", "largest change of an element's volume fraction of living cells in one macro step",
    source="project specification, tissue §7.1",
)  # fmt: skip
SHORTEST_HOURS = Parameter(
    24.0, "hour", "a macro step is not halved to less",
    source="ASSUMED: a cell cycle; below it the answer of a small colony is chance more than trend",
    range=(6.0, 48.0), assumed=True,
)  # fmt: skip

PARAMETERS = (LARGEST_GROWTH, LARGEST_CHANGE, SHORTEST_HOURS)


@dataclass(frozen=True)
class Change:
    """The largest changes of an element in one macro step, in absolute value.

    growth  of ln g
    living  of the volume fraction of living cells
    """

    growth: float
    living: float

    @classmethod
    def between(cls, before: TissueState, answer: Homogenised) -> Change:
        """Of the tissue before and the cells' answer, mechanics not yet solved."""
        living = np.abs(answer.state.cellularity - before.cellularity).max(initial=0.0)
        return cls(float(np.abs(np.log(answer.ratio)).max(initial=0.0) / 3.0), float(living))

    @property
    def strain(self) -> float:
        """The larger of the two over its limit: a step beyond 1 is too long."""
        return max(self.growth / LARGEST_GROWTH.value, self.living / LARGEST_CHANGE.value)

    def content(self, tries: int) -> dict[str, Any]:
        """What a macro step tells of its pace."""
        return {
            "largest_ln_g": self.growth,
            "largest_living_change": self.living,
            "over_limit": self.strain,
            "tries": tries,
        }


def hours_between(day: float, end: float) -> int:
    """Whole hours of the cells."""
    return round(24 * (end - day))


def shorter(day: float, end: float, change: Change) -> float | None:
    """Half way to the end, in whole hours, if the step changed too much and may be halved; else None."""
    half = hours_between(day, end) // 2
    return day + half / 24 if change.strain > 1.0 and half >= SHORTEST_HOURS.value else None


def next_end(day: float, end: float, made: Sequence[MacroStep]) -> float:
    """Where the next step ends, at the planned ``end`` at the latest.

    made  the steps since the planned end before: a step is as long as the last of them, or twice that if the tissue
          changed by less than half of what is allowed; the first tries the whole way
    """
    if not made:
        return end
    last = made[-1]
    hours = hours_between(last.start_day, last.end_day) * (2 if last.pace["over_limit"] < 0.5 else 1)
    return end if hours >= hours_between(day, end) else day + hours / 24
