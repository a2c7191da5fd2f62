"""``oncoscale harmonise``: its commands. Parses and shows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .cli_options import DryRun, Json, Quiet, Roi, Threads
from .console import Session

harmonise_app = typer.Typer(
    help="Features and images across scanners and sites. Never for Ktrans or ADC.",
    epilog="Example: oncoscale harmonise fit cohort.csv --site scanner --keep age --out model.json",
    no_args_is_help=True,
)
Plot = Annotated[Path | None, typer.Option("--plot", help="Picture of the sites before and after, PNG.")]
SubjectTable = Annotated[Path, typer.Argument(metavar="TABLE.csv", help="A subject a line, a feature a column.")]


@harmonise_app.command("table", epilog="Example: oncoscale harmonise table features/*.csv --out cohort.csv")
def harmonise_table(
    files: Annotated[list[Path], typer.Argument(metavar="FEATURES.csv…", help="Files of `oncoscale radiomics`.")],
    out: Annotated[Path, typer.Option("--out", help="One table; subjects are called by the names of their files.")],
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Gather the features of many subjects into one table; add columns for site and covariates to it."""
    with Session(json, quiet) as session:
        from .features import gather

        session.finish(gather(files, out=out))


@harmonise_app.command(
    "fit", epilog="Example: oncoscale harmonise fit cohort.csv --site scanner --keep age --out model.json"
)
def harmonise_fit(
    table: SubjectTable,
    site: Annotated[str, typer.Option("--site", help="Column of sites or scanners.")],
    out: Annotated[Path, typer.Option("--out", help="MODEL.json: the estimates, no subject's values.")],
    keep: Annotated[
        list[str] | None, typer.Option("--keep", help="Column of a covariate whose effect must stay. Repeat for more.")
    ] = None,
    feature: Annotated[
        list[str] | None, typer.Option("--feature", help="Column to harmonise; without it, all numbers. Repeat.")
    ] = None,
    ignore: Annotated[
        list[str] | None, typer.Option("--ignore", help="Column of numbers that is no feature. Repeat for more.")
    ] = None,
    subject: Annotated[str | None, typer.Option("--subject", help="Column of subjects with several lines.")] = None,
    least: Annotated[int | None, typer.Option("--least", min=3, help="Fewest subjects of a site (20).")] = None,
    plot: Plot = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Estimate the effects of sites on the features of a cohort (ComBat)."""
    with Session(json, quiet) as session:
        from .features import fit

        session.finish(
            fit(
                table,
                out=out,
                site=site,
                keep=keep or [],
                features=feature or [],
                ignore=ignore or [],
                subject=subject,
                least=least,
                plot=plot,
            )
        )


@harmonise_app.command("apply", epilog="Example: oncoscale harmonise apply new.csv --model model.json --out even.csv")
def harmonise_apply(
    table: SubjectTable,
    model: Annotated[Path, typer.Option("--model", help="MODEL.json of `oncoscale harmonise fit`.")],
    out: Annotated[Path, typer.Option("--out", help="The table with harmonised features.")],
    plot: Plot = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Remove the estimated effects of sites from the features of new subjects."""
    with Session(json, quiet) as session:
        from .features import apply

        session.finish(apply(table, model=model, out=out, plot=plot))


@harmonise_app.command("learn", epilog="Example: oncoscale harmonise learn a/ b/ c/ --out scale.json")
def harmonise_learn(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE…", help="Images of one kind, several subjects.")],
    out: Annotated[Path, typer.Option("--out", help="SCALE.json.")],
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Learn a standard scale of intensities (Nyúl) from the images of a cohort."""
    with Session(json, quiet) as session:
        from .features import learn

        session.finish(learn(images, out=out))


@harmonise_app.command(
    "image", epilog="Example: oncoscale harmonise image t2w/ --step n4 --step zscore --key key.pem --out even/"
)
def harmonise_image(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="DICOM: a file or the folder of one series.")],
    out: Annotated[Path, typer.Option("--out", help="New folder for the harmonised image.")],
    step: Annotated[
        list[str] | None,
        typer.Option(
            "--step",
            metavar="NAME[:ARGUMENT]",
            help="resample:X,Y,Z (mm), n4, zscore, nyul:SCALE.json, or a plug-in; repeat, in their order.",
        ),
    ] = None,
    reference: Annotated[Path | None, typer.Option("--reference", help="Mask of the reference tissue.")] = None,
    roi: Roi = None,
    key: Annotated[Path | None, typer.Option("--key", help="Private key to sign the result with.")] = None,
    certificate: Annotated[
        Path | None,
        typer.Option("--certificate", help="Certificate of the key (RSA): sign inside the DICOM object, not beside."),
    ] = None,
    dry_run: DryRun = False,
    threads: Threads = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Harmonise an image; the result is DICOM that says it is synthetic, and is never used for Ktrans or ADC."""
    with Session(json, quiet, threads) as session:
        from .features import image as make

        session.finish(
            make(
                image,
                out=out,
                steps=step or [],
                reference=reference,
                roi=roi,
                key=key,
                certificate=certificate,
                dry_run=dry_run,
                progress=session.progress,
            )
        )


@harmonise_app.command("key", epilog="Example: oncoscale harmonise key --out key.pem")
def harmonise_key(
    out: Annotated[Path, typer.Option("--out", help="KEY.pem; KEY.public.pem is written beside it.")],
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make a pair of keys to sign harmonised images with."""
    with Session(json, quiet) as session:
        from .signing import key

        session.finish(key(out))


@harmonise_app.command("certificate", epilog='Example: oncoscale harmonise certificate --name "Site 1" --out site.pem')
def harmonise_certificate(
    name: Annotated[str, typer.Option("--name", help="Who signs: an institution or a machine.")],
    out: Annotated[Path, typer.Option("--out", help="KEY.pem; KEY.certificate.pem is written beside it.")],
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make an RSA key and a certificate signed by itself, to sign inside DICOM objects."""
    with Session(json, quiet) as session:
        from .signing import certificate

        session.finish(certificate(out, name=name))


@harmonise_app.command("verify", epilog="Example: oncoscale harmonise verify even/harmonised.dcm --key key.public.pem")
def harmonise_verify(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A signed file; a signature beside it lies there too.")],
    key: Annotated[
        Path | None, typer.Option("--key", help="Public key of its maker, for a signature beside the file.")
    ] = None,
    certificate: Annotated[
        Path | None,
        typer.Option("--certificate", help="Certificate of its maker, or of who issued it, for a signature inside."),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Check that a harmonised image is as it was signed."""
    with Session(json, quiet) as session:
        from .signing import verify

        session.finish(verify(file, public=key, certificate=certificate))
