"""Speed of the dynamic fits (extended Tofts, variable projection) against a loop of scipy's curve_fit.

    python benchmarks/speed/dynamic_fits.py [--voxels 20000] [--sample 200] [--pairs 5] [--threads 2]

writes one JSON record to standard output. Only the ratios mean something: both sides run interleaved in this process,
in wall-clock seconds a voxel, ours on ``--threads`` threads, the loop on one. The loop gets the project's own compiled
convolution as its model function, and is timed twice: with the bounds and start values of the OSIPI code collection
(the headline), and without bounds (Levenberg-Marquardt, the fastest that curve_fit offers). The two optima are
compared, and our errors against the truth are stated, before anything is timed.
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

import numpy as np
from scipy.optimize import curve_fit

from oncoscale.imaging.aif import PlasmaCurve, parker
from oncoscale.imaging.dce import sample
from oncoscale.imaging.kinetics import fit_curves

TIMES = np.arange(60) * 5.0
PLASMA = PlasmaCurve(TIMES, parker((TIMES - 15.0) / 60.0) / 0.58)
SAMPLING = sample(PLASMA, TIMES)
START = (0.6, 0.2, 0.01)
BOUNDS = ((0.0, 1e-9, 0.0), (5.0, 1.0, 1.0))
NOISE = 0.02


def measure(voxels: int, sampled: int, pairs: int, threads: int) -> dict[str, Any]:
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
    return {
        "name": "dynamic-fits",
        "unit": "seconds a voxel of curve_fit / seconds a voxel of the project's fit",
        "parameters": {"voxels": voxels, "sampled": sampled, "frames": len(TIMES), "noise_mmol_per_litre": NOISE},
        "ratio": float(np.median(ratios)),
        "ratios": ratios,
        "ratio_without_bounds": float(np.median(unbounded)),
        "ratios_without_bounds": unbounded,
        "samples": samples,
        "accuracy": accuracy,
        "threads": threads,
        "device": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("oncoscale", "numpy", "scipy", "numba")},
    }


def synthetic(count: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Extended Tofts curves of random tissue with noise, the same in every run."""
    random = np.random.default_rng(1)
    truth = {
        "ktrans": random.uniform(0.02, 0.5, count),
        "ve": random.uniform(0.1, 0.6, count),
        "vp": random.uniform(0.0, 0.1, count),
    }
    curves = np.array([model(TIMES, *values) for values in zip(*truth.values())])
    return curves + random.normal(0.0, NOISE, curves.shape), truth


def model(_: np.ndarray, ktrans: float, ve: float, vp: float) -> np.ndarray:
    """The curve that curve_fit fits: the project's compiled, exact convolution."""
    return np.asarray(ktrans * SAMPLING.response(ktrans / ve)[0] + vp * SAMPLING.plasma)


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


def main() -> None:
    """Measure and print the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--voxels", type=int, default=20000)
    parser.add_argument("--sample", type=int, default=200)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    chosen = parser.parse_args()
    json.dump(measure(chosen.voxels, chosen.sample, chosen.pairs, chosen.threads), sys.stdout, indent=1)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
