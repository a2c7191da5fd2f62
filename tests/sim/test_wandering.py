"""Where cells wander: by region, and along the fibres that diffusion tensors show."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from oncoscale.app.run_folder import contour_of
from oncoscale.core.errors import ConfigurationRejected, SolverFault
from oncoscale.imaging.diffusion_tensor import TensorImage
from oncoscale.imaging.study import Grid, LabelImage
from oncoscale.meshing.mesh import TumourMesh
from oncoscale.meshing.tetrahedra import mesh_tumour
from oncoscale.sim.spread import ALONG_FIBRES, LEAST_COVERED, Ground, density_on, shapes_on
from oncoscale.sim.start import host_for
from oncoscale.sim.state import TissueState
from oncoscale.sim.tumour_type import tumour_type
from oncoscale.sim.tumours.dipg import DIFFUSIVITY, WANDERING, WHITE_OVER_GREY

SPREAD = replace(tumour_type("dipg").spread, voxel=2.0)


@pytest.fixture(scope="module")
def mesh() -> TumourMesh:
    """A ball of 20 mm with a ball of white matter on its left and one of bone before it."""
    grid = Grid((28, 28, 28), np.diag([2.0, 2.0, 2.0, 1.0]))
    place = (np.indices(grid.shape).T - 13.5) * 2.0
    values = np.zeros(grid.shape, np.uint8)
    for number, middle, radius in ((1, (0, 0, 0), 10.0), (2, (18, 0, 0), 7.0), (3, (0, -18, 0), 7.0)):
        values[(((place - middle) ** 2).sum(axis=-1) < radius**2).T] = number
    outline = LabelImage(grid, values, {1: "tumour", 2: "white", 3: "skull"})
    return mesh_tumour(host_for(outline, SPREAD, 7.0), size=4.0, host_size=6.0, mesher="bcc")


def tensors(fibre: np.ndarray) -> TensorImage:
    """Fibres of 5 to 1 everywhere on the left half of an image that does not hold the whole mesh."""
    grid = Grid((12, 12, 12), np.diag([4.0, 4.0, 4.0, 1.0]))
    values = np.broadcast_to(4.0 * np.outer(fibre, fibre) + np.eye(3), (*grid.shape, 3, 3)).copy()
    values[:6] = 0.0
    return TensorImage(grid, values)


def test_cells_wander_by_region(mesh: TumourMesh) -> None:
    """Five times as fast through white matter as elsewhere, not at all into bone; the tumour's place is as its host."""
    assert WANDERING["white"] == WHITE_OVER_GREY.value * DIFFUSIVITY.value == 5.0 * WANDERING["host"]
    ground = Ground.under(mesh, SPREAD)
    found = {
        name: np.median(ground.tissue.diffusivity[ground.on_voxels((ground.body.region == number) * 1.0) > 0.99])
        for number, name in ground.body.region_names.items()
    }
    assert found == pytest.approx({name: WANDERING[name] for name in ("host", "white", "skull")})


def test_no_voxel_is_slower_than_its_tissue(mesh: TumourMesh) -> None:
    """Where bone takes part of a voxel, cells wander in the rest of it or, if that is less than half, not at all."""
    ground = Ground.under(mesh, SPREAD)
    found = ground.tissue.diffusivity
    assert found[found > 0.0].min() == pytest.approx(DIFFUSIVITY.value)
    assert found.max() == pytest.approx(WANDERING["white"])
    assert ground.tissue.unresolved(0.012) == pytest.approx(2.0 / (0.5 * np.sqrt(DIFFUSIVITY.value / 0.012)))


def test_tensors_say_where_and_regions_say_how_far(mesh: TumourMesh) -> None:
    """The mean of every voxel's tensor is its region's diffusivity; its shape is the image's, or a ball beyond it."""
    fibre = np.array([0.6, 0.0, 0.8])
    alike, along = Ground.under(mesh, SPREAD), Ground.under(mesh, SPREAD, tensors(fibre))
    assert np.array_equal(along.tissue.diffusivity, alike.tissue.diffusivity)
    assert np.trace(along.tissue.shape, axis1=-2, axis2=-1) == pytest.approx(3.0)
    place = along.grid.world(np.moveaxis(np.indices(along.grid.shape), 0, -1))
    inside = ((place > [26.0, 0.0, 0.0]) & (place < 40.0)).all(axis=-1)
    assert inside.any()
    expected = (4.0 * np.outer(fibre, fibre) + np.eye(3)) * 3.0 / 7.0
    assert np.abs(along.tissue.shape[inside] - expected).max() < 1e-12
    assert np.abs(along.tissue.shape[place[..., 0] < 18.0] - np.eye(3)).max() == 0.0
    assert alike.statements == ()
    assert along.statements == (ALONG_FIBRES,)


def test_tensors_of_another_place_are_refused(mesh: TumourMesh) -> None:
    """A metre away no tensor lies in the tissue: both places are told, and nothing is taken for alike in silence."""
    away = tensors(np.array([0.0, 0.0, 1.0]))
    away.grid.affine[2, 3] += 1000.0
    with pytest.raises(ConfigurationRejected, match=r"1000 to 1044 mm\) and tissue .* share nothing"):
        Ground.under(mesh, SPREAD, away)


def test_a_slower_tissue_keeps_its_fibres(mesh: TumourMesh) -> None:
    """Half of all diffusivities is half of every exchange, along fibres as without them."""
    ground = Ground.under(mesh, SPREAD, tensors(np.array([0.0, 0.6, 0.8])))
    slowed = ground.slowed(0.5).tissue.exchange
    assert np.abs((slowed - 0.5 * ground.tissue.exchange).data).max(initial=0.0) < 1e-12


def test_fibres_lead_cells(mesh: TumourMesh) -> None:
    """A few cells amid fibres are spread 5 to 1 in variance along and across them after diffusion alone."""
    fibre = np.array([0.6, 0.0, 0.8])
    everywhere = TensorImage(Grid((2, 2, 2), 400.0 * np.eye(4) + np.diag([0, 0, 0, -399.0])), np.zeros((2, 2, 2, 3, 3)))
    everywhere.values[:] = 4.0 * np.outer(fibre, fibre) + np.eye(3)
    open_ground = Ground.under(
        mesh, replace(SPREAD, diffusivity={"host": 0.13, "white": 0.13, "skull": 0.13}), everywhere
    )
    place = open_ground.grid.world(np.moveaxis(np.indices(open_ground.grid.shape), 0, -1))
    middle = place[open_ground.covered >= LEAST_COVERED].mean(axis=0)
    start = np.exp(-((place - middle) ** 2).sum(axis=-1) / 18.0) * (open_ground.covered >= LEAST_COVERED)
    later = open_ground.tissue.spread(start, 30.0)

    def spread_along(density: np.ndarray, direction: np.ndarray) -> float:
        return float((density * ((place - middle) @ direction) ** 2).sum() / density.sum())

    across = np.array([0.8, 0.0, -0.6])
    gained = [spread_along(later, way) - spread_along(start, way) for way in (fibre, across)]
    assert gained[0] / gained[1] == pytest.approx(5.0, rel=0.05)
    assert shapes_on(open_ground.grid, None) is None


def at_rest(ground: Ground, mesh: TumourMesh, density: np.ndarray) -> TissueState:
    """A tissue with that density, without load."""
    nothing = np.zeros(len(mesh.tetrahedra))
    fields = (nothing + 1.0, np.zeros((len(nothing), 6)), nothing, nothing, nothing)
    still = TissueState(0.0, ground.labelled(density), np.zeros_like(mesh.points), *fields)
    return replace(still, density=density, visible=ground.visible_share(density))


def test_a_density_moves_with_its_tissue(mesh: TumourMesh) -> None:
    """A linear density in a tissue that is stretched and moved is found, at every voxel of an image, where the tissue
    lay before."""
    ground = Ground.under(mesh, SPREAD)
    places = ground.grid.world(np.moveaxis(np.indices(ground.grid.shape), 0, -1))
    slope, stretch = np.array([0.01, -0.02, 0.005]), np.diag([1.1, 0.95, 1.02]) + 0.03
    state = at_rest(ground, mesh, 0.3 + places @ slope)
    state = replace(state, displacement=mesh.points @ stretch.T + [1.0, 2.0, -3.0] - mesh.points)
    image = Grid((40, 30, 20), np.diag([1.7, 2.1, 3.1, 1.0]))
    found = density_on(image, state, SPREAD)
    centres = image.world(np.moveaxis(np.indices(image.shape), 0, -1))
    before = (centres - [1.0, 2.0, -3.0]) @ np.linalg.inv(stretch).T
    inside = np.isfinite(found)
    assert inside.sum() > 1000
    np.testing.assert_allclose(found[inside], (0.3 + before @ slope)[inside], atol=1e-9)
    with pytest.raises(SolverFault, match="does not lie on the voxels"):
        density_on(image, state, replace(SPREAD, voxel=3.0))


def test_the_contour_of_the_first_day_is_the_outline(mesh: TumourMesh) -> None:
    """In elements of two voxels a ball that was drawn comes back but for its rim, where shares of elements alone draw
    their faces; either way it has the tumour's volume."""
    grid = Grid((28, 28, 28), np.diag([2.0, 2.0, 2.0, 1.0]))
    place = (np.indices(grid.shape).T - 13.5) * 2.0
    outline = LabelImage(grid, ((place**2).sum(axis=-1) < 10.0**2).T.astype(np.uint8), {1: "tumour"})
    ground = Ground.under(mesh, SPREAD)
    state = at_rest(ground, mesh, ground.seeded(outline))
    smooth, toothed = contour_of(state, outline, SPREAD), contour_of(state, outline)
    assert smooth.values.sum() == toothed.values.sum() == round(1000.0 * state.volume / grid.voxel_volume)
    wrong = [int((one.mask("tumour") ^ outline.mask("tumour")).sum()) for one in (smooth, toothed)]
    assert wrong[0] <= abs(int(smooth.values.sum()) - int(outline.values.sum())) + 8
    assert wrong[0] < wrong[1]
