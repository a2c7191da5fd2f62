"""Where each attribute of the core goes in each metadata standard, and how much of the core each can say.

Made from what the standards themselves declare: ``mapping()``, ``gaps()`` and ``in_part()``. Documentation holds these
tables generated from the code, so that they cannot differ from it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from . import core, standards
from .common_data import elements
from .standards import Standard

State = Literal["whole", "in part", "gap", "carried"]
"""whole: comes back as it was; in part: some values have no place; gap: no place; carried: said, place not named."""

CLINICAL = ("study", "subject", "enrolment", "sample", "event", "image_series", "observation")
"""Tables that metadata of patients, samples and images are about; the others tell how the store came by them."""


@dataclass(frozen=True)
class Row:
    """An attribute of the core in a standard.

    place   where it goes, in the standard's words; empty where it is not named or there is none
    reason  what is lost, with the clause; empty for nothing
    """

    attribute: str
    state: State
    place: str
    reason: str


@dataclass(frozen=True)
class Coverage:
    """How many attributes a standard can say, of all of the core and of its clinical tables."""

    standard: str
    version: str
    states: Mapping[State, int]
    clinical: Mapping[State, int]

    def share(self, *, clinical: bool = False) -> float:
        """Share of attributes that have a place, whole or in part."""
        counts = self.clinical if clinical else self.states
        return 1.0 - counts.get("gap", 0) / sum(counts.values())


def rows(name: str) -> tuple[Row, ...]:
    """Every attribute of the core in the standard of that name, in the order of the core."""
    chosen = standards.standard(name)
    places, lost, partly = _offered(chosen, "mapping"), {gap.path: gap.reason for gap in chosen.gaps()}, _partly(chosen)
    return tuple(_row(one, places, lost, partly) for one in core.attributes())


def rows_left(name: str) -> tuple[tuple[str, str], ...]:
    """(table, why) for tables some of whose rows a standard cannot say."""
    partly = _partly(standards.standard(name))
    return tuple((path[:-2], reason) for path, reason in partly.items() if path.endswith(".*"))


def coverage(name: str) -> Coverage:
    """How much of the core the standard of that name can say."""
    chosen, found = standards.standard(name), rows(name)
    clinical = (row for row in found if row.attribute.split(".")[0] in CLINICAL)
    counts = (Counter(row.state for row in found), Counter(row.state for row in clinical))
    return Coverage(chosen.NAME, chosen.VERSION, *cast(Any, counts))


def _partly(chosen: Standard) -> Mapping[str, str]:
    return _offered(chosen, "in_part")


def _offered(chosen: Standard, what: str) -> Mapping[str, str]:
    """An optional table of a standard; empty where it offers none."""
    return cast(Mapping[str, str], getattr(chosen, what)()) if hasattr(chosen, what) else {}


def _row(attribute: str, places: Mapping[str, str], lost: Mapping[str, str], partly: Mapping[str, str]) -> Row:
    place = places.get(attribute, "")
    reason = lost.get(attribute) or lost.get(f"{attribute.split('.')[0]}.*", "")
    if reason:
        return Row(attribute, "in part" if place else "gap", place, reason)
    if attribute in partly:
        return Row(attribute, "in part", place, partly[attribute])
    return Row(attribute, "whole" if place else "carried", place, "")


# --- as documentation


def as_rst() -> str:
    """A page: how much each standard can say, then one table a standard, as reStructuredText."""
    names = standards.names()
    summary = [_summary(coverage(name)) for name in names]
    head = ("Standard", "Version", "Whole", "In part", "Gap", "Share", "Clinical share")
    parts = [_table(head, summary), *(_section(name) for name in names)]
    return "\n".join(parts)


def gaps_as_rst() -> str:
    """For each standard what it cannot say and why, attributes of one reason together, as reStructuredText."""
    return "\n".join(_gaps_of(standards.standard(name)) for name in standards.names())


def _gaps_of(chosen: Standard) -> str:
    title = f"{chosen.NAME} ({chosen.VERSION})"
    by_reason: dict[tuple[str, str], list[str]] = {}
    for gap in chosen.gaps():
        by_reason.setdefault(("always", gap.reason), []).append(gap.path)
    for path, reason in _partly(chosen).items():
        by_reason.setdefault(("some values", reason), []).append(path)
    lines = [(", ".join(f"``{path}``" for path in paths), lost, reason) for (lost, reason), paths in by_reason.items()]
    body = _table(("What", "Lost", "Why"), lines) if lines else "Nothing: what it has no word for stands beside it.\n"
    return f"{title}\n{'-' * len(title)}\n\n{body}"


def elements_as_rst() -> str:
    """The Common Data Elements as one table, as reStructuredText."""
    head = ("Core", "Of", "System", "Code", "Name", "Unit", "Permitted values")
    lines = [
        (f"``{one.core}``", one.of.rpartition("/")[2], one.system, one.code, one.name,
         f"``{one.unit}``" if one.unit else "", ", ".join(f"{held} = {said}" for held, said in one.values.items()))
        for one in elements()
    ]  # fmt: skip
    return _table(head, lines)


def _summary(one: Coverage) -> tuple[str, ...]:
    states = one.states
    whole = states.get("whole", 0) + states.get("carried", 0)
    counts = (whole, states.get("in part", 0), states.get("gap", 0))
    return (one.standard, one.version, *map(str, counts), f"{one.share():.0%}", f"{one.share(clinical=True):.0%}")


def _section(name: str) -> str:
    chosen = standards.standard(name)
    title = f"{chosen.NAME} ({chosen.VERSION})"
    lines = [(f"``{row.attribute}``", row.state, row.place, row.reason) for row in rows(name)]
    left = "".join(f"- rows of ``{table}``: {reason}\n" for table, reason in rows_left(name))
    note = f"\nSome rows have no place although their attributes have:\n\n{left}" if left else ""
    return f"\n{title}\n{'-' * len(title)}\n\n{_table(('Core', 'State', 'Place', 'Lost'), lines)}{note}"


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A list-table: cells of any length."""
    listed = "".join("   * - " + "\n     - ".join(map(_cell, line)) + "\n" for line in (head, *lines))
    return f".. list-table::\n   :header-rows: 1\n\n{listed}"


def _cell(text: str) -> str:
    """A cell: code as it is, words without what would be read as markup."""
    return text if text.startswith("``") else text.replace("*", r"\*").replace("|", r"\|").replace("_", r"\_")
