"""Canaries: strings planted in images, names and identifiers are nowhere in what the store and its exports hold."""

from __future__ import annotations

import json
import logging
import re
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from pydicom import config, dcmread
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileDataset
from sqlalchemy import select

from oncoscale.imaging.aif import in_plasma, population_curve
from oncoscale.imaging.dicom_read import read_study
from oncoscale.imaging.kinetics import fit_curves
from oncoscale.linkage import standards, tables
from oncoscale.linkage.exporting import export
from oncoscale.linkage.ingest import ingest, load_study
from oncoscale.linkage.store import Store

from .conftest import ACTIVE, bytes_below, write_visit
from .test_deidentify import CANARY, plant

WORDS = {"PN", "LO", "LT", "ST", "UT", "UC", "AE", "SH", "UR", "OB", "UN"}


def words_alone(dataset: Dataset) -> Dataset:
    """What was planted, less numbers, codes and dates: an image must still be readable where it had none of them."""
    kept = Dataset()
    for element in dataset:
        if element.VR == "SQ":
            kept[element.tag] = DataElement(element.tag, "SQ", [words_alone(item) for item in element.value])
        elif element.VR in WORDS:
            kept[element.tag] = element
    return kept


def spoil(path: Path, canaries: Dataset) -> None:
    """The file with a canary in every text that it did not have, at three depths, and in its preamble and names."""
    image: FileDataset = dcmread(path)
    with config.disable_value_validation():
        image.update({element.tag: element for element in canaries if element.tag not in image})
        image.PatientID, image.PatientName, image.InstitutionName = (f"{CANARY}-ID", f"{CANARY}^A", f"{CANARY}-HOUSE")
        image.SeriesDescription = f"Ax T1 DCE {CANARY}"
        image.preamble = CANARY.encode().ljust(128, b"\0")
        image.file_meta.SourceApplicationEntityTitle = f"{CANARY}-AE"
        image.save_as(path.with_name(f"{CANARY} {path.name}"))
    path.unlink()


def test_the_report_says_by_which_rules_and_how_often(store: Store, tmp_path: Path):
    """Edition, options and counts by attribute are beside the images; a device's identity stays only when asked for."""
    folder = write_visit(tmp_path / "visit", DeviceSerialNumber="SN 4711")
    plain = ingest(folder, store, "0001", consent=ACTIVE)
    (report,) = (json.loads(path.read_text()) for path in store.path.rglob("deidentification.json"))
    assert report["table"] == "DICOM PS3.15 E.1-1, 2026c"
    assert report["options"].keys() == {"113100", "113104", "113105", "113107", "113108"}
    assert report["attributes"]["PatientName"] == {"emptied": 10}
    assert report["attributes"]["StudyDate"] == {"shifted": 10}
    kept = ingest(folder, store, "0001", device_identity=True)
    (report,) = (json.loads(path.read_text()) for path in store.path.rglob("deidentification.json"))
    assert (kept.study, kept.is_new) == (plain.study, True)
    assert "113109" in report["options"]
    assert any(b"SN 4711" in data for path, data in bytes_below(store.path) if path.suffix == ".dcm")


def lengthen(folder: Path, frames: int) -> None:
    """The dynamic series with more frames, a minute apart: enough for a fit."""
    images = [dcmread(path) for path in sorted(folder.rglob("image-*.dcm"))]
    last = [image for image in images if image.TemporalPositionIdentifier == 3]
    for number in range(4, frames + 1):
        for place, image in enumerate(last):
            image.TemporalPositionIdentifier, image.AcquisitionTime = number, f"10{16 + number}30.5"
            image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.4.5.{number}.{place}"
            image.PixelData = (image.pixel_array + number * 20).astype("<u2").tobytes()
            image.save_as(folder / f"more-{number}-{place}.dcm")
    for path in [*folder.rglob("image-*.dcm"), *folder.glob("more-*.dcm")]:
        image = dcmread(path)
        image.NumberOfTemporalPositions = frames
        image.save_as(path)


def test_a_fit_of_kinetics_is_the_same_to_the_last_bit(store: Store, tmp_path: Path):
    """The times and voxels of a dynamic series, and so what is fitted to them, do not change by one bit."""
    folder = write_visit(tmp_path / "visit")
    lengthen(folder, 9)
    done = ingest(folder, store, "0001", consent=ACTIVE)
    plasma, fits = in_plasma(population_curve("parker", 600.0), 0.42), []
    for study in (read_study(folder), load_study(store, done.study)[0]):
        series, tumour = study.series[0], study.labels[0].mask("tumour")
        curves = series.values[:, tumour].T / 1000.0
        fits.append(fit_curves(series.times_s, curves, "patlak", plasma))
    assert np.isfinite(fits[0].parameters["ps"]).all()
    assert {name: one.tobytes() for name, one in fits[0].parameters.items()} == {
        name: one.tobytes() for name, one in fits[1].parameters.items()
    }


def test_no_canary_is_in_any_byte_of_store_log_or_export(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
):
    """Database, write-ahead log, shared memory, images, sidecars, file names, log and printed words, and the export
    in every registered standard are free of them; what was cleaned is told by attribute, never by value."""
    caplog.set_level(logging.DEBUG)
    folder, canaries = write_visit(tmp_path / f"{CANARY} folder", label=f"{CANARY} tumour"), Dataset()
    plant(canaries, count(), 2)
    for path in sorted(folder.rglob("*.dcm")):
        spoil(path, words_alone(canaries))
    assert all(data.count(CANARY.encode()) > 1000 for _, data in bytes_below(folder))
    with store.reading() as connection:  # an open reader keeps the write-ahead log in place
        connection.execute(select(tables.subject)).all()
        done = ingest(folder, store, f"{CANARY}-0001", consent=ACTIVE)
        written = {
            name: export(store, done.subject, tmp_path / "out" / name, standard_name=name) for name in standards.names()
        }
        files = [*bytes_below(store.path), *bytes_below(tmp_path / "out")]
    assert {path.suffix for path, _ in files} >= {".dcm", ".json", ".sqlite", ".sqlite-wal", ".sqlite-shm"}
    assert all(one.path.exists() for one in written.values())
    found = [
        path for path, data in files if re.search(CANARY.encode(), data, re.IGNORECASE) or CANARY in path.as_posix()
    ]
    assert found == []
    assert CANARY not in caplog.text + "".join(capfd.readouterr()) + repr(done) + repr(written)
