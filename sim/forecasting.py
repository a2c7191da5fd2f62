"""``forecast``: the loop, with members that differ by their seed, an interval, and what the result rests on."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm
from scipy.stats import t as student_t

from ..agents.colony import Colony, ColonyOutcome
from ..agents.engine import Checkpoints, Engine, arrays, engine
from ..core.errors import ConfigurationRejected, ModelRefused
from ..core.quantity import Parameter
from ..imaging.quantify import Quantified
from ..meshing.mesh import TumourMesh
from ..meshing.renewed import present_regions
from . import coupling, interstitial, oxygen, pace, remeshing, stiffness, vessels
from .anatomy import meshed, spread_through, tissues_of, told_apart
from .anatomy import statements as anatomy_statements
from .exposure import exchange_of
from .forecast import Forecast, MacroStep
from .given_mesh import given
from .keeping import KeptForecast
from .mass_effect import mass_effect_statements
from .materials import materials_of, parameters_of, preset_of
from .sensitivity import Change, Trajectory, changes, effects
from .settings import ForecastSettings
from .simulation import Cells, Plan, Progress, Told, macro_ends, simulate
from .spread import Ground
from .start import element_maps, host_for, infiltrated, start_from, tumour_of
from .state import TissueState
from .statements import drug_statements, fluid_statements, late_statements, whole_statements
from .stress_feedback import slowing_of
from .supports import FIXED, Supports, supports_of
from .tissue import SPRING_DISTANCE, Material, Springs, springs_of
from .treatment import Treatment
from .treatments import radiotherapy, surgery
from .tumour_type import InitialFields, TumourType
from .workload import Workload, check_memory, workload_of

LEVEL = 0.9
"""Level of the interval of a forecast."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """A forecast that is ready to be made: images have become a tissue, nothing has lived yet.

    volume   mL of the tumour in its label image
    fields   what the maps mean
    start    the tissue at time 0
    plan     of the forecast itself, its first run
    changed  inputs that further runs change, one each
    stated   what the materials and the feedback that the user asks for rest on
    told     what must be known of the regions beside the tumour
    """

    volume: float
    fields: InitialFields
    start: TissueState
    plan: Plan
    changed: tuple[Change, ...]
    stated: tuple[Parameter, ...]
    told: tuple[str, ...] = ()

    @property
    def runs(self) -> int:
        """Members and changed inputs."""
        return self.plan.settings.members + len(self.changed)

    def workload(self, threads: int | None) -> Workload:
        """What the cells will cost on so many threads (None: as many as there are), one colony each."""
        cells = self.plan.advance
        living = sum(change.alter(self.fields, self.plan)[1].advance is cells for change in self.changed)
        at_once = threads or len(os.sched_getaffinity(0))
        cells_live_in = engine(self.plan.settings.engine)
        return workload_of(self.start, self.plan, self.plan.settings.members + living, at_once, cells_live_in)


def prepare(
    quantified: Quantified,
    tumour: TumourType,
    *,
    days: float,
    treatment: Treatment | None,
    settings: ForecastSettings,
    threads: int | None,
    tell: Progress = lambda what, done: None,
    mesh: TumourMesh | None = None,
) -> Prepared:
    """Mesh, initial fields, tissue at time 0, and what shall be run from there.

    mesh  in place of one made from the segmentation (``given_mesh``)

    Raises ModelRefused for an operation on a tumour without a border, ConfigurationRejected for diffusion tensors of
    one with a border and for a mesh that lies beside the tumour.
    """
    if treatment is not None and treatment.operations and tumour.spread is not None:
        raise ModelRefused(
            "an operation on a tumour without a border",
            "surgery of a tumour that images show whole",
            "leave the operation out, or choose another --tumour",
        )
    if quantified.tensor is not None and tumour.spread is None:
        raise ConfigurationRejected(
            "diffusion tensors for a tumour with a border",
            "a tumour whose cells wander, such as dipg",
            "leave out --tensor",
        )
    tell("mesh", 0.0)
    outline = tumour_of(quantified)
    volume = outline.volume("tumour")
    told: tuple[str, ...] = ()
    if mesh is None:
        found = meshed(host_for(outline, tumour.spread, days, told_apart(tumour, settings)), settings)
    else:
        found, words = given(mesh, outline, tumour.spread)
        told = (words,)
    own, mesh = mesh is None, found.mesh
    fields = tumour.initial_fields(mesh, element_maps(quantified, mesh))
    ground = None
    if tumour.spread is not None:
        ground = Ground.under(mesh, spread_through(tumour.spread, settings.materials), quantified.tensor)
    if ground is not None:
        fields = infiltrated(fields, ground, found.labels)
    if treatment is not None and tumour.radiosensitivity is not None:
        alpha, ratio = tumour.radiosensitivity
        treatment = treatment.of_cells(alpha.value, ratio.value)
    start = start_from(mesh, fields, settings, ground)
    if treatment is not None and treatment.planned:
        start = replace(start, dose=radiotherapy.planned_share(treatment, quantified.dose, mesh))
    if settings.poroelastic and ground is not None:
        raise ConfigurationRejected(
            "poroelastic for a tumour without a border", "a tumour with one", "leave out poroelastic"
        )
    if treatment is not None and treatment.drugs:
        exchange_of(start)  # refused before any cell lives, if Ktrans was not measured
    materials, supports, stated = tissue_of(tumour, settings, mesh if ground is None else ground.body)
    cells_live_in = engine(settings.engine)
    stops = [one.day for one in treatment.operations] if treatment else []
    plan = Plan(
        tumour,
        settings,
        treatment,
        {**materials, **surgery.materials_of(treatment)},
        supports,
        macro_ends(days, settings.macro_days, stops),
        settings.seed,
        cells_of(settings, threads, tumour.cells, cells_live_in),
        ground=ground,
        arrays=arrays(cells_live_in),
    )
    changed = changes(fields, plan) if settings.effects and settings.members > 1 else ()
    told += anatomy_statements(outline if own else None, found, materials, fixed_in(mesh, settings))
    return Prepared(volume, fields, start, plan, changed, stated, told)


def forecast(
    quantified: Quantified,
    tumour: TumourType,
    *,
    days: float,
    treatment: Treatment | None = None,
    settings: ForecastSettings | None = None,
    measured: Sequence[tuple[float, float]] = (),
    body_part: str = "",
    species: str = "",
    progress: Progress | None = None,
    threads: int | None = None,
    announce: Callable[[Workload], None] = lambda work: None,
    kept: KeptForecast | None = None,
    mesh: TumourMesh | None = None,
) -> Forecast:
    """A forecast of ``days`` days from the maps of one visit.

    measured            (day, mL) of later visits: shown beside the forecast, never used by it
    body_part, species  what the images are of: compared with what the disease model is made for
    announce            called with the work that lies ahead, before the first cell lives
    kept                where the forecast is kept while it is made; one that was stopped goes on from there
    mesh                in place of one made from the segmentation (``given_mesh``)

    Raises ConfigurationRejected when the cells asked for need more memory than there is; ModelRefused for an operation
    on a tumour without a border, or one that takes out nothing.
    """
    settings = settings or ForecastSettings()
    tell = progress or (lambda what, done: None)
    ready = prepare(
        quantified,
        tumour,
        days=days,
        treatment=treatment,
        settings=settings,
        threads=threads,
        tell=tell,
        mesh=mesh,
    )
    work = ready.workload(threads)
    announce(work)
    check_memory(work)
    plan, start, mesh = ready.plan, ready.start, ready.start.reference
    run = _counted(tell, ready.runs, kept)
    states, steps = run("forecast", start, plan)
    if settings.adaptive:  # members and changed inputs walk the forecast's own steps, to be compared day by day
        steady = settings.model_copy(update={"adaptive": False})
        plan = replace(plan, settings=steady, ends=tuple(state.day for state in states[1:]))
    members = [states] + [
        without_cells(run(f"member {number + 1}", start, replace(plan, seed=settings.seed + number))[0])
        for number in range(1, settings.members)
    ]
    altered = [
        (change.what, without_cells(run(change.what, *change.applied(mesh, ready.fields, plan))[0]))
        for change in ready.changed
    ]
    volumes = np.array([[state.volume for state in member] for member in members])
    made = Forecast(
        tumour_type=tumour.name,
        states=states,
        volumes=volumes,
        interval=interval(volumes, steps),
        level=LEVEL,
        steps=steps,
        effects=effects(members, altered),
        measured=((0.0, ready.volume), *measured),
        statements=(
            *tumour.statements_about(body_part, species),
            *ready.fields.statements,
            *ready.told,
            *fluid_statements(start, settings.poroelastic),
            *((vessels.STATEMENT,) if start.allotment is not None else ()),
            *drug_statements(plan.treatment),
            *late_statements(plan.treatment, days),
            *(note for step in steps for note in step.notes),
            *mass_effect_statements(states, moved_by(plan)),
        ),
        assumptions=(
            *assumptions(tumour, treatment),
            *ready.stated,
            *(interstitial.PARAMETERS if start.fluid is not None else ()),
            *(pace.PARAMETERS if settings.adaptive else ()),
            *(vessels.PARAMETERS if start.allotment is not None else ()),
            *(stiffness.PARAMETERS if start.mixture_at_start is not None else ()),
        ),
        recipe={
            "tumour": tumour.name,
            "days": days,
            "settings": settings.model_dump(mode="json"),
            "treatment": plan.treatment.as_table() if plan.treatment else None,
            "seeds": [settings.seed + number for number in range(settings.members)],
            "engine": engine(settings.engine).name,
            "mesher": mesh.mesher,
        },
    )
    return replace(made, statements=(*made.statements, *whole_statements(made)))


def without_cells(states: Trajectory) -> Trajectory:
    """A run as its comparison with others needs it: its stored cells would fill the memory."""
    return tuple(replace(state, colonies={}, rooms={}, moments={}, equilibrium=None) for state in states)


Run = Callable[[str, TissueState, Plan], tuple[Trajectory, tuple[MacroStep, ...]]]


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


def cells_of(
    settings: ForecastSettings, threads: int | None, kind: str = "neuroblastoma", runner: Engine | None = None
) -> Cells:
    """The cell engine (None: a new one as set) as the loop calls it, for cells of this type."""
    cells = runner or engine(settings.engine)

    def advance(
        colonies: Sequence[Colony],
        hours: int,
        seed: int,
        *,
        checkpoints: Checkpoints | None = None,
        told: Told = lambda share: None,
    ) -> tuple[ColonyOutcome, ...]:
        return cells.advance(
            colonies,
            cells=kind,
            hours=hours,
            seed=seed,
            mode=settings.mode,
            threads=threads,
            checkpoints=checkpoints,
            progress=_in_percent(told),
        )

    return advance


def _in_percent(told: Told) -> Callable[[int, int], None]:
    """Progress that speaks a hundred times, however many colony-hours there are."""

    def one_more(done: int, total: int) -> None:
        if 100 * done // total > 100 * (done - 1) // total:
            told(done / total)

    return one_more


def tissue_of(
    tumour: TumourType, settings: ForecastSettings, body: TumourMesh
) -> tuple[dict[str, Material], Springs | Supports, tuple[Parameter, ...]]:
    """What the regions of the body are made of, what holds it, and what that rests on beyond the disease's constants.

    Raises ConfigurationRejected for regions that are not there, before anything is computed.
    """
    regions = {body.region_names[int(value)] for value in np.unique(body.region)}
    materials = tissues_of(body, materials_of(stiffened(tumour, settings), settings.materials, regions))
    supports = supports_of(settings.supports, springs_of(materials["host"]), fixed_in(body, settings))
    Supports.of(supports).on(body)
    feedback = (slowing_of(settings.stress_feedback),) if settings.stress_feedback else ()
    return materials, supports, (*parameters_of(tumour.materials, settings.materials, regions), *feedback)


def fixed_in(body: TumourMesh, settings: ForecastSettings) -> tuple[str, ...]:
    """Regions of a body that are bone which does not move, where the settings state no support of them."""
    present = [name for name in present_regions(body) if name not in settings.supports]
    return tuple(name for name in present if preset_of(name, settings.materials) in FIXED)


def moved_by(plan: Plan) -> tuple[str, ...]:
    """Regions beside a tumour without a border that it may move."""
    spaces = plan.ground.spread.spaces if plan.ground else ()
    return tuple(name for name in spaces if name not in Supports.of(plan.springs).fixed)


def stiffened(tumour: TumourType, settings: ForecastSettings) -> dict[str, Material]:
    """The disease's tissues with the stiffnesses that the user states for tumour and host."""
    stated = {"tumour": settings.tumour_young, "host": settings.host_young}
    for region, young in stated.items():
        if young and region in settings.materials and settings.materials[region].young:
            raise ConfigurationRejected(
                f"two stiffnesses of the {region}", f"{region}_young or [materials.{region}] young", "leave one out"
            )
    return {
        region: replace(material, young=stated.get(region) or material.young)
        for region, material in tumour.materials.items()
    }


def assumptions(tumour: TumourType, treatment: Treatment | None) -> tuple[Parameter, ...]:
    """Every parameter that the tissue scale used."""
    given = treatment.parameters if treatment else ()
    return (
        *tumour.parameters,
        *oxygen.PARAMETERS,
        SPRING_DISTANCE,
        *coupling.PARAMETERS,
        *remeshing.PARAMETERS,
        *given,
    )


LEAST_VOLUME = 1e-3
"""mL: a tumour that images no longer show counts as this much where ln V is asked for."""


def interval(volumes: NDArray[np.float64], steps: Sequence[MacroStep]) -> NDArray[np.float64]:
    """(days, 2) mL at LEVEL: chance of the cells (over seeds) and error of the extrapolation, added in squares in ln V.

    ASSUMED: what leaving one representative out misses is independent between representatives and between steps.
    Members tell what chance does; one member alone leaves chance out. Errors of images and model are not in it.
    """
    log_volume = np.log(np.maximum(volumes, LEAST_VOLUME))
    members = len(volumes)
    chance = np.zeros(volumes.shape[1])
    if members > 1:
        quantile = student_t.ppf(0.5 + LEVEL / 2, members - 1)
        chance = quantile * log_volume.std(axis=0, ddof=1) * np.sqrt(1.0 + 1.0 / members)
    missed = np.concatenate([[0.0], np.cumsum([step.extrapolation**2 for step in steps])])
    half = np.sqrt(chance**2 + norm.ppf(0.5 + LEVEL / 2) ** 2 * missed)
    return np.column_stack([volumes[0] * np.exp(-half), volumes[0] * np.exp(half)])
