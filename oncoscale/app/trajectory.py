"""What colonies did on their way: rows of a table, and their cells over time as VTKHDF.

A ``Recorder`` looks at colonies between hours. Rows stay in memory; snapshots of cells go to sealed files one by one,
and become one file a colony at the end, so that memory holds one snapshot at a time. With checkpoints, rows and
snapshots are kept beside them, and what is written after a restart is what an uninterrupted run writes.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from ..agents.cell import Cells
from ..agents.checkpoint import FolderCheckpoints, file_name, read_sealed, write_sealed
from ..agents.colony import CLASSES
from ..agents.ground import StoredColony
from ..agents.living import LivingColony
from ..agents.neuroblast import NEUROBLAST, SCHWANN
from ..agents.observe import counts_of, moments_of
from ..agents.start import MOMENTS
from ..core.errors import ConfigurationRejected, FileRejected
from ..core.files import written_whole
from ..meshing.write import VERSION, same_elements
from ..sim.state import TissueState

KINDS = {"NB": NEUROBLAST, "SC": SCHWANN}
MOMENT_UNITS = {"telo_count": "telomere units", "degdiff": "1", "necro_signal": "signals", "apop_signal": "signals"}

COLUMNS: Mapping[str, tuple[str, str]] = {
    **{name: ("cells", f"cells of class {name}") for name in CLASSES},
    "oxygen": ("1", "mean over what the cells occupy, pO2 / 72 mmHg"),
    "ecm": ("1", "mean volume fraction of matrix"),
    "volume_ratio": ("1", "observed volume over that at the start, by the mode's observable; empty without cells"),
    **{
        f"{name}_{moment}": (MOMENT_UNITS[variable], f"{words} of {variable} over living cells of kind {kind}")
        for name, (kind, variable) in MOMENTS.items()
        for moment, words in (("mean", "mean"), ("sd", "standard deviation"))
    },
    **{
        f"{name}_{kind}": (unit, f"{words} ({kind}: living cells of the kind)")
        for kind in KINDS
        for name, unit, words in (
            ("cycle_mean", "h", "mean of completed hours of the cycle"),
            (
                "uncrowded",
                "1",
                "share with room to divide: at most N_neighbours cells in the contact radius; "
                "empty at hour 0, when nobody has counted",
            ),
            ("hypoxic", "1", "share that lacks oxygen"),
            ("with_ATP", "1", "share with enough energy"),
            ("DNA_damage", "1", "share with damaged DNA"),
        )
    },
}
"""Columns of the table after element and hour: unit and meaning. A mean of nobody is empty."""

SHOWN = (
    "cycle", "neighbours", "degdiff", "telo_count", "apop_signal", "necro_signal", "mobile", "hypoxia", "ATP",
    "nutrient", "DNA_damage", "DNA_unreplicated", "VEGF",
)  # fmt: skip
"""Variables of cells in a trajectory, where the type of cell declares them."""


def row_of(colony: LivingColony) -> NDArray[np.float64]:
    """(COLUMNS,) what is seen of a colony between hours; NaN for means of nobody."""
    cells, mean_oxygen, ratio = colony.cells, colony.given_oxygen, 1.0
    if colony.hour:
        now = colony.cell_type.outcome(colony)
        mean_oxygen, ratio = now.oxygen, now.volume_ratio
    alive = ~(cells["apop"] | cells["necro"])
    present = {kind: bool((alive & (cells["kind"] == kind)).any()) for kind in KINDS.values()}
    moments = [
        value if present[MOMENTS[name][0]] else np.nan for name, pair in moments_of(cells).items() for value in pair
    ]
    shares = [value for kind in KINDS.values() for value in _means(colony, cells[alive & (cells["kind"] == kind)])]
    return np.array([*counts_of(cells), mean_oxygen, colony.matrix.mean(), ratio, *moments, *shares], np.float64)


def _means(colony: LivingColony, cells: NDArray[Any]) -> Iterator[float]:
    counted = colony.hour > 0
    uncrowded = np.where(counted, cells["neighbours"] <= colony.parameters["N_neighbours"], np.nan)
    for values in (cells["cycle"], uncrowded, cells["hypoxia"], cells["ATP"], cells["DNA_damage"]):
        yield float(values.mean()) if len(cells) else np.nan


def snapshot(cells: Cells, radii: NDArray[np.float64]) -> dict[str, NDArray[Any]]:
    """Places of the cells in µm from their colony's centre, and what is shown of each.

    radii  µm by completed hours of the cycle
    """
    shown = {name: _slim(cells[name]) for name in SHOWN if name in (cells.dtype.names or ())}
    return {
        "points": np.column_stack([cells["x"], cells["y"], cells["z"]]).astype(np.float32),
        "identity": cells["identity"].astype(np.uint32),
        "kind": cells["kind"].astype(np.uint8),
        "class": np.where(cells["apop"], 1, np.where(cells["necro"], 2, 0)).astype(np.uint8),
        "radius": radii[cells["cycle"]].astype(np.float32),
        **shown,
    }


def _slim(values: NDArray[Any]) -> NDArray[Any]:
    return values.astype({"f": np.float32, "b": np.uint8}.get(values.dtype.kind, np.int32))


@dataclass
class Recorder:
    """Looks at colonies every ``every`` hours and at their last one; is ``Watch`` and ``Checkpoints`` of a run.

    hours  that each colony lives, by its name
    every  None: nothing is looked at
    parts  folder of the snapshots; None: none are taken
    kept   checkpoints, whose folder then holds rows and snapshots too; None: none
    say    told in a sentence when what was kept cannot be used
    """

    hours: Mapping[str, int]
    every: int | None
    parts: Path | None = None
    kept: FolderCheckpoints | None = None
    say: Callable[[str], None] = lambda words: None
    _rows: dict[str, dict[int, NDArray[np.float64]]] = field(init=False)
    _parts: dict[str, dict[int, Path]] = field(init=False)

    def __post_init__(self) -> None:
        self._rows = {name: {} for name in self.hours}
        self._parts = {name: {} for name in self.hours}

    def is_due(self, name: str, hour: int) -> bool:
        """Whether a colony is looked at in that hour."""
        return self.every is not None and (hour % self.every == 0 or hour == self.hours[name])

    def watch(self, colony: LivingColony) -> None:
        """Look at a colony, if its hour has come."""
        name, hour = colony.name, colony.hour
        if self.is_due(name, hour) and hour not in self._rows[name]:
            self._rows[name][hour] = row_of(colony)
            if self.parts is not None:
                write_sealed(self._part(colony, hour), snapshot(colony.cells, colony.radii))
                self._parts[name][hour] = self._part(colony, hour)
        if self.kept and hour and hour % self.kept.every == 0:
            hours = sorted(self._rows[name])
            rows = np.array([self._rows[name][one] for one in hours])
            write_sealed(self.kept.path_of(colony, "rows"), {"hours": np.array(hours), "rows": rows})

    def resume(self, colony: LivingColony) -> None:
        """Bring a colony to its last hour kept, if all that it should have left behind until then is there.

        Raises ConfigurationRejected for a colony of another run, or one kept at a later hour than this run has.
        """
        assert self.kept is not None
        settled, name = dict(vars(colony)), colony.name
        self.kept.resume(colony)
        if colony.hour == 0:
            return
        if colony.hour > self.hours[name]:
            raise ConfigurationRejected(f"{name} was kept at hour {colony.hour} of {self.hours[name]} asked for",
                                        "a run at least as long as the one that was kept",
                                        "choose another folder for the checkpoints")  # fmt: skip
        due = [hour for hour in range(colony.hour + 1) if self.is_due(name, hour)]
        try:
            found = read_sealed(self.kept.path_of(colony, "rows"))
            rows = dict(zip(found["hours"].tolist(), found["rows"], strict=True))
            parts = {hour: self._part(colony, hour) for hour in due} if self.parts else {}
            for part in parts.values():
                read_sealed(part)
            self._rows[name], self._parts[name] = {hour: rows[hour] for hour in due}, parts
        except (FileRejected, KeyError):
            vars(colony).update(settled)
            self.say(f"Colony {name!r} starts again at its first hour: it was kept without all that "
                     f"is asked for now, or that is damaged.")  # fmt: skip

    def due(self, colony: LivingColony) -> bool:
        """Whether the colony's hour to be kept has come."""
        assert self.kept is not None
        return self.kept.due(colony)

    def note(self, colony: LivingColony) -> None:
        """Keep the colony."""
        assert self.kept is not None
        self.kept.note(colony)

    def _part(self, colony: LivingColony, hour: int) -> Path:
        assert self.parts is not None
        return self.parts / file_name(colony, f"at-{hour}h.cells")

    def table(self) -> str:
        """CSV: element, hour, COLUMNS; elements in their order."""
        lines = [",".join(("element", "hour", *COLUMNS))]
        for place, rows in enumerate(self._rows.values()):
            lines += [f"{place},{hour},{_as_text(rows[hour])}" for hour in sorted(rows)]
        return "\n".join(lines) + "\n"

    def trajectory(self, name: str) -> dict[int, Path]:
        """The snapshots of a colony by hour."""
        return dict(sorted(self._parts[name].items()))


def _as_text(row: NDArray[np.float64]) -> str:
    counts, numbers = row[: len(CLASSES)], row[len(CLASSES) :]
    return ",".join([*(str(int(count)) for count in counts), *("" if np.isnan(n) else repr(float(n)) for n in numbers)])


def write_trajectory(path: Path, parts: Mapping[int, Path]) -> None:
    """Snapshots by hour as one VTKHDF file (PolyData over time; time in hours, places in µm).

    The frame of the file is made by HDF5, which crashes when the disk fills; the values are then written at the places
    that it set aside. Every step is one cell of all its points, so that viewers draw them at once. Raises
    StorageFault when the disk is full.
    """
    counts = [len(read_sealed(part)["points"]) for part in parts.values()]
    starts = [0, *accumulate(counts)][:-1]
    with written_whole(path) as beside:
        places = _frame(beside, list(parts), counts, starts, read_sealed(next(iter(parts.values()))))
        with open(beside, "r+b") as file:
            _put(file, places["Vertices/Connectivity"], np.arange(max(counts), dtype=np.int64))
            for start, part in zip(starts, parts.values(), strict=True):
                for name, values in read_sealed(part).items():
                    _put(file, places[name] + start * values.strides[0], values)


def write_stored_cells(folder: Path, states: Sequence[TissueState]) -> list[Path]:
    """The stored cells of each element of a forecast, one file an element, one step each day that it had cells.

    Elements of a later mesh have numbers of their own: their files begin with the day on which it was made.
    """
    written = []
    with TemporaryDirectory(prefix=".cells.part-", dir=folder) as beside:
        for prefix, of_mesh in _by_mesh(states):
            for element in sorted({element for state in of_mesh for element in state.colonies}):
                parts = {}
                for state in of_mesh:
                    stored = state.colonies.get(element)
                    if isinstance(stored, StoredColony):
                        hour = round(24 * state.day)
                        parts[hour] = Path(beside) / f"{element}-{hour}"
                        write_sealed(parts[hour], snapshot(stored.cells, stored.radii))
                if parts:
                    written.append(folder / f"{prefix}element-{element}.vtkhdf")
                    write_trajectory(written[-1], parts)
    return written


def _by_mesh(states: Sequence[TissueState]) -> Iterator[tuple[str, list[TissueState]]]:
    """The states of each mesh, in order, with what the names of their files begin with."""
    begin = 0
    for number in range(1, len(states) + 1):
        if number == len(states) or not same_elements(states[number].reference, states[begin].reference):
            yield f"day-{states[begin].day:g}-" if begin else "", list(states[begin:number])
            begin = number


def _put(file: Any, place: int, values: NDArray[Any]) -> None:
    if len(values):
        file.seek(place)
        file.write(np.ascontiguousarray(values))


def _frame(
    path: Path, hours: Sequence[int], counts: Sequence[int], starts: Sequence[int], example: Mapping[str, NDArray[Any]]
) -> dict[str, int]:
    """The file with all but its values, and where in it each array's values belong."""
    steps, total, before = len(counts), sum(counts), np.array(starts, np.int64)
    needed = total * sum(values.dtype.itemsize * values[:1].size for values in example.values()) + 8 * max(counts)
    if shutil.disk_usage(path.parent).free < needed + LEAST_FREE:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    names = {"points": "Points", **{name: f"PointData/{name}" for name in example if name != "points"}}
    with h5py.File(path, "w", libver=("earliest", "v108")) as file:
        root = file.create_group("VTKHDF")
        root.attrs["Version"] = np.array(VERSION, np.int64)
        root.attrs.create("Type", b"PolyData", dtype=h5py.string_dtype("ascii", len(b"PolyData")))
        places = {
            name: _reserved(root, names[name], (total, *values.shape[1:]), values.dtype)
            for name, values in example.items()
        }
        places["Vertices/Connectivity"] = _reserved(root, "Vertices/Connectivity", (max(counts),), np.dtype(np.int64))
        root["NumberOfPoints"] = root["Vertices/NumberOfConnectivityIds"] = np.array(counts, np.int64)
        root["Vertices/NumberOfCells"] = np.ones(steps, np.int64)
        root["Vertices/Offsets"] = np.array([[0, count] for count in counts], np.int64).ravel()
        for absent in ("Lines", "Polygons", "Strips"):
            for name in ("NumberOfCells", "NumberOfConnectivityIds", "Offsets"):
                root[f"{absent}/{name}"] = np.zeros(steps, np.int64)
            root[f"{absent}/Connectivity"] = np.zeros(0, np.int64)
        by_step = root.create_group("Steps")
        by_step.attrs["NSteps"] = np.int64(steps)
        by_step["Values"] = np.array(hours, np.float64)
        by_step["PartOffsets"], by_step["NumberOfParts"] = np.arange(steps), np.ones(steps, np.int64)
        by_step["PointOffsets"] = before
        by_step["CellOffsets"] = np.arange(steps)[:, None] * np.array([1, 0, 0, 0])
        by_step["ConnectivityIdOffsets"] = np.zeros((steps, 4), np.int64)
        for name in names:
            if name != "points":
                by_step[f"PointDataOffsets/{name}"] = before
    return places


LEAST_FREE = 1 << 20
"""Bytes of disk left for the frame itself."""


def _reserved(root: Any, name: str, shape: tuple[int, ...], kind: np.dtype[Any]) -> int:
    """Room for an array, and its place in the file in bytes (0 for an empty one)."""
    how = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    how.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    how.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    return root.create_dataset(name, shape, kind, dcpl=how).id.get_offset() or 0
