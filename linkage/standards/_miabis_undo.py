"""A bundle by MIABIS on FHIR as the FHIR reader takes it: additions taken away, or put where the reader looks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from copy import deepcopy
from typing import Any

from ...core.files import canonical_json
from ._fhir_foreign import MISUNDERSTOOD, is_own, listed, value_at
from ._fhir_lens import own_kind
from ._fhir_paths import Place, Resource, put, put_extension, take, take_extension, url
from ._miabis_guide import guide, profile, profile_of


def plain(entries: list[Resource]) -> Iterator[tuple[str, Resource]]:
    """The entries as the FHIR reader takes them: additions taken away, and what only they say put where it looks."""
    copies, around = deepcopy(entries), _Around(deepcopy(entries))
    for entry in copies:
        resource = entry["resource"]
        name = profile_of(resource)
        beside = name in ("miabis-observation", "miabis-collection-organization") or _name(resource) in around.persons
        if beside and is_own(resource):
            continue  # said again by one's own rows
        with suppress(*MISUNDERSTOOD):
            _UNDO.get(name, _nothing)(resource, around)
        if is_own(resource):
            _drop_added(resource)
        take(resource, "meta.profile")
        yield str(entry.get("fullUrl", "")), resource


class _Around:
    """What other resources of a bundle say about one."""

    def __init__(self, entries: list[Resource]) -> None:
        self.by_reference: dict[str, Resource] = {}
        self.diagnosis: dict[str, Any] = {}
        for entry in entries:
            resource = entry["resource"]
            self.by_reference[_name(resource)] = resource
            self.by_reference[str(entry.get("fullUrl"))] = resource
            if profile_of(resource) == "miabis-observation":
                of = str(value_at(resource, "specimen.reference"))
                self.diagnosis[of] = value_at(resource, "valueCodeableConcept")
        biobanks = [one["resource"] for one in entries if profile_of(one["resource"]) == "miabis-biobank"]
        self.persons = {_name(self.of(one, "partOf") or {}) for one in biobanks}

    def of(self, resource: Resource, name: str) -> Resource | None:
        """The resource that an element refers to, if the bundle holds it."""
        return self.by_reference.get(str(value_at(resource, f"{name}.reference")))


def _name(resource: Resource) -> str:
    return f"{resource.get('resourceType')}/{resource.get('id')}"


def _nothing(resource: Resource, around: _Around) -> None:
    """Nothing to undo."""


def _undo_sample(resource: Resource, around: _Around) -> None:
    """One's own type stands beside; another's collection, storage and diagnosis become what the reader looks for."""
    if is_own(resource):
        resource["type"] = take_extension(resource, "~type", "valueCodeableConcept") or resource["type"]
        take(resource, "processing")
        return
    for kept_at in listed(take(resource, "processing[0].extension")):
        if kept_at.get("url") == profile("miabis-sample-storage-temperature-extension"):
            put_extension(resource, "~storage", "valueString", value_at(kept_at, "valueCodeableConcept.coding[0].code"))
    collection = _extension_of(resource, "miabis-sample-collection-extension", "valueIdentifier.value")
    if collection is not None:
        put_extension(resource, "~collection", "valueReference", Place().reference("collection", collection))
    for name in (_name(resource), url("sample", str(value_at(resource, "identifier[0].value")))):
        if name in around.diagnosis:
            put_extension(resource, "~diagnosis", "valueCodeableConcept", around.diagnosis[name])


def _undo_collection(resource: Resource, around: _Around) -> None:
    """Its biobank stands behind the organisation that manages it, and so does its description."""
    organization = around.of(resource, "managingEntity") or {}
    if profile_of(organization) == "miabis-biobank":
        organization = {}
    else:
        resource["managingEntity"] = organization.get("partOf")
    if is_own(resource):
        for name in ("characteristic", "active"):
            take(resource, name)
        return
    put(resource, "code", own_kind("sample"))
    _keep_attributes(resource, organization, "MIABIS-COLLECTION")
    description = _extension_of(organization, "miabis-organization-description-extension", "valueString")
    put_extension(resource, "~description", "valueString", description or resource["name"])


def _undo_biobank(resource: Resource, around: _Around) -> None:
    """Its juristic person is the organisation that it is part of."""
    person = around.of(resource, "partOf") or {}
    take(resource, "partOf")
    if is_own(resource):
        take(resource, "contact")
        return
    put(resource, "type", [{"coding": [{"system": "urn:oncoscale:table", "code": "biobank"}]}])
    put_extension(resource, "~juristic-person", "valueString", person.get("name"))
    _keep_attributes(resource, resource, "MIABIS-BIOBANK")


def _keep_attributes(resource: Resource, organization: Resource, begin: str) -> None:
    """What the extensions of an organisation say, as attributes by their MIABIS codes."""
    found: dict[str, list[str]] = {}
    for attribute, name in guide()["attributes"].items():
        while attribute.startswith(begin):
            stated = _extension_of(organization, name, "")
            value = value_at(stated, "valueString") or value_at(stated, "valueCodeableConcept.coding[0].code")
            if not isinstance(value, str):
                break
            found.setdefault(attribute, []).append(value)
    if found:
        put_extension(resource, "~attributes", "valueString", canonical_json(found))


_UNDO: Mapping[str, Callable[[Resource, _Around], None]] = {
    "miabis-sample": _undo_sample,
    "miabis-collection": _undo_collection,
    "miabis-biobank": _undo_biobank,
}


def _extension_of(resource: Resource, name: str, path: str) -> Any:
    """Take an extension of the guide out of a resource: the value at a path of it, or all of it."""
    for one in listed(resource.get("extension")):
        if value_at(one, "url") == profile(name):
            resource["extension"].remove(one)
            return value_at(one, path) if path else one
    return None


def _drop_added(resource: Resource) -> None:
    """What the rendering added is said again by one's own rows."""
    kept = [one for one in listed(resource.get("extension")) if not str(value_at(one, "url")).startswith(profile(""))]
    if "extension" in resource:
        resource["extension"] = kept
