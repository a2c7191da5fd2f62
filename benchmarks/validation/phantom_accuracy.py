"""How well the chain recovers the truth of the digital reference patient, matched and realistic.

The matched patient follows the model and the input function that are fitted: it tests the chain. The realistic one
follows neither (two-compartment exchange, another input function, B1 error, breathing, noise): its error is what
a scanner's data would meet. Errors are relative to the truth, over viable, well-posed voxels of the tumour.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from oncoscale.app.bench import hand_over
from oncoscale.imaging.dicom_read import read_study
from oncoscale.imaging.phantom import write_phantom
from oncoscale.imaging.quantify import QuantifySettings, quantify

HAEMATOCRIT, RELAXIVITY = 0.35, 4.5  # of the reference patient: truth/truth.json
LEAST_KTRANS, MOST_NECROSIS = 0.03, 0.3  # well posed: enough exchange, and alive


def measure(quick: bool, aif: str) -> dict[str, Any]:
    """Median relative error of Ktrans, ve, vp, T1 and ADC of visit 1, of both patients."""
    return {
        "benchmark": "phantom-accuracy",
        "quick": quick,
        "input_function": aif,
        "well_posed": f"true Ktrans > {LEAST_KTRANS} /min, true necrosis < {MOST_NECROSIS}, fit not flagged",
        "median_relative_error": {
            kind: errors(matched=kind == "matched", quick=quick, aif=aif) for kind in ("matched", "realistic")
        },
        "versions": {name: version(name) for name in ("oncoscale", "numpy", "numba")},
    }


def errors(*, matched: bool, quick: bool, aif: str = "parker") -> dict[str, dict[str, float]]:
    """Median of the relative error and of its size, per map."""
    with tempfile.TemporaryDirectory() as folder:
        truth = write_phantom(Path(folder) / "patient", matched=matched, quick=quick).visits[0]
        study = read_study(Path(folder) / "patient" / "visit-1")
        quantified = quantify(study, QuantifySettings(aif=aif, relaxivity=RELAXIVITY, haematocrit=HAEMATOCRIT))
    true = {name: parametric.values for name, parametric in truth.maps.items()}
    viable = quantified.tumour.mask("tumour") & (true["ktrans"] > LEAST_KTRANS) & (true["necrosis"] < MOST_NECROSIS)
    found = {}
    for name in ("ktrans", "ve", "vp", "t1"):
        relative = (quantified.maps[name].values[viable] - true[name][viable]) / true[name][viable]
        relative = relative[np.isfinite(relative)]
        found[name] = {"bias": float(np.median(relative)), "error": float(np.median(np.abs(relative)))}
    return found


def main() -> int:
    """Measure and print the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the coarse patient")
    parser.add_argument("--aif", default="parker", help="input function: parker, measured, …")
    chosen = parser.parse_args()
    return hand_over(measure(chosen.quick, chosen.aif))


if __name__ == "__main__":
    sys.exit(main())
