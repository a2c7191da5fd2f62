"""What is de-identified: files as the store will hold them, and the proof that nothing else of them changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from pydicom.dataset import FileDataset

from ..core.errors import StudyRejected
from ..imaging.dicom_files import read_bytes, read_dicom
from ..imaging.nifti_series import read_nifti_file, stem
from ..imaging.study import ImagingStudy, LabelImage, ParametricMap, Series
from .deface import deface as remove_face
from .deidentify import Pseudonyms, Report, deidentified, encoded
from .deidentify_nifti import neutral_nifti
from .ingest_work import Work
from .sources import SourceFile
from .visit import Progress

Item = TypeVar("Item")


@dataclass(frozen=True)
class Staged:
    """One file in the staging folder: its place, its hash, its series (mapped) and its de-identified header."""

    place: str
    sha256: str
    series: str
    header: FileDataset | None


def deidentify_all(work: Work, home: Path, progress: Progress | None) -> tuple[list[Staged], Report]:
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
        write(home / "images" / place, data)
        if (b_values := source.path.with_name(f"{stem(source.path)}.bval")).is_file() and source.kind == "nifti":
            write((home / "images" / place).with_name(f"{stem(Path(place))}.bval"), _numbers(b_values))
        digest = sha256(data).hexdigest()
        series = str(header.SeriesInstanceUID) if header is not None else f"sha256:{digest}"
        staged.append(Staged(place, digest, series, header))
        if progress is not None:
            progress("de-identify", done / len(work.files))
    return staged, report


def _numbers(path: Path) -> bytes:
    """The numbers of a text file, and nothing else of it."""
    return " ".join(repr(float(word)) for word in path.read_text(encoding="ascii").split()).encode()


def _deidentify(
    source: SourceFile, work: Work, pseudonyms: Pseudonyms, report: Report
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


def write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "xb") as handle:
        handle.write(data)


def refuse_changed(original: ImagingStudy, stored: ImagingStudy) -> None:
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
