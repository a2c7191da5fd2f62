"""Compile every kernel of a type of cell for a GPU that is not there, assemble it, and print what was found as JSON.

    python tests/agents/assemble_kernels.py TYPE PTXAS

TYPE ``product`` is the product that solvers take, a kernel of no cells. To be run without the simulator of kernels.
What kernels take is read off a small run whose bodies are interpreted.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from machines import InterpretedMachine
from numba import from_dtype, types

from oncoscale.agents.cell_type import CellType, cell_type
from oncoscale.agents.colony import Colony, Surroundings
from oncoscale.agents.engine import cuda as engine
from oncoscale.agents.engine._bodies import bodies_of

TARGET = (9, 0)

FEW = {
    "neuroblastoma": Surroundings(volume=5e-5, oxygen=0.1, composition=(0.6, 0, 0, 0, 0, 0), histology=3),
    "glioma": Surroundings(volume=5e-4, oxygen=0.5, composition=(0.2, 0.05, 0, 0, 0, 0)),
    "spheroid": Surroundings(volume=1e-3, oxygen=1.0, composition=(1, 0, 0, 0, 0, 0), cell_count=6),
}


class Device:
    """What numba-cuda asks of the device that it compiles for."""

    compute_capability = TARGET


def pretend_a_device() -> None:
    """The compiler asks for the current device as soon as a kernel calls a function."""
    for module in ("numba.cuda.dispatcher", "numba.cuda.compiler"):
        import_module(module).get_current_device = lambda: Device  # type: ignore[attr-defined]


def signatures(kind: CellType) -> dict[str, tuple[Any, ...]]:
    """What each kernel takes."""
    found: dict[str, tuple[Any, ...]] = {}

    def note(name: str, arrays: tuple[Any, ...]) -> None:
        assert all(array.flags.c_contiguous for array in arrays)
        found[name] = tuple(types.Array(from_dtype(array.dtype), array.ndim, "C") for array in arrays)

    engine.CudaEngine(InterpretedMachine(note)).advance(
        [Colony("few", FEW[kind.name])], cells=kind, hours=2, seed=1, threads=1
    )
    return found


def ptx_of(kernel: Any, signature: tuple[Any, ...], strictly: bool = True) -> str:
    """A kernel as assembly that no device has seen."""
    with engine.compiling_strictly() if strictly else nullcontext():
        text, _ = engine.cuda.compile(kernel, signature, device=False, abi="numba", cc=TARGET, output="ptx")
    return str(text)


def assembled(ptx: str, ptxas: str, folder: Path) -> dict[str, int]:
    """Registers, and bytes spilled from them. Raises AssertionError when the assembler refuses the kernel."""
    (folder / "kernel.ptx").write_text(ptx)
    command = [ptxas, "-arch=sm_90", "-v", str(folder / "kernel.ptx"), "-o", str(folder / "kernel.cubin")]
    answer = subprocess.run(command, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    spilled = re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", answer.stderr)
    used = re.search(r"Used (\d+) registers", answer.stderr)
    assert spilled
    assert used
    return {"registers": int(used[1]), "spilled": sum(map(int, spilled.groups()))}


def inspected(ptx: str) -> dict[str, Any]:
    """Fused operations and those the assembler may fuse, functions that nobody defines, and how division and root are
    rounded.
    """
    return {
        "fused": len(re.findall(r"\bfma\.", ptx)),
        "unrounded": len(re.findall(r"\b(?:add|sub|mul)\.f(?:32|64)", ptx)),
        "undefined": re.findall(r"^\.extern \.func.*$", ptx, re.M),
        "division_and_root": sorted(set(re.findall(r"\b(?:div|sqrt)\.\w+\.f64", ptx))),
        "approximate": len(re.findall(r"\.approx", ptx)),
    }


def kernels(name: str, ptxas: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each kernel of a type of cell, and what was found; the step once more, compiled carelessly."""
    kind = cell_type(name)
    taken = signatures(kind)
    bodies = bodies_of(kind, engine.add_to, engine.raise_to, engine.set_flag)
    with TemporaryDirectory() as folder:
        for kernel, function in vars(engine.kernels_of(bodies, lambda same: same)).items():
            ptx = ptx_of(function, taken[kernel])
            yield kernel, {**assembled(ptx, ptxas, Path(folder)), **inspected(ptx)}
            if kernel == "step":
                yield "careless step", inspected(ptx_of(function, taken[kernel], strictly=False))


def product(_: str, ptxas: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The product of a matrix in block rows with a vector."""
    integers, numbers = types.Array(types.int32, 1, "C"), types.Array(types.float64, 1, "C")
    taken = (integers, integers, types.Array(types.float64, 3, "C"), numbers, numbers)
    ptx = ptx_of(engine.product_kernel().py_func, taken, strictly=False)
    with TemporaryDirectory() as folder:
        yield "product", {**assembled(ptx, ptxas, Path(folder)), **inspected(ptx)}


if __name__ == "__main__":
    pretend_a_device()
    print(json.dumps(dict((product if sys.argv[1] == "product" else kernels)(*sys.argv[1:]))))
