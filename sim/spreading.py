"""Spreading: what the colonies of an infiltrating tumour answer becomes growth of a density that also wanders.

Beside ``coupling.homogenise``, which answers for tumours with a border. A colony tells day by day how many cells it
has; that is turned into the rate with which ``infiltration.logistic`` would have done the same at the colony's
density, so room is counted once. Rates go to every element, then to the voxels; there density grows and wanders.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ..agents.colony import ColonyOutcome
from .books import LIVING
from .coupling import Homogenised, left_behind, representatives_of
from .extrapolation import Way, extrapolated, left_out, offspring_of
from .selection import Selection
from .spread import Ground
from .state import TissueState

Real = NDArray[np.float64]

FULLEST = 0.999
"""Density that the answer of a colony may reach: none is fuller than full."""

HOURS_PER_DAY = 24


def spread(
    state: TissueState,
    selection: Selection,
    outcomes: Sequence[ColonyOutcome],
    ground: Ground,
    way: Way = "gaussian-process",
) -> Homogenised:
    """Growth, spread and composition of every element from the outcomes of the chosen ones.

    ASSUMED: tissue too sparse for a colony grows as the nearest that has one; healthy vessels stay with the tissue; an
    error of ln r of a colony is an error of the ln of the visible volume.
    """
    assert state.density is not None
    filled = state.composition.sum(axis=1)
    lengths, rates = daily_rates(filled[selection.elements], outcomes)
    nearest = _nearest_member(ground, selection)
    density = state.density
    for days, rate in zip(lengths, rates.T):
        everywhere = extrapolated(selection, rate, way)[nearest]
        density = ground.tissue.grow(density, ground.on_voxels(everywhere), float(days))
    after = _tissue_after(state, selection, outcomes, ground, density, nearest)
    folds = (rates * lengths).sum(axis=1)
    error = np.abs(folds - left_out(selection, folds, way))
    typical = float(selection.weights @ folds / lengths.sum())
    lost = int(sum(outcome.cell_count == 0 for outcome in outcomes))
    return Homogenised(
        after,
        representatives_of(state, selection, outcomes),
        np.exp(3.0 * np.log(after.stretch / state.stretch)),
        float(np.sum(selection.weights * error)),
        float(error.max()),
        float(np.sqrt(np.sum((selection.weights * error) ** 2))),
        lost,
        (*_resolution(ground, typical), *_edge(ground, after), *left_behind(state, selection)),
    )


def daily_rates(filled: Real, outcomes: Sequence[ColonyOutcome]) -> tuple[Real, Real]:
    """(days,) lengths of the days of a step, the last may be short, and (chosen, days) rates 1/day.

    filled  (chosen,) density at the start

    Growth is the logistic rate, loss the exponential one, as ``logistic`` has them. ASSUMED: a colony that lost every
    cell keeps half a one, so that its loss has a rate; how often that happened is told as ``limited``.
    """
    hours = len(outcomes[0].counts) - 1
    ends = np.unique(np.append(np.arange(0, hours, HOURS_PER_DAY), hours))
    lengths = np.diff(ends) / HOURS_PER_DAY
    cells = np.array([np.maximum(outcome.counts[ends].sum(axis=1), 0.5) for outcome in outcomes])
    density = np.clip(filled[:, None] * cells / cells[:, :1], 1e-12, FULLEST)
    odds = density / (1.0 - density)
    before, after = density[:, :-1], density[:, 1:]
    grown = np.log(odds[:, 1:] / odds[:, :-1])
    return lengths, np.where(after >= before, grown, np.log(after / before)) / lengths


def _nearest_member(ground: Ground, selection: Selection) -> NDArray[np.int64]:
    """(elements,) place among the members of the nearest one; a member is its own."""
    centres = ground.body.centroids
    return np.asarray(cKDTree(centres[selection.members]).query(centres)[1])


def _tissue_after(
    state: TissueState,
    selection: Selection,
    outcomes: Sequence[ColonyOutcome],
    ground: Ground,
    density: Real,
    nearest: NDArray[np.int64],
) -> TissueState:
    """The tissue with its new density. Cells start anew from it in the next step: they have mixed with neighbours.

    Fates and memories of colonies are given to the other elements by the same weights; where cells are too sparse for a
    colony, those of the nearest element that has one.
    """
    filled = ground.density_of_elements(density)
    offspring = np.array([outcome.counts[-1] / max(outcome.counts[0].sum(), 1) for outcome in outcomes])
    classes = offspring_of(selection, offspring)
    total = classes.sum(axis=1, keepdims=True)
    living = np.eye(6)[:1]
    shares = np.where(total > 0.0, classes / np.maximum(total, 1e-300), living)[nearest]
    known = memories_of(selection, outcomes)
    moments = {element: known[member] for element, member in enumerate(nearest) if known[member]}
    swollen = np.exp(ground.spread.swelling * (filled - state.composition.sum(axis=1)))
    return replace(
        state,
        reference=ground.labelled(density),
        density=density,
        visible=ground.visible_share(density),
        composition=filled[:, None] * shares,
        stretch=state.stretch * swollen,
        moments=moments,
        colonies={},
        rooms={},
    )


def memories_of(selection: Selection, outcomes: Sequence[ColonyOutcome]) -> list[dict[str, tuple[float, float]]]:
    """(populated,) what the cells of each element remember: the mean over its cells, which come of every colony by the
    weights of ``offspring_of``. A representative's is its own; empty where no living cell came of any colony.

    ASSUMED: what is told of some cells alone, as of the doomed, is weighed by all the cells of a colony that has such;
    where none of the colonies has such cells, nothing is told of them.
    """
    names = sorted({name for outcome in outcomes for name in outcome.moments})
    left = np.array([outcome.counts[-1][LIVING].sum() / max(outcome.counts[0].sum(), 1) for outcome in outcomes])
    if not names:
        return [{}] * len(selection.members)
    told = np.array([[outcome.moments.get(name, (0.0, 0.0)) for name in names] for outcome in outcomes])
    telling = left[:, None] * np.array([[name in outcome.moments for name in names] for outcome in outcomes])
    sums = (telling[..., None] * told).reshape(len(outcomes), 2 * len(names))
    found = offspring_of(selection, np.column_stack([telling, sums]))
    weights, sums = found[:, : len(names)], found[:, len(names) :].reshape(len(found), len(names), 2)
    means = sums / np.maximum(weights, 1e-300)[..., None]
    return [
        {names[of]: (float(mean[of, 0]), float(mean[of, 1])) for of in np.flatnonzero(weight > 0.0)}
        for weight, mean in zip(weights, means, strict=True)
    ]


def _edge(ground: Ground, after: TissueState) -> tuple[str, ...]:
    """Words where the tumour has no more room in what is modelled."""
    if after.visible is None or not ground.has_reached_the_end(after.visible):
        return ()
    return ("The visible tumour has reached the end of the tissue that is modelled: from here on it lacks room.",)


def _resolution(ground: Ground, rate: float) -> tuple[str, ...]:
    """Words where the voxels are too wide for the front."""
    wide = ground.tissue.unresolved(rate)
    if wide <= 1.0:
        return ()
    return (f"The tumour's front is {wide:.1f} times too thin for its voxels of {ground.spread.voxel:g} mm.",)
