"""The growth of a ball solved by this project, by scikit-fem and by NGSolve: the same mesh, element and law.

    python benchmarks/speed/tissue_peers.py [--steps 4] [--pairs 3] [--to-machine-code] [--parts FOLDER] [--out FOLDER]

writes one JSON record to standard output (and to FOLDER/tissue_peers.json with its picture). The case: an octant of two
balls (10 and 30 mm) of nearly incompressible neo-Hookean tissue, held at its planes of symmetry and free outside, whose
core grows by 10 % in volume in one increment, from rest to a scaled residual of 1e-8. The element is the default one
(``sim/tetrahedron``). scikit-fem is the project's yardstick (``sim/yardstick``) with SciPy's LU, NGSolve as
``_ngsolve`` says with its own sparse factorisation; where NGSolve is absent its parts are named as not run.

Times are CPU seconds of one thread after compiling, each part in a process of its own.

agreement       displacements of the three, largest difference over largest displacement
ratio_…         assembly of one residual and one tangent: CPU seconds of the peer over ours, interleaved, median
ratio_solution  NGSolve's seconds to the solution over ours, set-up of both included. NGSolve is stopped after
                ``--steps`` Newton steps; then ``finished`` is false and the ratio a lower bound
scaling         CPU seconds and peak of memory of the whole solve by unknowns, and the exponent
to-machine-code NGSolve's forms are compiled to machine code first (minutes; a C++ compiler must be there)
parts           a part whose file lies in this folder is not measured again, others are kept there
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numba
import numpy as np

from oncoscale.app.bench import hand_over
from oncoscale.meshing.mesh import TumourMesh
from oncoscale.sim.body import Body
from oncoscale.sim.equilibrium import Equilibrium
from oncoscale.sim.growth import grow
from oncoscale.sim.shapes import ball_octant
from oncoscale.sim.solvers import factorise, newton
from oncoscale.sim.tissue import DEFAULT_MATERIALS, Springs
from oncoscale.sim.yardstick import Yardstick

RADII = (10.0, 30.0)
GROWTH = 1.1 ** (1 / 3)
FREE = Springs(0.0)
TOLERANCE = 1e-8
DIVISIONS = (13, 20, 29, 43, 62)
"""Elements along a radius; 29 give about 1e5 unknowns, 62 about 1e6."""
SMALL, MIDDLE, PEERS = 9, 14, 29
"""For the agreement, the assembly and the time to solution."""
DIRECT = "sparsecholesky"
"""NGSolve's L D L^T. Its other direct solver here, UMFPACK, took 7 % longer at 4,000 unknowns."""
GIBIBYTE = 2**30
ABSENT = {"status": "not run", "reason": "NGSolve is not installed"}


def case_of(divisions: int) -> tuple[TumourMesh, Any, Any]:
    """Mesh, what is held, stretch."""
    core = divisions // 3
    mesh = ball_octant(RADII, (core, divisions - core))
    return mesh, np.abs(mesh.points) < 1e-9, np.where(mesh.region == 2, GROWTH, 1.0)


def ours(divisions: int) -> tuple[float, Equilibrium]:
    """CPU seconds, and the equilibrium."""
    mesh, held, stretch = case_of(divisions)
    start = time.process_time()
    found = grow(mesh, stretch, DEFAULT_MATERIALS, springs=FREE, held=held, max_log_increment=0.05, tolerance=TOLERANCE)
    return time.process_time() - start, found


def solve(divisions: int) -> dict[str, Any]:
    """One size: unknowns, seconds, memory, and how it converged."""
    ours(SMALL)
    seconds, found = ours(divisions)
    (only,) = found.increments
    return {
        "divisions": divisions,
        "unknowns": found.displacement.size + found.pressure.size,
        "cpu_seconds": seconds,
        "peak_gib": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / GIBIBYTE,
        "residuals": only.residuals,
        "linear_iterations": only.linear,
        "residual": found.residual,
        "largest_displacement_mm": float(np.abs(found.displacement).max()),
    }


def agreement() -> dict[str, Any]:
    """Of the peers' displacements and pressures with ours, on a small mesh."""
    mesh, held, stretch = case_of(SMALL)
    body = Body.of(mesh, DEFAULT_MATERIALS, FREE, held)
    _, found = ours(SMALL)
    solutions = {"scikit-fem": of_scikit_fem(body, mesh, stretch)}
    if find_spec("ngsolve"):
        peer = ngsolve_peer(body, mesh, stretch)
        next(residual for residual in peer.newton(DIRECT) if residual <= TOLERANCE)
        solutions["ngsolve"] = peer.found()
    return {
        "unknowns": len(body.at_rest()),
        "differences": {name: differences(found, *body.parts(state)) for name, state in solutions.items()},
    }


def differences(found: Equilibrium, displacement: Any, pressure: Any) -> dict[str, float]:
    """Largest, over the largest value."""
    pairs = {"displacement": (displacement, found.displacement), "pressure": (pressure, found.pressure)}
    return {name: float(np.abs(one - other).max() / np.abs(other).max()) for name, (one, other) in pairs.items()}


def of_scikit_fem(body: Body, mesh: TumourMesh, stretch: Any) -> Any:
    """The solution from scikit-fem's residual and tangent, factorised by SciPy."""
    theirs, free = Yardstick.of(mesh, body.assembly), np.concatenate([body.free.ravel(), np.ones(len(body.volume))])
    unknown = np.flatnonzero(free)

    def residual(state: Any) -> Any:
        forces, volumes = theirs.residual(*body.parts(state), stretch)
        return np.concatenate([forces.ravel(), volumes]) * free

    def direction(state: Any, r: Any, wanted: float) -> tuple[Any, int]:
        matrix = theirs.tangent(*body.parts(state), stretch).whole().tocsr()[unknown][:, unknown]
        step = np.zeros_like(r)
        step[unknown] = factorise(matrix)(-r[unknown])
        return step, 0

    return newton(body.at_rest(), residual, direction, norm=body.norm, tolerance=TOLERANCE).x


def ngsolve_peer(body: Body, mesh: TumourMesh, stretch: Any, *, to_machine_code: bool = False) -> Any:
    """Imported here, as NGSolve is optional."""
    from _ngsolve import Peer

    return Peer(body, mesh, stretch, to_machine_code=to_machine_code)


def assembly(pairs: int, to_machine_code: bool) -> dict[str, Any]:
    """Seconds of one residual and one tangent at an irregular state, ours and theirs in turns; results compared."""
    mesh, held, stretch = case_of(MIDDLE)
    body = Body.of(mesh, DEFAULT_MATERIALS, FREE, held)
    own, random = body.assembly, np.random.default_rng(1)
    state = np.concatenate([0.01 * random.standard_normal(body.points.size), random.standard_normal(len(body.volume))])
    parts, theirs = (*body.parts(state), stretch), Yardstick.of(mesh, own)
    works: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
        "oncoscale": (lambda: own.residual(*parts), lambda: own.tangent(*parts)),
        "scikit-fem": (lambda: theirs.residual(*parts), lambda: theirs.tangent(*parts)),
    }
    matrices = {"scikit-fem": theirs.tangent(*parts).whole()}
    if find_spec("ngsolve"):
        peer = ngsolve_peer(body, mesh, stretch, to_machine_code=to_machine_code)
        peer.set(state)
        works["ngsolve"] = (peer.residual, peer.tangent)
        matrices["ngsolve"] = peer.matrix()
    matrix = own.tangent(*parts).whole()
    samples = {name: [] for name in works}  # type: dict[str, list[list[float]]]
    for _ in range(pairs):
        for name, work in works.items():
            samples[name].append([seconds(part) for part in work])
    sums = {name: np.array(rows).sum(axis=1) for name, rows in samples.items()}
    return {
        "elements": len(mesh.tetrahedra),
        "unknowns": len(state),
        "ngsolve_compiled_to_machine_code": to_machine_code,
        "largest_difference_of_tangents": {
            name: float(abs(other - matrix).max() / abs(matrix).max()) for name, other in matrices.items()
        },
        "samples_of_residual_and_tangent": samples,
        "ratios": {name: float(np.median(sums[name] / sums["oncoscale"])) for name in matrices},
    }


def seconds(work: Callable[[], Any]) -> float:
    """CPU seconds."""
    start = time.process_time()
    work()
    return time.process_time() - start


def ngsolve_solution(steps: int, keep: Path) -> dict[str, Any]:
    """NGSolve's way to the solution; kept after every step, as steps take minutes."""
    mesh, held, stretch = case_of(PEERS)
    body = Body.of(mesh, DEFAULT_MATERIALS, FREE, held)
    start = time.process_time()
    peer = ngsolve_peer(body, mesh, stretch)
    record: dict[str, Any] = {
        "unknowns": len(body.at_rest()), "direct": DIRECT, "finished": False, "residuals": [], "cpu_seconds": [],
    }  # fmt: skip
    for residual in peer.newton(DIRECT):
        record["residuals"].append(residual)
        record["cpu_seconds"].append(time.process_time() - start)
        record["finished"] = residual <= TOLERANCE
        record["peak_gib"] = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / GIBIBYTE
        keep.write_text(json.dumps(record), encoding="utf-8")
        if record["finished"] or len(record["residuals"]) > steps:
            break
    if record["finished"]:
        record["differences"] = differences(ours(PEERS)[1], *body.parts(peer.found()))
    return record


def gather(folder: Path, options: list[str]) -> dict[str, Any]:
    """Every part by name, measured in a process of its own unless it lies in the folder; None: not run."""
    names = ["agreement", "assembly", *(f"solve-{divisions}" for divisions in DIVISIONS)]
    names += ["ngsolve"] if find_spec("ngsolve") else []
    for name in names:
        if not (folder / f"{name}.json").exists():
            words = [sys.executable, __file__, *options, "--parts", str(folder), "--part", name]
            subprocess.run(words, check=True)
    return {"ngsolve": None} | {
        name: json.loads((folder / f"{name}.json").read_text(encoding="utf-8")) for name in names
    }


def record_of(parts: dict[str, Any]) -> dict[str, Any]:
    """The record, with its checks."""
    sizes = [parts[f"solve-{divisions}"] for divisions in DIVISIONS]
    unknowns, cost = (np.array([size[key] for size in sizes]) for key in ("unknowns", "cpu_seconds"))
    exponent = float(np.polyfit(np.log(unknowns), np.log(cost), 1)[0])
    near = next(size for size in sizes if size["divisions"] == PEERS)
    peer, large = parts["ngsolve"], sizes[-1]
    ratios, agree = parts["assembly"]["ratios"], parts["agreement"]["differences"]
    solution = peer["cpu_seconds"][-1] / near["cpu_seconds"] if peer else None
    checks = [
        *(_bounded(f"agreement with {name}", _of(agree, name, "displacement"), most=1e-6)
          for name in ("scikit-fem", "ngsolve")),
        _bounded("assembly against scikit-fem", ratios["scikit-fem"], least=50.0),
        _bounded("assembly against ngsolve", ratios.get("ngsolve"), least=5.0),
        _bounded("time to solution against ngsolve", solution, least=3.0),
        _bounded("GiB for a million unknowns", large["peak_gib"], most=24.0),
        _bounded("residual with a million unknowns", large["residual"], most=TOLERANCE),
        _bounded("exponent of the cost", exponent, most=1.15),
    ]  # fmt: skip
    return {
        "name": "tissue-peers",
        "unit": "CPU seconds of the peer / CPU seconds of the project",
        "passed": all(check.get("passed", True) for check in checks),
        "checks": checks,
        "ratio_scikit_fem": ratios["scikit-fem"],
        **({"ratio_ngsolve": ratios["ngsolve"]} if "ngsolve" in ratios else {}),
        **({"ratio_solution": solution} if peer else {}),
        "agreement": parts["agreement"],
        "assembly": parts["assembly"],
        "ngsolve": peer or ABSENT,
        "scaling": {"sizes": sizes, "exponent": exponent},
        "threads": 1,
        "device": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in ("oncoscale", "numpy", "scipy", "numba", "pyamg", "scikit-fem",
                                                       "ngsolve")},
    }  # fmt: skip


def _of(table: dict[str, Any], name: str, key: str) -> float | None:
    return float(table[name][key]) if name in table else None


def _bounded(
    name: str, value: float | None, *, least: float | None = None, most: float | None = None
) -> dict[str, Any]:
    """A check of a number against its bound; not run when there is no number."""
    if value is None:
        return {"id": name, "status": "not run", "reason": "NGSolve is not installed"}
    passed = (least is None or value >= least) and (most is None or value <= most)
    return {"id": name, "value": value, "least": least, "most": most, "passed": passed}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def draw(record: dict[str, Any], path: Path) -> None:
    """Cost and memory by size."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    sizes, peer = record["scaling"]["sizes"], record["ngsolve"]
    unknowns = [size["unknowns"] for size in sizes]
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.2))
    for axes, key, unit in ((left, "cpu_seconds", "CPU seconds to the solution"), (right, "peak_gib", "peak GiB")):
        axes.loglog(unknowns, [size[key] for size in sizes], "o-", label="oncoscale: Newton, MINRES, multigrid")
        if "direct" in peer:
            value = peer[key][-1] if key == "cpu_seconds" else peer[key]
            what = "" if peer["finished"] else f", stopped after step {len(peer['residuals']) - 1}"
            axes.loglog(peer["unknowns"], value, "s", label=f"NGSolve: Newton, {peer['direct']}{what}")
        axes.set(xlabel="unknowns", ylabel=unit)
        axes.grid(which="both", alpha=0.3)
    left.set_title(f"exponent {record['scaling']['exponent']:.2f}")
    figure.legend(*left.get_legend_handles_labels(), loc="lower center", ncols=2)
    figure.tight_layout(rect=(0, 0.08, 1, 1))
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)


def main() -> int:
    """Measure one part, or gather all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--to-machine-code", action="store_true")
    parser.add_argument("--parts", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--part", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    numba.set_num_threads(1)
    if chosen.part:
        keep = chosen.parts / f"{chosen.part}.json"
        work: dict[str, Callable[[], dict[str, Any]]] = {
            "agreement": agreement,
            "assembly": lambda: assembly(chosen.pairs, chosen.to_machine_code),
            "ngsolve": lambda: ngsolve_solution(chosen.steps, keep),
            **{f"solve-{divisions}": lambda divisions=divisions: solve(divisions) for divisions in DIVISIONS},
        }
        keep.write_text(json.dumps(work[chosen.part]()), encoding="utf-8")
        return 0
    options = ["--steps", str(chosen.steps), "--pairs", str(chosen.pairs)]
    options += ["--to-machine-code"] * chosen.to_machine_code
    with TemporaryDirectory() as spare:
        folder = chosen.parts or Path(spare)
        folder.mkdir(parents=True, exist_ok=True)
        record = record_of(gather(folder, options))
    return hand_over(record, chosen.out, lambda path: draw(record, path))


if __name__ == "__main__":
    sys.exit(main())
