"""Gene products of a neuroblast, on or off, decided anew every hour in the order of their regulation.

In each rule ``f`` is the product's activity. Until a rule sets a species, its value is that of the hour before.
"""

from __future__ import annotations

from ..cell import living
from ..parameters import RELEASE
from ..rule import Cell, Hour, Luck, Near, Numbers, chance, draws, either, rule

MYCN, MYCN_DRUG, MAPK, JAB1, JAB1_DRUG = draws("nb.MYCN", "nb.MYCN_drug", "nb.MAPK", "nb.JAB1", "nb.JAB1_drug")
CHK1_A, CHK1_B, CHK1_DRUG, ID2, IAP2 = draws("nb.CHK1_a", "nb.CHK1_b", "nb.CHK1_drug", "nb.ID2", "nb.IAP2")
HIF_A, HIF_B, HIF_DRUG, BNIP3, VEGF = draws("nb.HIF_a", "nb.HIF_b", "nb.HIF_drug", "nb.BNIP3", "nb.VEGF")
P53_DAMAGE_A, P53_DAMAGE_B, P53_HIF_A, P53_HIF_B, P53_DRUG = draws(
    "nb.p53_dmg_a", "nb.p53_dmg_b", "nb.p53_hif_a", "nb.p53_hif_b", "nb.p53_drug"
)
P73_CHK1, P73_HIF = draws("nb.p73_chk1", "nb.p73_hif")
P21_HIF, P21_P53, P27_HIF, P27_P53 = draws("nb.p21_hif", "nb.p21_p53", "nb.p27_hif", "nb.p27_p53")
BCL2, BAK_HYPOXIA, BAK_P53, BAK_P73 = draws("nb.Bcl2", "nb.BAK_hyp", "nb.BAK_p53", "nb.BAK_p73")
CAS_BAK, CAS_HYPOXIA, CDS1, CDC25C = draws("nb.CAS_bak", "nb.CAS_hyp", "nb.CDS1", "nb.CDC25C")


@rule(source=RELEASE)
def express_oncogenes(cell: Cell, luck: Luck, near: Near, colony: Hour, p: Numbers) -> None:
    """MYCN, MAPK/RAS and JAB1, by their activities; drugs switch MYCN and JAB1 off."""
    if living(cell):
        cell.MYCN = chance(luck, MYCN, cell.MYCN_fn) and not chance(luck, MYCN_DRUG, colony.drug_on_MYCN)
        cell.MAPK_RAS = chance(luck, MAPK, cell.MAPK_RAS_fn)
        cell.JAB1 = chance(luck, JAB1, cell.JAB1_fn) and not chance(luck, JAB1_DRUG, colony.drug_on_JAB1)


@rule(source=RELEASE)
def sense_damage(cell: Cell, luck: Luck, near: Near, colony: Hour, p: Numbers) -> None:
    """CHK1 on damaged DNA, once more through MYCN; a drug switches it off. ID2 through MYCN. IAP2 in hypoxia."""
    if living(cell):
        f = cell.CHK1_fn
        called = cell.DNA_damage and either(chance(luck, CHK1_A, f), cell.MYCN and chance(luck, CHK1_B, f))
        cell.CHK1 = called and not chance(luck, CHK1_DRUG, colony.drug_on_CHK1)
        cell.ID2 = cell.MYCN and chance(luck, ID2, cell.ID2_fn)
        cell.IAP2 = cell.hypoxia and chance(luck, IAP2, cell.IAP2_fn)


@rule(source=RELEASE)
def sense_hypoxia(cell: Cell, luck: Luck, near: Near, colony: Hour, p: Numbers) -> None:
    """HIF in hypoxia, once more through JAB1, unless p53 or p73 was on in the hour before; BNIP3 and VEGF follow it."""
    if living(cell):
        f = cell.HIF_fn
        called = cell.hypoxia and either(chance(luck, HIF_A, f), cell.JAB1 and chance(luck, HIF_B, f))
        free = called and not (cell.p53 or cell.p73)
        cell.HIF = free and not chance(luck, HIF_DRUG, colony.drug_on_HIF)
        cell.BNIP3 = cell.HIF and chance(luck, BNIP3, cell.BNIP3_fn)
        cell.VEGF = cell.HIF and chance(luck, VEGF, cell.VEGF_fn)


@rule(source=RELEASE)
def guard_genome(cell: Cell, luck: Luck, near: Near, colony: Hour, p: Numbers) -> None:
    """p53 on damaged DNA or through HIF, each once more through MYCN; never where amplified MYCN is on; a drug
    switches it off. p73 through CHK1 or HIF.
    """
    if living(cell):
        f, g = cell.p53_fn, cell.p73_fn
        by_damage = cell.DNA_damage and either(
            chance(luck, P53_DAMAGE_A, f), cell.MYCN and chance(luck, P53_DAMAGE_B, f)
        )
        by_hypoxia = cell.HIF and either(chance(luck, P53_HIF_A, f), cell.MYCN and chance(luck, P53_HIF_B, f))
        free = either(by_damage, by_hypoxia) and not (cell.MYCN and cell.MYCN_amp)
        cell.p53 = free and not chance(luck, P53_DRUG, colony.drug_on_p53)
        cell.p73 = either(cell.CHK1 and chance(luck, P73_CHK1, g), cell.HIF and chance(luck, P73_HIF, g))


@rule(source=RELEASE)
def brake_cycle(cell: Cell, luck: Luck, near: Near, colony: Hour, p: Numbers) -> None:
    """p21 and p27 through HIF or p53, unless MAPK/RAS or MYCN is on."""
    if living(cell):
        driven = cell.MAPK_RAS or cell.MYCN
        f, g = cell.p21_fn, cell.p27_fn
        cell.p21 = not driven and either(cell.HIF and chance(luck, P21_HIF, f), cell.p53 and chance(luck, P21_P53, f))
        cell.p27 = not driven and either(cell.HIF and chance(luck, P27_HIF, g), cell.p53 and chance(luck, P27_P53, g))


@rule(source=RELEASE)
def weigh_survival(cell: Cell, luck: Luck, near: Near, colony: Hour, p: Numbers) -> None:
    """Bcl2/Bclxl unless BNIP3, p53 or p73 is on; BAK/BAX by hypoxia, p53 or p73 unless Bcl2 or IAP2 is on; caspases by
    BAK/BAX or hypoxia, with ATP.
    """
    if living(cell):
        cell.Bcl2 = chance(luck, BCL2, cell.Bcl2_fn) and not (cell.BNIP3 or cell.p53 or cell.p73)
        f, g = cell.BAK_fn, cell.CAS_fn
        by_p = either(cell.p53 and chance(luck, BAK_P53, f), cell.p73 and chance(luck, BAK_P73, f))
        called = either(cell.hypoxia and chance(luck, BAK_HYPOXIA, f), by_p)
        cell.BAK = called and not (cell.Bcl2 or cell.IAP2)
        cell.CAS = cell.ATP and either(
            cell.BAK and chance(luck, CAS_BAK, g), cell.hypoxia and chance(luck, CAS_HYPOXIA, g)
        )


@rule(source=RELEASE)
def check_replication(cell: Cell, luck: Luck, near: Near, colony: Hour, p: Numbers) -> None:
    """p53 or p73 mends unreplicated DNA, which else calls CDS1; CDC25C unless CDS1 or CHK1 is on."""
    if living(cell):
        cell.DNA_unreplicated = cell.DNA_unreplicated and not (cell.p53 or cell.p73)
        cell.CDS1 = cell.DNA_unreplicated and chance(luck, CDS1, cell.CDS1_fn)
        cell.CDC25C = chance(luck, CDC25C, cell.CDC25C_fn) and not (cell.CDS1 or cell.CHK1)
