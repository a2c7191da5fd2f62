"""Quality flags of a map: one bit a reason, one table for all stages.

A map's ``quality`` array holds the flags of each voxel, 0 = good. A flagged voxel is never repaired: its
value is NaN, or stays and is marked, as the table's last column says. Limits are those of the project
specification, imaging §7, unless the constant that holds one names another source.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Flag:
    """One reason to doubt a voxel.

    name         as written in files and reports
    bit          position in the quality word
    meaning      when it is raised
    consequence  what happens to the value
    """

    name: str
    bit: int
    meaning: str
    consequence: str

    @property
    def mask(self) -> np.uint32:
        """The flag as a quality word."""
        return np.uint32(1 << self.bit)


FLAGS: tuple[Flag, ...] = (
    Flag("background", 0, "signal before contrast below the background threshold", "voxel NaN"),
    Flag("not-finite", 1, "an input value is NaN or infinite", "voxel NaN"),
    Flag("t1-linear-start", 2, "the linear start of the T1 fit lay outside (0, 1); a scan replaced it", "marked"),
    Flag("two-angles", 3, "T1 from two flip angles: exact, no residual to judge it by", "marked"),
    Flag("t10-range", 4, "T1 before contrast outside 0.2 to 4 s", "voxel NaN"),
    Flag("saturated", 5, "a signal above what the sequence can give at any concentration", "voxel NaN"),
    Flag("no-baseline", 6, "fewer than two baseline frames after the first is skipped", "marked"),
    Flag("low-cnr", 7, "peak enhancement below 3 standard deviations of the baseline", "marked"),
    Flag(
        "not-enhancing",
        8,
        "late mean concentration below 2 standard deviations of the noise",
        "Ktrans 0, ve NaN, left out of medians",
    ),
    Flag(
        "kep-at-limit", 9, "the rate constant ended on the border of its search", "ve NaN; at the upper one Ktrans too"
    ),
    Flag("ve-above-1", 10, "fitted ve above 1", "ve NaN, raw value in the raw map"),
    Flag("vp-above-1", 11, "fitted vp above 1", "vp NaN, raw value in the raw map"),
    Flag("vp-at-zero", 12, "fitted vp on its bound", "vp 0, one-sided"),
    Flag(
        "short-acquisition",
        13,
        "kep times duration below 1: ve is hardly identified",
        "ve NaN where its 95 % interval is wider than itself, raw value in the raw map",
    ),
    Flag("misfit", 14, "R squared below 0.8, or too few sign changes of the residual, in an enhancing voxel", "marked"),
    Flag("slow-sampling", 15, "frames too far apart for the model", "marked"),
    Flag("no-washout-base", 16, "late signal not above the signal before contrast: SER has no meaning", "SER NaN"),
    Flag("rician-floor", 17, "signal at the highest b below 3 noise standard deviations", "voxel NaN"),
    Flag("adc-range", 18, "ADC not positive, or above that of free water", "NaN if not positive, else marked"),
    Flag("necrotic", 19, "high ADC without enhancement: necrosis, not few living cells", "marked"),
    Flag("supplied", 20, "the map was supplied, not computed here", "marked"),
    Flag(
        "one-compartment",
        21,
        "a single exponential explains the curve: exchange between two compartments is not identified",
        "PS, Ktrans, ve and vp NaN, raw values in the raw maps",
    ),
    Flag(
        "flow-at-limit",
        22,
        "the fast rate constant ended on the upper border of its search",
        "Fp NaN, raw value in the raw map",
    ),
    Flag("motion", 23, "a frame of the series lies more than a pixel away from the others", "marked; frames listed"),
)

_BY_NAME = {flag.name: flag for flag in FLAGS}


def bit(name: str) -> np.uint32:
    """The quality word that holds only the flag ``name``.

    >>> int(bit("not-finite"))
    2
    """
    return _BY_NAME[name].mask


def names(word: int) -> tuple[str, ...]:
    """The names of the flags in one quality word.

    >>> names(3)
    ('background', 'not-finite')
    """
    return tuple(flag.name for flag in FLAGS if int(word) & int(flag.mask))


def fractions(quality: NDArray[np.uint32], region: NDArray[np.bool_]) -> dict[str, float]:
    """Fraction of the region's voxels that carry each flag; flags that no voxel carries are left out."""
    words = quality[region]
    if words.size == 0:
        return {}
    shares = {flag.name: float(np.mean((words & flag.mask) != 0)) for flag in FLAGS}
    return {name: share for name, share in shares.items() if share > 0}
