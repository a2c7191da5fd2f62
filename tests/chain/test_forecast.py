"""A forecast follows from its images, its seed and nothing else."""

from __future__ import annotations

import csv
import json
import time
from pathlib import Path

import h5py
import pytest

from oncoscale.agents.colony import CLASSES

SMALL = ("--elements", 8, "--cells", 100, "--members", 1, "--no-effects", "--days", 14)
THOROUGH = ("--elements", 20, "--cells", 500, "--members", 3, "--days", 14)


def changes_that_matter(forecast):
    """Words of each effect that exceeds the spread over seeds."""
    return [effect["what"] for effect in forecast["rests_on"] if effect["matters"]]


def cells_are_on_file(run):
    """Every chosen element that kept cells has them in a file, step by step, as many as its population says."""
    ends = {}
    for row in csv.DictReader((run / "cells" / "populations.csv").open()):
        ends[row["element"], 24 * float(row["start_day"]) + int(row["hour"])] = sum(int(row[name]) for name in CLASSES)
    files = sorted((run / "cells").glob("element-*.vtkhdf"))
    assert files
    for file in files:
        with h5py.File(file) as content:
            hours, counts = content["VTKHDF/Steps/Values"][:], content["VTKHDF/NumberOfPoints"][:]
            assert len(content["VTKHDF/Points"]) == counts.sum()
        element = file.stem.removeprefix("element-")
        assert [ends[element, hour] for hour in hours] == counts.tolist()


@pytest.mark.slow
def test_threads_do_not_reach_the_bytes(forecast_of, reference_visit):
    """Two runs with the same seed, on 1 and on 2 threads, write the same forecast.json."""
    runs = [forecast_of(reference_visit, f"threads-{n}", "--threads", n, *SMALL) for n in (1, 2)]
    assert runs[0]["bytes"] == runs[1]["bytes"]
    assert runs[1]["answer"]["attempt"] == runs[0]["answer"]["attempt"] + 1
    other = forecast_of(reference_visit, "another-seed", "--seed", 2, *SMALL)
    assert other["volume_ml"] != runs[0]["volume_ml"]
    cells_are_on_file(Path(runs[0]["answer"]["folder"]))


EVERY = ("--elements", "all", "--cells", 50, "--members", 1, "--days", 2, "--size", 19, "--host", 40, "--threads", 1)


@pytest.mark.slow
def test_every_element_and_a_power_cut(forecast_of, reference_visit, command_of, workplace):
    """All elements are simulated and said to be a sample; killed in the middle of the second macro step, the same
    command ends in the same bytes."""
    (workplace / "days.toml").write_text("macro_days = 1.0\n")
    options = (*EVERY, "--config", workplace / "days.toml")
    whole = forecast_of(reference_visit, "every-element", *options)
    sampled = whole["steps"][0]["sampling"]
    assert sampled["colonies"] == sampled["elements"] == len(whole["steps"][0]["representatives"])
    assert 0.0 < sampled["sampled_fraction"] < 1e-4
    assert any(words.startswith("All ") and "sampled fraction" in words for words in whole["statements"])
    assert "sampled fraction" in (whole["folder"] / "report.html").read_text()

    kept = workplace / "power-cut.kept" / "run-1"
    running = command_of(
        "forecast", reference_visit["study"], "--store", reference_visit["store"], "--tumour", "neuroblastoma",
        "--out", workplace / "power-cut", *options,
    )  # fmt: skip
    try:
        while len(list(kept.glob("*/*.from-24h.colony"))) < sampled["colonies"] // 3:
            assert running.poll() is None, "it ended before it could be killed"
            time.sleep(0.01)
    finally:
        running.kill()
        running.wait()
    assert (kept / "step-1.tissue").exists()
    assert not (workplace / "power-cut").exists()
    assert len(list(kept.glob("*/*.colony"))) < sampled["colonies"]

    again = forecast_of(reference_visit, "power-cut", *options)
    assert again["bytes"] == whole["bytes"]
    for name in ("cells/populations.csv", "tissue.vtkhdf"):
        assert (again["folder"] / name).read_bytes() == (whole["folder"] / name).read_bytes()
    assert not kept.parent.exists()


@pytest.mark.slow
@pytest.mark.parametrize("patient", ["reference", "breast"])
def test_the_images_matter(patient, request, forecast_of, cojec):
    """Blood supply, cellularity, drug delivery, cells and the host's stiffness each change more than chance does."""
    visit = request.getfixturevalue(f"{patient}_visit")
    treatment = ("--treatment", cojec) if patient == "reference" else ()
    forecast = forecast_of(visit, f"matters-{patient}", *THOROUGH, *treatment)
    matters = " | ".join(changes_that_matter(forecast))
    wanted = ["Supply of blood", "Cellularity", "Cells replaced", "Host as stiff"]
    for words in wanted + (["Delivery of drug (Ktrans)"] if treatment else []):
        assert words in matters, forecast["rests_on"]


@pytest.mark.slow
def test_the_breast_forecast_says_what_it_is_not(forecast_of, breast_visit, oncoscale):
    """It is a breast cancer and the cells are neuroblastoma's: the first statement says so, and Ktrans is refused."""
    forecast = forecast_of(breast_visit, "breast", *SMALL)
    assert "not a prognosis" in forecast["statements"][0]
    assert forecast["measured_ml"][0]["volume"] == pytest.approx(38.62, abs=0.05)
    report = (forecast["folder"] / "report.html").read_text()
    assert "not a prognosis" in report
    assert "http://" not in report.replace("http://www.w3.org", "")
    refused = oncoscale(
        "quantify", breast_visit["study"], "--store", breast_visit["store"],
        "--out", forecast["folder"].parent / "maps-breast", "--dce-model", "extended-tofts",
    )  # fmt: skip
    assert refused["code"] == 2
    assert "too-few-times" in refused["error"]["found"]


@pytest.mark.slow
def test_eleven_steps_from_voxel_to_record(forecast_of, breast_visit, oncoscale):
    """``trace`` prints the eleven steps of one element, with its true numbers."""
    forecast = forecast_of(breast_visit, "traced", *SMALL)
    element = forecast["steps"][0]["representatives"][0]["element"]
    answer = oncoscale("trace", forecast["folder"], "--element", element)
    assert answer["code"] == 0
    assert len(answer["lines"]) == 11
    words = " ".join(answer["lines"])
    assert f"{forecast['steps'][0]['representatives'][0]['oxygen_mmhg']:.1f}" in words


@pytest.mark.slow
def test_maps_with_impossible_units_wait_for_the_user(oncoscale, workplace, shared, consent, forecast_of):
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
    refused = oncoscale(*ingest)
    assert refused["code"] == 2
    said = json.dumps(refused["error"])
    for option in ("--unit ktrans=1/min", "--unit adc=mm^2/s", "--same-subject"):
        assert option in said
    assert not (workplace / "store-mouse" / "oncoscale.sqlite").exists()
    units = [part for name, unit in (("ktrans", "1/min"), ("adc", "mm^2/s"), ("t1", "s"), ("ve", "1"), ("b1", "1"))
             for part in ("--unit", f"{name}={unit}")]  # fmt: skip
    taken = oncoscale(*ingest, *units, "--same-subject", "--label", "3=tumour")
    assert taken["code"] == 0, taken
    forecast = forecast_of({**taken, "store": workplace / "store-mouse"}, "mouse", *SMALL)
    assert forecast["measured_ml"][0]["volume"] == pytest.approx(0.465, abs=0.01)
    assert any("not a prognosis" in words for words in forecast["statements"])


@pytest.mark.slow
def test_following_the_refusal_makes_the_maps_usable(oncoscale, workplace, shared, consent):
    """Maps that come as NIfTI alone are refused; the options that the message names are enough."""
    folder, store = shared / "kpc-mouse-day0" / "nifti", workplace / "store-nifti"
    ingest = ("ingest", folder, "--store", store, "--subject", "N", "--consent", consent)
    refused = oncoscale(*ingest)
    assert refused["code"] == 2
    stated = refused["error"]["remedy"].split("add: ")[1].split()
    taken = oncoscale(*ingest, *stated)
    assert taken["code"] == 0, taken
