"""Segmentations: DICOM SEG in its three forms, label images from files, and the tumour that may be meshed.

Segments keep the names of their file; what means a tumour is called ``tumour``. Empty frames that a segmentation
leaves out are empty slices. SimpleITK and scipy are imported where they are used: a process that only reads DICOM
(see guarded) starts in half the time without them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset

from ..core.errors import ConfigurationRejected, FileRejected, SegmentationRejected
from ..core.quantity import Parameter
from .dicom_files import LARGEST_FILE, read_dicom, reading, stored_pixels, uid_name
from .geometry import stack, sub_block
from .guarded import now_at
from .nifti import is_nifti, open_nifti, whole_labels
from .planes import frame_views, planes_of
from .region_names import WORDLESS, named_by, same_name
from .region_names import region_name as region_name
from .structure_set import (
    DrawnOn,
    StructureSet,
    found_on,
    grid_of_contours,
    rasterise,
    read_structure_set,
    stack_of,
    volume_found,
)
from .study import Finding, Grid, LabelImage

SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
LABEL_MAP_SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.7"
STRUCTURE_SET = "1.2.840.10008.5.1.4.1.1.481.3"
_NEOPLASM = {"108369006", "M-80000", "M-8FFFF", "86049000"}
"""Codes of a (primary) neoplasm, SNOMED CT and SRT."""

SPECK = Parameter(
    0.01,
    "1",
    "pieces of a tumour below this share of its volume are specks of the drawing and dropped",
    source="project specification",
    range=(0.0, 0.05),
    assumed=True,
)
PIECES_NAMED = 4
"""Pieces of a tumour whose volumes a refusal tells."""

FRACTION = Parameter(
    0.5,
    "1",
    "least occupancy of a voxel that belongs to a fractional segment",
    source="project specification, imaging §1.4",
    range=(0.25, 0.75),
    assumed=True,
)
MOST_LABELS = 16
"""An image with more different values than this is no label image."""


@dataclass(frozen=True, eq=False)
class Segment:
    """One segment of a DICOM segmentation: its number, name, (i, j, k) mask, and label in the file."""

    number: int
    name: str
    mask: NDArray[np.bool_]
    label: str = ""


def _segment_name(item: Dataset, number: int) -> str:
    kinds = item.get("SegmentedPropertyTypeCodeSequence") or []
    codes = [str(kind.get("CodeValue", "")) for kind in kinds]
    if _NEOPLASM.intersection(codes):
        return "tumour"
    return named_by(str(item.get("SegmentLabel") or ""), codes) or f"segment {number}"


def _frame_masks(dataset: FileDataset, where: str) -> list[tuple[int, NDArray[np.bool_]]]:
    """(segment number, mask (rows, columns)) of every frame."""
    pixels = stored_pixels(dataset, where)
    numbers = []
    for view in frame_views(dataset, where):
        number = view.value("SegmentIdentificationSequence", "ReferencedSegmentNumber")
        if number is None:
            raise FileRejected(
                f"{where} does not say which segment a frame shows",
                "a segment number for every frame",
                "export the segmentation again",
            )
        numbers.append(int(number))
    if str(dataset.get("SegmentationType")) == "FRACTIONAL":
        pixels = pixels / float(dataset.get("MaximumFractionalValue") or 255) >= FRACTION.value
    return list(zip(numbers, pixels.astype(bool)))


def _label_map(
    dataset: FileDataset, names: Mapping[int, str], shape: tuple[int, int, int], slices: NDArray[np.int64], where: str
) -> dict[int, NDArray[np.bool_]]:
    values = np.zeros(shape, dtype=np.int64)
    for frame, k in zip(stored_pixels(dataset, where), slices):
        values[:, :, k] = frame.T
    return {number: values == number for number in names if number != 0}


def read_segments(dataset: FileDataset, where: str) -> tuple[Grid, list[Segment]]:
    """Grid and segments of a DICOM segmentation object (binary, fractional or label map).

    Slices ascend along the normal; slices without a frame are empty. Raises FileRejected, SegmentationRejected,
    StudyRejected.
    """
    items = dataset.get("SegmentSequence") or []
    names = {int(item.SegmentNumber): _segment_name(item, int(item.SegmentNumber)) for item in items}
    if not set(names) - {0}:
        raise FileRejected(f"{where} declares no segment", "a segment sequence", "export the segmentation again")
    planes = planes_of(dataset, 0, where)
    grid, slices = stack(planes, str(dataset.get("FrameOfReferenceUID", "")), where, gaps=True)
    if str(dataset.get("SegmentationType")) == "LABELMAP" or dataset.SOPClassUID == LABEL_MAP_SEGMENTATION:
        masks = _label_map(dataset, names, grid.shape, slices, where)
    else:
        masks = {number: np.zeros(grid.shape, dtype=bool) for number in names}
        for (number, frame), k in zip(_frame_masks(dataset, where), slices):
            if number not in masks:
                raise FileRejected(
                    f"{where} has a frame of segment {number}, which it does not declare",
                    f"segments {', '.join(map(str, names))}",
                    "export the segmentation again",
                )
            masks[number][:, :, k] |= frame.T
    said = {int(item.SegmentNumber): str(item.get("SegmentLabel") or "").strip() for item in items}
    return grid, [Segment(number, names[number], mask, said[number]) for number, mask in masks.items()]


def label_images(
    grid: Grid, segments: Sequence[Segment], *, uid: str = "", derived_from: tuple[str, ...] = (), description: str = ""
) -> tuple[LabelImage, ...]:
    """The segments as label images: one for all, or one each where segments overlap (nothing is lost)."""
    overlapping = len(segments) > 1 and np.sum([segment.mask for segment in segments], axis=0, dtype=np.int64).max() > 1
    groups = [[segment] for segment in segments] if overlapping else [list(segments)]
    images = []
    for group in groups:
        values = np.zeros(grid.shape, dtype=np.uint8)
        small = max(segment.number for segment in group) <= 255
        numbers = [segment.number if small else place for place, segment in enumerate(group, start=1)]
        if len(group) > 255:
            raise SegmentationRejected(
                f"a segmentation of {len(group)} segments", "at most 255", "keep the segments that are needed"
            )
        for number, segment in zip(numbers, group):
            values[segment.mask] = number
        names = {number: segment.name for number, segment in zip(numbers, group)}
        called = {n: one.label for n, one in zip(numbers, group) if one.label not in (one.name, *WORDLESS)}
        images.append(LabelImage(grid, values, names, uid, derived_from, description, called))
    return tuple(images)


def on_grid_of(labels: LabelImage, images: Sequence[Grid]) -> LabelImage:
    """The label image on the grid of the images it was drawn on, if it is a block of one of them; else padded.

    A segmentation without the empty slices around it does not end where the images end: where its first or last
    slice is not empty and no image grid is known, an empty slice is added.
    """
    for grid in images:
        begin = sub_block(labels.grid, grid)
        if begin is not None:
            values = np.zeros(grid.shape, dtype=np.uint8)
            block = tuple(slice(start, start + n) for start, n in zip(begin, labels.grid.shape))
            values[block] = labels.values
            return replace(labels, grid=replace(grid, frame_uid=labels.grid.frame_uid or grid.frame_uid), values=values)
    below, above = int(labels.values[:, :, 0].any()), int(labels.values[:, :, -1].any())
    affine = labels.grid.affine.copy()
    affine[:3, 3] -= below * affine[:3, 2]
    shape = (*labels.grid.shape[:2], labels.grid.shape[2] + below + above)
    return replace(
        labels,
        grid=Grid(shape, affine, labels.grid.frame_uid),
        values=np.pad(labels.values, ((0, 0), (0, 0), (below, above))),
    )


def looks_like_labels(values: NDArray[Any]) -> bool:
    """True for whole numbers from 0 to 255, at most MOST_LABELS different ones, not all equal."""
    flat = values.ravel()
    if not np.isfinite(flat).all() or flat.min() < 0 or flat.max() > 255 or flat.min() == flat.max():
        return False
    distinct = np.unique(flat)
    return len(distinct) <= MOST_LABELS and bool((distinct == np.rint(distinct)).all())


# ------------------------------------------------------------------------------------------------------ from files


def _nrrd_header(path: Path) -> dict[str, str]:
    """Fields of a NRRD header, keys in lower case."""
    with open(path, "rb") as handle:
        head = handle.read(1 << 20).split(b"\n\n", 1)[0].replace(b"\r", b"").decode("ascii", "replace")
    return {
        key.strip().lower(): value.lstrip("=").strip()
        for key, _, value in (line.partition(":") for line in head.splitlines() if not line.startswith("#"))
    }


def _check_nrrd(path: Path) -> None:
    header = _nrrd_header(path)
    if "data file" in header or "datafile" in header:
        raise FileRejected(
            "the NRRD file refers to another file for its voxels",
            "voxels inside the file",
            "write the label image as one file",
        )
    sizes = [int(n) for n in header.get("sizes", "").split()]
    if len(sizes) != 3 or min(sizes) < 1 or np.prod(sizes, dtype=object) > LARGEST_FILE.value * (1 << 20):
        raise SegmentationRejected(
            f"the NRRD file has {len(sizes)} axes ({' x '.join(map(str, sizes))})",
            "one volume of labels (overlapping segments lie in several layers)",
            "export the segments without overlap, as one labelmap",
        )


def _nrrd_names(image: Any) -> dict[int, str]:
    keys = set(image.GetMetaDataKeys())
    places = sorted(key.removesuffix("_LabelValue") for key in keys if re.fullmatch(r"Segment\d+_LabelValue", key))
    return {
        int(image.GetMetaData(f"{place}_LabelValue")): region_name(image.GetMetaData(f"{place}_Name"))
        for place in places
        if f"{place}_Name" in keys
    }


def _read_nrrd(path: Path) -> tuple[Grid, NDArray[Any], dict[int, str]]:
    import SimpleITK

    with reading("the NRRD file", "write the label image again, as .nrrd or .nii.gz"):
        _check_nrrd(path)
        image: Any = SimpleITK.ReadImage(str(path))
        values = SimpleITK.GetArrayFromImage(image).T
        affine = np.eye(4)
        affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
        affine[:3, 3] = image.GetOrigin()
        return Grid((values.shape[0], values.shape[1], values.shape[2]), affine), values, _nrrd_names(image)


def _named(values: NDArray[np.uint8], found: Mapping[int, str], stated: Mapping[int, str] | None) -> dict[int, str]:
    """Names of the label values: as stated, as found in the file, or ``tumour`` for a mask of one value."""
    present = [int(value) for value in np.unique(values) if value]
    if stated is not None:
        absent = sorted(set(stated) - set(present))
        if absent:
            raise SegmentationRejected(
                f"no voxel has label {absent[0]}",
                f"labels among {present}",
                "correct the number in --label NUMBER=NAME",
            )
        return {value: region_name(name) for value, name in stated.items()}
    names = {value: name for value, name in found.items() if value in present}
    if not names and len(present) == 1:
        return {present[0]: "tumour"}
    if not names and present:
        raise SegmentationRejected(
            f"label values {', '.join(map(str, present))} without names",
            "a name for each region",
            "say which is the tumour with --label NUMBER=tumour",
        )
    return names


def _one_label_image(images: Sequence[LabelImage]) -> LabelImage:
    if len(images) == 1:
        return images[0]
    tumours = [image for image in images if "tumour" in image.names.values()]
    if len(tumours) != 1:
        names = ", ".join(name for image in images for name in image.names.values())
        raise SegmentationRejected(
            f"overlapping segments ({names}), {len(tumours)} of them called tumour",
            "one segment that is the tumour",
            "export the tumour's segment alone",
        )
    return tumours[0]


def read_labels(path: Path | str, *, names: Mapping[int, str] | None = None) -> LabelImage:
    """Read a label image: DICOM SEG, NIfTI (``.nii``, ``.nii.gz``) or NRRD (``.nrrd``).

    names  label value (or segment number) to name, in place of those in the file

    A mask of a single value without a name is taken to be the tumour. Raises FileRejected, SegmentationRejected.
    """
    path = Path(path)
    if is_nifti(path):
        nifti = open_nifti(path, "the label image")
        values = whole_labels(nifti.values, "the label image")
        return LabelImage(nifti.grid, values, _named(values, nifti.names, names), nifti.digest)
    if path.name.lower().endswith((".nrrd", ".nhdr", ".mha", ".mhd")):
        grid, raw, found = _read_nrrd(path)
        values = whole_labels(raw, "the label image")
        return LabelImage(grid, values, _named(values, found, names))
    dataset = read_dicom(path, "the segmentation", pixels=True)
    if dataset is None:
        raise FileRejected(
            "the segmentation is neither DICOM, NIfTI nor NRRD",
            "one of these formats",
            "export the segmentation as DICOM SEG, .nii.gz or .nrrd",
        )
    if dataset.SOPClassUID == STRUCTURE_SET:
        raise SegmentationRejected(
            "a structure set (RTSTRUCT): contours, no voxels",
            "DICOM SEG, NIfTI or NRRD",
            "choose one of its regions by name (read_region, --roi NAME)",
        )
    if dataset.SOPClassUID not in (SEGMENTATION, LABEL_MAP_SEGMENTATION):
        raise FileRejected(
            f"a DICOM object of another kind ({uid_name(dataset.SOPClassUID)})",
            "a DICOM segmentation",
            "give the file of the segmentation",
        )
    with reading("the segmentation"):
        uid = str(dataset.get("SOPInstanceUID") or "")
        grid, segments = read_segments(dataset, "the segmentation")
    image = on_grid_of(_one_label_image(label_images(grid, segments, uid=uid)), ())
    return image if names is None else replace(image, names=_named(image.values, image.names, names))


# ------------------------------------------------------------------------------------------- one region, by its name


def read_region(
    path: Path | str,
    roi: str | None = None,
    *,
    names: Mapping[int, str] | None = None,
    images: Sequence[DrawnOn] | None = None,
) -> tuple[LabelImage, tuple[Finding, ...]]:
    """A label image from any format that read_labels reads, or from a structure set, and what was found on the way.

    roi     the region that is the tumour, by its name in the file (upper and lower case are one); it comes alone.
            None: the regions that the file names, of a structure set the one that is called a tumour
    names   as for read_labels
    images  what a structure set may have been drawn on; None: the images in its folder and below

    A structure set whose images are not there gets a grid made from its contours. Raises FileRejected,
    SegmentationRejected; ConfigurationRejected for a region that is not there, listing those that are.
    """
    path = Path(path)
    dataset = None if is_nifti(path) or is_raster(path) else read_dicom(path, "the segmentation", pixels=True)
    if dataset is None or dataset.SOPClassUID not in (STRUCTURE_SET, SEGMENTATION, LABEL_MAP_SEGMENTATION):
        image = read_labels(path, names=names)
        return (image if roi is None else _alone(image, roi)), ()
    if dataset.SOPClassUID == STRUCTURE_SET:
        structures = read_structure_set(dataset, "the structure set")
        stacks = images_beside(path, structures) if images is None else images
        return _drawn_region(structures, roi, stacks)
    if roi is None:
        return read_labels(path, names=names), ()
    with reading("the segmentation"):
        grid, segments = read_segments(dataset, "the segmentation")
    chosen = segments[_place_of(roi, [segment.name for segment in segments])]
    uid = str(dataset.get("SOPInstanceUID") or "")
    image = LabelImage(grid, chosen.mask.astype(np.uint8), {1: "tumour"}, uid, description=chosen.name)
    return on_grid_of(image, ()), ()


def is_raster(path: Path) -> bool:
    """True for the names of NRRD and MetaImage files."""
    return path.name.lower().endswith((".nrrd", ".nhdr", ".mha", ".mhd"))


def _alone(image: LabelImage, roi: str) -> LabelImage:
    """The region of that name as the only one, called tumour."""
    regions = sorted(set(image.names.values()))
    name = regions[_place_of(roi, regions)]
    return replace(image, values=image.mask(name).astype(np.uint8), names={1: "tumour"}, description=name)


def _place_of(roi: str, regions: Sequence[str]) -> int:
    """Where the region of that name stands among those of the file. Raises ConfigurationRejected."""
    places = [place for place, name in enumerate(regions) if same_name(name, roi)]
    places = places or [place for place, name in enumerate(regions) if region_name(roi) == name == "tumour"]
    if len(places) != 1:
        raise ConfigurationRejected(
            f"{len(places)} regions are called {roi!r}" if places else f"no region is called {roi!r}",
            f"one of {', '.join(regions) or 'no regions'}",
            "give the name of one region with --roi" + (": rename the others" if places else ""),
        )
    return places[0]


def _drawn_region(
    structures: StructureSet, roi: str | None, stacks: Sequence[DrawnOn]
) -> tuple[LabelImage, tuple[Finding, ...]]:
    """One region of a structure set, called tumour."""
    where = "the structure set"
    regions = [one.name for one in structures.rois]
    if roi is None:
        called = [name for name in regions if region_name(name) == "tumour"]
        if len(called) != 1:
            raise SegmentationRejected(
                f"{len(called) or 'none'} of the regions of the structure set is called a tumour",
                f"one of {', '.join(regions)}",
                "say which with --roi NAME",
            )
        roi = called[0]
    chosen = structures.rois[_place_of(roi, regions)]
    drawn_on = stack_of(structures, stacks)
    own = drawn_on or DrawnOn("its own planes", grid_of_contours(chosen))
    region = rasterise(chosen, own, where)
    image = LabelImage(own.grid, region.mask.astype(np.uint8), {1: "tumour"}, structures.uid, description=chosen.name)
    findings = (
        found_on(structures, drawn_on, where),
        volume_found(chosen, region, own.grid, where),
        *region.findings,
    )
    return image, findings


def images_beside(path: Path, structures: StructureSet) -> tuple[DrawnOn, ...]:
    """The stacks of images in the folder of a structure set, and below it, that it was drawn on or that share its
    frame of reference; headers alone are read. Files that are no DICOM images are passed over."""
    headers: dict[str, list[tuple[Any, str]]] = {}
    files = sorted(one for one in path.parent.rglob("*") if one.is_file() and not one.name.startswith("."))
    for place, file in enumerate(files, start=1):
        where = f"file {place} of {len(files)} beside the structure set"
        now_at(where)
        header = None if is_nifti(file) or is_raster(file) else read_dicom(file, where, pixels=False)
        if header is None or not _may_carry(header, structures):
            continue
        headers.setdefault(str(header.get("SeriesInstanceUID") or ""), []).append((header, where))
    return tuple(_stack(members, uid, at) for at, (uid, members) in enumerate(sorted(headers.items()), start=1))


def _may_carry(header: Dataset, structures: StructureSet) -> bool:
    """True for an image with a place in the patient that the structure set names or shares the frame of."""
    placed = "ImagePositionPatient" in header or "PerFrameFunctionalGroupsSequence" in header
    return (
        placed
        and str(header.get("Modality") or "") not in ("SEG", "RTDOSE")
        and (
            str(header.get("SOPInstanceUID") or "") in structures.image_uids
            or str(header.get("SeriesInstanceUID") or "") in structures.series_uids
            or str(header.get("FrameOfReferenceUID") or "") in structures.frame_uids
        )
    )


def _stack(members: Sequence[tuple[Any, str]], series_uid: str, place: int) -> DrawnOn:
    """Images of one series as a stack; its slices by image where each image is one slice."""
    name = f"image series {place}"
    planes = [plane for at, (header, where) in enumerate(members) for plane in planes_of(header, at, where)]
    grid, slices = stack(planes, str(members[0][0].get("FrameOfReferenceUID") or ""), name, gaps=True)
    uids = [str(header.get("SOPInstanceUID") or "") for header, _ in members]
    repeats = np.array([int((slices[:at] == k).sum()) for at, k in enumerate(slices)])
    ordered = dict.fromkeys(uids[planes[int(at)].file] for at in np.lexsort((slices, repeats)))
    return DrawnOn(name, grid, series_uid, tuple(ordered))


# ------------------------------------------------------------------------------------------------------ the tumour


def check_tumour(
    labels: LabelImage, name: str = "tumour", *, pieces: Literal["refuse", "largest", "all"] = "refuse"
) -> tuple[LabelImage, tuple[Finding, ...]]:
    """The label image with a tumour that can be meshed, and what was dropped to get it.

    name    the region to check
    pieces  what to do with a tumour in several pieces (voxels joined by faces): refuse it, keep the largest piece,
            or keep all. Pieces below SPECK of the volume are dropped unless all are kept.

    Raises SegmentationRejected when the tumour is absent, empty, in pieces, or touches the border of the image.
    """
    mask = labels.mask(name)
    if not mask.any():
        there = ", ".join(sorted(set(labels.names.values()))) or "none"
        raise SegmentationRejected(
            f"the segmentation holds no voxel of {name!r} (named regions: {there})",
            f"a region named {name!r}",
            f"name it with --label NUMBER={name}, choose it by its name with --roi, or give another segmentation",
        )
    kept, findings = (mask, ()) if pieces == "all" else _main_piece(mask, name, labels.grid, pieces)
    _check_border(kept, name)
    if kept is mask:
        return labels, findings
    return replace(labels, values=np.where(mask & ~kept, 0, labels.values).astype(np.uint8)), findings


def _main_piece(
    mask: NDArray[np.bool_], name: str, grid: Grid, pieces: str
) -> tuple[NDArray[np.bool_], tuple[Finding, ...]]:
    from scipy import ndimage

    numbered, count = ndimage.label(mask)
    sizes = np.bincount(numbered.ravel())[1:]
    if count == 1:
        return mask, ()
    large = np.flatnonzero(sizes >= SPECK.value * sizes.sum())
    millilitres = sorted((sizes * grid.voxel_volume / 1000.0).tolist(), reverse=True)
    if len(large) > 1 and pieces == "refuse":
        named = millilitres[: min(len(large), PIECES_NAMED)]
        volumes = ", ".join(f"{volume:.3g}" for volume in named) + (", …" if len(named) < len(large) else "")
        raise SegmentationRejected(
            f"the {name} lies in {len(large)} separate pieces ({volumes} mL)",
            "one connected region",
            "add --pieces largest to keep the largest piece alone, or --pieces all to keep every piece",
        )
    kept = numbered == 1 + int(np.argmax(sizes))
    dropped = sum(millilitres[1:])
    return kept, (
        Finding(
            "chosen",
            "segmentation",
            f"{name}: the largest of {count} pieces was kept; {count - 1} "
            f"({dropped:.3g} mL, {100 * dropped / sum(millilitres):.2g} %) were dropped",
        ),
    )


def _check_border(mask: NDArray[np.bool_], name: str) -> None:
    for axis, (what, n) in enumerate(zip(("column", "row", "slice"), mask.shape)):
        planes = np.moveaxis(mask, axis, 0)
        if planes[0].any() or planes[-1].any():
            where = f"first or last {what} of {n}" if n > 1 else f"only {what}"
            raise SegmentationRejected(
                f"the {name} touches the border of the image ({where}): it may go on outside",
                "a margin of at least one voxel around it",
                "use images that show the whole tumour, or correct the segmentation",
            )
