"""Anisotropy: a tensor of diffusion as exchange between voxels, none of it negative.

    D = sum of w e eᵀ,  w >= 0, e whole steps of the grid

so that div(D grad c) is a sum of second differences along six steps e, and an implicit step keeps every density
positive. For each tensor the steps are found by Selling's algorithm [Selling 1874; Conway and Sloane 1992, doi
10.1098/rspa.1992.0004], as Fehrenbach and Mirebeau 2014, doi 10.1007/s10851-013-0446-3, use it for diffusion: they
reach as far as the tensor is anisotropic. Two voxels exchange by the mean of their weights for the step between them,
so what one loses the other gains. Units: mm, day.
"""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from ..core.errors import SolverFault
from ..imaging.diffusion_tensor import MOST_ANISOTROPIC

Real = NDArray[np.float64]
Steps = NDArray[np.int64]

PAIRS = tuple(combinations(range(4), 2))
OTHERS = tuple(tuple(sorted({0, 1, 2, 3} - set(pair))) for pair in PAIRS)
MOST_ROUNDS = 200


def checked(tensors: Real, what: str = "a tensor of diffusion") -> Real:
    """(…, 3, 3) the tensors, each symmetric and positive definite, or 0. Raises SolverFault for any other."""
    if tensors.shape[-2:] != (3, 3) or not np.isfinite(tensors).all():
        raise SolverFault(f"{what} of shape {tensors.shape}", "3 x 3 finite numbers", "give every voxel six components")
    size = np.abs(tensors).max(axis=(-1, -2))
    skew = np.abs(tensors - np.swapaxes(tensors, -1, -2)).max(axis=(-1, -2))
    if (skew > 1e-6 * size).any():
        raise SolverFault(f"{what} that is not symmetric", "as much from x to y as from y to x", "give six components")
    values = np.linalg.eigvalsh(tensors[size > 0.0])
    bad = values[:, 0] * MOST_ANISOTROPIC.value < values[:, 2] * (1.0 - 1e-9)
    if bad.any():
        raise SolverFault(
            f"{what} that is not positive, or more than {MOST_ANISOTROPIC.value:g} to 1, in {int(bad.sum())} voxels",
            f"eigenvalues above 0, the largest at most {MOST_ANISOTROPIC.value:g} times the smallest; 0 where there is "
            "no tensor",
            "fit the tensors with this constraint, or set them to 0 outside tissue",
        )
    return tensors


def selling(tensors: Real) -> tuple[Real, Steps]:
    """Weights (n, 6) and steps (n, 6, 3) of positive definite tensors (n, 3, 3): the sum of w e eᵀ is the tensor.

    Four vectors that add up to nothing are turned until every two of them make an obtuse angle as the tensor measures
    it. Raises SolverFault when that does not end, which positive tensors never cause.

    >>> weights, steps = selling(np.diag([3.0, 2.0, 1.0])[None])
    >>> [(float(w), np.abs(e).tolist()) for w, e in zip(weights[0], steps[0]) if w]
    [(3.0, [1, 0, 0]), (2.0, [0, 1, 0]), (1.0, [0, 0, 1])]
    """
    vectors = np.tile(np.vstack([np.eye(3, dtype=np.int64), -np.ones((1, 3), dtype=np.int64)]), (len(tensors), 1, 1))
    slack = 1e-12 * np.trace(tensors, axis1=-2, axis2=-1)
    acute = np.arange(len(tensors))
    for _ in range(MOST_ROUNDS):
        products = _products(tensors[acute], vectors[acute])
        worst = products.argmax(axis=1)
        turning = products.max(axis=1, initial=-np.inf) > slack[acute]
        acute, worst = acute[turning], worst[turning]
        if not len(acute):
            break
        for place, ((i, _), others) in enumerate(zip(PAIRS, OTHERS)):
            here = acute[worst == place]
            for other in others:
                vectors[here, other] += vectors[here, i]
            vectors[here, i] *= -1
    else:
        raise SolverFault(
            f"{len(acute)} tensors without an obtuse base after {MOST_ROUNDS} rounds", "positive definite tensors",
            "limit their anisotropy",
        )  # fmt: skip
    weights = np.maximum(-_products(tensors, vectors), 0.0)
    steps = np.stack([np.cross(vectors[:, k], vectors[:, m]) for k, m in OTHERS], axis=1)
    return np.where(weights > slack[:, None], weights, 0.0), steps


def exchange(diffusivity: Real, shape: Real, axes: Real) -> sparse.csr_matrix:
    """(voxels, voxels) mm³/day: rows and columns sum to 0, nothing beside the diagonal is negative.

    diffusivity  (i, j, k) mm²/day, mean over the directions, 0 where no cell goes
    shape        (i, j, k, 3, 3) the tensor over its mean; of no meaning where the diffusivity is 0
    axes         (3, 3) mm, columns from a voxel to the next along i, j, k

    Between two voxels: harmonic mean of their diffusivities, as without a tensor, times the mean of their weights. No
    cell passes a voxel without diffusivity: where one of the box that two voxels span is closed, they do not exchange.
    """
    free = diffusivity > 0.0
    to_steps = np.linalg.inv(axes)
    weights, steps = selling(to_steps @ shape[free] @ to_steps.T)
    flows, ones, others = [], [], []
    numbers = np.arange(diffusivity.size).reshape(diffusivity.shape)
    for step, weight in _by_step(weights, steps, free):
        here, there = _shifted(step, diffusivity.shape)
        between = harmonic(diffusivity[here], diffusivity[there]) * _all_open(free, step)
        flows.append((0.5 * between * (weight[here] + weight[there])).ravel())
        ones.append(numbers[here].ravel())
        others.append(numbers[there].ravel())
    flow, one, other = np.concatenate(flows), np.concatenate(ones), np.concatenate(others)
    flow = flow * abs(np.linalg.det(axes))
    there_is = flow > 0.0
    half = sparse.coo_matrix((flow[there_is], (one[there_is], other[there_is])), (diffusivity.size,) * 2).tocsr()
    matrix = half + half.T
    return sparse.csr_matrix(matrix - sparse.diags_array(np.asarray(matrix.sum(axis=1)).ravel()))


def harmonic(one: Real, other: Real) -> Real:
    """Harmonic mean, 0 where either is."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(one + other > 0.0, 2.0 * one * other / (one + other), 0.0))


def _products(tensors: Real, vectors: Steps) -> Real:
    """(n, 6) products of every two of the four vectors, as the tensor measures them."""
    measured = np.einsum("nab,nvb->nva", tensors, vectors)
    return np.stack([(measured[:, i] * vectors[:, j]).sum(axis=1) for i, j in PAIRS], axis=1)


def _by_step(weights: Real, steps: Steps, free: NDArray[np.bool_]) -> list[tuple[tuple[int, ...], Real]]:
    """Every step that any voxel takes, of two opposite ones the one that leads forward, with (i, j, k) its weights."""
    first = np.take_along_axis(steps, (steps != 0).argmax(axis=-1)[..., None], axis=-1)
    forward = steps * np.sign(first)
    taken, which = np.unique(forward.reshape(-1, 3), axis=0, return_inverse=True)
    which = np.where(weights > 0.0, which.reshape(weights.shape), -1)
    found = []
    for number in np.unique(which[which >= 0]):
        on_grid = np.zeros(free.shape)
        on_grid[free] = np.where(which == number, weights, 0.0).sum(axis=1)
        found.append((tuple(int(n) for n in taken[number]), on_grid))
    return found


def _shifted(step: tuple[int, ...], shape: tuple[int, ...]) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """The voxels from which a step stays on the grid, and those that it leads to; none where it is longer than that."""
    step = tuple(max(-size, min(n, size)) for n, size in zip(step, shape))
    here = tuple(slice(max(0, -n), max(0, min(size, size - n))) for n, size in zip(step, shape))
    there = tuple(slice(max(0, n), max(0, min(size, size + n))) for n, size in zip(step, shape))
    return here, there


def _all_open(free: NDArray[np.bool_], step: tuple[int, ...]) -> NDArray[np.bool_]:
    """Whether every voxel of the box between the ends of a step is open, for all of its starts."""
    here, _ = _shifted(step, free.shape)
    through = np.ones(free[here].shape, dtype=bool)
    for part in product(*(range(min(0, n), max(0, n) + 1) for n in step)):
        through &= free[tuple(slice(s.start + n, s.stop + n) for s, n in zip(here, part))]
    return through
