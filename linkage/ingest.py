"""Ingest: a folder of images becomes one de-identified visit of one subject in the store.

The folder is read first, as every later stage reads it, and refused before anything is written. Its files are
de-identified into a staging folder and read again; unless every series, label image and map is the same to the
last bit, nothing enters. Then the folder is renamed into place and the database commits.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import date
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from pydicom.dataset import FileDataset
from sqlalchemy import Connection, delete, func, insert, select, update

from ..core.errors import ConfigurationRejected, StoreRejected, StudyRejected
from ..core.files import canonical_json, content_hash
from ..imaging.dicom_files import read_bytes, read_dicom
from ..imaging.dicom_read import read_study
from ..imaging.nifti_series import read_nifti_file, stem
from ..imaging.study import Finding, ImagingStudy, LabelImage, ParametricMap, Series
from . import tables
from .audit import record_action
from .consent import Consent, add_consent, add_decision, consent_on_record, decide, denied, objection
from .deface import Face, faces_of, shows_a_head, without_faces
from .deface import deface as remove_face
from .deidentify import Pseudonyms, Report, deidentified, edition, encoded, shifted
from .deidentify_nifti import neutral_nifti
from .sources import SourceFile, date_of, is_derived, of_visit, refuse_several_visits, source_files
from .store import PROJECT, Store, attributes_of_project, code_id, now
from .subject import SubjectKey
from .vault import Vault
from .visit import Progress, Statements, Visit, find_visit, imaging_events, load_study, studies, visits

__all__ = ["Ingested", "Statements", "Visit", "find_visit", "ingest", "load_study", "studies", "visits"]

Item = TypeVar("Item")

SCHEMA = "oncoscale-imaging-study-1"
SNOMED, DCM = "http://snomed.info/sct", "http://dicom.nema.org/resources/ontology/DCM"
SPECIES = {
    "human": ("337915000", "Homo sapiens"),
    "mouse": ("447612001", "Mus musculus"),
    "rat": ("371565004", "Rattus norvegicus"),
    "": ("261665006", "Unknown"),
}
SEX = {"M": "male", "F": "female", "": "unknown"}
OLDEST_AGE_D = 32872
DAYS_IN = {"D": 1.0, "W": 7.0, "M": 30.4375, "Y": 365.25}
ROLES = {"SEG": "segmented", "RTSTRUCT": "segmented", "REG": "registered"}
ACQUISITION = (
    "Manufacturer",
    "ManufacturerModelName",
    "SoftwareVersions",
    "MagneticFieldStrength",
    "ScanningSequence",
    "SequenceVariant",
    "RepetitionTime",
    "EchoTime",
    "FlipAngle",
    "ContrastBolusAgent",
    "SliceThickness",
    "PixelSpacing",
    "ConvolutionKernel",
    "NumberOfTemporalPositions",
)


@dataclass(frozen=True)
class Ingested:
    """What ingest did.

    subject, study   the pseudonym, and the identifier of the visit's images (``T-…``)
    day              days after the subject's first visit
    is_new           False if the store held the same files and statements already
    consent          active, or why forecasts will be refused ("missing")
    series           one row a series, ready for a table: role, modality, description, instances, shape, …
    findings         what was found, chosen and doubted, by reading the stored copy
    imaging          the study as read from the stored copy
    """

    subject: SubjectKey
    study: str
    day: int
    is_new: bool
    consent: str
    series: tuple[Mapping[str, Any], ...]
    findings: tuple[Finding, ...]
    imaging: ImagingStudy = field(repr=False)


def ingest(
    folder: Path | str,
    store: Store,
    subject_local_id: str,
    *,
    consent: Consent | None = None,
    site: str = "site1",
    units: Mapping[str, str] | None = None,
    same_subject: bool = False,
    regions: Mapping[int, str] | None = None,
    times_s: Sequence[float] | None = None,
    visit: str | None = None,
    day: int | None = None,
    deface: bool = False,
    device_identity: bool = False,
    read: Callable[..., ImagingStudy] = read_study,
    vault: Vault | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Ingested:
    """Take a folder of DICOM or NIfTI files into the store as one visit of one subject.

    subject_local_id  what the subject is called at ``site``; only its keyed pseudonym is stored
    consent           what the subject allowed; without it (now or on record) forecasts will be refused
    units, same_subject, regions, times_s   see Statements
    visit             which visit, where the folder holds several (see read_study); the others stay outside
    day               days after day 0 (of a subject that came by its images: the first visit), where the files have no
                      date, or the subject is known already and counts from something else
    deface            take the face out of images of a head (see linkage.deface)
    device_identity   keep what names the scanner (Retain Device Identity Option; see linkage.deidentify)
    read              reads the folder: read_study, or in a child process read_study_guarded
    vault             default: the user's (see linkage.vault)
    dry_run           do everything except keeping the result

    Raises the typed refusals of read_study, StudyRejected for several visits in one folder, ConsentDenied for a
    consent that does not permit it, StoreRejected, StorageFault. Nothing half written is left in any case.
    """
    folder = Path(folder)
    if not subject_local_id.strip():
        raise ConfigurationRejected(
            "the subject's local identifier is empty",
            "what the subject is called at the site",
            "give it with --subject",
        )
    statements = Statements(units or {}, same_subject, regions, times_s)
    original = read(folder, **statements.options(), visit=visit, progress=_part(progress, 0.0, 0.4))
    sources = source_files(folder)
    if visit is not None:
        sources = of_visit(sources, folder, visit, same_subject=same_subject)
    taken = [source for source in sources if not source.reason]
    refuse_several_visits(taken, same_subject=same_subject)
    vault = vault or Vault.open(store=store.path)
    subject = vault.subject_key(site, subject_local_id)
    work = _Work(
        store,
        vault,
        subject,
        site,
        statements,
        taken,
        _digest(vault, taken, statements, ["deface"] * deface + ["device-identity"] * device_identity),
        vault.imaging_study_id(_identities(vault, taken)),
        day,
        _faces_to_remove(original, taken) if deface else None,
        device_identity,
    )
    _require_key_of_store(store, vault)
    _require_consent(store, subject, consent, dry_run=dry_run)
    held = _held(store, work)
    if held is not None:
        return _again(store, work, held, consent, dry_run=dry_run)
    with store.staging() as staging:
        home = staging / "study"
        staged, report = _deidentify_all(work, home, _part(progress, 0.4, 0.8))
        imaging = read_study(
            home / "images", **Statements.from_json(statements.for_json()).options(), progress=_part(progress, 0.8, 1.0)
        )
        _refuse_changed(without_faces(original, work.faces or {}), without_faces(imaging, _as_stored(work)))
        result = _result(work, sources, staged, imaging, consent)
        _write(home / "study.json", _json(_account(work, result, staged)))
        _write(home / "deidentification.json", _json(_report(report, sources, staged)))
        _flush(home)
        if not dry_run:
            vault.remember(subject, site, subject_local_id.strip())
            _keep(work, staging, staged, result, consent, original)
    return result


@dataclass(frozen=True)
class _Work:
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


@dataclass(frozen=True)
class _Staged:
    """One file in the staging folder: its place, its hash, its series (mapped) and its de-identified header."""

    place: str
    sha256: str
    series: str
    header: FileDataset | None


def _part(progress: Progress | None, start: float, stop: float) -> Progress | None:
    """The share of a progress bar that one step has."""
    if progress is None:
        return None
    return lambda what, done: progress(what, start + (stop - start) * done)


def _identities(vault: Vault, files: Sequence[SourceFile]) -> list[str]:
    """What identifies a visit's images: the study UIDs of its original images, else the contents of its files."""
    headers = [source.header for source in files if source.header is not None]
    original = [header for header in headers if not is_derived(header)] or headers
    if original:
        return sorted({str(header.StudyInstanceUID) for header in original})
    return [content_hash(source.path) for source in files]


def _digest(vault: Vault, files: Sequence[SourceFile], statements: Statements, asked: Sequence[str]) -> str:
    """Keyed hash of the files' contents and what was asked for: equal only for the same ingest."""
    contents = sorted(content_hash(source.path) for source in files)
    return vault.keyed_hash(canonical_json([contents, statements.for_json(), *asked]))


def _faces_to_remove(study: ImagingStudy, files: Sequence[SourceFile]) -> Mapping[str, Face]:
    """The face in each frame of reference; none if the files name another part of the body."""
    headers = [source.header for source in files if source.header is not None]
    if study.body_part and not shows_a_head(headers):
        return {}
    return faces_of(study)


def _as_stored(work: _Work) -> dict[str, Face]:
    """The faces by the frames of reference of the stored images."""
    return {frame and work.vault.mapped_uid(frame): face for frame, face in (work.faces or {}).items()}


def _require_key_of_store(store: Store, vault: Vault) -> None:
    with store.reading() as connection:
        known = attributes_of_project(connection).get("key_fingerprint")
    if known not in (None, vault.fingerprint):
        raise StoreRejected(
            "the store was made with another vault's key: the same subject would get another pseudonym",
            "the vault that the store was begun with",
            "set ONCOSCALE_VAULT to that vault",
        )


def _require_consent(store: Store, subject: SubjectKey, given: Consent | None, *, dry_run: bool) -> None:
    """Refuse when a consent, given now or on record, says no. A withdrawal of a known subject is recorded first."""
    on_record = consent_on_record(store, subject)
    consent = given or on_record
    if consent is None:
        return
    reason = objection(consent, "HRESCH", ("imaging",))
    if given is not None and given.status != "active" and on_record is not None and not dry_run:
        with store.writing() as connection:
            add_consent(store, connection, subject, given)
    if reason and on_record is not None and (given is None or given.status != "active") and not dry_run:
        decide(store, subject, "ingest", "HRESCH", ("imaging",))  # the denial stays on record
    if reason:
        raise denied(reason, "ingest")


def _held(store: Store, work: _Work) -> Mapping[str, Any] | None:
    """The attributes of the study if the store holds this very ingest; refuses what contradicts it."""
    with store.reading() as connection:
        row = connection.execute(imaging_events().where(tables.event.c.id == work.study)).first()
        used = connection.execute(
            select(func.count())
            .select_from(tables.link.join(tables.image_series, tables.link.c.series == tables.image_series.c.uid))
            .where(tables.image_series.c.event == work.study)
        ).scalar_one()
    if row is None:
        return None
    if row.subject != work.subject:
        raise StoreRejected(
            "the store holds these images under another subject",
            "one subject for one set of images",
            "check the local identifier given with --subject",
        )
    attributes: dict[str, Any] = json.loads(row.attributes)
    if attributes["source"] == work.source:
        intact = (store.study_folder(work.study) / "study.json").is_file()
        return attributes | {"day": row.day} if intact else None
    if used:
        raise StoreRejected(
            f"the store holds study {work.study} with other files or statements, and recorded runs rest on it",
            "the same files and statements, or a study that no run used yet",
            "ingest into another store",
        )
    if missing := set(attributes["contents"]) - set(_contents(work)):
        raise StoreRejected(
            f"the store holds study {work.study} with {len(missing)} files that are not in this folder",
            "all files of the visit in one folder",
            "ingest a folder that holds all of them",
        )
    return None


def _contents(work: _Work) -> list[str]:
    """What is in a visit: mapped instance UIDs, keyed hashes for files without."""
    return sorted(
        work.vault.mapped_uid(str(source.header.SOPInstanceUID))
        if source.header is not None
        else work.vault.keyed_hash(content_hash(source.path))
        for source in work.files
    )


def _again(store: Store, work: _Work, held: Mapping[str, Any], consent: Consent | None, *, dry_run: bool) -> Ingested:
    """The answer to an ingest that the store holds already: only a new consent is written."""
    if consent is not None and not dry_run:
        with store.writing() as connection:
            add_consent(store, connection, work.subject, consent)
    imaging, subject = load_study(store, work.study)
    note = Finding("found", "store", "these files are in the store already; nothing was written again")
    account = json.loads((store.study_folder(work.study) / "study.json").read_text(encoding="utf-8"))
    return Ingested(
        subject,
        work.study,
        held["day"],
        False,
        _consent_state(store, subject, consent),
        tuple(account["series"]),
        (note, *imaging.findings),
        imaging,
    )


def _deidentify_all(work: _Work, home: Path, progress: Progress | None) -> tuple[list[_Staged], Report]:
    shift = work.vault.date_shift(work.subject)
    pseudonyms = Pseudonyms(
        work.subject,
        shift,
        work.vault.mapped_uid,
        device_identity=work.device_identity,
        faces_removed=work.defaced,
    )
    report: Report = Counter()
    staged = []
    for done, source in enumerate(work.files, start=1):
        place, data, header = _deidentify(source, work, pseudonyms, report)
        _write(home / "images" / place, data)
        if (b_values := source.path.with_name(f"{stem(source.path)}.bval")).is_file() and source.kind == "nifti":
            _write((home / "images" / place).with_name(f"{stem(Path(place))}.bval"), _numbers(b_values))
        digest = sha256(data).hexdigest()
        series = str(header.SeriesInstanceUID) if header is not None else f"sha256:{digest}"
        staged.append(_Staged(place, digest, series, header))
        if progress is not None:
            progress("de-identify", done / len(work.files))
    return staged, report


def _numbers(path: Path) -> bytes:
    """The numbers of a text file, and nothing else of it."""
    return " ".join(repr(float(word)) for word in path.read_text(encoding="ascii").split()).encode()


def _deidentify(
    source: SourceFile, work: _Work, pseudonyms: Pseudonyms, report: Report
) -> tuple[str, bytes, FileDataset | None]:
    """(place in the study, bytes, header) of the de-identified copy of one file."""
    where = f"file {source.number}"
    if source.kind == "nifti":
        labels = read_nifti_file(source.path, where, work.statements.times_s).labels
        if work.faces and not labels:
            raise StudyRejected(
                f"{where} is an image in NIfTI, which is not defaced",
                "DICOM images of a head",
                "deface it before ingest and export it with --faces-handled, or leave --deface out",
            )
        names = labels[0].names if labels else {}
        return source.place, neutral_nifti(read_bytes(source.path, where), names, where), None
    dataset = read_dicom(source.path, where, pixels=True)
    if dataset is None:
        raise StudyRejected(
            f"{where} changed while it was read", "files that stay as they are during ingest", "run the command again"
        )
    if work.faces and (voxels := remove_face(dataset, work.faces, where)):
        report["PixelData", "voxels of the face turned into air"] += voxels
    clean = deidentified(dataset, pseudonyms, report)
    if source.twin:
        clean.SeriesInstanceUID = work.vault.mapped_uid(f"{dataset.SeriesInstanceUID} {source.twin}")
    data = encoded(clean)
    for keyword in ("PixelData", "FloatPixelData", "DoubleFloatPixelData"):
        clean.pop(keyword, None)
    return f"{source.place}/{clean.SOPInstanceUID}.dcm", data, clean


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "xb") as handle:
        handle.write(data)


def _flush(folder: Path) -> None:
    """Everything below a folder reaches the disk, several files at a time (each would wait for the disk alone)."""

    def flush(path: Path) -> None:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    with ThreadPoolExecutor(max_workers=16) as pool:
        list(pool.map(flush, [folder, *folder.rglob("*")]))


def _json(value: Any) -> bytes:
    return (json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _refuse_changed(original: ImagingStudy, stored: ImagingStudy) -> None:
    """Refuse unless the stored copy reads like the folder: voxels, geometry, times, regions, to the last bit."""
    _refuse_lost("series", original.series, stored.series, _same_series)
    _refuse_lost("label image", original.labels, stored.labels, _same_labels)
    _refuse_lost("map", original.maps, stored.maps, _same_map)


def _refuse_lost(what: str, before: Sequence[Item], after: Sequence[Item], same: Callable[[Item, Item], bool]) -> None:
    left = list(after)
    for number, item in enumerate(before, start=1):
        twin = next((place for place, other in enumerate(left) if same(item, other)), None)
        if twin is None:
            raise StudyRejected(
                f"{what} {number} of {len(before)} would not be the same after de-identification",
                "images whose reading does not rest on text that must be removed, in objects that may "
                "be stored (no burned-in text)",
                "state what the text told (--unit, --label), or leave that series out",
            )
        del left[twin]


def _same_grid(before: Any, after: Any) -> bool:
    return before.shape == after.shape and bool(np.array_equal(before.affine, after.affine))


def _same_optional(before: Any, after: Any) -> bool:
    return (before is None) == (after is None) and (before is None or bool(np.array_equal(before, after)))


def _same_series(before: Series, after: Series) -> bool:
    return (
        before.role == after.role
        and before.modality == after.modality
        and _same_grid(before.grid, after.grid)
        and _same_optional(before.times_s, after.times_s)
        and _same_optional(before.b_values, after.b_values)
        and bool(np.array_equal(before.values, after.values, equal_nan=True))
    )


def _same_labels(before: LabelImage, after: LabelImage) -> bool:
    return (
        set(before.names) == set(after.names)
        and _same_grid(before.grid, after.grid)
        and bool(np.array_equal(before.values, after.values))
    )


def _same_map(before: ParametricMap, after: ParametricMap) -> bool:
    return (
        before.name == after.name
        and before.unit == after.unit
        and _same_grid(before.grid, after.grid)
        and bool(np.array_equal(before.values, after.values, equal_nan=True))
    )


def _result(
    work: _Work,
    sources: Sequence[SourceFile],
    staged: Sequence[_Staged],
    imaging: ImagingStudy,
    consent: Consent | None,
) -> Ingested:
    day, findings = _day_of_visit(work)
    findings += _kept_back(sources) + _links(work)
    state = _consent_state(work.store, work.subject, consent)
    if state != "active":
        findings.append(
            Finding(
                "doubted",
                "consent",
                f"{state}: the images are stored, but forecasts of this subject "
                "will be refused until a consent is recorded (oncoscale consent record)",
            )
        )
    findings += _about_faces(work)
    rows = tuple(
        _series_row(uid, [one for one in staged if one.series == uid], imaging)
        for uid in dict.fromkeys(one.series for one in staged)
    )
    return Ingested(
        work.subject, work.study, day, True, state, rows, (*findings, *imaging.findings), replace(imaging, day=day)
    )


def _about_faces(work: _Work) -> list[Finding]:
    if work.defaced:
        return [Finding("chosen", "images", "faces were taken out of the images; ears and the back of the head stay")]
    if shows_a_head(work.headers):
        return [Finding("doubted", "images", "images of a head, not defaced: a face may be recognised in them")]
    return [Finding("found", "images", "no images of a head: no face to take out")] if work.faces is not None else []


def _kept_back(sources: Sequence[SourceFile]) -> list[Finding]:
    reasons = Counter(source.reason for source in sources if source.reason)
    return [Finding("chosen", "files", f"{count} file(s) not stored: {reason}") for reason, count in reasons.items()]


def _links(work: _Work) -> list[Finding]:
    identifiers = {str(header.get("PatientID") or "") for header in work.headers} - {""}
    if len(identifiers) < 2:
        return []
    return [
        Finding(
            "chosen", "files", f"{len(identifiers)} patient identifiers in the files: one subject, as the user states"
        )
    ]


def _consent_state(store: Store, subject: SubjectKey, given: Consent | None) -> str:
    consent = given or consent_on_record(store, subject)
    return "missing" if consent is None else objection(consent, "HRESCH", ("imaging", "simulation")) or "active"


def _shifted_date(work: _Work) -> date | None:
    """The visit's date as it is stored: that of its original images, moved into the past."""
    original = [header for header in work.headers if not is_derived(header)] or work.headers
    dates = sorted(filter(None, (date_of(header) for header in original)))
    moved = shifted(dates[0], work.vault.date_shift(work.subject)) if dates else ""
    return date.fromisoformat(f"{moved[:4]}-{moved[4:6]}-{moved[6:8]}") if len(moved) >= 8 else None


def _day_of_visit(work: _Work) -> tuple[int, list[Finding]]:
    """Days after the subject's first visit in the store."""
    with work.store.reading() as connection:
        rows = connection.execute(imaging_events().where(tables.event.c.subject == work.subject)).all()
    others = [row for row in rows if row.id != work.study]
    if work.stated_day is not None:
        return work.stated_day, [Finding("chosen", "visit", f"day {work.stated_day} stated by the user")]
    if not others:
        _refuse_other_day0(work)
        return 0, [Finding("found", "visit", "the subject's first visit in the store: day 0")]
    own = _shifted_date(work)
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


def _refuse_other_day0(work: _Work) -> None:
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


def _series_row(uid: str, files: Sequence[_Staged], imaging: ImagingStudy) -> dict[str, Any]:
    """One row of the table of series, from what is stored."""
    header = files[0].header
    read = next((series for series in imaging.series if series.uid == uid), None)
    known = {one.series for one in files} | {str(one.header.SOPInstanceUID) for one in files if one.header is not None}
    contents = "".join(sorted(one.sha256 for one in files))
    row: dict[str, Any] = {
        "uid": uid,
        "instances": len(files),
        "content_sha256": sha256(contents.encode()).hexdigest(),
        "uri": f"images/{Path(files[0].place).parent}" if header is not None else f"images/{files[0].place}",
        "modality": str(header.get("Modality", "")) if header is not None else "NIFTI",
        "description": str(header.get("SeriesDescription", "")) if header is not None else Path(files[0].place).name,
        "role": read.role if read is not None else _role_beside(imaging, known),
        "acquisition": _acquisition(header),
    }
    if read is not None:
        row |= {
            "shape": list(read.grid.shape),
            "spacing_mm": [round(float(step), 6) for step in read.grid.spacing],
            "times_s": None if read.times_s is None else [float(time) for time in read.times_s],
        }
    return row


def _role_beside(imaging: ImagingStudy, uids: set[str]) -> str:
    """What files are that are no series of images: labels, a map, or nothing that is used."""
    if any(labels.uid in uids or uids & set(labels.derived_from) for labels in imaging.labels):
        return "labels"
    return "map" if any(uids & set(one.derived_from) for one in imaging.maps) else "not used"


def _acquisition(header: FileDataset | None) -> dict[str, str]:
    if header is None:
        return {}
    found = {keyword: str(header.get(keyword, "")).strip("[]") for keyword in ACQUISITION}
    return {keyword: value for keyword, value in found.items() if value}


def _account(work: _Work, result: Ingested, staged: Sequence[_Staged]) -> dict[str, Any]:
    """study.json: what is needed to read the stored files again."""
    return {
        "schema": SCHEMA,
        "study": work.study,
        "subject": work.subject,
        "day": result.day,
        "statements": work.statements.for_json(),
        "series": list(result.series),
        "files": {f"images/{one.place}": one.sha256 for one in staged},
    }


def _report(report: Report, sources: Sequence[SourceFile], staged: Sequence[_Staged]) -> dict[str, Any]:
    """deidentification.json: by which rules, how often each attribute was changed, what was kept back; no value."""
    done: dict[str, dict[str, int]] = {}
    for (attribute, what), count in sorted(report.items()):
        done.setdefault(attribute, {})[what] = count
    header = next((one.header for one in staged if one.header is not None), None)
    codes = header.DeidentificationMethodCodeSequence if header is not None else ()
    return {
        "table": f"DICOM PS3.15 E.1-1, {edition()}",
        "options": {str(code.CodeValue): str(code.CodeMeaning) for code in codes},
        "attributes": done,
        "kept_back": dict(Counter(source.reason for source in sources if source.reason)),
    }


def _keep(
    work: _Work,
    staging: Path,
    staged: Sequence[_Staged],
    result: Ingested,
    consent: Consent | None,
    original: ImagingStudy,
) -> None:
    """Rename the staged folder into place and commit; if either fails, everything is as before."""
    final, replaced = work.store.study_folder(work.study), staging / "replaced"
    try:
        with work.store.writing() as connection:
            _enter_subject(work, connection, original)
            if consent is not None:
                add_consent(work.store, connection, work.subject, consent)
            if result.consent != "missing":
                add_decision(work.store, connection, work.subject, "ingest", "HRESCH", ("imaging",))
            _enter_visit(work, connection, staging / "study", staged, result)
            record_action(work.store, connection, "ingest", work.subject, {"study": work.study, "source": work.source})
            if final.exists():
                os.replace(final, replaced)
            os.replace(staging / "study", final)
    except BaseException:
        if not (staging / "study").exists():
            shutil.rmtree(final, ignore_errors=True)
        if replaced.exists():
            os.replace(replaced, final)
        raise


def _enter_subject(work: _Work, connection: Connection, original: ImagingStudy) -> None:
    attributes = dict(attributes_of_project(connection))
    if "key_fingerprint" not in attributes:
        attributes["key_fingerprint"] = work.vault.fingerprint
        connection.execute(
            update(tables.study).where(tables.study.c.id == PROJECT).values(attributes=canonical_json(attributes))
        )
    if connection.execute(select(tables.subject.c.key).where(tables.subject.c.key == work.subject)).first():
        return
    # A patient whose species is not stated is human (DICOM PS3.3, Patient Species Description is Type 1C).
    species = SPECIES.get(original.species.lower() or ("human" if work.headers else ""), SPECIES[""])
    connection.execute(
        insert(tables.subject).values(
            key=work.subject,
            site=work.site,
            species=code_id(connection, SNOMED, *species),
            sex=_sex(work.headers),
            age_day0_d=_age_d(work.headers),
            day0_kind="first-imaging",
        )
    )
    connection.execute(insert(tables.enrolment).values(subject=work.subject, study=PROJECT))


def _sex(headers: Sequence[FileDataset]) -> str:
    stated = {str(header.get("PatientSex") or "").strip() for header in headers} - {"", "O"}
    return SEX.get(stated.pop(), "unknown") if len(stated) == 1 else "unknown"


def _age_d(headers: Sequence[FileDataset]) -> int | None:
    """Age in days at the first visit, from Patient's Age; at most 90 years."""
    for header in headers:
        parts = re.fullmatch(r"(\d{3})([DWMY])", str(header.get("PatientAge") or "").strip())
        if parts and int(parts[1]):
            return min(round(int(parts[1]) * DAYS_IN[parts[2]]), OLDEST_AGE_D)
    return None


def _enter_visit(work: _Work, connection: Connection, home: Path, staged: Sequence[_Staged], result: Ingested) -> None:
    held = connection.execute(imaging_events().where(tables.event.c.id == work.study)).first()
    if held is not None and json.loads(held.attributes)["source"] == work.source:
        return  # the same ingest: only its files were lost
    connection.execute(delete(tables.image_series).where(tables.image_series.c.event == work.study))
    connection.execute(delete(tables.event).where(tables.event.c.id == work.study))
    moved = _shifted_date(work)
    attributes = {
        "source": work.source,
        "contents": _contents(work),
        "head": work.defaced or shows_a_head(work.headers),
        "defaced": work.defaced,
        "ingested_at": now(),
        "shifted_date": moved.isoformat() if moved else None,
    }
    connection.execute(
        insert(tables.event).values(
            id=work.study,
            subject=work.subject,
            kind="imaging",
            day=result.day,
            code=code_id(connection, SNOMED, "363679005", "Imaging"),
            attributes=canonical_json(attributes),
        )
    )
    report = content_hash(home / "deidentification.json")
    for row in result.series:
        header = next((one.header for one in staged if one.series == row["uid"]), None)
        connection.execute(
            insert(tables.image_series).values(
                uid=row["uid"],
                subject=work.subject,
                event=work.study,
                instances=row["instances"],
                study_uid=str(header.StudyInstanceUID) if header is not None else work.vault.mapped_uid(work.study),
                modality=code_id(connection, DCM, row["modality"], row["modality"]),
                laterality=str(header.get("Laterality") or "") or None if header is not None else None,
                frame_uid=str(header.get("FrameOfReferenceUID") or "") or None if header is not None else None,
                role=_stored_role(header),
                acquisition=canonical_json(row["acquisition"]),
                content_sha256=row["content_sha256"],
                deid_report_sha256=report,
                uri=f"studies/{work.study}/{row['uri']}",
            )
        )


def _stored_role(header: FileDataset | None) -> str:
    if header is None:
        return "derived"
    return ROLES.get(str(header.get("Modality", "")), "derived" if is_derived(header) else "original")
