"""``oncoscale``: one verb a stage. Parses and shows; every command is a thin layer over a Python call of the same name.

Nothing heavy is imported here, so that ``oncoscale --help`` answers at once: each command imports what it needs.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from .. import __version__
from ..core.errors import ConfigurationRejected
from .cli_archive import archive_app
from .cli_chain import CHAIN, chain_app
from .cli_consent import consent_app
from .cli_guard import guard
from .cli_harmonise import harmonise_app
from .cli_law import LAW, add_law
from .cli_linkage import linkage_app
from .cli_look import look_app
from .cli_quality import quality_app
from .cli_reference import reference_app
from .cli_start import start_app
from .console import print_error

app = typer.Typer(
    name="oncoscale",
    help="From a patient's images to a recorded forecast of a solid tumour. Research use only, not a medical device.",
    epilog="Start with: oncoscale demo --quick",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for commands in (start_app, chain_app, look_app, linkage_app, quality_app, reference_app):
    app.add_typer(commands)
app.add_typer(consent_app, name="consent", rich_help_panel=LAW)
app.add_typer(harmonise_app, name="harmonise", rich_help_panel=CHAIN)
app.add_typer(archive_app, name="archive", rich_help_panel=CHAIN)
add_law(app)
guard(app)


def main() -> None:
    """The entry point: numerical libraries on one thread each, so that no result depends on the machine."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    if "--json" not in sys.argv[1:]:
        app()
        return
    try:
        code = app(standalone_mode=False)
    except typer.TyperException as error:
        words = error.format_message() if hasattr(error, "format_message") else str(error)
        print_error(ConfigurationRejected(words, "the options of the command", "see --help"), as_json=True)
        code = 2
    except typer.Abort:
        code = 1
    sys.exit(code if isinstance(code, int) else 0)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"oncoscale {__version__}")
        raise typer.Exit


@app.callback()
def oncoscale(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
    role: Annotated[
        str,
        typer.Option("--role", envvar="ONCOSCALE_ROLE", help="Role to act in on a store; default: any granted to you."),
    ] = "",
) -> None:
    """From a patient's images to a recorded forecast of a solid tumour. Research use only, not a medical device."""
