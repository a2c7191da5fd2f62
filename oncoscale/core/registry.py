"""Plug-ins: every module of a folder, and every entry point of a third party, under one name.

Built-ins use the same door as outsiders: a module is a plug-in when it lies in the folder (names that
begin with ``_`` do not count) or when a distribution declares it in the folder's entry-point group.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pkgutil import iter_modules
from types import ModuleType

from .errors import ConfigurationRejected


def names(package: str) -> tuple[str, ...]:
    """Names of the plug-ins of ``package`` (``"oncoscale.sim.tumours"``), sorted."""
    folder = import_module(package)
    built_in = {module.name for module in iter_modules(folder.__path__) if not module.name.startswith("_")}
    return tuple(sorted(built_in | set(_declared(package))))


@cache
def _declared(package: str) -> dict[str, EntryPoint]:
    """Entry points of other distributions by name; looked up once, since every distribution is read for it."""
    return {point.name: point for point in entry_points(group=package)}


def load(package: str, name: str) -> ModuleType:
    """The plug-in module ``name`` of ``package``. Raises ConfigurationRejected for an unknown name."""
    wanted = name.replace("-", "_")
    known = names(package)
    if wanted not in known:
        raise ConfigurationRejected(
            f"{name!r} is not one of the {package.rsplit('.', 1)[-1]}",
            "one of " + ", ".join(known),
            "choose a name from the list",
        )
    if wanted in _declared(package):
        module: ModuleType = _declared(package)[wanted].load()
        return module
    return import_module(f"{package}.{wanted}")
