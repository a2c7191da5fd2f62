"""The verb ``schema`` as a Python call: what a configuration file may say."""

from __future__ import annotations

import json
from typing import Any

from .console import Result
from .options import one_of


def schema(name: str | None) -> Result:
    """The JSON Schema of one configuration file, or the names of those there are."""
    schemas = {
        "forecast": _forecast_schema,
        "treatment": _treatment_schema,
        "radiomics": _radiomics_schema,
        "widths": _widths_schema,
    }
    if name is None:
        return Result({"schemas": list(schemas)}, "\n".join(schemas))
    one_of("schema", name, tuple(schemas))
    content = schemas[name]()
    return Result(content, json.dumps(content, indent=1, ensure_ascii=False))


def _forecast_schema() -> dict[str, Any]:
    from ..sim.settings import ForecastSettings

    return ForecastSettings.model_json_schema()


def _radiomics_schema() -> dict[str, Any]:
    from ..imaging.radiomics_settings import RadiomicsSettings

    return RadiomicsSettings.model_json_schema()


def _treatment_schema() -> dict[str, Any]:
    from ..sim.treatments.chemotherapy import ChemotherapyFile
    from ..sim.treatments.course import CourseFile
    from ..sim.treatments.radiotherapy import RadiotherapyFile
    from ..sim.treatments.surgery import SurgeryFile

    kinds = (ChemotherapyFile, RadiotherapyFile, SurgeryFile, CourseFile)
    return {"title": "Treatment", "oneOf": [kind.model_json_schema() for kind in kinds]}


def _widths_schema() -> dict[str, Any]:
    from ..imaging.systematic import WIDTHS

    properties = {
        name: {
            "type": "number",
            "minimum": 0,
            "default": width.value,
            "description": f"{width.meaning} ({width.unit}); {width.source}",
        }
        for name, width in WIDTHS.items()
    }
    return {"title": "Widths", "type": "object", "properties": properties, "additionalProperties": False}
