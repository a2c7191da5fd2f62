"""Motion between the frames of a dynamic series, told apart from the arrival of contrast.

Every frame is compared with what the other frames lead to expect of it. The expectation is a model of uptake alone,

    S(x, t) = sum_k C_k(x) q_k(t),     q = 1, v, v * exp(-k t) for k in RATES,

with v(t) the mean curve of the brightest enhancing voxels (the vessels): a linear kinetic model with the input that
the series itself shows, as in the progressive models of Melbourne et al. 2007 (doi 10.1088/0031-9155/52/17/003),
but with functions that random breathing cannot enter. A frame's displacement u (translation, rotation) is the robust
least-squares solution of Lucas and Kanade 1981 for the change of the image along its gradient,

    S_frame(x + u) - S_model(x, t) = grad S . u + gain S + offset.

Displacement that follows the uptake in time could hide in C_k. It is looked for there: each C_k is itself split into
gradient (motion) and the smooth rest (uptake), and the motion returned to the frames. The reference is the mean
position over the series: the correction moves nothing on average.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from ..core.errors import ModelRefused, StudyRejected
from ..core.quantity import Parameter
from .account import FOREGROUND
from .deformation import deformation
from .registration import field_of, nodes_apart, one_thread
from .study import Grid
from .voxels import Progress

Correction = Literal["rigid", "deformable"]
Values = NDArray[np.float64]
Mask = NDArray[np.bool_]

RATES = (0.05, 0.5, 3.0)
"""1/min: rate constants of the model of uptake. ASSUMED: slow, common and fast exchange."""
VESSEL_SHARE = Parameter(
    0.005,
    "1",
    "share of the voxels, those that enhance most, whose mean curve is the input",
    "ASSUMED: vessels are a few tenths of a percent of the body",
    range=(0.001, 0.02),
    assumed=True,
)
SMALLEST = Parameter(
    0.1,
    "1",
    "shortest displacement, in voxels, that is corrected",
    "above the largest error of a frame on the reference patient, 0.08: benchmarks/validation/registration.py",
    range=(0.01, 0.2),
    assumed=True,
)
SMALLEST_BEND = Parameter(
    0.75,
    "1",
    "shortest deformation, in voxels at its 95th percentile over the tissue, that a frame is deformed by",
    "ASSUMED: uptake that the model misses looks like bends of a fraction of a voxel, in the voxels held out as well",
    range=(0.3, 2.0),
    assumed=True,
)
LEAST_GAIN = Parameter(
    0.1,
    "1",
    "least fall of the misfit, as a share of it, for which a frame is deformed, in voxels that the deformation was not "
    "found from",
    "ASSUMED: above what resampling a frame of noise alone brings",
    range=(0.02, 0.3),
    assumed=True,
)
BLOCK = Parameter(
    4,
    "1",
    "edge, in voxels, of the blocks that are in turn fitted by a deformation and held out to judge it by",
    "ASSUMED: smaller than the distance of the nodes, so that a true deformation holds in both; larger than a patch",
    range=(3, 8),
    assumed=True,
)
MOST_VOXELS = Parameter(
    16000,
    "1",
    "voxels of tissue that a displacement is computed from, evenly drawn",
    "ASSUMED: more add time, not precision",
    range=(2000, 100000),
    assumed=True,
)
LEAST_FRAMES = Parameter(
    12, "1", "fewest frames of a model of five functions", "ASSUMED: two frames a function", range=(8, 30), assumed=True
)
ROBUST = 2.0
"""Residuals beyond this many standard deviations lose weight: Cauchy's weights [Holland and Welsch 1977, doi
10.1080/03610927708827533, whose 2.385 is efficient for pure noise]. ASSUMED: smaller, since bolus frames are no noise.
"""
MOST_OF_ONE_FRAME = 0.5
"""Share of a curve's variation above which one frame makes all of it. ASSUMED: a first pass lasts several frames."""
UPTAKE_SMOOTHING = 2.0
"""Voxels: width of the Gauss function that separates uptake from motion in a component. ASSUMED: best of a few on the
reference patient.
"""
PASSES = ("mean", "mean", "uptake", "uptake")
"""What each frame is compared with, pass after pass: the mean of the others, then the model of uptake."""


@dataclass(frozen=True, eq=False)
class MotionCorrection:
    """What was found and what became of the series.

    values         (t, i, j, k) float32, corrected
    displacements  (t, 3) mm, LPS: where the middle of the body was carried in each frame, as found
    rotations      (t, 3) rad about the patient's axes
    corrected      (t,) True where the frame was resampled; the others are as they were, bit for bit
    bends          for every frame that was deformed too the (i, j, k, 3) mm, LPS, that come before its displacement
    misfit         (t, 2) robust residual of each frame against the model, before and after
    moved_frames   frames carried by more than one pixel in the plane or one slice distance across it
    """

    values: NDArray[np.float32]
    displacements: Values
    rotations: Values
    corrected: NDArray[np.bool_]
    bends: Mapping[int, Values]
    misfit: Values
    moved_frames: tuple[int, ...]


def correct_motion(
    values: NDArray[np.floating],
    times_s: Values,
    grid: Grid,
    kind: Correction = "rigid",
    *,
    progress: Progress | None = None,
) -> MotionCorrection:
    """The series with every frame carried back to the mean position.

    values   (t, i, j, k) signal, finite;  times_s  (t,) s

    A frame keeps its values where the displacement found is below what the method can tell, or where resampling
    does not bring it nearer to the model. Raises ModelRefused for too few frames, StudyRejected for values that are
    not finite, fewer than three slices, or a constant series.
    """
    _check(values, times_s, grid)
    signal = np.asarray(values, dtype=np.float64)
    tell = progress or (lambda what, done: None)
    scene = _Scene.of(signal, grid)
    poses, model = _poses(signal, np.asarray(times_s, float) / 60.0, scene, tell)
    corrected, misfit, bends = signal.copy(), np.zeros((len(signal), 2)), {}
    kept = np.zeros(len(signal), dtype=bool)
    for frame, pose in enumerate(poses):
        misfit[frame] = scene.misfit(signal[frame], model[frame])
        if np.linalg.norm(np.linalg.solve(grid.affine[:3, :3], pose[:3])) > SMALLEST.value or _turns(pose, scene):
            candidate = scene.carried_back(signal[frame], pose)
            after = scene.misfit(candidate, model[frame])
            if after < misfit[frame, 0]:
                corrected[frame], misfit[frame, 1], kept[frame] = candidate, after, True
        if kind == "deformable":
            bent = _bent(model[frame], corrected[frame], scene)
            if bent is not None:
                corrected[frame], bends[frame] = bent
                misfit[frame, 1], kept[frame] = scene.misfit(corrected[frame], model[frame]), True
        tell("motion", 0.7 + 0.3 * (frame + 1) / len(poses))
    result = np.asarray(values, dtype=np.float32).copy()
    result[kept] = corrected[kept]
    pixels = np.abs(np.linalg.solve(grid.affine[:3, :3], poses[:, :3].T)).max(axis=0)
    far = tuple(int(frame) for frame in np.flatnonzero(pixels > 1.0))
    return MotionCorrection(result, poses[:, :3], poses[:, 3:], kept, bends, misfit, far)


def _check(values: NDArray[np.floating], times_s: Values, grid: Grid) -> None:
    if values.ndim != 4 or values.shape[1:] != grid.shape or len(times_s) != len(values):
        raise StudyRejected(
            f"a dynamic series of shape {values.shape} with {len(times_s)} times",
            "(frames, columns, rows, slices) and one time a frame",
            "check the series",
        )
    if len(values) < LEAST_FRAMES.value:
        raise ModelRefused(
            f"{len(values)} frames are too few to tell motion from contrast",
            f"at least {LEAST_FRAMES.value:g} frames",
            "leave motion correction off",
        )
    if min(grid.shape) < 3:
        raise StudyRejected(
            "a dynamic series of fewer than three slices", "three or more", "leave motion correction off"
        )
    if not np.isfinite(values).all():
        raise StudyRejected("the dynamic series holds values that are not finite", "a number in every voxel", "crop it")
    if float(np.ptp(values)) == 0:
        raise StudyRejected("the dynamic series is constant", "an image with contrast", "give another series")


# ------------------------------------------------------------------------------------------------- space of a frame


@dataclass(frozen=True, eq=False)
class _Scene:
    """The voxels that count: indices, and places in mm from the middle of the body."""

    grid: Grid
    tissue: Mask
    chosen: tuple[NDArray[np.intp], ...]
    middle: Values
    places: Values

    @classmethod
    def of(cls, signal: Values, grid: Grid) -> _Scene:
        mean = signal.mean(axis=0)
        tissue = ndimage.binary_erosion(mean >= FOREGROUND.value * np.percentile(mean, 99))
        tissue[[0, -1]] = tissue[:, [0, -1]] = tissue[:, :, [0, -1]] = False
        if tissue.sum() < 500:
            raise StudyRejected("too few voxels with signal to find motion", "at least 500", "leave it off")
        inside = np.flatnonzero(tissue)
        evenly = np.linspace(0, len(inside) - 1, min(len(inside), int(MOST_VOXELS.value))).astype(np.intp)
        chosen = np.unravel_index(inside[evenly], grid.shape)
        world = grid.world(np.stack(chosen, axis=1))
        middle = world.mean(axis=0)
        return cls(grid, tissue, chosen, middle, world - middle)

    def jacobian(self, image: Values) -> Values:
        """(voxels, 6) change of the image for translation (per mm) and rotation (per rad)."""
        along = np.stack([np.gradient(image, axis=axis)[self.chosen] for axis in range(3)], axis=1)
        slope = along @ np.linalg.inv(self.grid.affine[:3, :3])
        return np.column_stack([slope, np.cross(self.places, slope)])

    def where(self, places: Values, pose: Values) -> Values:
        """(3, n) voxel indices of places (mm from the middle) under a pose (translation mm, rotation rad)."""
        turned = places @ Rotation.from_rotvec(pose[3:]).as_matrix().T + self.middle + pose[:3]
        return self.grid.index(turned).T

    def sampled(self, coefficients: Values, pose: Values) -> Values:
        """(voxels,) a frame (cubic-spline coefficients) where a pose carries the chosen voxels."""
        where = self.where(self.places, pose)
        return np.asarray(ndimage.map_coordinates(coefficients, where, order=3, prefilter=False, mode="nearest"))

    def carried_back(self, frame: Values, pose: Values) -> Values:
        """(i, j, k) the frame under a pose, by cubic splines."""
        everywhere = self.grid.world(np.indices(self.grid.shape).reshape(3, -1).T) - self.middle
        where = self.where(everywhere, pose)
        return np.asarray(ndimage.map_coordinates(frame, where, order=3, mode="nearest")).reshape(self.grid.shape)

    def misfit(self, frame: Values, model: Values, within: Mask | None = None) -> float:
        """Median distance between a frame and its model at the chosen voxels (those within a mask, if one is given).

        The difference is smoothed by a voxel first: resampling smooths noise, and that must not pass for alignment.
        """
        distance = np.abs(ndimage.gaussian_filter(frame - model, 1.0)[self.chosen])
        return float(np.median(distance if within is None else distance[within[self.chosen]]))


def _turns(pose: Values, scene: _Scene) -> bool:
    """True if the rotation alone carries the rim of the body by more than the smallest displacement."""
    rim = float(np.percentile(np.linalg.norm(scene.places, axis=1), 95))
    return bool(np.linalg.norm(pose[3:]) * rim > SMALLEST.value * float(scene.grid.spacing.max()))


# ---------------------------------------------------------------------------------------------- what moves, and how


def _poses(signal: Values, minutes: Values, scene: _Scene, tell: Progress) -> tuple[Values, Values]:
    """(t, 6) pose of each frame about the mean position, and the (t, i, j, k) model of the last pass."""
    poses, settled, model = np.zeros((len(signal), 6)), signal, signal
    coefficients = [ndimage.spline_filter(frame, order=3) for frame in signal]
    for number, reference in enumerate(PASSES):
        functions = _constant(len(signal)) if reference == "mean" else _uptake(settled, minutes, scene)
        model = _expected(settled, functions)
        poses = np.array([_aligned(coefficients[t], model[t], poses[t], scene) for t in range(len(signal))])
        if reference == "uptake":
            settled = np.stack([scene.carried_back(frame, pose) for frame, pose in zip(signal, poses)])
            poses = poses + functions @ _hidden(settled, functions, scene)
        poses = poses - poses.mean(axis=0)
        settled = np.stack([scene.carried_back(frame, pose) for frame, pose in zip(signal, poses)])
        tell("motion", 0.7 * (number + 1) / len(PASSES))
    return poses, _expected(settled, _uptake(settled, minutes, scene))


def _constant(count: int) -> Values:
    return np.full((count, 1), 1 / np.sqrt(count))


def _uptake(signal: Values, minutes: Values, scene: _Scene) -> Values:
    """(t, functions) orthonormal functions of time that uptake is made of: 1 (first, so that the others are
    uptake without the anatomy), v and v * exp(-k t).
    """
    curves = signal[:, scene.tissue]
    rise = curves - curves[:3].mean(axis=0)
    count = max(20, int(VESSEL_SHARE.value * rise.shape[1]))
    vessels = rise[:, np.argsort(-rise.max(axis=0), kind="stable")[:count]].mean(axis=1)
    swing = (vessels - vessels.mean()) ** 2
    if swing.max() > MOST_OF_ONE_FRAME * swing.sum():
        return _constant(len(minutes))  # what one frame alone shows is motion, or no uptake at all
    fine = np.linspace(minutes[0], minutes[-1], 8 * len(minutes))
    step, input_curve = fine[1] - fine[0], np.interp(fine, minutes, vessels)
    since = fine - fine[0]
    tails = [step * np.convolve(input_curve, np.exp(-rate * since))[: len(fine)] for rate in RATES]
    columns = [np.ones(len(minutes)), vessels, *(np.interp(minutes, fine, tail) for tail in tails)]
    scaled = np.array([column / max(float(np.linalg.norm(column)), 1e-12) for column in columns]).T
    orthonormal, triangle = np.linalg.qr(scaled)
    return np.asarray(orthonormal[:, np.abs(np.diag(triangle)) > 1e-6])


def _expected(signal: Values, functions: Values) -> Values:
    """(t, i, j, k) what the other frames lead to expect of each: the least-squares fit that leaves the frame out."""
    flat = signal.reshape(len(signal), -1)
    leverage = (functions**2).sum(axis=1)[:, None]
    return np.asarray((functions @ (functions.T @ flat) - leverage * flat) / (1 - leverage)).reshape(signal.shape)


def _aligned(coefficients: Values, model: Values, pose: Values, scene: _Scene, steps: int = 8) -> Values:
    """(6,) pose that carries the model onto a frame, from a first guess."""
    design = np.column_stack([scene.jacobian(model), model[scene.chosen], np.ones(len(scene.places))])
    for _ in range(steps):
        residual = scene.sampled(coefficients, pose) - model[scene.chosen]
        change = _robust(design, residual, rounds=2)[:6]
        pose = pose - change
        if np.abs(change[:3]).max() < 1e-3:
            break
    return pose


def _hidden(signal: Values, functions: Values, scene: _Scene) -> Values:
    """(functions, 6) motion that hides in the components of the model: their part along the gradient of the mean."""
    mean = signal.mean(axis=0)
    slope, one = scene.jacobian(mean), np.ones(len(scene.places))
    found = []
    for component in np.tensordot(functions.T, signal, axes=1):
        smooth = ndimage.gaussian_filter(component, UPTAKE_SMOOTHING)[scene.chosen]
        design = np.column_stack([slope, mean[scene.chosen], one, smooth])
        found.append(-_robust(design, component[scene.chosen], rounds=15)[:6])
    return np.array(found)


def _robust(design: Values, target: Values, rounds: int) -> Values:
    """Least squares with Cauchy weights: uptake that the model misses in a few voxels does not count as motion."""
    scale = np.linalg.norm(design, axis=0)
    design = design / np.where(scale > 0, scale, 1.0)
    weight = np.ones(len(target))
    for _ in range(rounds):
        weighted = design * weight[:, None]
        normal = weighted.T @ design + 1e-12 * np.eye(design.shape[1])
        solution = np.linalg.solve(normal, weighted.T @ target)
        residual = target - design @ solution
        spread = 1.4826 * float(np.median(np.abs(residual))) + 1e-12
        weight = 1 / (1 + (residual / (ROBUST * spread)) ** 2)
    return np.asarray(solution / np.where(scale > 0, scale, 1.0))


def _bent(model: Values, frame: Values, scene: _Scene) -> tuple[Values, Values] | None:
    """The frame after a smooth deformation onto its model, and the deformation, mm; None where it is not to be trusted.

    It is found from every other block of voxels, and trusted where it moves tissue by more than the method can tell
    and brings the voxels between nearer to the model.
    """
    block = (np.indices(scene.grid.shape) // int(BLOCK.value)).sum(axis=0) % 2 == 0
    with one_thread():
        everywhere = np.ones(scene.grid.shape, dtype=bool)
        transform = deformation(model, frame, scene.tissue & block, everywhere, scene.grid, nodes_apart(scene.grid))
    displacement, volume = field_of(transform, scene.grid, scene.tissue)
    voxels = np.abs(displacement[scene.tissue] @ np.linalg.inv(scene.grid.affine[:3, :3]).T).max(axis=1)
    if volume[0] <= 0 or np.percentile(voxels, 95) < SMALLEST_BEND.value:
        return None
    where = scene.grid.index(scene.grid.world(np.moveaxis(np.indices(scene.grid.shape), 0, -1)) + displacement)
    bent = ndimage.map_coordinates(frame, np.moveaxis(where, -1, 0), order=3, mode="nearest")
    before, after = (scene.misfit(one, model, ~block) for one in (frame, bent))
    return (bent, displacement) if after < (1 - LEAST_GAIN.value) * before else None


def frames_in_words(frames: Sequence[int]) -> str:
    """Frames as a person counts them.

    >>> frames_in_words((0, 4))
    '1, 5'
    """
    return ", ".join(str(frame + 1) for frame in frames)
