"""The second disease from images to contours, with radiotherapy: the same commands, another tumour."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from oncoscale.app.run_folder import read_run
from oncoscale.imaging.nifti import write_nifti
from oncoscale.imaging.study import Grid
from oncoscale.meshing.write import read_step
from oncoscale.sim.anatomy import regions_beside
from oncoscale.sim.spread import ALONG_FIBRES
from oncoscale.sim.treatments.radiotherapy import PONTINE
from oncoscale.sim.tumours.dipg import ALPHA

SMALL = ("--elements", 4, "--cells", 60, "--members", 1, "--no-effects", "--days", 7, "--size", 6.5, "--host", 7.5)
"""Few cells, and elements just small enough for the skull."""


@pytest.fixture(scope="module")
def run(oncoscale, workplace, consent):
    """A coarse patient's first visit, fibres towards the head, 54 Gy begun, a week."""
    patient, store, out = workplace / "head", workplace / "store-head", workplace / "run-head"
    assert oncoscale("phantom", "--out", patient, "--tumour", "dipg", "--quick")["code"] == 0
    visit = oncoscale("ingest", patient / "visit-1", "--store", store, "--subject", "0007", "--consent", consent)
    (workplace / "pontine.toml").write_text(PONTINE)
    write_tensors(workplace / "tensor.nii.gz", (1.0, 1.0, 4.0))
    asked = ("forecast", visit["study"], "--store", store, "--tumour", "dipg", "--out", out, *SMALL)
    answer = oncoscale(*asked, "--treatment", workplace / "pontine.toml", "--tensor", workplace / "tensor.nii.gz")
    assert answer["code"] == 0, answer
    return Path(out)


def write_tensors(path: Path, along: tuple[float, float, float]) -> None:
    """Six volumes around the tumour: the same tensor everywhere."""
    grid = Grid((30, 30, 30), np.diag([6.0, 6.0, 6.0, 1.0]) + np.pad([[-90.0], [-90.0], [-90.0]], ((0, 1), (3, 0))))
    write_nifti(path, grid, np.broadcast_to(np.reshape([*along, 0, 0, 0], (6, 1, 1, 1)), (6, *grid.shape)))


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


def test_what_is_drawn_around_it_is_told_and_moved(run):
    """Bone is held, and every region that the mesh holds has its mass effect told; none is lost without a word."""
    forecast = read_run(run).forecast
    words = " ".join(forecast.statements)
    present = set(regions_beside(forecast.states[0].reference))
    for name in ("fluid", "white", "skull"):
        assert (name in present) != (f"No mesh of this size holds {name}" in words), name
    for name in present - {"skull"}:
        assert f"the surface of region {name} has moved" in words
    assert ("skull held fixed" in words) == ("skull" in present)
    assert present


def test_fibres_of_a_file_lead_cells(run, here, workplace):
    """The file is an input of the record and said in the forecast; one of impossible tensors is refused with exit 2."""
    assert ALONG_FIBRES in read_run(run).forecast.statements
    record = json.loads((run / "record.json").read_text())
    given = hashlib.sha256((workplace / "tensor.nii.gz").read_bytes()).hexdigest()
    assert [one["sha256"] for one in record["inputs"] if one["port"] == "tensor"] == [given]
    write_tensors(workplace / "wrong.nii.gz", (1.0, 1.0, -1.0))
    study = record["study"]
    asked = (
        "forecast",
        study,
        "--store",
        workplace / "store-head",
        "--tumour",
        "dipg",
        "--out",
        workplace / "no",
        *SMALL,
    )
    answer = here(*asked, "--tensor", workplace / "wrong.nii.gz", "--dry-run")
    assert answer["code"] == 2
    assert "not positive" in json.dumps(answer)
