"""MIABIS Core 2.0, import only: its codes and values turned into those of Core 3.0 [Merino-Martinez 2016].

The same code stands for biobank, sample collection and study, so the table decides what a code means. The parts of
contact and disease carry letters (``MIABIS-2.0-07-A``, ``MIABIS-2.0-17C``).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from . import Gap
from ._declared import content

CODE = re.compile(r"V?MIABIS-2\.0-(\d\d)-?([A-H])?", re.IGNORECASE)
TABLES = {
    "biobank": "biobank", "collection": "collection", "sample-collection": "collection",
    "study": "research-resource", "research-resource": "research-resource",
}  # fmt: skip


def is_version_2(raw: Mapping[str, Sequence[Mapping[str, Any]]]) -> bool:
    """Whether any attribute is named by a code of Core 2.0."""
    return any(CODE.fullmatch(header.strip()) for records in raw.values() for one in records for header in one)


def as_version_3(
    raw: Mapping[str, Sequence[Mapping[str, Any]]],
) -> tuple[dict[str, list[dict[str, Any]]], tuple[Gap, ...]]:
    """(tables by codes of Core 3.0, what has no counterpart there)."""
    lost: Counter[str] = Counter()
    tables: dict[str, list[dict[str, Any]]] = {}
    for table, records in raw.items():
        name = TABLES.get(table.lower().replace("_", "-").replace(" ", "-"))
        if name is None:
            lost[table[:60]] += len(records)
        else:
            tables.setdefault(name, []).extend(_record(name, one, lost) for one in records)
    reason = "no counterpart in MIABIS Core 3.0"
    return tables, tuple(Gap(path, reason, n) for path, n in sorted(lost.items()))


def _record(name: str, raw: Mapping[str, Any], lost: Counter[str]) -> dict[str, Any]:
    record: dict[str, Any] = {}
    prefix, codes = content("miabis")["entities"][name]["prefix"], content("miabis_2")["attributes"][name]
    for header, value in raw.items():
        match = CODE.fullmatch(header.strip())
        targets = codes.get(match[1], "").split() if match else []
        if match is None and header.strip().upper() in content("miabis")["entities"][name].get("links", ()):
            record[header.strip().upper()] = value
        elif not targets:
            lost[f"{name}.{header[:60]}"] += 1
        for target in targets:
            part = f"-{'ABCDEFGH'.index(match[2].upper()) + 1:02}" if match and match[2] else ""
            record.setdefault(f"{prefix}-{target}{part}", _renamed(value))
    return record


def _renamed(value: Any) -> Any:
    """A value as Core 3.0 calls it; several may stand, joined by ``|`` in CSV."""
    listed = value if isinstance(value, list) else value.split("|") if isinstance(value, str) else [value]
    values = content("miabis_2")["values"]
    called = list(dict.fromkeys(values.get(one, one) if isinstance(one, str) else one for one in listed))
    return called if len(called) > 1 else called[0] if called else None
