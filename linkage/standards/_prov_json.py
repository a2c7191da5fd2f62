"""PROV-JSON: what was made from what, by what, for readers of provenance who know nothing of crates.

Attempts are activities, series, files and samples entities, programs agents. Source: Huynh et al. 2013, The PROV-JSON
Serialization (W3C Member Submission); PROV-DM (W3C Recommendation, 2013).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..core import PREDICTING, Attempt, Holdings, Link

PREFIX = {"onco": "urn:oncoscale:", "xsd": "http://www.w3.org/2001/XMLSchema#"}
PREDICTION = {"$": "onco:Prediction", "type": "prov:QUALIFIED_NAME"}

Document = dict[str, dict[str, Any]]


def prov_json(holdings: Holdings) -> Document:
    """The provenance of these holdings, ready for JSON."""
    runs = {one.id: one for one in holdings.run}
    document: Document = {name: {} for name in ("entity", "activity", "agent", "used", "wasGeneratedBy",
                                                "wasAssociatedWith", "wasDerivedFrom")}  # fmt: skip
    document["entity"] |= dict(_entities(holdings))
    for program in holdings.software:
        kind = {"$": "prov:SoftwareAgent", "type": "prov:QUALIFIED_NAME"}
        document["agent"][f"onco:software/{program.id}"] = {"prov:type": kind, "onco:version": program.version,
                                                            "onco:code_sha256": program.code_sha256}  # fmt: skip
    for attempt in holdings.attempt:
        here = _attempt(attempt.run, attempt.n)
        document["activity"][here] = _activity(attempt, runs[attempt.run].kind)
        agent = {"prov:activity": here, "prov:agent": f"onco:software/{runs[attempt.run].software}"}
        document["wasAssociatedWith"][f"_:by-{attempt.run}-{attempt.n}"] = agent
        _relate(document, here, [one for one in holdings.link if (one.run, one.attempt) == (attempt.run, attempt.n)])
    return {"prefix": dict(PREFIX)} | {name: found for name, found in document.items() if found}


def _entities(holdings: Holdings) -> Iterator[tuple[str, dict[str, Any]]]:
    for series in holdings.image_series:
        about = {"onco:modality": series.modality.code, "onco:sha256": series.content_sha256}
        yield f"onco:image_series/{series.uid}", about | _mark(series.role == "simulated")
    for artefact in holdings.artefact:
        about = {"onco:kind": artefact.kind, "onco:sha256": artefact.sha256}
        yield f"onco:artefact/{artefact.sha256}", about | _mark(artefact.asserted == "simulated")
    for sample in holdings.sample:
        yield f"onco:sample/{sample.id}", {"onco:type": sample.type.code}


def _mark(is_prediction: bool) -> dict[str, Any]:
    return {"prov:type": PREDICTION} if is_prediction else {}


def _activity(attempt: Attempt, kind: str) -> dict[str, Any]:
    times = {"prov:startTime": attempt.started, "prov:endTime": attempt.ended}
    about = {"onco:kind": kind, "onco:status": attempt.status, "onco:predicts": kind in PREDICTING}
    return {name: value for name, value in times.items() if value is not None} | about


def _relate(document: Document, here: str, links: list[Link]) -> None:
    """What an attempt used and generated; each thing that it generated is derived from each that it used."""
    used = [_thing(one) for one in links if one.role == "used"]
    made = [_thing(one) for one in links if one.role == "generated"]
    for relation, things in (("used", used), ("wasGeneratedBy", made)):
        for thing in dict.fromkeys(things):
            name = f"_:{relation}-{len(document[relation])}"
            document[relation][name] = {"prov:activity": here, "prov:entity": thing}
    for new in dict.fromkeys(made):
        for old in dict.fromkeys(used):
            pair = {"prov:generatedEntity": new, "prov:usedEntity": old, "prov:activity": here}
            document["wasDerivedFrom"][f"_:derived-{len(document['wasDerivedFrom'])}"] = pair


def _attempt(run: str, n: int) -> str:
    return f"onco:run/{run}/{n}"


def _thing(link: Link) -> str:
    if link.artefact is not None:
        return f"onco:artefact/{link.artefact}"
    return f"onco:image_series/{link.series}" if link.series is not None else f"onco:sample/{link.sample}"
