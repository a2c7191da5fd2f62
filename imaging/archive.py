"""An archive of DICOM objects, whatever it speaks: what it holds, objects into it and out of it again.

``dicomweb.DicomWeb`` and ``dicom_node.DicomNode`` are such archives. What is sent is asked for again and compared,
so that a success is one that was seen; what the archive holds already is not sent twice, so that a transfer that was
stopped goes on where it stood.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Literal, Protocol

from pydicom import dcmread
from pydicom.dataset import Dataset

from ..core.errors import ConfigurationRejected, FileRejected, StudyRejected
from ..core.files import written_whole
from .dicom_files import read_bytes, read_dicom, reading

Progress = Callable[[str, float], None]
Likeness = Literal["bytes", "elements", "different", "not given"]
"""How an object came back: as it was sent byte by byte, or element by element, or not so, or not at all."""


@dataclass(frozen=True)
class Instance:
    """One object, by its UIDs.

    sop_class  UID of its kind; empty where an archive did not tell it
    """

    study: str
    series: str
    uid: str
    sop_class: str = ""


@dataclass(frozen=True)
class Outgoing:
    """An object on disk.

    number  of its file in the folder, from 1: what messages call it
    coding  UID of its transfer syntax
    """

    path: Path
    number: int
    instance: Instance
    coding: str


@dataclass(frozen=True)
class Question:
    """Which studies are sought; an empty word asks for all.

    study     Study Instance UID
    patient   Patient ID
    dates     YYYYMMDD, or a range YYYYMMDD-YYYYMMDD
    modality  MR, SEG, …
    """

    study: str = ""
    patient: str = ""
    dates: str = ""
    modality: str = ""


@dataclass(frozen=True)
class StudyRow:
    """A study as an archive describes it; nothing of the patient. Counts are 0 where it does not count."""

    uid: str
    date: str
    modalities: tuple[str, ...]
    description: str
    series: int
    instances: int


class Archive(Protocol):
    """What can be asked of any archive.

    Each raises ConfigurationRejected where none answers or the login is refused, StorageFault for a broken answer.
    """

    def studies(self, question: Question) -> tuple[StudyRow, ...]:
        """The studies that it has of those sought."""

    def instances(self, study: str, series: Iterable[str] = ()) -> tuple[Instance, ...]:
        """What it holds of a study; ``series`` are those of interest, none named means all."""

    def store(self, objects: Sequence[Outgoing]) -> Iterator[tuple[Outgoing, str]]:
        """Send objects as they are, one after another; with each why it was refused, empty if it was stored."""

    def fetch(self, instances: Sequence[Instance]) -> Iterator[tuple[Instance, bytes | None]]:
        """The files of these objects, one after another; None for one that the archive does not give."""


@dataclass(frozen=True)
class Sent:
    """What became of the objects that were to be sent, by the numbers of their files.

    stored, present  sent now; held before
    like             how those that were compared came back
    refused          why the archive did not take an object
    """

    stored: tuple[int, ...] = ()
    present: tuple[int, ...] = ()
    like: Mapping[int, Likeness] = field(default_factory=dict)
    refused: Mapping[int, str] = field(default_factory=dict)

    @property
    def is_whole(self) -> bool:
        """Nothing was refused, and all that was compared is as it was sent."""
        return not self.refused and set(self.like.values()) <= {"bytes", "elements"}


def objects_in(folder: Path) -> tuple[tuple[Outgoing, ...], int]:
    """(the DICOM objects in a folder and its subfolders, how many other files there are).

    A copy of an object that is there already is passed over. Raises StudyRejected for a folder without an object,
    FileRejected for two different objects under one UID.
    """
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name[0] != ".")
    found: dict[str, Outgoing] = {}
    foreign = 0
    for number, path in enumerate(paths, start=1):
        header = read_dicom(path, f"file {number} of {len(paths)}", pixels=False)
        if header is None:
            foreign += 1
            continue
        one = _outgoing(path, number, header)
        other = found.setdefault(one.instance.uid, one)
        if other is not one and other.path.read_bytes() != path.read_bytes():
            raise FileRejected(
                f"files {other.number} and {number} are different objects under one UID",
                "an identity for each object",
                "remove the one that is out of date",
            )
    if not found:
        raise StudyRejected("the folder holds no DICOM object", "a folder of DICOM", "check its path")
    return tuple(found.values()), foreign


def _outgoing(path: Path, number: int, header: Dataset) -> Outgoing:
    words = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
    uids = [str(header.get(word) or "") for word in words]
    coding = str(getattr(header, "file_meta", {}).get("TransferSyntaxUID") or "")
    if not all(uids) or not coding:
        raise FileRejected(
            f"file {number} lacks what an archive files it under",
            "UIDs of study, series, instance and kind, and a transfer syntax",
            "export the object again as a complete DICOM file",
        )
    return Outgoing(path, number, Instance(*uids), coding)


def send(
    objects: Sequence[Outgoing], archive: Archive, *, verify: bool = True, progress: Progress | None = None
) -> Sent:
    """Send what the archive does not hold; compare what it then holds with what is on disk.

    verify  ask for every object again, those held before as well
    """
    tell = progress or (lambda what, done: None)
    known = held(archive, (one.instance for one in objects))
    missing = [one for one in objects if one.instance.uid not in known]
    share = 0.5 if verify else 1.0
    stored, refused = [], {}
    for place, (one, reason) in enumerate(archive.store(missing), start=1):
        tell("sending", share * place / len(missing))
        if reason:
            refused[one.number] = reason
        else:
            stored.append(one.number)
    there = [one for one in objects if one.number not in refused]
    present = tuple(one.number for one in objects if one.instance.uid in known)
    like = _compared(there, archive, tell) if verify else {}
    return Sent(tuple(stored), present, like, refused)


def held(archive: Archive, instances: Iterable[Instance]) -> frozenset[str]:
    """The UIDs of those objects that an archive holds already."""
    wanted: dict[str, set[str]] = {}
    for one in instances:
        wanted.setdefault(one.study, set()).add(one.series)
    found = {one.uid for study, series in wanted.items() for one in archive.instances(study, sorted(series))}
    return frozenset(found)


def _compared(objects: Sequence[Outgoing], archive: Archive, tell: Progress) -> dict[int, Likeness]:
    """How each object came back, by the number of its file."""
    by_uid = {one.instance.uid: one for one in objects}
    like: dict[int, Likeness] = {}
    for place, (instance, back) in enumerate(archive.fetch([one.instance for one in objects]), start=1):
        tell("comparing", 0.5 + 0.5 * place / len(objects))
        one = by_uid[instance.uid]
        sent = read_bytes(one.path, f"file {one.number}")
        like[one.number] = "not given" if back is None else likeness(sent, back)
    return like


def likeness(sent: bytes, back: bytes) -> Likeness:
    """How two DICOM files are alike; group 2 is left out, since whoever writes a file writes it anew."""
    if sha256(sent).digest() == sha256(back).digest():
        return "bytes"
    with reading("an object of the archive"):
        ours, theirs = (dcmread(BytesIO(one), force=True) for one in (sent, back))
        return "elements" if _equal(ours, theirs) else "different"


def _equal(ours: Dataset, theirs: Dataset) -> bool:
    """Every element of one is in the other, of equal value; group lengths, which old writers add, say nothing."""
    tags = {element.tag for one in (ours, theirs) for element in one if element.tag.element != 0}
    return all(tag in ours and tag in theirs and ours[tag].value == theirs[tag].value for tag in tags)


def fetch_study(
    study: str, archive: Archive, out: Path, *, series: Sequence[str] = (), progress: Progress | None = None
) -> tuple[int, int, tuple[str, ...]]:
    """(fetched, there before, UIDs not given): the objects of a study as files UID.dcm in a folder.

    A file that is there is not fetched again: each was written whole. Raises StudyRejected for a study that the archive
    does not know.
    """
    tell = progress or (lambda what, done: None)
    listed = archive.instances(study, series)
    if not listed:
        raise StudyRejected(
            "the archive holds nothing of this study", "a study or series that it holds", "ask `oncoscale archive find`"
        )
    missing = [one for one in listed if not _file_of(out, one).exists()]
    absent = []
    for place, (one, content) in enumerate(archive.fetch(missing), start=1):
        tell("fetching", place / len(missing))
        if content is None or not _is(content, one):
            absent.append(one.uid)
            continue
        with written_whole(_file_of(out, one)) as beside:
            beside.write_bytes(content)
    return len(missing) - len(absent), len(listed) - len(missing), tuple(absent)


def _file_of(out: Path, instance: Instance) -> Path:
    """Where an object goes. Raises FileRejected for a UID that could name another place."""
    if not is_uid(instance.uid):
        raise FileRejected("the archive names an object by what is no UID", "digits and dots", "ask its administrator")
    return out / f"{instance.uid}.dcm"


def is_uid(text: str) -> bool:
    """Digits with dots between, at most 64 characters (DICOM PS3.5 §9.1)."""
    return 0 < len(text) <= 64 and all(part.isascii() and part.isdigit() for part in text.split("."))


def check_uid(text: str) -> None:
    """Raise ConfigurationRejected for what is no UID."""
    if not is_uid(text):
        raise ConfigurationRejected(
            "what is no UID", "digits with dots between", "copy it from `oncoscale archive find`"
        )


def _is(content: bytes, instance: Instance) -> bool:
    """The file holds the object that was asked for."""
    with reading("an object of the archive"):
        header = dcmread(BytesIO(content), specific_tags=["SOPInstanceUID"], stop_before_pixels=True)
        return str(header.get("SOPInstanceUID") or "") == instance.uid
