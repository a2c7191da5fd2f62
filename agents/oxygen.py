"""Oxygen inside a colony, hour by hour: what vessels bring and living cells use.

Oxygen is a fraction of that in blood (pO2 / 72 mmHg). Turnover takes seconds, so it is steady in every hour. Models:

field       balance of diffusion, supply and Michaelis-Menten demand in every voxel; vessels lie where tissue is
qss         the same for the well-mixed colony: one number
prescribed  the tissue's value, held for the whole step
released    PRIMAGE neuroblastoma model 13.9.4: practically frozen by a unit slip

Supply follows from the oxygen that the tissue hands over at the start; angiogenesis lets it catch up with demand
[Utzinger 2015, as named in the released source].
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .modes import Switches
from .oxygen_field import solve_field
from .parameters import ParameterSet
from .voxels import VOXEL, VOXEL_VOLUME, Grid

HELD_ABOVE = 0.995
"""Oxygen at the start above which supply cannot be told, so that oxygen is held."""

RELEASED_CONCENTRATION = 9877.5188
"""mol/L in the release; 9.8775e-5 is physical."""


@dataclass(frozen=True)
class Population:
    """What of the cells matters to oxygen, in one hour.

    living    (x, y, z) living cells of each voxel
    occupied  (x, y, z) share of each voxel that the cells occupy; sums to ``volume`` over the voxels
    volume    mm³ that the cells occupy
    neuroblasts, schwann  living cells
    all_cells living and dead
    vegf      neuroblasts that express VEGF
    """

    living: NDArray[np.int32]
    occupied: Grid
    volume: float
    neuroblasts: int
    schwann: int
    all_cells: int
    vegf: int

    @property
    def density(self) -> float:
        """Living cells per mm³ of what the cells occupy."""
        return (self.neuroblasts + self.schwann) / self.volume if self.volume > 0 else 0.0


@dataclass(frozen=True)
class Oxygenation:
    """Oxygen of one hour and the memory of its vessels.

    mean      over the volume that the cells occupy, pO2 / 72 mmHg
    field     (x, y, z) by voxel
    supply    of the vessels: per demand of the first hour, or oxygen per hour (released)
    supply_at_start, density_at_start   of the first hour
    signal    hours of angiogenic signal gathered
    before    living neuroblasts and Schwann cells of the hour before
    """

    mean: float
    field: Grid
    supply: float
    supply_at_start: float
    density_at_start: float
    signal: int
    before: tuple[int, int]
    held: bool


def first_hour(oxygen: float, cells: Population, switches: Switches, parameters: ParameterSet) -> Oxygenation:
    """Oxygen as the tissue hands it over, the same everywhere, and the supply that balances it.

    Supply s is such that s (1 - o) equals the demand o / (o + half) of cells as dense as now, with half the relative
    oxygen at which uptake is half its maximum. Oxygen is held as given where there is nothing to balance: no cells,
    none or full oxygen, or ``o2_model=prescribed``. ``released`` takes supply as the uptake of all cells in this hour.
    """
    if switches.o2_model == "released":
        supply, held = _released_uptake(cells.all_cells, cells.living.size, parameters), False
    else:
        held = switches.o2_model == "prescribed" or not 0.0 < oxygen < HELD_ABOVE or cells.density == 0.0
        supply = 0.0 if held else _demand(oxygen, parameters) / (1.0 - oxygen)
    start = Oxygenation(
        oxygen,
        np.full(cells.living.shape, oxygen),
        supply,
        supply,
        cells.density,
        0,
        (cells.neuroblasts, cells.schwann),
        held,
    )
    if switches.o2_model == "field" and not held:
        return _spread(start, cells, parameters)
    return start


def next_hour(last: Oxygenation, cells: Population, switches: Switches, parameters: ParameterSet) -> Oxygenation:
    """Oxygen of the next hour, from the vessels of the last and the living cells of this one.

    ``qss``: the balance of supply and demand, at once, with demand in proportion to the density of living cells, the
    same everywhere. ``field``: the same balance with diffusion between voxels. ``released``: what was there, less
    uptake, plus supply, clipped to 0 and 1. Held oxygen stays. Without living cells oxygen is full.
    """
    now = grow_vessels(last, cells, switches, parameters)
    if switches.o2_model == "released":
        used = _released_uptake(cells.neuroblasts + cells.schwann, cells.living.size, parameters)
        return _uniform(now, min(max(last.mean - used + now.supply, 0.0), 1.0), cells)
    if now.held:
        return _uniform(now, last.mean, cells)
    if cells.neuroblasts + cells.schwann == 0:
        return _uniform(now, 1.0, cells)
    if switches.o2_model == "qss":
        relative = cells.density / now.density_at_start
        return _uniform(now, balanced(relative, now.supply, _half(parameters)), cells)
    return _spread(now, cells, parameters)


def grow_vessels(last: Oxygenation, cells: Population, switches: Switches, parameters: ParameterSet) -> Oxygenation:
    """Hours with more VEGF-expressing neuroblasts than living Schwann cells are signals; enough let supply catch up.

    At ``ang_critical`` signals (``ang_trigger=equal``: only when exactly met) supply rises to what living cells demand
    now, never falls, and the count starts anew. ``vasc_counts=previous_hour`` takes the cells of the hour before.
    """
    neuroblasts, schwann = (
        last.before if switches.vasc_counts == "previous_hour" else (cells.neuroblasts, cells.schwann)
    )
    signal = last.signal + (cells.vegf > schwann)
    critical = parameters["ang_critical"]
    met = signal == critical if switches.ang_trigger == "equal" else signal >= critical
    if not met:
        return replace(last, signal=signal)
    if switches.o2_model == "released":
        demand = _released_uptake(neuroblasts + schwann, cells.living.size, parameters)
    elif last.held:
        demand = 0.0
    else:
        demand = cells.density / last.density_at_start * last.supply_at_start
    return replace(last, signal=0, supply=max(last.supply, demand))


def balanced(demand: float, supply: float, half: float) -> float:
    """Oxygen o where supply (1 - o) = demand o / (o + half)."""
    b = demand - supply * (1.0 - half)
    return (-b + math.sqrt(b * b + 4.0 * supply * supply * half)) / (2.0 * supply)


def _half(parameters: ParameterSet) -> float:
    return parameters["C50_necro"] / parameters["Cs_O2"]


def _demand(oxygen: float, parameters: ParameterSet) -> float:
    return oxygen / (oxygen + _half(parameters))


def _uniform(now: Oxygenation, oxygen: float, cells: Population) -> Oxygenation:
    field = np.full(cells.living.shape, oxygen)
    return replace(now, mean=oxygen, field=field, before=(cells.neuroblasts, cells.schwann))


def _released_uptake(cells: int, voxels: int, parameters: ParameterSet) -> float:
    litres = voxels * VOXEL_VOLUME * 1e-15
    return cells * parameters["P_O20"] / litres / RELEASED_CONCENTRATION


def _spread(now: Oxygenation, cells: Population, parameters: ParameterSet) -> Oxygenation:
    """Oxygen by voxel. Supply is spread over what the cells occupy, so that even cells give the well-mixed balance.

    ASSUMED: vessels come with the tissue; the space that a growing colony has not reached holds none.
    """
    demand = cells.living / (now.density_at_start * VOXEL_VOLUME * 1e-9)
    start = now.field if now.field.shape == demand.shape else np.full(demand.shape, now.mean)
    diffusion = diffusion_number(now.density_at_start, parameters)
    field = solve_field(demand, now.supply * cells.occupied, diffusion, _half(parameters), start)
    mean = float((field * cells.occupied).sum() / cells.occupied.sum())
    return replace(now, mean=mean, field=field, before=(cells.neuroblasts, cells.schwann))


def diffusion_number(density: float, parameters: ParameterSet) -> float:
    """How fast oxygen diffuses from voxel to voxel, per uptake of ``density`` living cells per mm³."""
    uptake = density * parameters["P_O20"] / 3600.0 / parameters["oxygen_solubility"] / parameters["Cs_O2"]
    return parameters["oxygen_diffusivity"] / VOXEL**2 / uptake
