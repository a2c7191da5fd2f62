"""Whose eyes files are for: their owner's alone, unless a store's folder was made for a group.

What a new store makes, nobody else may read, whatever the umask allows. A folder that its owner made beforehand, that
shuts others out and lets its group in (``mkdir STORE; chmod 2770 STORE``), is for the group: what is made in it the
group may use as it may use the folder, as far as the umask allows. The permissions of what is there already are its
owner's business: they are never changed, and ``oncoscale doctor --store STORE`` remarks what anybody on the machine can
read.
"""

from __future__ import annotations

import os
from pathlib import Path

OWNER, GROUP, OTHERS = 0o700, 0o070, 0o007
OF_FILES = 0o666
"""What remains of a folder's permissions for a file: nothing in a store is a program."""

IN_A_STORE = ("oncoscale.sqlite*", "audit.key", "studies", "runs")


def mode_below(folder: Path) -> int:
    """Permissions of a folder that is made in a store's; of a file, those ``OF_FILES`` of them."""
    mode = folder.stat().st_mode
    return OWNER if mode & OTHERS else OWNER | mode & GROUP


def make_file(path: Path, mode: int = OWNER) -> None:
    """An empty file with a folder's permissions, as far as the umask allows. Raises FileExistsError."""
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode & OF_FILES))


def shut(path: Path) -> None:
    """Keep a file, or a folder with all that is in it, for its owner's eyes."""
    path.chmod(OWNER if path.is_dir() else OWNER & OF_FILES)


def open_to_others(store: Path) -> tuple[str, ...]:
    """What anybody on the machine can read of a store's folder; nothing where a folder on the way shuts them out."""
    folder = store.resolve()
    if not all(place.stat().st_mode & OTHERS & 0o111 for place in (folder, *folder.parents)):
        return ()
    found = {place for pattern in IN_A_STORE for place in folder.glob(pattern)}
    return tuple(sorted(place.name for place in found if place.stat().st_mode & OTHERS & 0o444))
