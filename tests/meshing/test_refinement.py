"""A mesh that fails its gate is tried again: without crumbs, finer where it failed, and told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from oncoscale.core.errors import MeshFault
from oncoscale.imaging.study import Grid, LabelImage
from oncoscale.meshing import renewed, tetrahedra
from oncoscale.meshing.crumbs import CRUMBS_SHARE, without_crumbs
from oncoscale.meshing.lattice import Finer, Sizes, _balanced_levels, _first_levels, planned_elements
from oncoscale.meshing.mesh import TumourMesh
from oncoscale.meshing.quality import MAX_DISTANCE
from oncoscale.meshing.refinement import finer_sizes, local_thickness, sizes_within
from oncoscale.meshing.surface import host_around, level_sets
from oncoscale.meshing.tetrahedra import mesh_tumour

Masks = Callable[..., LabelImage]


def sheet() -> np.ndarray:
    """A disc 26 mm wide and 2 mm thick, voxels of 1 mm."""
    x, y, z = np.mgrid[-16:17, -16:17, -6:7]
    return (np.hypot(x, y) < 13.0) & (z >= 0) & (z < 2)


def test_a_surface_further_than_a_voxel_is_meshed_again_finer(masked: Masks) -> None:
    """A disc 2 mm thick among elements of 6 mm misses the gate, and passes with finer ones; the report tells both."""
    labels = host_around(masked(sheet(), (1.0, 1.0, 1.0)), margin=6.0)
    mesh = mesh_tumour(labels, size=6.0, host_size=8.0, mesher="bcc")
    first = mesh.report["attempts"][0]
    assert any("from its voxels" in failure for failure in first["failures"])
    assert mesh.report["failures"] == []
    assert mesh.report["finest_mm"] < mesh.report["size_mm"] == 6.0
    assert len(mesh.tetrahedra) > first["elements"]
    assert all(region["surface_distance_mm"]["h95"] < MAX_DISTANCE.value for region in mesh.report["regions"].values())
    again = mesh_tumour(labels, size=6.0, host_size=8.0, mesher="bcc")
    assert again.points.tobytes() == mesh.points.tobytes()


def test_a_mesh_that_passes_at_once_is_not_tried_again(lobed_mesh) -> None:
    """Its report knows neither attempts nor crumbs."""
    assert not {"attempts", "crumbs"} & set(lobed_mesh.report)


def test_finer_elements_are_not_made_at_any_price(masked: Masks, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where they would be more than is allowed the mesh is refused, with the limit and the number."""
    monkeypatch.setattr(tetrahedra, "MOST_ELEMENTS", replace(tetrahedra.MOST_ELEMENTS, value=100.0, range=None))
    labels = host_around(masked(sheet(), (1.0, 1.0, 1.0)), margin=6.0)
    with pytest.raises(MeshFault, match=r"limit 1.00 mm.*try 1, of \d+ elements; .* more than 100"):
        mesh_tumour(labels, size=6.0, host_size=8.0, mesher="bcc")


def test_crumbs_go_to_what_is_around_them(masked: Masks) -> None:
    """A voxel beside a tumour becomes host and a pinhole becomes tumour; the rest stays; counts and shares are told."""
    mask = np.zeros((24, 20, 20), bool)
    mask[4:14, 4:14, 4:14] = True
    mask[8, 8, 8] = False
    mask[18, 10, 10] = True
    labels = host_around(masked(mask, (1.0, 1.0, 1.0)), margin=8.0)
    kept, crumbs = without_crumbs(labels, size=2.0)
    assert {(one.name, one.given_to, one.pieces) for one in crumbs} == {("host", "tumour", 1), ("tumour", "host", 1)}
    assert kept.mask("tumour").sum() == 1000
    assert kept.mask("host").sum() == labels.mask("host").sum()
    assert [one.share for one in crumbs] == pytest.approx([0.001, 0.001])
    assert "1 pieces of the tumour" in crumbs[1].words


def test_more_crumbs_than_their_share_stay(masked: Masks) -> None:
    """Of many single voxels no more become host than CRUMBS_SHARE of the tumour; a tumour of one piece loses none."""
    mask = np.zeros((30, 30, 30), bool)
    mask[10:20, 10:20, 10:20] = True
    assert without_crumbs(masked(mask), size=9.0)[1] == ()
    mask[::4, ::4, 1:4:2] = True
    labels = masked(mask)
    kept, crumbs = without_crumbs(labels, size=2.0)
    lost = 1.0 - kept.mask("tumour").sum() / mask.sum()
    assert lost == pytest.approx(crumbs[0].share)
    assert 0.9 * CRUMBS_SHARE.value < lost <= CRUMBS_SHARE.value


def test_sizes_are_halved_at_the_places_and_grow_from_there(lobed_labels: LabelImage) -> None:
    """At a failing place the edge is half of what it was, far from it as before, and never below in between."""
    sizes = Sizes(6.0, 12.0, 20.0)
    middle = lobed_labels.grid.world(np.argwhere(lobed_labels.mask("tumour")).mean(axis=0))[None]
    finer = finer_sizes(sizes, middle, np.array([3.0]))
    away = middle + np.array([[0.0, 0.0, 0.0], [2.0, 0.0, 0.0], [30.0, 0.0, 0.0]])
    edges = finer.wanted(np.zeros(3), away)
    assert edges[0] == pytest.approx(3.0, abs=1.5)
    assert edges[0] < edges[1] < edges[2] == 6.0
    assert finer.finest == 3.0
    assert finer_sizes(sizes, middle[:0], np.zeros(0)) == sizes
    assert Finer(middle, 1.0).at(middle + [[3.0, 0.0, 0.0]]) == pytest.approx(4.0)


def test_thickness_is_that_of_the_thinnest_label_near(masked: Masks) -> None:
    """At a slab three voxels thick in a wide host the next ball, of 4.2 mm or less, is too wide; far away none is; in
    a slab of two voxels balls half as wide are."""
    x, y, z = np.mgrid[:40, :40, :40]
    for voxels, widest in ((3, 3.0 * np.sqrt(2.0)), (2, 2.0 * np.sqrt(2.0))):
        labels = host_around(masked((z >= 18) & (z < 18 + voxels) & (x > 1) & (y > 1), (1.0, 1.0, 1.0)), margin=16.0)
        middle = labels.grid.world(np.argwhere(labels.mask("tumour")).mean(axis=0))
        found = local_thickness(labels, middle + np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 9.0]]), 12.0)
        assert voxels * 0.7 < found[0] <= widest
        assert found[1] == 12.0


def test_elements_are_counted_before_they_are_made(lobed_labels: LabelImage) -> None:
    """The lattice within the regions has as many elements as the mesh, within 2 %, also where finer ones are wanted."""
    sizes = Sizes(7.0, 14.0, 20.0)
    levels = level_sets(lobed_labels, sizes.size)
    middle = lobed_labels.grid.world(np.argwhere(lobed_labels.mask("tumour")).mean(axis=0))[None]
    finer = finer_sizes(sizes, middle, np.array([1.75]))
    for planned in (sizes, finer):
        made = len(tetrahedra._by_lattice(lobed_labels, levels, planned).tetrahedra)
        assert planned_elements(levels, planned) == pytest.approx(made, rel=0.02)
    assert planned_elements(levels, finer) > planned_elements(levels, sizes)


def test_sizes_are_as_fine_as_the_cap_allows(masked: Masks) -> None:
    """With any number of elements they become as small as the sheet is thick, with fewer larger, with few none; what
    is planned never exceeds what is allowed."""
    labels = host_around(masked(sheet(), (1.0, 1.0, 1.0)), margin=6.0)
    sizes, levels = Sizes(8.0, 8.0, 6.0), level_sets(labels, 8.0)
    places = labels.grid.world(np.argwhere(labels.mask("tumour")))
    asked = (sizes, levels, places, labels)
    thin = sizes_within(1e9, *asked)
    assert thin is not None
    assert thin.finest == 2.0
    fewer = sizes_within(planned_elements(levels, thin) - 1, *asked)
    assert fewer is not None
    assert thin.finest < fewer.finest < sizes.size
    assert planned_elements(levels, fewer) < planned_elements(levels, thin)
    assert sizes_within(10.0, *asked) is None


def test_the_cap_is_kept_by_what_was_made(masked: Masks, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mesh that turns out larger than planned, and than allowed, is not taken; the one before it is refused."""
    monkeypatch.setattr(tetrahedra, "MOST_ELEMENTS", replace(tetrahedra.MOST_ELEMENTS, value=100.0, range=None))
    monkeypatch.setattr(
        tetrahedra, "sizes_within", lambda most, sizes, levels, places, labels: replace(sizes, size=3.0)
    )
    labels = host_around(masked(sheet(), (1.0, 1.0, 1.0)), margin=6.0)
    with pytest.raises(MeshFault, match=r"try 1, of \d+ elements; .* more than 100"):
        mesh_tumour(labels, size=6.0, host_size=8.0, mesher="bcc")


def test_a_sponge_is_meshed_in_one_more_try(masked: Masks) -> None:
    """Walls two to four voxels thick, lost among elements of 8 mm, pass every gate at the next try, below the cap."""
    noise = ndimage.gaussian_filter(np.random.default_rng(3).normal(size=(24, 24, 16)), (1.6, 1.6, 1.1))
    numbered, _ = ndimage.label(noise > 0.0)
    largest = numbered == np.bincount(numbered.ravel())[1:].argmax() + 1
    mesh = mesh_tumour(host_around(masked(largest, (1.0, 1.0, 1.5)), margin=4.0), size=8.0, mesher="bcc")
    assert mesh.report["failures"] == []
    assert len(mesh.report["attempts"]) == 1
    assert len(mesh.tetrahedra) <= tetrahedra.MOST_ELEMENTS.value


def test_gmsh_is_not_asked_for_what_smoothing_has_lost(masked: Masks, ball: Masks) -> None:
    """The surface of a ball stands for the ball, not for the ball with a sheet across; the distance is told."""
    whole = ball(9.0).mask("tumour")
    across = whole.copy()
    across[:, :, whole.shape[2] // 2] = True
    labels = host_around(ball(9.0), margin=8.0)
    surface = tetrahedra._nested_surfaces(level_sets(labels, 3.0), Sizes(3.0, 3.0, 8.0))["tumour"]
    tetrahedra._check_smoothed(surface, labels, 2.0)
    with pytest.raises(MeshFault, match=r"smooth surface of the tumour lies \d.* limit 0.50 mm"):
        tetrahedra._check_smoothed(surface, masked(across), 0.5)


def test_balanced_levels_hold_every_volume() -> None:
    """A core within a thin rim within a host: raised together, each holds its volume of samples within 2 %."""
    place = np.indices((30, 30, 30)) - 14.5
    radius = np.sqrt((place**2).sum(axis=0))
    values = np.select([radius < 5.0, radius < 6.2, radius < 12.0], [3, 2, 1], 0).astype(np.uint8)
    levels = level_sets(LabelImage(Grid(values.shape, np.eye(4)), values, {1: "host", 2: "tumour", 3: "core"}), 4.0)

    def error(raised: np.ndarray) -> float:
        held = np.bincount(np.argmax(levels.values + raised[:, None, None, None], axis=0).ravel(), minlength=4)[1:]
        return float(np.abs(held * levels.cell_volume / levels.targets - 1.0).max())

    first = _first_levels(levels)
    assert error(first) > 0.05
    assert error(_balanced_levels(levels, first)) < 0.02


def test_a_deformed_body_is_held_to_its_elements(ball: Masks, monkeypatch: pytest.MonkeyPatch) -> None:
    """The voxels of a renewed mesh are a quarter of its elements and no measure: 1.5 elements are allowed."""
    asked = {}

    def mesh_tumour_of(labels: LabelImage, **options: object) -> TumourMesh:
        asked.update(options)
        return body

    body = mesh_tumour(host_around(ball(6.0), margin=5.0), size=4.5, host_size=6.0, mesher="bcc", gates=False)
    monkeypatch.setattr(renewed, "mesh_tumour", mesh_tumour_of)
    renewed.renewed_mesh(body, size=4.0)
    assert asked["limit"] == pytest.approx(6.0)
