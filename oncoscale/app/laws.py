"""The verbs that the law asks for, as Python calls: erase, access, reidentify, audit, roles, rules, migrate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import ConfigurationRejected
from ..core.files import canonical_json, write_json
from .console import Result

if TYPE_CHECKING:
    from ..linkage.erasing import Erasure

AUDIT_IN_WORDS = {
    "edited": "entry {n} was edited",
    "missing": "entry {n} is missing: it was deleted",
    "moved": "entry {n} stands where another stood: entries were moved or deleted",
    "cut": "the chain is cut: entry {n} and what followed are missing",
    "rebuilt": "the chain was rebuilt, from entry {n} on or later",
}


def erase(store: Path, subject: str | None, *, expired: bool, reason: str, dry_run: bool = False) -> Result:
    """Erase a subject, or all whose time has passed."""
    from ..linkage.erasing import erase as remove
    from ..linkage.erasing import erase_expired
    from ..linkage.store import Store
    from ..linkage.subject import SubjectKey
    from ..linkage.vault import Vault

    if (subject is None) is not expired:
        raise ConfigurationRejected(
            "a subject and --expired" if expired else "neither a subject nor --expired",
            "one of the two",
            "name a subject, or say --expired",
        )
    opened = Store.open(store, read_only=dry_run)
    vault = Vault.open(store=opened.path)
    done = (
        erase_expired(opened, vault=vault, dry_run=dry_run)
        if subject is None
        else (remove(opened, SubjectKey(subject), vault=vault, reason=reason, dry_run=dry_run),)
    )
    content = {"dry_run": dry_run, "erased": [asdict(one) for one in done]}
    words = [line for one in done for line in _told(one, dry_run=dry_run)]
    return Result(content, "\n".join(words) or "Nobody is due.")


def _told(one: Erasure, *, dry_run: bool) -> list[str]:
    lines = [f"{'Would erase' if dry_run else 'Erased'} {one.subject} ({one.reason})"]
    lines += [f"  {count:6d} rows of {table}" for table, count in one.rows.items()]
    lines += [f"  {name}" for name in one.files]
    lines += ["  the entry in the vault"] if one.in_vault else []
    lines += [f"  flagged, as others are in it: {sha256}" for sha256 in one.pooled]
    lines += [f"  tell {to.recipient}: {to.standard} of {to.at}, {to.sha256[:16]}" for to in one.recipients]
    return [*lines, "  Not reached: backups, copies outside the store, freed blocks of the disk."]


def access(store: Path, subject: str, *, out: Path | None) -> Result:
    """The access report of a subject."""
    from ..linkage.access import access_report
    from ..linkage.store import Store
    from ..linkage.subject import SubjectKey
    from ..linkage.vault import Vault

    opened = Store.open(store)
    report = access_report(opened, SubjectKey(subject), vault=Vault.open(store=opened.path))
    if out is not None:
        write_json(out, report, private=True)
    words = [f"{subject}: purpose {report['purpose']}, by {report['legal_basis']}, until {report['retention_until']}"]
    words += [f"  {len(rows):6d} rows of {table}" for table, rows in report["held"].items() if rows]
    words += [f"  {len(report['files'])} files, {sum(one['bytes'] for one in report['files'])} bytes"]
    words += [f"  received by {one['recipient']}, {one['at']}" for one in report["recipients"]]
    words += [f"  {len(report['actions'])} actions on record", *([f"The whole report: {out}"] if out else [])]
    return Result(report, "\n".join(words))


def reidentify(store: Path, subject: str, reason: str) -> Result:
    """Who a subject is."""
    from ..linkage.access import reidentify as name
    from ..linkage.store import Store
    from ..linkage.subject import SubjectKey
    from ..linkage.vault import Vault

    opened = Store.open(store)
    site, local = name(opened, SubjectKey(subject), reason, vault=Vault.open(store=opened.path))
    return Result({"subject": subject, "site": site, "local_id": local}, f"{subject} is {local} of {site}")


def audit_verify(store: Path, *, head: Path | None, key: str) -> Result:
    """Whether the audit is whole."""
    from ..linkage.audit import examine, heads_of, read_heads
    from ..linkage.store import Store
    from ..linkage.vault import Vault, default_folder

    opened = Store.open(store, read_only=True)
    vault = Vault.open(store=opened.path) if (default_folder() / "audit.key").exists() else None
    known = vault.public_key if vault and not key else key
    heads = read_heads(head, known) if head else heads_of(vault) if vault else ()
    found = examine(opened, heads)
    content = {"whole": not found.fault, **asdict(found), "heads": len(heads)}
    if found.fault:
        return Result(content, f"Not whole: {AUDIT_IN_WORDS[found.fault].format(n=found.first_bad)}.", 3)
    signed = (
        f"a signed head vouches for the first {found.signed}"
        if found.signed
        else "no signed head, so a cut tail would not show (sign with: oncoscale audit sign STORE)"
    )
    return Result(content, f"Whole: {found.entries} entries; {signed}.")


def audit_sign(store: Path, *, out: Path | None) -> Result:
    """Sign the head of the audit."""
    from ..linkage.audit import sign
    from ..linkage.store import Store
    from ..linkage.vault import Vault

    opened = Store.open(store, read_only=True)
    made = asdict(sign(opened, Vault.open(store=opened.path)))
    if out is not None:
        with open(out, "a", encoding="utf-8") as handle:
            handle.write(canonical_json(made) + "\n")
    return Result(made, f"Signed entry {made['seq']}; public key {made['public_key']}. Keep the head elsewhere too.")


def audit_show(store: Path, *, last: int, subject: str) -> Result:
    """The newest entries of the audit."""
    from ..linkage.audit import entries
    from ..linkage.store import Store

    rows = entries(Store.open(store, read_only=True), last=last, about=subject)
    lines = [f"{row['seq']:6d}  {row['at']}  {row['who']:<12} {row['role']:<24} {row['action']}" for row in rows]
    return Result({"entries": rows}, "\n".join(lines) or "No entry.")


def roles_show(store: Path) -> Result:
    """Grants and the matrix."""
    from ..linkage.roles import grants, matrix
    from ..linkage.store import Store

    found = [asdict(one) for one in grants(Store.open(store, read_only=True))]
    lines = [f"{row['who']}: {row['role']}{', site ' + row['site'] if row['site'] else ''}" for row in found]
    lines = lines or ["The store is open: nobody was granted a role, so whoever can write it acts in any."]
    lines += ["", *(f"{command:<22} {', '.join(roles)}" for command, roles in matrix().items() if roles)]
    return Result(
        {"grants": found, "matrix": {name: list(roles) for name, roles in matrix().items()}}, "\n".join(lines)
    )


def roles_grant(store: Path, who: str, role: str, *, site: str, dry_run: bool = False) -> Result:
    """Grant a role."""
    from ..linkage.roles import grant
    from ..linkage.store import Store

    if not dry_run:
        grant(Store.open(store), who, role, site)
    return Result({"dry_run": dry_run, "who": who, "role": role, "site": site}, f"{who}: {role}")


def roles_revoke(store: Path, who: str, role: str, *, site: str, dry_run: bool = False) -> Result:
    """Take a role back."""
    from ..linkage.roles import revoke
    from ..linkage.store import Store

    if not dry_run:
        revoke(Store.open(store), who, role, site)
    return Result({"dry_run": dry_run, "who": who, "role": role, "site": site}, f"{who}: {role} no more")


def rules_show(store: Path) -> Result:
    """The rules of a store."""
    from ..linkage.retention import due, rules, tombstones
    from ..linkage.store import Store

    opened = Store.open(store, read_only=True)
    ruling, going = asdict(rules(opened)), [asdict(one) for one in due(opened)]
    lines = [f"{name:<16} {value}" for name, value in ruling.items()]
    lines += [f"{one['subject']} is due: {one['reason']}" for one in going]
    return Result({"rules": ruling, "due": going, "erased": tombstones(opened)}, "\n".join(lines))


def rules_set(store: Path, changed: Mapping[str, Any], *, dry_run: bool = False) -> Result:
    """Change rules."""
    from ..linkage.retention import change_rules
    from ..linkage.store import Store

    if not changed:
        raise ConfigurationRejected("no rule to change", "at least one option", "see --help")
    if not dry_run:
        change_rules(Store.open(store), **changed)
    words = "\n".join(f"{name:<16} {value}" for name, value in changed.items())
    return Result({"dry_run": dry_run, "changed": dict(changed)}, words)


def migrate(store: Path, *, dry_run: bool = False) -> Result:
    """Bring a store to this version."""
    from ..linkage.migrations import migrate as bring

    done = bring(store, dry_run=dry_run)
    if done.start == done.end:
        return Result(asdict(done), f"The store is of version {done.end} already.")
    what = "Would bring" if dry_run else "Brought"
    words = f"{what} the store from version {done.start} to {done.end}."
    return Result(asdict(done), words + (f" The old database is kept as {done.backup}." if done.backup else ""))
