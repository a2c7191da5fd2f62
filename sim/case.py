"""A case: the maps of a tumour, the disease that it is taken for, what is done to it, and how long it is followed."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..core.errors import ConfigurationRejected, ModelRefused
from ..imaging.quantify import Quantified
from ..meshing.mesh import TumourMesh
from .settings import ForecastSettings
from .treatment import Treatment
from .tumour_type import TumourType


@dataclass(frozen=True, eq=False)
class Case:
    """Everything that a forecast is made of.

    quantified          the maps of one visit, with the tumour's outline
    tumour              the disease model
    days                the horizon
    treatment           what is given or done until then, None: nothing
    settings            what the user chose
    mesh                in place of one made from the segmentation (``given_mesh``)
    body_part, species  what the images are of: compared with what the disease model is made for
    """

    quantified: Quantified
    tumour: TumourType
    days: float
    treatment: Treatment | None = None
    settings: ForecastSettings = field(default_factory=ForecastSettings)
    mesh: TumourMesh | None = None
    body_part: str = ""
    species: str = ""

    def check(self) -> None:
        """Refuse what no model here can follow, before anything is meshed.

        Raises ModelRefused for an operation on a tumour without a border; ConfigurationRejected for diffusion tensors
        of one with a border, and for fluid in the pores of one without.
        """
        has_border = self.tumour.spread is None
        if self.treatment is not None and self.treatment.operations and not has_border:
            raise ModelRefused(
                "an operation on a tumour without a border",
                "surgery of a tumour that images show whole",
                "leave the operation out, or choose another --tumour",
            )
        if has_border and self.quantified.tensor is not None:
            raise ConfigurationRejected(
                "diffusion tensors for a tumour with a border",
                "a tumour whose cells wander, such as dipg",
                "leave out --tensor",
            )
        if self.settings.poroelastic and not has_border:
            raise ConfigurationRejected(
                "poroelastic for a tumour without a border", "a tumour with one", "leave out poroelastic"
            )
