"""Numbers for rows and for coded values, and the text of every field.

Rows are numbered in an order that is shuffled and owes nothing to a subject's key. Predicted rows and their codes come
after all others, so that the observed part of every file is the same bytes with and without them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from hashlib import sha256
from random import Random
from typing import Any

from ...core.errors import ConfigurationRejected
from ...core.files import canonical_json
from ..core import Code
from ._omop_athena import Athena
from ._omop_cdm import FIRST_CODE, LAST_LOCAL, SAID, SYSTEMS, TABLES, Column, key_of
from ._omop_sheets import Line, Standard

Row = dict[str, str]

DOMAINS = {
    "condition": "Condition", "cause": "Condition", "drug": "Drug", "procedure": "Procedure", "unit": "Unit",
    "measurement": "Measurement", "image": "Measurement", "specimen": "Specimen", "anatomic": "Spec Anatomic Site",
}  # fmt: skip
"""Domain of an own concept by the first word of the field that it stands in; else Observation."""

FROM, UNTIL = "1970-01-01", "2099-12-31"
"""Validity that OHDSI gives to concepts without dates of their own."""


@dataclass
class Numbers:
    """Coded values by the concept that stands for them."""

    athena: Athena
    own: dict[Code, int] = field(default_factory=dict)
    domain: dict[Code, str] = field(default_factory=dict)
    used: set[int] = field(default_factory=lambda: {0})

    def take(self, lines: Iterable[Line]) -> None:
        """Give the codes of these rows numbers, in the order of the codes."""
        met: dict[Code, str] = {}
        for line in lines:
            for name, value in line.values.items():
                if isinstance(value, Code) and value not in self.own:
                    met.setdefault(value, DOMAINS.get(name.split("_")[0], "Observation"))
        for code in sorted(met, key=lambda one: (one.system, one.version, one.code, one.display)):
            known = self.athena.source(code)
            self.own[code] = known if known else FIRST_CODE + len(self.own)
            self.domain[code] = met[code]
        if len(self.own) > LAST_LOCAL - FIRST_CODE:
            raise ConfigurationRejected("more codes than own concept identifiers", "fewer", "export fewer subjects")

    def concept(self, value: Any, column: Column) -> int:
        """The concept of a field, remembered as used."""
        match value:
            case Standard():
                found = self.athena.standard(value.code, column.domain) if value.code else 0
            case Code():
                found = self.own[value]
            case _:
                found = self.athena.field(int(value))
        self.used.add(found)
        return found


def numbered(lines: list[Line], seed: str, athena: Athena) -> dict[str, list[Row]]:
    """The rows of every table as text, the vocabulary's among them."""
    seen, predicted = [one for one in lines if not one.simulated], [one for one in lines if one.simulated]
    numbers, counts = Numbers(athena), dict.fromkeys(TABLES, 0)
    rows: dict[str, list[Row]] = {table: [] for table in TABLES}
    for part in (seen, predicted):
        _count(part, counts, Random(seed))
        numbers.take(part)
    before: set[int] = set()
    for part in (seen, predicted):
        for table, found in _written(part, numbers).items():
            rows[table] += found
        for table, found in _vocabulary(numbers, numbers.used - before).items():
            rows[table] = _once(rows[table] + found)
        before = set(numbers.used)
    return rows


VOCABULARY = ("concept", "vocabulary", "domain", "concept_class")


def _count(lines: list[Line], counts: dict[str, int], luck: Random) -> None:
    """Number the rows of each table, shuffled, on from those that have a number."""
    by_table: dict[str, list[Line]] = defaultdict(list)
    for line in lines:
        by_table[line.table].append(line)
    for table in sorted(by_table):
        order = by_table[table]
        luck.shuffle(order)
        for n, line in enumerate(order, start=counts[table] + 1):
            line.number = n
        counts[table] += len(order)


def _written(lines: list[Line], numbers: Numbers) -> dict[str, list[Row]]:
    """Rows as text: by number, or by their content where they have none."""
    found: dict[str, list[tuple[Any, Row]]] = defaultdict(list)
    for line in lines:
        row = _row(line, numbers)
        found[line.table].append((line.number if key_of(line.table) else sorted(row.items()), row))
    return {table: [row for _, row in sorted(listed, key=lambda one: one[0])] for table, listed in found.items()}


def _row(line: Line, numbers: Numbers) -> Row:
    columns, row = TABLES[line.table], {}
    for name, column in columns.items():
        value = line.number if name == key_of(line.table) else line.values.get(name)
        row[name] = "" if value is None else fitting(_text(value, column, numbers), column, line.table)
    return row


def _text(value: Any, column: Column, numbers: Numbers) -> str:
    match value:
        case "" | Standard(None):
            return ""
        case Line():
            return str(value.number)
        case date():
            return value.isoformat()
        case dict():
            return canonical_json(value)
        case _ if isinstance(value, Code | Standard) or "concept_id" in column.name:
            return str(numbers.concept(value, column))
        case _:
            return str(value)


def fitting(text: str, column: Column, table: str) -> str:
    """The text, if it fits its field. Raises ConfigurationRejected: cut short, it would not be the same."""
    if column.width is not None and len(text) > column.width:
        raise ConfigurationRejected(
            f"a value of {len(text)} characters for {table.upper()}.{column.name}",
            f"at most {column.width} characters (OMOP CDM 5.4)",
            "shorten it in the store, or export in another standard",
        )
    return text


def _vocabulary(numbers: Numbers, used: set[int]) -> dict[str, list[Row]]:
    """CONCEPT, and the rows that its rows refer to, for these concepts."""
    rows: dict[str, list[Row]] = {table: [] for table in VOCABULARY}
    for values, where in sorted(_concepts(numbers, used), key=lambda one: int(one[0][0])):
        concept = _of("concept", [*values[:7], FROM, UNTIL, ""] if len(values) == 7 else values)
        rows["concept"].append(concept)
        rows["vocabulary"].append(_of("vocabulary", [concept["vocabulary_id"], *where, "0"]))
        for table in ("domain", "concept_class"):
            rows[table].append(_of(table, [concept[f"{table}_id"], concept[f"{table}_id"], "0"]))
    return {table: _once(found) for table, found in rows.items()}


def _once(rows: list[Row]) -> list[Row]:
    """Each row once, by its first field."""
    found: dict[str, Row] = {}
    for row in rows:
        found.setdefault(next(iter(row.values())), row)
    return list(found.values())


def _concepts(numbers: Numbers, used: set[int]) -> Iterator[tuple[list[str], list[str]]]:
    """(a row of CONCEPT, name, reference and version of its vocabulary)."""
    ohdsi = ["OHDSI standardised vocabularies", "https://github.com/OHDSI/Vocabulary-v5.0", ""]
    for row in (one["row"] for one in SAID["concepts"]):
        if row[0] in used and not numbers.athena.row(row[0]):
            yield [str(value) for value in row], ohdsi
    for name, (number, display, domain) in SAID["local"].items():
        if number in used:
            about = ["Concepts of oncoscale", "urn:oncoscale:omop", ""]
            yield [str(number), display, domain, "oncoscale", "Own concept", "S", name], about
    for code, number in numbers.own.items():
        if number >= FIRST_CODE and number in used:
            known = "Code" if code.display else "Code without name"
            values = [code.display or code.code, numbers.domain[code], vocabulary_id(code), known, "", code.code]
            yield [str(number), *values], [f"Codes of {code.system}", code.system, code.version]
    for number in used:
        if found := numbers.athena.row(number):
            system = SYSTEMS.get(found[3], "https://athena.ohdsi.org")
            yield found, [f"{found[3]}, from Athena", system, numbers.athena.version]


def vocabulary_id(code: Code) -> str:
    """The vocabulary of codes of a system that were not looked up: never the name of OHDSI's own."""
    named = next((name for name, system in SYSTEMS.items() if system == code.system and not code.version), "")
    return f"own {named or sha256(f'{code.system} {code.version}'.encode()).hexdigest()[:12]}"


def _of(table: str, values: Iterable[str]) -> Row:
    named: Mapping[str, Column] = TABLES[table]
    return {name: fitting(value, named[name], table) for name, value in zip(named, values, strict=True)}
