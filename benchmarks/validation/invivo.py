"""A real breast slice of 25 frames, one every 16 s: what fits give where there is no truth, and whether flags fire.

    python benchmarks/validation/invivo.py [--data FOLDER] [--out benchmarks/results]

FOLDER holds qiba-dro-v6/invivo.mat (DCEMRI.jl, doi 10.7717/peerj.909). T1 by ten flip angles (straight line, as in the
reference), concentration with three baseline frames, extended Tofts with kep from 0.005 to 20 per minute. The figures
are a regression against one earlier implementation, not a truth; a third of the voxels cannot carry the model, and
their flags must say so. The picture shows the maps with those voxels left out, and the share of each flag.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import loadmat

from oncoscale.app.bench import hand_over
from oncoscale.imaging.aif import PlasmaCurve
from oncoscale.imaging.dce import to_concentration
from oncoscale.imaging.kinetics import best_model, fit_curves
from oncoscale.imaging.preview import linear_preview
from oncoscale.imaging.profile import with_profile
from oncoscale.imaging.quality import bit, names
from oncoscale.imaging.relaxation import fit_t1, linear_t1

DATA = Path(__file__).parents[2].parent / "shared" / "data"
RESULTS = Path(__file__).parents[1] / "results"
RELAXIVITY, BASELINE, ENHANCING = 4.5, 3, 0.05
EXPECTED = {"ktrans": (0.0343, 5e-4), "ve": (0.280, 5e-3), "vp": (0.0085, 5e-4), "t1_s": (0.918, 1e-3)}
EXPECTED_FLAGS = {"ve-above-1": 0.30, "kep-at-limit": 0.29, "vp-at-zero": 0.38}
MODELS = ("tofts", "patlak", "extended-tofts")


def measure(folder: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The record, and the maps for the picture."""
    stored = loadmat(folder / "qiba-dro-v6" / "invivo.mat")
    times, tr = stored["t"].ravel(), float(stored["TR"].item())
    shape = stored["DCEdata"].shape[1:]
    frames = stored["DCEdata"].reshape(len(times), -1).T.astype(float)
    angles, flips = stored["T1flip"].ravel().astype(float), stored["T1data"].reshape(stored["T1flip"].size, -1).T
    bright = np.flatnonzero(frames[:, 0] > 0.1 * np.percentile(frames[:, 0], 99))
    t1 = linear_t1(flips[bright], angles, tr)
    kept = (1 / t1 > 0.2) & (1 / t1 < 5)
    places, t1 = bright[kept], t1[kept]
    concentration = to_concentration(
        frames[places], t1, fa_deg=float(np.ravel(stored["DCEflip"])[0]), tr_s=tr, relaxivity=RELAXIVITY,
        baseline=BASELINE, all_points=True,
    ).values  # fmt: skip
    finite = np.isfinite(concentration).all(axis=1)
    enhancing = finite & (concentration[:, -5:].mean(axis=1) > ENHANCING)
    curves, plasma = concentration[enhancing], PlasmaCurve(times, stored["Cp"].ravel())
    fits = {model: fit_curves(times, curves, model, plasma, kep_range=(0.005, 20.0)) for model in MODELS}
    fit = with_profile(times, curves, plasma, fits["extended-tofts"])
    chosen = best_model([fits[model] for model in MODELS])
    medians = {name: float(np.nanmedian(fit.parameters[name])) for name in ("ktrans", "ve", "vp")}
    medians["t1_s"] = float(np.median(t1))
    flags = {name: float(np.mean((fit.flags & bit(name)) != 0)) for name in names(int(np.bitwise_or.reduce(fit.flags)))}
    passed = all(abs(medians[name] - value) <= span for name, (value, span) in EXPECTED.items()) and all(
        abs(flags.get(name, 0.0) - share) <= 0.02 for name, share in EXPECTED_FLAGS.items()
    )
    record = {
        "name": "invivo",
        "unit": "medians over enhancing voxels; shares of them",
        "voxels": {"bright": len(places), "finite": int(finite.sum()), "enhancing": len(curves)},
        "medians": medians,
        "ktrans_5_to_95_percent": np.percentile(fit.parameters["ktrans"], (5, 95)).tolist(),
        "nonlinear_t1_median_s": float(np.nanmedian(fit_t1(flips[places].astype(float), angles, tr).t1)),
        "flags": flags,
        "preferred_model": {model: float(np.mean(chosen == number)) for number, model in enumerate(MODELS)},
        "correlation_of_the_linear_fit": float(
            np.corrcoef(linear_preview(times, curves, plasma)["ktrans"], fit.parameters["ktrans"])[0, 1]
        ),
        "expected": {name: value for name, (value, _) in EXPECTED.items()} | EXPECTED_FLAGS,
        "passed": bool(passed),
        "versions": {name: version(name) for name in ("oncoscale", "numpy", "numba")},
    }
    doubtful = {"ktrans": "kep-at-limit", "ve": ("kep-at-limit", "ve-above-1"), "vp": "vp-above-1"}
    maps = {"anatomy": frames[:, -1].reshape(shape)}
    for name, why in doubtful.items():
        words = [bit(one) for one in ((why,) if isinstance(why, str) else why)]
        bad = (fit.flags & np.bitwise_or.reduce(words)) != 0
        image = np.full(frames.shape[0], np.nan)
        image[places[enhancing]] = np.where(bad, np.nan, fit.parameters[name])
        maps[name] = image.reshape(shape)
    return record, maps


def draw(record: Mapping[str, Any], maps: Mapping[str, np.ndarray], path: Path) -> None:
    """The maps over the last frame, and the shares of the flags."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 4, figsize=(15, 4), layout="constrained")
    tops = {"ktrans": (0.3, "Ktrans (1/min)"), "ve": (1.0, "ve"), "vp": (0.1, "vp")}
    for axes, (name, (top, title)) in zip(panels, tops.items()):
        axes.imshow(maps["anatomy"], cmap="gray")
        image = axes.imshow(maps[name], vmin=0, vmax=top, cmap="viridis")
        axes.set_title(title)
        axes.set_axis_off()
        figure.colorbar(image, ax=axes, shrink=0.7)
    panels[3].barh(list(record["flags"]), [100 * share for share in record["flags"].values()], color="#31688e")
    panels[3].set_xlabel("% of the enhancing voxels")
    panels[3].set_title("flags")
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def main() -> int:
    """Measure, print the record, write it and its picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder that holds qiba-dro-v6")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the record and its picture")
    chosen = parser.parse_args()
    if not (chosen.data / "qiba-dro-v6" / "invivo.mat").is_file():
        sys.stderr.write(f"no qiba-dro-v6/invivo.mat in {chosen.data}: give its folder with --data\n")
        return 2
    record, maps = measure(chosen.data)
    return hand_over(record, chosen.out, lambda path: draw(record, maps, path))


if __name__ == "__main__":
    sys.exit(main())
