"""The commands that look at what there is: inspect, trace, report, show. Parses and shows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .cli_options import (
    Json,
    MaybeStore,
    NoSeed,
    Quiet,
    StoreOption,
    Threads,
)
from .console import Session
from .option_groups import OfFiles, unfolded

LOOK = "Look at results"
look_app = typer.Typer()


@look_app.command(rich_help_panel=LOOK, epilog="Example: oncoscale inspect images/ --out look/")
@unfolded
def inspect(
    *,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Any folder of DICOM.")],
    out: Annotated[Path | None, typer.Option("--out", help="Folder for sheets of thumbnails and inspect.json.")] = None,
    files: OfFiles,
    seed: NoSeed = None,
    threads: Threads = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """What a folder holds, visit by visit: series, times, geometry, what is doubted, what to pass to quantify."""
    with Session(json, quiet, threads) as session:
        from .commands import ReadOptions
        from .inspecting import inspect as look

        session.finish(
            look(
                folder,
                out=out,
                reading=ReadOptions.of(files),
                progress=session.progress,
            )
        )


@look_app.command(rich_help_panel=LOOK, epilog="Example: oncoscale trace run/ --element 4711")
def trace(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Folder of a run, or its identity in the store.")],
    element: Annotated[int, typer.Option("--element", min=0, help="Element number (cell number in tissue.vtkhdf).")],
    store: MaybeStore = None,
    seed: NoSeed = None,
    threads: Threads = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """The eleven steps from a voxel of the images to the forecast, for one element, with numbers and sources."""
    with Session(json, quiet, threads) as session:
        from .results import trace as follow

        session.finish(follow(run, element=element, store=store))


@look_app.command(rich_help_panel=LOOK, epilog="Example: oncoscale report run/ --out report.html")
def report(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Folder of a run, or its identity in the store.")],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="Where to write it; default: report.html in the folder of the run "
            "(RUN-report.html here, for a run in the store).",
        ),
    ] = None,
    store: MaybeStore = None,
    seed: NoSeed = None,
    threads: Threads = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Draw a run's report again from its files."""
    with Session(json, quiet, threads) as session:
        from .results import report as draw

        session.finish(draw(run, out=out, store=store))


@look_app.command(rich_help_panel=LOOK, epilog="Example: oncoscale show P-HNU76GYAPKGZMXDN --store STORE")
def show(
    store: StoreOption,
    subject: Annotated[
        str | None, typer.Argument(metavar="SUBJECT", help="Pseudonym; without it, every subject.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE.html|.json", help="The same as a page with a picture, or JSON."),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """What the store holds of a subject: visits, consent, runs, predictions, and all of it as a timeline in days."""
    with Session(json, quiet) as session:
        from .showing import show as tell

        session.finish(tell(store, subject, out=out))
