"""Masks and meshes that the tests of this folder share, and the rule for gmsh."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from oncoscale.imaging.study import Grid, LabelImage
from oncoscale.meshing.mesh import TumourMesh
from oncoscale.meshing.surface import host_around
from oncoscale.meshing.tetrahedra import mesh_tumour

LOBES = np.array([[0, 0, 0, 18], [14, 6, 4, 13], [-10, 12, -6, 13], [4, -14, 8, 12], [-12, -8, 6, 11.0]])
"""Centres and radii (mm) of the balls that make a lobed tumour of about 55 mL."""

Masks = Callable[..., LabelImage]


def _grid(shape: tuple[int, int, int], spacing: tuple[float, float, float], turn: NDArray[np.float64] | None) -> Grid:
    """A grid whose middle lies at (10, -20, 30) mm."""
    affine = np.eye(4)
    affine[:3, :3] = (np.eye(3) if turn is None else turn) @ np.diag(spacing)
    affine[:3, 3] = np.array([10.0, -20.0, 30.0]) - affine[:3, :3] @ ((np.array(shape) - 1) / 2.0)
    return Grid(shape, affine)


@pytest.fixture(scope="session")
def lobed() -> Masks:
    """Makes the lobed tumour on any grid: ``lobed(shape, spacing, turn)``."""

    def make(
        shape: tuple[int, int, int] = (48, 44, 20),
        spacing: tuple[float, float, float] = (2.0, 2.0, 3.5),
        turn: NDArray[np.float64] | None = None,
    ) -> LabelImage:
        index = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), axis=-1)
        place = (index - (np.array(shape) - 1) / 2.0) * np.array(spacing)
        inside = ((place[..., None, :] - LOBES[:, :3]) ** 2).sum(axis=-1) < LOBES[:, 3] ** 2
        return LabelImage(_grid(shape, spacing, turn), inside.any(axis=-1).astype(np.uint8), {1: "tumour"})

    return make


@pytest.fixture(scope="session")
def masked() -> Masks:
    """Makes a tumour from a mask: ``masked(mask, spacing)``."""

    def make(mask: NDArray[np.bool_], spacing: tuple[float, float, float] = (1.0, 1.0, 2.0)) -> LabelImage:
        shape = (mask.shape[0], mask.shape[1], mask.shape[2])
        return LabelImage(_grid(shape, spacing, None), mask.astype(np.uint8), {1: "tumour"})

    return make


@pytest.fixture(scope="session")
def ball(masked: Masks) -> Masks:
    """Makes a ball: ``ball(radius, hole)`` in mm, voxels of 1 x 1 x 2 mm."""

    def make(radius: float, hole: float = 0.0) -> LabelImage:
        half = int(np.ceil(radius)) + 2
        x, y, z = np.mgrid[-half : half + 1, -half : half + 1, -half // 2 : half // 2 + 1]
        distance = np.sqrt(x**2 + y**2 + (2.0 * z) ** 2)
        return masked((distance < radius) & (distance >= hole))

    return make


@pytest.fixture(scope="session")
def lobed_labels(lobed: Masks) -> LabelImage:
    """The lobed tumour in its host."""
    return host_around(lobed())


@pytest.fixture(scope="session")
def lobed_mesh(lobed_labels: LabelImage) -> TumourMesh:
    """Its mesh at default sizes, by the lattice mesher."""
    return mesh_tumour(lobed_labels, mesher="bcc")


@pytest.fixture(scope="session")
def coarse_mesh(lobed_labels: LabelImage) -> TumourMesh:
    """A mesh of some 2000 elements for tests that need any mesh."""
    return mesh_tumour(lobed_labels, size=11.0, host_size=20.0, mesher="bcc", gates=False)


@pytest.fixture(scope="session")
def gmsh_loads() -> None:
    """gmsh can be imported. Where CI is set a missing library is a failure; elsewhere the test is skipped."""
    probe = subprocess.run([sys.executable, "-c", "import gmsh, pygmsh"], capture_output=True, text=True, check=False)
    if probe.returncode == 0:
        return
    reason = f"gmsh cannot be loaded: {probe.stderr.strip().splitlines()[-1]}"
    if os.environ.get("CI", "").lower() in ("1", "true"):
        pytest.fail(reason)
    pytest.skip(reason)
