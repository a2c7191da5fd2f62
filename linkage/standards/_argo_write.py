"""From the core to ICGC-ARGO's rows: what has every required field is written, the rest is not.

Intervals count from the first diagnosis of a solid tumour; a donor is a human who has one, in a program (the study).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..core import Code, Event, Holdings, Observation, Sample, Subject
from ._argo import DIAGNOSIS, DONOR, PROGRAM, TREATMENT, Row, Tables, files, is_complete, problem
from ._declared import content
from ._tables import grouped

SNOMED, ICD10, ICDO = (
    "http://snomed.info/sct", "http://hl7.org/fhir/sid/icd-10", "http://terminology.hl7.org/CodeSystem/icd-o-3",
)  # fmt: skip
ATC, OWN, HUMAN = "http://www.whocc.no/atc", "urn:icgc-argo:", "337915000"
DAYS_PER_YEAR = 365.25
"""Julian year, d."""

GENDERS = {"female": "Female", "male": "Male", "undifferentiated": "Other"}
SIDES = {"L": "Left", "R": "Right", "B": "Bilateral"}
TYPE_OF_KIND = {"surgery": "Surgery", "radiotherapy": "Radiation therapy"}
CALLED = {
    "dose": "actual_cumulative_drug_dose", "dose_unit": "chemotherapy_drug_dose_units",
    "fractions": "radiation_therapy_fractions", "dose_gy": "radiation_therapy_dosage",
    "modality": "radiation_therapy_modality",
}  # fmt: skip
"""Attributes of the core's events and the fields they are written to; other attributes are called as the field."""

NOT_DETERMINED = "Cannot be determined"
"""lymph_nodes_examined_status where nothing is known."""


Measured = Mapping[str | None, list[Observation]]
"""What was measured on each sample."""


@dataclass(frozen=True)
class Donor:
    """A subject who can be a donor, with the first diagnosis.

    age0   age in days on the core's day 0
    years  age at diagnosis in whole years, where ARGO can say it (1 to 90)
    """

    subject: Subject
    program: str
    diagnosis: Event
    years: int | None

    @property
    def start(self) -> Row:
        """The fields with which every row of the donor begins."""
        return {PROGRAM: self.program, DONOR: self.subject.key}

    def since_diagnosis(self, event_day: int | None, event_age: int | None = None) -> int | None:
        """Days from the diagnosis to an event told by day or by age; None where that is unknown."""
        day, age, age0 = self.diagnosis.day, self.diagnosis.age_d, self.subject.age_day0_d
        if event_day is not None and day is not None:
            return event_day - day
        ages = [_age(event_day, event_age, age0), _age(day, age, age0)]
        return None if ages[0] is None or ages[1] is None else ages[0] - ages[1]


def tables_of(held: Holdings) -> Tables:
    """The rows of every file."""
    tables: dict[str, list[Row]] = {name: [] for name in files()}
    events = grouped(held.event, lambda one: one.subject)
    samples = grouped(held.sample, lambda one: one.subject)
    measured = grouped(held.observation, lambda one: one.sample)
    for donor in _donors(held, events):
        own = events[donor.subject.key]
        tables["donor"].append(_donor(donor, own))
        for name, row in _clinical(donor, own, samples[donor.subject.key], measured):
            tables[name].append(row)
    return tables


def _donors(held: Holdings, events: Mapping[str | None, list[Event]]) -> Iterator[Donor]:
    enrolments = grouped(held.enrolment, lambda one: one.subject)
    for subject in held.subject:
        diagnosis = min(
            filter(_is_solid_tumour, events[subject.key]),
            key=lambda one: (_age(one.day, one.age_d, subject.age_day0_d or 0), one.id),
            default=None,
        )
        if diagnosis is None or subject.species.code != HUMAN:
            continue
        age = _age(diagnosis.day, diagnosis.age_d, subject.age_day0_d)
        years = None if age is None else int(age // DAYS_PER_YEAR)
        said = None if years is None or problem(files()["primary_diagnosis"]["age_at_diagnosis"], str(years)) else years
        for enrolled in enrolments[subject.key]:
            if not problem(files()["donor"][PROGRAM], enrolled.study):
                yield Donor(subject, enrolled.study, diagnosis, said)


def _age(day: int | None, age: int | None, age0: int | None) -> int | None:
    return age if day is None else None if age0 is None else age0 + day


def _is_solid_tumour(event: Event) -> bool:
    site, code = event.code.code[:3], files()["primary_diagnosis"]["cancer_type_code"]
    is_coded = event.code.system == ICD10 and not problem(code, event.code.code)
    return event.kind == "diagnosis" and is_coded and site in content("argo")["primary-sites"]


def _donor(donor: Donor, events: list[Event]) -> Row:
    """Alive as far as the record goes: without an event of death."""
    row = {**donor.start, "primary_site": content("argo")["primary-sites"][donor.diagnosis.code.code[:3]]}
    death = next((one for one in events if one.kind == "death"), None)
    if death is None:
        return row | {"vital_status": "Alive"}
    survived = donor.since_diagnosis(death.day, death.age_d)
    cause = _stated("donor", {"cause_of_death": death.attributes.get("cause_of_death", "Unknown")})
    row |= {"vital_status": "Deceased", **cause}
    return row | ({"survival_time": str(survived)} if survived is not None and survived > 0 else {})


def _clinical(
    donor: Donor, events: list[Event], samples: list[Sample], measured: Measured
) -> Iterator[tuple[str, Row]]:
    """Every other row of a donor; what belongs to a diagnosis needs the diagnosis's own row."""
    treatments: set[str] = set()
    if donor.years is not None:
        yield "primary_diagnosis", _diagnosis(donor)
        for event in events:
            for name, row in _treatment(donor, event):
                treatments.add(event.id)
                yield name, row
        yield from _specimens(donor, samples, measured)
    for event in events:
        yield from _follow_up(donor, event, treatments)


def _diagnosis(donor: Donor) -> Row:
    one = donor.diagnosis
    stated = dict(one.attributes)
    side = SIDES.get(str(stated.pop("laterality", "")))
    row = {
        "lymph_nodes_examined_status": NOT_DETERMINED, **_stated("primary_diagnosis", stated), **donor.start,
        DIAGNOSIS: one.id, "age_at_diagnosis": str(donor.years), "cancer_type_code": one.code.code,
    }  # fmt: skip
    return row | ({"laterality": side} if side else {})


def _stated(name: str, attributes: Mapping[str, Any]) -> Row:
    """Attributes that are fields of a file and keep its rules."""
    found = {}
    for given, value in attributes.items():
        called = CALLED.get(given, given)
        field = files()[name].get(called)
        text = _text(value)
        if field is not None and field.kind != "id" and called != PROGRAM and text and not problem(field, text):
            found[called] = text
    return found


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "|".join(map(str, value))
    return "" if value is None or isinstance(value, bool | dict) else str(value)


def _treatment(donor: Donor, event: Event) -> Iterator[tuple[str, Row]]:
    """A treatment and what is known of its drug, its radiation or its surgery."""
    kinds, since = _treatment_type(event), donor.since_diagnosis(event.day, event.age_d)
    if event.kind not in ("treatment", "surgery", "radiotherapy") or not kinds or since is None:
        return
    own = {**donor.start, TREATMENT: event.id}
    row = {**own, DIAGNOSIS: donor.diagnosis.id, **_stated("treatment", event.attributes), "treatment_type": kinds}
    row["treatment_start_interval"] = str(since)
    if event.end_day is not None and event.day is not None and event.end_day >= event.day:
        row["treatment_duration"] = str(event.end_day - event.day)
    if not is_complete("treatment", row):
        return
    yield "treatment", row
    for kind, name in (("Chemotherapy", "chemotherapy"), ("Radiation therapy", "radiation"), ("Surgery", "surgery")):
        detail = {**own, **_stated(name, event.attributes)}
        if kind == "Chemotherapy" and not event.code.system.startswith(f"{OWN}treatment_type"):
            detail["drug_name"] = event.code.display or event.code.code
        if kind in kinds.split("|") and is_complete(name, detail):
            yield name, detail


def _treatment_type(event: Event) -> str:
    """What kind of treatment, by the code or the kind of the event; empty for one that ARGO has no name for."""
    if event.code.system == f"{OWN}treatment_type":
        return event.code.code
    if "treatment_type" in event.attributes:
        return _text(event.attributes["treatment_type"])
    groups: Mapping[str, str] = content("argo")["treatment-types"]
    by_group = (
        kind for group, kind in groups.items() if event.code.system == ATC and event.code.code.startswith(group)
    )
    by_name = "Chemotherapy" if event.code.system == f"{OWN}drug_name" else ""
    return TYPE_OF_KIND.get(event.kind) or next(by_group, by_name)


def _follow_up(donor: Donor, event: Event, treatments: set[str]) -> Iterator[tuple[str, Row]]:
    since = donor.since_diagnosis(event.day, event.age_d)
    stated = event.attributes.get("disease_status_at_followup")
    status = event.code.code if event.code.system == f"{OWN}disease_status_at_followup" else _text(stated)
    row = {
        **donor.start, "submitter_follow_up_id": event.id, "interval_of_followup": str(since),
        "disease_status_at_followup": status,
    }  # fmt: skip
    if event.parent in treatments:
        row[TREATMENT] = str(event.parent)
    if donor.years is not None:
        row[DIAGNOSIS] = donor.diagnosis.id
    if event.kind in ("follow-up", "progression") and since is not None and status and is_complete("follow_up", row):
        yield "follow_up", row


# --- specimens and samples


def _specimens(donor: Donor, own: list[Sample], measured: Measured) -> Iterator[tuple[str, Row]]:
    """Specimens with a day and a topography, and the nucleic acids that were taken from them."""
    written = {}
    for sample in own:
        row = _specimen(donor, sample, measured[sample.id])
        if is_complete("specimen", row):
            written[sample.id] = sample
            yield "specimen", row
    for sample in own:
        registered = _registered(donor, sample, written.get(sample.parent or ""))
        if registered and is_complete("sample_registration", registered):
            yield "sample_registration", registered


def _specimen(donor: Donor, sample: Sample, measured: list[Observation]) -> Row:
    since = None if sample.taken_day is None else donor.since_diagnosis(sample.taken_day)
    row = {**donor.start, "submitter_specimen_id": sample.id, DIAGNOSIS: donor.diagnosis.id}
    row |= {"specimen_acquisition_interval": str(since)} if since is not None else {}
    row |= {"specimen_anatomic_location": where} if (where := topography(sample.site)) else {}
    for one in measured:
        if one.quantity.system == f"{OWN}specimen":
            row |= _stated("specimen", {one.quantity.code: _measured(one)})
    return row


def _measured(one: Observation) -> Any:
    """A fraction, or the code that was found; nothing that carries another unit."""
    if one.value_code is not None:
        return one.value_code.code
    return one.value if one.unit is None or one.unit.code == "1" else None


def topography(site: Code | None) -> str:
    """The ICD-O-3 topography of a site; empty where there is none."""
    if site is None:
        return ""
    known = content("argo")["topography"].get(site.code) if site.system == SNOMED else None
    return str(known[1]) if known else site.code if site.system == ICDO else ""


def _registered(donor: Donor, sample: Sample, specimen: Sample | None) -> Row:
    """A nucleic acid of a specimen. ASSUMED: diagnosed tissue from the primary site is of the primary tumour."""
    spec, gender = content("argo"), GENDERS.get(donor.subject.sex)
    molecule = spec["nucleic-acids"].get(sample.type.code) if sample.type.system == SNOMED else None
    if specimen is None or molecule is None or gender is None:
        return {}
    source = specimen.type.code if specimen.type.system == f"{OWN}specimen_tissue_source" else (
        spec["tissue-sources"].get(specimen.type.code)
    )  # fmt: skip
    same_site = topography(specimen.site)[:3] == donor.diagnosis.code.code[:3]
    if source is None or (specimen.diagnosis is None and specimen.type.system == SNOMED) or not same_site:
        return {}
    return {
        **donor.start, "gender": gender, "submitter_specimen_id": specimen.id, "specimen_tissue_source": source,
        "tumour_normal_designation": "Tumour", "specimen_type": "Primary tumour", "submitter_sample_id": sample.id,
        "sample_type": molecule[1],
    }  # fmt: skip
