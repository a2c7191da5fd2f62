"""Look into a folder of anything: visits, series, what can be used, and why the rest cannot.

    files -> first look at each, in a child process under limits -> visits -> what each visit holds

Nothing that one file does stops the look at the others. Every file is opened, and every pixel decoded, in the
child (see guarded); what is learned of a visit is handed over before the next is read.
"""

from __future__ import annotations

import filecmp
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import FileDataset

from ..core.errors import FileRejected, InputError, StudyRejected
from .dicom_files import read_dicom, reading
from .dicom_read import DICOM_SUFFIXES, IMAGES, files_of, read_visit
from .dicom_series import DicomFile, DicomGroup, Read, read_group
from .guarded import Guard
from .nifti import is_nifti
from .nifti_series import read_nifti_file
from .study import Finding, ImagingStudy

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Refused:
    """Something in the folder that cannot be read.

    where   "file 17 of 240", or a series
    reason  found, expected and to do, in one sentence each
    """

    where: str
    reason: str


@dataclass(frozen=True)
class Statement:
    """What the user states about the files; see dicom_read.read_study."""

    units: Mapping[str, str] = field(default_factory=dict)
    same_subject: bool = False
    regions: Mapping[int, str] | None = None
    times_s: Sequence[float] | None = None


@dataclass(frozen=True, eq=False)
class FirstLook:
    """The files of a folder, by what they are.

    dicom    DICOM objects, headers only
    nifti    (path, where) of NIfTI files
    refused  files that cannot be read
    foreign  files that are neither, by where
    """

    folder: Path
    dicom: tuple[DicomFile, ...]
    nifti: tuple[tuple[Path, str], ...]
    refused: tuple[Refused, ...]
    foreign: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Visit:
    """What one visit of one subject holds.

    name      "visit 1"
    subject   number of the subject, by patient identifiers, from 1
    day       days after the subject's first visit, None where a date is not known
    folder    the folder of this visit alone, relative to the one inspected ("." for that); None if it shares one
    paths     its files, relative to the folder inspected
    read      all that could be read
    study     the study that it forms; None while ``problem`` says what is missing
    refused   files and series that cannot be read
    """

    name: str
    subject: int
    day: int | None
    folder: str | None
    paths: tuple[str, ...]
    read: Read
    study: ImagingStudy | None
    problem: InputError | None
    refused: tuple[Refused, ...]

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What was found, chosen, inferred and doubted."""
        return self.read.findings if self.study is None else self.study.findings


# ------------------------------------------------------------------------------------------------------- first look


def _header(path: Path, where: str) -> FileDataset | None:
    return read_dicom(path, where, pixels=False)


def first_look(folder: Path, guard: Guard, progress: Progress | None = None) -> FirstLook:
    """Open every file of a folder far enough to know what it is. Raises StudyRejected for an empty or absent one."""
    paths = files_of(folder)
    dicom, nifti, refused, foreign = [], [], [], []
    seen: dict[str, DicomFile] = {}
    for place, path in enumerate(paths):
        where = f"file {place + 1} of {len(paths)}"
        if progress is not None:
            progress("opening files", place / len(paths))
        if is_nifti(path):
            nifti.append((path, where))
            continue
        try:
            header = guard.call(where, _header, path, where)
        except InputError as error:
            refused.append(Refused(where, str(error)))
            continue
        if header is not None:
            file = DicomFile(path, where, header, guard.call)
            first = seen.setdefault(_text(file, "SOPInstanceUID") or where, file)
            if first is file or filecmp.cmp(first.path, path, shallow=False):
                dicom.append(file)
            else:
                refused.append(Refused(where, f"{where} has the SOP Instance UID of {first.where} and other content."))
        elif path.suffix.lower() in DICOM_SUFFIXES:
            refused.append(Refused(where, f"{where} is named like a DICOM file and is none: truncated, or foreign."))
        else:
            foreign.append(where)
    return FirstLook(folder, tuple(dicom), tuple(nifti), tuple(refused), tuple(foreign))


# ----------------------------------------------------------------------------------------------------------- visits


@dataclass(eq=False)
class _Part:
    """Files that belong to one visit for sure."""

    dicom: list[DicomFile] = field(default_factory=list)
    nifti: list[tuple[Path, str]] = field(default_factory=list)

    def texts(self, keyword: str) -> set[str]:
        return {_text(file, keyword) for file in self.dicom} - {""}

    @property
    def has_images(self) -> bool:
        """True if it holds original images that know their place, so that it has a day of its own."""
        return any(
            _text(file, "SOPClassUID") in IMAGES and "ORIGINAL" in _words(file) and _text(file, "FrameOfReferenceUID")
            for file in self.dicom
        )

    @property
    def day(self) -> int | None:
        """The day of its images, counted from a fixed origin; None without images or date."""
        if not self.has_images:
            return None
        days = [_ordinal(_text(file, "StudyDate")) for file in self.dicom]
        known = [day for day in days if day is not None]
        return max(set(known), key=known.count) if known else None

    def take(self, other: _Part) -> None:
        self.dicom += other.dicom
        self.nifti += other.nifti


def _text(file: DicomFile, keyword: str) -> str:
    """An attribute, "" where it cannot be decoded: the refusal comes with the series."""
    try:
        return file.text(keyword)
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


def _parts(look: FirstLook, *, same_subject: bool) -> list[_Part]:
    """The files by visit: studies of one subject and day are one visit; what holds no original images joins one."""
    parts: dict[tuple[str, str], _Part] = {}
    for file in look.dicom:
        patient = "" if same_subject else _text(file, "PatientID")
        key = (patient, _text(file, "StudyInstanceUID"))
        parts.setdefault(key, _Part()).dicom.append(file)
    visits: dict[tuple[Any, ...], _Part] = {}
    derived = []
    for (patient, study), part in parts.items():
        if part.has_images:
            visits.setdefault((patient, study if part.day is None else part.day), _Part()).take(part)
        else:
            derived.append(part)
    if not visits:
        return _with_nifti(look, _merged_parts(derived))
    found = sorted(visits.values(), key=lambda part: (part.day or 0, part.dicom[0].path.as_posix()))
    for part in derived:
        home = _home(part, found)
        if home is None:
            found.append(part)
        else:
            home.take(part)
    return _with_nifti(look, found)


def _merged_parts(parts: Sequence[_Part]) -> list[_Part]:
    """All of them as one visit: without original images nothing tells visits apart."""
    whole = _Part()
    for part in parts:
        whole.take(part)
    return [whole] if whole.dicom else []


def _home(part: _Part, visits: Sequence[_Part]) -> _Part | None:
    """The visit that derived objects belong to: the only one, or that of their frame of reference, study or day."""
    if len(visits) == 1:
        return visits[0]
    for keyword in ("FrameOfReferenceUID", "StudyInstanceUID", "StudyDate"):
        alike = [visit for visit in visits if visit.texts(keyword) & part.texts(keyword)]
        same = [visit for visit in alike if visit.texts("PatientID") & part.texts("PatientID")]
        if len(same or alike) == 1 and (same or keyword != "StudyDate"):
            return (same or alike)[0]
    return None


def _with_nifti(look: FirstLook, parts: list[_Part]) -> list[_Part]:
    """NIfTI files go to the only visit, or to that in whose folder they lie; else they are a visit of their own."""
    own = _Part()
    for entry in look.nifti:
        near = [part for part in parts if entry[0].is_relative_to(_common(part, look.folder))]
        (parts[0] if len(parts) == 1 else near[0] if len(near) == 1 else own).nifti.append(entry)
    return [*parts, own] if own.nifti else parts


def _paths(part: _Part) -> list[Path]:
    return [file.path for file in part.dicom] + [path for path, _ in part.nifti]


def _common(part: _Part, folder: Path) -> Path:
    parents = [path.parent for path in _paths(part)]
    return Path(os.path.commonpath(parents)) if parents else folder


def _own_folder(part: _Part, others: Sequence[_Part], folder: Path) -> str | None:
    """The folder that holds this visit and no other, relative to the whole; None if there is none."""
    if not others:
        return "."
    common = _common(part, folder)
    if any(path.is_relative_to(common) for other in others for path in _paths(other)):
        return None
    return common.relative_to(folder).as_posix()


# -------------------------------------------------------------------------------------------------- reading a visit


@dataclass(eq=False)
class _Attempts:
    """Reads group by group; what cannot be read is noted, and an empty Read takes its place."""

    guard: Guard
    refused: list[Refused] = field(default_factory=list)

    def __call__(self, function: Callable[..., Read], name: str, *arguments: Any) -> Read:
        try:
            if function is read_group:
                with reading(name):
                    return self._images(name, *arguments)
            return self.guard.call(name, function, *arguments)
        except InputError as error:
            self.refused.append(Refused(name, str(error)))
            return Read(findings=(Finding("doubted", name, "cannot be read: left out"),))

    def _images(self, name: str, group: DicomGroup, times_s: Sequence[float] | None) -> Read:
        """A series without those of its files that cannot be read."""
        try:
            return read_group(group, times_s)
        except FileRejected:
            damaged = {file: reason for file in group.files if (reason := self._damage(file))}
            if len(damaged) in (0, len(group.files)):
                raise
            self.refused += [Refused(file.where, reason) for file, reason in damaged.items()]
            read = read_group(replace(group, files=tuple(one for one in group.files if one not in damaged)), times_s)
            finding = Finding("doubted", name, f"{len(damaged)} files cannot be read: left out")
            return replace(read, findings=(finding, *read.findings))

    def _damage(self, file: DicomFile) -> str:
        """Why the image in a file cannot be read, "" if it can."""
        try:
            file.image()
        except FileRejected as error:
            return str(error)
        return ""


def visits(look: FirstLook, guard: Guard, stated: Statement, progress: Progress | None = None) -> Iterator[Visit]:
    """The visits of a folder one after another, by day; each is read when it is asked for."""
    parts = _parts(look, same_subject=stated.same_subject)
    people = [() if stated.same_subject else tuple(sorted(part.texts("PatientID"))) for part in parts]
    subjects = list(dict.fromkeys(people))
    first = {one: min((_day(part) for part, of in zip(parts, people) if of == one), default=0) for one in subjects}
    for place, (part, of) in enumerate(zip(parts, people)):
        if progress is not None:
            progress(f"reading visit {place + 1}", place / len(parts))
        others = [other for other in parts if other is not part]
        yield _visit(
            part,
            look.folder,
            guard,
            stated,
            name=f"visit {place + 1}",
            subject=1 + subjects.index(of),
            day=None if part.day is None else part.day - first[of],
            folder=_own_folder(part, others, look.folder),
        )


def _day(part: _Part) -> float:
    return np.inf if part.day is None else part.day


def _visit(part: _Part, root: Path, guard: Guard, stated: Statement, **what: Any) -> Visit:
    attempts = _Attempts(guard)
    nifti = [attempts(read_nifti_file, where, path, where, stated.times_s) for path, where in part.nifti]
    read, answer = _read_parts(part, nifti, attempts, stated)
    shown = root if root.is_dir() else root.parent
    return Visit(
        **what,
        paths=tuple(path.relative_to(shown).as_posix() for path in _paths(part)),
        read=read,
        study=answer if isinstance(answer, ImagingStudy) else None,
        problem=None if isinstance(answer, ImagingStudy) else answer,
        refused=tuple(attempts.refused),
    )


def _read_parts(
    part: _Part, nifti: Sequence[Read], attempts: _Attempts, stated: Statement
) -> tuple[Read, ImagingStudy | InputError]:
    """What the visit holds; a folder that cannot be sorted at all (a header that breaks) holds nothing."""
    try:
        with reading("a visit"):
            return read_visit(
                part.dicom,
                nifti,
                units=stated.units,
                same_subject=stated.same_subject,
                regions=stated.regions,
                times_s=stated.times_s,
                attempt=attempts,
            )
    except InputError as error:
        attempts.refused.append(Refused("visit", str(error)))
        return Read(), error


def read_alone(path: Path, where: str) -> str:
    """What one file alone amounts to, read in every respect and without a guard: for tests of the reader itself.

    Returns ``foreign``, ``study``, or the class of the refusal that reading it ended in.
    """
    try:
        header = read_dicom(path, where, pixels=False)
        if header is None:
            return "foreign"
        _, answer = read_visit([DicomFile(path, where, header)], [])
    except InputError as error:
        return error.kind
    return "study" if isinstance(answer, ImagingStudy) else answer.kind


def check_not_empty(look: FirstLook) -> None:
    """Raise StudyRejected when the folder holds nothing that can be read."""
    if look.dicom or look.nifti:
        return
    count = len(look.refused) + len(look.foreign)
    reasons = " ".join(refused.reason for refused in look.refused[:3])
    raise StudyRejected(
        f"none of the {count} files is a DICOM or NIfTI file that can be read" + (f" ({reasons})" if reasons else ""),
        "DICOM or NIfTI images",
        "give the folder that holds the images",
    )
