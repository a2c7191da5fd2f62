"""``oncoscale archive``: its commands. Parses and shows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .cli_options import DryRun, Json, MaybeStore, Purpose, Quiet
from .console import Session

archive_app = typer.Typer(
    help="Objects to an archive, what it holds, and studies from it: DICOMweb, or a DICOM node. A login comes from "
    "--login FILE or from ONCOSCALE_ARCHIVE_USER and ONCOSCALE_ARCHIVE_PASSWORD, or ONCOSCALE_ARCHIVE_TOKEN.",
    epilog="Example: oncoscale archive send maps/dicom --to https://host/dicom-web --login archive.toml",
    no_args_is_help=True,
)
_ADDRESS = "https://host/dicom-web, or TITLE@host:port for a DICOM node."
To = Annotated[str, typer.Option("--to", metavar="ADDRESS", help=_ADDRESS)]
From = Annotated[str, typer.Option("--from", metavar="ADDRESS", help=_ADDRESS)]
LoginFile = Annotated[
    Path | None,
    typer.Option(
        "--login",
        metavar="FILE",
        help="File that only you can read (mode 0600): NAME.toml with user and password, or token; or netrc.",
    ),
]
PlainHttp = Annotated[
    bool, typer.Option("--plain-http", help="Send a login over http, where others on the network can read it.")
]
Calling = Annotated[str, typer.Option("--calling", metavar="TITLE", help="Our own title, for a DICOM node.")]


@archive_app.command("send", epilog="Example: oncoscale archive send maps/dicom --to ARCHIVE@10.0.0.5:4242")
def archive_send(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of DICOM objects.")],
    to: To,
    login: LoginFile = None,
    plain_http: PlainHttp = False,
    calling: Calling = "ONCOSCALE",
    store: MaybeStore = None,
    purpose: Purpose = "HRESCH",
    no_verify: Annotated[
        bool, typer.Option("--no-verify", help="Do not ask for the objects again to compare them.")
    ] = False,
    dry_run: DryRun = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Send objects and compare what the archive gives back; what it holds is not sent again. Exit 3: not all.

    Of subjects of a store (--store, or the one in which DIR lies) consent is asked, and the archive stays on record.
    """
    with Session(json, quiet) as session:
        from .archiving import Address, send

        address = Address(to, login, plain_http, calling)
        session.finish(
            send(
                folder,
                address,
                store=store,
                purpose=purpose,
                verify=not no_verify,
                dry_run=dry_run,
                progress=session.progress,
            )
        )


@archive_app.command("find", epilog="Example: oncoscale archive find --from https://host/dicom-web --modality MR")
def archive_find(
    source: From,
    patient: Annotated[str, typer.Option("--patient", metavar="ID", help="Patient ID in the archive.")] = "",
    study: Annotated[str, typer.Option("--study", metavar="UID", help="Study Instance UID.")] = "",
    dates: Annotated[str, typer.Option("--dates", metavar="DATE[-DATE]", help="YYYYMMDD, or a range of two.")] = "",
    modality: Annotated[str, typer.Option("--modality", help="MR, CT, SEG, …")] = "",
    login: LoginFile = None,
    plain_http: PlainHttp = False,
    calling: Calling = "ONCOSCALE",
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """The studies of an archive, by UID, date and kind; nothing of a patient is shown."""
    with Session(json, quiet) as session:
        from ..imaging.archive import Question
        from .archiving import Address, find

        session.finish(find(Address(source, login, plain_http, calling), Question(study, patient, dates, modality)))


@archive_app.command("get", epilog="Example: oncoscale archive get 1.2.3 --from https://host/dicom-web --out images/")
def archive_get(
    study: Annotated[str, typer.Argument(metavar="STUDY_UID", help="Study Instance UID, as `find` shows it.")],
    source: From,
    out: Annotated[Path, typer.Option("--out", help="Folder; objects that lie there already are not fetched again.")],
    series: Annotated[
        list[str] | None, typer.Option("--series", metavar="UID", help="Only this series. Repeat for more.")
    ] = None,
    login: LoginFile = None,
    plain_http: PlainHttp = False,
    calling: Calling = "ONCOSCALE",
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Fetch a study as files, for `ingest` or `quantify`. Exit 3: the archive did not give all."""
    with Session(json, quiet) as session:
        from .archiving import Address, get

        address = Address(source, login, plain_http, calling)
        session.finish(get(study, address, out=out, series=series or [], progress=session.progress))
