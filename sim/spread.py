"""Spread: a tumour without a border, whose density of cells lies on voxels and whose visible part is the tumour.

Cells of a glioma wander through healthy tissue far beyond what images show. Such a disease says so by a ``Spread``;
``Ground`` is the tissue that its cells spread through: the voxels, what they share with the elements of the mesh, and
who is visible. Voxels lie in the mesh without load and move with the material, and the density is the share of the room
of the tissue as it is now: tissue that swells by its cells brings room for them (project specification, tissue §3.5,
as danielabler/glimslib has it). ASSUMED: stretch does not change how fast cells wander.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import csr_array

from ..core.errors import ConfigurationRejected, SolverFault
from ..imaging.diffusion_tensor import TensorImage
from ..imaging.study import Grid, LabelImage, box_words
from ..meshing.mesh import TumourMesh
from ..meshing.transfer import at_voxels, overlaps, to_elements, to_voxels
from .elements import outer_faces
from .infiltration import Infiltration, edge_profile, front_speed, mean_and_shape
from .state import TissueState

Real = NDArray[np.float64]

LEAST_COVERED = 0.5
"""Fraction of a voxel inside the mesh, and there in tissue that is open to cells, from which cells may enter it."""


ALONG_FIBRES = (
    "Cells are assumed to wander along fibres as water does: by the diffusion tensors that were given, scaled to each "
    "region's mean, and alike in all directions where there are none."
)
"""After Jbabdi et al. 2005, doi 10.1002/mrm.20625. ASSUMED: cells are led by fibres as much as water is."""


@dataclass(frozen=True)
class Spread:
    """How the cells of a disease spread through tissue.

    diffusivity  region of healthy tissue to mm²/day, 0 where no cell can enter; regions beside ``within`` are told
                 apart where the segmentation draws them. Other regions are to cells what ``within`` is
    rate         1/day, net growth at low density, by which the density at time 0 is shaped
    visible      density at the edge that images show
    swelling     ln of the stretch of tissue that fills with cells (growth stretch exp(swelling c))
    voxel        mm, side of a voxel
    within       region that the tumour lies in
    """

    diffusivity: Mapping[str, float]
    rate: float
    visible: float
    swelling: float
    voxel: float = 1.0
    within: str = "host"

    @property
    def spaces(self) -> tuple[str, ...]:
        """Regions that may be drawn beside the tissue that the tumour lies in."""
        return tuple(name for name in self.diffusivity if name != self.within)

    @property
    def width(self) -> float:
        """mm in which the density ahead of the front falls by e."""
        return float(np.sqrt(6.0 * self.diffusivity[self.within] / self.rate))

    def reach(self, days: float) -> float:
        """mm from the visible edge to where hardly a cell has come after so many days."""
        return front_speed(self.diffusivity[self.within], self.rate) * days + 2.0 * self.width

    def profile(self, distance: Real) -> Real:
        """Density at so many mm from the visible edge, positive outside."""
        return edge_profile(distance, self.visible, self.diffusivity[self.within], self.rate)


@dataclass(frozen=True, eq=False)
class Ground:
    """Tissue that cells spread through.

    spread   of the disease
    body     the mesh without load, by kinds of tissue: what mechanics sees, the same for all times
    tumour   region number of the tumour
    shared   (elements, voxels) mm³
    covered  (i, j, k) fraction inside the mesh
    tissue   voxels and their diffusivity
    """

    spread: Spread
    body: TumourMesh
    tumour: int
    shared: csr_array
    covered: Real
    tissue: Infiltration

    @classmethod
    def under(cls, mesh: TumourMesh, spread: Spread, tensors: TensorImage | None = None) -> Ground:
        """The tissue of a mesh of tumour and host, as it is where no tumour was.

        tensors  along which directions cells wander; how far on average is the region's diffusivity
        """
        numbers = {name: number for number, name in mesh.region_names.items()}
        kinds = np.where(mesh.region == numbers["tumour"], numbers[spread.within], mesh.region)
        grid = voxels_around(mesh, spread.voxel)
        shared = overlaps(mesh, grid)
        covered = np.asarray(shared.sum(axis=0)).reshape(grid.shape) / grid.voxel_volume
        names = {number: name for number, name in mesh.region_names.items() if name != "tumour"}
        speed = np.zeros(len(kinds))
        for number, name in names.items():
            speed[kinds == number] = spread.diffusivity.get(name, spread.diffusivity[spread.within])
        opened = covered - to_voxels(shared, (speed == 0.0).astype(np.float64), 0.0, grid)
        on_voxels = to_voxels(shared, speed, 0.0, grid) / np.maximum(opened, 1e-12)
        open_to_cells = np.where(opened >= LEAST_COVERED, on_voxels, 0.0)
        body = replace(mesh, region=kinds, region_names=names)
        return cls(
            spread,
            body,
            numbers["tumour"],
            shared,
            covered,
            Infiltration.along(grid, open_to_cells, shapes_on(grid, tensors)),
        )

    @property
    def grid(self) -> Grid:
        """Of the voxels."""
        return self.tissue.grid

    def slowed(self, factor: float) -> Ground:
        """The same tissue with every diffusivity times ``factor``."""
        return replace(self, tissue=Infiltration.along(self.grid, factor * self.tissue.diffusivity, self.tissue.shape))

    @property
    def statements(self) -> tuple[str, ...]:
        """Words about the directions in which cells wander."""
        return () if self.tissue.shape is None else (ALONG_FIBRES,)

    def seeded(self, labels: LabelImage) -> Real:
        """(i, j, k) density at time 0: the disease's profile around the tumour's outline, none where no cell can be."""
        closed = (self.tissue.diffusivity == 0.0) & (self.covered >= LEAST_COVERED)
        profile = self.spread.profile(signed_distance(labels, self.grid))
        return np.where((self.covered > 0.0) & ~closed, profile, 0.0)

    def density_of_elements(self, density: Real) -> Real:
        """(elements,) mean density."""
        return np.asarray(to_elements(self.shared, density).mean)

    def visible_share(self, density: Real) -> Real:
        """(elements,) fraction of each element where the density is visible."""
        return np.asarray(to_elements(self.shared, density >= self.spread.visible).mean)

    def labelled(self, density: Real) -> TumourMesh:
        """The mesh without load, an element being tumour where its mean density is visible."""
        visible = self.density_of_elements(density) >= self.spread.visible
        region = np.where(visible, self.tumour, self.body.region)
        return replace(self.body, region=region, region_names={**self.body.region_names, self.tumour: "tumour"})

    def has_reached_the_end(self, visible: Real) -> bool:
        """Whether the visible tumour touches the outer boundary of the mesh."""
        corners = self.body.tetrahedra[visible > LEAST_COVERED]
        return bool(np.isin(np.unique(outer_faces(self.body.tetrahedra)), corners).any())

    def on_voxels(self, values: Real) -> Real:
        """(i, j, k) element values; 0 where there is no tissue."""
        carried = to_voxels(self.shared, values, 0.0, self.grid)
        return np.where(self.covered >= LEAST_COVERED, carried / np.maximum(self.covered, LEAST_COVERED), 0.0)


def density_on(grid: Grid, state: TissueState, spread: Spread) -> Real:
    """(i, j, k) of ``grid``: density in the tissue that lies at each voxel's centre now; NaN outside the mesh.

    Voxels of the density move with the tissue: a centre is taken back to where its tissue lay without load, and the
    density there is linear between voxels. Raises SolverFault for a state whose density lies on other voxels.
    """
    ground = voxels_around(state.reference, spread.voxel)
    if state.density is None or state.density.shape != ground.shape:
        raise SolverFault(
            "a density that does not lie on the voxels around its mesh",
            f"{' x '.join(map(str, ground.shape))} voxels",
            "report this, with the forecast's recipe",
        )
    moved = at_voxels(state.mesh, state.displacement, grid)
    inside = np.isfinite(moved[..., 0])
    lay = grid.world(np.argwhere(inside)) - moved[inside]
    density = np.full(grid.shape, np.nan)
    density[inside] = ndimage.map_coordinates(state.density, ground.index(lay).T, order=1, mode="nearest")
    return density


def voxels_around(mesh: TumourMesh, side: float) -> Grid:
    """Cubic voxels that hold a mesh, along the axes of the patient."""
    low, high = mesh.points.min(axis=0), mesh.points.max(axis=0)
    shape = np.ceil((high - low) / side).astype(int) + 1
    affine = np.diag([side, side, side, 1.0])
    affine[:3, 3] = 0.5 * (low + high) - 0.5 * side * (shape - 1)
    return Grid((int(shape[0]), int(shape[1]), int(shape[2])), affine)


def shapes_on(grid: Grid, tensors: TensorImage | None) -> Real | None:
    """(i, j, k, 3, 3) of ``grid``: tensors over their mean, linear between voxel centres; the unit tensor elsewhere.

    Raises ConfigurationRejected for tensors none of which lies in the grid.
    """
    if tensors is None:
        return None
    places = np.moveaxis(np.indices(grid.shape), 0, -1).reshape(-1, 3)
    index = tensors.grid.index(grid.world(places)).T
    found = np.zeros((len(places), 3, 3))
    for row, column in np.ndindex(3, 3):
        found[:, row, column] = ndimage.map_coordinates(tensors.values[..., row, column], index, order=1)
    if not found.any():
        known = np.argwhere(tensors.values.any(axis=(-1, -2)))
        raise ConfigurationRejected(
            f"diffusion tensors ({box_words(tensors.grid.world(known))}) and tissue ({box_words(grid.world(places))}) "
            "that share nothing",
            "tensors of the same visit, in the scanner's coordinates",
            "lay the tensors upon the study's images, or leave --tensor out",
        )
    return mean_and_shape(found.reshape(*grid.shape, 3, 3))[1]


def signed_distance(labels: LabelImage, grid: Grid) -> Real:
    """(i, j, k) of ``grid``: mm from the outline of the tumour, positive outside, linear between voxel centres."""
    inside = labels.mask("tumour")
    spacing = labels.grid.spacing
    half = 0.5 * float(spacing.min())
    outside_by = ndimage.distance_transform_edt(~inside, sampling=spacing)
    inside_by = ndimage.distance_transform_edt(inside, sampling=spacing)
    distance = np.where(inside, half - inside_by, outside_by - half)
    places = np.moveaxis(np.indices(grid.shape), 0, -1).reshape(-1, 3)
    index = labels.grid.index(grid.world(places))
    return np.asarray(ndimage.map_coordinates(distance, index.T, order=1, mode="nearest").reshape(grid.shape))
