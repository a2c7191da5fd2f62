"""A small tumour in its host, with fields to couple."""

from __future__ import annotations

import numpy as np
import pytest

from oncoscale.imaging.study import Grid, LabelImage
from oncoscale.meshing.mesh import TumourMesh
from oncoscale.meshing.surface import host_around
from oncoscale.meshing.tetrahedra import mesh_tumour
from oncoscale.sim.settings import ForecastSettings
from oncoscale.sim.start import start_from
from oncoscale.sim.state import TissueState
from oncoscale.sim.tumour_type import InitialFields


@pytest.fixture(scope="session")
def small_mesh() -> TumourMesh:
    """An ellipsoid of about 4 mL in host tissue, coarse."""
    grid = Grid((16, 16, 16), np.diag([2.0, 2.0, 2.0, 1.0]))
    place = (np.indices(grid.shape).T - 7.5).T * 2.0
    inside = (place[0] / 11) ** 2 + (place[1] / 9) ** 2 + (place[2] / 10) ** 2 < 1
    labels = LabelImage(grid, inside.astype(np.uint8), {1: "tumour"})
    return mesh_tumour(host_around(labels), size=3.5, host_size=7.0, mesher="bcc")


@pytest.fixture(scope="session")
def small_fields(small_mesh) -> InitialFields:
    """Cellularity falls to one side, perfusion to another, delivery to a third."""
    tumour = small_mesh.elements_of("tumour")
    x, y, z = (small_mesh.centroids - small_mesh.centroids[tumour].mean(axis=0)).T / 10.0
    composition = np.zeros((len(x), 6))
    composition[tumour, 0] = 0.5 + 0.3 * np.clip(x[tumour], -1, 1)
    return InitialFields(composition, 1.0 + 0.5 * np.clip(y, -1, 1), 1.0 + 0.5 * np.clip(z, -1, 1), ("by hand",))


@pytest.fixture(scope="session")
def small_state(small_mesh, small_fields) -> TissueState:
    """The tissue at time 0."""
    return start_from(small_mesh, small_fields, ForecastSettings())
