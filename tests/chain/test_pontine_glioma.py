"""The second disease from images to contours, with radiotherapy: the same commands, another tumour."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from oncoscale.app.run_folder import read_run
from oncoscale.meshing.write import read_step
from oncoscale.sim.treatments.radiotherapy import PONTINE
from oncoscale.sim.tumours.dipg import ALPHA

SMALL = ("--elements", 4, "--cells", 60, "--members", 1, "--no-effects", "--days", 7)


@pytest.fixture(scope="module")
def run(oncoscale, workplace, consent):
    """A coarse patient's first visit, 54 Gy begun, a week."""
    patient, store, out = workplace / "head", workplace / "store-head", workplace / "run-head"
    assert oncoscale("phantom", "--out", patient, "--tumour", "dipg", "--quick")["code"] == 0
    visit = oncoscale("ingest", patient / "visit-1", "--store", store, "--subject", "0007", "--consent", consent)
    (workplace / "pontine.toml").write_text(PONTINE)
    asked = ("forecast", visit["study"], "--store", store, "--tumour", "dipg", "--out", out, *SMALL)
    answer = oncoscale(*asked, "--treatment", workplace / "pontine.toml")
    assert answer["code"] == 0, answer
    return Path(out)


def test_a_tumour_without_a_border_goes_through_the_chain(run):
    """The outlined volume is the first; every day has regions of its own and contours; alpha is the disease's."""
    stored = read_run(run)
    forecast = stored.forecast
    assert forecast.volumes[0, 0] == pytest.approx(forecast.measured[0][1], rel=0.08)
    assert [one["alpha"] for one in forecast.recipe["treatment"]["fractions"]] == [ALPHA.value] * 30
    assert forecast.states[-1].volume == pytest.approx(forecast.volumes[0, -1], rel=1e-6)
    regions = [read_step(run / "tissue.vtkhdf", number).cell_data["region"] for number in (0, 1)]
    assert np.array_equal(regions[0], forecast.states[0].reference.region)
    assert not np.array_equal(*regions)
    assert (run / "contours" / "contour-day-007.dcm").exists()
    words = (run / "report.html").read_text()
    assert "cells are assumed beyond" in words
