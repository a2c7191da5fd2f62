"""From rows of the core to FHIR resources: the places of fhir.toml, and what cannot be said by a place alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import quote

from ..core import ROWS, Event, Holdings
from ._fhir_lens import age, write
from ._fhir_paths import ANCHOR, EXTENSION, UCUM, Place, Resource, put, put_extension, url, uuid
from ._fhir_sections import NESTED, SAID_BY_GENDER, SEXES, Section, place_of, section_of

PSEUDED = {"system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "code": "PSEUDED"}
DEVAST = {"system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "code": "DEVAST"}
ANCHORED = {"system": "urn:oncoscale:time", "code": "anchored-2000-01-01"}
ASSERTION = "urn:oncoscale:assertion"
SIMULATED = {"system": ASSERTION, "code": "simulated"}
PREDICTED = "urn:oncoscale:predicted"
"""System of the codes of predicted quantities: never those of the measured ones [specification B.12]."""

NO_TIME = f"{ANCHOR.isoformat()}T00:00:00Z"
"""Where FHIR demands an instant and the core knows none."""

MOST = 2**31 - 1
"""The greatest unsignedInt of FHIR R4."""

REASONS = {"MedicationAdministration": {"Condition", "Observation"},
           "Procedure": {"Condition", "Observation", "Procedure"}}  # fmt: skip
"""What a reasonReference of R4 may lead to."""


def resources(holdings: Holdings) -> Iterator[tuple[str, Resource]]:
    """(full URL, resource) of everything that these holdings say, in the order of their references."""
    place, around = place_of(holdings), _Around(holdings)
    for table in ROWS:
        if table in NESTED:
            continue
        if table == "image_series":
            yield from _imaging(holdings, place)
            continue
        for row in getattr(holdings, table):
            section = section_of(table, row)
            yield from _named(section, row, _resource(section, row, place, around))


class _Around:
    """What the rows of other tables say about one row."""

    def __init__(self, holdings: Holdings) -> None:
        self.subjects = {one.key: one for one in holdings.subject}
        self.runs = {one.id: one for one in holdings.run}
        self.consents = {(one.subject, one.study): one.id for one in sorted(holdings.consent, key=_recorded)}
        self.contents = _grouped(holdings.contains, "artefact")
        self.permits = _grouped(holdings.run_subject, "run")
        self.attempts = _grouped(holdings.attempt, "run")
        self.links = _grouped(holdings.link, "run")
        self.project = {one.subject: f"urn:oncoscale:project:{quote(one.study)}" for one in holdings.enrolment}
        self.members = _grouped([one for one in holdings.enrolment if one.collection], "collection")


def _recorded(consent: Any) -> str:
    return str(consent.recorded_at)


def _grouped(rows: Any, name: str) -> Mapping[str, list[Any]]:
    found = defaultdict(list)
    for row in rows:
        found[getattr(row, name)].append(row)
    return found


def _named(section: Section, row: Any, resource: Resource) -> Iterator[tuple[str, Resource]]:
    together = {"enrolment": ("subject", "study"), "attempt": ("run", "n")}.get(section.table, (section.key,))
    identity = ":".join(str(getattr(row, name)) for name in together)
    yield url(section.table, identity), {**resource, "id": uuid(section.table, identity)}


def _resource(section: Section, row: Any, place: Place, around: _Around) -> Resource:
    resource = _begun(section)
    chosen = {**section.fields, **_otherwise(section, row, place)}
    for name, place_and_kind in chosen.items():
        if place_and_kind is not None:
            write(resource, *place_and_kind, getattr(row, name), place)
    if section.fields.get(section.key, ("",))[0] == "identifier[0].value":
        put(resource, "identifier[0].system", f"urn:oncoscale:{section.table}")
    if more := _MORE.get(section.table):
        more(resource, row, place, around)
    return resource


def _begun(section: Section) -> Resource:
    """A resource with its constants. The metadata say that it is pseudonymised, and that its dates are anchored."""
    resource: Resource = {"resourceType": section.resource, "meta": {"security": [PSEUDED], "tag": [ANCHORED]}}
    for path, value in {**section.mark, **section.fixed}.items():
        put(resource, path, dict(value) if isinstance(value, dict) else value)
    return resource


def _otherwise(section: Section, row: Any, place: Place) -> Mapping[str, tuple[str, str] | None]:
    """Places other than the usual ones, where FHIR does not permit those; None where another element says it all."""
    other: dict[str, tuple[str, str] | None] = {}
    if section.table == "subject" and row.sex in SAID_BY_GENDER:
        other["sex"] = None
    if section.table == "event":
        if row.day is None and section.fields["end_day"][1] == "day":
            other["end_day"] = ("~end-day", "integer")
        parent = place.written.get(("event", row.parent or ""), "")
        if section.resource in REASONS and parent not in REASONS[section.resource]:
            other["parent"] = ("~parent", "event")
    if section.table == "observation" and row.value is None:
        other |= {"sd": ("~sd", "number"), "unit": ("~unit", "concept")}
    if section.table == "artefact" and row.bytes > MOST:
        other["bytes"] = ("~size", "size")
    return other


def _more_of_subject(resource: Resource, row: Any, place: Place, around: _Around) -> None:
    """Gender, and the year of birth counted back from the anchor."""
    put(resource, "gender", SEXES[row.sex])
    put(resource, "identifier[0].system", around.project.get(row.key, "urn:oncoscale:subject"))
    if row.age_day0_d is not None:
        put(resource, "birthDate", str(ANCHOR.year - int(row.age_day0_d // 365.25)))


def _more_of_collection(resource: Resource, row: Any, place: Place, around: _Around) -> None:
    """Its members."""
    members = [{"entity": place.reference("subject", one.subject)} for one in around.members[row.id]]
    if members:
        resource |= {"member": members, "quantity": len(members)}


def _more_of_enrolment(resource: Resource, row: Any, place: Place, around: _Around) -> None:
    """The newest consent."""
    if consent := around.consents.get((row.subject, row.study)):
        resource["consent"] = place.reference("consent", consent)


def _more_of_consent(resource: Resource, row: Any, place: Place, around: _Around) -> None:
    """FHIR's status; the core's own, which says more, is an extension."""
    resource["status"] = {"active": "active", "refused": "rejected"}.get(row.status, "inactive")


def _more_of_decision(resource: Resource, row: Any, place: Place, around: _Around) -> None:
    """FHIR's outcome: success, or a minor failure that the user can mend."""
    resource["outcome"] = "0" if row.outcome == "permit" else "4"


def _more_of_event(resource: Resource, row: Event, place: Place, around: _Around) -> None:
    """Age, time and dose, where the attributes alone do not say what FHIR wants."""
    if resource["resourceType"] == "Condition":
        resource["clinicalStatus"] = {"coding": [{"system": CLINICAL, "code": "inactive" if row.end_day else "active"}]}
        subject = around.subjects.get(row.subject)
        if row.day is not None and subject and subject.age_day0_d is not None and subject.age_day0_d + row.day >= 0:
            resource["onsetAge"] = age(subject.age_day0_d + row.day)
    dose, unit = row.attributes.get("dose"), row.attributes.get("dose_unit")
    if row.kind == "treatment" and isinstance(dose, int | float) and isinstance(unit, str):
        resource["dosage"] = {"dose": {"value": dose, "unit": unit, "system": UCUM, "code": unit}}
    if resource["resourceType"] == "MedicationAdministration" and row.day is None:
        absent = {"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "masked"}
        resource["effectivePeriod"] = {"extension": [absent]}


CLINICAL = "http://terminology.hl7.org/CodeSystem/condition-clinical"


def _more_of_artefact(resource: Resource, row: Any, place: Place, around: _Around) -> None:
    """Whose data it holds: the only one is its subject, the others are related."""
    put(resource, "masterIdentifier.system", "urn:ietf:rfc:3986")
    for one in around.contents[row.sha256]:
        reference = place.reference("subject", one.subject)
        if one.share == "sole" and "subject" not in resource:
            resource["subject"] = reference
            continue
        reference["extension"] = [{"url": EXTENSION + "share", "valueCode": one.share}]
        resource.setdefault("context", {}).setdefault("related", []).append(reference)
    if row.asserted == "simulated":
        _simulated(resource)


def _more_of_parameter_set(resource: Resource, row: Any, place: Place, around: _Around) -> None:
    put(resource, "masterIdentifier.system", "urn:ietf:rfc:3986")


def _more_of_run(resource: Resource, row: Any, place: Place, around: _Around) -> None:
    """Whose data it used, by which decision; it is recorded when its first attempt was."""
    targets = []
    for one in around.permits[row.id]:
        target = place.reference("subject", one.subject)
        write(target, "~decision", "decision", one.decision, place)
        targets.append(target)
    resource["target"] = targets or [place.reference("software", row.software)]
    times = [one.started or one.ended for one in around.attempts[row.id]]
    resource["recorded"] = min((time for time in times if time), default=NO_TIME)


def _more_of_attempt(resource: Resource, row: Any, place: Place, around: _Around) -> None:
    """What it used and what it generated."""
    links = [one for one in around.links[row.run] if one.attempt == row.n]
    resource["target"] = [_linked(one, place) for one in links if one.role == "generated"]
    resource["target"] = resource["target"] or [place.reference("run", row.run)]
    used = [{"role": "source", "what": _linked(one, place)} for one in links if one.role == "used"]
    if used:
        resource["entity"] = used
    resource["recorded"] = row.ended or row.started or NO_TIME
    put(resource, "agent[0].who", _software(row.run, place, around))


def _linked(link: Any, place: Place) -> Resource:
    table, identity = next(
        (table, value)
        for table, value in (("artefact", link.artefact), ("image_series", link.series), ("sample", link.sample))
        if value is not None
    )
    reference = place.reference(table, identity)
    put_extension(reference, "~port", "valueString", link.port)
    return reference


def _software(run: str, place: Place, around: _Around) -> Resource:
    known = around.runs.get(run)
    return place.reference("software", known.software) if known else place.reference("run", run)


def _more_of_observation(resource: Resource, row: Any, place: Place, around: _Around) -> None:
    """Imaging if it was measured on a series, laboratory if on a sample."""
    category = "imaging" if row.series else "laboratory" if row.sample else "exam"
    system = "http://terminology.hl7.org/CodeSystem/observation-category"
    resource["category"] = [{"coding": [{"system": system, "code": category}]}]


def _more_of_prediction(resource: Resource, row: Any, place: Place, around: _Around) -> None:
    """Preliminary, asserted by a device, tagged as simulated, by a code of its own [specification B.12]."""
    _simulated(resource)
    code = {"coding": [{"system": PREDICTED, "code": row.quantity.code, "display": f"predicted {row.quantity.code}"}]}
    resource["status"] = "preliminary" if row.status == "preliminary" else "cancelled"
    device = _software(row.run, place, around)
    if resource["resourceType"] == "Observation":
        resource |= {"code": code, "device": device}
        return
    ahead = {"value": row.horizon_day, "unit": "d", "system": UCUM, "code": "d"}
    resource["performer"] = device
    resource["prediction"][0] |= {"outcome": code, "whenRange": {"low": ahead, "high": ahead}}


def _simulated(resource: Resource) -> None:
    resource["meta"]["security"] = [PSEUDED, DEVAST]
    resource["meta"]["tag"] = [ANCHORED, SIMULATED]


def _imaging(holdings: Holdings, place: Place) -> Iterator[tuple[str, Resource]]:
    """One ImagingStudy for each study, with its series; simulated series stand apart."""
    studies: dict[str, list[Any]] = {}
    for row in holdings.image_series:
        studies.setdefault(place.studies[row.uid], []).append(row)
    for study_key, rows in studies.items():
        study: Resource = {}
        for row in rows:
            one = _resource(section_of("image_series", row), row, place, _Around(Holdings()))
            if row.role == "simulated":
                _simulated(one)
            if study:
                study["series"].append(one["series"][0])
            study = study or one
        put(study, "procedureReference", place.reference("event", rows[0].event))
        study |= {"numberOfSeries": len(rows), "numberOfInstances": sum(row.instances for row in rows)}
        yield url("imaging_study", study_key), {**study, "id": uuid("imaging_study", study_key)}


_MORE: Mapping[str, Callable[[Resource, Any, Place, _Around], None]] = {
    "subject": _more_of_subject,
    "collection": _more_of_collection,
    "enrolment": _more_of_enrolment,
    "consent": _more_of_consent,
    "decision": _more_of_decision,
    "event": _more_of_event,
    "artefact": _more_of_artefact,
    "parameter_set": _more_of_parameter_set,
    "run": _more_of_run,
    "attempt": _more_of_attempt,
    "observation": _more_of_observation,
    "prediction": _more_of_prediction,
}
