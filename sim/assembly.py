"""The default element, spelt out: linear displacement, linear stabilised pressure, split where regions meet.

On one tetrahedron of reference volume V with gradients G_a, F is constant. With Fe = F/g, H = Fe^-T, h_a = H G_a,
w_a = Fe G_a, pbar the mean of its four pressures, and with m, q, i, s, t of its law (``laws``), a = m Je^q:

    R_u[a]    = V g^2 [a (w_a - i/3 h_a) + pbar Je h_a]
    R_p[b]    = V g^3 [(Je - 1)/4 - sum_c p_c ((1 + d_bc)/(20 K) + (4 d_bc - 1)/(80 mu))]
    K_uu[a,b] = V g {a [(G_a.G_b) I - 2/3 s (h_a w_b + w_a h_b) + 2/9 s i h_a h_b + i/3 h_b h_a] + t w_a w_b
                     + pbar Je (h_a h_b - h_b h_a)}                         (h_a h_b: outer product)
    K_pu[b,a] = V g^2 Je/4 h_a,    K_pp[b,c] = -V g^3 [(1 + d_bc)/(20 K) + (4 d_bc - 1)/(80 mu)]

(project specification, tissue §3.2; stabilisation of Bochev, Dohrmann, Gunzburger 2006, doi 10.1137/S0036142905444482).
Growth Fg' that is a tensor (``stretches``) turns the mesh into another one, relaxed, with gradients Fg'^-T G_a and
volume det(Fg') V, on which the same sums hold with g = 1 and Fe = Fg'^-1 + sum u_a (Fg'^-T G_a).

A pressure node is a pair (mesh node, region): growth makes the pressure jump where regions meet, and one continuous
pressure there costs a tenth of the displacement.

Two passes: each element writes what it knows, then each row of the matrix gathers from its elements in ascending
order. A row belongs to one thread, so the bits do not depend on how many threads there are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar, cast

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray
from scipy import sparse

from ..meshing.mesh import TumourMesh
from .elements import Graph, checked_volumes, corner_sums, corners_of, gradients, graph
from .laws import NEO_HOOKEAN, Constants, answer, inlined
from .solvers import SaddleMatrix
from .stretches import relaxed_volume
from .tissue import Material, constants_of

Real = NDArray[np.float64]
Whole = NDArray[np.int32] | NDArray[np.int64]
Kernel = TypeVar("Kernel", bound=Callable[..., None])


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
    def of(cls, mesh: TumourMesh, materials: Mapping[str, Material], *, split: bool = True) -> Assembly:
        """Of a mesh whose regions all have a material."""
        return cls(pattern_of(mesh, split), constants_of(mesh, materials))

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
        _gather_forces(*p.node_corners, h, w, law, forces)
        _gather_volumes(*p.pressure_corners, p.pressures, pressure, law, c.shear, c.bulk, volumes)
        return forces, volumes

    def tangent(self, displacement: Real, pressure: Real, growth: Real) -> SaddleMatrix:
        """Derivative of the residual: symmetric blocks [uu, pu^T; pu, pp]."""
        gradients, h, w, law = self._elements(displacement, pressure, growth)
        p, c = self.pattern, self.constants
        uu, pu, pp = np.zeros((len(p.uu.column), 3, 3)), np.zeros((len(p.pu.column), 1, 3)), np.zeros(len(p.pp.column))
        _gather_stiffness(*p.node_corners, p.uu.slot, gradients, h, w, law, uu)
        _gather_constraint(*p.pressure_corners, p.pu.slot, p.pp.slot, h, law, c.shear, c.bulk, pu, pp)
        compressibility = sparse.csr_matrix((pp, p.pp.column, p.pp.pointer), shape=2 * (len(p.pressure_node),))
        return SaddleMatrix(self._stiffness(uu), self._coupling(pu), compressibility)

    def soft_tangent(self, displacement: Real, pressure: Real, growth: Real) -> tuple[sparse.bsr_matrix, Real]:
        """What the preconditioner rests on: linear elasticity 2 mu e:e on the deformed mesh, and the pressure mass.

        returns the stiffness and the diagonal (pressure nodes,) of M_p/(2 mu) - K_pp
        """
        _, h, _, law = self._elements(displacement, pressure, growth)
        p, c = self.pattern, self.constants
        uu, diagonal = np.zeros((len(p.uu.column), 3, 3)), np.zeros(len(p.pressure_node))
        _gather_soft_stiffness(*p.node_corners, p.uu.slot, h, law, uu)
        _gather_pressure_mass(*p.pressure_corners, law, c.shear, c.bulk, diagonal)
        return self._stiffness(uu), diagonal

    def _elements(self, displacement: Real, pressure: Real, growth: Real) -> tuple[Real, Real, Real, Real]:
        """Gradients on the mesh that ``law`` counts its volume on, h, w and law."""
        p, c, count = self.pattern, self.constants, len(self.pattern.nodes)
        h, w, law = np.empty((count, 4, 3)), np.empty((count, 4, 3)), np.empty((count, 8))
        mesh = (p.nodes, p.pressures, p.gradients, p.volumes)
        if growth.ndim == 1:
            relaxed = p.gradients
            _visit_elements(*mesh, displacement, pressure, growth, c.shear, h, w, law)
        else:
            relaxed = np.empty((count, 4, 3))
            _visit_relaxed(*mesh, displacement, pressure, growth, c.shear, relaxed, h, w, law)
        other = np.flatnonzero(c.law != NEO_HOOKEAN)
        if other.size:
            _answer_otherwise(other, c.law, c.shear, c.hardening, law)
        return relaxed, h, w, law

    def _stiffness(self, uu: Real) -> sparse.bsr_matrix:
        p = self.pattern
        return sparse.bsr_matrix((uu, p.uu.column, p.uu.pointer), shape=(3 * p.node_count, 3 * p.node_count))

    def _coupling(self, pu: Real) -> sparse.bsr_matrix:
        p = self.pattern
        return sparse.bsr_matrix((pu, p.pu.column, p.pu.pointer), shape=(len(p.pressure_node), 3 * p.node_count))


# What an element knows, in the columns of ``law``.
_SHAPE, _VOLUMETRIC, _INVARIANT, _COUPLING, _STIFFENING, _JACOBIAN, _VOLUME, _STRETCH = range(8)


def _compiled(kernel: Kernel) -> Kernel:
    """Compiled, with its outermost loop over threads."""
    return cast(Kernel, njit(parallel=True, cache=True)(kernel))


@inlined
def _invert(f: Real, cofactor: Real) -> float:
    """det(f); f^-T times it is written to ``cofactor``."""
    for i in range(3):
        i1, i2 = (i + 1) % 3, (i + 2) % 3
        for j in range(3):
            j1, j2 = (j + 1) % 3, (j + 2) % 3
            cofactor[i, j] = f[i1, j1] * f[i2, j2] - f[i1, j2] * f[i2, j1]
    return float(f[0, 0] * cofactor[0, 0] + f[0, 1] * cofactor[0, 1] + f[0, 2] * cofactor[0, 2])


@inlined
def _describe(
    e: int,
    f: Real,
    cofactor: Real,
    mean: float,
    shear: float,
    gradients: Real,
    h: Real,
    w: Real,
    law: Real,
) -> None:
    """h_a = Fe^-T G_a, w_a = Fe G_a and a, pbar Je, i, s, t, Je of a neo-Hookean element whose Fe is ``f``."""
    invariant = 0.0
    for i in range(3):
        for j in range(3):
            invariant += f[i, j] * f[i, j]
    jacobian = _invert(f, cofactor)
    for a in range(4):
        for i in range(3):
            back = 0.0
            forth = 0.0
            for j in range(3):
                back += cofactor[i, j] * gradients[e, a, j]
                forth += f[i, j] * gradients[e, a, j]
            h[e, a, i] = back / jacobian
            w[e, a, i] = forth
    law[e, _SHAPE] = shear * abs(jacobian) ** (-2.0 / 3.0)
    law[e, _VOLUMETRIC] = mean * jacobian
    law[e, _INVARIANT] = invariant
    law[e, _COUPLING] = 1.0
    law[e, _STIFFENING] = 0.0
    law[e, _JACOBIAN] = jacobian


@_compiled
def _visit_elements(
    nodes: Whole,
    pressures: Whole,
    gradients: Real,
    volumes: Real,
    displacement: Real,
    pressure: Real,
    stretch: Real,
    shear: Real,
    h: Real,
    w: Real,
    law: Real,
) -> None:
    """What elements know that have grown alike in all directions: V and g beside ``_describe``."""
    for e in prange(nodes.shape[0]):
        g = stretch[e]
        f, cofactor = np.zeros((3, 3)), np.empty((3, 3))
        for i in range(3):
            f[i, i] = 1.0
        mean = 0.0
        for a in range(4):
            mean += 0.25 * pressure[pressures[e, a]]
            for i in range(3):
                for j in range(3):
                    f[i, j] += displacement[nodes[e, a], i] * gradients[e, a, j]
        for i in range(3):
            for j in range(3):
                f[i, j] /= g
        _describe(e, f, cofactor, mean, shear[e], gradients, h, w, law)
        law[e, _VOLUME] = volumes[e]
        law[e, _STRETCH] = g


@_compiled
def _visit_relaxed(
    nodes: Whole,
    pressures: Whole,
    gradients: Real,
    volumes: Real,
    displacement: Real,
    pressure: Real,
    growth: Real,
    shear: Real,
    relaxed: Real,
    h: Real,
    w: Real,
    law: Real,
) -> None:
    """What elements know whose growth is a tensor Fg': that of an element without growth, on the relaxed mesh."""
    for e in prange(nodes.shape[0]):
        f, cofactor = np.empty((3, 3)), np.empty((3, 3))
        grown = _invert(growth[e], cofactor)
        for i in range(3):
            for j in range(3):
                f[i, j] = cofactor[j, i] / grown
        mean = 0.0
        for a in range(4):
            mean += 0.25 * pressure[pressures[e, a]]
            for j in range(3):
                along = 0.0
                for i in range(3):
                    along += cofactor[j, i] / grown * gradients[e, a, i]
                relaxed[e, a, j] = along
            for i in range(3):
                for j in range(3):
                    f[i, j] += displacement[nodes[e, a], i] * relaxed[e, a, j]
        _describe(e, f, cofactor, mean, shear[e], relaxed, h, w, law)
        law[e, _VOLUME] = volumes[e] * grown
        law[e, _STRETCH] = 1.0


@_compiled
def _answer_otherwise(elements: Whole, kinds: Whole, shear: Real, hardening: Real, law: Real) -> None:
    """Put right what ``_describe`` says of elements that are not neo-Hookean (which it is faster to take them for)."""
    for k in prange(elements.shape[0]):
        e = elements[k]
        jacobian = law[e, _JACOBIAN]
        m, q, i, s, t = answer(kinds[e], shear[e], hardening[e], law[e, _INVARIANT], jacobian)
        law[e, _SHAPE] = m * abs(jacobian) ** q
        law[e, _INVARIANT] = i
        law[e, _COUPLING] = s
        law[e, _STIFFENING] = t


@_compiled
def _gather_forces(pointer: Whole, corners: Whole, h: Real, w: Real, law: Real, forces: Real) -> None:
    for node in prange(pointer.shape[0] - 1):
        for k in range(pointer[node], pointer[node + 1]):
            e, a = corners[k] // 4, corners[k] % 4
            weight = law[e, _VOLUME] * law[e, _STRETCH] ** 2
            along_w = law[e, _SHAPE]
            along_h = law[e, _VOLUMETRIC] - along_w * law[e, _INVARIANT] / 3.0
            for i in range(3):
                forces[node, i] += weight * (along_w * w[e, a, i] + along_h * h[e, a, i])


@inlined
def _compliance(diagonal: bool, shear: float, bulk: float) -> float:
    """(1 + d)/(20 K) + (4 d - 1)/(80 mu): consistent mass over K, plus the stabilisation."""
    if diagonal:
        return 2.0 / (20.0 * bulk) + 3.0 / (80.0 * shear)
    return 1.0 / (20.0 * bulk) - 1.0 / (80.0 * shear)


@_compiled
def _gather_volumes(
    pointer: Whole, corners: Whole, pressures: Whole, pressure: Real, law: Real, shear: Real, bulk: Real, volumes: Real
) -> None:
    for node in prange(pointer.shape[0] - 1):
        for k in range(pointer[node], pointer[node + 1]):
            e, b = corners[k] // 4, corners[k] % 4
            value = (law[e, _JACOBIAN] - 1.0) / 4.0
            for c in range(4):
                value -= _compliance(b == c, shear[e], bulk[e]) * pressure[pressures[e, c]]
            volumes[node] += law[e, _VOLUME] * law[e, _STRETCH] ** 3 * value


@_compiled
def _gather_stiffness(
    pointer: Whole, corners: Whole, slot: Whole, gradients: Real, h: Real, w: Real, law: Real, data: Real
) -> None:
    for node in prange(pointer.shape[0] - 1):
        for k in range(pointer[node], pointer[node + 1]):
            e, a = corners[k] // 4, corners[k] % 4
            weight = law[e, _VOLUME] * law[e, _STRETCH]
            shape = weight * law[e, _SHAPE]
            third = shape * law[e, _INVARIANT] / 3.0
            volumetric = weight * law[e, _VOLUMETRIC]
            ahead = volumetric + 2.0 / 3.0 * third * law[e, _COUPLING]
            behind = third - volumetric
            across = 2.0 / 3.0 * shape * law[e, _COUPLING]
            stiffening = weight * law[e, _STIFFENING]
            for b in range(4):
                block = data[slot[e, a, b]]
                dot = 0.0
                for i in range(3):
                    dot += gradients[e, a, i] * gradients[e, b, i]
                for i in range(3):
                    block[i, i] += shape * dot
                    for j in range(3):
                        block[i, j] += (
                            ahead * h[e, a, i] * h[e, b, j]
                            + behind * h[e, b, i] * h[e, a, j]
                            - across * (h[e, a, i] * w[e, b, j] + w[e, a, i] * h[e, b, j])
                        )
                if stiffening != 0.0:
                    for i in range(3):
                        for j in range(3):
                            block[i, j] += stiffening * w[e, a, i] * w[e, b, j]


@_compiled
def _gather_constraint(
    pointer: Whole,
    corners: Whole,
    slot_pu: Whole,
    slot_pp: Whole,
    h: Real,
    law: Real,
    shear: Real,
    bulk: Real,
    pu: Real,
    pp: Real,
) -> None:
    for node in prange(pointer.shape[0] - 1):
        for k in range(pointer[node], pointer[node + 1]):
            e, b = corners[k] // 4, corners[k] % 4
            grown = law[e, _VOLUME] * law[e, _STRETCH] ** 3
            squeeze = grown / law[e, _STRETCH] * law[e, _JACOBIAN] / 4.0
            for a in range(4):
                for i in range(3):
                    pu[slot_pu[e, b, a], 0, i] += squeeze * h[e, a, i]
                pp[slot_pp[e, b, a]] -= grown * _compliance(a == b, shear[e], bulk[e])


@_compiled
def _gather_soft_stiffness(pointer: Whole, corners: Whole, slot: Whole, h: Real, law: Real, data: Real) -> None:
    for node in prange(pointer.shape[0] - 1):
        for k in range(pointer[node], pointer[node + 1]):
            e, a = corners[k] // 4, corners[k] % 4
            weight = law[e, _VOLUME] * law[e, _STRETCH] * law[e, _SHAPE]
            for b in range(4):
                block = data[slot[e, a, b]]
                dot = 0.0
                for i in range(3):
                    dot += h[e, a, i] * h[e, b, i]
                for i in range(3):
                    block[i, i] += weight * dot
                    for j in range(3):
                        block[i, j] += weight * h[e, b, i] * h[e, a, j]


@_compiled
def _gather_pressure_mass(pointer: Whole, corners: Whole, law: Real, shear: Real, bulk: Real, diagonal: Real) -> None:
    for node in prange(pointer.shape[0] - 1):
        for k in range(pointer[node], pointer[node + 1]):
            e = corners[k] // 4
            grown = law[e, _VOLUME] * law[e, _STRETCH] ** 3
            diagonal[node] += grown * (1.0 / (20.0 * shear[e]) + _compliance(True, shear[e], bulk[e]))
