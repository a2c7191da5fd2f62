"""Importers: what can be read into the store, whether a metadata standard or a source of another kind.

Every standard that can be read is one. Others (a form's answers, a report, slides) are modules of this folder, or entry
points of the group ``oncoscale.linkage.importers``, with

NAME, VERSION          as users call it (``oncoscale import --from NAME``) and the version of what it reads
OPTIONS                what else it may be told, name to help; absent for nothing
read(path, **options)  the core from a file or folder, with what was not understood
import_file(store, path, *, vault, site, dry_run)
                       where it brings more than rows (images of slides): takes these in as well

A module that lies here is found; nothing else needs to be told of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Protocol, cast

from ...core import registry
from ...core.errors import ConfigurationRejected
from .. import standards
from ..importing import Imported, enter
from ..standards import Read
from ..store import Store
from ..vault import Vault


class Importer(Protocol):
    """What a module of this folder offers."""

    NAME: str
    VERSION: str

    def read(self, path: Path, **options: str) -> Read:
        """The core from a file or folder. Raises FileRejected for what it does not understand at all."""


@dataclass(frozen=True)
class _OfStandard:
    """A standard that can be read, as an importer; what it may be told is what its ``read`` takes."""

    chosen: standards.Readable

    @property
    def NAME(self) -> str:
        return self.chosen.NAME

    @property
    def VERSION(self) -> str:
        return self.chosen.VERSION

    @property
    def OPTIONS(self) -> Mapping[str, str]:
        taken = signature(self.chosen.read).parameters
        return {name: words for name, words in getattr(self.chosen, "OPTIONS", {}).items() if name in taken}

    def read(self, path: Path, **options: str) -> Read:
        return self.chosen.read(path, **options)


def names() -> tuple[str, ...]:
    """Every importer, as users call it."""
    own = {name.replace("_", "-") for name in registry.names(__name__)}
    readable = {name for name in standards.names() if standards.readable(name) is not None}
    return tuple(sorted(own | readable))


def importer(name: str) -> Importer:
    """The importer of that name. Raises ConfigurationRejected for an unknown one."""
    called = name.replace("_", "-")
    if called not in names():
        raise ConfigurationRejected(
            f"{name!r} cannot be imported", "one of " + ", ".join(names()), "choose a name from the list"
        )
    if called.replace("-", "_") in registry.names(__name__):
        return cast(Importer, registry.load(__name__, called))
    chosen = standards.readable(called)
    assert chosen is not None
    return cast(Importer, _OfStandard(chosen))


def options_of(chosen: Importer) -> Mapping[str, str]:
    """What else an importer may be told, name to help."""
    return cast(Mapping[str, str], getattr(chosen, "OPTIONS", {}))


def take(
    store: Store,
    path: Path | str,
    *,
    name: str,
    vault: Vault,
    site: str = "site1",
    options: Mapping[str, str] | None = None,
    dry_run: bool = False,
) -> Imported:
    """Read a file or folder into the store, whole or not at all.

    Raises FileRejected for a file that is not what it should be, ConfigurationRejected for an importer or an option
    that is unknown, or a vault that is not the store's.
    """
    chosen, stated = importer(name), dict(options or {})
    known = options_of(chosen)
    if unknown := sorted(stated.keys() - known.keys()):
        raise ConfigurationRejected(
            f"{chosen.NAME} has no option {', '.join(unknown)}",
            "one of " + ", ".join(known) if known else "no option",
            "leave it out, or correct its name",
        )
    if hasattr(chosen, "import_file"):
        return cast(Imported, chosen.import_file(store, Path(path), vault=vault, site=site, dry_run=dry_run))
    found = chosen.read(Path(path), **stated)
    return enter(store, found, standard_name=chosen.NAME, version=chosen.VERSION, vault=vault, site=site,
                 dry_run=dry_run)  # fmt: skip
