"""Radiation: the rule against the linear quadratic law, alone and in living colonies."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from oncoscale.agents.behaviours.radiation import felt, killed
from oncoscale.agents.colony import Colony, Irradiation, Surroundings
from oncoscale.agents.engine import engine
from oncoscale.core.errors import ConfigurationRejected

MANY = Surroundings(volume=0.03, oxygen=1.0, composition=(0.6, 0, 0, 0, 0, 0), histology=0, schwann_fraction=0.0)
ALPHA, BETA = 0.2, 0.02


def fraction(hour: float, gray: float) -> Irradiation:
    return Irradiation(hour, ALPHA * gray, BETA * gray**2)


def survivors(doses: tuple[Irradiation, ...], hours: int, oxygen: float = 1.0, seed: int = 3) -> np.ndarray:
    """Living neuroblasts hour by hour."""
    colony = Colony("irradiated", replace(MANY, radiation=doses, oxygen=oxygen))
    return np.asarray(engine("cpu").advance([colony], hours=hours, seed=seed)[0].counts[:, 0])


def test_oxygen_sets_the_share_of_the_dose_that_is_felt():
    """A third without oxygen, two thirds at 3 mmHg, nearly all in blood (Alper et al. 1956)."""
    assert felt(0.0) == pytest.approx(1 / 3)
    assert felt(3.0 / 72.0) == pytest.approx(2 / 3)
    assert 0.96 < felt(1.0) < 1.0


@pytest.mark.parametrize("argument", [0.0, 1e-9, 0.3, 2.0, 12.0, 30.0])
def test_the_chance_is_one_minus_the_exponential(argument):
    """To twelve digits, with sums and products alone."""
    m = felt(0.5)
    assert 1.0 - killed(0.5, argument / m, 0.0) == pytest.approx(np.exp(-argument), rel=1e-11, abs=1e-15)


@pytest.mark.parametrize(("oxygen", "m"), [(1.0, 73 / 75), (0.0, 1 / 3)])
def test_one_fraction_leaves_the_share_of_the_law(oxygen, m):
    """Of some thousand cells those that live after 6 Gy are exp(-m alpha d - m² beta d²) of those without it."""
    expected = np.exp(-m * ALPHA * 6.0 - m**2 * BETA * 36.0)
    without, irradiated = survivors((), 1, oxygen)[-1], survivors((fraction(0.0, 6.0),), 1, oxygen)[-1]
    assert without > 1000
    assert irradiated / without == pytest.approx(expected, abs=4 * np.sqrt(expected * (1 - expected) / without))


def test_two_fractions_of_an_hour_act_as_two():
    """2 + 2 Gy in one hour kill as two fractions do, less than 4 Gy at once; a minute later changes nothing."""
    twice = survivors((fraction(0.0, 2.0), fraction(0.4, 2.0)), 2)
    shifted = survivors((fraction(0.2, 2.0), fraction(0.9, 2.0)), 2)
    once = survivors((fraction(0.0, 4.0),), 2)
    assert (twice == shifted).all()
    assert twice[-1] > once[-1]


def test_a_step_that_begins_later_meets_the_same_fractions():
    """The clock is absolute: a colony that starts at hour 300 feels what is due at hour 301 in its second hour."""
    late = Colony("irradiated", replace(MANY, clock=300, radiation=(fraction(301.0, 60.0), fraction(2.0, 60.0))))
    counts = engine("cpu").advance([late], hours=3, seed=3)[0].counts[:, 0]
    assert counts[1] > 1000
    assert counts[2] < 0.01 * counts[1]


def test_no_radiation_draws_nothing():
    """Without a fraction in the hour cells live as if radiation had never been heard of."""
    assert (survivors((), 12) == survivors((fraction(500.0, 2.0),), 12)).all()


def test_every_engine_kills_the_same_cells():
    """The interpreted and the compiled engine agree to the cell."""
    few = replace(MANY, volume=0.002, radiation=(fraction(1.0, 4.0),))
    found = [
        engine(name).advance([Colony("few", few)], hours=3, seed=1)[0].counts.tolist() for name in ("cpu", "python")
    ]
    assert found[0] == found[1]


@pytest.mark.parametrize("wrong", [Irradiation(0.0, -0.1, 0.0), Irradiation(float("nan"), 0.1, 0.0)])
def test_impossible_fractions_are_refused(wrong):
    """A negative effect or an hour that is no number names the colony."""
    with pytest.raises(ConfigurationRejected, match="radiation"):
        engine("cpu").advance([Colony("c", replace(MANY, radiation=(wrong,)))], hours=1, seed=1)
