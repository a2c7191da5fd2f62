"""Who solves large linear systems: the host, or a device that lends its arrays for as long as it answers.

A device runs the same conjugate gradients and MINRES (``solvers``) with another smoother (``multigrid``), until the
same true residual. Its solutions agree with the host's to the tolerance asked for, not in their bits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from ..agents.engine import Arrays, ArraysLost
from .multigrid import hierarchy_of, on_device, on_host
from .solvers import Norm, Operator, SaddleMatrix, conjugate_gradients, minres, solve_scalar

Real = NDArray[np.float64]
Answer = tuple[Real, int]
"""The solution and the iterations that it took."""

DEVICE_UNKNOWNS = 400_000
"""From so many unknowns on a system is taken to a device. ASSUMED: up to about here a mesh is cheap on the host, and a
forecast keeps its bits whichever engine its cells live on; no device has been timed (project specification, tissue §9).
"""


@dataclass(eq=False)
class BlockDiagonal:
    """Preconditioner of a saddle matrix: a V-cycle for displacements beside the diagonal of a pressure mass.

    Called it works on the host.

    hierarchy  levels for the displacements
    mass       (pressure nodes,)
    """

    hierarchy: Any
    mass: Real
    _there: Operator | None = None

    def __post_init__(self) -> None:
        self._cycle = on_host(self.hierarchy)

    def __call__(self, r: Real) -> Real:
        return beside(self._cycle, self.mass, r)

    def on(self, arrays: Arrays) -> Operator:
        """The same on a device, copied there once."""
        if self._there is None:
            cycle, mass = on_device(self.hierarchy, arrays), arrays.put(self.mass)
            self._there = lambda r: beside(cycle, mass, r)
        return self._there


def beside(cycle: Operator, mass: Real, r: Real) -> Real:
    """The cycle of the first part of r, and the second part over the mass."""
    n = len(r) - len(mass)
    return np.concatenate([cycle(r[:n]), r[n:] / mass])


def largest(scale: Real) -> Norm:
    """The largest number, each over its scale."""
    return lambda r: float((abs(r) / scale).max())


@dataclass(eq=False)
class Linear:
    """Solver of large linear systems.

    arrays  of a device; None: the host solves everything
    least   unknowns from which on a system is taken to the device
    solved  how many systems were solved by whom
    lost    why the device was given up, in words; from then on the host solves everything
    """

    arrays: Arrays | None = None
    least: int = DEVICE_UNKNOWNS
    solved: Counter[str] = field(default_factory=Counter)
    lost: str = ""

    def saddle(
        self, matrix: SaddleMatrix, b: Real, precondition: BlockDiagonal, *, scale: Real, reduction: float
    ) -> Answer:
        """Solve by MINRES until the largest residual, each over its scale, has fallen by ``reduction``.

        Raises SolverFault as ``minres``.
        """

        def there(arrays: Arrays) -> Answer:
            x, count = minres(
                matrix.operator(arrays.rows),
                arrays.put(b),
                precondition.on(arrays),
                reduction=reduction,
                norm=largest(arrays.put(scale)),
            )
            return arrays.get(x), count

        return self._solve(
            len(b),
            there,
            lambda: minres(matrix.operator(), b, precondition, reduction=reduction, norm=largest(scale)),
        )

    def scalar(self, matrix: sparse.csr_matrix, b: Real, *, reduction: float) -> Answer:
        """Solve a symmetric positive definite scalar system until |b - A x| <= reduction |b|.

        Raises SolverFault as ``solve_scalar``.
        """

        def there(arrays: Arrays) -> Answer:
            cycle = on_device(hierarchy_of(matrix), arrays)
            x, count = conjugate_gradients(arrays.rows(matrix), arrays.put(b), cycle, reduction=reduction)
            return arrays.get(x), count

        return self._solve(len(b), there, lambda: solve_scalar(matrix, b, reduction=reduction))

    def _solve(self, unknowns: int, there: Callable[[Arrays], Answer], here: Callable[[], Answer]) -> Answer:
        """By the device, if there is one and the system is large; by the host, if there is none or it is lost."""
        if self.arrays is not None and not self.lost and unknowns >= self.least:
            try:
                with self.arrays.here():
                    answer = there(self.arrays)
                self.solved[self.arrays.name] += 1
                return answer
            except ArraysLost as error:
                self.lost = f"the device {self.arrays.name} was given up ({error})"
        answer = here()
        self.solved["host"] += 1
        return answer

    def words(self) -> str:
        """Who solved, for the record."""
        counted = ", ".join(f"{name} {count}" for name, count in sorted(self.solved.items())) or "host"
        return f"{counted}; {self.lost}" if self.lost else counted
