"""Canaries: strings planted in images, names and identifiers are nowhere in what the store and its exports hold."""

from __future__ import annotations

import logging
import re
from itertools import count
from pathlib import Path

import pytest
from pydicom import config, dcmread
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileDataset
from sqlalchemy import select

from oncoscale.linkage import standards, tables
from oncoscale.linkage.exporting import export
from oncoscale.linkage.ingest import ingest
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
