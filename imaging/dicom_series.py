"""One series of DICOM images becomes one or more sorted series, a map, or a label image.

What a series is for follows from what varies in it: b-values, flip angles, or time; a single volume is anatomy,
or, if it is derived, perhaps a map. Label images stored as MR images are known by their few small whole numbers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import FileDataset

from ..core.errors import FileRejected, StudyRejected, TimesRejected
from ..core.quantity import Parameter
from .dicom_files import missing_pixel_facts, read_dicom, reading, stored_pixels
from .geometry import check_alike, stack
from .guarded import now_at
from .planes import CLOCKS, FrameView, Plane, frame_views, number, planes_of
from .segmentation import label_images, looks_like_labels, read_segments
from .study import HARMONISED, Finding, LabelImage, Role, Series, Sourced
from .supplied_maps import SuppliedMap, recognise, words_of
from .timing import order_in_time

_LABEL_WORDS = {"seg", "segmentation", "mask", "masks", "label", "labels", "roi", "rois", "contour"}
_LOCALIZER_WORDS = {"localizer", "localiser", "scout", "survey", "loc", "plan"}
_ECHO = {"GRADIENT": "GR", "SPIN": "SE"}
"""Echo Pulse Sequence of enhanced objects in the words of Scanning Sequence."""
_GAUSS_FROM = 100.0
"""A field strength above this is in gauss: no scanner reaches 100 T, none is below 0.01 T."""


@dataclass(frozen=True, eq=False)
class DicomFile:
    """One DICOM file of the folder, without its pixels.

    where   "file 17 of 240"
    header  the data set without pixel data
    """

    path: Path
    where: str
    header: FileDataset

    def value(self, keyword: str) -> Any:
        """An attribute of the file, None if absent. Raises FileRejected for one that cannot be decoded."""
        with reading(self.where):
            return self.header.get(keyword)

    def text(self, keyword: str) -> str:
        """An attribute as text, "" if absent."""
        value = self.value(keyword)
        with reading(self.where):  # a sequence where a text belongs is decoded only now
            return "" if value is None else str(value).strip()

    def words(self, keyword: str) -> tuple[str, ...]:
        """A multi-valued attribute as words, () if absent."""
        value = self.value(keyword) or ()
        with reading(self.where):
            return (value,) if isinstance(value, str) else tuple(str(word) for word in value)

    @property
    def patient(self) -> str:
        """The patient's identifier, for comparison only; "" if the file has none."""
        return self.text("PatientID")

    @property
    def sop_class(self) -> str:
        """SOP class UID."""
        return self.text("SOPClassUID")

    def whole(self) -> FileDataset:
        """The data set with its pixels. Raises FileRejected."""
        now_at(self.where)
        dataset = read_dicom(self.path, self.where, pixels=True)
        if dataset is None:
            raise FileRejected(f"{self.where} changed while it was read", "files at rest", "run again")
        return dataset

    def image(self) -> Image:
        """Planes and pixels of an image. Raises FileRejected."""
        dataset = self.whole()
        complete = not missing_pixel_facts(dataset)
        planes = planes_of(dataset, 0, self.where)
        return Image(tuple(planes), stored_pixels(dataset, self.where), complete)


@dataclass(frozen=True, eq=False)
class Image:
    """One image object, decoded.

    planes    what each plane says of itself, its number of the file 0
    pixels    (frames, rows, columns) as stored
    complete  False if it does not say how its pixels are stored
    """

    planes: tuple[Plane, ...]
    pixels: NDArray[Any]
    complete: bool


@dataclass(frozen=True, eq=False)
class DicomGroup:
    """The image files of one series of one patient.

    name   "series 4"
    files  in the order of their paths
    """

    name: str
    files: tuple[DicomFile, ...]

    @property
    def description(self) -> str:
        """Series Description, or else Protocol Name."""
        return self.common("SeriesDescription") or self.common("ProtocolName")

    def common(self, keyword: str) -> str:
        """An attribute of the first file, standing for the series, as text; "" if absent."""
        return self.files[0].text(keyword)


@dataclass(frozen=True, eq=False)
class Phase:
    """What orders a single volume among others of one acquisition: its kind of image and its clocks (s)."""

    part: tuple[str, ...]
    clocks: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class Read:
    """What was read from one group of files.

    phases  of the series that are single volumes, by the identity of their first instance
    """

    series: tuple[Series, ...] = ()
    maps: tuple[SuppliedMap, ...] = ()
    labels: tuple[LabelImage, ...] = ()
    findings: tuple[Finding, ...] = ()
    phases: Mapping[str, Phase] = field(default_factory=dict)


def _check_one_place(group: DicomGroup) -> None:
    """Refuse a series whose files name several studies or frames of reference."""
    for keyword, what in (("StudyInstanceUID", "studies"), ("FrameOfReferenceUID", "frames of reference")):
        counts = Counter(file.text(keyword) for file in group.files)
        if len(counts) > 1:
            raise StudyRejected(
                f"{group.name} mixes {what}: {len(group.files) - counts.most_common(1)[0][1]} of its "
                f"{len(group.files)} images name another one",
                f"one of the {what} in a series",
                "separate the images that were mixed into this series",
            )


def read_group(group: DicomGroup, stated_times_s: Sequence[float] | None) -> Read:
    """Read, sort and sort out the images of one series. Raises the typed refusals of geometry and timing."""
    described = set(words_of(group.description).split())
    if described & _LOCALIZER_WORDS or any("LOCALIZER" in file.words("ImageType") for file in group.files):
        return Read(findings=(Finding("chosen", group.name, "a localizer: left out"),))
    _check_one_place(group)
    planes, pixels, findings = _planes_and_pixels(group)
    now_at(group.name)
    if not planes:
        return Read(findings=tuple(findings))
    check_alike(planes, group.name)
    parts = sorted({plane.part for plane in planes})
    result = Read(findings=tuple(findings))
    for place, part in enumerate(parts):
        name = group.name if len(parts) == 1 else f"{group.name} part {place + 1}"
        members = [plane for plane in planes if plane.part == part]
        read = _read_part(group, name, members, pixels, stated_times_s, alone=len(parts) == 1)
        result = Read(
            result.series + read.series,
            result.maps + read.maps,
            result.labels + read.labels,
            result.findings + read.findings,
            {**result.phases, **read.phases},
        )
    if len(parts) > 1:
        split = Finding(
            "found", group.name, f"{len(parts)} kinds of image in one series, separated by image type and echo"
        )
        result = replace(result, findings=(split, *result.findings))
    return result


def _planes_and_pixels(group: DicomGroup) -> tuple[list[Plane], dict[int, NDArray[Any]], list[Finding]]:
    """Planes of all files, and the stored pixels (frames, rows, columns) of each file by its number in the group."""
    planes: list[Plane] = []
    pixels: dict[int, NDArray[Any]] = {}
    unplaced, incomplete = 0, 0
    for place, file in enumerate(group.files):
        classic = "PerFrameFunctionalGroupsSequence" not in file.header
        if classic and "ORIGINAL" not in file.words("ImageType") and "ImagePositionPatient" not in file.header:
            unplaced += 1
            continue
        image = file.image()
        incomplete += not image.complete
        planes += [replace(plane, file=place) for plane in image.planes]
        pixels[place] = image.pixels
    findings = []
    if unplaced:
        findings.append(Finding("doubted", group.name, f"{unplaced} derived images without a position: left out"))
    if incomplete:
        findings.append(
            Finding(
                "doubted",
                group.name,
                f"{incomplete} images do not say how their pixels are stored: read as unsigned, one sample, monochrome",
            )
        )
    return planes, pixels, findings


def _physical(
    planes: Sequence[Plane],
    pixels: Mapping[int, NDArray[Any]],
    places: NDArray[np.int64],
    slices: NDArray[np.int64],
    shape: tuple[int, ...],
) -> NDArray[np.float32]:
    """(n, i, j, k) physical values: plane ``p`` fills index ``places[p]`` and slice ``slices[p]``."""
    values = np.full(shape, np.nan, dtype=np.float32)
    for plane, place, k in zip(planes, places, slices):
        stored = pixels[plane.file][plane.frame].T.astype(np.float64)
        values[place, :, :, k] = stored * plane.slope + plane.intercept
    return values


def _constant(planes: Sequence[Plane], name: str) -> float | None:
    """The value of an acquisition parameter if all planes agree on it."""
    values = {plane.acquisition.get(name) for plane in planes}
    return values.pop() if len(values) == 1 else None


def _acquisition(group: DicomGroup, planes: Sequence[Plane], name: str) -> tuple[dict[str, Sourced], list[Finding]]:
    acquisition = {
        key: Sourced(value) for key in ("tr_s", "te_s", "fa_deg", "b") if (value := _constant(planes, key)) is not None
    }
    findings = []
    field = number(group.files[0].value("MagneticFieldStrength"))
    if field is not None and field > _GAUSS_FROM:
        findings.append(Finding("inferred", name, f"field strength {field:g} is in gauss: {field / 1e4:g} T"))
        field /= 1e4
    if field:
        acquisition["field_t"] = Sourced(field)
    sequence = " ".join(group.files[0].words("ScanningSequence")) or _ECHO.get(group.common("EchoPulseSequence"), "")
    for key, text in (("sequence", sequence), ("agent", group.common("ContrastBolusAgent"))):
        if text:
            acquisition[key] = Sourced(text)
    return acquisition, findings


def _varies(planes: Sequence[Plane], slices: NDArray[np.int64], name: str) -> NDArray[np.float64] | None:
    """(planes,) values of a parameter, if every plane has it and each slice sees the same, several, values."""
    values = [plane.acquisition.get(name) for plane in planes]
    if any(value is None for value in values):
        return None
    found = np.array(values, dtype=float)
    seen = [sorted(found[slices == k]) for k in range(int(slices.max()) + 1)]
    return found if len(set(seen[0])) > 1 and all(one == seen[0] for one in seen) else None


def _ranked(values: NDArray[np.float64], slices: NDArray[np.int64]) -> NDArray[np.int64]:
    """(planes,) place of each value among those of its slice, ascending, ties in the order of the files."""
    places = np.empty(len(values), dtype=np.int64)
    for k in range(int(slices.max()) + 1):
        here = np.flatnonzero(slices == k)
        places[here[np.argsort(values[here], kind="stable")]] = np.arange(len(here))
    return places


def _read_part(
    group: DicomGroup,
    name: str,
    planes: Sequence[Plane],
    pixels: Mapping[int, NDArray[Any]],
    stated_times_s: Sequence[float] | None,
    *,
    alone: bool,
) -> Read:
    """Read the planes of one kind of image in a series."""
    grid, slices = stack(planes, group.common("FrameOfReferenceUID"), name)
    acquisition, findings = _acquisition(group, planes, name)
    depth = int(np.bincount(slices).max())
    places, times, b_values, role = np.zeros(len(planes), dtype=np.int64), None, None, _single_role(planes)
    if depth > 1:
        b, angles = _varies(planes, slices, "b"), _varies(planes, slices, "fa_deg")
        if b is not None:
            role, places = "diffusion", _ranked(b, slices)
            b_values = np.sort(b[slices == 0])
        elif angles is not None and len(set(angles)) == depth:
            role, places = "vfa", _ranked(angles, slices)
            acquisition["fa_deg"] = Sourced(tuple(float(angle) for angle in np.unique(angles)))
        else:
            expected = number(group.files[0].value("NumberOfTemporalPositions"))
            order = order_in_time(
                [plane.moments for plane in planes],
                slices,
                name,
                stated_s=stated_times_s,
                expected=None if expected is None else int(expected),
                alone=alone,
            )
            role, places, times = "dynamic", order.ranks, order.times_s
            findings += order.findings
            findings += _doubted_agent(acquisition, name)
    values = _physical(planes, pixels, places, slices, (depth, *grid.shape))
    if not np.isfinite(values).any():
        raise StudyRejected(f"{name} holds no finite value", "an image", "export the series again")
    order_of_files = [planes[i].file for i in np.lexsort((slices, places))]
    uids = tuple(group.files[file].text("SOPInstanceUID") for file in dict.fromkeys(order_of_files))
    series = Series(
        uid=group.common("SeriesInstanceUID"),
        role=role,
        description=group.description,
        modality=group.common("Modality"),
        grid=grid,
        values=values if depth > 1 else values[0],
        times_s=times,
        b_values=b_values,
        acquisition=acquisition,
        study_uid=group.common("StudyInstanceUID"),
        instance_uids=uids,
    )
    if depth > 1:
        return Read(series=(series,), findings=tuple(findings))
    read = _as_what_it_is(group, name, series, planes, tuple(findings))
    return replace(read, phases={uids[0]: _phase(planes)}) if read.series and uids else read


def _phase(planes: Sequence[Plane]) -> Phase:
    """The phase that a volume may be: the median of each clock that all of its planes have."""
    clocks = {key: [plane.moments.get(key, np.nan) for plane in planes] for key in CLOCKS}
    medians = {key: float(np.median(values)) for key, values in clocks.items()}
    return Phase(planes[0].part, {key: value for key, value in medians.items() if np.isfinite(value)})


def _single_role(planes: Sequence[Plane]) -> Role:
    """Anatomy for an original magnitude image, ``other`` for anything else in one volume."""
    words = {word.upper() for word in planes[0].part}
    original = "ORIGINAL" in words and not words & {"P", "PHASE", "FIELD_MAP", "I", "R", "IMAGINARY", "REAL"}
    return "anatomy" if original else "other"


def _doubted_agent(acquisition: dict[str, Sourced], name: str) -> list[Finding]:
    """Drop a contrast agent of ``NONE`` from a dynamic series: the tag is wrong too often to be believed."""
    agent = acquisition.get("agent")
    if agent is None or str(agent.value).strip().upper() not in ("NONE", "NO", "NULL"):
        return []
    del acquisition["agent"]
    return [Finding("doubted", name, "the contrast agent is said to be none in a dynamic series: not believed")]


def _is_label_image(group: DicomGroup, series: Series, planes: Sequence[Plane]) -> bool:
    if any(plane.slope != 1.0 or plane.intercept != 0.0 for plane in planes) or not looks_like_labels(series.values):
        return False
    path = group.files[0].path
    texts = (series.description, path.stem, path.parent.name)
    named = any(_LABEL_WORDS & set(words_of(text).split()) for text in texts)
    return named or not series.grid.frame_uid


def _as_what_it_is(
    group: DicomGroup, name: str, series: Series, planes: Sequence[Plane], findings: tuple[Finding, ...]
) -> Read:
    """A single volume as a label image, a supplied map, or a series."""
    if _is_label_image(group, series, planes):
        labels = LabelImage(
            series.grid, series.values.astype(np.uint8), {}, series.uid, series.instance_uids, series.description
        )
        found = Finding(
            "found",
            name,
            "a label image stored as an ordinary image "
            f"(values {', '.join(str(int(v)) for v in np.unique(series.values))})",
        )
        return Read(labels=(labels,), findings=(*findings, found))
    quantity = _derived_quantity(series, planes)
    if quantity == "other":
        return Read(series=(series,), findings=findings)
    integer = all(plane.slope == 1.0 and plane.intercept == 0.0 for plane in planes)
    supplied = SuppliedMap(
        quantity,
        series.grid,
        series.values.astype(np.float64),
        "",
        name,
        "supplied by the scanner",
        series.instance_uids,
        series.description,
        inferable=integer,
    )
    return Read(maps=(supplied,), findings=findings)


def _derived_quantity(series: Series, planes: Sequence[Plane]) -> str:
    """The quantity that a derived image shows; a derived image that is merely T1-weighted shows none."""
    if "DERIVED" not in planes[0].part:
        return "other"
    quantity = recognise([*planes[0].part[1:], series.description])
    is_weighted = quantity in ("t1", "b1") and "map" not in words_of(series.description)
    return "other" if is_weighted else quantity


# ------------------------------------------------------------------------------------------- derived DICOM objects


def read_segmentation(file: DicomFile, name: str) -> Read:
    """A DICOM segmentation as label images. Raises FileRejected, SegmentationRejected, StudyRejected."""
    dataset = file.whole()
    with reading(file.where):
        grid, segments = read_segments(dataset, file.where)
    images = label_images(grid, segments, uid=file.text("SOPInstanceUID"), description=file.text("SeriesDescription"))
    texts = [f"a segmentation of {', '.join(repr(segment.name) for segment in segments)}"]
    if len(images) > 1:
        texts.append("its segments overlap: one label image each")
    return Read(labels=images, findings=tuple(Finding("found", name, text) for text in texts))


@dataclass(frozen=True)
class _Mapping:
    """A frame's real world value mapping: what the stored values ``first`` to ``last`` stand for."""

    slope: float = 1.0
    intercept: float = 0.0
    first: float = -np.inf
    last: float = np.inf
    unit: str = ""
    codes: tuple[str, ...] = ()
    meanings: tuple[str, ...] = ()

    @property
    def quantity(self) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
        """What is mapped: unit, codes and their meanings."""
        return self.unit, self.codes, self.meanings

    def of(self, stored: NDArray[Any]) -> NDArray[np.float64]:
        """Real values. Integers that the mapping does not cover are padding: NaN. Ranges given with floating-point
        pixels are passed over, since scanners' exports state wrong ones.
        """
        real = stored.astype(np.float64) * self.slope + self.intercept
        if not np.issubdtype(stored.dtype, np.integer):
            return real
        return np.where((stored >= self.first) & (stored <= self.last), real, np.nan)


def _mapping(view: FrameView) -> _Mapping:
    group = view.group("RealWorldValueMappingSequence")
    if group is None:
        return _Mapping()
    slope, intercept = number(group.get("RealWorldValueSlope")), number(group.get("RealWorldValueIntercept"))
    units = group.get("MeasurementUnitsCodeSequence") or []
    concepts = [
        concept
        for item in group.get("QuantityDefinitionSequence") or []
        for concept in item.get("ConceptCodeSequence") or []
    ]
    first, last = (
        number(group.get("RealWorldValueFirstValueMapped")),
        number(group.get("RealWorldValueLastValueMapped")),
    )
    return _Mapping(
        1.0 if slope is None else slope,
        intercept or 0.0,
        -np.inf if first is None else first,
        np.inf if last is None else last,
        str(units[0].get("CodeValue") or "") if units else "",
        tuple(str(concept.get("CodeValue") or "") for concept in concepts),
        tuple(str(concept.get("CodeMeaning") or "") for concept in concepts),
    )


def read_parametric_map(file: DicomFile, name: str) -> Read:
    """A Parametric Map object: float, double or integer pixels mapped to real values.

    Raises FileRejected, StudyRejected.
    """
    dataset = file.whole()
    stored = stored_pixels(dataset, file.where)
    with reading(file.where):
        planes = planes_of(dataset, 0, file.where)
        mappings = [_mapping(view) for view in frame_views(dataset, file.where)]
    if len({mapping.quantity for mapping in mappings}) > 1:
        raise FileRejected(
            f"{file.where} maps several quantities in one object",
            "one quantity a parametric map",
            "export one object a quantity",
        )
    grid, slices = stack(planes, file.text("FrameOfReferenceUID"), name)
    if len(planes) != grid.shape[2]:
        raise StudyRejected(
            f"{name}: {len(planes)} frames at {grid.shape[2]} positions",
            "one frame a position",
            "export one volume a parametric map",
        )
    values = np.empty(grid.shape)
    for frame, k, mapping in zip(stored, slices, mappings):
        values[:, :, k] = mapping.of(frame.T)
    unit, codes, meanings = mappings[0].quantity
    description = file.text("SeriesDescription")
    harmonised = HARMONISED in codes
    quantity = "other" if harmonised else recognise([file.path.stem, *meanings, description], codes)
    supplied = SuppliedMap(
        quantity,
        grid,
        values,
        unit,
        name,
        HARMONISED if harmonised else "supplied as a parametric map",
        (file.text("SOPInstanceUID"),),
        meanings[0] if meanings else description,
    )
    return Read(maps=(supplied,))


# ------------------------------------------------------------------------------------ several series, one acquisition


def _shares_protocol(a: Series, b: Series) -> bool:
    """True for single original volumes on one grid with equal repetition and echo times."""
    if a.role != "anatomy" or b.role != "anatomy" or a.values.ndim != 3 or b.values.ndim != 3:
        return False
    if not a.grid.same_as(b.grid) or a.grid.frame_uid != b.grid.frame_uid:
        return False
    pairs = [
        [one.acquisition[key].value if key in one.acquisition else 0.0 for one in (a, b)] for key in ("tr_s", "te_s")
    ]
    return all(abs(first - second) <= 0.01 * max(first, second) for first, second in pairs)


def _joining_value(series: Series, key: str) -> float | None:
    """Flip angle or b-value of a single volume; None if unknown, or an angle of a spin echo."""
    sequence = series.acquisition.get("sequence")
    if key == "fa_deg" and sequence is not None and "SE" in str(sequence.value).split():
        return None
    value = series.acquisition.get(key)
    return None if value is None else float(value.value)


def join_series(series: Sequence[Series], key: str) -> list[Series]:
    """Join single volumes that differ in flip angle (``fa_deg``) or b-value (``b``) alone into one series each.

    Volumes that share grid, repetition and echo time and differ in the key are one acquisition; the joined series
    takes the place of its first.
    """
    families: list[list[Series]] = []
    for one in series:
        value = _joining_value(one, key) if one.role == "anatomy" else None
        family = next(
            (
                family
                for family in families
                if value is not None
                and _shares_protocol(family[0], one)
                and _joining_value(family[0], key) is not None
                and value not in [_joining_value(member, key) for member in family]
            ),
            None,
        )
        if family is None:
            families.append([one])
        else:
            family.append(one)
    return [family[0] if len(family) == 1 else _joined(family, key) for family in families]


def _joined(family: Sequence[Series], key: str) -> Series:
    members = sorted(family, key=lambda one: _joining_value(one, key) or 0.0)
    values = tuple(_joining_value(one, key) or 0.0 for one in members)
    acquisition = dict(members[0].acquisition)
    origin = acquisition.pop(key).origin
    joined = replace(
        members[0],
        values=np.stack([one.values for one in members]),
        acquisition=acquisition,
        instance_uids=tuple(uid for one in members for uid in one.instance_uids),
    )
    if key == "b":
        return replace(joined, role="diffusion", b_values=np.array(values))
    return replace(joined, role="vfa", acquisition={**acquisition, "fa_deg": Sourced(values, origin)})


FEWEST_PHASES = Parameter(
    3,
    "1",
    "fewest series of one volume each that are taken for the phases of one dynamic acquisition: two may be a repeat",
    source="project specification",
    range=(2, 10),
    assumed=True,
)


def _phase_key(series: Series, phases: Mapping[str, Phase]) -> tuple[Any, ...] | None:
    """What the phases of one acquisition share, None for a series that can be no phase (its timing is unknown)."""
    phase = phases.get(series.instance_uids[0]) if series.instance_uids else None
    if phase is None or series.role != "anatomy" or series.values.ndim != 3 or series.modality != "MR":
        return None
    sequence = series.acquisition.get("sequence")
    is_spin_echo = sequence is not None and "SE" in str(sequence.value).split()
    if is_spin_echo or not {"tr_s", "te_s"} <= set(series.acquisition):
        return None
    values = [series.acquisition[key].value if key in series.acquisition else None for key in ("fa_deg", "b")]
    return series.study_uid, phase.part, *values


def join_phases(
    series: Sequence[Series], phases: Mapping[str, Phase], stated_times_s: Sequence[float] | None
) -> tuple[list[Series], list[Finding]]:
    """Join single volumes of one grid and protocol that follow each other in time into one dynamic series each.

    phases          see Read
    stated_times_s  times in seconds that the user gives; they replace the clock, not the order

    Series with equal times, or no clock, stay apart and are doubted. The joined series takes the place of its first.
    """
    families: list[list[Series]] = []
    for one in series:
        key = _phase_key(one, phases)
        family = next(
            (
                family
                for family in families
                if key is not None and _phase_key(family[0], phases) == key and _shares_protocol(family[0], one)
            ),
            None,
        )
        if family is None:
            families.append([one])
        else:
            family.append(one)
    joined, findings = [], []
    for family in families:
        if len(family) < FEWEST_PHASES.value:
            joined += family
            continue
        made, more = _joined_phases(family, [phases[one.instance_uids[0]].clocks for one in family], stated_times_s)
        joined += made
        findings += more
    return sorted(joined, key=lambda one: min(_places(one, series))), findings


def _places(joined: Series, series: Sequence[Series]) -> list[int]:
    """Where the members of a joined series stood among all series."""
    members = set(joined.instance_uids)
    return [n for n, one in enumerate(series) if one is joined or (one.uid and members & set(one.instance_uids))]


def _joined_phases(
    family: Sequence[Series], clocks: Sequence[Mapping[str, float]], stated_times_s: Sequence[float] | None
) -> tuple[list[Series], list[Finding]]:
    where = f"{len(family)} series of one volume each"
    if stated_times_s is not None and len(stated_times_s) != len(family):
        stated_times_s = None
    try:
        order = order_in_time(
            clocks, np.zeros(len(family), dtype=np.int64), where, stated_s=stated_times_s, alone=False
        )
    except TimesRejected:
        doubt = "they share grid and protocol like the phases of one series, and no clock orders them: left apart"
        return list(family), [Finding("doubted", where, doubt)]
    members = [family[int(place)] for place in np.argsort(order.ranks)]
    acquisition = dict(members[0].acquisition)
    agent = _doubted_agent(acquisition, where)
    joined = replace(
        members[0],
        role="dynamic",
        values=np.stack([one.values for one in members]),
        times_s=order.times_s,
        acquisition=acquisition,
        instance_uids=tuple(uid for one in members for uid in one.instance_uids),
    )
    reason = "they share grid and protocol and follow each other in time: joined into one dynamic series"
    return [joined], [Finding("chosen", where, reason), *order.findings, *agent]


def same_values(a: NDArray[Any], b: NDArray[Any]) -> bool:
    """True for arrays that agree wherever both hold a value (finite and not 0), on nearly all of those voxels."""
    if a.shape != b.shape:
        return False
    both = np.isfinite(a) & np.isfinite(b) & (a != 0) & (b != 0)
    either = (np.isfinite(a) & (a != 0)) | (np.isfinite(b) & (b != 0))
    return bool(both.any() and both.sum() > 0.99 * either.sum() and np.isclose(a[both], b[both], rtol=1e-4).all())
