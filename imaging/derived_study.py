"""All that was quantified in one visit as a folder of DICOM objects beside its images.

    maps -> Parametric Maps, tumour -> Segmentation (where the study has none of it), both -> report of measurements

Objects join the study that their sources belong to, each in a series of its own.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from .. import __version__
from ..core.errors import OncoscaleError, StudyRejected
from ..core.files import folder_written_whole
from .derived_codes import ERROR, REGIONS, input_curve_code, quantity_code
from .derived_object import SeriesHead, moment_of
from .derived_segmentation import write_segmentation_of_frames
from .dicom_write import MANUFACTURER, SegmentationHead, derived_uid
from .map_files import Quantified
from .measurement_report import measure, write_measurement_report
from .parametric_map import Storage, write_parametric_map
from .resample import resample_labels
from .segmentation import LABEL_MAP_SEGMENTATION, SEGMENTATION
from .source_images import SourceFrame, SourceImages, frames_by_slice
from .study import Finding, Grid, ImagingStudy, LabelImage, ParametricMap

FIRST_SERIES = 9500
"""Series number of the first derived object; scanners number far below."""
FITTED = "_raw"
"""Maps before the quality rules stay out of the archive: they hold values that are known to be wrong."""
CLASSES = ("model",)
"""Maps whose numbers stand for names: they have no mean."""


@dataclass(frozen=True)
class DerivedStudy:
    """What was written.

    files     names of the DICOM files, in the order of their series
    findings  what was left out or put on another grid, and why
    """

    files: tuple[str, ...]
    findings: tuple[Finding, ...]


def write_derived(
    quantified: Quantified,
    study: ImagingStudy,
    images: SourceImages,
    folder: Path | str,
    *,
    storage: Storage = "float32",
    fill: float | None = None,
) -> DerivedStudy:
    """Write NAME.dcm for every map made from DICOM, tumour.dcm and measurements.dcm, all or nothing.

    images         headers of the study's DICOM objects
    folder         new or empty
    storage, fill  see write_parametric_map

    Raises StudyRejected when no map was made from a DICOM image.
    """
    writer = _Writer(quantified, study, images, [], [])
    with folder_written_whole(folder) as beside, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a pseudonym has no family name
        written = [
            header
            for one in _chosen(quantified)
            if (header := writer.write_map(beside, one, storage, fill)) is not None
        ]
        if not written:
            raise StudyRejected(
                "no map was made from DICOM images",
                "at least one map with a DICOM source",
                "leave --dicom out, or give the DICOM images",
            )
        segmentation = writer.write_tumour(beside)
        if segmentation is not None:
            writer.write_report(beside, segmentation, written)
    return DerivedStudy(tuple(writer.files), tuple(writer.findings))


def _chosen(quantified: Quantified) -> list[ParametricMap]:
    return [one for name, one in quantified.maps.items() if not name.endswith(FITTED)]


@dataclass(eq=False)
class _Writer:
    quantified: Quantified
    study: ImagingStudy
    images: SourceImages
    files: list[str]
    findings: list[Finding]

    def note(self, text: str) -> None:
        self.findings.append(Finding("doubted", "DICOM", text))

    def sources_of(self, one: ParametricMap | LabelImage) -> tuple[Dataset, ...]:
        """Headers of the images that something was made from."""
        return self.images.of(one.derived_from, self.study)

    def head(self, name: str, description: str, source: Dataset, content: bytes) -> SeriesHead:
        """A series of its own, whose identity follows from the content."""
        identity = (source.StudyInstanceUID, __version__, name, sha256(content).hexdigest())
        return SeriesHead(
            derived_uid("series", *identity),
            derived_uid("instance", *identity),
            FIRST_SERIES + len(self.files),
            description[:64],
            moment_of(source),
        )

    def write_map(self, folder: Path, one: ParametricMap, storage: Storage, fill: float | None) -> Dataset | None:
        """The header of the written map; None, with a finding, for one that has no DICOM source or cannot be said."""
        sources = self.sources_of(one)
        if not sources:
            self.note(f"{one.name} was not made from DICOM images: it is not written as DICOM")
            return None
        content = np.ascontiguousarray(one.values).tobytes() + f"{one.unit} {one.method} {storage} {fill}".encode()
        head = self.head(one.name, f"{quantity_code(one.name).meaning}, research only", sources[0], content)
        try:
            write_parametric_map(folder / f"{one.name}.dcm", one, sources, head, storage=storage, fill=fill)
        except OncoscaleError as error:
            self.note(f"{one.name} is not written as DICOM: {error}")
            return None
        return self.written(folder, f"{one.name}.dcm")

    def written(self, folder: Path, name: str) -> Dataset:
        self.files.append(name)
        return dcmread(folder / name, stop_before_pixels=True)

    def write_tumour(self, folder: Path) -> Dataset | None:
        """The header of the tumour's segmentation: the study's own where it is used unchanged, else one of ours."""
        tumour = self.tumour()
        if tumour is None:
            self.note("nothing says where the tumour is: no segmentation and no report of measurements")
            return None
        own = self.own_segmentation(tumour)
        if own is not None:
            self.findings.append(Finding("chosen", "DICOM", "the report refers to the study's own segmentation"))
            return own
        placed = self.on_images(tumour)
        if placed is None:
            self.note("no DICOM series lies slice by slice under the tumour: no segmentation and no report")
            return None
        labels, frames = placed
        source = frames[0].header
        head = self.head("tumour", "Tumour, research only", source, np.ascontiguousarray(labels.values).tobytes())
        drawn = any(tumour.uid and tumour.uid == label.uid for label in self.study.labels)
        write_segmentation_of_frames(
            folder / "tumour.dcm",
            labels,
            frames,
            SegmentationHead(
                head.series_uid,
                head.instance_uid,
                head.number,
                head.description,
                head.moment,
                None if drawn else (f"{MANUFACTURER} enhancing volume", __version__),
                codes.DCM.HistogramAnalysis,
                kinds=REGIONS,
            ),
        )
        return self.written(folder, "tumour.dcm")

    def own_segmentation(self, tumour: LabelImage) -> Dataset | None:
        """The study's DICOM segmentation whose segment is the tumour, voxel by voxel."""
        header = self.images.headers.get(tumour.uid)
        if header is None or str(header.SOPClassUID) not in (SEGMENTATION, LABEL_MAP_SEGMENTATION):
            return None
        unchanged = any(
            label.uid == tumour.uid
            and label.grid.same_as(tumour.grid)
            and np.array_equal(label.mask("tumour"), tumour.mask("tumour"))
            for label in self.study.labels
        )
        named = {str(item.SegmentLabel).lower() for item in header.SegmentSequence}
        referring = "ReferencedSeriesSequence" in header
        return header if unchanged and referring and set(tumour.names.values()) <= named else None

    def on_images(self, tumour: LabelImage) -> tuple[LabelImage, list[SourceFrame]] | None:
        """The tumour on the grid of a DICOM series, and one source a slice."""
        grids: list[Grid] = [tumour.grid, *(one.grid for one in self.quantified.maps.values())]
        for grid in grids:
            for one in self.study.series:
                if not one.grid.same_as(grid):
                    continue
                frames = _one_a_slice(grid, self.images.instances(one.instance_uids))
                if frames is None:
                    continue
                labels = resample_labels(tumour, grid)
                if not all(labels.mask(name).any() for name in labels.names.values()):
                    continue
                if not grid.same_as(tumour.grid):
                    self.note("the tumour was put on the grid of the images to be written as DICOM")
                return labels, frames
        return None

    def tumour(self) -> LabelImage | None:
        """The tumour and what is coded of its parts: a muscle drawn beside it is no finding."""
        drawn = self.quantified.tumour
        if drawn is None:
            return None
        names = {value: name for value, name in drawn.names.items() if name in REGIONS and drawn.mask(name).any()}
        return replace(drawn, names=names) if names else None

    def write_report(self, folder: Path, segmentation: Dataset, maps: Sequence[Dataset]) -> None:
        tumour = self.tumour()
        assert tumour is not None
        chosen = _measurable(self.quantified.maps, self.files)
        regions = [measure(chosen, tumour, name) for name in tumour.names.values()]
        sources = [header for one in chosen.values() for header in self.sources_of(one)]
        head = self.head("measurements", "Measurements, research only", segmentation, repr(regions).encode())
        fitted = "aif" in self.quantified.summary
        chosen_curve = self.quantified.summary.get("settings", {})
        write_measurement_report(
            folder / "measurements.dcm",
            regions,
            segmentation,
            [*maps, *sources],
            head,
            input_curve_code(str(chosen_curve.get("aif", "")), chosen_curve.get("aif_mask")) if fitted else None,
        )
        self.files.append("measurements.dcm")


def _measurable(maps: Mapping[str, ParametricMap], files: Sequence[str]) -> dict[str, ParametricMap]:
    """The maps that were written and whose mean says something of a region: no standard errors, no classes."""
    return {
        name: one
        for name, one in maps.items()
        if f"{name}.dcm" in files and not name.endswith(ERROR) and name not in CLASSES
    }


def _one_a_slice(grid: Grid, headers: Sequence[Dataset]) -> list[SourceFrame] | None:
    """The first source of each slice; None if a slice has none."""
    first = [frames[0] for frames in frames_by_slice(grid, headers) if frames]
    return first if len(first) == grid.shape[2] else None
