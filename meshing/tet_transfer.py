"""From the elements of one mesh to those of another: the volumes they share, and a plan that loses nothing.

Two meshes of the same body differ in their elements everywhere and in their regions along the surfaces, where each has
its own facets. ``carry`` gives the volume that every new element takes from every old one of its region: what both
share, found by clipping, and then what the facets left on the wrong side of a surface, handed to the nearest that lacks
it. Rows add up to the new elements and columns to the old ones, so that means over the rows keep every integral, every
constant and every bound (project specification, tissue §2, §7.2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_array, csr_array
from scipy.spatial import cKDTree

from .mesh import TumourMesh

Real = NDArray[np.float64]
Whole = NDArray[np.int64]

NEIGHBOURS = 24
"""Old elements among which a new one seeks what it lacks, nearest first."""


def shared_volumes(new: TumourMesh, old: TumourMesh) -> csr_array:
    """(new elements, old elements) mm³ that every element of one mesh shares with every element of another.

    A tetrahedron of the new mesh is written in the barycentric coordinates of one of the old, where the inside is
    where all four are positive, and clipped by each of them in turn.
    """
    pointer, numbers, low, width, counts = _bins(old)
    starts, columns, volumes = _overlaps(
        new.points, new.tetrahedra, old.points, old.tetrahedra, pointer, numbers, low, width, counts
    )
    return csr_array((volumes, columns, starts), shape=(len(new.tetrahedra), len(old.tetrahedra)))


@dataclass(frozen=True, eq=False)
class Carriage:
    """What every new element takes from the old ones.

    volumes   (new elements, old elements) mm³; its rows add up to the new elements, its columns to the old ones
    moved     share of the whole volume that lay on the other side of a surface and was taken from a neighbour
    distance  mm between the centroids of two elements of which one took such volume from the other, its mean by volume
    """

    volumes: csr_array
    moved: float
    distance: float

    def __call__(self, values: ArrayLike) -> Real:
        """(new elements, ...) means over what each takes, of (old elements, ...) values per volume."""
        old = np.asarray(values, np.float64)
        flat = old.reshape(len(old), -1)
        mean = (self.volumes @ flat) / self.volumes.sum(axis=1)[:, None]
        return np.asarray(np.clip(mean, flat.min(axis=0), flat.max(axis=0)).reshape(-1, *old.shape[1:]))

    @property
    def greatest(self) -> Whole:
        """(new elements,) the old element of which each takes most."""
        return np.asarray(self.volumes.argmax(axis=1)).ravel()


def carry(new: TumourMesh, old: TumourMesh) -> Carriage:
    """The plan that hands what the elements of ``old`` hold to those of ``new``, each region to itself.

    Both meshes have the same regions, each of the same volume up to rounding: otherwise a mean stays a mean, and an
    integral differs by the difference of volume.
    """
    shared = shared_volumes(new, old).tocoo()
    alike = new.region[shared.coords[0]] == old.region[shared.coords[1]]
    rows, columns, volumes = shared.coords[0][alike], shared.coords[1][alike], shared.data[alike]
    gaps = new.volumes - np.bincount(rows, volumes, len(new.tetrahedra))
    spare = old.volumes - np.bincount(columns, volumes, len(old.tetrahedra))
    parts = [(rows.astype(np.int64), columns.astype(np.int64), volumes)]
    moved = far = 0.0
    for region in np.unique(new.region):
        here, there = np.flatnonzero(new.region == region), np.flatnonzero(old.region == region)
        one, other, volume = _handed_on(new.centroids[here], gaps[here], old.centroids[there], spare[there])
        parts.append((here[one], there[other], volume))
        moved += float(volume.sum())
        far += float(volume @ np.linalg.norm(new.centroids[here[one]] - old.centroids[there[other]], axis=1))
    rows, columns, volumes = (np.concatenate(column) for column in zip(*parts))
    whole = coo_array((volumes, (rows, columns)), shape=shared.shape).tocsr()
    return Carriage(whole, moved / float(new.volumes.sum()), far / moved if moved else 0.0)


def _handed_on(lacking: Real, gaps: Real, having: Real, spare: Real) -> tuple[Whole, Whole, Real]:
    """Who takes how much from whom: nearest pairs first, and what then is left in the order of the elements.

    lacking, having  (elements, 3) centroids of those that lack and those that have volume to spare, mm³ in the others
    """
    least = 1e-13 * max(float(np.abs(gaps).max(initial=0.0)), float(np.abs(spare).max(initial=0.0)))
    takers, givers = np.flatnonzero(gaps > least), np.flatnonzero(spare > least)
    if not len(takers) or not len(givers):
        return takers[:0], givers[:0], np.zeros(0)
    near = min(NEIGHBOURS, len(givers))
    distance, place = cKDTree(having[givers]).query(lacking[takers], k=near)
    order = np.argsort(distance.ravel(), kind="stable")
    pairs = np.column_stack([np.repeat(np.arange(len(takers)), near), place.ravel()])[order].astype(np.int64)
    taker, giver, volume = _emptied(pairs, gaps[takers], spare[givers])
    return takers[taker], givers[giver], volume


@njit(cache=True)
def _emptied(pairs: Any, gaps: Any, spare: Any) -> Any:
    """Each pair moves as much as both allow; then the first that lacks takes from the first that has."""
    most = len(pairs) + len(gaps) + len(spare)
    takers, givers, volumes = np.empty(most, np.int64), np.empty(most, np.int64), np.empty(most)
    count = 0
    for k in range(len(pairs)):
        i, j = pairs[k]
        volume = min(gaps[i], spare[j])
        if volume > 0.0:
            takers[count], givers[count], volumes[count] = i, j, volume
            gaps[i] -= volume
            spare[j] -= volume
            count += 1
    i, j = 0, 0
    while i < len(gaps) and j < len(spare):
        volume = min(gaps[i], spare[j])
        if volume > 0.0:
            takers[count], givers[count], volumes[count] = i, j, volume
            gaps[i] -= volume
            spare[j] -= volume
            count += 1
        if gaps[i] <= 0.0:
            i += 1
        else:
            j += 1
    return takers[:count], givers[:count], volumes[:count]


def _bins(mesh: TumourMesh) -> tuple[Whole, Whole, Real, float, Whole]:
    """Cubes as wide as an element of mean volume, and the elements whose boxes touch each of them."""
    corners = mesh.points[mesh.tetrahedra]
    low, high = corners.min(axis=(0, 1)), corners.max(axis=(0, 1))
    width = 2.0 * float(np.cbrt(mesh.volumes.mean()))
    counts = np.maximum(np.ceil((high - low) / width).astype(np.int64), 1)
    pointer, numbers = _binned(corners.min(axis=1), corners.max(axis=1), low, width, counts)
    return pointer, numbers, low, width, counts


@njit(cache=True)
def _cubes(lowest: Any, highest: Any, low: Any, width: float, counts: Any, first: Any, last: Any) -> None:
    """The first and the last cube along each axis that a box touches."""
    for axis in range(3):
        first[axis] = min(max(int(np.floor((lowest[axis] - low[axis]) / width)), 0), counts[axis] - 1)
        last[axis] = min(max(int(np.floor((highest[axis] - low[axis]) / width)), 0), counts[axis] - 1)


@njit(cache=True)
def _binned(lowest: Any, highest: Any, low: Any, width: float, counts: Any) -> Any:
    """For each cube, in C order, the numbers of the boxes that touch it."""
    cubes = counts[0] * counts[1] * counts[2]
    pointer = np.zeros(cubes + 1, np.int64)
    first, last = np.zeros(3, np.int64), np.zeros(3, np.int64)
    numbers = np.empty(0, np.int64)
    for filling in range(2):
        place = pointer.copy()
        for e in range(len(lowest)):
            _cubes(lowest[e], highest[e], low, width, counts, first, last)
            for i in range(first[0], last[0] + 1):
                for j in range(first[1], last[1] + 1):
                    for k in range(first[2], last[2] + 1):
                        cube = (i * counts[1] + j) * counts[2] + k
                        if filling:
                            numbers[place[cube]] = e
                            place[cube] += 1
                        else:
                            pointer[cube + 1] += 1
        if not filling:
            pointer = np.cumsum(pointer)
            numbers = np.empty(pointer[-1], np.int64)
    return pointer, numbers


@njit(cache=True)
def _overlaps(
    points: Any,
    tetrahedra: Any,
    old_points: Any,
    old_tetrahedra: Any,
    pointer: Any,
    numbers: Any,
    low: Any,
    width: float,
    counts: Any,
) -> Any:
    """CSR arrays of the shared volumes, mm³; the columns of a row ascend."""
    starts = np.zeros(len(tetrahedra) + 1, np.int64)
    columns, volumes = np.empty(1024, np.int64), np.empty(1024)
    seen = np.full(len(old_tetrahedra), -1, np.int64)
    pieces, spare, order = np.empty((81, 4, 4)), np.empty((81, 4, 4)), np.empty(4, np.int64)
    first, last = np.zeros(3, np.int64), np.zeros(3, np.int64)
    count = 0
    for e in range(len(tetrahedra)):
        corners = points[tetrahedra[e]]
        lowest, highest = np.empty(3), np.empty(3)
        for axis in range(3):
            lowest[axis], highest[axis] = corners[:, axis].min(), corners[:, axis].max()
        own = _six(corners) / 6.0
        _cubes(lowest, highest, low, width, counts, first, last)
        begin = count
        for i in range(first[0], last[0] + 1):
            for j in range(first[1], last[1] + 1):
                for k in range(first[2], last[2] + 1):
                    cube = (i * counts[1] + j) * counts[2] + k
                    for place in range(pointer[cube], pointer[cube + 1]):
                        o = numbers[place]
                        if seen[o] == e:
                            continue
                        seen[o] = e
                        theirs = old_points[old_tetrahedra[o]]
                        if not _boxes_meet(lowest, highest, theirs):
                            continue
                        volume = _shared(corners, theirs, pieces, spare, order)
                        if volume > 1e-14 * own:
                            if count == len(columns):
                                columns = np.concatenate((columns, np.empty(count, np.int64)))
                                volumes = np.concatenate((volumes, np.empty(count)))
                            columns[count], volumes[count] = o, volume
                            count += 1
        ascending = np.argsort(columns[begin:count])
        columns[begin:count] = columns[begin:count][ascending]
        volumes[begin:count] = volumes[begin:count][ascending]
        starts[e + 1] = count
    return starts, columns[:count], volumes[:count]


@njit(cache=True)
def _boxes_meet(lowest: Any, highest: Any, corners: Any) -> bool:
    for axis in range(3):
        if corners[:, axis].min() > highest[axis] or corners[:, axis].max() < lowest[axis]:
            return False
    return True


@njit(cache=True)
def _six(t: Any) -> Any:
    """Six times the volume of a tetrahedron of (4, 3) corners."""
    x0, x1, x2 = t[1, 0] - t[0, 0], t[1, 1] - t[0, 1], t[1, 2] - t[0, 2]
    y0, y1, y2 = t[2, 0] - t[0, 0], t[2, 1] - t[0, 1], t[2, 2] - t[0, 2]
    z0, z1, z2 = t[3, 0] - t[0, 0], t[3, 1] - t[0, 1], t[3, 2] - t[0, 2]
    return abs(x0 * (y1 * z2 - y2 * z1) - x1 * (y0 * z2 - y2 * z0) + x2 * (y0 * z1 - y1 * z0))


@njit(cache=True)
def _shared(one: Any, other: Any, pieces: Any, spare: Any, order: Any) -> Any:
    """mm³ that two tetrahedra share: the first in barycentric coordinates of the second, clipped where one is 0."""
    edges = np.empty((3, 3))
    for corner in range(3):
        edges[:, corner] = other[corner + 1] - other[0]
    inverse = np.linalg.inv(edges)
    for corner in range(4):
        last = 1.0
        for axis in range(3):
            value = 0.0
            for k in range(3):
                value += inverse[axis, k] * (one[corner, k] - other[0, k])
            pieces[0, corner, axis + 1] = value
            last -= value
        pieces[0, corner, 0] = last
    count = 1
    for axis in range(4):
        if (pieces[:count, :, axis] < 0.0).any():
            filled = 0
            for piece in range(count):
                filled = _clip(pieces[piece], axis, spare, filled, order)
            pieces, spare, count = spare, pieces, filled
    volume = 0.0
    for piece in range(count):
        volume += _six(pieces[piece, :, 1:])
    return volume * _six(other) / 6.0


@njit(cache=True)
def _clip(t: Any, axis: int, out: Any, start: int, order: Any) -> int:
    """The part of a tetrahedron where a coordinate is positive, as up to three in ``out`` from ``start``; the end."""
    inside, beyond = 0, 4
    for corner in range(4):
        if t[corner, axis] >= 0.0:
            order[inside] = corner
            inside += 1
        else:
            beyond -= 1
            order[beyond] = corner
    if inside == 0:
        return start
    if inside == 4:
        out[start] = t
        return start + 1
    a, b, c, d = t[order[0]], t[order[1]], t[order[2]], t[order[3]]
    one = out[start]
    if inside == 1:
        one[0] = a
        _cut(a, b, axis, one[1])
        _cut(a, c, axis, one[2])
        _cut(a, d, axis, one[3])
        return start + 1
    # A prism of the triangles (0, 1, 2) of the first piece and (1, 2, 3) of the third.
    two, three = out[start + 1], out[start + 2]
    if inside == 2:
        one[0], one[3] = a, b
        _cut(a, c, axis, one[1])
        _cut(a, d, axis, one[2])
        _cut(b, c, axis, three[2])
        _cut(b, d, axis, three[3])
    else:
        one[0], one[1], one[2] = a, b, c
        _cut(a, d, axis, one[3])
        _cut(b, d, axis, three[2])
        _cut(c, d, axis, three[3])
    three[0], three[1] = one[2], one[3]
    two[0], two[1], two[2], two[3] = one[1], one[2], one[3], three[2]
    return start + 3


@njit(cache=True)
def _cut(one: Any, two: Any, axis: int, point: Any) -> None:
    """Where a coordinate is 0 on the line between two points, into ``point``."""
    part = one[axis] / (one[axis] - two[axis])
    for other in range(4):
        point[other] = one[other] + part * (two[other] - one[other])
    point[axis] = 0.0
