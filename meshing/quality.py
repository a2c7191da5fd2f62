"""How good a mesh is: shape measures of tetrahedra, faults of topology, fit to the voxels, and the gates.

Measures and limits are those of the project specification, tissue §1.6. Mean ratio [Liu & Joe 1994, BIT 34:268,
doi 10.1007/BF01955874] and scaled Jacobian [Knupp 2000, Int J Numer Methods Eng 48:1165] are 1 for the regular
tetrahedron and negative for an inverted one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from ..core.quantity import Parameter
from ..imaging.study import LabelImage
from .mesh import TumourMesh, distinct_rows, signed_volumes, sorted_rows

EDGES = np.array([[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]])
FACES = np.array([[1, 2, 3], [0, 3, 2], [0, 1, 3], [0, 2, 1]])
"""Corners of the face opposite each corner, seen from outside."""

_SPEC = "project specification, tissue §1.6"
MIN_DIHEDRAL = Parameter(8.0, "degree", "smallest dihedral angle of a new mesh", _SPEC, (5.0, 15.0))
MIN_DIHEDRAL_DEFORMED = Parameter(5.0, "degree", "smallest dihedral angle of a deformed mesh", _SPEC, (2.0, 10.0))
MIN_SCALED_JACOBIAN = Parameter(0.05, "1", "smallest scaled Jacobian", _SPEC, (0.02, 0.1))
MAX_VOLUME_ERROR = Parameter(0.01, "1", "largest relative error of a region's volume", _SPEC, (0.002, 0.02))
MAX_DISTANCE = Parameter(
    1.0, "1", "95 % surface distance to stay below, in longest edges of a voxel", _SPEC, (0.5, 1.5)
)
MIN_ACROSS = Parameter(
    2.0, "1", "elements across a region at its thickest place, below which a warning stands", _SPEC, (1.0, 4.0)
)

GATES = (MIN_DIHEDRAL, MIN_DIHEDRAL_DEFORMED, MIN_SCALED_JACOBIAN, MAX_VOLUME_ERROR, MAX_DISTANCE, MIN_ACROSS)


def mean_ratio(points: NDArray[np.float64], tetrahedra: NDArray[np.int64]) -> NDArray[np.float64]:
    """(elements,) 12 (3 V)^(2/3) / sum of squared edges, with the sign of V."""
    volume = signed_volumes(points, tetrahedra)
    square = (edge_lengths(points, tetrahedra) ** 2).sum(axis=1)
    return np.asarray(np.sign(volume) * 12.0 * np.cbrt(3.0 * np.abs(volume)) ** 2 / square)


def scaled_jacobian(points: NDArray[np.float64], tetrahedra: NDArray[np.int64]) -> NDArray[np.float64]:
    """(elements,) sqrt(2) 6 V / the largest product of the three edges at a corner (and at least 6 V)."""
    six = 6.0 * signed_volumes(points, tetrahedra)
    lengths = edge_lengths(points, tetrahedra)
    corners = np.array([np.flatnonzero(np.any(np.int64(corner) == EDGES, axis=1)) for corner in range(4)])
    largest = np.maximum(lengths[:, corners].prod(axis=2).max(axis=1), six)
    return np.asarray(np.sqrt(2.0) * six / largest)


def dihedral_angles(points: NDArray[np.float64], tetrahedra: NDArray[np.int64]) -> NDArray[np.float64]:
    """(elements, 6) degrees between the faces that meet in each edge."""
    corner = points[tetrahedra]
    a, b, c = np.moveaxis(corner[:, FACES], 2, 0)
    normals = np.cross(b - a, c - a)
    normals /= np.linalg.norm(normals, axis=2, keepdims=True)
    pairs = np.array([[c for c in range(4) if c not in edge] for edge in EDGES])
    cosine = -(normals[:, pairs[:, 0]] * normals[:, pairs[:, 1]]).sum(axis=2)
    return np.asarray(np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0))))


def edge_lengths(points: NDArray[np.float64], tetrahedra: NDArray[np.int64]) -> NDArray[np.float64]:
    """(elements, 6) mm."""
    corner = points[tetrahedra]
    return np.asarray(np.linalg.norm(corner[:, EDGES[:, 0]] - corner[:, EDGES[:, 1]], axis=2))


def quality(mesh: TumourMesh) -> dict[str, float | int]:
    """Shape and topology of a mesh, ready for JSON: extreme angles and ratios, and counts of what must be absent."""
    angles = dihedral_angles(mesh.points, mesh.tetrahedra)
    smallest = angles.min(axis=1)
    ratio = mean_ratio(mesh.points, mesh.tetrahedra)
    return {
        "min_dihedral_degree": float(smallest.min()),
        "percentile_1_dihedral_degree": float(np.percentile(smallest, 1.0)),
        "max_dihedral_degree": float(angles.max()),
        "min_scaled_jacobian": float(scaled_jacobian(mesh.points, mesh.tetrahedra).min()),
        "min_mean_ratio": float(ratio.min()),
        "mean_mean_ratio": float(ratio.mean()),
        "inverted": int((mesh.volumes <= 0.0).sum()),
        "orphan_nodes": int(len(mesh.points) - len(np.unique(mesh.tetrahedra))),
        "non_manifold": _overused_faces(mesh.tetrahedra)
        + sum(len(open_edges(mesh.surface_of(name))) for name in mesh.region_names.values()),
    }


def _overused_faces(tetrahedra: NDArray[np.int64]) -> int:
    _, count = distinct_rows(np.sort(tetrahedra[:, FACES].reshape(-1, 3), axis=1))
    return int((count > 2).sum())


def open_edges(triangles: NDArray[np.int64]) -> NDArray[np.int64]:
    """(edges, 2) nodes of the edges of a surface that do not join exactly two triangles."""
    ends = np.sort(triangles[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
    first, count = distinct_rows(ends)
    return np.asarray(ends[first[count != 2]])


def face_pairs(tetrahedra: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(faces, 3) nodes, sorted, and (faces, 2) the elements on both sides (-1 where there is none)."""
    nodes = np.sort(tetrahedra[:, FACES].reshape(-1, 3), axis=1)
    order, start = sorted_rows(nodes)
    count = np.diff(start, append=len(nodes))
    second = np.where(count > 1, order[np.minimum(start + 1, len(order) - 1)] // 4, -1)
    return nodes[order[start]], np.stack([order[start] // 4, second], axis=1)


def pieces(mesh: TumourMesh, name: str) -> int:
    """Number of face-connected pieces of a region."""
    tetrahedra = mesh.tetrahedra[mesh.elements_of(name)]
    _, elements = face_pairs(tetrahedra)
    inner = elements[elements[:, 1] >= 0]
    graph = csr_array((np.ones(len(inner)), (inner[:, 0], inner[:, 1])), shape=(len(tetrahedra),) * 2)
    return int(connected_components(graph, directed=False)[0])


CLOSER, CLOSE_CALL = 3.0, 1.2
"""How many times closer samples lie where a distance decides against a mesh by less than a fifth. Sampling both
surfaces closer than a voxel adds less than that to a distance; these decide how it is measured, not what is right."""


def surface_distance(mesh: TumourMesh, labels: LabelImage, name: str, limit: float = float("inf")) -> dict[str, float]:
    """mm between the surface of a region and the outline of its voxels, both ways: mean, 95th percentile, largest.

    The 95th percentile is the larger of the two directions. Samples are never nearer to each other than the surfaces
    are: where the percentile is not far above ``limit`` mm, those beyond it are measured again to closer samples.
    """
    meshed, drawn = surface_samples(mesh, labels, name)
    there, back = cKDTree(drawn).query(meshed)[0], cKDTree(meshed).query(drawn)[0]
    if limit <= _apart(there, back)["h95"] < CLOSE_CALL * limit:
        closer_meshed, closer_drawn = surface_samples(mesh, labels, name, CLOSER)
        there = _again(there, meshed, closer_drawn, limit)
        back = _again(back, drawn, closer_meshed, limit)
    return _apart(there, back)


def _again(
    distances: NDArray[np.float64], places: NDArray[np.float64], closer: NDArray[np.float64], limit: float
) -> NDArray[np.float64]:
    """The distances of places, those of ``limit`` mm and more measured to closer samples of the other surface."""
    far = distances >= limit
    measured = distances.copy()
    measured[far] = cKDTree(closer, balanced_tree=False, compact_nodes=False).query(places[far])[0]
    return measured


def surface_samples(
    mesh: TumourMesh, labels: LabelImage, name: str, closer: float = 1.0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Places (mm, LPS) on the surface of a region and on the outline of its voxels.

    Both are sampled, triangles and voxel faces alike, closer than the smallest voxel edge or a tenth of the region's
    elements, and so many times ``closer``.
    """
    element_edge = float(edge_lengths(mesh.points, mesh.tetrahedra[mesh.elements_of(name)]).mean())
    step = max(0.7 * float(labels.grid.spacing.min()), 0.1 * element_edge) / closer
    corners = mesh.points[mesh.surface_of(name)]
    return _triangle_samples(corners, _divisions(corners, step)), _voxel_face_samples(labels, name, step)


def outline_distance(corners: NDArray[np.float64], labels: LabelImage, name: str, step: float) -> float:
    """mm that 95 % of the faces of a region's voxels stay below from a surface: of their middles.

    corners  (triangles, 3, 3) mm, LPS, of the surface
    step     mm between samples of it
    """
    surface = _triangle_samples(corners, _divisions(corners, step))
    return float(np.percentile(cKDTree(surface).query(_voxel_face_samples(labels, name, np.inf))[0], 95.0))


def surfaces_apart(first: TumourMesh, second: TumourMesh, name: str) -> dict[str, float]:
    """mm between the surfaces of a region of one mesh in two shapes, both ways: mean, 95th percentile, largest.

    The same points of the material are sampled in both, closer than a tenth of the region's elements in the first, so
    that distances far below the samples' spacing are seen.
    """
    step = 0.1 * float(edge_lengths(first.points, first.tetrahedra[first.elements_of(name)]).mean())
    corners = [mesh.points[mesh.surface_of(name)] for mesh in (first, second)]
    divisions = _divisions(corners[0], step)
    one, other = (_triangle_samples(one, divisions) for one in corners)
    return _apart(cKDTree(other).query(one)[0], cKDTree(one).query(other)[0])


def _apart(there: NDArray[np.float64], back: NDArray[np.float64]) -> dict[str, float]:
    """Of the distances from the samples of either surface to the other: mean, 95th percentile, largest."""
    return {
        "mean": float((there.mean() + back.mean()) / 2.0),
        "h95": float(max(np.percentile(there, 95.0), np.percentile(back, 95.0))),
        "largest": float(max(there.max(), back.max())),
    }


def _divisions(corners: NDArray[np.float64], step: float) -> NDArray[np.int64]:
    """(triangles,) parts of an edge so that samples are about ``step`` mm apart."""
    longest = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2).max(axis=1)
    return np.asarray(np.maximum(1, np.ceil(longest / step)), dtype=np.int64)


def _triangle_samples(corners: NDArray[np.float64], divisions: NDArray[np.int64]) -> NDArray[np.float64]:
    """Points spread evenly over triangles (triangles, 3, 3), the divisions of whose edges are given."""
    samples = []
    for count in np.unique(divisions):
        i, j = np.meshgrid(np.arange(count), np.arange(count), indexing="ij")
        below = i + j < count
        a, b = (i[below] + 1.0 / 3.0) / count, (j[below] + 1.0 / 3.0) / count
        weights = np.stack([1.0 - a - b, a, b], axis=1)
        samples.append((weights @ corners[divisions == count]).reshape(-1, 3))
    return np.concatenate(samples)


def _voxel_face_samples(labels: LabelImage, name: str, step: float) -> NDArray[np.float64]:
    """Points spread evenly over the voxel faces between a region and the rest, mm, LPS."""
    mask = np.pad(labels.mask(name), 1)
    samples = []
    for axis in range(3):
        differs = np.diff(mask.astype(np.int8), axis=axis) != 0
        centres = np.argwhere(differs) - 1.0
        centres[:, axis] += 0.5
        offsets = [_cell_offsets(edge, step) for edge in labels.grid.spacing]
        offsets[axis] = np.zeros(1)
        grid = np.stack(np.meshgrid(*offsets, indexing="ij"), axis=-1).reshape(-1, 3)
        samples.append((centres[:, None] + grid).reshape(-1, 3))
    return labels.grid.world(np.concatenate(samples))


def _cell_offsets(edge: float, step: float) -> NDArray[np.float64]:
    count = max(1, int(np.ceil(edge / step)))
    return (np.arange(count) + 0.5) / count - 0.5


def fit(mesh: TumourMesh, labels: LabelImage, limit: float = float("inf")) -> dict[str, dict[str, Any]]:
    """Each region against its voxels, ready for JSON: volumes, surface distances, pieces, elements across.

    limit  mm from which on a surface distance is measured by closer samples
    """
    regions = {}
    for name in mesh.region_names.values():
        elements = mesh.elements_of(name)
        found, wanted = mesh.volume_of(name), labels.volume(name)
        regions[name] = {
            "elements": len(elements),
            "volume_ml": found,
            "voxel_volume_ml": wanted,
            "volume_error": (found - wanted) / wanted,
            "surface_distance_mm": surface_distance(mesh, labels, name, limit) if len(elements) else None,
            "pieces": pieces(mesh, name) if len(elements) else 0,
            "pieces_in_image": int(ndimage.label(labels.mask(name), np.ones((3, 3, 3)))[1]),
            "elements_across": _elements_across(mesh, elements, labels, name),
        }
    return regions


def _elements_across(mesh: TumourMesh, elements: NDArray[np.int64], labels: LabelImage, name: str) -> float:
    """Twice the largest distance to the region's outline, over the mean edge of its elements."""
    if not len(elements):
        return 0.0
    mask = np.pad(labels.mask(name), 1)
    box = tuple(slice(s.start - 1, s.stop + 1) for s in ndimage.find_objects(mask.astype(np.uint8))[0])
    thickness = 2.0 * ndimage.distance_transform_edt(mask[box], sampling=labels.grid.spacing).max()
    return float(thickness / edge_lengths(mesh.points, mesh.tetrahedra[elements]).mean())


def gate_failures(measured: Mapping[str, float | int], *, deformed: bool = False) -> list[str]:
    """What in ``quality(mesh)`` forbids its use, one phrase each; empty if the mesh is good enough."""
    dihedral = MIN_DIHEDRAL_DEFORMED if deformed else MIN_DIHEDRAL
    failures = [
        f"{measured[key]} {words}"
        for key, words in (
            ("inverted", "inverted elements"),
            ("orphan_nodes", "nodes without an element"),
            ("non_manifold", "faces or edges of a region's surface that join more than two"),
        )
        if measured[key]
    ]
    if not measured["min_dihedral_degree"] >= dihedral.value:
        failures.append(
            f"smallest dihedral angle {measured['min_dihedral_degree']:.2f} degree, limit {dihedral.value:g}"
        )
    if not measured["min_scaled_jacobian"] >= MIN_SCALED_JACOBIAN.value:
        failures.append(
            f"smallest scaled Jacobian {measured['min_scaled_jacobian']:.3f}, limit {MIN_SCALED_JACOBIAN.value:g}"
        )
    return failures


def fit_failures(regions: Mapping[str, Mapping[str, Any]], limit: float) -> tuple[list[str], list[str]]:
    """What in ``fit(mesh, labels)`` forbids the mesh, and what only deserves a warning.

    limit  mm that 95 % of each surface stay below from the voxels
    """
    failures, warnings = [], []
    for name, region in regions.items():
        if not abs(region["volume_error"]) <= MAX_VOLUME_ERROR.value:
            failures.append(
                f"volume of the {name} {100.0 * region['volume_error']:+.2f} % from its voxels, "
                f"limit {100.0 * MAX_VOLUME_ERROR.value:g} %"
            )
        if not region["elements"]:
            continue
        distance = region["surface_distance_mm"]["h95"]
        lost = region["pieces_in_image"] - region["pieces"]
        if not distance < limit:
            failures.append(
                f"surface of the {name} {distance:.2f} mm from its voxels (95 %), limit {limit:.2f} mm"
                + (f"; meshed in {region['pieces']} of {region['pieces_in_image']} pieces" if lost > 0 else "")
            )
        if region["pieces"] != region["pieces_in_image"]:
            warnings.append(f"{name} is in {region['pieces']} pieces, in the image {region['pieces_in_image']}")
        if region["elements_across"] < MIN_ACROSS.value:
            warnings.append(f"{name} is {region['elements_across']:.1f} elements across")
    return failures, warnings
