"""Radiomic features of one region of one image, under the names and codes of the standard.

    image, mask -> interpolation -> re-segmentation -> grey levels -> features -> FEATURES.csv, FEATURES.json

The engine is mirp (Zwanenburg et al. 2024, doi 10.21105/joss.06413). Moran's I and Geary's C, which it samples
for large regions, are computed here, exactly, by Fourier transform.
"""

from __future__ import annotations

import csv
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from importlib.metadata import version
from math import isfinite
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.signal import fftconvolve

from ..core.errors import SegmentationRejected
from ..core.files import write_json, write_text
from .ibsi_names import FEATURES, NOT_OFFERED, Feature
from .nifti import write_nifti
from .radiomics_settings import RadiomicsSettings, Resegmentation
from .study import Grid

Progress = Callable[[str, float], None]

_ORDER = {"nearest": 0, "linear": 1, "cubic": 3}
_DIRECTIONAL = {
    "2D_avg": ("2d_average", "2d_avg"),
    "2D_comb": ("2d_slice_merge", "2d_s_mrg"),
    "2_5D_avg": ("2.5d_direction_merge", "2.5d_d_mrg"),
    "2_5D_comb": ("2.5d_volume_merge", "2.5d_v_mrg"),
    "3D_avg": ("3d_average", "3d_avg"),
    "3D_comb": ("3d_volume_merge", "3d_v_mrg"),
}
"""Aggregation to the engine's (setting, word in the names of its columns)."""
_ZONAL = {"2D": ("2d", "2d"), "2_5D": ("2.5d", "2.5d"), "3D": ("3d", "3d")}
COLUMNS = ("family", "name", "ibsi_code", "tag", "value", "unit", "aggregation", "settings")
"""Columns of FEATURES.csv."""


@dataclass(frozen=True)
class FeatureValue:
    """One value.

    aggregation  2D_avg … of a texture matrix, empty for other features
    value        NaN where the feature is undefined, as for a region of one voxel
    """

    feature: Feature
    aggregation: str
    value: float
    unit: str

    @property
    def tag(self) -> str:
        """The tag of the initiative's reference values, with its aggregation."""
        return f"{self.feature.tag}_{self.aggregation}" if self.aggregation else self.feature.tag


@dataclass(frozen=True)
class Radiomics:
    """The features of one region, and what they rest on.

    voxels   number inside the mask after interpolation and re-segmentation
    spacing  (x, y, z) mm after interpolation
    """

    values: tuple[FeatureValue, ...]
    settings: RadiomicsSettings
    voxels: int
    spacing: tuple[float, float, float]


def radiomics(
    grid: Grid,
    values: NDArray[np.floating],
    mask: NDArray[np.bool_],
    settings: RadiomicsSettings,
    progress: Progress | None = None,
) -> Radiomics:
    """Features of the region ``mask`` of an image.

    values  (i, j, k) on ``grid``; voxels without a value are left out of the mask
    mask    (i, j, k) True inside

    Raises SegmentationRejected when no voxel is left to compute from.
    """
    tell = progress or (lambda what, done: None)
    finite = np.isfinite(values)
    inside = mask & finite
    _check_left(inside, values, settings)
    tell("features", 0.1)
    table, image, region, spacing = _engine(grid, np.where(finite, values, 0.0), inside, settings)
    if not region.any():
        raise _nothing_left()
    tell("spatial correlation", 0.9)
    table |= dict(zip(("morph_moran_i", "morph_geary_c"), spatial_correlation(image, region, spacing)))
    rows = tuple(_rows(table, settings))
    tell("features", 1.0)
    return Radiomics(rows, settings, int(region.sum()), (spacing[2], spacing[1], spacing[0]))


def _check_left(inside: NDArray[np.bool_], values: NDArray[np.floating], settings: RadiomicsSettings) -> None:
    low, high = settings.resegmentation.lowest, settings.resegmentation.highest
    kept = values[inside]
    kept = kept[(kept >= (-np.inf if low is None else low)) & (kept <= (np.inf if high is None else high))]
    if not kept.size:
        raise _nothing_left()


def _nothing_left() -> SegmentationRejected:
    return SegmentationRejected(
        "no voxel of the region is left after interpolation and re-segmentation",
        "at least one voxel of the region inside the intensity range",
        "check the mask, or the range and the spacing of the configuration",
    )


# ------------------------------------------------------------------------------------------------------ the engine


@contextmanager
def _silence() -> Iterator[None]:
    """Keep the engine's log lines, remarks and warnings off the terminal."""
    root, quiet = logging.getLogger(), logging.NullHandler()
    root.addHandler(quiet)  # so that the engine adds none of its own
    level = root.level
    root.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        root.setLevel(level)
        root.removeHandler(quiet)


def _engine(
    grid: Grid, values: NDArray[np.float64], mask: NDArray[np.bool_], settings: RadiomicsSettings
) -> tuple[dict[str, float], NDArray[np.float64], NDArray[np.bool_], tuple[float, ...]]:
    """The engine's table, and image, intensity mask and (z, y, x) spacing after its processing.

    The image is handed over with its axes along those of space: no feature depends on where the patient lies.
    """
    with _silence(), TemporaryDirectory() as folder:
        from mirp import extract_features_and_images

        padded, mask = _clear_of_border(values, mask, resampled=settings.interpolation.spacing is not None)
        upright = Grid((mask.shape[0], mask.shape[1], mask.shape[2]), np.diag([*grid.spacing, 1.0]))
        places = [Path(folder) / name for name in ("image.nii", "mask.nii")]
        write_nifti(places[0], upright, padded)
        write_nifti(places[1], upright, mask.astype(np.float32))
        found = extract_features_and_images(
            image=str(places[0]),
            mask=str(places[1]),
            write_features=False,
            export_features=True,
            write_images=False,
            export_images=True,
            image_export_format="dict",
            **_engine_settings(settings),
        )
    if not found or not found[0][1] or not found[0][2]:
        raise _nothing_left()
    table, images, masks = found[0]
    numbers = {name: float(table[name].iloc[0]) for name in table.columns if name.split("_", 1)[0] in _GROUPS}
    image = np.asarray(images[0]["image"], dtype=np.float64)
    region = _resegmented(image, np.asarray(masks[0]["mask"], dtype=bool), settings.resegmentation)
    return numbers, image, region, tuple(map(float, images[0]["image_spacing"]))


def _resegmented(image: NDArray[np.float64], drawn: NDArray[np.bool_], choice: Resegmentation) -> NDArray[np.bool_]:
    """The intensity mask: what of the drawn region lies in the range, and within so many deviations of its mean.

    Both ranges are those of the drawn region, and are intersected (reference manual, arXiv 1612.07003, IF9H and 7ACA).
    The engine keeps this mask to itself.
    """
    low = -np.inf if choice.lowest is None else choice.lowest
    high = np.inf if choice.highest is None else choice.highest
    if choice.sigmas is not None and drawn.any():
        mean, reach = image[drawn].mean(), choice.sigmas * image[drawn].std()
        low, high = max(low, mean - reach), min(high, mean + reach)
    return drawn & (image >= low) & (image <= high)


def _clear_of_border(
    values: NDArray[np.float64], mask: NDArray[np.bool_], *, resampled: bool
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Image and mask, with a voxel more at both ends of every axis along which the mask reaches an end of the image.

    Beyond the image the engine's interpolated mask is empty, and a region at the border would lose half a voxel. Both
    ends are treated alike, so that the centre of the image stays.
    """
    reaches = [bool(resampled and (mask.take(0, axis).any() or mask.take(-1, axis).any())) for axis in range(3)]
    pad = [(int(one), int(one)) for one in reaches]
    return np.pad(values, pad, mode="edge"), np.pad(mask, pad)


_GROUPS = {feature.group for feature in FEATURES.values()}


def _engine_settings(settings: RadiomicsSettings) -> dict[str, Any]:
    interpolation, texture = settings.interpolation, settings.texture
    directional = [_DIRECTIONAL[name][0] for name in texture.aggregation]
    zonal = [_ZONAL[name][0] for name in texture.zones]
    chosen: dict[str, Any] = {
        "by_slice": settings.by_slice,
        "spline_order": _ORDER[interpolation.image],
        "roi_spline_order": _ORDER[interpolation.mask],
        "roi_interpolation_mask_inclusion_threshold": interpolation.least_share,
        "anti_aliasing": False,
        "base_feature_families": "all",
        **_levels("base", settings.discretisation),
        **_levels("ivh", settings.intensity_volume),
        "glcm_distance": float(texture.distance),
        "ngldm_distance": float(texture.distance),
        **{f"{family}_spatial_method": directional for family in ("glcm", "glrlm")},
        **{f"{family}_spatial_method": zonal for family in ("glszm", "gldzm", "ngtdm", "ngldm")},
    }
    if interpolation.spacing is not None:
        chosen["new_spacing"] = list(reversed(interpolation.spacing))
    if settings.image.round:
        chosen["image_modality"] = "ct"
    low, high = settings.resegmentation.lowest, settings.resegmentation.highest
    if low is not None or high is not None:
        chosen["resegmentation_intensity_range"] = [np.nan if edge is None else edge for edge in (low, high)]
    if settings.resegmentation.sigmas is not None:
        chosen["resegmentation_sigma"] = settings.resegmentation.sigmas
    return chosen


def _levels(stage: str, part: Any) -> dict[str, Any]:
    method = f"{stage}_discretisation_method"
    if part.method == "fixed-bin-size":
        return {method: "fixed_bin_size", f"{stage}_discretisation_bin_width": part.size}
    if part.method == "fixed-bin-number":
        return {method: "fixed_bin_number", f"{stage}_discretisation_n_bins": part.bins}
    return {method: "none"}


def _rows(table: Mapping[str, float], settings: RadiomicsSettings) -> Iterator[FeatureValue]:
    """The values under the standard's tags, in the order of the standard."""
    unit = settings.image.unit
    for feature in FEATURES.values():
        words: dict[str, str] = {"": ""}
        if feature.is_texture:
            chosen: Sequence[str] = settings.texture.zones
            known = _ZONAL
            if feature.group in ("cm", "rlm"):
                chosen, known = settings.texture.aggregation, _DIRECTIONAL
            words = {name: known[name][1] for name in chosen}
        for aggregation, word in words.items():
            in_bins = feature.group == "ivh" and settings.intensity_volume.method == "fixed-bin-number"
            value = table[_column(feature, word, settings, table)]
            yield FeatureValue(feature, aggregation, value, feature.unit_of("1" if in_bins else unit))


def _column(feature: Feature, word: str, settings: RadiomicsSettings, table: Mapping[str, float]) -> str:
    """The engine's name of a feature."""
    if feature.group in ("morph", "loc", "stat"):
        return feature.tag
    distance = f"d{settings.texture.distance}"
    middle = {"cm": [distance, word], "ngl": [distance, "a0.0", word]}.get(feature.group, [word] if word else [])
    start = "_".join([feature.tag, *middle])
    return next(name for name in table if name == start or name.startswith((f"{start}_fbn_n", f"{start}_fbs_w")))


# ---------------------------------------------------------------------------------------------- spatial correlation


def spatial_correlation(
    image: NDArray[np.floating], mask: NDArray[np.bool_], spacing: Sequence[float]
) -> tuple[float, float]:
    """Moran's I and Geary's C of the intensities x inside a mask, weights 1 / distance between voxel centres.

    I = N / W * sum_ij w_ij (x_i - m)(x_j - m) / sum_i (x_i - m)²
    C = (N - 1) / (2 W) * sum_ij w_ij (x_i - x_j)² / sum_i (x_i - m)²

    The sums over pairs are convolutions with the weights, so the cost is N log N and nothing is sampled. Source:
    reference manual of the initiative (arXiv 1612.07003), N365 and NPT7.

    image, mask  of equal shape
    spacing      mm along the axes of the image

    Both are 1 for a region of one intensity, NaN for one voxel.
    """
    count = int(mask.sum())
    if count < 2:
        return float("nan"), float("nan")
    box = tuple(slice(int(where.min()), int(where.max()) + 1) for where in np.nonzero(mask))
    inside = mask[box].astype(np.float64)
    deviation = np.where(mask[box], image[box] - image[mask].mean(), 0.0)
    power = float((deviation**2).sum())
    if power == 0.0:
        return 1.0, 1.0
    weights = _inverse_distances(inside.shape, spacing)
    of_mask, of_deviation = (fftconvolve(one, weights, mode="same") for one in (inside, deviation))
    total = float((inside * of_mask).sum())
    products = float((deviation * of_deviation).sum())
    differences = 2.0 * float((deviation**2 * of_mask).sum()) - 2.0 * products
    return count * products / (total * power), (count - 1) * differences / (2.0 * total * power)


def _inverse_distances(shape: Sequence[int], spacing: Sequence[float]) -> NDArray[np.float64]:
    """1 / distance from the middle of a box of offsets -(n-1) … n-1 along each axis, 0 at the middle."""
    axes = np.ix_(*[(np.arange(1 - n, n) * float(step)) ** 2 for n, step in zip(shape, spacing)])
    squared = sum(axes[1:], start=axes[0])
    middle = tuple(n - 1 for n in shape)
    squared[middle] = np.inf
    return np.asarray(1.0 / np.sqrt(squared))


# ------------------------------------------------------------------------------------------------------------ files


def write_features(path: Path | str, found: Radiomics, sources: Mapping[str, str]) -> Path:
    """Write FEATURES.csv and, beside it, FEATURES.json with everything the values rest on; returns the latter.

    sources  name to SHA-256 of what the features are of (image, mask)

    An undefined value is an empty cell, null in JSON.
    """
    path = Path(path)
    digest = found.settings.digest
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in found.values:
        value = repr(row.value) if isfinite(row.value) else ""
        feature = row.feature
        writer.writerow((feature.family, feature.name, feature.code, row.tag, value, row.unit, row.aggregation, digest))
    write_text(path, text.getvalue())
    beside = path.with_suffix(".json")
    write_json(beside, account_of(found) | {"sources": dict(sources)})
    return beside


def account_of(found: Radiomics) -> dict[str, Any]:
    """What the values rest on, ready for JSON: settings, their hash, versions, region, and what is not offered."""
    return {
        "settings": found.settings.model_dump(mode="json"),
        "settings_hash": found.settings.digest,
        "standard": "IBSI reference manual, arXiv 1612.07003; doi 10.1148/radiol.2020191145",
        "features": len(found.values),
        "undefined": [row.tag for row in found.values if not isfinite(row.value)],
        "not_offered": dict(NOT_OFFERED),
        "voxels": found.voxels,
        "spacing_mm": list(found.spacing),
        "versions": {name: version(name) for name in ("oncoscale", "mirp", "numpy", "scipy")},
    }
