"""Independent judges of the FHIR renderings, and which of them rejects which mutation."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from oncoscale.linkage.core import Holdings
from oncoscale.linkage.reference import reference_cohort
from oncoscale.linkage.standards import fhir, miabis_on_fhir

from .conftest import Judge
from .fhir_cases import altered, definitions, example_bundle, fewest, judged, written


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A valid bundle that holds each type of resource."""
    return example_bundle(tmp_path_factory.mktemp("fhir"))


def _put(name: str, value: Any) -> Callable[[dict[str, Any]], object]:
    return lambda resource: resource.__setitem__(name, value)


def _swap_uids(study: dict[str, Any]) -> None:
    study["series"][0]["uid"] = study["identifier"][0]["value"].removeprefix("urn:oid:")


MUTATIONS: dict[str, tuple[str, Callable[[dict[str, Any]], object], set[str]]] = {
    "wrong gender code": ("Patient", _put("gender", "women"), {"own", "pyfhircheck"}),
    "missing subject": ("Condition", lambda one: one.pop("subject"), {"own", "r4b", "pyfhircheck"}),
    "bad date": ("Patient", _put("birthDate", "2000-13-45"), {"own", "r4b"}),
    "unknown element": ("Patient", _put("nickname", "x"), {"own", "r4b", "pyfhircheck"}),
    "code outside the value set": ("Procedure", _put("status", "done"), {"own", "pyfhircheck"}),
    "element of R5": ("ResearchStudy", _put("descriptionSummary", "words"), {"own", "r4b"}),
    "element of a publisher": ("Patient", lambda one: one["meta"].update(project="x"), {"own", "r4b"}),
    "boolean as yes": ("Group", _put("actual", "yes"), {"own", "pyfhircheck"}),
    "text as a number": ("Device", lambda one: one["version"][0].update(value=1), {"own", "r4b", "pyfhircheck"}),
    "two types of a choice": ("Observation", _put("valueString", "words"), {"own", "r4b", "pyfhircheck"}),
    "unknown extension": ("Specimen", _put("extension", [{"url": "urn:oncoscale:fhir:x", "valueCode": "x"}]),
                          {"own", "pyfhircheck"}),
    "swapped UID": ("ImagingStudy", _swap_uids, {"own"}),
    "reference to nowhere": ("Condition", _put("subject", {"reference": "urn:uuid:" + "0" * 8}), {"own"}),
    "prediction as a fact": ("RiskAssessment", lambda one: one["meta"]["tag"].pop(), {"own"}),
    "no mark of pseudonymity": ("Patient", lambda one: one["meta"].pop("security"), {"own"}),
}  # fmt: skip
"""What is broken, in which resource, and which judges reject it: the project's own check, fhir.resources (R4B), and
pyfhircheck with R4's definitions. fhir.resources knows no value sets and takes "yes" for true; pyfhircheck takes a
thirteenth month, and its definitions from npm have elements of R5 and of their publisher."""


MIABIS_MUTATIONS: dict[str, tuple[str, Callable[[dict[str, Any]], object], set[str]]] = {
    "donor without gender": ("Patient", lambda one: one.pop("gender"), {"own", "pyfhircheck"}),
    "sample of a type that the guide lacks": ("Specimen", lambda one: one["type"]["coding"][0].update(code="Jar"),
                                              {"own", "pyfhircheck", "library"}),
    "sample of nobody": ("Specimen", lambda one: one.pop("subject"), {"own", "pyfhircheck", "library"}),
    "storage at another temperature": (
        "Specimen",
        lambda one: one["processing"][0]["extension"][0]["valueCodeableConcept"]["coding"][0].update(code="warm"),
        {"own", "library"},
    ),
    "collection without sexes": (
        "Group",
        lambda one: one.update(characteristic=[c for c in one["characteristic"] if "Sex" not in json.dumps(c)]),
        {"own", "pyfhircheck"},
    ),
    "collection without a name": ("Group", lambda one: one.pop("name"), {"own", "pyfhircheck", "library"}),
    "kind of data that is spelt rightly": (
        "Patient", lambda one: one["extension"][0].update(valueCode="Imaging data"), {"own"}),
    "diagnosis that is no code of ICD": (
        "Condition", lambda one: one["code"]["coding"][0].update(system="http://snomed.info/sct", code="1"),
        {"own", "library"},
    ),
    "biobank without a country": ("Organization", lambda one: one.pop("address"), {"own", "pyfhircheck", "library"}),
}  # fmt: skip
"""The same for MIABIS on FHIR: the own check, pyfhircheck with the guide's profiles, and the guide's library.
pyfhircheck looks up no codes in extensions, and has no list of ICD-10; the library does without sexes and genders."""

JUDGES_OWN_ERRORS = (
    ("cardinality.min", r"Group\.characteristic\[\d+\]\.value\[x\]"),
    ("profile.slice.cardinality.max", r"\w+\.extension:\w+"),
    ("profile.slice.closed", r"Observation\.value\[x\]\.coding\[\d+\]"),
    ("profile.element.invariant.unsupported.SpecimenOntologyInvariant", r"Specimen\.collection\.bodySite\.coding"),
)
"""Errors of pyfhircheck 0.2.0 that are its own: it reports them for the guide's examples too (a choice inside a
backbone element, slices of extensions that it does not tell apart, a slice without version), or cannot evaluate them
(an invariant with a path of R5)."""


def real(errors: list[list[str]]) -> list[tuple[str, str]]:
    """The errors that are not the judge's own."""
    return [
        (code, path)
        for code, path in errors
        if not any(code == known and re.fullmatch(pattern, path) for known, pattern in JUDGES_OWN_ERRORS)
    ]


CONTACT = {"given": "Ada", "family": "Desk", "email": "desk@biobank.example"}


def biobanked() -> Holdings:
    """A cohort whose biobank and collection say who answers, what they can do, and how samples were collected."""
    held = next(one for one in (reference_cohort(seed, 2) for seed in range(50)) if _is_rich(one))
    bank = {"MIABIS-BIOBANK-07": CONTACT, "MIABIS-BIOBANK-08": "samples", "MIABIS-BIOBANK-09": ["Sample storage"]}
    kept = {"MIABIS-COLLECTION-05": CONTACT, "MIABIS-COLLECTION-18": ["Cross-sectional", "Other"],
            "MIABIS-COLLECTION-17": ["ResearchStudy"], "MIABIS-COLLECTION-23": ["doi:10.1/x"]}  # fmt: skip
    return replace(
        held,
        biobank=tuple(replace(one, attributes=bank) for one in held.biobank),
        collection=tuple(replace(one, attributes=kept) for one in held.collection),
    )


def _is_rich(held: Holdings) -> bool:
    """Whether the first sample is stored somewhere, belongs to a collection, and has a diagnosis."""
    one = held.sample[0] if held.sample else None
    return one is not None and None not in (one.storage, one.collection, one.diagnosis)


@pytest.fixture(scope="module")
def donors(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A bundle by the profiles of MIABIS on FHIR."""
    path = tmp_path_factory.mktemp("miabis") / "a.json"
    miabis_on_fhir.render(biobanked(), path)
    return json.loads(path.read_text(encoding="utf-8"))


def mutants(bundle: dict[str, Any], mutations: dict[str, Any], folder: Path) -> dict[str, Path]:
    """The broken resource of each mutation, alone in a file."""
    found = {}
    for n, (name, (kind, change, _)) in enumerate(mutations.items()):
        entries = altered(bundle, kind, change)["entry"]
        resource = next(one["resource"] for one in entries if one["resource"]["resourceType"] == kind)
        found[name] = written(resource, folder / f"{kind}-{n}.json")
    return found


def rejected_by(name: str, mutations: dict[str, Any]) -> set[str]:
    return {mutation for mutation, (_, _, judges) in mutations.items() if name in judges}


@pytest.mark.parametrize("name", MUTATIONS)
def test_the_own_check_rejects_every_mutation(name: str, example: dict[str, Any], tmp_path: Path):
    """Each broken bundle breaks a rule where it was broken."""
    kind, change, _ = MUTATIONS[name]
    broken = fhir.check(written(altered(example, kind, change), tmp_path / "a.json"))
    assert any(kind in one.where for one in broken)


@pytest.mark.parametrize("name", MIABIS_MUTATIONS)
def test_the_own_check_of_profiles_rejects_every_mutation(name: str, donors: dict[str, Any], tmp_path: Path):
    """Each bundle that breaks a profile breaks a rule; the unbroken one none."""
    kind, change, _ = MIABIS_MUTATIONS[name]
    assert miabis_on_fhir.check(written(donors, tmp_path / "whole.json")) == ()
    assert miabis_on_fhir.check(written(altered(donors, kind, change), tmp_path / "a.json"))


def test_fhir_resources_accepts_the_bundles_and_rejects_what_it_can(
    example: dict[str, Any], donors: dict[str, Any], judge: Judge, tmp_path: Path
):
    """Every resource is one of R4B, and the mutations that its models can see are rejected, no others."""
    whole = [written(example, tmp_path / "fhir.json"), written(donors, tmp_path / "miabis.json")]
    broken = mutants(example, MUTATIONS, tmp_path)
    found = judged(judge, "r4b", *whole, *broken.values())
    assert [found[str(path)] for path in whole] == [[], []]
    assert {name for name, path in broken.items() if found[str(path)]} == rejected_by("r4b", MUTATIONS)


@pytest.fixture(scope="module")
def pyfhircheck(
    example: dict[str, Any],
    donors: dict[str, Any],
    judge: Judge,
    shared: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, dict[str, list[tuple[str, str]]]]:
    """Real errors by case, of both standards and of the guide's examples: the judge is started once for all."""
    folder = tmp_path_factory.mktemp("pyfhircheck")
    profiles = shared / "standards" / "miabis-on-fhir"
    cases = {
        "fhir": {"": written(fewest(example), folder / "fhir.json"), **mutants(example, MUTATIONS, folder)},
        "miabis": {"": written(donors, folder / "miabis.json"), **mutants(donors, MIABIS_MUTATIONS, folder)},
        "guide": {path.name: path for path in sorted(profiles.glob("*-example*.json")) if path.name[0] in "PSCOG"},
    }
    paths = [path for named in cases.values() for path in named.values()]
    found = judged(judge, "pyfhircheck", definitions(folder, profiles), *paths)
    return {of: {name: real(found[str(path)]) for name, path in named.items()} for of, named in cases.items()}


def test_pyfhircheck_accepts_the_bundle_and_rejects_what_it_can(pyfhircheck: dict[str, dict[str, Any]]):
    """With R4's definitions and no extension unknown: no error, and the mutations that definitions can see."""
    found = pyfhircheck["fhir"]
    assert found.pop("") == []
    assert {name for name, errors in found.items() if errors} == rejected_by("pyfhircheck", MUTATIONS)


def test_pyfhircheck_accepts_the_profiles_and_rejects_what_it_can(pyfhircheck: dict[str, dict[str, Any]]):
    """With the compiled profiles: no error but those that it finds in the guide's own examples."""
    found = pyfhircheck["miabis"]
    assert len(pyfhircheck["guide"]) >= 4
    assert not any(pyfhircheck["guide"].values())
    assert found.pop("") == []
    assert {name for name, errors in found.items() if errors} == rejected_by("pyfhircheck", MIABIS_MUTATIONS)


def test_the_guides_library_reads_the_bundle_and_rejects_what_it_can(
    donors: dict[str, Any], judge: Judge, tmp_path: Path
):
    """MIABIS_on_FHIR makes its objects of every profiled resource, under the names that they have in the core."""
    held = biobanked()
    whole = written(donors, tmp_path / "a.json")
    broken = {
        name: written(altered(donors, kind, change), tmp_path / f"{n}.json")
        for n, (name, (kind, change, _)) in enumerate(MIABIS_MUTATIONS.items())
    }
    found = judged(judge, "miabis", whole, *broken.values())
    expected = {("Biobank", one.id) for one in held.biobank} | {("Collection", one.id) for one in held.collection}
    expected |= {("SampleDonor", one.key) for one in held.subject} | {("Sample", one.id) for one in held.sample}
    expected |= {("Diagnosis", one.code.code) for one in held.event if one.kind == "diagnosis"}
    assert {tuple(one) for one in found[str(whole)]} == expected
    refused = {name for name, path in broken.items() if found[str(path)] is None}
    assert refused == rejected_by("library", MIABIS_MUTATIONS)
