"""The ground that neuroblasts and Schwann cells stand on, hour by hour: the element's matrix, oxygen and drugs.

How a colony starts in its element, what is prepared for its cells before they act, and what it tells the tissue.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core import chance
from .cell import Cells
from .cell_type import CellType
from .colony import CLASSES, TARGETS, Colony, ColonyOutcome, DrugWindow
from .living import Census, LivingColony
from .modes import Switches
from .neuroblast import HOUR
from .observe import (
    composition_of,
    counts_of,
    moments_of,
    observed_volume,
    occupied_share,
    uncrowded_share,
    vegf_ratio,
)
from .oxygen import Population, first_hour, next_hour
from .parameters import ParameterSet, numbers_of, radii_of
from .start import Founding, Traits, checked, found, half_edge
from .voxels import VOXEL_VOLUME, Grid, span_of


@dataclass(frozen=True)
class StoredColony:
    """Cells between two loops: everything that a later loop needs and nothing that depends on the engine.

    radii  µm by completed hours of the cycle
    """

    cells: Cells
    next_identity: int
    volume: float
    matrix: Grid
    traits: Traits
    radii: NDArray[np.float64]


def settle(
    cell_type: CellType, colony: Colony, seed: int, switches: Switches, parameters: ParameterSet
) -> LivingColony:
    """A colony ready to live: its stored cells where the mode carries them, else new ones."""
    given = checked(colony.surroundings, colony.name)
    domain = colony.domain or colony.name
    founding = Founding(seed, domain, given, switches, parameters)
    common: dict[str, Any] = {
        "cell_type": cell_type, "name": colony.name, "key": chance.key(seed, domain), "clock": given.clock,
        "drugs": given.drugs, "radiation": given.radiation,
        "given_oxygen": given.oxygen, "switches": switches, "parameters": parameters,
        "numbers": numbers_of(parameters, switches), "radii": radii_of(parameters, switches),
    }  # fmt: skip
    if isinstance(colony.state, StoredColony) and switches.loop_state == "full":
        return _restored(colony.state, given.confinement, common)
    cells, traits = found(founding)
    empty = 1.0 - founding.cellularity
    half = half_edge(given.volume)
    shape = (2 * span_of(half) - 1,) * 3
    living = LivingColony(cells=cells, next_identity=len(cells) + 1, half_edge=half,
                          wall=parameters["boundary_max"] * half, matrix=np.full(shape, empty),
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
    living = LivingColony(cells=cells, next_identity=stored.next_identity, half_edge=half,
                          wall=common["parameters"]["boundary_max"] * half, matrix=matrix,
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


def prepare(colony: LivingColony, census: Census) -> tuple[NDArray[Any], Grid]:
    """What the cells share in this hour, and oxygen by voxel: matrix is laid down, then the colony breathes."""
    lay_down_matrix(colony, census)
    measure_volume(colony, census)
    breathe(colony, census)
    assert colony.oxygen is not None
    return shared_hour(colony, census), colony.oxygen.field


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
        schwann=int(counts[3]), all_cells=int(counts.sum()), vegf=census.signalling,
    )  # fmt: skip
    if colony.oxygen is None:
        colony.oxygen = first_hour(colony.given_oxygen, cells, colony.switches, colony.parameters)
    else:
        colony.oxygen = next_hour(colony.oxygen, cells, colony.switches, colony.parameters)
    colony.oxygens.append(colony.oxygen.mean)


def shared_hour(colony: LivingColony, census: Census) -> NDArray[Any]:
    """(1,) array of HOUR: drug and radiation of this hour, and the shares of living cells in the colony."""
    shared = np.zeros(1, HOUR)
    clock = colony.time if colony.switches.chemo_clock == "absolute" else colony.hour
    effects = drug_at(colony.drugs, clock)
    for target, effect in zip(TARGETS, effects, strict=True):
        shared[f"drug_on_{target}"] = effect
    shared["drug_mean"] = sum(effects) / len(effects)
    for fraction in colony.radiation:
        if math.floor(fraction.hour) == colony.time:
            shared["dose_linear"] += fraction.linear
            shared["dose_quadratic"] += fraction.quadratic
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
    return StoredColony(colony.cells, colony.next_identity, volume, colony.matrix.copy(), colony.traits, colony.radii)


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
