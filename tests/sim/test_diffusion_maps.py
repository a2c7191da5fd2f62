"""From voxels' curves to fields on elements: means conserved, gaps filled, regions told."""

from __future__ import annotations

import numpy as np
import pytest

from oncoscale.core.errors import ModelRefused
from oncoscale.imaging.aif import population_curve
from oncoscale.imaging.dce import extended_tofts
from oncoscale.imaging.study import Grid, LabelImage
from oncoscale.sim.diffusion_maps import diffusion_maps, element_curves
from oncoscale.sim.shapes import cube
from oncoscale.sim.tracer_fit import FLAGS

PLASMA = population_curve("parker", 400.0).plasma(0.42).delayed(17.0)
FRAMES = np.arange(60) * 5.0
SIDE = 6.0


class Voxels:
    """Curves on a grid of 1 mm that covers the cube: what ``TissueCurves`` gives of a series."""

    grid = Grid((6, 6, 6), np.array([[1.0, 0, 0, 0.5], [0, 1, 0, 0.5], [0, 0, 1, 0.5], [0, 0, 0, 1]]))
    times_s = FRAMES
    plasma = PLASMA

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def concentration(self, voxels: np.ndarray) -> np.ndarray:
        """(voxels, frames) at flat indices."""
        return self.values[voxels]


def halves() -> Voxels:
    """A leaky half beside a tight one, exact for the plain model."""
    leaky, tight = (extended_tofts(FRAMES, PLASMA, ktrans, 0.3, 0.03) for ktrans in (0.25, 0.05))
    i = np.indices((6, 6, 6))[0].ravel()
    return Voxels(np.where((i < 3)[:, None], leaky, tight))


def test_curves_of_elements_conserve_what_the_voxels_hold():
    """The sum over elements of curve times volume is that over voxels, at every frame."""
    mesh, voxels = cube(3, side=SIDE, shake=0.2), halves()
    found = element_curves(mesh, voxels)
    assert mesh.volumes @ found.values == pytest.approx(voxels.values.sum(axis=0), rel=1e-10)
    assert found.valid_fraction == pytest.approx(1.0)
    assert not found.filled.any()


def test_elements_of_air_take_their_neighbours_curve():
    """Where voxels have no value the element is filled from its region, and marked."""
    mesh, voxels = cube(3, side=SIDE), halves()
    voxels.values[(np.indices((6, 6, 6))[2] >= 4).ravel()] = np.nan
    found = element_curves(mesh, voxels)
    top = mesh.centroids[:, 2] > 4.0
    assert np.isfinite(found.values).all()
    assert found.filled[top].all()
    assert not found.filled[~top].any()


def test_a_mesh_of_another_place_is_refused():
    """Elements of which the series shows nothing are counted in the refusal."""
    mesh = cube(2, side=SIDE)
    with pytest.raises(ModelRefused, match="48 of 48"):
        element_curves(mesh.moved(np.full_like(mesh.points, 100.0)), halves())


def test_fields_and_summary_say_what_was_found():
    """Away from the border both fits give the truth; the tumour is where its label is; the summary is plain JSON."""
    mesh, voxels = cube(4, side=SIDE), halves()
    tumour = LabelImage(voxels.grid, (np.indices((6, 6, 6))[0] < 3).astype(np.uint8), {1: "tumour"})
    made = diffusion_maps(mesh, voxels, tumour, diffusivity_mm2_s=1e-6)
    left = mesh.centroids[:, 0] < 2.0
    assert made.fields["ktrans"][left] == pytest.approx(0.25, rel=1e-2)
    assert made.fields["ktrans_plain"][left] == pytest.approx(0.25, rel=1e-6)
    assert made.summary["regions"]["tumour"]["elements"] == np.sum(mesh.centroids[:, 0] < 3.0)
    assert made.summary["regions"]["mesh"]["elements"] == len(mesh.tetrahedra)
    assert made.summary["converged"]


def test_what_a_curve_does_not_tell_is_no_number():
    """An element without a signal has a Ktrans of 0, the flag, and neither ve nor errors, with or without D."""
    mesh, voxels = cube(3, side=SIDE), halves()
    voxels.values[(np.indices((6, 6, 6))[0] >= 3).ravel()] = 0.0
    made = diffusion_maps(mesh, voxels, None, diffusivity_mm2_s=1e-6)
    quiet = (made.fields["flags"] & FLAGS["not-enhancing"][0]) != 0
    assert quiet[mesh.centroids[:, 0] > 4.0].all()
    assert (made.fields["ktrans"][quiet] == 0.0).all()
    for name in ("ve", "ve_plain", "ktrans_error"):
        assert np.isnan(made.fields[name][quiet]).all()
