"""The chain recovers what went into the images."""

from __future__ import annotations

import numpy as np
import pytest

from oncoscale.imaging.dicom_read import read_study
from oncoscale.imaging.quantify import QuantifySettings, quantify
from oncoscale.meshing.surface import host_around
from oncoscale.meshing.tetrahedra import mesh_tumour
from oncoscale.meshing.transfer import conservation, coverage, overlaps, to_elements


@pytest.fixture(scope="module")
def matched(reference_patient):
    """Truth and maps of the matched reference patient, coarse: model and input function as they are fitted."""
    patient = reference_patient(matched=True)
    study = read_study(patient.folder / "visit-1")
    return patient.visits[0], quantify(study, QuantifySettings(relaxivity=4.5, haematocrit=0.35))


@pytest.mark.parametrize("name", ["ktrans", "ve", "vp"])
def test_matched_truth_is_recovered(matched, name):
    """Median relative error of each kinetic parameter in well-posed voxels is at most 5 %."""
    truth, quantified = matched
    true = {key: parametric.values for key, parametric in truth.maps.items()}
    posed = quantified.tumour.mask("tumour") & (true["ktrans"] > 0.03) & (true["necrosis"] < 0.3)
    relative = np.abs(quantified.maps[name].values[posed] / true[name][posed] - 1.0)
    assert posed.sum() > 500
    assert np.isfinite(relative).mean() > 0.9
    assert np.nanmedian(relative) <= 0.05


def test_the_mesh_keeps_volume_and_integrals(matched):
    """The mesh's volume is the voxels' within 1 %, and a map's integral survives the transfer to 1e-10."""
    _, quantified = matched
    mesh = mesh_tumour(host_around(quantified.tumour))
    assert mesh.volume_of("tumour") == pytest.approx(quantified.tumour.volume("tumour"), rel=0.01)
    ktrans = quantified.maps["ktrans"]
    valid = np.isfinite(ktrans.values)
    weights = overlaps(mesh, ktrans.grid)
    books = conservation(weights, ktrans.values, to_elements(weights, ktrans.values, valid), valid)
    assert books["voxel_integral"] > 0.0
    assert abs(books["relative_difference"]) <= 1e-10
    assert coverage(weights, ktrans.grid).max() <= 1.0 + 1e-10
