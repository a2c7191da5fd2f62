"""MIABIS as records: entities, their attributes by code, the rules of each, and how they are written and read.

A record maps codes to values, always a tuple of text. In JSON an attribute of one value is a text or a number; in CSV
several values are joined by ``|``. Codes and names both find an attribute, since the standard prints some codes in
two ways (COLLECTION-9 without its zero; the parts of Disease under 17 and 15 although Disease is 16).
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from ...core.errors import FileRejected
from ...core.files import canonical_json, write_json
from . import Gap, Violation
from ._declared import content
from ._tables import NOTICE, read_table, write_notice, write_table

Record = Mapping[str, tuple[str, ...]]
Records = Mapping[str, Sequence[Record]]
"""The records of each entity."""

FILE, SCHEMA = "miabis.json", "MIABIS Core 3.0, Sample Donor Event 1.1"
CODE_BOOK = ("system", "version", "code", "display")
EVENT_KINDS = (
    "diagnosis", "treatment", "surgery", "radiotherapy", "follow-up", "progression", "death", "imaging", "sampling",
)  # fmt: skip
PATTERNS = {
    "id": re.compile(r"[A-Za-z0-9][A-Za-z0-9._:\-]*"),
    "country": re.compile(r"[A-Z]{2}"),
    "integer": re.compile(r"-?\d{1,9}"),
    "decimal": re.compile(r"\d{1,9}(\.\d+)?"),
    "date": re.compile(r"\d{4}(-\d\d(-\d\d(T\d\d:\d\d(:\d\d)?)?)?)?"),
    "diagnosis": re.compile(r"[A-Z]\d\d(\.\d{1,4})?|ORPHA:\d+"),
}


@dataclass(frozen=True)
class Attribute:
    """An attribute of an entity: how many values at least, whether several may stand, and which."""

    code: str
    name: str
    least: int = 0
    many: bool = False
    kind: str = "text"
    values: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Entity:
    """An entity: its attributes and the IDs of the entities that it refers to, by code."""

    name: str
    attributes: Mapping[str, Attribute]
    links: tuple[str, ...] = ()
    columns: tuple[str, ...] = field(default=())

    @property
    def identity(self) -> str:
        """The code of its ID; empty for a relation."""
        return next((one.code for one in self.attributes.values() if one.kind == "id"), "")


def entity(name: str) -> Entity:
    """The entity of a table: ``event-diagnosis`` is an Event, the code book holds no attribute of the standard."""
    return entities()["event" if name.startswith("event") else name]


@cache
def entities() -> Mapping[str, Entity]:
    """All entities of the standard."""
    return {name: _entity(name, stated) for name, stated in content("miabis")["entities"].items()}


def table_names() -> tuple[str, ...]:
    """The tables of an export, in the order of their references."""
    events = tuple(f"event-{kind}" for kind in EVENT_KINDS)
    return (*(name for name in entities() if name != "event"), *events)


def _entity(name: str, stated: Mapping[str, Any]) -> Entity:
    spec, like = content("miabis"), stated.get("like")
    listed = spec["entities"][like]["attributes"] if like else stated["attributes"]
    attributes: dict[str, Attribute] = {}
    for one in listed:
        about = dict(one) | ({"name": stated["names"][one["code"]]} if one["code"] in stated.get("names", ()) else {})
        if like and one["code"] != "01":
            about |= {"least": 0, "many": about.get("many", False) or "list" in about}
        found = _attribute(stated["prefix"], about, spec)
        attributes[found.code] = found
        for n, part in enumerate(found.parts, 1):
            several = one["parts"] == "disease"
            attributes[f"{found.code}-{n:02}"] = Attribute(f"{found.code}-{n:02}", part, many=several)
    links = tuple(stated.get("links", ()))
    columns = (*links, *(code for code, one in attributes.items() if not one.parts))
    return Entity(name, attributes, links, columns)


def _attribute(prefix: str, about: Mapping[str, Any], spec: Mapping[str, Any]) -> Attribute:
    return Attribute(
        f"{prefix}-{about['code']}", about["name"], about.get("least", 0), about.get("many", False),
        about.get("kind", "text"), tuple(spec["lists"][about["list"]]) if "list" in about else (),
        tuple(spec["parts"][about["parts"]]) if "parts" in about else (),
    )  # fmt: skip


# --- writing


def write_records(folder: Path, records: Records, code_book: Sequence[Mapping[str, str]]) -> None:
    """A folder of one CSV a table, the same as JSON, the code book, and a notice."""
    folder.mkdir()
    for name in table_names():
        held = records.get(name, ())
        if held or not name.startswith("event"):
            lines = [{code: _cell(name, code, values) for code, values in record.items()} for record in held]
            write_table(folder / f"{name}.csv", entity(name).columns, lines)
    write_table(folder / "code-book.csv", CODE_BOOK, code_book)
    as_json = {name: [_for_json(name, one) for one in held] for name, held in records.items() if held}
    write_json(folder / FILE, {"schema": SCHEMA, "notice": NOTICE, "code-book": list(map(dict, code_book)), **as_json})
    write_notice(folder)


def _cell(name: str, code: str, values: tuple[str, ...]) -> str:
    """One value as it is, several joined by ``|``; as a JSON list where one of them holds that character."""
    attribute = entity(name).attributes.get(code)
    if attribute is None or not attribute.many:
        return values[0]
    return canonical_json(values) if any("|" in one or one.startswith("[") for one in values) else "|".join(values)


def _for_json(name: str, record: Record) -> dict[str, Any]:
    return {code: _plain(entity(name).attributes.get(code), values) for code, values in record.items()}


def _plain(attribute: Attribute | None, values: tuple[str, ...]) -> Any:
    if attribute is None or not attribute.many:
        is_number = attribute is not None and attribute.kind in ("integer", "decimal")
        return json.loads(values[0]) if is_number and PATTERNS["decimal"].fullmatch(values[0]) else values[0]
    return list(values)


# --- reading


@dataclass
class Found:
    """Records as they were found, the code book, and how often what was not understood."""

    records: dict[str, list[dict[str, tuple[str, ...]]]] = field(default_factory=dict)
    code_book: list[dict[str, str]] = field(default_factory=list)
    unknown: Counter[str] = field(default_factory=Counter)

    def gaps(self) -> tuple[Gap, ...]:
        """What was not understood, as gaps of an import."""
        reason = "no attribute or value of MIABIS 3.0 or 1.1 that the core knows"
        return tuple(Gap(path, reason, n) for path, n in sorted(self.unknown.items()))


def raw_records(path: Path, *, prefer_csv: bool = False) -> dict[str, list[dict[str, Any]]]:
    """The tables of a folder or a JSON file, by whatever headers they have. Raises FileRejected for anything else."""
    source = path / FILE if path.is_dir() else path
    if not path.is_dir() or (source.is_file() and not prefer_csv):
        return _raw_json(source)
    tables: dict[str, list[dict[str, Any]]] = {
        one.stem: [dict(line) for line in read_table(one)[1]] for one in sorted(path.glob("*.csv"))
    }
    if not tables:
        raise _not_miabis(path, "holds no table")
    return tables


def _raw_json(path: Path) -> dict[str, list[dict[str, Any]]]:
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise _not_miabis(path, "is no JSON") from error
    if not isinstance(held, dict):
        raise _not_miabis(path, "is no object of tables")
    tables = {name: records for name, records in held.items() if name not in ("schema", "notice")}
    for name, records in tables.items():
        if not isinstance(records, list) or not all(isinstance(one, dict) for one in records):
            raise _not_miabis(path, f"holds no list of records under {name[:40]!r}")
    if not tables:
        raise _not_miabis(path, "holds no table")
    return tables


def found_in(raw: Mapping[str, Sequence[Mapping[str, Any]]], where: Path) -> Found:
    """Records by canonical codes and values. Raises FileRejected where a required value is none of the list."""
    found = Found()
    for table, records in raw.items():
        if table == "code-book":
            found.code_book = [{name: str(one.get(name) or "") for name in CODE_BOOK} for one in records]
        elif (name := table.lower().replace("_", "-").replace(" ", "-")) in (*table_names(), "event"):
            found.records[name] = [_record(name, one, found, where, n) for n, one in enumerate(records, 1)]
        else:
            found.unknown[table[:60]] += len(records)
    return found


def exact(raw: Mapping[str, Sequence[Mapping[str, Any]]]) -> tuple[Records, list[Violation]]:
    """(records exactly as they stand, tables, codes and values that are none of the standard's)."""
    strange: list[Violation] = []
    records: dict[str, list[Record]] = {}
    for name, held in raw.items():
        if name != "code-book" and name not in table_names():
            strange.append(Violation("tables are entities of the standard", name[:60], f"{len(held)} records"))
        elif name != "code-book" and held:
            records[name] = [_exact(name, one, f"{name} {n}", strange) for n, one in enumerate(held, 1)]
    return records, strange


def _exact(name: str, raw: Mapping[str, Any], where: str, strange: list[Violation]) -> Record:
    record = {}
    for code, value in raw.items():
        attribute = entity(name).attributes.get(code)
        texts = _texts(value, attribute is not None and attribute.many)
        if code not in entity(name).columns:
            strange.append(Violation("attributes are named by their codes", where, code[:60]))
        elif texts is None:
            strange.append(Violation("values are text or numbers", f"{where} {code}", type(value).__name__))
        elif texts:
            record[code] = texts
    return record


def _record(name: str, raw: Mapping[str, Any], found: Found, where: Path, n: int) -> dict[str, tuple[str, ...]]:
    record: dict[str, tuple[str, ...]] = {}
    for header, value in raw.items():
        code = code_of(name, header)
        if code is None:
            found.unknown[f"{name}.{header[:60]}"] += 1
            continue
        attribute = entity(name).attributes.get(code)
        texts = _texts(value, attribute is not None and attribute.many)
        if texts is None:
            raise _not_miabis(where, f"has no text or number in {code} of {name} {n}")
        kept = tuple(canonical for text in texts if (canonical := canonical_value(attribute, text)) is not None)
        if len(kept) < len(texts):
            if attribute is not None and attribute.least:
                raise _not_miabis(where, f"has a value in {code} of {name} {n} that is none of its list")
            found.unknown[f"{name}.{code}"] += len(texts) - len(kept)
        if kept:
            record[code] = kept
    return record


def code_of(name: str, header: str) -> str | None:
    """The canonical code of a header: the code itself, a code printed otherwise, or an attribute's name."""
    chosen, text = entity(name), header.strip().upper()
    if text in chosen.columns:
        return text
    if match := re.fullmatch(r"MIABIS-([A-Z]+)-(\d{1,2})(?:-(\d{1,2}))?", text):
        owner, number, part = match[1], int(match[2]), match[3]
        if part and (owner, number) in (("COLLECTION", 17), ("RESEARCHRESOURCE", 15)):
            number = 16
        padded = f"MIABIS-{owner}-{number:02}" + (f"-{int(part):02}" if part else "")
        return padded if padded in chosen.columns else None
    # The biobank's own Country and Juristic Person go before those of its contact.
    parts_first = sorted(chosen.attributes.items(), key=lambda item: -item[0].count("-"))
    by_name = {_folded(one.name): code for code, one in parts_first if not one.parts}
    return by_name.get(_folded(header))


def _texts(value: Any, many: bool) -> tuple[str, ...] | None:
    """The values of a cell as text; None for what is neither text nor a number."""
    if value is None or value == "" or value == []:
        return ()
    listed = value if isinstance(value, list) else _split(value) if many and isinstance(value, str) else [value]
    if any(isinstance(one, bool) or not isinstance(one, str | int | float) for one in listed):
        return None
    return tuple(str(one) for one in listed if one != "")


def _split(cell: str) -> list[Any]:
    """The values of a cell where several may stand."""
    if cell.startswith("["):
        with suppress(ValueError, RecursionError):
            return list(json.loads(cell))
    return cell.split("|")


def canonical_value(attribute: Attribute | None, text: str) -> str | None:
    """A value as the standard spells it; None where it is none of the attribute's list, or no country."""
    if attribute is not None and attribute.kind == "country":
        return text if PATTERNS["country"].fullmatch(text) else None
    if attribute is None or not attribute.values:
        return text
    return {_folded(one): one for one in attribute.values}.get(_folded(text))


def _folded(text: str) -> str:
    return re.sub(r"[\s\-_]+", "", text).casefold()


def _not_miabis(path: Path, found: str) -> FileRejected:
    return FileRejected(
        f"{path.name!r} {found}",
        f"a folder of CSV or a JSON file by attribute codes of {SCHEMA}, or of Core 2.0",
        "export it again, or name attributes and values as the standard does",
    )


# --- the standard's rules


def broken_rules(records: Records) -> Iterator[Violation]:
    """The rules that records break."""
    known = identities(records)
    for name, held in records.items():
        yield from _repeated(name, held)
        for n, record in enumerate(held, 1):
            where = f"{name} {n}"
            yield from _incomplete(name, record, where)
            yield from _outside(name, record, where)
            yield from _dangling(record, name, known, where)
            yield from (_time_of_event(record, records, where) if name.startswith("event") else ())
            yield from (_half_a_site(record, where) if name == "sample" else ())


def identities(records: Records) -> Mapping[str, set[str]]:
    """The IDs of each entity, by the code that refers to them."""
    known: dict[str, set[str]] = {one.identity: set() for one in entities().values() if one.identity}
    for name, held in records.items():
        if code := entity(name).identity:
            known[code] |= {one[code][0] for one in held if code in one}
    return known


def _repeated(name: str, held: Sequence[Record]) -> Iterator[Violation]:
    code = entity(name).identity
    counts = Counter(one[code][0] for one in held if code in one) if code else {}
    for n in counts.values():
        if n > 1:
            yield Violation("an ID stands once", f"{name} {code}", f"{n} times")


def _incomplete(name: str, record: Record, where: str) -> Iterator[Violation]:
    for code, one in entity(name).attributes.items():
        parts = [f"{code}-{n:02}" for n in range(1, len(one.parts) + 1)]
        if one.least and not any(part in record for part in (code, *parts)):
            yield Violation("required attributes are there", f"{where} {code}", "nothing")
        if not one.many and len(record.get(code, ())) > 1:
            yield Violation("at most one value", f"{where} {code}", f"{len(record[code])} values")
    if name.startswith(("event", "sample", "membership")) and "MIABIS-SAMPLEDONOR-01" not in record:
        yield Violation("what happened or was taken has a donor", where, "nothing")


def _outside(name: str, record: Record, where: str) -> Iterator[Violation]:
    for code, values in record.items():
        one = entity(name).attributes.get(code)
        if one is None:
            continue
        for value in values:
            if one.values and value not in one.values:
                yield Violation("values come from the list", f"{where} {code}", value[:60])
            elif one.kind in PATTERNS and not PATTERNS[one.kind].fullmatch(value):
                yield Violation(f"values are of the kind {one.kind}", f"{where} {code}", value[:60])


def _dangling(record: Record, name: str, known: Mapping[str, set[str]], where: str) -> Iterator[Violation]:
    for code in entity(name).links:
        for value in record.get(code, ()):
            if value not in known[code]:
                yield Violation("references lead to a record", f"{where} {code}", value[:18])


def _time_of_event(record: Record, records: Records, where: str) -> Iterator[Violation]:
    """Either age or date; an age has a unit; a date needs the donor's birth date [MIABIS-EVENT-02 to 04]."""
    date, age, unit = (f"MIABIS-EVENT-{n}" in record for n in ("02", "03", "04"))
    if date and age:
        yield Violation("either age or date", where, "both")
    if age != unit:
        yield Violation("an age has a unit", where, "age without unit" if age else "unit without age")
    donor = record.get("MIABIS-SAMPLEDONOR-01")
    if date and not any(
        one.get("MIABIS-SAMPLEDONOR-01") == donor and "MIABIS-SAMPLEDONOR-04" in one for one in records.get("donor", ())
    ):
        yield Violation("a date needs the birth date", where, "no MIABIS-SAMPLEDONOR-04")


def _half_a_site(record: Record, where: str) -> Iterator[Violation]:
    """Ontology and version are required together once any part of a site is given [MIABIS-SAMPLE-05]."""
    given = {code for code in record if code.startswith("MIABIS-SAMPLE-05-")}
    if given and not {"MIABIS-SAMPLE-05-01", "MIABIS-SAMPLE-05-02"} <= given:
        yield Violation("a site names its ontology and version", where, ", ".join(sorted(given)))
