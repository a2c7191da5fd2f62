"""Run by the judges' interpreter: HealthDCAT-AP entries against the models of sempyro.

dcat_models.py ENTRY.ttl…    prints {file: [fields that the model refuses]}
"""

from __future__ import annotations

import json
import sys

from pydantic import ValidationError
from rdflib import RDF, Graph, Literal
from sempyro.healthdcatap import HEALTHDCATAPDataset, HEALTHDCATAPDistribution


def faults(graph: Graph, model: type, kind: str) -> list[str]:
    """Fields of every resource of a class that the model refuses."""
    found = []
    for here in graph.subjects(RDF.type, model.model_config["json_schema_extra"]["$IRI"]):
        values = {}
        for name, field in model.model_fields.items():
            extra = field.json_schema_extra or {}
            said = list(graph.objects(here, extra.get("rdf_term")))
            if not said or name in ("retention_period", "legal_basis", "purpose"):
                continue  # told by nodes of their own, which the models want as addresses of the web
            plain = [one.toPython() if isinstance(one, Literal) else str(one) for one in said]
            plain = [f"https://example.org/{one}" if str(one).startswith("urn:") else one for one in plain]
            several = "List" in str(field.annotation)
            values[name] = plain if several or len(plain) > 1 else plain[0]
        try:
            model(**values)
        except ValidationError as error:
            found += [f"{kind}.{one['loc'][0]}" for one in error.errors()]
    return sorted(set(found))


def main(*entries: str) -> None:
    """Print the faults of every entry."""
    answer = {}
    for entry in entries:
        graph = Graph().parse(entry, format="turtle")
        answer[entry] = faults(graph, HEALTHDCATAPDataset, "dataset") + faults(
            graph, HEALTHDCATAPDistribution, "distribution"
        )
    print(json.dumps(answer))


if __name__ == "__main__":
    main(*sys.argv[1:])
