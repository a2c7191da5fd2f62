"""The passport of a program: what it is for, what it rests on, what is assumed in it, and what is known against it.

For the program that is running it is made from the code itself: every parameter with unit, range and source, every
sentence of the sources marked as assumed. For another version it is what the store keeps of it, or a plain statement
that nothing was kept.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from ..core import registry
from ..core.assumptions import assumptions_of
from ..core.quantity import Parameter
from . import standards
from .core import PREDICTING, Holdings, Program
from .record import this_software

SCHEMA = "oncoscale-ai-passport-1"


def document(holdings: Holdings) -> dict[str, Any]:
    """One passport for each program of these holdings; for this one where they name none."""
    programs = holdings.software or (_this_program(),)
    smallest = max((one.small_cell_k for one in holdings.study), default=1)
    return {
        "schema": SCHEMA,
        "programs": [{**passport_of(one), "calibrated_on": _calibrated(holdings, one, smallest)} for one in programs],
    }


def passport_of(program: Program) -> dict[str, Any]:
    """Ready for JSON."""
    identity = {"id": program.id, "name": program.name, "version": program.version, "code_sha256": program.code_sha256}
    if program.passport is not None and program.passport.get("schema") == SCHEMA:
        return {name: value for name, value in program.passport.items() if name != "schema"} | identity
    if program.passport is not None:
        return identity | {"kept": dict(program.passport)}
    if program.code_sha256 == this_software().code_sha256:
        return identity | this_passport()
    return identity | {
        "stated": "no passport was kept with this version; its runs are on record by the hash of its code"
    }


def _this_program() -> Program:
    this = this_software()
    return Program(this.id, this.name, this.version, this.code_sha256)


def passport_to_keep() -> dict[str, Any]:
    """The passport of this program as the store keeps it beside its runs, for when this version is no more."""
    return {"schema": SCHEMA, **this_passport()}


@cache
def this_passport() -> dict[str, Any]:
    """What the code of this program says of itself, and the statements beside it."""
    from ..agents import explain as cells
    from ..agents.parameters import TABLE
    from ..sim.treatments.chemotherapy import PARAMETERS

    stated = tomllib.loads(files(standards.__name__).joinpath("ai_passport.toml").read_text(encoding="utf-8"))
    marked = {part: list(assumptions_of(f"oncoscale.{part}")) for part in ("imaging", "meshing", "sim", "linkage")}
    return {
        **{name: value.strip() if isinstance(value, str) else value for name, value in stated.items()},
        "tumours": _tumours(),
        "parameters_of_cells": [_parameter(name, one) for name, one in TABLE.items()],
        "parameters_of_treatments": _parameters(PARAMETERS),
        "assumed_of_cells": list(cells.assumptions()),
        "assumed_elsewhere": marked,
    }


def _tumours() -> list[dict[str, Any]]:
    from ..sim.forecasting import assumptions
    from ..sim.tumour_type import TUMOURS, tumour_type

    found = []
    for name in registry.names(TUMOURS):
        one = tumour_type(name)
        about = {"name": one.name, "disease": one.disease, "species": one.species, "body_parts": list(one.body_parts)}
        found.append(about | {"parameters": _parameters(assumptions(one, None))})
    return found


def _parameters(parameters: Iterable[Parameter]) -> list[dict[str, Any]]:
    return [_parameter("", one) for one in parameters]


def _parameter(name: str, one: Parameter) -> dict[str, Any]:
    about = {"meaning": one.meaning, "value": float(one.value), "unit": one.unit, "source": one.source}
    limits = list(one.range) if one.range is not None else None
    return ({"name": name} if name else {}) | about | {"range": limits, "assumed": one.assumed}


def _calibrated(holdings: Holdings, program: Program, smallest: int) -> Mapping[str, Any]:
    """On how many subjects of which collections; a number below the study's smallest cell is not told."""
    runs = {one.id for one in holdings.run if one.software == program.id and one.kind == PREDICTING[1]}
    subjects = {one.subject for one in holdings.run_subject if one.run in runs}
    if not subjects:
        return {"subjects": 0, "collections": []}
    told = len(subjects) if len(subjects) >= smallest else f"fewer than {smallest}"
    collections = {one.collection for one in holdings.enrolment if one.subject in subjects and one.collection}
    return {"subjects": told, "collections": sorted(collections)}
