"""What every derived DICOM object has: the patient and study of its source, a series of its own, our equipment.

Derived objects are for research, and say so. Nothing in them comes from the clock or from chance: dates are those of
the study, and identities follow from what the object was made of, so equal input gives equal files.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.sr.coding import Code
from pydicom.uid import UID, ExplicitVRLittleEndian

from .. import __version__
from ..core.files import written_whole
from .derived_codes import SCHEME, SCHEME_NAME
from .dicom_write import IMPLEMENTATION_NAME, IMPLEMENTATION_UID, MANUFACTURER, set_attributes
from .patient_study import patient_and_study

NO_DATE = "19000101"
"""Stands for a date where the study has none and the object must have one."""


@dataclass(frozen=True)
class SeriesHead:
    """The series level of a derived object.

    moment  (date YYYYMMDD, time HHMMSS) of the content
    """

    series_uid: str
    instance_uid: str
    number: int
    description: str
    moment: tuple[str, str]


def moment_of(source: Dataset) -> tuple[str, str]:
    """(date, time) of a study, so that what is derived from it depends on no clock."""
    return str(source.get("StudyDate") or NO_DATE), str(source.get("StudyTime") or "000000")


def derived_object(source: Dataset, head: SeriesHead, sop_class: str, modality: str) -> Dataset:
    """A data set of patient, study, series, equipment and identity; the content is to follow."""
    date, time = head.moment
    dataset = patient_and_study(source)
    kept = ("FrameOfReferenceUID", "PositionReferenceIndicator")
    about: dict[str, Any] = {keyword: source.get(keyword) for keyword in kept if source.get(keyword)}
    if "FrameOfReferenceUID" in about:
        about.setdefault("PositionReferenceIndicator", "")
    set_attributes(
        dataset,
        about
        | {
            "SOPClassUID": sop_class,
            "SOPInstanceUID": head.instance_uid,
            "Modality": modality,
            "SeriesInstanceUID": head.series_uid,
            "SeriesNumber": head.number,
            "SeriesDescription": head.description,
            "SeriesDate": date,
            "SeriesTime": time,
            "ContentDate": date,
            "ContentTime": time,
            "InstanceCreationDate": date,
            "InstanceCreationTime": time,
            "InstanceNumber": 1,
            "Manufacturer": MANUFACTURER,
            "ManufacturerModelName": MANUFACTURER,
            "DeviceSerialNumber": "0",
            "SoftwareVersions": __version__,
        },
    )
    dataset.SpecificCharacterSet = source.get("SpecificCharacterSet") or "ISO_IR 192"
    return dataset


def explain_scheme(dataset: Dataset, used: Iterable[Code | None]) -> None:
    """Say whose the private coding scheme is, in an object that uses it."""
    if not any(code is not None and code.scheme_designator == SCHEME for code in used):
        return
    item = Dataset()
    item.CodingSchemeDesignator, item.CodingSchemeName = SCHEME, SCHEME_NAME
    item.CodingSchemeResponsibleOrganization = MANUFACTURER
    dataset.CodingSchemeIdentificationSequence = Items([item])


def save(path: Path | str, dataset: Dataset) -> None:
    """Write a data set as a DICOM file, whole or not at all."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(IMPLEMENTATION_UID)
    meta.ImplementationVersionName = IMPLEMENTATION_NAME
    dataset.file_meta = meta
    with written_whole(path) as beside:
        dataset.save_as(beside, enforce_file_format=True)
