"""The record: what a run was made from, by what, with which permission, and what came out.

A run is identified by the SHA-256 of what determines its result: software, parameters, inputs, seed. Repeating it
gives the same run a new attempt, and outputs that differ between attempts are reported. The record knows no
metadata standard; each is a rendering of it.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from functools import cache, cached_property
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

from sqlalchemy import Connection, Table, func, insert, select
from sqlalchemy.dialects.sqlite import Insert
from sqlalchemy.dialects.sqlite import insert as insert_or

from .. import __version__
from ..core.errors import ConsentDenied, StoreRejected
from ..core.files import canonical_json, content_hash, write_json
from . import tables
from .audit import record_action
from .consent import Decision, consents, consents_within, denied, require_subject, still_permitted
from .store import Store, code_id, flush, now
from .subject import SubjectKey
from .visit import visits

SCHEMA = "oncoscale-record-1"
LAST_LETTER = "\U0010ffff"
"""Texts that begin with another lie between it and it with this: found by the index, where LIKE reads every row."""

QUANTITIES, UCUM = "urn:oncoscale:quantity", "http://unitsofmeasure.org"
"""Predicted quantities have codes of their own, never those of the measured quantity."""

VOLATILE = ("record.json", "trace.json", "report.html", "*.log", "*.jsonl", "*.png")
"""Outputs made for people: recorded, but two attempts are not compared by them."""

PACKAGES = (
    "numpy",
    "scipy",
    "numba",
    "scikit-fem",
    "pyamg",
    "scikit-image",
    "SimpleITK",
    "gmsh",
    "pydicom",
    "highdicom",
    "h5py",
    "meshio",
    "pint",
    "pydantic",
)
MEDIA_TYPES = {
    ".json": "application/json",
    ".html": "text/html",
    ".csv": "text/csv",
    ".dcm": "application/dicom",
    ".gz": "application/gzip",
    ".nii": "application/octet-stream",
    ".vtkhdf": "application/x-hdf5",
    ".vtu": "application/xml",
    ".toml": "application/toml",
    ".png": "image/png",
    ".parquet": "application/vnd.apache.parquet",
}
KINDS = (
    ("forecast.json", "forecast"),
    ("*report.html", "report"),
    ("maps/*", "map"),
    ("cells/*", "cells"),
    ("*contour*", "segmentation"),
    ("*tumour*.nii.gz", "segmentation"),
    ("*.dcm", "segmentation"),
    ("*mesh*", "mesh"),
    ("*.vtkhdf", "field"),
    ("*.csv", "table"),
    ("*.parquet", "table"),
    ("*.toml", "parameters"),
    ("*.json", "table"),
)

NOT_DONE = ("queued", "running", "failed", "stopped-consent", "cancelled")
"""Every status of an attempt but that of one that ended well."""

IDENTITIES = ("run", "parameters_sha256", "inputs_sha256", "output_sha256")
"""The hashes that a record states of itself."""

RunKind = Literal["analysis", "calibration", "forecast"]
Status = Literal["done", "failed", "stopped-consent", "cancelled"]


@dataclass(frozen=True)
class Software:
    """A program: its name, version, and the hash of its code."""

    name: str
    version: str
    code_sha256: str

    @property
    def id(self) -> str:
        """Name, version and the beginning of the code's hash."""
        return f"{self.name}-{self.version}+{self.code_sha256[:12]}"


@cache
def this_software() -> Software:
    """This program: version and the hash over its source and data files."""
    package = Path(str(files(__package__.rpartition(".")[0])))
    found = {
        str(Path(folder, name).relative_to(package)): content_hash(Path(folder, name))
        for folder, _, names in os.walk(package, followlinks=True)
        for name in names
        if name.endswith((".py", ".json", ".toml", ".html"))
    }
    return Software("oncoscale", __version__, _hash(found))


def this_environment() -> dict[str, Any]:
    """The interpreter, the processor and the versions of the packages that compute."""
    packages: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = None
    return {
        "python": platform.python_version(),
        "system": platform.system(),
        "machine": platform.machine(),
        "packages": packages,
    }


@dataclass(frozen=True)
class Content:
    """One input or output by its content.

    port     what it is for (``series/2.25.…``, ``mask``) or its name among the outputs (``cells/0001.vtkhdf``)
    sha256   of its bytes; of a stored series: of its files' hashes
    series   UID of the stored series that it is; empty for a file
    bytes    its size; 0 for a series
    asserted observed, or simulated: a prediction is never an observation
    """

    port: str
    sha256: str
    series: str = ""
    bytes: int = 0
    asserted: Literal["observed", "simulated"] = "observed"


@dataclass(frozen=True)
class Prediction:
    """One number that a forecast says about a day to come.

    quantity     code in our own system (``tumour-volume``); display, in words
    horizon_day  days after the images of time 0
    low, high    bounds of the interval of ``level``
    unit         UCUM
    """

    quantity: str
    display: str
    horizon_day: int
    value: float
    unit: str
    low: float | None = None
    high: float | None = None
    level: float | None = None


@dataclass(frozen=True)
class Record:
    """The provenance of one run, tied to subject, consent and study.

    parameters   the resolved configuration, ready for JSON
    inputs       everything that was read; outputs: everything that was written
    seed         of the run's named draws
    engine, threads, environment   how it was computed; they do not change what is computed
    subject      pseudonym; None for a run on nobody
    study        ``T-…`` of the visit whose images it starts from
    decision     id of the permit
    recipe       as the forecast states it
    """

    kind: RunKind
    parameters: Mapping[str, Any]
    inputs: tuple[Content, ...]
    seed: int
    engine: str
    threads: int
    subject: SubjectKey | None = None
    study: str | None = None
    decision: str | None = None
    recipe: Mapping[str, Any] = field(default_factory=dict)
    outputs: tuple[Content, ...] = ()
    software: Software = field(default_factory=this_software)
    environment: Mapping[str, Any] = field(default_factory=this_environment)
    schema: str = SCHEMA

    @cached_property
    def parameters_json(self) -> str:
        """The parameters as canonical JSON."""
        return _canonical(self.parameters)

    @cached_property
    def parameters_sha256(self) -> str:
        """Hash of the canonical JSON of the parameters."""
        return _sha256(self.parameters_json)

    @cached_property
    def environment_sha256(self) -> str:
        """Hash of how it was computed."""
        return _sha256(_canonical({**self.environment, "engine": self.engine, "threads": self.threads}))

    @cached_property
    def inputs_sha256(self) -> str:
        """Hash of the sorted (port, hash) pairs of the inputs."""
        return _hash(self.input_hashes)

    @property
    def input_hashes(self) -> list[tuple[str, str]]:
        """(port, hash) of every input, sorted."""
        return sorted((one.port, one.sha256) for one in self.inputs)

    @cached_property
    def run(self) -> str:
        """The run's identity: what determines its result, and nothing else."""
        return _hash(
            {
                "schema": self.schema,
                "software": self.software.id,
                "kind": self.kind,
                "seed": self.seed,
                "parameters_sha256": self.parameters_sha256,
                "inputs": self.input_hashes,
            }
        )

    @cached_property
    def output_sha256(self) -> str:
        """Hash over the outputs that an equal run must reproduce to the byte."""
        return _hash(sorted((one.port, one.sha256) for one in self.outputs if not _is_volatile(one.port)))

    def for_json(self) -> dict[str, Any]:
        """Ready for JSON, with the hashes that identify it."""
        content = {name: getattr(self, name) for name in self.__dataclass_fields__}
        content |= {"software": vars(self.software), **{name: getattr(self, name) for name in IDENTITIES}}
        content |= {name: [vars(one) for one in content[name]] for name in ("inputs", "outputs")}
        plain: dict[str, Any] = json.loads(json.dumps(content))
        return plain

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Record:
        """The record that ``for_json`` wrote."""
        values = {name: content[name] for name in cls.__dataclass_fields__}
        for ports in ("inputs", "outputs"):
            values[ports] = tuple(Content(**one) for one in values[ports])
        found = cls(**values | {"software": Software(**values["software"])})
        found.__dict__["parameters_json"] = canonical_json(found.parameters)  # what was read has texts as keys
        return found


@dataclass(frozen=True)
class Recorded:
    """What record_run wrote.

    attempt  1 for a new run, more for a repeat
    differs  outputs whose bytes are not those of the last attempt that was done; empty is what repeats should give
    folder   where the store keeps the results
    """

    run: str
    attempt: int
    differs: tuple[str, ...]
    folder: Path


@dataclass(frozen=True)
class FoundRun:
    """A run looked up: its record and the folder of its results."""

    record: Record
    folder: Path
    attempt: int | None


def inputs_of_study(store: Store, study: str) -> tuple[Content, ...]:
    """The stored series of a visit, as inputs of a run."""
    columns = tables.image_series.c
    with store.reading() as connection:
        rows = connection.execute(
            select(columns.uid, columns.content_sha256).where(columns.event == study).order_by(columns.uid)
        ).all()
    return tuple(Content(f"series/{row.uid}", row.content_sha256, series=row.uid) for row in rows)


def input_file(port: str, path: Path | str) -> Content:
    """A file given by the user (mask, configuration, treatment), as an input of a run."""
    return Content(port, content_hash(path), bytes=Path(path).stat().st_size)


def outputs_of(folder: Path | str) -> tuple[Content, ...]:
    """Every file of a finished output folder; maps and the patient's own images are observed, the rest is simulated."""
    folder = Path(folder)
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "record.json")
    names = [path.relative_to(folder).as_posix() for path in files]
    return tuple(
        Content(
            name,
            content_hash(path),
            bytes=path.stat().st_size,
            asserted="observed" if _kind_of(name) == "map" or name.startswith("images/") else "simulated",
        )
        for name, path in zip(names, files)
    )


def record_run(
    store: Store,
    record: Record,
    folder: Path | str,
    *,
    permit: Decision | None = None,
    predictions: Iterable[Prediction] = (),
    started: str | None = None,
) -> Recorded:
    """Write a finished run into the store, all of it or nothing: results, rows, predictions, and record.json.

    record   outputs may be empty: they are taken from ``folder``
    folder   the finished output folder; record.json is written into it, and all of it is copied into the store
    permit   the decision that allowed it; required for a run on a subject
    started  ISO time, for the attempt

    Raises ConsentDenied if the consent does not hold any more (the attempt is recorded as stopped), StoreRejected,
    StorageFault.
    """
    folder = Path(folder)
    record = replace(record, outputs=record.outputs or outputs_of(folder), decision=permit.id if permit else None)
    if record.subject is not None and (permit is None or permit.operation != "run" or permit.subject != record.subject):
        raise ConsentDenied(
            "the run has no permit for its subject",
            "a decision that permits this run",
            "ask for one first (linkage.consent.require)",
        )
    if permit is not None and not still_permitted(store, permit):
        record_stop(store, record, permit, "stopped-consent", started=started)
        raise denied("withdrawn", "run")
    with store.staging() as staging:
        write_json(folder / "record.json", record.for_json())
        shutil.copytree(folder, staging / "results")
        flush(staging / "results")
        with store.writing() as connection:
            attempt = _enter_run(connection, record, permit)
            differs = _differing(connection, record)
            final = store.run_folder(record.run, attempt)
            _enter_attempt(connection, record, attempt, "done", started)
            _enter_contents(connection, record, attempt)
            _enter_predictions(connection, record, predictions)
            record_action(
                store, connection, "run", record.subject or record.run, {"run": record.run, "attempt": attempt}
            )
            final.parent.mkdir(parents=True, exist_ok=True)
            if final.exists():
                shutil.rmtree(final)
            os.replace(staging / "results", final)
    return Recorded(record.run, attempt, differs, final)


def record_stop(
    store: Store,
    record: Record,
    permit: Decision | None,
    status: Status,
    *,
    failure: Mapping[str, Any] | None = None,
    started: str | None = None,
) -> int:
    """Write an attempt that did not finish; returns its number. Its outputs are not kept."""
    with store.writing() as connection:
        attempt = _enter_run(connection, record, permit)
        _enter_attempt(connection, record, attempt, status, started, failure)
        record_action(store, connection, "run", record.subject or record.run, {"run": record.run, "status": status})
    return attempt


def find_run(store: Store | None, name: str) -> FoundRun:
    """A run by its id (or the beginning of it, at least 6 digits) or by the folder of its results.

    Raises StoreRejected if there is none, or more than one.
    """
    if (folder := Path(name)).is_dir() and (folder / "record.json").is_file():
        return FoundRun(_read_record(folder), folder, None)
    if store is None:
        raise StoreRejected(
            f"{Path(name).name!r} is no folder with a record.json",
            "the output folder of a forecast",
            "name such a folder, or a run id together with --store",
        )
    with store.reading() as connection:
        columns = tables.attempt.c
        rows = connection.execute(
            select(columns.run, func.max(columns.n).label("n"))
            .where(columns.run >= name, columns.run <= name + LAST_LETTER, columns.status == "done")
            .group_by(columns.run)
        ).all()
    if len(name) < 6 or len(rows) != 1:
        raise StoreRejected(
            f"{len(rows)} finished runs in the store begin with {name!r}",
            "one run",
            "give more digits of the run id, or the folder of its results",
        )
    folder = store.run_folder(rows[0].run, rows[0].n)
    return FoundRun(_read_record(folder), folder, rows[0].n)


def show(store: Store, subject: SubjectKey) -> dict[str, Any]:
    """Everything that the store holds about a subject, ready for JSON: consents, visits, runs, predictions."""
    with store.reading() as connection:
        require_subject(connection, subject)
        species = tables.code.c.display.label("species_name")
        about = (
            connection.execute(
                select(tables.subject, species)
                .join(tables.code, tables.subject.c.species == tables.code.c.id)
                .where(tables.subject.c.key == subject)
            )
            .mappings()
            .one()
        )
        return {
            "subject": subject,
            "site": about["site"],
            "sex": about["sex"],
            "species": about["species_name"],
            "age_day0_d": about["age_day0_d"],
            "day0": about["day0_kind"],
            "visits": _visits_of(connection, subject),
            "runs": _runs_of(connection, subject),
            "predictions": _predictions_of(connection, subject),
            "consents": [dict(row) for row in consents_within(connection, subject)],
        }


def attempts_by_status(connection: Connection) -> dict[str, int]:
    """How many attempts the store holds, by how they ended; a status without any is left out.

    Most are done: these are all less the others, since all rows of a table are counted without being read.
    """
    status = tables.attempt.c.status
    counted = select(status, func.count()).where(status.in_(NOT_DONE)).group_by(status)
    others: dict[str, int] = dict(map(tuple, connection.execute(counted)))
    done = connection.execute(select(func.count()).select_from(tables.attempt)).scalar_one() - sum(others.values())
    return others | ({"done": done} if done else {})


def subjects(store: Store) -> tuple[dict[str, Any], ...]:
    """One row a subject: key, number of visits, newest consent."""
    with store.reading() as connection:
        keys = connection.execute(select(tables.subject.c.key).order_by(tables.subject.c.key)).scalars().all()
    rows = []
    for key in keys:
        history = consents(store, SubjectKey(key))
        rows.append(
            {
                "subject": key,
                "visits": [visit.study for visit in visits(store, SubjectKey(key))],
                "consent": history[-1]["status"] if history else "missing",
            }
        )
    return tuple(rows)


def _canonical(stated: Mapping[str, Any]) -> str:
    """Canonical JSON of what others stated, whose keys may be no text."""
    return canonical_json(json.loads(json.dumps(stated)))


def _hash(value: Any) -> str:
    return _sha256(canonical_json(value))


def _sha256(text: str) -> str:
    return sha256(text.encode()).hexdigest()


def _is_volatile(name: str) -> bool:
    return any(fnmatch(name, pattern) for pattern in VOLATILE)


def _kind_of(name: str) -> str:
    return next((kind for pattern, kind in KINDS if fnmatch(name, pattern)), "table")


def _read_record(folder: Path) -> Record:
    try:
        content = json.loads((folder / "record.json").read_text(encoding="utf-8"))
        if content["schema"] != SCHEMA:
            raise StoreRejected(
                f"the record has schema {content['schema']!r}", SCHEMA, "use the version of this program that wrote it"
            )
        return Record.from_json(content)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreRejected(
            "the record of this run is missing or damaged",
            "a record.json as a forecast writes it",
            "run the forecast again",
        ) from error


@cache
def _if_new(table: Table) -> Insert:
    """Rows that are there stay."""
    return insert_or(table).on_conflict_do_nothing()


def _enter_run(connection: Connection, record: Record, permit: Decision | None) -> int:
    """The rows of the run, if they are new; returns the number of the next attempt."""
    software, parameters = record.software, record.parameters_sha256
    enter_software(connection, software)
    connection.execute(
        _if_new(tables.parameter_set),
        {"sha256": parameters, "schema": f"oncoscale-{record.kind}", "body": record.parameters_json},
    )
    connection.execute(
        _if_new(tables.run),
        {
            "id": record.run,
            "kind": record.kind,
            "software": software.id,
            "parameters": parameters,
            "inputs_sha256": record.inputs_sha256,
            "seed": str(record.seed),
        },
    )
    if permit is not None:
        connection.execute(
            _if_new(tables.run_subject), {"run": record.run, "subject": permit.subject, "decision": permit.id}
        )
    last = connection.execute(select(func.max(tables.attempt.c.n)).where(tables.attempt.c.run == record.run)).scalar()
    return int(last or 0) + 1


def enter_software(connection: Connection, software: Software) -> int:
    """The row of a program, if it is new: this one with its passport, of another one nothing is known.

    Returns how many rows were entered.
    """
    if connection.execute(select(tables.software.c.id).where(tables.software.c.id == software.id)).first():
        return 0
    from .passport import passport_to_keep  # which asks every package what it says of itself

    passport = canonical_json(passport_to_keep()) if software == this_software() else None
    connection.execute(_if_new(tables.software), {"id": software.id, **vars(software), "passport": passport})
    return 1


def _enter_attempt(
    connection: Connection,
    record: Record,
    attempt: int,
    status: Status,
    started: str | None,
    failure: Mapping[str, Any] | None = None,
) -> None:
    row = {
        "run": record.run,
        "n": attempt,
        "status": status,
        "started": started,
        "ended": now(),
        "environment_sha256": record.environment_sha256,
        "output_sha256": record.output_sha256 if status == "done" else None,
        "failure": canonical_json(dict(failure)) if failure else None,
    }
    connection.execute(insert(tables.attempt), row)


def _differing(connection: Connection, record: Record) -> tuple[str, ...]:
    """Names of outputs that the last finished attempt had otherwise, or not at all."""
    columns = tables.attempt.c
    last = connection.execute(
        select(columns.n, columns.output_sha256)
        .where(columns.run == record.run, columns.status == "done")
        .order_by(columns.n.desc())
        .limit(1)
    ).first()
    if last is None or last.output_sha256 == record.output_sha256:
        return ()
    rows = connection.execute(
        select(tables.link.c.port, tables.link.c.artefact).where(
            tables.link.c.run == record.run, tables.link.c.attempt == last.n, tables.link.c.role == "generated"
        )
    ).all()
    before = {row.port: row.artefact for row in rows}
    after = {one.port: one.sha256 for one in record.outputs}
    return tuple(
        name
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name) and not _is_volatile(name)
    )


def _enter_contents(connection: Connection, record: Record, attempt: int) -> None:
    """What was used and made: files, whose data they hold, and their links."""
    files, links = [], []
    for role, contents in (("used", record.inputs), ("generated", record.outputs)):
        for one in contents:
            what = {"series": one.series, "artefact": None} if one.series else {"series": None, "artefact": one.sha256}
            links.append({"run": record.run, "attempt": attempt, "role": role, "port": one.port, **what})
            if not one.series:
                files.append(_artefact(record, one, attempt, is_made=role == "generated"))
    if files:
        connection.execute(_if_new(tables.artefact), files)
    if files and record.subject is not None:
        held = [{"artefact": one["sha256"], "subject": record.subject, "share": "sole"} for one in files]
        connection.execute(_if_new(tables.contains), held)
    if links:
        connection.execute(insert(tables.link), links)


def _artefact(record: Record, one: Content, attempt: int, *, is_made: bool) -> dict[str, Any]:
    return {
        "sha256": one.sha256,
        "kind": _kind_of(one.port) if is_made else "parameters",
        "asserted": one.asserted,
        "media_type": MEDIA_TYPES.get(Path(one.port).suffix, "application/octet-stream"),
        "bytes": one.bytes,
        "uri": f"runs/{record.run}/{attempt}/{one.port}" if is_made else "",
    }


def _enter_predictions(connection: Connection, record: Record, predictions: Iterable[Prediction]) -> None:
    known = select(func.count()).select_from(tables.prediction).where(tables.prediction.c.run == record.run)
    if record.subject is None or connection.execute(known).scalar_one():
        return  # a repeat predicts what its first attempt predicted
    rows = [
        {
            "id": "F-" + uuid4().hex,
            "run": record.run,
            "subject": record.subject,
            "status": "preliminary",
            "quantity": code_id(connection, QUANTITIES, one.quantity, one.display),
            "unit": code_id(connection, UCUM, one.unit, one.unit),
            **{name: getattr(one, name) for name in ("horizon_day", "value", "low", "high", "level")},
        }
        for one in predictions
    ]
    if rows:
        connection.execute(insert(tables.prediction), rows)


def _visits_of(connection: Connection, subject: SubjectKey) -> list[dict[str, Any]]:
    series, event = tables.image_series.c, tables.event.c
    rows = (
        connection.execute(
            select(event.id, event.day, series.uid, series.role, series.instances, tables.code.c.code.label("modality"))
            .join_from(tables.event, tables.image_series, series.event == event.id)
            .join(tables.code, series.modality == tables.code.c.id)
            .where(event.subject == subject, event.kind == "imaging")
            .order_by(event.day, event.id, series.uid)
        )
        .mappings()
        .all()
    )
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        visit = found.setdefault(row["id"], {"study": row["id"], "day": row["day"], "series": []})
        visit["series"].append({name: row[name] for name in ("uid", "modality", "role", "instances")})
    return list(found.values())


def _runs_of(connection: Connection, subject: SubjectKey) -> list[dict[str, Any]]:
    run, attempt = tables.run.c, tables.attempt.c
    wanted = (
        run.id,
        run.kind,
        run.software,
        run.seed,
        attempt.n,
        attempt.status,
        attempt.started,
        attempt.ended,
        attempt.output_sha256,
    )
    rows = (
        connection.execute(
            select(*wanted)
            .join_from(tables.run_subject, tables.run, tables.run_subject.c.run == run.id)
            .join(tables.attempt, attempt.run == run.id)
            .where(tables.run_subject.c.subject == subject)
            .order_by(attempt.ended, run.id, attempt.n)
        )
        .mappings()
        .all()
    )
    return [
        {
            "run": row["id"],
            "kind": row["kind"],
            "software": row["software"],
            "seed": row["seed"],
            "attempt": row["n"],
            **{name: row[name] for name in ("status", "started", "ended", "output_sha256")},
        }
        for row in rows
    ]


def _predictions_of(connection: Connection, subject: SubjectKey) -> list[dict[str, Any]]:
    columns, unit = tables.prediction.c, tables.code.alias("unit")
    rows: Sequence[Any] = (
        connection.execute(
            select(
                columns.run,
                columns.horizon_day,
                columns.value,
                columns.low,
                columns.high,
                columns.level,
                columns.status,
                tables.code.c.display.label("quantity"),
                unit.c.code.label("unit"),
            )
            .join(tables.code, columns.quantity == tables.code.c.id)
            .join(unit, columns.unit == unit.c.id)
            .where(columns.subject == subject)
            .order_by(columns.run, columns.horizon_day)
        )
        .mappings()
        .all()
    )
    return [dict(row) for row in rows]
