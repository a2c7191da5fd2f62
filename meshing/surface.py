"""From labels to smooth surfaces: the host around a tumour, signed distances, and the level that keeps the volume.

A label image is a staircase. Its signed distance, interpolated between the slices and smoothed, is a field whose
level surfaces are smooth; smoothing shrinks what is convex, so the level is chosen by bisection such that the
closed surface holds the volume of the voxels again (project specification, tissue §1.1).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.optimize import brentq
from scipy.sparse import csr_array
from skimage.measure import marching_cubes

from ..core.errors import SegmentationRejected
from ..core.quantity import Parameter
from ..imaging.study import Grid, LabelImage

REGIONS: Mapping[str, int] = {"host": 1, "tumour": 2}
"""Region values of the names that the project knows; further labels follow from 3 in the order of their values."""

HOST_MARGIN = Parameter(
    1.0,
    "1",
    "width of the host around the tumour, in radii of the ball of the tumour's volume",
    "ASSUMED: a growing ball in a host of twice its radius meets 14 % (stretch 1.05) to 19 % (1.2) less pressure "
    "than in an endless host (project specification, tissue §8, T4); springs on the far boundary stand for what lies "
    "beyond. Three radii would leave the body of a child, a breast or a mouse",
    (0.5, 2.0),
    assumed=True,
)

SMOOTHING = Parameter(
    0.75,
    "1",
    "width of the Gaussian that smooths signed distances, in edges of the cube of a voxel's volume",
    "project specification, tissue §1.1: 1 mm for voxels of 0.9 x 0.9 x 3 mm",
    (0.3, 1.5),
)

MARGIN_VOXELS = 3
"""Voxels of the largest spacing that a host is at least wide."""

TAUBIN_SHRINK, TAUBIN_GROW, TAUBIN_ROUNDS = 0.5, -0.53, 10
"""Weights and rounds of Taubin's smoothing [Taubin 1995, SIGGRAPH '95, doi 10.1145/218380.218473]."""


def host_around(
    labels: LabelImage, *, margin: float | None = None, body: NDArray[np.bool_] | None = None
) -> LabelImage:
    """The tumour (value 2) inside a host (value 1) of the given width, on a grid padded so that nothing is cut.

    margin   mm from the tumour's surface to the far boundary; by default HOST_MARGIN radii, at least 3 voxels
    body     (i, j, k) True inside the body, on the grid of ``labels``; the host ends there.
             ASSUMED: beyond the image the body continues as at the image's border

    The host is one piece: what the body's outline cuts off from the tumour is left out, and cavities wholly
    enclosed by the host are filled. Raises SegmentationRejected when there is no tumour.
    """
    tumour = labels.mask("tumour")
    if not tumour.any():
        raise SegmentationRejected(
            "no voxel is labelled 'tumour'",
            "a label image with a tumour",
            "name the label of the tumour, or check the segmentation",
        )
    spacing = labels.grid.spacing
    if margin is None:
        radius = np.cbrt(3.0 * labels.volume("tumour") * 1000.0 / (4.0 * np.pi))
        margin = max(HOST_MARGIN.value * float(radius), MARGIN_VOXELS * float(spacing.max()))
    reach = np.ceil(margin / spacing).astype(int) + 2
    box = ndimage.find_objects(tumour.astype(np.uint8))[0]
    before = np.array([max(0, int(r) - s.start) for r, s in zip(reach, box)])
    after = np.array([max(0, s.stop + int(r) - n) for r, s, n in zip(reach, box, tumour.shape)])
    widths = list(zip(before, after))
    padded = np.pad(tumour, widths)
    around = tuple(slice(s.start + b - r, s.stop + b + r) for s, b, r in zip(box, before, reach))
    near = ndimage.distance_transform_edt(~padded[around], sampling=spacing) <= margin
    if body is not None:
        near &= np.pad(np.asarray(body, bool), widths, mode="edge")[around]
    near = _pieces_with(ndimage.binary_fill_holes(near | padded[around]), padded[around])
    values = np.zeros(padded.shape, np.uint8)
    values[around][near] = REGIONS["host"]
    values[padded] = REGIONS["tumour"]
    return LabelImage(
        _padded(labels.grid, before, padded.shape),
        values,
        {value: name for name, value in REGIONS.items()},
        labels.uid,
        labels.derived_from,
    )


def _pieces_with(mask: NDArray[np.bool_], seeds: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The face-connected pieces of a mask that hold a seed."""
    pieces, _ = ndimage.label(mask)
    return np.asarray(mask & np.isin(pieces, np.unique(pieces[seeds])))


def _padded(grid: Grid, before: NDArray[np.int64], shape: tuple[int, ...]) -> Grid:
    affine = grid.affine.copy()
    affine[:3, 3] = grid.world(-before)
    return replace(grid, shape=(shape[0], shape[1], shape[2]), affine=affine)


def labelled_part(labels: LabelImage) -> LabelImage:
    """The smallest block of the image that holds every label. Raises SegmentationRejected when there is none."""
    inside = np.isin(labels.values, list(labels.names))
    if not inside.any():
        raise SegmentationRejected("no labelled voxel", "a label image with a tumour", "check the segmentation")
    box = ndimage.find_objects(inside.astype(np.uint8))[0]
    values = np.where(inside[box], labels.values[box], 0).astype(labels.values.dtype)
    grid = _padded(labels.grid, -np.array([s.start for s in box]), values.shape)
    return replace(labels, grid=grid, values=values)


@dataclass(frozen=True, eq=False)
class LevelSets:
    """Smooth signed distances of the outside and of every region, sampled on an isotropic grid along the voxel axes.

    values    (regions + 1, i, j, k) mm, positive inside; number 0 is the outside
    spacing   mm between samples
    to_world  (4, 4) sample index to mm, LPS
    names     of the regions, in order (without the outside)
    targets   (regions,) mm³ that the voxels of each region hold
    """

    values: NDArray[np.float64]
    spacing: float
    to_world: NDArray[np.float64]
    names: tuple[str, ...]
    targets: NDArray[np.float64]

    @cached_property
    def cell_volume(self) -> float:
        """mm³ of one cell of the sampling grid."""
        return float(abs(np.linalg.det(self.to_world[:3, :3])))

    def world(self, index: NDArray[np.float64]) -> NDArray[np.float64]:
        """(…, 3) sample indices to mm, LPS."""
        return np.asarray(index @ self.to_world[:3, :3].T + self.to_world[:3, 3])

    def index(self, places: NDArray[np.float64]) -> NDArray[np.float64]:
        """(…, 3) mm, LPS, to sample indices."""
        return np.asarray(np.linalg.solve(self.to_world[:3, :3], (places - self.to_world[:3, 3]).T).T)

    @cached_property
    def within_host(self) -> NDArray[np.float64]:
        """(i, j, k) mm, the largest signed distance of the regions other than the host."""
        inner = [1 + place for place, name in enumerate(self.names) if name != "host"]
        return np.asarray(self.values[inner].max(axis=0))

    def region_value(self, number: int) -> int:
        """Mesh region value of region ``number`` (1 = the first of ``names``)."""
        return region_values(self.names)[self.names[number - 1]]


def region_values(names: tuple[str, ...]) -> dict[str, int]:
    """Region value of each name: host 1, tumour 2, others from 3 in the order given."""
    others = [name for name in names if name not in REGIONS]
    return {name: REGIONS[name] if name in REGIONS else 3 + others.index(name) for name in names}


def level_sets(labels: LabelImage, size: float, smoothing: float = SMOOTHING.value) -> LevelSets:
    """Signed distances of the outside and of every non-empty label, resampled and smoothed.

    size       mm, edge of the finest elements: the samples are about a fifth of it, or a voxel where that is larger
    smoothing  width of the Gaussian, in edges of the cube of a voxel's volume

    Distances are anisotropic Euclidean transforms, inside minus outside; between widely spaced slices their linear
    interpolation is shape-based interpolation [Raya & Udupa 1990, doi 10.1109/42.52980]. A sheared affine is taken
    along its own axes.
    """
    part = labelled_part(labels)
    values = [value for value in sorted(labels.names) if (part.values == value).any()]
    names = tuple(labels.names[value] for value in values)
    if len(set(names)) != len(names):
        raise SegmentationRejected(
            f"two labels share a name: {', '.join(names)}", "one name for each label", "merge or rename the labels"
        )
    voxel_edge = float(np.cbrt(labels.grid.voxel_volume))
    spacing, sigma = max(_samples(smoothing) * voxel_edge, 0.2 * size), max(smoothing * voxel_edge, 0.2 * size)
    voxel = part.grid.spacing
    reach = np.ceil((3.0 * sigma + 3.0 * spacing) / voxel).astype(int) + 1
    padded = np.pad(part.values, [(int(r), int(r)) for r in reach])
    shape = tuple(int(np.ceil((n - 1) * s / spacing)) + 1 for n, s in zip(padded.shape, voxel))
    fields = []
    for value in [0, *values]:
        distance = _signed_distance(padded == value, voxel)
        resampled = ndimage.affine_transform(distance, spacing / voxel, output_shape=shape, order=1, mode="nearest")
        fields.append(ndimage.gaussian_filter(resampled, sigma / spacing, mode="nearest"))
    to_world = labels.grid.affine.copy()
    to_world[:3, :3] *= spacing / voxel
    to_world[:3, 3] = part.grid.world(-reach)
    targets = [float((padded == value).sum()) * labels.grid.voxel_volume for value in values]
    return LevelSets(np.stack(fields), spacing, to_world, names, np.array(targets))


def _samples(smoothing: float) -> float:
    """Distance of the samples, in edges of the cube of a voxel's volume: closer where less is smoothed away."""
    return 0.8 if smoothing >= SMOOTHING.value else 0.6


def _signed_distance(inside: NDArray[np.bool_], sampling: NDArray[np.float64]) -> NDArray[np.float64]:
    """mm to the nearest voxel of the other side, positive inside."""
    return np.asarray(
        ndimage.distance_transform_edt(inside, sampling=sampling)
        - ndimage.distance_transform_edt(~inside, sampling=sampling)
    )


@dataclass(frozen=True, eq=False)
class Surface:
    """A closed triangulated surface, oriented outwards.

    points     (nodes, 3) mm, LPS
    triangles  (triangles, 3) node numbers
    level      mm of the signed distance on which it lies
    """

    points: NDArray[np.float64]
    triangles: NDArray[np.int64]
    level: float

    @property
    def volume(self) -> float:
        """mm³ enclosed: |sum of x1 . (x2 x x3)| / 6."""
        return enclosed_volume(self.points, self.triangles)


def enclosed_volume(points: NDArray[np.float64], triangles: NDArray[np.int64]) -> float:
    """mm³ inside closed surfaces oriented outwards (negative if inwards)."""
    a, b, c = np.moveaxis((points - points.mean(axis=0))[triangles], 1, 0)
    return float(np.einsum("ij,ij->", a, np.cross(b, c)) / 6.0)


def surface_with_volume(
    field: NDArray[np.float64], to_world: NDArray[np.float64], target: float, reach: float
) -> Surface:
    """The smoothed level surface of a signed distance that encloses ``target`` mm³, by bisection of the level.

    reach   mm: the level is sought within -reach … reach

    Raises SegmentationRejected when no level holds the volume: the region is thinner than the smoothing.
    """
    found: dict[float, Surface] = {}

    def excess(level: float) -> float:
        if not field.min() < level < field.max():
            return -target
        found[level] = _level_surface(field, to_world, level)
        return found[level].volume - target

    if not excess(-reach) > 0.0 > excess(reach):
        raise SegmentationRejected(
            f"no smooth surface within {reach:.2g} mm of the labels encloses their {target / 1000.0:.3g} mL",
            "a region of several voxels in every direction",
            "check the segmentation, or use images with finer voxels",
        )
    level = float(brentq(excess, -reach, reach, xtol=1e-4 * reach, rtol=1e-9))
    if level not in found:
        excess(level)
    return found[level]


def _level_surface(field: NDArray[np.float64], to_world: NDArray[np.float64], level: float) -> Surface:
    points, triangles, _, _ = marching_cubes(field, level, allow_degenerate=False)  # type: ignore[no-untyped-call]
    points = _taubin(points.astype(np.float64), triangles) @ to_world[:3, :3].T + to_world[:3, 3]
    triangles = triangles.astype(np.int64)
    if enclosed_volume(points, triangles) < 0.0:
        triangles = triangles[:, ::-1]
    return Surface(points, triangles, level)


def _taubin(points: NDArray[np.float64], triangles: NDArray[np.int64]) -> NDArray[np.float64]:
    """Smoothed points: alternate shrinking and growing steps towards the mean of the neighbours."""
    edges = np.unique(np.sort(triangles[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1), axis=0)
    rows, columns = np.concatenate([edges, edges[:, ::-1]]).T
    count = np.bincount(rows, minlength=len(points))
    mean = csr_array((1.0 / count[rows], (rows, columns)), shape=(len(points), len(points)))
    for _ in range(TAUBIN_ROUNDS):
        for weight in (TAUBIN_SHRINK, TAUBIN_GROW):
            points = points + weight * (mean @ points - points)
    return points
