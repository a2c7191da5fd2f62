"""The loop: oxygen, drug, cells, growth, again, until the horizon. Its functions are the verbs of the chain."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..agents.colony import Colony, ColonyOutcome
from ..agents.engine import Arrays, Checkpoints
from ..core.errors import MeshFault, SegmentationRejected, SolverFault
from . import books, coupling, interstitial, oxygen, pace, remeshing, spreading, stiffness, vessels
from .coupling import Homogenised
from .equilibrium import Equilibrium
from .exposure import expose
from .forecast import MacroStep
from .growth import grow
from .keeping import KeptRun
from .linear import Linear
from .poroelastic import KPA_PER_MMHG, in_balance
from .quadratic import grow_quadratic
from .selection import Selection, candidates_of, select_elements
from .settings import ForecastSettings
from .spread import Ground
from .state import TissueState
from .stress_feedback import Solve, grow_under_pressure
from .supports import Supports
from .tissue import Material, Springs
from .treatment import Treatment
from .treatments import surgery
from .tumour_type import TumourType

Progress = Callable[[str, float], None]
"""Called with what is being done and the fraction done (0..1)."""

Told = Callable[[float], None]
"""Called with the fraction (0..1) that is done of the thing at hand."""


class Cells(Protocol):
    """The cell engine as the loop calls it, or what stands in for it."""

    def __call__(
        self,
        colonies: Sequence[Colony],
        hours: int,
        seed: int,
        *,
        checkpoints: Checkpoints | None = None,
        told: Told = ...,
    ) -> tuple[ColonyOutcome, ...]:
        """What the colonies do in ``hours``, in their order."""


CELLS_SHARE = 0.9
"""Share of the progress of a macro step that its cells take; finding the balance of the tissue takes the rest."""

LARGEST_LOG_INCREMENT = 0.1
"""Change of ln g in one increment of growth. The law is hyperelastic, so the equilibrium does not depend on the way to
it: increments four times smaller give the same volume to 1e-12 and take four times as long."""


@dataclass(frozen=True)
class Plan:
    """One run of the loop: everything but the state.

    ends          days on which macro steps end, ascending, after the start
    advance       colonies and hours to outcomes: the cells, or what stands in for them
    kept          where the run is kept while it is made (None: nowhere)
    rest          (nodes,) mmHg of the interstitial fluid at time 0, which the images' shape bears already
    arrays        of a device, for large linear systems of mechanics and oxygen (None: the host solves them)
    ground        tissue that the cells spread through (None: the tumour has a border, which they do not cross)
    """

    tumour: TumourType
    settings: ForecastSettings
    treatment: Treatment | None
    materials: Mapping[str, Material]
    springs: Springs | Supports
    ends: tuple[float, ...]
    seed: int
    advance: Cells
    progress: Progress = field(default=lambda what, done: None)
    kept: KeptRun | None = None
    ground: Ground | None = None
    rest: NDArray[np.float64] | None = None
    arrays: Arrays | None = None


def simulate(start: TissueState, plan: Plan) -> tuple[tuple[TissueState, ...], tuple[MacroStep, ...]]:
    """The tissue at the start and at each end of a macro step, and what happened in between."""
    states, plan = [start], replace(plan, rest=start.fluid_pressure)
    steps: list[MacroStep] = []
    for number, end in enumerate(plan.ends):
        begin, made = states[-1].day, len(steps)
        while (day := states[-1].day) < end:
            until = pace.next_end(day, end, steps[made:]) if plan.settings.adaptive else end
            done, length = number + (day - begin) / (end - begin), (until - day) / (end - begin)
            told = _telling(plan, f"day {day:g} to {until:g}", done, length)
            told(0.0)
            kept = plan.kept.read(len(states), start) if plan.kept else None
            state, step = kept or macro_step(states[-1], until, plan, told)
            if plan.kept and kept is None:
                plan.kept.write(len(states), state, step)
            states.append(state)
            steps.append(step)
    return tuple(states), tuple(steps)


def _telling(plan: Plan, what: str, done: float, length: float) -> Told:
    """Progress of a step that begins after ``done`` of the planned ones and is so long in terms of the next."""
    return lambda share: plan.progress(what, (done + share * length) / len(plan.ends))


def macro_step(
    state: TissueState, end: float, plan: Plan, told: Told = lambda share: None
) -> tuple[TissueState, MacroStep]:
    """One stretch of days: who breathes, who is chosen, what cells do, how tissue moves.

    With ``adaptive`` it ends earlier where the tissue would change too much on the way to ``end``.
    """
    until: float | None = end
    tries = 0
    while until is not None:
        end, tries = until, tries + 1
        answer = answered(state, end, plan, lambda share: told(CELLS_SHARE * share))
        change = pace.Change.between(state, answer)
        until = pace.shorter(state.day, end, change) if plan.settings.adaptive else None
    balancing = _ever_nearer(lambda share: told(CELLS_SHARE + (1.0 - CELLS_SHARE) * share))
    moved, step = settle(state, end, answer, plan, balancing)
    return moved, replace(step, pace=change.content(tries))


def _ever_nearer(told: Told) -> Told:
    """Progress of what may begin anew who knows how often: each time it covers half of what was left."""
    left, last = 1.0, 0.0

    def one_more(share: float) -> None:
        nonlocal left, last
        left, last = left / 2.0 if share < last else left, share
        told(1.0 - left + left * share / 2.0)

    return one_more


def answered(state: TissueState, end: float, plan: Plan, told: Told = lambda share: None) -> Homogenised:
    """What the cells do until that day, given to every element."""
    settings, hours = plan.settings, pace.hours_between(state.day, end)
    if not len(candidates_of(state).members):
        return coupling.untouched(state)
    state, treatment = expose(state, plan.treatment, end)
    selection = chosen_of(state, plan)
    colonies = coupling.localise(
        state,
        selection,
        cells=settings.cells,
        treatment=treatment,
        genetics={**plan.tumour.genetics, **{str(name): value for name, value in settings.genetics.items()}},
        histology=plan.tumour.histology if settings.histology is None else settings.histology,
        gradiff=plan.tumour.gradiff if settings.gradiff is None else settings.gradiff,
    )
    checkpoints = plan.kept.colonies(hours) if plan.kept else None
    outcomes = plan.advance(colonies, hours, plan.seed, checkpoints=checkpoints, told=told)
    if plan.ground is None:
        return coupling.homogenise(state, selection, outcomes, settings.extrapolation, settings.growth)
    return spreading.spread(state, selection, outcomes, plan.ground, settings.extrapolation)


def settle(
    before: TissueState, end: float, answer: Homogenised, plan: Plan, told: Told = lambda share: None
) -> tuple[TissueState, MacroStep]:
    """The end of a macro step: growth finds its balance, the day's operations are done, a worn mesh is replaced."""
    grown = grow_vessels(replace(answer.state, day=end), end - before.day)
    if plan.settings.poroelastic:
        moved, mechanics = deform_wet(grown, plan, end - before.day, told)
    else:
        moved, mechanics = deform(grown, plan, told=told)
    cells = books.deformed(answer.cells, moved)
    operated, removed, told_of_surgery = operate(moved, plan, told)
    renewed, remeshed, told_of_mesh = renew(operated, plan, told)
    wet = renewed if plan.settings.poroelastic else filtered(renewed, plan.settings)
    linear = Linear(plan.arrays)
    return deliver_oxygen(wet, linear), MacroStep(
        before.day,
        end,
        answer.representatives,
        answer.leave_one_out,
        answer.worst,
        answer.extrapolation,
        answer.limited,
        (*answer.notes, *told_of_surgery, *told_of_mesh),
        {**mechanics, **removed, **remeshed, "oxygen_systems": linear.words()},
        cells,
    )


def chosen_of(state: TissueState, plan: Plan) -> Selection:
    """The elements whose cells a plan simulates in the macro step that starts with this tissue."""
    settings = plan.settings
    wanted = None if settings.elements == "all" else int(settings.elements)
    return select_elements(state, wanted, plan.seed, settings.selection)


def grow_vessels(state: TissueState, days: float) -> TissueState:
    """The tissue with the vessels that it called for in so many days, if they follow; ``oxygen`` is of their start."""
    if state.allotment is None:
        return state
    demand = oxygen.demand_of(breathing(state))
    wanted = vessels.called_for(state.supply, state.allotment, demand)
    return replace(state, supply=vessels.grown(state.supply, wanted, state.oxygen, days))


def deliver_oxygen(state: TissueState, linear: Linear | None = None) -> TissueState:
    """Quasi-steady oxygen of the tissue as it is now: the tumour's living cells breathe, and the host as ever."""
    demand = oxygen.demand_of(breathing(state))
    solved = oxygen.solve_oxygen(state.mesh, state.supply, demand, linear=linear)
    return replace(state, oxygen=solved.elements)


def filtered(state: TissueState, settings: ForecastSettings) -> TissueState:
    """Quasi-steady interstitial fluid of the tissue as it is now, where it is asked for and the tumour has a border."""
    if not settings.fluid or state.visible is not None:
        return state
    return replace(state, fluid_pressure=interstitial.fluid_in(state).nodes)


def breathing(state: TissueState) -> NDArray[np.float64]:
    """(elements,) living cells, and the host by those that use as much oxygen; both, where cells are in the host."""
    if state.visible is not None:
        return np.asarray(state.cellularity + oxygen.HOST_CELLULARITY.value * (1.0 - state.composition.sum(axis=1)))
    cells = state.cellularity.copy()
    cells[state.surroundings] = oxygen.HOST_CELLULARITY.value
    return cells


def deform_wet(
    state: TissueState, plan: Plan, days: float, told: Told = lambda share: None
) -> tuple[TissueState, dict[str, Any]]:
    """``deform`` with fluid in the pores, solved in turns with the fluid (``poroelastic``).

    ASSUMED: Biot's alpha is 1 and fluid stores nothing of its own (fluid and solid are incompressible); the shape in
    the images bears the pressure of time 0, so that only its change is a load; what an element gained in a macro step
    it filled with fluid at an even rate.
    """
    assert plan.rest is not None
    assert state.fluid_pressure is not None
    rest, before, turning = plan.rest, state.mesh.volumes, state
    history: list[dict[str, Any]] = []

    def solid(pressure: NDArray[np.float64]) -> tuple[TissueState, dict[str, Any]]:
        nonlocal turning
        turning, mechanics = deform(turning, plan, pore=KPA_PER_MMHG * (pressure - rest), told=told)
        history.extend(mechanics["history"])
        return turning, mechanics

    def fluid(moved: tuple[TissueState, dict[str, Any]]) -> NDArray[np.float64]:
        return interstitial.fluid_in(moved[0], np.log(moved[0].mesh.volumes / before) / days).nodes

    (moved, mechanics), pressure, turns = in_balance(solid, fluid, state.fluid_pressure)
    change = float(KPA_PER_MMHG * np.abs(pressure - rest).max())
    return replace(moved, fluid_pressure=pressure), {
        **mechanics, **_effort(history), "turns_with_fluid": turns, "largest_change_of_fluid_kpa": change,
    }  # fmt: skip


def deform(
    state: TissueState, plan: Plan, *, pore: NDArray[np.float64] | None = None, told: Told = lambda share: None
) -> tuple[TissueState, dict[str, Any]]:
    """Mechanical equilibrium with the new growth; without a border, of the healthy tissue that the cells are in.

    The growth itself is what the cells ask for, or less where it is slowed by pressure (``stress_feedback``).
    """
    pressure, linear = plan.settings.stress_feedback, Linear(plan.arrays)
    solve = balancing(state, plan, linear, pore, told)
    slowing: dict[str, Any] = {}
    if pressure is None:
        equilibrium = solve(state.growth, state.equilibrium)
    else:
        equilibrium, slowing = grow_under_pressure(solve, state.growth, state.equilibrium, pressure)
    mechanics = {
        **_effort([increment.content() for increment in equilibrium.increments]),
        "residual": float(equilibrium.residual),
        "least_elastic_jacobian": float(equilibrium.elastic_jacobian.min()),
        "largest_von_mises_kpa": float(equilibrium.von_mises.max()),
        "linear_systems": linear.words(),
        "supports": Supports.of(plan.springs).words(),
        **stiffness.account(state),
        **slowing,
    }
    return at_rest(state, equilibrium), mechanics


def balancing(state: TissueState, plan: Plan, linear: Linear, pore: NDArray[np.float64] | None, told: Told) -> Solve:
    """Who finds the balance of the tissue for a growth stretch: the element of the settings, in the plan's body."""
    body = state.reference if plan.ground is None else plan.ground.body
    remembering = partial(grow, remembered=state.remembered, pulled=state.pulled, pore=pore, linear=linear)
    firmer = stiffness.stiffening(state)

    def solve(stretch: NDArray[np.float64], start: Equilibrium | None) -> Equilibrium:
        element = partial(remembering, start=start) if plan.settings.element == "p1" else grow_quadratic
        return element(
            body,
            stretch,
            plan.materials,
            springs=plan.springs,
            max_log_increment=LARGEST_LOG_INCREMENT,
            progress=told,
            stiffening=firmer,
        )

    return solve


def at_rest(state: TissueState, equilibrium: Equilibrium) -> TissueState:
    """The tissue as it lies in this equilibrium."""
    return replace(
        state,
        stretch=equilibrium.stretch if state.grown is None else state.grown * equilibrium.stretch,
        displacement=equilibrium.displacement,
        mean_stress=equilibrium.mean_stress,
        von_mises=equilibrium.von_mises,
        equilibrium=equilibrium,
    )


def _effort(history: list[dict[str, Any]]) -> dict[str, Any]:
    """What it took to find a balance: ``Increment.content`` of every increment, and their counts."""
    newton = sum(len(increment["linear"]) for increment in history)
    return {"increments": len(history), "newton_iterations": newton, "history": history}


Befallen = tuple[TissueState, dict[str, Any], tuple[str, ...]]
"""The tissue after something befell it, the account of that (empty: nothing did), and what must be said."""


def operate(state: TissueState, plan: Plan, told: Told = lambda share: None) -> Befallen:
    """The tissue after the operations of this day, its stress relaxed around the cavity."""
    operations = [one for one in plan.treatment.operations if one.day == state.day] if plan.treatment else []
    accounts, words = [], []
    for operation in operations:
        resected = surgery.resect(state, operation)
        state, mechanics = deform(resected.state, plan, told=told)
        accounts.append({**resected.account, "tumour_ml_relaxed": state.volume, "mechanics": mechanics})
        words.append(resected.words)
    return state, {"surgery": accounts} if accounts else {}, tuple(words)


def renew(state: TissueState, plan: Plan, told: Told = lambda share: None) -> Befallen:
    """The tissue in a new mesh, at rest, where the one it has is worn; the old one goes on if none can be made or the
    tissue finds no rest in it, and where no tumour is left.
    """
    limits, settings = plan.settings.remeshing, plan.settings
    reasons = remeshing.worn(state, limits)
    why = "; ".join(reasons)
    if not len(state.tumour):
        return state, {}, ()
    if not reasons or not limits.allowed:
        return state, {}, (f"The mesh is worn ({why}); remeshing is switched off.",) if reasons else ()
    kept = _kept_because(plan)
    if kept:
        return state, {}, (f"The mesh is worn ({why}); it is not made anew {kept}.",)
    try:
        made = remeshing.remesh(state, size=settings.size, host_size=settings.host_size, mesher=settings.mesher)
        renewed, mechanics = deform(made.state, plan, told=told)
    except (MeshFault, SegmentationRejected, SolverFault) as fault:
        return state, {}, (f"The mesh is worn ({why}) and goes on: no better one could be made. {fault}",)
    account = {"reasons": list(reasons), **made.account, **remeshing.settled(state, renewed), "mechanics": mechanics}
    return renewed, {"remeshing": account}, (remeshing.words_of(state.day, account),)


def _kept_because(plan: Plan) -> str:
    """Why a worn mesh is kept, in words; empty where it need not be."""
    if plan.ground is not None:
        return "for a tumour without a border"
    if plan.settings.poroelastic:
        return "with poroelastic = true"
    return "" if plan.settings.element == "p1" else f'with element = "{plan.settings.element}"'


def macro_ends(days: float, longest: float, stops: Sequence[float] = ()) -> tuple[float, ...]:
    """Days on which macro steps end: every ``longest`` days since the start or a stop, each stop, and the last day.

    stops  days on which something befalls the tissue at once; those outside the horizon are left out

    >>> macro_ends(28, 14)
    (14.0, 28.0)
    >>> macro_ends(20, 14)
    (14.0, 20.0)
    >>> macro_ends(28, 14, [5.0])
    (5.0, 19.0, 28.0)
    """
    ends, begin = [], 0.0
    for stop in (*sorted({float(stop) for stop in stops if 0.0 < stop < days}), float(days)):
        whole = int(np.ceil((stop - begin) / longest - 1e-9)) - 1
        ends += [*(float(begin + longest * (number + 1)) for number in range(whole)), stop]
        begin = stop
    return tuple(ends)
