"""Engines: who runs the cells. One model, several processors; an engine is one file in this folder.

``engine("auto")`` chooses. Every engine advances colonies with the same rules and the same named draws, so all give
the same cells, for any number of threads, any order of colonies, alone or together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast

from ...core import registry
from ...core.errors import ConfigurationRejected
from ...core.gpu import driver
from ..cell_type import CellType
from ..colony import Colony, ColonyOutcome
from ..modes import Mode, Switches
from ..parameters import ParameterSet
from ._arrays import Arrays, ArraysLost, HostArrays

if TYPE_CHECKING:
    from ._plan import Plan

__all__ = ["Arrays", "ArraysLost", "Checkpoints", "Engine", "HostArrays", "Progress", "Watch", "arrays", "engine"]

Progress = Callable[[int, int], None]
"""Called with colony-hours done and colony-hours in all."""

Watch = Callable[[Any], None]
"""Called with a living colony before its first hour and after each: look, do not touch, and copy what you keep, since
its cells live on in the same memory. Colonies that run side by side are watched from their own threads."""


class Checkpoints(Protocol):
    """Where colonies are kept while they live, so that a run which was stopped goes on from there."""

    def resume(self, colony: Any) -> None:
        """Bring a colony that has just settled to the last hour kept of it, if there is one."""

    def due(self, colony: Any) -> bool:
        """Asked after each hour: whether the colony's hour to be kept has come. Its cells may be elsewhere."""

    def note(self, colony: Any) -> None:
        """Keep the colony, whose cells are at hand."""


class Engine(Protocol):
    """What advances cells."""

    name: str

    def advance(
        self,
        colonies: Sequence[Colony],
        *,
        cells: CellType | str = "neuroblastoma",
        hours: int = 336,
        seed: int,
        mode: Mode | Switches = "corrected",
        parameters: ParameterSet | Mapping[str, float] | None = None,
        progress: Progress | None = None,
        threads: int | None = None,
        watch: Watch | None = None,
        checkpoints: Checkpoints | None = None,
    ) -> tuple[ColonyOutcome, ...]:
        """What the colonies do in ``hours``, in their order.

        cells       their type
        seed        of the named draws, in the domain of each colony; names must differ
        mode        corrected, parity, or single switches
        parameters  a parameter set, or values that replace those of version 13.9.4
        threads     colonies advanced at the same time (default: as many as there are processors)
        watch       sees every colony, hour by hour
        checkpoints keeps colonies while they live, and brings back those of a run that was stopped

        Raises ConfigurationRejected for surroundings or parameters outside their range, CellFault when a cell's
        position is no longer finite.
        """

    def plan(
        self, counts: Sequence[int], voxels: Sequence[int], cells: CellType | str = "neuroblastoma"
    ) -> Plan | None:
        """How colonies of so many cells and voxels would be shared out over batches in a memory of the engine's own.

        None: they live in the host's memory, one on each of its threads.
        """


def engine(name: str = "auto") -> Engine:
    """The engine of that name; ``auto`` is ``cuda`` where a device answers and its packages are there, else ``cpu``.

    Raises ConfigurationRejected for a name that is unknown and for an engine that cannot run here.
    """
    if name == "auto":
        try:
            return engine("cuda") if a_device_answers() else engine("cpu")
        except ConfigurationRejected:
            return engine("cpu")
    module: Any = registry.load(__name__, name)
    return cast(Engine, module.make())


def arrays(runner: Engine) -> Arrays | None:
    """Arrays of the processor that an engine runs on, in the memory that its cells live in; None: the host's own.

    An engine may have a method ``arrays``; of the engines here ``cuda`` has.
    """
    hand_out: Callable[[], Arrays | None] = getattr(runner, "arrays", lambda: None)
    return hand_out()


def a_device_answers() -> bool:
    """Whether this machine has a GPU and a driver that is new enough."""
    found = driver()
    return found is not None and found.devices > 0 and found.is_new_enough
