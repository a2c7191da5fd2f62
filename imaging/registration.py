"""One image onto another: rigid, then smooth deformation; what it did is measured.

A registration is a map T of points of patient space, x in the fixed image to T(x) in the moving image (LPS, mm), so
that moving(T(x)) shows what fixed(x) shows. Rigid: T(x) = R (x - c) + c + t. Deformable: T(x) = rigid(x + u(x)) with
u cubic B-splines on a lattice of nodes (Rueckert et al. 1999, doi 10.1109/42.796284). The rigid motion maximises
Mattes's mutual information (Mattes et al. 2003, doi 10.1109/TMI.2003.809072), coarse to fine, with SimpleITK; the
deformation is found from what the images are like locally (``deformation``) and kept only where it raises the mutual
information, which it was not made from. Everything runs on one thread from a fixed seed: equal images give equal
transforms on any machine of one kind.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import SimpleITK
from numpy.typing import NDArray

from ..core.errors import ConfigurationRejected, StudyRejected
from ..core.files import folder_written_whole, write_json
from ..core.quantity import Parameter
from .deformation import deformation
from .geometry import overlap
from .nifti import write_nifti
from .resample import resample_labels
from .study import Grid, LabelImage

sitk: Any = SimpleITK
Kind = Literal["rigid", "deformable"]
Values = NDArray[np.float64]
Mask = NDArray[np.bool_]

BINS = Parameter(
    32,
    "1",
    "bins of the joint histogram",
    "Mattes et al. 2003, doi 10.1109/TMI.2003.809072",
    range=(16, 64),
    assumed=True,
)
SAMPLES = Parameter(
    20000,
    "1",
    "voxels that the similarity is computed from, drawn once a resolution",
    "ASSUMED: enough for a stable histogram of 32 x 32 bins",
    range=(5000, 200000),
    assumed=True,
)
NODE_SPACING = Parameter(
    30.0,
    "mm",
    "distance between the nodes of the deformation",
    "ASSUMED: finer than an organ, coarser than what noise can bend; the finest of Rueckert et al. 1999 is 10 mm",
    range=(10.0, 60.0),
    assumed=True,
)
LEAST_NODES = Parameter(
    4,
    "1",
    "fewest cells of nodes along the longest edge: in a small animal the nodes lie closer",
    "ASSUMED: organs are a quarter of what an image shows, or less",
    range=(2, 8),
    assumed=True,
)
LEAST_EDGE = Parameter(
    8, "1", "fewest voxels along an axis", "ASSUMED: two nodes of four voxels each", range=(4, 32), assumed=True
)
LEAST_OVERLAP = Parameter(
    0.25,
    "1",
    "least share of the fixed image that the moving image must cover",
    "the engine's own limit on the share of valid samples (SimpleITK 2.5)",
    range=(0.1, 0.9),
    assumed=True,
)
SEED = 1
"""Of the drawing of samples."""


@dataclass(frozen=True, eq=False)
class Image:
    """Something to register: (i, j, k) values on a grid, and True in ``mask`` where they count (None: everywhere)."""

    grid: Grid
    values: NDArray[Any]
    mask: Mask | None = None


@dataclass(frozen=True, eq=False)
class Registration:
    """How a moving image lies on a fixed one.

    kind              rigid or deformable, as it was asked for
    transform         SimpleITK's: points of the fixed image to points of the moving image, LPS mm
    grid              of the fixed image
    displacement      (i, j, k, 3) mm, LPS: T(x) - x at every voxel of the fixed image
    similarity        (before, after): mutual information in nats, over the same voxels; higher is more alike
    jacobian          (least, greatest) local change of volume dT/dx, where the mask counts; 1 = none
    improved          False where nothing raised the similarity: the transform is then the identity
    remark            what was given up on the way, empty if nothing
    """

    kind: Kind
    transform: Any
    grid: Grid
    displacement: Values
    similarity: tuple[float, float]
    jacobian: tuple[float, float]
    improved: bool
    remark: str = ""

    @property
    def folds(self) -> bool:
        """True if tissue is turned inside out somewhere: such a deformation is impossible."""
        return self.jacobian[0] <= 0


def register(fixed: Image, moving: Image, kind: Kind = "rigid", *, node_spacing: float | None = None) -> Registration:
    """Find where each point of the fixed image lies in the moving image.

    node_spacing  mm between the nodes of a deformation; None: see ``nodes_apart``

    A step that does not raise the similarity is left out, a deformation that folds is tried again with nodes twice
    as far apart and left out if it folds again. Raises StudyRejected for images that cannot be compared: values that
    are no numbers, a constant image, fewer than 8 voxels along an axis, no overlap; ConfigurationRejected for an
    unknown kind.
    """
    if kind not in get_args(Kind):
        raise ConfigurationRejected(f"registration {kind!r}", "rigid or deformable", "choose one of them")
    spacing = nodes_apart(fixed.grid) if node_spacing is None else node_spacing
    if not spacing > 0:
        raise ConfigurationRejected(f"node spacing {spacing} mm", "a positive number", "correct it")
    check(fixed, "fixed")
    check(moving, "moving")
    if not overlap(fixed.grid, moving.grid):
        raise StudyRejected(
            "the fixed and the moving image do not overlap in space",
            f"grids that share at least {LEAST_OVERLAP.value:.0%} of the fixed image",
            "check that both were placed in the same patient coordinates",
        )
    with one_thread():
        pair = _Pair(fixed, moving)
        unmoved = sitk.Euler3DTransform()
        before = pair.similarity(unmoved)
        best, after = _better(pair, (unmoved, before), _rigid(pair, fixed, moving))
        remark = ""
        if kind == "deformable":
            best, after, remark = _deformed(pair, fixed, best, after, spacing)
        displacement, jacobian = field_of(best, fixed.grid, fixed.mask)
    return Registration(kind, best, fixed.grid, displacement, (before, after), jacobian, after > before, remark)


def nodes_apart(grid: Grid) -> float:
    """mm between the nodes of a deformation: NODE_SPACING, or less where the image is smaller than LEAST_NODES of them.

    >>> nodes_apart(Grid((100, 100, 40), np.diag([0.25, 0.25, 0.5, 1.0])))
    6.25
    """
    longest = float((grid.spacing * np.array(grid.shape)).max())
    return min(NODE_SPACING.value, longest / LEAST_NODES.value)


def check(image: Image, which: str) -> None:
    """Raise StudyRejected for an image that cannot be registered."""
    values = np.asarray(image.values)
    if values.ndim != 3 or values.shape != image.grid.shape:
        raise StudyRejected(
            f"the {which} image has {values.ndim} dimensions of {values.shape} voxels on a grid of {image.grid.shape}",
            "one volume on its own grid",
            "choose one frame of the series",
        )
    if min(values.shape) < LEAST_EDGE.value:
        raise StudyRejected(
            f"the {which} image has too few voxels: {' x '.join(map(str, values.shape))}",
            f"at least {LEAST_EDGE.value:g} along every axis",
            "give a whole volume",
        )
    if image.mask is not None and (image.mask.shape != values.shape or not image.mask.any()):
        raise StudyRejected(
            f"the mask of the {which} image is empty or on another grid",
            "a mask with voxels, on the image's own grid",
            "resample or redraw the mask",
        )
    seen = values if image.mask is None else values[image.mask]
    if not np.isfinite(values).all():
        raise StudyRejected(
            f"the {which} image holds values that are not finite",
            "a number in every voxel",
            "fill or crop the voxels without a value",
        )
    if float(np.ptp(seen)) == 0:
        raise StudyRejected(f"the {which} image is constant", "an image with contrast", "give another image")


@contextmanager
def one_thread() -> Iterator[None]:
    """SimpleITK on one thread: sums of floating-point numbers then never depend on how the work was shared."""
    threads = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)


def to_itk(grid: Grid, values: NDArray[Any]) -> Any:
    """A SimpleITK image of (i, j, k) values; its physical space is ours, LPS mm."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(np.asarray(values).T))
    image.SetSpacing(grid.spacing.tolist())
    image.SetOrigin(grid.affine[:3, 3].tolist())
    image.SetDirection((grid.affine[:3, :3] / grid.spacing).ravel().tolist())
    return image


# ------------------------------------------------------------------------------------------------------ the engine


class _Pair:
    """Both images as the engine holds them, and how alike they are."""

    def __init__(self, fixed: Image, moving: Image) -> None:
        self.fixed, self.moving = (to_itk(one.grid, np.asarray(one.values, np.float32)) for one in (fixed, moving))
        self.masks = [
            None if one.mask is None else to_itk(one.grid, one.mask.astype(np.uint8)) for one in (fixed, moving)
        ]
        self.share = min(1.0, SAMPLES.value / fixed.values.size)
        self.edge = float(fixed.grid.spacing.max())
        self.coarsest = 4 if min(fixed.grid.shape) >= 4 * LEAST_EDGE.value else 2

    def method(self) -> Any:
        """A registration by mutual information, without its optimiser."""
        method = sitk.ImageRegistrationMethod()
        method.SetMetricAsMattesMutualInformation(int(BINS.value))
        method.SetMetricSamplingStrategy(method.RANDOM if self.share < 1 else method.NONE)
        method.SetMetricSamplingPercentage(self.share, SEED)
        method.SetInterpolator(sitk.sitkLinear)
        if self.masks[0] is not None:
            method.SetMetricFixedMask(self.masks[0])
        if self.masks[1] is not None:
            method.SetMetricMovingMask(self.masks[1])
        return method

    def coarse_to_fine(self, method: Any) -> Any:
        """Three resolutions, smoothed by one and a half voxels, by a half, and not at all."""
        method.SetShrinkFactorsPerLevel([self.coarsest, 2, 1])
        method.SetSmoothingSigmasPerLevel([1.5 * self.edge, 0.5 * self.edge, 0.0])
        method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
        return method

    def similarity(self, transform: Any) -> float:
        """Mutual information, nats, of the fixed image and the moving one under a transform."""
        method = self.method()
        method.SetInitialTransform(transform)
        try:
            return -float(method.MetricEvaluate(self.fixed, self.moving))
        except RuntimeError as error:
            raise StudyRejected(
                "too little of the fixed image is covered by the moving image (or by its mask)",
                f"at least {LEAST_OVERLAP.value:.0%}",
                "check that both images show the same region, and that the masks overlap",
            ) from error


def _better(pair: _Pair, known: tuple[Any, float], found: Any) -> tuple[Any, float]:
    """The more similar of two transforms; a transform that leaves the image is none."""
    try:
        similarity = pair.similarity(found)
    except StudyRejected:
        return known
    return (found, similarity) if similarity > known[1] else known


def _rigid(pair: _Pair, fixed: Image, moving: Image) -> Any:
    """The better of two searches: from where the scanner put the images, and from centre of signal on centre."""
    starts = [sitk.Euler3DTransform(), sitk.Euler3DTransform()]
    centre = fixed.grid.world((np.array(fixed.grid.shape) - 1) / 2)
    starts[0].SetCenter(centre.tolist())
    starts[1].SetCenter(_middle(fixed).tolist())
    starts[1].SetTranslation((_middle(moving) - _middle(fixed)).tolist())
    found = []
    for start in starts:
        method = pair.coarse_to_fine(pair.method())
        method.SetOptimizerAsRegularStepGradientDescent(pair.edge, 1e-4 * pair.edge, 150, 0.6, 1e-7)
        method.SetOptimizerScalesFromPhysicalShift()
        method.SetInitialTransform(start, inPlace=True)
        try:
            method.Execute(pair.fixed, pair.moving)
            found.append((pair.similarity(start), start))
        except (RuntimeError, StudyRejected):
            continue  # this start led out of the image; the other, or the identity, stands
    return max(found, key=lambda one: one[0])[1] if found else sitk.Euler3DTransform()


def _middle(image: Image) -> Values:
    """(3,) mm: centre of the signal above its least value, within the mask."""
    weight = np.asarray(image.values, dtype=np.float64) - float(np.min(image.values))
    if image.mask is not None:
        weight = weight * image.mask
    if weight.sum() <= 0:
        return image.grid.world((np.array(image.grid.shape) - 1) / 2)
    axes = [np.tensordot(weight, np.arange(n), (a, 0)).sum() / weight.sum() for a, n in enumerate(weight.shape)]
    return image.grid.world(np.array(axes))


def _deformed(pair: _Pair, fixed: Image, rigid: Any, similarity: float, spacing: float) -> tuple[Any, float, str]:
    """The rigid transform, with a deformation before it if that raises the similarity and does not fold."""
    remark = ""
    for distance in (spacing, 2 * spacing):
        found = sitk.CompositeTransform([rigid, _bspline(pair, fixed, rigid, distance)])
        best, after = _better(pair, (rigid, similarity), found)
        if best is rigid:
            return rigid, similarity, "no deformation was more similar than the rigid transform"
        if field_of(best, fixed.grid, fixed.mask)[1][0] > 0:
            return best, after, remark
        remark = f"the deformation with nodes {distance:g} mm apart folds"
    return rigid, similarity, remark + ": the rigid transform is kept"


def _bspline(pair: _Pair, fixed: Image, rigid: Any, distance: float) -> Any:
    """Cubic B-splines on nodes a distance apart, which carry the rigidly moved image onto the fixed one.

    The moving image is looked at a third of that distance beyond the fixed one, from where it may have to come.
    """
    wide, margin = _widened(fixed.grid, distance / 3)
    reference = to_itk(wide, np.zeros(wide.shape, np.uint8))
    where = pair.masks[1] or sitk.Cast(pair.moving * 0 + 1, sitk.sitkUInt8)
    carried = sitk.GetArrayFromImage(
        sitk.Resample(pair.moving, reference, rigid, sitk.sitkLinear, 0.0, sitk.sitkFloat32, True)
    ).T
    covered = sitk.GetArrayFromImage(sitk.Resample(where, reference, rigid, sitk.sitkNearestNeighbor, 0)).T > 0
    counts = np.ones(fixed.grid.shape, bool) if fixed.mask is None else fixed.mask.copy()
    counts[[0, -1]] = counts[:, [0, -1]] = counts[:, :, [0, -1]] = False  # half of their neighbours are unknown
    here = np.pad(np.asarray(fixed.values, np.float64), margin, mode="edge")
    return deformation(here, carried, np.pad(counts, margin), covered, wide, distance)


def _widened(grid: Grid, by_mm: float) -> tuple[Grid, list[tuple[int, int]]]:
    """The grid with a margin all round, and the voxels of the margin along each axis."""
    voxels = np.ceil(by_mm / grid.spacing).astype(int)
    affine = grid.affine.copy()
    affine[:3, 3] = grid.world(-voxels)
    shape = tuple(int(size) for size in np.array(grid.shape) + 2 * voxels)
    return Grid((shape[0], shape[1], shape[2]), affine), [(int(one), int(one)) for one in voxels]


def field_of(transform: Any, grid: Grid, counts: Mask | None = None) -> tuple[Values, tuple[float, float]]:
    """Displacement (i, j, k, 3) mm, LPS, of a transform on a grid, and the range of its Jacobian where it counts."""
    reference = to_itk(grid, np.zeros(grid.shape, np.uint8))
    field = sitk.TransformToDisplacementField(
        transform,
        sitk.sitkVectorFloat64,
        reference.GetSize(),
        reference.GetOrigin(),
        reference.GetSpacing(),
        reference.GetDirection(),
    )
    displacement = np.transpose(sitk.GetArrayFromImage(field), (2, 1, 0, 3))
    volume = jacobian(displacement, grid)
    seen = volume if counts is None else volume[counts]
    return displacement, (float(seen.min()), float(seen.max()))


def jacobian(displacement: Values, grid: Grid) -> Values:
    """(i, j, k) determinant of dT/dx for T(x) = x + displacement: the local change of volume.

    >>> float(jacobian(np.zeros((3, 3, 3, 3)), Grid((3, 3, 3), np.eye(4))).min())
    1.0
    """
    along_index = np.stack([np.gradient(displacement, axis=axis) for axis in range(3)], axis=-1)
    return np.asarray(np.linalg.det(np.eye(3) + along_index @ np.linalg.inv(grid.affine[:3, :3])))


# ---------------------------------------------------------------------------------------------------- what follows


def moved(registration: Registration, moving: Image) -> Values:
    """(i, j, k) moving image on the fixed grid, by linear interpolation; 0 outside the moving image."""
    return _resampled(registration, moving.grid, np.asarray(moving.values, np.float64), sitk.sitkLinear)


def moved_labels(registration: Registration, labels: LabelImage) -> LabelImage:
    """Labels drawn on the moving image, on the fixed grid: each voxel takes the nearest label."""
    values = _resampled(registration, labels.grid, labels.values, sitk.sitkNearestNeighbor).astype(np.uint8)
    return LabelImage(registration.grid, values, labels.names, labels.uid, labels.derived_from, labels.description)


def _resampled(registration: Registration, grid: Grid, values: NDArray[Any], interpolator: int) -> NDArray[Any]:
    reference = to_itk(registration.grid, np.zeros(registration.grid.shape, np.uint8))
    with one_thread():
        image = sitk.Resample(to_itk(grid, values), reference, registration.transform, interpolator, 0.0)
    return np.asarray(sitk.GetArrayFromImage(image).T)


def dice(one: Mask, other: Mask) -> float:
    """Overlap of two regions, 2 |A and B| / (|A| + |B|), 0 to 1 (Dice 1945, doi 10.2307/1932409).

    >>> dice(np.array([True, True]), np.array([True, False]))
    0.6666666666666666
    """
    total = int(one.sum()) + int(other.sum())
    return 2 * int((one & other).sum()) / total if total else 1.0


def quality(
    registration: Registration, fixed_labels: LabelImage | None = None, moving_labels: LabelImage | None = None
) -> dict[str, Any]:
    """How well it went: similarity, displacement, Jacobian, and Dice of the regions that both images have."""
    length = np.linalg.norm(registration.displacement, axis=-1)
    figures: dict[str, Any] = {
        "kind": registration.kind,
        "improved": registration.improved,
        "mutual_information_nats": {"before": registration.similarity[0], "after": registration.similarity[1]},
        "displacement_mm": {"median": float(np.median(length)), "largest": float(length.max())},
        "jacobian": {"least": registration.jacobian[0], "greatest": registration.jacobian[1]},
        "folds": registration.folds,
        "remark": registration.remark,
    }
    if fixed_labels is not None and moving_labels is not None:
        figures["dice"] = _dice_by_name(registration, fixed_labels, moving_labels)
    return figures


def _dice_by_name(registration: Registration, fixed: LabelImage, moving: LabelImage) -> Mapping[str, Any]:
    here, as_placed = resample_labels(fixed, registration.grid), resample_labels(moving, registration.grid)
    after = moved_labels(registration, moving)
    return {
        name: {
            "before": dice(here.mask(name), as_placed.mask(name)),
            "after": dice(here.mask(name), after.mask(name)),
        }
        for name in sorted(set(fixed.names.values()) & set(moving.names.values()))
    }


def write_registration(
    folder: Path | str,
    registration: Registration,
    moving: Image,
    figures: Mapping[str, Any],
    pictures: Mapping[str, bytes],
) -> None:
    """Write a folder, whole or not at all.

    ``transform.tfm`` (ITK's text form, LPS mm), ``displacement.nii.gz`` (three volumes: x, y, z, LPS mm),
    ``moved.nii.gz`` and ``registration.json``; ``pictures`` are further files by name.
    """
    with folder_written_whole(folder) as beside:
        sitk.WriteTransform(registration.transform, str(beside / "transform.tfm"))
        write_nifti(beside / "displacement.nii.gz", registration.grid, np.moveaxis(registration.displacement, 3, 0))
        write_nifti(beside / "moved.nii.gz", registration.grid, moved(registration, moving))
        write_json(beside / "registration.json", dict(figures))
        for name, content in pictures.items():
            (beside / name).write_bytes(content)
