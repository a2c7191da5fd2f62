"""ADC and cellularity."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import curve_fit

from oncoscale.core.errors import ModelRefused
from oncoscale.imaging.account import Account, QuantifySettings
from oncoscale.imaging.diffusion import (
    cellularity_from_adc,
    cellularity_from_volumes,
    densest_adc,
    fit_adc,
    floor_noise,
    usable_b,
)
from oncoscale.imaging.diffusion_maps import cellularity_map
from oncoscale.imaging.quality import bit
from oncoscale.imaging.study import Grid, LabelImage, ParametricMap


def test_two_b_values_give_the_log_ratio():
    """ADC = ln(S_lo/S_hi)/(b_hi - b_lo)."""
    fit = fit_adc([[900.0, 400.0]], [100.0, 900.0])
    assert fit.adc[0] == pytest.approx(np.log(900 / 400) / 800)


def test_more_b_values_give_the_nonlinear_optimum():
    """With noise the fit is that of a general nonlinear solver, not that of the logarithms."""
    b = np.array([100.0, 300.0, 600.0, 1000.0])
    signals = np.random.default_rng(3).normal(500 * np.exp(-b * 1.2e-3), 15.0, (20, 4))
    fit = fit_adc(signals, b)
    for row, found in zip(signals, fit.adc):
        best, _ = curve_fit(lambda x, s0, adc: s0 * np.exp(-x * adc), b, row, [500.0, 1e-3], xtol=1e-14, ftol=1e-14)
        assert found == pytest.approx(best[1], rel=1e-6)


def test_low_b_values_are_left_out_because_blood_moves():
    """Below 100 s/mm² perfusion adds a fast decay: those images enter only if there are no others."""
    b = np.array([0.0, 50.0, 200.0, 800.0])
    perfused = 0.1 * np.exp(-b * 0.02) + 0.9 * np.exp(-b * 1e-3)
    assert fit_adc(perfused, b).adc[0] == pytest.approx(1e-3, rel=0.01)
    assert fit_adc(perfused[:2], b[:2]).adc[0] > 1.3e-3
    assert usable_b(b).tolist() == [False, False, True, True]
    assert usable_b([0.0, 500.0]).all()


def test_what_cannot_be_is_flagged():
    """Signals at the noise floor, rising signals and ADC above water are marked or NaN."""
    b = [100.0, 900.0]
    fit = fit_adc([[500.0, 20.0], [500.0, 600.0], [500.0, 30.0], [np.nan, 1.0], [500.0, 250.0]], b, noise=8.0)
    assert fit.flags.tolist() == [
        int(bit("rician-floor") | bit("adc-range")),
        int(bit("adc-range")),
        int(bit("adc-range")),
        int(bit("not-finite")),
        0,
    ]
    assert np.isnan(fit.adc).tolist() == [True, True, False, True, False]
    spread = np.random.default_rng(0).normal([500.0, 250.0], 8.0, (4000, 2))
    assert fit.error[4] == pytest.approx(fit_adc(spread, b).adc.std(), rel=0.05)
    with pytest.raises(ModelRefused, match="two or more different b values"):
        fit_adc([[1.0, 2.0]], [500.0, 500.0])


def test_air_tells_the_noise():
    """The Rayleigh noise of air is found in an image with air, and not in one without."""
    rng = np.random.default_rng(1)
    tissue = np.zeros((40, 40, 4))
    tissue[10:30, 10:30] = 400.0

    def image(scale: float) -> np.ndarray:
        return np.hypot(scale * tissue + rng.normal(0, 5, tissue.shape), rng.normal(0, 5, tissue.shape))

    assert floor_noise(image(0.4), image(1.0)) == pytest.approx(5.0, rel=0.05)
    assert floor_noise(image(0.4)[12:28, 12:28], image(1.0)[12:28, 12:28]) is None


def test_cellularity_runs_from_water_to_the_densest_packing():
    """Water holds the fewest cells, the densest packing the most; in between the law is linear; NaN stays NaN."""
    values = cellularity_from_adc([3.5e-3, 1.7e-3, 0.1e-3, np.nan], 0.4e-3)
    assert values[:3].tolist() == pytest.approx([0.05, 0.5, 0.95])
    assert np.isnan(values[3])
    assert cellularity_from_volumes([0.3, 0.99], [0.05, 0.05]).tolist() == pytest.approx([0.65, 0.05])


def test_the_densest_packing_is_never_the_minimum():
    """A low percentile of many voxels, the fixed value of few."""
    adc = np.linspace(0.5e-3, 2e-3, 1001)
    assert densest_adc(adc) == pytest.approx(0.575e-3)
    assert densest_adc(adc[:50]) == 0.4e-3


def test_the_median_adc_is_right_within_two_percent_at_a_signal_to_noise_ratio_of_30():
    """Rician noise, b = 0, 200, 800 and ADC of 0.5 to 2e-3: unbiased, with errors as large as they are said to be."""
    rng, b = np.random.default_rng(11), np.array([0.0, 200.0, 800.0])
    truth = rng.uniform(0.5e-3, 2.0e-3, 8000)
    clean = 30.0 * np.exp(-truth[:, None] * b)
    noisy = np.hypot(clean + rng.normal(size=clean.shape), rng.normal(size=clean.shape))
    fit = fit_adc(noisy, b, noise=1.0)
    valid = np.isfinite(fit.adc)
    assert valid.mean() > 0.99
    assert abs(np.median(fit.adc[valid] / truth[valid]) - 1) < 0.01
    assert 0.93 < np.mean(np.abs(fit.adc - truth)[valid] < 1.96 * fit.error[valid]) < 0.97


def test_the_bias_of_rician_noise_is_taken_out():
    """Where the weighted signal is five noise deviations, the noise-blind fit is low and the aware one is not."""
    rng, b = np.random.default_rng(12), np.array([100.0, 1000.0])
    clean = 50.0 * np.exp(-(b - 100.0) * 2.5e-3) * np.ones((20000, 1))
    noisy = np.hypot(clean + rng.normal(size=clean.shape), rng.normal(size=clean.shape))
    aware, blind = fit_adc(noisy, b, noise=1.0), fit_adc(noisy, b)
    assert np.nanmedian(blind.adc) < 2.485e-3
    assert abs(np.nanmedian(aware.adc) / 2.5e-3 - 1) < 0.005


def test_the_error_of_many_b_values_is_that_of_the_nonlinear_fit():
    """The stated standard error equals the spread of repeated fits."""
    rng, b = np.random.default_rng(13), np.array([100.0, 300.0, 500.0, 800.0])
    clean = 60.0 * np.exp(-b * 1.2e-3) * np.ones((6000, 1))
    noisy = np.hypot(clean + rng.normal(size=clean.shape), rng.normal(size=clean.shape))
    fit = fit_adc(noisy, b, noise=1.0)
    assert np.median(fit.error) == pytest.approx(fit.adc.std(), rel=0.05)


def test_necrosis_is_high_adc_without_perfusion():
    """High ADC alone is oedema or few cells; with hardly any Ktrans and vp it is necrosis; fast tissue never is."""
    grid = Grid((4, 10, 10), np.diag([2.0, 2.0, 2.0, 1.0]))
    adc = np.full(grid.shape, 0.8e-3)
    adc[2:] = 2.2e-3
    ktrans, vp = np.full(grid.shape, 0.15), np.full(grid.shape, 0.04)
    ktrans[3], vp[3], ktrans[1] = 0.01, 0.003, 0.01
    maps = {
        name: ParametricMap(name, unit, grid, values, np.zeros(grid.shape, dtype=np.uint32))
        for name, unit, values in (("adc", "mm^2/s", adc), ("ktrans", "1/min", ktrans), ("vp", "1", vp))
    }
    tumour = LabelImage(grid, np.ones(grid.shape, dtype=np.uint8), {1: "tumour"})
    account = Account(QuantifySettings())
    made = cellularity_map(maps, tumour, account)
    assert made is not None
    dead = (made.quality & bit("necrotic")) != 0
    assert dead.mean(axis=(1, 2)).tolist() == [0.0, 0.0, 0.0, 1.0]
    told = account.summary["cellularity"]
    assert told["necrotic_fraction"] == 0.25
    assert told["low"] < told["median"] < told["high"]
    without = cellularity_map({"adc": maps["adc"]}, tumour, Account(QuantifySettings()))
    assert not (without.quality & bit("necrotic")).any()
