"""What Schwann cells do to neuroblasts: differentiation and apoptotic signals, by contact or through the domain."""

from __future__ import annotations

from ..cell import living
from ..parameters import RELEASE
from ..rule import Cell, Hour, Luck, Near, Numbers, chance, compiled, draws, rule

DIFFERENTIATE_NEAR, DIFFERENTIATE_FAR = draws("nb.diff_jux", "nb.diff_para")


@compiled
def share(part: int, rest: int) -> float:
    """part / (part + rest); 0 of nothing."""
    if part + rest == 0:
        return 0.0
    return part / (part + rest)


@rule(source=RELEASE)
def differentiate(cell: Cell, luck: Luck, near: Near, colony: Hour, p: Numbers) -> None:
    """A step of differentiation, by the share of Schwann cells nearby, else by their share in the colony."""
    if living(cell):
        by_contact = chance(luck, DIFFERENTIATE_NEAR, p.nbdiff_jux * share(near.schwann, near.neuroblasts))
        if by_contact or chance(luck, DIFFERENTIATE_FAR, p.nbdiff_para * colony.schwann_share):
            cell.degdiff = min(1.0, cell.degdiff + p.nbdiff_amount)
