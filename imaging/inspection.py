"""Look into a folder of anything: visits, series, what can be used, and why the rest cannot.

    files -> first look at each -> visits -> what each visit holds
             `---------------------- in a child process, under limits -----------------------´

Nothing that one file does stops the look at the others: what ends the child is left out, and the visit is read again
without it. No header and no pixel is worked on in this process; what is learned of a visit is handed over before the
next is read.
"""

from __future__ import annotations

import filecmp
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..core.errors import FileRejected, InputError, StudyRejected
from ..core.quantity import Parameter
from .dicom_files import read_dicom, reading
from .dicom_read import DICOM_SUFFIXES, THE_STUDY, files_of, read_visit
from .dicom_series import DicomFile, DicomGroup, Read, read_group
from .guarded import Guard, now_at
from .nifti import is_nifti
from .nifti_series import read_nifti_file
from .study import Finding, ImagingStudy
from .visits import Glance, VisitFiles, glance_of, own_folder, subjects_and_days, visits_of

Progress = Callable[[str, float], None]

MOST_DEATHS = Parameter(
    12,
    "1",
    "things in one folder that may end the process that reads them, before the rest is given up",
    source="project specification, validation §2.1: a bound for an import job",
    range=(1, 1000),
    assumed=True,
)


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

    dicom    what each DICOM object says of where it belongs
    nifti    (path, where) of NIfTI files
    refused  files that cannot be read
    foreign  files that are neither, by where
    """

    folder: Path
    dicom: tuple[Glance, ...]
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


def _glance(path: Path, where: str) -> Glance | None:
    """What a file says of where it belongs, None if it is not DICOM."""
    header = read_dicom(path, where, pixels=False)
    return None if header is None else glance_of(DicomFile(path, where, header))


def first_look(folder: Path, guard: Guard, progress: Progress | None = None) -> FirstLook:
    """Open every file of a folder far enough to know what it is. Raises StudyRejected for an empty or absent one."""
    paths = files_of(folder)
    dicom, nifti, refused, foreign = [], [], [], []
    seen: dict[str, Glance] = {}
    for place, path in enumerate(paths):
        where = f"file {place + 1} of {len(paths)}"
        if progress is not None:
            progress("opening files", place / len(paths))
        if is_nifti(path):
            nifti.append((path, where))
            continue
        if guard.deaths >= MOST_DEATHS.value:
            refused.append(Refused(where, f"{where} was not opened: {guard.deaths} before it ended their reader."))
            continue
        try:
            glance = guard.call(where, _glance, path, where)
        except InputError as error:
            refused.append(Refused(where, str(error)))
            continue
        if glance is not None:
            first = seen.setdefault(glance.instance or where, glance)
            if first is glance or filecmp.cmp(first.path, path, shallow=False):
                dicom.append(glance)
            else:
                refused.append(Refused(where, f"{where} has the SOP Instance UID of {first.where} and other content."))
        elif path.suffix.lower() in DICOM_SUFFIXES:
            refused.append(Refused(where, f"{where} is named like a DICOM file and is none: truncated, or foreign."))
        else:
            foreign.append(where)
    return FirstLook(folder, tuple(dicom), tuple(nifti), tuple(refused), tuple(foreign))


# -------------------------------------------------------------------------------------------------- reading a visit


def visits(look: FirstLook, guard: Guard, stated: Statement, progress: Progress | None = None) -> Iterator[Visit]:
    """The visits of a folder one after another, by day; each is read when it is asked for."""
    parts = visits_of(look.dicom, look.nifti, look.folder, same_subject=stated.same_subject)
    known = subjects_and_days(parts, same_subject=stated.same_subject)
    shown = look.folder if look.folder.is_dir() else look.folder.parent
    for place, (part, (subject, day)) in enumerate(zip(parts, known)):
        if progress is not None:
            progress(f"reading visit {place + 1}", place / len(parts))
        read, answer, refused = _read_guarded(part, guard, stated)
        yield Visit(
            name=f"visit {place + 1}",
            subject=subject,
            day=day,
            folder=own_folder(part, parts, look.folder),
            paths=tuple(path.relative_to(shown).as_posix() for path in part.paths),
            read=read,
            study=answer if isinstance(answer, ImagingStudy) else None,
            problem=None if isinstance(answer, ImagingStudy) else answer,
            refused=refused,
        )


Told = tuple[Read, ImagingStudy | InputError, tuple[Refused, ...]]
"""What a visit holds, the study that it forms or why it forms none, and what cannot be read."""


def _read_guarded(part: VisitFiles, guard: Guard, stated: Statement) -> Told:
    """A visit read in the child; what ends the child is left out, and the visit read again without it."""
    deadly: dict[str, str] = {}
    files = [(file.path, file.where) for file in part.dicom]
    while True:
        try:
            return guard.read(THE_STUDY, _read_visit, files, part.nifti, stated, deadly, paths=part.paths)
        except FileRejected as error:
            at = guard.died_at
            if at is None or at == THE_STUDY or at in deadly or len(deadly) >= MOST_DEATHS.value:
                return Read(), error, (*_as_refused(deadly), Refused("visit", str(error)))
            deadly[at] = str(error)


def _as_refused(deadly: Mapping[str, str]) -> tuple[Refused, ...]:
    return tuple(Refused(where, reason) for where, reason in deadly.items())


def _read_visit(
    files: Sequence[tuple[Path, str]],
    nifti: Sequence[tuple[Path, str]],
    stated: Statement,
    deadly: Mapping[str, str],
) -> Told:
    """Read a visit, in the child; a folder that cannot be sorted at all (a header that breaks) holds nothing.

    files, nifti  (path, where)
    deadly        what ended an earlier child, by its name: not touched
    """
    attempts = _Attempts(deadly, list(_as_refused(deadly)))
    dicom = [file for file in (attempts.header(path, where) for path, where in files) if file is not None]
    try:
        with reading("a visit"):
            read, answer = read_visit(
                dicom,
                [attempts(read_nifti_file, where, path, where, stated.times_s) for path, where in nifti],
                units=stated.units,
                same_subject=stated.same_subject,
                regions=stated.regions,
                times_s=stated.times_s,
                attempt=attempts,
            )
    except InputError as error:
        attempts.refused.append(Refused("visit", str(error)))
        return Read(), error, tuple(attempts.refused)
    return read, answer, tuple(attempts.refused)


@dataclass(eq=False)
class _Attempts:
    """Reads group by group; what cannot be read is noted, and an empty Read takes its place.

    deadly   what ended an earlier child, by its name: not touched
    refused  what cannot be read, so far
    """

    deadly: Mapping[str, str]
    refused: list[Refused] = field(default_factory=list)

    def header(self, path: Path, where: str) -> DicomFile | None:
        """A file without its pixels; None for one that cannot be read, or must not be."""
        if where in self.deadly:
            return None
        now_at(where)
        try:
            header = read_dicom(path, where, pixels=False)
        except InputError as error:
            self.refused.append(Refused(where, str(error)))
            return None
        return None if header is None else DicomFile(path, where, header)

    def __call__(self, function: Callable[..., Read], name: str, *arguments: Any) -> Read:
        left_out = Read(findings=(Finding("doubted", name, "cannot be read: left out"),))
        if name in self.deadly:
            return left_out
        now_at(name)
        try:
            with reading(name):
                return self._images(name, *arguments) if function is read_group else function(*arguments)
        except InputError as error:
            self.refused.append(Refused(name, str(error)))
            return left_out

    def _images(self, name: str, group: DicomGroup, times_s: Sequence[float] | None) -> Read:
        """A series without those of its files that cannot be read."""
        try:
            return read_group(group, times_s)
        except FileRejected:
            damaged = {file: reason for file in group.files if (reason := _damage(file))}
            if len(damaged) in (0, len(group.files)):
                raise
            self.refused += [Refused(file.where, reason) for file, reason in damaged.items()]
            read = read_group(replace(group, files=tuple(one for one in group.files if one not in damaged)), times_s)
            finding = Finding("doubted", name, f"{len(damaged)} files cannot be read: left out")
            return replace(read, findings=(finding, *read.findings))


def _damage(file: DicomFile) -> str:
    """Why the image in a file cannot be read, "" if it can."""
    try:
        file.image()
    except FileRejected as error:
        return str(error)
    return ""


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
