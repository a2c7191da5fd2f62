"""Room in a cube that was cut from wide tissue: beyond its walls it is as crowded as within.

A colony of a few hundred cells is so small that most of them have a wall within reach. What they would touch beyond it
is not simulated, but it is there: as many cells, strewn at random, as the colony's own density lays into the part of
the reach that the walls cut off. Counted without them cells find room that tissue does not have, and the more the
smaller the colony: of 150 cells at 0.8 of the full density 57 % would go on, and 26 % do in wide tissue.
"""

from __future__ import annotations

import math

from .behaviours.radiation import exponential
from .rule import compiled


def expected_within(reach: float, cells: int, half_edge: float) -> float:
    """Other cells within ``reach`` µm of one in wide tissue as dense as a cube of so many, ``half_edge`` µm from the
    centre to a wall.
    """
    return max(cells - 1, 0) * 4.0 / 3.0 * math.pi * reach**3 / (2.0 * half_edge) ** 3


@compiled
def before_a_wall(distance: float, reach: float) -> float:
    """Share of a ball of radius ``reach`` that lies on this side of a plane ``distance`` from its centre: without the
    cap beyond, (1 - t)² (2 + t) / 4 of it with t = distance / reach.
    """
    t = min(max(distance / reach, 0.0), 1.0)
    return 1.0 - (1.0 - t) * (1.0 - t) * (2.0 + t) / 4.0


@compiled
def between_walls(x: float, wall: float, reach: float) -> float:
    """Share of a ball around ``x`` between the planes at -``wall`` and ``wall``."""
    return before_a_wall(wall - x, reach) + before_a_wall(wall + x, reach) - 1.0


@compiled
def share_inside(x: float, y: float, z: float, wall: float, reach: float) -> float:
    """Share of the ball around a point that lies in the cube: the product over the axes, which is exact beside one
    pair of walls, and on an edge or in a corner.
    """
    return between_walls(x, wall, reach) * between_walls(y, wall, reach) * between_walls(z, wall, reach)


@compiled
def at_most(count: float, mean: float) -> float:
    """Chance that a Poisson number of this mean is ``count`` or less; 0 for a negative count."""
    term, total, number = 1.0, 0.0, 0
    while number <= count:
        total += term
        number += 1
        term *= mean / number
    return total / exponential(mean)
