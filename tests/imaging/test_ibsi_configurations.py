"""The five configurations of the standard: they say what its manual says, and do to an image what it says they do.

The manual's CT phantom is not at hand. Each configuration is run on an image that is made up, and what can be computed
by other means is: the manual's equations for interpolation, re-segmentation and grey levels, written down here with
numpy and scipy alone, and from them the voxels left, intensities, histogram, intensity-volume histogram and one matrix.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from oncoscale.imaging.radiomics import radiomics
from oncoscale.imaging.radiomics_settings import RadiomicsSettings, configuration_text
from oncoscale.imaging.study import Grid

SPACING = (0.977, 0.977, 3.0)
SHAPE = (26, 24, 8)


@dataclass(frozen=True)
class Row:
    """One column of the manual's tables (arXiv 1612.07003, section "Lung cancer CT image")."""

    by_slice: bool
    spacing: tuple[float, ...] | None
    order: int
    lowest: float | None
    highest: float | None
    sigmas: float | None
    bins: int | None
    size: float | None
    volume_bins: int | None
    volume_size: float | None


MANUAL = {
    "A": Row(True, None, 0, -500, 400, None, None, 25, None, None),
    "B": Row(True, (2, 2), 1, -500, 400, None, 32, None, None, None),
    "C": Row(False, (2, 2, 2), 1, -1000, 400, None, None, 25, None, 2.5),
    "D": Row(False, (2, 2, 2), 1, None, None, 3, 32, None, None, None),
    "E": Row(False, (2, 2, 2), 3, -1000, 400, 3, 32, None, 1000, None),
}


def settings(name: str) -> RadiomicsSettings:
    return RadiomicsSettings.model_validate(tomllib.loads(configuration_text(f"ibsi-{name}")))


@pytest.mark.parametrize("name", MANUAL)
def test_each_setting_is_that_of_the_manual(name: str) -> None:
    """Approach, interpolation, rounding, share of a voxel, range, outliers, grey levels, distance of neighbours."""
    wanted, found = MANUAL[name], settings(name)
    assert found.by_slice == wanted.by_slice
    assert found.interpolation.spacing == wanted.spacing
    if wanted.spacing:
        assert {"linear": 1, "cubic": 3}[found.interpolation.image] == wanted.order
        assert (found.interpolation.mask, found.interpolation.least_share) == ("linear", 0.5)
    assert found.image.round
    assert (found.resegmentation.lowest, found.resegmentation.highest) == (wanted.lowest, wanted.highest)
    assert found.resegmentation.sigmas == wanted.sigmas
    assert levels_of(found.discretisation) == (wanted.bins, wanted.size)
    assert levels_of(found.intensity_volume) == (wanted.volume_bins, wanted.volume_size)
    assert found.texture.distance == 1
    dimension = ("2D", "2_5D") if wanted.by_slice else ("3D",)
    assert found.texture.zones == dimension
    assert {one.rsplit("_", 1)[0] for one in found.texture.aggregation} == set(dimension)


def levels_of(part: Any) -> tuple[int | None, float | None]:
    return (
        part.bins if part.method == "fixed-bin-number" else None,
        part.size if part.method == "fixed-bin-size" else None,
    )


# ------------------------------------------------------------------------------------------------- by other hands


def made_up() -> tuple[np.ndarray, np.ndarray]:
    """(image in HU, mask): soft tissue with air, bone and noise, in an ellipsoid."""
    rng = np.random.default_rng(11)
    i, j, k = np.meshgrid(*map(np.arange, SHAPE), indexing="ij")
    image = 40 + 60 * np.sin(i / 4.0) * np.cos(j / 5.0) + 25 * np.sin(k) + rng.normal(0, 30, SHAPE)
    image[(i - 9) ** 2 + (j - 12) ** 2 < 4] = -850
    image[(i - 17) ** 2 + (j - 11) ** 2 < 3] = 620
    mask = ((i - 12.3) / 9) ** 2 + ((j - 11.1) / 8) ** 2 + ((k - 3.6) / 3.1) ** 2 < 1
    return np.rint(image), mask


def interpolated(values: np.ndarray, spacing: tuple[float, ...], order: int) -> np.ndarray:
    """Grids aligned by their centres, of ceil(n s / s') points, the border continued (manual 026Q, QCY4)."""
    axes = []
    for n, old, new in zip(values.shape, SPACING, (*spacing, SPACING[2])):
        count = ceil(n * old / new - 1e-9)
        axes.append((n - 1 - new / old * (count - 1)) / 2 + new / old * np.arange(count))
    places = np.stack(np.meshgrid(*axes, indexing="ij"))
    return ndimage.map_coordinates(values.astype(float), places, order=order, mode="nearest")


@dataclass(frozen=True)
class Chain:
    """What the manual's chain makes of the image."""

    image: np.ndarray
    drawn: np.ndarray
    kept: np.ndarray
    levels: np.ndarray


def chain(row: Row) -> Chain:
    image, mask = made_up()
    if row.spacing:
        image = np.rint(interpolated(image, row.spacing, row.order))
        mask = interpolated(mask, row.spacing, 1) >= 0.5 - 1e-6
    kept = mask & (image >= (row.lowest or -np.inf)) & (image <= (row.highest or np.inf))
    if row.sigmas:
        kept &= np.abs(image - image[mask].mean()) <= row.sigmas * image[mask].std()
    return Chain(image, mask, kept, grey_levels(image, kept, row.bins, row.size, row.lowest))


def grey_levels(
    image: np.ndarray, kept: np.ndarray, bins: int | None, size: float | None, lowest: float | None
) -> np.ndarray:
    """Fixed bin number (manual K15C) or size (Q3RU), 1 the lowest; 0 outside."""
    inside = image[kept]
    levels = np.zeros(image.shape, int)
    if bins:
        share = (inside - inside.min()) / (inside.max() - inside.min())
        levels[kept] = np.minimum(np.floor(bins * share) + 1, bins)
    elif size:
        levels[kept] = np.floor((inside - (lowest or inside.min())) / size) + 1
    return levels


def histogram(levels: np.ndarray) -> dict[str, float]:
    """Mean, variance, entropy and uniformity of grey levels."""
    share = np.bincount(levels) / len(levels)
    share = share[share > 0]
    return {
        "ih_mean": levels.mean(),
        "ih_var": levels.var(),
        "ih_entropy": -(share * np.log2(share)).sum(),
        "ih_uniformity": (share**2).sum(),
        "ih_median": np.median(levels),
        "ih_max": levels.max(),
    }


def matrix(levels: np.ndarray, *, by_slice: bool) -> np.ndarray:
    """Co-occurrence of neighbours (distance 1), all directions, and all slices, in one symmetrical matrix."""
    size = levels.max() + 1
    counts = np.zeros((size, size))
    steps = [(i, j, k) for i in (-1, 0, 1) for j in (-1, 0, 1) for k in ((0,) if by_slice else (-1, 0, 1))]
    padded = np.pad(levels, 1)
    for step in steps:
        if any(step):
            there = np.roll(padded, step, axis=(0, 1, 2))
            both = (padded > 0) & (there > 0)
            np.add.at(counts, (padded[both], there[both]), 1)
    return counts / counts.sum()


def texture(levels: np.ndarray, *, by_slice: bool) -> dict[str, float]:
    share = matrix(levels, by_slice=by_slice)
    i, j = np.indices(share.shape)
    word = "2_5D_comb" if by_slice else "3D_comb"
    mean = (share * i).sum()
    return {
        f"cm_contrast_{word}": (share * (i - j) ** 2).sum(),
        f"cm_joint_avg_{word}": mean,
        f"cm_joint_var_{word}": (share * (i - mean) ** 2).sum(),
        f"cm_energy_{word}": (share**2).sum(),
        f"cm_inv_diff_{word}": (share / (1 + np.abs(i - j))).sum(),
    }


def volumes(found: Chain, row: Row) -> dict[str, float]:
    """Share of the volume at or above 10 % and 90 % of the range (manual: intensity-volume histogram)."""
    inside = found.image[found.kept]
    low, high = row.lowest, row.highest
    if row.volume_bins:
        inside = grey_levels(found.image, found.kept, row.volume_bins, None, None)[found.kept]
        low, high = 1, row.volume_bins
    elif row.volume_size:
        assert low is not None
        assert high is not None
        levels = grey_levels(found.image, found.kept, None, row.volume_size, low)[found.kept]
        inside = low + (levels - 0.5) * row.volume_size
        low, high = low + 0.5 * row.volume_size, high - 0.5 * row.volume_size
    elif low is None or high is None:
        low, high = inside.min(), inside.max()
    share = (inside - low) / (high - low)
    return {f"ivh_v{percent}": float((share >= percent / 100).mean()) for percent in (10, 90)}


def spatial(found: Chain, row: Row) -> dict[str, float]:
    """Moran's I and Geary's C of the voxels that are left, pair by pair (manual N365, NPT7)."""
    steps = (*(row.spacing or SPACING), SPACING[2])[:3]
    places, x = np.argwhere(found.kept) * steps, found.image[found.kept]
    apart = np.linalg.norm(places[:, None] - places[None], axis=-1)
    weight = np.where(apart > 0, 1 / np.where(apart > 0, apart, 1), 0)
    away, count = x - x.mean(), len(x)
    scale = weight.sum() * (away**2).sum()
    return {
        "morph_moran_i": count * (weight * np.outer(away, away)).sum() / scale,
        "morph_geary_c": (count - 1) * (weight * (x[:, None] - x[None]) ** 2).sum() / (2 * scale),
    }


@pytest.mark.parametrize("name", MANUAL)
def test_the_chain_does_what_the_manual_says(name: str) -> None:
    """Voxels left exactly; intensities, histograms, volumes and a matrix to rounding."""
    row, (image, mask) = MANUAL[name], made_up()
    grid = Grid(SHAPE, np.diag([*SPACING, 1.0]))
    found = radiomics(grid, image, mask, settings(name))
    values = {one.tag: one.value for one in found.values}
    made = chain(row)
    assert found.voxels == made.kept.sum()
    inside = made.image[made.kept]
    step = np.prod((*(row.spacing or SPACING), SPACING[2])[:3])
    wanted = {
        "morph_vol_approx": made.drawn.sum() * step,
        "stat_mean": inside.mean(),
        "stat_var": inside.var(),
        "stat_min": inside.min(),
        "stat_max": inside.max(),
        "stat_median": np.median(inside),
        **histogram(made.levels[made.kept]),
        **volumes(made, row),
        **texture(made.levels, by_slice=row.by_slice),
        **spatial(made, row),
    }
    assert {tag: values[tag] for tag in wanted} == pytest.approx(wanted, rel=1e-6)


def test_the_image_tells_the_configurations_apart() -> None:
    """It has air below and bone above every range, and outliers: every step takes voxels, and not the same ones."""
    made = {name: chain(row) for name, row in MANUAL.items()}
    assert all(one.kept.sum() < one.drawn.sum() for one in made.values())
    for one, other in ("CD", "CE", "DE"):
        assert (made[one].kept != made[other].kept).any()
