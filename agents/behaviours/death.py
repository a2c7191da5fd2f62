"""Death: apoptotic signals, the two fates, late necrosis of apoptotic cells, removal."""

from __future__ import annotations

from ..cell import REMOVED, living
from ..neuroblast import NEUROBLAST
from ..parameters import RELEASE
from ..rule import Cell, Hour, Luck, Near, Numbers, chance, compiled, draws, rule, twin_draws
from .crosstalk import share

NB_PATHWAY, NB_SCHWANN_NEAR, NB_SCHWANN_FAR = draws("nb.apop_pathway", "nb.apop_jux", "nb.apop_para")
(SC_PATHWAY,) = draws("sc.apop_pathway")
DECAY, SECOND_NECROSIS, LYSIS = twin_draws("apop_decay", "second_necrosis", "lysis")


@rule(source=f"{RELEASE}; Dunster 2014 as named there")
def turn_necrotic(cell: Cell, luck: Luck, near: Near, colony: Hour, p: Numbers) -> None:
    """An apoptotic cell may turn necrotic."""
    if cell.apop and chance(luck, SECOND_NECROSIS[cell.kind], p.P_2ndnecro):
        cell.apop = False
        cell.necro = True


@rule(source=RELEASE)
def signal_neuroblast_apoptosis(cell: Cell, luck: Luck, near: Near, colony: Hour, p: Numbers) -> None:
    """One apoptotic signal by caspases, or else by damaged DNA with ATP; another from Schwann cells. None: decay."""
    if not living(cell):
        return
    before = cell.apop_signal
    if cell.CAS or (cell.DNA_damage and cell.ATP and chance(luck, NB_PATHWAY, p.P_DNA_damage_pathways)):
        cell.apop_signal += 1
    by_contact = chance(luck, NB_SCHWANN_NEAR, p.nbapop_jux * share(near.schwann, near.neuroblasts))
    if by_contact or chance(luck, NB_SCHWANN_FAR, p.nbapop_para * colony.schwann_share):
        cell.apop_signal += 1
    if cell.apop_signal == before:
        lose_apoptotic_signal(cell, luck, p)


@rule(source=RELEASE)
def signal_schwann_apoptosis(cell: Cell, luck: Luck, near: Near, colony: Hour, p: Numbers) -> None:
    """With ATP, one apoptotic signal by hypoxia, or by damaged DNA (certain without drug). None: decay."""
    if not living(cell):
        return
    certain = cell.hypoxia or (cell.DNA_damage and not cell.drugged)
    if cell.ATP and (certain or (cell.DNA_damage and chance(luck, SC_PATHWAY, p.P_DNA_damage_pathways))):
        cell.apop_signal += 1
    else:
        lose_apoptotic_signal(cell, luck, p)


@compiled
def lose_apoptotic_signal(cell: Cell, luck: Luck, p: Numbers) -> None:
    """One apoptotic signal may decay."""
    if cell.apop_signal > 0 and chance(luck, DECAY[cell.kind], p.P_apoprp):
        cell.apop_signal -= 1


@rule(source=f"{RELEASE}; Elmore 2007 as named there")
def meet_fate(cell: Cell, luck: Luck, near: Near, colony: Hour, p: Numbers) -> None:
    """Enough apoptotic signals, or else as many necrotic signals as this cell can bear, kill it."""
    if not living(cell):
        return
    if cell.apop_signal >= p.apop_critical:
        cell.apop = True
        fall_silent(cell, p)
    elif cell.necro_signal >= cell.necro_critical:
        cell.necro = True
        fall_silent(cell, p)


@compiled
def fall_silent(cell: Cell, p: Numbers) -> None:
    """A cell that died no longer moves by itself, burns or signals; its size stays."""
    cell.mobile = False
    cell.ATP = False
    if p.signals_kept == 0.0:
        cell.apop_signal = 0
        cell.necro_signal = 0
        cell.telo_count = 0
    if cell.kind == NEUROBLAST:
        cell.degdiff = 0.0
        cell.telo = False
        cell.ALT = False
        silence_genes(cell)


@compiled
def silence_genes(cell: Cell) -> None:
    """All species off."""
    cell.MYCN = False
    cell.MAPK_RAS = False
    cell.JAB1 = False
    cell.CHK1 = False
    cell.ID2 = False
    cell.IAP2 = False
    cell.HIF = False
    cell.BNIP3 = False
    cell.VEGF = False
    cell.p53 = False
    cell.p73 = False
    cell.p21 = False
    cell.p27 = False
    cell.Bcl2 = False
    cell.BAK = False
    cell.CAS = False
    cell.CDS1 = False
    cell.CDC25C = False


@rule(source=f"{RELEASE}; Jagiella 2016 as named there")
def be_cleared(cell: Cell, luck: Luck, near: Near, colony: Hour, p: Numbers) -> None:
    """A dead cell, also one that died this hour, may be removed."""
    if not living(cell) and chance(luck, LYSIS[cell.kind], p.P_lysis):
        cell.fate = REMOVED
