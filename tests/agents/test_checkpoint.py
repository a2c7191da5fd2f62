"""A colony that was stopped and goes on ends in the bits of one that never stopped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oncoscale.agents.checkpoint import CHANGING, DECIDED, FolderCheckpoints, read_sealed, write_sealed
from oncoscale.agents.colony import Colony, ColonyOutcome, DrugWindow, Surroundings
from oncoscale.agents.engine import engine
from oncoscale.agents.engine.cpu import CpuEngine
from oncoscale.agents.living import LivingColony
from oncoscale.core.errors import ConfigurationRejected, FileRejected

HOURS = 30
MIXED = Surroundings(
    volume=0.003,
    oxygen=0.2,
    composition=(0.3, 0.02, 0.05, 0.2, 0.0, 0.03),
    clock=336,
    drugs=(DrugWindow(340, 350, (0.5, 0.2, 0.1, 0.6, 0.0, 0.3)),),
    genetics={"MYCN_amp": 1, "ALK": -1},
    moments={"nb_telomere_length": (30.0, 5.0), "sc_telomere_length": (40.0, 2.0), "nb_apop_signal": (1.0, 1.0)},
)
COLONIES = (Colony("one", MIXED), Colony("two of them", replace(MIXED, oxygen=0.05, volume=0.002)))


class Stopped(Exception):
    """The power went off."""


def stop_at(hour: int, name: str = "two of them") -> Callable[[LivingColony], None]:
    def watch(colony: LivingColony) -> None:
        if colony.name == name and colony.hour == hour:
            raise Stopped

    return watch


def bits(outcomes: tuple[ColonyOutcome, ...]) -> list[Any]:
    """All that the colonies did, as bytes and plain numbers."""
    return [
        (
            one.counts.tobytes(),
            *(one.state.cells[name].tobytes() for name in one.state.cells.dtype.names),
            one.state.matrix.tobytes(),
            one.state.next_identity,
            one.volume_ratio,
            one.oxygen,
            one.extra,
            one.moments,
        )
        for one in outcomes
    ]


def run(folder: Path | None = None, *, runner: Any = None, every: int = 7, colonies: Any = COLONIES, **options: Any):
    said: list[str] = []
    checkpoints = FolderCheckpoints(folder, every=every, say=said.append) if folder else None
    chosen = {"hours": HOURS, "seed": 5, "threads": 1, **options}
    done = (runner or CpuEngine()).advance(colonies, checkpoints=checkpoints, **chosen)
    return done, said


@pytest.fixture(scope="module")
def uninterrupted() -> list[Any]:
    return bits(run()[0])


def test_every_field_of_a_living_colony_is_decided_or_kept():
    """A new field must be put into one of the two, or a restart would lose it."""
    assert not set(DECIDED) & set(CHANGING)
    assert {field.name for field in fields(LivingColony)} == {*DECIDED, *CHANGING}


@pytest.mark.parametrize("hour", [0, 1, 7, 8, HOURS, *np.random.default_rng(20).integers(2, HOURS, 3).tolist()])
def test_stopped_and_resumed_is_uninterrupted(hour: int, tmp_path: Path, uninterrupted):
    """Stopped in any hour; resumed with another number of threads and another skin of the neighbour lists."""
    with pytest.raises(Stopped):
        run(tmp_path, watch=stop_at(hour))
    hours_seen: list[int] = []
    done, said = run(tmp_path, runner=CpuEngine(skin=1.5), threads=2, watch=lambda one: hours_seen.append(one.hour))
    assert bits(done) == uninterrupted
    assert said == []
    if hour > 7:
        assert 0 not in hours_seen, "the colonies should have gone on from a kept hour"


def test_stopped_again_and_again(tmp_path: Path, uninterrupted):
    for hour in (9, 15, 23, 29):
        with pytest.raises(Stopped):
            run(tmp_path, watch=stop_at(hour), every=4)
    assert bits(run(tmp_path, every=5)[0]) == uninterrupted


def test_engines_take_over_from_each_other(tmp_path: Path):
    """What the interpreted engine kept, the compiled one finishes."""
    small = [Colony("small", replace(MIXED, volume=0.0005))]
    whole = bits(run(colonies=small, hours=8)[0])
    with pytest.raises(Stopped):
        run(tmp_path, runner=engine("python"), colonies=small, hours=8, every=3, watch=stop_at(7, "small"))
    assert bits(run(tmp_path, colonies=small, hours=8)[0]) == whole


def test_a_finished_run_answers_from_its_end(tmp_path: Path, uninterrupted):
    run(tmp_path, every=HOURS)
    seen: list[int] = []
    done, _ = run(tmp_path, watch=lambda one: seen.append(one.hour))
    assert (bits(done), seen) == (uninterrupted, [HOURS, HOURS])


def test_a_longer_run_goes_on(tmp_path: Path, uninterrupted):
    run(tmp_path, hours=14)
    assert bits(run(tmp_path)[0]) == uninterrupted


def test_no_cell_left(tmp_path: Path):
    """An empty colony can be kept too."""
    dying = [Colony("dying", replace(MIXED, volume=1e-5, composition=(0, 0.4, 0.4, 0, 0, 0)))]
    no_schwann = {"mig_sc": 0.0}
    whole, _ = run(colonies=dying, parameters=no_schwann)
    assert whole[0].cell_count == 0
    with pytest.raises(Stopped):
        run(tmp_path, colonies=dying, parameters=no_schwann, watch=stop_at(29, "dying"), every=28)
    again = run(tmp_path, colonies=dying, parameters=no_schwann)[0]
    assert np.isnan(again[0].volume_ratio)
    assert (again[0].counts.tobytes(), again[0].extra) == (whole[0].counts.tobytes(), whole[0].extra)


@pytest.mark.parametrize("place", [5, 30, 500, -1])
def test_a_damaged_file_is_told_of_and_not_used(place: int, tmp_path: Path, uninterrupted):
    run(tmp_path)
    file = tmp_path / "one.from-336h.colony"
    content = bytearray(file.read_bytes())
    content[place] ^= 4
    file.write_bytes(content)
    done, said = run(tmp_path)
    assert bits(done) == uninterrupted
    assert len(said) == 1
    assert "'one'" in said[0]
    assert "damaged" in said[0]


def test_a_file_cut_short_is_damaged(tmp_path: Path):
    write_sealed(tmp_path / "a", {"numbers": np.arange(1000)})
    np.testing.assert_array_equal(read_sealed(tmp_path / "a")["numbers"], np.arange(1000))
    whole = (tmp_path / "a").read_bytes()
    for length in (0, 10, 90, len(whole) - 1):
        (tmp_path / "a").write_bytes(whole[:length])
        with pytest.raises(FileRejected):
            read_sealed(tmp_path / "a")


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 6},
        {"mode": "parity"},
        {"parameters": {"mu": 0.41}},
        {"colonies": [replace(COLONIES[0], surroundings=replace(MIXED, oxygen=0.21))]},
        {"colonies": [replace(COLONIES[0], surroundings=replace(MIXED, drugs=()))]},
        {"colonies": [replace(COLONIES[0], domain="elsewhere")]},
    ],
)
def test_another_run_may_not_go_on_from_it(other: dict[str, Any], tmp_path: Path):
    run(tmp_path / "kept", hours=7)
    with pytest.raises(ConfigurationRejected, match="belongs to another run") as refused:
        run(tmp_path / "kept", **other)
    assert str(tmp_path) not in str(refused.value)
    assert "another folder" in refused.value.remedy
