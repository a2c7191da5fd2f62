"""Defacing: on a made head the nose, eyes and mouth go, the brain and the tumour stay to the last bit."""

from __future__ import annotations

import json
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian, RLELossless
from sqlalchemy import select

from oncoscale.core.errors import ConfigurationRejected, StudyRejected
from oncoscale.imaging.dicom_read import read_study
from oncoscale.imaging.dicom_write import (
    MRSeries,
    SegmentationHead,
    Volume,
    derived_uid,
    image_headers,
    write_mr_series,
    write_segmentation,
)
from oncoscale.imaging.nifti import write_nifti
from oncoscale.imaging.study import Grid, LabelImage
from oncoscale.linkage import tables
from oncoscale.linkage.deface import Face, deface, find_face, shows_a_head
from oncoscale.linkage.deidentify import encoded
from oncoscale.linkage.exporting import export
from oncoscale.linkage.ingest import ingest, load_study
from oncoscale.linkage.standards import ro_crate
from oncoscale.linkage.store import Store

from .conftest import ACTIVE

SIZE, STEP = (56, 64, 60), 4.0
PONS = (0.0, 15.0, -30.0)
"""mm, LPS, from the middle of the head."""
MIDDLE = np.array([3.0, -7.0, 40.0])


def oblique(turn_deg: float = 12.0) -> Grid:
    """A lattice of 4 mm, turned about the axis from ear to ear, round the middle of the head and its neck."""
    turn = np.radians(turn_deg)
    axes = np.array([[1, 0, 0], [0, np.cos(turn), -np.sin(turn)], [0, np.sin(turn), np.cos(turn)]])
    affine = np.eye(4)
    affine[:3, :3] = axes * STEP
    affine[:3, 3] = MIDDLE - axes @ (np.array([28.0, 32.0, 32.0]) * STEP)
    return Grid(SIZE, affine, "1.2.3.4.9")


def inside(world: np.ndarray, middle: tuple[float, float, float], radii: tuple[float, float, float]) -> np.ndarray:
    return np.asarray((((world - MIDDLE - middle) / radii) ** 2).sum(axis=-1) < 1.0)


def parts(grid: Grid) -> dict[str, np.ndarray]:
    """Skin, brain, nose, eyes, mouth and pons of a head 150 x 190 x 200 mm, as masks; the face lies towards -y."""
    places = np.stack(np.meshgrid(*[np.arange(n) for n in grid.shape], indexing="ij"), axis=-1)
    at = grid.world(places)
    jaw = inside(at, (0.0, -30.0, -75.0), (45.0, 50.0, 50.0))
    neck = inside(at, (0.0, 20.0, -110.0), (50.0, 55.0, 90.0))
    cerebrum = inside(at, (0.0, 0.0, 15.0), (63.0, 80.0, 70.0))
    frontal_base = (at - MIDDLE)[..., 2] > -8.0  # the frontal lobes rest on the roof of the orbits, near the brow
    temporal = (at - MIDDLE)[..., 1] > -42.0
    nose = inside(at, (0.0, -100.0, -38.0), (13.0, 22.0, 20.0))
    return {
        "head": inside(at, (0.0, 0.0, 0.0), (75.0, 95.0, 100.0)) | jaw | neck | nose,
        "brain": cerebrum & (frontal_base | temporal) | inside(at, PONS, (15.0, 15.0, 25.0)),
        "nose": nose & ~inside(at, (0.0, 0.0, 0.0), (75.0, 95.0, 100.0)),
        "mouth": inside(at, (0.0, -75.0, -75.0), (20.0, 10.0, 8.0)),
        "pons": inside(at, PONS, (9.0, 9.0, 9.0)),
    }


def picture(grid: Grid) -> np.ndarray:
    """Stored values: air with noise, a grey head, a bright brain."""
    of, noise = parts(grid), np.random.default_rng(3)
    values = noise.integers(0, 12, grid.shape) + 180 * of["head"] + 220 * of["brain"]
    return np.asarray(values, dtype=np.uint16)


def write_head(folder: Path, *, drawn: str = "pons", body_part: str = "HEAD", grid: Grid | None = None) -> Path:
    """One volume of the made head as MR images, and a segmentation of one of its parts."""
    grid = grid or oblique()
    about = {
        "PatientID": "HOSP-0007",
        "PatientName": "Miller^Ada",
        "StudyInstanceUID": "1.2.3.4",
        "StudyDate": "20210301",
    }
    about |= dict.fromkeys(("PatientBirthDate", "AccessionNumber", "ReferringPhysicianName", "StudyID"), "")
    about |= {"StudyTime": "101500", "BodyPartExamined": body_part, "PatientSex": "F", "StudyDescription": "MR"}
    scan = {"ScanningSequence": "GR", "SequenceVariant": "SP", "ScanOptions": "", "MRAcquisitionType": "3D"}
    scan |= {"RepetitionTime": "5", "EchoTime": "2", "FlipAngle": "15", "EchoTrainLength": "1", "Manufacturer": "ACME"}
    scan |= {"ImageType": ["ORIGINAL", "PRIMARY", "OTHER"], "AcquisitionDate": "20210301", "PatientPosition": "HFS"}
    series = MRSeries("1.2.3.4.1", 1, "Ax T1", grid, about, scan, (400.0, 800.0))
    moment = {"AcquisitionTime": "101600", "ContentTime": "101600", "ContentDate": "20210301"}
    write_mr_series(folder / "t1", series, [Volume(picture(grid), moment)])
    label = LabelImage(grid, parts(grid)[drawn].astype(np.uint8), {1: "Tumour"})
    uids = derived_uid("1.2.3.4", "seg"), derived_uid("1.2.3.4", "seg", 1)
    head = SegmentationHead(*uids, 9, "Tumour", ("20210301", "120000"))
    write_segmentation(folder / "seg.dcm", label, image_headers(series, 0, moment), head)
    return folder


@pytest.mark.parametrize("turn_deg", [-15.0, 0.0, 12.0])
def test_the_face_is_found_from_the_surface_alone(turn_deg: float):
    """However the scan is angled, nose and mouth lie in the face, and no voxel of the brain does."""
    grid = oblique(turn_deg)
    face = find_face(picture(grid).astype(np.float32), grid)
    assert isinstance(face, Face)
    covered = face.covers(grid.world(np.stack(np.meshgrid(*[np.arange(n) for n in SIZE], indexing="ij"), axis=-1)))
    of = parts(grid)
    assert covered[of["nose"]].mean() > 0.98
    assert covered[of["mouth"]].all()
    assert not covered[of["brain"]].any()
    assert 0.03 < covered[of["head"]].mean() < 0.2


@pytest.mark.parametrize("tilt_deg", [-15.0, 15.0])
def test_a_tilted_head_is_refused(tilt_deg: float):
    """Chin up, the face would stay; chin down, the brain would be cut: a head that is not upright is not defaced."""
    face = find_face(picture(oblique(0.0)).astype(np.float32), oblique(tilt_deg))
    assert isinstance(face, str)
    assert "tilted" in face


def test_a_defaced_visit_has_no_face_and_the_same_brain(store: Store, tmp_path: Path):
    """In the stored images the face is air; every voxel outside it is the same, and it is written down."""
    folder = write_head(tmp_path / "head")
    before, done = read_study(folder), ingest(folder, store, "HOSP-0007", consent=ACTIVE, deface=True)
    after, _ = load_study(store, done.study)
    grid, of = before.series[0].grid, parts(before.series[0].grid)
    changed = before.series[0].values != after.series[0].values
    assert not changed[of["brain"]].any()
    assert (after.series[0].values[of["nose"]] == 0).mean() > 0.98
    assert np.all(after.series[0].values[changed] == 0)
    assert np.array_equal(before.labels[0].values, after.labels[0].values)
    assert grid.same_as(after.series[0].grid)
    image = dcmread(next(store.path.rglob("t1/*.dcm"), None) or next(store.path.rglob("*.dcm")))
    assert "113102" in {code.CodeValue for code in image.DeidentificationMethodCodeSequence}
    assert image.RecognizableVisualFeatures == "NO"
    with store.reading() as connection:
        (attributes,) = connection.execute(select(tables.event.c.attributes)).scalars()
    assert json.loads(attributes)["head"] is json.loads(attributes)["defaced"] is True
    again = ingest(folder, store, "HOSP-0007", deface=True)
    assert (again.study, again.is_new) == (done.study, False)


def test_only_a_defaced_head_leaves(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """An export that carries images refuses a head as it was scanned, and takes it once it was ingested defaced."""
    folder = write_head(tmp_path / "head")
    monkeypatch.setattr(ro_crate, "render_with_files", lambda holdings, out, _: ro_crate.render(holdings, out))
    done = ingest(folder, store, "HOSP-0007", consent=ACTIVE)
    assert any("a face may be recognised" in finding.text for finding in done.findings)
    with pytest.raises(ConfigurationRejected, match="not defaced"):
        export(store, done.subject, tmp_path / "crate", standard_name="ro-crate")
    ingest(folder, store, "HOSP-0007", deface=True)
    assert export(store, done.subject, tmp_path / "crate", standard_name="ro-crate").path.is_dir()


def test_a_region_in_the_face_is_not_cut(store: Store, tmp_path: Path):
    """A tumour of the nose would lose voxels: refused, nothing stored, and no one named."""
    folder = write_head(tmp_path / "head", drawn="nose")
    with pytest.raises(StudyRejected, match="voxels of a drawn region") as refused:
        ingest(folder, store, "HOSP-0007", consent=ACTIVE, deface=True)
    assert "Miller" not in str(refused.value)
    assert not list((store.path / "studies").iterdir())


@pytest.mark.parametrize(
    ("keep", "reason"),
    [
        ((slice(None), slice(None), slice(0, 45)), "top"),
        ((slice(None), slice(None), slice(40, 60)), "brow"),
        ((slice(None), slice(14, 64), slice(None)), "front"),
    ],
)
def test_a_head_that_is_cut_off_is_refused(keep: tuple[slice, slice, slice], reason: str):
    """Without vertex, brow or front nothing is guessed."""
    grid = oblique(0.0)
    affine = grid.affine.copy()
    affine[:3, 3] = grid.world(np.array([one.start or 0 for one in keep]))
    cut = picture(grid)[keep].astype(np.float32)
    found = find_face(cut, Grid((cut.shape[0], cut.shape[1], cut.shape[2]), affine))
    assert isinstance(found, str)
    assert reason in found


@pytest.mark.parametrize(("modality", "intercept", "air"), [("MR", 0, 0), ("CT", -1024, 24), ("CT", 0, 0)])
def test_air_is_written_as_each_modality_stores_it(tmp_path: Path, modality: str, intercept: int, air: int):
    """-1000 HU in CT as far as the stored type can say it, 0 elsewhere; a compressed image becomes a plain one."""
    folder = write_head(tmp_path / "head")
    image = dcmread(next((folder / "t1").iterdir()))
    image.Modality, image.RescaleIntercept, image.RescaleSlope = modality, str(intercept), "1"
    before = image.pixel_array.copy()
    image.compress(RLELossless)
    brow = np.array(image.ImagePositionPatient, dtype=float) + np.array([0.0, 120.0, 1000.0])
    face = Face(brow, np.array([0.0, 0.0, -1.0]), 0.0)  # everything before a coronal plane
    taken = deface(image, {"1.2.3.4.9": face}, "the file")
    after = image.pixel_array
    assert image.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert 0 < taken < before.size
    assert np.count_nonzero(after == air) >= taken
    assert np.count_nonzero(after != before) <= taken
    assert dcmread(BytesIO(encoded(image))).pixel_array.tolist() == after.tolist()


def test_what_cannot_be_defaced_is_refused(store: Store, tmp_path: Path):
    """Images in NIfTI and images of another frame of reference would keep their face."""
    folder = write_head(tmp_path / "head")
    for path in list((folder / "t1").iterdir())[:1]:
        image = dcmread(path)
        image.FrameOfReferenceUID, image.SeriesInstanceUID, image.SOPInstanceUID = "1.2.7", "1.2.8", "1.2.8.1"
        image.SeriesDescription = "localizer"
        image.save_as(folder / "scout.dcm")
    with pytest.raises(StudyRejected, match="frame of reference of its own"):
        ingest(folder, store, "HOSP-0007", consent=ACTIVE, deface=True)
    grid = replace(oblique(), frame_uid="")
    (tmp_path / "nifti").mkdir()
    write_nifti(tmp_path / "nifti" / "t1.nii.gz", grid, picture(grid).astype(np.float32))
    with pytest.raises(StudyRejected, match="NIfTI"):
        ingest(tmp_path / "nifti", store, "HOSP-0007", consent=ACTIVE, deface=True)
    assert not list((store.path / "studies").iterdir())


def test_heads_are_flagged_by_body_part_or_words(tmp_path: Path):
    """A body part, or a word of a description, is enough; an abdomen is none."""
    folder = write_head(tmp_path / "head", body_part="")
    image = dcmread(next((folder / "t1").iterdir()))
    assert not shows_a_head([image])
    image.SeriesDescription = "Ax_T1 brain"
    assert shows_a_head([image])
    image.SeriesDescription, image.BodyPartExamined = "Ax T1", "SKULL "
    assert shows_a_head([image])
