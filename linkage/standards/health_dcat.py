"""HealthDCAT-AP: one entry of a catalogue for each study, as the European Health Data Space asks a data holder for it.

About data sets, never about persons: nothing of one subject is in it, and counts below the study's smallest cell are
left out. What a store cannot know must be stated (``OPTIONS``); where it is not, the entry says so in words and by
the address ``urn:oncoscale:not-stated``, and must not be published.

Source: Regulation (EU) 2025/327, articles 77 and 79; HealthDCAT-AP Release 5, shapes of level NON_PUBLIC. Release 8 is
written on request (``_health_dcat_8``).
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

from rdflib import RDF, RDFS, XSD, BNode, Graph, Literal, URIRef
from rdflib.term import Node

from ...core.errors import ConfigurationRejected
from ...core.files import write_text
from .. import core
from ..core import Code, Holdings, Study
from . import Gap, Violation
from ._health_dcat_8 import faults as faults_of_8
from ._health_dcat_8 import in_release_8
from ._rdf_terms import turtle
from ._rdf_words import DAYS_A_YEAR, HUMAN

NAME, VERSION = "health-dcat", "5"
FORM, SUFFIX = "file", ".ttl"
PREDICTIONS = False

NOT_STATED = "urn:oncoscale:not-stated"
OPTIONS: Mapping[str, str] = {
    "release": "of HealthDCAT-AP: 5 or 8",
    "publisher_type": "address of what the holder is, in the list of health publisher types (release 8)",
    "hdab": "name of the health data access body",
    "hdab_url": "page of the health data access body",
    "contact_url": "page on which the data are asked for",
    "coverage": "whom the study covers, in words",
}
"""What the holder states: ``oncoscale export … --with hdab_url=https://…``."""

PROVENANCE = "taken from hospitals' images and forms, de-identified on entry, every step on record"
ABOUT_THE_STUDY = {"study.id", "study.title", "study.purpose", "study.legal_basis", "study.retention_until",
                   "biobank.juristic_person"}  # fmt: skip
Triple = tuple[Node, URIRef, Node]


@cache
def _data() -> Mapping[str, Any]:
    return tomllib.loads(files(__package__).joinpath("health_dcat.toml").read_text(encoding="utf-8"))


def _release(name: str) -> Mapping[str, Any]:
    known: Mapping[str, Mapping[str, Any]] = _data()["release"]
    if name not in known:
        raise ConfigurationRejected(
            f"release {name} of HealthDCAT-AP is not written", "one of " + ", ".join(known), "leave release out"
        )
    return known[name]


def _term(short: str) -> URIRef:
    prefix, _, name = short.partition(":")
    return URIRef(_data()["prefixes"][prefix] + name)


def render(holdings: Holdings, out: Path, **stated: str) -> None:
    """Turtle, one ``dcat:Dataset`` a study. Raises ConfigurationRejected for a release that is not written
    and for an address that is none."""
    release = _release(stated.get("release", VERSION))
    for name in ("hdab_url", "contact_url", "publisher_type"):
        if name in stated and not re.fullmatch(r"https?://[^\s<>\"{}|\\^`]+", stated[name]):
            raise ConfigurationRejected(f"{name} is no address of a page", "https://…", "correct the address")
    graph = Graph(bind_namespaces="none")
    for study in holdings.study:
        for triple in _entry(holdings, study, release, stated):
            graph.add(triple)
    if stated.get("release") == "8":
        graph = in_release_8(graph, release, _data()["prefixes"])
    write_text(out, turtle(graph, _data()["prefixes"]))


def _entry(holdings: Holdings, study: Study, release: Mapping[str, Any], stated: Mapping[str, str]) -> Iterator[Triple]:
    here = URIRef("urn:oncoscale:dataset:" + quote(study.id, safe=""))
    said: dict[str, Any] = {
        "dct:title": study.title,
        "dct:identifier": study.id,
        "dct:description": _description(stated),
        "dcat:keyword": release["keywords"],
        "dct:accessRights": URIRef(release["access_rights"]),
        "dcatap:applicableLegislation": URIRef(release["legislation"]),
        "dcat:theme": URIRef(release["theme"]),
        "dct:type": URIRef(release["type"]),
        "healthdcatap:healthCategory": URIRef(release["category"]),
        "healthdcatap:populationCoverage": stated.get("coverage", "subjects of the study whose consent covers it"),
        "healthdcatap:hasCodingSystem": [URIRef(system) for system in _systems(holdings)],
        **_counts(holdings, study.small_cell_k),
    }
    yield here, RDF.type, _term("dcat:Dataset")
    for name, value in said.items():
        for one in value if isinstance(value, list) else [value]:
            yield here, _term(name), one if isinstance(one, Node) else Literal(one)
    yield from _things(holdings, here, study, release, stated)


def _description(stated: Mapping[str, str]) -> str:
    text = ("Images, clinical events, measurements and records of runs of the subjects of a study, under pseudonyms. "
            "Pseudonymised data remain personal data (Regulation (EU) 2016/679, art. 4(5)).")  # fmt: skip
    lacking = [OPTIONS[name] for name in ("hdab", "hdab_url", "contact_url") if name not in stated]
    return f"{text} Not stated, and needed before this entry is published: {'; '.join(lacking)}." if lacking else text


def _things(
    holdings: Holdings, here: URIRef, study: Study, release: Mapping[str, Any], stated: Mapping[str, str]
) -> Iterator[Triple]:
    """What the entry refers to: holder, access body, contacts, distribution, period, purpose, basis, provenance."""
    contact = URIRef(f"{here}:contact")
    yield here, _term("dcat:contactPoint"), contact
    yield from _contact(contact, stated.get("contact_url", NOT_STATED))
    holder = holdings.biobank[0].juristic_person if holdings.biobank else "the holder of the store"
    yield from _agent(here, "dct:publisher", f"{here}:publisher", holder, stated.get("contact_url", NOT_STATED))
    if "publisher_type" in stated:
        yield URIRef(f"{here}:publisher"), _term("dct:type"), URIRef(stated["publisher_type"])
    body = stated.get("hdab", "health data access body: not stated")
    yield from _agent(here, "healthdcatap:hdab", f"{here}:hdab", body, stated.get("hdab_url", NOT_STATED))
    access = URIRef(f"{here}:access")
    yield here, _term("dcat:distribution"), access
    yield access, RDF.type, _term("dcat:Distribution")
    yield access, _term("dct:title"), Literal("access on request")
    yield access, _term("dct:description"), Literal("The data are not public; who may use them is decided on request.")
    yield access, _term("dcatap:applicableLegislation"), URIRef(release["legislation"])
    yield access, _term("dcat:accessURL"), URIRef(stated.get("contact_url", NOT_STATED))
    period = URIRef(f"{here}:retention")
    yield here, _term("healthdcatap:retentionPeriod"), period
    yield period, RDF.type, _term("dct:PeriodOfTime")
    yield period, _term("dcat:endDate"), Literal(study.retention_until, datatype=XSD.date)
    yield from _named(here, "dpv:hasPurpose", f"urn:oncoscale:purpose:{study.purpose.code}", _words(study.purpose))
    basis = f"urn:oncoscale:legal-basis:{quote(study.legal_basis, safe='')}"
    yield from _named(here, "dpv:hasLegalBasis", basis, study.legal_basis)
    yield from _named(here, "dct:provenance", f"{here}:provenance", PROVENANCE)
    yield URIRef(f"{here}:provenance"), RDF.type, _term("dct:ProvenanceStatement")


def _words(code: Code) -> str:
    return f"{code.display or code.code} ({code.system} {code.code})"


def _named(here: URIRef, name: str, iri: str, label: str) -> Iterator[Triple]:
    yield here, _term(name), URIRef(iri)
    yield URIRef(iri), RDFS.label, Literal(label)


def _agent(here: URIRef, name: str, iri: str, label: str, page: str) -> Iterator[Triple]:
    agent, contact = URIRef(iri), URIRef(f"{iri}:contact")
    yield here, _term(name), agent
    yield agent, RDF.type, _term("foaf:Agent")
    yield agent, _term("foaf:name"), Literal(label)
    yield agent, _term("dcat:contactPoint"), contact
    yield from _contact(contact, page)


def _contact(contact: URIRef, page: str) -> Iterator[Triple]:
    yield contact, RDF.type, _term("vcard:Kind")
    yield contact, _term("vcard:hasURL"), URIRef(page)


def _counts(holdings: Holdings, smallest: int) -> dict[str, Literal]:
    """How many people and records, and the ages that no fewer than a smallest cell lie beyond; else nothing."""
    people = [one for one in holdings.subject if one.species.code == HUMAN]
    if len(people) < smallest:
        return {}
    keys = {one.key for one in people}
    tables = (holdings.image_series, holdings.event, holdings.sample, holdings.observation)
    counted = {
        "healthdcatap:numberOfUniqueIndividuals": len(people),
        "healthdcatap:numberOfRecords": sum(one.subject in keys for table in tables for one in table),
    }
    ages = sorted(int(one.age_day0_d / DAYS_A_YEAR) for one in people if one.age_day0_d is not None)
    if len(ages) >= 2 * smallest:
        counted |= {"healthdcatap:minTypicalAge": ages[smallest - 1], "healthdcatap:maxTypicalAge": ages[-smallest]}
    return {name: Literal(value, datatype=XSD.nonNegativeInteger) for name, value in counted.items()}


def _systems(holdings: Holdings) -> list[str]:
    """Code systems of what is held, by their URIs."""
    found = {one.quantity.system for one in holdings.observation} | {one.code.system for one in holdings.event}
    found |= {one.type.system for one in holdings.sample} | {one.modality.system for one in holdings.image_series}
    return sorted(found)


def check(out: Path) -> tuple[Violation, ...]:
    """Numbers and kinds of values as the release asks for, and the level of access."""
    graph = Graph().parse(Path(out).read_bytes(), format="turtle")
    is_8 = bool(set(_of(graph, "cv:ContactPoint")))
    release = _release("8" if is_8 else VERSION)
    found = [Violation("there is an entry", out.name, "none")] if not set(_of(graph, "dcat:Dataset")) else []
    for group in release["rules"]:
        for here in _of(graph, group["class"]):
            found += [fault for rule in group["rules"] for fault in _faults(graph, here, rule)]
    for here in _of(graph, "vcard:Kind"):
        if not {*graph.objects(here, _term("vcard:hasURL")), *graph.objects(here, _term("vcard:hasEmail"))}:
            found.append(Violation("a contact has a page or an address", str(here), "neither"))
    for here in _of(graph, "dcat:Dataset"):
        if set(graph.objects(here, _term("dct:accessRights"))) != {URIRef(release["access_rights"])}:
            found.append(Violation("access is NON_PUBLIC", str(here), "another level"))
    if is_8:
        found += [Violation(*fault) for fault in faults_of_8(graph, release, _data()["prefixes"])]
    return tuple(found)


def _of(graph: Graph, kind: str) -> Iterator[Node]:
    yield from graph.subjects(RDF.type, _term(kind))


def _faults(graph: Graph, here: Node, rule: tuple[str, int, int, str]) -> Iterator[Violation]:
    name, least, most, kind = rule
    values = list(graph.objects(here, _term(name)))
    if len(values) < least or (most and len(values) > most):
        yield Violation(f"{name} occurs {least} to {most or 'any number of'} times", str(here), f"{len(values)} times")
    for value in values:
        if not _is(value, kind):
            yield Violation(f"{name} is a value of kind {kind}", str(here), value.n3()[:60])


def _is(value: Node, kind: str) -> bool:
    match kind:
        case "iri":
            return isinstance(value, URIRef)
        case "node":
            return isinstance(value, URIRef | BNode)
        case "literal":
            return isinstance(value, Literal)
        case "nothing":
            return False
        case _:
            return isinstance(value, Literal) and value.datatype == _term(kind)


def gaps() -> tuple[Gap, ...]:
    """Everything but the study and its holder."""
    persons = "a catalogue describes data sets, never persons or single records (Regulation (EU) 2025/327, art. 77)"
    inner = "a rule of the store, without a term in HealthDCAT-AP Release 5 (class Dataset)"
    said = {path.split(".")[0] for path in ABOUT_THE_STUDY}
    whole = [Gap(f"{table}.*", persons) for table in core.ROWS if table not in said]
    return (*whole, *(Gap(path, inner) for path in core.attributes()
                      if path.split(".")[0] in said and path not in ABOUT_THE_STUDY))  # fmt: skip
