"""NIfTI round trips, and resampling from one grid to another."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest

from oncoscale.core.errors import ConfigurationRejected, FileRejected, StudyRejected
from oncoscale.imaging.nifti import open_nifti, read_nifti, write_labels, write_nifti
from oncoscale.imaging.resample import resample_labels, resample_values
from oncoscale.imaging.study import Grid, LabelImage


def turned(degrees, spacing, origin, shape):
    """A grid tilted about two axes."""
    a, b = np.radians(degrees), np.radians(degrees / 2)
    about_z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    affine = np.eye(4)
    affine[:3, :3] = about_x @ about_z * np.array(spacing)
    affine[:3, 3] = origin
    return Grid(shape, affine)


OBLIQUE = turned(25.0, (0.7, 0.9, 2.5), (-31.0, 12.5, 140.25), (7, 6, 5))


def test_oblique_grid_and_values_round_trip(tmp_path):
    """What is written is read: place to float32's precision, values exactly, NaN as NaN."""
    values = np.random.default_rng(0).random((7, 6, 5)).astype(np.float32)
    values[2, 3, 1] = np.nan
    write_nifti(tmp_path / "a.nii.gz", OBLIQUE, values)
    grid, read = read_nifti(tmp_path / "a.nii.gz")
    assert grid.same_as(OBLIQUE, tolerance=1e-5)
    assert read.dtype == np.float32
    assert np.array_equal(read, values, equal_nan=True)


def test_files_are_ras_and_grids_are_lps(tmp_path):
    """A voxel's place in another reader is ours with the first two coordinates negated."""
    write_nifti(tmp_path / "a.nii", OBLIQUE, np.zeros(OBLIQUE.shape))
    image = nibabel.load(tmp_path / "a.nii")
    index = np.array([3, 1, 4])
    assert (image.affine @ [*index, 1])[:3] == pytest.approx(OBLIQUE.world(index) * [-1, -1, 1], abs=1e-4)
    assert image.header.get_xyzt_units() == ("mm", "sec")
    assert (int(image.header["sform_code"]), int(image.header["qform_code"])) == (1, 1)
    assert image.header.get_qform() == pytest.approx(image.affine, abs=1e-4)


def test_equal_content_gives_equal_bytes(tmp_path):
    """No clock enters the file."""
    values = np.arange(210, dtype=float).reshape(7, 6, 5)
    for name in ("a.nii.gz", "b.nii.gz"):
        write_nifti(tmp_path / name, OBLIQUE, values)
    first, second = ((tmp_path / name).read_bytes() for name in ("a.nii.gz", "b.nii.gz"))
    assert first == second
    assert first[4:8] == bytes(4)  # time of modification in the gzip header


def test_several_volumes_lead_with_time(tmp_path):
    """(t, i, j, k) here, time last in the file."""
    values = np.random.default_rng(1).random((3, 7, 6, 5)).astype(np.float32)
    write_nifti(tmp_path / "a.nii", OBLIQUE, values)
    assert nibabel.load(tmp_path / "a.nii").shape == (7, 6, 5, 3)
    assert np.array_equal(read_nifti(tmp_path / "a.nii")[1], values)


def test_label_names_travel_in_the_header(tmp_path):
    """Names of regions, letters beyond ASCII included, are read back by anyone who has the file alone."""
    labels = LabelImage(OBLIQUE, np.ones(OBLIQUE.shape, dtype=np.uint8), {1: "tumour", 7: "Niere links (große)"})
    write_labels(tmp_path / "a.nii.gz", labels)
    image = open_nifti(tmp_path / "a.nii.gz", "file")
    assert image.names == labels.names
    assert image.values.dtype == np.uint8


def test_a_spacing_of_zero_is_refused(tmp_path):
    """A voxel without volume is no voxel."""
    write_nifti(tmp_path / "a.nii", OBLIQUE, np.zeros(OBLIQUE.shape))
    data = bytearray((tmp_path / "a.nii").read_bytes())
    for row in (280, 296, 312):
        data[row + 4 : row + 8] = bytes(4)  # the second column of the affine
    (tmp_path / "a.nii").write_bytes(bytes(data))
    with pytest.raises(StudyRejected, match="spacing of zero"):
        read_nifti(tmp_path / "a.nii")


def test_a_declared_size_beyond_the_limit_is_refused(tmp_path):
    """A header that promises tebibytes is not believed."""
    write_nifti(tmp_path / "a.nii", OBLIQUE, np.zeros(OBLIQUE.shape))
    data = bytearray((tmp_path / "a.nii").read_bytes())
    data[42:48] = np.array([30000, 30000, 30000], dtype="<i2").tobytes()
    (tmp_path / "a.nii").write_bytes(bytes(data))
    with pytest.raises(FileRejected, match="declares"):
        read_nifti(tmp_path / "a.nii")


def test_writing_where_nothing_may_be_written_is_an_input_error(tmp_path):
    """A file in the place of a folder: a typed refusal, nothing half written."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationRejected):
        write_nifti(tmp_path / "file" / "a.nii", OBLIQUE, np.zeros(OBLIQUE.shape))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


# ------------------------------------------------------------------------------------------------------- resampling

FINE = turned(-10.0, (0.5, 0.5, 0.6), (-30.0, 13.5, 141.0), (9, 8, 11))


def test_a_linear_field_is_resampled_exactly():
    """Trilinear interpolation reproduces a linear field between voxel centres, on any turned grid."""
    direction = np.array([0.3, -1.1, 0.7])
    on = OBLIQUE.world(np.moveaxis(np.indices(OBLIQUE.shape), 0, -1)) @ direction
    result = resample_values(on, OBLIQUE, FINE)
    expected = FINE.world(np.moveaxis(np.indices(FINE.shape), 0, -1)) @ direction
    places = OBLIQUE.index(FINE.world(np.moveaxis(np.indices(FINE.shape), 0, -1)))
    inside = ((places > 0) & (places < np.array(OBLIQUE.shape) - 1)).all(axis=-1)
    assert inside.sum() > 100
    assert result[inside] == pytest.approx(expected[inside], abs=1e-9)
    assert np.isnan(result[((places < -1) | (places > np.array(OBLIQUE.shape))).any(axis=-1)]).all()


def test_invalid_voxels_do_not_pull_values_down():
    """A constant with holes stays the constant wherever half of the weight is valid, and NaN elsewhere."""
    values = np.full(OBLIQUE.shape, 5.0)
    values[3] = np.nan
    result = resample_values(values, OBLIQUE, FINE)
    known = np.isfinite(result)
    assert known.any()
    assert not known.all()
    assert result[known] == pytest.approx(5.0, rel=1e-12)
    assert np.array_equal(resample_values(values, OBLIQUE, OBLIQUE), values, equal_nan=True)


def test_labels_take_the_voxel_they_lie_in():
    """Each centre takes the label of its voxel; outside is 0; the same grid changes nothing."""
    values = np.random.default_rng(5).integers(0, 4, OBLIQUE.shape).astype(np.uint8)
    labels = LabelImage(OBLIQUE, values, {1: "tumour"})
    result = resample_labels(labels, FINE).values
    nearest = np.floor(OBLIQUE.index(FINE.world(np.moveaxis(np.indices(FINE.shape), 0, -1))) + 0.5).astype(int)
    inside = ((nearest >= 0) & (nearest < np.array(OBLIQUE.shape))).all(axis=-1)
    assert np.array_equal(result[inside], values[tuple(nearest[inside].T)])
    assert not result[~inside].any()
    assert np.array_equal(resample_labels(labels, OBLIQUE).values, values)


def test_volume_survives_a_finer_grid():
    """Halving the voxels keeps a region's volume."""
    values = np.zeros((10, 10, 6), dtype=np.uint8)
    values[3:7, 2:8, 1:4] = 1
    coarse = Grid((10, 10, 6), np.diag([1.0, 1.0, 2.0, 1.0]))
    affine = np.diag([0.5, 0.5, 1.0, 1.0])
    affine[:3, 3] = [-0.25, -0.25, -0.5]
    labels = LabelImage(coarse, values, {1: "tumour"})
    fine = resample_labels(labels, Grid((20, 20, 12), affine))
    assert fine.volume("tumour") == pytest.approx(labels.volume("tumour"))
