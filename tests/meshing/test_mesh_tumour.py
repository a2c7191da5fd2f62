"""Meshes of tumours by the lattice mesher: volumes, gates, conformity, any labels, any orientation, any mask."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from oncoscale.core.errors import ConfigurationRejected, MeshFault, OncoscaleError, SegmentationRejected
from oncoscale.imaging.segmentation import read_labels
from oncoscale.imaging.study import Grid, LabelImage
from oncoscale.meshing import tetrahedra
from oncoscale.meshing.crumbs import without_crumbs
from oncoscale.meshing.mesh import TumourMesh
from oncoscale.meshing.quality import face_pairs, gate_failures, quality
from oncoscale.meshing.surface import host_around, labelled_part
from oncoscale.meshing.tetrahedra import mesh_tumour

Masks = Callable[..., LabelImage]


def assert_sound(mesh: TumourMesh, labels: LabelImage) -> None:
    """No inverted element, no unused node, conforming, gates passed, volumes without crumbs within 1 %."""
    if mesh.report.get("crumbs"):
        labels = without_crumbs(labelled_part(labels), mesh.report["size_mm"])[0]
    assert mesh.volumes.min() > 0.0
    assert gate_failures(quality(mesh)) == []
    corners = mesh.tetrahedra[:, [[0, 1, 2], [0, 1, 3], [0, 2, 3], [1, 2, 3]]].reshape(-1, 3)
    assert np.unique(np.sort(corners, axis=1), axis=0, return_counts=True)[1].max() == 2
    for name in mesh.region_names.values():
        assert mesh.volume_of(name) == pytest.approx(labels.volume(name), rel=0.01)


def test_lobed_tumour_at_default_sizes(lobed_mesh: TumourMesh, lobed_labels: LabelImage) -> None:
    """A tumour of 55 mL gets 1500 to 3000 elements, the whole at most 15 000, and everything passes."""
    assert_sound(lobed_mesh, lobed_labels)
    assert 1500 <= len(lobed_mesh.elements_of("tumour")) <= 3000
    assert len(lobed_mesh.tetrahedra) <= 15000
    assert dict(lobed_mesh.region_names) == {1: "host", 2: "tumour"}


def test_report_is_ready_for_json_and_true(lobed_mesh: TumourMesh, lobed_labels: LabelImage) -> None:
    """The report's volumes, counts and distances are those of the mesh, and it can be written as JSON."""
    report = json.loads(json.dumps(lobed_mesh.report, allow_nan=False))
    tumour = report["regions"]["tumour"]
    assert tumour["volume_ml"] == pytest.approx(lobed_mesh.volume_of("tumour"))
    assert tumour["voxel_volume_ml"] == pytest.approx(lobed_labels.volume("tumour"))
    assert abs(tumour["volume_error"]) < 0.01
    assert report["elements"] == len(lobed_mesh.tetrahedra)
    assert 0.0 < tumour["surface_distance_mm"]["mean"] < tumour["surface_distance_mm"]["h95"] < 3.5
    assert (report["mesher"], report["fallback"], report["failures"]) == ("bcc", None, [])


def test_interior_faces_join_and_the_surface_is_closed(lobed_mesh: TumourMesh) -> None:
    """Every edge of the tumour's surface joins exactly two triangles, and its outward normals enclose its volume."""
    triangles = lobed_mesh.surface_of("tumour")
    edges = np.sort(triangles[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
    assert np.all(np.unique(edges, axis=0, return_counts=True)[1] == 2)
    a, b, c = np.moveaxis(lobed_mesh.points[triangles], 1, 0)
    enclosed = np.einsum("ij,ij->", a, np.cross(b, c)) / 6000.0
    assert enclosed == pytest.approx(lobed_mesh.volume_of("tumour"), rel=1e-10)


def test_elements_grow_with_the_distance_from_the_tumour(lobed_labels: LabelImage) -> None:
    """With a coarse host asked for, elements at the far boundary are larger than those in the tumour."""
    mesh = mesh_tumour(lobed_labels, size=9.0, host_size=27.0, mesher="bcc", gates=False)
    distance = np.linalg.norm(mesh.centroids - mesh.centroids[mesh.elements_of("tumour")].mean(axis=0), axis=1)
    far = mesh.volumes[distance > np.quantile(distance, 0.9)].mean()
    assert far > 4.0 * mesh.volumes[mesh.elements_of("tumour")].mean()


def test_equal_input_gives_equal_bytes(lobed_labels: LabelImage, coarse_mesh: TumourMesh) -> None:
    """Meshing the same labels again gives the same nodes, elements and regions, byte for byte."""
    again = mesh_tumour(lobed_labels, size=11.0, host_size=20.0, mesher="bcc", gates=False)
    assert again.points.tobytes() == coarse_mesh.points.tobytes()
    assert again.tetrahedra.tobytes() == coarse_mesh.tetrahedra.tobytes()
    assert again.region.tobytes() == coarse_mesh.region.tobytes()


def touching_labels() -> LabelImage:
    """Two tumours that share a face, and an organ cut by the outline, in a host of radius 32 mm."""
    shape, spacing = (80, 80, 26), np.array([0.9, 0.9, 2.8])
    place = (np.stack(np.indices(shape), axis=-1) - (np.array(shape) - 1) / 2.0) * spacing

    def within(centre: list[float], radius: float) -> NDArray[np.bool_]:
        return np.asarray(((place - centre) ** 2).sum(axis=-1) < radius**2)

    values = within([0, 0, 0], 32.0).astype(np.uint8)
    values[within([22, 0, 0], 15.0) & (values > 0)] = 5
    values[within([-9, 0, 0], 13.0)] = 2
    values[within([8, 3, 0], 11.0) & (values != 2)] = 3
    return LabelImage(Grid(shape, np.diag([*spacing, 1.0])), values, {1: "host", 2: "tumour", 3: "node", 5: "organ"})


def test_touching_labels_conform() -> None:
    """Labels that touch each other and the outline give one conforming mesh, each with its volume."""
    labels = touching_labels()
    mesh = mesh_tumour(labels, size=4.5, host_size=6.0, mesher="bcc")
    assert_sound(mesh, labels)
    assert dict(mesh.region_names) == {1: "host", 2: "tumour", 3: "node", 4: "organ"}
    _, sides = face_pairs(mesh.tetrahedra)
    inner = sides[:, 1] >= 0
    met = {frozenset(pair) for pair in mesh.region[sides[inner]].tolist()}
    assert {frozenset({2, 3}), frozenset({3, 4}), frozenset({1, 2})} <= met


def test_touching_labels_are_never_given_to_gmsh() -> None:
    """Mesher gmsh refuses more than a tumour in a host, and auto says why it took the lattice."""
    labels = touching_labels()
    with pytest.raises(MeshFault, match="a tumour in a host only"):
        mesh_tumour(labels, mesher="gmsh")
    mesh = mesh_tumour(labels, size=7.0, host_size=10.0, gates=False)
    assert mesh.mesher == "bcc"
    assert "a tumour in a host only" in mesh.report["fallback"]


@pytest.mark.parametrize(
    "turn",
    [
        np.diag([-1.0, 1.0, 1.0]),
        np.array([[0.36, 0.48, -0.8], [-0.8, 0.6, 0.0], [0.48, 0.64, 0.6]]),
    ],
    ids=["left-handed", "oblique"],
)
def test_orientation_of_the_image_does_not_matter(lobed: Masks, turn: NDArray[np.float64]) -> None:
    """On flipped and rotated grids the mesh has the same volume, and its centre and box are those of its voxels."""
    labels = host_around(lobed(turn=turn), margin=10.0)
    mesh = mesh_tumour(labels, size=9.0, host_size=12.0, mesher="bcc", gates=False)
    assert mesh.volumes.min() > 0.0
    assert mesh.volume_of("tumour") == pytest.approx(labels.volume("tumour"), rel=0.01)
    voxels = labels.grid.world(np.argwhere(labels.mask("tumour")))
    elements = mesh.elements_of("tumour")
    centre = np.average(mesh.centroids[elements], axis=0, weights=mesh.volumes[elements])
    np.testing.assert_allclose(centre, voxels.mean(axis=0), atol=0.5)
    nodes = mesh.points[np.unique(mesh.tetrahedra[elements])]
    np.testing.assert_allclose(nodes.min(axis=0), voxels.min(axis=0), atol=9.0)
    np.testing.assert_allclose(nodes.max(axis=0), voxels.max(axis=0), atol=9.0)


def test_voxels_one_to_ten_keep_the_physical_volume(lobed: Masks) -> None:
    """Slices ten times as thick as the pixels are wide change nothing about the volume."""
    labels = host_around(lobed((96, 88, 9), (0.9, 0.9, 9.0)))
    mesh = mesh_tumour(labels, size=9.0, host_size=14.0, mesher="bcc")
    assert mesh.volume_of("tumour") == pytest.approx(labels.volume("tumour"), rel=0.01)


def test_tumour_alone_can_be_meshed(lobed: Masks) -> None:
    """Without a host there is one region, number 2."""
    labels = lobed()
    mesh = mesh_tumour(labels, mesher="bcc")
    assert_sound(mesh, labels)
    assert set(mesh.region.tolist()) == {2}


def test_tumour_on_the_skin(lobed: Masks) -> None:
    """Where the tumour reaches the end of the body it lies bare; nothing is nested, so auto takes the lattice."""
    tumour = lobed()
    body = np.indices(tumour.grid.shape)[1] < 27
    labels = host_around(tumour, margin=15.0, body=body)
    mesh = mesh_tumour(labels, size=8.0, host_size=12.0)
    assert_sound(mesh, labels)
    assert "far boundary" in mesh.report["fallback"]


SHAPES = {
    "one voxel": lambda: np.ones((1, 1, 1), bool),
    "one slice": lambda: np.ones((14, 11, 1), bool),
    "rod": lambda: np.ones((25, 2, 2), bool),
    "hole": lambda: np.pad(np.ones((9, 9, 5), bool), 2) ^ np.pad(np.ones((5, 5, 1), bool), ((4, 4), (4, 4), (4, 4))),
    "two pieces": lambda: np.isin(np.indices((15, 6, 4))[0], [0, 1, 2, 3, 4, 5, 10, 11, 12, 13, 14]),
    "corner contact": lambda: np.kron(np.array([[[1, 0], [0, 0]], [[0, 0], [0, 1]]]), np.ones((5, 5, 3))).astype(bool),
    "ring": lambda: np.repeat((np.abs(np.hypot(*np.mgrid[-10:11, -10:11]) - 7.0) < 2.0)[:, :, None], 4, axis=2),
    "islands": lambda: ndimage.binary_dilation(
        np.random.default_rng(4).random((30, 30, 15)) < 0.004, ndimage.generate_binary_structure(3, 1)
    ),
}


def mesh_or_refusal(tumour: LabelImage) -> TumourMesh | OncoscaleError:
    """A sound mesh with about 300 elements in the tumour, or one of the two errors that are allowed; tried again with
    finer elements up to 6000."""
    labels = host_around(tumour)
    size = float(np.cbrt(tumour.volume("tumour") * 1000.0 / (0.114 * 300)))
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(tetrahedra, "MOST_ELEMENTS", replace(tetrahedra.MOST_ELEMENTS, value=6000.0, range=None))
            mesh = mesh_tumour(labels, size=size, host_size=3.0 * size, mesher="bcc")
    except (MeshFault, SegmentationRejected) as refusal:
        return refusal
    assert_sound(mesh, labels)
    return mesh


@pytest.mark.parametrize("name", SHAPES)
def test_odd_masks_give_a_sound_mesh_or_a_typed_refusal(masked: Masks, name: str) -> None:
    """A slice, a rod, a hole, pieces, corners and rings become sound meshes; one voxel and crumbs may be refused, with
    what to do."""
    answer = mesh_or_refusal(masked(SHAPES[name]()))
    if name in ("one voxel", "islands"):
        assert isinstance(answer, TumourMesh) or answer.remedy
    else:
        assert isinstance(answer, TumourMesh)


@settings(max_examples=8, deadline=None, derandomize=True)
@given(
    mask=st.lists(st.booleans(), min_size=60, max_size=60).map(lambda bits: np.array(bits).reshape(5, 4, 3)),
    thickness=st.sampled_from([0.7, 2.0, 5.0]),
)
def test_random_masks_give_a_sound_mesh_or_a_typed_refusal(
    masked: Masks, mask: NDArray[np.bool_], thickness: float
) -> None:
    """Masks that nobody would draw become sound meshes or refusals that say what to do, never anything else."""
    tumour = masked(np.repeat(np.repeat(mask, 3, axis=0), 3, axis=1), (1.0, 1.0, thickness))
    if mask.any():
        answer = mesh_or_refusal(tumour)
        assert isinstance(answer, TumourMesh) or answer.remedy
    else:
        with pytest.raises(SegmentationRejected):
            host_around(tumour)


def test_cubes_far_larger_than_the_image_still_hold_the_regions(ball: Masks) -> None:
    """A host asked for in elements nearly as large as itself, so that the lattice starts with a cube or two: sound."""
    labels = host_around(ball(9.0), margin=4.0)
    mesh = mesh_tumour(labels, size=4.5, host_size=18.0, mesher="bcc")
    assert_sound(mesh, labels)


def test_elements_too_large_for_any_label_are_a_typed_refusal(masked: Masks) -> None:
    """A voxel among elements of fifty voxels is missed by all of them: refused, with what to do."""
    labels = masked(np.pad(np.ones((1, 1, 1), bool), 40))
    with pytest.raises(MeshFault, match="thinner than the elements"):
        mesh_tumour(labels, size=50.0, host_size=50.0, mesher="bcc")


def test_a_mesh_that_fails_its_gates_is_refused_and_can_be_inspected(
    masked: Masks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Elements as large as the tumour fail where finer ones are not allowed; with gates off the same mesh comes back
    with the failures in its report."""
    monkeypatch.setattr(tetrahedra, "MOST_ELEMENTS", replace(tetrahedra.MOST_ELEMENTS, value=100.0, range=None))
    labels = host_around(masked(SHAPES["islands"]()), margin=8.0)
    with pytest.raises(MeshFault, match="fails its gates"):
        mesh_tumour(labels, size=6.0, host_size=8.0, mesher="bcc")
    mesh = mesh_tumour(labels, size=6.0, host_size=8.0, mesher="bcc", gates=False)
    assert mesh.report["failures"]


@pytest.mark.parametrize(
    "wrong", [{"size": -1.0}, {"size": float("nan")}, {"size": 5.0, "host_size": 3.0}, {"mesher": "tetgen"}]
)
def test_wrong_requests_are_refused(lobed_labels: LabelImage, wrong: dict[str, object]) -> None:
    """Sizes that are no length and unknown meshers are refused before any work."""
    with pytest.raises(ConfigurationRejected):
        mesh_tumour(lobed_labels, **wrong)  # type: ignore[arg-type]


def test_empty_labels_are_refused(masked: Masks) -> None:
    """Without a tumour there is nothing to mesh."""
    with pytest.raises(SegmentationRejected):
        mesh_tumour(masked(np.zeros((6, 6, 6), bool)))


def test_mouse_tumour(shared: Path) -> None:
    """A real tumour of 0.47 mL on voxels of 0.25 x 0.25 x 1.5 mm becomes a sound mesh of the default size."""
    tumour = read_labels(shared / "kpc-mouse-day0" / "nifti" / "M123_DCE_Mask.nii.gz", names={3: "tumour"})
    labels = host_around(tumour)
    mesh = mesh_tumour(labels, mesher="bcc")
    assert tumour.volume("tumour") == pytest.approx(0.4655, abs=1e-3)
    assert_sound(mesh, labels)
    assert 1500 <= len(mesh.elements_of("tumour")) <= 3000


def test_liver_lesion(shared: Path) -> None:
    """A real DICOM segmentation of 34 mL on voxels of 3.5 mm becomes a sound mesh."""
    tumour = read_labels(shared / "dcmqi-examples" / "data" / "sr-example" / "seg.dcm")
    labels = host_around(tumour)
    mesh = mesh_tumour(labels, size=8.0, host_size=16.0, mesher="bcc")
    assert_sound(mesh, labels)
