"""The commands that carry what the store holds in and out: export, import, query, serve. Parses and shows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .cli_archive import LoginFile, PlainHttp
from .cli_options import DryRun, Json, MaybeStore, Purpose, Quiet, StoreOption
from .console import Session

LINK = "Records, standards and questions"
linkage_app = typer.Typer()

With = Annotated[
    list[str] | None,
    typer.Option("--with", metavar="NAME=VALUE", help="Something that must be told beside. Repeat for more."),
]
Vocabulary = Annotated[
    Path | None,
    typer.Option(
        "--vocabulary", metavar="FOLDER", help="For omop: a vocabulary as Athena delivers it; gives concepts."
    ),
]


@linkage_app.command(
    rich_help_panel=LINK, epilog="Example: oncoscale export P-HNU76GYAPKGZMXDN --as fhir --out me.json --store STORE"
)
def export(
    name: Annotated[
        str,
        typer.Argument(
            metavar="RUN|SUBJECT|COHORT",
            help="Id or folder of a run, pseudonym, id of a collection, file with one pseudonym a line, or all.",
        ),
    ],
    standard: Annotated[
        str, typer.Option("--as", metavar="NAME", help="The standard: native, fhir, omop, miabis, rdf, ro-crate, …")
    ],
    out: Annotated[Path, typer.Option("--out", help="File or folder to write; it must not exist.")],
    store: MaybeStore = None,
    validate: Annotated[
        bool, typer.Option("--validate", help="Leave with code 3 if the standard's own check finds a fault.")
    ] = False,
    predictions: Annotated[
        str | None, typer.Option("--predictions", metavar="yes|no", help="Default: as the standard has it.")
    ] = None,
    recipient: Annotated[
        str, typer.Option("--recipient", metavar="WHO", help="Who receives it; it stays on record.")
    ] = "self",
    purpose: Purpose = "HRESCH",
    faces_handled: Annotated[
        bool, typer.Option("--faces-handled", help="Images of heads may leave: no face can be recognised in them.")
    ] = False,
    vocabulary: Vocabulary = None,
    option: With = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """What the store holds of a run, a subject or a cohort, in one standard, and what could not be said in it."""
    with Session(json, quiet) as session:
        from .exporting_records import ExportRequest
        from .exporting_records import export as write

        told = [*(option or []), *_told(vocabulary)]
        request = ExportRequest(name, standard, out, predictions, recipient, purpose, faces_handled, told)
        session.finish(write(request, store=store, validate=validate))


@linkage_app.command(
    "import", rich_help_panel=LINK, epilog="Example: oncoscale import --from fhir bundle.json --store STORE --dry-run"
)
def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="File or folder of that kind.")],
    source: Annotated[
        str, typer.Option("--from", metavar="NAME", help="What it is: native, fhir, omop, argo, miabis, …")
    ],
    store: StoreOption,
    site: Annotated[
        str, typer.Option("--site", help="Where the subjects' names in the file are known; part of every pseudonym.")
    ] = "site1",
    vocabulary: Vocabulary = None,
    option: With = None,
    dry_run: DryRun = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Subjects, samples and events into the store; what was not understood is listed, and nothing is half entered."""
    with Session(json, quiet) as session:
        from .importing_records import import_records as take

        told = [*(option or []), *_told(vocabulary)]
        session.finish(take(file, source=source, store=store, site=site, options=told, dry_run=dry_run))


def _told(vocabulary: Path | None) -> list[str]:
    return [] if vocabulary is None else [f"vocabulary={vocabulary}"]


@linkage_app.command(
    rich_help_panel=LINK, epilog='Example: oncoscale query STORE --sql "SELECT sex, count(*) FROM subject GROUP BY sex"'
)
def query(
    store: Annotated[Path, typer.Argument(metavar="STORE", help="Folder of the store.")],
    sparql: Annotated[str | None, typer.Argument(metavar="SPARQL", help="SELECT, ASK, CONSTRUCT or DESCRIBE.")] = None,
    sql: Annotated[str | None, typer.Option("--sql", metavar="SQL", help="One SELECT over the tables instead.")] = None,
    of: Annotated[
        str, typer.Option("--of", metavar="NAME", help="About whom: a run, a subject, a cohort, or all.")
    ] = "all",
    purpose: Purpose = "HRESCH",
    federate: Annotated[
        list[str] | None,
        typer.Option("--federate", metavar="URL", help="Count subjects here and in a served store. Repeat for more."),
    ] = None,
    by: Annotated[
        list[str] | None,
        typer.Option("--by", metavar="NAME", help="With --federate: sex, species, diagnosis, modalities, …"),
    ] = None,
    token: Annotated[
        Path | None, typer.Option("--token", metavar="FILE", help="With --federate: file with the token, mode 0600.")
    ] = None,
    archive: Annotated[
        str | None,
        typer.Option(
            "--archive", metavar="URL", help="Ask an archive (DICOMweb) for the images of the store's subjects."
        ),
    ] = None,
    login: LoginFile = None,
    plain_http: PlainHttp = False,
    csv: Annotated[bool, typer.Option("--csv", help="Comma-separated values on standard output.")] = False,
    seconds: Annotated[float, typer.Option("--seconds", min=0.1, help="Longest time.")] = 60.0,
    rows: Annotated[int, typer.Option("--rows", min=1, help="Most rows of an answer.")] = 10_000,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Ask the store, in SPARQL or SQL; nothing can be written, and only what consent covers can be seen."""
    with Session(json, quiet) as session:
        if federate:
            from ..core.errors import ConfigurationRejected
            from .federating import ask as ask_all

            if sparql is not None or sql is not None or of != "all" or csv or archive:
                raise ConfigurationRejected(
                    "--federate with another question",
                    "counts alone, of all subjects",
                    "leave SPARQL, --sql, --of, --csv, --archive",
                )
            session.finish(ask_all(store, federate, by or [], token, purpose))
            return
        from .querying_store import QueryRequest
        from .querying_store import query as ask

        request = QueryRequest(sparql, sql, of, purpose, seconds, rows, archive, login, plain_http)
        session.finish(ask(store, request, as_csv=csv))


@linkage_app.command(rich_help_panel=LINK, epilog="Example: oncoscale serve STORE --token token.txt")
def serve(
    store: Annotated[Path, typer.Argument(metavar="STORE", help="Folder of the store.")],
    token: Annotated[
        Path, typer.Option("--token", metavar="FILE", help="File with the token that lets ask, mode 0600.")
    ],
    host: Annotated[str, typer.Option("--host", help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Port to listen at.")] = 8787,
    certificate: Annotated[
        Path | None,
        typer.Option("--certificate", metavar="FILE", help="Certificate (PEM); needed beyond this machine."),
    ] = None,
    key: Annotated[Path | None, typer.Option("--key", metavar="FILE", help="Its private key (PEM).")] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Answer other stores' questions for counts, until interrupted: small cells hidden, consent asked, on record."""
    with Session(json, quiet) as session:
        from .federating import serve as listen

        session.say(f"Listening at {host}:{port}; interrupt to end.")
        listen(store, token=token, host=host, port=port, certificate=certificate, key=key)
