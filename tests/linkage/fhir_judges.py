"""Independent judges of FHIR, run by the Python of the judges' environment; prints what each found as JSON.

``fhir_judges.py r4b FILE…``                    fhir.resources, module R4B: [messages] by file
``fhir_judges.py pyfhircheck FOLDERS FILE…``    definitions from FOLDERS (joined by the path separator):
                                                [[code, path]] of errors by file; loaded once for all files
``fhir_judges.py miabis FILE…``                 classes of MIABIS_on_FHIR: [class, identifier] of each resource by file,
                                                null for a file that they do not take
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from pathlib import Path
from typing import Any


def resources_of(path: str) -> list[dict[str, Any]]:
    content = json.loads(Path(path).read_text(encoding="utf-8"))
    return [entry["resource"] for entry in content["entry"]] if content["resourceType"] == "Bundle" else [content]


def r4b(path: str) -> list[str]:
    from fhir.resources.R4B import get_fhir_model_class

    found = []
    for one in resources_of(path):
        try:
            get_fhir_model_class(one["resourceType"]).model_validate(one)
        except Exception as error:  # a judge may stumble in any way: each is a rejection
            found.append(f"{one['resourceType']}: {type(error).__name__}: {str(error)[:200]}")
    return found


def pyfhircheck(folders: str, paths: list[str]) -> dict[str, list[list[str]]]:
    from pyfhircheck import Validator
    from pyfhircheck.config import ValidatorConfig

    stated = {"fhirVersion": "4.0.1", "backend": "native", "localPackagePaths": folders.split(os.pathsep),
              "allowUnknownExtensions": False}  # fmt: skip
    validator = Validator(ValidatorConfig.load_dict(stated))
    found = {}
    for path in paths:
        if not Path(path).is_file():
            raise FileNotFoundError(path)  # the judge finds no fault with a file that is not there
        issues = validator.validate_path(Path(path)).issues
        found[path] = [[one.code, one.path or ""] for one in issues if one.severity.value == "error"]
    return found


def miabis(path: str) -> list[list[str]] | None:
    try:
        return made_of(path)
    except Exception:  # the library refuses with whatever its classes raise
        return None


def made_of(path: str) -> list[list[str]]:
    import miabis_model

    content = json.loads(Path(path).read_text(encoding="utf-8"))
    by_url = {entry["fullUrl"]: entry["resource"] for entry in content["entry"]}

    def named(one: dict[str, Any]) -> str:
        return (one["meta"].get("profile") or [""])[0].rsplit("/", 1)[-1]

    def diagnoses(sample: dict[str, Any]) -> list[dict[str, Any]]:
        observed = [one for one in by_url.values() if named(one) == "miabis-observation"]
        return [one for one in observed if by_url[one["specimen"]["reference"]] is sample]

    found = []
    for one in by_url.values():
        match named(one):
            case "miabis-sample-donor":
                made = miabis_model.SampleDonor.from_json(one)
            case "miabis-sample":
                made = miabis_model.Sample.from_json(one, diagnoses(one), "donor")
            case "miabis-condition":
                made = miabis_model.Condition.from_json(one, "donor")
                found.append(["Diagnosis", made.icd_10_code])
                continue
            case "miabis-biobank":
                made = miabis_model.Biobank.from_json(one, by_url[one["partOf"]["reference"]])
            case "miabis-collection":
                organization = by_url[one["managingEntity"]["reference"]]
                made = miabis_model.Collection.from_json(one, organization, "biobank", [])
            case _:
                continue
        found.append([type(made).__name__, made.identifier])
    return found


def main(judge: str, *arguments: str) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        if judge == "r4b":
            found: Any = {path: r4b(path) for path in arguments}
        elif judge == "pyfhircheck":
            found = pyfhircheck(arguments[0], list(arguments[1:]))
        else:
            found = {path: miabis(path) for path in arguments}
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
