"""The neuroblastoma cell model at a glance: what each cell does, in order, every hour.

Model of the PRIMAGE project [Borau et al. 2023, Comput Methods Programs Biomed 241:107742; Wertheim et al. 2024, PLoS
Comput Biol 20(12):e1012648], rules as in its released program, version 13.9.4. Neuroblasts and Schwann cells act at
the same time: all read the counts made before any of them acts.
"""

from __future__ import annotations

from typing import Any

from . import ground
from .behaviours.crosstalk import differentiate
from .behaviours.cycle import cycle_neuroblast, cycle_schwann
from .behaviours.damage import damage_neuroblast_dna, damage_schwann_dna
from .behaviours.death import (
    be_cleared,
    meet_fate,
    signal_neuroblast_apoptosis,
    signal_schwann_apoptosis,
    turn_necrotic,
)
from .behaviours.division import divide
from .behaviours.radiation import be_irradiated
from .behaviours.species import (
    brake_cycle,
    check_replication,
    express_oncogenes,
    guard_genome,
    sense_damage,
    sense_hypoxia,
    weigh_survival,
)
from .behaviours.stress import feel_oxygen, spend_energy
from .behaviours.telomeres import lengthen_telomeres
from .cell_type import CellType
from .mechanics import push_on
from .neuroblast import NEUROBLAST, STATE
from .parameters import parameter_set
from .rule import Behaviour, Cell, by_kind, compiled

NEUROBLAST_HOUR: tuple[Behaviour, ...] = (
    turn_necrotic,
    be_irradiated,
    feel_oxygen,
    damage_neuroblast_dna,
    spend_energy,
    express_oncogenes,
    sense_damage,
    sense_hypoxia,
    guard_genome,
    brake_cycle,
    weigh_survival,
    check_replication,
    differentiate,
    signal_neuroblast_apoptosis,
    meet_fate,
    cycle_neuroblast,
    be_cleared,
    lengthen_telomeres,
    divide,
)

SCHWANN_HOUR: tuple[Behaviour, ...] = (
    turn_necrotic,
    be_irradiated,
    feel_oxygen,
    damage_schwann_dna,
    spend_energy,
    signal_schwann_apoptosis,
    meet_fate,
    cycle_schwann,
    be_cleared,
    divide,
)

each_hour = (NEUROBLAST_HOUR, SCHWANN_HOUR)
"""By the cell's kind: neuroblasts, Schwann cells."""

live = by_kind(each_hour, __name__, "live")


@compiled
def calls_for_vessels(cell: Cell) -> Any:
    """A neuroblast that expresses VEGF."""
    return cell.VEGF and cell.kind == NEUROBLAST


CELLS = CellType(
    name="neuroblastoma",
    state=STATE,
    each_hour=each_hour,
    live=live,
    push_on=push_on,
    parameters=lambda values: parameter_set(values=values),
    settle=ground.settle,
    prepare=ground.prepare,
    outcome=ground.outcome_of,
    signals=calls_for_vessels,
    looks_at_cells=False,
)
"""Neuroblasts (kind 0) and Schwann cells (kind 1) in one element of a tumour."""
