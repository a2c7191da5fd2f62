"""The headers of the images that a map or a segmentation was made from: what a derived DICOM object refers to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from ..core.errors import FileRejected, StudyRejected
from .dicom_files import read_dicom
from .planes import planes_of
from .study import Grid, ImagingStudy

SAME_PLACE = 0.02
"""Share of the slice distance within which a source slice lies on a slice of the derived object."""


def code_item(code: Code) -> Dataset:
    """One item of a code sequence (DICOM PS3.3 table 8.8-1)."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code.value, code.scheme_designator, code.meaning
    return item


@dataclass(frozen=True, eq=False)
class SourceFrame:
    """One slice of a source: a classic image, or a frame of an enhanced one.

    header    the file's data set without pixels
    frame     number of the frame from 1, None for a classic image
    position  (3,) mm, LPS, centre of its first pixel
    """

    header: Dataset
    frame: int | None
    position: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class SourceImages:
    """Headers of all DICOM objects of a study, by SOP Instance UID."""

    headers: Mapping[str, Dataset]

    def of(self, uids: Iterable[str], study: ImagingStudy | None = None) -> tuple[Dataset, ...]:
        """The headers of instances and whole series, in the order in which a series of the study is sorted.

        uids  SOP Instance UIDs and Series Instance UIDs; those of no DICOM object are passed over
        """
        wanted = set(uids)
        known = study.series if study is not None else ()
        ordered = [uid for one in known if one.uid in wanted for uid in one.instance_uids]
        ordered += [
            uid
            for uid, header in self.headers.items()
            if uid in wanted or str(header.get("SeriesInstanceUID")) in wanted
        ]
        return self.instances(dict.fromkeys(ordered))

    def instances(self, uids: Iterable[str]) -> tuple[Dataset, ...]:
        """The headers of these instances, in this order; those of no DICOM object are passed over."""
        return tuple(self.headers[uid] for uid in uids if uid in self.headers)


def read_source_images(folder: Path | str) -> SourceImages:
    """The headers of the DICOM objects in a folder and its subfolders.

    Raises StudyRejected for a folder without one: a derived object must say whose it is and what it was made from.
    """
    root = Path(folder)
    paths = (
        [root] if root.is_file() else sorted(path for path in root.rglob("*") if path.is_file() and path.name[0] != ".")
    )
    headers: dict[str, Dataset] = {}
    for number, path in enumerate(paths, start=1):
        header = read_dicom(path, f"file {number} of {len(paths)}", pixels=False)
        if header is not None and header.get("SOPInstanceUID") and header.get("StudyInstanceUID"):
            headers.setdefault(str(header.SOPInstanceUID), header)
    if not headers:
        raise StudyRejected(
            "none of the images is DICOM, so nothing says to which patient and study a DICOM object would belong",
            "a study of DICOM images",
            "leave --dicom out, or give the DICOM images",
        )
    return SourceImages(headers)


def frames_of(headers: Iterable[Dataset]) -> list[SourceFrame]:
    """Every slice of these images; objects whose slices have no place of their own have none."""
    frames: list[SourceFrame] = []
    for header in headers:
        try:
            planes = planes_of(header, 0, "a source image")
        except FileRejected:
            continue
        several = "PerFrameFunctionalGroupsSequence" in header
        frames += [SourceFrame(header, plane.frame + 1 if several else None, plane.position) for plane in planes]
    return frames


def frames_by_slice(grid: Grid, headers: Iterable[Dataset]) -> list[list[SourceFrame]]:
    """For each slice of a grid the source slices that begin where it begins, in the order of the headers."""
    starts = grid.world(np.array([[0, 0, k] for k in range(grid.shape[2])]))
    slices: list[list[SourceFrame]] = [[] for _ in starts]
    for frame in frames_of(headers):
        gaps = np.linalg.norm(starts - frame.position, axis=1)
        nearest = int(np.argmin(gaps))
        if gaps[nearest] <= SAME_PLACE * grid.spacing[2]:
            slices[nearest].append(frame)
    return slices


def reference(header: Dataset) -> Dataset:
    """Reference to one instance."""
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = header.SOPClassUID, header.SOPInstanceUID
    return item


def derivation(frames: Sequence[SourceFrame], how: Code) -> Dataset:
    """An item of Derivation Image Sequence: how something was derived, and from which source slices."""
    item = Dataset()
    item.DerivationCodeSequence = Items([code_item(how)])
    item.SourceImageSequence = Items([_source_item(frame) for frame in frames])
    return item


def _source_item(frame: SourceFrame) -> Dataset:
    item = reference(frame.header)
    if frame.frame is not None:
        item.ReferencedFrameNumber = frame.frame
    item.SpatialLocationsPreserved = "YES"
    item.PurposeOfReferenceCodeSequence = Items([code_item(codes.DCM.SourceImageForImageProcessingOperation)])
    return item


def refer_to(dataset: Dataset, headers: Iterable[Dataset]) -> None:
    """Set the common instance reference (DICOM PS3.3 C.12.2): the series of the sources, those of other studies apart.

    A viewer finds the images under a segmentation or a map by these, and misplaces what has none.
    """
    studies: dict[str, dict[str, dict[str, Dataset]]] = {}
    for header in headers:
        series = studies.setdefault(str(header.StudyInstanceUID), {})
        series.setdefault(str(header.SeriesInstanceUID), {})[str(header.SOPInstanceUID)] = reference(header)
    for keyword in ("ReferencedSeriesSequence", "StudiesContainingOtherReferencedInstancesSequence"):
        if keyword in dataset:
            del dataset[keyword]
    own = studies.pop(str(dataset.StudyInstanceUID), None)
    if own:
        dataset.ReferencedSeriesSequence = Items([_series_item(uid, one) for uid, one in own.items()])
    others = []
    for study, series in studies.items():
        item = Dataset()
        item.StudyInstanceUID = study
        item.ReferencedSeriesSequence = Items([_series_item(uid, one) for uid, one in series.items()])
        others.append(item)
    if others:
        dataset.StudiesContainingOtherReferencedInstancesSequence = Items(others)


def _series_item(uid: str, instances: Mapping[str, Dataset]) -> Dataset:
    item = Dataset()
    item.SeriesInstanceUID = uid
    item.ReferencedInstanceSequence = Items(list(instances.values()))
    return item
