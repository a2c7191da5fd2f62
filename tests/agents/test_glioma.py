"""Glioma cells: growth, room, oxygen and radiation against closed forms, and the same bits on every engine."""

from __future__ import annotations

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
from oncoscale.core.errors import ConfigurationRejected

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
    """All doomed by one fraction: the cycling three tenths are gone within ten days, the quiescent as they wake or give
    up, but for those that woke within a cycle."""
    found = outcome(replace(FEW, radiation=(Irradiation(0.0, 50.0, 0.0),)), 24 * 14)
    left = found.counts[:, 0] / found.counts[0, 0]
    assert left[24 * 4] < 0.9
    slow = 24.0 * (kinetics.WAKE + glioma.TABLE["P_give_up"].value)
    assert left[-1] == pytest.approx(0.69 * np.exp(-14.0 * slow), abs=0.05)
    assert found.moments["quiescent_doomed"][0] > 0.9


def test_cells_lie_as_if_strewn_at_random():
    """As many wait as Poisson numbers of neighbours lie beyond N_crowd; a few less, since walls are near."""
    for filled in (0.3, 0.8):
        found = outcome(replace(FEW, volume=0.03, composition=(filled, 0, 0, 0, 0, 0)), 48)
        near = 9.39e4 * filled * 4.0 / 3.0 * np.pi * 0.03**3
        waiting = found.extra["resting"] / found.counts[-1, 0]
        assert waiting == pytest.approx(poisson.sf(6, near), abs=0.15)


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
    """All doomed and cycling: cells are fewer only as their cycle ends, none is born, and they are cleared."""
    given = replace(FEW, volume=0.2, radiation=(Irradiation(0.0, 50.0, 0.0),))
    found = outcome(given, 120, **FAST, P_clear=0.5)
    assert found.extra["births"] == 0
    assert 0.2 < found.counts[24, 0] / found.counts[0, 0] < 0.8
    assert found.counts[-1].sum() < 0.01 * found.counts[0, 0]


def test_the_doomed_are_carried_to_the_next_step():
    """A colony that starts with the moments of another has as many doomed and quiescent cells, of about that age."""
    first = outcome(replace(FEW, radiation=(Irradiation(0.0, 0.7, 0.0),)), 40)
    second = outcome(replace(FEW, clock=40, moments=first.moments), 1)
    assert 0.3 < first.moments["doomed_share"][0] < 0.6
    assert first.moments["quiescent_sound"][0] < first.moments["quiescent_doomed"][0] - 0.05
    for name, nearly in zip(glioma.MOMENTS, (0.05, 1.5, 0.05, 0.05), strict=True):
        assert second.moments[name][0] == pytest.approx(first.moments[name][0], abs=nearly)


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
    asked["parameters"] = {"P_cycle": 0.9, "P_clear": 0.2, "P_wake": 0.05, "P_rest": 0.3}
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
