"""Elements at random within strata: oxygen first, then slices of equal volume along what varies most there.

Every oxygen stratum has its share of the chosen, in proportion to its volume and at least one while the number lasts.
Within a stratum elements are ordered by their widest feature (the first of equals) and cut into as many slices as are
wanted; each slice is represented by one element of its own. The extremes are not forced in.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..selection import Candidates
from .random import keys


def choose(candidates: Candidates, count: int, seed: int) -> NDArray[np.int64]:
    """Rows of the chosen: one of each slice, drawn with weight = volume, first from those whose cells live already."""
    luck = keys(candidates.members, candidates.volumes, seed)
    levels = np.unique(candidates.stratum)
    inside = [np.flatnonzero(candidates.stratum == level) for level in levels]
    shares = np.array([candidates.volumes[rows].sum() for rows in inside])
    quotas = _quotas(shares, np.array([len(rows) for rows in inside]), count)
    chosen = [
        _first(slice_, candidates.continues[slice_], luck[slice_])
        for rows, quota in zip(inside, quotas, strict=True)
        for slice_ in _slices(rows, candidates, int(quota))
    ]
    return np.sort(np.array(chosen, dtype=np.int64))


def _quotas(shares: NDArray[np.float64], most: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """How many of each stratum, in all ``count``: one at least, largest strata first; never more than it holds.

    Each further one goes to the stratum whose volume per chosen element is largest [divisors of Jefferson & D'Hondt].
    """
    quotas = np.zeros(len(shares), dtype=np.int64)
    quotas[np.argsort(-shares, kind="stable")[:count]] = 1
    while quotas.sum() < count:
        room = np.where((quotas > 0) & (quotas < most), shares / (quotas + 1), -1.0)
        quotas[np.argmax(room)] += 1
    return quotas


def _slices(rows: NDArray[np.int64], candidates: Candidates, count: int) -> list[NDArray[np.int64]]:
    """The rows in ``count`` slices of about equal volume, none of them empty, along their widest feature."""
    if count == 0:
        return []
    widest = int(np.argmax(np.round(candidates.features[rows].std(axis=0), 9)))
    ordered = rows[np.argsort(candidates.features[rows, widest], kind="stable")]
    volume = np.cumsum(candidates.volumes[ordered])
    cuts = np.searchsorted(volume, volume[-1] * np.arange(1, count) / count, side="right")
    for place in range(count - 1):
        cuts[place] = max(cuts[place], cuts[place - 1] + 1 if place else 1)
    cuts = np.minimum(cuts, len(ordered) - np.arange(count - 1, 0, -1))
    return np.split(ordered, cuts)


def _first(rows: NDArray[np.int64], continues: NDArray[np.bool_], luck: NDArray[np.float64]) -> int:
    """The row with the most luck, of those whose cells live already if there is one."""
    free = continues if continues.any() else np.ones(len(rows), dtype=bool)
    return int(rows[free][np.argmax(luck[free])])
