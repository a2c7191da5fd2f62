"""Forecast: what was predicted, how sure it is, what it rests on, and the recipe that rebuilds it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.quantity import Parameter
from .oxygen import CELL_DENSITY
from .sampling import Sampling, sampling_of
from .state import TissueState


@dataclass(frozen=True)
class Representative:
    """One element whose cells were simulated, in one macro step.

    element       element number of the mesh
    weight        share of the tumour's volume that it stands for (the weights of a step sum to 1)
    oxygen        mmHg handed to its cells
    delivery      drug relative to the tumour's median
    cellularity   volume fraction of living cells handed to the colony
    volume_ratio  V_end / V_start of the colony (NaN if every cell died), before limits
    counts        (hours + 1, 6) cells of each of agents.colony.CLASSES
    extra         the engine's other figures
    """

    element: int
    weight: float
    oxygen: float
    delivery: float
    cellularity: float
    volume_ratio: float
    counts: NDArray[np.int64]
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class MacroStep:
    """One macro step: from ``start_day`` to ``end_day``.

    representatives  the chosen elements
    leave_one_out    volume-weighted mean |ln r - ln r predicted without it|, over representatives
    worst            the largest of those
    extrapolation    standard error of the tumour's ln volume that they make, elements taken as independent
    limited          how many elements met a limit of growth (never silent)
    notes            substitutions and other events, in words
    mechanics        the solver's account, and that of surgery and remeshing
    cells            the books of cells (``books.account``), and what deforming the elements does to them; empty where
                     a density, not elements, holds the cells
    pace             how far the tissue changed (``pace.Change.content``)
    """

    start_day: float
    end_day: float
    representatives: tuple[Representative, ...]
    leave_one_out: float
    worst: float
    extrapolation: float
    limited: int
    notes: tuple[str, ...] = ()
    mechanics: Mapping[str, Any] = field(default_factory=dict)
    cells: Mapping[str, Any] = field(default_factory=dict)
    pace: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Effect:
    """What the forecast would be with one of its inputs changed ("what this forecast rests on").

    what            in words: "Ktrans shuffled over the tumour"
    volume          mL at the last day
    volume_change   mL against the forecast
    contour_change  mm, root mean square displacement of the tumour's surface nodes against the forecast
    volume_spread, contour_spread   the same measures over seeds: what chance alone does
    """

    what: str
    volume: float
    volume_change: float
    contour_change: float
    volume_spread: float
    contour_spread: float

    @property
    def matters(self) -> bool:
        """True if the change exceeds the spread over seeds, in volume or contour."""
        return abs(self.volume_change) > self.volume_spread or self.contour_change > self.contour_spread


@dataclass(frozen=True)
class Forecast:
    """A forecast of one tumour.

    tumour_type   name of the disease model
    states        the tissue at each of ``days`` (the first is day 0)
    volumes       (members, days) mL; member 0 is the forecast, the others differ by their seed
    interval      (days, 2) mL: bounds of ``level``
    level         0.9: from the spread over seeds and the leave-one-out error; inputs' errors are not in it
    steps         one MacroStep per interval of days (of member 0)
    effects       what the forecast rests on; empty if not computed
    measured      (day, mL) of the visits known, day 0 first
    statements    sentences that must be read with the numbers (disease mismatch, what was assumed)
    assumptions   every Parameter used, assumed ones included
    recipe        disease, horizon, settings, treatment, seeds, engine, mesher; versions and hashes are in the record
    """

    tumour_type: str
    states: tuple[TissueState, ...]
    volumes: NDArray[np.float64]
    interval: NDArray[np.float64]
    level: float
    steps: tuple[MacroStep, ...]
    effects: tuple[Effect, ...]
    measured: tuple[tuple[float, float], ...]
    statements: tuple[str, ...]
    assumptions: tuple[Parameter, ...]
    recipe: Mapping[str, Any]

    @property
    def days(self) -> NDArray[np.float64]:
        """(days,) since time 0."""
        return np.array([state.day for state in self.states])

    @property
    def sampling(self) -> tuple[Sampling, ...]:
        """What of the tumour was simulated, one for each macro step."""
        return tuple(
            sampling_of(state, [int(one.counts[0].sum()) for one in step.representatives])
            for state, step in zip(self.states, self.steps)
        )


SCHEMA = "oncoscale-forecast-1"


def summary(forecast: Forecast) -> dict[str, Any]:
    """The content of ``forecast.json``: plain values without times of day or paths; equal runs give equal bytes."""
    days = forecast.days
    return {
        "schema": SCHEMA,
        "tumour": forecast.tumour_type,
        "research_use_only": True,
        "statements": list(forecast.statements),
        "days": days.tolist(),
        "volume_ml": {
            "forecast": forecast.volumes[0].tolist(),
            "low": forecast.interval[:, 0].tolist(),
            "high": forecast.interval[:, 1].tolist(),
            "level": forecast.level,
            "members": forecast.volumes.tolist(),
        },
        "measured_ml": [{"day": day, "volume": volume} for day, volume in forecast.measured],
        "tissue": [_tissue(state) for state in forecast.states],
        "steps": [
            {**_step(step), "sampling": sampling.content()} for step, sampling in zip(forecast.steps, forecast.sampling)
        ],
        "rests_on": [_effect(effect) for effect in forecast.effects],
        "mesh": dict(forecast.states[0].reference.report),
        "assumptions": [parameter.as_table() for parameter in forecast.assumptions],
        "recipe": dict(forecast.recipe),
    }


def _effect(effect: Effect) -> dict[str, Any]:
    return {
        "what": effect.what,
        "volume_ml": effect.volume,
        "volume_change_ml": effect.volume_change,
        "contour_change_mm": effect.contour_change,
        "volume_spread_ml": effect.volume_spread,
        "contour_spread_mm": effect.contour_spread,
        "matters": effect.matters,
    }


def _tissue(state: TissueState) -> dict[str, Any]:
    tumour = state.tumour
    if not len(tumour):
        unseen = ("oxygen_mmhg", "fluid_mmhg", "living_fraction", "matrix_fraction", "largest_von_mises_kpa")
        return {"day": state.day, "volume_ml": state.volume, "living_cells": 0.0, **dict.fromkeys(unseen)}
    volumes = state.mesh.volumes[tumour]
    return {
        "day": state.day,
        "volume_ml": state.volume,
        "oxygen_mmhg": _spread(state.oxygen[tumour]),
        "fluid_mmhg": None if state.fluid is None else _spread(state.fluid[tumour]),
        "living_fraction": float(np.average(state.cellularity[tumour], weights=volumes)),
        "matrix_fraction": float(np.average(state.matrix[tumour], weights=volumes)),
        "living_cells": float((state.cellularity[tumour] * volumes).sum() * CELL_DENSITY.value),
        "largest_von_mises_kpa": None if state.von_mises is None else float(state.von_mises.max()),
    }


def _spread(values: NDArray[np.float64]) -> dict[str, float]:
    return {name: float(np.percentile(values, share)) for name, share in (("p10", 10), ("median", 50), ("p90", 90))}


def _step(step: MacroStep) -> dict[str, Any]:
    return {
        "start_day": step.start_day,
        "end_day": step.end_day,
        "leave_one_out_ln_ratio": step.leave_one_out,
        "worst_ln_ratio": step.worst,
        "extrapolation_ln_volume": step.extrapolation,
        "limited_elements": step.limited,
        "notes": list(step.notes),
        "mechanics": dict(step.mechanics),
        "cells": dict(step.cells),
        "pace": dict(step.pace),
        "representatives": [_representative(one) for one in step.representatives],
    }


def _representative(one: Representative) -> dict[str, Any]:
    return {
        "element": one.element,
        "weight": one.weight,
        "oxygen_mmhg": one.oxygen,
        "delivery": one.delivery,
        "cellularity": one.cellularity,
        "volume_ratio": one.volume_ratio if np.isfinite(one.volume_ratio) else None,
        "cells_start": one.counts[0].tolist(),
        "cells_end": one.counts[-1].tolist(),
    }
