"""``oncoscale mesh``: the tumour's surface as a file for printers and viewers, and as a DICOM object of its patient."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import meshio
import nibabel
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from typer.testing import CliRunner

from oncoscale.app.cli import app
from oncoscale.imaging.dicom_write import MRSeries, SegmentationHead, Volume, derived_uid, write_mr_series
from oncoscale.imaging.dicom_write import write_segmentation as write_seg
from oncoscale.imaging.referred_images import referred_images
from oncoscale.imaging.source_images import read_source_images
from oncoscale.imaging.study import Grid, LabelImage
from oncoscale.imaging.surface_dicom import stl_triangles

SHAPE = (22, 20, 16)
AFFINE = np.diag([1.5, 1.5, 2.0, 1.0])
AFFINE[:3, 3] = [-20.0, 15.0, 40.0]
GRID = Grid(SHAPE, AFFINE, derived_uid("surface of a mesh", "frame"))
STUDY = {
    "PatientName": "MADE^UP",
    "PatientID": "surface",
    "PatientBirthDate": "",
    "PatientSex": "O",
    "StudyDate": "20240115",
    "StudyTime": "101500",
    "StudyID": "1",
    "AccessionNumber": "1",
    "ReferringPhysicianName": "",
    "StudyInstanceUID": derived_uid("surface of a mesh", "study"),
    "BodyPartExamined": "ABDOMEN",
    "PatientPosition": "HFS",
}
ECHO = {"ImageType": ["ORIGINAL", "PRIMARY", "OTHER"], "ScanningSequence": "GR", "SequenceVariant": "SP"}


def ball() -> LabelImage:
    """A tumour of 9 mm radius."""
    places = GRID.world(np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), axis=-1))
    centre = GRID.world((np.array(SHAPE) - 1) / 2)
    inside = np.linalg.norm(places - centre, axis=-1) < 9.0
    return LabelImage(GRID, inside.astype(np.uint8), {1: "tumour"})


@pytest.fixture(scope="module")
def visit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A series of images and the segmentation that was drawn on it."""
    folder = tmp_path_factory.mktemp("visit")
    series = MRSeries(derived_uid("surface of a mesh", "mr"), 1, "mr", GRID, STUDY, ECHO, (50.0, 100.0))
    write_mr_series(folder / "mr", series, [Volume(np.full(SHAPE, 90, np.uint16))])
    images = read_source_images(folder / "mr")
    uids = (derived_uid("surface of a mesh", "series"), derived_uid("surface of a mesh", "seg"))
    head = SegmentationHead(*uids, 2, "tumour", ("20240115", "103000"))
    sources = sorted(images.headers.values(), key=lambda header: int(header.InstanceNumber))
    write_seg(folder / "tumour.dcm", ball(), sources, head, "BINARY")
    return folder


def run(*words: str | Path) -> tuple[int, dict]:
    """(exit code, JSON) of ``oncoscale mesh``."""
    done = CliRunner().invoke(app, ["mesh", *map(str, words), "--mesher", "bcc", "--size", "4", "--json"])
    return done.exit_code, json.loads(done.stdout)


def take(*words: str | Path) -> tuple[int, dict]:
    """(exit code, JSON) of ``oncoscale mesh`` for a mesh that is there already."""
    done = CliRunner().invoke(app, ["mesh", *map(str, words), "--json"])
    return done.exit_code, json.loads(done.stdout)


@pytest.fixture(scope="module")
def made(visit: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    """(folder, account) of a mesh with both files of its surface."""
    out = tmp_path_factory.mktemp("mesh")
    surface = ("--stl", out / "tumour.stl", "--dicom", out / "surface.dcm")
    code, content = run(visit / "tumour.dcm", "--out", out / "mesh.vtu", *surface)
    assert code == 0
    return out, content


def volume(triangles: np.ndarray) -> float:
    """mL inside a closed surface, positive if it is oriented outwards."""
    return float(np.einsum("fi,fi->f", triangles[:, 0], np.cross(triangles[:, 1], triangles[:, 2])).sum() / 6000)


def test_the_surface_encloses_the_meshed_tumour(made: tuple[Path, dict]) -> None:
    """Closed, outwards, in mm at the tumour's place: its volume is that of the elements, every edge joins two faces."""
    folder, content = made
    triangles = stl_triangles((folder / "tumour.stl").read_bytes())
    assert volume(triangles) == pytest.approx(content["regions"]["tumour"], rel=1e-4)
    _, corners = np.unique(triangles.reshape(-1, 3).round(4), axis=0, return_inverse=True)
    edges = np.sort(corners.reshape(-1, 3)[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
    assert set(np.unique(edges, axis=0, return_counts=True)[1]) == {2}
    centre = GRID.world((np.array(SHAPE) - 1) / 2)
    assert triangles.reshape(-1, 3).mean(axis=0) == pytest.approx(centre, abs=1.0)


def test_another_reader_sees_the_same_surface(made: tuple[Path, dict]) -> None:
    """meshio reads the file as as many triangles, at the same places."""
    import meshio

    folder, _ = made
    read, ours = meshio.read(folder / "tumour.stl"), stl_triangles((folder / "tumour.stl").read_bytes())
    theirs = read.points[read.cells_dict["triangle"]]
    np.testing.assert_allclose(theirs, ours, atol=1e-4)


def judge(name: str, *files: Path) -> list[str]:
    """Errors and warnings of a program of dicom3tools."""
    program = Path(sys.executable).with_name(name)
    if not program.exists():
        pytest.skip(f"{name} is not installed beside python")
    words = [program, *(["-new"] if name == "dciodvfy" else []), *files]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return [line for line in (done.stdout + done.stderr).splitlines() if line.startswith(("Error", "Warning"))]


def test_the_dicom_object_obeys_the_standard_and_joins_its_study(made: tuple[Path, dict], visit: Path) -> None:
    """No error and no warning, alone and beside its segmentation and images; it names each of them."""
    folder, _ = made
    surface = pydicom.dcmread(folder / "surface.dcm")
    assert judge("dciodvfy", folder / "surface.dcm") == []
    assert judge("dcentvfy", folder / "surface.dcm", *visit.rglob("*.dcm")) == []
    size = surface.EncapsulatedDocumentLength
    assert surface.EncapsulatedDocument[:size] == (folder / "tumour.stl").read_bytes()
    segmentation = pydicom.dcmread(visit / "tumour.dcm")
    assert [item.ReferencedSOPInstanceUID for item in surface.SourceInstanceSequence] == [segmentation.SOPInstanceUID]
    named = {
        str(item.ReferencedSOPInstanceUID)
        for series in surface.ReferencedSeriesSequence
        for item in series.ReferencedInstanceSequence
    }
    assert named == {str(pydicom.dcmread(path).SOPInstanceUID) for path in visit.rglob("*.dcm")}
    assert surface.FrameOfReferenceUID == GRID.frame_uid


def test_the_judge_sees_a_surface_without_its_kind(made: tuple[Path, dict], tmp_path: Path) -> None:
    """The same object without the type of its content is found wrong."""
    broken = pydicom.dcmread(made[0] / "surface.dcm")
    del broken.MIMETypeOfEncapsulatedDocument
    broken.save_as(tmp_path / "broken.dcm")
    assert any("MIMETypeOfEncapsulatedDocument" in line for line in judge("dciodvfy", tmp_path / "broken.dcm"))


def test_the_same_segmentation_gives_the_same_bytes(made: tuple[Path, dict], visit: Path, tmp_path: Path) -> None:
    """Nothing comes from the clock or from chance."""
    surface = ("--stl", tmp_path / "tumour.stl", "--dicom", tmp_path / "surface.dcm")
    assert run(visit / "tumour.dcm", "--out", tmp_path / "mesh.vtu", *surface)[0] == 0
    for name in ("tumour.stl", "surface.dcm"):
        assert (tmp_path / name).read_bytes() == (made[0] / name).read_bytes()


def test_what_is_not_dicom_has_no_dicom_surface(tmp_path: Path) -> None:
    """A NIfTI segmentation gives an STL; asked for a DICOM object it says why not, and a wrong ending is refused."""
    image = nibabel.Nifti1Image(ball().values, np.diag([-1.0, -1.0, 1.0, 1.0]) @ AFFINE)
    nibabel.save(image, tmp_path / "tumour.nii.gz")
    out = ("--out", tmp_path / "mesh.vtu")
    code, content = run(tmp_path / "tumour.nii.gz", *out, "--dicom", tmp_path / "surface.dcm")
    assert (code, content["error"]["kind"]) == (2, "StudyRejected")
    code, content = run(tmp_path / "tumour.nii.gz", *out, "--stl", tmp_path / "surface.obj")
    assert (code, content["error"]["kind"]) == (2, "ConfigurationRejected")
    code, content = run(tmp_path / "tumour.nii.gz", *out, "--stl", tmp_path / "tumour.stl", "--dry-run")
    assert content["would_write"] == ["mesh.vtu", "mesh.json", "tumour.stl"]
    assert [path.name for path in tmp_path.iterdir()] == ["tumour.nii.gz"]
    assert run(tmp_path / "tumour.nii.gz", *out, "--stl", tmp_path / "tumour.stl")[0] == 0
    drawn = stl_triangles((tmp_path / "tumour.stl").read_bytes())
    assert volume(drawn) == pytest.approx(4 / 3 * np.pi * 0.9**3, rel=0.1)


def test_a_structure_set_names_its_images() -> None:
    """By study, series and contour image; an item without a UID is passed over."""
    image, lame = Dataset(), Dataset()
    image.ReferencedSOPClassUID, image.ReferencedSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.4", "1.5"
    lame.ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
    series, study, frame, header = Dataset(), Dataset(), Dataset(), Dataset()
    series.SeriesInstanceUID, series.ContourImageSequence = "1.4", Items([image, lame])
    study.ReferencedSOPInstanceUID, study.RTReferencedSeriesSequence = "1.3", Items([series])
    frame.RTReferencedStudySequence = Items([study])
    header.ReferencedFrameOfReferenceSequence = Items([frame])
    (found,) = referred_images(header)
    assert (found.StudyInstanceUID, found.SeriesInstanceUID, found.SOPInstanceUID) == ("1.3", "1.4", "1.5")


def by_another(path: Path, made: Path) -> Path:
    """The mesh as another program would hand it over: another format, other region values, corners in another sense."""
    content = meshio.read(made)
    corners = content.cells_dict["tetra"][:, [1, 0, 2, 3]]
    values = np.where(content.cell_data["region"][0] == 2, 40, 30)
    meshio.Mesh(content.points, [("tetra", corners)], cell_data={"medit:ref": [values]}).write(path)
    return path


def test_a_mesh_of_another_program_is_checked_and_named(made: tuple[Path, dict], tmp_path: Path) -> None:
    """Its regions named, a mesh goes through the same gate and comes out with the volumes and surface it had."""
    folder, content = made
    other = by_another(tmp_path / "other.mesh", folder / "mesh.vtu")
    files = ("--out", tmp_path / "named.vtu", "--stl", tmp_path / "named.stl")
    code, named = take(other, "--region", "40=tumour", "--region", "30=host", *files)
    assert code == 0
    assert named["regions"] == pytest.approx(content["regions"], rel=1e-6)
    assert named["report"]["turned"] == content["elements"] == named["elements"]
    assert set(meshio.read(tmp_path / "named.vtu").cell_data["region"][0].tolist()) == {1, 2}
    triangles = stl_triangles((tmp_path / "named.stl").read_bytes())
    assert volume(triangles) == pytest.approx(content["regions"]["tumour"], rel=1e-4)
    assert json.loads((tmp_path / "named.json").read_text())["report"]["failures"] == []


@pytest.mark.parametrize(
    "words", [(), ("--region", "5=tumour"), ("--region", "40=tumour", "--size", "3"), ("--region", "x=tumour")]
)
def test_a_mesh_that_is_not_said_to_hold_a_tumour_is_refused(
    made: tuple[Path, dict], tmp_path: Path, words: tuple[str, ...]
) -> None:
    """No name, a value that no element has, a size for a mesh that is taken as it is: exit code 2, nothing written."""
    other = by_another(tmp_path / "other.mesh", made[0] / "mesh.vtu")
    code, _ = take(other, *words, "--out", tmp_path / "named.vtu")
    assert code == 2
    assert [path.name for path in tmp_path.iterdir()] == ["other.mesh"]


def test_a_mesh_of_the_project_needs_no_names(made: tuple[Path, dict], tmp_path: Path) -> None:
    """Its file numbers host and tumour as every file of the project: checked again it is the same mesh."""
    code, again = take(made[0] / "mesh.vtu", "--out", tmp_path / "again.vtu")
    assert code == 0
    assert again["regions"] == made[1]["regions"]


def test_a_file_that_is_not_there_is_said_to_be_absent(tmp_path: Path) -> None:
    """Not damaged: its path is wrong. A segmentation and a mesh alike."""
    for name in ("absent.nii.gz", "absent.vtu", "absent.dcm"):
        code, answer = take(tmp_path / name, "--out", tmp_path / "mesh.vtu")
        assert code == 2
        assert f"'{name}' does not exist" in answer["error"]["found"]
    assert not list(tmp_path.iterdir())


def test_a_mesh_of_more_elements_than_memory_holds_is_not_begun(visit: Path, tmp_path: Path) -> None:
    """Elements of 0.02 mm in a ball of 9 mm: thousands of millions, said at once."""
    code, answer = take(visit / "tumour.dcm", "--size", "0.02", "--out", tmp_path / "mesh.vtu")
    assert code == 2
    assert "elements of 0.02 mm: about" in answer["error"]["found"]
    assert not list(tmp_path.iterdir())


def test_a_segmentation_has_labels_not_regions(visit: Path, tmp_path: Path) -> None:
    """--region belongs to meshes."""
    code, _ = run(visit / "tumour.dcm", "--region", "1=tumour", "--out", tmp_path / "mesh.vtu")
    assert code == 2
