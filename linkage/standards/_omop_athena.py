"""A user's own vocabulary, as Athena (https://athena.ohdsi.org) delivers it; without one, no code has a concept.

OHDSI's vocabularies carry terms of many owners, so none is shipped here: whoever has a licence names the folder.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ...core.errors import FileRejected
from ..core import Code
from ._omop_cdm import LOCAL, SYSTEMS, TABLES

NAMES = {system: name for name, system in SYSTEMS.items()}


@dataclass(frozen=True)
class Athena:
    """Concepts of a vocabulary folder.

    rows     fields of CONCEPT by concept identifier, of the code systems that the core uses
    codes    concept identifier by (vocabulary, code)
    maps_to  the standard concept of a source concept
    version  of the vocabulary
    """

    rows: Mapping[int, list[str]] = field(default_factory=dict)
    codes: Mapping[tuple[str, str], int] = field(default_factory=dict)
    maps_to: Mapping[int, int] = field(default_factory=dict)
    version: str = ""

    @classmethod
    def read(cls, folder: Path | None, wanted: set[Code]) -> Athena:
        """The concepts that these codes need; of no folder, none. Raises FileRejected for another kind of folder."""
        if folder is None:
            return cls()
        keys = {(NAMES[one.system], one.code) for one in wanted if one.system in NAMES and not one.version}
        rows, codes = {}, {}
        for line in _lines(folder / "CONCEPT.csv", 10):
            if (line[3], line[6]) in keys or line[3] == "CDM":
                rows[int(line[0])], codes[line[3], line[6] if line[3] != "CDM" else line[1]] = line, int(line[0])
        pairs = {
            int(line[0]): int(line[1])
            for line in _lines(folder / "CONCEPT_RELATIONSHIP.csv", 6)
            if line[2] == "Maps to" and int(line[0]) in rows and not line[5]
        }
        targets = set(pairs.values()) - rows.keys()
        rows |= {int(line[0]): line for line in _lines(folder / "CONCEPT.csv", 10) if int(line[0]) in targets}
        version = next((line[3] for line in _lines(folder / "VOCABULARY.csv", 5) if line[0] == "None"), "")
        return cls(rows, codes, pairs, version)

    def source(self, code: Code) -> int:
        """The concept of a code itself, or 0."""
        return 0 if code.version else self.codes.get((NAMES.get(code.system, ""), code.code), 0)

    def standard(self, code: Code, domain: str) -> int:
        """The standard concept of a code, if it belongs to the domain that the field demands, or 0."""
        source = self.source(code)
        row = self.rows.get(self.maps_to.get(source, source), [])
        return int(row[0]) if row and row[5] == "S" and (not domain or row[2] in domain.split(", ")) else 0

    def field(self, number: int) -> int:
        """OHDSI's concept of a field in place of the own one, found by its name (vocabulary CDM)."""
        return self.codes.get(("CDM", _FIELDS.get(number, "")), number)

    def row(self, number: int) -> list[str]:
        """The row of CONCEPT, or none."""
        return self.rows.get(number, [])


def explained(folder: Path, numbers: set[str]) -> Iterator[dict[str, str]]:
    """Rows of CONCEPT, by field, for the concepts of these numbers. Raises FileRejected for another kind of folder."""
    names = list(TABLES["concept"])
    for line in _lines(folder / "CONCEPT.csv", len(names)):
        if line[0] in numbers:
            yield dict(zip(names, line, strict=True))


_FIELDS = {number: name for name, number in LOCAL.items() if "." in name}


def _lines(path: Path, width: int) -> Iterator[list[str]]:
    """Rows of a file of Athena: separated by tabs, unquoted, after a line of names; dates of CONCEPT with dashes."""
    try:
        with path.open(encoding="utf-8", newline="") as lines:
            rows = csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
            next(rows, None)
            for line in rows:
                if len(line) < width:
                    raise ValueError("too few fields")
                yield [_dashed(at) if n in (7, 8) else at for n, at in enumerate(line[:width])]
    except (OSError, ValueError) as error:
        raise FileRejected(
            f"{path.name} is missing in the vocabulary folder, or is not as Athena writes it",
            "a folder with CONCEPT.csv, CONCEPT_RELATIONSHIP.csv and VOCABULARY.csv, separated by tabs",
            "unpack the download of https://athena.ohdsi.org there",
        ) from error


def _dashed(value: str) -> str:
    """20200820 as 2020-08-20; anything else as it is."""
    return f"{value[:4]}-{value[4:6]}-{value[6:]}" if len(value) == 8 and value.isdigit() else value
