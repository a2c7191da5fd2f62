"""Diffusion tensors from a file: along which directions water wanders most easily, as fibres lead it.

Six volumes of a NIfTI file, xx, yy, zz, xy, xz, yz, in the axes of the scanner to which the file's affine refers
(right, anterior, superior), as MRtrix's ``dwi2tensor`` writes them. Inside, axes are those of the patient, LPS.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..core.errors import FileRejected
from ..core.quantity import Parameter
from .nifti import is_nifti, open_nifti
from .study import Grid

MOST_ANISOTROPIC = Parameter(
    100.0,
    "1",
    "largest over smallest eigenvalue of a diffusion tensor that is taken",
    source="ASSUMED: ten times the anisotropy of water in coherent white matter; noise makes more",
    range=(10.0, 1000.0),
    assumed=True,
)
_PLACES = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))
_SIGNS = (1.0, 1.0, 1.0, 1.0, -1.0, -1.0)
"""Right to left and front to back change places together: xz and yz change their sign, xy does not."""


@dataclass(frozen=True, eq=False)
class TensorImage:
    """A tensor in each voxel.

    values  (i, j, k, 3, 3) symmetric, LPS, in any unit; 0 where there is no tensor
    uid     ``sha256:`` and the hash of its file
    """

    grid: Grid
    values: NDArray[np.float64]
    uid: str = ""


def read_tensors(path: Path | str) -> TensorImage:
    """The tensors of a NIfTI file.

    Raises FileRejected for a file of another kind, one that does not say where it lies, one without a tensor, and for
    tensors that are not positive or more than ``MOST_ANISOTROPIC`` to 1.
    """
    path = Path(path)
    if not is_nifti(path):
        raise FileRejected("the diffusion tensor is no NIfTI file", ".nii or .nii.gz", "write the tensors as NIfTI")
    found = open_nifti(path, "the diffusion tensor")
    if found.values.ndim != 4 or len(found.values) != 6 or not found.placed:
        raise FileRejected(
            f"a diffusion tensor of shape {found.values.shape}" + ("" if found.placed else " that lies nowhere"),
            "six volumes xx, yy, zz, xy, xz, yz with a place in the scanner",
            "write them as MRtrix's dwi2tensor does",
        )
    values = np.zeros((*found.grid.shape, 3, 3))
    for (row, column), sign, component in zip(_PLACES, _SIGNS, found.values):
        values[..., row, column] = values[..., column, row] = sign * component
    return TensorImage(found.grid, _positive(values), found.digest)


def _positive(values: NDArray[np.float64]) -> NDArray[np.float64]:
    unknown = ~np.isfinite(values).all(axis=(-1, -2))
    there = np.abs(values).max(axis=(-1, -2)) != 0.0
    if unknown.any() or not there.any():
        raise FileRejected(
            f"a diffusion tensor that is not finite in {int(unknown.sum())} of {unknown.size} voxels"
            if unknown.any()
            else "a diffusion tensor that is 0 everywhere",
            "a finite tensor in tissue, 0 elsewhere",
            "write 0 where there is none, or fit the tensors again",
        )
    eigenvalues = np.linalg.eigvalsh(values[there])
    bad = eigenvalues[:, 0] * MOST_ANISOTROPIC.value <= eigenvalues[:, 2]
    if bad.any():
        raise FileRejected(
            f"diffusion tensors that are not positive, or more than {MOST_ANISOTROPIC.value:g} to 1, in "
            f"{int(bad.sum())} of {int(there.sum())} voxels",
            "eigenvalues above 0 in tissue, 0 elsewhere",
            "mask the brain, and fit with non-negative diffusivities (dwi2tensor -mask ... -constrain)",
        )
    return values
