"""What linear tetrahedra are made of: gradients, volumes, faces, and who touches whom."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..core.errors import SolverFault
from ..meshing.mesh import TumourMesh, signed_volumes

FACES = np.array([[1, 2, 3], [0, 3, 2], [0, 1, 3], [0, 2, 1]])
"""The four faces of a positively oriented tetrahedron, oriented outwards."""

EDGES = np.array([[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]])
"""The six edges of a tetrahedron."""


def edges_of(tetrahedra: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(edges, 2) the two nodes of every edge, ascending, and (elements, 6) the number of each of EDGES."""
    pairs = np.sort(tetrahedra[:, EDGES], axis=2).reshape(-1, 2)
    ends, place = np.unique(pairs, axis=0, return_inverse=True)
    return ends, place.reshape(-1, 6)


def gradients(points: NDArray[np.float64], tetrahedra: NDArray[np.int64]) -> NDArray[np.float64]:
    """(elements, 4, 3) 1/mm: gradients of the four linear shape functions."""
    edges = points[tetrahedra[:, 1:]] - points[tetrahedra[:, :1]]
    inner = np.swapaxes(np.linalg.inv(edges), 1, 2)
    return np.ascontiguousarray(np.concatenate([-inner.sum(axis=1, keepdims=True), inner], axis=1))


def checked_volumes(mesh: TumourMesh) -> NDArray[np.float64]:
    """(elements,) mm³, all positive.

    Raises SolverFault naming the elements that are flat or inside out, or when a node belongs to no element.
    """
    volumes = signed_volumes(mesh.points, mesh.tetrahedra)
    refuse_elements(~(volumes > 0.0), "no positive volume", "a mesh that passed its quality gate")
    lonely = int((np.bincount(mesh.tetrahedra.ravel(), minlength=len(mesh.points)) == 0).sum())
    if lonely:
        raise SolverFault(f"{lonely} nodes that belong to no element", "a mesh that passed its quality gate", "remesh")
    return volumes


def refuse_elements(wrong: NDArray[np.bool_], what: str, expected: str) -> None:
    """Raise SolverFault that names the wrong elements, if there is one."""
    elements = np.flatnonzero(wrong)
    if elements.size:
        raise SolverFault(
            f"{elements.size} elements have {what}: {named(elements)}",
            expected,
            "remesh, or look at these elements in the input",
        )


def named(elements: NDArray[np.int64], most: int = 10) -> str:
    """The first element numbers as text."""
    text = ", ".join(str(element) for element in elements[:most])
    return text + (f" and {elements.size - most} more" if elements.size > most else "")


def outer_faces(tetrahedra: NDArray[np.int64]) -> NDArray[np.int64]:
    """(faces, 3) nodes of the faces that belong to one element only, oriented outwards."""
    faces = tetrahedra[:, FACES].reshape(-1, 3)
    _, first, count = np.unique(np.sort(faces, axis=1), axis=0, return_index=True, return_counts=True)
    return np.asarray(faces[np.sort(first[count == 1])])


def nodal_areas(points: NDArray[np.float64], faces: NDArray[np.int64]) -> NDArray[np.float64]:
    """(nodes,) mm²: a third of the area of the faces around each node."""
    a, b, c = np.moveaxis(points[faces], 1, 0)
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2.0
    return np.bincount(faces.ravel(), np.repeat(area / 3.0, 3), minlength=len(points)).astype(np.float64, copy=False)


def corner_sums(tetrahedra: NDArray[np.int64], values: NDArray[np.float64], nodes: int) -> NDArray[np.float64]:
    """(nodes,) sum of the corner values (elements, 4) around each node, in the order of the elements."""
    return np.bincount(tetrahedra.ravel(), values.ravel(), minlength=nodes).astype(np.float64, copy=False)


@dataclass(frozen=True, eq=False)
class Graph:
    """A sparsity pattern, and where each element's 4 x 4 entries go in it.

    pointer, column   compressed sparse rows
    slot              (elements, 4, 4) position of entry (row corner, column corner)
    row               (entries,) row of each entry
    """

    pointer: NDArray[np.int32]
    column: NDArray[np.int32]
    slot: NDArray[np.int32]
    row: NDArray[np.int32]


def graph(rows: NDArray[np.int64], columns: NDArray[np.int64], shape: tuple[int, int]) -> Graph:
    """The pattern that couples every row corner (elements, 4) with every column corner of its element."""
    keys = rows[:, :, None] * np.int64(shape[1]) + columns[:, None, :]
    entries, slot = np.unique(keys.ravel(), return_inverse=True)
    row = (entries // shape[1]).astype(np.int32)
    pointer = np.searchsorted(row, np.arange(shape[0] + 1)).astype(np.int32)
    return Graph(pointer, (entries % shape[1]).astype(np.int32), slot.reshape(keys.shape).astype(np.int32), row)


def corners_of(numbers: NDArray[np.int64], count: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """For each of ``count`` numbers the element corners (4 e + corner) that carry it, in ascending order.

    returns pointer (count + 1,) and corners (4 elements,)
    """
    flat = numbers.ravel()
    order = np.argsort(flat, kind="stable").astype(np.int32)
    return np.searchsorted(flat[order], np.arange(count + 1)).astype(np.int32), order
