"""A type of cell: all that an engine needs to let colonies of it live.

The engine knows bodies that push, voxels that are counted, births and removals. A cell type says the rest: its state,
its rules in their order, the law of its contacts, how a colony of it starts, what ground it stands on, and what it
tells when it is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from numpy.typing import NDArray

from ..core.errors import ConfigurationRejected
from .cell import State
from .colony import Colony, ColonyOutcome
from .living import Census, LivingColony
from .mechanics import PushOn
from .modes import Switches
from .parameters import ParameterSet
from .rule import Behaviour, Cell, compiled
from .voxels import Grid

NAMES = ("glioma", "neuroblastoma", "spheroid")
"""Modules of this package that declare a type of cell as CELLS."""


@compiled
def never(cell: Cell) -> bool:
    """No cell of this type signals."""
    return False


@dataclass(frozen=True, eq=False)
class CellType:
    """A model of cells.

    state       what a cell is
    each_hour   rules in their order, by the cell's kind
    live        the same as one function, for compiled engines (``rule.by_kind``)
    push_on     the law of contacts (``mechanics.pushes``)
    parameters  the numbers of a run, some replaced by these values
    settle      a colony ready to live, from (type, colony, seed, switches, parameters)
    prepare     what the cells share in an hour (one record) and oxygen by voxel, after relaxation and counting
    outcome     what a colony did
    signals     whether a cell calls for vessels: counted in every census
    looks_at_cells  whether ``prepare`` looks at the cells or changes them, so that an engine whose cells are elsewhere
                must fetch them first; a ground that needs no more than the census says no
    """

    name: str
    state: State
    each_hour: tuple[tuple[Behaviour, ...], ...]
    live: Behaviour
    push_on: PushOn
    parameters: Callable[[Mapping[str, float] | None], ParameterSet]
    settle: Callable[[CellType, Colony, int, Switches, ParameterSet], LivingColony]
    prepare: Callable[[LivingColony, Census], tuple[NDArray[Any], Grid]]
    outcome: Callable[[LivingColony], ColonyOutcome]
    signals: Callable[[Cell], Any] = never
    looks_at_cells: bool = True

    def settled(self, colony: Colony, *, seed: int, switches: Switches, parameters: ParameterSet) -> LivingColony:
        """A colony of this type, ready to live. Raises ConfigurationRejected for what it cannot start from."""
        return self.settle(self, colony, seed, switches, parameters)


def cell_type(name: str) -> CellType:
    """The cell type of that name. Raises ConfigurationRejected for an unknown one."""
    if name not in NAMES:
        raise ConfigurationRejected(f"cell type {name!r} is unknown", "one of " + ", ".join(NAMES),
                                    "choose a type from the list")  # fmt: skip
    found: CellType = import_module(f".{name}", __package__).CELLS
    return found
