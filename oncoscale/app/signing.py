"""Who made a harmonised image, as Python calls: keys, certificates, signatures and their check."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

from ..core.errors import ConfigurationRejected
from .console import Result

PASSWORD = "ONCOSCALE_KEY_PASSWORD"
"""Environment variable with the password of a private key that has one."""
SELF_SIGNED = "The certificate vouches for itself: it shows that one key signed, not whose key it is."


def _check_pem(out: Path) -> None:
    if out.suffix.lower() != ".pem":
        raise ConfigurationRejected(f"--out {out.name}", "a name ending in .pem", "choose another name")


def key(out: Path) -> Result:
    """Make a pair of keys for signatures beside a file."""
    from ..imaging.harmonised_object import make_key

    _check_pem(out)
    public = make_key(out)
    return Result({"key": str(out), "public": str(public)}, f"{out}: keep it secret\n{public}: give it to readers")


def certificate(out: Path, *, name: str) -> Result:
    """Make a key, and a certificate signed by itself, for signatures inside a DICOM object."""
    from ..imaging.digital_signature import VALID, make_certificate

    _check_pem(out)
    public = make_certificate(out, name, datetime.now(UTC))
    words = f"{out}: keep it secret\n{public}: give it to readers; valid for {VALID.value:g} days\n{SELF_SIGNED}"
    words += "\nFor others' trust, have an authority issue one for this key."
    return Result({"key": str(out), "certificate": str(public), "self_signed": True}, words)


def sign(file: Path, key: Path | None, certificate: Path | None) -> str | None:
    """Sign a file: inside the object with a certificate, beside it with a key alone; says which, None without a key."""
    from ..imaging.digital_signature import sign_object
    from ..imaging.harmonised_object import sign as sign_beside

    if certificate is not None and key is None:
        raise ConfigurationRejected("--certificate without --key", "the key of the certificate", "add --key KEY.pem")
    if key is None:
        return None
    if certificate is None:
        sign_beside(file, key)
        return "beside"
    password = os.environ.get(PASSWORD)
    sign_object(file, key, certificate, datetime.now(UTC), password=password.encode() if password else None)
    return "inside"


def verify(path: Path, *, public: Path | None, certificate: Path | None) -> Result:
    """Check that a file is as it was signed, by a public key or by a certificate that is trusted."""
    from ..imaging.digital_signature import verify_object
    from ..imaging.harmonised_object import verify as verify_beside

    if (public is None) == (certificate is None):
        raise ConfigurationRejected(
            "no key and no certificate, or both",
            "--key for a signature beside, --certificate for one inside",
            "give one",
        )
    if public is not None:
        verify_beside(path, public)
        return Result({"file": str(path), "verified": True}, f"{path.name}: as it was signed with this key")
    assert certificate is not None
    found = verify_object(path, certificate)
    content = {"file": str(path), "verified": True, "signer": found.signer, "signed_at": found.when}
    words = f"{path.name}: as it was signed by {found.signer} at {found.when}"
    words += f"\n{SELF_SIGNED}" if found.is_self_signed else ""
    return Result(content | {"self_signed": found.is_self_signed}, words)
