"""Patient and study of a source image, repeated whole in whatever is derived from it.

An archive files an object by these attributes; one that differs between an image and what was made of it splits the
patient in two, and ``dcentvfy`` says so.
"""

from __future__ import annotations

from copy import copy

from pydicom.dataset import Dataset

TYPE_2 = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
)
"""Attributes of patient and study that must be there, if need be empty."""

PATIENT_AND_STUDY = (
    *TYPE_2,
    "SpecificCharacterSet",
    "TimezoneOffsetFromUTC",
    "IssuerOfPatientID",
    "TypeOfPatientID",
    "OtherPatientIDsSequence",
    "PatientBirthTime",
    "OtherPatientNames",
    "EthnicGroup",
    "PatientComments",
    "PatientSpeciesDescription",
    "PatientSpeciesCodeSequence",
    "PatientBreedDescription",
    "PatientBreedCodeSequence",
    "BreedRegistrationSequence",
    "StrainDescription",
    "StrainNomenclature",
    "StrainCodeSequence",
    "ResponsiblePerson",
    "ResponsiblePersonRole",
    "ResponsibleOrganization",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "DeidentificationMethodCodeSequence",
    "LongitudinalTemporalInformationModified",
    "ClinicalTrialSponsorName",
    "ClinicalTrialProtocolID",
    "ClinicalTrialProtocolName",
    "ClinicalTrialSiteID",
    "ClinicalTrialSiteName",
    "ClinicalTrialSubjectID",
    "ClinicalTrialSubjectReadingID",
    "ClinicalTrialTimePointID",
    "ClinicalTrialTimePointDescription",
    "StudyInstanceUID",
    "StudyDescription",
    "PhysiciansOfRecord",
    "NameOfPhysiciansReadingStudy",
    "ReferencedStudySequence",
    "ProcedureCodeSequence",
    "AdmittingDiagnosesDescription",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    "PatientSexNeutered",
    "AdditionalPatientHistory",
    "AdmissionID",
    "MedicalAlerts",
    "Allergies",
    "SmokingStatus",
    "PregnancyStatus",
    "LastMenstrualDate",
    "PatientState",
    "RequestingService",
    "Occupation",
)
"""Attributes of patient and study that a derived object repeats (DICOM PS3.3 C.7.1 and C.7.2)."""


def patient_and_study(source: Dataset) -> Dataset:
    """A data set with the patient and study of a source image, whole."""
    copied = Dataset()
    for keyword in PATIENT_AND_STUDY:
        if keyword in source:
            copied[keyword] = copy(source[keyword])
        elif keyword in TYPE_2:
            setattr(copied, keyword, "")
    is_animal = "PatientSpeciesDescription" in copied or "PatientSpeciesCodeSequence" in copied
    if is_animal and "PatientSexNeutered" not in copied:
        copied.PatientSexNeutered = ""  # Type 2C
    return copied
