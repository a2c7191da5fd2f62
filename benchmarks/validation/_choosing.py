"""What choosing elements does to a forecast, in numbers: how far two tumours are apart, and where it comes from.

Pure functions of ``particularisation.py``. All distances are zero between a tumour and itself, and the same both ways;
the surface's but for the spacing of its samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, norm
from scipy.stats import t as student_t

from oncoscale.meshing.mesh import TumourMesh
from oncoscale.meshing.quality import surfaces_apart
from oncoscale.sim.state import TissueState

Real = NDArray[np.float64]

LEVEL = 0.9
"""Of every interval."""

MEASURES = {
    "volume": "100 |ln (V / V')|, about per cent",
    "surface": "mm between the tumour's surfaces, mean of both ways",
    "oxygen": "mmHg, root mean square over the tumour's volume",
    "composition": "percentage points of the whole tumour that are of another class (cells of six classes, matrix)",
    "composition_local": "the same within each element, mean over the tumour's volume",
}


@dataclass(frozen=True, eq=False)
class Ending:
    """The tumour at the end of a macro step.

    mesh         as it is deformed
    volumes      (tumour elements,) mm³
    oxygen       (tumour elements,) mmHg
    shares       (tumour elements, 7) volume fractions of the classes of cells, and of matrix
    missed       standard error of ln volume that leaving out representatives tells, all steps so far
    """

    mesh: TumourMesh
    volumes: Real
    oxygen: Real
    shares: Real
    missed: float

    @classmethod
    def of(cls, state: TissueState, missed: float) -> Ending:
        """Of a tissue."""
        inside, mesh = state.tumour, state.mesh
        solid = state.composition[inside]
        shares = np.column_stack([solid, 1.0 - solid.sum(axis=1)])
        return cls(mesh, mesh.volumes[inside], state.oxygen[inside], shares, missed)

    @property
    def log_volume(self) -> float:
        """ln mm³."""
        return float(np.log(self.volumes.sum()))

    @property
    def whole(self) -> Real:
        """(7,) shares of the whole tumour."""
        return np.asarray(np.average(self.shares, axis=0, weights=self.volumes))


def distances(one: Ending, other: Ending) -> dict[str, float]:
    """MEASURES between two tumours on one mesh."""
    volumes = (one.volumes + other.volumes) / 2.0
    elsewhere = 50.0 * np.abs(one.shares - other.shares).sum(axis=1)
    return {
        "volume": 100.0 * abs(one.log_volume - other.log_volume),
        "surface": surfaces_apart(one.mesh, other.mesh, "tumour")["mean"],
        "oxygen": float(np.sqrt(np.average((one.oxygen - other.oxygen) ** 2, weights=volumes))),
        "composition": float(50.0 * np.abs(one.whole - other.whole).sum()),
        "composition_local": float(np.average(elsewhere, weights=volumes)),
    }


def mean_and_interval(values: Sequence[float]) -> dict[str, float | None]:
    """Mean of independent values with Student's interval at LEVEL; no interval for one value."""
    count, mean = len(values), float(np.mean(values))
    if count < 2:
        return {"mean": mean, "low": None, "high": None}
    half = float(student_t.ppf(0.5 + LEVEL / 2, count - 1) * np.std(values, ddof=1) / np.sqrt(count))
    return {"mean": mean, "low": mean - half, "high": mean + half}


def floor_of(wholes: Sequence[Ending]) -> dict[str, dict[str, float]]:
    """What the seed alone does to each measure: mean, least and most over all pairs of seeds.

    Two seeds differ by the chance of both; what separates one seed from the truth is smaller by the square root of 2.
    """
    apart = [distances(one, other) for one, other in combinations(wholes, 2)]
    return {
        name: {
            "mean": float(np.mean([pair[name] for pair in apart])),
            "least": min(pair[name] for pair in apart),
            "most": max(pair[name] for pair in apart),
        }
        for name in (MEASURES if apart else ())
    }


def split(log_volume: float, same_seed: float, of_size: float, best: float) -> dict[str, float]:
    """Error of a forecast's ln volume in three parts; ``total`` is their sum.

    log_volume  of the forecast from chosen elements
    same_seed   of all elements, colonies of the same size, same seed
    of_size     of all elements, colonies of the same size, mean over seeds
    best        of all elements, the largest colonies run, mean over seeds
    """
    return {
        "choice": log_volume - same_seed,
        "seed": same_seed - of_size,
        "size": of_size - best,
        "total": log_volume - best,
    }


def root_mean_squares(parts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Root mean square of each part."""
    return {name: float(np.sqrt(np.mean([part[name] ** 2 for part in parts]))) for name in parts[0]}


def half_width(missed: float) -> float:
    """Of the interval of ln volume that the leave-one-out error makes; ``sim.interval`` without chance."""
    return float(norm.ppf(0.5 + LEVEL / 2) * missed)


def coverage(errors: Sequence[float], missed: Sequence[float]) -> dict[str, Any]:
    """Share of cases whose true error of ln volume lies in its interval; bounds after Clopper & Pearson 1934.

    The cases of one seed share their yardstick, so the bounds, which take them as independent, are too narrow.
    """
    covered = sum(abs(error) <= half_width(one) for error, one in zip(errors, missed, strict=True))
    bounds = binomtest(covered, len(errors)).proportion_ci(LEVEL, "exact")
    return {
        "cases": len(errors),
        "covered": covered,
        "share": covered / len(errors),
        "low": float(bounds.low),
        "high": float(bounds.high),
    }
