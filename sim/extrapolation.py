"""Extrapolation: from what the chosen elements did to every element that holds cells, and the error of doing so.

An element is predicted from the representatives of its own oxygen stratum, so that nothing is interpolated across the
cliff of hypoxia, and never beyond what they did. ln r comes by one of two ways; cells per cell at the start by positive
weights alone, so that they are neither negative nor lost.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .selection import Selection, distances

Way = Literal["gaussian-process", "inverse-distance"]
"""How ln r is predicted: by a Gaussian process, or as the mean weighted by inverse squared distance."""

_NUGGET = 0.05
"""Variance of a colony's own chance relative to the variance between colonies, in the Gaussian process."""

_SOFTENING = 1e-6
"""Squared distance in feature space below which two elements are alike."""


def extrapolated(
    selection: Selection, values: NDArray[np.float64], way: Way = "gaussian-process"
) -> NDArray[np.float64]:
    """(populated,) prediction from the representatives of the same oxygen stratum; theirs is their own value."""
    rows = selection.rows
    if selection.is_whole:
        return values
    predicted = np.empty(len(selection.members))
    for level in np.unique(selection.stratum):
        inside = np.flatnonzero(selection.stratum == level)
        known = np.flatnonzero(selection.stratum[rows] == level)
        if not len(known):
            known = np.arange(len(rows))
        predicted[inside] = _predict(selection.features[rows[known]], values[known], selection.features[inside], way)
    predicted[rows] = values
    return predicted


def left_out(selection: Selection, values: NDArray[np.float64], way: Way = "gaussian-process") -> NDArray[np.float64]:
    """(chosen,) each representative predicted from the others of its stratum (of all, if it stands alone)."""
    rows, predictions = selection.rows, values.copy()
    if selection.is_whole:
        return predictions  # every element has its colony: nothing is extrapolated
    for place, row in enumerate(rows):
        others = np.flatnonzero(np.arange(len(rows)) != place)
        alike = others[selection.stratum[rows[others]] == selection.stratum[row]]
        known = alike if len(alike) else others
        if len(known):
            here = selection.features[row][None, :]
            predictions[place] = _predict(selection.features[rows[known]], values[known], here, way)[0]
    return predictions


def offspring_of(selection: Selection, offspring: NDArray[np.float64]) -> NDArray[np.float64]:
    """(populated, fates) cells of each fate for one cell at the start; offspring (chosen, fates).

    Inverse-distance weights within the oxygen stratum are positive and sum to 1; a representative keeps its own.
    """
    rows = selection.rows
    if selection.is_whole:
        return offspring
    distance = distances(selection.features, selection.features[rows])
    alike = selection.stratum[:, None] == selection.stratum[rows][None, :]
    alike[~alike.any(axis=1)] = True
    everywhere = _weighted(np.where(alike, _closeness(distance), 0.0), offspring)
    everywhere[rows] = offspring
    return everywhere


def _predict(
    known: NDArray[np.float64], values: NDArray[np.float64], wanted: NDArray[np.float64], way: Way
) -> NDArray[np.float64]:
    if way == "inverse-distance":
        return _weighted(_closeness(distances(wanted, known)), values[:, None])[:, 0]
    return _process(known, values, wanted)


def _closeness(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights of Shepard [1968, doi 10.1145/800186.810616] with exponent 2."""
    return np.asarray(1.0 / (distance**2 + _SOFTENING))


def _weighted(weights: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(wanted, columns) weighted means of values (known, columns), summed in order; weights (wanted, known)."""
    shares = weights / weights.sum(axis=1, keepdims=True)
    means = np.zeros((len(shares), values.shape[1]))
    for place in range(len(values)):
        means += shares[:, place][:, None] * values[place][None, :]
    return means


def _kernel(a: NDArray[np.float64], b: NDArray[np.float64], length: float) -> NDArray[np.float64]:
    """A trend that is linear in the features plus smooth departures from it (squared exponential)."""
    linear = np.zeros((len(a), len(b)))
    for column in range(a.shape[1]):
        linear += a[:, column][:, None] * b[:, column][None, :]
    return np.asarray(linear / a.shape[1] + np.exp(-0.5 * (distances(a, b) / length) ** 2))


def _process(
    known: NDArray[np.float64], values: NDArray[np.float64], wanted: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Mean of a Gaussian process [Rasmussen & Williams 2006, eq. 2.25]; the nearest value if fewer than three."""
    if len(known) < 3:
        return np.asarray(values[np.argmin(distances(wanted, known), axis=1)])
    gaps = distances(known, known)
    length = float(np.median(gaps[np.triu_indices(len(known), 1)])) or 1.0
    mean = values.mean()
    weights = np.linalg.solve(_kernel(known, known, length) + _NUGGET * np.eye(len(known)), values - mean)
    prediction = mean + (_kernel(wanted, known, length) * weights[None, :]).sum(axis=1)
    return np.asarray(np.clip(prediction, values.min(), values.max()))  # never outside what was simulated
