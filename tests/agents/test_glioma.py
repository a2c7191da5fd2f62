"""Glioma cells: growth, room, oxygen and radiation against closed forms, and the same bits on every engine."""

from __future__ import annotations

import sys
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import poisson

from oncoscale.agents import explain, glioma
from oncoscale.agents import glioma_kinetics as kinetics
from oncoscale.agents.behaviours.radiation import felt
from oncoscale.agents.colony import Colony, Irradiation, Surroundings
from oncoscale.agents.engine import engine
from oncoscale.agents.engine.cuda import CudaEngine
from oncoscale.agents.glioma_room import at_most, between_walls, share_inside
from oncoscale.agents.modes import Switches
from oncoscale.core.errors import ConfigurationRejected

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
FEW = Surroundings(volume=1.0, oxygen=0.5, composition=(0.02, 0, 0, 0, 0, 0))
SIMPLE = {"growth_fraction": 1.0, "P_lost": 0.0, "P_rest": 0.0}
"""All cells cycle, none is lost."""

FAST = {"P_cycle": 0.5, **SIMPLE}


def outcome(given: Surroundings, hours: int, name: str = "cpu", seed: int = 4, **parameters: float) -> Any:
    """What one colony did."""
    asked: dict[str, Any] = {"cells": "glioma", "hours": hours, "seed": seed, "threads": 1, "parameters": parameters}
    return engine(name).advance([Colony("c", given)], **asked)[0]


def test_a_sparse_colony_grows_at_the_rate_of_its_cycle():
    """24 hours of the cycle, each passed with chance p an hour: cells grow by 1 + p (2^(1/24) - 1) an hour."""
    counts = outcome(FEW, 96, **FAST).counts[:, 0]
    expected = (1.0 + FAST["P_cycle"] * (2.0 ** (1.0 / 24.0) - 1.0)) ** 96
    assert counts[0] == round(9.39e4 * 0.02)
    assert counts[-1] / counts[0] == pytest.approx(expected, rel=0.06)


def test_the_default_numbers_are_the_published_ones():
    """A sparse colony grows by 0.012 a day (Swanson 2000) with 31 % of its cells cycling and one division in about
    75.6 hours of each (Hoshino and Wilson 1979), so that seven of eight cells that are born are lost."""
    days = 10
    found = outcome(replace(FEW, volume=1.5), 24 * days)
    alive = found.counts[:, 0]
    born, net = found.extra["births"] / alive.mean() / days, np.log(alive[-1] / alive[0]) / days
    assert net == pytest.approx(0.012, abs=0.006)
    assert 1.0 - found.extra["quiescent"] / alive[-1] == pytest.approx(0.31, abs=0.02)
    assert born == pytest.approx(0.31 * 24.0 / 75.6, rel=0.08)
    assert 1.0 - net / born == pytest.approx(0.88, abs=0.06)


def test_fates_at_birth_keep_the_growth_fraction():
    """Where no cell can fall quiescent none is; where none is lost a tumour of cycling cells doubles each cycle."""
    net = np.log(2.0) / 24.0
    halved = np.expm1(net) / (2.0 ** (1.0 / kinetics.STAGES) - 1.0)
    assert kinetics.fates_at_birth(1.0, net, halved, 0.01) == pytest.approx((0.0, 0.0), abs=1e-12)


def test_a_tumour_that_turns_over_fast_shrinks_in_weeks():
    """All doomed by one fraction, and every division kills: the cycling three tenths are gone within ten days, the
    quiescent as they wake, but for those that woke within a cycle."""
    found = outcome(replace(FEW, radiation=(Irradiation(0.0, 50.0, 0.0),)), 24 * 14, P_fatal=1.0)
    left = found.counts[:, 0] / found.counts[0, 0]
    assert left[24 * 4] < 0.9
    assert left[-1] == pytest.approx(0.69 * np.exp(-14.0 * 24.0 * kinetics.WAKE), abs=0.05)
    assert found.moments["quiescent_doomed"][0] > 0.9


@pytest.mark.parametrize("attempts", [1.0, 2.0, 3.0])
def test_the_doomed_try_as_many_divisions_as_stated(attempts):
    """All doomed and cycling, none lost otherwise: of the divisions that are tried one in ``attempts`` kills; daughters
    of the doomed are doomed."""
    given = replace(FEW, radiation=(Irradiation(0.0, 50.0, 0.0),))
    found = outcome(given, 48, **FAST, P_fatal=1.0 / attempts)
    dead = found.counts[0, 0] + found.extra["births"] - found.counts[-1, 0]
    tried = dead + found.extra["births"]
    assert dead / tried == pytest.approx(1.0 / attempts, abs=4.0 * np.sqrt(0.25 / tried))
    assert found.moments["doomed_share"][0] == (1.0 if attempts > 1.0 or found.counts[-1, 0] else 0.0)


def mean_field_of_the_cells() -> Any:
    """The benchmark's module of the rules without chance."""
    specification = spec_from_file_location("mean_field", BENCHMARKS / "validation" / "_glioma_mean_field.py")
    assert specification
    assert specification.loader
    mean_field = module_from_spec(specification)
    sys.modules[specification.name] = mean_field
    specification.loader.exec_module(mean_field)
    return mean_field


def test_the_mean_field_is_what_cells_do_on_average():
    """Three weeks of a sparse colony, of whose cells one fraction in the first hour dooms half: as many cells are left,
    and as large shares of them are doomed and quiescent, as the same rules say without chance."""
    mean_field = mean_field_of_the_cells()
    days, density = 21, 0.02
    found = outcome(replace(FEW, radiation=(Irradiation(0.0, np.log(2.0) / felt(0.5), 0.0),)), 24 * days)
    cells = mean_field.settled(mean_field.Tumour(), np.array([density]))
    hit = np.zeros(24 * days)
    hit[0] = 0.5
    mean_field.live(cells, hit, np.ones(24 * days), mean_field.chances_of(mean_field.Tumour()))
    sound, doomed = cells[0]
    share = doomed.sum() / cells.sum()
    assert found.counts[-1, 0] / found.counts[0, 0] == pytest.approx(cells.sum() / density, abs=0.05)
    assert found.moments["doomed_share"][0] == pytest.approx(share, abs=0.05)
    assert found.moments["quiescent_doomed"][0] == pytest.approx(doomed[-1] / doomed.sum(), abs=0.05)
    assert found.moments["quiescent_sound"][0] == pytest.approx(sound[-1] / sound.sum(), abs=0.05)


def test_the_doomed_that_do_not_divide_live_on():
    """No cell cycles, none wakes: radiation that dooms every one kills none in two weeks."""
    given = replace(FEW, volume=0.2, radiation=(Irradiation(0.0, 50.0, 0.0),))
    found = outcome(given, 24 * 14, P_cycle=0.0, P_wake=0.0)
    assert (found.counts[:, 0] == found.counts[0, 0]).all()
    assert found.moments["doomed_share"][0] == 1.0


@pytest.mark.parametrize("cells", [150, 1500])
def test_cells_find_room_as_in_wide_tissue(cells):
    """As many wait as Poisson numbers of others lie beyond N_crowd - 1, however small the cube: what its walls cut off
    is as crowded as the rest. Cells left to themselves, in twelve hours and many colonies."""
    for filled in (0.35, 0.5, 0.8):
        given = replace(FEW, volume=cells / (9.39e4 * filled), composition=(filled, 0, 0, 0, 0, 0))
        found = [outcome(given, 12, seed=seed, P_cycle=0.0, P_wake=0.0) for seed in range(3000 // cells)]
        near = 9.39e4 * filled * 4.0 / 3.0 * np.pi * 0.03**3
        waiting = np.mean([one.extra["resting"] / one.cell_count for one in found])
        assert waiting == pytest.approx(poisson.sf(6, near), abs=0.06)


def test_the_share_of_a_ball_inside_a_cube():
    """Whole far from the walls, a half, a quarter and an eighth on a face, an edge and a corner; half a slab as thick
    as the ball; elsewhere as points strewn in the ball say."""
    assert share_inside(0.0, 0.0, 0.0, 40.0, 30.0) == 1.0
    beside = ((40.0, 0.0, 0.0), (40.0, 40.0, 0.0), (40.0, -40.0, 40.0))
    assert [share_inside(*place, 40.0, 30.0) for place in beside] == [0.5, 0.25, 0.125]
    assert between_walls(0.0, 15.0, 30.0) == pytest.approx(1.0 - 2.0 * 0.25 * 2.5 / 4.0)
    points = np.random.default_rng(1).uniform(-1.0, 1.0, (200_000, 3))
    ball = 30.0 * points[(points**2).sum(axis=1) < 1.0]
    for place in ((30.0, 5.0, 0.0), (30.0, -35.0, 20.0), (38.0, 28.0, -25.0)):
        strewn = (np.abs(ball + place) < 40.0).all(axis=1).mean()
        assert share_inside(*place, 40.0, 30.0) == pytest.approx(strewn, abs=0.02)


def test_chances_of_few_neighbours_are_poisson_s():
    """The sum of the first terms, at any count; no chance of less than none."""
    for mean in (0.0, 0.4, 8.0):
        found = [at_most(float(count), mean) for count in range(-1, 12)]
        assert found == pytest.approx(poisson.cdf(np.arange(-1, 12), mean).tolist(), abs=1e-11)


def test_a_crowd_grows_as_the_mean_field_says():
    """Two weeks of small colonies at several densities, all cells cycling and none lost: the number of cells is that of
    the rules without chance, in which room is Poisson's of wide tissue."""
    mean_field = mean_field_of_the_cells()
    chances = (FAST["P_cycle"], 0.0, 0.0, 0.0, 1.0, 0.0, -1.0)
    hours = 48
    for filled in (0.3, 0.5, 0.7):
        given = replace(FEW, volume=150 / (9.39e4 * filled), composition=(filled, 0, 0, 0, 0, 0))
        grown = [outcome(given, hours, seed=seed, **FAST).counts[-1, 0] / 150 for seed in range(12)]
        cells = mean_field.settled(mean_field.Tumour(cycling=1.0), np.array([filled]))
        mean_field.live(cells, np.zeros(hours), np.ones(hours), chances)
        assert np.mean(grown) == pytest.approx(cells.sum() / filled, rel=0.06), filled


def test_a_crowd_rests_and_stays_in_its_cube():
    """Where cells fill the tissue hardly one divides; the more room, the more do. Walls hold the cells."""
    shares = [
        outcome(replace(FEW, volume=0.02, composition=(c, 0, 0, 0, 0, 0)), 24, **FAST).extra["births"] / (1878 * c)
        for c in (0.1, 0.6, 1.0)
    ]
    assert shares[0] > 1.2 * shares[1] > 3 * shares[2]


def test_without_oxygen_cells_rest_and_then_die():
    """At 2 mmHg nobody divides or dies; at none all living cells are necrotic after the hours they endure."""
    resting = outcome(replace(FEW, volume=0.1, oxygen=2.0 / 72.0), 60, **FAST)
    dead = outcome(replace(FEW, volume=0.1, oxygen=0.0), 60, **FAST)
    assert resting.extra["births"] == 0
    assert (resting.counts[-1] == resting.counts[0]).all()
    assert dead.counts[46, 0] == dead.counts[0, 0]
    assert dead.counts[-1, 0] == 0


@pytest.mark.parametrize("oxygen", [1.0, 0.05])
def test_one_fraction_dooms_the_share_of_the_law(oxygen):
    """Of cells that feel share m of d gray, 1 - exp(-m alpha d - m² beta d²) are doomed; all still live."""
    given = replace(FEW, oxygen=oxygen, radiation=(Irradiation(0.5, 0.4, 0.2),))
    found = outcome(given, 1, P_cycle=0.0)
    m = felt(oxygen)
    expected = 1.0 - np.exp(-m * 0.4 - m * m * 0.2)
    alive = found.counts[-1, 0]
    assert alive == found.counts[0, 0]
    assert found.moments["doomed_share"][0] == pytest.approx(expected, abs=4 * np.sqrt(0.25 / alive))


def test_the_doomed_die_at_their_division():
    """All doomed and cycling, every division kills: cells are fewer only as their cycle ends, none is born, and the
    dead are cleared."""
    given = replace(FEW, volume=0.2, radiation=(Irradiation(0.0, 50.0, 0.0),))
    found = outcome(given, 120, **FAST, P_clear=0.5, P_fatal=1.0)
    assert found.extra["births"] == 0
    assert 0.2 < found.counts[24, 0] / found.counts[0, 0] < 0.8
    assert found.counts[-1].sum() < 0.01 * found.counts[0, 0]


def test_the_doomed_are_carried_to_the_next_step():
    """A colony that starts with the moments of another has as many doomed and quiescent cells, of about that age."""
    first = outcome(replace(FEW, radiation=(Irradiation(0.0, 0.7, 0.0),)), 40, P_fatal=1.0)
    second = outcome(replace(FEW, clock=40, moments=first.moments), 1)
    assert 0.3 < first.moments["doomed_share"][0] < 0.6
    assert first.moments["quiescent_sound"][0] < first.moments["quiescent_doomed"][0] - 0.05
    for name, nearly in zip(glioma.MOMENTS, (0.05, 1.5, 0.05, 0.05), strict=True):
        assert second.moments[name][0] == pytest.approx(first.moments[name][0], abs=nearly)


def test_a_colony_starts_with_as_many_of_each_as_the_shares_say():
    """Of 150 cells 13.5 are sound and 45.9 of 136.5 doomed ones quiescent: to one cell with every seed, exactly on
    average over many."""
    moments = {"doomed_share": (0.91, 0.0), "doomed_cycle": (12.0, 0.0), "quiescent_doomed": (0.336, 0.0)}
    given = replace(FEW, volume=150 / (9.39e4 * 0.02), moments=moments)
    kind, numbers = glioma.CELLS, glioma.parameters()
    starts = [
        kind.settled(Colony("c", given), seed=n, switches=Switches(), parameters=numbers).cells for n in range(60)
    ]
    sound = np.array([150 - one["doomed"].sum() for one in starts])
    resting = np.array([(one["doomed"] & one["quiescent"]).sum() for one in starts])
    assert np.abs(sound - 13.5).max() < 1.0
    assert np.abs(resting - 0.336 * (150 - sound)).max() < 1.0
    assert sound.mean() == pytest.approx(13.5, abs=0.2)
    ages = np.concatenate([one["cycle"][~one["quiescent"]] for one in starts])
    assert np.bincount(ages, minlength=24) == pytest.approx(np.full(24, len(ages) / 24), rel=0.15)


def bits(found: Any) -> list[Any]:
    """All that a colony did."""
    return [found.name, found.counts.tobytes(), found.volume_ratio, found.composition, dict(found.moments), found.extra]


def test_every_engine_gives_the_same_bits():
    """Interpreted, compiled, and as kernels in loops on the host: growth, death, removal, radiation and walks."""
    specification = spec_from_file_location("machines", Path(__file__).parent / "machines.py")
    assert specification
    assert specification.loader
    machines = module_from_spec(specification)
    specification.loader.exec_module(machines)
    given = replace(FEW, volume=0.004, composition=(0.25, 0.05, 0.02, 0, 0, 0), radiation=(Irradiation(3.2, 0.4, 0.1),))
    asked: dict[str, Any] = {"cells": "glioma", "hours": 12, "seed": 2, "threads": 1}
    asked["parameters"] = {"P_cycle": 0.9, "P_clear": 0.2, "P_wake": 0.05, "P_rest": 0.3, "P_fatal": 0.4}
    colonies = [Colony("one", given), Colony("two", replace(given, volume=0.001, oxygen=0.0))]
    runners = (engine("python"), engine("cpu"), CudaEngine(machines.CompiledMachine()))
    found = [[bits(one) for one in runner.advance(colonies, **asked)] for runner in runners]
    assert found[0] == found[1] == found[2]
    assert found[0][0][-1]["births"] > 0
    assert found[0][0][-1]["cleared"] > 0


def test_every_rule_can_be_explained():
    """Rules, draws and parameters are found as those of the other types are."""
    found = explain.rules({"glioma cell": glioma.each_hour[0]}, tuple(glioma.TABLE))
    assert [one.name for one in found] == [behaviour.__name__ for behaviour in glioma.each_hour[0]]
    assert all(parameter.source for parameter in glioma.TABLE.values())


@pytest.mark.parametrize(
    "wrong", [{"volume": 0.0}, {"oxygen": 2.0}, {"composition": (0, 0, 0, 0.1, 0, 0)}, {"moments": {"x": (1.0, 0.0)}}]
)
def test_impossible_surroundings_are_refused(wrong):
    """The colony is named."""
    with pytest.raises(ConfigurationRejected, match="'c'"):
        outcome(replace(FEW, **wrong), 1)
