"""Mesh files: what is written is read back, by us and by others, and half a file never appears."""

from __future__ import annotations

from pathlib import Path

import h5py
import meshio
import numpy as np
import pytest

from oncoscale.core.errors import ConfigurationRejected, FileRejected
from oncoscale.meshing.mesh import TumourMesh
from oncoscale.meshing.write import (
    MovingMeshWriter,
    read_step,
    write_mesh,
    write_steps,
)

STEPS = 4


@pytest.fixture
def moving(coarse_mesh: TumourMesh) -> dict[str, list[np.ndarray]]:
    """Node places and fields of four steps."""
    rng = np.random.default_rng(0)
    nodes, elements = len(coarse_mesh.points), len(coarse_mesh.tetrahedra)
    return {
        "points": [coarse_mesh.points * (1.0 + 0.01 * step) for step in range(STEPS)],
        "oxygen": [rng.random(nodes) + step for step in range(STEPS)],
        "displacement": [rng.random((nodes, 3)) for _ in range(STEPS)],
        "stretch": [rng.random(elements) for _ in range(STEPS)],
        "representative": [rng.integers(0, 20, elements) for _ in range(STEPS)],
    }


def write(path: Path, mesh: TumourMesh, moving: dict[str, list[np.ndarray]]) -> None:
    """The four steps as one file."""
    write_steps(
        path,
        mesh,
        [0.0, 14.0, 28.0, 42.0],
        moving["points"],
        {name: moving[name] for name in ("oxygen", "displacement")},
        {name: moving[name] for name in ("stretch", "representative")},
    )


def test_every_step_comes_back(tmp_path: Path, coarse_mesh: TumourMesh, moving: dict[str, list[np.ndarray]]) -> None:
    """Points, times and fields of every step, in any order, exactly; negative steps count from the end."""
    write(tmp_path / "tissue.vtkhdf", coarse_mesh, moving)
    for step in (2, 0, 3, 1):
        read = read_step(tmp_path / "tissue.vtkhdf", step)
        assert (read.time, read.steps) == (14.0 * step, STEPS)
        np.testing.assert_array_equal(read.points, moving["points"][step])
        np.testing.assert_array_equal(read.tetrahedra, coarse_mesh.tetrahedra)
        np.testing.assert_array_equal(read.cell_data["region"], coarse_mesh.region)
        for name in ("oxygen", "displacement"):
            np.testing.assert_array_equal(read.point_data[name], moving[name][step])
        for name in ("stretch", "representative"):
            np.testing.assert_array_equal(read.cell_data[name], moving[name][step])
    assert read_step(tmp_path / "tissue.vtkhdf", -1).time == 42.0


def test_file_has_the_layout_of_vtkhdf(
    tmp_path: Path, coarse_mesh: TumourMesh, moving: dict[str, list[np.ndarray]]
) -> None:
    """Names, shapes and types are those of the format: one part, one connectivity, points and fields appended."""
    write(tmp_path / "tissue.vtkhdf", coarse_mesh, moving)
    nodes, elements = len(coarse_mesh.points), len(coarse_mesh.tetrahedra)
    with h5py.File(tmp_path / "tissue.vtkhdf") as file:
        root = file["VTKHDF"]
        assert root.attrs["Version"].tolist() == [2, 3]
        assert root.attrs["Type"] == b"UnstructuredGrid"
        shapes = {name: root[name].shape for name in ("Points", "Connectivity", "Offsets", "Types", "NumberOfPoints")}
        assert shapes == {
            "Points": (STEPS * nodes, 3),
            "Connectivity": (4 * elements,),
            "Offsets": (elements + 1,),
            "Types": (elements,),
            "NumberOfPoints": (1,),
        }
        assert root["Types"].dtype == np.uint8
        steps = root["Steps"]
        assert steps.attrs["NSteps"] == STEPS
        assert steps["PointOffsets"][:].tolist() == [nodes * step for step in range(STEPS)]
        assert steps["PartOffsets"][:].tolist() == [0] * STEPS
        assert steps["NumberOfParts"][:].tolist() == [1] * STEPS
        assert steps["CellOffsets"].shape == steps["ConnectivityIdOffsets"].shape == (STEPS, 1)
        assert steps["PointDataOffsets/oxygen"][:].tolist() == [nodes * step for step in range(STEPS)]
        assert steps["CellDataOffsets/stretch"][:].tolist() == [elements * step for step in range(STEPS)]
        for name in ("Connectivity", "Offsets", "Steps/PointOffsets", "NumberOfCells"):
            assert root[name].dtype == np.int64


def test_vtk_reads_every_step(tmp_path: Path, coarse_mesh: TumourMesh, moving: dict[str, list[np.ndarray]]) -> None:
    """VTK's own reader finds the same places, values and cells."""
    vtk = pytest.importorskip("vtk", reason="VTK is not installed")
    numpy_support = pytest.importorskip("vtk.util.numpy_support")
    write(tmp_path / "tissue.vtkhdf", coarse_mesh, moving)
    reader = vtk.vtkHDFReader()
    reader.SetFileName(str(tmp_path / "tissue.vtkhdf"))
    reader.UpdateInformation()
    for step in (3, 0, 2):
        reader.SetStep(step)
        reader.Update()
        found = reader.GetOutputDataObject(0)
        assert found.GetNumberOfCells() == len(coarse_mesh.tetrahedra)
        places = numpy_support.vtk_to_numpy(found.GetPoints().GetData())
        np.testing.assert_array_equal(places, moving["points"][step])
        values = numpy_support.vtk_to_numpy(found.GetCellData().GetArray("stretch"))
        np.testing.assert_array_equal(values, moving["stretch"][step])


def test_a_mesh_may_replace_another(tmp_path: Path, coarse_mesh: TumourMesh) -> None:
    """Two steps of one mesh, then two of its tumour alone: places, elements and fields of each; a mesh is kept once."""
    kept = coarse_mesh.tetrahedra[coarse_mesh.elements_of("tumour")]
    used, numbers = np.unique(kept, return_inverse=True)
    alone = TumourMesh(
        coarse_mesh.points[used], numbers.reshape(-1, 4), np.full(len(kept), 2), dict(coarse_mesh.region_names)
    )
    meshes = [coarse_mesh, coarse_mesh.moved(np.ones_like(coarse_mesh.points)), alone, alone]
    stretch = [np.full(len(mesh.tetrahedra), float(step)) for step, mesh in enumerate(meshes)]
    points = [mesh.points for mesh in meshes]
    times = [0.0, 1.0, 2.0, 3.0]
    write_steps(tmp_path / "tissue.vtkhdf", coarse_mesh, times, points, {}, {"stretch": stretch}, meshes)
    for step in (3, 0, 2, 1):
        read = read_step(tmp_path / "tissue.vtkhdf", step)
        np.testing.assert_array_equal(read.points, points[step])
        np.testing.assert_array_equal(read.tetrahedra, meshes[step].tetrahedra)
        np.testing.assert_array_equal(read.cell_data["stretch"], stretch[step])
        np.testing.assert_array_equal(read.cell_data["region"], meshes[step].region)
    with h5py.File(tmp_path / "tissue.vtkhdf") as file:
        root = file["VTKHDF"]
        assert root["NumberOfCells"][:].tolist() == [len(coarse_mesh.tetrahedra), len(kept)]
        assert root["Steps/PartOffsets"][:].tolist() == [0, 0, 1, 1]
        assert len(root["Offsets"]) == len(root["Types"]) + 2


def test_equal_content_gives_equal_bytes(
    tmp_path: Path, coarse_mesh: TumourMesh, moving: dict[str, list[np.ndarray]]
) -> None:
    """No time of writing, no name of the machine: the same steps are the same file."""
    write(tmp_path / "one.vtkhdf", coarse_mesh, moving)
    write(tmp_path / "two.vtkhdf", coarse_mesh, moving)
    assert (tmp_path / "one.vtkhdf").read_bytes() == (tmp_path / "two.vtkhdf").read_bytes()


def test_a_failing_run_leaves_no_file(tmp_path: Path, coarse_mesh: TumourMesh) -> None:
    """When the block that writes steps fails, nothing is left in the folder."""
    path = tmp_path / "tissue.vtkhdf"
    with pytest.raises(RuntimeError, match="solver"), MovingMeshWriter(path, coarse_mesh) as writer:
        writer.append(0.0)
        raise RuntimeError("solver")
    assert list(tmp_path.iterdir()) == []


def test_steps_must_agree(tmp_path: Path, coarse_mesh: TumourMesh) -> None:
    """A field that appears later, or of the wrong length, is an error of the caller."""
    with MovingMeshWriter(tmp_path / "tissue.vtkhdf", coarse_mesh) as writer:
        writer.append(0.0, point_data={"oxygen": np.zeros(len(coarse_mesh.points))})
        with pytest.raises(ValueError, match="every step has the same"):
            writer.append(1.0)
        with pytest.raises(ValueError, match="places"):
            writer.append(1.0, point_data={"oxygen": np.zeros(3)})
    assert read_step(tmp_path / "tissue.vtkhdf").steps == 1


@pytest.mark.parametrize("ending", [".vtu", ".vtkhdf"])
def test_a_mesh_comes_back(tmp_path: Path, coarse_mesh: TumourMesh, ending: str) -> None:
    """Nodes, elements, regions and a field, in both formats."""
    path = tmp_path / f"mesh{ending}"
    write_mesh(path, coarse_mesh, {"volume": coarse_mesh.volumes}, {"x": coarse_mesh.points[:, 0]})
    if ending == ".vtu":
        read = meshio.read(path)
        points, cells = read.points, read.cells_dict["tetra"]
        region, volume = (read.cell_data[name][0] for name in ("region", "volume"))
    else:
        step = read_step(path)
        points, cells = step.points, step.tetrahedra
        region, volume = step.cell_data["region"], step.cell_data["volume"]
    np.testing.assert_array_equal(points, coarse_mesh.points)
    np.testing.assert_array_equal(cells, coarse_mesh.tetrahedra)
    np.testing.assert_array_equal(region, coarse_mesh.region)
    np.testing.assert_array_equal(volume, coarse_mesh.volumes)


def test_unknown_endings_are_refused(tmp_path: Path, coarse_mesh: TumourMesh) -> None:
    """An ending that nobody can open is refused before anything is written."""
    with pytest.raises(ConfigurationRejected, match="ending"):
        write_mesh(tmp_path / "mesh.xyz", coarse_mesh)
    assert list(tmp_path.iterdir()) == []


def test_files_that_are_none_are_refused(tmp_path: Path, coarse_mesh: TumourMesh) -> None:
    """No HDF5, HDF5 of another kind, a step that is not there, a link to another file: each a typed refusal."""
    (tmp_path / "text.vtkhdf").write_text("no HDF5")
    with h5py.File(tmp_path / "other.vtkhdf", "w") as file:
        file["x"] = [1, 2, 3]
    write_mesh(tmp_path / "good.vtkhdf", coarse_mesh)
    with h5py.File(tmp_path / "link.vtkhdf", "w") as file:
        file["VTKHDF"] = h5py.ExternalLink("good.vtkhdf", "/VTKHDF")
    for name, step in (("text", 0), ("other", 0), ("good", 1), ("link", 0), ("absent", 0)):
        with pytest.raises(FileRejected):
            read_step(tmp_path / f"{name}.vtkhdf", step)
