"""Division: the mother stays, the daughter is laid beside her in a random direction."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..cell import DIVIDES, living
from ..parameters import RELEASE
from ..rule import FIRST, Cell, Hour, Luck, Near, Numbers, compiled, rule, twin_draws, uniform

DIV_X, DIV_Y, DIV_Z = twin_draws("div_x", "div_y", "div_z")


@rule(source=f"{RELEASE}; direction uniform on the sphere: Marsaglia 1972, doi 10.1214/aoms/1177692644")
def divide(cell: Cell, luck: Luck, near: Near, colony: Hour, p: Numbers) -> None:
    """At the end of M the cycle starts anew, a telomere unit is lost, and a daughter inherits the state."""
    if living(cell) and cell.cycle >= p.stage_M:
        cell.telo_count = max(0, cell.telo_count - 1)
        if p.division_in_cube != 0.0:
            lay_daughter(cell, direction_in_cube(luck, cell.kind))
        else:
            lay_daughter(cell, direction_on_sphere(luck, cell.kind))


@compiled
def lay_daughter(cell: Cell, direction: tuple[float, float, float]) -> None:
    """The cell divides: its cycle starts anew, its daughter comes to lie in this direction."""
    cell.cycle = 0
    cell.fate = DIVIDES
    cell.axis_x, cell.axis_y, cell.axis_z = direction


@compiled
def signed(luck: Luck, name: np.uint64, index: np.uint64) -> Any:
    """A uniform number in [-1, 1)."""
    return 2.0 * uniform(luck, name, index) - 1.0


@compiled
def direction_in_cube(luck: Luck, kind: int) -> tuple[float, float, float]:
    """A random point of a cube, drawn to the sphere: prefers the diagonals, as released."""
    x, y, z = signed(luck, DIV_X[kind], FIRST), signed(luck, DIV_Y[kind], FIRST), signed(luck, DIV_Z[kind], FIRST)
    length = math.sqrt(x * x + y * y + z * z)
    if length == 0.0:
        return 1.0, 0.0, 0.0
    return x / length, y / length, z / length


@compiled
def direction_on_sphere(luck: Luck, kind: int) -> tuple[float, float, float]:
    """Uniform on the sphere, from the first point drawn inside the unit disc."""
    x, y, square = 0.0, 0.0, 0.0
    for attempt in range(1000):
        x, y = signed(luck, DIV_X[kind], np.uint64(attempt)), signed(luck, DIV_Y[kind], np.uint64(attempt))
        square = x * x + y * y
        if square < 1.0:
            break
    scale = 2.0 * math.sqrt(max(0.0, 1.0 - square))
    return x * scale, y * scale, 1.0 - 2.0 * square
