"""Options that belong together: a group is one parameter of a command, and its fields are options of the command.

::

    @app.command()
    @unfolded
    def quantify(*, study: Study, contrast: Contrast, mask: Mask = None) -> None: ...

takes every option of ``Contrast`` where ``contrast`` stands, so that each is declared once and handed on as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from functools import wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from .cli_options import Haematocrit, Labels


def unfolded(command: Callable[..., None]) -> Callable[..., None]:
    """The command with the fields of each of its groups as parameters of their own, in the group's place."""
    own = signature(command, eval_str=True).parameters.values()
    groups: dict[str, Any] = {one.name: one.annotation for one in own if is_dataclass(one.annotation)}
    parameters = [part for one in own for part in (_parts(groups[one.name]) if one.name in groups else [one])]

    @wraps(command)
    def run(**typed: Any) -> None:
        folded = {
            name: group(**{field.name: typed.pop(field.name) for field in fields(group)})
            for name, group in groups.items()
        }
        command(**typed, **folded)

    run.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in parameters}
    return run


def _parts(group: Any) -> Iterator[Parameter]:
    """The fields of a group as parameters of a function."""
    declared = get_type_hints(group, include_extras=True)
    for field in fields(group):
        yield Parameter(field.name, Parameter.KEYWORD_ONLY, default=field.default, annotation=declared[field.name])


@dataclass(frozen=True)
class OfFiles:
    """What the user states about files that do not say it themselves."""

    unit: Annotated[
        list[str] | None,
        typer.Option(
            "--unit",
            metavar="NAME=UNIT",
            help="Unit of a supplied map that states none, or a wrong one: ktrans=1/min. Repeat for more.",
        ),
    ] = None
    same_subject: Annotated[
        bool, typer.Option("--same-subject", help="The files belong to one subject although identifiers disagree.")
    ] = False
    label: Labels = None
    times: Annotated[
        str | None,
        typer.Option(
            "--times",
            metavar="S,S,…",
            help="Times of the dynamic frames in seconds, if the files do not tell them: 0,407,761",
        ),
    ] = None


@dataclass(frozen=True)
class Contrast:
    """How contrast agent becomes kinetics: model, input function, T1 and timing, of the agent and of the blood."""

    dce_model: Annotated[
        str, typer.Option("--dce-model", help="auto, tofts, extended-tofts, patlak, 2cxm, 2cum or semi.")
    ] = "auto"
    aif: Annotated[
        str,
        typer.Option("--aif", metavar="NAME|measured|FILE.csv", help="Arterial input function: parker, …, or a file."),
    ] = "parker"
    aif_mask: Annotated[
        Path | None, typer.Option("--aif-mask", help="Mask of an artery, for --aif measured; without it one is sought.")
    ] = None
    accept_aif: Annotated[
        bool, typer.Option("--accept-aif", help="Go on with a measured input function that is implausible or late.")
    ] = False
    blood_t1: Annotated[
        float | None,
        typer.Option("--blood-t1", metavar="SECONDS", help="T1 of blood before contrast, for --aif measured."),
    ] = None
    t1: Annotated[
        str | None, typer.Option("--t1", metavar="vfa|SECONDS|FILE", help="T1 of tissue: measured, or one value.")
    ] = None
    vfa_tr: Annotated[
        float | None,
        typer.Option("--vfa-tr", metavar="SECONDS", help="Repetition time of the flip angles, if no file tells it."),
    ] = None
    delay: Annotated[
        float | None,
        typer.Option("--delay", metavar="SECONDS", help="When the input function arrives; for a file: its shift."),
    ] = None
    baseline: Annotated[
        int | None, typer.Option("--baseline", metavar="FRAMES", help="Frames before contrast, if not as found.")
    ] = None
    relaxivity: Annotated[float | None, typer.Option("--relaxivity", help="r1 of the contrast agent, L/mmol/s.")] = None
    haematocrit: Haematocrit = None


@dataclass(frozen=True)
class Enhancement:
    """From which enhancement on tissue is tumour, where nobody drew one."""

    pe_threshold: Annotated[
        float | None,
        typer.Option("--pe-threshold", help="Least early enhancement (percent) of a tumour found by enhancement."),
    ] = None
    ser_threshold: Annotated[
        float | None, typer.Option("--ser-threshold", help="Least signal enhancement ratio of such a tumour.")
    ] = None


@dataclass(frozen=True)
class Fit:
    """What the kinetic model is fitted to, and how sure its medians are."""

    motion: Annotated[
        str, typer.Option("--motion", help="Between the frames of the dynamic series: off, rigid or deformable.")
    ] = "off"
    fit_domain: Annotated[
        str,
        typer.Option(
            "--fit-domain",
            help="What the kinetic model is fitted to: concentration, or signal, where noise is additive (intervals "
            "that hold, some ten times as slow).",
        ),
    ] = "concentration"
    systematic: Annotated[
        int,
        typer.Option(
            "--systematic",
            metavar="DRAWS",
            min=0,
            help="Also the systematic part of the errors of the tumour's medians, from so many draws of T1, "
            "relaxivity, haematocrit, flip angle and input function (50 or more; 0: not): --systematic 100",
        ),
    ] = 0
    widths: Annotated[
        Path | None,
        typer.Option(
            "--widths",
            metavar="FILE.toml",
            help="How well those are known, for --systematic: lines like haematocrit = 0.02 (see `oncoscale schema "
            "widths`).",
        ),
    ] = None


@dataclass(frozen=True)
class Simulated:
    """Whose cells are simulated, how many of them, by what, and how often."""

    elements: Annotated[
        str | None,
        typer.Option(
            "--elements",
            help="Elements whose cells are simulated: a number (default 20), or all. --dry-run says what that takes.",
        ),
    ] = None
    selection: Annotated[
        str | None,
        typer.Option("--selection", help="How they are chosen: k-medoids (default), random or stratified."),
    ] = None
    cells: Annotated[
        int | None,
        typer.Option(
            "--cells",
            help="Cells per colony at its start, about (default 600, from 50 to a million): a sample of its "
            "element, even with --elements all.",
        ),
    ] = None
    members: Annotated[int | None, typer.Option("--members", help="Forecasts that differ by their seed.")] = None
    engine: Annotated[str | None, typer.Option("--engine", help="Cell engine: auto, cpu, cuda or python.")] = None
    no_effects: Annotated[bool, typer.Option("--no-effects", help="Do not compute what the forecast rests on.")] = False


@dataclass(frozen=True)
class GivenTetrahedra:
    """A mesh in place of one made from the segmentation."""

    mesh: Annotated[
        Path | None,
        typer.Option(
            "--mesh",
            metavar="FILE",
            help="Tetrahedra (mm, LPS) in place of those made from the segmentation, as oncoscale mesh or another "
            "program writes them (.vtu, .vtkhdf, .vtk, .msh, .inp, …), with a region tumour.",
        ),
    ] = None
    region: Annotated[
        list[str] | None,
        typer.Option("--region", metavar="VALUE=NAME", help="Name of a region of --mesh, 7=tumour; repeat."),
    ] = None


@dataclass(frozen=True)
class Keeping:
    """Where a forecast is kept while it is made, and how often."""

    checkpoint: Annotated[
        Path | None,
        typer.Option(
            "--checkpoint",
            metavar="DIR",
            help="Folder in which the run is kept while it is made (default: OUT.kept); the same command goes on from "
            "there after it was stopped, and ends in the same results.",
        ),
    ] = None
    checkpoint_every: Annotated[
        int,
        typer.Option(
            "--checkpoint-every", min=0, metavar="HOURS", help="Hours of the cells between keepings; 0 keeps nothing."
        ),
    ] = 24


@dataclass(frozen=True)
class CellRules:
    """Which rules the cells of an element follow, and who works them out."""

    mode: Annotated[str, typer.Option("--mode", help="corrected, or parity with the released program.")] = "corrected"
    switch: Annotated[
        list[str] | None,
        typer.Option(
            "--switch",
            metavar="NAME=VALUE",
            help="One switch set otherwise than the mode has it: o2_model=qss (see `oncoscale explain neuroblastoma "
            "--differences`). Repeat for more.",
        ),
    ] = None
    version: Annotated[str, typer.Option("--version", help="Parameters and conventions of that version.")] = "13.9.4"
    engine: Annotated[str, typer.Option("--engine", help="auto, cpu, cuda or python.")] = "auto"


@dataclass(frozen=True)
class CellsOverTime:
    """What is written and kept of cells on their way."""

    observe: Annotated[
        int | None,
        typer.Option(
            "--observe",
            min=1,
            metavar="HOURS",
            help="Also write counts and means every HOURS hours and at the end: OUT.csv, its columns explained in "
            "OUT.columns.json.",
        ),
    ] = None
    trajectory: Annotated[
        Path | None,
        typer.Option(
            "--trajectory",
            metavar="FILE.vtkhdf",
            help="Also write the cells over time (h, µm) for ParaView, at the hours of --observe, else every 24; "
            "for a list FILE-0.vtkhdf, FILE-1.vtkhdf, …",
        ),
    ] = None
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            "--checkpoint",
            metavar="DIR",
            help="Keep the colonies in this folder; the same command goes on from there after it was stopped, and "
            "ends in the same results.",
        ),
    ] = None
    checkpoint_every: Annotated[
        int, typer.Option("--checkpoint-every", min=1, metavar="HOURS", help="Hours of the cells between keepings.")
    ] = 24
