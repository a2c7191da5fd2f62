"""The vault: the project key and the list of who is who, apart from the store and encrypted.

The vault is a folder of files that their owner alone can read: ``project.key`` (32 random bytes, made on first use) and
``subjects.vault`` (AES-GCM: subject key to site and local identifier). Whoever has both can name the subjects; whoever
has only the store cannot. Ingest, import, re-identification, erasure and the signing of the audit (``audit.key``,
``heads.jsonl``) open it; a forecast never does. Keep a copy of the key in a safe place: without it no follow-up can be
linked. The copy still names whom an erasure took out of the vault.
"""

from __future__ import annotations

import errno
import fcntl
import hmac
import json
import os
import secrets
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ..core.errors import ConfigurationRejected, ConsentDenied
from ..core.files import canonical_json, written_whole
from . import acting
from .subject import SubjectKey, date_shift, digest, imaging_study_id, mapped_uid, subject_key

KEY_BYTES, NONCE_BYTES = 32, 12
HEADER = b"oncoscale-vault-1\n"
REFERENCE_KEY = bytes(range(32))
WITH_VAULT = ("curator", "data-protection-officer")
"""Roles that may have the vault opened."""


def default_folder() -> Path:
    """``$ONCOSCALE_VAULT``, else ``$XDG_CONFIG_HOME/oncoscale/vault``, else ``~/.config/oncoscale/vault``."""
    if chosen := os.environ.get("ONCOSCALE_VAULT"):
        return Path(chosen).expanduser()
    config = os.environ.get("XDG_CONFIG_HOME")
    return (Path(config) if config else Path.home() / ".config") / "oncoscale" / "vault"


@dataclass(frozen=True)
class Vault:
    """An open vault. ``folder`` is None for the reference patient's, which keeps nothing."""

    folder: Path | None
    _key: bytes = field(repr=False)

    @classmethod
    def open(cls, folder: Path | str | None = None, *, store: Path | None = None) -> Vault:
        """Open the vault, making it on first use.

        folder  default: see default_folder
        store   the folder of the store, which may not hold the vault

        Raises ConfigurationRejected for a key that others may read, that lies in a store or a project, or that
        is not 32 bytes.
        """
        _refuse_role()
        folder = Path(folder) if folder is not None else default_folder()
        _refuse_place(folder.absolute(), store)
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            return cls(folder, _key_in(folder / "project.key"))
        except OSError as error:
            raise _unusable(error) from error

    @classmethod
    def for_reference_patient(cls) -> Vault:
        """A vault with a published key, for the digital reference patient alone: nobody is protected by it."""
        return cls(None, REFERENCE_KEY)

    def subject_key(self, site: str, local_id: str) -> SubjectKey:
        """The pseudonym of a person; see subject.subject_key."""
        return subject_key(self._key, site, local_id)

    def imaging_study_id(self, identities: list[str]) -> str:
        """The identifier of one visit's images; see subject.imaging_study_id."""
        return imaging_study_id(self._key, identities)

    def mapped_uid(self, uid: str) -> str:
        """The UID that stands in the store for ``uid``; see subject.mapped_uid."""
        return mapped_uid(self._key, uid)

    def date_shift(self, subject: SubjectKey) -> int:
        """Days into the past; see subject.date_shift."""
        return date_shift(self._key, subject)

    @property
    def fingerprint(self) -> str:
        """Says which key a store was made with, and nothing else about it."""
        return digest(self._key, "fingerprint").hex()[:32]

    def keyed_hash(self, text: str) -> str:
        """HMAC of ``text``: compares contents that must not be stored, not even as a plain hash."""
        return digest(self._key, "content", text).hex()

    def remember(self, subject: SubjectKey, site: str, local_id: str) -> None:
        """Enter a subject into the encrypted list; entering it twice changes nothing."""
        self.remember_all({subject: local_id}, site)

    def remember_all(self, named: Mapping[SubjectKey, str], site: str) -> None:
        """Enter subjects, by what each is called at the site; the list is written once."""
        if self.folder is None or not named:
            return
        try:
            with self._locked():
                subjects = self._subjects()
                new = {key: {"site": site, "local_id": name} for key, name in named.items() if key not in subjects}
                if new:
                    self._write(subjects | new)
        except OSError as error:
            raise _unusable(error) from error

    def forget(self, subject: SubjectKey) -> bool:
        """Take a subject out of the list; False if it is not in it. The same person would get the same key again."""
        if self.folder is None:
            return False
        try:
            with self._locked():
                subjects = self._subjects()
                if subject not in subjects:
                    return False
                self._write({key: entry for key, entry in subjects.items() if key != subject})
        except OSError as error:
            raise _unusable(error) from error
        return True

    def holds(self, subject: SubjectKey) -> bool:
        """Whether the list names the subject."""
        return subject in self._subjects()

    def local_ids(self) -> frozenset[str]:
        """What their sites call the subjects in the list."""
        return frozenset(entry["local_id"] for entry in self._subjects().values())

    @property
    def public_key(self) -> str:
        """Checks the signatures of this vault (Ed25519): hexadecimal digits; tell it to whoever keeps signed heads."""
        return self._signer().public_key().public_bytes_raw().hex()

    def signed(self, message: bytes) -> bytes:
        """The vault's signature of a message, with a key that serves nothing else."""
        return self._signer().sign(message)

    def keep_head(self, line: str) -> None:
        """Add a signed head of an audit to those that the vault keeps."""
        folder = self._own_folder()
        try:
            with self._locked(), open(folder / "heads.jsonl", "a", encoding="utf-8") as handle:
                handle.write(line + "\n")
                handle.flush()
                os.fsync(handle.fileno())
        except OSError as error:
            raise _unusable(error) from error

    def heads(self) -> tuple[str, ...]:
        """The signed heads that the vault keeps, oldest first."""
        path = self._own_folder() / "heads.jsonl"
        return tuple(path.read_text(encoding="utf-8").splitlines()) if path.exists() else ()

    def _signer(self) -> Ed25519PrivateKey:
        try:
            return Ed25519PrivateKey.from_private_bytes(_key_in(self._own_folder() / "audit.key"))
        except OSError as error:
            raise _unusable(error) from error

    def _own_folder(self) -> Path:
        if self.folder is None:
            raise ConfigurationRejected(
                "the reference patient's vault keeps nothing", "a vault of your own", "set ONCOSCALE_VAULT to a folder"
            )
        return self.folder

    def reidentify(self, subject: SubjectKey) -> tuple[str, str]:
        """(site, local identifier) of a subject. Raises ConfigurationRejected if the vault does not hold it."""
        try:
            entry = self._subjects()[subject]
        except KeyError:
            raise ConfigurationRejected(
                f"the vault does not hold {subject}",
                "a subject ingested with this vault",
                "set ONCOSCALE_VAULT to the vault that was used",
            ) from None
        return entry["site"], entry["local_id"]

    @contextmanager
    def _locked(self) -> Iterator[None]:
        assert self.folder is not None
        with open(self.folder / "lock", "a") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def _cipher(self) -> AESGCM:
        return AESGCM(hmac.new(self._key, b"vault", sha256).digest())

    def _subjects(self) -> dict[str, dict[str, str]]:
        path = self.folder / "subjects.vault" if self.folder else None
        if path is None or not path.exists():
            return {}
        sealed = path.read_bytes()
        nonce, cipher = sealed[len(HEADER) : len(HEADER) + NONCE_BYTES], sealed[len(HEADER) + NONCE_BYTES :]
        try:
            subjects: dict[str, dict[str, str]] = json.loads(self._cipher().decrypt(nonce, cipher, HEADER))
        except (InvalidTag, ValueError) as error:
            raise ConfigurationRejected(
                "the vault's list of subjects does not open with its key",
                "project.key and subjects.vault of one vault",
                "restore both from the same copy",
            ) from error
        return subjects

    def _write(self, subjects: dict[str, dict[str, str]]) -> None:
        assert self.folder is not None
        nonce = secrets.token_bytes(NONCE_BYTES)
        sealed = HEADER + nonce + self._cipher().encrypt(nonce, canonical_json(subjects).encode(), HEADER)
        with written_whole(self.folder / "subjects.vault") as beside:
            os.close(os.open(beside, os.O_CREAT | os.O_WRONLY, 0o600))
            beside.write_bytes(sealed)


def _refuse_role() -> None:
    if acting.role() not in (acting.UNSTATED, *WITH_VAULT):
        raise ConsentDenied(
            f"the vault is not for the role {acting.role()}",
            "one of the roles " + " and ".join(WITH_VAULT),
            "ask somebody who has it",
        )


def _unusable(error: OSError) -> ConfigurationRejected:
    return ConfigurationRejected(
        f"the vault cannot be used: {os.strerror(error.errno or errno.EIO)}",
        "a folder of your own, outside the store",
        "set ONCOSCALE_VAULT to such a folder",
    )


def _refuse_place(folder: Path, store: Path | None) -> None:
    """The key may not travel with what it protects: not in a store, not in a project under version control."""
    folder = folder.resolve()
    here_and_above = (folder, *folder.parents)
    if store is not None and store.resolve() in here_and_above:
        where = "in the store"
    elif any((parent / ".git").exists() for parent in here_and_above):
        where = "in a folder under version control"
    elif any((parent / "oncoscale.sqlite").exists() for parent in here_and_above):
        where = "in a store"
    else:
        return
    raise ConfigurationRejected(
        f"the vault lies {where}",
        "a vault apart from what it protects",
        "set ONCOSCALE_VAULT to a folder elsewhere, for your eyes only",
    )


def _key_in(path: Path) -> bytes:
    """The key that a file holds, made on first use."""
    if not path.exists():
        _make_key(path)
    return _read_key(path)


def _make_key(path: Path) -> None:
    """A new random key, whole or absent; if another process was first, its key stays."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(beside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(secrets.token_bytes(KEY_BYTES))
            handle.flush()
            os.fsync(handle.fileno())
        try:
            os.link(beside, path)
        except FileExistsError:
            pass
        except OSError:  # a file system without hard links
            os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def _read_key(path: Path) -> bytes:
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode not in (0o600, 0o400):
        raise ConfigurationRejected(
            f"the vault's {path.name} has mode {mode:04o}",
            "mode 0600: readable by its owner alone",
            f"run: chmod 600 on the vault's {path.name}, and think about who has read it",
        )
    key = path.read_bytes()
    if len(key) != KEY_BYTES:
        raise ConfigurationRejected(
            f"the vault's {path.name} has {len(key)} bytes",
            f"{KEY_BYTES} bytes",
            "restore it from your copy; a new project key would split every subject in two",
        )
    return key
