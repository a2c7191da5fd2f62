"""A forecast follows from its images, its seed and nothing else."""

from __future__ import annotations

import csv
from pathlib import Path

import h5py
import pytest

from oncoscale.agents.colony import CLASSES

from .conftest import SMALL


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
