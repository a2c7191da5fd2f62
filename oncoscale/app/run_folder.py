"""The folder of a run: what a forecast leaves on disk, and the same read back for people.

::

    forecast.json                     volumes with intervals, errors, what it rests on, recipe (no times, no paths)
    tissue.vtkhdf                     the tissue at every day: moving mesh, oxygen, cells, stress, who stands for whom;
                                      displacements are since day 0, whichever mesh the tissue is in
    mesh.vtkhdf                       the mesh of day 0, with the means of the maps that its elements see
    cells/populations.csv             cells of each class in the chosen elements, hour by hour
    cells/element-N.vtkhdf            the cells themselves, at the end of each step in which the element was chosen
    maps/                             the quantitative maps as NIfTI, with the tumour's label image
    images/background.nii.gz          the patient's own image around the tumour
    contours/contour-day-NNN.nii.gz   the predicted tumour on the images' grid (and .dcm where the images are DICOM)
    trace.json                        pseudonym, study, consent, input hashes
    run.jsonl                         what happened while it ran
    report.html                       for people
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..agents.colony import CLASSES
from ..core.errors import FileRejected
from ..core.files import write_json, write_text
from ..core.quantity import Parameter
from ..imaging.nifti import read_nifti, write_labels, write_nifti
from ..imaging.quantify import Quantified, read_maps, write_maps
from ..imaging.study import LabelImage
from ..meshing.mesh import TumourMesh
from ..meshing.transfer import coverage, overlaps, to_voxels
from ..meshing.write import Step, read_step, write_mesh, write_steps
from ..sim.forecast import Effect, Forecast, MacroStep, Representative, summary
from ..sim.selection import select_elements
from ..sim.spread import Spread, density_on
from ..sim.start import element_maps
from ..sim.state import CAVITY, TissueState
from ..sim.tumour_type import tumour_type
from .background import Background
from .report import Provenance
from .trajectory import write_stored_cells

NOBODY = -1
"""Stands for an element without cells of its own, and for every element on the last day."""

STATE_FIELDS = ("stretch", "supply", "delivery", "oxygen")
STRESS_FIELDS = ("mean_stress", "von_mises")
FLUID, EXPOSURE = "fluid_pressure", "exposure_"
"""At nodes, mmHg; and of elements, mg/L day of each drug since time 0."""
SINCE_MESH = "displacement_since_mesh"
"""Of each node, beside the displacement since day 0: in runs whose tissue has left the mesh of day 0."""
VISIBLE = "visible_share"
"""Of each element, what images would show as tumour: of a tumour without a border, whose regions differ by the day."""


@dataclass(frozen=True, eq=False)
class StoredRun:
    """A run as its folder holds it.

    forecast        without the engine's stored cells and other opaque state
    element_maps    name to (elements,) means of the maps
    representative  for each day (elements,) whose cells stand for each in the step after it; NOBODY where none do
    """

    forecast: Forecast
    quantified: Quantified
    background: Background | None
    provenance: Provenance
    element_maps: Mapping[str, NDArray[np.float64]]
    representative: tuple[NDArray[np.int64], ...]


def write_run(
    folder: Path,
    forecast: Forecast,
    quantified: Quantified,
    background: Background | None,
    provenance: Provenance,
) -> None:
    """Write everything but the report, the log and the DICOM contours. ``folder`` exists and is empty."""
    write_json(folder / "forecast.json", summary(forecast))
    mesh = forecast.states[0].reference
    means = {f"map_{name}": seen.values for name, seen in element_maps(quantified, mesh).items()}
    write_mesh(folder / "mesh.vtkhdf", mesh, means)
    write_tissue(folder / "tissue.vtkhdf", forecast)
    write_populations(folder / "cells" / "populations.csv", forecast.steps)
    write_stored_cells(folder / "cells", forecast.states)
    write_maps(quantified, folder / "maps")
    if background is not None:
        write_nifti(folder / "images" / "background.nii.gz", background.grid, background.values)
    if quantified.tumour is not None:
        for state in forecast.states:
            contour = contour_of(state, quantified.tumour, tumour_type(forecast.tumour_type).spread)
            write_labels(folder / "contours" / f"contour-day-{state.day:03.0f}.nii.gz", contour)
    account = {
        **asdict(provenance),
        "background": background.caption if background else None,
        "mesh_frame_uid": mesh.frame_uid,
        **regions_told(mesh.region_names),
    }
    write_json(folder / "trace.json", account)


USUAL_REGIONS: Mapping[int, str] = {1: "host", 2: "tumour"}
"""Names of regions that go without saying."""


def regions_told(names: Mapping[int, str]) -> dict[str, Any]:
    """The names of a mesh's regions for its run's account, where there are others than a tumour and its host."""
    return {} if dict(names) == USUAL_REGIONS else {"regions": {str(number): name for number, name in names.items()}}


def regions_of(account: Mapping[str, Any]) -> dict[int, str]:
    """Region number to name as an account tells them, and the cavity that an operation may have left."""
    names = {int(number): name for number, name in account.get("regions", USUAL_REGIONS).items()}
    return names if CAVITY in names.values() else {**names, max(names) + 1: CAVITY}


def write_tissue(path: Path, forecast: Forecast) -> None:
    """The moving mesh with its fields, one step a day of the forecast."""
    chosen = representatives_of(forecast)
    drugs = drugs_of(forecast.recipe)
    fields = [_fields(state, drugs) | {"representative": row} for state, row in zip(forecast.states, chosen)]
    write_steps(
        path,
        forecast.states[0].reference,
        list(forecast.days),
        [state.mesh.points for state in forecast.states],
        _point_fields(forecast),
        {name: [step[name] for step in fields] for name in fields[0]},
        [state.reference for state in forecast.states],
    )


def _point_fields(forecast: Forecast) -> dict[str, list[NDArray[Any]]]:
    fields: dict[str, list[NDArray[Any]]] = {"displacement": [state.travelled for state in forecast.states]}
    if any(state.carried is not None for state in forecast.states):
        fields[SINCE_MESH] = [state.displacement for state in forecast.states]
    pressures = [state.fluid_pressure for state in forecast.states if state.fluid_pressure is not None]
    return fields | {FLUID: pressures} if pressures else fields


def drugs_of(recipe: Mapping[str, Any]) -> tuple[str, ...]:
    """The drugs that a forecast carried through the tissue."""
    return tuple(one["name"] for one in (recipe.get("treatment") or {}).get("drugs", ()))


def _fields(state: TissueState, drugs: Sequence[str]) -> dict[str, NDArray[Any]]:
    unknown = np.full(len(state.stretch), np.nan)
    fields: dict[str, NDArray[Any]] = {"region": state.reference.region}
    fields |= {name: getattr(state, name) for name in STATE_FIELDS}
    fields |= {f"fraction_{name}": state.composition[:, place] for place, name in enumerate(CLASSES)}
    for name in STRESS_FIELDS:
        values = getattr(state, name)
        fields[name] = unknown if values is None else values
    exposure = np.zeros((len(drugs), len(unknown))) if state.exposure is None else state.exposure
    fields |= {f"{EXPOSURE}{name}": values for name, values in zip(drugs, exposure, strict=True)}
    if state.visible is not None:
        fields[VISIBLE] = state.visible
    return fields


def representatives_of(forecast: Forecast) -> tuple[NDArray[np.int64], ...]:
    """For each day (elements,) whose cells stand for each in the step that starts that day; NOBODY on the last.

    The choice is a function of the state and the seed, so asking again gives the answer that the run used.
    """
    settings = forecast.recipe["settings"]
    count = None if settings["elements"] == "all" else int(settings["elements"])
    chosen = tuple(np.full(len(state.stretch), NOBODY, dtype=np.int64) for state in forecast.states)
    for row, state, step in zip(chosen, forecast.states, forecast.steps):
        if step.representatives:
            selection = select_elements(state, count, forecast.recipe["seeds"][0], settings["selection"])
            row[selection.members] = selection.elements[selection.nearest]
    return chosen


def write_populations(path: Path, steps: Sequence[MacroStep]) -> None:
    """One row an hour and chosen element: start day of the step, element, hour, cells of each class."""
    lines = [",".join(("start_day", "element", "hour", *CLASSES))]
    for step in steps:
        for one in step.representatives:
            start = f"{step.start_day:.10g},{one.element}"
            lines += [f"{start},{hour},{','.join(map(str, row))}" for hour, row in enumerate(one.counts.tolist())]
    write_text(path, "\n".join(lines) + "\n")


def contour_of(state: TissueState, tumour: LabelImage, spread: Spread | None = None) -> LabelImage:
    """The tumour of one day on the grid of the images: the fullest voxels, as many as hold its volume.

    spread  of a disease without a border: there the fullest are those of the greatest density. Elements are many
            voxels wide where it grows into healthy tissue, and their shares alone would draw their faces
    """
    mesh = state.mesh
    if state.visible is None:
        inside = replace(mesh, tetrahedra=mesh.tetrahedra[state.tumour], region=mesh.region[state.tumour])
        filled = coverage(overlaps(inside, tumour.grid), tumour.grid).ravel()
    else:
        filled = to_voxels(overlaps(mesh, tumour.grid), state.visible, 0.0, tumour.grid).ravel()
    count = round(float(filled.sum()))
    if spread is not None and state.density is not None:
        filled = np.nan_to_num(density_on(tumour.grid, state, spread), nan=-1.0).ravel()
    fullest = np.argsort(-filled, kind="stable")[:count]
    values = np.zeros(filled.shape, dtype=np.uint8)
    values[fullest] = 1
    return LabelImage(tumour.grid, values.reshape(tumour.grid.shape), {1: "tumour"}, derived_from=tumour.derived_from)


def read_run(folder: Path) -> StoredRun:
    """The run in a folder. Raises FileRejected if it is not one."""
    try:
        account = json.loads((folder / "trace.json").read_text(encoding="utf-8"))
        content = json.loads((folder / "forecast.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FileRejected(
            "the folder holds no run (forecast.json and trace.json)",
            "a folder that `oncoscale forecast … --out` wrote",
            "give that folder, or a run's identity with --store",
        ) from error
    steps = [read_step(folder / "tissue.vtkhdf", number) for number in range(len(content["days"]))]
    mesh = _mesh(read_step(folder / "mesh.vtkhdf", 0), content, account)
    seen = read_step(folder / "mesh.vtkhdf", 0).cell_data
    return StoredRun(
        forecast=_forecast(content, mesh, steps, read_populations(folder / "cells" / "populations.csv")),
        quantified=read_maps(folder / "maps"),
        background=_background(folder, account["background"]),
        provenance=_provenance(account),
        element_maps={name.removeprefix("map_"): seen[name] for name in sorted(seen) if name.startswith("map_")},
        representative=tuple(step.cell_data["representative"] for step in steps),
    )


def _background(folder: Path, caption: str | None) -> Background | None:
    if caption is None:
        return None
    grid, values = read_nifti(folder / "images" / "background.nii.gz")
    return Background(grid, np.asarray(values, dtype=np.float32), caption)


def _provenance(account: Mapping[str, Any]) -> Provenance:
    inputs = tuple((str(port), str(digest)) for port, digest in account["inputs"])
    names = ("subject", "study", "run", "version", "decision", "study_day")
    return Provenance(**{name: account[name] for name in names}, inputs=inputs)


def read_populations(path: Path) -> dict[tuple[float, int], NDArray[np.int64]]:
    """(start day, element) to (hours + 1, 6) cells of each class."""
    rows: dict[tuple[float, int], list[list[int]]] = {}
    with open(path, encoding="utf-8", newline="") as handle:
        for row in csv.DictReader(handle):
            key = float(row["start_day"]), int(row["element"])
            rows.setdefault(key, []).append([int(row[name]) for name in CLASSES])
    return {key: np.array(counts, dtype=np.int64) for key, counts in rows.items()}


def _mesh(step: Step, content: Mapping[str, Any], account: Mapping[str, Any]) -> TumourMesh:
    assert step.tetrahedra is not None
    region = np.asarray(step.cell_data["region"], dtype=np.int64)
    mesher, frame_uid = content["recipe"]["mesher"], account["mesh_frame_uid"]
    return TumourMesh(step.points, step.tetrahedra, region, regions_of(account), frame_uid, mesher, content["mesh"])


def _forecast(
    content: Mapping[str, Any],
    mesh: TumourMesh,
    steps: Sequence[Step],
    counts: Mapping[tuple[float, int], NDArray[np.int64]],
) -> Forecast:
    volume = content["volume_ml"]
    return Forecast(
        tumour_type=content["tumour"],
        states=tuple(_state(step, mesh, drugs_of(content["recipe"])) for step in steps),
        volumes=np.array(volume["members"]),
        interval=np.column_stack([volume["low"], volume["high"]]),
        level=volume["level"],
        steps=tuple(_step(step, counts) for step in content["steps"]),
        effects=tuple(_effect(effect) for effect in content["rests_on"]),
        measured=tuple((visit["day"], visit["volume"]) for visit in content["measured_ml"]),
        statements=tuple(content["statements"]),
        assumptions=tuple(_parameter(parameter) for parameter in content["assumptions"]),
        recipe=content["recipe"],
    )


def _state(step: Step, mesh: TumourMesh, drugs: Sequence[str]) -> TissueState:
    fields = step.cell_data
    known: dict[str, Any] = {name: fields[name] for name in STATE_FIELDS}
    known |= {name: None if np.isnan(fields[name]).all() else fields[name] for name in STRESS_FIELDS}
    composition = np.column_stack([fields[f"fraction_{name}"] for name in CLASSES])
    if VISIBLE in fields:
        known["visible"] = fields[VISIBLE]
    if drugs:
        known["exposure"] = np.array([fields[f"{EXPOSURE}{name}"] for name in drugs])
    known["fluid_pressure"] = step.point_data.get(FLUID)
    travelled = step.point_data["displacement"]
    displacement = step.point_data.get(SINCE_MESH, travelled)
    if (travelled != displacement).any():
        assert step.tetrahedra is not None
        known["carried"] = travelled - displacement
        mesh = replace(mesh, points=step.points - displacement, tetrahedra=step.tetrahedra)
    mesh = replace(mesh, region=np.asarray(fields["region"], dtype=np.int64))
    return TissueState(step.time, mesh, displacement, composition=composition, **known)


def _step(step: Mapping[str, Any], counts: Mapping[tuple[float, int], NDArray[np.int64]]) -> MacroStep:
    return MacroStep(
        start_day=step["start_day"],
        end_day=step["end_day"],
        representatives=tuple(
            Representative(
                element=one["element"],
                weight=one["weight"],
                oxygen=one["oxygen_mmhg"],
                delivery=one["delivery"],
                cellularity=one["cellularity"],
                volume_ratio=np.nan if one["volume_ratio"] is None else one["volume_ratio"],
                counts=counts[step["start_day"], one["element"]],
            )
            for one in step["representatives"]
        ),
        leave_one_out=step["leave_one_out_ln_ratio"],
        worst=step["worst_ln_ratio"],
        extrapolation=step["extrapolation_ln_volume"],
        limited=step["limited_elements"],
        notes=tuple(step["notes"]),
        mechanics=step["mechanics"],
        cells=step.get("cells", {}),
        pace=step.get("pace", {}),
    )


def _effect(effect: Mapping[str, Any]) -> Effect:
    return Effect(
        what=effect["what"],
        volume=effect["volume_ml"],
        volume_change=effect["volume_change_ml"],
        contour_change=effect["contour_change_mm"],
        volume_spread=effect["volume_spread_ml"],
        contour_spread=effect["contour_spread_mm"],
    )


def _parameter(parameter: Mapping[str, Any]) -> Parameter:
    limits = parameter["range"]
    return Parameter(
        parameter["value"],
        parameter["unit"],
        parameter["meaning"],
        parameter["source"],
        None if limits is None else (limits[0], limits[1]),
        parameter["assumed"],
    )
