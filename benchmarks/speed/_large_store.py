"""A store of a million runs, filled past the package: what the questions of ``record_load`` are asked of.

Forecasts in chains of ten, each on the file that the one before it made, the first on the images; twenty runs a
subject, a hundred campaigns. Indexes and rules are taken off for the filling and put back as they were.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from hashlib import sha256

from sqlalchemy import select

from oncoscale.linkage import tables
from oncoscale.linkage.record import Software
from oncoscale.linkage.store import PROJECT, Store

RUNS_A_SUBJECT = 20
CHAIN = 10
CAMPAIGNS = 100
DAY = "2024-01-31"
NOBODYS = "0" * 64
"""In the place of hashes that no question looks at."""

Rows = Iterable[tuple[object, ...]]


def fill(store: Store, software: Software, runs: int) -> None:
    """So many runs, and the subjects that they are about."""
    with store.reading() as connection:
        code = int(connection.execute(select(tables.code.c.id).limit(1)).scalar_one())
    with closing(sqlite3.connect(store.path / "oncoscale.sqlite", isolation_level=None)) as database:
        for pragma in ("journal_mode=OFF", "synchronous=OFF", "cache_size=-1000000"):
            database.execute(f"PRAGMA {pragma}")
        made = database.execute(
            "SELECT type, name, sql FROM sqlite_master WHERE type IN ('index', 'trigger') AND sql IS NOT NULL"
        ).fetchall()
        database.execute("BEGIN EXCLUSIVE")
        for kind, name, _ in made:
            database.execute(f"DROP {kind} {name}")
        for table, columns, rows in (*_about_subjects(-(-runs // RUNS_A_SUBJECT), code), *_about_runs(runs, software)):
            places = ", ".join("?" * len(columns.split(", ")))
            database.executemany(f"INSERT INTO {table} ({columns}) VALUES ({places})", rows)
        for *_, sql in made:
            database.execute(sql)
        database.execute("ANALYZE")
        database.execute("COMMIT")
        database.execute("PRAGMA journal_mode=WAL")


def _about_subjects(subjects: int, code: int) -> Iterator[tuple[str, str, Rows]]:
    """(table, columns, rows): each subject with consent, one visit, one series and one permit."""
    keys = [f"P-{b32(n)}" for n in range(subjects)]
    at = f"{DAY}T00:00:00.000Z"
    yield "subject", "key, site, species, sex, age_day0_d, day0_kind", (
        (key, "site1", code, "female", 700, "diagnosis") for key in keys
    )  # fmt: skip
    yield "enrolment", "subject, study", ((key, PROJECT) for key in keys)
    yield "consent", (
        "id, subject, study, status, legal_basis, purposes, categories, valid_from, document_sha256, recorded_at"
    ), (
        (f"C-{key}", key, PROJECT, "active", "consent", '["HRESCH"]', '["imaging","simulation"]', DAY, NOBODYS, at)
        for key in keys
    )  # fmt: skip
    yield "decision", "id, subject, operation, purpose, categories, consent, policy_sha256, outcome, reason, at", (
        (f"D-{key}", key, "run", code, '["imaging"]', f"C-{key}", NOBODYS, "permit", "", at) for key in keys
    )  # fmt: skip
    yield "event", "id, subject, kind, day, code, attributes", (
        (f"T-{key}", key, "imaging", 3, code, "{}") for key in keys
    )  # fmt: skip
    yield "image_series", (
        "uid, study_uid, subject, event, modality, role, acquisition, instances, content_sha256, deid_report_sha256,"
        " uri"
    ), (
        (f"2.25.{key}", "2.25.1", key, f"T-{key}", code, "original", "{}", 9, NOBODYS, NOBODYS, "x") for key in keys
    )  # fmt: skip


def _about_runs(runs: int, software: Software) -> Iterator[tuple[str, str, Rows]]:
    """(table, columns, rows): eight rows a run."""
    every = range(runs)
    yield "software", "id, name, version, code_sha256", [(software.id, software.name, software.version,
                                                          software.code_sha256)]  # fmt: skip
    yield "parameter_set", "sha256, schema, body", [(NOBODYS, "load", "{}")]
    yield "artefact", "sha256, kind, asserted, media_type, bytes, uri", (
        (file_of(n), "forecast", "simulated", "application/json", 9, "x") for n in every
    )  # fmt: skip
    yield "contains", "artefact, subject, share", ((file_of(n), subject_of(n), "sole") for n in every)
    yield "run", "id, kind, software, parameters, inputs_sha256, seed, campaign", (
        (run_of(n), "forecast", software.id, NOBODYS, file_of(n), str(n), f"campaign-{n % CAMPAIGNS}") for n in every
    )  # fmt: skip
    yield "run_subject", "run, subject, decision", ((run_of(n), subject_of(n), f"D-{subject_of(n)}") for n in every)
    yield "attempt", "run, n, status, ended, environment_sha256", (
        (run_of(n), 1, "done", f"2026-01-01T{n // 3600 % 24:02d}:{n // 60 % 60:02d}:{n % 60:02d}.000Z", NOBODYS)
        for n in every
    )  # fmt: skip
    yield "link", "run, attempt, role, port, series, artefact", (row for n in every for row in _links(n))
    yield "prediction", "id, run, subject, quantity, horizon_day, value, unit, status", (
        (f"F-{n}", run_of(n), subject_of(n), 1, 28, 61.5, 1, "preliminary") for n in every
    )  # fmt: skip


def _links(n: int) -> Rows:
    """What a run used, and what it made."""
    before = (f"2.25.{subject_of(n)}", None) if n % CHAIN == 0 else (None, file_of(n - 1))
    run = run_of(n)
    return (run, 1, "used", "in", *before), (run, 1, "generated", "out", None, file_of(n))


def run_of(n: int) -> str:
    """The id of a run."""
    return sha256(f"run {n}".encode()).hexdigest()


def file_of(n: int) -> str:
    """The hash of the file that a run made."""
    return sha256(f"file {n}".encode()).hexdigest()


def subject_of(n: int) -> str:
    """The subject of a run."""
    return f"P-{b32(n // RUNS_A_SUBJECT)}"


def b32(n: int) -> str:
    """Sixteen letters of base32 for a number."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
    return "".join(letters[n >> 5 * place & 31] for place in range(15, -1, -1))
