"""The visits of a folder: which files belong to one, told from their headers alone, and the one that the user means.

Studies of one subject on one day are one visit; what holds no original images (segmentations, maps, plans) joins the
visit that it was made from.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from ..core.errors import ConfigurationRejected, FileRejected, StudyRejected
from .dicom_series import DicomFile

IMAGES = {
    "1.2.840.10008.5.1.4.1.1.4",
    "1.2.840.10008.5.1.4.1.1.4.1",
    "1.2.840.10008.5.1.4.1.1.4.4",
    "1.2.840.10008.5.1.4.1.1.2",
    "1.2.840.10008.5.1.4.1.1.2.1",
    "1.2.840.10008.5.1.4.1.1.2.2",
}
"""MR and CT images: classic, enhanced, legacy converted."""
LONGEST_TEXT = 128
"""Characters of an attribute that are kept; an identifier has at most 64 (DICOM PS3.5 table 6.2-1)."""


@dataclass(frozen=True)
class Glance:
    """What a DICOM file says of where it belongs; "" where it says nothing that can be decoded.

    where        "file 17 of 240"
    day          ordinal of the day of its study, None if unknown
    is_original  True for an original image that knows its place in a patient
    """

    path: Path
    where: str
    patient: str
    study: str
    series: str
    instance: str
    frame: str
    day: int | None
    is_original: bool


def glance_of(file: DicomFile) -> Glance:
    """What the header of a file says of where it belongs."""
    frame = _text(file, "FrameOfReferenceUID")
    return Glance(
        path=file.path,
        where=file.where,
        patient=_text(file, "PatientID"),
        study=_text(file, "StudyInstanceUID"),
        series=_text(file, "SeriesInstanceUID"),
        instance=_text(file, "SOPInstanceUID"),
        frame=frame,
        day=_ordinal(_text(file, "StudyDate")),
        is_original=_text(file, "SOPClassUID") in IMAGES and "ORIGINAL" in _words(file) and bool(frame),
    )


def _text(file: DicomFile, keyword: str) -> str:
    """An attribute, "" where it cannot be decoded: the refusal comes with the series."""
    try:
        return file.text(keyword)[:LONGEST_TEXT]
    except FileRejected:
        return ""


def _words(file: DicomFile) -> tuple[str, ...]:
    try:
        return file.words("ImageType")
    except FileRejected:
        return ()


def _ordinal(text: str) -> int | None:
    try:
        return date(int(text[:4]), int(text[4:6]), int(text[6:8])).toordinal()
    except ValueError:
        return None


@dataclass(eq=False)
class VisitFiles:
    """Files that belong to one visit.

    dicom  what each says of itself
    nifti  (path, where)
    """

    dicom: list[Glance] = field(default_factory=list)
    nifti: list[tuple[Path, str]] = field(default_factory=list)

    @property
    def has_images(self) -> bool:
        """True if it holds original images, so that it has a day of its own."""
        return any(file.is_original for file in self.dicom)

    @property
    def day(self) -> int | None:
        """The day of its images, counted from a fixed origin; None without images or date."""
        known = [file.day for file in self.dicom if file.day is not None] if self.has_images else []
        return max(set(known), key=known.count) if known else None

    @property
    def subject(self) -> tuple[str, ...]:
        """The patient identifiers of its files, for comparison only."""
        return tuple(sorted({file.patient for file in self.dicom} - {""}))

    @property
    def paths(self) -> list[Path]:
        """Its files."""
        return [file.path for file in self.dicom] + [path for path, _ in self.nifti]

    def _all(self, name: str) -> set[Any]:
        return {getattr(file, name) for file in self.dicom} - {"", None}

    def _take(self, other: VisitFiles) -> None:
        self.dicom += other.dicom
        self.nifti += other.nifti


def visits_of(
    dicom: Sequence[Glance], nifti: Sequence[tuple[Path, str]], folder: Path, *, same_subject: bool
) -> list[VisitFiles]:
    """The files of a folder by visit, in the order of days.

    same_subject  True if files under several patient identifiers show one subject
    """
    parts: dict[tuple[str, str], VisitFiles] = {}
    for file in dicom:
        key = ("" if same_subject else file.patient, file.study)
        parts.setdefault(key, VisitFiles()).dicom.append(file)
    by_day: dict[tuple[Any, ...], VisitFiles] = {}
    derived = []
    for (patient, study), part in parts.items():
        if part.has_images:
            by_day.setdefault((patient, study if part.day is None else part.day), VisitFiles())._take(part)
        else:
            derived.append(part)
    if not by_day:
        return _with_nifti(nifti, folder, _as_one(derived))
    found = sorted(by_day.values(), key=lambda part: (part.day or 0, part.dicom[0].path.as_posix()))
    homes = [_home(part, found) for part in derived]
    for part, home in zip(derived, homes):
        if home is None:
            found.append(part)
        else:
            home._take(part)
    return _with_nifti(nifti, folder, found)


def _as_one(parts: Sequence[VisitFiles]) -> list[VisitFiles]:
    """All of them as one visit: without original images nothing tells visits apart."""
    whole = VisitFiles()
    for part in parts:
        whole._take(part)
    return [whole] if whole.dicom else []


def _home(part: VisitFiles, visits: Sequence[VisitFiles]) -> VisitFiles | None:
    """The visit that derived objects belong to: the only one, or that of their frame of reference, study or day."""
    if len(visits) == 1:
        return visits[0]
    for name in ("frame", "study", "day"):
        alike = [visit for visit in visits if visit._all(name) & part._all(name)]
        same = [visit for visit in alike if visit._all("patient") & part._all("patient")]
        if len(same or alike) == 1 and (same or name != "day"):
            return (same or alike)[0]
    return None


def _with_nifti(nifti: Sequence[tuple[Path, str]], folder: Path, parts: list[VisitFiles]) -> list[VisitFiles]:
    """NIfTI files go to the only visit, or to that in whose folder they lie; else they are a visit of their own."""
    own = VisitFiles()
    folders = [_common(part, folder) for part in parts]
    for entry in nifti:
        near = [part for part, common in zip(parts, folders) if entry[0].is_relative_to(common)]
        (parts[0] if len(parts) == 1 else near[0] if len(near) == 1 else own).nifti.append(entry)
    return [*parts, own] if own.nifti else parts


def _common(part: VisitFiles, folder: Path) -> Path:
    parents = [path.parent for path in part.paths]
    return Path(os.path.commonpath(parents)) if parents else folder


def own_folder(part: VisitFiles, visits: Sequence[VisitFiles], folder: Path) -> str | None:
    """The folder that holds this visit and no other, relative to the whole; None if there is none."""
    others = [other for other in visits if other is not part]
    if not others:
        return "."
    common = _common(part, folder)
    if any(path.is_relative_to(common) for other in others for path in other.paths):
        return None
    return common.relative_to(folder).as_posix()


# ------------------------------------------------------------------------------------------------ subjects and days


def subjects_and_days(visits: Sequence[VisitFiles], *, same_subject: bool) -> list[tuple[int, int | None]]:
    """(number of the subject, from 1; days after the subject's first visit, None if unknown) of each visit."""
    people = [() if same_subject else part.subject for part in visits]
    subjects = list(dict.fromkeys(people))
    days = {one: [part.day for part, of in zip(visits, people) if of == one and part.day is not None] for one in people}
    return [
        (1 + subjects.index(of), None if part.day is None else part.day - min(x for x in days[of] if x is not None))
        for part, of in zip(visits, people)
    ]


def _named(place: int, part: VisitFiles, subject: int, day: int | None, *, several: bool) -> str:
    who = f"subject {subject}, " if several else ""
    return f"{place} ({who}{'no date' if day is None else f'day {day}'}, {len(part.paths)} files)"


def listed(visits: Sequence[VisitFiles], *, same_subject: bool) -> str:
    """The visits in words that identify nobody: number, days after the first, count of files."""
    known = subjects_and_days(visits, same_subject=same_subject)
    several = len({subject for subject, _ in known}) > 1
    return ", ".join(
        _named(place, part, subject, day, several=several)
        for place, (part, (subject, day)) in enumerate(zip(visits, known), start=1)
    )


def refuse_several(visits: Sequence[VisitFiles], *, same_subject: bool) -> None:
    """Raise StudyRejected, listing the visits, for original images of several days."""
    days = {part.day for part in visits} - {None}
    if len(days) > 1:
        raise StudyRejected(
            f"the folder holds {len(visits)} visits of {len(days)} days: {listed(visits, same_subject=same_subject)}",
            "one visit",
            "say which with --visit NUMBER, or give the folder of one visit",
        )


def chosen_visit(visits: Sequence[VisitFiles], chosen: str, *, same_subject: bool) -> int:
    """The place of the visit that the user means.

    chosen  its number, as inspect lists the visits, the date of its images (20200131 or 2020-01-31), or the end of
            the Study Instance UID of one of its files

    Raises ConfigurationRejected, listing the visits, unless exactly one is meant.
    """
    places = _meant(visits, chosen.strip())
    if len(places) == 1:
        return places[0]
    raise ConfigurationRejected(
        f"--visit means {len(places) or 'none'} of the {len(visits)} visits: "
        + listed(visits, same_subject=same_subject),
        "the number of one visit, its date, or the end of its Study Instance UID",
        "give the number that oncoscale inspect shows",
    )


def _meant(visits: Sequence[VisitFiles], chosen: str) -> list[int]:
    if re.fullmatch(r"[0-9]{1,4}", chosen):
        return [int(chosen) - 1] if 1 <= int(chosen) <= len(visits) else []
    day = _ordinal(chosen.replace("-", "")) if re.fullmatch(r"[0-9]{8}|[0-9]{4}-[0-9]{2}-[0-9]{2}", chosen) else None
    if day is not None:
        return [place for place, part in enumerate(visits) if part.day == day]
    is_end = bool(re.fullmatch(r"[0-9.]{4,64}", chosen))
    return [
        place for place, part in enumerate(visits) if is_end and any(file.study.endswith(chosen) for file in part.dicom)
    ]
