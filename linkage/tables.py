"""The tables of the store. They know no standard, and no column can hold a name, a hospital number or a birth date.

Days are integers relative to the subject's day 0. Coded values are one type (system, version, code, display).
Every foreign key restricts deletion, so a table that an erasure forgets makes it fail loudly.
"""

from __future__ import annotations

from sqlalchemy import (
    REAL,
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

metadata = MetaData()


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


def _whole(name: str, *more: ForeignKey, null: bool = False, key: bool = False) -> tuple[Column[int]]:
    return (Column(name, Integer, *more, nullable=null, primary_key=key),)


def _real(name: str) -> tuple[Column[float]]:
    return (Column(name, REAL, nullable=True),)


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
    CheckConstraint("key GLOB 'P-[A-Z2-7]*' AND length(key) = 18"),
    CheckConstraint("age_day0_d BETWEEN 0 AND 32872"),
)

enrolment = _table(
    "enrolment",
    _text("subject", _to("subject.key")),
    _text("study", _to("study.id")),
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
    CheckConstraint("(artefact IS NOT NULL) + (series IS NOT NULL) = 1"),
)

prediction = _table(
    "prediction",
    _text("id", key=True),
    _text("run", _to("run.id")),
    _text("subject", _to("subject.key")),
    _whole("quantity", _to("code.id")),
    _whole("horizon_day"),
    Column("value", REAL, nullable=False),
    _real("low"),
    _real("high"),
    _real("level"),
    _whole("unit", _to("code.id")),
    _text("artefact", _to("artefact.sha256"), null=True),
    _text("status", among="preliminary,withdrawn"),
    CheckConstraint("level > 0 AND level < 1"),
)

audit = _table(
    "audit",
    _whole("seq", key=True),
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

TRIGGERS = (
    """CREATE TRIGGER attempt_needs_permission BEFORE INSERT ON attempt
       WHEN EXISTS (SELECT 1 FROM run_subject s JOIN decision d ON d.id = s.decision WHERE s.run = NEW.run
                    AND (d.outcome <> 'permit' OR d.operation <> 'run' OR d.subject <> s.subject))
       BEGIN SELECT RAISE(ABORT, 'attempt without a permit'); END""",
    """CREATE TRIGGER use_needs_permission BEFORE INSERT ON link
       WHEN NEW.role = 'used' AND EXISTS (
           SELECT subject FROM image_series WHERE uid = NEW.series
           UNION SELECT subject FROM contains WHERE artefact = NEW.artefact
           EXCEPT SELECT subject FROM run_subject WHERE run = NEW.run)
       BEGIN SELECT RAISE(ABORT, 'input of a subject without a permit'); END""",
    """CREATE TRIGGER prediction_of_a_forecast BEFORE INSERT ON prediction
       WHEN (SELECT kind FROM run WHERE id = NEW.run) NOT IN ('forecast', 'calibration')
       BEGIN SELECT RAISE(ABORT, 'a prediction needs a forecast or a calibration'); END""",
    "CREATE TRIGGER decision_is_final BEFORE UPDATE ON decision BEGIN SELECT RAISE(ABORT, 'decisions are final'); END",
    "CREATE TRIGGER consent_is_final BEFORE UPDATE ON consent BEGIN SELECT RAISE(ABORT, 'consents are final'); END",
    "CREATE TRIGGER audit_is_final BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'the audit is final'); END",
    "CREATE TRIGGER audit_stays BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'the audit is final'); END",
)
"""No attempt and no use of a subject's images without a permit; predictions only of forecasts; final records."""
