"""How much work a forecast will be, known before a cell is simulated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..agents.engine import Engine
from ..agents.neuroblast import STATE
from ..agents.primage import BYTES_PER_CELL, BYTES_PER_VOXEL, available_memory
from ..agents.voxels import VOXEL_VOLUME
from ..core.errors import ConfigurationRejected
from .coupling import localise
from .oxygen import CELL_DENSITY
from .sampling import Sampling, cells_of_tumour
from .simulation import Plan, chosen_of
from .state import TissueState

if TYPE_CHECKING:
    from ..agents.engine._plan import Plan as DevicePlan

MEMORY_AT_REST = 500_000_000
"""Bytes of the program with images and tissue, without cells."""

BYTES_PER_SNAPSHOT = 60
"""Of a cell in ``cells/element-N.vtkhdf``."""

CUBIC_MICROMETRES = 1e9
"""In a mm³."""


@dataclass(frozen=True)
class Workload:
    """The cells of a forecast, counted before they live.

    sampling        of the first macro step, about: later steps start from what the first left
    steps, runs     macro steps of a run; runs that differ by their seed or by one changed input
    colony_hours    hours of all colonies of all steps and runs
    at_once         colonies that live side by side
    memory, disk    bytes at the peak while it runs, about; colonies that grow take more in proportion
    device          the engine's own plan, if it has a memory of its own
    """

    sampling: Sampling
    steps: int
    runs: int
    colony_hours: int
    at_once: int
    memory: int
    disk: int
    device: DevicePlan | None = None

    @property
    def batches(self) -> int:
        """Turns in which the colonies of one macro step live."""
        if self.device is not None:
            return len(self.device.batches)
        return -(-self.sampling.colonies // self.at_once)

    def content(self) -> dict[str, Any]:
        """Plain values."""
        return {
            **self.sampling.content(),
            "macro_steps": self.steps,
            "runs": self.runs,
            "colony_hours": self.colony_hours,
            "colonies_at_once": self.at_once,
            "batches": self.batches,
            "memory_bytes": self.memory,
            "disk_bytes": self.disk,
            "device": None if self.device is None else self.device.content(),
        }

    def words(self) -> str:
        """The plan for people."""
        return (
            f"Plan: {self.sampling.words()}\n"
            f"  {self.runs} run(s) of {self.steps} macro step(s): {self.colony_hours:,} colony-hours; "
            f"each step in {self.batches:,} batch(es) of {self.at_once}.\n"
            f"  Memory about {self.memory / 1e9:.2g} GB, disk about {self.disk / 1e9:.2g} GB while it runs."
            + ("" if self.device is None else f"\n  On the device: {self.device}.")
        )


def workload_of(
    start: TissueState, plan: Plan, runs: int, at_once: int, cells_live_in: Engine | None = None
) -> Workload:
    """The work of ``runs`` runs of a plan that start with this tissue.

    at_once        colonies that live side by side in the host's memory
    cells_live_in  the engine, which is asked for a plan of its own
    """
    colonies = localise(
        start, chosen_of(start, plan), cells=plan.settings.cells, treatment=None, genetics={}, histology=0, gradiff=0
    )
    volumes = np.array([colony.surroundings.volume for colony in colonies])
    cells = CELL_DENSITY.value * volumes * [sum(colony.surroundings.composition) for colony in colonies]
    voxels = volumes * CUBIC_MICROMETRES / VOXEL_VOLUME
    living = np.sort(BYTES_PER_CELL * cells + BYTES_PER_VOXEL * voxels)
    stored = float((STATE.record.itemsize * cells + 8 * voxels).sum())
    counted = [round(count) for count in cells.tolist()]
    device = cells_live_in.plan(counted, np.ceil(voxels).astype(int).tolist()) if cells_live_in else None
    steps, side_by_side = len(plan.ends), min(device.at_once if device else at_once, len(colonies))
    return Workload(
        Sampling(len(colonies), len(chosen_of(start, plan).members), sum(counted), cells_of_tumour(start)),
        steps=steps,
        runs=runs,
        colony_hours=len(colonies) * round(24 * (plan.ends[-1] - start.day)) * runs,
        at_once=side_by_side,
        memory=round(MEMORY_AT_REST + living[-side_by_side:].sum() + 2 * steps * stored),
        disk=round(steps * (runs * stored + BYTES_PER_SNAPSHOT * float(cells.sum()))),
        device=device,
    )


def check_memory(work: Workload) -> None:
    """Raise ConfigurationRejected when the cells of a forecast do not fit into this machine."""
    free, colonies = available_memory(), work.sampling.colonies
    if work.memory > free:
        raise ConfigurationRejected(
            f"{colonies} colonies of {work.sampling.cells // colonies} cells need {work.memory / 1e9:.3g} GB of memory",
            f"what {free / 1e9:.3g} GB of free memory hold",
            "choose fewer --elements or fewer --cells",
        )
