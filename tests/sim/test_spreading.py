"""Tumours without a border: density on voxels, what is visible of it, and the answer of colonies carried to it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from oncoscale.agents.colony import ColonyOutcome
from oncoscale.imaging.study import Grid, LabelImage
from oncoscale.meshing.surface import host_around
from oncoscale.meshing.tetrahedra import mesh_tumour
from oncoscale.sim.cells import cells_of
from oncoscale.sim.infiltration import logistic
from oncoscale.sim.keeping import KeptForecast
from oncoscale.sim.selection import Selection
from oncoscale.sim.settings import ForecastSettings
from oncoscale.sim.simulation import Plan, simulate
from oncoscale.sim.spread import Ground, signed_distance
from oncoscale.sim.spreading import daily_rates, memories_of
from oncoscale.sim.start import infiltrated, start_from
from oncoscale.sim.tissue import springs_of
from oncoscale.sim.treatment import treatment_of
from oncoscale.sim.tumour_type import InitialFields, tumour_type

TUMOUR = tumour_type("dipg")
SETTINGS = ForecastSettings(elements=4, cells=120, members=1, effects=False)


@pytest.fixture(scope="module")
def labels() -> LabelImage:
    """A ball of 30 mm."""
    grid = Grid((20, 20, 20), np.diag([2.0, 2.0, 2.0, 1.0]))
    place = (np.indices(grid.shape).T - 9.5).T * 2.0
    return LabelImage(grid, ((place**2).sum(axis=0) < 15.0**2).astype(np.uint8), {1: "tumour"})


@pytest.fixture(scope="module")
def ground(labels) -> Ground:
    """Brain around it, on voxels of 2 mm."""
    mesh = mesh_tumour(host_around(labels), size=4.0, host_size=7.0, mesher="bcc")
    return Ground.under(mesh, replace(TUMOUR.spread, voxel=2.0))


@pytest.fixture(scope="module")
def start(ground, labels):
    """The tissue at time 0."""
    everywhere = np.ones(len(ground.body.tetrahedra))
    fields = InitialFields(np.zeros((len(everywhere), 6)), everywhere, everywhere, ())
    mesh = ground.labelled(ground.seeded(host_around(labels)))
    return start_from(mesh, infiltrated(fields, ground, host_around(labels)), SETTINGS, ground)


def growing(fold: float):
    """Colonies that become ``fold`` times as many in every step, evenly in ln."""

    def advance(colonies, hours, seed, **not_needed):
        counts = np.zeros((hours + 1, 6), np.int64)
        counts[:, 0] = np.rint(1e9 * fold ** (np.arange(hours + 1) / hours))
        return tuple(
            ColonyOutcome(one.name, fold, (0.0,) * 6, 0.0, 0.5, int(counts[-1, 0]), counts, {}) for one in colonies
        )

    return advance


def plan_of(ground, advance, **asked) -> Plan:
    return Plan(
        TUMOUR, SETTINGS, None, TUMOUR.materials, springs_of(TUMOUR.materials["host"]), (7.0, 14.0), 1, advance,
        ground=ground, **asked,
    )  # fmt: skip


def test_distance_is_that_of_the_ball(ground, labels):
    """Signed, in mm, to less than half a voxel of the labels."""
    places = ground.grid.world(np.moveaxis(np.indices(ground.grid.shape), 0, -1).reshape(-1, 3))
    exact = np.linalg.norm(places - 19.0, axis=1).reshape(ground.grid.shape) - 15.0
    near = np.abs(exact) < 8.0
    assert np.abs(signed_distance(host_around(labels), ground.grid) - exact)[near].max() < 1.0


def test_what_is_visible_at_the_start_is_what_was_outlined(start, labels):
    """Volume of the visible part to 3 %, the same elements but for those that the outline cuts; cells beyond it."""
    assert start.volume == pytest.approx(labels.volume("tumour"), rel=0.05)
    assert start.mesh.volume_of("tumour") == pytest.approx(labels.volume("tumour"), rel=0.1)
    beyond = np.setdiff1d(np.arange(len(start.stretch)), start.tumour)
    assert 0.0 < start.composition[beyond].sum(axis=1).min() < 0.16
    assert np.isin(start.tumour, start.inhabited).all()


def test_rates_give_back_the_answer_of_a_colony():
    """Growth by the logistic law and loss by the exponential one, day by day, end where the colony's cells ended."""
    counts = np.zeros((49, 6), np.int64)
    counts[:, 0] = [*np.linspace(1000, 1300, 24), *np.linspace(1300, 400, 25)]
    outcome = ColonyOutcome("one", 0.4, (0.0,) * 6, 0.0, 0.5, 400, counts, {})
    lengths, rates = daily_rates(np.array([0.6]), [outcome])
    density = np.array([0.6])
    for days, rate in zip(lengths, rates[0]):
        density = logistic(density, rate, days)
    assert lengths.tolist() == [1.0, 1.0]
    assert rates[0, 0] > 0 > rates[0, 1]
    assert density[0] == pytest.approx(0.6 * 0.4, rel=1e-12)


def test_elements_remember_by_the_weights_that_their_cells_come_by():
    """Two colonies, one all doomed and twice as many at the end: they keep their own memory, an element as near to
    both remembers two thirds, one beside the first hardly the other; a colony without a cell left tells nothing."""
    features = np.array([[-1.0], [0.0], [1.0], [-0.9]])
    selection = Selection(
        np.array([0, 2]), np.arange(4), np.array([0, 0, 1, 0]), np.full(2, 0.5), features, np.zeros(4, np.int64)
    )

    def outcome(end: int, doomed: float) -> ColonyOutcome:
        counts = np.zeros((2, 6), np.int64)
        counts[:, 0] = 100, end
        return ColonyOutcome("one", 1.0, (0.0,) * 6, 0.0, 0.5, end, counts, {"doomed_share": (doomed, 0.0)})

    shares = [one["doomed_share"][0] for one in memories_of(selection, [outcome(200, 1.0), outcome(100, 0.0)])]
    assert shares == pytest.approx([1.0, 2.0 / 3.0, 0.0, 2.0 * 1.9**2 / (2.0 * 1.9**2 + 0.1**2)], rel=1e-4)
    alone = memories_of(selection, [outcome(0, 0.0), outcome(100, 0.25)])
    assert [one.get("doomed_share", (None,))[0] for one in alone] == [None, 0.25, 0.25, 0.25]


def test_a_colony_without_doomed_cells_tells_nothing_of_them():
    """Half way between a colony that tells of their cycle and one that has none, the cycle is the first one's."""
    features = np.array([[-1.0], [0.0], [1.0]])
    selection = Selection(
        np.array([0, 2]), np.arange(3), np.array([0, 0, 1]), np.full(2, 0.5), features, np.zeros(3, np.int64)
    )
    counts = np.full((2, 6), 50)
    told = ({"doomed_share": (0.8, 0.0), "doomed_cycle": (60.0, 0.0)}, {"doomed_share": (0.0, 0.0)})
    outcomes = [ColonyOutcome("one", 1.0, (0.0,) * 6, 0.0, 0.5, 100, counts, one) for one in told]
    first, between, second = memories_of(selection, outcomes)
    assert first == told[0]
    assert second == told[1]
    assert between["doomed_share"][0] == pytest.approx(0.4)
    assert between["doomed_cycle"][0] == pytest.approx(60.0)


def test_a_front_without_growth_or_death_keeps_its_cells(start, ground):
    """Colonies that stay as many: cells wander, none is made or lost, all stay in the tissue."""
    states, _ = simulate(start, plan_of(ground, growing(1.0)))
    assert states[-1].density.sum() == pytest.approx(states[0].density.sum(), rel=1e-8)
    assert np.abs(states[-1].density - states[0].density).max() > 0.01


def test_growth_widens_the_visible_part_and_swells_the_tissue(start, ground):
    """More cells: a larger visible part, tissue under pressure, outer tissue displaced; fewer cells: the reverse."""
    more, steps = simulate(start, plan_of(ground, growing(1.3)))
    fewer, _ = simulate(start, plan_of(ground, growing(0.7)))
    assert more[-1].volume > more[1].volume > start.volume > fewer[1].volume > fewer[-1].volume
    assert len(more[-1].tumour) > len(start.tumour) > len(fewer[-1].tumour)
    assert more[-1].mean_stress[more[-1].tumour].mean() < 0.0 < fewer[-1].mean_stress[fewer[-1].tumour].mean()
    assert more[-1].equilibrium.pressure.shape == more[1].equilibrium.pressure.shape
    assert steps[-1].mechanics["residual"] < 1e-6
    assert 0.0 <= more[-1].density.min() <= more[-1].density.max() <= 1.0


def test_the_end_of_what_is_modelled_is_told(start, ground):
    """A tumour that grows into the outer boundary says so; the host of a forecast is wide enough for its days."""
    _, steps = simulate(start, plan_of(ground, growing(6.0)))
    assert any("lacks room" in note for note in steps[-1].notes)
    _, steps = simulate(start, replace(plan_of(ground, growing(1.0)), ends=(1.0,)))
    assert not any("lacks room" in note for note in steps[-1].notes)
    assert TUMOUR.spread.reach(300.0) == pytest.approx(300 * 0.079 + 2 * 8.06, rel=0.01)


def test_a_kept_run_goes_on_with_its_density(start, ground, tmp_path):
    """Read back, every state has the density, the labels and the volume that it had."""
    whole, _ = simulate(start, plan_of(ground, growing(1.2), kept=KeptForecast(tmp_path, "this").run(1)))
    again, _ = simulate(start, plan_of(ground, None, kept=KeptForecast(tmp_path, "this").run(1)))
    for one, other in zip(whole, again, strict=True):
        assert np.array_equal(one.density, other.density)
        assert np.array_equal(one.reference.region, other.reference.region)
        assert one.volume == other.volume


def test_the_disease_lends_its_sensitivity_where_the_treatment_states_none():
    """A file without alpha takes the disease's; one with alpha keeps it."""
    given = {"kind": "radiotherapy", "fractions": 2, "gray": 1.8}
    lent = treatment_of(given).of_cells(0.03, 10.0)
    kept = treatment_of({**given, "alpha": 0.2}).of_cells(0.03, 10.0)
    assert [one.alpha for one in lent.fractions] == [0.03, 0.03]
    assert [one.alpha for one in kept.fractions] == [0.2, 0.2]
    assert treatment_of(given).fractions[0].alpha == 0.3


def test_radiation_doses_glioma_cells_in_the_loop(start, ground):
    """Real cells: with a large dose fewer live after a week than without, and some are dead but not yet cleared."""
    dose = treatment_of({"kind": "radiotherapy", "fraction": [{"day": 0.1, "gray": 30.0}], "alpha": 0.3})
    plan = replace(plan_of(ground, cells_of(SETTINGS, 1, TUMOUR.cells)), ends=(5.0,))
    without, _ = simulate(start, plan)
    with_it, _ = simulate(start, replace(plan, treatment=dose))
    assert with_it[-1].cellularity.sum() < 0.97 * without[-1].cellularity.sum()
    assert with_it[-1].composition[:, 1].max() > 0.0
    assert any(moments["doomed_share"][0] > 0.9 for moments in with_it[-1].moments.values())
    assert set(with_it[-1].moments) == set(range(len(start.stretch))), "sparse places remember their nearest colony"
