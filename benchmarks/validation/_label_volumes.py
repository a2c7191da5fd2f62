"""Label volumes that nobody drew: everything a segmentation can do to a mesher, from a seed.

Each kind is a function of a random generator and a grid shape that answers label values: 0 outside, 2 the tumour, 3 and
above what else is labelled. The host (1) is laid around afterwards, or left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from oncoscale.imaging.study import Grid, LabelImage

Labels = NDArray[np.uint8]
Places = NDArray[np.float64]
Random = np.random.Generator

SPACINGS = ((1.0, 1.0, 1.0), (0.9, 0.9, 3.0), (0.7, 0.7, 5.0), (2.0, 2.0, 2.0), (0.25, 0.25, 1.5), (1.5, 1.0, 3.0))
"""mm: isotropic, slices of 3 and 5 mm, a mouse, and three different edges."""

EXTENT = (20, 36)
"""Voxels in the plane, from and to (without it)."""


@dataclass(frozen=True)
class Volume:
    """A label volume with its seed, its kind and whether a host lies around it."""

    seed: int
    kind: str
    labels: LabelImage
    with_host: bool

    @property
    def is_nested(self) -> bool:
        """A tumour in a host and nothing else."""
        return set(self.labels.names.values()) == {"host", "tumour"}


def volume(seed: int) -> Volume:
    """The label volume of a seed: kinds in turn, everything else by chance. Equal seeds give equal voxels."""
    random = np.random.default_rng(seed)
    kind = list(KINDS)[seed % len(KINDS)]
    spacing = np.array(SPACINGS[random.integers(len(SPACINGS))])
    plane = int(random.integers(*EXTENT))
    slices = max(3, int(np.ceil(plane * spacing[0] / spacing[2] * random.uniform(0.7, 1.1))))
    shape = (plane, int(random.integers(*EXTENT)), slices)
    place = (np.stack(np.indices(shape), axis=-1) - (np.array(shape) - 1) / 2.0) * spacing
    drawn = KINDS[kind](random, place)
    if not (drawn == 2).any():
        drawn[tuple(n // 2 for n in shape)] = 2
    with_host = bool(kind not in ("border",) and random.random() < 0.85)
    margin = float(max(3.0 * spacing.max(), 0.25 * _reach(place)))
    values, widths = _within_host(drawn, spacing, margin) if with_host else (drawn, np.zeros(3, int))
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = -widths * spacing
    names = {int(value): NAMES.get(int(value), f"label {value}") for value in np.unique(values[values > 0])}
    return Volume(seed, kind, LabelImage(Grid(values.shape, affine), values, names), with_host)


LOBES = ((0, 0, 0, 18), (14, 6, 4, 13), (-10, 12, -6, 13), (4, -14, 8, 12), (-12, -8, 6, 11))
"""mm: middles and radii of the balls that make a lobed tumour of 55 mL."""


def lobed() -> LabelImage:
    """A lobed tumour of 55 mL on voxels of 1 x 1 x 3 mm."""
    shape, spacing = (80, 72, 26), np.array([1.0, 1.0, 3.0])
    place = (np.stack(np.indices(shape), axis=-1) - (np.array(shape) - 1) / 2.0) * spacing
    inside = np.any([((place - lobe[:3]) ** 2).sum(axis=-1) < lobe[3] ** 2 for lobe in LOBES], axis=0)
    return LabelImage(Grid(shape, np.diag([*spacing, 1.0])), inside.astype(np.uint8), {1: "tumour"})


NAMES: Mapping[int, str] = {1: "host", 2: "tumour"}


def _within_host(drawn: Labels, spacing: NDArray[np.float64], margin: float) -> tuple[Labels, NDArray[np.int64]]:
    """The labels in a host of ``margin`` mm, on a grid wide enough, and the voxels added before each axis."""
    widths = np.ceil(margin / spacing).astype(int) + 2
    padded = np.pad(drawn, [(int(width), int(width)) for width in widths])
    near = ndimage.distance_transform_edt(padded == 0, sampling=spacing) <= margin
    near = ndimage.binary_fill_holes(near)
    return np.where((padded == 0) & near, 1, padded).astype(np.uint8), widths


def _reach(place: Places) -> float:
    """mm from the middle to the nearest side."""
    return float(np.abs(place).reshape(-1, 3).max(axis=0).min())


def _ball(random: Random, place: Places, least: float, most: float, spread: float = 0.4) -> NDArray[np.bool_]:
    """A ball of a radius between two fractions of the reach, its middle within a fraction of it."""
    reach = _reach(place)
    middle = random.uniform(-spread, spread, 3) * reach
    return np.asarray(((place - middle) ** 2).sum(axis=-1) < (random.uniform(least, most) * reach) ** 2)


def _noise(random: Random, place: Places, width: float) -> NDArray[np.float64]:
    """Smooth noise of unit deviation: Gaussian, ``width`` in parts of the reach."""
    step = np.array([np.ptp(place[..., axis]) / max(1, place.shape[axis] - 1) for axis in range(3)])
    field = ndimage.gaussian_filter(
        random.standard_normal(place.shape[:3]), width * _reach(place) / np.maximum(step, 1e-9)
    )
    return np.asarray(field / max(float(field.std()), 1e-12))


def _drawn(mask: NDArray[np.bool_]) -> Labels:
    return np.asarray(np.where(mask, 2, 0).astype(np.uint8))


def ball(random: Random, place: Places) -> Labels:
    """One ball."""
    return _drawn(_ball(random, place, 0.5, 0.9, 0.1))


def blob(random: Random, place: Places) -> Labels:
    """A lump with bays and bridges: noise above a threshold that falls from the middle outwards."""
    radius = np.linalg.norm(place, axis=-1) / _reach(place)
    return _drawn(_noise(random, place, random.uniform(0.1, 0.3)) > 3.0 * (radius - 0.6))


def pieces(random: Random, place: Places) -> Labels:
    """Two to six balls, apart or not."""
    return _drawn(np.any([_ball(random, place, 0.15, 0.45, 0.8) for _ in range(random.integers(2, 7))], axis=0))


def holes(random: Random, place: Places) -> Labels:
    """A ball with one to four cavities."""
    cavities = np.any([_ball(random, place, 0.1, 0.3, 0.5) for _ in range(random.integers(1, 5))], axis=0)
    return _drawn(_ball(random, place, 0.75, 0.95, 0.05) & ~cavities)


def shell(random: Random, place: Places) -> Labels:
    """The skin of a ball, one or two voxels thick and more, open or closed."""
    radius = np.linalg.norm(place, axis=-1) / _reach(place)
    thickness = random.uniform(0.12, 0.4)
    return _drawn(
        (radius < 0.9) & (radius > 0.9 - thickness) & (place[..., 0] < random.uniform(0.2, 2.0) * _reach(place))
    )


def touching(random: Random, place: Places) -> Labels:
    """A lump cut into two to five labels, each the part nearest to one of as many points."""
    mask = blob(random, place) > 0
    points = random.uniform(-0.6, 0.6, (random.integers(2, 6), 3)) * _reach(place)
    nearest = np.argmin(((place[..., None, :] - points) ** 2).sum(axis=-1), axis=-1)
    return np.asarray(np.where(mask, 2 + nearest, 0).astype(np.uint8))


def triple(random: Random, place: Places) -> Labels:
    """A ball in three sectors that meet in a line."""
    angle = np.arctan2(place[..., 1], place[..., 0]) + random.uniform(-np.pi, np.pi)
    sector = (np.floor(angle / (2.0 * np.pi / 3.0)).astype(int) % 3).astype(np.uint8)
    return np.asarray(np.where(_ball(random, place, 0.7, 0.9, 0.1), 2 + sector, 0).astype(np.uint8))


def nested(random: Random, place: Places) -> Labels:
    """A dead core (3) in a tumour, a rim (4) around it, each a voxel or more."""
    radius = np.linalg.norm(place, axis=-1) / _reach(place) + 0.06 * _noise(random, place, 0.2)
    inner, outer = random.uniform(0.2, 0.45), random.uniform(0.6, 0.75)
    return np.asarray(np.select([radius < inner, radius < outer, radius < 0.9], [3, 2, 4], 0).astype(np.uint8))


def sheet(random: Random, place: Places) -> Labels:
    """A sheet of one or two voxels, flat or bent, across any axis."""
    axis = int(random.integers(3))
    step = max(np.ptp(place[..., axis]) / max(1, place.shape[axis] - 1), 1e-9)
    height = place[..., axis] + random.uniform(0.0, 0.4) * place[..., (axis + 1) % 3] ** 2 / _reach(place)
    within = np.linalg.norm(np.delete(place, axis, axis=-1), axis=-1) < random.uniform(0.6, 0.9) * _reach(place)
    return _drawn((np.abs(height) < random.choice([0.55, 1.05]) * step) & within)


def vessel(random: Random, place: Places) -> Labels:
    """One to three tubes of one to three voxels in radius along bent lines, and a ball that they feed."""
    reach = _reach(place)
    along = np.linspace(-1.0, 1.0, 60)[:, None] * reach
    step = float(np.ptp(place[..., 0]) / (place.shape[0] - 1))
    mask = _ball(random, place, 0.25, 0.45, 0.1)
    for _ in range(random.integers(1, 4)):
        direction, bend = random.standard_normal((2, 3))
        line = along * direction / np.linalg.norm(direction) + bend * 0.3 * np.sin(2.0 * along / reach)
        distance = np.min([np.linalg.norm(place - point, axis=-1) for point in line], axis=0)
        mask |= distance < random.uniform(1.0, 3.0) * step
    return _drawn(mask)


def border(random: Random, place: Places) -> Labels:
    """A ball and a second label cut off by the border of the image, without a host."""
    drawn = _drawn(_ball(random, place, 0.8, 1.3, 0.8))
    drawn[_ball(random, place, 0.4, 0.8, 0.9)] = 3
    return drawn


def speckle(random: Random, place: Places) -> Labels:
    """Single voxels, with or without a ball beside them."""
    mask = random.random(place.shape[:3]) < random.uniform(0.0005, 0.01)
    return _drawn(mask | (_ball(random, place, 0.3, 0.5) if random.random() < 0.7 else False))


def checkerboard(random: Random, place: Places) -> Labels:
    """Cubes of one to four voxels of two labels, or of one and the outside, that touch at edges and corners."""
    edge = int(random.integers(1, 5))
    odd = (np.stack(np.indices(place.shape[:3])) // edge).sum(axis=0) % 2
    return np.asarray(np.where(odd, 2, random.choice([0, 3])).astype(np.uint8) * _ball(random, place, 0.5, 0.8, 0.1))


def ring(random: Random, place: Places) -> Labels:
    """A torus, or two that pass through each other."""
    reach = _reach(place)

    def torus(offset: float, axes: tuple[int, int, int]) -> NDArray[np.bool_]:
        x, y, z = (place[..., axis] for axis in axes)
        return np.asarray((np.hypot(x - offset * reach, y) - 0.55 * reach) ** 2 + z**2 < (width * reach) ** 2)

    width = random.uniform(0.12, 0.25)
    mask = torus(0.0, (0, 1, 2))
    return _drawn(mask | torus(0.5, (0, 2, 1)) if random.random() < 0.5 else mask)


def pinched(random: Random, place: Places) -> Labels:
    """Two balls that meet in a point, an edge or a neck of a voxel, of one label or of two."""
    reach = _reach(place)
    radius = random.uniform(0.35, 0.5) * reach
    apart = random.uniform(0.95, 1.02) * radius
    one, two = (np.linalg.norm(place - [side * apart, 0.0, 0.0], axis=-1) < radius for side in (-1.0, 1.0))
    return np.asarray(np.select([one, two], [2, random.choice([2, 3])], 0).astype(np.uint8))


def crowd(random: Random, place: Places) -> Labels:
    """Six to twelve labels side by side: balls drawn over each other."""
    drawn = _drawn(_ball(random, place, 0.3, 0.5, 0.2))
    for value in range(3, 3 + int(random.integers(5, 11))):
        drawn[_ball(random, place, 0.15, 0.5, 0.7) & (drawn != 2)] = value
    return drawn


KINDS: Mapping[str, Callable[[Random, Places], Labels]] = {
    one.__name__: one
    for one in (
        ball, blob, pieces, holes, shell, touching, triple, nested, sheet, vessel, border, speckle, checkerboard, ring,
        pinched, crowd,
    )
}  # fmt: skip
