"""The systematic part of the error of a region: what all its voxels share, which no number of voxels averages away.

T1 before contrast, relaxivity, haematocrit, flip angle, height and arrival of the input function are known with a width
only. The fit is repeated with values drawn from these widths, the same for every voxel of the region, and the
region's median is taken for each draw: the spread of these medians is the systematic part. It is also found for each
source alone. Draws are stratified (a Latin hypercube [McKay, Beckman and Conover 1979, doi 10.2307/1268522]) and named,
so that they depend on the seed alone. The random part, from the noise of the voxels, is stated apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, truncnorm

from ..core.chance import normal, uniform
from ..core.errors import ConfigurationRejected
from ..core.quantity import Parameter

Values = NDArray[np.float64]

T10_WIDTH = Parameter(
    0.10,
    "1",
    "relative standard deviation of T1 before contrast, beyond what the flip angle explains",
    "Bane et al. 2018, doi 10.1002/mrm.26903: between scanners 11 % by flip angles and 8 % by inversion recovery at "
    "1.5 T, 23 % and 5 % at 3 T",
    range=(0.05, 0.23),
)
RELAXIVITY_WIDTH = Parameter(
    0.10,
    "1",
    "relative standard deviation of the relaxivity of a known agent in tissue",
    "Szomolanyi et al. 2019, doi 10.1097/RLI.0000000000000577: in plasma 2 to 12 % (sd), in blood up to 30 % below it "
    "at 3 T",
    range=(0.03, 0.30),
)
HAEMATOCRIT_WIDTH = Parameter(
    0.04,
    "1",
    "standard deviation of the haematocrit of large vessels",
    "Raucci et al. 2017, J Cardiovasc Magn Reson 19: 0.030 among 114 children and young adults; assumed larger under "
    "chemotherapy",
    range=(0.01, 0.08),
    assumed=True,
)
B1_WIDTH = Parameter(
    0.10,
    "1",
    "relative standard deviation of the flip angle where no B1 map corrects it",
    "breast at 3 T, PubMed 23401582 (2013): mean B1 14 % below and 3 % above the requested one in the two breasts; 9 % "
    "below and 5 % above at 1.5 T",
    range=(0.02, 0.20),
)
B1_MAPPED_WIDTH = Parameter(
    0.03,
    "1",
    "relative standard deviation of the flip angle that a B1 map corrected, at most",
    "chosen: what remains of the error of a map of B1",
    range=(0.01, 0.05),
    assumed=True,
)
AIF_WIDTH = Parameter(
    0.15,
    "1",
    "relative standard deviation of the height of the input function",
    "Kim 2018, Magn Reson Imaging 45:66: a population's curve misses those of patients by 0.88 mmol/L (root mean "
    "square); Ahearn et al. 2004, Phys Med Biol 49:2041: Ktrans errs by up to 28 % from normally varying kidneys alone",
    range=(0.05, 0.30),
)
DELAY_WIDTH = Parameter(
    1.0,
    "s",
    "standard deviation of the arrival of the input function",
    "chosen: a fifth of a usual frame interval of 5 s",
    range=(0.2, 5.0),
    assumed=True,
)
BLOOD_T1_WIDTH = Parameter(
    0.05,
    "1",
    "relative standard deviation of T1 of blood, which scales an input function measured in the images",
    "Sharma et al. 2006, doi 10.1002/jmri.20504: 1.58 ± 0.13 s at 1.5 T and 1.66 ± 0.06 s at 3 T in ten volunteers",
    range=(0.02, 0.10),
)
HAEMATOCRIT_LIMITS = (0.10, 0.65)
"""ASSUMED: no living patient's haematocrit lies outside; the normal distribution is cut there."""
FEWEST_DRAWS = 50
"""Project specification, imaging §7."""
MOST_VOXELS = 2000
"""Voxels of a region that are fitted again for each draw: evenly spread over those that carry a value."""
_DOMAIN = "systematic"


@dataclass(frozen=True)
class Widths:
    """How well each shared quantity is known: one standard deviation, 0 for what is known exactly.

    t10, relaxivity, b1, aif, blood_t1   relative (of the logarithm)
    haematocrit                          a fraction; delay_s in s
    """

    t10: float = T10_WIDTH.value
    relaxivity: float = RELAXIVITY_WIDTH.value
    haematocrit: float = HAEMATOCRIT_WIDTH.value
    b1: float = B1_WIDTH.value
    aif: float = AIF_WIDTH.value
    delay_s: float = DELAY_WIDTH.value
    blood_t1: float = BLOOD_T1_WIDTH.value

    def __post_init__(self) -> None:
        wrong = {name: value for name, value in vars(self).items() if not 0.0 <= value < np.inf}
        if wrong:
            raise ConfigurationRejected(
                "widths of " + ", ".join(f"{name} {value}" for name, value in wrong.items()),
                "standard deviations of 0 or more",
                "correct them (0 means known exactly)",
            )

    def only(self, source: str) -> Widths:
        """The widths with every other source known exactly."""
        return Widths(**{name: value if name == source else 0.0 for name, value in vars(self).items()})


SOURCES: tuple[str, ...] = tuple(field.name for field in fields(Widths))
WIDTHS: Mapping[str, Parameter] = dict(
    zip(
        SOURCES,
        (T10_WIDTH, RELAXIVITY_WIDTH, HAEMATOCRIT_WIDTH, B1_WIDTH, AIF_WIDTH, DELAY_WIDTH, BLOOD_T1_WIDTH),
        strict=True,
    )
)
"""What each width means and where it is from."""
EXACT = Widths(**dict.fromkeys(SOURCES, 0.0))
"""Everything known exactly."""


@dataclass(frozen=True)
class Draw:
    """One set of shared quantities: factors on the nominal value; the haematocrit itself, and a shift in s."""

    t10: float
    relaxivity: float
    haematocrit: float
    b1: float
    aif: float
    delay_s: float
    blood_t1: float


def draws_of(widths: Widths, count: int, haematocrit: float, *, seed: int) -> tuple[Draw, ...]:
    """Shared quantities around nominal ones, stratified: every source takes each of its ``count`` quantiles once.

    haematocrit  the nominal one; the other quantities are factors or shifts
    """
    columns: dict[str, Values] = {}
    for name, width in vars(widths).items():
        share = _stratified(name, count, seed)
        if width == 0.0:
            columns[name] = np.full(count, {"haematocrit": haematocrit, "delay_s": 0.0}.get(name, 1.0))
        elif name == "haematocrit":
            low, high = ((limit - haematocrit) / width for limit in HAEMATOCRIT_LIMITS)
            columns[name] = np.asarray(truncnorm.ppf(share, low, high, loc=haematocrit, scale=width))
        elif name == "delay_s":
            columns[name] = np.asarray(width * norm.ppf(share))
        else:
            columns[name] = np.exp(width * norm.ppf(share))
    return tuple(Draw(**{name: float(column[row]) for name, column in columns.items()}) for row in range(count))


def _stratified(name: str, count: int, seed: int) -> Values:
    """(count,) numbers in (0, 1), one in each of count equal parts, in an order of chance."""
    entities = np.arange(count)
    order = np.argsort(np.argsort(uniform(seed, _DOMAIN, f"{name}.order", entities), kind="stable"), kind="stable")
    return np.asarray((order + uniform(seed, _DOMAIN, f"{name}.within", entities)) / count)


@dataclass(frozen=True)
class Spread:
    """The errors of one parameter's median in a region, in the parameter's unit.

    median         with every shared quantity at its nominal value
    systematic_sd  standard deviation of the medians over the draws; interval their 2.5 and 97.5 % points
    alone          standard deviation with one source unknown and all others known, by source
    share          of each source in the sum of these variances
    random_sd      standard deviation of the median from the noise of the voxels
    voxel_sd       median standard error of one voxel
    lost           largest share of voxels that a draw left without a value (saturated, for instance)
    """

    median: float
    systematic_sd: float
    interval: tuple[float, float]
    alone: Mapping[str, float]
    share: Mapping[str, float]
    random_sd: float
    voxel_sd: float
    lost: float


Fit = Callable[[Draw], Mapping[str, Values]]
"""The parameters of a region's voxels, each (voxels,), for one set of shared quantities."""


def spreads(
    fit: Fit,
    errors: Mapping[str, Values],
    valid: Mapping[str, NDArray[np.bool_]],
    widths: Widths,
    *,
    draws: int,
    haematocrit: float,
    seed: int,
    of: int,
    progress: Callable[[float], None] = lambda done: None,
) -> dict[str, Spread]:
    """The systematic and the random part of each parameter's median.

    errors   (voxels,) standard errors by parameter; valid (voxels,) True where the parameter counts
    of       voxels of the region, of which the fitted ones are a sample: noise averages out over all of them
    """
    unknown = [source for source in SOURCES if getattr(widths, source) > 0.0]
    sets = [widths, *(widths.only(source) for source in unknown)]
    middle = fit(draws_of(EXACT, 1, haematocrit, seed=seed)[0])
    total, done = len(sets) * draws, 0
    medians = {name: np.zeros((len(sets), draws)) for name in valid}
    lost = dict.fromkeys(valid, 0.0)
    for number, chosen in enumerate(sets if unknown else ()):
        for place, draw in enumerate(draws_of(chosen, draws, haematocrit, seed=seed)):
            found = fit(draw)
            for name, rows in valid.items():
                medians[name][number, place] = _median(found[name][rows])
                lost[name] = max(lost[name], float(np.mean(np.isnan(found[name][rows]))) if rows.any() else 0.0)
            done += 1
            progress(done / total)
    return {
        name: _spread(
            middle[name][rows], errors[name][rows], medians[name], unknown, lost[name], name=name, seed=seed, of=of
        )
        for name, rows in valid.items()
        if rows.any()
    }


def _spread(
    values: Values,
    errors: Values,
    medians: Values,
    unknown: Sequence[str],
    lost: float,
    *,
    name: str,
    seed: int,
    of: int,
) -> Spread:
    """medians (1 + sources, draws): over all sources together, then over each alone."""
    median = _median(values)
    if not unknown:
        medians = np.full_like(medians, median)
    sds = (medians - medians[:, :1]).std(axis=1, ddof=1)
    variances = {source: float(sds[1 + number]) ** 2 for number, source in enumerate(unknown)}
    whole = sum(variances.values())
    low, high = np.percentile(medians[0], (2.5, 97.5))
    return Spread(
        median,
        float(sds[0]),
        (float(low), float(high)),
        {source: float(np.sqrt(variance)) for source, variance in variances.items()},
        {source: variance / whole if whole > 0 else 0.0 for source, variance in variances.items()},
        random_error_of_median(values, errors, draws=medians.shape[1], seed=seed, name=name, of=of),
        _median(errors),
        lost,
    )


def random_error_of_median(values: Values, errors: Values, *, draws: int, seed: int, name: str, of: int) -> float:
    """Standard deviation of a region's median when each voxel moves by its own standard error, independently.

    of  voxels of the region: the sample's error falls with the square root of their number
    """
    kept = np.isfinite(values) & np.isfinite(errors)
    if not kept.any():
        return float("nan")
    entities = np.arange(int(kept.sum()))
    moved = [
        np.median(values[kept] + errors[kept] * normal(seed, _DOMAIN, f"noise.{name}", entities, step=step))
        for step in range(draws)
    ]
    return float(np.std(moved, ddof=1) * np.sqrt(len(values) / max(of, len(values))))


def _median(values: Values) -> float:
    """Median of the finite values, NaN if there is none."""
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if len(finite) else float("nan")


def sample_of(count: int, most: int = MOST_VOXELS) -> NDArray[np.intp]:
    """At most ``most`` of ``count`` places, evenly spread.

    >>> sample_of(5, 3).tolist()
    [0, 2, 4]
    """
    if count <= most:
        return np.arange(count)
    return np.unique(np.round(np.linspace(0, count - 1, most)).astype(np.intp))
