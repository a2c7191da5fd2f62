"""AI passport: what the programs behind the runs are, as one document in three forms (JSON, Markdown, HTML).

The term is ProCancer-I's [Kondylakis et al. 2022, doi 10.1186/s41747-022-00281-1]; no machine-readable form of it has
been published, so the sections are those of the project's specification (B.11). It is about programs alone: nothing
of a subject is in it but how many a calibration used.
"""

from __future__ import annotations

import html
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...core.files import write_json, write_text
from .. import core
from ..core import Holdings
from ..passport import SCHEMA, document
from . import Gap, Violation

NAME, VERSION = "ai-passport", "1"
FORM, SUFFIX = "folder", ""
PREDICTIONS = False

REQUIRED = ("licence", "intended_use", "not_intended_for", "not_a_medical_device", "kind_of_model", "tumours", "inputs",
            "parameters_of_cells", "assumed_of_cells", "assumed_elsewhere", "validation", "known_failures", "resources",
            "approvals")  # fmt: skip
"""Sections that the passport of a known program has (specification, B.11)."""

ABOUT_PROGRAMS = "software"


def render(holdings: Holdings, out: Path) -> None:
    """``passport.json``, and the same as ``passport.md`` and ``passport.html``."""
    content = document(holdings)
    out.mkdir(parents=True)
    write_json(out / "passport.json", content)
    write_text(out / "passport.md", markdown(content))
    write_text(out / "passport.html", page(content))


def check(out: Path) -> tuple[Violation, ...]:
    """Whether every section is there, every parameter has unit and source or is marked, and the three forms agree."""
    content = json.loads((Path(out) / "passport.json").read_text(encoding="utf-8"))
    if content.get("schema") != SCHEMA:
        return (Violation("the schema is stated", "schema", str(content.get("schema"))),)
    found = [fault for one in content["programs"] for fault in _faults(one)]
    for name, made in (("passport.md", markdown(content)), ("passport.html", page(content))):
        if (Path(out) / name).read_text(encoding="utf-8") != made:
            found.append(Violation("the forms agree", name, "another text than passport.json gives"))
    return tuple(found)


def _faults(program: Mapping[str, Any]) -> Iterator[Violation]:
    if "kept" in program or "stated" in program:
        return
    for name in REQUIRED:
        if name not in program or program[name] == "":
            yield Violation("every section is there", program["id"], name)
    if program.get("not_a_medical_device") is not True:
        yield Violation("it is said that this is no medical device", program["id"], "not_a_medical_device")
    for one in _all_parameters(program):
        if not one["unit"] or not (one["source"] or one["assumed"]):
            yield Violation("every parameter has a unit, and a source or the mark that it is assumed", program["id"],
                            one["meaning"])  # fmt: skip


def _all_parameters(program: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield from program.get("parameters_of_cells", ())
    yield from program.get("parameters_of_treatments", ())
    for tumour in program.get("tumours", ()):
        yield from tumour["parameters"]


def gaps() -> tuple[Gap, ...]:
    """Everything but the programs."""
    reason = "a passport describes a model, not people or what was computed for them (specification, B.11)"
    return tuple(Gap(f"{table}.*", reason) for table in core.ROWS if table != ABOUT_PROGRAMS)


# For people


Section = tuple[str, Sequence[str]]


def sections(program: Mapping[str, Any]) -> Iterator[Section]:
    """(heading, sentences) of one program's passport."""
    yield f"{program['name']} {program['version']}", [f"Hash of the code: {program['code_sha256']}"]
    if "stated" in program or "kept" in program:
        yield "What was kept", [program.get("stated") or json.dumps(program["kept"], sort_keys=True)]
        return
    yield "Not a medical device", [_line(program["not_intended_for"])]
    yield "Intended use", [_line(program["intended_use"]), _line(program["kind_of_model"])]
    yield "Licence", [program["licence"]]
    yield "Inputs", [f"{one['name']} ({one['unit']}): {one['needed']}" for one in program["inputs"]]
    yield "Calibration", [_calibration(program["calibrated_on"])]
    yield "Validation", [f"{one['what']}: {one['where']}" for one in program["validation"]]
    yield "Known failures", [one["what"] for one in program["known_failures"]]
    yield "Resources", [_line(program["resources"])]
    yield "Approvals", program["approvals"] or ["none"]
    for tumour in program["tumours"]:
        places = ", ".join(tumour["body_parts"]).lower() or "any place"
        about = f"{tumour['disease']} of the {tumour['species']}; {places}"
        yield f"Tumour: {tumour['name']}", [about, *map(_told, tumour["parameters"])]
    yield "Parameters of the cells", [_told(one) for one in program["parameters_of_cells"]]
    yield "Parameters of treatments", [_told(one) for one in program["parameters_of_treatments"]]
    marked = [f"{part}: {one}" for part, found in sorted(program["assumed_elsewhere"].items()) for one in found]
    yield "Assumed", [*program["assumed_of_cells"], *marked]


def _line(text: str) -> str:
    return " ".join(text.split())


def _calibration(one: Mapping[str, Any]) -> str:
    if one["subjects"] == 0:
        return "on nobody: no calibration is among the runs"
    where = ", ".join(one["collections"]) or "no collection"
    return f"on {one['subjects']} subject(s) of {where}"


def _told(one: Mapping[str, Any]) -> str:
    unit = "" if one["unit"] == "1" else f" {one['unit']}"
    mark = "assumed" if one["assumed"] else "read"
    name = f"{one['name']}: " if "name" in one else ""
    return f"{name}{one['meaning']}: {one['value']:.6g}{unit} ({mark}; {one['source'] or 'no source'})"


def markdown(content: Mapping[str, Any]) -> str:
    """The document in Markdown."""
    lines = ["# AI passport"]
    for program in content["programs"]:
        for heading, sentences in sections(program):
            lines += ["", f"## {heading}", "", *(f"- {one}" for one in sentences)]
    return "\n".join(lines) + "\n"


def page(content: Mapping[str, Any]) -> str:
    """The document as a page of its own."""
    parts = ["<!doctype html>", '<html lang="en"><head><meta charset="utf-8"><title>AI passport</title></head><body>',
             "<h1>AI passport</h1>"]  # fmt: skip
    for program in content["programs"]:
        for heading, sentences in sections(program):
            items = "".join(f"<li>{html.escape(one)}</li>" for one in sentences)
            parts.append(f"<h2>{html.escape(heading)}</h2><ul>{items}</ul>")
    return "\n".join([*parts, "</body></html>"]) + "\n"
