"""Read any folder of DICOM and NIfTI files as the imaging study of one visit.

    files -> groups of one series -> sorted series, maps and label images -> links between them -> ImagingStudy

Everything found, chosen, inferred or doubted on the way becomes a Finding. What only the user can know (the unit of
a map, that files under several identifiers show one subject, which label is the tumour) is asked for all at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import (
    ConfigurationRejected,
    FileRejected,
    InputError,
    SegmentationRejected,
    StudyRejected,
    TimesRejected,
    UnitMissing,
)
from .dicom_files import read_bytes, read_dicom, reading, uid_name
from .dicom_series import (
    DicomFile,
    DicomGroup,
    Read,
    join_phases,
    join_series,
    read_group,
    read_parametric_map,
    read_segmentation,
    same_values,
)
from .geometry import overlap
from .guarded import now_at, read_guarded
from .nifti import is_nifti
from .nifti_series import read_nifti_file
from .radiotherapy import RADIOTHERAPY, read_doses_and_plans, read_structures, stacks_of
from .resample import resample_labels
from .segmentation import LABEL_MAP_SEGMENTATION, SEGMENTATION, STRUCTURE_SET, on_grid_of, region_name
from .study import Finding, Grid, ImagingStudy, LabelImage, ParametricMap, Series
from .supplied_maps import (
    SuppliedMap,
    doubts_in_tumour,
    inferred_unit,
    settle,
    unit_option,
    unit_problem,
    unknown_names,
)
from .visit_regions import tumour_grids, tumour_on
from .visits import IMAGES, chosen_visit, glance_of, refuse_several, visits_of

Progress = Callable[[str, float], None]
"""Told what is being done and the share that is done."""

_PARAMETRIC_MAP = "1.2.840.10008.5.1.4.1.1.30"
DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")
THE_STUDY = "the study"
"""What is worked on when all files have been read and are put together."""


# ------------------------------------------------------------------------------------------------------ the folder


def files_of(folder: Path) -> list[Path]:
    """The files of a folder and its subfolders, or the one file given, sorted by path. Raises StudyRejected."""
    if folder.is_file():
        return [folder]
    if not folder.is_dir():
        raise StudyRejected("there is no such folder or file", "a folder of DICOM or NIfTI files", "check the path")
    files = sorted(
        (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")),
        key=lambda path: path.relative_to(folder).as_posix(),
    )
    if not files:
        raise StudyRejected("the folder is empty", "a folder of DICOM or NIfTI files", "check the path")
    return files


@dataclass(frozen=True, eq=False)
class _Found:
    """The files of a folder, by what they are; those that are neither are counted."""

    dicom: tuple[DicomFile, ...]
    nifti: tuple[tuple[Path, str], ...]
    findings: tuple[Finding, ...]


def _find(folder: Path, told: Progress) -> _Found:
    """Open every file of the folder far enough to know what it is.

    Raises StudyRejected when none is an image, FileRejected for a damaged one.
    """
    paths = files_of(folder)
    dicom, nifti, others = [], [], 0
    for place, path in enumerate(paths):
        where = f"file {place + 1} of {len(paths)}"
        told("opening files", 0.5 * place / len(paths))
        now_at(where)
        if is_nifti(path):
            nifti.append((path, where))
            continue
        header = read_dicom(path, where, pixels=False)
        if header is None and path.suffix.lower() in DICOM_SUFFIXES:
            raise FileRejected(
                f"{where} is named like a DICOM file and is none: truncated, or of another format",
                "a complete DICOM file",
                "copy the file again, or take it out of the folder",
            )
        if header is None:
            others += 1
        else:
            dicom.append(DicomFile(path, where, header))
    now_at(THE_STUDY)
    if not dicom and not nifti:
        raise StudyRejected(
            f"none of the {len(paths)} files is DICOM or NIfTI",
            "DICOM or NIfTI images",
            "give the folder that holds the images",
        )
    findings = [Finding("found", "folder", f"{len(dicom)} DICOM and {len(nifti)} NIfTI files; {others} others ignored")]
    return _Found(tuple(dicom), tuple(nifti), tuple(findings))


def _of_one_visit(found: _Found, folder: Path, stated: _Stated) -> _Found:
    """The files of the visit that the user means. Raises StudyRejected if there are several and none is meant."""
    visits = visits_of([glance_of(file) for file in found.dicom], found.nifti, folder, same_subject=stated.same_subject)
    if stated.visit is None:
        refuse_several(visits, same_subject=stated.same_subject)
        return found
    place = chosen_visit(visits, stated.visit, same_subject=stated.same_subject)
    paths = set(visits[place].paths)
    finding = Finding("chosen", "folder", f"visit {place + 1} of {len(visits)}, as the user states")
    return _Found(
        tuple(file for file in found.dicom if file.path in paths),
        tuple(entry for entry in found.nifti if entry[0] in paths),
        (*found.findings, finding),
    )


def _without_duplicates(files: Sequence[DicomFile]) -> tuple[list[DicomFile], list[Finding]]:
    """The files, each instance once. Raises StudyRejected when one instance has two contents."""
    kept: dict[str, DicomFile] = {}
    dropped = 0
    for file in files:
        uid = file.text("SOPInstanceUID") or file.where
        if uid not in kept:
            kept[uid] = file
            continue
        first = kept[uid]
        if sha256(read_bytes(first.path, first.where)).digest() != sha256(read_bytes(file.path, file.where)).digest():
            raise StudyRejected(
                f"{first.where} and {file.where[5:]} carry the same SOP Instance UID and differ",
                "one content for each identity",
                "remove the file that is wrong",
            )
        dropped += 1
    findings = [Finding("found", "folder", f"{dropped} files are exact copies of others: used once")] if dropped else []
    return list(kept.values()), findings


def _shape(file: DicomFile) -> tuple[str, ...]:
    """Size and pixel spacing of a classic image, for comparison."""
    return tuple(file.text(keyword) for keyword in ("Rows", "Columns", "PixelSpacing"))


def _by_folder(files: Sequence[DicomFile]) -> list[list[DicomFile]]:
    """The files of one series, apart by folder where sizes differ between folders and agree within each."""
    folders: dict[Path, list[DicomFile]] = {}
    for file in files:
        folders.setdefault(file.path.parent, []).append(file)
    alike = all(len({_shape(file) for file in members}) == 1 for members in folders.values())
    return list(folders.values()) if alike and len({_shape(file) for file in files}) > 1 else [list(files)]


def _groups(files: Iterable[DicomFile]) -> tuple[list[DicomGroup], list[Finding]]:
    """Image files by series and patient, in the order of series number and UID."""
    members: dict[tuple[str, str], list[DicomFile]] = {}
    for file in files:
        members.setdefault((file.text("SeriesInstanceUID"), file.patient), []).append(file)

    def number(one: Sequence[DicomFile]) -> int:
        text = one[0].text("SeriesNumber")
        return int(text) if text.removeprefix("-").isdecimal() else 0

    parts = [(uid, part) for (uid, _), one in members.items() for part in _by_folder(one)]
    parts.sort(key=lambda entry: (number(entry[1]), entry[0], entry[1][0].path.as_posix()))
    names = [f"series {number(one)}" for _, one in parts]
    groups = [
        DicomGroup(name if names.count(name) == 1 else f"{name} ({names[: place + 1].count(name)})", tuple(one))
        for place, (name, (_, one)) in enumerate(zip(names, parts))
    ]
    shared = len(parts) - len({uid for uid, _ in parts})
    findings = (
        [
            Finding(
                "doubted",
                "folder",
                f"{shared} series share their identity (Series Instance UID) with another "
                "one of another patient identifier or size: told apart",
            )
        ]
        if shared
        else []
    )
    return groups, findings


def _sort_kinds(files: Sequence[DicomFile]) -> tuple[list[DicomFile], list[DicomFile], list[DicomFile], list[Finding]]:
    """(images, segmentations, parametric maps, what was left out)."""
    images, segmentations, maps, others = [], [], [], Counter[str]()
    for file in files:
        if file.sop_class in IMAGES and file.text("SamplesPerPixel") in ("", "1"):
            images.append(file)
        elif file.sop_class in (SEGMENTATION, LABEL_MAP_SEGMENTATION):
            segmentations.append(file)
        elif file.sop_class == _PARAMETRIC_MAP:
            maps.append(file)
        elif file.sop_class not in RADIOTHERAPY:
            others[uid_name(file.sop_class)] += 1
    left = [
        Finding("found", "folder", f"{count} objects of the kind {kind}: not used")
        for kind, count in sorted(others.items())
    ]
    return images, segmentations, maps, left


Attempt = Callable[..., Read]
"""Calls a reading function with a group or a file and what else it needs: (function, name, *arguments)."""


def _straight(function: Callable[..., Read], name: str, *arguments: Any) -> Read:
    now_at(name)
    with reading(name):
        return function(*arguments)


def _read_dicom_files(
    files: Sequence[DicomFile], times_s: Sequence[float] | None, told: Progress, attempt: Attempt = _straight
) -> tuple[list[Read], list[Finding]]:
    with reading("a file of the folder"):
        images, segmentations, maps, findings = _sort_kinds(files)
        groups, split = _groups(images)
    done, reads = 0, []
    for group in groups:
        told("reading images", 0.5 + 0.5 * done / len(files))
        reads.append(attempt(read_group, group.name, group, times_s))
        done += len(group.files)
    for place, file in enumerate(maps):
        told("reading maps", 0.5 + 0.5 * (done + place) / len(files))
        name = f"parametric map {place + 1}"
        reads.append(attempt(read_parametric_map, name, file, name))
    for place, file in enumerate(segmentations):
        name = f"segmentation {place + 1}"
        reads.append(attempt(read_segmentation, name, file, name))
    stacks = stacks_of((one for read in reads for one in read.series), (one for read in reads for one in read.maps))
    for place, file in enumerate(one for one in files if one.sop_class == STRUCTURE_SET):
        name = f"structure set {place + 1}"
        reads.append(attempt(read_structures, name, file, name, stacks))
    return reads, findings + split


def _merged(reads: Sequence[Read]) -> Read:
    return Read(
        tuple(one for read in reads for one in read.series),
        tuple(one for read in reads for one in read.maps),
        tuple(one for read in reads for one in read.labels),
        tuple(one for read in reads for one in read.findings),
        {uid: phase for read in reads for uid, phase in read.phases.items()},
    )


def _phases_joined(read: Read, times_s: Sequence[float] | None) -> Read:
    """The phases of one acquisition, delivered as a series each, as one dynamic series."""
    series, findings = join_phases(read.series, read.phases, times_s)
    return replace(read, series=tuple(series), findings=(*read.findings, *findings))


def _grids(read: Read) -> list[Grid]:
    """Grids of series, maps and labels, in that order."""
    return [one.grid for one in read.series] + [one.grid for one in read.maps] + [one.grid for one in read.labels]


# ----------------------------------------------------------------------------- links between DICOM, NIfTI, and labels


def _prefer_dicom(dicom: Read, nifti: Read) -> Read:
    """Both together; a NIfTI map or label image that repeats a DICOM one is dropped, its label names are kept."""
    findings = list(dicom.findings + nifti.findings)
    labels = list(dicom.labels)
    repeated: set[int] = set()
    for place, image in enumerate(labels):
        for number, copy in enumerate(nifti.labels):
            if (
                number not in repeated
                and copy.values.shape == image.values.shape
                and (copy.values == image.values).all()
            ):
                repeated.add(number)
                labels[place] = image = replace(
                    image, names=image.names or copy.names, derived_from=(*image.derived_from, copy.uid)
                )
                break
    if repeated:
        findings.append(
            Finding(
                "chosen",
                "folder",
                f"{len(repeated)} label images exist as DICOM and as NIfTI with "
                "equal voxels: the DICOM ones are used, with the names given beside the NIfTI ones",
            )
        )
    maps = [
        one
        for one in nifti.maps
        if not any(one.name == other.name and same_values(one.values, other.values) for other in dicom.maps)
    ]
    dropped = sorted({one.name for one in nifti.maps if all(one is not kept for kept in maps)})
    if dropped:
        findings.append(
            Finding("chosen", "folder", f"{', '.join(dropped)}: the NIfTI maps repeat the DICOM ones, which are used")
        )
    return Read(
        dicom.series + nifti.series,
        (*dicom.maps, *maps),
        (*labels, *(one for number, one in enumerate(nifti.labels) if number not in repeated)),
        tuple(findings),
    )


def _patients(files: Sequence[DicomFile]) -> Counter[str]:
    """Files under each patient identifier, files without one left out."""
    return Counter(file.patient for file in files if file.patient)


def _check_one_visit(files: Sequence[DicomFile], series: Sequence[Series]) -> None:
    """Refuse original images of several days: two visits are two studies."""
    studies = {one.study_uid for one in series if one.role in ("anatomy", "dynamic", "vfa", "diffusion")}
    days = {file.text("StudyDate") for file in files if file.text("StudyInstanceUID") in studies} - {""}
    if len(studies) > 1 and len(days) > 1:
        raise StudyRejected(
            f"the images belong to {len(studies)} studies of {len(days)} days",
            "one visit",
            "give the folder of one visit at a time",
        )


@dataclass(frozen=True)
class _Question:
    """Something that only the user can say: why, and the option that says it."""

    kind: type[InputError]
    reason: str
    option: str


def _unit_questions(maps: Sequence[SuppliedMap], units: Mapping[str, str]) -> list[_Question]:
    questions = []
    for supplied in maps:
        problem = unit_problem(supplied)
        if problem is not None and supplied.name not in units and not inferred_unit(supplied):
            questions.append(_Question(UnitMissing, problem, unit_option(supplied)))
    return questions


def _subject_questions(files: Sequence[DicomFile], read: Read, *, same_subject: bool) -> list[_Question]:
    patients = _patients(files)
    if len(patients) <= 1 or same_subject:
        return []
    counts = " + ".join(str(count) for _, count in patients.most_common())
    reason = f"the files carry {len(patients)} different patient identifiers ({counts} files)"
    unlinked = sum(not image.grid.frame_uid for image in read.labels)
    if unlinked:
        reason += f", and {unlinked} label images have no frame of reference that would tie them to the images"
    if _lost_places(read):
        reason += (
            ", and maps or labels begin at exactly (0, 0, 0), their place having been lost (if they belong "
            "together they are put where the anatomical series of the same extent lies)"
        )
    return [_Question(StudyRejected, reason, "--same-subject")]


def _label_questions(labels: Sequence[LabelImage]) -> list[_Question]:
    nameless = [image for image in labels if not image.names]
    if not nameless:
        return []
    values = sorted({int(value) for image in nameless for value in np.unique(image.values) if value})
    listed = ", ".join(map(str, values))
    return [
        _Question(
            SegmentationRejected,
            f"the values {listed} of {len(nameless)} label images have no names",
            f"--label NUMBER=tumour (NUMBER being one of {listed})",
        )
    ]


def _ask(questions: Sequence[_Question]) -> None:
    """Raise one error that lists every question and the options that answer them; of their class if all share one."""
    if not questions:
        return
    kinds = {question.kind for question in questions}
    kind = kinds.pop() if len(kinds) == 1 else InputError
    reasons = "; ".join(f"({number}) {question.reason}" for number, question in enumerate(questions, start=1))
    options = " ".join(dict.fromkeys(question.option for question in questions))
    raise kind(
        f"this study leaves {len(questions)} questions open: {reasons}",
        "known units, one subject, named regions",
        f"if you know it to be so, add: {options}",
    )


def _named(labels: Sequence[LabelImage], regions: Mapping[int, str] | None) -> tuple[list[LabelImage], list[Finding]]:
    """The label images with the names that the user states. Raises ConfigurationRejected for a number not there."""
    if not regions:
        found = [
            Finding(
                "found",
                "labels",
                "names of the label values read from the files: "
                + ", ".join(f"{value} {name}" for value, name in sorted(image.names.items())),
            )
            for image in labels
            if image.names
        ]
        return list(labels), list(dict.fromkeys(found))
    there = {int(value) for image in labels for value in np.unique(image.values) if value}
    absent = sorted(set(regions) - there)
    if absent:
        raise ConfigurationRejected(
            f"no label image has the value {absent[0]}",
            f"one of {', '.join(map(str, sorted(there))) or 'no values'}",
            "correct --label NUMBER=NAME",
        )
    named = [
        replace(
            image,
            names={
                **image.names,
                **{value: region_name(name) for value, name in regions.items() if (image.values == value).any()},
            },
        )
        for image in labels
    ]
    stated = ", ".join(f"{value} {region_name(name)}" for value, name in sorted(regions.items()))
    return named, [Finding("chosen", "labels", f"names stated by the user: {stated}")]


# ------------------------------------------------------------------------------------------------ places that agree


def has_lost_its_place(grid: Grid) -> bool:
    """True for a grid that begins at exactly (0, 0, 0) along the axes, as converters write when the place is lost."""
    return bool((grid.affine[:3, 3] == 0).all() and np.allclose(grid.affine[:3, :3], np.diag(grid.spacing), atol=1e-9))


def _same_extent(a: Grid, b: Grid) -> bool:
    extents = [grid.spacing * np.array(grid.shape) for grid in (a, b)]
    return bool(
        (np.abs(extents[0] - extents[1]) <= np.minimum(a.spacing, b.spacing)).all()
        and np.allclose(a.affine[:3, :3] / a.spacing, b.affine[:3, :3] / b.spacing, atol=1e-3)
    )


def _lost_places(read: Read) -> Grid | None:
    """The grid of the image series at whose place lie the maps and labels that lost theirs, None if none did."""
    lost = [grid for grid in _grids(replace(read, series=())) if has_lost_its_place(grid)]
    anchors = [one.grid for one in read.series if one.grid.frame_uid and not has_lost_its_place(one.grid)]
    return next((anchor for anchor in anchors if any(_same_extent(anchor, grid) for grid in lost)), None)


def _moved(grid: Grid, anchor: Grid) -> Grid:
    if not (has_lost_its_place(grid) and _same_extent(grid, anchor)):
        return grid
    affine = grid.affine.copy()
    affine[:3, 3] = anchor.affine[:3, 3]
    return Grid(grid.shape, affine, anchor.frame_uid)


def _put_back(read: Read) -> Read:
    """Move what lost its place to where the image series of the same extent and directions lies."""
    anchor = _lost_places(read)
    if anchor is None:
        return read
    series = tuple(replace(one, grid=_moved(one.grid, anchor)) for one in read.series)
    maps = tuple(replace(one, grid=_moved(one.grid, anchor)) for one in read.maps)
    labels = tuple(replace(one, grid=_moved(one.grid, anchor)) for one in read.labels)
    result = Read(series, maps, labels, read.findings)
    moved = sum(new is not old for new, old in zip(_grids(result), _grids(read)))
    x, y, z = anchor.affine[:3, 3]
    finding = Finding(
        "inferred",
        "geometry",
        f"{moved} images begin at exactly (0, 0, 0): their place was lost; moved "
        f"to ({x:g}, {y:g}, {z:g}) mm, where the anatomical series of the same extent and directions "
        "begins; motion between the scans is not corrected",
    )
    return replace(result, findings=(*read.findings, finding))


def _check_places(read: Read) -> list[Finding]:
    """Doubts about maps and labels in other frames of reference. Raises StudyRejected for labels beside all images."""
    images = _grids(replace(read, labels=()))
    for image in read.labels:
        if images and not any(overlap(image.grid, grid) for grid in images):
            raise StudyRejected(
                "a label image lies outside all images",
                "a segmentation of these images",
                "give the segmentation that belongs to the images",
            )
    frames = {grid.frame_uid for grid in _grids(read)} - {""}
    if len(frames) <= 1:
        return []
    return [Finding("doubted", "geometry", f"{len(frames)} frames of reference: positions are compared as they stand")]


# ------------------------------------------------------------------------------------------------------- the study


def _labels_on_images(read: Read) -> list[LabelImage]:
    grids = _grids(replace(read, labels=()))
    return [
        on_grid_of(
            image,
            [
                grid
                for grid in grids
                if not image.grid.frame_uid or not grid.frame_uid or grid.frame_uid == image.grid.frame_uid
            ],
        )
        for image in read.labels
    ]


def _tumour_first(labels: Sequence[LabelImage], read: Read) -> tuple[list[LabelImage], list[Finding]]:
    """Label images with the one whose tumour is used in front: that on the grid of Ktrans, or of the dynamic series."""
    with_tumour = [image for image in labels if "tumour" in image.names.values() and image.mask("tumour").any()]
    if len(with_tumour) < 2:
        return list(labels), []
    preferred = tumour_grids(read.maps, read.series)
    chosen = tumour_on(preferred, with_tumour)
    volumes = ", ".join(f"{1000 * image.volume('tumour'):.0f} mm³" for image in with_tumour)
    fits = any(chosen.grid.same_as(grid) for grid in preferred)
    why = "it is drawn on the grid of Ktrans or of the dynamic series" if fits else "it comes first"
    finding = Finding(
        "chosen",
        "labels",
        f"{len(with_tumour)} label images hold a tumour ({volumes}): that of "
        f"{1000 * chosen.volume('tumour'):.0f} mm³ is used, since {why}",
    )
    return [chosen, *(image for image in labels if image is not chosen)], [finding]


def _settled(maps: Sequence[SuppliedMap], units: Mapping[str, str]) -> tuple[list[ParametricMap], list[Finding]]:
    settled, findings = [], []
    for supplied in maps:
        parametric, more = settle(supplied, units.get(supplied.name))
        settled.append(parametric)
        findings += more
    names = Counter(one.name for one in settled if one.name != "other")
    findings += [
        Finding("doubted", "maps", f"{count} different {name} maps: the first is used")
        for name, count in names.items()
        if count > 1
    ]
    return settled, findings


def _most_common(files: Sequence[DicomFile], keyword: str) -> str:
    counts = Counter(file.text(keyword) for file in files)
    counts.pop("", None)
    return counts.most_common(1)[0][0] if counts else ""


def _study_uid(files: Sequence[DicomFile], read: Read) -> str:
    named = [one.study_uid for one in read.series if one.study_uid]
    if named:
        return Counter(named).most_common(1)[0][0]
    if files:
        return _most_common(files, "StudyInstanceUID")
    parts = sorted(
        [one.uid for one in read.series]
        + [uid for one in read.maps for uid in one.derived_from]
        + [one.uid for one in read.labels]
    )
    return "sha256:" + sha256("\n".join(parts).encode()).hexdigest()


def _check_tumour_values(maps: Sequence[ParametricMap], labels: Sequence[LabelImage]) -> list[Finding]:
    """What the maps lack inside the tumour. Raises StudyRejected when one lacks most of it."""
    if not labels or "tumour" not in labels[0].names.values():
        return []
    findings = []
    for parametric in maps:
        if parametric.name != "other":
            here = resample_labels(labels[0], parametric.grid).mask("tumour")
            findings += doubts_in_tumour(parametric, here)
    return findings


def _check_stated(
    units: Mapping[str, str], maps: Sequence[SuppliedMap], times_s: Sequence[float] | None, series: Sequence[Series]
) -> None:
    unknown = unknown_names(units, maps)
    if unknown:
        there = ", ".join(sorted({one.name for one in maps})) or "none"
        raise ConfigurationRejected(
            f"a unit is stated for {unknown[0]!r}, and no map is of it",
            f"maps there: {there}",
            "correct --unit NAME=UNIT",
        )
    if times_s is not None and not any(one.role == "dynamic" for one in series):
        raise TimesRejected(
            "times are stated and no series is dynamic", "a series of several time points", "leave out --times"
        )


@dataclass(frozen=True)
class _Stated:
    """What the user states; see read_study."""

    units: Mapping[str, str]
    same_subject: bool
    regions: Mapping[int, str] | None
    times_s: Sequence[float] | None
    visit: str | None = None


def _study(folder: Path, stated: _Stated, told: Progress) -> ImagingStudy:
    found = _of_one_visit(_find(folder, told), folder, stated)
    files, findings = _without_duplicates(found.dicom)
    reads, more = _read_dicom_files(files, stated.times_s, told)
    nifti = _merged([_straight(read_nifti_file, where, path, where, stated.times_s) for path, where in found.nifti])
    read = _prefer_dicom(_phases_joined(_merged(reads), stated.times_s), nifti)
    read = replace(read, findings=(*found.findings, *findings, *more, *read.findings))
    now_at(THE_STUDY)
    study = _assembled(read, files, stated)
    told("study read", 1.0)
    return study


def _assembled(read: Read, files: Sequence[DicomFile], stated: _Stated) -> ImagingStudy:
    """The study that the parts form. Raises the refusals of read_study."""
    read = _answered(read, files, stated)
    ordered, chosen = _tumour_first(_labels_on_images(read), read)
    maps, settled = _settled(read.maps, stated.units)
    settled += _check_tumour_values(maps, ordered)
    series, joined = _joined(read.series)
    doses, plans, planned = read_doses_and_plans(files, {one.grid.frame_uid for one in read.series} - {""})
    return ImagingStudy(
        uid=_study_uid(files, read),
        series=tuple(series),
        labels=tuple(ordered),
        maps=tuple(maps),
        body_part=_most_common(files, "BodyPartExamined"),
        species=_most_common(files, "PatientSpeciesDescription").lower(),
        findings=(*read.findings, *joined, *chosen, *settled, *planned),
        doses=doses,
        plans=plans,
    )


def _joined(series: Sequence[Series]) -> tuple[list[Series], list[Finding]]:
    """The series with single volumes that differ in flip angle or b-value alone joined into one each."""
    joined = join_series(join_series(series, "fa_deg"), "b")
    if len(joined) == len(series):
        return joined, []
    made = len(series) - len(joined)
    roles = ", ".join(sorted({one.role for one in joined} - {one.role for one in series}))
    return joined, [
        Finding(
            "chosen",
            "folder",
            f"{made} series joined to others that differ in flip angle or b-value alone{': ' + roles if roles else ''}",
        )
    ]


def _answered(read: Read, files: Sequence[DicomFile], stated: _Stated) -> Read:
    """What was read with named labels in agreeing places, after every open question has been answered."""
    if not read.series and not read.maps and not read.labels:
        raise StudyRejected(
            "the files hold no image that can be used",
            "MR or CT images, maps or segmentations",
            "give the folder that holds the images",
        )
    _check_stated(stated.units, read.maps, stated.times_s, read.series)
    _check_one_visit(files, read.series)
    labels, named = _named(read.labels, stated.regions)
    _ask(
        [
            *_unit_questions(read.maps, stated.units),
            *_subject_questions(files, read, same_subject=stated.same_subject),
            *_label_questions(labels),
        ]
    )
    patients = len(_patients(files))
    linked = (
        [Finding("doubted", "folder", f"{patients} different patient identifiers: one subject, as the user states")]
        if patients > 1
        else []
    )
    read = replace(read, labels=tuple(labels), findings=(*read.findings, *named, *linked))
    if stated.same_subject:
        read = _put_back(read)
    return replace(read, findings=(*read.findings, *_check_places(read)))


def _lower(units: Mapping[str, str] | None) -> dict[str, str]:
    return {name.lower(): unit for name, unit in (units or {}).items()}


def read_visit(
    files: Sequence[DicomFile],
    nifti: Sequence[Read],
    *,
    units: Mapping[str, str] | None = None,
    same_subject: bool = False,
    regions: Mapping[int, str] | None = None,
    times_s: Sequence[float] | None = None,
    attempt: Attempt = _straight,
) -> tuple[Read, ImagingStudy | InputError]:
    """What the files of one visit hold, and the study they form, or why they form none yet.

    attempt  reads one group of files, and may put an empty Read in place of what cannot be read

    Options as in read_study. Raises what ``attempt`` lets through.
    """
    stated = _Stated(_lower(units), same_subject, regions, times_s)
    unique, repeated = _without_duplicates(files)
    reads, findings = _read_dicom_files(unique, times_s, lambda what, done: None, attempt)
    read = _prefer_dicom(_phases_joined(_merged(reads), times_s), _merged(nifti))
    read = replace(read, findings=(*repeated, *findings, *read.findings))
    now_at(THE_STUDY)
    try:
        return read, _assembled(read, unique, stated)
    except InputError as error:
        return read, error


def read_study(
    folder: Path | str,
    *,
    units: Mapping[str, str] | None = None,
    same_subject: bool = False,
    regions: Mapping[int, str] | None = None,
    times_s: Sequence[float] | None = None,
    visit: str | None = None,
    progress: Progress | None = None,
) -> ImagingStudy:
    """Read a folder of DICOM and NIfTI files (any names, any subfolders) as the study of one visit.

    units         map name to unit (``{"ktrans": "1/min"}``); a stated unit wins over the file's
    same_subject  True if the user knows that files under several patient identifiers show one subject
    regions       label value to name (``{3: "tumour"}``), in place of the names found
    times_s       times in seconds of the frames of the dynamic series, in place of the clock's
    visit         which of the folder's visits: its number, its date, or the end of its Study Instance UID
    progress      told how far reading has come

    Series lie on ascending slices and in time order; maps are in the units of this package, NaN where invalid; of
    several label images with a tumour the one to use comes first. A NIfTI file that repeats a DICOM object is left
    out.

    Raises FileRejected for a damaged or unsupported file, StudyRejected for files that do not form one study of one
    subject, TimesRejected for frames that cannot be ordered in time, and, listing every reason at once, UnitMissing,
    StudyRejected, SegmentationRejected or InputError for what the user has to state. No message names a patient.
    """
    stated = _Stated(_lower(units), same_subject, regions, times_s, visit)
    return _study(Path(folder), stated, progress or (lambda what, done: None))


def read_study_guarded(folder: Path | str, *, progress: Progress | None = None, **stated: Any) -> ImagingStudy:
    """``read_study`` in a child process, under limits on its memory and on the time for each file (see guarded).

    What ends the child is a FileRejected that names the file that was being read.
    """
    read = partial(read_study, folder, **stated)
    return read_guarded(THE_STUDY, read, paths=[Path(folder)], progress=progress)
