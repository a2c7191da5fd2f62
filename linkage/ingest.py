"""Ingest: a folder of images becomes one de-identified visit of one subject in the store.

The folder is read first, as every later stage reads it, and refused before anything is written. Its files are
de-identified into a staging folder and read again; unless every series, label image and map is the same to the
last bit, nothing enters. Then the folder is renamed into place and the database commits.

What is read is in ``ingest_work``, what is de-identified in ``ingest_staged``, what is reported in ``ingest_told``,
what is written in ``ingest_kept``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import func, select

from ..core.errors import ConfigurationRejected, StoreRejected
from ..imaging.dicom_read import read_study
from ..imaging.study import Finding, ImagingStudy
from . import tables
from .consent import Consent, add_consent, consent_on_record, decide, denied, objection
from .deface import without_faces
from .ingest_kept import account_of, as_json, flush, keep
from .ingest_staged import deidentify_all, refuse_changed, write
from .ingest_told import Ingested, consent_state, report_of, result_of
from .ingest_work import Work, contents_of, digest_of, faces_as_stored, faces_to_remove, identities
from .replacing import is_interrupted, put_right
from .sources import SourceFile, of_visit, refuse_several_visits, source_files
from .store import Store, attributes_of_project
from .subject import SubjectKey
from .vault import Vault
from .visit import Progress, Statements, Visit, find_visit, imaging_events, load_study, studies, visits

__all__ = ["Ingested", "Statements", "Visit", "find_visit", "ingest", "load_study", "studies", "visits"]


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
    original = read(folder, **statements.options(), visit=visit, progress=part_of(progress, 0.0, 0.4))
    sources = _sources_of(folder, visit, same_subject=same_subject)
    taken = [source for source in sources if not source.reason]
    refuse_several_visits(taken, same_subject=same_subject)
    vault = vault or Vault.open(store=store.path)
    work = Work(
        store=store,
        vault=vault,
        subject=vault.subject_key(site, subject_local_id),
        site=site,
        statements=statements,
        files=taken,
        source=digest_of(vault, taken, statements, ["deface"] * deface + ["device-identity"] * device_identity),
        study=vault.imaging_study_id(identities(taken)),
        stated_day=day,
        faces=faces_to_remove(original, taken) if deface else None,
        device_identity=device_identity,
    )
    _require_key_of_store(store, vault)
    if is_interrupted(store) and not dry_run:
        with store.writing() as connection:
            put_right(store, connection)
    _require_consent(store, work.subject, consent, dry_run=dry_run)
    held = _held(store, work)
    if held is not None:
        return _again(store, work, held, consent, dry_run=dry_run)
    return _enter(
        work, sources, original, consent, subject_local_id, dry_run=dry_run, progress=part_of(progress, 0.4, 1.0)
    )


def _sources_of(folder: Path, visit: str | None, *, same_subject: bool) -> list[SourceFile]:
    """The files of the folder, of one visit where it is named."""
    sources = source_files(folder)
    return sources if visit is None else of_visit(sources, folder, visit, same_subject=same_subject)


def _enter(
    work: Work,
    sources: Sequence[SourceFile],
    original: ImagingStudy,
    consent: Consent | None,
    subject_local_id: str,
    *,
    dry_run: bool,
    progress: Progress | None,
) -> Ingested:
    """De-identify into a staging folder, read that again, and keep it if it shows what the folder showed."""
    with work.store.staging() as staging:
        home = staging / "study"
        staged, report = deidentify_all(work, home, part_of(progress, 0.0, 2 / 3))
        stated = Statements.from_json(work.statements.for_json())
        imaging = read_study(home / "images", **stated.options(), progress=part_of(progress, 2 / 3, 1.0))
        refuse_changed(without_faces(original, work.faces or {}), without_faces(imaging, faces_as_stored(work)))
        result = result_of(work, sources, staged, imaging, consent)
        write(home / "study.json", as_json(account_of(work, result, staged)))
        write(home / "deidentification.json", as_json(report_of(report, sources, staged)))
        flush(home)
        if not dry_run:
            work.vault.remember(work.subject, work.site, subject_local_id.strip())
            keep(work, staging, staged, result, consent, original)
    return result


def part_of(progress: Progress | None, start: float, stop: float) -> Progress | None:
    """The share of a progress bar that one step has."""
    if progress is None:
        return None
    return lambda what, done: progress(what, start + (stop - start) * done)


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


def _held(store: Store, work: Work) -> Mapping[str, Any] | None:
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
    if missing := set(attributes["contents"]) - set(contents_of(work)):
        raise StoreRejected(
            f"the store holds study {work.study} with {len(missing)} files that are not in this folder",
            "all files of the visit in one folder",
            "ingest a folder that holds all of them",
        )
    return None


def _again(store: Store, work: Work, held: Mapping[str, Any], consent: Consent | None, *, dry_run: bool) -> Ingested:
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
        consent_state(store, subject, consent),
        tuple(account["series"]),
        (note, *imaging.findings),
        imaging,
    )
