"""Colonies and their surroundings: what an element hands to its cells, and what it gets back.

Cells know hours, micrometres and plain numbers. They have never heard of a mesh: a colony's ``name`` is the
domain of its random draws and stays the same whoever runs beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

CLASSES = ("NBl", "NBa", "NBn", "SCl", "SCa", "SCn")
"""Neuroblasts and Schwann cells, each living, apoptotic or necrotic."""

Target = Literal["CHK1", "JAB1", "HIF", "MYCN", "TEP1", "p53"]
TARGETS: tuple[Target, ...] = ("CHK1", "JAB1", "HIF", "MYCN", "TEP1", "p53")
"""What a drug may switch off, in the order of the wire."""


@dataclass(frozen=True)
class DrugWindow:
    """One stretch of treatment as the cells feel it.

    start, end  h on the absolute clock (hours since the forecast's time 0), start <= t < end
    effects     probability in [0, 1] that each of TARGETS is switched off
    """

    start: float
    end: float
    effects: tuple[float, float, float, float, float, float]


@dataclass(frozen=True)
class Irradiation:
    """One fraction of radiation as the cells feel it where oxygen is plenty.

    hour       h on the absolute clock; it acts in the hour of the cells that holds it
    linear     alpha d, quadratic beta d²: minus the logarithm of the surviving share is their sum
    """

    hour: float
    linear: float
    quadratic: float


@dataclass(frozen=True)
class Surroundings:
    """The plain numbers that an element hands to its colony for one macro step.

    volume       mm³ of the cube that the colony fills
    oxygen       pO2 / 72 mmHg, 0..1
    composition  volume fractions of CLASSES; their sum is the cellularity, the rest is matrix
    clock        h since the forecast's time 0 at the start of this step (0 = first step)
    drugs        windows on the absolute clock
    radiation    fractions on the absolute clock
    genetics     MYCN_amp, TERT_rarngm, ATRX_inact, ALT, ALK: 0, 1 (ALK 2), or -1 unknown
    histology    0..6, gradiff 0..2: see the neuroblastoma specification
    moments      mean and sd of the carried state variables, from the step before (empty at the first)
    cell_count   cells of a later step; 0: as many as the volume and the composition hold
    schwann_fraction  of the expected cells, 0..1; None: drawn by histology
    differentiation   degree of all neuroblasts at diagnosis, 0..1; None: drawn by histology
    clones       shares of the 24 clones of the heterogeneity study among the neuroblasts, in place of ``genetics``
    confinement  for stored cells: the volume that the tissue leaves them over the one they took freely. Their cube is
                 then theirs times this number, and ``volume`` is not read
    """

    volume: float
    oxygen: float
    composition: tuple[float, float, float, float, float, float]
    clock: int = 0
    drugs: tuple[DrugWindow, ...] = ()
    radiation: tuple[Irradiation, ...] = ()
    genetics: Mapping[str, int] = field(default_factory=dict)
    histology: int = 0
    gradiff: int = 0
    moments: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    cell_count: int = 0
    schwann_fraction: float | None = None
    differentiation: float | None = None
    clones: tuple[float, ...] = ()
    confinement: float = 1.0


@dataclass(frozen=True)
class Colony:
    """The cells of one representative element: a name, its surroundings, and stored cells from an earlier step.

    state   the engine's stored cells (None: start new ones from the composition); opaque to every caller
    domain  of its draws, if not its name: colonies of one domain and seed share their luck
    """

    name: str
    surroundings: Surroundings
    state: Any = None
    domain: str = ""


@dataclass(frozen=True)
class ColonyOutcome:
    """What a colony did in one macro step.

    name          the colony's
    volume_ratio  V_end / V_start, the growth datum; NaN if no cell is left
    composition   volume fractions of CLASSES at the end; their sum is 1 - ecm
    ecm, oxygen   mean matrix fraction; pO2 / 72 mmHg at the end
    cell_count    cells of all classes at the end
    counts        (hours + 1, 6) cells of each of CLASSES, hour by hour
    moments       mean and sd of the carried state variables over living cells
    state         stored cells for a later step, opaque
    extra         other figures (primage_volume_ratio, histology, theta, births, deaths, …), ready for JSON
    """

    name: str
    volume_ratio: float
    composition: tuple[float, float, float, float, float, float]
    ecm: float
    oxygen: float
    cell_count: int
    counts: NDArray[np.int64]
    moments: Mapping[str, tuple[float, float]]
    state: Any = None
    extra: Mapping[str, Any] = field(default_factory=dict)
