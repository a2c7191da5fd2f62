"""Metadata standards, one file each: render, read, check, and the list of what cannot be said.

A standard is a module of this folder (or an entry point of the group ``oncoscale.linkage.standards``) with

NAME, VERSION          as users call it (``ro-crate``) and the pinned version of the standard
FORM                   ``file`` or ``folder``: what ``render`` writes
SUFFIX                 of a file, with the dot; empty for a folder
PREDICTIONS            whether predictions are rendered unless the user says otherwise
render(holdings, out)  write the core in this standard to ``out``, which does not exist yet
read(path)             the core from this standard, with what was not understood (absent: cannot be read)
OPTIONS                optional: what else ``render`` or ``read`` may be told by name, name to help
check(out)             what breaks the standard's own rules in a rendering, without any outside program
gaps()                 what of the core this standard cannot say, with the clause that says so
mapping()              optional: where each attribute of the core goes, ``table.field`` to the place in the standard; an
                       attribute that is both mapped and a gap is said in part
sayable(holdings)      optional: the holdings as the standard can say them, less rows and values that have no place
                       although their attributes have (an infant's age where ages begin at one year)
in_part()              with it: the paths that may lose single values or rows, each with the reason
unsaid(holdings)       with it: how many those are, by path, each with the reason

Field lists are data beside the code. Nothing is dropped silently: every attribute that is neither rendered nor a
declared gap is a fault, and tests freeze the lists.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

from ...core import registry
from ...core.errors import ConfigurationRejected
from .. import core
from ..core import Holdings


@dataclass(frozen=True)
class Gap:
    """Something that a standard cannot say, or that was not understood.

    path    ``table.field`` or ``table.*`` of the core (export), or the place in the foreign file (import)
    reason  why, with the clause of the standard
    n       how often it occurred
    """

    path: str
    reason: str
    n: int = 0


@dataclass(frozen=True)
class Read:
    """What was read from a standard.

    holdings  subjects by the names that the file gives them: pseudonyms of this project, or the sender's own
    gaps      what was not understood
    day0      by the file's name of a subject, the date from which its days count, where the file tells it; it serves to
              count them from the store's day 0, and is kept nowhere
    """

    holdings: Holdings
    gaps: tuple[Gap, ...] = ()
    day0: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Violation:
    """A rule that a rendering breaks: the rule, where, and what was found."""

    rule: str
    where: str
    found: str


@runtime_checkable
class Standard(Protocol):
    """What a module of this folder offers."""

    NAME: str
    VERSION: str
    FORM: str
    SUFFIX: str
    PREDICTIONS: bool

    def render(self, holdings: Holdings, out: Path) -> None:
        """Write the core to ``out``."""

    def check(self, out: Path) -> tuple[Violation, ...]:
        """The rules that a rendering breaks; none is what it should be."""

    def gaps(self) -> tuple[Gap, ...]:
        """What this standard cannot say."""


class Readable(Standard, Protocol):
    """A standard that can be read as well."""

    def read(self, path: Path, **options: str) -> Read:
        """The core from a file or folder. Raises FileRejected for what it does not understand at all."""


def names() -> tuple[str, ...]:
    """Every standard, as users call it."""
    return tuple(name.replace("_", "-") for name in registry.names(__name__))


def standard(name: str) -> Standard:
    """The standard of that name. Raises ConfigurationRejected for an unknown one."""
    if name.replace("_", "-") not in names():
        raise ConfigurationRejected(
            f"{name!r} is not one of the standards", "one of " + ", ".join(names()), "choose a name from the list"
        )
    return cast(Standard, registry.load(__name__, name))


def readable(name: str) -> Readable | None:
    """The standard if it can be read, else None."""
    found = standard(name)
    return cast(Readable, found) if hasattr(found, "read") else None


def met(holdings: Holdings, declared: Iterable[Gap]) -> tuple[Gap, ...]:
    """The declared gaps that these holdings fall into, each with how many values it costs."""
    counts = Counter(dict(_filled(holdings)))
    by_table = {table: len(found) for table, found in core.rows(holdings)}
    costs = [
        Gap(gap.path, gap.reason, by_table[gap.path[:-2]] if gap.path.endswith(".*") else counts[gap.path])
        for gap in declared
    ]
    return tuple(gap for gap in costs if gap.n)


def lost(holdings: Holdings, chosen: Standard) -> tuple[Gap, ...]:
    """All that a standard cannot say of these holdings: declared gaps, and single values without a place."""
    single = cast(Any, chosen).unsaid(holdings) if hasattr(chosen, "unsaid") else ()
    return (*met(holdings, chosen.gaps()), *single)


def said(holdings: Holdings, chosen: Standard) -> Holdings:
    """The holdings as a standard can say them: what reading its rendering gives back, less the declared gaps."""
    return cast(Holdings, cast(Any, chosen).sayable(holdings)) if hasattr(chosen, "sayable") else holdings


def coverage(declared: Iterable[Gap]) -> float:
    """Share of the core's attributes that a standard can say."""
    lost = {path for gap in declared for path in _attributes_of(gap.path)}
    return 1.0 - len(lost) / len(core.attributes())


def _attributes_of(path: str) -> tuple[str, ...]:
    if not path.endswith(".*"):
        return (path,)
    return tuple(one for one in core.attributes() if one.startswith(path[:-1]))


def _filled(holdings: Holdings) -> Mapping[str, int]:
    """How many rows state each attribute."""
    counts: Counter[str] = Counter()
    for table, found in core.rows(holdings):
        for row in found:
            for one in fields(row):
                counts[f"{table}.{one.name}"] += _stated(getattr(row, one.name))
    return counts


def _stated(value: Any) -> bool:
    return value is not None and value != {} and value != ()
