"""OMOP CDM 5.4 with its oncology part (EPISODE, EPISODE_EVENT, modifiers) and MI-CDM (IMAGE_OCCURRENCE, IMAGE_FEATURE).

A folder with one CSV a table and the vocabulary rows for what it uses. Day 0 of everybody is 2000-01-01 (CDM_SOURCE
says so). Without a user's own vocabulary every code is concept 0 with its source value kept. Field lists, concepts and
checks are data beside this file. Definitions: OHDSI/CommonDataModel v5.4; dr-you-group/ImageWG (MI-CDM; Park et al.
2024, doi 10.1007/s10278-024-00982-6). Versions 5.4 and 6.0 can be read.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from ...core.errors import FileRejected
from ...core.files import canonical_json, folder_written_whole
from .. import core
from ..core import Code, Holdings
from . import Gap, Read, Violation
from ._omop_athena import Athena
from ._omop_cdm import SAID
from ._omop_check import violations
from ._omop_number import numbered
from ._omop_read import everything
from ._omop_write import sheets
from ._omop_write_chain import OF_A_COMPUTATION

NAME, VERSION = "omop", "5.4"
FORM, SUFFIX = "folder", ""
PREDICTIONS = False
OPTIONS: Mapping[str, str] = {"vocabulary": "folder of a vocabulary, as https://athena.ohdsi.org delivers it"}
"""What is told beside the store, or beside a folder that is read."""


def render(holdings: Holdings, out: Path, *, vocabulary: Path | str | None = None) -> None:
    """One CSV for each table that has rows.

    vocabulary  folder of a vocabulary from Athena; its concepts take the place of 0

    Raises ConfigurationRejected for a value that is longer than its field, FileRejected for another kind of folder.
    """
    values = (value for _, rows in core.rows(holdings) for row in rows for value in vars(row).values())
    athena = Athena.read(_folder(vocabulary), {value for value in values if isinstance(value, Code)})
    lines = sheets(holdings, athena.version or "none").lines
    seen = core.for_json(core.observed(core.without(holdings, ())))
    seed = sha256(canonical_json(seen).encode()).hexdigest()
    tables = numbered(lines, seed, athena)
    with folder_written_whole(out) as folder:
        for table, rows in tables.items():
            if rows:
                with (folder / f"{table.upper()}.csv").open("w", encoding="utf-8", newline="") as file:
                    writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
                    writer.writeheader()
                    writer.writerows(rows)


def _folder(vocabulary: Path | str | None) -> Path | None:
    return None if vocabulary is None else Path(vocabulary)


def read(path: Path, *, vocabulary: Path | str | None = None) -> Read:
    """Subjects with their events, samples and measurements; of an own export everything but the declared gaps.

    vocabulary  folder of a vocabulary from Athena: explains the concepts that the tables' own CONCEPT does not

    Raises FileRejected for a folder without PERSON, with a row that cannot be read, or of which a part is missing;
    and for a vocabulary that is none.
    """
    try:
        return everything(Path(path), _folder(vocabulary))
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, AssertionError) as error:
        raise FileRejected(
            "the tables of this folder do not fit together",
            "every table that was exported, unchanged",
            "export it again",
        ) from error


def check(out: Path) -> tuple[Violation, ...]:
    """OHDSI's data-quality checks, and every key of the definition, in a database in memory."""
    return violations(Path(out))


def mapping() -> Mapping[str, str]:
    """Where each attribute of the core stands: ``table.field`` of the core to ``TABLE.field`` of OMOP."""
    lost, places = {gap.path.split(".")[0] for gap in gaps() if gap.path.endswith(".*")}, dict(SAID["mapping"])
    for attribute in core.attributes():
        table, field = attribute.split(".")
        computed = table in OF_A_COMPUTATION or table == "biobank"
        beside = f"METADATA.name {table}/…/{field}" if computed else f"OBSERVATION.observation_source_value {field}"
        if table not in lost and attribute not in {gap.path for gap in gaps()}:
            places.setdefault(attribute, beside)
    return places


def gaps() -> tuple[Gap, ...]:
    """What no table of OMOP can hold."""
    return (
        Gap(
            "decision.*",
            "CDM 5.4 has no table for decisions on access: OBSERVATION holds facts about a person, METADATA about the "
            "whole dataset",
        ),
        Gap("run_subject.decision", "refers to a decision, for which CDM 5.4 has no table"),
    )
