"""A small visit made of real DICOM: a dynamic series on three slices, and a segmentation drawn on it."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oncoscale.imaging.dicom_write import (
    MRSeries,
    SegmentationHead,
    Volume,
    derived_uid,
    image_headers,
    write_mr_series,
    write_segmentation,
)
from oncoscale.imaging.study import Grid, LabelImage
from oncoscale.linkage.consent import Consent
from oncoscale.linkage.store import Store
from oncoscale.linkage.vault import Vault

ACTIVE = Consent("active", document_sha256="a" * 64)


@pytest.fixture(autouse=True)
def vault_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test touches the user's vault."""
    folder = tmp_path / "vault"
    monkeypatch.setenv("ONCOSCALE_VAULT", str(folder))
    return folder


@pytest.fixture
def vault(vault_folder: Path) -> Vault:
    return Vault.open()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(tmp_path / "store", create=True)
    with opened.writing():
        pass  # the first write makes it
    yield opened
    opened.engine.dispose()


MakeVisit = Callable[..., Path]


@pytest.fixture
def make_visit(tmp_path: Path) -> MakeVisit:
    """write_visit below the test's folder."""
    return lambda name="visit", **stated: write_visit(tmp_path / name, **stated)


def write_visit(
    folder: Path,
    *,
    date: str = "20210301",
    study: str = "1",
    patient: str = "HOSP-0001",
    label: str = "Tumour",
    **more: Any,
) -> Path:
    """Three times of three slices of 16 x 12 voxels, oblique, and a tumour of a few voxels."""
    study_uid = f"1.2.3.4.{study}"
    turn = np.array([[0.96, 0.28, 0.0], [-0.28, 0.96, 0.0], [0.0, 0.0, 1.0]])
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn * [1.5, 1.5, 4.0], [-20.5, 11.25, 3.0]
    grid = Grid((16, 12, 3), affine, f"1.2.3.4.{study}.9")
    about = {
        "PatientID": patient,
        "PatientName": "Miller^Ada",
        "PatientBirthDate": "20180712",
        "PatientSex": "F",
        "PatientAge": "002Y",
        "StudyInstanceUID": study_uid,
        "StudyDate": date,
        "StudyTime": "101500",
        "StudyID": "77",
        "AccessionNumber": "ACC-4711-X",
        "ReferringPhysicianName": "Dr^Who",
        "StudyDescription": "MR",
        "InstitutionName": "General Hospital",
        "BodyPartExamined": "ABDOMEN",
        **more,
    }
    scan = {
        "Manufacturer": "ACME",
        "ScanningSequence": "GR",
        "SequenceVariant": "SP",
        "ScanOptions": "",
        "MRAcquisitionType": "3D",
        "RepetitionTime": "5",
        "EchoTime": "2",
        "FlipAngle": "15",
        "EchoTrainLength": "1",
        "MagneticFieldStrength": "3",
        "ImageType": ["ORIGINAL", "PRIMARY", "OTHER"],
        "SeriesDate": date,
        "AcquisitionDate": date,
        "ContentDate": date,
        "SeriesTime": "101600",
        "InstitutionName": "General Hospital",
        "Laterality": "",
        "PatientPosition": "HFS",
    }
    series = MRSeries(f"1.2.3.4.{study}.1", 4, "Ax T1 DCE Miller", grid, about, scan, (400.0, 800.0))
    noise = np.random.default_rng(7)
    moments = [
        {
            "TemporalPositionIdentifier": n + 1,
            "NumberOfTemporalPositions": 3,
            "AcquisitionTime": clock,
            "ContentTime": clock,
        }
        for n, clock in enumerate(("101600.5", "101712.25", "101824"))
    ]
    volumes = [
        Volume(noise.integers(100, 400 + 100 * n, grid.shape).astype(np.uint16), moment)
        for n, moment in enumerate(moments)
    ]
    write_mr_series(folder / "HOSP-0001 dce", series, volumes)
    values = np.zeros(grid.shape, dtype=np.uint8)
    values[5:9, 4:8, 1] = 1
    head = SegmentationHead(
        derived_uid(study_uid, "seg"), derived_uid(study_uid, "seg", 1), 9, "Tumour of Miller", (date, "120000")
    )
    write_segmentation(
        folder / "miller-seg.dcm", LabelImage(grid, values, {1: label}), image_headers(series, 0, moments[0]), head
    )
    return folder


def bytes_below(folder: Path) -> Iterator[tuple[Path, bytes]]:
    """Every file below a folder, with its content."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path, path.read_bytes()


def told_in(content: bytes, words: Iterable[bytes]) -> list[bytes]:
    """Those of the words that stand in the bytes, keyed UIDs apart: their digits are any date's once in a while."""
    rest = re.sub(rb"2\.25\.\d{20,}", b"", content)
    return [word for word in words if word in rest]


Judge = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def judge() -> Judge:
    """Runs an independent program of the judges' environment (`make .judges/.installed`), or a skip that says why."""
    folder = Path(__file__).parents[2] / ".judges" / "bin"
    if not folder.is_dir():
        pytest.skip("not run: no judges' environment (make .judges/.installed)")

    def run(program: str, *arguments: str | Path, **more: Any) -> subprocess.CompletedProcess[str]:
        command = [str(folder / program), *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False, **more)

    return run
