"""Oxygen at the tissue scale: diffusion, uptake and supply in balance.

    0 = div(D grad P) - demand P/(P + half) + supply (blood - P)

Turnover takes seconds [demand 3.6 mmHg/s at full density], so the field is steady at every macro step. Units: mm,
day, mmHg; demand mmHg/day, supply 1/day.

Scale trap. Oxygen diffuses 0.1 to 0.2 mm before it is used up, elements are 2 to 4 mm wide. The value of an element is
therefore a balance of its own supply and uptake, with a little exchange, and not a resolved profile. Each corner of an
element keeps its own pressure p beside the pressure P of the node, and the two exchange oxygen at the rate

    exchange (P - p) = demand p/(p + half) - supply (blood - p),    exchange = 120 D / sum of the six squared edges.

The rate is the exact one for a profile that is quadratic inside the element, so on a fine mesh the mean of the four p
is the element's mean oxygen to second order, and on a coarse mesh it tends to the element's own balance. The reaction
sits on the diagonal, so pressures cannot become negative. Steeper layers at the walls of a coarse element (capillary
gradients, the rim of an avascular region) are below this closure: the exchange through them is underestimated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from ..core.errors import SolverFault
from ..core.quantity import Parameter
from ..meshing.mesh import TumourMesh
from .elements import EDGES, checked_volumes, corner_sums, gradients, refuse_elements
from .linear import Linear
from .solvers import Solved, newton

Real = NDArray[np.float64]

SECONDS_PER_DAY = 86_400.0

BLOOD_OXYGEN = Parameter(
    72.0,
    "mmHg",
    meaning="oxygen in the blood that supplies the tissue",
    range=(40.0, 72.0),
    source="github.com/primagesheffield/flamegpu2-neuroblastoma, commit 0d8f6fa; lower bound ASSUMED",
)
HALF_OXYGEN = Parameter(
    1.2,
    "mmHg",
    meaning="oxygen at which uptake is half its maximum",
    range=(0.5, 2.5),
    source="github.com/primagesheffield/flamegpu2-neuroblastoma, commit 0d8f6fa; range ASSUMED",
)
OXYGEN_DIFFUSIVITY = Parameter(
    151.0,
    "mm^2/day",
    meaning="diffusivity of oxygen in tissue (1.75e-9 m²/s)",
    range=(130.0, 200.0),
    source="Grote 1977, as quoted by flamegpu2-neuroblastoma, commit 0d8f6fa; range ASSUMED",
)
CELL_DEMAND = Parameter(
    5.2083e-17,
    "mol/s",
    meaning="largest oxygen uptake of one cell",
    range=(2e-17, 1e-16),
    source="github.com/primagesheffield/flamegpu2-neuroblastoma, commit 0d8f6fa; range ASSUMED",
)
CELL_DENSITY = Parameter(
    9.39e4,
    "1/mm^3",
    meaning="cells per volume of tissue that is all cells",
    range=(4.7e4, 1.2e5),
    source="github.com/primagesheffield/flamegpu2-neuroblastoma, commit 0d8f6fa; range ASSUMED",
)
OXYGEN_SOLUBILITY = Parameter(
    1.3719e-12,
    "mol/mm^3/mmHg",
    meaning="oxygen dissolved in tissue per pressure (72 mmHg = 98.775 µmol/L)",
    range=(1.2e-12, 1.5e-12),
    source="derived from flamegpu2-neuroblastoma, commit 0d8f6fa; range ASSUMED",
)


TUMOUR_OXYGEN = Parameter(
    15.0,
    "mmHg",
    meaning="median oxygen of a tumour before treatment",
    range=(2.0, 32.0),
    source="McKeown 2014, doi 10.1259/bjr.20130676, as quoted by flamegpu2-neuroblastoma, commit 0d8f6fa; the value "
    "within that range is ASSUMED",
    assumed=True,
)
HOST_OXYGEN = Parameter(
    40.0,
    "mmHg",
    meaning="oxygen of the host tissue around the tumour",
    range=(20.0, 60.0),
    assumed=True,
    source="ASSUMED: venous to mixed capillary oxygen, no source read",
)
HOST_CELLULARITY = Parameter(
    0.3,
    "1",
    meaning="cells of the tumour's demand that use as much oxygen as host tissue",
    range=(0.05, 1.0),
    assumed=True,
    source="ASSUMED: about 0.2 mL of oxygen per 100 mL and minute, resting tissue, no source read",
)

PARAMETERS = (
    BLOOD_OXYGEN,
    HALF_OXYGEN,
    OXYGEN_DIFFUSIVITY,
    CELL_DEMAND,
    CELL_DENSITY,
    OXYGEN_SOLUBILITY,
    TUMOUR_OXYGEN,
    HOST_OXYGEN,
    HOST_CELLULARITY,
)
"""Every parameter of the oxygen of tissue."""


def demand_of(cellularity: Any) -> Any:
    """Largest oxygen uptake of tissue, mmHg/day, from its volume fraction of living cells (0..1).

    >>> round(float(demand_of(1.0)) / 86400.0, 3)
    3.565
    """
    per_second = CELL_DEMAND.value * CELL_DENSITY.value / OXYGEN_SOLUBILITY.value
    return per_second * SECONDS_PER_DAY * np.asarray(cellularity, dtype=np.float64)


def supply_for(oxygen: Any, demand: Any, blood: float = BLOOD_OXYGEN.value, half: float = HALF_OXYGEN.value) -> Any:
    """Supply (1/day) that keeps tissue of this demand (mmHg/day) at this oxygen (mmHg, 0 <= oxygen < blood).

    Raises SolverFault when no supply can: the oxygen asked for is not below that of the blood.
    """
    oxygen = np.asarray(oxygen, dtype=np.float64)
    if not (np.all(oxygen >= 0.0) and np.all(oxygen < blood)):
        raise SolverFault(
            f"a target oxygen between {np.min(oxygen):.3g} and {np.max(oxygen):.3g} mmHg",
            f"at least 0 and below {blood:g} mmHg",
            "lower the target or raise the oxygen of the blood",
        )
    return np.asarray(demand, dtype=np.float64) * oxygen / ((oxygen + half) * (blood - oxygen))


def local_balance(supply: Any, demand: Any, blood: float = BLOOD_OXYGEN.value, half: float = HALF_OXYGEN.value) -> Any:
    """Oxygen (mmHg) of tissue that exchanges with its blood only: the inverse of ``supply_for``.

    supply 1/day, demand mmHg/day; tissue without either is NaN, because nothing determines its oxygen
    """
    supply, demand = np.asarray(supply, dtype=np.float64), np.asarray(demand, dtype=np.float64)
    return np.where(supply + demand > 0.0, balance_root(supply, supply * blood, demand, half), np.nan)


def balance_root(out: Real, given: Real, demand: Real, half: float) -> Real:
    """The root p >= 0 of out p + demand p/(p + half) = given, a quadratic, without cancellation."""
    c = demand + out * half - given
    root = np.sqrt(c * c + 4.0 * out * given * half)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(c > 0.0, 2.0 * given * half / (c + root), (root - c) / (2.0 * out))


@dataclass(frozen=True)
class OxygenBalance:
    """The books of oxygen, in mmHg mm³/day.

    supply   from the blood, net
    uptake   by the cells
    inflow   through nodes held at a known pressure
    """

    supply: float
    uptake: float
    inflow: float

    @property
    def error(self) -> float:
        """What is missing in the books, relative to the largest entry."""
        largest = max(abs(self.supply), abs(self.uptake), abs(self.inflow))
        return abs(self.supply + self.inflow - self.uptake) / largest if largest else 0.0


@dataclass(frozen=True, eq=False)
class OxygenField:
    """Steady oxygen.

    nodes        (nodes,) mmHg, never negative
    elements     (elements,) mmHg, mean of each element
    iterations   of Newton's method
    balance      the books
    limited      pairs of nodes whose coupling had to be made monotone to keep oxygen from becoming negative
                 (0 on a mesh without obtuse dihedral angles)
    """

    nodes: Real
    elements: Real
    iterations: int
    balance: OxygenBalance
    limited: int = 0


def solve_oxygen(
    mesh: TumourMesh,
    supply: Real,
    demand: Real,
    *,
    blood: float = BLOOD_OXYGEN.value,
    half: float = HALF_OXYGEN.value,
    diffusivity: float = OXYGEN_DIFFUSIVITY.value,
    held: Real | None = None,
    linear: Linear | None = None,
) -> OxygenField:
    """Steady oxygen in a mesh through whose outer surface nothing passes.

    supply       (elements,) 1/day, >= 0: exchange with the blood
    demand       (elements,) mmHg/day, >= 0: largest uptake
    blood        mmHg
    half         mmHg, >= 0; 0 is uptake that never slows down until oxygen is gone
    diffusivity  mm²/day
    held         (nodes,) mmHg where a node is kept at a known oxygen, NaN elsewhere; None: nowhere
    linear       who solves the linear systems; None: the host

    Raises SolverFault naming elements with impossible numbers, when nothing determines the level of oxygen, or when
    Newton's method fails.
    """
    supply, demand = np.asarray(supply, dtype=np.float64), np.asarray(demand, dtype=np.float64)
    for name, values in (("supply", supply), ("demand", demand)):
        refuse_elements(
            ~(np.isfinite(values) & (values >= 0.0)),
            f"a {name} of oxygen that is no number >= 0",
            "finite values of at least 0",
        )
    held = np.full(len(mesh.points), np.nan) if held is None else np.asarray(held, dtype=np.float64)
    if not (supply.any() or demand.any() or np.isfinite(held).any()):
        raise SolverFault(
            "no supply, no uptake and no node at a known oxygen", "at least one of them", "give the tissue a supply"
        )
    tissue, linear = _tissue(mesh, supply, demand, blood, half, diffusivity), linear or Linear()
    solved = tissue.solve(held, linear)
    limited = 0
    if solved.x.min() < -1e-12 * blood:
        tissue, limited = tissue.monotone()
        solved = tissue.solve(held, linear)
    return tissue.field(np.maximum(solved.x, 0.0), solved.iterations, held, limited)


def exchange_rate(points: Real, tetrahedra: NDArray[np.int64], diffusivity: float) -> Real:
    """(elements,) 1/day between the corners of an element and its inside.

    If P is quadratic with diffusivity x Laplacian = loss, its mean over a tetrahedron lies loss/rate below the mean of
    its corners, with rate = 30 D / sum of squared distances from the centroid = 120 D / sum of squared edges.
    """
    edges = points[tetrahedra[:, EDGES[:, 0]]] - points[tetrahedra[:, EDGES[:, 1]]]
    return np.asarray(120.0 * diffusivity / np.einsum("eki,eki->e", edges, edges))


@dataclass(frozen=True, eq=False)
class Corners:
    """The balance at the four corners of every element: supply, demand, exchange (elements, 1)."""

    supply: Real
    demand: Real
    exchange: Real
    blood: float
    half: float

    def pressure(self, node: Real) -> Real:
        """The corner's oxygen beside that of its node (elements, 4) mmHg."""
        return balance_root(self.supply + self.exchange, self._arriving(node), self.demand, self.half)

    def uptake(self, node: Real, corner: Real) -> Real:
        """What the cells use, mmHg/day. Where oxygen is gone it is all that arrives."""
        with np.errstate(invalid="ignore"):
            used = self.demand * corner / (corner + self.half)
        return np.where(corner > 0.0, used, self._arriving(node))

    def delivered(self, corner: Real) -> Real:
        """What the blood gives, mmHg/day."""
        return self.supply * (self.blood - corner)

    def loss(self, node: Real) -> Real:
        """Uptake - delivered, mmHg/day; below zero oxygen (met on the way only) it goes on along its slope."""
        corner = self.pressure(node)
        return self.uptake(node, corner) - self.delivered(corner) + self.slope(node) * np.minimum(node, 0.0)

    def slope(self, node: Real) -> Real:
        """Change of the loss with the node's oxygen, 1/day: between 0 and the exchange, falling."""
        rest = self.pressure(node) + self.half
        with np.errstate(divide="ignore", invalid="ignore"):
            own = self.supply + np.where(self.demand > 0.0, self.demand * self.half / (rest * rest), 0.0)
            return np.where(rest > 0.0, self.exchange / (1.0 + self.exchange / own), self.exchange)

    def _arriving(self, node: Real) -> Real:
        """What an empty corner would receive, mmHg/day."""
        return self.supply * self.blood + self.exchange * np.maximum(node, 0.0)


@dataclass(frozen=True, eq=False)
class OxygenTissue:
    """The discrete system: diffusion between nodes, reaction in the corners.

    stiffness  (nodes, nodes) mm³/day; corners; quarter (elements, 1) mm³; tetrahedra
    """

    stiffness: sparse.csr_matrix
    corners: Corners
    quarter: Real
    tetrahedra: NDArray[np.int64]

    def solve(self, held: Real, linear: Linear) -> Solved:
        """Newton from the field without uptake.

        The loss is concave, so on a monotone mesh the first step falls below the solution and the others rise to it.
        """
        free, scale = np.isnan(held), self._scale()
        without = self.corners.blood if self.corners.supply.any() else np.nanmax(held, initial=0.0)
        return newton(
            np.where(free, without, held),
            lambda x: np.where(free, self.residual(x), 0.0),
            lambda x, r, wanted: self._direction(x, r, free, wanted, linear),
            tolerance=1e-12,
            most=60,
            halvings=0,
            norm=lambda r: float((np.abs(r) / scale).max()),
        )

    def residual(self, nodes: Real) -> Real:
        """(nodes,) mmHg mm³/day that leave each node's surroundings beyond what arrives there."""
        return np.asarray(self.stiffness @ nodes + self._sum(self.corners.loss(nodes[self.tetrahedra])))

    def monotone(self) -> tuple[OxygenTissue, int]:
        """With the couplings that would push oxygen uphill taken out, and how many there were."""
        entries = self.stiffness.tocoo()
        uphill = (entries.row != entries.col) & (entries.data > 0.0)
        off = sparse.coo_matrix((np.where(uphill, entries.data, 0.0), (entries.row, entries.col)), entries.shape)
        moved = np.asarray(off.sum(axis=1)).ravel()
        fixed = sparse.csr_matrix(self.stiffness - off + sparse.diags_array(moved))
        return OxygenTissue(fixed, self.corners, self.quarter, self.tetrahedra), int(uphill.sum()) // 2

    def field(self, nodes: Real, iterations: int, held: Real, limited: int) -> OxygenField:
        """The field of a solution, with its books."""
        corner = self.corners.pressure(nodes[self.tetrahedra])
        supply = float((self.quarter * self.corners.delivered(corner)).sum())
        uptake = float((self.quarter * self.corners.uptake(nodes[self.tetrahedra], corner)).sum())
        inflow = float(self.residual(nodes)[np.isfinite(held)].sum())
        return OxygenField(nodes, corner.mean(axis=1), iterations, OxygenBalance(supply, uptake, inflow), limited)

    def _direction(
        self, nodes: Real, residual: Real, free: NDArray[np.bool_], wanted: float, linear: Linear
    ) -> tuple[Real, int]:
        slope = self._sum(self.corners.slope(nodes[self.tetrahedra]))
        mask = sparse.diags_array(free.astype(np.float64))
        matrix = mask @ (self.stiffness + sparse.diags_array(slope)) @ mask + sparse.diags_array(1.0 - mask.diagonal())
        return linear.scalar(sparse.csr_matrix(matrix), -residual, reduction=wanted)

    def _scale(self) -> Real:
        """(nodes,) how fast the reaction at a node, or a thousandth of the diffusion, could move all oxygen."""
        c = self.corners
        turnover = np.minimum(c.demand + c.supply * c.blood, c.exchange * c.blood) + np.zeros((1, 4))
        return np.asarray(np.maximum(self._sum(turnover), 1e-3 * self.stiffness.diagonal() * c.blood))

    def _sum(self, rate: Real) -> Real:
        return corner_sums(self.tetrahedra, self.quarter * rate, self.stiffness.shape[0])


def _tissue(
    mesh: TumourMesh, supply: Real, demand: Real, blood: float, half: float, diffusivity: float
) -> OxygenTissue:
    volumes, gradient = checked_volumes(mesh), gradients(mesh.points, mesh.tetrahedra)
    blocks = diffusivity * volumes[:, None, None] * np.einsum("eai,ebi->eab", gradient, gradient)
    rows, columns = np.repeat(mesh.tetrahedra, 4, axis=1), np.tile(mesh.tetrahedra, (1, 4))
    stiffness = sparse.csr_matrix(
        sparse.coo_matrix((blocks.ravel(), (rows.ravel(), columns.ravel())), 2 * (len(mesh.points),))
    )
    corners = Corners(
        supply[:, None], demand[:, None], exchange_rate(mesh.points, mesh.tetrahedra, diffusivity)[:, None], blood, half
    )
    return OxygenTissue(stiffness, corners, volumes[:, None] / 4.0, mesh.tetrahedra)
