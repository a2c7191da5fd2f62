"""A smooth deformation between images of unlike contrast: B-splines that bring descriptors of self-similarity together.

Mutual information knows one joint histogram of the whole image: where contrast agent brightens the kidney more than
the liver, it bends tissue until the histogram is tidier. What stays is local: which of two neighbouring patches
resembles the other. The descriptor says that of every voxel x by twelve pairs (a, b) of its six neighbours [Heinrich
et al. 2013, doi 10.1007/978-3-642-40811-3_24],

    d_ab(x) = exp(-D_ab(x) / V(x)),     D_ab(x) = G * (I(x + a) - I(x + b))^2,     V = mean of D over the pairs,

with G a Gauss function. The displacement u(x) = sum_n B_n(x) c_n of cubic B-splines [Rueckert et al. 1999, doi
10.1109/42.796284] is the least of

    mean over voxels of sum_ab (d_fixed(x) - d_moving(x + u(x)))^2 + STIFFNESS * mean over nodes of |c'' / h|^2,

c'' the second differences of the nodes along each axis, h their distance. Gauss and Newton's steps, as in [Heinrich et
al. 2012, doi 10.1016/j.media.2012.05.008], are solved by conjugate gradients, coarse to fine.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import SimpleITK
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse.linalg import LinearOperator, cg

from ..core.quantity import Parameter
from .study import Grid

sitk: Any = SimpleITK
Values = NDArray[np.float64]
Mask = NDArray[np.bool_]

PATCH = Parameter(
    0.5,
    "1",
    "standard deviation of a patch, in voxels",
    "Heinrich et al. 2012, doi 10.1016/j.media.2012.05.008",
    range=(0.3, 2.0),
)
LEAST_VARIANCE = Parameter(
    1e-3,
    "1",
    "least V of a voxel, as a share of the mean: where nothing is seen nothing is alike or unlike",
    "ASSUMED: as small as division allows",
    range=(1e-6, 0.1),
    assumed=True,
)
STIFFNESS = Parameter(
    0.3,
    "1",
    "weight of the bending of the nodes against the unlikeness of the descriptors",
    "ASSUMED: from 0.1 to 1 the error hardly changes on the reference patient, under deformations not of the benchmark",
    range=(0.01, 10.0),
    assumed=True,
)
VOXELS_PER_NODE = (7.5, 15.0)
"""Voxels between two nodes, one resolution after another. ASSUMED: 4 and 2 mm where nodes are 30 mm apart; finer ones
add time, not precision.
"""
STEPS, SETTLED = 8, 0.05
"""Most steps at one resolution, and the largest change, in voxels, after which no more are made. ASSUMED."""
NEIGHBOURS = np.array([(1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)])
PAIRS = [(one, other) for one, other in combinations(NEIGHBOURS, 2) if (one + other).any()]
"""Neighbours that touch along an edge: opposite ones are left out."""


def self_similarity(values: NDArray[Any]) -> NDArray[np.float32]:
    """(12, i, j, k) descriptor of every voxel, 0 to 1: how alike the pairs of its neighbours are.

    A linear change of the values, also one that inverts them, changes nothing:

    >>> ramp = np.arange(27.0).reshape(3, 3, 3)
    >>> bool(np.allclose(self_similarity(ramp), self_similarity(5 - 2 * ramp)))
    True
    """
    padded = np.pad(np.asarray(values, dtype=np.float32), 1, mode="edge")

    def neighbour(offset: NDArray[np.int64]) -> NDArray[np.float32]:
        return padded[tuple(slice(1 + by, 1 + by + size) for by, size in zip(offset, values.shape))]

    unlike = np.stack(
        [ndimage.gaussian_filter((neighbour(one) - neighbour(other)) ** 2, PATCH.value) for one, other in PAIRS]
    )
    variance = unlike.mean(axis=0)
    least = LEAST_VARIANCE.value * float(variance.mean()) or 1.0
    return np.asarray(np.exp(-unlike / np.maximum(variance, least)), dtype=np.float32)


def deformation(
    fixed: NDArray[Any], moving: NDArray[Any], counts: Mask, covered: Mask, grid: Grid, node_spacing: float
) -> Any:
    """The B-spline transform x -> x + u(x), LPS mm, under which the moving image resembles the fixed one.

    fixed, moving  (i, j, k) on the same grid
    counts         (i, j, k) where the fixed image counts
    covered        (i, j, k) where the moving image has values
    node_spacing   mm between the nodes
    """
    lengths = grid.spacing * np.array(grid.shape)
    cells = [max(1, round(float(length) / node_spacing)) for length in lengths]
    image = sitk.Image([int(size) for size in grid.shape], sitk.sitkUInt8)
    image.SetSpacing(grid.spacing.tolist())
    image.SetOrigin(grid.affine[:3, 3].tolist())
    image.SetDirection((grid.affine[:3, :3] / grid.spacing).ravel().tolist())
    transform = sitk.BSplineTransformInitializer(image, cells, order=3)
    nodes = np.zeros((*(int(size) for size in transform.GetFixedParameters()[:3]), 3))
    known: tuple[int, ...] = ()
    for voxels in VOXELS_PER_NODE:
        step = _step(grid, node_spacing / voxels)
        if step != known:
            scene = _Scene.of(fixed, moving, counts, covered, grid, step, transform)
            nodes, known = scene.settled(nodes), step
    transform.SetParameters(nodes.transpose(3, 2, 1, 0).ravel().tolist())
    return transform


def _step(grid: Grid, voxel_mm: float) -> tuple[int, ...]:
    """Every how many voxels along each axis there is one of about so many mm, eight or more along the axis."""
    return tuple(
        max(1, min(round(voxel_mm / float(spacing)), size // 8)) for spacing, size in zip(grid.spacing, grid.shape)
    )


@dataclass(frozen=True, eq=False)
class _Scene:
    """One resolution: descriptors, where they count, and the B-splines at its voxels.

    slopes   (12, i, j, k, 3) change of the fixed descriptors, per mm along LPS
    bases    for each axis (voxels, nodes): the value of every node's B-spline
    to_index  (3, 3) mm along LPS to voxels
    """

    fixed: NDArray[np.float32]
    moving: NDArray[np.float32]
    slopes: NDArray[np.float32]
    counts: Mask
    covered: NDArray[np.float32]
    bases: tuple[Values, ...]
    node_spacing: Values
    to_index: Values

    @classmethod
    def of(
        cls,
        fixed: NDArray[Any],
        moving: NDArray[Any],
        counts: Mask,
        covered: Mask,
        grid: Grid,
        step: tuple[int, ...],
        transform: Any,
    ) -> _Scene:
        thinned = tuple(slice(None, None, by) for by in step)
        blur = [0.5 * by if by > 1 else 0.0 for by in step]
        here, there = (
            self_similarity(ndimage.gaussian_filter(np.asarray(one, dtype=np.float32), blur)[thinned])
            for one in (fixed, moving)
        )
        to_index = np.linalg.inv(grid.affine[:3, :3] * np.array(step))
        return cls(
            here,
            there,
            _slopes(here, to_index),
            counts[thinned],
            covered[thinned].astype(np.float32),
            lattice_bases(transform, grid, step),
            np.array(transform.GetFixedParameters()[6:9]),
            to_index,
        )

    def displacement(self, nodes: Values) -> Values:
        """(i, j, k, 3) mm: the nodes' displacement at every voxel."""
        return np.asarray(np.einsum("ia,jb,kc,abcd->ijkd", *self.bases, nodes, optimize=True))

    def gathered(self, field: Values) -> Values:
        """The transpose of ``displacement``: what every node gets of something at the voxels."""
        return np.asarray(np.einsum("ia,jb,kc,ijkd->abcd", *self.bases, field, optimize=True))

    def bent(self, nodes: Values) -> Values:
        """Half the gradient of the penalty on bending."""
        total = np.zeros_like(nodes)
        for axis, spacing in enumerate(self.node_spacing):
            second = np.diff(np.eye(nodes.shape[axis]), 2, axis=0) / spacing
            total += np.moveaxis(np.tensordot(second.T @ second, nodes, (1, axis)), 0, axis)
        return STIFFNESS.value / nodes[..., 0].size * total

    def settled(self, nodes: Values) -> Values:
        """The nodes after as many steps as change something."""
        for _ in range(STEPS):
            change = self.step(nodes)
            nodes = nodes + change
            moved = self.displacement(change)[self.counts] @ self.to_index.T
            if not moved.size or np.abs(moved).max() < SETTLED:
                break
        return nodes

    def step(self, nodes: Values) -> Values:
        """One step of Gauss and Newton: the change of the nodes that is best as far as descriptors are linear."""
        places = np.indices(self.counts.shape) + np.moveaxis(self.displacement(nodes) @ self.to_index.T, 3, 0)
        covered = ndimage.map_coordinates(self.covered, places, order=1, mode="constant")
        weight = np.where(self.counts & (covered > 0.99), 1.0, 0.0)
        weight /= max(weight.sum(), 1.0)
        carried = np.stack([ndimage.map_coordinates(one, places, order=1, mode="nearest") for one in self.moving])
        slopes = (self.slopes + _slopes(carried, self.to_index)) / 2
        normal = np.einsum("cijka,cijkb,ijk->ijkab", slopes, slopes, weight, optimize=True)
        pull = np.einsum("cijka,cijk,ijk->ijka", slopes, self.fixed - carried, weight, optimize=True)

        def curvature(flat: Values) -> Values:
            change = flat.reshape(nodes.shape)
            return (self.gathered((normal @ self.displacement(change)[..., None])[..., 0]) + self.bent(change)).ravel()

        operator = LinearOperator((nodes.size, nodes.size), curvature, dtype=np.float64)
        change, _ = cg(operator, (self.gathered(pull) - self.bent(nodes)).ravel(), rtol=1e-3, maxiter=50)
        return np.asarray(change.reshape(nodes.shape))


def _slopes(descriptors: NDArray[np.float32], to_index: Values) -> NDArray[np.float32]:
    """(12, i, j, k, 3) change per mm along LPS."""
    along = np.stack([np.gradient(descriptors, axis=axis) for axis in (1, 2, 3)], axis=-1)
    return np.asarray(along @ to_index.astype(np.float32))


def lattice_bases(transform: Any, grid: Grid, step: tuple[int, ...]) -> tuple[Values, ...]:
    """For each axis (voxels, nodes): the cubic B-splines of the transform at every so many voxels of the grid."""
    sizes, origin, spacing, direction = np.split(np.array(transform.GetFixedParameters()), [3, 6, 9])
    start = direction.reshape(3, 3).T @ (grid.affine[:3, 3] - origin)
    return tuple(
        _cubic((start[axis] + grid.spacing[axis] * np.arange(0, grid.shape[axis], step[axis]))[:, None] / spacing[axis]
               - np.arange(int(sizes[axis])))
        for axis in range(3)
    )  # fmt: skip


def _cubic(offset: Values) -> Values:
    """The cubic B-spline about 0, whose nodes are 1 apart.

    >>> [round(float(one), 3) for one in _cubic(np.array([0.0, 1.0, 2.0]))]
    [0.667, 0.167, 0.0]
    """
    far = np.abs(offset)
    return np.where(far < 1, 2 / 3 - far**2 + far**3 / 2, np.clip(2 - far, 0, None) ** 3 / 6)
