"""TissueState: the tumour and its host at one moment of a forecast."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..meshing.mesh import TumourMesh

CAVITY = "cavity"
"""The region that an operation leaves."""


@dataclass(frozen=True, eq=False)
class TissueState:
    """Fields of one moment. Element arrays cover every element of the mesh; cells live in the tumour only, or
    everywhere when it has no border.

    day           days since the images of time 0
    reference     the mesh as it was made: of the images, or of the tissue at a later day (``sim.remeshing``)
    displacement  (nodes, 3) mm from the reference
    stretch       (elements,) total growth stretch g of Fg = g I, since day 0
    composition   (elements, 6) volume fractions of agents.colony.CLASSES; 0 where no cell lives
    supply        (elements,) 1/day, exchange of oxygen with blood
    delivery      (elements,) drug reaching the tissue relative to the tumour's median (1 where unmeasured)
    oxygen        (elements,) mmHg
    moments       element number to carried cell moments (of the representative that stands for it)
    colonies      element number to the stored cells of a representative (opaque)
    rooms         element number to the volume that the tissue leaves those cells, over the one they took freely
    mean_stress, von_mises   (elements,) kPa; tension positive
    equilibrium   what sim.growth needs to go on (opaque), None before the first step
    density       (voxels) share of the room that the cells of a tumour without a border fill, on ``spread.Ground``
    visible       (elements,) share of each element that images would show as tumour; None: all of it or nothing
    dose          (elements,) radiation that arrives over that of the treatment; None: 1, the dose is uniform
    ktrans, ve    (elements,) 1/min and interstitial fraction, as drugs meet them; None: not measured
    drug          (drugs, elements, 4) mg/L of each drug at the corners of elements; None: none is carried
    exposure      (drugs, elements) mg/L day of each drug since time 0; None: none is carried
    allotment     (elements,) 1/mmHg supply for each largest uptake at time 0; None: vessels do not follow (``vessels``)
    fluid_pressure  (nodes,) mmHg of the interstitial fluid; None: not asked for
    carried       (nodes, 3) mm that the tissue at each node had moved since day 0 when the reference was made; None: 0
    remembered    (elements, 3, 3) elastic map Fp that the reference was under when it was made; None: no stress
    grown         (elements,) stretch that had been grown by then; None: 1
    pulled        (nodes, 3) mN with which the springs pulled then; None: they were slack
    mixture_at_start  (elements,) m_0 of ``stiffness``, by the composition of day 0; None: stiffness is fixed
    """

    day: float
    reference: TumourMesh
    displacement: NDArray[np.float64]
    stretch: NDArray[np.float64]
    composition: NDArray[np.float64]
    supply: NDArray[np.float64]
    delivery: NDArray[np.float64]
    oxygen: NDArray[np.float64]
    moments: Mapping[int, Mapping[str, tuple[float, float]]] = field(default_factory=dict)
    colonies: Mapping[int, Any] = field(default_factory=dict)
    rooms: Mapping[int, float] = field(default_factory=dict)
    mean_stress: NDArray[np.float64] | None = None
    von_mises: NDArray[np.float64] | None = None
    equilibrium: Any = None
    density: NDArray[np.float64] | None = None
    visible: NDArray[np.float64] | None = None
    dose: NDArray[np.float64] | None = None
    ktrans: NDArray[np.float64] | None = None
    ve: NDArray[np.float64] | None = None
    drug: NDArray[np.float64] | None = None
    exposure: NDArray[np.float64] | None = None
    allotment: NDArray[np.float64] | None = None
    fluid_pressure: NDArray[np.float64] | None = None
    carried: NDArray[np.float64] | None = None
    remembered: NDArray[np.float64] | None = None
    grown: NDArray[np.float64] | None = None
    pulled: NDArray[np.float64] | None = None
    mixture_at_start: NDArray[np.float64] | None = None

    @property
    def mesh(self) -> TumourMesh:
        """The mesh as it is deformed now."""
        return self.reference.moved(self.displacement)

    @property
    def travelled(self) -> NDArray[np.float64]:
        """(nodes, 3) mm that the tissue at each node has moved since day 0."""
        return self.displacement if self.carried is None else self.displacement + self.carried

    @property
    def origin(self) -> TumourMesh:
        """The mesh where its tissue was on day 0: the reference, as long as it is that of day 0."""
        return self.reference if self.carried is None else self.reference.moved(-self.carried)

    @property
    def growth(self) -> NDArray[np.float64]:
        """(elements,) growth stretch since the reference was made."""
        return self.stretch if self.grown is None else self.stretch / self.grown

    def element_of(self, place: NDArray[np.float64]) -> int:
        """The element of tissue that cells may live in, or did, nearest to where it was on day 0 (3,) mm."""
        among = self.inhabited
        if self.visible is None:
            among = np.setdiff1d(np.arange(len(self.stretch)), self.surroundings)
        if not len(among):
            among = np.arange(len(self.stretch))
        return int(among[np.argmin(((self.origin.centroids[among] - place) ** 2).sum(axis=1))])

    @property
    def tumour(self) -> NDArray[np.int64]:
        """Element numbers of the tumour."""
        return self.reference.elements_of("tumour")

    @property
    def surroundings(self) -> NDArray[np.int64]:
        """Element numbers of healthy tissue: the host, and every region told apart from it."""
        others = [value for value, name in self.reference.region_names.items() if name not in ("tumour", CAVITY)]
        return np.flatnonzero(np.isin(self.reference.region, others))

    @property
    def inhabited(self) -> NDArray[np.int64]:
        """Element numbers where cells may live: the tumour, or everywhere when it has no border."""
        return self.tumour if self.visible is None else np.arange(len(self.stretch))

    @property
    def cellularity(self) -> NDArray[np.float64]:
        """(elements,) volume fraction of living cells."""
        return np.asarray(self.composition[:, 0] + self.composition[:, 3])

    @property
    def matrix(self) -> NDArray[np.float64]:
        """(elements,) volume fraction that no cell fills."""
        return np.asarray(1.0 - self.composition.sum(axis=1))

    @property
    def fluid(self) -> NDArray[np.float64] | None:
        """(elements,) mmHg of the interstitial fluid, mean of each element."""
        nodes = self.fluid_pressure
        return None if nodes is None else np.asarray(nodes[self.reference.tetrahedra].mean(axis=1))

    @property
    def volume(self) -> float:
        """mL of the tumour now."""
        if self.visible is not None:
            return float((self.visible * self.mesh.volumes).sum() / 1000.0)
        return self.mesh.volume_of("tumour")
