"""The commands to look things up with: explain, schema, bench. Parses and shows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .cli_options import (
    DryRun,
    Json,
    NoSeed,
    Quiet,
    Threads,
)
from .console import Session

REFERENCE = "Reference"
reference_app = typer.Typer()


@reference_app.command(rich_help_panel=REFERENCE, epilog="Example: oncoscale explain neuroblastoma")
def explain(
    tumour: Annotated[
        str | None, typer.Argument(metavar="TUMOUR", help="Disease model; without it, those there are.")
    ] = None,
    differences: Annotated[
        bool, typer.Option("--differences", help="Also where the rules of the cells depart from the released program.")
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """What a disease model says: what maps mean in it, its parameters with sources, and what is assumed."""
    with Session(json, quiet) as session:
        from .explaining import explain as tell

        session.finish(tell(tumour, differences=differences))


@reference_app.command(rich_help_panel=REFERENCE, epilog="Example: oncoscale schema forecast > forecast.schema.json")
def schema(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Which configuration file; without it, those there are.")
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """The JSON Schema of a configuration file."""
    with Session(json, quiet) as session:
        from .schemas import schema as tell

        session.finish(tell(name))


@reference_app.command(
    rich_help_panel=REFERENCE, epilog="Example: oncoscale bench --suite speed --only cells --json -- --pairs 3"
)
def bench(
    further: Annotated[
        list[str] | None, typer.Argument(metavar="-- [OPTIONS]", help="Further options for the benchmarks themselves.")
    ] = None,
    suite: Annotated[
        str | None, typer.Option("--suite", help="speed, verification, validation or gpu; without it, all there are.")
    ] = None,
    only: Annotated[
        str | None, typer.Option("--only", metavar="NAME", help="One benchmark: openvt-relax11; or a group: fe.")
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(
            "--against",
            metavar="RESULT.json",
            help="Compare ratios with those of an earlier record, or of a folder of them.",
        ),
    ] = None,
    factor: Annotated[
        float, typer.Option("--factor", min=1.0, help="A ratio this many times smaller than before has fallen.")
    ] = 1.25,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder that also gets each benchmark's record: NAME.json.")
    ] = None,
    list_only: Annotated[bool, typer.Option("--list", help="Name the benchmarks and run none.")] = False,
    seed: NoSeed = None,
    threads: Threads = None,
    dry_run: DryRun = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Run benchmarks of the source tree: one record each, ratios and checks. Exit 3: one failed or has fallen."""
    with Session(json, quiet, threads) as session:
        from .bench import bench as run

        session.finish(
            run(
                suite=suite,
                only=only,
                against=against,
                factor=factor,
                out=out,
                further=further or [],
                dry_run=list_only or dry_run,
                progress=session.progress,
                say=session.say,
            )
        )
