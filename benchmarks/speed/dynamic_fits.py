"""Speed of the dynamic fits (extended Tofts, variable projection) against a loop of scipy's curve_fit.

    python benchmarks/speed/dynamic_fits.py [--voxels 20000] [--sample 200] [--pairs 5] [--threads 2] [--slices 6]
                                            [--out DIR]

writes one JSON record to standard output. Only the ratios mean something: both sides run interleaved in this process,
in wall-clock seconds a voxel, ours on ``--threads`` threads, the loop on one. The loop gets the project's own compiled
convolution as its model function, and is timed twice: with the bounds and start values of the OSIPI code collection
(the headline), and without bounds (Levenberg-Marquardt, the fastest that curve_fit offers). The two optima are
compared, and our errors against the truth are stated, before anything is timed. Voxels per second of the fit with
standard errors and of the linear preview are those of this machine; the cost of a voxel is compared at ``--voxels`` and
at four times as many. Then two slabs of 256 x 256 voxels, ``--slices`` and twice as many, and 60 frames run through
``quantify`` (T1 as a number, every voxel tissue), each in a process of its own: processor time and peak of memory of a
study of 60 slices follow from their difference. --slices 0 leaves that out; 30 runs the whole study.
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
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import curve_fit

from oncoscale.app.bench import hand_over
from oncoscale.imaging.aif import PlasmaCurve, parker
from oncoscale.imaging.dce import Sampling, sample
from oncoscale.imaging.kinetics import fit_curves
from oncoscale.imaging.preview import linear_preview
from oncoscale.imaging.quantify import QuantifySettings, quantify
from oncoscale.imaging.relaxation import spoiled_signal
from oncoscale.imaging.study import Grid, ImagingStudy, LabelImage, Series, Sourced

TIMES = np.arange(60) * 5.0
PLASMA = PlasmaCurve(TIMES, parker((TIMES - 15.0) / 60.0) / 0.58)
SAMPLING = sample(PLASMA, TIMES)
START = (0.6, 0.2, 0.01)
BOUNDS = ((0.0, 1e-9, 0.0), (5.0, 1.0, 1.0))
NOISE = 0.02
WHOLE = 60
"""Slices of a whole study, 256 x 256 voxels each."""
STUDIES: dict[str, tuple[float, str, str, int]] = {
    "extended tofts": (5.0, "extended-tofts", "concentration", 0),
    "auto": (5.0, "auto", "concentration", 0),
    "auto with exchange": (2.5, "auto", "concentration", 0),
    "extended tofts of the signal": (5.0, "extended-tofts", "signal", 0),
    "systematic part": (5.0, "extended-tofts", "concentration", 50),
}
"""Frame interval in s, model, domain of the fit, draws of the systematic part."""


def measure(voxels: int, sampled: int, pairs: int, threads: int, slices: int) -> dict[str, Any]:
    """The record of one comparison on ``voxels`` curves, of which the loops fit ``sampled``."""
    curves, truth = synthetic(voxels)
    few = curves[:sampled]
    accuracy = compare(few, truth)
    fit_curves(TIMES, curves[:100], "extended-tofts", PLASMA, threads=threads)
    samples = [
        (
            seconds(lambda: loop(few, bounded=True)) / sampled,
            seconds(lambda: loop(few, bounded=False)) / sampled,
            seconds(lambda: fit_curves(TIMES, curves, "extended-tofts", PLASMA, threads=threads)) / voxels,
        )
        for _ in range(pairs)
    ]
    ratios = sorted(bounded / ours for bounded, _, ours in samples)
    unbounded = sorted(free / ours for _, free, ours in samples)
    measured = studies(slices, threads) if slices else {}
    return {
        "name": "dynamic-fits",
        "unit": "seconds a voxel of curve_fit / seconds a voxel of the project's fit",
        "parameters": {"voxels": voxels, "sampled": sampled, "frames": len(TIMES), "noise_mmol_per_litre": NOISE},
        "ratio": float(np.median(ratios)),
        "ratios": ratios,
        "ratio_without_bounds": float(np.median(unbounded)),
        "ratios_without_bounds": unbounded,
        "samples": samples,
        "throughput": throughput(curves, pairs, threads),
        "studies": measured,
        "checks": checks_of(measured, threads) if measured else [],
        "accuracy": accuracy,
        "threads": threads,
        "device": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("oncoscale", "numpy", "scipy", "numba")},
    }


def throughput(curves: np.ndarray, pairs: int, threads: int) -> dict[str, float]:
    """Voxels a second: fit with standard errors, linear preview; and cost of a voxel at four times as many."""
    many = np.tile(curves, (4, 1))

    def fit(rows: np.ndarray) -> float:
        return seconds(lambda: fit_curves(TIMES, rows, "extended-tofts", PLASMA, threads=threads)) / len(rows)

    few_s, many_s = (float(np.median([fit(rows) for _ in range(pairs)])) for rows in (curves, many))
    linear_preview(TIMES, curves[:100], PLASMA, threads=threads)
    preview_s = np.median(
        [seconds(lambda: linear_preview(TIMES, many, PLASMA, threads=threads)) for _ in range(pairs)]
    ) / len(many)
    return {
        "fit_voxels_per_second": 1.0 / few_s,
        "preview_voxels_per_second": float(1.0 / preview_s),
        "cost_of_a_voxel_at_four_times_as_many": many_s / few_s,
    }


def studies(slices: int, threads: int) -> dict[str, Any]:
    """Processor time, wall time and peak memory of ``quantify`` on two slabs of 256 x 256, each in its own process.

    From the growth between the two follow the time and memory of WHOLE slices; two frame intervals, since exchange
    models are tried only at the shorter one, the fit of the signal, and the systematic part.
    """
    rows: dict[str, Any] = {}
    for name, asked in STUDIES.items():
        small, large = (one_study(number, threads, *asked) for number in (slices, 2 * slices))
        grown = {key: (large[key] - small[key]) / slices for key in ("cpu_seconds", "peak_memory_gib")}
        rows[name] = {
            "slabs": [small, large],
            "cpu_microseconds_a_voxel": 1e6 * grown["cpu_seconds"] / 256**2,
            "cost_of_a_voxel_at_twice_as_many": large["cpu_seconds"] / small["cpu_seconds"] / 2.0,
            "whole_study_cpu_seconds": large["cpu_seconds"] + (WHOLE - 2 * slices) * grown["cpu_seconds"],
            "whole_study_peak_memory_gib": large["peak_memory_gib"] + (WHOLE - 2 * slices) * grown["peak_memory_gib"],
        }
    return rows


def one_study(slices: int, threads: int, interval: float, model: str, domain: str, draws: int) -> dict[str, float]:
    """One slab, measured in a process of its own, so that its peak of memory is its own too."""
    asked = [str(one) for one in (slices, threads, interval, model, domain, draws)]
    answer = subprocess.run([sys.executable, __file__, "--study", *asked], capture_output=True, text=True, check=True)
    measured: dict[str, float] = json.loads(answer.stdout)
    return measured


def study_row(slices: int, threads: int, interval: float, model: str, domain: str, draws: int) -> dict[str, float]:
    """Time and memory of ``quantify`` in this process, every voxel tissue; kernels are compiled before."""
    settings = QuantifySettings(
        dce_model=model,
        t1=1.2,
        relaxivity=4.5,
        haematocrit=0.42,
        threads=threads,
        fit_domain=domain,
        systematic=draws,
    )
    quantify(slab((32, 32, 2), interval), settings)
    study = slab((256, 256, slices), interval)
    wall, processor = time.perf_counter(), time.process_time()
    quantify(study, settings)
    return {
        "slices": slices,
        "cpu_seconds": time.process_time() - processor,
        "wall_seconds": time.perf_counter() - wall,
        "peak_memory_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


def slab(shape: tuple[int, int, int], interval: float) -> ImagingStudy:
    """A study of 60 frames in which every voxel is tissue and the middle is the tumour."""
    times = np.arange(60) * interval
    plasma = PlasmaCurve(times, parker((times - 15.0) / 60.0) / 0.58)
    grid = Grid(shape, np.diag([1.0, 1.0, 2.0, 1.0]))
    curves, _ = synthetic(4096, sample(plasma, times))
    signals = spoiled_signal(1 / 1.2 + 4.5 * curves, 1000.0, 20.0, 0.005).astype(np.float32)
    values = np.empty((len(times), *shape), dtype=np.float32)
    for frame, image in enumerate(values):
        image[:] = np.resize(signals[:, frame], shape)
    tumour = np.zeros(shape, dtype=np.uint8)
    tumour[shape[0] * 3 // 8 : shape[0] * 5 // 8, shape[1] * 3 // 8 : shape[1] * 5 // 8] = 1
    about = {"tr_s": Sourced(0.005), "fa_deg": Sourced(20.0)}
    series = Series("1.2", "dynamic", "", "MR", grid, values, times_s=times, acquisition=about)
    return ImagingStudy("1.2.3", (series,), (LabelImage(grid, tumour, {1: "tumour"}),))


def checks_of(rows: dict[str, Any], threads: int) -> list[dict[str, Any]]:
    """A whole study within ten minutes and 6 GiB with the model left to choose, and a cost in proportion to voxels."""
    found = []
    for name in ("auto", "auto with exchange"):
        row = rows[name]
        found += [
            {"id": f"{name}: below 600 s", "passed": row["whole_study_cpu_seconds"] / threads < 600.0},
            {"id": f"{name}: below 6 GiB", "passed": row["whole_study_peak_memory_gib"] < 6.0},
            {"id": f"{name}: in proportion", "passed": row["cost_of_a_voxel_at_twice_as_many"] < 1.25},
        ]
    return found


def synthetic(count: int, sampling: Sampling | None = None) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Extended Tofts curves of random tissue with noise, the same in every run."""
    random = np.random.default_rng(1)
    truth = {
        "ktrans": random.uniform(0.02, 0.5, count),
        "ve": random.uniform(0.1, 0.6, count),
        "vp": random.uniform(0.0, 0.1, count),
    }
    curves = np.array([model(TIMES, *values, sampling or SAMPLING) for values in zip(*truth.values())])
    return curves + random.normal(0.0, NOISE, curves.shape), truth


def model(_: np.ndarray, ktrans: float, ve: float, vp: float, sampling: Sampling | None = None) -> np.ndarray:
    """The curve that curve_fit fits: the project's compiled, exact convolution."""
    there = sampling or SAMPLING
    return np.asarray(ktrans * there.response(ktrans / ve)[0] + vp * there.plasma)


def loop(curves: np.ndarray, *, bounded: bool) -> np.ndarray:
    """(curves, 3) parameters by one call of curve_fit a voxel."""
    options = {"bounds": BOUNDS} if bounded else {}
    return np.array([curve_fit(model, TIMES, curve, START, **options)[0] for curve in curves])


def compare(curves: np.ndarray, truth: dict[str, np.ndarray]) -> dict[str, float]:
    """Median errors against the truth, and how much better our sum of squares is than the bounded loop's.

    Raises AssertionError if ours is worse anywhere or a median error exceeds what this noise explains.
    """
    fit = fit_curves(TIMES, curves, "extended-tofts", PLASMA)
    ours = np.stack([fit.parameters[name] for name in truth], axis=1)
    theirs = loop(curves, bounded=True)
    squares = [
        np.array([((curve - model(TIMES, *row)) ** 2).sum() for curve, row in zip(curves, rows)])
        for rows in (ours, theirs)
    ]
    worst = float((squares[0] / squares[1]).max() - 1)
    errors = {
        f"median_error_{name}": float(np.median(np.abs(ours[:, column] - truth[name][: len(curves)])))
        for column, name in enumerate(truth)
    }
    assert worst < 1e-6, f"the loop found a better optimum by {worst}"
    assert errors["median_error_ktrans"] < 6e-3
    assert errors["median_error_ve"] < 5e-3
    assert errors["median_error_vp"] < 2e-3
    return errors | {"largest_excess_of_our_sum_of_squares": worst}


def seconds(work: Callable[[], Any]) -> float:
    """Wall-clock seconds of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> int:
    """Measure and hand over the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--voxels", type=int, default=20000)
    parser.add_argument("--sample", type=int, default=200)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--slices", type=int, default=6)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--study", nargs=6, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.study is not None:
        slices, threads, interval, kind, domain, draws = chosen.study
        row = study_row(int(slices), int(threads), float(interval), kind, domain, int(draws))
        sys.stdout.write(json.dumps(row) + "\n")
        return 0
    return hand_over(measure(chosen.voxels, chosen.sample, chosen.pairs, chosen.threads, chosen.slices), chosen.out)


if __name__ == "__main__":
    sys.exit(main())
