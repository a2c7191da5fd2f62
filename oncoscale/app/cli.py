"""``oncoscale``: one verb a stage. Parses and shows; every command is a thin layer over a Python call of the same name.

Nothing heavy is imported here, so that ``oncoscale --help`` answers at once: each command imports what it needs.
"""

from __future__ import annotations

import os
import sys
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
DceModel = Annotated[str, typer.Option("--dce-model", help="auto, tofts, extended-tofts, patlak or semi.")]
Aif = Annotated[
    str, typer.Option("--aif", metavar="NAME|FILE.csv", help="Arterial input function: parker, …, or a file.")
]
T1 = Annotated[
    str | None, typer.Option("--t1", metavar="vfa|SECONDS|FILE", help="T1 of tissue: measured, or one value.")
]
Relaxivity = Annotated[float | None, typer.Option("--relaxivity", help="r1 of the contrast agent, L/mmol/s.")]
Haematocrit = Annotated[float | None, typer.Option("--haematocrit", help="Of large vessels, 0 to 1.")]
Mask = Annotated[Path | None, typer.Option("--mask", help="Segmentation of the tumour: DICOM SEG, NIfTI or NRRD.")]
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
    t1: T1 = None,
    relaxivity: Relaxivity = None,
    haematocrit: Haematocrit = None,
    mask: Mask = None,
    pe_threshold: PeThreshold = None,
    ser_threshold: SerThreshold = None,
    pieces: Pieces = "refuse",
    unit: Units = None,
    same_subject: SameSubject = False,
    label: Labels = None,
    times: Times = None,
    threads: Threads = None,
    dry_run: DryRun = False,
    seed: NoSeed = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Quantitative maps from images: one NIfTI a map, quality.nii.gz and maps.json."""
    with Session(json, quiet, threads) as session:
        from .commands import ReadOptions
        from .commands import quantify as make
        from .options import quantify_settings

        settings = quantify_settings(dce_model, aif, t1, relaxivity, haematocrit, pe_threshold, ser_threshold)
        session.finish(
            make(
                study,
                out=out,
                store=store,
                settings=settings,
                mask=mask,
                pieces=pieces,
                reading=ReadOptions(unit or [], same_subject, label or [], times),
                dry_run=dry_run,
                progress=session.progress,
            )
        )


@app.command(rich_help_panel=LOOK, epilog="Example: oncoscale inspect images/ --out look/")
def inspect(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Any folder of DICOM.")],
    out: Annotated[Path | None, typer.Option("--out", help="Folder for a sheet of thumbnails.")] = None,
    unit: Units = None,
    same_subject: SameSubject = False,
    label: Labels = None,
    times: Times = None,
    seed: NoSeed = None,
    threads: Threads = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """A table of series, times and geometry: what was found, chosen, inferred and doubted."""
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
    model: Annotated[str, typer.Option("--model", help="tofts, extended-tofts or patlak.")],
    aif: Annotated[str, typer.Option("--aif", metavar="NAME|FILE.csv", help="Arterial input function.")],
    out: Annotated[Path, typer.Option("--out", help="Table of fits.")],
    haematocrit: Haematocrit = None,
    seed: NoSeed = None,
    threads: Threads = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Fit tissue curves without images, by the code that fits images."""
    with Session(json, quiet, threads) as session:
        from .commands import curves as fit

        session.finish(fit(table, model=model, aif=aif, out=out, haematocrit=haematocrit, threads=threads))


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
    segmentation: Annotated[Path, typer.Argument(metavar="SEGMENTATION", help="DICOM SEG, NIfTI or NRRD label image.")],
    out: Annotated[Path, typer.Option("--out", help="MESH.vtu or MESH.vtkhdf; MESH.json is written beside it.")],
    size: Size = None,
    host: Host = None,
    mesher: Mesher = "auto",
    pieces: Pieces = "refuse",
    label: Labels = None,
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
                pieces=pieces,
                visits=visit or [],
                dry_run=dry_run,
                session=session,
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
