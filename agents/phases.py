"""Phases of the cell cycle in a population that grows steadily: the start that gives no burst of divisions.

A cell in hour k of its cycle advances with probability p_k each hour and after 24 such advances is two cells. The
shares n_k that growth leaves unchanged follow n_k (x + p_k) = n_(k-1) p_(k-1), where 1 + x is the growth of an hour
and the product of p_k / (x + p_k) is 1/2 (eigenvector of the chain, project specification, cells §16.1).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Shares = NDArray[np.float64]


def steady_growth(advance: Shares) -> float:
    """Hourly growth x of the population, by bisection."""
    low, high = 0.0, 1.0
    for _ in range(200):
        middle = 0.5 * (low + high)
        if np.prod(advance / (middle + advance)) > 0.5:
            low = middle
        else:
            high = middle
    return low


def steady_shares(advance: Shares) -> Shares:
    """(hours,) share of the cells in each hour of the cycle; ``advance`` is the probability to leave it, above 0."""
    x = steady_growth(advance)
    weights = np.ones(len(advance))
    for hour in range(1, len(advance)):
        weights[hour] = weights[hour - 1] * advance[hour - 1] / (x + advance[hour])
    return np.asarray(weights / weights.sum())
