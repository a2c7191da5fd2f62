"""Colonies kept while they live: a run that was stopped goes on from the last hour kept, and ends in the same bits.

What hours change of a colony (CHANGING) is kept; what is decided before the first hour (DECIDED) is settled anew and
must be what it was: that is the fingerprint. Lists of neighbours, threads and random states are nowhere in it, since
nothing depends on them. Files are sealed: written beside, flushed and renamed, with the SHA-256 of their content.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, astuple, fields
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from .. import __version__
from ..core.errors import ConfigurationRejected, FileRejected
from ..core.files import canonical_json, written_whole
from .ground import StoredColony
from .living import Census, LivingColony
from .neuroblast import STATE
from .oxygen import Oxygenation
from .start import Traits

FORMAT = 2
"""Of what a checkpoint holds; another one is another fingerprint."""

DECIDED = (
    "cell_type", "name", "key", "clock", "drugs", "radiation", "given_oxygen", "switches", "parameters", "numbers",
    "radii", "traits",
)  # fmt: skip
"""What of a ``LivingColony`` no hour changes."""

NUMBERS = ("next_identity", "half_edge", "wall", "elsewhere", "hour", "iterations", "cell_iterations")
ARRAYS = ("matrix", "births", "cleared")
CHANGING = (*NUMBERS, *ARRAYS, "cells", "volumes", "oxygens", "counts", "oxygen", "last_census", "engine")
"""What of a ``LivingColony`` hours change; ``engine`` is kept to be read, and another engine may go on."""

Arrays = Mapping[str, NDArray[Any]]


class FolderCheckpoints:
    """The ``Checkpoints`` of engines, in a folder: one file a colony, which holds its last hour kept.

    folder  made when the first colony is kept
    every   hours between two keepings
    say     told in a sentence when a kept colony cannot be used and starts anew

    A colony is known by its name and the clock at its start, so that the steps of a forecast may share a folder.
    """

    def __init__(self, folder: Path | str, *, every: int = 24, say: Callable[[str], None] | None = None) -> None:
        if every < 1:
            raise ConfigurationRejected(f"checkpoints every {every} hours", "at least 1", "correct the number")
        self.folder, self.every = Path(folder), every
        self.say = say or (lambda words: None)
        self._fingerprints: dict[str, str] = {}

    def path_of(self, colony: LivingColony, ending: str = "colony") -> Path:
        """The file of a colony with that ending."""
        return self.folder / file_name(colony, ending)

    def resume(self, colony: LivingColony) -> None:
        """Bring a colony that has just settled to its last hour kept. A damaged file is told of and not used.

        Raises ConfigurationRejected when what is kept belongs to another run.
        """
        path, ours = self.path_of(colony), fingerprint(colony)
        self._fingerprints[colony.name] = ours
        if not path.exists():
            return
        try:
            kept = read_sealed(path)
        except FileRejected as error:
            self.say(f"Colony {colony.name!r} starts again at its first hour: {error.found}.")
            return
        if str(kept["fingerprint"]) != ours:
            raise ConfigurationRejected(
                f"the checkpoint of colony {colony.name!r} in folder {self.folder.name!r} belongs to another run",
                "the same input, seed, mode, parameters and version of the program",
                "choose another folder for the checkpoints, or remove that one",
            )
        overlay(colony, kept)

    def due(self, colony: LivingColony) -> bool:
        """Whether the colony's hour to be kept has come."""
        return colony.hour % self.every == 0

    def note(self, colony: LivingColony) -> None:
        """Keep the colony. Raises StorageFault when the disk is full."""
        ours = np.array(self._fingerprints[colony.name])
        write_sealed(self.path_of(colony), {"fingerprint": ours, **arrays_of(colony)})


def file_name(colony: LivingColony, ending: str) -> str:
    """Of a file about a colony."""
    return f"{quote(colony.name, safe='')}.from-{colony.clock}h.{ending}"


def fingerprint(colony: LivingColony) -> str:
    """All that decides what a settled colony will do, as 64 hexadecimal digits: what was given, and the first cells."""
    kind = colony.cell_type
    decided = {
        "format": FORMAT,
        "program": [__version__, digest_of_the_code()],
        "type": kind.name,
        "rules": [[getattr(rule, "__name__", "") for rule in rules] for rules in kind.each_hour],
        "state": [(variable.name, np.dtype(variable.kind).str) for variable in kind.state.variables],
        "name": colony.name,
        "key": [int(word) for word in colony.key],
        "clock": colony.clock,
        "drugs": [asdict(window) for window in colony.drugs],
        "radiation": [asdict(fraction) for fraction in colony.radiation],
        "oxygen": float(colony.given_oxygen),
        "switches": asdict(colony.switches),
        "parameters": {name: parameter.value for name, parameter in colony.parameters.table.items()},
        "cells": [int(colony.next_identity), float(colony.half_edge), float(colony.wall), float(colony.elsewhere)],
    }
    digest = sha256(canonical_json(decided).encode())
    for values in (colony.numbers, colony.radii, colony.matrix, *_columns(colony.cells)):
        digest.update(str(values.shape).encode() + np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


@cache
def digest_of_the_code() -> str:
    """SHA-256 over the source of the cells: a rule edited between two runs makes another run."""
    digest = sha256()
    root = Path(__file__).parent
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _columns(cells: NDArray[Any]) -> list[NDArray[Any]]:
    return [cells[name] for name in cells.dtype.names or ()]


def arrays_of(colony: LivingColony) -> dict[str, NDArray[Any]]:
    """Everything of a colony that its hours change, as plain arrays."""
    cells = np.ascontiguousarray(colony.cells).view(np.uint8)
    kept = {name: np.asarray(getattr(colony, name)) for name in (*NUMBERS, *ARRAYS, "engine")}
    kept |= {
        "cells": cells,
        "volumes": np.array(colony.volumes, np.float64).reshape(-1, 2),
        "oxygens": np.array(colony.oxygens, np.float64),
        "counts": np.array(colony.counts, np.int64),
    }
    for name in ("oxygen", "last_census"):
        whole = getattr(colony, name)
        if whole is not None:
            kept |= {f"{name}.{part.name}": np.asarray(getattr(whole, part.name)) for part in fields(whole)}
    return kept


def overlay(colony: LivingColony, kept: Arrays) -> None:
    """Bring a settled colony to the hour that ``arrays_of`` kept."""
    for name in NUMBERS:
        setattr(colony, name, kept[name].item())
    for name in ARRAYS:
        setattr(colony, name, kept[name])
    colony.cells = kept["cells"].view(colony.cell_type.state.record)
    colony.volumes = [(float(total), float(by_class)) for total, by_class in kept["volumes"]]
    colony.oxygens = kept["oxygens"].tolist()
    colony.counts = list(kept["counts"])
    colony.oxygen, colony.last_census = _part(Oxygenation, "oxygen", kept), _part(Census, "last_census", kept)


def _part(kind: Any, prefix: str, kept: Arrays) -> Any:
    """An ``Oxygenation`` or ``Census`` of kept arrays; None if there was none."""
    found = {part.name: kept.get(f"{prefix}.{part.name}") for part in fields(kind)}
    if any(values is None for values in found.values()):
        return None
    values = {name: value.item() if value.ndim == 0 else value for name, value in found.items() if value is not None}
    if "before" in values:
        values["before"] = tuple(values["before"].tolist())
    return kind(**values)


def stored_arrays(colonies: Sequence[StoredColony]) -> dict[str, NDArray[Any]]:
    """Cells between two loops as plain arrays, one colony after another."""
    return {
        "cells": np.concatenate([colony.cells.view(np.uint8) for colony in colonies] or [np.empty(0, np.uint8)]),
        "cell_counts": np.array([len(colony.cells) for colony in colonies], np.int64),
        "next_identities": np.array([colony.next_identity for colony in colonies], np.int64),
        "free_volumes": np.array([colony.volume for colony in colonies], np.float64),
        "matrices": np.concatenate([colony.matrix.ravel() for colony in colonies] or [np.empty(0)]),
        "matrix_shapes": np.array([colony.matrix.shape for colony in colonies], np.int64).reshape(-1, 3),
        "traits": np.array([astuple(colony.traits) for colony in colonies], np.float64).reshape(-1, 3),
        "radii": np.array([colony.radii for colony in colonies], np.float64),
    }


def stored_colonies(arrays: Arrays) -> list[StoredColony]:
    """The cells that ``stored_arrays`` kept."""
    cells = arrays["cells"].view(STATE.record)
    ends, grids = np.cumsum(arrays["cell_counts"]), np.cumsum(arrays["matrix_shapes"].prod(axis=1))
    return [
        StoredColony(
            cells[end - count : end].copy(),
            int(identity),
            float(volume),
            arrays["matrices"][grid - shape.prod() : grid].reshape(shape).copy(),
            Traits(int(histology), float(schwann), int(telomeres)),
            radii,
        )
        for end, count, identity, volume, grid, shape, (histology, schwann, telomeres), radii in zip(
            ends, arrays["cell_counts"], arrays["next_identities"], arrays["free_volumes"], grids,
            arrays["matrix_shapes"], arrays["traits"], arrays["radii"], strict=True
        )
    ]  # fmt: skip


SEAL = b"oncoscale sealed 1 "


def write_sealed(path: Path | str, arrays: Arrays) -> None:
    """Arrays as one file that tells when it was damaged. Raises StorageFault when the disk is full."""
    with written_whole(path) as beside, open(beside, "wb") as file:
        file.write(SEAL + b"0" * 64 + b"\n")
        content = _Hashed(file)
        np.savez(content, **arrays)  # type: ignore[arg-type]
        file.seek(len(SEAL))
        file.write(content.digest.hexdigest().encode())


def read_sealed(path: Path | str) -> dict[str, NDArray[Any]]:
    """The arrays of such a file. Raises FileRejected for one that is damaged or absent."""
    try:
        with open(path, "rb") as file:
            head, digest = file.read(len(SEAL) + 65), sha256()
            while block := file.read(1 << 20):
                digest.update(block)
            if head == SEAL + digest.hexdigest().encode() + b"\n":
                file.seek(len(head))
                with np.load(file, allow_pickle=False) as found:
                    return dict(found)
    except FileNotFoundError:
        pass
    raise FileRejected(f"the kept file {Path(path).name!r} is damaged or absent", "a file as it was written",
                       "remove it")  # fmt: skip


class _Hashed:
    """A file that is only written, and hashed on its way."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.digest = file, sha256()

    def write(self, block: Any) -> int:
        self.digest.update(block)
        return self._file.write(block)

    def flush(self) -> None:
        self._file.flush()

    def read(self, size: int = -1) -> bytes:
        """There, because numpy takes what cannot be read for a path."""
        raise OSError(f"this file is written, not read ({size})")
