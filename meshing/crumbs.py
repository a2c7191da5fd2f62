"""Crumbs: pieces of a label that elements cannot hold, given to the label around them, counted and told.

A threshold leaves single voxels beside a tumour and pinholes within it. Elements small enough for each of them would
be most of a mesh and hold next to nothing of the tumour.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..core.quantity import Parameter
from ..imaging.study import LabelImage
from .lattice import ELEMENT_VOLUME

SMALLEST_PIECE = Parameter(
    8.0,
    "1",
    "elements below whose volume together a piece or a cavity is a crumb",
    "ASSUMED: two elements across in every direction (project specification, tissue §1.6), fewer show none",
    (1.0, 27.0),
    assumed=True,
)

CRUMBS_SHARE = Parameter(
    0.02,
    "1",
    "largest share of a region's volume that crumbs may take from it, or bring to it",
    "ASSUMED: twice the volume error allowed to a mesh (project specification, tissue §1.6), and told",
    (0.0, 0.05),
    assumed=True,
)


@dataclass(frozen=True)
class Crumbs:
    """What was taken from one region for another.

    share  of the volume of the smaller of both regions
    """

    name: str
    given_to: str
    pieces: int
    volume_ml: float
    share: float

    @property
    def words(self) -> str:
        return (
            f"{self.pieces} pieces of the {self.name} ({self.volume_ml:.3g} mL, {100.0 * self.share:.2g} %), "
            f"each too small for the elements, count as {self.given_to}"
        )


def without_crumbs(labels: LabelImage, size: float) -> tuple[LabelImage, tuple[Crumbs, ...]]:
    """The label image with its smallest pieces given to the label around them, and what that was.

    size  mm, edge of the elements: pieces (voxels joined by faces) below SMALLEST_PIECE of them are crumbs

    The smallest go first, as long as no region loses or gains more than CRUMBS_SHARE of its volume; what is more
    stays. The largest piece of every region stays. Cavities of the outside are its pieces.
    """
    values = np.pad(labels.values, 1)
    limit = SMALLEST_PIECE.value * ELEMENT_VOLUME * size**3 / labels.grid.voxel_volume
    volumes = np.bincount(values.ravel(), minlength=int(values.max()) + 1).astype(float)
    room = CRUMBS_SHARE.value * volumes
    room[0] = np.inf
    counts: dict[tuple[int, int], list[int]] = {}
    new = values.copy()
    for voxels, value, box, piece in sorted(_small_pieces(values, limit), key=lambda one: one[:2]):
        taker = _around(values[box], piece)
        if taker is None or room[value] < voxels or room[taker] < voxels:
            continue
        room[[value, taker]] -= voxels
        new[box][piece] = taker
        counts.setdefault((value, taker), []).append(voxels)
    names = {0: "outside", **labels.names}
    crumbs = tuple(
        Crumbs(
            names[value],
            names[taker],
            len(taken),
            sum(taken) * labels.grid.voxel_volume / 1000.0,
            float(sum(taken) / min(volumes[one] for one in (value, taker) if one)),
        )
        for (value, taker), taken in sorted(counts.items())
    )
    return replace(labels, values=new[1:-1, 1:-1, 1:-1]), crumbs


_Box = tuple[slice, ...]


def _small_pieces(values: NDArray[np.integer], limit: float) -> list[tuple[int, int, _Box, NDArray[np.bool_]]]:
    """Voxels, value, box (a voxel wider), mask: pieces below ``limit`` voxels, the largest of a value left out."""
    found = []
    for value in np.unique(values):
        numbered, _ = ndimage.label(values == value)
        sizes = np.bincount(numbered.ravel())
        sizes[0] = 0
        boxes = ndimage.find_objects(numbered)
        for number in np.flatnonzero((sizes > 0) & (sizes < limit)):
            if number == int(sizes.argmax()):
                continue
            box = tuple(slice(max(0, s.start - 1), s.stop + 1) for s in boxes[number - 1])
            found.append((int(sizes[number]), int(value), box, numbered[box] == number))
    return found


def _around(values: NDArray[np.integer], piece: NDArray[np.bool_]) -> int | None:
    """The value that shares most faces with a piece, the lowest of equals."""
    count = np.zeros(int(values.max()) + 1, np.int64)
    for axis in range(3):
        for shift in (1, -1):
            beside = np.roll(piece, shift, axis) & ~piece
            count += np.bincount(values[beside], minlength=len(count))
    return int(np.argmax(count)) if count.any() else None
