"""Which elements are given a colony: what their cells will feel, and who is chosen to stand for whom.

How they are chosen is one file of ``sim/selections``; ``select_elements`` prepares the candidates, asks the method, and
assigns every element to the chosen one that feels most alike.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..core import registry
from ..core.quantity import Parameter
from .oxygen import HALF_OXYGEN
from .state import TissueState

SELECTIONS = "oncoscale.sim.selections"

OXYGEN_CLIFF = (
    Parameter(
        2.5,
        "mmHg",
        "below it every colony regresses",
        source="heterogeneity study of the PRIMAGE model: all runs regress at 3.0 mmHg or less",
    ),
    Parameter(
        5.0,
        "mmHg",
        "above it none regresses for lack of oxygen",
        source="heterogeneity study of the PRIMAGE model: none regresses at 3.2 mmHg or more; "
        "rounded up, so that the cliff lies inside a stratum of its own",
    ),
)
LEAST_CELLS = Parameter(
    0.05,
    "1",
    "volume fraction of cells below which an element is not given a colony: it keeps its volume and its few cells",
    source="least cellularity of the PRIMAGE neuroblastoma model 13.9.4",
)


@dataclass(frozen=True, eq=False)
class Selection:
    """The representatives of one macro step.

    elements   (chosen,) element numbers, ascending
    members    (populated,) element numbers that hold cells, ascending
    nearest    (populated,) index into ``elements``: who stands for whom
    weights    (chosen,) share of the populated volume, or of the cells of a tumour without a border; sums to 1
    features   (populated, features) what the cells will feel, standardised
    stratum    (populated,) 0 anoxic, 1 at the cliff, 2 oxygenated
    """

    elements: NDArray[np.int64]
    members: NDArray[np.int64]
    nearest: NDArray[np.int64]
    weights: NDArray[np.float64]
    features: NDArray[np.float64]
    stratum: NDArray[np.int64]

    @property
    def rows(self) -> NDArray[np.int64]:
        """(chosen,) places of the chosen elements in ``members``."""
        return np.searchsorted(self.members, self.elements)

    @property
    def is_whole(self) -> bool:
        """True if every element that holds cells was chosen."""
        return len(self.elements) == len(self.members)


@dataclass(frozen=True, eq=False)
class Candidates:
    """The elements that hold cells, as a method of selection sees them. All arrays are (populated,) but one.

    members                          element numbers, ascending
    volumes                          mm³; of the cells alone where a tumour has no border: most of it is sparse tissue
    features                         (populated, features) what the cells will feel, standardised
    stratum                          0 anoxic, 1 at the cliff, 2 oxygenated
    oxygen, cellularity, delivery    mmHg, volume fraction of living cells, drug relative to the tumour's median
    continues                        whether cells of the element are stored from the macro step before
    """

    members: NDArray[np.int64]
    volumes: NDArray[np.float64]
    features: NDArray[np.float64]
    stratum: NDArray[np.int64]
    oxygen: NDArray[np.float64]
    cellularity: NDArray[np.float64]
    delivery: NDArray[np.float64]
    continues: NDArray[np.bool_]


Method = Callable[[Candidates, int, int], NDArray[np.int64]]
"""``choose`` of a module of ``sim/selections``: candidates, how many, seed; returns their rows, ascending and unique.
It is asked only when fewer are wanted than there are."""


def select_elements(state: TissueState, count: int | None, seed: int, method: str = "k-medoids") -> Selection:
    """The elements whose cells are simulated in this macro step, and who stands for whom.

    count   representatives wanted (None: every element that holds cells)
    method  a module of ``sim/selections``

    An element is represented by the chosen one of its oxygen stratum whose features lie nearest. Same state, seed and
    method: same choice.
    """
    candidates = candidates_of(state)
    everybody = np.arange(len(candidates.members))
    if count is None or count >= len(everybody):
        chosen = nearest = everybody
    else:
        choose: Method = registry.load(SELECTIONS, method).choose
        chosen = choose(candidates, count, seed)
        nearest = _nearest(candidates, chosen)
    volumes = candidates.volumes
    weights = np.bincount(nearest, weights=volumes, minlength=len(chosen)) / volumes.sum()
    return Selection(
        candidates.members[chosen], candidates.members, nearest, weights, candidates.features, candidates.stratum
    )


def candidates_of(state: TissueState) -> Candidates:
    """The elements that hold enough cells for a colony."""
    inhabited = state.inhabited
    filled = state.composition[inhabited].sum(axis=1)
    members, filled = inhabited[filled >= LEAST_CELLS.value], filled[filled >= LEAST_CELLS.value]
    volumes = state.mesh.volumes[members]
    return Candidates(
        members,
        volumes if state.visible is None else volumes * filled,
        _features(state, members),
        np.digitize(state.oxygen[members], [cliff.value for cliff in OXYGEN_CLIFF]),
        state.oxygen[members],
        state.cellularity[members],
        state.delivery[members],
        np.isin(members, list(state.colonies)),
    )


def distances(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """(a, b) Euclidean distances, summed column by column so that no library's threads change a bit."""
    squares = np.zeros((len(a), len(b)))
    for column in range(a.shape[1]):
        squares += (a[:, column][:, None] - b[:, column][None, :]) ** 2
    return np.sqrt(squares)


def _nearest(candidates: Candidates, chosen: NDArray[np.int64]) -> NDArray[np.int64]:
    """(populated,) index into ``chosen`` of who stands for each, of the same stratum where it has one."""
    distance = distances(candidates.features, candidates.features[chosen])
    distance += 1e6 * (candidates.stratum[:, None] != candidates.stratum[chosen][None, :])
    return np.asarray(np.argmin(distance, axis=1))


def _features(state: TissueState, members: NDArray[np.int64]) -> NDArray[np.float64]:
    """Hypoxia (logit of p50/(P + p50)), cellularity, delivery of drug, Schwann cells [project specification, tissue
    §7.4; without the element's volume, which its colony never feels], standardised; constant ones are left out."""
    oxygen = state.oxygen[members]
    hypoxia = np.log(HALF_OXYGEN.value / np.maximum(oxygen, 1e-3))
    columns = np.column_stack(
        [hypoxia, state.cellularity[members], state.delivery[members], state.composition[members, 3]]
    )
    spread = columns.std(axis=0) if len(members) else np.zeros(columns.shape[1])
    columns = columns[:, spread > 1e-9]
    return (
        np.asarray((columns - columns.mean(axis=0)) / columns.std(axis=0))
        if columns.size
        else np.zeros((len(members), 1))
    )
