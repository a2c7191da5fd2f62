"""Terms and nodes of the graph that the standard ``rdf`` renders, and Turtle written from it."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from hashlib import sha256
from importlib.resources import files
from typing import Any
from urllib.parse import quote

from rdflib import XSD, Graph, Literal, URIRef
from rdflib.term import Node

from ...core.files import canonical_json
from ..core import Code

_DATA = tomllib.loads(files(__package__).joinpath("rdf.toml").read_text(encoding="utf-8"))
PREFIXES: Mapping[str, str] = _DATA["prefixes"]
"""Prefix to namespace; none need be declared in a question to the store."""

ONCO = PREFIXES["onco"]
Triple = tuple[URIRef, URIRef, Node]


def _term(short: str) -> URIRef:
    prefix, name = short.split(":")
    return URIRef(PREFIXES[prefix] + name)


T: Mapping[str, URIRef] = {name: _term(short) for name, short in _DATA["terms"].items()}
SEXES: Mapping[str, URIRef] = {name: _term(short) for name, short in _DATA["sexes"].items()}
UNITS: Mapping[str, URIRef] = {name: _term(short) for name, short in _DATA["units"].items()}
"""UCUM code to the term."""


def node(table: str, *key: Any) -> URIRef:
    """The IRI of a row."""
    return URIRef(f"{ONCO}{table}:" + ":".join(quote(str(part), safe="") for part in key))


def node_of_code(code: Code) -> URIRef:
    """The IRI of a coded value."""
    parts = (code.system, code.version, code.code, code.display)
    return node("code", sha256(canonical_json(parts).encode()).hexdigest()[:32])


def number(value: float) -> Literal:
    """A whole number, or one of double precision with all its digits."""
    return Literal(value) if isinstance(value, int) else Literal(repr(value), datatype=XSD.double)


def turtle(graph: Graph, prefixes: Mapping[str, str] = PREFIXES) -> str:
    """Turtle, sorted. (The library's own writer keeps seven digits of a number.)"""
    blocks = ["\n".join(f"@prefix {prefix}: <{namespace}> ." for prefix, namespace in prefixes.items())]
    for subject in sorted({one for one in graph.subjects() if isinstance(one, URIRef)}):
        said = sorted(
            f"{short(str(one), prefixes)} {_written(value, prefixes)}"
            for one, value in graph.predicate_objects(subject)
        )
        blocks.append(f"{short(str(subject), prefixes)}\n    " + " ;\n    ".join(said) + " .")
    return "\n\n".join(blocks) + "\n"


def _written(value: Node, prefixes: Mapping[str, str]) -> str:
    if isinstance(value, URIRef):
        return short(str(value), prefixes)
    text = value.n3()
    plain, mark, datatype = text.rpartition("^^<")
    return f"{plain}^^{short(datatype[:-1], prefixes)}" if mark else text


def short(iri: str, prefixes: Mapping[str, str] = PREFIXES) -> str:
    """An IRI as Turtle has it: with its prefix where that can be."""
    found = [(len(space), prefix) for prefix, space in prefixes.items() if iri.startswith(space)]
    if found and re.fullmatch(r"\w+", name := iri[max(found)[0] :], re.ASCII):
        return f"{max(found)[1]}:{name}"
    return f"<{iri}>"
