"""Passing names: what a file or folder is called until it is whole, and what killed commands left under such names.

    .NAME.part-MACHINE-PROCESS.SUFFIX

A process that is ended in the middle of its work (kill -9, no memory left) cannot remove what it has half written. The
next command that writes to the same name does, where the name speaks of a dead process of this very machine. Folders
are often shared between machines: what is another machine's is left alone, since nobody here knows who lives there.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
from contextlib import suppress
from functools import cache
from hashlib import sha256
from pathlib import Path

_PASSING = re.compile(
    r"\.(?P<stem>.+)\.part-(?P<machine>[0-9a-f]{8})-(?P<process>[0-9]+)(?P<suffix>(\..*)?)", re.DOTALL
)


def passing_file(path: Path) -> Path:
    """What a file of this name is called until it is whole; its suffix stays, as writers go by it."""
    return path.with_name(f".{path.stem}.part-{machine()}-{os.getpid()}{path.suffix}")


def passing_folder(path: Path) -> Path:
    """What a folder of this name is called until it is whole."""
    return path.with_name(f".{path.name}.part-{machine()}-{os.getpid()}")


def swept(passing: Path) -> Path:
    """The passing name, after what killed processes left under it is gone. What cannot be removed stays.

    What stands there under the name itself a process left that had our number, as the first of a container has.
    """
    remove(passing)
    wanted = _PASSING.fullmatch(passing.name)
    for left in abandoned(passing.parent):
        found = _PASSING.fullmatch(left.name)
        if wanted and found and wanted.group("stem", "suffix") == found.group("stem", "suffix"):
            remove(left)
    return passing


def remove(left: Path) -> None:
    """Remove a file or a folder with all that is in it, as far as that is permitted."""
    if left.is_dir() and not left.is_symlink():
        shutil.rmtree(left, ignore_errors=True)
    else:
        with suppress(OSError):
            left.unlink(missing_ok=True)


def passing_names(folder: Path) -> list[str]:
    """What a folder holds under passing names, ordered; nothing of a folder that cannot be read."""
    try:
        return sorted(filter(is_passing, os.listdir(folder)))
    except OSError:
        return []


def abandoned(folder: Path) -> list[Path]:
    """What dead processes of this machine left in a folder."""
    return [folder / name for name in passing_names(folder) if is_abandoned(name)]


def is_passing(name: str) -> bool:
    """Whether this is the name of something that is not whole."""
    return _PASSING.fullmatch(name) is not None


def is_abandoned(name: str) -> bool:
    """Whether this is the passing name of a process of this machine that is dead.

    >>> is_abandoned("run"), is_abandoned(passing_folder(Path("run")).name)
    (False, False)
    """
    found = _PASSING.fullmatch(name)
    return found is not None and found["machine"] == machine() and not is_alive(int(found["process"]))


def is_alive(process: int) -> bool:
    """Whether a process of that number runs on this machine, whoever's it is."""
    try:
        os.kill(process, 0)
    except (OverflowError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True


@cache
def machine() -> str:
    """Eight hexadecimal digits for where process numbers mean something: this host since it was started, or this
    container on it. Hosts that are copies of one another differ; what was left before a new start is left to people.
    """
    words = [socket.gethostname()]
    with suppress(OSError):
        words.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
    with suppress(OSError):
        words.append(str(os.stat("/proc/self/ns/pid").st_ino))  # containers count their processes anew
    return sha256("\x1f".join(words).encode()).hexdigest()[:8]
