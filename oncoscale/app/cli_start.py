"""The commands to start with: doctor, demo, phantom. Parses and shows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .cli_options import (
    DryRun,
    Json,
    MaybeStore,
    Quiet,
    Seed,
    Threads,
)
from .console import Session

START = "Start here"
start_app = typer.Typer()


@start_app.command(rich_help_panel=START, epilog="Example: oncoscale doctor --store STORE")
def doctor(store: MaybeStore = None, json: Json = False, quiet: Quiet = False) -> None:
    """Examine this machine: what works, and for each thing that does not the line that cures it."""
    with Session(json, quiet) as session:
        from .doctor import doctor as examine

        session.finish(examine(store))


@start_app.command(rich_help_panel=START, epilog="Example: oncoscale demo --quick --out demo-run")
def demo(
    out: Annotated[Path, typer.Option("--out", help="New folder for everything that the demo makes.")] = Path(
        "demo-run"
    ),
    quick: Annotated[bool, typer.Option("--quick", help="Coarser images, fewer cells.")] = False,
    seed: Seed = 1,
    threads: Threads = None,
    dry_run: DryRun = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """The whole chain on a digital reference patient: images, consent, ingest, forecast, report. Minutes."""
    with Session(json, quiet, threads) as session:
        from .demo import demo as show

        session.finish(show(out, quick=quick, seed=seed, dry_run=dry_run, session=session))


@start_app.command(rich_help_panel=START, epilog="Example: oncoscale phantom --out patient")
def phantom(
    out: Annotated[Path, typer.Option("--out", help="New folder.")],
    tumour: Annotated[str, typer.Option("--tumour", help="Disease.")] = "neuroblastoma",
    matched: Annotated[
        bool, typer.Option("--matched", help="Obey the model that is fitted: for tests of accuracy.")
    ] = False,
    quick: Annotated[bool, typer.Option("--quick", help="A coarser grid.")] = False,
    seed: Seed = 1,
    dry_run: DryRun = False,
    threads: Threads = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write the digital reference patient: two visits of DICOM, and its true maps beside them."""
    with Session(json, quiet, threads) as session:
        from .commands import phantom as make

        session.finish(
            make(
                out, tumour=tumour, seed=seed, matched=matched, quick=quick, dry_run=dry_run, progress=session.progress
            )
        )
