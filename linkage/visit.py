"""A visit in the store: where its images are, whose they are, and how to read them again."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import func, select

from ..core.errors import StoreRejected
from ..imaging.dicom_read import read_study
from ..imaging.study import ImagingStudy
from . import tables
from .deidentify import cleaned_text
from .store import Store
from .subject import SubjectKey

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Statements:
    """What the user states about the files; kept with the study, so that every later reading hears it again.

    units         map name to unit, where files declare none or a wrong one
    same_subject  True: identifiers that disagree belong to one subject and one visit all the same
    regions       label value to name
    times_s       times of the frames, where the files tell only their order
    """

    units: Mapping[str, str] = field(default_factory=dict)
    same_subject: bool = False
    regions: Mapping[int, str] | None = None
    times_s: Sequence[float] | None = None

    def options(self) -> dict[str, Any]:
        """Arguments of imaging.read_study; those not stated are left out."""
        stated = {
            "units": dict(self.units),
            "same_subject": self.same_subject,
            "regions": self.regions,
            "times_s": self.times_s,
        }
        return {name: value for name, value in stated.items() if value}

    def for_json(self) -> dict[str, Any]:
        """Ready for JSON; names of regions cleaned, as they may be a user's own words."""
        regions = [
            [value, cleaned_text(name) or f"region {value}"] for value, name in sorted((self.regions or {}).items())
        ]
        return {
            "units": dict(self.units),
            "same_subject": self.same_subject,
            "regions": regions,
            "times_s": None if self.times_s is None else [float(time) for time in self.times_s],
        }

    @classmethod
    def from_json(cls, stated: Mapping[str, Any]) -> Statements:
        """The statements of a stored study."""
        regions = dict(stated["regions"]) or None
        return cls(stated["units"], stated["same_subject"], regions, stated["times_s"])


@dataclass(frozen=True)
class Visit:
    """One visit of a subject: the identifier of its images and its day."""

    study: str
    subject: SubjectKey
    day: int


def load_study(store: Store, study: str, *, progress: Progress | None = None) -> tuple[ImagingStudy, SubjectKey]:
    """(the images of a stored visit, the subject they belong to), read with the statements made at ingest.

    study  ``T-…`` as ingest printed it, or a subject's key if it has one visit
    """
    visit = find_visit(store, study)
    folder = store.study_folder(visit.study)
    try:
        account = json.loads((folder / "study.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StoreRejected(
            f"study {visit.study} is damaged in the store", "its study.json and images", "ingest the study again"
        ) from error
    statements = Statements.from_json(account["statements"])
    imaging = read_study(folder / "images", **statements.options(), progress=progress)
    return replace(imaging, day=visit.day), visit.subject


def find_visit(store: Store, name: str) -> Visit:
    """The visit of that name: ``T-…``, or a subject's key if it has one visit. Raises StoreRejected."""
    if name.startswith("P-"):
        own = visits(store, SubjectKey(name))
        if len(own) == 1:
            return own[0]
        raise StoreRejected(
            f"{name} has {len(own)} visits in the store",
            "the study of one visit",
            "name one of: " + ", ".join(visit.study for visit in own) if own else "ingest one first",
        )
    with store.reading() as connection:
        row = connection.execute(imaging_events().where(tables.event.c.id == name)).first()
        known = connection.execute(select(func.count()).select_from(imaging_events().subquery())).scalar_one()
    if row is None:
        raise StoreRejected(
            "the store does not hold that study",
            "a study that begins with T-, as ingest prints",
            f"list the {known} studies it holds with: oncoscale show --store STORE",
        )
    return Visit(row.id, SubjectKey(row.subject), row.day)


def visits(store: Store, subject: SubjectKey) -> tuple[Visit, ...]:
    """The visits of a subject, by day."""
    with store.reading() as connection:
        rows = connection.execute(
            imaging_events().where(tables.event.c.subject == subject).order_by(tables.event.c.day, tables.event.c.id)
        ).all()
    return tuple(Visit(row.id, SubjectKey(row.subject), row.day) for row in rows)


def studies(store: Store) -> tuple[Visit, ...]:
    """Every visit in the store, by subject and day."""
    with store.reading() as connection:
        rows = connection.execute(imaging_events().order_by(tables.event.c.subject, tables.event.c.day)).all()
    return tuple(Visit(row.id, SubjectKey(row.subject), row.day) for row in rows)


def imaging_events() -> Any:
    """Query for the rows of visits: images that were ingested, not those that a form only tells of."""
    columns = tables.event.c
    query = select(columns.id, columns.subject, columns.day, columns.attributes)
    return query.where(columns.kind == "imaging", columns.id.startswith("T-"))
