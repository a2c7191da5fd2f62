"""Speed of the growth element's residual and tangent against scikit-fem's assembly of the same law.

    python benchmarks/speed/newton_assembly.py [--divisions 14] [--pairs 5]

writes one JSON record to standard output. Only the ratio means something: both sides run interleaved in this process,
on one thread, in CPU-seconds. The two results are compared before anything is timed.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import numba
import numpy as np

from oncoscale.sim.assembly import Assembly
from oncoscale.sim.shapes import ball_octant
from oncoscale.sim.tissue import DEFAULT_MATERIALS
from oncoscale.sim.yardstick import Yardstick


def measure(divisions: int, pairs: int) -> dict[str, Any]:
    """The record of one comparison on an octant of two balls with ``divisions`` elements along a radius."""
    numba.set_num_threads(1)
    core = divisions // 3
    mesh = ball_octant((25.0, 75.0), (core, divisions - core))
    ours = Assembly.of(mesh, DEFAULT_MATERIALS)
    theirs = Yardstick.of(mesh, ours)
    state = a_state(ours)
    error = difference(ours, theirs, state)
    samples = [(seconds(theirs, state), seconds(ours, state)) for _ in range(pairs)]
    ratios = sorted(base / candidate for base, candidate in samples)
    return {
        "name": "newton-assembly",
        "unit": "CPU-seconds of scikit-fem / CPU-seconds of the project's assembly",
        "parameters": {"elements": len(mesh.tetrahedra), "unknowns": 3 * len(mesh.points) + len(state[1])},
        "ratio": float(np.median(ratios)),
        "ratios": ratios,
        "samples": samples,
        "error": error,
        "threads": 1,
        "device": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("oncoscale", "numpy", "scipy", "numba", "scikit-fem")},
    }


def a_state(assembly: Assembly) -> tuple[Any, Any, Any]:
    """An irregular displacement, pressure and growth, the same in every run."""
    random = np.random.default_rng(1)
    pattern = assembly.pattern
    return (
        0.05 * random.standard_normal((pattern.node_count, 3)),
        random.standard_normal(len(pattern.pressure_node)),
        1.0 + 0.1 * random.random(len(pattern.nodes)),
    )


def difference(ours: Assembly, theirs: Yardstick, state: tuple[Any, Any, Any]) -> float:
    """Largest relative difference of residuals and tangents."""
    own, other = ours.tangent(*state), theirs.tangent(*state)
    pairs = [
        *zip(ours.residual(*state), theirs.residual(*state)),
        *((getattr(own, block).tocsr(), getattr(other, block).tocsr()) for block in ("uu", "pu", "pp")),
    ]
    return float(max(abs(a - b).max() / abs(b).max() for a, b in pairs))


def seconds(side: Assembly | Yardstick, state: tuple[Any, Any, Any]) -> float:
    """CPU-seconds of one residual and one tangent."""
    work: tuple[Callable[..., Any], ...] = (side.residual, side.tangent)
    start = time.process_time()
    for assemble in work:
        assemble(*state)
    return time.process_time() - start


def main() -> None:
    """Read the options, measure, write the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--divisions", type=int, default=14)
    parser.add_argument("--pairs", type=int, default=5)
    options = parser.parse_args()
    json.dump(measure(options.divisions, options.pairs), sys.stdout, indent=2)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
