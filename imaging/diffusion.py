"""Diffusion-weighted MRI: the apparent diffusion coefficient (ADC), and cellularity from it.

ADC is the slope of ln S against b. Cellularity is a model on top of it, with assumptions that are named here: low
ADC does not prove living cells (mucin, fibrosis, T2 shine-through), high ADC does not prove few (oedema).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..core.errors import ModelRefused
from ..core.quantity import Parameter
from .quality import bit

Values = NDArray[np.float64]

LEAST_B = Parameter(
    100.0,
    "s/mm^2",
    "lowest b value used: below it perfusion adds to diffusion (IVIM)",
    "Le Bihan et al. 1988, doi 10.1148/radiology.168.2.3393671; the limit is general knowledge",
    range=(50.0, 200.0),
    assumed=True,
)
ADC_WATER = Parameter(
    3.0e-3,
    "mm^2/s",
    "ADC of free water at 37 degrees Celsius",
    "general knowledge",
    range=(2.85e-3, 3.15e-3),
    assumed=True,
)
ADC_DENSEST = Parameter(
    0.4e-3,
    "mm^2/s",
    "ADC where cells are packed most densely: one value for all visits, as "
    "a percentile of each visit's own tumour would hide that a treated tumour holds fewer cells",
    "project specification, imaging §8",
    range=(0.3e-3, 0.6e-3),
    assumed=True,
)
ADC_PERCENTILE = Parameter(
    5.0,
    "percent",
    "percentile of the tumour's ADC that may stand for its densest packing (an end of the interval)",
    "project specification, imaging §8: a robust low percentile, never the minimum",
    range=(1.0, 10.0),
    assumed=True,
)
CELLULARITY_LOW = Parameter(0.05, "1", "lowest cellularity given", "bounds of the PRIMAGE code", range=(0.0, 0.1))
CELLULARITY_HIGH = Parameter(0.95, "1", "highest cellularity given", "bounds of the PRIMAGE code", range=(0.9, 1.0))
NECROTIC_ADC = Parameter(
    1.5e-3,
    "mm^2/s",
    "ADC above which tissue without enhancement is called necrotic",
    "chosen: midway between cellular tumour and fluid",
    range=(1.2e-3, 2.0e-3),
    assumed=True,
)
POOR_PERFUSION = Parameter(
    0.3,
    "1",
    "share of the tumour's upper quartile of Ktrans and of vp below which tissue counts as not perfused: dead tissue "
    "fills slowly from its rim, so that 'no enhancement at all' would never find it",
    "chosen: between dead tissue (about 0.1) and viable tissue (above 0.5) of the digital reference patient",
    range=(0.15, 0.5),
    assumed=True,
)
NOISE_FACTOR = Parameter(
    3.0,
    "1",
    "signal over noise below which the Rician floor bends the decay",
    "project specification, imaging §8; Gudbjartsson and Patz 1995, doi 10.1002/mrm.1910340618",
    range=(2.0, 5.0),
    assumed=True,
)
_LEAST_VOXELS = 100


@dataclass(frozen=True, eq=False)
class AdcFit:
    """The result of an ADC fit, one entry a voxel.

    adc    mm²/s, NaN where invalid
    error  mm²/s, standard error from the noise given (NaN without it)
    flags  quality words
    used   the b values that entered, s/mm²
    """

    adc: Values
    error: Values
    flags: NDArray[np.uint32]
    used: tuple[float, ...]


def usable_b(b_values: ArrayLike) -> NDArray[np.bool_]:
    """Which b values enter the fit: those of at least 100 s/mm² if they are two different ones, else all."""
    b = np.asarray(b_values, dtype=float)
    high = b >= LEAST_B.value
    return np.asarray(high if len(np.unique(b[high])) >= 2 else np.ones(b.shape, dtype=bool))


def fit_adc(signals: ArrayLike, b_values: ArrayLike, *, noise: float | None = None) -> AdcFit:
    """ADC of every voxel: the straight line through ln S for two b values, from there nonlinear for more.

    signals   (voxels, b values); repeated b values (averages, directions) are allowed
    b_values  (b values,) s/mm²
    noise     standard deviation of the signal, if known: signals at the Rician floor are excluded, and the bias of
              the others is taken out, A = sqrt(M² - noise²) [Gudbjartsson and Patz 1995, doi 10.1002/mrm.1910340618]

    Raises ModelRefused for fewer than two different b values.
    """
    b, rows = np.asarray(b_values, dtype=float), np.atleast_2d(np.asarray(signals, dtype=float))
    if len(np.unique(b)) < 2 or rows.shape[1] != len(b) or not np.isfinite(b).all() or b.min() < 0:
        raise ModelRefused(
            f"ADC from b values {sorted(set(b.tolist()))} s/mm² for {rows.shape[1]} images",
            "two or more different b values, one an image",
            "supply an ADC map, or complete the series",
        )
    chosen = usable_b(b)
    b, rows = b[chosen], rows[:, chosen]
    usable = np.isfinite(rows).all(axis=1) & (rows > 0).all(axis=1)
    floored = np.zeros(len(rows), dtype=bool)
    if noise is not None:
        floored = usable & (rows[:, b == b.max()].min(axis=1) < NOISE_FACTOR.value * noise)
        rows = np.where(floored[:, None], rows, np.sqrt(np.maximum(rows**2 - noise**2, 0.0)))
        usable &= (rows > 0).all(axis=1)
    adc, error = np.full(len(rows), np.nan), np.full(len(rows), np.nan)
    adc[usable] = _decay(rows[usable], b)
    if noise is not None:
        error[usable] = _adc_error(rows[usable], b, adc[usable], noise)
    flags = np.where(usable, 0, bit("not-finite")) | np.where(usable & ~(adc > 0), bit("adc-range"), 0)
    flags |= np.where(adc > ADC_WATER.value, bit("adc-range"), 0)
    if noise is not None:
        flags |= np.where(floored, bit("rician-floor"), 0)
        adc = np.where(floored, np.nan, adc)
    return AdcFit(np.where(adc > 0, adc, np.nan), error, flags.astype(np.uint32), tuple(b.tolist()))


def _decay(rows: Values, b: Values) -> Values:
    """The ADC of positive signals: log-linear, then Gauss-Newton steps on the projected misfit, if they improve it."""
    centred = b - b.mean()
    adc = -np.log(rows) @ centred / (centred @ centred)
    if len(np.unique(b)) == 2:
        return np.asarray(adc)
    misfit, step = _misfit_and_step(rows, b, adc)
    for _ in range(30):
        trial = adc + step
        trial_misfit, trial_step = _misfit_and_step(rows, b, trial)
        better = trial_misfit < misfit
        adc, misfit = np.where(better, trial, adc), np.where(better, trial_misfit, misfit)
        step = np.where(better, trial_step, 0.25 * step)
        if not np.any(np.abs(step) > 1e-9 * np.abs(adc) + 1e-15):
            break
    return np.asarray(adc)


def _misfit_and_step(rows: Values, b: Values, adc: Values) -> tuple[Values, Values]:
    """Residual sum of squares with S0 projected out, and the Gauss-Newton step of the ADC."""
    residual, slope = _residual_and_slope(rows, b, adc)
    return (residual**2).sum(axis=1), (slope * residual).sum(axis=1) / (slope**2).sum(axis=1)


def _residual_and_slope(rows: Values, b: Values, adc: Values) -> tuple[Values, Values]:
    """Residuals of the best S0, and the derivative of the model by the ADC with S0 projected out."""
    shape = np.exp(-adc[:, None] * b)
    square = (shape * shape).sum(axis=1)
    s0 = (shape * rows).sum(axis=1) / square
    slope = -s0[:, None] * b * shape
    slope -= shape * ((shape * slope).sum(axis=1) / square)[:, None]
    return rows - s0[:, None] * shape, slope


def _adc_error(rows: Values, b: Values, adc: Values, noise: float) -> Values:
    """sd(ADC), noise propagated: of the log-linear slope for two b values, of the nonlinear optimum for more."""
    with np.errstate(divide="ignore", invalid="ignore"):
        if len(np.unique(b)) > 2:
            return np.asarray(noise / np.sqrt((_residual_and_slope(rows, b, adc)[1] ** 2).sum(axis=1)))
        centred = b - b.mean()
        return np.asarray(np.sqrt((((noise / rows) * centred) ** 2).sum(axis=1)) / (centred @ centred))


def floor_noise(image: ArrayLike, weakest: ArrayLike) -> float | None:
    """Noise standard deviation from air: the Rayleigh mean square of ``image`` where ``weakest`` is near zero.

    image, weakest  same shape: the image of highest b, and that of lowest b which tells air from tissue
    returns         None where fewer than 100 voxels are air
    """
    bright, dark = np.asarray(weakest, dtype=float), np.asarray(image, dtype=float)
    air = (bright < 0.05 * np.percentile(bright, 99)) & (dark > 0)
    return float(np.sqrt(np.mean(dark[air] ** 2) / 2.0)) if air.sum() >= _LEAST_VOXELS else None


def densest_adc(adc: ArrayLike, percentile: float = ADC_PERCENTILE.value) -> float:
    """ADC (mm²/s) of the tumour's own densest packing: a low percentile of its values.

    adc  the tumour's voxels; fewer than 100 valid ones give the fixed value instead
    """
    valid = np.asarray(adc, dtype=float)
    valid = valid[np.isfinite(valid) & (valid > 0)]
    return float(np.percentile(valid, percentile)) if valid.size >= _LEAST_VOXELS else ADC_DENSEST.value


def cellularity_from_adc(adc: ArrayLike, densest: float = ADC_DENSEST.value, water: float = ADC_WATER.value) -> Values:
    """Fraction of the volume that cells fill: (water - ADC) / (water - densest), within 0.05 to 0.95.

    ASSUMED: the ADC mixes linearly between free water and the densest packing [Atuegwu et al. 2013, doi
    10.1593/tlo.13130; bounds of the PRIMAGE code]. NaN stays NaN.
    """
    return np.asarray(
        np.clip(
            (water - np.asarray(adc, dtype=float)) / (water - densest), CELLULARITY_LOW.value, CELLULARITY_HIGH.value
        )
    )


def cellularity_from_volumes(ve: ArrayLike, vp: ArrayLike = 0.0) -> Values:
    """Fraction of the volume that cells fill, where only a dynamic series exists: 1 - ve - vp, within 0.05 to 0.95.

    ASSUMED: everything that is neither leaking space nor plasma is cells. NaN stays NaN.
    """
    return np.asarray(
        np.clip(
            1.0 - np.asarray(ve, dtype=float) - np.asarray(vp, dtype=float),
            CELLULARITY_LOW.value,
            CELLULARITY_HIGH.value,
        )
    )
