"""Neuroblastoma of a child's abdomen: what its maps mean, its cells, its tissue."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ...core.errors import ModelRefused
from ...core.quantity import Parameter
from ...meshing.mesh import TumourMesh
from ..exposure import HOST_KTRANS, HOST_VE, LEAST_VE
from ..tissue import HOST_POISSON, HOST_YOUNG, TUMOUR_POISSON, TUMOUR_YOUNG, Material
from ..treatments.chemotherapy import relative_delivery
from ..tumour_type import ElementMap, InitialFields, TumourType

CELLULARITY_WHERE_UNMEASURED = Parameter(
    0.6,
    "1",
    "median volume fraction of cells where cellularity was not measured",
    source="ASSUMED: the cellularity of the released model's reference runs",
    range=(0.3, 0.9),
    assumed=True,
)

CELLULARITY_LIMITS = (
    Parameter(
        0.05, "1", "least volume fraction of cells handed to a colony", source="PRIMAGE neuroblastoma model 13.9.4"
    ),
    Parameter(
        0.95, "1", "largest volume fraction of cells handed to a colony", source="PRIMAGE neuroblastoma model 13.9.4"
    ),
)

PERFUSION_LIMITS = (
    Parameter(
        0.02,
        "1",
        "least relative perfusion or delivery of an element",
        source="ASSUMED: no tumour element of 1 mm or more is without any vessel within diffusion distance",
        range=(0.0, 0.1),
        assumed=True,
    ),
    Parameter(
        10.0,
        "1",
        "largest relative perfusion or delivery of an element",
        source="ASSUMED: beyond it a voxel holds a vessel, not tumour",
        range=(3.0, 30.0),
        assumed=True,
    ),
)


def initial_fields(mesh: TumourMesh, maps: Mapping[str, ElementMap]) -> InitialFields:
    """Composition from cellularity, supply of oxygen from plasma volume, delivery of drug from Ktrans.

    composition  the cellularity map, else ``enhancement_as_cellularity``, else one value everywhere; all cells living
                 at time 0
    perfusion    plasma flow fp, else plasma volume vp, else ``enhancement_as_perfusion`` of PE and SER, else
                 uniform. Never Ktrans: oxygen crosses vessel walls freely, so a leaky and under-perfused place has
                 high Ktrans and low oxygen (project specification, imaging §9)
    delivery     kep / (kep + loss) from Ktrans and ve, else uniform
    """
    tumour = mesh.elements_of("tumour")
    cellularity, how_cellular = _cellularity(maps, tumour)
    perfusion, how_perfused = perfusion_of(maps, tumour)
    delivery, how_delivered = _delivery(maps, tumour)
    composition = np.zeros((len(mesh.tetrahedra), 6))
    composition[tumour, 0] = cellularity
    return InitialFields(
        composition,
        _everywhere(mesh, tumour, perfusion),
        _everywhere(mesh, tumour, delivery),
        (how_cellular, how_perfused, how_delivered),
        **_exchange(mesh, maps, tumour),
    )


def enhancement_as_perfusion(pe: NDArray[np.float64], ser: NDArray[np.float64]) -> NDArray[np.float64]:
    """Relative supply of blood where a three-point exam is all there is: early enhancement times wash-out.

    ASSUMED: supply is proportional to PE x SER. PE, the early enhancement, grows with the amount of agent
    brought by blood; SER follows the redistribution rate constant [Li et al. 2008, Radiology 248:79-87,
    doi 10.1148/radiol.2481070846], high where vessels are dense. Relative only: the absolute scale is set by the
    tumour's median oxygen.

    pe   percent;  ser   dimensionless
    """
    return np.asarray(np.maximum(pe, 0.0) * np.maximum(ser, 0.0))


def enhancement_as_cellularity(pe: NDArray[np.float64], ser: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cellularity where a three-point exam is all there is: 1 - ve, with ve read from late enhancement.

    PE / SER is the late enhancement, 100 (S2 - S0) / S0. ASSUMED: it is proportional to ve, as it is when exchange has
    reached its balance, Ct = ve Cp [Tofts & Kermode 1991, doi 10.1002/mrm.1910170208, for kep t >> 1], and its
    median stands for a median cellularity of CELLULARITY_WHERE_UNMEASURED. T1 before contrast is taken as uniform.

    pe   percent;  ser   dimensionless
    """
    late = np.divide(pe, ser, out=np.full_like(pe, np.nan), where=ser > 0)
    return np.asarray(1.0 - (1.0 - CELLULARITY_WHERE_UNMEASURED.value) * late / np.nanmedian(late))


def _cellularity(maps: Mapping[str, ElementMap], tumour: NDArray[np.int64]) -> tuple[NDArray[np.float64], str]:
    low, high = (limit.value for limit in CELLULARITY_LIMITS)
    if "cellularity" in maps:
        measured, words = (
            maps["cellularity"].values[tumour],
            f"Cellularity is read from its map: {maps['cellularity'].method}.",
        )
    elif "pe" in maps and "ser" in maps:
        measured = enhancement_as_cellularity(maps["pe"].values[tumour], maps["ser"].values[tumour])
        words = (
            "Cellularity is inferred from late enhancement (PE / SER) around an assumed median, since no "
            "diffusion was acquired."
        )
    else:
        return (
            np.full(len(tumour), CELLULARITY_WHERE_UNMEASURED.value),
            f"Cellularity was not measured: {CELLULARITY_WHERE_UNMEASURED.value} is assumed everywhere.",
        )
    filled, counted = _filled(measured)
    return np.clip(filled, low, high), words + counted


def perfusion_of(maps: Mapping[str, ElementMap], tumour: NDArray[np.int64]) -> tuple[NDArray[np.float64], str]:
    """(tumour,) supply of blood relative to the median, and how it was found, in words."""
    if "fp" in maps:
        supply, words = maps["fp"].values[tumour], "Oxygen is supplied in proportion to plasma flow (fp)."
    elif "vp" in maps:
        supply, words = maps["vp"].values[tumour], "Oxygen is supplied in proportion to plasma volume (vp)."
    elif "pe" in maps and "ser" in maps:
        supply = enhancement_as_perfusion(maps["pe"].values[tumour], maps["ser"].values[tumour])
        words = (
            "Oxygen is supplied in proportion to PE x SER: an assumption, since a three-point exam measures "
            "neither blood volume nor flow."
        )
    else:
        return np.ones(len(tumour)), (
            "Supply of oxygen is uniform: no map of blood volume, flow or enhancement "
            "is at hand (Ktrans is not a supply of oxygen)."
        )
    filled, counted = _filled(supply)
    return relative_to_median(filled), words + counted


def _delivery(maps: Mapping[str, ElementMap], tumour: NDArray[np.int64]) -> tuple[NDArray[np.float64], str]:
    if "ktrans" in maps and "ve" in maps:
        delivered = relative_delivery(maps["ktrans"].values[tumour], maps["ve"].values[tumour])
        filled, counted = _filled(delivered)
        words = "Drug is delivered in proportion to kep / (kep + loss), kep = Ktrans / ve."
        return relative_to_median(filled), words + counted
    return np.ones(len(tumour)), "Delivery of drug is uniform: no Ktrans was measured."


def _exchange(
    mesh: TumourMesh, maps: Mapping[str, ElementMap], tumour: NDArray[np.int64]
) -> dict[str, NDArray[np.float64]]:
    """Ktrans and ve of every element, as drugs meet them; nothing where they were not measured."""
    if "ktrans" not in maps or "ve" not in maps:
        return {}
    ktrans = np.full(len(mesh.tetrahedra), HOST_KTRANS.value)
    ve = np.full(len(mesh.tetrahedra), HOST_VE.value)
    ktrans[tumour] = np.maximum(_filled(maps["ktrans"].values[tumour])[0], 0.0)
    ve[tumour] = np.clip(_filled(maps["ve"].values[tumour])[0], LEAST_VE.value, 1.0)
    return {"ktrans": ktrans, "ve": ve}


def relative_to_median(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values over their median, within PERFUSION_LIMITS; uniform 1 if the median is not positive."""
    median = float(np.median(values))
    if median <= 0.0:
        return np.ones_like(values)
    return np.clip(values / median, PERFUSION_LIMITS[0].value, PERFUSION_LIMITS[1].value)


def _filled(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], str]:
    """Elements without a valid voxel take the median of the others; how many, in words."""
    valid = np.isfinite(values)
    if not valid.any():
        raise ModelRefused(
            "a map has no valid value in any element of the tumour",
            "a map that is measured in the tumour",
            "leave that map out, or give a mask of the part where it is valid",
        )
    words = "" if valid.all() else f" {int((~valid).sum())} of {len(valid)} elements were filled with the median."
    return np.where(valid, values, np.median(values[valid])), words


def _everywhere(mesh: TumourMesh, tumour: NDArray[np.int64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    field = np.ones(len(mesh.tetrahedra))
    field[tumour] = values
    return field


TUMOUR = TumourType(
    name="neuroblastoma",
    disease="neuroblastoma",
    body_parts=("ABDOMEN", "ADRENAL", "RETROPERITONEUM", "PELVIS", "CHEST", "ABDOMENPELVIS"),
    species="human",
    initial_fields=initial_fields,
    materials={
        "tumour": Material(TUMOUR_YOUNG.value, TUMOUR_POISSON.value),
        "host": Material(HOST_YOUNG.value, HOST_POISSON.value),
    },
    genetics={"MYCN_amp": -1, "TERT_rarngm": -1, "ATRX_inact": -1, "ALT": -1, "ALK": -1},
    histology=0,
    gradiff=0,
    parameters=(
        CELLULARITY_WHERE_UNMEASURED,
        *CELLULARITY_LIMITS,
        *PERFUSION_LIMITS,
        TUMOUR_YOUNG,
        TUMOUR_POISSON,
        HOST_YOUNG,
        HOST_POISSON,
    ),
)
