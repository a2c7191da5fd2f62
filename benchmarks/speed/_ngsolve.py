"""The growth problem of ``tissue_peers`` as NGSolve assembles and solves it.

Residual and tangent of the default element (``sim/tetrahedron``), written out by hand, which NGSolve assembles faster
than what it differentiates itself. Everything is constant in an element but the pressure p, and the mean of
(p - mean p) (q - mean q) is grad p . C grad q with C = J D J^T, D_ij = (4 d_ij - 1)/80, J the element's Jacobian
matrix: so one point an element is exact, the least work that this element can be given.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import netgen.meshing as netgen
import ngsolve
import numpy as np
from ngsolve import Det, Grad, Id, InnerProduct, Inv, Trace, grad
from scipy import sparse

from oncoscale.meshing.mesh import TumourMesh
from oncoscale.sim.body import Body

DEVIATION = ngsolve.CF(tuple((4.0 * (i == j) - 1.0) / 80.0 for i in range(3) for j in range(3)), dims=(3, 3))


class Peer:
    """Residual, tangent and Newton's method of the same problem.

    unknown   (unknowns,) for each of ours, displacements node by node and then pressures, its number in NGSolve
    """

    def __init__(self, body: Body, mesh: TumourMesh, stretch: Any, *, to_machine_code: bool = False) -> None:
        regions = np.unique(mesh.region)
        place = ngsolve.Mesh(_meshed(mesh, regions))
        spaces = [ngsolve.VectorH1(place, order=1)]
        spaces += [ngsolve.Compress(ngsolve.H1(place, order=1, definedon=_named(region))) for region in regions]
        self.space = ngsolve.FESpace(spaces)
        self.state = ngsolve.GridFunction(self.space)
        (u, *ps), (v, *qs) = self.space.TnT()
        self.balance, self.stiffness = (ngsolve.BilinearForm(self.space) for _ in range(2))
        point = {ngsolve.TET: ngsolve.IntegrationRule(ngsolve.TET, 1)}
        for k, region in enumerate(regions):
            first = np.flatnonzero(mesh.region == region)[0]
            constants = body.assembly.constants
            numbers = [float(values[first]) for values in (stretch, constants.shear, constants.bulk)]
            here = ngsolve.dx(definedon=place.Materials(_named(region)), intrules=point)
            displaced, pressure = self.state.components[0], self.state.components[k + 1]
            residual = _residual(u, ps[k], v, qs[k], *numbers)
            tangent = _tangent(u, ps[k], v, qs[k], displaced, pressure, *numbers)
            self.balance += residual.Compile(to_machine_code, wait=True) * here
            self.stiffness += tangent.Compile(to_machine_code, wait=True) * here
        nodes = len(mesh.points)
        displacements = (np.arange(nodes)[:, None] + nodes * np.arange(3)).ravel()
        self.unknown = np.concatenate([displacements, np.arange(3 * nodes, self.space.ndof)])
        self.body = body
        self.free = ngsolve.BitArray(self.space.FreeDofs())
        for number in displacements[body.free.ravel() == 0.0]:
            self.free[int(number)] = False

    def set(self, state: Any) -> None:
        """Go to one of our states."""
        self.state.vec.FV().NumPy()[self.unknown] = state

    def found(self) -> Any:
        """The state, in our order."""
        return self.state.vec.FV().NumPy()[self.unknown]

    def residual(self) -> Any:
        """NGSolve's vector, of held displacements too."""
        residual = self.state.vec.CreateVector()
        self.balance.Apply(self.state.vec, residual)
        return residual

    def tangent(self) -> Any:
        """NGSolve's matrix."""
        self.stiffness.Assemble()
        return self.stiffness.mat

    def matrix(self) -> Any:
        """The tangent, in our order."""
        rows, columns, values = self.tangent().COO()
        whole = sparse.csr_matrix((values, (rows, columns)), shape=2 * (self.space.ndof,))
        return whole[self.unknown][:, self.unknown]

    def newton(self, direct: str) -> Iterator[float]:
        """From rest, in full steps, each with a factorisation of its own; before each the scaled residual as ours."""
        self.state.vec[:] = 0.0
        while True:
            residual = self.residual()
            ours = residual.FV().NumPy()[self.unknown]
            ours[: self.body.free.size] *= self.body.free.ravel()
            yield self.body.norm(ours)
            self.state.vec.data -= self.tangent().Inverse(self.free, inverse=direct) * residual


def _residual(u: Any, p: Any, v: Any, q: Any, stretch: float, shear: float, bulk: float) -> Any:
    """Per volume of the mesh, with its test functions v and q."""
    elastic = (Id(3) + Grad(u)) / stretch
    jacobian, back = Det(elastic), Inv(elastic).trans
    stress = shear * jacobian ** (-2 / 3) * (elastic - Trace(elastic.trans * elastic) / 3 * back) + p * jacobian * back
    return stretch**2 * InnerProduct(stress, Grad(v)) + stretch**3 * ((jacobian - 1) * q - _soft(p, q, shear, bulk))


def _tangent(
    u: Any, p: Any, v: Any, q: Any, displaced: Any, pressure: Any, stretch: float, shear: float, bulk: float
) -> Any:
    """Its derivative along u and p where the displacement is ``displaced``, the pressure ``pressure``."""
    elastic = (Id(3) + Grad(displaced)) / stretch
    jacobian, back = Det(elastic), Inv(elastic).trans
    change = Grad(u) / stretch
    swelling, stretching, turned = InnerProduct(back, change), InnerProduct(elastic, change), back * change.trans * back
    third = Trace(elastic.trans * elastic) / 3
    stress = shear * jacobian ** (-2 / 3) * (
        change - 2 / 3 * (swelling * elastic + stretching * back) + 2 / 3 * third * swelling * back + third * turned
    ) + pressure * jacobian * (swelling * back - turned)  # fmt: skip
    return stretch**2 * InnerProduct(stress + p * jacobian * back, Grad(v)) + stretch**3 * (
        jacobian * swelling * q - _soft(p, q, shear, bulk)
    )


def _soft(p: Any, q: Any, shear: float, bulk: float) -> Any:
    """Compressibility and stabilisation."""
    matrix = ngsolve.specialcf.JacobianMatrix(3)
    spread = InnerProduct(matrix * DEVIATION * matrix.trans * grad(p), grad(q))
    return p * q / bulk + (1 / bulk + 1 / shear) * spread


def _meshed(mesh: TumourMesh, regions: Any) -> Any:
    """The same points and tetrahedra; no faces, as nothing acts on them."""
    made = netgen.Mesh()
    made.dim = 3
    made.AddPoints(np.ascontiguousarray(mesh.points))
    for number, region in enumerate(regions, start=1):
        tetrahedra = mesh.tetrahedra[mesh.region == region].astype(np.int32)
        made.AddElements(3, number, tetrahedra, base=0)
        made.SetMaterial(number, _named(region))
    return made


def _named(region: Any) -> str:
    return f"region{int(region)}"
