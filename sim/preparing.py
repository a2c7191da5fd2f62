"""``prepare``: a case becomes a tissue in which nothing has lived yet, and the plan of what shall happen to it."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

import numpy as np

from ..agents.engine import arrays, engine
from ..core.errors import ConfigurationRejected
from ..core.quantity import Parameter
from ..imaging.study import LabelImage
from ..imaging.visit_regions import remarks
from ..meshing.mesh import TumourMesh
from ..meshing.renewed import present_regions
from .anatomy import Meshed, meshed, refuse_unknown, spread_through, tissues_of, told_apart
from .anatomy import statements as anatomy_statements
from .case import Case
from .cells import cells_of
from .exposure import exchange_of
from .given_mesh import given
from .materials import materials_of, parameters_of, preset_of
from .sensitivity import Change, changes
from .settings import ForecastSettings
from .simulation import Plan, Progress, macro_ends
from .spread import Ground
from .start import element_maps, host_for, infiltrated, start_from, tumour_of
from .state import TissueState
from .stress_feedback import slowing_of
from .supports import FIXED, Supports, supports_of
from .tissue import Material, Springs, springs_of
from .treatment import Treatment
from .treatments import radiotherapy, surgery
from .tumour_type import InitialFields, TumourType
from .workload import Workload, workload_of


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


def prepare(case: Case, *, threads: int | None, tell: Progress = lambda what, done: None) -> Prepared:
    """Mesh, what the maps mean in it, the tissue at time 0, and what shall be run from there.

    Raises what ``Case.check`` refuses, ConfigurationRejected for a mesh that lies beside the tumour or settings that
    do not fit it, MeshFault and SegmentationRejected where no mesh can be made.
    """
    case.check()
    tell("mesh", 0.0)
    outline = tumour_of(case.quantified)
    found, agreement = mesh_of(case, outline)
    mesh, settings = found.mesh, case.settings
    ground = ground_under(mesh, case)
    fields = fields_of(case, found, ground)
    treatment = treatment_of_cells(case)
    start = tissue_at_start(case, mesh, fields, ground, treatment)
    materials, supports, stated = tissue_of(case.tumour, settings, mesh if ground is None else ground.body)
    cells_live_in = engine(settings.engine)
    plan = Plan(
        tumour=case.tumour,
        settings=settings,
        treatment=treatment,
        materials={**materials, **surgery.materials_of(treatment)},
        springs=supports,
        ends=ends_of(case),
        seed=settings.seed,
        advance=cells_of(settings, threads, case.tumour.cells, cells_live_in),
        ground=ground,
        arrays=arrays(cells_live_in),
    )
    changed = changes(fields, plan) if settings.effects and settings.members > 1 else ()
    drawn = outline if case.mesh is None else None
    told = (
        *remarks(case.quantified.findings),
        *agreement,
        *anatomy_statements(drawn, found, materials, fixed_in(mesh, settings)),
    )
    return Prepared(outline.volume("tumour"), fields, start, plan, changed, stated, told)


def mesh_of(case: Case, outline: LabelImage) -> tuple[Meshed, tuple[str, ...]]:
    """The tumour in its host as tetrahedra; of a mesh that the user gives, also how well it agrees with the images."""
    spread = case.tumour.spread
    if case.mesh is not None:
        refuse_unknown(case.tumour, case.settings, present_regions(case.mesh))
        found, words = given(case.mesh, outline, spread)
        return found, (words,)
    host = host_for(outline, spread, case.days, told_apart(case.tumour, case.settings))
    refuse_unknown(case.tumour, case.settings, host.names.values(), outline.names.values())
    return meshed(host, case.settings), ()


def ground_under(mesh: TumourMesh, case: Case) -> Ground | None:
    """The tissue that cells of a tumour without a border spread through; None: it has a border."""
    spread = case.tumour.spread
    if spread is None:
        return None
    return Ground.under(mesh, spread_through(spread, case.settings.materials), case.quantified.tensor)


def fields_of(case: Case, found: Meshed, ground: Ground | None) -> InitialFields:
    """What the maps mean in the elements, and where a tumour without a border is beyond what images show."""
    fields = case.tumour.initial_fields(found.mesh, element_maps(case.quantified, found.mesh))
    return fields if ground is None else infiltrated(fields, ground, found.labels)


def treatment_of_cells(case: Case) -> Treatment | None:
    """The treatment with the disease's own sensitivity to radiation where it states none."""
    if case.treatment is None or case.tumour.radiosensitivity is None:
        return case.treatment
    alpha, ratio = case.tumour.radiosensitivity
    return case.treatment.of_cells(alpha.value, ratio.value)


def tissue_at_start(
    case: Case, mesh: TumourMesh, fields: InitialFields, ground: Ground | None, treatment: Treatment | None
) -> TissueState:
    """The tissue at time 0 with the dose that a plan of radiotherapy brings to each element.

    Drugs that shall be carried through it are refused here, before any cell lives, if Ktrans was not measured.
    """
    start = start_from(mesh, fields, case.settings, ground)
    if treatment is not None and treatment.planned:
        start = replace(start, dose=radiotherapy.planned_share(treatment, case.quantified.dose, mesh))
    if treatment is not None and treatment.drugs:
        exchange_of(start)
    return start


def ends_of(case: Case) -> tuple[float, ...]:
    """Days on which macro steps end, those of operations among them."""
    stops = [one.day for one in case.treatment.operations] if case.treatment else []
    return macro_ends(case.days, case.settings.macro_days, stops)


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
