"""The tables of a folder, read once, and what every reader asks of them: whose, when, which code, which row."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from ..core import Code
from ._omop_athena import explained
from ._omop_cdm import (
    DAY_0,
    EVENTS,
    LOCAL,
    MARK,
    OMOP_CONCEPT,
    SAID,
    SOURCE_VALUE,
    SYSTEMS,
    TABLES,
    Piece,
    joined,
    key_of,
)
from ._omop_files import Missed, Row, day_in, read_tables

Said = Mapping[str, Any]
LINKS: Mapping[str, tuple[str, str]] = SAID["links"]
NOTHING = ("", "0")


@dataclass
class Tables:
    """Rows by table; ``missed`` counts what was not understood.

    own        whether it is an export of this project
    keys       a person's name by person_id
    day_0      a person's day 0
    diagnosed  persons whose day 0 is a condition
    imaged     procedures that images belong to
    """

    found: Mapping[str, list[Row]]
    missed: Missed

    @classmethod
    def of(cls, folder: Path, vocabulary: Path | None = None) -> Tables:
        """The tables of a folder, with what a vocabulary says of concepts that they use. Raises FileRejected."""
        found, missed = read_tables(folder)
        if vocabulary is not None:
            known = {row["concept_id"] for row in found.get("concept", ())}
            wanted = _concepts_used(found) - known
            found["concept"] = [*found.get("concept", ()), *map(Row, explained(vocabulary, wanted))]
        return cls(found, missed)

    def __post_init__(self) -> None:
        source = next(iter(self["cdm_source"]), Row())
        self.own = source.get("source_description", "").startswith(MARK)
        vocabularies = {row["vocabulary_id"]: row for row in self["vocabulary"]}
        self.codes = {row["concept_id"]: _code(row, vocabularies) for row in self["concept"]}
        self.keys = self._names()
        self.points_to = _fields_named(self["concept"], own=self.own)
        self.said = self._attributes() if self.own else {}
        self.diagnosed: set[str] = set()
        self.day_0 = dict.fromkeys(self.keys, DAY_0) if self.own else self._first_days()
        self.imaged = {row["procedure_occurrence_id"] for row in self["image_occurrence"]}
        self._learn_parents()

    def _names(self) -> dict[str, str]:
        """A name for each person: as its source calls it, or its number where that is no name of one person alone."""
        times = Counter(row["person_source_value"] for row in self["person"])
        names = {}
        for row in self["person"]:
            name = row["person_source_value"]
            if times[name] > 1 and name:
                self.miss("person.person_source_value", "the name of several persons: their numbers stand in")
            names[row["person_id"]] = name if name and times[name] == 1 else row["person_id"]
        return names

    def __getitem__(self, table: str) -> list[Row]:
        return self.found.get(table, [])

    def miss(self, path: str, reason: str, n: int = 1) -> None:
        """Count something that was not understood."""
        self.missed[path, reason] += n

    def said_of(self, table: str, row: Row) -> Said:
        """What an own export says about a row beside it."""
        return self.said.get((table, row.get(key_of(table), "")), {})

    def day(self, row: Row, name: str, table: str) -> int | None:
        """The day of a date, counted from its person's day 0; None without one."""
        day_0, at = self.day_0.get(row["person_id"]), day_in(row, name, table)
        return (at - day_0).days if at is not None and day_0 is not None else None

    def concept(self, number: str) -> Code | None:
        """The code of a concept; of one that the file does not explain, its number as a code."""
        number = number.strip()
        return None if number in NOTHING else self.codes.get(number, Code(OMOP_CONCEPT, number))

    def code(self, row: Row, prefix: str) -> Code | None:
        """What a row says it is: by its source concept, else its concept, else its source value."""
        for name in (f"{prefix}_source_concept_id", f"{prefix}_concept_id"):
            if (found := self.concept(row.get(name, ""))) is not None:
                return found
        text = row.get(f"{prefix}_source_value", "").strip()
        return Code(SOURCE_VALUE, text) if text not in NOTHING else None

    def link(self, row: Row, kind: str) -> tuple[str, str]:
        """(table, number) of the row that a row names; empty where it names none that is understood."""
        number, concept = (row.get(name, "") for name in LINKS[kind])
        table = self.points_to.get(concept, "")
        return (table, number) if table and number else ("", "")

    def sample_of(self, row: Row) -> str | None:
        """The specimen that a measurement was made on."""
        for kind in ("measurement", "modifier"):
            table, number = self.link(row, kind)
            if table == "specimen":
                return self.samples.get(number)
        return None

    def features(self, table: str) -> tuple[Mapping[str, str], Mapping[str, str]]:
        """(series UID, software and run) by the number of a row of a table, as IMAGE_FEATURE of an own export says."""
        if not self.own:
            return {}, {}
        uid = {row["image_occurrence_id"]: row["image_series_uid"] for row in self["image_occurrence"]}
        rows = [(self.link(row, "image_feature"), row) for row in self["image_feature"]]
        mine = [(number, row) for (of, number), row in rows if of == table]
        return ({n: uid[row["image_occurrence_id"]] for n, row in mine}, {n: row["alg_system"] for n, row in mine})

    def parent(self, table: str, row: Row) -> str | None:
        """The event that owns the episode within which a row happened."""
        number = row[f"{table}_id"]
        episode = number if table == "episode" else self.within.get((table, number), "")
        if table in ("condition_occurrence", "episode"):
            episode = self.above.get(episode, "")
        return self.owner.get(episode)

    def count_the_rest(self) -> None:
        """Tables and fields of somebody else's that nothing was made of."""
        for table, rows in self.found.items():
            if table not in SAID["understood"]:
                self.miss(f"{table}.*", "a table that the core has no place for", len(rows))
                continue
            known = {*SAID["understood"][table], "line"}
            for name in [name for name in (rows[0] if rows else ()) if name not in known]:
                n = sum(row.get(name, "").strip() not in NOTHING for row in rows)
                if n and name in TABLES[table]:
                    self.miss(f"{table}.{name}", "a field that the core has no place for", n)
                elif n:  # not by its name: without a line of names, the first row's values stand there
                    self.miss(f"{table}.?", "fields that CDM 5.4 does not know", n)

    def _learn_parents(self) -> None:
        """Episodes: whose they are, what happened within, which lies in which; specimens by number."""
        self.within: dict[tuple[str, str], str] = {}
        self.owner: dict[str, str] = {}
        for row in self["episode_event"]:
            table, number = self.link(row, "episode_event")
            self.within[table, number] = row["episode_id"]
            if table == "condition_occurrence":
                named = self.said.get((table, number), {}).get("id", f"{table}-{number}")
                self.owner.setdefault(row["episode_id"], str(named))
        for row in self["episode"]:
            if "id" in self.said_of("episode", row):
                self.owner[row["episode_id"]] = str(self.said_of("episode", row)["id"])
        self.above = {row["episode_id"]: row.get("episode_parent_id", "") for row in self["episode"]}
        self.samples = {
            row["specimen_id"]: row.get("specimen_source_id") or f"specimen-{row['specimen_id']}"
            for row in self["specimen"]
        }

    def _attributes(self) -> dict[tuple[str, str], dict[str, Any]]:
        """What own OBSERVATIONs say about rows, by table and number."""
        pieces: dict[tuple[str, str, str], list[Piece]] = defaultdict(list)
        for row in self["observation"]:
            if row["observation_concept_id"] == str(LOCAL["attribute"]):
                code = self.codes.get(row["value_as_concept_id"])
                piece = Piece(row["qualifier_source_value"], row["value_as_number"], row["value_as_string"], code)
                pieces[(*self.link(row, "observation"), row["observation_source_value"])].append(piece)
        said: dict[tuple[str, str], dict[str, Any]] = defaultdict(dict)
        for (table, number, name), parts in pieces.items():
            said[table, number][name] = joined(parts)
        return dict(said)

    def _first_days(self) -> dict[str, date]:
        """Day 0 of each person of somebody else's tables."""
        first = self._earliest([("condition_occurrence", "condition_start_date")])
        self.diagnosed = set(first)
        others = {where["table"]: where["start"] for where in EVENTS.values()}
        others |= {"measurement": "measurement_date", "specimen": "specimen_date"}
        others |= {"observation_period": "observation_period_start_date"}
        return self._earliest(others.items()) | first

    def _earliest(self, places: Iterable[tuple[str, str]]) -> dict[str, date]:
        days: dict[str, date] = {}
        for table, name in places:
            for row in self[table]:
                at = day_in(row, name, table)
                if at is not None and row["person_id"] in self.keys:
                    days[row["person_id"]] = min(at, days.get(row["person_id"], at))
        return days


def _concepts_used(found: Mapping[str, list[Row]]) -> set[str]:
    """The concepts that rows name, by number."""
    rows = (row for table, rows in found.items() if table != "concept" for row in rows)
    return {value.strip() for row in rows for name, value in row.items() if "concept_id" in name} - set(NOTHING)


def _code(row: Row, vocabularies: Mapping[str, Row]) -> Code:
    """The code that a concept stands for, by the system of its vocabulary."""
    name, about = row["vocabulary_id"], vocabularies.get(row["vocabulary_id"], Row())
    if name in SYSTEMS:
        return Code(SYSTEMS[name], row["concept_code"], row["concept_name"])
    if name.startswith("own "):
        display = row["concept_name"] if row["concept_class_id"] == "Code" else ""
        return Code(about["vocabulary_reference"], row["concept_code"], display, about["vocabulary_version"])
    return Code(OMOP_CONCEPT, row["concept_id"], row["concept_name"])


def _fields_named(concepts: Iterable[Row], *, own: bool) -> dict[str, str]:
    """The table whose key a concept names: own concepts, and OHDSI's of the vocabulary CDM, by name."""
    known = {str(number): name.split(".")[0] for name, number in LOCAL.items() if "." in name and own}
    named = {row["concept_id"]: row["concept_name"].lower() for row in concepts if row["vocabulary_id"] == "CDM"}
    return known | {number: name.split(".")[0] for number, name in named.items() if "." in name}
