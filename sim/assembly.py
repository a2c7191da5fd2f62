"""Residual and tangent of a mesh: the element of ``tetrahedron`` summed over it, the pressure split where regions meet.

A pressure node is a pair (mesh node, region): growth makes the pressure jump where regions meet, and one continuous
pressure there costs a tenth of the displacement (project specification, tissue §3.3).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from ..meshing.mesh import TumourMesh
from .elements import Graph, checked_volumes, corner_sums, corners_of, gradients, graph
from .laws import NEO_HOOKEAN, Constants
from .solvers import SaddleMatrix
from .stretches import relaxed_volume
from .tetrahedron import (
    answer_otherwise,
    gather_constraint,
    gather_forces,
    gather_pressure_mass,
    gather_soft_stiffness,
    gather_stiffness,
    gather_volumes,
    visit_elements,
    visit_relaxed,
)
from .tissue import Material, constants_of

Real = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Pattern:
    """All that a mesh fixes once: geometry, numbering, and where each entry of the tangent goes.

    gradients, volumes   (elements, 4, 3) 1/mm; (elements,) mm³
    nodes, pressures     (elements, 4) node numbers and pressure-node numbers
    pressure_node        (pressure nodes,) the mesh node of each pressure node
    node_corners, pressure_corners   pointer and element corners around each node
    uu, pu, pp           patterns of the three blocks (pu: pressure rows, node columns)
    """

    gradients: Real
    volumes: Real
    nodes: NDArray[np.int64]
    pressures: NDArray[np.int64]
    pressure_node: NDArray[np.int64]
    node_corners: tuple[NDArray[np.int32], NDArray[np.int32]]
    pressure_corners: tuple[NDArray[np.int32], NDArray[np.int32]]
    uu: Graph
    pu: Graph
    pp: Graph
    node_count: int


@lru_cache(maxsize=2)
def pattern_of(mesh: TumourMesh, split: bool = True) -> Pattern:
    """The pattern of a mesh, remembered for the two meshes used last.

    split   False merges the pressures of regions that meet: wrong, kept to show that the tests see it
    Raises SolverFault naming the elements without positive volume.
    """
    volumes = checked_volumes(mesh)
    nodes, count = mesh.tetrahedra, len(mesh.points)
    region = np.unique(mesh.region, return_inverse=True)[1] if split else np.zeros(len(nodes), dtype=np.int64)
    places, pressures = np.unique(nodes + count * region[:, None], return_inverse=True)
    pressures = pressures.reshape(nodes.shape)
    return Pattern(
        gradients(mesh.points, nodes),
        volumes,
        nodes,
        pressures,
        places % count,
        corners_of(nodes, count),
        corners_of(pressures, len(places)),
        graph(nodes, nodes, (count, count)),
        graph(pressures, nodes, (len(places), count)),
        graph(pressures, pressures, (len(places), len(places))),
        count,
    )


@dataclass(frozen=True, eq=False)
class Assembly:
    """Residual and tangent of the tissue laws on one mesh with one set of materials."""

    pattern: Pattern
    constants: Constants

    @classmethod
    def of(
        cls,
        mesh: TumourMesh,
        materials: Mapping[str, Material],
        *,
        split: bool = True,
        stiffening: Real | None = None,
    ) -> Assembly:
        """Of a mesh whose regions all have a material; ``stiffening`` as in ``constants_of``."""
        return cls(pattern_of(mesh, split), constants_of(mesh, materials, stiffening))

    def deformation(self, displacement: Real) -> Real:
        """(elements, 3, 3) F = I + sum u_a G_a."""
        grad = np.einsum("eai,eaj->eij", displacement[self.pattern.nodes], self.pattern.gradients)
        return np.asarray(np.eye(3) + grad)

    def mean_pressure(self, pressure: Real) -> Real:
        """(elements,) mean of the four pressures of an element, kPa."""
        return np.asarray(pressure[self.pattern.pressures].mean(axis=1))

    def swelling(self, pore: Real, growth: Real) -> Real:
        """(pressure nodes,) mm³ that fluid in the pores (nodes,) kPa gives beyond the total stress: pore/K."""
        p, corners = self.pattern, pore[self.pattern.nodes]
        share = p.volumes * relaxed_volume(growth) / (20.0 * self.constants.bulk)
        given = share[:, None] * (corners + corners.sum(axis=1, keepdims=True))
        return corner_sums(p.pressures, given, len(p.pressure_node))

    def residual(self, displacement: Real, pressure: Real, growth: Real) -> tuple[Real, Real]:
        """(nodes, 3) mN (kPa mm²) unbalanced forces and (pressure nodes,) mm³ unbalanced volumes.

        growth   (elements,) stretches g or (elements, 3, 3) tensors Fg', here and below
        """
        _, h, w, law = self._elements(displacement, pressure, growth)
        p, c = self.pattern, self.constants
        forces, volumes = np.zeros((p.node_count, 3)), np.zeros(len(p.pressure_node))
        gather_forces(*p.node_corners, h, w, law, forces)
        gather_volumes(*p.pressure_corners, p.pressures, pressure, law, c.shear, c.bulk, volumes)
        return forces, volumes

    def tangent(self, displacement: Real, pressure: Real, growth: Real) -> SaddleMatrix:
        """Derivative of the residual: symmetric blocks [uu, pu^T; pu, pp]."""
        gradients, h, w, law = self._elements(displacement, pressure, growth)
        p, c = self.pattern, self.constants
        uu, pu, pp = np.zeros((len(p.uu.column), 3, 3)), np.zeros((len(p.pu.column), 1, 3)), np.zeros(len(p.pp.column))
        gather_stiffness(*p.node_corners, p.uu.slot, gradients, h, w, law, uu)
        gather_constraint(*p.pressure_corners, p.pu.slot, p.pp.slot, h, law, c.shear, c.bulk, pu, pp)
        compressibility = sparse.csr_matrix((pp, p.pp.column, p.pp.pointer), shape=2 * (len(p.pressure_node),))
        return SaddleMatrix(self._stiffness(uu), self._coupling(pu), compressibility)

    def soft_tangent(self, displacement: Real, pressure: Real, growth: Real) -> tuple[sparse.bsr_matrix, Real]:
        """What the preconditioner rests on: linear elasticity 2 mu e:e on the deformed mesh, and the pressure mass.

        returns the stiffness and the diagonal (pressure nodes,) of M_p/(2 mu) - K_pp
        """
        _, h, _, law = self._elements(displacement, pressure, growth)
        p, c = self.pattern, self.constants
        uu, diagonal = np.zeros((len(p.uu.column), 3, 3)), np.zeros(len(p.pressure_node))
        gather_soft_stiffness(*p.node_corners, p.uu.slot, h, law, uu)
        gather_pressure_mass(*p.pressure_corners, law, c.shear, c.bulk, diagonal)
        return self._stiffness(uu), diagonal

    def _elements(self, displacement: Real, pressure: Real, growth: Real) -> tuple[Real, Real, Real, Real]:
        """Gradients on the mesh that ``law`` counts its volume on, h, w and law."""
        p, c, count = self.pattern, self.constants, len(self.pattern.nodes)
        h, w, law = np.empty((count, 4, 3)), np.empty((count, 4, 3)), np.empty((count, 8))
        mesh = (p.nodes, p.pressures, p.gradients, p.volumes)
        if growth.ndim == 1:
            relaxed = p.gradients
            visit_elements(*mesh, displacement, pressure, growth, c.shear, h, w, law)
        else:
            relaxed = np.empty((count, 4, 3))
            visit_relaxed(*mesh, displacement, pressure, growth, c.shear, relaxed, h, w, law)
        other = np.flatnonzero(c.law != NEO_HOOKEAN)
        if other.size:
            answer_otherwise(other, c.law, c.shear, c.hardening, law)
        return relaxed, h, w, law

    def _stiffness(self, uu: Real) -> sparse.bsr_matrix:
        p = self.pattern
        return sparse.bsr_matrix((uu, p.uu.column, p.uu.pointer), shape=(3 * p.node_count, 3 * p.node_count))

    def _coupling(self, pu: Real) -> sparse.bsr_matrix:
        p = self.pattern
        return sparse.bsr_matrix((pu, p.pu.column, p.pu.pointer), shape=(len(p.pressure_node), 3 * p.node_count))
