"""Elements at random, in proportion to their volume: the naive control, which knows nothing of what cells feel.

Neither the extremes of oxygen nor any stratum is forced in; a small necrotic core may be missed altogether.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...core.chance import uniform
from ..selection import Candidates


def choose(candidates: Candidates, count: int, seed: int) -> NDArray[np.int64]:
    """Rows of the chosen, drawn without replacement with weight = volume.

    A draw belongs to its element, not to the macro step, so that a chosen element stays chosen while its share of the
    tumour lasts, and its cells live on.
    """
    return np.sort(np.argsort(-keys(candidates.members, candidates.volumes, seed), kind="stable")[:count])


def keys(members: NDArray[np.int64], weights: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """(members,) ln u / w: the largest of them are a weighted sample without replacement [Efraimidis & Spirakis 2006,
    Inf Process Lett 97:181-185, doi 10.1016/j.ipl.2005.11.003]."""
    luck = uniform(seed, "selection", "selection.weighted", members)
    return np.asarray(np.log1p(-luck) / weights)
