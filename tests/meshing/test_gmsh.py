"""The route through gmsh: sound meshes where it loads, and a clean way round it where it does not."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from oncoscale.core.errors import MeshFault
from oncoscale.imaging.study import LabelImage
from oncoscale.meshing import tetrahedra
from oncoscale.meshing.mesh import TumourMesh
from oncoscale.meshing.quality import gate_failures, quality
from oncoscale.meshing.surface import host_around, level_sets
from oncoscale.meshing.tetrahedra import SYSTEM_LIBRARIES, ball_in_ball, mesh_tumour

Masks = Callable[..., LabelImage]

pretended = {
    "missing library": 'raise OSError("libGLU.so.1: cannot open shared object file: No such file or directory")',
    "not installed": "raise ModuleNotFoundError(\"No module named 'gmsh'\")",
    "crash": "import os; os.abort()",
    "fault": 'raise RuntimeError("/home/someone/secret: it went wrong")',
}


@pytest.fixture
def pretend_gmsh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts a module called gmsh before the real one, for the child process."""

    def pretend(source: str) -> None:
        (tmp_path / "gmsh.py").write_text(source, encoding="utf-8")
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    return pretend


@pytest.fixture
def small(ball: Masks) -> LabelImage:
    """A ball in its host, quickly meshed."""
    return host_around(ball(9.0), margin=7.0)


@pytest.mark.parametrize("what", pretended)
def test_without_gmsh_the_lattice_is_used_and_the_reason_kept(
    what: str, small: LabelImage, pretend_gmsh: Callable[[str], None]
) -> None:
    """A missing library, a missing package, a crash and a fault of gmsh each end in a lattice mesh that says why (the
    library by name, with the line that installs it); asked for by name, gmsh is a typed fault."""
    pretend_gmsh(pretended[what])
    mesh = mesh_tumour(small, size=5.0, host_size=7.0)
    assert mesh.mesher == "bcc"
    assert "gmsh" in mesh.report["fallback"]
    assert "someone" not in mesh.report["fallback"]
    if what == "missing library":
        assert "libGLU.so.1" in mesh.report["fallback"]
        assert SYSTEM_LIBRARIES in mesh.report["fallback"]
    with pytest.raises(MeshFault, match="gmsh"):
        mesh_tumour(small, size=5.0, host_size=7.0, mesher="gmsh")


def test_a_hanging_gmsh_is_ended(small: LabelImage, pretend_gmsh: Callable[[str], None]) -> None:
    """After its time limit the child is ended and the fault says so."""
    pretend_gmsh("import time; time.sleep(60)")
    sizes = tetrahedra.Sizes(5.0, 7.0, 7.0)
    surfaces = tetrahedra._nested_surfaces(level_sets(small, 5.0), sizes)
    with pytest.raises(MeshFault, match="did not end within 2 s"):
        tetrahedra._run_gmsh(surfaces, sizes, time_limit=2.0)


@pytest.fixture(scope="module")
def gmsh_mesh(gmsh_loads: None, lobed_labels: LabelImage) -> TumourMesh:
    """The lobed tumour at default sizes."""
    return mesh_tumour(lobed_labels, mesher="gmsh")


def test_lobed_tumour_by_gmsh(gmsh_mesh: TumourMesh, lobed_labels: LabelImage) -> None:
    """Gates pass, regions hold their voxel volumes, and the default sizes give the elements that they promise."""
    assert gmsh_mesh.mesher == "gmsh"
    assert gate_failures(quality(gmsh_mesh)) == []
    for name in ("tumour", "host"):
        assert gmsh_mesh.volume_of(name) == pytest.approx(lobed_labels.volume(name), rel=0.01)
    assert 1500 <= len(gmsh_mesh.elements_of("tumour")) <= 3000
    assert len(gmsh_mesh.tetrahedra) <= 15000
    assert gmsh_mesh.report["regions"]["tumour"]["surface_distance_mm"]["h95"] < 3.5


def test_auto_takes_gmsh_where_it_loads(gmsh_loads: None, small: LabelImage) -> None:
    """With everything in place auto is gmsh, without a fallback."""
    mesh = mesh_tumour(small, size=4.0, host_size=6.0)
    assert (mesh.mesher, mesh.report["fallback"]) == ("gmsh", None)


def test_gmsh_gives_equal_bytes_for_any_number_of_threads(
    gmsh_loads: None, small: LabelImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One and four OpenMP threads give the same mesh, byte for byte."""
    meshes = []
    for threads in ("1", "4"):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        meshes.append(mesh_tumour(small, size=4.0, host_size=6.0, mesher="gmsh"))
    assert meshes[0].points.tobytes() == meshes[1].points.tobytes()
    assert meshes[0].tetrahedra.tobytes() == meshes[1].tetrahedra.tobytes()
    assert os.environ["OMP_NUM_THREADS"] == "4"


def test_cavity_in_the_tumour_is_left_to_the_lattice(gmsh_loads: None, ball: Masks) -> None:
    """A hollow tumour is no nest of surfaces: gmsh is not tried and the lattice meshes the island of host within."""
    labels = host_around(ball(12.0, hole=6.0), margin=6.0)
    mesh = mesh_tumour(labels, size=5.0, host_size=6.0)
    assert mesh.mesher == "bcc"
    assert "cavities" in mesh.report["fallback"]
    assert mesh.report["regions"]["host"]["pieces"] == 2


def test_ball_in_ball_is_two_balls(gmsh_loads: None) -> None:
    """Built with pygmsh: the inner sphere lies at its radius; what the chords cut off falls with size squared."""
    missing = []
    for size in (5.0, 2.5):
        mesh = ball_in_ball(10.0, 25.0, size=size, host_size=2.0 * size)
        assert gate_failures(quality(mesh)) == []
        surface = np.unique(mesh.surface_of("tumour"))
        np.testing.assert_allclose(np.linalg.norm(mesh.points[surface], axis=1), 10.0, rtol=1e-6)
        missing.append(1.0 - mesh.volume_of("tumour") * 1000.0 / (4.0 / 3.0 * np.pi * 10.0**3))
    assert 0.0 < missing[1] < 0.4 * missing[0] < 0.1
