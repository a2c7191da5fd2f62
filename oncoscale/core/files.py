"""Files that are either whole or absent: written beside, flushed, renamed into place.

What a killed command left beside goes with the next one that writes the same (``passing``).
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

from .errors import ConfigurationRejected, StorageFault
from .passing import passing_file, passing_folder, swept

_NOT_ALLOWED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST)
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def _typed(error: OSError, path: Path) -> Exception:
    """The error that a user can act on; an error that is not about writing stays what it is."""
    if error.errno in _NOT_ALLOWED:
        return ConfigurationRejected(
            f"cannot write {path.name!r}: {os.strerror(error.errno)}",
            "a folder that may be written",
            "choose another output folder or change its permissions",
        )
    if error.errno in _NO_ROOM:
        return StorageFault(
            f"writing {path.name!r} failed: {os.strerror(error.errno)}",
            "enough free space",
            "free space on that disk and run the same command again; nothing half written was left",
        )
    return error


@contextmanager
def written_whole(path: Path | str) -> Iterator[Path]:
    """A temporary path beside ``path``; on success it is flushed and renamed to ``path``, else removed.

    Raises StorageFault (exit 4) when the disk fills, ConfigurationRejected (exit 2) when it may not be written.
    """
    path = Path(path)
    beside = passing_file(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield swept(beside)
        with open(beside, "rb+") as handle:
            os.fsync(handle.fileno())
        os.replace(beside, path)
    except OSError as error:
        raise _typed(error, path) from error
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)


@contextmanager
def folder_written_whole(path: Path | str) -> Iterator[Path]:
    """A temporary folder beside ``path`` that becomes ``path`` on success and vanishes otherwise.

    ``path`` must not exist, or be an empty folder.
    """
    path = Path(path)
    beside = passing_folder(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        swept(beside).mkdir()
        yield beside
        os.replace(beside, path)
    except OSError as error:
        raise _typed(error, path) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def write_text(path: Path | str, text: str, *, private: bool = False) -> None:
    """Write UTF-8 text whole; ``private``: for its owner's eyes alone, also where a file of others' eyes was."""
    with written_whole(path) as beside:
        if private:
            beside.touch(mode=0o600)
        beside.write_text(text, encoding="utf-8")


_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def canonical_json(value: Any) -> str:
    """JSON with sorted keys, no blanks, shortest round-trip floats: equal values give equal bytes."""
    return _CANONICAL.encode(value)


def write_json(path: Path | str, value: Any, *, private: bool = False) -> None:
    """Write readable JSON whole, keys sorted; NaN is refused (absent values are null). ``private``: see write_text."""
    text = json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    write_text(path, text, private=private)


def content_hash(path: Path | str) -> str:
    """SHA-256 of a file's bytes, in hexadecimal digits."""
    digest = sha256()
    with open(path, "rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
