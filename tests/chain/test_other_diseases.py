"""Images of other diseases go through the chain, which says what its forecast is not and what the images lack."""

from __future__ import annotations

import json

import pytest

from .conftest import SMALL

LATTICE = ("--mesher", "bcc")
"""What the choice of a mesher ends with for these outlines, without the other mesher's attempts."""


@pytest.fixture(scope="module")
def breast_forecast(forecast_of, breast_visit):
    """Two weeks of the breast cancer."""
    return forecast_of(breast_visit, "breast", *SMALL, *LATTICE)


@pytest.mark.slow
def test_the_breast_forecast_says_what_it_is_not(breast_forecast, breast_visit, here):
    """It is a breast cancer and the cells are neuroblastoma's: the first statement says so, and Ktrans is refused."""
    forecast = breast_forecast
    assert "not a prognosis" in forecast["statements"][0]
    assert forecast["measured_ml"][0]["volume"] == pytest.approx(38.62, abs=0.05)
    report = (forecast["folder"] / "report.html").read_text()
    assert "not a prognosis" in report
    assert "http://" not in report.replace("http://www.w3.org", "")
    refused = here(
        "quantify", breast_visit["study"], "--store", breast_visit["store"],
        "--out", forecast["folder"].parent / "maps-breast", "--dce-model", "extended-tofts",
    )  # fmt: skip
    assert refused["code"] == 2
    assert "too-few-times" in refused["error"]["found"]


@pytest.mark.slow
def test_eleven_steps_from_voxel_to_record(breast_forecast, here):
    """``trace`` prints the eleven steps of one element, with its true numbers."""
    first = breast_forecast["steps"][0]["representatives"][0]
    answer = here("trace", breast_forecast["folder"], "--element", first["element"])
    assert answer["code"] == 0
    assert len(answer["lines"]) == 11
    words = " ".join(answer["lines"])
    assert f"{first['oxygen_mmhg']:.1f}" in words


@pytest.mark.slow
def test_maps_with_impossible_units_wait_for_the_user(here, workplace, shared, consent, forecast_of):
    """The mouse's maps are refused with every reason at once; with units and links stated they make a forecast."""
    ingest = (
        "ingest",
        shared / "kpc-mouse-day0",
        "--store",
        workplace / "store-mouse",
        "--subject",
        "M",
        "--consent",
        consent,
    )
    refused = here(*ingest)
    assert refused["code"] == 2
    said = json.dumps(refused["error"])
    for option in ("--unit ktrans=1/min", "--unit adc=mm^2/s", "--same-subject"):
        assert option in said
    assert not (workplace / "store-mouse" / "oncoscale.sqlite").exists()
    units = [part for name, unit in (("ktrans", "1/min"), ("adc", "mm^2/s"), ("t1", "s"), ("ve", "1"), ("b1", "1"))
             for part in ("--unit", f"{name}={unit}")]  # fmt: skip
    taken = here(*ingest, *units, "--same-subject", "--label", "3=tumour")
    assert taken["code"] == 0, taken
    forecast = forecast_of({**taken, "store": workplace / "store-mouse"}, "mouse", *SMALL, *LATTICE)
    assert forecast["measured_ml"][0]["volume"] == pytest.approx(0.465, abs=0.01)
    assert any("not a prognosis" in words for words in forecast["statements"])


@pytest.mark.slow
def test_following_the_refusal_makes_the_maps_usable(here, workplace, shared, consent):
    """Maps that come as NIfTI alone are refused; the options that the message names are enough."""
    folder, store = shared / "kpc-mouse-day0" / "nifti", workplace / "store-nifti"
    ingest = ("ingest", folder, "--store", store, "--subject", "N", "--consent", consent)
    refused = here(*ingest)
    assert refused["code"] == 2
    stated = refused["error"]["remedy"].split("add: ")[1].split()
    taken = here(*ingest, *stated)
    assert taken["code"] == 0, taken
