"""Arrays that a device lends to solvers: its product with a matrix, and what becomes of its failures; without one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from oncoscale.agents.engine import Arrays, ArraysLost, HostArrays, arrays, cuda, engine
from oncoscale.agents.engine._arrays import block_rows
from oncoscale.agents.engine._machine import MachineFull
from oncoscale.agents.engine.cuda import CudaArrays, CudaEngine
from oncoscale.core.errors import CellFault

HERE = Path(__file__).parent
ASSEMBLER = Path(sys.prefix) / "lib" / f"python3.{sys.version_info.minor}" / "site-packages/nvidia/cu13/bin/ptxas"


def matrices() -> list[Any]:
    """Rows, square blocks, blocks that are neither, their transpose, and a row without entries."""
    rng = np.random.default_rng(7)
    dense = rng.standard_normal((12, 18)) * (rng.random((12, 18)) < 0.4)
    dense[4] = 0.0
    blocks = sparse.bsr_matrix(dense, blocksize=(3, 6))
    return [sparse.csr_matrix(dense), sparse.bsr_matrix(dense, blocksize=(3, 3)), blocks, blocks.T]


@pytest.mark.parametrize("matrix", matrices())
def test_block_rows_hold_the_matrix(matrix: Any) -> None:
    """Pointer, columns and blocks put together again are the matrix, in the types that kernels take."""
    pointer, column, block = block_rows(matrix)
    assert np.array_equal(sparse.bsr_matrix((block, column, pointer), shape=matrix.shape).toarray(), matrix.toarray())
    assert (pointer.dtype, column.dtype, block.dtype) == (np.int32, np.int32, np.float64)
    assert block.flags.c_contiguous


@pytest.fixture
def lent(monkeypatch: pytest.MonkeyPatch) -> Arrays:
    """The device's arrays with NumPy as their CuPy, their kernel in the simulator."""
    monkeypatch.setattr(cuda, "seen", lambda array: array)
    cupy = SimpleNamespace(asarray=np.asarray, asnumpy=np.asarray, empty=np.zeros)

    @contextmanager
    def typed() -> Iterator[None]:
        yield

    machine: Any = SimpleNamespace(cupy=cupy, typed=typed)
    return CudaArrays(machine)


@pytest.mark.parametrize("matrix", matrices())
def test_a_product_sums_each_row_in_its_order(lent: Arrays, matrix: Any) -> None:
    """Every number has the bits of a loop along its row, and is SciPy's to rounding."""
    x = np.random.default_rng(1).standard_normal(matrix.shape[1])
    with lent.here():
        y = lent.get(lent.rows(matrix)(lent.put(x)))
    assert y == pytest.approx(HostArrays().rows(matrix)(x), rel=1e-14, abs=1e-14)
    pointer, column, block = block_rows(matrix)
    height, width = block.shape[1:]
    for i, found in enumerate(y):
        total = 0.0
        for place in range(pointer[i // height], pointer[i // height + 1]):
            for c in range(width):
                total += block[place, i % height, c] * x[width * column[place] + c]
        assert found == total


@pytest.mark.parametrize(
    ("failure", "words"),
    [(MachineFull("8 bytes"), "no room on the device: 8 bytes"), (CellFault("the GPU failed: 700", "", ""), "700")],
)
def test_what_fails_of_a_device_is_an_array_lost(failure: Exception, words: str) -> None:
    """Memory and silence are one kind of failure to a solver, with words for the record; faults of ours stay ours."""

    @contextmanager
    def typed() -> Iterator[None]:
        yield

    machine: Any = SimpleNamespace(cupy=None, typed=typed)
    with pytest.raises(ArraysLost, match=words), CudaArrays(machine).here():
        raise failure
    with pytest.raises(ZeroDivisionError), CudaArrays(machine).here():
        raise ZeroDivisionError


def test_engines_that_have_no_device_lend_nothing() -> None:
    """The engines of the host, and the simulator, leave solvers to the host."""
    assert arrays(engine("cpu")) is None
    assert arrays(engine("python")) is None
    assert arrays(CudaEngine()) is None


def test_the_product_is_assembled_for_a_device() -> None:
    """Compiled for compute capability 9.0: nothing is spilled or undefined, for rows and for blocks alike."""
    if find_spec("numba_cuda") is None or not ASSEMBLER.exists():
        pytest.skip("no tool chain for CUDA: numba-cuda, nvidia-nvvm and nvidia-cuda-nvcc are not all installed")
    environment = {name: value for name, value in os.environ.items() if name != "NUMBA_ENABLE_CUDASIM"}
    command = [sys.executable, str(HERE / "assemble_kernels.py"), "product", str(ASSEMBLER)]
    answer = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert answer.returncode == 0, answer.stderr
    found = json.loads(answer.stdout)["product"]
    assert found["spilled"] == 0
    assert found["undefined"] == []
    assert found["registers"] <= 128
