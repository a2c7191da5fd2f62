"""What is written by an ingest: the files of the visit, and in the same transaction its rows and its audit entry."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pydicom.dataset import FileDataset
from sqlalchemy import Connection, delete, insert, select, update

from ..core.errors import StoreRejected
from ..core.files import canonical_json, content_hash
from ..imaging.study import ImagingStudy
from . import tables
from .audit import record_action
from .consent import Consent, add_consent, add_decision
from .deface import shows_a_head
from .ingest_staged import Staged
from .ingest_told import Ingested
from .ingest_work import Work, contents_of, shifted_date
from .replacing import folder_of_before
from .sources import is_derived
from .store import PROJECT, attributes_of_project, code_id, now
from .visit import imaging_events

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


def account_of(work: Work, result: Ingested, staged: Sequence[Staged]) -> dict[str, Any]:
    """study.json: what is needed to read the stored files again."""
    return {
        "schema": SCHEMA,
        "study": work.study,
        "source": work.source,
        "subject": work.subject,
        "day": result.day,
        "statements": work.statements.for_json(),
        "series": list(result.series),
        "files": {f"images/{one.place}": one.sha256 for one in staged},
    }


def flush(folder: Path) -> None:
    """Everything below a folder reaches the disk, several files at a time (each would wait for the disk alone)."""

    def flush(path: Path) -> None:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    with ThreadPoolExecutor(max_workers=16) as pool:
        list(pool.map(flush, [folder, *folder.rglob("*")]))


def as_json(value: Any) -> bytes:
    return (json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def keep(
    work: Work,
    staging: Path,
    staged: Sequence[Staged],
    result: Ingested,
    consent: Consent | None,
    original: ImagingStudy,
) -> None:
    """Rename the staged folder into place and commit; if either fails, all is as before (killed: see replacing.py)."""
    final, before = work.store.study_folder(work.study), folder_of_before(work.store, work.study)
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
                os.replace(final, before)
            os.replace(staging / "study", final)
    except BaseException:
        if not (staging / "study").exists():
            shutil.rmtree(final, ignore_errors=True)
        if before.exists():
            os.replace(before, final)
        raise
    shutil.rmtree(before, ignore_errors=True)


def _enter_subject(work: Work, connection: Connection, original: ImagingStudy) -> None:
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


def _enter_visit(work: Work, connection: Connection, home: Path, staged: Sequence[Staged], result: Ingested) -> None:
    held = connection.execute(imaging_events().where(tables.event.c.id == work.study)).first()
    if held is not None and json.loads(held.attributes)["source"] == work.source:
        return  # the same ingest: only its files were lost
    _refuse_series_of_others(work, connection, [row["uid"] for row in result.series])
    connection.execute(delete(tables.image_series).where(tables.image_series.c.event == work.study))
    connection.execute(delete(tables.event).where(tables.event.c.id == work.study))
    moved = shifted_date(work)
    attributes = {
        "source": work.source,
        "contents": contents_of(work),
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


def _refuse_series_of_others(work: Work, connection: Connection, uids: Sequence[str]) -> None:
    """Raise StoreRejected where another visit, of whatever subject, holds some of these series."""
    series = tables.image_series.c
    elsewhere = connection.execute(select(series.subject).where(series.uid.in_(uids), series.event != work.study)).all()
    if elsewhere:
        whose = "this subject" if {row.subject for row in elsewhere} == {work.subject} else "another subject"
        raise StoreRejected(
            f"the store holds {len(elsewhere)} of these {len(uids)} series in another visit, of {whose}",
            "files that belong to one visit of one subject",
            "take the files that are there already out of the folder, or check --subject",
        )


def _stored_role(header: FileDataset | None) -> str:
    if header is None:
        return "derived"
    return ROLES.get(str(header.get("Modality", "")), "derived" if is_derived(header) else "original")
