"""How well the ADC comes back from noise: Rician noise at a signal-to-noise ratio of 30 and other levels.

    python benchmarks/validation/adc.py [--voxels 20000]

Voxels have an ADC between 0.5 and 2.5e-3 mm²/s; the signal-to-noise ratio is that of the image without diffusion
weighting. The noise is measured from air, as in ``quantify``. The error is the median of its size over voxels, voxels
at the Rician floor left out (their share is told); beside it the median of what the fit says its error is. A single
voxel cannot be better than its noise: what is accepted is the error of the median, its bias.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import numpy as np

from oncoscale.app.bench import hand_over
from oncoscale.imaging.diffusion import fit_adc, floor_noise

B_VALUES = {
    "0, 800": (0.0, 800.0),
    "0, 200, 800": (0.0, 200.0, 800.0),
    "100, 300, 500, 800": (100.0, 300.0, 500.0, 800.0),
    "100, 800, four averages each": (100.0,) * 4 + (800.0,) * 4,
    "0 to 1000, eight values": (0.0, 50.0, 100.0, 200.0, 400.0, 600.0, 800.0, 1000.0),
}
SNR, ACCEPTED = 30.0, 0.02
ADC_RANGE = (0.5e-3, 2.5e-3)


def measure(voxels: int) -> dict[str, Any]:
    """Errors of every protocol at SNR 30, and of one protocol at other levels of noise."""
    protocols = {name: recovered(b, SNR, voxels) for name, b in B_VALUES.items()}
    region = region_median(B_VALUES["0, 200, 800"], voxels)
    return {
        "benchmark": "adc",
        "unit": "relative error",
        "snr": SNR,
        "region_of_one_adc": region,
        "protocols": protocols,
        "by_snr": {f"{snr:g}": recovered(B_VALUES["0, 200, 800"], snr, voxels) for snr in (10.0, 20.0, 30.0, 60.0)},
        "accepted": ACCEPTED,
        "passed": bool(max(abs(row["bias"]) for row in (*protocols.values(), region)) <= ACCEPTED),
        "versions": {name: version(name) for name in ("oncoscale", "numpy")},
    }


def recovered(b_values: Sequence[float], snr: float, voxels: int) -> dict[str, float]:
    """Median error and bias of voxels of every ADC."""
    rng = np.random.default_rng(7)
    truth = rng.uniform(*ADC_RANGE, voxels)
    return judged(truth, b_values, snr, rng)


def region_median(b_values: Sequence[float], voxels: int) -> dict[str, float]:
    """A region of 1e-3 mm²/s, whose median is what a report tells."""
    return judged(np.full(voxels, 1.0e-3), b_values, SNR, np.random.default_rng(8))


def judged(truth: np.ndarray, b_values: Sequence[float], snr: float, rng: np.random.Generator) -> dict[str, float]:
    """Fit noisy signals of these ADC."""
    b = np.asarray(b_values)
    clean = snr * np.exp(-truth[:, None] * b)
    noisy = np.hypot(clean + rng.normal(size=clean.shape), rng.normal(size=clean.shape))
    air = np.hypot(rng.normal(size=(5000, len(b))), rng.normal(size=(5000, len(b))))
    everything = np.vstack([noisy, air])
    noise = floor_noise(everything[:, int(b.argmax())], everything[:, int(b.argmin())])
    fit = fit_adc(noisy, b, noise=noise)
    relative = fit.adc / truth - 1.0
    valid = np.isfinite(relative)
    return {
        "error": float(np.median(np.abs(relative[valid]))),
        "bias": float(np.median(relative[valid])),
        "told_error": float(0.6745 * np.median(fit.error[valid] / truth[valid])),
        "within_95_percent": float(np.mean(np.abs(fit.adc - truth)[valid] <= 1.96 * fit.error[valid])),
        "left_out": float(1.0 - valid.mean()),
        "noise_found": float("nan") if noise is None else noise,
    }


def main() -> int:
    """Measure and print the record; exit 1 if it misses what is accepted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--voxels", type=int, default=20000)
    record = measure(parser.parse_args().voxels)
    return hand_over(record)


if __name__ == "__main__":
    sys.exit(main())
