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
Labels = Annotated[
    list[str] | None,
    typer.Option("--label", metavar="VALUE=NAME", help="Name of a value in a label image: 1=tumour. Repeat for more."),
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
NoPictures = Annotated[bool, typer.Option("--no-pictures", help="Write no maps.png, fits.png and aif.png.")]
Haematocrit = Annotated[float | None, typer.Option("--haematocrit", help="Of large vessels, 0 to 1.")]
Mask = Annotated[
    Path | None, typer.Option("--mask", help="Segmentation of the tumour: DICOM SEG or RTSTRUCT, NIfTI or NRRD.")
]
Roi = Annotated[
    str | None,
    typer.Option(
        "--roi", metavar="NAME", help="Region that is the tumour, by its name in the RTSTRUCT, SEG or label image."
    ),
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
Pieces = Annotated[str, typer.Option("--pieces", help="A tumour in several pieces: refuse, largest or all.")]
Size = Annotated[float | None, typer.Option("--size", help="Edge of the elements in the tumour, mm.")]
Host = Annotated[float | None, typer.Option("--host", help="Edge of the elements far from the tumour, mm.")]
Mesher = Annotated[
    str, typer.Option("--mesher", help="auto, gmsh or bcc (the lattice mesher, which needs no library).")
]
