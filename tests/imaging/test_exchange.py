"""Two-compartment exchange and uptake: forward models, fits, maps, the choice of a model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import least_squares
from scipy.stats import t as student

from oncoscale.core.errors import ConfigurationRejected, ModelRefused
from oncoscale.imaging.aif import PlasmaCurve, in_plasma, parker, population_curve
from oncoscale.imaging.curves import fit_table, read_table
from oncoscale.imaging.dce import bolus_foot, extended_tofts, patlak
from oncoscale.imaging.delay import fit_delayed
from oncoscale.imaging.exchange import exchange, rates_and_amplitudes, tissue, uptake
from oncoscale.imaging.kinetic_maps import CODES
from oncoscale.imaging.kinetics import best_model, fit_curves
from oncoscale.imaging.profile import ve_interval, with_profile
from oncoscale.imaging.quality import bit
from oncoscale.imaging.quantify import QuantifySettings, quantify
from oncoscale.imaging.relaxation import spoiled_signal
from oncoscale.imaging.study import Grid, ImagingStudy, LabelImage, Series, Sourced

TIMES = np.arange(160) * 1.5
PLASMA = PlasmaCurve(TIMES, parker((TIMES - 15.0) / 60.0) / 0.58)
flows, exchanges, volumes = st.floats(0.1, 2.0), st.floats(0.01, 0.4), st.floats(0.05, 0.5)
RANGES = {"fp": (0.3, 0.8), "ps": (0.05, 0.2), "ve": (0.15, 0.4), "vp": (0.05, 0.12)}


def synthetic(count: int, sd: float, model: str = "2cxm", seed: int = 3) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    truth = {name: rng.uniform(low, high, count) for name, (low, high) in RANGES.items()}
    if model == "2cum":
        truth["ve"] = np.full(count, np.inf)
    curves = np.array([exchange(TIMES, PLASMA, *values) for values in zip(*truth.values())])
    return curves + rng.normal(0.0, sd, curves.shape), truth


@settings(max_examples=40, deadline=None)
@given(fp=flows, ps=exchanges, ve=volumes, vp=st.floats(0.01, 0.2))
def test_a_tissue_is_its_two_exponentials(fp, ps, ve, vp):
    """The rates and amplitudes of a tissue give that tissue back."""
    fast, slow, b_fast, b_slow = rates_and_amplitudes(fp, ps, ve, vp)
    assert fast > slow > 0
    assert min(b_fast, b_slow) >= 0
    found = tissue(*(np.array([value]) for value in (b_fast, b_slow, fast, slow)))
    assert [found[name][0] for name in ("fp", "ps", "ve", "vp")] == pytest.approx([fp, ps, ve, vp], rel=1e-6)
    assert found["ktrans"][0] == pytest.approx(fp * ps / (fp + ps), rel=1e-6)


@settings(max_examples=20, deadline=None)
@given(fp=flows, ps=exchanges, ve=volumes, vp=st.floats(0.01, 0.2), scale=st.floats(0.3, 3.0))
def test_limits_of_the_models(fp, ps, ve, vp, scale):
    """Exchange without return is uptake, with endless flow extended Tofts; uptake with endless flow is Patlak; with
    Cp scaled up everything is scaled down.
    """
    reference = exchange(TIMES, PLASMA, fp, ps, ve, vp)
    assert exchange(TIMES, PLASMA, fp, ps, 1e9, vp) == pytest.approx(uptake(TIMES, PLASMA, fp, ps, vp), abs=1e-7)
    assert exchange(TIMES, PLASMA, 1e7, ps, ve, vp) == pytest.approx(
        extended_tofts(TIMES, PLASMA, ps, ve, vp), abs=1e-4
    )
    assert uptake(TIMES, PLASMA, 1e7, ps, vp) == pytest.approx(patlak(TIMES, PLASMA, ps, vp), abs=1e-4)
    scaled = PlasmaCurve(TIMES, scale * PLASMA.concentration)
    assert exchange(TIMES, scaled, *(value / scale for value in (fp, ps, ve, vp))) == pytest.approx(reference, abs=1e-9)


@pytest.mark.parametrize("model", ["2cxm", "2cum"])
def test_noise_free_curves_are_inverted(model):
    """Without noise the parameters come back to 1e-5 of themselves."""
    curves, truth = synthetic(40, 0.0, model)
    fit = fit_curves(TIMES, curves, model, PLASMA, threads=1)
    for name, true in truth.items():
        if name in fit.parameters:
            assert fit.parameters[name] == pytest.approx(true, rel=1e-5), name
    assert not np.any(fit.flags & bit("one-compartment"))


def test_the_optimum_and_the_errors_are_those_of_a_general_solver():
    """Bounded least squares started at the truth finds no better sum of squares, and the same standard errors."""
    curves, truth = synthetic(6, 0.01)
    fit = fit_curves(TIMES, curves, "2cxm", PLASMA, threads=1)
    for row, curve in enumerate(curves):
        found = least_squares(
            lambda p, c=curve: exchange(TIMES, PLASMA, *p) - c,
            [truth[name][row] for name in RANGES],
            bounds=(1e-6, [5.0, 5.0, 5.0, 1.0]),
            xtol=1e-14,
            ftol=1e-14,
            gtol=1e-14,
        )
        assert fit.rss[row] <= 2 * found.cost * (1 + 1e-7)
        covariance = np.linalg.inv(found.jac.T @ found.jac) * 2 * found.cost / (len(TIMES) - 4)
        for column, name in enumerate(RANGES):
            assert fit.errors[name][row] == pytest.approx(np.sqrt(covariance[column, column]), rel=0.02), name


@pytest.mark.parametrize(("model", "low"), [("2cxm", 0.92), ("2cum", 0.92)])
def test_intervals_cover(model, low):
    """95 % intervals of all parameters cover the truth in 92 to 98 % of noisy curves."""
    curves, truth = synthetic(500, 0.01, model, seed=9)
    fit = fit_curves(TIMES, curves, model, PLASMA, threads=1)
    width = student.ppf(0.975, len(TIMES) - 4)
    truth["ktrans"] = truth["fp"] * truth["ps"] / (truth["fp"] + truth["ps"])
    for name, values in fit.parameters.items():
        covered = np.abs(values - truth[name]) <= width * fit.errors[name]
        assert low <= covered.mean() <= 0.98, name


def test_what_two_compartments_cannot_tell_is_flagged():
    """A single exponential, a flow too fast to see, a return too slow to see: a flag each."""
    one = fit_curves(TIMES, extended_tofts(TIMES, PLASMA, 0.4, 0.3, 0.0), "2cxm", PLASMA)
    assert one.flags[0] & bit("one-compartment")
    fast = fit_curves(TIMES, extended_tofts(TIMES, PLASMA, 0.2, 0.3, 0.05), "2cxm", PLASMA)
    assert fast.flags[0] & bit("flow-at-limit")
    still = fit_curves(TIMES, uptake(TIMES, PLASMA, 0.5, 0.1, 0.05), "2cxm", PLASMA)
    assert still.flags[0] & bit("kep-at-limit")
    assert np.isfinite(still.parameters["ve"][0])


def test_threads_do_not_change_a_bit():
    """One thread or three: the same bytes."""
    curves, _ = synthetic(5000, 0.02)
    curves = curves[:, ::4]
    plasma = PlasmaCurve(TIMES, PLASMA.concentration)
    one, three = (fit_curves(TIMES[::4], curves, "2cxm", plasma, threads=threads) for threads in (1, 3))
    for name, values in one.parameters.items():
        assert values.tobytes() == three.parameters[name].tobytes()
        assert one.errors[name].tobytes() == three.errors[name].tobytes()


def test_each_curve_gets_its_own_delay():
    """Curves that lag by different times come back with their delays; one that is not finite gets none."""
    lags = (0.0, 2.6, -3.0, 7.0)
    curves = np.array([extended_tofts(TIMES, PLASMA.delayed(lag), 0.2, 0.3, 0.05) for lag in lags] + [TIMES * np.nan])
    fit, delays = fit_delayed(TIMES, curves, "extended-tofts", PLASMA, threads=1)
    assert delays[:4] == pytest.approx(lags, abs=0.051)
    assert np.isnan(delays[4])
    assert fit.parameters["ktrans"][:4] == pytest.approx(0.2, rel=0.02)
    with pytest.raises(ModelRefused, match="earliest before latest"):
        fit_delayed(TIMES, curves, "tofts", PLASMA, delays_s=(3.0, -3.0))


def test_akaike_picks_the_two_compartments():
    """Among all five models noisy exchange and uptake curves are told from each other and from extended Tofts."""
    order = ("tofts", "patlak", "extended-tofts", "2cum", "2cxm")
    rng = np.random.default_rng(1)
    vascular = np.array(
        [extended_tofts(TIMES, PLASMA, *row) for row in rng.uniform((0.1, 0.2, 0.04), (0.3, 0.4, 0.1), (150, 3))]
    )
    for right, curves in (
        ("2cxm", synthetic(150, 0.01)[0]),
        ("2cum", synthetic(150, 0.01, "2cum")[0]),
        ("extended-tofts", vascular + rng.normal(0.0, 0.01, vascular.shape)),
    ):
        picked = best_model([fit_curves(TIMES, curves, model, PLASMA, threads=1) for model in order])
        assert np.mean(np.array(order)[picked] == right) >= 0.9, right


def test_a_perfect_fit_prefers_the_fewest_parameters():
    """Without noise the richer models only fit the rounding: the simplest that fits is preferred."""
    order = ("tofts", "patlak", "extended-tofts")
    curve = extended_tofts(TIMES, PLASMA, 0.2, 0.3, 0.0)
    assert best_model([fit_curves(TIMES, curve, model, PLASMA) for model in order])[0] == 0


def test_the_profile_covers_where_the_curvature_does_not():
    """With kep below 0.1 per minute the curvature's interval of ve covers too seldom, the profile's in 93 to 98 %."""
    times = np.arange(60) * 5.0
    plasma = PlasmaCurve(times, parker((times - 15.0) / 60.0) / 0.58)
    clean = np.array([extended_tofts(times, plasma, ktrans, 0.5, 0.04) for ktrans in np.linspace(0.02, 0.045, 600)])
    curves = clean + np.random.default_rng(2).normal(0.0, 0.02, clean.shape)
    fit = fit_curves(times, curves, "extended-tofts", plasma, threads=1)
    width = student.ppf(0.975, len(times) - 3)
    low, high = ve_interval(times, curves, plasma, fit)
    covered = np.mean(np.abs(fit.parameters["ve"] - 0.5) <= width * fit.errors["ve"])
    assert covered < 0.92
    assert 0.93 <= np.mean((low <= 0.5) & (high >= 0.5)) <= 0.98
    profiled = with_profile(times, curves, plasma, fit)
    slow = fit.parameters["kep"] < 0.1
    assert profiled.errors["ve"][slow] == pytest.approx((high - low)[slow] / (2 * width))
    assert np.array_equal(profiled.errors["ve"][~slow], fit.errors["ve"][~slow], equal_nan=True)


def test_the_foot_of_a_curve_is_where_it_leaves_its_noise():
    """The foot lies at the last frame without contrast, before the arrival by its share of the rise."""
    rng = np.random.default_rng(0)
    curve = np.concatenate([np.zeros(30), [0.02, 0.1, 0.5, 2.0, 5.0, 4.0, 2.0], np.full(20, 1.0)])
    assert bolus_foot(curve + rng.normal(0.0, 1e-4, curve.shape)) == 30
    assert bolus_foot(np.linspace(5.0, 1.0, 30)) is None


SHAPE = (9, 8, 2)
GRID = Grid(SHAPE, np.diag([1.0, 1.0, 3.0, 1.0]), "1.2.9")
SETTINGS = QuantifySettings(haematocrit=0.4, relaxivity=4.5, t1=1.2, threads=1)


@pytest.fixture(scope="module")
def truth() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    return {name: rng.uniform(low, high, SHAPE) for name, (low, high) in RANGES.items()}


@pytest.fixture(scope="module")
def study(truth) -> ImagingStudy:
    """A visit whose tissue exchanges between two compartments, one frame every 1.5 s, hardly any noise."""
    plasma = in_plasma(population_curve("parker", 400.0), 0.4).delayed(30.0)
    curves = np.empty((len(TIMES), *SHAPE))
    for place in np.ndindex(*SHAPE):
        curves[(slice(None), *place)] = exchange(TIMES, plasma, *(truth[name][place] for name in RANGES))
    signal = spoiled_signal(1 / 1.2 + 4.5 * curves, 1000.0, 15.0, 0.004)
    signal += np.random.default_rng(6).normal(0.0, 0.02, signal.shape)
    about = {"tr_s": Sourced(0.004), "fa_deg": Sourced(15.0)}
    dynamic = Series("1.2.1", "dynamic", "d", "MR", GRID, signal.astype(np.float32), times_s=TIMES, acquisition=about)
    labels = LabelImage(GRID, np.ones(SHAPE, dtype=np.uint8), {1: "tumour"})
    return ImagingStudy("1.2.3", (dynamic,), (labels,))


@pytest.mark.parametrize("model", ["2cxm", "auto"])
def test_maps_of_exchange(study, truth, model):
    """Fp, PS, ve, vp and Ktrans = E Fp come back within 5 % (median) with errors; auto chooses exchange."""
    found = quantify(study, replace(SETTINGS, dce_model=model, delay_s=30.0))
    for name, true in {**truth, "ktrans": truth["fp"] * truth["ps"] / (truth["fp"] + truth["ps"])}.items():
        values = found.maps[name].values
        assert np.nanmedian(np.abs(values / true - 1)) < 0.05, name
        assert np.isfinite(values).mean() > 0.9, name
        assert np.nanmedian(found.maps[f"{name}_error"].values) > 0
    assert (found.maps["fp"].unit, found.maps["ps"].unit) == ("1/min", "1/min")
    assert ("model" in found.maps) == (model == "auto")
    if model == "auto":
        assert np.mean(found.maps["model"].values == CODES["2cxm"]) > 0.9


def test_frames_too_far_apart_for_flow_are_refused(study, tmp_path):
    """Above 3 s between frames the two-compartment models are refused, in maps and in tables; auto leaves them out."""
    dynamic = study.series[0]
    slow = replace(study, series=(replace(dynamic, values=dynamic.values[::3], times_s=TIMES[::3]),))
    with pytest.raises(ModelRefused, match=r"slow-sampling.*4.5 s.*extended-tofts"):
        quantify(slow, replace(SETTINGS, dce_model="2cum"))
    found = quantify(slow, replace(SETTINGS, delay_s=30.0))
    assert "fp" not in found.maps
    assert set(np.unique(found.maps["model"].values)) <= {1.0, 2.0, 3.0}
    path = tmp_path / "curves.csv"
    path.write_text("t,a\n" + "".join(f"{4 * frame},{frame / 20}\n" for frame in range(20)))
    with pytest.raises(ModelRefused, match="slow-sampling"):
        fit_table(read_table(path), "2cxm", "parker")
    with pytest.raises(ConfigurationRejected, match="2cxm"):
        fit_table(read_table(path), "3cxm", "parker")


def test_one_compartment_does_not_pass_for_plasma_without_exchange():
    """Tofts curves, even with a misfit that a richer model takes up, keep Tofts: no voxel gets a Ktrans of 0."""
    order = ("tofts", "patlak", "extended-tofts", "2cum", "2cxm")
    curves = np.array([extended_tofts(TIMES, PLASMA, 0.2, ve, 0.0) for ve in np.linspace(0.02, 0.2, 20)])
    curves += patlak(TIMES, PLASMA, 0.001, 0.0)
    fits = [fit_curves(TIMES, curves, model, PLASMA, threads=1) for model in order]
    bare = np.argmin([fit.aicc for fit in fits], axis=0)
    told = best_model(fits)
    assert (bare >= 3).any()
    assert np.array([fit.parameters.get("ktrans", np.zeros(20)) for fit in fits])[told, np.arange(20)].min() > 0.1
