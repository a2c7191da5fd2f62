"""A spheroid: tumour cells that grow as a ball in a well, as far as nutrient reaches.

The second type of cell, simpler than neuroblasts, made of the same parts: a declared state, rules, a law of contact and
a ground. Cells cycle where there is nutrient enough, are arrested where there is less, die where there is too little
for too long, and their remains shrink to nothing. Nutrient diffuses in from the medium, which living cells use up.

The layers (cycling rim, arrested shell, necrotic core) are those of Greenspan 1972, doi 10.1002/sapm1972514317, and of
the spheroids measured by Browning et al. 2021, doi 10.7554/eLife.73020; the balance of nutrient is that of Grimes et
al. 2014, doi 10.1098/rsif.2013.1124, with Michaelis-Menten uptake in place of a constant one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_banded

from ..core import chance as named
from ..core.errors import CellFault, ConfigurationRejected
from ..core.quantity import Parameter
from .behaviours.division import direction_on_sphere, lay_daughter
from .cell import BODY, REMOVED, Cells, State, Variable, flags, living
from .cell_type import CellType
from .colony import Colony, ColonyOutcome
from .living import Census, LivingColony
from .mechanics import pushes
from .modes import Switches
from .observe import composition_of, counts_of
from .parameters import ParameterSet
from .rule import Behaviour, Cell, Hour, Luck, Near, Numbers, by_kind, chance, compiled, draws, rule
from .voxels import Grid, span_of

Profile = NDArray[np.float64]

MODEL = "spheroid model of this project, after Greenspan 1972 and Browning et al. 2021"
GRIMES = "Grimes et al. 2014, doi 10.1098/rsif.2013.1124 (HCT116)"
SHAPE = "ASSUMED: fixed by hand, not calibrated"

STATE = State(
    (
        *BODY,
        Variable("nutrient", np.float64, "1", "nutrient where the cell is, in parts of fresh medium's", 1.0),
        Variable("starved", np.int32, "h", "hours with too little nutrient to live", inherited=False),
        *flags(arrested="whether nutrient is too short to cycle"),
    )
)

HOUR = np.dtype([("medium", np.float64)], align=True)
"""What the cells share in an hour: nutrient of the medium, in parts of a fresh one's."""

TABLE: Mapping[str, Parameter] = {
    "P_cycle": Parameter(0.6, "1/hour", "chance to advance the cycle by an hour, with nutrient", MODEL, (0.3, 1.0)),
    "stage_M": Parameter(24.0, "hour", "end of the cycle: division", MODEL),
    "uptake": Parameter(22.1, "mmHg/second", "uptake of nutrient by living tissue, as oxygen", GRIMES, (5.0, 60.0)),
    "medium": Parameter(100.0, "mmHg", "nutrient of fresh medium, as oxygen", GRIMES, (50.0, 160.0)),
    "diffusivity": Parameter(2000.0, "micrometer^2/second", "of nutrient in tissue", GRIMES, (1500.0, 2500.0)),
    "half": Parameter(0.01, "1", "nutrient at which uptake is half its maximum", SHAPE, (0.001, 0.05), True),
    "arrest": Parameter(0.5, "1", "nutrient below which a cell is arrested", MODEL, (0.05, 0.9)),
    "death": Parameter(0.05, "1", "nutrient below which a cell starves", MODEL, (0.005, 0.6)),
    "endurance": Parameter(24.0, "hour", "of starving that kills", MODEL, (6.0, 96.0)),
    "P_lysis": Parameter(
        0.08, "1/hour", "chance of a dead cell's remains to lose a tenth of a full cell's volume", MODEL, (0.01, 0.5)),
    "depletion": Parameter(
        4e5, "day", "cell-days of living cells that bring the medium's nutrient to 1/e",
        "ASSUMED: medium is used up in proportion to what is left", (5e4, 1e7), True),
    "seeded": Parameter(0.75, "1", "cells in the formed ball, per seeded cell", MODEL, (0.3, 1.5)),
    "grain": Parameter(1.0, "1", "cells that a simulated one stands for: calibrate with it", SHAPE, (1.0, 8.0), True),
    "R_cell": Parameter(9.0, "micrometer", "radius of a cell at the start of its cycle", SHAPE, (6.0, 10.0), True),
    "adhesion": Parameter(1.0, "1", "pull across a gap, per push of as much overlap", SHAPE, (0.0, 2.0), True),
    "adhesion_reach": Parameter(0.35, "1", "gap at which pull ends, per sum of radii", SHAPE, (0.0, 0.4), True),
    "closing": Parameter(0.2, "1/hour", "of the room below a cell that is closed in an hour", SHAPE, (0.05, 1.0), True),
    "R_neighbours": Parameter(30.0, "micrometer", "reach of contacts", SHAPE),
    "N_neighbours": Parameter(0.0, "1", "every cell is crowded: mechanics goes on until cells are at rest", SHAPE),
    "R_search": Parameter(30.0, "micrometer", "distance beyond which cells do not touch", SHAPE),
    "displace": Parameter(2.0, "1", "reflection at a wall (there is none)", SHAPE),
    "k1": Parameter(2.2e-3, "newton/meter", "stiffness of a contact", "Pathmanathan 2009", (1e-3, 5e-3)),
    "mu": Parameter(0.4, "newton*second/meter", "friction of a cell", "Pathmanathan 2009", (0.1, 1.0)),
    "dt": Parameter(36.0, "second", "step of mechanics", "Pathmanathan 2009"),
    "k_locom": Parameter(1.0, "1", "crowded cells push no harder", SHAPE),
    "overlap_enough": Parameter(0.05, "1", "largest overlap at rest, in R_cell", SHAPE),
    "iterations_enough": Parameter(3.0, "1", "mechanics stops after this number and two more iterations", SHAPE),
}  # fmt: skip

NUMBERS = np.dtype([(name, np.float64) for name in (*TABLE, "daughter_distance")], align=True)

ADVANCE, LYSIS = draws("spheroid.advance", "spheroid.lysis")
PLACES = ("spheroid.x", "spheroid.y", "spheroid.z", "spheroid.phase")
draws(*PLACES)

SHELL = 10.0
"""µm: thickness of the shells on which nutrient is balanced."""

REMAINS = 10
"""Steps in which a full cell's remains shrink to nothing: so the room that they leave is closed as it opens."""


@rule(source=MODEL)
def starve(cell: Cell, luck: Luck, near: Near, colony: Hour, p: Numbers) -> None:
    """Hours with too little nutrient add up and kill; hours with enough undo them one by one."""
    if living(cell):
        cell.starved = cell.starved + 1 if cell.nutrient < p.death else max(0, cell.starved - 1)
        if cell.starved >= p.endurance:
            cell.necro = True
            cell.cycle = int(p.stage_M) + 1 + int(0.5 * REMAINS * (1.0 - cell.cycle / p.stage_M))


@rule(source=MODEL)
def shrink(cell: Cell, luck: Luck, near: Near, colony: Hour, p: Numbers) -> None:
    """The remains of a dead cell shrink step by step, from the volume with which it died, and vanish."""
    if cell.necro and chance(luck, LYSIS, p.P_lysis):
        if cell.cycle < p.stage_M + REMAINS:
            cell.cycle += 1
        else:
            cell.fate = REMOVED


@rule(source=MODEL)
def cycle(cell: Cell, luck: Luck, near: Near, colony: Hour, p: Numbers) -> None:
    """A cell with enough nutrient may advance its cycle by an hour; the others are arrested."""
    if living(cell):
        cell.arrested = cell.nutrient < p.arrest
        if not cell.arrested and chance(luck, ADVANCE, p.P_cycle):
            cell.cycle += 1


@rule(source=f"{MODEL}; direction uniform on the sphere")
def divide(cell: Cell, luck: Luck, near: Near, colony: Hour, p: Numbers) -> None:
    """At the end of its cycle a cell divides."""
    if living(cell) and cell.cycle >= p.stage_M:
        lay_daughter(cell, direction_on_sphere(luck, cell.kind))


SPHEROID_HOUR: tuple[Behaviour, ...] = (starve, shrink, cycle, divide)
each_hour = (SPHEROID_HOUR,)
live = by_kind(each_hour, __name__, "live")


@compiled
def stick(distance: float, touching: float, p: Any) -> float:
    """Push in proportion to overlap; a gap pulls, most halfway to where it ends."""
    overlap = touching - distance
    if overlap >= 0.0:
        return overlap
    reach: float = min(p.adhesion_reach * touching, p.R_neighbours - touching)
    if -overlap >= reach:
        return 0.0
    pull: float = p.adhesion * overlap * (1.0 + overlap / reach)
    return pull


push_on = pushes(stick, __name__, "push_on")


def parameters(values: Mapping[str, float] | None = None) -> ParameterSet:
    """The numbers of a run, some replaced. Raises ConfigurationRejected for an unknown name or a wrong number."""
    return ParameterSet("spheroid", TABLE).with_values(values or {})


def radii_of(numbers: ParameterSet) -> Profile:
    """(stage_M + 1 + REMAINS,) radius in µm: by completed hours of the cycle, in which volume grows evenly to twice;
    then that of remains, step by step.
    """
    grown = 1.0 + np.arange(int(numbers["stage_M"]) + 1) / numbers["stage_M"]
    remains = 2.0 * (1.0 - np.arange(REMAINS) / REMAINS)
    return np.asarray(numbers["R_cell"] * np.cbrt(numbers["grain"] * np.append(grown, remains)))


PACKING = 0.74
"""Share of a ball that its cells fill: where they are laid before the first hour, and below which room is closed."""


def settle(
    cell_type: CellType, colony: Colony, seed: int, switches: Switches, parameters: ParameterSet
) -> LivingColony:
    """A ball of cells, as many as form it of the ``cell_count`` seeded; ``oxygen`` is the nutrient of fresh medium."""
    given = colony.surroundings
    if given.cell_count < 1 or not 0.0 <= given.oxygen <= 1.0:
        raise ConfigurationRejected(
            f"spheroid {colony.name!r} was given {given.cell_count} seeded cells and nutrient {given.oxygen}",
            "at least one cell, and nutrient from 0 to 1", "set cell_count and oxygen of its surroundings")  # fmt: skip
    domain = colony.domain or colony.name
    cells = cell_type.state.new(max(1, round(parameters["seeded"] * given.cell_count / parameters["grain"])), 1, 0)
    x, y, z, phase = (named.uniform(seed, domain, name, cells["identity"], given.clock) for name in PLACES)
    cells["cycle"] = (parameters["stage_M"] * phase).astype(int)
    radii = radii_of(parameters)
    radius = float(np.cbrt((radii[cells["cycle"]] ** 3).sum() / PACKING))
    for axis, value in zip(("x", "y", "z"), _in_ball(x, y, z, radius), strict=True):
        cells[axis] = value
    numbers = np.zeros(1, NUMBERS)
    for name, parameter in parameters.table.items():
        numbers[name] = parameter.value
    for name in ("R_cell", "R_neighbours", "R_search"):
        numbers[name] *= np.cbrt(parameters["grain"])
    numbers["daughter_distance"] = numbers["R_cell"]
    shape = (2 * span_of(radius) - 1,) * 3
    ball = LivingColony(
        cell_type=cell_type, name=colony.name, key=named.key(seed, domain), cells=cells, next_identity=len(cells) + 1,
        half_edge=radius, wall=math.inf, matrix=np.zeros(shape), elsewhere=0.0, clock=given.clock, drugs=(),
        given_oxygen=given.oxygen, switches=switches, parameters=parameters, numbers=numbers, radii=radii,
    )  # fmt: skip
    ball.counts.append(counts_of(cells))
    return ball


def _in_ball(x: Profile, y: Profile, z: Profile, radius: float) -> tuple[Profile, Profile, Profile]:
    """Points of the unit cube as points spread evenly in a ball."""
    height, angle, distance = 2 * z - 1, 2 * np.pi * x, radius * np.cbrt(y)
    around = np.sqrt(1 - height**2)
    return distance * around * np.cos(angle), distance * around * np.sin(angle), distance * height


@dataclass(frozen=True)
class Layers:
    """What is measured of a spheroid.

    radius     µm, of the whole
    arrested   radius of what does not cycle (arrested or dead) over that of the whole
    necrotic   radius of the necrotic core over that of the whole
    """

    radius: float
    arrested: float
    necrotic: float


OUTSIDE = 0.05
"""Share of the cells outside the shell from which the radius of the whole is told."""


def distances_of(cells: Cells) -> Profile:
    """µm from the middle of all cells."""
    where = np.column_stack([cells["x"], cells["y"], cells["z"]])
    return np.asarray(np.sqrt(((where - where.mean(axis=0)) ** 2).sum(axis=1)))


def layers_of(cells: Cells, radii: Profile) -> Layers:
    """The layers of a spheroid as microscopy sees them.

    The whole: the sphere that would hold all cells if they were spread evenly, told from all but the outermost 5 %, and
    a cell's radius. A layer's edge: the sphere with as many cells of the layer outside as others inside.
    """
    r = distances_of(cells)
    own = float(radii[cells["cycle"]].mean())
    radius = float(np.quantile(r, 1 - OUTSIDE)) / (1 - OUTSIDE) ** (1 / 3) + own
    dead = cells["necro"] | cells["apop"]
    return Layers(radius, *(min(_edge(r, inner) / radius, 1.0) for inner in (cells["arrested"] | dead, dead)))


def _edge(r: Profile, inner: NDArray[np.bool_]) -> float:
    """Radius of the sphere with as many inner cells outside as outer cells inside."""
    count = int(inner.sum())
    if count == 0:
        return 0.0
    return float(np.partition(r, count - 1)[count - 1])


def nutrient_profile(living_share: Profile, medium: float, radius: float, numbers: ParameterSet) -> Profile:
    """Nutrient in the middle of equal shells of a ball, in parts of fresh medium's.

        D / r² d/dr (r² do/dr) = (uptake / medium) · share · o / (o + half),   o(radius) = medium

    Finite volumes, Newton's method. Raises CellFault when the balance is not met.
    """
    shells = len(living_share)
    h = radius / shells
    edges = h * np.arange(shells + 1)
    volume = (edges[1:] ** 3 - edges[:-1] ** 3) / 3.0
    exchange = edges[1:] ** 2 * numbers["diffusivity"] / np.append(np.full(shells - 1, h), 0.5 * h)
    demand = volume * living_share * numbers["uptake"] / numbers["medium"]
    half, o = numbers["half"], np.full(shells, medium)
    inward, outward = np.append(0.0, exchange[:-1]), exchange
    for _ in range(MOST_NEWTON_STEPS):
        beyond = np.append(o[1:], medium)
        before = np.append(o[0], o[:-1])
        residual = outward * (beyond - o) - inward * (o - before) - demand * o / (o + half)
        if np.abs(residual).max() <= BALANCE * max(demand.sum(), exchange[-1] * medium, 1e-300):
            return o
        bands = np.zeros((3, shells))
        bands[0, 1:], bands[2, :-1] = -outward[:-1], -inward[1:]
        bands[1] = outward + inward + demand * half / (o + half) ** 2
        o = np.clip(o + solve_banded((1, 1), bands, residual), 0.1 * o, medium)
    raise CellFault("nutrient of a spheroid did not come into balance", "a balance within 1e-9 of the uptake",
                    "report the case with its parameters")  # fmt: skip


MOST_NEWTON_STEPS, BALANCE = 200, 1e-9


def medium_of(colony: LivingColony) -> float:
    """Nutrient left in the medium, after what living cells have used in the hours before."""
    cell_days = colony.parameters["grain"] * sum(int(counts[0]) for counts in colony.counts[:-1]) / 24.0
    return colony.given_oxygen * math.exp(-cell_days / colony.parameters["depletion"])


def prepare(colony: LivingColony, census: Census) -> tuple[NDArray[Any], Grid]:
    """Nutrient of this hour, by the cell's distance from the middle (ASSUMED: a spheroid is round)."""
    cells, medium = colony.cells, medium_of(colony)
    shared = np.zeros(1, HOUR)
    shared["medium"] = medium
    if len(cells):
        close_room(cells, colony.radii, colony.parameters["closing"])
        r, radius = distances_of(cells), layers_of(cells, colony.radii).radius
        shells = max(4, round(radius / SHELL))
        place = np.minimum((r / radius * shells).astype(int), shells - 1)
        alive = ~(cells["necro"] | cells["apop"])
        counts = np.bincount(place, minlength=shells)
        share = np.bincount(place, alive, shells) / np.maximum(counts, 1)
        profile = nutrient_profile(share, medium, radius, colony.parameters)
        middles = radius / shells * (np.arange(shells) + 0.5)
        cells["nutrient"] = np.interp(r, np.append(middles, radius), np.append(profile, medium))
        colony.volumes.append((_ball(radius), _ball(radius)))
        colony.oxygens.append(float(cells["nutrient"].mean()))
    return shared, np.full(colony.matrix.shape, medium)


def close_room(cells: Cells, radii: Profile, closing: float) -> None:
    """Cells above an empty place sink towards the middle, by a part of what is missing below them.

    ASSUMED: the tension of a spheroid's surface closes the room that remains leave; contacts alone leave a hollow.
    """
    axes = ("x", "y", "z")
    where = np.column_stack([cells[axis] for axis in axes])
    middle = where.mean(axis=0)
    r = distances_of(cells)
    order = np.argsort(r, kind="stable")
    cubes = radii[cells["cycle"][order]] ** 3
    filled = np.empty_like(r)
    filled[order] = np.cbrt((np.cumsum(cubes) - 0.5 * cubes) / PACKING)
    sunk = 1.0 - closing * np.maximum(r - filled, 0.0) / np.maximum(r, 1e-9)
    for column, axis in enumerate(axes):
        cells[axis] = middle[column] + sunk * (where[:, column] - middle[column])


def _ball(radius: float) -> float:
    """mm³ of a ball of this radius in µm."""
    return 4.0 / 3.0 * math.pi * radius**3 * 1e-9


def outcome_of(colony: LivingColony) -> ColonyOutcome:
    """What the spheroid became. ``state`` is not kept: a spheroid is grown in one go."""
    counts = np.array(colony.counts)
    present = counts[-1]
    left = len(colony.cells) > 0
    now = layers_of(colony.cells, colony.radii) if left else Layers(math.nan, math.nan, math.nan)
    return ColonyOutcome(
        name=colony.name,
        volume_ratio=_ball(now.radius) / colony.volumes[0][0] if left and colony.volumes else math.nan,
        composition=composition_of(present, 0.0),
        ecm=0.0,
        oxygen=colony.oxygens[-1] if colony.oxygens else colony.given_oxygen,
        cell_count=int(present.sum()),
        counts=counts,
        moments={},
        extra={
            "radius_um": now.radius, "arrested": now.arrested, "necrotic": now.necrotic, "medium": medium_of(colony),
            "births": int(colony.births.sum()), "cleared": int(colony.cleared.sum()),
            "mechanics_iterations": colony.iterations, "cell_iterations": colony.cell_iterations,
        },
    )  # fmt: skip


CELLS = CellType(
    name="spheroid",
    state=STATE,
    each_hour=each_hour,
    live=live,
    push_on=push_on,
    parameters=parameters,
    settle=settle,
    prepare=prepare,
    outcome=outcome_of,
)
"""One kind of cell, in a ball."""
