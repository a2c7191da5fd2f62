"""Maps between voxels, elements and nodes, conserving their integrals.

Everything rests on the exact volumes that tetrahedra and voxels share, found by clipping each tetrahedron with the
voxel planes (project specification, tissue §2). In the space of voxel indices voxels are unit cubes,
whatever the orientation of the image. A voxel without a valid value is left out, never taken as zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array

from ..core.quantity import Parameter
from ..imaging.study import Grid
from .mesh import TumourMesh
from .quality import face_pairs

MIN_VALID = Parameter(
    0.5,
    "1",
    "valid fraction of an element below which its value is taken from its neighbours",
    "project specification, tissue §2",
    (0.1, 0.9),
)


@dataclass(frozen=True, eq=False)
class ElementValues:
    """A map on the elements of a mesh.

    mean            (elements,) mean over the valid voxels that the element shares; NaN where nothing is known
    sd              (elements,) standard deviation over them (0 where the value was filled)
    valid_fraction  (elements,) share of the element's volume that lies in valid voxels
    filled          (elements,) True where the value was taken from neighbouring elements
    """

    mean: NDArray[np.float64]
    sd: NDArray[np.float64]
    valid_fraction: NDArray[np.float64]
    filled: NDArray[np.bool_]


def overlaps(mesh: TumourMesh, grid: Grid) -> csr_array:
    """(elements, voxels) mm³ that every element shares with every voxel; voxels in C order of [i, j, k].

    What of an element lies outside the grid is in no voxel: the row then sums to less than the element's volume.
    """
    corners = grid.index(mesh.points) + 0.5
    starts, voxels, volumes = _shared_volumes(corners, mesh.tetrahedra, np.array(grid.shape))
    return csr_array(
        (volumes * grid.voxel_volume, voxels, starts), shape=(len(mesh.tetrahedra), int(np.prod(grid.shape)))
    )


def to_elements(
    shared: csr_array, values: ArrayLike, valid: ArrayLike | None = None, *, mesh: TumourMesh | None = None
) -> ElementValues:
    """A map on voxels as means over elements.

    shared  from ``overlaps``
    values  (i, j, k) the map
    valid   (i, j, k) True where it may be used; NaN and infinity never are
    mesh    with it, the volumes count that lie outside the image, and elements that are valid for less than
            MIN_VALID take the mean of their neighbours of the same region, ring by ring; without it nothing is filled

    For elements that are not filled, the sum of mean times valid volume is the integral over the valid voxels.
    """
    value, usable = _flat(values, valid, shared)
    volume = shared.sum(axis=1) if mesh is None else mesh.volumes
    weight = shared @ usable
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = (shared @ (value * usable)) / weight
        sd = np.sqrt(_squares_around(shared, value, usable, mean) / weight)
    fraction = np.where(volume > 0.0, weight / np.where(volume > 0.0, volume, 1.0), 0.0)
    if mesh is None:
        return ElementValues(mean, sd, fraction, np.zeros(len(mean), bool))
    poor = fraction < MIN_VALID.value
    mean = _filled_from_neighbours(mesh, mean, poor)
    return ElementValues(mean, np.where(poor, 0.0, sd), fraction, poor & np.isfinite(mean))


def _flat(values: ArrayLike, valid: ArrayLike | None, shared: csr_array) -> tuple[NDArray[Any], NDArray[Any]]:
    value = np.asarray(values, np.float64).ravel()
    if value.size != shared.shape[1]:
        raise ValueError(f"a map of {value.size} voxels for overlaps with {shared.shape[1]}")
    usable = np.isfinite(value)
    if valid is not None:
        usable &= np.asarray(valid, bool).ravel()
    return np.where(usable, value, 0.0), usable.astype(np.float64)


def _squares_around(
    shared: csr_array, value: NDArray[np.float64], usable: NDArray[np.float64], mean: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(elements,) sum of shared volume times squared deviation from the element's mean."""
    row = np.repeat(np.arange(shared.shape[0]), np.diff(shared.indptr))
    deviation = (value[shared.indices] - mean[row]) ** 2 * usable[shared.indices]
    return np.asarray(np.bincount(row, shared.data * np.nan_to_num(deviation), shared.shape[0]), np.float64)


def _filled_from_neighbours(
    mesh: TumourMesh, mean: NDArray[np.float64], poor: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Poor elements take the volume-weighted mean of known face neighbours of their region, ring by ring."""
    _, sides = face_pairs(mesh.tetrahedra)
    inner = sides[sides[:, 1] >= 0]
    inner = inner[mesh.region[inner[:, 0]] == mesh.region[inner[:, 1]]]
    ends = np.concatenate([inner, inner[:, ::-1]])
    adjacent = csr_array((mesh.volumes[ends[:, 1]], (ends[:, 0], ends[:, 1])), shape=(len(mean),) * 2)
    known = ~poor & np.isfinite(mean)
    mean = np.where(known, mean, 0.0)
    while True:
        weight = adjacent @ known.astype(np.float64)
        reached = ~known & (weight > 0.0)
        if not reached.any():
            return np.where(known, mean, np.nan)
        mean[reached] = (adjacent @ mean)[reached] / weight[reached]
        known = known | reached


def coverage(shared: csr_array, grid: Grid) -> NDArray[np.float64]:
    """(i, j, k) fraction of every voxel that lies inside the mesh."""
    return np.asarray((shared.sum(axis=0) / grid.voxel_volume).reshape(grid.shape))


def conservation(
    shared: csr_array, values: ArrayLike, on_elements: ElementValues, valid: ArrayLike | None = None
) -> dict[str, float]:
    """The integral of a map over the mesh, taken on its voxels and on its elements; ready for JSON.

    voxel_integral  sum over valid voxels of value times the volume shared with the mesh
    mesh_integral   sum over elements of mean times valid volume, filled elements left out on both sides
    """
    value, usable = _flat(values, valid, shared)
    own = np.where(on_elements.filled | ~np.isfinite(on_elements.mean), 0.0, 1.0)
    on_voxels = float(((own @ shared) * usable) @ value)
    on_mesh = float((shared @ usable * own) @ np.where(own > 0.0, on_elements.mean, 0.0))
    scale = max(abs(on_voxels), abs(on_mesh), np.finfo(float).tiny)
    return {"voxel_integral": on_voxels, "mesh_integral": on_mesh, "relative_difference": (on_mesh - on_voxels) / scale}


def to_voxels(shared: csr_array, element_values: ArrayLike, outside: ArrayLike, grid: Grid) -> NDArray[np.float64]:
    """(i, j, k) a field of element values on voxels, ``outside`` (a number or a map) filling what the mesh leaves.

    The integral over the image is conserved: each voxel gets the mean over its volume.
    """
    values = np.asarray(element_values, np.float64)
    gap = 1.0 - np.asarray(shared.sum(axis=0)) / grid.voxel_volume
    beyond = np.where(gap > 1e-12, gap * np.broadcast_to(outside, grid.shape).ravel(), 0.0)
    return np.asarray((values @ shared / grid.voxel_volume + beyond).reshape(grid.shape))


def to_nodes(mesh: TumourMesh, element_values: ArrayLike) -> NDArray[np.float64]:
    """(nodes,) volume-weighted means of the elements around each node (lumped projection).

    Positive values stay positive, constants stay constant, and the integral of the linear field is conserved.
    """
    weight = np.repeat(mesh.volumes, 4)
    values = np.repeat(np.asarray(element_values, np.float64), 4)
    corner = mesh.tetrahedra.ravel()
    return np.asarray(
        np.bincount(corner, weight * values, len(mesh.points)) / np.bincount(corner, weight, len(mesh.points))
    )


def at_voxels(mesh: TumourMesh, node_values: ArrayLike, grid: Grid) -> NDArray[np.float64]:
    """(i, j, k, n) node values (nodes, n) at the centres of voxels, linear in every element; NaN outside the mesh."""
    values = np.ascontiguousarray(node_values, np.float64)
    return np.asarray(_at_centres(grid.index(mesh.points), mesh.tetrahedra, values, np.array(grid.shape)))


@njit(cache=True)
def _at_centres(corners: Any, tetrahedra: Any, values: Any, shape: Any) -> Any:
    """Values at the whole numbers (i, j, k) that lie in tetrahedra, by their barycentric coordinates."""
    found = np.full((shape[0], shape[1], shape[2], values.shape[1]), np.nan)
    for corner in tetrahedra:
        places = corners[corner]
        low, high = np.empty(3, np.int64), np.empty(3, np.int64)
        for axis in range(3):
            low[axis] = max(0, int(np.ceil(places[:, axis].min() - 1e-9)))
            high[axis] = min(shape[axis] - 1, int(np.floor(places[:, axis].max() + 1e-9)))
        if (low > high).any():
            continue
        inverse = np.linalg.inv(places[1:] - places[0])
        for i in range(low[0], high[0] + 1):
            for j in range(low[1], high[1] + 1):
                for k in range(low[2], high[2] + 1):
                    offset = np.array([i - places[0, 0], j - places[0, 1], k - places[0, 2]])
                    share = offset @ inverse
                    first = 1.0 - share.sum()
                    if first >= -1e-9 and share.min() >= -1e-9:
                        found[i, j, k] = first * values[corner[0]] + share @ values[corner[1:]]
    return found


@njit(cache=True)
def _shared_volumes(corners: Any, tetrahedra: Any, shape: Any) -> Any:
    """CSR arrays of the volumes shared with unit cubes [i, i+1] x [j, j+1] x [k, k+1], in cubes.

    A cube's share is the eightfold difference of the volumes below its planes, exact to some 1e-15 of the element.
    """
    starts = np.zeros(len(tetrahedra) + 1, np.int64)
    voxels, volumes = np.empty(1024, np.int64), np.empty(1024)
    count = 0
    scratch = (np.empty((1, 4, 3)), np.empty((3, 4, 3)), np.empty((9, 4, 3)), np.empty((9, 5)), np.empty(4, np.int64))
    below = np.zeros((2, shape[1] + 1, shape[2] + 1))
    for e in range(len(tetrahedra)):
        whole = scratch[0]
        low, high = np.full(3, np.inf), np.full(3, -np.inf)
        for corner in range(4):
            whole[0, corner] = corners[tetrahedra[e, corner]]
            low, high = np.minimum(low, whole[0, corner]), np.maximum(high, whole[0, corner])
        first = np.maximum(np.floor(low), 0.0).astype(np.int64)
        last = np.minimum(np.ceil(high), shape.astype(np.float64)).astype(np.int64)
        if (first < last).all():
            room = count + np.prod(last - first)
            if room > len(volumes):
                voxels = np.concatenate((voxels, np.empty(room, np.int64)))
                volumes = np.concatenate((volumes, np.empty(room)))
            negligible = 1e-14 * _volume(whole[0])
            for i in range(first[0], last[0] + 1):
                now, before = below[i % 2], below[(i + 1) % 2]
                _volumes_below(i, first, last, scratch, now)
                if i == first[0]:
                    continue
                for j in range(first[1], last[1]):
                    for k in range(first[2], last[2]):
                        volume = _difference(now, j, k) - _difference(before, j, k)
                        if volume > negligible:
                            voxels[count] = ((i - 1) * shape[1] + j) * shape[2] + k
                            volumes[count] = volume
                            count += 1
        starts[e + 1] = count
    return starts, voxels[:count], volumes[:count]


@njit(cache=True)
def _difference(below: Any, j: int, k: int) -> Any:
    return (below[j + 1, k + 1] - below[j, k + 1]) - (below[j + 1, k] - below[j, k])


@njit(cache=True)
def _volumes_below(i: int, first: Any, last: Any, scratch: Any, below: Any) -> None:
    """For planes y = j and z = k within the bounds, the tetrahedron's volume where x <= i, y <= j, z <= k."""
    whole, slabs, columns, heights, order = scratch
    in_slab = _clip(whole[0], 0, float(i), slabs, 0, order)
    for j in range(first[1], last[1] + 1):
        pieces = 0
        for slab in range(in_slab):
            pieces = _clip(slabs[slab], 1, float(j), columns, pieces, order)
        for piece in range(pieces):
            _sorted_heights(columns[piece], heights[piece])
            heights[piece, 4] = _volume(columns[piece])
        for k in range(first[2], last[2] + 1):
            below[j, k] = 0.0
            for piece in range(pieces):
                below[j, k] += heights[piece, 4] * _fraction_below(heights[piece], float(k))


@njit(cache=True)
def _clip(tetrahedron: Any, axis: int, plane: float, out: Any, start: int, order: Any) -> int:
    """The part of a tetrahedron below a plane as up to three tetrahedra in ``out`` from ``start``; the new end."""
    inside, beyond = 0, 4
    for corner in range(4):
        if tetrahedron[corner, axis] <= plane:
            order[inside] = corner
            inside += 1
        else:
            beyond -= 1
            order[beyond] = corner
    if inside == 0:
        return start
    if inside == 4:
        out[start] = tetrahedron
        return start + 1
    a, b, c, d = tetrahedron[order[0]], tetrahedron[order[1]], tetrahedron[order[2]], tetrahedron[order[3]]
    if inside == 1:
        out[start, 0] = a
        _cut(a, b, axis, plane, out[start, 1])
        _cut(a, c, axis, plane, out[start, 2])
        _cut(a, d, axis, plane, out[start, 3])
        return start + 1
    # A prism of the triangles (0, 1, 2) of the first piece and (1, 2, 3) of the third.
    one, two, three = out[start], out[start + 1], out[start + 2]
    if inside == 2:
        one[0], one[3] = a, b
        _cut(a, c, axis, plane, one[1])
        _cut(a, d, axis, plane, one[2])
        _cut(b, c, axis, plane, three[2])
        _cut(b, d, axis, plane, three[3])
    else:
        one[0], one[1], one[2] = a, b, c
        _cut(a, d, axis, plane, one[3])
        _cut(b, d, axis, plane, three[2])
        _cut(c, d, axis, plane, three[3])
    three[0], three[1] = one[2], one[3]
    two[0], two[1], two[2], two[3] = one[1], one[2], one[3], three[2]
    return start + 3


@njit(cache=True)
def _cut(one: Any, two: Any, axis: int, plane: float, point: Any) -> None:
    """Where the line between two points meets a plane, into ``point``."""
    part = (plane - one[axis]) / (two[axis] - one[axis])
    for other in range(3):
        point[other] = one[other] + part * (two[other] - one[other])
    point[axis] = plane


@njit(cache=True)
def _volume(t: Any) -> Any:
    x0, x1, x2 = t[1, 0] - t[0, 0], t[1, 1] - t[0, 1], t[1, 2] - t[0, 2]
    y0, y1, y2 = t[2, 0] - t[0, 0], t[2, 1] - t[0, 1], t[2, 2] - t[0, 2]
    z0, z1, z2 = t[3, 0] - t[0, 0], t[3, 1] - t[0, 1], t[3, 2] - t[0, 2]
    return abs(x0 * (y1 * z2 - y2 * z1) - x1 * (y0 * z2 - y2 * z0) + x2 * (y0 * z1 - y1 * z0)) / 6.0


@njit(cache=True)
def _sorted_heights(tetrahedron: Any, heights: Any) -> None:
    """The four z of a tetrahedron, ascending."""
    for corner in range(4):
        height, place = tetrahedron[corner, 2], corner
        while place > 0 and heights[place - 1] > height:
            heights[place] = heights[place - 1]
            place -= 1
        heights[place] = height


@njit(cache=True)
def _fraction_below(heights: Any, plane: float) -> Any:
    """Fraction of a tetrahedron below a plane, from its sorted heights: products of the parts of its cut edges."""
    a, b, c, d = heights[0], heights[1], heights[2], heights[3]
    if d <= plane:
        return 1.0
    if a >= plane:
        return 0.0
    if b >= plane:
        return (plane - a) / (b - a) * ((plane - a) / (c - a)) * ((plane - a) / (d - a))
    if c <= plane:
        return 1.0 - (d - plane) / (d - a) * ((d - plane) / (d - b)) * ((d - plane) / (d - c))
    ac, ad, bc, bd = (plane - a) / (c - a), (plane - a) / (d - a), (plane - b) / (c - b), (plane - b) / (d - b)
    return ac * ad + (1.0 - ac) * ad * bc + (1.0 - ad) * bc * bd
