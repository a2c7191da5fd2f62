"""The catalogue's entry: judged by the official shapes and by another library's models, and silent about persons."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from rdflib import Graph, Literal, URIRef

from oncoscale.core.errors import ConfigurationRejected
from oncoscale.linkage.core import Code
from oncoscale.linkage.reference import reference_cohort
from oncoscale.linkage.standards import health_dcat
from oncoscale.linkage.standards._rdf_terms import turtle

COHORT = reference_cohort(5, 12)
SPACE = "http://healthdataportal.eu/ns/health#"
DATASET = "<urn:oncoscale:dataset:project>"


def entry(folder: Path, holdings=COHORT, **stated: str) -> Path:
    out = folder / f"entry-{len(list(folder.iterdir()))}.ttl"
    health_dcat.render(holdings, out, **stated)
    return out


def said(path: Path, name: str) -> list[object]:
    return [one.toPython() for one in Graph().parse(path, format="turtle").objects(None, URIRef(SPACE + name))]


FAULTS = {
    "no access body": (f"DELETE {{ {DATASET} healthdcatap:hdab ?o }} WHERE {{ {DATASET} healthdcatap:hdab ?o }}"),
    "two access bodies": (f"INSERT DATA {{ {DATASET} healthdcatap:hdab <urn:oncoscale:other> }}"),
    "an untyped count": (
        "DELETE { ?s healthdcatap:numberOfRecords ?o } INSERT { ?s healthdcatap:numberOfRecords 12 } "
        "WHERE { ?s healthdcatap:numberOfRecords ?o }"
    ),
    "public access": (
        f"INSERT DATA {{ {DATASET} dct:accessRights "
        "<http://publications.europa.eu/resource/authority/access-right/PUBLIC> }"
    ),
    "no contact": (f"DELETE {{ {DATASET} dcat:contactPoint ?o }} WHERE {{ {DATASET} dcat:contactPoint ?o }}"),
    "no category": "DELETE { ?s healthdcatap:healthCategory ?o } WHERE { ?s healthdcatap:healthCategory ?o }",
    "a distribution without a law": (
        "DELETE { ?s dcatap:applicableLegislation ?o } "
        "WHERE { ?s a dcat:Distribution; dcatap:applicableLegislation ?o }"
    ),
    "a distribution without a title": "DELETE { ?s dct:title ?o } WHERE { ?s a dcat:Distribution; dct:title ?o }",
    "a contact without a page": "DELETE { ?s vcard:hasURL ?o } WHERE { ?s vcard:hasURL ?o }",
    "an identifier that is an address": (
        f"DELETE {{ {DATASET} dct:identifier ?o }} INSERT {{ {DATASET} dct:identifier <urn:oncoscale:x> }} "
        f"WHERE {{ {DATASET} dct:identifier ?o }}"
    ),
}
CAUGHT = {
    "no access body": ("own", "pyshacl"),
    "two access bodies": ("own", "pyshacl", "sempyro"),
    "an untyped count": ("own", "pyshacl"),
    "public access": ("own", "pyshacl", "sempyro"),
    "no contact": ("own", "pyshacl", "sempyro"),
    "no category": ("own", "pyshacl", "sempyro"),
    "a distribution without a law": ("own", "pyshacl", "sempyro"),
    "a distribution without a title": ("own", "sempyro"),
    "a contact without a page": ("own", "pyshacl"),
    "an identifier that is an address": ("own", "pyshacl"),
}
"""Who catches which fault: our own check, the official shapes, the models of sempyro."""

BY_SHAPES = (
    "import sys, pyshacl\n"
    "for path in sys.argv[2:]:\n"
    "    print(pyshacl.validate(path, shacl_graph=sys.argv[1], advanced=True, do_owl_imports=False)[0])\n"
)
"""Run by the judges' interpreter: for each entry, whether the shapes are met."""


def broken(path: Path, fault: str) -> Path:
    """A copy of the entry with one fault."""
    graph = Graph().parse(path, format="turtle")
    graph.update(FAULTS[fault], initNs=health_dcat._data()["prefixes"])
    out = path.with_name(fault.replace(" ", "-") + ".ttl")
    out.write_text(turtle(graph, health_dcat._data()["prefixes"]))
    return out


@pytest.mark.parametrize("fault", CAUGHT)
def test_our_own_check_catches_its_part(fault: str, tmp_path: Path):
    """Each fault of the table is found; the entry without one is free of faults."""
    good = entry(tmp_path)
    assert health_dcat.check(good) == ()
    assert bool(health_dcat.check(broken(good, fault))) is ("own" in CAUGHT[fault])


def test_the_official_shapes_accept_the_entry_and_reject_broken_ones(judge, shared: Path, tmp_path: Path):
    """No violation by pyshacl with the shapes of Release 5, level NON_PUBLIC; as the table says for broken entries."""
    shapes = shared / "standards" / "health-dcat" / "healthdcat-ap-r5-nonpublic-shapes.ttl"
    good = entry(tmp_path, hdab="Body", hdab_url="https://example.org/hdab", contact_url="https://example.org/ask")
    files = {"none": good} | {fault: broken(good, fault) for fault in CAUGHT}
    answer = judge("python", "-c", BY_SHAPES, shapes, *files.values())
    conforms = dict(zip(files, answer.stdout.split()))
    assert conforms == {"none": "True"} | {fault: str("pyshacl" not in judges) for fault, judges in CAUGHT.items()}


def test_another_librarys_models_accept_the_entry_and_reject_broken_ones(judge, tmp_path: Path):
    """sempyro's models of dataset and distribution, as the table says."""
    good = entry(tmp_path)
    files = {str(good): "none"} | {str(broken(good, fault)): fault for fault in CAUGHT}
    answer = judge("python", Path(__file__).parent / "dcat_models.py", *files)
    faults = {files[path]: found for path, found in json.loads(answer.stdout).items()}
    assert faults.pop("none") == []
    assert {fault for fault, found in faults.items() if found} == {
        fault for fault, judges in CAUGHT.items() if "sempyro" in judges
    }


def test_no_person_and_no_single_record_is_in_it(tmp_path: Path):
    """Neither a pseudonym nor an identifier of a sample, an event, a series or a run."""
    text = entry(tmp_path).read_text()
    names = [one.key for one in COHORT.subject] + [one.uid for one in COHORT.image_series]
    names += [one.id for one in (*COHORT.run, *COHORT.sample, *COHORT.event, *COHORT.observation)]
    assert not [name for name in names if name in text]


def test_counts_below_the_smallest_cell_are_left_out(tmp_path: Path):
    """Four people are not counted; neither are their records; twelve are, and animals are no individuals."""
    few = entry(tmp_path, reference_cohort(5, 4))
    assert said(few, "numberOfUniqueIndividuals") == said(few, "numberOfRecords") == said(few, "maxTypicalAge") == []
    mouse = Code("http://snomed.info/sct", "447612001", "Mus musculus")
    mice = tuple(replace(one, species=mouse) for one in COHORT.subject[:8])
    animals = replace(COHORT, subject=mice + COHORT.subject[8:])
    assert said(entry(tmp_path, animals), "numberOfUniqueIndividuals") == []
    people = sum(one.species.code == health_dcat.HUMAN for one in COHORT.subject)
    assert said(entry(tmp_path), "numberOfUniqueIndividuals") == [people]


def test_an_age_that_is_told_is_no_single_persons(tmp_path: Path):
    """Up to the lowest age that is told, and from the highest, there are as many people as the smallest cell has."""
    aged = tuple(replace(one, age_day0_d=400 * place) for place, one in enumerate(COHORT.subject))
    cohort = replace(COHORT, subject=tuple(replace(one, species=COHORT.subject[0].species) for one in aged))
    ages = sorted(int(400 * place / 365.25) for place in range(12))
    out = entry(tmp_path, cohort)
    assert (said(out, "minTypicalAge"), said(out, "maxTypicalAge")) == ([ages[4]], [ages[-5]])


def test_what_the_holder_must_state_is_asked_for(tmp_path: Path):
    """Unstated, the entry says so and names no address of the web; stated, it does not."""
    text = entry(tmp_path).read_text()
    assert "Not stated, and needed before this entry is published" in text
    stated = {"hdab": "Body", "hdab_url": "https://example.org/hdab", "contact_url": "https://example.org/ask"}
    full = entry(tmp_path, **stated).read_text()
    assert health_dcat.NOT_STATED not in full
    assert "<https://example.org/hdab>" in full


STATED = {"hdab": "Body", "hdab_url": "https://example.org/hdab", "contact_url": "https://example.org/ask"}
FAULTS_OF_8 = {
    "a concept of no scheme": "DELETE { ?s skos:inScheme ?o } WHERE { ?s a dct:RightsStatement; skos:inScheme ?o }",
    "a scheme without a title": "DELETE { ?s dct:title ?o } WHERE { ?s a skos:ConceptScheme; dct:title ?o }",
    "a publisher with a card": (f"INSERT {{ ?p dcat:contactPoint {DATASET} }} WHERE {{ {DATASET} dct:publisher ?p }}"),
    "an agent without a contact": "DELETE { ?s cv:contactPoint ?o } WHERE { ?s cv:contactPoint ?o }",
    "not said whether structured": (
        "DELETE { ?s healthdcatap:hasStructuredData ?o } WHERE { ?s healthdcatap:hasStructuredData ?o }"
    ),
    "a standard of one's own": f"INSERT DATA {{ {DATASET} dct:conformsTo <urn:oncoscale:schema> }}",
    "a variable twice": ("DELETE { ?s csvw:name ?o } INSERT { ?s csvw:name 'x' } WHERE { ?s csvw:name ?o }"),
}


def test_release_8_says_the_same_in_its_own_words(tmp_path: Path):
    """Counts, purpose and access are those of Release 5; contact points, schemes, standards and variables are new."""
    five, eight = (Graph().parse(entry(tmp_path, **STATED, release=name), format="turtle") for name in "58")
    words = health_dcat._data()["prefixes"]
    same = "SELECT ?n ?k ?t { ?d healthdcatap:numberOfRecords ?n; dct:accessRights ?k; dct:title ?t }"
    assert set(five.query(same, initNs=words)) == set(eight.query(same, initNs=words)) != set()
    pages = {
        str(one[0])
        for one in eight.query("SELECT ?p { ?a a foaf:Agent; cv:contactPoint/cv:contactPage ?p }", initNs=words)
    }
    assert pages == {STATED["hdab_url"], STATED["contact_url"]}
    systems = {
        str(one[0]).rpartition("/")[2]
        for one in eight.query("SELECT ?c { ?d healthdcatap:hasCodingSystem ?c }", initNs=words)
    }
    assert systems == {"SNOMED-CT", "ICD-10", "ATC"}
    columns = {str(one[0]) for one in eight.query("SELECT ?n { ?c a csvw:Column; csvw:name ?n }", initNs=words)}
    assert {"subject.sex", "event.day", "observation.value", "image_series.modality"} <= columns
    text = entry(tmp_path, release="8").read_text()
    assert not [one.key for one in COHORT.subject if one.key in text]


@pytest.mark.parametrize("fault", FAULTS_OF_8)
def test_our_own_check_catches_faults_of_release_8(fault: str, tmp_path: Path):
    """Each fault is found; the entry without one is free of faults."""
    good = entry(tmp_path, **STATED, release="8")
    assert health_dcat.check(good) == ()
    graph = Graph().parse(good, format="turtle")
    graph.update(FAULTS_OF_8[fault], initNs=health_dcat._data()["prefixes"])
    (tmp_path / "bad.ttl").write_text(turtle(graph, health_dcat._data()["prefixes"]))
    assert health_dcat.check(tmp_path / "bad.ttl")


@pytest.mark.parametrize(
    "stated",
    [{"release": "9"}, {"publisher_type": "hospital"}, {"hdab_url": "nowhere"}, {"contact_url": "https://a> . <b"}],
)
def test_what_cannot_be_written_is_refused(stated: dict[str, str], tmp_path: Path):
    """A release without shapes, and addresses that are none."""
    with pytest.raises(ConfigurationRejected):
        health_dcat.render(COHORT, tmp_path / "entry.ttl", **stated)
    assert list(tmp_path.iterdir()) == []


def test_purpose_and_legal_basis_are_told_in_words(tmp_path: Path):
    """A reader without our namespace understands them."""
    labels = {str(one) for one in Graph().parse(entry(tmp_path), format="turtle").objects() if isinstance(one, Literal)}
    assert {"consent", "healthcare research (http://terminology.hl7.org/CodeSystem/v3-ActReason HRESCH)"} <= labels
