"""Signatures inside DICOM objects: DCMTK's judge and ours agree on what is as it was signed, and on what is not."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pydicom
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian, RLELossless
from typer.testing import CliRunner

from oncoscale.app.cli import app
from oncoscale.core.errors import ConfigurationRejected, FileRejected
from oncoscale.imaging.dicom_write import MRSeries, Volume, derived_uid, write_mr_series
from oncoscale.imaging.digital_signature import make_certificate, sign_object, verify_object
from oncoscale.imaging.study import Grid

GRID = Grid((5, 6, 4), np.diag([1.5, 2.0, 4.0, 1.0]), derived_uid("signed", "frame"))
STUDY = {
    "SpecificCharacterSet": "ISO_IR 192",
    "PatientName": "Ünwahr^Örtlich",
    "PatientID": "signed",
    "PatientBirthDate": "",
    "PatientSex": "O",
    "StudyDate": "20240115",
    "StudyTime": "101500",
    "StudyID": "1",
    "AccessionNumber": "1",
    "ReferringPhysicianName": "",
    "StudyInstanceUID": derived_uid("signed", "study"),
    "BodyPartExamined": "ABDOMEN",
    "PatientPosition": "HFS",
}
ECHO = {"ImageType": ["ORIGINAL", "PRIMARY", "OTHER"], "ScanningSequence": "GR", "SequenceVariant": "SP"}
NOW = datetime.now(UTC)
"""The judge compares certificates with its own clock."""


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(key, certificate) of a made-up site."""
    key = tmp_path_factory.mktemp("pair") / "site.pem"
    return key, make_certificate(key, "A made-up site", NOW)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of images of a patient whose name needs another character set."""
    folder = tmp_path_factory.mktemp("images") / "source"
    values = np.random.default_rng(5).integers(10, 900, GRID.shape).astype(np.uint16)
    series = MRSeries(derived_uid("signed", "mr"), 1, "mr", GRID, STUDY, ECHO, (5.0, 9.0))
    write_mr_series(folder, series, [Volume(values)])
    return folder


@pytest.fixture(scope="module")
def made(source: Path) -> Path:
    """A harmonised image, through the command."""
    words = ["harmonise", "image", str(source), "--step", "zscore", "--out", str(source.parent / "even")]
    answer = CliRunner().invoke(app, words)
    assert answer.exit_code == 0, answer.output
    return source.parent / "even" / "harmonised.dcm"


@pytest.fixture
def harmonised(made: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copy(made, tmp_path / "harmonised.dcm"))


@pytest.fixture
def signed(harmonised: Path, pair: tuple[Path, Path]) -> Path:
    sign_object(harmonised, *pair, NOW)
    return harmonised


def dcmsign(file: Path, *options: str | Path) -> tuple[bool, str]:
    """(accepted, words) of DCMTK's judge, which must find a signature of a creator."""
    program = shutil.which("dcmsign")
    if program is None:
        pytest.skip("dcmsign is not installed (Debian: dcmtk)")
    done = subprocess.run([program, "--verify", "+rc", *options, file], capture_output=True, text=True, check=False)
    return done.returncode == 0, done.stdout + done.stderr


def changed(file: Path, target: Path, change: Callable[[Dataset], object]) -> Path:
    """A copy with something changed."""
    dataset = pydicom.dcmread(file)
    change(dataset)
    dataset.save_as(target, enforce_file_format=True)
    return target


def one_pixel(dataset: Dataset) -> None:
    dataset.FloatPixelData = bytes([dataset.FloatPixelData[0] ^ 1]) + dataset.FloatPixelData[1:]


def one_step(dataset: Dataset) -> None:
    dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing = [9.0, 9.0]


def one_moment(dataset: Dataset) -> None:
    later = (NOW + timedelta(seconds=1)).strftime("%Y%m%d%H%M%S.%f+0000")
    dataset.DigitalSignaturesSequence[0].DigitalSignatureDateTime = later


CHANGES = [one_pixel, one_step, one_moment, lambda dataset: setattr(dataset, "PatientID", "another")]


def test_a_signature_is_valid_for_ours_and_for_another_judge(signed: Path, pair: tuple[Path, Path]) -> None:
    """Every element is signed, text of another character set included."""
    found = verify_object(signed, pair[1])
    assert (found.signer, found.is_self_signed) == ("CN=A made-up site", True)
    assert datetime.strptime(found.when, "%Y%m%d%H%M%S.%f%z") == NOW
    assert not str(pydicom.dcmread(signed).PatientName).isascii()
    accepted, words = dcmsign(signed, "+cf", pair[1])
    assert accepted, words


@pytest.mark.parametrize("change", CHANGES)
def test_what_was_changed_is_found_by_both(
    signed: Path, pair: tuple[Path, Path], change: Callable[[Dataset], object], tmp_path: Path
) -> None:
    """One bit of one pixel, a spacing deep in a sequence, the moment of the signature, the patient."""
    bad = changed(signed, tmp_path / "bad.dcm", change)
    with pytest.raises(FileRejected, match="not as it was signed"):
        verify_object(bad, pair[1])
    accepted, words = dcmsign(bad, "+cf", pair[1])
    assert not accepted
    assert "invalid" in words


def test_what_was_added_or_taken_away_is_found(signed: Path, pair: tuple[Path, Path], tmp_path: Path) -> None:
    """An element that nobody signed, one that is gone, and a signature that is gone."""
    added = changed(signed, tmp_path / "added.dcm", lambda dataset: setattr(dataset, "ImageComments", "cured"))
    gone = changed(signed, tmp_path / "gone.dcm", lambda dataset: dataset.pop("DerivationDescription"))
    for bad in (added, gone):
        with pytest.raises(FileRejected):
            verify_object(bad, pair[1])
    bare = changed(signed, tmp_path / "bare.dcm", lambda dataset: dataset.pop("DigitalSignaturesSequence"))
    with pytest.raises(FileRejected, match="not signed"):
        verify_object(bare, pair[1])


def test_another_coding_of_the_same_object_is_still_signed(
    signed: Path, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    """An archive may keep the object in implicit coding: the signed bytes are those of explicit coding."""
    dataset = pydicom.dcmread(signed)
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    dataset.save_as(tmp_path / "implicit.dcm", implicit_vr=True, little_endian=True)
    assert verify_object(tmp_path / "implicit.dcm", pair[1]).signer == "CN=A made-up site"
    assert dcmsign(tmp_path / "implicit.dcm", "+cf", pair[1])[0]


def test_a_signature_of_another_program_is_valid_for_ours(
    harmonised: Path, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    """What dcmsign signed by the profile of a creator passes, and does not once a bit has changed."""
    dcmsign(harmonised)
    words = ["dcmsign", "+s", *pair, "-pw", "+pc", "+m2", harmonised, tmp_path / "theirs.dcm"]
    subprocess.run(words, check=True, capture_output=True)
    assert verify_object(tmp_path / "theirs.dcm", pair[1]).signer == "CN=A made-up site"
    with pytest.raises(FileRejected):
        verify_object(changed(tmp_path / "theirs.dcm", tmp_path / "bad.dcm", one_pixel), pair[1])


def issued(name: str, issuer: tuple[x509.Name, rsa.RSAPrivateKey] | None, days: int = 30, bits: int = 2048):
    """(certificate, key) issued by another, or by itself."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=bits)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    by, with_key = issuer or (subject, key)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(by).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(NOW - timedelta(days=60))
    builder = builder.add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    return builder.not_valid_after(NOW - timedelta(days=60) + timedelta(days=days)).sign(with_key, hashes.SHA256()), key


def stored(folder: Path, name: str, card: x509.Certificate, key: rsa.RSAPrivateKey, word: bytes = b"") -> list[Path]:
    """[key, certificate] as files."""
    cipher = serialization.BestAvailableEncryption(word) if word else serialization.NoEncryption()
    files = [folder / f"{name}.pem", folder / f"{name}.certificate.pem"]
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    files[0].write_bytes(key.private_bytes(encoding, form, cipher))
    files[1].write_bytes(card.public_bytes(encoding))
    return files


def test_trust_goes_to_the_signer_or_to_its_authority(
    harmonised: Path, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    """A certificate that an authority issued is believed through it; another signer and one out of date are not."""
    root, root_key = issued("authority", None, 900)
    site = stored(tmp_path, "site", *issued("site", (root.subject, root_key), 120), b"word")
    authority = stored(tmp_path, "authority", root, root_key)[1]
    with pytest.raises(ConfigurationRejected, match="key cannot be used"):
        sign_object(harmonised, *site, NOW)
    sign_object(harmonised, *site, NOW, password=b"word")
    found = verify_object(harmonised, authority)
    assert (found.signer, found.is_self_signed) == ("CN=site", False)
    with pytest.raises(FileRejected, match="signed by another"):
        verify_object(harmonised, pair[1])
    with pytest.raises(FileRejected, match="signed already"):
        sign_object(harmonised, *site, NOW, password=b"word")


def test_a_signer_is_no_authority(harmonised: Path, tmp_path: Path) -> None:
    """Whoever may sign objects may not vouch for others who sign."""
    root, root_key = issued("authority", None, 900)
    site, site_key = issued("site", (root.subject, root_key), 900)
    sign_object(harmonised, *stored(tmp_path, "impostor", *issued("impostor", (site.subject, site_key), 900)), NOW)
    with pytest.raises(FileRejected, match="signed by another"):
        verify_object(harmonised, stored(tmp_path, "site", site, site_key)[1])


def test_an_old_certificate_and_a_short_key_are_refused(harmonised: Path, tmp_path: Path) -> None:
    """Out of date at the moment of the signature; 1024 bit; a key that is not the certificate's."""
    old = stored(tmp_path, "old", *issued("old", None, 30))
    short = stored(tmp_path, "short", *issued("short", None, 900, 1024))
    for files in ([short[0], short[1]], [old[0], short[1]]):
        with pytest.raises(ConfigurationRejected):
            sign_object(harmonised, files[0], files[1], NOW)
    sign_object(harmonised, old[0], old[1], NOW)
    with pytest.raises(FileRejected, match="not valid when"):
        verify_object(harmonised, old[1])


def test_a_compressed_object_is_refused(harmonised: Path, pair: tuple[Path, Path], tmp_path: Path) -> None:
    """The signed bytes would be those of another coding."""
    dataset = pydicom.dcmread(harmonised)
    dataset.file_meta.TransferSyntaxUID = RLELossless
    dataset.save_as(tmp_path / "rle.dcm", implicit_vr=False, little_endian=True)
    with pytest.raises(FileRejected, match="compressed"):
        sign_object(tmp_path / "rle.dcm", *pair, NOW)


def test_from_the_command_line(tmp_path: Path, source: Path) -> None:
    """A certificate is made with its warning, an image signed inside, verified, and refused once it was changed."""
    run = CliRunner().invoke
    made = run(app, ["harmonise", "certificate", "--name", "Site", "--out", f"{tmp_path}/site.pem"])
    assert "vouches for itself" in made.output
    assert (tmp_path / "site.pem").stat().st_mode & 0o077 == 0
    card = f"{tmp_path}/site.certificate.pem"
    words = ["harmonise", "image", str(source), "--step", "zscore", "--out", f"{tmp_path}/signed"]
    assert run(app, [*words, "--certificate", card]).exit_code == 2
    assert run(app, [*words, "--certificate", card, "--key", f"{tmp_path}/site.pem"]).exit_code == 0
    assert sorted(path.name for path in (tmp_path / "signed").iterdir()) == ["harmonised.dcm", "harmonised.json"]
    file = tmp_path / "signed" / "harmonised.dcm"
    assert run(app, ["harmonise", "verify", str(file), "--certificate", card]).exit_code == 0
    assert run(app, ["harmonise", "verify", str(file)]).exit_code == 2
    changed(file, file, one_pixel)
    assert run(app, ["harmonise", "verify", str(file), "--certificate", card]).exit_code == 2
