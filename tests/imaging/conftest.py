"""Small DICOM series made on the spot, so that each thing that can be wrong with one can be made wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

PATIENT, NAME = "SECRET-4711", "Doe^Jane"
"""Identity written into every synthetic image; no message may repeat it."""


def tiny_image(series: int, slice_number: int, time_point: int, n_slices: int, step: float) -> Dataset:
    """One valid classic MR image, 6 columns x 5 rows; each pixel holds 100 * time point + slice number."""
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.SOPClassUID, image.SOPInstanceUID = MRImageStorage, f"1.2.3.{series}.{time_point}.{slice_number + 1}"
    image.PatientID, image.PatientName = PATIENT, NAME
    image.StudyInstanceUID, image.SeriesInstanceUID = "1.2.3", f"1.2.3.{series}"
    image.FrameOfReferenceUID, image.SeriesNumber, image.Modality = "1.2.9", series, "MR"
    image.StudyDate = image.ContentDate = "20200131"
    image.ImageType, image.SeriesDescription = ["ORIGINAL", "PRIMARY", "M"], "tiny"
    image.ScanningSequence, image.RepetitionTime, image.EchoTime, image.FlipAngle = "GR", "5", "2", "15"
    image.InstanceNumber = time_point * n_slices + slice_number + 1
    image.ContentTime = f"1000{10 * time_point:02d}"
    image.Rows, image.Columns, image.PixelSpacing, image.SliceThickness = 5, 6, [1.5, 1.25], 4
    image.ImageOrientationPatient, image.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [-10, -20, 5 + step * slice_number]
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated = image.BitsStored = 16
    image.HighBit, image.PixelRepresentation = 15, 0
    image.PixelData = np.full((5, 6), 100 * time_point + slice_number, dtype="<u2").tobytes()
    return image


@pytest.fixture
def tiny() -> Callable[..., list[Dataset]]:
    """A function that makes the images of a series in memory."""

    def make(*, series: int = 1, slices: int = 4, times: int = 1, step: float = 2.0, **same: Any) -> list[Dataset]:
        images = [tiny_image(series, k, t, slices, step) for t in range(times) for k in range(slices)]
        for image in images:
            for keyword, value in same.items():
                setattr(image, keyword, value)
        return images

    return make


@pytest.fixture
def save() -> Callable[[Path, Iterable[Dataset]], Path]:
    """A function that writes images into a folder, under names that follow no order, the same in every run."""

    def write(folder: Path, images: Iterable[Dataset]) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        for image in images:
            place = crc32(image.SOPInstanceUID.encode()) % 9973
            image.save_as(folder / f"IM{place:04d}_{image.SOPInstanceUID.replace('.', '_')}", enforce_file_format=True)
        return folder

    return write
