"""Through archives and back: every derived object comes out of a network node and of Orthanc as it went in.

See ``orthanc`` for the archive.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pydicom
import pytest
from dicomweb_client.api import DICOMwebClient
from dicomweb_client.session_utils import create_session_from_user_pass
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, evt
from typer.testing import CliRunner

from oncoscale.app.archive_login import PASSWORD, TOKEN, USER, archive_login
from oncoscale.app.cli import app
from oncoscale.core.errors import ConfigurationRejected, FileRejected, StorageFault
from oncoscale.imaging.archive import Instance, Outgoing, Question, held, likeness, objects_in, send
from oncoscale.imaging.derived_object import SeriesHead
from oncoscale.imaging.derived_study import write_derived
from oncoscale.imaging.dicom_node import FIND, GET, VERIFICATION, DicomNode, node_of
from oncoscale.imaging.dicom_read import read_study
from oncoscale.imaging.dicom_write import MRSeries, SegmentationHead, Volume, derived_uid, write_mr_series
from oncoscale.imaging.dicom_write import write_segmentation as write_seg
from oncoscale.imaging.dicomweb import DicomWeb, Login
from oncoscale.imaging.digital_signature import make_certificate, sign_object, verify_object
from oncoscale.imaging.map_files import Quantified
from oncoscale.imaging.parametric_map import write_parametric_map
from oncoscale.imaging.source_images import read_source_images
from oncoscale.imaging.study import Grid, LabelImage, ParametricMap
from oncoscale.imaging.surface_dicom import write_surface_object

from .orthanc import LOGIN, ask, empty, free_port, running_orthanc  # noqa: F401

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
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(key, certificate) of a made-up site."""
    key = tmp_path_factory.mktemp("pair") / "site.pem"
    return key, make_certificate(key, "A made-up site", datetime.now(UTC))


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory, pair: tuple[Path, Path]) -> list[Path]:
    """Images, three kinds of map, three of segmentation, a report and a signed surface, of one study."""
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
    sign_object(folder / "surface.dcm", *pair, datetime.now(UTC))
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


def test_likeness_sees_one_bit(objects: list[Path]) -> None:
    """Equal files are alike byte by byte, another group 2 makes them alike by elements, one changed bit different."""
    sent = objects[0].read_bytes()
    another = pydicom.dcmread(objects[0])
    another.file_meta.ImplementationVersionName = "ANOTHER"
    changed = pydicom.dcmread(objects[0])
    changed.PixelData = bytes([changed.PixelData[0] ^ 1]) + changed.PixelData[1:]
    assert [likeness(sent, one) for one in (sent, as_file(another), as_file(changed))] == [
        "bytes",
        "elements",
        "different",
    ]


def as_file(dataset: Dataset) -> bytes:
    stream = BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def test_a_folder_becomes_objects(objects: list[Path], tmp_path: Path) -> None:
    """What is no DICOM is counted, a copy passed over, and two objects under one UID are refused."""
    for name in ("one.dcm", "copy.dcm"):
        (tmp_path / name).write_bytes(objects[0].read_bytes())
    (tmp_path / "notes.txt").write_text("none")
    found, foreign = objects_in(tmp_path)
    assert (len(found), foreign) == (1, 1)
    changed = pydicom.dcmread(objects[0])
    changed.PatientID = "another"
    changed.save_as(tmp_path / "copy.dcm")
    with pytest.raises(FileRejected, match="different objects under one UID"):
        objects_in(tmp_path)


# ----------------------------------------------------------------------------------------------- nodes of the network


@dataclass
class Keeper:
    """A node of the test's own process: it keeps what it gets, answers questions and gives objects back.

    refuse  SOP classes that it refuses when they come
    spoil   changes the first byte of pixels of what it gives back
    """

    kept: dict[str, Dataset] = field(default_factory=dict)
    refuse: frozenset[str] = frozenset()
    spoil: bool = False
    stores: int = 0

    def store(self, event: Any) -> int:
        self.stores += 1
        if str(event.request.AffectedSOPClassUID) in self.refuse:
            return 0xA900
        event.dataset.file_meta = event.file_meta
        self.kept[str(event.dataset.SOPInstanceUID)] = event.dataset
        return 0x0000

    def _wanted(self, asked: Dataset) -> list[Dataset]:
        words = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
        stated = {word: asked[word].value for word in words if asked.get(word)}
        return [one for one in self.kept.values() if all(one[word].value == uid for word, uid in stated.items())]

    def find(self, event: Any) -> Iterator[tuple[int, Dataset | None]]:
        for one in self._wanted(event.identifier):
            answer = Dataset()
            for element in event.identifier:
                setattr(answer, element.keyword, one.get(element.keyword, ""))
            yield 0xFF00, answer

    def get(self, event: Any) -> Iterator[Any]:
        wanted = self._wanted(event.identifier)
        yield len(wanted)
        for one in wanted:
            given = deepcopy(one)
            if self.spoil and "PixelData" in given:
                given.PixelData = bytes([given.PixelData[0] ^ 1]) + given.PixelData[1:]
            yield 0xFF00, given


@contextmanager
def running(keeper: Keeper, kinds: Iterable[str]) -> Iterator[DicomNode]:
    """The node on a port of its own on loopback."""
    entity = AE(ae_title="ARCHIVE")
    for kind in set(kinds):
        entity.add_supported_context(kind, ExplicitVRLittleEndian, scu_role=True, scp_role=True)
    for kind in (VERIFICATION, FIND, GET):
        entity.add_supported_context(kind)
    handlers = [(evt.EVT_C_STORE, keeper.store), (evt.EVT_C_FIND, keeper.find), (evt.EVT_C_GET, keeper.get)]
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)  # type: ignore[arg-type]
    try:
        yield DicomNode("ARCHIVE", "127.0.0.1", server.server_address[1])
    finally:
        server.shutdown()


def kinds_of(objects: list[Path]) -> list[str]:
    return [str(pydicom.dcmread(path, specific_tags=["SOPClassUID"]).SOPClassUID) for path in objects]


def test_a_network_node_gets_what_was_sent(objects: list[Path]) -> None:
    """Over C-STORE every element arrives unchanged, C-GET gives it back so, and what is there is not sent again."""
    outgoing, _ = objects_in(objects[0].parent)
    keeper = Keeper()
    with running(keeper, kinds_of(objects)) as node:
        first = send(outgoing, node)
        second = send(outgoing, node)
    assert len(first.stored) == len(outgoing) == keeper.stores
    assert first.is_whole
    assert second.stored == ()
    assert len(second.present) == len(outgoing)
    for one in outgoing:
        assert differences(pydicom.dcmread(one.path), keeper.kept[one.instance.uid]) == []


def test_what_a_node_refuses_or_spoils_is_told(objects: list[Path]) -> None:
    """A kind that is refused, one that is not offered, and a bit that comes back changed: each by its file."""
    outgoing, _ = objects_in(objects[0].parent)
    kinds = kinds_of(objects)
    maps, surface = str(pydicom.uid.ParametricMapStorage), str(pydicom.uid.EncapsulatedSTLStorage)
    keeper = Keeper(refuse=frozenset({maps}), spoil=True)
    with running(keeper, [kind for kind in kinds if kind != surface]) as node:
        sent = send(outgoing, node)
    by_kind = {one.number: one.instance.sop_class for one in outgoing}
    assert {by_kind[number] for number in sent.refused} == {maps, surface}
    assert set(sent.like.values()) == {"different", "elements"}
    assert not sent.is_whole


def test_no_node_is_an_address_to_correct(objects: list[Path]) -> None:
    """A closed port, and text that is no address."""
    with pytest.raises(ConfigurationRejected) as caught:
        DicomNode("ARCHIVE", "127.0.0.1", free_port()).instances(STUDY["StudyInstanceUID"])
    assert caught.value.exit_code == 2
    assert [node_of(text) for text in ("ARCHIVE", "A@b", "A@b:0", "A@b:99999", "A B:1")] == [None] * 5
    assert node_of("PACS@10.0.0.5:104") == DicomNode("PACS", "10.0.0.5", 104)


# ------------------------------------------------------------------------------------------------- services that fail


class Answers(BaseHTTPRequestHandler):
    """Says what the test wants said, and notes what came."""

    status, body, headers_of_answer = 200, b"[]", {}
    came: list[str | None]

    def _say(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        type(self).came.append(self.headers.get("Authorization"))
        self.send_response(self.status)
        for name, value in self.headers_of_answer.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    do_GET = do_POST = _say

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def answering(status: int, body: bytes = b"[]", **headers: str) -> Iterator[tuple[str, list[str | None]]]:
    """(address, Authorization headers that came) of a service that always gives this answer."""
    kind = type("Said", (Answers,), {"status": status, "body": body, "headers_of_answer": headers, "came": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), kind)
    thread = Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/dicom-web", kind.came  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "body", "error", "words"),
    [
        (401, b"", ConfigurationRejected, "refused the login"),
        (403, b"", ConfigurationRejected, "may not do this"),
        (404, b"", ConfigurationRejected, "not that of a DICOMweb service"),
        (500, b"", StorageFault, "HTTP 500"),
        (200, b"<html>Welcome</html>", ConfigurationRejected, "another language"),
        (200, b'{"a": 1}', ConfigurationRejected, "another language"),
    ],
)
def test_each_failure_of_a_service_has_its_remedy(status: int, body: bytes, error: type, words: str) -> None:
    """A login refused, no service there, one that is broken, and one that speaks another language."""
    with answering(status, body) as (url, _), pytest.raises(error, match=words) as caught:
        DicomWeb(url, Login("user", "secret")).studies(Question())
    assert caught.value.remedy
    assert "secret" not in f"{caught.value!r}"


def test_a_login_does_not_wander() -> None:
    """A redirection is not followed, so the other address never sees the login."""
    with (
        answering(200) as (other, came),
        answering(302, b"", Location=other) as (url, seen),
        pytest.raises(ConfigurationRejected, match="elsewhere"),
    ):
        DicomWeb(url, Login("user", "secret")).studies(Question())
    assert seen == ["Basic dXNlcjpzZWNyZXQ="]
    assert came == []


def test_a_refused_object_is_told_and_the_others_are_sent(objects: list[Path]) -> None:
    """A service that answers 409 with a reason (PS3.18 table I.2-1) refuses each object, not the whole transfer."""
    outgoing, _ = objects_in(objects[0].parent)
    body = json.dumps({"00081198": {"vr": "SQ", "Value": [{"00081197": {"vr": "US", "Value": [43264]}}]}}).encode()
    with answering(409, body) as (url, _):
        told = dict(DicomWeb(url).store(outgoing))
    assert set(told.values()) == {"reason 43264"}
    assert len(told) == len(outgoing)


def test_a_login_is_kept_from_others() -> None:
    """Over http it goes to this machine alone, and no picture of it shows the secret."""
    with pytest.raises(ConfigurationRejected, match="others can read"):
        DicomWeb("http://archive.example/dicom-web", Login(token="secret"))
    assert DicomWeb("http://archive.example/dicom-web", Login(token="secret"), plain_http=True).plain_http
    assert "secret" not in repr(DicomWeb("https://archive.example", Login("user", "secret")))
    for url in ("file:///etc", "https://user:secret@archive.example", "archive"):
        with pytest.raises(ConfigurationRejected) as caught:
            DicomWeb(url)
        assert "secret" not in str(caught.value)


def test_a_login_comes_from_a_private_file_or_the_environment(tmp_path: Path) -> None:
    """TOML and netrc give the same login; a file that others can read, half a login and another host's are refused."""
    url = "https://archive.example/dicom-web"
    toml, netrc = tmp_path / "login.toml", tmp_path / "netrc"
    toml.write_text('user = "user"\npassword = "secret"\n')
    netrc.write_text("machine archive.example login user password secret\n")
    with pytest.raises(ConfigurationRejected, match="others can read"):
        archive_login(url, toml, {})
    for file in (toml, netrc):
        file.chmod(0o600)
        assert archive_login(url, file, {}) == Login("user", "secret")
    assert archive_login(url, None, {TOKEN: "t"}) == Login(token="t")
    assert archive_login(url, None, {}) is None
    with pytest.raises(ConfigurationRejected, match="half a login"):
        archive_login(url, None, {USER: "user"})
    with pytest.raises(ConfigurationRejected, match="no login for this host"):
        archive_login("https://another.example", netrc, {})


# ---------------------------------------------------------------------------------------------------------- Orthanc


def check_all_back(objects: list[Path], address: str) -> None:
    """Another client finds every object and every series, and gets each with equal elements and equal bulk data."""
    session = create_session_from_user_pass(LOGIN.user, LOGIN.password)
    client = DICOMwebClient(f"{address}/dicom-web", session=session)
    sent = [pydicom.dcmread(path) for path in objects]
    study = str(sent[0].StudyInstanceUID)
    found = {row["0020000E"]["Value"][0] for row in client.search_for_series(study)}
    assert found == {str(one.SeriesInstanceUID) for one in sent}
    for one, path in zip(sent, objects, strict=True):
        back = client.retrieve_instance(study, str(one.SeriesInstanceUID), str(one.SOPInstanceUID))
        assert differences(one, back) == [], path.name
        for keyword in (name for name in PIXELS if name in one):
            assert back[keyword].value == one[keyword].value


def lose(address: str, instance: str) -> None:
    """Delete one instance from Orthanc."""
    query = {"Level": "Instance", "Query": {"SOPInstanceUID": instance}}
    found = ask(address, "/tools/find", json.dumps(query).encode())
    assert len(found) == 1
    ask(address, f"/instances/{found[0]}", method="DELETE")


NOT_BY_GET = frozenset({"1.2.840.10008.5.1.4.1.1.66.7"})
"""Label Map Segmentation: younger than Orthanc 1.10.1, which gives it by DICOMweb and does not offer it by C-GET."""


def test_orthanc_gives_back_what_it_got(objects: list[Path], orthanc: tuple[str, int], tmp_path: Path) -> None:
    """Over STOW-RS, then over C-STORE: all there and identical, as we and as another client see it."""
    address, port = orthanc
    outgoing, _ = objects_in(objects[0].parent)
    for archive in (DicomWeb(f"{address}/dicom-web", LOGIN), DicomNode("ARCHIVE", "127.0.0.1", port)):
        empty(address)
        assert held(archive, [one.instance for one in outgoing]) == frozenset()
        sent = send(outgoing, archive)
        assert len(sent.stored) == len(sent.like) == len(outgoing)
        kinds = {one.number: one.instance.sop_class for one in outgoing}
        by_get = isinstance(archive, DicomNode)
        assert {kinds[number] for number, like in sent.like.items() if like == "not given"} == (
            NOT_BY_GET if by_get else frozenset()
        )
        assert set(sent.like.values()) - {"not given"} == ({"elements"} if by_get else {"bytes"})
        assert held(archive, [one.instance for one in outgoing]) == {one.instance.uid for one in outgoing}
        check_all_back(objects, address)
    (tmp_path / "none.dcm").write_bytes(b"this is no DICOM")
    stranger = Outgoing(tmp_path / "none.dcm", 1, Instance("1.2", "1.3", "1.4", "1.5"), "1.6")
    refused = dict(DicomWeb(f"{address}/dicom-web", LOGIN).store([stranger]))
    assert list(refused.values()) != [""]
    with pytest.raises(ConfigurationRejected):
        send(outgoing, DicomWeb(f"{address}/not-there", LOGIN))


def archive_command(*words: str, environment: dict[str, str] | None = None) -> tuple[int, dict[str, Any]]:
    """(exit code, JSON) of ``oncoscale archive``."""
    done = CliRunner().invoke(app, ["archive", *words, "--json"], env=environment or {})
    return done.exit_code, json.loads(done.stdout)


def test_the_commands_of_an_archive(objects: list[Path], orthanc: tuple[str, int], tmp_path: Path) -> None:
    """Sent, found, fetched; a login that is wrong or absent ends with 2; what was lost is sent again, and only that."""
    address = f"{orthanc[0]}/dicom-web"
    empty(orthanc[0])
    folder, study = str(objects[0].parent), STUDY["StudyInstanceUID"]
    login = {USER: LOGIN.user, PASSWORD: LOGIN.password}
    for wrong in ({}, login | {PASSWORD: "another"}):
        code, content = archive_command("send", folder, "--to", address, environment=wrong)
        assert (code, content["error"]["kind"]) == (2, "ConfigurationRejected")
        assert "another" not in json.dumps(content)
    code, content = archive_command("send", folder, "--to", address, "--dry-run", environment=login)
    assert (code, content["objects"], content["studies"]) == (0, len(objects), 1)
    assert archive_command("find", "--from", address, environment=login) == (0, {"studies": []})
    code, content = archive_command("send", folder, "--to", address, environment=login)
    assert (code, content["stored"], content["identical_bytes"]) == (0, len(objects), len(objects))
    lose(orthanc[0], str(pydicom.dcmread(objects[-1]).SOPInstanceUID))
    code, content = archive_command("send", folder, "--to", address, environment=login)
    assert (code, content["stored"], content["present_before"]) == (0, 1, len(objects) - 1)
    file = tmp_path / "login.toml"
    file.write_text(f'user = "{LOGIN.user}"\npassword = "{LOGIN.password}"\n')
    file.chmod(0o600)
    code, content = archive_command("find", "--from", address, "--study", study, "--login", str(file))
    assert [row["uid"] for row in content["studies"]] == [study]
    assert "MADE" not in json.dumps(content)


def test_a_study_comes_out_as_files(
    objects: list[Path], orthanc: tuple[str, int], pair: tuple[Path, Path], tmp_path: Path
) -> None:
    """By DICOMweb and by C-GET the same objects, signatures included; what is there is not fetched again."""
    address, port = orthanc
    outgoing, _ = objects_in(objects[0].parent)
    send(outgoing, DicomWeb(f"{address}/dicom-web", LOGIN))
    login = {USER: LOGIN.user, PASSWORD: LOGIN.password}
    study = STUDY["StudyInstanceUID"]
    expected = {one.instance.uid for one in outgoing}
    for name, source, younger in (
        ("web", f"{address}/dicom-web", frozenset()),
        ("node", f"ARCHIVE@127.0.0.1:{port}", NOT_BY_GET),
    ):
        out = tmp_path / name
        absent = {one.instance.uid for one in outgoing if one.instance.sop_class in younger}
        code, content = archive_command("get", study, "--from", source, "--out", str(out), environment=login)
        assert (code, set(content["not_given"])) == (3 if absent else 0, absent)
        assert {file.stem for file in out.iterdir()} == expected - absent
        for one in (one for one in outgoing if one.instance.uid not in absent):
            assert likeness(one.path.read_bytes(), (out / f"{one.instance.uid}.dcm").read_bytes()) != "different"
        signed = pydicom.dcmread(objects[0].parent / "surface.dcm").SOPInstanceUID
        assert verify_object(out / f"{signed}.dcm", pair[1]).signer == "CN=A made-up site"
        (out / f"{min(expected - absent)}.dcm").unlink()
        code, content = archive_command("get", study, "--from", source, "--out", str(out), environment=login)
        assert (content["fetched"], content["present_before"]) == (1, len(expected - absent) - 1)
        code, content = archive_command("get", "1.2.3", "--from", source, "--out", str(out), environment=login)
        assert (code, content["error"]["kind"]) == (2, "StudyRejected")


def test_addresses_where_no_archive_is_are_refused(objects: list[Path]) -> None:
    """A closed port and an address of another kind say what to do, and exit code 2."""
    for address in (f"http://127.0.0.1:{free_port()}/dicom-web", "file:///etc", "ARCHIVE", "A@127.0.0.1:70000"):
        code, content = archive_command("send", str(objects[0].parent), "--to", address)
        assert code == 2
        assert content["error"]["remedy"]
