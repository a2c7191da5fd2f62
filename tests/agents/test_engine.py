"""Engines: the same bits interpreted and compiled, for any threads, order, batch and skin; nothing is lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from oncoscale.agents import cell
from oncoscale.agents import living as agents_living
from oncoscale.agents.cell import DIVIDES, REMOVED
from oncoscale.agents.colony import Colony, ColonyOutcome, DrugWindow, Surroundings
from oncoscale.agents.engine import _advance, a_device_answers, cpu, engine
from oncoscale.agents.engine.cpu import CpuEngine
from oncoscale.agents.ground import drug_at
from oncoscale.agents.living import LivingColony, renew
from oncoscale.agents.modes import switches
from oncoscale.agents.neuroblast import STATE
from oncoscale.agents.neuroblastoma import CELLS
from oncoscale.agents.parameters import parameter_set
from oncoscale.core import registry
from oncoscale.core.errors import CellFault, ConfigurationRejected

DRUG = DrugWindow(2, 5, (0.9, 0.5, 0.1, 0.7, 0.6, 0.2))
BUSY = {"P_cycle_nb": 0.8, "P_cycle_sc": 0.8, "nbapop_jux": 0.5, "P_DNA_damage_pathways": 0.6}
"""Rates at which a few hours hold births, deaths, signals and removals."""


def colony(name: str = "element-1", **changes: Any) -> Colony:
    given = Surroundings(
        volume=0.0012, oxygen=0.08, composition=(0.6, 0, 0, 0, 0, 0), drugs=(DRUG,), histology=3,
        genetics={"MYCN_amp": -1, "ALK": -1, "ALT": 1},
    )  # fmt: skip
    return Colony(name, replace(given, **changes))


def several() -> list[Colony]:
    return [colony(f"element-{n}", volume=0.0006 + 0.0004 * n, oxygen=0.05 + 0.02 * n) for n in range(6)]


def same(one: ColonyOutcome, other: ColonyOutcome) -> None:
    """Every number of two outcomes is equal, bit for bit."""
    assert one.name == other.name
    assert np.array_equal(one.counts, other.counts)
    for name in STATE.record.names or ():
        assert np.array_equal(one.state.cells[name], other.state.cells[name]), name
    assert one.state.matrix.tobytes() == other.state.matrix.tobytes()
    assert one.extra == other.extra
    assert (one.volume_ratio, one.oxygen, one.moments) == (other.volume_ratio, other.oxygen, other.moments)


def test_engines_are_found_by_the_registry() -> None:
    """Every file of the folder is an engine; auto takes a GPU or the compiled one; an unknown name is refused."""
    assert {"cpu", "cuda", "python"} <= set(registry.names("oncoscale.agents.engine"))
    assert engine("auto").name == ("cuda" if a_device_answers() else "cpu")
    with pytest.raises(ConfigurationRejected, match="abacus"):
        engine("abacus")


@pytest.mark.parametrize("mode", ["corrected", "parity"])
def test_interpreted_and_compiled_give_the_same_bits(mode: Any) -> None:
    """Hours with births, deaths, drug, both kinds of cell, matrix and oxygen: python = cpu in every number."""
    hours = 7
    outcomes = [
        engine(name).advance([colony()], hours=hours, seed=3, mode=mode, parameters=BUSY)[0]
        for name in ("python", "cpu")
    ]
    same(*outcomes)
    assert sum(outcomes[0].extra["births"].values()) > 0
    assert sum(outcomes[0].extra["cleared"].values()) > 0


def test_threads_order_batch_and_skin_change_nothing() -> None:
    """1, 2 and 3 threads, a colony alone, colonies shuffled, other skins: the same bits for each colony."""
    hours, colonies = 30, several()
    reference = engine("cpu").advance(colonies, hours=hours, seed=5, threads=1, parameters=BUSY)
    runs: Sequence[tuple[CpuEngine, list[Colony], int]] = [
        (CpuEngine(), colonies, 2),
        (CpuEngine(), colonies[::-1], 3),
        (CpuEngine(skin=0.4), [colonies[n] for n in (3, 0, 5)], 2),
        (CpuEngine(skin=8.0), colonies[2:3], 1),
    ]
    by_name = {outcome.name: outcome for outcome in reference}
    for runner, chosen, threads in runs:
        outcomes = runner.advance(chosen, hours=hours, seed=5, threads=threads, parameters=BUSY)
        assert [outcome.name for outcome in outcomes] == [given.name for given in chosen]
        for outcome in outcomes:
            same(outcome, by_name[outcome.name])


def test_no_cell_is_lost_or_doubled() -> None:
    """Cells at the start and born are alive, dead or removed; no identity occurs twice."""
    for outcome in engine("cpu").advance(several(), hours=60, seed=2, parameters=BUSY):
        totals = outcome.counts.sum(axis=1)
        assert totals[-1] == totals[0] + sum(outcome.extra["births"].values()) - sum(outcome.extra["cleared"].values())
        identities = outcome.state.cells["identity"]
        assert len(np.unique(identities)) == len(identities) == outcome.cell_count
        assert identities.max() < outcome.state.next_identity
        assert np.all(np.diff(identities) > 0)
        assert sum(outcome.composition) == pytest.approx(1 - outcome.ecm)


def test_a_drug_changes_nothing_before_it_is_given() -> None:
    """Twins with and without treatment share their luck until it starts, and part after."""
    treated, spared = (
        engine("cpu").advance([colony(drugs=drugs, volume=0.004)], hours=72, seed=4)[0]
        for drugs in ((DrugWindow(24, 72, (1, 1, 0, 1, 1, 0)),), ())
    )
    assert np.array_equal(treated.counts[:25], spared.counts[:25])
    assert not np.array_equal(treated.counts, spared.counts)
    assert treated.counts[-1, 0] < spared.counts[-1, 0]


def test_windows_on_the_absolute_clock() -> None:
    """Orchestrator time 330, window 330 to 500: the release treats 6 hours of the loop, corrected 170."""
    windows = (DrugWindow(330, 500, (1, 0, 0, 0, 0, 0)),)
    absolute = [330 + t for t in range(336)]
    assert sum(drug_at(windows, clock)[0] for clock in absolute) == 170
    assert sum(drug_at(windows, clock)[0] for clock in range(336)) == 6
    later = colony(clock=330, drugs=windows)
    modes = (switches("corrected", chemo_clock="absolute"), switches("corrected", chemo_clock="local"))
    first, second = (engine("cpu").advance([later], hours=60, seed=1, mode=mode)[0] for mode in modes)
    untreated = engine("cpu").advance([colony(clock=330, drugs=())], hours=60, seed=1)[0]
    assert np.array_equal(second.counts, untreated.counts)
    assert not np.array_equal(first.counts, untreated.counts)


def test_stored_cells_go_on_living() -> None:
    """A later loop from stored cells: the same cells, in the volume that the tissue leaves them; parity starts anew."""
    first = engine("cpu").advance([colony()], hours=48, seed=6)[0]
    assert first.state.volume == pytest.approx(0.0012 * first.volume_ratio)
    given = replace(colony(clock=48).surroundings, moments=first.moments, composition=first.composition)
    squeezed = replace(given, confinement=0.8)
    outcomes = [
        engine(name).advance([Colony("element-1", squeezed, state=first.state)], hours=2, seed=6)[0]
        for name in ("python", "cpu")
    ]
    same(*outcomes)
    assert np.array_equal(outcomes[0].counts[0], first.counts[-1])
    assert outcomes[0].extra["cube_edge_mm"] == pytest.approx((0.8 * first.state.volume) ** (1 / 3))
    assert outcomes[0].extra["theta"] == first.extra["theta"]
    anew = engine("cpu").advance([Colony("element-1", given, state=first.state)], hours=1, seed=6, mode="parity")[0]
    assert anew.extra["cube_edge_mm"] == pytest.approx(0.0012 ** (1 / 3))


def test_a_colony_that_dies_has_no_volume_ratio() -> None:
    """Without oxygen nobody is left: the ratio is NaN, the composition zero, and the engine goes on."""
    starved = colony(oxygen=0.0, drugs=())
    outcome = engine("cpu").advance([starved], hours=400, seed=1, parameters={"P_apoprp": 0.03})[0]
    assert outcome.cell_count == 0
    assert np.isnan(outcome.volume_ratio)
    assert outcome.composition == (0.0,) * 6
    assert outcome.counts.shape == (401, 6)


def test_progress_and_refusals() -> None:
    """Progress counts colony-hours; equal names, no hours and unknown parameters, modes and switches are refused."""
    told: list[tuple[int, int]] = []
    engine("cpu").advance(several()[:2], hours=3, seed=1, progress=lambda *done: told.append(done), threads=2)
    assert told == [(n, 6) for n in range(1, 7)]
    run = engine("cpu").advance
    with pytest.raises(ConfigurationRejected, match="one name"):
        run([colony(), colony()], hours=1, seed=1)
    with pytest.raises(ConfigurationRejected, match="0 hours"):
        run([colony()], hours=0, seed=1)
    with pytest.raises(ConfigurationRejected, match="P_cycle"):
        run([colony()], hours=1, seed=1, parameters={"P_cycle": 0.1})
    with pytest.raises(ConfigurationRejected, match="wrong"):
        run([colony()], hours=1, seed=1, mode="wrong")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationRejected, match="o2_model"):
        switches("corrected", o2_model="guess")
    with pytest.raises(ConfigurationRejected, match="o3_model"):
        switches("corrected", o3_model="qss")


def test_modes() -> None:
    """A mode is a whole set of switches; one switch set alone makes it mixed."""
    assert switches("parity").mode == "parity"
    assert switches().mode == "corrected"
    assert switches("parity", o2_model="qss").mode == "mixed"


def test_a_fault_in_one_colony_stops_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """On several threads the first fault is raised, and colonies not yet done are given up."""
    runner = CpuEngine()
    relax = runner.relax

    def failing(living: Any, *parts: Any) -> int:
        if living.name == "element-3" and living.hour == 2:
            living.cells["x"][0] = np.nan
        return relax(living, *parts)

    monkeypatch.setattr(runner, "relax", failing)
    with pytest.raises(CellFault, match=r"cell 1 in colony 'element-3' is not finite in hour 2"):
        runner.advance(several(), hours=5, seed=1, threads=2)


@pytest.mark.parametrize("threads", [2, 3, 8])
def test_threads_that_share_a_colony_change_nothing(threads: int) -> None:
    """A colony of several parts: its lists, steps and hours in 2, 3 or 8 of them give the bits of one."""
    large = colony(volume=0.16, composition=(0.6, 0, 0, 0, 0, 0))
    one, shared = (
        engine("cpu").advance([large], hours=2, seed=7, threads=number, parameters=BUSY)[0] for number in (1, threads)
    )
    assert one.cell_count > 2 * _advance.LEAST_PART
    same(one, shared)


@pytest.mark.parametrize("skin", [0.4, 3.0, 8.0])
def test_small_parts_skins_order_and_batch_change_nothing(skin: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of a few cells, of which some lie alone and some share a bin: the same bits for any skin and batch."""
    colonies = several()
    by_name = {outcome.name: outcome for outcome in engine("cpu").advance(colonies, hours=20, seed=5, threads=1,
                                                                          parameters=BUSY)}  # fmt: skip
    monkeypatch.setattr(_advance, "LEAST_PART", 7)
    for threads, chosen in ((2, colonies[4:5]), (3, colonies[:1]), (8, [colonies[n] for n in (5, 1)])):
        outcomes = CpuEngine(skin).advance(chosen, hours=20, seed=5, threads=threads, parameters=BUSY)
        assert [outcome.name for outcome in outcomes] == [colony.name for colony in chosen]
        for outcome in outcomes:
            same(outcome, by_name[outcome.name])


def settled(**changes: Any) -> LivingColony:
    given = colony(**changes)
    return CELLS.settled(given, seed=1, switches=switches("corrected"), parameters=parameter_set())


def test_kept_cells_close_up_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Moved a few at a time, the kept cells are those that a mask chooses, for any pattern of gaps."""
    monkeypatch.setattr(cell, "AT_ONCE", 4)
    rng = np.random.default_rng(1)
    for count, share in ((0, 0.5), (1, 0.0), (4, 1.0), (9, 0.5), (50, 0.1), (50, 0.9)):
        cells = STATE.new(count, 1, 0)
        cells["x"], kept = rng.normal(size=count), rng.random(count) < share
        expected = cells[kept]
        held = cell.close_up(cells, kept)
        assert held == len(expected)
        assert np.array_equal(cells[:held], expected)


def test_a_growing_colony_stays_in_its_memory_unless_somebody_looks() -> None:
    """Births and removals move no large array while there is room; memory that another view looks at is
    left.
    """
    living = settled()
    living.cells = STATE.new(40, 1, 0)
    address = living.cells.ctypes.data
    for looked_at in (False, True):
        living.cells["fate"][::8] = DIVIDES
        living.cells["fate"][1::16] = REMOVED
        kept = living.cells[living.cells["fate"] != REMOVED]["identity"]
        onlooker = living.cells[:3] if looked_at else None
        first_daughter = living.next_identity
        renew(living)
        born = living.next_identity - first_daughter
        assert (living.cells.ctypes.data == address) is not looked_at
        assert living.cells["identity"].tolist() == [*kept, *range(first_daughter, living.next_identity)]
        assert len(kept) + born == len(living.cells)
        assert onlooker is None or onlooker.base is not living.cells.base


def test_limits_are_named_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    """Identities and entries of lists are counted in 32 bits: beyond that the colony is refused, never wrapped."""
    living = settled()
    living.cells["fate"][:3] = DIVIDES
    with monkeypatch.context() as patch:
        patch.setattr(agents_living, "LARGEST_IDENTITY", len(living.cells) + 2)
        with pytest.raises(CellFault, match="identities"):
            renew(living)
    monkeypatch.setattr(cpu, "MOST_ENTRIES", 10)
    with pytest.raises(CellFault, match="too many neighbours in hour 0"):
        CpuEngine().relax(settled())
