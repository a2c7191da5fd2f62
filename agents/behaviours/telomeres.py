"""Telomeres of a neuroblast grow by telomerase or, without it, by alternative lengthening."""

from __future__ import annotations

from ..cell import living
from ..parameters import RELEASE
from ..rule import Cell, Hour, Luck, Near, Numbers, chance, draws, rule

TELOMERASE, TELOMERASE_DRUG, ALTERNATIVE = draws("nb.telo_telomerase", "nb.telo_drug", "nb.telo_alt")


@rule(source=RELEASE)
def lengthen_telomeres(cell: Cell, luck: Luck, near: Near, colony: Hour, p: Numbers) -> None:
    """A short telomere may gain one unit by telomerase, which a drug blocks, else by ALT.

    A blocked gain by telomerase leaves no attempt for ALT in that hour.
    """
    if not living(cell) or cell.telo_count >= p.telo_maximum:
        return
    if cell.telo and chance(luck, TELOMERASE, p.P_telorp):
        if not chance(luck, TELOMERASE_DRUG, colony.drug_on_TEP1):
            cell.telo_count += 1
    elif cell.ALT and chance(luck, ALTERNATIVE, p.P_telorp):
        cell.telo_count += 1
