"""The store's own JSON: everything that is held, nothing lost. What a person may ask for and take elsewhere."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from ...core.errors import FileRejected
from ...core.files import write_json
from .. import core
from ..core import Holdings
from . import Gap, Read, Violation

NAME, VERSION = "native", "1"
FORM, SUFFIX = "file", ".json"
PREDICTIONS = True

SCHEMA = f"oncoscale-holdings-{VERSION}"
NOTICE = (
    "Pseudonymised data remain personal data (Regulation (EU) 2016/679, art. 4(5)). Predictions are a model's. "
    "Times of consents, decisions and attempts count from 2000-01-01; dates stay at home."
)


def render(holdings: Holdings, out: Path) -> None:
    """One JSON file, a list of rows for each table."""
    write_json(out, {"schema": SCHEMA, "notice": NOTICE, **core.for_json(holdings)})


def read(path: Path) -> Read:
    """Exactly what was rendered. Raises FileRejected for anything else."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        if content.pop("schema") != SCHEMA:
            raise ValueError("schema")
        content.pop("notice")
        return Read(core.from_json(content))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise FileRejected(
            f"{Path(path).name!r} does not hold the rows of a store",
            f"a JSON file of schema {SCHEMA}, as `oncoscale export --as native` writes",
            "export it again",
        ) from error


def check(out: Path) -> tuple[Violation, ...]:
    """Whether every reference leads to a row of the same file."""
    return broken_references(read(out).holdings)


def broken_references(held: Holdings) -> tuple[Violation, ...]:
    """References of holdings that lead to no row of theirs."""
    known = {
        "subject": {one.key for one in held.subject},
        "run": {one.id for one in held.run},
        "study": {one.id for one in held.study},
        "software": {one.id for one in held.software},
    }
    broken = []
    for table, found in core.rows(held):
        for row in found:
            for name, keys in known.items():
                value = getattr(row, name, None)
                if table != name and isinstance(value, str) and value not in keys:
                    broken.append(Violation("references lead to a row", f"{table}.{name}", value[:18]))
    return tuple(broken)


def gaps() -> tuple[Gap, ...]:
    """None."""
    return ()


def mapping() -> Mapping[str, str]:
    """Every attribute under its own name."""
    return {path: "{}[].{}".format(*path.split(".")) for path in core.attributes()}
