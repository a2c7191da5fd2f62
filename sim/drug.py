"""Drug in the interstitial space: out of vessels, through the tissue by diffusion and flow, lost and bound.

    ve dC/dt = div(ve D grad C) - div(v C) + Ktrans (Cp(t) - C) - loss ve C - binding C/(half + C)

(project specification, tissue §4.5). C is per volume of interstitial space, ve; v is Darcy's flux of ``interstitial``;
binding is what cells take up, per volume of tissue [Michaelis and Menten 1913]. Exchange with plasma is that of Tofts
1997, doi 10.1002/jmri.1880070113. Nothing passes through the outer surface of the mesh but at nodes that are held.
ASSUMED: drug crosses vessel walls as the contrast agent does from which Ktrans was read; fluid that filters brings no
drug of its own, and none leaves with lymph.
Units: mm, day, mg/L; 1 mg/L mm³ is a nanogram.

Elements and nodes exchange as in ``oxygen``: a node's field c carries what moves through the tissue, and each corner of
an element holds its own u beside it,

    du/dt = Ktrans/ve (Cp - u) - loss u - binding/ve u/(half + u) + x (c - u),    L c = sum over corners of W (u - c),

x = 120 D/(sum of squared edges), W = V/4 ve x, L the operator of diffusion and flow. A coarse element is then what its
own vessels make of it, and a fine mesh converges at second order. Where an element is so long that flow outruns
diffusion (cell Péclet number |v| h/(2 ve D) above 1), diffusion along the flow is added until it does not [Brooks and
Hughes 1982, doi 10.1016/0045-7825(82)90071-8]; that is of first order, and mixes the element as well. If a
concentration still falls below zero, all is done again with the couplings made monotone [Kuzmin and Turek 2002, doi
10.1006/jcph.2001.6955], and the field says how many were.

Steps are of backward Euler (first order, never negative, plasma by its exact mean, so that areas under the curve are
exact whatever the steps are where nothing saturates) or of TR-BDF2 [Bank et al. 1985, doi 10.1109/T-ED.1985.22232]
(second order; steps that are too long for it may fall below zero, which is an error).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from ..core.errors import SolverFault
from ..core.quantity import Parameter
from ..meshing.mesh import TumourMesh
from .elements import checked_volumes, corner_sums, gradients, refuse_elements
from .oxygen import balance_root, exchange_rate
from .solvers import newton, stabilised_gradients

Real = NDArray[np.float64]
Scheme = Literal["euler", "tr-bdf2"]

DRUG_DIFFUSIVITY = Parameter(
    15.6,
    "mm^2/day",
    meaning="diffusivity of a small drug in the interstitial space (1.8e-4 mm²/s)",
    range=(1.4, 26.0),
    source="free doxorubicin, as quoted by github.com/thierry3000/tumorcode, commit f7d8530; lower bound: bound "
    "doxorubicin, ibid.; that other drugs diffuse alike is ASSUMED",
    assumed=True,
)
SHORTEST_STEP = Parameter(
    2.0 / 1440.0,
    "day",
    meaning="first time step after each corner of the plasma curve",
    range=(0.5 / 1440.0, 10.0 / 1440.0),
    source="chosen: exchange and loss take some minutes",
    assumed=True,
)
LONGEST_STEP = Parameter(
    0.25,
    "day",
    meaning="longest time step, long after a dose",
    range=(0.05, 1.0),
    source="project specification, tissue §7.1: 0.25 to 1 day",
)
LENGTHENING = Parameter(
    1.4,
    "1",
    meaning="a time step over the one before",
    range=(1.1, 2.0),
    source="chosen: some ten steps for each tenfold of time",
    assumed=True,
)
PARAMETERS = (DRUG_DIFFUSIVITY, SHORTEST_STEP, LONGEST_STEP, LENGTHENING)

NEGLIGIBLE = 1e-30
"""mg/L: so far below one molecule in an element that it counts as decayed."""

ROUNDING = 0.02
"""Of the exchange between corners and nodes: what is lost of drug in a step cannot be asked for more exactly."""

_GAMMA = 2.0 - np.sqrt(2.0)
"""Share of a step of TR-BDF2 at which its first stage ends."""
_ENDS, _MIDDLE = np.sqrt(2.0) / 4.0, 1.0 - np.sqrt(2.0) / 2.0
"""Weights of the first two instants of a step of TR-BDF2, and of the last."""


class Supply(Protocol):
    """A plasma curve: ``pharmacokinetics.Plasma``, or any other with these."""

    def at(self, day: ArrayLike) -> Real:
        """mg/L."""

    def integral(self, day: ArrayLike) -> Real:
        """mg/L day up to each day."""


@dataclass(frozen=True, eq=False)
class DrugTissue:
    """What a drug meets, (elements,) each.

    ktrans       1/day
    ve           interstitial fraction, > 0
    loss         1/day, first order, of drug in the interstitial space
    binding      mg/L/day per volume of tissue: largest uptake by cells
    half         mg/L at which uptake is half its largest
    diffusivity  mm²/day in the interstitial space
    velocity     (elements, 3) mm/day, Darcy's flux; None: no flow
    """

    ktrans: Real
    ve: Real
    loss: Real
    binding: Real
    half: float = 1.0
    diffusivity: float = DRUG_DIFFUSIVITY.value
    velocity: Real | None = None


@dataclass(frozen=True)
class DrugBalance:
    """The books of drug in ng: what was there, out of plasma, back into it, decayed, bound, out through held nodes, and
    what is there.
    """

    before: float
    supplied: float
    returned: float
    decayed: float
    bound: float
    outflow: float
    after: float

    @property
    def error(self) -> float:
        """What is missing, relative to the largest entry."""
        gone = self.returned + self.decayed + self.bound + self.outflow + self.after
        largest = max(abs(getattr(self, entry.name)) for entry in fields(self))
        return abs(self.before + self.supplied - gone) / largest if largest else 0.0


@dataclass(frozen=True, eq=False)
class DrugField:
    """Drug at the asked-for days.

    concentration  (days, elements) mg/L of interstitial space, mean of each element
    exposure       (days - 1, elements) mg/L day: its integral between one day and the next
    corners        (elements, 4) mg/L on the last day, from which a later run goes on
    nodes          (nodes,) mg/L of what moves through the tissue, on the last day
    peclet         (elements,) cell Péclet number
    limited        couplings that had to be made monotone (0: none)
    """

    concentration: Real
    exposure: Real
    corners: Real
    nodes: Real
    peclet: Real
    balance: DrugBalance
    limited: int = 0


def solve_drug(
    mesh: TumourMesh,
    tissue: DrugTissue,
    plasma: Supply,
    days: Sequence[float] | Real,
    *,
    steps: Sequence[float] | Real | None = None,
    scheme: Scheme = "euler",
    start: Real | None = None,
    held: Real | None = None,
) -> DrugField:
    """Drug in the tissue.

    days    ascending, at which it is asked for
    steps   all instants at which steps end, ``days`` among them; None: ``instants(days, ())``
    start   (elements, 4) mg/L on the first day; None: none
    held    (nodes,) mg/L where a node is kept, NaN elsewhere; None: nowhere

    Raises SolverFault naming elements with impossible numbers, for a start below zero, and when a concentration falls
    below zero.
    """
    _check(tissue, start)
    days = np.asarray(days, dtype=np.float64)
    when = instants(days, ()) if steps is None else np.asarray(steps, dtype=np.float64)
    transport = Transport.of(mesh, tissue, held)
    corners = np.zeros((len(mesh.tetrahedra), 4)) if start is None else np.asarray(start, dtype=np.float64)
    try:
        return _march(transport, plasma, days, when, scheme, corners)
    except _BelowZero:
        monotone, limited = transport.monotone()
    try:
        return replace(_march(monotone, plasma, days, when, scheme, corners), limited=limited)
    except _BelowZero as error:
        raise SolverFault(
            f"a concentration of {error.least:.2g} mg/L on day {error.day:g}",
            "none below zero",
            "take shorter steps, or backward Euler",
        ) from error


def instants(days: Sequence[float] | Real, edges: Sequence[float]) -> Real:
    """Instants from the first to the last of ``days``: on each of them and on each edge, short steps after each."""
    days = np.asarray(days, dtype=np.float64)
    inside = [edge for edge in edges if days[0] < edge < days[-1]]
    corners = np.union1d(days, inside)
    found = [corners[:1]]
    for low, high in pairwise(corners):
        lengths = [SHORTEST_STEP.value]
        while sum(lengths) < high - low:
            lengths.append(min(lengths[-1] * LENGTHENING.value, LONGEST_STEP.value))
        found.append(low + (high - low) * np.cumsum(lengths) / sum(lengths))
        found[-1][-1] = high
    return np.concatenate(found)


def _check(tissue: DrugTissue, start: Real | None) -> None:
    for name in ("ktrans", "loss", "binding"):
        values = np.asarray(getattr(tissue, name))
        refuse_elements(~((values >= 0.0) & np.isfinite(values)), f"a {name} that is no number >= 0", "at least 0")
    refuse_elements(~((tissue.ve > 0.0) & (tissue.ve <= 1.0)), "a ve that is no fraction above 0", "above 0, at most 1")
    if not (tissue.half > 0.0 and tissue.diffusivity >= 0.0):
        raise SolverFault(
            f"half saturation at {tissue.half} mg/L, diffusivity {tissue.diffusivity} mm²/day",
            "the first above 0, the second at least 0",
            "mend the drug's numbers",
        )
    if start is not None:
        refuse_elements(~(np.min(start, axis=1) >= 0.0), "a concentration below zero at the start", "at least 0")


class _BelowZero(Exception):
    """A concentration fell below zero: the least one, and when."""

    def __init__(self, least: float, day: float) -> None:
        super().__init__(least, day)
        self.least, self.day = least, day


@dataclass(frozen=True, eq=False)
class Transport:
    """The discrete system, (elements, 1) of what elements have.

    operator  (nodes, nodes) mm³/day of diffusion and flow between nodes; its columns add up to nothing
    kep, loss, binding, exchange   1/day, 1/day, mg/L/day per interstitial volume, 1/day
    room      mm³ of interstitial space at each corner
    held      (nodes,) mg/L or NaN
    peclet    (elements,)
    """

    operator: sparse.csr_matrix
    kep: Real
    loss: Real
    binding: Real
    half: float
    exchange: Real
    room: Real
    tetrahedra: NDArray[np.int64]
    held: Real
    peclet: Real

    @classmethod
    def of(cls, mesh: TumourMesh, tissue: DrugTissue, held: Real | None) -> Transport:
        """Of a mesh and what the drug meets there."""
        volumes, gradient = checked_volumes(mesh), gradients(mesh.points, mesh.tetrahedra)
        diffusivity = tissue.ve * tissue.diffusivity
        velocity = np.zeros((len(volumes), 3)) if tissue.velocity is None else tissue.velocity
        across = np.einsum("eai,ei->ea", gradient, velocity)
        speed = np.linalg.norm(velocity, axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            length = np.where(speed > 0.0, 2.0 * speed / np.abs(across).sum(axis=1), 0.0)
            peclet = np.where(speed > 0.0, speed * length / (2.0 * diffusivity), 0.0)
            added = np.where(peclet > 1.0, (speed * length / 2.0 - diffusivity) / speed**2, 0.0)
        mixing = np.maximum(tissue.diffusivity, speed * length / (2.0 * tissue.ve))
        blocks = diffusivity[:, None, None] * np.einsum("eai,ebi->eab", gradient, gradient)
        blocks += added[:, None, None] * across[:, :, None] * across[:, None, :]
        blocks -= across[:, :, None] / 4.0
        rows, columns = np.repeat(mesh.tetrahedra, 4, axis=1), np.tile(mesh.tetrahedra, (1, 4))
        operator = sparse.coo_matrix(
            ((volumes[:, None, None] * blocks).ravel(), (rows.ravel(), columns.ravel())), 2 * (len(mesh.points),)
        )
        return cls(
            sparse.csr_matrix(operator),
            (tissue.ktrans / tissue.ve)[:, None],
            tissue.loss[:, None],
            (tissue.binding / tissue.ve)[:, None],
            tissue.half,
            (mixing * exchange_rate(mesh.points, mesh.tetrahedra, 1.0))[:, None],
            (volumes * tissue.ve / 4.0)[:, None],
            mesh.tetrahedra,
            np.full(len(mesh.points), np.nan) if held is None else np.asarray(held, dtype=np.float64),
            peclet,
        )

    def monotone(self) -> tuple[Transport, int]:
        """With diffusion added to the couplings that would push drug uphill, and how many there were."""
        entries = sparse.csr_matrix(self.operator - sparse.diags_array(self.operator.diagonal()))
        uphill = entries.maximum(entries.T).maximum(0)
        uphill.eliminate_zeros()
        moved = sparse.csr_matrix(self.operator - uphill + sparse.diags_array(np.asarray(uphill.sum(axis=0)).ravel()))
        return replace(self, operator=moved), uphill.nnz // 2

    def uptake(self, corners: Real) -> Real:
        """(elements, 4) mg/L/day that cells bind."""
        return np.asarray(self.binding * corners / (corners + self.half))

    def change(self, corners: Real, nodes: Real, plasma: float) -> Real:
        """(elements, 4) mg/L/day: du/dt."""
        arriving = self.kep * (plasma - corners) + self.exchange * (nodes[self.tetrahedra] - corners)
        return np.asarray(arriving - self.loss * corners - self.uptake(corners))

    def residual(self, nodes: Real, corners: Real) -> Real:
        """(nodes,) ng/day that leave each node beyond what arrives there."""
        arriving = self.room * self.exchange * (corners - nodes[self.tetrahedra])
        return np.asarray(self.operator @ nodes - self._sum(arriving))

    def implicit(self, before: Real, share: float, plasma: float, nodes: Real) -> tuple[Real, Real]:
        """Corners and nodes with corners = before + share du/dt, from nodes nearby."""
        free, saturates = np.isnan(self.held), bool(self.binding.any())
        out = 1.0 + share * (self.kep + self.loss + self.exchange)
        fed = before + share * self.kep * plasma
        binding, coupled = share * self.binding, share * self.exchange

        def corners(c: Real) -> Real:
            return balance_root(out + 0.0 * fed, fed + coupled * c[self.tetrahedra], binding, self.half)

        def direction(c: Real, r: Real, wanted: float) -> tuple[Real, int]:
            room = self.half + corners(c)
            follows = coupled / (out + binding * self.half / room**2)
            slope = self._sum(self.room * self.exchange * (1.0 - follows))
            return self._solved(slope, -r, free, 0.1 * wanted if saturates else 1e-14)

        level = max(float(fed.max()), float(np.abs(nodes).max()), 1e-300)
        turnover = np.clip(1.0 / max(share, 1e-300) + self.kep + self.loss, ROUNDING * self.exchange, self.exchange)
        scale = level * self._sum(self.room * (turnover + 1e-300))
        found = newton(
            np.where(free, nodes, self.held),
            lambda c: np.where(free, self.residual(c, corners(c)), 0.0),
            direction,
            tolerance=1e-12,
            most=40,
            halvings=0,
            norm=lambda r: float((np.abs(r) / scale).max()),
        )
        return corners(found.x), found.x

    def _solved(self, slope: Real, b: Real, free: NDArray[np.bool_], reduction: float) -> tuple[Real, int]:
        diagonal = self.operator.diagonal() + slope
        diagonal = np.where(free & (diagonal > 0.0), diagonal, 1.0)

        def apply(x: Real) -> Real:
            inner = np.where(free, x, 0.0)
            return np.where(free, self.operator @ inner + slope * inner, x)

        return stabilised_gradients(apply, b, lambda r: r / diagonal, reduction=max(reduction, 1e-14))

    def _sum(self, rate: Real) -> Real:
        return corner_sums(self.tetrahedra, rate + np.zeros(self.tetrahedra.shape), self.operator.shape[0])


@dataclass
class _Books:
    """Running totals, ng, and the exposure of each element since it was last asked for."""

    transport: Transport
    exposure: Real
    supplied: float = 0.0
    returned: float = 0.0
    decayed: float = 0.0
    bound: float = 0.0
    outflow: float = 0.0

    def note(self, span: float, corners: Real, nodes: Real, plasma: float) -> None:
        """``span`` days with these rates."""
        t = self.transport
        self.exposure = self.exposure + span * corners.mean(axis=1)
        self.supplied += span * 4.0 * float((t.room * t.kep).sum()) * plasma
        self.returned += span * float((t.room * t.kep * corners).sum())
        self.decayed += span * float((t.room * t.loss * corners).sum())
        self.bound += span * float((t.room * t.uptake(corners)).sum())
        self.outflow -= span * float(t.residual(nodes, corners)[np.isfinite(t.held)].sum())

    def exposed(self) -> Real:
        """(elements,) mg/L day since the last call."""
        exposure, self.exposure = self.exposure, np.zeros_like(self.exposure)
        return exposure


def _march(t: Transport, plasma: Supply, days: Real, when: Real, scheme: Scheme, corners: Real) -> DrugField:
    books = _Books(t, np.zeros(len(corners)))
    before = float((t.room * corners).sum())
    empty = nodes = np.where(np.isnan(t.held), 0.0, t.held)
    if corners.max() >= NEGLIGIBLE or empty.any():
        _, nodes = t.implicit(corners, 0.0, 0.0, nodes)
    asked = set(days.tolist())
    seen, exposures = [corners.mean(axis=1)], []
    supplied, level = np.diff(plasma.integral(when)) / np.diff(when), 0.0
    for place, (now, then) in enumerate(pairwise(when.tolist())):
        if max(float(corners.max()), float(np.abs(empty).max()), supplied[place]) < NEGLIGIBLE:
            books.decayed += float((t.room * corners).sum())
            corners, nodes = np.zeros_like(corners), empty
        elif scheme == "euler":
            corners, nodes = t.implicit(corners, then - now, float(supplied[place]), nodes)
            books.note(then - now, corners, nodes, float(supplied[place]))
        else:
            corners, nodes = _tr_bdf2(t, books, plasma, now, then, corners, nodes)
        level = max(level, float(corners.max()))
        least = min(float(corners.min()), float(nodes.min()))
        if least < -1e-9 * max(level, 1e-300):
            raise _BelowZero(least, then)
        if then in asked:
            seen.append(corners.mean(axis=1))
            exposures.append(books.exposed())
    balance = DrugBalance(
        before,
        books.supplied,
        books.returned,
        books.decayed,
        books.bound,
        books.outflow,
        float((t.room * corners).sum()),
    )
    return DrugField(np.array(seen), np.array(exposures), np.maximum(corners, 0.0), nodes, t.peclet, balance)


def _tr_bdf2(
    t: Transport, books: _Books, plasma: Supply, now: float, then: float, corners: Real, nodes: Real
) -> tuple[Real, Real]:
    """One step: the trapezoidal rule to a share of it, then the second backward difference to its end."""
    span = then - now
    cp = plasma.at([now, now + _GAMMA * span, then - 1e-12 * span])
    rate = t.change(corners, nodes, cp[0])
    middle, between = t.implicit(corners + _MIDDLE * span * rate, _MIDDLE * span, cp[1], nodes)
    known = corners + _ENDS * span * (rate + t.change(middle, between, cp[1]))
    after, beyond = t.implicit(known, _MIDDLE * span, cp[2], between)
    books.note(_ENDS * span, corners, nodes, cp[0])
    books.note(_ENDS * span, middle, between, cp[1])
    books.note(_MIDDLE * span, after, beyond, cp[2])
    return after, beyond
