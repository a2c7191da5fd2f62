"""Bad input: exit code 2 (4 for the disk), one clear message, nothing half written, no identity anywhere."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest

from oncoscale.imaging.nifti import write_labels
from oncoscale.imaging.study import Grid, LabelImage

IDENTITY = ("REFERENCE", "Reference^", "CHILD")


@pytest.fixture(scope="session")
def dynamic(patient, workplace) -> Path:
    """The dynamic series of the reference patient, first ten frames, as files that may be spoilt."""
    (series,) = (patient / "visit-1").glob("*dce*")
    folder = workplace / "dynamic"
    folder.mkdir()
    headers = sorted(
        (int(pydicom.dcmread(path, stop_before_pixels=True).TemporalPositionIdentifier), path)
        for path in series.iterdir()
    )
    for frame, path in headers:
        if frame <= 10:
            dataset = pydicom.dcmread(path)
            dataset.NumberOfTemporalPositions = 10
            dataset.save_as(folder / path.name)
    return folder


def refused(answer, code=2):
    """The error of an answer: typed, with a remedy, without identity."""
    assert answer["code"] == code, answer
    error = answer["error"]
    assert error["found"]
    assert error["remedy"]
    said = json.dumps(answer)
    assert not [word for word in IDENTITY if word in said]
    return error


def edit(path, **values):
    """Change attributes of one DICOM file."""
    dataset = pydicom.dcmread(path)
    for name, value in values.items():
        setattr(dataset, name, value)
    dataset.save_as(path)


def empty(folder):
    for path in folder.iterdir():
        path.unlink()


def not_dicom(folder):
    empty(folder)
    (folder / "notes.txt").write_text("not an image")


def mixed_patients(folder):
    edit(sorted(folder.iterdir())[0], PatientID="SOMEBODY-ELSE")


def truncated(folder):
    path = sorted(folder.iterdir())[0]
    path.write_bytes(path.read_bytes()[:-500])


def missing_time_point(folder):
    sorted(folder.iterdir())[17].unlink()


def equal_times(folder):
    for path in folder.iterdir():
        edit(path, AcquisitionTime="101500", ContentTime="101500", TemporalPositionIdentifier=1)


def decreasing_times(folder):
    for path in folder.iterdir():
        frame = int(pydicom.dcmread(path, stop_before_pixels=True).TemporalPositionIdentifier)
        edit(path, AcquisitionTime=f"1015{59 - frame:02d}", ContentTime=f"1015{59 - frame:02d}")


def zero_spacing(folder):
    for path in folder.iterdir():
        edit(path, PixelSpacing=[0, 0])


def mixed_series(folder):
    edit(sorted(folder.iterdir())[3], PixelSpacing=[5, 5])


@pytest.mark.parametrize(
    "spoil",
    [empty, not_dicom, mixed_patients, truncated, missing_time_point, equal_times, zero_spacing, mixed_series],
)
def test_spoilt_images_are_refused(spoil, dynamic, tmp_path, here, consent):
    """A folder that is not one whole study is refused before anything is stored."""
    folder = shutil.copytree(dynamic, tmp_path / "images")
    spoil(folder)
    refused(here("ingest", folder, "--store", tmp_path / "store", "--subject", "S", "--consent", consent))
    assert not (tmp_path / "store").exists()


def test_times_that_run_backwards_are_refused(dynamic, tmp_path, here, consent):
    """Clocks that run against the positions in time are never used."""
    folder = shutil.copytree(dynamic, tmp_path / "images")
    decreasing_times(folder)
    answer = here("ingest", folder, "--store", tmp_path / "store", "--subject", "S", "--consent", consent)
    refused(answer)
    assert not (tmp_path / "store").exists()


def mask(values):
    """A label image of 2 mm voxels."""
    return LabelImage(Grid(values.shape, np.diag([2.0, 2.0, 2.0, 1.0])), values.astype(np.uint8), {1: "tumour"})


def ball(centre, radius=5, shape=(24, 24, 24)):
    """True within ``radius`` voxels of the centre."""
    place = np.indices(shape).T - np.array(centre)
    return ((place**2).sum(axis=-1) < radius**2).T


@pytest.mark.parametrize(
    "values",
    [np.zeros((24, 24, 24)), ball((1, 12, 12)), ball((6, 6, 6)) | ball((17, 17, 17))],
    ids=["empty", "border", "two pieces"],
)
def test_masks_that_are_no_tumour_are_refused(values, tmp_path, here):
    """An empty segmentation, one that touches the border, and two pieces are refused; no mesh is written."""
    write_labels(tmp_path / "mask.nii.gz", mask(values))
    refused(here("mesh", tmp_path / "mask.nii.gz", "--out", tmp_path / "mesh.vtu"))
    assert {path.name for path in tmp_path.iterdir()} == {"mask.nii.gz"}


def test_maps_of_nothing_are_refused(tmp_path, here, consent):
    """A map whose every voxel is NaN says nothing about a tumour."""
    images = tmp_path / "maps"
    images.mkdir()
    nibabel.save(nibabel.Nifti1Image(np.full((24, 24, 24), np.nan, np.float32), np.eye(4)), images / "ktrans.nii.gz")
    write_labels(images / "tumour.nii.gz", mask(ball((12, 12, 12))))
    store = ("--store", tmp_path / "store", "--subject", "S", "--consent", consent)
    refused(here("ingest", images, *store, "--unit", "ktrans=1/min"))
    assert not (tmp_path / "store").exists()


def forecast_options(study, store, out):
    """A forecast too small to wait for."""
    small = ("--elements", 4, "--cells", 60, "--members", 1, "--no-effects", "--days", 2)
    return ("forecast", study, "--store", store, "--tumour", "neuroblastoma", "--out", out, *small)


def test_no_consent_no_run(dynamic, tmp_path, here, consent):
    """Without consent, and after it was withdrawn, nothing is computed."""
    store = tmp_path / "store"
    taken = here("ingest", dynamic, "--store", store, "--subject", "S")
    assert taken["code"] == 0
    missing = refused(here(*forecast_options(taken["study"], store, tmp_path / "run")))
    assert missing["kind"] == "ConsentDenied"
    assert here("consent", "record", taken["subject"], consent, "--store", store)["code"] == 0
    assert here("consent", "withdraw", taken["subject"], "--store", store)["code"] == 0
    withdrawn = refused(here(*forecast_options(taken["study"], store, tmp_path / "run")))
    assert "withdrawn" in withdrawn["found"]
    assert not (tmp_path / "run").exists()


def test_a_store_that_cannot_be_written_is_refused(dynamic, tmp_path, here, consent):
    """A store below something that is no folder is the user's to change."""
    (tmp_path / "file").write_text("x")
    place = tmp_path / "file" / "store"
    refused(here("ingest", dynamic, "--store", place, "--subject", "S", "--consent", consent))
    assert (tmp_path / "file").read_text() == "x"


@pytest.mark.slow
def test_a_full_disk_is_a_fault_that_leaves_nothing(reference_visit, tmp_path, monkeypatch, oncoscale, here):
    """Files that cannot grow past 200 kB stop the run with exit code 4; no folder is left, the store still works."""
    limits = (200_000, 200_000)
    real = subprocess.run

    def limited(*arguments, **options):
        return real(*arguments, **options, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limits))

    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "run", limited)
        answer = oncoscale(*forecast_options(reference_visit["study"], reference_visit["store"], out))
    refused(answer, code=4)
    assert not list(tmp_path.iterdir())
    assert here("show", reference_visit["subject"], "--store", reference_visit["store"])["code"] == 0
