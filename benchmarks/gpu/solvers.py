"""Linear systems of a tissue on a GPU beside the host: MINRES for growth, conjugate gradients for a scalar.

    python benchmarks/gpu/solvers.py [--layers 10 20] [--side 40 100] [--repeats 3] [--out FOLDER] [--quick]

Growth is the first Newton step of an octant of two balls (10 and 30 mm; ``layers`` in the inner, twice as many in the
outer) at Poisson's ratio 0.4999, whose core grows by 2 %. The scalar is a seven-point stencil on a cube of side³ points
with a little reaction. They are solved to a residual of 1e-10 and 1e-11 by the host (levels smoothed by Gauss and
Seidel; one thread, as SciPy's products have) and by the device (the same levels, smoothed by Chebyshev); levels are
made on the host for both, and are timed apart.

ratio_growth, ratio_scalar  of the largest system: host's seconds over the device's, copies of matrix and vectors
                            included, levels copied before
seconds        levels made, levels copied, solved by the host, and by the device, the best of the repeats
iterations     of either
residual       true, relative, computed on the host
agreement      largest difference of the two solutions over the largest number
same_bits      whether all repeats on the device gave the same bits
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from _device import run
from numpy.typing import NDArray
from scipy import sparse

from oncoscale.agents.engine import Arrays, HostArrays
from oncoscale.sim.body import Body
from oncoscale.sim.linear import BlockDiagonal, largest
from oncoscale.sim.multigrid import hierarchy_of, on_device, on_host
from oncoscale.sim.shapes import ball_octant
from oncoscale.sim.solvers import conjugate_gradients, euclidean, minres
from oncoscale.sim.tissue import DEFAULT_MATERIALS, springs_of

Real = NDArray[np.float64]
Answer = tuple[Real, int]

REDUCTION, SCALAR_REDUCTION = 1e-10, 1e-11
AGREEMENT = 1e-8
"""Of two solutions whose residuals have fallen by that much."""


@dataclass(frozen=True)
class Case:
    """A system, solved by the host and by a device whose levels are there already.

    make      the levels, on the host
    copy      (levels, arrays) -> levels on the device
    host      levels -> solution and iterations
    device    (levels there, arrays) -> the same, the solution on the host
    residual  of a solution, relative
    """

    unknowns: int
    make: Callable[[], Any]
    copy: Callable[[Any, Arrays], Any]
    host: Callable[[Any], Answer]
    device: Callable[[Any, Arrays], Answer]
    residual: Callable[[Real], float]


def growth(layers: int) -> Case:
    """The first Newton step of a growing ball."""
    mesh = ball_octant((10.0, 30.0), (layers, 2 * layers))
    materials = {name: replace(material, poisson=0.4999) for name, material in DEFAULT_MATERIALS.items()}
    body = Body.of(mesh, materials, springs_of())
    state, stretch = body.at_rest(), np.where(mesh.region == 2, 1.02, 1.0)
    b, matrix, scale = -body.residual(state, stretch), body.tangent(state, stretch), body.scale

    def device(cycle: Any, arrays: Arrays) -> Answer:
        apply, norm = matrix.operator(arrays.rows), largest(arrays.put(scale))
        x, count = minres(apply, arrays.put(b), cycle, reduction=REDUCTION, norm=norm)
        return arrays.get(x), count

    return Case(
        len(b),
        lambda: body.preconditioner(state, stretch),
        BlockDiagonal.on,
        lambda levels: minres(matrix.operator(), b, levels, reduction=REDUCTION, norm=largest(scale)),
        device,
        lambda x: body.norm(b - matrix.operator()(x)) / body.norm(b),
    )


def scalar(side: int) -> Case:
    """Diffusion and a little reaction on a cube."""
    line = sparse.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(side, side))
    one = sparse.eye_array(side)
    parts = [(line, one, one), (one, line, one), (one, one, line)]
    whole = sum(sparse.kron(sparse.kron(a, b), c) for a, b, c in parts)
    matrix = sparse.csr_matrix(whole + 1e-3 * sparse.eye_array(side**3))
    b = np.sin(np.arange(side**3))

    def device(cycle: Any, arrays: Arrays) -> Answer:
        x, count = conjugate_gradients(arrays.rows(matrix), arrays.put(b), cycle, reduction=SCALAR_REDUCTION)
        return arrays.get(x), count

    return Case(
        len(b),
        lambda: hierarchy_of(matrix),
        on_device,
        lambda levels: conjugate_gradients(matrix.__matmul__, b, on_host(levels), reduction=SCALAR_REDUCTION),
        device,
        lambda x: euclidean(b - matrix @ x) / euclidean(b),
    )


def best(repeats: int, work: Callable[[], Any]) -> tuple[float, list[Any]]:
    """Least wall seconds, and every result."""
    times, results = [], []
    for _ in range(repeats):
        start = time.perf_counter()
        results.append(work())
        times.append(time.perf_counter() - start)
    return min(times), results


def measured(case: Case, arrays: Arrays, repeats: int) -> dict[str, Any]:
    """Both solvers on one system; the first solution of the device, which compiles, is not timed."""
    making, (levels, *_) = best(1, lambda: case.make())
    with arrays.here():
        copying, (there, *_) = best(1, lambda: case.copy(levels, arrays))
        warm, _ = case.device(there, arrays)
        device, found = best(repeats, lambda: case.device(there, arrays))
    host, ((x, count), *_) = best(1, lambda: case.host(levels))
    y, more = found[0]
    return {
        "unknowns": case.unknowns,
        "seconds": {"levels": making, "copy": copying, "host": host, "device": device},
        "ratio": host / device,
        "iterations": {"host": count, "device": more},
        "residual": {"host": case.residual(x), "device": case.residual(y)},
        "agreement": float(np.abs(x - y).max() / np.abs(x).max()),
        "same_bits": all(np.array_equal(warm, other) for other, _ in found),
    }


def measure(chosen: Any, engine: Any) -> dict[str, Any]:
    """The record."""
    arrays = engine.arrays() or HostArrays()
    rows = {
        "growth": [measured(growth(layers), arrays, chosen.repeats) for layers in chosen.layers],
        "scalar": [measured(scalar(side), arrays, chosen.repeats) for side in chosen.side],
    }
    return {
        "name": "gpu_solvers",
        "unit": "seconds",
        "arrays": arrays.name,
        **{f"ratio_{kind}": found[-1]["ratio"] for kind, found in rows.items()},
        "systems": rows,
        "checks": [check for kind, found in rows.items() for row in found for check in checks(kind, row)],
    }


def checks(kind: str, row: dict[str, Any]) -> list[dict[str, Any]]:
    """What must hold of a system."""
    named = f"{kind} of {row['unknowns']} unknowns"
    worst, goal = max(row["residual"].values()), 1.01 * (REDUCTION if kind == "growth" else SCALAR_REDUCTION)
    fair = row["iterations"]["device"] <= 2 * row["iterations"]["host"]
    return [
        {"id": f"{named}: residual", "value": worst, "tolerance": goal, "passed": worst <= goal},
        {"id": f"{named}: agreement", "value": row["agreement"], "tolerance": AGREEMENT,
         "passed": row["agreement"] <= AGREEMENT},
        {"id": f"{named}: at most twice the host's iterations", "passed": fair},
    ]  # fmt: skip


OPTIONS = {
    "layers": {"type": int, "nargs": "+", "default": [10, 20], "quick": [2]},
    "side": {"type": int, "nargs": "+", "default": [40, 100], "quick": [10]},
    "repeats": {"type": int, "default": 3, "quick": 1},
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print the record."""
    return run(__doc__ or "", measure, OPTIONS, arguments)


if __name__ == "__main__":
    sys.exit(main())
