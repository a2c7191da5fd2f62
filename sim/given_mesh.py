"""A mesh that the user gives, in place of the one that a forecast makes of the segmentation.

Its region ``tumour`` is where the cells live; every other region is told apart as it is (``anatomy``). Maps are read at
its elements, so it must lie in the patient's coordinates (mm, LPS), where the images of the study are.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..core.errors import ConfigurationRejected
from ..imaging.quantify import Quantified
from ..imaging.study import Grid, LabelImage, box_words
from ..meshing.mesh import TumourMesh
from ..meshing.renewed import labels_of, present_regions
from ..meshing.transfer import coverage, overlaps
from .anatomy import Meshed
from .spread import Spread

LEAST_COVERED = 0.5
"""Fraction of a voxel inside the mesh's tumour from which it is drawn as tumour."""


def outlined(quantified: Quantified, mesh: TumourMesh) -> Quantified:
    """The maps with a tumour: that of the segmentation, else that of the mesh, on the grid of the first map it lies in.

    Raises ConfigurationRejected for a mesh without a tumour, and for one that lies beside every map.
    """
    part = tumour_part(mesh)
    if quantified.tumour is not None:
        return quantified
    for parametric in quantified.maps.values():
        inside = coverage(overlaps(part, parametric.grid), parametric.grid) >= LEAST_COVERED
        if inside.any():
            tumour = LabelImage(
                parametric.grid, inside.astype(np.uint8), {1: "tumour"}, description="the mesh's tumour"
            )
            return replace(quantified, tumour=tumour)
    grids = [parametric.grid for parametric in quantified.maps.values()]
    raise _beside(part, "the maps", np.concatenate([_corners(grid) for grid in grids]))


def given(mesh: TumourMesh, outline: LabelImage, spread: Spread | None = None) -> tuple[Meshed, str]:
    """The mesh as a forecast takes it, and in words how well its tumour agrees with the outline in the images.

    Raises ConfigurationRejected where the two share nothing, for a mesh without a tumour, and for one that has no
    healthy tissue for a tumour without a border to spread in.
    """
    part = tumour_part(mesh)
    if spread is not None and spread.within not in present_regions(mesh):
        raise ConfigurationRejected(
            f"a mesh of {', '.join(present_regions(mesh))} for a tumour without a border",
            f"a region {spread.within!r} that its cells spread in",
            "mesh the tissue around the tumour too, or leave --mesh out",
        )
    drawn = outline.mask("tumour")
    shared = float((overlaps(part, outline.grid) @ drawn.ravel().astype(float)).sum()) / 1000.0
    if shared <= 0.0:
        raise _beside(part, "the tumour of the segmentation", outline.grid.world(np.argwhere(drawn).astype(float)))
    placed = replace(mesh, frame_uid=mesh.frame_uid or outline.grid.frame_uid)
    words = (
        f"The mesh is the user's: its tumour of {mesh.volume_of('tumour'):.3g} mL shares {shared:.3g} mL with that of "
        f"{outline.volume('tumour'):.3g} mL in the images."
    )
    return Meshed(placed, labels_of(mesh) if spread else outline), words


def tumour_part(mesh: TumourMesh) -> TumourMesh:
    """The elements of the tumour alone. Raises ConfigurationRejected, naming the regions, where there are none."""
    elements = mesh.elements_of("tumour")
    if not len(elements):
        raise ConfigurationRejected(
            f"a mesh of {', '.join(present_regions(mesh))}", "a region 'tumour'", "name it with --region VALUE=tumour"
        )
    return replace(mesh, tetrahedra=mesh.tetrahedra[elements], region=mesh.region[elements])


def _corners(grid: Grid) -> NDArray[np.float64]:
    """(2, 3) mm of the first and the last voxel."""
    return grid.world(np.array([np.zeros(3), np.array(grid.shape) - 1.0]))


def _beside(part: TumourMesh, what: str, points: NDArray[np.float64]) -> ConfigurationRejected:
    own = part.points[np.unique(part.tetrahedra)]
    return ConfigurationRejected(
        f"the mesh's tumour ({box_words(own)}) and {what} ({box_words(points)}) share nothing",
        "a mesh in the patient's coordinates (mm, LPS) of the same visit",
        "turn or move the mesh to where the images are, or leave --mesh out",
    )
