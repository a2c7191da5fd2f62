"""The head of a reference child with a diffuse intrinsic pontine glioma: another value of ``phantom_anatomy.Anatomy``.

Scalp, skull with its base, brain with white matter, fluid spaces, cerebellum, brainstem and the large vessels as
ellipsoids and tubes around a tumour of the pons. Positions are mm, LPS. Nothing here comes from a person. ASSUMED as a
whole: sizes of the order of a six-year-old's; the carotids and the basilar artery are drawn wide, so that voxels of
2 mm hold blood alone; the tumour lies before the fourth ventricle and has flattened it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..core.quantity import Parameter
from .phantom_anatomy import Anatomy, Child, Parts, Tissue, ellipsoid, tube
from .phantom_physics import HAEMATOCRIT, Array

VOLUME = Parameter(
    30.0, "mL", meaning="tumour at diagnosis", source="ASSUMED: a usual size of a pontine glioma", range=(10.0, 60.0),
    assumed=True,
)  # fmt: skip
VOLUME_LEFT = Parameter(
    0.8, "1", meaning="share of the volume left after four of six weeks of radiotherapy",
    source="ASSUMED: on the way to the decrease of solid volume of 40 % after it, doi 10.1016/j.ijrobp.2017.04.007",
    range=(0.5, 1.0), assumed=True,
)  # fmt: skip

CENTRE = np.array([0.0, 8.0, -12.0])
CLIVUS = np.array([0.0, -1.0, 0.0])
"""Direction of the bone in front of the pons, against which the tumour is flat."""


def _head(points: Array, material: Array, fat: NDArray[np.bool_]) -> Parts:
    """From the skin inwards; the brain and its fluid spaces are carried by the deformation."""
    skull = np.sqrt(ellipsoid(points, (0.0, 8.0, 12.0), (71.0, 88.0, 80.0)))
    neck = np.sqrt((points[:, 0] / 48.0) ** 2 + ((points[:, 1] - 18.0) / 52.0) ** 2)
    face = (points[:, 1] < -30.0) & (points[:, 2] < -8.0)
    below = points[:, 2] < -44.0
    cerebellum = ellipsoid(material, (0.0, 42.0, -22.0), (46.0, 24.0, 22.0))
    stem = ((material[:, 0] / 13.0) ** 2 + ((material[:, 1] - 10.0) / 12.0) ** 2 < 1.0) & (material[:, 2] < 14.0)
    return [
        (Tissue.FAT, (skull < 1.0) | ((neck < 1.0) & below)),
        (Tissue.MUSCLE, (neck < 0.92) & below),
        (Tissue.MARROW, skull < 0.95),
        (Tissue.CANAL, skull < 0.88),
        (Tissue.BRAIN, skull < 0.85),
        (Tissue.SOFT, face & (skull < 0.95)),
        (Tissue.FAT, face & fat & (skull < 0.95)),
        (Tissue.WHITE, _white(material) & (skull < 0.62)),
        (Tissue.CANAL, (cerebellum < 1.15) | _cistern(material)),
        (Tissue.BRAIN, (cerebellum < 1.0) | stem),
        (Tissue.WHITE, _peduncles(material)),
        (Tissue.CANAL, _ventricles(material)),
        (Tissue.MARROW, _petrous(points) & (skull < 0.95)),
    ]


def _mirrored(points: Array) -> Array:
    """The points, all on the left side."""
    return np.abs(points) * [1, 0, 0] + points * [0, 1, 1]


def _white(material: Array) -> NDArray[np.bool_]:
    """Centre of the hemispheres above the tentorium, around the grey nuclei beside the third ventricle."""
    hemispheres = material[:, 2] > 12.0
    return np.asarray(hemispheres & (ellipsoid(material, (0.0, 6.0, 22.0), (22.0, 26.0, 14.0)) >= 1.0))


def _peduncles(material: Array) -> NDArray[np.bool_]:
    """Tracts of the pons: middle peduncles to the centre of the cerebellum, pyramidal tracts to the hemispheres."""
    side = _mirrored(material)
    return np.asarray(
        (tube(side, (12.0, 12.0, -14.0), (24.0, 36.0, -20.0), 7.5) < 1.0)
        | (ellipsoid(side, (24.0, 42.0, -21.0), (14.0, 12.0, 10.0)) < 1.0)
        | (tube(side, (8.0, 4.0, 6.0), (24.0, 2.0, 40.0), 6.0) < 1.0)
    )


def _cistern(material: Array) -> NDArray[np.bool_]:
    """Fluid before the pons."""
    return np.asarray(ellipsoid(material, (0.0, -10.0, -8.0), (16.0, 6.0, 22.0)) < 1.0)


def _ventricles(material: Array) -> NDArray[np.bool_]:
    """Fourth, third and lateral ventricles."""
    return np.asarray(
        (ellipsoid(material, (0.0, 30.0, -14.0), (9.0, 5.5, 13.0)) < 1.0)
        | (ellipsoid(material, (0.0, 2.0, 22.0), (3.0, 14.0, 8.0)) < 1.0)
        | (ellipsoid(_mirrored(material), (14.0, 10.0, 34.0), (6.0, 24.0, 7.0)) < 1.0)
    )


def _petrous(points: Array) -> NDArray[np.bool_]:
    """Pyramids of the base of the skull, between the temporal lobes and the cerebellum."""
    return np.asarray(tube(_mirrored(points), (20.0, -18.0, -26.0), (60.0, 12.0, -26.0), 6.0) < 1.0)


def _drawn(tissue: NDArray[np.int8], material: Array) -> dict[str, NDArray[np.bool_]]:
    """What is outlined beside the tumour. The film of fluid around the brain is thinner than voxels and is left out."""
    return {
        "fluid": (tissue == Tissue.CANAL) & (_cistern(material) | _ventricles(material)),
        "white": tissue == Tissue.WHITE,
        "skull": tissue == Tissue.MARROW,
    }


def _vessels(points: Array) -> Parts:
    x, y, z = points.T
    clivus = (np.abs(x) < 13.0) & (np.abs(y + 22.0 + 0.25 * z) < 4.0) & (z < 4.0) & (z > -44.0)
    carotids = (np.abs(x) - 16.0) ** 2 + (y + 14.0) ** 2
    basilar = x**2 + (y + 14.5) ** 2
    vault = 8.0 + 76.0 * np.sqrt(np.maximum(1.0 - ((z - 12.0) / 69.0) ** 2, 0.0))
    sinus = (x / 5.0) ** 2 + ((y - vault) / 4.0) ** 2 + (z < -30.0)
    return [
        (Tissue.MARROW, clivus),
        (Tissue.AORTA, (carotids < 3.5**2) & (z < 12.0)),
        (Tissue.AORTA, (basilar < 2.5**2) & (z > -34.0) & (z < 6.0)),
        (Tissue.CAVA, sinus < 1.0),
    ]


def _glioma(child: Child, where: Array) -> dict[str, Array]:
    """Volume fractions and kinetics at material points; cells + ve + blood stay below 1.

    ASSUMED as a whole: cells denser inside than at the rim, much water between them, vessels nearly as tight as
    healthy brain's, no necrotic core at diagnosis; in treatment fewer cells, more blood and a leak here and there.
    """
    treated = child.shrinkage is not None
    away = where - child.surface.centre
    distance = np.sqrt((away**2).sum(axis=1))
    depth = 1.0 - distance / child.surface.radius(away / np.maximum(distance, 1e-9)[:, None])
    flow = child.field("flow", 12.0, where)
    leak = child.field("leak", 7.0, where)
    necrosis = 0.35 / (1 + np.exp((0.75 - depth) / 0.05)) if treated else np.zeros(len(where))
    fp = (0.45 if treated else 0.30) * np.exp(0.30 * flow)
    ps = (0.020 if treated else 0.010) * np.exp(0.60 * leak)
    vp = (0.040 if treated else 0.028) * np.exp(0.30 * flow)
    blood = vp / (1 - HAEMATOCRIT.value)
    dense = (0.40 + 0.22 * np.clip(depth, 0.0, 1.0) + 0.04 * child.field("cells", 9.0, where)) * (1 - necrosis)
    cellularity = np.minimum(dense * (0.8 if treated else 1.0), 0.90 - blood)
    ve = 0.80 * (1 - cellularity - blood)
    return {"fp": fp, "ps": ps, "ve": ve, "vp": vp, "cellularity": cellularity, "necrosis": necrosis}


HEAD = Anatomy(
    tumour="dipg",
    volume=VOLUME,
    volume_left=VOLUME_LEFT,
    centre=CENTRE,
    flat_side=CLIVUS,
    field_centre=np.array([0.0, 10.0, -8.0]),
    behind=_head,
    before=_vessels,
    compose=_glioma,
    study={
        "PatientName": "REFERENCE^PONTINE",
        "PatientID": "REFERENCE-PONTINE",
        "PatientBirthDate": "20171103",
        "PatientSex": "M",
        "PatientAge": "006Y",
        "PatientSize": 1.16,
        "PatientWeight": 21.0,
        "StudyDescription": "MR head, reference patient",
        "BodyPartExamined": "BRAIN",
    },
    drawn=_drawn,
)
"""A child's head with a pontine glioma."""
