"""Interstitial fluid pressure: filtration from capillaries, drainage by lymph, flow through the tissue, in balance.

    -div(conductivity grad p) = filtration (effective - p) - drainage (p - lymph)

after Starling and Darcy [Baxter and Jain 1989, doi 10.1016/0026-2862(89)90074-5]. The effective pressure is that of the
vessels less what plasma proteins hold back, pv - s (Pv - Pi). A tumour has no working lymph vessels, so its core rests
at the effective pressure and nearly all of the fluid leaves through a thin rim, which is what keeps drugs out of it.
Units: mm, day, mmHg; conductivity mm²/(mmHg day), filtration and drainage 1/(mmHg day).

Scale trap. The rim is sqrt(conductivity / filtration), some 0.3 mm, and elements are 2 to 4 mm wide. What filters sits
on the nodes (lumped), so pressures overshoot by obtuse angles alone (some thousandths) and the core is right on coarse
meshes; the rim is smeared over one element, and fluxes through a surface are right only where elements across it are a
third of the rim. The field says how many rims wide its elements are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from ..core.errors import SolverFault
from ..core.quantity import Parameter
from ..meshing.mesh import TumourMesh
from .elements import checked_volumes, corner_sums, gradients, refuse_elements
from .solvers import solve_scalar
from .state import TissueState

Real = NDArray[np.float64]

_BAXTER = "Baxter and Jain 1989, doi 10.1016/0026-2862(89)90074-5, as quoted by github.com/thierry3000/tumorcode, "
_QUOTED = _BAXTER + "commit f7d8530; range ASSUMED"

TUMOUR_CONDUCTIVITY = Parameter(
    0.357,
    "mm^2/mmHg/day",
    meaning="hydraulic conductivity of tumour interstitium (4.13e-8 cm²/(mmHg s))",
    range=(0.1, 1.0),
    source=_QUOTED,
)
HOST_CONDUCTIVITY = Parameter(
    0.0737,
    "mm^2/mmHg/day",
    meaning="hydraulic conductivity of host interstitium (8.53e-9 cm²/(mmHg s))",
    range=(0.02, 0.3),
    source=_QUOTED,
)
TUMOUR_FILTRATION = Parameter(
    4.84,
    "1/mmHg/day",
    meaning="Lp S/V of tumour vessels: 2.8e-7 cm/(mmHg s) times 200 cm²/cm³",
    range=(1.0, 20.0),
    source=_BAXTER + "commit f7d8530 (Lp); S/V and range ASSUMED",
    assumed=True,
)
HOST_FILTRATION = Parameter(
    0.218,
    "1/mmHg/day",
    meaning="Lp S/V of host vessels: 0.36e-7 cm/(mmHg s) times 70 cm²/cm³",
    range=(0.05, 1.0),
    source=_BAXTER + "commit f7d8530 (Lp); S/V and range ASSUMED",
    assumed=True,
)
VESSEL_PRESSURE = Parameter(
    15.6, "mmHg", meaning="hydrostatic pressure in the microvessels", range=(10.0, 25.0), source=_QUOTED
)
PLASMA_ONCOTIC = Parameter(20.0, "mmHg", meaning="oncotic pressure of plasma", range=(18.0, 28.0), source=_QUOTED)
TUMOUR_ONCOTIC = Parameter(
    15.0,
    "mmHg",
    meaning="oncotic pressure of tumour interstitium",
    range=(10.0, 20.0),
    source="ASSUMED: leaky vessels, no source read",
    assumed=True,
)
HOST_ONCOTIC = Parameter(
    10.0, "mmHg", meaning="oncotic pressure of host interstitium", range=(5.0, 15.0), source=_QUOTED
)
TUMOUR_REFLECTION = Parameter(
    0.82, "1", meaning="share of plasma proteins that tumour vessels hold back", range=(0.1, 1.0), source=_QUOTED
)
HOST_REFLECTION = Parameter(
    0.91, "1", meaning="share of plasma proteins that host vessels hold back", range=(0.5, 1.0), source=_QUOTED
)
HOST_INTERSTITIAL = Parameter(
    0.0,
    "mmHg",
    meaning="fluid pressure at which lymph keeps the host far from the tumour",
    range=(-3.0, 3.0),
    source="ASSUMED: about atmospheric, as in most tissue; no source read",
    assumed=True,
)
LYMPH_SUCTION = Parameter(
    1.0,
    "mmHg",
    meaning="how far below the resting pressure of the host its lymph vessels collect",
    range=(0.5, 5.0),
    source="ASSUMED: no source read; the resting pressure does not depend on it, how stiffly it is held does",
    assumed=True,
)

CAVITY_CONDUCTIVITY = Parameter(
    10.0,
    "mm^2/mmHg/day",
    meaning="hydraulic conductivity of the cavity that an operation leaves",
    range=(1.0, 100.0),
    source="ASSUMED: it is filled with fluid, so that its pressure is even, as it is once it conducts a hundred times "
    "as well as the host; it holds no vessels and no lymph",
    assumed=True,
)

PARAMETERS = (
    TUMOUR_CONDUCTIVITY,
    HOST_CONDUCTIVITY,
    TUMOUR_FILTRATION,
    HOST_FILTRATION,
    VESSEL_PRESSURE,
    PLASMA_ONCOTIC,
    TUMOUR_ONCOTIC,
    HOST_ONCOTIC,
    TUMOUR_REFLECTION,
    HOST_REFLECTION,
    HOST_INTERSTITIAL,
    LYMPH_SUCTION,
    CAVITY_CONDUCTIVITY,
)
"""Every parameter of interstitial fluid."""


def effective_pressure(vessel: float, plasma_oncotic: float, oncotic: float, reflection: float) -> float:
    """Pressure (mmHg) at which vessels neither leak nor drain, from pressures in mmHg.

    >>> round(effective_pressure(15.6, 20.0, 15.0, 0.82), 2)
    11.5
    """
    return vessel - reflection * (plasma_oncotic - oncotic)


@dataclass(frozen=True)
class Fluid:
    """The fluid of one kind of tissue.

    conductivity  mm²/(mmHg day)
    filtration    1/(mmHg day), Lp S/V of its vessels
    effective     mmHg, pressure at which its vessels neither leak nor drain
    drainage      1/(mmHg day), by lymph vessels
    lymph         mmHg in them
    """

    conductivity: float
    filtration: float
    effective: float
    drainage: float = 0.0
    lymph: float = 0.0

    @classmethod
    def drained_to(cls, pressure: float, fluid: Fluid) -> Fluid:
        """The same tissue with as much lymph, collected LYMPH_SUCTION below ``pressure``, mmHg, as keeps it there."""
        drainage = fluid.filtration * (fluid.effective - pressure) / LYMPH_SUCTION.value
        return cls(fluid.conductivity, fluid.filtration, fluid.effective, drainage, pressure - LYMPH_SUCTION.value)


TUMOUR_FLUID = Fluid(
    TUMOUR_CONDUCTIVITY.value,
    TUMOUR_FILTRATION.value,
    effective_pressure(VESSEL_PRESSURE.value, PLASMA_ONCOTIC.value, TUMOUR_ONCOTIC.value, TUMOUR_REFLECTION.value),
)
HOST_FLUID = Fluid.drained_to(
    HOST_INTERSTITIAL.value,
    Fluid(
        HOST_CONDUCTIVITY.value,
        HOST_FILTRATION.value,
        effective_pressure(VESSEL_PRESSURE.value, PLASMA_ONCOTIC.value, HOST_ONCOTIC.value, HOST_REFLECTION.value),
    ),
)
CAVITY_FLUID = Fluid(CAVITY_CONDUCTIVITY.value, 0.0, 0.0, 0.0, 0.0)
FLUIDS: Mapping[str, Fluid] = {"tumour": TUMOUR_FLUID, "host": HOST_FLUID, "cavity": CAVITY_FLUID}
"""By region, as assumed unless stated."""


@dataclass(frozen=True)
class FluidBalance:
    """The books of fluid, mm³/day: out of vessels, back into them, into lymph, out through nodes that are held, into
    tissue that swells.
    """

    filtered: float
    reabsorbed: float
    drained: float
    outflow: float
    taken: float = 0.0

    @property
    def error(self) -> float:
        """What is missing in the books, relative to what vessels give and take."""
        missing = self.filtered - self.reabsorbed - self.drained - self.outflow - self.taken
        return abs(missing) / max(self.filtered, self.reabsorbed, abs(self.drained), abs(self.outflow), 1e-300)


@dataclass(frozen=True, eq=False)
class FluidField:
    """Steady interstitial fluid.

    nodes     (nodes,) mmHg
    elements  (elements,) mmHg, mean of each element
    velocity  (elements, 3) mm/day, Darcy's flux
    rims      (elements,) how many widths of the pressure's rim the least height of an element is
    """

    nodes: Real
    elements: Real
    velocity: Real
    rims: Real
    balance: FluidBalance


def solve_fluid(
    mesh: TumourMesh,
    fluids: Mapping[str, Fluid] = FLUIDS,
    *,
    held: Real | None = None,
    vessels: Real | None = None,
    swelling: Real | None = None,
) -> FluidField:
    """Steady fluid in a mesh through whose outer surface nothing passes but where nodes are held.

    fluids   by the names of the mesh's regions
    held     (nodes,) mmHg where a node is kept at a known pressure (0: a free surface), NaN elsewhere; None: nowhere
    vessels  (elements,) vessel surface relative to that of ``fluids``, >= 0; None: 1
    swelling (elements,) 1/day of volume that tissue gains and fills with fluid; None: none

    Raises SolverFault for a region without a fluid, for impossible numbers, naming elements, and when nothing
    determines the level of the pressure.
    """
    volumes = checked_volumes(mesh)
    flow = _Flow.of(mesh, fluids, vessels)
    held = np.full(len(mesh.points), np.nan) if held is None else np.asarray(held, dtype=np.float64)
    free = np.isnan(held)
    if not (flow.turnover.any() or not free.all()):
        raise SolverFault(
            "no vessels, no lymph and no node at a known pressure", "at least one of them", "give the tissue vessels"
        )
    gradient = gradients(mesh.points, mesh.tetrahedra)
    stiffness = _stiffness(mesh, gradient, flow.conductivity * volumes)
    quarter, count = volumes[:, None] / 4.0 + np.zeros((1, 4)), len(mesh.points)
    matrix = stiffness + sparse.diags_array(corner_sums(mesh.tetrahedra, quarter * flow.turnover[:, None], count))
    taken = np.zeros(len(volumes)) if swelling is None else swelling
    source = corner_sums(mesh.tetrahedra, quarter * (flow.given - taken)[:, None], count)
    nodes = _solved(sparse.csr_matrix(matrix), source, held, free)
    corners = nodes[mesh.tetrahedra]
    elements = corners.mean(axis=1)
    outflow = -float((matrix @ nodes - source)[~free].sum())
    velocity = -flow.conductivity[:, None] * np.einsum("eai,ea->ei", gradient, corners)
    height = 1.0 / np.linalg.norm(gradient, axis=2).max(axis=1)
    rims = height * np.sqrt(flow.turnover / flow.conductivity)
    balance = replace(flow.balance(volumes[:, None] / 4.0, corners, outflow), taken=float((volumes * taken).sum()))
    return FluidField(nodes, elements, velocity, rims, balance)


def fluid_in(state: TissueState, swelling: Real | None = None) -> FluidField:
    """The steady fluid of the tissue of a forecast as it is now, and swells now.

    ASSUMED: tissue without supply of blood has no vessels that leak; elsewhere all vessels of a region leak alike.
    Regions told apart from the host have its fluid (``anatomy``).
    """
    fluids = {**dict.fromkeys(state.reference.region_names.values(), HOST_FLUID), **FLUIDS}
    return solve_fluid(state.mesh, fluids, vessels=(state.supply > 0.0).astype(np.float64), swelling=swelling)


def _solved(matrix: sparse.csr_matrix, source: Real, held: Real, free: NDArray[np.bool_]) -> Real:
    """The nodes, those that are held included."""
    known = np.where(free, 0.0, held)
    mask = sparse.diags_array(free.astype(np.float64))
    inner = mask @ matrix @ mask + sparse.diags_array(np.where(free, 0.0, 1.0))
    found, _ = solve_scalar(sparse.csr_matrix(inner), np.where(free, source - matrix @ known, 0.0), reduction=1e-12)
    return np.asarray(found + known)


def _stiffness(mesh: TumourMesh, gradient: Real, weight: Real) -> sparse.csr_matrix:
    blocks = weight[:, None, None] * np.einsum("eai,ebi->eab", gradient, gradient)
    rows, columns = np.repeat(mesh.tetrahedra, 4, axis=1), np.tile(mesh.tetrahedra, (1, 4))
    return sparse.csr_matrix(
        sparse.coo_matrix((blocks.ravel(), (rows.ravel(), columns.ravel())), 2 * (len(mesh.points),))
    )


@dataclass(frozen=True, eq=False)
class _Flow:
    """The fluid of every element, (elements,) each, in the units of ``Fluid``."""

    conductivity: Real
    filtration: Real
    effective: Real
    drainage: Real
    lymph: Real

    @classmethod
    def of(cls, mesh: TumourMesh, fluids: Mapping[str, Fluid], vessels: Real | None) -> _Flow:
        missing = sorted(set(mesh.region_names.values()) - set(fluids))
        if missing:
            raise SolverFault(
                f"regions without a fluid: {', '.join(missing)}",
                "a fluid for every region of the mesh",
                f"name one for each of: {', '.join(sorted(mesh.region_names.values()))}",
            )
        by_region = {number: fluids[name] for number, name in mesh.region_names.items()}

        def every(name: str) -> Real:
            values = np.zeros(len(mesh.tetrahedra))
            for number, fluid in by_region.items():
                values[mesh.region == number] = getattr(fluid, name)
            return values

        flow = cls(*(every(name) for name in ("conductivity", "filtration", "effective", "drainage", "lymph")))
        if vessels is not None:
            flow = cls(flow.conductivity, flow.filtration * vessels, flow.effective, flow.drainage, flow.lymph)
        refuse_elements(~(flow.conductivity > 0.0), "a hydraulic conductivity that is no number above 0", "above 0")
        for name in ("filtration", "drainage"):
            values = getattr(flow, name)
            refuse_elements(~((values >= 0.0) & np.isfinite(values)), f"a {name} that is no number >= 0", "at least 0")
        return flow

    @property
    def turnover(self) -> Real:
        """1/(mmHg day)."""
        return self.filtration + self.drainage

    @property
    def given(self) -> Real:
        """1/day, what vessels and lymph would give at a pressure of 0."""
        return self.filtration * self.effective + self.drainage * self.lymph

    def balance(self, quarter: Real, corners: Real, outflow: float) -> FluidBalance:
        """The books of pressures (elements, 4) in quarters (elements, 1) mm³."""
        leaked = quarter * self.filtration[:, None] * (self.effective[:, None] - corners)
        drained = quarter * self.drainage[:, None] * (corners - self.lymph[:, None])
        return FluidBalance(
            float(np.maximum(leaked, 0.0).sum()), float(-np.minimum(leaked, 0.0).sum()), float(drained.sum()), outflow
        )
