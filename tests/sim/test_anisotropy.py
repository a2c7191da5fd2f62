"""Cells that wander farther along fibres than across them: a tensor as exchange between voxels."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage, sparse

from oncoscale.core.errors import SolverFault
from oncoscale.imaging.diffusion_tensor import MOST_ANISOTROPIC
from oncoscale.imaging.study import Grid
from oncoscale.sim.anisotropy import selling
from oncoscale.sim.infiltration import Infiltration

RATE = 0.05
"""1/day."""


def turned(*values: float, seed: int = 1) -> np.ndarray:
    """(3, 3) tensor of these eigenvalues in directions that no axis of a grid has."""
    axes = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0]
    return np.asarray(axes * values @ axes.T)


def in_plane(along: float, across: float, degrees: float) -> np.ndarray:
    """(3, 3) tensor of fibres in the plane of i and j."""
    a = np.deg2rad(degrees)
    fibre, side = np.array([np.cos(a), np.sin(a), 0.0]), np.array([-np.sin(a), np.cos(a), 0.0])
    return along * np.outer(fibre, fibre) + across * (np.outer(side, side) + np.diag([0.0, 0.0, 1.0]))


def everywhere(grid: Grid, tensor: np.ndarray) -> np.ndarray:
    """(i, j, k, 3, 3) the same tensor."""
    return np.broadcast_to(tensor, (*grid.shape, 3, 3))


def scattered(grid: Grid) -> np.ndarray:
    """(i, j, k, 3, 3) a tensor of its own in each voxel, up to 20 to 1; none in every fifth."""
    draw = np.random.default_rng(3)
    count = int(np.prod(grid.shape))
    axes = np.linalg.qr(draw.normal(size=(count, 3, 3)))[0]
    values = np.exp(draw.uniform(0.0, np.log(20.0), (count, 3)))
    tensors = np.einsum("nij,nj,nkj->nik", axes, values, axes)
    tensors[draw.uniform(size=count) < 0.2] = 0.0
    return np.asarray(0.5 * (tensors + tensors.swapaxes(1, 2)).reshape(*grid.shape, 3, 3))


def centred(grid: Grid) -> np.ndarray:
    """(i, j, k, 3) mm of voxel centres from the middle of the grid."""
    index = np.moveaxis(np.indices(grid.shape), 0, -1) - (np.array(grid.shape) - 1) / 2
    return np.asarray(index @ grid.affine[:3, :3].T)


@pytest.mark.parametrize("most", [1.0, 10.0, MOST_ANISOTROPIC.value])
def test_a_tensor_is_the_sum_of_its_steps(most: float) -> None:
    """Weights are not negative, steps are whole and as long as the anisotropy asks; together they are the tensor."""
    tensors = np.array([turned(1.0, most**share, most, seed=n) for n, share in enumerate(np.linspace(0, 1, 60))])
    weights, steps = selling(tensors)
    assert weights.min() >= 0.0
    assert np.einsum("ns,nsa,nsb->nab", weights, steps, steps) == pytest.approx(tensors, rel=1e-12, abs=1e-12 * most)
    assert np.abs(steps[weights > 0.0]).max() <= np.sqrt(most) + 1.0


def test_quadratics_are_exact_on_a_turned_grid() -> None:
    """div(D grad q) of a quadratic is trace(D Q) in every inner voxel, whatever the axes and sides of voxels."""
    about = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))[0]
    affine = np.eye(4)
    affine[:3, :3] = about * [1.0, 1.3, 0.7]
    grid, tensor, form = Grid((11, 11, 11), affine), turned(0.9, 0.2, 0.1), turned(1.0, -2.0, 0.5, seed=2)
    x = centred(grid)
    tissue = Infiltration.through(grid, everywhere(grid, tensor))
    found = (tissue.exchange @ (0.5 * np.einsum("...a,ab,...b", x, form, x)).ravel()).reshape(grid.shape)
    assert found[4:-4, 4:-4, 4:-4] / tissue.volume == pytest.approx(np.trace(tensor @ form), abs=1e-10)


def test_nothing_is_lost_and_nothing_negative() -> None:
    """Rows and columns of the exchange sum to 0 within 1e-12, none beside the diagonal is negative.

    Tensors of all kinds side by side keep every density positive and every cell.
    """
    grid = Grid((8, 7, 6), np.diag([1.0, 1.5, 2.0, 1.0]))
    tissue = Infiltration.through(grid, scattered(grid))
    exchange, size = tissue.exchange, np.abs(tissue.exchange.diagonal()).max()
    assert np.abs(exchange.sum(axis=0)).max() < 1e-12 * size
    assert np.abs(exchange.sum(axis=1)).max() < 1e-12 * size
    assert (exchange - sparse.diags_array(exchange.diagonal())).min() >= 0.0
    closed = tissue.diffusivity == 0.0
    start = np.where(closed, 0.0, np.random.default_rng(1).uniform(size=grid.shape))
    later = tissue.spread(start, 3.0)
    assert closed.any()
    assert (later[closed] == 0.0).all()
    assert later.min() >= 0.0
    assert later.sum() == pytest.approx(start.sum(), rel=1e-9)


def test_a_tensor_alike_in_all_directions_is_a_number() -> None:
    """It exchanges as the isotropic scheme does, closed voxels and jumps of diffusivity among it."""
    grid = Grid((6, 5, 7), np.diag([1.0, 1.5, 2.0, 1.0]))
    d = np.random.default_rng(2).uniform(size=grid.shape)
    d[d < 0.3] = 0.0
    alike, tensor = Infiltration.through(grid, d), Infiltration.through(grid, d[..., None, None] * np.eye(3))
    assert alike.shape is None
    assert tensor.diffusivity == pytest.approx(d, abs=1e-15)
    assert np.abs((alike.exchange - tensor.exchange).toarray()).max() < 1e-13


def test_an_anisotropic_gaussian_spreads_at_second_order() -> None:
    """exp(-x (4 D t)⁻¹ x) / t is exact for constant D; with steps refined as the square of voxels the order is 2."""
    tensor, begun, days, errors = in_plane(0.4, 0.08, 25.0), 25.0, 5.0, []

    def exact(x: np.ndarray, t: float) -> np.ndarray:
        plane = np.einsum("...a,ab,...b", x[..., :2], np.linalg.inv(tensor[:2, :2]), x[..., :2])
        return np.asarray(begun / t * np.exp(-plane / (4.0 * t)))

    for h in (2.0, 1.0, 0.5):
        count = round(40.0 / h)
        grid = Grid((count, count, 1), np.diag([h, h, 1.0, 1.0]))
        tissue, x = Infiltration.through(grid, everywhere(grid, tensor)), centred(grid)
        c, step = exact(x, begun), 0.25 * h**2
        for _ in range(round(days / step)):
            c = tissue.spread(c, step)
        errors.append(np.sqrt(np.mean((c - exact(x, begun + days)) ** 2)))
    assert np.log2(errors[1] / errors[2]) == pytest.approx(2.0, abs=0.1)


def test_fronts_run_farther_along_fibres() -> None:
    """A tumour begun as an ellipse of axes as sqrt(D) stays one: twice as long as wide where D is 4 to 1."""
    along, across, angle, h = 0.10, 0.025, 30.0, 0.5
    grid = Grid((90, 90, 1), np.diag([h, h, 1.0, 1.0]))
    x, fibre = centred(grid), np.deg2rad(angle)
    u, v = x[..., 0] * np.cos(fibre) + x[..., 1] * np.sin(fibre), x[..., 1] * np.cos(fibre) - x[..., 0] * np.sin(fibre)
    stretched = np.sqrt(u**2 / along + v**2 / across)
    tissue = Infiltration.through(grid, everywhere(grid, in_plane(along, across, angle)))
    c = tissue.grow(1.0 / (1.0 + np.exp(1.5 * (stretched - 15.0))), RATE, 60.0)

    def reached(direction: float) -> float:
        r = np.linspace(0.0, 20.0, 400)
        line = np.stack([r * np.cos(direction), r * np.sin(direction), 0.0 * r]) / h
        middle = np.array([44.5, 44.5, 0.0])[:, None]
        return float(r[ndimage.map_coordinates(c, middle + line, order=1) > 0.5][-1])

    assert reached(fibre) > 15.0 * np.sqrt(along) + 2.5
    assert reached(fibre) / reached(fibre + np.pi / 2) == pytest.approx(2.0, rel=0.02)


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_steps_longer_than_the_grid_lead_nowhere(size: int) -> None:
    """A slab thinner than the steps that its tensors take keeps every cell."""
    grid = Grid((12, size, 12), np.eye(4))
    for seed in range(8):
        tissue = Infiltration.through(grid, everywhere(grid, turned(1.0, 80.0, 10.0, seed=seed)))
        assert np.abs(tissue.exchange.sum(axis=0)).max() <= 1e-12 * np.abs(tissue.exchange.diagonal()).max()


def test_no_step_leads_over_a_wall() -> None:
    """A wall one voxel thick, even one that stands on edges alone, holds cells whose steps are longer than it."""
    grid = Grid((15, 15, 3), np.eye(4))
    index = np.indices(grid.shape)
    for wall in (index[0] == 7, index[0] + index[1] == 14):
        tensors = np.where(wall[..., None, None], 0.0, in_plane(1.0, 0.02, 30.0))
        start = np.where(index[0] + index[1] < 14, 1.0, 0.0) * (index[0] < 7) * ~wall
        later = Infiltration.through(grid, tensors).spread(start, 200.0)
        behind = (index[0] > 7) if wall[7, 0].all() else (index[0] + index[1] > 14)
        assert later[behind].max() == 0.0
        assert later[~behind & ~wall].min() > 0.0


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        (np.diag([1.0, 1.0, -0.1]), "not positive"),
        (np.diag([1.0, 1.0, 1e-4]), "not positive"),
        (np.array([[1.0, 0.3, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]), "not symmetric"),
        (np.full((3, 3), np.nan), "tensor"),
    ],
)
def test_impossible_tensors_are_refused(tensor: np.ndarray, words: str) -> None:
    """Directions in which cells would gather, too thin a tensor, one with a handedness, no number."""
    with pytest.raises(SolverFault, match=words):
        Infiltration.through(Grid((2, 2, 2), np.eye(4)), np.broadcast_to(tensor, (2, 2, 2, 3, 3)))
