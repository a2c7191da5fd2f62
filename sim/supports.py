"""Supports: which surfaces of the body are held, and how.

Traction-free where there is skin, fixed where bone does not give way, springs where soft tissue goes on beyond what
is modelled (Winkler's foundation; project specification, tissue §3.4). A host that is fixed all round cannot make room:
its pressure rises by about K dV / V, which is why a forecast's account says what holds the body.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..core.errors import ConfigurationRejected
from ..meshing.mesh import TumourMesh
from .elements import nodal_areas, outer_faces
from .tissue import Springs

Faces = NDArray[np.int64]

OUTSIDE = "outside"
"""What the outer boundary of the mesh is called among surfaces; the others are called as their regions."""

FIXED = ("skull", "spine")
"""Regions that do not move unless the settings say otherwise (project specification, tissue §3.4)."""


@dataclass(frozen=True)
class Supports:
    """Several surfaces, each held by springs, fixed, or free.

    springs  Winkler springs; those of no region hold the outer boundary, where it is neither fixed nor free nor the
             surface of a region with springs of its own
    fixed    regions whose surface does not move, such as skull or spine; OUTSIDE: the whole outer boundary
    free     regions whose outer surface nothing holds, such as skin

    The surface of a region is closed: where it meets another region as well as where it meets the outside.
    """

    springs: tuple[Springs, ...] = ()
    fixed: tuple[str, ...] = ()
    free: tuple[str, ...] = ()

    @classmethod
    def of(cls, given: Springs | Supports) -> Supports:
        """Springs alone are a support, too."""
        return given if isinstance(given, Supports) else cls((given,))

    def elsewhere(self, springs: Springs) -> Supports:
        """The same, with these springs on the outer boundary unless something else was said of it."""
        said = OUTSIDE in (*self.fixed, *self.free) or any(one.region is None for one in self.springs)
        return self if said else replace(self, springs=(springs, *self.springs))

    def sprung(self, mesh: TumourMesh) -> tuple[tuple[float, Faces], ...]:
        """Stiffness (kPa/mm) and faces of every spring. Raises ConfigurationRejected as ``on``."""
        named = (*self.fixed, *self.free, *(one.region for one in self.springs if one.region))
        others = [_surface(mesh, name) for name in named]
        outer = outer_faces(mesh.tetrahedra)
        return tuple(
            (one.stiffness, _without(outer, others) if one.region is None else _surface(mesh, one.region))
            for one in self.springs
        )

    def held(self, mesh: TumourMesh) -> tuple[Faces, ...]:
        """Faces that do not move, by region. Raises ConfigurationRejected as ``on``."""
        return tuple(_surface(mesh, name) for name in self.fixed)

    def on(self, mesh: TumourMesh) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """(nodes,) kPa mm, spring stiffness x area around each node; (nodes,) True where nothing moves.

        Raises ConfigurationRejected for a region that the mesh does not have.
        """
        spring, fixed = np.zeros(len(mesh.points)), np.zeros(len(mesh.points), dtype=bool)
        for stiffness, faces in self.sprung(mesh):
            spring += stiffness * nodal_areas(mesh.points, faces)
        for name in self.fixed:  # what does not move on its surface does not move inside
            fixed[_surface(mesh, name)] = True
            fixed[mesh.tetrahedra[mesh.elements_of(name)]] = True
        return spring, fixed

    def words(self) -> str:
        """What holds the body, for people."""
        parts = [
            f"springs of {one.stiffness:.3g} kPa/mm on the surface of {one.region}"
            if one.region
            else f"springs of {one.stiffness:.3g} kPa/mm on the outer boundary"
            for one in self.springs
        ]
        parts += [f"{'outer boundary' if name == OUTSIDE else name} fixed" for name in self.fixed]
        parts += [f"{'outer boundary' if name == OUTSIDE else name} free" for name in self.free]
        return ", ".join(parts)


def supports_of(stated: Mapping[str, float | str], springs: Springs, fixed: Sequence[str] = ()) -> Springs | Supports:
    """Supports as a user states them: surface to "fixed", "free" or a stiffness in kPa/mm; ``springs`` elsewhere.

    fixed  regions that are fixed where nothing is stated of them

    >>> supports_of({"skull": "fixed", "tumour": 0.1}, Springs(0.075)).words()
    'springs of 0.075 kPa/mm on the outer boundary, springs of 0.1 kPa/mm on the surface of tumour, skull fixed'
    """
    surfaces = {**dict.fromkeys(fixed, "fixed"), **stated}
    if not surfaces:
        return springs
    return Supports(
        tuple(
            Springs(float(how), None if name == OUTSIDE else name)
            for name, how in surfaces.items()
            if not isinstance(how, str)
        ),
        tuple(name for name, how in surfaces.items() if how == "fixed"),
        tuple(name for name, how in surfaces.items() if how == "free"),
    ).elsewhere(springs)


def _surface(mesh: TumourMesh, name: str) -> Faces:
    if name == OUTSIDE:
        return outer_faces(mesh.tetrahedra)
    known = sorted(set(mesh.region_names.values()))
    if name not in known:
        raise ConfigurationRejected(
            f"a support of the surface of {name!r}", f"{OUTSIDE}, or a region of the mesh: {', '.join(known)}",
            "name one of these",
        )  # fmt: skip
    return mesh.surface_of(name)


def _without(faces: Faces, others: Sequence[Faces]) -> Faces:
    """The faces that are in none of the others."""
    if not others:
        return faces
    count = len(faces)
    _, place = np.unique(np.sort(np.concatenate([faces, *others]), axis=1), axis=0, return_inverse=True)
    return np.asarray(faces[~np.isin(place[:count], place[count:])])
