"""Diffusion tensors from a file: six volumes in the scanner's axes, turned to the patient's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from oncoscale.core.errors import FileRejected
from oncoscale.imaging.diffusion_tensor import read_tensors
from oncoscale.imaging.nifti import write_nifti
from oncoscale.imaging.study import Grid

GRID = Grid((4, 3, 2), np.diag([2.0, 2.0, 3.0, 1.0]))


def six(tensor: np.ndarray) -> np.ndarray:
    """(6, i, j, k) volumes of one tensor in the axes of a NIfTI file."""
    components = [tensor[0, 0], tensor[1, 1], tensor[2, 2], tensor[0, 1], tensor[0, 2], tensor[1, 2]]
    return np.broadcast_to(np.reshape(components, (6, 1, 1, 1)), (6, *GRID.shape)).copy()


def test_fibres_keep_their_direction(tmp_path: Path) -> None:
    """A fibre to the right, front and head in the file runs to the right, front and head in the patient."""
    fibre = np.array([0.6, 0.48, 0.64])
    tensor = np.outer(fibre, fibre) + 0.2 * np.eye(3)
    write_nifti(tmp_path / "tensor.nii.gz", GRID, six(tensor))
    found = read_tensors(tmp_path / "tensor.nii.gz")
    own = fibre * [-1.0, -1.0, 1.0]
    assert found.values[1, 1, 1] == pytest.approx(np.outer(own, own) + 0.2 * np.eye(3), abs=1e-6)
    assert found.grid.same_as(GRID)
    assert found.uid.startswith("sha256:")


def test_voxels_without_a_tensor_are_kept_empty(tmp_path: Path) -> None:
    """0 outside the brain stays 0."""
    volumes = six(np.diag([3.0, 1.0, 1.0]))
    volumes[:, 0] = 0.0
    write_nifti(tmp_path / "tensor.nii", GRID, volumes)
    values = read_tensors(tmp_path / "tensor.nii").values
    assert not values[0].any()
    assert np.trace(values[1, 0, 0]) == pytest.approx(5.0)


@pytest.mark.parametrize(
    ("volumes", "words"),
    [
        (six(np.eye(3))[:5], "six volumes"),
        (six(np.eye(3))[0], "six volumes"),
        (six(np.diag([1.0, 1.0, -0.01])), "not positive"),
        (six(np.diag([1.0, 1.0, 0.001])), "not positive"),
        (six(np.zeros((3, 3))), "0 everywhere"),
        (six(np.full((3, 3), np.nan)), "not finite in"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, volumes: np.ndarray, words: str) -> None:
    """Too few volumes, one volume, tensors that gather water, no tensor, no number: each with what to do."""
    write_nifti(tmp_path / "tensor.nii", GRID, volumes)
    with pytest.raises(FileRejected, match=words):
        read_tensors(tmp_path / "tensor.nii")


def test_a_table_is_no_tensor(tmp_path: Path) -> None:
    """The name says what kind of file it is."""
    with pytest.raises(FileRejected, match="no NIfTI file"):
        read_tensors(tmp_path / "tensor.csv")
