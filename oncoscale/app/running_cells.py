"""The verb ``cells`` as a Python call: PRIMAGE's element inputs run, and what happened on the way written."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import ConfigurationRejected
from ..core.files import write_json, write_text
from ..core.passing import passing_folder, remove, swept
from .commands import Progress
from .console import Result
from .options import one_of

if TYPE_CHECKING:
    from ..agents.modes import Switches
    from ..agents.primage import Element
    from .trajectory import Recorder


@dataclass(frozen=True)
class CellOutputs:
    """What ``cells`` writes, and where it keeps its colonies.

    out         PRIMAGE's output
    observe     h between rows of the table OUT.csv (None: no table)
    trajectory  .vtkhdf of the cells over time, at the hours of the table, or every 24 h without one
    checkpoint  folder in which colonies are kept every ``keep_every`` h, and from which a stopped run goes on
    """

    out: Path
    observe: int | None = None
    trajectory: Path | None = None
    checkpoint: Path | None = None
    keep_every: int = 24

    def __post_init__(self) -> None:
        if self.trajectory is not None and self.trajectory.suffix != ".vtkhdf":
            raise ConfigurationRejected(
                f"--trajectory {self.trajectory.name}", "a name ending in .vtkhdf", "change the ending"
            )

    @property
    def every(self) -> int | None:
        """Hours between two looks at the cells."""
        return self.observe or (24 if self.trajectory else None)

    @property
    def table(self) -> Path:
        return self.out.with_suffix(".csv")

    @property
    def columns(self) -> Path:
        return self.out.with_suffix(".columns.json")

    def trajectories(self, elements: int, *, several: bool) -> list[Path]:
        """The trajectory's file, or with a list of elements one for each: FILE-0.vtkhdf, …"""
        file = self.trajectory
        if file is None:
            return []
        return [file.with_stem(f"{file.stem}-{place}") for place in range(elements)] if several else [file]

    def files(self, elements: int, *, several: bool) -> list[Path]:
        """All that is written under its final name."""
        tables = [] if self.observe is None else [self.table, self.columns]
        return [self.out, *tables, *self.trajectories(elements, several=several)]


def cells(
    document: Path,
    outputs: CellOutputs,
    *,
    mode: str = "corrected",
    version: str = "13.9.4",
    engine: str = "auto",
    changes: Sequence[str] = (),
    seed: int | None = None,
    threads: int | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
    say: Callable[[str], None] | None = None,
) -> Result:
    """Run PRIMAGE's element inputs, one or a list; write its output, on request also what happened on the way.

    changes  single switches beside the mode, as typed: "o2_model=qss"
    say      told when colonies that were kept cannot be used
    """
    from ..agents.checkpoint import FolderCheckpoints
    from ..agents.modes import switches
    from ..agents.primage import read_element, run_elements
    from .trajectory import Recorder

    one_of("--mode", mode, ("corrected", "parity"))
    chosen = switches(mode, **_switch_pairs(changes))  # type: ignore[arg-type]
    given = _read_json(document)
    several = isinstance(given, list)
    documents = [_with_seed(one, seed) for one in (given if several else [given])]
    elements = [read_element(one, f"element {place}", chosen, version) for place, one in enumerate(documents)]
    if dry_run:
        return _would_run(elements, chosen, outputs, Processor(engine, threads), several=several)
    tell, remark = progress or (lambda what, done: None), say or (lambda words: None)
    hours = {element.colony.name: element.hours for element in elements}
    done = Counter[str]()

    def one_hour(_: int, __: int) -> None:
        done["hours"] += 1
        tell("cells", done["hours"] / max(sum(hours.values()), 1))

    kept = FolderCheckpoints(outputs.checkpoint, every=outputs.keep_every, say=remark) if outputs.checkpoint else None
    with _snapshots(outputs) as parts:
        recorder = Recorder(hours, outputs.every, parts, kept, remark)
        answered = run_elements(
            documents,
            mode=chosen,
            version=version,
            engine_name=engine,
            threads=threads,
            progress=one_hour,
            watch=recorder.watch,
            checkpoints=recorder if kept else None,
        )
        _write_way(recorder, outputs, several=several)
    answers = [answer for answer, _ in answered]
    write_json(outputs.out, answers if several else answers[0])
    return _cells_result(outputs, [one.cell_count for _, one in answered], several=several)


@contextmanager
def _snapshots(outputs: CellOutputs) -> Iterator[Path | None]:
    """The folder of the snapshots: that of the checkpoints, or one that vanishes."""
    if outputs.trajectory is None or outputs.checkpoint is not None:
        yield outputs.checkpoint if outputs.trajectory else None
        return
    folder = swept(passing_folder(outputs.trajectory))
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        remove(folder)


def _write_way(recorder: Recorder, outputs: CellOutputs, *, several: bool) -> None:
    from .trajectory import COLUMNS, write_trajectory

    if outputs.observe is not None:
        write_text(outputs.table, recorder.table())
        meaning = {name: {"unit": unit, "meaning": words} for name, (unit, words) in COLUMNS.items()}
        write_json(outputs.columns, meaning)
    for file, name in zip(outputs.trajectories(len(recorder.hours), several=several), recorder.hours):
        write_trajectory(file, recorder.trajectory(name))


def _cells_result(outputs: CellOutputs, counts: Sequence[int], *, several: bool) -> Result:
    content: dict[str, Any] = {"output": str(outputs.out), "elements": len(counts), "cells": list(counts)}
    words = [f"{outputs.out}: {len(counts)} element(s), {sum(counts)} cells at the end"]
    if outputs.observe is not None:
        content |= {"counts": str(outputs.table), "columns": str(outputs.columns)}
        words.append(f"{outputs.table}: counts and means every {outputs.observe} h ({outputs.columns.name} explains)")
    if outputs.trajectory is not None:
        files = [str(file) for file in outputs.trajectories(len(counts), several=several)]
        content["trajectories"] = files
        words += [f"{file}: cells every {outputs.every} h" for file in files]
    if outputs.checkpoint is not None:
        content["checkpoint"] = str(outputs.checkpoint)
        words.append(f"{outputs.checkpoint}: the colonies as last kept; not needed any more")
    return Result(content, "\n".join(words))


@dataclass(frozen=True)
class Processor:
    """Where cells would live: the engine asked for, and threads (None: as many as there are)."""

    engine: str
    threads: int | None

    def plan(self, counts: Sequence[int], voxels: Sequence[int]) -> tuple[dict[str, Any], str]:
        """Engine and batches for colonies of so many cells and voxels, as plain values and in words.

        Raises ConfigurationRejected for an engine that cannot run here.
        """
        from ..agents.engine import engine
        from ..agents.engine._advance import available_threads

        chosen = engine(self.engine)
        if (plan := chosen.plan(counts, voxels)) is not None:
            return {"engine": chosen.name, **plan.content()}, f"Engine {chosen.name}: {plan}."
        at_once = min(self.threads or available_threads(), len(counts))
        batches = -(-len(counts) // at_once)
        content = {"engine": chosen.name, "cells": sum(counts), "batches": batches}
        return (
            content,
            f"Engine {chosen.name}: {len(counts)} element(s), {at_once} side by side in {batches} batch(es).",
        )


MEMORY_AT_REST = 250_000_000
"""Bytes of the program without cells."""

BYTES_PER_SNAPSHOT = 60
"""Of a cell in a trajectory."""


def _would_run(
    elements: Sequence[Element], chosen: Switches, outputs: CellOutputs, processor: Processor, *, several: bool
) -> Result:
    """How large the run would be; nothing is computed."""
    from ..agents.primage import BYTES_PER_CELL, BYTES_PER_VOXEL
    from ..agents.start import Founding, counts_of, traits_of
    from ..agents.voxels import VOXEL_VOLUME

    counts, looks = [], []
    for element in elements:
        given = element.colony.surroundings
        founding = Founding(element.seed, element.colony.domain, given, chosen, element.parameters)
        neuroblasts, schwann, _ = counts_of(founding, traits_of(founding).schwann_fraction)
        counts.append(neuroblasts + schwann)
        looks.append(element.hours // (outputs.every or element.hours) + 2)
    voxels = [ceil(element.colony.surroundings.volume * 1e9 / VOXEL_VOLUME) for element in elements]
    memory = int(MEMORY_AT_REST + BYTES_PER_CELL * sum(counts) + BYTES_PER_VOXEL * sum(voxels))
    plan, plan_in_words = processor.plan(counts, voxels)
    disk = BYTES_PER_SNAPSHOT * sum(n * cells for n, cells in zip(looks, counts)) if outputs.trajectory else 0
    files = [file.name for file in outputs.files(len(elements), several=several)]
    content = {
        "dry_run": True,
        "elements": len(elements),
        "cells_at_start": counts,
        "hours": [element.hours for element in elements],
        "mode": chosen.mode,
        "memory_bytes": memory,
        "plan": plan,
        "trajectory_bytes": disk,
        "would_write": files,
        "checkpoint": None if outputs.checkpoint is None else outputs.checkpoint.name,
    }
    words = [
        f"Would run {len(elements)} element(s) of {sum(counts)} cells at the start, {chosen.mode}, "
        f"for {sum(element.hours for element in elements)} colony-hours.",
        f"Memory: about {memory / 1e9:.2f} GB, in proportion more as colonies grow.",
        plan_in_words,
        "Would write " + ", ".join(files) + (f" (cells: about {disk / 1e9:.2f} GB)" if disk else "") + ".",
    ]
    words += [] if outputs.checkpoint is None else [f"Would keep the colonies in {outputs.checkpoint.name}."]
    return Result(content, "\n".join(words))


def _switch_pairs(changes: Sequence[str]) -> dict[str, str]:
    """``["o2_model=qss"]`` as ``{"o2_model": "qss"}``."""
    pairs = [change.partition("=") for change in changes]
    for name, sign, value in pairs:
        if not (name.strip() and sign and value.strip()):
            raise ConfigurationRejected(f"--switch {name}{sign}{value}", "a switch, = and its value",
                                        "write for example --switch o2_model=qss")  # fmt: skip
    return {name.strip(): value.strip() for name, _, value in pairs}


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationRejected(
            f"input {path.name!r} cannot be read: {error.strerror}", "a JSON file", "check its path"
        ) from error
    except ValueError as error:
        raise ConfigurationRejected(f"input {path.name!r} is not JSON: {error}", "valid JSON", "mend it") from error


def _with_seed(document: Any, seed: int | None) -> Any:
    """The input, with another seed if one was stated and there is a place for it."""
    if seed is None or not isinstance(document, dict) or not isinstance(document.get("config"), dict):
        return document
    return document | {"config": document["config"] | {"seed": seed}}
