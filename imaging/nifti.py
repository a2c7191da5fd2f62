"""NIfTI in and out: RAS files, LPS inside, and bytes that depend on the content alone."""

from __future__ import annotations

import gzip
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nibabel.nifti1 import Nifti1Extension
from numpy.typing import NDArray

from ..core.errors import FileRejected, SegmentationRejected
from ..core.files import written_whole
from .dicom_files import LARGEST_FILE, read_bytes, reading
from .study import Grid, LabelImage

logging.getLogger("nibabel.global").setLevel(logging.CRITICAL)  # repairs of headers are judged here, not printed
_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_MM = {"mm": 1.0, "meter": 1000.0, "micron": 1e-3, "unknown": 1.0}
_SECONDS = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6}
_NAMES_KEY = "oncoscale-labels"
_FARTHEST_DATA = 1 << 24
"""A NIfTI header with more bytes than this before its data is refused."""


@dataclass(frozen=True, eq=False)
class NiftiImage:
    """What a NIfTI file holds.

    values      (i, j, k), or (t, i, j, k); the file's own number type unless it is scaled
    times_s     (t,) s from the header's time step, None if it gives none
    placed      False if the header does not say where the grid lies (both form codes 0)
    names       label names that write_labels put into the file, empty otherwise
    digest      ``sha256:`` and the hash of the file: the identity of a file that carries none
    """

    grid: Grid
    values: NDArray[Any]
    times_s: NDArray[np.float64] | None
    placed: bool
    names: Mapping[int, str]
    digest: str


def is_nifti(path: Path) -> bool:
    """True if the file's name ends like that of a NIfTI file."""
    return path.name.lower().endswith((".nii", ".nii.gz"))


def _names_in(header: Any) -> dict[int, str]:
    for extension in header.extensions:
        content = extension.get_content()
        text = content.decode("utf-8", "replace") if isinstance(content, bytes) else str(content)
        if text.startswith(_NAMES_KEY):
            names = json.loads(text.removeprefix(_NAMES_KEY).rstrip("\0"))
            return {int(value): str(name) for value, name in names.items()}
    return {}


def open_nifti(path: Path | str, where: str) -> NiftiImage:
    """Read a NIfTI file whole.

    where  what to call it in messages

    Raises FileRejected for a damaged, truncated or oversized file, StudyRejected for a spacing of zero.
    """
    path = Path(path)
    data = read_bytes(path, where)
    with reading(where, "write the NIfTI file again"):
        image: Any = nibabel.load(path)
        header = image.header
        shape = tuple(int(n) for n in image.shape)
        declared = int(np.prod(shape, dtype=object)) * header.get_data_dtype().itemsize
        if declared > LARGEST_FILE.value * (1 << 20) or float(header["vox_offset"]) > _FARTHEST_DATA:
            raise FileRejected(
                f"{where} declares {declared >> 20} MiB of voxels",
                f"at most {LARGEST_FILE.value:g} MiB",
                "split or crop the image",
            )
        while len(shape) > 3 and shape[-1] == 1:
            shape = shape[:-1]
        if len(shape) not in (3, 4) or min(shape) < 1:
            raise FileRejected(
                f"{where} has {len(shape)} dimensions",
                "a volume, or a series of volumes over time",
                "write it as a 3-D or 4-D NIfTI file",
            )
        values = np.asarray(image.dataobj).reshape(shape)
        space, time = header.get_xyzt_units()
        affine = _RAS_TO_LPS @ np.asarray(image.affine, dtype=float)
        affine[:3] *= _MM.get(space, 1.0)
        placed = int(header["qform_code"]) > 0 or int(header["sform_code"]) > 0
        names = _names_in(header)
        step = float(header.get_zooms()[3]) * _SECONDS.get(time, 0.0) if len(shape) == 4 else 0.0
    grid = Grid((shape[0], shape[1], shape[2]), affine)
    times = np.arange(shape[3], dtype=np.float64) * step if step > 0 else None
    return NiftiImage(
        grid,
        np.moveaxis(values, 3, 0) if len(shape) == 4 else values,
        times,
        placed,
        names,
        "sha256:" + sha256(data).hexdigest(),
    )


def read_nifti(path: Path | str) -> tuple[Grid, NDArray[Any]]:
    """(grid, values) of a NIfTI file: values (i, j, k), or (t, i, j, k). Raises FileRejected, StudyRejected."""
    image = open_nifti(path, "the NIfTI file")
    return image.grid, image.values


def _image_of(grid: Grid, values: NDArray[Any]) -> Any:
    ras = _RAS_TO_LPS @ grid.affine
    make: Any = nibabel.Nifti1Image
    image = make(values, ras)
    image.header.set_xyzt_units("mm", "sec")
    image.set_sform(ras, code=1)
    image.set_qform(ras, code=1)
    return image


def _write(path: Path | str, image: Any) -> None:
    data = image.to_bytes()
    if str(path).endswith(".gz"):
        data = gzip.compress(data, compresslevel=6, mtime=0)
    with written_whole(path) as beside:
        beside.write_bytes(data)


def write_nifti(path: Path | str, grid: Grid, values: NDArray[Any]) -> None:
    """Write values on a grid as float32, whole or not at all; equal content gives equal bytes.

    values  (i, j, k), or (t, i, j, k) for several volumes
    path    ends in ``.nii`` or ``.nii.gz``

    Raises StorageFault, ConfigurationRejected (see core.files).
    """
    volumes = np.moveaxis(values, 0, 3) if values.ndim == 4 else values
    _write(path, _image_of(grid, np.asarray(volumes, dtype=np.float32)))


def write_labels(path: Path | str, labels: LabelImage) -> None:
    """Write a label image as unsigned bytes, with the names of its regions in a comment of the header."""
    image = _image_of(labels.grid, np.asarray(labels.values, dtype=np.uint8))
    names = {str(value): name for value, name in sorted(labels.names.items())}
    comment = _NAMES_KEY + json.dumps(names, ensure_ascii=False)
    image.header.extensions.append(Nifti1Extension("comment", comment.encode()))
    _write(path, image)


def whole_labels(values: NDArray[Any], where: str) -> NDArray[np.uint8]:
    """Label values as unsigned bytes. Raises SegmentationRejected unless all are whole numbers from 0 to 255."""
    if (
        values.ndim != 3
        or not np.isfinite(values).all()
        or (values < 0).any()
        or (values > 255).any()
        or (values != np.rint(values)).any()
    ):
        raise SegmentationRejected(
            f"{where} holds values that are no labels",
            "one volume of whole numbers, 0 to 255",
            "give a label image: 0 outside, one number a region",
        )
    return np.asarray(values, dtype=np.uint8)
