"""One image and one region of it from any format: what radiomics and the harmonisation of images start from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK
from numpy.typing import NDArray

from ..core.errors import FileRejected, SegmentationRejected, StudyRejected
from ..core.files import content_hash
from .dicom_files import read_dicom, reading
from .dicom_read import read_study
from .nifti import is_nifti, open_nifti
from .resample import resample_labels
from .segmentation import LABEL_MAP_SEGMENTATION, SEGMENTATION, STRUCTURE_SET, is_raster, read_region
from .study import Grid, LabelImage


@dataclass(frozen=True, eq=False)
class SingleImage:
    """One volume of intensities.

    values    (i, j, k) float64, physical values
    digest    SHA-256 of its files
    modality  DICOM modality, empty if unknown
    sources   SOP Instance UIDs of its DICOM objects, () for other formats
    """

    grid: Grid
    values: NDArray[np.float64]
    digest: str
    modality: str = ""
    sources: tuple[str, ...] = ()


def files_digest(path: Path | str) -> str:
    """SHA-256 of a file; of a folder, that of the sorted hashes of its files, so that names do not count."""
    path = Path(path)
    if path.is_file():
        return content_hash(path)
    hashes = sorted(content_hash(file) for file in path.rglob("*") if file.is_file())
    return sha256("\n".join(hashes).encode()).hexdigest()


def read_image(path: Path | str) -> SingleImage:
    """One image from NIfTI, NRRD, MetaImage, or DICOM (a file, or the folder of one series).

    Raises FileRejected for a damaged file, StudyRejected for a path that holds no image or several.
    """
    path = Path(path)
    if not path.exists():
        raise StudyRejected("there is no such image", "a NIfTI, NRRD or DICOM image", "check the path")
    if path.is_file() and is_nifti(path):
        nifti = open_nifti(path, "the image")
        return SingleImage(nifti.grid, _volume(nifti.values), files_digest(path))
    if path.is_file() and is_raster(path):
        grid, values = _read_raster(path)
        return SingleImage(grid, _volume(values), files_digest(path))
    return _read_dicom_image(path)


def _volume(values: NDArray[Any]) -> NDArray[np.float64]:
    if values.ndim != 3:
        raise StudyRejected(
            f"the image has {values.ndim} axes: several volumes", "one volume", "give one volume of the series"
        )
    volume = np.asarray(values, dtype=np.float64)
    if not np.isfinite(volume).any():
        raise StudyRejected("the image holds no finite value", "an image", "export the image again")
    return volume


def _read_raster(path: Path) -> tuple[Grid, NDArray[Any]]:
    with reading("the image", "write the image again, as .nrrd or .nii.gz"):
        image: Any = SimpleITK.ReadImage(str(path))
        values = SimpleITK.GetArrayFromImage(image).T
        if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
            raise FileRejected("the image is no plain volume", "three axes, one value a voxel", "write it as a volume")
        affine = np.eye(4)
        affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
        affine[:3, 3] = image.GetOrigin()
        return Grid((values.shape[0], values.shape[1], values.shape[2]), affine), values


def _read_dicom_image(path: Path) -> SingleImage:
    study = read_study(path)
    series = [one for one in study.series if one.values.ndim == 3]
    found: list[tuple[Grid, NDArray[Any], str, tuple[str, ...]]] = [
        (one.grid, one.values, one.modality, one.instance_uids) for one in series
    ]
    found = found or [(one.grid, one.values, "", one.derived_from) for one in study.maps]
    found = found or [(one.grid, one.values, "", one.derived_from) for one in study.labels]
    if len(found) != 1:
        raise StudyRejected(
            f"{len(found)} single volumes at the path of the image ({len(study.series)} series)",
            "exactly one volume",
            "give the folder of one series that is no dynamic series",
        )
    grid, values, modality, sources = found[0]
    return SingleImage(grid, _volume(values), files_digest(path), modality, sources)


def read_mask(
    path: Path | str, grid: Grid, *, roi: str | None = None, names: Mapping[int, str] | None = None
) -> NDArray[np.bool_]:
    """(i, j, k) True inside one region, on ``grid``: a mask on another grid gives each voxel the nearest label.

    path   DICOM SEG, structure set or label image, NIfTI, NRRD
    roi    name of the region; None: the one that is called a tumour, or the only one
    names  label value to name, for files that name none

    Raises FileRejected, SegmentationRejected, ConfigurationRejected (see segmentation.read_region).
    """
    path = Path(path)
    if not path.exists():
        raise SegmentationRejected("there is no such mask", "a segmentation", "check the path")
    files = [one for one in path.rglob("*") if one.is_file()] if path.is_dir() else [path]
    path = files[0] if len(files) == 1 else path
    if path.is_dir() or _is_plain_dicom(path):
        labels = _labels_of_study(path, names)
    else:
        labels, _ = read_region(path, roi, names=names)
    mask = resample_labels(_one_region(labels), grid).values > 0
    if not mask.any():
        raise SegmentationRejected(
            "the mask holds no voxel of the image",
            "a region inside the image",
            "give the segmentation that was drawn on this image",
        )
    return mask


def _is_plain_dicom(path: Path) -> bool:
    """True for a DICOM object that is an image, and no segmentation."""
    if is_nifti(path) or is_raster(path):
        return False
    header = read_dicom(path, "the mask", pixels=False)
    return header is not None and header.SOPClassUID not in (SEGMENTATION, LABEL_MAP_SEGMENTATION, STRUCTURE_SET)


def _labels_of_study(path: Path, names: Mapping[int, str] | None) -> LabelImage:
    """The label image among ordinary DICOM images; one of a single value needs no name."""
    labels = read_study(path, regions=names or {1: "tumour"}).labels
    if len(labels) != 1:
        raise SegmentationRejected(
            f"{len(labels)} label images at the path of the mask", "one", "give the file of one segmentation"
        )
    return labels[0]


def _one_region(labels: LabelImage) -> LabelImage:
    """The region ``tumour``, or the only one, as 0 and 1."""
    regions = sorted(set(labels.names.values()))
    name = "tumour" if "tumour" in regions else regions[0] if len(regions) == 1 else None
    if name is None:
        raise SegmentationRejected(
            f"regions {', '.join(regions) or 'without names'}", "one that is meant", "say which with --roi NAME"
        )
    return LabelImage(labels.grid, labels.mask(name).astype(np.uint8), {1: "tumour"})
