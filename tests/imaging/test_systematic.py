"""The systematic part of the errors of a region."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from oncoscale.core.errors import ConfigurationRejected
from oncoscale.imaging.aif import population_curve
from oncoscale.imaging.dce import sample
from oncoscale.imaging.quantify import Quantified, QuantifySettings, quantify
from oncoscale.imaging.relaxation import spoiled_signal
from oncoscale.imaging.study import Grid, ImagingStudy, LabelImage, ParametricMap, Series, Sourced
from oncoscale.imaging.systematic import (
    B1_MAPPED_WIDTH,
    EXACT,
    HAEMATOCRIT_LIMITS,
    SOURCES,
    Draw,
    Widths,
    draws_of,
    random_error_of_median,
    sample_of,
    spreads,
)

SHAPE = (16, 12, 3)
TIMES, HAEMATOCRIT, DRAWS = np.arange(60) * 5.0, 0.42, 50
ANGLES = (2.0, 5.0, 10.0, 20.0)
GRID = Grid(SHAPE, np.diag([1.0, 1.0, 3.0, 1.0]), "1.2.9")


def study(*, angles: bool = False) -> ImagingStudy:
    """A small visit, hardly noisy: 60 frames, a tumour, and on request a series of flip angles."""
    random = np.random.default_rng(1)
    curve = population_curve("parker", 400.0)
    sampling = sample(curve.plasma(HAEMATOCRIT).delayed(30.0), TIMES)
    kinetics = zip(*(random.uniform(*span, np.prod(SHAPE)) for span in ((0.05, 0.3), (0.2, 0.5), (0.02, 0.06))))
    curves = np.array([k * sampling.response(k / e)[0] + p * sampling.plasma for k, e, p in kinetics])
    signals = spoiled_signal(1 / 1.2 + 4.5 * curves, 1000.0, 15.0, 0.004) + random.normal(0, 0.05, curves.shape)
    tumour = np.zeros(SHAPE, dtype=np.uint8)
    tumour[3:13, 2:10] = 1
    about = {"tr_s": Sourced(0.004), "fa_deg": Sourced(15.0)}
    dynamic = Series(
        "1.2.4", "dynamic", "d", "MR", GRID, signals.T.reshape(60, *SHAPE), times_s=TIMES, acquisition=about
    )
    flips = np.stack([np.broadcast_to(spoiled_signal(1 / 1.2, 1000.0, one, 0.004), SHAPE) for one in ANGLES])
    vfa = Series("1.2.5", "vfa", "v", "MR", GRID, flips, acquisition={**about, "fa_deg": Sourced(ANGLES)})
    return ImagingStudy("1.2.3", (dynamic, *((vfa,) if angles else ())), (LabelImage(GRID, tumour, {1: "tumour"}),))


def asked(widths: Widths, **about: object) -> QuantifySettings:
    stated = {"t1": 1.2, "relaxivity": 4.5, "haematocrit": HAEMATOCRIT, "delay_s": 30.0, "dce_model": "extended-tofts"}
    return QuantifySettings(**(stated | {"systematic": DRAWS, "widths": widths, "threads": 1} | about))


def only(source: str, width: float) -> Widths:
    return replace(EXACT, **{source: width})


def told(made: Quantified, name: str = "ktrans") -> dict:
    return made.summary["uncertainty"]["parameters"][name]


def test_relaxivity_alone_scales_as_its_inverse():
    """C, and with it Ktrans and vp, are 1/r1 times what they are: the relative spread is that of 1/r1; kep stays."""
    widths = only("relaxivity", 0.12)
    made = quantify(study(), asked(widths))
    inverse = 1.0 / np.array([draw.relaxivity for draw in draws_of(widths, DRAWS, HAEMATOCRIT, seed=1)])
    for name in ("ktrans", "ve", "vp"):
        spread = told(made, name)
        assert spread["systematic_sd"] / spread["median"] == pytest.approx(inverse.std(ddof=1), rel=1e-4)
        assert np.array(spread["interval"]) / spread["median"] == pytest.approx(
            np.percentile(inverse, (2.5, 97.5)), rel=1e-4
        )
        assert spread["share"] == {"relaxivity": pytest.approx(1.0)}
    assert told(made, "kep")["systematic_sd"] < 1e-4 * told(made, "kep")["median"]


def test_haematocrit_alone_scales_as_its_complement():
    """Cp = Cb/(1 - h), so Ktrans, ve and vp are proportional to 1 - h."""
    widths = only("haematocrit", 0.05)
    made = quantify(study(), asked(widths))
    share = 1.0 - np.array([draw.haematocrit for draw in draws_of(widths, DRAWS, HAEMATOCRIT, seed=1)])
    for name in ("ktrans", "ve", "vp"):
        spread = told(made, name)
        expected = share.std(ddof=1) / (1.0 - HAEMATOCRIT)
        assert spread["systematic_sd"] / spread["median"] == pytest.approx(expected, rel=1e-4)


def test_what_is_known_exactly_has_no_systematic_part():
    """All widths 0: the spread is 0, and the random part remains."""
    spread = told(quantify(study(), asked(EXACT)))
    assert spread["systematic_sd"] == 0.0
    assert spread["interval"] == [spread["median"]] * 2
    assert spread["random_sd"] > 0.0
    assert spread["share"] == {}


def test_same_seed_same_bits_on_any_number_of_threads():
    """Draws are named and voxels independent: threads change nothing, another seed does."""
    visit, widths = study(angles=True), replace(EXACT, b1=0.1, t10=0.1, aif=0.1)
    one, three, other = (
        quantify(visit, asked(widths, t1="vfa", threads=threads, seed=seed)).summary["uncertainty"]
        for threads, seed in ((1, 1), (3, 1), (1, 2))
    )
    assert one == three
    assert one["parameters"]["ktrans"]["systematic_sd"] != other["parameters"]["ktrans"]["systematic_sd"]


def test_shares_add_up_and_name_every_source():
    """Each source that counts is told; shares sum to one, the whole is near the root of the sum of squares."""
    spread = told(quantify(study(), asked(Widths())))
    assert set(spread["alone"]) == set(SOURCES) - {"blood_t1"}
    assert sum(spread["share"].values()) == pytest.approx(1.0)
    together = np.sqrt(sum(one**2 for one in spread["alone"].values()))
    assert spread["systematic_sd"] == pytest.approx(together, rel=0.3)
    assert spread["systematic_sd"] > 5.0 * spread["random_sd"]


def test_the_flip_angle_moves_t1_with_it_where_t1_rests_on_angles():
    """An angle f times larger is a T1 of 1/f² where T1 rests on angles: Ktrans moves far more than with T1 stated."""
    widths = only("b1", 0.1)
    measured = told(quantify(study(angles=True), asked(widths, t1="vfa")))
    stated = told(quantify(study(angles=True), asked(widths)))
    assert measured["systematic_sd"] > 2.0 * stated["systematic_sd"]


def test_what_the_study_does_not_rest_on_is_left_out():
    """A curve in plasma knows no haematocrit; a B1 map narrows the flip angle; what was used is written down."""
    flat = ParametricMap("b1", "1", GRID, np.ones(SHAPE), np.zeros(SHAPE, dtype=np.uint32))
    made = quantify(replace(study(), maps=(flat,)), asked(Widths(delay_s=0.0), aif="weinmann"))
    used = made.summary["uncertainty"]["widths"]
    assert (used["haematocrit"], used["blood_t1"], used["delay_s"]) == (0.0, 0.0, 0.0)
    assert used["b1"] == B1_MAPPED_WIDTH.value
    assert set(told(made)["alone"]) == {"t10", "relaxivity", "b1", "aif"}


def test_relaxivity_cancels_where_the_input_function_is_measured():
    """Blood and tissue of the same images are divided by the same r1: Ktrans depends on T1 of blood, not on r1."""
    visit = study()
    signals = visit.series[0].values.copy()
    blood = population_curve("parker", 400.0).delayed(30.0).at(TIMES)
    signals[:, :2, :2, :] = spoiled_signal(1 / 1.44 + 4.5 * blood, 1000.0, 15.0, 0.004)[:, None, None, None]
    visit = replace(visit, series=(replace(visit.series[0], values=signals),))
    spread = told(quantify(visit, asked(replace(only("relaxivity", 0.1), blood_t1=0.05), aif="measured", delay_s=0.0)))
    assert spread["alone"]["relaxivity"] < 1e-3 * spread["median"]
    assert spread["alone"]["blood_t1"] > 0.02 * spread["median"]


def test_the_signal_domain_is_repeated_in_the_signal_domain():
    """The fits that are repeated are those of the maps: with everything exact their median is that of the map."""
    made = quantify(study(), asked(EXACT, fit_domain="signal"))
    assert made.summary["uncertainty"]["fit_domain"] == "signal"
    assert told(made)["median"] == pytest.approx(made.summary["maps"]["ktrans"]["median"], rel=1e-6)


def test_draws_are_stratified_within_their_limits():
    """Every source takes each of its quantiles once: the spread of the draws is the width that was asked for."""
    draws = draws_of(Widths(haematocrit=0.2), 200, HAEMATOCRIT, seed=3)
    logs = np.log([draw.t10 for draw in draws])
    assert logs.mean() == pytest.approx(0.0, abs=1e-3)
    assert logs.std(ddof=1) == pytest.approx(Widths().t10, rel=0.02)
    haematocrits = np.array([draw.haematocrit for draw in draws])
    assert HAEMATOCRIT_LIMITS[0] < haematocrits.min()
    assert haematocrits.max() < HAEMATOCRIT_LIMITS[1]
    assert abs(np.corrcoef(logs, np.log([draw.aif for draw in draws]))[0, 1]) < 0.2


def test_a_sum_of_independent_sources_is_shared_as_its_variances():
    """For a parameter that is linear in two shifts the shares are the ratio of their variances, the whole their sum."""

    def fit(draw: Draw) -> dict[str, np.ndarray]:
        return {"x": np.full(9, 5.0 + 3.0 * draw.delay_s + 100.0 * (draw.haematocrit - HAEMATOCRIT))}

    widths = replace(EXACT, delay_s=1.0, haematocrit=0.01)
    rows = np.ones(9, dtype=bool)
    found = spreads(fit, {"x": np.full(9, 0.1)}, {"x": rows}, widths, draws=400, haematocrit=HAEMATOCRIT, seed=1, of=9)[
        "x"
    ]
    assert found.share["delay_s"] == pytest.approx(0.9, abs=0.01)
    assert found.systematic_sd == pytest.approx(np.sqrt(10.0), rel=0.1)


def test_the_random_part_falls_with_the_number_of_voxels():
    """The median of n normal values errs by 1.253 sd/sqrt(n); a sample of a larger region is told as the region."""
    values, errors = np.zeros(2000), np.full(2000, 0.5)
    found = random_error_of_median(values, errors, draws=400, seed=1, name="x", of=2000)
    assert found == pytest.approx(1.2533 * 0.5 / np.sqrt(2000), rel=0.1)
    larger = random_error_of_median(values, errors, draws=400, seed=1, name="x", of=8000)
    assert larger == pytest.approx(found / 2)


def test_a_large_region_is_sampled_evenly():
    """At most so many voxels, first and last among them, none twice."""
    rows = sample_of(100_000)
    assert len(rows) == 2000
    assert (rows[0], rows[-1]) == (0, 99_999)
    assert len(np.unique(rows)) == 2000
    assert sample_of(7).tolist() == list(range(7))


def test_few_draws_and_negative_widths_are_refused():
    """A spread of few draws is none; a width below 0 has no meaning."""
    with pytest.raises(ConfigurationRejected, match="at least 50"):
        QuantifySettings(systematic=10)
    with pytest.raises(ConfigurationRejected, match=r"haematocrit -0\.1"):
        Widths(haematocrit=-0.1)
