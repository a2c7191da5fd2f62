"""Diffuse intrinsic pontine glioma: cells that wander through a child's brainstem, and their mass effect.

No sharp border: the part that T2-weighted images show is where the density passes a threshold, and density falls off
around it. The cells are gliomas' (``agents.glioma``); the tissue is brain, stretched where cells fill it. What the
segmentation draws as ``white`` is stiffer, and cells wander farther through it, along its fibres where diffusion
tensors are given. Ventricles and cisterns, ``fluid``, are soft, give way, and let no cell in; the skull lets none in
and does not move.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ...agents import glioma_kinetics
from ...core.quantity import Parameter
from ...imaging.diffusion_tensor import MOST_ANISOTROPIC
from ...meshing.mesh import TumourMesh
from .. import infiltration
from ..materials import PRESETS
from ..spread import Spread
from ..tumour_type import ElementMap, InitialFields, TumourType
from .neuroblastoma import PERFUSION_LIMITS, perfusion_of

SWANSON = "Swanson et al. 2000, doi 10.1046/j.1365-2184.2000.00177.x, high-grade glioma of adults, as quoted by others"

DIFFUSIVITY = Parameter(
    0.13, "mm^2/day", "wandering of cells through brain, mean over the directions", source=f"{SWANSON}: grey matter. "
    "ASSUMED: the pons, of fibres and nuclei, is taken as grey", range=(0.02, 0.65), assumed=True,
)  # fmt: skip
WHITE_OVER_GREY = Parameter(
    5.0, "1", "wandering of cells through white matter over that through grey, where the segmentation draws white "
    "matter", source=f"{SWANSON}. ASSUMED: what was found in adults holds in a child", range=(2.0, 10.0), assumed=True,
)  # fmt: skip
RATE = Parameter(
    glioma_kinetics.NET_GROWTH.value, "1/day", "net growth at low density, by which the density at time 0 is shaped",
    source=glioma_kinetics.NET_GROWTH.source, range=glioma_kinetics.NET_GROWTH.range,
)  # fmt: skip
VISIBLE = Parameter(
    0.16, "1", "density at the edge of what T2-weighted images show",
    source="ASSUMED: the threshold used by Swanson's group for T2 (0.8 for enhancement); not read for this project",
    range=(0.02, 0.5), assumed=True,
)  # fmt: skip
SWELLING = Parameter(
    0.15, "1", "ln of the stretch of brain that fills with cells",
    source="danielabler/glimslib, commit 7667df9, its test (project specification, tissue §3.5)", range=(0.0, 0.3),
    assumed=True,
)  # fmt: skip
ALPHA = Parameter(
    0.043, "1/Gy", "linear sensitivity of the tumour's cells", source="calibrated: a week after 54 Gy in 30 fractions "
    "a ball of 30 mL has 0.79, 0.63 and 0.53 of its volume with 0.03, 0.04 and 0.05 by the mean field of the cells "
    "(benchmarks/validation/dipg_kinetics.py), and 0.6 in between, as the solid part of 22 tumours had (doi "
    "10.1016/j.ijrobp.2017.04.007). Of the order that Rockne et al. 2010, doi 10.1088/0031-9155/55/12/001, find in "
    "glioblastoma by a model of this kind (abstract read, no value); 0.12 comes of outcomes (Pedicini et al. 2014)",
    range=(0.005, 0.14), assumed=True,
)  # fmt: skip
ALPHA_BETA = Parameter(
    10.0, "Gy", "dose at which the linear and the quadratic part kill alike", source="8 (5 to 10.8) in glioblastoma "
    "(Pedicini et al. 2014, abstract); 10 as is usual in models of this kind", range=(5.0, 10.8), assumed=True,
)  # fmt: skip

CLOSED = ("fluid", "ventricles", "skull", "spine", "bone")
"""Regions that no cell enters."""

WANDERING = {
    "host": DIFFUSIVITY.value,
    "white": WHITE_OVER_GREY.value * DIFFUSIVITY.value,
    **dict.fromkeys(CLOSED, 0.0),
}
"""mm²/day by region."""


def initial_fields(mesh: TumourMesh, maps: Mapping[str, ElementMap]) -> InitialFields:
    """Density from the outline alone; supply of oxygen from plasma flow or volume; no delivery of drug.

    composition  the density of a front that travels with growth and wandering, placed so that it is ``visible`` at the
                 outline of the segmentation (Ablowitz and Zeppetella 1979); all cells living at time 0. ASSUMED: maps
                 of diffusion say nothing of density here, since oedema and fibres shape them as well
    perfusion    plasma flow fp, else plasma volume vp, else PE and SER, else uniform, in the visible tumour
    delivery     uniform: the barrier between blood and brain is largely intact in this disease
    """
    tumour = mesh.elements_of("tumour")
    perfusion = np.ones(len(mesh.tetrahedra))
    perfusion[tumour], how_perfused = perfusion_of(maps, tumour)
    return InitialFields(
        np.zeros((len(mesh.tetrahedra), 6)),
        perfusion,
        np.ones(len(mesh.tetrahedra)),
        (
            f"Density is {VISIBLE.value:g} at the outline and falls off around it: cells are assumed beyond what the "
            "images show.",
            how_perfused,
        ),
    )


TUMOUR = TumourType(
    name="dipg",
    disease="diffuse intrinsic pontine glioma",
    body_parts=("BRAIN", "HEAD", "BRAINSTEM", "PONS", "HEADNECK"),
    species="human",
    initial_fields=initial_fields,
    materials={
        **dict.fromkeys(("tumour", "host"), PRESETS["brain"].material),
        **{name: PRESETS[name].material for name in ("white", "fluid")},
    },
    genetics={},
    histology=0,
    gradiff=0,
    parameters=(
        DIFFUSIVITY, WHITE_OVER_GREY, MOST_ANISOTROPIC, *infiltration.PARAMETERS,
        RATE, VISIBLE, SWELLING, ALPHA, ALPHA_BETA, *glioma_kinetics.PARAMETERS,
        *PRESETS["brain"].parameters, PRESETS["white"].young, *PRESETS["fluid"].parameters, *PERFUSION_LIMITS,
    ),
    cells="glioma",
    kinds=("glioma cells", "other cells"),
    spread=Spread(WANDERING, RATE.value, VISIBLE.value, SWELLING.value),
    radiosensitivity=(ALPHA, ALPHA_BETA),
)  # fmt: skip
