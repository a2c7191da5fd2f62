"""From signal to concentration, and the forward models."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

from oncoscale.core.errors import ModelRefused
from oncoscale.imaging.aif import PlasmaCurve, parker, population_curve
from oncoscale.imaging.dce import (
    bolus_arrival,
    convolve,
    extended_tofts,
    patlak,
    to_concentration,
    tofts,
)
from oncoscale.imaging.quality import bit
from oncoscale.imaging.relaxation import spoiled_signal

TIMES = np.arange(60) * 5.0
PLASMA = PlasmaCurve(TIMES, parker((TIMES - 15.0) / 60.0) / 0.58)
rates, fractions = st.floats(0.01, 1.0), st.floats(0.02, 0.9)


def osipi_signals(folder):
    with (folder / "osipi-dce/SI_to_Conc/SI2Conc_data.csv").open(encoding="utf-8-sig") as handle:
        for row in csv.DictReader(handle):
            chain = {
                "fa_deg": float(row["FA"]),
                "tr_s": float(row["TR"]),
                "relaxivity": float(row["r1"]),
                "baseline": int(float(row["numbaselinepts"])),
            }
            yield np.array(row["s"].split(), float), float(row["T1base"]), chain, np.array(row["conc"].split(), float)


def test_the_osipi_concentrations_are_met(shared):
    """All five curves agree to 1e-12 mmol/L: the first baseline point is left out."""
    errors = [
        np.abs(to_concentration(signal, t1, **chain).values[0] - reference).max()
        for signal, t1, chain, reference in osipi_signals(shared)
    ]
    assert len(errors) == 5
    assert max(errors) < 1e-12


def test_a_baseline_of_all_points_is_wrong(shared):
    """Why the first point is left out: with it the concentrations err by up to 0.43 mmol/L."""
    errors = [
        np.abs(to_concentration(signal, t1, **chain, all_points=True).values[0] - reference).max()
        for signal, t1, chain, reference in osipi_signals(shared)
    ]
    assert max(errors) > 0.4


@settings(max_examples=30, deadline=None)
@given(t1=st.floats(0.3, 3.5), angle=st.floats(5.0, 40.0), peak=st.floats(0.01, 3.0))
def test_concentration_inverts_the_signal_equation(t1, angle, peak):
    """Signal made from a concentration returns it, negative values included."""
    truth = np.concatenate([np.zeros(5), [peak, 0.5 * peak, -0.01]])
    signal = spoiled_signal(1 / t1 + 4.5 * truth, 1000.0, angle, 0.004)
    found = to_concentration(signal, t1, fa_deg=angle, tr_s=0.004, relaxivity=4.5, baseline=5)
    assert found.values[0] == pytest.approx(truth, abs=1e-8)
    assert found.flags[0] == 0


def test_saturated_signal_has_no_concentration():
    """A signal above S0 sin(a) is impossible at any concentration: NaN and a flag, not the largest value."""
    signal = np.array([100.0, 100.0, 100.0, 150.0, 1e5, 120.0])
    found = to_concentration(signal, 1.0, fa_deg=20.0, tr_s=0.005, relaxivity=4.5, baseline=3)
    assert np.isnan(found.values[0]).tolist() == [False, False, False, False, True, False]
    assert found.flags[0] == bit("saturated")


def test_the_baseline_tells_the_noise():
    """The concentration noise is the signal noise times the slope of the chain."""
    rng = np.random.default_rng(4)
    clean = spoiled_signal(1.0, 1000.0, 20.0, 0.005)
    signal = clean + rng.normal(0.0, 2.0, (4000, 12))
    found = to_concentration(signal, 1.0, fa_deg=20.0, tr_s=0.005, relaxivity=4.5, baseline=11)
    assert np.median(found.noise) == pytest.approx(found.values[:, :11].std(), rel=0.05)


def test_arrival_is_the_first_of_two_high_frames():
    """One high frame is noise, two are the bolus; a flat curve has none."""
    curve = 100 + 0.5 * np.sin(np.arange(40.0))
    curve[7] += 30
    curve[20:] += 80
    assert bolus_arrival(curve) == 20
    with pytest.raises(ModelRefused, match="no bolus"):
        bolus_arrival(np.full(40, 100.0))


@pytest.mark.parametrize("k", [0.0, 1e-4, 0.05, 2.0, 30.0])
def test_the_convolution_is_exact_for_a_broken_line(k):
    """X(t) equals the numerical integral of the interpolated curve, for uneven steps too."""
    minutes = np.sort(np.random.default_rng(2).uniform(0, 5, 40))
    curve = parker(minutes)
    found = convolve(minutes, curve, k)[0]
    for i in (5, 20, 39):

        def integrand(s: float, end: float = minutes[i]) -> float:
            return float(np.interp(s, minutes, curve) * np.exp(-k * (end - s)))

        integral = sum(quad(integrand, minutes[j], minutes[j + 1], epsabs=1e-12)[0] for j in range(i))
        assert found[i] == pytest.approx(integral, abs=1e-9)


@pytest.mark.parametrize("k", [1e-3, 0.1, 3.0, 30.0])
def test_the_derivative_by_the_rate_is_right(k):
    """dX/dk equals the central difference."""
    minutes = TIMES / 60
    curve, step = parker(minutes), 1e-5 * k
    difference = (convolve(minutes, curve, k + step)[0] - convolve(minutes, curve, k - step)[0]) / (2 * step)
    assert np.abs(convolve(minutes, curve, k)[1] - difference).max() < 1e-7 * np.abs(difference).max()


def test_samples_between_frames_are_not_lost():
    """A curve sampled finely gives at coarse frames what it gives at fine ones."""
    plasma = population_curve("weinmann", 400.0).delayed(7.3)
    fine, coarse = np.arange(0.0, 300.0, 0.5), np.arange(0.0, 300.0, 25.0)
    assert extended_tofts(coarse, plasma, 0.2, 0.3, 0.05) == pytest.approx(
        extended_tofts(fine, plasma, 0.2, 0.3, 0.05)[::50], abs=1e-12
    )


@settings(max_examples=25, deadline=None)
@given(ktrans=rates, ve=fractions, vp=st.floats(0.0, 0.3), scale=st.floats(0.2, 5.0))
def test_limits_of_the_models(ktrans, ve, vp, scale):
    """Scaling Cp scales Ktrans, ve, vp inversely; no plasma is Tofts; kep to 0 is Patlak."""
    scaled = PlasmaCurve(TIMES, scale * PLASMA.concentration)
    reference = extended_tofts(TIMES, PLASMA, ktrans, ve, vp)
    assert extended_tofts(TIMES, scaled, ktrans / scale, ve / scale, vp / scale) == pytest.approx(reference, abs=1e-10)
    assert extended_tofts(TIMES, PLASMA, ktrans, ve, 0.0) == pytest.approx(tofts(TIMES, PLASMA, ktrans, ve), abs=1e-14)
    assert extended_tofts(TIMES, PLASMA, ktrans, 1e9 * ktrans, vp) == pytest.approx(
        patlak(TIMES, PLASMA, ktrans, vp), rel=1e-6, abs=1e-9
    )
