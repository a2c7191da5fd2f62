"""Stiffness that follows composition: a tumour is as stiff as what it is made of, cells in a matrix.

    1/(m + 3/2) = sum of phi_i/(m_i + 3/2),    mu = mu_0 m/m_0

m is the shear modulus of the mixture over that of its matrix, phi_i and m_i the volume fraction of each constituent and
its modulus over the matrix's (1 for the matrix itself), m_0 the mixture of day 0, whose modulus mu_0 is that of the
region's tissue. It is the estimate of Hashin and Shtrikman [1963, doi 10.1016/0022-5096(63)90060-7; not read] for
incompressible constituents, the matrix all around the others: exact to first order for few rigid spheres (1 + 5/2 phi)
and few holes (1 - 5/3 phi), and between the mixtures of equal stress and of equal strain. Less matrix is softer: in
rectal cancer stiffness goes with the volume fraction of collagen [Hu et al. 2021, doi 10.3389/fonc.2021.701336,
abstract], in colorectal cancer with the area of stroma, r = 0.91 [PMC4582994, abstract], and in spheroids cells act as
inclusions in a matrix [Dolega et al. 2021, doi 10.1016/j.jmps.2020.104205, abstract]. More dead cells are softer: in
xenografts stiffness falls with the share of necrosis, r = -0.73 [Elyas et al. 2017, doi 10.1038/s41598-017-00144-5,
abstract]. No number of the law could be taken from these: its ratios are assumed.

ASSUMED: the two ratios below; Poisson's ratio stays, so that the bulk modulus follows; matrix neither stiffens nor is
made or lost; day 0 is the tissue that the region's constants describe, everywhere in the tumour. Under load the elastic
strain stays and the new stiffness acts on all of it: stress and stored energy change with the modulus, and the body
then finds its balance. A tumour without a border keeps its stiffness: between its cells lies brain, not matrix.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ..core.quantity import Parameter
from .books import LIVING
from .state import TissueState

Real = NDArray[np.float64]

LIVING_CELLS = Parameter(
    0.2,
    "1",
    "shear modulus of living cells over that of the matrix, if stiffness follows composition",
    source="ASSUMED: Young's moduli of tumour cells are 0.05 to 3 kPa [Yang and Qiu 2021, doi "
    "10.3389/fonc.2021.722703], those of tumours above; 0.2 makes 60 % of cells of 2.2 kPa a tumour of 5 kPa",
    range=(0.01, 1.0),
    assumed=True,
)
DEAD_CELLS = Parameter(
    0.05,
    "1",
    "shear modulus of apoptotic and necrotic cells over that of the matrix, if stiffness follows composition",
    source="ASSUMED: a quarter of living cells; tumours with more necrosis are softer [Elyas et al. 2017, doi "
    "10.1038/s41598-017-00144-5, abstract]",
    range=(0.0, 0.2),
    assumed=True,
)
PARAMETERS = (LIVING_CELLS, DEAD_CELLS)
"""Every parameter of stiffness that follows composition."""


def mixture(composition: Real) -> Real:
    """(elements,) m, the shear modulus over that of the matrix alone.

    composition  (elements, 6) volume fractions of ``agents.colony.CLASSES``; the rest is matrix
    """
    living, dead = composition[:, LIVING].sum(axis=1), composition[:, ~LIVING].sum(axis=1)
    compliance = living / (LIVING_CELLS.value + 1.5) + dead / (DEAD_CELLS.value + 1.5) + (1.0 - living - dead) / 2.5
    return np.asarray(1.0 / compliance - 1.5)


def stiffening(state: TissueState) -> Real | None:
    """(elements,) stiffness over that of day 0: m/m_0 in the tumour, 1 elsewhere. None where it is fixed."""
    if state.mixture_at_start is None:
        return None
    factor, tumour = np.ones(len(state.composition)), state.tumour
    factor[tumour] = mixture(state.composition[tumour]) / state.mixture_at_start[tumour]
    return factor


def account(state: TissueState) -> dict[str, dict[str, float]]:
    """Least, mean (by volume) and largest ``stiffening`` in the tumour, ready for JSON; empty where it is fixed."""
    factor, tumour = stiffening(state), state.tumour
    if factor is None or not len(tumour):
        return {}
    mean = float(np.average(factor[tumour], weights=state.mesh.volumes[tumour]))
    return {"stiffening": {"least": float(factor[tumour].min()), "mean": mean, "largest": float(factor[tumour].max())}}


def words_of(told: Mapping[str, float]) -> str:
    """``account`` in words."""
    return f"the tumour {told['mean']:.2f} times as stiff as on day 0 ({told['least']:.2f} to {told['largest']:.2f})"
