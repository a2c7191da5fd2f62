"""Where a mesh misses its gate, elements of half the edge or less: the places, and the sizes that follow from them.

The marks of a mesh say what is wrong with a region; the places say where. A surface far from its voxels, an edge where
a region touches itself and the outline of a region that has lost its volume are places; the lattice is bisected around
them and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from ..imaging.study import LabelImage
from .lattice import Finer, Sizes, planned_elements
from .mesh import TumourMesh
from .quality import MAX_VOLUME_ERROR, open_edges, surface_samples
from .surface import LevelSets


def failing_places(
    mesh: TumourMesh, labels: LabelImage, regions: Mapping[str, Mapping[str, Any]], limit: float
) -> NDArray[np.float64]:
    """(places, 3) mm LPS where a mesh misses a gate of its fit or its topology.

    regions  as ``quality.fit`` tells
    limit    mm that 95 % of each surface stay below from the voxels

    The volume of a host is what its regions leave, so it has no places of its own.
    """
    places = [np.zeros((0, 3))]
    for name, region in regions.items():
        if not region["elements"]:
            places.append(labels.grid.world(np.argwhere(labels.mask(name))))
            continue
        places.append(mesh.points[open_edges(mesh.surface_of(name))].mean(axis=1))
        if region["surface_distance_mm"]["h95"] < limit and abs(region["volume_error"]) <= MAX_VOLUME_ERROR.value:
            continue
        meshed, drawn = surface_samples(mesh, labels, name)
        if name != "host" and abs(region["volume_error"]) > MAX_VOLUME_ERROR.value:
            places.append(drawn)
        places.append(meshed[cKDTree(drawn).query(meshed)[0] >= limit])
        places.append(drawn[cKDTree(meshed).query(drawn)[0] >= limit])
    return np.concatenate(places)


def finer_sizes(sizes: Sizes, places: NDArray[np.float64], edges: NDArray[np.float64]) -> Sizes:
    """The sizes with elements of these edges (places,) mm at the places, in steps of a factor sqrt(2)."""
    halvings = np.rint(2.0 * np.log2(sizes.size / edges)).astype(int)
    finer = list(sizes.finer)
    for count in np.unique(halvings):
        edge = sizes.size * 0.5 ** (0.5 * float(count))
        spread = np.unique(np.rint(2.0 * places[halvings == count] / edge), axis=0) * edge / 2.0
        finer.append(Finer(spread, edge))
    return replace(sizes, finer=tuple(finer))


def sizes_within(
    most: float, sizes: Sizes, levels: LevelSets, places: NDArray[np.float64], labels: LabelImage
) -> Sizes | None:
    """The sizes that follow from the failing places and take at most so many elements; None where none do.

    Elements become half as large as they were or, where the labels are thinner than that, as small as they are thick,
    so that one more try may do; where they would be too many, larger by factors of sqrt(2), as long as any is finer.
    """
    wanted = sizes.wanted(_depth(levels, levels.index(places)), places)
    edges = np.minimum(0.5 * wanted, local_thickness(labels, places, sizes.size))
    while (edges < 0.9 * wanted).any():
        finer = finer_sizes(sizes, places, np.minimum(edges, wanted))
        if planned_elements(levels, finer) <= most:
            return finer
        edges = np.sqrt(2.0) * edges
    return None


def local_thickness(labels: LabelImage, places: NDArray[np.float64], size: float) -> NDArray[np.float64]:
    """(places,) mm, about how thick the thinnest label within a voxel of each place is: the smallest ball that is too
    wide for it.

    Local thickness [Hildebrand & Rüegsegger 1997, J Microsc 185:67, doi 10.1046/j.1365-2818.1997.1340694.x], in steps
    of a factor sqrt(2) from ``size`` mm, which stands for whatever is thicker, down to the smallest voxel edge.
    """
    spacing, thick = labels.grid.spacing, np.full(labels.values.shape, size)
    within = _distance_within(labels)
    for ball in size * 0.5 ** (0.5 * np.arange(1.0, 1.0 + max(0.0, 2.0 * np.log2(size / spacing.min())))):
        core = within > ball / 2.0
        if core.any() and not core.all():
            thick[ndimage.distance_transform_edt(~core, sampling=spacing) > ball / 2.0] = ball
    voxel = np.clip(np.rint(labels.grid.index(places)).astype(int), 0, np.array(thick.shape) - 1)
    return np.asarray(ndimage.minimum_filter(thick, 3)[tuple(voxel.T)])


def _distance_within(labels: LabelImage) -> NDArray[np.float64]:
    """(i, j, k) mm from every voxel to the nearest of another label; the image goes on beyond its border."""
    within = np.zeros(labels.values.shape)
    for value in np.unique(labels.values):
        inside = np.pad(labels.values == value, 1, mode="edge")
        within += ndimage.distance_transform_edt(inside, sampling=labels.grid.spacing)[1:-1, 1:-1, 1:-1]
    return within


def _depth(levels: LevelSets, index: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n,) mm from the regions within the host, negative in them, at sample indices."""
    return np.asarray(-ndimage.map_coordinates(levels.within_host, index.T, order=1, mode="nearest"))
