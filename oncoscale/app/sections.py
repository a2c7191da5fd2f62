"""Plane sections for people: images sampled on an axial, coronal or sagittal plane, and meshes cut by it.

Radiological convention everywhere: the reader looks from the patient's feet (axial) or face (coronal), so the
patient's right is on the left of the picture. Coordinates are LPS in mm.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from ..imaging.study import Grid
from ..meshing.mesh import TumourMesh


@dataclass(frozen=True)
class Plane:
    """One of the three orthogonal planes.

    name     axial, coronal, sagittal
    normal   axis across the plane; across, up: axes of the picture, and whether each runs against LPS
    letters  left, right, bottom, top of the picture
    """

    name: str
    normal: int
    across: int
    up: int
    up_sign: int
    letters: tuple[str, str, str, str]


AXIAL = Plane("axial", 2, 0, 1, -1, ("R", "L", "P", "A"))
CORONAL = Plane("coronal", 1, 0, 2, 1, ("R", "L", "F", "H"))
SAGITTAL = Plane("sagittal", 0, 1, 2, 1, ("A", "P", "F", "H"))
PLANES = (AXIAL, CORONAL, SAGITTAL)


@dataclass(frozen=True)
class Frame:
    """What part of a plane a picture shows, in mm of the picture's axes (across, up as drawn).

    centre  (3,) mm, LPS, a point of the plane
    """

    plane: Plane
    centre: tuple[float, float, float]
    half_width: float
    half_height: float

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """left, right, bottom, top in the picture's mm (up is reversed where the plane says so)."""
        across, up = self.centre[self.plane.across], self.plane.up_sign * self.centre[self.plane.up]
        return (across - self.half_width, across + self.half_width, up - self.half_height, up + self.half_height)

    def flat(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """(…, 3) mm, LPS, to (…, 2) in the picture."""
        return np.stack([points[..., self.plane.across], self.plane.up_sign * points[..., self.plane.up]], axis=-1)


def sample(values: NDArray[Any], grid: Grid, frame: Frame, *, pixels: int = 360, order: int = 1) -> NDArray[np.float64]:
    """(rows, columns) of a volume on the plane of ``frame``, first row at the bottom; NaN outside the volume."""
    left, right, bottom, top = frame.extent
    rows = max(2, round(pixels * frame.half_height / frame.half_width))
    across, up = np.meshgrid(_centres(left, right, pixels), _centres(bottom, top, rows))
    world = np.empty((rows, pixels, 3))
    world[..., frame.plane.normal] = frame.centre[frame.plane.normal]
    world[..., frame.plane.across] = across
    world[..., frame.plane.up] = up * frame.plane.up_sign
    index = np.moveaxis(grid.index(world), -1, 0)
    return np.asarray(map_coordinates(np.asarray(values, dtype=np.float64), index, order=order, cval=np.nan))


def _centres(low: float, high: float, n: int) -> NDArray[np.float64]:
    return low + (np.arange(n) + 0.5) * (high - low) / n


def cut_surface(points: NDArray[np.float64], triangles: NDArray[np.int64], frame: Frame) -> NDArray[np.float64]:
    """(segments, 2, 2): where the triangles of a surface cross the plane, in the picture's mm."""
    height = points[:, frame.plane.normal] - frame.centre[frame.plane.normal]
    above = height[triangles] > 0
    crossing = triangles[above.any(axis=1) & ~above.all(axis=1)]
    ends = _edge_crossings(points, height, crossing, ((0, 1), (1, 2), (2, 0)))
    return frame.flat(ends.reshape(-1, 2, 3)) if len(crossing) else np.empty((0, 2, 2))


def cut_tetrahedra(
    points: NDArray[np.float64], tetrahedra: NDArray[np.int64], frame: Frame
) -> tuple[list[NDArray[np.float64]], NDArray[np.int64]]:
    """Polygons (3 or 4 corners, picture's mm) in which the plane cuts tetrahedra, and the elements they belong to."""
    height = points[:, frame.plane.normal] - frame.centre[frame.plane.normal]
    above = (height[tetrahedra] > 0).sum(axis=1)
    polygons: list[NDArray[np.float64]] = []
    owners: list[NDArray[np.int64]] = []
    for corners, elements in ((3, np.flatnonzero((above == 1) | (above == 3))), (4, np.flatnonzero(above == 2))):
        if len(elements):
            cuts = _edge_crossings(points, height, tetrahedra[elements], tuple(combinations(range(4), 2)))
            polygons += [_ordered(corner) for corner in frame.flat(cuts.reshape(-1, corners, 3))]
            owners.append(elements)
    return polygons, np.concatenate(owners) if owners else np.empty(0, dtype=np.int64)


def _edge_crossings(
    points: NDArray[np.float64],
    height: NDArray[np.float64],
    simplices: NDArray[np.int64],
    edges: tuple[tuple[int, int], ...],
) -> NDArray[np.float64]:
    """(crossings, 3) mm where edges change side, simplex by simplex."""
    start, end = simplices[:, [edge[0] for edge in edges]], simplices[:, [edge[1] for edge in edges]]
    crosses = (height[start] > 0) != (height[end] > 0)
    start, end = start[crosses], end[crosses]
    share = height[start] / (height[start] - height[end])
    return np.asarray(points[start] + share[:, None] * (points[end] - points[start]))


def _ordered(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """The corners of a convex polygon in order around their mean."""
    spoke = corners - corners.mean(axis=0)
    return np.asarray(corners[np.argsort(np.arctan2(spoke[:, 1], spoke[:, 0]))])


def frame_around(
    points: NDArray[np.float64],
    centre: NDArray[np.float64],
    plane: Plane,
    *,
    margin: float = 0.35,
    least_mm: float = 8.0,
) -> Frame:
    """A square frame of ``plane`` that shows all ``points`` with a margin, centred on their extent."""
    low, high = points.min(axis=0), points.max(axis=0)
    middle = (low + high) / 2.0
    middle[plane.normal] = centre[plane.normal]
    half = max(high[plane.across] - low[plane.across], high[plane.up] - low[plane.up]) / 2.0
    half += max(margin * half, least_mm)
    return Frame(plane, (float(middle[0]), float(middle[1]), float(middle[2])), float(half), float(half))


def largest_section(mesh: TumourMesh, plane: Plane) -> NDArray[np.float64]:
    """(3,) mm: a point of the plane, parallel to ``plane``, in which the tumour's section is largest."""
    elements = mesh.elements_of("tumour")
    volumes, places = mesh.volumes[elements], mesh.centroids[elements]
    count, edges = np.histogram(places[:, plane.normal], bins=24, weights=volumes)
    area = np.convolve(count, [0.25, 0.5, 0.25], mode="same")
    best = int(np.argmax(area))
    middle = np.average(places, axis=0, weights=volumes)
    middle[plane.normal] = (edges[best] + edges[best + 1]) / 2.0
    return np.asarray(middle)
