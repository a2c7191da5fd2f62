"""What is read off a colony: volume, moments, composition."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from .cell import Cells
from .neuroblast import NEUROBLAST, SCHWANN
from .start import MOMENTS
from .voxels import VOXEL_VOLUME


def observed_volume(histogram: NDArray[np.int64], cellularity: float, rho: float) -> float:
    """Volume (mm³) that the cells occupy, from how many voxels hold how many cells.

    A voxel counts as full when it holds as many cells as tissue of this cellularity does, and in proportion below
    [PRIMAGE neuroblastoma model 13.9.4]. Biased low in absolute terms: use ratios only.

    histogram    (k + 1,) voxels with 0, 1, …, k cells
    cellularity  volume fraction of all cells
    rho          cells per µm³ of cells
    """
    full = rho * VOXEL_VOLUME * cellularity
    filled = math.fsum(
        float(voxels) * (cells / full if cells < full else 1.0)
        for cells, voxels in enumerate(histogram)
        if voxels and cells
    )
    return VOXEL_VOLUME * 1e-9 * filled


def occupied_share(cells: NDArray[np.int64], cellularity: float, rho: float) -> NDArray[np.float64]:
    """Share of each voxel that its ``cells`` occupy, as ``observed_volume`` weighs it."""
    full = rho * VOXEL_VOLUME * cellularity
    return np.asarray(np.minimum(cells / full, 1.0))


def moments_of(cells: Cells) -> dict[str, tuple[float, float]]:
    """Mean and population sd of the carried state variables over living cells of their kind; 0 of none."""
    alive = ~(cells["apop"] | cells["necro"])
    found = {}
    for name, (kind, variable) in MOMENTS.items():
        values = cells[variable][alive & (cells["kind"] == kind)].astype(float)
        found[name] = (float(values.mean()), float(values.std())) if len(values) else (0.0, 0.0)
    return found


def composition_of(counts: NDArray[np.int64], ecm: float) -> tuple[float, float, float, float, float, float]:
    """Volume fractions of the classes: their share among the cells, in what is not matrix; zeros without cells."""
    total = int(counts.sum())
    fractions = [float(count) / total * (1.0 - ecm) if total else 0.0 for count in counts]
    return tuple(fractions)  # type: ignore[return-value]


def vegf_ratio(cells: Cells, counts: NDArray[np.int64]) -> float:
    """Neuroblasts that express VEGF over Schwann cells of all classes; 0 without either."""
    schwann = int(counts[3:].sum())
    if schwann == 0 or counts[0] == 0:
        return 0.0
    return float(np.count_nonzero(cells["VEGF"] & (cells["kind"] == NEUROBLAST))) / schwann


def counts_of(cells: Cells) -> NDArray[np.int64]:
    """Cells of each class."""
    places = 3 * cells["kind"].astype(np.int64) + np.where(cells["apop"], 1, np.where(cells["necro"], 2, 0))
    return np.bincount(places, minlength=6).astype(np.int64)


def uncrowded_share(cells: Cells, most: float) -> Mapping[str, float]:
    """Share of living cells of each kind with at most ``most`` cells in their contact radius."""
    alive = ~(cells["apop"] | cells["necro"])
    free = cells["neighbours"] <= most
    kinds = {"neuroblasts": NEUROBLAST, "schwann": SCHWANN}
    chosen = {name: alive & (cells["kind"] == kind) for name, kind in kinds.items()}
    return {name: float(free[of_kind].mean()) if of_kind.any() else 0.0 for name, of_kind in chosen.items()}
