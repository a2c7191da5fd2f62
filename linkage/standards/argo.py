"""ICGC-ARGO: a TSV for each file of its dictionary (icgc-argo/argo-dictionary@4e6ce62), written and read.

Rows are written where every required field is known, and left where one is not: no value is invented to complete a
row. Images have no file, and imaging samples cannot be registered. Nothing predicted is ever written.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from .. import core
from ..core import Holdings
from . import Gap, Read, Violation, _declared
from ._argo import broken_rules, read_files, write_files
from ._argo_read import holdings_of
from ._argo_write import tables_of

NAME, VERSION = "argo", "argo-dictionary 4e6ce62"
FORM, SUFFIX = "folder", ""
PREDICTIONS = False


def render(holdings: Holdings, out: Path) -> None:
    """A folder of TSV files."""
    write_files(out, tables_of(core.observed(holdings)))


def read(path: Path) -> Read:
    """The core from a folder of TSV files. Raises FileRejected for anything else, and for rows that lack their ids."""
    tables, strange = read_files(Path(path))
    holdings, unknown = holdings_of(tables)
    reason = "no file or field of the dictionary that the core takes"
    found = sorted((+unknown).items()) + sorted(strange.items())
    return Read(holdings, tuple(Gap(place, reason, n) for place, n in found))


def check(out: Path) -> tuple[Violation, ...]:
    """The rules of fields, ids and references that a rendering breaks."""
    tables, strange = read_files(out)
    files = (Violation("files are the dictionary's", name, f"{n} rows") for name, n in strange.items())
    return (*broken_rules(tables), *files)


def gaps() -> tuple[Gap, ...]:
    """What no file of ICGC-ARGO has a field for."""
    return _declared.gaps(NAME)


def mapping() -> Mapping[str, str]:
    """Where attributes of the core go."""
    return _declared.mapping(NAME)


def in_part() -> Mapping[str, str]:
    """Attributes and rows that have a place for some values only, with the reason."""
    return _declared.in_part(NAME)


def sayable(holdings: Holdings) -> Holdings:
    """The holdings as ICGC-ARGO can say them: rows that are complete, values in its words, days since diagnosis."""
    return holdings_of(tables_of(core.observed(holdings)))[0]


def unsaid(holdings: Holdings) -> tuple[Gap, ...]:
    """Rows and values that have no place although their attributes have, with how many."""
    seen = core.observed(holdings)
    return _declared.unsaid(NAME, seen, sayable(seen))
