"""Glioma cells without chance: the rules of ``agents.glioma`` as expectations, in a round tumour that spreads.

What is carried is the density of cells at every radius, by the step of their cycle or quiescent, sound or doomed. An
hour is the hour of the cells, with chances in place of draws; a cell has room by the chance that a Poisson number of
neighbours lies within its reach, as where cells lie strewn. Once a day all diffuse, by one implicit step on shells of a
sphere. Left out: chance, representatives, voxels and mechanics, differences of oxygen, and the dead, who are there for
hours only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import pi

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.stats import poisson

from oncoscale.agents import glioma
from oncoscale.agents import glioma_kinetics as kinetics
from oncoscale.agents.behaviours.radiation import felt
from oncoscale.sim.infiltration import edge_profile
from oncoscale.sim.tumours import dipg

Real = NDArray[np.float64]

SHELL = 1.0
RADII: Real = np.arange(0.5 * SHELL, 70.0, SHELL)
"""mm, thickness of a shell and middle of each."""

OXYGEN = 16.0 / 72.0
"""Over that of blood: median of the tumour in the forecasts on record, 15 to 18 mmHg."""

STAGES, SOUND, DOOMED = kinetics.STAGES, 0, 1
QUIESCENT = STAGES
"""Place of the quiescent behind the steps of the cycle."""

NEIGHBOURS = glioma.TABLE["density"].value * 4.0 / 3.0 * pi * (1e-3 * glioma.TABLE["R_neighbours"].value) ** 3
"""Cells within reach where cells fill the tissue."""

HAS_ROOM: Real = poisson.cdf(glioma.TABLE["N_crowd"].value - 1.0, NEIGHBOURS * np.linspace(0.0, 1.0, 1001))
"""Chance to have room, by density in thousandths: N_crowd cells within reach at most, the cell itself counted."""


@dataclass(frozen=True)
class Tumour:
    """Numbers of a tumour, by default those of the cells.

    net, cycle, cycling, rest    1/day, hour, share, day: as in ``glioma_kinetics``
    attempts                     divisions that a doomed cell tries on average
    give_up                      1/day at which doomed cells die that do not cycle: none of the cells do
    alpha, alpha_beta            1/Gy, Gy
    diffusivity, visible         mm²/day, density
    lag, bed                     days after the last fraction for which no sound cell goes on; their pace from then on
    repair                       1/day at which doomed quiescent cells turn sound, where they do so instead of waking
    """

    net: float = kinetics.NET_GROWTH.value
    cycle: float = kinetics.CYCLE.value
    cycling: float = kinetics.GROWTH_FRACTION.value
    rest: float = kinetics.REST.value
    attempts: float = kinetics.ATTEMPTS.value
    give_up: float = 0.0
    alpha: float = dipg.ALPHA.value
    alpha_beta: float = dipg.ALPHA_BETA.value
    diffusivity: float = dipg.DIFFUSIVITY.value
    visible: float = dipg.VISIBLE.value
    lag: float = 0.0
    bed: float = 1.0
    repair: float | None = None


def volumes(tumour: Tumour, millilitres: float, days: int, fractions: Sequence[tuple[float, float]]) -> Real:
    """(days + 1,) mL of the visible part, each day. ``fractions`` are (hour, Gy)."""
    edge = float(np.cbrt(3000.0 * millilitres / (4.0 * pi)))
    first = edge_profile(RADII - edge, tumour.visible, tumour.diffusivity, tumour.net)
    cells, chances = settled(tumour, first), chances_of(tumour)
    hit, pace = _hits(tumour, days, fractions), _paces(tumour, days, fractions)
    diffusion = _diffusion(tumour.diffusivity)
    densities = [first]
    for day in range(days):
        hours = slice(24 * day, 24 * day + 24)
        live(cells, hit[hours], pace[hours], chances)
        cells = (diffusion @ cells.reshape(len(RADII), -1)).reshape(cells.shape)
        densities.append(cells.sum(axis=(1, 2)))
    return np.array([_visible(tumour.visible, c, first) for c in densities])


def settled(tumour: Tumour, density: Real) -> Real:
    """(radii, 2, steps and rest) densities of sound cells, evenly old, as colonies start; none is doomed."""
    cells = np.zeros((len(density), 2, STAGES + 1))
    cells[:, SOUND, :QUIESCENT] = (tumour.cycling * density / STAGES)[:, None]
    cells[:, SOUND, QUIESCENT] = (1.0 - tumour.cycling) * density
    return cells


def chances_of(tumour: Tumour) -> tuple[float, ...]:
    """To advance and to wake (1/hour), to be lost and to rest at birth, to die of a division that is tried; to give up
    and to repair (1/hour, less than 0: does not occur)."""
    advance, wake = STAGES / tumour.cycle, 1.0 / (24.0 * tumour.rest)
    lost, rest = kinetics.fates_at_birth(tumour.cycling, tumour.net / 24.0, advance, wake)
    repair = -1.0 if tumour.repair is None else tumour.repair / 24.0
    return advance, wake, lost, rest, 1.0 / tumour.attempts, tumour.give_up / 24.0, repair


def _hits(tumour: Tumour, days: int, fractions: Sequence[tuple[float, float]]) -> Real:
    """(hours,) share of the sound that each hour dooms."""
    dose = np.zeros(24 * days)
    for hour, gray in fractions:
        if hour < len(dose):
            m = felt(OXYGEN) * gray
            dose[int(hour)] += tumour.alpha * (m + m * m / tumour.alpha_beta)
    return -np.expm1(-dose)


def _paces(tumour: Tumour, days: int, fractions: Sequence[tuple[float, float]]) -> Real:
    """(hours,) of the sound, over that without radiation."""
    hours = np.arange(24 * days)
    after = hours - max((hour for hour, _ in fractions), default=np.inf)
    return np.where(after <= 0.0, 1.0, np.where(after <= 24.0 * tumour.lag, 0.0, tumour.bed))


@njit  # type: ignore[untyped-decorator]
def live(cells: Real, hit: Real, pace: Real, chances: tuple[float, ...]) -> None:
    """Hours at every radius, by the rules in their order; ``cells`` (radii, 2, steps and rest) changes.

    hit, pace  (hours,) share of the sound that is doomed; pace of the sound
    """
    advance, wake, lost, rest, fatal, give_up, repair = chances
    end = cells.shape[2] - 1
    for place in range(cells.shape[0]):
        sound, doomed = cells[place, 0], cells[place, 1]
        for hour in range(len(hit)):
            if hit[hour] > 0.0:
                for step in range(end + 1):
                    moved = hit[hour] * sound[step]
                    sound[step] -= moved
                    doomed[step] += moved
            room = HAS_ROOM[min(1000, int(1000.0 * (sound.sum() + doomed.sum()) + 0.5))]
            for kind in range(2):
                here = cells[place, kind]
                speed = room * (pace[hour] if kind == 0 else 1.0)
                repaired = kind == 1 and repair >= 0.0
                woken = (repair if repaired else speed * wake) * here[end]
                through = speed * advance
                divided = through * here[end - 1] * (1.0 if kind == 0 else 1.0 - fatal)
                for step in range(end - 1, 0, -1):
                    here[step] += through * (here[step - 1] - here[step])
                here[0] += 2.0 * (1.0 - lost - rest) * divided - through * here[0]
                here[end] += 2.0 * rest * divided - woken
                cells[place, 0 if repaired else kind, 0] += woken
            doomed[end] *= 1.0 - give_up
            for step in range(end):
                doomed[step] *= 1.0 - give_up * (1.0 - room)


def _diffusion(diffusivity: float) -> Real:
    """(radii, radii) that carries densities through a day."""
    faces = RADII + 0.5 * SHELL
    shells = (faces**3 - (faces - SHELL) ** 3) / 3.0
    flow = diffusivity * faces[:-1] ** 2 / SHELL
    exchange = np.diag(flow, 1) + np.diag(flow, -1)
    exchange -= np.diag(exchange.sum(axis=1))
    return np.asarray(np.linalg.inv(np.eye(len(RADII)) - exchange / shells[:, None]))


def _visible(threshold: float, density: Real, first: Real) -> float:
    """mL where the density is visible, its edge linear between shells, in tissue that swells with its cells."""
    seen = np.flatnonzero(density >= threshold)
    if not len(seen):
        return 0.0
    outer = int(seen[-1])
    edge = np.interp(-threshold, -density[outer : outer + 2], RADII[outer : outer + 2])
    faces = np.clip(np.append(RADII - 0.5 * SHELL, RADII[-1] + 0.5 * SHELL), 0.0, edge)
    swollen = np.exp(3.0 * dipg.SWELLING.value * (density - first))
    return float(4e-3 / 3.0 * pi * (swollen * np.diff(faces**3)).sum())
