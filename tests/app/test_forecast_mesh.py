"""A forecast on a mesh that the user gives: by the command line, on a study of maps, nothing replaced."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

from oncoscale.app.cli import app
from oncoscale.app.run_folder import read_run
from oncoscale.core.files import content_hash
from oncoscale.imaging.nifti import write_labels, write_nifti
from oncoscale.imaging.study import Grid, LabelImage
from oncoscale.meshing.mesh import TumourMesh
from oncoscale.meshing.surface import host_around
from oncoscale.meshing.tetrahedra import mesh_tumour
from oncoscale.meshing.write import write_mesh
from oncoscale.sim.anatomy import with_regions

GRID = Grid((24, 24, 24), np.diag([2.0, 2.0, 2.0, 1.0]))
SMALL = ("--days", 1, "--elements", 2, "--cells", 50, "--members", 1, "--no-effects", "--threads", 1)


def oncoscale(*words: object) -> SimpleNamespace:
    """Exit code and JSON of a command."""
    done = CliRunner().invoke(app, [*map(str, words), "--json", "--quiet"])
    return SimpleNamespace(code=done.exit_code, content=json.loads(done.stdout))


def ball(*beside: str) -> LabelImage:
    """A tumour of 20 mm in the middle, and a spine behind it if it is asked for."""
    x, y, z = (np.indices(GRID.shape).T - 11.5).T * 2.0
    values = np.where((abs(x) < 7.0) & (y > 11.0) & ("spine" in beside), 2, 0).astype(np.uint8)
    values[x**2 + y**2 + z**2 < 10.0**2] = 1
    return LabelImage(GRID, values, {1: "tumour", 2: "spine"} if beside else {1: "tumour"})


@pytest.fixture(scope="module")
def mesh() -> TumourMesh:
    """Its tetrahedra as another program may number their regions: 7 is the tumour, 3 its host, 4 a spine."""
    outline = ball("spine")
    labels = with_regions(host_around(outline), outline, ("spine",))
    made = mesh_tumour(labels, size=4.0, host_size=6.0, mesher="bcc")
    return replace(made, region=np.choose(made.region, [0, 3, 7, 4]))


@pytest.fixture(scope="module")
def place(tmp_path_factory, mesh) -> SimpleNamespace:
    """A store with a study of maps without a tumour and one with a tumour, and meshes as files."""
    root = tmp_path_factory.mktemp("given-mesh")
    patch = pytest.MonkeyPatch()
    patch.setenv("ONCOSCALE_VAULT", str(root / "vault"))
    (root / "consent.toml").write_text(
        'status = "active"\npurposes = ["HRESCH"]\ncategories = ["imaging", "simulation"]\n'
    )
    studies = {}
    for name, ktrans in (("maps", 0.1), ("drawn", 0.2)):
        (root / name).mkdir()
        write_nifti(root / name / "ktrans.nii.gz", GRID, np.full(GRID.shape, ktrans))
        if name == "drawn":
            write_labels(root / name / "tumour.nii.gz", ball())
        taken = oncoscale(
            "ingest", root / name, "--store", root / "store", "--subject", name, "--consent", root / "consent.toml",
            "--unit", "ktrans=1/min", "--same-subject",
        )  # fmt: skip
        assert taken.code == 0, taken.content
        studies[name] = taken.content["study"]
    write_mesh(root / "mesh.vtu", mesh)
    write_mesh(root / "far.vtu", mesh.moved(np.full(mesh.points.shape, 300.0)))
    write_mesh(root / "own.vtu", replace(mesh, region=np.where(mesh.region == 7, 2, 1)))
    yield SimpleNamespace(root=root, **studies)
    patch.undo()


def forecast(place, study: str, file: str, *words: object, out: str = "none") -> SimpleNamespace:
    """``oncoscale forecast --mesh FILE``."""
    asked = ("forecast", study, "--store", place.root / "store", "--tumour", "neuroblastoma", *SMALL)
    return oncoscale(*asked, "--out", place.root / out, "--mesh", place.root / file, *words)


NAMED = ("--region", "7=tumour", "--region", "3=host", "--region", "4=spine")


@pytest.fixture(scope="module")
def run(place) -> Path:
    """A day of the study of maps, on the mesh."""
    answer = forecast(place, place.maps, "mesh.vtu", *NAMED, out="run")
    assert answer.code == 0, answer.content
    return place.root / "run"


def test_a_mesh_stands_for_the_segmentation(run, mesh):
    """No tumour was drawn: the mesh's is the tumour, with its volume, its named regions and its fixed bone."""
    stored = read_run(run)
    reference, content = stored.forecast.states[0].reference, json.loads((run / "forecast.json").read_text())
    assert stored.forecast.volumes[0, 0] == pytest.approx(mesh.volumes[mesh.region == 7].sum() / 1000.0, rel=1e-9)
    assert reference.volume_of("spine") == pytest.approx(mesh.volumes[mesh.region == 4].sum() / 1000.0, rel=1e-9)
    assert stored.quantified.tumour.volume("tumour") == pytest.approx(stored.forecast.volumes[0, 0], rel=0.1)
    assert content["recipe"]["mesher"] == "file"
    words = " ".join(content["statements"])
    assert "The mesh is the user's" in words
    assert "as the mesh has them: spine (3.69e+06 kPa)" in words
    assert "spine held fixed" in words
    assert "elements of the spine" in (run / "report.html").read_text()


def test_the_mesh_is_on_record_and_the_run_can_be_followed(run, place):
    """The file is an input by its hash, the names belong to the run's identity, and an element's way is told."""
    record = json.loads((run / "record.json").read_text())
    inputs = {one["port"]: one["sha256"] for one in record["inputs"]}
    assert inputs["mesh"] == content_hash(place.root / "mesh.vtu")
    assert record["parameters"]["mesh"]["regions"] == {"3": "host", "4": "spine", "7": "tumour"}
    tumour = read_run(run).forecast.states[0].tumour
    followed = oncoscale("trace", run, "--element", tumour[0], "--store", place.root / "store")
    assert followed.code == 0
    assert "(file)" in " ".join(followed.content["lines"])


def test_a_mesh_of_the_projects_own_needs_no_names(place):
    """What `oncoscale mesh` writes numbers host and tumour as everywhere; a drawn tumour and the mesh agree."""
    answer = forecast(place, place.drawn, "own.vtu", "--dry-run")
    assert answer.code == 0, answer.content
    assert answer.content["plan"]["elements"] > 100
    assert answer.content["parameters"]["mesh"] == {"file": "own.vtu", "regions": {}}


@pytest.mark.parametrize("study", ["maps", "drawn"])
def test_a_mesh_elsewhere_is_refused(place, study):
    """A mesh that lies beside the images, or beside the drawn tumour, is told where it lies and where they do."""
    answer = forecast(place, getattr(place, study), "far.vtu", *NAMED, "--dry-run")
    assert answer.code == 2
    assert answer.content["error"]["kind"] == "ConfigurationRejected"
    assert "share nothing" in answer.content["error"]["found"]
    assert "mm" in answer.content["error"]["found"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "there are 3 (region 3"),
        (("--region", "9=tumour"), "no element lies in region 9"),
        (("--region", "3=host"), "no region is named 'tumour'"),
    ],
)
def test_a_mesh_without_a_tumour_is_refused(place, words, told):
    """The regions that the file holds are named; nothing is taken for a tumour."""
    answer = forecast(place, place.maps, "mesh.vtu", *words, "--dry-run")
    assert answer.code == 2
    assert told in answer.content["error"]["found"]
    alone = oncoscale(
        "forecast", place.maps, "--store", place.root / "store", "--tumour", "neuroblastoma", *SMALL, "--out",
        place.root / "none", "--region", "7=tumour",
    )  # fmt: skip
    assert (alone.code, alone.content["error"]["found"]) == (2, "--region 7=tumour without --mesh")


def test_a_tumour_without_a_border_needs_tissue_to_spread_in(place):
    """Cells of a glioma wander through the host: a mesh that names none is refused."""
    asked = ("forecast", place.maps, "--store", place.root / "store", "--tumour", "dipg", *SMALL, "--dry-run")
    named = ("--region", "7=tumour", "--mesh", place.root / "mesh.vtu")
    answer = oncoscale(*asked, "--out", place.root / "none", *named)
    assert answer.code == 2
    assert "a region 'host'" in answer.content["error"]["expected"]
