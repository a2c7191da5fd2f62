"""The tables of the store. They know no standard, and no column can hold a name, a hospital number or a birth date.

Days are integers relative to the subject's day 0. Coded values are one type (system, version, code, display).
Every foreign key restricts deletion, so a table that an erasure forgets makes it fail loudly.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import (
    DOUBLE_PRECISION,
    REAL,
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.types import TypeEngine

metadata = MetaData()

WHOLE: TypeEngine[int] = Integer().with_variant(BigInteger, "postgresql")
NUMBER: TypeEngine[float] = REAL().with_variant(DOUBLE_PRECISION, "postgresql")
"""64 bits on either database; PostgreSQL's own INTEGER and REAL have 32."""


def _text(
    name: str,
    *more: ForeignKey,
    null: bool = False,
    key: bool = False,
    among: str = "",
    json: bool = False,
    default: str | None = None,
) -> tuple[Column[str] | CheckConstraint, ...]:
    """A text column, with the check that its values come from a list or are JSON."""
    column = Column(name, Text, *more, nullable=null, primary_key=key, server_default=default)
    checks = []
    if among:
        allowed = ", ".join(f"'{value}'" for value in among.split(","))
        checks.append(CheckConstraint(f"{name} IN ({allowed})"))
    if json:
        checks.append(CheckConstraint(f"{name} IS NULL OR json_valid({name})"))
    return column, *checks


def _whole(
    name: str, *more: ForeignKey, null: bool = False, key: bool = False, counted: bool = True
) -> tuple[Column[int]]:
    """A column of whole numbers; a key that is not ``counted`` is always given."""
    return (Column(name, WHOLE, *more, nullable=null, primary_key=key, autoincrement=key and counted),)


def _real(name: str, *, null: bool = True) -> tuple[Column[float]]:
    return (Column(name, NUMBER, nullable=null),)


def _to(target: str) -> ForeignKey:
    return ForeignKey(target, ondelete="RESTRICT")


def _table(name: str, *parts: object) -> Table:
    flat = [item for part in parts for item in (part if isinstance(part, tuple) else (part,))]
    return Table(name, metadata, *flat, sqlite_strict=True)


code = _table(
    "code",
    _whole("id", key=True),
    _text("system"),
    _text("version", default=""),
    _text("code"),
    _text("display"),
    UniqueConstraint("system", "version", "code"),
)

biobank = _table(
    "biobank",
    _text("id", key=True),
    _text("acronym", null=True),
    _text("name"),
    _text("country"),
    _text("juristic_person"),
    _text("attributes", json=True),
    CheckConstraint("length(country) = 2 AND country = upper(country)"),
)
"""Who keeps samples or images. Keys of ``attributes`` are MIABIS codes."""

collection = _table(
    "collection",
    _text("id", key=True),
    _text("biobank", _to("biobank.id")),
    _text("name"),
    _text("description"),
    _text("kind", among="sample,image,mixed"),
    _text("attributes", json=True),
)

study = _table(
    "study",
    _text("id", key=True),
    _text("title"),
    _whole("purpose", _to("code.id")),
    _text("legal_basis"),
    _text("retention_until"),
    _whole("small_cell_k"),
    _whole("key_epoch"),
    _text("attributes", json=True),
)
"""A research study or project, whose purpose, legal basis and key the store serves (not a visit's images)."""

subject = _table(
    "subject",
    _text("key", key=True),
    _text("site"),
    _whole("species", _to("code.id")),
    _text("sex", among="female,male,undifferentiated,unknown,not-applicable"),
    _whole("age_day0_d", null=True),
    _text("day0_kind", among="diagnosis,first-imaging,enrolment"),
    CheckConstraint(f"key GLOB 'P-{'[A-Z2-7]' * 16}'").ddl_if("sqlite"),
    CheckConstraint("key ~ '^P-[A-Z2-7]{16}$'").ddl_if("postgresql"),
    CheckConstraint("age_day0_d BETWEEN 0 AND 32872"),
)

enrolment = _table(
    "enrolment",
    _text("subject", _to("subject.key")),
    _text("study", _to("study.id")),
    _text("collection", _to("collection.id"), null=True),
    PrimaryKeyConstraint("subject", "study"),
)

consent = _table(
    "consent",
    _text("id", key=True),
    _text("subject", _to("subject.key")),
    _text("study", _to("study.id")),
    _text("status", among="active,withdrawn,expired,refused"),
    _text("legal_basis"),
    _text("purposes", json=True),
    _text("categories", json=True),
    _text("valid_from"),
    _text("valid_until", null=True),
    _text("document_sha256"),
    _text("recorded_at"),
    _text("withdrawn_at", null=True),
    _text("supersedes", _to("consent.id"), null=True),
)

decision = _table(
    "decision",
    _text("id", key=True),
    _text("subject", _to("subject.key")),
    _text("operation", among="ingest,run,export,review,share"),
    _whole("purpose", _to("code.id")),
    _text("categories", json=True),
    _text("consent", _to("consent.id"), null=True),
    _text("policy_sha256"),
    _text("outcome", among="permit,deny"),
    _text("reason"),
    _text("at"),
)

sample = _table(
    "sample",
    _text("id", key=True),
    _text("subject", _to("subject.key")),
    _text("parent", _to("sample.id"), null=True),
    _whole("type", _to("code.id")),
    _whole("site", _to("code.id"), null=True),
    _whole("diagnosis", _to("code.id"), null=True),
    _text("storage", null=True),
    _whole("taken_day", null=True),
    _text("collection", _to("collection.id"), null=True),
)
"""Tissue or fluid taken from a subject; an aliquot names the sample that it was taken from."""

event = _table(
    "event",
    _text("id", key=True),
    _text("subject", _to("subject.key")),
    _text("kind", among="diagnosis,treatment,surgery,radiotherapy,follow-up,progression,death,imaging,sampling"),
    _whole("day", null=True),
    _whole("age_d", null=True),
    _whole("end_day", null=True),
    _whole("code", _to("code.id")),
    _text("parent", _to("event.id"), null=True),
    _text("attributes", json=True),
    CheckConstraint("(day IS NULL) <> (age_d IS NULL)"),
)
"""What happened to a subject. A visit's images are an event of kind imaging, its id is the ``T-…`` of ingest."""

image_series = _table(
    "image_series",
    _text("uid", key=True),
    _text("study_uid"),
    _text("subject", _to("subject.key")),
    _text("event", _to("event.id")),
    _whole("modality", _to("code.id")),
    _whole("body_site", _to("code.id"), null=True),
    _text("laterality", null=True),
    _text("frame_uid", null=True),
    _text("role", among="original,annotated,segmented,registered,derived,simulated"),
    _text("acquisition", json=True),
    _whole("instances"),
    _text("content_sha256"),
    _text("deid_report_sha256"),
    _text("uri"),
)

artefact = _table(
    "artefact",
    _text("sha256", key=True),
    _text("kind", among="map,mesh,segmentation,transform,parameters,field,cells,forecast,report,table,crate"),
    _text("asserted", among="observed,simulated"),
    _text("media_type"),
    _whole("bytes"),
    _text("uri"),
    _whole("unit", _to("code.id"), null=True),
    _text("frame_uid", null=True),
)

contains = _table(
    "contains",
    _text("artefact", _to("artefact.sha256")),
    _text("subject", _to("subject.key")),
    _text("share", among="sole,pooled"),
    PrimaryKeyConstraint("artefact", "subject"),
)

software = _table(
    "software",
    _text("id", key=True),
    _text("name"),
    _text("version"),
    _text("code_sha256"),
    _text("passport", null=True, json=True),
    UniqueConstraint("name", "version", "code_sha256"),
)

parameter_set = _table("parameter_set", _text("sha256", key=True), _text("schema"), _text("body", json=True))

run = _table(
    "run",
    _text("id", key=True),
    _text("kind", among="analysis,calibration,forecast"),
    _text("software", _to("software.id")),
    _text("parameters", _to("parameter_set.sha256")),
    _text("inputs_sha256"),
    _text("seed"),
    _text("campaign", null=True),
)

run_subject = _table(
    "run_subject",
    _text("run", _to("run.id")),
    _text("subject", _to("subject.key")),
    _text("decision", _to("decision.id")),
    PrimaryKeyConstraint("run", "subject"),
)

attempt = _table(
    "attempt",
    _text("run", _to("run.id")),
    _whole("n"),
    _text("status", among="queued,running,done,failed,stopped-consent,cancelled"),
    _text("started", null=True),
    _text("ended", null=True),
    _text("environment_sha256"),
    _text("output_sha256", null=True),
    _text("failure", null=True, json=True),
    PrimaryKeyConstraint("run", "n"),
)

link = _table(
    "link",
    _whole("id", key=True),
    _text("run", _to("run.id")),
    _whole("attempt"),
    _text("role", among="used,generated"),
    _text("port"),
    _text("artefact", _to("artefact.sha256"), null=True),
    _text("series", _to("image_series.uid"), null=True),
    _text("sample", _to("sample.id"), null=True),
    CheckConstraint(
        "(CASE WHEN artefact IS NULL THEN 0 ELSE 1 END) + (CASE WHEN series IS NULL THEN 0 ELSE 1 END)"
        " + (CASE WHEN sample IS NULL THEN 0 ELSE 1 END) = 1"
    ),
    UniqueConstraint("run", "attempt", "role", "port"),
)

observation = _table(
    "observation",
    _text("id", key=True),
    _text("subject", _to("subject.key")),
    _whole("quantity", _to("code.id")),
    _real("value"),
    _whole("value_code", _to("code.id"), null=True),
    _whole("unit", _to("code.id"), null=True),
    _real("sd"),
    _whole("method", _to("code.id"), null=True),
    _text("software", _to("software.id"), null=True),
    _text("run", _to("run.id"), null=True),
    _text("series", _to("image_series.uid"), null=True),
    _text("sample", _to("sample.id"), null=True),
    _text("artefact", _to("artefact.sha256"), null=True),
    _whole("day", null=True),
    CheckConstraint("(value IS NULL) <> (value_code IS NULL)"),
)
"""Something measured or found: a number with its unit, or a code. Never a prediction."""

prediction = _table(
    "prediction",
    _text("id", key=True),
    _text("run", _to("run.id")),
    _text("subject", _to("subject.key")),
    _whole("quantity", _to("code.id")),
    _whole("horizon_day"),
    _real("value", null=False),
    _real("low"),
    _real("high"),
    _real("level"),
    _whole("unit", _to("code.id")),
    _text("artefact", _to("artefact.sha256"), null=True),
    _text("status", among="preliminary,withdrawn"),
    CheckConstraint("level > 0 AND level < 1"),
)

mapping = _table(
    "mapping",
    _text("standard"),
    _text("version"),
    _text("entity"),
    _text("core_table"),
    _text("core_id"),
    _text("external_id"),
    PrimaryKeyConstraint("standard", "version", "entity", "external_id"),
)
"""What a row of the core is called in a standard. Identifiers that came from outside stand here as keyed hashes."""

gap = _table(
    "gap",
    _whole("id", key=True),
    _text("direction", among="import,export"),
    _text("standard"),
    _text("version"),
    _text("path"),
    _text("reason"),
    _whole("n"),
    _text("at"),
)
"""What could not be said in a standard, or was not understood from it, and how often."""

export = _table(
    "export",
    _text("id", key=True),
    _text("standard"),
    _text("version"),
    _text("sha256"),
    _text("recipient"),
    _whole("purpose", _to("code.id")),
    _whole("subjects"),
    _text("at"),
)

export_subject = _table(
    "export_subject",
    _text("export", _to("export.id")),
    _text("subject", _to("subject.key")),
    PrimaryKeyConstraint("export", "subject"),
)

tombstone = _table("tombstone", _text("mac", key=True), _text("at"), _text("reason"))
"""That somebody was erased: the keyed hash of a subject key that exists no more."""

flag = _table(
    "flag",
    _text("artefact", _to("artefact.sha256")),
    _text("reason"),
    _text("at"),
    PrimaryKeyConstraint("artefact", "reason", "at"),
)
"""What must be known before an artefact is used again: that somebody who is in it was erased."""

granted = _table(
    "granted",
    _text("who"),
    _text("role", among="viewer,analyst,curator,data-protection-officer,admin"),
    _text("site", default=""),
    _text("at"),
    PrimaryKeyConstraint("who", "role", "site"),
)
"""Which roles a user of the system, or of the database, may act in; ``site`` is empty for every site."""

audit = _table(
    "audit",
    _whole("seq", key=True, counted=False),
    _text("at"),
    _text("who"),
    _text("role"),
    _text("action"),
    _text("object"),
    _text("detail_sha256"),
    _text("prev"),
    _text("hash"),
    UniqueConstraint("hash"),
)

Index("consent_of", consent.c.subject, consent.c.study)
Index("event_of", event.c.subject, event.c.kind)
Index("series_of", image_series.c.event)
Index("run_of", run_subject.c.subject)
Index("link_of", link.c.run, link.c.attempt)
Index("prediction_of", prediction.c.subject)
Index("observation_of", observation.c.subject)
Index("sample_of", sample.c.subject)
Index("mapping_of", mapping.c.core_table, mapping.c.core_id)
Index("series_of_subject", image_series.c.subject)
Index("contained_of", contains.c.subject)
Index("decision_of", decision.c.subject)
Index("run_in_campaign", run.c.campaign, run.c.kind)
Index("attempt_ended", attempt.c.status, attempt.c.ended)
Index("link_to_artefact", link.c.artefact)
Index("link_to_series", link.c.series)
Index("prediction_by", prediction.c.run)
Index("observation_by", observation.c.run)


@dataclass(frozen=True)
class Rule:
    """What the database itself refuses, whoever writes: a change of a table while ``when`` holds."""

    name: str
    on: str
    table: str
    when: str
    message: str


RULES = (
    Rule("attempt_needs_permission", "INSERT", "attempt", """EXISTS (
           SELECT 1 FROM run_subject s JOIN decision d ON d.id = s.decision WHERE s.run = NEW.run
           AND (d.outcome <> 'permit' OR d.operation <> 'run' OR d.subject <> s.subject))""",
         "attempt without a permit"),
    Rule("use_needs_permission", "INSERT", "link", """NEW.role = 'used' AND EXISTS (
           SELECT subject FROM image_series WHERE uid = NEW.series
           UNION SELECT subject FROM contains WHERE artefact = NEW.artefact
           UNION SELECT subject FROM sample WHERE id = NEW.sample
           EXCEPT SELECT subject FROM run_subject WHERE run = NEW.run)""",
         "input of a subject without a permit"),
    Rule("prediction_of_a_forecast", "INSERT", "prediction",
         "(SELECT kind FROM run WHERE id = NEW.run) NOT IN ('forecast', 'calibration')",
         "a prediction needs a forecast or a calibration"),
    Rule("observation_of_an_analysis", "INSERT", "observation",
         "NEW.run IS NOT NULL AND (SELECT kind FROM run WHERE id = NEW.run) <> 'analysis'",
         "an observation needs an analysis"),
    Rule("observation_of_what_was_seen", "INSERT", "observation", """EXISTS (
           SELECT 1 FROM link l JOIN artefact a ON a.sha256 = l.artefact
           WHERE l.run = NEW.run AND l.role = 'used' AND a.asserted = 'simulated')""",
         "an observation cannot rest on a simulation"),
    Rule("seen_stays_apart_from_simulated", "INSERT", "link", """NEW.role = 'used'
           AND (SELECT asserted FROM artefact WHERE sha256 = NEW.artefact) = 'simulated'
           AND EXISTS (SELECT 1 FROM observation WHERE run = NEW.run)""",
         "an observation cannot rest on a simulation"),
    Rule("decision_is_final", "UPDATE", "decision", "TRUE", "decisions are final"),
    Rule("consent_is_final", "UPDATE", "consent", "TRUE", "consents are final"),
    Rule("audit_is_final", "UPDATE", "audit", "TRUE", "the audit is final"),
    Rule("audit_stays", "DELETE", "audit", "TRUE", "the audit is final"),
)  # fmt: skip
"""No attempt and no use of a subject's images without a permit; predictions only of forecasts; observations only of
analyses of what was seen; final records."""

TRIGGERS = tuple(
    f"CREATE TRIGGER {rule.name} BEFORE {rule.on} ON {rule.table} WHEN {rule.when}"
    f" BEGIN SELECT RAISE(ABORT, '{rule.message}'); END"
    for rule in RULES
)
"""The rules, as SQLite has them."""
