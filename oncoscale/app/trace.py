"""``oncoscale trace RUN --element N``: eleven lines from a voxel to the forecast, with numbers and sources."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..core.errors import ConfigurationRejected
from ..imaging.quality import names
from ..imaging.study import ParametricMap
from ..sim import books, equilibrium, stiffness
from ..sim.forecast import Forecast, MacroStep, Representative
from ..sim.state import TissueState
from .run_folder import StoredRun

MAP_ORDER = ("ktrans", "ve", "vp", "fp", "cellularity", "pe", "ser", "adc", "t1")
SPOKEN = 5
"""Maps named in a line; every one is in the numbers."""


def trace(run: StoredRun, element: int) -> dict[str, Any]:
    """The chain of one element that cells may live in: its numbers, and ``lines``, the eleven sentences that hold them.

    element  of the mesh of day 0; in a later mesh, the element is followed whose tissue was nearest to it on day 0

    Raises ConfigurationRejected for an element that is not in the tumour.
    """
    tumour = run.forecast.states[0].inhabited
    if element not in tumour:
        raise ConfigurationRejected(
            f"element {element} is not in the tumour",
            f"one of its {len(tumour)} elements, for example {_examples(run)}",
            "choose one of those, or look it up in tissue.vtkhdf",
        )
    place = run.forecast.states[0].reference.centroids[element]
    followed = [element, *(state.element_of(place) for state in run.forecast.states[1:])]
    numbers = {
        "element": element,
        "voxel": voxel_of(run, element),
        "maps": maps_of(run, element),
        "steps": [step_of(run, followed, number) for number in range(len(run.forecast.steps))],
        "end": end_of(run.forecast, followed[-1]),
    }
    return {**numbers, "lines": [f"{place:2d}. {line}" for place, line in enumerate(lines_of(run, numbers), 1)]}


def _examples(run: StoredRun) -> str:
    steps = run.forecast.steps
    chosen = [str(one.element) for one in steps[0].representatives[:3]] if steps else []
    return ", ".join(chosen or [str(element) for element in run.forecast.states[0].inhabited[:3]])


def voxel_of(run: StoredRun, element: int) -> dict[str, Any]:
    """The voxel in which the element's centroid lies on day 0: where it is, and what every map says there."""
    centroid = run.forecast.states[0].reference.centroids[element]
    values = {}
    place: dict[str, Any] = {"centroid_mm": [float(x) for x in centroid]}
    for name, parametric in _ordered(run.quantified.maps).items():
        index = np.rint(parametric.grid.index(centroid)).astype(int)
        inside = bool(((index >= 0) & (index < parametric.grid.shape)).all())
        value = float(parametric.values[tuple(index)]) if inside else np.nan
        values[name] = {
            "value": value if np.isfinite(value) else None,
            "unit": parametric.unit,
            "quality": int(parametric.quality[tuple(index)]) if inside and parametric.quality is not None else None,
            "index": [int(i) for i in index],
            "method": parametric.method,
            "derived_from": list(parametric.derived_from[:3]),
        }
    return place | {"maps": values}


def _ordered(maps: Mapping[str, ParametricMap]) -> dict[str, ParametricMap]:
    return {name: maps[name] for name in (*MAP_ORDER, *sorted(set(maps) - set(MAP_ORDER))) if name in maps}


def maps_of(run: StoredRun, element: int) -> dict[str, float | None]:
    """The maps as the element sees them: volume-weighted means over the valid voxels that it overlaps."""
    seen = {name: float(values[element]) for name, values in run.element_maps.items()}
    return {
        name: seen[name] if np.isfinite(seen[name]) else None for name in (*MAP_ORDER, *sorted(seen)) if name in seen
    }


def step_of(run: StoredRun, followed: Sequence[int], number: int) -> dict[str, Any]:
    """What one macro step did to the element, which has the number ``followed`` on each day."""
    forecast, (element, later) = run.forecast, followed[number : number + 2]
    before, after, step = forecast.states[number], forecast.states[number + 1], forecast.steps[number]
    stands_for = int(run.representative[number][element])
    chosen = _representative(step, stands_for)
    return {
        "element": element,
        "start_day": step.start_day,
        "end_day": step.end_day,
        "oxygen_mmhg": float(before.oxygen[element]),
        "fluid_mmhg": None if before.fluid is None else float(before.fluid[element]),
        "cellularity": float(before.cellularity[element]),
        "supply_per_day": float(before.supply[element]),
        "supply_after_per_day": float(after.supply[later]),
        "delivery": float(before.delivery[element]),
        "exposure": None if after.exposure is None else _exposed(before, after, element),
        "representative": stands_for if chosen else None,
        "weight": chosen.weight if chosen else None,
        "colony": _colony(chosen) if chosen else None,
        "volume_ratio": float((after.stretch[later] / before.stretch[element]) ** 3),
        "leave_one_out": step.leave_one_out,
        "cells": dict(step.cells),
        "stiffening": step.mechanics.get("stiffening"),
        "balance": [dict(increment) for increment in step.mechanics.get("history", ())],
        "living_after": float(after.cellularity[later]),
    }


def _exposed(before: TissueState, after: TissueState, element: int) -> list[float]:
    """mg/L day of each drug in one macro step."""
    assert after.exposure is not None
    earlier = 0.0 if before.exposure is None else before.exposure[:, element]
    return [float(one) for one in after.exposure[:, element] - earlier]


def _representative(step: MacroStep, element: int) -> Representative | None:
    return next((one for one in step.representatives if one.element == element), None)


def _colony(one: Representative) -> dict[str, Any]:
    return {
        "oxygen_mmhg": one.oxygen,
        "cellularity": one.cellularity,
        "delivery": one.delivery,
        "volume_ratio": one.volume_ratio if np.isfinite(one.volume_ratio) else None,
        "cells_start": [int(n) for n in one.counts[0]],
        "cells_end": [int(n) for n in one.counts[-1]],
    }


def end_of(forecast: Forecast, element: int) -> dict[str, float | None]:
    """Where the element is on the last day, how large, and under which stress."""
    last = forecast.states[-1]
    moved = last.travelled[last.reference.tetrahedra[element]].mean(axis=0)
    return {
        "element": element,
        "day": last.day,
        "displacement_mm": float(np.linalg.norm(moved)),
        "volume_change": float(last.mesh.volumes[element] / last.origin.volumes[element]),
        "mean_stress_kpa": None if last.mean_stress is None else float(last.mean_stress[element]),
        "oxygen_mmhg": float(last.oxygen[element]),
    }


def lines_of(run: StoredRun, numbers: Mapping[str, Any]) -> tuple[str, ...]:
    """The eleven steps in words, in the order in which the chain runs."""
    first = numbers["steps"][0]
    return (
        _ingested(run),
        _fitted(numbers["voxel"]),
        _meshed(run, numbers),
        _meant(run, first),
        _breathing(first),
        _selected(numbers["element"], first),
        _localised(run.forecast, first),
        _advanced(run.forecast, first),
        _homogenised(first),
        _grown(run.forecast, numbers["steps"], numbers["end"]),
        _recorded(run),
    )


def _ingested(run: StoredRun) -> str:
    account = run.provenance
    series = sum(port.startswith("series") for port, _ in account.inputs)
    return (
        f"ingest: subject {account.subject}, study {account.study}, {series or len(account.inputs)} input(s) with "
        f"mapped UIDs; consent: {account.decision or 'no decision on record'}"
    )


def _fitted(voxel: Mapping[str, Any]) -> str:
    maps = voxel["maps"]
    if not maps:
        return "maps: none were measured in this study"
    name = next(iter(maps))
    spoken = ", ".join(_spoken(key, one["value"], one["unit"]) for key, one in list(maps.items())[:SPOKEN])
    flags = maps[name]["quality"]
    quality = "" if flags is None else f", quality {', '.join(names(flags)) or 'good'}"
    x, y, z = voxel["centroid_mm"]
    return (
        f"maps: voxel {tuple(maps[name]['index'])} at ({x:.1f}, {y:.1f}, {z:.1f}) mm LPS: {spoken}{quality}"
        f" ({maps[name]['method'] or 'as supplied'}; from {_uid(maps[name]['derived_from'])})"
    )


def _spoken(name: str, value: float | None, unit: str) -> str:
    if value is None:
        return f"{name} not valid here"
    return f"{name} {value:.3g}" + (f" {unit}" if unit not in ("1", "") else "")


def _uid(uids: list[str]) -> str:
    return f"{uids[0]}" + (" and others" if len(uids) > 1 else "") if uids else "its own file"


def _meshed(run: StoredRun, numbers: Mapping[str, Any]) -> str:
    reference = run.forecast.states[0].reference
    volume = float(reference.volumes[numbers["element"]])
    means = ", ".join(
        _spoken(name, value, run.quantified.maps[name].unit if name in run.quantified.maps else "1")
        for name, value in list(numbers["maps"].items())[:SPOKEN]
    )
    return (
        f"mesh: element {numbers['element']} of {len(reference.tetrahedra)} ({reference.mesher or 'unnamed mesher'}), "
        f"{volume:.2f} mm³; means over its voxels: {means or 'no map'}"
    )


def _meant(run: StoredRun, first: Mapping[str, Any]) -> str:
    return (
        f"meaning ({run.forecast.tumour_type}): cellularity {first['cellularity']:.2f}, supply of oxygen "
        f"{first['supply_per_day']:.3g} 1/day, drug {first['delivery']:.2f} of the tumour's median"
    )


def _breathing(first: Mapping[str, Any]) -> str:
    fluid = "" if first["fluid_mmhg"] is None else f"; interstitial fluid at {first['fluid_mmhg']:.1f} mmHg"
    return (
        f"oxygen: {first['oxygen_mmhg']:.1f} mmHg in this element on day {first['start_day']:g}, from supply, "
        f"diffusion and uptake by {first['cellularity']:.2f} living cells per volume{fluid}"
    )


def _selected(element: int, first: Mapping[str, Any]) -> str:
    stands = first["representative"]
    if stands is None:
        return "select: this element holds too few cells to be given a colony"
    if stands == element:
        return f"select: this element was chosen; it stands for {first['weight']:.1%} of the tumour"
    return f"select: element {stands} stands for this one (and for {first['weight']:.1%} of the tumour)"


def _localised(forecast: Forecast, first: Mapping[str, Any]) -> str:
    colony = first["colony"]
    if colony is None:
        return "localise: no colony"
    treatment = forecast.recipe.get("treatment") or {}
    drugs = zip((one["name"] for one in treatment.get("drugs", ())), first["exposure"] or ())
    exposed = "".join(f", {name} {value:.3g} mg/L day" for name, value in drugs)
    windows, fractions = len(treatment.get("windows", ())), len(treatment.get("fractions", ()))
    return (
        f"localise: colony of {sum(colony['cells_start'])} cells at {colony['oxygen_mmhg']:.1f} mmHg, cellularity "
        f"{colony['cellularity']:.2f}, {windows} treatment window(s), {fractions} fraction(s) of radiation{exposed}"
    )


def _advanced(forecast: Forecast, first: Mapping[str, Any]) -> str:
    colony = first["colony"]
    if colony is None:
        return "advance: nothing to advance"
    start, end = colony["cells_start"], colony["cells_end"]
    ratio = "every cell died" if colony["volume_ratio"] is None else f"volume × {colony['volume_ratio']:.3f}"
    days = first["end_day"] - first["start_day"]
    return (
        f"advance ({forecast.recipe['engine']} engine, {days:g} days): living {start[0] + start[3]} → "
        f"{end[0] + end[3]}, apoptotic {start[1] + start[4]} → {end[1] + end[4]}, "
        f"necrotic {start[2] + start[5]} → {end[2] + end[5]}; {ratio}"
    )


def _homogenised(first: Mapping[str, Any]) -> str:
    closed = f"; books: {books.words_of(first['cells'])}" if first["cells"] else ""
    return (
        f"homogenise: this element is given volume × {first['volume_ratio']:.3f} (interpolated from those that "
        f"have a colony) and {first['living_after']:.2f} living cells per volume; "
        f"error of leaving one out {first['leave_one_out']:.4f} in ln{closed}"
    )


def _grown(forecast: Forecast, steps: list[Mapping[str, Any]], end: Mapping[str, Any]) -> str:
    stress = "" if end["mean_stress_kpa"] is None else f", mean stress {end['mean_stress_kpa']:+.3f} kPa"
    path = " → ".join(f"× {step['volume_ratio']:.3f} (day {step['end_day']:g})" for step in steps)
    renewed = "" if end["element"] == steps[0]["element"] else f" (element {end['element']} of a later mesh)"
    return (
        f"grow: {path}; by day {end['day']:g}{renewed} it has moved {end['displacement_mm']:.2f} mm, holds "
        f"{end['volume_change']:.3f} of its volume{stress}, oxygen {end['oxygen_mmhg']:.1f} mmHg"
        f"{_vessels(forecast, steps)}{_balanced(steps[-1])}"
    )


def _vessels(forecast: Forecast, steps: list[Mapping[str, Any]]) -> str:
    if forecast.recipe["settings"].get("vessels") != "follow":
        return ""
    return f", supply of oxygen {steps[-1]['supply_after_per_day']:.3g} 1/day as vessels followed"


def _balanced(step: Mapping[str, Any]) -> str:
    stiff = f"; {stiffness.words_of(step['stiffening'])}" if step["stiffening"] else ""
    found = f"; balance of the last step: {equilibrium.words_of(step['balance'])}" if step["balance"] else ""
    return stiff + found


def _recorded(run: StoredRun) -> str:
    account = run.provenance
    digest = account.inputs[0][1][:12] if account.inputs else "none"
    return (
        f"record: run {account.run}, oncoscale {account.version}, seed {run.forecast.recipe['seeds'][0]}, "
        f"{len(account.inputs)} input hash(es) (first {digest}…)"
    )
