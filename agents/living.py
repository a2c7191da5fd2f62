"""A colony while it lives, and its hour: the one place where cells are mutable.

Relaxation, counting, births and removals are the same for every type of cell. What else an hour holds (matrix,
oxygen, drugs …) is the ground of the type: ``CellType.prepare``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..core.errors import CellFault
from .cell import DIVIDES, REMOVED, STAYS, Cells, close_up, lengthened
from .colony import DrugWindow
from .modes import Switches
from .observe import counts_of
from .oxygen import Oxygenation
from .parameters import ParameterSet
from .voxels import MOST_IN_HISTOGRAM, Grid, expanded, histograms, span_of

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

    @property
    def time(self) -> int:
        """Hours since the forecast's time 0."""
        return self.clock + self.hour


class Kernels(Protocol):
    """The three loops over cells that an engine provides."""

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


def live_one_hour(colony: LivingColony, kernels: Kernels, parts: Any = None) -> None:
    """One hour: relax, count, prepare the ground, act; then births and removals.

    parts  how an engine splits the colony over threads (None: it does not)
    """
    shares = () if parts is None else (parts,)
    iterations = kernels.relax(colony, *shares)
    colony.iterations += iterations
    colony.cell_iterations += iterations * len(colony.cells)
    fit_grid(colony)
    census = kernels.count(colony)
    shared, oxygen = colony.cell_type.prepare(colony, census)
    kernels.act(colony, shared, census, oxygen, *shares)
    renew(colony)
    colony.last_census = census
    colony.hour += 1
    colony.counts.append(counts_of(colony.cells))


def fit_grid(colony: LivingColony) -> None:
    """Enough voxels for all cells; the grid never shrinks."""
    if len(colony.cells) == 0:
        return
    shape = []
    for axis, size in zip(("x", "y", "z"), colony.matrix.shape, strict=True):
        outermost = max(float(colony.cells[axis].max()), -float(colony.cells[axis].min()))
        shape.append(max(size, 2 * span_of(outermost) - 1))
    if tuple(shape) == colony.matrix.shape:
        return
    if colony.switches.ecm_expand == "reset_all":
        colony.matrix = np.full(shape, colony.elsewhere)
    else:
        colony.matrix = expanded(colony.matrix, (shape[0], shape[1], shape[2]), float(colony.matrix.mean()))


def renew(colony: LivingColony) -> None:
    """Remove the cleared, add the daughters in the order of their mothers; identities are never reused."""
    cells = colony.cells
    dividing, removed = cells["fate"] == DIVIDES, cells["fate"] == REMOVED
    cells["fate"] = STAYS
    if not (dividing.any() or removed.any()):
        return
    mothers = cells[dividing]
    daughters = colony.cell_type.state.daughters(mothers, colony.next_identity)
    colony.next_identity += len(daughters)
    if colony.next_identity > LARGEST_IDENTITY:
        raise CellFault(f"colony {colony.name!r} ran out of identities in hour {colony.time}",
                        f"at most {LARGEST_IDENTITY} cells ever born", "choose a smaller volume")  # fmt: skip
    distance = float(colony.numbers["daughter_distance"][0])
    for axis in ("x", "y", "z"):
        daughters[axis] = mothers[axis] + distance * mothers[f"axis_{axis}"]
    colony.births += np.bincount(mothers["kind"], minlength=2)
    colony.cleared += counts_of(cells[removed])
    held = close_up(cells, ~removed)
    colony.cells = lengthened(cells, held + len(daughters))
    colony.cells[held:] = daughters
