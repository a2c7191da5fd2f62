"""Image planes: what one slice says about its place, its moment and its scanner, classic or enhanced alike.

A classic DICOM image is one plane; an enhanced (multi-frame) object is many, each described by functional groups
of its own or shared ones (DICOM PS3.3 C.7.6.16). Everything after this file sees planes only.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from ..core.errors import FileRejected
from .dicom_files import declared_frames, reading

CLOCKS = (
    "FrameAcquisitionDateTime",
    "FrameReferenceDateTime",
    "TriggerTime",
    "AcquisitionDateTime",
    "AcquisitionTime",
    "ContentTime",
)
"""Time keys that tell seconds; the others tell an order only."""

TIME_KEYS = (
    "TemporalPositionIndex",
    "FrameAcquisitionDateTime",
    "FrameReferenceDateTime",
    "TemporalPositionIdentifier",
    "TriggerTime",
    "AcquisitionDateTime",
    "AcquisitionTime",
    "ContentTime",
    "InstanceNumber",
    "AcquisitionNumber",
)
"""Candidates for the order in time, best first (project specification, imaging §1.3)."""


@dataclass(frozen=True, eq=False)
class Plane:
    """One image plane.

    file, frame    number of the file and of the frame in it, from 0
    shape          (columns, rows)
    orientation    (6,) direction of the rows' and of the columns' index, LPS
    position       (3,) mm, LPS, centre of the first pixel
    spacing        (2,) mm between columns and between rows
    declared_step  mm, Spacing Between Slices, if given; used only where the positions cannot tell
    thickness      mm, Slice Thickness, if given; used for a lone slice only
    part           which of several kinds of image in one series it belongs to (image type, echo)
    moments        time key to seconds, milliseconds already divided, or to an order number
    acquisition    tr_s, te_s, fa_deg, b of this plane, where known
    slope, intercept   physical value = stored value * slope + intercept
    """

    file: int
    frame: int
    shape: tuple[int, int]
    orientation: NDArray[np.float64]
    position: NDArray[np.float64]
    spacing: NDArray[np.float64]
    declared_step: float | None
    thickness: float | None
    part: tuple[str, ...]
    moments: Mapping[str, float]
    acquisition: Mapping[str, float]
    slope: float
    intercept: float


def number(value: Any) -> float | None:
    """A finite number from a DICOM value (packed bytes of an unknown VR included), None if there is none."""
    if isinstance(value, bytes) and len(value) in (4, 8):
        value = struct.unpack("<f" if len(value) == 4 else "<d", value)[0]
    try:
        result = float(value)
    except (TypeError, ValueError):
        return None
    return result if np.isfinite(result) else None


def seconds_of_day(text: Any) -> float | None:
    """Seconds after midnight of a DICOM time (HHMMSS.FFFFFF, shortened at will)."""
    digits, _, fraction = str(text or "").strip().replace(":", "").partition(".")
    if not digits.isdigit() or len(digits) not in (2, 4, 6):
        return None
    hours, minutes, seconds = (int(digits[i : i + 2] or 0) for i in (0, 2, 4))
    return hours * 3600.0 + minutes * 60.0 + seconds + (float(f"0.{fraction}") if fraction.isdigit() else 0.0)


def _day(text: Any) -> float:
    """Seconds from a fixed origin to the start of a DICOM date; 0 if the date is absent or broken."""
    digits = str(text or "").strip()[:8]
    try:
        return date(int(digits[:4]), int(digits[4:6]), int(digits[6:8])).toordinal() * 86400.0
    except ValueError:
        return 0.0


def _date_time(text: Any) -> float | None:
    """Seconds from a fixed origin to a DICOM date time; the offset from UTC, the same in one series, is left out."""
    digits = str(text or "").strip().split("+")[0].split("-")[0]
    clock = seconds_of_day(digits[8:])
    return None if clock is None else _day(digits) + clock


def _first(dataset: Dataset | None, keyword: str) -> Dataset | None:
    """First item of a sequence, None if the sequence is absent or empty."""
    sequence = dataset.get(keyword) if dataset is not None else None
    return sequence[0] if sequence else None


@dataclass(frozen=True, eq=False)
class FrameView:
    """One plane's view of its data set: an attribute is looked up in its frame, then in what the frames share.

    A classic image has neither, so its attributes come from the data set itself.
    """

    dataset: Dataset
    own: Dataset | None
    shared: Dataset | None

    def group(self, sequence: str) -> Dataset | None:
        """The functional group of that name, of the frame or shared; the data set itself for a classic image."""
        if self.own is None and self.shared is None:
            return self.dataset
        return _first(self.own, sequence) or _first(self.shared, sequence)

    def value(self, sequence: str, keyword: str) -> Any:
        """One attribute of a functional group, None if absent."""
        group = self.group(sequence)
        return None if group is None else group.get(keyword)

    def private(self, *path: tuple[int, int]) -> Any:
        """A private element of the frame (through sequences), or of a classic image; None if absent."""
        place: Any = self.dataset if self.own is None else self.own
        for tag in path[:-1]:
            place = place[tag].value[0] if tag in place and place[tag].value else Dataset()
        return place[path[-1]].value if path[-1] in place else None


def frame_views(dataset: Dataset, where: str) -> list[FrameView]:
    """A view for each plane. Raises FileRejected when the frames and their descriptions differ in number."""
    if "PerFrameFunctionalGroupsSequence" not in dataset and "SharedFunctionalGroupsSequence" not in dataset:
        if declared_frames(dataset) > 1:
            raise FileRejected(
                f"{where} holds {declared_frames(dataset)} frames without saying where each lies",
                "functional groups with the position of every frame",
                "export the series as classic images, one slice a file",
            )
        return [FrameView(dataset, None, None)]
    shared = _first(dataset, "SharedFunctionalGroupsSequence") or Dataset()
    frames = dataset.get("PerFrameFunctionalGroupsSequence") or []
    if len(frames) != declared_frames(dataset):
        raise FileRejected(
            f"{where} declares {declared_frames(dataset)} frames and describes {len(frames)}",
            "one description a frame",
            "export the file again",
        )
    return [FrameView(dataset, frame, shared) for frame in frames]


def _vector(value: Any, length: int, what: str, where: str) -> NDArray[np.float64]:
    vector = np.array(
        [number(entry) for entry in value] if isinstance(value, Sequence) or hasattr(value, "__iter__") else [],
        dtype=float,
    )
    if vector.shape != (length,) or not np.isfinite(vector).all():
        raise FileRejected(
            f"{where} has no usable {what}",
            f"{length} numbers",
            "images must know their place in the patient; export the original images",
        )
    return vector


def geometry_of(view: FrameView, where: str) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """(orientation (6,), position (3,), spacing (2,) between columns, rows) of a plane. Raises FileRejected."""
    orientation = _vector(
        view.value("PlaneOrientationSequence", "ImageOrientationPatient"), 6, "Image Orientation (Patient)", where
    )
    position = _vector(
        view.value("PlanePositionSequence", "ImagePositionPatient"), 3, "Image Position (Patient)", where
    )
    rows, columns = _vector(view.value("PixelMeasuresSequence", "PixelSpacing"), 2, "Pixel Spacing", where)
    return orientation, position, np.array([columns, rows])


def _length(view: FrameView, keyword: str) -> float | None:
    """mm of Spacing Between Slices or Slice Thickness, None if absent or zero."""
    length = number(view.value("PixelMeasuresSequence", keyword))
    return abs(length) if length else None


def _moments(view: FrameView) -> dict[str, float]:
    dataset = view.dataset
    found: dict[str, float | None] = {
        "TemporalPositionIndex": number(view.value("FrameContentSequence", "TemporalPositionIndex")),
        "FrameAcquisitionDateTime": _date_time(view.value("FrameContentSequence", "FrameAcquisitionDateTime")),
        "FrameReferenceDateTime": _date_time(view.value("FrameContentSequence", "FrameReferenceDateTime")),
        "TemporalPositionIdentifier": number(dataset.get("TemporalPositionIdentifier")),
        "AcquisitionDateTime": _date_time(dataset.get("AcquisitionDateTime")),
        "InstanceNumber": number(dataset.get("InstanceNumber")),
        "AcquisitionNumber": number(dataset.get("AcquisitionNumber")),
    }
    trigger = number(dataset.get("TriggerTime"))
    found["TriggerTime"] = None if trigger is None else trigger / 1000.0
    for key, day in (("AcquisitionTime", "AcquisitionDate"), ("ContentTime", "ContentDate")):
        clock = seconds_of_day(dataset.get(key))
        found[key] = None if clock is None else _day(dataset.get(day)) + clock
    return {key: found[key] for key in TIME_KEYS if found[key] is not None}  # type: ignore[misc]


def _b_value(view: FrameView) -> float | None:
    """s/mm²; the standard element first, then those of Siemens (0019,100C), Philips (2001,1003), GE (0043,1039)."""
    standard = number(view.value("MRDiffusionSequence", "DiffusionBValue"))
    if standard is not None or view.own is not None:
        return standard
    maker = str(view.dataset.get("Manufacturer", "")).upper()
    if "SIEMENS" in maker:
        return number(view.private((0x0019, 0x100C)))
    if "PHILIPS" in maker:
        return number(view.private((0x2001, 0x1003)))
    value = view.private((0x0043, 0x1039)) if "GE" in maker else None
    first = number(
        value[0] if isinstance(value, Sequence) and not isinstance(value, (str, bytes)) and len(value) else value
    )
    return None if first is None else first % 1e9


def _acquisition(view: FrameView) -> dict[str, float]:
    timing = "MRTimingAndRelatedParametersSequence"
    repetition, angle = number(view.value(timing, "RepetitionTime")), number(view.value(timing, "FlipAngle"))
    echo = number(view.value("MREchoSequence", "EffectiveEchoTime")) or number(view.dataset.get("EchoTime"))
    found = {
        "tr_s": repetition and round(repetition / 1000.0, 9),
        "te_s": echo and round(echo / 1000.0, 9),
        "fa_deg": angle or None,
        "b": _b_value(view),
    }
    return {name: value for name, value in found.items() if value is not None and (value > 0 or name == "b")}


def _frame_type(view: FrameView) -> tuple[str, ...]:
    for sequence in ("MRImageFrameTypeSequence", "CTImageFrameTypeSequence", "ParametricMapFrameTypeSequence"):
        value = view.value(sequence, "FrameType")
        if value:
            return tuple(str(word) for word in value)
    value = view.dataset.get("ImageType") or ()
    return (value,) if isinstance(value, str) else tuple(str(word) for word in value)


def _part(view: FrameView, acquisition: Mapping[str, float]) -> tuple[str, ...]:
    kind = _frame_type(view)
    echo = f"echo {1000 * acquisition['te_s']:.2f} ms" if "te_s" in acquisition else ""
    component = str(view.value("MRImageFrameTypeSequence", "ComplexImageComponent") or "")
    return (kind[0] if kind else "", *kind[2:], component, echo)


def _scaling(view: FrameView, kind: Sequence[str], where: str) -> tuple[float, float]:
    """(slope, intercept); Philips magnitude images are put on the scale that all series share.

    Philips: (stored * slope + intercept) / (slope * scale slope), scale slope = private (2005,100E), in enhanced
    objects inside (2005,140F) [Chenevert et al. 2014, Transl Oncol 7:65, doi 10.1593/tlo.13811].
    """
    slope = number(view.value("PixelValueTransformationSequence", "RescaleSlope"))
    intercept = number(view.value("PixelValueTransformationSequence", "RescaleIntercept")) or 0.0
    slope = 1.0 if slope is None else slope
    if slope == 0.0:
        raise FileRejected(
            f"{where} has a rescale slope of 0: all values are equal",
            "a slope that is not 0",
            "export the images again",
        )
    if "PHILIPS" in str(view.dataset.get("Manufacturer", "")).upper() and "ORIGINAL" in kind and "M" in kind:
        classic = view.own is None
        scale = number(view.private((0x2005, 0x100E)) if classic else view.private((0x2005, 0x140F), (0x2005, 0x100E)))
        if scale:
            return 1.0 / scale, intercept / (slope * scale)
    return slope, intercept


def planes_of(dataset: Dataset, file: int, where: str) -> list[Plane]:
    """All planes of one image object. Raises FileRejected when one does not know its place."""
    with reading(where):
        return [_plane(view, file, frame, where) for frame, view in enumerate(frame_views(dataset, where))]


def _plane(view: FrameView, file: int, frame: int, where: str) -> Plane:
    kind = _frame_type(view)
    if "MOSAIC" in kind:
        raise FileRejected(
            f"{where} is a mosaic of slices in one image",
            "one slice an image",
            "export the series as enhanced MR, or convert it to NIfTI",
        )
    orientation, position, spacing = geometry_of(view, where)
    acquisition = _acquisition(view)
    slope, intercept = _scaling(view, kind, where)
    return Plane(
        file=file,
        frame=frame,
        shape=(int(view.dataset.Columns), int(view.dataset.Rows)),
        orientation=orientation,
        position=position,
        spacing=spacing,
        declared_step=_length(view, "SpacingBetweenSlices"),
        thickness=_length(view, "SliceThickness"),
        part=_part(view, acquisition),
        moments=_moments(view),
        acquisition=acquisition,
        slope=slope,
        intercept=intercept,
    )
