"""Newton's method and the linear solvers under it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from oncoscale.core.errors import SolverFault
from oncoscale.sim.body import Body, Progress, rigid_motions
from oncoscale.sim.equilibrium import Increment
from oncoscale.sim.growth import grow
from oncoscale.sim.multigrid import multigrid
from oncoscale.sim.shapes import ball_octant
from oncoscale.sim.solvers import (
    conjugate_gradients,
    dot,
    euclidean,
    factorise,
    minres,
    newton,
    solve_scalar,
)
from oncoscale.sim.tissue import DEFAULT_MATERIALS, springs_of


def laplacian(side: int) -> sparse.csr_matrix:
    """Seven-point stencil on a cube of side³ points, with a little reaction."""
    line = sparse.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(side, side))
    one = sparse.eye_array(side)
    whole = (
        sparse.kron(sparse.kron(line, one), one)
        + sparse.kron(sparse.kron(one, line), one)
        + sparse.kron(sparse.kron(one, one), line)
    )
    return sparse.csr_matrix(whole + 1e-3 * sparse.eye_array(side**3))


def test_newton_converges_quadratically():
    """x² = 2: the number of right digits doubles with each iteration."""
    found = newton(np.array([2.0]), lambda x: x * x - 2.0, lambda x, r, wanted: (-r / (2.0 * x), 0), tolerance=1e-14)
    assert found.x == pytest.approx([np.sqrt(2.0)], rel=1e-14)
    assert found.iterations <= 6
    assert all(after < 0.3 * before**2 for before, after in zip(found.residuals, found.residuals[1:]) if after > 1e-12)


def test_newton_shortens_steps_that_overshoot():
    """arctan from 3 diverges with full steps and converges with the line search."""

    def residual(x):
        return np.arctan(x)

    def direction(x, r, wanted):
        return -r * (1.0 + x * x), 0

    assert newton(np.array([3.0]), residual, direction, tolerance=1e-12).x == pytest.approx([0.0], abs=1e-12)
    with pytest.raises(SolverFault):
        newton(np.array([3.0]), residual, direction, tolerance=1e-12, halvings=0, most=3)


def test_newton_says_so_when_there_is_no_solution():
    """x² = -1 has no real root: a typed error, not a wrong number."""
    with pytest.raises(SolverFault):
        newton(np.array([2.0]), lambda x: x * x + 1.0, lambda x, r, wanted: (-r / (2.0 * x), 0), tolerance=1e-10)


def test_newton_never_visits_a_state_that_is_not_admissible():
    """A step out of the admissible region is halved until it stays inside."""
    visited = []

    def residual(x):
        visited.append(float(x[0]))
        return np.log(x)

    newton(
        np.array([8.0]),
        residual,
        lambda x, r, wanted: (-r * x, 0),
        tolerance=1e-10,
        admissible=lambda x: bool(x[0] > 0.0),
    )
    assert min(visited) > 0.0


def test_conjugate_gradients_with_multigrid_do_not_depend_on_size():
    """Multigrid makes the iterations nearly independent of the mesh, and the true residual is what was asked for."""
    iterations = []
    for side in (10, 24):
        matrix = laplacian(side)
        b = np.sin(np.arange(matrix.shape[0]))
        x, count = conjugate_gradients(matrix.__matmul__, b, multigrid(matrix), reduction=1e-10)
        assert euclidean(b - matrix @ x) <= 1.01e-10 * euclidean(b)
        iterations.append(count)
    assert iterations[1] <= iterations[0] + 8


def test_scalar_solve_is_the_same_by_both_ways():
    """A small system is factorised, a large one iterated; both solve it."""
    for side in (8, 14):
        matrix = laplacian(side)
        b = np.cos(np.arange(matrix.shape[0]))
        x, count = solve_scalar(matrix, b, reduction=1e-11)
        assert (count == 0) == (side == 8)
        assert x == pytest.approx(factorise(matrix)(b), rel=1e-8, abs=1e-10)


def test_singular_matrix_is_refused():
    """A system with no unique solution is a typed error."""
    with pytest.raises(SolverFault, match="singular"):
        factorise(sparse.csc_matrix(np.zeros((3, 3))))


def test_minres_reaches_the_true_residual_and_agrees_with_factorisation():
    """On the growth system MINRES with multigrid blocks reaches the residual asked for, and the direct solution."""
    mesh = ball_octant((10.0, 30.0), (2, 4))
    body = Body.of(mesh, DEFAULT_MATERIALS, springs_of())
    state, stretch = body.at_rest(), np.where(mesh.region == 2, 1.02, 1.0)
    r, matrix = body.residual(state, stretch), body.tangent(state, stretch)
    x, count = minres(matrix.operator(), -r, body.preconditioner(state, stretch), reduction=1e-11, norm=body.norm)
    assert body.norm(matrix.operator()(x) + r) <= 1.01e-11 * body.norm(r)
    assert count < 80
    direct = factorise(matrix.whole())(-r)
    assert np.abs(x - direct).max() < 1e-8 * np.abs(direct).max()


def test_minres_says_so_when_iterations_run_out():
    """Too few iterations are a typed error that gives the residual reached."""
    matrix = laplacian(6)
    with pytest.raises(SolverFault, match="MINRES"):
        minres(matrix.__matmul__, np.ones(216), lambda r: r, reduction=1e-12, most=3)


def test_an_increment_that_fails_is_cut_and_the_same_equilibrium_is_reached(monkeypatch):
    """Where Newton gives up on large increments they are halved until it does not, and the end is the same."""
    mesh = ball_octant((10.0, 30.0), (1, 2))
    stretch = np.where(mesh.region == 2, 1.06, 1.0)
    whole = grow(mesh, stretch, DEFAULT_MATERIALS, springs=springs_of(), max_log_increment=0.1)
    settle, tried = Body.settle, []

    def only_small(
        self: Body, state: np.ndarray, growth: np.ndarray, tolerance: float, told: Progress
    ) -> tuple[np.ndarray, Increment]:
        from_rest = len(tried) < 2
        tried.append(float(growth.max()))
        if from_rest:
            raise SolverFault("no step", "a step", "take smaller increments")
        return settle(self, state, growth, tolerance, told)

    monkeypatch.setattr(Body, "settle", only_small)
    cut = grow(mesh, stretch, DEFAULT_MATERIALS, springs=springs_of(), max_log_increment=0.1)
    assert [increment.share for increment in cut.increments] == [0.25, 0.5, 0.75, 1.0]
    assert [increment.cuts for increment in cut.increments] == [("no step", "no step"), (), (), ()]
    assert tried[:3] == pytest.approx([1.06, 1.06**0.5, 1.06**0.25])
    assert all(increment.residuals[-1] <= 1e-4 for increment in cut.increments)
    assert np.abs(cut.displacement - whole.displacement).max() < 1e-8 * np.abs(whole.displacement).max()


def test_rigid_motions_cost_no_energy():
    """Translations and rotations are in the null space of linear elasticity: what multigrid is told of it."""
    mesh = ball_octant((10.0, 30.0), (2, 2))
    body = Body.of(mesh, DEFAULT_MATERIALS, springs_of())
    stiffness, _ = body.assembly.soft_tangent(*body.parts(body.at_rest()), np.ones(len(mesh.tetrahedra)))
    motions = rigid_motions(mesh.points)
    assert np.abs(stiffness @ motions).max() < 1e-10 * np.abs(stiffness.data).max() * np.abs(motions).max()
    assert np.linalg.matrix_rank(motions) == 6


def test_dot_is_the_inner_product():
    """The reproducible sum is the inner product to rounding."""
    x = np.linspace(-1.0, 2.0, 20_001)
    assert dot(x, x) == pytest.approx(float(np.dot(x, x)), rel=1e-13)
