"""What a standard declares in the data file beside its code: its gaps, and where each attribute of the core goes."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import fields
from functools import cache
from importlib.resources import files
from typing import Any

from .. import core
from ..core import Holdings
from . import Gap


@cache
def content(name: str) -> Mapping[str, Any]:
    """The data file ``name.toml`` of this folder."""
    return tomllib.loads(files(__package__).joinpath(f"{name}.toml").read_text(encoding="utf-8"))


def gaps(name: str) -> tuple[Gap, ...]:
    """The declared gaps: table ``[gaps]``, path of the core to the reason."""
    return tuple(Gap(path, reason) for path, reason in content(name)["gaps"].items())


def mapping(name: str) -> Mapping[str, str]:
    """Where attributes of the core go: table ``[mapping]``, path of the core to the place in the standard."""
    return dict(content(name)["mapping"])


def in_part(name: str) -> Mapping[str, str]:
    """Attributes and rows that have a place for some values only: table ``[in-part]``, path to the reason."""
    return dict(content(name)["in-part"])


OTHERWISE = "said in other words, or not at all"

IDENTITY = ("id", "key", "uid", "sha256", "subject", "study", "artefact", "run", "n", "role", "port")
"""Fields that tell a row from the others of its table; the first four alone, where there is one of them."""


def unsaid(
    name: str, held: Holdings, said: Holdings, lost: frozenset[str] | None = None, tables: Collection[str] = ()
) -> tuple[Gap, ...]:
    """What is held and not said, beyond the declared gaps: rows that are missing, values that differ, with how many.

    lost    paths of the declared gaps (None: those of the data file)
    tables  the tables to compare (none: all)

    The reasons stand in table ``[in-part]``; a difference that has none there is told all the same.
    """
    lost = frozenset(gap.path for gap in gaps(name)) if lost is None else lost
    counts: Counter[str] = Counter()
    for table, rows in ((table, rows) for table, rows in core.rows(held) if not tables or table in tables):
        there = {_identity(row): row for row in getattr(said, table)}
        for row in rows:
            other = there.get(_identity(row))
            if other is None:
                counts[f"{table}.*"] += 1
                continue
            for one in fields(row):
                before, after = getattr(row, one.name), getattr(other, one.name)
                counts[f"{table}.{one.name}"] += before not in (None, {}, ()) and before != after
    reasons = content(name)["in-part"]
    told = {path: n for path, n in counts.items() if n and path not in lost and f"{path.split('.')[0]}.*" not in lost}
    return tuple(Gap(path, reasons.get(path, OTHERWISE), n) for path, n in told.items())


def _identity(row: Any) -> tuple[Any, ...]:
    named = {one.name for one in fields(row)}
    alone = [one for one in IDENTITY[:4] if one in named]
    return tuple(getattr(row, one) for one in (alone[:1] or IDENTITY[4:]) if one in named)
