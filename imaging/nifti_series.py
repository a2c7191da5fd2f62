"""NIfTI files of a study: what each one is follows from its name, since the format carries neither tag nor unit."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..core.errors import FileRejected, StudyRejected, TimesRejected
from .dicom_files import reading
from .dicom_series import Read
from .nifti import NiftiImage, open_nifti, whole_labels
from .segmentation import looks_like_labels, region_name
from .study import Finding, LabelImage, Role, Series, Sourced
from .supplied_maps import SuppliedMap, recognise, words_of
from .timing import check_times

_LABEL_WORDS = r"\b(masks?|seg|segmentation|labels?|rois?)\b"
_FLIP_ANGLE = r"\b(?:vfa|fa|flip(?: ?angle)?)\b.*?\b(\d+(?:p\d+)?) ?deg\b|\b(?:fa|flip ?angle) ?(\d+)\b"
_ANATOMY = r"\b(t1|t2|t1w|t2w|pd|flair|anat|anatomy)\b"
_TELLING_WORDS = re.compile(
    r"(vfa|afi|masks?|seg|segmentation|labels?|rois?|dce|dwi|adc|k|trans|ktrans|ve|vp|kep|b0|b1"
    r"|t1w?|t2w?|pd|flair|maps?|fa|flip|angle|tr\d?|te\d?|\d+(p\d+)?deg)"
)
"""Words of a file name that may be repeated: a name may also hold a person's identity."""
_LARGEST_TABLE = 1 << 20


def stem(path: Path) -> str:
    """File name without ``.nii`` or ``.nii.gz``."""
    return re.sub(r"\.nii(\.gz)?$", "", path.name, flags=re.IGNORECASE)


def description_of(path: Path) -> str:
    """The words of a file name that tell what it shows, without those that may tell whom."""
    return " ".join(word for word in words_of(stem(path)).split() if _TELLING_WORDS.fullmatch(word))


def label_table(folder: Path) -> dict[int, str]:
    """Names from a ``labels.csv`` beside label images (a column of numbers and one of names); {} if there is none.

    Raises FileRejected for a table that cannot be understood.
    """
    path = folder / "labels.csv"
    if not path.is_file():
        return {}
    with reading("labels.csv", "write it with the columns label,structure"):
        if path.stat().st_size > _LARGEST_TABLE:
            raise FileRejected("labels.csv is larger than 1 MiB", "a short table", "check the file")
        with open(path, newline="", encoding="utf-8-sig") as handle:
            rows = list(csv.DictReader(handle))
        columns = {str(key).strip().lower(): key for key in (rows[0] if rows else {})}
        number = next((columns[key] for key in ("label", "value", "number", "index") if key in columns), None)
        name = next((columns[key] for key in ("structure", "name", "region") if key in columns), None)
        if number is None or name is None:
            raise FileRejected(
                "labels.csv has no column of label numbers or none of names",
                "the columns label and structure",
                "add a header line: label,structure",
            )
        return {int(row[number]): region_name(row[name]) for row in rows}


def flip_angle(name: str) -> float | None:
    """Flip angle in degrees that a file name tells (``VFA_12deg``), None if it tells none."""
    match = re.search(_FLIP_ANGLE, words_of(name))
    return float((match[1] or match[2]).replace("p", ".")) if match else None


def _b_values(path: Path, frames: int) -> NDArray[np.float64] | None:
    """s/mm² from the ``.bval`` file beside a series, None if there is none."""
    table = path.with_name(stem(path) + ".bval")
    if not table.is_file():
        return None
    with reading("the .bval file of a NIfTI series", "write one b-value a volume"):
        values = np.array(table.read_text(encoding="ascii").split(), dtype=float)
        if values.shape != (frames,):
            raise FileRejected(
                f"{values.size} b-values for {frames} volumes", "one b-value a volume", "correct the .bval file"
            )
    return values


def _named_map(name: str) -> str:
    """The quantity that a file name tells; ``T1`` alone names an image, only ``T1 map`` a map of T1."""
    quantity = recognise([name])
    return "other" if quantity in ("t1", "b1") and "map" not in words_of(name) else quantity


def read_nifti_file(path: Path, where: str, stated_times_s: Sequence[float] | None) -> Read:
    """One NIfTI file as a label image, a supplied map without a unit, or a series.

    Raises FileRejected, StudyRejected, TimesRejected.
    """
    image = open_nifti(path, where)
    findings = () if image.placed else (Finding("doubted", where, "the header does not say where the grid lies"),)
    words = words_of(stem(path))
    hinted = re.search(_LABEL_WORDS, words) is not None or image.values.dtype.kind in "iu"
    if image.names or (hinted and image.values.ndim == 3 and looks_like_labels(image.values)):
        names = image.names or label_table(path.parent)
        labels = LabelImage(
            image.grid, whole_labels(image.values, where), names, image.digest, description=description_of(path)
        )
        return Read(labels=(labels,), findings=findings)
    quantity = _named_map(stem(path))
    if quantity != "other" and image.values.ndim == 3:
        supplied = SuppliedMap(
            quantity,
            image.grid,
            np.asarray(image.values, dtype=np.float64),
            "",
            where,
            "supplied as NIfTI",
            (image.digest,),
            description_of(path),
        )
        return Read(maps=(supplied,), findings=findings)
    series, more = _series(path, where, image, stated_times_s)
    return Read(series=(series,), findings=(*findings, *more))


def _series(
    path: Path, where: str, image: NiftiImage, stated_times_s: Sequence[float] | None
) -> tuple[Series, tuple[Finding, ...]]:
    name, values = stem(path), np.asarray(image.values, dtype=np.float32)
    if not np.isfinite(values).any():
        raise StudyRejected(f"{where} holds no finite value", "an image", "write the file again")
    role: Role = "anatomy" if re.search(_ANATOMY, words_of(name)) else "other"
    times, b_values = None, None
    acquisition: dict[str, Sourced] = {}
    findings: list[Finding] = []
    angle = flip_angle(name)
    if values.ndim == 4:
        b_values = _b_values(path, len(values))
        role = "dynamic" if b_values is None else "diffusion"
        if b_values is None:
            times, findings = _times(where, image, stated_times_s)
    elif angle is not None:
        role, acquisition = "anatomy", {"fa_deg": Sourced(angle, "inferred")}
        findings.append(Finding("inferred", where, f"flip angle {angle:g} degrees, from the file name"))
    series = Series(
        uid=image.digest,
        role=role,
        description=description_of(path),
        modality="",
        grid=image.grid,
        values=values,
        times_s=times,
        b_values=b_values,
        acquisition=acquisition,
    )
    return series, tuple(findings)


def _times(
    where: str, image: NiftiImage, stated_times_s: Sequence[float] | None
) -> tuple[NDArray[np.float64], list[Finding]]:
    frames = len(image.values)
    if stated_times_s is not None:
        return (
            check_times(stated_times_s, frames, where),
            [Finding("chosen", where, f"{frames} times stated by the user")],
        )
    if image.times_s is None:
        raise TimesRejected(
            f"{where} holds {frames} volumes and no time step",
            "a time for every volume",
            "state the times in seconds with --times",
        )
    return image.times_s, [Finding("found", where, f"{frames} volumes every {image.times_s[1]:g} s")]
