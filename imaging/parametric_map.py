"""A map as a DICOM Parametric Map: real values with their unit and quantity, one frame a slice, slices ascending.

Invalid voxels are NaN in floating-point objects. Five things beyond the standard's letter make validator and readers
agree (project specification, imaging §12): the body part is repeated, no Laterality stands beside that of the frames,
the window is exact
(LINEAR_EXACT), every frame says its anatomy, and frames ascend along the normal of their rows and columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import ParametricMapStorage

from ..core.errors import ConfigurationRejected, StudyRejected
from .derived_codes import (
    HEADS,
    PROCESSING,
    body_part_code,
    method_code,
    quantity_code,
    unit_code,
)
from .derived_object import SeriesHead, derived_object, explain_scheme, save
from .dicom_write import CONTENT_CREATOR, derived_uid, plane_attributes, set_attributes
from .source_images import code_item, derivation, frames_by_slice, frames_of, refer_to
from .study import Grid, ParametricMap

Storage = Literal["float32", "float64", "uint16"]

IMAGE_TYPE = ["DERIVED", "PRIMARY", "VOLUME", "QUANTITY"]
PADDING = 65535
"""Stored value of an invalid voxel in a uint16 object: above the last value that is mapped."""
WINDOW_SHARE = (1.0, 99.0)
"""Percentiles of the values between which a map is shown at first."""
INTERCHANGEABLE = {"float32": "<f4", "float64": "<f8", "uint16": "<u2"}
PIXELS = {"float32": ("FloatPixelData", "OF"), "float64": ("DoubleFloatPixelData", "OD"), "uint16": ("PixelData", "OW")}


def write_parametric_map(
    path: Path | str,
    one: ParametricMap,
    sources: Sequence[Dataset],
    head: SeriesHead,
    *,
    storage: Storage = "float32",
    fill: float | None = None,
) -> None:
    """Write one map as a DICOM Parametric Map.

    sources  headers of the images that it was made from, at least one; patient and study are those of the first
    storage  float32 (default), float64, or uint16 with slope and intercept: values rounded to 1/65534 of their range
    fill     value in place of NaN, for viewers that cannot show it; None: NaN stays (uint16: a padding value)

    Raises StudyRejected for a map without a finite value or source, or on a grid that DICOM cannot say;
    ConfigurationRejected and UnitMissing for a name, storage or unit that it cannot code.
    """
    if not sources:
        raise StudyRejected("a map without a DICOM source", "the images it was made from", "write it as NIfTI")
    if storage not in PIXELS:
        raise ConfigurationRejected(f"storage {storage!r}", "one of " + ", ".join(PIXELS), "choose one of them")
    values = one.values if fill is None else np.where(np.isfinite(one.values), one.values, fill)
    finite = values[np.isfinite(values)]
    if not finite.size:
        raise StudyRejected(f"the map {one.name!r} has no value in any voxel", "at least one", "leave the map out")
    dataset = derived_object(sources[0], head, ParametricMapStorage, str(sources[0].get("Modality") or "MR"))
    _describe(dataset, one, sources[0])
    _set_pixels(dataset, values, finite, one, storage)
    _set_frames(dataset, one, sources)
    refer_to(dataset, sources)
    explain_scheme(dataset, (quantity_code(one.name), method_code(one.method)))
    save(path, dataset)


def _describe(dataset: Dataset, one: ParametricMap, source: Dataset) -> None:
    quantity = quantity_code(one.name)
    part = str(source.get("BodyPartExamined") or "").upper()
    face = source.get("RecognizableVisualFeatures") or ("YES" if part in HEADS else "NO")
    plane = plane_attributes(one.grid)
    set_attributes(
        dataset,
        {
            "ImageType": IMAGE_TYPE,
            "ContentLabel": "PARAMETRIC_MAP",
            "ContentDescription": f"{quantity.meaning}: {one.method or 'method not stated'}"[:64],
            "ContentCreatorName": CONTENT_CREATOR,
            "ContentQualification": "RESEARCH",
            "BurnedInAnnotation": "NO",
            "RecognizableVisualFeatures": face,
            "LossyImageCompression": "00",
            "PresentationLUTShape": "IDENTITY",
            "DerivationDescription": f"{one.name} [{one.unit}]: {one.method}"[:1024],
            "SamplesPerPixel": 1,
            "PhotometricInterpretation": "MONOCHROME2",
            "Rows": plane["Rows"],
            "Columns": plane["Columns"],
            "NumberOfFrames": one.grid.shape[2],
            "FrameOfReferenceUID": one.grid.frame_uid
            or source.get("FrameOfReferenceUID")
            or derived_uid(dataset.StudyInstanceUID, "frame"),
            "PositionReferenceIndicator": "",
        },
    )
    if part:
        dataset.BodyPartExamined = part
    dataset.AcquisitionContextSequence = Items([])


def _set_pixels(
    dataset: Dataset, values: NDArray[np.float64], finite: NDArray[np.float64], one: ParametricMap, storage: Storage
) -> None:
    """Stored values, and the shared groups that say what they mean."""
    low, high = float(finite.min()), float(finite.max())
    slope, intercept = 1.0, 0.0
    frames = values.transpose(2, 1, 0)
    if storage == "uint16":
        slope, intercept = (high - low) / (PADDING - 1) or 1.0, low
        whole = np.where(np.isfinite(frames), np.rint((frames - intercept) / slope), PADDING)
        frames = np.where(np.isfinite(frames), np.minimum(whole, PADDING - 1), PADDING)
        dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 15, 0
        if not np.isfinite(values).all():
            dataset.PixelPaddingValue = PADDING
            dataset["PixelPaddingValue"].VR = "US"
    stored = np.ascontiguousarray(frames, dtype=INTERCHANGEABLE[storage])
    keyword, vr = PIXELS[storage]
    dataset.BitsAllocated = 8 * stored.dtype.itemsize
    setattr(dataset, keyword, stored.tobytes())
    dataset[keyword].VR = vr
    shared = Dataset()
    shared.RealWorldValueMappingSequence = Items([_mapping(one, low, high, slope, intercept, storage)])
    shared.FrameVOILUTSequence = Items([_window(finite, slope, intercept)])
    shared.PixelValueTransformationSequence = Items([_identity()])
    dataset.SharedFunctionalGroupsSequence = Items([shared])


def _mapping(one: ParametricMap, low: float, high: float, slope: float, intercept: float, storage: Storage) -> Dataset:
    """Real World Value Mapping: unit, quantity, and how its values were got."""
    quantity, method = quantity_code(one.name), method_code(one.method)
    mapping = Dataset()
    if storage == "uint16":
        mapping.RealWorldValueFirstValueMapped, mapping.RealWorldValueLastValueMapped = 0, PADDING - 1
        for keyword in ("RealWorldValueFirstValueMapped", "RealWorldValueLastValueMapped"):
            mapping[keyword].VR = "US"
    else:
        mapping.DoubleFloatRealWorldValueFirstValueMapped = low
        mapping.DoubleFloatRealWorldValueLastValueMapped = high
    mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept = slope, intercept
    mapping.LUTExplanation, mapping.LUTLabel = quantity.meaning[:64], one.name[:16]
    mapping.MeasurementUnitsCodeSequence = Items([code_item(unit_code(one.unit))])
    answers = [(codes.SCT.Quantity, quantity)]
    answers += [] if method is None else [(codes.SCT.MeasurementMethod, method)]
    mapping.QuantityDefinitionSequence = Items([_answer(concept, value) for concept, value in answers])
    return mapping


def _answer(concept: Code, value: Code) -> Dataset:
    item = Dataset()
    item.ValueType = "CODE"
    item.ConceptNameCodeSequence = Items([code_item(concept)])
    item.ConceptCodeSequence = Items([code_item(value)])
    return item


def _window(finite: NDArray[np.float64], slope: float, intercept: float) -> Dataset:
    """Display between two percentiles, in stored values; a width below 1 is allowed by LINEAR_EXACT alone."""
    low, high = (np.percentile(finite, WINDOW_SHARE) - intercept) / slope
    window = Dataset()
    width = float(high - low) or 1.0
    set_attributes(window, {"WindowCenter": float(low + high) / 2, "WindowWidth": width})
    window.VOILUTFunction = "LINEAR_EXACT"
    return window


def _identity() -> Dataset:
    item = Dataset()
    set_attributes(item, {"RescaleIntercept": 0.0, "RescaleSlope": 1.0})
    item.RescaleType = "US"
    return item


def _set_frames(dataset: Dataset, one: ParametricMap, sources: Sequence[Dataset]) -> None:
    """Geometry, anatomy and derivation, shared and of each frame; the frame index ascends with position."""
    shared = dataset.SharedFunctionalGroupsSequence[0]
    for keyword, item in _shared_geometry(one.grid).items():
        setattr(shared, keyword, Items([item]))
    shared.FrameAnatomySequence = Items([_anatomy(sources[0])])
    kind = Dataset()
    kind.FrameType = IMAGE_TYPE
    shared.ParametricMapFrameTypeSequence = Items([kind])
    how, matched = PROCESSING.get(one.name, PROCESSING[""]), frames_by_slice(one.grid, sources)
    own = all(matched)
    if not own:
        shared.DerivationImageSequence = Items([derivation(frames_of(sources), how)])
    frames = []
    for k in range(one.grid.shape[2]):
        frame = _frame(one.grid, k)
        if own:
            frame.DerivationImageSequence = Items([derivation(matched[k], how)])
        frames.append(frame)
    dataset.PerFrameFunctionalGroupsSequence = Items(frames)
    _set_dimensions(dataset)


def _shared_geometry(grid: Grid) -> dict[str, Dataset]:
    plane: dict[str, Any] = plane_attributes(grid)
    measures, orientation = Dataset(), Dataset()
    set_attributes(measures, {key: plane[key] for key in ("PixelSpacing", "SliceThickness", "SpacingBetweenSlices")})
    set_attributes(orientation, {"ImageOrientationPatient": plane["ImageOrientationPatient"]})
    return {"PixelMeasuresSequence": measures, "PlaneOrientationSequence": orientation}


def _frame(grid: Grid, k: int) -> Dataset:
    content, position, frame = Dataset(), Dataset(), Dataset()
    content.DimensionIndexValues = [k + 1]
    content.StackID, content.InStackPositionNumber = "1", k + 1
    set_attributes(position, {"ImagePositionPatient": grid.world(np.array([0, 0, k])).tolist()})
    frame.FrameContentSequence, frame.PlanePositionSequence = Items([content]), Items([position])
    return frame


def _anatomy(source: Dataset) -> Dataset:
    """Side and region of the body.

    ASSUMED: a source that does not state its side shows an unpaired part (U).
    """
    anatomy = Dataset()
    anatomy.FrameLaterality = source.get("ImageLaterality") or source.get("Laterality") or "U"
    anatomy.AnatomicRegionSequence = Items([code_item(body_part_code(str(source.get("BodyPartExamined") or "")))])
    return anatomy


def _set_dimensions(dataset: Dataset) -> None:
    """One dimension: the position in the patient."""
    uid = derived_uid(dataset.SOPInstanceUID, "dimensions")
    organization, index = Dataset(), Dataset()
    organization.DimensionOrganizationUID = index.DimensionOrganizationUID = uid
    index.DimensionIndexPointer = 0x00200032  # Image Position (Patient)
    index.FunctionalGroupPointer = 0x00209113  # Plane Position Sequence
    index.DimensionDescriptionLabel = "ImagePositionPatient"
    dataset.DimensionOrganizationSequence = Items([organization])
    dataset.DimensionIndexSequence = Items([index])
    dataset.DimensionOrganizationType = "3D"
