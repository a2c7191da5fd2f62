"""Oxygen and vessels: the released numbers, the well-mixed balance, the field and its limit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from oncoscale.agents.modes import switches
from oncoscale.agents.oxygen import Population, balanced, diffusion_number, first_hour, next_hour
from oncoscale.agents.oxygen_field import solve_field
from oncoscale.agents.parameters import parameter_set

HALF = 1 / 60
PARAMETERS = parameter_set()


def population(living: int = 1000, volume: float = 0.02, voxels: int = 35, **values: int) -> Population:
    """Living neuroblasts, all in one voxel of a grid."""
    grid = np.zeros((voxels,) * 3, np.int32)
    grid[0, 0, 0] = living
    occupied = (grid > 0) * 1.0
    given = {"neuroblasts": living, "schwann": 0, "all_cells": living, "vegf": 0, **values}
    return Population(living=grid, occupied=occupied, volume=volume, **given)


def even(cells: int, size: int = 7) -> Population:
    """As many cells in every voxel, all full."""
    grid = np.full((size,) * 3, cells, np.int32)
    return Population(grid, np.ones(grid.shape), 2.7e-5 * grid.size, int(grid.sum()), 0, int(grid.sum()), 0)


def test_released_uptake_is_frozen() -> None:
    """1000 living cells in 35³ voxels lower oxygen by 1.64e-8 an hour, and supply meets the first hour's demand."""
    released = switches("parity")
    start = first_hour(0.3, population(), released, PARAMETERS)
    assert start.supply == pytest.approx(1.63978e-8, rel=1e-5)
    assert start.mean == 0.3
    later = next_hour(start, population(2000), released, PARAMETERS)
    assert later.mean == pytest.approx(0.3 - 1.63978e-8, abs=1e-12)


@pytest.mark.parametrize(
    ("start", "growth", "oxygen"),
    [(0.1, 0.5, 0.49220), (0.1, 0.9, 0.14968), (0.1, 1.0, 0.1), (0.1, 1.1, 0.06920), (0.1, 1.25, 0.04459),
     (0.1, 1.5, 0.02694), (0.1, 2.0, 0.01473), (0.3, 2.0, 0.03168)],
)  # fmt: skip
def test_well_mixed_balance(start: float, growth: float, oxygen: float) -> None:
    """Twice the density of cells starves them at low oxygen: supply limits."""
    model = switches("corrected", o2_model="qss")
    first = first_hour(start, population(), model, PARAMETERS)
    assert first.supply == pytest.approx({0.1: 0.952381, 0.3: 1.353383}[start], abs=1e-6)
    assert balanced(growth, first.supply, HALF) == pytest.approx(oxygen, abs=5e-6)
    later = next_hour(first, population(int(1000 * growth)), model, PARAMETERS)
    assert later.mean == pytest.approx(oxygen, abs=5e-6)


def test_even_cells_give_the_balance_in_every_voxel() -> None:
    """The field of evenly spread cells is the well-mixed balance, in every voxel and for every growth."""
    model = switches("corrected", o2_model="field")
    first = first_hour(0.1, even(2), model, PARAMETERS)
    assert first.field == pytest.approx(np.full((7, 7, 7), 0.1), abs=1e-6)
    later = next_hour(first, even(3), model, PARAMETERS)
    assert later.field == pytest.approx(np.full((7, 7, 7), balanced(1.5, first.supply, HALF)), abs=1e-6)


def test_field_is_in_balance() -> None:
    """Whatever is supplied is used: the sum over the voxels vanishes, since no oxygen crosses the walls."""
    rng = np.random.default_rng(4)
    demand = rng.poisson(1.2, (9, 8, 11)) / 1.2
    supply = 0.95 * np.minimum(demand, 1.0)
    oxygen = solve_field(demand, supply, 78.0, HALF, np.full(demand.shape, 0.1))
    used, brought = demand * oxygen / (oxygen + HALF), supply * (1 - oxygen)
    assert used.sum() == pytest.approx(brought.sum(), rel=1e-5)
    assert np.all((oxygen > 0) & (oxygen < 1))


def test_field_follows_a_known_profile() -> None:
    """Demand placed so that a cosine solves the balance: second order in the voxel, exact on the grid."""
    n, amplitude, mean, diffusion, supply = 20, 0.05, 0.2, 60.0, 1.3
    place = np.arange(n)[:, None, None] + np.zeros((n, 4, 4))
    exact = mean + amplitude * np.cos(np.pi * (place + 0.5) / n)
    laplacian = -(2 - 2 * np.cos(np.pi / n)) * (exact - mean)
    demand = (diffusion * laplacian + supply * (1 - exact)) * (exact + HALF) / exact
    assert np.all(demand > 0)
    found = solve_field(demand, np.full(demand.shape, supply), diffusion, HALF, np.full(demand.shape, 0.5))
    assert found == pytest.approx(exact, abs=2e-6)


def test_uptake_of_tissue() -> None:
    """4.7e4 cells in a mm³ use 1.78 mmHg a second."""
    number = diffusion_number(4.7e4, PARAMETERS)
    uptake = PARAMETERS["oxygen_diffusivity"] / 30**2 / number * PARAMETERS["Cs_O2"]
    assert uptake == pytest.approx(1.78, abs=0.01)


def test_vessels_catch_up_after_enough_signals() -> None:
    """A hundred hours of VEGF above the number of Schwann cells raise supply to demand; fewer do not."""
    model = switches("corrected", o2_model="qss", ang_trigger="at_least")
    now = first_hour(0.1, population(), model, PARAMETERS)
    grown = population(1500, vegf=5, schwann=4)
    for _ in range(99):
        now = next_hour(now, grown, model, PARAMETERS)
    assert now.supply == now.supply_at_start
    now = next_hour(now, grown, model, PARAMETERS)
    assert now.supply == pytest.approx(now.supply_at_start * grown.density / now.density_at_start)
    assert now.mean == pytest.approx(0.1, abs=0.01)
    assert next_hour(now, replace(grown, vegf=4), model, PARAMETERS).signal == now.signal


def test_prescribed_saturated_and_empty() -> None:
    """Prescribed oxygen stays; so does oxygen of blood; without living cells oxygen is that of blood."""
    prescribed = switches("corrected", o2_model="prescribed")
    first = first_hour(0.07, population(), prescribed, PARAMETERS)
    assert next_hour(first, population(3000), prescribed, PARAMETERS).mean == 0.07
    for model in (switches("corrected", o2_model="qss"), switches("corrected", o2_model="field")):
        assert next_hour(first_hour(1.0, population(), model, PARAMETERS), population(9), model, PARAMETERS).mean == 1.0
        first = first_hour(0.2, population(), model, PARAMETERS)
        nobody = replace(population(0), neuroblasts=0, all_cells=0)
        assert next_hour(first, nobody, model, PARAMETERS).mean == 1.0
