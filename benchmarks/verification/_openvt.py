"""Laws of contact and a type of cell declared outside the package: the reference problems of OpenVT.

Three laws of contact for a chain of cells [github.com/Chaste/OpenVT, commit 12b70118], and a monolayer that grows from
one cell without inhibition. What is here is all that a new law or a new type of cell takes: a function of two
distances; a state, rules in their order, parameters, a start, and what to tell at the end.

Lengths of the chain are in cell diameters, of the monolayer in µm. An engine's hour is one step of time here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oncoscale.agents.cell import BODY, DIVIDES, State, Variable
from oncoscale.agents.cell_type import CellType
from oncoscale.agents.colony import Colony, ColonyOutcome, Surroundings
from oncoscale.agents.engine.cpu import loops_of
from oncoscale.agents.living import Census, LivingColony
from oncoscale.agents.mechanics import push_on, pushes
from oncoscale.agents.modes import Switches
from oncoscale.agents.observe import counts_of
from oncoscale.agents.parameters import ParameterSet
from oncoscale.agents.rule import Cell, Hour, Luck, Near, Numbers, by_kind, compiled, draws, rule, uniform
from oncoscale.agents.voxels import Grid
from oncoscale.core import chance
from oncoscale.core.errors import ConfigurationRejected
from oncoscale.core.quantity import Parameter

OPENVT = "OpenVT reference problems (github.com/Chaste/OpenVT, github.com/rheiland/OpenVT_monolayer_PhysiCell)"

# ---- laws of contact -------------------------------------------------------------------------------------------------

CUT_OFF = 1.5
"""Distance beyond which the linear law is silent, in the distance at which two cells touch."""


@compiled
def linear(distance: float, touching: float, p: Any) -> float:
    """Push k (1 - d); cells that are apart attract each other, up to the cut-off."""
    return touching - distance if distance < CUT_OFF * touching else 0.0


@compiled
def quadratic(distance: float, touching: float, p: Any) -> float:
    """Push k (1 - d)² of overlapping cells."""
    return (touching - distance) ** 2 / touching if distance < touching else 0.0


@compiled
def logarithmic(distance: float, touching: float, p: Any) -> float:
    """Push -k ln d of overlapping cells."""
    return -touching * math.log(distance / touching) if distance < touching else 0.0


push_linear = pushes(linear, __name__, "push_linear")
push_quadratic = pushes(quadratic, __name__, "push_quadratic")
push_logarithmic = pushes(logarithmic, __name__, "push_logarithmic")

PUSHES = {"linear": push_linear, "quadratic": push_quadratic, "logarithmic": push_logarithmic}

CALIBRATED = {"linear": 18.2816648, "quadratic": 88.54, "logarithmic": 15.6556}
"""Stiffness at which the chain of eleven cells reaches width 9 at time 1 [project specification, validation §1.1]."""

# ---- parameters ------------------------------------------------------------------------------------------------------

STEPS = 100
"""Steps in one mean cycle of the monolayer."""

CHOSEN = "ASSUMED: the problem leaves it open; growth without inhibition does not depend on it"

TABLE: Mapping[str, Parameter] = {
    "R_cell": Parameter(5.0, "micrometer", "radius of a newborn cell", CHOSEN),
    "daughter_distance": Parameter(5.0, "micrometer", "distance at which a daughter is laid", CHOSEN),
    "R_neighbours": Parameter(15.0, "micrometer", "radius within which neighbours are counted", CHOSEN),
    "R_search": Parameter(25.0, "micrometer", "no contact lies farther", CHOSEN),
    "min_overlap": Parameter(0.0, "micrometer", "overlap below which cells do not push", CHOSEN),
    "dt": Parameter(0.2, "1", "step of mechanics times its stiffness: part of an overlap undone at once", CHOSEN),
    "k1": Parameter(1.0, "1", "stiffness", CHOSEN),
    "mu": Parameter(1.0, "1", "friction", CHOSEN),
    "k_locom": Parameter(1.0, "1", "a crowded cell pushes no harder", CHOSEN),
    "N_neighbours": Parameter(0.0, "1", "every cell relaxes, however few are near", CHOSEN),
    "displace": Parameter(2.0, "1", "reflection at a wall (there is none)", CHOSEN),
    "overlap_enough": Parameter(0.1, "1", "largest sum of overlaps at rest, in R_cell", CHOSEN),
    "iterations_enough": Parameter(18.0, "1", "mechanics stops after this number and two more iterations", CHOSEN),
    "cycle_mean": Parameter(float(STEPS), "hour", "mean duration of the cycle, in steps", OPENVT),
    "cycle_sd": Parameter(0.2 * STEPS, "hour", "its standard deviation, in steps", OPENVT),
}

NUMBERS = np.dtype([(name, np.float64) for name in TABLE], align=True)


def parameters(values: Mapping[str, float] | None = None) -> ParameterSet:
    """The numbers of the monolayer, some replaced."""
    return ParameterSet("OpenVT", TABLE).with_values(values or {})


def numbers_of(given: ParameterSet) -> NDArray[Any]:
    """(1,) array of NUMBERS."""
    numbers = np.zeros(1, NUMBERS)
    for name in TABLE:
        numbers[name] = given[name]
    return numbers


# ---- a monolayer from one cell ---------------------------------------------------------------------------------------

LEVELS = 1000
"""Sizes between birth and division that are told apart (``cycle``: 0 to LEVELS)."""

STATE = State(
    (
        *BODY,
        Variable("age", np.float64, "h", "time since the cell's birth, in steps"),
        Variable("duration", np.float64, "h", "length of its cycle, in steps; 0: not yet drawn", inherited=False),
    )
)

(LENGTH, LENGTH_ANGLE, AXIS) = draws("openvt.length", "openvt.length_angle", "openvt.axis")


@compiled
def normal(luck: Luck, index: np.uint64) -> Any:
    """A standard normal number (Box and Muller 1958, doi 10.1214/aoms/1177706645)."""
    radius = math.sqrt(-2.0 * math.log(1.0 - uniform(luck, LENGTH, index)))
    return radius * math.cos(2.0 * math.pi * uniform(luck, LENGTH_ANGLE, index))


@rule(source=OPENVT)
def draw_duration(cell: Cell, luck: Luck, near: Near, colony: Hour, p: Numbers) -> None:
    """A newborn cell draws the length of its cycle: normal, drawn again while it is not positive."""
    attempt = 0
    while cell.duration <= 0.0:
        cell.duration = p.cycle_mean + p.cycle_sd * normal(luck, np.uint64(attempt))
        attempt += 1


@rule(source=OPENVT)
def grow(cell: Cell, luck: Luck, near: Near, colony: Hour, p: Numbers) -> None:
    """The area grows linearly from birth to division, whoever is near."""
    cell.age += 1.0
    cell.cycle = int(min(LEVELS * cell.age / cell.duration, 1.0 * LEVELS))


@rule(source=OPENVT)
def divide(cell: Cell, luck: Luck, near: Near, colony: Hour, p: Numbers) -> None:
    """At the end of its cycle the cell becomes two, side by side in the plane, in any direction.

    Both are as old as the time since the exact moment of division, so the length of the step shifts no count.
    """
    if cell.age >= cell.duration:
        angle = 2.0 * math.pi * uniform(luck, AXIS, np.uint64(0))
        cell.axis_x, cell.axis_y, cell.axis_z = math.cos(angle), math.sin(angle), 0.0
        cell.age -= cell.duration
        cell.duration, cell.cycle, cell.fate = 0.0, 0, DIVIDES


each_hour = ((draw_duration, grow, divide),)

live = by_kind(each_hour, __name__, "live")


def settle(
    cell_type: CellType, colony: Colony, seed: int, switches: Switches, parameters: ParameterSet
) -> LivingColony:
    """One newborn cell at the origin of a plane without walls."""
    living = LivingColony(
        cell_type=cell_type, name=colony.name, key=chance.key(seed, colony.domain or colony.name),
        cells=STATE.new(1, 1, 0), next_identity=2, half_edge=0.0, wall=math.inf, matrix=np.zeros((1, 1, 1)),
        elsewhere=0.0, clock=0, drugs=(), given_oxygen=0.0, switches=switches, parameters=parameters,
        numbers=numbers_of(parameters), radii=parameters["R_cell"] * np.sqrt(1 + np.arange(LEVELS + 1) / LEVELS),
    )  # fmt: skip
    living.counts.append(counts_of(living.cells))
    return living


NOTHING_SHARED = np.zeros(1, np.dtype([("nothing", np.float64)]))


def prepare(colony: LivingColony, census: Census) -> tuple[NDArray[Any], Grid]:
    """Cells share nothing and breathe nothing."""
    return NOTHING_SHARED, np.zeros(colony.matrix.shape)


def outcome(colony: LivingColony) -> ColonyOutcome:
    """Counts step by step, and the cells at the end as ``state``; the volume ratio is that of the cells' areas."""
    areas = colony.radii[colony.cells["cycle"]] ** 2
    return ColonyOutcome(
        name=colony.name, volume_ratio=float(areas.sum() / colony.radii[0] ** 2),
        composition=(1.0, 0.0, 0.0, 0.0, 0.0, 0.0), ecm=0.0, oxygen=0.0, cell_count=len(colony.cells),
        counts=np.array(colony.counts), moments={}, state=colony.cells.copy(),
        extra={"cell_iterations": colony.cell_iterations, "births": int(colony.births.sum())},
    )  # fmt: skip


MONOLAYER = CellType(
    name="openvt-monolayer", state=STATE, each_hour=each_hour, live=live, push_on=push_on, parameters=parameters,
    settle=settle, prepare=prepare, outcome=outcome,
)  # fmt: skip
"""Cells in a plane that grow and divide whoever is near."""


def one_cell(name: str) -> Colony:
    """A colony of the monolayer: it starts from one cell whatever surrounds it."""
    return Colony(name, Surroundings(volume=1.0, oxygen=0.0, composition=(1.0, 0, 0, 0, 0, 0)))


# ---- a chain of cells ------------------------------------------------------------------------------------------------


def relaxed(
    positions: NDArray[np.float64], law: str, stiffness: float, dt: float, steps: int, every: int
) -> NDArray[np.float64]:
    """A chain of cells of diameter 1 relaxes, each pushed by the cells before and after it only.

    The cells lie on the x axis in three dimensions, and the compiled engine's own loop moves them: forward Euler at
    unit friction.

    positions  (cells,) ascending
    returns    (steps // every + 1, cells) positions after 0, every, 2 every, … steps

    Raises ConfigurationRejected when cells pass each other: the step is too long.
    """
    cells = len(positions)
    step = loops_of(replace(MONOLAYER, name=f"chain-{law}", push_on=PUSHES[law])).step
    numbers = numbers_of(parameters({"dt": dt, "k1": stiffness}))
    here = np.column_stack([positions, np.zeros((cells, 2)), np.full(cells, 0.5)])
    there, listed = here.copy(), here[:, :3].copy()
    first, others = chain_lists(cells)
    mobile, neighbours, overlaps = np.zeros(cells, np.bool_), np.zeros(cells, np.int32), np.zeros(cells)
    kept = [here[:, 0].copy()]
    for done in range(1, steps + 1):
        step(0, cells, here, there, listed, mobile, first, others, neighbours, overlaps, np.zeros((1, 1, 1)), 0.0,
             math.inf, numbers)  # fmt: skip
        here, there = there, here
        if done % every == 0:
            if not np.all(np.diff(here[:, 0]) > 0):
                raise ConfigurationRejected(f"cells pass each other by step {done}", "a step that keeps their order",
                                            "choose a smaller --dt")  # fmt: skip
            kept.append(here[:, 0].copy())
    return np.array(kept)


def chain_lists(cells: int) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Neighbour lists of a chain: the cell before and the cell after, no other however near."""
    lists = [[other for other in (cell - 1, cell + 1) if 0 <= other < cells] for cell in range(cells)]
    first = np.cumsum([0, *(len(others) for others in lists)], dtype=np.int64)
    return first, np.array([other for others in lists for other in others], np.int32)
