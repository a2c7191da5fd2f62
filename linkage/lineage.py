"""Lineage: what a run rests on, through as many runs as lie between.

A generation of runs is asked for at once, by the indexes of the links alone. One recursive question would say the same,
but SQLite cannot know how few runs it will find, and may read every link of the store first.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from sqlalchemy import BindParameter, Connection, bindparam, select

from ..core.errors import StoreRejected
from . import tables
from .core import Link

MOST = 10_000
"""Runs that one answer may reach back through. ASSUMED: longer chains are a mistake, or a question for an export."""

AT_ONCE = 1000
_link = tables.link.c
_names: BindParameter[Sequence[str]] = bindparam("names", expanding=True)
_LINKS = (
    select(_link.run, _link.attempt, _link.role, _link.port, _link.artefact, _link.series, _link.sample)
    .where(_link.run.in_(_names))
    .order_by(_link.run, _link.attempt, _link.role, _link.port)
)
_MAKERS = select(_link.run).where(_link.artefact.in_(_names), _link.role == "generated").distinct()


def rests_on(connection: Connection, run: str, *, most: int = MOST) -> tuple[Link, ...]:
    """Every link of a run, then of the runs that made the files it used, and so on: nearest first.

    most  runs; more raise StoreRejected
    """
    found: list[Link] = []
    seen: set[str] = set()
    generation = {run}
    while generation:
        seen |= generation
        if len(seen) > most:
            raise StoreRejected(
                f"the run {run[:12]} rests on more than {most} runs", f"at most {most}", "ask about a later run"
            )
        links = [Link(*row) for names in _some(generation) for row in connection.execute(_LINKS, {"names": names})]
        used = {one.artefact for one in links if one.role == "used" and one.artefact}
        made = (row.run for names in _some(used) for row in connection.execute(_MAKERS, {"names": names}))
        found += links
        generation = set(made) - seen
    return tuple(found)


def _some(names: Collection[str]) -> Iterator[list[str]]:
    """As many names at a time as a database takes."""
    ordered = sorted(names)
    for first in range(0, len(ordered), AT_ONCE):
        yield ordered[first : first + AT_ONCE]
