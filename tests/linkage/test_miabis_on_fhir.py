"""MIABIS on FHIR: what a guide's bundle of another biobank gives, and what the rendering adds and takes away."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from oncoscale.linkage.importing import import_file
from oncoscale.linkage.reference import reference_cohort
from oncoscale.linkage.standards import fhir, miabis_on_fhir
from oncoscale.linkage.standards._miabis_guide import guide
from oncoscale.linkage.store import Store
from oncoscale.linkage.vault import Vault

from .fhir_cases import written

EXAMPLES = ("Organization-example-biobank", "Organization-example-collection", "Group-example-collection-group",
            "Patient-example", "Specimen-example", "Observation-ObservationInstance")  # fmt: skip


@pytest.fixture
def examples(shared: Path, tmp_path: Path) -> Path:
    """The guide's own examples as one bundle, with the juristic person that they refer to."""
    folder = shared / "standards" / "miabis-on-fhir"
    found = [json.loads((folder / f"{name}.json").read_text(encoding="utf-8")) for name in EXAMPLES]
    found.append({"resourceType": "Organization", "id": "example-juristic-person", "name": "The Foundation"})
    entries = [{"fullUrl": f"https://x.example/{one['resourceType']}/{one['id']}", "resource": one} for one in found]
    return written({"resourceType": "Bundle", "type": "collection", "entry": entries}, tmp_path / "examples.json")


def test_the_guides_examples_are_read(examples: Path):
    """Biobank with its juristic person and capabilities, donor, and sample with storage and diagnosis."""
    found = miabis_on_fhir.read(examples)
    (biobank,), (subject,), (sample,) = found.holdings.biobank, found.holdings.subject, found.holdings.sample
    assert (biobank.id, biobank.juristic_person, biobank.country) == ("biobankId", "The Foundation", "CZ")
    assert biobank.attributes["MIABIS-BIOBANK-09"] == ["SampleStorage"]
    assert (subject.key, subject.sex) == ("donorId", "male")
    assert (sample.type.code, sample.storage, sample.diagnosis and sample.diagnosis.code) == ("BuffyCoat", "RT", "A01")
    assert sample.collection is None
    said = {(gap.path, gap.reason) for gap in found.gaps}
    assert {("sample.collection", "leads to nothing in the bundle"), ("Specimen.note.text", "not understood"),
            ("Organization", "no such thing in the core")} <= said  # fmt: skip


def test_the_guides_examples_enter_a_store(examples: Path, store: Store, vault: Vault):
    """Every row that was read satisfies the store's keys and checks."""
    done = import_file(store, examples, standard_name="miabis-on-fhir", vault=vault)
    assert {"biobank", "collection", "subject", "sample"} <= done.entered.keys()


def test_the_codes_are_the_guides(shared: Path):
    """Every code list is that of the compiled guide, misspellings included."""
    for name, codes in guide()["codes"].items():
        source = shared / "standards" / "miabis-on-fhir" / f"CodeSystem-{name}.json"
        listed = [one["code"] for one in json.loads(source.read_text(encoding="utf-8"))["concept"]]
        assert listed == codes
    for name in (*guide()["extensions"], *guide()["profiles"]):
        assert (shared / "standards" / "miabis-on-fhir" / f"StructureDefinition-{name}.json").is_file()


def test_a_bundle_by_the_guide_is_read_as_fhir_too(tmp_path: Path):
    """Who knows only R4 still finds the donors and samples; what the guide adds is counted, not lost in silence."""
    held = reference_cohort(3, 2)
    miabis_on_fhir.render(held, tmp_path / "a.json")
    found = fhir.read(tmp_path / "a.json")
    assert {one.key for one in found.holdings.subject} == {one.key for one in held.subject}
    assert len(found.holdings.sample) == len(held.sample)
    assert any("extension" in gap.path for gap in found.gaps)
