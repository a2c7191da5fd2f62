"""Defacing: the face is taken out of images of a head, and nothing of the brain or of a drawn region.

No atlas and no registration: the outer surface of the head gives the vertex, the length of the head and the brow;
what lies below an oblique plane through the brow and in front of an upright plane behind it becomes air. The idea of
a plane that shears the face off is that of Schimke and Hale 2011 (Quickshear defacing for neuroimages, USENIX
HealthSec); there the plane rests on a brain mask, here on proportions of the head, which are marked ASSUMED. What it
does not do: ears and the back of the head stay, a tilted head is not turned upright, and
surfaces or segmentations of the skin are not looked for. A head that is tilted, or
whose vertex, brow or front is not in the image, is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import FileDataset
from pydicom.uid import ExplicitVRLittleEndian
from scipy import ndimage

from ..core.errors import StudyRejected
from ..core.quantity import Parameter
from ..imaging.dicom_files import stored_pixels
from ..imaging.planes import Plane, planes_of
from ..imaging.study import Grid, ImagingStudy, LabelImage, ParametricMap, Series

Imaged = TypeVar("Imaged", Series, ParametricMap)

HEAD = {"HEAD", "BRAIN", "SKULL", "FACE", "HEADNECK", "NECK", "BRAINSTEM"}
HEAD_WORDS = HEAD | {"CRANIAL", "CRANIUM", "NEURO", "ORBIT", "ORBITS", "PONS", "DIPG", "GLIOMA", "CEREBRUM", "CEREBRAL"}
FACELESS = {"SEG", "RTSTRUCT", "RTDOSE", "RTPLAN", "REG", "SR", "RWV"}
"""Modalities of objects that are no images of the patient."""

BROW_DEPTH = Parameter(
    0.52,
    "1",
    meaning="vertex to glabella over the length of an upright head",
    source="ASSUMED: adults' vertex to nasion is near 0.56 of the length; the glabella lies a little higher",
    range=(0.45, 0.6),
    assumed=True,
)
SLOPE = Parameter(
    0.7,
    "1",
    meaning="fall of the plane for each mm to the back",
    source="ASSUMED: so that the plane takes the front of the eyes and passes below the frontal lobes",
    range=(0.5, 1.5),
    assumed=True,
)
REACH = Parameter(
    0.25,
    "1",
    meaning="how far behind the brow the face ends, over the length of the head",
    source="ASSUMED: in front of the temporal poles and of the spine",
    range=(0.15, 0.3),
    assumed=True,
)
BRIGHTNESS = Parameter(
    0.25,
    "1",
    meaning="where tissue begins between the medians of air and of tissue",
    source="ASSUMED: low enough for bone's marrow and skin, above the noise of air",
    range=(0.1, 0.5),
    assumed=True,
)
FOREHEAD = Parameter(
    12.0,
    "mm",
    meaning="most that the forehead may recede in the 39 mm above the brow",
    source="ASSUMED: an upright head's recedes 6 mm, one tilted back by 10 degrees 15 mm or more (two heads)",
    range=(9.0, 15.0),
    assumed=True,
)
NOSE = Parameter(
    6.0,
    "mm",
    meaning="least by which the nose stands out before the brow, 12 to 33 mm below it",
    source="ASSUMED: an upright head's stands out 12 mm or more; less is a head tilted forward, or none",
    range=(3.0, 10.0),
    assumed=True,
)
STEP = Parameter(
    3.0,
    "mm",
    meaning="lattice on which the surface is looked for",
    source="ASSUMED: half of what the brow's place may be wrong by",
    range=(2.0, 5.0),
    assumed=True,
)
HALF_WIDTH = Parameter(
    20.0,
    "mm",
    meaning="how far from the middle the brow is looked for",
    source="ASSUMED: half the width of the glabella and more",
    range=(10.0, 30.0),
    assumed=True,
)
AIR_HU = -1000.0
"""Hounsfield units of air (by definition of the scale)."""


@dataclass(frozen=True, eq=False)
class Face:
    """What is taken out of every image in one frame of reference: what lies before and below two planes.

    brow    (3,) mm, LPS: a point of the oblique plane, on the skin of the brow
    normal  (3,) unit vector of that plane, to the front and downwards
    reach   mm behind the brow where the second, upright plane ends the face
    """

    brow: NDArray[np.float64]
    normal: NDArray[np.float64]
    reach: float

    def covers(self, world: NDArray[np.float64], margin: float = 0.0) -> NDArray[np.bool_]:
        """True for points (…, 3) mm, LPS, that are taken out, or lie within ``margin`` mm of them."""
        from_brow = world - self.brow
        return np.asarray((from_brow @ self.normal > -margin) & (from_brow[..., 1] < self.reach + margin))


def shows_a_head(headers: Iterable[FileDataset]) -> bool:
    """True if the body part or a word of a description of any object says so."""
    for header in headers:
        stated = (header.get(name) for name in ("StudyDescription", "SeriesDescription", "ProtocolName"))
        words = " ".join(str(text or "").upper() for text in stated).replace("_", " ").replace("-", " ").split()
        if str(header.get("BodyPartExamined") or "").strip().upper() in HEAD or HEAD_WORDS & set(words):
            return True
    return False


def faces_of(study: ImagingStudy) -> dict[str, Face]:
    """The face in each frame of reference, found in the series that shows most of it.

    Raises StudyRejected where it cannot be found, or where a drawn region would lose a voxel.
    """
    faces = {}
    for frame in dict.fromkeys(one.grid.frame_uid for one in study.series):
        series = [one for one in study.series if one.grid.frame_uid == frame]
        faces[frame] = _face_in(sorted(series, key=lambda one: -np.prod(one.grid.shape) * one.grid.voxel_volume))
    if not faces:
        raise _not_found("the study holds no series of images")
    for labels in study.labels:
        _refuse_touched(labels, faces.get(labels.grid.frame_uid))
    return faces


def _face_in(series: Iterable[Series]) -> Face:
    reasons: list[str] = []
    for one in series:
        volume = one.values if one.values.ndim == 3 else one.values[0]
        found = find_face(np.asarray(volume), one.grid)
        if isinstance(found, Face):
            return found
        reasons.append(found)
    raise _not_found(reasons[0])


def find_face(volume: NDArray[np.float32], grid: Grid) -> Face | str:
    """The face in one volume (i, j, k), or why it cannot be found."""
    values, seen, upright = _on_an_upright_lattice(volume, grid)
    head = head_mask(values, seen)
    if not head.any():
        return "no head stands out from the air"
    levels = np.flatnonzero(head.any(axis=(0, 1)))
    top = int(levels[-1])
    if not seen[..., min(top + 1, head.shape[2] - 1)].any() or top + 1 >= head.shape[2]:
        return "the top of the head is not in the image"
    lengths = np.array([_extent(np.any(head[..., k], axis=0)) for k in range(top + 1)])
    longest = np.maximum.accumulate(lengths[::-1])  # from the vertex downwards
    below = np.flatnonzero(np.arange(top + 1) >= BROW_DEPTH.value * longest)
    below = below[below > 0]
    if not below.size or top - int(below[0]) < levels[0]:
        return "the brow is not in the image"
    level = top - int(below[0])
    middle = ndimage.center_of_mass(head[..., level : top + 1])[0]
    reach = HALF_WIDTH.value / STEP.value
    band = head[round(middle - reach) : round(middle + reach) + 1, :, level].any(axis=0)
    front = int(np.flatnonzero(band)[0])
    if front == 0 or not seen[round(middle), front - 1, level]:
        return "the front of the head is not in the image"
    if _is_tilted(head[round(middle - reach) : round(middle + reach) + 1], front, level):
        return "the head is tilted, or no nose stands out below the brow"
    normal = np.array([0.0, -SLOPE.value, -1.0])  # forward (minus y) and down (minus z)
    reach = REACH.value * longest[top - level] * STEP.value
    return Face(upright.world(np.array([middle, front, level])), normal / np.linalg.norm(normal), float(reach))


def head_mask(values: NDArray[np.float64], seen: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The head with everything inside it: the largest bright piece, closed and filled."""
    split = _otsu(values[seen])
    air, tissue = np.median(values[seen & (values <= split)]), np.median(values[seen & (values > split)])
    bright = ndimage.binary_opening(seen & (values > air + BRIGHTNESS.value * (tissue - air)))
    pieces, count = ndimage.label(bright)
    if not count:
        return np.zeros(values.shape, dtype=bool)
    largest = pieces == 1 + int(np.argmax(np.bincount(pieces.ravel())[1:]))
    padded = np.pad(largest, 4)
    closed = ndimage.binary_closing(padded, iterations=3)[4:-4, 4:-4, 4:-4]
    for axis in range(3):
        closed = np.stack([ndimage.binary_fill_holes(one) for one in np.moveaxis(closed, axis, 0)], axis=axis)
    return np.asarray(closed & seen)


def _is_tilted(band: NDArray[Any], front: int, level: int) -> bool:
    """True unless the forehead rises steeply from the brow and the nose stands out below it.

    band  (x, y, z) the head near its middle plane
    """

    def recession(low_mm: float, high_mm: float) -> list[float]:
        """mm from the brow to the back, at levels so far above it."""
        steps = range(round(low_mm / STEP.value), round(high_mm / STEP.value) + 1)
        rows = [np.any(band[..., level + k], axis=0) for k in steps if 0 <= level + k < band.shape[2]]
        return [(int(np.flatnonzero(row)[0]) - front) * STEP.value for row in rows if row.any()]

    forehead, nose = recession(9.0, 39.0), recession(-33.0, -12.0)
    return max(forehead, default=0.0) > FOREHEAD.value or min(nose, default=0.0) > -NOSE.value


def _extent(row: NDArray[Any]) -> int:
    """Steps from the first to the last True of a row."""
    places = np.flatnonzero(row)
    return int(places[-1] - places[0]) if places.size else 0


def _otsu(values: NDArray[np.float64]) -> float:
    """The threshold with the largest variance between both sides [Otsu 1979, doi 10.1109/TSMC.1979.4310076]."""
    counts, edges = np.histogram(values, bins=256, range=(float(values.min()), float(np.percentile(values, 99.5))))
    centres = (edges[1:] + edges[:-1]) / 2.0
    weight, moment = np.cumsum(counts), np.cumsum(counts * centres)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = (moment[-1] * weight / weight[-1] - moment) ** 2 / (weight * (weight[-1] - weight))
    return float(centres[int(np.nanargmax(np.where(np.isfinite(between), between, -1.0)))])


def _on_an_upright_lattice(
    volume: NDArray[np.float32], grid: Grid
) -> tuple[NDArray[np.float64], NDArray[np.bool_], Grid]:
    """(values, where the image reaches, lattice): resampled along left, back and head, one step of air around."""
    corners = grid.world(np.array(np.meshgrid(*[(0, n - 1) for n in grid.shape])).reshape(3, -1).T)
    step, start = STEP.value, corners.min(axis=0)
    shape = tuple(int(n) for n in np.ceil((corners.max(axis=0) - start) / step) + 1)
    affine = np.diag([step, step, step, 1.0])
    affine[:3, 3] = start
    whole = np.linalg.inv(grid.affine) @ affine
    clean = np.nan_to_num(np.asarray(volume, dtype=float), nan=float(np.nanmin(volume)))
    values = ndimage.affine_transform(clean, whole[:3, :3], whole[:3, 3], shape, order=1, mode="nearest")
    seen = ndimage.affine_transform(np.ones(grid.shape), whole[:3, :3], whole[:3, 3], shape, order=0, cval=0.0) > 0.5
    return values, seen, Grid((shape[0], shape[1], shape[2]), affine)


def _refuse_touched(labels: LabelImage, face: Face | None) -> None:
    places = np.argwhere(np.isin(labels.values, list(labels.names)))
    if face is None or not len(places):
        return
    if touched := int(face.covers(labels.grid.world(places), margin=0.1).sum()):
        raise StudyRejected(
            f"{touched} voxels of a drawn region lie in the face that would be removed",
            "regions behind the face",
            "leave --deface out and keep these images from being exported",
        )


def _not_found(reason: str) -> StudyRejected:
    return StudyRejected(
        f"no face could be found to be removed: {reason}",
        "images of a whole head, upright, with air above and in front of it",
        "deface the images before ingest and export them with --faces-handled, or leave --deface out",
    )


def deface(dataset: FileDataset, faces: Mapping[str, Face], where: str) -> int:
    """Turn the face in one image object into air, in place; returns the number of voxels.

    faces  by frame of reference (UIDs as in the object)

    Objects that are no images of the patient stay as they are. Raises FileRejected for an image that does not know
    its place, StudyRejected for one in a frame of reference without a face.
    """
    keyword = next((one for one in ("PixelData", "FloatPixelData", "DoubleFloatPixelData") if one in dataset), None)
    if keyword is None or str(dataset.get("Modality", "")) in FACELESS:
        return 0
    face = faces.get(str(dataset.get("FrameOfReferenceUID") or ""))
    if face is None:
        raise _not_found(f"{where} lies in a frame of reference of its own")
    pixels = np.array(stored_pixels(dataset, where))
    taken = 0
    for plane in planes_of(dataset, 0, where):
        inside = face.covers(_world_of(plane))
        pixels[plane.frame][inside] = _air(plane, str(dataset.Modality), pixels.dtype)
        taken += int(inside.sum())
    data = pixels.astype(pixels.dtype.newbyteorder("<" if dataset.original_encoding[1] else ">")).tobytes()
    setattr(dataset, keyword, data + b"\0" * (len(data) % 2))
    if dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    if keyword == "PixelData":
        dataset[keyword].VR = "OB" if int(dataset.BitsAllocated) <= 8 and not dataset.original_encoding[0] else "OW"
    dataset[keyword].is_undefined_length = False
    return taken


def _world_of(plane: Plane) -> NDArray[np.float64]:
    """(rows, columns, 3) mm, LPS: the centres of a plane's pixels."""
    columns, rows = (np.arange(n) * step for n, step in zip(plane.shape, plane.spacing))
    along, down = plane.orientation[:3], plane.orientation[3:]
    return np.asarray(plane.position + columns[None, :, None] * along + rows[:, None, None] * down)


def _air(plane: Plane, modality: str, kind: np.dtype[np.generic]) -> float:
    """The stored value of air: -1000 HU in CT, else 0; no number at all in a map that is stored as such."""
    if np.issubdtype(kind, np.floating):
        return float("nan")
    limits = np.iinfo(kind)  # type: ignore[type-var]
    stored = round(((AIR_HU if modality == "CT" else 0.0) - plane.intercept) / plane.slope)
    return float(min(max(stored, limits.min), limits.max))


def without_faces(study: ImagingStudy, faces: Mapping[str, Face]) -> ImagingStudy:
    """The study with zeros where faces are, a hair beyond their edge included: for comparing what must be the same."""
    return replace(
        study,
        series=tuple(_zeroed(one, faces) for one in study.series),
        maps=tuple(_zeroed(one, faces) for one in study.maps),
    )


def _zeroed(image: Imaged, faces: Mapping[str, Face]) -> Imaged:
    face = faces.get(image.grid.frame_uid)
    if face is None:
        return image
    places = np.stack(np.meshgrid(*[np.arange(n) for n in image.grid.shape], indexing="ij"), axis=-1)
    covered = face.covers(image.grid.world(places), margin=0.01)
    return replace(image, values=np.where(covered, image.values.dtype.type(0), image.values))
