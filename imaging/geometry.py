"""Sorting in space: image planes become slices of a grid, by orientation and position alone.

The order is that of position along the normal n = row direction x column direction, never of instance numbers,
slice locations or file names; the slice distance is that of positions, never Slice Thickness (two of the
reference data sets differ). Obliquity is kept; a stack that is no regular grid is refused.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..core.errors import StudyRejected
from ..core.quantity import Parameter
from .planes import Plane
from .study import Grid

SAME_POSITION = Parameter(
    0.01,
    "mm",
    "positions closer than this along the normal are one slice",
    source="project specification, imaging §1.1",
    range=(1e-4, 0.1),
    assumed=True,
)
SLICE_IRREGULARITY = Parameter(
    0.01,
    "1",
    "largest deviation of one slice distance from their median",
    source="project specification, validation §2.3 D7",
    range=(0.001, 0.1),
    assumed=True,
)
LARGEST_SHEAR = Parameter(
    0.1,
    "degree",
    "largest angle between the slice normal and the direction of stacking",
    source="project specification, validation §2.3 D7",
    range=(0.01, 1),
    assumed=True,
)
SAME_DIRECTION = Parameter(
    1e-3,
    "1",
    "direction cosines closer than this are equal",
    source="decimal strings of six digits",
    range=(1e-6, 1e-2),
    assumed=True,
)


def check_alike(planes: Sequence[Plane], where: str) -> None:
    """Raise StudyRejected for a series spliced from images that do not belong on one grid."""
    first = planes[0]
    for what, differs in (
        ("image sizes", lambda plane: plane.shape != first.shape),
        (
            "orientations",
            lambda plane: not np.allclose(plane.orientation, first.orientation, atol=SAME_DIRECTION.value),
        ),
        ("pixel spacings", lambda plane: not np.allclose(plane.spacing, first.spacing, rtol=1e-3)),
    ):
        others = sum(differs(plane) for plane in planes)
        if others:
            raise StudyRejected(
                f"{where} mixes {what}: {others} of its {len(planes)} images differ from the first",
                "one size, orientation and spacing in a series",
                "separate the images that were mixed into this series",
            )


def normal_of(orientation: NDArray[np.float64], where: str) -> NDArray[np.float64]:
    """(3,) unit normal of Image Orientation (Patient), (6,).

    Raises StudyRejected unless its directions are perpendicular unit vectors.
    """
    row, column = orientation[:3], orientation[3:]
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    if not np.allclose(lengths, 1.0, atol=SAME_DIRECTION.value) or abs(row @ column) > SAME_DIRECTION.value:
        raise StudyRejected(
            f"{where} has row and column directions that are not perpendicular unit vectors",
            "Image Orientation (Patient) of two perpendicular unit vectors",
            "export the original images",
        )
    normal = np.cross(row, column)
    return np.asarray(normal / np.linalg.norm(normal))


def group_heights(heights: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Distinct positions along the normal, ascending (mm), and the place of each input among them."""
    order = np.argsort(heights, kind="stable")
    new = np.diff(heights[order], prepend=-np.inf) > SAME_POSITION.value
    places = np.empty(len(heights), dtype=np.int64)
    places[order] = np.cumsum(new) - 1
    return heights[order][new], places


def slice_distance(heights: NDArray[np.float64], where: str) -> float:
    """mm between slices at these ascending positions. Raises StudyRejected for a gap."""
    steps = np.diff(heights)
    step = float(np.median(steps))
    worst = int(np.argmax(np.abs(steps - step)))
    if abs(steps[worst] - step) > max(SLICE_IRREGULARITY.value * step, SAME_POSITION.value):
        raise StudyRejected(
            f"{where} has a gap: slices {worst + 1} and {worst + 2} of {len(heights)} lie "
            f"{steps[worst]:.3f} mm apart, the others {step:.3f} mm",
            "evenly spaced slices",
            "add the missing slices, or resample the series",
        )
    return float((heights[-1] - heights[0]) / (len(heights) - 1))


def slice_distance_with_gaps(heights: NDArray[np.float64], declared: float | None, where: str) -> float:
    """mm between slices of which some may be absent, as in a segmentation that leaves out empty ones.

    declared  Spacing Between Slices; believed if all distances are multiples of it, else the smallest distance is

    Raises StudyRejected when the positions fit no even spacing.
    """
    steps = np.diff(heights)
    for step in (declared, float(steps.min())):
        if step is None or step <= SAME_POSITION.value:
            continue
        counts = np.rint((heights - heights[0]) / step)
        if (counts[1:] > 0).all() and np.abs(heights - heights[0] - counts * step).max() <= max(
            SLICE_IRREGULARITY.value * step * counts.max(), SAME_POSITION.value
        ):
            return float((heights[-1] - heights[0]) / counts[-1])
    raise StudyRejected(
        f"{where} has frames at uneven distances ({steps.min():.3f} to {steps.max():.3f} mm)",
        "frames on evenly spaced slices",
        "export the segmentation on the slices of its images",
    )


def _lone_distance(plane: Plane, where: str) -> float:
    step = plane.declared_step or plane.thickness
    if not step:
        raise StudyRejected(
            f"{where} is one slice of unknown thickness",
            "a slice distance above zero",
            "give the other slices, or an image with Spacing Between Slices",
        )
    return step


def _check_straight(planes: Sequence[Plane], normal: NDArray[np.float64], where: str) -> None:
    positions = np.array([plane.position for plane in planes])
    sideways = positions - np.outer(positions @ normal, normal)
    drift = np.linalg.norm(sideways - sideways[0], axis=1).max()
    allowed = np.tan(np.radians(LARGEST_SHEAR.value)) * np.ptp(positions @ normal) + SAME_POSITION.value
    if drift > allowed:
        raise StudyRejected(
            f"the slices of {where} are shifted sideways by up to {drift:.2f} mm (a tilted gantry, or mixed series)",
            f"slices stacked within {LARGEST_SHEAR.value} degrees of their normal",
            "resample the series to a rectangular grid",
        )


def stack(planes: Sequence[Plane], frame_uid: str, where: str, *, gaps: bool = False) -> tuple[Grid, NDArray[np.int64]]:
    """The grid that the planes lie on, and the slice number of each; several planes may share a slice.

    gaps  True if slices may be absent (empty ones of a segmentation)

    Slices ascend along the normal. Raises StudyRejected for mixed sizes, orientations or spacings, a spacing of
    zero, a gap, or shear.
    """
    check_alike(planes, where)
    first = planes[0]
    if (first.spacing <= 0).any():
        raise StudyRejected(
            f"{where} has a pixel spacing of zero or below", "positive Pixel Spacing", "export the original images"
        )
    normal = normal_of(first.orientation, where)
    _check_straight(planes, normal, where)
    heights, slices = group_heights(np.array([plane.position @ normal for plane in planes]))
    if len(heights) == 1:
        step = _lone_distance(first, where)
    elif gaps:
        step = slice_distance_with_gaps(heights, first.declared_step, where)
        slices = np.rint((heights - heights[0]) / step).astype(np.int64)[slices]
    else:
        step = slice_distance(heights, where)
    affine = np.eye(4)
    affine[:3, 0] = first.orientation[:3] * first.spacing[0]
    affine[:3, 1] = first.orientation[3:] * first.spacing[1]
    affine[:3, 2] = normal * step
    affine[:3, 3] = planes[int(np.argmin(slices))].position
    return Grid((first.shape[0], first.shape[1], int(slices.max()) + 1), affine, frame_uid), slices


def sub_block(inner: Grid, outer: Grid) -> tuple[int, int, int] | None:
    """Where ``inner`` begins in ``outer`` if its voxels are voxels of ``outer`` (to 1 % of a voxel), else None."""
    if not np.allclose(inner.affine[:3, :3], outer.affine[:3, :3], atol=1e-3 * outer.spacing.min()):
        return None
    offset = outer.index(inner.affine[:3, 3])
    begin = np.rint(offset).astype(int)
    fits = (begin >= 0).all() and all(begin[a] + inner.shape[a] <= outer.shape[a] for a in range(3))
    if not fits or np.abs(offset - begin).max() > 0.01:
        return None
    return int(begin[0]), int(begin[1]), int(begin[2])


def overlap(a: Grid, b: Grid) -> bool:
    """True if the boxes around both grids (LPS) share a point."""
    boxes = []
    for grid in (a, b):
        corners = np.array(np.meshgrid(*[(-0.5, n - 0.5) for n in grid.shape])).reshape(3, -1).T
        world = grid.world(corners)
        boxes.append((world.min(axis=0), world.max(axis=0)))
    (low_a, high_a), (low_b, high_b) = boxes
    return bool((low_a <= high_b).all() and (low_b <= high_a).all())
