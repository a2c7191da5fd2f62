"""Maps of ADC and cellularity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from .account import Account, Mask, Values, inside, map_of, with_signal
from .diffusion import (
    ADC_DENSEST,
    ADC_PERCENTILE,
    ADC_WATER,
    LEAST_B,
    NECROTIC_ADC,
    POOR_PERFUSION,
    cellularity_from_adc,
    cellularity_from_volumes,
    densest_adc,
    fit_adc,
    floor_noise,
)
from .quality import bit
from .study import Grid, ImagingStudy, LabelImage, ParametricMap


def adc_map(study: ImagingStudy, tumour: LabelImage | None, account: Account) -> ParametricMap | None:
    """ADC from the diffusion series with most b values, None if no series has two."""
    several = [one for one in study.of_role("diffusion") if _count(one.b_values) >= 2]
    if not several:
        return None
    series = max(several, key=lambda one: _count(one.b_values))
    b, signals = np.asarray(series.b_values, dtype=float), np.asarray(series.values, dtype=np.float64)
    weakest = signals[b == b.min()].mean(axis=0)
    noise = floor_noise(signals[int(np.argmax(b))], weakest)
    tissue = with_signal(weakest, tumour, series.grid)
    fit = fit_adc(signals[:, tissue].T, b, noise=noise)
    used = ", ".join(f"{one:g}" for one in fit.used)
    if min(fit.used) < LEAST_B.value:
        account.note(
            "doubted",
            "diffusion",
            f"b values {used} s/mm²: fewer than two reach {LEAST_B.value:g}, perfusion may raise the ADC",
        )
    account.note(
        "chosen",
        "diffusion",
        f"ADC from b = {used} s/mm²; noise "
        + ("not measurable (no air in the image)" if noise is None else f"{noise:.3g} from air"),
    )
    values, flags = np.full(series.grid.shape, np.nan), np.full(series.grid.shape, bit("background"))
    values[tissue], flags[tissue] = fit.adc, fit.flags
    if noise is not None and tumour is not None:
        account.summary["adc_error"] = _median_error(fit.error, inside(tumour, series.grid, "tumour")[tissue])
    return map_of(series, "adc", values, flags, f"mono-exponential decay, b = {used}")


def _median_error(error: Values, within: Mask) -> float | None:
    """mm²/s: median standard error of the ADC in the tumour's voxels."""
    told = error[within & np.isfinite(error)]
    return float(np.median(told)) if told.size else None


def _count(b_values: Values | None) -> int:
    return 0 if b_values is None else len(np.unique(b_values))


def cellularity_map(
    maps: Mapping[str, ParametricMap], tumour: LabelImage | None, account: Account
) -> ParametricMap | None:
    """Cellularity from ADC, else from the volumes of the dynamic series, else None: nothing is made up."""
    if "adc" in maps:
        return _from_adc(maps, tumour, account)
    if "ve" in maps:
        ve = maps["ve"]
        vp = maps["vp"].values if "vp" in maps and maps["vp"].grid.same_as(ve.grid) else np.zeros(ve.grid.shape)
        account.note("inferred", "cellularity", "1 - ve - vp, no diffusion series: the rest is assumed to be cells")
        return replace(
            ve,
            name="cellularity",
            unit="1",
            values=cellularity_from_volumes(ve.values, np.nan_to_num(vp)),
            method="1 - ve - vp",
        )
    account.note("found", "cellularity", "no diffusion series and no ve: cellularity was not measured")
    return None


def _from_adc(maps: Mapping[str, ParametricMap], tumour: LabelImage | None, account: Account) -> ParametricMap:
    """Cellularity, its interval, and necrosis marked where the ADC is high and the tissue is not perfused."""
    adc = maps["adc"]
    within = inside(tumour, adc.grid, "tumour") if tumour is not None else np.zeros(adc.grid.shape, dtype=bool)
    densest = account.settings.densest_adc or ADC_DENSEST.value
    account.note(
        "inferred",
        "cellularity",
        f"linear in ADC between {ADC_WATER.value:g} mm²/s (free water) and {densest:.3g} mm²/s (densest packing)",
    )
    necrotic = (np.nan_to_num(adc.values) > NECROTIC_ADC.value) & _not_perfused(maps, adc.grid, tumour)
    flags = np.zeros(adc.grid.shape, dtype=np.uint32) if adc.quality is None else adc.quality
    if np.isfinite(adc.values[within]).any():
        account.summary["cellularity"] = _interval(adc.values[within], densest) | {
            "densest_adc": densest,
            "necrotic_fraction": float(necrotic[within].mean()),
        }
        noise = account.summary.get("adc_error")
        if noise is not None:
            account.summary["cellularity"]["noise_of_a_voxel"] = noise / (ADC_WATER.value - densest)
    return replace(
        adc,
        name="cellularity",
        unit="1",
        values=cellularity_from_adc(adc.values, densest),
        quality=(flags | np.where(necrotic, bit("necrotic"), 0)).astype(np.uint32),
        method=f"(ADC water - ADC) / (ADC water - {densest:.4g})",
    )


def _interval(adc: Values, densest: float) -> dict[str, float]:
    """Median cellularity of the tumour with the ends of what is assumed.

    The ends: water +-5 %, the range of the densest packing, and percentiles 1 to 10 of the tumour's own ADC.
    """
    waters = ADC_WATER.range or (ADC_WATER.value,)
    packings = [*(ADC_DENSEST.range or ()), *(densest_adc(adc, one) for one in ADC_PERCENTILE.range or ())]
    ends = [float(np.nanmedian(cellularity_from_adc(adc, packing, water))) for water in waters for packing in packings]
    median = float(np.nanmedian(cellularity_from_adc(adc, densest)))
    return {"median": median, "low": min(*ends, median), "high": max(*ends, median)}


def _not_perfused(maps: Mapping[str, ParametricMap], grid: Grid, tumour: LabelImage | None) -> Mask:
    """Voxels of ``grid`` that do not enhance, or whose Ktrans and vp are both a small share of the tumour's upper
    quartile (PE alone where there is no kinetic map); nowhere without a dynamic series.
    """
    known = [maps[name] for name in ("ktrans", "vp") if name in maps] or [
        maps[name] for name in ("pe",) if name in maps
    ]
    if not known:
        return np.zeros(grid.shape, dtype=bool)
    first = known[0]
    poor = np.ones(first.grid.shape, dtype=bool)
    for one in known:
        if not one.grid.same_as(first.grid):
            continue
        within = np.isfinite(one.values) & (inside(tumour, one.grid, "tumour") if tumour is not None else True)
        level = POOR_PERFUSION.value * np.percentile(one.values[within], 75) if within.any() else 0.0
        poor &= np.isfinite(one.values) & (one.values < level)
    if first.quality is not None:
        poor |= (first.quality & bit("not-enhancing")) != 0
    return inside(LabelImage(first.grid, poor.astype(np.uint8), {1: "not perfused"}), grid)
