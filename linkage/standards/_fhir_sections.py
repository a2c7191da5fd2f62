"""The sections of fhir.toml: for each table of the core, its resource and the places of its attributes."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any

from ..core import ROWS, Holdings, Series
from ._fhir_paths import Place


@dataclass(frozen=True)
class Section:
    """One table, or the rows of one kind, and where FHIR keeps it; see the head of fhir.toml.

    kind    of the event, else empty
    """

    table: str
    resource: str
    fields: Mapping[str, tuple[str, str]]
    kind: str = ""
    mark: Mapping[str, Any] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    derived: tuple[str, ...] = ()
    facts: tuple[str, ...] = ()
    also: Mapping[str, tuple[tuple[str, str], ...]] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """The attribute by which others refer to a row; empty if none does."""
        return next((name for name in ("id", "key", "uid", "sha256") if name in self.fields), "")

    @property
    def required(self) -> frozenset[str]:
        """Attributes without which a row is none."""
        bare = (MISSING, MISSING)
        row = fields(ROWS[self.table])
        bare_fields = [one for one in row if (one.default, one.default_factory) == bare]
        return frozenset(one.name for one in bare_fields if "None" not in str(one.type))


TABLE_OF = {"risk": "prediction"}
"""Sections that are called differently from their table."""


@cache
def sections() -> tuple[Section, ...]:
    """Every section of fhir.toml, an event's kinds apart; those with a mark first."""
    content = {name: said for name, said in _table().items() if name != "words"}
    found = []
    for name, stated in content.items():
        for kind, said in stated.items() if name == "event" else (("", stated),):
            for each in said.pop("kinds", [kind]):
                found.append(_section(TABLE_OF.get(name, name), each, said))
    return tuple(sorted(found, key=lambda one: not one.mark))


@cache
def words() -> Mapping[str, tuple[str, ...]]:
    """The values that the core permits, by ``table.attribute``."""
    return {name: tuple(values) for name, values in _table()["words"].items()}


def _table() -> dict[str, Any]:
    return tomllib.loads((Path(__file__).parent / "fhir.toml").read_text(encoding="utf-8"))


def _section(table: str, kind: str, said: Mapping[str, Any]) -> Section:
    lists = {name: tuple(said.get(name, ())) for name in ("derived", "facts")}
    return Section(
        table=table,
        resource=said["resource"],
        fields={name: (path, as_what) for name, (path, as_what) in said["fields"].items()},
        kind=kind,
        mark={path: _of_kind(value, kind) for path, value in said.get("mark", {}).items()},
        fixed=said.get("fixed", {}),
        also={name: tuple((path, as_what) for path, as_what in more) for name, more in said.get("also", {}).items()},
        **lists,
    )


def _of_kind(value: Any, kind: str) -> Any:
    """The mark of one kind of event."""
    if isinstance(value, dict) and value.get("system") == "urn:oncoscale:event-kind":
        return {**value, "code": kind}
    return value


def section_of(table: str, row: Any) -> Section:
    """The section of a row: events by their kind, predictions of a probability as risks."""
    risk = table == "prediction" and is_probability(row)
    for one in sections():
        of_kind = one.table == table and one.kind in ("", getattr(row, "kind", ""))
        if of_kind and (one.resource == "RiskAssessment") == risk:
            return one
    raise KeyError(table)


def is_probability(row: Any) -> bool:
    """A prediction that says how probable something is: a dimensionless number between 0 and 1 that is called so."""
    named = "probability" in f"{row.quantity.code} {row.quantity.display}".lower()
    return named and row.unit.code in ("1", "{probability}") and 0.0 <= row.value <= 1.0


def place_of(holdings: Holdings) -> Place:
    """What references mean in a bundle of these holdings."""
    written = {}
    for table in ROWS:
        for row in getattr(holdings, table):
            section = section_of(table, row) if table not in NESTED else None
            if section is not None and section.key:
                written[table, getattr(row, section.key)] = section.resource
    return Place(written=written, studies={one.uid: _study_of(one) for one in holdings.image_series})


def _study_of(series: Series) -> str:
    """What is one ImagingStudy: a subject's study, its simulated series apart."""
    return ":".join((series.subject, series.study_uid, *(("simulated",) if series.role == "simulated" else ())))


NESTED = ("contains", "run_subject", "link")
"""Tables whose rows stand inside the resources of others."""

SEXES = {"female": "female", "male": "male", "undifferentiated": "other", "unknown": "unknown",
         "not-applicable": "unknown"}  # fmt: skip
"""Sex of MIABIS as administrative gender of FHIR."""


SAID_BY_GENDER = ("female", "male", "unknown")
"""Sexes that FHIR's gender says without loss."""
