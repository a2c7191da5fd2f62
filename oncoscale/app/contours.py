"""Predicted contours as DICOM Segmentations, so that an archive shows them on the patient's own images."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from .. import __version__
from ..imaging.dicom_write import SegmentationHead, derived_uid, write_segmentation
from ..imaging.study import Grid, ImagingStudy, LabelImage, Series

MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4"


def write_dicom_contours(
    folder: Path, contours: Sequence[tuple[float, LabelImage]], study: ImagingStudy, images: Path, run: str
) -> str:
    """Write ``contour-day-NNN.dcm`` for each (day, contour); returns why none were written, empty if they were.

    images  folder of the stored study's DICOM files
    run     identity of the run, from which the objects' UIDs follow

    The contours must lie on the grid of a series of single-frame images: a segmentation refers to those images.
    """
    grid = contours[0][1].grid
    series = next((one for one in study.series if one.instance_uids and one.grid.same_as(grid)), None)
    if series is None:
        return "no DICOM series of the study has the grid of the tumour's outline"
    sources = source_headers(images, series, grid)
    if sources is None:
        return "the outlined series is not one of single-frame images"
    for place, (day, contour) in enumerate(contours):
        if contour.values.any():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # a pseudonym has no family name
                target = folder / f"contour-day-{day:03.0f}.dcm"
                write_segmentation(target, contour, sources, _head(run, day, place, sources[0]))
    return ""


def _head(run: str, day: float, place: int, source: Dataset) -> SegmentationHead:
    return SegmentationHead(
        series_uid=derived_uid(run, "contours"),
        instance_uid=derived_uid(run, "contour", place),
        number=9000 + place,
        description=f"Predicted tumour, day {day:g}, research only",
        moment=(str(source.get("StudyDate") or "19000101"), str(source.get("StudyTime") or "000000")),
        algorithm=("oncoscale forecast", __version__),
    )


def source_headers(folder: Path, series: Series, grid: Grid) -> list[Dataset] | None:
    """One header a slice of ``grid``, slices ascending, from the files of a series; None if they do not cover it."""
    wanted = grid.world(np.array([[0.0, 0.0, k] for k in range(grid.shape[2])]))
    found: dict[int, Dataset] = {}
    for path in sorted(folder.rglob("*.dcm")):
        header = _header(path)
        if header is None or (header.get("SeriesInstanceUID") not in (series.uid, None) and series.uid):
            continue
        place = header.get("ImagePositionPatient")
        if place is None or header.SOPClassUID != MR_IMAGE:
            continue
        gaps = np.linalg.norm(wanted - np.array(place, dtype=float), axis=1)
        nearest = int(np.argmin(gaps))
        if gaps[nearest] < 1e-2:
            found.setdefault(nearest, header)
    return [found[k] for k in range(grid.shape[2])] if len(found) == grid.shape[2] else None


def _header(path: Path) -> Dataset | None:
    try:
        return dcmread(path, stop_before_pixels=True)
    except (InvalidDicomError, OSError):
        return None
