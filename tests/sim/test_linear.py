"""Linear systems on a device, without one: the same code on arrays that refuse to become NumPy's, and on the host."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from oncoscale.agents.engine import ArraysLost, HostArrays
from oncoscale.core.errors import SolverFault
from oncoscale.sim.body import Body
from oncoscale.sim.growth import grow
from oncoscale.sim.linear import Linear
from oncoscale.sim.multigrid import coarsest_inverse, hierarchy_of, multigrid, on_device, row_sums
from oncoscale.sim.sensitivity import constant_rate
from oncoscale.sim.settings import ForecastSettings
from oncoscale.sim.shapes import ball_octant
from oncoscale.sim.simulation import Plan, simulate
from oncoscale.sim.solvers import conjugate_gradients, euclidean, factorise
from oncoscale.sim.tissue import DEFAULT_MATERIALS, Springs, springs_of
from oncoscale.sim.tumour_type import tumour_type

SOFT = {name: replace(material, poisson=0.4999) for name, material in DEFAULT_MATERIALS.items()}


class Foreign(np.lib.mixins.NDArrayOperatorsMixin):
    """An array as CuPy's answers NumPy: operators and functions yes, ``ufunc.reduce``, NumPy's arrays and becoming one
    no.
    """

    FUNCTIONS = (np.zeros_like, np.concatenate)

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError("an array of the device became one of the host")

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        if method != "__call__" or options or any(isinstance(one, np.ndarray) for one in inputs):
            return NotImplemented
        return Foreign(ufunc(*(bare(one) for one in inputs)))

    def __array_function__(self, function: Any, types: Any, inputs: Any, options: Any) -> Any:
        if function not in self.FUNCTIONS or any(kind is not Foreign for kind in types) or options:
            return NotImplemented
        return Foreign(function(*(bare(one) for one in inputs)))

    def __getitem__(self, place: slice) -> Foreign:
        return Foreign(self.values[place])

    def __len__(self) -> int:
        return len(self.values)

    def copy(self) -> Foreign:
        return Foreign(self.values.copy())

    def sum(self) -> Foreign:
        return Foreign(self.values.sum())

    def max(self) -> Foreign:
        return Foreign(self.values.max())

    def __float__(self) -> float:
        return float(self.values)


def bare(one: Any) -> Any:
    if isinstance(one, list):
        return [bare(each) for each in one]
    return one.values if isinstance(one, Foreign) else one


class ForeignArrays:
    """A device of foreign arrays, with room for so many numbers, that answers so many products."""

    name = "foreign"

    def __init__(self, room: float = np.inf, products: float = np.inf) -> None:
        self.room, self.products, self.inside = room, products, False

    @contextmanager
    def here(self) -> Iterator[None]:
        self.inside = True
        try:
            yield
        finally:
            self.inside = False

    def _take(self, numbers: int) -> None:
        assert self.inside
        self.room -= numbers
        if self.room < 0:
            raise ArraysLost("no room on the device")

    def put(self, values: np.ndarray) -> Foreign:
        self._take(values.size)
        return Foreign(np.array(values))

    def get(self, array: Foreign) -> np.ndarray:
        return array.values

    def rows(self, matrix: Any) -> Any:
        self._take(matrix.nnz)

        def product(x: Foreign) -> Foreign:
            assert self.inside
            self.products -= 1
            if self.products < 0:
                raise ArraysLost("the device does not answer")
            return Foreign(matrix @ x.values)

        return product


def laplacian(side: int) -> sparse.csr_matrix:
    """Seven-point stencil on a cube of side³ points, with a little reaction."""
    line = sparse.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(side, side))
    one = sparse.eye_array(side)
    parts = [(line, one, one), (one, line, one), (one, one, line)]
    whole = sum(sparse.kron(sparse.kron(a, b), c) for a, b, c in parts)
    return sparse.csr_matrix(whole + 1e-3 * sparse.eye_array(side**3))


def growing(layers: tuple[int, int]) -> tuple[Body, np.ndarray, Any, Any]:
    """An octant that grows by 2 %: its body, residual, tangent and preconditioner."""
    mesh = ball_octant((10.0, 30.0), layers)
    body = Body.of(mesh, SOFT, springs_of())
    state, growth = body.at_rest(), np.where(mesh.region == 2, 1.02, 1.0)
    return body, body.residual(state, growth), body.tangent(state, growth), body.preconditioner(state, growth)


def test_a_device_solves_nearly_incompressible_growth_as_the_host_does():
    """At ν = 0.4999 on two meshes both reach the residual asked for and agree; iterations stay within twice the
    host's, and do not grow faster with the mesh. NumPy's arrays in the place of a device give that device's bits.
    """
    counts = []
    for layers in ((2, 3), (4, 6)):
        body, r, matrix, precondition = growing(layers)
        found = []
        for arrays in (None, ForeignArrays(), HostArrays()):
            linear = Linear(arrays, least=0)
            x, count = linear.saddle(matrix, -r, precondition, scale=body.scale, reduction=1e-10)
            precondition = replace(precondition, _there=None)
            assert body.norm(matrix.operator()(x) + r) <= 1.01e-10 * body.norm(r)
            found.append((x, count))
        (host, iterations), (there, more), (numpys, as_many) = found
        assert np.array_equal(numpys, there)
        assert as_many == more
        assert np.abs(there - host).max() < 1e-8 * np.abs(host).max()
        assert more <= 2 * iterations
        counts.append((iterations, more))
    (few, few_there), (many, many_there) = counts
    assert many_there - few_there <= many - few + 10


def test_a_device_solves_a_scalar_system_as_the_host_does():
    """Conjugate gradients there reach the true residual and the host's solution, on three meshes nearly as fast."""
    iterations = []
    for side in (10, 16, 24):
        matrix = laplacian(side)
        b = np.sin(np.arange(matrix.shape[0]))
        linear = Linear(ForeignArrays(), least=0)
        x, count = linear.scalar(matrix, b, reduction=1e-10)
        host, fewer = conjugate_gradients(matrix.__matmul__, b, multigrid(matrix), reduction=1e-10)
        assert linear.words() == "foreign 1"
        assert euclidean(b - matrix @ x) <= 1.01e-10 * euclidean(b)
        assert np.abs(x - host).max() < 1e-8 * np.abs(host).max()
        assert count <= 2 * fewer
        iterations.append(count)
    assert iterations[-1] <= iterations[0] + 8


def test_the_cycle_of_a_device_is_symmetric_and_positive():
    """x·By = y·Bx and x·Bx > 0, which conjugate gradients and MINRES rest on, on scalars and on held displacements."""
    rng = np.random.default_rng(3)
    *_, precondition = growing((2, 3))
    for hierarchy in (hierarchy_of(laplacian(12)), precondition.hierarchy):
        assert len(hierarchy.levels) > 1
        cycle = on_device(hierarchy, HostArrays())
        x, y = rng.standard_normal((2, hierarchy.levels[0].A.shape[0]))
        one, other = x @ cycle(y), y @ cycle(x)
        assert one == pytest.approx(other, rel=1e-10, abs=1e-12 * np.abs(x @ cycle(x)))
        assert x @ cycle(x) > 0.0


def test_no_eigenvalue_exceeds_the_row_sums():
    """The largest eigenvalue of D^-1 A is at most 1, so that the smoother cannot amplify."""
    *_, precondition = growing((1, 2))
    for matrix in (laplacian(6), precondition.hierarchy.levels[0].A):
        root = 1.0 / np.sqrt(row_sums(matrix))
        assert np.linalg.eigvalsh(root[:, None] * matrix.toarray() * root).max() <= 1.0 + 1e-12


def test_the_coarsest_level_is_inverted():
    """Inverse times matrix is one."""
    hierarchy = hierarchy_of(laplacian(12))
    product = coarsest_inverse(hierarchy) @ hierarchy.levels[-1].A.toarray()
    assert np.abs(product - np.eye(len(product))).max() < 1e-10


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        (ForeignArrays(room=20_000), "no room on the device"),
        (ForeignArrays(room=0), "no room on the device"),
        (ForeignArrays(products=100), "the device does not answer"),
    ],
)
def test_the_host_takes_over_from_a_device_that_is_lost(arrays: ForeignArrays, words: str):
    """Memory that runs out while levels are copied, and a device that falls silent in a solve: the host solves that
    system and all further ones, with its own bits, and it is told.
    """
    body, r, matrix, precondition = growing((2, 3))
    linear, host = Linear(arrays, least=0), Linear()
    for reduction in (1e-6, 1e-8):
        asked = {"scale": body.scale, "reduction": reduction}
        ours, theirs = (one.saddle(matrix, -r, precondition, **asked) for one in (linear, host))
        assert ours[1] == theirs[1]
        assert np.array_equal(ours[0], theirs[0])
    assert linear.words() == f"host 2; the device foreign was given up ({words})"
    assert not arrays.inside


def test_a_fault_of_the_system_is_no_fault_of_the_device():
    """A residual that rounding does not allow is refused, not tried again on the host."""
    linear = Linear(ForeignArrays(), least=0)
    body, r, matrix, precondition = growing((1, 2))
    with pytest.raises(SolverFault, match="MINRES"):
        linear.saddle(matrix, -r, precondition, scale=body.scale, reduction=1e-30)
    assert not linear.lost
    assert not linear.solved


def test_growth_on_a_device_is_the_hosts_growth():
    """A whole increment with Newton, its levels reused: the same equilibrium to the tolerance, all systems there."""
    mesh = ball_octant((10.0, 30.0), (3, 4))
    stretch = np.where(mesh.region == 2, 1.05, 1.0)
    asked = {"springs": springs_of(), "max_log_increment": 0.1, "tolerance": 1e-10}
    linear = Linear(ForeignArrays(), least=0)
    there, host = (grow(mesh, stretch, SOFT, linear=one, **asked) for one in (linear, None))
    assert linear.solved == {"foreign": sum(len(one.linear) for one in host.increments)}
    assert np.abs(there.displacement - host.displacement).max() < 1e-8 * np.abs(host.displacement).max()
    assert there.residual < 1e-10


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        (None, "host N"),
        (ForeignArrays(), "foreign N"),
        (ForeignArrays(room=0), "host N; the device foreign was given up (no room on the device)"),
    ],
)
def test_a_run_records_who_solved(small_state, monkeypatch, arrays, words):
    """On a device, on none and on one without room a run goes the same way to the tolerance, and each step's record
    tells who solved its mechanics and its oxygen.
    """
    monkeypatch.setattr("oncoscale.sim.body.DIRECT_UNKNOWNS", 0)
    monkeypatch.setattr("oncoscale.sim.simulation.Linear", lambda arrays: Linear(arrays, least=0))
    tumour = tumour_type("neuroblastoma")
    plan = Plan(tumour, ForecastSettings(elements=8), None, tumour.materials, Springs(0.05), (14.0,), 1, constant_rate)
    states, (step,) = simulate(small_state, replace(plan, arrays=arrays))
    for what in ("linear_systems", "oxygen_systems"):
        assert re.sub(r"\d+", "N", step.mechanics[what]) == words
    at_home, _ = simulate(small_state, plan)
    assert states[-1].volume == pytest.approx(at_home[-1].volume, rel=1e-8)
    assert states[-1].oxygen == pytest.approx(at_home[-1].oxygen, rel=1e-6)


def test_small_systems_stay_on_the_host():
    """Below so many unknowns the device is not asked."""
    matrix = laplacian(12)
    b = np.ones(matrix.shape[0])
    linear = Linear(ForeignArrays(room=0), least=len(b) + 1)
    x, count = linear.scalar(matrix, b, reduction=1e-10)
    assert (count, linear.words()) == (0, "host 1")
    assert x == pytest.approx(factorise(matrix)(b))
