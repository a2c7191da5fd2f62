"""Damage of DNA: a neuroblast repairs it through p53 and p73, a Schwann cell by chance."""

from __future__ import annotations

from ..cell import living
from ..parameters import RELEASE
from ..rule import Cell, Hour, Luck, Near, Numbers, chance, draws, rule
from .stress import damaged_by_drug, damaged_by_itself

(NB_DRUG_GATE,) = draws("nb.dmg_chemo_gate")
SC_DRUGGED, SC_REPAIR, SC_REPLICATE = draws("sc.chemo_status", "sc.dmg_repair", "sc.unrep_repair")


@rule(source=RELEASE)
def damage_neuroblast_dna(cell: Cell, luck: Luck, near: Near, colony: Hour, p: Numbers) -> None:
    """DNA is mended when p53 or p73 was on in the hour before; else telomeres, hypoxia or a drug may damage it."""
    if not living(cell):
        return
    if cell.DNA_damage:
        cell.DNA_damage = not (cell.p53 or cell.p73)
    elif damaged_by_itself(cell, luck, p):
        cell.DNA_damage = True
    elif chance(luck, NB_DRUG_GATE, colony.drug_mean):
        cell.DNA_damage = damaged_by_drug(cell, luck, p)


@rule(source=RELEASE)
def damage_schwann_dna(cell: Cell, luck: Luck, near: Near, colony: Hour, p: Numbers) -> None:
    """Telomeres, hypoxia or a drug may damage DNA; a cell that no drug reached may mend damage and replicate.

    Whether the drug reaches the cell this hour is drawn once, and holds for its apoptotic signals too.
    """
    if not living(cell):
        return
    cell.drugged = chance(luck, SC_DRUGGED, colony.drug_mean)
    if not cell.DNA_damage:
        cell.DNA_damage = damaged_by_itself(cell, luck, p) or (cell.drugged and damaged_by_drug(cell, luck, p))
    elif not cell.drugged and chance(luck, SC_REPAIR, p.P_DNA_damagerp):
        cell.DNA_damage = False
    if cell.DNA_unreplicated and not cell.drugged and chance(luck, SC_REPLICATE, p.P_unrepDNArp):
        cell.DNA_unreplicated = False
