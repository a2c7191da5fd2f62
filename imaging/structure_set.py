"""Structure sets (DICOM RTSTRUCT): regions drawn as contours, one slice at a time, become masks on a grid.

    contours in mm -> fractional pixels of the images they were drawn on -> even-odd fill at pixel centres

All contours of a region on one slice are filled together: a contour inside another is a hole, one inside the hole
an island, as the standard has it (DICOM PS3.3 C.8.8.6, CLOSED_PLANAR). What no mask can hold (points, open lines,
contours beyond the images) is left out and said; a region none of which can be held is refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from ..core.errors import FileRejected, SegmentationRejected, StudyRejected
from ..core.quantity import Parameter
from .dicom_files import LARGEST_FILE, reading
from .geometry import group_heights, slice_distance_with_gaps
from .planes import number
from .region_names import region_name
from .study import Finding, Grid, LabelImage

AREAS = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
"""Contours that enclose an area; the others (POINT, OPEN_PLANAR, OPEN_NONPLANAR) enclose none."""

FARTHEST_POINT = Parameter(
    1e5,
    "mm",
    "a contour's point farther than this from the origin is damage",
    source="a hundred metres: no scanner's coordinates reach it",
    range=(1e4, 1e6),
    assumed=True,
)
MOST_TILT = Parameter(
    0.5,
    "1",
    "largest extent of a contour along the normal, in slice distances: beyond it the contour is not parallel to the "
    "slices",
    source="project specification, imaging §1.4: drawn points lie within 0.0006 mm of their plane; half a slice is "
    "the most that still names one slice",
    range=(0.1, 1),
    assumed=True,
)
OFF_PLANE = Parameter(
    0.1,
    "1",
    "distance from the plane of its slice, in slice distances, from which a contour is drawn between slices",
    source="project specification, imaging §1.4: drawn points lie within 0.0006 mm of their plane",
    range=(0.01, 0.5),
    assumed=True,
)
VOLUME_DOUBT = Parameter(
    0.05,
    "1",
    "difference of a mask's volume from that of its contours, above which it is doubted",
    source="project specification, imaging §15 I9: 0.1 % for regions of 300 mL and more; small ones have fewer voxels",
    range=(0.01, 0.2),
    assumed=True,
)
CONTOUR_PIXELS = Parameter(
    256,
    "1",
    "pixels along the longest side of a region whose grid is made from its contours alone",
    source="the matrix of an ordinary image",
    range=(64, 512),
    assumed=True,
)
_EDGES_AT_ONCE = 4096
_LARGEST_ROI_COUNT = 1000


@dataclass(frozen=True, eq=False)
class Contour:
    """One closed planar contour.

    points     (n, 3) mm, LPS; the last joins the first, no two neighbours are equal
    image_uid  SOP Instance UID of the image it was drawn on, "" if unknown
    """

    points: NDArray[np.float64]
    image_uid: str = ""


@dataclass(frozen=True, eq=False)
class Roi:
    """A region of interest as drawn.

    number, name  as in the file; a nameless region is called by its number
    kind          RT ROI Interpreted Type (GTV, ORGAN, EXTERNAL, …), "" if absent
    frame_uid     frame of reference of its points
    contours      those that enclose an area
    left_out      what was there and encloses none: kind to count
    """

    number: int
    name: str
    kind: str = ""
    frame_uid: str = ""
    contours: tuple[Contour, ...] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class StructureSet:
    """The regions of a structure set and what they were drawn on.

    uid          SOP Instance UID
    rois         in the order of the file
    frame_uids   frames of reference that it names
    series_uids  series that it names
    image_uids   images that it names, those of single contours included
    """

    uid: str
    rois: tuple[Roi, ...]
    frame_uids: frozenset[str] = frozenset()
    series_uids: frozenset[str] = frozenset()
    image_uids: frozenset[str] = frozenset()
    description: str = ""


@dataclass(frozen=True, eq=False)
class DrawnOn:
    """A stack of images that contours may have been drawn on.

    name        what to call it in a finding
    image_uids  SOP Instance UIDs of its classic images; one each slice, slice by slice, for each volume in turn
    """

    name: str
    grid: Grid
    series_uid: str = ""
    image_uids: tuple[str, ...] = ()

    @property
    def slices(self) -> dict[str, int]:
        """Image to slice; empty where images hold several slices or parts of the stack are missing."""
        depth = self.grid.shape[2]
        return {} if len(self.image_uids) % depth else {uid: at % depth for at, uid in enumerate(self.image_uids)}


# ------------------------------------------------------------------------------------------------------ from the file


def read_structure_set(dataset: Dataset, where: str) -> StructureSet:
    """The regions of a DICOM structure set.

    where  what is being read, in words that identify nobody

    Raises FileRejected for contours that are damaged: coordinates that are no triplets of finite numbers, fewer
    points than declared, a region that is not declared or declared twice.
    """
    with reading(where):
        items = list(dataset.get("StructureSetROISequence") or [])
        declared = {_roi_number(item.get("ROINumber"), where): item for item in items}
        if not items or len(declared) < len(items) or len(items) > _LARGEST_ROI_COUNT:
            raise FileRejected(
                f"{where} declares {len(items)} regions under {len(declared)} numbers",
                f"1 to {_LARGEST_ROI_COUNT} regions, each with a number of its own",
                "export the structure set again",
            )
        drawn: dict[int, list[Dataset]] = {at: [] for at in declared}
        for item in dataset.get("ROIContourSequence") or []:
            at = _roi_number(item.get("ReferencedROINumber"), where)
            if at not in drawn:
                raise FileRejected(
                    f"{where} holds contours of region {at}, which it does not declare",
                    "a declaration of every region",
                    "export the structure set again",
                )
            drawn[at] += list(item.get("ContourSequence") or [])
        kinds = {
            number(item.get("ReferencedROINumber")): str(item.get("RTROIInterpretedType") or "")
            for item in dataset.get("RTROIObservationsSequence") or []
        }
        rois = [_roi(item, at, kinds.get(at, ""), drawn[at], where) for at, item in declared.items()]
        frames, series, images = _references(dataset)
    return StructureSet(
        uid=str(dataset.get("SOPInstanceUID") or ""),
        rois=tuple(rois),
        frame_uids=frames | {roi.frame_uid for roi in rois if roi.frame_uid},
        series_uids=series,
        image_uids=images | {contour.image_uid for roi in rois for contour in roi.contours if contour.image_uid},
        description=str(dataset.get("SeriesDescription") or dataset.get("StructureSetLabel") or ""),
    )


def _roi_number(value: Any, where: str) -> int:
    found = number(value)
    if found is None or found != int(found):
        raise FileRejected(f"{where} has a region without a number", "a whole number for every region", "export again")
    return int(found)


def _roi(item: Dataset, at: int, kind: str, drawn: Sequence[Dataset], where: str) -> Roi:
    contours, left_out = [], Counter[str]()
    for entry in drawn:
        shape = str(entry.get("ContourGeometricType") or "unknown")
        points = _points(entry, f"{where}, region {at}")
        if shape not in AREAS:
            left_out[shape] += 1
        elif len(points) < 3:
            left_out["of fewer than three points"] += 1
        else:
            images = entry.get("ContourImageSequence") or []
            uid = str(images[0].get("ReferencedSOPInstanceUID") or "") if len(images) == 1 else ""
            contours.append(Contour(points, uid))
    name = str(item.get("ROIName") or "").strip() or f"ROI {at}"
    frame = str(item.get("ReferencedFrameOfReferenceUID") or "")
    return Roi(at, name, kind, frame, tuple(contours), dict(left_out))


def _points(entry: Dataset, where: str) -> NDArray[np.float64]:
    """(n, 3) mm of one contour, repeated neighbours dropped. Raises FileRejected."""
    stored = entry.get("ContourData")
    values = np.atleast_1d(np.array(stored if stored is not None else [], dtype=np.float64))
    declared = number(entry.get("NumberOfContourPoints"))
    if len(values) % 3 or (declared is not None and 3 * declared != len(values)):
        raise FileRejected(
            f"{where} has a contour of {len(values)} coordinates"
            + ("" if declared is None else f", declared as {declared:g} points"),
            "three coordinates for each declared point",
            "the file is damaged or truncated: export the structure set again",
        )
    if not (np.abs(values) <= FARTHEST_POINT.value).all():
        raise FileRejected(
            f"{where} has a contour with coordinates that are not finite or beyond {FARTHEST_POINT.value:g} mm",
            "coordinates in mm of a point in the patient",
            "export the structure set again",
        )
    points = values.reshape(-1, 3)
    return np.asarray(points[(points != np.roll(points, 1, axis=0)).any(axis=1)])


def _references(dataset: Dataset) -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
    """(frames of reference, series, images) that the structure set names beside its contours."""
    frames, series, images = set(), set(), set()
    for frame in dataset.get("ReferencedFrameOfReferenceSequence") or []:
        frames.add(str(frame.get("FrameOfReferenceUID") or ""))
        for study in frame.get("RTReferencedStudySequence") or []:
            for one in study.get("RTReferencedSeriesSequence") or []:
                series.add(str(one.get("SeriesInstanceUID") or ""))
                images |= {str(i.get("ReferencedSOPInstanceUID") or "") for i in one.get("ContourImageSequence") or []}
    return frozenset(frames - {""}), frozenset(series - {""}), frozenset(images - {""})


# ---------------------------------------------------------------------------------------------------- what it lies on


def stack_of(structures: StructureSet, stacks: Sequence[DrawnOn]) -> DrawnOn | None:
    """The stack that the structure set was drawn on: that which holds most of the images it names, else a series
    that it names, else one in its frame of reference. None if there is none."""
    named = [len(structures.image_uids.intersection(stack.image_uids)) for stack in stacks]
    if any(named):
        return stacks[int(np.argmax(named))]
    by_series = [stack for stack in stacks if stack.series_uid in structures.series_uids]
    by_frame = [stack for stack in stacks if stack.grid.frame_uid in structures.frame_uids]
    return next(iter(by_series or by_frame), None)


def grid_of_contours(roi: Roi) -> Grid:
    """A grid for a region whose images are not at hand: slices where its contours lie, pixels of our choice.

    The normal is that of the contours' planes (Newell's sum of cross products), the slice distance the smallest
    that all planes agree with, the pixels CONTOUR_PIXELS along the longest side; the columns run as close to
    patient left (or, for sagittal planes, back) as the planes allow. One slice and two pixels are added all round.

    Raises SegmentationRejected when the contours lie on one plane only or on no even stack of planes.
    """
    _check_drawn(roi)
    normal = _normal(roi)
    axis = np.eye(3)[0 if abs(normal[0]) < 0.9 else 1]
    across = axis - (axis @ normal) * normal
    across /= np.linalg.norm(across)
    down = np.cross(normal, across)
    heights, _ = group_heights(np.array([contour.points.mean(axis=0) @ normal for contour in roi.contours]))
    if len(heights) < 2:
        raise SegmentationRejected(
            f"the contours of {roi.name!r} lie on one plane, and the images they were drawn on are not there",
            "the images, or contours on several planes: one plane has no thickness",
            "put the images beside the structure set",
        )
    try:
        step = slice_distance_with_gaps(heights, None, "the structure set")
    except StudyRejected as uneven:
        raise SegmentationRejected(
            f"the contours of {roi.name!r} lie on unevenly spaced planes, and the images are not there",
            "the images they were drawn on",
            "put the images beside the structure set",
        ) from uneven
    flat = np.concatenate([contour.points for contour in roi.contours]) @ np.stack([across, down], axis=1)
    low, high = flat.min(axis=0), flat.max(axis=0)
    pixel = float((high - low).max() / CONTOUR_PIXELS.value)
    if pixel <= 0:
        raise SegmentationRejected(f"the contours of {roi.name!r} enclose no area", "closed contours", "draw it again")
    columns, rows = (int(n) for n in np.ceil((high - low) / pixel) + 5)
    slices = round((heights[-1] - heights[0]) / step) + 3
    if columns * rows * slices > LARGEST_FILE.value * (1 << 20) / 8:
        raise SegmentationRejected(
            f"the contours of {roi.name!r} span {slices} planes of {step:.3g} mm",
            "an ordinary stack of slices",
            "put the images beside the structure set",
        )
    affine = np.eye(4)
    affine[:3, :3] = np.stack([across * pixel, down * pixel, normal * step], axis=1)
    affine[:3, 3] = across * (low[0] - 2 * pixel) + down * (low[1] - 2 * pixel) + normal * (heights[0] - step)
    return Grid((columns, rows, slices), affine, roi.frame_uid)


def _normal(roi: Roi) -> NDArray[np.float64]:
    """Unit normal of the planes of the contours, towards the head (or else left, or else back)."""
    areas = [_area_vector(contour.points) for contour in roi.contours]
    largest = areas[int(np.argmax(np.linalg.norm(areas, axis=1)))]
    total = np.sum([area if area @ largest >= 0 else -area for area in areas], axis=0)
    length = float(np.linalg.norm(total))
    if length <= 0:
        raise SegmentationRejected(f"the contours of {roi.name!r} enclose no area", "closed contours", "draw it again")
    sign = np.sign(total[np.argmax(np.abs(total))])
    return np.asarray(sign * total / length)


def _area_vector(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """(3,) mm², normal to the polygon and as long as its area: half the sum of p x q over its edges (Newell)."""
    centred = points - points.mean(axis=0)
    return np.asarray(0.5 * np.cross(centred, np.roll(centred, -1, axis=0)).sum(axis=0))


# --------------------------------------------------------------------------------------------------------------- fill


def filled(polygons: Sequence[NDArray[np.float64]], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """(columns, rows) True where the centre of a pixel lies inside an odd number of polygons.

    polygons  (n, 2) fractional column and row of the corners; they may leave the image

    Along each row of centres every crossing of an edge switches all pixels to its right, so holes, islands and
    overlaps follow by themselves. A centre on an edge belongs to the pixel's left or upper side alone: polygons
    that share an edge share no pixel.
    """
    switches = np.zeros((shape[0] + 1, shape[1]), dtype=np.int64)
    for polygon in polygons:
        ends = np.roll(polygon, -1, axis=0)
        for begin in range(0, len(polygon), _EDGES_AT_ONCE):
            columns, rows = _crossings(
                polygon[begin : begin + _EDGES_AT_ONCE], ends[begin : begin + _EDGES_AT_ONCE], shape[1]
            )
            np.add.at(switches, (np.ceil(np.clip(columns, 0, shape[0])).astype(np.int64), rows), 1)
    return np.asarray(np.cumsum(switches[:-1], axis=0) % 2 == 1)


def _crossings(
    starts: NDArray[np.float64], ends: NDArray[np.float64], rows: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """(column, row) of every crossing of an edge with the centre line of a row."""
    upper, lower = np.minimum(starts[:, 1], ends[:, 1]), np.maximum(starts[:, 1], ends[:, 1])
    first = np.clip(np.ceil(upper), 0, rows).astype(np.int64)
    counts = np.maximum(np.clip(np.ceil(lower), 0, rows).astype(np.int64) - first, 0)
    edge = np.repeat(np.arange(len(starts)), counts)
    row = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + first[edge]
    along = (row - starts[edge, 1]) / (ends[edge, 1] - starts[edge, 1])
    return starts[edge, 0] + along * (ends[edge, 0] - starts[edge, 0]), row


@dataclass(frozen=True, eq=False)
class DrawnRegion:
    """A region as voxels.

    mask            (i, j, k)
    polygon_volume  mL: area of the contours (holes subtracted) times the slice distance
    findings        what was left out or doubted
    """

    mask: NDArray[np.bool_]
    polygon_volume: float
    findings: tuple[Finding, ...] = ()


def rasterise(roi: Roi, stack: DrawnOn, where: str) -> DrawnRegion:
    """A region on the grid of the images it was drawn on.

    Each contour goes to the slice of the image that it names, where that agrees with its position, else to the
    nearest slice. Raises SegmentationRejected when no contour encloses an area, none lies on the images, they are
    not parallel to the slices, or no pixel's centre lies inside.
    """
    grid, doubts = stack.grid, [f"{count} contours {kind} left out" for kind, count in sorted(roi.left_out.items())]
    _check_drawn(roi)
    if roi.frame_uid and grid.frame_uid and roi.frame_uid != grid.frame_uid:
        doubts.append("its frame of reference is not that of the images: positions are compared as they stand")
    polygons = [grid.index(contour.points) for contour in roi.contours]
    slices, more = _slices(roi, polygons, stack)
    mask = np.zeros(grid.shape, dtype=bool)
    area = 0.0
    for k in np.unique(slices[slices >= 0]):
        here = [polygons[at][:, :2] for at in np.flatnonzero(slices == k)]
        mask[:, :, k] = filled(here, grid.shape[:2])
        area += even_odd_area(here)
    doubts += more + _beyond_edges(polygons, slices, grid)
    if not mask.any():
        raise SegmentationRejected(
            f"the region {roi.name!r} has no voxel on {stack.name}: it lies outside, or between the pixels",
            "contours on the images they were drawn on",
            "give the images that the structure set names",
        )
    volume = area * grid.voxel_volume / 1000.0
    doubts += _gaps(slices) + _volume_doubt(float(mask.sum() * grid.voxel_volume / 1000.0), volume)
    return DrawnRegion(mask, volume, tuple(Finding("doubted", where, f"{roi.name}: {doubt}") for doubt in doubts))


def even_odd_area(polygons: Sequence[NDArray[np.float64]]) -> float:
    """Area inside an odd number of polygons that do not cross each other, in the square of their unit."""
    total = 0.0
    for at, polygon in enumerate(polygons):
        depth = sum(_contains(other, polygon[0]) for place, other in enumerate(polygons) if place != at)
        total += (-1) ** depth * _area(polygon)
    return total


def _area(polygon: NDArray[np.float64]) -> float:
    centred = polygon - polygon.mean(axis=0)
    following = np.roll(centred, -1, axis=0)
    return float(abs((centred[:, 0] * following[:, 1] - centred[:, 1] * following[:, 0]).sum()) / 2)


def _contains(polygon: NDArray[np.float64], point: NDArray[np.float64]) -> bool:
    """True if a ray from the point crosses the polygon an odd number of times."""
    starts, ends = polygon - point, np.roll(polygon, -1, axis=0) - point
    crossed = (starts[:, 1] <= 0) != (ends[:, 1] <= 0)
    starts, ends = starts[crossed], ends[crossed]
    right = starts[:, 0] - starts[:, 1] * (ends[:, 0] - starts[:, 0]) / (ends[:, 1] - starts[:, 1]) > 0
    return bool(right.sum() % 2)


def _check_drawn(roi: Roi) -> None:
    if not roi.contours:
        others = "".join(f"; {count} contours {kind}" for kind, count in sorted(roi.left_out.items()))
        raise SegmentationRejected(
            f"the region {roi.name!r} is empty: no closed contour{others}",
            "at least one closed planar contour",
            "draw the region, or choose another",
        )


def _slices(roi: Roi, polygons: Sequence[NDArray[np.float64]], stack: DrawnOn) -> tuple[NDArray[np.int64], list[str]]:
    """(contours,) slice of each, -1 for those that are left out, and what is doubted about them."""
    depths = [polygon[:, 2] for polygon in polygons]
    tilt = max(float(np.ptp(depth)) for depth in depths)
    if tilt > MOST_TILT.value:
        raise SegmentationRejected(
            f"a contour of {roi.name!r} runs through {tilt:.2g} slices of {stack.name}",
            "contours parallel to the slices of the images",
            "give the images that the region was drawn on",
        )
    heights = np.array([depth.mean() for depth in depths])
    nearest = np.rint(heights).astype(np.int64)
    named = [stack.slices.get(contour.image_uid, -1) for contour in roi.contours]
    agrees = (np.array(named) >= 0) & (np.abs(heights - named) <= 0.5)
    slices = np.where(agrees, named, nearest)
    doubts = []
    contradicted = int(((np.array(named) >= 0) & ~agrees).sum())
    if contradicted:
        doubts.append(f"{contradicted} contours lie off the image that they name: placed by their position")
    outside = (slices < 0) | (slices >= stack.grid.shape[2])
    if outside.any():
        doubts.append(f"{outside.sum()} of {len(slices)} contours lie beyond the slices of {stack.name}: left out")
    slices[outside] = -1
    return _nearest_of_each(slices, heights, doubts), doubts


def _nearest_of_each(slices: NDArray[np.int64], heights: NDArray[np.float64], doubts: list[str]) -> NDArray[np.int64]:
    """The slices with only the plane of contours that is nearest to each: two planes must not be filled as one."""
    off = np.abs(heights - slices)
    kept = slices.copy()
    for k in np.unique(slices[slices >= 0]):
        here = np.flatnonzero(slices == k)
        nearest = heights[here[np.argmin(off[here])]]
        kept[here[np.abs(heights[here] - nearest) > OFF_PLANE.value]] = -1
    dropped = int(((slices >= 0) & (kept < 0)).sum())
    if dropped:
        doubts.append(f"{dropped} contours lie between slices that have a nearer one: left out")
    between = (kept >= 0) & (off > OFF_PLANE.value)
    if between.any():
        doubts.append(f"{between.sum()} contours lie up to {off[between].max():.2g} slices off: put on the nearest")
    return kept


def _beyond_edges(polygons: Sequence[NDArray[np.float64]], slices: NDArray[np.int64], grid: Grid) -> list[str]:
    """Contours that leave the image sideways: the part inside is kept."""
    limits = np.array(grid.shape[:2]) - 0.5
    leave = sum(
        bool((polygon[:, :2] < -0.5).any() or (polygon[:, :2] > limits).any())
        for polygon, k in zip(polygons, slices)
        if k >= 0
    )
    return [f"{leave} contours leave the image: the part inside is kept"] if leave else []


def _gaps(slices: NDArray[np.int64]) -> list[str]:
    drawn = np.unique(slices[slices >= 0])
    missing = int(drawn[-1] - drawn[0] + 1 - len(drawn)) if len(drawn) else 0
    return [f"{missing} slices between its contours have none: left empty"] if missing else []


def _volume_doubt(voxels: float, polygons: float) -> list[str]:
    if abs(voxels - polygons) <= VOLUME_DOUBT.value * polygons:
        return []
    return [f"{voxels:.4g} mL of voxels stand for contours of {polygons:.4g} mL"]


# ------------------------------------------------------------------------------------------------------- label images


def structure_labels(
    structures: StructureSet, stacks: Sequence[DrawnOn], where: str
) -> tuple[tuple[LabelImage, ...], tuple[Finding, ...]]:
    """The regions as label images on the grid of the images they were drawn on, and the account of it.

    A label image holds regions that share neither a voxel nor a name, so nested and overlapping regions lose
    nothing: each is placed whole into the first image that has room for it. Without images a region gets a grid of
    its own. Regions that cannot become voxels are left out, each with its reason.
    """
    stack = stack_of(structures, stacks)
    images: list[tuple[Grid, NDArray[np.uint8], dict[int, str]]] = []  # names as in the file
    findings = [Finding("found", where, _listed(structures)), found_on(structures, stack, where)]
    for roi in structures.rois:
        try:
            own = stack or DrawnOn("its own planes", grid_of_contours(roi))
            region = rasterise(roi, own, where)
        except SegmentationRejected as refusal:
            findings.append(Finding("doubted", where, f"{refusal.found}: left out"))
            continue
        _place(images, own.grid, region.mask, roi.name)
        findings += [volume_found(roi, region, own.grid, where), *region.findings]
    labels = tuple(
        LabelImage(
            grid,
            values,
            {value: region_name(name) for value, name in names.items()},
            structures.uid,
            description=structures.description,
            called={value: name for value, name in names.items() if name != region_name(name)},
        )
        for grid, values, names in images
    )
    if len(labels) > 1 and stack is not None:
        findings.append(Finding("found", where, f"regions overlap or share a name: {len(labels)} label images"))
    return labels, tuple(findings)


def volume_found(roi: Roi, region: DrawnRegion, grid: Grid, where: str) -> Finding:
    """The volume of a region, by its voxels and by its contours."""
    voxels = region.mask.sum() * grid.voxel_volume / 1000.0
    text = f"{roi.name}: {voxels:.2f} mL of voxels, {region.polygon_volume:.2f} mL of contours"
    return Finding("found", where, text)


def _place(
    images: list[tuple[Grid, NDArray[np.uint8], dict[int, str]]], grid: Grid, mask: NDArray[np.bool_], name: str
) -> None:
    """Put a region into the first image on that grid that has no voxel of it, no such name, and a free value."""
    for other, values, names in images:
        new = region_name(name) not in map(region_name, names.values())
        if other is grid and new and len(names) < 255 and not values[mask].any():
            values[mask] = len(names) + 1
            names[len(names) + 1] = name
            return
    images.append((grid, mask.astype(np.uint8), {1: name}))


def _listed(structures: StructureSet) -> str:
    regions = ", ".join(
        f"{roi.name} ({roi.kind + ', ' if roi.kind else ''}{len(roi.contours)} contours)" for roi in structures.rois
    )
    return f"an RT Structure Set of {len(structures.rois)} regions: {regions}"


def found_on(structures: StructureSet, stack: DrawnOn | None, where: str) -> Finding:
    """Which images a structure set was put on, and why."""
    if stack is None:
        return Finding(
            "inferred", where, "the images it was drawn on are not there: geometry taken from the contours alone"
        )
    if structures.image_uids.intersection(stack.image_uids):
        return Finding("found", where, f"drawn on {stack.name}")
    known = stack.series_uid in structures.series_uids
    why = "whose series it names" if known else "in its frame of reference, since the images it names are not there"
    return Finding("chosen", where, f"put on {stack.name}, {why}")
