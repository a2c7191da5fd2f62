"""Mechanics of one colony: overlapping spheres push each other apart, in steps, until they hardly overlap.

No adhesion and no random motility. Every cell gathers the pushes of its own neighbours, in the order of their
identity, and writes only itself: sums are the same for any number of threads and any storage. Laws: PRIMAGE
neuroblastoma model 13.9.4; contact law after Pathmanathan et al. 2009, as named there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .rule import at_home, compiled
from .voxels import Flat, Shape, matrix_at

Rows = NDArray[np.float64]
"""(cells, 4) x, y, z and radius in µm."""


PushOn = Callable[..., tuple[float, float, float, float, int]]
"""``push_on(i, rows, others, first, last, p)``: see ``pushes``."""

Law = Callable[[float, float, Any], float]
"""``law(distance, touching, p)``: push between two cells at ``distance`` µm whose radii sum to ``touching`` µm, in µm
of overlap; negative where they attract; exactly 0 beyond the reach of the neighbour lists."""


def pushes(law: Law, module: str, name: str) -> PushOn:
    """What neighbours do to a cell under a law of contact, to be stored as ``name`` in ``module``."""

    def push_on(
        i: int, rows: Rows, others: NDArray[np.int32], first: int, last: int, p: Any
    ) -> tuple[float, float, float, float, int]:
        """What the cells ``others[first:last]`` do to cell i.

        returns  sum of push times direction (x, y, z; µm), sum of overlaps (µm), cells within the contact radius (i
        counted)

        Coincident cells have no direction and do not push, but count as neighbours.
        """
        push_x, push_y, push_z, overlap, neighbours = 0.0, 0.0, 0.0, 0.0, 1
        for k in range(first, last):
            j = others[k]
            dx, dy, dz = rows[i, 0] - rows[j, 0], rows[i, 1] - rows[j, 1], rows[i, 2] - rows[j, 2]
            distance = math.sqrt(dx * dx + dy * dy + dz * dz)
            if distance < p.R_neighbours:
                neighbours += 1
            if distance > 0.0:
                push = law(distance, rows[i, 3] + rows[j, 3], p)
                if push != 0.0:
                    overlap += max(push, 0.0)
                    push_x += push * (dx / distance)
                    push_y += push * (dy / distance)
                    push_z += push * (dz / distance)
        return push_x, push_y, push_z, overlap, neighbours

    return compiled(at_home(push_on, module, name))


@compiled
def spring(distance: float, touching: float, p: Any) -> float:
    """Overlapping spheres push in proportion to their overlap, no farther than ``R_search``; none attract."""
    overlap = touching - distance
    if distance <= p.R_search and overlap >= p.min_overlap:
        return overlap
    return 0.0


push_on = pushes(spring, __name__, "push_on")


@compiled
def reflected(x: float, wall: float, displace: float) -> float:
    """A coordinate beyond a wall is thrown back: at ``displace`` = 2 a mirror."""
    if x < -wall:
        return x + displace * (-wall - x)
    if x > wall:
        return x - displace * (x - wall)
    return x


@compiled
def moved(
    i: int,
    rows: Rows,
    push: tuple[float, float, float],
    strength: float,
    matrix: Flat,
    shape: Shape,
    matrix_elsewhere: float,
    wall: float,
    displace: float,
) -> tuple[float, float, float]:
    """Where cell i goes: displacement = push x ``strength`` / (1 + matrix), slowed by the matrix of its voxel.

    matrix    (voxels,) of a grid of this shape; elsewhere it is ``matrix_elsewhere``
    strength  µm moved per µm of overlap: dt k1 / mu, times k_locom for a crowded cell
    """
    step = strength / (1.0 + matrix_at(rows[i, 0], rows[i, 1], rows[i, 2], matrix, shape, matrix_elsewhere))
    return (
        reflected(rows[i, 0] + push[0] * step, wall, displace),
        reflected(rows[i, 1] + push[1] * step, wall, displace),
        reflected(rows[i, 2] + push[2] * step, wall, displace),
    )


@compiled
def strength_of(neighbours: int, mobile: Any, p: Any) -> Any:
    """How far a push moves a cell, in µm per µm of overlap, before matrix slows it: dt k1 / mu, and k_locom times as
    far for a mobile cell with more than N_neighbours cells (itself counted) in its contact radius.
    """
    free = p.dt * p.k1 / p.mu
    if mobile and neighbours > p.N_neighbours:
        return free * p.k_locom
    return free


@compiled
def settled(iteration: int, cells: int, most_neighbours: int, most_overlap: float, p: Any) -> Any:
    """Whether relaxation stops after this iteration, the first one excepted: when no cell has more than N_neighbours
    in its contact radius, or no sum of overlaps reaches overlap_enough R_cell, or after iterations_enough iterations.
    """
    if iteration < 1:
        return False
    if cells < 2 or most_neighbours <= p.N_neighbours or iteration > p.iterations_enough:
        return True
    return most_overlap < p.overlap_enough * p.R_cell
