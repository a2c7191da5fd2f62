"""The steady field of oxygen on the voxels of a colony.

    diffusion Lap(o) - demand o / (o + half) + supply (1 - o) = 0,   walls closed

Newton's method. Each step is solved by conjugate gradients, preconditioned by the exact inverse for even demand: on a
box with closed walls the Laplacian is diagonal in cosines, and colonies are small enough for plain cosine sums. All
sums run in one order, so the field is the same on any number of threads.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ..core.errors import CellFault

Grid = NDArray[np.float64]
Axes = tuple[Grid, Grid, Grid]

LARGEST_RESIDUAL = 1e-6
"""Of the balance, per demand of the first hour."""

MOST_NEWTON_STEPS, MOST_GRADIENT_STEPS, STEP_ACCURACY = 50, 200, 1e-2


def solve_field(demand: Grid, supply: Grid, diffusion: float, half: float, start: Grid) -> Grid:
    """Oxygen o (fraction of blood's) in every voxel.

    demand, supply  (x, y, z) per demand of the first hour; not zero everywhere
    diffusion       exchange with each face neighbour, in the same measure
    half            oxygen at which demand is half its maximum
    start           first guess, inside 0..1

    Raises CellFault when the balance is not met.
    """
    x, y, z = (cosines_of(size) for size in demand.shape)
    to, back = (x, y, transposed(z)), (transposed(x), transposed(y), z)
    oxygen = np.ascontiguousarray(start).copy()
    residual = _newton(demand, supply, diffusion, half, oxygen, wave_numbers(*demand.shape), to, back)
    if not residual < LARGEST_RESIDUAL:
        raise CellFault(
            f"oxygen of a colony did not come into balance: {residual:.3g} is left",
            f"less than {LARGEST_RESIDUAL:g} of the demand",
            "run with o2_model qss and report the case",
        )
    return oxygen


@cache
def cosines_of(size: int) -> Grid:
    """(size, size) orthonormal cosines of a closed box, one in each row."""
    wave, place = np.arange(size)[:, None], np.arange(size)[None, :]
    rows = np.sqrt(2.0 / size) * np.cos(np.pi * wave * (place + 0.5) / size)
    rows[0] = np.sqrt(1.0 / size)
    return np.ascontiguousarray(rows)


def transposed(rows: Grid) -> Grid:
    """The transposed matrix, contiguous."""
    return np.ascontiguousarray(rows.T)


@cache
def wave_numbers(x: int, y: int, z: int) -> Grid:
    """(x, y, z) eigenvalues of minus the Laplacian, by cosine."""
    a, b, c = (2.0 - 2.0 * np.cos(np.pi * np.arange(size) / size) for size in (x, y, z))
    return np.ascontiguousarray(a[:, None, None] + b[None, :, None] + c[None, None, :])


def _compiled(function: Callable[..., Any]) -> Any:
    return njit(cache=True, nogil=True, error_model="numpy")(function)


@_compiled
def _laplacian(grid: Grid, total: Grid) -> None:
    """Sum over the face neighbours inside the grid of their difference to each voxel."""
    nx, ny, nz = grid.shape
    for a in range(nx):
        for b in range(ny):
            for c in range(nz):
                own, others = grid[a, b, c], 0.0
                if a > 0:
                    others += grid[a - 1, b, c] - own
                if a < nx - 1:
                    others += grid[a + 1, b, c] - own
                if b > 0:
                    others += grid[a, b - 1, c] - own
                if b < ny - 1:
                    others += grid[a, b + 1, c] - own
                if c > 0:
                    others += grid[a, b, c - 1] - own
                if c < nz - 1:
                    others += grid[a, b, c + 1] - own
                total[a, b, c] = others


@_compiled
def _combine(rows: Grid, grid: Grid, result: Grid) -> None:
    """result = rows @ grid, summed in order."""
    for i in range(rows.shape[0]):
        result[i, :] = 0.0
        for j in range(rows.shape[1]):
            for k in range(grid.shape[1]):
                result[i, k] += rows[i, j] * grid[j, k]


@_compiled
def _in_cosines(grid: Grid, along_x: Grid, along_y: Grid, columns_z: Grid, turned: Grid, result: Grid) -> None:
    """The grid in cosines along all axes (or back, with all three transposed); ``turned`` is room to work in."""
    nx, ny, nz = grid.shape
    _combine(along_x, grid.reshape(nx, ny * nz), result.reshape(nx, ny * nz))
    _combine(result.reshape(nx * ny, nz), columns_z, turned.reshape(nx * ny, nz))
    for a in range(nx):
        _combine(along_y, turned[a], result[a])


@_compiled
def _precondition(
    residual: Grid, shift: float, diffusion: float, waves: Grid, to: Axes, back: Axes, room: Grid
) -> None:
    """room[2] = the exact solution for a slope that is ``shift`` everywhere; room[0] and room[1] are worked in."""
    turned, spectrum, better = room[0], room[1], room[2]
    _in_cosines(residual, to[0], to[1], to[2], turned, spectrum)
    flat, wave = spectrum.ravel(), waves.ravel()
    for i in range(len(flat)):
        flat[i] /= diffusion * wave[i] + shift
    _in_cosines(spectrum, back[0], back[1], back[2], turned, better)


@_compiled
def _dot(one: Grid, other: Grid) -> float:
    a, b, total = one.ravel(), other.ravel(), 0.0
    for i in range(len(a)):
        total += a[i] * b[i]
    return total


@_compiled
def _largest(grid: Grid) -> float:
    """Largest magnitude; NaN counts as infinite."""
    values, largest = grid.ravel(), 0.0
    for i in range(len(values)):
        if not abs(values[i]) <= largest:
            largest = abs(values[i])
    return largest if largest == largest else np.inf


@_compiled
def _gradient_step(slope: Grid, diffusion: float, right: Grid, waves: Grid, to: Axes, back: Axes) -> Grid:
    """The solution of (slope - diffusion Lap) step = right, to STEP_ACCURACY; ``right`` is used up."""
    shape = right.shape
    solution, direction, image = np.zeros(shape), np.empty(shape), np.empty(shape)
    room = np.empty((3, *shape))
    x, r, d, m, s, z = solution.ravel(), right.ravel(), direction.ravel(), image.ravel(), slope.ravel(), room[2].ravel()
    shift = s.sum() / len(s)
    enough = STEP_ACCURACY * _largest(right)
    before = 0.0
    for step in range(MOST_GRADIENT_STEPS):
        _precondition(right, shift, diffusion, waves, to, back, room)
        gain = _dot(right, room[2])
        for i in range(len(d)):
            d[i] = z[i] if step == 0 else z[i] + gain / before * d[i]
        before = gain
        _laplacian(direction, image)
        for i in range(len(m)):
            m[i] = s[i] * d[i] - diffusion * m[i]
        length = gain / _dot(direction, image)
        for i in range(len(x)):
            x[i] += length * d[i]
            r[i] -= length * m[i]
        if not _largest(right) >= enough:
            break
    return solution


@_compiled
def _newton(
    demand: Grid, supply: Grid, diffusion: float, half: float, oxygen: Grid, waves: Grid, to: Axes, back: Axes
) -> float:
    """Bring ``oxygen`` into balance; returns the largest residual left."""
    residual, slope = np.empty(oxygen.shape), np.empty(oxygen.shape)
    o, r, s, need, brought = oxygen.ravel(), residual.ravel(), slope.ravel(), demand.ravel(), supply.ravel()
    for _ in range(MOST_NEWTON_STEPS):
        _laplacian(oxygen, residual)
        for i in range(len(o)):
            r[i] = diffusion * r[i] - need[i] * o[i] / (o[i] + half) + brought[i] * (1.0 - o[i])
            s[i] = need[i] * half / ((o[i] + half) * (o[i] + half)) + brought[i]
        left = _largest(residual)
        if left < LARGEST_RESIDUAL or not np.isfinite(left):
            break
        step = _gradient_step(slope, diffusion, residual, waves, to, back).ravel()
        for i in range(len(o)):
            o[i] = min(max(o[i] + step[i], 0.1 * o[i]), 1.0)
    return float(left)
