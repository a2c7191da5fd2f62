"""What is reported of an ingest: its series, what was found and doubted, and what de-identification did."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from pydicom.dataset import FileDataset

from ..imaging.study import Finding, ImagingStudy
from .consent import Consent, consent_on_record, objection
from .deface import shows_a_head
from .deidentify import Report, edition
from .ingest_staged import Staged
from .ingest_work import Work, day_of_visit
from .sources import SourceFile
from .store import Store
from .subject import SubjectKey

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
    consent          active, or why maps and forecasts will be refused ("missing")
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


def result_of(
    work: Work,
    sources: Sequence[SourceFile],
    staged: Sequence[Staged],
    imaging: ImagingStudy,
    consent: Consent | None,
) -> Ingested:
    day, findings = day_of_visit(work)
    findings += _kept_back(sources) + _links(work)
    state = consent_state(work.store, work.subject, consent)
    if state != "active":
        findings.append(
            Finding(
                "doubted",
                "consent",
                f"{state}: the images are stored, but maps and forecasts of this subject "
                "will be refused until a consent is recorded (oncoscale consent record)",
            )
        )
    findings += _about_faces(work)
    rows = tuple(
        series_row(uid, [one for one in staged if one.series == uid], imaging)
        for uid in dict.fromkeys(one.series for one in staged)
    )
    return Ingested(
        work.subject, work.study, day, True, state, rows, (*findings, *imaging.findings), replace(imaging, day=day)
    )


def _about_faces(work: Work) -> list[Finding]:
    if work.defaced:
        return [Finding("chosen", "images", "faces were taken out of the images; ears and the back of the head stay")]
    if shows_a_head(work.headers):
        return [Finding("doubted", "images", "images of a head, not defaced: a face may be recognised in them")]
    return [Finding("found", "images", "no images of a head: no face to take out")] if work.faces is not None else []


def _kept_back(sources: Sequence[SourceFile]) -> list[Finding]:
    reasons = Counter(source.reason for source in sources if source.reason)
    return [Finding("chosen", "files", f"{count} file(s) not stored: {reason}") for reason, count in reasons.items()]


def _links(work: Work) -> list[Finding]:
    identifiers = {str(header.get("PatientID") or "") for header in work.headers} - {""}
    if len(identifiers) < 2:
        return []
    return [
        Finding(
            "chosen", "files", f"{len(identifiers)} patient identifiers in the files: one subject, as the user states"
        )
    ]


def consent_state(store: Store, subject: SubjectKey, given: Consent | None) -> str:
    consent = given or consent_on_record(store, subject)
    return "missing" if consent is None else objection(consent, "HRESCH", ("imaging", "simulation")) or "active"


def series_row(uid: str, files: Sequence[Staged], imaging: ImagingStudy) -> dict[str, Any]:
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


def report_of(report: Report, sources: Sequence[SourceFile], staged: Sequence[Staged]) -> dict[str, Any]:
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
