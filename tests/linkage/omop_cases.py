"""Cases of OMOP: a cohort and a subject to whom everything happened, and tables as text."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from oncoscale.linkage.core import Code, Event, Holdings, Observation, Sample
from oncoscale.linkage.reference import ICD10, UCUM, reference_cohort
from oncoscale.linkage.standards import omop

from .omop_judges import Definition, definition

COHORT = reference_cohort(14, 2)
"""Two subjects to whom much happened: every quantity that a judge knows, drugs, surgery, samples, predictions."""

LOST = [gap.path for gap in omop.gaps()]
Tables = dict[str, list[dict[str, str]]]


def tables_of(folder: Path) -> Tables:
    """Rows by table, as text."""
    found = {}
    for path in sorted(folder.glob("*.csv")):
        with path.open(encoding="utf-8", newline="") as lines:
            found[path.stem.lower()] = list(csv.DictReader(lines))
    return found


def write(tables: Tables, folder: Path) -> Path:
    """The same tables again, changed."""
    folder.mkdir()
    for table, rows in tables.items():
        with (folder / f"{table.upper()}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    return folder


@pytest.fixture(scope="module", name="rendering")
def omop_rendering(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cohort with predictions, written once."""
    out = tmp_path_factory.mktemp("omop") / "cohort"
    omop.render(COHORT, out)
    return out


@pytest.fixture(scope="module", name="defined")
def official_definition() -> Definition:
    return definition()


def every_kind() -> Holdings:
    """A subject to whom everything happened, told in words that are hard to write down."""
    cohort = reference_cohort(5, 1)
    key, series = cohort.subject[0].key, cohort.image_series[0]
    said = {
        "note": 'a "quoted", line\nand\u2028another',
        "empty": "",
        "yes": True,
        "none": None,
        "list": [1, {"a": 2.5}],
        "a name that is far too long for any field of OMOP": 1,
        "": "nameless",
        "dose": "two",
        "x" * 39: "y" * 200,
    }
    first = Code(ICD10, "C74.9", "Malignant neoplasm of adrenal gland, unspecified")
    second = Code(ICD10, "C71.7", version="2019")
    dose = {"dose": 1e-07, "dose_unit": "mg"}
    events = [
        Event("E-1", key, "diagnosis", first, day=0, attributes=said),
        Event("E-2", key, "diagnosis", replace(second, version="2016"), day=30, end_day=90, parent="E-1"),
        Event("E-3", key, "progression", second, day=60, parent="E-1", attributes={"site": "bone"}),
        Event("E-4", key, "treatment", Code("urn:a:b", "x y"), day=61, parent="E-3"),
        Event("E-5", key, "treatment", first, day=61, end_day=61, parent="E-9", attributes=dose),
        Event("E-6", key, "sampling", second, age_d=20),
        Event("E-7", key, "follow-up", second, day=100, end_day=101, parent="E-4"),
        Event("E-8", key, "death", first, day=700, parent="E-2"),
        Event("E-0", key, "diagnosis", second, age_d=500),
        Event("E-10", key, "surgery", second),
    ]
    quantity = Code("urn:oncoscale:form", "inrg-stage", "INRG stage")
    stage = Observation(
        "O-1", key, quantity, value_code=Code("urn:i", "MS"), sample="S-1", method=Code("urn:m", "m", "M")
    )
    more = (replace(series, uid="2.25.9", event="E-7"), replace(series, uid="2.25.8", event="E-8"))
    number = Observation("O-2", key, Code("urn:q", "q"), value=120, unit=Code(UCUM, "mL"), day=-3, series="2.25.9")
    number = replace(number, artefact=cohort.artefact[0].sha256)
    return replace(
        cohort,
        subject=(replace(cohort.subject[0], age_day0_d=400),),
        event=(*cohort.event, *events),
        sample=(
            Sample("S-1", key, first, storage="RT", collection="col-1"),
            Sample("S-0", key, second, parent="S-1", taken_day=-2),
        ),
        image_series=(*cohort.image_series, *more),
        observation=(*cohort.observation, stage, number),
    )
