"""Growth: the mesh finds its new equilibrium when elements swell or shrink.

The growth of each element is prescribed as a stretch relative to the mesh without load; displacement and pressure
follow from the tissue law of ``tissue`` on the element of ``assembly``, in increments small enough for Newton.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from ..core.errors import ConfigurationRejected, SolverFault
from ..meshing.mesh import TumourMesh
from .assembly import Assembly
from .elements import named, nodal_areas, outer_faces, refuse_elements
from .solvers import DIRECT_UNKNOWNS, Operator, SaddleMatrix, dot, factorise, minres, multigrid, newton
from .tissue import Deformation, Material, Springs, cauchy, energy

Real = NDArray[np.float64]
Progress = Callable[[float], None]

MOST_HALVINGS = 8
LEAST_ELASTIC_JACOBIAN = 0.2
"""An increment that squeezes an element further is halved (project specification, tissue §7.1)."""
ROUGH = 1e-4
"""Tolerance between increments: the law has no memory, so only the last equilibrium must be exact."""


@dataclass(frozen=True)
class Increment:
    """One accepted increment of growth.

    share      of the whole growth asked for, reached at its end (0..1)
    residuals  scaled residual before the first and after each Newton iteration
    linear     iterations of the linear solver in each Newton iteration (0: factorised)
    """

    share: float
    residuals: tuple[float, ...]
    linear: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Equilibrium:
    """Tissue at rest under its growth.

    displacement       (nodes, 3) mm, from the reference mesh
    pressure           (pressure nodes,) kPa, mean Cauchy stress, positive in tension
    stretch            (elements,) total growth stretch g that this equilibrium carries
    elastic_jacobian   (elements,) Je = det F / g³
    stress             (elements, 3, 3) Cauchy stress, kPa
    strain_energy      kPa mm³ = µJ, stored in the tissue
    spring_energy      kPa mm³, stored in the springs
    increments         that led here from the equilibrium before
    residual           largest unbalanced share: force over (shear modulus x face area), volume over element volume
    """

    displacement: Real
    pressure: Real
    stretch: Real
    elastic_jacobian: Real
    stress: Real
    strain_energy: float
    spring_energy: float
    increments: tuple[Increment, ...]
    residual: float

    @cached_property
    def volume_ratio(self) -> Real:
        """(elements,) volume over reference volume, det F = g³ Je."""
        return np.asarray(self.elastic_jacobian * self.stretch**3)

    @cached_property
    def mean_stress(self) -> Real:
        """(elements,) kPa, positive in tension."""
        return np.asarray(np.trace(self.stress, axis1=1, axis2=2) / 3.0)

    @cached_property
    def von_mises(self) -> Real:
        """(elements,) kPa."""
        deviator = self.stress - self.mean_stress[:, None, None] * np.eye(3)
        return np.asarray(np.sqrt(1.5 * np.einsum("eij,eij->e", deviator, deviator)))

    @property
    def history(self) -> tuple[int, ...]:
        """Newton iterations of each increment."""
        return tuple(len(increment.linear) for increment in self.increments)


def grow(
    mesh: TumourMesh,
    stretch: Real,
    materials: Mapping[str, Material],
    *,
    springs: Springs,
    held: NDArray[np.bool_] | None = None,
    start: Equilibrium | None = None,
    max_log_increment: float = 0.025,
    tolerance: float = 1e-8,
    progress: Progress | None = None,
) -> Equilibrium:
    """The equilibrium of the mesh when its elements have grown (stretch > 1) or shrunk (stretch < 1).

    mesh               without load: the reference configuration
    stretch            (elements,) total growth stretch g relative to it, the cube root of the growth in volume
    materials          region name to material
    springs            hold the outer boundary; together with ``held`` they must stop rigid motion
    held               (nodes, 3) True where a component of the displacement stays zero; None: nowhere
    start              an earlier equilibrium of this mesh, from which growth goes on; None: the reference, g = 1
    max_log_increment  the largest change of ln g in one increment
    tolerance          on the scaled residual (see Equilibrium)
    progress           called with the share of the growth that is done

    Raises ConfigurationRejected for a region without material or supports that leave a rigid motion; SolverFault
    (naming elements) when an element of the mesh is inside out, a stretch is not a positive number, or no small
    enough increment is found.
    """
    stretch = np.asarray(stretch, dtype=np.float64)
    refuse_elements(
        ~(np.isfinite(stretch) & (stretch > 0.0)),
        "a growth stretch that is no positive number",
        "finite stretches above 0",
    )
    body = Body.of(mesh, materials, springs, held)
    state, begin = (body.at_rest(), np.ones_like(stretch)) if start is None else (body.going_on(start), start.stretch)
    state, increments = _march(body, state, begin, stretch, max_log_increment, tolerance, progress)
    return body.equilibrium(state, stretch, increments)


def _march(
    body: Body,
    state: Real,
    begin: Real,
    end: Real,
    max_log_increment: float,
    tolerance: float,
    progress: Progress | None,
) -> tuple[Real, tuple[Increment, ...]]:
    """From the growth ``begin`` to ``end`` in increments of equal ln g, halved where Newton fails."""
    change = np.log(end) - np.log(begin)
    size = 1.0 / max(1.0, np.ceil(np.abs(change).max() / max_log_increment - 1e-9))
    share, halvings = 0.0, 0
    increments: list[Increment] = []
    while share < 1.0:
        target = 1.0 if share + size > 1.0 - 1e-9 else share + size
        goal = end if target == 1.0 else begin * np.exp(target * change)
        try:
            state, increment = body.settle(state, goal, tolerance if target == 1.0 else max(tolerance, ROUGH))
        except SolverFault as fault:
            halvings, size = halvings + 1, size / 2.0
            if halvings > MOST_HALVINGS:
                raise body.stuck(state, goal, share, fault) from fault
            continue
        share = target
        increments.append(replace(increment, share=share))
        if progress is not None:
            progress(share)
    return state, tuple(increments)


@dataclass
class Body:
    """A mesh with its materials and supports, and the preconditioner it has made for itself.

    assembly       residual and tangent of the tissue
    points         (nodes, 3) mm
    spring         (nodes,) kPa mm: spring stiffness x area around each node
    free           (nodes, 3) 1 where the displacement is unknown, 0 where it is held
    force, volume  scales of unbalanced forces (kPa mm²) and volumes (mm³), per node and pressure node
    precondition   from an earlier state, reused until it needs half as many iterations again
    """

    assembly: Assembly
    points: Real
    spring: Real
    free: Real
    force: Real
    volume: Real
    precondition: Operator | None = None
    best: int = 0

    @classmethod
    def of(
        cls,
        mesh: TumourMesh,
        materials: Mapping[str, Material],
        springs: Springs,
        held: NDArray[np.bool_] | None = None,
        *,
        split: bool = True,
    ) -> Body:
        """The supported body of a mesh; ``split`` as in ``pattern_of``.

        Raises ConfigurationRejected when it could move as a whole, SolverFault as ``checked_volumes``.
        """
        assembly = Assembly.of(mesh, materials, split=split)
        p = assembly.pattern
        faces = outer_faces(mesh.tetrahedra) if springs.region is None else mesh.surface_of(springs.region)
        spring = springs.stiffness * nodal_areas(mesh.points, faces)
        free = np.ones_like(mesh.points) if held is None else 1.0 - np.asarray(held, dtype=np.float64)
        size = p.volumes ** (2.0 / 3.0)
        _refuse_rigid_motion(mesh.points, spring[:, None] + (1.0 - free) * assembly.shear.mean() * size.mean())
        return cls(
            assembly,
            mesh.points,
            spring,
            free,
            _largest_around(p.nodes, assembly.shear * size, p.node_count),
            _largest_around(p.pressures, p.volumes, len(p.pressure_node)),
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

    def settle(self, state: Real, stretch: Real, tolerance: float) -> tuple[Real, Increment]:
        """The equilibrium at ``stretch``, from a state nearby. Raises SolverFault when it is too far away."""
        solved = newton(
            state,
            lambda x: self.residual(x, stretch),
            lambda x, r, wanted: self.direction(x, r, stretch, wanted),
            norm=self.norm,
            admissible=lambda x: not self.squeezed(x, stretch).any(),
            tolerance=tolerance,
        )
        return solved.x, Increment(1.0, solved.residuals, solved.linear)

    def residual(self, state: Real, stretch: Real) -> Real:
        """Unbalanced forces and volumes."""
        displacement, pressure = self.parts(state)
        forces, volumes = self.assembly.residual(displacement, pressure, stretch)
        forces = (forces + self.spring[:, None] * displacement) * self.free
        return np.concatenate([forces.ravel(), volumes])

    def norm(self, residual: Real) -> float:
        """Largest scaled residual."""
        forces, volumes = self.parts(residual)
        return float(max((np.abs(forces) / self.force[:, None]).max(), (np.abs(volumes) / self.volume).max()))

    def squeezed(self, state: Real, stretch: Real) -> NDArray[np.bool_]:
        """(elements,) True where the elastic volume is below its least: squeezed too far, flat or inside out."""
        deformation = self.assembly.deformation(self.parts(state)[0])
        return np.asarray(~(np.linalg.det(deformation) > LEAST_ELASTIC_JACOBIAN * stretch**3))

    def direction(self, state: Real, residual: Real, stretch: Real, wanted: float) -> tuple[Real, int]:
        """Newton's step and the linear iterations it took."""
        matrix = self.tangent(state, stretch)
        if len(state) <= DIRECT_UNKNOWNS:
            return factorise(matrix.whole())(-residual), 0
        if self.precondition is None:
            self.precondition, self.best = self.preconditioner(state, stretch), 0
        step, count = minres(matrix.operator(), -residual, self.precondition, reduction=wanted, norm=self.norm)
        effort = int(count / -np.log10(wanted))
        self.best = min(self.best or effort, effort)
        if 2 * effort > 3 * self.best:
            self.precondition = None
        return step, count

    def tangent(self, state: Real, stretch: Real) -> SaddleMatrix:
        """Derivative of the residual."""
        matrix = self.assembly.tangent(*self.parts(state), stretch)
        self._support(matrix.uu)
        matrix.pu.data *= self.free[matrix.pu.indices][:, None, :]
        return matrix

    def preconditioner(self, state: Real, stretch: Real) -> Operator:
        """Multigrid for linear elasticity on the deformed mesh, beside the diagonal of a pressure mass."""
        displacement, pressure = self.parts(state)
        stiffness, mass = self.assembly.soft_tangent(displacement, pressure, stretch)
        self._support(stiffness)
        cycle = multigrid(stiffness, rigid_motions(self.points + displacement) * self.free.reshape(-1, 1))
        return lambda r: np.concatenate([cycle(r[: self.points.size]), r[self.points.size :] / mass])

    def _support(self, stiffness: sparse.bsr_matrix) -> None:
        """Add the springs to the diagonal blocks; clear the rows and columns that are held."""
        rows, columns, data = self.assembly.pattern.uu.row, stiffness.indices, stiffness.data
        own = np.flatnonzero(rows == columns)
        typical = np.trace(data[own], axis1=1, axis2=2).mean() / 3.0
        data *= self.free[rows][:, :, None] * self.free[columns][:, None, :]
        data[own] += np.eye(3) * np.where(self.free == 1.0, self.spring[:, None], typical)[:, :, None]

    def equilibrium(self, state: Real, stretch: Real, increments: tuple[Increment, ...]) -> Equilibrium:
        """What the state says about every element."""
        displacement, pressure = self.parts(state)
        deformation = self.assembly.deformation(displacement)
        elastic = Deformation.of(np.moveaxis(deformation / stretch[:, None, None], 0, -1)[..., None])
        mean, shear, bulk = (
            x[:, None] for x in (self.assembly.mean_pressure(pressure), self.assembly.shear, self.assembly.bulk)
        )
        stored = energy(elastic, mean, shear, bulk)[:, 0]
        return Equilibrium(
            displacement.copy(),
            pressure.copy(),
            stretch,
            elastic.jacobian[:, 0],
            np.ascontiguousarray(np.moveaxis(cauchy(elastic, mean, shear)[..., 0], -1, 0)),
            dot(self.assembly.pattern.volumes * stretch**3, stored),
            0.5 * dot(self.spring, np.einsum("ai,ai->a", displacement, displacement)),
            increments,
            self.norm(self.residual(state, stretch)),
        )

    def stuck(self, state: Real, stretch: Real, share: float, fault: SolverFault) -> SolverFault:
        """The error that says how far growth came and which elements are squeezed most."""
        deformation = self.assembly.deformation(self.parts(state)[0])
        jacobian = np.linalg.det(deformation) / stretch**3
        worst = np.argsort(jacobian, kind="stable")[:5]
        return SolverFault(
            f"growth stopped at {share:.1%} of the step ({fault.found}); most squeezed elements {named(worst)}, "
            f"elastic volume ratio {jacobian[worst[0]]:.3f}",
            "an equilibrium in increments of growth",
            "remesh, take a shorter macro step, or look at the growth of these elements",
        )


def rigid_motions(points: Real) -> Real:
    """(3 nodes, 6) three translations and three rotations about the centre."""
    x, y, z = (points - points.mean(axis=0)).T
    o, i = np.zeros_like(x), np.ones_like(x)
    modes = [(i, o, o), (o, i, o), (o, o, i), (o, -z, y), (z, o, -x), (-y, x, o)]
    return np.stack([np.stack(mode, axis=1).ravel() for mode in modes], axis=1)


def _refuse_rigid_motion(points: Real, support: Real) -> None:
    """Raise ConfigurationRejected when a rigid motion meets no support (nodes, 3)."""
    modes = rigid_motions(points / np.ptp(points, axis=0).max())
    resistance = np.einsum("di,d,dj->ij", modes, support.ravel(), modes)
    if np.linalg.matrix_rank(resistance, tol=1e-9 * max(np.trace(resistance), 1e-300), hermitian=True) < 6:
        raise ConfigurationRejected(
            "supports that let the body move as a whole",
            "springs or held nodes that stop three translations and three rotations",
            "give the springs a stiffness, or hold more nodes",
        )


def _largest_around(numbers: NDArray[np.int64], values: Real, count: int) -> Real:
    """(count,) the largest element value around each node."""
    largest = np.zeros(count)
    np.maximum.at(largest, numbers, values[:, None])
    return largest
