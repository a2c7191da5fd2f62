"""From MIABIS's records to the core."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ...core.errors import FileRejected
from .. import core
from ..core import Biobank, Code, Collection, Enrolment, Event, Holdings, Sample, Study, Subject
from ._miabis import EVENT_KINDS, Found, Record, entity, identities
from ._miabis_write import (
    ANIMAL,
    BIOBANK,
    COLLECTION,
    DIGITAL,
    DONOR,
    HUMAN,
    ICD10,
    IMAGE,
    NO_VERSION,
    ONTOLOGIES,
    ORPHA,
    OTHER,
    RESOURCE,
    ROOM,
    SEXES,
    counted,
    own,
    type_of,
)

DAYS_IN = {"Years": 365.25, "Months": 365.25 / 12, "Weeks": 7.0, "Days": 1.0}
"""Days in a unit of age: Julian years (365.25 d), twelve months each."""


def holdings_of(found: Found, where: str) -> Holdings:
    """The core; what it does not take is counted in ``found``.

    Raises FileRejected for a record without ID, a sample or event of no donor and a collection of no biobank.
    """
    records = found.records
    _require_links(found, where)
    _count_untaken(found)
    samples = records.get("sample", [])
    animals = {_one(row, DONOR) for row in samples if _one(row, "MIABIS-SAMPLE-12") == "Animal"}
    return _less_derived(
        Holdings(
            biobank=tuple(_to_biobank(row) for row in records.get("biobank", ())),
            collection=tuple(_to_collection(row) for row in records.get("collection", ())),
            study=tuple(_to_study(row) for row in records.get("research-resource", ())),
            subject=tuple(_to_subject(row, animals) for row in records.get("donor", ())),
            enrolment=tuple(
                Enrolment(_one(row, DONOR), _one(row, RESOURCE), row.get(COLLECTION, (None,))[0])
                for row in records.get("membership", ())
            ),
            sample=tuple(_to_sample(row, found.code_book) for row in samples),
            event=tuple(_events(records)),
        )
    )


def _require_links(found: Found, where: str) -> None:
    """Every record has its ID, and what it belongs to is in the file; a collection or resource elsewhere is left out.

    Raises FileRejected for a record without ID, a sample or event of no donor and a collection of no biobank.
    """
    known = identities(found.records)
    for name, held in found.records.items():
        chosen = entity(name)
        for row in held:
            if chosen.identity and chosen.identity not in row:
                raise FileRejected(
                    f"{where!r} has a record of {name} without {chosen.identity}", "an ID in each", "add the IDs"
                )
            for code in chosen.links:
                if row.get(code, ("",))[0] in known[code]:
                    continue
                if code in (DONOR, BIOBANK):
                    raise FileRejected(
                        f"{where!r} has a record of {name} whose {code} is none of the file's",
                        "samples and events of a donor, collections of a biobank, all in one folder or file",
                        "add the donor or the biobank",
                    )
                if row.pop(code, None) is not None:
                    found.unknown[f"{name}.{code} (not in the file)"] += 1


def _one(row: Record, code: str) -> str:
    return row[code][0] if code in row else ""


def _maybe(row: Record, code: str) -> str | None:
    return _one(row, code) or None


def _count_untaken(found: Found) -> None:
    """Dates and ages that the core does not take."""
    for name, held in found.records.items():
        if name == "event":
            found.unknown["event (of no kind)"] += len(held)
        for code in ("MIABIS-EVENT-02", "MIABIS-SAMPLE-04", "MIABIS-SAMPLEDONOR-04"):
            found.unknown[f"{name}.{code} (dates stay at home)"] += sum(code in row for row in held)
        found.unknown[f"{name}.MIABIS-EVENT-04 (no days)"] += sum(
            "MIABIS-EVENT-03" in row and _age_days(row) is None for row in held
        )
    found.unknown = +found.unknown


def _attributes(name: str, row: Record, taken: Sequence[str]) -> dict[str, object]:
    """What stays under its code."""
    chosen = entity(name)
    return {
        code: list(values) if len(values) > 1 or chosen.attributes[code].many else values[0]
        for code, values in row.items()
        if code not in taken and code not in chosen.links
    }


def _to_biobank(row: Record) -> Biobank:
    taken = (BIOBANK, *(f"MIABIS-BIOBANK-{n}" for n in ("02", "03", "05", "06")))
    return Biobank(
        _one(row, BIOBANK), _one(row, "MIABIS-BIOBANK-03"), _one(row, "MIABIS-BIOBANK-06"),
        _one(row, "MIABIS-BIOBANK-05"), _maybe(row, "MIABIS-BIOBANK-02"), _attributes("biobank", row, taken),
    )  # fmt: skip


def _to_collection(row: Record) -> Collection:
    images, digital = _one(row, "MIABIS-COLLECTION-13") == IMAGE, _one(row, "MIABIS-COLLECTION-14") == DIGITAL
    return Collection(
        _one(row, COLLECTION), _one(row, BIOBANK), _one(row, "MIABIS-COLLECTION-03"), _one(row, "MIABIS-COLLECTION-06"),
        "image" if digital else "mixed" if images else "sample",
        _attributes("collection", row, (COLLECTION, "MIABIS-COLLECTION-03", "MIABIS-COLLECTION-06")),
    )  # fmt: skip


def _to_study(row: Record) -> Study:
    attributes = _attributes("research-resource", row, (RESOURCE, "MIABIS-RESEARCHRESOURCE-03"))
    return Study(_one(row, RESOURCE), _one(row, "MIABIS-RESEARCHRESOURCE-03"), Code("", ""), "", "", 0, 0, attributes)


def _to_subject(row: Record, animals: set[str]) -> Subject:
    sex = next(
        (core_sex for core_sex, listed in SEXES.items() if listed == _one(row, "MIABIS-SAMPLEDONOR-02")), "unknown"
    )
    return Subject(_one(row, DONOR), "site1", ANIMAL if _one(row, DONOR) in animals else HUMAN, sex, None, "enrolment")


def _to_sample(row: Record, code_book: Sequence[Mapping[str, str]]) -> Sample:
    storage, diagnosis = _maybe(row, "MIABIS-SAMPLE-03"), _maybe(row, "MIABIS-SAMPLE-10")
    return Sample(
        _one(row, "MIABIS-SAMPLE-01"), _one(row, DONOR), type_of(_one(row, "MIABIS-SAMPLE-02") or OTHER), _site(row),
        None if diagnosis is None else _meaning(diagnosis, code_book), "RT" if storage == ROOM else storage,
        collection=_maybe(row, COLLECTION),
    )  # fmt: skip


def _site(row: Record) -> Code | None:
    ontology, version = _one(row, "MIABIS-SAMPLE-05-01"), _one(row, "MIABIS-SAMPLE-05-02")
    code = _one(row, "MIABIS-SAMPLE-05-03")
    if not ontology or not code:
        return None
    system = next((uri for uri, name in ONTOLOGIES.items() if name == ontology), ontology)
    return Code(system, code, _one(row, "MIABIS-SAMPLE-05-04"), "" if version == NO_VERSION else version)


def _meaning(text: str, code_book: Sequence[Mapping[str, str]]) -> Code:
    system, code = (ORPHA, text.removeprefix("ORPHA:")) if text.startswith("ORPHA:") else (ICD10, text)
    entry = next((one for one in code_book if one["code"] == text), {})
    return Code(system, code, entry.get("display", ""), entry.get("version", ""))


def _events(records: Mapping[str, Sequence[Record]]) -> Iterator[Event]:
    for kind in EVENT_KINDS:
        for row in records.get(f"event-{kind}", ()):
            what = Code("urn:oncoscale:event", kind, kind)
            yield Event(_one(row, "MIABIS-EVENT-01"), _one(row, DONOR), kind, what, age_d=_age_days(row))


def _age_days(row: Record) -> int | None:
    """The age in whole days; None for an age that is no number, has no unit, or counts from conception."""
    days = DAYS_IN.get(_one(row, "MIABIS-EVENT-04"))
    try:
        age = float(_one(row, "MIABIS-EVENT-03")) * (days or 0.0)
    except ValueError:
        return None
    return round(age) if days is not None and 0 <= age < 1e5 else None


def _less_derived(holdings: Holdings) -> Holdings:
    """Collections without the attributes that the rows tell anyway."""
    kept = []
    for one in holdings.collection:
        told = counted(one, holdings)
        stated = own("collection", one.attributes)
        attributes = {code: value for code, value in one.attributes.items() if stated.get(code) != told.get(code)}
        kept.append(Collection(one.id, one.biobank, one.name, one.description, one.kind, attributes))
    return Holdings(
        **{table: rows for table, rows in core.rows(holdings) if table != "collection"}, collection=tuple(kept)
    )
