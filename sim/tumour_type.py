"""TumourType: one file in ``sim/tumours`` declares a disease.

It says what the maps mean in this disease, which cells live in it, how its tissue deforms, and what every
parameter rests on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..core import registry
from ..core.quantity import Parameter
from ..meshing.mesh import TumourMesh
from .spread import Spread
from .tissue import Material

TUMOURS = "oncoscale.sim.tumours"


@dataclass(frozen=True, eq=False)
class InitialFields:
    """What the maps mean at time 0, per element of the mesh (all regions).

    composition  (elements, 6) volume fractions of agents.colony.CLASSES
    density      (voxels) of a tumour without a border, see ``spread.Ground``; the forecast sets it
    perfusion    (elements,) supply of oxygen by blood relative to the tumour's median
    delivery     (elements,) drug relative to the tumour's median
    statements   how each was obtained, in words
    ktrans, ve   (elements,) 1/min and interstitial fraction, as drugs meet them; None: not measured
    """

    composition: NDArray[np.float64]
    perfusion: NDArray[np.float64]
    delivery: NDArray[np.float64]
    statements: tuple[str, ...]
    density: NDArray[np.float64] | None = None
    ktrans: NDArray[np.float64] | None = None
    ve: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class ElementMap:
    """A map seen by the elements of a mesh: mean over valid voxels; NaN where no voxel is valid."""

    values: NDArray[np.float64]
    unit: str
    method: str = ""


@dataclass(frozen=True)
class TumourType:
    """A disease.

    name            as on the command line
    disease         in words, for people
    body_parts      DICOM body parts in which it may occur (upper case); empty: any
    species         the species it was made for
    initial_fields  (mesh, element maps) -> InitialFields
    materials       region name -> tissue law
    genetics, histology, gradiff   handed to the cells unless the user states them
    parameters      everything above that is a number, with sources
    cells           name of its type of cell (``agents.cell_type``)
    kinds           what its cells of the first and of the second kind are called
    spread          how its cells spread through healthy tissue; None: they stay in the tumour
    radiosensitivity  alpha 1/Gy and alpha/beta Gy of its cells where a treatment states none; None: the generic ones
    """

    name: str
    disease: str
    body_parts: tuple[str, ...]
    species: str
    initial_fields: Callable[[TumourMesh, Mapping[str, ElementMap]], InitialFields]
    materials: Mapping[str, Material]
    genetics: Mapping[str, int]
    histology: int
    gradiff: int
    parameters: tuple[Parameter, ...]
    cells: str = "neuroblastoma"
    kinds: tuple[str, str] = ("neuroblasts", "Schwann cells")
    spread: Spread | None = None
    radiosensitivity: tuple[Parameter, Parameter] | None = None

    def statements_about(self, body_part: str, species: str) -> tuple[str, ...]:
        """Plain words if the images are not of the disease that this model was made for."""
        words = []
        if not body_part:
            words.append(
                f"The images do not say which part of the body they show; the cells are those of {self.disease}."
            )
        if body_part and self.body_parts and body_part.upper() not in self.body_parts:
            words.append(
                f"The images are of the {body_part.lower()}. No disease model of this project is made for a tumour "
                f"there: the cells are those of {self.disease}. What is shown is the chain, not a prognosis."
            )
        if species and species.lower() != self.species:
            words.append(
                f"The subject is a {species.lower()}; the cells are those of {self.species} {self.disease}. "
                "What is shown is the chain, not a prognosis."
            )
        return tuple(words)


def tumour_type(name: str) -> TumourType:
    """The disease of that name. Raises ConfigurationRejected, listing those known."""
    disease: TumourType = registry.load(TUMOURS, name).TUMOUR
    return disease
