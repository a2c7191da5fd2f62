"""From the core to MIABIS's records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..core import Biobank, Code, Collection, ConsentRow, Event, Holdings, Sample, Study, Subject
from ._declared import content
from ._miabis import EVENT_KINDS, Record, Records, entity
from ._tables import grouped

SNOMED, ICD10, ORPHA = "http://snomed.info/sct", "http://hl7.org/fhir/sid/icd-10", "http://www.orpha.net"
SAMPLE_TYPE = "urn:miabis:sample-type"
ONTOLOGIES = {SNOMED: "SNOMED CT", "http://terminology.hl7.org/CodeSystem/icd-o-3": "ICD-O-3", ICD10: "ICD-10"}
NO_VERSION = "not stated"
HUMAN, ANIMAL = Code(SNOMED, "337915000", "Homo sapiens"), Code(SNOMED, "387961004", "Kingdom Animalia")
ROOM, IMAGE, CLINICAL = "RT (Room temperature)", "Body (Radiological) image", "Clinical dataset"
DIGITAL, OTHER = "Digital sample", "Other"
DONOR, COLLECTION, RESOURCE, BIOBANK = (
    "MIABIS-SAMPLEDONOR-01", "MIABIS-COLLECTION-01", "MIABIS-RESEARCHRESOURCE-01", "MIABIS-BIOBANK-01",
)  # fmt: skip

SEXES = {"female": "Female", "male": "Male", "undifferentiated": "Undifferentiated", "unknown": "Unknown",
         "not-applicable": "Not applicable"}  # fmt: skip


def _known_types() -> Mapping[str, Sequence[str]]:
    found: Mapping[str, Sequence[str]] = content("miabis")["sample-types"]
    return found


def _sample_type(type_: Code, place: int) -> str:
    """The type of a Sample (place 1) or of a Collection (place 2): two lists."""
    listed = _known_types()
    if type_.system == SNOMED and type_.code in listed:
        return listed[type_.code][place]
    if type_.system == SAMPLE_TYPE:
        allowed = entity("sample").attributes["MIABIS-SAMPLE-02"].values
        same = {row[1]: row[2] for row in listed.values()}
        return (type_.code if type_.code in allowed else OTHER) if place == 1 else same.get(type_.code, OTHER)
    return OTHER


def type_of(name: str) -> Code:
    """The core's code of a Sample's type; a type that SNOMED CT does not name here keeps MIABIS's word."""
    for code, (display, sample_type, _) in _known_types().items():
        if sample_type == name:
            return Code(SNOMED, code, display)
    return Code(SAMPLE_TYPE, name, name)


def _storage(text: str | None) -> str | None:
    if text is None or text in entity("sample").attributes["MIABIS-SAMPLE-03"].values:
        return text
    return ROOM if text == "RT" else OTHER


def _diagnosis(code: Code) -> str | None:
    """ICD-10, or ORPHA with its prefix; no other system has a place."""
    return {ICD10: code.code, ORPHA: f"ORPHA:{code.code}"}.get(code.system)


def records_of(seen: Holdings) -> Records:
    """The records of every table."""
    subjects = {one.key: one for one in seen.subject}
    consents = grouped(seen.consent, lambda one: one.subject)
    imaged = {one.subject for one in seen.image_series}
    treated = {one.subject for one in seen.event if one.kind != "imaging"}
    records: dict[str, list[Record]] = {
        "biobank": [_biobank(one) for one in seen.biobank],
        "collection": [_filled(_collection(one), counted(one, seen)) for one in seen.collection],
        "research-resource": [_resource(one) for one in seen.study],
        "donor": [_donor(one, imaged, treated) for one in seen.subject],
        "membership": [
            _stated({DONOR: one.subject, RESOURCE: one.study, COLLECTION: one.collection}) for one in seen.enrolment
        ],
        "sample": [_sample(one, subjects.get(one.subject), consents[one.subject]) for one in seen.sample],
    }
    ages = {one.key: one.age_day0_d for one in seen.subject}
    for kind in EVENT_KINDS:
        records[f"event-{kind}"] = [_event(one, ages.get(one.subject)) for one in seen.event if one.kind == kind]
    return records


def untimed(seen: Holdings) -> int:
    """How many events stand without a time, their age being unknown."""
    ages = {one.key: one.age_day0_d for one in seen.subject}
    return sum("MIABIS-EVENT-03" not in _event(one, ages.get(one.subject)) for one in seen.event)


def _stated(values: Mapping[str, object]) -> Record:
    """A record of what is known."""
    return {code: (str(value),) for code, value in values.items() if value is not None and value != ""}


def _filled(record: Record, derived: Record) -> Record:
    """The record, and what can be derived where it says nothing; of a part that is stated, nothing is derived."""
    owners = {code[: code.rindex("-")] for code in record if code.count("-") > 2}
    return {code: values for code, values in derived.items() if code[: code.rindex("-")] not in owners} | dict(record)


def own(name: str, attributes: Mapping[str, object]) -> Record:
    """Attributes that are named by codes of the entity; one value where only one may stand."""
    chosen, found = entity(name), {}
    for code, value in attributes.items():
        if code in chosen.columns and code not in chosen.links and value is not None:
            listed = tuple(map(str, value)) if isinstance(value, list | tuple) else (str(value),)
            several = len(listed) > 1 and not chosen.attributes[code].many
            found[code] = (OTHER,) if several else listed
    return {code: values for code, values in found.items() if values}


def _biobank(one: Biobank) -> Record:
    return dict(own("biobank", one.attributes)) | dict(
        _stated({BIOBANK: one.id, "MIABIS-BIOBANK-02": one.acronym, "MIABIS-BIOBANK-03": one.name,
                 "MIABIS-BIOBANK-05": one.juristic_person, "MIABIS-BIOBANK-06": one.country})
    )  # fmt: skip


def _collection(one: Collection) -> Record:
    return dict(own("collection", one.attributes)) | dict(
        _stated({BIOBANK: one.biobank, COLLECTION: one.id, "MIABIS-COLLECTION-03": one.name,
                 "MIABIS-COLLECTION-06": one.description})
    )  # fmt: skip


def _resource(one: Study) -> Record:
    return dict(own("research-resource", one.attributes)) | dict(
        _stated({RESOURCE: one.id, "MIABIS-RESEARCHRESOURCE-03": one.title})
    )


def counted(one: Collection, seen: Holdings) -> Record:
    """What a collection must say and the rows tell: contact, sexes, kinds of data and of samples.

    The contact is the biobank's juristic person: nobody is named. Ages of the youngest and the oldest donor, and how
    many there are, stay out: an export holds part of a collection, and each extreme is one person.
    """
    members = {row.subject for row in seen.enrolment if row.collection == one.id}
    sexes = {SEXES[row.sex] for row in seen.subject if row.key in members} or {"Unknown"}
    types = {_sample_type(row.type, 2) for row in seen.sample if row.collection == one.id}
    keeper = next((row for row in seen.biobank if row.id == one.biobank), None)
    record = {
        "MIABIS-COLLECTION-08": tuple(sorted(sexes)),
        "MIABIS-COLLECTION-13": (CLINICAL if one.kind == "sample" else IMAGE,),
        "MIABIS-COLLECTION-14": (DIGITAL if one.kind == "image" else types.pop() if len(types) == 1 else OTHER,),
    }
    if keeper is not None:
        record |= {"MIABIS-COLLECTION-05-08": (keeper.country,), "MIABIS-COLLECTION-05-09": (keeper.juristic_person,)}
    return record


def _donor(one: Subject, imaged: set[str], treated: set[str]) -> Record:
    kinds = [IMAGE] * (one.key in imaged) + [CLINICAL] * (one.key in treated)
    record = {DONOR: (one.key,), "MIABIS-SAMPLEDONOR-02": (SEXES[one.sex],)}
    return record | ({"MIABIS-SAMPLEDONOR-03": tuple(kinds)} if kinds else {})


def _sample(one: Sample, owner: Subject | None, consents: list[ConsentRow]) -> Record:
    record = dict(_stated({
        DONOR: one.subject, COLLECTION: one.collection, "MIABIS-SAMPLE-01": one.id,
        "MIABIS-SAMPLE-02": _sample_type(one.type, 1), "MIABIS-SAMPLE-03": _storage(one.storage),
        "MIABIS-SAMPLE-12": None if owner is None else "Human" if owner.species.code == HUMAN.code else "Animal",
    }))  # fmt: skip
    if one.site is not None and one.site.system and one.site.code:
        record |= _stated({
            "MIABIS-SAMPLE-05-01": ONTOLOGIES.get(one.site.system, one.site.system),
            "MIABIS-SAMPLE-05-02": one.site.version or NO_VERSION,
            "MIABIS-SAMPLE-05-03": one.site.code, "MIABIS-SAMPLE-05-04": one.site.display,
        })  # fmt: skip
    if one.diagnosis is not None and (diagnosis := _diagnosis(one.diagnosis)):
        record["MIABIS-SAMPLE-10"] = (diagnosis,)
    if conditions := _conditions(consents):
        record["MIABIS-SAMPLE-11"] = conditions
    return record


def _conditions(consents: list[ConsentRow]) -> tuple[str, ...]:
    """Conditions of use that an active consent allows or sets."""
    active = [row for row in consents if row.status == "active"]
    purposes, categories = (
        {item for row in active for item in getattr(row, name)} for name in ("purposes", "categories")
    )
    found = ["Specific research use"] if purposes == {"DSRCH"} else []
    return tuple(found + (["Genetic data use"] if categories & {"genetic", "genomic"} else []))


def _event(one: Event, age_day0_d: int | None) -> Record:
    """An event at its age, where the age on day 0 is known; without time otherwise."""
    age = one.age_d if one.day is None else None if age_day0_d is None else age_day0_d + one.day
    time = {"MIABIS-EVENT-03": age, "MIABIS-EVENT-04": "Days"} if age is not None and age >= 0 else {}
    return _stated({DONOR: one.subject, "MIABIS-EVENT-01": one.id, **time})


def code_book_of(seen: Holdings) -> Sequence[Mapping[str, str]]:
    """What the codes of diagnoses mean."""
    used = {row.diagnosis for row in seen.sample if row.diagnosis is not None and _diagnosis(row.diagnosis)}
    return [
        {"system": one.system, "version": one.version, "code": _diagnosis(one) or "", "display": one.display}
        for one in sorted(used, key=lambda one: (one.system, one.code, one.version, one.display))
    ]
