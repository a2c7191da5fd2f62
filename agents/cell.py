"""The state of a cell, declared once.

The record that rules read and write, what daughters inherit, what is stored between loops and what ``oncoscale
explain`` prints all come from STATE. Neuroblasts and Schwann cells share one record; fields that Schwann cells do not
use stay at their start values.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .colony import TARGETS
from .rule import compiled

NEUROBLAST, SCHWANN = 0, 1
"""Values of ``kind``."""

STAYS, DIVIDES, REMOVED = 0, 1, 2
"""Values of ``fate``: what happens to the cell at the end of the hour."""


@dataclass(frozen=True)
class Variable:
    """One declared number of a cell.

    start      value of a new cell unless the initial conditions say otherwise
    inherited  whether a daughter gets her mother's value (else ``start``)
    """

    name: str
    kind: Any
    unit: str
    meaning: str
    start: float = 0
    inherited: bool = True


def _flags(**meanings: str) -> Iterator[Variable]:
    return (Variable(name, np.bool_, "1", meaning) for name, meaning in meanings.items())


ACTIVITIES = (
    "MYCN_fn", "MAPK_RAS_fn", "p53_fn", "p73_fn", "HIF_fn", "CHK1_fn", "p21_fn", "p27_fn", "CDC25C_fn", "CDS1_fn",
    "ID2_fn", "IAP2_fn", "BNIP3_fn", "JAB1_fn", "Bcl2_fn", "BAK_fn", "CAS_fn", "VEGF_fn",
)  # fmt: skip
"""Probability that a gene's product is active when its regulators ask for it; constant in a cell's life."""

SPECIES = (
    "MYCN", "MAPK_RAS", "JAB1", "CHK1", "ID2", "IAP2", "HIF", "BNIP3", "VEGF", "p53", "p73", "p21", "p27", "Bcl2",
    "BAK", "CAS", "CDS1", "CDC25C",
)  # fmt: skip
"""Gene products that are on or off, decided anew every hour."""

MUTATIONS = ("MYCN_amp", "TERT_rarngm", "ATRX_inact", "ALT", "ALK")

STATE: tuple[Variable, ...] = (
    Variable("identity", np.int64, "1", "persistent number of the cell, from 1; never reused", inherited=False),
    Variable("x", np.float64, "µm", "position, from the centre of the colony's cube", inherited=False),
    Variable("y", np.float64, "µm", "position", inherited=False),
    Variable("z", np.float64, "µm", "position", inherited=False),
    Variable("axis_x", np.float64, "1", "direction in which the daughter is laid", inherited=False),
    Variable("axis_y", np.float64, "1", "direction in which the daughter is laid", inherited=False),
    Variable("axis_z", np.float64, "1", "direction in which the daughter is laid", inherited=False),
    Variable("overlap", np.float64, "µm", "sum of overlaps with other cells", inherited=False),
    Variable("degdiff", np.float64, "1", "degree of differentiation"),
    *(Variable(name, np.float64, "1", f"activity of {name[:-3]}", 1.0) for name in ACTIVITIES),
    Variable("neighbours", np.int32, "1", "cells within the contact radius, the cell itself counted", inherited=False),
    Variable("cycle", np.int32, "h", "completed hours of the cell cycle, 0 to 24", inherited=True),
    Variable("telo_count", np.int32, "1", "telomere units, 0 to 60"),
    Variable("apop_signal", np.int32, "1", "apoptotic signals gathered"),
    Variable("necro_signal", np.int32, "1", "necrotic signals gathered"),
    Variable("necro_critical", np.int32, "1", "necrotic signals that kill this cell"),
    Variable("kind", np.int8, "1", "0 neuroblast, 1 Schwann cell"),
    Variable("fate", np.int8, "1", "0 stays, 1 divides, 2 is removed at the end of the hour", inherited=False),
    Variable("ALK", np.int8, "1", "0 wild type, 1 amplified or activated, 2 other RAS mutation"),
    Variable("mobile", np.bool_, "1", "whether a crowded cell pushes harder", 1),
    Variable("ATP", np.bool_, "1", "whether energy suffices", 1),
    Variable("nutrient", np.bool_, "1", "whether nutrients suffice", 1),
    *_flags(
        hypoxia="whether oxygen is short",
        drugged="whether a drug reaches this Schwann cell this hour",
        DNA_damage="damaged DNA",
        DNA_unreplicated="unreplicated DNA",
        apop="apoptotic",
        necro="necrotic",
        telo="telomerase active (MYCN or TERT)",
        MYCN_amp="MYCN amplified",
        TERT_rarngm="TERT rearranged",
        ATRX_inact="ATRX inactivated",
        ALT="alternative lengthening of telomeres",
        **{name: f"{name} on" for name in SPECIES},
    ),
)

CELL = np.dtype([(variable.name, variable.kind) for variable in STATE], align=True)
"""One aligned record a cell."""

HOUR = np.dtype(
    [(f"drug_on_{target}", np.float64) for target in TARGETS]
    + [(name, np.float64) for name in ("drug_mean", "schwann_share", "neuroblast_share")],
    align=True,
)
"""What a colony's cells share in one hour: probability that a drug switches each target off (0 without drug), their
mean, and the shares of living Schwann cells and neuroblasts among the colony's living cells."""

Cells = NDArray[Any]
"""(cells,) array of CELL, in the order of identity."""


def new_cells(count: int, first_identity: int, kind: int) -> Cells:
    """``count`` cells with the declared start values and ascending identities."""
    cells = np.zeros(count, CELL)
    for variable in STATE:
        if variable.start:
            cells[variable.name] = variable.start
    cells["identity"] = np.arange(first_identity, first_identity + count)
    cells["kind"] = kind
    return cells


def daughters_of(mothers: Cells, first_identity: int) -> Cells:
    """Daughters: the mother's whole state but for what is declared as not inherited."""
    daughters = mothers.copy()
    for variable in STATE:
        if not variable.inherited:
            daughters[variable.name] = variable.start
    daughters["identity"] = np.arange(first_identity, first_identity + len(mothers))
    return daughters


def joined(cells: Cells, kept: NDArray[np.bool_], daughters: Cells) -> Cells:
    """The kept cells and then the daughters (moved as whole records)."""
    whole = np.dtype((np.void, CELL.itemsize))
    return np.concatenate([cells.view(whole)[kept], daughters.view(whole)]).view(CELL)


@compiled
def living(cell: Any) -> Any:
    """Neither apoptotic nor necrotic."""
    return not (cell.apop or cell.necro)


@compiled
def class_of(cell: Any) -> Any:
    """Place of the cell in ``colony.CLASSES``."""
    if cell.apop:
        return 3 * cell.kind + 1
    if cell.necro:
        return 3 * cell.kind + 2
    return 3 * cell.kind
