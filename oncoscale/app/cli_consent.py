"""``oncoscale consent``: its commands. Parses and shows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .cli_options import DryRun, Json, Quiet, StoreOption
from .console import Session

consent_app = typer.Typer(
    help="What a subject allowed: write a template, record, withdraw, show.",
    epilog="Example: oncoscale consent template > consent.toml",
    no_args_is_help=True,
)


@consent_app.command("template", epilog="Example: oncoscale consent template > consent.toml")
def consent_template(json: Json = False, quiet: Quiet = False) -> None:
    """Print a consent file to fill in."""
    with Session(json, quiet) as session:
        from .consents import consent_template as tell

        session.finish(tell())


@consent_app.command("record", epilog="Example: oncoscale consent record P-HNU76GYAPKGZMXDN consent.toml --store STORE")
def consent_record(
    subject: Annotated[str, typer.Argument(metavar="SUBJECT", help="Pseudonym.")],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Consent file.")],
    store: StoreOption,
    dry_run: DryRun = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Record a consent; it supersedes the subject's last one."""
    with Session(json, quiet) as session:
        from .consents import consent_record as record

        session.finish(record(store, subject, file, dry_run=dry_run))


@consent_app.command("withdraw", epilog="Example: oncoscale consent withdraw P-HNU76GYAPKGZMXDN --store STORE")
def consent_withdraw(
    subject: Annotated[str, typer.Argument(metavar="SUBJECT", help="Pseudonym.")],
    store: StoreOption,
    dry_run: DryRun = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Withdraw a subject's consent, at once: no further run is permitted."""
    with Session(json, quiet) as session:
        from .consents import consent_withdraw as withdraw

        session.finish(withdraw(store, subject, dry_run=dry_run))


@consent_app.command("show", epilog="Example: oncoscale consent show P-HNU76GYAPKGZMXDN --store STORE")
def consent_show(
    subject: Annotated[str, typer.Argument(metavar="SUBJECT", help="Pseudonym.")],
    store: StoreOption,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Every consent of a subject, oldest first."""
    with Session(json, quiet) as session:
        from .consents import consent_show as tell

        session.finish(tell(store, subject))
