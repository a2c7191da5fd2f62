"""Tissue as a wet sponge: the solid bears what the fluid in its pores does not, and fluid moves when it is squeezed.

    div(sigma' - alpha pi I) = 0,    storage dpi/dt + alpha d(div u)/dt - div(kappa grad pi) = source

[Biot 1941, doi 10.1063/1.1712886], small strains, sigma' = 2 mu e + (K - 2/3 mu) div u I. The total mean stress
P = K div u - alpha pi (tension positive) is an unknown of its own, so that the drained solid is the mixed element of
``assembly`` at rest and

    div(2 mu dev e + P I) = 0,    div u = (P + alpha pi)/K,
    storage dpi/dt + alpha/K d(P + alpha pi)/dt - div(kappa grad pi) = source

[Lee, Mardal, Winther 2017, doi 10.1137/15M1029473; Oyarzua and Ruiz-Baier 2016, doi 10.1137/15M1050082]. Its
stabilisation acts on P, which is what stays when neither fluid nor solid can change its volume: linear displacement
beside linear pressures is stable drained and undrained. P may jump where regions meet, pi does not.

A step of backward Euler is solved as one system, or split: the flow with the total stress held (fixed stress, K_dr = K
here), then the solid, in turns until nothing moves. One turn is not a solution: it misses the rise of the pressure in a
squeezed sphere altogether (Mandel and Cryer's effect; project specification, tissue §4.3).
Units: mm, day, kPa (also for pi); permeability kappa mm²/(kPa day).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from ..core.errors import ConfigurationRejected, SolverFault
from ..meshing.mesh import TumourMesh
from .body import Body
from .elements import gradients
from .multigrid import multigrid
from .solvers import DIRECT_UNKNOWNS, Operator, euclidean, factorise, minres, solve_scalar
from .tissue import Material, Springs

Real = NDArray[np.float64]
Solid = TypeVar("Solid")

KPA_PER_MMHG = 0.133322387415
"""One millimetre of mercury [BIPM, The International System of Units, 9th edition]."""
MOST_TURNS = 400
CONVERGED = 1e-6
"""Relative change of fluid and stress at which the turns of a split end (project specification, tissue §4.3)."""
DIRECT = 12_000
"""Up to this many unknowns a system is factorised: its factors serve every step."""


@dataclass(frozen=True)
class Pores:
    """The fluid of one region.

    permeability  mm²/(kPa day), > 0: hydraulic conductivity
    storage       1/kPa, >= 0: fluid that a volume takes up at constant strain (0: fluid and grains incompressible)
    coupling      Biot's alpha, 0 to 1 (1: grains incompressible)
    """

    permeability: float
    storage: float = 0.0
    coupling: float = 1.0

    def __post_init__(self) -> None:
        possible = self.permeability > 0.0 and self.storage >= 0.0 and 0.0 < self.coupling <= 1.0
        if not (possible and np.isfinite([self.permeability, self.storage]).all()):
            raise ConfigurationRejected(
                f"permeability {self.permeability}, storage {self.storage}, coupling {self.coupling}",
                "a permeability above 0, a storage of at least 0, a coupling above 0 and at most 1",
                "mend the fluid of the region",
            )


@dataclass(frozen=True, eq=False)
class Wet:
    """The state: displacement (nodes, 3) mm, total mean stress (pressure nodes,) kPa, fluid (nodes,) kPa."""

    displacement: Real
    stress: Real
    fluid: Real


@dataclass(frozen=True)
class Split:
    """Fixed stress: how often flow and solid take turns at most, and the stabilisation over alpha²/K.

    Raises nothing when the turns run out if ``strict`` is False: what a split without iteration gives.
    """

    turns: int = MOST_TURNS
    factor: float = 1.0
    strict: bool = True


@dataclass(eq=False)
class Sponge:
    """A mesh with its solid, its fluid and its supports.

    body      the solid with its supports
    capacity  (nodes, nodes) storage, mm³/kPa
    mass      (pressure nodes, pressure nodes) 1/K, mm³/kPa
    share     (pressure nodes, nodes) alpha of the fluid that a pressure node feels
    flow      (nodes, nodes) mm³/(kPa day)
    free      (nodes,) False where the fluid's pressure is held
    """

    body: Body
    capacity: sparse.csr_matrix
    mass: sparse.csr_matrix
    share: sparse.csr_matrix
    flow: sparse.csr_matrix
    free: NDArray[np.bool_]
    turns: list[int] = field(default_factory=list)
    _solvers: dict[Any, Operator] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        mesh: TumourMesh,
        materials: Mapping[str, Material],
        pores: Mapping[str, Pores],
        *,
        springs: Springs,
        held: NDArray[np.bool_] | None = None,
        drained: NDArray[np.bool_] | None = None,
    ) -> Sponge:
        """Of a mesh.

        springs, held  supports of the solid, as in ``growth.grow``
        drained        (nodes,) True where the fluid's pressure is held; None: nowhere

        Raises ConfigurationRejected for a region without material or fluid.
        """
        missing = sorted({mesh.region_names[int(number)] for number in np.unique(mesh.region)} - set(pores))
        if missing:
            raise ConfigurationRejected(
                f"regions without fluid: {', '.join(missing)}", "one for every region", "name the pores of each region"
            )
        body = Body.of(mesh, materials, springs, held)
        p, count = body.assembly.pattern, len(mesh.points)
        by_region = {number: pores[name] for number, name in mesh.region_names.items() if name in pores}

        def every(name: str) -> Real:
            return np.array([getattr(by_region[int(number)], name) for number in mesh.region])

        alpha = np.zeros(len(p.pressure_node))
        alpha[p.pressures] = every("coupling")[:, None]
        share = sparse.csr_matrix((alpha, (np.arange(len(alpha)), p.pressure_node)), (len(alpha), count))
        consistent = (1.0 + np.eye(4)) / 20.0
        gradient = gradients(mesh.points, mesh.tetrahedra)
        products = np.einsum("eai,ebi->eab", gradient, gradient)
        return cls(
            body,
            _assembled(p.nodes, (p.volumes * every("storage"))[:, None, None] * consistent, count),
            _assembled(p.pressures, (p.volumes / body.assembly.constants.bulk)[:, None, None] * consistent, len(alpha)),
            share,
            _assembled(p.nodes, (p.volumes * every("permeability"))[:, None, None] * products, count),
            np.ones(count, dtype=np.bool_) if drained is None else ~np.asarray(drained, dtype=np.bool_),
        )

    def at_rest(self) -> Wet:
        """Neither strain nor pressure."""
        return Wet(np.zeros_like(self.body.points), np.zeros(len(self.body.volume)), np.zeros(len(self.free)))

    def step(
        self,
        before: Wet,
        days: float,
        *,
        load: Real | None = None,
        source: Real | None = None,
        held: Real | None = None,
        split: Split | None = None,
    ) -> Wet:
        """The state after one step of backward Euler.

        load    (nodes, 3) mN at its end; None: none
        source  (nodes,) mm³/day that enters, at its end; None: none
        held    (nodes,) kPa where the fluid's pressure is held; None: 0
        split   take turns instead of solving one system

        Raises SolverFault when the turns of the split do not come to rest.
        """
        force = np.zeros(self.body.points.size) if load is None else (load * self.body.free).ravel()
        known = np.where(self.free, 0.0, 0.0 if held is None else held)
        entering = (0.0 if source is None else days * source) + self._stored(before)
        if split is None:
            return self._whole(days, force, entering, known)
        return self._in_turns(before, days, force, entering, known, split)

    def _stored(self, state: Wet) -> Real:
        """(nodes,) mm³ of fluid that a state holds beyond rest."""
        return np.asarray(
            self.capacity @ state.fluid + self.share.T @ (self.mass @ (state.stress + self.share @ state.fluid))
        )

    @cached_property
    def _solid(self) -> Any:
        """The solid's matrix: [uu, pu^T; pu, pp], pp = -(mass + stabilisation)."""
        return self.body.tangent(self.body.at_rest(), np.ones(len(self.body.assembly.constants.shear)))

    @cached_property
    def _squeeze(self) -> sparse.csr_matrix:
        """(pressure nodes, nodes) mm³/kPa: volume that the fluid's pressure gives."""
        return sparse.csr_matrix(self.mass @ self.share)

    def _kept(self, key: Any, make: Callable[[], Operator]) -> Operator:
        if key not in self._solvers:
            self._solvers[key] = make()
        return self._solvers[key]

    def _whole(self, days: float, force: Real, entering: Real, known: Real) -> Wet:
        """One system, symmetric: displacement, stress and fluid."""
        n, m = self.body.points.size, len(self.body.volume)
        mask = sparse.diags_array(self.free.astype(np.float64))
        fluid = sparse.csr_matrix(self.capacity + self.share.T @ self._squeeze + days * self.flow)
        squeeze = self._squeeze @ mask
        inner = mask @ fluid @ mask + sparse.diags_array((~self.free).astype(np.float64))
        right = np.concatenate([force, self._squeeze @ known, np.where(self.free, fluid @ known - entering, 0.0)])

        def make() -> Operator:
            solid = self._solid
            matrix = sparse.bmat(
                [[solid.uu, solid.pu.T, None], [solid.pu, solid.pp, -squeeze], [None, -squeeze.T, -inner]], format="csc"
            )
            if matrix.shape[0] <= DIRECT:
                return factorise(matrix)
            mechanics, drained = self._mechanics(), multigrid(sparse.csr_matrix(inner))

            def precondition(r: Real) -> Real:
                return np.concatenate([mechanics(r[: n + m]), drained(r[n + m :])])

            rows = matrix.tocsr()
            return lambda b: minres(rows.__matmul__, b, precondition, reduction=1e-9, most=2000)[0]

        x = self._kept(("whole", days), make)(right)
        return Wet(x[:n].reshape(-1, 3), x[n : n + m], np.where(self.free, x[n + m :], known))

    def _in_turns(self, before: Wet, days: float, force: Real, entering: Real, known: Real, split: Split) -> Wet:
        """Flow with the total stress held, then the solid, until the fluid's pressure rests."""
        state = before
        extra = (split.factor - 1.0) * sparse.csr_matrix(self.share.T @ self._squeeze)
        fluid = sparse.csr_matrix(self.capacity + self.share.T @ self._squeeze + extra + days * self.flow)
        mask = sparse.diags_array(self.free.astype(np.float64))
        inner = sparse.csr_matrix(mask @ fluid @ mask + sparse.diags_array((~self.free).astype(np.float64)))

        def make() -> Operator:
            if inner.shape[0] <= DIRECT:
                return factorise(inner)
            return lambda b: solve_scalar(inner, b, reduction=1e-11)[0]

        flow = self._kept(("flow", days, split.factor), make)
        turn, moved = 0, np.inf
        while turn < split.turns and moved >= CONVERGED:
            turn += 1
            right = entering - self._squeeze.T @ state.stress + extra @ state.fluid - fluid @ known
            pressure = flow(np.where(self.free, right, 0.0)) + known
            found = self._settled(force, pressure)
            moved = max(_change(state.fluid, found.fluid), _change(state.stress, found.stress))
            state = found
        self.turns.append(turn)
        if split.strict and not moved < CONVERGED:
            raise SolverFault(
                f"fluid and stress still move by {moved:.1e} after {turn} turns",
                f"{CONVERGED:.0e}",
                "solve flow and solid as one system",
            )
        return state

    def _settled(self, force: Real, fluid: Real) -> Wet:
        """The solid at rest under a load and the fluid's pressure."""
        n = self.body.points.size

        def make() -> Operator:
            solid = self._solid
            if n + len(self.body.volume) <= max(DIRECT, DIRECT_UNKNOWNS):
                return factorise(solid.whole())
            apply, precondition = solid.operator(), self._mechanics()
            return lambda b: minres(apply, b, precondition, reduction=1e-9)[0]

        x = self._kept("solid", make)(np.concatenate([force, self._squeeze @ fluid]))
        return Wet(x[:n].reshape(-1, 3), x[n:], fluid)

    def _mechanics(self) -> Operator:
        return self.body.preconditioner(self.body.at_rest(), np.ones(len(self.body.assembly.constants.shear)))


def _change(before: Real, after: Real) -> float:
    """How much of it is new, at most 1 or so; 0 where there was and is nothing."""
    return euclidean(after - before) / max(euclidean(after), 1e-300)


def consolidation(material: Material, pores: Pores) -> float:
    """mm²/day: coefficient of consolidation cv = kappa (K + 4/3 mu) of fluid and grains that are incompressible."""
    return pores.permeability * (material.bulk + 4.0 / 3.0 * material.shear)


def in_balance(
    solid: Callable[[Real], Solid], fluid: Callable[[Solid], Real], pressure: Real, most: int = 20
) -> tuple[Solid, Real, int]:
    """Solid and fluid that agree: each solved with what the other says, until the fluid's pressure rests.

    For steps so long that vessels and lymph set the pressure and the solid's swelling hardly does: the drained split
    contracts then. Returns the solid, the pressure and the turns; raises SolverFault when it does not come to rest.
    """
    for turn in range(1, most + 1):
        moved = solid(pressure)
        found = fluid(moved)
        change, pressure = _change(pressure, found), found
        if change < CONVERGED:
            return moved, pressure, turn
    raise SolverFault(
        f"the fluid's pressure still moves by {change:.1e} after {most} turns with the solid",
        f"{CONVERGED:.0e}",
        "take a longer macro step, or leave out poroelastic",
    )


def surface_load(points: Real, faces: NDArray[np.int64], traction: Callable[[Real], Real]) -> Real:
    """(nodes, 3) mN of a traction (faces, 3) kPa, a function of the faces' outward unit normals (faces, 3)."""
    a, b, c = np.moveaxis(points[faces], 1, 0)
    area = np.cross(b - a, c - a) / 2.0
    size = np.linalg.norm(area, axis=1)
    force = traction(area / size[:, None]) * size[:, None] / 3.0
    load = np.zeros_like(points)
    for corner in range(3):
        np.add.at(load, faces[:, corner], force)
    return load


def _assembled(numbers: NDArray[np.int64], blocks: Real, count: int) -> sparse.csr_matrix:
    rows, columns = np.repeat(numbers, 4, axis=1), np.tile(numbers, (1, 4))
    return sparse.csr_matrix(sparse.coo_matrix((blocks.ravel(), (rows.ravel(), columns.ravel())), 2 * (count,)))
