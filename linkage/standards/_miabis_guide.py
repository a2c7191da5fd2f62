"""The guide MIABIS on FHIR: its names and codes, and what its profiles ask for."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from . import Violation
from ._fhir_foreign import listed, value_at
from ._fhir_paths import Resource

ICD10 = "http://hl7.org/fhir/sid/icd-10"


@cache
def guide() -> Mapping[str, Any]:
    """miabis_on_fhir.toml."""
    return tomllib.loads((Path(__file__).parent / "miabis_on_fhir.toml").read_text(encoding="utf-8"))


def profile(name: str) -> str:
    """The URL of a profile or an extension."""
    return f"{guide()['base']}/StructureDefinition/{name}"


def system(name: str) -> str:
    """The URL of a code system."""
    return f"{guide()['base']}/CodeSystem/{name}"


def profile_of(resource: Resource) -> str:
    """The profile of the guide that a resource follows; empty for none."""
    stated = [one for one in listed(value_at(resource, "meta.profile")) if isinstance(one, str)]
    named = [one.removeprefix(profile("")) for one in stated if one.startswith(profile(""))]
    return named[0] if named else ""


def against_profiles(entries: list[Resource]) -> Iterator[Violation]:
    """What the profiles ask for and a resource lacks; codes that the guide does not know."""
    for entry in entries:
        resource, name = entry["resource"], profile_of(entry["resource"])
        rule = guide()["profiles"].get(name)
        if rule is None:
            continue
        if rule["resource"] != resource.get("resourceType"):
            yield Violation(f"{name} is a {rule['resource']}", name, "another resource")
        for path in rule["required"]:
            if value_at(resource, path) is None:
                yield Violation(f"{name}: required elements are there", path, "nothing")
        yield from _extensions(resource, name)
        if name == "miabis-collection":
            yield from _of_group(resource)
        yield from _codes(resource, name)


def _extensions(resource: Resource, name: str) -> Iterator[Violation]:
    inside = [one for part in listed(resource.get("processing")) for one in listed(value_at(part, "extension"))]
    for one in [*listed(resource.get("extension")), *inside]:
        address = str(value_at(one, "url"))
        if not address.startswith(profile("")):
            continue
        code_system = guide()["extensions"].get(address.removeprefix(profile("")))
        if code_system is None:
            yield Violation("extensions of the guide", name, "one that it does not have")
        elif code_system:
            code = value_at(one, "valueCode") or value_at(one, "valueCodeableConcept.coding[0].code")
            if code not in guide()["codes"][code_system]:
                yield Violation(f"codes of {code_system}", name, "another code")


def _of_group(resource: Resource) -> Iterator[Violation]:
    """At least one sex and one material."""
    stated = [value_at(one, "code.coding[0].code") for one in listed(resource.get("characteristic"))]
    for wanted in ("Sex", "MaterialType"):
        if wanted not in stated:
            yield Violation(f"a collection has a {wanted}", "Group.characteristic", "none")


def _codes(resource: Resource, name: str) -> Iterator[Violation]:
    """A sample's type by the guide, a diagnosis by ICD only (closed slicing)."""
    if name == "miabis-sample":
        said = listed(value_at(resource, "type.coding"))
        wanted = system("miabis-detailed-samply-type-cs")
        codes = [value_at(one, "code") for one in said if value_at(one, "system") == wanted]
        if not any(code in guide()["codes"]["miabis-detailed-samply-type-cs"] for code in codes):
            yield Violation("codes of miabis-detailed-samply-type-cs", "Specimen.type", "none")
    path = {"miabis-observation": "valueCodeableConcept.coding", "miabis-condition": "code.coding"}.get(name)
    for one in listed(value_at(resource, path)) if path else []:
        if value_at(one, "system") not in (ICD10, "http://hl7.org/fhir/sid/icd-9"):
            yield Violation("a diagnosis is a code of ICD", name, "another system")
