"""TumourMesh: tetrahedra with named regions, and the measures of their quality."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class TumourMesh:
    """Conforming tetrahedra of a tumour and its host.

    points        (nodes, 3) mm, LPS
    tetrahedra    (elements, 4) node numbers, positively oriented
    region        (elements,) region value
    region_names  region value to name: ``{1: "host", 2: "tumour"}``
    frame_uid     DICOM frame of reference
    mesher        gmsh or bcc
    report        what the mesher did and measured (volumes, quality, distances, fallbacks), ready for JSON
    """

    points: NDArray[np.float64]
    tetrahedra: NDArray[np.int64]
    region: NDArray[np.int64]
    region_names: Mapping[int, str]
    frame_uid: str = ""
    mesher: str = ""
    report: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def volumes(self) -> NDArray[np.float64]:
        """(elements,) mm³, signed."""
        return signed_volumes(self.points, self.tetrahedra)

    @cached_property
    def centroids(self) -> NDArray[np.float64]:
        """(elements, 3) mm."""
        return np.asarray(self.points[self.tetrahedra].mean(axis=1))

    def elements_of(self, name: str) -> NDArray[np.int64]:
        """Element numbers of the region of that name."""
        values = [value for value, region in self.region_names.items() if region == name]
        return np.flatnonzero(np.isin(self.region, values))

    def volume_of(self, name: str) -> float:
        """mL of the region of that name."""
        return float(self.volumes[self.elements_of(name)].sum() / 1000.0)

    def moved(self, displacement: NDArray[np.float64]) -> TumourMesh:
        """The same mesh with its nodes displaced by (nodes, 3) mm."""
        return replace(self, points=self.points + displacement)

    def surface_of(self, name: str) -> NDArray[np.int64]:
        """(triangles, 3) nodes of the closed surface of a region, oriented outwards."""
        tetrahedra = self.tetrahedra[self.elements_of(name)]
        faces = tetrahedra[:, [[1, 2, 3], [0, 3, 2], [0, 1, 3], [0, 2, 1]]].reshape(-1, 3)
        first, count = distinct_rows(np.sort(faces, axis=1))
        return np.asarray(faces[np.sort(first[count == 1])])


def signed_volumes(points: NDArray[np.float64], tetrahedra: NDArray[np.int64]) -> NDArray[np.float64]:
    """(elements,) mm³: det[b-a, c-a, d-a] / 6."""
    a, b, c, d = np.moveaxis(points[tetrahedra], 1, 0)
    return np.asarray(np.einsum("ij,ij->i", np.cross(b - a, c - a), d - a) / 6.0)


def distinct_rows(rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For each different row of (n, columns), in sorted order: the place of its first occurrence and its number.

    As ``np.unique`` along the first axis tells, several times faster.
    """
    order, start = sorted_rows(rows)
    return order[start], np.diff(start, append=len(rows))


def sorted_rows(rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(n,) places of the rows in sorted order, equal ones as they come, and where in them each new row starts."""
    order = np.lexsort(rows.T[::-1])
    ordered = rows[order]
    new = np.ones(len(rows), bool)
    new[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    return order, np.flatnonzero(new)
