"""``forecast``: the loop, with members that differ by their seed, an interval, and what the result rests on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..agents.engine import engine
from ..core.quantity import Parameter
from . import coupling, interstitial, oxygen, pace, remeshing, stiffness, vessels
from .case import Case
from .forecast import Forecast, MacroStep
from .interval import LEVEL, interval
from .keeping import KeptForecast
from .mass_effect import mass_effect_statements
from .preparing import Prepared, prepare
from .sensitivity import Trajectory, effects
from .simulation import Plan, Progress, simulate
from .state import TissueState
from .statements import drug_statements, fluid_statements, late_statements, whole_statements
from .supports import Supports
from .tissue import SPRING_DISTANCE
from .treatment import Treatment
from .tumour_type import TumourType
from .workload import Workload, check_memory


def forecast(
    case: Case,
    *,
    measured: Sequence[tuple[float, float]] = (),
    progress: Progress | None = None,
    threads: int | None = None,
    announce: Callable[[Workload], None] = lambda work: None,
    kept: KeptForecast | None = None,
) -> Forecast:
    """A forecast of a case.

    measured  (day, mL) of later visits: shown beside the forecast, never used by it
    announce  called with the work that lies ahead, before the first cell lives
    kept      where the forecast is kept while it is made; one that was stopped goes on from there

    Raises what ``prepare`` raises; ConfigurationRejected when the cells asked for need more memory than there is;
    ModelRefused for an operation that takes out nothing.
    """
    tell = progress or (lambda what, done: None)
    ready = prepare(case, threads=threads, tell=tell)
    work = ready.workload(threads)
    announce(work)
    check_memory(work)
    runs = run_all(ready, _counted(tell, ready.runs, kept))
    volumes = np.array([[state.volume for state in member] for member in runs.members])
    made = Forecast(
        tumour_type=case.tumour.name,
        states=runs.states,
        volumes=volumes,
        interval=interval(volumes, runs.steps),
        level=LEVEL,
        steps=runs.steps,
        effects=effects(runs.members, runs.altered),
        measured=((0.0, ready.volume), *measured),
        statements=statements(case, ready, runs),
        assumptions=rests_on(case, ready),
        recipe=recipe(case, ready),
    )
    return replace(made, statements=(*made.statements, *whole_statements(made)))


@dataclass(frozen=True, eq=False)
class Runs:
    """Every run of a forecast.

    states   of the forecast itself, with its cells
    steps    what happened between them
    members  the forecast, and without their cells those that differ from it by their seed
    altered  what was changed, and the run with it
    """

    states: Trajectory
    steps: tuple[MacroStep, ...]
    members: tuple[Trajectory, ...]
    altered: tuple[tuple[str, Trajectory], ...]


Run = Callable[[str, TissueState, Plan], tuple[Trajectory, tuple[MacroStep, ...]]]


def run_all(ready: Prepared, run: Run) -> Runs:
    """The forecast, then its members and each changed input: these walk its own steps, to be compared day by day."""
    start, plan = ready.start, ready.plan
    states, steps = run("forecast", start, plan)
    if plan.settings.adaptive:
        steady = plan.settings.model_copy(update={"adaptive": False})
        plan = replace(plan, settings=steady, ends=tuple(state.day for state in states[1:]))
    members = [
        without_cells(run(f"member {number + 1}", start, replace(plan, seed=plan.seed + number))[0])
        for number in range(1, plan.settings.members)
    ]
    altered = [
        (change.what, without_cells(run(change.what, *change.applied(start.reference, ready.fields, plan))[0]))
        for change in ready.changed
    ]
    return Runs(states, steps, (states, *members), tuple(altered))


def without_cells(states: Trajectory) -> Trajectory:
    """A run as its comparison with others needs it: its stored cells would fill the memory."""
    return tuple(replace(state, colonies={}, rooms={}, moments={}, equilibrium=None) for state in states)


def _counted(tell: Progress, runs: int, kept: KeptForecast | None) -> Run:
    """``simulate`` that says which of ``runs`` runs it is in, and keeps each in a place of its own."""
    finished = iter(range(runs))

    def run(what: str, start: TissueState, plan: Plan) -> tuple[Trajectory, tuple[MacroStep, ...]]:
        done = next(finished)
        plan = replace(
            plan,
            progress=lambda part, part_done: tell(f"{what}: {part}", (done + part_done) / runs),
            kept=kept.run(done + 1) if kept else None,
        )
        return simulate(start, plan)

    return run


def statements(case: Case, ready: Prepared, runs: Runs) -> tuple[str, ...]:
    """What must be read with the numbers."""
    start, plan = ready.start, ready.plan
    return (
        *case.tumour.statements_about(case.body_part, case.species),
        *ready.fields.statements,
        *ready.told,
        *fluid_statements(start, plan.settings.poroelastic),
        *((vessels.STATEMENT,) if start.allotment is not None else ()),
        *drug_statements(plan.treatment),
        *late_statements(plan.treatment, case.days),
        *(note for step in runs.steps for note in step.notes),
        *mass_effect_statements(runs.states, moved_by(plan)),
    )


def moved_by(plan: Plan) -> tuple[str, ...]:
    """Regions beside a tumour without a border that it may move."""
    spaces = plan.ground.spread.spaces if plan.ground else ()
    return tuple(name for name in spaces if name not in Supports.of(plan.springs).fixed)


def rests_on(case: Case, ready: Prepared) -> tuple[Parameter, ...]:
    """Every parameter that this forecast used at the tissue scale."""
    start, settings = ready.start, ready.plan.settings
    return (
        *assumptions(case.tumour, case.treatment),
        *ready.stated,
        *(interstitial.PARAMETERS if start.fluid is not None else ()),
        *(pace.PARAMETERS if settings.adaptive else ()),
        *(vessels.PARAMETERS if start.allotment is not None else ()),
        *(stiffness.PARAMETERS if start.mixture_at_start is not None else ()),
    )


def assumptions(tumour: TumourType, treatment: Treatment | None) -> tuple[Parameter, ...]:
    """The parameters of every forecast of a disease, and those of the treatment."""
    given = treatment.parameters if treatment else ()
    return (
        *tumour.parameters,
        *oxygen.PARAMETERS,
        SPRING_DISTANCE,
        *coupling.PARAMETERS,
        *remeshing.PARAMETERS,
        *given,
    )


def recipe(case: Case, ready: Prepared) -> dict[str, Any]:
    """What rebuilds the forecast, beside its inputs."""
    settings, treatment = case.settings, ready.plan.treatment
    return {
        "tumour": case.tumour.name,
        "days": case.days,
        "settings": settings.model_dump(mode="json"),
        "treatment": treatment.as_table() if treatment else None,
        "seeds": [settings.seed + number for number in range(settings.members)],
        "engine": engine(settings.engine).name,
        "mesher": ready.start.reference.mesher,
    }
