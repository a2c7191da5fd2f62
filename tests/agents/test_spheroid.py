"""Spheroids: a second type of cell on the same engine."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from oncoscale.agents.colony import Colony, ColonyOutcome, Surroundings
from oncoscale.agents.engine import engine
from oncoscale.agents.engine.cpu import CpuEngine
from oncoscale.agents.modes import switches
from oncoscale.agents.spheroid import CELLS, STATE, distances_of, layers_of, nutrient_profile, parameters, radii_of
from oncoscale.core.errors import ConfigurationRejected

PLENTY = {"uptake": 1e-9, "death": 0.0}


def ball(name: str = "ball", seeded: int = 40) -> Colony:
    return Colony(name, Surroundings(volume=1.0, oxygen=1.0, composition=(1, 0, 0, 0, 0, 0), cell_count=seeded))


def grown(colonies: list[Colony], hours: int, runner: Any = None, **options: Any) -> tuple[ColonyOutcome, ...]:
    values = options.pop("values", {})
    chosen = runner or engine("cpu")
    found: tuple[ColonyOutcome, ...] = chosen.advance(
        colonies, cells="spheroid", hours=hours, seed=3, parameters=values, **options
    )
    return found


def test_interpreted_and_compiled_spheroids_are_the_same_bits() -> None:
    """The rules that one engine interprets are those that the other compiles."""
    seen: dict[str, list[bytes]] = {"python": [], "cpu": []}
    for name, cells in seen.items():
        grown([ball(seeded=24)], 24, engine(name), values={"uptake": 1500.0, "endurance": 4.0, "P_lysis": 0.1},
              watch=lambda living, cells=cells: cells.append(living.cells.tobytes()))  # fmt: skip
    assert seen["python"] == seen["cpu"]
    assert len(set(seen["cpu"])) == len(seen["cpu"])


def test_threads_order_and_skin_change_no_spheroid() -> None:
    """Alone or beside another, on one thread or three, with any skin of the lists."""
    alone = grown([ball("a", 300)], 24, threads=1)[0]
    beside = grown([ball("b", 50), ball("a", 300)], 24, CpuEngine(skin=1.0), threads=3)[1]
    assert alone.counts.tobytes() == beside.counts.tobytes()
    assert alone.extra == beside.extra


def test_with_plenty_a_spheroid_doubles_with_its_cycle() -> None:
    """Nutrient everywhere: cells double in 24 hours when each hour advances the cycle; phases start evenly."""
    (outcome,) = grown([ball(seeded=2000)], 72, values={**PLENTY, "P_cycle": 1.0})
    first = outcome.counts[0][0]
    assert outcome.counts[24::24, 0].tolist() == [2 * first, 4 * first, 8 * first]
    assert outcome.counts[:, 1:].sum() == 0


def test_layers_lie_in_their_order() -> None:
    """A large spheroid cycles at its rim, is arrested below it and dead in its core; remains vanish."""
    kept: list[Any] = []
    (outcome,) = grown(
        [ball(seeded=6000)], 96, values={"uptake": 40.0, "grain": 4.0}, watch=lambda living: kept.append(living.cells)
    )
    layers = layers_of(kept[-1], radii_of(parameters({"grain": 4.0})))
    assert 0.1 < layers.necrotic < layers.arrested < 1.0
    cells = kept[-1]
    r = np.sqrt(cells["x"] ** 2 + cells["y"] ** 2 + cells["z"] ** 2)
    alive = ~cells["necro"]
    assert np.median(r[cells["necro"]]) < np.median(r[alive & cells["arrested"]]) < np.median(r[~cells["arrested"]])
    assert outcome.extra["cleared"] > 0
    assert outcome.counts[-1].sum() == outcome.counts[0].sum() + outcome.extra["births"] - outcome.extra["cleared"]


def test_no_hollow_is_left_where_remains_vanish() -> None:
    """Cells and remains fill the core as densely as the ball was laid, also when most remains have vanished."""
    kept: list[Any] = []
    values = {"uptake": 40.0, "grain": 4.0, "P_lysis": 0.3, "endurance": 12.0}
    (outcome,) = grown([ball(seeded=6000)], 192, values=values, watch=lambda living: kept.append(living.cells.copy()))
    radii, cells = radii_of(parameters({"grain": 4.0})), kept[-1]
    assert outcome.extra["cleared"] > 0.5 * len(cells)
    inside = 0.6 * layers_of(cells, radii).radius
    core = distances_of(cells) < inside
    assert 0.5 < (radii[cells["cycle"]][core] ** 3).sum() / inside**3 < 1.0


def test_remains_shrink_from_the_volume_of_the_dead_cell() -> None:
    """A cell that starves keeps its volume to a tenth of a full cell's; its remains lose a tenth at a time."""
    table = parameters({"endurance": 1.0, "P_lysis": 1.0})
    radii, volumes = radii_of(table), []
    lean = Colony("lean", Surroundings(volume=1.0, oxygen=0.0, composition=(1, 0, 0, 0, 0, 0), cell_count=1))
    (outcome,) = grown([lean], 14, values={"endurance": 1.0, "P_lysis": 1.0},
                       watch=lambda living: volumes.append((radii[living.cells["cycle"]] ** 3).sum()))  # fmt: skip
    tenth = 0.1 * radii[int(table["stage_M"])] ** 3
    left = [volume for volume in volumes[1:] if volume > 0]
    assert abs(left[0] + tenth - volumes[0]) <= tenth
    assert np.diff([*left, 0.0]) == pytest.approx(-tenth)
    assert outcome.cell_count == 0


def test_nothing_to_live_on_kills_every_cell() -> None:
    """Without nutrient all starve after their endurance, and vanish."""
    lean = Colony("lean", Surroundings(volume=1.0, oxygen=0.0, composition=(1, 0, 0, 0, 0, 0), cell_count=40))
    (outcome,) = grown([lean], 60, values={"P_lysis": 1.0, "endurance": 24.0})
    assert outcome.counts[23, 0] == outcome.counts[0, 0]
    assert outcome.cell_count == 0
    assert math.isnan(outcome.volume_ratio)


def small_uptake(radius: float) -> float:
    """Nutrient in the middle of a ball under constant uptake: 1 - a r² / (6 D p) [Grimes et al. 2014]."""
    table = parameters({"half": 1e-6})
    return 1.0 - table["uptake"] * radius**2 / (6 * table["diffusivity"] * table["medium"])


def test_nutrient_under_constant_uptake_is_the_closed_form() -> None:
    """Half concentration to zero: a parabola, of second order in the shells."""
    errors = []
    for shells in (10, 20, 40):
        profile = nutrient_profile(np.ones(shells), 1.0, 200.0, parameters({"half": 1e-6}))
        middle = profile[0] - (200.0 / shells / 2) ** 2 * parameters()["uptake"] / (6 * 2000.0 * 100.0)
        errors.append(abs(middle - small_uptake(200.0)))
    assert errors[-1] < 1e-3
    assert np.log2(errors[0] / errors[1]) > 1.8
    assert np.log2(errors[1] / errors[2]) > 1.8


@pytest.mark.parametrize(("radius", "core"), [(250, 56.757), (300, 129.203), (400, 243.523), (500, 349.526)])
def test_an_anoxic_core_has_the_closed_form_radius(radius: float, core: float) -> None:
    """Table of the closed form for D = 2000 µm²/s, 100 mmHg, 22.1 mmHg/s [project specification, validation §1.3]:
    the root of nutrient goes to zero in a straight line outside the core.
    """
    shells = 400
    profile = nutrient_profile(np.ones(shells), 1.0, radius, parameters({"half": 1e-5}))
    r = radius / shells * (np.arange(shells) + 0.5)
    near = np.flatnonzero((profile > 2e-3) & (profile < 2e-2))
    slope, start = np.polyfit(r[near], np.sqrt(profile[near]), 1)
    assert -start / slope == pytest.approx(core, abs=0.01 * radius)


def test_grain_coarsens_and_keeps_the_ball() -> None:
    """One simulated cell for four: a quarter of the cells, a ball of the same size to a tenth. Layers move more: the
    grain belongs to what is calibrated.
    """
    fine, coarse = grown([ball(seeded=4000)], 48), grown([ball(seeded=4000)], 48, values={"grain": 4.0})
    assert coarse[0].counts[0].sum() * 4 == fine[0].counts[0].sum()
    assert coarse[0].extra["radius_um"] == pytest.approx(fine[0].extra["radius_um"], rel=0.1)


def test_state_is_declared_and_inputs_are_checked() -> None:
    """Every variable has a meaning and a unit; a spheroid of nobody is refused."""
    assert len({variable.name for variable in STATE.variables}) == len(STATE.variables)
    assert all(variable.meaning and variable.unit for variable in STATE.variables)
    for wrong in (ball(seeded=0), Colony("x", Surroundings(1.0, 1.5, (1, 0, 0, 0, 0, 0), cell_count=5))):
        with pytest.raises(ConfigurationRejected):
            CELLS.settled(wrong, seed=1, switches=switches(), parameters=parameters())
    with pytest.raises(ConfigurationRejected, match="unknown cell parameter"):
        grown([ball()], 1, values={"colour": 1.0})
