"""From ICGC-ARGO's rows to the core: the first diagnosis is day 0, ages are whole years."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from ...core.errors import FileRejected
from ..core import Code, Enrolment, Event, Holdings, Observation, Sample, Study, Subject
from ._argo import DIAGNOSIS, DONOR, PROGRAM, TREATMENT, Row, Tables, files, key_of, problem
from ._argo_write import CALLED, DAYS_PER_YEAR, GENDERS, HUMAN, ICD10, ICDO, NOT_DETERMINED, OWN, SIDES, SNOMED
from ._declared import content
from ._tables import grouped

UCUM = "http://unitsofmeasure.org"
NO_UNIT = Code(UCUM, "1", "1")
ATTRIBUTE_OF = {called: given for given, called in CALLED.items()}
SIDE_OF = {name: side for side, name in SIDES.items()}
SPECIMEN = Code(f"{OWN}specimen", "specimen", "specimen")
TAKEN = {
    PROGRAM, DONOR, DIAGNOSIS, TREATMENT, "age_at_diagnosis", "cancer_type_code", "treatment_type", "drug_name",
    "treatment_start_interval", "treatment_duration", "laterality",
}  # fmt: skip
"""Fields that become something else than an attribute of the same name."""


@dataclass
class Reading:
    """The rows by their ids, and how often what the core does not take."""

    tables: Tables
    unknown: Counter[str] = field(default_factory=Counter)

    def rows(self, name: str) -> Sequence[Row]:
        """The rows of a file."""
        return self.tables.get(name, ())

    @cached_property
    def diagnoses(self) -> Mapping[str | None, list[Row]]:
        """The diagnoses of each donor."""
        return grouped(self.rows("primary_diagnosis"), lambda row: row[DONOR])

    @cached_property
    def genders(self) -> Mapping[str, str]:
        """The gender of each registered donor."""
        return {row[DONOR]: row["gender"] for row in self.rows("sample_registration")}

    @cached_property
    def details(self) -> Mapping[tuple[str, str], list[Row]]:
        """Rows of chemotherapy, radiation and surgery, by file and by program and treatment."""
        found: dict[tuple[str, str], list[Row]] = {}
        for name in ("chemotherapy", "radiation", "surgery"):
            for row in self.rows(name):
                found.setdefault((name, f"{row[PROGRAM]} {row[TREATMENT]}"), []).append(row)
        return found

    def first_diagnosis(self, donor: str) -> Row | None:
        """The diagnosis at the lowest age."""
        return min(
            self.diagnoses[donor],
            key=lambda row: (_whole(row, "age_at_diagnosis", 10**6), row[DIAGNOSIS]),
            default=None,
        )


def holdings_of(tables: Tables) -> tuple[Holdings, Counter[str]]:
    """(the core, how often what it does not take).

    Raises FileRejected for rows without their ids, rows of no donor, and numbers that are none.
    """
    _require(tables)
    reading = Reading(tables)
    donors = list(dict.fromkeys(row[DONOR] for name in ("donor", "sample_registration") for row in reading.rows(name)))
    programs = dict.fromkeys(row[PROGRAM] for rows in tables.values() for row in rows)
    enrolled = dict.fromkeys(
        (row[DONOR], row[PROGRAM]) for name in ("donor", "sample_registration") for row in reading.rows(name)
    )
    return Holdings(
        study=tuple(Study(name, "", Code("", ""), "", "", 0, 0) for name in programs),
        subject=tuple(_subject(donor, reading) for donor in donors),
        enrolment=tuple(Enrolment(donor, program) for donor, program in enrolled),
        sample=tuple(_samples(reading)),
        event=tuple(_once(_events(reading))),
        observation=tuple(_observations(reading)),
    ), reading.unknown


def _require(tables: Tables) -> None:
    """What must be there and in order for a row to be read."""
    donors = {row.get(DONOR) for name in ("donor", "sample_registration") for row in tables.get(name, ())}
    for name, rows in tables.items():
        needed = {PROGRAM, DONOR, key_of(name) or TREATMENT} | ({"gender"} if name == "sample_registration" else set())
        for n, row in enumerate(rows, 2):
            if missing := sorted(needed - row.keys()):
                raise _refused(name, n, f"has no {missing[0]}")
            if row[DONOR] not in donors:
                raise _refused(name, n, "is of a donor that is neither in donor nor in sample_registration")
            for given, text in row.items():
                rule = problem(files()[name][given], text) if given in files()[name] else ""
                if rule and files()[name][given].kind in ("integer", "number"):
                    raise _refused(name, n, f"has a {given} against the rule that {rule}")


def _refused(name: str, n: int, found: str) -> FileRejected:
    return FileRejected(
        f"row {n} of {name}.tsv {found}",
        "ids in every row, donors in donor.tsv or sample_registration.tsv, numbers in the dictionary's ranges",
        "repair that row",
    )


def _whole(row: Row, name: str, default: int) -> int:
    return int(row[name]) if name in row else default


def _subject(donor: str, reading: Reading) -> Subject:
    gender = reading.genders.get(donor)
    sex = next((sex for sex, name in GENDERS.items() if name == gender), "unknown")
    diagnosis = reading.first_diagnosis(donor)
    years = None if diagnosis is None else _whole(diagnosis, "age_at_diagnosis", 0)
    return Subject(
        donor, "site1", Code(SNOMED, HUMAN, "Homo sapiens"), sex, _days(years) if years else None, "diagnosis"
    )


def _days(years: int) -> int:
    return round(years * DAYS_PER_YEAR)


def _once(events: Iterator[Event]) -> Iterator[Event]:
    """Events by id once: a donor of two programs has each row twice."""
    yield from {one.id: one for one in events}.values()


def _events(reading: Reading) -> Iterator[Event]:
    for row in reading.rows("donor"):
        yield from _death(row)
        for name in ("height", "weight"):
            reading.unknown[f"donor.{name}"] += name in row
        reading.unknown["donor.primary_site (without diagnosis)"] += reading.first_diagnosis(row[DONOR]) is None
    for row in reading.rows("primary_diagnosis"):
        yield _diagnosis(row, reading)
    for row in reading.rows("treatment"):
        if _is_of_first(row, reading, "treatment"):
            yield _treatment(row, reading)
    for row in reading.rows("follow_up"):
        if "interval_of_followup" in row and _is_of_first(row, reading, "follow_up"):
            yield _follow_up(row)
        else:
            reading.unknown["follow_up (without time)"] += "interval_of_followup" not in row
    for name, rows in reading.tables.items():
        for row in rows:
            reading.unknown.update(f"{name}.{given[:40]}" for given in row if given not in files()[name])


def _is_of_first(row: Row, reading: Reading, name: str) -> bool:
    """Intervals from a second diagnosis have no known day; they are counted and left."""
    first = reading.first_diagnosis(row[DONOR])
    is_first = DIAGNOSIS not in row or (first is not None and first[DIAGNOSIS] == row[DIAGNOSIS])
    reading.unknown[f"{name} (of another diagnosis)"] += not is_first
    return is_first


def _death(row: Row) -> Iterator[Event]:
    if row.get("vital_status") == "Deceased" and "survival_time" in row:
        cause = row.get("cause_of_death", "Unknown")
        stated = {} if cause == "Unknown" else {"cause_of_death": cause}
        code = Code(f"{OWN}vital_status", "Deceased", "Deceased")
        yield Event(f"{row[DONOR]}-death", row[DONOR], "death", code, day=int(row["survival_time"]), attributes=stated)


def _diagnosis(row: Row, reading: Reading) -> Event:
    first = reading.first_diagnosis(row[DONOR])
    is_first = first is not None and first[DIAGNOSIS] == row[DIAGNOSIS]
    attributes = _attributes("primary_diagnosis", row)
    if attributes.get("lymph_nodes_examined_status") == NOT_DETERMINED:
        del attributes["lymph_nodes_examined_status"]
    if "laterality" in row:
        attributes["laterality"] = SIDE_OF.get(row["laterality"], row["laterality"])
    age = None if is_first else _days(_whole(row, "age_at_diagnosis", 0))
    code = Code(ICD10, row.get("cancer_type_code", ""))
    return Event(row[DIAGNOSIS], row[DONOR], "diagnosis", code, 0 if is_first else None, age, attributes=attributes)


def _attributes(name: str, row: Row) -> dict[str, Any]:
    """Fields that are kept as attributes, numbers as numbers."""
    numbers = {"integer": int, "number": float}
    return {
        ATTRIBUTE_OF.get(given, given): numbers.get(files()[name][given].kind, str)(text)
        for given, text in row.items()
        if given in files()[name] and given not in TAKEN and given != key_of(name)
    }


def _treatment(row: Row, reading: Reading) -> Event:
    types = row.get("treatment_type", "")
    attributes, code = _attributes("treatment", row), Code(f"{OWN}treatment_type", types, types)
    for name in ("chemotherapy", "radiation", "surgery"):
        details = reading.details.get((name, f"{row[PROGRAM]} {row[TREATMENT]}"), [])
        for detail in details[:1]:
            attributes |= _attributes(name, detail)
            if "drug_name" in detail:
                code = Code(f"{OWN}drug_name", detail["drug_name"], detail["drug_name"])
        reading.unknown[f"{name} (a further row of a treatment)"] += max(0, len(details) - 1)
    kind = {"Surgery": "surgery", "Radiation therapy": "radiotherapy"}.get(types, "treatment")
    start, lasts = _whole(row, "treatment_start_interval", 0), row.get("treatment_duration")
    end = None if lasts is None else start + int(lasts)
    return Event(row[TREATMENT], row[DONOR], kind, code, start, None, end, row.get(DIAGNOSIS), attributes)


def _follow_up(row: Row) -> Event:
    status = row.get("disease_status_at_followup", "")
    kind = "progression" if "progression" in status or "Relapse" in status else "follow-up"
    code = Code(f"{OWN}disease_status_at_followup", status, status)
    parent = row.get(TREATMENT) or row.get(DIAGNOSIS)
    return Event(row["submitter_follow_up_id"], row[DONOR], kind, code, int(row["interval_of_followup"]), parent=parent)


def _samples(reading: Reading) -> Iterator[Sample]:
    """Specimens, and the nucleic acids taken from them."""
    sources = {row.get("submitter_specimen_id"): row for row in reading.rows("sample_registration")}
    written = {}
    for row in reading.rows("specimen"):
        name = row["submitter_specimen_id"]
        taken = row.get("specimen_acquisition_interval") if _is_of_first(row, reading, "specimen") else None
        written[name] = Sample(
            name, row[DONOR], _type(sources.get(name)), _site(row), taken_day=None if taken is None else int(taken)
        )
    yield from written.values()
    molecules = {listed[1]: Code(SNOMED, code, listed[0]) for code, listed in content("argo")["nucleic-acids"].items()}
    for name, row in {row["submitter_sample_id"]: row for row in reading.rows("sample_registration")}.items():
        kind, parent = row.get("sample_type", ""), row.get("submitter_specimen_id")
        code = molecules.get(kind, Code(f"{OWN}sample_type", kind, kind))
        if name not in written:
            yield Sample(name, row[DONOR], code, parent=parent if parent in written else None)


def _type(registered: Row | None) -> Code:
    source = (registered or {}).get("specimen_tissue_source")
    return SPECIMEN if source is None else Code(f"{OWN}specimen_tissue_source", source, source)


def _site(row: Row) -> Code | None:
    location = row.get("specimen_anatomic_location")
    known: Mapping[str, list[str]] = content("argo")["topography"]
    named = next((Code(SNOMED, code, listed[0]) for code, listed in known.items() if listed[1] == location), None)
    return named or (None if location is None else Code(ICDO, location))


def _observations(reading: Reading) -> Iterator[Observation]:
    taken = ("percent_", "tumour_")
    for row in {row["submitter_specimen_id"]: row for row in reading.rows("specimen")}.values():
        sample = row["submitter_specimen_id"]
        for name in (one for one in row if one.startswith(taken) and one in files()["specimen"]):
            found = Observation(f"{sample}.{name}", row[DONOR], Code(f"{OWN}specimen", name, name), sample=sample)
            if files()["specimen"][name].kind == "number":
                yield replace(found, value=float(row[name]), unit=NO_UNIT)
            else:
                yield replace(found, value_code=Code(f"{OWN}{name}", row[name], row[name]))
