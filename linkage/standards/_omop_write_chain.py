"""What belongs to no person alone: the source, biobanks, cohorts, and the record of computations."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from .. import core
from ..core import Holdings
from ._omop_cdm import DAY_0, LOCAL, MARK, pieces
from ._omop_sheets import Line, Sheets, system

DESCRIPTION = (
    f"{MARK}: day 0 of every person is {DAY_0.isoformat()}; intervals are true, dates are not. Year of birth is "
    "2000 less the age in years, 1900 where the age is not known. Rows of type "
    f"{LOCAL['simulated']} are predictions of a model and no observed facts. Pseudonymised data remain personal data."
)
OF_A_COMPUTATION = ("software", "parameter_set", "run", "attempt", "link", "artefact")
"""Tables of the core that become METADATA."""


@dataclass
class Chain:
    """The rules, one method a kind of row; ``seen`` are the rows of the core that were observed, by table."""

    held: Holdings
    said: Sheets

    def __post_init__(self) -> None:
        self.seen = {table: set(map(id, rows)) for table, rows in core.rows(core.observed(self.held))}
        self.software = {run.id: run.software for run in self.held.run}
        self.read: dict[str, list[str]] = defaultdict(list)
        for link in self.held.link:
            if link.role == "used" and link.series:
                self.read[link.run].append(link.series)

    def source(self, vocabulary: str) -> None:
        """CDM_SOURCE. Its dates are day 0 as well: that of the export stays at home."""
        self.said.add(
            "cdm_source",
            {
                "cdm_source_name": "oncoscale export",
                "cdm_source_abbreviation": "oncoscale",
                "cdm_holder": "not stated",
                "source_description": DESCRIPTION,
                "source_release_date": DAY_0,
                "cdm_release_date": DAY_0,
                "cdm_version": "5.4",
                "cdm_version_concept_id": 0,
                "vocabulary_version": vocabulary,
            },
        )

    def keepers(self) -> None:
        """Biobanks and sites as CARE_SITE; collections and studies as COHORT_DEFINITION."""
        for site in sorted({one.site for one in self.held.subject}):
            self.said.of["site", site] = self.said.add(
                "care_site", {"care_site_source_value": site, "place_of_service_source_value": "site"}
            )
        for n, biobank in enumerate(self.held.biobank, start=1):
            where = self.said.add("location", {"country_source_value": biobank.country})
            self.said.add(
                "care_site",
                {
                    "care_site_name": biobank.name,
                    "care_site_source_value": biobank.id,
                    "place_of_service_source_value": "biobank",
                    "location_id": where,
                },
            )
            rest = {name: getattr(biobank, name) for name in ("id", "juristic_person", "acronym", "attributes")}
            self._metadata("biobank", n, rest, simulated=False)
        for kind, found in (("study", self.held.study), ("collection", self.held.collection)):
            for one in found:
                self._definition(kind, one)

    def _definition(self, kind: str, one: Any) -> None:
        name, text = ("title", "legal_basis") if kind == "study" else ("name", "description")
        rest = core.for_json(Holdings(**{kind: (one,)}))[kind][0]
        self.said.of[kind, one.id] = self.said.add(
            "cohort_definition",
            {
                "cohort_definition_name": getattr(one, name),
                "cohort_definition_description": getattr(one, text),
                "definition_type_concept_id": LOCAL[kind],
                "cohort_definition_syntax": {key: rest[key] for key in rest if key not in (name, text)},
                "subject_concept_id": LOCAL["person"],
            },
        )

    def computations(self) -> None:
        """Runs and what belongs to them as METADATA, what predicts after what was observed."""
        for table in OF_A_COMPUTATION:
            rows = getattr(self.held, table)
            ordered = sorted(rows, key=lambda row: id(row) not in self.seen[table])
            for n, row in enumerate(ordered, start=1):
                content = {one.name: getattr(row, one.name) for one in fields(row)}
                anchor = self._metadata(table, n, content, simulated=id(row) not in self.seen[table])
                self.said.of[table, str(next(iter(content.values())))] = anchor

    def _metadata(self, table: str, n: int, content: Mapping[str, Any], *, simulated: bool) -> Line:
        """One METADATA a value, named ``table/number/field/form``; returns the first, which stands for the row."""
        first: Line | None = None
        for name, value in content.items():
            for piece in pieces(value, 250) if value is not None else ():
                line = self.said.add(
                    "metadata",
                    {
                        "metadata_concept_id": LOCAL["provenance"],
                        "metadata_type_concept_id": LOCAL["simulated"] if simulated else LOCAL["observed"],
                        "name": f"{table}/{n}/{name}/{piece.form}",
                        "value_as_string": piece.text,
                        "value_as_number": piece.number,
                        "value_as_concept_id": piece.code,
                    },
                    simulated=simulated,
                )
                first = first or line
        assert first is not None
        return first

    def artefacts(self) -> None:
        """IMAGE_FEATURE for a file computed from images; whose data it holds, and whom a run served, as facts."""
        for one in self.held.link:
            line = self.said.of.get(("artefact", one.artefact or ""))
            if one.role == "generated" and line is not None:
                for image in self.images_of(one.run)[:1]:
                    self.said.feature(line, image, LOCAL["artefact"], system(self.software.get(one.run), one.run))
        for held in self.held.contains:
            self._fact("artefact", held.artefact, held.subject, LOCAL[held.share])
        for used in self.held.run_subject:
            self._fact("run", used.run, used.subject, LOCAL["used"])

    def _fact(self, table: str, name: str, subject: str, relationship: int) -> None:
        line = self.said.of[table, name]
        self.said.add(
            "fact_relationship",
            {
                "domain_concept_id_1": LOCAL["metadata"],
                "fact_id_1": line,
                "domain_concept_id_2": LOCAL["person"],
                "fact_id_2": self.said.of["subject", subject],
                "relationship_concept_id": relationship,
            },
            simulated=line.simulated,
        )

    def images_of(self, run: str) -> list[Line]:
        """The images that a run read, as far as they are here."""
        return [self.said.of["series", uid] for uid in self.read[run] if ("series", uid) in self.said.of]
