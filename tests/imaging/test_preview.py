"""The linear preview."""

from __future__ import annotations

import numpy as np
import pytest

from oncoscale.imaging.aif import PlasmaCurve, parker
from oncoscale.imaging.dce import extended_tofts, sample
from oncoscale.imaging.preview import linear_preview

TIMES = np.arange(120) * 2.5
PLASMA = PlasmaCurve(TIMES, parker((TIMES - 15.0) / 60.0) / 0.58)


def curves(count: int, noise: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(2)
    truth = np.stack([rng.uniform(0.02, 0.4, count), rng.uniform(0.15, 0.6, count), rng.uniform(0.0, 0.1, count)])
    rows = np.array([extended_tofts(TIMES, PLASMA, *row) for row in truth.T])
    return rows + rng.normal(0.0, noise, rows.shape), truth


def test_it_is_the_linear_least_squares_solution():
    """Equal to a general solver on Murase's three regressors, with or without threads."""
    rows, _ = curves(50, 0.02)
    made = linear_preview(TIMES, rows, PLASMA, threads=2)
    sampling, steps = sample(PLASMA, TIMES), np.diff(TIMES) / 60.0
    for place, row in enumerate(rows):
        area = np.concatenate([[0.0], np.cumsum(0.5 * steps * (row[1:] + row[:-1]))])
        columns = np.stack([sampling.response(0.0)[0], -area, sampling.plasma], axis=1)
        first, kep, vp = np.linalg.lstsq(columns, row, rcond=None)[0]
        assert made["vp"][place] == pytest.approx(vp, rel=1e-6, abs=1e-9)
        assert made["ktrans"][place] == pytest.approx(first - kep * vp, rel=1e-6)
        assert made["ve"][place] == pytest.approx((first - kep * vp) / kep, rel=1e-6)


def test_it_is_close_without_noise_and_biased_with_it():
    """Why it is a preview: 2 % without noise, far worse with the noise of an examination and slow sampling."""
    rows, truth = curves(200, 0.0)
    assert np.median(np.abs(linear_preview(TIMES, rows, PLASMA)["ktrans"] / truth[0] - 1)) < 0.02
    few = slice(None, None, 4)
    noisy, truth = curves(200, 0.05)
    assert np.median(np.abs(linear_preview(TIMES[few], noisy[:, few], PLASMA)["ktrans"] / truth[0] - 1)) > 0.08


def test_a_curve_with_a_gap_has_no_preview():
    """NaN in, NaN out; its neighbours are not touched."""
    rows, _ = curves(3, 0.0)
    rows[1, 5] = np.nan
    assert np.isnan(linear_preview(TIMES, rows, PLASMA)["ktrans"]).tolist() == [False, True, False]
