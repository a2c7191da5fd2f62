"""The accurate element: quadratic displacement, linear pressure split where regions meet; for small meshes.

The laws are those of ``laws``, word for word; only the shapes differ from the default element of ``assembly``. The
displacement has a node at every corner and at the middle of every edge, the pressure one at every corner of every
region. The pair is stable without stabilisation [Taylor and Hood 1973, doi 10.1016/0045-7930(73)90027-3; on tetrahedra
Boffi 1997, SIAM Journal on Numerical Analysis 34:664]: where the mesh follows the shape, displacements converge at
third order and stresses at second (project specification, tissue §3.3). Edges stay straight, so a curved surface is met
at second order only. One iteration costs some 45 times that of the default element (measured at 4 374 elements), so
meshes of more than MOST_ELEMENTS are refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from skfem.quadrature import get_quadrature
from skfem.refdom import RefTet

from ..core.errors import ConfigurationRejected
from ..meshing.mesh import TumourMesh
from .assembly import Assembly, Pattern
from .body import LEAST_ELASTIC_JACOBIAN, Body, Progress, largest_around, refuse_rigid_motion
from .elements import EDGES, checked_volumes, corners_of, edges_of, gradients, graph, outer_faces
from .equilibrium import Equilibrium, Increment
from .growth import balanced
from .laws import Constants, Deformation, answers, cauchy, energy, piola, piola_change
from .solvers import SaddleMatrix, dot
from .stretches import checked_growth, relaxed_volume, tensors_of
from .supports import Supports
from .tissue import Material, Springs, constants_of

Real = NDArray[np.float64]

MOST_ELEMENTS = 20_000
"""Larger meshes are refused: an increment of growth would take minutes."""
AT_ONCE = 2_048
"""Elements whose tangents are made together, which bounds the memory."""

_POINTS, _WEIGHTS = get_quadrature(RefTet, 4)
CORNERS: Real = np.vstack([1.0 - _POINTS.sum(axis=0), _POINTS]).T
"""(points, 4) barycentric coordinates of the quadrature of degree 4; they are also the linear shapes."""
WEIGHTS: Real = _WEIGHTS / _WEIGHTS.sum()
"""(points,) shares of an element's volume."""


def slopes(corners: Real) -> Real:
    """(points, 10, 4) derivatives of the quadratic shapes by the barycentric coordinates at points (points, 4).

    The shapes are l (2 l - 1) at the corners and 4 l m at the middles of ``elements.EDGES``.
    """
    found = np.zeros((len(corners), 10, 4))
    found[:, range(4), range(4)] = 4.0 * corners - 1.0
    for number, (a, b) in enumerate(EDGES, start=4):
        found[:, number, a], found[:, number, b] = 4.0 * corners[:, b], 4.0 * corners[:, a]
    return found


@lru_cache(maxsize=1)
def quadratic_pattern(mesh: TumourMesh) -> Pattern:
    """The pattern of a mesh whose nodes are its points and then the middles of its edges: nodes (elements, 10).

    Raises SolverFault naming the elements without positive volume.
    """
    volumes, tetrahedra, count = checked_volumes(mesh), mesh.tetrahedra, len(mesh.points)
    ends, place = edges_of(tetrahedra)
    nodes = np.concatenate([tetrahedra, count + place], axis=1)
    region = np.unique(mesh.region, return_inverse=True)[1]
    places, pressures = np.unique(tetrahedra + count * region[:, None], return_inverse=True)
    pressures, every = pressures.reshape(tetrahedra.shape), count + len(ends)
    return Pattern(
        gradients(mesh.points, tetrahedra),
        volumes,
        nodes,
        pressures,
        places % count,
        corners_of(nodes, every),
        corners_of(pressures, len(places)),
        graph(nodes, nodes, (every, every)),
        graph(pressures, nodes, (len(places), every)),
        graph(pressures, pressures, (len(places), len(places))),
        every,
    )


@dataclass(frozen=True, eq=False)
class Points:
    """The tissue at the quadrature points of some elements.

    elements   which
    gradient   (elements, points, 10, 3) 1/mm of the shapes, in the grown and relaxed tissue
    elastic    its Fe, (3, 3, elements, points)
    pressure   (elements, points) kPa
    weight     (elements, points) mm³ of the grown and relaxed tissue
    constants  of the law, (elements, 1)
    """

    elements: slice
    gradient: Real
    elastic: Deformation
    pressure: Real
    weight: Real
    constants: Constants


@dataclass(frozen=True, eq=False)
class QuadraticAssembly(Assembly):
    """Residual and tangent of the tissue law on quadratic displacements, as ``Assembly`` has them on linear ones."""

    @classmethod
    def of(
        cls,
        mesh: TumourMesh,
        materials: Mapping[str, Material],
        *,
        split: bool = True,
        stiffening: Real | None = None,
    ) -> QuadraticAssembly:
        """Of a mesh whose regions all have a material; its pressures are always split.

        Raises ConfigurationRejected for more than MOST_ELEMENTS elements.
        """
        if len(mesh.tetrahedra) > MOST_ELEMENTS:
            raise ConfigurationRejected(
                f"element p2p1 on a mesh of {len(mesh.tetrahedra)} elements",
                f"at most {MOST_ELEMENTS}",
                "choose larger elements, or element p1",
            )
        return cls(quadratic_pattern(mesh), constants_of(mesh, materials, stiffening))

    def points(self, displacement: Real, pressure: Real, growth: Real) -> Iterator[Points]:
        """Group by group, the tissue at the quadrature points; ``growth`` as in ``Assembly.residual``."""
        p, local = self.pattern, slopes(CORNERS)
        relaxing, grown = np.linalg.inv(tensors_of(growth)), relaxed_volume(growth)
        for first in range(0, len(p.volumes), AT_ONCE):
            part = slice(first, first + AT_ONCE)
            gradient = np.einsum("qac,eci,eij->eqaj", local, p.gradients[part], relaxing[part])
            grad = np.einsum("eai,eqaj->ijeq", displacement[p.nodes[part]], gradient)
            fe = np.moveaxis(relaxing[part], 0, -1)[..., None] + grad
            yield Points(
                part,
                gradient,
                Deformation.of(fe),
                np.einsum("qb,eb->eq", CORNERS, pressure[p.pressures[part]]),
                (p.volumes * grown)[part, None] * WEIGHTS,
                Constants(*(getattr(self.constants, field.name)[part, None] for field in fields(Constants))),
            )

    def residual(self, displacement: Real, pressure: Real, growth: Real) -> tuple[Real, Real]:
        """(nodes, 3) mN unbalanced forces and (pressure nodes,) mm³ unbalanced volumes."""
        p = self.pattern
        forces, volumes = np.empty((*p.nodes.shape, 3)), np.empty(p.pressures.shape)
        for at in self.points(displacement, pressure, growth):
            stress = piola(at.elastic, at.pressure, tuple(answers(at.elastic, at.constants)))
            forces[at.elements] = np.einsum("eq,ijeq,eqaj->eai", at.weight, stress, at.gradient)
            change = at.weight * (at.elastic.jacobian - 1.0 - at.pressure / at.constants.bulk)
            volumes[at.elements] = np.einsum("eq,qb->eb", change, CORNERS)
        summed = [_gathered(p.nodes, forces[..., i], p.node_count) for i in range(3)]
        return np.stack(summed, axis=1), _gathered(p.pressures, volumes, len(p.pressure_node))

    def tangent(self, displacement: Real, pressure: Real, growth: Real) -> SaddleMatrix:
        """Derivative of the residual: symmetric blocks [uu, pu^T; pu, pp]."""
        p = self.pattern
        uu, pu = np.empty((*p.uu.slot.shape, 3, 3)), np.empty((*p.pu.slot.shape, 3))
        for at in self.points(displacement, pressure, growth):
            uu[at.elements] = _contracted(at, _moduli_of(at))
            back = np.einsum("ijeq,eqaj->eqai", at.elastic.back, at.gradient)
            squeeze = at.weight * at.elastic.jacobian
            pu[at.elements] = np.einsum("eq,qb,eqai->ebai", squeeze, CORNERS, back)
        mass = -(p.volumes * relaxed_volume(growth) / self.constants.bulk / 20.0)[:, None, None] * (1.0 + np.eye(4))
        pp = _gathered(p.pp.slot, mass, len(p.pp.column))
        compressibility = sparse.csr_matrix((pp, p.pp.column, p.pp.pointer), shape=2 * (len(p.pressure_node),))
        coupling = np.stack([_gathered(p.pu.slot, pu[..., i], len(p.pu.column)) for i in range(3)], axis=1)
        return SaddleMatrix(self._stiffness(self._blocks(uu)), self._coupling(coupling[:, None, :]), compressibility)

    def soft_tangent(self, displacement: Real, pressure: Real, growth: Real) -> tuple[sparse.bsr_matrix, Real]:
        """Linear elasticity 2 mu e:e on the deformed mesh, and the diagonal of the pressure mass: see ``Assembly``."""
        p = self.pattern
        uu = np.empty((*p.uu.slot.shape, 3, 3))
        for at in self.points(displacement, pressure, growth):
            m, q, *_ = answers(at.elastic, at.constants)
            weight = at.weight * m * np.abs(at.elastic.jacobian) ** q
            h = np.einsum("ijeq,eqaj->eqai", at.elastic.back, at.gradient)
            uu[at.elements] = np.einsum("eq,eqbi,eqaj->eabij", weight, h, h)
            uu[at.elements] += np.einsum("eq,eqai,eqbi->eab", weight, h, h)[..., None, None] * np.eye(3)
        mass = p.volumes * relaxed_volume(growth) * (0.05 / self.constants.shear + 0.1 / self.constants.bulk)
        diagonal = _gathered(p.pressures, mass[:, None] + np.zeros((1, 4)), len(p.pressure_node))
        return self._stiffness(self._blocks(uu)), diagonal

    def _blocks(self, uu: Real) -> Real:
        slot, count = self.pattern.uu.slot, len(self.pattern.uu.column)
        data = np.empty((count, 3, 3))
        for i in range(3):
            for j in range(3):
                data[:, i, j] = _gathered(slot, uu[..., i, j], count)
        return data


def _gathered(numbers: NDArray[np.int64] | NDArray[np.int32], values: Real, count: int) -> Real:
    """(count,) sum of the values at each number, in the order of the elements."""
    return np.bincount(numbers.ravel(), values.ravel(), minlength=count).astype(np.float64, copy=False)


def _moduli_of(at: Points) -> Real:
    """(3, 3, 3, 3, elements, points) kPa: change of the Piola stress with each entry of Fe."""
    answered, unit = tuple(answers(at.elastic, at.constants)), np.zeros((3, 3, *at.weight.shape))
    found = np.empty((3, 3, 3, 3, *at.weight.shape))
    for k in range(3):
        for l in range(3):
            unit[k, l] = 1.0
            found[:, :, k, l] = piola_change(at.elastic, at.pressure, answered, unit)
            unit[k, l] = 0.0
    return found


def _contracted(at: Points, change: Real) -> Real:
    """(elements, 10, 10, 3, 3) stiffness of some elements."""
    half = np.einsum("ijkleq,eqbl->eqjbik", change, at.gradient)
    weighted = at.gradient * at.weight[..., None, None]
    return np.asarray(np.einsum("eqaj,eqjbik->eabik", weighted, half))


@dataclass(frozen=True, eq=False)
class QuadraticEquilibrium(Equilibrium):
    """``Equilibrium`` of quadratic displacements; what it says of an element is the mean over it.

    middles   (edges, 3) mm, displacement of the middles of the edges, numbered as by ``elements.edges_of``
    """

    middles: Real


@dataclass
class QuadraticBody(Body):
    """``Body`` of quadratic displacements: its points are those of the mesh and then the middles of the edges."""

    corners: int = 0

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
    ) -> QuadraticBody:
        """The supported body of a mesh. The middle of an outer edge is held where both its ends are.

        Raises ConfigurationRejected when it could move as a whole or has too many elements.
        """
        assembly = QuadraticAssembly.of(mesh, materials, stiffening=stiffening)
        p, (ends, _) = assembly.pattern, edges_of(mesh.tetrahedra)
        points = np.concatenate([mesh.points, mesh.points[ends].mean(axis=1)])
        supports, spring, free = Supports.of(springs), np.zeros(len(points)), np.ones_like(points)
        for stiffness, faces in supports.sprung(mesh):
            spring += stiffness * middle_areas(mesh, faces)
        for faces in supports.held(mesh):
            free[faces] = 0.0
            free[len(mesh.points) + _edges_around(faces, ends)] = 0.0
        if held is not None:
            free[: len(mesh.points)] -= held
            free[len(mesh.points) :] -= held[ends].all(axis=1) & _is_outer(mesh.tetrahedra, ends)[:, None]
        size = p.volumes ** (2.0 / 3.0)
        refuse_rigid_motion(points, spring[:, None] + (1.0 - free) * assembly.constants.shear.mean() * size.mean())
        return cls(
            assembly,
            points,
            spring,
            np.zeros_like(points),
            free,
            largest_around(p.nodes, assembly.constants.shear * size, p.node_count),
            largest_around(p.pressures, p.volumes, len(p.pressure_node)),
            corners=len(mesh.points),
        )

    def jacobian(self, state: Real, growth: Real) -> Real:
        """(elements, points) elastic volume ratio Je."""
        assert isinstance(self.assembly, QuadraticAssembly)
        found = [at.elastic.jacobian for at in self.assembly.points(*self.parts(state), growth)]
        return np.concatenate(found)

    def squeezed(self, state: Real, growth: Real) -> NDArray[np.bool_]:
        """(elements,) True where the elastic volume is below its least at a point."""
        return np.asarray(~(self.jacobian(state, growth) > LEAST_ELASTIC_JACOBIAN).all(axis=1))

    def equilibrium(
        self, state: Real, stretch: Real, growth: Real, increments: tuple[Increment, ...]
    ) -> QuadraticEquilibrium:
        """What the state says about every element."""
        assert isinstance(self.assembly, QuadraticAssembly)
        displacement, pressure = self.parts(state)
        stress, elastic, stored, jacobian = (np.empty((len(stretch), *shape)) for shape in ((3, 3), (3, 3), (), ()))
        for at in self.assembly.points(displacement, pressure, growth):
            stress[at.elements] = np.einsum("ijeq,q->eij", cauchy(at.elastic, at.pressure, at.constants), WEIGHTS)
            elastic[at.elements] = np.einsum("ijeq,q->eij", at.elastic.fe, WEIGHTS)
            jacobian[at.elements] = np.einsum("eq,q->e", at.elastic.jacobian, WEIGHTS)
            stored[at.elements] = (energy(at.elastic, at.pressure, at.constants) * at.weight).sum(axis=1)
        return QuadraticEquilibrium(
            displacement[: self.corners].copy(),
            pressure.copy(),
            stretch,
            relaxed_volume(growth),
            jacobian,
            elastic,
            stress,
            -(self.spring[:, None] * displacement)[: self.corners],
            float(stored.sum()),
            0.5 * dot(self.spring, np.einsum("ai,ai->a", displacement, displacement)),
            increments,
            self.norm(self.residual(state, growth)),
            displacement[self.corners :].copy(),
        )


def grow_quadratic(
    mesh: TumourMesh,
    stretch: Real,
    materials: Mapping[str, Material],
    *,
    springs: Springs | Supports,
    held: NDArray[np.bool_] | None = None,
    max_log_increment: float = 0.025,
    tolerance: float = 1e-8,
    progress: Progress | None = None,
    stiffening: Real | None = None,
) -> QuadraticEquilibrium:
    """The equilibrium of a grown mesh, as ``growth.grow`` but always from the reference.

    The law has no memory, so a start from an earlier equilibrium would save time only. Springs act at the middles of
    the surface's edges, a third of each face's area on each: exact for what is quadratic on a face.

    Raises ConfigurationRejected for more than MOST_ELEMENTS elements, and as ``growth.grow``.
    """
    stretch = checked_growth(stretch)
    body = QuadraticBody.of(mesh, materials, springs, held, stiffening=stiffening)
    found = balanced(body, body.at_rest(), np.ones(len(stretch)), stretch, None, max_log_increment, tolerance, progress)
    assert isinstance(found, QuadraticEquilibrium)
    return found


def _keys(pairs: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """A number for each pair of nodes, whatever its order."""
    return np.asarray(pairs.min(axis=-1) * np.int64(count) + pairs.max(axis=-1))


def _edges_around(faces: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.int64]:
    """Numbers of the edges of these faces."""
    count = int(ends.max()) + 1
    return np.flatnonzero(np.isin(_keys(ends, count), _keys(faces[:, [[0, 1], [1, 2], [2, 0]]], count)))


def _is_outer(tetrahedra: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(edges,) True for edges of the mesh's outer surface."""
    found = np.zeros(len(ends), dtype=bool)
    found[_edges_around(outer_faces(tetrahedra), ends)] = True
    return found


def middle_areas(mesh: TumourMesh, faces: NDArray[np.int64]) -> Real:
    """(nodes and edges,) mm²: a third of each face on the middle of each of its edges, as ``elements.nodal_areas``."""
    ends, count = edges_of(mesh.tetrahedra)[0], len(mesh.points)
    a, b, c = np.moveaxis(mesh.points[faces], 1, 0)
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2.0
    number = np.searchsorted(_keys(ends, count), _keys(faces[:, [[0, 1], [1, 2], [2, 0]]], count))
    return _gathered(count + number, np.repeat(area / 3.0, 3), count + len(ends))
