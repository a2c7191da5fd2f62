"""What the files of a store say: hashes recomputed, what is missing, what no record speaks of, what headers state.

Nothing here changes a file, except ``remove_orphans``, which touches orphans alone.
"""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileDataset
from sqlalchemy import Connection, ForeignKey, exists, literal, select

from ..core.errors import OncoscaleError
from ..core.files import content_hash
from ..core.passing import is_abandoned, is_alive, is_passing
from ..imaging.dicom_files import read_dicom
from . import postgres, tables
from .deidentify import TEXT, Pseudonyms, deidentified
from .record import Record
from .store import Store
from .subject import SubjectKey
from .visit import imaging_events

OF_A_STUDY = {"study.json", "deidentification.json"}
OF_A_RUN = {"record.json"}
UNFINISHED = (".new-*", ".staging-*", ".audit.key.*", "..erasing.part-*")
"""Passing names of what commands write into a store, with the number of their process."""


@dataclass(frozen=True)
class SeriesFiles:
    """The files of one series.

    places    of the files that are there
    missing   number on record that are not
    sha256    over the hashes of the files that are there
    frames    number of frames in time that reading them gave; 1 if it is not dynamic
    headers   of DICOM files, without pixels
    """

    places: tuple[str, ...]
    missing: int
    sha256: str
    frames: int = 1
    headers: tuple[FileDataset, ...] = field(repr=False, default=())


@dataclass(frozen=True)
class StudyFiles:
    """The files of one visit; ``series`` by UID. ``report`` is the hash of the report of de-identification."""

    series: Mapping[str, SeriesFiles]
    report: str | None
    missing: int
    changed: int

    @property
    def instances(self) -> frozenset[str]:
        """SOP Instance UIDs of everything that is there."""
        return frozenset(str(one.get("SOPInstanceUID")) for files in self.series.values() for one in files.headers)


@dataclass(frozen=True)
class RunFiles:
    """The files of the attempts of a run that ended well. ``record_ok``: record.json says what the identity says."""

    outputs: int
    missing: int
    changed: int
    record_ok: bool


def study_files(folder: Path) -> StudyFiles:
    """The files of a visit against its account; an account that is missing counts as a missing file."""
    try:
        account = json.loads((folder / "study.json").read_text(encoding="utf-8"))
        recorded: dict[str, str] = account["files"]
        rows = {row["uid"]: row for row in account["series"]}
    except (OSError, ValueError, KeyError, TypeError):
        return StudyFiles({}, _hash(folder / "deidentification.json"), 1, 0)
    found = {place: _hash(folder / place) for place in recorded}
    series = {uid: _series_files(folder, row, found) for uid, row in rows.items()}
    changed = sum(digest is not None and digest != recorded[place] for place, digest in found.items())
    return StudyFiles(series, _hash(folder / "deidentification.json"), list(found.values()).count(None), changed)


def run_files(store: Store, connection: Connection, run: str) -> RunFiles:
    """The outputs of a run's attempts that ended well, against their records."""
    done = select(tables.attempt.c.n).where(tables.attempt.c.run == run, tables.attempt.c.status == "done")
    link = tables.link.c
    made = connection.execute(
        select(link.attempt, link.port, link.artefact).where(
            link.run == run, link.role == "generated", link.artefact.is_not(None), link.attempt.in_(done)
        )
    ).all()
    found = [(_hash(store.run_folder(run, one.attempt) / one.port), one.artefact) for one in made]
    missing = sum(digest is None for digest, _ in found)
    changed = sum(digest not in (None, recorded) for digest, recorded in found)
    attempts = connection.execute(done).scalars().all()
    return RunFiles(len(made), missing, changed, all(_is_of(store.run_folder(run, n), run) for n in attempts))


def orphans(store: Store, connection: Connection) -> tuple[Path, ...]:
    """Files and folders in the store that no record speaks of, and what interrupted commands left; sorted."""
    imaged = select(imaging_events().subquery().c.id).union(select(tables.image_series.c.event))
    visits = set(connection.execute(imaged).scalars())
    attempts = tables.attempt.c
    done = {
        (row.run, str(row.n))
        for row in connection.execute(select(attempts.run, attempts.n).where(attempts.status == "done")).all()
    }
    found = unfinished(store)
    for folder in _children(store.path / "studies"):
        found += _unknown_of_study(folder) if folder.name in visits else [folder]
    for folder in _children(store.path / "runs"):
        known = [one for one in _children(folder) if (folder.name, one.name) in done]
        if not known:
            found.append(folder)
            continue
        found += [one for one in _children(folder) if one not in known]
        for attempt in known:
            found += _unknown_of_run(connection, attempt, folder.name)
    return tuple(sorted(found))


def unfinished(store: Store) -> list[Path]:
    """What killed commands left under a passing name; what a living process writes is none."""
    return [path for pattern in UNFINISHED for path in store.path.glob(pattern) if not _in_use(path)]


def remove_orphans(found: Iterable[Path]) -> int:
    """Remove them, and nothing else; returns how many. Call it inside a transaction that holds the store's lock."""
    removed = 0
    for path in found:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        removed += 1
    return removed


def missing_positions(headers: Iterable[Dataset]) -> int | None:
    """Slices missing between the first and the last of a stack, at its most usual spacing; None without positions."""
    stacks = [_positions(header) for header in headers]
    points = np.unique(np.round(np.concatenate(stacks), 2)) if any(len(one) for one in stacks) else np.empty(0)
    if len(points) < 3:
        return None
    steps = np.diff(points)
    return int(np.sum(np.round(steps / np.median(steps)) - 1))


def references_of(headers: Iterable[Dataset]) -> frozenset[str]:
    """SOP Instance UIDs that objects refer to, at any depth; a reference to a whole study is none to an instance."""
    found, studies = set(), set()
    for header in headers:
        for element in header.iterall():
            if element.keyword == "ReferencedSOPInstanceUID":
                found.add(str(element.value))
        for one in header.get("ReferencedFrameOfReferenceSequence", ()):
            for study in one.get("RTReferencedStudySequence", ()):
                studies.add(str(study.get("ReferencedSOPInstanceUID")))
    return frozenset(found - studies)


def texts_outside_lists(header: FileDataset, subject: str) -> int:
    """Texts and private elements of a stored object that de-identification, done again, would not let pass."""
    try:
        again = deidentified(header, Pseudonyms(SubjectKey(subject), 0, lambda uid: uid), Counter())
        kept = dict(_texts(again))
        return sum(kept.get(place) != value for place, value in _texts(header))
    except Exception:  # what cannot be understood cannot be vouched for
        return 1


def _texts(dataset: Dataset, above: str = "") -> Iterator[tuple[str, str]]:
    """(place, value) of every text and private element that is not empty."""
    for element in dataset:
        place = f"{above}/{element.tag}"
        if element.VR == "SQ":
            for number, item in enumerate(element.value):
                yield from _texts(item, f"{place}[{number}]")
        elif (element.VR in TEXT or element.tag.is_private) and element.value not in (None, "", b""):
            yield place, str(element.value)


def _positions(header: Dataset) -> np.ndarray:
    """Positions of the planes of an object along its normal, mm."""
    frames = header.get("PerFrameFunctionalGroupsSequence") or [header]
    shared = (header.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    found = []
    for frame in frames:
        place = (frame.get("PlanePositionSequence") or [frame])[0].get("ImagePositionPatient")
        turned = (frame.get("PlaneOrientationSequence") or shared.get("PlaneOrientationSequence") or [header])[0]
        axes = turned.get("ImageOrientationPatient")
        if place is not None and axes is not None and len(place) == 3 and len(axes) == 6:
            rows, columns = np.array(axes[:3], dtype=float), np.array(axes[3:], dtype=float)
            found.append(float(np.cross(rows, columns) @ np.array(place, dtype=float)))
    return np.array(found)


def _series_files(folder: Path, row: Mapping[str, Any], found: Mapping[str, str | None]) -> SeriesFiles:
    uri = row["uri"]
    own = {place: digest for place, digest in found.items() if place == uri or place.startswith(f"{uri}/")}
    there = {place: digest for place, digest in own.items() if digest is not None}
    headers = tuple(filter(None, (_header(folder / place) for place in there if place.endswith(".dcm"))))
    over = sha256("".join(sorted(there.values())).encode()).hexdigest()
    frames = len(row.get("times_s") or (0.0,))
    return SeriesFiles(tuple(sorted(there)), len(own) - len(there), over, frames, headers)


def _header(path: Path) -> FileDataset | None:
    try:
        return read_dicom(path, "a stored file", pixels=False)
    except OncoscaleError:
        return None


def _hash(path: Path) -> str | None:
    try:
        return content_hash(path)
    except OSError:
        return None


def _is_of(folder: Path, run: str) -> bool:
    """Whether the folder's record is that of the run, by the identity recomputed from what it says."""
    try:
        return Record.from_json(json.loads((folder / "record.json").read_text(encoding="utf-8"))).run == run
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _unknown_of_study(folder: Path) -> list[Path]:
    try:
        known = set(json.loads((folder / "study.json").read_text(encoding="utf-8"))["files"]) | OF_A_STUDY
    except (OSError, ValueError, KeyError, TypeError):
        return []  # the account is lost: what belongs to the visit cannot be told, and nothing is called an orphan
    beside = {f"{name.split('.')[0]}.bval" for name in known}
    return [one for one in _files(folder) if one.relative_to(folder).as_posix() not in known | beside]


def _unknown_of_run(connection: Connection, folder: Path, run: str) -> list[Path]:
    link = tables.link.c
    made = select(link.port).where(link.run == run, link.attempt == int(folder.name), link.role == "generated")
    known = set(connection.execute(made).scalars()) | OF_A_RUN
    return [one for one in _files(folder) if one.relative_to(folder).as_posix() not in known]


def _files(folder: Path) -> list[Path]:
    return [one for one in folder.rglob("*") if one.is_symlink() or one.is_file()]


def _children(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _in_use(path: Path) -> bool:
    """Whether the process that a temporary name speaks of is alive."""
    if is_passing(path.name):
        return not is_abandoned(path.name)
    owner = re.search(r"[-.]([0-9]+)", path.name)
    if owner is None:
        return False
    return is_alive(int(owner[1]))


def relative(store: Store, found: Iterable[Path]) -> list[str]:
    """Paths inside the store, for words and reports."""
    return [one.relative_to(store.path).as_posix() for one in found]


def sound(connection: Connection) -> bool:
    """Whether the database is whole and every reference leads to a row."""
    if connection.dialect.name != "sqlite":
        return not any(_leads_nowhere(connection, key) for key in _references(connection))
    whole: Any = connection.exec_driver_sql("PRAGMA quick_check").scalar()
    return whole == "ok" and connection.exec_driver_sql("PRAGMA foreign_key_check").first() is None


def _references(connection: Connection) -> list[ForeignKey]:
    """Every reference, for a user who sees every row; to one whose rows are narrowed a reference may seem broken."""
    if not connection.exec_driver_sql(f"SELECT {postgres.SEES_ALL}").scalar_one():
        return []
    return [key for table in tables.metadata.sorted_tables for key in table.foreign_keys]


def _leads_nowhere(connection: Connection, key: ForeignKey) -> bool:
    """Whether a row refers to one that is not there: the server lets that happen only with its triggers turned off."""
    above = key.column.table.alias("above")
    there = exists().where(above.c[key.column.name] == key.parent)
    query = select(literal(1)).select_from(key.parent.table).where(key.parent.is_not(None), ~there).limit(1)
    return connection.execute(query).first() is not None
