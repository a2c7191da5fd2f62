"""Drug in plasma: what the body makes of doses, from its clearance, its volume and its half-lives.

After a bolus of one mg/m² the unbound concentration of a body of one or two compartments is a sum of exponentials,

    Cp(t) = unbound sum_i A_i exp(-k_i t),    sum A_i/k_i = 1/clearance,    sum A_i/k_i² = volume/clearance²,

k_i = ln 2/half-life_i: area under the curve and mean residence time, volume/clearance, are those of the body [Gibaldi
and Perrier 1982, Pharmacokinetics, 2nd edition]. Infusions are the same, drawn out; doses add. ASSUMED: a body does not
change from dose to dose, and drug bound to proteins does not leave the vessels.
Units: day, mg/L, mg/m² of body surface; rates 1/day.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..core.errors import ConfigurationRejected
from ..core.quantity import Parameter

Real = NDArray[np.float64]

MINUTES_PER_DAY = 1440.0


@dataclass(frozen=True)
class Disposition:
    """How a body gets rid of a drug.

    clearance   L/(min m²), of what is measured (total or unbound drug)
    half_lives  min: one, or the fast and the slow one
    volume      L/m² at steady state; read with two half-lives only
    unbound     share of what is measured that may leave the vessels

    Raises ConfigurationRejected for numbers that no body has: the mean residence time volume/clearance must lie between
    those of the two exponentials, half-life/ln 2.
    """

    clearance: float
    half_lives: tuple[float, ...]
    volume: float = 0.0
    unbound: float = 1.0

    def __post_init__(self) -> None:
        if min(self.clearance, *self.half_lives) <= 0.0 or not 0.0 < self.unbound <= 1.0:
            raise ConfigurationRejected(
                f"a clearance of {self.clearance:g} L/(min m²), half-lives of {self.half_lives} min, "
                f"{self.unbound:g} of it unbound",
                "clearance and half-lives above 0, a share above 0 and at most 1",
                "mend the drug's numbers",
            )
        if len(self.half_lives) == 2 and not 0.0 <= self._slow_share <= 1.0:
            low, high = (one / np.log(2.0) for one in sorted(self.half_lives))
            raise ConfigurationRejected(
                f"a mean residence time (volume over clearance) of {self.volume / self.clearance:.3g} min",
                f"between {low:.3g} and {high:.3g} min, those of the two half-lives",
                "take clearance, volume and half-lives from one study, or give one half-life",
            )

    @property
    def _slow_share(self) -> float:
        """Share of the area under the curve that the slow exponential holds."""
        fast, slow = (one / np.log(2.0) for one in sorted(self.half_lives))
        return float((self.volume / self.clearance - fast) / (slow - fast)) if slow > fast else -1.0

    @property
    def terms(self) -> tuple[tuple[float, float], ...]:
        """(amplitude mg/L per mg/m², rate 1/day) of each exponential, of unbound drug."""
        rates = [np.log(2.0) / one for one in sorted(self.half_lives)]
        shares = [1.0] if len(rates) == 1 else [1.0 - self._slow_share, self._slow_share]
        return tuple(
            (self.unbound * share * rate / self.clearance, rate * MINUTES_PER_DAY)
            for share, rate in zip(shares, rates, strict=True)
        )


@dataclass(frozen=True)
class Dose:
    """mg/m² given from ``day`` on over ``days`` (0: at once)."""

    day: float
    amount: float
    days: float = 0.0


@dataclass(frozen=True)
class Plasma:
    """The plasma curve of doses, unbound drug."""

    disposition: Disposition
    doses: Sequence[Dose]

    def at(self, day: ArrayLike) -> Real:
        """mg/L on each day; a bolus counts from its instant on."""
        return self._sum(day, lambda amplitude, rate, given, now: amplitude * now)

    def integral(self, day: ArrayLike) -> Real:
        """mg/L day: the area under the curve up to each day; what was given and is gone is rate x area."""
        return self._sum(day, lambda amplitude, rate, given, now: amplitude * (given - now) / rate)

    @property
    def edges(self) -> tuple[float, ...]:
        """Days on which the curve has a corner or a jump, ascending."""
        return tuple(sorted({edge for dose in self.doses for edge in (dose.day, dose.day + dose.days)}))

    def _sum(self, day: ArrayLike, term: Callable[[float, float, Real, Real], Real]) -> Real:
        """Over doses and exponentials, from amplitude, rate, the share of the dose given and what of it is there."""
        when = np.asarray(day, dtype=np.float64)
        total = np.zeros_like(when)
        for dose in self.doses:
            gone = when - dose.day
            begun = (gone >= 0.0).astype(np.float64)
            given = np.clip(gone / dose.days, 0.0, 1.0) if dose.days else begun
            for amplitude, rate in self.disposition.terms:
                total += dose.amount * term(amplitude, rate, given, begun * _remaining(gone, dose.days, rate))
        return total


def _remaining(gone: Real, days: float, rate: float) -> Real:
    """What of a dose is there ``gone`` days after its begin, if it was given over ``days`` and is lost at ``rate``."""
    gone = np.maximum(gone, 0.0)
    if not days:
        return np.asarray(np.exp(-rate * gone))
    flowing = -np.expm1(-rate * np.minimum(gone, days)) / (rate * days)
    return np.asarray(flowing * np.exp(-rate * np.maximum(gone - days, 0.0)))


_FROST = "Frost et al. 2003, Acta Paediatr 92:551-557, medians of 98 children; range: theirs"
_ELFERINK = "Elferink et al. 1987, Cancer Treat Rep 71:1231-1237, of adults; that children are alike is ASSUMED"
_KATO = "Kato et al. 2003, doi 10.1046/j.1442-200x.2003.01675.x, means of children; range: one standard deviation"
_WUERTHWEIN = "Wuerthwein et al., PAGE meeting, abstract 358: children, high dose"
_TASSO = "Tasso et al. 1992, doi 10.1007/BF00686313, of nine children"
_PENG = (
    "Peng et al. 1997, Eur J Cancer 33:1823-1828, means of free platinum in 21 children; range: one standard deviation"
)

VINCRISTINE = (
    Parameter(0.362, "l/min/m^2", "clearance of vincristine", _FROST, (0.134, 2.553)),
    Parameter(6.4, "min", "fast half-life of vincristine", _FROST, (0.8, 11.8)),
    Parameter(1014.0, "min", "slow half-life of vincristine", _FROST, (258.0, 2570.0)),
    Parameter(445.0, "l/m^2", "volume of distribution of vincristine", _FROST, (137.0, 1241.0)),
    Parameter(0.5, "1", "unbound share of vincristine in plasma", "ASSUMED: no source read", (0.2, 0.8), True),
)
CARBOPLATIN = (
    Parameter(
        0.118,
        "l/min/m^2",
        "clearance of unbound carboplatin",
        "Tonda et al. 1996, doi 10.1007/s002800050502, median of 21 children below 5 years; range: theirs",
        (0.066, 0.158),
    ),
    Parameter(23.0, "min", "fast half-life of unbound carboplatin", _ELFERINK, (15.0, 31.0), True),
    Parameter(120.0, "min", "slow half-life of unbound carboplatin", _ELFERINK, (109.0, 131.0), True),
    Parameter(10.0, "l/m^2", "volume of distribution of unbound carboplatin", _ELFERINK, (8.6, 11.4), True),
)
ETOPOSIDE = (
    Parameter(0.0211, "l/min/m^2", "clearance of etoposide", _KATO, (0.0103, 0.0319)),
    Parameter(16.8, "min", "fast half-life of etoposide", _WUERTHWEIN, (10.0, 30.0)),
    Parameter(216.0, "min", "slow half-life of etoposide", _KATO, (174.0, 258.0)),
    Parameter(6.3, "l/m^2", "volume of distribution of etoposide", _KATO, (2.9, 9.7)),
    Parameter(0.07, "1", "unbound share of etoposide in plasma", _WUERTHWEIN, (0.043, 0.119)),
)
CYCLOPHOSPHAMIDE = (
    Parameter(0.0357, "l/min/m^2", "clearance of cyclophosphamide", _TASSO, (0.012, 0.083)),
    Parameter(
        270.0,
        "min",
        "half-life of cyclophosphamide itself; what its active metabolite does is not followed",
        _TASSO + ": 2.15 to 8.15 h; the value between is ASSUMED",
        (129.0, 489.0),
        True,
    ),
    Parameter(0.8, "1", "unbound share of cyclophosphamide in plasma", "ASSUMED: no source read", (0.6, 1.0), True),
)
CISPLATIN = (
    Parameter(0.233, "l/min/m^2", "clearance of free platinum after cisplatin", _PENG, (0.1, 0.7)),
    Parameter(39.0, "min", "half-life of free platinum after cisplatin", _PENG, (30.0, 48.0)),
)

DISPOSITIONS: Mapping[str, Disposition] = {
    "vincristine": Disposition(
        VINCRISTINE[0].value,
        (VINCRISTINE[1].value, VINCRISTINE[2].value),
        VINCRISTINE[3].value,
        VINCRISTINE[4].value,
    ),
    "carboplatin": Disposition(
        CARBOPLATIN[0].value, (CARBOPLATIN[1].value, CARBOPLATIN[2].value), CARBOPLATIN[3].value
    ),
    "etoposide": Disposition(
        ETOPOSIDE[0].value, (ETOPOSIDE[1].value, ETOPOSIDE[2].value), ETOPOSIDE[3].value, ETOPOSIDE[4].value
    ),
    "cyclophosphamide": Disposition(
        CYCLOPHOSPHAMIDE[0].value, (CYCLOPHOSPHAMIDE[1].value,), unbound=CYCLOPHOSPHAMIDE[2].value
    ),
    "cisplatin": Disposition(CISPLATIN[0].value, (CISPLATIN[1].value,)),
}
"""Of children, by the name of the drug: the drugs of rapid COJEC."""

PARAMETERS = (*VINCRISTINE, *CARBOPLATIN, *ETOPOSIDE, *CYCLOPHOSPHAMIDE, *CISPLATIN)
