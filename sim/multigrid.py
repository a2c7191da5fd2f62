"""Multigrid: one V-cycle of smoothed aggregation as a preconditioner [Vanek, Mandel, Brezina 1996, doi
10.1007/BF02238511], on the host and on a device.

PyAMG makes the levels on the host either way. The host smooths by symmetric sweeps of Gauss and Seidel; a device, on
which a sweep would be one unknown after the other, by Chebyshev's iteration, which is products and sums alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyamg.aggregation import smoothed_aggregation_solver
from scipy import sparse

from ..agents.engine import Arrays

Real = NDArray[np.float64]
Operator = Callable[[Real], Real]

SWEEPS = 3
"""Chebyshev steps before and after the coarser level, each with one product."""
SMOOTHED = 0.1
"""Chebyshev's steps damp what belongs to eigenvalues from this share of the largest up, the coarser level the rest
[Adams, Brezina, Hu, Tuminaro 2003, doi 10.1016/S0021-9991(03)00194-3]. ASSUMED: of 0.03, 0.1 and 0.25 it took the
fewest iterations on most of three grown octants of 5 000 to 63 000 unknowns."""


def hierarchy_of(matrix: sparse.bsr_matrix | sparse.csr_matrix, modes: Real | None = None) -> Any:
    """PyAMG's levels.

    matrix   symmetric positive definite; for displacements in 3 x 3 blocks
    modes    (unknowns, k) near-null space: rigid motions for displacements; None: the constant

    The prolongator's damping is taken row by row, because the global one starts from a random vector.
    """
    return smoothed_aggregation_solver(
        matrix,
        B=modes,
        strength=("symmetric", {"theta": 0.0}),
        improve_candidates=None,
        max_coarse=100,
        smooth=("jacobi", {"weighting": "local", "omega": 4.0 / 3.0}),
        coarse_solver="splu",
    )


def multigrid(matrix: sparse.bsr_matrix | sparse.csr_matrix, modes: Real | None = None) -> Operator:
    """A V-cycle on the host, of the levels that ``hierarchy_of`` makes."""
    return on_host(hierarchy_of(matrix, modes))


def on_host(hierarchy: Any) -> Operator:
    """A V-cycle smoothed by Gauss and Seidel, its coarsest level factorised."""
    return lambda b: _cycle(hierarchy, b, 0)


def _cycle(hierarchy: Any, b: Real, depth: int) -> Real:
    level = hierarchy.levels[depth]
    if depth == len(hierarchy.levels) - 1:
        return np.asarray(hierarchy.coarse_solver(level.A, b)).reshape(b.shape)
    x = np.zeros_like(b)
    level.presmoother(level.A, x, b)
    x += level.P @ _cycle(hierarchy, level.R @ (b - level.A @ x), depth + 1)
    level.postsmoother(level.A, x, b)
    return x


# On a device -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Level:
    """One of the finer levels on a device: x -> A x, to the coarser level and back, and 1/D (see ``row_sums``)."""

    apply: Operator
    restrict: Operator
    prolong: Operator
    scale: Real


def on_device(hierarchy: Any, arrays: Arrays) -> Operator:
    """A V-cycle smoothed by Chebyshev's iteration, for vectors on a device.

    All levels are copied there once; the coarsest as the inverse that its factors on the host give.
    """
    levels = [
        Level(arrays.rows(one.A), arrays.rows(one.R), arrays.rows(one.P), arrays.put(_inverse(row_sums(one.A))))
        for one in hierarchy.levels[:-1]
    ]
    coarsest = arrays.rows(sparse.csr_matrix(coarsest_inverse(hierarchy)))

    def cycle(b: Real, depth: int = 0) -> Any:
        if depth == len(levels):
            return coarsest(b)
        level = levels[depth]
        x = chebyshev(level, b)
        x = x + level.prolong(cycle(level.restrict(b - level.apply(x)), depth + 1))
        return chebyshev(level, b, x)

    return cycle


def chebyshev(level: Level, b: Real, x: Real | None = None) -> Real:
    """SWEEPS steps of Chebyshev's iteration for A x = b from x (None: 0), preconditioned by D = ``row_sums``.

    On eigenvalues of D^-1 A from SMOOTHED to 1 [Saad 2003, doi 10.1137/1.9780898718003, algorithm 12.1].
    """
    centre, width = (1.0 + SMOOTHED) / 2.0, (1.0 - SMOOTHED) / 2.0
    r = b if x is None else b - level.apply(x)
    step = level.scale * r / centre
    x = step if x is None else x + step
    rho = width / centre
    for _ in range(SWEEPS - 1):
        rho, old = 1.0 / (2.0 * centre / width - rho), rho
        step = rho * old * step + (2.0 * rho / width) * (level.scale * (b - level.apply(x)))
        x = x + step
    return x


def row_sums(matrix: Any) -> Real:
    """D, the sums of absolute values in rows: D - A is diagonally dominant, so that no eigenvalue of D^-1 A exceeds 1
    and nothing has to be estimated [Baker, Falgout, Kolev, Yang 2011, doi 10.1137/100798806].
    """
    return np.asarray(abs(matrix.tocsr()).sum(axis=1)).ravel()


def coarsest_inverse(hierarchy: Any) -> Real:
    """(n, n) of the coarsest level, column by column from its factors; made symmetric, as MINRES and CG demand."""
    matrix = hierarchy.levels[-1].A
    columns = [np.asarray(hierarchy.coarse_solver(matrix, one)).ravel() for one in np.eye(matrix.shape[0])]
    inverse = np.stack(columns, axis=1)
    return np.asarray((inverse + inverse.T) / 2.0)


def _inverse(values: Real) -> Real:
    """1/value, 0 where it is 0: an unknown that nothing is said of."""
    return np.divide(1.0, values, out=np.zeros_like(values), where=values > 0.0)
