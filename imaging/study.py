"""The nouns of imaging: a grid in space, a series, a label image, a parametric map, and the study of one visit.

Arrays are indexed ``[i, j, k]`` = (column, row, slice) and the affine takes (i, j, k, 1) to patient
coordinates in mm, LPS (x to the patient's left, y to the back, z to the head). A dynamic series has a
leading axis for time. Maps keep the units of the scanner and of the field, declared on each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..core.errors import StudyRejected

HARMONISED = "harmonised"
"""Code value and method of intensities that were harmonised across scanners: synthetic, never for Ktrans or ADC."""
Role = Literal["dynamic", "vfa", "diffusion", "anatomy", "map", "labels", "other"]


@dataclass(frozen=True, eq=False)
class Grid:
    """A regular, possibly oblique lattice of voxels.

    shape      (columns, rows, slices)
    affine     (4, 4) mm, LPS: voxel centre of index (i, j, k)
    frame_uid  DICOM frame of reference, empty if unknown
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]
    frame_uid: str = ""

    def __post_init__(self) -> None:
        if self.affine.shape != (4, 4) or not np.isfinite(self.affine).all():
            raise StudyRejected(
                f"affine of shape {self.affine.shape} or not finite",
                "a finite 4 x 4 matrix",
                "check the image geometry",
            )
        if abs(np.linalg.det(self.affine[:3, :3])) < 1e-9:
            raise StudyRejected(
                "voxel spacing of zero (the voxel has no volume)",
                "three positive, independent spacings",
                "check PixelSpacing and the slice positions",
            )

    @property
    def spacing(self) -> NDArray[np.float64]:
        """(3,) mm between voxel centres along i, j, k."""
        return np.asarray(np.linalg.norm(self.affine[:3, :3], axis=0))

    @property
    def voxel_volume(self) -> float:
        """mm³ of one voxel."""
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    def world(self, index: NDArray[Any]) -> NDArray[np.float64]:
        """(…, 3) voxel indices to (…, 3) mm, LPS."""
        return np.asarray(index) @ self.affine[:3, :3].T + self.affine[:3, 3]

    def index(self, world: NDArray[Any]) -> NDArray[np.float64]:
        """(…, 3) mm, LPS, to (…, 3) fractional voxel indices."""
        return (np.asarray(world) - self.affine[:3, 3]) @ np.linalg.inv(self.affine[:3, :3]).T

    def same_as(self, other: Grid, tolerance: float = 1e-3) -> bool:
        """True if both grids put every voxel within ``tolerance`` mm of each other."""
        return self.shape == other.shape and bool(np.allclose(self.affine, other.affine, atol=tolerance))


def box_words(points: NDArray[np.float64]) -> str:
    """The box around points (n, 3) in mm, for people.

    >>> box_words(np.array([[0.0, 1.0, 2.0], [5.0, -1.0, 2.4]]))
    '0 to 5 x -1 to 1 x 2 to 2 mm'
    """
    low, high = points.min(axis=0), points.max(axis=0)
    return " x ".join(f"{a:.0f} to {b:.0f}" for a, b in zip(low, high)) + " mm"


@dataclass(frozen=True)
class Finding:
    """One line of the account of a study: what was found, chosen, inferred or doubted.

    kind   found | chosen | inferred | doubted
    where  a series, file or stage; never a patient
    text   one sentence
    """

    kind: Literal["found", "chosen", "inferred", "doubted"]
    where: str
    text: str


@dataclass(frozen=True)
class Sourced:
    """An acquisition value and where it came from: tag, user, default or inferred."""

    value: Any
    origin: Literal["tag", "user", "default", "inferred"] = "tag"


@dataclass(frozen=True, eq=False)
class Series:
    """One sorted series.

    values        (i, j, k), or (t, i, j, k) for a dynamic, several-b or several-angle series; float32, physical values
    times_s       (t,) s from the first frame, for a dynamic series
    b_values      (t,) s/mm², for a diffusion series
    acquisition   tr_s, te_s, fa_deg, field_t, …; each with its origin; absent if unknown. A series of role ``vfa``
                  has the tuple of its flip angles in ``fa_deg``, ascending, one a leading index of ``values``
    uid, study_uid, instance_uids   DICOM identities (empty for NIfTI)
    """

    uid: str
    role: Role
    description: str
    modality: str
    grid: Grid
    values: NDArray[np.float32]
    times_s: NDArray[np.float64] | None = None
    b_values: NDArray[np.float64] | None = None
    acquisition: Mapping[str, Sourced] = field(default_factory=dict)
    study_uid: str = ""
    instance_uids: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class LabelImage:
    """Named regions on a grid.

    values       (i, j, k) integers, 0 = outside; values without a name are of no region
    names        label value to name (``{1: "tumour"}``)
    called       label value to the name in the file, where it is another
    description  what it was drawn on, in the words of its file
    """

    grid: Grid
    values: NDArray[np.uint8]
    names: Mapping[int, str]
    uid: str = ""
    derived_from: tuple[str, ...] = ()
    description: str = ""
    called: Mapping[int, str] = field(default_factory=dict)

    def mask(self, name: str) -> NDArray[np.bool_]:
        """(i, j, k) True inside the region of that name."""
        return np.isin(self.values, [value for value, label in self.names.items() if label == name])

    def volume(self, name: str) -> float:
        """mL inside the region of that name."""
        return float(self.mask(name).sum() * self.grid.voxel_volume / 1000.0)


@dataclass(frozen=True, eq=False)
class ParametricMap:
    """A quantity on a grid.

    name          ktrans, ve, vp, t1, adc, cellularity, pe, ser, …
    unit          pint's spelling (1/min, 1, s, mm^2/s, percent)
    values        (i, j, k) float64; NaN where invalid, never a made-up number
    quality       (i, j, k) bit flags, 0 = good (see imaging.quality)
    derived_from  UIDs (or file names, for files without) of what it was made from
    method        one phrase: how it was made
    """

    name: str
    unit: str
    grid: Grid
    values: NDArray[np.float64]
    quality: NDArray[np.uint32] | None = None
    derived_from: tuple[str, ...] = ()
    method: str = ""


@dataclass(frozen=True)
class Fractions:
    """A group of equal fractions of a plan: its number, how many are planned (None: not said), beams in each."""

    number: int
    planned: int | None
    beams: int


@dataclass(frozen=True)
class Plan:
    """A radiotherapy plan.

    groups              groups of fractions, in the order of the file
    prescription        Gy to the target over all fractions, None if not said
    beams               beams defined
    frame_uid           frame of reference
    structure_set_uid   the structure set it was planned on, "" if unknown
    """

    uid: str
    groups: tuple[Fractions, ...] = ()
    prescription: float | None = None
    beams: int = 0
    frame_uid: str = ""
    structure_set_uid: str = ""

    @property
    def fractions(self) -> int | None:
        """Fractions planned in all groups, None if a group does not say."""
        planned = [group.planned for group in self.groups if group.planned is not None]
        return sum(planned) if planned and len(planned) == len(self.groups) else None


@dataclass(frozen=True, eq=False)
class ImagingStudy:
    """What one visit holds: series, label images and supplied maps, ordered in space and time.

    uid        study instance UID (pseudonymised once ingested)
    body_part  DICOM body part, empty if unknown
    species    human, mouse, … ; empty if unknown
    day        days after the subject's day 0, if known
    findings   what was found, chosen and doubted on the way
    doses      radiotherapy doses (``dose`` in Gy), each on its own grid
    plans      radiotherapy plans
    """

    uid: str
    series: tuple[Series, ...] = ()
    labels: tuple[LabelImage, ...] = ()
    maps: tuple[ParametricMap, ...] = ()
    body_part: str = ""
    species: str = ""
    day: int | None = None
    findings: tuple[Finding, ...] = ()
    doses: tuple[ParametricMap, ...] = ()
    plans: tuple[Plan, ...] = ()

    def of_role(self, role: Role) -> tuple[Series, ...]:
        """The series of one role, in the order they were found."""
        return tuple(series for series in self.series if series.role == role)
