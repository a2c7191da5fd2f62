"""Glioma cells: they divide where there is room and oxygen, wander, and die of radiation when they divide.

The third type of cell, made of the same parts as the others: the body, contact, chance and the linear quadratic law.
A colony is a cube of brain in which cells are as dense as its composition says, a few of them in otherwise healthy
tissue or a crowd; nothing leaves the cube. What surrounds the cells but is no tumour is not simulated.

Three in ten cells cycle, in three days; the others are quiescent for months. Most of the newborn are lost, so that the
tumour grows slowly though it turns over fast (``glioma_kinetics``).

A fraction of radiation dooms a cell (``doomed``): it lives on and takes room until a division kills it, the first or a
later one, of which its daughters inherit the risk [mitotic death: Joiner and van der Kogel 2009, Basic Clinical
Radiobiology, ch. 3]. Who does not divide does not die of it, so the doomed go over months, as the quiescent wake.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core import chance as named
from ..core.errors import ConfigurationRejected
from ..core.quantity import Parameter
from . import glioma_kinetics as kinetics
from .behaviours.division import direction_on_sphere, lay_daughter
from .behaviours.radiation import HALFWAY, killed
from .cell import BODY, REMOVED, Cells, State, Variable, flags, living
from .cell_type import CellType
from .colony import Colony, ColonyOutcome, Surroundings
from .glioma_room import at_most, expected_within, share_inside
from .living import Census, LivingColony
from .mechanics import push_on
from .modes import Switches
from .observe import composition_of, counts_of
from .parameters import ParameterSet
from .rule import FIRST, Behaviour, Cell, Hour, Luck, Near, Numbers, by_kind, chance, compiled, draws, rule, uniform
from .voxels import Grid, span_of

MODEL = "glioma model of this project"
DENSEST = "github.com/primagesheffield/flamegpu2-neuroblastoma, commit 0d8f6fa: cells per volume that is all cells"
KINETICS = "growth fraction, cycle, rest and net growth of glioma_kinetics.PARAMETERS"
HAND = "ASSUMED: fixed by hand, not calibrated"

STATE = State(
    (
        *BODY,
        Variable("starved", np.int32, "h", "hours with too little oxygen to live", inherited=False),
        *flags(
            doomed="whether radiation has broken it, or what it came of, beyond repair: each division may kill it",
            resting="whether it waits, for want of room or oxygen",
            quiescent="whether it has left the cycle",
            newborn="whether it was born in the hour before: its fate is open",
        ),
    )
)

HOUR = np.dtype([(name, np.float64) for name in ("dose_linear", "dose_quadratic", "wall", "crowd")], align=True)
"""What the cells share in an hour: the sums of alpha d and beta d² of its fractions; µm from the centre to a wall, and
how many others are within reach of a cell where tissue is as dense as the colony (``glioma_room``)."""

TABLE: Mapping[str, Parameter] = {
    "P_cycle": Parameter(
        kinetics.ADVANCE, "1/hour", "chance to advance the cycle by a step, with room and oxygen: 24 in 75.6 h",
        kinetics.CYCLE.source, (kinetics.STAGES / 121.0, kinetics.STAGES / 30.0)),
    "stage_M": Parameter(float(kinetics.STAGES), "1", "steps of the cycle, at whose end a cell divides", MODEL),
    "growth_fraction": Parameter(
        kinetics.GROWTH_FRACTION.value, "1", "share of the cells that cycle, at time 0",
        kinetics.GROWTH_FRACTION.source, kinetics.GROWTH_FRACTION.range),
    "P_lost": Parameter(
        kinetics.LOST, "1", "chance of a newborn cell to die at once", f"follows from {KINETICS}", (0.0, 0.5)),
    "P_rest": Parameter(
        kinetics.RESTING, "1", "chance of a newborn cell to fall quiescent", f"follows from {KINETICS}", (0.0, 0.5)),
    "P_wake": Parameter(
        kinetics.WAKE, "1/hour", "chance of a quiescent cell with room and oxygen to wake: once in eight weeks",
        kinetics.REST.source, (1.0 / 3600.0, 1.0 / 504.0), True),
    "density": Parameter(9.39e4, "1/millimeter^3", "cells per volume of tissue that is all cells", DENSEST),
    "N_crowd": Parameter(
        7.0, "1", "cells within R_neighbours, itself counted, beyond which a cell rests",
        "ASSUMED: contact inhibition; of cells strewn at random nine in ten rest at full density, one in twenty at a "
        "third of it", (6.0, 11.0), True),
    "hypoxia": Parameter(
        HALFWAY.value, "1", "oxygen below which a cell rests (3 mmHg, over that of blood)",
        "ASSUMED: as radiosensitivity's", (1.0 / 72.0, 5.0 / 72.0), True),
    "anoxia": Parameter(0.5 / 72.0, "1", "oxygen below which a cell starves (0.5 mmHg)", HAND, (0.0, 1.5 / 72.0), True),
    "endurance": Parameter(48.0, "hour", "of starving that kills", HAND, (12.0, 168.0), True),
    "P_fatal": Parameter(
        1.0 / kinetics.ATTEMPTS.value, "1", "chance of a division of a doomed cell to kill it",
        kinetics.ATTEMPTS.source, (1.0 / 3.0, 1.0), True),
    "P_clear": Parameter(
        1.0 / 3.0, "1/hour", "chance of an apoptotic cell to be cleared",
        "apoptosis is seen for 3 hours (Bursch et al. 1990, Carcinogenesis 11:847-853, liver of rats)", (0.05, 1.0)),
    "P_resolve": Parameter(
        6.0e-3, "1/hour", "chance of a necrotic cell to be cleared: once in a week", HAND, (1e-3, 5e-2), True),
    "motility": Parameter(
        6.0, "micrometer", "longest step in an hour along each axis",
        "ASSUMED: stirs the colony, so that cells lie as if strewn; spread between elements is the tissue scale's",
        (0.0, 10.0), True),
    "R_cell": Parameter(7.0, "micrometer", "radius of a cell at the start of its cycle", HAND, (5.0, 9.0), True),
    "R_neighbours": Parameter(30.0, "micrometer", "reach of contacts", MODEL),
    "N_neighbours": Parameter(2.0, "1", "more cells in reach than this push", MODEL),
    "R_search": Parameter(30.0, "micrometer", "distance beyond which cells do not touch", MODEL),
    "displace": Parameter(2.0, "1", "reflection at the walls of the cube: a mirror", MODEL),
    "k1": Parameter(2.2e-3, "newton/meter", "stiffness of a contact", "Pathmanathan 2009", (1e-3, 5e-3)),
    "mu": Parameter(0.4, "newton*second/meter", "friction of a cell", "Pathmanathan 2009", (0.1, 1.0)),
    "dt": Parameter(36.0, "second", "step of mechanics", "Pathmanathan 2009"),
    "k_locom": Parameter(1.0, "1", "crowded cells push no harder", MODEL),
    "min_overlap": Parameter(0.0, "micrometer", "overlap from which cells push", MODEL),
    "overlap_enough": Parameter(0.15, "1", "largest overlap at rest, in R_cell", MODEL),
    "iterations_enough": Parameter(3.0, "1", "mechanics stops after this number and two more iterations", MODEL),
}  # fmt: skip

NUMBERS = np.dtype([(name, np.float64) for name in (*TABLE, "daughter_distance")], align=True)

(ADVANCE, HIT, FATAL, CLEAR) = draws("glioma.advance", "glioma.hit", "glioma.fatal", "glioma.clear")
(FATE, WAKE, ROOM) = draws("glioma.fate", "glioma.wake", "glioma.room")
(WALK_X, WALK_Y, WALK_Z) = draws("glioma.walk_x", "glioma.walk_y", "glioma.walk_z")
PLACES = ("glioma.x", "glioma.y", "glioma.z", "glioma.phase", "glioma.quiescent", "glioma.doomed")
SHARED_LUCK = "glioma.share"
draws(*PLACES, SHARED_LUCK)


@rule(
    source="linear quadratic model: Fowler 1989, doi 10.1259/0007-1285-62-740-679; oxygen: Alper et al. 1956, "
    "doi 10.1038/178978a0. ASSUMED: what is not repaired within the hour is never repaired"
)
def be_doomed(cell: Cell, luck: Luck, near: Near, colony: Hour, p: Numbers) -> None:
    """The fractions of this hour may doom a living cell."""
    if living(cell) and chance(luck, HIT, killed(near.oxygen, colony.dose_linear, colony.dose_quadratic)):
        cell.doomed = True


@rule(source=MODEL)
def starve(cell: Cell, luck: Luck, near: Near, colony: Hour, p: Numbers) -> None:
    """Hours without oxygen add up and kill; hours with enough undo them one by one."""
    if living(cell):
        cell.starved = cell.starved + 1 if near.oxygen < p.anoxia else max(0, cell.starved - 1)
        if cell.starved >= p.endurance:
            cell.necro = True


@rule(source=f"{MODEL}; the chances follow from {KINETICS}")
def meet_its_fate(cell: Cell, luck: Luck, near: Near, colony: Hour, p: Numbers) -> None:
    """A newborn cell dies, falls quiescent, or goes on cycling."""
    if living(cell) and cell.newborn:
        cell.newborn = False
        fate = uniform(luck, FATE, FIRST)
        cell.apop = fate < p.P_lost
        cell.quiescent = p.P_lost <= fate < p.P_lost + p.P_rest


@compiled
def has_room(cell: Cell, luck: Luck, colony: Hour, p: Numbers) -> Any:
    """Whether no more than N_crowd cells are within reach, itself and those beyond the walls counted."""
    beyond = colony.crowd * (1.0 - share_inside(cell.x, cell.y, cell.z, colony.wall, p.R_neighbours))
    return chance(luck, ROOM, at_most(p.N_crowd - cell.neighbours, beyond))


@rule(source=f"{MODEL}; contact inhibition ASSUMED, see N_crowd")
def cycle(cell: Cell, luck: Luck, near: Near, colony: Hour, p: Numbers) -> None:
    """With room and oxygen a cycling cell may advance by a step and a quiescent one may wake; the others wait."""
    if living(cell):
        cell.resting = near.oxygen < p.hypoxia or not has_room(cell, luck, colony, p)
        if not cell.resting:
            if not cell.quiescent:
                cell.cycle += chance(luck, ADVANCE, p.P_cycle)
            elif chance(luck, WAKE, p.P_wake):
                cell.quiescent = False


@rule(
    source=f"{MODEL}; mitotic death: Joiner and van der Kogel 2009, ch. 3; a chance at every division: Sakashita et "
    "al. 2014, doi 10.1093/jrr/rrt129 (abstract read)"
)
def divide(cell: Cell, luck: Luck, near: Near, colony: Hour, p: Numbers) -> None:
    """At the end of its cycle a cell divides; if it is doomed it may die of that, else its daughters are doomed too."""
    if living(cell) and cell.cycle >= p.stage_M:
        if cell.doomed and chance(luck, FATAL, p.P_fatal):
            cell.apop = True
        else:
            lay_daughter(cell, direction_on_sphere(luck, cell.kind))
            cell.newborn = True


@rule(source=MODEL)
def wander(cell: Cell, luck: Luck, near: Near, colony: Hour, p: Numbers) -> None:
    """A living cell takes a step in a random direction, in a crowd too: else wanderers would get stuck in crowds."""
    if living(cell):
        cell.x += p.motility * (2.0 * uniform(luck, WALK_X, FIRST) - 1.0)
        cell.y += p.motility * (2.0 * uniform(luck, WALK_Y, FIRST) - 1.0)
        cell.z += p.motility * (2.0 * uniform(luck, WALK_Z, FIRST) - 1.0)


@rule(source=MODEL)
def be_cleared(cell: Cell, luck: Luck, near: Near, colony: Hour, p: Numbers) -> None:
    """A dead cell is cleared by its neighbours: an apoptotic one soon, a necrotic one later."""
    if not living(cell) and chance(luck, CLEAR, p.P_clear if cell.apop else p.P_resolve):
        cell.fate = REMOVED


GLIOMA_HOUR: tuple[Behaviour, ...] = (be_doomed, starve, meet_its_fate, cycle, divide, wander, be_cleared)
each_hour = (GLIOMA_HOUR,)
live = by_kind(each_hour, __name__, "live")


def parameters(values: Mapping[str, float] | None = None) -> ParameterSet:
    """The numbers of a run, some replaced. Raises ConfigurationRejected for an unknown name or a wrong number."""
    return ParameterSet("glioma", TABLE).with_values(values or {})


def radii_of(numbers: ParameterSet) -> NDArray[np.float64]:
    """(stage_M + 1,) radius in µm by completed hours of the cycle, in which volume grows evenly to twice."""
    hours = int(numbers["stage_M"])
    return np.asarray(numbers["R_cell"] * np.cbrt(1.0 + np.arange(hours + 1) / hours))


def checked(given: Surroundings, name: str) -> Surroundings:
    """The surroundings if glioma cells can live in them. Raises ConfigurationRejected naming the colony."""
    fractions = np.asarray(given.composition, float)
    problems = {
        f"a volume of {given.volume} mm³": given.volume > 0 and math.isfinite(given.volume),
        f"oxygen of {given.oxygen}": 0 <= given.oxygen <= 1,
        f"a composition of {given.composition}": bool(np.all(fractions >= 0) and fractions.sum() <= 1 + 1e-9),
        "cells of a second kind": not fractions[3:].any(),
        "radiation that is no number >= 0": all(
            math.isfinite(one.hour) and 0 <= one.linear < math.inf and 0 <= one.quadratic < math.inf
            for one in given.radiation
        ),
        f"{given.cell_count} cells": 0 <= given.cell_count < 2**31,
        f"unknown moments among {sorted(given.moments)}": set(given.moments) <= set(MOMENTS),
    }
    for found, holds in problems.items():
        if not holds:
            raise ConfigurationRejected(f"colony {name!r} was given {found}", "finite numbers in their range",
                                        "see agents.colony.Surroundings for each number's range")  # fmt: skip
    return given


MOMENTS = ("doomed_share", "doomed_cycle", "quiescent_sound", "quiescent_doomed")
"""What a step leaves for the next: the doomed among the living, the steps of the cycle of those of them that cycle, and
the quiescent among the sound and among the doomed."""


def settle(
    cell_type: CellType, colony: Colony, seed: int, switches: Switches, parameters: ParameterSet
) -> LivingColony:
    """Cells strewn evenly in their cube, as many of each class as the composition says: none is ``state``'s."""
    given, domain = checked(colony.surroundings, colony.name), colony.domain or colony.name
    share = np.asarray(given.composition[:3], float)
    expected = given.cell_count or parameters["density"] * given.volume * share.sum()
    ends = np.rint(expected * np.cumsum(share) / max(share.sum(), 1e-300)).astype(int)
    cells = cell_type.state.new(int(ends[-1]), 1, 0)
    drawn = {name: named.uniform(seed, domain, name, cells["identity"], given.clock) for name in PLACES}
    half = 500.0 * float(np.cbrt(given.volume))
    for axis in ("x", "y", "z"):
        cells[axis] = half * (2.0 * drawn[f"glioma.{axis}"] - 1.0)
    cells["apop"][ends[0] : ends[1]], cells["necro"][ends[1] :] = True, True
    luck = float(named.uniform(seed, domain, SHARED_LUCK, 0, given.clock))
    _set_cycle(cells[: ends[0]], drawn, luck, given, parameters)
    numbers = np.zeros(1, NUMBERS)
    for name, parameter in parameters.table.items():
        numbers[name] = parameter.value
    numbers["daughter_distance"] = numbers["R_cell"]
    shape = (2 * span_of(half) - 1,) * 3
    settled = LivingColony(
        cell_type=cell_type, name=colony.name, key=named.key(seed, domain), cells=cells, next_identity=len(cells) + 1,
        half_edge=half, wall=half, matrix=np.zeros(shape), elsewhere=0.0, clock=given.clock, drugs=(),
        radiation=given.radiation, given_oxygen=given.oxygen, switches=switches, parameters=parameters,
        numbers=numbers, radii=radii_of(parameters),
    )  # fmt: skip
    settled.counts.append(counts_of(cells))
    return settled


def _set_cycle(
    alive: Cells, drawn: Mapping[str, NDArray[np.float64]], luck: float, given: Surroundings, numbers: ParameterSet
) -> None:
    """Who is doomed, who is quiescent, and how far the others are in their cycle: as many as the shares say.

    luck  the same for all, rounds what is no whole cell

    Ages are even: in growth this slow the newborn that cycle are hardly more than the dividing. ASSUMED: doomed cells
    of the step before are evenly old, from an age that gives their mean up to their division.
    """
    end, at_rest = numbers["stage_M"], 1.0 - numbers["growth_fraction"]
    found = {name: given.moments.get(name, (0.0, 0.0))[0] for name in MOMENTS}
    resting = (given.moments.get("quiescent_sound", (at_rest, 0.0))[0], found["quiescent_doomed"])
    youngest = (0.0, max(0.0, 2.0 * found["doomed_cycle"] - end))
    phase, doomed, quiescent = (drawn[f"glioma.{name}"][: len(alive)] for name in ("phase", "doomed", "quiescent"))
    alive["doomed"] = laid_evenly(doomed, luck) < found["doomed_share"]
    for kind in (False, True):
        mine = np.flatnonzero(alive["doomed"] == kind)
        alive["quiescent"][mine] = laid_evenly(quiescent[mine], luck) < resting[kind]
        cycling = mine[~alive["quiescent"][mine]]
        ages = youngest[kind] + (end - youngest[kind]) * laid_evenly(phase[cycling], luck)
        alive["cycle"][mine] = 0
        alive["cycle"][cycling] = np.minimum(ages, end - 1.0).astype(int)


def laid_evenly(drawn: NDArray[np.float64], luck: float) -> NDArray[np.float64]:
    """(cells,) numbers in [0, 1) in the order of these draws, one in each of as many equal parts, ``luck`` of its part
    from its lower end: a share of them is below every share, to less than one cell, and on average over ``luck``
    exactly. Drawn one by one, the few sound among the doomed would be as many as luck has it in every macro step.
    """
    ranks = np.empty(len(drawn))
    ranks[np.argsort(drawn, kind="stable")] = np.arange(len(drawn))
    return (ranks + luck) / max(len(drawn), 1)


def prepare(colony: LivingColony, census: Census) -> tuple[NDArray[Any], Grid]:
    """The fractions of this hour, and how crowded it is; oxygen as the tissue hands it over (ASSUMED: even, and for the
    whole step).
    """
    shared = np.zeros(1, HOUR)
    shared["wall"] = colony.wall
    shared["crowd"] = expected_within(colony.parameters["R_neighbours"], int(census.counts.sum()), colony.wall)
    for fraction in colony.radiation:
        if math.floor(fraction.hour) == colony.time:
            shared["dose_linear"] += fraction.linear
            shared["dose_quadratic"] += fraction.quadratic
    colony.oxygens.append(colony.given_oxygen)
    return shared, np.full(colony.matrix.shape, colony.given_oxygen)


def outcome_of(colony: LivingColony) -> ColonyOutcome:
    """What the colony did: ``volume_ratio`` is that of its cells' number, the rest of the cube is healthy tissue."""
    counts, cells = np.array(colony.counts), colony.cells
    start, present = int(counts[0].sum()), int(counts[-1].sum())
    alive = cells[~(cells["apop"] | cells["necro"])]
    sound, doomed = alive[~alive["doomed"]], alive[alive["doomed"]]
    dividing = doomed[~doomed["quiescent"]]
    room = colony.parameters["density"] * (2e-3 * colony.half_edge) ** 3
    healthy = max(0.0, 1.0 - present / room)
    return ColonyOutcome(
        name=colony.name,
        volume_ratio=present / start if present and start else math.nan,
        composition=composition_of(counts[-1], healthy),
        ecm=healthy,
        oxygen=colony.given_oxygen,
        cell_count=present,
        counts=counts,
        moments={
            "doomed_share": (len(doomed) / max(len(alive), 1), 0.0),
            **({"doomed_cycle": (float(dividing["cycle"].mean()), 0.0)} if len(dividing) else {}),
            **({"quiescent_sound": (float(sound["quiescent"].mean()), 0.0)} if len(sound) else {}),
            **({"quiescent_doomed": (1.0 - len(dividing) / len(doomed), 0.0)} if len(doomed) else {}),
        },
        extra={
            "cube_edge_mm": 2e-3 * colony.half_edge, "births": int(colony.births.sum()),
            "cleared": int(colony.cleared.sum()), "doomed": len(doomed),
            "resting": int(alive["resting"].sum()), "quiescent": int(alive["quiescent"].sum()),
            "mechanics_iterations": colony.iterations, "cell_iterations": colony.cell_iterations,
        },
    )  # fmt: skip


CELLS = CellType(
    name="glioma",
    state=STATE,
    each_hour=each_hour,
    live=live,
    push_on=push_on,
    parameters=parameters,
    settle=settle,
    prepare=prepare,
    outcome=outcome_of,
    looks_at_cells=False,
)
"""One kind of cell, in a cube of brain."""
