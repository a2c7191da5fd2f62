"""The engine for a GPU, without one: in loops and in the simulator its kernels give the bits of the other engines."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oncoscale.agents import living as agents_living
from oncoscale.agents.checkpoint import FolderCheckpoints, read_sealed
from oncoscale.agents.colony import Colony, ColonyOutcome, DrugWindow, Surroundings
from oncoscale.agents.engine import _relaxation, cuda, engine
from oncoscale.agents.engine._batch import Batch, inheritance
from oncoscale.agents.engine._machine import block_table
from oncoscale.agents.engine._plan import plan_of, size_of
from oncoscale.agents.engine.cpu import CpuEngine
from oncoscale.agents.engine.cuda import CudaEngine
from oncoscale.agents.living import LivingColony
from oncoscale.agents.modes import switches
from oncoscale.agents.neuroblast import STATE
from oncoscale.agents.neuroblastoma import CELLS
from oncoscale.agents.parameters import parameter_set
from oncoscale.core import gpu
from oncoscale.core.errors import CellFault, ConfigurationRejected

HERE = Path(__file__).parent
ASSEMBLER = Path(sys.prefix) / "lib" / f"python3.{sys.version_info.minor}" / "site-packages/nvidia/cu13/bin/ptxas"

DRUG = DrugWindow(2, 5, (0.9, 0.5, 0.1, 0.7, 0.6, 0.2))
BUSY = {"P_cycle_nb": 0.8, "P_cycle_sc": 0.8, "nbapop_jux": 0.5, "P_DNA_damage_pathways": 0.6}
DEADLY = {**BUSY, "apop_critical": 1.0, "P_lysis": 0.8}
MIXED = Surroundings(
    volume=0.0012, oxygen=0.08, composition=(0.3, 0.1, 0.1, 0.1, 0.05, 0.05), drugs=(DRUG,), histology=3,
    genetics={"MYCN_amp": -1, "ALK": -1, "ALT": 1},
)  # fmt: skip


def machines() -> Any:
    """The module of that name beside this one."""
    specification = spec_from_file_location("machines", HERE / "machines.py")
    assert specification
    assert specification.loader
    module = module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def compiled_machine() -> Any:
    """The kind of machine whose bodies are compiled for this processor."""
    return machines().CompiledMachine


def several() -> list[Colony]:
    return [Colony(f"element-{n}", replace(MIXED, volume=0.0006 + 0.0004 * n, oxygen=0.05 + 0.02 * n))
            for n in range(6)]  # fmt: skip


def bits(outcome: ColonyOutcome) -> list[Any]:
    """All that a colony did."""
    kept = [
        outcome.name,
        outcome.counts.tobytes(),
        outcome.volume_ratio,
        outcome.oxygen,
        outcome.extra,
        outcome.moments,
    ]
    if outcome.state is not None:
        cells = outcome.state.cells
        kept += [np.ascontiguousarray(cells[name]).tobytes() for name in cells.dtype.names]
        kept += [outcome.state.matrix.tobytes(), outcome.state.next_identity]
    return kept


def by_name(outcomes: Any) -> dict[str, list[Any]]:
    return {outcome.name: bits(outcome) for outcome in outcomes}


def settled(**changes: Any) -> LivingColony:
    given = Colony("given", replace(MIXED, **changes))
    return CELLS.settled(given, seed=1, switches=switches("corrected"), parameters=parameter_set(values=BUSY))


@pytest.fixture(scope="module")
def reference() -> dict[str, list[Any]]:
    return by_name(CpuEngine().advance(several(), hours=20, seed=5, threads=1, parameters=BUSY))


def test_the_engine_of_kernels_gives_the_bits_of_the_interpreted_and_the_compiled_one() -> None:
    """Two colonies of different size, together and alone, through hours with births, deaths, removals and a drug:
    every number is that of ``cpu`` and of ``python``. In the simulator, where no device is.
    """
    colonies = [Colony("large", replace(MIXED, volume=0.0008)), Colony("small", replace(MIXED, volume=0.0004))]
    asked: dict[str, Any] = {"hours": 5, "seed": 3, "parameters": {**DEADLY, "iterations_enough": 1.0}, "threads": 1}
    together, one, other = (engine(name).advance(colonies, **asked) for name in ("cuda", "cpu", "python"))
    assert by_name(together) == by_name(one) == by_name(other)
    assert all(sum(outcome.extra["births"].values()) > 0 for outcome in one)
    assert all(sum(outcome.extra["cleared"].values()) > 0 for outcome in one)
    assert by_name(engine("cuda").advance(colonies[1:], **asked)) == by_name(one[1:])


@pytest.mark.parametrize(
    ("skin", "chosen"), [(3.0, [0, 1, 2, 3, 4, 5]), (0.4, [5, 3, 1, 0, 2, 4]), (8.0, [2]), (1.0, [4, 0])]
)
def test_skin_order_and_batch_change_nothing(
    skin: float, chosen: list[int], compiled_machine: Any, reference: dict[str, Any]
) -> None:
    """Any skin, colonies in any order, alone or together: the bits of the engine ``cpu``, hours with everything."""
    colonies = several()
    outcomes = CudaEngine(compiled_machine(), skin).advance(
        [colonies[n] for n in chosen], hours=20, seed=5, threads=2, parameters=BUSY
    )
    assert [outcome.name for outcome in outcomes] == [f"element-{n}" for n in chosen]
    assert by_name(outcomes) == {f"element-{n}": reference[f"element-{n}"] for n in chosen}


@pytest.mark.parametrize("mode", ["parity", "corrected"])
def test_a_crowd_of_some_thousand(mode: Any, compiled_machine: Any) -> None:
    """Thousands of cells with the numbers of the model: bins, lists made anew, voxels and births as on ``cpu``."""
    crowd = [Colony("crowd", replace(MIXED, volume=0.06)), Colony("few", MIXED)]
    one, other = (
        runner.advance(crowd, hours=3, seed=8, mode=mode, threads=1)
        for runner in (CudaEngine(compiled_machine()), CpuEngine())
    )
    assert one[0].cell_count > 3000
    assert by_name(one) == by_name(other)


def test_a_ground_that_looks_at_the_cells(compiled_machine: Any) -> None:
    """Spheroids, whose ground reads and moves the cells on the host every hour, have the bits of ``cpu``."""
    given = Surroundings(volume=0.001, oxygen=1.0, composition=(1, 0, 0, 0, 0, 0), cell_count=200)
    balls = [Colony("one", given), Colony("two", replace(given, cell_count=60))]
    asked: dict[str, Any] = {"cells": "spheroid", "hours": 30, "seed": 2, "threads": 1}
    one, other = (runner.advance(balls, **asked) for runner in (CudaEngine(compiled_machine()), CpuEngine()))
    assert by_name(one) == by_name(other)
    assert one[0].extra["births"] > 0


def test_a_colony_that_dies_beside_one_that_lives(compiled_machine: Any) -> None:
    """Where nobody is left there is nothing to launch; the neighbour in the batch does not feel it."""
    moments = {"nb_telomere_length": (30.0, 5.0), "nb_apop_signal": (1.0, 1.0)}
    dying = replace(MIXED, volume=1e-5, composition=(0, 0.4, 0.4, 0, 0, 0), clock=336, moments=moments)
    colonies = [Colony("dying", dying), Colony("living", MIXED), Colony("gone", replace(dying, oxygen=0.0))]
    asked: dict[str, Any] = {"hours": 30, "seed": 5, "threads": 1, "parameters": {"mig_sc": 0.0}}
    for chosen in (colonies, colonies[:1]):
        one, other = (runner.advance(chosen, **asked) for runner in (CudaEngine(compiled_machine()), CpuEngine()))
        assert one[0].cell_count == other[0].cell_count == 0
        assert np.isnan(one[0].volume_ratio)
        assert [row.counts.tobytes() for row in one] == [row.counts.tobytes() for row in other]
        assert one[-1].extra == other[-1].extra


def test_lists_without_room_are_made_wider(
    compiled_machine: Any, reference: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Room for one neighbour: the flag is raised, the list widened, the hour goes on; no bit depends on it."""
    monkeypatch.setattr("oncoscale.agents.engine._batch.FIRST_WIDTH", 1)
    widened: list[int] = []
    widen = _relaxation.Relaxation._widen

    def noted(self: Any, chosen: Any) -> Any:
        full = widen(self, chosen)
        widened.extend(self._widths[full].tolist())
        return full

    monkeypatch.setattr(_relaxation.Relaxation, "_widen", noted)
    outcomes = CudaEngine(compiled_machine()).advance(several(), hours=20, seed=5, threads=1, parameters=BUSY)
    assert by_name(outcomes) == reference
    assert len(widened) >= 6
    assert min(widened) > 1


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda colony: colony.cells["x"].__setitem__(3, np.nan), r"cell 4 in colony 'given' is not finite in hour 0"),
        (lambda colony: colony.cells["z"].__setitem__(0, np.inf), r"cell 1 in colony 'given' is not finite in hour 0"),
        (lambda colony: colony.numbers["k1"].fill(np.inf), r"a force in colony 'given' is not finite in hour 0"),
    ],
)
def test_what_is_no_number_is_the_fault_of_the_other_engines(spoil: Any, words: str, compiled_machine: Any) -> None:
    """A place or a force that is no number is met in its hour, with colony and cell, in the same words."""
    for runner in (CudaEngine(compiled_machine()), CpuEngine()):
        living = settled(volume=0.0006)
        spoil(living)
        with pytest.raises(CellFault, match=words):
            runner.relax(living)


def test_identities_run_out_before_a_daughter_is_written(
    compiled_machine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit of identities is the named fault of the other engines."""
    monkeypatch.setattr(agents_living, "LARGEST_IDENTITY", 30)
    for runner in (CudaEngine(compiled_machine()), CpuEngine()):
        with pytest.raises(CellFault, match="'element-0' ran out of identities in hour"):
            runner.advance(several()[:1], hours=20, seed=5, threads=1, parameters=BUSY)


def test_little_memory_is_shared_out_over_batches(compiled_machine: Any, reference: dict[str, Any]) -> None:
    """A plan for room that holds a third of the colonies has several batches; they give the same bits."""
    living = [CELLS.settled(given, seed=5, switches=switches(), parameters=parameter_set(values=BUSY))
              for given in several()]  # fmt: skip
    sizes = [size_of(colony) for colony in living]
    free = sum(size.bytes for size in sizes) // 3
    plan = plan_of(sizes, free)
    assert sorted(place for batch in plan.batches for place in batch) == list(range(6))
    assert len(plan.batches) >= 3
    assert str(plan).startswith(f"6 colonies of {sum(len(one.cells) for one in living)} cells in {len(plan.batches)} ")
    machine = compiled_machine(limit=free)
    assert by_name(CudaEngine(machine).advance(several(), hours=20, seed=5, threads=1, parameters=BUSY)) == reference
    assert machine.peak <= free


def test_the_plan_covers_what_is_taken(compiled_machine: Any) -> None:
    """What a batch takes at its most is no more than planned, and more than a fifth of it: cells may double."""
    sizes = [size_of(settled(volume=volume)) for volume in (0.01, 0.02)]
    machine, planned = compiled_machine(), plan_of(sizes, 2**40).largest
    CudaEngine(machine).advance(
        [Colony(str(volume), replace(MIXED, volume=volume)) for volume in (0.01, 0.02)], hours=2, seed=1, threads=1
    )
    assert 0.2 * planned < machine.peak <= planned


class HoursSeen:
    """Watches, and remembers whom it saw in which hour."""

    def __init__(self) -> None:
        self.hours: list[tuple[str, int]] = []

    def __call__(self, colony: LivingColony) -> None:
        assert len(colony.cells) == colony.counts[-1].sum()
        self.hours.append((colony.name, colony.hour))


def test_full_at_any_allocation_is_lived_by_halves(compiled_machine: Any) -> None:
    """Wherever in two hours memory runs out, the batch is halved and goes on: same bits, every hour told once."""
    colonies = several()[:2]
    asked: dict[str, Any] = {"hours": 2, "seed": 5, "threads": 1, "parameters": {**BUSY, "iterations_enough": 3.0}}
    expected = by_name(CpuEngine().advance(colonies, **asked))
    counted = compiled_machine()
    CudaEngine(counted).advance(colonies, **asked)
    assert counted.allocations > 60
    for full_at in range(counted.allocations):
        seen = HoursSeen()
        outcomes = CudaEngine(compiled_machine(full_at=full_at)).advance(colonies, watch=seen, **asked)
        assert by_name(outcomes) == expected, full_at
        assert sorted(seen.hours) == [(one.name, hour) for one in colonies for hour in range(3)], full_at


def test_a_colony_without_room_is_a_named_fault(compiled_machine: Any) -> None:
    """Alone and still too large: the error names the colony and what to do."""
    with pytest.raises(CellFault, match=r"'element-2' .* has no room .*\. To do: choose a smaller volume"):
        CudaEngine(compiled_machine(limit=20_000)).advance(several()[2:3], hours=2, seed=5, threads=1)


@pytest.mark.parametrize("first", ["cpu", "cuda"])
def test_engines_take_over_from_each_other(first: str, tmp_path: Path, compiled_machine: Any, reference: Any) -> None:
    """Stopped in an hour that is not kept, and finished by the other engine: same bits; who kept it is on record."""

    class Stopped(Exception):
        pass

    def stop(colony: LivingColony) -> None:
        if colony.hour == 11:
            raise Stopped

    runners: dict[str, Any] = {"cpu": CpuEngine(), "cuda": CudaEngine(compiled_machine())}
    names = {"cpu": "cpu", "cuda": "host"}
    second = "cuda" if first == "cpu" else "cpu"
    asked: dict[str, Any] = {"hours": 20, "seed": 5, "threads": 1, "parameters": BUSY}
    with pytest.raises(Stopped):
        runners[first].advance(several(), watch=stop, checkpoints=FolderCheckpoints(tmp_path, every=4), **asked)
    kept = read_sealed(tmp_path / "element-0.from-0h.colony")
    assert (str(kept["engine"]), int(kept["hour"])) == (names[first], 8)
    outcomes = runners[second].advance(several(), checkpoints=FolderCheckpoints(tmp_path, every=100), **asked)
    assert by_name(outcomes) == reference


def test_colonies_kept_at_different_hours_end_together(tmp_path: Path, compiled_machine: Any, reference: Any) -> None:
    """Two of six were kept later than the others: each lives the hours that it has left."""
    asked: dict[str, Any] = {"seed": 5, "threads": 1, "parameters": BUSY}
    CpuEngine().advance(several()[2:4], hours=12, checkpoints=FolderCheckpoints(tmp_path, every=4), **asked)
    told: list[tuple[int, int]] = []
    outcomes = CudaEngine(compiled_machine()).advance(
        several(), hours=20, checkpoints=FolderCheckpoints(tmp_path, every=4),
        progress=lambda *done: told.append(done), **asked,
    )  # fmt: skip
    assert by_name(outcomes) == reference
    assert told[-1] == (4 * 20 + 2 * 8, 120)


def test_cells_are_fetched_only_when_somebody_looks(
    tmp_path: Path, compiled_machine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a watcher the cells come to the host at the end alone; with checkpoints, in the hours that are kept."""
    fetched: list[int] = []
    fetch = Batch.fetch

    def noted(self: Batch, places: Any = None) -> None:
        chosen = range(len(self.colonies)) if places is None else list(places)
        fetched.extend(self.colonies[place].hour for place in chosen)
        fetch(self, chosen)

    monkeypatch.setattr(Batch, "fetch", noted)
    asked: dict[str, Any] = {"hours": 6, "seed": 5, "threads": 1}
    for checkpoints, expected in ((None, [6]), (FolderCheckpoints(tmp_path, every=2), [2, 4, 6, 6])):
        fetched.clear()
        CudaEngine(compiled_machine()).advance(several()[:1], checkpoints=checkpoints, **asked)
        assert fetched == expected


def test_only_active_colonies_get_threads() -> None:
    """A block for each part of a chosen colony's cells, none for the others; every cell has one thread."""
    cells = np.array([130, 0, 64, 1, 1000])
    table = block_table(np.array([0, 2, 3]), cells, 64)
    assert table.tolist() == [[0, 0], [0, 64], [0, 128], [2, 0], [3, 0]]
    assert len(block_table(np.array([], np.int64), cells, 64)) == 0


def test_a_daughter_has_of_her_mother_what_is_declared() -> None:
    """The mask of inherited bits gives the bytes that the declaration of the state gives."""
    mother = STATE.new(1, 7, 1)
    mother.view(np.uint8)[...] = np.random.default_rng(1).integers(0, 256, mother.nbytes)
    inherited, newborn = inheritance(STATE)
    words = (mother.view(np.uint64) & inherited) | (newborn & ~inherited)
    expected = STATE.daughters(mother, 1)
    for name in STATE.record.names or ():
        assert words.view(STATE.record)[name].tobytes() == expected[name].tobytes(), name


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (None, "there is no CUDA driver"),
        (gpu.Driver((13, 1), 0), "finds no device"),
        (gpu.Driver((12, 8), 1), r"knows CUDA 12\.8.*13\.0 or later"),
    ],
)
def test_without_a_device_the_engine_says_what_is_missing(
    found: Any, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No driver, no device, or one too old: a typed refusal with its cure; ``auto`` takes the engine ``cpu``."""
    monkeypatch.setattr(cuda, "driver", lambda: found)
    monkeypatch.setattr(cuda, "is_simulated", lambda: False)
    monkeypatch.setattr("oncoscale.agents.engine.driver", lambda: found)
    with pytest.raises(ConfigurationRejected, match=words):
        engine("cuda")
    assert engine("auto").name == "cpu"


def test_without_its_packages_the_engine_says_how_to_install_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device answers but CuPy is absent: the command that installs it is told, and ``auto`` takes ``cpu``."""
    monkeypatch.setattr(cuda, "driver", lambda: gpu.Driver((13, 0), 1))
    monkeypatch.setattr(cuda, "is_simulated", lambda: False)
    monkeypatch.setattr("oncoscale.agents.engine.driver", lambda: gpu.Driver((13, 0), 1))
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(ConfigurationRejected, match=r"cupy is not installed.*pip install \"oncoscale\[gpu\]\""):
        engine("cuda")
    assert engine("auto").name == "cpu"


@pytest.fixture(scope="module")
def assembled() -> dict[str, dict[str, Any]]:
    """What every kernel of the spheroid's cells became."""
    if find_spec("numba_cuda") is None or not ASSEMBLER.exists():
        pytest.skip("no tool chain for CUDA: numba-cuda, nvidia-nvvm and nvidia-cuda-nvcc are not all installed")
    return assemble("spheroid")


def assemble(kind: str) -> dict[str, dict[str, Any]]:
    environment = {name: value for name, value in os.environ.items() if name != "NUMBA_ENABLE_CUDASIM"}
    command = [sys.executable, str(HERE / "assemble_kernels.py"), kind, str(ASSEMBLER)]
    answer = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert answer.returncode == 0, answer.stderr
    found: dict[str, dict[str, Any]] = json.loads(answer.stdout)
    return found


def check_assembled(kernels: dict[str, dict[str, Any]]) -> None:
    assert len(kernels) == 14
    for name, found in kernels.items():
        assert found["spilled"] == found["fused"] == found["unrounded"] == found["approximate"] == 0, name
        assert found["undefined"] == [], name
        assert found["registers"] <= 128, name
        assert set(found["division_and_root"]) <= {"div.rn.f64", "sqrt.rn.f64"}, name


def test_every_kernel_is_assembled_for_a_device(assembled: dict[str, dict[str, Any]]) -> None:
    """Compiled for compute capability 9.0: nothing is spilled or undefined, no operation is fused, division and root
    are rounded to nearest. Compiled carelessly the same step does hold fused operations: the check can fail.
    """
    kernels = dict(assembled)
    assert kernels.pop("careless step")["fused"] > 0
    check_assembled(kernels)
    assert kernels["step"]["division_and_root"] == ["div.rn.f64", "sqrt.rn.f64"]


@pytest.mark.slow
def test_every_kernel_of_neuroblasts_is_assembled(assembled: dict[str, dict[str, Any]]) -> None:
    """The same for the whole hour of the neuroblastoma model, eighteen rules in one kernel."""
    assert assembled
    kernels = assemble("neuroblastoma")
    assert kernels.pop("careless step")["fused"] > 0
    check_assembled(kernels)


@pytest.mark.slow
def test_every_kernel_of_glioma_cells_is_assembled(assembled: dict[str, dict[str, Any]]) -> None:
    """The same for cells that wander, whose positions the rules change on the device."""
    assert assembled
    kernels = assemble("glioma")
    assert kernels.pop("careless step")["fused"] > 0
    check_assembled(kernels)
