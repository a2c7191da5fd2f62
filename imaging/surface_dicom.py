"""The surface of a region as a DICOM object: a binary STL, millimetres, patient coordinates (LPS), encapsulated."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import EncapsulatedSTLStorage

from .. import __version__
from ..core.errors import SegmentationRejected
from .derived_codes import UNITS
from .derived_object import SeriesHead, derived_object, moment_of, save
from .dicom_write import derived_uid, set_attributes
from .source_images import code_item, refer_to, reference

HEADER = 80
SERIES = 9800
"""Series number: above those of derived maps."""
FACET = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
"""One triangle of a binary STL, 50 bytes."""


def stl_bytes(points: NDArray[np.floating], triangles: NDArray[np.integer]) -> bytes:
    """A surface as binary little-endian STL.

    points     (nodes, 3) mm, LPS
    triangles  (faces, 3) nodes, counter-clockwise seen from outside
    """
    corners = np.asarray(points, dtype=np.float64)[triangles]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    lengths = np.linalg.norm(normals, axis=1, keepdims=True)
    facets = np.zeros(len(triangles), dtype=FACET)
    facets["normal"] = normals / np.where(lengths > 0, lengths, 1.0)
    facets["corners"] = corners
    title = b"oncoscale surface, mm, LPS".ljust(HEADER, b"\0")
    return b"".join([title, len(triangles).to_bytes(4, "little"), facets.tobytes()])


def stl_triangles(data: bytes) -> NDArray[np.float64]:
    """(faces, 3, 3) corners of a binary STL in its own units; bytes after the last triangle are padding."""
    count = int(np.frombuffer(data, "<u4", 1, HEADER)[0])
    return np.asarray(np.frombuffer(data, FACET, count, HEADER + 4)["corners"], dtype=np.float64)


def surface_head(source: Dataset, stl: bytes) -> SeriesHead:
    """A series of its own for a surface, whose identity follows from the study and from the triangles."""
    identity = (source.StudyInstanceUID, __version__, "surface", sha256(stl).hexdigest())
    uids = (derived_uid("series", *identity), derived_uid("instance", *identity))
    return SeriesHead(*uids, SERIES, "Surface of the tumour, research only", moment_of(source))


def write_surface_object(
    path: Path | str,
    points: NDArray[np.floating],
    triangles: NDArray[np.integer],
    sources: Sequence[Dataset],
    head: SeriesHead,
    title: str = "Tumour surface",
    images: Sequence[Dataset] = (),
) -> None:
    """Write a closed surface as a DICOM Encapsulated STL.

    points     (nodes, 3) mm, LPS, in the frame of reference of the sources
    triangles  (faces, 3) nodes, counter-clockwise seen from outside
    sources    headers of the images, or of the segmentation, that it was made from; the first gives patient and study
    images     further objects to refer to: those that the segmentation was drawn on

    Raises SegmentationRejected for a surface without a triangle.
    """
    if not len(triangles):
        raise SegmentationRejected("a surface without a triangle", "a closed surface", "check the region")
    data = stl_bytes(points, triangles)
    dataset = derived_object(sources[0], head, EncapsulatedSTLStorage, "M3D")
    about: dict[str, Any] = {
        "AcquisitionDateTime": "".join(head.moment),
        "BurnedInAnnotation": "NO",
        "RecognizableVisualFeatures": "NO",
        "DocumentTitle": title,
        "MIMETypeOfEncapsulatedDocument": "model/stl",
        "EncapsulatedDocumentLength": len(data),
        "EncapsulatedDocument": data + b"\0" * (len(data) % 2),
        "ContentDescription": title,
    }
    set_attributes(dataset, about)
    dataset.ConceptNameCodeSequence = Items([])
    dataset.MeasurementUnitsCodeSequence = Items([code_item(UNITS["mm"])])
    dataset.SourceInstanceSequence = Items([reference(source) for source in sources])
    refer_to(dataset, [*sources, *images])
    save(path, dataset)
