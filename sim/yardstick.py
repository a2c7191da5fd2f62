"""The default element as scikit-fem assembles it: slow, general, and the yardstick of ``assembly``.

The laws of ``laws`` as weak forms. ``w`` carries the fields of ``Elastic``, the pressure p, shear and bulk, the numbers
m, q, i, s, t of the law, the weights dx, and of growth (``stretches``) its volume ``grown`` = Jg' with either the
``share`` = 1/g of growth alike in all directions or the map ``relaxing`` = Fg'^-1 (then the share is 1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skfem import Basis, BilinearForm, ElementTetP1, ElementVector, LinearForm, MeshTet
from skfem.helpers import ddot, grad, identity, mul

from ..meshing.mesh import TumourMesh
from .assembly import Assembly
from .laws import Deformation, answers, piola, piola_change
from .solvers import SaddleMatrix
from .stretches import relaxed_volume, tensors_of

Real = NDArray[np.float64]


def _answered(w: Any) -> tuple[Any, ...]:
    return w.m, w.q, w.i, w.s, w.t


def _relaxed(gradient: Any, w: Any) -> Any:
    """The gradient on the relaxed mesh, but for its share."""
    return mul(gradient, w.relaxing) if "relaxing" in w else gradient


def _deviation(q: Any, w: Any) -> Real:
    """q minus its mean over the element."""
    return np.asarray(q - np.sum(q * w.dx, axis=-1, keepdims=True) / np.sum(w.dx, axis=-1, keepdims=True))


def _balance_of_forces(v: Any, w: Any) -> Any:
    return w.grown * w.share * ddot(piola(w, w.p, _answered(w)), _relaxed(grad(v), w))


def _balance_of_volume(q: Any, w: Any) -> Any:
    return w.grown * ((w.jacobian - 1.0 - w.p / w.bulk) * q - _deviation(w.p, w) * _deviation(q, w) / w.shear)


def _stiffness(u: Any, v: Any, w: Any) -> Any:
    change = piola_change(w, w.p, _answered(w), _relaxed(grad(u), w))
    return w.grown * w.share**2 * ddot(change, _relaxed(grad(v), w))


def _volume_coupling(u: Any, q: Any, w: Any) -> Any:
    return w.grown * w.share * w.jacobian * ddot(w.back, _relaxed(grad(u), w)) * q


def _compressibility(p: Any, q: Any, w: Any) -> Any:
    return -w.grown * (p * q / w.bulk + _deviation(p, w) * _deviation(q, w) / w.shear)


balance_of_forces = LinearForm(_balance_of_forces)
"""int Jg' P(Fe, p) Fg'^-T : grad v."""

balance_of_volume = LinearForm(_balance_of_volume)
"""int Jg' [(Je - 1 - p/K) q - (p - mean p)(q - mean q)/mu].

The last term makes linear pressure stable beside linear displacement [Bochev, Dohrmann, Gunzburger 2006, doi
10.1137/S0036142905444482].
"""

stiffness = BilinearForm(_stiffness)
"""Derivative of ``balance_of_forces`` with respect to the displacement."""

volume_coupling = BilinearForm(_volume_coupling)
"""Derivative of ``balance_of_volume`` with respect to the displacement."""

compressibility = BilinearForm(_compressibility)
"""Derivative of ``balance_of_volume`` with respect to the pressure."""


@dataclass(frozen=True, eq=False)
class Yardstick:
    """The forms above on one mesh, with the fewest quadrature points that are exact for this element.

    displacement, pressure  bases with one point in an element
    pressure_mass           the pressure's basis with the four points that products of pressures need
    assembly                whose constants are used
    """

    displacement: Any
    pressure: Any
    pressure_mass: Any
    assembly: Assembly

    @classmethod
    def of(cls, mesh: TumourMesh, assembly: Assembly) -> Yardstick:
        """For the mesh that ``assembly`` was made for; the pressure's vertices are split where regions meet."""
        pattern = assembly.pattern
        whole = MeshTet(np.ascontiguousarray(mesh.points.T), np.ascontiguousarray(mesh.tetrahedra.T))
        split = MeshTet(
            np.ascontiguousarray(mesh.points[pattern.pressure_node].T), np.ascontiguousarray(pattern.pressures.T)
        )
        return cls(
            Basis(whole, ElementVector(ElementTetP1()), intorder=1),
            Basis(split, ElementTetP1(), intorder=1),
            Basis(split, ElementTetP1(), intorder=2),
            assembly,
        )

    def residual(self, displacement: Real, pressure: Real, growth: Real) -> tuple[Real, Real]:
        """Unbalanced forces (nodes, 3) and volumes (pressure nodes,), as ``Assembly.residual``."""
        once = self._fields(self.pressure, displacement, pressure, growth)
        four = self._fields(self.pressure_mass, displacement, pressure, growth)
        return (
            balance_of_forces.assemble(self.displacement, **once).reshape(-1, 3),
            balance_of_volume.assemble(self.pressure_mass, **four),
        )

    def tangent(self, displacement: Real, pressure: Real, growth: Real) -> SaddleMatrix:
        """Derivative of the residual, as ``Assembly.tangent``."""
        once = self._fields(self.pressure, displacement, pressure, growth)
        four = self._fields(self.pressure_mass, displacement, pressure, growth)
        return SaddleMatrix(
            stiffness.assemble(self.displacement, **once),
            volume_coupling.assemble(self.displacement, self.pressure, **once),
            compressibility.assemble(self.pressure_mass, **four),
        )

    def _fields(self, basis: Any, displacement: Real, pressure: Real, growth: Real) -> dict[str, Any]:
        """Everything the forms need, at the points of ``basis``; the deformation is constant in an element."""
        gradient = self.displacement.interpolate(displacement.ravel()).grad
        deformation, even = identity(gradient) + gradient, growth.ndim == 1
        relaxing = np.ascontiguousarray(np.moveaxis(np.linalg.inv(tensors_of(growth)), 0, -1))[..., None]
        elastic = Deformation.of(deformation / growth[:, None] if even else mul(deformation, relaxing))
        c = self.assembly.constants.at_points()
        constant = {
            **vars(elastic),
            **dict(zip("mqist", answers(elastic, c))),
            "shear": c.shear,
            "bulk": c.bulk,
            "grown": relaxed_volume(growth)[:, None],
            "share": 1.0 / growth[:, None] if even else np.ones((len(growth), 1)),
            **({} if even else {"relaxing": relaxing}),
        }
        spread = {name: np.broadcast_to(x, x.shape[:-1] + basis.dx.shape[-1:]) for name, x in constant.items()}
        return {**spread, "p": basis.interpolate(pressure), "dx": basis.dx}
