"""Surgery: tissue is taken out at once, what is left relaxes, and cells that were left grow on.

    kind = "surgery"
    day = 14
    region = "tumour"
    residual = 0.05     # share of the tumour's volume that is left
    margin = 2.0        # mm of host tissue taken with it

Taken out are whole elements of the mesh: those of the tumour, or those of which more than half lies in a ball or in a
label image. They become a cavity: what they were under is forgotten (Fp = 1), their cells leave the books, no blood
reaches them, and a soft compressible filling, which wound fluid stands for, keeps the mesh whole while what is around
it closes in. ASSUMED: tissue is not injured beyond what is taken out, nothing heals, a margin spares what the
segmentation tells apart from the host (organs, bone), and the filling gives way as ``PARAMETERS`` say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator
from scipy.spatial import cKDTree

from ...core.errors import ConfigurationRejected, ModelRefused
from ...core.files import content_hash
from ...core.quantity import Parameter
from ...imaging.nifti import read_nifti, whole_labels
from ...imaging.study import Grid, LabelImage
from ...meshing.mesh import TumourMesh
from ...meshing.transfer import overlaps
from ..oxygen import CELL_DENSITY
from ..remeshing import rebased
from ..state import CAVITY as CAVITY
from ..state import TissueState
from ..tissue import Material
from ..treatment import Operation, Treatment, understood

CAVITY_YOUNG = Parameter(
    0.1,
    "kPa",
    "Young's modulus of what fills the cavity of an operation",
    source="ASSUMED: fluid bears no shear; the least that keeps elements whole, a fifteenth of the host's",
    range=(0.02, 1.0),
    assumed=True,
)
CAVITY_POISSON = Parameter(
    0.3,
    "1",
    "Poisson's ratio of what fills the cavity of an operation: it gives way, as fluid that is resorbed or drained does",
    source="fluid spaces of glimslib (danielabler/glimslib, commit 7667df9), ASSUMED to hold for a cavity",
    range=(0.0, 0.45),
    assumed=True,
)
PARAMETERS = (CAVITY_YOUNG, CAVITY_POISSON)

BALL_VOXELS = 20
"""Voxels along the radius of a ball that is taken out."""


class _Ball(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    centre_mm: tuple[float, float, float] = Field(description="LPS, where the tissue lies on that day")
    radius_mm: float = Field(gt=0, le=200)


class SurgeryFile(BaseModel):
    """What a treatment file of kind ``surgery`` may say: one operation."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    kind: Literal["surgery"]
    name: str = "surgery"
    source: str = ""
    day: float = Field(gt=0, description="days after the images of time 0, to the hour; after it the tissue is without")
    region: Literal["tumour"] | None = Field(None, description="the tumour as it is then")
    ball: _Ball | None = Field(None, description="what lies in a ball")
    labels: str | None = Field(None, description="NIfTI file, LPS as the images: what lies in its labelled voxels")
    residual: float = Field(0.0, ge=0, lt=1, description="share of the tumour's volume left as a rim; of region only")
    margin: float = Field(0.0, ge=0, le=50, description="mm of host taken with the tumour; of region only")

    @model_validator(mode="after")
    def _is_one_region(self) -> SurgeryFile:
        if sum(one is not None for one in (self.region, self.ball, self.labels)) != 1:
            raise ValueError('give one of region = "tumour", ball and labels')
        if self.region is None and (self.residual or self.margin):
            raise ValueError('residual and margin belong to region = "tumour"')
        if self.residual and self.margin:
            raise ValueError("a margin is taken with all of the tumour, a residual is left of it: give one of them")
        return self


def parse(table: Mapping[str, Any]) -> Treatment:
    """The treatment that a table describes; all errors at once in one ConfigurationRejected.

    Raises FileRejected or SegmentationRejected for a label image that cannot be read.
    """
    file = understood(SurgeryFile, table, "a day and one region: tumour, ball or labels")
    stated: dict[str, Any] = file.model_dump(
        mode="json", exclude_none=True, include={"region", "ball", "residual", "margin"}
    )
    image = None
    if file.ball is not None:
        image = ball_image(np.array(file.ball.centre_mm), file.ball.radius_mm)
    elif file.labels is not None:
        path = Path(file.labels)
        grid, values = read_nifti(path)
        image = LabelImage(grid, (whole_labels(values, f"file {path.name!r}") > 0).astype(np.uint8), {1: "taken"})
        stated |= {"labels": path.name, "sha256": content_hash(path)}
    day = max(1, round(24.0 * file.day)) / 24.0
    operation = Operation(day, image, file.margin, file.residual, stated)
    return Treatment("surgery", file.name, (), file.source, operations=(operation,))


def apart(operations: Sequence[Operation]) -> tuple[Operation, ...]:
    """Operations by day. Raises ConfigurationRejected for two on one day: their order would matter and is not told."""
    days = [one.day for one in operations]
    if len(set(days)) < len(days):
        raise ConfigurationRejected(
            "treatment: two operations at the same hour", "one at a time", "put both regions into one label image"
        )
    return tuple(operations)


def ball_image(centre: NDArray[np.float64], radius: float) -> LabelImage:
    """A ball as a label image."""
    side = radius / BALL_VOXELS
    count = 2 * BALL_VOXELS + 1
    affine = np.diag([side, side, side, 1.0])
    affine[:3, 3] = centre - BALL_VOXELS * side
    offset = (np.indices((count, count, count)) - BALL_VOXELS) * side
    inside = (offset**2).sum(axis=0) <= radius**2
    return LabelImage(Grid((count, count, count), affine), inside.astype(np.uint8), {1: "taken"})


def materials_of(treatment: Treatment | None) -> dict[str, Material]:
    """Of the region that operations leave, if there are any."""
    if treatment is None or not treatment.operations:
        return {}
    return {CAVITY: Material(CAVITY_YOUNG.value, CAVITY_POISSON.value)}


@dataclass(frozen=True, eq=False)
class Resected:
    """A tissue after an operation, before it relaxes.

    state    with a cavity, whose surroundings are not yet at rest
    account  what was taken and what is left, ready for JSON
    words    the same in a sentence
    """

    state: TissueState
    account: Mapping[str, Any]
    words: str


def resect(state: TissueState, operation: Operation) -> Resected:
    """The tissue with the elements of an operation made a cavity. Raises ModelRefused when that takes nothing."""
    mesh = state.mesh
    taken = taken_elements(mesh, operation)
    if not len(taken):
        raise ModelRefused(
            f"the operation of day {operation.day:g} takes out no tissue",
            "a region that holds more than half of at least one element, where the tissue lies on that day",
            "check its place (LPS, mm) and its size",
        )
    cells = CELL_DENSITY.value * mesh.volumes * state.composition.sum(axis=1)
    tumour = np.intersect1d(taken, state.tumour)
    after = emptied(rebased(state), taken)
    account = {
        "day": operation.day,
        "elements": len(taken),
        "removed_ml": float(mesh.volumes[taken].sum() / 1000.0),
        "tumour_ml_before": state.volume,
        "tumour_ml_removed": float(mesh.volumes[tumour].sum() / 1000.0),
        "tumour_ml_left": after.volume,
        "cells_before": float(cells.sum()),
        "cells_removed": float(cells[taken].sum()),
        "cells_left": float(CELL_DENSITY.value * (after.mesh.volumes @ after.composition.sum(axis=1))),
        "colonies_removed": len(state.colonies) - len(after.colonies),
    }
    words = (
        f"On day {operation.day:g} an operation took out {account['tumour_ml_removed']:.3g} of the tumour's "
        f"{state.volume:.3g} mL with {account['cells_removed']:.3g} cells; {account['cells_left']:.3g} cells are left."
    )
    return Resected(after, account, words)


def taken_elements(mesh: TumourMesh, operation: Operation) -> NDArray[np.int64]:
    """The elements that an operation takes out of the tissue as it lies."""
    if operation.region is not None:
        shared = overlaps(mesh, operation.region.grid)
        return np.flatnonzero(shared @ (operation.region.values > 0).ravel().astype(float) > 0.5 * mesh.volumes)
    tumour = mesh.elements_of("tumour")
    if not len(tumour):
        return tumour
    surface = mesh.points[mesh.surface_of("tumour")].mean(axis=1)
    depth = cKDTree(surface).query(mesh.centroids)[0]
    if operation.residual:
        deepest = tumour[np.argsort(-depth[tumour], kind="stable")]
        reached = np.cumsum(mesh.volumes[deepest])
        return np.sort(deepest[: int(np.argmin(np.abs(reached - (1.0 - operation.residual) * reached[-1]))) + 1])
    around = np.union1d(mesh.elements_of("host"), mesh.elements_of(CAVITY))
    return np.union1d(tumour, around[depth[around] <= operation.margin])


def emptied(state: TissueState, taken: NDArray[np.int64]) -> TissueState:
    """A rebased tissue whose elements ``taken`` are a cavity: no cells, no blood, no memory of a load."""
    assert state.remembered is not None
    names = dict(state.reference.region_names)
    number = next((value for value, name in names.items() if name == CAVITY), max(names) + 1)
    region, remembered = state.reference.region.copy(), state.remembered.copy()
    region[taken], remembered[taken] = number, np.eye(3)
    composition, supply = state.composition.copy(), state.supply.copy()
    composition[taken], supply[taken] = 0.0, 0.0
    gone = set(taken.tolist())
    return replace(
        state,
        reference=replace(state.reference, region=region, region_names={**names, number: CAVITY}),
        remembered=remembered,
        composition=composition,
        supply=supply,
        moments={element: one for element, one in state.moments.items() if element not in gone},
        colonies={element: one for element, one in state.colonies.items() if element not in gone},
        rooms={element: one for element, one in state.rooms.items() if element not in gone},
    )
