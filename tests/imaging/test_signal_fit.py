"""Fits of the signal, where noise is additive."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.optimize import least_squares
from scipy.stats import t as student

from oncoscale.core.errors import ModelRefused
from oncoscale.imaging.aif import PlasmaCurve, parker
from oncoscale.imaging.dce import baseline_frames, baseline_noise, sample, to_concentration
from oncoscale.imaging.exchange import exchange, uptake
from oncoscale.imaging.kinetics import KineticFit, fit_curves
from oncoscale.imaging.profile import with_profile
from oncoscale.imaging.quality import bit
from oncoscale.imaging.relaxation import spoiled_signal
from oncoscale.imaging.signal_chain import SignalChain
from oncoscale.imaging.signal_fit import SIGNAL_MODELS, SpoiledEcho, fit_signals

TIMES = np.arange(60) * 5.0
BASELINE = 8
PLASMA = PlasmaCurve(TIMES, parker((TIMES - 5.0 * BASELINE) / 60.0) / 0.58)
SAMPLING = sample(PLASMA, TIMES)
TR, ANGLE, T10, RELAXIVITY = 0.004, 15.0, 1.2, 4.5
ORDINARY = {"ktrans": (0.02, 0.5), "ve": (0.1, 0.6), "vp": (0.0, 0.1)}
STRONG = {"ktrans": (0.3, 1.0), "ve": (0.4, 0.9), "vp": (0.05, 0.2)}


def tissue(count: int, ranges: dict, model: str = "extended-tofts") -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Noise-free signals of random tissue, and what it is made of."""
    random = np.random.default_rng(3)
    truth = {name: random.uniform(*span, count) for name, span in ranges.items()}
    leak, blood = SAMPLING.response, truth["vp"] if model != "tofts" else np.zeros(count)
    rates = np.zeros(count) if model == "patlak" else truth["ktrans"] / truth["ve"]
    curves = [k * leak(rate)[0] + p * SAMPLING.plasma for k, rate, p in zip(truth["ktrans"], rates, blood)]
    return spoiled_signal(1 / T10 + RELAXIVITY * np.array(curves), 1000.0, ANGLE, TR), truth


def echo_of(count: int) -> SpoiledEcho:
    return SpoiledEcho(np.full(count, T10), np.full(count, ANGLE), TR, RELAXIVITY)


def of_signal(signals: np.ndarray, model: str = "extended-tofts", **how: object) -> KineticFit:
    return fit_signals(TIMES, signals, model, PLASMA, echo_of(len(signals)), baseline=BASELINE, **how)


def of_concentration(signals: np.ndarray, model: str = "extended-tofts") -> KineticFit:
    found = to_concentration(signals, T10, fa_deg=ANGLE, tr_s=TR, relaxivity=RELAXIVITY, baseline=BASELINE)
    return with_profile(TIMES, found.values, PLASMA, fit_curves(TIMES, found.values, model, PLASMA))


def chain_of(signals: np.ndarray) -> SignalChain:
    """The chain of a series with these signals (voxels, frames) and nothing else known of it."""
    series = SimpleNamespace(baseline=BASELINE, times_s=TIMES)
    noise = baseline_noise(signals[:, baseline_frames(BASELINE)])
    unused = np.empty(0)
    return SignalChain(series, unused, unused, TR, RELAXIVITY, False, noise, "concentration", None)


@pytest.mark.parametrize("model", SIGNAL_MODELS)
def test_without_noise_both_domains_agree(model):
    """Where the model holds exactly, signal and concentration have the same optimum, to 1e-6."""
    signals, _ = tissue(200, ORDINARY, model)
    ours, theirs = of_signal(signals, model), of_concentration(signals, model)
    assert list(ours.parameters) == list(theirs.parameters)
    for name, values in theirs.parameters.items():
        np.testing.assert_allclose(ours.parameters[name], values, rtol=1e-6, atol=1e-6)


def coverage(fit: KineticFit, name: str, true: np.ndarray, where: np.ndarray) -> float:
    """Share of voxels whose 95 % interval holds the truth."""
    error = np.abs(fit.parameters[name] - true)[where]
    return float(np.mean(error <= student.ppf(0.975, fit.freedom) * fit.errors[name][where]))


@pytest.mark.parametrize("ranges", [ORDINARY, STRONG])
def test_intervals_hold_in_both_domains(ranges):
    """With additive noise of the signal the 95 % intervals of both domains cover 92 to 97 %.

    The concentration inherits the error of the signal before contrast in all its frames. Without that error its
    intervals cover less than 90 %; with it they hold, and the signal's own fit is still no less accurate.
    """
    signals, truth = tissue(3000, ranges)
    noisy = signals + np.random.default_rng(5).normal(0.0, 0.3, signals.shape)
    ours, narrow = of_signal(noisy), of_concentration(noisy)
    everywhere = np.ones(len(noisy), dtype=bool)
    theirs = chain_of(noisy).with_baseline_error(narrow, noisy, echo_of(len(noisy)), PLASMA, everywhere)
    inside = (ours.parameters["vp"] > 0) & (theirs.parameters["vp"] > 0)
    for name, true in truth.items():
        assert 0.93 <= coverage(ours, name, true, inside) <= 0.97, name
        assert 0.92 <= coverage(theirs, name, true, inside) <= 0.97, name
        assert coverage(narrow, name, true, inside) < 0.90, name
        errors = [np.median(np.abs(fit.parameters[name] - true)[inside]) for fit in (ours, theirs)]
        assert errors[0] <= errors[1], name


@pytest.mark.parametrize("model", ["2cum", "2cxm"])
def test_exchange_has_the_error_of_the_baseline_too(model):
    """Its intervals of plasma flow and volume hold the truth in more voxels than the curvature's alone do."""
    true = {"fp": 0.6, "ps": 0.1, "ve": 0.3, "vp": 0.08}
    if model == "2cum":
        curve = uptake(TIMES, PLASMA, true["fp"], true["ps"], true["vp"])
    else:
        curve = exchange(TIMES, PLASMA, *true.values())
    signal = spoiled_signal(1 / T10 + RELAXIVITY * curve, 1000.0, ANGLE, TR)
    noisy = signal + np.random.default_rng(6).normal(0.0, 0.3, (300, len(TIMES)))
    chain, everywhere = chain_of(noisy), np.ones(300, dtype=bool)
    curves = chain.concentration_of(noisy, echo_of(300)).values
    narrow = fit_curves(TIMES, curves, model, PLASMA)
    wide = chain.with_baseline_error(narrow, noisy, echo_of(300), PLASMA, everywhere)
    for name in ("fp", "vp"):
        known = np.isfinite(narrow.errors[name])
        held = [coverage(fit, name, np.full(300, true[name]), known) for fit in (narrow, wide)]
        assert held[0] < held[1], name
        assert held[1] >= 0.90, name


def test_the_optimum_and_its_errors_are_those_of_a_general_solver():
    """Bounded least squares started at the truth ends in the same unknowns with the same covariance."""
    signals, truth = tissue(6, STRONG)
    noisy = signals + np.random.default_rng(8).normal(0.0, 0.3, signals.shape)
    fit = of_signal(noisy)
    for row, signal in enumerate(noisy):

        def residual(unknowns: np.ndarray, signal: np.ndarray = signal) -> np.ndarray:
            s0, ktrans, ve, vp = unknowns
            curve = ktrans * SAMPLING.response(ktrans / ve)[0] + vp * SAMPLING.plasma
            return (spoiled_signal(1 / T10 + RELAXIVITY * curve, 1000.0 * s0, ANGLE, TR) - signal)[1:]

        start = [1.0, *(truth[name][row] for name in truth)]
        found = least_squares(residual, start, x_scale="jac", xtol=1e-14, ftol=1e-14, gtol=1e-14)
        covariance = np.linalg.inv(found.jac.T @ found.jac) * 2 * found.cost / (len(TIMES) - 1 - 4)
        assert [fit.parameters[name][row] for name in truth] == pytest.approx(found.x[1:], rel=1e-5)
        assert [fit.errors[name][row] for name in truth] == pytest.approx(np.sqrt(np.diag(covariance))[1:], rel=1e-3)


def test_slow_exchange_has_the_interval_of_its_profile():
    """Where kep is low, ve is far from normal: the profile covers about 95 %, the curvature less."""
    signals, truth = tissue(2500, {"ktrans": (0.01, 0.03), "ve": (0.3, 0.6), "vp": (0.01, 0.05)})
    noisy = signals + np.random.default_rng(2).normal(0.0, 0.2, signals.shape)
    covered = []
    for profile in (True, False):
        fit = of_signal(noisy, profile=profile)
        low = fit.parameters["kep"] < 0.1
        error = np.abs(fit.parameters["ve"] - truth["ve"])[low]
        covered.append(np.mean(error <= student.ppf(0.975, fit.freedom) * fit.errors["ve"][low]))
    assert 0.93 <= covered[0] <= 0.97
    assert covered[0] > covered[1]


def test_the_first_frame_counts_for_nothing():
    """It is not in the steady state: whatever it holds changes neither the fit nor, with it, the baseline."""
    signals, _ = tissue(20, ORDINARY)
    other = signals.copy()
    other[:, 0] *= 1.3
    fits = [of_signal(one) for one in (signals, other)]
    np.testing.assert_allclose(fits[0].parameters["ktrans"], fits[1].parameters["ktrans"], rtol=1e-9)
    assert fits[0].frames == len(TIMES) - 1


def test_bounds_hold_and_are_flagged():
    """Tissue without blood keeps vp at 0, silent tissue keeps Ktrans at 0; neither becomes negative."""
    signals, _ = tissue(400, {**ORDINARY, "vp": (0.0, 0.0)})
    signals[200:] = signals[200:, :1]
    noisy = signals + np.random.default_rng(4).normal(0.0, 0.3, signals.shape)
    fit = of_signal(noisy)
    assert (fit.parameters["ktrans"] >= 0).all()
    assert (fit.parameters["vp"] >= 0).all()
    at_zero = (fit.flags & bit("vp-at-zero")) != 0
    assert 0.2 < at_zero[:200].mean() < 0.8
    assert (fit.parameters["vp"][at_zero] == 0).all()


def test_threads_do_not_change_a_bit():
    """Voxels are independent: one or three threads give the same bytes."""
    signals, _ = tissue(5000, ORDINARY)
    noisy = signals + np.random.default_rng(6).normal(0.0, 0.3, signals.shape)
    one, three = (of_signal(noisy, threads=threads) for threads in (1, 3))
    for name in one.parameters:
        assert one.parameters[name].tobytes() == three.parameters[name].tobytes()
        assert one.errors[name].tobytes() == three.errors[name].tobytes()


def test_a_saturated_voxel_is_nan_and_disturbs_no_neighbour():
    """A signal without a concentration gives NaN and a flag in its own row alone."""
    signals, _ = tissue(5, ORDINARY)
    broken = signals.copy()
    broken[2, 30], broken[3, 11] = 1e6, np.nan
    clean, found = of_signal(signals), of_signal(broken)
    assert np.isnan(found.parameters["ktrans"][[2, 3]]).all()
    assert (found.flags[[2, 3]] & bit("not-finite")).all()
    assert found.parameters["ve"][[0, 1, 4]].tolist() == clean.parameters["ve"][[0, 1, 4]].tolist()


def test_exchange_is_refused():
    """The two-compartment models are fitted to the concentration alone, and the message says so."""
    with pytest.raises(ModelRefused, match="fit-domain concentration"):
        of_signal(np.ones((1, 60)), "2cxm")
