"""DICOM-MIABIS after Scapicchio 2021: images beside samples, tied by donor, event and collection.

A folder with the sample side as MIABIS writes it, the image side as CSV, and one SQLite file that holds both with
views across them. The columns are this project's proposal after the paper's abstract (doi 10.1186/s41747-021-00214-4);
conformity is not claimed, no machine-readable form exists. Nothing predicted is ever written.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from ...core.errors import FileRejected
from .. import core
from ..core import Holdings
from . import Gap, Read, Violation, _declared, miabis
from ._dicom_miabis import Tables, broken_rules, images_of, require_rules, spec, tables_of
from ._tables import read_table, write_notice, write_table

NAME, VERSION = "dicom-miabis", "after Scapicchio 2021"
FORM, SUFFIX = "folder", ""
PREDICTIONS = False

SAMPLES, DATABASE = "samples", "dicom-miabis.sqlite"
VIEWS = {
    "images_and_samples": """
        SELECT i.series_uid, m.modality, t.type, b.body_part, i.donor_id, d."MIABIS-SAMPLEDONOR-02" AS sex,
               s."MIABIS-SAMPLE-01" AS sample_id, s."MIABIS-SAMPLE-02" AS sample_type,
               s."MIABIS-SAMPLE-10" AS diagnosis, c.sample_collection_id
        FROM ImageSeries i
        JOIN ImageCollection c ON c.id = i.image_collection_id
        JOIN ModalityInformation m USING (series_uid) JOIN DatasetType t USING (series_uid)
        JOIN donor d ON d."MIABIS-SAMPLEDONOR-01" = i.donor_id
        LEFT JOIN BodyPartExamined b USING (series_uid)
        LEFT JOIN sample s ON s."MIABIS-SAMPLEDONOR-01" = i.donor_id""",
    "features_and_diagnoses": """
        SELECT a.*, i.donor_id, (SELECT group_concat(DISTINCT s."MIABIS-SAMPLE-10") FROM sample s
                                 WHERE s."MIABIS-SAMPLEDONOR-01" = i.donor_id) AS diagnoses
        FROM ImageAnalysis a JOIN ImageSeries i USING (series_uid)""",
    "donors": """
        SELECT d."MIABIS-SAMPLEDONOR-01" AS donor_id, d."MIABIS-SAMPLEDONOR-02" AS sex,
               (SELECT count(*) FROM ImageSeries i WHERE i.donor_id = d."MIABIS-SAMPLEDONOR-01") AS n_series,
               (SELECT count(*) FROM sample s WHERE s."MIABIS-SAMPLEDONOR-01" = d."MIABIS-SAMPLEDONOR-01") AS n_samples
        FROM donor d""",
}
"""Views from the image side to the sample side."""


def render(holdings: Holdings, out: Path) -> None:
    """A folder: ``samples`` (MIABIS), one CSV for each table of the image side, the SQLite file."""
    seen = core.observed(holdings)
    out.mkdir()
    miabis.render(seen, out / SAMPLES)
    for name, rows in tables_of(seen).items():
        write_table(out / f"{name}.csv", spec()["tables"][name]["columns"], rows)
    _write_database(out)
    write_notice(out)


def _write_database(out: Path) -> None:
    """Both sides as tables of text, and the views."""
    with closing(sqlite3.connect(out / DATABASE)) as connection, connection:
        for path in (*sorted((out / SAMPLES).glob("*.csv")), *sorted(out.glob("*.csv"))):
            columns, rows = read_table(path)
            named = ", ".join(f'"{one}"' for one in columns)
            connection.execute(f'CREATE TABLE "{path.stem}" ({named})')
            places = ", ".join("?" * len(columns))
            connection.executemany(
                f'INSERT INTO "{path.stem}" VALUES ({places})', [[row.get(one) for one in columns] for row in rows]
            )
        for name, query in VIEWS.items():
            connection.execute(f"CREATE VIEW {name} AS {query}")


def read(path: Path) -> Read:
    """The core from both sides. Raises FileRejected for a folder that lacks one of them, or breaks its rules."""
    path = Path(path)
    tables = _image_side(path)
    found = miabis.read(path / SAMPLES)
    held = found.holdings
    require_rules(tables, {one.key for one in held.subject}, {one.id for one in held.event})
    series, observations = images_of(tables)
    return Read(replace(held, image_series=series, observation=observations), found.gaps)


def _image_side(folder: Path) -> Tables:
    names = [one for one in spec()["tables"] if (folder / f"{one}.csv").is_file()]
    if "ImageSeries" not in names or not (folder / SAMPLES).is_dir():
        raise FileRejected(
            f"{folder.name!r} lacks the image side or the sample side",
            f"a folder with ImageSeries.csv, its linked tables and a folder {SAMPLES!r} of MIABIS",
            "export it again",
        )
    return {name: read_table(folder / f"{name}.csv")[1] for name in names}


def check(out: Path) -> tuple[Violation, ...]:
    """Rules of both sides, references between them, counts, and that the SQLite file holds the same."""
    tables, samples = _image_side(out), miabis.check(out / SAMPLES)
    held = miabis.read(out / SAMPLES).holdings
    images = broken_rules(tables, {one.key for one in held.subject}, {one.id for one in held.event})
    return (*samples, *images, *_database_says_the_same(out, tables))


def _database_says_the_same(out: Path, tables: Tables) -> Iterator[Violation]:
    if not (out / DATABASE).is_file():
        yield Violation("the SQLite file is there", DATABASE, "nothing")
        return
    with closing(sqlite3.connect(f"file:{out / DATABASE}?mode=ro", uri=True)) as connection:
        try:
            for name, rows in tables.items():
                columns = spec()["tables"][name]["columns"]
                named = ", ".join(f'"{one}"' for one in columns)
                stored = connection.execute(f'SELECT {named} FROM "{name}" ORDER BY rowid').fetchall()
                if stored != [tuple(row.get(one) for one in columns) for row in rows]:
                    yield Violation("SQLite and CSV say the same", name, "they differ")
            seen = {uid for (uid,) in connection.execute("SELECT series_uid FROM images_and_samples")}
            if seen != {row.get("series_uid") for row in tables["ImageSeries"]}:
                yield Violation("every series leads to its donor", "images_and_samples", f"{len(seen)} series")
        except sqlite3.Error as error:
            yield Violation("the SQLite file can be read", DATABASE, str(error)[:60])


def gaps() -> tuple[Gap, ...]:
    """What neither side has a column for."""
    here = {gap.path: gap for gap in _declared.gaps("dicom_miabis")}
    replaced = {"image_series.*", "observation.*"}
    of_samples = (gap for gap in miabis.gaps() if gap.path not in here and gap.path not in replaced)
    return (*of_samples, *here.values())


def mapping() -> Mapping[str, str]:
    """Where attributes of the core go."""
    return {**miabis.mapping(), **_declared.mapping("dicom_miabis")}


def in_part() -> Mapping[str, str]:
    """Attributes and rows that have a place for some values only, with the reason."""
    return {**miabis.in_part(), **_declared.in_part("dicom_miabis")}


def sayable(holdings: Holdings) -> Holdings:
    """The holdings as both sides can say them."""
    seen = core.observed(holdings)
    series, observations = images_of(tables_of(seen))
    return replace(miabis.sayable(seen), image_series=series, observation=observations)


def unsaid(holdings: Holdings) -> tuple[Gap, ...]:
    """Rows and values that have no place although their attributes have, with how many."""
    seen = core.observed(holdings)
    lost = frozenset(gap.path for gap in gaps())
    images = _declared.unsaid("dicom_miabis", seen, sayable(seen), lost, tables=("image_series", "observation"))
    return (*miabis.unsaid(holdings), *images)
