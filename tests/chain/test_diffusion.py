"""The fit with diffusion as a user runs it, on the reference patient."""

from __future__ import annotations

import json

import meshio
import numpy as np
import pytest

from oncoscale.meshing.read import read_mesh


@pytest.fixture(scope="module")
def made(oncoscale, reference_visit, patient, workplace):
    """A coarse mesh of the true tumour, and maps of the stored visit with the fit with diffusion on it."""
    mesh, out = workplace / "diffusion.vtu", workplace / "maps-diffusion"
    drawn = patient / "truth" / "visit-1" / "tumour.nii.gz"
    answer = oncoscale("mesh", drawn, "--out", mesh, "--size", 8, "--mesher", "bcc")
    assert answer["code"] == 0, answer
    answer = oncoscale(
        "quantify",
        reference_visit["study"],
        "--store",
        reference_visit["store"],
        "--dce-model",
        "extended-tofts",
        "--no-pictures",
        "--out",
        out,
        "--mesh",
        mesh,
        "--diffusion",
        5e-4,
    )
    assert answer["code"] == 0, answer
    return mesh, out, answer


def test_fields_lie_beside_the_maps(made):
    """Beside the maps diffusion.vtu holds the mesh with corrected and plain kinetics of every element."""
    mesh, out, _ = made
    fields = meshio.read(out / "diffusion.vtu").cell_data
    elements = len(read_mesh(mesh).tetrahedra)
    for name in ("ktrans", "ve", "vp", "ktrans_plain", "ve_plain", "vp_plain", "ktrans_error", "misfit", "flags"):
        assert len(fields[name][0]) == elements
    assert np.isfinite(fields["ktrans"][0]).mean() > 0.9
    assert (out / "ktrans.nii.gz").exists()


def test_the_summary_is_told_and_is_sensible(made):
    """The fit came to rest, booked its agent, and in elements of many millimetres moved medians by less than 5 %."""
    _, out, answer = made
    summary = json.loads((out / "diffusion.json").read_text())
    assert answer["diffusion"] == summary
    assert summary["converged"]
    assert summary["balance_error"] < 1e-10
    assert summary["diffusivity_mm2_s"] == 5e-4
    row = summary["regions"]["tumour"]
    assert row["misfit"] <= 1.02 * row["misfit_plain"]
    assert row["ktrans"]["median"] == pytest.approx(row["ktrans"]["median_plain"], rel=0.05)
