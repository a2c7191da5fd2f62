"""Orthanc as a process of the tests, on loopback, with its own configuration and storage.

Import the fixture where it is used: ``from .orthanc import running_orthanc  # noqa: F401``. Where Orthanc is missing it
is installed from Debian, if that may be; where it may not, tests are skipped and say why.
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

import pytest

from oncoscale.imaging.dicomweb import Login


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


LOGIN = Login("oncoscale", "made up")


@pytest.fixture(scope="module", name="orthanc")
def running_orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    """(address, DICOM port) of an Orthanc of our own, empty, on loopback, that asks for a login."""
    program, folder = orthanc_program(), tmp_path_factory.mktemp("orthanc")
    process, web, dicom = _started(program, folder)
    try:
        yield f"http://127.0.0.1:{web}", dicom
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()


def _started(program: str, folder: Path, tries: int = 3) -> tuple[subprocess.Popen[bytes], int, int]:
    """(the server, its ports); tried with other ports where it does not start: a free port may be taken meanwhile."""
    web, dicom = free_port(), free_port()
    settings = {
        "Name": "test",
        "HttpPort": web,
        "DicomPort": dicom,
        "DicomAet": "ARCHIVE",
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": True,
        "RegisteredUsers": {LOGIN.user: LOGIN.password},
        "DicomAlwaysAllowStore": True,
        "DicomAlwaysAllowFind": True,
        "DicomAlwaysAllowGet": True,
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
        _wait_for(f"http://127.0.0.1:{web}", process, folder / "log")
    except AssertionError:
        process.kill()
        if tries == 1:
            raise
        return _started(program, folder, tries - 1)
    return process, web, dicom


def _wait_for(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(300):
        assert process.poll() is None, log.read_text(errors="replace")[-2000:]
        try:
            ask(address, "/system")
            return
        except OSError:
            time.sleep(0.2)
    raise AssertionError("Orthanc does not answer: " + log.read_text(errors="replace")[-2000:])


def ask(address: str, path: str, body: bytes | None = None, method: str | None = None) -> Any:
    """Orthanc's own interface."""
    with urlopen(Request(f"{address}{path}", body, LOGIN.header(), method=method), timeout=20) as reply:
        return json.loads(reply.read() or b"{}")


def empty(address: str) -> None:
    """Delete every study from Orthanc."""
    for study in ask(address, "/studies"):
        ask(address, f"/studies/{study}", method="DELETE")
