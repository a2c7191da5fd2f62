"""From a folder of OMOP tables (5.4, or 6.0) to the core; what is not understood is counted.

An own export gives back what was written. In a folder of somebody else's, day 0 of a person is the first condition, or
else the first record; the dates themselves are not kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from ..core import Code, Event, Holdings, Observation, Sample, Subject
from . import Gap, Read
from ._omop_cdm import EVENTS, LOCAL, SAID
from ._omop_files import Row, day_in, number_in, wrong
from ._omop_read_own import own_parts
from ._omop_tables import Said, Tables

HUMAN = Code("http://snomed.info/sct", "337915000", "Homo sapiens")
OLDEST_D = 32872
SEX_OF = {"8507": "male", "8532": "female", "8551": "unknown", "0": "unknown", "": "unknown"}
BY_SOFTWARE = re.compile(r"(?:software=(?P<software>.*?))? ?(?:run=(?P<run>[0-9a-f]{64}))?")


def everything(folder: Path, vocabulary: Path | None = None) -> Read:
    """The core, and the gaps, the most frequent first. Raises FileRejected."""
    tables = Tables.of(folder, vocabulary)
    found = Clinical(tables)
    holdings = Holdings(
        subject=tuple(found.subjects()),
        event=(*found.events(), *found.deaths()),
        sample=tuple(found.samples()),
        observation=(*found.measurements(), *found.observations()),
        **(own_parts(tables) if tables.own else {}),
    )
    if not tables.own:
        tables.count_the_rest()
    return Read(holdings, tuple(Gap(path, reason, n) for (path, reason), n in tables.missed.most_common()))


@dataclass
class Clinical:
    """Persons, and what was done with them and found."""

    tables: Tables

    def subjects(self) -> Iterator[Subject]:
        """PERSON. Sites of somebody else's are not taken over: they may be hospitals' names."""
        sites = {row["care_site_id"]: row["care_site_source_value"] for row in self.tables["care_site"]}
        for row in self.tables["person"]:
            if self.tables.own:
                said = self.tables.said_of("person", row)
                at = said["species"], row["gender_source_value"], said.get("age_day0_d"), said["day0_kind"]
                yield Subject(self.tables.keys[row["person_id"]], sites[row["care_site_id"]], *at)
            else:
                kind = "diagnosis" if row["person_id"] in self.tables.diagnosed else "enrolment"
                sex = SEX_OF.get(row["gender_concept_id"].strip())
                if sex is None:
                    self.tables.miss("person.gender_concept_id", "neither female nor male: taken as unknown")
                yield Subject(self.tables.keys[row["person_id"]], "omop", HUMAN, sex or "unknown", self._age(row), kind)

    def _age(self, row: Row) -> int | None:
        """Age on day 0 in days. ASSUMED: where month and day of birth are missing, the middle of the year or month."""
        day_0, born = self.tables.day_0.get(row["person_id"]), day_in(row, "birth_date", "person")
        if born is None:
            year, month, day = (number_in(row, f"{part}_of_birth", "person") for part in ("year", "month", "day"))
            try:
                born = date(int(year), int(month or 7), int(day or (15 if month else 1))) if year else None
            except ValueError as error:
                raise wrong(row, "year, month and day of birth", "person", "a day of the calendar") from error
        if born is None or day_0 is None:
            return None
        age = (day_0 - born).days
        if 0 <= age <= OLDEST_D:
            return age
        self.tables.miss("person.year_of_birth", "age on day 0 is below 0 or above 90 years")
        return None

    def events(self) -> Iterator[Event]:
        """Conditions, drugs, procedures, and of an own export episodes of progression and what else happened."""
        for table in ("condition_occurrence", "drug_exposure", "procedure_occurrence"):
            for row in self.tables[table]:
                if (kind := self._kind(table, row)) and (one := self._event(table, kind, row)):
                    yield one
        if self.tables.own:
            for row in self.tables["episode"]:
                if row["episode_concept_id"] == str(LOCAL["progression"]) and (
                    one := self._event("episode", "progression", row)
                ):
                    yield one
            for row in self.tables["observation"]:
                kind = self.tables.said_of("observation", row).get("kind")
                if kind and (one := self._event("observation", kind, row)):
                    yield one

    def _kind(self, table: str, row: Row) -> str | None:
        if table != "procedure_occurrence":
            return "diagnosis" if table == "condition_occurrence" else "treatment"
        if self.tables.own:
            return self.tables.said_of(table, row).get("kind")
        code = self.tables.code(row, "procedure")
        kind: str | None = SAID["procedures"].get(code.system, {}).get(code.code) if code else None
        if row["procedure_occurrence_id"] in self.tables.imaged:
            kind = "imaging"
        if kind is None:
            self.tables.miss("procedure_occurrence.procedure_concept_id", "what kind of event the procedure is")
        return kind

    def _event(self, table: str, kind: str, row: Row) -> Event | None:
        where, said = EVENTS[kind], self.tables.said_of(table, row)
        code = self.tables.code(row, where["code"])
        at = self.tables.day(row, where["start"], table)
        if code is None or at is None:
            self.tables.miss(f"{table}.*", "a row without a code, a date or a person that PERSON knows")
            return None
        until = self.tables.day(row, where["end"], table) if "end" in where else said.get("end_day")
        if not self.tables.own and until is None and table == "drug_exposure":
            until = self.tables.day(row, "drug_exposure_end_date", table)
        named = str(said.get("id", f"{table}-{row[f'{table}_id']}"))
        age = said.get("age_d")
        return Event(
            named,
            self.tables.keys[row["person_id"]],
            kind,
            code,
            None if age is not None or said.get("undated") else at,
            age,
            until,
            said.get("parent") or self.tables.parent(table, row),
            _attributes(said) | (self._dose(row) if table == "drug_exposure" else {}),
        )

    def _dose(self, row: Row) -> dict[str, Any]:
        """A quantity is a dose where its unit is told, and of an own export."""
        text, unit = row["quantity"].strip(), row["dose_unit_source_value"]
        number = number_in(row, "quantity", "drug_exposure")
        dose = number if set(text.lower()) & set(".en") else int(text or 0)
        named = "dose" if self.tables.own or unit else "quantity"
        return ({named: dose} if number is not None else {}) | ({"dose_unit": unit} if unit else {})

    def deaths(self) -> Iterator[Event]:
        """DEATH, or PERSON.death_datetime of 6.0; an own export says it more fully in OBSERVATION."""
        dead = self.tables["death"] or [row for row in self.tables["person"] if row.get("death_datetime", "").strip()]
        for row in dead if not self.tables.own else ():
            at = self.tables.day(row, "death_date", "death")
            code = self.tables.code(row, "cause") or Code("http://snomed.info/sct", "419099009", "Dead")
            if at is None:
                self.tables.miss("death.*", "a row without a date or a person that PERSON knows")
            else:
                yield Event(f"death-{row['person_id']}", self.tables.keys[row["person_id"]], "death", code, at)

    def samples(self) -> Iterator[Sample]:
        """SPECIMEN."""
        for row in self.tables["specimen"]:
            said = self.tables.said_of("specimen", row)
            code = said.get("type") or self.tables.code(row, "specimen")
            at = self.tables.day(row, "specimen_date", "specimen")
            if code is None or at is None:
                self.tables.miss("specimen.*", "a row without a type, a date or a person that PERSON knows")
                continue
            own = self.tables.own
            yield Sample(
                row.get("specimen_source_id") or f"specimen-{row['specimen_id']}",
                self.tables.keys[row["person_id"]],
                code,
                said.get("site") if own else self.tables.code(row, "anatomic_site"),
                said.get("diagnosis") if own else self.tables.code(row, "disease_status"),
                said.get("storage"),
                None if said.get("undated") else at,
                said.get("parent"),
                said.get("collection"),
            )

    def measurements(self) -> Iterator[Observation]:
        """MEASUREMENT, less what an own export predicted."""
        images, by = self.tables.features("measurement")
        for row in self.tables["measurement"]:
            if self.tables.own and row["measurement_concept_id"] == str(LOCAL["prediction"]):
                continue
            said, number = self.tables.said_of("measurement", row), row["measurement_id"]
            one = self._found("measurement", row, said)
            if one is not None:
                computed = BY_SOFTWARE.fullmatch(by.get(number, ""))
                from_image = computed.groupdict() if computed and number in by else {}
                more: dict[str, Any] = {
                    name: said.get(name) for name in ("sd", "method", "artefact", "series", "run", "software")
                }
                more |= {"series": images.get(number, said.get("series"))} | from_image
                yield Observation(**one, **more, sample=said.get("sample") or self.tables.sample_of(row))

    def observations(self) -> Iterator[Observation]:
        """OBSERVATION of somebody else's: numbers and coded values. Free text is not taken."""
        for row in self.tables["observation"] if not self.tables.own else ():
            if (one := self._found("observation", row, {})) is not None:
                yield Observation(**one)

    def _found(self, table: str, row: Row, said: Said) -> dict[str, Any] | None:
        """What both kinds of finding share, or None, counted."""
        quantity, at = self.tables.code(row, table), self.tables.day(row, f"{table}_date", table)
        value, value_code = number_in(row, "value_as_number", table), said.get("value_code")
        if not self.tables.own and value is None:
            value_code = self.tables.concept(row.get("value_as_concept_id", ""))
        if quantity is None or at is None or (value is None) == (value_code is None):
            self.tables.miss(f"{table}.*", "a row without a code, a date, a person, or a number or coded value")
            return None
        return {
            "id": str(said.get("id", f"{table}-{row[f'{table}_id']}")),
            "subject": self.tables.keys[row["person_id"]],
            "quantity": quantity,
            "value": value,
            "value_code": value_code,
            "unit": self.tables.code(row, "unit"),
            "day": None if said.get("undated") else at,
        }


def _attributes(said: Said) -> dict[str, Any]:
    """Attributes of an event: each by its name, and those of long names together."""
    named: dict[str, Any] = {
        name.partition(".")[2]: value for name, value in said.items() if name.startswith("attributes.")
    }
    return named | dict(said.get("attributes", {}))
