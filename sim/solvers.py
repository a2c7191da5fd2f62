"""Newton's method with a line search, and the linear solves under it.

Every sum here is a NumPy reduction or a sparse product in a fixed order, never a threaded BLAS call, so results do
not depend on the number of threads. Iterative solvers are judged by the true residual, not by their own estimate.
Conjugate gradients and MINRES say what they do in NumPy's operators and in functions that the arrays of a device answer
themselves, so that they run there as they stand (``linear``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import splu

from ..core.errors import SolverFault
from .multigrid import multigrid

Real = NDArray[np.float64]
Operator = Callable[[Real], Real]
Norm = Callable[[Real], float]

DIRECT_UNKNOWNS = 2_000
"""Up to this many unknowns a sparse factorisation is as fast as an iteration."""


def dot(x: Real, y: Real) -> float:
    """Inner product by pairwise summation, the same bits for any number of threads."""
    return float((x * y).sum())


def euclidean(x: Real) -> float:
    """Euclidean norm by pairwise summation."""
    return float(np.sqrt(dot(x, x)))


# Newton ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Solved:
    """What Newton's method found.

    x           the solution
    residuals   norm before the first and after each iteration
    linear      iterations of the linear solver in each (0: factorised)
    """

    x: Real
    residuals: tuple[float, ...]
    linear: tuple[int, ...]

    @property
    def iterations(self) -> int:
        """Newton iterations."""
        return len(self.linear)


def newton(
    x: Real,
    residual: Operator,
    direction: Callable[[Real, Real, float], tuple[Real, int]],
    *,
    tolerance: float,
    norm: Norm = euclidean,
    admissible: Callable[[Real], bool] = lambda x: True,
    most: int = 15,
    halvings: int = 6,
) -> Solved:
    """Solve residual(x) = 0.

    direction    (x, residual, wanted reduction) -> step and the linear iterations it took
    tolerance    on the norm of the residual
    admissible   states that may be visited at all; the start must be one
    most         iterations
    halvings     of a step that does not lower the residual; 0: every step in full, for systems (concave and monotone)
                 that full steps are known to solve

    Raises SolverFault when no step lowers the residual or the iterations run out.
    """
    r = residual(x)
    residuals = [norm(r)]
    linear: list[int] = []
    while residuals[-1] > tolerance:
        if len(linear) == most:
            raise SolverFault(
                f"residual {residuals[-1]:.2e} after {most} Newton iterations",
                f"at most {tolerance:.0e}",
                "take smaller increments",
            )
        wanted = max(min(1e-3, residuals[-1]), 0.1 * tolerance / residuals[-1])
        step, count = direction(x, r, wanted)
        x, r = _search(x, step, residuals[-1], residual, norm, admissible, halvings)
        residuals.append(norm(r))
        linear.append(count)
    return Solved(x, tuple(residuals), tuple(linear))


def _search(
    x: Real,
    step: Real,
    before: float,
    residual: Operator,
    norm: Norm,
    admissible: Callable[[Real], bool],
    halvings: int,
) -> tuple[Real, Real]:
    """The longest of 1, 1/2, 1/4 ... steps that is admissible and lowers the residual."""
    for k in range(halvings + 1):
        trial = x + 0.5**k * step
        if np.isfinite(trial).all() and admissible(trial):
            r = residual(trial)
            if halvings == 0 or norm(r) <= (1.0 - 1e-4 * 0.5**k) * before:
                return trial, r
    raise SolverFault(
        f"no Newton step lowers the residual {before:.2e}", "a descent direction", "take smaller increments"
    )


# Symmetric positive definite systems -------------------------------------------------------------------------------


def conjugate_gradients(
    apply: Operator, b: Real, precondition: Operator, *, reduction: float, most: int = 500
) -> tuple[Real, int]:
    """Solve A x = b for symmetric positive definite A until |b - A x| <= reduction |b|.

    returns x and the iterations. Raises SolverFault when they run out.
    """
    x, r = np.zeros_like(b), b.copy()
    z = precondition(r)
    p, rz = z, dot(r, z)
    goal = reduction * euclidean(b)
    for count in range(most):
        if euclidean(r) <= goal:
            return x, count
        q = apply(p)
        alpha = rz / dot(p, q)
        x, r = x + alpha * p, r - alpha * q
        z = precondition(r)
        rz, old = dot(r, z), rz
        p = z + rz / old * p
    raise SolverFault(
        f"|r|/|b| = {euclidean(b - apply(x)) / euclidean(b):.1e} after {most} conjugate gradients",
        f"{reduction:.0e}",
        "look for elements of poor quality",
    )


def solve_scalar(matrix: sparse.csr_matrix, b: Real, *, reduction: float) -> tuple[Real, int]:
    """Solve a symmetric positive definite scalar system, directly when small, else with multigrid.

    returns the solution and the iterations (0: factorised)
    """
    if matrix.shape[0] <= DIRECT_UNKNOWNS:
        return factorise(matrix)(b), 0
    return conjugate_gradients(matrix.__matmul__, b, multigrid(matrix), reduction=reduction)


def stabilised_gradients(
    apply: Operator, b: Real, precondition: Operator, *, reduction: float, most: int = 500
) -> tuple[Real, int]:
    """Solve A x = b for a matrix without symmetry by BiCGSTAB [van der Vorst 1992, doi 10.1137/0913035].

    Until |b - A x| <= reduction |b|; returns x and the iterations. Raises SolverFault when they run out.
    """
    x, r = np.zeros_like(b), b.copy()
    shadow, p, v = b, np.zeros_like(b), np.zeros_like(b)
    rho = alpha = omega = 1.0
    goal, started = reduction * euclidean(b), 0
    for count in range(most):
        if euclidean(r) <= goal:
            r = b - apply(x)  # the recursion drifts away from the truth
            if euclidean(r) <= goal or count == started:
                return x, count
            shadow, p, v, started = r, np.zeros_like(b), np.zeros_like(b), count
            rho = alpha = omega = 1.0
        rho, old = dot(shadow, r), rho
        p = r + (rho / old) * (alpha / omega) * (p - omega * v)
        ahead = precondition(p)
        v = apply(ahead)
        alpha = rho / dot(shadow, v)
        half = r - alpha * v
        aside = precondition(half)
        t = apply(aside)
        square = dot(t, t)
        omega = dot(t, half) / square if square else 1.0
        x, r = x + alpha * ahead + omega * aside, half - omega * t
    raise SolverFault(
        f"|r|/|b| = {euclidean(b - apply(x)) / euclidean(b):.1e} after {most} stabilised gradients",
        f"{reduction:.0e}",
        "look for elements of poor quality, or take shorter steps",
    )


def factorise(matrix: sparse.spmatrix) -> Operator:
    """Solver by sparse LU of a matrix with a symmetric pattern, ordered by minimum degree.

    Raises SolverFault when the matrix is singular.
    """
    try:
        factors = splu(
            matrix.tocsc(), permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.01, options={"SymmetricMode": True}
        )
    except RuntimeError as error:
        raise SolverFault(
            f"a singular matrix of {matrix.shape[0]} unknowns",
            "one solution",
            "look for parts of the mesh that nothing holds or supplies",
        ) from error
    return lambda b: np.asarray(factors.solve(b))


# Saddle-point systems ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class SaddleMatrix:
    """The symmetric matrix [uu, pu^T; pu, pp], pp negative (semi)definite."""

    uu: sparse.bsr_matrix
    pu: sparse.bsr_matrix
    pp: sparse.csr_matrix

    def operator(self, rows: Callable[[Any], Operator] = lambda matrix: matrix.__matmul__) -> Operator:
        """x -> matrix x; ``rows`` makes the product with each block (default: SciPy's)."""
        n = self.uu.shape[0]
        uu, up, pu, pp = (rows(block) for block in (self.uu, self.pu.T.tocsr(), self.pu, self.pp))

        def apply(x: Real) -> Real:
            u, p = x[:n], x[n:]
            return np.concatenate([uu(u) + up(p), pu(u) + pp(p)])

        return apply

    def whole(self) -> sparse.csc_matrix:
        """One sparse matrix of all unknowns."""
        return sparse.bmat([[self.uu, self.pu.T], [self.pu, self.pp]], format="csc")


def minres(
    apply: Operator, b: Real, precondition: Operator, *, reduction: float, norm: Norm = euclidean, most: int = 400
) -> tuple[Real, int]:
    """Solve A x = b for symmetric A [Paige and Saunders 1975, doi 10.1137/0712047] until norm(b - A x) has fallen.

    reduction   of the true residual; the recursion's own estimate lives in the preconditioner's norm and is
                trusted only to say when to look

    returns x and the iterations. Raises SolverFault when they run out.
    """
    x, r, count = np.zeros_like(b), b, 0
    goal, promised = reduction * norm(b), 1.0
    while norm(r) > goal:
        if count >= most:
            raise SolverFault(
                f"residual {norm(r) / norm(b):.1e} of the start after {count} MINRES iterations",
                f"{reduction:.0e}",
                "look for elements of poor quality",
            )
        promised = 0.3 * goal / norm(r)
        correction, used = _minres_run(apply, r, precondition, promised, most - count)
        x, count = x + correction, count + used
        r = b - apply(x)
    return x, count


def _minres_run(apply: Operator, b: Real, precondition: Operator, reduction: float, most: int) -> tuple[Real, int]:
    """MINRES from zero until its own estimate has fallen by ``reduction``."""
    v_old, v, z = np.zeros_like(b), b, precondition(b)
    beta = float(np.sqrt(dot(v, z)))
    x, d_old, d = np.zeros_like(b), np.zeros_like(b), np.zeros_like(b)
    eta = start = beta
    beta_old, c_old, c, s_old, s = 1.0, 1.0, 1.0, 0.0, 0.0
    for count in range(1, most + 1):
        z = z / beta
        q = apply(z)
        alpha = dot(q, z)
        v_new = q - alpha / beta * v - (beta / beta_old * v_old if count > 1 else 0.0)
        z_new = precondition(v_new)
        beta_new = float(np.sqrt(max(dot(v_new, z_new), 0.0)))
        delta = c * alpha - c_old * s * beta
        rho2 = s * alpha + c_old * c * beta
        rho3 = s_old * beta
        rho1 = float(np.hypot(delta, beta_new))
        c_old, c, s_old, s = c, delta / rho1, s, beta_new / rho1
        d_old, d = d, (z - rho3 * d_old - rho2 * d) / rho1
        x = x + c * eta * d
        eta = -s * eta
        if abs(eta) <= reduction * start or beta_new == 0.0:
            break
        v_old, v, z, beta_old, beta = v, v_new, z_new, beta, beta_new
    return x, count
