"""A mesh comes back from its file as it was written, and what is no mesh is refused by name."""

from __future__ import annotations

from pathlib import Path

import meshio
import numpy as np
import pytest

from oncoscale.core.errors import ConfigurationRejected, FileRejected
from oncoscale.meshing.read import read_mesh
from oncoscale.meshing.write import write_mesh


@pytest.mark.parametrize("name", ["tumour.vtu", "tumour.vtkhdf"])
def test_a_written_mesh_comes_back(coarse_mesh, tmp_path, name):
    """Points, tetrahedra and regions are those that were written (points of .vtkhdf in its own precision)."""
    write_mesh(tmp_path / name, coarse_mesh)
    read = read_mesh(tmp_path / name)
    np.testing.assert_allclose(read.points, coarse_mesh.points, rtol=1e-6, atol=1e-5)
    np.testing.assert_array_equal(read.tetrahedra, coarse_mesh.tetrahedra)
    np.testing.assert_array_equal(read.region, coarse_mesh.region)


def test_elements_inside_out_are_turned(tmp_path):
    """A tetrahedron of the other orientation keeps its corners and gets a positive volume."""
    points = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    meshio.write(tmp_path / "one.vtu", meshio.Mesh(points, [("tetra", [[0, 2, 1, 3]])]))
    read = read_mesh(tmp_path / "one.vtu")
    assert read.volumes == pytest.approx([1.0 / 6.0])
    assert sorted(read.tetrahedra[0]) == [0, 1, 2, 3]


def triangles(path: Path) -> None:
    """A surface where tetrahedra are wanted."""
    meshio.write(path, meshio.Mesh(np.eye(3), [("triangle", [[0, 1, 2]])]))


def flat(path: Path) -> None:
    """Four corners in one plane."""
    points = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]])
    meshio.write(path, meshio.Mesh(points, [("tetra", [[0, 1, 2, 3]])]))


def text(path: Path) -> None:
    """No mesh at all."""
    path.write_text("not a mesh")


@pytest.mark.parametrize(("make", "word"), [(triangles, "no tetrahedra"), (flat, "flat"), (text, "cannot be read")])
def test_what_is_no_mesh_is_refused(tmp_path, make, word):
    """Surfaces, flat elements and other text are refused with the reason."""
    make(tmp_path / "wrong.vtu")
    with pytest.raises(FileRejected, match=word):
        read_mesh(tmp_path / "wrong.vtu")


@pytest.mark.parametrize("name", ["damaged.vtkhdf", "absent.vtkhdf", "absent.vtu"])
def test_damaged_and_absent_files_are_refused(tmp_path, name):
    """A file that is none, or is not there, gives the same typed error."""
    if name.startswith("damaged"):
        (tmp_path / name).write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    with pytest.raises(FileRejected, match=name):
        read_mesh(tmp_path / name)


def test_other_formats_are_refused(tmp_path):
    """An ending that no reader knows is refused before anything is opened."""
    with pytest.raises(ConfigurationRejected, match="vtu"):
        read_mesh(tmp_path / "tumour.stl")
