"""Every element is simulated, and a forecast that was killed goes on to the bytes of one that was not."""

from __future__ import annotations

import time

import pytest

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
