"""What lies beside what among tetrahedra: neighbours across faces, edges, and all that meets in a node."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .mesh import distinct_rows
from .quality import EDGES, face_pairs

Grouped = tuple[NDArray[np.int64], NDArray[np.int64]]
"""(groups + 1,) starts, and the members of all groups one after the other."""


@dataclass(frozen=True, eq=False)
class Connections:
    """Of ``tetrahedra`` (elements, 4) among so many ``nodes``; each part is worked out when it is first asked for."""

    tetrahedra: NDArray[np.int64]
    nodes: int

    @cached_property
    def faces(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(faces, 3) nodes, sorted, and (faces, 2) the elements on both sides (-1 where there is none)."""
        return face_pairs(self.tetrahedra)

    @cached_property
    def neighbours(self) -> NDArray[np.int64]:
        """(elements, 4) elements across the faces, -1 where there is none."""
        _, sides = self.faces
        inner = sides[sides[:, 1] >= 0]
        found = np.full((len(self.tetrahedra), 4), -1)
        ends = np.concatenate([inner, inner[:, ::-1]])
        ends = ends[np.argsort(ends[:, 0], kind="stable")]
        place = np.arange(len(ends)) - np.searchsorted(ends[:, 0], ends[:, 0])
        found[ends[:, 0], place] = ends[:, 1]
        return found

    @cached_property
    def edges(self) -> NDArray[np.int64]:
        """(edges, 2) nodes, sorted."""
        pairs = np.sort(self.tetrahedra[:, EDGES].reshape(-1, 2), axis=1)
        return np.asarray(pairs[distinct_rows(pairs)[0]])

    @cached_property
    def edges_of_elements(self) -> NDArray[np.int64]:
        """(elements, 6) numbers of their edges."""
        return self._numbers(np.sort(self.tetrahedra[:, EDGES], axis=2))

    @cached_property
    def edges_of_faces(self) -> NDArray[np.int64]:
        """(faces, 3) numbers of their edges."""
        return self._numbers(self.faces[0][:, [[0, 1], [0, 2], [1, 2]]])

    def _numbers(self, pairs: NDArray[np.int64]) -> NDArray[np.int64]:
        """(…,) numbers of the edges with these (…, 2) sorted nodes."""
        keys = self.edges[:, 0] * self.nodes + self.edges[:, 1]
        return np.searchsorted(keys, pairs[..., 0] * self.nodes + pairs[..., 1])

    @cached_property
    def elements_around(self) -> Grouped:
        """Elements around each node."""
        return _grouped(self.tetrahedra.ravel(), np.repeat(np.arange(len(self.tetrahedra)), 4), self.nodes)

    @cached_property
    def nodes_around(self) -> Grouped:
        """Nodes at the other ends of each node's edges."""
        ends = np.concatenate([self.edges, self.edges[:, ::-1]])
        return _grouped(ends[:, 0], ends[:, 1], self.nodes)


def _grouped(keys: NDArray[np.int64], values: NDArray[np.int64], count: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Values grouped by key, in order."""
    order = np.argsort(keys, kind="stable")
    return np.searchsorted(keys[order], np.arange(count + 1)), values[order]
