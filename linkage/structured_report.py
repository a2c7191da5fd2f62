"""Structured reports (DICOM SR): measurements of template TID 1500 and coded findings, as observations.

A number in a measurement group becomes an observation with its unit, linked to the series that its region was drawn on;
a coded evaluation (stage, risk factor) becomes an observation with a code. Text, names and dates are never read. The
standard deviation of a mean goes with the mean. What a forecast wrote is no observation and is not taken.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from pydicom.sr._snomed_dict import mapping as snomed_mapping

from ..core.errors import FileRejected
from ..imaging.derived_codes import SCHEME
from ..imaging.dicom_files import read_dicom
from . import eforms
from .core import Code, Holdings, Observation, Subject
from .standards import Gap, Read

SYSTEMS: Mapping[str, str] = {
    "DCM": "http://dicom.nema.org/resources/ontology/DCM",
    "SCT": "http://snomed.info/sct",
    "UCUM": "http://unitsofmeasure.org",
    "LN": "http://loinc.org",
    "IBSI": "urn:oid:1.2.840.10008.2.16.13",
    "RADLEX": "http://radlex.org",
    "NCIt": "http://ncicb.nci.nih.gov/xml/owl/EVS/Thesaurus.owl",
    "UMLS": "http://www.nlm.nih.gov/research/umls",
    "I10": "http://hl7.org/fhir/sid/icd-10",
    "ICDO3": "http://terminology.hl7.org/CodeSystem/icd-o-3",
}
"""URIs of coding schemes (DICOM PS3.16, table 8-1; HL7 terminology)."""
OWN, OF_REGIONS = "urn:oncoscale:map", "urn:oncoscale:region"

GROUP, DERIVATION, SOURCE_SERIES = "125007", "121401", "121232"
METHOD, SITE, FINDING = {"370129005", "G-C036"}, {"363698007", "G-C0E3"}, {"121071"}
CATEGORY = {"276214006", "G-C1E3"}
STRUCTURE = FINDING | CATEGORY | SITE | METHOD | {"121058", "112039", "112040"}
"""Concepts that say what a group is about: procedure, tracking, category, finding, site (PS3.16, TID 1411, 1500)."""
MEAN, DEVIATION = {"373098007", "R-00317"}, {"386136009", "R-10047"}
NEOPLASM = {"108369006", "86049000", "367651003", "4147007", "52988006"}
"""Findings that are the tumour itself (SNOMED CT): neoplasm, primary or any malignant one, mass, lesion."""
SEX = {"M": "male", "F": "female"}
HUMAN = Code("http://snomed.info/sct", "337915000", "Homo sapiens")
SIMULATED = "SIMULATED"
"""Series descriptions of what a forecast wrote begin so (specification B.12)."""


@dataclass(frozen=True)
class _Group:
    """What a measurement group is about."""

    series: str | None
    finding: Code | None
    tracking: str


def read(path: Path | str) -> Read:
    """The observations of one report, or of every report in a folder.

    Raises FileRejected for files without a report, or without an identifier of the patient.
    """
    path = Path(path)
    files = sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]
    reports = [report for number, one in enumerate(files, start=1) if (report := _report(one, number)) is not None]
    if not reports:
        raise _refused("no structured report was found")
    gaps: Counter[tuple[str, str]] = Counter()
    subjects: dict[str, Subject] = {}
    observations: dict[str, Observation] = {}
    for report in reports:
        subject = _subject(report)
        subjects.setdefault(subject.key, subject)
        try:
            found = list(_observations(report, subject.key, gaps))
        except (AttributeError, IndexError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise _refused("a report lacks what its template demands") from error
        observations |= {one.id: one for one in found}
    held = Holdings(subject=tuple(subjects.values()), observation=tuple(observations.values()))
    return Read(held, tuple(Gap(place, reason, n) for (place, reason), n in sorted(gaps.items())))


def _report(path: Path, number: int) -> Dataset | None:
    found = read_dicom(path, f"file {number}", pixels=False) if path.is_file() else None
    return found if found is not None and found.get("Modality") == "SR" and "ContentSequence" in found else None


def _subject(report: Dataset) -> Subject:
    key = str(report.get("PatientID") or "").strip()
    if not key:
        raise _refused("a report without Patient ID was found")
    sex = SEX.get(str(report.get("PatientSex") or ""), "unknown")
    return Subject(key, "site1", HUMAN, sex, None, "first-imaging")


def _observations(report: Dataset, subject: str, gaps: Counter[tuple[str, str]]) -> Iterator[Observation]:
    if str(report.get("SeriesDescription") or "").startswith(SIMULATED):
        gaps["report", "what a forecast wrote is no observation"] += 1
        return
    schemes = {
        str(one.get("CodingSchemeDesignator")): str(one.get("CodingSchemeUID") or "")
        for one in report.get("CodingSchemeIdentificationSequence", ())
    }
    offset = report.get("LongitudinalTemporalOffsetFromEvent")
    blank = Observation("", subject, HUMAN, day=None if offset is None else round(float(offset)))
    if offset is None:
        gaps["report dates", "dates stay at home: the day is that of the series, where the store holds it"] += 1
    found = list(_walk(report, str(report.SOPInstanceUID), blank, _Group(None, None, ""), schemes, gaps))
    yield from _with_deviations(found, gaps)


Measured = tuple[Observation, Code | None, str]
"""(an observation, how it was derived, the group that it belongs to)."""


def _walk(
    item: Dataset, place: str, blank: Observation, group: _Group, schemes: Mapping[str, str], gaps: Counter[Any]
) -> Iterator[Measured]:
    """Every measurement and coded evaluation below a container."""
    if _name(item) == GROUP:
        group = _group(item, schemes)
        if group.tracking:
            gaps["tracking identifier", "the core tells lesions of one series apart by nothing"] += 1
    for number, child in enumerate(item.get("ContentSequence", ()), start=1):
        where, kind, relation = f"{place}/{number}", child.ValueType, child.get("RelationshipType")
        if kind == "CONTAINER":
            yield from _walk(child, where, blank, group, schemes, gaps)
        elif relation != "CONTAINS" or _name(child) in STRUCTURE:
            _pass_over(child, gaps)
        elif kind == "NUM":
            yield from _number(child, where, blank, group, schemes, gaps)
        elif kind == "CODE":
            quantity, value = _evaluation(_code(child.ConceptNameCodeSequence[0], schemes),
                                          _code(child.ConceptCodeSequence[0], schemes))  # fmt: skip
            made = replace(blank, id=where, quantity=_of_region(quantity, group), value_code=value, series=group.series)
            yield made, None, where
        else:
            _pass_over(child, gaps)


def _number(
    item: Dataset, where: str, blank: Observation, group: _Group, schemes: Mapping[str, str], gaps: Counter[Any]
) -> Iterator[Measured]:
    values: Any = item.get("MeasuredValueSequence") or []
    number = values[0].get("FloatingPointValue", values[0].get("NumericValue")) if values else None
    if number is None or not isfinite(value := float(number)):
        gaps["content NUM", "a measurement without a value"] += 1
        return
    unit = _code(values[0].MeasurementUnitsCodeSequence[0], schemes)
    derivation, method = (_modifier(item, names, schemes) for names in ({DERIVATION}, METHOD))
    if method and derivation and derivation.code not in MEAN | DEVIATION:
        gaps["measurement method", "an observation has one method, which here is how it was derived"] += 1
    if derivation and derivation.code in MEAN | DEVIATION:
        named = method
    else:
        named = derivation or method
    quantity = _of_region(_code(item.ConceptNameCodeSequence[0], schemes), group)
    made = replace(blank, id=where, quantity=quantity, value=value, unit=unit, method=named, series=group.series)
    yield made, derivation, where.rsplit("/", 1)[0]


def _with_deviations(found: list[Measured], gaps: Counter[Any]) -> Iterator[Observation]:
    """Means with the standard deviation of the same quantity and group; a deviation of no mean is not taken."""
    is_deviation = [derivation is not None and derivation.code in DEVIATION for _, derivation, _ in found]
    spread = {(group, one.quantity): one.value for (one, _, group), no in zip(found, is_deviation) if no}
    means = set()
    for (one, derivation, group), no in zip(found, is_deviation):
        if no:
            continue
        if derivation is not None and derivation.code in MEAN:
            means.add((group, one.quantity))
            yield replace(one, sd=spread.get((group, one.quantity)))
        else:
            yield one
    if alone := len(spread.keys() - means):
        gaps["standard deviation", "no mean of the same quantity stands beside it"] += alone


def _group(item: Dataset, schemes: Mapping[str, str]) -> _Group:
    """The series that a region was drawn on, and what it is a region of."""
    series = finding = None
    tracking = ""
    for child in item.get("ContentSequence", ()):
        name = _name(child)
        if name == SOURCE_SERIES:
            series = str(child.UID)
        elif name in FINDING and child.ValueType == "CODE":
            finding = _code(child.ConceptCodeSequence[0], schemes)
        elif child.ValueType == "UIDREF" and name == "112040":
            tracking = str(child.UID)
    return _Group(series, finding, tracking)


def _of_region(quantity: Code, group: _Group) -> Code:
    """The quantity; of a region that is not the tumour, a quantity of its own."""
    if group.finding is None or group.finding.code in NEOPLASM:
        return quantity
    words = f"{quantity.display} of {group.finding.display}"
    return Code(OF_REGIONS, f"{quantity.code}@{group.finding.code}", words)


def _evaluation(quantity: Code, value: Code) -> tuple[Code, Code]:
    """A coded evaluation in the words of the supplied forms, if it is under our own scheme and one of theirs."""
    if quantity.system != OWN:
        return quantity, value
    for name in eforms.names():
        for field in eforms.form(name).fields:
            if field.code.code == quantity.code and (choice := field.choice_of(value.code)) is not None:
                return field.code, choice.code
    return quantity, value


def _modifier(item: Dataset, names: set[str], schemes: Mapping[str, str]) -> Code | None:
    for child in item.get("ContentSequence", ()):
        if child.ValueType == "CODE" and _name(child) in names:
            return _code(child.ConceptCodeSequence[0], schemes)
    return None


def _pass_over(item: Dataset, gaps: Counter[Any]) -> None:
    """Count what is not taken and is more than context of what is."""
    reasons = {
        "TEXT": "free text stays at home",
        "PNAME": "a person's name is never read",
        "DATE": "dates stay at home",
        "DATETIME": "dates stay at home",
        "TIME": "dates stay at home",
    }
    if item.ValueType in reasons and _name(item) != "112039":
        gaps[f"content {item.ValueType}", reasons[item.ValueType]] += 1


def _name(item: Dataset) -> str:
    names = item.get("ConceptNameCodeSequence")
    return str(names[0].get("CodeValue", "")) if names else ""


def _code(item: Dataset, schemes: Mapping[str, str]) -> Code:
    """A coded entry by the URI of its scheme; codes of SNOMED RT as those of SNOMED CT, where pydicom knows them."""
    value = str(item.get("CodeValue") or item.get("LongCodeValue") or item.get("URNCodeValue") or "")
    scheme, meaning = str(item.get("CodingSchemeDesignator", "")), str(item.get("CodeMeaning", ""))
    if scheme in ("SRT", "SNM3", "99SDM"):
        known = snomed_mapping["SRT"].get(value)
        scheme, value = ("SCT", known) if known else (scheme, value)
    if scheme == SCHEME:
        return Code(OWN, value, meaning)
    uid = schemes.get(scheme)
    system = SYSTEMS.get(scheme) or (f"urn:oid:{uid}" if uid else f"urn:dicom:scheme:{scheme}")
    return Code(system, value, meaning)


def _refused(found: str) -> FileRejected:
    return FileRejected(
        found,
        "DICOM SR with measurements (TID 1500) or coded findings, and a Patient ID",
        "export the report again",
    )
