"""What an import can read besides metadata standards, one file each.

A reader is a module of this folder (or an entry point of the group ``oncoscale.linkage.readers``) with

NAME, VERSION   as users call it (``--from eform``), and the version of what it reads
read(path)      the core's rows and what was not understood. Raises FileRejected for a file that is something else.

``linkage.importing.enter`` takes what a reader gives into the store. A reader of what is more than rows (images of
slides) has ``import_file(store, path, *, vault, site, dry_run)`` of its own, which does that and the rest.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, cast

from ...core import registry
from ..standards import Read


class Reader(Protocol):
    """What a module of this folder offers."""

    NAME: str
    VERSION: str

    def read(self, path: Path) -> Read:
        """The core from a file or folder. Raises FileRejected for what it does not understand at all."""


def names() -> tuple[str, ...]:
    """Every reader, as users call it."""
    return tuple(name.replace("_", "-") for name in registry.names(__name__))


def reader(name: str) -> Reader:
    """The reader of that name. Raises ConfigurationRejected for an unknown one."""
    return cast(Reader, registry.load(__name__, name))
