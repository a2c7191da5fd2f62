"""The core: what the store knows about subjects, in plain rows that know no metadata standard.

Every standard renders one ``Holdings`` and, where it can be read, gives one back. Days count from the subject's day 0;
coded values are one type everywhere; what was predicted stands apart from what was observed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cache
from typing import Any

from ..core.files import canonical_json

Attributes = Mapping[str, Any]
"""Further attributes, ready for JSON."""


@dataclass(frozen=True)
class Code:
    """A coded value.

    system   URI of the code system
    display  the meaning in words
    version  of the code system, where the code depends on it
    """

    system: str
    code: str
    display: str = ""
    version: str = ""


@dataclass(frozen=True)
class Biobank:
    """Who keeps samples or images. Keys of ``attributes`` are MIABIS codes."""

    id: str
    name: str
    country: str
    juristic_person: str
    acronym: str | None = None
    attributes: Attributes = field(default_factory=dict)


@dataclass(frozen=True)
class Collection:
    """Samples or images kept together; ``kind`` is sample, image or mixed."""

    id: str
    biobank: str
    name: str
    description: str
    kind: str
    attributes: Attributes = field(default_factory=dict)


@dataclass(frozen=True)
class Study:
    """The research study whose purpose, legal basis and retention rule what is held."""

    id: str
    title: str
    purpose: Code
    legal_basis: str
    retention_until: str
    small_cell_k: int
    key_epoch: int
    attributes: Attributes = field(default_factory=dict)


@dataclass(frozen=True)
class Subject:
    """A person or an animal, by pseudonym.

    sex         female, male, undifferentiated, unknown or not-applicable
    age_day0_d  age in days on day 0, at most 90 years
    day0_kind   diagnosis, first-imaging or enrolment
    """

    key: str
    site: str
    species: Code
    sex: str
    age_day0_d: int | None
    day0_kind: str


@dataclass(frozen=True)
class Enrolment:
    """A subject takes part in a study, and may belong to a collection."""

    subject: str
    study: str
    collection: str | None = None


@dataclass(frozen=True)
class ConsentRow:
    """A consent as recorded; the newest of a subject and a study decides."""

    id: str
    subject: str
    study: str
    status: str
    legal_basis: str
    purposes: tuple[str, ...]
    categories: tuple[str, ...]
    valid_from: str
    valid_until: str | None
    document_sha256: str
    recorded_at: str
    withdrawn_at: str | None = None
    supersedes: str | None = None


@dataclass(frozen=True)
class Sample:
    """Tissue or fluid, taken on a day after day 0."""

    id: str
    subject: str
    type: Code
    site: Code | None = None
    diagnosis: Code | None = None
    storage: str | None = None
    taken_day: int | None = None
    parent: str | None = None
    collection: str | None = None


@dataclass(frozen=True)
class Event:
    """What happened to a subject, at a day after day 0 or at an age, never both.

    kind  diagnosis, treatment, surgery, radiotherapy, follow-up, progression, death, imaging or sampling
    """

    id: str
    subject: str
    kind: str
    code: Code
    day: int | None = None
    age_d: int | None = None
    end_day: int | None = None
    parent: str | None = None
    attributes: Attributes = field(default_factory=dict)


@dataclass(frozen=True)
class Series:
    """A stored image series; ``acquisition`` holds DICOM keywords and their values."""

    uid: str
    study_uid: str
    subject: str
    event: str
    modality: Code
    role: str
    instances: int
    content_sha256: str
    deid_report_sha256: str
    uri: str
    body_site: Code | None = None
    laterality: str | None = None
    frame_uid: str | None = None
    acquisition: Attributes = field(default_factory=dict)


@dataclass(frozen=True)
class Artefact:
    """A file by its content; ``asserted`` says whether it was observed or simulated."""

    sha256: str
    kind: str
    asserted: str
    media_type: str
    bytes: int
    uri: str
    unit: Code | None = None
    frame_uid: str | None = None


@dataclass(frozen=True)
class Contains:
    """Whose data an artefact holds: theirs alone (sole) or among others' (pooled)."""

    artefact: str
    subject: str
    share: str


@dataclass(frozen=True)
class Program:
    """A software that computed; ``passport`` is its AI passport."""

    id: str
    name: str
    version: str
    code_sha256: str
    passport: Attributes | None = None


@dataclass(frozen=True)
class Parameters:
    """A parameter set, stored once by its hash."""

    sha256: str
    schema: str
    body: Attributes


@dataclass(frozen=True)
class Run:
    """A computation by what determines its result; kind is analysis, calibration or forecast."""

    id: str
    kind: str
    software: str
    parameters: str
    inputs_sha256: str
    seed: str
    campaign: str | None = None


@dataclass(frozen=True)
class RunSubject:
    """A run used the data of a subject, by this decision."""

    run: str
    subject: str
    decision: str


@dataclass(frozen=True)
class Attempt:
    """One time that a run was made."""

    run: str
    n: int
    status: str
    environment_sha256: str
    started: str | None = None
    ended: str | None = None
    output_sha256: str | None = None
    failure: Attributes | None = None


@dataclass(frozen=True)
class Link:
    """What an attempt used or generated: an artefact, a series or a sample."""

    run: str
    attempt: int
    role: str
    port: str
    artefact: str | None = None
    series: str | None = None
    sample: str | None = None


@dataclass(frozen=True)
class Observation:
    """Something measured or found: a number with its unit, or a code."""

    id: str
    subject: str
    quantity: Code
    value: float | None = None
    value_code: Code | None = None
    unit: Code | None = None
    sd: float | None = None
    method: Code | None = None
    software: str | None = None
    run: str | None = None
    series: str | None = None
    sample: str | None = None
    artefact: str | None = None
    day: int | None = None


@dataclass(frozen=True)
class Predicted:
    """A number that a forecast says about a day to come, with the interval of ``level``."""

    id: str
    run: str
    subject: str
    quantity: Code
    horizon_day: int
    value: float
    unit: Code
    status: str
    low: float | None = None
    high: float | None = None
    level: float | None = None
    artefact: str | None = None


@dataclass(frozen=True)
class DecisionRow:
    """The answer to one question of consent."""

    id: str
    subject: str
    operation: str
    purpose: Code
    categories: tuple[str, ...]
    consent: str | None
    policy_sha256: str
    outcome: str
    reason: str
    at: str


@dataclass(frozen=True)
class Holdings:
    """What is held about some subjects. Fields are named after the tables, in the order of their references."""

    biobank: tuple[Biobank, ...] = ()
    collection: tuple[Collection, ...] = ()
    study: tuple[Study, ...] = ()
    subject: tuple[Subject, ...] = ()
    enrolment: tuple[Enrolment, ...] = ()
    consent: tuple[ConsentRow, ...] = ()
    decision: tuple[DecisionRow, ...] = ()
    sample: tuple[Sample, ...] = ()
    event: tuple[Event, ...] = ()
    image_series: tuple[Series, ...] = ()
    artefact: tuple[Artefact, ...] = ()
    contains: tuple[Contains, ...] = ()
    software: tuple[Program, ...] = ()
    parameter_set: tuple[Parameters, ...] = ()
    run: tuple[Run, ...] = ()
    run_subject: tuple[RunSubject, ...] = ()
    attempt: tuple[Attempt, ...] = ()
    link: tuple[Link, ...] = ()
    observation: tuple[Observation, ...] = ()
    prediction: tuple[Predicted, ...] = ()


ROWS: Mapping[str, type] = {
    "biobank": Biobank, "collection": Collection, "study": Study, "subject": Subject, "enrolment": Enrolment,
    "consent": ConsentRow, "decision": DecisionRow, "sample": Sample, "event": Event, "image_series": Series,
    "artefact": Artefact, "contains": Contains, "software": Program, "parameter_set": Parameters, "run": Run,
    "run_subject": RunSubject, "attempt": Attempt, "link": Link, "observation": Observation, "prediction": Predicted,
}  # fmt: skip
"""The row of each table."""

PREDICTING = ("forecast", "calibration")
"""Kinds of runs whose results are predictions."""


def attributes() -> tuple[str, ...]:
    """Every attribute of the core as ``table.field``: what the coverage of a standard is counted over."""
    return tuple(f"{table}.{one.name}" for table, row in ROWS.items() for one in fields(row))


def rows(holdings: Holdings) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """(table, its rows), in the order of references."""
    return ((table, getattr(holdings, table)) for table in ROWS)


def without(holdings: Holdings, paths: Iterable[str]) -> Holdings:
    """The holdings less some attributes: ``table.field`` becomes None, ``table.*`` loses its rows; rows in a fixed
    order. Two holdings that agree but for these attributes are equal.

    Raises ValueError for a path that is none of the core's.
    """
    lost = set(paths)
    if unknown := lost - set(attributes()) - {f"{table}.*" for table in ROWS}:
        raise ValueError(f"no attributes of the core: {', '.join(sorted(unknown))}")
    kept = {}
    for table, held in rows(holdings):
        blank = {path.split(".")[1]: None for path in lost if path.startswith(f"{table}.")}
        kept[table] = () if f"{table}.*" in lost else tuple(sorted((replace(row, **blank) for row in held), key=_order))
    return Holdings(**kept)


def observed(holdings: Holdings) -> Holdings:
    """The holdings without what was predicted: no prediction, nothing simulated, no run that predicts."""
    predicting = {run.id for run in holdings.run if run.kind in PREDICTING}
    simulated = {one.sha256 for one in holdings.artefact if one.asserted == "simulated"}
    return replace(
        holdings,
        prediction=(),
        run=tuple(run for run in holdings.run if run.id not in predicting),
        run_subject=tuple(one for one in holdings.run_subject if one.run not in predicting),
        attempt=tuple(one for one in holdings.attempt if one.run not in predicting),
        link=tuple(one for one in holdings.link if one.run not in predicting and one.artefact not in simulated),
        artefact=tuple(one for one in holdings.artefact if one.sha256 not in simulated),
        contains=tuple(one for one in holdings.contains if one.artefact not in simulated),
        image_series=tuple(one for one in holdings.image_series if one.role != "simulated"),
    )


def for_json(holdings: Holdings) -> dict[str, list[dict[str, Any]]]:
    """Ready for JSON, every attribute of every row."""
    return {table: [json.loads(canonical_json(asdict(row))) for row in held] for table, held in rows(holdings)}


def from_json(content: Mapping[str, Any]) -> Holdings:
    """What ``for_json`` wrote. Raises TypeError, KeyError or ValueError for anything else."""
    held = {table: tuple(_row(row, one) for one in content.get(table, ())) for table, row in ROWS.items()}
    if unknown := content.keys() - ROWS.keys():
        raise ValueError(f"no tables of the core: {', '.join(sorted(unknown))}")
    return Holdings(**held)


@cache
def is_code(row: type, name: str) -> bool:
    """Whether a field of a row holds a Code."""
    return any(one.name == name and one.type in ("Code", "Code | None") for one in fields(row))


def _row(row: type, content: Mapping[str, Any]) -> Any:
    values = dict(content)
    for name, value in content.items():
        if value is not None and is_code(row, name):
            values[name] = Code(**value)
        elif isinstance(value, list):
            values[name] = tuple(value)
    return row(**values)


def _order(row: Any) -> str:
    return canonical_json(asdict(row))
