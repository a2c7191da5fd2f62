"""Known displacements are found, contrast is not taken for motion, and what cannot be registered is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from oncoscale.app.registering import register as register_files
from oncoscale.core.errors import ConfigurationRejected, InputError, ModelRefused, StudyRejected
from oncoscale.imaging.account import Account, QuantifySettings
from oncoscale.imaging.deformation import lattice_bases, self_similarity
from oncoscale.imaging.dynamic_maps import mark_motion, without_motion
from oncoscale.imaging.motion import correct_motion
from oncoscale.imaging.nifti import read_nifti, write_labels, write_nifti
from oncoscale.imaging.phantom_anatomy import Child
from oncoscale.imaging.phantom_scan import Scan, protocol
from oncoscale.imaging.quality import bit
from oncoscale.imaging.registration import (
    Image,
    dice,
    jacobian,
    moved,
    moved_labels,
    register,
    to_itk,
)
from oncoscale.imaging.study import Grid, ImagingStudy, LabelImage, ParametricMap, Series

SHAPE, SPACING = (40, 36, 24), (2.0, 2.0, 3.0)


def _grid() -> Grid:
    """A tilted grid of anisotropic voxels."""
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_rotvec([0.07, 0.0, 0.05]).as_matrix() @ np.diag(SPACING)
    affine[:3, 3] = (-30.0, 12.0, 5.0)
    return Grid(SHAPE, affine)


GRID = _grid()
PLACES = GRID.world(np.indices(SHAPE).reshape(3, -1).T)
MIDDLE = PLACES.mean(axis=0)
TURN = Rotation.from_rotvec([0.03, -0.02, 0.04]).as_matrix()
SHIFT = np.array([2.5, -3.0, 2.0])


def _organs(places: NDArray[np.float64]) -> NDArray[np.int64]:
    """A body with three organs: 0 outside, 1 body, 2 to 4 organs."""
    label = np.zeros(len(places), dtype=np.int64)
    shapes = (
        (1, (0, 0, 0), (33, 29, 40)),
        (2, (-12, 5, -6), (9, 12, 14)),
        (3, (13, -6, 8), (11, 8, 12)),
        (4, (5, 14, -14), (10, 7, 8)),
    )
    for number, centre, axes in shapes:
        label[(((places - MIDDLE - centre) / axes) ** 2).sum(axis=1) < 1] = number
    return label


def _scene(
    signals: tuple[float, ...], places: NDArray[np.float64] = PLACES, noise: float = 2.0, seed: int = 0
) -> NDArray[np.float64]:
    """The organs at the places given, each with its signal and a texture, blurred like a voxel, with noise."""
    x, y, z = ((places - MIDDLE) / (6.0, 5.0, 7.0)).T
    texture = 1 + 0.15 * (np.sin(x + 0.5 * z) * np.cos(y) + np.sin(z - 0.7 * y))
    sharp = (np.array(signals)[_organs(places)] * texture).reshape(SHAPE)
    return ndimage.gaussian_filter(sharp, 0.7) + np.random.default_rng(seed).normal(0, noise, SHAPE)


BEFORE, AFTER = (0.0, 60.0, 110.0, 85.0, 35.0), (0.0, 70.0, 190.0, 110.0, 150.0)
"""Signals before and after contrast."""


def _bump() -> NDArray[np.float64]:
    """(voxels, 3) mm: a smooth deformation of at most 5 mm."""
    size = np.exp(-(((PLACES - MIDDLE) / 22.0) ** 2).sum(axis=1))
    return 5.0 * size[:, None] * np.array([0.6, -0.5, 0.6])


def _inverse(places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where the bump's points come from, by fixed-point iteration."""
    source = places.copy()
    for _ in range(30):
        size = np.exp(-(((source - MIDDLE) / 22.0) ** 2).sum(axis=1))
        source = places - 5.0 * size[:, None] * np.array([0.6, -0.5, 0.6])
    return source


def _voxels(error_mm: NDArray[np.float64]) -> float:
    """95th percentile over the body of an error in voxels."""
    lengths = np.linalg.norm(error_mm @ np.linalg.inv(GRID.affine[:3, :3]).T, axis=1)
    return float(np.percentile(lengths[_organs(PLACES) > 0], 95))


@pytest.mark.parametrize(("here", "there"), [(BEFORE, BEFORE), (AFTER, AFTER), (BEFORE, AFTER)])
def test_a_known_rigid_displacement_is_found_within_a_voxel_in_every_state_of_contrast(here, there):
    """T(x) = R (x - c) + c + t, both images noisy: the 95th percentile of the error is well below one voxel."""
    carried = (PLACES - MIDDLE - SHIFT) @ TURN + MIDDLE
    moving = Image(GRID, _scene(there, carried, seed=1))
    found = register(Image(GRID, _scene(here)), moving)
    truth = (PLACES - MIDDLE) @ TURN.T + MIDDLE + SHIFT - PLACES
    assert _voxels(found.displacement.reshape(-1, 3) - truth) < 0.5
    assert _voxels(truth) > 1.5
    assert found.similarity[1] > found.similarity[0]
    assert found.jacobian == pytest.approx((1.0, 1.0), abs=1e-6)
    carried = np.array([found.transform.TransformPoint(place) for place in PLACES[:5].tolist()])
    assert np.linalg.norm(carried - (PLACES[:5] + truth[:5]), axis=1).max() < 1.0


def test_a_known_smooth_deformation_is_found_within_a_voxel_and_does_not_fold():
    """Deformable registration follows what a rigid one cannot; labels carried along overlap better."""
    moving = Image(GRID, _scene(BEFORE, _inverse(PLACES), seed=1))
    fixed = Image(GRID, _scene(BEFORE), _organs(PLACES).reshape(SHAPE) > 0)
    found = register(fixed, moving, "deformable")
    truth = _bump()
    assert _voxels(truth) > 1.3
    assert _voxels(found.displacement.reshape(-1, 3) - truth) < 1.0
    assert found.jacobian[0] > 0
    assert not found.folds
    labels = LabelImage(GRID, (_organs(_inverse(PLACES)).reshape(SHAPE) == 2).astype(np.uint8), {1: "tumour"})
    here = _organs(PLACES).reshape(SHAPE) == 2
    assert dice(here, moved_labels(found, labels).mask("tumour")) > dice(here, labels.mask("tumour"))


def test_a_smooth_deformation_is_found_across_contrast_which_does_not_bend_tissue():
    """Descriptors of self-similarity know no histogram: enhancing organs are followed within a voxel."""
    counts = _organs(PLACES).reshape(SHAPE) > 0
    moving = Image(GRID, _scene(AFTER, _inverse(PLACES), seed=1))
    found = register(Image(GRID, _scene(BEFORE), counts), moving, "deformable")
    assert _voxels(found.displacement.reshape(-1, 3) - _bump()) < 1.0 < _voxels(_bump())
    assert found.jacobian[0] > 0


def test_the_bsplines_of_the_deformation_are_those_of_its_transform():
    """Displacement from the bases of the axes equals the transform's own, at every third voxel of an oblique grid."""
    transform = sitk.BSplineTransformInitializer(to_itk(GRID, np.zeros(SHAPE, np.uint8)), [2, 3, 1], order=3)
    nodes = np.random.default_rng(3).normal(size=(5, 6, 4, 3))
    transform.SetParameters(nodes.transpose(3, 2, 1, 0).ravel().tolist())
    bases = lattice_bases(transform, GRID, (3, 3, 3))
    ours = np.einsum("ia,jb,kc,abcd->ijkd", *bases, nodes)
    for index in ((0, 0, 0), (2, 5, 3), (13, 11, 7)):
        place = GRID.world(3 * np.array(index))
        theirs = np.array(transform.TransformPoint(place.tolist())) - place
        np.testing.assert_allclose(ours[index], theirs, atol=1e-6)


def test_the_descriptor_does_not_see_a_linear_change_of_contrast():
    """Brighter, darker or inverted: the descriptor of every voxel is the same; in a constant image all is alike."""
    image = _scene(BEFORE)
    np.testing.assert_allclose(self_similarity(image), self_similarity(300 - 2 * image), atol=2e-3)
    assert (self_similarity(np.full(SHAPE, 7.0)) == 1).all()


def test_the_transform_does_not_depend_on_the_number_of_threads():
    """Equal images give equal parameters to the last bit, and the engine's thread count is given back."""
    fixed, moving = Image(GRID, _scene(BEFORE)), Image(GRID, _scene(BEFORE, PLACES - SHIFT, seed=1))
    known, found = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads(), []
    try:
        for threads in (1, 2):
            sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
            found.append(register(fixed, moving).transform.GetParameters())
            assert sitk.ProcessObject.GetGlobalDefaultNumberOfThreads() == threads
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(known)
    assert found[0] == found[1]


def test_images_that_already_agree_stay_where_they_are():
    """Nothing is more similar to an image than itself: the transform is the identity."""
    same = Image(GRID, _scene(BEFORE))
    found = register(same, same)
    assert np.abs(found.displacement).max() < 0.02
    np.testing.assert_allclose(moved(found, same), same.values, atol=2.0)


def test_a_deformation_that_turns_tissue_inside_out_has_a_jacobian_below_zero():
    """dT/dx of T(x) = -x in one direction is -1; of a stretch by 1.5 it is 1.5, on any oblique grid."""
    offset = PLACES - MIDDLE
    assert jacobian((offset * (-2.0, 0, 0)).reshape(*SHAPE, 3), GRID) == pytest.approx(-1.0)
    assert jacobian((offset * (0.5, 0, 0)).reshape(*SHAPE, 3), GRID) == pytest.approx(1.5)


def _bad() -> dict[str, tuple[Image, Image]]:
    good = Image(GRID, _scene(BEFORE))
    holes = good.values.copy()
    holes[3, 3, 3] = np.nan
    away = GRID.affine.copy()
    away[:3, 3] += 900.0
    thin = Grid((40, 36, 4), GRID.affine)
    return {
        "overlap": (good, Image(Grid(SHAPE, away), good.values)),
        "dimensions": (good, Image(GRID, np.stack([good.values, good.values]))),
        "not finite": (Image(GRID, holes), good),
        "too few voxels": (good, Image(thin, good.values[:, :, :4])),
        "constant": (good, Image(GRID, np.full(SHAPE, 7.0))),
        "mask": (replace(good, mask=np.zeros(SHAPE, dtype=bool)), good),
    }


@pytest.mark.parametrize("fault", ["overlap", "dimensions", "not finite", "too few voxels", "constant", "mask"])
def test_what_cannot_be_registered_is_refused_with_its_reason(fault):
    """No overlap, another dimension, NaN, too few voxels, a constant image, an empty mask: typed errors, exit 2."""
    with pytest.raises(StudyRejected, match=fault) as refusal:
        register(*_bad()[fault])
    assert isinstance(refusal.value, InputError)


def test_an_unknown_kind_is_refused():
    """Only rigid and deformable exist."""
    with pytest.raises(ConfigurationRejected, match="affine"):
        register(Image(GRID, _scene(BEFORE)), Image(GRID, _scene(BEFORE)), "affine")


# ------------------------------------------------------------------------------------------ motion between frames


@pytest.fixture(scope="module")
def breathing() -> tuple[NDArray[np.float32], NDArray[np.float64], Grid, NDArray[np.float64]]:
    """The coarse realistic patient, breathing ten times as deeply, while contrast arrives and begins to wash out: 30
    frames, times, grid, true displacements.
    """
    settings = replace(protocol(matched=False, quick=True), motion=4.5)
    scan = Scan(0, 1, next(iter(Child.visits(1))), settings)
    first = islice(scan._frames(lambda what, done: None), 30)
    frames = np.array([volume.values for volume in first], dtype=np.float32)
    truth = scan.dynamic_displacements()[:30]
    return frames, settings.frame_times[:30], scan.grid, truth - truth.mean(axis=0)


def test_breathing_is_found_while_contrast_arrives(breathing):
    """Displacements of up to 3.5 mm come back to a tenth of a voxel, and no frame ends farther away than it began."""
    frames, times, grid, truth = breathing
    found = correct_motion(frames, times, grid)
    left = truth - np.where(found.corrected[:, None], found.displacements, 0.0)
    error, true = np.linalg.norm(left, axis=1), np.linalg.norm(truth, axis=1)
    assert np.percentile(error, 95) < 0.2 * np.percentile(true, 95)
    assert (error <= true + 1e-9).all()
    assert (found.misfit[found.corrected, 1] < found.misfit[found.corrected, 0]).all()
    same = ~found.corrected
    np.testing.assert_array_equal(found.values[same], frames[same])


def test_a_patient_who_lies_still_is_left_alone(breathing):
    """Contrast without motion is no motion: the frames of an unmoving uptake keep their values, bit for bit."""
    _, times, _, _ = breathing
    minutes = times[:24] / 60
    rise = np.where(minutes > minutes[4], 1 - np.exp(-(minutes - minutes[4]) / 0.4), 0.0)
    frames = np.array(
        [_scene(tuple(np.array(BEFORE) + s * (np.array(AFTER) - BEFORE)), seed=t) for t, s in enumerate(rise)]
    )
    found = correct_motion(frames, times[:24], GRID)
    assert not found.corrected.any()
    np.testing.assert_array_equal(found.values, frames.astype(np.float32))
    assert found.moved_frames == ()


def test_a_frame_more_than_a_pixel_away_is_listed():
    """One frame carried by 5 mm (two and a half pixels): that frame, and no other, is named and brought back."""
    frames = np.array([_scene(BEFORE, seed=t) for t in range(14)])
    frames[9] = _scene(BEFORE, PLACES - np.array([5.0, 0.0, 0.0]), seed=9)
    found = correct_motion(frames, 5.0 * np.arange(14), GRID)
    assert found.moved_frames == (9,)
    assert found.displacements[9] == pytest.approx([5.0 * 13 / 14, 0.0, 0.0], abs=0.2)
    before, after = (np.abs(series[9] - _scene(BEFORE, noise=0.0)).mean() for series in (frames, found.values))
    assert after < 0.6 * before


_PART = (slice(6, 34), slice(5, 31), slice(4, 20))
_PART_AFFINE = GRID.affine.copy()
_PART_AFFINE[:3, 3] = GRID.world(np.array([6, 5, 4]))
_PART_GRID = Grid((28, 26, 16), _PART_AFFINE)


def test_a_bent_frame_is_straightened_and_the_others_are_left_alone():
    """One frame smoothly deformed: deformable correction removes most of the change, and changes no other frame."""
    frames = np.array([_scene(BEFORE, seed=t)[_PART] for t in range(12)])
    frames[7] = _scene(BEFORE, _inverse(PLACES), seed=7)[_PART]
    found = correct_motion(frames, 5.0 * np.arange(12), _PART_GRID, "deformable")
    assert np.flatnonzero(found.corrected).tolist() == list(found.bends) == [7]
    before, after, noise = (
        np.abs(frame - _scene(BEFORE, noise=0.0)[_PART])[3:-3, 3:-3, 2:-2].mean()
        for frame in (frames[7], found.values[7], frames[3])
    )
    assert after - noise < 0.5 * (before - noise)


def test_a_deformation_that_does_not_help_the_voxels_held_out_is_not_used(monkeypatch):
    """A frame whose deformation is wrong stays as the rigid correction left it, bit for bit, and no bend is kept."""
    frames = np.array([_scene(BEFORE, seed=t)[_PART] for t in range(12)])

    def wrong(*told):
        transform = sitk.BSplineTransformInitializer(to_itk(_PART_GRID, np.zeros(_PART_GRID.shape, np.uint8)), [1] * 3)
        transform.SetParameters((2.0 * np.random.default_rng(0).normal(size=192)).tolist())
        return transform

    monkeypatch.setattr("oncoscale.imaging.motion.deformation", wrong)
    found = correct_motion(frames, 5.0 * np.arange(12), _PART_GRID, "deformable")
    assert not found.bends
    np.testing.assert_array_equal(found.values, frames.astype(np.float32))


def test_a_series_that_cannot_be_corrected_is_refused():
    """Too few frames are ModelRefused; NaN and a constant series are StudyRejected."""
    frames = np.array([_scene(BEFORE, seed=t) for t in range(14)])
    times = 5.0 * np.arange(14)
    with pytest.raises(ModelRefused, match="too few"):
        correct_motion(frames[:6], times[:6], GRID)
    with pytest.raises(StudyRejected, match="constant"):
        correct_motion(np.ones_like(frames), times, GRID)
    frames[2, 1, 1, 1] = np.nan
    with pytest.raises(StudyRejected, match="not finite"):
        correct_motion(frames, times, GRID)


def test_quantify_corrects_motion_only_when_told_to_and_says_what_it_did():
    """Off: the series itself. Rigid: another series, its frames listed, and every voxel of the maps marked."""
    frames = np.array([_scene(BEFORE, seed=t) for t in range(14)])
    frames[9] = _scene(BEFORE, PLACES - np.array([5.0, 0.0, 0.0]), seed=9)
    series = Series("1.2", "dynamic", "dynamic", "MR", GRID, frames.astype(np.float32), 5.0 * np.arange(14))
    still = Account(QuantifySettings())
    assert without_motion(series, still) is series
    one = ParametricMap("pe", "percent", GRID, np.zeros(SHAPE), np.zeros(SHAPE, dtype=np.uint32))
    assert not mark_motion({"pe": one}, still)["pe"].quality.any()
    account = Account(QuantifySettings(motion="rigid"))
    corrected = without_motion(series, account)
    assert not np.array_equal(corrected.values[9], series.values[9])
    assert account.summary["motion"]["frames_over_a_pixel"] == [10]
    assert any("frames 10 had moved" in finding.text for finding in account.findings)
    assert (mark_motion({"pe": one}, account)["pe"].quality == bit("motion")).all()
    with pytest.raises(ConfigurationRejected, match="motion"):
        QuantifySettings(motion="affine")


# ---------------------------------------------------------------------------------------------------- the verb


def test_register_writes_transform_displacement_figures_and_pictures(tmp_path: Path):
    """The stored transform and the displacement file say the same; Dice of the given labels rises."""
    carried = PLACES - SHIFT
    write_nifti(tmp_path / "fixed.nii.gz", GRID, _scene(BEFORE))
    write_nifti(tmp_path / "moving.nii.gz", GRID, _scene(BEFORE, carried, seed=1))
    for name, places in (("a.nii.gz", PLACES), ("b.nii.gz", carried)):
        organ = (_organs(places).reshape(SHAPE) == 2).astype(np.uint8)
        write_labels(tmp_path / name, LabelImage(GRID, organ, {1: "tumour"}))
    out = tmp_path / "out"
    register_files(
        tmp_path / "fixed.nii.gz",
        tmp_path / "moving.nii.gz",
        out=out,
        kind="rigid",
        labels=(tmp_path / "a.nii.gz", tmp_path / "b.nii.gz"),
    )
    said = json.loads((out / "registration.json").read_text())
    assert said["dice"]["tumour"]["after"] > max(0.9, said["dice"]["tumour"]["before"])
    assert said["improved"]
    assert not said["folds"]
    _, field = read_nifti(out / "displacement.nii.gz")
    index = (20, 18, 12)
    place = GRID.world(np.array(index))
    stored = np.array(sitk.ReadTransform(str(out / "transform.tfm")).TransformPoint(place.tolist())) - place
    np.testing.assert_allclose(field[(slice(None), *index)], stored, atol=1e-4)
    np.testing.assert_allclose(stored, SHIFT, atol=0.5)
    assert (out / "checkerboard.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ConfigurationRejected, match="not an empty folder"):
        register_files(tmp_path / "fixed.nii.gz", tmp_path / "moving.nii.gz", out=out, kind="rigid")


def test_register_takes_the_series_that_is_named_and_refuses_one_that_is_not_there(tmp_path: Path, monkeypatch):
    """--moving-series 2 takes the second series of the folder; 3 of two is refused; a NIfTI file has none."""
    first = Series("1.1", "anatomy", "", "MR", GRID, _scene(BEFORE).astype(np.float32))
    second = Series("1.2", "anatomy", "", "MR", GRID, _scene(AFTER, PLACES - SHIFT, seed=1).astype(np.float32))
    study = ImagingStudy("1", (first, second))
    asked = []

    def read(folder, *, visit):
        asked.append(visit)
        return study

    monkeypatch.setattr("oncoscale.app.registering.read_study_guarded", read)
    told = {"kind": "rigid", "visits": (None, "2")}
    found = register_files(tmp_path, tmp_path, out=tmp_path / "out", series=(None, 2), **told)
    assert asked == [None, "2"]
    assert "number 2 of 2" in found.content["moving"]
    assert found.content["displacement_mm"]["median"] == pytest.approx(np.linalg.norm(SHIFT), abs=0.5)
    with pytest.raises(ConfigurationRejected, match="has 2 series"):
        register_files(tmp_path, tmp_path, out=tmp_path / "none", series=(3, None), kind="rigid")
    write_nifti(tmp_path / "one.nii.gz", GRID, _scene(BEFORE))
    with pytest.raises(ConfigurationRejected, match="NIfTI"):
        register_files(tmp_path / "one.nii.gz", tmp_path, out=tmp_path / "none", series=(1, None), kind="rigid")
    assert not (tmp_path / "none").exists()


def test_a_folder_of_nothing_but_a_map_gives_that_map_where_it_has_values(tmp_path: Path, monkeypatch):
    """An ADC map without a value in some voxels is laid upon an image: those voxels do not count, and nothing fails."""
    values = _scene(AFTER, PLACES - SHIFT, seed=1)
    values[:3] = np.nan
    study = ImagingStudy("1", maps=(ParametricMap("adc", "mm^2/s", GRID, values),))
    monkeypatch.setattr("oncoscale.app.registering.read_study_guarded", lambda folder, *, visit: study)
    write_nifti(tmp_path / "one.nii.gz", GRID, _scene(BEFORE))
    found = register_files(tmp_path / "one.nii.gz", tmp_path, out=tmp_path / "out", kind="rigid")
    assert found.content["moving"] == "the adc map"
    assert found.content["displacement_mm"]["median"] == pytest.approx(np.linalg.norm(SHIFT), abs=0.5)


def test_a_hostile_label_file_is_read_in_the_child(tmp_path: Path):
    """What is no label image is refused by its reader, in the guarded child, and nothing is written."""
    write_nifti(tmp_path / "one.nii.gz", GRID, _scene(BEFORE))
    (tmp_path / "mask.nii.gz").write_bytes(b"\x1f\x8b" + bytes(200))
    with pytest.raises(InputError):
        register_files(
            tmp_path / "one.nii.gz",
            tmp_path / "one.nii.gz",
            out=tmp_path / "out",
            kind="rigid",
            mask=tmp_path / "mask.nii.gz",
        )
    assert not (tmp_path / "out").exists()
