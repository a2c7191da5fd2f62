"""The commands of the chain: ingest, quantify, register, curves, cells, mesh, forecast, radiomics. Parses and shows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .cli_options import (
    ChosenSeries,
    DryRun,
    FolderVisit,
    Haematocrit,
    Host,
    Json,
    Labels,
    Mask,
    MaybeStore,
    Mesher,
    NoPictures,
    NoSeed,
    Pieces,
    Quiet,
    Roi,
    Seed,
    Size,
    StoreOption,
    Tensor,
    Threads,
)
from .console import Session
from .option_groups import (
    CellRules,
    CellsOverTime,
    Contrast,
    Enhancement,
    Fit,
    GivenTetrahedra,
    Keeping,
    OfFiles,
    Simulated,
    unfolded,
)

CHAIN = "From images to a forecast"
chain_app = typer.Typer()


@chain_app.command(
    rich_help_panel=CHAIN,
    epilog="Example: oncoscale ingest images/ --store STORE --subject 0001 --consent consent.toml",
)
@unfolded
def ingest(
    *,
    folder: Annotated[Path, typer.Argument(metavar="DICOM_DIR", help="Any folder of DICOM (or of maps in NIfTI).")],
    store: StoreOption,
    subject: Annotated[
        str,
        typer.Option(
            "--subject", help="What the subject is called at your site. It goes into the vault, never into the store."
        ),
    ],
    consent: Annotated[
        Path | None, typer.Option("--consent", help="Consent file (see `oncoscale consent template`).")
    ] = None,
    site: Annotated[str, typer.Option("--site", help="Name of the site, part of the pseudonym.")] = "site1",
    day: Annotated[
        int | None, typer.Option("--day", help="Days after the subject's first visit, if the files have no date.")
    ] = None,
    files: OfFiles,
    visit: FolderVisit = None,
    deface: Annotated[bool, typer.Option("--deface", help="Remove the face from images of a head.")] = False,
    device_identity: Annotated[
        bool, typer.Option("--device-identity", help="Keep what names the scanner, such as its serial number.")
    ] = False,
    dry_run: DryRun = False,
    seed: NoSeed = None,
    threads: Threads = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Pseudonymise a folder of images into the store; prints the subject's pseudonym and the study."""
    with Session(json, quiet, threads) as session:
        from .commands import ReadOptions
        from .commands import ingest as take_in

        session.finish(
            take_in(
                folder,
                store=store,
                subject=subject,
                consent=consent,
                site=site,
                reading=ReadOptions.of(files, visit),
                day=day,
                deface=deface,
                device_identity=device_identity,
                dry_run=dry_run,
                progress=session.progress,
            )
        )


@chain_app.command(rich_help_panel=CHAIN, epilog="Example: oncoscale quantify images/ --out maps/ --aif parker")
@unfolded
def quantify(
    *,
    study: Annotated[str, typer.Argument(metavar="STUDY|DICOM_DIR", help="A stored study, or any folder of DICOM.")],
    out: Annotated[Path, typer.Option("--out", help="New folder for the maps.")],
    store: MaybeStore = None,
    contrast: Contrast,
    mask: Mask = None,
    roi: Roi = None,
    enhancement: Enhancement,
    pieces: Pieces = "refuse",
    fit: Fit,
    files: OfFiles,
    visit: FolderVisit = None,
    series: ChosenSeries = None,
    dicom: Annotated[
        bool,
        typer.Option("--dicom", help="Also DIR/dicom: Parametric Maps, segmentation and report for an archive."),
    ] = False,
    mesh: Annotated[
        Path | None,
        typer.Option(
            "--mesh",
            metavar="MESH.vtu",
            help="Also DIR/diffusion.vtu: kinetics of this mesh's elements with contrast agent diffusing between them, "
            "beside those without: --mesh tumour.vtu --diffusion 2.6e-4",
        ),
    ] = None,
    diffusion: Annotated[
        float | None,
        typer.Option("--diffusion", metavar="MM2_PER_S", help="Its effective diffusivity, for --mesh; 2.6e-4 if none."),
    ] = None,
    threads: Threads = None,
    no_pictures: NoPictures = False,
    dry_run: DryRun = False,
    seed: Seed = 1,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Quantitative maps from images: one NIfTI a map, quality.nii.gz and maps.json."""
    with Session(json, quiet, threads) as session:
        from .commands import ReadOptions
        from .commands import quantify as make
        from .diffusing import diffusion_request
        from .options import quantify_settings

        settings = quantify_settings(contrast, enhancement, fit, seed=seed)
        session.finish(
            make(
                study,
                out=out,
                store=store,
                settings=settings,
                mask=mask,
                roi=roi,
                pieces=pieces,
                reading=ReadOptions.of(files, visit, series),
                dicom=dicom,
                pictures=not no_pictures,
                diffusion=diffusion_request(mesh, diffusion),
                dry_run=dry_run,
                progress=session.progress,
            )
        )


@chain_app.command(
    rich_help_panel=CHAIN,
    epilog="Example: oncoscale register visit-1/ visit-2/ --out registered/ --kind deformable",
)
def register(
    fixed: Annotated[Path, typer.Argument(metavar="FIXED", help="NIfTI file or folder of DICOM: stays where it is.")],
    moving: Annotated[Path, typer.Argument(metavar="MOVING", help="NIfTI file or folder of DICOM: is laid upon it.")],
    out: Annotated[Path, typer.Option("--out", help="New folder.")],
    kind: Annotated[
        str, typer.Option("--kind", help="rigid, or deformable (rigid, then a smooth deformation).")
    ] = "rigid",
    mask: Annotated[
        Path | None, typer.Option("--mask", help="Label image: where the fixed image counts (any region).")
    ] = None,
    fixed_labels: Annotated[
        Path | None, typer.Option("--fixed-labels", help="Regions on the fixed image, to judge the result by.")
    ] = None,
    moving_labels: Annotated[
        Path | None, typer.Option("--moving-labels", help="Regions of the same names on the moving image.")
    ] = None,
    fixed_visit: Annotated[
        str | None,
        typer.Option("--fixed-visit", metavar="NUMBER|DATE|UID", help="Which visit of the FIXED folder (see inspect)."),
    ] = None,
    moving_visit: Annotated[
        str | None,
        typer.Option("--moving-visit", metavar="NUMBER|DATE|UID", help="Which visit of the MOVING folder."),
    ] = None,
    fixed_series: Annotated[
        int | None,
        typer.Option("--fixed-series", metavar="NUMBER", help="Which series of the FIXED folder (see inspect)."),
    ] = None,
    moving_series: Annotated[
        int | None, typer.Option("--moving-series", metavar="NUMBER", help="Which series of the MOVING folder.")
    ] = None,
    dry_run: DryRun = False,
    seed: NoSeed = None,
    threads: Threads = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Lay one image upon another: transform, displacement, the moved image, figures and checkerboards."""
    with Session(json, quiet, threads) as session:
        from .registering import register as lay

        session.finish(
            lay(
                fixed,
                moving,
                out=out,
                kind=kind,
                mask=mask,
                labels=(fixed_labels, moving_labels),
                visits=(fixed_visit, moving_visit),
                series=(fixed_series, moving_series),
                dry_run=dry_run,
                progress=session.progress,
            )
        )


@chain_app.command(
    rich_help_panel=CHAIN,
    epilog="Example: oncoscale curves curves.csv --model extended-tofts --aif parker --out fits.csv",
)
def curves(
    table: Annotated[
        Path, typer.Argument(metavar="CURVES.csv", help="Column t in seconds, one column a curve in mmol/L.")
    ],
    model: Annotated[str, typer.Option("--model", help="tofts, extended-tofts, patlak, 2cxm or 2cum.")],
    aif: Annotated[
        str,
        typer.Option(
            "--aif", metavar="NAME|FILE.csv", help="Input function: parker, …, or columns t (s) and blood or plasma."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Table of fits.")],
    haematocrit: Haematocrit = None,
    delay: Annotated[
        bool, typer.Option("--delay", help="Fit each curve's delay of the input function too, -10 to 10 s.")
    ] = False,
    seed: NoSeed = None,
    threads: Threads = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Fit tissue curves without images, by the code that fits images."""
    with Session(json, quiet, threads) as session:
        from .commands import curves as fit

        session.finish(fit(table, model=model, aif=aif, out=out, haematocrit=haematocrit, delay=delay, threads=threads))


@chain_app.command(
    rich_help_panel=CHAIN, epilog="Example: oncoscale cells element.json --out result.json --mode parity"
)
@unfolded
def cells(
    *,
    document: Annotated[
        Path, typer.Argument(metavar="INPUT.json", help="PRIMAGE's element input: one object, or a list.")
    ],
    out: Annotated[Path, typer.Option("--out", help="PRIMAGE's element output.")],
    rules: CellRules,
    over_time: CellsOverTime,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="In place of the input's seed.")] = None,
    threads: Threads = None,
    dry_run: DryRun = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Run the cells of an element from PRIMAGE's own input, as the original program does."""
    with Session(json, quiet, threads) as session:
        from .running_cells import CellOutputs
        from .running_cells import cells as run

        session.finish(
            run(
                document,
                CellOutputs(
                    out, over_time.observe, over_time.trajectory, over_time.checkpoint, over_time.checkpoint_every
                ),
                mode=rules.mode,
                version=rules.version,
                engine=rules.engine,
                changes=rules.switch or [],
                seed=seed,
                threads=threads,
                dry_run=dry_run,
                progress=session.progress,
                say=session.say,
            )
        )


@chain_app.command(rich_help_panel=CHAIN, epilog="Example: oncoscale mesh tumour.nii.gz --out tumour.vtkhdf --size 3")
def mesh(
    segmentation: Annotated[
        Path,
        typer.Argument(
            metavar="SEGMENTATION",
            help="DICOM SEG or RTSTRUCT, NIfTI or NRRD label image; or a mesh by another program (.vtu, .vtk, .msh, "
            ".inp, .mesh, .xdmf, .med, …; mm, LPS), to be checked.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="MESH.vtu or MESH.vtkhdf; MESH.json is written beside it.")],
    stl: Annotated[
        Path | None, typer.Option("--stl", metavar="FILE.stl", help="Also the tumour's surface: binary STL, mm, LPS.")
    ] = None,
    dicom: Annotated[
        Path | None,
        typer.Option(
            "--dicom", metavar="FILE.dcm", help="Also that surface as DICOM, if the segmentation is: encapsulated STL."
        ),
    ] = None,
    size: Size = None,
    host: Host = None,
    mesher: Mesher = "auto",
    pieces: Pieces = "refuse",
    label: Labels = None,
    roi: Roi = None,
    region: Annotated[
        list[str] | None,
        typer.Option("--region", metavar="VALUE=NAME", help="Name of a region of a mesh, 7=tumour; repeat."),
    ] = None,
    dry_run: DryRun = False,
    seed: NoSeed = None,
    threads: Threads = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Tetrahedra of the tumour and of host tissue around it, with named regions and a quality report."""
    with Session(json, quiet, threads) as session:
        from .meshing_tumour import SurfaceFiles
        from .meshing_tumour import mesh as make

        session.finish(
            make(
                segmentation,
                out=out,
                size=size,
                host_size=host,
                mesher=mesher,
                pieces=pieces,
                labels=label or [],
                roi=roi,
                regions=region or [],
                surface=SurfaceFiles(stl, dicom),
                dry_run=dry_run,
                progress=session.progress,
            )
        )


@chain_app.command(
    rich_help_panel=CHAIN,
    epilog="Example: oncoscale forecast STUDY --store STORE --tumour neuroblastoma --days 28 "
    "--treatment cojec.toml --out run/",
)
@unfolded
def forecast(
    *,
    study: Annotated[str, typer.Argument(metavar="STUDY", help="A stored study, as `ingest` prints it.")],
    store: StoreOption,
    tumour: Annotated[str, typer.Option("--tumour", help="Disease model (see `oncoscale explain`).")],
    days: Annotated[float, typer.Option("--days", min=1.0, max=3650.0, help="Horizon in days.")],
    out: Annotated[Path, typer.Option("--out", help="New folder for the results.")],
    treatment: Annotated[Path | None, typer.Option("--treatment", help="Treatment file, TOML.")] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", help="Settings, TOML (see `oncoscale schema forecast`); options given here win."),
    ] = None,
    simulated: Simulated,
    visit: Annotated[
        list[str] | None,
        typer.Option(
            "--visit",
            metavar="STUDY",
            help="A later stored study of the same subject: "
            "its measured volume is shown beside the forecast, never used by it. Repeat for more.",
        ),
    ] = None,
    size: Size = None,
    host: Host = None,
    mesher: Annotated[str | None, typer.Option("--mesher", help="auto, gmsh or bcc.")] = None,
    contrast: Contrast,
    mask: Mask = None,
    roi: Roi = None,
    tensor: Tensor = None,
    given: GivenTetrahedra,
    enhancement: Enhancement,
    pieces: Pieces = "refuse",
    fit: Fit,
    keeping: Keeping,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Seed of every random draw.")] = None,
    threads: Threads = None,
    dry_run: DryRun = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Forecast a stored study's tumour: fields, contours, report and a record in the store."""
    with Session(json, quiet, threads) as session:
        from .options import forecast_settings, quantify_settings
        from .run import forecast as run

        settings = forecast_settings(config, simulated, size=size, host_size=host, mesher=mesher, seed=seed)
        quantifying = quantify_settings(contrast, enhancement, fit, seed=settings.seed)
        session.finish(
            run(
                study,
                store=store,
                tumour=tumour,
                days=days,
                out=out,
                treatment=treatment,
                settings=settings,
                quantifying=quantifying,
                mask=mask,
                roi=roi,
                tensor=tensor,
                mesh=given.mesh,
                regions=given.region or [],
                pieces=pieces,
                visits=visit or [],
                checkpoint=keeping.checkpoint,
                checkpoint_every=keeping.checkpoint_every,
                dry_run=dry_run,
                session=session,
            )
        )


@chain_app.command(
    rich_help_panel=CHAIN, epilog="Example: oncoscale radiomics t1w.nii.gz tumour.nii.gz --out features.csv"
)
def radiomics(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="NIfTI, NRRD, or DICOM: a file or one series.")],
    mask: Annotated[Path, typer.Argument(metavar="MASK", help="DICOM SEG or RTSTRUCT, NIfTI or NRRD.")],
    out: Annotated[Path, typer.Option("--out", help="FEATURES.csv; FEATURES.json is written beside it.")],
    ibsi_config: Annotated[
        str | None,
        typer.Option(
            "--ibsi-config",
            metavar="FILE|NAME",
            help="Settings, TOML (see `oncoscale schema radiomics`), or one that comes along: mr (default), ibsi-A to "
            "ibsi-E, ibsi-phantom.",
        ),
    ] = None,
    roi: Roi = None,
    label: Labels = None,
    dry_run: DryRun = False,
    seed: NoSeed = None,
    threads: Threads = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Radiomic features of one region under the names and codes of the Image Biomarker Standardisation Initiative."""
    with Session(json, quiet, threads) as session:
        from .features import radiomics as compute

        session.finish(
            compute(
                image,
                mask,
                out=out,
                config=ibsi_config,
                roi=roi,
                labels=label or [],
                dry_run=dry_run,
                progress=session.progress,
            )
        )
