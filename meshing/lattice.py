"""The mesher that needs nothing: a body-centred cubic lattice, labelled, snapped to the surfaces under guard.

Nodes are the corners and centres of cubes; every pair of neighbouring centres and every edge of the face between
them make a tetrahedron with dihedral angles of 60 and 90 degrees. The lattice starts as coarse as the elements
farthest from the tumour and is bisected at longest edges where finer ones are wanted: three bisections give the
lattice of half the spacing, and what lies between keeps angles of 45 degrees and more. Each tetrahedron takes the
label whose signed distance is largest at its centroid, so any number of labels in any arrangement conforms by
construction. Nodes between labels then move onto the surfaces, but never so far that an element around them becomes
poor (project specification, tissue §1.3; the lattice as in Labelle & Shewchuk 2007, doi 10.1145/1276377.1276448,
bisection as in Rivara 1984, doi 10.1002/nme.1620200412). Sweeps visit the nodes in one order on one thread: equal
input gives equal bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from ..core.errors import MeshFault
from .connections import Connections
from .mesh import signed_volumes
from .quality import EDGES
from .surface import LevelSets

CUBE_PER_EDGE = 1.098
"""Cube edge over the mean edge of its tetrahedra (two edges of 1 and four of sqrt(3)/2)."""

ELEMENT_VOLUME = 0.114
"""mm³ of an element of mean edge 1 mm: between the lattice's 0.110 and the regular tetrahedron's 0.118."""

CUBE_UNITS, MOST_HALVINGS = 2**12, 6
"""Integer coordinates to a cube of the starting lattice, so that midpoints and lengths stay exact, and how often its
spacing is halved at most."""

GUARD_RATIO, GUARD_COSINE = 0.35, float(np.cos(np.radians(11.0)))
"""A move may not bring an element below this mean ratio or this smallest dihedral angle (11 degrees)."""

RELABELLINGS, RELABELLING_SWEEPS = 2, 4
"""Elements are labelled anew where their nodes went, so often, each time after so many sweeps."""

SMOOTHING_SWEEPS, SNAPPING_SWEEPS = 10, 2
VOLUME_ROUNDS, VOLUME_TOLERANCE = 8, 5e-4
BALANCING_ROUNDS = 30
STEP_LIMIT = 0.6
"""Longest step of a node in one projection, in mean edges around it."""


@dataclass(frozen=True, eq=False)
class Finer:
    """Elements with an edge of ``edge`` mm at ``places`` (n, 3) mm LPS, growing by a mm with each mm away from them."""

    places: NDArray[np.float64]
    edge: float

    @cached_property
    def tree(self) -> cKDTree:
        return cKDTree(self.places)

    def at(self, places: NDArray[np.float64], most: float = np.inf) -> NDArray[np.float64]:
        """(n,) mm, the edge wanted at (n, 3) mm LPS; infinite where it would be ``most`` mm or more."""
        return np.asarray(self.edge + self.tree.query(places, distance_upper_bound=most - self.edge)[0])


@dataclass(frozen=True)
class Sizes:
    """Edges (mm) of the elements: ``size`` in the tumour and every region beside it, growing evenly into the host to
    ``host_size`` at ``reach`` mm from them, and ``finer`` ones where they are asked for."""

    size: float
    host_size: float
    reach: float
    finer: tuple[Finer, ...] = ()

    def at(self, distance: NDArray[np.float64]) -> NDArray[np.float64]:
        """mm, the edge planned at a distance (mm) from the regions within the host."""
        part = np.clip(distance / self.reach, 0.0, 1.0) if self.reach > 0.0 else np.zeros_like(distance)
        return np.asarray(self.size + (self.host_size - self.size) * part)

    def wanted(self, distance: NDArray[np.float64], places: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n,) mm, the edge at (n, 3) mm LPS: as planned, or finer where that is asked for."""
        edge = self.at(distance)
        for one in self.finer:
            edge = np.minimum(edge, one.at(places, self.host_size))
        return edge

    @property
    def finest(self) -> float:
        """mm, the smallest edge wanted anywhere."""
        return min([self.size, *[one.edge for one in self.finer]])


def lattice_mesh(
    levels: LevelSets, sizes: Sizes, *, balanced: bool = False
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64], dict[str, float]]:
    """Tetrahedra of all regions of the level sets.

    balanced  levels are raised together until all regions hold their volumes of samples, before any element is
              labelled: what a crowd of small labels needs, and more than others do
    returns  points (nodes, 3) mm LPS, tetrahedra (elements, 4) positively oriented, region (elements,) region
             values, and by name the mm by which each level was raised to keep the volumes
    """
    points, tetrahedra = _graded_lattice(levels, sizes)
    coefficients = np.stack([ndimage.spline_filter(field, order=3) for field in levels.values])
    raised = _first_levels(levels)
    if balanced:
        raised = _balanced_levels(levels, raised)
    labels = _labelled(points, Connections(tetrahedra, len(points)), coefficients, levels.spacing, raised)
    points, tetrahedra, labels = _within(points, tetrahedra, labels, rings=2)
    connections = Connections(tetrahedra, len(points))
    for _ in range(RELABELLINGS):
        moving = _moving(points, connections, labels)
        moving.sweep(coefficients, levels.spacing, raised, RELABELLING_SWEEPS, smooth=True)
        labels = _labelled(points, connections, coefficients, levels.spacing, raised)
    points, tetrahedra, labels = _within(points, tetrahedra, labels, rings=0)
    raised = _snap(points, Connections(tetrahedra, len(points)), labels, coefficients, levels, raised)
    points = levels.world(points / levels.spacing)
    flipped = signed_volumes(points, tetrahedra) < 0.0
    tetrahedra[flipped] = tetrahedra[flipped][:, [0, 2, 1, 3]]
    region = np.array([0] + [levels.region_value(k + 1) for k in range(len(levels.names))])[labels]
    return points, tetrahedra, region, {name: float(raised[k + 1]) for k, name in enumerate(levels.names)}


def _labelled(
    points: NDArray[np.float64],
    connections: Connections,
    coefficients: NDArray[np.float64],
    spacing: float,
    raised: NDArray[np.float64],
) -> NDArray[np.int64]:
    """(elements,) the label at every centroid, tidied; 0 is the outside."""
    centroids = points[connections.tetrahedra].mean(axis=1)
    return _tidied(connections, _labels_at(coefficients, raised, centroids / spacing))


def _within(
    points: NDArray[np.float64], tetrahedra: NDArray[np.int64], labels: NDArray[np.int64], rings: int
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """The labelled elements and ``rings`` layers of the outside around them, with the nodes that they use.

    Raises MeshFault when no element is labelled.
    """
    kept = labels > 0
    if not kept.any():
        raise MeshFault(
            "the labels are thinner than the elements everywhere",
            "labels of some elements across",
            "choose a smaller size",
        )
    near = np.zeros(len(points), bool)
    for _ in range(rings):
        near[tetrahedra[kept]] = True
        kept = np.asarray(near[tetrahedra].any(axis=1))
    used, numbers = np.unique(tetrahedra[kept], return_inverse=True)
    return points[used], numbers.reshape(-1, 4), labels[kept]


def _first_levels(levels: LevelSets) -> NDArray[np.float64]:
    """(labels,) mm to add to each signed distance so that every region holds about its volume of samples.

    Smoothing shrinks small regions until the lattice would miss them. A surface where f passes the level s lies
    where f + a = -f + b, with b - a = 2 s; around every region lies the host, where there is one, or the outside.
    """
    wanted = np.concatenate([[levels.values[0].size * levels.cell_volume - levels.targets.sum()], levels.targets])
    counts = np.clip(np.rint(wanted / levels.cell_volume).astype(int), 1, levels.values[0].size - 1)
    level = np.array([np.partition(field.ravel(), -count)[-count] for field, count in zip(levels.values, counts)])
    around = 2.0 * level[0] if "host" in levels.names else 0.0
    raised = around - 2.0 * level
    raised[0] = 0.0
    if "host" in levels.names:
        raised[1 + levels.names.index("host")] = around
    return raised


def _balanced_levels(levels: LevelSets, raised: NDArray[np.float64]) -> NDArray[np.float64]:
    """The levels raised until every region holds its volume of samples, each where it is the largest of all."""
    for _ in range(BALANCING_ROUNDS):
        labels = np.argmax(levels.values + raised[:, None, None, None], axis=0)
        counts = np.bincount(labels.ravel(), minlength=len(raised))[1:]
        missing = levels.targets / levels.cell_volume - counts
        if (np.abs(missing) <= 1.0).all():
            break
        step = _level_steps(*_sample_faces(labels, len(raised)), missing) * levels.spacing
        raised = raised + np.clip(step, -levels.spacing, levels.spacing)
    return raised


def _sample_faces(labels: NDArray[np.int64], count: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """(pairs, 2) labels that are neighbours among the samples, and between how many of them."""
    faces = np.zeros(count * count, np.int64)
    for axis in range(3):
        along = np.moveaxis(labels, axis, 0)
        faces += np.bincount((along[1:] * count + along[:-1]).ravel(), minlength=count * count)
    pair = np.stack(np.divmod(np.flatnonzero(faces), count), axis=1)
    between = pair[:, 0] != pair[:, 1]
    return pair[between], faces[faces > 0][between].astype(np.float64)


def planned_elements(levels: LevelSets, sizes: Sizes) -> int:
    """How many elements of the lattice lie in the regions before a node moves: those of the mesh, within a per cent."""
    points, tetrahedra = _graded_lattice(levels, sizes)
    centroids = points[tetrahedra].mean(axis=1) / levels.spacing
    return int((ndimage.map_coordinates(levels.values[0], centroids.T, order=1, mode="nearest") < 0.0).sum())


def _graded_lattice(levels: LevelSets, sizes: Sizes) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Nodes (mm along the sampling axes) and tetrahedra of the lattice over the whole sampling grid."""
    halvings = min(MOST_HALVINGS, int(np.ceil(np.log2(sizes.host_size / sizes.size) - 1e-9)))
    further = min(MOST_HALVINGS, int(np.ceil(np.log2(sizes.size / sizes.finest) - 1e-9)))
    extent = (np.array(levels.values.shape[1:]) - 1) * levels.spacing
    cube = CUBE_PER_EDGE * sizes.size * 2**halvings
    counts = _cubes(levels, extent, cube)
    nodes, tetrahedra = _lattice(counts)
    unit = cube / CUBE_UNITS
    shift = (extent - counts * cube) / 2.0

    def too_large(nodes: NDArray[np.int64], tetrahedra: NDArray[np.int64]) -> NDArray[np.bool_]:
        places = (nodes[tetrahedra].mean(axis=1) * unit + shift) / levels.spacing
        distance = -ndimage.map_coordinates(levels.within_host, places.T, order=1, mode="nearest")
        wanted = (CUBE_PER_EDGE * sizes.wanted(distance, levels.world(places))) ** 3 / 12.0
        volumes = np.abs(signed_volumes(nodes.astype(np.float64), tetrahedra)) * unit**3
        return np.asarray(volumes > np.sqrt(2.0) * wanted)

    fresh = np.ones(len(tetrahedra), bool)
    for _ in range(3 * (halvings + further)):
        fresh[fresh] = too_large(nodes, tetrahedra[fresh])
        nodes, tetrahedra, fresh = _bisected(nodes, tetrahedra, fresh)
    flipped = signed_volumes(nodes.astype(np.float64), tetrahedra) < 0.0
    tetrahedra[flipped] = tetrahedra[flipped][:, [0, 2, 1, 3]]
    return nodes * unit + shift, tetrahedra


def _cubes(levels: LevelSets, extent: NDArray[np.float64], cube: float) -> NDArray[np.int64]:
    """Cubes along each axis: over the whole grid, and so many that the outermost centres enclose every region.

    Elements lie between centres of cubes, so the outer half of a border cube is empty: large cubes would cut regions.
    """
    middle, inside = extent / 2.0, np.argwhere(levels.values[0] < 0.0) * levels.spacing
    needed = 2.0 * np.abs(inside - middle).max(axis=0, initial=0.0)
    return np.asarray(np.maximum(np.ceil(extent / cube), np.ceil(needed / cube) + 1.0), dtype=np.int64)


def _lattice(counts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Integer nodes (CUBE_UNITS to a cube) and tetrahedra of a lattice of ``counts`` cubes."""
    corners, centres = _cells(counts + 1) * CUBE_UNITS, _cells(counts) * CUBE_UNITS + CUBE_UNITS // 2
    tetrahedra = np.concatenate([_tetrahedra_across(axis, counts, len(corners)) for axis in range(3)])
    return np.concatenate([corners, centres]), tetrahedra


def _bisected(
    nodes: NDArray[np.int64], tetrahedra: NDArray[np.int64], marked: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """The mesh with the marked elements halved at their longest edges, and others as conformity asks; which are new.

    Of equal edges the one with the larger node numbers counts as longer, so that neighbours agree.
    """
    split = np.zeros(0, np.int64)
    middles = np.zeros(0, np.int64)
    made = np.zeros(len(tetrahedra), bool)
    while marked.any():
        halved, rest = tetrahedra[marked], tetrahedra[~marked]
        ends, keys = _longest_edges(nodes, halved)
        fresh, first = np.unique(keys, return_index=True)
        new = ~np.isin(fresh, split)
        one, two = ends[first[new]].T
        split = np.concatenate([split, fresh[new]])
        middles = np.concatenate([middles, len(nodes) + np.arange(len(one))])
        nodes = np.concatenate([nodes, (nodes[one] + nodes[two]) // 2])
        order = np.argsort(split)
        middle = middles[order[np.searchsorted(split[order], keys)]]
        children = [np.where(halved == ends[:, [side]], middle[:, None], halved) for side in (0, 1)]
        tetrahedra = np.concatenate([rest, *children])
        made = np.concatenate([made[~marked], np.ones(2 * len(halved), bool)])
        marked = np.asarray(np.isin(_edge_keys(tetrahedra[:, EDGES]), split).any(axis=1))
    return nodes, tetrahedra, made


def _longest_edges(
    nodes: NDArray[np.int64], tetrahedra: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(elements, 2) ends and (elements,) keys of the longest edges."""
    ends = tetrahedra[:, EDGES]
    length = ((nodes[ends[..., 0]] - nodes[ends[..., 1]]) ** 2).sum(axis=2)
    keys = _edge_keys(ends)
    longest = np.where(length == length.max(axis=1, keepdims=True), keys, -1).argmax(axis=1)
    rows = np.arange(len(tetrahedra))
    return ends[rows, longest], keys[rows, longest]


def _edge_keys(ends: NDArray[np.int64]) -> NDArray[np.int64]:
    """One number for each pair of nodes, whatever their order."""
    return np.asarray((ends.max(axis=-1) << 32) + ends.min(axis=-1))


def _cells(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.stack(np.meshgrid(*[np.arange(n) for n in counts], indexing="ij"), axis=-1).reshape(-1, 3)


def _tetrahedra_across(axis: int, counts: NDArray[np.int64], corners: int) -> NDArray[np.int64]:
    """Four tetrahedra around each line between centres that are neighbours along ``axis``."""
    shape = counts.copy()
    shape[axis] -= 1
    cell = _cells(shape)
    one, two = np.eye(3, dtype=np.int64)[[(axis + 1) % 3, (axis + 2) % 3]]
    step = np.eye(3, dtype=np.int64)[axis]
    first = corners + np.ravel_multi_index(tuple(cell.T), tuple(counts))
    second = corners + np.ravel_multi_index(tuple((cell + step).T), tuple(counts))
    ring = [
        np.ravel_multi_index(tuple((cell + step + offset).T), tuple(counts + 1))
        for offset in (0 * one, one, one + two, two)
    ]
    return np.concatenate([np.stack([first, second, ring[k], ring[(k + 1) % 4]], axis=1) for k in range(4)])


def _tidied(connections: Connections, labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Labels without teeth and hinges: elements surrounded by another label join it, and so do elements at an edge
    where a region would touch itself."""
    for _ in range(10):
        before = labels.copy()
        _drop_teeth(labels, connections.neighbours)
        for label in range(int(labels.max()) + 1):
            _close_hinges(connections, labels, label)
        if np.array_equal(before, labels):
            break
    return labels


@njit(cache=True)
def _drop_teeth(labels: Any, neighbours: Any) -> None:
    """An element with three or more neighbours of one other label takes that label."""
    for e in range(len(labels)):
        for n in range(2):
            other = neighbours[e, n]
            if other < 0 or labels[other] == labels[e]:
                continue
            count = 0
            for m in range(4):
                if neighbours[e, m] >= 0 and labels[neighbours[e, m]] == labels[other]:
                    count += 1
            if count >= 3:
                labels[e] = labels[other]
                break


def _close_hinges(connections: Connections, labels: NDArray[np.int64], label: int) -> None:
    """Where four or more faces of a region's surface meet in an edge, the elements around the edge join the region."""
    inside = np.append(labels == label, False)
    _, sides = connections.faces
    surface = inside[sides[:, 0]] != inside[sides[:, 1]]
    count = np.bincount(connections.edges_of_faces[surface].ravel(), minlength=len(connections.edges))
    if (count > 2).any():
        labels[(count > 2)[connections.edges_of_elements].any(axis=1)] = label


def _node_masks(connections: Connections, labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each node the labels around it, as bits (bit 0: outside, which lies beyond every free face too)."""
    masks = np.zeros(connections.nodes, np.int64)
    np.bitwise_or.at(masks, connections.tetrahedra.ravel(), np.repeat(np.int64(1) << labels, 4))
    faces, sides = connections.faces
    masks[faces[sides[:, 1] < 0]] |= 1
    return masks


def _snap(
    points: NDArray[np.float64],
    connections: Connections,
    labels: NDArray[np.int64],
    coefficients: NDArray[np.float64],
    levels: LevelSets,
    raised: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Move the nodes (mm) onto the surfaces in place, and raise the levels until every region has its volume.

    raised   (labels,) mm added to each signed distance at the start
    returns  the same at the end
    """
    raised = raised.copy()
    faces = _interfaces(connections, labels)
    true_scale = levels.cell_volume / levels.spacing**3
    moving = _moving(points, connections, labels)
    moving.sweep(coefficients, levels.spacing, raised, SMOOTHING_SWEEPS, smooth=True)
    moving.sweep(coefficients, levels.spacing, raised, SNAPPING_SWEEPS, smooth=False)
    for _ in range(VOLUME_ROUNDS):
        volumes = np.bincount(labels, np.abs(signed_volumes(points, connections.tetrahedra)), len(raised))[1:]
        missing = levels.targets - volumes * true_scale
        if (np.abs(missing) <= VOLUME_TOLERANCE * levels.targets).all():
            break
        raised += _raise_levels(points, faces, missing / true_scale)
        moving.sweep(coefficients, levels.spacing, raised, SNAPPING_SWEEPS, smooth=False)
    return raised


@dataclass(frozen=True, eq=False)
class _Moving:
    """Nodes on the move (mm, changed in place), their elements, and what lies around each node.

    masks                  (nodes,) labels around, as bits
    element_start, elements, node_start, nodes   elements and nodes around each node, grouped
    """

    points: NDArray[np.float64]
    tetrahedra: NDArray[np.int64]
    masks: NDArray[np.int64]
    element_start: NDArray[np.int64]
    elements: NDArray[np.int64]
    node_start: NDArray[np.int64]
    nodes: NDArray[np.int64]

    def sweep(
        self,
        coefficients: NDArray[np.float64],
        spacing: float,
        raised: NDArray[np.float64],
        times: int,
        *,
        smooth: bool,
    ) -> None:
        """Move the nodes, ``times`` times each, towards the surfaces where the raised distances are equal."""
        _sweep(
            self.points,
            self.tetrahedra,
            self.masks,
            self.element_start,
            self.elements,
            self.node_start,
            self.nodes,
            coefficients,
            spacing,
            raised,
            times,
            smooth,
        )


def _moving(points: NDArray[np.float64], connections: Connections, labels: NDArray[np.int64]) -> _Moving:
    return _Moving(
        points,
        connections.tetrahedra,
        _node_masks(connections, labels),
        *connections.elements_around,
        *connections.nodes_around,
    )


def _interfaces(connections: Connections, labels: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(faces, 3) nodes of the faces between two labels, and (faces, 2) those labels (0: outside)."""
    faces, sides = connections.faces
    pair = np.stack([labels[sides[:, 0]], np.where(sides[:, 1] >= 0, labels[sides[:, 1]], 0)], axis=1)
    between = pair[:, 0] != pair[:, 1]
    return faces[between], pair[between]


def _raise_levels(
    points: NDArray[np.float64], interfaces: tuple[NDArray[np.int64], NDArray[np.int64]], missing: NDArray[np.float64]
) -> NDArray[np.float64]:
    """mm to add to each level (the outside's stays) so that each region gains the mm³ it misses."""
    faces, pair = interfaces
    a, b, c = np.moveaxis(points[faces], 1, 0)
    return _level_steps(pair, np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2.0, missing)


def _level_steps(
    pair: NDArray[np.int64], area: NDArray[np.float64], missing: NDArray[np.float64]
) -> NDArray[np.float64]:
    """What to add to each level (the outside's stays) so that each region gains the volume it misses.

    A surface of some ``area`` between a ``pair`` of regions moves by half the difference of their levels, so the gains
    are a graph Laplacian of the areas between regions times the levels.
    """
    laplacian = np.zeros((len(missing) + 1,) * 2)
    for one, two in (pair.T, pair.T[::-1]):
        np.add.at(laplacian, (one, one), area / 2.0)
        np.add.at(laplacian, (one, two), -area / 2.0)
    change = np.linalg.lstsq(laplacian[1:, 1:], missing, rcond=1e-9)[0]
    return np.concatenate([[0.0], change])


@njit(cache=True)
def _sweep(
    points: Any,
    tetrahedra: Any,
    masks: Any,
    element_start: Any,
    elements: Any,
    node_start: Any,
    nodes: Any,
    coefficients: Any,
    spacing: float,
    raised: Any,
    sweeps: int,
    smooth: bool,
) -> None:
    """Visit every node in order, ``sweeps`` times: interface nodes to their surface, inner nodes to the mean around.

    Nodes that know the outside alone stay.
    """
    for _ in range(sweeps):
        for node in range(len(points)):
            if masks[node] == 1:
                continue
            neighbours = nodes[node_start[node] : node_start[node + 1]]
            around = elements[element_start[node] : element_start[node + 1]]
            on_interface = masks[node] & (masks[node] - 1) != 0
            target = points[node].copy()
            mean, count, edge = np.zeros(3), 0, 0.0
            for other in neighbours:
                edge += np.sqrt(((points[other] - points[node]) ** 2).sum()) / len(neighbours)
                if not on_interface or masks[other] & masks[node] == masks[node]:
                    mean += points[other]
                    count += 1
            if on_interface:
                if smooth and count > 0:
                    target = 0.5 * (target + mean / count)
                _project(target, masks[node], coefficients, spacing, raised, STEP_LIMIT * edge)
            else:
                target = mean / count
            _guarded_move(points, tetrahedra, around, node, target, on_interface)


@njit(cache=True)
def _project(place: Any, mask: int, coefficients: Any, spacing: float, raised: Any, longest: float) -> None:
    """Two Newton steps, in place, onto the surface (or line, or point) where the labels of ``mask`` meet."""
    first = 0
    while not mask >> first & 1:
        first += 1
    fields, slopes = np.empty(len(raised)), np.empty((len(raised), 3))
    for _ in range(2):
        for label in range(first + 1, len(raised)):
            if not mask >> label & 1:
                continue
            _fields_at(coefficients, place / spacing, fields, slopes)
            difference = fields[first] + raised[first] - fields[label] - raised[label]
            slope = (slopes[first] - slopes[label]) / spacing
            step = -difference * slope / ((slope**2).sum() + 1e-6)
            length = np.sqrt((step**2).sum())
            place += step * min(1.0, longest / max(length, 1e-300))


@njit(cache=True)
def _guarded_move(points: Any, tetrahedra: Any, around: Any, node: int, target: Any, on_interface: bool) -> None:
    """Move a node to the target, or as near as the quality around it allows (half the way, up to five times)."""
    old = points[node].copy()
    present = _worst_around(points, tetrahedra, around)
    limit = min(1.0, present) if on_interface else present
    for halving in range(6 if on_interface else 1):
        points[node] = old + (target - old) * 0.5**halving
        if _worst_around(points, tetrahedra, around) >= limit:
            return
    points[node] = old


@njit(cache=True)
def _worst_around(points: Any, tetrahedra: Any, around: Any) -> Any:
    """Smallest goodness of the elements around a node; 1 is the guard's limit, below 0 is inverted."""
    worst = np.inf
    for element in around:
        worst = min(worst, _goodness(points, tetrahedra[element]))
    return worst


@njit(cache=True)
def _goodness(points: Any, corners: Any) -> Any:
    """The smaller of mean ratio and smallest dihedral angle, each over its guard's limit."""
    a, b, c, d = points[corners[0]], points[corners[1]], points[corners[2]], points[corners[3]]
    opposite_a, opposite_b = _normal(b, c, d), _normal(a, d, c)
    opposite_c, opposite_d = _normal(a, b, d), _normal(a, c, b)
    six = -(opposite_d[0] * (d[0] - a[0]) + opposite_d[1] * (d[1] - a[1]) + opposite_d[2] * (d[2] - a[2]))
    if six <= 0.0:
        return six
    square = _square(a, b) + _square(a, c) + _square(a, d) + _square(b, c) + _square(b, d) + _square(c, d)
    ratio = 12.0 * (six / 2.0) ** (2.0 / 3.0) / square
    sharpest = max(
        _cosine(opposite_a, opposite_b),
        _cosine(opposite_a, opposite_c),
        _cosine(opposite_a, opposite_d),
        _cosine(opposite_b, opposite_c),
        _cosine(opposite_b, opposite_d),
        _cosine(opposite_c, opposite_d),
    )
    return min(ratio / GUARD_RATIO, np.arccos(min(1.0, sharpest)) / np.arccos(GUARD_COSINE))


@njit(cache=True)
def _normal(origin: Any, one: Any, two: Any) -> Any:
    x0, x1, x2 = one[0] - origin[0], one[1] - origin[1], one[2] - origin[2]
    y0, y1, y2 = two[0] - origin[0], two[1] - origin[1], two[2] - origin[2]
    return x1 * y2 - x2 * y1, x2 * y0 - x0 * y2, x0 * y1 - x1 * y0


@njit(cache=True)
def _square(one: Any, two: Any) -> Any:
    return (one[0] - two[0]) ** 2 + (one[1] - two[1]) ** 2 + (one[2] - two[2]) ** 2


@njit(cache=True)
def _cosine(one: Any, two: Any) -> Any:
    """Cosine of the dihedral angle between two faces with these outward normals; 1 where one has no area."""
    dot = one[0] * two[0] + one[1] * two[1] + one[2] * two[2]
    lengths = (one[0] ** 2 + one[1] ** 2 + one[2] ** 2) * (two[0] ** 2 + two[1] ** 2 + two[2] ** 2)
    return -dot / np.sqrt(lengths) if lengths > 0.0 else 1.0


@njit(cache=True)
def _labels_at(coefficients: Any, raised: Any, places: Any) -> Any:
    """The label with the largest raised signed distance at each place (sample indices)."""
    labels = np.empty(len(places), np.int64)
    fields, slopes = np.empty(len(coefficients)), np.empty((len(coefficients), 3))
    for p in range(len(places)):
        _fields_at(coefficients, places[p], fields, slopes)
        labels[p] = np.argmax(fields + raised)
    return labels


@njit(cache=True)
def _fields_at(coefficients: Any, place: Any, fields: Any, slopes: Any) -> None:
    """Cubic B-splines and their gradients (per sample) at a place in sample indices, kept within the grid."""
    weights, slopes_1d, start = np.empty((3, 4)), np.empty((3, 4)), np.empty(3, np.int64)
    for axis in range(3):
        last = coefficients.shape[axis + 1] - 3
        at = min(max(place[axis], 1.0), float(last))
        cell = min(int(at), last - 1)
        t = at - cell
        start[axis] = cell - 1
        weights[axis, 0], weights[axis, 1] = (1 - t) ** 3 / 6, (3 * t**3 - 6 * t**2 + 4) / 6
        weights[axis, 2], weights[axis, 3] = (-3 * t**3 + 3 * t**2 + 3 * t + 1) / 6, t**3 / 6
        slopes_1d[axis, 0], slopes_1d[axis, 1] = -((1 - t) ** 2) / 2, (3 * t**2 - 4 * t) / 2
        slopes_1d[axis, 2], slopes_1d[axis, 3] = (-3 * t**2 + 2 * t + 1) / 2, t**2 / 2
    fields[:] = 0.0
    slopes[:] = 0.0
    for label in range(len(coefficients)):
        for i in range(4):
            for j in range(4):
                for k in range(4):
                    value = coefficients[label, start[0] + i, start[1] + j, start[2] + k]
                    x, y, z = weights[0, i], weights[1, j], weights[2, k]
                    fields[label] += value * x * y * z
                    slopes[label, 0] += value * slopes_1d[0, i] * y * z
                    slopes[label, 1] += value * x * slopes_1d[1, j] * z
                    slopes[label, 2] += value * x * y * slopes_1d[2, k]
