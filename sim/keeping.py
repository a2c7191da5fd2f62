"""A forecast kept while it is made: stopped anywhere, it goes on from there and ends in the same bits.

Each run of a forecast (the forecast, its members, each changed input) has a folder. The tissue is kept at the end of
every macro step; within a step every colony is kept at its end, and long-lived ones on their way. Nothing that was
finished is simulated again. Files are sealed (``agents.checkpoint``): a damaged one is told of and made anew.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..agents.checkpoint import FolderCheckpoints, read_sealed, stored_arrays, stored_colonies, write_sealed
from ..agents.living import LivingColony
from ..core.errors import ConfigurationRejected, FileRejected
from ..meshing.mesh import TumourMesh
from .equilibrium import Equilibrium
from .forecast import MacroStep, Representative
from .state import TissueState

PATIENCE_S = 5.0
"""Seconds between two keepings of one colony on its way: those that finish sooner are kept at their end alone."""

FIELDS = ("displacement", "stretch", "composition", "supply", "delivery", "oxygen", "mean_stress", "von_mises")
"""Arrays of a ``TissueState`` that a macro step changes."""

OPTIONAL = ("fluid_pressure", "drug", "exposure", "allotment", "mixture_at_start")
"""Arrays of a ``TissueState`` that a macro step changes if they were asked for."""

BORDERLESS = ("density", "visible")
"""Arrays of the ``TissueState`` of a tumour without a border; its reference mesh is labelled anew by each step."""

REMESHED = ("carried", "remembered", "grown", "pulled")
"""Arrays of a ``TissueState`` that has left the mesh of the images; its reference is then kept too."""

GIVEN = ("dose", "ktrans", "ve")
"""Arrays of a ``TissueState`` that time 0 knows, on the mesh of the images; kept beside REMESHED on another."""

SOLVED = ("displacement", "pressure", "stretch", "relaxed", "elastic_jacobian", "elastic", "stress", "pull")
"""Arrays of an ``Equilibrium``."""

ENERGIES = ("strain_energy", "spring_energy", "residual")
"""Numbers of an ``Equilibrium``."""


@dataclass(frozen=True)
class KeptForecast:
    """The folder of a forecast that is being made.

    identity  of what determines its result; a folder of another identity is refused
    every     h of the cells between two keepings of a colony on its way
    say       told in a sentence when something kept cannot be used
    """

    folder: Path
    identity: str
    every: int = 24
    say: Callable[[str], None] = lambda words: None

    def run(self, number: int) -> KeptRun:
        """One run of it, by its place in the order of runs."""
        return KeptRun(self.folder / f"run-{number}", self.identity, self.every, self.say)

    def is_begun(self) -> bool:
        """Whether anything is kept."""
        return any(self.folder.glob("run-*"))

    def remove(self) -> None:
        """Forget everything: the forecast is done, or nobody may go on with it."""
        for run in self.folder.glob("run-*"):
            shutil.rmtree(run, ignore_errors=True)
        with suppress(OSError):  # the folder was never made, or holds something that is not ours
            self.folder.rmdir()


@dataclass(frozen=True)
class KeptRun:
    """The folder of one run: see ``KeptForecast``."""

    folder: Path
    identity: str
    every: int
    say: Callable[[str], None]

    def colonies(self, hours: int) -> KeptColonies:
        """Where the engine keeps the colonies of a macro step of so many hours; one tried at half length is another."""
        return KeptColonies(FolderCheckpoints(self.folder / f"{hours}-hours", every=1, say=self.say), hours, self.every)

    def read(self, number: int, start: TissueState) -> tuple[TissueState, MacroStep] | None:
        """The tissue at the end of that macro step and what happened in it; None if it must be made.

        start  the tissue at time 0

        Raises ConfigurationRejected when what is kept belongs to another run.
        """
        if not self._path(number).exists():
            return None
        try:
            kept = read_sealed(self._path(number))
        except FileRejected as error:
            self.say(f"Macro step {number} is made again: {error.found}.")
            return None
        if str(kept["identity"]) != self.identity:
            raise ConfigurationRejected(
                f"what is kept in folder {self.folder.parent.name!r} belongs to another run",
                "the same study, settings, seed and version of the program",
                "remove that folder, or choose another --out",
            )
        try:
            return _state(kept, start), _step(kept)
        except (KeyError, TypeError):
            self.say(f"Macro step {number} is made again: another version of the program kept it.")
            return None

    def write(self, number: int, state: TissueState, step: MacroStep) -> None:
        """Keep the end of a macro step; its colonies are part of it. Raises StorageFault when the disk is full."""
        write_sealed(
            self._path(number),
            {"identity": np.array(self.identity), **_state_arrays(state), **_step_arrays(step)},
        )
        for file in self.folder.glob("*/*.colony"):
            file.unlink(missing_ok=True)

    def _path(self, number: int) -> Path:
        return self.folder / f"step-{number}.tissue"


@dataclass
class KeptColonies:
    """``Checkpoints`` of the colonies of one macro step.

    files  keeps a colony whenever it is told to
    hours  that each colony lives
    every  h between two keepings on the way, at least PATIENCE_S apart
    """

    files: FolderCheckpoints
    hours: int
    every: int
    _seen: dict[str, float] = field(default_factory=dict)

    def resume(self, colony: LivingColony) -> None:
        """Bring a colony that has just settled to its last hour kept."""
        self.files.resume(colony)
        self._seen[colony.name] = monotonic()

    def due(self, colony: LivingColony) -> bool:
        """At its last hour, and on its way when its hour has come and some time has passed."""
        on_its_way = colony.hour % self.every == 0 and monotonic() - self._seen[colony.name] >= PATIENCE_S
        return on_its_way or colony.hour == self.hours

    def note(self, colony: LivingColony) -> None:
        """Keep the colony."""
        self.files.note(colony)
        self._seen[colony.name] = monotonic()


def _state_arrays(state: TissueState) -> dict[str, NDArray[Any]]:
    elements = list(state.colonies)
    borderless = {} if state.visible is None else {"region": state.reference.region, **_borderless(state)}
    solved: Equilibrium = state.equilibrium
    return {
        "day": np.array(state.day),
        **borderless,
        **_remeshed(state),
        **{name: getattr(state, name) for name in FIELDS},
        **{name: value for name in OPTIONAL if (value := getattr(state, name)) is not None},
        **{f"equilibrium.{name}": getattr(solved, name) for name in SOLVED},
        **{f"equilibrium.{name}": np.array(getattr(solved, name)) for name in ENERGIES},
        "moments": np.array(json.dumps({str(element): moments for element, moments in state.moments.items()})),
        "colonies.elements": np.array(elements, np.int64),
        "rooms": np.array([state.rooms.get(element, 1.0) for element in elements]),
        **{
            f"colonies.{name}": values
            for name, values in stored_arrays([state.colonies[element] for element in elements]).items()
        },
    }


def _remeshed(state: TissueState) -> dict[str, NDArray[Any]]:
    if state.remembered is None:
        return {}
    mesh = state.reference
    told = {
        "mesher": mesh.mesher,
        "report": dict(mesh.report),
        "names": {str(n): w for n, w in mesh.region_names.items()},
    }
    return {
        **{name: np.asarray(getattr(state, name)) for name in REMESHED},
        **{name: value for name in GIVEN if (value := getattr(state, name)) is not None},
        "mesh": np.array(json.dumps(told)),
        "mesh.points": mesh.points,
        "mesh.tetrahedra": mesh.tetrahedra,
        "mesh.region": mesh.region,
    }


def _mesh(kept: Mapping[str, NDArray[Any]], start: TumourMesh) -> TumourMesh:
    told = json.loads(str(kept["mesh"]))
    return replace(
        start,
        points=kept["mesh.points"],
        tetrahedra=kept["mesh.tetrahedra"],
        region=kept["mesh.region"],
        region_names={int(number): name for number, name in told["names"].items()},
        mesher=told["mesher"],
        report=told["report"],
    )


def _borderless(state: TissueState) -> dict[str, NDArray[Any]]:
    return {name: np.asarray(getattr(state, name)) for name in BORDERLESS}


def _state(kept: Mapping[str, NDArray[Any]], start: TissueState) -> TissueState:
    stored = {name.removeprefix("colonies."): values for name, values in kept.items() if name.startswith("colonies.")}
    fields: dict[str, Any] = {name: kept[name] for name in (*FIELDS, *OPTIONAL) if name in kept}
    if "region" in kept:
        fields |= {name: kept[name] for name in BORDERLESS}
        fields["reference"] = replace(start.reference, region=kept["region"])
    if "mesh" in kept:
        fields |= {name: kept[name] for name in (*REMESHED, *GIVEN) if name in kept}
        fields["reference"] = _mesh(kept, start.reference)
    solved: dict[str, Any] = {name: kept[f"equilibrium.{name}"] for name in SOLVED}
    energies: dict[str, Any] = {name: float(kept[f"equilibrium.{name}"]) for name in ENERGIES}
    moments = json.loads(str(kept["moments"]))
    return replace(
        start,
        day=float(kept["day"]),
        **fields,
        equilibrium=Equilibrium(**solved, **energies, increments=()),
        moments={int(element): {name: tuple(pair) for name, pair in of.items()} for element, of in moments.items()},
        colonies=dict(zip(stored["elements"].tolist(), stored_colonies(stored), strict=True)),
        rooms=dict(zip(stored["elements"].tolist(), kept["rooms"].tolist(), strict=True)),
    )


def _step_arrays(step: MacroStep) -> dict[str, NDArray[Any]]:
    account = {name: value for name, value in vars(step).items() if name != "representatives"}
    chosen = [{name: value for name, value in vars(one).items() if name != "counts"} for one in step.representatives]
    return {
        "step": np.array(json.dumps(account)),
        "representatives": np.array(json.dumps(chosen)),
        "counts": np.array([one.counts for one in step.representatives], np.int64),
    }


def _step(kept: Mapping[str, NDArray[Any]]) -> MacroStep:
    account = json.loads(str(kept["step"]))
    chosen = json.loads(str(kept["representatives"]))
    return MacroStep(
        **{**account, "notes": tuple(account["notes"])},
        representatives=tuple(
            Representative(**one, counts=counts) for one, counts in zip(chosen, kept["counts"], strict=True)
        ),
    )
