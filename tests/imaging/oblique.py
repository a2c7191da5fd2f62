"""A tilted grid and the head of the images on it: what written DICOM objects are tried on."""

from __future__ import annotations

from typing import Any

import numpy as np

from oncoscale.imaging.study import Grid

SHAPE = (6, 5, 4)
STUDY: dict[str, Any] = {
    "PatientName": "MADE^UP",
    "PatientID": "1",
    "PatientBirthDate": "",
    "PatientSex": "O",
    "StudyDate": "20240115",
    "StudyTime": "101500",
    "StudyID": "1",
    "AccessionNumber": "1",
    "ReferringPhysicianName": "",
    "BodyPartExamined": "ABDOMEN",
    "PatientPosition": "HFS",
}
GRADIENT_ECHO: dict[str, Any] = {
    "ImageType": ["ORIGINAL", "PRIMARY", "OTHER"],
    "Manufacturer": "oncoscale",
    "ScanningSequence": "GR",
    "SequenceVariant": "SP",
    "ScanOptions": "",
    "MRAcquisitionType": "3D",
    "RepetitionTime": 5.0,
    "EchoTime": 1.5,
    "EchoTrainLength": 1,
    "FlipAngle": 12.0,
}


def oblique_grid(frame_uid: str) -> Grid:
    """Right-handed, tilted 7° about x, anisotropic, off centre."""
    a = np.deg2rad(7.0)
    affine = np.eye(4)
    affine[:3, :3] = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]]) @ np.diag([1.5, 2, 5])
    affine[:3, 3] = [-11.1, 22.2, -33.3]
    return Grid(SHAPE, affine, frame_uid)
