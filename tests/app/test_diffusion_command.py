"""``quantify --mesh``: what cannot be meant is refused before anything is read."""

from __future__ import annotations

import numpy as np
import pytest
from typer.testing import CliRunner

from oncoscale.app.cli import app
from oncoscale.app.diffusing import diffusion_request
from oncoscale.meshing.write import write_mesh
from oncoscale.sim.shapes import cube
from oncoscale.sim.tracer import AGENT_DIFFUSIVITY


def refused(folder, *options: str) -> str:
    """What the command says when it ends with code 2."""
    answer = CliRunner().invoke(app, ["quantify", str(folder), "--out", str(folder / "maps"), *options])
    assert answer.exit_code == 2, answer.output
    assert not (folder / "maps").exists()
    return " ".join(answer.stderr.split())


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("--diffusion", "2.6e-4"), "without --mesh"),
        (("--mesh", "absent.vtu"), "absent.vtu"),
        (("--mesh", "tumour.vtu", "--diffusion", "0.26"), "mm²/s"),
    ],
)
def test_requests_that_cannot_be_met_are_refused(tmp_path, monkeypatch, options, word):
    """A diffusivity without a mesh, a mesh that is not there, a diffusivity in another unit: code 2 and no folder."""
    monkeypatch.chdir(tmp_path)
    write_mesh(tmp_path / "tumour.vtu", cube(1))
    assert word in refused(tmp_path, *options)


def test_the_diffusivity_is_the_documented_one_unless_stated(tmp_path):
    """Without --diffusion the parameter's value is used and known as assumed; without --mesh nothing is asked for."""
    write_mesh(tmp_path / "tumour.vtu", cube(2, side=3.0))
    request = diffusion_request(tmp_path / "tumour.vtu", None)
    assert request is not None
    assert (request.diffusivity_mm2_s, request.stated) == (AGENT_DIFFUSIVITY.value, False)
    assert request.mesh.volumes.sum() == pytest.approx(27.0)
    assert diffusion_request(None, None) is None
    assert np.isfinite(request.mesh.points).all()
