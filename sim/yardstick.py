"""The default element as scikit-fem assembles it: slow, general, and the yardstick of ``assembly``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skfem import Basis, ElementTetP1, ElementVector, MeshTet
from skfem.helpers import identity

from ..meshing.mesh import TumourMesh
from .assembly import Assembly
from .solvers import SaddleMatrix
from .tissue import (
    Deformation,
    balance_of_forces,
    balance_of_volume,
    compressibility,
    stiffness,
    volume_coupling,
)

Real = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Yardstick:
    """The forms of ``tissue`` on one mesh, with the fewest quadrature points that are exact for this element.

    displacement, pressure  bases with one point in an element
    pressure_mass           the pressure's basis with the four points that products of pressures need
    assembly                whose moduli are used
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

    def residual(self, displacement: Real, pressure: Real, stretch: Real) -> tuple[Real, Real]:
        """Unbalanced forces (nodes, 3) and volumes (pressure nodes,), as ``Assembly.residual``."""
        once = self._fields(self.pressure, displacement, pressure, stretch)
        four = self._fields(self.pressure_mass, displacement, pressure, stretch)
        return (
            balance_of_forces.assemble(self.displacement, **once).reshape(-1, 3),
            balance_of_volume.assemble(self.pressure_mass, **four),
        )

    def tangent(self, displacement: Real, pressure: Real, stretch: Real) -> SaddleMatrix:
        """Derivative of the residual, as ``Assembly.tangent``."""
        once = self._fields(self.pressure, displacement, pressure, stretch)
        four = self._fields(self.pressure_mass, displacement, pressure, stretch)
        return SaddleMatrix(
            stiffness.assemble(self.displacement, **once),
            volume_coupling.assemble(self.displacement, self.pressure, **once),
            compressibility.assemble(self.pressure_mass, **four),
        )

    def _fields(self, basis: Any, displacement: Real, pressure: Real, stretch: Real) -> dict[str, Any]:
        """Everything the forms need, at the points of ``basis``; the deformation is constant in an element."""
        grad = self.displacement.interpolate(displacement.ravel()).grad
        elastic = Deformation.of((identity(grad) + grad) / stretch[:, None])
        constant = {
            "fe": elastic.fe,
            "back": elastic.back,
            "jacobian": elastic.jacobian,
            "invariant": elastic.invariant,
            "g": stretch[:, None],
            "shear": self.assembly.shear[:, None],
            "bulk": self.assembly.bulk[:, None],
        }
        spread = {name: np.broadcast_to(x, x.shape[:-1] + basis.dx.shape[-1:]) for name, x in constant.items()}
        return {**spread, "p": basis.interpolate(pressure), "dx": basis.dx}
