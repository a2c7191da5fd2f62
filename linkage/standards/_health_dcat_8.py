"""HealthDCAT-AP Release 8: what differs from an entry of Release 5, made from one.

A publisher has a contact point of the core vocabulary, every concept of an authority list states its scheme, coding
systems are standards of such a list, and the variables are told as tables. Of the code systems in use, those that the
list has are named. Technical standards (``dct:conformsTo``) are left out: addresses of that list were not at hand.

Source: implementer's notes and source of the package sdchealthdcatap 4.1.1 (Apache-2.0), written against
healthdataeu/healthdcat-ap, commit cd7841f. Its shapes are in no registry; no judge but our own check has seen an entry.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

from rdflib import RDF, RDFS, XSD, Graph, Literal, URIRef
from rdflib.term import Node

from .. import core

Triple = tuple[Node, URIRef, Node]
NUMBERS = {"int": "integer", "float": "double", "bool": "boolean"}


def in_release_8(entry: Graph, release: Mapping[str, Any], prefixes: Mapping[str, str]) -> Graph:
    """The same entry as Release 8 says it."""
    words = _Words(prefixes)
    made = Graph(bind_namespaces="none")
    for triple in (*_kept(entry, words), *_contacts(entry, words), *_concepts(entry, release, words),
                   *_systems(entry, release, words), *_variables(entry, release, words)):  # fmt: skip
        made.add(triple)
    return made


class _Words:
    """Terms by their short names."""

    def __init__(self, prefixes: Mapping[str, str]):
        self.prefixes = prefixes

    def __getitem__(self, short: str) -> URIRef:
        prefix, _, name = short.partition(":")
        return URIRef(self.prefixes[prefix] + name)


def _kept(entry: Graph, words: _Words) -> Iterator[Triple]:
    """What stays, and what a purpose, a basis, a law and a custodian are besides."""
    agents = set(entry.subjects(RDF.type, words["foaf:Agent"]))
    theirs = {contact for agent in agents for contact in entry.objects(agent, words["dcat:contactPoint"])}
    for subject, predicate, thing in entry:
        is_theirs = subject in theirs or (subject in agents and predicate == words["dcat:contactPoint"])
        if not is_theirs and predicate != words["healthdcatap:hasCodingSystem"]:
            yield subject, predicate, thing  # type: ignore[misc]
    for name, kind in (("dpv:hasPurpose", "dpv:Purpose"), ("dpv:hasLegalBasis", "dpv:LegalBasis")):
        for thing in set(entry.objects(None, words[name])):
            yield thing, RDF.type, words[kind]
            yield thing, words["dct:description"], Literal(str(entry.value(thing, RDFS.label)))
    for law in set(entry.objects(None, words["dcatap:applicableLegislation"])):
        yield law, RDF.type, words["eli:LegalResource"]
    for here, holder in entry.subject_objects(words["dct:publisher"]):
        yield here, words["geodcatap:custodian"], holder


def _contacts(entry: Graph, words: _Words) -> Iterator[Triple]:
    """Each agent's one contact point, of the core vocabulary in place of a card."""
    for agent in entry.subjects(RDF.type, words["foaf:Agent"]):
        card = entry.value(agent, words["dcat:contactPoint"])
        contact = URIRef(f"{agent}:contact")
        yield agent, words["cv:contactPoint"], contact
        yield contact, RDF.type, words["cv:ContactPoint"]
        yield contact, words["cv:contactPage"], entry.value(card, words["vcard:hasURL"])  # type: ignore[misc]


def _concepts(entry: Graph, release: Mapping[str, Any], words: _Words) -> Iterator[Triple]:
    """Every concept that is named says of which list it is."""
    named = {term for term in entry.objects() if isinstance(term, URIRef)}
    for scheme, about in release["schemes"].items():
        for concept in sorted(one for one in named if one.startswith(f"{scheme}/")):
            yield from _concept(concept, scheme, about["title"], str(concept).rpartition("/")[2], words)
    yield URIRef(release["access_rights"]), RDF.type, words["dct:RightsStatement"]


def _concept(concept: URIRef, scheme: str, title: str, label: str, words: _Words) -> Iterator[Triple]:
    yield concept, RDF.type, words["skos:Concept"]
    yield concept, words["skos:prefLabel"], Literal(label)
    yield concept, words["skos:inScheme"], URIRef(scheme)
    yield URIRef(scheme), RDF.type, words["skos:ConceptScheme"]
    yield URIRef(scheme), words["dct:title"], Literal(title)


def _systems(entry: Graph, release: Mapping[str, Any], words: _Words) -> Iterator[Triple]:
    """Code systems in use that the list of coding systems has."""
    about = release["coding_systems"]
    for here, system in entry.subject_objects(words["healthdcatap:hasCodingSystem"]):
        if name := about["names"].get(str(system)):
            concept = URIRef(f"{about['scheme']}/{name}")
            yield here, words["healthdcatap:hasCodingSystem"], concept
            yield concept, RDF.type, words["dct:Standard"]
            yield from _concept(concept, about["scheme"], about["title"], name, words)


def _variables(entry: Graph, release: Mapping[str, Any], words: _Words) -> Iterator[Triple]:
    """The data dictionary: a table a kind of fact, a column an attribute; it names kinds, never a value."""
    for here in entry.subjects(RDF.type, words["dcat:Dataset"]):
        group = URIRef(f"{here}:variables")
        yield here, words["healthdcatap:hasStructuredData"], Literal(True)
        yield here, words["healthdcatap:hasVariables"], group
        yield group, RDF.type, words["csvw:TableGroup"]
        yield group, words["dct:title"], Literal("what is held of a subject")
        yield group, words["dct:description"], Literal("attributes by kind of fact, under pseudonyms; days, no dates")
        for name in release["variables"]:
            yield from _table(group, name, words)


def _table(group: URIRef, name: str, words: _Words) -> Iterator[Triple]:
    row = core.ROWS[name]
    table, meaning = URIRef(f"{group}:{name}"), str(row.__doc__).split("\n", 1)[0]
    yield group, words["csvw:table"], table
    yield table, RDF.type, words["csvw:Table"]
    yield table, words["dct:title"], Literal(name)
    yield table, words["dct:description"], Literal(meaning)
    for one in fields(row):
        column, kind = URIRef(f"{table}:{one.name}"), str(one.type).split(" |")[0]
        yield table, words["csvw:column"], column
        yield column, RDF.type, words["csvw:Column"]
        yield column, words["csvw:name"], Literal(f"{name}.{one.name}")
        yield column, words["csvw:title"], Literal(one.name.replace("_", " "))
        yield column, words["csvw:datatype"], Literal(NUMBERS.get(kind, "string"))
        yield column, words["dct:description"], Literal(f"{one.name} of {name}: {meaning}")


def faults(graph: Graph, release: Mapping[str, Any], prefixes: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """(rule, where, found) for what Release 8 asks for beyond numbers and kinds of values."""
    words = _Words(prefixes)
    schemes = (*release["schemes"], release["coding_systems"]["scheme"])
    for term in sorted({one for one in graph.objects() if isinstance(one, URIRef)}):
        scheme = next((one for one in schemes if term.startswith(f"{one}/")), None)
        if scheme and set(graph.objects(term, words["skos:inScheme"])) != {URIRef(scheme)}:
            yield "a concept states its scheme", str(term), "no scheme, or another"
    for scheme in set(graph.objects(None, words["skos:inScheme"])):
        if (scheme, words["dct:title"], None) not in graph:
            yield "a scheme has a title", str(scheme), "none"
    for here in graph.subjects(RDF.type, words["dcat:Dataset"]):
        if (here, words["healthdcatap:hasStructuredData"], Literal(True, datatype=XSD.boolean)) not in graph:
            yield "it is said whether the data are structured", str(here), "nothing"
        for standard in graph.objects(here, words["dct:conformsTo"]):
            yield "technical standards are of the list", str(here), str(standard)
    names = [str(one) for one in graph.objects(None, words["csvw:name"])]
    if len(set(names)) != len(names):
        yield "a variable has a name of its own", "csvw:name", "a name twice"
