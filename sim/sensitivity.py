"""What a forecast rests on: the same forecast with one input changed, the same seed, the same named draws.

Each change is made to what the maps mean (``InitialFields``), to the tissue law, or to the cells; its effect is
compared with what chance alone does over seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..agents.colony import Colony, ColonyOutcome
from ..core.chance import uniform
from ..core.quantity import Parameter
from ..meshing.mesh import TumourMesh
from .forecast import Effect
from .remeshing import at_points
from .simulation import Plan
from .start import start_from
from .state import CAVITY, TissueState
from .supports import Supports
from .tissue import Springs, springs_of
from .tumour_type import InitialFields

Trajectory = tuple[TissueState, ...]

DOUBLING_TIME = Parameter(
    60.0,
    "day",
    "clinical volume doubling time, for the constant-rate comparison",
    source="Aherne & Buck 1971, as quoted in the PRIMAGE model's code",
    range=(20.0, 120.0),
)


@dataclass(frozen=True)
class Change:
    """One input changed.

    what   in words
    alter  (fields, plan) -> the same with one thing changed
    """

    what: str
    alter: Callable[[InitialFields, Plan], tuple[InitialFields, Plan]]

    def applied(self, mesh: TumourMesh, fields: InitialFields, plan: Plan) -> tuple[TissueState, Plan]:
        """Where the changed run starts and how it goes on."""
        fields, plan = self.alter(fields, plan)
        return start_from(mesh, fields, plan.settings, plan.ground), plan


def changes(fields: InitialFields, plan: Plan) -> tuple[Change, ...]:
    """The changes worth asking about: fields that vary, cells, and the host's stiffness."""
    varying = [("perfusion", "Supply of blood")]
    if plan.ground is None:
        varying.append(("composition", "Cellularity"))
    if plan.treatment:
        varying.append(("ktrans" if plan.treatment.drugs else "delivery", "Delivery of drug (Ktrans)"))
    asked = []
    for name, words in varying:
        if np.ptp(_tumour_values(fields, name), axis=0).max() > 1e-9:
            asked += [
                Change(f"{words}, flattened", _on_field(name, _flattened)),
                Change(f"{words}, shuffled over the tumour", _on_field(name, _shuffled)),
            ]
    if plan.ground is not None:
        return (*asked, Change("Cells that wander half as fast", _slowed))
    asked += [
        Change("Cells replaced by one constant rate of growth", _at_one_rate),
        Change("Host as stiff as the tumour", lambda f, p: (f, _evenly_stiff(p))),
    ]
    return tuple(asked)


def effects(members: Sequence[Trajectory], altered: Sequence[tuple[str, Trajectory]]) -> tuple[Effect, ...]:
    """How far each changed run ends from the forecast (the first member), beside the largest difference over seeds."""
    base = members[0][-1]
    chance = [_difference(base, member[-1]) for member in members[1:]]
    volume_spread = max((abs(volume) for volume, _ in chance), default=0.0)
    contour_spread = max((contour for _, contour in chance), default=0.0)
    return tuple(
        Effect(what, trajectory[-1].volume, *_difference(base, trajectory[-1]), volume_spread, contour_spread)
        for what, trajectory in altered
    )


def _at_one_rate(fields: InitialFields, plan: Plan) -> tuple[InitialFields, Plan]:
    """Growth is then what the stand-in says of volume, the same in every element."""
    return fields, replace(
        plan, advance=constant_rate, settings=plan.settings.model_copy(update={"growth": "occupancy"})
    )


def constant_rate(colonies: Sequence[Colony], hours: int, seed: int, **not_needed: Any) -> tuple[ColonyOutcome, ...]:
    """What stands in for the cells when their contribution is asked for: every element grows at one clinical rate.

    The volume gained is that of the cells born, so the books of cells close.
    """
    ratio = 2.0 ** (hours / 24.0 / DOUBLING_TIME.value)
    return tuple(_grown(colony, ratio, hours) for colony in colonies)


def _grown(colony: Colony, ratio: float, hours: int) -> ColonyOutcome:
    composition = colony.surroundings.composition
    solid = sum(composition)
    counts = np.zeros((hours + 1, 6), dtype=np.int64)
    counts[:, 0] = np.round(1e12 * np.linspace(solid, solid + ratio - 1.0, hours + 1))
    return ColonyOutcome(
        colony.name,
        ratio,
        composition,
        1.0 - solid,
        colony.surroundings.oxygen,
        int(counts[-1, 0]),
        counts,
        {},
        extra={"cube_edge_mm": np.inf},
    )


def _difference(base: TissueState, other: TissueState) -> tuple[float, float]:
    """(mL, mm): change of volume, and root mean square distance between the same tissue at the tumour's surface."""
    surface = np.unique(base.reference.surface_of("tumour"))
    if not len(surface):
        return other.volume - base.volume, 0.0
    if base.carried is None and other.carried is None:
        moved = other.displacement[surface]
    else:
        moved = at_points(other.origin, other.travelled, base.origin.points[surface])
    apart = base.travelled[surface] - moved
    return other.volume - base.volume, float(np.sqrt((apart**2).sum(axis=1).mean()))


def _tumour_values(fields: InitialFields, name: str) -> NDArray[np.float64]:
    """Values of a field where cells live."""
    values = getattr(fields, name)
    return np.asarray(values[fields.composition[:, 0] > 0])


def _on_field(
    name: str,
    operation: Callable[[NDArray[np.float64]], NDArray[np.float64]],
) -> Callable[[InitialFields, Plan], tuple[InitialFields, Plan]]:
    def alter(fields: InitialFields, plan: Plan) -> tuple[InitialFields, Plan]:
        values = getattr(fields, name).copy()
        inside = fields.composition[:, 0] > 0
        values[inside] = operation(values[inside])
        return replace(fields, **{name: values}), plan

    return alter


def _flattened(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.broadcast_to(values.mean(axis=0), values.shape)


def _shuffled(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(
        values[np.argsort(uniform(0, "sensitivity", "sensitivity.shuffle", np.arange(len(values))), kind="stable")]
    )


def _slowed(fields: InitialFields, plan: Plan) -> tuple[InitialFields, Plan]:
    assert plan.ground is not None
    return fields, replace(plan, ground=plan.ground.slowed(0.5))


def _evenly_stiff(plan: Plan) -> Plan:
    """The host as stiff as the tumour, and so are soft regions told apart from it; bone and fluid are not."""
    young = plan.materials["tumour"].young
    soft = [name for name, one in plan.materials.items() if name != CAVITY and one.law != "compressible"]
    stiff = {name: replace(plan.materials[name], young=young) for name in (*soft, "host")}
    materials, outside = {**plan.materials, **stiff}, springs_of(stiff["host"])
    springs: Springs | Supports = outside
    if isinstance(plan.springs, Supports):
        springs = plan.springs if plan.settings.supports else replace(plan.springs, springs=(outside,))
    return replace(plan, materials=materials, springs=springs)
