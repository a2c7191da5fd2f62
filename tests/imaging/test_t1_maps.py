"""T1 maps of a study: the mouse with six flip angles, its B1 map, and the T1 map that its authors made."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from oncoscale.core.errors import ConfigurationRejected, ModelRefused
from oncoscale.imaging.dicom_read import read_study
from oncoscale.imaging.quantify import QuantifySettings, quantify
from oncoscale.imaging.relaxation import fit_t1, linear_t1
from oncoscale.imaging.study import ImagingStudy

UNITS = {"adc": "mm^2/s", "ktrans": "1/min", "t1": "s", "ve": "1"}
SETTINGS = QuantifySettings(t1="vfa", vfa_tr_s=5.462666667e-3, threads=1)


@pytest.fixture(scope="module")
def mouse(shared) -> ImagingStudy:
    return read_study(shared / "kpc-mouse-day0" / "nifti", units=UNITS)


def test_the_authors_map_is_reproduced_in_every_tissue(mouse):
    """With the B1 map: median difference below 0.1 % in tumour, muscle and both phantoms, and said in a finding."""
    made = quantify(mouse, SETTINGS)
    theirs = next(one for one in mouse.maps if one.name == "t1").values
    labels = next(one for one in mouse.labels if one.grid.same_as(made.maps["t1"].grid))
    for region in ("tumour", "muscle", "phantom_1", "phantom_2"):
        within = labels.mask(region)
        relative = made.maps["t1"].values[within] / theirs[within] - 1
        assert np.nanmedian(np.abs(relative)) < 1e-3, region
    assert made.summary["t1_over_supplied"] == pytest.approx(1.0, abs=1e-4)
    assert made.maps["t1"].method.endswith("B1 corrected")


def test_without_b1_it_is_off_by_a_tenth(mouse):
    """The same without the B1 map is a tenth low in the tumour."""
    blind = replace(mouse, maps=tuple(one for one in mouse.maps if one.name != "b1"))
    made = quantify(blind, SETTINGS)
    assert made.summary["t1_over_supplied"] == pytest.approx(0.9, abs=0.02)


def test_the_straight_line_is_no_result(mouse):
    """At the noise of these images the linear fit misses the nonlinear optimum by percents, voxel by voxel."""
    series = mouse.of_role("vfa")[0]
    within = next(one for one in mouse.labels if one.grid.same_as(series.grid)).mask("tumour")
    rows, angles = series.values[:, within].T.astype(float)[:500], series.acquisition["fa_deg"].value
    tr = SETTINGS.vfa_tr_s
    gap = linear_t1(rows, angles, tr) / fit_t1(rows, angles, tr, plausible_s=(0.0, np.inf)).t1 - 1
    assert np.nanmedian(np.abs(gap)) > 0.02


def test_the_repetition_time_must_be_known(mouse):
    """The files do not tell it: asked for T1 by flip angles this is refused, else the supplied map is used."""
    with pytest.raises(ModelRefused, match="repetition time"):
        quantify(mouse, replace(SETTINGS, vfa_tr_s=None))
    made = quantify(mouse, QuantifySettings(threads=1))
    assert any("state the repetition time" in finding.text for finding in made.findings)
    with pytest.raises(ConfigurationRejected, match="repetition time"):
        QuantifySettings(vfa_tr_s=5.4)
