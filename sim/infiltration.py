"""Infiltration: tumour cells that grow and wander as a density, without a border.

    dc/dt = div(D grad c) + rate c (1 - c)

after Fisher 1937, doi 10.1111/j.1469-1809.1937.tb02153.x, as Swanson et al. 2000, doi 10.1046/j.1365-2184.2000.00177.x,
use it for gliomas: c is the share of the tissue's room that tumour cells fill, D depends on the tissue and is 0 where
cells cannot go; along fibres it may be larger than across them, a tensor (``anisotropy``). Finite volumes on a voxel
grid, because the front is sqrt(D/rate) wide, a millimetre or so, and the elements of a tumour's mesh are wider: a front
that is not resolved runs too fast. Units: mm, day.

A step is half a reaction, diffusion, half a reaction [Strang 1968, doi 10.1137/0705041]: the reaction by its exact
solution, so that c stays between 0 and 1 for any step; diffusion implicitly, each pair of voxels exchanging by the
harmonic mean of their D, so that nothing is lost or made and c stays positive. Through the border of the grid nothing
passes. Second order in space; in time first order from the implicit step (``rate`` dt is held at LONGEST_STEP).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from ..core.errors import SolverFault
from ..core.quantity import Parameter
from ..imaging.study import Grid
from . import anisotropy
from .anisotropy import harmonic
from .solvers import conjugate_gradients

Real = NDArray[np.float64]

LONGEST_STEP = Parameter(
    0.05,
    "1",
    "longest time step over the time in which cells grow by e",
    source="project specification, tissue §4.4: 0.05 to 0.1 for 1 to 2 % of the front's speed",
    range=(0.01, 0.1),
)
WIDEST_VOXEL = Parameter(
    0.5,
    "1",
    "widest voxel over the width of the front, sqrt(D/rate): a coarser grid is told",
    source="project specification, tissue §4.4",
    range=(0.25, 1.0),
)
PARAMETERS = (LONGEST_STEP, WIDEST_VOXEL)


@dataclass(frozen=True, eq=False)
class Infiltration:
    """Tissue that cells wander through.

    grid         of the voxels, with axes at right angles
    exchange     (voxels, voxels) mm³/day: rows sum to 0, positive beside the diagonal
    volume       mm³ of a voxel
    diffusivity  (i, j, k) mm²/day, mean over the directions
    shape        (i, j, k, 3, 3) the tensor over its mean, in the axes of the patient; None: alike in all directions
    """

    grid: Grid
    exchange: sparse.csr_matrix
    volume: float
    diffusivity: Real
    shape: Real | None = None

    @classmethod
    def through(cls, grid: Grid, diffusivity: Real) -> Infiltration:
        """Tissue of this diffusivity, 0 where no cell can go.

        diffusivity  mm²/day, (i, j, k) alike in all directions, or tensors (i, j, k, 3, 3) in the axes of the patient

        Raises SolverFault for impossible numbers, a tensor that is not symmetric and positive, or a grid whose axes are
        not at right angles.
        """
        if np.shape(diffusivity) == (*grid.shape, 3, 3):
            return cls.along(grid, *mean_and_shape(np.asarray(diffusivity, dtype=np.float64)))
        d = np.asarray(diffusivity, dtype=np.float64)
        if d.shape != grid.shape or not (np.isfinite(d).all() and (d >= 0.0).all()):
            raise SolverFault(
                f"a diffusivity of shape {d.shape} with values from {np.min(d):.3g} to {np.max(d):.3g}",
                f"finite values of at least 0 on a grid of {grid.shape}",
                "give every voxel a diffusivity in mm²/day",
            )
        spacing = np.linalg.norm(grid.affine[:3, :3], axis=0)
        axes = grid.affine[:3, :3] / spacing
        if np.abs(axes.T @ axes - np.eye(3)).max() > 1e-6:
            raise SolverFault("a grid whose axes are not at right angles", "a rectangular grid", "resample it")
        return cls(grid, _exchange(d, spacing), float(np.prod(spacing)), d)

    @classmethod
    def along(cls, grid: Grid, diffusivity: Real, shape: Real | None) -> Infiltration:
        """Tissue of this mean diffusivity (i, j, k) and this shape of its tensor (i, j, k, 3, 3), as ``through``."""
        alike = cls.through(grid, diffusivity)
        if shape is None:
            return alike
        matrix = anisotropy.exchange(alike.diffusivity, anisotropy.checked(shape), grid.affine[:3, :3])
        return replace(alike, exchange=matrix, shape=shape)

    def spread(self, density: Real, days: float) -> Real:
        """The density (i, j, k) after diffusion alone, by one implicit step."""
        if days <= 0.0:
            return density
        apply = _Implicit(self.exchange, self.volume, days)
        found, _ = conjugate_gradients(apply, self.volume * density.ravel(), apply.precondition, reduction=1e-10)
        return np.asarray(np.clip(found, 0.0, density.max()).reshape(density.shape))  # but for the solver's tolerance

    def grow(
        self, density: Real, rate: Real | float, days: float, told: Callable[[float], None] = lambda share: None
    ) -> Real:
        """The density (i, j, k) after ``days``.

        density  0..1
        rate     1/day, one or (i, j, k): net growth where there is room; negative where cells die
        """
        rate = np.asarray(rate, dtype=np.float64)
        if not (np.isfinite(density).all() and density.min() >= 0.0 and density.max() <= 1.0 + 1e-12):
            raise SolverFault(
                f"a density from {np.min(density):.3g} to {np.max(density):.3g}", "0 to 1", "give the share of the room"
            )
        steps = max(1, int(np.ceil(days * float(np.abs(rate).max(initial=0.0)) / LONGEST_STEP.value - 1e-9)))
        step, c = days / steps, density
        for number in range(steps):
            c = logistic(self.spread(logistic(c, rate, step / 2.0), step), rate, step / 2.0)
            told((number + 1) / steps)
        return c

    def unresolved(self, rate: float) -> float:
        """How many times too wide the voxels are for the thinnest front, 1 or less where it is resolved."""
        slowest = float(self.diffusivity[self.diffusivity > 0.0].min(initial=np.inf))
        if not np.isfinite(slowest) or rate <= 0.0:
            return 0.0
        widest = float(np.linalg.norm(self.grid.affine[:3, :3], axis=0).max())
        return float(widest / (WIDEST_VOXEL.value * np.sqrt(slowest / rate)))


def logistic(density: Real, rate: Real | float, days: float) -> Real:
    """Exact growth by dc/dt = rate c (1 - c); where the rate is negative cells die at that rate, room or not."""
    growth = np.exp(np.asarray(rate) * days)
    filled = density * growth / (1.0 + density * (growth - 1.0))
    return np.asarray(np.where(np.asarray(rate) >= 0.0, filled, density * growth))


def front_speed(diffusivity: float, rate: float, days: float = np.inf) -> float:
    """mm/day of a front that started from a sharp edge ``days`` ago.

    2 sqrt(D rate) in the end, less before [Bramson 1983, doi 10.1090/memo/0285]: times 1 - 3/(4 rate days).

    >>> round(front_speed(0.05, 0.05), 3)
    0.1
    """
    return float(2.0 * np.sqrt(diffusivity * rate) * (1.0 - 3.0 / (4.0 * rate * days)))


def edge_profile(distance: Real, visible: float, diffusivity: float, rate: float) -> Real:
    """Density around a tumour whose visible edge lies at ``distance`` 0 mm, positive outside.

    The travelling front of Ablowitz and Zeppetella 1979, doi 10.1007/BF02462380, c = (1 + a exp(x / (w sqrt 6)))^-2
    with w = sqrt(D / rate), placed so that c is ``visible`` at the edge.
    """
    width = np.sqrt(6.0 * diffusivity / rate)
    return np.asarray((1.0 + (1.0 / np.sqrt(visible) - 1.0) * np.exp(np.clip(distance / width, -60.0, 60.0))) ** -2)


def mean_and_shape(tensors: Real) -> tuple[Real, Real]:
    """(…) mean of the eigenvalues of tensors (…, 3, 3), and each over it; the unit tensor where there is none."""
    mean = np.trace(anisotropy.checked(tensors), axis1=-2, axis2=-1) / 3.0
    scaled = tensors / np.where(mean > 0.0, mean, 1.0)[..., None, None]
    return mean, np.where(mean[..., None, None] > 0.0, scaled, np.eye(3))


def _exchange(d: Real, spacing: Real) -> sparse.csr_matrix:
    """Face area over distance times the harmonic mean of two voxels' D; rows sum to 0."""
    numbers = np.arange(d.size).reshape(d.shape)
    matrix = sparse.csr_matrix((d.size, d.size))
    for axis in range(3):
        here = [slice(None)] * 3
        there = [slice(None)] * 3
        here[axis], there[axis] = slice(None, -1), slice(1, None)
        one, other = d[tuple(here)], d[tuple(there)]
        mean = harmonic(one, other)
        flow = (mean * np.prod(spacing) / spacing[axis] ** 2).ravel()
        a, b = numbers[tuple(here)].ravel(), numbers[tuple(there)].ravel()
        matrix += sparse.coo_matrix((flow, (a, b)), matrix.shape) + sparse.coo_matrix((flow, (b, a)), matrix.shape)
    return sparse.csr_matrix(matrix - sparse.diags_array(np.asarray(matrix.sum(axis=1)).ravel()))


class _Implicit:
    """(volume - days exchange) c, and its diagonal as preconditioner: an M-matrix."""

    def __init__(self, exchange: sparse.csr_matrix, volume: float, days: float) -> None:
        self.matrix = sparse.csr_matrix(sparse.eye_array(exchange.shape[0]) * volume - days * exchange)
        self.diagonal = self.matrix.diagonal()

    def __call__(self, c: Real) -> Real:
        return np.asarray(self.matrix @ c)

    def precondition(self, r: Real) -> Real:
        return np.asarray(r / self.diagonal)
