"""The random and the systematic part of a region's kinetic parameters, as ``maps.json`` tells them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from .account import Account, Mask, Values
from .aif import PlasmaCurve
from .input_function import InputFunction
from .kinetics import Model
from .quality import bit
from .signal_chain import Places, SignalChain, usable_curves
from .study import ParametricMap, Series
from .systematic import B1_MAPPED_WIDTH, Draw, Widths, sample_of, spreads
from .t1_maps import t1_by_angle


def region_errors(
    chain: SignalChain,
    arriving: InputFunction,
    model: Model,
    maps: Mapping[str, ParametricMap],
    region: Mask,
    account: Account,
    b1: ParametricMap | None,
    flips: Series | None,
) -> dict[str, Any]:
    """Median of each parameter in the region with both parts of its error, by ``systematic.spreads``.

    Voxels that enhance and have a value count. At most MOST_VOXELS of them, evenly spread, are fitted again with the
    model of the maps for each draw; where exchange was preferred in some voxels, they are fitted by that model all the
    same, so that one model speaks for the region. flips and b1: what T1 was fitted to, so that a flip angle that is not
    as stated moves T1 too.
    """
    settings = account.settings
    flow = maps["ps" if model == "patlak" else "ktrans"]
    places, count = _counted(flow, region)
    fit, errors = _refit(chain, arriving, model, places, _t1_factor(chain, places, b1, flips, account))
    names = [name for name in errors if name in maps]
    widths = _that_matter(settings.widths, arriving, b1)
    found = spreads(
        fit,
        errors,
        {name: np.isfinite(maps[name].values[places]) for name in names},
        widths,
        draws=settings.systematic,
        haematocrit=arriving.haematocrit,
        seed=settings.seed,
        of=count,
        progress=lambda done: account.tell("systematic part", done),
    )
    _note(found, account)
    return {
        "region": "tumour" if chain.dynamic.region is not None else "brightest tenth of the tissue",
        "model": model,
        "fit_domain": chain.domain,
        "draws": settings.systematic,
        "seed": settings.seed,
        "voxels": count,
        "voxels_fitted_again": len(places[0]),
        "widths": asdict(widths),
        "parameters": {name: asdict(spread) | {"unit": maps[name].unit} for name, spread in found.items()},
    }


def _that_matter(widths: Widths, arriving: InputFunction, b1: ParametricMap | None) -> Widths:
    """The widths of what this study rests on.

    A curve in plasma has no haematocrit, one that was not measured in the images no T1 of blood, and a flip angle that
    a B1 map corrected is known better.
    """
    if arriving.measured is None:
        widths = replace(widths, blood_t1=0.0)
    if isinstance(arriving.curve, PlasmaCurve):
        widths = replace(widths, haematocrit=0.0)
    return widths if b1 is None else replace(widths, b1=min(widths.b1, B1_MAPPED_WIDTH.value))


def _counted(flow: ParametricMap, region: Mask) -> tuple[Places, int]:
    """A sample of the region's voxels that enhance and have a value, and how many there are."""
    quiet = (flow.quality & bit("not-enhancing")) != 0 if flow.quality is not None else np.zeros_like(region)
    everyone = np.nonzero(region & np.isfinite(flow.values) & ~quiet)
    rows = sample_of(len(everyone[0]))
    return tuple(axis[rows] for axis in everyone), len(everyone[0])


def _t1_factor(
    chain: SignalChain, places: Places, b1: ParametricMap | None, flips: Series | None, account: Account
) -> Callable[[float], Values]:
    """By what a flip angle that is larger by a factor multiplies T1 in the voxels; by 1 where T1 rests on none."""
    if flips is None:
        return lambda factor: np.ones(len(places[0]))
    return t1_by_angle(flips, chain.dynamic.series.grid, places, b1, account)


def _refit(
    chain: SignalChain,
    arriving: InputFunction,
    model: Model,
    places: Places,
    t1_factor: Callable[[float], Values],
) -> tuple[Callable[[Draw], Mapping[str, Values]], Mapping[str, Values]]:
    """How the voxels are fitted for a draw, and their standard errors with everything at its nominal value.

    An input function that is higher by a factor makes every parameter but kep smaller by it, exactly: the height is
    divided out afterwards, so that the responses of one shape are computed once.
    """
    signals, echo = chain.signals(places), chain.echo(places)
    nominal = chain.fit(signals, echo, usable_curves(chain.concentration_of(signals, echo)), model, arriving.plasma)

    def fit(draw: Draw) -> Mapping[str, Values]:
        other = echo.drawn(draw.relaxivity, draw.b1, draw.t10 * t1_factor(draw.b1))
        curves = usable_curves(chain.concentration_of(signals, other))
        plasma, height = arriving.drawn(draw, chain)
        found = chain.fit(signals, other, curves, model, plasma, profile=False).parameters
        return {name: values if name == "kep" else values / height for name, values in found.items()}

    return fit, nominal.errors


def _note(found: Mapping[str, Any], account: Account) -> None:
    """One finding: both parts of the flow's error."""
    for name in ("ktrans", "ps"):
        if name in found:
            one = found[name]
            first = max(one.share, key=lambda source: one.share[source]) if one.share else "nothing"
            account.note(
                "found",
                "uncertainty",
                f"median {name} {one.median:.4g}: random part {one.random_sd:.2g}, systematic part "
                f"{one.systematic_sd:.2g} (95 % from {one.interval[0]:.4g} to {one.interval[1]:.4g}), most of it from "
                f"{first}",
            )
            return
