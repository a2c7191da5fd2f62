"""A colony while it lives, and its hour: the one place where cells are mutable.

Relaxation, counting, births and removals are the same for every type of cell. What else an hour holds (matrix,
oxygen, drugs …) is the ground of the type: ``CellType.prepare``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..core.errors import CellFault
from .cell import DIVIDES, REMOVED, STAYS, Cells, close_up, lengthened
from .colony import DrugWindow, Irradiation
from .modes import Switches
from .observe import counts_of
from .oxygen import Oxygenation
from .parameters import ParameterSet
from .voxels import MOST_IN_HISTOGRAM, Grid, Shape, expanded, histograms, span_of

if TYPE_CHECKING:
    from .cell_type import CellType

LARGEST_IDENTITY = 2**32 - 1


@dataclass(frozen=True)
class Census:
    """Counts of one hour, made after relaxation and before any cell acts.

    by_voxel    (6, x, y, z) cells of each class
    uncrowded   (x, y, z) living cells of the second kind with nobody beside them
    total, by_class   voxels by number of cells: all cells, and summed over the classes
    signalling  cells that signal (``CellType.signals``)
    """

    by_voxel: NDArray[np.int32]
    uncrowded: NDArray[np.int32]
    total: NDArray[np.int64]
    by_class: NDArray[np.int64]
    signalling: int = 0

    @property
    def counts(self) -> NDArray[np.int64]:
        return np.asarray(self.by_voxel.sum(axis=(1, 2, 3), dtype=np.int64))


@dataclass
class LivingColony:
    """A colony in the hands of an engine.

    half_edge   µm, half the edge of its cube; walls stand ``wall`` µm from its centre
    matrix      (x, y, z) volume fraction of matrix; ``elsewhere`` outside the grid
    hour        hours lived in this loop; ``clock`` hours since the forecast's time 0 at its start
    engine      who lives its hours: recorded with what is kept, never compared
    """

    cell_type: CellType
    name: str
    key: tuple[np.uint64, np.uint64]
    cells: Cells
    next_identity: int
    half_edge: float
    wall: float
    matrix: Grid
    elsewhere: float
    clock: int
    drugs: tuple[DrugWindow, ...]
    given_oxygen: float
    switches: Switches
    parameters: ParameterSet
    numbers: NDArray[Any]
    radii: NDArray[np.float64]
    traits: Any = None
    oxygen: Oxygenation | None = None
    hour: int = 0
    volumes: list[tuple[float, float]] = field(default_factory=list)
    oxygens: list[float] = field(default_factory=list)
    counts: list[NDArray[np.int64]] = field(default_factory=list)
    births: NDArray[np.int64] = field(default_factory=lambda: np.zeros(2, np.int64))
    cleared: NDArray[np.int64] = field(default_factory=lambda: np.zeros(6, np.int64))
    iterations: int = 0
    cell_iterations: int = 0
    last_census: Census | None = None
    engine: str = ""
    radiation: tuple[Irradiation, ...] = ()

    @property
    def time(self) -> int:
        """Hours since the forecast's time 0."""
        return self.clock + self.hour


class Kernels(Protocol):
    """The three loops over cells that an engine provides."""

    name: str

    def relax(self, colony: LivingColony, parts: Any = ...) -> int:
        """Move the cells until they hardly overlap; set neighbours and overlap; return the number of iterations."""

    def count(self, colony: LivingColony) -> Census:
        """Count the cells into the voxels of the colony's grid."""

    def act(self, colony: LivingColony, shared: NDArray[Any], census: Census, oxygen: Grid, parts: Any = ...) -> None:
        """Every cell lives its hour and writes its own state and fate."""


def census_of(
    shape: tuple[int, ...], counts: NDArray[np.int32], uncrowded: NDArray[np.int32], signalling: int
) -> Census:
    """The census of cells that were counted into flat voxels of a grid of this shape (``voxels.count_cells``)."""
    return Census(counts.reshape(6, *shape), uncrowded.reshape(shape), *histograms(counts), signalling)


def empty_census(shape: tuple[int, ...]) -> Census:
    """A census of nobody."""
    bins = np.zeros(MOST_IN_HISTOGRAM + 1, np.int64)
    return Census(np.zeros((6, *shape), np.int32), np.zeros(shape, np.int32), bins, bins.copy())


def lost_cell(colony: LivingColony) -> CellFault:
    """The error of a colony whose cells cannot be moved: a position or a force is no finite number."""
    cells = colony.cells
    finite = np.isfinite(cells["x"]) & np.isfinite(cells["y"]) & np.isfinite(cells["z"])
    which = "a force" if finite.all() else f"the position of cell {int(cells['identity'][np.argmin(finite)])}"
    return CellFault(f"{which} in colony {colony.name!r} is not finite in hour {colony.time}",
                     "finite positions and forces",
                     "check the mechanical parameters; report the case if they are the released ones")  # fmt: skip


class Hour(Protocol):
    """The parts of an hour, for one colony or for many that live it together."""

    def relax(self) -> None:
        """Cells push each other apart."""

    def count(self) -> None:
        """The grid is fitted to the cells, and they are counted into it."""

    def prepare(self) -> None:
        """The ground that the cells share: ``CellType.prepare``."""

    def act(self) -> None:
        """Every cell lives by its rules."""

    def renew(self) -> None:
        """Removals and births; then the hour is over."""


def live_through(hour: Hour) -> None:
    """The one order of an hour's parts."""
    hour.relax()
    hour.count()
    hour.prepare()
    hour.act()
    hour.renew()


def live_one_hour(colony: LivingColony, kernels: Kernels, parts: Any = None) -> None:
    """One hour of one colony.

    parts  how an engine splits the colony over threads (None: it does not)
    """
    live_through(_Alone(colony, kernels, () if parts is None else (parts,)))


class _Alone:
    """An hour of one colony, whose cells are at hand."""

    census: Census
    shared: NDArray[Any]
    oxygen: Grid

    def __init__(self, colony: LivingColony, kernels: Kernels, parts: tuple[Any, ...]) -> None:
        self.colony, self.kernels, self.parts = colony, kernels, parts

    def relax(self) -> None:
        relaxed(self.colony, self.kernels.relax(self.colony, *self.parts), len(self.colony.cells))

    def count(self) -> None:
        fit_grid(self.colony)
        self.census = self.kernels.count(self.colony)

    def prepare(self) -> None:
        self.shared, self.oxygen = self.colony.cell_type.prepare(self.colony, self.census)

    def act(self) -> None:
        self.kernels.act(self.colony, self.shared, self.census, self.oxygen, *self.parts)

    def renew(self) -> None:
        renew(self.colony)
        aged(self.colony, self.census, counts_of(self.colony.cells))


def relaxed(colony: LivingColony, iterations: int, cells: int) -> None:
    """Add up the steps of mechanics."""
    colony.iterations += iterations
    colony.cell_iterations += iterations * cells


def aged(colony: LivingColony, census: Census, counts: NDArray[np.int64]) -> None:
    """The hour is over; ``counts`` of the cells that are there now, by class."""
    colony.last_census = census
    colony.hour += 1
    colony.counts.append(counts)


def fit_grid(colony: LivingColony) -> None:
    """Enough voxels for all cells; the grid never shrinks."""
    if len(colony.cells):
        axes = [colony.cells[axis] for axis in ("x", "y", "z")]
        widen(colony, shape_for(colony, [max(float(axis.max()), -float(axis.min())) for axis in axes]))


def shape_for(colony: LivingColony, outermost: Sequence[float]) -> Shape:
    """Voxels on each axis for cells up to so many µm out, no fewer than there are."""
    x, y, z = (max(size, 2 * span_of(far) - 1) for size, far in zip(colony.matrix.shape, outermost, strict=True))
    return x, y, z


def widen(colony: LivingColony, shape: Shape) -> None:
    """A larger grid; its new voxels hold as much matrix as the old ones on average."""
    if shape == colony.matrix.shape:
        return
    if colony.switches.ecm_expand == "reset_all":
        colony.matrix = np.full(shape, colony.elsewhere)
    else:
        colony.matrix = expanded(colony.matrix, shape, float(colony.matrix.mean()))


def renew(colony: LivingColony) -> None:
    """Remove the cleared, add the daughters in the order of their mothers; identities are never reused."""
    cells = colony.cells
    dividing, removed = cells["fate"] == DIVIDES, cells["fate"] == REMOVED
    cells["fate"] = STAYS
    if not (dividing.any() or removed.any()):
        return
    mothers = cells[dividing]
    daughters = colony.cell_type.state.daughters(mothers, give_identities(colony, len(mothers)))
    distance = float(colony.numbers["daughter_distance"][0])
    for axis in ("x", "y", "z"):
        daughters[axis] = mothers[axis] + distance * mothers[f"axis_{axis}"]
    colony.births += np.bincount(mothers["kind"], minlength=2)
    colony.cleared += counts_of(cells[removed])
    held = close_up(cells, ~removed)
    colony.cells = lengthened(cells, held + len(daughters))
    colony.cells[held:] = daughters


def give_identities(colony: LivingColony, daughters: int) -> int:
    """The first identity of so many daughters. Raises CellFault when the colony runs out of them."""
    first = colony.next_identity
    colony.next_identity += daughters
    if colony.next_identity > LARGEST_IDENTITY:
        raise CellFault(f"colony {colony.name!r} ran out of identities in hour {colony.time}",
                        f"at most {LARGEST_IDENTITY} cells ever born", "choose a smaller volume")  # fmt: skip
    return first
