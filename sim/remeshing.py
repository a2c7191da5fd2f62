"""Remeshing: a body that has grown out of its mesh goes on in a new one, with the stress that it carries.

The tissue as it is now becomes the reference, from which growth starts again at g = 1. What an element was stretched
by, beyond its growth, must not be forgotten: for an isotropic law only b_e = Fe Fe^T matters, so each element remembers
Fp = sqrt(b_e), and its elastic deformation from now on is F Fp / g (project specification, tissue §3.6). Between meshes
the logarithm of b_e is averaged, so that it stays positive definite; everything else is averaged as it is, over the
volumes of ``meshing.tet_transfer``, which keep every total, every constant and every bound.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from scipy.spatial import cKDTree

from ..core.quantity import Parameter
from ..meshing.mesh import TumourMesh
from ..meshing.quality import (
    MIN_DIHEDRAL_DEFORMED,
    MIN_SCALED_JACOBIAN,
    dihedral_angles,
    edge_lengths,
    quality,
    scaled_jacobian,
)
from ..meshing.renewed import present_regions, renewed_mesh
from ..meshing.tet_transfer import Carriage, carry
from ..meshing.tetrahedra import Mesher
from . import stiffness
from .elements import gradients, nodal_areas, outer_faces
from .oxygen import CELL_DENSITY
from .state import TissueState
from .stretches import exponential, logarithm

Real = NDArray[np.float64]

_SPEC = "project specification, tissue §7.2"
EDGE_STRETCH = Parameter(
    2.0, "1", "length of an edge over its length in the mesh as made, above which to remesh", _SPEC
)
GROWTH = Parameter(0.6, "1", "growth of the tumour's volume since its mesh was made, above which to remesh", _SPEC)
PARAMETERS = (EDGE_STRETCH, GROWTH, MIN_DIHEDRAL_DEFORMED, MIN_SCALED_JACOBIAN)

MEANS = ("composition", "supply", "delivery", "oxygen", "dose", "ktrans", "ve", "allotment")
"""Fields of a ``TissueState`` of which an element of a new mesh takes the mean over what it takes of the old."""

SEARCHED = 64
"""Elements, nearest first, among which the one that holds a point is sought."""


class RemeshingSettings(BaseModel):
    """When a forecast makes a new mesh, the key ``remeshing`` of its settings."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    allowed: bool = Field(True, description="whether a mesh that is worn is replaced")
    least_scaled_jacobian: float = Field(MIN_SCALED_JACOBIAN.value, ge=0, lt=1, description="replaced below it")
    least_dihedral: float = Field(MIN_DIHEDRAL_DEFORMED.value, ge=0, lt=70, description="degree; replaced below it")
    edge_stretch: float = Field(EDGE_STRETCH.value, gt=1, description="replaced above it")
    growth: float = Field(GROWTH.value, gt=0, description="growth of the tumour since the last mesh; replaced above it")


def worn(state: TissueState, limits: RemeshingSettings) -> tuple[str, ...]:
    """What of the deformed mesh is beyond its limits, in words; empty while it is good."""
    reference, mesh = state.reference, state.mesh
    edges, made = (edge_lengths(one.points, one.tetrahedra) for one in (mesh, reference))
    stretch = float((edges / made).max())
    least = float(scaled_jacobian(mesh.points, mesh.tetrahedra).min())
    angle = float(dihedral_angles(mesh.points, mesh.tetrahedra).min())
    grown = mesh.volume_of("tumour") / reference.volume_of("tumour") - 1.0 if len(state.tumour) else 0.0
    found = (
        (least < limits.least_scaled_jacobian, f"least scaled Jacobian {least:.3f}"),
        (angle < limits.least_dihedral, f"least dihedral angle {angle:.1f} degree"),
        (stretch > limits.edge_stretch, f"an edge {stretch:.2f} times as long"),
        (grown > limits.growth, f"tumour {100 * grown:.0f} % larger"),
    )
    return tuple(words for beyond, words in found if beyond)


def rebased(state: TissueState) -> TissueState:
    """The same tissue in the same elements, the configuration of now being the reference. Its stress is the same."""
    at_rest = state.equilibrium
    return replace(
        state,
        reference=state.mesh,
        displacement=np.zeros_like(state.displacement),
        carried=state.travelled,
        grown=state.stretch,
        remembered=exponential(0.5 * logarithm(at_rest.elastic @ np.swapaxes(at_rest.elastic, 1, 2))),
        pulled=at_rest.pull,
        equilibrium=None,
    )


@dataclass(frozen=True, eq=False)
class Remeshed:
    """A tissue in its new mesh, before it finds its new equilibrium.

    state    whose stress is not yet balanced
    account  what was carried and what was not, ready for JSON
    """

    state: TissueState
    account: Mapping[str, Any]


def remesh(
    state: TissueState, *, size: float | None = None, host_size: float | None = None, mesher: Mesher = "auto"
) -> Remeshed:
    """The tissue in a new mesh of its regions as they are now; ``size`` and what follows as in ``mesh_tumour``.

    Raises MeshFault or SegmentationRejected when no mesh passes the gates.
    """
    old = rebased(state)
    new = renewed_mesh(old.reference, size=size, host_size=host_size, mesher=mesher)
    plan = carry(new, old.reference)
    moved = moved_to(old, new, plan)
    lost = len(state.colonies) - len(moved.colonies)
    before, after = totals(old), totals(moved)
    account = {
        "elements": [len(old.reference.tetrahedra), len(new.tetrahedra)],
        "mesher": new.mesher,
        "quality": quality(new),
        "volume_error": {
            name: new.volume_of(name) / old.reference.volume_of(name) - 1.0 for name in present_regions(new)
        },
        "totals_before": before,
        "totals_after": after,
        "largest_residual": max(
            (abs(after[name] / total - 1.0) for name, total in before.items() if total), default=0.0
        ),
        "handed_on_share": plan.moved,
        "handed_on_mm": plan.distance,
        "colonies_lost": lost,
    }
    return Remeshed(moved, account)


def totals(state: TissueState) -> dict[str, float]:
    """What must be the same before and after: cells of each class, and what is delivered, over all elements.

    cells_N   cells of the class of that number in ``agents.colony.CLASSES``
    drug_N    ng of the drug of that number in the interstitial space
    the rest  mm³ times the mean of the field
    """
    volumes = state.mesh.volumes
    cells = CELL_DENSITY.value * (volumes @ state.composition)
    fields = {"supply": state.supply, "delivery": state.delivery}
    fields |= {} if state.dose is None else {"dose": state.dose}
    fields |= {} if state.allotment is None else {"allotment": state.allotment}
    fields |= {f"drug_{number}": state.ve * held for number, held in enumerate(_held(state))}
    return {f"cells_{number}": float(count) for number, count in enumerate(cells)} | {
        name: float(volumes @ values) for name, values in fields.items()
    }


def settled(before: TissueState, after: TissueState) -> dict[str, Any]:
    """What re-equilibrating in the new mesh did, ready for JSON: the tumour's volume in mL, and energies in µJ."""
    return {
        "tumour_ml": [before.volume, after.volume],
        "strain_energy_uj": [before.equilibrium.strain_energy, after.equilibrium.strain_energy],
        "spring_energy_uj": [before.equilibrium.spring_energy, after.equilibrium.spring_energy],
        "moved_mm": float(np.linalg.norm(after.displacement, axis=1).max()),
        "cells_before_and_after": [_cells(before), _cells(after)],
    }


def _cells(state: TissueState) -> float:
    return float(CELL_DENSITY.value * (state.mesh.volumes @ state.composition.sum(axis=1)))


def words_of(day: float, account: Mapping[str, Any]) -> str:
    """The account of a remeshing in a sentence."""
    before, after = account["tumour_ml"]
    return (
        f"On day {day:g} the mesh was worn ({'; '.join(account['reasons'])}) and made anew: {account['elements'][0]} "
        f"elements became {account['elements'][1]}, what they hold was carried over with its totals, and the tumour's "
        f"volume changed by {100.0 * (after / before - 1.0) if before else 0.0:+.2f} % as its stress found its balance."
    )


def moved_to(state: TissueState, mesh: TumourMesh, plan: Carriage) -> TissueState:
    """A rebased tissue in the elements of another mesh of the same body.

    Moments of cells come from the old element of which a new one holds most; stored cells go to the new element that
    holds most of theirs, and where two meet the larger share stays.
    """
    assert state.remembered is not None
    assert state.carried is not None
    assert state.pulled is not None
    means: dict[str, Any] = {name: plan(getattr(state, name)) for name in MEANS if getattr(state, name) is not None}
    grown, housed = np.exp(plan(np.log(state.stretch))), _housed(state.colonies, plan)
    return replace(
        state,
        **means,
        **_drugs(state, plan),
        fluid_pressure=None,
        reference=mesh,
        displacement=np.zeros_like(mesh.points),
        carried=at_points(state.reference, state.carried, mesh.points),
        pulled=pull_on(mesh, state.reference, state.pulled),
        remembered=exponential(0.5 * plan(logarithm(state.remembered @ state.remembered))),
        stretch=grown,
        grown=grown,
        mixture_at_start=_mixture_at_start(state, means["composition"], plan),
        moments={new: state.moments[int(old)] for new, old in enumerate(plan.greatest) if int(old) in state.moments},
        colonies={new: state.colonies[old] for new, old in housed.items()},
        rooms={new: state.rooms[old] for new, old in housed.items() if old in state.rooms},
        mean_stress=None,
        von_mises=None,
    )


def _mixture_at_start(state: TissueState, composition: Real, plan: Carriage) -> Real | None:
    """(elements,) m_0 with which an element of a new mesh is as stiff as the mean of what it takes of the old."""
    factor = stiffness.stiffening(state)
    return None if factor is None else stiffness.mixture(composition) / plan(factor)


def _held(state: TissueState) -> Real:
    """(drugs, elements) mg/L of each drug in the interstitial space."""
    return np.zeros((0, len(state.stretch))) if state.drug is None else state.drug.mean(axis=2)


def _drugs(state: TissueState, plan: Carriage) -> dict[str, Any]:
    """Drugs in another mesh: what an element holds is what it took over, and its corners start alike."""
    if state.drug is None or state.ve is None or state.exposure is None:
        return {}
    held = plan((state.ve * _held(state)).T).T / plan(state.ve)
    return {"drug": np.repeat(held[:, :, None], 4, axis=2), "exposure": plan(state.exposure.T).T}


def _housed(colonies: Collection[int], plan: Carriage) -> dict[int, int]:
    """New element to the old one whose stored cells go on there: the one that it shares most with."""
    by_old = plan.volumes.tocsc()
    housed: dict[int, tuple[float, int]] = {}
    for old in sorted(colonies):
        begin, end = by_old.indptr[old], by_old.indptr[old + 1]
        most = begin + int(np.argmax(by_old.data[begin:end]))
        new, share = int(by_old.indices[most]), float(by_old.data[most])
        if new not in housed or share > housed[new][0]:
            housed[new] = share, old
    return {new: old for new, (_, old) in sorted(housed.items())}


def at_points(mesh: TumourMesh, values: Real, points: Real) -> Real:
    """(points, ...) of the linear field with these values at the nodes; outside the mesh that of its nearest place."""
    nodes, weights = places_in(mesh, points)
    return np.asarray(np.einsum("na,na...->n...", weights, values[nodes]))


def places_in(mesh: TumourMesh, points: Real) -> tuple[NDArray[np.int64], Real]:
    """(points, 4) nodes of the element that holds each point, and their weights there, none negative.

    The nearest elements by centroid are asked, and the one that holds a point best answers.
    """
    near = cKDTree(mesh.centroids).query(points, k=min(SEARCHED, len(mesh.tetrahedra)))[1].reshape(len(points), -1)
    shape = gradients(mesh.points, mesh.tetrahedra)
    inside = 0.25 + np.einsum("nkai,nki->nka", shape[near], points[:, None, :] - mesh.centroids[near])
    best = inside.min(axis=2).argmax(axis=1)
    rows = np.arange(len(points))
    weights = np.maximum(inside[rows, best], 0.0)
    return mesh.tetrahedra[near[rows, best]], weights / weights.sum(axis=1, keepdims=True)


def pull_on(mesh: TumourMesh, old: TumourMesh, pull: Real) -> Real:
    """(nodes, 3) mN with which springs pull on a mesh, from those on another of the same body.

    The outer surface comes first, then the tumour's, those of the other regions within, and last the host's, which is
    theirs seen from outside; what holds a region's surface where it meets the outside belongs to the outer one.
    """
    outer, left = np.unique(outer_faces(old.tetrahedra)), pull.copy()
    carried = _traction(mesh, outer_faces(mesh.tetrahedra), old, outer_faces(old.tetrahedra), left)
    left[outer] = 0.0
    for name in sorted(present_regions(old), key=lambda name: ("tumour", name, "host").index(name)):
        faces = old.surface_of(name)
        if left[faces].any():
            carried += _traction(mesh, mesh.surface_of(name), old, faces, left)
            left[faces.ravel()] = 0.0
    return carried


def _traction(mesh: TumourMesh, faces: Any, old: TumourMesh, old_faces: Any, pull: Real) -> Real:
    """(nodes, 3) mN on one surface: the traction of before, its resultant restored by an even one."""
    area_before, area = nodal_areas(old.points, old_faces), nodal_areas(mesh.points, faces)
    traction = pull / np.where(area_before > 0.0, area_before, np.inf)[:, None]
    there = np.flatnonzero(area > 0.0)
    nodes, weights = places_in(old, mesh.points[there])
    weights = np.where(area_before[nodes] > 0.0, weights, 0.0)
    weights /= np.maximum(weights.sum(axis=1, keepdims=True), 1e-300)
    carried = np.zeros_like(mesh.points)
    carried[there] = area[there, None] * np.einsum("na,nai->ni", weights, traction[nodes])
    even = (pull[area_before > 0.0].sum(axis=0) - carried.sum(axis=0)) / area.sum()
    return np.asarray(carried + area[:, None] * even)
