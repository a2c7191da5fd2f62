"""report.html: one self-contained page about one forecast, for a clinician.

Everything is inlined: pictures as data addresses, no script, no address outside the file. A number that does not
exist is shown as absent, with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist

from ..agents.colony import DrugWindow
from ..imaging.quantify import Quantified
from ..meshing.mesh import TumourMesh
from ..meshing.quality import dihedral_angles, mean_ratio
from ..sim import books, equilibrium, stiffness
from ..sim.anatomy import regions_beside
from ..sim.forecast import Forecast, MacroStep
from ..sim.state import TissueState
from ..sim.tumour_type import tumour_type
from . import pictures
from .background import Background

STATEMENTS = (
    "Research use only. Not a medical device; not for diagnosis or treatment decisions.",
    "The subject is pseudonymised. Pseudonymised data remain personal data (GDPR, article 4(5)): guard this file.",
)

ABSENT = "–"


@dataclass(frozen=True)
class Provenance:
    """Where a forecast comes from, in pseudonyms and hashes.

    subject, study, run  pseudonym, study UID (re-mapped), run identity
    version              of oncoscale
    decision             the consent decision that permitted the run, and its outcome in words
    inputs               (port, SHA-256) of every input
    study_day            days after the subject's day 0; None if unknown
    """

    subject: str
    study: str
    run: str
    version: str
    decision: str = ""
    inputs: tuple[tuple[str, str], ...] = ()
    study_day: int | None = None


def report(
    forecast: Forecast,
    quantified: Quantified,
    background: Background | None,
    provenance: Provenance,
) -> str:
    """The page, as text."""
    mesh = forecast.states[0].reference
    page: str = _template().render(
        provenance=provenance,
        forecast=forecast,
        statements=STATEMENTS,
        cautions=forecast.statements,
        headline=headline(forecast),
        visits=visit_table(forecast),
        treatment=forecast.recipe.get("treatment"),
        curve=pictures.volume_curve(forecast, windows_of(forecast), fractions_of(forecast), operations_of(forecast)),
        planes=pictures.contour_planes(forecast, background),
        background=background,
        views=pictures.tumour_views(forecast),
        fields=pictures.field_sections(forecast),
        maps=pictures.map_sections(quantified.maps, quantified.tumour, forecast.states[0], background)
        if quantified.tumour
        else None,
        oxygen=pictures.oxygen_distribution(forecast),
        oxygen_table=oxygen_table(forecast),
        populations=pictures.populations(forecast.steps, tumour_type(forecast.tumour_type).kinds),
        sampling=forecast.sampling,
        mesh_picture=pictures.mesh_section(forecast.states[0], background),
        mesh_rows=mesh_table(mesh),
        mesh_measures=summary_rows(mesh.report),
        effects=forecast.effects,
        errors=forecast.steps,
        books=[
            f"day {one.start_day:g} to {one.end_day:g}: {books.words_of(one.cells)}"
            for one in forecast.steps
            if one.cells
        ],
        balances=[
            f"day {one.start_day:g} to {one.end_day:g}: {balance_of(one)}"
            for one in forecast.steps
            if "history" in one.mechanics
        ],
        findings=quantified.findings,
        assumptions=forecast.assumptions,
        summary=summary_rows(quantified.summary),
        recipe=forecast.recipe,
        absent=ABSENT,
    )
    return page


def balance_of(step: MacroStep) -> str:
    """How the tissue found its balance at the end of a step, and how stiff the tumour was then, in words."""
    found, told = equilibrium.words_of(step.mechanics["history"]), step.mechanics.get("stiffening")
    return f"{found}, {stiffness.words_of(told)}" if told else found


@cache
def _template() -> Any:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(number=number, millilitres=millilitres, millimetres=millimetres, signed=signed)
    return environment.from_string(files(__package__).joinpath("templates/report.html").read_text(encoding="utf-8"))


def number(value: float | None, digits: int = 1) -> str:
    """A number for people; a dash where there is none."""
    if value is None or not np.isfinite(value):
        return ABSENT
    return f"{value:.{digits}f}"


def millilitres(value: float | None) -> str:
    """mL with three figures or so, whatever the size of the animal."""
    if value is None or not np.isfinite(value):
        return ABSENT
    return number(value, 1 if value >= 10.0 else 2 if value >= 1.0 else 3)


def millimetres(value: float | None) -> str:
    """mm, whole from 20 on."""
    return number(value, 0 if value is None or value >= 20.0 else 1)


def signed(value: float | None, digits: int = 1) -> str:
    """A change, with its sign."""
    if value is None or not np.isfinite(value):
        return ABSENT
    return f"{value:+.{digits}f}".replace("-", "−")


def windows_of(forecast: Forecast) -> tuple[DrugWindow, ...]:
    """The treatment of a forecast as it stands in its recipe."""
    treatment = forecast.recipe.get("treatment") or {"windows": ()}
    return tuple(
        DrugWindow(window["start_h"], window["end_h"], tuple(window["effects"])) for window in treatment["windows"]
    )


def fractions_of(forecast: Forecast) -> tuple[tuple[float, float], ...]:
    """(day, Gy) of each fraction of radiation in a forecast's recipe."""
    treatment = forecast.recipe.get("treatment") or {}
    return tuple((one["hour"] / 24.0, one["gray"]) for one in treatment.get("fractions", ()))


def operations_of(forecast: Forecast) -> tuple[float, ...]:
    """Days of surgery in a forecast's recipe."""
    treatment = forecast.recipe.get("treatment") or {}
    return tuple(one["day"] for one in treatment.get("operations", ()))


def headline(forecast: Forecast) -> dict[str, float]:
    """The figures at the top: volumes in mL, the change in percent."""
    first, last = float(forecast.volumes[0, 0]), float(forecast.volumes[0, -1])
    return {
        "first": first,
        "last": last,
        "day": float(forecast.days[-1]),
        "low": float(forecast.interval[-1, 0]),
        "high": float(forecast.interval[-1, 1]),
        "change": 100.0 * (last / first - 1.0),
        "diameter": longest_diameter(forecast.states[-1]),
    }


def visit_table(forecast: Forecast) -> list[dict[str, Any]]:
    """One row a day: forecast, interval, change, extents, and the measured volume where there was a visit."""
    measured = {round(day, 6): volume for day, volume in forecast.measured}
    rows = []
    for number_, state in enumerate(forecast.states):
        volume = float(forecast.volumes[0, number_])
        rows.append(
            {
                "day": state.day,
                "volume": volume,
                "low": float(forecast.interval[number_, 0]),
                "high": float(forecast.interval[number_, 1]),
                "change": 100.0 * (volume / float(forecast.volumes[0, 0]) - 1.0),
                "diameter": longest_diameter(state),
                "extents": extents(state),
                "measured": measured.pop(round(state.day, 6), None),
            }
        )
    rows += [
        {
            "day": day,
            "volume": None,
            "low": None,
            "high": None,
            "change": None,
            "diameter": None,
            "extents": None,
            "measured": volume,
        }
        for day, volume in measured.items()
    ]
    return sorted(rows, key=lambda row: float(row["day"]))


def longest_diameter(state: TissueState) -> float:
    """mm: the largest distance between two points of the tumour's surface, in any direction; 0 without a tumour."""
    surface = _surface_points(state)
    if not len(surface):
        return 0.0
    hull = surface[ConvexHull(surface).vertices]
    return float(pdist(hull).max())


def extents(state: TissueState) -> tuple[float, float, float]:
    """mm: right to left, front to back, foot to head; 0 without a tumour."""
    if not len(_surface_points(state)):
        return 0.0, 0.0, 0.0
    left_right, front_back, foot_head = np.ptp(_surface_points(state), axis=0)
    return float(left_right), float(front_back), float(foot_head)


def _surface_points(state: TissueState) -> NDArray[np.float64]:
    return np.asarray(state.mesh.points[np.unique(state.reference.surface_of("tumour"))])


def oxygen_table(forecast: Forecast) -> list[dict[str, float]]:
    """Volume-weighted oxygen per day with a tumour: median, and the shares below 10 and 2.5 mmHg in percent."""
    rows = []
    for state in forecast.states:
        inside = state.tumour
        if not len(inside):
            continue
        oxygen, volume = state.oxygen[inside], state.mesh.volumes[inside]
        order = np.argsort(oxygen)
        half = np.searchsorted(np.cumsum(volume[order]), volume.sum() / 2.0)
        rows.append(
            {
                "day": state.day,
                "median": float(oxygen[order][half]),
                "below_10": float(100.0 * volume[oxygen < 10.0].sum() / volume.sum()),
                "below_2_5": float(100.0 * volume[oxygen < 2.5].sum() / volume.sum()),
                "living": float(np.average(state.cellularity[inside], weights=volume)),
            }
        )
    return rows


def mesh_table(mesh: TumourMesh) -> list[tuple[str, str]]:
    """How fine and how good the mesh is: the measures that a reader should know."""
    measured = dict(_flat(mesh.report))
    rows = [("mesher", mesh.mesher or ABSENT)]
    if measured.get("fallback", ABSENT) != ABSENT:
        rows.append(("why not gmsh", measured["fallback"]))
    for region in ("tumour", "host", *regions_beside(mesh)):
        elements = mesh.elements_of(region)
        edge = float(np.cbrt(mesh.volumes[elements].mean() / 0.1179)) if len(elements) else np.nan
        rows.append((f"elements of the {region}", f"{len(elements)}, edge about {number(edge)} mm"))
    shape = mean_ratio(mesh.points, mesh.tetrahedra)
    rows += [
        ("volume of the tumour's mesh, mL", number(mesh.volume_of("tumour"), 2)),
        ("volume of its voxels, mL", measured.get("regions: tumour: voxel volume ml", ABSENT)),
        ("surface to voxels, mean, mm", measured.get("regions: tumour: surface distance mm: mean", ABSENT)),
        ("surface to voxels, 95 %, mm", measured.get("regions: tumour: surface distance mm: h95", ABSENT)),
        ("smallest dihedral angle, degrees", number(float(dihedral_angles(mesh.points, mesh.tetrahedra).min()))),
        ("mean ratio, least and mean", f"{shape.min():.2f}, {shape.mean():.2f}"),
        ("inverted elements", str(int((mesh.volumes <= 0).sum()))),
        ("warnings", measured.get("warnings", ABSENT)),
    ]
    return rows


def summary_rows(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Nested measures, flattened to rows of words and values."""
    return _flat(summary)


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for key, value in values.items():
        words = f"{prefix}{key}".replace("_", " ")
        if isinstance(value, Mapping):
            rows += _flat(value, f"{words}: ")
        else:
            rows.append((words, _plain(value)))
    return rows


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}" if np.isfinite(value) else ABSENT
    if isinstance(value, (list, tuple)):
        return "; ".join(_plain(one) for one in value) or "none"
    return ABSENT if value is None or value == "" else str(value)
