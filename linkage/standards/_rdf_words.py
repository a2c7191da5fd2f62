"""The graph in the words of the ontologies of radiology and oncology: what they can say of the core, and no more.

Sources: ROO (RadiationOncologyOntology/ROO, commit 95d1eab), RO (albytrav/RadiomicsOntologyIBSI, commit a8faf97),
PROV-O (W3C 2013), DPV 2.1. Semantic DICOM has published classes only; ``dcm:`` and a keyword of DICOM as property is a
convention of this project. Nothing that was predicted or simulated is said in the words for what was seen.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from rdflib import RDF, XSD, Literal, URIRef

from ..core import Event, Holdings, Link, Observation, Series, Subject
from ._rdf_terms import PREFIXES, SEXES, UNITS, T, Triple, node, node_of_code, number

HUMAN = "337915000"  # SNOMED CT, Homo sapiens (PS3.16 CID 7454)
ICD10, ATC = "http://hl7.org/fhir/sid/icd-10", "http://www.whocc.no/atc"
IBSI, SNOMED = "urn:oid:1.2.840.10008.2.16.13", "http://snomed.info/sct"
CYTOTOXIC = "L01"  # ATC: antineoplastic agents
VOLUME = "118565006"
"""SNOMED CT, Volume. ASSUMED: of the tumour, as every volume that this program measures is."""
DAYS_A_YEAR = 365.25
OF_STUDY = frozenset(["StudyInstanceUID", "StudyDate", "StudyTime", "StudyDescription", "ModalitiesInStudy",
                      "NumberOfStudyRelatedSeries", "NumberOfStudyRelatedInstances"])  # fmt: skip
"""Attributes of DICOM that are said of a study, not of a series (PS3.18 table 10.6.3-3)."""


def in_their_words(holdings: Holdings) -> Iterator[Triple]:
    """What the ontologies have words for."""
    for subject in holdings.subject:
        yield from _subject(subject)
    diagnoses = {one.id for one in holdings.event if one.kind == "diagnosis" and one.code.system == ICD10}
    for event in holdings.event:
        yield from _event(event, diagnoses)
    for series in holdings.image_series:
        yield from _series(series)
    masks = {one.sha256 for one in holdings.artefact if one.kind == "segmentation" and one.asserted == "observed"}
    for sha in sorted(masks):
        yield node("artefact", sha), RDF.type, T["roi_mask"]
    for one in holdings.observation:
        yield from _observation(one, masks)
    yield from _provenance(holdings)
    for consent in holdings.consent:
        here = node("consent", consent.id)
        for purpose in consent.purposes:
            yield here, T["has_purpose"], node("purpose", purpose)
        yield here, T["has_legal_basis"], node("legal-basis", consent.legal_basis)


def _subject(subject: Subject) -> Iterator[Triple]:
    here = node("subject", subject.key)
    name = URIRef(f"{here}:identifier")
    yield here, RDF.type, T["dicom_patient"]
    yield here, _dicom("PatientID"), Literal(subject.key)
    yield here, T["has_person_identifier"], name
    yield name, RDF.type, T["person_identifier"]
    yield name, T["has_value"], Literal(subject.key)
    if subject.species.code == HUMAN:
        yield here, RDF.type, T["patient"]
    if subject.sex in SEXES:
        yield here, T["has_biological_sex"], URIRef(f"{here}:sex")
        yield URIRef(f"{here}:sex"), RDF.type, SEXES[subject.sex]
    if subject.age_day0_d is not None and subject.day0_kind == "diagnosis":
        age = URIRef(f"{here}:age")
        yield here, T["has_age_at_diagnosis"], age
        yield age, RDF.type, T["age_at_diagnosis"]
        yield from _quantity(age, int(subject.age_day0_d / DAYS_A_YEAR), T["year"])


def _quantity(here: URIRef, value: float, unit: URIRef) -> Iterator[Triple]:
    yield here, T["has_value"], number(value)
    yield here, T["has_unit"], URIRef(f"{here}:unit")
    yield URIRef(f"{here}:unit"), RDF.type, unit


def _event(event: Event, diagnoses: set[str]) -> Iterator[Triple]:
    here, subject = node("event", event.id), node("subject", event.subject)
    if event.id in diagnoses:
        yield subject, T["has_neoplasm"], here
        yield here, RDF.type, URIRef(PREFIXES["icd"] + event.code.code)
    kind = _therapy(event)
    if kind is None:
        return
    yield here, RDF.type, kind
    if event.parent in diagnoses:
        yield node("event", event.parent), T["treated_by"], here
    if event.kind == "surgery":
        yield subject, T["has_surgical_procedure"], here
    if event.kind == "radiotherapy":
        yield subject, T["has_radiation_therapy"], here
        yield from _radiation(here, event.attributes)


def _therapy(event: Event) -> URIRef | None:
    """The class of a treatment; a drug is chemotherapy where its code says that it is one against tumours."""
    if event.kind == "treatment":
        return T["chemotherapy"] if event.code.system == ATC and event.code.code.startswith(CYTOTOXIC) else None
    return {"radiotherapy": T["radiation_therapy"], "surgery": T["surgery"]}.get(event.kind)


def _radiation(here: URIRef, attributes: Mapping[str, Any]) -> Iterator[Triple]:
    if (fractions := attributes.get("fractions")) is not None:
        yield here, T["has_fraction_count"], URIRef(f"{here}:fractions")
        yield URIRef(f"{here}:fractions"), T["has_value"], number(fractions)
    for name, predicate in (("dose_gy", T["has_cumulative_dose"]), ("fraction_dose_gy", T["has_fraction_dose"])):
        if (dose := attributes.get(name)) is not None:
            yield here, predicate, URIRef(f"{here}:{name}")
            yield from _quantity(URIRef(f"{here}:{name}"), dose, T["gray"])


def _dicom(keyword: str) -> URIRef:
    return URIRef(PREFIXES["dcm"] + keyword)


def _series(series: Series) -> Iterator[Triple]:
    """An image series in DICOM's words; what was simulated is no image."""
    here = node("image_series", series.uid)
    yield here, RDF.type, T["entity"]
    if series.role == "simulated":
        return
    study = node("imaging-study", series.study_uid)
    yield node("subject", series.subject), T["has_pacs_study"], study
    yield study, RDF.type, T["dicom_study"]
    yield study, T["has_study_uid"], Literal(series.study_uid)
    yield study, _dicom("StudyInstanceUID"), Literal(series.study_uid)
    yield study, T["has_pacs_series"], here
    yield here, RDF.type, T["dicom_series"]
    yield here, T["has_series_uid"], Literal(series.uid)
    stated = {"SeriesInstanceUID": series.uid, "Modality": series.modality.code, "Laterality": series.laterality,
              "FrameOfReferenceUID": series.frame_uid, **series.acquisition}  # fmt: skip
    for keyword, value in stated.items():
        if value is not None and _is_keyword(keyword):
            yield (study if keyword in OF_STUDY else here), _dicom(keyword), Literal(dicom_text(keyword, str(value)))


@cache
def _is_keyword(name: str) -> bool:
    from pydicom.datadict import tag_for_keyword

    return tag_for_keyword(name) is not None


def dicom_text(keyword: str, value: str) -> str:
    """A value of DICOM as the graph says it: several with comma and blank between, numbers with no needless digit.

    >>> dicom_text("PixelSpacing", "0.70, 1.0"), dicom_text("ScanOptions", "'FAST', 'PFP'")
    ('0.7, 1', 'FAST, PFP')
    """
    kind, is_single = _kind(keyword)
    parts = [value] if is_single else [part.strip(" '\"") for part in re.split(r"[,\\]", value)]
    return ", ".join(_shortest(part) if kind in NUMBERS else part.strip() for part in parts)


NUMBERS = ("DS", "IS", "FL", "FD", "SS", "US", "SL", "UL")
"""Kinds of value that are numbers (PS3.5 §6.2)."""


@cache
def _kind(keyword: str) -> tuple[str, bool]:
    """(kind of value, whether there is one alone) of an attribute."""
    from pydicom.datadict import dictionary_VM, dictionary_VR

    return dictionary_VR(keyword), dictionary_VM(keyword) == "1"


def _shortest(text: str) -> str:
    try:
        return repr(float(text)).removesuffix(".0")
    except ValueError:
        return text.strip()


@cache
def radiomics_codes() -> frozenset[str]:
    """The features of the Image Biomarker Standardisation Initiative that the Radiomics Ontology has a class for.

    DICOM's list (PS3.16, scheme IBSI) is a part of it. Left out is 1128, the robust mean absolute deviation, which
    the ontology calls CAC8.
    """
    from pydicom.sr.codedict import codes

    return frozenset(getattr(codes.IBSI, name).value for name in codes.IBSI.dir()) - {"1128"}


def _observation(one: Observation, masks: set[str]) -> Iterator[Triple]:
    here, quantity = node("observation", one.id), one.quantity
    is_feature = quantity.system == IBSI and quantity.code in radiomics_codes()
    is_volume = quantity.system == SNOMED and quantity.code == VOLUME
    if one.value is None or not (is_feature or is_volume):
        return
    yield here, T["has_value"], number(one.value)
    predicate = T["has_feature_unit"] if is_feature else T["has_unit"]
    if one.unit is not None:
        yield here, predicate, URIRef(f"{here}:unit")
        yield URIRef(f"{here}:unit"), RDF.type, UNITS.get(one.unit.code, node_of_code(one.unit))
    if is_volume:
        yield here, RDF.type, T["tumor_volume"]
        yield node("subject", one.subject), T["has_tumor_volume"], here
        return
    yield here, RDF.type, URIRef(PREFIXES["ro"] + quantity.code)
    if one.software is not None:
        yield here, T["computed_using"], node("software", one.software)
    if one.artefact in masks:
        yield here, T["is_radiomics_feature_of"], node("artefact", one.artefact)
        yield node("artefact", one.artefact), T["has_radiomics_feature"], here


def _provenance(holdings: Holdings) -> Iterator[Triple]:
    for program in holdings.software:
        here = node("software", program.id)
        yield here, RDF.type, T["software"]
        yield here, RDF.type, T["software_agent"]
        yield here, T["has_version"], Literal(program.version)
    for artefact in holdings.artefact:
        yield node("artefact", artefact.sha256), RDF.type, T["entity"]
    for run in holdings.run:
        yield node("run", run.id), RDF.type, T["activity"]
        yield node("run", run.id), T["was_associated_with"], node("software", run.software)
    for attempt in holdings.attempt:
        here = node("attempt", attempt.run, attempt.n)
        yield here, RDF.type, T["activity"]
        for predicate, time in ((T["started"], attempt.started), (T["ended"], attempt.ended)):
            if time is not None:
                yield here, predicate, Literal(time, datatype=XSD.dateTime)
    for link in holdings.link:
        thing = _thing(link)
        if link.role == "used":
            yield node("run", link.run), T["used"], thing
        else:
            yield thing, T["was_generated_by"], node("run", link.run)
    for one in holdings.prediction:
        here = node("prediction", one.id)
        yield here, RDF.type, T["entity"]
        yield here, T["was_generated_by"], node("run", one.run)


def _thing(link: Link) -> URIRef:
    if link.artefact is not None:
        return node("artefact", link.artefact)
    return node("image_series", link.series) if link.series is not None else node("sample", link.sample)
