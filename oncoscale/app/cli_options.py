"""Options that several commands share: each is declared once, with its name and its help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output, nothing else there.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no remarks.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]
NoSeed = Annotated[int | None, typer.Option("--seed", hidden=True, help="Accepted everywhere; nothing is drawn here.")]
Threads = Annotated[int | None, typer.Option("--threads", min=1, help="Threads to use; results do not depend on it.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of every random draw.")]
STORE = "ONCOSCALE_STORE"
"""The environment variable that names the store where ``--store`` does not."""

StoreOption = Annotated[Path, typer.Option("--store", envvar=STORE, help="Folder of the store.")]
MaybeStore = Annotated[
    Path | None, typer.Option("--store", envvar=STORE, help="Folder of the store, if something in it is named.")
]
Purpose = Annotated[
    str, typer.Option("--purpose", metavar="CODE", help="What for: HRESCH, DSRCH, BIORCH or MLTRAINING.")
]
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
FolderVisit = Annotated[
    str | None,
    typer.Option(
        "--visit",
        metavar="NUMBER|DATE|UID",
        help="Which visit of the folder, if it holds several: number (see inspect), date, or end of the study's UID.",
    ),
]
ChosenSeries = Annotated[
    list[int] | None,
    typer.Option(
        "--series",
        metavar="NUMBER",
        help="Series to use in place of others of its kind, by its number (see inspect). Repeat for more.",
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
Delay = Annotated[
    float | None,
    typer.Option("--delay", metavar="SECONDS", help="When the input function arrives; for a file: its shift."),
]
Baseline = Annotated[
    int | None, typer.Option("--baseline", metavar="FRAMES", help="Frames before contrast, if not as found.")
]
Motion = Annotated[
    str, typer.Option("--motion", help="Between the frames of the dynamic series: off, rigid or deformable.")
]
FitDomain = Annotated[
    str,
    typer.Option(
        "--fit-domain",
        help="What the kinetic model is fitted to: concentration, or signal, where noise is additive (intervals that "
        "hold, some ten times as slow).",
    ),
]
Systematic = Annotated[
    int,
    typer.Option(
        "--systematic",
        metavar="DRAWS",
        min=0,
        help="Also the systematic part of the errors of the tumour's medians, from so many draws of T1, relaxivity, "
        "haematocrit, flip angle and input function (50 or more; 0: not): --systematic 100",
    ),
]
WidthsFile = Annotated[
    Path | None,
    typer.Option(
        "--widths",
        metavar="FILE.toml",
        help="How well those are known, for --systematic: lines like haematocrit = 0.02 (see `oncoscale schema "
        "widths`).",
    ),
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
Tensor = Annotated[
    Path | None,
    typer.Option(
        "--tensor",
        metavar="FILE",
        help="Diffusion tensors, along which cells of a tumour without a border wander: NIfTI, six volumes xx, yy, zz, "
        "xy, xz, yz in the scanner's axes (as MRtrix's dwi2tensor writes them), 0 where there is none.",
    ),
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
