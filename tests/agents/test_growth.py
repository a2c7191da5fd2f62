"""Growth, death and necrosis against closed forms; volume and matrix; the released program's own runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oncoscale.agents.colony import Colony, Surroundings
from oncoscale.agents.engine.cpu import CpuEngine
from oncoscale.agents.ground import drug_at, lay_down_matrix, shared_hour
from oncoscale.agents.living import LivingColony, empty_census, renew
from oncoscale.agents.modes import switches
from oncoscale.agents.neuroblast import NEUROBLAST, SCHWANN
from oncoscale.agents.neuroblastoma import CELLS
from oncoscale.agents.observe import composition_of, counts_of, moments_of, observed_volume
from oncoscale.agents.parameters import parameter_set
from oncoscale.agents.primage import run_elements, write_element
from oncoscale.agents.voxels import index_of, span_of


def crowd(kind: int, cells: int, values: dict[str, float], oxygen: float = 1.0, **genetics: int) -> LivingColony:
    """About so many living cells of one kind, as a colony starts them, that never meet."""
    given = Surroundings(
        volume=cells / 9.39e4 / 0.1, oxygen=oxygen, composition=(0.5, 0, 0, 0, 0, 0), genetics=genetics,
        histology=6 if kind == SCHWANN else 0,
    )  # fmt: skip
    parameters = parameter_set(values={"N_neighbours": 1e9, "N_neighbours_sc": 1e9, **values})
    living = CELLS.settled(Colony("crowd", given), seed=11, switches=switches("corrected"), parameters=parameters)
    living.cells = living.cells[living.cells["kind"] == kind][:cells].copy()
    living.next_identity = int(living.cells["identity"].max()) + 1
    return living


def alone(cpu: CpuEngine, living: LivingColony, hours: int) -> list[np.ndarray]:
    """Hours in which every cell lives by its rules, far from all others; counts after each."""
    census = empty_census((1, 1, 1))
    oxygen = np.full((1, 1, 1), living.given_oxygen)
    counts = [counts_of(living.cells)]
    for _ in range(hours):
        cpu.act(living, shared_hour(living, census), census, oxygen)
        renew(living)
        living.hour += 1
        counts.append(counts_of(living.cells))
    return counts


@pytest.fixture(scope="module")
def cpu() -> CpuEngine:
    return CpuEngine()


@pytest.mark.parametrize(
    ("kind", "genetics", "folds"),
    [
        (NEUROBLAST, {}, {24: 1.1295, 168: 1.559, 336: 1.7924}),
        (NEUROBLAST, {"MYCN_amp": 1, "ALK": 1}, {336: 1.8165}),
        (SCHWANN, {}, {24: 1.0944, 168: 1.4503, 336: 1.6864}),
    ],
)
def test_free_growth_from_the_start_distribution(cpu: CpuEngine, kind: int, genetics: Any, folds: Any) -> None:
    """With oxygen, room and no drug the fold of cells is that of the exact Markov chain, within 4 standard errors."""
    living = crowd(kind, 12_000, {"C50_necro": 0.0}, **genetics)
    start = len(living.cells)
    counts = alone(cpu, living, 336)
    for hour, fold in folds.items():
        found = counts[hour].sum() / start
        assert found == pytest.approx(fold, abs=4 * np.sqrt((fold - 1) * (2 - fold + 0.2) / start))


@pytest.mark.parametrize(
    ("oxygen", "surviving", "signal"), [(0.05, 0.7926, 26.86), (0.101143, 0.9614, 1.3814), (1.0, 0.9978, 0.0688)]
)
def test_necrosis_by_oxygen(cpu: CpuEngine, oxygen: float, surviving: float, signal: float) -> None:
    """The random walk of necrotic signals: survivors of 336 h and their mean signal, from its exact chain."""
    values = {"P_necroIS": 0.0, "P_cycle_nb": 0.0, "apop_critical": 1e9}
    living = crowd(NEUROBLAST, 8_000, values, oxygen=oxygen)
    start = len(living.cells)
    counts = alone(cpu, living, 336)[-1]
    error = np.sqrt(surviving * (1 - surviving) / start)
    assert counts[0] / start == pytest.approx(surviving, abs=4 * error)
    mean, spread = moments_of(living.cells)["nb_necro_signal"]
    assert mean == pytest.approx(signal, abs=4 * spread / np.sqrt(counts[0]))


def test_pool_of_dead_cells(cpu: CpuEngine) -> None:
    """Cells that die in one hour: summed over the hours after, 1.354 apoptotic and .503 necrotic cells are seen for
    each, and 35 % of what is left goes every hour.
    """
    living = crowd(NEUROBLAST, 30_000, {"P_apoprp": 0.0})
    living.cells["apop_signal"] = 3
    start = len(living.cells)
    counts = np.array(alone(cpu, living, 40))
    assert counts[1, 0] == 0
    seen = counts[1:].sum(axis=0)
    assert counts[1, 1] / start == pytest.approx(0.65, abs=0.02)
    assert seen[1] / start == pytest.approx(1.354, abs=0.03)
    assert seen[2] / start == pytest.approx(0.503, abs=0.02)


def test_matrix_of_an_uncrowded_schwann_cell() -> None:
    """335 deposits in 336 hours: 8.79375e-3 of a voxel; corrected matrix stops at 0.95."""
    living = crowd(SCHWANN, 10, {})
    living.matrix = np.zeros((3, 3, 3))
    census = empty_census((3, 3, 3))
    census.uncrowded[1, 1, 1] = 1
    for hour in range(336):
        living.hour = hour
        lay_down_matrix(living, census)
    assert living.matrix[1, 1, 1] == pytest.approx(8.79375e-3, rel=1e-12)
    assert living.matrix.sum() == living.matrix[1, 1, 1]
    census.uncrowded[1, 1, 1] = 100_000
    lay_down_matrix(living, census)
    assert living.matrix[1, 1, 1] == 0.95


def test_voxels_of_a_cube() -> None:
    """A half edge of 500 µm spans 18 voxels to each side of the middle, 35 in all."""
    assert span_of(500) == 18
    assert [index_of(x, 35) for x in (-500, 0, 14.9, 15, 499.9)] == [0, 17, 17, 18, 34]


def test_volume_observables() -> None:
    """Eight filled voxels by hand: all cells together, and summed over the classes."""
    cellularity = 1.320270 / 2.5353
    total = np.zeros(42, np.int64)
    total[[1, 2]] = [4, 4]
    by_class = np.zeros(42, np.int64)
    by_class[[1, 2]] = [6, 3]
    assert observed_volume(total, cellularity, 9.39e-5) == pytest.approx(1.898014e-4, rel=1e-6)
    assert observed_volume(by_class, cellularity, 9.39e-5) == pytest.approx(2.037022e-4, rel=1e-6)


def test_volume_of_cells_placed_at_random(cpu: CpuEngine) -> None:
    """Cells at random fill e^-T + 1 - e^-T (1 + T) of their cube by the observable (T cells a voxel)."""
    c = 0.520755
    given = Surroundings(volume=0.99**3, oxygen=0.3, composition=(c, 0, 0, 0, 0, 0))
    living = CELLS.settled(Colony("cube", given), seed=1, switches=switches(), parameters=parameter_set())
    living.matrix = np.full((33, 33, 33), 1 - c)
    found = observed_volume(cpu.count(living).total, c, 9.39e-5) / given.volume
    assert found == pytest.approx(0.647405, abs=0.006)


def test_composition_on_the_wire(cpu: CpuEngine) -> None:
    """Shares among the cells times what is not matrix, in the order of the original."""
    counts = np.array([800, 10, 5, 180, 3, 2])
    assert composition_of(counts, 0.4) == pytest.approx((0.48, 0.006, 0.003, 0.108, 0.0018, 0.0012))
    assert composition_of(np.zeros(6, np.int64), 0.4) == (0.0,) * 6
    assert drug_at((), 5.0) == (0.0,) * 6
    assert callable(write_element)


def reference_input(shared: Path, case: str, seed: int, **changes: Any) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((shared / f"primage-abm/reference/inputs/{case}.json").read_text())
    document["config"]["seed"] = seed
    document["config"].update(changes)
    return document


def test_released_run_of_a_sparse_colony(shared: Path) -> None:
    """A later loop of 2000 cells for 72 h in parity mode: mean volume ratio of 4 seeds as in the released program."""
    documents = [reference_input(shared, "L04_sparse_total1", seed, steps=72) for seed in range(4)]
    ratios = [output["primage"]["total_volume_ratio_updated"] for output, _ in run_elements(documents, mode="parity")]
    assert np.mean(ratios) == pytest.approx(1.1711, rel=0.02)


@pytest.mark.slow
def test_released_run_of_a_dense_colony(shared: Path) -> None:
    """A later loop of 4500 cells for 336 h in parity mode, 4 seeds: neuroblasts, Schwann cells, volume ratio, telomeres
    and crowding within 2 % or 3 standard errors of the released program's means.
    """
    outcomes = run_elements([reference_input(shared, "L05_dense_total1", seed) for seed in range(4)], mode="parity")
    found = np.array(
        [
            [
                outcome.counts[-1, 0],
                outcome.counts[-1, 3],
                output["primage"]["total_volume_ratio_updated"],
                output["primage"]["nb_telomere_length_mean"],
                outcome.extra["uncrowded"]["neuroblasts"],
            ]
            for output, outcome in outcomes
        ]
    )
    means, spreads = np.array([3856, 1295, 1.0410, 38.69, 0.383]), np.array([53, 31, 0.0043, 0.08, 0.008])
    allowed = np.maximum(0.02 * means, 3 * spreads * np.sqrt(1 / 4 + 1 / 8))
    assert np.all(np.abs(found.mean(axis=0) - means) <= allowed), found


@pytest.mark.slow
def test_element_fixture_of_version_13_9_0(shared: Path) -> None:
    """The released GPU output of a treated element, at 0.2 mm³ and 3 seeds: volume ratio around its finite-size fit,
    telomeres, signals and differentiation.
    """
    document = json.loads((shared / "primage-abm/input-29345.json").read_text())
    document["config"]["environment"].update(V_tumour=0.2, histology_init=2)
    documents = []
    for seed in range(3):
        document["config"]["seed"] = seed
        documents.append(json.loads(json.dumps(document)))
    outputs = [output["primage"] for output, _ in run_elements(documents, mode="parity", version="13.9.0")]
    mean = {name: np.mean([output[name] for output in outputs]) for name in outputs[0] if name != "cellularity"}
    assert mean["total_volume_ratio_updated"] == pytest.approx(1.0999 + 0.0101 / 0.2 ** (1 / 3), abs=0.006)
    assert mean["nb_telomere_length_mean"] == pytest.approx(59.98773, abs=0.01)
    assert mean["nb_necro_signal_mean"] == pytest.approx(1.40035, rel=0.02)
    assert mean["nb_necro_signal_sd"] == pytest.approx(2.00801, rel=0.03)
    assert mean["nb_apop_signal_mean"] == pytest.approx(0.046741, rel=0.05)
    assert mean["extent_of_differentiation_mean"] == pytest.approx(0.502168, rel=0.01)
    assert mean["ecm"] == pytest.approx(0.4792451, abs=1e-5)
