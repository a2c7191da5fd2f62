"""The element whose output the original program's authors ship: run again and compared, quantity by quantity.

    python benchmarks/validation/element_fixture.py [--volume 47.2763] [--seeds 1] [--threads 2] [--out FOLDER]
    python benchmarks/validation/element_fixture.py --raw RAW.json … [--out FOLDER]

``input-29345.json`` by version 13.9.0 in mode ``parity``: 2.3 million neuroblasts, treated for six days of fourteen,
against ``out-29345.json``, which the released program wrote on a GPU. The full element takes more than an hour; with
``--volume`` a smaller cube is compared with the size-corrected ratio 1.0999 + 0.0101 mm / edge. Tolerances: project
specification, cells §16.2. ``--raw`` compares runs that ``--keep`` wrote before.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from oncoscale.agents.colony import CLASSES
from oncoscale.agents.primage import run_elements

FULL = 47.2763
"""mm³ of the element."""

NODULAR = 2
"""The histology that the shipped output came from; the input leaves it to chance."""

RELATIVE = {
    "ecm": 1e-5,
    "O2": 1e-4,
    "nb_telomere_length_mean": 1.7e-4,
    "nb_telomere_length_sd": 0.10,
    "nb_necro_signal_mean": 0.02,
    "nb_necro_signal_sd": 0.03,
    "nb_apop_signal_mean": 0.02,
    "nb_apop_signal_sd": 0.04,
    "extent_of_differentiation_mean": 0.01,
    "extent_of_differentiation_sd": 0.02,
    "delta_O2": 0.25,
}
"""Tolerances of means over seeds; the spreads of telomeres and differentiation: ASSUMED, nothing states them."""

RATIO_TOLERANCE, RATIO_TOLERANCE_SMALL = 0.01, 0.004
POISSON = 4.0
"""Standard errors of counts of dead cells."""


def run(document: Mapping[str, Any], volume: float, seed: int, threads: int) -> dict[str, Any]:
    """One run, raw."""
    given = json.loads(json.dumps(document))
    given["config"]["seed"] = seed
    given["config"]["environment"].update(V_tumour=volume, histology_init=NODULAR)
    wall, cpu = time.time(), time.process_time()

    def progress(done: int, total: int) -> None:
        print(f"hour {done} of {total}", file=sys.stderr)

    ((output, outcome),) = run_elements(
        [given], mode="parity", version="13.9.0", threads=threads, progress=progress if volume > 10 else None
    )
    return {
        "seed": seed,
        "output": output,
        "counts": outcome.counts.tolist(),
        "extra": {name: value for name, value in outcome.extra.items() if not name.startswith("hourly")},
        "wall_s": time.time() - wall,
        "cpu_s": time.process_time() - cpu,
        "peak_rss_bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
    }


def compare(raws: Sequence[Mapping[str, Any]], shipped: Mapping[str, Any], volume: float) -> list[dict[str, Any]]:
    """A row for each quantity of the shipped output that is not zero by construction."""
    outputs = [raw["output"]["primage"] for raw in raws]

    def mean(name: str) -> float:
        return float(np.mean([output[name] for output in outputs]))

    full = abs(volume - FULL) < 1e-6
    target = shipped["total_volume_ratio_updated"] if full else 1.0999 + 0.0101 / np.cbrt(volume)
    tolerance = RATIO_TOLERANCE if full else RATIO_TOLERANCE_SMALL
    rows = [_row("total_volume_ratio_updated", mean("total_volume_ratio_updated"), target, tolerance)]
    if full:
        rows.append(
            _row("tumour_volume", mean("tumour_volume"), shipped["tumour_volume"], 0.01 * shipped["tumour_volume"])
        )
    rows += [_row(name, mean(name), shipped[name], part * abs(shipped[name])) for name, part in RELATIVE.items()]
    ends = np.array([raw["counts"][-1] for raw in raws]).sum(axis=0)
    for place, name in ((1, "apoptotic / living"), (2, "necrotic / living")):
        theirs = shipped["cellularity"][place] / shipped["cellularity"][0]
        expected = theirs * ends[0]
        there = theirs * shipped["cellularity"][0] / sum(shipped["cellularity"]) * SHIPPED_CELLS
        error = POISSON * np.sqrt(1 / max(expected, 1) + 1 / there) * theirs
        rows.append(_row(name, float(ends[place] / ends[0]), theirs, error))
    for name in ("sc_telomere_length_mean", "sc_necro_signal_mean", "sc_apop_signal_mean", "ratio_VEGF_NB_SC"):
        rows.append(_row(name, mean(name), shipped[name], 0.0))
    return rows


SHIPPED_CELLS = 3.18e6
"""Cells at the end of the shipped run, from 2,311,759 at its start and the fold of smaller runs (1.377): only for the
chance in its counts of dead cells."""


def _row(name: str, ours: float, theirs: float, tolerance: float) -> dict[str, Any]:
    return {"id": name, "value": ours, "target": float(theirs), "tolerance": float(tolerance),
            "passed": bool(abs(ours - theirs) <= tolerance)}  # fmt: skip


def record_of(raws: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]], volume: float) -> dict[str, Any]:
    """The JSON record."""
    first = raws[0]
    return {
        "name": "element-fixture",
        "unit": "output keys of the original program",
        "passed": all(row["passed"] for row in rows),
        "checks": list(rows),
        "volume_mm3": volume,
        "runs": [
            {
                "cells_at_start": int(np.sum(raw["counts"][0])),
                "cells_at_end": int(np.sum(raw["counts"][-1])),
                **{name: raw[name] for name in ("cpu_s", "wall_s", "peak_rss_bytes")},
                "cell_iterations": raw["extra"]["cell_iterations"],
            }
            for raw in raws
        ],
        "living_by_day": [row[0] for row in first["counts"][::24]],
        "classes": list(CLASSES),
        "versions": {name: version(name) for name in ("oncoscale", "numpy", "numba")},
        "python": platform.python_version(),
    }


def draw(path: Path, record: Mapping[str, Any]) -> None:
    """Each quantity's difference in its tolerance."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = [row for row in record["checks"] if row["tolerance"] > 0]
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4), gridspec_kw={"width_ratios": (3, 2)})
    differences = [(row["value"] - row["target"]) / row["tolerance"] for row in rows]
    left.barh(range(len(rows)), differences, color="#4c78a8")
    left.axvspan(-1, 1, color="0.92", zorder=0)
    left.set_yticks(range(len(rows)), [row["id"] for row in rows], fontsize=8)
    left.invert_yaxis()
    left.set(xlim=(-1.6, 1.6), title="difference from the original's output, in its tolerance")
    days = np.arange(len(record["living_by_day"]))
    right.plot(days, np.array(record["living_by_day"]) / 1e6)
    right.axvspan(0, 6, color="#eeca3b", alpha=0.25, lw=0)
    right.set(xlabel="day", title="living neuroblasts, millions (shaded: treatment)", ylim=(0, None))
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> int:
    """Run or read, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = Path(__file__).parents[2].parent / "shared" / "data"
    parser.add_argument("--data", type=Path, default=data, help="folder of reference data")
    parser.add_argument("--volume", type=float, default=1.0, help=f"mm³; the element has {FULL}")
    parser.add_argument("--seeds", type=int, default=3, help="runs")
    parser.add_argument("--threads", type=int, default=1, help="for one run")
    parser.add_argument("--keep", type=Path, help="folder for the raw runs")
    parser.add_argument("--raw", type=Path, nargs="+", help="raw runs to compare instead of running")
    parser.add_argument("--out", type=Path, help="folder for element_fixture.json and .png")
    given = parser.parse_args()
    folder = given.data / "primage-abm"
    if not folder.is_dir():
        sys.exit(f"no reference data at {folder}: name their folder with --data")
    shipped = json.loads((folder / "out-29345.json").read_text(encoding="utf-8"))["primage"]
    if given.raw:
        raws = [json.loads(path.read_text(encoding="utf-8")) for path in given.raw]
    else:
        document = json.loads((folder / "input-29345.json").read_text(encoding="utf-8"))
        raws = [run(document, given.volume, seed, given.threads) for seed in range(1, given.seeds + 1)]
        if given.keep is not None:
            given.keep.mkdir(parents=True, exist_ok=True)
            for raw in raws:
                name = f"element_fixture_{given.volume:g}_{raw['seed']}.json"
                (given.keep / name).write_text(json.dumps(raw), encoding="utf-8")
    volume = float(raws[0]["extra"]["cube_edge_mm"] ** 3)
    record = record_of(raws, compare(raws, shipped, volume), volume)
    text = json.dumps(record, indent=1) + "\n"
    if given.out is not None:
        given.out.mkdir(parents=True, exist_ok=True)
        (given.out / "element_fixture.json").write_text(text, encoding="utf-8")
        draw(given.out / "element_fixture.png", record)
    sys.stdout.write(text)
    return 0 if record["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
