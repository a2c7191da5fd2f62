"""A few voxels whose curves are shown beside their fits, spread over the quantiles of the region's exchange rate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .aif import PlasmaCurve
from .dce import extended_tofts, patlak, tofts
from .exchange import exchange, uptake
from .kinetics import KineticFit, Model
from .quality import bit, names
from .signal_chain import SignalChain
from .study import ParametricMap

Values = NDArray[np.float64]

QUANTILES = (0.02, 0.2, 0.4, 0.6, 0.8, 0.98)
"""Of the exchange rate among the region's enhancing voxels: one voxel is shown for each."""
MOST_SAMPLES = 400
"""A curve of more samples, as population curves have, is told at the frames."""
DOUBTFUL = 2
"""Voxels with a fit that was flagged, shown as well."""


def chosen_curves(
    chain: SignalChain,
    plasma: PlasmaCurve,
    model: Model,
    maps: Mapping[str, ParametricMap],
    region: NDArray[np.bool_],
) -> dict[str, Any]:
    """Curves, fits, parameters and flags of some voxels, as plain numbers for ``maps.json``.

    plasma  the input curve, on the clock of the series
    region  (i, j, k) True where the voxels may lie
    """
    times_s = chain.dynamic.times_s
    flow = maps["ps" if model == "patlak" else "ktrans"]
    places = _places(flow, region)
    shown: list[dict[str, Any]] = []
    if len(places):
        signals, echo = chain.signals(tuple(places.T)), chain.echo(tuple(places.T))
        curves = chain.concentration_of(signals, echo).values
        fit = chain.fit(signals, echo, curves, model, plasma, profile=False)
        flags = np.zeros(len(places), dtype=np.uint32) if flow.quality is None else flow.quality[tuple(places.T)]
        shown = [
            {
                "voxel": [int(index) for index in place],
                "concentration": _rounded(curves[row]),
                "fitted": _rounded(_model_curve(fit, row, times_s, plasma)),
                "parameters": {name: float(values[row]) for name, values in fit.parameters.items()},
                "errors": {name: float(values[row]) for name, values in fit.errors.items()},
                "flags": list(names(int(flags[row]))),
            }
            for row, place in enumerate(places)
        ]
    return {
        "times_s": _rounded(np.asarray(times_s)),
        "plasma": _plasma(plasma, np.asarray(times_s)),
        "model": model,
        "voxels": shown,
    }


def _plasma(plasma: PlasmaCurve, times_s: Values) -> dict[str, list[float]]:
    """The input curve by its own samples, or at the frames where it has many more of them."""
    own = len(plasma.times_s) <= MOST_SAMPLES
    values = plasma.concentration if own else plasma.at(times_s)
    return {"times_s": _rounded(plasma.times_s if own else times_s), "mmol_per_litre": _rounded(values)}


def _places(flow: ParametricMap, region: NDArray[np.bool_]) -> NDArray[np.intp]:
    """(voxels, 3) the voxels at the quantiles of the flow, then some whose fit is doubted."""
    words = np.zeros(flow.values.shape, dtype=np.uint32) if flow.quality is None else flow.quality
    quiet = (words & (bit("not-enhancing") | bit("background"))) != 0
    there = np.argwhere(region & np.isfinite(flow.values) & ~quiet)
    if len(there) == 0:
        return there
    order = there[np.argsort(flow.values[tuple(there.T)], kind="stable")]
    picked = order[np.unique(np.round(np.array(QUANTILES) * (len(order) - 1)).astype(int))]
    doubt = bit("misfit") | bit("ve-above-1") | bit("vp-above-1") | bit("kep-at-limit") | bit("short-acquisition")
    doubted = np.argwhere(region & ((words & doubt) != 0) & ~quiet & ((words & bit("not-finite")) == 0))
    if len(doubted):
        spread = np.unique(np.linspace(0, len(doubted) - 1, DOUBTFUL + 2)[1:-1].astype(int))
        picked = np.concatenate([picked, doubted[spread]])
    return np.asarray(picked[np.sort(np.unique(picked, axis=0, return_index=True)[1])])


def _model_curve(fit: KineticFit, row: int, times_s: Values, plasma: PlasmaCurve) -> Values:
    """(frames,) mmol/L of one fitted voxel; NaN where the fit gave no number."""
    p = {name: float(values[row]) for name, values in fit.parameters.items()}
    if not np.isfinite([value for name, value in p.items() if name not in ("kep", "ve")]).all():
        return np.full(len(times_s), np.nan)
    if fit.model == "patlak":
        return patlak(times_s, plasma, p["ps"], p["vp"])
    if fit.model == "2cxm":
        return exchange(times_s, plasma, p["fp"], p["ps"], p["ve"], p["vp"])
    if fit.model == "2cum":
        return uptake(times_s, plasma, p["fp"], p["ps"], p["vp"])
    if not p["ktrans"] > 0:
        return p.get("vp", 0.0) * plasma.at(times_s)
    if fit.model == "tofts":
        return tofts(times_s, plasma, p["ktrans"], p["ktrans"] / p["kep"])
    return extended_tofts(times_s, plasma, p["ktrans"], p["ktrans"] / p["kep"], p["vp"])


def _rounded(values: Values) -> list[float]:
    """Six significant digits: what a picture can show, and no more."""
    return [float(f"{value:.6g}") for value in values]
