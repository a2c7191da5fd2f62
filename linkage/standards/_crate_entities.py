"""The entities of a crate, as JSON-LD is written by hand: what the core holds, in the words of schema.org and RO-Crate.

Sources: RO-Crate 1.1 (doi 10.5281/zenodo.4541002), Process Run Crate and Workflow Run Crate 0.5 (Leo et al. 2024, doi
10.1371/journal.pone.0309210), Workflow RO-Crate 1.0. Every property stands in the context of RO-Crate 1.1 or of the run
profiles. A single value is not wrapped in a list.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from ...core.files import canonical_json
from ..core import Artefact, Attempt, Biobank, Code, Holdings, Link, Program, Run, Series

BASE = "https://w3id.org/ro/"
CONTEXT = (f"{BASE}crate/1.1/context", f"{BASE}terms/workflow-run/context")
PROFILES = {
    f"{BASE}wfrun/process/0.5": ("Process Run Crate", "0.5"),
    f"{BASE}wfrun/workflow/0.5": ("Workflow Run Crate", "0.5"),
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0": ("Workflow RO-Crate", "1.0"),
}
FORMAL_PARAMETER = "https://bioschemas.org/profiles/FormalParameter/1.0-RELEASE"
WORKFLOW = "https://bioschemas.org/profiles/ComputationalWorkflow/1.0-RELEASE"
PREDICTION = "urn:oncoscale:Prediction"
"""Additional type of every file that a model says rather than anybody saw."""

STATUS = {
    "done": "Completed",
    "failed": "Failed",
    "stopped-consent": "Failed",
    "cancelled": "Failed",
    "queued": "Potential",
    "running": "Active",
}
HOLDER, LICENCE, LANGUAGE = "#holder", "#licence", "#language"

Entity = dict[str, Any]


@dataclass
class Graph:
    """Entities by their id; an entity that is added twice is one."""

    entities: dict[str, Entity] = field(default_factory=dict)

    def add(self, identity: str, kind: str | list[str], **properties: Any) -> dict[str, str]:
        """Add an entity, less its empty properties, and return the reference to it."""
        stated = {name: _plain(value) for name, value in properties.items()}
        kept = {name: value for name, value in stated.items() if value is not None and value != []}
        self.entities.setdefault(identity, {"@id": identity, "@type": kind, **kept})
        return ref(identity)

    def value(self, owner: str, name: str, value: Any, **more: Any) -> dict[str, str]:
        """A PropertyValue of an entity."""
        said = value if isinstance(value, int | float | str) else canonical_json(value)
        identity = f"#{owner.lstrip('#')}-{quote(name, safe='')}"
        return self.add(identity, "PropertyValue", name=name, value=said, **more)

    def code(self, owner: str, name: str, code: Code | None) -> list[dict[str, str]]:
        """A coded value of an entity."""
        if code is None:
            return []
        return [self.value(owner, name, code.code, propertyID=code.system, description=code.display or None)]


def ref(identity: str) -> dict[str, str]:
    """A reference to an entity."""
    return {"@id": identity}


def _plain(value: Any) -> Any:
    """A list of one is its only member."""
    if isinstance(value, list | tuple):
        return value[0] if len(value) == 1 else list(value)
    return value


def of_series(uid: str) -> str:
    """The id of a stored image series."""
    return f"urn:oncoscale:image_series:{uid}"


def of_artefact(sha256: str, places: Mapping[str, str]) -> str:
    """The id of a file: its place in the crate where it is carried, else a URI of its own."""
    return places.get(sha256, f"urn:oncoscale:artefact:{sha256}")


def of_subject(key: str) -> str:
    """The id of a subject."""
    return f"#{key}"


def of_workflow(program: str) -> str:
    """The file that says what a program was run with."""
    return f"workflows/{quote(program, safe='')}.json"


def add_people(graph: Graph, holdings: Holdings) -> None:
    """Who holds the data, whose they are by pseudonym, and by which consent they are held."""
    for biobank in holdings.biobank:
        _biobank(graph, biobank)
    for one in holdings.collection:
        graph.add(
            f"#collection-{one.id}",
            "Collection",
            identifier=one.id,
            name=one.name,
            description=one.description,
            keywords=one.kind,
            maintainer=ref(f"#biobank-{one.biobank}"),
        )
    enrolled: dict[str, list[dict[str, str]]] = {}
    for enrolment in holdings.enrolment:
        parts = [ref(f"#study-{enrolment.study}")]
        parts += [ref(f"#collection-{enrolment.collection}")] if enrolment.collection else []
        enrolled.setdefault(enrolment.subject, []).extend(parts)
    for subject in holdings.subject:
        graph.add(
            of_subject(subject.key),
            "Patient",
            identifier=subject.key,
            name=subject.key,
            memberOf=enrolled.get(subject.key),
        )
    for consent in holdings.consent:
        access = {"purposes": list(consent.purposes), "categories": list(consent.categories)}
        graph.add(
            f"#{consent.id}",
            "Permit",
            identifier=consent.id,
            name="consent",
            about=ref(of_subject(consent.subject)),
            isPartOf=ref(f"#study-{consent.study}"),
            creativeWorkStatus=consent.status,
            conditionsOfAccess=canonical_json(access),
            usageInfo=consent.legal_basis,
            validFrom=consent.valid_from,
            validUntil=consent.valid_until,
            dateCreated=consent.recorded_at,
            expires=consent.withdrawn_at,
            sha256=consent.document_sha256,
            isBasedOn=ref(f"#{consent.supersedes}") if consent.supersedes else None,
        )
    for study in holdings.study:
        graph.add(
            f"#study-{study.id}",
            "ResearchProject",
            identifier=study.id,
            name=study.title,
            usageInfo=study.legal_basis,
            expires=study.retention_until,
            additionalProperty=graph.code(f"study-{study.id}", "purpose", study.purpose),
        )


def _biobank(graph: Graph, one: Biobank) -> None:
    graph.add(
        f"#biobank-{one.id}",
        "Organization",
        identifier=one.id,
        name=one.name,
        alternateName=one.acronym,
        legalName=one.juristic_person,
        location=graph.add(f"#country-{one.country}", "Country", name=one.country),
    )


def add_software(graph: Graph, program: Program, parameters: Iterable[tuple[str, str]]) -> None:
    """A program, and the workflow that its runs are runs of.

    parameters  (direction, name) of what goes in and what comes out
    """
    software = graph.add(
        f"#software-{program.id}",
        "SoftwareApplication",
        identifier=program.id,
        name=program.name,
        softwareVersion=program.version,
        sha256=program.code_sha256,
        url="urn:oncoscale:" + quote(program.id, safe=""),
    )
    formal = {
        direction: [parameter(graph, direction, name) for way, name in sorted(set(parameters)) if way == direction]
        for direction in ("input", "output")
    }
    graph.add(
        of_workflow(program.id),
        ["File", "SoftwareSourceCode", "ComputationalWorkflow"],
        name=f"what {program.name} {program.version} was run with",
        version=program.version,
        programmingLanguage=ref(LANGUAGE),
        conformsTo=ref(WORKFLOW),
        softwareRequirements=software,
        encodingFormat="application/json",
        **formal,
    )


def parameter(graph: Graph, direction: str, name: str) -> dict[str, str]:
    """A formal parameter: a kind of input or output."""
    kind = "PropertyValue" if name in ("parameters", "seed") else "File"
    return graph.add(
        f"#{direction}-{quote(name, safe='')}",
        "FormalParameter",
        name=name,
        additionalType=kind,
        conformsTo=ref(FORMAL_PARAMETER),
    )


def formal_name(port: str) -> str:
    """The kind of a port: what stands before its first slash."""
    return port.split("/", 1)[0]


def add_series(graph: Graph, one: Series, formal: Iterable[dict[str, str]], ports: Iterable[str]) -> None:
    """A stored image series, which is named but not carried."""
    here = of_series(one.uid)
    owner = f"series-{one.uid}"
    said: dict[str, Any] = {
        "StudyInstanceUID": one.study_uid,
        "role": one.role,
        "instances": one.instances,
        "Laterality": one.laterality,
        "FrameOfReferenceUID": one.frame_uid,
        "deidentification report, SHA-256": one.deid_report_sha256,
        **one.acquisition,
    }
    values = [graph.value(owner, name, value) for name, value in said.items() if value is not None]
    values += graph.code(owner, "modality", one.modality) + graph.code(owner, "body site", one.body_site)
    graph.add(
        here,
        "File",
        name=f"image series, {one.modality.code}",
        alternateName=sorted(set(ports)),
        identifier=one.uid,
        sha256=one.content_sha256,
        encodingFormat="application/dicom",
        about=ref(of_subject(one.subject)),
        additionalProperty=values,
        additionalType=PREDICTION if one.role == "simulated" else None,
        exampleOfWork=list(formal),
    )


def add_artefact(
    graph: Graph,
    one: Artefact,
    subjects: Iterable[str],
    places: Mapping[str, str],
    formal: Iterable[dict[str, str]],
    ports: Iterable[str],
) -> None:
    """A file by its hash, carried or not."""
    owner = f"artefact-{one.sha256}"
    values = [graph.value(owner, "kind", one.kind), graph.value(owner, "asserted", one.asserted)]
    values += [graph.value(owner, "FrameOfReferenceUID", one.frame_uid)] if one.frame_uid else []
    values += graph.code(owner, "unit", one.unit)
    graph.add(
        of_artefact(one.sha256, places),
        "File",
        name=", ".join(sorted(set(ports))) or one.kind,
        sha256=one.sha256,
        identifier=one.sha256,
        encodingFormat=one.media_type,
        contentSize=str(one.bytes),
        about=[ref(of_subject(key)) for key in sorted(subjects)],
        additionalProperty=values,
        additionalType=PREDICTION if one.asserted == "simulated" else None,
        exampleOfWork=list(formal),
    )


def add_action(
    graph: Graph,
    run: Run,
    attempt: Attempt,
    links: Iterable[Link],
    subjects: Iterable[str],
    schema: str,
    body: Any,
    places: Mapping[str, str],
    more: Iterable[str],
) -> str:
    """One attempt at a run; returns its id.

    schema, body  of its parameters
    more          ids of further results
    """
    here = f"#run-{run.id}-{attempt.n}"
    links = list(links)
    owner = f"run-{run.id}"
    used = [
        graph.value(
            owner,
            "parameters",
            body,
            propertyID=schema,
            identifier=run.parameters,
            exampleOfWork=parameter(graph, "input", "parameters"),
        ),
        graph.value(owner, "seed", run.seed, exampleOfWork=parameter(graph, "input", "seed")),
    ]
    things = {role: [ref(thing) for thing in _things(links, role, places)] for role in ("used", "generated")}
    said: dict[str, Any] = {"kind": run.kind, "campaign": run.campaign, "inputs, SHA-256": run.inputs_sha256}
    values = [graph.value(owner, name, value) for name, value in said.items() if value is not None]
    told: dict[str, Any] = {"attempt": attempt.n, "status": attempt.status, "outputs, SHA-256": attempt.output_sha256}
    values += [graph.value(here, name, value) for name, value in told.items() if value is not None]
    environment = graph.value(f"environment-{attempt.environment_sha256}", "SHA-256", attempt.environment_sha256)
    graph.add(
        here,
        "CreateAction",
        name=f"{run.kind} {run.id[:12]}, attempt {attempt.n}",
        identifier=run.id,
        description=f"attempt {attempt.n} at the {run.kind} {run.id} by {run.software}",
        agent=ref(HOLDER),
        instrument=ref(of_workflow(run.software)),
        object=used + things["used"],
        result=things["generated"] + [ref(one) for one in more],
        startTime=_time(attempt.started),
        endTime=_time(attempt.ended),
        actionStatus=f"http://schema.org/{STATUS[attempt.status]}ActionStatus",
        environment=environment,
        error=canonical_json(dict(attempt.failure)) if attempt.failure else None,
        additionalProperty=values,
        about=[ref(of_subject(key)) for key in sorted(subjects)],
    )
    return here


def _time(stated: str | None) -> str | None:
    """A time as the validator of Process Run Crate wants it: UTC as an offset, not as a letter."""
    return stated.replace("Z", "+00:00") if stated else None


def _things(links: Iterable[Link], role: str, places: Mapping[str, str]) -> Iterator[str]:
    for link in links:
        if link.role != role:
            continue
        if link.artefact is not None:
            yield of_artefact(link.artefact, places)
        elif link.series is not None:
            yield of_series(link.series)
