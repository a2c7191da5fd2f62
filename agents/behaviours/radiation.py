"""Radiation: each fraction kills a living cell by chance, less where oxygen is short."""

from __future__ import annotations

from ...core.quantity import Parameter
from ..cell import living
from ..rule import Cell, Hour, Luck, Near, Numbers, chance, compiled, rule, twin_draws
from .death import fall_silent

(HIT,) = twin_draws("radiation")

OXYGEN = "Alper et al. 1956, doi 10.1038/178978a0, as in the project specification, tissue 4.6; range ASSUMED"
ENHANCEMENT = Parameter(
    3.0, "1", "dose without oxygen over dose with plenty, for the same survival", OXYGEN, (2.5, 3.5)
)
HALFWAY = Parameter(
    3.0 / 72.0,
    "1",
    "oxygen at which radiosensitivity is halfway (3 mmHg), over that of blood (72 mmHg)",
    OXYGEN,
    (2.0 / 72.0, 5.0 / 72.0),
)
PARAMETERS = (ENHANCEMENT, HALFWAY)
"""Every parameter of radiation that is not its fractions'."""

MOST, HALF = ENHANCEMENT.value, HALFWAY.value


@compiled
def felt(oxygen: float) -> float:
    """Share of a dose that a cell feels at this oxygen: 1 where it is plenty, a third without any."""
    return (MOST * oxygen + HALF) / (oxygen + HALF) / MOST


@compiled
def exponential(x: float) -> float:
    """e to a number from 0 on: that of its 1024th part, a Taylor sum, squared ten times.

    Sums and products alone have the same bits on every processor. Relative error below 1e-11 up to 30.
    """
    part = x / 1024.0
    growth = 1.0
    for order in range(8, 0, -1):
        growth = 1.0 + part / order * growth
    for _ in range(10):
        growth *= growth
    return growth


@compiled
def killed(oxygen: float, linear: float, quadratic: float) -> float:
    """Chance to be killed by fractions with these sums of alpha d and beta d²; beyond 30 of both nothing survives."""
    m = felt(oxygen)
    return 1.0 - 1.0 / exponential(m * linear + m * m * quadratic)


@rule(
    source="linear quadratic model: Fowler 1989, doi 10.1259/0007-1285-62-740-679; oxygen: Alper et al. 1956, "
    "doi 10.1038/178978a0. ASSUMED: a cell that is hit dies within the hour"
)
def be_irradiated(cell: Cell, luck: Luck, near: Near, colony: Hour, p: Numbers) -> None:
    """The fractions of this hour may kill a living cell, which turns apoptotic."""
    if living(cell) and chance(luck, HIT[cell.kind], killed(near.oxygen, colony.dose_linear, colony.dose_quadratic)):
        cell.apop = True
        fall_silent(cell, p)
