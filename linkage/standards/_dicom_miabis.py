"""The image side of DICOM-MIABIS: its tables from the core, and the core from its tables."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from ...core.errors import FileRejected
from ..core import Code, Collection, Holdings, Observation, Series
from . import Violation
from ._declared import content
from ._tables import grouped

Row = Mapping[str, str]
Tables = Mapping[str, Sequence[Row]]

DCM, UCUM, IBSI = (
    "http://dicom.nema.org/resources/ontology/DCM", "http://unitsofmeasure.org", "urn:oid:1.2.840.10008.2.16.13",
)  # fmt: skip
NO_COLLECTION = "images"
"""The Image Collection of donors who belong to no collection of the sample side."""


@cache
def spec() -> Mapping[str, Any]:
    """Columns, rules and names."""
    return content("dicom_miabis")


# --- from the core


def tables_of(seen: Holdings) -> Tables:
    """The rows of every table of the image side."""
    collected = _collections(seen)
    rows: Mapping[str, list[Row]] = {
        "ImageCollection": list(_image_collections(seen, collected)),
        "ImageSeries": [_series(one, collected) for one in seen.image_series],
        "BodyPartExamined": [_body_part(one) for one in seen.image_series if one.body_site or one.laterality],
        "ModalityInformation": [_modality(one) for one in seen.image_series],
        "DatasetType": [{"series_uid": one.uid, "type": one.role} for one in seen.image_series],
        "ImageAnalysis": list(_analyses(seen)),
        "RegistrationParameters": list(_registrations(seen)),
    }
    return {name: [_good(name, row) for row in held] for name, held in rows.items()}


def _good(name: str, row: Row) -> Row:
    """The row without optional values that are not of their column's kind."""
    required = spec()["tables"][name]["required"]
    return {column: value for column, value in row.items() if column in required or _is_of_kind(column, value)}


def _is_of_kind(column: str, value: str) -> bool:
    kind = spec()["kinds"].get(column, "text")
    return kind == "text" or (len(value) <= 64 and re.fullmatch(spec()["patterns"][kind], value) is not None)


def _stated(values: Mapping[str, object]) -> Row:
    return {name: str(value) for name, value in values.items() if value is not None and value != ""}


def _collections(seen: Holdings) -> Mapping[str, str]:
    """The Image Collection of each donor: the first collection that the donor belongs to."""
    found: dict[str, str] = {}
    for one in seen.enrolment:
        if one.collection is not None:
            found.setdefault(one.subject, f"{one.collection}.{NO_COLLECTION}")
    return found


def _image_collections(seen: Holdings, collected: Mapping[str, str]) -> Iterator[Row]:
    days = {one.id: one.day for one in seen.event if one.day is not None}
    held: dict[str, list[Series]] = {}
    for series in seen.image_series:
        held.setdefault(collected.get(series.subject, NO_COLLECTION), []).append(series)
    of: Mapping[str, Collection] = {f"{one.id}.{NO_COLLECTION}": one for one in seen.collection}
    for name, found in held.items():
        taken, of_samples = [days[one.event] for one in found if one.event in days], of.get(name)
        yield _stated({
            "id": name, "name": of_samples.name if of_samples else "Images of donors of no collection",
            "sample_collection_id": of_samples.id if of_samples else None, "data_format": "DICOM",
            "n_subjects": len({one.subject for one in found}), "n_studies": len({one.study_uid for one in found}),
            "n_series": len(found), "n_images": sum(one.instances for one in found),
            "acquisition_period_days": max(taken) - min(taken) if taken else None,
            "access_conditions": _conditions(of_samples),
        })  # fmt: skip


def _conditions(collection: Collection | None) -> str:
    stated = collection.attributes.get("MIABIS-COLLECTION-19", ()) if collection else ()
    return "|".join(stated) if isinstance(stated, list | tuple) else str(stated)


def _series(one: Series, collected: Mapping[str, str]) -> Row:
    return _stated({
        "series_uid": one.uid, "study_uid": one.study_uid, "donor_id": one.subject, "event_id": one.event,
        "image_collection_id": collected.get(one.subject, NO_COLLECTION), "n_images": one.instances,
        "frame_of_reference": one.frame_uid,
    })  # fmt: skip


def _body_part(one: Series) -> Row:
    site = one.body_site
    about = {"body_part": site.display, "region_code": site.code, "region_scheme": site.system} if site else {}
    return _stated({"series_uid": one.uid, "laterality": one.laterality, **about})


def _modality(one: Series) -> Row:
    columns: Mapping[str, str] = spec()["acquisition"]
    values = {columns[name]: _text(value) for name, value in one.acquisition.items() if name in columns}
    return _stated({"series_uid": one.uid, "modality": one.modality.code, **values})


def _text(value: Any) -> str:
    """As DICOM writes values: several are parted by a backslash."""
    return "\\".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _analyses(seen: Holdings) -> Iterator[Row]:
    programs = {one.id: one for one in seen.software}
    parameters = {one.id: one.parameters for one in seen.run}
    events = {one.uid: one.event for one in seen.image_series}
    regions = {one.event: one.uid for one in seen.image_series if one.role == "segmented"}
    for one in seen.observation:
        if one.series not in events or one.value is None:
            continue
        program, quantity = programs.get(one.software or ""), one.quantity
        yield _stated({
            "series_uid": one.series, "roi_uid": regions.get(events[one.series or ""]), "value": repr(one.value),
            "software": program.name if program else None, "version": program.version if program else None,
            "feature": quantity.display or quantity.code, "unit": one.unit.code if one.unit else None,
            "ibsi_code": quantity.code if quantity.system == IBSI else None,
            "parameters_sha256": parameters.get(one.run or ""), "analysis_id": one.id,
            "feature_code": quantity.code, "feature_scheme": quantity.system,
            "deviation": None if one.sd is None else repr(one.sd), "day": one.day,
        })  # fmt: skip


def _registrations(seen: Holdings) -> Iterator[Row]:
    """Runs that used a fixed and a moving series and generated a transform."""
    transforms = {one.sha256: one.frame_uid for one in seen.artefact if one.kind == "transform"}
    bodies = {one.sha256: one.body for one in seen.parameter_set}
    linked = grouped(seen.link, lambda one: one.run)
    for run in seen.run if transforms else ():
        links = linked[run.id]
        used = {one.port.split("/")[0]: one.series for one in links if one.role == "used" and one.series}
        made = [one.artefact for one in links if one.role == "generated" and one.artefact in transforms]
        stated = bodies.get(run.parameters, {})
        for transform in dict.fromkeys(made) if {"fixed", "moving"} <= used.keys() else ():
            yield _stated({
                "fixed_uid": used["fixed"], "moving_uid": used["moving"], "transform_sha256": transform,
                "frame_of_reference": transforms[transform or ""],
                **{name: stated.get(name) for name in ("type", "metric", "interpolator")},
            })  # fmt: skip


# --- to the core


def require_rules(tables: Tables, donors: set[str], events: set[str]) -> None:
    """Raises FileRejected for rows against the rules, or of a donor or event that is not there."""
    broken = [one for one in broken_rules(tables, donors, events) if not one.rule.startswith("counts")]
    if broken:
        raise FileRejected(
            f"the image side breaks a rule at {broken[0].where}: {broken[0].rule}",
            "rows whose values and references keep the rules",
            "export it again, or repair that row",
        )


def images_of(tables: Tables) -> tuple[tuple[Series, ...], tuple[Observation, ...]]:
    """(series, observations) of tables that keep the rules."""
    of = {
        name: {row["series_uid"]: row for row in tables.get(name, ()) if "series_uid" in row}
        for name in spec()["tables"]
    }
    series = tuple(_to_series(row, of) for row in tables.get("ImageSeries", ()))
    owners = {one.uid: one.subject for one in series}
    found = {row["analysis_id"]: _to_observation(row, owners) for row in tables.get("ImageAnalysis", ())}
    return series, tuple(found.values())


def _to_series(row: Row, of: Mapping[str, Mapping[str, Row]]) -> Series:
    uid = row["series_uid"]
    modality, part = of["ModalityInformation"][uid], of["BodyPartExamined"].get(uid, {})
    keywords = {column: keyword for keyword, column in spec()["acquisition"].items()}
    acquisition = {
        keywords[name]: value.split("\\") if "\\" in value else value
        for name, value in modality.items()
        if name in keywords
    }
    site = (
        Code(part["region_scheme"], part["region_code"], part.get("body_part", "")) if "region_code" in part else None
    )
    return Series(
        uid, row["study_uid"], row["donor_id"], row["event_id"],
        Code(DCM, modality["modality"], modality["modality"]), of["DatasetType"][uid]["type"], int(row["n_images"]),
        "", "", "", site, part.get("laterality"), row.get("frame_of_reference"), acquisition,
    )  # fmt: skip


def _to_observation(row: Row, owners: Mapping[str, str]) -> Observation:
    scheme, unit = row.get("feature_scheme", IBSI), row.get("unit")
    code = row.get("feature_code") or row.get("ibsi_code") or row["feature"]
    return Observation(
        row["analysis_id"], owners[row["series_uid"]], Code(scheme, code, row["feature"]), float(row["value"]),
        unit=None if unit is None else Code(UCUM, unit, unit), series=row["series_uid"],
        sd=float(row["deviation"]) if "deviation" in row else None, day=int(row["day"]) if "day" in row else None,
    )  # fmt: skip


# --- rules


def broken_rules(tables: Tables, donors: set[str], events: set[str]) -> Iterator[Violation]:
    """The rules that the image side breaks, given the donors and events of the sample side."""
    for name, rows in tables.items():
        about = spec()["tables"].get(name)
        if about is None:
            yield Violation("tables are those of the model", name[:40], f"{len(rows)} rows")
            continue
        for n, row in enumerate(rows, 1):
            yield from _in_row(about, row, f"{name} {n}")
        yield from _repeated(name, about, rows)
    yield from _references(tables, donors, events)
    yield from _counts(tables)


def _in_row(about: Mapping[str, Any], row: Row, where: str) -> Iterator[Violation]:
    for name in about["required"]:
        if name not in row:
            yield Violation("required columns are filled", f"{where} {name}", "nothing")
    for name, value in row.items():
        kind = spec()["kinds"].get(name, "text")
        if name not in about["columns"]:
            yield Violation("columns are those of the model", where, name[:40])
        elif not _is_of_kind(name, value):
            yield Violation(f"values are of the kind {kind}", f"{where} {name}", value[:40])
    if "DatasetType" in where and row.get("type") not in spec()["types"]["values"]:
        yield Violation("values come from the list", f"{where} type", row.get("type", "nothing")[:40])
    if ("region_code" in row) != ("region_scheme" in row):
        yield Violation("a region's code has its scheme", where, "one without the other")


def _repeated(name: str, about: Mapping[str, Any], rows: Sequence[Row]) -> Iterator[Violation]:
    key = about.get("key")
    counts = Counter(row.get(key, "") for row in rows) if key else Counter()
    yield from (Violation("a key stands once", f"{name} {key}", f"{n} times") for n in counts.values() if n > 1)


def _references(tables: Tables, donors: set[str], events: set[str]) -> Iterator[Violation]:
    """Every series has its modality and type; every row leads to a series, a collection, a donor and an event."""
    series = {row.get("series_uid", "") for row in tables.get("ImageSeries", ())}
    collections = {row.get("id", "") for row in tables.get("ImageCollection", ())}
    known = {"series_uid": series, "fixed_uid": series, "moving_uid": series, "roi_uid": series,
             "image_collection_id": collections, "donor_id": donors, "event_id": events}  # fmt: skip
    for name, rows in tables.items():
        for n, row in enumerate(rows, 1):
            for column, there in known.items():
                if column in row and row[column] not in there:
                    yield Violation("references lead to a row", f"{name} {n} {column}", row[column][:20])
    for name in ("ModalityInformation", "DatasetType"):
        described = {row.get("series_uid", "") for row in tables.get(name, ())}
        for uid in sorted(series - described):
            yield Violation("every series is described", name, uid[:20])


def _counts(tables: Tables) -> Iterator[Violation]:
    rows = tables.get("ImageSeries", ())
    for n, one in enumerate(tables.get("ImageCollection", ()), 1):
        own = [row for row in rows if row.get("image_collection_id") == one.get("id")]
        counted = {
            "n_series": len(own), "n_subjects": len({row.get("donor_id") for row in own}),
            "n_studies": len({row.get("study_uid") for row in own}),
            "n_images": sum(int(row["n_images"]) for row in own if row.get("n_images", "").isdecimal()),
        }  # fmt: skip
        for name, right in counted.items():
            if one.get(name) != str(right):
                yield Violation("counts are those of the rows", f"ImageCollection {n} {name}", one.get(name, "nothing"))
