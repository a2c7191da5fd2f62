"""The graph: terms that exist, questions in the ontologies' words, and two layers that cannot disagree."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from rdflib import PROV, Graph, URIRef

from oncoscale.core.errors import FileRejected
from oncoscale.linkage.core import Code, Holdings, Observation
from oncoscale.linkage.reference import reference_cohort
from oncoscale.linkage.standards import rdf
from oncoscale.linkage.standards._rdf_terms import PREFIXES, SEXES, UNITS, T
from oncoscale.linkage.standards._rdf_words import IBSI, radiomics_codes

COHORT, SMALL = reference_cohort(5, 6), reference_cohort(7, 2)
IN_OWL = ("ncit", "roo", "ro", "uo", "swo")


@pytest.fixture(scope="module")
def known(shared: Path) -> set[str]:
    return known_terms(shared)


def known_terms(shared: Path) -> set[str]:
    """Every IRI in the files of the two ontologies."""
    graph = Graph()
    for name in ("roo.owl", "ro.owl"):
        graph.parse(shared / "standards" / "ontologies" / name, format="xml")
    return {str(term) for triple in graph for term in triple if isinstance(term, URIRef)}


@pytest.fixture(scope="module")
def graph() -> Graph:
    """Of the cohort; nothing is added to it."""
    return rdf.graph_of(COHORT)


def strangers(graph: Graph, known: set[str]) -> set[str]:
    """IRIs that stand neither in an ontology nor in DICOM's dictionary, PROV-O, DPV or the basic vocabularies."""
    from pydicom.datadict import tag_for_keyword

    found = set()
    for iri in rdf.foreign_terms(graph):
        prefix, space = max(((p, s) for p, s in PREFIXES.items() if iri.startswith(s)), key=lambda x: len(x[1]),
                            default=("", ""))  # fmt: skip
        name = iri[len(space) :]
        fine = {
            "dcm": iri in known or tag_for_keyword(name) is not None,
            "prov": name in PROV,
            "icd": name[:1].isalpha() and name[1:3].isdigit(),
            "dpv": name in ("hasPurpose", "hasLegalBasis"),
            "rdf": name == "type",
            "rdfs": name == "label",
        }.get(prefix, prefix in IN_OWL and iri in known)
        if not fine:
            found.add(iri)
    return found


def test_every_term_exists(known: set[str]):
    """Of a cohort, of the whole table of terms, and of every radiomic feature that may be named."""
    graph = rdf.graph_of(COHORT)
    for term in (*T.values(), *SEXES.values(), *UNITS.values()):
        graph.add((URIRef("urn:oncoscale:x"), URIRef("urn:oncoscale:y"), term))
    for code in radiomics_codes():
        graph.add((URIRef("urn:oncoscale:x"), URIRef("urn:oncoscale:y"), URIRef(PREFIXES["ro"] + code)))
    assert strangers(graph, known) == set()


def test_the_judge_of_terms_objects(known: set[str]):
    """The old ROO names, O-RAW's relative IRIs and IBSI's 1128 are in no ontology."""
    graph = Graph()
    wrong = {
        PREFIXES["roo"] + "100018",
        PREFIXES["ro"] + "1128",
        "www.radiomics.org/RO/RNU0",
        PREFIXES["dcm"] + "Nonsense",
    }
    for iri in wrong:
        graph.add((URIRef("urn:oncoscale:x"), URIRef("urn:oncoscale:y"), URIRef(iri)))
    assert strangers(graph, known) == wrong


@pytest.mark.parametrize("sex", ["female", "male"])
def test_a_question_in_the_ontologies_words_is_answered(graph: Graph, sex: str):
    """Subjects by sex, in the words of ROO and NCIt alone, are those that the core holds."""
    asked = f"SELECT ?key {{ ?p roo:P100018/a {SEXES[sex].n3()}; roo:P100061/roo:P100042 ?key }}"
    found = {str(row.key) for row in graph.query(asked, initNs=PREFIXES)}
    assert found == {one.key for one in COHORT.subject if one.sex == sex}
    assert found


def test_features_are_found_by_their_ibsi_code(graph: Graph):
    """Values and units of mesh volumes, in the words of the Radiomics Ontology."""
    asked = "SELECT ?value { ?f a ro:RNU0; roo:P100042 ?value; ro:P00099/a ro:649G; ro:P00002/ro:P00101 ?version }"
    found = sorted(float(row.value) for row in graph.query(asked, initNs=PREFIXES))
    assert found == sorted(one.value for one in COHORT.observation if one.quantity.code == "RNU0")
    assert found


def test_images_are_found_by_dicom_attributes(graph: Graph):
    """Series of a modality and a field strength, by DICOM's keywords."""
    asked = 'SELECT ?uid { ?s dcm:Modality "MR"; dcm:MagneticFieldStrength "3"; dcm:SeriesInstanceUID ?uid }'
    found = {str(row.uid) for row in graph.query(asked, initNs=PREFIXES)}
    assert found == {one.uid for one in COHORT.image_series if one.role == "original"}


def test_an_age_is_one_at_diagnosis_only_if_day_0_is_it():
    """ROO has a word for the age at diagnosis; it is not used for the age at the first images."""
    asked = "SELECT ?p { ?p roo:P100016 ?age }"
    aged = [replace(COHORT.subject[0], age_day0_d=1000, day0_kind=kind) for kind in ("diagnosis", "first-imaging")]
    found = [len(rdf.graph_of(Holdings(subject=(one,))).query(asked, initNs=PREFIXES)) for one in aged]
    assert found == [1, 0]


def test_predictions_are_never_said_in_the_words_for_what_was_seen(graph: Graph):
    """Who looks for predictions finds them all; none is a feature, a volume or an image of anybody."""
    nodes = set(graph.query("SELECT ?p { ?p a onco:Prediction }", initNs=PREFIXES))
    assert len(nodes) == len(COHORT.prediction) > 0
    words = {PREFIXES[name] for name in ("ro", "roo", "dcm", "ncit")}
    for (here,) in nodes:
        touching = {str(term) for triple in (*graph.triples((here, None, None)), *graph.triples((None, None, here)))
                    for term in triple}  # fmt: skip
        assert not [iri for iri in touching if any(iri.startswith(word) for word in words)]


def test_a_feature_without_a_class_is_said_in_our_words_alone():
    """Robust mean absolute deviation: IBSI 1128, another code in the ontology; the observation is kept nevertheless."""
    one = Observation("O-1", COHORT.subject[0].key, Code(IBSI, "1128", "robust mean absolute deviation"), 1.5)
    graph = rdf.graph_of(Holdings(subject=COHORT.subject[:1], observation=(one,)))
    assert rdf.core_of(graph).observation == (one,)
    assert not [iri for iri in rdf.foreign_terms(graph) if iri.startswith(PREFIXES["ro"])]


MUTATIONS = {
    "wrong sex": ("ncit:C16576", "ncit:C20197"),
    "swapped UID": ("roo:P100305", "roo:P100309"),
    "a prediction as a measured volume": ("rdf:type onco:Prediction", "rdf:type onco:Prediction, ro:RNU0"),
    "another number in their words": ("roo:P100042 \"", "roo:P100042 \"1"),
    "a modality that is none": ('dcm:Modality "MR"', 'dcm:Modality "XX"'),
}  # fmt: skip


@pytest.mark.parametrize(("before", "after"), MUTATIONS.values(), ids=MUTATIONS)
def test_the_check_objects_to_broken_graphs(before: str, after: str, tmp_path: Path):
    """Whatever is changed in the ontologies' words no longer agrees with our own."""
    rdf.render(SMALL, tmp_path / "good.ttl")
    text = (tmp_path / "good.ttl").read_text()
    assert before in text
    (tmp_path / "bad.ttl").write_text(text.replace(before, after, 1))
    assert rdf.check(tmp_path / "bad.ttl")


def test_ntriples_are_read_and_a_broken_file_is_refused(graph: Graph, tmp_path: Path):
    """The same graph in the other notation gives the same core; a file cut in a triple is told in words."""
    graph.serialize(tmp_path / "a.nt", format="nt", encoding="utf-8")
    assert set(rdf.read(tmp_path / "a.nt").holdings.subject) == set(COHORT.subject)
    (tmp_path / "cut.nt").write_bytes((tmp_path / "a.nt").read_bytes()[:-20])
    with pytest.raises(FileRejected, match="not the graph"):
        rdf.read(tmp_path / "cut.nt")


def test_another_program_reads_the_same_triples(graph: Graph, judge, tmp_path: Path):
    """The Turtle parser of another environment counts as many triples as were meant, and refuses a broken file."""
    rdf.render(COHORT, tmp_path / "good.ttl")
    (tmp_path / "bad.ttl").write_text((tmp_path / "good.ttl").read_text().replace(" ;", " ", 1))
    good = judge("rdfpipe", "-i", "turtle", "-o", "nt", tmp_path / "good.ttl")
    assert len([line for line in good.stdout.splitlines() if line]) == len(graph)
    assert judge("rdfpipe", "-i", "turtle", "-o", "nt", tmp_path / "bad.ttl").returncode != 0
