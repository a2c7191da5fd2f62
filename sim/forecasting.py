"""``forecast``: the loop, with members that differ by their seed, an interval, and what the result rests on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm
from scipy.stats import t as student_t

from ..agents.engine import engine
from ..core.quantity import Parameter
from ..imaging.quantify import Quantified
from . import coupling, oxygen
from .forecast import Forecast, MacroStep
from .sensitivity import Trajectory, changes, effects
from .settings import ForecastSettings
from .simulation import Cells, Plan, Progress, macro_ends, simulate
from .start import element_maps, mesh_of, start_from, tumour_of
from .state import TissueState
from .tissue import SPRING_DISTANCE, Material, springs_of
from .treatment import Treatment
from .treatments import chemotherapy
from .tumour_type import TumourType

LEVEL = 0.9
"""Level of the interval of a forecast."""


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
) -> Forecast:
    """A forecast of ``days`` days from the maps of one visit.

    measured            (day, mL) of later visits: shown beside the forecast, never used by it
    body_part, species  what the images are of: compared with what the disease model is made for
    """
    settings = settings or ForecastSettings()
    tell = progress or (lambda what, done: None)
    tell("mesh", 0.0)
    volume = tumour_of(quantified).volume("tumour")
    mesh = mesh_of(quantified, settings)
    fields = tumour.initial_fields(mesh, element_maps(quantified, mesh))
    start = start_from(mesh, fields, settings)
    materials = materials_of(tumour, settings)
    plan = Plan(
        tumour,
        settings,
        treatment,
        materials,
        springs_of(materials["host"]),
        macro_ends(days, settings.macro_days),
        settings.seed,
        cells_of(settings, threads),
    )
    wanted = changes(fields, plan) if settings.effects and settings.members > 1 else ()
    run = _counted(tell, settings.members + len(wanted))
    states, steps = run("forecast", start, plan)
    members = [states] + [
        run(f"member {number + 1}", start, replace(plan, seed=settings.seed + number))[0]
        for number in range(1, settings.members)
    ]
    altered = [(change.what, run(change.what, *change.applied(mesh, fields, plan))[0]) for change in wanted]
    volumes = np.array([[state.volume for state in member] for member in members])
    return Forecast(
        tumour_type=tumour.name,
        states=states,
        volumes=volumes,
        interval=interval(volumes, steps),
        level=LEVEL,
        steps=steps,
        effects=effects(members, altered),
        measured=((0.0, volume), *measured),
        statements=(
            *tumour.statements_about(body_part, species),
            *fields.statements,
            *(note for step in steps for note in step.notes),
        ),
        assumptions=assumptions(tumour, treatment),
        recipe={
            "tumour": tumour.name,
            "days": days,
            "settings": settings.model_dump(mode="json"),
            "treatment": treatment.as_table() if treatment else None,
            "seeds": [settings.seed + number for number in range(settings.members)],
            "engine": engine(settings.engine).name,
            "mesher": mesh.mesher,
        },
    )


Run = Callable[[str, TissueState, Plan], tuple[Trajectory, tuple[MacroStep, ...]]]


def _counted(tell: Progress, runs: int) -> Run:
    """``simulate`` that says which of ``runs`` runs it is in."""
    finished = iter(range(runs))

    def run(what: str, start: TissueState, plan: Plan) -> tuple[Trajectory, tuple[MacroStep, ...]]:
        done = next(finished)
        return simulate(
            start, replace(plan, progress=lambda part, part_done: tell(f"{what}: {part}", (done + part_done) / runs))
        )

    return run


def cells_of(settings: ForecastSettings, threads: int | None) -> Cells:
    """The cell engine as the loop calls it."""
    cells = engine(settings.engine)
    return lambda colonies, hours, seed: cells.advance(
        colonies, hours=hours, seed=seed, mode=settings.mode, threads=threads
    )


def materials_of(tumour: TumourType, settings: ForecastSettings) -> dict[str, Material]:
    """The disease's tissue laws with the stiffnesses that the user states."""
    stated = {"tumour": settings.tumour_young, "host": settings.host_young}
    return {
        region: replace(material, young=stated.get(region) or material.young)
        for region, material in tumour.materials.items()
    }


def assumptions(tumour: TumourType, treatment: Treatment | None) -> tuple[Parameter, ...]:
    """Every parameter that the tissue scale used."""
    dose = chemotherapy.PARAMETERS if treatment else ()
    return (*tumour.parameters, *oxygen.PARAMETERS, SPRING_DISTANCE, *coupling.PARAMETERS, *dose)


def interval(volumes: NDArray[np.float64], steps: Sequence[MacroStep]) -> NDArray[np.float64]:
    """(days, 2) mL at LEVEL: chance of the cells (over seeds) and error of the extrapolation, added in squares in ln V.

    ASSUMED: what leaving one representative out misses is independent between representatives and between steps.
    Members tell what chance does; one member alone leaves chance out. Errors of images and model are not in it.
    """
    log_volume = np.log(volumes)
    members = len(volumes)
    chance = np.zeros(volumes.shape[1])
    if members > 1:
        quantile = student_t.ppf(0.5 + LEVEL / 2, members - 1)
        chance = quantile * log_volume.std(axis=0, ddof=1) * np.sqrt(1.0 + 1.0 / members)
    missed = np.concatenate([[0.0], np.cumsum([step.extrapolation**2 for step in steps])])
    half = np.sqrt(chance**2 + norm.ppf(0.5 + LEVEL / 2) ** 2 * missed)
    return np.column_stack([volumes[0] * np.exp(-half), volumes[0] * np.exp(half)])
