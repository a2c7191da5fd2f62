"""Harmonisation of images: common voxels, bias field, z-score on a reference tissue, standard scale of intensities.

Physics comes first: nothing here corrects T1, B1, an input function or a b-value, and no result may enter Ktrans or
ADC (project specification, imaging §11).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK
from numpy.typing import NDArray

from ..core.errors import ConfigurationRejected, FileRejected, ModelRefused, SegmentationRejected
from ..core.files import write_json
from ..core.quantity import Parameter
from .resample import resample_values
from .study import Grid

N4_SHRINK = Parameter(
    4,
    "1",
    "factor by which an image is thinned while its bias field is found",
    source="Tustison et al. 2010, doi 10.1109/TMI.2010.2046908 (example of its authors' program)",
    range=(1, 8),
)
N4_ITERATIONS = (50, 50, 50, 50)
"""Most iterations a level of resolution, as in the example of the authors' program (same source)."""
LANDMARKS = tuple(float(decile) for decile in range(10, 100, 10))
"""Percentiles between the ends that are matched: the deciles [Nyúl et al. 2000, doi 10.1109/42.836373]."""
ENDS = (1.0, 99.0)
"""Percentiles that become the ends of the standard scale. ASSUMED: robust ends; the paper's own vary with the data."""
SCALE = (0.0, 100.0)
"""The ends of the standard scale. ASSUMED: any increasing pair will do."""
LEAST_IMAGES = Parameter(
    3,
    "1",
    "fewest images that a standard scale is learned from",
    source="project specification",
    range=(2, 100),
    assumed=True,
)
FORMAT = "oncoscale-scale-1"
itk: Any = SimpleITK  # a library without types


@dataclass(frozen=True, eq=False)
class Intensities:
    """An image while it is harmonised.

    values     (i, j, k) on ``grid``
    reference  (i, j, k) True inside the reference tissue, None if there is none
    steps      what was done, one phrase each
    """

    grid: Grid
    values: NDArray[np.float64]
    reference: NDArray[np.bool_] | None = None
    steps: tuple[str, ...] = ()

    def after(self, values: NDArray[np.float64], step: str) -> Intensities:
        """The image with other values on the same grid."""
        return replace(self, values=values, steps=(*self.steps, step))


def foreground(values: NDArray[np.floating]) -> NDArray[np.bool_]:
    """True where an image is brighter than its mean: the body, roughly [Nyúl et al. 2000]."""
    finite = np.isfinite(values)
    return np.asarray(finite & (np.where(finite, values, -np.inf) > values[finite].mean()))


# ---------------------------------------------------------------------------------------------------- common voxels


def resampled(image: Intensities, spacing: Sequence[float]) -> Intensities:
    """The image on voxels of ``spacing`` (i, j, k) mm over the same extent, trilinear; the reference by share."""
    if len(spacing) != 3 or min(spacing) <= 0:
        raise ConfigurationRejected("a voxel spacing", "three lengths above 0 mm", "write for example spacing=1,1,1")
    grid = grid_of_spacing(image.grid, spacing)
    values = resample_values(image.values, image.grid, grid)
    reference = image.reference
    if reference is not None:
        reference = resample_values(reference.astype(np.float64), image.grid, grid) >= 0.5
    step = f"resampled to {spacing[0]:g} x {spacing[1]:g} x {spacing[2]:g} mm"
    return replace(image, grid=grid, values=values, reference=reference, steps=(*image.steps, step))


def grid_of_spacing(grid: Grid, spacing: Sequence[float]) -> Grid:
    """A grid of another spacing with the same centre and directions, and at most the same extent."""
    extent = grid.spacing * grid.shape
    shape = [max(1, int(np.floor(length / step + 1e-6))) for length, step in zip(extent, spacing)]
    affine = grid.affine.copy()
    affine[:3, :3] = grid.affine[:3, :3] / grid.spacing * np.asarray(spacing, dtype=float)
    centre = grid.world((np.array(grid.shape) - 1) / 2)
    affine[:3, 3] = centre - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return Grid((shape[0], shape[1], shape[2]), affine, grid.frame_uid)


# -------------------------------------------------------------------------------------------------------- intensities


def without_bias(image: Intensities) -> Intensities:
    """The image divided by the smooth field that N4 finds [Tustison et al. 2010, doi 10.1109/TMI.2010.2046908].

    The field is found in the foreground of a thinned image and applied to the whole. Raises ModelRefused for values
    that are not positive there: N4 works on their logarithm.
    """
    body = foreground(image.values)
    if not body.any() or image.values[body].min() <= 0:
        raise ModelRefused(
            "the foreground of the image holds values of zero or below",
            "positive intensities, before any z-score",
            "correct the bias field first",
        )
    whole = itk.GetImageFromArray(np.where(np.isfinite(image.values), image.values, 0.0).T)
    whole = itk.Cast(whole, itk.sitkFloat32)
    whole.SetSpacing(tuple(map(float, image.grid.spacing)))
    mask = itk.GetImageFromArray(body.T.astype(np.uint8))
    mask.CopyInformation(whole)
    shrink = [int(min(N4_SHRINK.value, max(1, n // 4))) for n in image.grid.shape]
    corrector = itk.N4BiasFieldCorrectionImageFilter()
    corrector.SetMaximumNumberOfIterations(N4_ITERATIONS)
    corrector.SetNumberOfThreads(1)  # sums in one order: the result does not depend on the machine
    corrector.Execute(itk.Shrink(whole, shrink), itk.Shrink(mask, shrink))
    field = np.exp(itk.GetArrayFromImage(corrector.GetLogBiasFieldAsImage(whole)).T.astype(np.float64))
    return image.after(image.values / field, "N4 bias field correction")


def z_score(image: Intensities) -> Intensities:
    """Intensities as distance from the mean of the reference tissue, in its standard deviations.

    Without a reference tissue the foreground stands for it. Raises SegmentationRejected for one without two
    different values.
    """
    where = image.reference if image.reference is not None else foreground(image.values)
    tissue = image.values[where & np.isfinite(image.values)]
    if tissue.size < 2 or tissue.std() == 0:
        raise SegmentationRejected(
            f"a reference tissue of {tissue.size} voxels without two different values",
            "a region of tissue",
            "draw the reference tissue again",
        )
    step = f"z-score on {'the reference tissue' if image.reference is not None else 'the foreground'}"
    return image.after((image.values - tissue.mean()) / tissue.std(), step)


@dataclass(frozen=True)
class StandardScale:
    """Where the percentiles ENDS[0], LANDMARKS, ENDS[1] of a foreground come to lie, and how many images said so."""

    landmarks: tuple[float, ...]
    images: int


def _percentiles(values: NDArray[np.floating]) -> NDArray[np.float64]:
    found = np.percentile(values[foreground(values)], [ENDS[0], *LANDMARKS, ENDS[1]])
    if not (np.diff(found) > 0).all():
        raise ModelRefused(
            "an image whose percentiles coincide (few different intensities)",
            "a magnitude image",
            "leave this image out",
        )
    return np.asarray(found)


def learn_scale(images: Sequence[NDArray[np.floating]]) -> StandardScale:
    """A standard scale from a cohort of images of one kind [Nyúl et al. 2000, training stage].

    The ends of each image go to the ends of SCALE, its deciles linearly between; the scale is their mean. Raises
    ModelRefused for fewer than LEAST_IMAGES images.
    """
    if len(images) < LEAST_IMAGES.value:
        raise ModelRefused(
            f"{len(images)} images to learn a scale from",
            f"at least {LEAST_IMAGES.value:g} of one kind",
            "give more images: a scale is never learned from one patient",
        )
    lines = np.array([_percentiles(image) for image in images])
    scaled = SCALE[0] + (SCALE[1] - SCALE[0]) * (lines - lines[:, :1]) / (lines[:, -1:] - lines[:, :1])
    return StandardScale(tuple(float(value) for value in scaled.mean(axis=0)), len(images))


def on_scale(image: Intensities, scale: StandardScale) -> Intensities:
    """The image with its own percentiles moved onto the standard scale, linearly between them and beyond the ends.

    Equal order is kept: brighter stays brighter [Nyúl et al. 2000, transformation stage].
    """
    own, standard = _percentiles(image.values), np.array(scale.landmarks)
    piece = np.clip(np.searchsorted(own, image.values) - 1, 0, len(own) - 2)
    slope = np.diff(standard) / np.diff(own)
    values = standard[piece] + (image.values - own[piece]) * slope[piece]
    return image.after(values, f"Nyúl standard scale of {scale.images} images")


def write_scale(path: Path | str, scale: StandardScale) -> None:
    """Write a standard scale as JSON."""
    percentiles = [ENDS[0], *LANDMARKS, ENDS[1]]
    source = "Nyúl et al. 2000, doi 10.1109/42.836373"
    write_json(
        path,
        {
            "format": FORMAT,
            "source": source,
            "percentiles": percentiles,
            "landmarks": scale.landmarks,
            "images": scale.images,
        },
    )


def read_scale(path: Path | str) -> StandardScale:
    """Read what write_scale wrote. Raises FileRejected."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        landmarks = tuple(float(value) for value in content["landmarks"])
        if content["format"] != FORMAT or len(landmarks) != len(LANDMARKS) + 2 or not (np.diff(landmarks) > 0).all():
            raise ValueError
        return StandardScale(landmarks, int(content["images"]))
    except (OSError, ValueError, KeyError, TypeError):
        raise FileRejected(
            "the standard scale cannot be read",
            "a file written by `oncoscale harmonise learn`",
            "check its path, or learn it again",
        ) from None
