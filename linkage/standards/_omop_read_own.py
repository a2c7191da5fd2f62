"""What only an own export says: images, predictions, consents, cohorts, and the record of computations."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from .. import core
from ..core import ROWS, ConsentRow, Contains, Enrolment, Holdings, Predicted, RunSubject, Series
from ._omop_cdm import LOCAL, Piece, joined
from ._omop_tables import Tables

Parts = dict[str, tuple[Any, ...]]


def own_parts(tables: Tables) -> Parts:
    """Rows by table of the core."""
    made, anchors = _computations(tables)
    return made | {
        "image_series": tuple(_series(tables)),
        "prediction": tuple(_predictions(tables)),
        "consent": tuple(_consents(tables)),
        "enrolment": tuple(_enrolments(tables)),
        **_facts(tables, anchors),
        **_definitions(tables),
    }


def _series(tables: Tables) -> Iterator[Series]:
    """IMAGE_OCCURRENCE."""
    for row in tables["image_occurrence"]:
        said = tables.said_of("image_occurrence", row)
        visit = tables.said["procedure_occurrence", row["procedure_occurrence_id"]]
        modality = tables.concept(row["modality_concept_id"])
        assert modality is not None
        yield Series(
            uid=row["image_series_uid"],
            study_uid=row["image_study_uid"],
            subject=tables.keys[row["person_id"]],
            event=visit.get("id") or visit["images_of"],
            modality=modality,
            uri=row["local_path"],
            body_site=tables.concept(row["anatomic_site_concept_id"]),
            **said,
        )


def _predictions(tables: Tables) -> Iterator[Predicted]:
    """MEASUREMENT of the own concept for what was simulated."""
    for row in tables["measurement"]:
        if row["measurement_concept_id"] == str(LOCAL["prediction"]):
            quantity, unit = tables.code(row, "measurement"), tables.code(row, "unit")
            day = tables.day(row, "measurement_date", "measurement")
            assert quantity is not None
            assert unit is not None
            assert day is not None
            yield Predicted(
                subject=tables.keys[row["person_id"]],
                quantity=quantity,
                horizon_day=day,
                value=float(row["value_as_number"]),
                unit=unit,
                **tables.said_of("measurement", row),
            )


def _consents(tables: Tables) -> Iterator[ConsentRow]:
    """OBSERVATION of the own concept for a consent."""
    for row in tables["observation"]:
        if row["observation_concept_id"] == str(LOCAL["consent"]):
            said = {name: _fixed(value) for name, value in tables.said_of("observation", row).items()}
            yield ConsentRow(
                id=row["observation_source_value"],
                subject=tables.keys[row["person_id"]],
                status=row["value_as_string"],
                **{"valid_until": None, **said},
            )


def _fixed(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _enrolments(tables: Tables) -> Iterator[Enrolment]:
    """What stands beside a person about the studies it takes part in."""
    for row in tables["person"]:
        for name, value in tables.said_of("person", row).items():
            if name.startswith("enrolment."):
                yield Enrolment(tables.keys[row["person_id"]], name.partition(".")[2], value["collection"])


def _computations(tables: Tables) -> tuple[Parts, dict[str, tuple[str, str]]]:
    """(rows of METADATA, put together again; the table and number that each metadata_id belongs to)."""
    pieces: dict[tuple[str, str], dict[str, list[Piece]]] = defaultdict(lambda: defaultdict(list))
    anchors = {}
    for row in tables["metadata"]:
        table, number, name, form = row["name"].split("/", 3)
        code = tables.codes.get(row["value_as_concept_id"])
        pieces[table, number][name].append(Piece(form, row["value_as_number"], row["value_as_string"], code))
        anchors[row["metadata_id"]] = (table, number)
    values = {key: {name: joined(parts) for name, parts in found.items()} for key, found in pieces.items()}
    sites = {row["care_site_source_value"]: row for row in tables["care_site"]
             if row["place_of_service_source_value"] == "biobank"}  # fmt: skip
    country = {row["location_id"]: row["country_source_value"] for row in tables["location"]}
    made: dict[str, list[Any]] = defaultdict(list)
    for (table, _), content in values.items():
        if table == "biobank":
            site = sites[content["id"]]
            content |= {"name": site["care_site_name"], "country": country[site["location_id"]]}
        made[table].append(ROWS[table](**content))
    names = {key: str(content.get("id") or content.get("sha256")) for key, content in values.items()}
    known = {number: (key[0], names[key]) for number, key in anchors.items()}
    return {table: tuple(rows) for table, rows in made.items()}, known


def _facts(tables: Tables, anchors: dict[str, tuple[str, str]]) -> Parts:
    """FACT_RELATIONSHIP: whose data a file holds, and whom a run served."""
    shares = {str(LOCAL[name]): name for name in ("sole", "pooled")}
    contains, served = [], []
    for row in tables["fact_relationship"]:
        table, name = anchors[row["fact_id_1"]]
        subject = tables.keys[row["fact_id_2"]]
        if table == "artefact":
            contains.append(Contains(name, subject, shares[row["relationship_concept_id"]]))
        else:
            served.append(RunSubject(name, subject, ""))
    return {"contains": tuple(contains), "run_subject": tuple(served)}


def _definitions(tables: Tables) -> Parts:
    """COHORT_DEFINITION: studies and collections."""
    found: dict[str, list[dict[str, Any]]] = {"study": [], "collection": []}
    for row in tables["cohort_definition"]:
        kind = "study" if row["definition_type_concept_id"] == str(LOCAL["study"]) else "collection"
        name, text = ("title", "legal_basis") if kind == "study" else ("name", "description")
        told = {name: row["cohort_definition_name"], text: row["cohort_definition_description"]}
        found[kind].append(json.loads(row["cohort_definition_syntax"]) | told)
    held: Holdings = core.from_json(found)
    return {"study": held.study, "collection": held.collection}
