"""The commands that the law asks for: erase, access, reidentify, audit, roles, rules, migrate. Parses and shows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .cli_options import DryRun, Json, Quiet, StoreOption
from .console import Session

LAW = "What the law asks for"
law_app = typer.Typer()
audit_app = typer.Typer(
    help="The chain of everything that was done with a store: verify it, sign its head, show it.",
    epilog="Example: oncoscale audit verify STORE",
    no_args_is_help=True,
)
roles_app = typer.Typer(
    help="Who may do what with a store. The first grant closes it: from then on only users with a role act.",
    epilog="Example: oncoscale roles grant ada admin --store STORE",
    no_args_is_help=True,
)
rules_app = typer.Typer(
    help="Purpose, legal basis, retention, smallest cell, and what a withdrawal does to past results.",
    epilog="Example: oncoscale rules show --store STORE",
    no_args_is_help=True,
)
StorePlace = Annotated[Path, typer.Argument(metavar="STORE", help="Folder of the store.")]
Subject = Annotated[str, typer.Argument(metavar="SUBJECT", help="Pseudonym.")]


@law_app.command(rich_help_panel=LAW, epilog="Example: oncoscale erase P-HNU76GYAPKGZMXDN --store STORE --dry-run")
def erase(
    store: StoreOption,
    subject: Annotated[str | None, typer.Argument(metavar="SUBJECT", help="Pseudonym.")] = None,
    expired: Annotated[
        bool, typer.Option("--expired", help="Every subject whose retention has passed, in place of one.")
    ] = False,
    reason: Annotated[str, typer.Option("--reason", help="Kept with the tombstone; names nobody.")] = "request",
    dry_run: DryRun = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Remove a subject everywhere, down to the bytes; what stays is a tombstone. Names who received copies."""
    with Session(json, quiet) as session:
        from .laws import erase as remove

        session.finish(remove(store, subject, expired=expired, reason=reason, dry_run=dry_run))


@law_app.command(
    rich_help_panel=LAW, epilog="Example: oncoscale access P-HNU76GYAPKGZMXDN --store STORE --out report.json"
)
def access(
    subject: Subject,
    store: StoreOption,
    out: Annotated[Path | None, typer.Option("--out", help="File for the whole report (JSON).")] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Everything that is held about a subject, who received it, who looked at it, and by which right."""
    with Session(json, quiet) as session:
        from .laws import access as report

        session.finish(report(store, subject, out=out))


@law_app.command(
    rich_help_panel=LAW,
    epilog='Example: oncoscale reidentify P-HNU76GYAPKGZMXDN --store STORE --reason "incidental finding"',
)
def reidentify(
    subject: Subject,
    store: StoreOption,
    reason: Annotated[str, typer.Option("--reason", help="Why; its hash goes on record; names nobody.")],
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Site and local identifier of a subject, from the vault; on record before it is shown."""
    with Session(json, quiet) as session:
        from .laws import reidentify as name

        session.finish(name(store, subject, reason))


@law_app.command(rich_help_panel=LAW, epilog="Example: oncoscale migrate STORE --dry-run")
def migrate(store: StorePlace, dry_run: DryRun = False, json: Json = False, quiet: Quiet = False) -> None:
    """Bring a store of an older version to this one; a copy of its database is kept beside it."""
    with Session(json, quiet) as session:
        from .laws import migrate as bring

        session.finish(bring(store, dry_run=dry_run))


@audit_app.command("verify", epilog="Example: oncoscale audit verify STORE --head heads.jsonl")
def audit_verify(
    store: StorePlace,
    head: Annotated[
        Path | None, typer.Option("--head", metavar="FILE", help="Signed heads kept elsewhere; default: the vault's.")
    ] = None,
    key: Annotated[
        str, typer.Option("--key", metavar="HEX", help="Public key that must have signed them; default: the vault's.")
    ] = "",
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Find the first entry that was edited, deleted or moved, and with signed heads a cut tail. Exit 3: not whole."""
    with Session(json, quiet) as session:
        from .laws import audit_verify as verify

        session.finish(verify(store, head=head, key=key))


@audit_app.command("sign", epilog="Example: oncoscale audit sign STORE --out /mnt/elsewhere/heads.jsonl")
def audit_sign(
    store: StorePlace,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Also add it here; keep this file elsewhere.")
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Sign the head of the chain with the vault's key. Do it daily; an export does it where a vault is at hand."""
    with Session(json, quiet) as session:
        from .laws import audit_sign as sign

        session.finish(sign(store, out=out))


@audit_app.command("show", epilog="Example: oncoscale audit show STORE --last 50")
def audit_show(
    store: StorePlace,
    last: Annotated[int, typer.Option("--last", min=1, help="How many entries.")] = 20,
    subject: Annotated[str, typer.Option("--subject", metavar="SUBJECT", help="Only entries about this one.")] = "",
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """The newest entries: when, who, in which role, what; subjects as keyed hashes."""
    with Session(json, quiet) as session:
        from .laws import audit_show as tell

        session.finish(tell(store, last=last, subject=subject))


@roles_app.command("show", epilog="Example: oncoscale roles show --store STORE")
def roles_show(store: StoreOption, json: Json = False, quiet: Quiet = False) -> None:
    """Who has which role in a store, and which role may run which command."""
    with Session(json, quiet) as session:
        from .laws import roles_show as tell

        session.finish(tell(store))


Who = Annotated[str, typer.Argument(metavar="USER", help="As the operating system (or the database) calls them.")]
Role = Annotated[str, typer.Argument(metavar="ROLE", help="viewer, analyst, curator, data-protection-officer, admin.")]
Site = Annotated[str, typer.Option("--site", help="Only subjects of this site (PostgreSQL); default: all.")]


@roles_app.command("grant", epilog="Example: oncoscale roles grant ada analyst --store STORE")
def roles_grant(
    who: Who,
    role: Role,
    store: StoreOption,
    site: Site = "",
    dry_run: DryRun = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Let a user act in a role. The first grant must name an admin."""
    with Session(json, quiet) as session:
        from .laws import roles_grant as grant

        session.finish(grant(store, who, role, site=site, dry_run=dry_run))


@roles_app.command("revoke", epilog="Example: oncoscale roles revoke ada analyst --store STORE")
def roles_revoke(
    who: Who,
    role: Role,
    store: StoreOption,
    site: Site = "",
    dry_run: DryRun = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Take a role back. The last admin stays."""
    with Session(json, quiet) as session:
        from .laws import roles_revoke as revoke

        session.finish(revoke(store, who, role, site=site, dry_run=dry_run))


@rules_app.command("show", epilog="Example: oncoscale rules show --store STORE")
def rules_show(store: StoreOption, json: Json = False, quiet: Quiet = False) -> None:
    """The rules of a store, and who is due to go by them."""
    with Session(json, quiet) as session:
        from .laws import rules_show as tell

        session.finish(tell(store))


@rules_app.command("set", epilog="Example: oncoscale rules set --store STORE --retention-until 2040-12-31")
def rules_set(
    store: StoreOption,
    title: Annotated[str | None, typer.Option("--title", help="Of the research study.")] = None,
    purpose: Annotated[str | None, typer.Option("--purpose", help="HRESCH, DSRCH, BIORCH or MLTRAINING.")] = None,
    legal_basis: Annotated[str | None, typer.Option("--legal-basis", help="consent, or the law in its place.")] = None,
    retention_until: Annotated[
        str | None, typer.Option("--retention-until", metavar="DATE", help="Last day on which data are kept.")
    ] = None,
    small_cell_k: Annotated[
        int | None, typer.Option("--small-cell-k", min=1, help="Smaller groups of subjects are not shown.")
    ] = None,
    on_withdrawal: Annotated[
        str | None,
        typer.Option("--on-withdrawal", metavar="keep|erase", help="What a withdrawal does to past results."),
    ] = None,
    dry_run: DryRun = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Change rules of a store, on record."""
    with Session(json, quiet) as session:
        from .laws import rules_set as change

        stated = {
            "title": title,
            "purpose": purpose,
            "legal_basis": legal_basis,
            "retention_until": retention_until,
            "small_cell_k": small_cell_k,
            "on_withdrawal": on_withdrawal,
        }
        changed = {name: value for name, value in stated.items() if value is not None}
        session.finish(change(store, changed, dry_run=dry_run))


def add_law(app: typer.Typer) -> None:
    """Add these commands to an application."""
    app.add_typer(law_app)
    for name, group in (("audit", audit_app), ("roles", roles_app), ("rules", rules_app)):
        app.add_typer(group, name=name, rich_help_panel=LAW)
