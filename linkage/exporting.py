"""Export: what the store holds about a run, a subject or a cohort, in one metadata standard.

Consent is asked for every subject. The decisions, the gaps, the recipient and the audit entry are committed before the
file appears under its name, so that nothing leaves that is not on record; then the head of the audit is signed, if a
vault is at hand. Dates stay at home; ages and intervals leave (see leaving.py). Until its owner gives it away, the file
or folder is for their eyes alone.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from uuid import uuid4

from sqlalchemy import Connection, insert, select

from ..core.errors import ConfigurationRejected, ConsentDenied
from ..core.files import content_hash
from ..core.passing import passing_folder, swept
from . import core, tables
from .audit import SignedHead, record_action, sign
from .consent import ACT_REASON, PURPOSES, add_decision, denied, why_denied
from .core import Holdings
from .holding import held
from .leaving import leaving
from .narrowing import heads_not_defaced, of_run
from .permissions import OWNER, shut
from .standards import Gap, Standard, Violation, lost, standard
from .store import PROJECT, Store, code_id, now
from .subject import SubjectKey
from .vault import Vault

CATEGORIES = ("imaging",)
"""Kinds of data that an export carries."""


@dataclass(frozen=True)
class Exported:
    """What was exported.

    subjects    pseudonyms whose data are in it
    left_out    subjects of the cohort whose consent does not cover it, with the reason
    gaps        what could not be said, and how often
    violations  rules of the standard that the file breaks: none is what it should be
    sha256      of the file, or over the hashes of the folder's files
    head        the audit's head, signed after the export; None without a vault
    """

    standard: str
    version: str
    path: Path
    sha256: str
    subjects: tuple[str, ...]
    left_out: tuple[tuple[str, str], ...]
    gaps: tuple[Gap, ...]
    violations: tuple[Violation, ...]
    head: SignedHead | None = None


def export(
    store: Store,
    name: str,
    out: Path | str,
    *,
    standard_name: str,
    recipient: str = "self",
    purpose: str = "HRESCH",
    predictions: bool | None = None,
    faces_handled: bool = False,
    options: Mapping[str, str] | None = None,
    vault: Vault | None = None,
) -> Exported:
    """Export a run, a subject or a cohort.

    name         a run's id, a subject's key, a collection's id, ``all``, or a file with one subject key a line
    out          file or folder that does not exist yet
    recipient    who receives it; it stays on record, so that an erasure can name who holds copies
    predictions  whether predictions are in it (None: as the standard has it)
    faces_handled  images of heads may leave although they were not defaced here
    options        what the holder states beside the store, where the standard has OPTIONS
    vault          signs the head of the audit afterwards, and keeps it

    Raises ConsentDenied when a subject's consent does not cover it, or when a cohort has fewer subjects than the
    study's smallest cell; ConfigurationRejected for a name that the store does not know, an ``out`` that exists, or
    images of a head that was not defaced.
    """
    chosen, out = standard(standard_name), Path(out)
    _refuse_existing(out)
    stated = _known_options(chosen, options or {})
    with_predictions = chosen.PREDICTIONS if predictions is None else predictions
    keys, is_cohort = subjects_named(store, name)
    home = swept(passing_folder(out))  # which nobody else can enter
    beside = home / out.name
    try:
        with store.writing() as connection:
            allowed, left_out = permitted(store, connection, keys, purpose, is_cohort=is_cohort)
            if is_cohort:
                _refuse_small(connection, len(allowed))
            holdings = leaving(held(connection, allowed))
            if run := run_named(connection, name):
                holdings = of_run(holdings, run)
            holdings = holdings if with_predictions else core.observed(holdings)
            home.mkdir(mode=OWNER, parents=True)
            if hasattr(chosen, "render_with_files"):
                _refuse_faces(holdings, handled=faces_handled)
                chosen.render_with_files(holdings, beside, store.path)
            else:
                chosen.render(holdings, beside, **stated)
            gaps, violations, digest = lost(holdings, chosen), chosen.check(beside), hash_of(beside)
            record_recipient(connection, chosen.NAME, chosen.VERSION, digest, recipient, purpose, allowed)
            _record_gaps(connection, chosen, gaps)
            about = {"standard": chosen.NAME, "sha256": digest, "recipient": recipient, "subjects": len(allowed)}
            record_action(store, connection, "export", name, about)
        shut(beside)
        os.replace(beside, out)
    except ConsentDenied:
        keep_denials(store, keys, purpose)
        raise
    finally:
        shutil.rmtree(home, ignore_errors=True)
    head = None if vault is None else sign(store, vault)
    return Exported(chosen.NAME, chosen.VERSION, out, digest, tuple(allowed), left_out, gaps, violations, head)


def subjects_named(store: Store, name: str) -> tuple[tuple[SubjectKey, ...], bool]:
    """(the subjects that a name stands for, whether it is a cohort's). Raises ConfigurationRejected for none."""
    path = Path(name)
    with store.reading() as connection:
        known = set(connection.execute(select(tables.subject.c.key)).scalars())
        if name == "all":
            return tuple(SubjectKey(key) for key in sorted(known)), True
        if name in known:
            return (SubjectKey(name),), False
        if path.is_file():
            listed = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
            unknown = [key for key in listed if key not in known]
            if unknown:
                raise _no_such(f"{len(unknown)} of the {len(listed)} names in {path.name!r} are no subjects here")
            return tuple(SubjectKey(key) for key in sorted(set(listed))), True
        collected = select(tables.enrolment.c.subject).where(tables.enrolment.c.collection == name)
        if found := connection.execute(collected).scalars().all():
            return tuple(SubjectKey(key) for key in sorted(found)), True
        used = select(tables.run_subject.c.subject).where(tables.run_subject.c.run == run_named(connection, name))
        if found := connection.execute(used).scalars().all():
            return tuple(SubjectKey(key) for key in found), False
    raise _no_such("no run, subject or collection has that name")


def run_named(connection: Connection, name: str) -> str | None:
    """The one run whose id begins with a name of at least six digits; None if there is none, or more than one."""
    if len(name) < 6:
        return None
    begins = select(tables.run.c.id).where(tables.run.c.id.startswith(name, autoescape=True)).limit(2)
    found = connection.execute(begins).scalars().all()
    return found[0] if len(found) == 1 else None


def hash_of(path: Path) -> str:
    """SHA-256 of a file; of a folder, over the names and hashes of its files."""
    if path.is_file():
        return content_hash(path)
    files = sorted(one for one in path.rglob("*") if one.is_file())
    listed = "".join(f"{one.relative_to(path).as_posix()} {content_hash(one)}\n" for one in files)
    return sha256(listed.encode()).hexdigest()


def permitted(
    store: Store, connection: Connection, keys: Iterable[SubjectKey], purpose: str, *, is_cohort: bool
) -> tuple[list[str], tuple[tuple[str, str], ...]]:
    """Subjects whose consent covers the export; a denial ends the export of one, and leaves a subject out of many."""
    allowed, left_out = [], []
    for key in keys:
        decision = add_decision(store, connection, key, "export", purpose, CATEGORIES)
        if decision.permits:
            allowed.append(str(key))
        else:
            left_out.append((str(key), decision.reason))
    if left_out and not is_cohort:
        raise denied(left_out[0][1], "export")
    return allowed, tuple(left_out)


def keep_denials(store: Store, keys: Iterable[SubjectKey], purpose: str) -> None:
    """Of an export that did not take place, the denials stay on record."""
    with store.writing() as connection:
        for key in keys:
            if why_denied(connection, key, purpose, CATEGORIES):
                add_decision(store, connection, key, "export", purpose, CATEGORIES)


def _refuse_small(connection: Connection, count: int) -> None:
    least = connection.execute(select(tables.study.c.small_cell_k).where(tables.study.c.id == PROJECT)).scalar_one()
    if count < least:
        raise ConsentDenied(
            f"the cohort has {count} subjects whose consent covers the export",
            f"at least {least}, the study's smallest cell",
            "export single subjects, or a larger cohort",
        )


def _known_options(chosen: Standard, options: Mapping[str, str]) -> dict[str, str]:
    known: Mapping[str, str] = getattr(chosen, "OPTIONS", {})
    if unknown := sorted(options.keys() - known.keys()):
        raise ConfigurationRejected(
            f"{chosen.NAME} has no option {', '.join(unknown)}",
            "; ".join(f"{name}: {meaning}" for name, meaning in known.items()) or "no option",
            "leave it out, or correct its name",
        )
    return dict(options)


def _refuse_faces(holdings: Holdings, *, handled: bool) -> None:
    if not handled and (heads := heads_not_defaced(holdings)):
        raise ConfigurationRejected(
            f"{len(heads)} series show a head that was not defaced, and the export would carry images",
            "images in which no face can be recognised",
            "ingest with --deface, or state --faces-handled if the faces were removed before",
        )


def _refuse_existing(out: Path) -> None:
    if out.exists():
        raise ConfigurationRejected(f"{out.name!r} exists", "a new file or folder", "choose another name for --out")


def _no_such(found: str) -> ConfigurationRejected:
    return ConfigurationRejected(
        found,
        "a run's id, a subject's key, a collection's id, 'all', or a file with one key a line",
        "list what the store holds with: oncoscale show --store STORE",
    )


def record_recipient(
    connection: Connection,
    standard_name: str,
    version: str,
    digest: str,
    recipient: str,
    purpose: str,
    subjects: Sequence[str],
) -> None:
    """The rows that say who received what about whom, and what for."""
    identity = "X-" + uuid4().hex
    connection.execute(
        insert(tables.export).values(
            id=identity,
            standard=standard_name,
            version=version,
            sha256=digest,
            recipient=recipient,
            purpose=code_id(connection, ACT_REASON, purpose, PURPOSES.get(purpose, purpose)),
            subjects=len(subjects),
            at=now(),
        )
    )
    for key in subjects:
        connection.execute(insert(tables.export_subject).values(export=identity, subject=key))


def _record_gaps(connection: Connection, chosen: Standard, gaps: Iterable[Gap]) -> None:
    """What an export could not say."""
    at = now()
    for gap in gaps:
        row = {"path": gap.path, "reason": gap.reason, "n": gap.n, "at": at}
        connection.execute(
            insert(tables.gap).values(direction="export", standard=chosen.NAME, version=chosen.VERSION, **row)
        )
