"""RDF: the core as a graph, in the words of the ontologies of radiology and oncology and in our own.

Every attribute is said once, exactly, in the namespace ``urn:oncoscale:``; that is what is read back. On top of it
stands what the Radiation Oncology Ontology, the Radiomics Ontology, Semantic DICOM and PROV-O have words for, so that a
question in those words is answered. ``check`` derives the second layer from the first again: the two cannot disagree.
Predictions are said in our own words and in those of provenance alone. There are no blank nodes.

Sources: ROO (RadiationOncologyOntology/ROO, commit 95d1eab), RO (albytrav/RadiomicsOntologyIBSI, commit a8faf97),
PROV-O (W3C 2013), DPV 2.1. Semantic DICOM has published classes only; ``dcm:`` and a keyword of DICOM as property is a
convention of this project.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from rdflib import RDF, RDFS, XSD, Graph, Literal, URIRef
from rdflib.term import Identifier

from ...core.errors import FileRejected
from ...core.files import canonical_json, write_text
from .. import core
from ..core import ROWS, Code, Holdings, is_code
from . import Gap, Read, Violation
from ._rdf_terms import ONCO, PREFIXES, Triple, node, node_of_code, number, short, turtle
from ._rdf_words import in_their_words

NAME, VERSION = "rdf", "1"
FORM, SUFFIX = "file", ".ttl"
PREDICTIONS = True

KEYS: Mapping[str, tuple[str, ...]] = {
    "subject": ("key",), "enrolment": ("subject", "study"), "image_series": ("uid",), "artefact": ("sha256",),
    "contains": ("artefact", "subject"), "parameter_set": ("sha256",), "run_subject": ("run", "subject"),
    "attempt": ("run", "n"), "link": ("run", "attempt", "role", "port"),
}  # fmt: skip
"""What identifies a row; ``id`` where nothing is said."""

REFERS: Mapping[str, str] = {
    "series": "image_series", "supersedes": "consent", "parameters": "parameter_set",
    **{name: name for name in ("subject", "study", "collection", "biobank", "consent", "event", "run", "decision",
                               "software", "artefact", "sample")},
}  # fmt: skip
"""Fields that name a row of another table; ``parent`` names one of its own."""

JSON = URIRef(ONCO + "json")
DOCUMENT, SCHEMA = URIRef(ONCO + "holdings"), URIRef(ONCO + "schema")


def render(holdings: Holdings, out: Path) -> None:
    """Turtle, the same bytes for the same holdings."""
    write_text(out, turtle(graph_of(holdings)))


def read(path: Path) -> Read:
    """The core from Turtle or N-Triples that this program wrote. Raises FileRejected for anything else."""
    try:
        graph = Graph().parse(Path(path).read_bytes(), format="turtle")
        if graph.value(DOCUMENT, SCHEMA) != Literal(VERSION):
            raise ValueError("schema")
        return Read(core_of(graph))
    except Exception as error:  # the parser has no error of its own for what it cannot parse
        raise FileRejected(
            f"{Path(path).name!r} is not the graph of a store",
            f"Turtle or N-Triples of schema {VERSION}, as `oncoscale export --as rdf` writes",
            "export it again",
        ) from error


def check(out: Path) -> tuple[Violation, ...]:
    """Whether what is said in the ontologies' words is what our own words say, no more and no less."""
    written = set(Graph().parse(Path(out).read_bytes(), format="turtle"))
    meant = set(graph_of(read(out).holdings))
    faults = [("is said without being meant", written - meant), ("is meant without being said", meant - written)]
    return tuple(
        Violation("both layers agree", str(subject), f"{short(str(predicate))} {words}")
        for words, triples in faults
        for subject, predicate, _ in sorted(triples)[:20]
    )


def gaps() -> tuple[Gap, ...]:
    """None: what the ontologies have no word for is said in our own namespace."""
    return ()


def graph_of(holdings: Holdings) -> Graph:
    """Both layers, and the prefixes."""
    graph = Graph(store="SimpleMemory", bind_namespaces="none")
    for prefix, namespace in PREFIXES.items():
        graph.bind(prefix, namespace)
    graph.add((DOCUMENT, RDF.type, URIRef(ONCO + "Holdings")))
    graph.add((DOCUMENT, SCHEMA, Literal(VERSION)))
    for layer in (_exactly(holdings), in_their_words(holdings)):
        for triple in layer:
            graph.add(triple)
    return graph


# Our own words


def _node_of(table: str, row: Any) -> URIRef:
    return node(table, *(getattr(row, name) for name in KEYS.get(table, ("id",))))


def _class(table: str) -> URIRef:
    return URIRef(ONCO + table.title().replace("_", ""))


def _exactly(holdings: Holdings) -> Iterator[Triple]:
    for table, held in core.rows(holdings):
        for row in held:
            here = _node_of(table, row)
            yield here, RDF.type, _class(table)
            for one in fields(row):
                value = getattr(row, one.name)
                if value is None:
                    continue
                yield here, URIRef(ONCO + one.name), _object(table, one.name, value)
                if isinstance(value, Code):
                    yield from _code(value)


def _object(table: str, name: str, value: Any) -> URIRef | Literal:
    if isinstance(value, Code):
        return node_of_code(value)
    if name in REFERS and name != table:
        return node(REFERS[name], value)
    if name == "parent":
        return node(table, value)
    if isinstance(value, Mapping | tuple):
        return Literal(canonical_json(list(value) if isinstance(value, tuple) else dict(value)), datatype=JSON)
    return number(value) if isinstance(value, int | float) else Literal(value)


def _code(code: Code) -> Iterator[Triple]:
    here = node_of_code(code)
    yield here, RDF.type, URIRef(ONCO + "Code")
    for name in ("system", "version", "code", "display"):
        yield here, URIRef(ONCO + name), Literal(getattr(code, name))
    if code.display:
        yield here, RDFS.label, Literal(code.display)


def core_of(graph: Graph) -> Holdings:
    """The rows that our own words say. Raises ValueError, TypeError or KeyError for rows that are none."""
    return Holdings(**{table: tuple(_rows(graph, table)) for table in ROWS})


def _rows(graph: Graph, table: str) -> Iterator[Any]:
    row = ROWS[table]
    for here in graph.subjects(RDF.type, _class(table)):
        said = {one.name: graph.value(here, URIRef(ONCO + one.name), any=False) for one in fields(row)}
        values = {name: _value(graph, row, name, value) for name, value in said.items() if value is not None}
        yield row(**dict.fromkeys(_required(row)) | values)


@cache
def _required(row: type) -> tuple[str, ...]:
    """Fields that may be None but have no default."""
    return tuple(one.name for one in fields(row) if str(one.type).endswith("| None"))


def _value(graph: Graph, row: type, name: str, value: Any) -> Any:
    if is_code(row, name):
        parts = {
            part: str(graph.value(value, URIRef(ONCO + part))) for part in ("system", "code", "display", "version")
        }
        return Code(**parts)
    if isinstance(value, URIRef):
        return unquote(str(value).rpartition(":")[2])
    if value.datatype == JSON:
        content = json.loads(value)
        return tuple(content) if isinstance(content, list) else content
    return float(value) if value.datatype == XSD.double else value.toPython()


def foreign_terms(graph: Graph) -> frozenset[str]:
    """Every IRI of the graph outside our own namespace."""
    iris: set[Identifier] = {term for triple in graph for term in triple if isinstance(term, URIRef)}
    return frozenset(str(iri) for iri in iris if not iri.startswith(ONCO))
