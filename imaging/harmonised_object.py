"""A harmonised image as a DICOM object that says what it is, and a signature that says who made it.

The object is a Parametric Map of the quantity ``harmonised``: derived, for research only, with references to its
source images and their hash. Readers know it by that code and keep it out of Ktrans and ADC. The signature is
detached (NAME.signature.json beside it), so any archive takes the object: Ed25519 over its bytes.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.sr.codedict import codes

from .. import __version__
from ..core.errors import ConfigurationRejected, FileRejected, StudyRejected
from ..core.files import content_hash, write_json, written_whole
from .derived_object import SeriesHead, moment_of, save
from .dicom_write import derived_uid
from .intensity import Intensities
from .parametric_map import write_parametric_map
from .source_images import code_item
from .study import HARMONISED, ParametricMap

SERIES = 9900
"""Series number: above those of derived maps."""
ALGORITHM = "Ed25519"


def write_harmonised(path: Path | str, image: Intensities, sources: Sequence[Dataset], digest: str) -> None:
    """Write a harmonised image as DICOM.

    sources  headers of the images it was made from
    digest   SHA-256 of their files

    Equal input gives equal bytes. Raises StudyRejected without a source.
    """
    if not sources:
        raise StudyRejected(
            "a harmonised image whose source is not DICOM",
            "a DICOM image: what is synthetic must say whose it is and what it was made from",
            "give the DICOM series",
        )
    method = ", ".join(image.steps)
    content = sha256(np.ascontiguousarray(image.values).tobytes() + method.encode()).hexdigest()
    identity = (sources[0].StudyInstanceUID, __version__, HARMONISED, digest, content)
    head = SeriesHead(
        derived_uid("series", *identity),
        derived_uid("instance", *identity),
        SERIES,
        "Harmonised intensities (synthetic), research only",
        moment_of(sources[0]),
    )
    one = ParametricMap(HARMONISED, "1", image.grid, image.values, method=method)
    with written_whole(path) as beside:
        write_parametric_map(beside, one, sources, head)
        dataset = dcmread(beside)
        _mark(dataset, method, digest)
        save(beside, dataset)


def _mark(dataset: Dataset, method: str, digest: str) -> None:
    """Say in the object itself what was done, that it is synthetic, and the hash of what it was made from."""
    dataset.ContentLabel = "HARMONISED"
    dataset.ContentDescription = "Synthetic intensities, never for rate constants"
    dataset.DerivationDescription = f"SYNTHETIC: {method}. Source SHA-256 {digest}"[:1024]
    groups = [*dataset.SharedFunctionalGroupsSequence, *dataset.PerFrameFunctionalGroupsSequence]
    for group in groups:
        for item in group.get("DerivationImageSequence") or []:
            item.DerivationDescription = f"Harmonised: {method}"[:1024]
            item.DerivationCodeSequence = Items([code_item(codes.DCM.UnspecifiedMethodOfCalculation)])


# -------------------------------------------------------------------------------------------------------- signature


def make_key(path: Path | str) -> Path:
    """Write a new private key (PEM, readable by its owner alone) and, beside it, NAME.public.pem; returns the latter.

    Raises ConfigurationRejected when there is a key already.
    """
    path = Path(path)
    public = path.with_name(f"{path.stem}.public.pem")
    if path.exists() or public.exists():
        raise ConfigurationRejected("there is a key already", "a new name", "choose another --out")
    key = Ed25519PrivateKey.generate()
    with written_whole(path) as beside:
        beside.touch(mode=0o600)
        beside.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
    with written_whole(public) as beside:
        beside.write_bytes(_public_pem(key.public_key()))
    return public


def _public_pem(key: Ed25519PublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def signature_path(path: Path | str) -> Path:
    """Where the signature of a file lies."""
    path = Path(path)
    return path.with_name(f"{path.stem}.signature.json")


def sign(path: Path | str, key: Path | str) -> Path:
    """Sign a file with a private key; returns the path of the signature beside it. Raises ConfigurationRejected."""
    path = Path(path)
    private = _load(serialization.load_pem_private_key, key, Ed25519PrivateKey, password=None)
    signature = private.sign(path.read_bytes())
    public = _public_pem(private.public_key())
    write_json(
        signature_path(path),
        {
            "file": path.name,
            "sha256": content_hash(path),
            "algorithm": ALGORITHM,
            "signature": base64.b64encode(signature).decode(),
            "public_key_sha256": sha256(public).hexdigest(),
        },
    )
    return signature_path(path)


def verify(path: Path | str, public: Path | str) -> None:
    """Raise FileRejected unless the file is as it was signed, by the holder of this key's private half."""
    path = Path(path)
    key = _load(serialization.load_pem_public_key, public, Ed25519PublicKey)
    try:
        content: dict[str, Any] = json.loads(signature_path(path).read_text(encoding="utf-8"))
        key.verify(base64.b64decode(content["signature"], validate=True), path.read_bytes())
    except (OSError, ValueError, KeyError, TypeError):
        raise FileRejected(
            "the file has no readable signature beside it", "NAME.signature.json", "give the file with its signature"
        ) from None
    except InvalidSignature:
        raise FileRejected(
            "the file is not as it was signed, or was signed with another key",
            "the signed file and the key of its maker",
            "do not use the file: ask its maker for it again",
        ) from None


def _load(reader: Any, path: Path | str, kind: type, **options: Any) -> Any:
    try:
        key = reader(Path(path).read_bytes(), **options)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, kind):
        raise ConfigurationRejected(
            "the key cannot be used",
            f"an {ALGORITHM} key in PEM (private to sign, public to verify)",
            "make a pair with `oncoscale harmonise key`",
        )
    return key
