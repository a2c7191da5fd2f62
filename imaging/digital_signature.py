"""A signature inside a DICOM object: what the standard calls Digital Signatures, with an X.509 certificate.

Every element is signed, so what a reader sees is what its maker saw. The profile is that of the creator of an
object, RSA with SHA-256 (DICOM PS3.15 C.2); the layout of the signed bytes is that of PS3.3 C.12.1.1.3. A signature
says that the holder of a key made it. Who that is, the certificate says, as far as its issuer is trusted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from struct import pack
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID
from pydicom import dcmread
from pydicom.charset import convert_encodings
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_data_element
from pydicom.sequence import Sequence as Items
from pydicom.tag import BaseTag, Tag
from pydicom.uid import ExplicitVRLittleEndian

from ..core.errors import ConfigurationRejected, FileRejected
from ..core.files import written_whole
from ..core.quantity import Parameter
from .dicom_files import read_bytes, reading
from .dicom_write import derived_uid

KEY_BITS = Parameter(
    3072,
    "bit",
    "length of an RSA key that is made here",
    "NIST SP 800-57 part 1 rev. 5, table 2: 128 bit of security",
    range=(2048, 8192),
)
SHORTEST_KEY = Parameter(
    2048,
    "bit",
    "shortest RSA key that signs or is believed",
    "NIST SP 800-57 part 1 rev. 5, table 2: 112 bit of security",
    range=(2048, 8192),
)
VALID = Parameter(
    730, "day", "how long a certificate that is made here is valid", "project convention", range=(1, 3650), assumed=True
)
KIND, DIGEST = "X509_1993_SIG", "SHA256"
"""Certificate Type and MAC Algorithm (DICOM PS3.3 C.12.1.1.3)."""
DIGESTS: dict[str, Callable[[], hashes.HashAlgorithm]] = {
    "SHA256": hashes.SHA256,
    "SHA384": hashes.SHA384,
    "SHA512": hashes.SHA512,
}
"""MAC algorithms that are believed; older ones can be forged."""
MAC_PARAMETERS, SIGNATURES, PADDING = Tag(0x4FFE, 0x0001), Tag(0xFFFA, 0xFFFA), Tag(0xFFFC, 0xFFFC)
ITEM, END_OF_SEQUENCE = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"
ABOUT = ("MACIDNumber", "DigitalSignatureUID", "DigitalSignatureDateTime", "CertificateType")
"""What of a signature is itself signed, after the elements (DICOM PS3.3 C.12.1.1.3.1.2)."""


@dataclass(frozen=True)
class Signed:
    """A signature that holds.

    when            as its maker's clock had it
    signer          the certificate's subject, as it is written there
    is_self_signed  the certificate vouches for itself: only the key says who signed
    """

    when: str
    signer: str
    is_self_signed: bool


def sign_object(
    path: Path | str, key: Path | str, certificate: Path | str, when: datetime, *, password: bytes | None = None
) -> None:
    """Sign a DICOM file with a private key and its certificate, both PEM; the file is replaced.

    when  aware moment of the signature

    Raises ConfigurationRejected for a key that cannot be used or is not the certificate's, FileRejected for a file
    that is signed already or is compressed.
    """
    dataset = _read(path)
    if MAC_PARAMETERS in dataset or SIGNATURES in dataset:
        raise FileRejected("the object is signed already", "an object without a signature", "sign it where it is made")
    card = _certificate(certificate)
    private = _private_key(key, card, password)
    der = card.public_bytes(serialization.Encoding.DER)
    item = _about(dataset, der, when)
    tags = signable(dataset)
    content = signed_bytes(dataset, tags, item)
    item.Signature = private.sign(content, padding.PKCS1v15(), hashes.SHA256())
    dataset.MACParametersSequence = Items([_parameters(tags)])
    dataset.DigitalSignaturesSequence = Items([item])
    with written_whole(path) as beside:
        dataset.save_as(beside, enforce_file_format=True)


def verify_object(path: Path | str, trusted: Path | str) -> Signed:
    """Check the signature of an object that was signed with a certificate, or under one, that is trusted.

    trusted  PEM of the signer's certificate, or of the authority that issued it

    Raises FileRejected for an object that is not as it was signed, or that holds what was not signed, or whose signer
    is another; ConfigurationRejected for a certificate that cannot be read.
    """
    dataset = _read(path)
    anchor = _certificate(trusted)
    parameters, item = _only(dataset, "MACParametersSequence"), _only(dataset, "DigitalSignaturesSequence")
    with reading("the signature"):
        card = x509.load_der_x509_certificate(_der(bytes(item.CertificateOfSigner)))
        tags = [Tag(tag) for tag in _several(parameters.DataElementsSigned)]
        content = signed_bytes(dataset, tags, item)
        digest, signature = DIGESTS.get(str(parameters.MACAlgorithm)), bytes(item.Signature)
        when = str(item.DigitalSignatureDateTime)
    _check_form(parameters, card)
    _check_signer(card, anchor, when)
    if list(tags) != signable(dataset):
        raise FileRejected(
            "the object holds elements that were not signed, or lacks some that were",
            "the object as it was signed",
            "do not use it: ask its maker for it again",
        )
    public = card.public_key()
    assert digest is not None
    assert isinstance(public, rsa.RSAPublicKey)
    try:
        public.verify(signature, content, padding.PKCS1v15(), digest())
    except InvalidSignature:
        raise _not_as_signed() from None
    return Signed(when, card.subject.rfc4514_string(), card.issuer == card.subject)


def make_certificate(path: Path | str, name: str, now: datetime) -> Path:
    """Write a new RSA key (PEM, readable by its owner alone) and beside it NAME.certificate.pem, signed by itself.

    name  who signs: an institution or a machine, never a patient

    Returns the certificate's path. It proves that the same key signed, not whose it is. Raises ConfigurationRejected
    when there is a key already.
    """
    path = Path(path)
    public = path.with_name(f"{path.stem}.certificate.pem")
    if path.exists() or public.exists():
        raise ConfigurationRejected("there is a key already", "a new name", "choose another --out")
    key = rsa.generate_private_key(public_exponent=65537, key_size=int(KEY_BITS.value))
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    card = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=VALID.value))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    with written_whole(path) as beside:
        beside.touch(mode=0o600)
        beside.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))
    with written_whole(public) as beside:
        beside.write_bytes(card.public_bytes(serialization.Encoding.PEM))
    return public


# ----------------------------------------------------------------------------------------------------- signed bytes


def signable(dataset: Dataset) -> list[BaseTag]:
    """The elements that can be signed, in their order: all but group lengths, signatures and padding."""
    return [element.tag for element in dataset if _is_signable(element.tag)]


def _is_signable(tag: BaseTag) -> bool:
    return tag.element != 0 and tag.group >= 8 and tag not in (0x00080001, MAC_PARAMETERS, SIGNATURES, PADDING)


def signed_bytes(dataset: Dataset, tags: Sequence[BaseTag], item: Dataset) -> bytes:
    """What is signed: these elements in explicit VR little endian, then what is said of the signature.

    Sequences and items are without their lengths, a sequence ends with its delimiter (DICOM PS3.3 C.12.1.1.3.1.1).
    """
    encodings = convert_encodings(dataset.get("SpecificCharacterSet") or "ISO_IR 6")
    parts = [part for tag in tags for part in _element(dataset[tag], encodings)]
    parts += [part for word in ABOUT for part in _element(item[word], encodings)]
    return b"".join(parts)


def _element(element: DataElement, encodings: list[str]) -> Iterator[bytes]:
    if element.VR != "SQ":
        stream = DicomBytesIO()
        stream.is_little_endian, stream.is_implicit_VR = True, False
        write_data_element(stream, element, encodings)
        yield stream.getvalue()
        return
    yield pack("<HH2sH", element.tag.group, element.tag.element, b"SQ", 0)
    for item in element.value:
        yield ITEM
        inner = convert_encodings(item.SpecificCharacterSet) if "SpecificCharacterSet" in item else encodings
        for one in item:
            if _is_signable(one.tag):
                yield from _element(one, inner)
    yield END_OF_SEQUENCE


def _parameters(tags: Sequence[BaseTag]) -> Dataset:
    item = Dataset()
    item.MACIDNumber = 0
    item.MACCalculationTransferSyntaxUID = ExplicitVRLittleEndian
    item.MACAlgorithm = DIGEST
    item.DataElementsSigned = list(tags)
    return item


def _about(dataset: Dataset, der: bytes, when: datetime) -> Dataset:
    """A signature without its value; its UID follows from the object, the signer and the moment."""
    moment = when.astimezone(UTC).strftime("%Y%m%d%H%M%S.%f+0000")
    item = Dataset()
    item.MACIDNumber = 0
    item.DigitalSignatureUID = derived_uid("signature", str(dataset.SOPInstanceUID), der.hex(), moment)
    item.DigitalSignatureDateTime = moment
    item.CertificateType = KIND
    item.CertificateOfSigner = der
    return item


# ---------------------------------------------------------------------------------------------------------- reading


def _read(path: Path | str) -> Dataset:
    with reading("the signed file"):
        dataset = dcmread(BytesIO(read_bytes(Path(path), "the signed file")))
    if dataset.file_meta.TransferSyntaxUID.is_compressed:
        raise FileRejected(
            "the object is compressed, and so are the bytes that are signed",
            "an uncompressed object",
            "ask its maker, or the archive, for the object as it was sent",
        )
    return dataset


def _only(dataset: Dataset, keyword: str) -> Dataset:
    items: list[Dataset] = dataset.get(keyword) or []
    if len(items) != 1:
        raise FileRejected(
            "the object is not signed" if not items else "the object has several signatures",
            "one signature in the object",
            "ask its maker for the signed object",
        )
    return items[0]


def _several(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) or hasattr(value, "__iter__") else [value]


def _der(content: bytes) -> bytes:
    """A DER certificate without the byte that makes its element even (X.690 §8.1.3: length of the outer SEQUENCE)."""
    digits = content[1] & 0x7F if content[1] & 0x80 else 0
    length = int.from_bytes(content[2 : 2 + digits], "big") if digits else content[1]
    return content[: 2 + digits + length]


def _certificate(path: Path | str) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(Path(path).read_bytes())
    except (OSError, ValueError):
        raise ConfigurationRejected(
            "the certificate cannot be used", "an X.509 certificate in PEM", "give the certificate of the signer"
        ) from None


def _private_key(path: Path | str, card: x509.Certificate, password: bytes | None) -> rsa.RSAPrivateKey:
    try:
        key = serialization.load_pem_private_key(Path(path).read_bytes(), password)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, rsa.RSAPrivateKey) or key.key_size < SHORTEST_KEY.value:
        raise ConfigurationRejected(
            "the key cannot be used",
            f"an RSA key in PEM of at least {SHORTEST_KEY.value:g} bit, and its password if it has one",
            "give the key of the certificate, or make a pair with `oncoscale harmonise certificate`",
        )
    if key.public_key() != card.public_key():
        raise ConfigurationRejected(
            "the key is not that of the certificate", "a key and its certificate", "give the two that belong together"
        )
    return key


# --------------------------------------------------------------------------------------------------------- judging


def _check_form(parameters: Dataset, card: x509.Certificate) -> None:
    """Only what cannot be forged is believed."""
    public = card.public_key()
    strong = isinstance(public, rsa.RSAPublicKey) and public.key_size >= SHORTEST_KEY.value
    explicit = str(parameters.get("MACCalculationTransferSyntaxUID")) == ExplicitVRLittleEndian
    if not strong or not explicit or str(parameters.get("MACAlgorithm")) not in DIGESTS:
        raise FileRejected(
            "the signature is of a kind that is not believed here",
            f"RSA of at least {SHORTEST_KEY.value:g} bit with {', '.join(DIGESTS)}, in explicit VR little endian",
            "ask its maker to sign it so",
        )


def _check_signer(card: x509.Certificate, anchor: x509.Certificate, when: str) -> None:
    """The signer is the trusted one or was certified by it, and certificates were valid at the signature's moment."""
    if card != anchor and not _is_issued_by(card, anchor):
        raise FileRejected(
            "the object was signed by another",
            "the signer whose certificate was given, or one certified by it",
            "give the certificate of its maker, or do not use it",
        )
    with reading("the signature"):
        moment = datetime.strptime(when, "%Y%m%d%H%M%S.%f%z")
    if not all(one.not_valid_before_utc <= moment <= one.not_valid_after_utc for one in (card, anchor)):
        raise FileRejected(
            "the certificate was not valid when the object was signed", "a valid certificate", "ask its maker"
        )


def _is_issued_by(card: x509.Certificate, authority: x509.Certificate) -> bool:
    """An authority, by its own certificate, vouches for this one (RFC 5280 §4.2.1.9)."""
    try:
        may_issue = authority.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        card.verify_directly_issued_by(authority)
    except (InvalidSignature, ValueError, TypeError, x509.ExtensionNotFound):
        return False
    return bool(may_issue)


def _not_as_signed() -> FileRejected:
    return FileRejected(
        "the object is not as it was signed",
        "the object as its maker signed it",
        "do not use it: ask its maker for it again",
    )
