"""Infiltrating density against exact solutions and the laws of its front."""

from __future__ import annotations

import numpy as np
import pytest

from oncoscale.core.errors import SolverFault
from oncoscale.imaging.study import Grid
from oncoscale.sim.infiltration import Infiltration, edge_profile, front_speed, logistic

D, RATE = 0.05, 0.05
"""mm²/day and 1/day."""


def line(length: float, h: float, d: float | np.ndarray = D) -> tuple[Infiltration, np.ndarray]:
    """A row of voxels, and their centres."""
    count = round(length / h)
    grid = Grid((count, 1, 1), np.diag([h, h, h, 1.0]))
    return Infiltration.through(grid, np.broadcast_to(np.reshape(d, (-1, 1, 1)), grid.shape)), h * np.arange(count)


def place(x: np.ndarray, c: np.ndarray, level: float = 0.5) -> float:
    """Where the density falls through a level."""
    last = int(np.flatnonzero(c[:, 0, 0] > level)[-1])
    above, below = c[last, 0, 0], c[last + 1, 0, 0]
    return float(x[last] + (x[1] - x[0]) * (above - level) / (above - below))


def test_the_exact_front_keeps_its_shape_and_speed():
    """The front of Ablowitz and Zeppetella moves at (5 / sqrt 6) sqrt(D rate), its profile within 1 %."""
    tissue, x = line(60.0, 0.25)
    start, days = 15.0, 100.0
    speed = 5.0 / np.sqrt(6.0) * np.sqrt(D * RATE)
    found = tissue.grow(edge_profile(x - start, 0.25, D, RATE)[:, None, None], RATE, days)
    truth = edge_profile(x - start - speed * days, 0.25, D, RATE)
    inside = (x > 8.0) & (x < 50.0)
    assert np.abs(found[inside, 0, 0] - truth[inside]).max() < 0.02
    assert place(x, found) - start - (place(x, truth[:, None, None]) - start) == pytest.approx(0.0, abs=0.1)


def test_a_sharp_edge_runs_as_bramson_says():
    """Over rate t from 15 to 30 a front that began sharp runs at 0.966 of 2 sqrt(D rate), not at 1."""
    tissue, x = line(90.0, 0.25)
    c = (x < 5.0).astype(float)[:, None, None]
    places = []
    times = np.linspace(15.0, 30.0, 6) / RATE
    for before, now in zip([0.0, *times[:-1]], times):
        c = tissue.grow(c, RATE, now - before)
        places.append(place(x, c))
    fitted = float(np.polyfit(times, places, 1)[0])
    assert fitted / front_speed(D, RATE) == pytest.approx(0.966, abs=0.012)
    assert fitted < front_speed(D, RATE)


def test_diffusion_alone_keeps_every_cell_and_converges():
    """A mode of a closed box decays as it must, at second order in the voxels; the sum does not change by 1e-9."""
    errors = []
    for count in (8, 16, 32):
        grid = Grid((count, 2, 2), np.diag([16.0 / count, 1.0, 1.0, 1.0]))
        tissue = Infiltration.through(grid, np.full(grid.shape, 1.0))
        x = (np.arange(count) + 0.5) * 16.0 / count
        c = np.broadcast_to((0.5 + 0.4 * np.cos(np.pi * x / 16.0))[:, None, None], grid.shape)
        now = c
        for _ in range(50):
            now = tissue.spread(now, 0.2)
        decay = (1.0 + 0.2 * (np.pi / 16.0) ** 2) ** -50.0
        errors.append(np.abs(now[:, 0, 0] - 0.5 - (c[:, 0, 0] - 0.5) * decay).max())
        assert now.sum() == pytest.approx(c.sum(), rel=1e-9)
    assert np.log2(errors[0] / errors[1]) == pytest.approx(2.0, abs=0.2)
    assert np.log2(errors[1] / errors[2]) == pytest.approx(2.0, abs=0.2)


def test_cells_do_not_enter_where_they_cannot_go():
    """Voxels without diffusivity (fluid, bone) stay empty and let nothing through, with growth all around."""
    d = np.full(40, D)
    d[20:23] = 0.0
    tissue, x = line(20.0, 0.5, d)
    found = tissue.grow((x < 4.0).astype(float)[:, None, None], RATE, 400.0)
    assert (found[20:, 0, 0] == 0).all()
    assert found[:20, 0, 0].min() > 0.5


def test_reaction_is_exact_and_stays_within_bounds():
    """Growth fills the room and no more for any step; death is exponential; two half steps make one."""
    c = np.array([0.0, 0.01, 0.5, 1.0])
    assert logistic(c, 50.0, 10.0).tolist() == pytest.approx([0.0, 1.0, 1.0, 1.0])
    assert logistic(c, -0.2, 5.0) == pytest.approx(c * np.exp(-1.0))
    assert logistic(logistic(c, 0.3, 1.5), 0.3, 1.5) == pytest.approx(logistic(c, 0.3, 3.0))


def test_the_edge_is_where_it_is_seen():
    """The profile has the visible density at distance 0 and falls outward."""
    assert edge_profile(np.array(0.0), 0.16, D, RATE) == pytest.approx(0.16)
    assert (np.diff(edge_profile(np.linspace(-5.0, 5.0, 30), 0.16, D, RATE)) < 0).all()


def test_a_coarse_grid_says_so():
    """Voxels of 3 mm are six times too wide for a front of 1 mm, half a millimetre is just enough."""
    assert line(30.0, 3.0)[0].unresolved(RATE) == pytest.approx(6.0)
    assert line(30.0, 0.5)[0].unresolved(RATE) == pytest.approx(1.0)


@pytest.mark.parametrize("wrong", [np.full((4, 1, 1), -1.0), np.full((4, 1, 1), np.nan), np.ones((3, 1, 1))])
def test_impossible_tissue_is_refused(wrong):
    """Diffusivities that are negative, no number, or of another grid."""
    with pytest.raises(SolverFault, match="diffusivity"):
        Infiltration.through(Grid((4, 1, 1), np.eye(4)), wrong)


def test_a_density_beyond_its_room_is_refused():
    """More cells than room, or negative ones, are told before anything runs."""
    tissue, x = line(4.0, 1.0)
    for wrong in (1.5, -0.1):
        with pytest.raises(SolverFault, match="density"):
            tissue.grow(np.full((4, 1, 1), wrong), RATE, 1.0)
    assert len(x) == 4
