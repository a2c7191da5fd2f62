"""Pathology: a folder with ``slides.csv`` and images of slides becomes samples, findings and images that name nobody.

``slides.csv`` has a row a slide: the image (if there is one), the subject, the sample, when and what was taken, how it
was stained and scanned, and the findings, which are the questions on tissue of a supplied form. Images enter the store
as series of modality SM under an event of kind sampling, written anew without label and macro image.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sqlalchemy import Connection, insert, select

from ..core.errors import FileRejected
from ..core.files import canonical_json, content_hash, write_json
from . import eforms, importing, tables
from .audit import record_action
from .core import Code, Holdings, Observation, Sample, Subject
from .eform_answers import Message, Row, parsed, rows_of, wrong_in
from .eform_core import observation_of, refusal
from .eforms import Field, Form, Section
from .importing import Imported
from .slide_images import Stripped, strip
from .standards import Gap, Read
from .store import Store, code_id, now
from .vault import Vault

NAME, VERSION = "pathology", "1"
SCHEMA = "oncoscale-slides-1"
SLIDE = Code("http://dicom.nema.org/resources/ontology/DCM", "SM", "Slide Microscopy")
"""DICOM PS3.16, CID 29."""
BESIDE = ("file", "subject", "sample", "form", "day0", "stain", "magnification", "mpp")
DAYS_0 = ("diagnosis", "first-imaging", "enrolment")
STAINS = ("HE", "Ki-67", "MYCN", "PHOX2B", "S-100", "CD56", "synaptophysin", "H3K27M", "H3K27me3", "GFAP", "other")
"""Stains that may be named. ASSUMED: the selection; a stain beyond it is ``other``."""
LIMITS: Mapping[str, tuple[float, float]] = {"magnification": (0.5, 100.0), "mpp": (0.05, 20.0)}
"""Of the objective's power, and of micrometres a pixel. ASSUMED: the range of light microscopes."""


@dataclass(frozen=True)
class Slide:
    """A row of slides.csv.

    subject, sample  as the sender calls them
    day0             what the days count from
    file             of the image, inside the folder; None without one
    scan             stain, magnification and micrometres a pixel, as DICOM keywords
    """

    row: int
    subject: str
    day0: str
    sample: Sample
    findings: tuple[Observation, ...]
    file: Path | None
    scan: Mapping[str, Any]


def read(path: Path | str) -> Read:
    """Subjects, samples and findings, without the images. Raises FileRejected with every wrong cell."""
    slides, gaps = slides_of(Path(path))
    named = {one.subject: one.day0 for one in slides}
    subjects = tuple(Subject(name, "site1", eforms.HUMAN, "unknown", None, day0) for name, day0 in named.items())
    samples = {one.sample.id: one.sample for one in slides}
    findings = {one.id: one for slide in slides for one in slide.findings}
    held = Holdings(subject=subjects, sample=tuple(samples.values()), observation=tuple(findings.values()))
    return Read(held, gaps)


def import_file(
    store: Store, path: Path | str, *, vault: Vault, site: str = "site1", dry_run: bool = False
) -> Imported:
    """Take samples, findings and images into the store.

    Images are stripped first, and nothing enters if one cannot be. Rows enter whole or not at all, then images do; a
    second import of the same folder enters nothing twice.

    Raises FileRejected, ConfigurationRejected (another vault's store), StoreRejected, StorageFault.
    """
    slides, _ = slides_of(Path(path))
    about: Mapping[str, Any] = {"standard_name": NAME, "version": VERSION, "vault": vault, "site": site}
    with TemporaryDirectory() if dry_run else store.staging() as place:
        staging = Path(place)
        made = {slide.row: _stripped(slide, staging) for slide in slides if slide.file is not None}
        done = importing.enter(store, read(path), **about, dry_run=dry_run)
        gaps = tuple(Gap(f"image: {what}", "names somebody or may: left out", n) for what, n in _left_out(made))
        if dry_run:
            return replace(done, gaps=(*done.gaps, *gaps))
        images = _keep(store, vault, site, slides, made)
    entered = {**done.entered, "image_series": images} if images else done.entered
    return replace(done, entered=entered, gaps=(*done.gaps, *gaps))


def slides_of(folder: Path) -> tuple[list[Slide], tuple[Gap, ...]]:
    """The rows of ``slides.csv``, checked; columns that nothing asks are gaps."""
    table = folder / "slides.csv" if folder.is_dir() else folder
    if not table.is_file():
        raise FileRejected(
            f"{folder.name!r} has no slides.csv", "a folder with slides.csv and the images it names", "see the guide"
        )
    rows = rows_of(table)
    messages: list[Message] = []
    slides = [slide for n, row in enumerate(rows, start=2) if (slide := _slide(row, n, table.parent, messages))]
    messages += _contradictions(slides)
    if messages or not slides:
        raise refusal(messages or [Message(1, "file", "no rows", "a row a slide")], table.name)
    questions = [field for form in map(eforms.form, eforms.names()) for field in _tissue(form).fields]
    asked = {name for field in questions for name in _columns(field)}
    unasked = [name for name in rows[0] if name not in asked | set(BESIDE)]
    gaps = [Gap(f"column {n}", "not a question on tissue", sum(bool(row[name]) for row in rows))
            for n, name in enumerate(rows[0], start=1) if name in unasked]  # fmt: skip
    return slides, tuple(gap for gap in gaps if gap.n)


def _columns(field: Field) -> tuple[str, ...]:
    return (field.id, *field.columns)


def _tissue(form: Form) -> Section:
    return next(section for section in form.sections if section.sample)


def _slide(row: Row, number: int, folder: Path, messages: list[Message]) -> Slide | None:
    """One row; None where something in it is wrong."""
    before = len(messages)
    name = row.get("form") or "neuroblastoma"
    if name not in eforms.names():
        messages.append(Message(number, "form", "no such form", f"one of {', '.join(eforms.names())}"))
        return None
    section = _tissue(eforms.form(name))
    values: dict[str, Any] = {}
    for field in section.fields:
        text = next((row[column] for column in _columns(field) if row.get(column)), "")
        if text and (wrong := wrong_in(field, text)):
            messages.append(Message(number, field.id, *wrong))
        elif text:
            values[field.id] = parsed(field, text)
    for column in ("subject", "sample"):
        if not row.get(column):
            messages.append(Message(number, column, "an empty cell", "what the site calls it"))
    messages += [Message(number, one, "no answer", "an answer: a slide needs it")
                 for one in ("tissue_type", "tissue_day") if one not in values]  # fmt: skip
    if (day0 := row.get("day0") or "diagnosis") not in DAYS_0:
        messages.append(Message(number, "day0", "none of the choices", f"one of {', '.join(DAYS_0)}"))
    scan = dict(_scan(row, number, messages))
    file = _image(row.get("file", ""), folder, number, messages)
    if len(messages) > before:
        return None
    subject, taken = row["subject"], values["tissue_day"]
    kind = section.field_at("sample.type")
    assert kind is not None
    chosen = kind.choice_of(values[kind.id])
    assert chosen is not None
    sample = Sample(f"{subject}/{row['sample']}", subject, chosen.code, taken_day=taken)
    findings = tuple(
        replace(
            observation_of(field, values[field.id], f"{sample.id}/{field.id}", subject), sample=sample.id, day=taken
        )
        for field in section.fields
        if field.core == "observation" and field.id in values
    )
    return Slide(number, subject, day0, sample, findings, file, scan)


def _scan(row: Row, number: int, messages: list[Message]) -> Iterator[tuple[str, Any]]:
    """How the slide was stained and scanned, as attributes of DICOM (PS3.3, C.8.12)."""
    if stain := row.get("stain", ""):
        if stain in STAINS:
            yield "Stain", stain
        else:
            messages.append(Message(number, "stain", "none of the stains", ", ".join(STAINS)))
    for column, keyword in (("magnification", "ObjectiveLensPower"), ("mpp", "PixelSpacing")):
        text, (least, most) = row.get(column, ""), LIMITS[column]
        try:
            value = float(text) if text else None
        except ValueError:
            value = float("nan")
        if value is not None and not least <= value <= most:
            messages.append(Message(number, column, "no number in the range", f"{least:g} to {most:g}"))
        elif value is not None:
            yield keyword, f"{value if column == 'magnification' else value / 1000.0:g}"


def _image(name: str, folder: Path, number: int, messages: list[Message]) -> Path | None:
    """The image that a row names; it lies in the folder and nowhere else."""
    if not name:
        return None
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()) or not path.is_file():
        messages.append(Message(number, "file", "no such file in the folder", "an image beside slides.csv"))
        return None
    return path


def _contradictions(slides: Sequence[Slide]) -> Iterator[Message]:
    """Two rows that say different things of one sample, or the same image twice."""
    samples: dict[str, Slide] = {}
    findings: dict[str, Observation] = {}
    files: set[Path] = set()
    for slide in slides:
        first = samples.setdefault(slide.sample.id, slide)
        if first.sample != slide.sample:
            yield Message(slide.row, "sample", f"another type or day than in row {first.row}", "one of each a sample")
        for one in slide.findings:
            if findings.setdefault(one.id, one) != one:
                yield Message(slide.row, one.quantity.code, "another finding than in an earlier row", "one a sample")
        if slide.file in files:
            yield Message(slide.row, "file", "the image of an earlier row", "each image once")
        files |= {slide.file} if slide.file else set()


def _stripped(slide: Slide, staging: Path) -> tuple[Path, Stripped]:
    assert slide.file is not None
    with open(slide.file, "rb") as handle:
        suffix = ".png" if handle.read(4) == b"\x89PNG" else ".tif"
    out = staging / f"slide-{slide.row}{suffix}"
    try:
        return out, strip(slide.file, out)
    except FileRejected as error:
        raise FileRejected(f"row {slide.row}: {error.found}", error.expected, error.remedy) from error


def _left_out(made: Mapping[int, tuple[Path, Stripped]]) -> list[tuple[str, int]]:
    total: dict[str, int] = {}
    for _, stripped in made.values():
        for what, n in stripped.removed.items():
            total[what] = total.get(what, 0) + n
    return sorted(total.items())


def _keep(
    store: Store, vault: Vault, site: str, slides: Sequence[Slide], made: Mapping[int, tuple[Path, Stripped]]
) -> int:
    """Images by sample: a folder each, renamed into place in the transaction of its rows. Returns how many are new."""
    by_sample: dict[str, list[Slide]] = {}
    for slide in slides:
        if slide.row in made:
            by_sample.setdefault(slide.sample.id, []).append(slide)
    kept = 0
    for own in by_sample.values():
        with store.writing() as connection:
            kept += _keep_sample(store, connection, vault, site, own, made)
    return kept


def _keep_sample(
    store: Store, connection: Connection, vault: Vault, site: str, slides: Sequence[Slide],
    made: Mapping[int, tuple[Path, Stripped]],
) -> int:  # fmt: skip
    sample = slides[0].sample
    subject = importing.pseudonym(vault, site, sample.subject)
    digests = {slide.row: content_hash(made[slide.row][0]) for slide in slides}
    event = vault.imaging_study_id([f"slide {one}" for one in sorted(digests.values())])
    folder = store.study_folder(event)
    known = connection.execute(select(tables.event.c.id).where(tables.event.c.id == event)).first()
    if known is not None and folder.is_dir():
        return 0
    home = made[slides[0].row][0].parent / event
    series = [_series(vault, slide, made[slide.row], digests[slide.row], home) for slide in slides]
    report = {"removed": {str(n): made[slide.row][1].removed for n, slide in enumerate(slides, start=1)}}
    write_json(home / "deidentification.json", report)
    write_json(home / "study.json", {"schema": SCHEMA, "study": event, "subject": subject, "series": series,
                                     "files": {one["uri"]: one["files_sha256"] for one in series}})  # fmt: skip
    if known is None:
        _enter_images(connection, vault, subject, sample, event, series, content_hash(home / "deidentification.json"))
        record_action(store, connection, "import", subject, {"slides": len(series), "study": event})
    if folder.exists():
        shutil.rmtree(folder)
    os.replace(home, folder)
    return len(series)


def _series(vault: Vault, slide: Slide, image: tuple[Path, Stripped], digest: str, home: Path) -> dict[str, Any]:
    """One image as the account of its folder tells it, moved to its place there."""
    path, stripped = image
    place = f"images/{digest[:16]}{path.suffix}"
    (home / place).parent.mkdir(parents=True, exist_ok=True)
    os.replace(path, home / place)
    width, height = stripped.size
    size = {"TotalPixelMatrixColumns": str(width), "TotalPixelMatrixRows": str(height)}
    return {
        "uid": vault.mapped_uid(f"slide {digest}"),
        "uri": place,
        "modality": SLIDE.code,
        "instances": 1,
        "files_sha256": digest,
        "content_sha256": sha256(digest.encode()).hexdigest(),
        "acquisition": {**slide.scan, **size, "levels": str(stripped.levels)},
    }


def _enter_images(
    connection: Connection, vault: Vault, subject: str, sample: Sample, event: str, series: Sequence[Mapping[str, Any]],
    report: str,
) -> None:  # fmt: skip
    code = code_id(connection, SLIDE.system, SLIDE.code, SLIDE.display)
    attributes = {"sample": importing.identifier(vault, "S", "sample", sample), "ingested_at": now()}
    row = {"kind": "sampling", "day": sample.taken_day, "code": code, "attributes": canonical_json(attributes)}
    connection.execute(insert(tables.event).values(id=event, subject=subject, **row))
    for one in series:
        connection.execute(
            insert(tables.image_series).values(
                uid=one["uid"],
                study_uid=vault.mapped_uid(event),
                subject=subject,
                event=event,
                modality=code,
                role="original",
                acquisition=canonical_json(one["acquisition"]),
                instances=1,
                content_sha256=one["content_sha256"],
                deid_report_sha256=report,
                uri=f"studies/{event}/{one['uri']}",
            )
        )
