"""The study of what choosing elements does to a forecast: its distances, its parts, its books, one tiny run of it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from oncoscale.agents.colony import Colony, ColonyOutcome, Surroundings
from oncoscale.app.bench import checks_of
from oncoscale.core.chance import uniform
from oncoscale.sim.cells import cells_of
from oncoscale.sim.settings import ForecastSettings
from oncoscale.sim.simulation import Plan
from oncoscale.sim.tissue import springs_of
from oncoscale.sim.tumour_type import tumour_type

FOLDER = Path(__file__).parents[2] / "benchmarks" / "validation"
TUMOUR = tumour_type("neuroblastoma")


@pytest.fixture(scope="module")
def study() -> Iterator[ModuleType]:
    """The benchmark; what lies beside it is found while it is tested."""
    sys.path.insert(0, str(FOLDER))
    import particularisation

    yield particularisation
    sys.path.remove(str(FOLDER))


class Breathing:
    """Stands in for cells: those that breathe grow, the others die; each colony with luck of its own.

    asked  names of the colonies that had to live
    """

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, colonies, hours, seed, **further) -> tuple[ColonyOutcome, ...]:
        self.asked += [colony.name for colony in colonies]
        return tuple(self.outcome(colony, hours, seed) for colony in colonies)

    def outcome(self, colony: Colony, hours: int, seed: int) -> ColonyOutcome:
        around = colony.surroundings
        luck = float(uniform(seed, colony.name, "test.luck", np.arange(1))[0])
        ratio = (1.25 if around.oxygen > 0.2 else 0.9) + 0.1 * luck
        counts = np.zeros((hours + 1, 6), np.int64)
        counts[:, 0] = np.linspace(1000, 1000 * ratio, hours + 1)
        solid = sum(around.composition)
        composition = (solid, 0.0, 0.0, 0.0, 0.0, 0.0)
        return ColonyOutcome(colony.name, ratio, composition, 1.0 - solid, around.oxygen, int(counts[-1, 0]), counts,
                             {}, extra={"cube_edge_mm": np.inf})  # fmt: skip


@pytest.fixture(scope="module")
def tiny(study, small_state, tmp_path_factory):
    """A study of the small tumour with two seeds and one choice of six."""
    plan = Plan(
        TUMOUR, ForecastSettings(elements="all", members=1, effects=False), None, TUMOUR.materials,
        springs_of(TUMOUR.materials["host"]), (14.0,), 1, Breathing(),
    )  # fmt: skip
    keep = tmp_path_factory.mktemp("particularisation")
    return study.Study(small_state, plan, (6,), ("k-medoids",), (100,), (), 2, 1, 2, keep)


@pytest.fixture(scope="module")
def record(study, tiny):
    """What the tiny study found."""
    return study.record_of(tiny, everything(study, tiny))


def everything(study, tiny):
    """All forecasts of the tiny study."""
    return {case: made for party in study.results(tiny) for case, made in party.items()}


@pytest.fixture
def endings(study, small_state):
    """The small tumour as it is, and puffed up by a twentieth with a tenth less cells and 2 mmHg more."""
    centre = small_state.reference.points.mean(axis=0)
    puffed = replace(
        small_state,
        displacement=0.05 * (small_state.reference.points - centre),
        composition=0.9 * small_state.composition,
        oxygen=small_state.oxygen + 2.0,
    )
    return study.Ending.of(small_state, 0.0), study.Ending.of(puffed, 0.1)


def test_distances_are_distances(study, endings):
    """Nothing lies between a tumour and itself, and as much there as back; known changes have known sizes."""
    plain, puffed = endings
    assert set(study.distances(plain, plain).values()) == {0.0}
    there, back = study.distances(plain, puffed), study.distances(puffed, plain)
    assert there.pop("surface") == pytest.approx(surface := back.pop("surface"), rel=0.05)
    assert there == pytest.approx(back, rel=1e-12)
    assert there["volume"] == pytest.approx(300 * np.log(1.05), rel=1e-9)
    assert there["oxygen"] == pytest.approx(2.0, rel=1e-12)
    assert 0.0 < surface < 0.05 * 12
    lost = 0.1 * (1.0 - plain.shares[:, 6])
    assert there["composition_local"] == pytest.approx(100 * np.average(lost, weights=plain.volumes), rel=1e-9)
    assert there["composition"] <= there["composition_local"] + 1e-12


def test_the_parts_of_an_error_add_up(study):
    """Choice, seed and size are steps on one way from the best volume to the forecast's."""
    parts = study.split(4.21, 4.18, 4.15, 4.16)
    assert parts["choice"] + parts["seed"] + parts["size"] == pytest.approx(parts["total"], abs=1e-12)
    assert parts["total"] == pytest.approx(0.05)
    assert set(study.split(4.0, 4.0, 4.0, 4.0).values()) == {0.0}
    assert study.root_mean_squares([parts, parts]) == pytest.approx({name: abs(part) for name, part in parts.items()})


def test_coverage_counts_the_errors_that_were_foretold(study):
    """A standard error of 1 % foretells 1.645 % at the 90 % level; bounds hold the share and tighten with cases."""
    told = study.coverage([0.016, -0.016, 0.017, -0.2], [0.01] * 4)
    assert (told["cases"], told["covered"], told["share"]) == (4, 2, 0.5)
    assert told["low"] < 0.5 < told["high"]
    many = study.coverage([0.016, 0.017] * 100, [0.01] * 200)
    assert many["high"] - many["low"] < told["high"] - told["low"]


def test_intervals_of_means(study):
    """Student's interval: mean ± 2.92 standard errors of three values at the 90 % level; one value has none."""
    found = study.mean_and_interval([1.0, 2.0, 3.0])
    assert found["mean"] == 2.0
    assert found["high"] - 2.0 == pytest.approx(2.919986 / np.sqrt(3), rel=1e-6)
    assert study.mean_and_interval([4.0]) == {"mean": 4.0, "low": None, "high": None}


def test_a_colony_does_alone_what_it_does_in_company(study):
    """What the study remembers of a colony among others are the bits of that colony alone; other air is asked anew."""
    around = Surroundings(volume=1e-3, oxygen=0.4, composition=(0.5, 0, 0, 0, 0, 0), genetics={}, gradiff=1)
    colonies = [Colony(f"element-{n}", replace(around, oxygen=0.1 * n)) for n in (1, 2, 3)]
    engine = cells_of(ForecastSettings(engine="cpu"), 1)
    together = study.Remembering(engine, 5)(colonies, 6, 1)
    (alone,) = engine([colonies[1]], 6, 5)
    assert together[1].volume_ratio == alone.volume_ratio
    np.testing.assert_array_equal(together[1].counts, alone.counts)
    np.testing.assert_array_equal(together[1].state.cells, alone.state.cells)
    cells = study.Remembering(Breathing(), 5)
    first = cells(colonies, 6, 1)
    assert cells(colonies[1:], 6, 2)[0] is first[1]
    assert cells([replace(colonies[0], surroundings=around)], 6, 1)[0] is not first[0]


def test_a_study_is_made_once_and_read_again(study, tiny, record):
    """All elements live once per seed; a second call lives nothing; what was damaged is made again."""
    elements, cells = len(tiny.start.tumour), tiny.plan.advance
    assert len(cells.asked) == elements * 2
    cells.asked.clear()
    assert study.record_of(tiny, everything(study, tiny)) == record
    assert cells.asked == []
    damaged = tiny.keep / f"{study.Case(100, 2, 'k-medoids', 6).name}.forecast"
    damaged.write_bytes(damaged.read_bytes()[:-9])
    assert study.record_of(tiny, everything(study, tiny)) == record
    assert len(cells.asked) == elements


def test_a_study_that_is_stopped_tells_what_is_lacking(study, tiny, record):
    """From the first party alone there is a record, which counts the forecasts that were not made."""
    first = next(study.results(tiny))
    partial = study.record_of(tiny, first)
    assert len(partial["cases"]) == 1
    assert partial["not_run"] == [*record["not_run"], "2 forecasts that were asked for: the study was stopped"]


def test_the_record_says_what_was_found(study, record, tmp_path):
    """A choice has an error with its parts, beside what another seed does; a sample is never called the tumour."""
    (row,) = record["choice"]
    assert (row["day"], row["cells"], row["method"], row["count"]) == (14.0, 100, "k-medoids", 6)
    assert row["split"]["total"] <= row["split"]["choice"] + row["split"]["seed"] + 1e-12
    assert row["split"]["size"] == 0.0
    assert 0.0 < row["errors"]["volume"]["mean"] <= row["worst"]["volume"]
    assert record["all_elements"][0]["days"][0]["floor"]["volume"]["mean"] > 0.0
    assert "sampled fraction" in record["all_elements"][0]["sampling"]["words"]
    assert any("GPU" in words for words in record["not_run"])
    assert record["leave_one_out"]["cases"] == len(record["cases"]) == 2
    assert dict(checks_of(record))["leave-one-out covers"] == (record["leave_one_out"]["share"] >= 0.9)
    study.draw(tmp_path / "picture.png", record)
    assert (tmp_path / "picture.png").stat().st_size > 10_000
