"""Contrast agent that leaks into tissue, diffuses there and washes out: extended Tofts with diffusion, on tetrahedra.

In every point of the tissue, with Ce the concentration in the interstitial space and Cp that in plasma,

    ve dCe/dt = Ktrans (Cp - Ce) + div(D ve grad Ce),        C = ve Ce + vp Cp.

Without D it is extended Tofts [Tofts 1997, doi 10.1002/jmri.1880070113]. Diffusion between the places of an image is
that of Pellerin et al. 2007, doi 10.1002/mrm.21400; on finite elements, with an effective diffusivity, Sainz-DeMena et
al. 2022, doi 10.1007/s00366-022-01667-w. The flux D ve grad Ce is per area of tissue, of which ve is open to the agent,
so that what leaves one element arrives in the next.
ASSUMED: D is the same everywhere in the mesh and does not change; no flow carries the agent; nothing passes through the
mesh's outer surface; agent in plasma is well mixed and does not diffuse.

Elements exchange with their nodes as in ``oxygen``: a linear field c through the nodes carries the flux, and in each of
the four quarters of an element the concentration u lies below what the quarter sees of the nodes, s, by its net uptake
over x = 120 D / (sum of squared edges),

    du/dt = kep (Cp - u) + x (s - u),    s = S c,    K c = S' W (u - s),

with K the stiffness of D ve, W = V/4 ve x, and S partly the quarter's own node, partly the mean of all four. What an
image shows of an element is the mean of its quarters, which obeys the first equation with the mean of the nodes. These
are linear finite elements: second order in the size of the elements, and without diffusion every element is alone,
however steep the step to its neighbour. In a time step c is held at its mean over the step, which the last equation
determines for the step as a whole; everything else is integrated exactly, the plasma curve as in ``imaging.dce``. That
is second order in time, exact without diffusion, stable for any step, and agent is neither lost nor made. Beside a step
of Ktrans that the elements do not resolve, concentrations may fall below zero by some 1 % of the peak.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from ..core.errors import ConfigurationRejected
from ..core.quantity import Parameter
from ..imaging.aif import PlasmaCurve
from ..imaging.dce import Sampling, convolve, sample
from ..meshing.mesh import TumourMesh
from .elements import checked_volumes, gradients, refuse_elements
from .oxygen import exchange_rate
from .solvers import conjugate_gradients, factorise

Real = NDArray[np.float64]
Solver = Callable[[Real], Real]

SECONDS_PER_MINUTE = 60.0

AGENT_DIFFUSIVITY = Parameter(
    2.6e-4,
    "mm^2/s",
    meaning="effective diffusivity of a small gadolinium chelate in the interstitial space of tumours",
    range=(1.5e-4, 5.0e-4),
    source="range: means of 20 tumours, 152 to 499 µm²/s, Phys Med Biol 2022;67(24), doi 10.1088/1361-6560/aca512; "
    "the value within it is ASSUMED, about half of that in water",
    assumed=True,
)
LONGEST_STEP = Parameter(
    5.0,
    "s",
    meaning="longest time step; longer intervals between frames are divided",
    range=(1.0, 10.0),
    source="chosen: the error is of the order of (x dt)²/12, 1e-3 in elements of 0.5 mm",
    assumed=True,
)
OWN_NODE = Parameter(
    0.6,
    "1",
    meaning="share of its own node in what a quarter of an element sees, the rest being the mean of all four",
    range=(0.2, 1.0),
    source="chosen: 0.2 is the consistent matrix of capacities, 1 the lumped one, whose leading errors have opposite "
    "signs; 0.6 is their average",
    assumed=True,
)
DIRECT_NODES = 20_000
"""Up to this many nodes the balance of diffusion is factorised."""


@dataclass(frozen=True, eq=False)
class Kinetics:
    """What extended Tofts says of every element: ktrans (elements,) 1/min, ve and vp (elements,) fractions, ve > 0."""

    ktrans: Real
    ve: Real
    vp: Real

    @property
    def kep(self) -> Real:
        """(elements,) 1/min."""
        return self.ktrans / self.ve


@dataclass(frozen=True, eq=False)
class Network:
    """What a mesh fixes of diffusion.

    volumes    (elements,) mm³
    means      (elements, nodes) mean over the corners
    seen       (4 elements, nodes) what each quarter of an element sees of the nodes
    products   (elements, 4, 4) mm: V times the products of the gradients
    rate       (elements,) 1/mm²: exchange of an element with its corners, per diffusivity
    """

    volumes: Real
    means: sparse.csr_array
    seen: sparse.csr_array
    products: Real
    rate: Real
    tetrahedra: NDArray[np.int64]

    @classmethod
    def of(cls, mesh: TumourMesh) -> Network:
        """The network of a mesh. Raises SolverFault for elements that are flat or inside out."""
        volumes, gradient = checked_volumes(mesh), gradients(mesh.points, mesh.tetrahedra)
        count = len(volumes)
        means = sparse.csr_array(
            (np.full(4 * count, 0.25), (np.repeat(np.arange(count), 4), mesh.tetrahedra.ravel())),
            shape=(count, len(mesh.points)),
        )
        own = sparse.csr_array(
            (np.ones(4 * count), (np.arange(4 * count), mesh.tetrahedra.ravel())), shape=(4 * count, len(mesh.points))
        )
        every = means[np.repeat(np.arange(count), 4)]
        seen = sparse.csr_array(OWN_NODE.value * own + (1.0 - OWN_NODE.value) * every)
        products = volumes[:, None, None] * np.einsum("eai,ebi->eab", gradient, gradient)
        rate = exchange_rate(mesh.points, mesh.tetrahedra, 1.0)
        return cls(volumes, means, seen, products, rate, mesh.tetrahedra)

    def links(self, ve: Real, diffusivity_mm2_s: float) -> Links:
        """The exchange of tissue with this interstitial fraction."""
        per_minute = diffusivity_mm2_s * SECONDS_PER_MINUTE
        rate = per_minute * self.rate
        rows, columns = np.repeat(self.tetrahedra, 4, axis=1), np.tile(self.tetrahedra, (1, 4))
        entries = per_minute * ve[:, None, None] * self.products
        shape = 2 * (self.means.shape[1],)
        stiffness = sparse.csr_array(sparse.coo_array((entries.ravel(), (rows.ravel(), columns.ravel())), shape=shape))
        return Links(rate, self.volumes * ve * rate / 4.0, stiffness, self.seen)


@dataclass(frozen=True, eq=False)
class Links:
    """Who exchanges with whom, and how fast.

    rate       (elements,) 1/min, x
    weight     (elements,) mm³/min of a quarter, V/4 ve x
    stiffness  (nodes, nodes) mm³/min
    seen       (4 elements, nodes)
    """

    rate: Real
    weight: Real
    stiffness: sparse.csr_array
    seen: sparse.csr_array

    def solver(self, open_minutes: Real, minutes: float) -> Solver:
        """Solves (minutes K + S' W open_minutes S) c = b for c; open_minutes (elements,) min."""
        taken = sparse.diags_array(np.repeat(self.weight * open_minutes, 4))
        matrix = sparse.csr_matrix(minutes * self.stiffness + self.seen.T @ taken @ self.seen)
        if matrix.shape[0] <= DIRECT_NODES:
            return factorise(matrix)
        diagonal = matrix.diagonal()
        apply = partial(conjugate_gradients, matrix.__matmul__, precondition=lambda r: r / diagonal, reduction=1e-12)
        return lambda b: apply(b)[0]

    def arriving(self, quarters: Real) -> Real:
        """(nodes, …) what the quarters (elements, 4, …) send to their nodes, weighted."""
        weighted = self.weight.reshape(-1, *(1,) * (quarters.ndim - 1)) * quarters
        return np.asarray(self.seen.T @ weighted.reshape(-1, *quarters.shape[2:]))

    def around(self, nodes: Real) -> Real:
        """(elements, 4, …) what the quarters see of the nodes (nodes, …)."""
        return np.asarray(self.seen @ nodes).reshape(-1, 4, *nodes.shape[1:])

    def nodes(self, quarters: Real) -> Real:
        """(nodes, steps) mmol/L between quarters of these concentrations (elements, 4, steps)."""
        solve = self.solver(np.ones_like(self.rate), 1.0)
        return np.stack([solve(column) for column in self.arriving(quarters).T], axis=1)


@dataclass(frozen=True, eq=False)
class Clock:
    """The time steps of a run, and the plasma curve on them.

    minutes   (instants,) min, from before the agent arrives
    frames    (frames,) place of each frame among the instants
    sampling  the plasma curve, its own samples between the instants included
    """

    minutes: Real
    frames: NDArray[np.intp]
    sampling: Sampling

    @classmethod
    def of(cls, plasma: PlasmaCurve, times_s: ArrayLike, longest_s: float = LONGEST_STEP.value) -> Clock:
        """Steps that end on every frame and are at most ``longest_s`` long."""
        frames = np.asarray(times_s, dtype=float)
        corners = np.union1d(frames, [min(float(plasma.times_s[0]), float(frames[0]))])
        parts = [
            np.linspace(low, high, max(1, int(np.ceil((high - low) / longest_s - 1e-9))) + 1)[:-1]
            for low, high in pairwise(corners)
        ]
        instants = np.concatenate([*parts, corners[-1:]])
        return cls(instants / SECONDS_PER_MINUTE, np.searchsorted(instants, frames), sample(plasma, instants))

    @property
    def steps(self) -> Real:
        """(steps,) min."""
        return np.diff(self.minutes)

    @property
    def plasma(self) -> Real:
        """(frames,) mmol/L."""
        return self.sampling.plasma[self.frames]

    @property
    def supplied(self) -> Real:
        """(steps,) mmol/L min: the plasma curve's integral over each step."""
        return np.diff(self.sampling.response(0.0)[0])

    def responses(self, rates: Real) -> Real:
        """(elements, instants) mmol/L min: the plasma curve's response at each rate, 1/min."""
        s = self.sampling
        return np.where(s.reached, _responses(s.minutes, s.curve, s.frames, rates), 0.0)


@njit(cache=True, nogil=True)
def _responses(minutes: Real, curve: Real, places: NDArray[np.intp], rates: Real) -> Real:
    out = np.empty((len(rates), len(places)))
    for row in range(len(rates)):
        response = convolve(minutes, curve, rates[row])[0]
        for place in range(len(places)):
            out[row, place] = response[places[place]]
    return out


def relaxation(rate: Real, step: float) -> tuple[Real, Real, Real]:
    """What a step of ``step`` min does to a concentration that is lost at ``rate`` (1/min).

    returns what remains of 1; its integral, min; and the integral of what a supply of 1 per minute leaves, min²
    """
    x = rate * step
    gone = -np.expm1(-x)
    with np.errstate(divide="ignore", invalid="ignore"):
        first = np.where(x < 1e-3, step * (1 - x / 2 + x * x / 6 - x**3 / 24), gone / rate)
        second = np.where(x < 1e-2, step**2 * (0.5 - x / 6 + x * x / 24 - x**3 / 120), (step - first) / rate)
    return 1.0 - gone, first, second


@dataclass(frozen=True)
class AgentBalance:
    """The books of contrast agent outside plasma, mmol/L mm³: what was there, what came from plasma, what is there."""

    before: float
    supplied: float
    after: float

    @property
    def error(self) -> float:
        """What is missing, relative to the largest entry."""
        largest = max(abs(self.before), abs(self.supplied), abs(self.after))
        return abs(self.before + self.supplied - self.after) / largest if largest else 0.0


@dataclass(frozen=True, eq=False)
class TracerField:
    """Contrast agent in every element.

    concentration  (elements, frames) mmol/L of tissue: what an image shows
    interstitial   (elements, frames) mmol/L of interstitial space
    nodes          (nodes, steps) mmol/L of interstitial space, mean over each step
    """

    concentration: Real
    interstitial: Real
    nodes: Real
    balance: AgentBalance


def solve_tracer(
    mesh: TumourMesh,
    kinetics: Kinetics,
    plasma: PlasmaCurve,
    times_s: ArrayLike,
    *,
    diffusivity_mm2_s: float = AGENT_DIFFUSIVITY.value,
    longest_s: float = LONGEST_STEP.value,
    start: Real | None = None,
) -> TracerField:
    """Contrast agent in tissue at the frames.

    times_s  (frames,) s, increasing, in the time of the plasma curve
    start    (nodes,) mmol/L of interstitial space at the first instant; None: there is none

    Raises ConfigurationRejected for a negative diffusivity, SolverFault naming elements with impossible numbers.
    """
    check_diffusivity(diffusivity_mm2_s)
    _check_kinetics(kinetics)
    clock = Clock.of(plasma, times_s, longest_s)
    return run_tracer(Network.of(mesh), kinetics, clock, diffusivity_mm2_s, start)


def check_diffusivity(diffusivity_mm2_s: float) -> None:
    """Raises ConfigurationRejected unless the diffusivity is a number of at least 0, not above that in water."""
    if not 0.0 <= diffusivity_mm2_s <= 3e-3:
        raise ConfigurationRejected(
            f"diffusivity {diffusivity_mm2_s:g} mm²/s of the contrast agent",
            "from 0 to 0.003 mm²/s, that of water itself",
            f"give it in mm²/s, for example {AGENT_DIFFUSIVITY.value:g}",
        )


def _check_kinetics(kinetics: Kinetics) -> None:
    for name, values, least in (("ktrans", kinetics.ktrans, 0.0), ("vp", kinetics.vp, 0.0)):
        refuse_elements(~(values >= least), f"a {name} that is no number of at least 0", "finite values")
    refuse_elements(~(kinetics.ve > 0.0), "a ve that is no number above 0", "a fraction above 0")


def run_tracer(
    network: Network, kinetics: Kinetics, clock: Clock, diffusivity_mm2_s: float, start: Real | None = None
) -> TracerField:
    """The field on steps and plasma that were prepared before (see ``solve_tracer``)."""
    links = network.links(kinetics.ve, diffusivity_mm2_s)
    loss = kinetics.kep + links.rate
    alone = kinetics.kep[:, None] * clock.responses(loss)
    fed = integrals(kinetics.kep[:, None] * clock.supplied, alone, loss, clock.steps)
    first = np.zeros(network.means.shape[1]) if start is None else start
    diffused, nodes = _march(links, loss, fed, clock.steps, first)
    interstitial = alone + diffused
    frames = interstitial[:, clock.frames]
    return TracerField(
        kinetics.ve[:, None] * frames + kinetics.vp[:, None] * clock.plasma,
        frames,
        nodes,
        _balance(network.volumes, kinetics, clock, interstitial, network.means @ nodes, links.rate),
    )


def integrals(supply: Real, values: Real, loss: Real, steps: Real) -> Real:
    """(elements, steps) integral of what obeys dy/dt = supply - loss y, from the supply's integral and y itself."""
    with np.errstate(divide="ignore", invalid="ignore"):
        by_loss = (supply - np.diff(values, axis=1)) / loss[:, None]
    return np.where(loss[:, None] > 0.0, by_loss, 0.0 * steps)


def _march(links: Links, loss: Real, fed: Real, steps: Real, start: Real) -> tuple[Real, Real]:
    """What diffusion and the start add to every element at the instants, and the nodes in each step."""
    quarters, nodes = links.around(start), np.zeros((len(start), len(steps)))
    values = np.empty((len(loss), len(steps) + 1))
    values[:, 0] = quarters.mean(axis=1)
    solvers: dict[float, Solver] = {}
    for n, step in enumerate(steps):
        remains, first, second = relaxation(loss, step)
        if links.rate.any():
            key = float(f"{step:.9g}")
            if key not in solvers:
                solvers[key] = links.solver(step - links.rate * second, step)
            nodes[:, n] = solvers[key](links.arriving(fed[:, n, None] + first[:, None] * quarters))
        quarters = remains[:, None] * quarters + (links.rate * first)[:, None] * links.around(nodes[:, n])
        values[:, n + 1] = quarters.mean(axis=1)
    return values, nodes


def _balance(
    volumes: Real, kinetics: Kinetics, clock: Clock, interstitial: Real, around: Real, rate: Real
) -> AgentBalance:
    """The books from the first instant to the last."""
    room, steps = volumes * kinetics.ve, clock.steps
    loss, supply = kinetics.kep + rate, kinetics.kep[:, None] * clock.supplied + rate[:, None] * around * steps
    there = integrals(supply, interstitial, loss, steps)
    net = kinetics.kep[:, None] * (clock.supplied - there)
    return AgentBalance(
        float(room @ interstitial[:, 0]), float(room @ net.sum(axis=1)), float(room @ interstitial[:, -1])
    )
