"""What one ingest works on: the files that enter, whose they are, what was stated, and on which day they were made."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from pydicom.dataset import FileDataset
from sqlalchemy import select

from ..core.errors import StudyRejected
from ..core.files import canonical_json, content_hash
from ..imaging.study import Finding, ImagingStudy
from . import tables
from .deface import Face, faces_of, shows_a_head
from .deidentify import shifted
from .sources import SourceFile, date_of, is_derived
from .store import Store
from .subject import SubjectKey
from .vault import Vault
from .visit import Statements, imaging_events


@dataclass(frozen=True)
class Work:
    """What one ingest works on."""

    store: Store
    vault: Vault
    subject: SubjectKey
    site: str
    statements: Statements
    files: list[SourceFile]
    source: str
    study: str
    stated_day: int | None
    faces: Mapping[str, Face] | None
    """What is taken out of images of a head, by frame of reference; None if it was not asked for."""
    device_identity: bool

    @property
    def defaced(self) -> bool:
        """True if the stored images are images of a head without its face."""
        return bool(self.faces)

    @property
    def headers(self) -> list[FileDataset]:
        return [source.header for source in self.files if source.header is not None]


def identities(files: Sequence[SourceFile]) -> list[str]:
    """What identifies a visit's images: the study UIDs of its original images, else the contents of its files."""
    headers = [source.header for source in files if source.header is not None]
    original = [header for header in headers if not is_derived(header)] or headers
    if original:
        return sorted({str(header.StudyInstanceUID) for header in original})
    return [content_hash(source.path) for source in files]


def digest_of(vault: Vault, files: Sequence[SourceFile], statements: Statements, asked: Sequence[str]) -> str:
    """Keyed hash of the files' contents and what was asked for: equal only for the same ingest."""
    contents = sorted(content_hash(source.path) for source in files)
    return vault.keyed_hash(canonical_json([contents, statements.for_json(), *asked]))


def faces_to_remove(study: ImagingStudy, files: Sequence[SourceFile]) -> Mapping[str, Face]:
    """The face in each frame of reference; none if the files name another part of the body."""
    headers = [source.header for source in files if source.header is not None]
    if study.body_part and not shows_a_head(headers):
        return {}
    return faces_of(study)


def faces_as_stored(work: Work) -> dict[str, Face]:
    """The faces by the frames of reference of the stored images."""
    return {frame and work.vault.mapped_uid(frame): face for frame, face in (work.faces or {}).items()}


def contents_of(work: Work) -> list[str]:
    """What is in a visit: mapped instance UIDs, keyed hashes for files without."""
    return sorted(
        work.vault.mapped_uid(str(source.header.SOPInstanceUID))
        if source.header is not None
        else work.vault.keyed_hash(content_hash(source.path))
        for source in work.files
    )


def shifted_date(work: Work) -> date | None:
    """The visit's date as it is stored: that of its original images, moved into the past."""
    original = [header for header in work.headers if not is_derived(header)] or work.headers
    dates = sorted(filter(None, (date_of(header) for header in original)))
    moved = shifted(dates[0], work.vault.date_shift(work.subject)) if dates else ""
    return date.fromisoformat(f"{moved[:4]}-{moved[4:6]}-{moved[6:8]}") if len(moved) >= 8 else None


def day_of_visit(work: Work) -> tuple[int, list[Finding]]:
    """Days after the subject's first visit in the store."""
    with work.store.reading() as connection:
        rows = connection.execute(imaging_events().where(tables.event.c.subject == work.subject)).all()
    others = [row for row in rows if row.id != work.study]
    if work.stated_day is not None:
        return work.stated_day, [Finding("chosen", "visit", f"day {work.stated_day} stated by the user")]
    if not others:
        _refuse_other_day0(work)
        return 0, [Finding("found", "visit", "the subject's first visit in the store: day 0")]
    own = shifted_date(work)
    dated = [
        (row.day, date.fromisoformat(when))
        for row in others
        if (when := json.loads(row.attributes).get("shifted_date"))
    ]
    if own is None or not dated:
        raise StudyRejected(
            "the images have no date, and the subject has visits already",
            "a day for this visit",
            "state it with --day N, in days after the first visit",
        )
    day = dated[0][0] + (own - dated[0][1]).days
    if day < 0:
        return day, [Finding("found", "visit", f"{-day} days before the first visit that was ingested: day {day}")]
    return day, [Finding("found", "visit", f"day {day} after the subject's first visit")]


def _refuse_other_day0(work: Work) -> None:
    """A subject that came by a form may count its days from something else than its first images."""
    with work.store.reading() as connection:
        columns = tables.subject.c
        kind = connection.execute(select(columns.day0_kind).where(columns.key == work.subject)).scalar()
    if kind not in (None, "first-imaging"):
        raise StudyRejected(
            f"the subject is known already, and its days count from its {kind}",
            "a day for this visit",
            f"state it with --day N, in days after the {kind}",
        )
