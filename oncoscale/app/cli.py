"""``oncoscale``: one verb a stage. Parses and shows; every command is a thin layer over a Python call of the same name.

Nothing heavy is imported here, so that ``oncoscale --help`` answers at once: each command imports what it needs.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from .. import __version__
from ..core.errors import ConfigurationRejected
from .console import Session, print_error

START, CHAIN, LOOK, LAW, REFERENCE = (
    "Start here",
    "From images to a forecast",
    "Look at results",
    "What the law asks for",
    "Reference",
)

app = typer.Typer(
    name="oncoscale",
    help="From a patient's images to a recorded forecast of a solid tumour. Research use only, not a medical device.",
    epilog="Start with: oncoscale demo --quick",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
consent_app = typer.Typer(
    help="What a subject allowed: write a template, record, withdraw, show.",
    epilog="Example: oncoscale consent template > consent.toml",
    no_args_is_help=True,
)
app.add_typer(consent_app, name="consent", rich_help_panel=LAW)
harmonise_app = typer.Typer(
    help="Features and images across scanners and sites. Never for Ktrans or ADC.",
    epilog="Example: oncoscale harmonise fit cohort.csv --site scanner --keep age --out model.json",
    no_args_is_help=True,
)
app.add_typer(harmonise_app, name="harmonise", rich_help_panel=CHAIN)

Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output, nothing else there.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no remarks.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]
NoSeed = Annotated[int | None, typer.Option("--seed", hidden=True, help="Accepted everywhere; nothing is drawn here.")]
Threads = Annotated[int | None, typer.Option("--threads", min=1, help="Threads to use; results do not depend on it.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of every random draw.")]
StoreOption = Annotated[Path, typer.Option("--store", help="Folder of the store.")]
MaybeStore = Annotated[Path | None, typer.Option("--store", help="Folder of the store, if something in it is named.")]
Units = Annotated[
    list[str] | None,
    typer.Option(
        "--unit",
        metavar="NAME=UNIT",
        help="Unit of a supplied map that states none, or a wrong one: ktrans=1/min. Repeat for more.",
    ),
]
Labels = Annotated[
    list[str] | None,
    typer.Option("--label", metavar="VALUE=NAME", help="Name of a value in a label image: 1=tumour. Repeat for more."),
]
SameSubject = Annotated[
    bool, typer.Option("--same-subject", help="The files belong to one subject although identifiers disagree.")
]
Times = Annotated[
    str | None,
    typer.Option(
        "--times",
        metavar="S,S,…",
        help="Times of the dynamic frames in seconds, if the files do not tell them: 0,407,761",
    ),
]
DceModel = Annotated[str, typer.Option("--dce-model", help="auto, tofts, extended-tofts, patlak, 2cxm, 2cum or semi.")]
Aif = Annotated[
    str, typer.Option("--aif", metavar="NAME|measured|FILE.csv", help="Arterial input function: parker, …, or a file.")
]
AifMask = Annotated[
    Path | None, typer.Option("--aif-mask", help="Mask of an artery, for --aif measured; without it one is sought.")
]
AcceptAif = Annotated[
    bool, typer.Option("--accept-aif", help="Go on with a measured input function that is implausible or late.")
]
BloodT1 = Annotated[
    float | None, typer.Option("--blood-t1", metavar="SECONDS", help="T1 of blood before contrast, for --aif measured.")
]
NoPictures = Annotated[bool, typer.Option("--no-pictures", help="Write no maps.png, fits.png and aif.png.")]
T1 = Annotated[
    str | None, typer.Option("--t1", metavar="vfa|SECONDS|FILE", help="T1 of tissue: measured, or one value.")
]
VfaTr = Annotated[
    float | None,
    typer.Option("--vfa-tr", metavar="SECONDS", help="Repetition time of the flip angles, if no file tells it."),
]
Relaxivity = Annotated[float | None, typer.Option("--relaxivity", help="r1 of the contrast agent, L/mmol/s.")]
Haematocrit = Annotated[float | None, typer.Option("--haematocrit", help="Of large vessels, 0 to 1.")]
Mask = Annotated[
    Path | None, typer.Option("--mask", help="Segmentation of the tumour: DICOM SEG or RTSTRUCT, NIfTI or NRRD.")
]
Roi = Annotated[
    str | None,
    typer.Option("--roi", metavar="NAME", help="Region that is the tumour, by its name in the RTSTRUCT or SEG."),
]
PeThreshold = Annotated[
    float | None,
    typer.Option("--pe-threshold", help="Least early enhancement (percent) of a tumour found by enhancement."),
]
SerThreshold = Annotated[
    float | None, typer.Option("--ser-threshold", help="Least signal enhancement ratio of such a tumour.")
]
Pieces = Annotated[str, typer.Option("--pieces", help="A tumour in several pieces: refuse, largest or all.")]
Size = Annotated[float | None, typer.Option("--size", help="Edge of the elements in the tumour, mm.")]
Host = Annotated[float | None, typer.Option("--host", help="Edge of the elements far from the tumour, mm.")]
Mesher = Annotated[
    str, typer.Option("--mesher", help="auto, gmsh or bcc (the lattice mesher, which needs no library).")
]


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
) -> None:
    """From a patient's images to a recorded forecast of a solid tumour. Research use only, not a medical device."""


@app.command(rich_help_panel=START, epilog="Example: oncoscale doctor --store STORE")
def doctor(store: MaybeStore = None, json: Json = False, quiet: Quiet = False) -> None:
    """Examine this machine: what works, and for each thing that does not the line that cures it."""
    with Session(json, quiet) as session:
        from .doctor import doctor as examine

        session.finish(examine(store))


@app.command(rich_help_panel=START, epilog="Example: oncoscale demo --quick --out demo-run")
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


@app.command(rich_help_panel=START, epilog="Example: oncoscale phantom --out patient")
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


@app.command(
    rich_help_panel=CHAIN,
    epilog="Example: oncoscale ingest images/ --store STORE --subject 0001 --consent consent.toml",
)
def ingest(
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
    unit: Units = None,
    same_subject: SameSubject = False,
    label: Labels = None,
    times: Times = None,
    deface: Annotated[bool, typer.Option("--deface", help="Remove the face from images of a head.")] = False,
    dry_run: DryRun = False,
    seed: NoSeed = None,
    threads: Threads = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Pseudonymise a folder of images into the store; prints the subject's pseudonym and the study."""
    with Session(json, quiet, threads) as session:
        from .commands import ingest as take_in

        session.finish(
            take_in(
                folder,
                store=store,
                subject=subject,
                consent=consent,
                site=site,
                units=unit or [],
                same_subject=same_subject,
                labels=label or [],
                times=times,
                day=day,
                deface=deface,
                dry_run=dry_run,
                progress=session.progress,
            )
        )


@app.command(rich_help_panel=CHAIN, epilog="Example: oncoscale quantify images/ --out maps/ --aif parker")
def quantify(
    study: Annotated[str, typer.Argument(metavar="STUDY|DICOM_DIR", help="A stored study, or any folder of DICOM.")],
    out: Annotated[Path, typer.Option("--out", help="New folder for the maps.")],
    store: MaybeStore = None,
    dce_model: DceModel = "auto",
    aif: Aif = "parker",
    aif_mask: AifMask = None,
    accept_aif: AcceptAif = False,
    blood_t1: BloodT1 = None,
    t1: T1 = None,
    vfa_tr: VfaTr = None,
    delay: Annotated[
        float | None,
        typer.Option("--delay", metavar="SECONDS", help="When the input function arrives; for a file: its shift."),
    ] = None,
    baseline: Annotated[
        int | None, typer.Option("--baseline", metavar="FRAMES", help="Frames before contrast, if not as found.")
    ] = None,
    relaxivity: Relaxivity = None,
    haematocrit: Haematocrit = None,
    mask: Mask = None,
    roi: Roi = None,
    pe_threshold: PeThreshold = None,
    ser_threshold: SerThreshold = None,
    pieces: Pieces = "refuse",
    motion: Annotated[
        str, typer.Option("--motion", help="Between the frames of the dynamic series: off, rigid or deformable.")
    ] = "off",
    unit: Units = None,
    same_subject: SameSubject = False,
    label: Labels = None,
    times: Times = None,
    dicom: Annotated[
        bool,
        typer.Option("--dicom", help="Also DIR/dicom: Parametric Maps, segmentation and report for an archive."),
    ] = False,
    threads: Threads = None,
    no_pictures: NoPictures = False,
    dry_run: DryRun = False,
    seed: NoSeed = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Quantitative maps from images: one NIfTI a map, quality.nii.gz and maps.json."""
    with Session(json, quiet, threads) as session:
        from .commands import ReadOptions
        from .commands import quantify as make
        from .options import quantify_settings, with_motion

        settings = quantify_settings(dce_model, aif, t1, relaxivity, haematocrit, pe_threshold, ser_threshold)
        settings = with_motion(settings, motion)
        settings = replace(
            settings,
            aif_mask=None if aif_mask is None else str(aif_mask),
            accept_aif=accept_aif,
            blood_t1=blood_t1,
            vfa_tr_s=vfa_tr,
            delay_s=delay,
            baseline=baseline,
        )
        session.finish(
            make(
                study,
                out=out,
                store=store,
                settings=settings,
                mask=mask,
                roi=roi,
                pieces=pieces,
                reading=ReadOptions(unit or [], same_subject, label or [], times),
                dicom=dicom,
                pictures=not no_pictures,
                dry_run=dry_run,
                progress=session.progress,
            )
        )


@app.command(
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
                dry_run=dry_run,
                progress=session.progress,
            )
        )


@app.command(rich_help_panel=LOOK, epilog="Example: oncoscale inspect images/ --out look/")
def inspect(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Any folder of DICOM.")],
    out: Annotated[Path | None, typer.Option("--out", help="Folder for sheets of thumbnails and inspect.json.")] = None,
    unit: Units = None,
    same_subject: SameSubject = False,
    label: Labels = None,
    times: Times = None,
    seed: NoSeed = None,
    threads: Threads = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """What a folder holds, visit by visit: series, times, geometry, what is doubted, what to pass to quantify."""
    with Session(json, quiet, threads) as session:
        from .commands import ReadOptions
        from .commands import inspect as look

        session.finish(
            look(
                folder,
                out=out,
                reading=ReadOptions(unit or [], same_subject, label or [], times),
                progress=session.progress,
            )
        )


@app.command(
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


@app.command(rich_help_panel=CHAIN, epilog="Example: oncoscale cells element.json --out result.json --mode parity")
def cells(
    document: Annotated[
        Path, typer.Argument(metavar="INPUT.json", help="PRIMAGE's element input: one object, or a list.")
    ],
    out: Annotated[Path, typer.Option("--out", help="PRIMAGE's element output.")],
    mode: Annotated[str, typer.Option("--mode", help="corrected, or parity with the released program.")] = "corrected",
    switch: Annotated[
        list[str] | None,
        typer.Option(
            "--switch",
            metavar="NAME=VALUE",
            help="One switch set otherwise than the mode has it: o2_model=qss (see `oncoscale explain neuroblastoma "
            "--differences`). Repeat for more.",
        ),
    ] = None,
    version: Annotated[str, typer.Option("--version", help="Parameters and conventions of that version.")] = "13.9.4",
    engine: Annotated[str, typer.Option("--engine", help="auto, cpu or python.")] = "auto",
    observe: Annotated[
        int | None,
        typer.Option(
            "--observe",
            min=1,
            metavar="HOURS",
            help="Also write counts and means every HOURS hours and at the end: OUT.csv, its columns explained in "
            "OUT.columns.json.",
        ),
    ] = None,
    trajectory: Annotated[
        Path | None,
        typer.Option(
            "--trajectory",
            metavar="FILE.vtkhdf",
            help="Also write the cells over time (h, µm) for ParaView, at the hours of --observe, else every 24; "
            "for a list FILE-0.vtkhdf, FILE-1.vtkhdf, …",
        ),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            "--checkpoint",
            metavar="DIR",
            help="Keep the colonies in this folder; the same command goes on from there after it was stopped, and "
            "ends in the same results.",
        ),
    ] = None,
    checkpoint_every: Annotated[
        int, typer.Option("--checkpoint-every", min=1, metavar="HOURS", help="Hours of the cells between keepings.")
    ] = 24,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="In place of the input's seed.")] = None,
    threads: Threads = None,
    dry_run: DryRun = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Run the cells of an element from PRIMAGE's own input, as the original program does."""
    with Session(json, quiet, threads) as session:
        from .commands import CellOutputs
        from .commands import cells as run

        session.finish(
            run(
                document,
                CellOutputs(out, observe, trajectory, checkpoint, checkpoint_every),
                mode=mode,
                version=version,
                engine=engine,
                changes=switch or [],
                seed=seed,
                threads=threads,
                dry_run=dry_run,
                progress=session.progress,
                say=session.say,
            )
        )


@app.command(rich_help_panel=CHAIN, epilog="Example: oncoscale mesh tumour.nii.gz --out tumour.vtkhdf --size 3")
def mesh(
    segmentation: Annotated[
        Path, typer.Argument(metavar="SEGMENTATION", help="DICOM SEG or RTSTRUCT, NIfTI or NRRD label image.")
    ],
    out: Annotated[Path, typer.Option("--out", help="MESH.vtu or MESH.vtkhdf; MESH.json is written beside it.")],
    size: Size = None,
    host: Host = None,
    mesher: Mesher = "auto",
    pieces: Pieces = "refuse",
    label: Labels = None,
    roi: Roi = None,
    dry_run: DryRun = False,
    seed: NoSeed = None,
    threads: Threads = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Tetrahedra of the tumour and of host tissue around it, with named regions and a quality report."""
    with Session(json, quiet, threads) as session:
        from .commands import mesh as make

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
                dry_run=dry_run,
                progress=session.progress,
            )
        )


@app.command(
    rich_help_panel=CHAIN,
    epilog="Example: oncoscale forecast STUDY --store STORE --tumour neuroblastoma --days 28 "
    "--treatment cojec.toml --out run/",
)
def forecast(
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
    elements: Annotated[
        str | None, typer.Option("--elements", help="Elements whose cells are simulated: a number, or all.")
    ] = None,
    cells: Annotated[int | None, typer.Option("--cells", help="Cells per colony at its start.")] = None,
    members: Annotated[int | None, typer.Option("--members", help="Forecasts that differ by their seed.")] = None,
    engine: Annotated[str | None, typer.Option("--engine", help="Cell engine: auto, cpu or python.")] = None,
    no_effects: Annotated[
        bool, typer.Option("--no-effects", help="Do not compute what the forecast rests on.")
    ] = False,
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
    dce_model: DceModel = "auto",
    aif: Aif = "parker",
    t1: T1 = None,
    relaxivity: Relaxivity = None,
    haematocrit: Haematocrit = None,
    mask: Mask = None,
    roi: Roi = None,
    pe_threshold: PeThreshold = None,
    ser_threshold: SerThreshold = None,
    pieces: Pieces = "refuse",
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

        settings = forecast_settings(
            config,
            elements=elements,
            cells=cells,
            members=members,
            engine=engine,
            effects=False if no_effects else None,
            size=size,
            host_size=host,
            mesher=mesher,
            seed=seed,
        )
        quantifying = quantify_settings(dce_model, aif, t1, relaxivity, haematocrit, pe_threshold, ser_threshold)
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
                pieces=pieces,
                visits=visit or [],
                dry_run=dry_run,
                session=session,
            )
        )


@app.command(rich_help_panel=CHAIN, epilog="Example: oncoscale radiomics t1w.nii.gz tumour.nii.gz --out features.csv")
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


@app.command(rich_help_panel=LOOK, epilog="Example: oncoscale trace run/ --element 4711")
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
        from .commands import trace as follow

        session.finish(follow(run, element=element, store=store))


@app.command(rich_help_panel=LOOK, epilog="Example: oncoscale report run/ --out report.html")
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
        from .commands import report as draw

        session.finish(draw(run, out=out, store=store))


@app.command(rich_help_panel=LOOK, epilog="Example: oncoscale show P-HNU76GYAPKGZMXDN --store STORE")
def show(
    store: StoreOption,
    subject: Annotated[
        str | None, typer.Argument(metavar="SUBJECT", help="Pseudonym; without it, every subject.")
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """What the store holds of a subject: visits, consent, runs and predictions."""
    with Session(json, quiet) as session:
        from .commands import show as tell

        session.finish(tell(store, subject))


@app.command(rich_help_panel=REFERENCE, epilog="Example: oncoscale explain neuroblastoma")
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
        from .commands import explain as tell

        session.finish(tell(tumour, differences=differences))


@app.command(rich_help_panel=REFERENCE, epilog="Example: oncoscale schema forecast > forecast.schema.json")
def schema(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Which configuration file; without it, those there are.")
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """The JSON Schema of a configuration file."""
    with Session(json, quiet) as session:
        from .commands import schema as tell

        session.finish(tell(name))


@app.command(
    rich_help_panel=REFERENCE, epilog="Example: oncoscale bench --suite speed --only cells --json -- --pairs 3"
)
def bench(
    further: Annotated[
        list[str] | None, typer.Argument(metavar="-- [OPTIONS]", help="Further options for the benchmarks themselves.")
    ] = None,
    suite: Annotated[
        str | None, typer.Option("--suite", help="speed, verification, validation or gpu; without it, all there are.")
    ] = None,
    only: Annotated[str | None, typer.Option("--only", metavar="NAME", help="One benchmark: openvt-relax11.")] = None,
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


@consent_app.command("template", epilog="Example: oncoscale consent template > consent.toml")
def consent_template(json: Json = False, quiet: Quiet = False) -> None:
    """Print a consent file to fill in."""
    with Session(json, quiet) as session:
        from .commands import consent_template as tell

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
        from .commands import consent_record as record

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
        from .commands import consent_withdraw as withdraw

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
        from .commands import consent_show as tell

        session.finish(tell(store, subject))


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
        from .features import key

        session.finish(key(out))


@harmonise_app.command("verify", epilog="Example: oncoscale harmonise verify even/harmonised.dcm --key key.public.pem")
def harmonise_verify(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A signed file, its signature beside it.")],
    key: Annotated[Path, typer.Option("--key", help="Public key of its maker.")],
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Check that a harmonised image is as it was signed."""
    with Session(json, quiet) as session:
        from .features import verify

        session.finish(verify(file, public=key))
