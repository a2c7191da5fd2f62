"""Between the scales: hand the chosen elements to the cells, give every element what the cells answered.

The only file that knows both meshes and cells. ``localise`` turns the elements that ``selection`` chose into colonies;
``homogenise`` extrapolates the outcomes to every element (``extrapolation``), measures the error of doing so by leaving
each representative out, and keeps the books of the cells (``books``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..agents.colony import Colony, ColonyOutcome, Surroundings
from ..core.quantity import Parameter
from . import books
from .extrapolation import Way, extrapolated, left_out, offspring_of
from .forecast import Representative
from .oxygen import BLOOD_OXYGEN, CELL_DENSITY
from .selection import LEAST_CELLS, OXYGEN_CLIFF, Selection
from .state import TissueState
from .treatment import Treatment

FINITE_SIZE = Parameter(
    0.0092,
    "mm",
    "relative excess of the volume ratio of a small cube of cells, times its edge",
    source="fit 1.0999 + 0.0101 mm / edge over cubes of 0.2 to 47 mm3 (project specification, cells §15.3). ASSUMED to "
    "be proportional to the ratio, so that it holds for other states than the fixture's",
    range=(0.0, 0.02),
    assumed=True,
)
GROWTH_LIMITS = (
    Parameter(
        0.2, "1", "least volume ratio of an element in one macro step", source="project specification, tissue §7.1"
    ),
    Parameter(
        2.0,
        "1",
        "largest volume ratio of an element in one macro step",
        source="walls of the cell model's cube; project specification, tissue §7.1",
    ),
)
LARGEST_SOLID_FRACTION = Parameter(
    0.95, "1", "largest volume fraction of all cells", source="PRIMAGE neuroblastoma model 13.9.4"
)

Datum = Literal["constituents", "occupancy"]
"""What an element's growth is read from: the volumes of its cells and matrix, or the voxels that its cells occupy."""

PARAMETERS = (*OXYGEN_CLIFF, FINITE_SIZE, *GROWTH_LIMITS, LEAST_CELLS, LARGEST_SOLID_FRACTION)


def localise(
    state: TissueState,
    selection: Selection,
    *,
    cells: int,
    treatment: Treatment | None,
    genetics: Mapping[str, int],
    histology: int,
    gradiff: int,
) -> tuple[Colony, ...]:
    """A colony of about ``cells`` cells for each chosen element, in its mean surroundings.

    Stored cells go on in the space that their element grew for them (``TissueState.rooms``). ASSUMED: the tissue's
    pressure does not squeeze them, because the volume change of a single element is too uneven to hand down.
    """
    volumes = state.mesh.volumes
    colonies = []
    for element in selection.elements:
        composition = state.composition[element]
        cube = min(float(volumes[element]), cells / (CELL_DENSITY.value * float(composition.sum())))
        surroundings = Surroundings(
            volume=cube,
            oxygen=float(np.clip(state.oxygen[element] / BLOOD_OXYGEN.value, 0.0, 1.0)),
            composition=tuple(float(fraction) for fraction in composition),  # type: ignore[arg-type]
            clock=round(24 * state.day),
            drugs=treatment.windows_of(int(element), float(state.delivery[element])) if treatment else (),
            radiation=treatment.fractions_at(1.0 if state.dose is None else float(state.dose[element]))
            if treatment
            else (),
            genetics=genetics,
            histology=histology,
            gradiff=gradiff,
            moments=state.moments.get(int(element), {}),
            confinement=state.rooms.get(int(element), 1.0),
        )
        colonies.append(Colony(f"element-{element}", surroundings, state.colonies.get(int(element))))
    return tuple(colonies)


@dataclass(frozen=True, eq=False)
class Homogenised:
    """What every element does in one macro step, and how sure the extrapolation is.

    state            the state with new composition, stretch, moments and stored cells (mechanics not yet solved)
    representatives  what the chosen elements did
    ratio            (elements,) volume ratio given to each element (1 in the host)
    leave_one_out, worst   mean (volume-weighted) and largest |ln r - ln r predicted without it|
    extrapolation    standard error of the tumour's ln volume that those differences make, taken as independent
    limited          number of elements whose ratio met a limit
    notes            substitutions, in words
    cells            the books of cells (``books.account``); empty where there are none
    """

    state: TissueState
    representatives: tuple[Representative, ...]
    ratio: NDArray[np.float64]
    leave_one_out: float
    worst: float
    extrapolation: float
    limited: int
    notes: tuple[str, ...]
    cells: Mapping[str, Any] = field(default_factory=dict)


def homogenise(
    state: TissueState,
    selection: Selection,
    outcomes: Sequence[ColonyOutcome],
    way: Way = "gaussian-process",
    datum: Datum = "constituents",
) -> Homogenised:
    """Growth and composition of every element from the outcomes of the chosen ones.

    What is extrapolated by ``way`` depends on what growth is read from (``datum``): cells at the end for one at the
    start, or ln r. Fates of cells come by positive weights, so that cells are neither negative nor lost.
    A colony without a cell left gives just the volume of the cells cleared.
    """
    solid, volumes = state.composition[selection.members].sum(axis=1), state.mesh.volumes[selection.members]
    tally, counted = books.tallied(outcomes)
    fates = tally[:, 1:] / np.maximum(tally[:, :1], 1)
    everywhere = offspring_of(selection, fates)
    if datum == "constituents":
        everywhere = books.with_offspring(everywhere, extrapolated(selection, books.offspring(fates), way))
        ratios = _of_constituents(selection, solid, books.offspring(fates), books.offspring(everywhere), way)
    else:
        ratios = _of_occupancy(selection, solid, books.offspring(fates), outcomes, way)
    error = np.abs(np.log(ratios.own) - np.log(ratios.foretold))
    composition = (solid / ratios.given)[:, None] * everywhere[:, :6]
    roomy, crowding = _with_room(composition, ratios.given * volumes)
    alone = float((state.composition.sum(axis=1) * state.mesh.volumes).sum() - (solid * volumes).sum())
    no_room = float(((composition - roomy).sum(axis=1) * ratios.given * volumes).sum())
    after = _next_state(state, selection, outcomes, ratios.given, roomy)
    return Homogenised(
        replace(after, rooms=_rooms(selection, outcomes, ratios.own) if datum == "constituents" else {}),
        representatives_of(state, selection, outcomes),
        _all_elements(state, selection, ratios.given),
        float(np.sum(selection.weights * error)),
        float(error.max()),
        float(np.sqrt(np.sum((selection.weights * error) ** 2))),
        ratios.limited,
        (*_deaths(outcomes), *left_behind(state, selection), *crowding),
        books.account(tally, counted, solid * volumes, everywhere, no_room=no_room, alone=alone),
    )


@dataclass(frozen=True, eq=False)
class Ratios:
    """Volume ratios r of one macro step, within limits.

    own       (chosen,) what each colony answers
    foretold  (chosen,) what it was predicted to answer from the others
    given     (populated,) what each element is given
    limited   how many of the first and the last met a limit
    """

    own: NDArray[np.float64]
    foretold: NDArray[np.float64]
    given: NDArray[np.float64]
    limited: int


def _of_constituents(
    selection: Selection,
    solid: NDArray[np.float64],
    folds: NDArray[np.float64],
    everywhere: NDArray[np.float64],
    way: Way,
) -> Ratios:
    """r = 1 + solid (fold - 1): an element has the volume of its cells and its matrix.

    Tissue is a mixture without voids whose parts keep their density [Ward & King 1997, doi 10.1093/imammb/14.1.39;
    Ambrosi & Preziosi 2002, doi 10.1142/S0218202502001878]. ASSUMED: matrix keeps its volume; cells do on average.

    solid              (populated,) volume fraction of cells at the start
    folds, everywhere  cells at the end for one at the start: (chosen,), (populated,)
    """
    low, high = (limit.value for limit in GROWTH_LIMITS)
    mine, wanted = 1.0 + solid[selection.rows] * (folds - 1.0), 1.0 + solid * (everywhere - 1.0)
    foretold = 1.0 + solid[selection.rows] * (left_out(selection, folds, way) - 1.0)
    limited = int(((mine < low) | (mine > high)).sum() + ((wanted < low) | (wanted > high)).sum())
    return Ratios(np.clip(mine, low, high), np.clip(foretold, low, high), np.clip(wanted, low, high), limited)


def _of_occupancy(
    selection: Selection,
    solid: NDArray[np.float64],
    folds: NDArray[np.float64],
    outcomes: Sequence[ColonyOutcome],
    way: Way,
) -> Ratios:
    """r is the cell model's own observable: the growth of the voxels that its cells occupy. ln r is extrapolated.

    ASSUMED: matrix keeps its volume, so an element grows at most by the volume of the cells born and shrinks at most
    by that of the cells cleared (``_bounds``).
    """
    answered = np.array([growth_of(outcome) for outcome in outcomes])
    own = np.clip(np.nan_to_num(answered, nan=0.0), *_bounds(solid[selection.rows], folds, folds))
    predicted = extrapolated(selection, np.log(own), way)
    given = np.clip(np.exp(predicted), *_bounds(solid, folds.min(), folds.max()))
    limited = int(np.sum(np.abs(np.log(given) - predicted) > 1e-12) + np.sum(np.abs(own - answered) > 1e-12))
    return Ratios(own, np.exp(left_out(selection, np.log(own), way)), given, limited)


def untouched(state: TissueState) -> Homogenised:
    """The answer where no element holds enough cells for a colony: nothing grows and nothing is cleared."""
    words = "No element holds enough cells for a colony: what few cells are left are kept as they are."
    return Homogenised(
        replace(state, moments={}, colonies={}, rooms={}), (), np.ones(len(state.stretch)), 0.0, 0.0, 0.0, 0, (words,)
    )


def _deaths(outcomes: Sequence[ColonyOutcome]) -> tuple[str, ...]:
    """Words for colonies without a cell left."""
    died = sum(outcome.cell_count == 0 for outcome in outcomes)
    words = f"{died} colonies lost every cell: their elements shrink by the volume of the cells cleared."
    return (words,) if died else ()


def left_behind(state: TissueState, selection: Selection) -> tuple[str, ...]:
    """Words for stored cells whose element was not chosen again."""
    dropped = len(set(state.colonies) - {int(element) for element in selection.elements})
    words = f"{dropped} colonies of the step before were not continued: other elements had to be represented."
    return (words,) if dropped else ()


def _with_room(
    composition: NDArray[np.float64], volumes: NDArray[np.float64]
) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Fractions with at most LARGEST_SOLID_FRACTION of cells, and words for what found no room.

    A colony may become denser than its element grows: by the voxels that its cells occupy, or beyond GROWTH_LIMITS.
    """
    most = LARGEST_SOLID_FRACTION.value
    total = composition.sum(axis=1)
    beyond = np.maximum(total - most, 0.0)
    share = float((beyond * volumes).sum() / max(float((total * volumes).sum()), 1e-300))
    words = (
        f"In {int((beyond > 0).sum())} elements cells became denser than tissue can hold: their fraction is held at "
        f"{most:g}, which leaves out {100 * share:.1f} % of the tumour's cells."
    )
    fitting = composition * np.minimum(1.0, most / np.maximum(total, 1e-300))[:, None]
    return fitting, (words,) if beyond.any() else ()


def _bounds(
    solid: NDArray[np.float64], least: NDArray[np.float64], most: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Least and largest volume ratio of elements with this volume fraction of cells.

    least, most  cells at the end over cells at the start, the least and the largest that may have happened there
    """
    low = np.maximum(GROWTH_LIMITS[0].value, 1.0 - solid * (1.0 - np.minimum(least, 1.0)))
    high = np.minimum(GROWTH_LIMITS[1].value, 1.0 + solid * (np.maximum(most, 1.0) - 1.0))
    return low, high


def growth_of(outcome: ColonyOutcome) -> float:
    """Volume ratio of a colony without the excess that its small cube has over a large one; NaN if no cell is left."""
    return outcome.volume_ratio / (1.0 + FINITE_SIZE.value / float(outcome.extra["cube_edge_mm"]))


def _next_state(
    state: TissueState,
    selection: Selection,
    outcomes: Sequence[ColonyOutcome],
    ratio: NDArray[np.float64],
    composition: NDArray[np.float64],
) -> TissueState:
    """What every element is after the cells' answer. ASSUMED: tissue that lost its cells has lost its vessels too."""
    everywhere = state.composition.copy()
    everywhere[selection.members] = composition
    supply = state.supply.copy()
    supply[selection.members[composition.sum(axis=1) < LEAST_CELLS.value]] = 0.0
    stretch = state.stretch.copy()
    stretch[selection.members] *= np.cbrt(ratio)
    moments = {
        int(member): outcomes[place].moments
        for member, place in zip(selection.members, selection.nearest, strict=True)
        if outcomes[place].cell_count
    }
    colonies = {
        int(element): outcome.state
        for element, outcome in zip(selection.elements, outcomes, strict=True)
        if outcome.state is not None and outcome.cell_count
    }
    return replace(state, composition=everywhere, supply=supply, stretch=stretch, moments=moments, colonies=colonies)


def _rooms(selection: Selection, outcomes: Sequence[ColonyOutcome], ratios: NDArray[np.float64]) -> dict[int, float]:
    """Volume that the chosen elements have grown to over that which their stored cells took freely."""
    return {
        int(element): float(ratio) / taken
        for element, outcome, ratio in zip(selection.elements, outcomes, ratios, strict=True)
        if outcome.cell_count and (taken := outcome.extra.get("total_volume_ratio"))
    }


def representatives_of(
    state: TissueState, selection: Selection, outcomes: Sequence[ColonyOutcome]
) -> tuple[Representative, ...]:
    return tuple(
        Representative(
            int(element),
            float(weight),
            float(state.oxygen[element]),
            float(state.delivery[element]),
            float(state.cellularity[element]),
            float(outcome.volume_ratio),
            outcome.counts,
            outcome.extra,
        )
        for element, weight, outcome in zip(selection.elements, selection.weights, outcomes, strict=True)
    )


def _all_elements(state: TissueState, selection: Selection, ratio: NDArray[np.float64]) -> NDArray[np.float64]:
    everywhere = np.ones(len(state.stretch))
    everywhere[selection.members] = ratio
    return everywhere
