"""The files of a folder on their way into the store: what each is, where it will lie, what is kept back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydicom.dataset import FileDataset

from ..core.errors import FileRejected, StudyRejected
from ..imaging.dicom_files import read_dicom
from ..imaging.dicom_series import DicomFile
from ..imaging.nifti import is_nifti
from ..imaging.nifti_series import stem
from ..imaging.visits import chosen_visit, glance_of, visits_of
from .deidentify import neutral_name, reason_to_keep_back

DERIVED_MODALITIES = {"SEG", "RTSTRUCT", "REG"}
IDENTITIES = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")


@dataclass(frozen=True)
class SourceFile:
    """One file of the folder, looked at without its pixels.

    kind     dicom, nifti or other
    header   the data set without pixels, for DICOM
    reason   why it is kept back; empty if it enters the store
    place    folder inside the stored study, neutral
    twin     patient identifier, for a series that shares its UID with a series of another identifier
    """

    number: int
    path: Path
    kind: str
    header: FileDataset | None
    reason: str
    place: str
    twin: str = ""


def source_files(folder: Path) -> list[SourceFile]:
    """Every file of the folder, in the order in which it is read, with a neutral place for each series."""
    top = folder.parent if folder.is_file() else folder
    paths = (
        [folder]
        if folder.is_file()
        else sorted(
            (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")),
            key=lambda path: path.relative_to(folder).as_posix(),
        )
    )
    places: dict[str, str] = {}
    files = [_look_at(number, path, len(paths), top, places) for number, path in enumerate(paths, start=1)]
    return _with_twins_marked(_without_copies(files))


def _without_copies(files: Sequence[SourceFile]) -> list[SourceFile]:
    """Exact copies of an object are kept back (read_study has refused unlike ones of the same identity)."""
    seen: set[str] = set()
    checked = []
    for source in files:
        uid = str(source.header.get("SOPInstanceUID", "")) if source.header is not None else ""
        checked.append(replace(source, reason="copy of another file") if uid in seen else source)
        seen |= {uid} - {""}
    return checked


def _with_twins_marked(files: Sequence[SourceFile]) -> list[SourceFile]:
    """Series of several patient identifiers under one UID would become one: all but the first are marked."""
    first: dict[str, str] = {}
    marked = []
    for source in files:
        if source.header is not None:
            patient = str(source.header.get("PatientID") or "none")
            own = first.setdefault(str(source.header.SeriesInstanceUID), patient) == patient
            source = source if own else replace(source, twin=patient)
        marked.append(source)
    return marked


def _look_at(number: int, path: Path, count: int, folder: Path, places: dict[str, str]) -> SourceFile:
    where = f"file {number} of {count}"
    words = neutral_name(" ".join(path.relative_to(folder).parts[:-1]))
    if is_nifti(path):
        name = neutral_name(stem(path)) or "image"
        place = places.setdefault(str(path), f"{len(places) + 1:03d}{'-' + words if words else ''}/{name}.nii.gz")
        return SourceFile(number, path, "nifti", None, "", place)
    header = read_dicom(path, where, pixels=False)
    if header is None:
        return SourceFile(number, path, "other", None, "not an image file", "")
    absent = [keyword for keyword in IDENTITIES if not header.get(keyword)]
    if absent:
        raise FileRejected(
            f"{where} has no {absent[0]}",
            "objects that carry the identities that DICOM demands",
            "export the file again, or leave it out",
        )
    series = f"{path.parent}\0{header.SeriesInstanceUID}"
    place = places.setdefault(series, f"{len(places) + 1:03d}{'-' + words if words else ''}")
    return SourceFile(number, path, "dicom", header, reason_to_keep_back(header), place)


def of_visit(sources: Sequence[SourceFile], folder: Path, chosen: str, *, same_subject: bool) -> list[SourceFile]:
    """The files, those of other visits than the chosen one kept back (see imaging.visits.chosen_visit)."""
    dicom = [
        glance_of(DicomFile(source.path, f"file {source.number}", source.header))
        for source in sources
        if source.header is not None
    ]
    nifti = [(source.path, f"file {source.number}") for source in sources if source.kind == "nifti"]
    found = visits_of(dicom, nifti, folder, same_subject=same_subject)
    own = set(found[chosen_visit(found, chosen, same_subject=same_subject)].paths)
    return [
        source if source.path in own or source.reason else replace(source, reason="of another visit")
        for source in sources
    ]


def date_of(header: FileDataset) -> str:
    """The date of the study that an object belongs to (YYYYMMDD), else of its series or content; may be empty."""
    return str(header.get("StudyDate") or header.get("SeriesDate") or header.get("ContentDate") or "").strip()


def is_derived(header: FileDataset) -> bool:
    """True for objects made from images: segmentations, maps, and what calls itself DERIVED."""
    kind = header.get("ImageType") or ()
    words = [kind] if isinstance(kind, str) else list(kind)
    return str(header.get("Modality", "")) in DERIVED_MODALITIES or "DERIVED" in words


def refuse_several_visits(files: Sequence[SourceFile], *, same_subject: bool) -> None:
    """One ingest is one visit; objects made on a later day belong to it only if the user says so."""
    days: dict[str, set[str]] = {}
    for source in files:
        if source.header is not None:
            days.setdefault(date_of(source.header), set()).add(source.place)
    if len(days) > 1 and not same_subject:
        groups = "; ".join(f"day {n}: {len(places)} series" for n, (_, places) in enumerate(sorted(days.items()), 1))
        raise StudyRejected(
            f"the folder holds images of {len(days)} days ({groups})",
            "the images of one visit",
            "ingest each visit's folder by itself; if objects were only made later from the same "
            "images, add --same-subject",
        )
