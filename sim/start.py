"""The tissue at time 0: a mesh from the labels, fields from the maps, oxygen from supply and uptake."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.errors import SegmentationRejected
from ..imaging.quantify import Quantified
from ..imaging.study import LabelImage
from ..meshing.mesh import TumourMesh
from ..meshing.surface import HOST_MARGIN, host_around
from ..meshing.transfer import overlaps, to_elements
from . import oxygen, stiffness, vessels
from .anatomy import with_regions
from .settings import ForecastSettings
from .simulation import breathing, deliver_oxygen, filtered
from .spread import Ground, Spread
from .state import TissueState
from .tumour_type import ElementMap, InitialFields


def tumour_of(quantified: Quantified) -> LabelImage:
    """The tumour's label image. Raises SegmentationRejected if the study has none."""
    if quantified.tumour is None:
        raise SegmentationRejected(
            "no tumour region is known for this study",
            "a segmentation or an enhancing volume",
            "give a mask with --mask, or thresholds with --pe-threshold and --ser-threshold",
        )
    tumour: LabelImage = quantified.tumour
    return tumour


def host_for(outline: LabelImage, spread: Spread | None, days: float, regions: Sequence[str] = ()) -> LabelImage:
    """The tumour in its host, which is wide enough for a tumour without a border to spread in for so many days.

    ``regions`` (``anatomy.told_apart``) and the spaces that the disease tells apart (``Spread.spaces``) are kept where
    the segmentation draws them.
    """
    if spread is None:
        return with_regions(host_around(outline), outline, regions)
    radius = np.cbrt(3000.0 * outline.volume("tumour") / (4.0 * np.pi))
    host = host_around(outline, margin=max(HOST_MARGIN.value * float(radius), spread.reach(days)))
    return with_regions(host, outline, (*regions, *spread.spaces))


def start_from(
    mesh: TumourMesh, fields: InitialFields, settings: ForecastSettings, ground: Ground | None = None
) -> TissueState:
    """The tissue at time 0, breathing. ``ground`` of a tumour without a border, whose fields hold a density."""
    nothing = np.zeros(len(mesh.tetrahedra))
    still = TissueState(
        day=0.0,
        reference=mesh,
        displacement=np.zeros_like(mesh.points),
        stretch=nothing + 1.0,
        composition=fields.composition,
        supply=nothing,
        delivery=fields.delivery,
        oxygen=nothing,
        ktrans=fields.ktrans,
        ve=fields.ve,
    )
    if ground is not None:
        assert fields.density is not None
        still = replace(
            still,
            reference=ground.labelled(fields.density),
            density=fields.density,
            visible=ground.visible_share(fields.density),
        )
    supply = scaled_supply(still.reference, fields.perfusion, breathing(still), settings.oxygen_target)
    if ground is None and settings.stiffness == "composition":
        still = replace(still, mixture_at_start=stiffness.mixture(fields.composition))
    follow = settings.vessels == "follow"
    allotment = vessels.allotment_of(supply, oxygen.demand_of(breathing(still))) if follow else None
    return filtered(deliver_oxygen(replace(still, supply=supply, allotment=allotment)), settings)


def infiltrated(fields: InitialFields, ground: Ground, labels: LabelImage) -> InitialFields:
    """The fields with the density around the tumour's outline, all cells living."""
    density = ground.seeded(labels)
    composition = np.zeros((len(ground.body.tetrahedra), 6))
    composition[:, 0] = ground.density_of_elements(density)
    statements = (*fields.statements, *ground.statements)
    return replace(fields, composition=composition, density=density, statements=statements)


def element_maps(quantified: Quantified, mesh: TumourMesh) -> dict[str, ElementMap]:
    """Every map as the elements see it: volume-weighted mean over valid voxels, NaN where none is valid."""
    weights: list[tuple[Any, Any]] = []
    seen = {}
    for name, parametric in quantified.maps.items():
        overlap = next((matrix for grid, matrix in weights if grid.same_as(parametric.grid)), None)
        if overlap is None:
            overlap = overlaps(mesh, parametric.grid)
            weights.append((parametric.grid, overlap))
        valid = np.isfinite(parametric.values)
        values = to_elements(overlap, parametric.values, valid)
        seen[name] = ElementMap(
            np.where(values.valid_fraction > 0, values.mean, np.nan), parametric.unit, parametric.method
        )
    return seen


def scaled_supply(
    mesh: TumourMesh, perfusion: NDArray[np.float64], cellularity: NDArray[np.float64], target: float
) -> NDArray[np.float64]:
    """(elements,) 1/day: relative perfusion times the scale that puts the tumour's median pO2 at ``target``.

    The scale is found on the local balance of supply and uptake: an element is many diffusion lengths wide. The
    host is supplied so that it rests at its own tension.
    """
    tumour = mesh.elements_of("tumour")
    demand = oxygen.demand_of(cellularity)
    low, high = 1e-6, 1e9
    for _ in range(200):
        scale = np.sqrt(low * high)
        tension = oxygen.local_balance(scale * perfusion[tumour], demand[tumour])
        low, high = (scale, high) if float(np.median(tension)) < target else (low, scale)
    supply = np.full(
        len(perfusion), oxygen.supply_for(oxygen.HOST_OXYGEN.value, oxygen.demand_of(oxygen.HOST_CELLULARITY.value))
    )
    supply[tumour] = np.sqrt(low * high) * perfusion[tumour]
    return supply
