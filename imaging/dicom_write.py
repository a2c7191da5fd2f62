"""DICOM out: series of classic MR images, and segmentations that viewers place correctly.

A written object repeats the patient and study of what it belongs to; everything that would differ between
two runs (dates, identities) is handed in, so equal input gives equal files.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import numpy as np
from highdicom.content import AlgorithmIdentificationSequence
from highdicom.seg import Segmentation, SegmentDescription
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_data_element, write_file_meta_info
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import UID, ExplicitVRLittleEndian, MRImageStorage

from .. import __version__
from ..core.errors import SegmentationRejected, StudyRejected
from ..core.files import written_whole
from .patient_study import patient_and_study
from .region_names import region_name
from .study import Grid, LabelImage

MANUFACTURER = "oncoscale"
CONTENT_CREATOR = "oncoscale^oncoscale"
"""The validator wants a person's name, family and given, also of a program."""
IMPLEMENTATION_NAME = "ONCOSCALE"
IMPLEMENTATION_UID = UID("2.25.208405470367394710937168925163706531427")
"""Implementation class of this writer, fixed once (DICOM PS3.7 D.3.3.2)."""


def derived_uid(*words: object) -> str:
    """A UID that depends on nothing but the words: ``2.25.`` and a UUID's integer (DICOM PS3.5 B.2).

    The 128 bits are those of a SHA-256 of the words with the marks of a version 8 (vendor-defined) UUID.

    >>> derived_uid("phantom", 1) == derived_uid("phantom", 1)
    True
    """
    message = "\x1f".join(str(word) for word in words).encode()
    bits = int.from_bytes(sha256(message).digest()[:16], "big")
    bits = bits & ~(0xF << 76) | 0x8 << 76
    bits = bits & ~(0x3 << 62) | 0x2 << 62
    return f"2.25.{bits}"


def clock(seconds: float) -> str:
    """Seconds after midnight as a DICOM time, ``HHMMSS.FFFFFF``."""
    microseconds = round(seconds * 1e6)
    whole, fraction = divmod(microseconds, 1_000_000)
    return f"{whole // 3600:02d}{whole // 60 % 60:02d}{whole % 60:02d}.{fraction:06d}"


def decimal(value: float) -> str:
    """A number as a DICOM decimal string: at most 16 characters, the digits that matter."""
    for digits in range(12, 4, -1):
        text = f"{value:.{digits}g}"
        if len(text) <= 16:
            return text
    return f"{value:.5g}"


def _dataset(attributes: Mapping[str, Any]) -> Dataset:
    dataset = Dataset()
    set_attributes(dataset, attributes)
    return dataset


def set_attributes(dataset: Dataset, attributes: Mapping[str, Any]) -> None:
    """Set DICOM attributes by keyword; a float becomes a decimal string where that is the representation."""
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
        element = dataset[keyword]
        if element.VR == "DS" and value not in (None, ""):
            values = value if isinstance(value, (list, tuple)) else [value]
            element.value = [decimal(float(one)) for one in values]


def plane_attributes(grid: Grid) -> dict[str, Any]:
    """Image plane attributes shared by all slices of a grid (DICOM PS3.3 C.7.6.2).

    Raises StudyRejected for a sheared grid or one whose slices run against the normal of their rows and
    columns: neither can be said with Image Orientation (Patient).
    """
    directions = grid.affine[:3, :3] / grid.spacing
    normal = np.cross(directions[:, 0], directions[:, 1])
    if abs(directions[:, 0] @ directions[:, 1]) > 1e-4 or normal @ directions[:, 2] < 1 - 1e-4:
        raise StudyRejected(
            "a grid that is sheared or left-handed",
            "three perpendicular, right-handed axes",
            "resample the image to a rectangular grid",
        )
    column_step, row_step, slice_step = (float(step) for step in grid.spacing)
    return {
        "Rows": grid.shape[1],
        "Columns": grid.shape[0],
        "ImageOrientationPatient": [*directions[:, 0].tolist(), *directions[:, 1].tolist()],
        "PixelSpacing": [row_step, column_step],
        "SliceThickness": slice_step,
        "SpacingBetweenSlices": slice_step,
        "FrameOfReferenceUID": grid.frame_uid,
        "PositionReferenceIndicator": "",
    }


@dataclass(frozen=True, eq=False)
class Volume:
    """One volume of a series: stored values and what sets it apart from the others.

    values      (i, j, k) unsigned 16-bit
    attributes  DICOM keyword to value, the same for all its slices (time, flip angle, b-value, …)
    """

    values: NDArray[np.uint16]
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class MRSeries:
    """What all images of one classic MR series share.

    uid, number, description   series level
    grid                       geometry; its frame_uid must be set
    study                      patient and study attributes (keyword to value)
    attributes                 equipment, acquisition, contrast (keyword to value)
    window                     (centre, width) of display in stored values
    """

    uid: str
    number: int
    description: str
    grid: Grid
    study: Mapping[str, Any]
    attributes: Mapping[str, Any]
    window: tuple[float, float]


def _template(series: MRSeries) -> Dataset:
    return _dataset(
        {
            "SOPClassUID": MRImageStorage,
            "Modality": "MR",
            "SeriesInstanceUID": series.uid,
            "SeriesNumber": series.number,
            "SeriesDescription": series.description,
            "SamplesPerPixel": 1,
            "PhotometricInterpretation": "MONOCHROME2",
            "BitsAllocated": 16,
            "BitsStored": 16,
            "HighBit": 15,
            "PixelRepresentation": 0,
            "WindowCenter": series.window[0],
            "WindowWidth": series.window[1],
            **series.study,
            **plane_attributes(series.grid),
            **series.attributes,
        }
    )


def _encoded(dataset: Dataset) -> dict[int, bytes]:
    """Tag to the element's bytes, explicit little endian."""
    elements = {}
    for element in dataset:
        buffer = DicomBytesIO()
        buffer.is_little_endian, buffer.is_implicit_VR = True, False
        write_data_element(buffer, element)
        elements[int(element.tag)] = buffer.getvalue()
    return elements


def _part10(instance_uid: str, elements: Mapping[int, bytes]) -> bytes:
    """A whole DICOM file: preamble, meta information, the elements in the order of their tags."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = MRImageStorage
    meta.MediaStorageSOPInstanceUID = UID(instance_uid)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = IMPLEMENTATION_UID
    meta.ImplementationVersionName = IMPLEMENTATION_NAME
    buffer = DicomBytesIO()
    write_file_meta_info(buffer, meta)
    return b"".join([b"\0" * 128, b"DICM", buffer.getvalue(), *(elements[tag] for tag in sorted(elements))])


def _place(series: MRSeries, volume: int, k: int) -> dict[str, Any]:
    number = volume * series.grid.shape[2] + k + 1
    return {
        "SOPInstanceUID": derived_uid(series.uid, number),
        "InstanceNumber": number,
        "ImagePositionPatient": series.grid.world(np.array([0, 0, k])).tolist(),
    }


def image_headers(series: MRSeries, volume: int, attributes: Mapping[str, Any]) -> list[Dataset]:
    """The headers, without pixels, of the slices of one volume: what a segmentation drawn on it refers to.

    volume      its place in the series, from 0
    attributes  those of that Volume
    """
    headers = []
    for k in range(series.grid.shape[2]):
        image = _template(series)
        set_attributes(image, {**attributes, **_place(series, volume, k)})
        headers.append(image)
    return headers


def write_mr_series(folder: Path | str, series: MRSeries, volumes: Iterable[Volume]) -> int:
    """Write a series of classic MR images, one file a slice; returns the number of files.

    Volumes are asked for one at a time, so a long dynamic series need not lie in memory. Files are named by
    instance number; instance UIDs derive from the series' UID and that number.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    # What all images share is encoded once: a dynamic series has thousands of files with a hundred equal elements.
    shared, written = _encoded(_template(series)), 0
    for place, volume in enumerate(volumes):
        of_volume = {**shared, **_encoded(_dataset(volume.attributes))}
        for k in range(series.grid.shape[2]):
            own = _dataset(_place(series, place, k))
            own.PixelData = np.ascontiguousarray(volume.values[:, :, k].T, dtype="<u2").tobytes()
            own["PixelData"].VR = "OW"
            file = _part10(own.SOPInstanceUID, {**of_volume, **_encoded(own)})
            (folder / f"image-{own.InstanceNumber:05d}.dcm").write_bytes(file)
            written += 1
    return written


NEOPLASM = (codes.SCT.MorphologicallyAbnormalStructure, Code("108369006", "SCT", "Neoplasm"))
"""Category and type of a tumour segment (SNOMED CT)."""
TISSUE = (codes.SCT.Tissue, codes.SCT.Tissue)
"""Category and type of a segment of which nothing is known but its name (DICOM PS3.16, context groups 7150, 7191)."""


@dataclass(frozen=True)
class SegmentationHead:
    """The series level of a segmentation object.

    moment     (date YYYYMMDD, time HHMMSS) of the content
    algorithm  (name, version) of what drew it; None: drawn by hand
    family     coded family of that algorithm (DICOM PS3.16 CID 7162)
    category, kind   coded category and type of the tumour's segment
    kinds      (category, type) of segments of other kinds, by name; what has none there is TISSUE
    """

    series_uid: str
    instance_uid: str
    number: int
    description: str
    moment: tuple[str, str]
    algorithm: tuple[str, str] | None = None
    family: Code = codes.DCM.DeformableModels
    category: Code = NEOPLASM[0]
    kind: Code = NEOPLASM[1]
    kinds: Mapping[str, tuple[Code, Code]] = field(default_factory=dict)


def _segment(number: int, name: str, head: SegmentationHead) -> SegmentDescription:
    drawn_by: dict[str, Any] = {"algorithm_type": "MANUAL"}
    if head.algorithm is not None:
        identification = AlgorithmIdentificationSequence(
            name=head.algorithm[0], version=head.algorithm[1], family=head.family
        )
        drawn_by = {"algorithm_type": "AUTOMATIC", "algorithm_identification": identification}
    usual = (head.category, head.kind) if region_name(name) == "tumour" else TISSUE
    category, kind = head.kinds.get(name, usual)
    return SegmentDescription(
        segment_number=number,
        segment_label=name,
        segmented_property_category=category,
        segmented_property_type=kind,
        tracking_id=f"oncoscale-{name}",
        tracking_uid=derived_uid(head.instance_uid, "tracking", name),
        **drawn_by,
    )


def _fix_identities(segmentation: Segmentation, head: SegmentationHead) -> None:
    """Replace what highdicom takes from the clock or draws at random, so that equal input gives equal bytes."""
    date, time = head.moment
    set_attributes(
        segmentation,
        {
            "SeriesDate": date,
            "SeriesTime": time,
            "ContentDate": date,
            "ContentTime": time,
            "InstanceCreationDate": date,
            "InstanceCreationTime": time,
        },
    )
    for item in segmentation.get("ContributingEquipmentSequence", []):
        item.ContributionDateTime = date + time
    organization = derived_uid(head.instance_uid, "dimensions")
    for item in segmentation.DimensionOrganizationSequence:
        item.DimensionOrganizationUID = organization
    for item in segmentation.DimensionIndexSequence:
        item.DimensionOrganizationUID = organization
    segmentation.file_meta.ImplementationClassUID = IMPLEMENTATION_UID
    segmentation.file_meta.ImplementationVersionName = IMPLEMENTATION_NAME


SegmentationKind = Literal["BINARY", "LABELMAP", "FRACTIONAL"]
"""How a segmentation is stored; archives and viewers of some age know BINARY alone."""


def write_segmentation(
    path: Path | str,
    labels: LabelImage,
    sources: Sequence[Dataset],
    head: SegmentationHead,
    kind: SegmentationKind = "BINARY",
    occupancy: Mapping[str, NDArray[np.floating]] | None = None,
) -> None:
    """Write the named regions of a label image as one DICOM Segmentation, a segment a name.

    sources    the images it was drawn on: one header a slice, on the grid of ``labels``, slices ascending
    occupancy  region to (i, j, k) share of each voxel that it fills, for FRACTIONAL; None: voxels are full or empty

    Empty slices are left out, as usual in clinical files. Raises SegmentationRejected when a region has no voxel
    or the sources do not lie on the grid.
    """
    _check_sources(labels.grid, sources)
    empty = [name for value, name in labels.names.items() if not (labels.values == value).any()]
    if empty:
        raise SegmentationRejected(
            f"region {empty[0]!r} has no voxel",
            "at least one voxel in every region",
            "leave the region out or check the mask",
        )
    segmentation = Segmentation(
        source_images=list(sources),
        pixel_array=_segment_planes(labels, kind, occupancy),
        segmentation_type=kind,
        fractional_type="OCCUPANCY",
        segment_descriptions=[
            _segment(number, name, head) for number, name in enumerate(labels.names.values(), start=1)
        ],
        series_instance_uid=head.series_uid,
        series_number=head.number,
        sop_instance_uid=head.instance_uid,
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=MANUFACTURER,
        software_versions=__version__,
        device_serial_number="0",
        content_label="SEGMENTATION",
        content_creator_name=CONTENT_CREATOR,
        content_description=head.description,
        series_description=head.description,
    )
    segmentation.update(patient_and_study(sources[0]))
    if sources[0].get("BodyPartExamined"):
        segmentation.BodyPartExamined = sources[0].BodyPartExamined
    _fix_identities(segmentation, head)
    with written_whole(path) as beside:
        segmentation.save_as(beside)


def _segment_planes(
    labels: LabelImage, kind: SegmentationKind, occupancy: Mapping[str, NDArray[np.floating]] | None
) -> NDArray[Any]:
    """(slices, rows, columns, segments) 0 or 1, for FRACTIONAL the share filled."""
    if kind == "FRACTIONAL":
        shares = [
            labels.mask(name) if occupancy is None else np.clip(np.asarray(occupancy[name]), 0.0, 1.0)
            for name in labels.names.values()
        ]
        return np.stack([share.transpose(2, 1, 0) for share in shares], axis=-1).astype(np.float32)
    regions = [np.equal(labels.values, value).transpose(2, 1, 0) for value in labels.names]
    return np.stack(regions, axis=-1).astype(np.uint8)


def _check_sources(grid: Grid, sources: Sequence[Dataset]) -> None:
    found = np.array([source.ImagePositionPatient for source in sources], dtype=float)
    expected = grid.world(np.array([[0, 0, k] for k in range(grid.shape[2])]))
    if found.shape != expected.shape or not np.allclose(found, expected, atol=1e-3):
        raise SegmentationRejected(
            f"{len(sources)} source images that do not lie on the {grid.shape[2]} slices of the segmentation",
            "one source image a slice, ascending",
            "resample the segmentation to the grid of its source images",
        )
