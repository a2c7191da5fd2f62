"""Weighted k-medoids over what the cells will feel: the default.

The extremes are forced in: the least and most oxygenated, cellular and treated elements and one of each oxygen stratum,
so that nothing is ever predicted from outside what was simulated. Then come elements whose cells already live, those
that stand for most first. What is left is placed by clustering; medoids are real elements, so nothing is simulated that
the tumour does not hold [project specification, tissue §7.4].
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...core.chance import uniform
from ..selection import Candidates, distances

_RESTARTS = 4


def choose(candidates: Candidates, count: int, seed: int) -> NDArray[np.int64]:
    """Rows of the chosen, the extremes and the survivors of the step before among them."""
    forced = [*_extremes(candidates), *_survivors(candidates)]
    return _medoids(candidates.features, candidates.volumes, list(dict.fromkeys(forced))[:count], count, seed)


def _extremes(candidates: Candidates) -> list[int]:
    """Rows of the least and most oxygenated, cellular and treated elements, and one of each oxygen stratum."""
    rows: list[int] = []
    for values in (candidates.oxygen, candidates.cellularity, candidates.delivery):
        if np.ptp(values) > 1e-9:
            rows += [int(np.argmin(values)), int(np.argmax(values))]
    for level in range(3):
        inside = np.flatnonzero(candidates.stratum == level)
        if len(inside):
            rows.append(int(inside[np.argsort(candidates.oxygen[inside], kind="stable")[len(inside) // 2]]))
    return list(dict.fromkeys(rows))


def _survivors(candidates: Candidates) -> list[int]:
    """Rows of the elements whose cells are stored, those that stand for most of the tumour first."""
    rows = np.flatnonzero(candidates.continues)
    if not len(rows):
        return []
    nearest = np.argmin(distances(candidates.features, candidates.features[rows]), axis=1)
    shares = np.bincount(nearest, weights=candidates.volumes, minlength=len(rows))
    return [int(row) for row in rows[np.argsort(-shares, kind="stable")]]


def _medoids(
    features: NDArray[np.float64], weights: NDArray[np.float64], forced: list[int], count: int, seed: int
) -> NDArray[np.int64]:
    """Weighted k-medoids by alternation from seeded k-means++ starts; ``forced`` medoids stay."""
    best: tuple[float, NDArray[np.int64]] | None = None
    for restart in range(_RESTARTS):
        chosen = _spread_start(features, weights, forced, count, seed, restart)
        for _ in range(20):
            nearest = np.argmin(distances(features, features[chosen]), axis=1)
            moved = chosen.copy()
            for place in range(len(forced), count):
                inside = np.flatnonzero(nearest == place)
                if len(inside):
                    cost = (distances(features[inside], features[inside]) * weights[inside][None, :]).sum(axis=1)
                    moved[place] = inside[np.argmin(cost)]
            if np.array_equal(moved, chosen):
                break
            chosen = moved
        cost_now = float((distances(features, features[chosen]).min(axis=1) * weights).sum())
        if best is None or cost_now < best[0]:
            best = cost_now, chosen
    assert best is not None
    return np.unique(best[1])


def _spread_start(
    features: NDArray[np.float64], weights: NDArray[np.float64], forced: list[int], count: int, seed: int, restart: int
) -> NDArray[np.int64]:
    """k-means++ [Arthur & Vassilvitskii 2007]: each next start is drawn with weight x squared distance."""
    draws = uniform(seed, "selection", "selection.start", np.arange(count), restart)
    chosen = list(forced)
    if not chosen:
        chosen = [int(np.argmin(np.abs(np.cumsum(weights) / weights.sum() - draws[0])))]
    while len(chosen) < count:
        gap = distances(features, features[chosen]).min(axis=1) ** 2 * weights
        ladder = np.cumsum(gap)
        if ladder[-1] <= 0.0:
            free = np.setdiff1d(np.arange(len(features)), chosen)
            chosen += [int(row) for row in free[: count - len(chosen)]]
            break
        chosen.append(int(np.searchsorted(ladder, draws[len(chosen)] * ladder[-1], side="right")))
    return np.array(chosen, dtype=np.int64)
