"""MIABIS: biobank, collection and research resource (Core 3.0), sample, donor and event (1.1), by attribute code.

Core 2.0 is read as well. Ages leave, dates do not: an event has an age in days (EVENT-03 and 04), never a date.
Relations of the standard's entity diagram have no codes; they are written as the IDs of what is referred to. Events
are written in one table for each kind, since the Event is a template. Nothing predicted is ever written.

Sources: Eklund 2024, doi 10.1089/bio.2023.0074; Eklund 2020, doi 10.1089/bio.2019.0129; BBMRI-ERIC/miabis.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from .. import core
from ..core import Holdings
from . import Gap, Read, Violation, _declared
from ._miabis import FILE, Found, broken_rules, exact, found_in, raw_records, write_records
from ._miabis_2 import as_version_3, is_version_2
from ._miabis_read import holdings_of
from ._miabis_write import code_book_of, records_of, untimed

NAME, VERSION = "miabis", "3.0"
FORM, SUFFIX = "folder", ""
PREDICTIONS = False


def render(holdings: Holdings, out: Path) -> None:
    """A folder of CSV by attribute code, and the same as JSON."""
    seen = core.observed(holdings)
    write_records(out, records_of(seen), code_book_of(seen))


def read(path: Path) -> Read:
    """The core from a folder or a JSON file of MIABIS 3.0 and 1.1, or of Core 2.0.

    Raises FileRejected for anything else, for a record without its ID, and for a required value outside its list.
    """
    raw = raw_records(Path(path))
    raw, older = as_version_3(raw) if is_version_2(raw) else (raw, ())
    found = found_in(raw, Path(path))
    holdings = holdings_of(found, Path(path).name)
    return Read(holdings, (*older, *found.gaps()))


def check(out: Path) -> tuple[Violation, ...]:
    """Rules that a rendering breaks: cardinalities, lists, kinds of values, references, age or date, CSV as JSON."""
    raw = raw_records(out)
    records, strange = exact(raw)
    broken = [*strange, *broken_rules(records)]
    if out.is_dir() and (out / FILE).is_file():
        as_csv, _ = exact(raw_records(out, prefer_csv=True))
        broken += [
            Violation("CSV and JSON say the same", name, "they differ")
            for name in sorted({*records, *as_csv})
            if list(records.get(name, ())) != list(as_csv.get(name, ()))
        ]
    return tuple(broken)


def gaps() -> tuple[Gap, ...]:
    """What MIABIS has no attribute for, or one that says it only in part."""
    return _declared.gaps(NAME)


def mapping() -> Mapping[str, str]:
    """Where attributes of the core go."""
    return _declared.mapping(NAME)


def in_part() -> Mapping[str, str]:
    """Attributes and rows that have a place for some values only, with the reason."""
    return _declared.in_part(NAME)


def sayable(holdings: Holdings) -> Holdings:
    """The holdings as MIABIS can say them: values of its lists, ages in place of days."""
    seen = core.observed(holdings)
    records = {name: [dict(one) for one in held] for name, held in records_of(seen).items()}
    return holdings_of(Found(records, list(map(dict, code_book_of(seen)))), "the store")


def unsaid(holdings: Holdings) -> tuple[Gap, ...]:
    """Rows and values that have no place although their attributes have, with how many."""
    seen = core.observed(holdings)
    told = _declared.unsaid(NAME, seen, sayable(seen))
    without_time = Gap("event.age_d", "events whose age is unknown stand without a time", untimed(seen))
    return (*told, without_time) if without_time.n else told
