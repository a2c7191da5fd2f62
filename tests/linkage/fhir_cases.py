"""Rows that a cohort seldom holds, definitions of the project's extensions, and ways to run the judges."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from oncoscale.linkage.core import (
    Artefact,
    Code,
    Contains,
    Event,
    Holdings,
    Observation,
    Predicted,
    Run,
    Sample,
)
from oncoscale.linkage.reference import ICD10, SNOMED, UCUM, reference_cohort
from oncoscale.linkage.standards import standard
from oncoscale.linkage.standards._fhir_check import own_extensions
from oncoscale.linkage.standards._fhir_paths import address

from .fhir_definitions import NotFetched, core_package

KINDS = (
    "diagnosis",
    "treatment",
    "surgery",
    "radiotherapy",
    "follow-up",
    "progression",
    "death",
    "imaging",
    "sampling",
)


def unusual() -> Holdings:
    """A subject with what a cohort seldom holds: ages instead of days, codes with versions, pooled and large files."""
    held = reference_cohort(2, 1)
    key, run = held.subject[0].key, next(one for one in held.run if one.kind == "forecast")
    known = Code(SNOMED, "1", "a term", "2026-01")
    by_age = tuple(Event(f"E-age-{kind}", key, kind, known, age_d=3000 + n, end_day=n) for n, kind in enumerate(KINDS))
    by_day = tuple(Event(f"E-day-{kind}", key, kind, known, day=-400 + n, parent=f"E-age-{kind}")
                   for n, kind in enumerate(KINDS))  # fmt: skip
    likely = Code("urn:oncoscale:quantity", "relapse", "probability of relapse")
    return replace(
        held,
        biobank=tuple(replace(one, acronym=None, attributes={"MIABIS-BIOBANK-08": "words"}) for one in held.biobank),
        subject=tuple(replace(one, sex="undifferentiated") for one in held.subject),
        consent=tuple(replace(one, status="withdrawn", withdrawn_at="2025-01-01T00:00:00.000Z", purposes=())
                      for one in held.consent),
        decision=tuple(replace(one, outcome="deny", reason="purpose", consent="C-elsewhere") for one in held.decision),
        sample=(*held.sample, Sample("S-old", key, Code(ICD10, "x"), diagnosis=known, storage="in a jar")),
        event=(*held.event, *by_age, *by_day),
        artefact=(*held.artefact, Artefact("f" * 64, "table", "observed", "text/csv", 2**40, "far", known, "1.2.3")),
        contains=(*held.contains, Contains("f" * 64, key, "pooled")),
        run=(*held.run, Run("e" * 64, "calibration", run.software, run.parameters, "0" * 64, "seed", "campaign")),
        observation=(
            *held.observation,
            Observation("O-coded", key, known, value_code=known, sd=0.5, unit=known, artefact="f" * 64, method=known),
            Observation("O-bare", key, known, value=1e-7, day=-3),
            Observation("O-unit", key, known, value=2.0, unit=replace(known, display="")),
        ),
        prediction=(
            *held.prediction,
            Predicted("F-risk", "e" * 64, key, likely, 90, 0.25, Code(UCUM, "1", "1"), "withdrawn", 0.125, 0.5, 0.9),
            Predicted("F-bare", "e" * 64, key, known, -1, -3.5, known, "withdrawn", high=0.0, artefact="f" * 64),
        ),
    )  # fmt: skip


def example_bundle(folder: Path) -> dict[str, Any]:
    """A valid bundle that holds each type of resource."""
    standard("fhir").render(unusual(), folder / "example.json")
    content: dict[str, Any] = json.loads((folder / "example.json").read_text(encoding="utf-8"))
    return content


def written(content: Any, path: Path) -> Path:
    """A JSON file."""
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def fewest(bundle: Mapping[str, Any]) -> dict[str, Any]:
    """The first two resources of each type; references to the others lead nowhere."""
    seen: dict[str, int] = {}
    kept = []
    for entry in bundle["entry"]:
        kind = entry["resource"]["resourceType"]
        seen[kind] = seen.get(kind, 0) + 1
        if seen[kind] <= 2:
            kept.append(entry)
    return {**bundle, "entry": kept}


def altered(bundle: Mapping[str, Any], kind: str, change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    """A copy of a bundle with the first resource of a type changed by ``change``."""
    made = copy.deepcopy(dict(bundle))
    change(next(entry["resource"] for entry in made["entry"] if entry["resource"]["resourceType"] == kind))
    return made


def extension_definitions(folder: Path) -> Path:
    """A folder with a StructureDefinition for each extension of the project, so that validators know them."""
    folder.mkdir()
    for name, value_as in own_extensions().items():
        kind = value_as.removeprefix("value")
        primitive = kind in ("String", "Code", "Integer", "Decimal", "Date", "Uri", "Base64Binary")
        url = address(name)
        elements = [
            {"id": "Extension", "path": "Extension"},
            {"id": "Extension.url", "path": "Extension.url", "fixedUri": url},
            {"id": "Extension.value[x]", "path": "Extension.value[x]", "min": 1,
             "type": [{"code": kind[0].lower() + kind[1:] if primitive else kind}]},
        ]  # fmt: skip
        definition = {
            "resourceType": "StructureDefinition", "id": f"oncoscale-{name}", "url": url, "name": name,
            "status": "active", "fhirVersion": "4.0.1", "kind": "complex-type", "abstract": False,
            "context": [{"type": "element", "expression": "Element"}], "type": "Extension",
            "baseDefinition": "http://hl7.org/fhir/StructureDefinition/Extension", "derivation": "constraint",
            "differential": {"element": elements},
        }  # fmt: skip
        if name != "uncertainty":  # HL7's own
            (folder / f"StructureDefinition-{name}.json").write_text(json.dumps(definition), encoding="utf-8")
    return folder


def judged(judge: Any, name: str, *arguments: str | Path) -> Any:
    """What a judge of fhir_judges.py found."""
    done = judge("python", Path(__file__).with_name("fhir_judges.py"), name, *arguments)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def definitions(tmp_path: Path, *more: Path) -> str:
    """R4's definitions and the project's, as pyfhircheck takes them; a skip that says why where they are missing."""
    try:
        return os.pathsep.join(map(str, (core_package(), extension_definitions(tmp_path / "extensions"), *more)))
    except NotFetched as error:
        pytest.skip(f"not run: no definitions of FHIR R4 ({error})")
