"""MIABIS on FHIR 1.3.0: biobanks, collections, donors, samples and their diagnoses by the profiles of BBMRI-ERIC.

A bundle is the FHIR rendering of those rows with what the profiles ask for added: codes of the guide beside one's own,
characteristics of a collection counted from its samples, organisations of collections and juristic persons. Reading
takes the additions away again, and takes from another's bundle what they say.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...core.files import write_json
from ..core import Code, Collection, Holdings, Sample
from . import Gap, Read, Violation, fhir
from ._fhir_lens import day
from ._fhir_paths import (
    DAYS_IN_YEAR,
    EXTENSION,
    SNOMED,
    Resource,
    put_extension,
    url,
    uuid,
)
from ._fhir_read import Reader
from ._fhir_sections import SEXES
from ._fhir_write import ANCHORED, PSEUDED, resources
from ._miabis_guide import ICD10, against_profiles, guide, profile, system
from ._miabis_undo import plain

NAME, VERSION = "miabis-on-fhir", "1.3.0"
FORM, SUFFIX = "file", ".json"
PREDICTIONS = False

DIAGNOSIS_OF_SAMPLE = {"coding": [{"system": "http://loinc.org", "code": "52797-8"}]}
"""Code of the guide's example of miabis-observation."""


def render(holdings: Holdings, out: Path) -> None:
    """One transaction Bundle of the rows that have a profile."""
    write_json(out, fhir.bundle(_profiled(holdings)))


def read(path: Path) -> Read:
    """Biobanks, collections, donors, samples and diagnoses. Raises FileRejected for something that is no Bundle."""
    return fhir.guarded(path, lambda bundle: Reader(list(plain(bundle["entry"]))).all())


def check(out: Path) -> tuple[Violation, ...]:
    """What breaks R4 or the profiles. Raises FileRejected for what is no Bundle."""
    profiles = fhir.guarded(out, lambda bundle: tuple(against_profiles(bundle["entry"])))
    return (*fhir.check(out), *profiles)


def gaps() -> tuple[Gap, ...]:
    """The tables without a profile."""
    return tuple(Gap(f"{table}.*", reason) for table, reason in guide()["gaps"].items())


def _kept(holdings: Holdings) -> Holdings:
    """The rows that have a profile."""
    diagnoses = (one for one in holdings.event if one.kind == "diagnosis" and one.code.system == ICD10)
    return Holdings(
        biobank=holdings.biobank,
        collection=holdings.collection,
        subject=holdings.subject,
        sample=holdings.sample,
        event=tuple(replace(one, parent=None) for one in diagnoses),
    )


def _profiled(holdings: Holdings) -> Iterator[tuple[str, Resource]]:
    """(full URL, resource), the additional ones after those that they belong to."""
    kept = _kept(holdings)
    rows = {uuid(table, key): row for table, key, row in _by_key(kept)}
    for full_url, resource in resources(kept):
        row = rows[resource["id"]]
        name, add = _ADDITIONS[type(row).__name__]
        resource["meta"]["profile"] = [profile(name)]
        yield full_url, resource
        yield from add(resource, row, holdings)


def _by_key(kept: Holdings) -> Iterator[tuple[str, str, Any]]:
    for table in ("biobank", "collection", "sample", "event"):
        yield from ((table, row.id, row) for row in getattr(kept, table))
    yield from (("subject", row.key, row) for row in kept.subject)


Additions = Iterator[tuple[str, Resource]]


def _of_donor(resource: Resource, row: Any, holdings: Holdings) -> Additions:
    """Which data exist about the donor, and an anchored birth date that says the age on day 0."""
    exist: Mapping[str, tuple[Any, ...]] = {
        "BiologicalSamples": holdings.sample,
        "ImagingData": holdings.image_series,
        "MedicalRecords": holdings.event,
    }
    kinds = [kind for kind, rows in exist.items() if any(one.subject == row.key for one in rows)]
    _extend(resource, [_extension("miabis-dataset-type-extension", "valueCode", kind) for kind in kinds])
    if row.age_day0_d is not None:
        resource["birthDate"] = day(-row.age_day0_d)
    yield from ()


def _of_condition(resource: Resource, row: Any, holdings: Holdings) -> Additions:
    yield from ()


def _of_sample(resource: Resource, row: Sample, holdings: Holdings) -> Additions:
    """The guide's codes of type and storage, one's own type beside, the collection, the diagnosis as observation."""
    if row.type.system != system("miabis-detailed-samply-type-cs"):
        put_extension(resource, "~type", "valueCodeableConcept", resource["type"])
        resource["type"] = _coded("miabis-detailed-samply-type-cs", _material(row.type)[0])
    if row.collection is not None:
        identifier = {"system": "urn:oncoscale:collection", "value": row.collection}
        _extend(resource, [_extension("miabis-sample-collection-extension", "valueIdentifier", identifier)])
    if row.storage is not None:
        kept_at = _extension("miabis-sample-storage-temperature-extension", "", _storage(row.storage))
        resource["processing"] = [{"extension": [kept_at]}]
    if row.diagnosis is not None and row.diagnosis.system == ICD10:
        yield url("diagnosis", row.id), _observed(row, row.diagnosis)


def _observed(row: Sample, diagnosis: Code) -> Resource:
    """The diagnosis of a sample as miabis-observation."""
    observation = {
        "resourceType": "Observation",
        "id": uuid("diagnosis", row.id),
        "meta": {"security": [PSEUDED], "tag": [ANCHORED], "profile": [profile("miabis-observation")]},
        "identifier": [{"system": "urn:oncoscale:diagnosis", "value": row.id}],
        "status": "final",
        "code": DIAGNOSIS_OF_SAMPLE,
        "subject": {"reference": url("subject", row.subject), "type": "Patient"},
        "specimen": {"reference": url("sample", row.id), "type": "Specimen"},
        "valueCodeableConcept": {"coding": [{"system": ICD10, "code": diagnosis.code}]},
    }
    return observation if row.taken_day is None else {**observation, "effectiveDateTime": day(row.taken_day)}


def _of_collection(resource: Resource, row: Collection, holdings: Holdings) -> Additions:
    """Its characteristics, its samples, and the organisation that manages it."""
    samples = [one for one in holdings.sample if one.collection == row.id]
    donors = {one.subject for one in samples} | {one.subject for one in holdings.enrolment if one.collection == row.id}
    resource["characteristic"] = list(_characteristics(samples, donors, holdings))
    members = [{"reference": url("sample", one.id), "type": "Specimen"} for one in samples]
    _extend(resource, [_extension("miabis-number-of-subjects-extension", "valueInteger", len(donors))])
    _extend(resource, [_extension("miabis-member-entity-extension", "valueReference", one) for one in members])
    resource["active"] = True
    biobank = resource["managingEntity"]
    identity = f"organization:{row.id}"
    resource["managingEntity"] = {"reference": url("collection", identity), "type": "Organization"}
    countries = [one.country for one in holdings.biobank if one.id == row.biobank]
    organization = _organization(identity, row.name, "miabis-collection-organization")
    organization |= {"partOf": biobank, "address": [{"country": country} for country in countries[:1]]}
    organization["identifier"] = [{"system": "urn:oncoscale:collection", "value": row.id}]
    description = _extension("miabis-organization-description-extension", "valueString", row.description or row.name)
    _extend(organization, [description, *_stated(row.attributes, "MIABIS-COLLECTION")])
    if row.kind in ("image", "mixed") and "MIABIS-COLLECTION-13" not in row.attributes:
        images = _coded("miabis-collection-dataset-typeCS", "BodyImage")
        _extend(organization, [_extension("miabis-collection-dataset-type-extension", "", images)])
    _add_contact(organization, row.attributes, "collection")
    yield url("collection", identity), organization


def _of_biobank(resource: Resource, row: Any, holdings: Holdings) -> Additions:
    """Its juristic person, its contact, and what it can do."""
    identity = f"juristic-person:{row.id}"
    resource["partOf"] = {"reference": url("biobank", identity), "type": "Organization"}
    _extend(resource, list(_stated(row.attributes, "MIABIS-BIOBANK")))
    _add_contact(resource, row.attributes, "biobank")
    yield url("biobank", identity), _organization(identity, row.juristic_person, "", table="biobank")


def _organization(identity: str, name: str, by: str, *, table: str = "collection") -> Resource:
    meta: Resource = {"security": [PSEUDED], "tag": [ANCHORED]}
    if by:
        meta["profile"] = [profile(by)]
    return {"resourceType": "Organization", "id": uuid(table, identity), "meta": meta, "name": name}


_ADDITIONS: Mapping[str, tuple[str, Callable[[Resource, Any, Holdings], Additions]]] = {
    "Biobank": ("miabis-biobank", _of_biobank),
    "Collection": ("miabis-collection", _of_collection),
    "Subject": ("miabis-sample-donor", _of_donor),
    "Sample": ("miabis-sample", _of_sample),
    "Event": ("miabis-condition", _of_condition),
}
"""The profile of each row, and what is added for it."""


def _characteristics(samples: list[Sample], donors: set[str], holdings: Holdings) -> Iterator[Resource]:
    """Sex and material (at least one each), age range, storage temperatures and diagnoses."""
    subjects = [one for one in holdings.subject if one.key in donors]
    sexes = sorted({SEXES[one.sex] for one in subjects}) or ["unknown"]
    gender = "http://hl7.org/fhir/administrative-gender"
    yield from (_characteristic("Sex", {"coding": [{"system": gender, "code": sex}]}) for sex in sexes)
    materials = sorted({_material(one.type)[1] for one in samples}) or ["Other"]
    yield from (_characteristic("MaterialType", _coded("miabis-collection-sample-type-cs", one)) for one in materials)
    ages = sorted(one.age_day0_d for one in subjects if one.age_day0_d is not None)
    if ages:
        low, high = ({"value": int(days / DAYS_IN_YEAR), "unit": "years"} for days in (ages[0], ages[-1]))
        code = _coded("miabis-characteristicCS", "Age")
        yield {"code": code, "valueRange": {"low": low, "high": high}, "exclude": False}
    stored = {one.storage: _storage(one.storage) for one in samples if one.storage is not None}
    codes = {json.dumps(one): one for one in stored.values()}
    yield from (_characteristic("StorageTemperature", codes[name]) for name in sorted(codes))
    found = sorted({one.diagnosis.code for one in samples if one.diagnosis and one.diagnosis.system == ICD10})
    yield from (_characteristic("Diagnosis", {"coding": [{"system": ICD10, "code": one}]}) for one in found)


def _characteristic(name: str, value: Resource) -> Resource:
    return {"code": _coded("miabis-characteristicCS", name), "valueCodeableConcept": value, "exclude": False}


def _coded(code_system: str, code: str) -> Resource:
    return {"coding": [{"system": system(code_system), "code": code}]}


def _storage(words: str) -> Resource:
    known = guide()["storage"]
    return _coded("miabis-storage-temperature-cs", known.get(words, words if words in known.values() else "Other"))


def _material(code: Code) -> tuple[str, str]:
    """(detailed sample type, collection sample type) of a specimen's type."""
    if code.system == system("miabis-detailed-samply-type-cs"):
        return code.code, code.code if code.code in guide()["codes"]["miabis-collection-sample-type-cs"] else "Other"
    detailed, broad = guide()["material"].get(code.code if code.system == SNOMED else "", ("Other", "Other"))
    return detailed, broad


def _extension(name: str, value_as: str, value: Any) -> Resource:
    return {"url": profile(name), value_as or "valueCodeableConcept": value}


def _extend(resource: Resource, more: list[Resource]) -> None:
    """Put extensions of the guide before one's own: its library reads the first."""
    if more:
        own = resource.get("extension", [])
        mine = [one for one in own if one["url"].startswith(EXTENSION)]
        resource["extension"] = [*(one for one in own if one not in mine), *more, *mine]


def _stated(attributes: Mapping[str, Any], begin: str) -> Iterator[Resource]:
    """Extensions for the attributes that are stated by their MIABIS code."""
    for attribute, name in guide()["attributes"].items():
        if not attribute.startswith(begin) or attribute not in attributes:
            continue
        value = attributes[attribute]
        code_system = guide()["extensions"][name]
        for one in value if isinstance(value, list | tuple) else [value]:
            if not code_system:
                yield _extension(name, "valueString", str(one))
            elif (code := "".join(str(one).split())) in guide()["codes"][code_system]:
                yield _extension(name, "", _coded(code_system, code))


def _add_contact(organization: Resource, attributes: Mapping[str, Any], kind: str) -> None:
    contact = attributes.get(guide()["contact"][kind])
    if isinstance(contact, Mapping) and {"given", "family", "email"} <= contact.keys():
        name = {"given": [str(contact["given"])], "family": str(contact["family"])}
        organization["contact"] = [{"name": name, "telecom": [{"system": "email", "value": str(contact["email"])}]}]
