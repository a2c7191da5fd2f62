"""What a question in SPARQL asks of an archive: attributes to fetch, and matching keys that spare rows (QIDO-RS).

    ?p roo:P100284 ?study . ?study dcm:StudyDate ?day ; roo:P100283 ?series . ?series dcm:Modality "MR"
    FILTER (?day >= "20240101")
    → studies with StudyDate=20240101-, their series with Modality=MR, each with the attributes that are named

A key is sent along only where every answer must meet it: of the one series (study, subject) that a question speaks of,
if all that lies below hangs from it, and every study that is spoken of is the one of the series. The archive's rows are
worked out again by the whole question, so that a key saves rows and decides nothing. What cannot be translated is
refused with the reason.

Sources: DICOM PS3.18 §10.6 (QIDO-RS; matching keys in tables 10.6.1-5), PS3.4 §C.2.2.2 (ranges of dates), SPARQL 1.1
(W3C 2013) §18 (algebra). The words are those of the standard ``rdf``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

from rdflib import RDF, BNode, URIRef
from rdflib import Literal as Value
from rdflib.paths import Path as PropertyPath
from rdflib.paths import SequencePath
from rdflib.plugins.sparql.parserutils import CompValue

from ..core.errors import ConfigurationRejected
from .deidentify import attribute_actions, rules
from .standards._rdf_terms import ONCO, PREFIXES, T, short
from .standards._rdf_words import OF_STUDY

Level = Literal["patient", "study", "series"]
LEVELS: tuple[Level, ...] = ("patient", "study", "series")
KEYS: Mapping[Level, tuple[str, ...]] = {
    "patient": ("PatientID",),
    "study": ("StudyInstanceUID", "StudyDate"),
    "series": ("SeriesInstanceUID", "Modality"),
}
"""Attributes by which every archive can match (PS3.18 tables 10.6.1-5), by level."""

NOT_TOLD = {"PN", "SQ", "OB", "OD", "OF", "OL", "OV", "OW", "UN"}
"""Kinds of value that name people, hold others, or are bulk data (PS3.5 §6.2)."""

PATTERNS = {"SelectQuery", "AskQuery", "Project", "Distinct", "Reduced", "OrderBy", "Slice", "Extend", "AggregateJoin",
            "Group", "Filter", "Join", "BGP"}  # fmt: skip
SAID = {"LeftJoin": "OPTIONAL", "Minus": "MINUS", "Union": "UNION", "Graph": "GRAPH", "Builtin_EXISTS": "EXISTS",
        "Builtin_NOTEXISTS": "NOT EXISTS", "ToMultiSet": "VALUES, or a question within the question",
        "ConstructQuery": "CONSTRUCT", "DescribeQuery": "DESCRIBE"}  # fmt: skip

INNER = ("p", "p1", "p2")
"""Where the algebra keeps the patterns within a pattern."""

UID_WORDS: Mapping[URIRef, tuple[Level, str]] = {
    T["has_study_uid"]: ("study", "StudyInstanceUID"),
    T["has_series_uid"]: ("series", "SeriesInstanceUID"),
}
LINKS: Mapping[URIRef, tuple[Level, Level]] = {
    T["has_pacs_study"]: ("patient", "study"),
    T["has_pacs_series"]: ("study", "series"),
}
CLASSES: Mapping[URIRef, Level] = {
    T["dicom_patient"]: "patient",
    T["dicom_study"]: "study",
    T["dicom_series"]: "series",
}

Triple = tuple[Any, Any, Any]


@dataclass(frozen=True)
class Asked:
    """What is asked of an archive.

    study, series  DICOM keywords of the attributes to fetch
    keys           by level: DICOM keyword to what it must match
    """

    study: tuple[str, ...] = ()
    series: tuple[str, ...] = ()
    keys: Mapping[Level, Mapping[str, str]] = field(default_factory=dict)


def asked_of(query: Any) -> Asked:
    """What a question, translated to the algebra, asks of an archive.

    Raises ConfigurationRejected, with the reason, for a question that cannot be asked of one.
    """
    triples, conditions = _read(query.algebra)
    said = [one for triple in triples if (one := _attribute(triple)) is not None]
    terms, below = _terms(triples, said)
    keys = {
        level: _keys([one for one in said if one[0] == level], conditions)
        for place, level in enumerate(LEVELS)
        if len(terms[level]) == 1
        and _all_hang(below, terms, LEVELS[place:])
        and _is_in_every_study(level, below, terms)
    }
    named = {level: tuple(sorted({word for at, word, _, _ in said if at == level})) for level in LEVELS}
    return Asked(named["study"], named["series"], keys)


def _read(algebra: CompValue) -> tuple[list[Triple], list[CompValue]]:
    """(triples, conditions) that every answer meets. Raises ConfigurationRejected for a pattern of another kind."""
    triples: list[Triple] = []
    conditions: list[CompValue] = []
    waiting: list[CompValue] = [algebra]
    while waiting:
        here = waiting.pop()
        if here.name not in PATTERNS:
            raise _refused(SAID.get(here.name, here.name))
        parts = dict(here.items())
        waiting += [parts.pop(name) for name in INNER if name in parts]
        triples += [single for triple in parts.pop("triples", ()) for single in _singly(triple)]
        if here.name == "Filter":
            conditions += _all_of(here.expr)
        _refuse_patterns(list(parts.values()))
    return triples, conditions


def _refuse_patterns(value: Any) -> None:
    """Raises ConfigurationRejected for a pattern inside an expression."""
    if isinstance(value, CompValue):
        if value.name in SAID:
            raise _refused(SAID[value.name])
        for part in value.values():
            _refuse_patterns(part)
    elif isinstance(value, list | tuple | set):
        for part in value:
            _refuse_patterns(part)


def _singly(triple: Triple) -> Iterator[Triple]:
    """A triple; one along a sequence of words as one a word."""
    subject, predicate, thing = triple
    if not isinstance(predicate, PropertyPath):
        yield triple
        return
    if not isinstance(predicate, SequencePath):
        raise _refused("a path that is no plain sequence of words")
    *first, last = predicate.args
    for word in first:
        between = BNode()
        yield from _singly((subject, word, between))
        subject = between
    yield from _singly((subject, last, thing))


def _all_of(condition: Any) -> list[Any]:
    """The parts of a condition that must all hold."""
    if isinstance(condition, CompValue) and condition.name == "ConditionalAndExpression":
        return [part for one in (condition.expr, *condition.other) for part in _all_of(one)]
    return [condition]


Attribute = tuple[Level, str, Any, Any]
"""(level, DICOM keyword, what has it, its value)."""


def _attribute(triple: Triple) -> Attribute | None:
    """The attribute of DICOM that a triple is about, or none. Raises ConfigurationRejected for words of the store."""
    subject, predicate, thing = triple
    if not isinstance(predicate, URIRef):
        raise _refused("a variable in the place of an attribute")
    if predicate == RDF.type and not isinstance(thing, URIRef):
        raise _refused("a variable in the place of a class")
    for term in (predicate, thing if predicate == RDF.type else RDF.type):
        if str(term).startswith((ONCO, PREFIXES["prov"])):
            raise _refused(f"{short(str(term))}, a word for what the store alone knows")
    if predicate in UID_WORDS:
        return (*UID_WORDS[predicate], subject, thing)
    if not predicate.startswith(PREFIXES["dcm"]):
        return None
    keyword = predicate.removeprefix(PREFIXES["dcm"])
    return _level(keyword), keyword, subject, thing


def _level(keyword: str) -> Level:
    """Where an attribute is asked for. Raises ConfigurationRejected for one that cannot be."""
    from pydicom.datadict import dictionary_VR, tag_for_keyword

    tag = tag_for_keyword(keyword)
    if tag is None:
        raise _refused(f"dcm:{keyword}, which is no keyword of DICOM")
    if keyword == "PatientID":
        return "patient"
    if set(dictionary_VR(tag).split(" or ")) & NOT_TOLD:
        raise _refused(f"dcm:{keyword}, which is no plain value")
    if _is_removed(tag, keyword):
        raise _refused(f"dcm:{keyword}, which de-identification takes out")
    return "study" if keyword in OF_STUDY else "series"


def _is_removed(tag: int, keyword: str) -> bool:
    """Whether PS3.15 table E.1-1 takes a value out that is neither an identifier to be mapped, a date nor cleaned."""
    action, options = attribute_actions().get(tag, ("", frozenset()))
    return action not in ("", "U") and "dates" not in options and keyword not in rules("cleaned")


Terms = Mapping[Level, set[Any]]


def _terms(triples: Iterable[Triple], said: Iterable[Attribute]) -> tuple[Terms, Mapping[Level, set[tuple[Any, Any]]]]:
    """(variables and addresses of each level, pairs of one above and one of that level)."""
    terms: dict[Level, set[Any]] = {level: set() for level in LEVELS}
    below: dict[Level, set[tuple[Any, Any]]] = {level: set() for level in LEVELS}
    for level, _, subject, _ in said:
        terms[level].add(subject)
    for subject, predicate, thing in triples:
        if predicate == RDF.type and thing in CLASSES:
            terms[CLASSES[thing]].add(subject)
        if predicate in LINKS:
            upper, lower = LINKS[predicate]
            terms[upper].add(subject)
            terms[lower].add(thing)
            below[lower].add((subject, thing))
    return terms, below


def _all_hang(below: Mapping[Level, set[tuple[Any, Any]]], terms: Terms, levels: tuple[Level, ...]) -> bool:
    """Whether everything of the lower levels belongs to the one of the first."""
    for upper, lower in pairwise(levels):
        (one,) = terms[upper] if len(terms[upper]) == 1 else (None,)
        if any((one, other) not in below[lower] for other in terms[lower]):
            return False
    return True


def _is_in_every_study(level: Level, below: Mapping[Level, set[tuple[Any, Any]]], terms: Terms) -> bool:
    """Whether a series left out takes no study with it: an archive's studies are known by their series alone."""
    if level != "series":
        return True
    (series,) = terms["series"]
    return all((study, series) in below["series"] for study in terms["study"])


def _keys(said: Iterable[Attribute], conditions: Iterable[Any]) -> dict[str, str]:
    """What attributes of one level must match, by keyword."""
    keys = {}
    for level, keyword, _, thing in said:
        if keyword not in KEYS[level]:
            continue
        bounds = [("=", thing)] if isinstance(thing, Value) else list(_bounds(thing, conditions))
        if match := _match(keyword, bounds):
            keys[keyword] = match
    return keys


def _bounds(variable: Any, conditions: Iterable[Any]) -> Iterator[tuple[str, Value]]:
    """(relation, text) that a variable must meet, seen from the variable."""
    turned = {"=": "=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
    for one in conditions:
        if not isinstance(one, CompValue) or one.name != "RelationalExpression" or one.op not in turned:
            continue
        if one.expr == variable and isinstance(one.other, Value):
            yield one.op, one.other
        elif one.other == variable and isinstance(one.expr, Value):
            yield turned[one.op], one.expr


def _match(keyword: str, bounds: Iterable[tuple[str, Value]]) -> str:
    """A matching key (PS3.4 §C.2.2.2), or none: text without wild cards; of dates also a range, bounds included."""
    plain = [(relation, str(value)) for relation, value in bounds if value.datatype is None and value.language is None]
    plain = [(relation, text) for relation, text in plain if text and not set(text) & set("*?\\,&")]
    if keyword != "StudyDate":
        return next((text for relation, text in plain if relation == "="), "")
    days = [(relation, text) for relation, text in plain if len(text) == 8 and text.isdigit()]
    if exact := [text for relation, text in days if relation == "="]:
        return exact[0]
    first = max((text for relation, text in days if relation[0] == ">"), default="")
    last = min((text for relation, text in days if relation[0] == "<"), default="")
    return f"{first}-{last}" if first or last else ""


def _refused(found: str) -> ConfigurationRejected:
    return ConfigurationRejected(
        f"a question that cannot be asked of an archive: {found}",
        "SELECT or ASK over triples and conditions (FILTER), in words for images (dcm:, roo:) and for people",
        "ask the store itself, without --archive, or leave that part out",
    )
