"""The images that a segmentation or a structure set says it was drawn on, by its own references."""

from __future__ import annotations

from collections.abc import Iterator

from pydicom.dataset import Dataset


def referred_images(header: Dataset) -> tuple[Dataset, ...]:
    """One item an image, with the UIDs of its study, series, kind and instance, in the order in which they are named.

    A segmentation names them by its common instance reference (DICOM PS3.3 C.12.2), a structure set by the frame of
    reference of its contours (C.8.8.5). A reference that lacks a UID is passed over.
    """
    found = {str(one.SOPInstanceUID): one for one in (*_of_segmentation(header), *_of_structure_set(header))}
    return tuple(found.values())


def _of_segmentation(header: Dataset) -> Iterator[Dataset]:
    own = str(header.get("StudyInstanceUID") or "")
    for series in header.get("ReferencedSeriesSequence") or []:
        yield from _images(own, series, "ReferencedInstanceSequence")
    for study in header.get("StudiesContainingOtherReferencedInstancesSequence") or []:
        for series in study.get("ReferencedSeriesSequence") or []:
            yield from _images(str(study.get("StudyInstanceUID") or ""), series, "ReferencedInstanceSequence")


def _of_structure_set(header: Dataset) -> Iterator[Dataset]:
    for frame in header.get("ReferencedFrameOfReferenceSequence") or []:
        for study in frame.get("RTReferencedStudySequence") or []:
            for series in study.get("RTReferencedSeriesSequence") or []:
                yield from _images(str(study.get("ReferencedSOPInstanceUID") or ""), series, "ContourImageSequence")


def _images(study: str, series: Dataset, sequence: str) -> Iterator[Dataset]:
    for item in series.get(sequence) or []:
        words = (study, series.get("SeriesInstanceUID"), item.get("ReferencedSOPClassUID"))
        image = Dataset()
        image.StudyInstanceUID, image.SeriesInstanceUID, image.SOPClassUID = (str(word or "") for word in words)
        image.SOPInstanceUID = str(item.get("ReferencedSOPInstanceUID") or "")
        if all(element.value for element in image):
            yield image
