"""Mass effect: how far a tumour has moved the surface of a region, and what it left of the region's volume.

For a tumour without a border this is what compresses ventricles and cisterns [project specification, tissue §3.5].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .state import TissueState


@dataclass(frozen=True)
class MassEffect:
    """Of one region on one day.

    region   its name
    day      days since the images of time 0
    largest  mm, largest displacement of a node of its surface
    mean     mm, mean over the nodes of its surface
    left     volume over that without load
    """

    region: str
    day: float
    largest: float
    mean: float
    left: float

    def words(self) -> str:
        return (
            f"By day {self.day:g} the surface of region {self.region} has moved by up to {self.largest:.1f} mm "
            f"({self.mean:.1f} on average); {100.0 * self.left:.0f} % of its volume is left."
        )


def mass_effect(start: TissueState, state: TissueState, region: str) -> MassEffect:
    """What the tumour has done to a region of the mesh at the start, measured against the tissue without load."""
    surface = np.unique(start.reference.surface_of(region))
    moved = np.linalg.norm(state.displacement[surface], axis=1)
    elements = start.reference.elements_of(region)
    left = float(state.mesh.volumes[elements].sum() / start.reference.volumes[elements].sum())
    return MassEffect(region, state.day, float(moved.max()), float(moved.mean()), left)


def mass_effect_statements(states: Sequence[TissueState], regions: Sequence[str]) -> tuple[str, ...]:
    """Words about the end of a run, for those of the regions that its mesh has."""
    there = [name for name in regions if name in states[0].reference.region_names.values()]
    return tuple(mass_effect(states[0], states[-1], name).words() for name in there)
