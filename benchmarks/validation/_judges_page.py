"""The record of ``judges.py`` as a page of the documentation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

HEAD = """\
Judges' reports
===============

.. Written by benchmarks/validation/judges.py --page from its record, benchmarks/results/judges.json.

Two subjects went through the whole chain: ingested, forecast, exported in every standard. One is the digital reference
patient, who is nobody, with clinical facts drawn at random; the other is UCSF-BR-06, a public breast examination
(TCIA). Their forecasts are of few elements and few cells, of a model of neuroblastoma, and mean nothing: they are there
to be exported. Each export came before the standard's own check and before every judge that can be had, and so did
copies of it with one fault each, those of the tests (``tests/linkage``), as far as the export holds what the fault
needs. ::

    python benchmarks/validation/judges.py --page

makes this page again. Nothing of a subject is in it.

"""
WHAT_IT_IS_NOT = """\
What this does not show
-----------------------

- A judge rejects what it can see. Which faults it does not see is told above; faults that nobody thought of are not.
- Two subjects are not all subjects. Generated cohorts of many kinds go before the same judges in the tests.
- No report is a certificate: none of the bodies behind these standards has seen it.
"""


def page(record: Mapping[str, Any]) -> str:
    """The page, as reStructuredText."""
    parts = [
        HEAD,
        _verdict(record),
        _section("What was exported", _exports(record["exports"])),
        _section("What the judges found", _judged(record["verdicts"])),
        _section("Broken copies", _broken(record["verdicts"])),
        _section("Who was not asked", _not_run(record["not_run"])),
        WHAT_IT_IS_NOT,
    ]
    return "\n".join(parts)


def _verdict(record: Mapping[str, Any]) -> str:
    ran = record["verdicts"]
    objections = sum(one["violations"] for one in ran)
    broken, rejected = sum(one["broken"] for one in ran), sum(len(one["rejected"]) for one in ran)
    named = ", ".join(f"{name} {number}" for name, number in record["versions"].items())
    return (
        f"**{len(record['exports'])} exports, {len(ran)} verdicts: {objections} violations.** Of {broken} looks at a\n"
        f"broken copy {rejected} ended in a rejection; the others were at faults that the judge cannot see.\n\n"
        f"{named}.\n"
    )


def _section(title: str, content: str) -> str:
    return f"{title}\n{'-' * len(title)}\n\n{content}"


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    listed = "".join("   * - " + "\n     - ".join(map(str, row)) + "\n" for row in (head, *rows))
    return f".. list-table::\n   :header-rows: 1\n\n{listed}"


def _exports(exports: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        (one["standard"], one["version"], one["subject"], one["files"], one["gaps_met"], one["values_not_said"])
        for one in sorted(exports, key=lambda one: (one["standard"], one["subject"]))
    ]
    note = "A *gap met* is an attribute that the standard cannot say and that this subject has (:doc:`gaps`).\n\n"
    return note + _table(("Standard", "Version", "Subject", "Files", "Gaps met", "Values not said"), rows)


def _judged(verdicts: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        (one["standard"], f"{one['judge']} {one['judge_version']}".strip(), one["subject"], one["violations"],
         f"{len(one['rejected'])} of {one['broken']}" if one["broken"] else "none made", _as_said(one))
        for one in verdicts
    ]  # fmt: skip
    head = ("Standard", "Judge", "Subject", "Violations", "Broken copies rejected", "As the tests say")
    return _table(head, sorted(rows))


def _as_said(one: Mapping[str, Any]) -> str:
    return {True: "yes", False: "**no**", None: "no table"}[one["as_the_tests_say"]]


def _broken(verdicts: Sequence[Mapping[str, Any]]) -> str:
    """For each standard and fault, who rejected it."""
    who: dict[tuple[str, str], set[str]] = {}
    for one in verdicts:
        for fault in one["rejected"]:
            who.setdefault((one["standard"], fault), set()).add(one["judge"])
    rows = [(standard, fault, ", ".join(sorted(names))) for (standard, fault), names in sorted(who.items())]
    return _table(("Standard", "Fault", "Rejected by"), rows)


def _not_run(reasons: Sequence[Mapping[str, Any]]) -> str:
    rows = sorted({(str(one["standard"]), str(one["judge"]), str(one["not_run"])) for one in reasons})
    more = "HL7's own validator of FHIR, OHDSI's Data Quality Dashboard and Achilles are in no package registry.\n\n"
    return more + _table(("Standard", "Judge", "Why"), rows)
