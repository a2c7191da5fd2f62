"""Mechanics: contacts, walls, the stop rule; the released program's own states; a chain with a closed form."""

from __future__ import annotations

import json
from collections import namedtuple
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oncoscale.agents import neighbours
from oncoscale.agents.colony import Colony, Surroundings
from oncoscale.agents.engine import engine
from oncoscale.agents.engine.cpu import CpuEngine
from oncoscale.agents.living import LivingColony
from oncoscale.agents.mechanics import moved, push_on, reflected
from oncoscale.agents.modes import switches
from oncoscale.agents.neuroblast import NEUROBLAST, SCHWANN, STATE
from oncoscale.agents.neuroblastoma import CELLS
from oncoscale.agents.parameters import parameter_set, radii_of
from oncoscale.core.errors import CellFault

KINDS = {"NB": NEUROBLAST, "SC": SCHWANN}


@pytest.fixture(scope="module", params=["python", "cpu", "cuda"])
def any_engine(request: pytest.FixtureRequest) -> Any:
    return engine(request.param)


def colony_of(rows: list[list[Any]], *, wall: float = 135.729385, matrix: float = 0.0, **values: float) -> LivingColony:
    """A colony of given cells: rows of type, x, y, z, cycle, mobile."""
    parameters = parameter_set(values=values)
    empty = Colony("given", Surroundings(volume=0.01, oxygen=0.3, composition=(0.5, 0, 0, 0, 0, 0)))
    living = CELLS.settled(empty, seed=1, switches=switches("parity"), parameters=parameters)
    cells = STATE.new(len(rows), 1, NEUROBLAST)
    for place, (kind, x, y, z, cycle, mobile) in enumerate(rows):
        cells[place]["kind"] = KINDS[kind]
        cells[place]["x"], cells[place]["y"], cells[place]["z"] = x, y, z
        cells[place]["cycle"], cells[place]["mobile"] = cycle, mobile
    living.cells, living.wall = cells, wall
    living.matrix = np.full_like(living.matrix, matrix)
    living.elsewhere = matrix
    return living


Reach = namedtuple("Reach", "R_neighbours R_search min_overlap")


def positions(living: LivingColony) -> np.ndarray:
    return np.column_stack([living.cells[axis] for axis in ("x", "y", "z")])


def one_step(rows: np.ndarray, strength: float, *, contact: float = 1e-9, search: float = 1e9) -> np.ndarray:
    """One Euler step of all cells through the production laws, without matrix and far from walls."""
    after = rows.copy()
    nothing = np.zeros(1)
    for i in range(len(rows)):
        others = np.delete(np.arange(len(rows), dtype=np.int32), i)
        x, y, z, _, _ = push_on(i, rows, others, 0, len(others), Reach(contact, search, 0.0))
        after[i, :3] = moved(i, rows, (x, y, z), strength, nothing, (1, 1, 1), 0.0, 1e9, 2.0)
    return after


def test_radius_by_hour_of_the_cycle() -> None:
    """Three quarters of growth in G1, the rest in G2: 5.5 to 11 µm."""
    radii = radii_of(parameter_set(), switches())
    hours = [0, 6, 11, 12, 18, 19, 20, 21, 22]
    expected = [5.5, 7.5625, 9.28125, 9.625, 9.625, 9.96875, 10.3125, 10.65625, 11]
    assert radii[hours] == pytest.approx(expected, abs=1e-12)


def test_two_overlapping_cells_part_and_stop_after_two_steps(any_engine: Any) -> None:
    """Two neighbours are not crowded, so the second iteration ends the hour."""
    for matrix, distance in ((0.0, 10.270368), (0.4, 9.971412)):
        living = colony_of([["NB", 0, 0, 0, 0, 1], ["NB", 9, 0, 0, 0, 1]], matrix=matrix)
        assert any_engine.relax(living) == 2
        assert np.ptp(living.cells["x"]) == pytest.approx(distance, abs=2e-6)
        assert list(living.cells["neighbours"]) == [2, 2]


def test_three_in_a_line_crowd_each_other() -> None:
    """Three cells within the contact radius count themselves: all are crowded and push twice as hard, if mobile."""
    rows = np.array([[0, 0, 0, 5.5], [9, 0, 0, 5.5], [17, 0, 0, 5.5]], float)
    strength = 36 * 2.2e-3 / 0.4
    pushes = [
        push_on(i, rows, np.delete(np.arange(3, dtype=np.int32), i), 0, 2, Reach(17.325, 25.0, 0.0)) for i in range(3)
    ]
    assert [push[4] for push in pushes] == [3, 3, 3]
    assert [push[3] for push in pushes] == [2, 5, 3]
    after = one_step(rows, 2 * strength)
    assert after[:, 0] == pytest.approx([-0.792, 8.604, 18.188], abs=1e-12)
    assert one_step(rows, strength)[1, 0] == pytest.approx(8.802, abs=1e-12)


def test_wall_is_a_mirror() -> None:
    """A cell 1.3 µm beyond the wall comes back 1.3 µm before it."""
    assert reflected(101.3, 100.0, 2.0) == pytest.approx(98.7, abs=1e-12)
    assert reflected(-101.3, 100.0, 2.0) == pytest.approx(-98.7, abs=1e-12)
    assert reflected(99.0, 100.0, 2.0) == 99.0


def test_states_of_the_released_program(shared: Path) -> None:
    """All eleven stored cases: one step to 1e-5 µm, ten steps to what single precision leaves, and convergence after
    the same number of iterations.
    """
    cases = json.loads((shared / "primage-abm/reference/micro_force_resolution.json").read_text())["cases"]
    assert len(cases) == 11
    cpu = CpuEngine()
    for name, case in cases.items():
        start = [cell[:6] for cell in case["states"][0]["cells"]]
        for state in case["states"][1:]:
            steps = state["iteration"]
            if steps == 1 and len(start) > 100:
                continue
            if name.endswith("toconvergence"):
                living = colony_of(start, wall=case["wall"], matrix=case["matrix"])
                assert cpu.relax(living) == steps
            else:
                living = colony_of(start, wall=case["wall"], matrix=case["matrix"], iterations_enough=0)
                _take(steps, living, cpu)
            expected = np.array([cell[1:4] for cell in state["cells"]], float)
            tolerance = {1: 1e-5, 2: 1e-4}.get(steps, 2e-2 if len(start) > 100 else 2e-3)
            assert positions(living) == pytest.approx(expected, abs=tolerance), (name, steps)
            assert list(living.cells["neighbours"]) == [cell[6] for cell in state["cells"]], (name, steps)


def _take(steps: int, living: LivingColony, cpu: CpuEngine) -> None:
    """Exactly so many iterations: a relaxation that never waits takes two."""
    if steps == 1:
        _one_production_step(living)
    for _ in range(steps // 2):
        assert cpu.relax(living) == 2


def _one_production_step(living: LivingColony) -> None:
    python: Any = engine("python")
    cells = living.cells
    rows = np.column_stack([cells["x"], cells["y"], cells["z"], living.radii[cells["cycle"]]])
    cells["neighbours"], cells["overlap"], rows = python._step(
        rows, cells["mobile"], living, living.numbers.view(np.recarray)[0]
    )
    for place, axis in enumerate(("x", "y", "z")):
        cells[axis] = rows[:, place]


def test_pushes_of_a_crowd_cancel(any_engine: Any) -> None:
    """Every push has its counterpart: the sum over all cells is zero to rounding."""
    rng = np.random.default_rng(5)
    rows = np.column_stack([rng.uniform(-30, 30, (60, 3)), rng.uniform(5.5, 11, 60)])
    near = Reach(17.3, 25.0, 0.0)
    pushes = np.array(
        [push_on(i, rows, np.delete(np.arange(60, dtype=np.int32), i), 0, 59, near)[:3] for i in range(60)]
    )
    assert np.abs(pushes.sum(axis=0)).max() <= 1e-12 * np.abs(pushes).sum()


def test_compressed_chain_against_its_closed_form() -> None:
    """Eleven cells of diameter 1 at half their distance: Euler's own exact width, by the production law, to 1e-11.

    OpenVT's relaxation problem, linear law: w_n = 10 - (1/11) sum cot²(m pi/22) (1 - lambda_m dt)^n.
    """
    stiffness, step = 18.2816648, 1e-3
    rows = np.column_stack([0.5 * np.arange(11.0), np.zeros((11, 2)), np.full(11, 0.5)])
    odd = np.array([1, 3, 5, 7, 9])
    rates = 2 * stiffness * (1 - np.cos(odd * np.pi / 11))
    for done in range(1, 301):
        rows = one_step(rows, stiffness * step)
        exact = 10 - np.sum((1 - rates * step) ** done / np.tan(odd * np.pi / 22) ** 2) / 11
        if done % 50 == 0:
            assert np.ptp(rows[:, 0]) == pytest.approx(exact, abs=1e-11)
    assert rows[:, 0].mean() == pytest.approx(2.5, abs=1e-12)


def test_chain_against_chaste(shared: Path) -> None:
    """The width of Chaste's chain (stiffness 50/3, Euler 0.001) is met to its print precision."""
    table = np.loadtxt(shared / "openvt-chain/chasteOpenVT_WidthMesh_LinearHomogeneousChainRun_0.csv", delimiter=",")[
        :51
    ]
    rows = np.column_stack([0.5 * np.arange(11.0), np.zeros((11, 2)), np.full(11, 0.5)])
    for _, width in table:
        assert np.ptp(rows[:, 0]) == pytest.approx(width, abs=1.1e-5)
        for _ in range(10):
            rows = one_step(rows, 50 / 3 * 1e-3)


def test_lists_find_what_all_pairs_find() -> None:
    """Neighbour lists with any skin, sparse or dense, give the neighbours, overlaps and places of all pairs, bit for
    bit.
    """
    rng = np.random.default_rng(3)
    for extent, count in ((20, 60), (45, 80), (400, 40)):
        rows = [["NB", *rng.uniform(-extent, extent, 3), int(rng.integers(0, 24)), 1] for _ in range(count)]
        results = []
        for runner in (engine("python"), CpuEngine(skin=0.7), CpuEngine(skin=9.0)):
            living = colony_of(rows, wall=1.26 * extent, iterations_enough=8.0)
            assert runner.relax(living) > 0  # type: ignore[attr-defined]
            results.append(
                (positions(living).tobytes(), living.cells["neighbours"].tobytes(), living.cells["overlap"].tobytes())
            )
        assert results[0] == results[1] == results[2]


@pytest.mark.parametrize("share", [0.2, 0.0])
def test_lists_hold_whom_all_pairs_hold_in_the_order_of_identity(share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole or in parts, with room from the start or made on the way: each list is all cells within the larger of the
    contact radius and touching, plus the skin, by ascending identity.
    """
    monkeypatch.setattr(neighbours, "SHARE_WITHIN_REACH", share)
    rng = np.random.default_rng(4)
    contact, search, skin, count = 17.325, 25.0, 2.0, 50
    rows = np.column_stack([rng.uniform(-40, 40, (count, 3)), rng.uniform(5.5, 11, count)])
    slots = np.empty_like(rows)
    edge, low, bins = neighbours.bins_of(rows, neighbours.reach_of(rows, contact, search, skin))
    start, order = neighbours.sort_into_bins(rows, slots, edge, low, bins)
    assert sorted(order) == list(range(count))
    assert np.array_equal(rows[order], slots)
    found: dict[int, list[int]] = {}
    for begin, end in ((0, 13), (13, 14), (14, count)):
        first, others = neighbours.neighbour_lists(begin, end, slots, order, start, bins, contact, search, skin)
        for slot in range(begin, end):
            found[int(order[slot])] = order[others[first[slot - begin] : first[slot - begin + 1]]].tolist()
    for i in range(count):
        distance = np.sqrt(((rows[:, :3] - rows[i, :3]) ** 2).sum(axis=1))
        within = np.maximum(contact, np.minimum(rows[:, 3] + rows[i, 3], search)) + skin
        assert found[i] == [j for j in range(count) if j != i and distance[j] < within[j]]
    back = np.empty_like(rows)
    neighbours.put_home(back, order, slots)
    assert np.array_equal(back, rows)


def test_lists_are_made_anew_when_two_cells_may_have_met() -> None:
    """Half a skin by the farthest, less what single precision forgets; the skin widens only after two short lives."""
    assert neighbours.needs_rebuild(1.5**2, 0.0, 3.0)
    assert not neighbours.needs_rebuild(1.49**2, 0.0, 3.0)
    assert neighbours.needs_rebuild(1.49**2, 0.01, 3.0)
    assert neighbours.next_skin(3.0, 1, 1) == 4.5
    assert neighbours.next_skin(5.0, 1, 1) == neighbours.WIDEST
    assert neighbours.next_skin(8.0, 1, 1) == 8.0
    assert neighbours.next_skin(3.0, 1, 9) == neighbours.next_skin(3.0, 2, 1) == 3.0


def test_places_far_from_the_centre_lose_no_neighbour() -> None:
    """At 1 m from the centre single precision forgets 0.06 µm of a place: lists made from it still miss nobody."""
    rng = np.random.default_rng(8)
    rows = [["NB", *(1e6 + rng.uniform(-30, 30, 3)), int(rng.integers(0, 24)), 1] for _ in range(50)]
    results = []
    for runner in (engine("python"), CpuEngine(skin=0.05), CpuEngine()):
        living = colony_of(rows, wall=1e9, iterations_enough=12.0)
        runner.relax(living)  # type: ignore[attr-defined]
        results.append(positions(living).tobytes())
    assert results[0] == results[1] == results[2]


def test_coincident_cells_do_not_push_but_count(any_engine: Any) -> None:
    """Two cells at one point have no direction: they stay together and count each other."""
    living = colony_of([["NB", 0, 0, 0, 0, 1], ["NB", 0, 0, 0, 12, 1]])
    any_engine.relax(living)
    assert np.all(positions(living) == 0)
    assert list(living.cells["neighbours"]) == [2, 2]


def test_position_that_is_no_number_is_a_named_fault(any_engine: Any) -> None:
    """A NaN is met in the same hour, and the error names colony, cell and hour."""
    living = colony_of([["NB", 0, 0, 0, 0, 1], ["NB", np.nan, 0, 0, 0, 1], ["NB", 5, 0, 0, 0, 1]])
    with pytest.raises(CellFault, match=r"cell 2.*'given'.*hour 0"):
        any_engine.relax(living)


def test_one_cell_and_no_cell(any_engine: Any) -> None:
    """A lone cell rests; an empty colony takes no time."""
    living = colony_of([["NB", 1, 2, 3, 5, 1]])
    assert any_engine.relax(living) == 2
    assert positions(living).tolist() == [[1, 2, 3]]
    living = replace(living, cells=living.cells[:0])
    assert any_engine.relax(living) == 0
