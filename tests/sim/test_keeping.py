"""A forecast that was stopped goes on from what was kept, and ends in the same bits."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from oncoscale.agents.engine import engine
from oncoscale.agents.ground import StoredColony
from oncoscale.core.errors import ConfigurationRejected
from oncoscale.sim import keeping
from oncoscale.sim.keeping import ENERGIES, FIELDS, SOLVED, KeptForecast
from oncoscale.sim.sensitivity import constant_rate
from oncoscale.sim.settings import ForecastSettings
from oncoscale.sim.simulation import Plan, simulate
from oncoscale.sim.state import TissueState
from oncoscale.sim.tissue import springs_of
from oncoscale.sim.tumour_type import tumour_type

TUMOUR = tumour_type("neuroblastoma")
HOURS = 24


class Stopped(Exception):
    """The power went off."""


class Cells:
    """The cells, watched; they may be stopped in a macro step after so many colonies, or in an hour of the next."""

    def __init__(self, clock: int = -1, colonies: int = 0, hour: int = 0) -> None:
        self.clock, self.colonies, self.hour = clock, colonies, hour
        self.lived: list[tuple[int, str, int]] = []

    def __call__(self, colonies, hours, seed, *, checkpoints=None, told=None):
        names = [colony.name for colony in colonies]

        def watch(living):
            if living.hour:
                self.lived.append((living.clock, living.name, living.hour))
            if (living.clock, names.index(living.name), living.hour) == (self.clock, self.colonies, self.hour):
                raise Stopped

        return engine("cpu").advance(
            colonies, hours=hours, seed=seed, threads=1, checkpoints=checkpoints, watch=watch
        )  # fmt: skip


def plan_of(cells, folder: Path | None = None, identity: str = "this run", said: list[str] | None = None) -> Plan:
    """Two macro steps of a day each, with six small colonies."""
    forecast = KeptForecast(folder, identity, 6, (said if said is not None else []).append) if folder else None
    return Plan(
        TUMOUR, ForecastSettings(elements=6, cells=50), None, TUMOUR.materials, springs_of(TUMOUR.materials["host"]),
        (1.0, 2.0), 1, cells, kept=forecast.run(1) if forecast else None,
    )  # fmt: skip


def bits(run) -> list:
    """Everything of a run's states and steps, as bytes and plain numbers."""
    states, steps = run
    return [
        [
            (
                state.day,
                *(None if getattr(state, name) is None else getattr(state, name).tobytes() for name in FIELDS),
                state.moments,
                {element: cell_bits(one) for element, one in state.colonies.items()},
                {element: state.rooms.get(element, 1.0) for element in state.colonies},
            )
            for state in states
        ],
        [replace(step, representatives=()) for step in steps],
        [replace(one, counts=one.counts.tobytes()) for step in steps for one in step.representatives],
    ]  # fmt: skip


def cell_bits(stored: StoredColony) -> list:
    """The cells that a step leaves for the next, variable by variable: records have bytes that mean nothing."""
    cells, rest = stored.cells, (stored.volume, stored.next_identity, stored.traits)
    return [*((name, cells[name].tobytes()) for name in cells.dtype.names), stored.matrix.tobytes(),
            stored.radii.tobytes(), *rest]  # fmt: skip


@pytest.fixture(scope="module")
def uninterrupted(small_state):
    """The run that nobody stopped."""
    return bits(simulate(small_state, plan_of(Cells())))


def test_every_field_of_a_state_is_kept_or_given():
    """A new field of the tissue must be put into one of the two, or a restart would lose it."""
    assert {field.name for field in fields(TissueState)} == {
        *FIELDS, *keeping.OPTIONAL, *keeping.BORDERLESS, *keeping.REMESHED,
        "day", "moments", "colonies", "rooms", "equilibrium", "reference", *keeping.GIVEN,
    }  # fmt: skip
    assert {field.name for field in fields(keeping.Equilibrium)} == {*SOLVED, *ENERGIES, "increments"}


def test_a_run_that_is_kept_is_the_same_run(small_state, tmp_path, uninterrupted):
    """Keeping changes nothing; afterwards the tissue of each step is there and its colonies are part of it."""
    assert bits(simulate(small_state, plan_of(Cells(), tmp_path))) == uninterrupted
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["step-1.tissue", "step-2.tissue"]


def test_stopped_and_resumed_is_uninterrupted(small_state, tmp_path, uninterrupted):
    """Stopped in the second step's fourth colony: no finished step and no finished colony lives again."""
    with pytest.raises(Stopped):
        simulate(small_state, plan_of(Cells(clock=HOURS, colonies=3, hour=7), tmp_path))
    again = Cells()
    assert bits(simulate(small_state, plan_of(again, tmp_path))) == uninterrupted
    assert {clock for clock, _, _ in again.lived} == {HOURS}
    assert len({name for _, name, _ in again.lived}) == 3 + 3
    assert sum(hour == 1 for _, _, hour in again.lived) == 3, "three colonies were finished and answer from their end"


def test_a_step_that_another_version_kept_is_made_again(small_state, tmp_path, uninterrupted):
    """A field that this version needs and that one did not keep: the step is made again, and said."""
    simulate(small_state, plan_of(Cells(), tmp_path))
    (path,) = tmp_path.rglob("step-1.tissue")
    kept = keeping.read_sealed(path)
    keeping.write_sealed(path, {name: values for name, values in kept.items() if name != "rooms"})
    said: list[str] = []
    assert bits(simulate(small_state, plan_of(Cells(), tmp_path, said=said))) == uninterrupted
    assert said == ["Macro step 1 is made again: another version of the program kept it."]


def test_a_long_life_is_kept_on_its_way(small_state, tmp_path, uninterrupted, monkeypatch):
    """A colony that takes its time goes on from the last hour kept, not from its first."""
    monkeypatch.setattr(keeping, "PATIENCE_S", 0.0)
    with pytest.raises(Stopped):
        simulate(small_state, plan_of(Cells(clock=0, colonies=2, hour=20), tmp_path))
    again = Cells()
    assert bits(simulate(small_state, plan_of(again, tmp_path))) == uninterrupted
    first = [(name, hour) for clock, name, hour in again.lived if clock == 0]
    stopped = first[2][0]
    assert min(hour for name, hour in first if name == stopped) == 18


def test_a_run_that_changed_its_mesh_is_kept(small_state, tmp_path):
    """Stopped after a step that was remeshed, the run goes on in the new mesh and ends in the same bits; what drugs and
    radiation meet, which time 0 told on the first mesh, is there on the new one."""
    met = np.random.default_rng(1).uniform(0.1, 0.9, (len(keeping.GIVEN), len(small_state.stretch)))
    start = replace(small_state, **dict(zip(keeping.GIVEN, met, strict=True)))
    coarse = {"size": 5.0, "host_size": 8.0, "mesher": "bcc"}
    settings = ForecastSettings(elements=6, cells=50, remeshing={"growth": 0.008}, **coarse)
    plan = replace(plan_of(constant_rate), settings=settings, ends=(1.0, 1.5))
    whole = simulate(start, plan)
    assert "remeshing" in whole[1][0].mechanics
    kept = replace(plan, kept=KeptForecast(tmp_path, "this run").run(1))
    simulate(start, replace(kept, ends=(1.0,)))
    again = simulate(start, kept)
    assert bits(again) == bits(whole)
    for name in (*keeping.REMESHED, *keeping.GIVEN, "mixture_at_start"):
        assert getattr(again[0][-1], name).tobytes() == getattr(whole[0][-1], name).tobytes(), name
    for one, other in zip(again[0], whole[0], strict=True):
        assert one.reference.points.tobytes() == other.reference.points.tobytes()
        assert one.reference.region_names == other.reference.region_names
        assert one.volume == other.volume


def test_a_finished_run_lives_no_more(small_state, tmp_path, uninterrupted):
    """What is complete is read, whatever stands in for the cells."""
    simulate(small_state, plan_of(Cells(), tmp_path))
    again = Cells()
    assert bits(simulate(small_state, plan_of(again, tmp_path))) == uninterrupted
    assert again.lived == []


def test_cells_without_a_past_can_be_kept(small_state, tmp_path):
    """A run whose cells leave nothing behind is kept too."""
    whole = bits(simulate(small_state, plan_of(constant_rate)))
    simulate(small_state, replace(plan_of(constant_rate, tmp_path), ends=(1.0,)))
    assert bits(simulate(small_state, plan_of(constant_rate, tmp_path))) == whole


def test_another_run_may_not_go_on_from_it(small_state, tmp_path):
    """The folder of another run is refused by name, not by path."""
    simulate(small_state, plan_of(constant_rate, tmp_path / "kept"))
    with pytest.raises(ConfigurationRejected, match="another run") as refused:
        simulate(small_state, plan_of(constant_rate, tmp_path / "kept", identity="another"))
    assert str(tmp_path) not in str(refused.value)


def test_a_damaged_step_is_told_of_and_made_again(small_state, tmp_path, uninterrupted):
    """One bit of the first step's file is turned: it is made again, and the run ends as it should."""
    simulate(small_state, plan_of(Cells(), tmp_path))
    file = tmp_path / "run-1" / "step-1.tissue"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    said: list[str] = []
    assert bits(simulate(small_state, plan_of(Cells(), tmp_path, said=said))) == uninterrupted
    assert len(said) == 1
    assert "damaged" in said[0]


def test_forgetting_leaves_what_is_not_ours(small_state, tmp_path):
    """The kept runs go; a file of somebody else stays, and so does its folder."""
    simulate(small_state, plan_of(constant_rate, tmp_path / "kept"))
    (tmp_path / "kept" / "letter.txt").write_text("mine")
    kept = KeptForecast(tmp_path / "kept", "this run")
    assert kept.is_begun()
    kept.remove()
    assert not kept.is_begun()
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["letter.txt"]
    (tmp_path / "kept" / "letter.txt").unlink()
    kept.remove()
    assert not (tmp_path / "kept").exists()
