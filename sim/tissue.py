"""The tissue law: a grown, nearly incompressible neo-Hookean solid.

F = Fe Fg with isotropic growth Fg = g I [Rodriguez, Hoger, McCulloch 1994, doi 10.1016/0021-9290(94)90021-3]. Per
grown volume the tissue stores

    Psi = mu/2 (I1 Je^(-2/3) - 3) + K/2 (Je - 1)^2,    I1 = Fe : Fe,  Je = det Fe

and the pressure field p stands for K (Je - 1): the mean Cauchy stress, positive in tension (kPa).

The first half of this file is the law, the second half the same law as scikit-fem forms. The forms are the yardstick
of the project's own assembly in ``growth``, which spells the same equations out per element.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from skfem import BilinearForm, LinearForm
from skfem.helpers import ddot, det, grad, identity, inv, mul, transpose

from ..core.errors import ConfigurationRejected
from ..core.quantity import Parameter
from ..meshing.mesh import TumourMesh

Tensor = NDArray[np.float64]

TUMOUR_YOUNG = Parameter(
    5.0,
    "kPa",
    meaning="Young's modulus of the tumour",
    range=(2.0, 10.0),
    assumed=True,
    source="ASSUMED: general literature knowledge of soft solid tumours, no source read",
)
TUMOUR_POISSON = Parameter(
    0.47,
    "1",
    meaning="Poisson's ratio of the tumour",
    range=(0.45, 0.49),
    assumed=True,
    source="ASSUMED: nearly incompressible; glimslib (danielabler/glimslib, commit 7667df9) uses 0.45 in brain",
)
HOST_YOUNG = Parameter(
    1.5,
    "kPa",
    meaning="Young's modulus of the host tissue",
    range=(0.5, 3.0),
    assumed=True,
    source="ASSUMED: general literature knowledge; glimslib (commit 7667df9) has 3 kPa in brain, 1 kPa in fluid spaces",
)
HOST_POISSON = Parameter(
    0.45,
    "1",
    meaning="Poisson's ratio of the host tissue",
    range=(0.40, 0.49),
    assumed=True,
    source="ASSUMED: nearly incompressible; glimslib (commit 7667df9) uses 0.45 in brain, 0.3 in fluid spaces",
)
SPRING_DISTANCE = Parameter(
    20.0,
    "mm",
    meaning="distance from the modelled host's outer surface to the next stiff structure",
    range=(5.0, 60.0),
    assumed=True,
    source="ASSUMED: order of the depth of an abdominal organ in a child",
)


@dataclass(frozen=True)
class Material:
    """Elastic constants of one region.

    young    kPa, > 0
    poisson  0 <= poisson < 0.5

    Raises ConfigurationRejected outside these bounds.
    """

    young: float
    poisson: float

    def __post_init__(self) -> None:
        if not (np.isfinite(self.young) and self.young > 0.0 and 0.0 <= self.poisson < 0.5):
            raise ConfigurationRejected(
                f"a tissue with Young's modulus {self.young} kPa and Poisson's ratio {self.poisson}",
                "a modulus above 0 and a ratio of at least 0 and below 0.5",
                "for incompressible tissue take a ratio such as 0.4999",
            )

    @property
    def shear(self) -> float:
        """Shear modulus mu, kPa."""
        return self.young / (2.0 * (1.0 + self.poisson))

    @property
    def bulk(self) -> float:
        """Bulk modulus K, kPa."""
        return self.young / (3.0 * (1.0 - 2.0 * self.poisson))


TUMOUR = Material(TUMOUR_YOUNG.value, TUMOUR_POISSON.value)
HOST = Material(HOST_YOUNG.value, HOST_POISSON.value)
DEFAULT_MATERIALS: Mapping[str, Material] = {"host": HOST, "tumour": TUMOUR}


@dataclass(frozen=True)
class Springs:
    """Winkler springs that hold a surface: traction = -stiffness x displacement, in all three directions.

    stiffness  kPa/mm; 0 leaves the surface free
    region     the region whose surface they hold; None: the outer boundary of the mesh
    """

    stiffness: float
    region: str | None = None

    def __post_init__(self) -> None:
        if not (np.isfinite(self.stiffness) and self.stiffness >= 0.0):
            raise ConfigurationRejected(
                f"springs of {self.stiffness} kPa/mm", "a stiffness of at least 0", "give a finite stiffness"
            )


def springs_of(host: Material = HOST, distance: float = SPRING_DISTANCE.value) -> Springs:
    """Springs as stiff as a host layer of thickness ``distance`` (mm) in front of a rigid wall.

    ASSUMED: k = E / distance; a first guess for anatomy that was not segmented.
    """
    return Springs(host.young / distance)


def moduli(mesh: TumourMesh, materials: Mapping[str, Material]) -> tuple[Tensor, Tensor]:
    """(elements,) shear and bulk modulus, kPa.

    Raises ConfigurationRejected when a region of the mesh has no material.
    """
    shear, bulk = np.full((2, len(mesh.tetrahedra)), np.nan)
    for value, name in mesh.region_names.items():
        if name in materials:
            shear[mesh.region == value] = materials[name].shear
            bulk[mesh.region == value] = materials[name].bulk
    if np.isnan(shear).any():
        lacking = sorted(
            {mesh.region_names.get(int(value), f"number {value}") for value in np.unique(mesh.region[np.isnan(shear)])}
        )
        raise ConfigurationRejected(
            f"no material for region {', '.join(lacking)}",
            f"one of {', '.join(sorted(materials))} or a material of that name",
            "name a material for every region of the mesh",
        )
    return shear, bulk


class Elastic(Protocol):
    """The elastic deformation at points; ``Deformation`` and the arguments of a form have these.

    fe         (3, 3, elements, points)
    back       Fe^-T, likewise
    jacobian   det Fe, (elements, points)
    invariant  Fe : Fe, likewise
    """

    @property
    def fe(self) -> Tensor: ...
    @property
    def back(self) -> Tensor: ...
    @property
    def jacobian(self) -> Tensor: ...
    @property
    def invariant(self) -> Tensor: ...


@dataclass(frozen=True, eq=False)
class Deformation:
    """``Elastic`` from Fe (3, 3, elements, points)."""

    fe: Tensor
    back: Tensor
    jacobian: Tensor
    invariant: Tensor

    @classmethod
    def of(cls, fe: Tensor) -> Deformation:
        """With everything that the law needs of Fe."""
        return cls(fe, np.asarray(transpose(inv(fe))), np.asarray(det(fe)), np.asarray(ddot(fe, fe)))


def energy(e: Elastic, pressure: Tensor, shear: Tensor, bulk: Tensor) -> Tensor:
    """Stored energy per grown volume, kPa; the volume's share is p²/(2K).

    pressure, shear, bulk  (elements, points) kPa, here and below
    """
    return np.asarray(shear / 2.0 * (e.invariant * e.jacobian ** (-2.0 / 3.0) - 3.0) + pressure**2 / (2.0 * bulk))


def piola(e: Elastic, pressure: Tensor, shear: Tensor) -> Tensor:
    """First Piola stress per grown volume, mu Je^(-2/3) (Fe - I1/3 Fe^-T) + p Je Fe^-T, kPa."""
    return np.asarray(
        shear * e.jacobian ** (-2.0 / 3.0) * (e.fe - e.invariant / 3.0 * e.back) + pressure * e.jacobian * e.back
    )


def piola_change(e: Elastic, pressure: Tensor, shear: Tensor, change: Tensor) -> Tensor:
    """Directional derivative of ``piola`` for a change of Fe, pressure held, kPa."""
    volume = ddot(e.back, change)
    turned = mul(e.back, mul(transpose(change), e.back))
    isochoric = (
        change
        - 2.0 / 3.0 * volume * (e.fe - e.invariant / 3.0 * e.back)
        - 2.0 / 3.0 * ddot(e.fe, change) * e.back
        + e.invariant / 3.0 * turned
    )
    return np.asarray(
        shear * e.jacobian ** (-2.0 / 3.0) * isochoric + pressure * e.jacobian * (volume * e.back - turned)
    )


def cauchy(e: Elastic, pressure: Tensor, shear: Tensor) -> Tensor:
    """Cauchy stress mu Je^(-5/3) dev(Fe Fe^T) + p I, kPa."""
    eye = identity(e.fe)
    deviator = mul(e.fe, transpose(e.fe)) - e.invariant / 3.0 * eye
    return np.asarray(shear * e.jacobian ** (-5.0 / 3.0) * deviator + pressure * eye)


# The same law as weak forms. ``w`` carries the fields of ``Elastic``, the pressure p, the growth stretch g, the moduli
# shear and bulk, and the quadrature weights dx.


def _deviation(q: Any, w: Any) -> Tensor:
    """q minus its mean over the element."""
    return np.asarray(q - np.sum(q * w.dx, axis=-1, keepdims=True) / np.sum(w.dx, axis=-1, keepdims=True))


def _balance_of_forces(v: Any, w: Any) -> Any:
    return w.g**2 * ddot(piola(w, w.p, w.shear), grad(v))


def _balance_of_volume(q: Any, w: Any) -> Any:
    return w.g**3 * ((w.jacobian - 1.0 - w.p / w.bulk) * q - _deviation(w.p, w) * _deviation(q, w) / w.shear)


def _stiffness(u: Any, v: Any, w: Any) -> Any:
    return w.g * ddot(piola_change(w, w.p, w.shear, grad(u)), grad(v))


def _volume_coupling(u: Any, q: Any, w: Any) -> Any:
    return w.g**2 * w.jacobian * ddot(w.back, grad(u)) * q


def _compressibility(p: Any, q: Any, w: Any) -> Any:
    return -(w.g**3) * (p * q / w.bulk + _deviation(p, w) * _deviation(q, w) / w.shear)


balance_of_forces = LinearForm(_balance_of_forces)
"""int g^2 P(Fe, p) : grad v."""

balance_of_volume = LinearForm(_balance_of_volume)
"""int g^3 [(Je - 1 - p/K) q - (p - mean p)(q - mean q)/mu].

The last term makes linear pressure stable beside linear displacement [Bochev, Dohrmann, Gunzburger 2006, doi
10.1137/S0036142905444482].
"""

stiffness = BilinearForm(_stiffness)
"""Derivative of ``balance_of_forces`` with respect to the displacement."""

volume_coupling = BilinearForm(_volume_coupling)
"""Derivative of ``balance_of_volume`` with respect to the displacement."""

compressibility = BilinearForm(_compressibility)
"""Derivative of ``balance_of_volume`` with respect to the pressure."""
