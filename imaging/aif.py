"""Arterial input functions: contrast agent in blood and in plasma, and the curves of populations.

Whole blood and plasma are two types, so the haematocrit divides exactly once: only ``BloodCurve.plasma``
divides, and every model takes a ``PlasmaCurve``. Forgetting the division scales Ktrans, ve and vp by
1/(1 - haematocrit). Times are seconds from the curve's own zero; a curve is linear between its samples,
zero before the first and constant after the last.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln

from ..core.errors import ConfigurationRejected, reason_of
from ..core.quantity import Parameter

Values = NDArray[np.float64]

HAEMATOCRIT = Parameter(
    0.42,
    "1",
    "volume fraction of red cells in large vessels",
    "general knowledge, adults 0.42 to 0.45; lower in children and under chemotherapy",
    range=(0.25, 0.50),
    assumed=True,
)
BLOOD_T1 = Parameter(
    1.44, "s", "T1 of arterial blood at 1.5 T", "QIBA digital reference object and OSIPI convention", range=(1.3, 1.8)
)
SAMPLING_STEP = Parameter(
    0.25,
    "s",
    "step at which a population curve is sampled",
    "chosen: the curvature of Parker's first peak then changes it by less than 0.1 %",
    range=(0.05, 0.5),
    assumed=True,
)


@dataclass(frozen=True, eq=False)
class _Curve:
    """Samples of a concentration curve.

    times_s        (samples,) s, increasing
    concentration  (samples,) mmol/L
    source         where the curve comes from
    """

    times_s: Values
    concentration: Values
    source: str = ""

    def __post_init__(self) -> None:
        if self.times_s.shape != self.concentration.shape or self.times_s.ndim != 1 or len(self.times_s) < 2:
            raise ConfigurationRejected(
                "an input function without at least two (time, concentration) pairs",
                "one concentration a time",
                "give a curve with at least two samples",
            )
        if not (np.isfinite(self.times_s).all() and np.isfinite(self.concentration).all()):
            raise ConfigurationRejected(
                "an input function with values that are not finite", "finite numbers", "remove or repair those samples"
            )
        if np.any(np.diff(self.times_s) <= 0):
            raise ConfigurationRejected(
                "the times of the input function do not increase",
                "strictly increasing times in seconds",
                "sort the samples, one a time",
            )

    def delayed(self, seconds: float) -> Self:
        """The same curve, ``seconds`` later."""
        return replace(self, times_s=self.times_s + seconds)

    def at(self, times_s: ArrayLike) -> Values:
        """(…,) mmol/L at any times in s: zero before the first sample, constant after the last."""
        return np.asarray(np.interp(np.asarray(times_s, dtype=float), self.times_s, self.concentration, left=0.0))


@dataclass(frozen=True, eq=False)
class PlasmaCurve(_Curve):
    """Contrast agent in plasma, mmol per litre of plasma: what the tissue models take."""


@dataclass(frozen=True, eq=False)
class BloodCurve(_Curve):
    """Contrast agent in whole blood, mmol per litre of blood."""

    def plasma(self, haematocrit: float) -> PlasmaCurve:
        """The curve in plasma, Cp = Cb / (1 - haematocrit)."""
        if not 0.0 <= haematocrit < 1.0:
            raise ConfigurationRejected(
                f"haematocrit {haematocrit}",
                "a fraction from 0 to below 1",
                "give the haematocrit as a fraction, for example 0.42",
            )
        return PlasmaCurve(self.times_s, self.concentration / (1.0 - haematocrit), self.source)


Curve = BloodCurve | PlasmaCurve


def in_plasma(curve: Curve, haematocrit: float) -> PlasmaCurve:
    """The plasma curve of either type; a plasma curve passes unchanged."""
    return curve.plasma(haematocrit) if isinstance(curve, BloodCurve) else curve


def parker(minutes: ArrayLike) -> Values:
    """Whole blood, mmol/L, at ``minutes`` after arrival: two Gaussians and a washing-out exponential.

    Parker et al. 2006, doi 10.1002/mrm.21066, eq. 1 and table 1. It starts at 0.0804, not at zero.
    """
    t = np.asarray(minutes, dtype=float)
    peaks = sum(
        area / (width * np.sqrt(2 * np.pi)) * np.exp(-((t - centre) ** 2) / (2 * width**2))
        for area, centre, width in ((0.809, 0.17046, 0.0563), (0.330, 0.365, 0.132))
    )
    washout = 1.050 * np.exp(-0.1685 * t) / (1.0 + np.exp(-38.078 * (t - 0.483)))
    return np.asarray(np.where(t >= 0, peaks + washout, 0.0))


def georgiou(minutes: ArrayLike) -> Values:
    """Whole blood, mmol/L, at ``minutes`` after arrival: three exponentials times recirculating gamma variates.

    Georgiou et al. 2018, doi 10.1002/mrm.27524, in the form of Horsfield et al. 2009, doi
    10.1088/0031-9155/54/9/023. The constants are a refit to the authors' own tabulated curve (project
    specification, imaging §4): the rounded table of the paper misses that curve by 0.08 mmol/L near the peak.
    """
    t = np.asarray(minutes, dtype=float)
    decay = (
        0.37430309 * np.exp(-0.11269008 * t)
        + 0.33118589 * np.exp(-1.17451197 * t)
        + 10.06087933 * np.exp(-16.01962719 * t)
    )
    alpha, beta, tau = 5.26696774, 0.03207892, 0.12855613
    passes = np.zeros_like(t)
    for j in range(int(np.ceil(max(float(np.max(t, initial=0.0)), 0.0) / tau)) + 1):
        since = t - j * tau
        late = since > 0
        power = (j + 1) * alpha + j
        passes[late] += np.exp(
            power * np.log(since[late]) - since[late] / beta - (power + 1) * np.log(beta) - gammaln(power + 1)
        )
    return np.asarray(np.where(t > 0, decay * passes, 0.0))


def preclinical(minutes: ArrayLike) -> Values:
    """Whole blood of a rodent, mmol/L, at ``minutes`` after arrival: a ramp of 7 s, then two exponentials.

    McGrath et al. 2009, model B, doi 10.1002/mrm.21959 (constants there per second).
    """
    t = np.asarray(minutes, dtype=float) * 60.0
    decay = 3.4 * np.exp(-0.045 * (t - 7.0)) + 1.81 * np.exp(-0.0015 * (t - 7.0))
    return np.asarray(np.where(t < 0, 0.0, np.where(t <= 7.0, (3.4 + 1.81) * t / 7.0, decay)))


def weinmann(minutes: ArrayLike) -> Values:
    """Plasma, mmol/L, at ``minutes`` after a dose of 0.1 mmol/kg: two exponentials, no first pass.

    Tofts and Kermode 1991, doi 10.1002/mrm.1910170208, with the plasma data of Weinmann et al. 1984.
    """
    t = np.asarray(minutes, dtype=float)
    return np.asarray(np.where(t >= 0, 0.1 * (3.99 * np.exp(-0.144 * t) + 4.78 * np.exp(-0.0111 * t)), 0.0))


@dataclass(frozen=True)
class PopulationCurve:
    """The curve of a population, as a function of minutes since arrival.

    returns  blood or plasma
    """

    function: Callable[[ArrayLike], Values]
    returns: Literal["blood", "plasma"]
    source: str


POPULATION: dict[str, PopulationCurve] = {
    "parker": PopulationCurve(parker, "blood", "Parker et al. 2006, doi 10.1002/mrm.21066"),
    "georgiou": PopulationCurve(georgiou, "blood", "Georgiou et al. 2018, doi 10.1002/mrm.27524"),
    "weinmann": PopulationCurve(weinmann, "plasma", "Tofts and Kermode 1991, doi 10.1002/mrm.1910170208"),
    "preclinical": PopulationCurve(preclinical, "blood", "McGrath et al. 2009, doi 10.1002/mrm.21959"),
}


def population_curve(name: str, duration_s: float, *, step_s: float = SAMPLING_STEP.value) -> Curve:
    """The population curve ``name`` from its arrival (time 0) to ``duration_s``, sampled every ``step_s``.

    Raises ConfigurationRejected for a name that is not in the table.
    """
    if name not in POPULATION:
        raise ConfigurationRejected(
            f"input function {name!r}",
            "one of " + ", ".join(POPULATION) + ", or a csv file",
            "choose a name from the list, or give the path of a csv file",
        )
    entry = POPULATION[name]
    times = np.arange(int(np.ceil(max(duration_s, step_s) / step_s)) + 1, dtype=np.float64) * step_s
    kind = BloodCurve if entry.returns == "blood" else PlasmaCurve
    return kind(times, entry.function(times / 60.0), entry.source)


_COLUMNS: dict[str, type[BloodCurve] | type[PlasmaCurve]] = {
    "blood": BloodCurve,
    "cb": BloodCurve,
    "plasma": PlasmaCurve,
    "cp": PlasmaCurve,
    "cp_aif": PlasmaCurve,
}


def read_curve(path: Path | str) -> Curve:
    """An input function from a csv file with the columns ``t`` (s) and either ``blood`` or ``plasma`` (mmol/L).

    The name of the column says whether the haematocrit still has to divide; ``cp`` and ``cp_aif`` are plasma, ``cb``
    is blood. Raises ConfigurationRejected.
    """
    path = Path(path)
    expected = "a csv file with the columns t (s) and either blood or plasma (mmol/L)"
    try:
        with path.open(newline="", encoding="utf-8-sig") as handle:
            rows = list(csv.DictReader(handle))
        column = next((name for name in _COLUMNS if rows and name in rows[0]), "plasma")
        times = np.array([float(row["t"]) for row in rows])
        values = np.array([float(row[column]) for row in rows])
    except (OSError, KeyError, TypeError, ValueError, UnicodeDecodeError) as error:
        raise ConfigurationRejected(
            f"input function {path.name!r} cannot be read ({reason_of(error)})",
            expected,
            "write the columns with these names",
        ) from error
    return _COLUMNS[column](times, values, f"file {path.name}")


def input_curve(name_or_path: str, duration_s: float) -> Curve:
    """The population curve of that name, or the curve of that csv file."""
    if name_or_path == "measured":
        raise ConfigurationRejected(
            "input function 'measured'",
            "one of " + ", ".join(POPULATION) + ", or a csv file",
            "export the artery's curve to a csv file with the columns t and blood",
        )
    if name_or_path.lower().endswith(".csv"):
        return read_curve(name_or_path)
    return population_curve(name_or_path, duration_s)
