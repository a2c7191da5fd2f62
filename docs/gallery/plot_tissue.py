"""
A tumour in its tissue: mesh, stress, fluid and oxygen
======================================================

A lobed tumour is meshed with the tissue around it, grows by a fifth, and is looked at in section: how good the elements
are, what stress the growth leaves behind, how high the pressure of its fluid stands, and who has oxygen.
"""

# %%
# Two overlapping balls on voxels of 2 mm stand for a segmentation; the host is laid around them, and the whole becomes
# tetrahedra. The mean ratio is 1 for the regular tetrahedron and 0 for a flat one; no element may be inside out.
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.collections import PolyCollection

from oncoscale.app.sections import AXIAL, cut_surface, cut_tetrahedra, frame_around, largest_section
from oncoscale.imaging.study import Grid, LabelImage
from oncoscale.meshing.quality import mean_ratio, quality
from oncoscale.meshing.surface import host_around
from oncoscale.meshing.tetrahedra import mesh_tumour
from oncoscale.sim.growth import grow
from oncoscale.sim.interstitial import solve_fluid
from oncoscale.sim.oxygen import HOST_CELLULARITY, HOST_OXYGEN, demand_of, solve_oxygen, supply_for
from oncoscale.sim.tissue import DEFAULT_MATERIALS, springs_of

grid = Grid((28, 24, 24), np.diag([2.0, 2.0, 2.0, 1.0]))
places = 2.0 * (np.indices(grid.shape).T - [13.5, 11.5, 11.5]).T
from_one, from_other = (np.linalg.norm(places.T - centre, axis=-1).T for centre in ((-6, 0, 0), (8, 4, 0)))
inside = (from_one < 12.0) | (from_other < 9.0)
labels = host_around(LabelImage(grid, inside.astype(np.uint8), {1: "tumour"}))
mesh = mesh_tumour(labels, size=3.5, host_size=7.0, mesher="bcc")
tumour = mesh.elements_of("tumour")
shape = quality(mesh)
print(
    f"{len(mesh.tetrahedra)} elements, {len(tumour)} of the tumour; mean ratio at least {shape['min_mean_ratio']:.2f}, "
    f"{shape['mean_mean_ratio']:.2f} on average; {shape['inverted']} inside out"
)

# %%
# All of the tumour grows by 20 % in volume. In free space it would be without stress; held by the tissue around it, it
# is under pressure and the tissue is stretched.
stretch = np.ones(len(mesh.tetrahedra))
stretch[tumour] = np.cbrt(1.2)
grown = grow(mesh, stretch, DEFAULT_MATERIALS, springs=springs_of())
moved = mesh.moved(grown.displacement)
print(f"volume {mesh.volume_of('tumour'):.1f} -> {moved.volume_of('tumour'):.1f} mL, ", end="")
print(f"mean stress in the tumour {grown.mean_stress[tumour].mean():.2f} kPa (negative: compressed)")

# %%
# Vessels of the tumour leak and no lymph drains it, so the pressure of its fluid is high as far as the rim, which one
# element cannot show: ``rims`` says how many rims wide the elements are. Oxygen is what vessels bring and cells use;
# here six tenths of the tumour are cells, and its supply falls towards the middle.
fluid = solve_fluid(moved)
depth = np.clip(1.0 - np.linalg.norm(moved.centroids - moved.centroids[tumour].mean(axis=0), axis=1) / 16.0, 0.0, 1.0)
cells = np.full(len(stretch), HOST_CELLULARITY.value)
cells[tumour] = 0.6
supply = np.full(len(stretch), supply_for(HOST_OXYGEN.value, demand_of(HOST_CELLULARITY.value)))
supply[tumour] = 3000.0 * (1.0 - 0.7 * depth[tumour])
oxygen = solve_oxygen(moved, supply, demand_of(cells))
print(f"fluid pressure up to {fluid.elements.max():.1f} mmHg; an element of the tumour is about "
      f"{np.median(fluid.rims[tumour]):.0f} rims wide")  # fmt: skip
print(f"oxygen of the tumour {oxygen.elements[tumour].min():.1f} to {oxygen.elements[tumour].max():.1f} mmHg")

# %%
# One axial section of the grown mesh, coloured element by element; the black line is the tumour's surface.
frame = frame_around(moved.points[mesh.tetrahedra[tumour]].reshape(-1, 3), largest_section(moved, AXIAL), AXIAL)
polygons, owners = cut_tetrahedra(moved.points, moved.tetrahedra, frame)
outline = cut_surface(moved.points, moved.surface_of("tumour"), frame)
pictures = (
    ("mean ratio of the elements", mean_ratio(moved.points, moved.tetrahedra), "viridis"),
    ("mean stress, kPa", grown.mean_stress, "RdBu_r"),
    ("pressure of the fluid, mmHg", fluid.elements, "magma"),
    ("oxygen, mmHg", oxygen.elements, "cividis"),
)
figure, panels = plt.subplots(2, 2, figsize=(9, 8), layout="constrained")
for axes, (title, values, colours) in zip(panels.flat, pictures, strict=True):
    edge = "0.4" if values is pictures[0][1] else "face"
    patches = PolyCollection(polygons, array=values[owners], cmap=colours, edgecolors=edge, linewidths=0.3)
    if colours == "RdBu_r":
        largest = np.abs(values[owners]).max()
        patches.set_clim(-largest, largest)
    axes.add_collection(patches)
    for segment in outline:
        axes.plot(*segment.T, color="k", lw=1)
    left, right, bottom, top = frame.extent
    axes.set(title=title, xlim=(left, right), ylim=(bottom, top), aspect="equal", xticks=[], yticks=[])
    figure.colorbar(patches, ax=axes, shrink=0.8)
