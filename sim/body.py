"""Body: a mesh with its materials and supports; residual, tangent and preconditioner of its balance."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from ..core.errors import ConfigurationRejected, SolverFault
from ..meshing.mesh import TumourMesh
from .assembly import Assembly
from .elements import named
from .equilibrium import Equilibrium, Increment
from .laws import Deformation, cauchy, energy
from .linear import BlockDiagonal, Linear
from .multigrid import hierarchy_of
from .solvers import DIRECT_UNKNOWNS, SaddleMatrix, dot, factorise, newton
from .stretches import relaxed_volume
from .supports import Supports
from .tissue import Material, Springs

Real = NDArray[np.float64]
Progress = Callable[[float], None]

LEAST_ELASTIC_JACOBIAN = 0.2
"""An increment that squeezes an element further is halved (project specification, tissue §7.1)."""


@dataclass
class Body:
    """A mesh with its materials and supports, and the preconditioner it has made for itself.

    assembly       residual and tangent of the tissue
    points         (nodes, 3) mm
    spring         (nodes,) kPa mm: spring stiffness x area around each node
    slack          (nodes, 3) mm, displacement at which the springs are slack
    pore           (nodes,) kPa of fluid in the pores, see ``grow``
    free           (nodes, 3) 1 where the displacement is unknown, 0 where it is held
    force, volume  scales of unbalanced forces (kPa mm²) and volumes (mm³), per node and pressure node
    precondition   from an earlier state, reused until it needs half as many iterations again
    linear         who solves, if the system is not factorised
    """

    assembly: Assembly
    points: Real
    spring: Real
    slack: Real
    free: Real
    force: Real
    volume: Real
    precondition: BlockDiagonal | None = None
    best: int = 0
    pore: Real | None = None
    linear: Linear = field(default_factory=Linear)

    @classmethod
    def of(
        cls,
        mesh: TumourMesh,
        materials: Mapping[str, Material],
        springs: Springs | Supports,
        held: NDArray[np.bool_] | None = None,
        pulled: Real | None = None,
        *,
        split: bool = True,
        stiffening: Real | None = None,
    ) -> Body:
        """The supported body of a mesh; ``split`` as in ``pattern_of``, ``stiffening`` as in ``constants_of``.

        Raises ConfigurationRejected when it could move as a whole, SolverFault as ``checked_volumes``.
        """
        assembly = Assembly.of(mesh, materials, split=split, stiffening=stiffening)
        p = assembly.pattern
        spring, fixed = Supports.of(springs).on(mesh)
        free = np.ones_like(mesh.points) if held is None else 1.0 - np.asarray(held, dtype=np.float64)
        free[fixed] = 0.0
        size = p.volumes ** (2.0 / 3.0)
        refuse_rigid_motion(mesh.points, spring[:, None] + (1.0 - free) * assembly.constants.shear.mean() * size.mean())
        return cls(
            assembly,
            mesh.points,
            spring,
            _slack(spring, np.zeros_like(mesh.points) if pulled is None else pulled),
            free,
            largest_around(p.nodes, assembly.constants.shear * size, p.node_count),
            largest_around(p.pressures, p.volumes, len(p.pressure_node)),
        )

    def at_rest(self) -> Real:
        """The state without growth: no displacement, no pressure."""
        return np.zeros(3 * len(self.points) + len(self.volume))

    def going_on(self, start: Equilibrium) -> Real:
        """The state of an earlier equilibrium."""
        if start.displacement.shape != self.points.shape or start.pressure.shape != self.volume.shape:
            raise SolverFault(
                f"an equilibrium of {len(start.displacement)} nodes on a mesh of {len(self.points)}",
                "an equilibrium of the same mesh",
                "transfer it first, or start anew",
            )
        return np.concatenate([start.displacement.ravel(), start.pressure])

    def parts(self, state: Real) -> tuple[Real, Real]:
        """Displacement (nodes, 3) and pressure of a state."""
        return state[: self.points.size].reshape(-1, 3), state[self.points.size :]

    def settle(
        self, state: Real, growth: Real, tolerance: float, told: Progress = lambda share: None
    ) -> tuple[Real, Increment]:
        """The equilibrium at that growth, from a state nearby. Raises SolverFault when it is too far away.

        told  called before each Newton iteration with the share of the residual's orders of magnitude that are gone
        """
        norms: list[float] = []

        def direction(x: Real, r: Real, wanted: float) -> tuple[Real, int]:
            norms.append(self.norm(r))
            told(float(np.log(norms[0] / norms[-1]) / np.log(norms[0] / tolerance)))
            return self.direction(x, r, growth, wanted)

        solved = newton(
            state,
            lambda x: self.residual(x, growth),
            direction,
            norm=self.norm,
            admissible=lambda x: not self.squeezed(x, growth).any(),
            tolerance=tolerance,
        )
        return solved.x, Increment(1.0, solved.residuals, solved.linear)

    def residual(self, state: Real, growth: Real) -> Real:
        """Unbalanced forces and volumes."""
        displacement, pressure = self.parts(state)
        forces, volumes = self.assembly.residual(displacement, pressure, growth)
        forces = (forces + self.spring[:, None] * (displacement - self.slack)) * self.free
        if self.pore is not None:
            volumes = volumes - self.assembly.swelling(self.pore, growth)
        return np.concatenate([forces.ravel(), volumes])

    def norm(self, residual: Real) -> float:
        """Largest scaled residual."""
        forces, volumes = self.parts(residual)
        return float(max((np.abs(forces) / self.force[:, None]).max(), (np.abs(volumes) / self.volume).max()))

    @property
    def scale(self) -> Real:
        """(unknowns,) what ``norm`` counts each unbalanced force and volume in."""
        return np.concatenate([np.repeat(self.force, 3), self.volume])

    def squeezed(self, state: Real, growth: Real) -> NDArray[np.bool_]:
        """(elements,) True where the elastic volume is below its least: squeezed too far, flat or inside out."""
        deformation = self.assembly.deformation(self.parts(state)[0])
        return np.asarray(~(np.linalg.det(deformation) > LEAST_ELASTIC_JACOBIAN * relaxed_volume(growth)))

    def direction(self, state: Real, residual: Real, growth: Real, wanted: float) -> tuple[Real, int]:
        """Newton's step and the linear iterations it took."""
        matrix = self.tangent(state, growth)
        if len(state) <= DIRECT_UNKNOWNS:
            return factorise(matrix.whole())(-residual), 0
        if self.precondition is None:
            self.precondition, self.best = self.preconditioner(state, growth), 0
        step, count = self.linear.saddle(matrix, -residual, self.precondition, scale=self.scale, reduction=wanted)
        effort = int(count / -np.log10(wanted))
        self.best = min(self.best or effort, effort)
        if 2 * effort > 3 * self.best:
            self.precondition = None
        return step, count

    def tangent(self, state: Real, growth: Real) -> SaddleMatrix:
        """Derivative of the residual."""
        matrix = self.assembly.tangent(*self.parts(state), growth)
        self._support(matrix.uu)
        matrix.pu.data *= self.free[matrix.pu.indices][:, None, :]
        return matrix

    def preconditioner(self, state: Real, growth: Real) -> BlockDiagonal:
        """Multigrid for linear elasticity on the deformed mesh, beside the diagonal of a pressure mass."""
        displacement, pressure = self.parts(state)
        stiffness, mass = self.assembly.soft_tangent(displacement, pressure, growth)
        self._support(stiffness)
        modes = rigid_motions(self.points + displacement) * self.free.reshape(-1, 1)
        return BlockDiagonal(hierarchy_of(stiffness, modes), mass)

    def _support(self, stiffness: sparse.bsr_matrix) -> None:
        """Add the springs to the diagonal blocks; clear the rows and columns that are held."""
        rows, columns, data = self.assembly.pattern.uu.row, stiffness.indices, stiffness.data
        own = np.flatnonzero(rows == columns)
        typical = np.trace(data[own], axis1=1, axis2=2).mean() / 3.0
        data *= self.free[rows][:, :, None] * self.free[columns][:, None, :]
        data[own] += np.eye(3) * np.where(self.free == 1.0, self.spring[:, None], typical)[:, :, None]

    def equilibrium(self, state: Real, stretch: Real, growth: Real, increments: tuple[Increment, ...]) -> Equilibrium:
        """What the state says about every element; ``growth`` is the stretch with what is remembered."""
        displacement, pressure = self.parts(state)
        deformation, relaxed = self.assembly.deformation(displacement), relaxed_volume(growth)
        fe = deformation / growth[:, None, None] if growth.ndim == 1 else deformation @ np.linalg.inv(growth)
        elastic = Deformation.of(np.moveaxis(fe, 0, -1)[..., None])
        mean, constants = self.assembly.mean_pressure(pressure)[:, None], self.assembly.constants.at_points()
        borne = 0.0 if self.pore is None else self.pore[self.assembly.pattern.nodes].mean(axis=1, keepdims=True)
        sprung = displacement - self.slack
        stored = energy(elastic, mean + borne, constants)[:, 0]
        return Equilibrium(
            displacement.copy(),
            pressure.copy(),
            stretch,
            relaxed,
            elastic.jacobian[:, 0],
            fe,
            np.ascontiguousarray(np.moveaxis(cauchy(elastic, mean, constants)[..., 0], -1, 0)),
            -self.spring[:, None] * sprung,
            dot(self.assembly.pattern.volumes * relaxed, stored),
            0.5 * dot(self.spring, np.einsum("ai,ai->a", sprung, sprung)),
            increments,
            self.norm(self.residual(state, growth)),
        )

    def stuck(self, state: Real, growth: Real, share: float, fault: SolverFault) -> SolverFault:
        """The error that says how far growth came and which elements are squeezed most."""
        deformation = self.assembly.deformation(self.parts(state)[0])
        jacobian = np.linalg.det(deformation) / relaxed_volume(growth)
        worst = np.argsort(jacobian, kind="stable")[:5]
        return SolverFault(
            f"growth stopped at {share:.1%} of the step ({fault.found}); most squeezed elements {named(worst)}, "
            f"elastic volume ratio {jacobian[worst[0]]:.3f}",
            "an equilibrium in increments of growth",
            "remesh, take a shorter macro step, or look at the growth of these elements",
        )


def _slack(spring: Real, pulled: Real) -> Real:
    """(nodes, 3) mm, where springs (kPa mm) that pull with a force (mN) at no displacement are slack."""
    held = spring > 0.0
    return np.where(held[:, None], pulled / np.where(held, spring, 1.0)[:, None], 0.0)


def rigid_motions(points: Real) -> Real:
    """(3 nodes, 6) three translations and three rotations about the centre."""
    x, y, z = (points - points.mean(axis=0)).T
    o, i = np.zeros_like(x), np.ones_like(x)
    modes = [(i, o, o), (o, i, o), (o, o, i), (o, -z, y), (z, o, -x), (-y, x, o)]
    return np.stack([np.stack(mode, axis=1).ravel() for mode in modes], axis=1)


def refuse_rigid_motion(points: Real, support: Real) -> None:
    """Raise ConfigurationRejected when a rigid motion meets no support (nodes, 3)."""
    modes = rigid_motions(points / np.ptp(points, axis=0).max())
    resistance = np.einsum("di,d,dj->ij", modes, support.ravel(), modes)
    if np.linalg.matrix_rank(resistance, tol=1e-9 * max(np.trace(resistance), 1e-300), hermitian=True) < 6:
        raise ConfigurationRejected(
            "supports that let the body move as a whole",
            "springs or held nodes that stop three translations and three rotations",
            "give the springs a stiffness, or hold more nodes",
        )


def largest_around(numbers: NDArray[np.int64], values: Real, count: int) -> Real:
    """(count,) the largest element value around each node."""
    largest = np.zeros(count)
    np.maximum.at(largest, numbers, values[:, None])
    return largest
