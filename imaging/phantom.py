"""The digital reference patient: a made-up child with an abdominal neuroblastoma or a pontine glioma, as two visits of
DICOM.

The realistic patient (the default) is no easy prey for the fitting code: tissue exchanges by two compartments, the
input function is not Parker's, flip angles err, the child breathes, signal decays with T2*, voxels mix tissues
and noise is Rician. The matched patient obeys the model that is fitted (extended Tofts, Parker's function, one
composition a voxel, hardly any noise) and exists for tests of accuracy. The second visit is a prescribed
deformation and composition. The true maps lie beside the images.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..core.errors import ConfigurationRejected
from ..core.files import folder_written_whole, write_json
from .phantom_anatomy import ABDOMEN, TUMOUR_DELAY_S, Anatomy, Child
from .phantom_head import HEAD
from .phantom_physics import FREE_WATER, HAEMATOCRIT, INSIDE_CELLS, INTEGRATION_STEP, RELAXIVITY
from .phantom_scan import (
    B_VALUES,
    DYNAMIC_FLIP_ANGLE,
    FLIP_ANGLES,
    GRADIENT_ECHO,
    Progress,
    Protocol,
    Scan,
    VisitTruth,
    input_function,
    protocol,
)

ANATOMIES: Mapping[str, Anatomy] = {one.tumour: one for one in (ABDOMEN, HEAD)}
"""The reference patients, by disease."""


@dataclass(frozen=True, eq=False)
class PhantomTruth:
    """What was written, and what is true of it: the folder, the settings of truth.json, the visits."""

    folder: Path
    settings: Mapping[str, Any]
    visits: tuple[VisitTruth, ...]


def write_phantom(
    folder: Path | str,
    *,
    tumour: str = "neuroblastoma",
    seed: int = 1,
    matched: bool = False,
    quick: bool = False,
    progress: Progress | None = None,
) -> PhantomTruth:
    """Write the digital reference patient.

    ``folder/visit-1`` and ``visit-2`` hold DICOM, a sub-folder a series; ``folder/truth`` the true maps (NIfTI) and
    truth.json. The folder must be new or empty and appears whole or not at all. Equal arguments give equal
    pixels and identities.

    matched   obey the model that is fitted, for tests of accuracy
    quick     a coarser grid, for tests of the chain

    Raises ConfigurationRejected for an unknown tumour or a folder in use, StorageFault when the disk fills.
    """
    folder = Path(folder)
    if tumour not in ANATOMIES:
        raise ConfigurationRejected(
            f"reference patient with tumour {tumour!r}", "one of " + ", ".join(ANATOMIES), "choose one of them"
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigurationRejected(
            f"output {folder.name!r} exists and is not an empty folder",
            "a new or empty folder",
            "choose another output folder",
        )
    settings = protocol(matched=matched, quick=quick)
    tell: Progress = progress or (lambda what, done: None)
    with folder_written_whole(folder) as beside:
        visits = []
        for number, child in enumerate(Child.visits(seed, ANATOMIES[tumour])):
            visits.append(Scan(number, seed, child, settings).write(beside, _part_of(tell, number, 2)))
        description = _description(tumour, seed, settings, quick, visits)
        write_json(beside / "truth" / "truth.json", description)
    tell("reference patient", 1.0)
    return PhantomTruth(folder, description, tuple(visits))


def _part_of(progress: Progress, part: int, parts: int) -> Progress:
    return lambda what, done: progress(what, (part + done) / parts)


def _description(tumour: str, seed: int, settings: Protocol, quick: bool, visits: list[VisitTruth]) -> dict[str, Any]:
    """What truth.json says."""
    blood = input_function(settings)
    return {
        "what": "digital reference patient of oncoscale: made up, no person",
        "version": __version__,
        "tumour": tumour,
        "seed": seed,
        "matched": settings.matched,
        "quick": quick,
        "model": "extended Tofts" if settings.matched else "two-compartment exchange",
        "input_function": {
            "name": "Parker 2006" if settings.matched else "gamma-variate passes with biexponential washout",
            "arrival_s": settings.arrival,
            "step_s": INTEGRATION_STEP.value,
            "blood_mmol_per_litre": [round(float(value), 6) for value in blood],
        },
        "relaxivity_per_mmol_per_s": RELAXIVITY.value,
        "haematocrit": HAEMATOCRIT.value,
        "transverse_relaxivity_per_mmol_per_s": settings.transverse,
        "tumour_delay_s": 0.0 if settings.matched else TUMOUR_DELAY_S,
        "flip_angles_deg": list(FLIP_ANGLES),
        "dynamic_flip_angle_deg": DYNAMIC_FLIP_ANGLE,
        "tr_s": GRADIENT_ECHO["tr_s"],
        "te_s": GRADIENT_ECHO["te_s"],
        "b_values_s_per_mm2": list(B_VALUES),
        "frame_times_s": settings.frame_times.tolist(),
        "snr": dict(settings.snr),
        "b1_error": settings.b1_error,
        "motion_mm": settings.motion,
        "sub_voxels": settings.parts**3,
        "adc_formula": "(1 - c) D_w / (1 + c/2) + c D_c",
        "adc_free_water_mm2_per_s": FREE_WATER.value,
        "adc_cells_mm2_per_s": INSIDE_CELLS.value,
        "visits": [
            {
                "name": f"visit-{number}",
                "day": visit.day,
                "volume_ml": visit.volume,
                "voxel_volume_ml": visit.tumour.volume("tumour"),
                "core_ml": visit.core.volume("core"),
                "dynamic_displacement_mm": visit.displacements.round(6).tolist(),
                "median_in_tumour": {
                    name: float(np.nanmedian(true_map.values[visit.tumour.mask("tumour")]))
                    for name, true_map in visit.maps.items()
                },
            }
            for number, visit in enumerate(visits, start=1)
        ],
    }
