"""A colony while it lives, and its hour, in the order of the model. The one place where cells are mutable."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ...core import chance
from ...core.errors import CellFault
from ..cell import DIVIDES, HOUR, REMOVED, STAYS, Cells, daughters_of, joined
from ..colony import CLASSES, TARGETS, Colony, ColonyOutcome, DrugWindow
from ..modes import Switches
from ..observe import (
    composition_of,
    counts_of,
    moments_of,
    observed_volume,
    occupied_share,
    uncrowded_share,
    vegf_ratio,
)
from ..oxygen import Oxygenation, Population, first_hour, next_hour
from ..parameters import ParameterSet, numbers_of, radii_of
from ..start import Founding, Traits, checked, found, half_edge
from ..voxels import MOST_IN_HISTOGRAM, VOXEL_VOLUME, Grid, expanded, span_of

LARGEST_IDENTITY = 2**32 - 1


@dataclass(frozen=True)
class Census:
    """Counts of one hour, made after relaxation and before any cell acts.

    by_voxel    (6, x, y, z) cells of each class
    uncrowded   (x, y, z) living Schwann cells with nobody beside them
    total, by_class   voxels by number of cells: all cells, and summed over the classes
    vegf        neuroblasts that express VEGF
    """

    by_voxel: NDArray[np.int32]
    uncrowded: NDArray[np.int32]
    total: NDArray[np.int64]
    by_class: NDArray[np.int64]
    vegf: int

    @property
    def counts(self) -> NDArray[np.int64]:
        return np.asarray(self.by_voxel.sum(axis=(1, 2, 3), dtype=np.int64))


@dataclass(frozen=True)
class StoredColony:
    """Cells between two loops: everything that a later loop needs and nothing that depends on the engine."""

    cells: Cells
    next_identity: int
    volume: float
    matrix: Grid
    traits: Traits


@dataclass
class LivingColony:
    """A colony in the hands of an engine.

    half_edge   µm, half the edge of its cube; walls stand at ``wall``
    matrix      (x, y, z) volume fraction of matrix; ``elsewhere`` outside the grid
    hour        hours lived in this loop; ``clock`` hours since the forecast's time 0 at its start
    """

    name: str
    key: tuple[np.uint64, np.uint64]
    cells: Cells
    next_identity: int
    half_edge: float
    matrix: Grid
    elsewhere: float
    clock: int
    drugs: tuple[DrugWindow, ...]
    given_oxygen: float
    switches: Switches
    parameters: ParameterSet
    numbers: NDArray[Any]
    radii: NDArray[np.float64]
    traits: Traits
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
    def wall(self) -> float:
        return self.parameters["boundary_max"] * self.half_edge

    @property
    def time(self) -> int:
        """Hours since the forecast's time 0."""
        return self.clock + self.hour


class Kernels(Protocol):
    """The three loops over cells that an engine provides."""

    def relax(self, colony: LivingColony) -> int:
        """Move the cells until they hardly overlap; set neighbours and overlap; return the number of iterations."""

    def count(self, colony: LivingColony) -> Census:
        """Count the cells into the voxels of the colony's grid."""

    def act(self, colony: LivingColony, shared: NDArray[Any], census: Census, oxygen: Grid) -> None:
        """Every cell lives its hour and writes its own state and fate."""


def empty_census(shape: tuple[int, ...]) -> Census:
    """A census of nobody."""
    bins = MOST_IN_HISTOGRAM + 1
    return Census(
        np.zeros((6, *shape), np.int32),
        np.zeros(shape, np.int32),
        np.zeros(bins, np.int64),
        np.zeros(bins, np.int64),
        0,
    )


def lost_cell(colony: LivingColony) -> CellFault:
    """The error of a colony whose cells cannot be moved: a position or a force is no finite number."""
    cells = colony.cells
    finite = np.isfinite(cells["x"]) & np.isfinite(cells["y"]) & np.isfinite(cells["z"])
    which = "a force" if finite.all() else f"the position of cell {int(cells['identity'][np.argmin(finite)])}"
    return CellFault(f"{which} in colony {colony.name!r} is not finite in hour {colony.time}",
                     "finite positions and forces",
                     "check the mechanical parameters; report the case if they are the released ones")  # fmt: skip


def settle(colony: Colony, *, seed: int, switches: Switches, parameters: ParameterSet) -> LivingColony:
    """A colony ready to live: its stored cells where the mode carries them, else new ones."""
    given = checked(colony.surroundings, colony.name)
    domain = colony.domain or colony.name
    founding = Founding(seed, domain, given, switches, parameters)
    common: dict[str, Any] = {
        "name": colony.name, "key": chance.key(seed, domain), "clock": given.clock, "drugs": given.drugs,
        "given_oxygen": given.oxygen, "switches": switches, "parameters": parameters,
        "numbers": numbers_of(parameters, switches), "radii": radii_of(parameters, switches),
    }  # fmt: skip
    if isinstance(colony.state, StoredColony) and switches.loop_state == "full":
        return _restored(colony.state, given.confinement, common)
    cells, traits = found(founding)
    empty = 1.0 - founding.cellularity
    half = half_edge(given.volume)
    shape = (2 * span_of(half) - 1,) * 3
    living = LivingColony(cells=cells, next_identity=len(cells) + 1, half_edge=half, matrix=np.full(shape, empty),
                          elsewhere=empty, traits=traits, **common)  # fmt: skip
    living.counts.append(counts_of(cells))
    return living


def _restored(stored: StoredColony, confinement: float, common: dict[str, Any]) -> LivingColony:
    """Stored cells, their places scaled to the volume that the tissue leaves them."""
    cells, scale = stored.cells.copy(), float(np.cbrt(confinement))
    for axis in ("x", "y", "z"):
        cells[axis] *= scale
    half = half_edge(stored.volume * confinement)
    outermost = max(half, *(float(np.abs(cells[axis]).max(initial=0.0)) for axis in ("x", "y", "z")))
    size = 2 * span_of(outermost) - 1
    matrix = _scaled(stored.matrix, (size,) * 3, scale)
    living = LivingColony(cells=cells, next_identity=stored.next_identity, half_edge=half, matrix=matrix,
                          elsewhere=float(matrix.mean()), traits=stored.traits, **common)  # fmt: skip
    living.counts.append(counts_of(cells))
    return living


def _scaled(matrix: Grid, shape: tuple[int, int, int], scale: float) -> Grid:
    """The matrix seen on a grid whose points lie ``scale`` times farther out (nearest old voxel)."""
    places = []
    for size, old in zip(shape, matrix.shape, strict=True):
        centres = (np.arange(size) - (size - 1) / 2) / scale + (old - 1) / 2
        places.append(np.clip(np.rint(centres), 0, old - 1).astype(int))
    return np.ascontiguousarray(matrix[np.ix_(*places)])


def live_one_hour(colony: LivingColony, kernels: Kernels) -> None:
    """One hour: relax, count, lay down matrix, breathe, act; then births and removals."""
    iterations = kernels.relax(colony)
    colony.iterations += iterations
    colony.cell_iterations += iterations * len(colony.cells)
    fit_grid(colony)
    census = kernels.count(colony)
    lay_down_matrix(colony, census)
    measure_volume(colony, census)
    breathe(colony, census)
    assert colony.oxygen is not None
    kernels.act(colony, shared_hour(colony, census), census, colony.oxygen.field)
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


def lay_down_matrix(colony: LivingColony, census: Census) -> None:
    """Uncrowded Schwann cells lay down matrix, from the second hour on."""
    if colony.hour == 0:
        return
    colony.matrix += census.uncrowded * (colony.parameters["P_matrix"] / VOXEL_VOLUME)
    if colony.switches.ecm_cap == "capped":
        np.minimum(colony.matrix, colony.parameters["matrix_most"], out=colony.matrix)
    if colony.switches.ecm_expand == "preserve":
        colony.elsewhere = float(colony.matrix.mean())


def measure_volume(colony: LivingColony, census: Census) -> None:
    """The volume observable, from all cells together and summed over the classes."""
    cellularity = 1.0 - float(colony.matrix.mean())
    rho = colony.parameters["rho"]
    colony.volumes.append(
        (observed_volume(census.total, cellularity, rho), observed_volume(census.by_class, cellularity, rho))
    )


def breathe(colony: LivingColony, census: Census) -> None:
    """Oxygen of this hour."""
    counts = census.counts
    cellularity = 1.0 - float(colony.matrix.mean())
    cells = Population(
        living=census.by_voxel[0] + census.by_voxel[3],
        occupied=occupied_share(census.by_voxel.sum(axis=0), cellularity, colony.parameters["rho"]),
        volume=colony.volumes[-1][0], neuroblasts=int(counts[0]),
        schwann=int(counts[3]), all_cells=int(counts.sum()), vegf=census.vegf,
    )  # fmt: skip
    if colony.oxygen is None:
        colony.oxygen = first_hour(colony.given_oxygen, cells, colony.switches, colony.parameters)
    else:
        colony.oxygen = next_hour(colony.oxygen, cells, colony.switches, colony.parameters)
    colony.oxygens.append(colony.oxygen.mean)


def shared_hour(colony: LivingColony, census: Census) -> NDArray[Any]:
    """(1,) array of HOUR: the drug of this hour and the shares of living cells in the colony."""
    shared = np.zeros(1, HOUR)
    clock = colony.time if colony.switches.chemo_clock == "absolute" else colony.hour
    effects = drug_at(colony.drugs, clock)
    for target, effect in zip(TARGETS, effects, strict=True):
        shared[f"drug_on_{target}"] = effect
    shared["drug_mean"] = sum(effects) / len(effects)
    neuroblasts, schwann = int(census.counts[0]), int(census.counts[3])
    if neuroblasts + schwann:
        shared["schwann_share"] = schwann / (neuroblasts + schwann)
        shared["neuroblast_share"] = neuroblasts / (neuroblasts + schwann)
    return shared


def drug_at(windows: tuple[DrugWindow, ...], clock: float) -> tuple[float, ...]:
    """Effects of the first window that is open; zeros without one."""
    for window in windows:
        if window.start <= clock < window.end:
            return window.effects
    return (0.0,) * len(TARGETS)


def renew(colony: LivingColony) -> None:
    """Remove the cleared, add the daughters in the order of their mothers; identities are never reused."""
    cells = colony.cells
    dividing, removed = cells["fate"] == DIVIDES, cells["fate"] == REMOVED
    cells["fate"] = STAYS
    if not (dividing.any() or removed.any()):
        return
    mothers = cells[dividing]
    daughters = daughters_of(mothers, colony.next_identity)
    colony.next_identity += len(daughters)
    if colony.next_identity > LARGEST_IDENTITY:
        raise CellFault(f"colony {colony.name!r} ran out of identities in hour {colony.time}",
                        f"at most {LARGEST_IDENTITY} cells ever born", "choose a smaller volume")  # fmt: skip
    distance = float(colony.numbers["daughter_distance"][0])
    for axis in ("x", "y", "z"):
        daughters[axis] = mothers[axis] + distance * mothers[f"axis_{axis}"]
    colony.births += np.bincount(mothers["kind"], minlength=2)
    colony.cleared += counts_of(cells[removed])
    colony.cells = joined(cells, ~removed, daughters)


def outcome_of(colony: LivingColony) -> ColonyOutcome:
    """What the colony did, for the tissue and for the record."""
    counts = np.array(colony.counts)
    present = counts[-1]
    ecm = float(colony.matrix.mean())
    ratios = _volume_ratios(colony) if present.sum() else (float("nan"), float("nan"))
    chosen = 0 if colony.switches.volume_observable == "total_histogram" else 1
    assert colony.oxygen is not None
    return ColonyOutcome(
        name=colony.name,
        volume_ratio=ratios[chosen],
        composition=composition_of(present, ecm),
        ecm=ecm,
        oxygen=colony.oxygen.mean,
        cell_count=int(present.sum()),
        counts=counts,
        moments=moments_of(colony.cells),
        state=_stored(colony, ratios[0]),
        extra=_extra(colony, ratios),
    )


def _volume_ratios(colony: LivingColony) -> tuple[float, float]:
    """V_end / V_start by both observables; V_end takes the final matrix."""
    assert colony.last_census is not None
    cellularity, rho = 1.0 - float(colony.matrix.mean()), colony.parameters["rho"]
    histograms = (colony.last_census.total, colony.last_census.by_class)
    total, by_class = (
        observed_volume(histogram, cellularity, rho) / start if start > 0 else float("nan")
        for histogram, start in zip(histograms, colony.volumes[0], strict=True)
    )
    return total, by_class


def _stored(colony: LivingColony, ratio: float) -> StoredColony:
    """The cells for a later loop.

    ASSUMED: the volume that they took freely is the cube's, times the growth of the observed volume.
    """
    grown = ratio if np.isfinite(ratio) and ratio > 0 else 1.0
    volume = (2 * colony.half_edge) ** 3 * 1e-9 * grown
    return StoredColony(colony.cells.copy(), colony.next_identity, volume, colony.matrix.copy(), colony.traits)


def _extra(colony: LivingColony, ratios: tuple[float, float]) -> dict[str, Any]:
    finite = [ratio if np.isfinite(ratio) else None for ratio in ratios]
    first = colony.volumes[0][0]
    return {
        "cube_edge_mm": 2e-3 * colony.half_edge,
        "total_volume_ratio": finite[0],
        "primage_volume_ratio": finite[1],
        "volume_start_mm3": first,
        "primage_volume_start_mm3": colony.volumes[0][1],
        "volume_end_mm3": colony.volumes[-1][0],
        "primage_volume_end_mm3": colony.volumes[-1][1],
        "hourly_volume_ratio": [total / first if first > 0 else None for total, _ in colony.volumes],
        "hourly_oxygen": list(colony.oxygens),
        "histology": colony.traits.histology,
        "theta": colony.traits.schwann_fraction,
        "telomere_class": colony.traits.telomere_class,
        "births": dict(zip(("NB", "SC"), (int(born) for born in colony.births), strict=True)),
        "cleared": dict(zip(CLASSES, (int(gone) for gone in colony.cleared), strict=True)),
        "uncrowded": dict(uncrowded_share(colony.cells, colony.parameters["N_neighbours"])),
        "ratio_VEGF_NB_SC": vegf_ratio(colony.cells, colony.counts[-1]),
        "mechanics_iterations": colony.iterations,
        "cell_iterations": colony.cell_iterations,
        "mode": colony.switches.mode,
        "version": colony.parameters.version,
    }
