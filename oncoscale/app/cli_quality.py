"""``oncoscale check``. Parses and shows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .cli_options import Json, NoSeed, Quiet, Threads
from .console import Session

quality_app = typer.Typer()


@quality_app.command(rich_help_panel="Look at results", epilog="Example: oncoscale check STORE --out quality.html")
def check(
    store: Annotated[Path, typer.Argument(metavar="STORE", help="Folder of the store.")],
    rules: Annotated[
        Path | None, typer.Option("--rules", metavar="FILE.toml", help="Further rules, or others in place of some.")
    ] = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Remove orphans: files that no record speaks of. Nothing else changes.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE.html|.json", help="Where to write the report, as a page or JSON."),
    ] = None,
    seed: NoSeed = None,
    threads: Threads = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Every rule of quality, every hash recomputed, orphans listed. Exit code 3 if a rule of severity error fails."""
    with Session(json, quiet, threads) as session:
        from .checking import check as look

        session.finish(look(store, rules=rules, repair=repair, out=out, progress=session.progress))
