"""The work is known before a cell lives, and nobody takes a sample for the tumour."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from oncoscale.agents.engine._plan import Size
from oncoscale.agents.engine._plan import plan_of as device_plan
from oncoscale.core.errors import ConfigurationRejected
from oncoscale.sim import workload
from oncoscale.sim.forecast import Forecast
from oncoscale.sim.oxygen import CELL_DENSITY
from oncoscale.sim.sampling import cells_of_tumour, sampling_of
from oncoscale.sim.sensitivity import constant_rate
from oncoscale.sim.settings import ForecastSettings
from oncoscale.sim.simulation import Plan, simulate
from oncoscale.sim.statements import whole_statements
from oncoscale.sim.tissue import springs_of
from oncoscale.sim.tumour_type import tumour_type
from oncoscale.sim.workload import check_memory, workload_of

TUMOUR = tumour_type("neuroblastoma")


def plan_of(elements: int | str, cells: int = 100) -> Plan:
    """Two macro steps of two weeks."""
    return Plan(
        TUMOUR, ForecastSettings(elements=elements, cells=cells), None, TUMOUR.materials,
        springs_of(TUMOUR.materials["host"]), (14.0, 28.0), 1, constant_rate,
    )  # fmt: skip


def test_a_tumour_holds_its_volume_of_cells(small_state):
    """Cells of the tumour: volume of each element, times its volume fraction of cells, times cells in a mm³ of them."""
    inside = small_state.tumour
    volume_of_cells = (small_state.mesh.volumes[inside] * small_state.composition[inside].sum(axis=1)).sum()
    assert cells_of_tumour(small_state) == pytest.approx(9.39e4 * volume_of_cells, rel=1e-12)
    assert CELL_DENSITY.value == 9.39e4


def test_the_plan_counts_colonies_cells_and_hours(small_state):
    """Twelve elements of a hundred cells through two steps of 336 h, twice, on five threads."""
    work = workload_of(small_state, plan_of(12), runs=2, at_once=5)
    assert work.sampling.colonies == 12
    assert work.sampling.elements == len(small_state.tumour)
    assert work.sampling.cells == 12 * 100
    assert work.colony_hours == 12 * 2 * 336 * 2
    assert (work.at_once, work.batches) == (5, 3)
    assert work.sampling.fraction == pytest.approx(1200 / cells_of_tumour(small_state))
    assert f"{work.colony_hours:,} colony-hours" in work.words()


def test_more_cells_need_more_room(small_state):
    """Memory and disk grow with the cells of a colony and with the colonies."""
    little, more, all_of_them = (
        workload_of(small_state, plan, runs=1, at_once=2) for plan in (plan_of(12), plan_of(12, 5000), plan_of("all"))
    )
    assert little.memory < more.memory
    assert little.disk < all_of_them.disk
    assert all_of_them.sampling.is_whole
    assert all_of_them.sampling.colonies == len(small_state.tumour)


def test_an_engine_with_a_memory_of_its_own_has_its_own_batches(small_state):
    """Twelve colonies in room for five: three batches, told with their bytes beside what the host needs."""

    class Device:
        """Room for five colonies of a hundred cells."""

        def plan(self, counts, voxels):
            sizes = [Size(*one, record=224) for one in zip(counts, voxels, strict=True)]
            return device_plan(sizes, 5 * max(size.bytes for size in sizes))

    work = workload_of(small_state, plan_of(12), 1, 2, Device())
    assert (work.batches, work.device.at_once, work.at_once) == (3, 5, 5)
    assert work.content()["device"]["cells"] == work.sampling.cells
    assert f"On the device: {work.device}." in work.words()
    assert workload_of(small_state, plan_of(12), 1, 2).content()["device"] is None


def test_what_does_not_fit_is_refused_before_it_runs(small_state, monkeypatch):
    """The refusal says what is needed, what there is, and what to choose."""
    work = workload_of(small_state, plan_of("all", 1_000_000), runs=1, at_once=2)
    monkeypatch.setattr(workload, "available_memory", lambda: 2_000_000_000)
    with pytest.raises(ConfigurationRejected, match="GB of memory") as refused:
        check_memory(work)
    assert "--cells" in refused.value.remedy
    check_memory(workload_of(small_state, plan_of(12), runs=1, at_once=2))


def test_all_is_never_said_without_the_sampled_fraction(small_state):
    """Where every element has a colony the sentence tells that its cells are a sample; it becomes a statement."""
    every = sampling_of(small_state, [100] * len(small_state.tumour))
    assert every.words().startswith("All 947 elements")
    assert f"sampled fraction {every.fraction:.1e}" in every.words()
    few = sampling_of(small_state, [100] * 12)
    assert few.words().startswith("12 of 947 elements")
    made = forecast_of(small_state, "all")
    words, no_width = whole_statements(made)
    assert words == made.sampling[0].words()
    assert "neither extrapolation nor chance" in no_width
    assert whole_statements(replace(made, volumes=np.repeat(made.volumes, 2, axis=0))) == (words,)
    assert whole_statements(forecast_of(small_state, 8)) == ()


def forecast_of(state, elements: int | str) -> Forecast:
    """One macro step at a constant rate."""
    plan = plan_of(elements)
    states, steps = simulate(state, Plan(**{**vars(plan), "ends": (14.0,)}))
    volumes = np.array([[one.volume for one in states]])
    return Forecast(
        "neuroblastoma", states, volumes, np.stack([volumes[0]] * 2, axis=1), 0.9, steps, (), (), (), (), {}
    )
