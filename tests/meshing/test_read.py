"""A mesh comes back from its file as it was written, by this program or another; what is no mesh is refused by name."""

from __future__ import annotations

from pathlib import Path

import meshio
import numpy as np
import pytest
from numpy.typing import NDArray

from oncoscale.core.errors import ConfigurationRejected, FileRejected, MeshFault
from oncoscale.meshing.mesh import TumourMesh
from oncoscale.meshing.read import ENDINGS, checked, read_mesh
from oncoscale.meshing.write import write_mesh

CUBE = np.stack(np.meshgrid([0.0, 1.0], [0.0, 1.0], [0.0, 1.0], indexing="ij"), axis=-1).reshape(-1, 3)
FIVE = np.array([[0, 6, 5, 3], [0, 3, 1, 5], [0, 2, 3, 6], [0, 5, 4, 6], [3, 5, 6, 7]])
"""The unit cube in five tetrahedra, of which the first is regular."""
VALUES = np.array([7, 3, 7, 7, 7])


@pytest.mark.parametrize("name", ["tumour.vtu", "tumour.vtkhdf"])
def test_a_written_mesh_comes_back(coarse_mesh, tmp_path, name):
    """Points, tetrahedra and regions are those that were written (points of .vtkhdf in its own precision)."""
    write_mesh(tmp_path / name, coarse_mesh)
    read = read_mesh(tmp_path / name)
    np.testing.assert_allclose(read.points, coarse_mesh.points, rtol=1e-6, atol=1e-5)
    np.testing.assert_array_equal(read.tetrahedra, coarse_mesh.tetrahedra)
    np.testing.assert_array_equal(read.region, coarse_mesh.region)


def by_others(path: Path, values: NDArray[np.int64] = VALUES) -> None:
    """Write the cube as other programs would, with a triangle beside it and the field of regions of the format."""
    field, kind, dtype = {
        ".msh": ("gmsh:physical", "gmsh22", np.int32),
        ".mesh": ("medit:ref", "medit", np.int64),
        ".meshb": ("medit:ref", "medit", np.int32),
        ".med": ("cell_tags", "med", np.int64),
    }.get(path.suffix, ("MaterialIds", None, np.int64))
    cells = [("triangle", np.array([[0, 1, 3]])), ("tetra", FIVE)]
    regions = [np.array([99], dtype), values.astype(dtype)]
    data = {field: regions} | ({"gmsh:geometrical": regions} if path.suffix == ".msh" else {})
    named = {"Tumour": np.array([7, 3]), "rim": np.array([3, 3]), "skin": np.array([99, 2])}
    content = meshio.Mesh(CUBE, cells, cell_data=data, field_data=named if path.suffix == ".msh" else {})
    content.write(path, file_format=kind, **({"binary": False} if path.suffix in (".msh", ".vtk") else {}))


@pytest.mark.parametrize("ending", [".vtu", ".vtk", ".msh", ".mesh", ".meshb", ".xdmf", ".med"])
def test_meshes_of_other_programs_are_read(tmp_path, ending):
    """Each format gives the same corners and the same regions, its triangles left out."""
    by_others(tmp_path / f"cube{ending}")
    read = read_mesh(tmp_path / f"cube{ending}")
    np.testing.assert_allclose(read.points[read.tetrahedra].mean(axis=1), CUBE[FIVE].mean(axis=1))
    assert read.volumes.sum() == pytest.approx(1.0)
    np.testing.assert_array_equal(read.region, VALUES)


def test_names_come_from_the_file_and_the_user(tmp_path):
    """Physical groups of Gmsh name regions; what the user says goes before; others are called by their value."""
    by_others(tmp_path / "cube.msh")
    assert dict(read_mesh(tmp_path / "cube.msh").region_names) == {3: "rim", 7: "tumour"}
    assert dict(read_mesh(tmp_path / "cube.msh", {3: "host"}).region_names) == {3: "host", 7: "tumour"}
    by_others(tmp_path / "cube.vtu")
    assert dict(read_mesh(tmp_path / "cube.vtu", {7: "tumour"}).region_names) == {3: "region 3", 7: "tumour"}


def test_element_sets_of_abaqus_are_regions(tmp_path):
    """Sets of elements number and name the regions of an .inp."""
    sets = {"TUMOUR": [np.array([0])], "HOST": [np.array([1, 2, 3, 4])]}
    meshio.Mesh(CUBE, [("tetra", FIVE)], cell_sets=sets).write(tmp_path / "cube.inp")
    read = read_mesh(tmp_path / "cube.inp")
    assert [read.region_names[value] for value in read.region.tolist()] == ["tumour", *["host"] * 4]


def test_a_checked_mesh_has_the_regions_of_the_project(tmp_path):
    """Named regions get the values host 1, tumour 2, and the report holds the measures and how many were turned."""
    by_others(tmp_path / "cube.vtk")
    mesh = checked(read_mesh(tmp_path / "cube.vtk", {7: "tumour", 3: "host"}))
    assert mesh.region.tolist() == [2, 1, 2, 2, 2]
    assert dict(mesh.region_names) == {1: "host", 2: "tumour"}
    assert mesh.volume_of("tumour") == pytest.approx(5.0 / 6000.0)
    assert mesh.report["quality"]["min_dihedral_degree"] == pytest.approx(np.degrees(np.arccos(1.0 / np.sqrt(3.0))))


def test_regions_that_are_not_there_and_no_tumour_are_refused(tmp_path):
    """A name for a value that no element has, and a mesh without a tumour, are refused with what there is."""
    by_others(tmp_path / "cube.vtu")
    with pytest.raises(ConfigurationRejected, match=r"region 4\..*3, 7"):
        read_mesh(tmp_path / "cube.vtu", {4: "tumour"})
    with pytest.raises(ConfigurationRejected, match=r"no region is named 'tumour'.*7 \(region 7"):
        checked(read_mesh(tmp_path / "cube.vtu"))


def test_a_mesh_below_the_gate_is_refused():
    """A cube flattened to a hundredth keeps its topology and loses its angles."""
    flat = TumourMesh(CUBE * [1.0, 1.0, 0.01], FIVE[:, [0, 2, 1, 3]], np.full(5, 1), {1: "tumour"})
    with pytest.raises(MeshFault, match="dihedral"):
        checked(flat.moved(np.zeros((8, 3))))


def test_elements_inside_out_are_turned(tmp_path):
    """A tetrahedron of the other orientation keeps its corners and gets a positive volume, and is counted."""
    points = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    meshio.write(tmp_path / "one.vtu", meshio.Mesh(points, [("tetra", [[0, 2, 1, 3]])]))
    read = read_mesh(tmp_path / "one.vtu")
    assert read.volumes == pytest.approx([1.0 / 6.0])
    assert sorted(read.tetrahedra[0]) == [0, 1, 2, 3]
    assert read.report["turned"] == 1


def triangles(path: Path) -> None:
    """A surface where tetrahedra are wanted."""
    meshio.write(path, meshio.Mesh(np.eye(3), [("triangle", [[0, 1, 2]])]))


def flat(path: Path) -> None:
    """Four corners in one plane, after an element that is sound."""
    points = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 0, 1]])
    meshio.write(path, meshio.Mesh(points, [("tetra", [[0, 1, 2, 4], [0, 1, 2, 3]])]))


def folded(path: Path) -> None:
    """A corner pushed through the face between its element (number 3) and the regular one (number 0)."""
    points = CUBE.copy()
    points[4] = [0.4, 0.6, 0.6]
    meshio.write(path, meshio.Mesh(points, [("tetra", FIVE)]))


def thrice(path: Path) -> None:
    """Three elements on one face."""
    points = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, -1], [0.5, 0.5, 2.0]])
    meshio.write(path, meshio.Mesh(points, [("tetra", [[0, 1, 2, 3], [0, 2, 1, 4], [0, 1, 2, 5]])]))


def hexahedra(path: Path) -> None:
    """A solid of another kind beside the tetrahedra."""
    cells = [("tetra", FIVE), ("hexahedron", np.array([[0, 4, 6, 2, 1, 5, 7, 3]]))]
    meshio.write(path, meshio.Mesh(CUBE, cells))


def text(path: Path) -> None:
    """No mesh at all."""
    path.write_text("not a mesh")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (triangles, "no tetrahedra"),
        (flat, "1 flat tetrahedra, numbers 1 from 0"),
        (folded, "2 tetrahedra overlap a neighbour.*numbers 0, 3 from 0"),
        (thrice, "more than two tetrahedra share a face"),
        (hexahedra, "1 of kind hexahedron"),
        (text, "cannot be read"),
    ],
)
def test_what_is_no_mesh_is_refused(tmp_path, make, words):
    """Surfaces, flat and folded elements, solids of other kinds and other text are refused with the reason."""
    make(tmp_path / "wrong.vtu")
    with pytest.raises(FileRejected, match=words):
        read_mesh(tmp_path / "wrong.vtu")


@pytest.mark.parametrize("ending", ENDINGS)
def test_damaged_and_absent_files_are_refused(tmp_path, ending):
    """In every format a file that is none, or is not there, gives the same typed error."""
    (tmp_path / f"damaged{ending}").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    for name in (f"damaged{ending}", f"absent{ending}"):
        with pytest.raises(FileRejected, match=name):
            read_mesh(tmp_path / name)


def test_numbers_in_another_folder_are_not_read(tmp_path):
    """An .xdmf whose numbers lie elsewhere on the disk is refused before they are opened."""
    by_others(tmp_path / "cube.xdmf")
    text = (tmp_path / "cube.xdmf").read_text()
    assert "cube.h5" in text
    (tmp_path / "cube.xdmf").write_text(text.replace("cube.h5", "/elsewhere/cube.h5"))
    with pytest.raises(FileRejected, match="another folder"):
        read_mesh(tmp_path / "cube.xdmf")


def test_other_formats_are_refused(tmp_path):
    """An ending that no reader knows is refused before anything is opened."""
    with pytest.raises(ConfigurationRejected, match="vtu"):
        read_mesh(tmp_path / "tumour.stl")
