"""The verb ``explain`` as a Python call: what a disease model rests on."""

from __future__ import annotations

from dataclasses import asdict
from inspect import cleandoc
from typing import TYPE_CHECKING

from ..core import registry
from .console import Result

if TYPE_CHECKING:
    from ..core.quantity import Parameter


def explain(tumour: str | None, *, differences: bool = False) -> Result:
    """What a disease model rests on, tissue and cells, or the names of those there are."""
    from ..agents import explain as cells
    from ..agents.cell_type import cell_type
    from ..core.assumptions import assumptions_of
    from ..meshing.tetrahedra import PARAMETERS as MESHING
    from ..sim.anatomy import PARAMETERS as ANATOMY
    from ..sim.forecasting import assumptions
    from ..sim.stiffness import PARAMETERS as STIFFNESS
    from ..sim.treatments.chemotherapy import TRANSPORT
    from ..sim.treatments.course import PARAMETERS
    from ..sim.tumour_type import TUMOURS, tumour_type
    from ..sim.vessels import PARAMETERS as VESSELS

    if tumour is None:
        names = registry.names(TUMOURS)
        return Result({"tumours": list(names)}, "\n".join(names))
    disease = tumour_type(tumour)
    kind = cell_type(disease.cells)
    table, hour = kind.parameters(None).table, {f"{kind.name} cell": kind.each_hour[0]}
    released = disease.cells == cells.RELEASED_TYPE
    parameters = (*assumptions(disease, None), *VESSELS, *STIFFNESS, *PARAMETERS, *TRANSPORT, *MESHING, *ANATOMY)
    elsewhere = {part: list(assumptions_of(f"oncoscale.{part}")) for part in ("imaging", "meshing", "sim")}
    meaning = cleandoc(disease.initial_fields.__doc__ or "")
    content = {
        "name": disease.name,
        "disease": disease.disease,
        "species": disease.species,
        "body_parts": list(disease.body_parts),
        "maps_mean": meaning,
        "parameters": [parameter.as_table() for parameter in parameters],
        "rules": [asdict(rule) for rule in (cells.rules() if released else cells.rules(hour, tuple(table)))],
        "around_the_rules": cells.chapters_as_data() if released else [],
        "parameters_of_cells": {name: parameter.as_table() for name, parameter in table.items()},
        "assumed_of_cells": list(cells.assumptions()),
        "assumed_elsewhere": elsewhere,
        **(cells.differences_as_data() if differences and released else {}),
    }
    lines = [
        f"{disease.name}: {disease.disease} of the {disease.species}",
        f"Places: {', '.join(disease.body_parts).lower() or 'any'}",
        "",
        meaning,
        "",
        "Parameters of the tissue scale (* = assumed: no source read for this project supports the value)",
        *(_parameter_line(parameter) for parameter in parameters),
        "",
        "Assumed in the sources",
        *(f"  {part}: {sentence}" for part, sentences in elsewhere.items() for sentence in sentences),
        "",
        cells.explain(with_differences=differences) if released else cells.of_type(kind),
    ]
    return Result(content, "\n".join(cells.wrapped_all("\n".join(lines).split("\n"))))


def _parameter_line(parameter: Parameter) -> str:
    mark = "*" if parameter.assumed else " "
    unit = "" if parameter.unit == "1" else f" {parameter.unit}"
    return f"{mark} {parameter.meaning}: {parameter.value:.6g}{unit}\n      {parameter.source}"
