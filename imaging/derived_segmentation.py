"""A segmentation drawn on any images: classic ones, a slice a file, or frames of enhanced ones.

The library that encodes segmentations takes classic images or one enhanced object that is the whole grid. Real series
are neither (a file a time, slices in any order), so frames are shown to it as classic images, and its references are
replaced by references to the frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from pathlib import Path

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.sr.coding import Code
from pydicom.uid import MRImageStorage

from ..core.files import written_whole
from .dicom_write import (
    SegmentationHead,
    SegmentationKind,
    derived_uid,
    plane_attributes,
    set_attributes,
    write_segmentation,
)
from .source_images import SourceFrame, derivation, refer_to
from .study import Grid, LabelImage

SEGMENTED = Code("113076", "DCM", "Segmentation")
"""How frames of a segmentation are derived (DICOM PS3.16 context group 7203)."""
_MULTI_FRAME = (
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    "NumberOfFrames",
    "DimensionIndexSequence",
    "DimensionOrganizationSequence",
)


def write_segmentation_of_frames(
    path: Path | str,
    labels: LabelImage,
    frames: Sequence[SourceFrame],
    head: SegmentationHead,
    kind: SegmentationKind = "BINARY",
) -> None:
    """Write a label image as write_segmentation does, drawn on these source slices: one a slice, ascending."""
    if all(frame.frame is None for frame in frames):
        write_segmentation(path, labels, [frame.header for frame in frames], head, kind)
        return
    with written_whole(path) as beside:
        write_segmentation(beside, labels, _stand_ins(labels.grid, frames), head, kind)
        segmentation = dcmread(beside)
        _refer_to_frames(segmentation, labels.grid, frames)
        segmentation.save_as(beside)


def _stand_ins(grid: Grid, frames: Sequence[SourceFrame]) -> list[Dataset]:
    """Headers of classic images in place of frames."""
    plane, headers = plane_attributes(grid), []
    for k, frame in enumerate(frames):
        header = Dataset({one.tag: copy(one) for one in frame.header if one.keyword not in _MULTI_FRAME})
        header.SOPClassUID, header.SOPInstanceUID = MRImageStorage, derived_uid(frame.header.SOPInstanceUID, k)
        set_attributes(header, plane)
        set_attributes(header, {"ImagePositionPatient": frame.position.tolist()})
        headers.append(header)
    return headers


def _refer_to_frames(segmentation: Dataset, grid: Grid, frames: Sequence[SourceFrame]) -> None:
    for item in segmentation.PerFrameFunctionalGroupsSequence:
        place = np.array(item.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
        k = round(float(grid.index(place)[2]))
        item.DerivationImageSequence = Items([derivation([frames[k]], SEGMENTED)])
    refer_to(segmentation, [frame.header for frame in frames])
