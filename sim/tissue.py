"""What tissue is made of: the law and the elastic constants of each region, and what holds it in place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..core.errors import ConfigurationRejected
from ..core.quantity import Parameter
from ..meshing.mesh import TumourMesh
from .laws import LAWS, Constants

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
    """Law and elastic constants of one region.

    young      kPa, > 0
    poisson    0 <= poisson < 0.5; above 0 for the compressible law
    law        a name in ``laws.LAWS``
    hardening  b of the exponential law, > 0: stiffness grows e-fold when I1' has grown by 1/b; 0 for the others

    Raises ConfigurationRejected outside these bounds.
    """

    young: float
    poisson: float
    law: str = "neo-hookean"
    hardening: float = 0.0

    def __post_init__(self) -> None:
        if not (np.isfinite(self.young) and self.young > 0.0 and 0.0 <= self.poisson < 0.5):
            raise ConfigurationRejected(
                f"a tissue with Young's modulus {self.young} kPa and Poisson's ratio {self.poisson}",
                "a modulus above 0 and a ratio of at least 0 and below 0.5",
                "for incompressible tissue take a ratio such as 0.4999",
            )
        if self.law not in LAWS:
            raise ConfigurationRejected(f"a tissue law {self.law!r}", f"one of {', '.join(LAWS)}", "name one of these")
        if self.law == "compressible" and self.poisson == 0.0:
            raise ConfigurationRejected(
                "a compressible law with Poisson's ratio 0", "a ratio above 0", "take the neo-hookean law, or 0.01"
            )
        if not (np.isfinite(self.hardening) and (self.hardening > 0.0) == (self.law == "exponential")):
            raise ConfigurationRejected(
                f"hardening {self.hardening} in a tissue of the {self.law} law",
                "a hardening above 0 in the exponential law, 0 in the others",
                "give the exponential law a hardening such as 1, and no other law one",
            )

    @property
    def shear(self) -> float:
        """Shear modulus mu, kPa."""
        return self.young / (2.0 * (1.0 + self.poisson))

    @property
    def bulk(self) -> float:
        """Bulk modulus K, kPa."""
        return self.young / (3.0 * (1.0 - 2.0 * self.poisson))

    @property
    def volumetric(self) -> float:
        """Stiffness of the volume in the law: K, or lambda of the compressible law, kPa."""
        return self.bulk - 2.0 / 3.0 * self.shear if self.law == "compressible" else self.bulk


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


def constants_of(
    mesh: TumourMesh, materials: Mapping[str, Material], stiffening: NDArray[np.float64] | None = None
) -> Constants:
    """Law and elastic constants of every element.

    stiffening  (elements,) > 0, Young's modulus over that of the element's material; None: 1

    Raises ConfigurationRejected when a region of the mesh has no material.
    """
    given = {value: materials[name] for value, name in mesh.region_names.items() if name in materials}
    values, place = np.unique(mesh.region, return_inverse=True)
    lacking = sorted(mesh.region_names.get(int(value), f"number {value}") for value in values if value not in given)
    if lacking:
        raise ConfigurationRejected(
            f"no material for region {', '.join(lacking)}",
            f"one of {', '.join(sorted(materials))} or a material of that name",
            "name a material for every region of the mesh",
        )
    present = [given[int(value)] for value in values]
    factor = np.ones(len(place)) if stiffening is None else stiffening
    return Constants(
        np.array([LAWS[material.law] for material in present])[place],
        factor * np.array([material.shear for material in present])[place],
        factor * np.array([material.volumetric for material in present])[place],
        np.array([material.hardening for material in present])[place],
    )
