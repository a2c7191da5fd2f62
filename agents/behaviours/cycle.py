"""The cell cycle, hour by hour: G1 to 12, S to 18, G2 to 22, M to 24."""

from __future__ import annotations

from typing import Any

from ..cell import living
from ..parameters import RELEASE
from ..rule import Cell, Hour, Luck, Near, Numbers, chance, compiled, draws, rule, twin_draws
from .crosstalk import share

NB_GATE, NB_DIFFERENTIATION = draws("nb.cycle_gate", "nb.cycle_diff")
SC_NEAR, SC_FAR, SC_BASAL = draws("sc.cycle_jux", "sc.cycle_para", "sc.cycle_basal")
UNREPLICATED, UNREPLICATED_HYPOXIA = twin_draws("unrep_basal", "unrep_hypoxia")


@rule(source=f"{RELEASE}; Harper and Brooks 2005 as named there")
def cycle_neuroblast(cell: Cell, luck: Luck, near: Near, colony: Hour, p: Numbers) -> None:
    """An uncrowded neuroblast with ATP may advance its cycle by one hour, if its genes allow.

    G1 needs MAPK/RAS or MYCN without p21 and p27, or ID2; its first hour also that the cell is not differentiated. S
    needs neither p21 nor p27. The last hour of G2 needs CDC25C.
    """
    able = living(cell) and cell.ATP and cell.neighbours <= p.N_neighbours
    if able and chance(luck, NB_GATE, p.P_cycle_nb) and allowed_by_genes(cell, luck, p):
        if p.stage_G1 <= cell.cycle < p.stage_S:
            replicate(cell, luck, p)
        cell.cycle += 1


@compiled
def allowed_by_genes(cell: Cell, luck: Luck, p: Numbers) -> Any:
    """Whether the genes of a neuroblast let it pass the present hour of its cycle."""
    unbraked = not (cell.p21 or cell.p27)
    if cell.cycle < p.stage_G1:
        if cell.cycle == 0 and not chance(luck, NB_DIFFERENTIATION, 1.0 - cell.degdiff):
            return False
        driven = cell.MAPK_RAS or (cell.MYCN and cell.cycle < p.stage_G1 - 1)
        return (driven and unbraked) or cell.ID2
    if cell.cycle < p.stage_S:
        return unbraked
    if cell.cycle == p.stage_G2 - 1:
        return cell.CDC25C
    return True


@rule(source=f"{RELEASE}; Harper and Brooks 2005 as named there")
def cycle_schwann(cell: Cell, luck: Luck, near: Near, colony: Hour, p: Numbers) -> None:
    """An uncrowded Schwann cell with ATP may advance its cycle, called by neuroblasts or by itself.

    G1 and S need sound DNA and oxygen; the last hour of G2 needs sound and replicated DNA.
    """
    able = living(cell) and cell.ATP and cell.neighbours <= p.N_neighbours_sc
    if able and called_to_cycle(luck, near, colony, p) and allowed_by_dna(cell, p):
        if p.stage_G1 <= cell.cycle < p.stage_S:
            replicate(cell, luck, p)
        cell.cycle += 1


@compiled
def called_to_cycle(luck: Luck, near: Near, colony: Hour, p: Numbers) -> Any:
    """By neuroblasts nearby, by neuroblasts of the colony, or by itself; each an own chance."""
    by_contact = chance(luck, SC_NEAR, p.scpro_jux * share(near.neuroblasts, near.schwann))
    through_domain = by_contact or chance(luck, SC_FAR, p.scpro_para * colony.neuroblast_share)
    return through_domain or chance(luck, SC_BASAL, p.P_cycle_sc)


@compiled
def allowed_by_dna(cell: Cell, p: Numbers) -> Any:
    """Whether the DNA of a Schwann cell lets it pass the present hour of its cycle."""
    if cell.cycle < p.stage_S:
        return not (cell.DNA_damage or cell.hypoxia)
    if cell.cycle == p.stage_G2 - 1:
        return not (cell.DNA_damage or cell.DNA_unreplicated)
    return True


@compiled
def replicate(cell: Cell, luck: Luck, p: Numbers) -> None:
    """In S, DNA may be left unreplicated, more so in hypoxia."""
    if not cell.DNA_unreplicated:
        by_hypoxia = cell.hypoxia and chance(luck, UNREPLICATED_HYPOXIA[cell.kind], p.P_unrepDNAHypo)
        cell.DNA_unreplicated = chance(luck, UNREPLICATED[cell.kind], p.P_unrepDNA) or by_hypoxia
