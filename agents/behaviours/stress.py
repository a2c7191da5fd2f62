"""Stress: what a cell feels of oxygen, telomeres, drug and dying neighbours, and whether its energy suffices."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..cell import living
from ..parameters import RELEASE
from ..rule import Cell, Hour, Luck, Near, Numbers, chance, chance_at, compiled, either, rule, twin_draws

HYPOXIA, NUTRIENT = twin_draws("hypoxia", "nutrient")
DAMAGE_TELOMERES, DAMAGE_HYPOXIA, DAMAGE_DRUG = twin_draws("dmg_telo", "dmg_hypoxia", "dmg_chemo")
NECROTIC_NEIGHBOUR, NECROTIC_DECAY, GLYCOLYSIS = twin_draws("necro_is", "necro_decay", "glycolysis")


@rule(source=f"{RELEASE}; Warren and Partridge 2016 and Carreau 2011 as named there")
def feel_oxygen(cell: Cell, luck: Luck, near: Near, colony: Hour, p: Numbers) -> None:
    """Hypoxia, and lack of nutrients, each with probability C50 / (oxygen + C50)."""
    if living(cell):
        shortage = p.C50_necro / (p.Cs_O2 * near.oxygen + p.C50_necro)
        cell.hypoxia = chance(luck, HYPOXIA[cell.kind], shortage)
        cell.nutrient = not chance(luck, NUTRIENT[cell.kind], shortage)


@compiled
def damaged_by_itself(cell: Cell, luck: Luck, p: Numbers) -> Any:
    """Whether short telomeres or hypoxia damage the DNA this hour."""
    return either(
        chance(luck, DAMAGE_TELOMERES[cell.kind], 1.0 - cell.telo_count / p.telo_critical),
        cell.hypoxia and chance(luck, DAMAGE_HYPOXIA[cell.kind], p.P_DNA_damageHypo),
    )


@compiled
def damaged_by_drug(cell: Cell, luck: Luck, p: Numbers) -> Any:
    """Whether a drug that reached the cell damages its DNA: in G2 only, not in its first hour."""
    in_g2 = p.stage_S + 1 <= cell.cycle < p.stage_G2
    return in_g2 and chance(luck, DAMAGE_DRUG[cell.kind], p.P_apopChemo)


@rule(source=f"{RELEASE}; glycolysis: du Plessis 2015 as named there")
def spend_energy(cell: Cell, luck: Luck, near: Near, colony: Hour, p: Numbers) -> None:
    """Necrotic signals from dying neighbours and from want of energy; ATP by respiration or, rarely, glycolysis.

    Each necrotic cell nearby may add a signal. With nutrients and oxygen the cell has ATP and, unless stressed, may
    lose a signal. In hypoxia glycolysis gives ATP at one signal, its failure none at two. Without nutrients: no ATP,
    one signal.
    """
    if living(cell):
        stressed = False
        for neighbour in range(near.necrotic):
            if chance_at(luck, NECROTIC_NEIGHBOUR[cell.kind], np.uint64(neighbour), p.P_necroIS):
                cell.necro_signal += 1
                stressed = True
        metabolise(cell, luck, stressed, p)


@compiled
def metabolise(cell: Cell, luck: Luck, stressed: bool, p: Numbers) -> None:
    """ATP and the necrotic signals of metabolism."""
    if not cell.nutrient:
        cell.ATP = False
        cell.necro_signal += 1
    elif not cell.hypoxia:
        cell.ATP = True
        if cell.necro_signal > 0 and not stressed and chance(luck, NECROTIC_DECAY[cell.kind], p.P_necrorp):
            cell.necro_signal -= 1
    elif chance(luck, GLYCOLYSIS[cell.kind], p.glycoEff):
        cell.ATP = True
        cell.necro_signal += 1
    else:
        cell.ATP = False
        cell.necro_signal += 2
