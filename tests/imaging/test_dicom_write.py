"""What is written as DICOM: identities, numbers, geometry, segmentations."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import UID

from oncoscale.core.errors import SegmentationRejected, StudyRejected
from oncoscale.imaging.dicom_write import (
    MRSeries,
    SegmentationHead,
    Volume,
    clock,
    decimal,
    derived_uid,
    image_headers,
    plane_attributes,
    write_mr_series,
    write_segmentation,
)
from oncoscale.imaging.segmentation import read_segments
from oncoscale.imaging.study import Grid, LabelImage

from .oblique import GRADIENT_ECHO, SHAPE, oblique_grid
from .oblique import STUDY as SHARED_STUDY

STUDY = {**SHARED_STUDY, "StudyInstanceUID": derived_uid("a study")}


def tilted() -> Grid:
    """The oblique grid, in a frame of reference of its own."""
    return oblique_grid(derived_uid("a frame"))


def a_series(grid: Grid) -> MRSeries:
    """A classic MR series on the grid."""
    return MRSeries(derived_uid("a series"), 1, "test", grid, STUDY, GRADIENT_ECHO, (100.0, 200.0))


def head(algorithm: tuple[str, str] | None = None) -> SegmentationHead:
    """Series level of a segmentation."""
    return SegmentationHead(derived_uid("seg"), derived_uid("seg", 1), 2, "test", ("20240115", "103000"), algorithm)


def labels(grid: Grid) -> LabelImage:
    """Two regions, unlike under every flip."""
    values = np.zeros(SHAPE, np.uint8)
    values[1:3, 1, 1] = 1
    values[4, 2:4, 2] = 2
    return LabelImage(grid, values, {1: "tumour", 2: "core"})


def test_derived_uids_are_valid_and_differ() -> None:
    """A UID is valid, at most 64 characters, the same for the same words, another for others."""
    uids = [derived_uid("x", n) for n in range(1000)]
    assert all(UID(uid).is_valid and len(uid) <= 64 for uid in uids)
    assert len(set(uids)) == 1000
    assert derived_uid("x", 7) == uids[7] != derived_uid("x7")


@pytest.mark.parametrize("value", [0.0, -0.0697564737441253, 1 / 3e-9, -1.2345678901234567e-11, 63.87, 1e15 / 7])
def test_decimal_strings_fit_and_are_near(value: float) -> None:
    """At most 16 characters, as DICOM allows, and within a part in a billion of the number."""
    assert len(decimal(value)) <= 16
    assert float(decimal(value)) == pytest.approx(value, rel=1e-9)


def test_clock() -> None:
    """Seconds after midnight to the microsecond, also where rounding carries into the minute."""
    assert clock(36943.25) == "101543.250000"
    assert clock(59.9999999) == "000100.000000"


def test_values_and_places_survive(tmp_path: Path) -> None:
    """Every voxel of two volumes is read back at its place in space with its value."""
    grid = tilted()
    written = [np.arange(120, dtype=np.uint16).reshape(SHAPE) + 1000 * n for n in (1, 2)]
    count = write_mr_series(
        tmp_path, a_series(grid), [Volume(v, {"AcquisitionNumber": n}) for n, v in enumerate(written, start=1)]
    )
    images = [pydicom.dcmread(file) for file in sorted(tmp_path.iterdir())]
    assert count == len(images) == 8
    for image in images:
        across, down = np.array(image.ImageOrientationPatient).reshape(2, 3)
        columns, rows = np.meshgrid(np.arange(SHAPE[0]), np.arange(SHAPE[1]))
        world = (
            np.array(image.ImagePositionPatient, dtype=float)
            + columns[..., None] * across * image.PixelSpacing[1]
            + rows[..., None] * down * image.PixelSpacing[0]
        )
        i, j, k = np.moveaxis(np.round(grid.index(world)).astype(int), -1, 0)
        np.testing.assert_allclose(grid.world(np.stack([i, j, k], axis=-1)), world, atol=1e-6)
        np.testing.assert_array_equal(image.pixel_array, written[image.AcquisitionNumber - 1][i, j, k])


@pytest.mark.parametrize("change", [np.diag([1.0, 1, -1]), np.array([[1, 0.2, 0], [0, 1, 0], [0, 0, 1.0]])])
def test_grids_that_dicom_cannot_say_are_refused(change: np.ndarray) -> None:
    """Left-handed and sheared grids have no Image Orientation (Patient)."""
    affine = np.eye(4)
    affine[:3, :3] = change
    with pytest.raises(StudyRejected):
        plane_attributes(Grid(SHAPE, affine, "1.2"))


def test_segments_are_read_back_at_their_place(tmp_path: Path) -> None:
    """Each frame of the SEG, at its position and with its segment's name, is that region of the label image."""
    grid = tilted()
    write_segmentation(tmp_path / "seg.dcm", labels(grid), image_headers(a_series(grid), 0, {}), head())
    seg = pydicom.dcmread(tmp_path / "seg.dcm")
    names = {item.SegmentNumber: item.SegmentLabel for item in seg.SegmentSequence}
    found = {"tumour": np.zeros(SHAPE, bool), "core": np.zeros(SHAPE, bool)}
    for frame, plane in zip(seg.PerFrameFunctionalGroupsSequence, seg.pixel_array):
        k = round(grid.index(np.array(frame.PlanePositionSequence[0].ImagePositionPatient, dtype=float))[2])
        found[names[frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber]][:, :, k] |= plane.T.astype(bool)
    for name, mask in found.items():
        np.testing.assert_array_equal(mask, labels(grid).mask(name))
    assert seg.ReferencedSeriesSequence[0].SeriesInstanceUID == derived_uid("a series")


@pytest.mark.parametrize("algorithm", [None, ("oncoscale forecast", "1")])
def test_segmentations_are_valid(tmp_path: Path, algorithm: tuple[str, str] | None) -> None:
    """Drawn by hand or by an algorithm, the validator has neither error nor warning."""
    dciodvfy = Path(sys.executable).with_name("dciodvfy")
    if not dciodvfy.exists():
        pytest.skip("dciodvfy (package dicom3tools) is not installed beside python")
    grid = tilted()
    write_segmentation(tmp_path / "seg.dcm", labels(grid), image_headers(a_series(grid), 0, {}), head(algorithm))
    run = subprocess.run([dciodvfy, "-new", tmp_path / "seg.dcm"], capture_output=True, text=True, check=False)
    assert [line for line in (run.stdout + run.stderr).splitlines() if line.startswith(("Error", "Warning"))] == []


def test_empty_regions_and_foreign_sources_are_refused(tmp_path: Path) -> None:
    """A region without a voxel, or sources that are not the slices of the grid, leave no file."""
    grid = tilted()
    sources: list[Dataset] = image_headers(a_series(grid), 0, {})
    empty = LabelImage(grid, np.zeros(SHAPE, np.uint8), {1: "tumour"})
    for image, images in ((empty, sources), (labels(grid), sources[::-1]), (labels(grid), sources[:2])):
        with pytest.raises(SegmentationRejected):
            write_segmentation(tmp_path / "seg.dcm", image, images, head())
    assert not list(tmp_path.iterdir())


def test_a_region_is_a_tumour_only_where_it_is_called_one(tmp_path: Path) -> None:
    """A region of which nothing is known but its name is coded as tissue, and read back under that name."""
    grid, named = tilted(), {1: "GTV Mass", 2: "adrenal gland"}
    drawn = replace(labels(grid), names=named)
    write_segmentation(tmp_path / "seg.dcm", drawn, image_headers(a_series(grid), 0, {}), head())
    dataset = pydicom.dcmread(tmp_path / "seg.dcm")
    kinds = [one.SegmentedPropertyTypeCodeSequence[0].CodeValue for one in dataset.SegmentSequence]
    categories = [one.SegmentedPropertyCategoryCodeSequence[0].CodeValue for one in dataset.SegmentSequence]
    assert (kinds, categories) == (["108369006", "85756007"], ["49755003", "85756007"])
    _, segments = read_segments(dataset, "the segmentation")
    assert [segment.name for segment in segments] == ["tumour", "adrenal gland"]
