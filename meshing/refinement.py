"""Where a mesh misses its gate, elements of half the edge: the places, and the sizes that follow from them.

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
from .lattice import ELEMENT_VOLUME, Finer, Sizes
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


def finer_sizes(sizes: Sizes, levels: LevelSets, places: NDArray[np.float64]) -> Sizes:
    """The sizes with elements of half the edge wanted so far at the places."""
    if not len(places):
        return sizes
    edges = 0.5 * sizes.wanted(_depth(levels, levels.index(places)), places)
    halvings = np.rint(2.0 * np.log2(sizes.size / edges)).astype(int)
    finer = list(sizes.finer)
    for count in np.unique(halvings):
        edge = sizes.size * 0.5 ** (0.5 * float(count))
        spread = np.unique(np.rint(2.0 * places[halvings == count] / edge), axis=0) * edge / 2.0
        finer.append(Finer(spread, edge))
    return replace(sizes, finer=tuple(finer))


def elements_wanted(levels: LevelSets, sizes: Sizes) -> float:
    """About how many elements the regions take at these sizes."""
    inside = np.argwhere(levels.values[0] < 0.0).astype(np.float64)
    edges = sizes.wanted(_depth(levels, inside), levels.world(inside))
    return float((levels.cell_volume / (ELEMENT_VOLUME * edges**3)).sum())


def _depth(levels: LevelSets, index: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n,) mm from the regions within the host, negative in them, at sample indices."""
    return np.asarray(-ndimage.map_coordinates(levels.within_host, index.T, order=1, mode="nearest"))
