"""Through archives and back: every derived object comes out of a network node and of Orthanc as it went in.

Orthanc runs as a process of the test on loopback, with its own configuration and storage. Where it is missing, the
test installs it from Debian if it may; where it may not, it is skipped and says why.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import numpy as np
import pydicom
import pytest
from dicomweb_client.api import DICOMwebClient
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, evt

from oncoscale.core.errors import ConfigurationRejected, StorageFault
from oncoscale.imaging.archive import held, send
from oncoscale.imaging.derived_object import SeriesHead
from oncoscale.imaging.derived_study import write_derived
from oncoscale.imaging.dicom_read import read_study
from oncoscale.imaging.dicom_write import MRSeries, SegmentationHead, Volume, derived_uid, write_mr_series
from oncoscale.imaging.dicom_write import write_segmentation as write_seg
from oncoscale.imaging.map_files import Quantified
from oncoscale.imaging.parametric_map import write_parametric_map
from oncoscale.imaging.source_images import read_source_images
from oncoscale.imaging.study import Grid, LabelImage, ParametricMap
from oncoscale.imaging.surface_dicom import write_surface_object

SHAPE = (4, 3, 3)
GRID = Grid(SHAPE, np.diag([1.5, 2.0, 4.0, 1.0]), derived_uid("archive", "frame"))
STUDY = {
    "PatientName": "MADE^UP",
    "PatientID": "archive",
    "PatientBirthDate": "",
    "PatientSex": "O",
    "StudyDate": "20240115",
    "StudyTime": "101500",
    "StudyID": "1",
    "AccessionNumber": "1",
    "ReferringPhysicianName": "",
    "StudyInstanceUID": derived_uid("archive", "study"),
    "BodyPartExamined": "ABDOMEN",
    "PatientPosition": "HFS",
}
ECHO = {"ImageType": ["ORIGINAL", "PRIMARY", "OTHER"], "ScanningSequence": "GR", "SequenceVariant": "SP"}
PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData", "EncapsulatedDocument")


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Images, three kinds of map, three of segmentation, a report and a surface, of one study."""
    folder = tmp_path_factory.mktemp("objects")
    series = MRSeries(derived_uid("archive", "mr"), 1, "mr", GRID, STUDY, ECHO, (50.0, 100.0))
    write_mr_series(folder / "mr", series, [Volume(np.arange(np.prod(SHAPE), dtype=np.uint16).reshape(SHAPE))])
    study, images = read_study(folder / "mr"), read_source_images(folder / "mr")
    values = np.arange(np.prod(SHAPE), dtype=float).reshape(SHAPE) / 7
    values[0, 0, 0] = np.nan
    ktrans = ParametricMap("ktrans", "1/min", GRID, values, None, (series.uid,), "tofts, variable projection")
    labels = np.zeros(SHAPE, np.uint8)
    labels[1:3, 1, 1:3] = 1
    tumour = LabelImage(GRID, labels, {1: "tumour"})
    write_derived(Quantified({"ktrans": ktrans}, tumour=tumour), study, images, folder / "dicom")
    sources = images.of([series.uid], study)
    for number, storage in enumerate(("float64", "uint16"), start=1):
        write_parametric_map(folder / f"{storage}.dcm", ktrans, sources, _head(number), storage=storage)  # type: ignore[arg-type]
    for number, kind in enumerate(("LABELMAP", "FRACTIONAL"), start=3):
        one = _head(number)
        head = SegmentationHead(one.series_uid, one.instance_uid, one.number, kind, one.moment)
        write_seg(folder / f"{kind}.dcm", tumour, sources, head, kind)  # type: ignore[arg-type]
    corners, faces = np.eye(4, 3), np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
    write_surface_object(folder / "surface.dcm", corners, faces, sources, _head(5))
    return sorted(folder.rglob("*.dcm"))


def _head(number: int) -> SeriesHead:
    uids = (derived_uid("archive", "series", number), derived_uid("archive", "instance", number))
    return SeriesHead(*uids, 100 + number, "test", ("20240115", "103000"))


def differences(a: Dataset, b: Dataset) -> list[str]:
    """Names of the elements that differ, group 2 left out: it is the sender's."""
    tags = {element.tag for dataset in (a, b) for element in dataset}
    return [str(tag) for tag in sorted(tags) if tag not in a or tag not in b or a[tag] != b[tag]]


def test_the_comparison_sees_every_kind_of_pixel(objects: list[Path]) -> None:
    """One byte, or one attribute, that differs is found, in each of the four places where bulk data can be."""
    seen = set()
    for path in objects:
        original, changed = pydicom.dcmread(path), pydicom.dcmread(path)
        assert differences(original, changed) == []
        for keyword in (one for one in PIXELS if one in changed):
            value = bytearray(changed[keyword].value)
            value[0] ^= 1
            changed[keyword].value = bytes(value)
            seen.add(keyword)
            assert differences(original, changed) == [str(changed[keyword].tag)]
        changed = pydicom.dcmread(path)
        changed.PatientID = "another"
        assert differences(original, changed) != []
    assert seen == set(PIXELS)


def store(objects: list[Path], port: int) -> list[int]:
    """C-STORE of all objects to a node on loopback; their statuses."""
    node = AE(ae_title="ONCOSCALE")
    for sop_class in {str(pydicom.dcmread(path, specific_tags=["SOPClassUID"]).SOPClassUID) for path in objects}:
        node.add_requested_context(sop_class, ExplicitVRLittleEndian)
    association = node.associate("127.0.0.1", port, ae_title="ARCHIVE")
    assert association.is_established
    statuses = [int(association.send_c_store(pydicom.dcmread(path)).Status) for path in objects]
    association.release()
    return statuses


def test_a_network_node_gets_what_was_sent(objects: list[Path]) -> None:
    """Over C-STORE to a node of our own process every element arrives unchanged."""
    received: dict[str, Dataset] = {}

    def keep(event: Any) -> int:
        received[str(event.dataset.SOPInstanceUID)] = event.dataset
        return 0x0000

    node = AE(ae_title="ARCHIVE")
    for path in objects:
        node.add_supported_context(str(pydicom.dcmread(path).SOPClassUID), ExplicitVRLittleEndian)
    server = node.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, keep)])
    try:
        assert set(store(objects, server.server_address[1])) == {0x0000}
    finally:
        server.shutdown()
    assert len(received) == len(objects)
    for path in objects:
        sent = pydicom.dcmread(path)
        assert differences(sent, received[str(sent.SOPInstanceUID)]) == [], path.name


# ---------------------------------------------------------------------------------------------------------- Orthanc


def orthanc_program() -> str:
    """Path of Orthanc with DICOMweb, installed from Debian if need be; or a skip with the reason."""
    plugin = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
    if shutil.which("Orthanc") and plugin.exists():
        return str(shutil.which("Orthanc"))
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        pytest.skip("Orthanc is not installed, and only root with apt may install it (orthanc orthanc-dicomweb)")
    quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    for command in (["update"], ["install", "-y", "--no-install-recommends", "orthanc", "orthanc-dicomweb"]):
        try:
            run = subprocess.run(
                ["apt-get", "-q", *command], env=quiet, capture_output=True, text=True, timeout=300, check=False
            )
        except subprocess.TimeoutExpired:
            pytest.skip(f"Orthanc could not be installed: apt-get {command[0]} took more than 300 s")
        if run.returncode != 0:
            pytest.skip(f"Orthanc could not be installed: apt-get {command[0]} failed: {run.stderr.strip()[-200:]}")
    found = shutil.which("Orthanc")
    if found is None or not plugin.exists():
        pytest.skip("apt-get installed no Orthanc with DICOMweb")
    return found


def free_port() -> int:
    with closing(socket.socket()) as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    """(address, DICOM port) of an Orthanc of our own, empty, on loopback."""
    program, folder = orthanc_program(), tmp_path_factory.mktemp("orthanc")
    web, dicom = free_port(), free_port()
    settings = {
        "Name": "test",
        "HttpPort": web,
        "DicomPort": dicom,
        "DicomAet": "ARCHIVE",
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomAlwaysAllowStore": True,
        "UnknownSopClassAccepted": True,
        "OverwriteInstances": True,
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "Plugins": ["/usr/share/orthanc/plugins/libOrthancDicomWeb.so"],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }
    (folder / "orthanc.json").write_text(json.dumps(settings))
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen([program, str(folder / "orthanc.json")], stdout=log, stderr=log)
    try:
        _wait_for(f"http://127.0.0.1:{web}/system", process, folder / "log")
        yield f"http://127.0.0.1:{web}", dicom
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(300):
        assert process.poll() is None, log.read_text(errors="replace")[-2000:]
        try:
            with urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    raise AssertionError("Orthanc does not answer: " + log.read_text(errors="replace")[-2000:])


def check_all_back(objects: list[Path], address: str) -> None:
    """QIDO finds every object and every series; WADO gives each back with equal elements and equal bulk data."""
    client = DICOMwebClient(f"{address}/dicom-web")
    sent = [pydicom.dcmread(path) for path in objects]
    study = str(sent[0].StudyInstanceUID)
    assert held(f"{address}/dicom-web", study) == {str(one.SOPInstanceUID) for one in sent}
    found = {row["0020000E"]["Value"][0] for row in client.search_for_series(study)}
    assert found == {str(one.SeriesInstanceUID) for one in sent}
    for one, path in zip(sent, objects, strict=True):
        back = client.retrieve_instance(study, str(one.SeriesInstanceUID), str(one.SOPInstanceUID))
        assert differences(one, back) == [], path.name
        for keyword in (name for name in PIXELS if name in one):
            assert back[keyword].value == one[keyword].value


def forget(address: str, study_uid: str) -> None:
    """Delete a study from Orthanc."""
    query = json.dumps({"Level": "Study", "Query": {"StudyInstanceUID": study_uid}}).encode()
    with urlopen(Request(f"{address}/tools/find", query)) as reply:
        identifiers = json.loads(reply.read())
    assert len(identifiers) == 1
    urlopen(Request(f"{address}/studies/{identifiers[0]}", method="DELETE")).close()


def test_orthanc_gives_back_what_it_got(objects: list[Path], orthanc: tuple[str, int], tmp_path: Path) -> None:
    """Over STOW-RS, then over C-STORE: found by QIDO-RS, identical by WADO-RS; what is no DICOM is refused."""
    address, port = orthanc
    root, study = f"{address}/dicom-web", STUDY["StudyInstanceUID"]
    stored = send(objects, root)
    assert set(stored) == {str(pydicom.dcmread(path).SOPInstanceUID) for path in objects}
    check_all_back(objects, address)
    forget(address, study)
    assert held(root, study) == frozenset()
    assert set(store(objects, port)) == {0x0000}
    check_all_back(objects, address)
    (tmp_path / "none.dcm").write_bytes(b"this is no DICOM")
    with pytest.raises(StorageFault):
        send([tmp_path / "none.dcm"], root)
    with pytest.raises(ConfigurationRejected):
        send(objects[:1], f"{address}/not-there")


def test_addresses_where_no_archive_is_are_refused(objects: list[Path]) -> None:
    """A closed port and an address of another kind say what to do, and exit code 2."""
    for url in (f"http://127.0.0.1:{free_port()}/dicom-web", "file:///etc"):
        with pytest.raises(ConfigurationRejected) as caught:
            send(objects[:1], url)
        assert caught.value.exit_code == 2
        assert caught.value.remedy
